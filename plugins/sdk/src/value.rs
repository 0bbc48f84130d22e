//! Reads JSON (RFC 8259): content of requests, claims, and values of responses and documents.
//!
//! What one reader takes for one thing and another for a second is refused: two members of one name,
//! half a surrogate pair, more nesting than any API has. A policy that cannot read something can
//! still bypass; one that read it otherwise than the upstream would mix up two responses.

use std::borrow::Cow;

use crate::json_text;

/// How deep arrays and objects may lie within each other. A plugin has a stack of 64 KiB.
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
        let mut reader = Reader { rest: text };
        let value = reader.value(DEEPEST)?;
        reader.skip_space();
        reader.rest.is_empty().then_some(value)
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
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    to.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => to.extend(['\\', character]),
            '\0'..='\x1f' => {
                let code = character as usize;
                let digit = |value: usize| DIGITS.get(value).copied().unwrap_or('0');
                to.push_str("\\u00");
                to.extend([digit(code >> 4), digit(code & 0xf)]);
            }
            _ => to.push(character),
        }
    }
    to.push('"');
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Json<'a>> {
        self.skip_space();
        match self.rest.as_bytes().first()? {
            b'{' => self.object(depth.checked_sub(1)?),
            b'[' => self.array(depth.checked_sub(1)?),
            b'"' => self.string().map(Json::Text),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Option<Json<'a>> {
        let words =
            [("null", Json::Null), ("true", Json::Boolean(true)), ("false", Json::Boolean(false))];
        for (word, value) in words {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Some(value);
            }
        }
        None
    }

    fn array(&mut self, depth: usize) -> Option<Json<'a>> {
        let mut values = Vec::new();
        self.expect('[')?;
        self.skip_space();
        if self.expect(']').is_some() {
            return Some(Json::Array(values));
        }
        loop {
            values.push(self.value(depth)?);
            self.skip_space();
            if self.expect(',').is_none() {
                self.expect(']')?;
                return Some(Json::Array(values));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json<'a>> {
        let mut members = Vec::new();
        self.expect('{')?;
        self.skip_space();
        if self.expect('}').is_some() {
            return Some(Json::Object(members));
        }
        loop {
            self.skip_space();
            let name = self.string()?;
            self.skip_space();
            self.expect(':')?;
            members.push((name, self.value(depth)?));
            self.skip_space();
            if self.expect(',').is_none() {
                self.expect('}')?;
                break;
            }
        }
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        // RFC 8259 §4: what readers do with two members of one name is unpredictable.
        let has_twins = members.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b));
        (!has_twins).then_some(Json::Object(members))
    }

    fn string(&mut self) -> Option<String> {
        let mut octets = self.rest.bytes().enumerate();
        let (_, b'"') = octets.next()? else { return None };
        let end = loop {
            match octets.next()? {
                (end, b'"') => break end,
                // What is escaped ends nothing; `json_text` says whether it may be.
                (_, b'\\') => _ = octets.next()?,
                (_, ..b' ') => return None,
                _ => {}
            }
        };
        let (quoted, rest) = self.rest.split_at_checked(end + 1)?;
        self.rest = rest;
        json_text(quoted).map(Cow::into_owned)
    }

    fn number(&mut self) -> Option<Json<'a>> {
        let start = self.rest;
        _ = self.expect('-');
        if self.expect('0').is_none() {
            self.digits()?;
        }
        if self.expect('.').is_some() {
            self.digits()?;
        }
        if self.expect('e').or_else(|| self.expect('E')).is_some() {
            _ = self.expect('+').or_else(|| self.expect('-'));
            self.digits()?;
        }
        start.get(..start.len() - self.rest.len()).map(Json::Number)
    }

    /// At least one.
    fn digits(&mut self) -> Option<()> {
        let rest = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let has_some = rest.len() < self.rest.len();
        self.rest = rest;
        has_some.then_some(())
    }

    fn expect(&mut self, character: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(character)?;
        Some(())
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut state = 7_u64;
        for _ in 0..20_000 {
            let mut octets = seed.as_bytes().to_vec();
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let [at, octet, ..] = (state >> 16).to_le_bytes();
                let at = usize::from(at) % octets.len();
                octets[at] = octet & 0x7f;
            }
            let text = String::from_utf8_lossy(&octets);
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
