//! Octets both ways between a client and an upstream that have agreed on another protocol than HTTP.
//!
//! Nothing is held but what one side has sent and the other has not taken: one piece for each direction,
//! and none while nothing comes. Whoever sends no more may go on reading, and the other is told.

use std::any::Any;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::heard::LastHeard;

/// The longest piece that is passed on at once.
const PIECE: usize = 16 * 1024;

/// Whoever does not take the end within this time is left alone with it.
const PATIENCE: Duration = Duration::from_millis(500);

/// A client's connection, as a request on it that may have it go on in another protocol has it.
#[derive(Clone)]
pub struct Ground {
    /// Counts the connection among those that are open.
    _open: Arc<dyn Any + Send + Sync>,
    closing: CancellationToken,
}

/// What goes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A client's stream of HTTP/2, for whoever has it go on in another protocol: an extension of its request.
/// Clones are the same stream.
#[derive(Clone)]
pub struct Opened(Arc<Mutex<Option<oneshot::Receiver<Stream>>>>);

type Stream = Box<dyn Duplex>;

/// Where that stream comes from, once the response has gone.
pub type Opens = oneshot::Sender<Stream>;

impl Opened {
    /// A stream that is to come.
    pub fn later() -> (Opens, Self) {
        let (opens, opened) = oneshot::channel();
        (opens, Self(Arc::new(Mutex::new(Some(opened)))))
    }

    /// Waits for it. None: it does not go on, or somebody else has it.
    pub fn stream(&self) -> impl Future<Output = Option<Box<dyn Duplex>>> + Send + use<> {
        let opened = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        async { opened?.await.ok() }
    }
}

/// Why a tunnel came to its end.
#[derive(Debug)]
pub enum End {
    /// Both sides have sent everything.
    Both,
    /// One of them broke off.
    Broken(io::Error),
    /// Neither has sent anything for so long.
    Silent,
    /// The gateway is about to stop.
    Closing,
}

impl Ground {
    /// As long as there is one of its clones, `open` is not dropped. Tunnels end once `closing` says so.
    pub fn new(open: Arc<dyn Any + Send + Sync>, closing: CancellationToken) -> Self {
        Self { _open: open, closing }
    }

    /// Passes on what either side sends, until there is an end. Both are told of it.
    ///
    /// Dropping the future breaks both connections off.
    pub async fn tunnel<C, U>(&self, client: C, upstream: U, idle_timeout: Duration) -> End
    where
        C: AsyncRead + AsyncWrite,
        U: AsyncRead + AsyncWrite,
    {
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
        // In either direction.
        let moved = LastHeard::now();
        let up = pass_on(&mut from_client, &mut to_upstream, &moved);
        let down = pass_on(&mut from_upstream, &mut to_client, &moved);
        let end = tokio::select! {
            both = async { tokio::try_join!(up, down) } => both.map_or_else(End::Broken, |_| End::Both),
            () = moved.silence(idle_timeout) => End::Silent,
            () = self.closing.cancelled() => End::Closing,
        };
        if !matches!(end, End::Both) {
            let both = async { tokio::join!(to_client.shutdown(), to_upstream.shutdown()) };
            // Who has gone need not be told.
            drop(timeout(PATIENCE, both).await);
        }
        end
    }
}

/// Passes on what comes until there is no more, and says so.
async fn pass_on(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: &LastHeard,
) -> io::Result<()> {
    loop {
        let piece = next(from).await?;
        moved.is_now();
        if piece.is_empty() {
            return to.shutdown().await;
        }
        to.write_all(&piece).await?;
        // TLS may keep what is written.
        to.flush().await?;
        moved.is_now();
    }
}

/// The next piece; empty: there is no more.
async fn next(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Box<[u8]>> {
    std::future::poll_fn(|cx| {
        // On the stack, so that a connection which waits has no room set aside.
        let mut room = [MaybeUninit::uninit(); PIECE];
        let mut room = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *from).poll_read(cx, &mut room))?;
        Poll::Ready(Ok(room.filled().into()))
    })
    .await
}
