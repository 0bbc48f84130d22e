//! `GET /busiest`: the URLs that are hit most, for whoever warms another gateway.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::busiest::Ranking;
use crate::gateway::NoRanking;

use super::{Context, problem};

/// The ranking, this gateway's hits of this moment included.
pub(super) async fn busiest(State(context): State<Context>) -> Response {
    match context.current.gateway().busiest().await {
        Ok(ranking) => Json(json!({ "urls": told(&ranking, usize::MAX) })).into_response(),
        Err(why @ NoRanking::NotWanted) => problem(StatusCode::NOT_FOUND, &why.to_string()),
        Err(why @ NoRanking::NotKept(_)) => {
            problem(StatusCode::SERVICE_UNAVAILABLE, &why.to_string())
        }
    }
}

/// The first of a ranking.
pub(super) fn told(ranking: &Ranking, most: usize) -> Vec<Value> {
    let urls = ranking.iter().take(most);
    urls.map(|(url, count)| json!({ "url": url, "hits": whole(count) })).collect()
}

/// A count that has faded, as people count.
fn whole(count: f64) -> u64 {
    // It is not below zero; one that is beyond all bounds stays there.
    format!("{count:.0}").parse().unwrap_or(u64::MAX)
}
