//! An origin without a server: the test reads the octets that come and writes those that go.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::PATIENCE;

/// A listener on a free port.
pub(crate) struct Wire(TcpListener);

/// A connection that the gateway, or a client of the test's, has open. Dropping it closes it.
pub(crate) struct Line {
    stream: TcpStream,
    came: Vec<u8>,
}

impl Wire {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// An upstream `wire` and one route for everything before it, for `Setup::routes`.
    pub(crate) fn routes(&self) -> String {
        let address = self.0.local_addr().unwrap();
        format!(
            "[upstreams.wire]\nservers = [\"http://{address}\"]\n\n\
             [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"wire\"\n"
        )
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Line {
        let accepted = timeout(PATIENCE, self.0.accept()).await;
        let (stream, _) = accepted.expect("nobody connected").unwrap();
        Line { stream, came: Vec::new() }
    }
}

impl Line {
    /// Connects as a client does.
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), came: Vec::new() }
    }

    pub(crate) async fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.stream.write_all(octets.as_ref()).await.unwrap();
    }

    /// Takes what comes, up to the end of this text.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let reading = async {
            loop {
                let found = self.came.windows(text.len()).position(|seen| seen == text.as_bytes());
                if let Some(at) = found {
                    let taken = self.came.drain(..at + text.len()).collect();
                    return String::from_utf8(taken).unwrap();
                }
                let read = self.stream.read_buf(&mut self.came).await.unwrap();
                let so_far = String::from_utf8_lossy(&self.came);
                assert!(read > 0, "closed before {text:?} came: {so_far:?}");
            }
        };
        timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("no {text:?} came"))
    }

    /// Takes what comes until the other end closes.
    pub(crate) async fn rest(&mut self) -> String {
        // A reset after the answer is as good as a close.
        let reading = self.stream.read_to_end(&mut self.came);
        let _end = timeout(PATIENCE, reading).await.expect("it was never closed");
        String::from_utf8_lossy(&std::mem::take(&mut self.came)).into_owned()
    }

    /// Sends no more.
    pub(crate) async fn end(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Breaks off, so that the other end gets an error instead of an end.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Sends up to so many octets, as long as they are taken; how many were.
    pub(crate) async fn flood(&mut self, most: usize) -> usize {
        let (piece, mut sent) = (vec![b'x'; 64 << 10], 0);
        // Half a second is long for a kernel that has room.
        while sent < most
            && let piece = &piece[..piece.len().min(most - sent)]
            && let Ok(taken) = timeout(Duration::from_millis(500), self.stream.write(piece)).await
        {
            sent += taken.unwrap();
        }
        sent
    }

    /// Takes so many octets; how many came.
    pub(crate) async fn skim(&mut self, count: usize) -> usize {
        let known = count.min(self.came.len());
        self.came.drain(..known);
        let rest = (count - known) as u64;
        let (mut rest, mut nowhere) = ((&mut self.stream).take(rest), tokio::io::sink());
        let skimming = tokio::io::copy(&mut rest, &mut nowhere);
        let came = timeout(3 * PATIENCE, skimming).await.expect("it does not come").unwrap();
        known + usize::try_from(came).unwrap()
    }

    /// Goes away, and waits until the other end has noticed.
    pub(crate) async fn leave(mut self) {
        self.stream.shutdown().await.unwrap();
        self.rest().await;
    }
}
