//! On whose behalf a request is forwarded: `Forwarded` (RFC 7239), the older fields that say it, and the
//! certificate by which a client is known (RFC 9440).
//!
//! Servers that make variables of fields read `-` and `_` in a name alike (RFC 3875 §4.1.18). So whatever is not
//! to be said by others is not by the other spelling either.

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// By which certificate a client is known (RFC 9440).
pub const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");

/// Whether a field of this name says by which certificate a client is known, or may do so.
pub fn is_client_cert(name: &HeaderName) -> bool {
    let rest = name.as_str().strip_prefix("client");
    rest.and_then(|rest| rest.strip_prefix(['-', '_'])).is_some_and(|it| it.starts_with("cert"))
}

/// Says by which certificate a client is known, if it is by one. What the client says of that itself is
/// removed: only who has verified it may (RFC 9440 §4).
pub fn set_client_cert(fields: &mut HeaderMap, certificate: Option<&HeaderValue>) {
    super::remove_all(fields, |name| {
        is_spelt(name, "client-cert") || is_spelt(name, "client-cert-chain")
    });
    if let Some(certificate) = certificate {
        fields.insert(CLIENT_CERT, certificate.clone());
    }
}

/// Says on whose behalf a request is forwarded: `Forwarded` (RFC 7239) and the older
/// `X-Forwarded-For`, `-Host` and `-Proto`. What came of these fields and their kind is removed otherwise.
pub fn set_forwarded(fields: &mut HeaderMap, chain: &[IpAddr], scheme: &str, authority: &str) {
    remove_claims(fields);
    for (name, value) in Behalf::of(chain, scheme, authority).lines() {
        fields.append(name, value);
    }
}

/// Removes what says on whose behalf a request comes, as anybody may have written it. With that go the fields
/// by which some frameworks let a request name another host or path than its own. No key holds these, so one
/// client could choose what is stored for all.
pub fn remove_claims(fields: &mut HeaderMap) {
    super::remove_all(fields, is_claim);
}

/// Whether a field of this name is one of those that [`remove_claims`] removes.
pub fn is_claim(name: &str) -> bool {
    match name.as_bytes() {
        [b'x', b'-' | b'_', ..] => {
            name.get(..FAMILY.len()).is_some_and(|begin| is_spelt(begin, FAMILY))
                || X_CLAIMS.iter().any(|claim| is_spelt(name, claim))
        }
        [b'c' | b'f' | b't', ..] => CLAIMS.iter().any(|claim| is_spelt(name, claim)),
        // As most names begin, it is none.
        _ => false,
    }
}

/// Whether a name is this one, in one spelling or the other: servers that make variables of fields take `_` for
/// `-` (RFC 3875 §4.1.18).
pub fn is_spelt(name: &str, claim: &str) -> bool {
    let octets = name.bytes().map(|octet| if octet == b'_' { b'-' } else { octet });
    name.len() == claim.len() && octets.eq(claim.bytes())
}

/// Whether a field of this name may be read as another one, of which nothing is asked by this name.
pub fn has_underscore(name: &HeaderName) -> bool {
    name.as_str().contains('_')
}

/// Removes the fields with `_` in their names. Keys, `Vary` and policies go by the names with `-`: a server that reads
/// both alike would make of these what is stored for others.
pub fn remove_underscored(fields: &mut HeaderMap) {
    let names: Vec<_> = fields.keys().filter(|name| has_underscore(name)).cloned().collect();
    for name in names {
        fields.remove(name);
    }
}

const CLAIMS: [&str; 4] = ["client-ip", "forwarded", "front-end-https", "true-client-ip"];
/// How those begin by which proxies tell servers of a client: where it comes from, and who it is.
const FAMILY: &str = "x-forwarded-";
const X_CLAIMS: [&str; 11] = [
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-host",
    "x-http-host-override",
    "x-original-host",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
    "x-scheme",
    "x-url-scheme",
];

/// What a forwarded request says of whom it comes from. It is the same for many requests, and to clone it takes
/// much less than to make it.
#[derive(Clone, Debug)]
pub struct Behalf {
    forwarded: Option<HeaderValue>,
    addresses: Option<HeaderValue>,
    host: Option<HeaderValue>,
    scheme: Option<HeaderValue>,
}

impl Behalf {
    /// `chain` is the client and the proxies that are believed to have passed its request on, the last of which
    /// this gateway got it from; `scheme` is the client's.
    pub fn of(chain: &[IpAddr], scheme: &str, authority: &str) -> Self {
        let (mut forwarded, mut addresses) =
            (String::with_capacity(128), String::with_capacity(48));
        for (place, node) in chain.iter().enumerate() {
            let (node, comma) = (node.to_canonical(), if place > 0 { ", " } else { "" });
            addresses.push_str(comma);
            let begin = addresses.len();
            write_address(node, |octet| addresses.push(octet.into()));
            // RFC 7239 §6: those of IPv6 in brackets, and therefore in quotes.
            let (open, close) = if node.is_ipv6() { ("\"[", "]\"") } else { ("", "") };
            let address = addresses.get(begin..).unwrap_or_default();
            forwarded.extend([comma, "for=", open, address, close]);
            // By which name the first proxy was called is not believed of it.
            if place + 1 == chain.len() {
                forwarded.extend([";host=\"", authority, "\""]);
            }
            if place == 0 {
                forwarded.extend([";proto=", scheme]);
            }
        }
        Self {
            forwarded: HeaderValue::try_from(forwarded).ok(),
            addresses: HeaderValue::try_from(addresses).ok(),
            host: HeaderValue::from_str(authority).ok(),
            scheme: HeaderValue::from_str(scheme).ok(),
        }
    }

    /// What to add to the fields of a request, of which [`remove_claims`] has left none of these.
    pub fn lines(self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let lines = [
            (FORWARDED, self.forwarded),
            (X_FORWARDED_FOR, self.addresses),
            (X_FORWARDED_HOST, self.host),
            (X_FORWARDED_PROTO, self.scheme),
        ];
        lines.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }
}

/// Writes an address, octet by octet: those of IPv4, which are usual, without formatting.
pub fn write_address(address: IpAddr, mut write: impl FnMut(u8)) {
    let IpAddr::V4(address) = address else {
        return address.to_string().bytes().for_each(write);
    };
    for (place, number) in address.octets().into_iter().enumerate() {
        if place > 0 {
            write(b'.');
        }
        if number >= 100 {
            write(b'0' + number / 100);
        }
        if number >= 10 {
            write(b'0' + number / 10 % 10);
        }
        write(b'0' + number % 10);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::remove_all;
    use super::*;

    #[test]
    fn claims_are_none_of_a_client_however_they_are_spelt() {
        let family =
            ["x-forwarded-", "x-forwarded-for", "x-forwarded-user", "x-forwarded-client-cert"];
        for name in CLAIMS.into_iter().chain(X_CLAIMS).chain(family) {
            let spelt = [name.to_owned(), name.replace('-', "_"), name.replacen('-', "_", 1)];
            assert!(spelt.iter().all(|name| is_claim(name)), "{name}");
        }
        for name in
            ["", "client", "client_i", "from", "x", "x_", "x_a", "x--real-ip", "x-forward-for"]
        {
            assert!(!is_claim(name), "{name}");
        }
    }

    /// Each way to write `-` or `_` in a name.
    fn spellings(name: &str) -> Vec<String> {
        let mut all = vec![String::new()];
        for letter in name.chars() {
            let written = if letter == '-' { vec!['-', '_'] } else { vec![letter] };
            all = all
                .iter()
                .flat_map(|begun| written.iter().map(move |it| format!("{begun}{it}")))
                .collect();
        }
        all
    }

    #[test]
    fn each_field_is_looked_at_once_however_many_go() {
        let mut fields = HeaderMap::new();
        let others = (0..1600).map(|number| format!("x_a{number}"));
        let claims = CLAIMS.into_iter().chain(X_CLAIMS).flat_map(spellings);
        for name in others.chain(claims) {
            fields.insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("1"));
        }
        let (before, looks) = (fields.keys_len(), Cell::new(0));
        assert_eq!(before, 1600 + 57);
        remove_all(&mut fields, |name| {
            looks.set(looks.get() + 1);
            is_claim(name)
        });
        assert_eq!((looks.get(), fields.keys_len()), (before, 1600));
    }

    #[test]
    fn certificates_are_known_by_both_spellings() {
        for (name, expected) in [
            ("client-cert", true),
            ("client_cert_chain", true),
            ("client", false),
            ("client-", false),
            ("clientcert", false),
            ("client-certificate", true),
        ] {
            assert_eq!(is_client_cert(&HeaderName::from_static(name)), expected, "{name}");
        }
    }

    #[test]
    fn addresses_are_as_others_write_them() {
        for text in ["127.0.0.1", "255.10.0.99", "100.209.9.90", "::1", "2001:db8::7"] {
            let mut written = String::new();
            write_address(text.parse().unwrap(), |octet| written.push(octet.into()));
            assert_eq!(written, text);
        }
    }
}
