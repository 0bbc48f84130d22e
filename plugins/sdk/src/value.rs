//! Reads JSON (RFC 8259): content of requests, claims, and values of responses and documents.
//!
//! What one reader takes for one thing and another for a second is refused: two members of one name,
//! half a surrogate pair, more nesting than any API has. A policy that cannot read something can
//! still bypass; one that read it otherwise than the upstream would mix up two responses.

use std::borrow::Cow;

use crate::json_text;
use crate::sorted;

/// How deep arrays and objects may lie within each other. A plugin has a stack of 32 KiB.
const DEEPEST: usize = 64;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean(bool),
    /// As it was written: `1`, `1.0` and `1e0` are three numbers.
    Number(&'a str),
    /// A string, its escapes resolved.
    Text(String),
    /// Values, in their order.
    Array(Vec<Json<'a>>),
    /// Members, sorted by name. No two have the same name.
    Object(Vec<(String, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Reads one value, which may stand in white space. None for anything else.
    pub fn read(text: &'a str) -> Option<Self> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(DEEPEST)?;
        reader.skip_space();
        (reader.at == text.len()).then_some(value)
    }

    /// The member of an object that has this name.
    pub fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value)
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The value as people name it: a string without its quotes, a number as it was written, `true`
    /// and `false`; and of the types that MongoDB's extended JSON writes as an object, what is in
    /// it, as in `{"$oid": "65…"}`. None for `null`, arrays and other objects.
    pub fn plain(&self) -> Option<&str> {
        match self {
            Self::Boolean(true) => Some("true"),
            Self::Boolean(false) => Some("false"),
            Self::Number(text) => Some(text),
            Self::Text(text) => Some(text),
            Self::Object(members) => match members.as_slice() {
                [(name, value)] if name.starts_with('$') => value.plain(),
                _ => None,
            },
            Self::Null | Self::Array(_) => None,
        }
    }

    /// The value in one form: no white space, members sorted by name, strings escaped in one way,
    /// numbers as they were written. Two values have the same form only if they are equal.
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, to: &mut String) {
        match self {
            Self::Null => to.push_str("null"),
            Self::Boolean(true) => to.push_str("true"),
            Self::Boolean(false) => to.push_str("false"),
            Self::Number(text) => to.push_str(text),
            Self::Text(text) => write_string(text, to),
            Self::Array(values) => {
                to.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        to.push(',');
                    }
                    value.write(to);
                }
                to.push(']');
            }
            Self::Object(members) => {
                to.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        to.push(',');
                    }
                    write_string(name, to);
                    to.push(':');
                    value.write(to);
                }
                to.push('}');
            }
        }
    }
}

/// Escapes what RFC 8259 §7 says must be.
fn write_string(text: &str, to: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text;
    to.push('"');
    loop {
        let special = rest.bytes().position(|octet| matches!(octet, b'"' | b'\\' | ..=0x1f));
        // What is escaped is one octet, so that the text can be split on both sides of it.
        let pieces =
            special.and_then(|at| Some((rest.get(..at)?, rest.get(at..=at)?, rest.get(at + 1..)?)));
        let Some((plain, escaped, after)) = pieces else { break };
        to.push_str(plain);
        to.push('\\');
        match escaped.as_bytes() {
            [code @ ..=0x1f] => {
                to.push_str("u00");
                for digit in [code >> 4, code & 0xf] {
                    to.push(DIGITS.get(usize::from(digit)).map_or('0', |digit| char::from(*digit)));
                }
            }
            _ => to.push_str(escaped),
        }
        rest = after;
    }
    to.push_str(rest);
    to.push('"');
}

/// Reads octet by octet: what is not ASCII stands in strings alone.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Json<'a>> {
        self.skip_space();
        match self.next()? {
            b'{' => self.object(depth.checked_sub(1)?),
            b'[' => self.array(depth.checked_sub(1)?),
            b'"' => self.string().map(Json::Text),
            b'-' | b'0'..=b'9' => self.number(),
            b'n' => self.word("null", Json::Null),
            b't' => self.word("true", Json::Boolean(true)),
            _ => self.word("false", Json::Boolean(false)),
        }
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Option<Json<'a>> {
        let is_next = self.text.as_bytes().get(self.at..)?.starts_with(word.as_bytes());
        self.at += word.len();
        is_next.then_some(value)
    }

    fn array(&mut self, depth: usize) -> Option<Json<'a>> {
        let mut values = Vec::new();
        self.expect(b'[')?;
        self.skip_space();
        if self.expect(b']').is_some() {
            return Some(Json::Array(values));
        }
        loop {
            values.push(self.value(depth)?);
            self.skip_space();
            if self.expect(b',').is_none() {
                self.expect(b']')?;
                return Some(Json::Array(values));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json<'a>> {
        let mut members = Vec::new();
        self.expect(b'{')?;
        self.skip_space();
        if self.expect(b'}').is_some() {
            return Some(Json::Object(members));
        }
        loop {
            self.skip_space();
            let name = self.string()?;
            self.skip_space();
            self.expect(b':')?;
            members.push((name, self.value(depth)?));
            self.skip_space();
            if self.expect(b',').is_none() {
                self.expect(b'}')?;
                break;
            }
        }
        let members = sorted(members, |(a, _), (b, _)| a.cmp(b));
        // RFC 8259 §4: what readers do with two members of one name is unpredictable.
        let has_twins = members.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b));
        (!has_twins).then_some(Json::Object(members))
    }

    fn string(&mut self) -> Option<String> {
        let start = self.at;
        self.expect(b'"')?;
        loop {
            match self.next()? {
                b'"' => break,
                // What is escaped ends nothing; `json_text` says whether it may be.
                b'\\' => self.at += 2,
                ..b' ' => return None,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        json_text(self.text.get(start..self.at)?).map(Cow::into_owned)
    }

    fn number(&mut self) -> Option<Json<'a>> {
        let start = self.at;
        _ = self.expect(b'-');
        if self.expect(b'0').is_none() {
            self.digits()?;
        }
        if self.expect(b'.').is_some() {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.next() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.next() {
                self.at += 1;
            }
            self.digits()?;
        }
        self.text.get(start..self.at).map(Json::Number)
    }

    /// At least one.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.next() {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn expect(&mut self, octet: u8) -> Option<()> {
        (self.next()? == octet).then(|| self.at += 1)
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.next() {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Numbers;

    fn canonical(text: &str) -> Option<String> {
        Json::read(text).map(|value| value.canonical())
    }

    #[test]
    fn a_value_has_one_form() {
        for (text, expected) in [
            ("null", "null"),
            (" [ true ,\tfalse\r\n] ", "[true,false]"),
            ("[]", "[]"),
            ("{ }", "{}"),
            (r#"{"b":1,"a":{"d":[],"c":2}}"#, r#"{"a":{"c":2,"d":[]},"b":1}"#),
            // Numbers that some take for equal and others do not.
            (
                "[1,1.0,1e0,1E+0,-0,0,100000000000000000001]",
                "[1,1.0,1e0,1E+0,-0,0,100000000000000000001]",
            ),
            (r#""\u0061\/\b\f\n\r\t\"\\""#, r#""a/\u0008\u000c\u000a\u000d\u0009\"\\""#),
            (r#""\u20AC\ud83d\ude00ü""#, "\"€😀ü\""),
            (r#"{"\u0061":1}"#, r#"{"a":1}"#),
            ("\"\u{7f}\"", "\"\u{7f}\""),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
            assert_eq!(canonical(expected).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_or_not_clearly_one_thing_is_refused() {
        for text in [
            "",
            " ",
            "nul",
            "nulll",
            "True",
            "[",
            "]",
            "[1",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{",
            "{1:2}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1 \"b\":2}",
            "01",
            "+1",
            "1.",
            ".5",
            "1e",
            "1e+",
            "-",
            "0x1",
            "NaN",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "\"\t\"",
            "'a'",
            "1 2",
            "\u{feff}1",
            "// a\n1",
            "\u{a0}1",
            // Members of one name, also where escapes hide it; halves of surrogate pairs.
            "{\"a\":1,\"a\":1}",
            "{\"a\":1,\"\\u0061\":2}",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\ud83d\\u0061\"",
            "\"\\ud83dx\"",
            "\"\\u€\"",
        ] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(canonical(&nested(DEEPEST)).is_some());
        for depth in [DEEPEST + 1, 1_000_000] {
            assert_eq!(canonical(&nested(depth)), None);
            assert_eq!(canonical(&"{\"a\":".repeat(depth)), None);
        }
    }

    #[test]
    fn plain_text_is_what_people_say() {
        for (text, expected) in [
            ("\"a b\"", Some("a b")),
            ("\"\"", Some("")),
            ("42", Some("42")),
            ("1.50", Some("1.50")),
            ("true", Some("true")),
            (r#"{"$oid":"65f0"}"#, Some("65f0")),
            (r#"{"$date":{"$numberLong":"-1"}}"#, Some("-1")),
            ("null", None),
            ("[1]", None),
            ("{}", None),
            (r#"{"oid":"65f0"}"#, None),
            (r#"{"$a":1,"$b":2}"#, None),
        ] {
            assert_eq!(Json::read(text).unwrap().plain(), expected, "{text}");
        }
    }

    /// No input may trap a policy: mutations of a document, and every prefix of it.
    #[test]
    fn any_text_is_read_or_refused() {
        let seed =
            r#"{"a":[1,-2.5e+10,"\u20ac\ud83d\ude00\n"],"b":{"c":null,"d":[true,false,{}]}}"#;
        let mut numbers = Numbers::from(7);
        for _ in 0..20_000 {
            let text = numbers.mutated(seed, 3);
            if let Some(form) = canonical(&text) {
                assert_eq!(canonical(&form).as_deref(), Some(form.as_str()), "{text}");
            }
        }
        for length in 0..seed.len() {
            if let Some(prefix) = seed.get(..length) {
                assert_eq!(canonical(prefix), None);
            }
        }
    }
}
