//! As much of HTTP/2 as `load` needs, which has one request under way on a connection (RFC 9113).

use std::error::Error;

use super::Progress;

/// The largest window there is (§6.9.1): what comes is taken at once.
const WINDOW: u32 = (1 << 31) - 1;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// `END_STREAM` of DATA and HEADERS, `ACK` of SETTINGS and PING.
const LAST: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// One connection: what has come of its frames, and what the next stream is.
pub(crate) struct Frames {
    came: Vec<u8>,
    next: u32,
    /// Of the connection's window since it was opened again.
    used: u32,
}

impl Frames {
    pub(crate) fn new() -> Frames {
        Frames { came: Vec::new(), next: 1, used: 0 }
    }

    /// What a client says first (§3.4): no pushes, and windows that need not be opened again soon.
    pub(crate) fn opening() -> Vec<u8> {
        let mut settings = vec![0, 2, 0, 0, 0, 0, 0, 4];
        settings.extend(WINDOW.to_be_bytes());
        let mut opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut opening, SETTINGS, 0, 0, &settings);
        frame(&mut opening, WINDOW_UPDATE, 0, 0, &(WINDOW - 0xffff).to_be_bytes());
        opening
    }

    /// The HEADERS frame of a request that is written as in HTTP/1.1, without content.
    pub(crate) fn request(&mut self, text: &str) -> Vec<u8> {
        let mut lines = text.lines();
        let path = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or("/");
        // RFC 7541 appendix A: `:method: GET` and `:scheme: http` are 2 and 6, `:path` is 4, `:authority` 1.
        let mut block = vec![0x82, 0x86, 0x04];
        string(&mut block, path);
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            if name.eq_ignore_ascii_case("host") {
                block.push(0x01);
            } else {
                block.push(0x00);
                string(&mut block, &name.to_ascii_lowercase());
            }
            string(&mut block, value);
        }
        let mut octets = Vec::with_capacity(block.len() + 9);
        frame(&mut octets, HEADERS, LAST | END_HEADERS, self.next, &block);
        self.next += 2;
        octets
    }

    /// Takes what has come; adds to `reply` what must be said to it.
    pub(crate) fn take(
        &mut self,
        octets: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Progress, Box<dyn Error>> {
        self.came.extend_from_slice(octets);
        let mut progress = Progress { status: None, is_done: false };
        let mut place = 0;
        while let Some((head, rest)) =
            self.came.get(place..).and_then(|left| left.split_at_checked(9))
        {
            let &[a, b, c, kind, flags, ..] = head else { break };
            let length = u32::from_be_bytes([0, a, b, c]);
            let Some(payload) = rest.get(..length as usize) else { break };
            place += 9 + payload.len();
            match kind {
                DATA => {
                    self.used += length;
                    progress.is_done |= flags & LAST != 0;
                }
                HEADERS => {
                    progress.status = Some(status(payload, flags)?);
                    progress.is_done |= flags & LAST != 0;
                }
                SETTINGS if flags & LAST == 0 => frame(reply, SETTINGS, LAST, 0, &[]),
                PING if flags & LAST == 0 => frame(reply, PING, LAST, 0, payload),
                RST_STREAM | GOAWAY => {
                    return Err("the server ended a stream or a connection".into());
                }
                _ => {}
            }
        }
        self.came.drain(..place);
        if self.used > WINDOW / 2 {
            frame(reply, WINDOW_UPDATE, 0, 0, &self.used.to_be_bytes());
            self.used = 0;
        }
        Ok(progress)
    }
}

/// The first field of a response: 200 to 500 are 8 to 14 of the static table (RFC 7541 appendix A).
fn status(payload: &[u8], flags: u8) -> Result<u16, Box<dyn Error>> {
    let before = usize::from(flags & PADDED != 0) + if flags & PRIORITY != 0 { 5 } else { 0 };
    // A new size of the dynamic table may come first (§6.3 there).
    let first = payload.iter().skip(before).find(|octet| **octet >> 5 != 1);
    match first {
        Some(0x88) => Ok(200),
        Some(0x8a) => Ok(206),
        Some(0x8b) => Ok(304),
        other => {
            Err(format!("neither 200, 206 nor 304, but a field that begins with {other:?}").into())
        }
    }
}

fn frame(octets: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a frame of ours is short");
    octets.extend_from_slice(&length.to_be_bytes()[1..]);
    octets.extend([kind, flags]);
    octets.extend(stream.to_be_bytes());
    octets.extend_from_slice(payload);
}

/// Not compressed (RFC 7541 §5.1, §5.2).
fn string(block: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    if length < 0x7f {
        block.push(u8::try_from(length).expect("less than 127"));
    } else {
        block.push(0x7f);
        length -= 0x7f;
        while length >= 0x80 {
            block.push(u8::try_from(length % 0x80).expect("less than 128") | 0x80);
            length /= 0x80;
        }
        block.push(u8::try_from(length).expect("less than 128"));
    }
    block.extend_from_slice(text.as_bytes());
}
