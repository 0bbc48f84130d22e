//! Sending a request to the servers behind Larder: connections, time limits, what failed.
//!
//! [`Upstream::send`] is the path of one forward request. `outgoing` is the request and `content` what
//! it carries, `server` one server and an exchange with it, `tls` whom that believes; `reply` is the
//! content of a response on its way back, `failure` why there is none.
//!
//! What may be sent, and what a failure becomes for the client, is `gateway`'s business.

mod content;
mod failure;
mod outgoing;
mod reply;
mod server;
mod tls;

use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;

use crate::config;

pub use self::content::Content;
pub use self::failure::{Cause, Failure};
pub use self::outgoing::Outgoing;
pub use self::reply::{Incomplete, Reply};
pub use self::tls::Unusable;

use self::server::Server;

/// A group of servers that answer the same requests, used in turn.
pub struct Upstream {
    servers: Box<[Server]>,
    next: AtomicUsize,
}

impl Upstream {
    /// An upstream as configured. Opens no connection.
    pub fn new(config: &config::Upstream) -> Result<Self, Unusable> {
        let tls = tls::client(config)?;
        let servers = config.servers.iter().map(|url| Server::new(url, config, tls.clone()));
        Ok(Self { servers: servers.collect(), next: AtomicUsize::new(0) })
    }

    /// Forwards a request and waits for the response head.
    ///
    /// The next server in turn gets it. If that refuses the connection, the one after is tried, each
    /// server once: nothing was sent, so any method may be repeated (RFC 9110 §9.2.2). A safe request
    /// whose content is at hand, or that has none, is repeated once more if the connection closes
    /// without an answer: an idle one may do that just as a request goes out.
    ///
    /// # Errors
    /// See [`Failure`]. Dropping the future gives the request up.
    pub async fn send(&self, outgoing: Outgoing<'_>) -> Result<Response<Reply>, Failure> {
        let mut may_repeat = outgoing.may_repeat();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut untried = self.servers.len();
        for server in self.servers.iter().cycle().skip(first % untried.max(1)) {
            match server.ask(&outgoing).await {
                Err(Failure::Connect(_)) if untried > 1 => untried -= 1,
                Err(Failure::Broken(cause)) if may_repeat && cause.is_close() => may_repeat = false,
                result => return result,
            }
        }
        Err(Failure::no_server())
    }
}
