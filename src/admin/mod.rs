//! The listener for operators: figures, the purge of what is stored, and reloads.
//!
//! It shares nothing with the clients' listener but the gateway itself. Every call needs the bearer
//! token, if one is configured. Without one the listener is a loopback address, and only calls
//! that name a loopback host are answered: a web page that the operator visits must not be able to
//! make its browser call it under a name of its own.

mod reload;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gateway::Current;
use crate::message;
use crate::store::{Invalidation, Receipt, Scope};

pub use self::reload::{Reloaded, Reloads};

/// The longest pattern or tag that is taken, in octets.
const MAX_PATTERN: usize = 1024;

/// The running listener.
pub struct Admin {
    address: SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<io::Result<()>>,
}

#[derive(Clone)]
struct Context {
    current: Arc<Current>,
    reloads: Option<Reloads>,
    token: Option<Arc<str>>,
}

impl Admin {
    /// Answers until [`Admin::stop`]; with a token, those who send it. Without `reloads` there is
    /// nothing to reload.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn start(
        listener: TcpListener,
        token: Option<&str>,
        current: Arc<Current>,
        reloads: Option<Reloads>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let context = Context { current, reloads, token: token.map(Arc::from) };
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serving = TaskTracker::new().spawn(async move {
            axum::serve(listener, router(context)).with_graceful_shutdown(stopped).await
        });
        Ok(Self { address, stop, serving })
    }

    /// Where operators connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers what is being asked, then ends. Connections that stay idle are not waited for.
    pub async fn stop(self) {
        self.stop.cancel();
        let patience = std::time::Duration::from_secs(1);
        let mut serving = self.serving;
        if tokio::time::timeout(patience, &mut serving).await.is_err() {
            serving.abort();
        }
    }
}

fn router(context: Context) -> Router {
    Router::new()
        .route("/stats", get(stats))
        .route("/shadow", get(shadow))
        .route("/clear", post(clear))
        .route("/reload", post(reload::reload))
        .route("/pattern/", delete(pattern))
        .route("/pattern/{*pattern}", delete(pattern))
        .route("/tag/", delete(tag))
        .route("/tag/{*tag}", delete(tag))
        .fallback(|| async {
            problem(StatusCode::NOT_FOUND, "there is no such call; see the README")
        })
        .method_not_allowed_fallback(|| async {
            problem(StatusCode::METHOD_NOT_ALLOWED, "this call wants another method")
        })
        .layer(middleware::from_fn_with_state(context.clone(), authorise))
        .with_state(context)
}

/// Lets only those through who may call.
async fn authorise(State(context): State<Context>, request: Request, next: Next) -> Response {
    let fields = request.headers();
    let refused = match &context.token {
        Some(token) if bears(fields, token) => None,
        Some(_) => {
            let detail = "send the token as `Authorization: Bearer TOKEN`";
            let mut response = problem(StatusCode::UNAUTHORIZED, detail);
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            Some(response)
        }
        None if fields.contains_key(ORIGIN) || !names_loopback(fields) => {
            let detail = "without a token only this machine may call, by a loopback address";
            Some(problem(StatusCode::FORBIDDEN, detail))
        }
        None => None,
    };
    match refused {
        Some(response) => response,
        None => next.run(request).await,
    }
}

/// Compares in a time that does not depend on where the first difference is.
fn bears(fields: &HeaderMap, token: &str) -> bool {
    let Some((scheme, given)) = fields
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
    else {
        return false;
    };
    // Hashes of equal length, compared whole by a function that does not stop early.
    scheme.eq_ignore_ascii_case("bearer")
        && blake3::hash(given.trim().as_bytes()) == blake3::hash(token.as_bytes())
}

fn names_loopback(fields: &HeaderMap) -> bool {
    let Some(host) = fields.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn stats(State(context): State<Context>) -> Response {
    #[derive(Serialize)]
    struct Shown {
        #[serde(flatten)]
        requests: crate::stats::Snapshot,
        store: crate::store::Stats,
        policies: BTreeMap<String, crate::plugin::Snapshot>,
    }
    let gateway = context.current.gateway();
    let requests = gateway.stats().snapshot();
    let store = gateway.store().stats();
    let policies = gateway.policies();
    let policies = policies.map(|policy| (policy.name().to_owned(), policy.snapshot())).collect();
    Json(Shown { requests, store, policies }).into_response()
}

async fn shadow(State(context): State<Context>) -> Response {
    let gateway = context.current.gateway();
    let shadows: BTreeMap<_, _> = gateway.shadows().collect();
    Json(shadows).into_response()
}

async fn clear(State(context): State<Context>) -> Response {
    invalidate(&context, [Scope::All]).await
}

/// A pattern is all that follows, the query too. Names are percent-encoded as clients sent them, and
/// so may the pattern be; or it is because it stands in a URI. Which of the two cannot be told, so
/// both spellings are invalidated.
async fn pattern(State(context): State<Context>, uri: Uri) -> Response {
    let patterns = spellings(&uri, "/pattern/");
    if patterns.iter().any(|pattern| pattern.len() > MAX_PATTERN) {
        return problem(StatusCode::BAD_REQUEST, "a pattern has at most 1024 octets");
    }
    invalidate(&context, patterns.into_iter().map(Scope::Pattern)).await
}

/// A tag is all that follows, in both spellings too: a tag may have a `%` of its own.
async fn tag(State(context): State<Context>, uri: Uri) -> Response {
    let tags = spellings(&uri, "/tag/");
    if tags.iter().any(|tag| tag.len() > MAX_PATTERN) {
        return problem(StatusCode::BAD_REQUEST, "a tag has at most 1024 octets");
    }
    let gateway = context.current.gateway();
    invalidate(&context, tags.iter().flat_map(|tag| gateway.tagged(tag))).await
}

/// What follows `call`, as it was sent and decoded.
fn spellings(uri: &Uri, call: &str) -> Vec<String> {
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    let sent = target.strip_prefix(call).unwrap_or_default();
    let mut spellings = vec![sent.to_owned()];
    spellings.extend(decoded(sent).filter(|decoded| decoded != sent));
    spellings
}

/// A text without its percent-encoding (RFC 3986 §2.1), if that is UTF-8. A `%` that encodes nothing
/// stands for itself.
fn decoded(text: &str) -> Option<String> {
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let encoded = match after {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        octets.push(encoded.map_or(*first, |(high, low)| high << 4 | low));
        rest = if encoded.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8(octets).ok()
}

async fn invalidate(context: &Context, scopes: impl IntoIterator<Item = Scope>) -> Response {
    let purge = scopes.into_iter().map(|scope| Invalidation { scope, soft: false }).collect();
    let Receipt { position, shared } = context.current.gateway().store().invalidate(purge).await;
    let answer = json!({ "position": position.to_string(), "shared": shared });
    // Applied here; other gateways will hear of it when Redis is back.
    let status = if shared { StatusCode::OK } else { StatusCode::ACCEPTED };
    (status, Json(answer)).into_response()
}

fn problem(status: StatusCode, detail: &str) -> Response {
    (status, [(CONTENT_TYPE, "application/problem+json")], message::problem(status, detail))
        .into_response()
}
