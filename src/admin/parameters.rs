//! The parameters of calls that look for something: `?name=users/*&limit=20`. Values may be
//! percent-encoded; a `+` is a `+`.

use std::fmt::Display;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::content::cut;
use super::wanted::MAX_TEXT;

/// So often one may stand there that may stand there several times.
pub(super) const MOST_OF_ONE: usize = 20;

/// Each as often as it stands there: once, but for those that may stand there several times.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Those of a query, of which only these names are known.
    pub(super) fn of(query: Option<&str>, known: &[&str]) -> Result<Self, String> {
        Self::of_several(query, known, None)
    }

    /// As [`Parameters::of`], where one of them may stand there several times.
    pub(super) fn of_several(
        query: Option<&str>,
        known: &[&str],
        several: Option<&str>,
    ) -> Result<Self, String> {
        let mut all: Vec<(String, String)> = Vec::new();
        let parameters = query.into_iter().flat_map(|query| query.split('&'));
        for parameter in parameters.filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if !known.contains(&name) {
                let name = cut(name);
                let known = known.join("`, `");
                return Err(format!("there is no parameter `{name}` here; there is `{known}`"));
            }
            let before = all.iter().filter(|(before, _)| before == name).count();
            if several == Some(name) && before >= MOST_OF_ONE {
                let most = MOST_OF_ONE;
                return Err(format!("the parameter `{name}` stands more than {most} times"));
            }
            if several != Some(name) && before > 0 {
                return Err(format!("the parameter `{name}` stands twice"));
            }
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| format!("`{name}` is not UTF-8"))?;
            if value.len() > 2 * MAX_TEXT {
                return Err(format!("`{name}` has more than {} octets", 2 * MAX_TEXT));
            }
            all.push((name.to_owned(), value.into_owned()));
        }
        Ok(Self(all))
    }

    /// Its value, if it is there and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, value)| known == name && !value.is_empty())?;
        Some(value)
    }

    /// All its values.
    pub(super) fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What its value says, if it is there.
    pub(super) fn read<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, String> {
        let read = |text: &str| text.parse().map_err(|why| format!("`{name}`: {why}"));
        self.text(name).map(read).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_strictly() {
        let of = |query| Parameters::of(Some(query), &["name", "limit"]);
        let read = of("name=a%2Fb+%C3%A9&limit=5&").unwrap();
        assert_eq!(read.text("name"), Some("a/b+\u{e9}"));
        assert_eq!(read.read("limit"), Ok(Some(5)));
        assert_eq!(of("name=").unwrap().text("name"), None, "empty is none");
        assert_eq!(of("limit").unwrap().read::<u8>("limit"), Ok(None));
        let long = format!("name={}", "a".repeat(2049));
        for (query, expected) in [
            ("nam=a", "there is no parameter `nam` here; there is `name`, `limit`"),
            ("name=a&name=b", "stands twice"),
            ("name=%ff", "`name` is not UTF-8"),
            (&long, "more than 2048 octets"),
        ] {
            assert!(of(query).unwrap_err().contains(expected), "{query:.64}");
        }
        let several = |query| Parameters::of_several(Some(query), &["name", "limit"], Some("name"));
        let read = several("name=a&limit=1&name=b").unwrap();
        assert_eq!(read.texts("name").collect::<Vec<_>>(), ["a", "b"]);
        assert!(several("limit=1&limit=1").unwrap_err().contains("stands twice"));
        let many = "name=a&".repeat(MOST_OF_ONE);
        assert!(several(&many).is_ok());
        assert!(several(&format!("{many}name=a")).unwrap_err().contains("more than 20 times"));
        assert!(of("limit=300").unwrap().read::<u8>("limit").unwrap_err().starts_with("`limit`: "));
        assert!(of("limit=x").unwrap().read::<u8>("limit").is_err());
    }
}
