//! A listener as its connections see it: what is spoken there.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::{Listener, ProxyProtocol};

use super::tls::Secured;

/// What is spoken on the connections of a listener.
pub(super) struct Door {
    tls: Option<ArcSwap<Secured>>,
    /// Connections begin with a header of such a proxy.
    proxy: Option<ProxyProtocol>,
    /// Who comes here is sent to this port, to speak TLS.
    pub(super) redirect: Option<u16>,
}

/// The doors of all listeners, in the order of the configuration. Clones are the same doors.
#[derive(Clone)]
pub struct Doors(pub(super) Arc<[Arc<Door>]>);

impl Door {
    pub(super) fn new(listener: &Listener, secured: Option<Secured>) -> Self {
        let Listener { proxy, redirect, .. } = listener;
        let tls = secured.map(ArcSwap::from_pointee);
        Self { tls, proxy: proxy.clone(), redirect: *redirect }
    }

    /// What the handshakes of this moment are answered with; none: cleartext is spoken.
    pub(super) fn tls(&self) -> Option<Arc<Secured>> {
        self.tls.as_ref().map(ArcSwap::load_full)
    }

    /// Whether a connection from this address begins with a header that tells whose it is. None: it is to
    /// be refused.
    pub(super) fn expects_header(&self, address: IpAddr) -> Option<bool> {
        self.proxy.as_ref().map_or(Some(false), |proxy| proxy.expects_header(address))
    }

    /// `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

impl Doors {
    /// Answers handshakes from now on with what was read last. Those under way, and connections, go
    /// on with what they began with.
    pub fn secure(&self, secured: &[Option<Secured>]) {
        for (door, secured) in self.0.iter().zip(secured) {
            if let (Some(tls), Some(secured)) = (&door.tls, secured) {
                tls.store(Arc::new(secured.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_header_is_believed() {
        let door = |proxy| {
            let address = "127.0.0.1:0".parse().unwrap();
            Door::new(&Listener { proxy, ..Listener::on(address) }, None)
        };
        let from = |accepts_others| {
            let from = Some(vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()]);
            Some(ProxyProtocol { from, accepts_others })
        };
        for (address, expected) in [
            ("10.1.2.3", [Some(true), Some(true)]),
            ("::ffff:10.1.2.3", [Some(true), Some(true)]),
            ("::1", [Some(true), Some(true)]),
            ("192.0.2.1", [None, Some(false)]),
        ] {
            let address = address.parse().unwrap();
            let found = [false, true].map(|accept| door(from(accept)).expects_header(address));
            assert_eq!(found, expected, "{address}");
            assert_eq!(door(None).expects_header(address), Some(false));
            let all = ProxyProtocol { from: None, accepts_others: false };
            assert_eq!(door(Some(all)).expects_header(address), Some(true));
        }
    }
}
