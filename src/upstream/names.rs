//! Servers that are named by host name: which addresses that is, looked up again as time goes by.
//!
//! It is the system that is asked, as programs beside Larder are answered by it: `/etc/hosts`, search
//! domains, `nsswitch.conf` and a resolver that caches all count. It does not say for how long an answer
//! holds, so it is asked at an interval, and at once when a server of that name is in trouble. A DNS
//! client of our own would know the time to live, and nothing of the rest.
//!
//! *Not supported:* ports and weights from `SRV` records.

use std::future::{Future, Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tower_service::Service;
use tracing::{info, warn};

use super::group::Group;

/// So many addresses of a name are used.
const MOST: usize = 256;

/// However much trouble there is, a name is not looked up again sooner.
const LEAST: Duration = Duration::from_secs(1);

/// Where a server's connections go. Clones go to the same place.
#[derive(Clone, Debug, Default)]
pub(super) struct Whereto(Option<Arc<Mutex<Box<[SocketAddr]>>>>);

impl Whereto {
    /// To the first of these that takes the connection; they are tried as RFC 8305 has it, those of the
    /// first one's family a little before the others.
    pub(super) fn these(addresses: &[SocketAddr]) -> Self {
        Self(Some(Arc::new(Mutex::new(addresses.into()))))
    }

    /// To these from now on.
    pub(super) fn change(&self, addresses: &[SocketAddr]) {
        if let Some(known) = &self.0 {
            *known.lock().unwrap_or_else(PoisonError::into_inner) = addresses.into();
        }
    }

    /// The address that it is known by; none where the name is looked up for each connection.
    pub(super) fn first(&self) -> Option<SocketAddr> {
        let known = self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        known.first().copied()
    }
}

/// As the connector asks, which knows the name alone.
impl Service<Name> for Whereto {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Looked;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Looked {
        match &self.0 {
            Some(known) => {
                let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                Looked::Known(ready(known.to_vec()))
            }
            None => Looked::ByName(Box::pin(async move {
                Ok(GaiResolver::new().call(name).await?.collect::<Vec<_>>())
            })),
        }
    }
}

/// What a name stands for.
pub(super) enum Looked {
    Known(Ready<Vec<SocketAddr>>),
    ByName(Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>),
}

impl Future for Looked {
    type Output = io::Result<std::vec::IntoIter<SocketAddr>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let looked = match &mut *self {
            Self::Known(known) => Pin::new(known).poll(cx).map(Ok),
            Self::ByName(looked) => looked.as_mut().poll(cx),
        };
        looked.map_ok(Vec::into_iter)
    }
}

/// A host that is looked up; none where it is an address.
pub(super) fn host(url: &Uri) -> Option<&str> {
    let host = url.host()?;
    let is_address = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
    (!is_address).then_some(host)
}

/// The servers that addresses are, each with all that it is reached by, in an order that does not
/// depend on theirs.
///
/// A machine mostly has an address of each family, and often only one of them can be reached from here.
/// So each address of one family is a server, and those of the other stand in, each for one of them, as
/// connections to a single machine always were made. That is the family with more addresses; if they
/// have equally many, that of the first, as the system puts first what it thinks can be reached.
pub(super) fn servers(addresses: &[SocketAddr]) -> Vec<Vec<SocketAddr>> {
    let is_first =
        |it: &SocketAddr| addresses.first().map(SocketAddr::is_ipv4) == Some(it.is_ipv4());
    let (mut own, mut other): (Vec<_>, Vec<_>) = addresses.iter().copied().partition(is_first);
    for list in [&mut own, &mut other] {
        list.sort_unstable();
        list.dedup();
        list.truncate(MOST);
    }
    if other.len() > own.len() {
        std::mem::swap(&mut own, &mut other);
    }
    let stands_in = |place: usize| other.get(place.checked_rem(other.len())?).copied();
    let server =
        |(place, own): (usize, &SocketAddr)| [*own].into_iter().chain(stands_in(place)).collect();
    own.iter().enumerate().map(server).collect()
}

/// The looking up of an upstream's names. Dropping it ends that.
pub(super) struct Lookups(
    #[expect(dead_code, reason = "dropping it is what it is for")] JoinSet<()>,
);

impl Lookups {
    /// One task a name, on this runtime.
    pub(super) fn start(group: &Arc<Group>, period: Duration, runtime: &Handle) -> Self {
        let mut lookups = JoinSet::new();
        for place in group.named() {
            lookups.spawn_on(follow(Arc::clone(group), place, period), runtime);
        }
        Self(lookups)
    }
}

/// Looks a name up, again and again.
async fn follow(group: Arc<Group>, place: usize, period: Duration) {
    let Some(server) = group.configured(place).map(|it| &it.url) else { return };
    let Some(host) = host(server) else { return };
    let (upstream, port) = (group.name(), port(server));
    let mut looks = interval(period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = group.trouble(place) => looks.reset(),
        }
        let found = match tokio::net::lookup_host((host, port)).await {
            Ok(found) => Ok(found.collect::<Vec<_>>()).map(|found| servers(&found)),
            Err(error) => Err(error.to_string()),
        };
        let found = match &found {
            Ok(found) if found.is_empty() => Err("the name has no address".to_owned()),
            Ok(found) => Ok(found.as_slice()),
            Err(error) => Err(error.clone()),
        };
        let why = found.as_ref().err().cloned();
        if why.is_some() {
            // As long as it is not found, nobody may be asked.
            looks.reset_immediately();
        }
        match (group.looked_up(place, found), why) {
            (Some(_), Some(error)) => {
                warn!(%upstream, %server, error, "name cannot be looked up");
            }
            (Some(_), None) => info!(%upstream, %server, "name can be looked up again"),
            (None, _) => {}
        }
        sleep(LEAST).await;
    }
}

fn port(url: &Uri) -> u16 {
    let default = if url.scheme_str() == Some("https") { 443 } else { 80 };
    url.port_u16().unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_servers() {
        for (addresses, expected, why) in [
            ("", "", "there is none"),
            ("1.1.1.2:80 1.1.1.1:80", "1.1.1.1:80 | 1.1.1.2:80", "each is one"),
            ("1.1.1.2:80 1.1.1.1:80 1.1.1.2:80", "1.1.1.1:80 | 1.1.1.2:80", "each once"),
            ("[::1]:80 127.0.0.1:80", "[::1]:80 127.0.0.1:80", "it is one machine"),
            ("127.0.0.1:80 [::1]:80", "127.0.0.1:80 [::1]:80", "the system's choice is first"),
            (
                "1.1.1.1:80 1.1.1.2:80 [::1]:80 [::2]:80",
                "1.1.1.1:80 [::1]:80 | 1.1.1.2:80 [::2]:80",
                "each has one to stand in",
            ),
            (
                "[::3]:80 [::2]:80 [::1]:80 1.1.1.1:80",
                "[::1]:80 1.1.1.1:80 | [::2]:80 1.1.1.1:80 | [::3]:80 1.1.1.1:80",
                "one stands in for several",
            ),
            (
                "[::1]:80 1.1.1.1:80 1.1.1.2:80",
                "1.1.1.1:80 [::1]:80 | 1.1.1.2:80 [::1]:80",
                "no server is lost",
            ),
        ] {
            let addresses: Vec<_> =
                addresses.split_whitespace().map(|it| it.parse().unwrap()).collect();
            let texts = |list: &Vec<SocketAddr>| {
                list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            };
            let found = servers(&addresses).iter().map(texts).collect::<Vec<_>>().join(" | ");
            assert_eq!(found, expected, "{why}");
        }
    }

    #[test]
    fn names_are_not_addresses() {
        for (url, expected) in [
            ("http://127.0.0.1:3000", None),
            ("http://[::1]", None),
            ("https://api.example", Some("api.example")),
            ("http://localhost:3000", Some("localhost")),
            ("http://API_1:80", Some("API_1")),
        ] {
            assert_eq!(host(&url.parse().unwrap()), expected, "{url}");
        }
        assert_eq!(port(&"https://a".parse().unwrap()), 443);
        assert_eq!(port(&"http://a:8".parse().unwrap()), 8);
    }
}
