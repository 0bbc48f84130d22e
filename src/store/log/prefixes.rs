//! Patterns of a text with one `*` behind it, as policies make them of what was written: `users/42/*`.
//! There may be one for each resource, so none is tried: what a name begins with is looked up.

use std::collections::{BTreeMap, HashMap};

use crate::stored::Position;

use super::Newest;

/// Of a longer text so many octets count, which covers more. A name is looked up once for each length that
/// there is, so this bounds what that costs. What is left of a name that was cut off is longer.
const LONGEST: usize = 256;

/// By their texts, what is kept of their records.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes {
    by_length: BTreeMap<usize, OfOneLength>,
    /// At how many of them to look for old ones, as for marks.
    pub(super) sweep_at: usize,
}

#[derive(Clone, Debug, Default)]
struct OfOneLength {
    /// None of them has a record from a later place.
    newest: Position,
    texts: HashMap<Box<str>, Newest, foldhash::fast::RandomState>,
}

/// The text of such a pattern. None: it is another one.
pub(super) fn text(pattern: &str) -> Option<&str> {
    let text = pattern.strip_suffix('*')?;
    (!text.contains('*')).then(|| text.split_at(text.floor_char_boundary(LONGEST)).0)
}

impl Prefixes {
    pub(super) fn count(&self) -> usize {
        self.by_length.values().map(|of_length| of_length.texts.len()).sum()
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        let of_length = self.by_length.get(&text.len());
        of_length.is_some_and(|of_length| of_length.texts.contains_key(text))
    }

    /// What is kept for a text, `fresh` if it is new, to be told of a record at this place.
    pub(super) fn entry(&mut self, text: &str, place: Position, fresh: Newest) -> &mut Newest {
        let of_length = self.by_length.entry(text.len()).or_default();
        of_length.newest = of_length.newest.max(place);
        of_length.texts.entry(text.into()).or_insert(fresh)
    }

    /// Those that a name matches and that have a record from after this place: the same as
    /// [`pattern::matches`](crate::store::pattern::matches) says of each.
    pub(super) fn matching<'a>(
        &'a self,
        name: &'a str,
        born: Position,
    ) -> impl Iterator<Item = (&'a str, &'a Newest)> {
        let newer = self.by_length.iter().filter(move |(_, of_length)| of_length.newest > born);
        let matching =
            newer.filter_map(move |(&length, of_length)| of_length.matching(length, name));
        matching.filter(move |(_, newest)| newest.covered.newest() > born)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Newest> {
        self.by_length.values().flat_map(|of_length| of_length.texts.values())
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Newest) -> bool) {
        self.by_length.retain(|_, of_length| {
            of_length.texts.retain(|_, newest| keep(newest));
            !of_length.texts.is_empty()
        });
    }
}

impl OfOneLength {
    fn matching(&self, length: usize, name: &str) -> Option<(&str, &Newest)> {
        // Within a character no text ends.
        let begin = name.get(..length)?;
        self.texts.get_key_value(begin).map(|(text, newest)| (&**text, newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_star_at_the_end_is_looked_up() {
        let longest = format!("{}*", "a".repeat(LONGEST));
        let longer = format!("a{longest}");
        let accents = format!("a{}*", "é".repeat(LONGEST));
        for (pattern, expected) in [
            ("users/42/*", Some("users/42/")),
            ("*", Some("")),
            ("é*", Some("é")),
            (&*longest, longest.strip_suffix('*')),
            (&*longer, longer.get(..LONGEST)),
            (&*accents, accents.get(..LONGEST - 1)),
            ("users/42", None),
            ("", None),
            ("**", None),
            ("*/42", None),
            ("users/*/orders/*", None),
        ] {
            assert_eq!(text(pattern), expected, "{pattern}");
        }
    }
}
