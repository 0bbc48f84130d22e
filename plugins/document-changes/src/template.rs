//! Tags from templates with `{…}` in them, filled in from a change.

use larder_policy::Change;
use larder_policy::Json;
use larder_policy::Piece;
use larder_policy::Template;

/// No change makes more tags than one answer can hold.
const MOST_TAGS: usize = 64;

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

/// What is wrong with a name in braces, if it stands for nothing.
pub(crate) fn unfit(name: &str) -> Option<String> {
    let is_known = is_query(name) || ["id", "collection", "database", "mongodb"].contains(&name);
    (!is_known).then(|| {
        format!(
            "`{{{name}}}` stands for nothing: write `{{id}}`, `{{collection}}`, `{{database}}`, \
             `{{mongodb}}`, or a JSONPath as in `{{$.author}}`"
        )
    })
}

/// Whether a name in braces is a `JSONPath` into the document.
fn is_query(name: &str) -> bool {
    name.as_bytes().first() == Some(&b'$')
}

/// The `JSONPath` queries in a template.
pub(crate) fn queries(template: &Template) -> impl Iterator<Item = &str> {
    template.names().filter(|name| is_query(name))
}

/// Whether a template can only be filled in for a document, not for a whole collection.
pub(crate) fn needs_document(template: &Template) -> bool {
    template.names().any(|name| name == "id" || is_query(name))
}

/// The tags of a template, one for each value that its queries select. `values` finds what a query
/// selects; none where there is no document to look at.
pub(crate) fn filled<'a>(
    template: &Template,
    change: &Change,
    values: &dyn Fn(&str) -> Option<&'a [String]>,
) -> Result<Vec<String>, Unfilled> {
    let mut tags = vec![String::with_capacity(template.text().len())];
    for piece in template.pieces() {
        let id;
        let text = match piece {
            Piece::Text(text) => text,
            Piece::Name("collection") => &change.collection,
            Piece::Name("database") => &change.database,
            Piece::Name("mongodb") => &change.mongodb,
            // A document without a value of that name bears no tag of it; a change has an `_id`.
            Piece::Name("id") => {
                id = plain(&change.id)?.ok_or(Unfilled::Missing)?;
                &id
            }
            Piece::Name(query) => {
                tags = multiplied(&tags, values(query).ok_or(Unfilled::Missing)?)?;
                continue;
            }
        };
        for tag in &mut tags {
            tag.push_str(text);
        }
    }
    Ok(tags)
}

/// Each of the tags with each of the values.
fn multiplied(tags: &[String], values: &[String]) -> Result<Vec<String>, Unfilled> {
    let mut texts = Vec::new();
    for value in values {
        texts.extend(plain(value)?);
    }
    if tags.len() * texts.len() > MOST_TAGS {
        return Err(Unfilled::TooMany);
    }
    let mut multiplied = Vec::with_capacity(tags.len() * texts.len());
    for tag in tags {
        for text in &texts {
            multiplied.push([tag.as_str(), text].concat());
        }
    }
    Ok(multiplied)
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

    fn template(text: &str) -> Template {
        Template::new(text.to_owned()).unwrap()
    }

    fn with_values(text: &str, values: &[&str]) -> Result<Vec<String>, Unfilled> {
        let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
        filled(&template(text), &change(), &|_| Some(&values))
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
            assert_eq!(with_values(text, values).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_says_why() {
        assert_eq!(with_values("{$.a}", &["[1]"]), Err(Unfilled::NoText));
        assert_eq!(with_values("{$.a}", &["{\"b\":1}"]), Err(Unfilled::NoText));
        assert_eq!(with_values("{$.a}", &["no JSON"]), Err(Unfilled::NoText));
        assert_eq!(with_values("{$.a}{$.b}", &["1"; 9]), Err(Unfilled::TooMany));
        assert_eq!(filled(&template("{$.a}"), &change(), &|_| None), Err(Unfilled::Missing));
        let no_id = Change::default();
        assert_eq!(filled(&template("{id}"), &no_id, &|_| None), Err(Unfilled::Missing));
    }

    #[test]
    fn names_are_checked() {
        for name in ["", "a", "_id", " id ", ".a", "ID"] {
            assert!(unfit(name).is_some(), "{name}");
        }
        for name in ["id", "collection", "database", "mongodb", "$.a", "$"] {
            assert_eq!(unfit(name), None, "{name}");
        }
    }
}
