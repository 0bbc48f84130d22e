//! What a call names in its path.

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;

use super::problem;

/// The one parameter of a path. What is not UTF-8 is refused as everything else is, with a problem.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let detail = "the path is not UTF-8, so nothing has this name";
        path.map(|Path(name)| Self(name)).map_err(|_| problem(StatusCode::BAD_REQUEST, detail))
    }
}
