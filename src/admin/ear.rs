//! The admin listener's socket: since when it accepts connections, and until when.

use std::future::pending;
use std::io;
use std::net::SocketAddr;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Accepts between two moments. Connections are served on after the second.
pub(super) struct Ear {
    listener: Option<TcpListener>,
    address: SocketAddr,
    opens: CancellationToken,
    leave: CancellationToken,
    /// Cancelled when the socket is closed.
    has_left: CancellationToken,
}

impl Ear {
    pub(super) fn new(listener: TcpListener, opens: CancellationToken) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (leave, has_left) = (CancellationToken::new(), CancellationToken::new());
        Ok(Self { listener: Some(listener), address, opens, leave, has_left })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has it closed, and what tells that it is.
    pub(super) fn leaving(&self) -> (CancellationToken, CancellationToken) {
        (self.leave.clone(), self.has_left.clone())
    }
}

impl Listener for Ear {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        if let Some(listener) = &mut self.listener {
            let accepted = async {
                self.opens.cancelled().await;
                Listener::accept(listener).await
            };
            tokio::select! {
                biased;
                () = self.leave.cancelled() => {}
                accepted = accepted => return accepted,
            }
        }
        self.listener = None;
        self.has_left.cancel();
        pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.has_left.cancel();
    }
}
