//! The dashboard: a page in the files of `dashboard/`, which come with the program and load nothing from
//! elsewhere. They hold no figures and need no token; the page asks for all that it shows as any other
//! client of this listener does.

use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
};
use axum::response::{IntoResponse, Response};

use super::named::Named;
use super::problem;

/// Where the files are.
const FOLDER: &str = "/dashboard/";

/// Nothing but the page's own files, no code in the page itself, and no frame around it. Texts are put
/// into the page as texts alone: what would make code or elements of one is switched off.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, media type and content of each file.
const FILES: &[(&str, &str, &str)] = &[
    ("icon.svg", "image/svg+xml", include_str!("dashboard/icon.svg")),
    ("style.css", CSS, include_str!("dashboard/style.css")),
    ("api.js", SCRIPT, include_str!("dashboard/api.js")),
    ("app.js", SCRIPT, include_str!("dashboard/app.js")),
    ("chart.js", SCRIPT, include_str!("dashboard/chart.js")),
    ("dom.js", SCRIPT, include_str!("dashboard/dom.js")),
    ("format.js", SCRIPT, include_str!("dashboard/format.js")),
    ("helpers.js", SCRIPT, include_str!("dashboard/helpers.js")),
    ("history.js", SCRIPT, include_str!("dashboard/history.js")),
    ("invalidations.js", SCRIPT, include_str!("dashboard/invalidations.js")),
    ("overview.js", SCRIPT, include_str!("dashboard/overview.js")),
    ("stored.js", SCRIPT, include_str!("dashboard/stored.js")),
    ("tree.js", SCRIPT, include_str!("dashboard/tree.js")),
];

/// Whether a path is one of the page's, which is for everyone.
pub(super) fn is_of_page(path: &str) -> bool {
    matches!(path, "/" | "/dashboard") || path.starts_with(FOLDER)
}

/// `GET /` and `GET /dashboard`.
pub(super) async fn page() -> Response {
    file(HTML, include_str!("dashboard/index.html"))
}

/// `GET /dashboard/{name}`.
pub(super) async fn part(Named(name): Named) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, content)) => file(kind, content),
        None => problem(StatusCode::NOT_FOUND, "the dashboard has no such file"),
    }
}

fn file(kind: &'static str, content: &'static str) -> Response {
    let fields = [
        (CONTENT_TYPE, kind),
        // A new version of the program has other files under the same names.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (OPENER_POLICY, "same-origin"),
    ];
    (fields, content).into_response()
}
