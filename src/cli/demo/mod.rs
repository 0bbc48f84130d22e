//! `larder demo`: the gateway before a small API that it brings along, and a tour of both.
//!
//! Nothing else has to be installed: the API runs in this process, and there is no L2. The routes
//! are those of the repository's `gateway.toml`; its addresses are taken, or free ones in their
//! place. What there is to see is `tour`'s.

mod client;
mod compare;
mod shop;

pub mod api;
pub mod tour;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use http::Uri;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::Clock;
use crate::config::{Draft, Faults, Listener, Upstream, UpstreamServer};
use crate::service::{Assembly, Listeners, NotStarted, Service};
use crate::telemetry::with_causes;

use self::api::Api;
use self::tour::{Summary, TourError};
use super::run::{Signals, drain, on_control_runtime};
use super::{Exit, say};

/// The configuration, by its name in the repository.
const FILE: &str = "gateway.toml";
const GATEWAY_TOML: &str = include_str!("../../../gateway.toml");
/// Where the API listens when the configuration names no address of this machine.
const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3000);
/// How long the API's last connections may take to end.
const DRAIN: Duration = Duration::from_secs(2);

/// Starts the API and the gateway, leads through them, and, unless it is to be done `once`, serves
/// on until a signal.
pub fn demo(once: bool, out: &mut (dyn Write + Send), err: &mut dyn Write) -> Exit {
    on_control_runtime(err, async |signals, err| {
        let demo = match Demo::start(example(), out).await {
            Ok(demo) => demo,
            // What cannot be written is told in the end.
            Err(DemoError::Output(_)) => return Exit::Done,
            Err(error) => return say(err, Exit::Failed, &with_causes(&error)),
        };
        let shown = tokio::select! {
            shown = demo.tour(out) => Some(shown),
            () = signals.next() => None,
        };
        let shown = match shown {
            Some(Ok(_)) if once => Exit::Done,
            Some(Ok(_)) => {
                let said = say(out, Exit::Done, "\nCtrl-C ends it.");
                signals.next().await;
                said
            }
            Some(Err(TourError::Output(_))) | None => Exit::Done,
            Some(Err(error)) => say(err, Exit::Failed, &with_causes(&error)),
        };
        match (shown, demo.end(signals).await) {
            (Exit::Done, ended) => ended,
            (failed, _) => failed,
        }
    })
}

/// The repository's example. The environment has no part in it: what is set for a gateway of one's
/// own would lead elsewhere.
fn example() -> Draft {
    Draft::parse(GATEWAY_TOML, FILE, Path::new(""), &|_| None)
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Neither the wanted port nor a free one.
    #[error("`{address}` cannot be listened on for {role}")]
    Listen {
        /// For what.
        role: &'static str,
        /// The address that was wanted.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        cause: io::Error,
    },
    /// The configuration has faults.
    #[error("{0}")]
    Faulty(Faults),
    /// The gateway did not start.
    #[error("the gateway did not start")]
    Gateway(#[from] NotStarted),
    /// The demo's own output.
    #[error("the demo cannot print")]
    Output(#[from] io::Error),
}

/// The gateway and the API behind it, both running. Dropping it ends the API and leaves the
/// gateway's connections to their runtime; [`Demo::end`] drains both.
pub struct Demo {
    api: Api,
    service: Service,
    token: Option<String>,
    end: DropGuard,
}

impl Demo {
    /// Starts what `draft` describes, with three changes: every upstream is the demo's API,
    /// addresses that are in use give way to free ones (which is said on `out`), and there is no
    /// L2. Must be called on the control runtime.
    pub async fn start(mut draft: Draft, out: &mut (dyn Write + Send)) -> Result<Self, DemoError> {
        let config = &mut draft.config;
        // The API forgets everything when it ends; what Redis kept of an earlier demo would be
        // wrong.
        config.cache.l2 = None;
        config.cache.disk = None;
        // Nor are certificates at hand for what a tour asks in cleartext.
        config.server.more.clear();
        config.server.listener = Listener::on(config.server.listener.listen);
        let api = listen("the API", wanted_for_api(&config.upstreams), out).await?;
        let shutdown = CancellationToken::new();
        let end = shutdown.clone().drop_guard();
        let api = api::serve(api, shutdown)?;
        point_at(&mut config.upstreams, api.address());

        let clients = listen("the gateway", config.server.listener.listen, out).await?;
        let operators = match &config.admin {
            Some(admin) => Some(listen("the admin listener", admin.listen, out).await?),
            None => None,
        };
        let token = config.admin.as_ref().and_then(|admin| admin.token.clone());
        let assembly = Assembly::new(draft, FILE).map_err(DemoError::Faulty)?;
        let service = assembly.start(Listeners::open(vec![clients], operators), Clock::System)?;
        Ok(Self { api, service, token, end })
    }

    /// Leads through it, printing to `out`.
    pub async fn tour(&self, out: &mut (dyn Write + Send)) -> Result<Summary, TourError> {
        let gateway = reachable(self.service.address());
        let admin = self.service.admin_address().map(reachable);
        tour::tour(gateway, admin, self.token.as_deref(), self.api.address(), out).await
    }

    /// Drains the gateway, then the API.
    async fn end(self, signals: &mut Signals) -> Exit {
        let drained = drain(self.service, signals).await;
        drop(self.end);
        if tokio::time::timeout(DRAIN, self.api.ended()).await.is_err() {
            tracing::warn!("the demo's API ends with connections open");
        }
        drained
    }
}

/// Listens on `wanted`, or on any free port of the same address when that one is taken; says so.
async fn listen(
    role: &'static str,
    wanted: SocketAddr,
    out: &mut (dyn Write + Send),
) -> Result<TcpListener, DemoError> {
    let refused = |cause| DemoError::Listen { role, address: wanted, cause };
    match TcpListener::bind(wanted).await {
        Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => {
            let free = SocketAddr::new(wanted.ip(), 0);
            let listener = TcpListener::bind(free).await.map_err(refused)?;
            let port = listener.local_addr().map_err(refused)?.port();
            writeln!(out, "{wanted} is in use; {role} takes port {port} instead.")?;
            Ok(listener)
        }
        bound => bound.map_err(refused),
    }
}

/// The address of the first server that the configuration names, if it is a loopback address. The
/// demo's API must not be reachable from elsewhere.
fn wanted_for_api(upstreams: &[Upstream]) -> SocketAddr {
    let first = upstreams.iter().flat_map(|upstream| &upstream.servers).next();
    first.and_then(|server| loopback(&server.url)).unwrap_or(API)
}

fn loopback(server: &Uri) -> Option<SocketAddr> {
    let host = server.host()?.trim_matches(['[', ']']);
    let ip = match host {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().ok()?,
    };
    ip.is_loopback().then(|| SocketAddr::new(ip, server.port_u16().unwrap_or(API.port())))
}

/// Makes the API the only server of every upstream.
fn point_at(upstreams: &mut [Upstream], api: SocketAddr) {
    let server: Uri = format!("http://{api}").parse().expect("an address is an authority");
    for upstream in upstreams {
        upstream.servers = vec![UpstreamServer::new(server.clone())];
    }
}

/// Where a client on this machine finds a listener: the unspecified address is no destination.
fn reachable(mut listener: SocketAddr) -> SocketAddr {
    match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listener.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listener.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listener
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_stays_on_this_machine() {
        for (server, wanted) in [
            ("http://127.0.0.1:3000", Some("127.0.0.1:3000")),
            ("http://localhost:4000", Some("127.0.0.1:4000")),
            ("http://[::1]:4000", Some("[::1]:4000")),
            ("http://127.0.0.1", Some("127.0.0.1:3000")),
            ("http://192.0.2.1:3000", None),
            ("http://0.0.0.0:3000", None),
            ("http://api.example:3000", None),
        ] {
            let wanted = wanted.map(|it| it.parse().unwrap());
            assert_eq!(loopback(&server.parse().unwrap()), wanted, "{server}");
        }
    }

    #[test]
    fn an_unspecified_address_is_reached_by_loopback() {
        for (listener, address) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("127.0.0.2:80", "127.0.0.2:80"),
        ] {
            assert_eq!(reachable(listener.parse().unwrap()), address.parse().unwrap());
        }
    }

    #[tokio::test]
    async fn the_example_is_led_through() {
        let mut example = example();
        example.config.server.listener.listen.set_port(0);
        example.config.admin.as_mut().unwrap().listen.set_port(0);
        point_at(&mut example.config.upstreams, "127.0.0.1:0".parse().unwrap());
        // A busy machine is given time: what a policy does not answer is no hit.
        let policies = example.config.policies.iter_mut();
        policies.for_each(|policy| policy.time = Duration::from_secs(10));
        let mut out = Vec::new();
        let demo = Demo::start(example, &mut out).await.unwrap();
        let summary = demo.tour(&mut out).await;
        let text = String::from_utf8(out).unwrap();
        let summary = summary.unwrap_or_else(|error| panic!("{}\n{text}", with_causes(&error)));
        assert!(summary.fresh_after_write && summary.offers_kept_apart, "{text}");
        assert_eq!((summary.requests, summary.hits), (16, 5), "{text}");
        let measured = summary.through_gateway;
        assert!(measured.hits > 0 && measured.other == 0, "{text}");
        assert!(demo.api.reads() < measured.reads, "{text}");
        let wide = text.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "a line is wider than 80 columns");
        assert_eq!(demo.end(&mut Signals::new().unwrap()).await, Exit::Done);
    }

    #[tokio::test]
    async fn a_taken_port_gives_way_to_a_free_one_and_is_named() {
        let mut out = Vec::new();
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wanted = taken.local_addr().unwrap();
        let other = listen("the API", wanted, &mut out).await.unwrap().local_addr().unwrap();
        assert_eq!(other.ip(), wanted.ip());
        assert_ne!(other.port(), wanted.port());
        let said = format!("{wanted} is in use; the API takes port {} instead.\n", other.port());
        assert_eq!(String::from_utf8(out).unwrap(), said);
    }
}
