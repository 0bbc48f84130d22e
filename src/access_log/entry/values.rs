//! Values as lines have them.

use std::cell::Cell;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::line::Line;
use crate::clock;
use crate::message;

/// In which form a line has its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `2026-11-26T18:25:00.123` (RFC 3339)
    Rfc3339,
    /// `26/Nov/2026:18:25:00`, as Apache has it.
    Apache,
}

/// A second, counted since 1970, and how it is written, up to what is less than a second.
#[derive(Clone, Copy)]
struct Second {
    count: u64,
    form: Form,
    text: [u8; 20],
}

thread_local! {
    /// The second of the line before. None is of the last second that there is.
    static LAST: Cell<Second> =
        const { Cell::new(Second { count: u64::MAX, form: Form::Apache, text: [0; 20] }) };
}

impl Line {
    /// What is written here is of a known length as a rule, and copied without a call.
    #[inline]
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
            Some(text) => self.escaped(text),
        }
    }

    /// The same of one that has what is escaped, which is rare.
    #[cold]
    fn escaped(&mut self, text: &[u8]) {
        // A text always has a form, and there is no end to a line.
        drop(serde_json::to_writer(&mut self.octets, &String::from_utf8_lossy(text)));
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
        match u8::try_from(number) {
            Ok(digit @ 0..=9) => self.octets.push(b'0' + digit),
            _ => self.raw(itoa::Buffer::new().format(number)),
        }
    }

    /// So many digits of a number: its last ones, or zeros before it.
    pub(super) fn digits<const COUNT: usize>(&mut self, mut number: u32) {
        let mut digits = [b'0'; COUNT];
        for digit in digits.iter_mut().rev() {
            *digit += u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
        }
        self.octets.extend_from_slice(&digits);
    }

    /// To the microsecond.
    pub(super) fn seconds(&mut self, time: Duration) {
        let (mut whole, mut micros) = (time.as_secs(), (time.subsec_nanos() + 500) / 1000);
        if micros == 1_000_000 {
            (whole, micros) = (whole.saturating_add(1), 0);
        }
        self.number(whole);
        self.octets.push(b'.');
        self.digits::<6>(micros);
    }

    pub(super) fn address(&mut self, address: IpAddr) {
        message::write_address(address, |octet| self.octets.push(octet));
    }

    /// A time of day. The second is made once for all lines of a worker in it.
    pub(super) fn time(&mut self, time: SystemTime, form: Form) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut last = LAST.get();
        if (last.count, last.form) != (since.as_secs(), form) {
            let text = match form {
                Form::Rfc3339 => clock::text(time),
                Form::Apache => apache(time),
            };
            let text = text.as_bytes().first_chunk().copied().unwrap_or_default();
            last = Second { count: since.as_secs(), form, text };
            LAST.set(last);
        }
        self.octets.extend_from_slice(&last.text);
        if form == Form::Rfc3339 {
            self.digits::<3>(since.subsec_millis());
        }
    }
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
    let (blocks, rest) = octets.as_chunks();
    let mut all = true;
    for block in blocks {
        all &= are_plain(block);
    }
    if rest.is_empty() {
        return all;
    }
    // What does not fill a block is seen with octets before it, or spaces behind it.
    let last = octets.last_chunk().copied().unwrap_or_else(|| {
        let mut block = [b' '; BLOCK];
        block.iter_mut().zip(rest).for_each(|(to, octet)| *to = *octet);
        block
    });
    all & are_plain(&last)
}

/// So many octets are looked at at once.
const BLOCK: usize = 32;

/// The same of a block, without an early end, so that the processor looks at all of it at once.
fn are_plain(octets: &[u8; BLOCK]) -> bool {
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
        for (number, expected) in [(0, "000"), (7, "007"), (999, "999")] {
            assert_eq!(written(|line| line.digits::<3>(number)), expected);
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
            for length in 1..80 {
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
            (0, "1970-01-01T00:00:00.999", "01/Jan/1970:00:00:00"),
            (1_795_667_664, "2026-11-26T04:34:24.999", "26/Nov/2026:04:34:24"),
            (1_795_667_665, "2026-11-26T04:34:25.999", "26/Nov/2026:04:34:25"),
        ] {
            let time = UNIX_EPOCH + Duration::from_millis(second * 1000 + 999);
            assert_eq!(written(|line| line.time(time, Form::Rfc3339)), json);
            assert_eq!(written(|line| line.time(time, Form::Apache)), apache);
        }
    }
}
