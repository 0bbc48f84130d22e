//! The remaining kinds of string values: names, tokens, methods, plugins, words of a fixed set.

use std::path::Path;

use http::HeaderName;

use super::fault::Wrong;
use super::{Collapsing, Compression, Forward, Grant, OnError, OnL2Error, OnLag, Plugin, nearest};

/// A namespace, or the name of a route, an upstream or a policy.
pub(super) fn name(text: &str) -> Result<String, Wrong> {
    let is_name = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if is_name {
        return Ok(text.to_owned());
    }
    Err(Wrong::new("is not a name")
        .with_hint("write letters, digits, `-`, `_` and `.`, at most 64"))
}

/// A bearer token; none if empty (RFC 6750 §2.1, without the insistence on its alphabet).
pub(super) fn token(text: &str) -> Result<Option<String>, Wrong> {
    if text.len() > 1024 || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Wrong::new("cannot be sent as a bearer token")
            .with_hint("write at most 1024 visible ASCII characters, without spaces"));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// A field that speaks to certain caches: `…-Cache-Control` (RFC 9213 §2), or `Surrogate-Control`.
pub(super) fn targeted_field(text: &str) -> Result<HeaderName, Wrong> {
    let name = HeaderName::from_bytes(text.as_bytes());
    let is_targeted = |name: &HeaderName| {
        name.as_str().ends_with("-cache-control") || *name == "surrogate-control"
    };
    name.ok().filter(is_targeted).ok_or_else(|| {
        Wrong::new("is not a targeted field")
            .with_hint("write a name such as \"CDN-Cache-Control\", or \"Surrogate-Control\"")
    })
}

/// A method (RFC 9110 §9.1: case-sensitive).
pub(super) fn method(text: &str) -> Result<http::Method, Wrong> {
    let Ok(method) = http::Method::from_bytes(text.as_bytes()) else {
        return Err(Wrong::new("is not a method").with_hint("write a name such as \"GET\""));
    };
    if text.len() > 32 {
        return Err(Wrong::new("is longer than 32 characters"));
    }
    let upper = text.to_ascii_uppercase();
    if upper != text {
        return Err(Wrong::new("is not in upper case").with_hint(format!("write \"{upper}\"")));
    }
    Ok(method)
}

/// Where a plugin comes from; relative files are found from `folder`.
pub(super) fn plugin(text: &str, folder: &Path) -> Result<Plugin, Wrong> {
    const SHAPE: &str = "write \"bundled:NAME\", or the path of a file as in \"plugins/keys.wasm\"";
    if let Some(name) = text.strip_prefix("bundled:") {
        return match name {
            "" => Err(Wrong::new("names no plugin").with_hint(SHAPE)),
            _ => Ok(Plugin::Bundled(name.to_owned())),
        };
    }
    if text.contains("://") {
        return Err(Wrong::new("is a URL; plugins are loaded from files").with_hint(SHAPE));
    }
    if text.is_empty() || text.contains('\0') {
        return Err(Wrong::new("is not a path").with_hint(SHAPE));
    }
    Ok(Plugin::File(folder.join(text)))
}

/// What a failed policy leads to.
pub(super) fn on_error(text: &str) -> Result<OnError, Wrong> {
    match text {
        "bypass" => Ok(OnError::Bypass),
        "fail" => Ok(OnError::Fail),
        "default" => Ok(OnError::Default),
        _ => {
            let hint = nearest::hint(text, "write one of", ["bypass", "fail", "default"]);
            Err(Wrong { complaint: "is not one of the three ways to go on".to_owned(), hint })
        }
    }
}

/// How content lies in L2.
pub(super) fn compression(text: &str) -> Result<Compression, Wrong> {
    match text {
        "none" => Ok(Compression::None),
        "lz4" => Ok(Compression::Lz4),
        _ => {
            let hint = nearest::hint(text, "write one of", ["none", "lz4"]);
            Err(Wrong { complaint: "is neither `none` nor `lz4`".to_owned(), hint })
        }
    }
}

/// Where it is no boolean of TOML's own: a word, or what a variable makes a boolean.
pub(super) fn collapsing(text: &str) -> Result<Collapsing, Wrong> {
    match text {
        "true" => Ok(Collapsing::Gateway),
        "false" => Ok(Collapsing::Off),
        "fleet" => Ok(Collapsing::Fleet),
        _ => Err(Wrong::new("is neither `true` nor `false` nor `fleet`")
            .with_hint("write true, false or \"fleet\"")),
    }
}

/// What becomes of what may have been invalidated.
pub(super) fn on_lag(text: &str) -> Result<OnLag, Wrong> {
    match text {
        "serve" => Ok(OnLag::Serve),
        "validate" => Ok(OnLag::Validate),
        "bypass" => Ok(OnLag::Bypass),
        _ => {
            let hint = nearest::hint(text, "write one of", ["serve", "validate", "bypass"]);
            Err(Wrong { complaint: "is not one of the three ways to go on".to_owned(), hint })
        }
    }
}

/// What becomes of what L2 would answer.
pub(super) fn on_l2_error(text: &str) -> Result<OnL2Error, Wrong> {
    match text {
        "miss" => Ok(OnL2Error::Miss),
        "stale" => Ok(OnL2Error::Stale),
        "fail" => Ok(OnL2Error::Fail),
        _ => {
            let hint = nearest::hint(text, "write one of", ["miss", "stale", "fail"]);
            Err(Wrong { complaint: "is not one of the three ways to go on".to_owned(), hint })
        }
    }
}

pub(super) fn forward(text: &str) -> Result<Forward, Wrong> {
    match text {
        "all" => Ok(Forward::All),
        "keyed" => Ok(Forward::Keyed),
        _ => {
            let hint = nearest::hint(text, "write one of", ["all", "keyed"]);
            Err(Wrong { complaint: "is neither `all` nor `keyed`".to_owned(), hint })
        }
    }
}

pub(super) fn grant(text: &str) -> Result<Grant, Wrong> {
    const ALL: [Grant; 4] = [Grant::Authorization, Grant::Private, Grant::SetCookie, Grant::Post];

    ALL.into_iter().find(|grant| grant.name() == text).ok_or_else(|| {
        let hint = match text {
            "no-store" => Some("what must not be stored is not, whatever a route says".to_owned()),
            _ => nearest::hint(text, "write some of", ALL.map(Grant::name)),
        };
        Wrong { complaint: "is nothing that can be granted".to_owned(), hint }
    })
}

/// A request field that may be forwarded and be in every key.
pub(super) fn forward_field(text: &str) -> Result<HeaderName, Wrong> {
    /// What the gateway sees to itself.
    const OWN: [&str; 17] = [
        "cache-control",
        "connection",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];

    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| Wrong::new("is no field name").with_hint("write one as in \"accept\""))?;
    if matches!(name.as_str(), "authorization" | "cookie") {
        return Err(Wrong::new("tells one user from another")
            .with_hint("let the route's key policy look at it, and leave it out here"));
    }
    if OWN.contains(&name.as_str()) || name.as_str().starts_with("x-forwarded-") {
        return Err(
            Wrong::new("is a field that the gateway sees to itself").with_hint("leave it out")
        );
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(name("no-tracking_2.0").unwrap(), "no-tracking_2.0");
        for text in ["", "a b", "a/b", "é", &"a".repeat(65)] {
            assert!(name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tokens_fit_in_a_field() {
        assert_eq!(token(""), Ok(None));
        assert_eq!(token("s3cret"), Ok(Some("s3cret".to_owned())));
        for text in ["a b", "a\n", "é", &"a".repeat(1025)] {
            assert!(token(text).is_err(), "{text}");
        }
    }

    #[test]
    fn methods_are_case_sensitive() {
        assert_eq!(method("GET"), Ok(http::Method::GET));
        assert_eq!(method("PURGE").unwrap().as_str(), "PURGE");
        assert_eq!(method("get").unwrap_err().hint.unwrap(), "write \"GET\"");
        assert_eq!(method("G T").unwrap_err().complaint, "is not a method");
        assert_eq!(method("").unwrap_err().complaint, "is not a method");
    }

    #[test]
    fn targeted_fields() {
        for text in ["CDN-Cache-Control", "Larder-Cache-Control", "Surrogate-Control"] {
            assert_eq!(targeted_field(text).unwrap().as_str(), text.to_ascii_lowercase());
        }
        for text in ["Cache-Control", "Expires", "", "CDN Cache-Control"] {
            assert!(targeted_field(text).is_err(), "{text}");
        }
    }

    #[test]
    fn plugins_are_bundled_or_files() {
        let folder = Path::new("/etc/larder");
        assert_eq!(plugin("bundled:keys", folder), Ok(Plugin::Bundled("keys".to_owned())));
        assert_eq!(plugin("p/k.wasm", folder), Ok(Plugin::File("/etc/larder/p/k.wasm".into())));
        assert_eq!(plugin("/k.wasm", folder), Ok(Plugin::File("/k.wasm".into())));
        for text in ["", "bundled:", "https://plugins.example/k.wasm"] {
            assert!(plugin(text, folder).is_err(), "{text}");
        }
    }

    #[test]
    fn ways_to_go_on() {
        assert_eq!(on_error("fail"), Ok(OnError::Fail));
        assert_eq!(on_error("bypas").unwrap_err().hint.unwrap(), "did you mean `bypass`?");
        assert_eq!(
            on_error("retry").unwrap_err().hint.unwrap(),
            "write one of: `bypass`, `fail`, `default`"
        );
        assert_eq!(on_l2_error("stale"), Ok(OnL2Error::Stale));
        assert_eq!(on_l2_error("fails").unwrap_err().hint.unwrap(), "did you mean `fail`?");
        assert_eq!(on_lag("serve"), Ok(OnLag::Serve));
        assert_eq!(on_lag("validat").unwrap_err().hint.unwrap(), "did you mean `validate`?");
    }
}
