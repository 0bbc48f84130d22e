//! `POST /purge`, the shorter calls that purge, and `GET /purge/{id}`: which gateways have applied one.
//!
//! What is asked for is read strictly: a member that was mistyped would purge less than was meant, and
//! nobody would know.

use std::borrow::Cow;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::clock;
use crate::gateway::Gateway;
use crate::message;
use crate::store::{Applied, Invalidation, PurgeId, Purged, Receipts, Scope};

use super::named::Named;
use super::options::{Options, without_options};
use super::wanted::{MAX_TEXT, Wanted};
use super::{Context, content, faulty, problem};

/// The longest content, in octets.
const MAX_CONTENT: usize = 1 << 20;

const SO: &str = "nothing was purged";

/// So many records of the log one purge may come to: a tag is one of each upstream.
const MAX_RECORDS: usize = 10_000;

/// `POST /purge`.
pub(super) async fn purge(State(context): State<Context>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let options = match Options::of(head.uri.query(), &["wait"]) {
        Ok(options) => options,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why),
    };
    let too_long = "the content did not come whole, or has more than 1 MiB";
    let body = match content::read(&head.headers, body, MAX_CONTENT, too_long).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let wanted = match Wanted::parse(&body) {
        Ok(wanted) => wanted,
        Err(refused) => return refused.into_response(SO),
    };
    let options = Options { soft: wanted.soft, ..options };
    match scopes(&context.current.gateway(), wanted) {
        Ok(scopes) => answer(&context, scopes, options).await,
        Err(faults) => faulty(&faults, SO),
    }
}

/// `POST /clear`.
pub(super) async fn clear(State(context): State<Context>, uri: Uri) -> Response {
    match Options::of(uri.query(), &["soft", "wait"]) {
        Ok(options) => answer(&context, vec![Scope::All], options).await,
        Err(why) => problem(StatusCode::BAD_REQUEST, &why),
    }
}

/// A pattern is all that follows, the query too but for the call's own parameters at its end. Names are
/// percent-encoded as clients sent them, and so may the pattern be; or it is because it stands in a
/// URI. Which of the two cannot be told, so both spellings are invalidated.
pub(super) async fn pattern(State(context): State<Context>, uri: Uri) -> Response {
    let (patterns, options) = match spellings(&uri, "/pattern/") {
        Ok(asked) => asked,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why),
    };
    if patterns.iter().any(|pattern| pattern.len() > MAX_TEXT) {
        return problem(StatusCode::BAD_REQUEST, "a pattern has at most 1024 octets");
    }
    answer(&context, patterns.into_iter().map(Scope::Pattern).collect(), options).await
}

/// A tag is all that follows, in both spellings too: a tag may have a `%` of its own.
pub(super) async fn tag(State(context): State<Context>, uri: Uri) -> Response {
    let (tags, options) = match spellings(&uri, "/tag/") {
        Ok(asked) => asked,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why),
    };
    if tags.iter().any(String::is_empty) {
        return problem(StatusCode::BAD_REQUEST, "no tag is named: write `/tag/order-42`");
    }
    if tags.iter().any(|tag| tag.len() > MAX_TEXT) {
        return problem(StatusCode::BAD_REQUEST, "a tag has at most 1024 octets");
    }
    let gateway = context.current.gateway();
    answer(&context, tags.iter().flat_map(|tag| gateway.tagged(tag)).collect(), options).await
}

/// `GET /purge/{id}`.
pub(super) async fn receipts(
    State(context): State<Context>,
    Named(id): Named,
    uri: Uri,
) -> Response {
    let options = match Options::of(uri.query(), &["wait"]) {
        Ok(options) => options,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why),
    };
    let id = match id.parse::<PurgeId>() {
        Ok(id) => id,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why.to_string()),
    };
    let limit = options.wait.unwrap_or_default();
    match context.current.gateway().receipts(&id, limit).await {
        Ok(receipts) if receipts.known => Json(told(&receipts)).into_response(),
        Ok(receipts) => unreachable(&receipts),
        Err(why) => problem(StatusCode::NOT_FOUND, &why.to_string()),
    }
}

/// Purges, waits if that is wished, and tells.
pub(super) async fn answer(context: &Context, scopes: Vec<Scope>, options: Options) -> Response {
    let Options { soft, wait } = options;
    let gateway = context.current.gateway();
    let records = scopes.into_iter().map(|scope| Invalidation { scope, soft }).collect();
    let Purged { id, shared } = gateway.purge(records).await;
    let untold = json!({ "id": id.to_string(), "shared": shared });
    let (shared, answer) = match wait {
        None => (shared, untold),
        Some(limit) => match gateway.receipts(&id, limit).await {
            Ok(receipts) => (receipts.shared, told(&receipts)),
            // Redis has lost it since.
            Err(why) => return problem(StatusCode::SERVICE_UNAVAILABLE, &why.to_string()),
        },
    };
    // Applied here; other gateways will hear of it when Redis is back.
    let status = if shared { StatusCode::OK } else { StatusCode::ACCEPTED };
    (status, Json(answer)).into_response()
}

pub(super) fn told(receipts: &Receipts) -> Value {
    let gateway = |gateway: &Applied| {
        let at = gateway.at.map(clock::text);
        json!({ "name": &*gateway.name, "applied": gateway.is_applied, "at": at })
    };
    json!({
        "id": receipts.id.to_string(),
        "shared": receipts.shared,
        "gateways": receipts.gateways.iter().map(gateway).collect::<Vec<_>>(),
        "complete": receipts.is_complete(),
    })
}

/// A problem that tells what is known all the same.
fn unreachable(receipts: &Receipts) -> Response {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let detail = "Redis is out of reach: this is what was known before";
    let mut problem = told(receipts);
    let own = serde_json::from_str(&message::problem(status, detail)).unwrap_or_default();
    if let (Value::Object(problem), Value::Object(own)) = (&mut problem, own) {
        problem.extend(own);
    }
    (status, [(CONTENT_TYPE, "application/problem+json")], problem.to_string()).into_response()
}

/// What is to be invalidated, or all that is wrong with it.
fn scopes(gateway: &Gateway, wanted: Wanted) -> Result<Vec<Scope>, Vec<String>> {
    let mut scopes = Vec::new();
    let mut faults = Vec::new();
    scopes.extend(wanted.all.then_some(Scope::All));
    scopes.extend(wanted.tags.iter().flat_map(|tag| gateway.tagged(tag)));
    scopes.extend(wanted.keys.iter().map(|key| gateway.named_key(key)));
    for (at, url) in wanted.urls.iter().enumerate() {
        match gateway.of_url(url) {
            Ok(covered) => scopes.extend(covered),
            Err(why) => faults.push(format!("`urls[{at}]` {why}")),
        }
    }
    scopes.extend(wanted.routes.iter().map(|route| gateway.whole_route(route)));
    scopes.extend(wanted.patterns.into_iter().map(Scope::Pattern));
    if scopes.len() > MAX_RECORDS {
        let count = scopes.len();
        faults.push(format!(
            "this comes to {count} records of the log, and one purge may have {MAX_RECORDS}"
        ));
    }
    if faults.is_empty() { Ok(scopes) } else { Err(faults) }
}

/// What follows `call`, as it was sent and decoded, and the call's own parameters.
fn spellings(uri: &Uri, call: &str) -> Result<(Vec<String>, Options), String> {
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    let (sent, options) = without_options(target.strip_prefix(call).unwrap_or_default())?;
    // RFC 3986 §2.1. What is not UTF-8 then has one spelling.
    let decoded = percent_decode_str(&sent).decode_utf8().ok().map(Cow::into_owned);
    let decoded = decoded.filter(|decoded| *decoded != sent);
    Ok(([sent].into_iter().chain(decoded).collect(), options))
}
