//! The listeners: where they are, and what those for clients answer handshakes with.

use std::error::Error as _;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::config::{Config, Fault, Listener};
use crate::server::{Listening, Secured, Server};

use super::{NotStarted, Parts};

/// Where the gateway listens, before it answers.
pub struct Listeners {
    /// For clients, in the order of the configuration.
    pub clients: Vec<TcpListener>,
    /// For operators, where `[admin]` is.
    pub operators: Option<TcpListener>,
}

impl Listeners {
    /// Listens on the addresses of a configuration.
    ///
    /// # Errors
    /// [`NotStarted::Listening`]: one is not to be had.
    pub async fn bind(config: &Config) -> Result<Self, NotStarted> {
        let mut clients = Vec::new();
        for listener in config.server.listeners() {
            clients.push(listen(listener.listen).await?);
        }
        let operators = match &config.admin {
            Some(admin) => Some(listen(admin.listen).await?),
            None => None,
        };
        Ok(Self { clients, operators })
    }
}

/// Of each listener, in the order of the configuration; none for cleartext. Files are read; what comes
/// of the same content as before is what was there, so that sessions can be resumed.
pub(super) fn secured(
    config: &Config,
    file: &str,
    former: Option<&Parts>,
    faults: &mut Vec<Fault>,
) -> Vec<Option<Secured>> {
    let former = former.map_or(&[][..], |former| &former.secured);
    let mut load = |tls| match Secured::load(tls) {
        Ok(made) => {
            let known = former.iter().flatten().find(|known| known.is_same(&made));
            Some(known.cloned().unwrap_or(made))
        }
        Err(unusable) => {
            faults.extend(unusable.iter().map(|it| {
                let cause = it.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                Fault::new(file, it.place, format!("[server] tls: {it}{cause}"))
            }));
            None
        }
    };
    config.server.listeners().map(|it| it.tls.as_ref().and_then(&mut load)).collect()
}

/// Each listener with what it answers handshakes with.
pub(super) fn listening(clients: Vec<TcpListener>, secured: &[Option<Secured>]) -> Vec<Listening> {
    let listening = clients.into_iter().zip(secured.iter().cloned());
    listening.map(|(listener, secured)| Listening { listener, secured }).collect()
}

/// Where requests in cleartext are answered without more; the first listener if nowhere.
pub(super) fn plain(config: &Config, server: &Server) -> SocketAddr {
    let is_plain = |it: &Listener| it.tls.is_none() && it.proxy.is_none() && it.redirect.is_none();
    let mut listeners = config.server.listeners().zip(server.addresses());
    let plain = listeners.find(|(listener, _)| is_plain(listener));
    plain.map_or_else(|| server.address(), |(_, address)| *address)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, NotStarted> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| NotStarted::Listening { address, source })
}
