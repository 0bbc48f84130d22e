//! What each gateway may not serve any more, as far as the test has been told.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use larder::stored::Position;

use crate::origin::RESOURCES;
use crate::stage::GATEWAYS;

/// The oldest version of each resource that may be served.
pub(crate) type Floor = [u64; RESOURCES];

/// A purge that all gateways will apply, as one of them has said.
pub(crate) struct Purge {
    pub(crate) id: String,
    pub(crate) floor: Floor,
}

/// So many purges are asked about.
const MOST: usize = 50;

#[derive(Default)]
pub(crate) struct Truth {
    /// By gateway: of purges that the fleet knows, and it has applied.
    known: [Floor; GATEWAYS],
    /// By gateway: of what it has applied, and perhaps nobody else will hear of.
    own: [Floor; GATEWAYS],
    /// Acknowledged for longer than the bound.
    everywhere: Floor,
    acknowledged: VecDeque<(Instant, Floor)>,
    pub(crate) purges: VecDeque<Purge>,
}

impl Truth {
    /// A gateway has said that it has applied this, and whether the fleet will hear of it.
    pub(crate) fn purged(&mut self, gateway: usize, purge: Purge, shared: bool, now: Instant) {
        if !shared {
            return self.wrote(gateway, &purge.floor);
        }
        raise(&mut self.known[gateway], &purge.floor);
        self.acknowledged.push_back((now, purge.floor));
        self.purges.push_back(purge);
        if self.purges.len() > MOST {
            self.purges.pop_front();
        }
    }

    /// A write through a gateway has been answered.
    pub(crate) fn wrote(&mut self, gateway: usize, floor: &Floor) {
        raise(&mut self.own[gateway], floor);
    }

    /// A receipt says that a gateway has applied a purge.
    pub(crate) fn applied(&mut self, gateway: usize, id: &str) {
        if let Some(purge) = self.purges.iter().find(|purge| purge.id == id) {
            raise(&mut self.known[gateway], &purge.floor);
        }
    }

    /// A gateway says that it has applied every record up to here.
    pub(crate) fn reached(&mut self, gateway: usize, position: Position) {
        let is_reached = |id: &str| id.parse::<Position>().is_ok_and(|id| id <= position);
        for purge in self.purges.iter().filter(|purge| is_reached(&purge.id)) {
            raise(&mut self.known[gateway], &purge.floor);
        }
    }

    /// What it alone knew is gone.
    pub(crate) fn ended(&mut self, gateway: usize) {
        self.own[gateway] = Floor::default();
    }

    /// The oldest version that this gateway may answer a request with that is sent now.
    pub(crate) fn floor(
        &mut self,
        gateway: usize,
        resource: usize,
        now: Instant,
        bound: Duration,
    ) -> u64 {
        while let Some((at, floor)) = self.acknowledged.front()
            && now.duration_since(*at) > bound
        {
            raise(&mut self.everywhere, floor);
            self.acknowledged.pop_front();
        }
        let floors = [&self.known[gateway], &self.own[gateway], &self.everywhere];
        floors.map(|floor| floor[resource]).into_iter().max().unwrap_or_default()
    }
}

fn raise(floor: &mut Floor, by: &Floor) {
    for (floor, by) in floor.iter_mut().zip(by) {
        *floor = (*floor).max(*by);
    }
}
