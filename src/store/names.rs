//! Names that no other process has: of gateways, and of the log.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// 64 bits in hexadecimal that are different each time. The standard library's hash maps are
/// seeded by the system's random numbers, which is enough for a name.
pub(super) fn random_name() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// The host's name and some characters, as two gateways may run on one host.
pub(super) fn host_name(process: &str) -> Arc<str> {
    // Not by /proc/sys, which services do not see whose /proc has processes alone (`ProcSubset=pid`).
    let system = rustix::system::uname();
    let is_fit = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let host: String = system.nodename().to_string_lossy().chars().filter(is_fit).collect();
    with_characters(if host.is_empty() { "larder" } else { &host }, process)
}

/// A name that another process does not have. Names are of ASCII, and of 64 characters at most.
pub(super) fn with_characters(name: &str, process: &str) -> Arc<str> {
    let name = name.get(..57).unwrap_or(name);
    format!("{name}-{}", process.get(..6).unwrap_or(process)).into()
}

/// The same, unless the name has the process's characters already.
pub(super) fn own(name: &str, process: &str) -> Arc<str> {
    let characters = process.get(..6).unwrap_or(process);
    if name.ends_with(characters) { name.into() } else { with_characters(name, process) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_apart_and_not_too_long() {
        assert_ne!(random_name(), random_name());
        assert_eq!(&*with_characters("shop", "0123456789abcdef"), "shop-012345");
        assert_eq!(with_characters(&"a".repeat(64), "0123456789abcdef").len(), 64);
        let name = host_name("0123456789abcdef");
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(name, with_characters(host.trim(), "0123456789abcdef"));
        assert_eq!(own(&name, "0123456789abcdef"), name, "once is enough");
        assert_eq!(&*own("shop", "0123456789abcdef"), "shop-012345");
    }
}
