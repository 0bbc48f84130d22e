//! `GET /config`, `GET /routes` and `GET /policies`: what the gateway goes by at this moment.
//!
//! Of secrets nothing is told but that they are there.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::config::{Collapsing, Config, OnError, Origin, Plugin, Route};
use crate::plugin::Policy;
use crate::routes;

use super::{Context, problem};

/// As JSON, or with `?format=toml` as a file with comments.
pub(super) async fn config(State(context): State<Context>, uri: Uri) -> Response {
    let gateway = context.current.gateway();
    let in_force = &gateway.config().in_force;
    match uri.query() {
        None | Some("" | "format=json") => Json(in_force.to_json()).into_response(),
        Some("format=toml") => {
            ([(CONTENT_TYPE, "application/toml")], in_force.to_toml()).into_response()
        }
        Some(_) => {
            let detail =
                "there is no such parameter here; there is `format=json` and `format=toml`";
            problem(StatusCode::BAD_REQUEST, detail)
        }
    }
}

/// In the order in which they come before one another.
pub(super) async fn routes(State(context): State<Context>) -> Response {
    let gateway = context.current.gateway();
    let config = gateway.config();
    let order = routes::by_precedence(&config.routes);
    // There, values that may be secret are hidden.
    let shown = config.in_force.to_json();
    let headers = |place| shown.pointer(&format!("/config/routes/{place}/headers"));
    let at = |place: usize| Some(told(config, config.routes.get(place)?, headers(place)));
    let routes: Vec<Value> = order.into_iter().filter_map(at).collect();
    Json(json!({ "routes": routes })).into_response()
}

fn told(config: &Config, route: &Route, headers: Option<&Value>) -> Value {
    let policy = |place: Option<usize>| Some(config.policies.get(place?)?.name.as_str());
    let (upstream, document) = match &route.origin {
        Origin::Upstream(place) => {
            (config.upstreams.get(*place).map(|it| it.name.as_str()), Value::Null)
        }
        Origin::Document(document) => {
            let mongodb = config.mongodbs.get(document.mongodb).map(|it| it.name.as_str());
            let (database, collection) = (&document.database, &document.collection);
            let it = json!({ "mongodb": mongodb, "database": database, "collection": collection });
            (None, it)
        }
    };
    let headers = headers.and_then(Value::as_object).into_iter().flatten().map(|(name, values)| {
        let values = if values.is_array() { values.clone() } else { json!([values]) };
        (name.to_ascii_lowercase(), values)
    });
    json!({
        "name": route.name,
        "hosts": route.hosts,
        "path": route.path,
        "methods": route.methods.iter().map(http::Method::as_str).collect::<Vec<_>>(),
        "headers": headers.collect::<Map<String, Value>>(),
        "upstream": upstream,
        "document": document,
        "key": route.key.iter().filter_map(|place| policy(Some(*place))).collect::<Vec<_>>(),
        "storing": policy(route.storing),
        "invalidation": policy(route.invalidation),
        "shadow": policy(route.shadow),
        "jwt": route.jwt.and_then(|place| Some(config.jwts.get(place)?.name.as_str())),
        "grants": route.grants.iter().map(|grant| grant.name()).collect::<Vec<_>>(),
        "ttl_seconds": route.ttl.map(|ttl| ttl.as_secs()),
        "collapse": match route.collapse {
            Collapsing::Off => json!(false),
            Collapsing::Gateway => json!(true),
            Collapsing::Fleet => json!("fleet"),
        },
        "purge": route.purge,
    })
}

/// In the order of the file.
pub(super) async fn policies(State(context): State<Context>) -> Response {
    let gateway = context.current.gateway();
    let policies: Vec<Value> =
        gateway.policies().map(|policy| of_policy(gateway.config(), policy)).collect();
    Json(json!({ "policies": policies })).into_response()
}

fn of_policy(config: &Config, policy: &Policy) -> Value {
    let place = config.policies.iter().position(|it| it.name == policy.name());
    let written = place.and_then(|place| config.policies.get(place));
    let plugin = written.map(|it| match &it.plugin {
        Plugin::Bundled(name) => format!("bundled:{name}"),
        Plugin::File(path) => path.display().to_string(),
    });
    let exports = [
        ("key", policy.has_key()),
        ("storing", policy.has_storing()),
        ("invalidation", policy.has_invalidation()),
    ];
    let exports = exports.into_iter().filter_map(|(name, has)| has.then_some(name));
    let asks = |route: &&Route| {
        let roles = [route.storing, route.invalidation, route.shadow];
        place.is_some_and(|it| route.key.contains(&it) || roles.contains(&Some(it)))
    };
    let digest: Vec<_> = policy.digest().iter().map(|octet| format!("{octet:02x}")).collect();
    json!({
        "name": policy.name(),
        "plugin": plugin,
        "digest": digest.concat(),
        "exports": exports.collect::<Vec<_>>(),
        "wants": {
            "fields": policy.wanted_fields().iter().map(http::HeaderName::as_str).collect::<Vec<_>>(),
            "cookies": policy.wanted_cookies(),
            "content": policy.wants_content(),
            "response_values": policy.wants_response_values(),
            "documents": policy.wants_documents(),
            "claims": policy.wants_claims(),
        },
        "on_error": written.map(|it| match it.on_error {
            OnError::Bypass => "bypass",
            OnError::Fail => "fail",
            OnError::Default => "default",
        }),
        "time_seconds": written.map(|it| it.time.as_secs_f64()),
        "memory": written.map(|it| it.memory),
        "remember": written.map(|it| it.remember),
        "routes": config.routes.iter().filter(asks).map(|it| it.name.as_str()).collect::<Vec<_>>(),
        "figures": policy.snapshot(),
    })
}
