//! Texts with `{name}`, to be filled in with what the route's path captured.

use larder_policy::Request;

/// A text whose braces are known to be in pairs.
#[derive(Debug)]
pub(crate) struct Template {
    text: String,
}

larder_policy::prepared!(Template { text });

impl Template {
    pub(crate) fn new(text: String) -> Result<Self, String> {
        let template = Self { text };
        let text = &template.text;
        if text.is_empty() {
            return Err("an empty string: take it out".to_owned());
        }
        for piece in template.pieces() {
            match piece {
                Piece::Capture("") => return Err(format!("`{text}`, where a capture has no name")),
                Piece::Broken => {
                    return Err(format!("`{text}`, where a brace is not closed: write `{{name}}`"));
                }
                Piece::Text(_) | Piece::Capture(_) => {}
            }
        }
        Ok(template)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn uses_captures(&self) -> bool {
        self.pieces().any(|piece| matches!(piece, Piece::Capture(_)))
    }

    pub(crate) fn filled(&self, request: &Request) -> Result<String, String> {
        let mut filled = String::with_capacity(self.text.len());
        for piece in self.pieces() {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Capture(name) => match request.capture(name) {
                    Some(value) => filled.push_str(value),
                    None => return Err(format!("the route's path captures no `{{{name}}}`")),
                },
                Piece::Broken => {}
            }
        }
        Ok(filled)
    }

    fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let mut rest = self.text.as_str();
        std::iter::from_fn(move || {
            if let Some(after) = rest.strip_prefix('{') {
                let Some((name, after)) = after.split_once('}') else {
                    rest = "";
                    return Some(Piece::Broken);
                };
                rest = after;
                return Some(Piece::Capture(name));
            }
            let (text, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
            rest = after;
            (!text.is_empty()).then_some(Piece::Text(text))
        })
    }
}

enum Piece<'a> {
    Text(&'a str),
    Capture(&'a str),
    /// An opening brace without a closing one.
    Broken,
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_policy::Pair;

    #[test]
    fn captures_are_filled_in() {
        let request = Request {
            captures: vec![Pair::new("a", "1"), Pair::new("b", "x/y")],
            ..Request::default()
        };
        for (text, expected) in [
            ("/x", "/x"),
            ("{a}", "1"),
            ("/{a}{b}/c", "/1x/y/c"),
            ("/{a}/{a}", "/1/1"),
            ("a}", "a}"),
        ] {
            let template = Template::new(text.to_owned()).unwrap();
            assert_eq!(template.filled(&request).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn braces_are_checked() {
        for text in ["", "{}", "/{a", "{", "/{a}/{b"] {
            Template::new(text.to_owned()).unwrap_err();
        }
    }
}
