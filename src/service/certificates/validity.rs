//! From when to when a certificate is valid (RFC 5280 §4.1.2.5), read from its DER. What verifies certificates
//! here does not tell.
//!
//! Never fails: a certificate that is read otherwise than this expects has no validity.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Both moments belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
}

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `[0] EXPLICIT Version`, which one of version 1 has not.
const VERSION: u8 = 0xa0;

impl Validity {
    /// Of a certificate in DER.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = of_kind(SEQUENCE, certificate)?;
        let (body, _) = of_kind(SEQUENCE, certificate)?;
        let (kind, _, behind) = element(body)?;
        let mut rest = if kind == VERSION { behind } else { body };
        // Its serial number, the kind of its signature, and its issuer.
        for _ in 0..3 {
            (_, _, rest) = element(rest)?;
        }
        let (validity, _) = of_kind(SEQUENCE, rest)?;
        let (from, rest) = time(validity)?;
        let (until, _) = time(rest)?;
        Some(Self { from, until })
    }
}

/// The first element: what kind it is of, its content, and what is behind it.
fn element(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&kind, rest) = octets.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        let length = (length.len() <= 4).then_some(length)?;
        let length = length.iter().fold(0, |sum: u64, octet| sum << 8 | u64::from(*octet));
        (usize::try_from(length).ok()?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((kind, content, rest))
}

fn of_kind(wanted: u8, octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (kind, content, rest) = element(octets)?;
    (kind == wanted).then_some((content, rest))
}

/// A time, and what is behind it.
fn time(octets: &[u8]) -> Option<(SystemTime, &[u8])> {
    let (kind, content, rest) = element(octets)?;
    let digits = content.strip_suffix(b"Z")?;
    let (year, digits) = match kind {
        // §4.1.2.5.1: "Where YY is greater than or equal to 50, the year SHALL be interpreted as 19YY".
        UTC_TIME => {
            let (year, digits) = number(digits, 2)?;
            (if year >= 50 { 1900 + year } else { 2000 + year }, digits)
        }
        GENERALIZED_TIME => number(digits, 4)?,
        _ => return None,
    };
    let (month, digits) = number(digits, 2)?;
    let (day, digits) = number(digits, 2)?;
    let (hour, digits) = number(digits, 2)?;
    let (minute, digits) = number(digits, 2)?;
    let (second, digits) = number(digits, 2)?;
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 59 || !digits.is_empty() {
        return None;
    }
    let seconds = (days(year, month, day) * 24 + hour) * 3600 + minute * 60 + second;
    Some((UNIX_EPOCH + Duration::from_secs(seconds), rest))
}

/// So many digits, and what is behind them.
fn number(octets: &[u8], count: usize) -> Option<(u64, &[u8])> {
    let (digits, rest) = octets.split_at_checked(count)?;
    let number = digits.iter().try_fold(0, |sum, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        Some(sum * 10 + u64::from(digit))
    })?;
    Some((number, rest))
}

/// Since 1 January 1970; none for what was before that.
fn days(year: u64, month: u64, day: u64) -> u64 {
    // Counted from 1 March of the year 0, so that a leap day is the last of its year.
    let (year, month) =
        if month > 2 { (year, month - 3) } else { (year.saturating_sub(1), month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    days.saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;
    use crate::clock;

    static ANY: LazyLock<Vec<u8>> = LazyLock::new(|| certificate((2020, 1, 1), (2021, 1, 1)));

    fn certificate(from: (i32, u8, u8), until: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_times_are_read() {
        for (from, until, expected) in [
            ((1970, 1, 1), (1999, 12, 31), ("1970-01-01", "1999-12-31")),
            ((2000, 2, 29), (2000, 3, 1), ("2000-02-29", "2000-03-01")),
            ((2026, 11, 26), (2049, 12, 31), ("2026-11-26", "2049-12-31")),
            // In the longer form, from 2050 on.
            ((2026, 11, 26), (2050, 1, 1), ("2026-11-26", "2050-01-01")),
            ((2100, 3, 1), (9999, 12, 31), ("2100-03-01", "9999-12-31")),
        ] {
            let read = Validity::of(&certificate(from, until)).unwrap();
            let text = |time| clock::text(time).replace("T00:00:00.000Z", "");
            assert_eq!((&*text(read.from), &*text(read.until)), expected);
        }
    }

    #[test]
    fn what_is_none_has_no_validity() {
        for length in 0..ANY.len() {
            assert_eq!(Validity::of(&ANY[..length]), None, "{length} octets");
        }
        for (form, time) in [
            (UTC_TIME, "2001010000Z"),
            (UTC_TIME, "200101000000"),
            (UTC_TIME, "201301000000Z"),
            (UTC_TIME, "20010100000aZ"),
            (GENERALIZED_TIME, "20200101000000.5Z"),
            (SEQUENCE, "200101000000Z"),
        ] {
            let length = u8::try_from(time.len()).unwrap();
            assert_eq!(super::time(&[&[form, length], time.as_bytes()].concat()), None, "{time}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_to_an_end(octets: Vec<u8>, at in 0_usize..600, octet: u8) {
            let is_sound = |it: Validity| it.from >= UNIX_EPOCH && it.until >= UNIX_EPOCH;
            prop_assert!(Validity::of(&octets).is_none_or(is_sound));
            let mut damaged = ANY.clone();
            let at = at % damaged.len();
            damaged[at] = octet;
            prop_assert!(Validity::of(&damaged).is_none_or(is_sound));
        }
    }
}
