//! May a response be stored, and with which fields (RFC 9111 §3).
//!
//! Whether its body came whole, and whether there is room, is for others to know.

use std::time::{Duration, SystemTime};

use http::header::{
    AGE, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderName, SET_COOKIE,
    TRAILER,
};
use http::{Method, StatusCode};

use super::cache_control::{RequestDirectives, ResponseDirectives};
use super::date;
use super::freshness::{
    Freshness, Lifetime, LifetimeRule, Times, assigned_lifetime, explicit_lifetime,
    is_heuristically_cacheable,
};
use super::open;
use super::reuse::may_be_of_use;
use super::targeted::response_directives;
use super::validation::Validators;
use super::vary::Vary;
use crate::message::{CLIENT_CERT, remove_hop_by_hop};

/// The request that a response answers.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its fields, as the client sent them.
    pub fields: &'a HeaderMap,
    /// Their directives.
    pub directives: &'a RequestDirectives,
    /// It has credentials that are not in `Authorization`, and that the key tells nothing of.
    pub has_credentials: bool,
}

/// When responses to requests with credentials are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authorized {
    /// Where they say that they may be shared (§3.5).
    #[default]
    Public,
    /// Never: what they depend on is not in the key.
    Never,
}

/// What may be stored though §3 forbids it, or reason does: under a key that tells apart whom the
/// response is for, which the route's key policy answers for. `no-store` is never granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one grant, and any go together")]
pub struct Grants {
    /// Responses to requests with `Authorization` that do not say that they may be shared (§3.5).
    pub authorization: bool,
    /// `private` ones (§5.2.2.7).
    pub private: bool,
    /// Those with `Set-Cookie`, without it (§7.3).
    pub set_cookie: bool,
    /// Those to `POST` where the policy holds that it asks and changes nothing, for the same `POST`.
    pub post: bool,
}

/// What the configuration says about storing and reuse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The lifetime of responses that state none.
    pub ttl: Option<Duration>,
    /// That of those which have none by `ttl` nor by a guess, where not all that a response says is known.
    pub assumed_ttl: Option<Duration>,
    /// The fields that this cache listens to before `Cache-Control` (RFC 9213 §2.2).
    pub targets: Vec<HeaderName>,
    /// So long after it became stale a response may be served where the origin fails, by a contract
    /// with the origin (RFC 9111 §4.2.4).
    pub stale_if_error: Option<Duration>,
    /// Of requests with credentials.
    pub authorized: Authorized,
    /// Nothing depends on a client's certificate but by its key.
    pub certificate_in_key: bool,
    /// What the operator allows besides.
    pub grants: Grants,
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotStored {
    /// Only responses to `GET` and `QUERY` are.
    Method,
    /// The request said `no-store`.
    RequestNoStore,
    /// A status that no cache may answer others with: not final, 304, or not one of HTTP's.
    Status,
    /// A 206 that nobody asked for, or of several parts; or what broke off and has no length.
    Partial,
    /// A 206 whose `Content-Range` contradicts itself or the length of its content.
    ContentRange,
    /// It broke off, or is a 206, and its validator cannot tell whether other parts are of the same
    /// content, or would seem to be one that can.
    NoStrongValidator,
    /// It broke off, and what came of it is not worth keeping. Found out by whoever reads the content.
    TooLittle,
    /// It answers a request for a part, and may be about that only. Found out by whoever asked.
    Range,
    /// The response said `no-store`.
    NoStore,
    /// The response said `private`.
    Private,
    /// The response sets a cookie, which is for one client.
    SetCookie,
    /// The request had credentials, and the response does not say that it may be shared.
    Authorization,
    /// The request had `Client-Cert`, and the response does not say that it depends on it, nor that it may
    /// be shared.
    ClientCert,
    /// `Vary: *`, or a `Vary` that cannot be read: it would never match.
    VaryAny,
    /// `Vary` nominates what tells clients apart by their addresses, which the gateway itself says: each would have
    /// a response of its own.
    VaryClient,
    /// `must-understand`, with a status that is not understood.
    NotUnderstood,
    /// It is a stream of events, which has no end of its own.
    EventStream,
    /// No lifetime: the response states none, and none can be assigned.
    NoFreshness,
    /// It would have to be validated before its first use, and has no validator.
    NoValidator,
    /// It is an error, and what is stored may stand in for it (RFC 5861 §4). Found out by whoever looked that up.
    Trouble,
    /// Its content is larger than the route keeps, or than a tier takes. Found out by whoever reads the content.
    TooLarge,
    /// It names more tags, or longer ones, than are kept. Found out by whoever reads them.
    Tags,
    /// The route's policy said so. Found out by whoever asks it.
    Policy,
    /// The route's policy failed. Found out by whoever asks it.
    PolicyFailed,
}

impl NotStored {
    /// Whether it is what the response says, and not what the request asked.
    pub fn is_about_the_response(self) -> bool {
        matches!(
            self,
            Self::NoStore
                | Self::Private
                | Self::SetCookie
                | Self::VaryAny
                | Self::VaryClient
                | Self::NotUnderstood
                | Self::EventStream
                | Self::NoFreshness
                | Self::NoValidator
                | Self::TooLarge
                | Self::Tags
                | Self::Policy
                | Self::PolicyFailed
        )
    }

    /// A token for `Cache-Status`, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::RequestNoStore => "request-no-store",
            Self::Status => "status",
            Self::Partial => "partial",
            Self::ContentRange => "content-range",
            Self::NoStrongValidator => "no-strong-validator",
            Self::TooLittle => "too-little",
            Self::Range => "range",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::SetCookie => "set-cookie",
            Self::Authorization => "authorization",
            Self::ClientCert => "client-cert",
            Self::VaryAny => "vary-any",
            Self::VaryClient => "vary-client",
            Self::NotUnderstood => "must-understand",
            Self::EventStream => "event-stream",
            Self::NoFreshness => "no-freshness",
            Self::NoValidator => "no-validator",
            Self::Trouble => "trouble",
            Self::TooLarge => "too-large",
            Self::Tags => "tags",
            Self::Policy => "policy",
            Self::PolicyFailed => "policy-failed",
        }
    }
}

/// Whether a response that is not stored, for this reason, is nevertheless news of its target, so that
/// what was stored of it before has had its time (RFC 9111 §4.3.3: "none of the stored responses
/// nominated in the conditional request are suitable").
///
/// An origin in trouble, or one that refuses this client, says nothing about the target itself.
pub fn supersedes(asked: &Asked<'_>, status: StatusCode, why: NotStored) -> bool {
    is_news(status) && why.is_about_the_response() && !names_user(asked)
}

/// Whether a response says what there is now. What a client sent may be to blame for other errors, or trouble.
fn is_news(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection() || matches!(status.as_u16(), 404 | 410)
}

/// Whether a stored response that a 304 has just freshened must not be used again, as the fields that it
/// has now may not be stored, for this reason (RFC 9111 §4.3.4).
///
/// A cookie in a 304 is one client's, and the stored response has none. Without a lifetime it may be
/// validated again.
pub fn is_spoilt(asked: &Asked<'_>, why: NotStored) -> bool {
    let may_be_used_again = matches!(why, NotStored::SetCookie | NotStored::NoFreshness);
    why.is_about_the_response() && !may_be_used_again && !names_user(asked)
}

/// Whether a request says who has sent it, by credentials or by a certificate.
pub fn names_user(asked: &Asked<'_>) -> bool {
    has_credentials(asked) || asked.fields.contains_key(CLIENT_CERT)
}

/// Whether a request has credentials. §3.5 is about those in `Authorization`, where HTTP has them; no
/// response that some in a cookie have brought is less of one user.
fn has_credentials(asked: &Asked<'_>) -> bool {
    asked.has_credentials || asked.fields.contains_key(AUTHORIZATION)
}

/// Whether the response of this status and these fields, as received, may be stored, and how it
/// may then be reused. For a stored response that a 304 freshened: its own status, the fields that
/// [`freshen`](super::freshen) gave, and the times of the 304.
pub fn storable(
    asked: &Asked<'_>,
    status: StatusCode,
    fields: &HeaderMap,
    times: &Times,
    rules: &Rules,
) -> Result<Freshness, NotStored> {
    let directives = response_directives(fields, &rules.targets);
    allowed(asked, status, fields, &directives, rules)?;

    let lifetime = lifetime_by(status, fields, &directives, times.received, rules);
    let lifetime = lifetime.ok_or(NotStored::NoFreshness)?;
    let open = open::open(asked.fields, fields, &directives).is_ok();
    let freshness = Freshness { open, ..Freshness::new(fields, &directives, times, lifetime.span) };
    let is_usable = freshness.is_fresh(times.received) && !freshness.no_cache;
    let is_of_use = || is_usable || is_news(status) && may_be_of_use(&freshness, times.received);
    if Validators::of(fields).is_empty() && !is_of_use() {
        return Err(NotStored::NoValidator);
    }
    Ok(freshness)
}

/// The freshness lifetime of a response that was received then, and what gives it. `None`: it states
/// none, and none is assigned.
pub fn lifetime(
    status: StatusCode,
    fields: &HeaderMap,
    received: SystemTime,
    rules: &Rules,
) -> Option<Lifetime> {
    lifetime_by(status, fields, &response_directives(fields, &rules.targets), received, rules)
}

fn lifetime_by(
    status: StatusCode,
    fields: &HeaderMap,
    directives: &ResponseDirectives,
    received: SystemTime,
    rules: &Rules,
) -> Option<Lifetime> {
    // §3 allows a heuristically cacheable response without any lifetime to be stored. It is worth
    // it where the origin asks for validation each time, and a guess in disguise elsewhere.
    let each_time = || {
        let applies = directives.no_cache && is_heuristically_cacheable(status, directives);
        applies.then_some(Lifetime { span: Duration::ZERO, rule: LifetimeRule::EachTime })
    };
    let assigned = |ttl| assigned_lifetime(status, fields, directives, received, ttl);
    explicit_lifetime(fields, directives, received)
        .or_else(|| assigned(rules.ttl))
        .or_else(each_time)
        .or_else(|| assigned(rules.assumed_ttl))
}

/// The prohibitions of §3.
fn allowed(
    asked: &Asked<'_>,
    status: StatusCode,
    fields: &HeaderMap,
    directives: &ResponseDirectives,
    rules: &Rules,
) -> Result<(), NotStored> {
    // One after the other: most are look-ups, and the first that applies decides.
    let is = |applies: bool, why| if applies { Err(why) } else { Ok(()) };
    is(!is_stored_for(asked.method, rules), NotStored::Method)?;
    is(asked.directives.no_store, NotStored::RequestNoStore)?;
    is(!matches!(status.as_u16(), 200..=303 | 305..=599), NotStored::Status)?;
    // §3: 206 requires a cache that understands it. One that was asked for is asked about as
    // the 200 that it is a part of.
    is(status == StatusCode::PARTIAL_CONTENT, NotStored::Partial)?;
    // §5.2.2.3: whoever understands the status SHOULD ignore the `no-store` beside it.
    is(directives.no_store && !directives.excuses_no_store, NotStored::NoStore)?;
    is(directives.private && !rules.grants.private, NotStored::Private)?;
    // Stored and replayed, a cookie lets one user into another's session. §7.3 leaves this to
    // the origin; too many forget it. Where it is granted, the cookie is not stored with it.
    is(fields.contains_key(SET_COOKIE) && !rules.grants.set_cookie, NotStored::SetCookie)?;
    is(has_credentials(asked) && !may_be_shared(directives, rules), NotStored::Authorization)?;
    is(
        asked.fields.contains_key(CLIENT_CERT) && !may_be_certified(fields, directives, rules),
        NotStored::ClientCert,
    )?;
    let vary = Vary::of(fields);
    is(vary == Vary::Any, NotStored::VaryAny)?;
    is(vary.nominates_client(), NotStored::VaryClient)?;
    is(directives.must_understand && !is_understood(status), NotStored::NotUnderstood)?;
    is(is_event_stream(fields), NotStored::EventStream)
}

/// RFC 9110 §9.3.3 lets a response to `POST` answer a later `GET` alone; to answer the same `POST`
/// again is granted by the operator.
fn is_stored_for(method: &Method, rules: &Rules) -> bool {
    match *method {
        Method::GET | Method::QUERY => true,
        Method::POST => rules.grants.post,
        _ => false,
    }
}

/// §3.5, of a response to a request with credentials.
fn may_be_shared(directives: &ResponseDirectives, rules: &Rules) -> bool {
    match rules.authorized {
        Authorized::Public => directives.authorized || rules.grants.authorization,
        Authorized::Never => false,
    }
}

/// RFC 9440 §2.4 of a response to a request with `Client-Cert`. An origin that does not know of caches
/// says neither: so one has to be said.
fn may_be_certified(fields: &HeaderMap, directives: &ResponseDirectives, rules: &Rules) -> bool {
    let is_told_apart =
        || matches!(Vary::of(fields), Vary::Fields(names) if names.contains(&CLIENT_CERT));
    rules.certificate_in_key || directives.authorized || is_told_apart()
}

/// Server-sent events: each client has its own, and goes on where it was (`Last-Event-ID`). HTML has them
/// asked for past every cache ("cache mode is `no-store`", §9.2.2), and a route's `ttl` must not undo that.
fn is_event_stream(fields: &HeaderMap) -> bool {
    const EVENTS: &str = "text/event-stream";

    let media_type = fields.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type.is_some_and(|it| {
        it.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(EVENTS)
    })
}

/// Whether this cache knows what the status asks of it (§5.2.2.3): the final ones of RFC 9110 §15.
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505)
}

/// Makes of a response's fields those that are stored with it (§3.1), and sent again later.
///
/// Removed are what was for this connection, what is for one user or may not be reused without
/// validation (`private="…"`, `no-cache="…"`), what is known better when it is sent: `Age` and
/// `Content-Length`, and `Trailer`, as trailers are not stored (RFC 9110 §6.5.1 lets them be
/// discarded). A `Date` that is missing or cannot be read becomes `received`.
pub fn fields_to_store(fields: &mut HeaderMap, rules: &Rules, received: SystemTime) {
    let directives = response_directives(fields, &rules.targets);
    remove_hop_by_hop(fields);
    for name in directives.private_fields.iter().chain(&directives.no_cache_fields) {
        fields.remove(name);
    }
    for name in [AGE, CONTENT_LENGTH, SET_COOKIE, TRAILER] {
        fields.remove(name);
    }
    if date::only(fields, DATE).is_none() {
        fields.insert(DATE, date::format(received));
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::super::tests::fields;
    use super::NotStored::{
        Authorization, ClientCert, EventStream, NoFreshness, NoStore, NoValidator, NotUnderstood,
        Partial, Private, RequestNoStore, SetCookie, Status, VaryAny,
    };
    use super::*;

    const OLD: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 10:00:00 GMT");

    /// Of 6 November 1994, in GMT.
    fn noon() -> SystemTime {
        let seconds = 784_123_200;
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn decide(
        method: &Method,
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
        ttl: Option<u64>,
    ) -> Result<Freshness, NotStored> {
        let received = noon();
        let request = fields(request);
        let directives = RequestDirectives::of(&request);
        storable(
            &Asked { method, fields: &request, directives: &directives, has_credentials: false },
            StatusCode::from_u16(status).unwrap(),
            &fields(response),
            &Times { requested: received, received },
            &Rules { ttl: ttl.map(Duration::from_secs), ..Rules::default() },
        )
    }

    #[test]
    fn only_get_and_query_are_stored() {
        for method in [Method::HEAD, Method::POST, Method::OPTIONS, Method::PUT, Method::DELETE] {
            let found = decide(&method, &[], 200, &[("cache-control", "max-age=60")], None);
            assert_eq!(found, Err(NotStored::Method), "{method}");
        }
        // RFC 10008 §2.7: "The response to a QUERY method is cacheable".
        for method in [Method::GET, Method::QUERY] {
            let found = decide(&method, &[], 200, &[("cache-control", "max-age=60")], None);
            assert!(found.is_ok(), "{method}");
        }
    }

    fn get<'a>(fields: &'a HeaderMap, directives: &'a RequestDirectives) -> Asked<'a> {
        Asked { method: &Method::GET, fields, directives, has_credentials: false }
    }

    #[test]
    fn grants() {
        let nothing = Grants::default();
        let authorization = Grants { authorization: true, ..nothing };
        let private = Grants { private: true, ..nothing };
        let set_cookie = Grants { set_cookie: true, ..nothing };
        let all = Grants { authorization: true, private: true, set_cookie: true, post: true };
        for (user, control, cookie, grants, expected, why) in [
            (true, "max-age=9", false, nothing, Some(Authorization), "§3.5"),
            (true, "max-age=9", false, authorization, None, "granted"),
            (true, "max-age=9", false, private, Some(Authorization), "another grant"),
            (true, "max-age=9, private", false, authorization, Some(Private), "one is not enough"),
            (true, "max-age=9, private", false, all, None, "both"),
            (false, "max-age=9, private", false, private, None, "granted"),
            (false, "max-age=9, private", false, nothing, Some(Private), "§5.2.2.7"),
            (false, "max-age=9, private", true, private, Some(SetCookie), "another grant"),
            (false, "max-age=9", true, set_cookie, None, "granted"),
            (false, "max-age=9", true, nothing, Some(SetCookie), "§7.3"),
            (true, "max-age=9, no-store", true, all, Some(NoStore), "§5.2.2.5: never"),
            (true, "no-store, public", false, all, Some(NoStore), "never"),
            (true, "private", false, all, Some(NoFreshness), "a lifetime is not granted"),
        ] {
            let authorization = fields(&[("authorization", "x")]);
            let mut response = vec![("cache-control", control)];
            response.extend(cookie.then_some(("set-cookie", "a=1")));
            let times = Times { requested: noon(), received: noon() };
            // Whatever is granted, what the key does not hold is not shared.
            let never = expected.or(user.then_some(Authorization));
            for (authorized, expected, elsewhere) in [
                (Authorized::Public, expected, false),
                (Authorized::Public, expected, true),
                (Authorized::Never, never, false),
                (Authorized::Never, never, true),
            ] {
                let request =
                    if user && !elsewhere { authorization.clone() } else { HeaderMap::new() };
                let asked = Asked {
                    method: &Method::GET,
                    fields: &request,
                    directives: &RequestDirectives::default(),
                    has_credentials: user && elsewhere,
                };
                let rules = Rules { authorized, grants, ..Rules::default() };
                let found = storable(&asked, StatusCode::OK, &fields(&response), &times, &rules);
                let is_expected = found.as_ref().err() == expected.as_ref();
                // Of two reasons either will do.
                assert!(is_expected || expected.is_some() && found.is_err(), "{control}: {why}");
            }
        }
    }

    #[test]
    fn a_stream_of_events_has_no_end() {
        for (media_type, expected) in [
            ("text/event-stream", Some(EventStream)),
            ("Text/Event-Stream ; charset=utf-8", Some(EventStream)),
            ("text/event-streams", None),
            ("text/plain", None),
        ] {
            let response = [("cache-control", "max-age=60"), ("content-type", media_type)];
            let found = decide(&Method::GET, &[], 200, &response, None);
            assert_eq!(found.err(), expected, "{media_type}");
        }
    }

    #[test]
    fn fields_that_forbid_storing() {
        let bearer = ("authorization", "Bearer x");
        for (request, response, expected, why) in [
            (vec![], vec![("cache-control", "max-age=60")], None, "a stated lifetime"),
            (vec![("cache-control", "no-store")], vec![], Some(RequestNoStore), "§5.2.1.5"),
            (vec![], vec![("cache-control", "No-Store, max-age=60")], Some(NoStore), "any case"),
            (vec![], vec![("cache-control", "Private, Max-Age=60")], Some(Private), "any case"),
            (
                vec![],
                vec![("cache-control", "max-age=60"), ("cache-control", "private")],
                Some(Private),
                "every line counts",
            ),
            (
                vec![],
                vec![("cache-control", "private=\"x-user\", max-age=60")],
                None,
                "§5.2.2.7: the rest may be stored",
            ),
            (
                vec![],
                vec![("cache-control", "public, max-age=60"), ("set-cookie", "a=b")],
                Some(SetCookie),
                "even with `public`",
            ),
            (vec![bearer], vec![("cache-control", "max-age=60")], Some(Authorization), "§3.5"),
            (vec![bearer], vec![("cache-control", "public, max-age=60")], None, "§3.5"),
            (vec![bearer], vec![("cache-control", "s-maxage=60")], None, "§3.5"),
            (vec![bearer], vec![("cache-control", "must-revalidate, max-age=60")], None, "§3.5"),
            (
                vec![],
                vec![("cache-control", "max-age=60, no-store, must-understand")],
                None,
                "§5.2.2.3: SHOULD ignore the no-store directive",
            ),
            (
                vec![],
                vec![("cache-control", "max-age=60, no-store, must-understand=1")],
                Some(NoStore),
                "a damaged must-understand excuses nothing",
            ),
            (
                vec![],
                vec![("cache-control", "max-age=60, private, must-understand")],
                Some(Private),
                "nor does any of it excuse private",
            ),
            (
                vec![],
                vec![("cache-control", "max-age=60"), ("vary", "accept, *")],
                Some(VaryAny),
                "§4.1: always fails to match",
            ),
            (vec![("cookie", "a=b")], vec![("cache-control", "max-age=60")], None, "no rule"),
        ] {
            let found = decide(&Method::GET, &request, 200, &response, None);
            assert_eq!(found.err(), expected, "{request:?} {response:?}: {why}");
        }
    }

    #[test]
    fn clients_known_by_a_certificate() {
        let certified = ("client-cert", ":b3du:");
        for (response, in_key, expected, why) in [
            (vec![("cache-control", "max-age=9")], false, Some(ClientCert), "nothing is said"),
            (vec![("cache-control", "max-age=9")], true, None, "the key holds it"),
            (vec![("cache-control", "max-age=9"), ("vary", "client-cert")], false, None, "varies"),
            (
                vec![("cache-control", "max-age=9"), ("vary", "accept")],
                false,
                Some(ClientCert),
                "by something else",
            ),
            (vec![("cache-control", "public, max-age=9")], false, None, "for everybody"),
            (vec![("cache-control", "s-maxage=9")], false, None, "for everybody"),
            (vec![("cache-control", "private, max-age=9")], true, Some(Private), "for one"),
        ] {
            let rules = Rules { certificate_in_key: in_key, ..Rules::default() };
            let request = fields(&[certified]);
            let directives = RequestDirectives::of(&request);
            let asked = get(&request, &directives);
            let times = Times { requested: noon(), received: noon() };
            let found = storable(&asked, StatusCode::OK, &fields(&response), &times, &rules);
            assert_eq!(found.err(), expected, "{why}");
            let is_news = supersedes(&asked, StatusCode::OK, Private);
            assert!(!is_news && !is_spoilt(&asked, Private), "this client's own");
        }
    }

    #[test]
    fn what_is_news_of_the_target() {
        for (request, status, why, expected, what) in [
            (vec![], 200, Private, true, "a full response (§4.3.3)"),
            (vec![], 301, NoFreshness, true, "it has moved"),
            (vec![], 404, NoFreshness, true, "it is gone"),
            (vec![], 200, RequestNoStore, false, "what the request asked"),
            (vec![], 403, NoFreshness, false, "this client may not"),
            (vec![], 429, NoFreshness, false, "this client may not now"),
            (vec![], 503, NoStore, false, "the origin is in trouble"),
            (vec![("authorization", "Bearer x")], 200, Private, false, "this client's own"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let (request, directives) = (fields(&request), RequestDirectives::default());
            let asked = get(&request, &directives);
            assert_eq!(supersedes(&asked, status, why), expected, "{status}: {what}");
            let asked = Asked { has_credentials: true, ..asked };
            assert!(!supersedes(&asked, status, why), "this client's own");
        }
    }

    #[test]
    fn what_a_304_may_spoil() {
        for (request, why, expected, what) in [
            (vec![], Private, true, "for one client, from now on"),
            (vec![], NoStore, true, "not to be kept any more"),
            (vec![], VaryAny, true, "it will not match again"),
            (vec![], NotStored::Policy, true, "the route's word"),
            (vec![], NotStored::PolicyFailed, true, "what the word would be is not known"),
            (vec![], SetCookie, false, "a cookie for this client"),
            (vec![], NoFreshness, false, "stale, and good for validation"),
            (vec![], RequestNoStore, false, "what the request asked"),
            (vec![("authorization", "Bearer x")], Private, false, "this client's own"),
        ] {
            let (request, directives) = (fields(&request), RequestDirectives::default());
            let asked = get(&request, &directives);
            assert_eq!(is_spoilt(&asked, why), expected, "{why:?}: {what}");
            let asked = Asked { has_credentials: true, ..asked };
            assert!(!is_spoilt(&asked, why), "this client's own");
        }
    }

    #[test]
    fn statuses() {
        for (status, response, expected, why) in [
            (101, vec![("cache-control", "max-age=60")], Some(Status), "§3: final"),
            (304, vec![("cache-control", "max-age=60")], Some(Status), "freshens only"),
            (600, vec![("cache-control", "max-age=60")], Some(Status), "no such class"),
            (206, vec![("cache-control", "max-age=60")], Some(Partial), "§3.3"),
            (299, vec![("cache-control", "max-age=60")], None, "§3: any final status"),
            (
                299,
                vec![("cache-control", "max-age=60, must-understand")],
                Some(NotUnderstood),
                "§5.2.2.3",
            ),
            (
                299,
                vec![("cache-control", "max-age=60, must-understand, no-store")],
                Some(NotUnderstood),
                "§5.2.2.3: unless it understands the status",
            ),
            (404, vec![("cache-control", "max-age=60, must-understand")], None, "§5.2.2.3"),
            (404, vec![("cache-control", "max-age=60")], None, "the origin says so"),
            (500, vec![("cache-control", "max-age=60")], None, "the origin says so"),
            (400, vec![("cache-control", "max-age=60")], None, "the origin says so"),
        ] {
            let found = decide(&Method::GET, &[], status, &response, None);
            assert_eq!(found.err(), expected, "{status} {response:?}: {why}");
        }
    }

    #[test]
    fn lifetimes() {
        let etag = ("etag", "\"1\"");
        for (status, response, ttl, expected, why) in [
            (200, vec![("cache-control", "Max-Age=60")], None, Ok(60), "any case"),
            (200, vec![("cache-control", "max-age=60")], Some(9), Ok(60), "its own lifetime wins"),
            (200, vec![], Some(9), Ok(9), "the route's lifetime"),
            (200, vec![OLD], Some(9), Ok(9), "the route's lifetime before a guess"),
            (200, vec![OLD], None, Ok(720), "a tenth of two hours"),
            (200, vec![], None, Err(NoFreshness), "no lifetime at all"),
            (200, vec![etag], None, Err(NoFreshness), "a validator is no lifetime"),
            (404, vec![], Some(9), Err(NoFreshness), "not for errors"),
            (404, vec![OLD], None, Ok(60), "a guess, and a minute for errors"),
            (404, vec![("cache-control", "no-cache"), etag], None, Ok(0), "validated each time"),
            (500, vec![], Some(9), Err(NoFreshness), "not for errors"),
            (200, vec![("cache-control", "max-age=0")], None, Err(NoValidator), "stale at once"),
            (200, vec![("cache-control", "max-age=0"), etag], None, Ok(0), "can be validated"),
            (200, vec![("expires", "0"), OLD], Some(9), Ok(0), "stated, though badly"),
            (
                200,
                vec![("age", "60"), ("cache-control", "max-age=60")],
                None,
                Err(NoValidator),
                "stale",
            ),
            (200, vec![("cache-control", "no-cache"), etag], None, Ok(0), "validated each time"),
            (200, vec![("cache-control", "no-cache")], Some(9), Err(NoValidator), "no validator"),
            (302, vec![("cache-control", "no-cache"), etag], None, Err(NoFreshness), "§3"),
            (
                200,
                vec![("date", "Sun, 06 Nov 1994 11:40:00 GMT"), ("cache-control", "max-age=600")],
                None,
                Err(NoValidator),
                "generated 20 minutes ago: the apparent age counts",
            ),
        ] {
            let found = decide(&Method::GET, &[], status, &response, ttl);
            let found = found.map(|freshness| freshness.lifetime.as_secs());
            assert_eq!(found, expected, "{status} {response:?}: {why}");
        }
    }

    #[test]
    fn what_is_of_use_though_it_is_stale_when_it_comes() {
        const NO: Result<(), NotStored> = Err(NoValidator);
        for (status, age, cache_control, expected, why) in [
            (200, "0", "max-age=0, stale-while-revalidate=60", Ok(()), "served meanwhile"),
            (410, "0", "max-age=0, stale-while-revalidate=60", Ok(()), "it is gone"),
            (400, "0", "max-age=0, stale-while-revalidate=60", NO, "one client's mistake"),
            (503, "0", "max-age=0, stale-while-revalidate=60", NO, "trouble"),
            (200, "65", "max-age=60, stale-if-error=10", Ok(()), "it may stand in"),
            (200, "70", "max-age=60, stale-if-error=10", NO, "no longer"),
            (200, "0", "max-age=0, must-revalidate, stale-if-error=10", NO, "MUST NOT"),
            (200, "0", "no-cache, stale-if-error=10", NO, "MUST NOT"),
        ] {
            let response = [("age", age), ("cache-control", cache_control)];
            let found = decide(&Method::GET, &[], status, &response, None).map(|_| ());
            assert_eq!(found, expected, "{response:?}: {why}");
        }
    }

    #[test]
    fn a_lifetime_is_assumed_where_nothing_else_gives_one() {
        for (status, response, ttl, expected, why) in [
            (200, vec![], None, Some(7), "nothing else does"),
            (200, vec![], Some(9), Some(9), "the route does"),
            (200, vec![OLD], None, Some(720), "a guess does"),
            (200, vec![("cache-control", "max-age=60")], None, Some(60), "it is stated"),
            (404, vec![], None, None, "not for errors, as a route's"),
        ] {
            let span = |seconds: Option<u64>| seconds.map(Duration::from_secs);
            let rules = Rules { ttl: span(ttl), assumed_ttl: span(Some(7)), ..Rules::default() };
            let status = StatusCode::from_u16(status).unwrap();
            let found = lifetime(status, &fields(&response), noon(), &rules);
            assert_eq!(found.map(|it| it.span), span(expected), "{why}");
        }
    }

    #[test]
    fn rules_of_reuse() {
        for (line, no_cache, must_revalidate) in [
            ("max-age=60", false, false),
            ("no-cache, max-age=60", true, true),
            ("no-cache=\"x-a\", max-age=60", false, false),
            ("must-revalidate, max-age=60", false, true),
            ("proxy-revalidate, max-age=60", false, true),
            ("s-maxage=60", false, true),
        ] {
            let response = [("cache-control", line), ("etag", "\"1\"")];
            let found = decide(&Method::GET, &[], 200, &response, None).unwrap();
            assert_eq!(
                (found.no_cache, found.must_revalidate),
                (no_cache, must_revalidate),
                "{line}"
            );
        }
    }

    #[test]
    fn what_is_stored() {
        let mut found = fields(&[
            ("cache-control", "max-age=60, private=\"x-user\", no-cache=\"x-once, x-twice\""),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("proxy-authenticate", "Basic"),
            ("age", "7"),
            ("content-length", "3"),
            ("cache-status", "inner; hit"),
            ("x-user", "me"),
            ("x-once", "1"),
            ("x-twice", "2"),
            ("link", "</a>"),
            ("link", "</b>"),
            ("content-type", "text/plain"),
        ]);
        fields_to_store(&mut found, &Rules::default(), noon());
        let expected = fields(&[
            ("cache-control", "max-age=60, private=\"x-user\", no-cache=\"x-once, x-twice\""),
            ("link", "</a>"),
            ("link", "</b>"),
            ("cache-status", "inner; hit"),
            ("content-type", "text/plain"),
            ("date", "Sun, 06 Nov 1994 12:00:00 GMT"),
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_date_stays_as_the_origin_wrote_it() {
        for (date, expected) in [
            ("Sun, 06 Nov 1994 11:00:00 GMT", "Sun, 06 Nov 1994 11:00:00 GMT"),
            ("yesterday", "Sun, 06 Nov 1994 12:00:00 GMT"),
        ] {
            let mut found = fields(&[("date", date)]);
            fields_to_store(&mut found, &Rules::default(), noon());
            assert_eq!(found, fields(&[("date", expected)]));
        }
    }

    proptest! {
        #[test]
        fn private_and_no_store_are_never_stored(
            before in r#"([a-z-]{0,12}(=([a-z0-9]{0,9}|"[a-z, ]{0,9}"))?[,; ]){0,4}"#,
            restriction in "([Pp][Rr]ivate|[Nn]o-[Ss]tore)",
            after in r"([,; ][ -~]{0,20})?",
            permissions in "(public|max-age=60|s-maxage=60|immutable)",
            status in prop::sample::select(vec![200_u16, 204, 301, 302, 404, 410, 500]),
        ) {
            let line = format!("{before}{restriction}{after}");
            let response =
                [("cache-control", permissions.as_str()), ("cache-control", line.as_str()), OLD];
            prop_assert!(decide(&Method::GET, &[], status, &response, Some(60)).is_err());
        }
    }
}
