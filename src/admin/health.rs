//! `GET /health`: whether this gateway answers, for whoever sends it requests, and how its helpers are,
//! for operators. The form is that of health checks as `application/health+json` has them.
//!
//! `GET /health/live` and `GET /health/ready` tell the status alone, for whoever restarts processes and
//! for whoever sends requests.
//!
//! Nobody needs the token to be told the status, as a load balancer has none; it says nothing that an
//! answer to any request would not. All else is for those who may call everything.

use std::time::{Duration, SystemTime};

use axum::extract::{Extension, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Allowed, Context, problem};
use crate::clock;
use crate::gateway::{Current, Gateway};
use crate::store::{Health, LogHealth, ServerHealth, State as L2State, WatchHealth};
use crate::upstream::LookupFailure;
use crate::upstream::ServerHealth as ServerOfUpstream;
use crate::upstream::ServerState::Up;

/// A policy whose call failed so lately is told of.
const LATELY: Duration = Duration::from_mins(5);

/// What a load balancer does by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// All is well.
    Pass,
    /// Requests are answered, and an operator should look.
    Warn,
    /// Requests are to go elsewhere.
    Fail,
}

pub(super) async fn health(
    State(context): State<Context>,
    Extension(Allowed(allowed)): Extension<Allowed>,
) -> Response {
    let (status, told) = told(&context.current, allowed);
    let fields = [(CONTENT_TYPE, "application/health+json"), (CACHE_CONTROL, "no-store")];
    (status.code(), fields, told.to_string()).into_response()
}

/// How everything is, or the status alone.
pub(super) fn told(current: &Current, allowed: bool) -> (Status, Value) {
    let found = Found::of(&current.gateway());
    let status = if current.is_leaving() { Status::Fail } else { found.status() };
    let mut told = json!({ "status": status.as_str() });
    if allowed && let (Value::Object(told), Value::Object(more)) = (&mut told, found.told()) {
        told.extend(more);
        told.insert("draining".to_owned(), current.is_leaving().into());
    }
    (status, told)
}

/// `GET /health/live`: the process answers. Whoever restarts what does not should ask this, and no more.
pub(super) async fn live() -> Response {
    short(Status::Pass)
}

/// `GET /health/ready`: requests may come. Each `needs=` in the query names something that must be up
/// for that, which it need not be otherwise.
pub(super) async fn ready(State(context): State<Context>, uri: Uri) -> Response {
    let gateway = context.current.gateway();
    let Health { servers, log } = gateway.store().health();
    let needs = uri.query().into_iter().flat_map(|query| query.split('&'));
    for need in needs.filter(|need| !need.is_empty()) {
        let is_there = match need {
            "needs=l2" => servers.iter().all(|it| it.state == L2State::Up && it.takes_writes),
            "needs=log" => log.as_ref().is_none_or(|log| log.in_contact),
            "needs=changes" => gateway.watches().all(|it| !it.is_late && it.error.is_none()),
            _ => {
                let detail =
                    "write `needs=l2`, `needs=log` or `needs=changes`, or several with `&`";
                return problem(StatusCode::BAD_REQUEST, detail);
            }
        };
        if !is_there {
            return short(Status::Fail);
        }
    }
    short(if context.current.is_leaving() { Status::Fail } else { Status::Pass })
}

/// The status alone.
fn short(status: Status) -> Response {
    let fields = [(CONTENT_TYPE, "application/health+json"), (CACHE_CONTROL, "no-store")];
    (status.code(), fields, json!({ "status": status.as_str() }).to_string()).into_response()
}

impl Status {
    fn code(self) -> StatusCode {
        match self {
            Self::Pass | Self::Warn => StatusCode::OK,
            Self::Fail => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// How everything is that a gateway uses.
struct Found {
    now: SystemTime,
    store: Health,
    /// Those that failed lately: the name, how often in all, and how long ago last.
    policies: Vec<(String, u64, Duration)>,
    mongodb: Vec<Value>,
    changes: Vec<Value>,
    /// Each deployment answers, and all changes are in time.
    is_mongodb_well: bool,
    fault: Option<(SystemTime, String)>,
    upstreams: Vec<OfUpstream>,
    /// Those that are fetched.
    keys: Vec<Value>,
    are_keys_fetched: bool,
}

/// How an upstream is.
struct OfUpstream {
    name: String,
    waiting: usize,
    servers: Vec<ServerOfUpstream>,
    lookup_failures: Vec<LookupFailure>,
}

impl Found {
    fn of(gateway: &Gateway) -> Self {
        let policies = gateway.policies().filter_map(|policy| {
            let figures = policy.snapshot();
            let ago = figures.last_failure.filter(|ago| *ago <= LATELY)?;
            Some((policy.name().to_owned(), figures.failures, ago))
        });
        let now = gateway.now();
        let (mongodbs, watches) =
            (gateway.mongodbs().collect::<Vec<_>>(), gateway.watches().collect::<Vec<_>>());
        Self {
            is_mongodb_well: !mongodbs.iter().any(|it| it.state.is_trouble())
                && !watches.iter().any(|it| it.is_late),
            mongodb: mongodbs
                .iter()
                .map(|it| {
                    json!({
                        "name": it.name,
                        "state": it.state.as_str(),
                        "since": before(now, it.lasts),
                        "last_error": last_error(now, it.error.as_ref()),
                    })
                })
                .collect(),
            changes: watches.iter().map(watch).collect(),
            now,
            store: gateway.store().health(),
            policies: policies.collect(),
            fault: gateway.stats().reloads.fault(),
            upstreams: gateway
                .upstreams()
                .map(|it| OfUpstream {
                    name: it.name().to_owned(),
                    waiting: it.waiting(),
                    servers: it.servers(),
                    lookup_failures: it.lookup_failures(),
                })
                .collect(),
            are_keys_fetched: gateway.fetched_keys().all(|it| it.failure.is_none()),
            keys: gateway
                .fetched_keys()
                .map(|it| {
                    let failure = it.failure.as_ref();
                    json!({
                        "jwt": it.jwt,
                        "keys": it.keys,
                        "fetched": it.fetched.map(clock::text),
                        "failure": failure.map(|(since, text)| {
                            json!({ "since": clock::text(*since), "text": text })
                        }),
                    })
                })
                .collect(),
        }
    }

    /// Redis and plugins may fail: requests are answered.
    fn status(&self) -> Status {
        let Health { servers, log } = &self.store;
        let is_well = servers.iter().all(|it| it.state == L2State::Up && it.takes_writes)
            && log.as_ref().is_none_or(|log| log.in_contact && log.waiting == 0)
            && self.is_mongodb_well
            && self.policies.is_empty()
            && self.are_keys_fetched
            && self.fault.is_none()
            && self.upstreams.iter().all(OfUpstream::is_well);
        if is_well { Status::Pass } else { Status::Warn }
    }

    fn told(&self) -> Value {
        let policies = self.policies.iter().map(|(name, failures, ago)| {
            json!({ "name": name, "failures": failures, "last_failure": self.before(*ago) })
        });
        let fault = self.fault.as_ref();
        let upstreams = self.upstreams.iter().map(|it| self.upstream(it));
        json!({
            "l2": self.l2(),
            "log": self.store.log.as_ref().map(log),
            "upstreams": upstreams.collect::<Vec<_>>(),
            "mongodb": self.mongodb,
            "changes": self.changes,
            "token_keys": self.keys,
            "failing_policies": policies.collect::<Vec<_>>(),
            "reload_error": fault.map(|(at, faults)| {
                json!({ "at": clock::text(*at), "text": faults })
            }),
        })
    }

    /// The worst of its servers, and each if there are several.
    fn l2(&self) -> Value {
        let servers = &self.store.servers;
        let Some(worst) = servers.iter().max_by_key(|server| server.state) else {
            return Value::Null;
        };
        let mut told = self.server(worst);
        if let (Value::Object(told), true) = (&mut told, servers.len() > 1) {
            let takes_writes = servers.iter().all(|server| server.takes_writes);
            told.insert("takes_writes".to_owned(), takes_writes.into());
            let all = servers.iter().map(|server| self.server(server)).collect();
            told.insert("servers".to_owned(), Value::Array(all));
        }
        told
    }

    fn server(&self, server: &ServerHealth) -> Value {
        json!({
            "server": server.name,
            "state": server.state.as_str(),
            "since": server.lasts.map(|lasts| self.before(lasts)),
            "takes_writes": server.takes_writes,
            "last_error": last_error(self.now, server.error.as_ref()),
        })
    }

    fn upstream(&self, upstream: &OfUpstream) -> Value {
        let servers = upstream.servers.iter().map(|it| self.of_upstream(it));
        let failures = upstream
            .lookup_failures
            .iter()
            .map(|it| json!({ "server": it.name, "since": self.before(it.lasts), "text": it.why }));
        json!({
            "name": upstream.name,
            "waiting": upstream.waiting,
            "servers": servers.collect::<Vec<_>>(),
            "lookup_failures": failures.collect::<Vec<_>>(),
        })
    }

    fn of_upstream(&self, server: &ServerOfUpstream) -> Value {
        let failure = server.last_failure.as_ref();
        json!({
            "server": server.name,
            "address": server.address.map(|it| it.to_string()),
            "backup": server.backup,
            "state": server.state.as_str(),
            "since": self.before(server.lasts),
            "in_flight": server.in_flight,
            "last_failure": failure.map(|(ago, text)| json!({ "at": self.before(*ago), "text": text })),
        })
    }

    fn before(&self, ago: Duration) -> String {
        before(self.now, ago)
    }
}

impl OfUpstream {
    fn is_well(&self) -> bool {
        self.lookup_failures.is_empty() && self.servers.iter().all(|it| it.state == Up)
    }
}

fn before(now: SystemTime, ago: Duration) -> String {
    clock::text(now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH))
}

fn last_error(now: SystemTime, error: Option<&(Duration, String)>) -> Value {
    error.map_or(Value::Null, |(ago, text)| json!({ "at": before(now, *ago), "text": text }))
}

fn watch(watch: &WatchHealth) -> Value {
    json!({
        "name": watch.name,
        "watched_by": if watch.is_own { "this gateway" } else { "another gateway" },
        "watching": watch.is_open,
        "lag_seconds": watch.lag.map(|lag| lag.as_secs_f64()),
        "late": watch.is_late,
        "error": watch.error,
    })
}

fn log(log: &LogHealth) -> Value {
    json!({
        "position": log.position.to_string(),
        "lag_seconds": log.lag.as_secs_f64(),
        "in_contact": log.in_contact,
        "of_replica": log.of_replica,
        "waiting": log.waiting,
        "error": log.error,
    })
}
