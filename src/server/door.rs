//! A listener as its connections see it: what is spoken there.

use std::sync::Arc;

use super::tls::Secured;
use arc_swap::ArcSwap;

/// What is spoken on the connections of a listener.
pub(super) struct Door {
    tls: Option<ArcSwap<Secured>>,
}

/// The doors of all listeners, in the order of the configuration. Clones are the same doors.
#[derive(Clone)]
pub struct Doors(pub(super) Arc<[Arc<Door>]>);

impl Door {
    pub(super) fn new(secured: Option<Secured>) -> Self {
        Self { tls: secured.map(ArcSwap::from_pointee) }
    }

    /// What the handshakes of this moment are answered with; none: cleartext is spoken.
    pub(super) fn tls(&self) -> Option<Arc<Secured>> {
        self.tls.as_ref().map(ArcSwap::load_full)
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
