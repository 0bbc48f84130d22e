//! Three `larder run` before an origin, each with a way of its own to one Redis; and what can befall them.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::origin::Origin;
use crate::support::gateway::{FLEET, Gateway};
use crate::support::program::Running;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;

pub(crate) const GATEWAYS: usize = 3;

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) cache_status: String,
    pub(crate) body: Bytes,
}

/// A gateway, if it runs.
pub(crate) struct Slot {
    text: String,
    running: Option<Running>,
    pub(crate) is_paused: bool,
    /// How often it was started.
    pub(crate) life: u32,
    pub(crate) way: Proxy,
}

pub(crate) struct Stage {
    pub(crate) redis: Redis,
    pub(crate) origin: Origin,
    pub(crate) gateways: Vec<Slot>,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        let (redis, origin) = (Redis::start(), Origin::start().await);
        let mut gateways = Vec::new();
        for number in 0..GATEWAYS {
            let way = Proxy::before(&redis).await;
            let text = Gateway::setup_before(&[origin.url()])
                .server(&format!("workers = 1\nname = \"{}\"", name(number)))
                .cache("[cache]\nmax_lag = \"1s\"")
                .l2(&way.url(), "timeout = \"50ms\"")
                .upstream("timeout = \"60s\"")
                .text();
            let mut slot = Slot { text, running: None, is_paused: false, life: 0, way };
            slot.start().await;
            gateways.push(slot);
        }
        Self { redis, origin, gateways }
    }

    /// Those that answer.
    pub(crate) fn awake(&self) -> Vec<usize> {
        let all = self.gateways.iter().enumerate();
        all.filter(|(_, gateway)| gateway.is_awake()).map(|(at, _)| at).collect()
    }
}

/// What the fleet knows a gateway by.
pub(crate) fn name(gateway: usize) -> String {
    format!("gateway-{gateway}")
}

impl Slot {
    pub(crate) fn is_awake(&self) -> bool {
        self.running.is_some() && !self.is_paused
    }

    pub(crate) async fn start(&mut self) {
        self.running = Some(Running::with(&self.text).await);
        self.life += 1;
    }

    /// By this signal.
    pub(crate) async fn end(&mut self, signal: &str) {
        if let Some(running) = self.running.take() {
            running.signal(signal);
            running.exit_code().await;
        }
    }

    pub(crate) async fn pause(&mut self) {
        self.running().pause().await;
        self.is_paused = true;
    }

    /// Lets it go on, and waits until it knows how long it stood still.
    pub(crate) async fn go_on(&mut self) {
        self.running().signal("CONT");
        self.is_paused = false;
        loop {
            let l2 = &self.stats().await.unwrap()["store"]["l2"];
            let is_behind = l2["log_lag_seconds"].as_f64().unwrap() > 1.0;
            if !is_behind || l2["log_lag_passed"] == true {
                return;
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running().address()
    }

    pub(crate) async fn stats(&self) -> Option<Value> {
        self.admin("GET", "/stats", "").await.map(|(_, stats)| stats)
    }

    /// A call to the admin listener.
    pub(crate) async fn admin(
        &self,
        method: &str,
        target: &str,
        body: &str,
    ) -> Option<(u16, Value)> {
        let answer = ask(self.running().admin(), method, target, body).await?;
        Some((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }
}

/// No response takes longer, but for those of a gateway that stands still.
const PATIENCE: Duration = Duration::from_mins(1);

/// The response to a request, over a connection of its own; `None` if none came, or not all of it.
pub(crate) async fn ask(to: SocketAddr, method: &str, target: &str, body: &str) -> Option<Answer> {
    tokio::time::timeout(PATIENCE, exchange(to, method, target, body)).await.ok()?
}

async fn exchange(to: SocketAddr, method: &str, target: &str, body: &str) -> Option<Answer> {
    let host = if target.starts_with("/p/") { FLEET.to_owned() } else { to.to_string() };
    let stream = TokioIo::new(TcpStream::connect(to).await.ok()?);
    let (mut sender, connection) = http1::handshake(stream).await.ok()?;
    let running = tokio::spawn(async move {
        let _broken = connection.await;
    });
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", host)
        .header("content-type", "application/json")
        .body(Full::<Bytes>::from(body.to_owned()))
        .unwrap();
    let response = sender.send_request(request).await.ok()?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    running.abort();
    let field = head.headers.get("cache-status").and_then(|field| field.to_str().ok());
    let cache_status = field.unwrap_or_default().to_owned();
    Some(Answer { status: head.status.as_u16(), cache_status, body })
}
