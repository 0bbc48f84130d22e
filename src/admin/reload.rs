//! `POST /reload`. What a reload is, and whether there is anything to reload, is known to whoever
//! answers on the other end.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::{Context, faulty, problem};

/// Where calls go, each with the place for its answer.
pub type Reloads = mpsc::Sender<oneshot::Sender<Reloaded>>;

/// What a reload came to.
#[derive(Debug)]
pub enum Reloaded {
    /// Requests are answered by what was read; this is what it has changed.
    Done(Value),
    /// All that is wrong with what was read. Nothing has changed.
    Faulty(Vec<String>),
}

/// Answers when the reload is done.
pub(super) async fn reload(State(context): State<Context>) -> Response {
    let Some(reloads) = &context.reloads else {
        let detail = "this gateway was started without a file";
        return problem(StatusCode::CONFLICT, detail);
    };
    let (answer, answered) = oneshot::channel();
    let asked = reloads.send(answer).await;
    match answered.await {
        Ok(Reloaded::Done(changes)) if asked.is_ok() => Json(changes).into_response(),
        Ok(Reloaded::Faulty(faults)) => faulty(&faults, "what was in service stays"),
        _ => problem(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping"),
    }
}
