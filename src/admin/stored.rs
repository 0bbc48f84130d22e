//! `GET /stored`: the responses in L1. `GET /stored/{id}`: one of either tier, and the beginning of its
//! content where everybody would get it. `DELETE /stored/{id}`: a purge of it and of its variants.
//!
//! What is invalidated is not there any more, whether it still takes room or not.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE};
use axum::http::{HeaderName, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::named::Named;
use super::options::Options;
use super::parameters::Parameters;
use super::wanted::MAX_TEXT;
use super::{Context, problem, purge};
use crate::clock;
use crate::gateway::{Gateway, Listing, beginning, tags_of};
use crate::store::{Cursor, Listed, Order, Page, Tier};
use crate::stored::CacheKey;

/// So many responses a page has, if nothing else is said, and at most.
const USUAL: usize = 50;
const MOST: usize = 500;

/// So long a call waits for another one that looks through L1.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fields whose values nobody is told, should one be stored all the same.
const HIDDEN: [HeaderName; 2] = [SET_COOKIE, AUTHORIZATION];

/// One call at a time looks through L1: that costs processor time that requests would have.
pub(super) type Looking = Arc<Semaphore>;

/// `GET /stored`.
pub(super) async fn list(State(context): State<Context>, uri: Uri) -> Response {
    let listing = match listing(uri.query()) {
        Ok(listing) => listing,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why),
    };
    let gateway = context.current.gateway();
    let Some((gateway, page)) =
        in_turn(&context, gateway, move |gateway| gateway.list(&listing)).await
    else {
        return busy();
    };
    let now = gateway.now();
    let told = page.responses.iter().map(|listed| brief(&gateway, listed, now));
    told_only_now(json!({
        "responses": told.collect::<Vec<_>>(),
        "matched": page.matched,
        "invalidated": page.invalidated,
        "next": page.next.map(|next| next.to_string()),
    }))
}

/// `GET /stored/{id}`.
pub(super) async fn one(State(context): State<Context>, Named(id): Named) -> Response {
    let gateway = context.current.gateway();
    let listed = match found(&gateway, &id).await {
        Ok(listed) => listed,
        Err(refused) => return *refused,
    };
    let sought = listed.clone();
    let Some((gateway, variants)) =
        in_turn(&context, gateway, move |gateway| gateway.variants_of(&sought)).await
    else {
        return busy();
    };
    told_only_now(whole(&gateway, &listed, &variants))
}

/// `DELETE /stored/{id}`.
pub(super) async fn purge(State(context): State<Context>, Named(id): Named, uri: Uri) -> Response {
    let options = match Options::of(uri.query(), &["soft", "wait"]) {
        Ok(options) => options,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why),
    };
    let gateway = context.current.gateway();
    match found(&gateway, &id).await {
        Ok(listed) => {
            let scope = gateway.with_variants(&listed);
            purge::answer(&context, scope.into_iter().collect(), options).await
        }
        Err(refused) => *refused,
    }
}

/// What is to be listed.
fn listing(query: Option<&str>) -> Result<Listing, String> {
    const KNOWN: [&str; 6] = ["name", "route", "tag", "sort", "limit", "cursor"];

    let parameters = Parameters::of(query, &KNOWN)?;
    for name in ["name", "route", "tag"] {
        if parameters.text(name).is_some_and(|text| text.len() > MAX_TEXT) {
            return Err(format!("`{name}` has more than {MAX_TEXT} octets"));
        }
    }
    let sort = parameters.text("sort").unwrap_or("name");
    let (reversed, by) = sort.strip_prefix('-').map_or((false, sort), |by| (true, by));
    let order = match by {
        "name" => Order::Name,
        "age" => Order::Age,
        "size" => Order::Size,
        _ => {
            return Err("`sort` is `name`, `age` or `size`, or one of them behind a `-`".to_owned());
        }
    };
    let most = match parameters.text("limit").map(str::parse) {
        None => USUAL,
        Some(Ok(most @ 1..=MOST)) => most,
        Some(_) => return Err(format!("`limit` is a number from 1 to {MOST}")),
    };
    let after: Option<Cursor> = parameters.read("cursor")?;
    if after.as_ref().is_some_and(|cursor| !cursor.is_of(order)) {
        return Err("`cursor`: that of a page in another order".to_owned());
    }
    let text = |name| parameters.text(name).map(str::to_owned);
    let (pattern, route, tag) = (text("name"), text("route"), text("tag"));
    Ok(Listing { pattern, route, tag, order, reversed, after, most })
}

/// The response of this id.
async fn found(gateway: &Gateway, id: &str) -> Result<Listed, Box<Response>> {
    let Some(key) = CacheKey::parse(id) else {
        let detail = "not the id of a stored response: `GET /stored` has them";
        return Err(Box::new(problem(StatusCode::BAD_REQUEST, detail)));
    };
    let (status, detail) = match gateway.listed(&key).await {
        Ok(Some(listed)) => return Ok(listed),
        Ok(None) => (StatusCode::NOT_FOUND, "there is no such response, or no more".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}: `GET /health` tells more")),
    };
    Err(Box::new(problem(status, &detail)))
}

/// Looks through L1 on a thread of its own, after whoever does so already.
async fn in_turn<T: Send + 'static>(
    context: &Context,
    gateway: Arc<Gateway>,
    look: impl FnOnce(&Gateway) -> T + Send + 'static,
) -> Option<(Arc<Gateway>, T)> {
    let turn = Arc::clone(&context.looking).acquire_owned();
    let turn = timeout(PATIENCE, turn).await.ok()?.ok()?;
    let looking = spawn_blocking(move || {
        let found = look(&gateway);
        drop(turn);
        (gateway, found)
    });
    looking.await.ok()
}

fn busy() -> Response {
    let detail = "others look through L1 at the moment: try again";
    problem(StatusCode::SERVICE_UNAVAILABLE, detail)
}

/// It holds what may be for few eyes, and is another one the next time.
fn told_only_now(told: Value) -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(told)).into_response()
}

/// What a list says of a response.
fn brief(gateway: &Gateway, listed: &Listed, now: SystemTime) -> Value {
    let Listed { key, stored, soft, .. } = listed;
    let freshness = &stored.freshness;
    let kind = stored.fields.value(&CONTENT_TYPE);
    json!({
        "id": key.to_string(),
        "name": &*stored.name,
        "route": gateway.route_of(stored),
        "status": stored.status.as_u16(),
        "content_type": kind.map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned()),
        "state": state(listed, now),
        "age_seconds": freshness.age(now).as_secs(),
        "ttl_seconds": freshness.ttl(now),
        "content_octets": stored.body.len(),
        "octets": listed.octets(),
        "invalidated_softly": soft,
    })
}

/// What a request would find it to be, as far as that is for the response to say.
fn state(listed: &Listed, now: SystemTime) -> &'static str {
    let freshness = &listed.stored.freshness;
    if listed.soft || !freshness.is_fresh(now) {
        "stale"
    } else if freshness.no_cache {
        "validated each time"
    } else {
        "fresh"
    }
}

/// Where it was found.
fn tier(listed: &Listed) -> &'static str {
    match listed.tier {
        Tier::L1 => "l1",
        Tier::L2 => "l2",
    }
}

/// What is told of one response.
fn whole(gateway: &Gateway, listed: &Listed, variants: &Page) -> Value {
    let now = gateway.now();
    let stored = &listed.stored;
    let mut told = brief(gateway, listed, now);
    let fields = stored.fields.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let value = if HIDDEN.contains(&name) { "(hidden)".to_owned() } else { value };
        json!([name.as_str(), value])
    });
    let seconds = |span: Duration| span.as_secs();
    let freshness = &stored.freshness;
    let more = json!({
        "tier": tier(listed),
        "received": clock::text(freshness.received),
        "lifetime_seconds": seconds(freshness.lifetime),
        "must_revalidate": freshness.must_revalidate,
        "stale_while_revalidate_seconds": seconds(freshness.stale_while_revalidate.into()),
        "stale_if_error_seconds": freshness.stale_if_error.map(|span| seconds(span.into())),
        "position": stored.position.to_string(),
        "fields": fields.collect::<Vec<_>>(),
        "tags": tags_of(stored),
        "variants": variants
            .responses
            .iter()
            .filter(|variant| variant.key != listed.key)
            .map(|variant| brief(gateway, variant, now))
            .collect::<Vec<_>>(),
        "content": content(listed),
    });
    if let (Value::Object(told), Value::Object(more)) = (&mut told, more) {
        told.extend(more);
    }
    told
}

/// Its beginning, or why that is not shown.
fn content(listed: &Listed) -> Value {
    match beginning(&listed.stored) {
        Ok(shown) => json!({ "beginning": shown.text, "whole": shown.is_whole, "not_shown": null }),
        Err(why) => json!({ "beginning": null, "whole": false, "not_shown": why.to_string() }),
    }
}
