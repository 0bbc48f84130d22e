//! Tags with `{…}` in them, to be filled in from a change.

use larder_policy::Change;
use larder_policy::Json;

/// No change makes more tags than one answer can hold.
const MOST_TAGS: usize = 64;

/// A text whose braces hold something known.
#[derive(Debug)]
pub(crate) struct Template {
    text: String,
}

larder_policy::prepared!(Template { text });

/// Why a template cannot be filled in: something broader has to be invalidated.
#[derive(Debug, PartialEq)]
pub(crate) enum Unfilled {
    /// The document whose values it needs is not there, or the change has no `_id`.
    Missing,
    /// A value is an array or an object.
    NoText,
    /// More tags than one answer can hold.
    TooMany,
}

impl Template {
    pub(crate) fn new(text: String) -> Result<Self, String> {
        let template = Self { text };
        let text = &template.text;
        if text.is_empty() {
            return Err("an empty string: take it out".to_owned());
        }
        for piece in template.pieces() {
            match piece {
                Piece::Broken => {
                    return Err(format!("`{text}`, where a brace is not closed: write `{{id}}`"));
                }
                Piece::Unknown(name) => {
                    return Err(format!(
                        "`{text}`, where `{{{name}}}` stands for nothing: write `{{id}}`, \
                         `{{collection}}`, `{{database}}`, `{{mongodb}}`, or a JSONPath as in `{{$.author}}`"
                    ));
                }
                _ => {}
            }
        }
        Ok(template)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The JSONPath queries in it.
    pub(crate) fn queries(&self) -> impl Iterator<Item = &str> {
        self.pieces().filter_map(|piece| match piece {
            Piece::Query(query) => Some(query),
            _ => None,
        })
    }

    /// Whether it can be filled in for a whole collection.
    pub(crate) fn needs_document(&self) -> bool {
        self.pieces().any(|piece| matches!(piece, Piece::Id | Piece::Query(_)))
    }

    /// The tags, one for each value that the queries select. `values` finds what a query selects;
    /// none where there is no document to look at.
    pub(crate) fn filled<'a>(
        &self,
        change: &Change,
        values: impl Fn(&str) -> Option<&'a [String]>,
    ) -> Result<Vec<String>, Unfilled> {
        let mut tags = vec![String::with_capacity(self.text.len())];
        for piece in self.pieces() {
            let texts = match piece {
                Piece::Text(text) => vec![text.to_owned()],
                Piece::Collection => vec![change.collection.clone()],
                Piece::Database => vec![change.database.clone()],
                Piece::Mongodb => vec![change.mongodb.clone()],
                // A document without a value of that name bears no tag of it; a change has an `_id`.
                Piece::Id => vec![plain(&change.id)?.ok_or(Unfilled::Missing)?],
                Piece::Query(query) => {
                    let values = values(query).ok_or(Unfilled::Missing)?;
                    let texts = values.iter().filter_map(|value| plain(value).transpose());
                    texts.collect::<Result<_, _>>()?
                }
                Piece::Unknown(_) | Piece::Broken => return Err(Unfilled::Missing),
            };
            if tags.len() * texts.len() > MOST_TAGS {
                return Err(Unfilled::TooMany);
            }
            tags = tags
                .iter()
                .flat_map(|tag| texts.iter().map(move |text| format!("{tag}{text}")))
                .collect();
        }
        Ok(tags)
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
                return Some(match name {
                    "collection" => Piece::Collection,
                    "database" => Piece::Database,
                    "mongodb" => Piece::Mongodb,
                    "id" => Piece::Id,
                    query if query.starts_with('$') => Piece::Query(query),
                    name => Piece::Unknown(name),
                });
            }
            let (text, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
            rest = after;
            (!text.is_empty()).then_some(Piece::Text(text))
        })
    }
}

/// The text of a JSON value; none of `null`.
fn plain(value: &str) -> Result<Option<String>, Unfilled> {
    if value.is_empty() {
        return Err(Unfilled::Missing);
    }
    match Json::read(value) {
        Some(Json::Null) => Ok(None),
        Some(value) => value.plain().map(|text| Some(text.to_owned())).ok_or(Unfilled::NoText),
        None => Err(Unfilled::NoText),
    }
}

enum Piece<'a> {
    Text(&'a str),
    Collection,
    Database,
    Mongodb,
    Id,
    /// A JSONPath into the document.
    Query(&'a str),
    Unknown(&'a str),
    /// An opening brace without a closing one.
    Broken,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change() -> Change {
        Change {
            mongodb: "shop".to_owned(),
            database: "app".to_owned(),
            collection: "users".to_owned(),
            id: r#"{"$oid":"65f0"}"#.to_owned(),
            ..Change::default()
        }
    }

    fn filled(text: &str, values: &[&str]) -> Result<Vec<String>, Unfilled> {
        let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
        Template::new(text.to_owned()).unwrap().filled(&change(), |_| Some(&values))
    }

    #[test]
    fn a_change_is_filled_in() {
        for (text, values, expected) in [
            ("users", &[][..], &["users"][..]),
            ("{mongodb}/{database}/{collection}:{id}", &[], &["shop/app/users:65f0"]),
            ("a:{$.a}", &["\"x y\""], &["a:x y"]),
            ("a:{$.a}", &["1", "\"1\"", "2.0", "true"], &["a:1", "a:1", "a:2.0", "a:true"]),
            ("a:{$.a}", &[], &[]),
            ("a:{$.a}", &["null"], &[]),
            ("{$.a}-{$.b}", &["1", "2"], &["1-1", "1-2", "2-1", "2-2"]),
            ("a}", &[], &["a}"]),
        ] {
            assert_eq!(filled(text, values).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_says_why() {
        assert_eq!(filled("{$.a}", &["[1]"]), Err(Unfilled::NoText));
        assert_eq!(filled("{$.a}", &["{\"b\":1}"]), Err(Unfilled::NoText));
        assert_eq!(filled("{$.a}", &["no JSON"]), Err(Unfilled::NoText));
        assert_eq!(filled("{$.a}{$.b}", &["1"; 9]), Err(Unfilled::TooMany));
        let template = Template::new("{$.a}".to_owned()).unwrap();
        assert_eq!(template.filled(&change(), |_| None), Err(Unfilled::Missing));
        let template = Template::new("{id}".to_owned()).unwrap();
        assert_eq!(template.filled(&Change::default(), |_| None), Err(Unfilled::Missing));
    }

    #[test]
    fn braces_are_checked() {
        for text in ["", "{}", "{a}", "a:{id", "{", "{ id }", "{id}{$.a"] {
            Template::new(text.to_owned()).unwrap_err();
        }
    }
}
