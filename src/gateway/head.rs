//! A request with `HEAD` that goes forward while a response to `GET` is stored: what comes back says
//! whether that one is still right (RFC 9111 §4.3.5).

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode, Version};
use tracing::debug;

use crate::message;
use crate::semantics::{self, Combined, NotStored, Times};
use crate::store::{Invalidation, Put, Scope};
use crate::stored::{Mark, StoredResponse};
use crate::upstream::Reply;

use super::fetch::Fetch;
use super::partial::Sought;
use super::respond::Alone;
use super::shown::Source;
use super::storing::Storing;

impl Fetch {
    /// Lets a response to `HEAD` update the stored response, or make it stale, before its client hears
    /// of it. A 304 was seen to before.
    pub(super) async fn headed(self, reply: Response<Reply>, times: &Times) {
        let (status, version) = (reply.status(), reply.version());
        let updated = self.heard(status, reply.headers(), version, times).await;
        // Nobody is there to take it if the client has gone.
        let taken = self.mine.send(Alone::Head(reply, updated));
        drop(taken);
    }

    /// What a response to `HEAD` says of the stored one: true if that was updated.
    pub(super) async fn heard(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        version: Version,
        times: &Times,
    ) -> bool {
        let Sought::Whole { stale: Some(stale), .. } = &self.sought else { return false };
        if status != StatusCode::OK {
            return false;
        }
        let updated = self.update(stale, fields, version, times).await;
        let is_wrong = match &updated {
            Ok(updated) => !updated,
            // It agrees, and may only not be stored for this client.
            Err(why) => semantics::is_spoilt(&self.asked(), *why),
        };
        if is_wrong
            && stale.freshness.is_fresh(times.received)
            && self.gateway.store.again(stale).is_some_and(|hit| !hit.soft)
        {
            // "Otherwise, the cache SHOULD consider the stored response to be stale".
            self.withdraw(stale, true).await;
        }
        updated.unwrap_or_default()
    }

    /// Whether the stored response was updated.
    ///
    /// # Errors
    /// The response to `HEAD` agrees with it, and what came of both may not be stored.
    async fn update(
        &self,
        stale: &Arc<StoredResponse>,
        fields: &HeaderMap,
        version: Version,
        times: &Times,
    ) -> Result<bool, NotStored> {
        let stored = stale.fields.to_map(4);
        let content = stale.body.len() as u64;
        if !semantics::matches_head(stale.status, &stored, content, fields) {
            return Ok(false);
        }
        let mut fields = fields.clone();
        message::add_via(&mut fields, version);
        let merged = semantics::freshen(&stored, &fields);
        let storing =
            match self.storing(stale.status, &merged, Source::Stored(&stale.body), times).await {
                Ok(storing) => storing,
                Err(why) => {
                    debug!(why = why.as_str(), "stored response not updated by HEAD");
                    return Err(why);
                }
            };
        let Some((merged, nominated)) = self.to_store(merged, &storing) else { return Ok(false) };
        let content = Combined::Whole(stale.body.clone());
        let storing = Storing { renews: Some(Arc::clone(stale)), ..storing };
        let put = self.put(stale.status, &merged, content, storing, &nominated, None);
        Ok(put.is_some_and(|Put { kept, .. }| kept))
    }

    /// Lets a stored response count as stale, or as gone: here and in the fleet.
    pub(super) async fn withdraw(&self, stale: &StoredResponse, soft: bool) {
        let own = Mark::key(&self.key.hash);
        // It may have been stored for another query, which `No-Vary-Search` says is equivalent.
        let mark = if stale.marks.contains(&own) {
            own
        } else {
            Mark::search(&self.presented.authority, self.presented.head.uri.path())
        };
        let scope = Scope::Mark { mark, label: stale.name.to_string() };
        self.gateway.store.invalidate(vec![Invalidation { scope, soft }]).await;
    }
}
