//! What a shared cache may do, once more: simple, slow, and from the RFCs' text alone (RFC 9111,
//! RFC 5861, RFC 8246, and RFC 9213 for a list of one target).
//!
//! It shares no code with `src/`: octets, strings and seconds are all that it knows. Where the RFCs
//! leave a choice, or a field is damaged, it does not decide: an answer is *certain* or it is not, and
//! only the certain ones are compared.

use std::collections::BTreeMap;

/// Lines as they were received: a name in lower case, and a value.
pub(crate) type Lines = Vec<(String, Vec<u8>)>;

/// §1.2.2: what a number becomes that is "greater than the greatest integer it can represent".
const MOST: i128 = 1 << 31;

/// The one field of the target list (RFC 9213 §2.2).
pub(crate) const TARGET: &str = "cdn-cache-control";

/// The fields that the rest of a response depends on.
const ESSENTIAL: [&str; 5] =
    ["cache-control", "content-encoding", "content-range", "content-type", "vary"];

/// What the configuration of the cache says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Config {
    /// The lifetime of what states none.
    pub(crate) ttl: Option<i128>,
    /// §4.2.4: a contract with the origin about stale responses.
    pub(crate) stale_if_error: Option<i128>,
}

/// A response, and when it was asked for and came, in seconds.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) lines: Lines,
    pub(crate) requested: i128,
    pub(crate) received: i128,
}

/// Whether a response may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storing {
    /// It must not be.
    Forbidden(&'static str),
    /// It may be.
    Allowed,
    /// It may be, nothing about it is unusual, and it would be of use.
    Expected,
}

/// What is certain about a stored response. `None` is uncertain.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    received: i128,
    initial_age: Option<i128>,
    /// The least and the most.
    lifetime: (i128, i128),
    no_cache: Option<bool>,
    must_revalidate: Option<bool>,
    immutable: Option<bool>,
    stale_while_revalidate: (i128, i128),
    /// No bounds where it does not say.
    stale_if_error: Option<(i128, i128)>,
    /// The fields that must not be sent to anyone else, and those that must not be sent again
    /// without validation.
    pub(crate) withheld: Option<(Vec<String>, Vec<String>)>,
}

/// What an answer from the cache may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The stored response as it is.
    pub(crate) serve: bool,
    /// The stored response, stale as it is, while it is validated.
    pub(crate) serve_stale: bool,
    /// None of both.
    pub(crate) forward: bool,
}

/// An argument of a directive.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Argument {
    None,
    Token(Vec<u8>),
    /// Without its quotes and backslashes.
    Quoted(Vec<u8>),
}

/// The directives of a message.
#[derive(Clone, Debug, Default)]
struct Directives {
    /// Those that are certain: each stands behind nothing but sound ones in its line.
    known: Vec<(String, Argument)>,
    /// There is nothing else.
    is_whole: bool,
    /// They come from a targeted field.
    is_targeted: bool,
    /// All the text, for what may or may not be a directive.
    text: String,
}

// --- Reading ---------------------------------------------------------------------------------------

pub(crate) fn values<'a>(lines: &'a Lines, name: &str) -> Vec<&'a [u8]> {
    lines.iter().filter(|line| line.0 == name).map(|line| line.1.as_slice()).collect()
}

/// Naively: at the commas outside of quotes. `None` where a quote stays open.
pub(crate) fn split(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut members, mut member) = (Vec::new(), Vec::new());
    let (mut in_quotes, mut escaped) = (false, false);
    for &octet in value {
        if octet == b',' && !in_quotes {
            members.push(std::mem::take(&mut member));
            continue;
        }
        if in_quotes && octet == b'\\' && !escaped {
            escaped = true;
        } else {
            if octet == b'"' && !escaped {
                in_quotes = !in_quotes;
            }
            escaped = false;
        }
        member.push(octet);
    }
    members.push(member);
    (!in_quotes).then(|| members.iter().map(|member| trim(member)).collect())
}

/// The members before the first quote that stays open.
fn split_as_far_as_sound(value: &[u8]) -> (Vec<Vec<u8>>, bool) {
    if let Some(members) = split(value) {
        return (members, true);
    }
    let mut commas = (0..value.len()).rev().filter(|&place| value.get(place) == Some(&b','));
    let sound = commas.find_map(|place| split(value.get(..place)?));
    (sound.unwrap_or_default(), false)
}

fn trim(octets: &[u8]) -> Vec<u8> {
    let is_space = |octet: &u8| *octet == b' ' || *octet == b'\t';
    let start = octets.iter().position(|octet| !is_space(octet)).unwrap_or(octets.len());
    let end = octets.iter().rposition(|octet| !is_space(octet)).map_or(start, |last| last + 1);
    octets.get(start..end).unwrap_or_default().to_vec()
}

/// RFC 9110 §5.6.2.
fn is_token(octets: &[u8]) -> bool {
    let is_tchar = |c: &u8| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char::from(*c));
    !octets.is_empty() && octets.iter().all(is_tchar)
}

/// §5.2: `token [ "=" ( token / quoted-string ) ]`.
fn directive(member: &[u8]) -> Option<(String, Argument)> {
    let equals = member.iter().position(|octet| *octet == b'=');
    let (name, argument) = match equals {
        None => (member, Argument::None),
        Some(place) => {
            let argument = member.get(place + 1..)?;
            let argument = if is_token(argument) {
                Argument::Token(argument.to_vec())
            } else {
                Argument::Quoted(unquoted(argument)?)
            };
            (member.get(..place)?, argument)
        }
    };
    is_token(name).then(|| (String::from_utf8_lossy(name).to_lowercase(), argument))
}

/// RFC 9110 §5.6.4: what stands between the quotes. `None`: it is no quoted string.
fn unquoted(argument: &[u8]) -> Option<Vec<u8>> {
    let inner = argument.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let (mut found, mut octets) = (Vec::new(), inner.iter());
    while let Some(octet) = octets.next() {
        match octet {
            b'"' => return None,
            b'\\' => found.push(*octets.next()?),
            _ => found.push(*octet),
        }
    }
    Some(found)
}

/// §1.2.2, cut to 2^31. `None`: no number.
fn delta_seconds(digits: &[u8]) -> Option<i128> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value =
        digits.iter().fold(0, |sum: i128, digit| (sum * 10 + i128::from(digit - b'0')).min(MOST));
    Some(value)
}

impl Directives {
    fn of(lines: &Lines, name: &str) -> Self {
        let mut found = Self { is_whole: true, ..Self::default() };
        for value in values(lines, name) {
            found.text.push_str(&String::from_utf8_lossy(value).to_lowercase());
            found.text.push(',');
            let (members, is_sound) = split_as_far_as_sound(value);
            let known: Vec<_> = members.iter().filter(|member| !member.is_empty()).collect();
            let sound: Vec<_> = known.iter().map_while(|member| directive(member)).collect();
            found.is_whole &= is_sound && sound.len() == known.len();
            found.known.extend(sound);
        }
        found
    }

    /// RFC 9213 §2.2: "the first valid, non-empty" field of the target list, else `Cache-Control`.
    fn of_response(lines: &Lines) -> Self {
        match dictionary(&values(lines, TARGET)) {
            Dictionary::Absent => Self::of(lines, "cache-control"),
            Dictionary::Uncertain => {
                let text = String::from_utf8_lossy(&values(lines, TARGET).join(&b","[..])).into();
                let more = Self::of(lines, "cache-control").text;
                let text: String = text;
                Self { text: text.to_lowercase() + "," + &more, ..Self::default() }
            }
            Dictionary::Members(known) => {
                let text = known.iter().fold(String::new(), |text, (name, _)| text + name + ",");
                Self { known, is_whole: true, is_targeted: true, text }
            }
        }
    }

    /// Surely, surely not, or uncertain.
    fn has(&self, name: &str) -> Option<bool> {
        if self.known.iter().any(|(known, _)| known == name) {
            return Some(true);
        }
        (self.is_whole || !self.text.contains(name)).then_some(false)
    }

    /// The arguments with which it is there, as numbers.
    fn numbers(&self, name: &str) -> Vec<Option<i128>> {
        let named = self.known.iter().filter(|(known, _)| known == name);
        let number = |argument: &Argument| match argument {
            Argument::None => None,
            Argument::Token(text) | Argument::Quoted(text) => delta_seconds(text),
        };
        named.map(|(_, argument)| number(argument)).collect()
    }

    /// The least and the most that it may mean. §4.2.1: of several "either the first occurrence
    /// should be used or the response should be considered stale", and one that is no number is best
    /// taken as stale. `None`: it is not there.
    fn bounds(&self, name: &str) -> Option<(i128, i128)> {
        let numbers = self.numbers(name);
        let first = numbers.first()?.unwrap_or(0);
        Some((if numbers.len() == 1 { first } else { 0 }, first))
    }

    /// The arguments of a directive that may be qualified by field names (§5.2.2.4, §5.2.2.7): whether
    /// it surely is unqualified, surely is not, and the names.
    fn qualified(&self, name: &str) -> (Option<bool>, Vec<String>) {
        let mut names = Vec::new();
        let mut unqualified = self.has(name).map(|_| false);
        for (_, argument) in self.known.iter().filter(|(known, _)| known == name) {
            let listed = match argument {
                Argument::Quoted(text) => text.split(|c| *c == b',').map(trim).collect(),
                _ => Vec::new(),
            };
            let listed: Vec<_> = listed.into_iter().filter(|name| !name.is_empty()).collect();
            match argument {
                Argument::None => unqualified = Some(true),
                // Names that no field can have: nothing can be held back by them.
                Argument::Quoted(_) if listed.is_empty() || !listed.iter().all(|n| is_token(n)) => {
                    unqualified = Some(true);
                }
                Argument::Quoted(_) => {
                    let listed = listed.iter().map(|n| String::from_utf8_lossy(n).to_lowercase());
                    names.extend(listed);
                    // Without these the rest would mean something else: a cache may well take
                    // that for an unqualified one.
                    let is_essential = |name: &String| ESSENTIAL.contains(&&**name);
                    if unqualified != Some(true) && names.iter().any(is_essential) {
                        unqualified = None;
                    }
                }
                // "a sender SHOULD NOT generate the token form".
                Argument::Token(_) if unqualified != Some(true) => unqualified = None,
                Argument::Token(_) => {}
            }
        }
        (unqualified, names)
    }
}

/// A targeted field.
enum Dictionary {
    /// Not there, empty, or no dictionary: to be ignored (RFC 9213 §2.1).
    Absent,
    /// Beyond the part of RFC 9651 that this file knows.
    Uncertain,
    Members(Vec<(String, Argument)>),
}

/// Members without parameters, whose values are integers, strings or booleans.
fn dictionary(lines: &[&[u8]]) -> Dictionary {
    let joined = lines.join(&b", "[..]);
    if !joined.is_ascii() || joined.iter().any(|octet| b";().:\t".contains(octet)) {
        return Dictionary::Uncertain;
    }
    let Some(members) = split(&joined) else { return Dictionary::Absent };
    if members.len() == 1 && members.iter().all(Vec::is_empty) {
        return Dictionary::Absent;
    }
    let mut found: Vec<(String, Argument)> = Vec::new();
    let mut is_certain = true;
    for member in members {
        let text = String::from_utf8_lossy(&member).into_owned();
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text.as_str(), None),
        };
        let starts = key.starts_with(|c: char| c.is_ascii_lowercase() || c == '*');
        let is_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-*".contains(c);
        // RFC 9651 §4.2.3.3; a member that is missing, too, fails there.
        if !starts || !key.chars().all(is_key) {
            return Dictionary::Absent;
        }
        let takes_number = key.starts_with("stale-") || key.ends_with("age");
        let takes_names = key == "private" || key == "no-cache";
        found.retain(|(known, _)| known != key);
        let argument = match value {
            None | Some("?1") if !takes_number => Argument::None,
            // RFC 9213 §2.1: of another type than the directive's, so not there.
            None | Some("?0" | "?1") => continue,
            Some(value) => match bare(value) {
                Bare::Invalid => return Dictionary::Absent,
                Bare::Integer if takes_number => Argument::Token(value.as_bytes().to_vec()),
                Bare::String(text) if takes_names => Argument::Quoted(text),
                // What a restriction with a value of another type means is nowhere said.
                Bare::Integer | Bare::String(_) | Bare::Other => {
                    is_certain = false;
                    continue;
                }
            },
        };
        found.push((key.to_owned(), argument));
    }
    if is_certain { Dictionary::Members(found) } else { Dictionary::Uncertain }
}

enum Bare {
    Integer,
    String(Vec<u8>),
    Other,
    Invalid,
}

/// RFC 9651 §4.2.3.1, in part.
fn bare(value: &str) -> Bare {
    let digits = value.strip_prefix('-').unwrap_or(value);
    if digits.starts_with(|c: char| c.is_ascii_digit()) {
        let is_integer = digits.len() <= 15 && digits.chars().all(|c| c.is_ascii_digit());
        return if is_integer { Bare::Integer } else { Bare::Invalid };
    }
    let Some(inner) = value.strip_prefix('"') else {
        // A token, or something that fails.
        return Bare::Other;
    };
    let Some(inner) = inner.strip_suffix('"') else { return Bare::Invalid };
    let (mut text, mut characters) = (String::new(), inner.chars());
    while let Some(character) = characters.next() {
        match character {
            '"' => return Bare::Invalid,
            '\\' => match characters.next() {
                Some(escaped @ ('"' | '\\')) => text.push(escaped),
                _ => return Bare::Invalid,
            },
            _ => text.push(character),
        }
    }
    Bare::String(text.into_bytes())
}

// --- Dates -----------------------------------------------------------------------------------------

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A date field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Date {
    Absent,
    At(i128),
    Invalid,
    /// Several lines, or a form that is not written any more.
    Uncertain,
}

fn is_leap(year: i128) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Day by day, month by month, year by year.
fn civil(mut days: i128) -> (i128, usize, i128) {
    let mut year = 1970;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let mut month = 0;
    for length in months(year) {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

fn months(year: i128) -> [i128; 12] {
    let february = if is_leap(year) { 29 } else { 28 };
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

/// RFC 9110 §5.6.7, an IMF-fixdate; for the years 1970 to 9999.
pub(crate) fn imf_fixdate(seconds: i128) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let weekday = usize::try_from((days + 4) % 7).unwrap_or_default();
    let (weekday, month) = (DAYS.get(weekday).unwrap_or(&""), MONTHS.get(month).unwrap_or(&""));
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Of a field that stands once. An IMF-fixdate is one exactly if writing it again gives the same.
fn date(lines: &Lines, name: &str) -> Date {
    let values = values(lines, name);
    let value = match values.as_slice() {
        [] => return Date::Absent,
        [value] => String::from_utf8_lossy(value).into_owned(),
        _ => return Date::Uncertain,
    };
    let words: Vec<_> = value.split([' ', ':']).collect();
    let seconds = if let [_, day, month, year, hour, minute, second, "GMT"] = words.as_slice() {
        seconds(year, month, day, [hour, minute, second])
    } else {
        None
    };
    match seconds {
        Some(seconds) if imf_fixdate(seconds) == value => Date::At(seconds),
        // The obsolete forms, days and seconds that there may or may not be, and names in another case:
        // "a cache recipient SHOULD match the field value case-insensitively" (RFC 9111 §4.2).
        _ if is_about_a_month(&value) => Date::Uncertain,
        _ => Date::Invalid,
    }
}

fn is_about_a_month(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    MONTHS.iter().any(|month| value.contains(&month.to_ascii_lowercase()))
}

fn seconds(year: &str, month: &str, day: &str, time: [&str; 3]) -> Option<i128> {
    let number = |text: &str| delta_seconds(text.as_bytes());
    let (year, day) = (number(year)?, number(day)?);
    let month = MONTHS.iter().position(|name| *name == month)?;
    if !(1970..=9999).contains(&year) {
        return None;
    }
    let years: i128 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let months: i128 = months(year).iter().take(month).sum();
    let time = time.iter().try_fold(0, |sum, part| Some(sum * 60 + number(part)?))?;
    Some((years + months + day - 1) * 86_400 + time)
}

/// RFC 9110 §6.6.1: without `Date`, a response was generated when it came. `None`: uncertain.
fn generated(response: &Response) -> Option<i128> {
    match date(&response.lines, "date") {
        Date::At(seconds) => Some(seconds),
        Date::Absent | Date::Invalid => Some(response.received),
        Date::Uncertain => None,
    }
}

// --- Storing, §3 -----------------------------------------------------------------------------------

/// The statuses that RFC 9110 §15 defines, without the 1xx.
fn is_known(status: u16) -> bool {
    let unknown = [306, 418, 419, 420, 423, 424, 425];
    let ranges = [200..=206, 300..=308, 400..=426, 500..=505];
    ranges.iter().any(|range| range.contains(&status)) && !unknown.contains(&status)
}

/// RFC 9110 §15.1: "defined as heuristically cacheable".
fn is_heuristically_cacheable(status: u16) -> bool {
    [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501].contains(&status)
}

pub(crate) fn storing(
    method: &str,
    request: &Lines,
    response: &Response,
    config: &Config,
) -> Storing {
    let directives = Directives::of_response(&response.lines);
    let sure = |name| directives.has(name) == Some(true);
    let surely_not = |name| directives.has(name) == Some(false);
    let status = response.status;

    let is_understood = is_known(status) && !surely_not("must-understand");
    let has_private = directives.qualified("private").0 == Some(true);
    // A permission is one only if it is sound.
    let has_permission = directives.known.iter().any(|(name, argument)| match name.as_str() {
        "public" | "must-revalidate" => *argument == Argument::None,
        "s-maxage" => directives.numbers(name).iter().any(Option::is_some),
        _ => false,
    });
    let authorized = ["public", "must-revalidate", "s-maxage"];
    let is_authorized =
        has_permission || !directives.is_whole && !authorized.into_iter().all(surely_not);
    let lifetimes = ["public", "max-age", "s-maxage", "private"];
    let has_expires = !values(&response.lines, "expires").is_empty() && !directives.is_targeted;
    let prohibitions = [
        // "the request method is understood by the cache": what is stored answers GET only.
        (method != "GET", "a method that is not stored"),
        (Directives::of(request, "cache-control").has("no-store") == Some(true), "§5.2.1.5"),
        (status < 200, "§3: the response status code is final"),
        (status == 304, "§3: a 304 is no response to store"),
        (status == 206, "§3.3: parts are not combined"),
        (sure("no-store") && !is_understood, "§5.2.2.5"),
        (sure("must-understand") && !is_known(status), "§5.2.2.3"),
        (has_private, "§5.2.2.7"),
        (!values(request, "authorization").is_empty() && !is_authorized, "§3.5"),
        (
            lifetimes.into_iter().all(surely_not)
                && !has_expires
                && !is_heuristically_cacheable(status),
            "§3: at least one of the following",
        ),
        (matches_nothing(&response.lines), "§4.1: always fails to match"),
        (!values(&response.lines, "set-cookie").is_empty(), "stricter than §7.3"),
    ];
    if let Some((_, why)) = prohibitions.iter().find(|(applies, _)| *applies) {
        return Storing::Forbidden(why);
    }

    let stored = stored(response, config);
    let is_explicit = directives.has("max-age") == Some(true)
        || directives.has("s-maxage") == Some(true)
        || has_expires;
    let is_plain = directives.is_whole
        && is_explicit
        && status < 600
        && ["private", "no-store", "must-understand"].into_iter().all(surely_not)
        && values(request, "authorization").is_empty()
        && Directives::of(request, "cache-control").has("no-store") == Some(false)
        && matches!(vary(&response.lines), Vary::Nominated(names) if names.len() <= 16);
    let is_fresh = stored.initial_age.is_some_and(|age| stored.lifetime.0 > age);
    let etags = values(&response.lines, "etag");
    let has_validator = etags.len() == 1 && etags.iter().all(|etag| !etag.is_empty());
    if is_plain && (has_validator || is_fresh && stored.no_cache == Some(false)) {
        Storing::Expected
    } else {
        Storing::Allowed
    }
}

/// What is known of a response once it is stored.
pub(crate) fn stored(response: &Response, config: &Config) -> Stored {
    let directives = Directives::of_response(&response.lines);
    let (no_cache, unvalidated) = directives.qualified("no-cache");
    let withheld = (directives.qualified("private").1, unvalidated);
    let no_cache = if directives.is_whole || no_cache == Some(true) { no_cache } else { None };
    // §5.2.2.10: s-maxage "incorporates the semantics of the proxy-revalidate response directive".
    let revalidates = ["must-revalidate", "proxy-revalidate", "s-maxage"];
    let must_revalidate = if revalidates.iter().any(|name| directives.has(name) == Some(true)) {
        Some(true)
    } else {
        directives.is_whole.then_some(false)
    };
    let window = |name| {
        let absent = if directives.is_whole { None } else { Some((0, MOST)) };
        if directives.is_whole { directives.bounds(name) } else { absent }
    };
    let immutable = if directives.is_whole {
        let arguments = directives.known.iter().filter(|(name, _)| name == "immutable");
        let bare: Vec<_> = arguments.map(|(_, argument)| *argument == Argument::None).collect();
        if bare.iter().all(|bare| *bare) { Some(!bare.is_empty()) } else { None }
    } else {
        None
    };
    Stored {
        received: response.received,
        initial_age: initial_age(response),
        lifetime: lifetime(response, &directives, config).unwrap_or((0, MOST)),
        no_cache,
        must_revalidate,
        immutable,
        stale_while_revalidate: window("stale-while-revalidate").unwrap_or_default(),
        stale_if_error: window("stale-if-error"),
        withheld: directives.is_whole.then_some(withheld),
    }
}

/// §4.2.1, the least and the most; `None` is uncertain.
fn lifetime(response: &Response, directives: &Directives, config: &Config) -> Option<(i128, i128)> {
    if !directives.is_whole {
        return None;
    }
    let stated = directives.bounds("s-maxage").or_else(|| directives.bounds("max-age"));
    if stated.is_some() {
        return stated;
    }
    let generated = generated(response)?;
    let span = |to: i128| (to - generated).clamp(0, MOST);
    if !directives.is_targeted {
        match date(&response.lines, "expires") {
            Date::At(expires) => return Some((span(expires), span(expires))),
            // §5.3: "MUST interpret invalid date formats [...] as representing a time in the past".
            Date::Invalid => return Some((0, 0)),
            Date::Uncertain => return None,
            Date::Absent => {}
        }
    }
    // §4.2.2: "no more than some fraction of the interval since that time", for which 10 % is typical.
    let guess = match date(&response.lines, "last-modified") {
        Date::At(modified) => (generated - modified).clamp(0, MOST * 10) / 10,
        Date::Absent | Date::Invalid => 0,
        Date::Uncertain => return None,
    };
    let may_guess =
        is_heuristically_cacheable(response.status) || directives.has("public") == Some(true);
    let most = if may_guess { guess.max(config.ttl.unwrap_or(0)) } else { 0 };
    Some((0, most.min(MOST)))
}

/// §4.2.3, `corrected_initial_age`.
fn initial_age(response: &Response) -> Option<i128> {
    // §5.1: of a list the first member; what is no number is ignored.
    // §5.1: the first member of the list; several lines are one, and empty members are none
    // (RFC 9110 §5.3, §5.6.1.2).
    let lines = values(&response.lines, "age");
    let members = lines.iter().flat_map(|line| line.split(|c| *c == b','));
    let age = members.map(trim).find(|member| !member.is_empty());
    let age_value = age.and_then(|age| delta_seconds(&age)).unwrap_or(0);
    let apparent_age = (response.received - generated(response)?).max(0);
    let response_delay = (response.received - response.requested).max(0);
    Some(apparent_age.max(age_value + response_delay))
}

// --- Vary, §4.1 ------------------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Vary {
    Any,
    Nominated(Vec<String>),
    Uncertain,
}

pub(crate) fn vary(lines: &Lines) -> Vary {
    let mut names = Vec::new();
    for value in values(lines, "vary") {
        for member in value.split(|octet| *octet == b',').map(trim) {
            if member == b"*" {
                return Vary::Any;
            }
            if !member.is_empty() {
                names.push(member);
            }
        }
    }
    if names.iter().all(|name| is_token(name)) {
        Vary::Nominated(
            names.iter().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect(),
        )
    } else {
        Vary::Uncertain
    }
}

/// Whether a response matches no other request. Stricter than §4.1: neither does one that nominates what the gateway
/// says anew, whatever its client says.
fn matches_nothing(lines: &Lines) -> bool {
    let is_own = |name: &String| name == "forwarded" || name == "x-forwarded-for";
    match vary(lines) {
        Vary::Any => true,
        Vary::Nominated(names) => names.iter().any(is_own),
        Vary::Uncertain => false,
    }
}

/// Whether the presented request surely matches, surely does not, or neither.
pub(crate) fn matches(vary: &Vary, original: &Lines, presented: &Lines) -> Option<bool> {
    let Vary::Nominated(names) = vary else { return Some(false).filter(|_| *vary == Vary::Any) };
    let mut is_same = true;
    for name in names {
        let (one, other) = (values(original, name), values(presented, name));
        if one == other {
            continue;
        }
        is_same = false;
        // "If [...] a nominated field is absent from a request, it can only match another request if
        // it is also absent there."
        if one.is_empty() != other.is_empty() {
            return Some(false);
        }
        if ["accept", "accept-charset", "accept-encoding", "accept-language"].contains(&&**name) {
            // "normalizing both header field values in a way that is known to have identical
            // semantics": what is wanted, and how much.
            if let (Some(one), Some(other)) = (weights(&one), weights(&other))
                && one != other
            {
                return Some(false);
            }
            continue;
        }
        // "adding or removing whitespace", "combining multiple header field lines": what is left of
        // a value without all of that has to be the same for any reading of its syntax.
        let octets = |lines: &[&[u8]]| {
            let octets = lines.concat().into_iter();
            octets.filter(|octet| !b" \t,;".contains(octet)).collect::<Vec<_>>()
        };
        if octets(&one) != octets(&other) {
            return Some(false);
        }
    }
    is_same.then_some(true)
}

/// The members of a list of wishes (RFC 9110 §12.4.2, §12.5), in thousandths; `None` where they are more
/// than a name and a weight, or one name stands twice.
fn weights(lines: &[&[u8]]) -> Option<BTreeMap<String, i128>> {
    let mut found = BTreeMap::new();
    for member in lines.join(&b","[..]).split(|octet| *octet == b',').map(trim) {
        let member = String::from_utf8_lossy(&member).to_lowercase();
        if member.is_empty() {
            continue;
        }
        let (name, weight) = match member.split_once(';') {
            None => (member.as_str(), 1000),
            Some((name, weight)) => {
                let weight = weight.trim().strip_prefix("q=")?;
                let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
                let thousandths = format!("{fraction:0<3}");
                if fraction.len() > 3 {
                    return None;
                }
                let whole = delta_seconds(whole.as_bytes())?;
                (name.trim(), whole * 1000 + delta_seconds(thousandths.as_bytes())?)
            }
        };
        // `x-gzip` is another name for `gzip`.
        if !is_token(name.replace('/', "").as_bytes()) || name.starts_with("x-") || weight > 1000 {
            return None;
        }
        if found.insert(name.to_owned(), weight).is_some() {
            return None;
        }
    }
    Some(found)
}

// --- Reuse, §4 -------------------------------------------------------------------------------------

/// What a request asks of caches, at its loosest and at its strictest.
struct Asked {
    no_cache: bool,
    max_age: (Option<i128>, Option<i128>),
    min_fresh: (i128, i128),
    /// `None`: no stale response; §5.2.1.2: without a number, one of any age.
    max_stale: Option<i128>,
    stale_if_error: Option<i128>,
    is_whole: bool,
    is_empty: bool,
}

impl Asked {
    fn of(request: &Lines) -> Self {
        let found = Directives::of(request, "cache-control");
        let is_empty = values(request, "cache-control").is_empty();
        let pragma = Directives::of(request, "pragma");
        // §5.4: where there is no Cache-Control.
        let has_pragma = is_empty && pragma.has("no-cache") == Some(true);
        let ages = found.numbers("max-age");
        let least = found.numbers("min-fresh");
        let loosest = |name: &str| {
            let numbers = found.numbers(name);
            if !found.is_whole && found.text.contains(name) {
                return Some(i128::MAX);
            }
            numbers.iter().map(|number| number.unwrap_or(0)).max()
        };
        let is_bare = found.known.contains(&("max-stale".to_owned(), Argument::None));
        let max_stale = loosest("max-stale");
        Self {
            no_cache: found.has("no-cache") == Some(true) || has_pragma,
            max_age: (
                if ages.contains(&None) { None } else { ages.iter().copied().flatten().max() },
                ages.iter().map(|age| age.unwrap_or(0)).min(),
            ),
            min_fresh: (
                least.iter().map(|least| least.unwrap_or(0)).min().unwrap_or(0),
                least.iter().map(|least| least.unwrap_or(i128::MAX)).max().unwrap_or(0),
            ),
            max_stale: if is_bare { Some(i128::MAX) } else { max_stale },
            stale_if_error: loosest("stale-if-error"),
            is_whole: found.is_whole && pragma.is_whole,
            is_empty: is_empty && values(request, "pragma").is_empty(),
        }
    }
}

impl Stored {
    /// §4.2.3, `current_age`.
    pub(crate) fn age(&self, now: i128) -> Option<i128> {
        Some(self.initial_age? + (now - self.received).max(0))
    }

    /// The least and the most seconds of freshness left.
    pub(crate) fn ttl(&self, now: i128) -> Option<(i128, i128)> {
        let age = self.age(now)?;
        Some((self.lifetime.0 - age, self.lifetime.1 - age))
    }

    /// What may answer a request. An invalidated response counts as stale, and no client decides.
    pub(crate) fn answer(&self, request: &Lines, is_invalidated: bool, now: i128) -> Answer {
        let asked = Asked::of(request);
        let (least, most) = self.lifetime;
        // Where the age is uncertain, it may be anything.
        let (youngest, oldest) = self.age(now).map_or((0, i128::MAX), |age| (age, age));

        let may_use = self.may_use(&asked, youngest);
        let may_be_stale = self.must_revalidate != Some(true);
        let staleness = (youngest - most).max(0);
        let is_welcome = asked.max_stale.is_some_and(|limit| staleness <= limit);
        let serve = may_use && !is_invalidated && (youngest < most || may_be_stale && is_welcome);

        let window = self.stale_while_revalidate;
        let serve_stale = may_use && may_be_stale && window.1 > 0 && staleness <= window.1;

        // RFC 9111 leaves it to a cache whether it reuses what it may; this one is to do it.
        let is_plain = asked.is_whole && !asked.no_cache && self.no_cache == Some(false);
        let must_serve = is_plain
            && !is_invalidated
            && oldest < least
            // RFC 8246 §2: "Clients SHOULD NOT issue a conditional request", nor should caches.
            && (self.immutable == Some(true)
                || asked.max_age.1.is_none_or(|limit| limit > 0 && oldest <= limit))
            && least - oldest >= asked.min_fresh.1;
        let must_serve_stale = is_plain
            && asked.is_empty
            && self.must_revalidate == Some(false)
            && window.0 > 0
            && oldest < i128::MAX
            && (oldest - least).max(0) <= window.0;
        Answer {
            serve,
            serve_stale: serve_stale && !must_serve,
            forward: !must_serve && !must_serve_stale,
        }
    }

    /// Whether a stored response may be served because the origin is in trouble: a status that it
    /// answered with, or none at all. May it, and is it to be?
    pub(crate) fn in_trouble(
        &self,
        request: &Lines,
        status: Option<u16>,
        config: &Config,
        now: i128,
    ) -> (bool, bool) {
        let asked = Asked::of(request);
        let stated = |own: Option<i128>| {
            [own, asked.stale_if_error, config.stale_if_error].into_iter().flatten().max()
        };
        let widest = stated(self.stale_if_error.map(|bounds| bounds.1));
        let narrowest = stated(self.stale_if_error.map(|bounds| bounds.0));
        let (widest, narrowest) = match status {
            // §4.2.4 knows no bound here; this cache has one.
            None => (Some(widest.unwrap_or(300).max(300)), narrowest.or(Some(300))),
            // RFC 5861 §4
            Some(500 | 502 | 503 | 504) => (widest, narrowest),
            Some(_) => (None, None),
        };
        let (youngest, oldest) = self.age(now).map_or((0, i128::MAX), |age| (age, age));
        let is_fresh = youngest < self.lifetime.1;
        let may = self.may_use(&asked, youngest)
            && widest.is_some_and(|window| youngest - self.lifetime.1 <= window)
            && (is_fresh || self.must_revalidate != Some(true));
        let must = asked.is_empty
            && oldest < i128::MAX
            && self.no_cache == Some(false)
            && self.must_revalidate == Some(false)
            && narrowest.is_some_and(|window| window > 0 && oldest - self.lifetime.0 <= window);
        (may, may && must)
    }

    /// What forbids any use, at its loosest.
    fn may_use(&self, asked: &Asked, age: i128) -> bool {
        let most = self.lifetime.1;
        let is_fresh = age < most;
        // RFC 8246 §2: fresh and immutable, it need not be validated.
        let excuses = is_fresh && self.immutable != Some(false);
        let is_too_old = asked.max_age.0.is_some_and(|limit| age > limit) && !excuses;
        let is_too_late = (most - age).max(0) < asked.min_fresh.0;
        self.no_cache != Some(true) && !asked.no_cache && !is_too_old && !is_too_late
    }
}

// --- Validation, §4.3 ------------------------------------------------------------------------------

/// §4.3.2: whether a stored 200 is answered by a 304. `None`: uncertain.
pub(crate) fn not_modified(request: &Lines, stored: &Lines) -> Option<bool> {
    let asked = values(request, "if-none-match");
    let own = values(stored, "etag");
    let [own] = own.as_slice() else { return None };
    if asked.is_empty() || !is_entity_tag(own) {
        return None;
    }
    let mut members = Vec::new();
    for line in asked {
        members.extend(line.split(|octet| *octet == b',').map(trim));
    }
    if members == [b"*".to_vec()] {
        return Some(true);
    }
    // With a comma in a tag, pieces of it are none.
    if !members.iter().all(|member| is_entity_tag(member)) {
        return None;
    }
    // RFC 9110 §8.8.3.2, weak comparison.
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    Some(members.iter().any(|member| opaque(member) == opaque(own)))
}

/// RFC 9110 §8.8.3.
fn is_entity_tag(tag: &[u8]) -> bool {
    let quoted = tag.strip_prefix(b"W/").unwrap_or(tag);
    let inner = quoted.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    inner.is_some_and(|inner| inner.iter().all(|octet| *octet > b' ' && *octet != b'"'))
}

/// §4.3.4: whether a 304 speaks of a stored response. `None`: uncertain.
pub(crate) fn speaks_of(stored: &Lines, not_modified: &Lines) -> Option<bool> {
    let (own, named) = (values(stored, "etag"), values(not_modified, "etag"));
    match (own.as_slice(), named.as_slice()) {
        ([own], [named]) if is_entity_tag(own) && is_entity_tag(named) => {
            let is_weak = named.starts_with(b"W/");
            let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
            Some(if is_weak { opaque(own) == opaque(named) } else { own == named })
        }
        (_, []) if values(not_modified, "last-modified").is_empty() => Some(true),
        _ => None,
    }
}

/// §3.2: the stored fields with those of a 304 in their place. The stored `Date` and `Age` told of
/// another message.
pub(crate) fn freshened(stored: &Lines, not_modified: &Lines) -> Lines {
    let is_replaced = |name: &str| {
        ["date", "age"].contains(&name) || not_modified.iter().any(|line| line.0 == name)
    };
    let mut lines: Lines = stored.iter().filter(|line| !is_replaced(&line.0)).cloned().collect();
    lines.extend(not_modified.iter().cloned());
    lines
}
