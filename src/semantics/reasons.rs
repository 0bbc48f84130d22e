//! Decisions in words, for operators: each says what decided and where that is written.

use super::freshness::LifetimeRule;
use super::status::Forward;
use super::storing::NotStored;

const TOO_LARGE: &str = "its content is larger than the route keeps (`max_body`), or than a tier takes \
                         (`capacity` of L1, `max_size` of L2)";

impl NotStored {
    /// Why the response was not stored, and what would change that where something can.
    pub fn explained(self) -> &'static str {
        match self {
            Self::Method => {
                "only responses to GET and QUERY are stored, and those to a POST that a policy takes \
                 for a read (RFC 9111 §3)"
            }
            Self::RequestNoStore => "the request said `no-store` (RFC 9111 §5.2.1.5)",
            Self::Status => "no cache may answer others with this status (RFC 9111 §3)",
            Self::Partial => {
                "it was a part that nobody had asked for, or of several parts (RFC 9111 §3.3)"
            }
            Self::ContentRange => {
                "its `Content-Range` contradicts itself or the length of its content (RFC 9110 §14.4)"
            }
            Self::NoStrongValidator => {
                "it was not whole, and no strong validator tells what the rest belongs to (RFC 9111 §3.3)"
            }
            Self::TooLittle => "it broke off, and what came of it is not worth keeping",
            Self::Range => "it answers a request for a part, and may be about that only",
            Self::NoStore => "the response said `no-store` (RFC 9111 §5.2.2.5)",
            Self::Private => {
                "the response said `private`: it is for one user (RFC 9111 §5.2.2.7). A route whose key \
                 tells users apart can grant it: `grants = [\"private\"]`"
            }
            Self::SetCookie => {
                "the response sets a cookie, which is for one client (RFC 9111 §7.3). Leave it out of \
                 what is to be cached, or grant it: `grants = [\"set-cookie\"]`"
            }
            Self::Authorization => {
                "the request had `Authorization`, or a token that shows no claim, and the response does not say \
                 that it may be shared: `public`, `s-maxage` or `must-revalidate` would (RFC 9111 §3.5)"
            }
            Self::ClientCert => {
                "the request had a client certificate, and the response says neither `Vary: Client-Cert` \
                 nor that it may be shared (RFC 9440 §2.4)"
            }
            Self::VaryAny => {
                "`Vary: *`, or a `Vary` that cannot be read: no other request would ever match \
                 (RFC 9111 §4.1)"
            }
            Self::VaryClient => {
                "`Vary` names what the gateway itself says of each client (RFC 7239)"
            }
            Self::NotUnderstood => {
                "`must-understand`, with a status that is not understood (RFC 9111 §5.2.2.3)"
            }
            Self::EventStream => "it is a stream of events, which has no end of its own",
            Self::NoFreshness => {
                "the response states no freshness lifetime, and none can be assigned. Send `Cache-Control: \
                 max-age=…`, or give the route a `ttl` (RFC 9111 §4.2.1)"
            }
            Self::NoValidator => {
                "it would have to be validated before its first use, and has neither `ETag` nor \
                 `Last-Modified` (RFC 9111 §4.3)"
            }
            Self::Trouble => "an error for which a stored response may stand in (RFC 5861 §4)",
            Self::TooLarge => TOO_LARGE,
            Self::Tags => "it names more than 1000 tags, or longer ones than are kept",
            Self::Policy => "the route's storing policy said so",
            Self::PolicyFailed => "the route's storing policy failed, and its `on_error` says so",
        }
    }
}

impl LifetimeRule {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SMaxage => "s-maxage",
            Self::MaxAge => "max-age",
            Self::Targeted => "targeted",
            Self::Expires => "expires",
            Self::Route => "route-ttl",
            Self::Heuristic => "heuristic",
            Self::EachTime => "no-cache",
        }
    }

    /// What gives the freshness lifetime.
    pub fn explained(self) -> &'static str {
        match self {
            Self::SMaxage => "`s-maxage` of the response (RFC 9111 §5.2.2.10)",
            Self::MaxAge => "`max-age` of the response (RFC 9111 §5.2.2.1)",
            Self::Targeted => "a targeted field of the response, before `Cache-Control` (RFC 9213)",
            Self::Expires => "`Expires` of the response (RFC 9111 §5.3)",
            Self::Route => "the route's `ttl`, as the response states none",
            Self::Heuristic => {
                "a guess: a tenth of the time since `Last-Modified` (RFC 9111 §4.2.2)"
            }
            Self::EachTime => "none: it is validated each time (`no-cache`, RFC 9111 §5.2.2.4)",
        }
    }
}

impl Forward {
    /// Why the request goes forward.
    pub fn explained(self) -> &'static str {
        match self {
            Self::Bypass => "it goes past the cache",
            Self::Method => "its method is not one that a cache answers",
            Self::UriMiss => "nothing that may answer is stored under its key",
            Self::VaryMiss => "what is stored is for other values of the fields that `Vary` names",
            Self::Miss => "nothing that may answer is stored",
            Self::Request => {
                "a fresh response is stored, and the request's directives forbid its use"
            }
            Self::Stale => "what is stored is stale, and is asked about",
            Self::Partial => "only parts of what it asks for are stored",
        }
    }
}
