//! Certificates of Larder's own that have expired, that will soon, or that are not valid yet: those of
//! listeners, and those that servers are shown. An expired one is no fault, as what it is to be replaced by
//! may not be there yet; but its peers will believe nothing of it.

mod validity;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tracing::warn;

use crate::clock;
use crate::config::{Certificate, Config, Place};

use self::validity::Validity;

/// A certificate ends soon that has so much left, or less than a quarter of all its time.
const SOON: Duration = Duration::from_hours(14 * 24);

/// A certificate that is to be renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aged {
    /// Where its table stands.
    pub place: Place,
    /// Whose it is.
    owner: String,
    path: PathBuf,
    /// Which of those in the file, from 1 on; none of the only one.
    number: Option<usize>,
    what: What,
    /// When that changes, or has changed.
    at: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    NotYet,
    Soon,
    Expired,
}

impl What {
    /// What is to be said of a certificate at this time.
    fn of(validity: Validity, now: SystemTime) -> Option<(Self, SystemTime)> {
        let Validity { from, until } = validity;
        let whole = until.duration_since(from).unwrap_or_default();
        if now < from {
            return Some((Self::NotYet, from));
        }
        // RFC 5280 §4.1.2.5: "from notBefore through notAfter, inclusive".
        let Ok(left) = until.duration_since(now) else { return Some((Self::Expired, until)) };
        (left < SOON.min(whole / 4)).then_some((Self::Soon, until))
    }
}

/// All that is to be said at this time. A file that cannot be read is told of by who uses it.
pub(super) fn aged(config: &Config, now: SystemTime) -> Vec<Aged> {
    let listeners = config.server.listeners().filter_map(|it| it.tls.as_ref());
    let listeners = listeners.flat_map(|tls| &tls.certificates);
    let listeners = listeners.map(|certificate| ("[server] tls".to_owned(), certificate));
    let upstreams = config.upstreams.iter().filter_map(|upstream| {
        let certificate = upstream.identity.as_ref()?;
        Some((format!("upstream `{}`", upstream.name), certificate))
    });
    listeners.chain(upstreams).filter_map(|(owner, it)| aged_of(owner, it, now)).collect()
}

/// The worst of a file, as a chain is worth what its weakest part is.
fn aged_of(owner: String, certificate: &Certificate, now: SystemTime) -> Option<Aged> {
    let Certificate { chain: path, place, .. } = certificate;
    let octets = std::fs::read(path).ok()?;
    let all: Vec<_> = CertificateDer::pem_slice_iter(&octets).map_while(Result::ok).collect();
    let told = all.iter().enumerate().filter_map(|(index, it)| {
        let (what, at) = What::of(Validity::of(it)?, now)?;
        Some((what, at, index))
    });
    let (what, at, index) = told.max_by_key(|(what, ..)| match what {
        What::Soon => 0,
        What::NotYet => 1,
        What::Expired => 2,
    })?;
    let number = (all.len() > 1).then_some(index + 1);
    Some(Aged { place: *place, owner, path: path.clone(), number, what, at })
}

impl Aged {
    /// Says it in the log.
    pub(super) fn log(&self) {
        let Self { owner, path, number, what, at, .. } = self;
        let (file, at) = (path.display(), moment(*at));
        match what {
            What::NotYet => warn!(%owner, %file, number, from = at, "certificate is not valid yet"),
            What::Soon => warn!(%owner, %file, number, until = at, "certificate expires soon"),
            What::Expired => warn!(%owner, %file, number, until = at, "certificate has expired"),
        }
    }
}

impl fmt::Display for Aged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, path, number, what, at, .. } = self;
        write!(f, "{owner}: `{}`", path.display())?;
        if let Some(number) = number {
            write!(f, ", certificate {number},")?;
        }
        let words = match what {
            What::NotYet => "is not valid before",
            What::Soon => "expires soon, on",
            What::Expired => "has expired on",
        };
        write!(f, " {words} {}", moment(*at))
    }
}

/// To the second, as certificates have it.
fn moment(time: SystemTime) -> String {
    clock::text(time).replace(".000Z", "Z")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn what_is_said_depends_on_the_time_that_is_left() {
        const DAY: u64 = 86_400;

        let at = |second: u64| UNIX_EPOCH + Duration::from_secs(second);
        let (year, week) = ((1000 * DAY, 1365 * DAY), (1000 * DAY, 1007 * DAY));
        for ((from, until), now, expected, why) in [
            (year, 1000 * DAY - 1, Some(What::NotYet), "it begins later"),
            (year, 1000 * DAY, None, "it is valid from then on, inclusive"),
            (year, 1351 * DAY, None, "14 days are left"),
            (year, 1351 * DAY + 1, Some(What::Soon), "less than 14 days are left"),
            (year, 1365 * DAY, Some(What::Soon), "it is valid until then, inclusive"),
            (year, 1365 * DAY + 1, Some(What::Expired), "it has ended"),
            (week, 1000 * DAY, None, "a short life has just begun"),
            (week, 1005 * DAY, None, "more than a quarter is left"),
            (week, 1006 * DAY, Some(What::Soon), "less than a quarter is left"),
        ] {
            let validity = Validity { from: at(from), until: at(until) };
            let what = What::of(validity, at(now)).map(|(what, _)| what);
            assert_eq!(what, expected, "{now}: {why}");
        }
    }
}
