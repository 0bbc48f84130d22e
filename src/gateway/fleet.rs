//! Equal misses of several gateways, one forward request: what the fetch of a route with
//! `collapse = "fleet"` does before it sends anything, and what it tells the others afterwards.
//!
//! Each gateway has sent its own equal misses on together, so that one fetch of each asks for the
//! fleet's turn. Who gets it goes forward. The others wait until its response lies in L2 and answer
//! with that, if their own requests allow it; or they are told that it is not for them, and go forward
//! at once. Nobody waits for an upstream longer than it could take to answer, or for Redis longer than
//! one command may take.
//!
//! Requests do not take part that go forward by themselves in one gateway, too: with `no-cache` or
//! `no-store`, with `HEAD`, for a part, and those whose last response could not be shared.

use std::sync::Arc;
use std::time::Duration;

use http::Response;

use crate::body::Body;
use crate::clock;
use crate::collapse::{Elsewhere, Variant};
use crate::semantics::{self, CacheStatus, Forward, Freshness, Reuse};
use crate::store::{Purpose, Put, Sign, Turn, Turned, Word};
use crate::stored::{CacheKey, StoredResponse};

use super::fetch::Fetch;
use super::forward::status;
use super::look::Looked;
use super::partial::Sought;
use super::{Gateway, Presented, partial, respond};

/// The pause before asking again whose turn it is: this at first, and twice the last one up to the
/// second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));

/// Who has found nothing in so many fetches of others goes forward.
const MOST_IN_VAIN: usize = 2;

/// L2 was asked and did not say.
struct NoAnswer;

/// What lies in L2 and answers; if it is not `confirmed`, because the route serves what is not.
struct Found {
    stored: Arc<StoredResponse>,
    confirmed: bool,
}

/// What a fetch is to do when it has waited, or had no need to.
enum Go {
    /// Forward, with the turn or without.
    Forward,
    /// Nowhere: this lies in L2.
    Nowhere(Found),
    /// Nowhere: each request is to go forward by itself.
    Apart,
}

impl Fetch {
    /// As [`Fetch::run`], when it is this gateway's turn; unless another's fetch answers.
    pub(super) async fn run_in_turn(mut self) {
        match self.wait_for_turn().await {
            Go::Forward => self.run().await,
            Go::Nowhere(Found { stored, confirmed }) => {
                let fields = stored.fields.to_map(0);
                let Some(nominated) = self.plan().nominated(&fields) else { return };
                let key = self.variant_key(&nominated, &fields);
                let variant = Variant { nominated, key };
                self.lead.elsewhere(Elsewhere { stored, confirmed, variant });
            }
            Go::Apart => self.lead.unsent(),
        }
    }

    async fn wait_for_turn(&mut self) -> Go {
        let patience = clock::instant() + self.plan().fleet_patience;
        let (gateway, presented) = (Arc::clone(&self.gateway), Arc::clone(&self.presented));
        let figures = gateway.route_stats(&presented);
        let (marks, name) = (self.own_marks(), self.key.name(&presented));
        let mut key = self.lead.key;
        let mut pause = PAUSES.0;
        let mut over: Option<Sign> = None;
        let (mut waited, mut is_late, mut in_vain) = (false, false, 0);
        loop {
            // Whatever was invalidated so far, nothing has been sent yet.
            self.lease = gateway.store.lease();
            match gateway.store.turn(&key, &self.lease, over.as_ref()).await {
                Turned::Apart => return Go::Apart,
                Turned::Apiece => return Go::Forward,
                Turned::Ours(turn) => {
                    if !is_late {
                        self.turn = Some(turn);
                        return Go::Forward;
                    }
                    // Whoever had it said nothing to the end. It may have stored something all the same.
                    figures.fleet_takeovers.count();
                    if let Ok(Some(found)) = self.look_again().await {
                        turn.end(Word::Done);
                        return Go::Nowhere(found);
                    }
                    self.turn = Some(turn);
                    return Go::Forward;
                }
                Turned::Done(sign) => {
                    match self.look_again().await {
                        Ok(Some(found)) => return Go::Nowhere(found),
                        Ok(None) => {}
                        // It would not say whose turn it is, either.
                        Err(NoAnswer) => return Go::Forward,
                    }
                    in_vain += 1;
                    if in_vain == MOST_IN_VAIN {
                        return Go::Forward;
                    }
                    // It may be another variant's turn, now that it is known which there are.
                    let next = self.turn_key();
                    over = (next == key).then_some(sign);
                    (key, is_late, pause) = (next, false, PAUSES.0);
                }
                Turned::Theirs(sign) => {
                    if gateway.store.is_overtaken(&sign, &marks, &name) {
                        (over, is_late) = (Some(sign), false);
                        continue;
                    }
                    if !waited {
                        figures.fleet_waits.count();
                        self.lead.wait();
                    }
                    (waited, is_late) = (true, true);
                    if clock::instant() >= patience {
                        return Go::Forward;
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// What the next turn is for: what this gateway's own requests share, or a variant that it has learned of while it
    /// waited, as others fetch others.
    fn turn_key(&self) -> CacheKey {
        let Sought::Whole { variants: variants @ Some(_), .. } = &self.sought else {
            return self.lead.key;
        };
        self.gateway.collapsed(&self.presented, &self.key, variants.as_deref())
    }

    /// What L2 has by now that answers. What it has besides may be validated.
    async fn look_again(&mut self) -> Result<Option<Found>, NoAnswer> {
        let Self { gateway, presented, key, .. } = &*self;
        match gateway.look_in_l2(presented, key, Purpose::Answer).await {
            Looked::Serve { stored, confirmed, .. } => Ok(gateway
                .may_answer_elsewhere(presented, &stored)
                .then_some(Found { stored, confirmed })),
            Looked::ServeStale { .. } => Ok(None),
            Looked::Forward(missing) => {
                let known = missing.known;
                if missing.stale.is_some() || missing.variants.is_some() {
                    self.sought = Sought::whole(missing.stale, missing.variants);
                }
                if known { Ok(None) } else { Err(NoAnswer) }
            }
        }
    }

    /// Gives the turn back as soon as L2 has what was put. An incomplete response is nothing to tell of.
    pub(super) fn tell_fleet_of(&self, put: &mut Put) {
        let Some(turn) = self.turn.as_ref().filter(|_| put.stored.part.is_none()) else { return };
        let writes = std::mem::take(&mut put.writes);
        if put.overtaken {
            turn.end(Word::Done);
        } else if writes.is_empty() || !self.is_of_use_elsewhere(&put.stored.freshness, None) {
            turn.end(Word::Apiece);
        } else {
            turn.end_after(writes);
        }
    }

    /// Whether another gateway will find such a response in L2, and may answer with it without asking
    /// the upstream. The length is as announced, or else has been seen to.
    pub(super) fn is_of_use_elsewhere(&self, freshness: &Freshness, length: Option<u64>) -> bool {
        let fits = length.is_none_or(|length| self.gateway.store.fits_l2(length));
        fits && !freshness.no_cache && freshness.is_fresh(self.gateway.clock.now())
    }
}

/// Gives the turn back, if this gateway has it.
pub(super) fn tell_fleet(turn: Option<&Turn>, word: Word) {
    if let Some(turn) = turn {
        turn.end(word);
    }
}

impl Gateway {
    /// Whether what another gateway has fetched may answer this request. It was looked up by the time
    /// at which the request came, and by the request of whoever waited for it.
    pub(super) fn may_answer_elsewhere(
        &self,
        presented: &Presented,
        stored: &StoredResponse,
    ) -> bool {
        self.may_reuse(presented, &stored.freshness) && partial::has_enough(presented, stored)
    }

    /// Whether what this is the freshness of may be served now, as what is stored may.
    pub(super) fn may_reuse(&self, presented: &Presented, freshness: &Freshness) -> bool {
        let now = self.clock.now();
        let reuse = semantics::reuse(freshness, false, &presented.directives, now);
        matches!(reuse, Reuse::Serve { .. })
    }

    /// Answers with what another gateway has fetched.
    pub(super) fn answer_elsewhere(
        &self,
        presented: &Presented,
        Elsewhere { stored, confirmed, .. }: &Elsewhere,
        why: Forward,
    ) -> Response<Body> {
        let figures = self.route_stats(presented);
        figures.collapsed.count();
        if !confirmed {
            figures.unconfirmed.count();
        }
        let status = CacheStatus { collapsed: Some(true), ..status(why, *confirmed) };
        let age = stored.freshness.age(self.clock.now());
        respond::stored(presented, stored, age, &status)
    }
}
