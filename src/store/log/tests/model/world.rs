//! A world: some gateways, one Redis, what may happen to them, and the rule that holds after each step.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::super::Verdict;
use super::gateway::{Gateway, Kept, Purges, all};
use super::purge::Purge;
use super::redis::Redis;
use super::{Broken, Fault, Scene};

/// What happens next. Numbers are gateways'.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    BeginFetch(usize, usize),
    EndFetch(usize),
    WriteToL2(usize),
    TakeFromL2(usize, usize),
    /// A purge is sent to Redis, which appends it.
    Send(usize, Purge),
    Hear(usize),
    MissAnswer(usize),
    /// A purge without Redis.
    ApplyAlone(usize, Purge),
    /// What waits is appended, one record of it.
    Share(usize),
    /// As [`Action::Share`], but the answer never comes.
    ShareInVain(usize),
    /// The log's reader goes one command on.
    Read(usize),
    /// As [`Action::Read`], but the connection breaks before the answer comes.
    ReadInVain(usize),
    Cut(usize),
    Restart(usize),
    Redis(Fault),
}

/// How much may still happen.
#[derive(Clone, Hash)]
struct Left {
    fetches: u8,
    purges: u8,
    cuts: u8,
    faults: u8,
    restarts: u8,
}

pub(super) struct World {
    broken: Option<Broken>,
    /// Gateways begin in it: what they fetch before they have read the log may be dropped.
    is_cold: bool,
    redis: Redis,
    gateways: Vec<Gateway>,
    purges: Vec<Purge>,
    /// The purges that a gateway has said to be shared.
    shared: Purges,
    /// Those that a fail-over may have lost.
    doubtful: Purges,
    left: Left,
}

/// What the rule forbids.
pub(super) struct Breach(pub(super) String);

/// How often each verdict was found, to see that a world is no empty one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    pub(super) valid: usize,
    pub(super) stale: usize,
    pub(super) gone: usize,
}

impl World {
    /// The gateways read the log already, unless the scene is about the beginning.
    pub(super) fn new(scene: &Scene) -> Self {
        let left = Left {
            fetches: scene.fetches,
            purges: scene.purges,
            cuts: scene.cuts,
            faults: scene.faults,
            restarts: scene.restarts,
        };
        let gateways = (0..scene.gateways).map(|_| Gateway::new(scene.broken, 0)).collect();
        let mut world = Self {
            broken: scene.broken,
            is_cold: scene.cold || scene.restarts > 0,
            redis: Redis::new(),
            gateways,
            purges: Vec::new(),
            shared: 0,
            doubtful: 0,
            left,
        };
        if scene.told_by_another {
            for _ in 0..4 {
                world.read(0, false);
            }
            world.gateways[0].cut();
        }
        for gateway in (0..if scene.cold { 0 } else { scene.gateways }).rev() {
            for _ in 0..12 {
                world.read(gateway, false);
            }
            assert!(world.gateways[gateway].is_in_step());
        }
        world
    }

    pub(super) fn copy(&self) -> Self {
        Self {
            gateways: self.gateways.iter().map(Gateway::copy).collect(),
            redis: self.redis.clone(),
            purges: self.purges.clone(),
            left: self.left.clone(),
            ..*self
        }
    }

    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.redis, &self.purges, self.shared, self.doubtful, &self.left).hash(&mut hasher);
        // It does not matter which gateway is which.
        let mut gateways: Vec<_> = self.gateways.iter().map(Gateway::fingerprint).collect();
        gateways.sort_unstable();
        gateways.hash(&mut hasher);
        hasher.finish()
    }

    /// Everything that may happen next.
    pub(super) fn actions(&self, scene: &Scene) -> Vec<Action> {
        let mut actions = Vec::new();
        for (at, gateway) in self.gateways.iter().enumerate() {
            actions.push(Action::Read(at));
            if self.left.fetches > 0 && gateway.may_fetch() {
                actions
                    .extend((0..scene.resources).map(|resource| Action::BeginFetch(at, resource)));
            }
            if gateway.is_fetching() {
                actions.push(Action::EndFetch(at));
            }
            if gateway.is_writing() {
                actions.push(Action::WriteToL2(at));
            }
            if gateway.is_in_step() {
                let all = 0..self.redis.l2.len();
                actions.extend(all.map(|place| Action::TakeFromL2(at, place)));
            }
            if self.left.purges > 0 && !gateway.has_sent() {
                actions.extend(scene.kinds.iter().map(|purge| Action::Send(at, *purge)));
                let alone = scene.kinds.iter().filter(|_| scene.alone);
                actions.extend(alone.map(|purge| Action::ApplyAlone(at, *purge)));
            }
            if gateway.has_sent() {
                actions.push(Action::Hear(at));
            }
            if gateway.may_share() {
                actions.push(Action::Share(at));
                actions.extend((self.left.cuts > 0).then_some(Action::ShareInVain(at)));
            }
            if self.left.cuts > 0 && gateway.has_sent() {
                actions.push(Action::MissAnswer(at));
            }
            if self.left.cuts > 0 && gateway.is_connected() {
                actions.extend([Action::Cut(at), Action::ReadInVain(at)]);
            }
            if self.left.restarts > 0 {
                actions.push(Action::Restart(at));
            }
        }
        if self.left.faults > 0 {
            actions.extend(scene.kinds_of_faults.iter().map(|fault| Action::Redis(*fault)));
        }
        actions
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Read(gateway) => self.read(gateway, false),
            Action::ReadInVain(gateway) => {
                self.left.cuts -= 1;
                self.read(gateway, true);
            }
            Action::Redis(fault) => {
                self.left.faults -= 1;
                self.fault(fault);
            }
            Action::BeginFetch(gateway, resource) => {
                self.left.fetches -= 1;
                self.gateways[gateway].begin_fetch(resource, self.purges.len());
            }
            Action::EndFetch(gateway) => self.gateways[gateway].end_fetch(),
            Action::WriteToL2(gateway) => self.gateways[gateway].write(&mut self.redis),
            Action::TakeFromL2(gateway, place) => {
                self.gateways[gateway].promote(self.redis.l2[place].clone());
            }
            Action::Send(gateway, purge) => {
                let number = self.purge(purge);
                self.gateways[gateway].send(&mut self.redis, purge, number);
            }
            Action::ApplyAlone(gateway, purge) => {
                let number = self.purge(purge);
                self.gateways[gateway].apply_alone(purge, number);
            }
            Action::Hear(gateway) => {
                let shared = self.gateways[gateway].hear(&self.purges);
                self.shared |= shared.map_or(0, |number| 1 << number);
            }
            Action::MissAnswer(gateway) => {
                self.left.cuts -= 1;
                self.gateways[gateway].miss(&self.purges);
            }
            Action::Share(gateway) => self.share(gateway, false),
            Action::ShareInVain(gateway) => {
                self.left.cuts -= 1;
                self.share(gateway, true);
            }
            Action::Cut(gateway) => {
                self.left.cuts -= 1;
                self.gateways[gateway].cut();
            }
            Action::Restart(gateway) => {
                self.left.restarts -= 1;
                // That takes a while.
                self.redis.advance();
                // It begins in contact.
                self.gateways[gateway] = Gateway::new(self.broken, self.shared);
            }
        }
    }

    fn read(&mut self, gateway: usize, is_lost: bool) {
        let Self { gateways, redis, purges, shared, .. } = self;
        gateways[gateway].step(redis, purges, *shared, is_lost);
    }

    fn share(&mut self, gateway: usize, is_lost: bool) {
        let Self { gateways, redis, purges, shared, .. } = self;
        *shared |= gateways[gateway].share(redis, purges, is_lost);
    }

    fn purge(&mut self, purge: Purge) -> usize {
        self.left.purges -= 1;
        self.purges.push(purge);
        self.purges.len() - 1
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Flush | Fault::FlushBehind | Fault::RestartEmpty => {
                self.redis.lose_all(matches!(fault, Fault::RestartEmpty));
                if !matches!(fault, Fault::FlushBehind) {
                    self.redis.advance();
                }
            }
            Fault::FailOver(lost) | Fault::FailOverBehind(lost) => {
                self.redis.fail_over(lost, matches!(fault, Fault::FailOverBehind(_)));
                self.doubtful = all(&self.purges);
            }
            Fault::Trim => {
                if let Some(place) = self.redis.trim()
                    && self.broken != Some(Broken::ReadsOnAfterAll)
                {
                    self.gateways.iter_mut().for_each(|gateway| gateway.hold_up(place));
                }
            }
            Fault::ClockAhead => self.redis.advance(),
            Fault::ClockBack => self.redis.set_back(),
        }
    }

    /// Whether anything is stored, or may be: else the rule holds whatever happens.
    pub(super) fn matters(&self) -> bool {
        let is_in_l1 = |gateway: &Gateway| {
            gateway.is_fetching() || gateway.is_writing() || !gateway.l1.is_empty()
        };
        self.left.fetches > 0 || !self.redis.l2.is_empty() || self.gateways.iter().any(is_in_l1)
    }

    /// Asks every gateway for everything that it may serve.
    pub(super) fn check(&mut self, found: &mut Found) -> Result<(), Breach> {
        for at in 0..self.gateways.len() {
            let mut l1 = std::mem::take(&mut self.gateways[at].l1);
            let gateway = &self.gateways[at];
            let judged = l1.iter_mut().map(|kept| ("L1", gateway.judge(kept), kept.clone()));
            let mut judged: Vec<_> = judged.collect();
            if gateway.is_in_step() {
                let l2 = self.redis.l2.iter().cloned();
                judged.extend(l2.map(|mut kept| ("L2", gateway.judge_from_l2(&mut kept), kept)));
            }
            self.gateways[at].l1 = l1;
            for (tier, verdict, kept) in judged {
                found.count(verdict);
                self.holds(at, tier, verdict, &kept)?;
            }
        }
        Ok(())
    }

    /// The rule: what a gateway serves is not covered by an invalidation that it has applied, nor by one
    /// that it must have applied, since it says that it is in contact.
    fn holds(&self, at: usize, tier: &str, verdict: Verdict, kept: &Kept) -> Result<(), Breach> {
        let gateway = &self.gateways[at];
        for (number, purge) in self.purges.iter().enumerate().skip(kept.begun) {
            let is_in = |set: Purges| set & 1 << number != 0;
            let expected = match purge.leaves() {
                leaves if is_in(gateway.applied) => leaves,
                leaves if is_in(gateway.owed) => {
                    let is_doubtful = is_in(self.doubtful | gateway.doubtful);
                    if is_doubtful { leaves.min(Verdict::Stale) } else { leaves }
                }
                _ => Verdict::Valid,
            };
            if purge.covers(kept.resource) && verdict < expected {
                let why = if is_in(gateway.applied) { "applied" } else { "in contact" };
                return Err(Breach(format!(
                    "gateway {at} finds in {tier} {verdict:?} what purge {number} covers ({why}): {kept:?}"
                )));
            }
        }
        let is_covered = self.purges.iter().any(|purge| purge.covers(kept.resource));
        // In L2 there is also what others have fetched at a place that this gateway has yet to reach.
        if tier == "L1"
            && !self.is_cold
            && self.redis.is_sound()
            && !is_covered
            && verdict != Verdict::Valid
        {
            return Err(Breach(format!(
                "gateway {at} finds in {tier} {verdict:?} what nothing covers: {kept:?}"
            )));
        }
        Ok(())
    }
}

impl Found {
    fn count(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Valid => &mut self.valid,
            Verdict::Stale => &mut self.stale,
            Verdict::Gone => &mut self.gone,
        } += 1;
    }
}
