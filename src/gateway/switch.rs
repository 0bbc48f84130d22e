//! Requests for another protocol on their connection: `Upgrade` in HTTP/1.1 (RFC 9110 §7.8), and WebSocket
//! in HTTP/2 (RFC 8441), which is asked of the upstream as in HTTP/1.1.
//!
//! They go past the cache, to one server and to no other once something was sent. If that begins the
//! protocol, what follows is passed on both ways, unread; any other answer is an answer like others. A
//! request for what the route does not name is one without it.

use std::io;
use std::sync::Arc;

use http::request::Parts;
use http::{Extensions, Method, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tracing::debug;

use crate::body::Body;
use crate::semantics::{CacheStatus, Forward};
use crate::tunnel::{Duplex, Ground, Opened};
use crate::upgrade::{self, Connect, Key, WEBSOCKET};
use crate::upstream::{Content, Failure, Reply};

use super::course::Announced;
use super::{Answer, Gateway, Presented, respond};

/// Makes the request for WebSocket of HTTP/2 (RFC 8441 §4) a `GET`, as it is one in HTTP/1.1.
pub(super) fn as_get(head: &mut Parts) {
    if head.method == Method::CONNECT && connects(head) {
        head.method = Method::GET;
    }
}

/// Whether it asks for WebSocket in HTTP/2.
fn connects(head: &Parts) -> bool {
    head.version == Version::HTTP_2 && head.extensions.get::<Connect>().is_some()
}

impl Gateway {
    /// Whether a client of HTTP/2 is told that it may ask for WebSocket (RFC 8441 §3).
    pub fn offers_websocket(&self) -> bool {
        self.plans.iter().any(|plan| plan.onward.upgrade.iter().any(|it| it == WEBSOCKET))
    }

    /// The protocol that a request asks for, if it asks for one that may be spoken.
    pub(super) fn asked_protocol(
        &self,
        presented: &Presented,
        content: Announced,
    ) -> Option<Box<str>> {
        let allowed = &self.plan(presented).onward.upgrade;
        if connects(&presented.head) {
            return Some(WEBSOCKET.into());
        }
        if allowed.is_empty() || !content.is_none {
            return None;
        }
        let Parts { method, version, headers, .. } = &presented.head;
        upgrade::wanted(method, *version, headers, allowed).map(Into::into)
    }

    /// Asks the upstream for another protocol, and begins it on both connections if it agrees.
    pub(super) fn switch(self: &Arc<Self>, presented: Presented, protocol: Box<str>) -> Answer {
        let gateway = Arc::clone(self);
        Answer::later(async move { gateway.ask_for_protocol(presented, protocol).await })
    }

    async fn ask_for_protocol(
        &self,
        mut presented: Presented,
        protocol: Box<str>,
    ) -> Response<Body> {
        let status =
            CacheStatus { detail: Some("upgrade".into()), ..CacheStatus::forward(Forward::Bypass) };
        let version = presented.head.version;
        if !self.plan(&presented).onward.upgrade.iter().any(|allowed| **allowed == *protocol) {
            return respond::connects(version);
        }
        presented.upgrade = Some(protocol);
        let key = (version == Version::HTTP_2).then(Key::random);
        let fields = || {
            let mut fields = self.upstream_fields(&presented);
            if let Some(key) = &key {
                key.ask(fields.to_mut());
            }
            fields
        };
        let reply = self.forward_with(&presented, &fields, Content::default(), None).await;
        match reply.and_then(|reply| understood(reply, key.as_ref())) {
            Ok(reply) if reply.status() == StatusCode::SWITCHING_PROTOCOLS => {
                self.begin(presented, reply, &status)
            }
            Ok(reply) => respond::passing(presented.coder.as_deref(), reply, &status),
            Err(failure) => respond::failed(&failure, &status),
        }
    }

    /// Answers that the protocol begins, and has what follows passed on.
    fn begin(
        &self,
        mut presented: Presented,
        mut reply: Response<Reply>,
        status: &CacheStatus,
    ) -> Response<Body> {
        let upstream = hyper::upgrade::on(&mut reply);
        let (head, reply) = reply.into_parts();
        let extensions = &mut presented.head.extensions;
        let client = Client::of(extensions).zip(extensions.remove::<Ground>());
        let (Some((client, ground)), Some(protocol)) = (client, &presented.upgrade) else {
            // No connection of a client is without.
            return respond::lost(status);
        };
        let idle_timeout = self.plan(&presented).onward.upgrade_idle_timeout;
        self.route_stats(&presented).upgrades.count();
        self.tasks.spawn(async move {
            // In this order, as the client has it once the response was sent.
            let (Ok(upstream), Some(client)) = (upstream.await, client.stream().await) else {
                return;
            };
            let end = ground.tunnel(client, TokioIo::new(upstream), idle_timeout).await;
            debug!(?end, "tunnel ended");
            // The server has had a request in flight until now.
            drop(reply);
        });
        respond::switched(head, protocol, presented.head.version, status)
    }
}

/// Where a client's side of a tunnel comes from.
enum Client {
    /// A connection of HTTP/1.1.
    Upgrade(OnUpgrade),
    /// A stream of HTTP/2.
    Opened(Opened),
}

impl Client {
    fn of(request: &mut Extensions) -> Option<Self> {
        let upgrade = request.remove().map(Self::Upgrade);
        upgrade.or_else(|| request.remove().map(Self::Opened))
    }

    /// Waits for it. None: it has gone.
    async fn stream(self) -> Option<Box<dyn Duplex>> {
        match self {
            Self::Upgrade(upgrade) => Some(Box::new(TokioIo::new(upgrade.await.ok()?))),
            Self::Opened(opened) => opened.stream().await,
        }
    }
}

/// Whether an answer to a request by HTTP/2 means there what it says.
fn understood(mut reply: Response<Reply>, key: Option<&Key>) -> Result<Response<Reply>, Failure> {
    let Some(key) = key else { return Ok(reply) };
    let checked = match reply.status() {
        StatusCode::SWITCHING_PROTOCOLS => key.check(reply.headers_mut()),
        // RFC 8441 §5: any 2xx would say that WebSocket begins.
        status if status.is_success() => Err("upstream answered as if WebSocket was not asked for"),
        _ => Ok(()),
    };
    checked.map(|()| reply).map_err(|why| Failure::broken(io::Error::other(why)))
}
