//! `gateway.toml` and what it includes, as one table.
//!
//! Tables of names (`[upstreams]`, `[policies]`) and arrays of tables (`[[routes]]`, `[[changes]]`) are put
//! together. Everything else stands once, in whichever file: two halves of `[cache]` would leave nobody
//! who knows the whole.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::Source;
use super::{Place, shown};

/// Tables of which each has a name that the user gives.
const NAMED: [(&str, &str); 4] =
    [("upstreams", "upstream"), ("policies", "policy"), ("mongodb", "mongodb"), ("jwt", "jwt")];

/// Arrays of tables.
const LISTED: [&str; 2] = ["routes", "changes"];

/// What the files say, the first of which includes the others.
pub(super) fn merged<'a>(
    files: Vec<Spanned<DeTable<'a>>>,
    source: &Source<'_>,
) -> Spanned<DeTable<'a>> {
    let mut files = files.into_iter().enumerate();
    let Some((_, first)) = files.next() else { return Spanned::new(0..0, DeTable::new()) };
    let span = first.span();
    let mut all = first.into_inner();
    for (number, file) in files {
        let start = source.start(number);
        for (key, value) in file.into_inner() {
            let key = Spanned::new(moved(key.span(), start), key.into_inner());
            add(&mut all, key, shifted(value, start), source);
        }
    }
    Spanned::new(span, all)
}

fn add<'a>(
    all: &mut DeTable<'a>,
    key: Spanned<std::borrow::Cow<'a, str>>,
    value: Spanned<DeValue<'a>>,
    source: &Source<'_>,
) {
    let name = key.get_ref().to_string();
    let place = source.place(key.span().start);
    if name == "include" {
        let hint = "write all patterns in the file that includes it".to_owned();
        source.report(place, "a file that is included includes others", Some(hint));
        return;
    }
    let Some((known, _)) = all.get_key_value(name.as_str()) else {
        all.insert(key, value);
        return;
    };
    let first = source.place(known.span().start);
    let kind = NAMED.iter().find(|(table, _)| *table == name).map(|(_, kind)| *kind);
    let Some(known) = all.get_mut(name.as_str()).map(Spanned::get_mut) else { return };
    match (known, value.into_inner()) {
        (DeValue::Table(known), DeValue::Table(more)) if kind.is_some() => {
            for (key, value) in more {
                named(known, kind.unwrap_or_default(), key, value, source);
            }
        }
        (DeValue::Array(known), DeValue::Array(more)) if LISTED.contains(&name.as_str()) => {
            for value in more {
                known.push(value);
            }
        }
        // What is of the wrong type is told when it is read.
        (known @ (DeValue::Table(_) | DeValue::Array(_)), wrong)
            if kind.is_some() || LISTED.contains(&name.as_str()) =>
        {
            *known = wrong;
        }
        _ => {
            let message = format!(
                "`{}` is there already, at {}",
                shown::plain(&name),
                source.told(first, place)
            );
            source.report(place, message, Some("write it in one of the files".to_owned()));
        }
    }
}

fn named<'a>(
    known: &mut DeTable<'a>,
    kind: &str,
    key: Spanned<std::borrow::Cow<'a, str>>,
    value: Spanned<DeValue<'a>>,
    source: &Source<'_>,
) {
    let Some((first, _)) = known.get_key_value(&**key.get_ref()) else {
        known.insert(key, value);
        return;
    };
    let (first, place): (Place, Place) =
        (source.place(first.span().start), source.place(key.span().start));
    let message = format!(
        "{kind} `{}` is there already, at {}",
        shown::plain(key.get_ref()),
        source.told(first, place)
    );
    source.report(place, message, Some("give each a name of its own".to_owned()));
}

/// The value as it stands if its file begins there.
fn shifted(value: Spanned<DeValue<'_>>, start: usize) -> Spanned<DeValue<'_>> {
    let span = moved(value.span(), start);
    let value = match value.into_inner() {
        DeValue::Array(elements) => {
            DeValue::Array(elements.into_iter().map(|element| shifted(element, start)).collect())
        }
        DeValue::Table(entries) => DeValue::Table(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let key = Spanned::new(moved(key.span(), start), key.into_inner());
                    (key, shifted(value, start))
                })
                .collect(),
        ),
        other => other,
    };
    Spanned::new(span, value)
}

fn moved(span: std::ops::Range<usize>, start: usize) -> std::ops::Range<usize> {
    span.start + start..span.end + start
}
