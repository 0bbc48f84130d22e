//! What a proxy does to every message it passes on: fields of one connection, `Via`, `CDN-Loop`,
//! `Forwarded`, and the two questions on which request smuggling turns, framing and authority (RFC
//! 9110 §7, RFC 9112 §3 and §6, RFC 7239, RFC 8586).
//!
//! Besides, what a problem looks like. Which status a refusal becomes is decided elsewhere.

// `fuzz` compiles this file by its path, from where those of the modules would be others.
#[path = "message/behalf.rs"]
mod behalf;
#[path = "message/cookies.rs"]
mod cookies;
#[path = "message/extended.rs"]
mod extended;
#[path = "message/hops.rs"]
mod hops;

use std::net::Ipv6Addr;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION,
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, COOKIE, DATE,
    ETAG, EXPIRES, HOST, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, LOCATION, PRAGMA, RANGE, REFERER,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, USER_AGENT, VARY, VIA,
};
use http::request::Parts;
use http::{StatusCode, Uri, Version};

pub use self::behalf::{
    Behalf, CLIENT_CERT, has_underscore, is_claim, is_client_cert, is_spelt, remove_claims,
    remove_underscored, set_client_cert, set_forwarded, write_address,
};
pub use self::cookies::{cookie, cookies, has_open_quote, is_doubtful_cookie, join_cookies};
pub use self::extended::Extended;
pub use self::hops::{count_forward, forwards_left};

/// Removes what is for one connection only (RFC 9110 §7.6.1): `Connection` and every field that it
/// lists, and those that are always so. `Proxy-…` fields are for us or for nobody behind us
/// (§11.7).
///
/// Of the listed fields those stay that decide about caching, framing, selection or identity. No
/// honest sender lists them ("`Cache-Control` is never appropriate as a connection option"), and a
/// dishonest one would hide a `private` or a cookie from those behind us, or a loop.
pub fn remove_hop_by_hop(fields: &mut HeaderMap) {
    // `Connection` is one of them itself.
    if !fields.keys().any(|name| HOP_BY_HOP.contains(&name.as_str())) {
        return;
    }
    if fields.contains_key(CONNECTION) {
        let listed: Vec<_> = listed_by_connection(fields).collect();
        for name in listed {
            fields.remove(name);
        }
    }
    remove_all(fields, |name| HOP_BY_HOP.contains(&name));
}

/// Removes the fields that are meant. Few of many that could be are there, and to compare the names of a
/// few fields is quicker than as many look-ups.
fn remove_all(fields: &mut HeaderMap, is_meant: impl Fn(&str) -> bool) {
    let meant: Vec<_> = fields.keys().filter(|name| is_meant(name.as_str())).cloned().collect();
    for name in meant {
        fields.remove(name);
    }
}

/// Whether a field of this name goes forward as it came, whatever it says, if it has one line. Else what it
/// says is to be looked at, or who may say it.
pub fn goes_on_as_it_is(name: &HeaderName) -> bool {
    let is_usual = matches!(
        *name,
        HOST | USER_AGENT
            | ACCEPT
            | ACCEPT_ENCODING
            | ACCEPT_LANGUAGE
            | AUTHORIZATION
            | CONTENT_LENGTH
            | CONTENT_TYPE
            | COOKIE
            | REFERER
    );
    let name = name.as_str();
    is_usual
        || !(HOP_BY_HOP.contains(&name)
            || matches!(name, "expect" | "max-forwards")
            || is_claim(name))
}

/// Whether `Connection` lists a field of the message beyond those that are always hop-by-hop. It
/// will not reach the next server, so a key or a `Vary` must not be answered from it.
pub fn has_own_hop_by_hop(fields: &HeaderMap) -> bool {
    fields.contains_key(CONNECTION)
        && listed_by_connection(fields)
            .any(|name| fields.contains_key(&name) && !HOP_BY_HOP.contains(&name.as_str()))
}

/// What is for one connection only whether `Connection` lists it or not.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

fn listed_by_connection(fields: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    fields
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&octet| octet == b','))
        .filter_map(|member| HeaderName::from_bytes(member.trim_ascii()).ok())
        .filter(|name| !is_end_to_end(name))
}

fn is_end_to_end(name: &HeaderName) -> bool {
    const END_TO_END: [HeaderName; 30] = [
        ACCEPT,
        ACCEPT_ENCODING,
        ACCEPT_LANGUAGE,
        AGE,
        AUTHORIZATION,
        CACHE_CONTROL,
        // RFC 8586 §2: nobody on the way may "allow it to be removed".
        CDN_LOOP,
        // By then it is this gateway's word.
        CLIENT_CERT,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_LOCATION,
        CONTENT_RANGE,
        CONTENT_TYPE,
        COOKIE,
        DATE,
        ETAG,
        EXPIRES,
        HOST,
        IF_MATCH,
        IF_MODIFIED_SINCE,
        IF_NONE_MATCH,
        IF_RANGE,
        IF_UNMODIFIED_SINCE,
        LAST_MODIFIED,
        LOCATION,
        PRAGMA,
        RANGE,
        SET_COOKIE,
        VARY,
        VIA,
    ];
    END_TO_END.contains(name)
}

/// Whether the sender of these request fields takes trailers (RFC 9110 §10.1.4).
pub fn takes_trailers(fields: &HeaderMap) -> bool {
    let mut members =
        fields.get_all(TE).iter().flat_map(|line| line.as_bytes().split(|&octet| octet == b','));
    members.any(|member| member.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Whether a request is a call of gRPC, whose client says it when it no longer waits for the end.
pub fn is_grpc(fields: &HeaderMap) -> bool {
    let kind = fields.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let rest = kind.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Says that trailers are taken on the connection to the next server, too.
pub fn take_trailers(fields: &mut HeaderMap) {
    fields.insert(TE, HeaderValue::from_static("trailers"));
    fields.insert(CONNECTION, HeaderValue::from_static("te"));
}

/// Removes from trailers what must not come so late: what is about framing, routing, authentication,
/// caching, or the content's own form (RFC 9110 §6.5.1).
pub fn remove_early_fields(trailers: &mut HeaderMap) {
    remove_hop_by_hop(trailers);
    for name in [
        AGE,
        AUTHORIZATION,
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        DATE,
        EXPIRES,
        HOST,
        LOCATION,
        PRAGMA,
        SET_COOKIE,
        TRAILER,
        VARY,
    ] {
        trailers.remove(name);
    }
}

/// As [`remove_early_fields`], from those of a request: what its head may not say of its client, or only by
/// this gateway's word, is no more to be believed behind the content. No trailer is known by a name with `_`.
pub fn remove_early_request_fields(trailers: &mut HeaderMap) {
    remove_early_fields(trailers);
    remove_underscored(trailers);
    remove_claims(trailers);
    set_client_cert(trailers, None);
    trailers.remove(COOKIE);
    trailers.remove(CDN_LOOP);
}

/// Appends this gateway to `Via` (RFC 9110 §7.6.3), with the version in which it received the
/// message.
pub fn add_via(fields: &mut HeaderMap, received: Version) {
    let (name, value) = via(received);
    fields.append(name, value);
}

/// The line of `Via` for a message that was received so.
pub fn via(received: Version) -> (HeaderName, HeaderValue) {
    let member = match received {
        Version::HTTP_09 => "0.9 larder",
        Version::HTTP_10 => "1.0 larder",
        Version::HTTP_2 => "2 larder",
        Version::HTTP_3 => "3 larder",
        _ => "1.1 larder",
    };
    (VIA, HeaderValue::from_static(member))
}

/// The gateways that a request has come through (RFC 8586).
const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// Whether a field of this name tells which gateways a request has come through.
pub fn is_cdn_loop(name: &HeaderName) -> bool {
    name.as_str() == "cdn-loop"
}

/// Whether a request has come through the gateway of this name before: `CDN-Loop` lists it. A quoted
/// parameter that looks like a member is taken for one, rather than a member for a part of it.
pub fn has_come_through(fields: &HeaderMap, gateway: &[u8]) -> bool {
    let lines = fields.get_all(CDN_LOOP).iter();
    let mut members = lines.flat_map(|line| line.as_bytes().split(|octet| *octet == b','));
    members.any(|member| {
        let name = member.split(|octet| *octet == b';').next().unwrap_or_default();
        name.trim_ascii() == gateway
    })
}

/// The line of `CDN-Loop` for what goes through this gateway.
pub fn cdn_loop(gateway: &HeaderValue) -> (HeaderName, HeaderValue) {
    (CDN_LOOP, gateway.clone())
}

/// Whether a field of this name tells where content ends.
pub fn is_framing(name: &HeaderName) -> bool {
    matches!(*name, TRANSFER_ENCODING | CONTENT_LENGTH)
}

/// Whether a request has exactly one framing that nobody behind us could read differently
/// (RFC 9112 §6.3). The error is a reason for the log.
pub fn framing(version: Version, fields: &HeaderMap) -> Result<(), &'static str> {
    let mut codings = fields.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(()),
        (Some(_), Some(_)) => Err("both Transfer-Encoding and Content-Length"),
        (Some(_), None) if version != Version::HTTP_11 => {
            Err("Transfer-Encoding in a version of HTTP that has none")
        }
        (Some(coding), None) => {
            let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            let is_only = codings.next().is_none();
            (is_chunked && is_only).then_some(()).ok_or("Transfer-Encoding other than chunked")
        }
        (None, Some(_)) if lengths.next().is_some() => Err("more than one Content-Length"),
        (None, Some(length)) => {
            // `parse` alone would take `+3`.
            let digits =
                length.to_str().ok().filter(|text| text.bytes().all(|c| c.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse::<u64>().ok());
            length.map(drop).ok_or("Content-Length is not a length")
        }
    }
}

/// Whether a response has at most one framing that nobody before us could read differently (RFC 9112
/// §6.3). Whoever sends two, or one twice, may be answering another request in what follows. The error is
/// a reason for the log; else it is whether there is a transfer coding.
pub fn response_framing(fields: &HeaderMap) -> Result<bool, &'static str> {
    // One look at each name takes less than to look two of them up.
    let (mut codings, mut lengths, mut is_number) = (0, 0, true);
    for (name, value) in fields {
        match *name {
            TRANSFER_ENCODING => codings += 1,
            CONTENT_LENGTH => {
                lengths += 1;
                is_number &= value.as_bytes().iter().all(u8::is_ascii_digit);
            }
            _ => {}
        }
    }
    match (codings, lengths) {
        (1.., 1..) => Err("both Transfer-Encoding and Content-Length"),
        (2.., _) => Err("more than one Transfer-Encoding"),
        (_, 2..) => Err("more than one Content-Length"),
        _ if !is_number => Err("Content-Length is not a length"),
        _ => Ok(codings > 0),
    }
}

/// The content of a response that tells of a problem (RFC 9457), as `application/problem+json`.
pub fn problem(status: StatusCode, detail: &str) -> String {
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    });
    problem.to_string()
}

/// The authority that a request is for in its `normal` form, which is [`normal_authority`]'s for the scheme
/// of the listener, or known from before. The error is a reason for the log.
///
/// HTTP/1 has to say it in exactly one `Host` (RFC 9112 §3.2), and a target in absolute form has
/// to agree with it: the RFC lets the target win, but whoever is behind us may look at the other
/// one. HTTP/2 says it in `:authority`, in `Host`, or in both alike.
pub fn authority(
    request: &Parts,
    normal: impl Fn(&str) -> Result<String, &'static str>,
) -> Result<String, &'static str> {
    let mut hosts = request.headers.get_all(HOST).iter();
    let host = hosts.next().map(|host| normal(host.to_str().unwrap_or_default())).transpose()?;
    if hosts.next().is_some() {
        return Err("more than one Host");
    }
    let named = request.uri.authority().map(|named| normal(named.as_str())).transpose()?;
    match (host, named) {
        (Some(host), Some(named)) if host != named => Err("Host and target name different hosts"),
        (Some(host), _) => Ok(host),
        (None, Some(named)) if request.version >= Version::HTTP_2 => Ok(named),
        (None, _) => Err("no Host"),
    }
}

/// An authority in lower case and without the scheme's default port, or why it is none. Users,
/// percent-encoding and anything but letters, digits, `-`, `.` and `_` are refused in a host.
pub fn normal_authority(scheme: &str, authority: &str) -> Result<String, &'static str> {
    const NOT_A_HOST: &str = "not a host";

    let (mut host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(NOT_A_HOST)?;
        let address: Ipv6Addr = address.parse().map_err(|_| NOT_A_HOST)?;
        let port = port.strip_prefix(':').or(port.is_empty().then_some(""));
        (format!("[{address}]"), port.ok_or(NOT_A_HOST)?)
    } else {
        let end = authority.bytes().position(|octet| octet == b':').unwrap_or(authority.len());
        let (host, port) = authority.split_at(end);
        let is_host = host.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c));
        // RFC 1035 §2.3.4: no name is longer.
        if host.is_empty() || host.len() > 255 || !is_host {
            return Err(NOT_A_HOST);
        }
        let mut lower = String::with_capacity(authority.len());
        lower.push_str(host);
        lower.make_ascii_lowercase();
        (lower, port.strip_prefix(':').unwrap_or_default())
    };
    if port.is_empty() {
        return Ok(host);
    }
    // `parse` alone would take `+80`.
    let digits = Some(port).filter(|port| port.bytes().all(|c| c.is_ascii_digit()));
    let number = digits.and_then(|port| port.parse::<u16>().ok()).ok_or("not a port")?;
    if !matches!((scheme, number), ("http", 80) | ("https", 443)) {
        host.push(':');
        // As a number: `080` and `80` are one port.
        host.push_str(itoa::Buffer::new().format(number));
    }
    Ok(host)
}

/// The authority and the target (path and query) that a request for this URL has, or what the URL is
/// not. A fragment is no part of either.
///
/// Its scheme is not, too: behind something that ends TLS, requests for `https` URLs come as those for
/// `http`.
pub fn of_url(url: &str) -> Result<(String, String), &'static str> {
    const ABSOLUTE: &str = "is not an absolute URL with http or https";

    if !url.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Err("has characters that must be percent-encoded in a URL");
    }
    let uri: Uri = url.parse().map_err(|_| ABSOLUTE)?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
    let (Some(scheme), Some(authority)) = (scheme, uri.authority()) else {
        return Err(ABSOLUTE);
    };
    let authority = normal_authority(scheme, authority.as_str())
        .map_err(|_| "names no host that a request could be for")?;
    let target = match uri.query() {
        Some(query) => format!("{}?{query}", uri.path()),
        None => uri.path().to_owned(),
    };
    Ok((authority, target))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        fields
    }

    fn request(version: Version, target: &str, fields: HeaderMap) -> Parts {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.version = version;
        parts.uri = target.parse().unwrap();
        parts.headers = fields;
        parts
    }

    #[test]
    fn a_client_does_not_say_which_certificate_it_has() {
        let own = HeaderValue::from_static(":b3du:");
        for (certificate, expected) in [(None, None), (Some(&own), Some(":b3du:"))] {
            for sent in [
                vec![],
                vec![("client-cert", ":Zm9yZ2Vk:")],
                vec![("client-cert", ":YQ==:"), ("client-cert", ":Yg==:"), ("a", "b")],
                vec![("client-cert-chain", ":YQ==:, :Yg==:")],
                vec![("client_cert", ":YQ==:"), ("client-cert_chain", ":Yg==:")],
            ] {
                let mut fields = fields(&sent);
                set_client_cert(&mut fields, certificate);
                let left: Vec<_> = fields.get_all(CLIENT_CERT).iter().collect();
                let expected: Vec<_> = expected.into_iter().collect();
                assert_eq!(left, expected, "{sent:?}");
                let is_ours = |name: &HeaderName| *name == CLIENT_CERT || !is_client_cert(name);
                assert!(fields.keys().all(is_ours), "{sent:?}");
            }
        }
    }

    #[test]
    fn hop_by_hop() {
        for (sent, kept, why) in [
            (vec![("connection", "close"), ("x-a", "1")], vec![("x-a", "1")], "Connection itself"),
            (
                vec![("connection", "X-A,, x-b"), ("x-a", "1"), ("x-b", "2")],
                vec![],
                "what it lists",
            ),
            (
                vec![("connection", "x-a"), ("connection", "x-b"), ("x-a", "1"), ("x-b", "2")],
                vec![],
                "in all its lines",
            ),
            (
                vec![("connection", "x a, \"x-a\""), ("x-a", "1")],
                vec![("x-a", "1")],
                "members that are no names",
            ),
            (
                vec![
                    ("keep-alive", "timeout=5"),
                    ("proxy-connection", "close"),
                    ("te", "trailers"),
                    ("transfer-encoding", "chunked"),
                    ("upgrade", "h2c"),
                    ("http2-settings", "AAA"),
                    ("proxy-authorization", "Basic"),
                    ("proxy-authenticate", "Basic"),
                    ("proxy-authentication-info", "x"),
                ],
                vec![],
                "always for one connection",
            ),
            (
                vec![
                    ("connection", "cache-control, cdn-loop, client-cert, cookie, host, x-a"),
                    ("cache-control", "private"),
                    ("cdn-loop", "a"),
                    ("client-cert", ":YQ==:"),
                    ("cookie", "a=b"),
                    ("host", "a"),
                    ("x-a", "1"),
                ],
                vec![
                    ("cache-control", "private"),
                    ("cdn-loop", "a"),
                    ("client-cert", ":YQ==:"),
                    ("cookie", "a=b"),
                    ("host", "a"),
                ],
                "what no honest sender lists",
            ),
        ] {
            let mut found = fields(&sent);
            remove_hop_by_hop(&mut found);
            assert_eq!(found, fields(&kept), "{sent:?}: {why}");
        }
    }

    #[test]
    fn calls_of_grpc() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;a=b", true),
            ("application/grpc-web", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(&fields(&[("content-type", kind)])), expected, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn what_goes_on_as_it_is_stays() {
        let all =
            HOP_BY_HOP.into_iter().chain(["accept", "cookie", "expect", "sec-fetch-mode", "via"]);
        let all = all.chain(["forwarded", "client-ip", "x-a", "x-forwarded-for", "x-real-ip"]);
        for name in all.chain(["client_ip", "x_a", "x_real_ip", "front_end-https", "from_a"]) {
            let before = fields(&[("host", "a.test"), (name, "a"), ("x-b", "1")]);
            let mut after = before.clone();
            remove_hop_by_hop(&mut after);
            remove_claims(&mut after);
            let goes_on = before.keys().all(goes_on_as_it_is);
            assert_eq!(goes_on, after == before && name != "expect", "{name}");
        }
    }

    #[test]
    fn own_hop_by_hop_fields() {
        for (lines, expected, why) in [
            (vec![("x-a", "1")], false, "no Connection"),
            (vec![("connection", "keep-alive"), ("x-a", "1")], false, "an option without a field"),
            (vec![("connection", "close, te"), ("te", "trailers")], false, "always hop-by-hop"),
            (vec![("connection", "cookie"), ("cookie", "a=b")], false, "stays nevertheless"),
            (vec![("connection", "x-a"), ("x-a", "1")], true, "removed before forwarding"),
            (vec![("connection", "close, X-A"), ("x-a", "1")], true, "removed before forwarding"),
        ] {
            assert_eq!(has_own_hop_by_hop(&fields(&lines)), expected, "{lines:?}: {why}");
        }
    }

    #[test]
    fn via_is_appended() {
        let mut found = fields(&[("via", "1.0 inner")]);
        add_via(&mut found, Version::HTTP_2);
        add_via(&mut found, Version::HTTP_11);
        assert_eq!(
            found,
            fields(&[("via", "1.0 inner"), ("via", "2 larder"), ("via", "1.1 larder")])
        );
    }

    #[test]
    fn loops() {
        for (lines, expected, why) in [
            (vec![], false, "the first of all"),
            (vec!["other"], false, "another"),
            (vec!["shop-1"], true, "itself"),
            (vec!["a, shop-1 ; v=2 , b"], true, "with a parameter, in a list"),
            (vec!["a", "b,shop-1"], true, "in another line"),
            (vec!["shop-11, ashop-1, Shop-1"], false, "the name alone"),
            (vec!["a; v=shop-1"], false, "no member"),
            (vec!["a; v=\"x, shop-1"], true, "a quote hides nothing"),
            (vec![",,;;\"", "\u{e4}"], false, "nonsense"),
        ] {
            let lines: Vec<_> = lines.into_iter().map(|line| ("cdn-loop", line)).collect();
            let mut found = fields(&lines);
            assert_eq!(has_come_through(&found, b"shop-1"), expected, "{lines:?}: {why}");
            let (name, value) = cdn_loop(&HeaderValue::from_static("shop-1"));
            found.append(name, value);
            assert!(has_come_through(&found, b"shop-1"), "{lines:?}");
        }
    }

    #[test]
    fn forwarded_is_ours() {
        for (client, node, address) in [
            ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "\"[2001:db8::1]\"", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ] {
            let mut found = fields(&[
                ("forwarded", "for=evil"),
                ("x-forwarded-for", "evil"),
                ("x-forwarded-host", "evil"),
                ("x-forwarded-port", "1"),
                ("x-original-url", "/evil"),
                ("x-rewrite-url", "/evil"),
                ("x-real-ip", "evil"),
                ("x_forwarded_host", "evil"),
                ("x-real_ip", "evil"),
                ("true_client_ip", "evil"),
                ("x-a", "1"),
            ]);
            set_forwarded(&mut found, &[client.parse().unwrap()], "http", "a.test:8080");
            let expected = fields(&[
                ("x-a", "1"),
                ("forwarded", &format!("for={node};host=\"a.test:8080\";proto=http")),
                ("x-forwarded-for", address),
                ("x-forwarded-host", "a.test:8080"),
                ("x-forwarded-proto", "http"),
            ]);
            assert_eq!(found, expected, "{client}");
        }
        let mut found = HeaderMap::new();
        let chain = ["2001:db8::1", "10.0.0.2", "10.0.0.1"].map(|node| node.parse().unwrap());
        set_forwarded(&mut found, &chain, "https", "a.test");
        let forwarded =
            "for=\"[2001:db8::1]\";proto=https, for=10.0.0.2, for=10.0.0.1;host=\"a.test\"";
        let expected = fields(&[
            ("forwarded", forwarded),
            ("x-forwarded-for", "2001:db8::1, 10.0.0.2, 10.0.0.1"),
            ("x-forwarded-host", "a.test"),
            ("x-forwarded-proto", "https"),
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn framings() {
        use Version as V;

        for (version, lines, is_sound, why) in [
            (V::HTTP_11, vec![], true, "no content"),
            (V::HTTP_11, vec![("content-length", "3")], true, "a length"),
            (V::HTTP_10, vec![("content-length", "3")], true, "a length"),
            (V::HTTP_2, vec![("content-length", "3")], true, "a length"),
            (V::HTTP_11, vec![("transfer-encoding", "chunked")], true, "chunks"),
            (V::HTTP_11, vec![("transfer-encoding", "Chunked")], true, "codings have no case"),
            (
                V::HTTP_11,
                vec![("content-length", "3"), ("transfer-encoding", "chunked")],
                false,
                "CL.TE, TE.CL",
            ),
            (V::HTTP_11, vec![("content-length", "3"), ("content-length", "4")], false, "which?"),
            (V::HTTP_11, vec![("content-length", "3"), ("content-length", "3")], false, "twice"),
            (V::HTTP_11, vec![("content-length", "3, 3")], false, "twice"),
            (V::HTTP_11, vec![("content-length", "+3")], false, "digits only"),
            (V::HTTP_11, vec![("content-length", "-3")], false, "digits only"),
            (V::HTTP_11, vec![("content-length", "0x3")], false, "digits only"),
            (V::HTTP_11, vec![("content-length", "")], false, "digits only"),
            (V::HTTP_11, vec![("content-length", "18446744073709551616")], false, "overflow"),
            (V::HTTP_11, vec![("transfer-encoding", "gzip, chunked")], false, "one coding only"),
            (V::HTTP_11, vec![("transfer-encoding", "identity")], false, "not chunked"),
            (V::HTTP_11, vec![("transfer-encoding", "chunked, chunked")], false, "twice"),
            (V::HTTP_11, vec![("transfer-encoding", "xchunked")], false, "not chunked"),
            (
                V::HTTP_11,
                vec![("transfer-encoding", "chunked"), ("transfer-encoding", "x")],
                false,
                "two lines",
            ),
            (V::HTTP_10, vec![("transfer-encoding", "chunked")], false, "RFC 9112 §6.1: faulty"),
            (V::HTTP_2, vec![("transfer-encoding", "chunked")], false, "RFC 9113 §8.2.2"),
        ] {
            let found = framing(version, &fields(&lines));
            assert_eq!(found.is_ok(), is_sound, "{version:?} {lines:?}: {why}");
        }
    }

    #[test]
    fn framings_of_responses() {
        for (lines, is_sound) in [
            (vec![], true),
            (vec![("content-length", "3")], true),
            (vec![("transfer-encoding", "chunked")], true),
            // Whether it was asked for is another question.
            (vec![("transfer-encoding", "gzip, chunked")], true),
            (vec![("content-length", "3"), ("transfer-encoding", "chunked")], false),
            (vec![("content-length", "3"), ("content-length", "3")], false),
            (vec![("content-length", "3, 3")], false),
            (vec![("content-length", "+3")], false),
            (vec![("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false),
        ] {
            assert_eq!(response_framing(&fields(&lines)).is_ok(), is_sound, "{lines:?}");
        }
    }

    #[test]
    fn authorities() {
        use Version as V;

        for (version, target, hosts, expected, why) in [
            (V::HTTP_11, "/", vec!["A.test"], Some("a.test"), "lower case"),
            (V::HTTP_11, "/", vec!["a.test:80"], Some("a.test"), "the default port"),
            (V::HTTP_11, "/", vec!["a.test:"], Some("a.test"), "an empty port is the default"),
            (V::HTTP_11, "/", vec!["a.test:0081"], Some("a.test:81"), "RFC 3986 §6.2"),
            (V::HTTP_11, "/", vec!["a.test:443"], Some("a.test:443"), "another scheme's port"),
            (V::HTTP_11, "/", vec!["[::0:1]:81"], Some("[::1]:81"), "an IPv6 address"),
            (V::HTTP_11, "/", vec!["[::1]"], Some("[::1]"), "an IPv6 address"),
            (V::HTTP_11, "/", vec![], None, "a request that lacks Host"),
            (V::HTTP_10, "/", vec![], None, "nor do we guess for older ones"),
            (V::HTTP_11, "/", vec!["a.test", "a.test"], None, "more than one Host"),
            (V::HTTP_11, "/", vec![""], None, "an invalid Host: empty"),
            (V::HTTP_11, "/", vec!["a.test, b.test"], None, "an invalid Host: two in one"),
            (V::HTTP_11, "/", vec!["u@a.test"], None, "an invalid Host: a user"),
            (V::HTTP_11, "/", vec!["a.test/b"], None, "an invalid Host: a path"),
            (V::HTTP_11, "/", vec!["a%2etest"], None, "an invalid Host: encoded"),
            (V::HTTP_11, "/", vec!["caf\u{e9}.test"], None, "an invalid Host: not ASCII"),
            (V::HTTP_11, "/", vec!["a.test:x"], None, "an invalid port"),
            (V::HTTP_11, "/", vec!["a.test:+80"], None, "an invalid port"),
            (V::HTTP_11, "/", vec!["a.test:65536"], None, "an invalid port"),
            (V::HTTP_11, "/", vec!["a.test:1:2"], None, "an invalid port"),
            (V::HTTP_11, "/", vec!["[::1"], None, "an invalid address"),
            (V::HTTP_11, "/", vec!["[::1]81"], None, "an invalid port"),
            (V::HTTP_11, "http://a.test/", vec!["a.test:80"], Some("a.test"), "absolute form"),
            (V::HTTP_11, "http://a.test/", vec!["b.test"], None, "another Host"),
            (V::HTTP_11, "http://a.test/", vec![], None, "a request that lacks Host"),
            (V::HTTP_2, "http://a.test/", vec![], Some("a.test"), ":authority"),
            (V::HTTP_2, "http://a.test/", vec!["a.test"], Some("a.test"), "both alike"),
            (V::HTTP_2, "http://a.test/", vec!["b.test"], None, "RFC 9113 §8.3.1"),
            (V::HTTP_2, "/", vec!["a.test"], Some("a.test"), "Host alone"),
            (V::HTTP_2, "/", vec![], None, "neither"),
        ] {
            let lines: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            let found = authority(&request(version, target, fields(&lines)), of_http).ok();
            assert_eq!(found.as_deref(), expected, "{version:?} {target} {hosts:?}: {why}");
        }
        let long = "a".repeat(256);
        assert!(normal_authority("http", &long).is_err(), "bounded");
        assert_eq!(normal_authority("https", "a:443").as_deref(), Ok("a"), "by scheme");
    }

    fn of_http(authority: &str) -> Result<String, &'static str> {
        normal_authority("http", authority)
    }

    proptest! {
        #[test]
        fn a_normal_authority_is_normal(text in "[a-zA-Z0-9.:\\[\\]%@_-]{0,20}") {
            if let Ok(normal) = normal_authority("http", &text) {
                prop_assert_eq!(normal_authority("http", &normal), Ok(normal.clone()));
            }
        }

        #[test]
        fn never_panics(octets in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(line) = HeaderValue::from_bytes(&octets) {
                let mut fields = HeaderMap::new();
                for name in [CONNECTION, HOST, CONTENT_LENGTH, CDN_LOOP] {
                    fields.append(name, line.clone());
                }
                framing(Version::HTTP_11, &fields).ok();
                authority(&request(Version::HTTP_11, "/", fields.clone()), of_http).ok();
                has_own_hop_by_hop(&fields);
                has_come_through(&fields, b"a");
                remove_hop_by_hop(&mut fields);
                prop_assert!(!fields.contains_key(CONNECTION));
            }
        }
    }
}
