//! The service as whoever has started it sees it, be it systemd or what speaks as that does: it is told what
//! becomes of the process (`sd_notify(3)`), and may have opened its listeners (`sd_listen_fds(3)`).

mod notifier;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use listenfd::ListenFd;
use rustix::net::sockopt::ipv6_v6only;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::config::Supervisor;

pub(super) use self::notifier::Notifier;

/// What has come of the environment.
#[derive(Default)]
pub struct Supervised {
    pub(super) notifier: Notifier,
    sockets: Sockets,
}

/// Sockets that are listened on, from before this process was.
#[derive(Default)]
pub(super) struct Sockets(Vec<(String, TcpListener)>);

impl Supervised {
    /// Takes what is there. To be called once, at the beginning: no other thread may be there, since the
    /// environment changes, and nobody else may have those sockets.
    pub fn of_environment() -> Self {
        let supervisor = Supervisor::of_environment();
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for place in 0..passed.len() {
            let name = supervisor.sockets.get(place).map_or("unknown", String::as_str);
            match passed.take_tcp_listener(place) {
                Ok(Some(socket)) => sockets.push((name.to_owned(), socket)),
                Ok(None) => {}
                Err(error) => warn!(name, %error, "a socket was passed that is none of TCP"),
            }
        }
        Self { notifier: Notifier::of(&supervisor), sockets: Sockets(sockets) }
    }

    /// Both parts.
    pub(super) fn parts(self) -> (Notifier, Sockets) {
        (self.notifier, self.sockets)
    }
}

impl Sockets {
    /// The one that listens where this is to be listened.
    ///
    /// systemd opens `ListenStream=80` as `[::]:80`, which takes what comes to 0.0.0.0, too, unless it is for IPv6 alone
    /// (`BindIPv6Only=`). Both stand for all addresses.
    pub(super) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let place = |is_it: &dyn Fn(&TcpListener, SocketAddr) -> bool| {
            let is_it = |it: &TcpListener| it.local_addr().is_ok_and(|own| is_it(it, own));
            self.0.iter().position(|(_, socket)| is_it(socket))
        };
        let is_of_all = |socket: &TcpListener, own: SocketAddr| {
            let both = [own.ip(), address.ip()];
            own.port() == address.port()
                && own.is_ipv6()
                && both.iter().all(IpAddr::is_unspecified)
                && ipv6_v6only(socket).is_ok_and(|is_alone| !is_alone)
        };
        let place = place(&|_, own| own == address).or_else(|| place(&is_of_all))?;
        let (_, socket) = self.0.swap_remove(place);
        socket.set_nonblocking(true).ok().map(|()| socket)
    }

    /// Has connections to what is left closed, from now on until the listeners are left. It is not enough to close the
    /// sockets: whoever has passed them has them, too, and clients would wait in their queues for ever.
    ///
    /// Another process may still listen by them before this one answers, or again once it does not.
    pub(super) fn turn_away(self, leave: &CancellationToken) {
        for (name, socket) in self.0 {
            let address = socket.local_addr().ok().map(tracing::field::display);
            warn!(name, address, "a socket was passed that no listener has, and answers nobody");
            let turning = leave.clone().run_until_cancelled_owned(turn_away(socket));
            TaskTracker::new().spawn(turning);
        }
    }
}

async fn turn_away(socket: TcpListener) {
    let listener = socket.set_nonblocking(true);
    let listener = listener.and_then(|()| tokio::net::TcpListener::from_std(socket));
    let Ok(listener) = listener else { return };
    loop {
        if listener.accept().await.is_err() {
            // Out of descriptors, most likely.
            sleep(Duration::from_secs(1)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::set_ipv6_v6only;
    use tokio::net::TcpSocket;

    use super::*;

    #[test]
    fn a_socket_is_found_by_its_address() {
        let sockets = || {
            let bound = ["127.0.0.1:0", "[::]:0"].map(|it| TcpListener::bind(it).unwrap());
            let addresses = bound.each_ref().map(|it| it.local_addr().unwrap());
            (Sockets(bound.into_iter().map(|it| (String::new(), it)).collect()), addresses)
        };
        let (mut own, [one, all]) = sockets();
        for (wanted, expected, why) in [
            (SocketAddr::new([0, 0, 0, 0].into(), one.port()), None, "it is one of all addresses"),
            (SocketAddr::new([127, 0, 0, 1].into(), all.port()), None, "it is more than that"),
            (one, Some(one), "it is the one"),
            (one, None, "it is taken"),
            (SocketAddr::new([0, 0, 0, 0].into(), all.port()), Some(all), "it is of all addresses"),
            (all, None, "it is taken"),
        ] {
            let taken = own.take(wanted).map(|it| it.local_addr().unwrap());
            assert_eq!(taken, expected, "{wanted}: {why}");
        }
    }

    #[tokio::test]
    async fn a_socket_for_ipv6_alone_is_not_taken_for_ipv4() {
        let socket = TcpSocket::new_v6().unwrap();
        set_ipv6_v6only(&socket, true).unwrap();
        socket.bind("[::]:0".parse().unwrap()).unwrap();
        let socket = socket.listen(1).unwrap().into_std().unwrap();
        let own = socket.local_addr().unwrap();
        let mut sockets = Sockets(vec![(String::new(), socket)]);
        assert!(sockets.take(SocketAddr::new([0, 0, 0, 0].into(), own.port())).is_none());
        assert!(sockets.take(own).is_some());
    }
}
