//! What ends a client's connection of HTTP/2: floods of frames that ask for nothing.
//!
//! Each such frame is answered or forgotten at once, so memory does not grow; what they take is processor
//! time that others wait for (RFC 9113 §10.5). `h2` ends floods of CONTINUATION and of small DATA
//! frames by itself. What is counted here, by the heads of the frames alone:
//!
//! - frames about the connection, as SETTINGS, more PING than that, and such as ask for nothing: by time;
//! - `RST_STREAM`: against the requests, so that one who takes back each request is told from one who
//!   sometimes does;
//! - PING: against the requests and the octets that were sent, beyond its own answers. gRPC's clients measure
//!   by one for each message how fast they get them;
//! - `WINDOW_UPDATE`: against the octets that were sent, for which it makes room, and how often something
//!   was: short messages may each be answered by one for the stream and one for the connection.
//!
//! When one is beyond its measure, `h2` gets a frame that no client may send behind it. So it says
//! GOAWAY, and closes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::heard::LastHeard;

use super::guarded::{Guard, Stop};

/// So many frames that ask for nothing may come in so long.
const MOST: u32 = 1000;
const WHILE: Duration = Duration::from_secs(10);

/// Beyond those that are due, so many `WINDOW_UPDATE` may come, as at the beginning.
const MOST_UPDATES: u64 = 1000;

/// An update makes room for at least so many octets.
const UPDATED: u64 = 64;

/// The length of a frame's head.
const HEAD: usize = 9;

/// The kinds of frames (RFC 9113 §6) that are told apart.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Of DATA: nothing comes on the stream after it.
const END_STREAM: u8 = 1;

/// Of PING: it answers one.
const ACK: u8 = 1;

/// So many octets are sent to answer a PING, and one may come for so many others.
const PONG: u64 = 17;
const PINGED: u64 = 16;

/// The frames that have come.
pub(super) struct Frames {
    /// Octets before the next frame's head: of the preface, or of a frame's content.
    skip: usize,
    head: [u8; HEAD],
    /// How much of `head` is there.
    known: usize,
    max_resets: u64,
    /// The highest stream so far.
    last: u32,
    requests: u64,
    trailers: u64,
    resets: u64,
    updates: u64,
    pings: u64,
    /// Octets that were sent, and how often.
    sent: u64,
    times: u64,
    /// Frames that asked for nothing, since this moment.
    idle: u32,
    since: Option<Instant>,
    /// When the client showed last that it is there.
    heard: Arc<LastHeard>,
    /// The listeners are left.
    leave: CancellationToken,
}

impl Frames {
    /// Of a connection whose first octets are the client's preface. So many requests may be taken back
    /// beyond half of all. What is `heard` of the client is told. Once it is to `leave`, it is heard out.
    pub(super) fn after(
        preface: usize,
        max_resets: u64,
        heard: Arc<LastHeard>,
        leave: CancellationToken,
    ) -> Self {
        Self {
            skip: preface,
            head: [0; HEAD],
            known: 0,
            max_resets,
            last: 0,
            requests: 0,
            trailers: 0,
            resets: 0,
            updates: 0,
            pings: 0,
            sent: 0,
            times: 0,
            idle: 0,
            since: None,
            heard,
            leave,
        }
    }

    /// Counts a PING; whether there was reason for it.
    fn is_due(&mut self) -> bool {
        self.pings += 1;
        self.pings <= self.requests + self.sent.saturating_sub(PONG * self.pings) / PINGED
    }

    /// Counts a frame; what there is a flood of, if there is one now.
    fn count(&mut self, kind: u8, flags: u8, stream: u32) -> Option<&'static str> {
        match kind {
            HEADERS if stream > self.last => {
                self.last = stream;
                self.requests += 1;
            }
            // Trailers, of which a request has one such frame.
            HEADERS if flags & END_STREAM > 0 && self.trailers < self.requests => {
                self.trailers += 1;
            }
            // `h2` bounds how many a head has.
            CONTINUATION if self.skip > 0 => {}
            DATA if self.skip > 0 || flags & END_STREAM > 0 => {}
            RST_STREAM => {
                self.resets += 1;
                if self.resets > self.max_resets + self.requests / 2 {
                    return Some("RST_STREAM");
                }
            }
            WINDOW_UPDATE => {
                self.updates += 1;
                let due = 2 * (self.requests + self.times) + self.sent / UPDATED;
                if self.updates > MOST_UPDATES + due {
                    return Some("WINDOW_UPDATE");
                }
            }
            PING if flags & ACK == 0 && self.is_due() => {}
            _ => {
                let since = *self.since.get_or_insert_with(clock::instant);
                self.idle += 1;
                if self.idle > MOST {
                    if since.elapsed() < WHILE {
                        return Some("frames that ask for nothing");
                    }
                    (self.idle, self.since) = (0, None);
                }
            }
        }
        None
    }
}

impl Guard for Frames {
    /// DATA on no stream, which is a connection error (RFC 9113 §6.1).
    const REFUSED: &'static [u8] = &[0; HEAD];

    const SAYS: &'static str = "connection of HTTP/2 ended";

    const WAITS: bool = false;

    const ACKNOWLEDGES: bool = true;

    /// If there is a flood: where the frame ends by which it is one, and what it is of.
    fn read(&mut self, octets: &[u8]) -> Option<Stop> {
        self.heard.is_now();
        let mut at = 0;
        while at < octets.len() {
            let skipped = self.skip.min(octets.len() - at);
            self.skip -= skipped;
            at += skipped;
            while self.known < HEAD
                && let Some(octet) = octets.get(at)
                && self.skip == 0
            {
                if let Some(place) = self.head.get_mut(self.known) {
                    *place = *octet;
                }
                self.known += 1;
                at += 1;
            }
            if self.known == HEAD {
                self.known = 0;
                let [a, b, c, kind, flags, stream @ ..] = self.head;
                self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
                let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
                if let Some(why) = self.count(kind, flags, stream) {
                    return Some(Stop::End { at: at + self.skip, why });
                }
            }
        }
        None
    }

    fn sent(&mut self, count: usize) {
        self.sent += count as u64;
        self.times += 1;
    }

    fn turned(&mut self) {
        self.heard.is_now();
    }

    /// In a drain the connection is closed once all is written, which the client may still be reading: each
    /// `WINDOW_UPDATE` says so, and would be answered by a reset, which takes the rest from it.
    fn has_more(&self) -> bool {
        self.leave.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: u8 = 4;

    fn begun() -> Frames {
        Frames::after(PREFACE.len(), 200, Arc::new(LastHeard::now()), CancellationToken::new())
    }

    fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
        let mut frame = (u32::try_from(length).unwrap() << 8).to_be_bytes()[..3].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.resize(HEAD + length, 0);
        frame
    }

    /// After how many of these there is a flood, of at most so many.
    fn flood(most: u32, sent: u64, frames: impl Fn(u32) -> Vec<u8>) -> Option<(u32, &'static str)> {
        let mut read = begun();
        read.sent = sent;
        assert!(read.read(PREFACE).is_none());
        (0..most).find_map(|turn| {
            let octets = frames(turn);
            // However they are cut.
            let (one, other) = octets.split_at(octets.len() / 2);
            let found = read.read(one).or_else(|| read.read(other));
            match found? {
                Stop::End { why, .. } => Some((turn, why)),
                Stop::Switch { .. } => None,
            }
        })
    }

    #[test]
    fn what_asks_for_nothing_is_a_flood_and_what_asks_is_none() {
        let get = |turn: u32| frame(HEADERS, 5, 2 * turn + 1, 20);
        let reset = |turn: u32| frame(RST_STREAM, 0, 2 * turn + 1, 4);
        for (what, found) in [
            ("SETTINGS", flood(5000, 0, |_| frame(SETTINGS, 0, 0, 6))),
            ("PING", flood(5000, 0, |_| frame(PING, 0, 0, 8))),
            ("its answers", flood(5000, 1 << 20, |_| frame(PING, ACK, 0, 8))),
            ("PRIORITY", flood(5000, 0, |_| frame(2, 0, 1, 5))),
            ("unknown", flood(5000, 0, |_| frame(99, 0, 1, 0))),
            ("empty DATA", flood(5000, 0, |_| frame(DATA, 0, 1, 0))),
        ] {
            assert_eq!(found, Some((MOST, "frames that ask for nothing")), "{what}");
        }
        let taken_back = |turn| [get(turn), reset(turn)].concat();
        assert_eq!(flood(5000, 0, taken_back).unwrap().1, "RST_STREAM");
        assert_eq!(flood(5000, 0, |_| frame(WINDOW_UPDATE, 0, 0, 4)).unwrap().0, 1000);

        let opens = |turn: u32| frame(HEADERS, 0, 2 * turn + 1, 20);
        let trailers = |turn: u32| frame(HEADERS, 5, 2 * turn + 1, 20);
        let continued = |turn: u32| frame(CONTINUATION, 4, 2 * turn + 1, 20);
        let sometimes = |turn| if turn % 3 == 0 { taken_back(turn) } else { get(turn) };
        for (what, found) in [
            ("requests", flood(5000, 0, get)),
            ("one PING each", flood(5000, 0, |turn| [get(turn), frame(PING, 0, 0, 8)].concat())),
            ("one for each message", flood(5000, 5000 * 33, |_| frame(PING, 0, 0, 8))),
            ("some taken back", flood(5000, 0, sometimes)),
            ("trailers", flood(5000, 0, |turn| [opens(turn), trailers(turn)].concat())),
            ("long heads", flood(5000, 0, |turn| [opens(turn), continued(turn)].concat())),
            ("content", flood(5000, 0, |_| frame(DATA, 0, 1, 1))),
            ("ends", flood(5000, 0, |turn| [get(turn), frame(DATA, 1, turn, 0)].concat())),
            ("a download", flood(5000, 1 << 20, |_| frame(WINDOW_UPDATE, 0, 0, 4))),
        ] {
            assert_eq!(found, None, "{what}");
        }
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_is_read(
            octets in prop::collection::vec(any::<u8>(), 0..2000),
            cut in 0_usize..2000,
        ) {
            let state = |frames: &Frames| (frames.skip, frames.known, frames.requests, frames.idle);
            let (mut whole, mut parts) = (begun(), begun());
            let found = whole.read(&octets).is_some();
            let (one, other) = octets.split_at(cut.min(octets.len()));
            let found_in_parts = parts.read(one).or_else(|| parts.read(other)).is_some();
            prop_assert_eq!(found, found_in_parts);
            prop_assert!(found || state(&whole) == state(&parts));
        }
    }
}
