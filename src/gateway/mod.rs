//! One request from end to end. The only place that picks a status.
//!
//! [`Gateway::answer`] begins the path of a request; each step it takes is a function of a lower layer. `choose` says
//! which route takes a request, `course` which way it goes; `presented` is that, `notable` what of it may be worth a
//! closer look, `query` and `asking` read the content of one that asks by it, `key` says what a response is found by,
//! `several` how more than one policy makes that, `look` what there is, `narrow` what of the request goes forward,
//! `onward` what is added to it. `forward` sends equal misses on together, `fleet` waits for those of other gateways,
//! `fetch` is the leader's forward request on its way into the store, `storing` whether it gets there, `validate` what
//! a 304 to it means, `combine` puts parts together there, `head` what a response to HEAD does there, `stale` serves
//! what is stale all the same, `spare` answers what is not to go forward while L2 is out of use. `switch` lets another
//! protocol follow, `write` forwards what may change something and invalidates what it made wrong, `outliving` has it
//! and `fetch` go on without their client, `post` stores what such a request got for the GETs to come, `shown` reads
//! contents that policies want to see, `tags` says what tags are scoped to, `purge` what operators' purges cover, and
//! answers `PURGE`; `bearer` says who is an operator, `busiest` what is asked for most, `used` what they are told of,
//! `stored` what is stored, `shadow` asks a second policy beside the first. `hit` is what most requests come to,
//! `respond` makes responses out of what was found or what failed, `partial` parts of them, `coded` coded forms.
//! `current` is which gateway answers, after a reload another. `explain` tells all of that without doing it, and
//! `refusals` remembers for it what was not stored; `replay` lets requests of a log take the same steps.

mod answer;
mod asking;
mod bearer;
mod busiest;
mod choose;
mod claims;
mod coded;
mod combine;
mod course;
mod current;
mod explain;
mod fetch;
mod fleet;
mod forward;
mod head;
mod hit;
mod key;
mod look;
mod measure;
mod narrow;
mod notable;
mod onward;
mod origin;
mod outliving;
mod partial;
mod post;
mod presented;
mod purge;
mod query;
mod ready;
mod refusals;
mod replay;
mod respond;
mod several;
mod shadow;
mod shown;
mod spare;
mod stale;
mod stored;
mod storing;
mod switch;
mod tags;
mod used;
mod validate;
mod write;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::request::Parts;
use http::{Request, Response};

use tokio_util::task::TaskTracker;

use crate::body::Body;
use crate::clock::Clock;
use crate::collapse::Collapse;
use crate::config::{Collapsing, Config, OnError, OnL2Error, OnLag, Route};
use crate::documents::Source;
use crate::forwarded::Trust;
use crate::plugin::Policy;
use crate::routes::Routes;
use crate::semantics::{Forward, Kept, Rules};
use crate::stats::{Outcome, RouteStats, Stats};
use crate::store::{Bookmark, Purpose, Store};
use crate::token::Reader;
use crate::upstream::{Arriving, Upstream};

pub use self::answer::Answer;
pub use self::bearer::bears;
pub use self::busiest::NoRanking;
pub use self::current::{Current, Equipment, Lasting};
pub use self::explain::{Explanation, Extent, Question};
pub use self::presented::Peer;
pub use self::replay::{Considered, Replayed, Way};
pub use self::shadow::Shadowed;
pub use self::stored::{Listing, Shown, Unshown, beginning, tags_of};

use self::claims::Unnamed;
use self::course::{Announced, Course};
use self::key::{Key, Keys};
use self::look::{Looked, Missing};
use self::notable::Notable;
use self::onward::{Onward, Own};
use self::origin::Origin;
use self::presented::{Presented, Received};
use self::shadow::Shadow;

/// Answers requests by the route table of one configuration. Shared by all workers.
pub struct Gateway {
    clock: Clock,
    own: Own,
    trust: Trust,
    namespace: Box<str>,
    status_key: bool,
    /// Fields with `_` in their names count.
    underscores: bool,
    /// The operators'.
    token: Option<Box<str>>,
    routes: Routes,
    plans: Box<[Plan]>,
    upstreams: Vec<Arc<Upstream>>,
    policies: Vec<Arc<Policy>>,
    tokens: Vec<Arc<Reader>>,
    bookmarks: Vec<Arc<Bookmark>>,
    sources: Vec<Arc<Source>>,
    store: Arc<Store>,
    collapse: Arc<Collapse>,
    stats: Arc<Stats>,
    tasks: TaskTracker,
    lasting: Lasting,
    config: Arc<Config>,
}

/// A route, and everything that it uses at hand.
struct Plan {
    name: Arc<str>,
    /// What stands for the route in its cache keys: of requests for `http`, and for `https` URIs.
    space: Box<str>,
    secure_space: Box<str>,
    stats: Arc<RouteStats>,
    /// What its tags are scoped to.
    origin_name: Box<str>,
    origin: Origin,
    key: Keys,
    storing: Option<Ask>,
    invalidation: Option<Ask>,
    shadow: Option<Shadow>,
    rules: Rules,
    max_body: usize,
    max_query_body: usize,
    max_request_body: u64,
    max_policy_body: usize,
    idle_timeout: Duration,
    variants: usize,
    on_lag: OnLag,
    on_l2_error: OnL2Error,
    /// The changes that its responses depend on.
    changes: Box<[Arc<Bookmark>]>,
    collapse: Collapsing,
    /// A request waits no longer for another gateway's: its own might take so long to bring a head.
    fleet_patience: Duration,
    purge: bool,
    /// Its keys tell nothing of who asks.
    names_nobody: bool,
    /// Reads the tokens of requests, if a policy asks for claims.
    tokens: Option<Arc<Reader>>,
    /// What is said of requests without claims where claims are what tells users apart.
    unnamed: Option<Box<Unnamed>>,
    /// What of a request goes forward, if that is less than all.
    kept: Option<Kept>,
    /// What is changed on the way.
    onward: Onward,
}

/// A policy and what its failure leads to.
struct Ask {
    policy: Arc<Policy>,
    on_error: OnError,
}

/// A route's plan, unless it names what is not there.
fn plan(config: &Config, route: &Route, equipment: &Equipment) -> Option<Plan> {
    let Equipment { policies, tokens, lasting, .. } = equipment;
    let ask = |place: Option<usize>| {
        let place = place?;
        let policy = Arc::clone(policies.get(place)?);
        Some(Ask { policy, on_error: config.policies.get(place)?.on_error })
    };
    let from = origin::of(config, route, equipment)?;
    let policy = |place: usize| policies.get(place).map(Arc::as_ref);
    let keys: Vec<_> = route.key.iter().filter_map(|place| policy(*place)).collect();
    let storing = route.storing.and_then(policy);
    let jwt = route.jwt.and_then(|place| config.jwts.get(place));
    let space = key::space(&route.name, &from.space, &keys, storing);
    let space = onward::space(key::with_sharing(space, route, jwt), route);
    let space = choose::space(space, route);
    let kept = narrow::kept(route, &keys, jwt);
    let rules = storing::rules(config, route, kept.as_ref());
    Some(Plan {
        name: route.name.as_str().into(),
        shadow: Shadow::of(route, &space, policies, lasting),
        secure_space: key::secure(&space).into(),
        space: space.into(),
        stats: lasting.stats.route(&route.name),
        origin_name: from.name.into(),
        origin: from.origin,
        key: Keys::of(route.key.iter().filter_map(|place| ask(Some(*place))).collect()),
        storing: ask(route.storing),
        invalidation: ask(route.invalidation),
        unnamed: claims::unnamed(&keys, jwt, kept.as_ref(), &rules).map(Box::new),
        rules,
        tokens: claims::tokens(route, policies, tokens),
        // What no tier would take is not gathered, nor said to be stored.
        max_body: route.max_body.min(lasting.store.largest()),
        max_query_body: route.max_query_body,
        max_request_body: route.max_request_body,
        max_policy_body: route.max_policy_body,
        idle_timeout: from.idle_timeout,
        variants: route.variants,
        on_lag: route.on_lag,
        on_l2_error: route.on_l2_error,
        changes: origin::changes(config, route, equipment),
        collapse: route.collapse,
        fleet_patience: from.patience,
        purge: route.purge,
        names_nobody: busiest::names_nobody(&keys) && route.headers.is_empty(),
        onward: Onward::of(config, route, from.idle_timeout, lasting),
        kept,
    })
}

impl Gateway {
    /// The gateway of a valid configuration.
    pub fn new(config: &Config, equipment: Equipment) -> Arc<Self> {
        equipment.lasting.remember(origin::names(config));
        let plans = config.routes.iter().filter_map(|route| plan(config, route, &equipment));
        let plans = plans.collect();
        let Equipment { upstreams, policies, tokens, bookmarks, sources, routes, lasting } =
            equipment;
        let Lasting { store, collapse, stats, tasks, clock, .. } = lasting.clone();
        Arc::new(Self {
            clock,
            own: Own::new(&store.own_name()),
            trust: Trust::new(&config.server.trusted_proxies, config.server.trusted_field),
            namespace: config.cache.namespace.as_str().into(),
            status_key: config.cache.status_key,
            underscores: config.server.underscores_in_fields,
            token: config.admin.as_ref().and_then(|admin| admin.token.as_deref()).map(Into::into),
            routes,
            plans,
            upstreams,
            policies,
            tokens,
            bookmarks,
            sources,
            store,
            collapse,
            stats,
            tasks,
            lasting,
            config: Arc::new(config.clone()),
        })
    }

    /// What it goes by.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The time of day.
    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Answers one request. It cannot fail: whatever goes wrong becomes a response here, and
    /// nowhere else. Dropping the answer is what happens when the client goes away; a fetch that
    /// others may use, and a write that must invalidate, go on.
    ///
    /// A hit in L1 is made before this returns: to move a request through futures would cost it
    /// more than its look-up does.
    fn answer_unmeasured(self: &Arc<Self>, request: Request<Arriving>, peer: Peer) -> Answer {
        let (mut head, content) = request.into_parts();
        let notable = Notable::of(&head.headers);
        if notable.explain && self.takes_explain(&mut head.headers) {
            return self.answer_explained(head, content, peer);
        }
        self.answer_to(head, content, peer, notable)
    }

    fn answer_to(
        self: &Arc<Self>,
        mut head: Parts,
        content: Arriving,
        mut peer: Peer,
        notable: Notable,
    ) -> Answer {
        let received = match self.received(&mut head, &mut peer, notable) {
            Ok(received) => received,
            Err(why) => {
                self.stats.unrouted.count();
                return Answer::now(respond::malformed(head.version, why));
            }
        };
        let chosen_by = self.chosen_by(&received.authority, &head);
        let answer = match self.place(&received.authority, &head, &peer) {
            Ok(place) => self.answer_by_route(place, head, content, received, peer).of(place),
            Err(refusal) => {
                self.stats.unrouted.count();
                Answer::now(*refusal)
            }
        };
        match chosen_by {
            Some(names) => answer.map(move |response| choose::vary(response, &names)),
            None => answer,
        }
    }

    /// Answers a request that this route takes.
    fn answer_by_route(
        self: &Arc<Self>,
        place: usize,
        head: Parts,
        content: Arriving,
        received: Received,
        peer: Peer,
    ) -> Answer {
        let presented = self.presented(place, head, received, peer);
        self.route_stats(&presented).outcomes.request();
        // None for a hit: threads that count references to one thing wait for one another.
        let gateway = || Arc::clone(self);
        match self.course(&presented, Announced::of(&content)) {
            Course::Cache => self.answer_from_cache(presented),
            Course::Query => {
                let gateway = gateway();
                Answer::later(async move { gateway.query(presented, content).await })
            }
            Course::Refuse(refusal) => Answer::now(*refusal),
            Course::Switch(protocol) => self.switch(presented, protocol),
            Course::AskByPost => {
                let gateway = gateway();
                Answer::later(async move { gateway.ask_by_post(presented, content).await })
            }
            Course::Purge(soft) => {
                let gateway = gateway();
                Answer::later(async move { gateway.purge_asked(&presented, soft).await })
            }
            Course::Pass(why) => self.pass(presented, content, why),
        }
    }

    /// Answers a request with this key: from L1, from L2, or from the upstream by way of the store.
    fn answer_by(self: &Arc<Self>, mut presented: Presented, key: Key) -> Answer {
        let mut missing = Missing::NOTHING;
        if self.store.has_l1() {
            let figures = self.route_stats(&presented);
            match self.look_in_l1(&presented, &key) {
                Looked::Serve { stored, age, ttl, confirmed } => {
                    figures.outcomes.l1_hit();
                    self.note_hit(&presented);
                    if !confirmed {
                        key.note(&presented);
                        return Answer::now(self.serve_unconfirmed(&presented, &stored, age, ttl));
                    }
                    return hit::answer(&mut presented, &key, stored, age, ttl);
                }
                Looked::ServeStale { stored, age, ttl } => {
                    figures.outcomes.l1_hit();
                    self.note_hit(&presented);
                    key.note(&presented);
                    let presented = Arc::new(presented);
                    let response = self.serve_stale(presented, key, stored, age, ttl);
                    return Answer::now(response);
                }
                Looked::Forward(in_l1) => {
                    figures.l1_misses.count();
                    missing = in_l1;
                }
            }
        }
        key.note(&presented);
        // Every future on the way has a place for it, and is moved with that.
        let (gateway, presented) = (Arc::clone(self), Arc::new(presented));
        Answer::later(async move { gateway.answer_beyond_l1(presented, key, missing).await })
    }

    /// Answers what L1 did not: from L2, or from the upstream by way of the store.
    async fn answer_beyond_l1(
        self: &Arc<Self>,
        presented: Arc<Presented>,
        key: Key,
        mut missing: Missing,
    ) -> Response<Body> {
        if self.may_ask_l2(&missing) {
            let figures = self.route_stats(&presented);
            match self.look_in_l2(&presented, &key, Purpose::Answer).await {
                Looked::Serve { stored, age, ttl, confirmed } => {
                    figures.l2_hits.count();
                    self.note_hit(&presented);
                    if !confirmed {
                        return self.serve_unconfirmed(&presented, &stored, age, ttl);
                    }
                    return measure::mark(
                        respond::hit(&presented, &stored, age, ttl),
                        Outcome::HitL2,
                    );
                }
                Looked::ServeStale { stored, age, ttl } => {
                    figures.l2_hits.count();
                    self.note_hit(&presented);
                    return self.serve_stale(presented, key, stored, age, ttl);
                }
                Looked::Forward(in_l2) => {
                    figures.l2_misses.count();
                    // Where L2 knows nothing, L1's reason stands: it may know variants that are
                    // still on their way to L2.
                    missing = missing.or(in_l2);
                }
            }
        }
        if !missing.known
            && let Some(response) = self.spare(&presented, &missing)
        {
            return response;
        }
        self.forward(presented, key, missing).await
    }

    /// Whether L2 is looked into for what L1 had not.
    fn may_ask_l2(&self, missing: &Missing) -> bool {
        // What the request itself forbids, L2 will not change.
        self.store.has_l2() && missing.why != Forward::Request
    }

    fn plan(&self, presented: &Presented) -> &Plan {
        self.plans.get(presented.place).expect("the route table gives places of plans")
    }

    fn route_stats(&self, presented: &Presented) -> &RouteStats {
        &self.plan(presented).stats
    }
}
