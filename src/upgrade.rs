//! Requests for another protocol on the same connection (RFC 9110 §7.8), and what WebSocket says of itself
//! in HTTP/1.1 and not in HTTP/2 (RFC 6455 §1.3, RFC 8441 §5).
//!
//! Which protocols may be spoken is said by a route, and what goes over a connection then is `tunnel`'s.
//!
//! Not supported: several protocols at once, one on top of the other; requests with content, or with
//! another method than `GET`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

/// What HTTP/2 asks for as well (RFC 8441 §4).
pub const WEBSOCKET: &str = "websocket";

/// A request of HTTP/2 asks for WebSocket (RFC 8441 §4): an extension of it.
#[derive(Clone, Copy)]
pub struct Connect;

/// The protocol that a request asks for, of those that may be spoken: the one that its client would
/// like best.
pub fn wanted<'a>(
    method: &Method,
    version: Version,
    fields: &HeaderMap,
    allowed: &'a [String],
) -> Option<&'a str> {
    // RFC 9110 §7.8: "A server MUST ignore an Upgrade header field that is received in an HTTP/1.0
    // request." In HTTP/2 there is none (RFC 9113 §8.6).
    if version != Version::HTTP_11 || *method != Method::GET {
        return None;
    }
    // "A sender of Upgrade MUST also send an "Upgrade" connection option".
    members(fields, &CONNECTION).find(|option| option.eq_ignore_ascii_case(b"upgrade"))?;
    members(fields, &UPGRADE).find_map(|member| {
        let named = |protocol: &&String| protocol.as_bytes().eq_ignore_ascii_case(member);
        allowed.iter().find(named).map(String::as_str)
    })
}

/// Whether a 101 begins the protocol that was asked for (RFC 9110 §7.8: "A server MUST NOT switch to a
/// protocol that was not indicated by the client"). The error is a reason for the log.
pub fn agreed(asked: Option<&str>, fields: &HeaderMap) -> Result<(), &'static str> {
    let asked = asked.ok_or("upstream switched protocols unasked")?;
    let mut named = members(fields, &UPGRADE);
    let is_asked = named.next().is_some_and(|it| it.eq_ignore_ascii_case(asked.as_bytes()));
    if is_asked && named.next().is_none() {
        return Ok(());
    }
    Err("upstream switched to another protocol than was asked for")
}

/// Says in a message of HTTP/1.1 which protocol is to be, or is, spoken next.
pub fn say(fields: &mut HeaderMap, protocol: &str) {
    // Of trailers there is nothing to say: none come.
    fields.remove(TE);
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Ok(protocol) = protocol.parse() {
        fields.insert(UPGRADE, protocol);
    }
}

/// What a server of WebSocket proves by that it has understood the request (RFC 6455 §4.1, §4.2.2).
pub struct Key(String);

impl Key {
    /// For a client that has sent none, as one of HTTP/2 has no need to.
    pub fn random() -> Self {
        let mut nonce = [0; 16];
        // Nothing is lost if it cannot: the key tells servers from caches, and is no secret.
        let _is_filled = SystemRandom::new().fill(&mut nonce);
        Self(STANDARD.encode(nonce))
    }

    /// Asks with it.
    pub fn ask(&self, fields: &mut HeaderMap) {
        if let Ok(key) = self.0.parse() {
            fields.insert(SEC_WEBSOCKET_KEY, key);
        }
    }

    /// Takes the proof out of a response. The error is a reason for the log.
    pub fn check(&self, fields: &mut HeaderMap) -> Result<(), &'static str> {
        let proof = fields.remove(SEC_WEBSOCKET_ACCEPT);
        let is_right = proof.is_some_and(|proof| proof.as_bytes() == self.proof().as_bytes());
        is_right.then_some(()).ok_or("upstream has not understood that WebSocket is asked for")
    }

    fn proof(&self) -> String {
        /// RFC 6455 §1.3.
        const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[self.0.as_bytes(), SUFFIX].concat());
        STANDARD.encode(hash)
    }
}

/// The members of a list, without white space around them.
fn members<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = fields.get_all(name).iter();
    let members = lines.flat_map(|line| line.as_bytes().split(|octet| *octet == b','));
    members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines.iter();
        lines.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn what_is_asked_for() {
        let allowed = ["websocket".to_owned(), "other/2".to_owned()];
        for (lines, expected, why) in [
            (
                &[("connection", "Upgrade"), ("upgrade", "WebSocket")][..],
                Some("websocket"),
                "names have no case",
            ),
            (
                &[("connection", "keep-alive, upgrade"), ("upgrade", "websocket")],
                Some("websocket"),
                "one option of several",
            ),
            (
                &[
                    ("connection", "keep-alive"),
                    ("connection", "upgrade"),
                    ("upgrade", "websocket"),
                ],
                Some("websocket"),
                "in two lines",
            ),
            (
                &[("connection", "upgrade"), ("upgrade", "h2c, other/2, websocket")],
                Some("other/2"),
                "the client's order",
            ),
            (
                &[("connection", "upgrade"), ("upgrade", "h2c"), ("upgrade", "websocket")],
                Some("websocket"),
                "the next that is allowed",
            ),
            (&[("connection", "upgrade"), ("upgrade", "other")], None, "another version"),
            (&[("connection", "upgrade"), ("upgrade", "websockets")], None, "another name"),
            (&[("connection", "upgrade"), ("upgrade", "h2c")], None, "not allowed"),
            (&[("connection", "close"), ("upgrade", "websocket")], None, "without the option"),
            (&[("upgrade", "websocket")], None, "without the option"),
            (&[("connection", "upgrade")], None, "nothing is named"),
            (&[], None, "nothing"),
        ] {
            let asked = |method, version| wanted(method, version, &fields(lines), &allowed);
            assert_eq!(asked(&Method::GET, Version::HTTP_11), expected, "{why}");
            for (method, version) in [
                (&Method::GET, Version::HTTP_10),
                (&Method::GET, Version::HTTP_2),
                (&Method::POST, Version::HTTP_11),
                (&Method::HEAD, Version::HTTP_11),
            ] {
                assert_eq!(asked(method, version), None, "{method} {version:?}: {why}");
            }
            assert_eq!(wanted(&Method::GET, Version::HTTP_11, &fields(lines), &[]), None, "{why}");
        }
    }

    #[test]
    fn what_is_agreed_on() {
        let unasked = "upstream switched protocols unasked";
        let other = "upstream switched to another protocol than was asked for";
        for (asked, named, expected) in [
            (Some("websocket"), &[("upgrade", "WebSocket")][..], Ok(())),
            (Some("websocket"), &[("upgrade", "h2c")], Err(other)),
            (Some("websocket"), &[("upgrade", "websocket, h2c")], Err(other)),
            (Some("websocket"), &[("upgrade", "websocket"), ("upgrade", "h2c")], Err(other)),
            (Some("websocket"), &[], Err(other)),
            (None, &[("upgrade", "websocket")], Err(unasked)),
            (None, &[], Err(unasked)),
        ] {
            assert_eq!(agreed(asked, &fields(named)), expected, "{asked:?}: {named:?}");
        }
    }

    #[test]
    fn a_server_proves_that_it_has_understood() {
        // The example of RFC 6455 §1.3.
        let key = Key("dGhlIHNhbXBsZSBub25jZQ==".to_owned());
        let mut right = fields(&[("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]);
        assert_eq!(key.check(&mut right), Ok(()));
        assert!(right.is_empty(), "it is not for the client");
        for wrong in [&[("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOO=")][..], &[]] {
            assert!(key.check(&mut fields(wrong)).is_err());
        }
        assert_eq!(Key::random().0.len(), 24);
        assert_ne!(Key::random().0, Key::random().0);
    }
}
