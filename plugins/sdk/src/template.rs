//! Texts with `{name}` in them, to be filled in from a request or a change.
//!
//! ```
//! use larder_policy::Setting;
//! use larder_policy::configure;
//! # use larder_policy::*;
//! # struct Sample { tag: Template }
//! # prepared!(Sample { tag });
//! # impl Policy for Sample {
//! #     fn configure(settings: &mut Settings) -> Result<Self, String> {
//! #         let text = settings.text("tag").unwrap_or_default();
//! #         let unfit = |name: &str| (name != "id").then(|| "write `{id}`".to_owned());
//! #         let tag = settings.template("tag", text, &unfit).ok_or("")?;
//! #         Ok(Self { tag })
//! #     }
//! #     fn wants(&self) -> Wants { Wants::default() }
//! # }
//!
//! let policy: Sample = configure([Setting::new("tag", "user:{id}")]).unwrap();
//! let filled = policy.tag.filled(|name| (name == "id").then_some("42"));
//! assert_eq!(filled.as_deref(), Ok("user:42"));
//! ```

use crate::Settings;

/// What to write where a brace is not closed.
const EXAMPLE: &str = "{name}";

/// A text whose braces are in pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    text: String,
}

crate::prepared!(Template { text });

/// A part of a [`Template`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Piece<'a> {
    /// What stands for itself.
    Text(&'a str),
    /// What stands between two braces.
    Name(&'a str),
}

impl Settings {
    /// Reads a text as a template. What is wrong with it is reported as a problem of the setting
    /// `name`; and so is what `unfit` says of a name in braces.
    pub fn template(
        &mut self,
        name: &str,
        text: String,
        unfit: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Template> {
        let template = Template::new(text);
        let why = template.as_ref().ok().and_then(|template| template.names().find_map(unfit));
        let problem = match (template, why) {
            (Ok(template), None) => return Some(template),
            (Ok(template), Some(why)) => format!("`{}`, where {why}", template.text),
            (Err(problem), _) => problem,
        };
        self.refuse(format!("`{name}` has {problem}"))
    }
}

impl Template {
    /// None is empty, and none has a brace that is not closed: the error says so.
    pub fn new(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty string: take it out".to_owned());
        }
        let last = Pieces { rest: &text }.last();
        if last.is_some_and(|(_, is_closed)| !is_closed) {
            return Err(format!("`{text}`, where a brace is not closed: write `{EXAMPLE}`"));
        }
        Ok(Self { text })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it is made of, in order; no text in it is empty.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        Pieces { rest: &self.text }.map(|(piece, _)| piece)
    }

    /// What stands in its braces, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Name(name) => Some(name),
        })
    }

    /// The text with a value for each name. The error is the first name that has none.
    pub fn filled<'a>(
        &'a self,
        value: impl Fn(&'a str) -> Option<&'a str>,
    ) -> Result<String, &'a str> {
        let mut filled = String::with_capacity(self.text.len());
        for piece in self.pieces() {
            filled.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Name(name) => value(name).ok_or(name)?,
            });
        }
        Ok(filled)
    }
}

/// The pieces of what is left, and whether the brace of each is closed.
struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = (Piece<'a>, bool);

    fn next(&mut self) -> Option<Self::Item> {
        let is_name = *self.rest.as_bytes().first()? == b'{';
        let end = if is_name { b'}' } else { b'{' };
        let found = self.rest.bytes().position(|octet| octet == end);
        let at = found.unwrap_or(self.rest.len());
        if is_name {
            let piece = Piece::Name(self.rest.get(1..at)?);
            self.rest = self.rest.get(at + 1..).unwrap_or_default();
            Some((piece, found.is_some()))
        } else {
            let (text, rest) = self.rest.split_at_checked(at)?;
            self.rest = rest;
            Some((Piece::Text(text), true))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in() {
        fn value(name: &str) -> Option<&str> {
            match name {
                "a" => Some("1"),
                "b" => Some("x/y"),
                _ => None,
            }
        }
        for (text, expected) in [
            ("/x", Ok("/x")),
            ("{a}", Ok("1")),
            ("/{a}{b}/c", Ok("/1x/y/c")),
            ("/{a}/{a}", Ok("/1/1")),
            ("a}", Ok("a}")),
            ("ü{a}ü", Ok("ü1ü")),
            ("{{a}", Err("{a")),
            ("{c}{d}", Err("c")),
            ("{}", Err("")),
        ] {
            let template = Template::new(text.to_owned()).unwrap();
            assert_eq!(template.text(), text);
            assert_eq!(template.filled(value).as_deref(), expected.as_ref().copied(), "{text}");
        }
    }

    #[test]
    fn pieces_are_what_was_written() {
        let template = Template::new("a{b}{}ü".to_owned()).unwrap();
        let pieces: Vec<_> = template.pieces().collect();
        let expected = [Piece::Text("a"), Piece::Name("b"), Piece::Name(""), Piece::Text("ü")];
        assert_eq!(pieces, expected);
        assert_eq!(template.names().collect::<Vec<_>>(), ["b", ""]);
    }

    #[test]
    fn what_is_wrong_is_reported_with_its_setting() {
        let unfit = |name: &str| name.is_empty().then(|| "a brace holds nothing".to_owned());
        for (text, problem) in [
            ("", "`tags` has an empty string: take it out"),
            ("/{a", "`tags` has `/{a`, where a brace is not closed: write `{name}`"),
            ("{", "`tags` has `{`, where a brace is not closed: write `{name}`"),
            ("/{a}/{b", "`tags` has `/{a}/{b`, where a brace is not closed: write `{name}`"),
            ("a{}", "`tags` has `a{}`, where a brace holds nothing"),
        ] {
            let mut settings = Settings::new(Vec::new());
            assert_eq!(settings.template("tags", text.to_owned(), &unfit), None);
            assert_eq!(settings.finish(Ok(())), Err(problem.to_owned()));
        }
    }
}
