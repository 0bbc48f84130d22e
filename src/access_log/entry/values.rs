//! Values as lines have them.

use std::cell::RefCell;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::line::Line;
use crate::clock;
use crate::message;

/// In which form a line has its time, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `2026-11-26T18:25:00` (RFC 3339)
    Rfc3339,
    /// `26/Nov/2026:18:25:00`, as Apache has it.
    Apache,
}

impl Line {
    pub(super) fn raw(&mut self, text: &str) {
        self.octets.extend_from_slice(text.as_bytes());
    }

    /// A value in JSON.
    pub(super) fn json(&mut self, text: Option<&[u8]>) {
        match text {
            None => self.raw("null"),
            Some(plain) if is_plain(plain) => {
                self.octets.push(b'"');
                self.octets.extend_from_slice(plain);
                self.octets.push(b'"');
            }
            // A text always has a form, and there is no end to a line.
            Some(text) => {
                drop(serde_json::to_writer(&mut self.octets, &String::from_utf8_lossy(text)));
            }
        }
    }

    pub(super) fn named(&mut self, name: &str, value: Option<&[u8]>) {
        let Some(value) = value else { return };
        self.octets.push(b' ');
        self.raw(name);
        self.raw("=\"");
        self.quoted(value);
        self.octets.push(b'"');
    }

    /// What is not printable ASCII, and quotes, as `\xHH`.
    pub(super) fn quoted(&mut self, text: &[u8]) {
        if is_plain(text) {
            self.octets.extend_from_slice(text);
            return;
        }
        for octet in String::from_utf8_lossy(text).bytes() {
            if is_plain(&[octet]) {
                self.octets.push(octet);
            } else {
                write!(self.octets, "\\x{octet:02X}").expect("there is no end to a line");
            }
        }
    }

    pub(super) fn number(&mut self, number: u64) {
        self.raw(itoa::Buffer::new().format(number));
    }

    /// A part of a second, with zeros before it where it has fewer digits than `whole` has zeros.
    fn part(&mut self, part: u32, whole: u32) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(whole + part);
        self.raw(digits.get(1..).unwrap_or_default());
    }

    pub(super) fn milliseconds(&mut self, time: SystemTime) {
        let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_millis();
        self.part(millis, 1000);
    }

    /// To the microsecond.
    pub(super) fn seconds(&mut self, time: Duration) {
        let time = time.saturating_add(Duration::from_nanos(500));
        self.number(time.as_secs());
        self.octets.push(b'.');
        self.part(time.subsec_micros(), 1_000_000);
    }

    pub(super) fn address(&mut self, address: IpAddr) {
        message::write_address(address, |octet| self.octets.push(octet));
    }

    /// The second of a time, whose form is made once for all lines of a worker in that second.
    pub(super) fn time(&mut self, time: SystemTime, form: Form) {
        thread_local! {
            static LAST: RefCell<(u64, Form, String)> =
                const { RefCell::new((0, Form::Apache, String::new())) };
        }
        let second = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        LAST.with_borrow_mut(|last| {
            if (last.0, last.1) != (second, form) || last.2.is_empty() {
                let text = match form {
                    Form::Rfc3339 => rfc_3339(time),
                    Form::Apache => apache(time),
                };
                *last = (second, form, text);
            }
            self.raw(&last.2);
        });
    }
}

/// `2026-11-26T18:25:00`
fn rfc_3339(time: SystemTime) -> String {
    let mut text = clock::text(time);
    text.truncate("2026-11-26T18:25:00".len());
    text
}

/// `26/Nov/2026:18:25:00`
fn apache(time: SystemTime) -> String {
    let date = httpdate::fmt_http_date(time);
    // `Thu, 26 Nov 2026 18:25:00 GMT`
    let part = |from, to| date.get(from..to).unwrap_or_default();
    let (day, month, year, time) = (part(5, 7), part(8, 11), part(12, 16), part(17, 25));
    format!("{day}/{month}/{year}:{time}")
}

/// Whether each octet stands for itself, in JSON and in quotes.
fn is_plain(octets: &[u8]) -> bool {
    let (blocks, rest) = octets.as_chunks::<16>();
    let blocks = blocks.iter().fold(true, |all, block| all & are_plain(block));
    // What does not fill a block is seen with some of the octets before it.
    blocks
        & match (octets.last_chunk::<16>(), octets.first_chunk::<8>(), octets.last_chunk::<8>()) {
            _ if rest.is_empty() => true,
            (Some(last), ..) => are_plain(last),
            (None, Some(first), Some(last)) => are_plain(first) & are_plain(last),
            _ => rest.iter().all(|octet| are_plain(&[*octet])),
        }
}

/// The same, without an early end, so that the processor looks at all of them at once.
fn are_plain<const COUNT: usize>(octets: &[u8; COUNT]) -> bool {
    let printable = b'~' - b' ';
    let found = octets.iter().fold(0, |found, octet| {
        let is_other = u8::from(octet.wrapping_sub(b' ') > printable);
        found | is_other | u8::from(*octet == b'"') | u8::from(*octet == b'\\')
    });
    found == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Line)) -> String {
        let mut line = Line::empty();
        write(&mut line);
        String::from_utf8(line.octets).unwrap()
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for number in [0, 7, 10, 499, 1_000_000, u64::MAX] {
            assert_eq!(written(|line| line.number(number)), number.to_string());
        }
        for (part, expected) in [(0, "000"), (7, "007"), (999, "999")] {
            assert_eq!(written(|line| line.part(part, 1000)), expected);
        }
    }

    #[test]
    fn times_are_to_the_microsecond() {
        for (nanoseconds, expected) in [
            (0, "0.000000"),
            (499, "0.000000"),
            (500, "0.000001"),
            (71_000, "0.000071"),
            (999_999_500, "1.000000"),
            (61_000_001_000, "61.000001"),
        ] {
            let time = Duration::from_nanos(nanoseconds);
            assert_eq!(written(|line| line.seconds(time)), expected);
        }
        assert!(written(|line| line.seconds(Duration::MAX)).starts_with("18446744073709551615."));
    }

    /// Wherever it stands among plain ones, so many at once or fewer.
    #[test]
    fn what_is_escaped_is_found() {
        for octet in 0..=u8::MAX {
            let expected = matches!(octet, b' '..=b'~') && !matches!(octet, b'"' | b'\\');
            for length in 1..40 {
                for at in 0..length {
                    let mut octets = vec![b'a'; length];
                    octets[at] = octet;
                    assert_eq!(is_plain(&octets), expected, "{octet} at {at} of {length}");
                }
            }
        }
        assert!(is_plain(b""));
    }

    /// Each form has a second of its own, and the next second another.
    #[test]
    fn a_second_is_written_in_its_form() {
        for (second, json, apache) in [
            (0, "1970-01-01T00:00:00", "01/Jan/1970:00:00:00"),
            (1_795_667_664, "2026-11-26T04:34:24", "26/Nov/2026:04:34:24"),
            (1_795_667_665, "2026-11-26T04:34:25", "26/Nov/2026:04:34:25"),
        ] {
            let time = UNIX_EPOCH + Duration::from_millis(second * 1000 + 999);
            assert_eq!(written(|line| line.time(time, Form::Rfc3339)), json);
            assert_eq!(written(|line| line.time(time, Form::Apache)), apache);
        }
    }
}
