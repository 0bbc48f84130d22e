//! Who issues tokens whose keys are at a URL: the keys are fetched when the gateway starts, and again and again.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::config::JwksUrl;
use crate::token::{Learned, Reader};
use crate::upstream::{Content, Outgoing, Unusable, Upstream};

/// A longer JWK Set is none.
const LONGEST: usize = 256 << 10;

/// A fetch that failed is tried again after so long, and then twice as long each time…
const AGAIN: Duration = Duration::from_secs(1);

/// … but never later than this.
const AT_LATEST: Duration = Duration::from_mins(1);

/// Tokens that name keys which are not known have them fetched no more often than this: anybody can make one.
const NO_MORE_OFTEN: Duration = Duration::from_secs(30);

/// One of them. Dropping it ends the fetching.
pub(super) struct Issuer {
    reader: Arc<Reader>,
    upstream: Arc<Upstream>,
    fetching: OnceLock<AbortOnDropHandle<()>>,
}

impl Issuer {
    /// Of this reader, if it has its keys from a URL. Nothing is fetched yet.
    ///
    /// # Errors
    /// The authorities cannot be used.
    pub(super) fn of(reader: &Arc<Reader>) -> Result<Option<Self>, Unusable> {
        let Some(url) = reader.url() else { return Ok(None) };
        let upstream = Arc::new(Upstream::new(&url.server)?);
        Ok(Some(Self { reader: Arc::clone(reader), upstream, fetching: OnceLock::new() }))
    }

    /// Fetches from now on. The second time that is said changes nothing.
    pub(super) fn begin(&self, runtime: &Handle, clock: Clock) {
        self.fetching.get_or_init(|| {
            self.upstream.look_after(runtime);
            let fetching = fetch(Arc::clone(&self.reader), Arc::clone(&self.upstream), clock);
            AbortOnDropHandle::new(runtime.spawn(fetching))
        });
    }
}

async fn fetch(reader: Arc<Reader>, upstream: Arc<Upstream>, clock: Clock) {
    let Some(url) = reader.url() else { return };
    let mut failures = 0;
    let mut asked_for: Option<Instant> = None;
    loop {
        let learned = reader.learn(set(&upstream, url).await, clock.now());
        let jwt = reader.name();
        match &learned {
            Ok(Learned::Keys(keys)) => info!(jwt, %url, keys, "keys of tokens fetched"),
            Ok(Learned::Nothing) if failures > 0 => {
                info!(jwt, %url, "keys of tokens can be fetched again");
            }
            Err(error) if failures == 0 => {
                warn!(jwt, %url, error, "keys of tokens cannot be fetched: those from before stay, if there are any");
            }
            Ok(Learned::Nothing) | Err(_) => {}
        }
        failures = if learned.is_ok() { 0 } else { failures + 1 };
        let pause = match failures {
            0 => url.refresh,
            failures => (AGAIN * (1 << (failures - 1).min(6))).min(AT_LATEST).min(url.refresh),
        };
        let lacking = async {
            reader.lacks().await;
            if let Some(before) = asked_for {
                sleep_until(before + NO_MORE_OFTEN).await;
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = lacking => asked_for = Some(Instant::now()),
        }
    }
}

/// The JWK Set as it is now, or why it is not to be had.
async fn set(upstream: &Upstream, url: &JwksUrl) -> Result<Bytes, String> {
    let lines = [
        (ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json")),
        (USER_AGENT, HeaderValue::from_static("larder-keys")),
    ];
    let fields = || HeaderMap::from_iter(lines.clone()).into();
    let outgoing = Outgoing {
        method: &Method::GET,
        target: Some(&url.target),
        authority: "",
        fields: &fields,
        content: Content::default(),
        interim: None,
        key: None,
        upgrade: None,
    };
    let response = upstream.send(&outgoing).await.map_err(|failure| failure.in_full())?;
    if response.status() != StatusCode::OK {
        return Err(format!("it answered {}", response.status().as_u16()));
    }
    let set = response.into_body().ahead(LONGEST).await;
    set.ok_or_else(|| "its answer is longer than 256 KiB, or did not come whole".to_owned())
}
