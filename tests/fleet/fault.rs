//! What befalls Redis, the ways to it, and the gateways.

use crate::stage::Stage;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    CutWay(usize),
    KillConnections,
    HoldRedis,
    /// It comes back with what it held when it was saved, or with nothing.
    KillRedis,
    SaveRedis,
    FlushRedis,
    KillGateway(usize),
    EndGateway(usize),
    PauseGateway(usize),
}

impl Fault {
    /// One of these, with this gateway if it is about one. What comes more often is more likely.
    pub(crate) fn all(gateway: usize) -> [Self; 12] {
        [
            Self::CutWay(gateway),
            Self::CutWay(gateway),
            Self::CutWay(gateway),
            Self::CutWay(gateway),
            Self::KillConnections,
            Self::HoldRedis,
            Self::KillRedis,
            Self::SaveRedis,
            Self::FlushRedis,
            Self::KillGateway(gateway),
            Self::EndGateway(gateway),
            Self::PauseGateway(gateway),
        ]
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CutWay(_) => "way cut",
            Self::KillConnections => "connections killed",
            Self::HoldRedis => "Redis held",
            Self::KillRedis => "Redis killed",
            Self::SaveRedis => "Redis saved",
            Self::FlushRedis => "Redis flushed",
            Self::KillGateway(_) => "gateway killed",
            Self::EndGateway(_) => "gateway ended",
            Self::PauseGateway(_) => "gateway paused",
        }
    }

    pub(crate) fn is_of_gateway(self) -> bool {
        matches!(self, Self::KillGateway(_) | Self::EndGateway(_) | Self::PauseGateway(_))
    }

    /// Until it is mended, Redis answers nothing.
    pub(crate) fn takes_redis_away(self) -> bool {
        matches!(self, Self::HoldRedis | Self::KillRedis)
    }
}

impl Stage {
    pub(crate) async fn strike(&mut self, fault: Fault) {
        let Self { redis, gateways, .. } = self;
        match fault {
            Fault::CutWay(gateway) => gateways[gateway].way.cut(),
            Fault::KillConnections => {
                drop(redis.ask("CLIENT KILL TYPE normal SKIPME yes").unwrap());
            }
            Fault::HoldRedis => redis.hold(),
            Fault::KillRedis => redis.kill(),
            Fault::SaveRedis => drop(redis.ask("SAVE").unwrap()),
            Fault::FlushRedis => drop(redis.ask("FLUSHALL").unwrap()),
            Fault::KillGateway(gateway) => gateways[gateway].end("KILL").await,
            Fault::EndGateway(gateway) => gateways[gateway].end("TERM").await,
            Fault::PauseGateway(gateway) => gateways[gateway].pause().await,
        }
    }

    pub(crate) async fn mend(&mut self, fault: Fault) {
        let Self { redis, gateways, .. } = self;
        match fault {
            Fault::CutWay(gateway) => gateways[gateway].way.mend(),
            Fault::HoldRedis => redis.release(),
            Fault::KillRedis => redis.restart(),
            Fault::KillGateway(gateway) | Fault::EndGateway(gateway) => {
                gateways[gateway].start().await;
            }
            Fault::PauseGateway(gateway) => gateways[gateway].go_on().await,
            Fault::KillConnections | Fault::SaveRedis | Fault::FlushRedis => {}
        }
    }
}
