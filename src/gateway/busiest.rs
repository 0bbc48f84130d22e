//! Which URLs are asked for most, so that another gateway can be warmed by them.
//!
//! A URL is all that is kept of a request, and only where it says nothing of who has asked: of a `GET`
//! without `Authorization` and without a certificate, on a route whose key is made of nothing that tells users apart, which was
//! answered from the cache.

use std::collections::HashMap;
use std::mem;
use std::time::Duration;

use http::Method;
use http::header::{ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION};

use crate::busiest::{Busiest, Ranking};
use crate::message::CLIENT_CERT;
use crate::plugin::Policy;
use crate::store::NotKept;
use crate::warm;

use super::{Gateway, Presented};

/// What the ranking is kept as.
const NAME: &str = "busiest";

/// So long it is kept without being added to.
const LIFETIME: Duration = Duration::from_hours(7 * 24);

/// There is no ranking.
#[derive(Debug, thiserror::Error)]
pub enum NoRanking {
    /// Nobody wants one.
    #[error("the busiest URLs are not counted: write `busiest = 1000` in `[warm]`")]
    NotWanted,
    /// It is out of reach, or cannot be added to.
    #[error("the busiest URLs are out of reach: {0}")]
    NotKept(#[from] NotKept),
}

/// What was counted, on its way into the ranking. Dropping it puts back what is in it.
struct Taken<'a> {
    busiest: &'a Busiest,
    counts: HashMap<Box<str>, u64>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.busiest.put_back(mem::take(&mut self.counts));
    }
}

/// Whether keys that these policies make tell nothing of who asks.
pub(super) fn names_nobody(keys: &[&Policy]) -> bool {
    const NEGOTIATION: [http::HeaderName; 4] =
        [ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE];

    keys.iter().all(|policy| {
        policy.wanted_fields().iter().all(|name| NEGOTIATION.contains(name))
            && policy.wanted_cookies().is_empty()
            && !policy.wants_claims()
            && !policy.wants_content()
    })
}

impl Gateway {
    /// Notes that a request was answered from the cache.
    pub(super) fn note_hit(&self, presented: &Presented) {
        let Some(weight) = self.lasting.busiest.sample() else { return };
        let Presented { head, authority, content, peer, .. } = presented;
        let is_fit = self.plan(presented).names_nobody
            && head.method == Method::GET
            && content.is_none()
            && !head.headers.contains_key(AUTHORIZATION)
            && !head.headers.contains_key(CLIENT_CERT)
            // What is warmed would else stay busy by that alone.
            && !warm::has_asked(&head.headers);
        if is_fit {
            let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
            let url = format!("{}://{authority}{target}", peer.scheme);
            self.lasting.busiest.count(&url, weight);
        }
    }

    /// Adds what was counted to the ranking that the fleet shares, and answers that.
    ///
    /// Two processes may do so at the same moment; then what one has counted since the last time is
    /// lost, which changes no rank. Dropping the future loses nothing.
    ///
    /// # Errors
    /// There is none, or it cannot be added to: what was counted is added the next time.
    pub async fn busiest(&self) -> Result<Ranking, NoRanking> {
        let busiest = &self.lasting.busiest;
        let wanted = busiest.wanted();
        if wanted == 0 {
            return Err(NoRanking::NotWanted);
        }
        // Nobody else here reads what is about to be written over.
        let _turn = self.lasting.ranking.lock().await;
        let kept = self.store.read_note(NAME).await?;
        let mut ranking = kept.as_deref().map(Ranking::parse).unwrap_or_default();
        let mut taken = Taken { busiest, counts: busiest.take() };
        ranking.add(&taken.counts, self.clock.now(), wanted);
        if !taken.counts.is_empty() {
            self.store.write_note(NAME, ranking.octets(), LIFETIME).await?;
            taken.counts.clear();
        }
        ranking.limit(wanted);
        Ok(ranking)
    }
}
