//! The times that logs write, as milliseconds since 1970.

/// Reads the times of one log. Most lines have that of the line before: that is kept.
#[derive(Debug, Default)]
pub(super) struct Times {
    text: Vec<u8>,
    millis: u64,
}

impl Times {
    /// As Apache and nginx write it: `10/Oct/2000:13:55:36 -0700`.
    pub(super) fn common(&mut self, text: &[u8]) -> Option<u64> {
        self.kept(text, common)
    }

    /// Whatever a field of JSON may have: that, RFC 3339, or a number since 1970.
    pub(super) fn any(&mut self, text: &[u8]) -> Option<u64> {
        self.kept(text, any)
    }

    fn kept(&mut self, text: &[u8], read: impl FnOnce(&[u8]) -> Option<u64>) -> Option<u64> {
        if self.text.is_empty() || self.text != text {
            self.millis = read(text)?;
            self.text.clear();
            self.text.extend_from_slice(text);
        }
        Some(self.millis)
    }
}

/// A number since 1970: of seconds, or so large that it must be one of milliseconds, microseconds or
/// nanoseconds.
pub(super) fn since(number: f64) -> Option<u64> {
    let millis = match number {
        ..0.0 => return None,
        ..1e11 => number * 1e3,
        ..1e14 => number,
        ..1e17 => number / 1e3,
        ..1e20 => number / 1e6,
        _ => return None,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "neither below zero nor above 1e14"
    )]
    let millis = millis.round() as u64;
    Some(millis)
}

fn any(text: &[u8]) -> Option<u64> {
    rfc3339(text).or_else(|| common(text)).or_else(|| {
        let number = std::str::from_utf8(text).ok()?.parse().ok()?;
        since(number)
    })
}

fn common(text: &[u8]) -> Option<u64> {
    const MONTHS: [&[u8; 3]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let at = |from: usize, to: usize| text.get(from..to);
    let name = at(3, 6)?;
    let month = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name))? + 1;
    let marks = [(2, b'/'), (6, b'/'), (11, b':'), (14, b':'), (17, b':'), (20, b' ')];
    if !marks.iter().all(|(place, mark)| text.get(*place) == Some(mark)) {
        return None;
    }
    let days = days(number(at(7, 11)?)?, u64::try_from(month).ok()?, number(at(0, 2)?)?)?;
    let clock = clock(number(at(12, 14)?)?, number(at(15, 17)?)?, number(at(18, 20)?)?)?;
    shifted((days * 86_400 + clock) * 1000, at(21, text.len())?)
}

/// RFC 3339, also with a space for the `T` and an offset without colon.
fn rfc3339(text: &[u8]) -> Option<u64> {
    let at = |from: usize, to: usize| text.get(from..to);
    let marks = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    let is_marked = marks.iter().all(|(place, mark)| text.get(*place) == Some(mark));
    if !is_marked || !matches!(text.get(10)?, b'T' | b't' | b' ') {
        return None;
    }
    let days = days(number(at(0, 4)?)?, number(at(5, 7)?)?, number(at(8, 10)?)?)?;
    let clock = clock(number(at(11, 13)?)?, number(at(14, 16)?)?, number(at(17, 19)?)?)?;
    let mut millis = (days * 86_400 + clock) * 1000;
    let mut rest = at(19, text.len())?;
    if let Some(fraction) = rest.strip_prefix(b".").or(rest.strip_prefix(b",")) {
        let count = fraction.iter().take_while(|octet| octet.is_ascii_digit()).count();
        let (digits, after) = fraction.split_at(count);
        let digit = |place: usize| digits.get(place).map_or(0, |digit| u64::from(digit - b'0'));
        millis += digit(0) * 100 + digit(1) * 10 + digit(2);
        rest = after;
    }
    match rest {
        b"" | b"Z" | b"z" => Some(millis),
        _ => shifted(millis, rest.strip_prefix(b" ").unwrap_or(rest)),
    }
}

/// Takes an offset off: `-0700`, `+05:30`.
fn shifted(millis: u64, offset: &[u8]) -> Option<u64> {
    let (sign, hours, minutes) = match offset {
        [sign, a, b, b':', c, d] | [sign, a, b, c, d] => {
            (sign, number(&[*a, *b])?, number(&[*c, *d])?)
        }
        _ => return None,
    };
    let by = (hours * 60 + minutes) * 60_000;
    match sign {
        b'+' => millis.checked_sub(by),
        b'-' => Some(millis + by),
        _ => None,
    }
}

fn clock(hour: u64, minute: u64, second: u64) -> Option<u64> {
    // 60 is a leap second.
    (hour < 24 && minute < 60 && second <= 60).then_some((hour * 60 + minute) * 60 + second)
}

/// The days from the beginning of 1970.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin with March end with their leap day.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    // Those from 1 March of the year 0 to 1970.
    days.checked_sub(719_468)
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |sum: u64, digit| {
        digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::clock;

    #[test]
    fn times_are_read_in_all_forms() {
        for (text, expected) in [
            ("10/Oct/2000:13:55:36 -0700", Some("2000-10-10T20:55:36.000Z")),
            ("01/Mar/2024:00:00:00 +0130", Some("2024-02-29T22:30:00.000Z")),
            ("01/Jan/1970:00:00:00 +0000", Some("1970-01-01T00:00:00.000Z")),
            ("2026-11-26T04:34:24.1299Z", Some("2026-11-26T04:34:24.129Z")),
            ("2026-11-26T04:34:24+00:00", Some("2026-11-26T04:34:24.000Z")),
            ("2026-11-26 04:34:24,5 -0100", Some("2026-11-26T05:34:24.500Z")),
            ("2026-11-26T04:34:24", Some("2026-11-26T04:34:24.000Z")),
            ("1795667664.120", Some("2026-11-26T04:34:24.120Z")),
            ("1795667664", Some("2026-11-26T04:34:24.000Z")),
            ("1795667664120", Some("2026-11-26T04:34:24.120Z")),
            ("1795667664120000", Some("2026-11-26T04:34:24.120Z")),
            ("1795667664120000000", Some("2026-11-26T04:34:24.120Z")),
            ("", None),
            ("-", None),
            ("-1", None),
            ("1e300", None),
            ("NaN", None),
            ("10/Okt/2000:13:55:36 -0700", None),
            ("10/Oct/2000:24:55:36 -0700", None),
            ("10/Oct/2000:13:55:36", None),
            ("01/Jan/1970:00:00:00 +0100", None),
            ("2026-13-26T04:34:24Z", None),
            ("2026-11-26T04:34:24X", None),
            ("\u{e9}\u{e9}\u{e9}\u{e9}-11-26T04:34:24Z", None),
        ] {
            let read = Times::default().any(text.as_bytes());
            let shown = read.map(|millis| clock::text(UNIX_EPOCH + Duration::from_millis(millis)));
            assert_eq!(shown.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn days_are_counted_as_the_clock_writes_them() {
        for day in (0..60_000).step_by(17) {
            let text = clock::text(UNIX_EPOCH + Duration::from_secs(day * 86_400));
            assert_eq!(any(text.as_bytes()), Some(day * 86_400_000), "{text}");
        }
    }
}
