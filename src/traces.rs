//! Spans of requests: which trace a request belongs to (W3C Trace Context), and its spans on their way to
//! a collector, by OTLP over HTTP as JSON.
//!
//! The crates for this would bring a second HTTP client or gRPC, and their own notion of what runs; what
//! there is to tell is one span of a request and a few below it, and its form is stable and short. `context`
//! reads and writes `traceparent`, `span` is that form.

mod context;
mod span;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config;
use crate::stats::Stats;

pub use self::context::{Context, TRACEPARENT, random, trace_of};
pub use self::span::{Kind, Span, Value};

/// So many spans are told at once.
const MOST: usize = 512;

/// So long others are waited for that may go with the first.
const GATHERING: Duration = Duration::from_millis(200);

/// So long a collector may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A collector's answer is not longer than this, and if it is, nobody reads it.
const LONGEST_ANSWER: usize = 64 << 10;

/// Where spans go.
pub struct Tracer {
    share: f64,
    spans: mpsc::Sender<Span>,
    stats: Arc<Stats>,
}

/// The task that tells them.
pub struct Exporter {
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Tracer {
    /// Begins to tell spans, on the runtime that this is called on.
    pub fn start(config: &config::Tracing, stats: Arc<Stats>) -> (Arc<Self>, Exporter) {
        let (sender, spans) = mpsc::channel(config.buffer);
        let end = CancellationToken::new();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let telling =
            Telling { client, target: config.otlp.clone(), service: config.service.clone() };
        let running = telling.run(spans, end.clone(), Arc::clone(&stats));
        let task = TaskTracker::new().spawn(running);
        let tracer = Arc::new(Self { share: config.ratio, spans: sender, stats });
        (tracer, Exporter { end, task })
    }

    /// What share of the traces that begin here are told.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// A span that has ended. It is dropped if too many wait.
    pub fn tell(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.stats.spans.dropped.count();
        }
    }
}

impl Exporter {
    /// Tells what is left. It may take as long as the collector does.
    pub async fn end(self) {
        self.end.cancel();
        drop(self.task.await);
    }
}

struct Telling {
    client: Client<HttpConnector, Full<Bytes>>,
    target: Uri,
    service: String,
}

impl Telling {
    async fn run(self, mut spans: mpsc::Receiver<Span>, end: CancellationToken, stats: Arc<Stats>) {
        let mut is_failing = false;
        let mut batch = Vec::new();
        loop {
            let is_ending = tokio::select! {
                count = spans.recv_many(&mut batch, MOST) => count == 0,
                () = end.cancelled() => true,
            };
            if !is_ending && batch.len() < MOST {
                tokio::select! {
                    () = sleep(GATHERING) => {}
                    () = end.cancelled() => {}
                }
            }
            while batch.len() < MOST
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            let count = batch.len() as u64;
            match self.send(span::document(&self.service, &batch)).await {
                Ok(()) => {
                    stats.spans.written.add(count);
                    if is_failing {
                        info!("the collector takes spans again");
                    }
                    is_failing = false;
                }
                Err(error) => {
                    stats.spans.dropped.add(count);
                    if !is_failing {
                        warn!(%error, target = %self.target, "the collector takes no spans");
                    }
                    is_failing = true;
                }
            }
            batch.clear();
        }
    }

    async fn send(&self, document: String) -> io::Result<()> {
        let mut request = Request::new(Full::new(Bytes::from(document)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        let exchange = async {
            let response = self.client.request(request).await.map_err(io::Error::other)?;
            let status = response.status();
            // Read to its end, so that the connection can be used again.
            let body = http_body_util::Limited::new(response.into_body(), LONGEST_ANSWER);
            drop(body.collect().await);
            if status.is_success() {
                Ok(())
            } else {
                Err(io::Error::other(format!("it answers {}", status.as_u16())))
            }
        };
        timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}
