//! Where each request of a connection of HTTP/1 begins and ends, octet by octet (RFC 9112 §2.2, §6, §7.1).
//!
//! hyper reads requests more kindly than a gateway should: it takes a bare LF for the end of a line, of a
//! `Content-Length` beside a `Transfer-Encoding` or beside an equal one it tells nothing, and what stands in a
//! chunk's extensions it does not look at. Whoever is before or behind Larder may read the same octets in
//! another way, and take a part of one request for the next. So they are read here first, and what could be
//! read in two ways is found where it stands.
//!
//! Left to hyper: everything about a head that has nothing to do with where it or its content ends. What it
//! refuses itself (folded lines, white space before a colon, `NUL`) need not be found here.

use std::io::BufRead as _;
use std::ops::ControlFlow;

/// A head of so many octets hyper has refused before.
const LONGEST_LINE: usize = 128 * 1024;

/// The line before a chunk. Its extensions mean nothing to anyone we know.
const LONGEST_CHUNK_LINE: usize = 1024;

/// Reads the octets of one connection in the order in which they come, in pieces of any size.
#[derive(Debug, Default)]
pub struct Framing {
    state: State,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// What the head that is being read has said so far.
    framed: Framed,
    /// It asks for another protocol.
    asks: bool,
    /// It has ended, and asks for another protocol.
    may_switch: bool,
    piece: Piece,
}

/// What the last piece is, as far as it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Piece {
    /// No head has ended in it, and none began before it.
    #[default]
    Nothing,
    /// A request whose head says how long it is, from its beginning on.
    Request,
    /// More than that, or less.
    Other,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// A request line. Empty lines before it are skipped (RFC 9112 §2.2).
    #[default]
    Start,
    /// A field line, or the end of the head.
    Head,
    /// So many octets of content.
    Content(u64),
    /// The size of a chunk.
    Size,
    /// So many octets of a chunk.
    Chunk(u64),
    /// The end of the line behind a chunk.
    ChunkEnd,
    /// A trailer, or the end of the content.
    Trailers,
}

/// What a head says of its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framed {
    #[default]
    Nothing,
    Length(u64),
    Chunks,
}

/// Something that could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear {
    /// How many octets of the piece come before the line in question.
    pub at: usize,
    /// What it is, for the log.
    pub why: &'static str,
}

impl Framing {
    /// Reads the next piece. If a request without content ends in it that asks for another protocol
    /// (RFC 9110 §7.8): behind how many octets, and no more is read. What follows may not be HTTP.
    ///
    /// # Errors
    /// [`Unclear`]. Nothing that follows on the connection can be told apart then.
    pub fn read(&mut self, piece: &[u8]) -> Result<Option<usize>, Unclear> {
        let mut rest = piece;
        self.piece = if self.is_between() { Piece::Nothing } else { Piece::Other };
        while !rest.is_empty() {
            if self.state == State::Start
                && self.line.is_empty()
                && let Some(taken) = plain_head(rest)
            {
                self.head(true);
                rest = rest.get(taken..).unwrap_or_default();
                continue;
            }
            let at = piece.len() - rest.len();
            match &mut self.state {
                State::Content(left) | State::Chunk(left) => {
                    let taken = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= taken as u64;
                    rest = rest.get(taken..).unwrap_or_default();
                    match self.state {
                        State::Content(0) => self.state = State::Start,
                        State::Chunk(0) => self.state = State::ChunkEnd,
                        _ => {}
                    }
                }
                _ => {
                    // RFC 9112 §2.2: an empty line may follow a request, and is no part of it.
                    if self.state == State::Start && self.piece == Piece::Request {
                        self.piece = Piece::Other;
                    }
                    rest = self.read_line(rest).map_err(|why| Unclear { at, why })?;
                    if std::mem::take(&mut self.may_switch) {
                        return Ok(Some(piece.len() - rest.len()));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether what has come is whole requests, and no part of another.
    pub fn is_between(&self) -> bool {
        self.state == State::Start && self.line.is_empty()
    }

    /// Whether the last piece was one request, from its beginning to its end: one that has no content or says how
    /// long it is, and that asks for no other protocol.
    pub fn is_whole(&self) -> bool {
        self.piece == Piece::Request && self.is_between()
    }

    /// A head has ended. `is_usual`: it has no content or says how long it is, and asks for no other protocol.
    fn head(&mut self, is_usual: bool) {
        let is_first = self.piece == Piece::Nothing;
        self.piece = if is_first && is_usual { Piece::Request } else { Piece::Other };
    }

    /// Takes a line, or what has come of one; what comes behind it is handed back.
    fn read_line<'a>(&mut self, octets: &'a [u8]) -> Result<&'a [u8], &'static str> {
        let Some((line, rest)) = split_line(octets) else {
            self.line.extend_from_slice(octets);
            return if self.line.len() > LONGEST_LINE {
                Err("a line without end")
            } else {
                Ok(&[])
            };
        };
        if self.line.is_empty() {
            self.line(line)?;
        } else {
            let mut whole = std::mem::take(&mut self.line);
            whole.extend_from_slice(line);
            self.line(&whole)?;
        }
        Ok(rest)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        // RFC 9112 §2.2 lets a recipient take a single LF for the end of a line. Not everybody does.
        let line = line.strip_suffix(b"\r\n").ok_or("a line that ends in a bare LF")?;
        self.state = match self.state {
            State::Start | State::Trailers if line.is_empty() => State::Start,
            State::Start => State::Head,
            State::Head if line.is_empty() => {
                let (asks, framed) =
                    (std::mem::take(&mut self.asks), std::mem::take(&mut self.framed));
                self.head(!asks && framed != Framed::Chunks);
                match framed {
                    Framed::Nothing | Framed::Length(0) => {
                        self.may_switch = asks;
                        State::Start
                    }
                    Framed::Length(length) => State::Content(length),
                    Framed::Chunks => State::Size,
                }
            }
            State::Head => {
                self.framed = framed(self.framed, line)?;
                self.asks |= is_upgrade(line);
                State::Head
            }
            State::Size => match chunk_size(line).ok_or("not the size of a chunk")? {
                0 => State::Trailers,
                size => State::Chunk(size),
            },
            State::ChunkEnd if line.is_empty() => State::Size,
            State::ChunkEnd => return Err("a chunk that is longer than it says"),
            State::Trailers => State::Trailers,
            // They have no lines.
            content @ (State::Content(_) | State::Chunk(_)) => content,
        };
        Ok(())
    }
}

/// How long a head is that has all come, says nothing of content and asks for no other protocol. The usual
/// request is one, and need not be read line by line.
///
/// LFs are looked for sixteen octets at a time: lines are too short for what finds one octet in long ones.
fn plain_head(octets: &[u8]) -> Option<usize> {
    let (blocks, last) = octets.as_chunks::<16>();
    let mut begin = 0;
    for block in blocks {
        // Every second block has none, and the processor compares all sixteen octets at once.
        if block.iter().fold(0, |found, octet| found | u8::from(*octet == b'\n')) > 0 {
            for (word, begin) in block.as_chunks().0.iter().zip([begin, begin + 8]) {
                let mut found = line_feeds(*word);
                while found != 0 {
                    let at = begin + found.trailing_zeros() as usize / 8;
                    if let ControlFlow::Break(length) = plain_until(octets, at) {
                        return length;
                    }
                    found &= found - 1;
                }
            }
        }
        begin += block.len();
    }
    for (at, octet) in (begin..).zip(last) {
        if *octet == b'\n'
            && let ControlFlow::Break(length) = plain_until(octets, at)
        {
            return length;
        }
    }
    None
}

/// The highest bits of those octets that are LFs.
fn line_feeds(word: [u8; 8]) -> u64 {
    const LOWER: u64 = u64::from_le_bytes([0x7f; 8]);
    const LINE_FEEDS: u64 = u64::from_le_bytes([b'\n'; 8]);

    let differs = u64::from_le_bytes(word) ^ LINE_FEEDS;
    // Nothing is carried from one octet to the next: the sum of its lower bits has at most eight.
    !(((differs & LOWER) + LOWER) | differs | LOWER)
}

/// Goes on behind the line with this LF, unless it ends the head, or the head is none to go on with.
#[inline]
fn plain_until(octets: &[u8], line_feed: usize) -> ControlFlow<Option<usize>> {
    // No line begins with its end but the last one, which was found by the line before.
    let is_line = line_feed > 1 && octets.get(line_feed - 1) == Some(&b'\r');
    let next = line_feed + 1;
    match octets.get(next) {
        _ if !is_line => ControlFlow::Break(None),
        Some(b'\r') => {
            ControlFlow::Break((octets.get(next + 1) == Some(&b'\n')).then_some(next + 2))
        }
        Some(b'C' | b'c' | b'T' | b't' | b'U' | b'u') if octets.get(next..).is_some_and(counts) => {
            ControlFlow::Break(None)
        }
        _ => ControlFlow::Continue(()),
    }
}

/// Whether [`framed`] or [`is_upgrade`] would make something of a line that begins so.
fn counts(line: &[u8]) -> bool {
    let name: &[u8] = match line.first() {
        Some(b'C' | b'c') => b"content-length:",
        Some(b'T' | b't') => b"transfer-encoding:",
        Some(b'U' | b'u') => b"upgrade:",
        _ => return false,
    };
    line.get(..name.len()).is_some_and(|begins| begins.eq_ignore_ascii_case(name))
}

/// The first line with its end, and what follows.
fn split_line(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    // Of the ways to find an octet in the standard library, the one that looks at many at once.
    let mut rest = octets;
    let taken = rest.skip_until(b'\n').ok()?;
    octets.split_at_checked(taken).filter(|(line, _)| line.ends_with(b"\n"))
}

/// What a head says of its content with this line more.
fn framed(before: Framed, line: &[u8]) -> Result<Framed, &'static str> {
    // Most lines are about something else, and their first octet tells.
    if !matches!(line.first(), Some(b'C' | b'c' | b'T' | b't')) {
        return Ok(before);
    }
    let mut parts = line.splitn(2, |octet| *octet == b':');
    let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return Ok(before) };
    let is_length = name.eq_ignore_ascii_case(b"content-length");
    if !is_length && !name.eq_ignore_ascii_case(b"transfer-encoding") {
        return Ok(before);
    }
    let value = value.trim_ascii();
    match (before, is_length) {
        (Framed::Nothing, true) => {
            length(value).map(Framed::Length).ok_or("Content-Length is not a length")
        }
        (Framed::Nothing, false) if value.eq_ignore_ascii_case(b"chunked") => Ok(Framed::Chunks),
        (Framed::Nothing, false) => Err("Transfer-Encoding other than chunked"),
        // RFC 9112 §6.3 lets equal ones pass for one. Whoever sends two does not know what it sends.
        (Framed::Length(_), true) => Err("more than one Content-Length"),
        (Framed::Chunks, false) => Err("more than one Transfer-Encoding"),
        // RFC 9112 §6.1: "A server MAY reject a request that contains both".
        _ => Err("both Transfer-Encoding and Content-Length"),
    }
}

/// Whether a line names another protocol.
fn is_upgrade(line: &[u8]) -> bool {
    let name = line.first_chunk::<8>();
    matches!(line.first(), Some(b'U' | b'u'))
        && name.is_some_and(|name| name.eq_ignore_ascii_case(b"upgrade:"))
}

/// Digits and nothing else: a parser of numbers would take `+3`.
fn length(value: &[u8]) -> Option<u64> {
    let digits = value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// The size that the line before a chunk says (RFC 9112 §7.1): hexadecimal digits, and extensions by their
/// grammar. These are ignored, as they have to be, but only where everybody finds the same end of them.
fn chunk_size(line: &[u8]) -> Option<u64> {
    if line.len() > LONGEST_CHUNK_LINE {
        return None;
    }
    let (digits, extensions) = split(line, |octet| octet.is_ascii_hexdigit());
    // More than 16 do not fit, and zeros before them mean nothing but trouble.
    if digits.len() > 16 || !are_extensions(extensions) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )` (RFC 9112 §7.1.1).
fn are_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(extension) = after(b";", rest) else { return false };
        let (name, after_name) = split(extension, is_token);
        if name.is_empty() {
            return false;
        }
        rest = after_name;
        if let Some(value) = after(b"=", rest) {
            let Some(after_value) = after_value(value) else { return false };
            rest = after_value;
        }
    }
    true
}

/// What follows this sign, with white space around it; none if it does not come next.
fn after<'a>(sign: &[u8], rest: &'a [u8]) -> Option<&'a [u8]> {
    let is_space = |octet| matches!(octet, b' ' | b'\t');
    let rest = split(rest, is_space).1.strip_prefix(sign)?;
    Some(split(rest, is_space).1)
}

/// What follows a token or a quoted string.
fn after_value(rest: &[u8]) -> Option<&[u8]> {
    let Some(mut rest) = rest.strip_prefix(b"\"") else {
        let (token, rest) = split(rest, is_token);
        return (!token.is_empty()).then_some(rest);
    };
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            // RFC 9110 §5.6.4: HTAB, SP, what is visible, and what is not ASCII.
            [b'\\', octet, rest @ ..] | [octet, rest @ ..] if matches!(octet, b'\t' | b' '..=b'~' | 0x80..) => {
                rest
            }
            _ => return None,
        };
    }
}

/// RFC 9110 §5.6.2.
fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

fn split(octets: &[u8], is_first: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = octets.iter().position(|octet| !is_first(*octet)).unwrap_or(octets.len());
    octets.split_at(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is wrong with these octets, and which line it is in.
    fn found(octets: &[u8]) -> Option<(usize, &'static str)> {
        let unclear = Framing::default().read(octets).err()?;
        Some((octets[..unclear.at].split(|octet| *octet == b'\n').count() - 1, unclear.why))
    }

    #[test]
    fn heads() {
        let one = "more than one Content-Length";
        let both = "both Transfer-Encoding and Content-Length";
        let length = "Content-Length is not a length";
        let coding = "Transfer-Encoding other than chunked";
        for (fields, expected) in [
            ("", None),
            ("Host: a", None),
            ("content-LENGTH:5", None),
            ("Content-Length: \t5 \t", None),
            ("Content-Length: 0", None),
            ("Content-Length: 05", None),
            ("Transfer-Encoding: Chunked", None),
            ("Content-Lengths: x\r\nTransfer: y\r\nX: z", None),
            // hyper refuses these by their names.
            ("Content-Length : x", None),
            (" Content-Length: x", None),
            ("Content-Length: 5\r\nContent-Length: 5", Some((2, one))),
            ("Content-Length: 5\r\nA: b\r\nContent-Length: 6", Some((3, one))),
            ("Content-Length: 5, 5", Some((1, length))),
            ("Content-Length: 5 5", Some((1, length))),
            ("Content-Length: +5", Some((1, length))),
            ("Content-Length: -5", Some((1, length))),
            ("Content-Length: 0x5", Some((1, length))),
            ("Content-Length: a", Some((1, length))),
            ("Content-Length:", Some((1, length))),
            ("Content-Length: 18446744073709551616", Some((1, length))),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", Some((2, both))),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5", Some((2, both))),
            ("Transfer-Encoding: chunked\r\nContent-Length: x", Some((2, both))),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                Some((2, "more than one Transfer-Encoding")),
            ),
            ("Transfer-Encoding: gzip, chunked", Some((1, coding))),
            ("Transfer-Encoding: chunked, identity", Some((1, coding))),
            ("Transfer-Encoding: chunked, chunked", Some((1, coding))),
            ("Transfer-Encoding: xchunked", Some((1, coding))),
            ("Transfer-Encoding: \"chunked\"", Some((1, coding))),
            ("Transfer-Encoding: chunked;a", Some((1, coding))),
            ("Transfer-Encoding: \x0bchunked", Some((1, coding))),
            ("Transfer-Encoding:", Some((1, coding))),
        ] {
            let fields = if fields.is_empty() { String::new() } else { format!("{fields}\r\n") };
            let head = format!("POST / HTTP/1.1\r\n{fields}");
            assert_eq!(found(head.as_bytes()), expected, "{head:?}");
            assert_eq!(found(format!("{head}\r\n").as_bytes()), expected, "{head:?}, all of it");
        }
    }

    #[test]
    fn heads_that_are_read_at_once() {
        for (head, expected, why) in [
            ("GET / HTTP/1.1\r\n\r\n", true, "no field"),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: b\r\nTE: trailers\r\nUA: c\r\n\r\n",
                true,
                "usual",
            ),
            ("Upgrade: a\r\n\r\n", true, "a request line, whatever it says"),
            ("GET / HTTP/1.1\r\nHost: a\r\n", false, "not all of it"),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", false, "a bare LF"),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", false, "a bare LF"),
            ("\r\nGET / HTTP/1.1\r\n\r\n", false, "an empty line before"),
            ("GET / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", false, "a length"),
            ("GET / HTTP/1.1\r\nTRANSFER-ENCODING:chunked\r\n\r\n", false, "a coding"),
            ("GET / HTTP/1.1\r\nUPGRADE: a\r\n\r\n", false, "another protocol"),
        ] {
            let found = plain_head(format!("{head}GET /\r\n").as_bytes());
            assert_eq!(found, expected.then_some(head.len()), "{head:?}: {why}");
        }
    }

    #[test]
    fn a_piece_that_is_one_request_is_told_from_others() {
        let (get, post) =
            ("GET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
        let none = "PUT / HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
        let chunks = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let other = "GET / HTTP/1.1\r\nUpgrade: a\r\nContent-Length: 1\r\n\r\na";
        for (pieces, expected, why) in [
            (vec![get.to_owned()], true, "a head"),
            (vec![post.to_owned()], true, "a head and its content"),
            (vec![none.to_owned()], true, "it has none"),
            (vec![format!("{post}{get}")], false, "two"),
            (vec![format!("{get}{post}")], false, "two"),
            (vec![format!("{post}G")], false, "more than one"),
            (vec![format!("{get}\r\n")], false, "an empty line behind it"),
            (vec![format!("{post}\r\n")], false, "an empty line behind its content"),
            (vec![post[..post.len() - 1].to_owned()], false, "not all of it"),
            (vec![post[..9].to_owned(), post[9..].to_owned()], false, "not from its beginning"),
            (vec![post.replace("abc", "ab"), "c".to_owned()], false, "the rest of one"),
            (vec![post.replace("abc", ""), "abc".to_owned()], false, "its content"),
            (vec![post.replace("abc", "ab"), format!("c{get}")], false, "and the rest of one"),
            (vec![get.to_owned(), post.to_owned()], true, "each for itself"),
            (vec![other.to_owned(), get.to_owned()], true, "each for itself"),
            (vec![chunks.to_owned()], false, "it does not say how long it is"),
            (vec![format!("{chunks}{get}")], false, "two"),
            (vec![other.to_owned()], false, "another protocol"),
            (vec!["\r\n".to_owned()], false, "none"),
        ] {
            let mut framing = Framing::default();
            for piece in &pieces {
                framing.read(piece.as_bytes()).unwrap();
            }
            assert_eq!(framing.is_whole(), expected, "{pieces:?}: {why}");
        }
    }

    #[test]
    fn lines_end_in_cr_and_lf() {
        let bare = "a line that ends in a bare LF";
        for (octets, expected) in [
            ("\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n\r\n", None),
            ("GET / HTTP/1.1\n", Some((0, bare))),
            ("\nGET / HTTP/1.1\r\n", Some((0, bare))),
            ("GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", Some((1, bare))),
            ("GET / HTTP/1.1\r\nA: b\r\n\n", Some((2, bare))),
            ("GET / HTTP/1.1\r\nA: b\r\r\n\r\n", None),
        ] {
            assert_eq!(found(octets.as_bytes()), expected, "{octets:?}");
        }
        // Elsewhere it is an octet as any other.
        let content = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\n\n\n\nGET / HTTP/1.1\r\n\n";
        assert_eq!(found(content.as_bytes()), Some((8, bare)));
    }

    #[test]
    fn chunk_lines() {
        for (line, expected, why) in [
            ("5", Some(5), "hexadecimal"),
            ("fF", Some(255), "in any case"),
            ("000000000000000a", Some(10), "16 digits"),
            ("ffffffffffffffff", Some(u64::MAX), "as many as there can be"),
            ("5;a", Some(5), "a name"),
            ("5;a=b;c=\"d;\\\"\te\"", Some(5), "values"),
            ("5 ; a = b\t;c", Some(5), "\"BWS\" has to be taken"),
            ("", None, "no digit"),
            (";a", None, "no digit"),
            ("00000000000000005", None, "17 digits"),
            ("10000000000000000", None, "overflow"),
            ("-5", None, "no digit"),
            ("+5", None, "no digit"),
            ("0x5", None, "no digit"),
            (" 5", None, "white space before"),
            ("5 ", None, "white space behind"),
            ("5 5", None, "two"),
            ("5;", None, "no name"),
            ("5;;a", None, "no name"),
            ("5;a=", None, "no value"),
            ("5;=b", None, "no name"),
            ("5;a b", None, "two names"),
            ("5;a=\"b", None, "a quote without end"),
            ("5;a=\"b\\", None, "a quote without end"),
            ("5;a=\"b\"c", None, "behind the quote"),
            ("5;a\0", None, "no character"),
            ("5;a=\"\x0b\"", None, "no character"),
            ("5\r", None, "CR alone"),
            ("5;a\rb", None, "CR alone"),
            ("5,a", None, "another separator"),
        ] {
            assert_eq!(chunk_size(line.as_bytes()), expected, "{line:?}: {why}");
        }
        assert_eq!(chunk_size(format!("5;{}", "a".repeat(1022)).as_bytes()), Some(5));
        assert_eq!(chunk_size(format!("5;{}", "a".repeat(1023)).as_bytes()), None, "bounded");
    }

    #[test]
    fn contents_are_none_of_the_next_request() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (bare, longer) =
            ("a line that ends in a bare LF", "a chunk that is longer than it says");
        for (content, expected) in [
            ("5;a\r\n\n\n\n\n\n\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n\r\n", None),
            ("5\nabcde\r\n", Some((3, bare))),
            ("5\r\nabcde\n", Some((4, bare))),
            ("5;a\nabcde\r\n", Some((3, bare))),
            ("5\r\nabcdef\r\n", Some((4, longer))),
            ("5\r\nabcdefg\r\n", Some((4, longer))),
            ("0\r\n\n", Some((4, bare))),
            ("0\r\nA: b\n\r\n", Some((4, bare))),
            ("x\r\n", Some((3, "not the size of a chunk"))),
            ("0\r\n\r\nGET / HTTP/1.1\n", Some((5, bare))),
        ] {
            assert_eq!(found(format!("{head}{content}").as_bytes()), expected, "{content:?}");
        }
    }

    #[test]
    fn what_follows_a_request_for_another_protocol_is_not_read() {
        let found = |octets: &str| Framing::default().read(octets.as_bytes());
        for (head, may_switch) in [
            ("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", true),
            ("\r\nGET / HTTP/1.1\r\nuPGRADE:\r\nContent-Length: 0\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nUpgrades: websocket\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nUser-Agent: upgrade:\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nab", false),
            (
                "GET / HTTP/1.1\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                false,
            ),
        ] {
            let expected = may_switch.then_some(head.len());
            assert_eq!(found(head), Ok(expected), "{head:?}");
            assert_eq!(found(&format!("{head}GET / HTTP/1.1\r\n\r\n")), Ok(expected), "{head:?}");
            let nothing = found(&format!("{head}\n\n"));
            assert_eq!(nothing.is_ok(), may_switch, "{head:?}");
        }
        // If the answer is one of HTTP, it goes on.
        let mut framing = Framing::default();
        let request = b"GET / HTTP/1.1\r\nUpgrade: a\r\n\r\n";
        assert_eq!(framing.read(request), Ok(Some(request.len())));
        assert_eq!(framing.read(b"GET / HTTP/1.1\r\n\r\n"), Ok(None));
    }

    #[test]
    fn a_line_without_end_is_held_no_longer_than_hyper_looks_at_it() {
        let mut framing = Framing::default();
        let piece = vec![b'a'; LONGEST_LINE];
        assert_eq!(framing.read(&piece), Ok(None));
        assert!(framing.read(b"a").is_err());
    }

    /// What [`plain_head`] is to answer.
    fn plain_lines(octets: &[u8]) -> Option<usize> {
        let mut length = 0;
        for line in octets.split_inclusive(|octet| *octet == b'\n') {
            let is_first = length == 0;
            length += line.len();
            match line.strip_suffix(b"\r\n")? {
                b"" => return (!is_first).then_some(length),
                // It is hyper's to refuse one that begins so.
                line if !is_first && (line.starts_with(b"\r") || counts(line)) => return None,
                _ => {}
            }
        }
        None
    }

    proptest! {
        #[test]
        fn pieces_are_one_stream(
            parts in prop::collection::vec(prop::sample::select(vec![
                "GET / HTTP/1.1\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n",
                "\r\n", "\n", "abc", "3\r\n", "3;a=\"b\"\r\n", "0\r\n", "a", "\r", ";", "\"", "\0",
            ]), 0..16),
            cuts in prop::collection::vec(0_usize..40, 0..8),
        ) {
            let octets = parts.concat();
            let whole = Framing::default().read(octets.as_bytes());
            let mut framing = Framing::default();
            let mut rest = octets.as_bytes();
            let mut result = Ok(None);
            for cut in cuts.into_iter().chain([octets.len()]) {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                result = result.and_then(|_| framing.read(piece));
                rest = after;
            }
            let why = |result: Result<_, Unclear>| result.map_err(|unclear| unclear.why);
            prop_assert_eq!(why(whole), why(result));
        }

        #[test]
        fn never_panics(octets in prop::collection::vec(any::<u8>(), 0..256)) {
            let mut framing = Framing::default();
            framing.read(&octets).ok();
            chunk_size(&octets);
        }

        #[test]
        fn all_line_feeds_are_found(
            octets in prop::array::uniform8(prop::sample::select(vec![b'\n', b'\r', 11, 0, 0x8a, 255])),
        ) {
            let marks = octets.map(|octet| if octet == b'\n' { 0x80 } else { 0 });
            prop_assert_eq!(line_feeds(octets), u64::from_le_bytes(marks));
        }

        #[test]
        fn a_plain_head_is_one_line_by_line(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "a", "bcd: efghi", "\r\n", "\r\n", "\r\n\r\n", "\r", "\n", "Cookie: a", "content-length: 0",
                "Transfer-Encoding:", "UPGRADE:", "TE: a",
            ]), 0..24),
        ) {
            let octets = pieces.concat();
            prop_assert_eq!(plain_head(octets.as_bytes()), plain_lines(octets.as_bytes()));
        }
    }
}
