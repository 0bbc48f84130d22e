//! Addresses: where Larder listens, where it forwards to, and which hosts a route answers for.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::uri::PathAndQuery;
use rustls_pki_types::ServerName;

use super::fault::Wrong;

/// An address to listen on. Names are not looked up: which of their addresses would be meant?
pub(super) fn listen(text: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    let hint = if let Some(port) = text.strip_prefix("localhost:").filter(|port| is_port(port)) {
        format!("write \"127.0.0.1:{port}\"")
    } else if let Some(port) = [text.strip_prefix(':'), text.strip_prefix("*:"), Some(text)]
        .into_iter()
        .flatten()
        .find(|port| is_port(port))
    {
        format!(
            "write \"127.0.0.1:{port}\" for this machine alone, \"0.0.0.0:{port}\" for all addresses"
        )
    } else if let Ok(ip) = text.parse::<IpAddr>() {
        format!("write the port, too: \"{}\"", SocketAddr::new(ip, 8080))
    } else {
        "write an address and a port, as in \"127.0.0.1:8080\"; names are not looked up".to_owned()
    };
    Err(Wrong::new("is not an address to listen on").with_hint(hint))
}

/// A server to forward to: `http://host[:port]` or `https://host[:port]`.
pub(super) fn server(text: &str) -> Result<http::Uri, Wrong> {
    let (server, after) = split(text, "write \"http://host:port\" or \"https://host:port\"")?;
    if !matches!(after, "" | "/") {
        return Err(Wrong::new("has something after the host").with_hint(format!(
            "write \"{}\": the client's path is sent as it is",
            text.strip_suffix(after).unwrap_or(text)
        )));
    }
    Ok(server)
}

/// Something that a server has: the server as above, and the path and query there.
pub(super) fn resource(text: &str) -> Result<(http::Uri, PathAndQuery), Wrong> {
    const SHAPE: &str = "write \"https://host/path\"";
    let (server, after) = split(text, SHAPE)?;
    certified_server(&server)?;
    if after.contains('#') {
        return Err(Wrong::new("names a part of what is there").with_hint("leave `#` out"));
    }
    let target = if after.starts_with('/') { after.parse() } else { format!("/{after}").parse() };
    Ok((server, target.map_err(|_| Wrong::new("has no path").with_hint(SHAPE))?))
}

/// A server, and what is written after its authority.
fn split<'a>(text: &'a str, shape: &str) -> Result<(http::Uri, &'a str), Wrong> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Wrong::new("has no scheme").with_hint(shape));
    };
    if !matches!(scheme, "http" | "https") {
        return Err(Wrong::new("has a scheme that is neither `http` nor `https`").with_hint(shape));
    }
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(Wrong::new("holds a user's name or password").with_hint(shape));
    }
    let wrong_host = || Wrong::new("does not name a host and a port").with_hint(shape);
    check_authority(authority).ok_or_else(wrong_host)?;
    let server: http::Uri = format!("{scheme}://{authority}").parse().map_err(|_| wrong_host())?;
    Ok((server, after))
}

/// Whether a certificate can be for the host of this server, if it speaks TLS.
pub(super) fn certified_server(server: &http::Uri) -> Result<(), Wrong> {
    let host = server.host().filter(|_| server.scheme_str() == Some("https"));
    host.map_or(Ok(()), certified)
}

/// Whether a certificate can be for a host: systems look up more than what TLS has as a name.
pub(super) fn certified(host: &str) -> Result<(), Wrong> {
    let name = ServerName::try_from(host.trim_matches(['[', ']']));
    name.map(drop).map_err(|_| {
        Wrong::new("names a host that no certificate can be for")
            .with_hint("write a name as in \"shop.example\", or an address in full")
    })
}

/// A host or `*.suffix` in lower case, as `routes` compares them.
pub(super) fn host(text: &str) -> Result<String, Wrong> {
    let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if host == "*" {
        return Err(Wrong::new("matches any host").with_hint("leave `host` out"));
    }
    if host.contains("://") || host.contains('/') {
        let name = host.split_once("://").map_or(host.as_str(), |(_, name)| name);
        let name = name.split(['/', ':']).next().unwrap_or_default();
        let name = if is_name(name) { name } else { "shop.example" };
        return Err(Wrong::new("is more than a host")
            .with_hint(format!("write the name alone: \"{name}\"")));
    }
    if let Some(address) = ipv6(&host) {
        // As it is written in the authority of each request.
        return Ok(format!("[{address}]"));
    }
    if let Ok(address) = host.parse::<Ipv6Addr>() {
        return Err(Wrong::new("is an address without brackets")
            .with_hint(format!("write \"[{address}]\"")));
    }
    if let Some(name) = before_port(&host) {
        return Err(Wrong::new("has a port").with_hint(format!(
            "write \"{name}\": a route answers for its host whatever the port"
        )));
    }
    if !host.is_ascii() {
        return Err(Wrong::new("is not in ASCII")
            .with_hint("write it as browsers send it, with labels that begin with `xn--`"));
    }
    if is_name(host.strip_prefix("*.").unwrap_or(&host)) {
        return Ok(host);
    }
    Err(Wrong::new("is not a host")
        .with_hint("write a name such as \"shop.example\", or \"*.shop.example\" for all below it"))
}

/// What stands before a port, if there is one: the colons of an address are in brackets.
fn before_port(host: &str) -> Option<&str> {
    let colon = host.find("]:").map_or_else(|| host.find(':'), |end| Some(end + 1))?;
    let name = host.get(..colon)?;
    (!name.is_empty() && name.starts_with('[') == name.ends_with(']')).then_some(name)
}

/// A host, with or without a port, to be sent in `Host`.
pub(super) fn authority(text: &str) -> Result<String, Wrong> {
    let is_one = check_authority(text).is_some();
    is_one.then(|| text.to_ascii_lowercase()).ok_or_else(|| {
        Wrong::new("is neither a host nor a host and a port")
            .with_hint("write \"api.internal\" or \"api.internal:8080\"")
    })
}

/// `host[:port]`, with a port that can be connected to.
pub(super) fn check_authority(authority: &str) -> Option<()> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port = port.is_none_or(|port| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    let host = host.to_ascii_lowercase();
    (is_port && (ipv6(&host).is_some() || is_name(&host))).then_some(())
}

/// The address in brackets.
fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// RFC 1123 §2.1, and `_`, which containers' names hold.
fn is_name(host: &str) -> bool {
    host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_addresses() {
        assert_eq!(listen("127.0.0.1:0").unwrap().port(), 0);
        assert!(listen("[::1]:8080").unwrap().is_ipv6());
        for (text, hint) in [
            ("localhost:8080", "write \"127.0.0.1:8080\""),
            (":8080", "write \"127.0.0.1:8080\" for this machine alone"),
            ("8080", "write \"127.0.0.1:8080\" for this machine alone"),
            ("*:80", "write \"127.0.0.1:80\" for this machine alone"),
            ("127.0.0.1", "write the port, too: \"127.0.0.1:8080\""),
            ("::1", "write the port, too: \"[::1]:8080\""),
            ("example.org:80", "write an address and a port"),
            ("127.0.0.1:65536", "write an address and a port"),
            ("", "write an address and a port"),
        ] {
            let found = listen(text).unwrap_err().hint.unwrap();
            assert!(found.starts_with(hint), "{text}: {found}");
        }
    }

    #[test]
    fn servers_are_scheme_and_host() {
        for text in [
            "http://127.0.0.1:3000",
            "https://api.example",
            "http://api.example/",
            "http://[::1]:80",
            "http://API_1:80",
            "https://API_1:443",
            "https://[::1]",
            "http://127.1:80",
        ] {
            assert!(server(text).is_ok(), "{text}");
        }
        for (text, complaint) in [
            ("127.0.0.1:3000", "has no scheme"),
            ("ftp://host", "has a scheme that is neither `http` nor `https`"),
            ("http://user:secret@host", "holds a user's name or password"),
            ("http://host/api", "has something after the host"),
            ("http://host?a", "has something after the host"),
            ("http://host/#a", "has something after the host"),
            ("http://", "does not name a host and a port"),
            ("http://:80", "does not name a host and a port"),
            ("http://host:", "does not name a host and a port"),
            ("http://host:0", "does not name a host and a port"),
            ("http://host:+80", "does not name a host and a port"),
            ("http://host:65536", "does not name a host and a port"),
            ("http://ho st", "does not name a host and a port"),
            ("http://::1", "does not name a host and a port"),
        ] {
            assert_eq!(server(text).unwrap_err().complaint, complaint, "{text}");
        }
    }

    #[test]
    fn secure_servers_have_hosts_that_certificates_can_be_for() {
        for (text, expected) in [
            ("http://127.1:80", true),
            ("https://127.0.0.1:8443", true),
            ("https://[::1]", true),
            ("https://API_1:443", true),
            ("https://127.1:8443", false),
            ("https://10.0.0.256", false),
            ("https://shop-.internal", false),
        ] {
            assert_eq!(certified_server(&server(text).unwrap()).is_ok(), expected, "{text}");
            assert_eq!(resource(&format!("{text}/keys")).is_ok(), expected, "{text}");
        }
    }

    #[test]
    fn hosts_are_names_without_ports() {
        for (text, expected) in [
            ("Shop.Example", "shop.example"),
            ("shop.example.", "shop.example"),
            ("*.shop.example", "*.shop.example"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(host(text).unwrap(), expected);
        }
        for (text, complaint) in [
            ("*", "matches any host"),
            ("shop.example:80", "has a port"),
            ("[::1]:8080", "has a port"),
            ("::1", "is an address without brackets"),
            ("[::1", "is not a host"),
            (":80", "is not a host"),
            ("http://shop.example", "is more than a host"),
            ("shop.example/a", "is more than a host"),
            ("bücher.example", "is not in ASCII"),
            ("shop..example", "is not a host"),
            ("a*.example", "is not a host"),
            ("*.*.example", "is not a host"),
            ("", "is not a host"),
        ] {
            assert_eq!(host(text).unwrap_err().complaint, complaint, "{text}");
        }
        for (text, hint) in [
            ("shop.example:80", "write \"shop.example\": a route answers"),
            ("[::1]:8080", "write \"[::1]\": a route answers"),
            ("::1", "write \"[::1]\""),
            ("2001:DB8:0:0::1", "write \"[2001:db8::1]\""),
        ] {
            let found = host(text).unwrap_err().hint.unwrap();
            assert!(found.starts_with(hint), "{text}: {found}");
        }
        for text in ["http://Api.example:80/a?b", "api.example/", "https://api.example"] {
            let hint = host(text).unwrap_err().hint.unwrap();
            assert_eq!(hint, "write the name alone: \"api.example\"");
        }
    }
}
