//! What ends a client's connection of HTTP/1: something that could be read in two ways.
//!
//! [`Framing`] reads along. From where it finds something unclear, hyper gets octets that it refuses in
//! place of those that came: so it answers the requests before in their order, this one with 400, and
//! closes. If it is a content that is unclear, it breaks off.

use crate::framing::{Framing, Unclear};

use super::guarded::{Guard, Stop};

/// Finds what is unclear.
#[derive(Default)]
pub(super) struct Strict(Framing);

impl Strict {
    /// Whether the last piece was one request: see [`Framing::is_whole`].
    pub(super) fn has_whole_request(&self) -> bool {
        self.0.is_whole()
    }
}

impl Guard for Strict {
    /// No request line, field, size of a chunk, extension of one, or trailer.
    const REFUSED: &'static [u8] = b"\0\n\r\n\r\n";

    const SAYS: &'static str = "request refused";

    const WAITS: bool = true;

    const ACKNOWLEDGES: bool = false;

    fn read(&mut self, came: &[u8]) -> Option<Stop> {
        match self.0.read(came) {
            Ok(at) => Some(Stop::Switch { at: at? }),
            Err(Unclear { at, why }) => Some(Stop::End { at, why }),
        }
    }

    fn is_between(&self) -> bool {
        self.0.is_between()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::*;
    use crate::server::guarded::Guarded;
    use crate::server::idle::Idle;
    use crate::server::switch::Switch;
    use crate::stall::Patient;

    #[tokio::test]
    async fn what_is_unclear_is_not_read_however_it_comes() {
        const CAME: &[u8] = b"GET / HTTP/1.1\r\nA: b\r\n\r\nGET / HTTP/1.1\r\nA: b\n\r\nGET";

        for room in 1..CAME.len() {
            let mut strict = Guarded::new(
                Patient::new(CAME, Duration::MAX),
                Strict::default(),
                Switch::default(),
                Idle::default(),
            );
            let mut read = Vec::new();
            loop {
                let mut piece = vec![0; room];
                match strict.read(&mut piece).await.unwrap() {
                    0 => break,
                    count => read.extend_from_slice(&piece[..count]),
                }
            }
            let clear = read.strip_suffix(Strict::REFUSED).unwrap();
            // What came of a line before its end has been read.
            assert!(CAME.starts_with(clear) && !clear.ends_with(b"\n\r"), "{room}: {read:?}");
            assert!((40..=44).contains(&clear.len()), "{room}: {read:?}");
        }
    }

    #[tokio::test]
    async fn only_who_may_be_sending_a_request_is_heard_out() {
        for (came, is_waited_for) in [
            ("", false),
            ("GET / HTTP/1.1\r\nA: b\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", false),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", true),
            ("GET / HTTP/1.1\r\nA:", true),
            ("GET / HTTP/1.1\r\nA: b\n\r\n", true),
        ] {
            let (mut client, stream) = duplex(1024);
            let stream = Patient::new(stream, Duration::MAX);
            let mut strict =
                Guarded::new(stream, Strict::default(), Switch::default(), Idle::default());
            client.write_all(came.as_bytes()).await.unwrap();
            // There is nothing to read of nothing.
            let mut read = [0; 1024];
            let _read = timeout(Duration::ZERO, strict.read(&mut read)).await;
            let closed = timeout(Duration::ZERO, strict.shutdown()).await;
            assert_eq!(closed.is_err(), is_waited_for, "{came:?}");
        }
    }
}
