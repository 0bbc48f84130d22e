//! On whose behalf a request came, as proxies before this gateway tell it: by `Forwarded` (RFC 7239), or by
//! the older `X-Forwarded-For` and `-Proto`. What the server behind is told of it is `message`'s.
//!
//! A client may send these fields, too. So they are believed of the proxies that the configuration lists,
//! and from the last to the first: each address was added by the one behind it, and counts as long as that
//! is listed. What stands before the first that is not listed anybody may have written.
//!
//! The host is never believed, as a key holds the `Host` that the request was found a route by, and another
//! one that reached the server could choose what is stored for all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{FORWARDED, HeaderMap, HeaderName};

use crate::config::{Network, TrustedField};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// No chain of proxies is longer. What stands before is not looked at.
const LONGEST: usize = 32;

/// Whose word is taken, and in which field.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    proxies: Box<[Network]>,
    field: TrustedField,
}

/// Who sent a request, and through whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behalf {
    /// The client, and behind it the proxies that its request came through; the last is the peer.
    pub chain: Vec<IpAddr>,
    /// How the request came to the first proxy, if that is told.
    pub scheme: Option<&'static str>,
}

/// What a proxy says of one request that it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hop {
    /// None: the proxy does not know, or does not tell.
    client: Option<IpAddr>,
    scheme: Option<&'static str>,
}

impl Trust {
    /// Takes the word of these proxies.
    pub fn new(proxies: &[Network], field: TrustedField) -> Self {
        Self { proxies: proxies.into(), field }
    }

    /// Whether this is a proxy whose word is taken.
    pub fn covers(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.proxies.iter().any(|network| network.contains(peer))
    }

    /// On whose behalf a request with these fields came from a proxy whose word is taken.
    pub fn behalf(&self, fields: &HeaderMap, proxy: IpAddr) -> Behalf {
        let hops = match self.field {
            TrustedField::XForwardedFor => by_the_older_fields(fields),
            TrustedField::Forwarded => by_forwarded(fields),
        };
        let mut behalf = Behalf { chain: vec![proxy.to_canonical()], scheme: None };
        for hop in hops {
            behalf.scheme = hop.scheme.or(behalf.scheme);
            let Some(client) = hop.client else { break };
            behalf.chain.push(client);
            if !self.covers(client) {
                break;
            }
        }
        behalf.chain.reverse();
        behalf
    }
}

/// By `X-Forwarded-For` and `-Proto`, the last hop first.
///
/// Who appends to the one appends to the other; but many a proxy puts down its own scheme alone. So the
/// last of both belong together, and the first scheme counts for all hops before it.
fn by_the_older_fields(fields: &HeaderMap) -> Vec<Hop> {
    let clients = members(fields, X_FORWARDED_FOR).map(node);
    let mut schemes = members(fields, X_FORWARDED_PROTO).map(scheme);
    let mut hops: Vec<_> =
        clients.map(|client| Hop { client, scheme: schemes.next().flatten() }).collect();
    if hops.is_empty() {
        hops.push(Hop { client: None, scheme: schemes.next().flatten() });
    }
    hops
}

/// By `Forwarded`, the last hop first.
fn by_forwarded(fields: &HeaderMap) -> Vec<Hop> {
    let lines = fields.get_all(FORWARDED).iter().rev();
    let mut hops = Vec::new();
    for line in lines {
        // A line that cannot be read hides what stands before it, too.
        let Some(elements) = line.to_str().ok().and_then(elements) else {
            hops.push(Hop::default());
            break;
        };
        hops.extend(elements.into_iter().rev());
        if hops.len() >= LONGEST {
            break;
        }
    }
    hops.truncate(LONGEST);
    hops
}

/// The members of a list, the last first.
fn members(fields: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = fields.get_all(name).iter().rev();
    let members = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    members.map(str::trim).take(LONGEST)
}

fn scheme(text: &str) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme))
}

/// An address, with or without a port; an IPv6 address may have brackets, and needs them for a port.
fn node(text: &str) -> Option<IpAddr> {
    let is_port = |port: &str| port.is_empty() || port.strip_prefix(':').is_some_and(is_node_port);
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            is_port(port).then_some(())?;
            IpAddr::V6(address.parse::<Ipv6Addr>().ok()?)
        }
        None => match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => {
                is_node_port(port).then_some(())?;
                IpAddr::V4(address.parse::<Ipv4Addr>().ok()?)
            }
            _ => text.parse().ok()?,
        },
    };
    Some(address.to_canonical())
}

/// RFC 7239 §6: digits, or a name that tells nothing.
fn is_node_port(port: &str) -> bool {
    let is_number = (1..=5).contains(&port.len()) && port.bytes().all(|c| c.is_ascii_digit());
    let is_hidden = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    is_number || port.strip_prefix('_').is_some_and(|name| name.bytes().all(is_hidden))
}

/// `1#( [ forwarded-pair ] *( ";" [ forwarded-pair ] ) )` (RFC 7239 §4). None: it is none.
fn elements(line: &str) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    let (mut hop, mut has_pairs) = (Hop::default(), false);
    let mut rest = line.trim_start();
    loop {
        // Empty elements are allowed, and say nothing.
        if !rest.starts_with([';', ',']) && !rest.is_empty() {
            let (name, value, after) = pair(rest)?;
            match name.to_ascii_lowercase().as_str() {
                "for" => hop.client = node(&value),
                "proto" => hop.scheme = scheme(&value),
                _ => {}
            }
            has_pairs = true;
            rest = after.trim_start();
        }
        if let Some(after) = rest.strip_prefix(';') {
            rest = after.trim_start();
            continue;
        }
        if std::mem::take(&mut has_pairs) {
            hops.push(std::mem::take(&mut hop));
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None => return rest.is_empty().then_some(hops),
        }
    }
}

/// `token "=" ( token / quoted-string )`, the value without quotes, and what follows.
fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    if name.is_empty() || !name.bytes().all(is_token) {
        return None;
    }
    let Some(quoted) = rest.strip_prefix('"') else {
        // Some send addresses with a colon or brackets without the quotes that they need.
        let is_value = |c: char| c.is_ascii() && is_token(c as u8) || matches!(c, ':' | '[' | ']');
        let end = rest.find(|c| !is_value(c)).unwrap_or(rest.len());
        let (value, rest) = rest.split_at_checked(end).filter(|(value, _)| !value.is_empty())?;
        return Some((name, value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((name, value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn is_token(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn trust(field: TrustedField) -> Trust {
        let networks = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().unwrap());
        Trust::new(&networks, field)
    }

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        fields
    }

    fn told(field: TrustedField, lines: &[(&'static str, &str)]) -> (String, Option<&'static str>) {
        let Behalf { chain, scheme } =
            trust(field).behalf(&fields(lines), "10.0.0.1".parse().unwrap());
        (chain.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), scheme)
    }

    #[test]
    fn who_is_believed() {
        let trust = trust(TrustedField::XForwardedFor);
        for (peer, expected) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("2001:db8:1::1", true),
            ("11.0.0.1", false),
            ("2001:db9::1", false),
            ("::a01:203", false),
        ] {
            assert_eq!(trust.covers(peer.parse().unwrap()), expected, "{peer}");
        }
        assert!(!Trust::default().covers("127.0.0.1".parse().unwrap()), "nobody, unless listed");
    }

    #[test]
    fn by_the_older_fields() {
        for (client, scheme, chain, expected, why) in [
            ("", "", "10.0.0.1", None, "nothing is said"),
            ("192.0.2.1", "https", "192.0.2.1 10.0.0.1", Some("https"), "one proxy"),
            ("192.0.2.1", "HTTPS", "192.0.2.1 10.0.0.1", Some("https"), "in any case"),
            ("192.0.2.1", "ftp", "192.0.2.1 10.0.0.1", None, "no scheme of ours"),
            ("", "https", "10.0.0.1", Some("https"), "the scheme alone"),
            (
                "203.0.113.9, 192.0.2.1",
                "https, http",
                "192.0.2.1 10.0.0.1",
                Some("http"),
                "what the client claims",
            ),
            (
                "192.0.2.1, 10.0.0.2",
                "https, http",
                "192.0.2.1 10.0.0.2 10.0.0.1",
                Some("https"),
                "two proxies that both append",
            ),
            (
                "192.0.2.1, 10.0.0.2",
                "https",
                "192.0.2.1 10.0.0.2 10.0.0.1",
                Some("https"),
                "the scheme of the last alone",
            ),
            ("x, 192.0.2.1", "", "192.0.2.1 10.0.0.1", None, "nonsense before the client"),
            ("192.0.2.1, x", "", "10.0.0.1", None, "nonsense hides what is before it"),
            ("192.0.2.1, unknown", "", "10.0.0.1", None, "as a proxy may do"),
            ("192.0.2.1,", "", "10.0.0.1", None, "empty"),
            ("192.0.2.1:4711", "", "192.0.2.1 10.0.0.1", None, "with a port"),
            ("2001:db9::1", "", "2001:db9::1 10.0.0.1", None, "an IPv6 address"),
            ("[2001:db9::1]", "", "2001:db9::1 10.0.0.1", None, "in brackets"),
            ("[2001:db9::1]:4711", "", "2001:db9::1 10.0.0.1", None, "with a port"),
            ("::ffff:192.0.2.1", "", "192.0.2.1 10.0.0.1", None, "an IPv4 address all the same"),
            ("[192.0.2.1]", "", "10.0.0.1", None, "no address"),
            ("192.0.2.1:x", "", "10.0.0.1", None, "no port"),
            ("192.0.2.1:123456", "", "10.0.0.1", None, "no port"),
        ] {
            let mut lines = Vec::new();
            lines.extend(Some(("x-forwarded-for", client)).filter(|_| !client.is_empty()));
            lines.extend(Some(("x-forwarded-proto", scheme)).filter(|_| !scheme.is_empty()));
            lines.push(("forwarded", "for=203.0.113.1;proto=https"));
            let told = told(TrustedField::XForwardedFor, &lines);
            assert_eq!(told, (chain.to_owned(), expected), "{client:?} {scheme:?}: {why}");
        }
        let lines = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "10.0.0.2")];
        let told = told(TrustedField::XForwardedFor, &lines);
        assert_eq!(told.0, "192.0.2.1 10.0.0.2 10.0.0.1", "lines are one list");
    }

    #[test]
    fn by_forwarded() {
        for (lines, chain, expected, why) in [
            (vec![], "10.0.0.1", None, "nothing is said"),
            (vec!["for=192.0.2.1"], "192.0.2.1 10.0.0.1", None, "the client alone"),
            (
                vec!["For=192.0.2.1; PROTO=Https;by=_x;host=\"a, b;c\""],
                "192.0.2.1 10.0.0.1",
                Some("https"),
                "all of it, in any case",
            ),
            (
                vec!["for=203.0.113.9;proto=https, for=192.0.2.1;proto=http"],
                "192.0.2.1 10.0.0.1",
                Some("http"),
                "what the client claims",
            ),
            (
                vec!["for=192.0.2.1;proto=https", "for=10.0.0.2"],
                "192.0.2.1 10.0.0.2 10.0.0.1",
                Some("https"),
                "two proxies, two lines",
            ),
            (
                vec!["for=\"[2001:db9::1]:4711\""],
                "2001:db9::1 10.0.0.1",
                None,
                "an IPv6 address with a port",
            ),
            (vec!["for=[2001:db9::1]"], "2001:db9::1 10.0.0.1", None, "without its quotes"),
            (vec!["for=192.0.2.1:_x"], "192.0.2.1 10.0.0.1", None, "a hidden port"),
            (vec!["for=\"192.0.2\\.1\""], "192.0.2.1 10.0.0.1", None, "an escaped octet"),
            (vec!["for=unknown;proto=https"], "10.0.0.1", Some("https"), "not known"),
            (vec!["for=192.0.2.1, for=_hidden"], "10.0.0.1", None, "hides what is before it"),
            (vec![",, for=192.0.2.1 ,,"], "192.0.2.1 10.0.0.1", None, "empty elements"),
            (vec![";for=192.0.2.1;;"], "192.0.2.1 10.0.0.1", None, "empty pairs"),
            (vec!["for=192.0.2.1", "for=\""], "10.0.0.1", None, "a quote without end"),
            (vec!["for=192.0.2.1, for"], "10.0.0.1", None, "no pair"),
            (vec!["for=192.0.2.1, for=x y"], "10.0.0.1", None, "two values"),
            (vec!["for=192.0.2.1, f\u{e4}=1"], "10.0.0.1", None, "no token"),
            (vec!["for = 192.0.2.1"], "10.0.0.1", None, "white space"),
        ] {
            let mut lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
            lines.push(("x-forwarded-for", "203.0.113.1"));
            lines.push(("x-forwarded-proto", "https"));
            let told = told(TrustedField::Forwarded, &lines);
            assert_eq!(told, (chain.to_owned(), expected), "{lines:?}: {why}");
        }
    }

    #[test]
    fn a_chain_is_bounded() {
        let long = vec!["10.0.0.2"; 1000].join(",");
        let (chain, _) = told(TrustedField::XForwardedFor, &[("x-forwarded-for", &long)]);
        assert_eq!(chain.split(' ').count(), LONGEST + 1);
        let long = vec!["for=10.0.0.2"; 1000].join(",");
        let (chain, _) = told(TrustedField::Forwarded, &[("forwarded", &long)]);
        assert_eq!(chain.split(' ').count(), LONGEST + 1);
    }

    proptest! {
        #[test]
        fn never_panics(
            octets in prop::collection::vec(any::<u8>(), 0..64),
            text in "([a-z0-9.:;,=\"\\[\\]\\\\ _-]|for=|proto=|10.0.0.1){0,32}",
        ) {
            let lines = [HeaderValue::from_bytes(&octets), HeaderValue::from_bytes(text.as_bytes())];
            for line in lines.into_iter().flatten() {
                let mut fields = HeaderMap::new();
                for name in [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_PROTO] {
                    fields.append(name, line.clone());
                }
                for field in [TrustedField::XForwardedFor, TrustedField::Forwarded] {
                    let behalf = trust(field).behalf(&fields, IpAddr::V4(Ipv4Addr::LOCALHOST));
                    prop_assert_eq!(behalf.chain.last(), Some(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
                    // Only the first may be one that is not listed.
                    let count = behalf.chain.len() - 1;
                    let inner = behalf.chain.iter().skip(1).take(count.saturating_sub(1));
                    prop_assert!(inner.into_iter().all(|node| trust(field).covers(*node)));
                }
            }
        }
    }
}
