//! Durations (`"250ms"`, `"5m"`) and sizes (`"64KiB"`): a whole number and a unit, always.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::fault::Wrong;

/// Milliseconds in each unit, the largest first.
const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Octets in each unit, the largest first.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// What people write for a unit of time.
const DURATION_NAMES: [(&str, &[&str]); 5] = [
    ("d", &["day", "days"]),
    ("h", &["hr", "hrs", "hour", "hours"]),
    ("m", &["min", "mins", "minute", "minutes"]),
    ("s", &["sec", "secs", "second", "seconds"]),
    ("ms", &["msec", "msecs", "millis", "millisecond", "milliseconds"]),
];

/// What people write for a unit of size. Decimal units are not read as binary ones: nobody knows
/// which were meant.
const SIZE_NAMES: [(&str, &[&str]); 4] = [
    ("GiB", &["g", "gb", "gi"]),
    ("MiB", &["m", "mb", "mi"]),
    ("KiB", &["k", "kb", "ki"]),
    ("B", &["byte", "bytes", "octet", "octets"]),
];

/// A duration within bounds.
pub(super) fn duration(text: &str, bounds: RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    let (number, unit) = split(text).ok_or_else(|| {
        Wrong::new("is not a duration").with_hint(
            "write a whole number and one of `ms`, `s`, `m`, `h`, `d`, as in \"250ms\" or \"5m\"",
        )
    })?;
    if unit.is_empty() {
        return Err(Wrong::new("is a duration without a unit").with_hint(format!(
            "write \"{number}s\" for seconds, \"{number}ms\" for milliseconds"
        )));
    }
    let scale = scale(number, unit, &DURATIONS, &DURATION_NAMES)?;
    let millis = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
    let value = Duration::from_millis(millis.unwrap_or(u64::MAX));
    within(value, bounds, ["shorter", "longer"], show_duration)
}

/// The same, for who says himself what to write instead.
pub fn span(text: &str, bounds: RangeInclusive<Duration>) -> Option<Duration> {
    duration(text, bounds).ok()
}

/// A size in octets within bounds.
pub(super) fn size(text: &str, bounds: RangeInclusive<u64>) -> Result<u64, Wrong> {
    let (number, unit) = split(text).ok_or_else(|| {
        Wrong::new("is not a size").with_hint(
            "write a whole number and one of `B`, `KiB`, `MiB`, `GiB`, as in \"64KiB\", or \"0\"",
        )
    })?;
    let is_zero = number.bytes().all(|digit| digit == b'0');
    if unit.is_empty() && !is_zero {
        return Err(Wrong::new("is a size without a unit")
            .with_hint(format!("write \"{number}B\" for octets, \"{number}MiB\" for mebibytes")));
    }
    let scale = if unit.is_empty() { 1 } else { scale(number, unit, &SIZES, &SIZE_NAMES)? };
    let octets = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
    within(octets.unwrap_or(u64::MAX), bounds, ["smaller", "larger"], show_size)
}

/// A value in its largest whole unit.
pub(super) fn show_duration(value: Duration) -> String {
    show(u64::try_from(value.as_millis()).unwrap_or(u64::MAX), &DURATIONS, "0s")
}

/// A value in its largest whole unit.
pub fn show_size(octets: u64) -> String {
    show(octets, &SIZES, "0")
}

/// Digits, then what may be a unit.
fn split(text: &str) -> Option<(&str, &str)> {
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let may_be_unit = unit.len() <= 16 && unit.chars().all(|c| c.is_ascii_alphabetic() || c == ' ');
    (!number.is_empty() && may_be_unit).then_some((number, unit))
}

fn scale(
    number: &str,
    unit: &str,
    units: &[(&str, u64)],
    names: &[(&str, &[&str])],
) -> Result<u64, Wrong> {
    if let Some((_, scale)) = units.iter().find(|(name, _)| *name == unit) {
        return Ok(*scale);
    }
    let word = unit.trim().to_ascii_lowercase();
    let meant = names
        .iter()
        .find(|(name, others)| name.eq_ignore_ascii_case(&word) || others.contains(&word.as_str()));
    let hint = if let Some((name, _)) = meant {
        format!("write \"{number}{name}\"")
    } else {
        let known: Vec<String> = units.iter().rev().map(|(name, _)| format!("`{name}`")).collect();
        format!("units: {}", known.join(", "))
    };
    Err(Wrong::new("has an unknown unit").with_hint(hint))
}

/// The value, or by how much the bounds were missed.
fn within<T: PartialOrd + Copy>(
    value: T,
    bounds: RangeInclusive<T>,
    [less, more]: [&str; 2],
    show: impl Fn(T) -> String,
) -> Result<T, Wrong> {
    if value < *bounds.start() {
        return Err(Wrong::new(format!("is {less} than {}", show(*bounds.start()))));
    }
    if value > *bounds.end() {
        return Err(Wrong::new(format!("is {more} than {}", show(*bounds.end()))));
    }
    Ok(value)
}

fn show(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    if value == 0 {
        return zero.to_owned();
    }
    units
        .iter()
        .find(|(_, scale)| value.is_multiple_of(*scale))
        .map_or_else(|| value.to_string(), |(name, scale)| format!("{}{name}", value / scale))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANY: RangeInclusive<Duration> = Duration::ZERO..=Duration::MAX;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("0s", 0),
            ("007ms", 7),
        ] {
            assert_eq!(duration(text, ANY), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn durations_that_are_none() {
        for (text, complaint, hint) in [
            ("30", "is a duration without a unit", Some("write \"30s\" for seconds")),
            ("5 minutes", "has an unknown unit", Some("write \"5m\"")),
            ("5 m", "has an unknown unit", Some("write \"5m\"")),
            ("5M", "has an unknown unit", Some("write \"5m\"")),
            ("5sec", "has an unknown unit", Some("write \"5s\"")),
            ("2w", "has an unknown unit", Some("units: `ms`, `s`, `m`, `h`, `d`")),
            ("1h30m", "is not a duration", Some("write a whole number")),
            ("1.5s", "is not a duration", None),
            ("-5s", "is not a duration", None),
            ("", "is not a duration", None),
            ("soon", "is not a duration", None),
            ("٣s", "is not a duration", None),
        ] {
            let wrong = duration(text, ANY).unwrap_err();
            assert_eq!(wrong.complaint, complaint, "{text}");
            assert!(wrong.hint.unwrap().starts_with(hint.unwrap_or_default()), "{text}");
        }
    }

    #[test]
    fn durations_have_bounds() {
        let bounds = Duration::from_millis(100)..=Duration::from_hours(1);
        for (text, complaint) in [
            ("99ms", "is shorter than 100ms"),
            ("0s", "is shorter than 100ms"),
            ("61m", "is longer than 1h"),
            ("18446744073709551615d", "is longer than 1h"),
            ("99999999999999999999999ms", "is longer than 1h"),
        ] {
            assert_eq!(duration(text, bounds.clone()).unwrap_err().complaint, complaint, "{text}");
        }
        assert!(duration("100ms", bounds.clone()).is_ok());
        assert!(duration("60m", bounds).is_ok());
    }

    #[test]
    fn sizes() {
        for (text, octets) in [
            ("0", 0),
            ("0B", 0),
            ("512B", 512),
            ("64KiB", 64 << 10),
            ("256MiB", 256 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(size(text, 0..=u64::MAX), Ok(octets), "{text}");
        }
    }

    #[test]
    fn sizes_that_are_none() {
        for (text, complaint, hint) in [
            ("512", "is a size without a unit", "write \"512B\" for octets"),
            ("64KB", "has an unknown unit", "write \"64KiB\""),
            ("64kib", "has an unknown unit", "write \"64KiB\""),
            ("64k", "has an unknown unit", "write \"64KiB\""),
            ("8 MB", "has an unknown unit", "write \"8MiB\""),
            ("1TiB", "has an unknown unit", "units: `B`, `KiB`, `MiB`, `GiB`"),
            ("-1B", "is not a size", "write a whole number"),
            ("1.5GiB", "is not a size", "write a whole number"),
            ("much", "is not a size", "write a whole number"),
        ] {
            let wrong = size(text, 0..=u64::MAX).unwrap_err();
            assert_eq!(wrong.complaint, complaint, "{text}");
            assert!(wrong.hint.unwrap().starts_with(hint), "{text}");
        }
        assert_eq!(size("2MiB", 0..=1 << 20).unwrap_err().complaint, "is larger than 1MiB");
        assert_eq!(size("99999999999999GiB", 0..=9).unwrap_err().complaint, "is larger than 9B");
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".*") {
            prop_assert_eq!(duration(&text, ANY), duration(&text, ANY));
            prop_assert_eq!(size(&text, 0..=9), size(&text, 0..=9));
        }

        #[test]
        fn what_is_shown_reads_the_same(millis in 0..=u64::MAX) {
            let value = Duration::from_millis(millis);
            prop_assert_eq!(duration(&show_duration(value), ANY), Ok(value));
            prop_assert_eq!(size(&show_size(millis), 0..=u64::MAX), Ok(millis));
        }
    }
}
