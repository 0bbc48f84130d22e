//! `upgrade` of a route: what clients may speak instead of HTTP, and for how long without a word.

use std::time::Duration;

use http::Method;

use super::fault::Wrong;
use super::reader::Table;
use super::{Origin, Route, routes};

/// The route with what its table says of other protocols.
pub(super) fn read(route: Option<Route>, table: &mut Table<'_>) -> Option<Route> {
    const HINT: &str = "write upgrade = [\"websocket\"], or leave it out";

    let upgrade = table.take("upgrade");
    let idle_timeout = table.take("upgrade_idle_timeout");
    if let Some(value) = idle_timeout.as_ref().filter(|_| upgrade.is_none()) {
        let message = "upgrade_idle_timeout means nothing where nothing else than HTTP is spoken";
        value.report(message, Some("add upgrade = [\"websocket\"], or leave it out".to_owned()));
    }
    let bounds = Duration::from_millis(1)..=Duration::from_hours(24);
    let idle_timeout = idle_timeout.and_then(|value| value.duration(bounds));
    let route = route?;
    let Some(value) = upgrade else { return Some(route) };
    if matches!(route.origin, Origin::Document(_)) {
        value.report("upgrade is for an upstream, and documents have none", None);
    }
    if !route.methods.is_empty() && !route.methods.contains(&Method::GET) {
        let hint = "add \"GET\" to methods, or leave it out".to_owned();
        value.report("upgrade begins with GET, which methods lacks", Some(hint));
    }
    Some(Route {
        upgrade: routes::all(&value, HINT, protocol).unwrap_or_default(),
        upgrade_idle_timeout: idle_timeout.unwrap_or(route.upgrade_idle_timeout),
        ..route
    })
}

/// A protocol's name, and its version if it has one, in lower case (RFC 9110 §7.8: a recipient compares
/// names without regard to case).
fn protocol(text: &str) -> Result<String, Wrong> {
    let is_token = |part: &str| {
        let is_of_token =
            |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet);
        (1..=64).contains(&part.len()) && part.bytes().all(is_of_token)
    };
    let (name, version) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    if !is_token(name) || !version.is_none_or(is_token) {
        return Err(Wrong::new("is not a protocol").with_hint("write a name as in \"websocket\""));
    }
    let name = name.to_ascii_lowercase();
    // What is asked for on such a connection would pass by the routes.
    if matches!(name.as_str(), "h2" | "h2c" | "http" | "tls") {
        let hint = "leave it out: clients may speak HTTP/2, and TLS, to the listener itself";
        return Err(Wrong::new("would carry requests that no route has seen").with_hint(hint));
    }
    Ok(text.to_ascii_lowercase())
}
