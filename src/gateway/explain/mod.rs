//! Why a request is answered as it is: the whole decision, told without doing anything.
//!
//! An explanation asks the same functions as a request does, in the same order, and acts on none of
//! their answers: nothing is sent forward, stored, moved into L1, invalidated or counted. (The tiers
//! themselves note a look: L1 counts it among the uses that decide what stays, and so does a Redis that
//! evicts by use.)
//!
//! # The shape
//!
//! `GET /explain`, `larder explain --json` and the field `Larder-Explanation` tell it as one object. All
//! members are always there; what does not apply is `null` or empty.
//!
//! ```json
//! {
//!   "at": "2026-11-26T18:40:12.345Z",
//!   "gateway": "shop-1",
//!   "request": {
//!     "method": "GET", "url": "http://shop.example/catalogue/1?utm_source=x",
//!     "directives": ["no-cache"], "fields": ["accept-language", "authorization"]
//!   },
//!   "route": {
//!     "name": "catalogue", "path": "/catalogue/{*rest}", "captures": {"rest": "1"},
//!     "why": "…",
//!     "runners_up": [{"name": "all", "path": "/{*rest}", "lost_by": "path", "why": "…"}]
//!   },
//!   "policies": [{
//!     "name": "no-tracking", "digest": "…", "remembered": true,
//!     "answer": "key", "parts": [{"name": "path", "value": "/catalogue/1"}],
//!     "reason": null, "on_error": "bypass"
//!   }],
//!   "key": {"name": "catalogue/1", "hash": "…"},
//!   "l1": {
//!     "state": "response", "verdict": "valid", "kept_seconds": 295, "variants": null, "why": "…"
//!   },
//!   "l2": {"state": "off", "verdict": null, "kept_seconds": null, "variants": null, "why": "…"},
//!   "stored": {
//!     "tier": "l1", "status": 200, "octets": 11, "whole": true, "received": "…",
//!     "age": 5, "lifetime": 60, "lifetime_by": "s-maxage", "lifetime_why": "…", "ttl": 55,
//!     "restrictions": ["must-revalidate"], "stale_while_revalidate": 0, "stale_if_error": null,
//!     "fields": {"cache-control": "s-maxage=60", "etag": "\"1\""}, "vary": ["accept-language"],
//!     "tags": [{"tag": "books", "by": "response"}], "other_marks": 0,
//!     "position": "0-3", "confirmed": true, "invalidated": null
//!   },
//!   "last_invalidation": {
//!     "position": "0-2", "at": "…", "seconds_ago": 12, "soft": false,
//!     "covers": "tag", "label": "books", "cause": "purge", "by": "shop-1"
//!   },
//!   "last_refusal": {"at": "…", "seconds_ago": 3, "status": 200, "reason": "no-store", "why": "…"},
//!   "outcome": {"does": "hit", "status": null, "cache_status": "larder; hit; ttl=55", "why": "…"},
//!   "forward": {
//!     "method": "GET", "target": "/catalogue/1", "upstream": "catalogue",
//!     "server": "http://127.0.0.1:3000", "documents": null,
//!     "conditions": [{"name": "if-none-match", "value": "\"1\""}], "collapses": true
//!   },
//!   "storing": {"may": true, "reason": null, "why": "…", "rules": ["…"]}
//! }
//! ```
//!
//! - `route.runners_up[].lost_by`: `host`, `path`, `method` or `fields`.
//! - `policies[].answer`: `key`, `bypass`, `failed` or `not-asked`.
//! - A tier's `state`: `off`, `out-of-use`, `no-answer`, `not-asked`, `nothing`, `response`, `variants`
//!   or `rules`; its `verdict`, by the invalidation log: `valid`, `stale` or `gone`. `variants` has
//!   `known`, how many there are, and `vary`, the lists of fields that tell them apart.
//! - `stored` is what the decision is about, or else what lies there and may not be used.
//! - `covers`: `tag`, `group`, `key`, `name`, `path`, `target`, `route`, `pattern`, `all` or `mark`;
//!   `cause`: `write`, `purge`, `change`, `trouble` or `null`.
//! - `outcome.does`: `hit`, `hit-stale`, `forward`, `answer` (Larder's own response, with its `status`),
//!   `purge` or `tunnel`; without a gateway (`--offline`) `key`. `cache_status` is the item as it begins;
//!   after a forward request it says more.
//!
//! No value of `Authorization`, `Cookie` or `Set-Cookie` is told, and no content. Where a policy has put
//! one of them into a key, it is shown as `***`.
