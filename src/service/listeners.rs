//! The listeners: where they are, and what those for clients answer handshakes with.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Fault, Listener, ListenerTls};
use crate::server::{Listening, Secured, Server};

use super::supervised::Sockets;
use super::warming::Asked;
use super::{NotStarted, Parts};

/// So many connections may wait to be accepted, if the kernel lets them (`net.core.somaxconn`, and that is its own default):
/// of more that come at once, as when a gateway has been started anew, the first packets are dropped, and their clients
/// try again after a second.
const BACKLOG: u32 = 4096;

/// Where the gateway listens, before it answers.
pub struct Listeners {
    /// For clients, in the order of the configuration.
    pub clients: Vec<TcpListener>,
    /// For operators, where `[admin]` is.
    pub operators: Option<TcpListener>,
    /// Nothing is accepted before this.
    pub opens: CancellationToken,
}

impl Listeners {
    /// Listens on the addresses of a configuration.
    ///
    /// # Errors
    /// [`NotStarted::Listening`]: one is not to be had.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn bind(config: &Config) -> Result<Self, NotStarted> {
        Self::bind_or_take(config, Vec::new(), &mut Sockets::default())
    }

    /// The same, but for those that are among these, of another process, or passed to this one: they are used.
    /// What was passed and is not used is left there.
    pub(super) fn bind_or_take(
        config: &Config,
        mut known: Vec<std::net::TcpListener>,
        passed: &mut Sockets,
    ) -> Result<Self, NotStarted> {
        let of_clients = config.server.listeners().map(|it| it.listen);
        let all: Vec<_> = of_clients.chain(config.admin.iter().map(|it| it.listen)).collect();
        let mut clients = Vec::new();
        for listener in config.server.listeners() {
            clients.push(listen(listener.listen, &all, &mut known, passed)?);
        }
        let operators = match &config.admin {
            Some(admin) => Some(listen(admin.listen, &all, &mut known, passed)?),
            None => None,
        };
        Ok(Self::open(clients, operators))
    }

    /// Those that are bound already.
    pub fn open(clients: Vec<TcpListener>, operators: Option<TcpListener>) -> Self {
        let opens = CancellationToken::new();
        opens.cancel();
        Self { clients, operators, opens }
    }

    /// The same sockets once more.
    pub(super) fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let all = self.clients.iter().chain(&self.operators);
        all.map(|listener| listener.as_fd().try_clone_to_owned()).collect()
    }
}

/// Reads the files that the listeners of a configuration name.
pub(super) fn load(
    config: &Config,
    file: &str,
    faults: &mut Vec<Fault>,
) -> Vec<(ListenerTls, Secured)> {
    let mut load = |tls: &ListenerTls| match Secured::load(tls) {
        Ok(made) => Some((tls.clone(), made)),
        Err(unusable) => {
            faults.extend(unusable.iter().map(|it| {
                let cause = it.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                Fault::new(file, it.place, format!("[server] tls: {it}{cause}"))
            }));
            None
        }
    };
    config.server.listeners().filter_map(|it| load(it.tls.as_ref()?)).collect()
}

/// Of each listener, in the order of the configuration; none for cleartext. What comes of the same content
/// as before is what was there, so that sessions can be resumed. One whose files were not loaded runs
/// until a restart: they are read anew, and if they are gone, what they came to stays.
pub(super) fn secured(
    config: &Config,
    loaded: &[(ListenerTls, Secured)],
    former: Option<&Parts>,
) -> Vec<Option<Secured>> {
    let former = former.map_or(&[][..], |former| &former.secured);
    let of = |(place, listener): (usize, &Listener)| {
        let tls = listener.tls.as_ref()?;
        let made = loaded.iter().find(|(known, _)| known == tls).map(|(_, made)| made.clone());
        let Some(made) = made.or_else(|| Secured::load(tls).ok()) else {
            return former.get(place).cloned().flatten();
        };
        let known = former.iter().flatten().find(|known| known.is_same(&made));
        Some(known.cloned().unwrap_or(made))
    };
    config.server.listeners().enumerate().map(of).collect()
}

/// Each listener with what it answers handshakes with.
pub(super) fn listening(clients: Vec<TcpListener>, secured: &[Option<Secured>]) -> Vec<Listening> {
    let listening = clients.into_iter().zip(secured.iter().cloned());
    listening.map(|(listener, secured)| Listening { listener, secured }).collect()
}

/// The first listeners where the gateway itself is answered.
pub(super) fn asked(config: &Config, server: &Server) -> Asked {
    let first = |is_wanted: fn(&Listener) -> bool| {
        let mut listeners = config.server.listeners().zip(server.addresses());
        let found = listeners.find(|(it, _)| it.answers_itself() && is_wanted(it));
        found.map(|(_, address)| *address)
    };
    Asked { plain: first(|it| it.tls.is_none()), secure: first(|it| it.tls.is_some()) }
}

/// Listens on one of these addresses, by one of those that are `known` or `passed` if it is there.
fn listen(
    address: SocketAddr,
    all: &[SocketAddr],
    known: &mut Vec<std::net::TcpListener>,
    passed: &mut Sockets,
) -> Result<TcpListener, NotStarted> {
    let own = |it: &std::net::TcpListener| it.local_addr().ok();
    // Beside one for IPv4 it was for IPv6 alone, and stays so: taken now, it would leave those clients to nobody.
    let was_apart = known.iter().filter_map(own).any(|it| is_apart(address, &[it]));
    let may_be_known = !was_apart || is_apart(address, all);
    let is_there = |it: &std::net::TcpListener| may_be_known && own(it) == Some(address);
    let known = known.iter().position(is_there).map(|place| known.swap_remove(place));
    // One that is both is the same socket twice. None of them may stay among those that no listener has.
    let passed = passed.take(address);
    let listener = match known.or(passed) {
        Some(listener) => TcpListener::from_std(listener),
        None => bind(address, is_apart(address, all)),
    };
    listener.map_err(|source| NotStarted::Listening { address, source })
}

/// Whether this is `[::]`, and one of the others takes connections over IPv4 at its port. The system lets nobody
/// listen there if `[::]` takes these, too.
fn is_apart(address: SocketAddr, others: &[SocketAddr]) -> bool {
    let is_all = address.is_ipv6() && address.ip().is_unspecified() && address.port() != 0;
    is_all && others.iter().any(|it| it.is_ipv4() && it.port() == address.port())
}

/// `is_apart`: for IPv6 alone. Otherwise it is the system's matter whether `[::]` is.
fn bind(address: SocketAddr, is_apart: bool) -> io::Result<TcpListener> {
    let of = if address.is_ipv4() { TcpSocket::new_v4 } else { TcpSocket::new_v6 };
    let socket = of()?;
    if is_apart {
        set_ipv6_v6only(&socket, true)?;
    }
    // Connections of a process that has ended may still be on their way out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::Ipv6Addr;
    use std::time::Duration;

    use rustix::net::sockopt::ipv6_v6only;
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn as_many_may_wait_as_the_kernel_lets() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let most = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        for number in 0..most.trim().parse::<usize>().unwrap().min(500) {
            // What is dropped is sent again after a second, and dropped.
            let stream = timeout(Duration::from_secs(20), TcpStream::connect(address)).await;
            waiting.push(stream.unwrap_or_else(|_| panic!("{number} may wait")).unwrap());
        }
    }

    #[tokio::test]
    async fn all_addresses_of_ipv6_leave_those_of_ipv4_to_their_own_listener() {
        let v4 = bind("127.0.0.1:0".parse().unwrap(), false).unwrap().into_std().unwrap();
        let one = v4.local_addr().unwrap();
        let all = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), one.port());
        let listen = |others: &[SocketAddr], known: &[&std::net::TcpListener]| {
            let mut known = known.iter().map(|it| it.try_clone().unwrap()).collect();
            listen(all, others, &mut known, &mut Sockets::default())
        };
        assert!(listen(&[all], &[]).is_err(), "the port is in use over IPv4");
        let v6 = listen(&[one, all], &[]).unwrap().into_std().unwrap();
        assert!(ipv6_v6only(&v6).unwrap());
        for (others, known, expected, why) in [
            (&[one, all][..], &[&v4, &v6][..], true, "nothing has changed"),
            (&[all], &[&v6], true, "nobody was beside it"),
            (&[all], &[&v4, &v6], false, "clients over IPv4 would be left"),
        ] {
            assert_eq!(listen(others, known).is_ok(), expected, "{why}");
        }
    }
}
