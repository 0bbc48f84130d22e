//! Requests of a log take the steps of requests: the same routes, policies, keys and rules, and the same
//! L1, by the clock of the log. Nothing is sent anywhere: what answered then is what answers now, as far
//! as the log tells.
//!
//! [`Gateway::consider`] is what comes before an upstream is asked, [`Gateway::settle`] what follows.
//!
//! # Not replayed
//!
//! - A content of a request: what asks by it (`QUERY`, and `POST` where the route grants that) is counted
//!   as [`Way::Unknown`]. Nor do policies see any content.
//! - Requests do not overlap, so none waits for another's response.
//! - What a conditional request to the upstream would have spared: each is a whole response.
//! - Parts: a 206 is not stored. A response to `POST` is not stored for `GET`.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::oneshot;

use crate::semantics::{self, CacheStatus, Combined, Forward, NotStored, Times};
use crate::stored::CacheKey;

use super::course::{Announced, Course};
use super::fetch::Fetch;
use super::key::{Key, Keyed};
use super::look::{Looked, Missing};
use super::notable::Notable;
use super::partial::Sought;
use super::presented::{Received, authority};
use super::shown::Source;
use super::{Gateway, Peer, Presented, respond};

thread_local! {
    /// Contents are not in a log: all are parts of this one, which nobody reads. Memory that is zero and
    /// was never written to takes up none.
    static BLANK: RefCell<Bytes> = RefCell::default();
}

/// What a log tells of a content: nothing. A `GET` has none as a rule.
const UNKNOWN: Announced = Announced { at_least: 0, is_none: true };

/// Which way a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// No route takes it, or none can send it on; it is answered with this status.
    Unrouted(StatusCode),
    /// No gateway takes it, for this reason.
    Malformed(&'static str),
    /// What is stored answers it.
    Hit {
        /// And is stale, so that another request validates it.
        is_stale: bool,
    },
    /// What is stored does not answer it.
    Miss(Forward),
    /// A policy has it go past the cache, for this reason.
    Bypass(Arc<str>),
    /// A policy has failed, and its route fails with it: answered 500.
    Failed,
    /// No cache may answer it.
    Passed(Forward),
    /// It asks by its content, which the log does not have.
    Unknown,
}

/// A request, and which way it goes.
pub struct Considered {
    way: Way,
    asked: Option<Asked>,
}

/// A request that a route takes.
struct Asked {
    presented: Presented,
    key: Option<Key>,
    missing: Missing,
}

/// What the answer to a request has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Whether it is stored, if it could have been.
    pub stored: Option<Result<(), NotStored>>,
    /// How many records say what it made wrong.
    pub invalidations: Option<usize>,
}

impl Considered {
    fn unrouted(way: Way) -> Self {
        Self { way, asked: None }
    }

    /// Which way it goes.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// Its route, by its place in the configuration.
    pub fn route(&self) -> Option<usize> {
        self.asked.as_ref().map(|asked| asked.presented.place)
    }

    /// What its response is found by.
    pub fn key(&self) -> Option<&CacheKey> {
        self.asked.as_ref()?.key.as_ref().map(|key| &key.hash)
    }

    /// The readable name of that.
    pub fn name(&self) -> Option<Box<str>> {
        let Asked { presented, key, .. } = self.asked.as_ref()?;
        key.as_ref().map(|key| key.name(presented))
    }
}

impl Gateway {
    /// Which way a request goes at this time of the clock. Its head has a `Host`; the scheme is `http` or
    /// `https`.
    pub async fn consider(&self, mut head: Parts, scheme: &'static str) -> Considered {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let peer = Peer {
            address,
            scheme,
            redirect: None,
            certificate: None,
            interims: None,
            notes: None,
        };
        let notable = Notable::of(&head.headers);
        let read = self.unambiguous(&mut head, notable);
        let received = match read.and_then(|()| authority(&head, scheme)) {
            Ok(authority) => Received { authority, notable },
            Err(why) => return Considered::unrouted(Way::Malformed(why)),
        };
        let place = match self.place(&received.authority, &head, &peer) {
            Ok(place) => place,
            Err(refusal) => return Considered::unrouted(Way::Unrouted(refusal.status())),
        };
        let mut presented = self.presented(place, head, received, peer);
        let (way, key, missing) = self.way_of(&mut presented).await;
        Considered { way, asked: Some(Asked { presented, key, missing }) }
    }

    async fn way_of(&self, presented: &mut Presented) -> (Way, Option<Key>, Missing) {
        let nothing = |way| (way, None, Missing::NOTHING);
        match self.course(presented, UNKNOWN) {
            Course::Cache => {}
            Course::Query | Course::AskByPost => return nothing(Way::Unknown),
            Course::Pass(why) => {
                return nothing(self.refused(presented, why).unwrap_or(Way::Passed(why)));
            }
            Course::Purge(_) => return nothing(Way::Passed(Forward::Method)),
            Course::Switch(_) => return nothing(Way::Passed(Forward::Bypass)),
            Course::Refuse(refusal) => return nothing(Way::Unrouted(refusal.status())),
        }
        let keyed = match self.known_key(presented) {
            Some(keyed) => keyed,
            None => self.ask_key(presented).await,
        };
        let key = match keyed {
            Keyed::Key(key) => key,
            Keyed::Bypass(reason) => {
                let refused = self.refused(presented, Forward::Bypass);
                return nothing(refused.unwrap_or(Way::Bypass(reason)));
            }
            Keyed::Failed => return nothing(Way::Failed),
        };
        match self.look_in_l1(presented, &key) {
            Looked::Serve { .. } => (Way::Hit { is_stale: false }, Some(key), Missing::NOTHING),
            Looked::ServeStale { stored, .. } => {
                let missing = Missing { stale: Some(stored), ..Missing::NOTHING };
                (Way::Hit { is_stale: true }, Some(key), missing)
            }
            Looked::Forward(missing) => match self.narrow(presented, &key) {
                Ok(()) => match self.refused(presented, missing.why) {
                    Some(refused) => nothing(refused),
                    None => (Way::Miss(missing.why), Some(key), missing),
                },
                Err(_) => nothing(Way::Bypass("query-rewritten".into())),
            },
        }
    }

    /// Which way a request goes whose target cannot be sent.
    fn refused(&self, presented: &Presented, why: Forward) -> Option<Way> {
        let failure = self.unsendable(presented)?;
        let refusal = respond::failed(&failure, &CacheStatus::forward(why));
        Some(Way::Unrouted(refusal.status()))
    }

    /// What the answer to a considered request changes: it is stored, or invalidates. `length` is how many
    /// octets its content had.
    pub async fn settle(
        self: &Arc<Self>,
        considered: Considered,
        status: StatusCode,
        fields: HeaderMap,
        length: usize,
    ) -> Replayed {
        let Considered { way, asked: Some(asked) } = considered else {
            return Replayed::default();
        };
        match (way, asked) {
            (Way::Miss(_) | Way::Hit { is_stale: true }, asked) => {
                let stored = self.keep_replayed(asked, status, fields, length).await;
                Replayed { stored, invalidations: None }
            }
            (Way::Passed(Forward::Method), Asked { presented, .. })
                if semantics::invalidates(&presented.head.method, status) =>
            {
                let wrong = self.made_wrong(&presented, status, &fields, None).await;
                let invalidations = Some(wrong.len());
                self.store.invalidate(wrong).await;
                Replayed { stored: None, invalidations }
            }
            _ => Replayed::default(),
        }
    }

    /// Stores an answer, as the fetch would that brought it.
    async fn keep_replayed(
        self: &Arc<Self>,
        asked: Asked,
        status: StatusCode,
        fields: HeaderMap,
        length: usize,
    ) -> Option<Result<(), NotStored>> {
        let Asked { presented, key, missing } = asked;
        let key = key?;
        let (lead, _seat) = self.collapse.alone(key.hash, 0);
        let (mine, _alone) = oneshot::channel();
        let times = Times { requested: presented.now, received: presented.now };
        let fetch = Fetch {
            gateway: Arc::clone(self),
            sought: Sought::whole(missing.stale.clone(), missing.variants),
            presented: Arc::new(presented),
            key,
            lease: self.store.lease(),
            lead,
            turn: None,
            apart: None,
            mine,
        };
        if fetch.presented.head.method == Method::HEAD {
            let version = fetch.presented.head.version;
            let updated = fetch.heard(status, &fields, version, &times).await;
            return Some(if updated { Ok(()) } else { Err(NotStored::Method) });
        }
        let storing = if length > fetch.plan().max_body {
            Err(NotStored::TooLarge)
        } else {
            fetch.storing(status, &fields, Source::Elsewhere, &times).await
        };
        let storing = match storing {
            Ok(_) if fetch.may_not_replace(status) => return Some(Err(NotStored::Trouble)),
            Ok(storing) => storing,
            Err(why) => {
                let asked = fetch.asked();
                if let Some(stale) =
                    missing.stale.filter(|_| semantics::supersedes(&asked, status, why))
                {
                    fetch.withdraw(&stale, false).await;
                }
                return Some(Err(why));
            }
        };
        let (fields, nominated) = fetch.to_store(fields, &storing)?;
        let content = Combined::Whole(blank(length));
        let put = fetch.put(status, &fields, content, storing, &nominated, None)?;
        Some(if put.kept { Ok(()) } else { Err(NotStored::TooLarge) })
    }

    /// What a route's path captured of this one.
    pub fn captured<'a>(&'a self, considered: &'a Considered) -> Vec<(&'a str, &'a str)> {
        considered.asked.as_ref().map_or_else(Vec::new, |asked| self.captures(&asked.presented))
    }
}

/// A content of this length.
fn blank(length: usize) -> Bytes {
    BLANK.with_borrow_mut(|whole| {
        if whole.len() < length {
            *whole = Bytes::from(vec![0; length.next_power_of_two().max(1 << 20)]);
        }
        whole.slice(..length)
    })
}
