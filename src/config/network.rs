//! Networks: which addresses belong together, as `10.0.0.0/8`.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use super::fault::Wrong;

/// An address and how many of its bits the network's addresses have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// In which field trusted proxies tell on whose behalf a request comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrustedField {
    /// `X-Forwarded-For`, and with it `X-Forwarded-Proto`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotANetwork;

impl Network {
    /// Whether it has this address. An IPv4 address inside an IPv6 one is to be given as itself.
    pub fn contains(&self, address: IpAddr) -> bool {
        // By two bits more than an address may have in common, a shift by all of them is none.
        let differs = |bits: u128, width: u8| {
            let left = u32::from(width - self.prefix);
            bits.checked_shr(left).is_some_and(|rest| rest != 0)
        };
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                !differs(u128::from(own.to_bits() ^ other.to_bits()), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => !differs(own.to_bits() ^ other.to_bits(), 128),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let digits = |prefix: &&str| prefix.bytes().all(|c| c.is_ascii_digit());
        let prefix = match prefix {
            None => most,
            Some(prefix) => {
                let number = Some(prefix).filter(digits).and_then(|prefix| prefix.parse().ok());
                number.filter(|prefix| *prefix <= most).ok_or(NotANetwork)?
            }
        };
        Ok(Self { address, prefix })
    }
}

/// An address or a network. Bits beyond the prefix are taken for a mistake: which network was meant?
pub(super) fn network(text: &str) -> Result<Network, Wrong> {
    let network: Network = text.parse().map_err(|_| {
        Wrong::new("is neither an address nor a network")
            .with_hint("write \"10.0.0.1\", \"10.0.0.0/8\" or \"2001:db8::/32\"")
    })?;
    // Connections are compared by the IPv4 address in it, too.
    let network = match network.address {
        IpAddr::V6(own) if network.prefix >= 96 => {
            let inner =
                |own: Ipv4Addr| Network { address: own.into(), prefix: network.prefix - 96 };
            own.to_ipv4_mapped().map_or(network, inner)
        }
        _ => network,
    };
    let first = match network.address {
        IpAddr::V4(own) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(network.prefix)).unwrap_or(0);
            IpAddr::V4((own.to_bits() & mask).into())
        }
        IpAddr::V6(own) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(network.prefix)).unwrap_or(0);
            IpAddr::V6((own.to_bits() & mask).into())
        }
    };
    if first != network.address {
        let hint = format!("write \"{first}/{}\", or the address alone", network.prefix);
        return Err(Wrong::new("is not the first address of its network").with_hint(hint));
    }
    Ok(network)
}

/// The field that is believed.
pub(super) fn trusted_field(text: &str) -> Result<TrustedField, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "x-forwarded-for" => Ok(TrustedField::XForwardedFor),
        "forwarded" => Ok(TrustedField::Forwarded),
        _ => Err(Wrong::new("is neither `X-Forwarded-For` nor `Forwarded`")
            .with_hint("write the one that the proxies set, whatever their clients send")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_addresses() {
        for (text, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.128/25", "10.0.0.127", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::1", "::1", true),
            ("::1", "::2", false),
        ] {
            let network: Network = text.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), expected, "{text} {address}");
        }
    }

    #[test]
    fn ipv4_networks_within_ipv6_are_themselves() {
        for (text, expected) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("2001:db8::/112", "2001:db8::/112"),
        ] {
            assert_eq!(network(text), Ok(expected.parse().unwrap()), "{text}");
        }
        let inner = network("::ffff:10.0.0.0/104").unwrap();
        assert!(inner.contains("10.1.2.3".parse().unwrap()));
        // A shorter prefix leaves a part of what makes it one of IPv4 out.
        assert!(network("::ffff:0:0/95").is_err());
    }

    #[test]
    fn what_is_no_network() {
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "::/129", "a/8"] {
            assert!(network(text).is_err(), "{text}");
        }
        let hint = |text| network(text).unwrap_err().hint.unwrap();
        assert_eq!(hint("10.0.0.1/8"), "write \"10.0.0.0/8\", or the address alone");
        assert_eq!(hint("2001:db8::1/32"), "write \"2001:db8::/32\", or the address alone");
        assert_eq!(network("0.0.0.0/0"), Ok("0.0.0.0/0".parse().unwrap()));
        assert_eq!(trusted_field("FORWARDED"), Ok(TrustedField::Forwarded));
    }
}
