//! Which of the configured languages a request prefers (RFC 9110 §12.5.4, RFC 4647 §3.4).
//!
//! Nonsense in `Accept-Language` is no error: what cannot be read is passed over.

use larder_policy::Settings;
use larder_policy::concat;
use larder_policy::sorted;

/// How many ranges of a field are read. Browsers send fewer than ten.
const MOST_RANGES: usize = 32;

/// Longer ranges are passed over. RFC 5646 §4.4.1 finds 35 octets enough for any tag.
const LONGEST_RANGE: usize = 64;

// What is said of wrong settings, beside their values.
const NEEDS: &str = "`default-language` needs `languages`: write `languages = [\"";
const NO_TAG: &str = "`, which is no language tag: write `";
const NOT_LISTED: &str = "`, which `languages` does not list: add it there";

/// The languages that the upstream answers in, as the settings spell them.
#[derive(Debug)]
pub(crate) struct Languages {
    /// The default first; never empty.
    tags: Vec<String>,
}

larder_policy::prepared!(Languages { tags });

impl Languages {
    /// `None` if no languages are configured, or if something is wrong with them.
    pub(crate) fn configure(settings: &mut Settings) -> Option<Self> {
        let tags = settings.texts("languages");
        let default = settings.text("default-language");
        let Some(mut tags) = tags else {
            let default = default?;
            return settings.refuse(concat(&[NEEDS, &default, "\"]`"]));
        };
        if tags.is_empty() {
            return settings.refuse(
                "`languages` is empty: list the languages that the upstream answers in".to_owned(),
            );
        }
        if let Some(tag) = tags.iter().find(|tag| !is_tag(tag)) {
            let meant = tag.replace('_', "-");
            let meant = if is_tag(&meant) { &meant } else { "en` or `de-AT" };
            return settings.refuse(concat(&["`languages` has `", tag, NO_TAG, meant, "`"]));
        }
        let twice = tags.iter().enumerate().find(|(index, tag)| {
            tags.iter().take(*index).any(|before| before.eq_ignore_ascii_case(tag))
        });
        if let Some((_, tag)) = twice {
            return settings.refuse(concat(&["`languages` has `", tag, "` twice: take one out"]));
        }
        if let Some(default) = default {
            let Some(index) = tags.iter().position(|tag| tag.eq_ignore_ascii_case(&default)) else {
                let pieces = ["`default-language` is `", &default, NOT_LISTED];
                return settings.refuse(concat(&pieces));
            };
            if let Some(front) = tags.get_mut(..=index) {
                front.rotate_right(1);
            }
        }
        Some(Self { tags })
    }

    /// The language to answer in. Where nothing fits it is the default: RFC 9110 §12.5.4 lets a
    /// server disregard the field rather than refuse to answer.
    pub(crate) fn choose(&self, accept_language: &str) -> &str {
        let ranges: Vec<Range> =
            accept_language.split(',').take(MOST_RANGES).filter_map(Range::parse).collect();
        // A stable sort: of equal weights the first is preferred.
        let ranges = sorted(ranges, |a, b| b.weight.cmp(&a.weight));
        ranges
            .iter()
            .filter(|range| range.weight > 0)
            .find_map(|range| self.look_up(range, &ranges))
            .or(self.tags.first().map(String::as_str))
            .unwrap_or_default()
    }

    /// RFC 4647 §3.4: the range is shortened from its end until it is one of the tags.
    fn look_up(&self, range: &Range, all: &[Range]) -> Option<&str> {
        if range.tag == "*" {
            // RFC 9110 §12.5.4: `*` stands for the languages that no other range matches.
            let unmatched =
                |tag: &&String| decisive(all, tag).is_some_and(|range| range.tag == "*");
            return self.tags.iter().find(unmatched).map(String::as_str);
        }
        let mut shortened = range.tag;
        loop {
            let found = self.tags.iter().find(|tag| tag.eq_ignore_ascii_case(shortened));
            let is_refused = |tag: &str| decisive(all, tag).is_some_and(|range| range.weight == 0);
            if let Some(tag) = found.filter(|tag| !is_refused(tag)) {
                return Some(tag);
            }
            let (rest, _) = shortened.rsplit_once('-')?;
            // "Single letter or digit subtags are removed as well."
            shortened = match rest.rsplit_once('-') {
                Some((before, single)) if single.len() == 1 => before,
                _ => rest,
            };
        }
    }
}

/// One range of the field with its weight.
#[derive(Debug, PartialEq)]
struct Range<'a> {
    tag: &'a str,
    /// In thousandths; 0 means "not acceptable" (RFC 9110 §12.4.2).
    weight: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (tag, weight) = match text.split_once(';') {
            Some((tag, weight)) => (tag, parse_weight(weight.trim_matches([' ', '\t']))?),
            None => (text, 1000),
        };
        let tag = tag.trim_matches([' ', '\t']);
        let is_range = tag == "*" || (tag.len() <= LONGEST_RANGE && is_tag(tag));
        is_range.then_some(Self { tag, weight })
    }

    /// RFC 4647 §3.3.1: a range matches a tag that is equal or begins with it and a hyphen.
    fn matches(&self, tag: &str) -> bool {
        if self.tag == "*" {
            return true;
        }
        let Some((start, rest)) = tag.split_at_checked(self.tag.len()) else { return false };
        start.eq_ignore_ascii_case(self.tag) && (rest.is_empty() || rest.starts_with('-'))
    }
}

/// The range that decides about a tag: of those that match it the most specific, and of two equal
/// ones the acceptable one.
fn decisive<'a, 'b>(ranges: &'b [Range<'a>], tag: &str) -> Option<&'b Range<'a>> {
    let specificity = |range: &&Range| if range.tag == "*" { 0 } else { range.tag.len() };
    let matching = ranges.iter().filter(|range| range.matches(tag));
    matching.max_by_key(|range| (specificity(range), range.weight))
}

/// RFC 9110 §12.4.2: `q=` and a number from 0 to 1 with at most three digits after the point.
fn parse_weight(text: &str) -> Option<u16> {
    let value = text.strip_prefix("q=").or_else(|| text.strip_prefix("Q="))?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if fraction.len() > 3 {
        return None;
    }
    let mut thousandths = 0;
    let mut digits = fraction.bytes();
    for _ in 0..3 {
        let digit = digits.next().unwrap_or(b'0');
        thousandths = thousandths * 10 + u16::from(digit.checked_sub(b'0').filter(|it| *it < 10)?);
    }
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

/// RFC 4647 §2.1: letters, and then groups of letters and digits, of one to eight each.
fn is_tag(text: &str) -> bool {
    text.split('-').enumerate().all(|(index, subtag)| {
        let is_letter = |octet: u8| octet.is_ascii_alphabetic();
        let is_allowed = |octet: u8| is_letter(octet) || (index > 0 && octet.is_ascii_digit());
        (1..=8).contains(&subtag.len()) && subtag.bytes().all(is_allowed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn languages(tags: &[&str]) -> Languages {
        Languages { tags: tags.iter().map(|tag| (*tag).to_owned()).collect() }
    }

    #[test]
    fn the_preferred_language_is_chosen() {
        let languages = languages(&["en", "de", "fr", "zh-Hant"]);
        for (accept, expected, why) in [
            ("", "en", "no field, or an empty one"),
            ("de", "de", "a language of ours"),
            ("DE", "de", "without regard to case, spelt as configured"),
            ("fr;q=0.5, de;q=0.8", "de", "the larger weight"),
            ("fr, de", "fr", "of equal weights the first"),
            ("fr;q=0.9,de", "de", "no weight is 1"),
            ("de-AT", "de", "the range is shortened"),
            ("de-AT-1996, fr", "de", "shortened before the next range"),
            ("zh-Hant-TW", "zh-Hant", "a tag of several subtags"),
            ("zh-Hant-x-private", "zh-Hant", "a single letter goes with what follows it"),
            ("zh", "en", "a range is not lengthened"),
            ("it, ja", "en", "none of ours"),
            ("it, fr;q=0.1", "fr", "the first that is ours"),
            ("de;q=0, de", "de", "of two equal ranges the acceptable one"),
            ("de;q=0", "en", "not acceptable"),
            ("de-AT, de;q=0, fr;q=0.2", "fr", "not acceptable, even when shortened to it"),
            ("*", "en", "anything: the default"),
            ("en;q=0.5, *;q=0.8", "de", "`*` is what the others do not match"),
            ("en;q=0, *", "de", "`*` is not what is refused"),
            ("*;q=0", "en", "nothing acceptable: the default"),
            ("*;q=0, fr;q=0.1", "fr", "nothing but this one"),
            ("fr;q=0.000, de;q=0.001", "de", "weights have three digits"),
            (" fr ; q=0.3 ,\tde ; q=0.4 ", "de", "white space is allowed"),
            ("fr;Q=0.3, de;Q=0.4", "de", "`q` in either case"),
            ("fr;q=0.3;x=1, de;q=0.2", "de", "what is no weight is passed over"),
            ("fr;q=2, de;q=0.2", "de", "a weight above 1 is none"),
            ("fr;q=1.001, de;q=0.2", "de", "a weight above 1 is none"),
            ("fr;q=-1, de;q=0.2", "de", "a weight below 0 is none"),
            ("fr;q=0.1234, de;q=0.1", "de", "four digits are too many"),
            ("fr;q=, de;q=0.1", "de", "a weight has digits"),
            ("fr;q=1., de;q=0.1", "fr", "no digit need follow the point"),
            ("de_DE, fr;q=0.1", "fr", "`_` does not belong in a range"),
            (",,;;,=,-,de-,q=1,\u{e4}", "en", "nonsense"),
            ("abcdefghi, fr;q=0.1", "fr", "a subtag has eight letters at most"),
        ] {
            assert_eq!(languages.choose(accept), expected, "{why}: `{accept}`");
        }
    }

    #[test]
    fn a_long_field_is_read_in_part() {
        let accept = format!("{}de", "it,".repeat(MOST_RANGES));
        assert_eq!(languages(&["en", "de"]).choose(&accept), "en");
        let accept = format!("{}de", "it,".repeat(MOST_RANGES - 1));
        assert_eq!(languages(&["en", "de"]).choose(&accept), "de");
        let accept = format!("de{}", "-a".repeat(LONGEST_RANGE));
        assert_eq!(languages(&["en", "de"]).choose(&accept), "en");
    }

    #[test]
    fn the_default_comes_first() {
        use larder_policy::Setting;

        let config =
            [Setting::new("languages", ["en", "de", "fr"]), Setting::new("default-language", "FR")];
        let policy: crate::Variants = larder_policy::configure(config).unwrap();
        assert_eq!(policy.languages.unwrap().tags, ["fr", "en", "de"]);
    }
}
