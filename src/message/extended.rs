//! The fields of a message that goes on, and what is added to them on the way.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

/// So many lines are added as a rule.
const ROOM: usize = 8;

/// Fields, and lines that are added behind them. As long as that is all, the fields are those that came, and
/// nothing is copied.
pub struct Extended<'a> {
    fields: Cow<'a, HeaderMap>,
    added: Vec<(HeaderName, HeaderValue)>,
}

impl<'a> Extended<'a> {
    /// These, with nothing added.
    pub fn of(fields: &'a HeaderMap) -> Self {
        Self { fields: Cow::Borrowed(fields), added: Vec::with_capacity(ROOM) }
    }

    /// Adds a line.
    pub fn append(&mut self, line: (HeaderName, HeaderValue)) {
        self.added.push(line);
    }

    /// All of them, to be changed.
    pub fn to_mut(&mut self) -> &mut HeaderMap {
        let fields = self.fields.to_mut();
        for (name, value) in self.added.drain(..) {
            fields.append(name, value);
        }
        fields
    }

    /// All of them.
    pub fn into_map(mut self) -> HeaderMap {
        self.to_mut();
        self.fields.into_owned()
    }

    /// The first line of this name, of those that came.
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.fields.get(name)
    }

    /// All lines.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.fields.iter().chain(self.added.iter().map(|(name, value)| (name, value)))
    }
}

impl From<HeaderMap> for Extended<'_> {
    fn from(fields: HeaderMap) -> Self {
        Self { fields: Cow::Owned(fields), added: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, VIA};

    use super::*;

    #[test]
    fn what_is_added_is_there_however_it_is_looked_at() {
        let line = HeaderValue::from_static;
        let came = HeaderMap::from_iter([(VIA, line("1.0 a")), (ACCEPT, line("b"))]);
        let mut extended = Extended::of(&came);
        extended.append((VIA, line("1.1 c")));
        let lines: Vec<_> = extended.iter().map(|(_, value)| value.clone()).collect();
        assert_eq!(lines, ["1.0 a", "b", "1.1 c"]);
        extended.to_mut().remove(ACCEPT);
        assert_eq!(extended.get(&ACCEPT), None);
        extended.append((ACCEPT, line("d")));
        let map = extended.into_map();
        assert_eq!(map.get_all(VIA).iter().collect::<Vec<_>>(), ["1.0 a", "1.1 c"]);
        assert_eq!(map.get_all(ACCEPT).iter().collect::<Vec<_>>(), ["d"]);
    }
}
