//! Which fields of a request something is decided by: one look at each name, for all who would look.
//!
//! Most requests have none of them, and it takes longer to go through the names for each question than to
//! answer it. Which names count is known where the questions are; here they are only asked together.

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, DNT, FORWARDED, HOST, ORIGIN,
    REFERER, UPGRADE_INSECURE_REQUESTS, USER_AGENT, VIA,
};
use http::{HeaderMap, HeaderName};

use crate::message;
use crate::semantics;

use super::explain;

/// What of a request may be worth a closer look. False: no field of it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub(super) struct Notable {
    /// Whether its answer is to be explained.
    pub(super) explain: bool,
    /// Whether there is one with `_` in its name.
    pub(super) underscores: bool,
    /// What it says of a certificate.
    pub(super) client_cert: bool,
    /// Where its content ends.
    pub(super) framing: bool,
    /// Which gateways it has come through.
    pub(super) cdn_loop: bool,
    /// What it asks of caches.
    pub(super) directives: bool,
    /// Whether only the origin can answer it.
    pub(super) bypassing: bool,
    /// Whether it asks for a part, or says when it would.
    pub(super) range: bool,
    /// Whether its client has a copy.
    pub(super) conditions: bool,
}

impl Notable {
    pub(super) fn of(fields: &HeaderMap) -> Self {
        let mut found = Self::default();
        fields.keys().filter(|name| !is_usual(name)).for_each(|name| found.add(name));
        found
    }

    fn add(&mut self, name: &HeaderName) {
        self.explain |= explain::is_explain(name);
        self.underscores |= message::has_underscore(name);
        self.client_cert |= message::is_client_cert(name);
        self.framing |= message::is_framing(name);
        self.cdn_loop |= message::is_cdn_loop(name);
        self.directives |= semantics::is_directives(name);
        self.bypassing |= semantics::may_bypass(name);
        self.range |= semantics::is_range(name);
        self.conditions |= semantics::is_condition(name);
    }
}

/// Whether nearly every request has a field of this name, and none of the questions is about it: by one
/// comparison, where each of the questions takes one.
fn is_usual(name: &HeaderName) -> bool {
    matches!(
        *name,
        HOST | USER_AGENT
            | ACCEPT
            | ACCEPT_ENCODING
            | ACCEPT_LANGUAGE
            | AUTHORIZATION
            | COOKIE
            | DNT
            | FORWARDED
            | ORIGIN
            | REFERER
            | UPGRADE_INSECURE_REQUESTS
            | VIA
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_question_is_about_what_is_usual() {
        let usual = [
            "host",
            "user-agent",
            "accept",
            "accept-encoding",
            "accept-language",
            "authorization",
            "cookie",
            "dnt",
            "forwarded",
            "origin",
            "referer",
            "upgrade-insecure-requests",
            "via",
        ];
        for name in usual.map(HeaderName::from_static) {
            let mut found = Notable::default();
            found.add(&name);
            assert!(is_usual(&name) && found == Notable::default(), "{name}");
        }
    }

    #[test]
    fn each_field_is_noted_by_itself() {
        let nothing = Notable::default();
        let framing = Notable { framing: true, bypassing: true, ..nothing };
        for (name, expected) in [
            ("larder-explain", Notable { explain: true, ..nothing }),
            ("x_a", Notable { underscores: true, ..nothing }),
            ("client-cert-chain", Notable { client_cert: true, ..nothing }),
            ("content-length", framing),
            ("transfer-encoding", framing),
            ("cdn-loop", Notable { cdn_loop: true, ..nothing }),
            ("pragma", Notable { directives: true, ..nothing }),
            ("connection", Notable { bypassing: true, ..nothing }),
            ("x-http-method-override", Notable { bypassing: true, ..nothing }),
            ("x_http_method_override", Notable { underscores: true, bypassing: true, ..nothing }),
            ("range", Notable { range: true, ..nothing }),
            ("if-none-match", Notable { conditions: true, ..nothing }),
            ("sec-fetch-mode", nothing),
        ] {
            let mut fields = HeaderMap::new();
            for name in ["host", name, "accept"] {
                fields.insert(HeaderName::from_static(name), "a".parse().unwrap());
            }
            assert_eq!(Notable::of(&fields), expected, "{name}");
        }
    }
}
