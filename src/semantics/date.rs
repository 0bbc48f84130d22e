//! HTTP dates (RFC 9110 §5.6.7), as strict in reading as the RFC asks, but in any case of letters,
//! which RFC 9111 §4.2 wants of caches.
//!
//! Two-digit years of the obsolete form are read as 1970 to 2069: a fixed window needs no clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{DATE, HeaderMap, HeaderName, HeaderValue};

/// Reads an HTTP date in any of its three forms; none if it is not one. The zone must be `GMT`, and
/// the day of the week must be right.
pub fn parse(value: &HeaderValue) -> Option<SystemTime> {
    let text = value.to_str().ok()?;
    let date = httpdate::parse_http_date(text);
    date.or_else(|_| httpdate::parse_http_date(&in_case_of_the_grammar(text))).ok()
}

/// Names with one capital, except for `GMT`.
fn in_case_of_the_grammar(text: &str) -> String {
    let mut within_a_word = false;
    let letters = text.chars().map(|letter| {
        let begins = !std::mem::replace(&mut within_a_word, letter.is_ascii_alphabetic());
        if begins { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
    });
    letters.collect::<String>().replace("Gmt", "GMT")
}

/// Writes a time as an IMF-fixdate. Times outside of the years 1970 to 9999 become the nearest one
/// within.
pub fn format(time: SystemTime) -> HeaderValue {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
    let date = httpdate::fmt_http_date(UNIX_EPOCH + since_epoch);
    HeaderValue::try_from(date).unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// The date in a field that may stand only once; none if it is absent, repeated or not a date.
pub(super) fn only(fields: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    let mut lines = fields.get_all(name).iter();
    let date = parse(lines.next()?)?;
    lines.next().is_none().then_some(date)
}

/// When a response was generated: its `Date`, or, where that says nothing, when it was received
/// (RFC 9110 §6.6.1).
pub(super) fn generated(fields: &HeaderMap, received: SystemTime) -> SystemTime {
    only(fields, DATE).unwrap_or(received)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_three_forms_and_nothing_else() {
        let nov_6_1994 = Some(UNIX_EPOCH + Duration::from_secs(784_111_777));
        for (text, expected, why) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", nov_6_1994, "IMF-fixdate"),
            ("Sunday, 06-Nov-94 08:49:37 GMT", nov_6_1994, "obsolete RFC 850 format"),
            ("Sun Nov  6 08:49:37 1994", nov_6_1994, "ANSI C's asctime() format"),
            ("Sun, 06 Nov 1994 08:49:37 UTC", None, "GMT is the only zone"),
            ("Sun, 06 Nov 1994 08:49:37 +0000", None, "no numeric zone"),
            ("Sun, 06 Nov 1994 08:49:37 gmt", nov_6_1994, "SHOULD match case-insensitively"),
            ("sUN, 06 NOV 1994 08:49:37 GMT", nov_6_1994, "SHOULD match case-insensitively"),
            ("sunday, 06-nov-94 08:49:37 Gmt", nov_6_1994, "SHOULD match case-insensitively"),
            ("SUN NOV  6 08:49:37 1994", nov_6_1994, "SHOULD match case-insensitively"),
            ("Sun, 06 Nov 1994 08:49:37 EST", None, "SHOULD consider … invalid"),
            ("Sun, 6 Nov 1994 08:49:37 GMT", None, "two digits for the day"),
            ("Sun,  06 Nov 1994 08:49:37 GMT", None, "no additional white space"),
            ("Mon, 06 Nov 1994 08:49:37 GMT", None, "it was a Sunday"),
            ("Sun, 31 Nov 1994 08:49:37 GMT", None, "no such day"),
            ("0", None, "a number is no date"),
            ("", None, "empty"),
        ] {
            assert_eq!(parse(&HeaderValue::from_static(text)), expected, "{text}: {why}");
        }
    }

    #[test]
    fn times_that_have_no_date_become_the_nearest_one() {
        let first = UNIX_EPOCH - Duration::from_secs(5);
        assert_eq!(format(first), "Thu, 01 Jan 1970 00:00:00 GMT");
        let last = UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(format(last), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    proptest! {
        #[test]
        fn never_panics(octets in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = HeaderValue::from_bytes(&octets) {
                parse(&value);
            }
        }

        #[test]
        fn what_is_written_can_be_read(seconds in 0_u64..253_402_300_800) {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            prop_assert_eq!(parse(&format(time)), Some(time));
        }
    }
}
