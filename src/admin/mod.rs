//! The listener for operators: the dashboard, figures, health, explanations, the busiest URLs, what is stored,
//! purges of it and their receipts, reloads, and checks by requests of its own.
//!
//! It shares nothing with the clients' listener but the gateway itself. Every call needs the bearer
//! token, if one is configured; all but the status in `GET /health`, and the files of the dashboard, which
//! hold nothing.
//!
//! Without a token the listener is a loopback address, and only calls that name a loopback host are
//! answered: a web page that the operator visits must not be able to make its browser call it under a name
//! of its own. Nor may a page from elsewhere call it by its right name, another port of this machine
//! included: where a browser says which page makes a call, that must be one of this listener's own.

mod busiest;
mod configuration;
mod content;
mod dashboard;
mod ear;
mod explain;
mod exposition;
mod health;
mod live;
mod measure;
mod metrics;
mod named;
mod options;
mod parameters;
mod process;
mod purge;
mod reload;
mod stored;
mod wanted;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, ORIGIN, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gateway::{Current, bears};
use crate::message;
use crate::warm;

pub use self::reload::{Reloaded, Reloads};

use self::ear::Ear;
use self::live::Live;
use self::measure::Measuring;

/// The running listener.
pub struct Admin {
    address: SocketAddr,
    leave: CancellationToken,
    has_left: CancellationToken,
    stop: CancellationToken,
    measuring: Measuring,
    serving: tokio::task::JoinHandle<()>,
}

/// For which page a browser makes a call, as Fetch Metadata has it.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// No page from elsewhere may have an answer in its process, read or not.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The calls that are answered to everyone, if shortly.
const FOR_ALL: [&str; 3] = ["/health", "/health/live", "/health/ready"];

/// What this listener answers, as a document of `OpenAPI` 3.1.
const OPENAPI: &str = include_str!("openapi.json");

/// Whether a call is by somebody who may call everything.
#[derive(Clone, Copy)]
struct Allowed(bool);

#[derive(Clone)]
struct Context {
    current: Arc<Current>,
    reloads: Option<Reloads>,
    token: Option<Arc<str>>,
    looking: stored::Looking,
    live: Arc<Live>,
    measuring: Measuring,
}

impl Admin {
    /// Answers, once it `opens`, until [`Admin::stop`]; with a token, those who send it. Without
    /// `reloads` there is nothing to reload.
    ///
    /// # Errors
    /// The listener has no address.
    pub fn start(
        listener: TcpListener,
        token: Option<&str>,
        current: Arc<Current>,
        reloads: Option<Reloads>,
        opens: CancellationToken,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let looking = Arc::new(Semaphore::new(1));
        let stop = CancellationToken::new();
        // Who stops has left.
        let (leave, has_left) = (stop.child_token(), CancellationToken::new());
        let ear = Ear::new(listener, opens, leave.clone(), has_left.clone());
        let live = Live::start(Arc::clone(&current), stop.clone());
        let measuring = Measuring::default();
        let token = token.map(Arc::from);
        let context =
            Context { current, reloads, token, looking, live, measuring: measuring.clone() };
        let serving = TaskTracker::new().spawn(ear.serve(router(context), stop.clone()));
        Ok(Self { address, leave, has_left, stop, measuring, serving })
    }

    /// Has checks ask there: the gateway's own listeners for clients.
    pub fn asks(&self, gateway: warm::Gateway) {
        // It is said once, when the gateway begins.
        let _known = self.measuring.gateway.set(gateway);
    }

    /// Where operators connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more connections. Those that are there are served until [`Admin::stop`].
    pub async fn leave(&self) {
        self.leave.cancel();
        self.has_left.cancelled().await;
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
        .route("/", get(dashboard::page))
        .route("/dashboard", get(dashboard::page))
        .route("/dashboard/{file}", get(dashboard::part))
        .route("/stats", get(stats))
        .route("/metrics", get(metrics::metrics))
        .route("/live", get(live::live))
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/openapi.json", get(openapi))
        .route("/config", get(configuration::config))
        .route("/routes", get(configuration::routes))
        .route("/policies", get(configuration::policies))
        .route("/shadow", get(shadow))
        .route("/busiest", get(busiest::busiest))
        .route("/explain", get(explain::by_parameters).post(explain::by_content))
        .route("/test/performance", get(measure::performance))
        .route("/test/hit-rate", get(measure::hit_rate))
        .route("/reload", post(reload::reload))
        .route("/purge", post(purge::purge))
        .route("/purge/{id}", get(purge::receipts))
        .route("/clear", post(purge::clear))
        .route("/pattern/", delete(purge::pattern))
        .route("/pattern/{*pattern}", delete(purge::pattern))
        .route("/stored", get(stored::list))
        .route("/stored/{id}", get(stored::one).delete(stored::purge))
        .route("/tag/", delete(purge::tag))
        .route("/tag/{*tag}", delete(purge::tag))
        .fallback(|| async {
            problem(
                StatusCode::NOT_FOUND,
                "there is no such call; `GET /openapi.json` tells those that there are",
            )
        })
        .method_not_allowed_fallback(|| async {
            problem(StatusCode::METHOD_NOT_ALLOWED, "this call wants another method")
        })
        .layer(middleware::from_fn_with_state(context.clone(), authorise))
        .with_state(context)
}

/// Lets only those through who may call.
async fn authorise(State(context): State<Context>, mut request: Request, next: Next) -> Response {
    let fields = request.headers();
    let refused = match &context.token {
        Some(token) if bears(fields, token) => None,
        Some(_) => {
            let detail = if fields.contains_key(AUTHORIZATION) {
                "that is not the token: send it as `Authorization: Bearer TOKEN`"
            } else {
                "send the token as `Authorization: Bearer TOKEN`"
            };
            let mut response = problem(StatusCode::UNAUTHORIZED, detail);
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            Some(response)
        }
        None if !names_loopback(fields) || is_of_another_page(fields) => {
            let detail = "without a token only this machine may call, by a loopback address";
            Some(problem(StatusCode::FORBIDDEN, detail))
        }
        None => None,
    };
    request.extensions_mut().insert(Allowed(refused.is_none()));
    let path = request.uri().path();
    let mut response = match refused {
        Some(response) if !FOR_ALL.contains(&path) && !dashboard::is_of_page(path) => response,
        _ => next.run(request).await,
    };
    let fields = response.headers_mut();
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// Whether a browser makes a call for a page that is none of this listener's, or does not say for which.
/// Both fields are the browser's own: no page can set them.
fn is_of_another_page(fields: &HeaderMap) -> bool {
    let is_other = |origin: &HeaderValue| {
        let host = fields.get(HOST).map_or(&[][..], HeaderValue::as_bytes);
        origin.as_bytes().strip_prefix(b"http://") != Some(host)
    };
    let is_elsewhere = |site: &HeaderValue| !matches!(site.as_bytes(), b"same-origin" | b"none");
    fields.get_all(ORIGIN).iter().any(is_other)
        || fields.get_all(FETCH_SITE).iter().any(is_elsewhere)
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
        upstreams: BTreeMap<String, crate::upstream::Snapshot>,
        policies: BTreeMap<String, crate::plugin::Snapshot>,
        changes: BTreeMap<String, crate::store::ChangeFigures>,
    }
    let gateway = context.current.gateway();
    let requests = gateway.stats().snapshot();
    let store = gateway.store().stats();
    let upstreams = gateway.upstreams().map(|it| (it.name().to_owned(), it.snapshot())).collect();
    let policies = gateway.policies();
    let policies = policies.map(|policy| (policy.name().to_owned(), policy.snapshot())).collect();
    let changes = gateway.changes().map(|(label, figures)| (label.to_owned(), figures)).collect();
    Json(Shown { requests, store, upstreams, policies, changes }).into_response()
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn shadow(State(context): State<Context>) -> Response {
    let gateway = context.current.gateway();
    let shadows: BTreeMap<_, _> = gateway.shadows().collect();
    Json(shadows).into_response()
}

/// All that is wrong with what was asked for, and what that led to.
fn faulty(faults: &[String], so: &str) -> Response {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let count = match faults.len() {
        1 => "1 fault".to_owned(),
        count => format!("{count} faults"),
    };
    let told = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": format!("{count}; {so}"),
        "faults": faults,
    });
    (status, [(CONTENT_TYPE, "application/problem+json")], told.to_string()).into_response()
}

fn problem(status: StatusCode, detail: &str) -> Response {
    (status, [(CONTENT_TYPE, "application/problem+json")], message::problem(status, detail))
        .into_response()
}
