//! The content of `POST /purge`: what is to be purged.

use serde_json::Value;

use super::content::{Faults, Refused, cut, members};

/// The longest tag, name or pattern, and the longest URL, in octets.
pub(super) const MAX_TEXT: usize = 1024;
const MAX_URL: usize = 8192;

/// How many texts one purge may name, and how many of them may be patterns: each is tried on each
/// stored response, and if there are too many the oldest give way to one of everything.
const MOST: usize = 1000;
const MOST_PATTERNS: usize = 100;

const MEMBERS: &str = "`tags`, `keys`, `urls`, `patterns`, `routes`, `all` and `soft`";

/// What is to be purged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) tags: Vec<String>,
    /// Readable names, whole.
    pub(super) keys: Vec<String>,
    pub(super) urls: Vec<String>,
    pub(super) patterns: Vec<String>,
    pub(super) routes: Vec<String>,
    pub(super) all: bool,
    pub(super) soft: bool,
}

impl Wanted {
    /// Reads a content.
    pub(super) fn parse(content: &[u8]) -> Result<Self, Refused> {
        let mut faults = Faults::default();
        let mut wanted = Self::default();
        for (name, value) in members(content, &mut faults)? {
            wanted.take(&name, value, &mut faults);
        }
        let lists = wanted.lists();
        let count: usize = lists.iter().map(|list| list.len()).sum();
        if count == 0 && !wanted.all && faults.is_empty() {
            faults.push(format!("nothing is named that is to be purged; there are {MEMBERS}"));
        }
        if count > MOST {
            faults.push(format!("{count} texts are named, and one purge may name {MOST}"));
        }
        if wanted.patterns.len() > MOST_PATTERNS {
            let count = wanted.patterns.len();
            faults.push(format!("`patterns` has {count}, and one purge may have {MOST_PATTERNS}"));
        }
        if faults.is_empty() { Ok(wanted) } else { Err(Refused::Faulty(faults.into_texts())) }
    }

    fn lists(&self) -> [&Vec<String>; 5] {
        [&self.tags, &self.keys, &self.urls, &self.patterns, &self.routes]
    }

    fn take(&mut self, name: &str, value: Value, faults: &mut Faults) {
        let truth = match name {
            "all" => &mut self.all,
            "soft" => &mut self.soft,
            _ => return self.take_list(name, value, faults),
        };
        match value {
            Value::Bool(value) => *truth = value,
            _ => faults.push(format!("`{name}` is neither true nor false")),
        }
    }

    fn take_list(&mut self, name: &str, value: Value, faults: &mut Faults) {
        type Wrong = fn(&str) -> Option<&'static str>;
        let (list, wrong): (_, Wrong) = match name {
            "tags" => {
                (
                    &mut self.tags,
                    |tag| {
                        if tag.is_empty() { Some("is empty") } else { too_long(tag) }
                    },
                )
            }
            "keys" => (&mut self.keys, too_long),
            "urls" => {
                (&mut self.urls, |url| (url.len() > MAX_URL).then_some("has more than 8192 octets"))
            }
            "patterns" => (&mut self.patterns, too_long),
            "routes" => (&mut self.routes, |route| {
                let is_name = (1..=64).contains(&route.len())
                    && route.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
                (!is_name).then_some("is no route's name")
            }),
            _ => {
                let name = cut(name);
                return faults.push(format!("there is no member `{name}`; there are {MEMBERS}"));
            }
        };
        let Value::Array(values) = value else {
            return faults.push(format!("`{name}` is not an array of strings"));
        };
        for (at, value) in values.into_iter().enumerate() {
            match value {
                Value::String(text) => match wrong(&text) {
                    None => list.push(text),
                    Some(wrong) => faults.push(format!("`{name}[{at}]` {wrong}")),
                },
                _ => faults.push(format!("`{name}[{at}]` is not a string")),
            }
        }
    }
}

fn too_long(text: &str) -> Option<&'static str> {
    (text.len() > MAX_TEXT).then_some("has more than 1024 octets")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_taken() {
        let content = br#"{ "tags": ["a", "b"], "keys": [""], "urls": ["http://h/"], "soft": true,
                            "patterns": ["*"], "routes": ["r.1"], "all": true }"#;
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let expected = Wanted {
            tags: texts(&["a", "b"]),
            keys: texts(&[""]),
            urls: texts(&["http://h/"]),
            patterns: texts(&["*"]),
            routes: texts(&["r.1"]),
            all: true,
            soft: true,
        };
        assert_eq!(Wanted::parse(content), Ok(expected));
        let all = Wanted { all: true, ..Wanted::default() };
        assert_eq!(Wanted::parse(br#"{"all":true,"soft":false,"tags":[]}"#), Ok(all));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let long = format!(r#"{{"keys":["{}"]}}"#, "a".repeat(1025));
        let long_url = format!(r#"{{"urls":["http://h/{}"]}}"#, "a".repeat(8192));
        let many = format!(r#"{{"tags":[{}"a"]}}"#, r#""a","#.repeat(1000));
        let patterns = format!(r#"{{"patterns":[{}"a"]}}"#, r#""a","#.repeat(100));
        for (content, expected) in [
            ("{}", "nothing is named"),
            (r#"{"tags":[]}"#, "nothing is named"),
            (r#"{"all":false}"#, "nothing is named"),
            (r#"{"soft":true}"#, "nothing is named"),
            ("[]", "not a JSON object"),
            ("\"tags\"", "not a JSON object"),
            ("null", "not a JSON object"),
            (r#"{"tag":["a"]}"#, "there is no member `tag`; there are `tags`, `keys`"),
            (r#"{"all":true,"Soft":true}"#, "no member `Soft`"),
            (r#"{"tags":["a"],"tags":["b"]}"#, "`tags` stands twice"),
            (r#"{"tags":"a"}"#, "`tags` is not an array of strings"),
            (r#"{"tags":null}"#, "`tags` is not an array of strings"),
            (r#"{"tags":["a",1]}"#, "`tags[1]` is not a string"),
            (r#"{"tags":[["a"]]}"#, "`tags[0]` is not a string"),
            (r#"{"tags":[""]}"#, "`tags[0]` is empty"),
            (r#"{"routes":["a b"]}"#, "`routes[0]` is no route's name"),
            (r#"{"routes":[""]}"#, "`routes[0]` is no route's name"),
            (r#"{"all":1}"#, "`all` is neither true nor false"),
            (r#"{"all":true,"soft":"true"}"#, "`soft` is neither true nor false"),
            (&long, "`keys[0]` has more than 1024 octets"),
            (&long_url, "`urls[0]` has more than 8192 octets"),
            (&many, "1001 texts are named, and one purge may name 1000"),
            (&patterns, "`patterns` has 101, and one purge may have 100"),
        ] {
            let Err(Refused::Faulty(faults)) = Wanted::parse(content.as_bytes()) else {
                panic!("taken: {content:.64}")
            };
            assert!(faults.len() == 1 && faults[0].contains(expected), "{content:.64}: {faults:?}");
        }
        for content in
            ["", "{", "{]", r#"{"tags":["a"]"#, r#"{"tags":["a"]} x"#, "{\"tags\":[\"\u{1}\"]}"]
        {
            let parsed = Wanted::parse(content.as_bytes());
            assert!(matches!(parsed, Err(Refused::NotJson(_))), "{content}: {parsed:?}");
        }
        assert!(matches!(Wanted::parse(b"{\"tags\":[\"\xff\"]}"), Err(Refused::NotJson(_))));
    }

    #[test]
    fn all_that_is_wrong_is_told_and_no_more_than_can_be_read() {
        let parsed = Wanted::parse(br#"{"tag":[],"soft":1,"keys":[1,2]}"#);
        assert!(matches!(parsed, Err(Refused::Faulty(faults)) if faults.len() == 4));
        let many = format!(r#"{{"tags":[{}1]}}"#, "1,".repeat(99));
        let Err(Refused::Faulty(faults)) = Wanted::parse(many.as_bytes()) else { panic!("taken") };
        assert_eq!((faults.len(), faults[20].as_str()), (21, "and 80 more"));
    }
}
