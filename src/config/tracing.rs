//! `[tracing]`: where spans of requests go.

use http::Uri;

use super::fault::Wrong;
use super::reader::Table;

/// `[tracing]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// `otlp`: the collector, with `/v1/traces` where nothing else is named.
    pub otlp: Uri,
    /// `ratio`: what share of the traces that begin here are told, 0 to 1, default 0.01. Others are told as
    /// their beginning says.
    pub ratio: f64,
    /// `service`: what the collector knows this by, default `larder`.
    pub service: String,
    /// `buffer`: so many spans wait to be told, default 10,000, 100 to 1,000,000. What does not fit is
    /// dropped.
    pub buffer: usize,
}

/// None if it is not said where they go.
pub(super) fn read(mut table: Table<'_>) -> Option<Tracing> {
    let otlp = table.take("otlp");
    if otlp.is_none() {
        table.missing("otlp", "write otlp = \"http://127.0.0.1:4318\"");
    }
    let otlp = otlp.and_then(|value| value.read(collector));
    let ratio = table.share("ratio", 0.01);
    let service = table.read("service", "larder".to_owned(), service);
    let buffer = table.count("buffer", 10_000, 100..=1_000_000);
    table.finish();
    otlp.map(|otlp| Tracing { otlp, ratio, service, buffer })
}

fn collector(text: &str) -> Result<Uri, Wrong> {
    const HINT: &str = "write the URL of a collector that takes OTLP by HTTP, as \
                        \"http://127.0.0.1:4318\"";
    let wrong = || Wrong::new("is not the URL of a collector").with_hint(HINT);
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let is_url = uri.scheme_str() == Some("http") && uri.host().is_some_and(|it| !it.is_empty());
    if !is_url || uri.authority().is_some_and(|it| it.as_str().contains('@')) {
        return Err(wrong());
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Ok(uri);
    }
    format!("{}/v1/traces", text.trim_end_matches('/')).parse().map_err(|_| wrong())
}

fn service(text: &str) -> Result<String, Wrong> {
    if text.is_empty() || text.len() > 255 || text.contains(char::is_control) {
        return Err(Wrong::new("is not a name").with_hint("write a name of at most 255 octets"));
    }
    Ok(text.to_owned())
}
