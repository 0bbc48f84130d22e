//! `Cache-Control` (RFC 9111 §5.2), and a request's `Pragma` (§5.4), read to the safe side.
//!
//! - Names count in any case, arguments as tokens or quoted strings.
//! - Of a directive that is given several times the most restrictive one counts.
//! - Garbage separates directives as a comma does. A directive beside garbage is *damaged*: it
//!   counts as far as it restricts, and not as far as it permits.
//!
//! What follows from the directives is decided elsewhere.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, PRAGMA,
    VARY,
};

/// The longest span there is: 2^31 seconds, to which RFC 9111 §1.2.2 cuts larger numbers.
pub(super) const LONGEST: Duration = Duration::from_secs(1 << 31);

/// No directive that is known has a longer name than `stale-while-revalidate`.
const LONGEST_NAME: usize = 22;

/// What a request asks of caches (RFC 9111 §5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a directive of its own")]
pub struct RequestDirectives {
    /// No stored response without validation. Also `Pragma: no-cache` where there is no
    /// `Cache-Control`.
    pub no_cache: bool,
    /// Store nothing of this request or of its response.
    pub no_store: bool,
    /// A stored response or 504, but no forwarding.
    pub only_if_cached: bool,
    /// The content as it is (§5.2.1.6).
    pub no_transform: bool,
    /// No response older than this.
    pub max_age: Option<Duration>,
    /// Only a response that stays fresh for this long.
    pub min_fresh: Option<Duration>,
    /// A response that became stale this long ago is welcome; `Duration::MAX` is any time.
    pub max_stale: Option<Duration>,
    /// A response that became stale this long ago is welcome where the origin fails (RFC 5861 §4).
    pub stale_if_error: Option<Duration>,
}

/// Whether a field of this name gives directives of a request.
pub fn is_directives(name: &HeaderName) -> bool {
    matches!(*name, CACHE_CONTROL | PRAGMA)
}

impl RequestDirectives {
    /// Reads all lines. Without `Cache-Control` and `Pragma` it costs a look at each name.
    pub fn of(fields: &HeaderMap) -> Self {
        let mut found = Self::default();
        if !fields.keys().any(is_directives) {
            return found;
        }
        if fields.contains_key(CACHE_CONTROL) {
            directives(fields, &CACHE_CONTROL).for_each(|directive| found.add(&directive));
        } else {
            found.no_cache = directives(fields, &PRAGMA)
                .any(|directive| directive.name.eq_ignore_ascii_case(b"no-cache"));
        }
        found
    }

    fn add(&mut self, directive: &Directive<'_>) {
        match directive.name_in_lower_case(&mut [0; LONGEST_NAME]) {
            b"no-cache" => self.no_cache = true,
            b"no-store" => self.no_store = true,
            b"only-if-cached" => self.only_if_cached |= directive.is_sound,
            b"no-transform" => self.no_transform = true,
            b"max-age" => lower(&mut self.max_age, directive.seconds().unwrap_or_default()),
            b"min-fresh" => {
                let at_least = directive.seconds().unwrap_or(LONGEST);
                self.min_fresh = self.min_fresh.max(Some(at_least));
            }
            b"max-stale" if directive.is_bare() => lower(&mut self.max_stale, Duration::MAX),
            b"max-stale" => lower(&mut self.max_stale, directive.seconds().unwrap_or_default()),
            b"stale-if-error" => {
                lower(&mut self.stale_if_error, directive.seconds().unwrap_or_default());
            }
            _ => {}
        }
    }
}

/// What a response tells caches (RFC 9111 §5.2.2, RFC 5861, RFC 8246).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a directive of its own")]
pub struct ResponseDirectives {
    /// Not to be stored.
    pub no_store: bool,
    /// Not to be reused without validation: `no-cache` without field names.
    pub no_cache: bool,
    /// The fields that are not to be reused without validation: `no-cache="…"`.
    pub no_cache_fields: Vec<HeaderName>,
    /// For one user only: `private` without field names.
    pub private: bool,
    /// The fields that are for one user only: `private="…"`.
    pub private_fields: Vec<HeaderName>,
    /// May be stored where the defaults forbid it.
    pub public: bool,
    /// Not to be reused once stale.
    pub must_revalidate: bool,
    /// The same, for shared caches.
    pub proxy_revalidate: bool,
    /// To be stored only by caches that know what the status code asks of them.
    pub must_understand: bool,
    /// Those caches may store it in spite of `no-store` (§5.2.2.3): an undamaged `must-understand`.
    pub excuses_no_store: bool,
    /// May be stored although the request had `Authorization` (§3.5): an undamaged `public`,
    /// `must-revalidate` or `s-maxage`.
    pub authorized: bool,
    /// The freshness lifetime. What is not a number counts as zero.
    pub max_age: Option<Duration>,
    /// The freshness lifetime in shared caches, likewise.
    pub s_maxage: Option<Duration>,
    /// So long after it became stale it may be served while it is validated (RFC 5861 §3).
    pub stale_while_revalidate: Option<Duration>,
    /// So long after it became stale it may be served where the origin fails (RFC 5861 §4).
    pub stale_if_error: Option<Duration>,
    /// It will not change while it is fresh (RFC 8246).
    pub immutable: bool,
    /// They come from a targeted field, so that `Expires` does not count (RFC 9213 §2.2).
    pub targeted: bool,
}

impl ResponseDirectives {
    /// Reads all lines of `Cache-Control`, or of another field with its syntax.
    pub(super) fn of(fields: &HeaderMap, name: &HeaderName) -> Self {
        let mut found = Self::default();
        directives(fields, name).for_each(|directive| found.add(&directive));
        found
    }

    pub(super) fn add(&mut self, directive: &Directive<'_>) {
        match directive.name_in_lower_case(&mut [0; LONGEST_NAME]) {
            b"no-store" => self.no_store = true,
            b"no-cache" => match directive.field_names() {
                Some(names) => self.no_cache_fields.extend(names),
                None => self.no_cache = true,
            },
            b"private" => match directive.field_names() {
                Some(names) => self.private_fields.extend(names),
                None => self.private = true,
            },
            b"public" => {
                self.public |= directive.is_bare();
                self.authorized |= directive.is_bare();
            }
            b"must-revalidate" => {
                self.must_revalidate = true;
                self.authorized |= directive.is_bare();
            }
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => {
                self.must_understand = true;
                self.excuses_no_store |= directive.is_bare();
            }
            b"max-age" => lower(&mut self.max_age, directive.seconds().unwrap_or_default()),
            b"s-maxage" => {
                self.authorized |= directive.seconds().is_some();
                lower(&mut self.s_maxage, directive.seconds().unwrap_or_default());
            }
            b"stale-while-revalidate" => {
                lower(&mut self.stale_while_revalidate, directive.seconds().unwrap_or_default());
            }
            b"stale-if-error" => {
                lower(&mut self.stale_if_error, directive.seconds().unwrap_or_default());
            }
            b"immutable" => self.immutable |= directive.is_bare(),
            _ => {}
        }
    }
}

/// Reads delta-seconds (RFC 9111 §1.2.2): digits and nothing else, at most 2^31.
pub(super) fn delta_seconds(octets: &[u8]) -> Option<Duration> {
    if octets.is_empty() {
        return None;
    }
    let seconds = octets.iter().try_fold(0_u64, |sum, octet| {
        let digit = octet.is_ascii_digit().then(|| u64::from(octet - b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit))
    })?;
    Some(Duration::from_secs(seconds).min(LONGEST))
}

/// Of several bounds the lowest counts.
pub(super) fn lower(bound: &mut Option<Duration>, to: Duration) {
    *bound = Some(bound.map_or(to, |bound| bound.min(to)));
}

pub(super) fn directives<'a>(
    fields: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = Directive<'a>> + use<'a> {
    fields.get_all(name).iter().flat_map(|line| Tokenizer { rest: line.as_bytes(), begins: true })
}

/// One directive as it was sent.
pub(super) struct Directive<'a> {
    pub(super) name: &'a [u8],
    pub(super) argument: Option<Argument<'a>>,
    /// Nothing else stands between the commas around it.
    pub(super) is_sound: bool,
}

pub(super) enum Argument<'a> {
    Token(&'a [u8]),
    /// What stands between the quotes, without its backslashes.
    Quoted(Cow<'a, [u8]>),
}

impl Directive<'_> {
    /// Its name; empty if it is none that is known.
    fn name_in_lower_case<'a>(&self, room: &'a mut [u8; LONGEST_NAME]) -> &'a [u8] {
        let Some(name) = room.get_mut(..self.name.len()) else { return &[] };
        name.copy_from_slice(self.name);
        name.make_ascii_lowercase();
        name
    }

    fn is_bare(&self) -> bool {
        self.is_sound && self.argument.is_none()
    }

    fn seconds(&self) -> Option<Duration> {
        match self.argument.as_ref().filter(|_| self.is_sound)? {
            Argument::Token(token) => delta_seconds(token),
            Argument::Quoted(text) => delta_seconds(text),
        }
    }

    /// The names in a qualified `private` or `no-cache`. None is an unqualified one, and so is
    /// every qualified form that cannot be obeyed:
    ///
    /// - the token form, which no sender should use (§5.2.2.4), as it may be a `private=true`;
    /// - a list that is empty, or has a member that is no field name;
    /// - a field without which the rest of the response means something else.
    fn field_names(&self) -> Option<Vec<HeaderName>> {
        const ESSENTIAL: [HeaderName; 5] =
            [CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, VARY];

        let Argument::Quoted(text) = self.argument.as_ref().filter(|_| self.is_sound)? else {
            return None;
        };
        let mut names = Vec::new();
        for member in text.split(|&octet| octet == b',').map(<[u8]>::trim_ascii) {
            if !member.is_empty() {
                let name = HeaderName::from_bytes(member).ok()?;
                names.push(Some(name).filter(|name| !ESSENTIAL.contains(name))?);
            }
        }
        (!names.is_empty()).then_some(names)
    }
}

fn unescaped(quoted: &[u8]) -> Cow<'_, [u8]> {
    if !quoted.contains(&b'\\') {
        return Cow::Borrowed(quoted);
    }
    let mut octets = quoted.iter();
    let next = || match octets.next() {
        Some(b'\\') => octets.next().copied(),
        other => other.copied(),
    };
    Cow::Owned(std::iter::from_fn(next).collect())
}

/// Finds the directives in one line. Every run of token characters outside of an argument becomes
/// a directive, so that no restriction is lost in garbage.
struct Tokenizer<'a> {
    rest: &'a [u8],
    /// Nothing has been read yet.
    begins: bool,
}

impl<'a> Iterator for Tokenizer<'a> {
    type Item = Directive<'a>;

    fn next(&mut self) -> Option<Directive<'a>> {
        let mut is_sound = std::mem::take(&mut self.begins);
        loop {
            match *self.rest.first()? {
                b',' => is_sound = true,
                b' ' | b'\t' => {}
                octet if is_token(octet) => break,
                _ => is_sound = false,
            }
            self.skip(1);
        }
        let name = self.take_token();
        let mut argument = None;
        if self.rest.first() == Some(&b'=') {
            self.skip(1);
            argument = self.take_argument();
            is_sound &= argument.is_some();
        }
        self.rest = self.rest.trim_ascii_start();
        is_sound &= matches!(self.rest.first(), None | Some(b','));
        Some(Directive { name, argument, is_sound })
    }
}

impl<'a> Tokenizer<'a> {
    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn take_token(&mut self) -> &'a [u8] {
        let length = self.rest.iter().take_while(|octet| is_token(**octet)).count();
        let (token, rest) = self.rest.split_at_checked(length).unwrap_or_default();
        self.rest = rest;
        token
    }

    fn take_argument(&mut self) -> Option<Argument<'a>> {
        let Some(quoted) = self.rest.strip_prefix(b"\"") else {
            return Some(self.take_token()).filter(|token| !token.is_empty()).map(Argument::Token);
        };
        // Without its closing quote the string may have swallowed directives: what follows the
        // opening one is then read as such.
        self.rest = quoted;
        let mut is_escaped = false;
        let end = quoted.iter().position(|&octet| {
            let is_end = octet == b'"' && !is_escaped;
            is_escaped = octet == b'\\' && !is_escaped;
            is_end
        })?;
        self.skip(end + 1);
        quoted.get(..end).map(|quoted| Argument::Quoted(unescaped(quoted)))
    }
}

/// RFC 9110 §5.6.2, `tchar`.
fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(octet, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.')
        || matches!(octet, b'^'..=b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{ETAG, SET_COOKIE};
    use proptest::prelude::*;

    use super::*;

    fn fields(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(name, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        fields
    }

    fn response(lines: &[&str]) -> ResponseDirectives {
        ResponseDirectives::of(&fields(&CACHE_CONTROL, lines), &CACHE_CONTROL)
    }

    fn request(lines: &[&str]) -> RequestDirectives {
        RequestDirectives::of(&fields(&CACHE_CONTROL, lines))
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn lifetimes() {
        for (line, max_age, s_maxage, why) in [
            ("max-age=60", Some(secs(60)), None, "token form"),
            ("max-age=\"60\"", Some(secs(60)), None, "recipients ought to accept both forms"),
            ("max-age=\"6\\0\"", Some(secs(60)), None, "a quoted pair stands for its octet"),
            ("Max-Age=60", Some(secs(60)), None, "directives are case-insensitive"),
            ("S-MAXAGE=60", None, Some(secs(60)), "directives are case-insensitive"),
            ("  max-age=60\t,,public", Some(secs(60)), None, "white space and empty members"),
            ("max-age=007", Some(secs(7)), None, "leading zeros"),
            ("max-age=60, max-age=30", Some(secs(30)), None, "duplicates: the most restrictive"),
            ("max-age=60, max-age=x", Some(secs(0)), None, "duplicates: one is invalid"),
            ("max-age", Some(secs(0)), None, "no number is stale"),
            ("max-age=", Some(secs(0)), None, "no number is stale"),
            ("max-age=-1", Some(secs(0)), None, "negative is stale"),
            ("max-age=+1", Some(secs(0)), None, "digits only"),
            ("max-age=1.5", Some(secs(0)), None, "digits only"),
            ("max-age=1e3", Some(secs(0)), None, "digits only"),
            ("max-age=\"\"", Some(secs(0)), None, "no number is stale"),
            ("max-age=60\u{e9}", Some(secs(0)), None, "garbage beside it"),
            ("max-age =60", Some(secs(0)), None, "no white space before `=`"),
            ("max-age= 60", Some(secs(0)), None, "no white space after `=`"),
            ("public max-age=60", Some(secs(0)), None, "a comma is missing"),
            ("max-age=60; public", Some(secs(0)), None, "a semicolon is no comma"),
            (
                "s-maxage=x, max-age=9",
                Some(secs(9)),
                Some(secs(0)),
                "an invalid s-maxage is stale too",
            ),
            (
                "max-age=2147483649",
                Some(secs(1 << 31)),
                None,
                "greater than can be represented: 2^31",
            ),
            ("max-age=99999999999999999999999", Some(secs(1 << 31)), None, "beyond u64: 2^31"),
            ("x-max-age=60, max-age-x=3", None, None, "unknown directives"),
            ("x=\"max-age=60\"", None, None, "inside of another's argument"),
            ("x=\"\\\", max-age=60\"", None, None, "an escaped quote does not end the string"),
        ] {
            let found = response(&[line]);
            assert_eq!((found.max_age, found.s_maxage), (max_age, s_maxage), "{line}: {why}");
        }
        let found = response(&["max-age=60", "s-maxage=5", "max-age=7"]);
        assert_eq!(
            (found.max_age, found.s_maxage),
            (Some(secs(7)), Some(secs(5))),
            "all lines count"
        );
    }

    #[test]
    fn restrictions_survive_garbage() {
        for line in [
            "no-store",
            "No-Store, max-age=60",
            "max-age=60; no-store",
            "max-age=60 no-store",
            ";no-store",
            "=no-store",
            "no-store=1",
            "no-store=\"",
            "no-store\u{e9}",
            "x=\"unterminated, no-store",
            "x=\"a\"b\", no-store",
            "x\"y, no-store\"",
            ",,,\t, no-store ,",
        ] {
            assert!(response(&[line]).no_store, "{line}");
            assert!(request(&[line]).no_store, "{line}");
        }
        assert!(!response(&["x=no-store, y=\"no-store\", xno-store"]).no_store);
        assert!(response(&["max-age=60", "x=\"", "Private"]).private);
    }

    #[test]
    fn permissions_do_not_survive_garbage() {
        for line in ["public;", "public max-age=5", "public=1", "x=\"y, public\"", ";public"] {
            let found = response(&[line]);
            assert!(!found.public && !found.authorized, "{line}");
        }
        let found = response(&["must-revalidate;"]);
        assert!(found.must_revalidate && !found.authorized);
        let found = response(&["s-maxage=x"]);
        assert!(found.s_maxage.is_some() && !found.authorized);
        for line in ["public", "must-revalidate", "s-maxage=0"] {
            assert!(response(&[line]).authorized, "{line}: §3.5");
        }
        assert!(!response(&["proxy-revalidate, max-age=60"]).authorized, "not named in §3.5");
        assert!(!request(&["only-if-cached;"]).only_if_cached);
    }

    #[test]
    fn qualified_forms() {
        let two = vec![SET_COOKIE, ETAG];
        for (argument, names, why) in [
            ("=\"Set-Cookie, ETag\"", Some(two.clone()), "a list of field names"),
            ("=\"set-cookie,,etag ,\"", Some(two), "empty members are ignored"),
            ("=\"e\\tag\"", Some(vec![ETAG]), "a quoted pair stands for its octet"),
            ("", None, "no argument"),
            ("=\"\"", None, "no names"),
            ("=\"a b\"", None, "not a field name"),
            ("=\"etag", None, "unterminated"),
            ("=etag", None, "a sender SHOULD NOT generate the token form"),
            ("=\"etag\" x", None, "garbage beside it"),
            ("=\"etag, vary\"", None, "a response without `Vary` is another response"),
        ] {
            let line = format!("private{argument}, max-age=60");
            let found = response(&[&line]);
            assert_eq!(found.private, names.is_none(), "{line}: {why}");
            assert_eq!(found.private_fields, names.clone().unwrap_or_default(), "{line}: {why}");
            let line = format!("no-cache{argument}, max-age=60");
            let found = response(&[&line]);
            assert_eq!(found.no_cache, names.is_none(), "{line}: {why}");
            assert_eq!(found.no_cache_fields, names.unwrap_or_default(), "{line}: {why}");
        }
        let both = response(&["private=\"etag\", private"]);
        assert!(both.private, "duplicates: the most restrictive");
    }

    #[test]
    fn requests() {
        let none = RequestDirectives::default();
        for (line, expected, why) in [
            ("No-Cache", RequestDirectives { no_cache: true, ..none }, "any case"),
            ("only-if-cached", RequestDirectives { only_if_cached: true, ..none }, "§5.2.1.7"),
            ("max-age=0", RequestDirectives { max_age: Some(secs(0)), ..none }, "§5.2.1.1"),
            ("max-age=x", RequestDirectives { max_age: Some(secs(0)), ..none }, "the safe side"),
            ("min-fresh=5", RequestDirectives { min_fresh: Some(secs(5)), ..none }, "§5.2.1.3"),
            (
                "min-fresh=5, min-fresh=9",
                RequestDirectives { min_fresh: Some(secs(9)), ..none },
                "§4.2.1",
            ),
            ("min-fresh", RequestDirectives { min_fresh: Some(LONGEST), ..none }, "the safe side"),
            (
                "max-stale",
                RequestDirectives { max_stale: Some(Duration::MAX), ..none },
                "no value: a stale response of any age",
            ),
            ("max-stale=9", RequestDirectives { max_stale: Some(secs(9)), ..none }, "§5.2.1.2"),
            (
                "max-stale, max-stale=9",
                RequestDirectives { max_stale: Some(secs(9)), ..none },
                "least",
            ),
            (
                "max-stale=x",
                RequestDirectives { max_stale: Some(secs(0)), ..none },
                "the safe side",
            ),
            ("max-stale;", RequestDirectives { max_stale: Some(secs(0)), ..none }, "damaged"),
            ("unknown, x=\"y\"", none, "unknown directives are ignored"),
        ] {
            assert_eq!(request(&[line]), expected, "{line}: {why}");
        }
    }

    #[test]
    fn pragma_counts_without_cache_control_only() {
        let mut fields = fields(&PRAGMA, &["x", "No-Cache"]);
        assert!(RequestDirectives::of(&fields).no_cache);
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
        assert!(!RequestDirectives::of(&fields).no_cache, "§5.4: when Cache-Control is absent");
    }

    proptest! {
        #[test]
        fn never_panics(octets in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(line) = HeaderValue::from_bytes(&octets) {
                let fields = HeaderMap::from_iter([(CACHE_CONTROL, line)]);
                RequestDirectives::of(&fields);
                ResponseDirectives::of(&fields, &CACHE_CONTROL);
            }
        }

        #[test]
        fn no_garbage_before_it_hides_a_restriction(garbage in r#"[ -~&&[^"]]{0,20}"#) {
            let line = format!("{garbage},no-store");
            prop_assert!(response(&[&line]).no_store);
        }

        #[test]
        fn delta_seconds_are_digits(text in "[0-9]{1,30}") {
            let expected = text.parse().map_or(LONGEST, |s| Duration::from_secs(s).min(LONGEST));
            prop_assert_eq!(delta_seconds(text.as_bytes()), Some(expected));
        }
    }
}
