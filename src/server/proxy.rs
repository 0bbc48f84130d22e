//! The header of a proxy that passes connections on as they are (PROXY protocol, versions 1 and 2): whose
//! connection it is.
//!
//! Not supported: what version 2 may add behind the addresses (TLV), which is skipped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// How a header of version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 1 is no longer, its line end included.
const LONGEST_LINE: usize = 107;

/// What follows the head of version 2 is no longer, what is skipped included.
const LONGEST_REST: usize = 4096;

/// Takes the header from the beginning of a stream. None if the proxy speaks for itself, or does not know
/// whose connection it is.
///
/// # Errors
/// It is malformed, or the stream ends before it does. Nothing may be made of what follows.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut begun = [0; SIGNATURE.len()];
    stream.read_exact(&mut begun).await?;
    if begun == *SIGNATURE {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let [version, family, length @ ..] = head;
        let mut rest = vec![0; usize::from(u16::from_be_bytes(length))];
        if rest.len() > LONGEST_REST {
            return Err(malformed("is longer than a proxy has reason for"));
        }
        stream.read_exact(&mut rest).await?;
        return second(version, family, &rest).map_err(malformed);
    }
    let mut line = begun.to_vec();
    // Octet by octet: what follows is not the header's.
    while line.starts_with(b"PROXY ") && line.len() < LONGEST_LINE && !line.ends_with(b"\n") {
        line.push(stream.read_u8().await?);
    }
    first(&line).map_err(malformed)
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the proxy's header {what}"))
}

/// A header of version 1: a line.
fn first(line: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    const NOT_A_HEADER: &str = "is none of the PROXY protocol";

    let line = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok());
    let mut words = line.ok_or(NOT_A_HEADER)?.split(' ');
    if words.next() != Some("PROXY") {
        return Err(NOT_A_HEADER);
    }
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(None);
    }
    let words: Vec<_> = words.collect();
    let [from, to, from_port, to_port] = words[..] else { return Err(NOT_A_HEADER) };
    let address = |text: &str| match family {
        Some("TCP4") => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some("TCP6") => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    // `parse` alone would take `+80`.
    let port = |text: &str| {
        Some(text).filter(|text| text.bytes().all(|c| c.is_ascii_digit()))?.parse::<u16>().ok()
    };
    let known = (address(from), port(from_port), address(to), port(to_port));
    let (Some(address), Some(port), Some(_), Some(_)) = known else {
        return Err("has no addresses and ports of its family");
    };
    Ok(Some(SocketAddr::new(address, port)))
}

/// A header of version 2: version and command, family and transport, and what follows.
fn second(version: u8, family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    const SHORT: &str = "is shorter than its addresses";

    match version {
        0x21 => {}
        // The proxy asks how we are.
        0x20 => return Ok(None),
        _ => return Err("is of a version or command that is not known"),
    }
    match family {
        // It does not say, or by a socket of its own machine.
        0x00 | 0x31 => Ok(None),
        // TCP over IPv4: two addresses, and two ports.
        0x11 => {
            let Some(([a, b, c, d, _, _, _, _, high, low, _, _], _)) = rest.split_first_chunk()
            else {
                return Err(SHORT);
            };
            let port = u16::from_be_bytes([*high, *low]);
            Ok(Some(SocketAddr::new(Ipv4Addr::new(*a, *b, *c, *d).into(), port)))
        }
        // TCP over IPv6.
        0x21 => {
            let Some((addresses, ports)) = rest.split_first_chunk::<32>() else {
                return Err(SHORT);
            };
            let (Some((address, _)), Some(([high, low, _, _], _))) =
                (addresses.split_first_chunk::<16>(), ports.split_first_chunk::<4>())
            else {
                return Err(SHORT);
            };
            let port = u16::from_be_bytes([*high, *low]);
            Ok(Some(SocketAddr::new(Ipv6Addr::from(*address).into(), port)))
        }
        _ => Err("is of a family that is not known"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take(octets: &[u8]) -> (io::Result<Option<SocketAddr>>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut rest = octets;
        let read = runtime.block_on(read(&mut rest));
        (read, rest.len())
    }

    #[test]
    fn lines() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n", Ok(Some("192.0.2.1:1"))),
            ("PROXY TCP6 2001:db8::1 ::1 65535 0\r\n", Ok(Some("[2001:db8::1]:65535"))),
            ("PROXY UNKNOWN\r\n", Ok(None)),
            ("PROXY UNKNOWN ffff::1 whatever\r\n", Ok(None)),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1 443\n", Err(())),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r", Err(())),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", Err(())),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1 443 \r\n", Err(())),
            ("PROXY TCP4  192.0.2.1 192.0.2.2 1 443\r\n", Err(())),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 +1 443\r\n", Err(())),
            ("PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n", Err(())),
            ("PROXY TCP4 192.0.2.1 192.0.2.2  443\r\n", Err(())),
            ("PROXY TCP4 192.0.2.01 192.0.2.2 1 443\r\n", Err(())),
            ("PROXY TCP4 ::1 ::1 1 443\r\n", Err(())),
            ("PROXY TCP6 192.0.2.1 ::1 1 443\r\n", Err(())),
            ("PROXY UDP4 192.0.2.1 192.0.2.2 1 443\r\n", Err(())),
            ("PROXY\r\nGET / HTTP/1.1\r\n", Err(())),
            ("proxy UNKNOWN\r\n", Err(())),
            ("GET / HTTP/1.1\r\n\r\n", Err(())),
            ("", Err(())),
        ] {
            let found = take(line.as_bytes()).0.map_err(drop);
            let expected = expected.map(|it| it.map(|it: &str| it.parse().unwrap()));
            assert_eq!(found, expected, "{line:?}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
        assert!(take(long.as_bytes()).0.is_err());
    }

    #[test]
    fn binary_headers() {
        let header = |version: u8, family: u8, rest: &[u8]| {
            let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
            [&SIGNATURE[..], &[version, family], &length, rest].concat()
        };
        let four = [192, 0, 2, 1, 192, 0, 2, 2, 0, 80, 1, 187];
        let mut six = [0; 36];
        (six[0], six[15], six[33]) = (0x20, 1, 80);
        for (octets, expected, why) in [
            (header(0x21, 0x11, &four), Ok(Some("192.0.2.1:80")), "IPv4"),
            (header(0x21, 0x21, &six), Ok(Some("[2000::1]:80")), "IPv6"),
            (
                header(0x21, 0x11, &[&four[..], &[4, 0, 1, 0]].concat()),
                Ok(Some("192.0.2.1:80")),
                "and more",
            ),
            (header(0x20, 0x11, &four), Ok(None), "LOCAL"),
            (header(0x20, 0, &[]), Ok(None), "LOCAL"),
            (header(0x21, 0, &[]), Ok(None), "UNSPEC"),
            (header(0x21, 0x31, &[0; 216]), Ok(None), "UNIX"),
            (header(0x21, 0x11, &four[..11]), Err(()), "short"),
            (header(0x21, 0x21, &six[..35]), Err(()), "short"),
            (header(0x21, 0x12, &four), Err(()), "UDP"),
            (header(0x22, 0x11, &four), Err(()), "an unknown command"),
            (header(0x11, 0x11, &four), Err(()), "an unknown version"),
            (header(0x21, 0x11, &[0; 5000]), Err(()), "too long"),
            (header(0x21, 0x11, &four)[..20].to_vec(), Err(()), "cut"),
        ] {
            let found = take(&octets).0.map_err(drop);
            let expected = expected.map(|it| it.map(|it: &str| it.parse().unwrap()));
            assert_eq!(found, expected, "{why}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_are_too_much(
            begun in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 ", SIGNATURE]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let octets = [begun, &rest].concat();
            let (read, left) = take(&octets);
            // What follows it is left to whoever is next.
            prop_assert!(read.is_err() || left <= octets.len() - 15);
        }

        #[test]
        fn what_follows_is_left(client: std::net::SocketAddrV4, rest in "[ -~\r\n]{0,50}") {
            let line = format!("PROXY TCP4 {} 192.0.2.2 {} 443\r\n", client.ip(), client.port());
            let (read, left) = take(format!("{line}{rest}").as_bytes());
            prop_assert_eq!((read.unwrap(), left), (Some(client.into()), rest.len()));
        }
    }
}
