//! Whether the content of a stored response is what whoever asks would get, so that an operator may be
//! shown some of it.
//!
//! That is narrower than what RFC 9111 lets a cache share: a response to a request that said who had sent
//! it is left out, also where the response says `public` (§3.5). What of a request its key tells, and what
//! the route grants, is for others to know.

use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, HeaderMap, HeaderName,
    ORIGIN, SET_COOKIE,
};

use super::cache_control::ResponseDirectives;
use super::vary::Vary;
use crate::message::CLIENT_CERT;

/// Request fields that say nothing of who asks.
pub const OF_NOBODY: [HeaderName; 5] =
    [ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ORIGIN];

/// Why a content is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// The request said who had sent it.
    Asked,
    /// "A shared cache MUST NOT store the response" that is `private` (§5.2.2.7); this one was let.
    Private,
    /// It came with a cookie (§7.3).
    SetCookie,
    /// It was selected by a field that may say who asks (§4.1).
    Selected,
}

/// Whether the content of a response of these fields, as received, to a request of those, is what whoever
/// asks gets.
pub(super) fn open(
    asked: &HeaderMap,
    received: &HeaderMap,
    directives: &ResponseDirectives,
) -> Result<(), Closed> {
    let is_of_nobody = || match Vary::of(received) {
        Vary::Any => false,
        Vary::Fields(names) => names.iter().all(|name| OF_NOBODY.contains(name)),
    };
    if asked.contains_key(AUTHORIZATION) || asked.contains_key(CLIENT_CERT) {
        Err(Closed::Asked)
    } else if directives.private {
        Err(Closed::Private)
    } else if received.contains_key(SET_COOKIE) {
        Err(Closed::SetCookie)
    } else if is_of_nobody() {
        Ok(())
    } else {
        Err(Closed::Selected)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CACHE_CONTROL;

    use super::*;

    #[test]
    fn only_what_anybody_would_get_is_open() {
        for (asked, received, expected, why) in [
            (&[][..], &[][..], Ok(()), "nobody is named"),
            (&[("cookie", "a=1")], &[], Ok(()), "a cookie that selects nothing"),
            (&[("authorization", "Basic YTpi")], &[], Err(Closed::Asked), "a user"),
            (
                &[("authorization", "Basic YTpi")],
                &[("cache-control", "public")],
                Err(Closed::Asked),
                "a user, and others may have it",
            ),
            (&[("client-cert", ":YQ==:")], &[], Err(Closed::Asked), "a certificate"),
            (&[], &[("cache-control", "private")], Err(Closed::Private), "for one user"),
            (&[], &[("cache-control", "private=\"x-a\"")], Ok(()), "but for a field"),
            (&[], &[("set-cookie", "a=1")], Err(Closed::SetCookie), "a session begins"),
            (&[], &[("vary", "accept, Accept-Encoding")], Ok(()), "what is wanted, not who wants"),
            (&[], &[("vary", "accept"), ("vary", "cookie")], Err(Closed::Selected), "a session"),
            (&[], &[("vary", "x-user")], Err(Closed::Selected), "nobody knows what it says"),
            (&[], &[("vary", "*")], Err(Closed::Selected), "anything"),
        ] {
            let fields = |lines: &[(&'static str, &'static str)]| {
                let mut fields = HeaderMap::new();
                for (name, value) in lines {
                    fields.append(*name, HeaderValue::from_static(value));
                }
                fields
            };
            let received = fields(received);
            let directives = ResponseDirectives::of(&received, &CACHE_CONTROL);
            assert_eq!(open(&fields(asked), &received, &directives), expected, "{why}");
        }
    }
}
