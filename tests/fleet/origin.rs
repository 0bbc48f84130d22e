//! An origin whose resources have versions: a write makes the next one, and each response tells which it
//! is. It can be slow: then it has read its version before it waits.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How many resources there are.
pub(crate) const RESOURCES: usize = 8;

/// How many tags they have among them, one each.
pub(crate) const TAGS: usize = 3;

/// How slow a response is at most.
const LONGEST: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    versions: [AtomicU64; RESOURCES],
    slow: [Mutex<Option<watch::Receiver<bool>>>; RESOURCES],
}

pub(crate) struct Origin {
    url: String,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

impl Origin {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&state), request));
                    // Gateways are killed.
                    let _ended =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { url, state, _serving: serving }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn version(&self, resource: usize) -> u64 {
        self.state.versions[resource].load(Ordering::SeqCst)
    }

    /// What was not written through any gateway.
    pub(crate) fn change(&self, resource: usize) {
        self.state.versions[resource].fetch_add(1, Ordering::SeqCst);
    }

    /// The next response waits until `true` is sent, or this is dropped.
    pub(crate) fn hold(&self, resource: usize) -> watch::Sender<bool> {
        let (release, gate) = watch::channel(false);
        *self.state.slow[resource].lock().unwrap() = Some(gate);
        release
    }
}

/// Where a resource is.
pub(crate) fn target(resource: usize) -> String {
    format!("/p/{resource}")
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let _broken = body.collect().await;
    let resource = head.uri.path().trim_start_matches("/p/").parse().unwrap_or(0_usize);
    let version = &state.versions[resource];
    if head.method == Method::PUT {
        version.fetch_add(1, Ordering::SeqCst);
        return Ok(Response::builder().status(204).body(Full::default()).unwrap());
    }
    let version = version.load(Ordering::SeqCst);
    let gate = state.slow[resource].lock().unwrap().take();
    if let Some(mut gate) = gate {
        let released = gate.wait_for(|is_released| *is_released);
        // Over, or dropped.
        let _either = tokio::time::timeout(LONGEST, released).await;
    }
    let tag = format!("\"{resource}-{version}\"");
    let is_known = head.headers.get("if-none-match").is_some_and(|known| known == tag.as_str());
    let response = Response::builder()
        .header("cache-control", "max-age=600")
        .header("cache-tag", format!("t{}", resource % TAGS))
        .header("etag", tag);
    let (status, body) = if is_known { (304, String::new()) } else { (200, version.to_string()) };
    Ok(response.status(status).body(Full::from(body)).unwrap())
}
