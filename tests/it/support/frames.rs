//! Frames of HTTP/2 written by hand, for what no client would send.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::PATIENCE;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITISED: u8 = 32;

/// What a client begins with (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) content: Vec<u8>,
}

/// The octets of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), content].concat()
}

/// The fields of a request without content, packed (RFC 7541).
pub(crate) fn request(method: &str, target: &str) -> Vec<u8> {
    let text = |index: u8, text: &str| {
        [&[index, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    };
    // `:method`, `:path` and `:authority` with values of their own; `:scheme: http` as it is.
    [text(2, method), vec![0x86], text(4, target), text(1, "a")].concat()
}

/// Fields, packed without any table.
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let field = |(name, value): &(&str, &str)| [vec![0], text(name), text(value)].concat();
    fields.iter().flat_map(field).collect()
}

/// A connection whose preface was sent.
pub(crate) struct Frames {
    sending: OwnedWriteHalf,
    came: UnboundedReceiver<Frame>,
}

impl Frames {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        Self::with(server, &[]).await
    }

    /// With these settings.
    pub(crate) async fn with(server: SocketAddr, settings: &[u8]) -> Self {
        let (reading, mut sending) = TcpStream::connect(server).await.unwrap().into_split();
        sending.write_all(PREFACE).await.unwrap();
        sending.write_all(&frame(SETTINGS, 0, 0, settings)).await.unwrap();
        Self::over(reading, sending)
    }

    /// The server's side of the next connection.
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
        let (stream, _) = accepted.expect("nobody connects").unwrap();
        let (mut reading, mut sending) = stream.into_split();
        reading.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
        let settings = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, 1, 0, &[])].concat();
        sending.write_all(&settings).await.unwrap();
        Self::over(reading, sending)
    }

    fn over(reading: OwnedReadHalf, sending: OwnedWriteHalf) -> Self {
        let (frames, came) = unbounded_channel();
        tokio::spawn(read(reading, frames));
        Self { sending, came }
    }

    /// Whether the server may still read.
    pub(crate) async fn send(&mut self, octets: &[u8]) -> bool {
        let sending = tokio::time::timeout(PATIENCE, self.sending.write_all(octets)).await;
        sending.expect("nobody reads").is_ok()
    }

    /// What comes, up to a frame of this kind.
    pub(crate) async fn until(&mut self, kind: u8) -> Vec<Frame> {
        self.take(|frame| frame.kind == kind).await
    }

    /// What comes next; none at the end, or if nothing comes.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(PATIENCE, self.came.recv()).await.ok().flatten()
    }

    /// What comes until the server closes.
    pub(crate) async fn ended(&mut self) -> Vec<Frame> {
        self.take(|_| false).await
    }

    async fn take(&mut self, is_last: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        let taking = async {
            while let Some(frame) = self.came.recv().await {
                let is_last = is_last(&frame);
                frames.push(frame);
                if is_last {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, taking).await.expect("it never came, nor the end");
        frames
    }
}

async fn read(mut from: OwnedReadHalf, frames: UnboundedSender<Frame>) {
    let mut head = [0; 9];
    while from.read_exact(&mut head).await.is_ok() {
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut content = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        // A reset after the answer is as good as a close.
        if from.read_exact(&mut content).await.is_err() {
            break;
        }
        let frame = Frame { kind, flags, stream: u32::from_be_bytes(stream), content };
        if frames.send(frame).is_err() {
            break;
        }
    }
}
