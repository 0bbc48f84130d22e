//! The metrics of what a gateway works with: the store, upstreams, policies, and changes.

use std::time::Duration;

use super::histogram;
use crate::admin::exposition::{Exposition, Kind};
use crate::gateway::Gateway;
use crate::plugin;
use crate::store::{self, ChangeFigures, L2Stats};
use crate::upstream::{self, Upstream};

use Kind::{Counter, Gauge, Histogram};

/// A figure of L2: its name, its kind, what it tells, and the figure.
type OfL2 = (&'static str, Kind, &'static str, fn(&L2Stats) -> f64);

const OF_L2: [OfL2; 17] = [
    ("larder_l2_up", Gauge, "L2 can be used.", |it| f64::from(it.up)),
    ("larder_l2_half_open", Gauge, "It is being tried.", |it| f64::from(it.half_open)),
    ("larder_l2_errors_total", Counter, "Commands that failed.", |it| float(it.errors)),
    ("larder_l2_timeouts_total", Counter, "Commands that took too long.", |it| float(it.timeouts)),
    (
        "larder_l2_writing",
        Gauge,
        "Pieces of responses, 16 KiB each, that are on their way to L2.",
        |it| float(it.writing as u64),
    ),
    (
        "larder_l2_dropped_writes_total",
        Counter,
        "Responses not written: L2 was down, had just refused another, or had too many to write.",
        |it| float(it.dropped_writes),
    ),
    ("larder_l2_refused_writes_total", Counter, "Writes of responses that L2 refused.", |it| {
        float(it.refused_writes)
    }),
    (
        "larder_l2_too_large_total",
        Counter,
        "Responses not written, or not unpacked, as they are larger than `max_size`.",
        |it| float(it.too_large),
    ),
    (
        "larder_l2_damaged_frames_total",
        Counter,
        "Values under the store's keys that it did not write, or that were damaged.",
        |it| float(it.damaged_frames),
    ),
    ("larder_l2_evicted_total", Counter, "Responses that had to go from the disk.", |it| {
        float(it.evicted)
    }),
    ("larder_log_in_step", Gauge, "The shared invalidation log is being read.", |it| {
        f64::from(it.log_in_step)
    }),
    (
        "larder_log_lag_seconds",
        Gauge,
        "Since every record of the shared log was known to be applied.",
        |it| it.log_lag_seconds,
    ),
    ("larder_log_lag_passed", Gauge, "That is longer than `max_lag`.", |it| {
        f64::from(it.log_lag_passed)
    }),
    (
        "larder_log_waiting",
        Gauge,
        "Invalidations that wait to be appended to the shared log.",
        |it| float(it.log_waiting as u64),
    ),
    ("larder_log_of_replica", Gauge, "The log is a replica's, which confirms nothing.", |it| {
        f64::from(it.log_of_replica)
    }),
    (
        "larder_invalidation_lag_seconds",
        Gauge,
        "From the last change of a document in the fleet to its being applied here.",
        |it| it.invalidation_lag_seconds,
    ),
    ("larder_l2_disk_bytes", Gauge, "The room that L2 takes on the disk.", |it| {
        it.octets.map_or(0.0, float)
    }),
];

#[expect(clippy::cast_precision_loss, reason = "a metric is a number of 52 bits")]
fn float(value: u64) -> f64 {
    value as f64
}

pub(super) fn store(to: &mut Exposition, gateway: &Gateway) {
    let store::Stats { l1_entries, l1_octets, l2, log_position, log_marks, log_patterns } =
        gateway.store().stats();
    let mut figure = |name, help: &str, value: f64| {
        to.family(name, Gauge, help);
        to.sample(&[], value);
    };
    figure("larder_l1_entries", "Responses, and lists of variants, in L1.", float(l1_entries));
    figure("larder_l1_bytes", "What they take.", float(l1_octets));
    let applied = "By the server's clock, when the last record was appended that is applied here.";
    let at = Duration::from_millis(log_position.millis).as_secs_f64();
    figure("larder_log_position_timestamp_seconds", applied, at);
    let sequence = "Its number within that millisecond; without Redis, in all.";
    figure("larder_log_position_sequence", sequence, float(log_position.sequence));
    figure("larder_log_marks", "Marks that the log's table holds.", float(log_marks as u64));
    let patterns = float(log_patterns as u64);
    figure("larder_log_patterns", "Patterns that it holds.", patterns);
    for (name, kind, help, value) in OF_L2 {
        to.family(name, kind, help);
        if let Some(l2) = &l2 {
            to.sample(&[], value(l2));
        }
    }
    to.family("larder_l2_server_state", Gauge, "1 for the state that a server of L2 is in.");
    for server in gateway.store().health().servers {
        for state in ["up", "half-open", "open"] {
            let is_it = u8::from(server.state.as_str() == state);
            to.sample(&[("server", &server.name), ("state", state)], is_it);
        }
    }
}

/// A counter of an upstream: its name, what it counts, and the figure.
type OfUpstream = (&'static str, &'static str, fn(&upstream::Snapshot) -> u64);

const OF_UPSTREAM: [OfUpstream; 5] = [
    ("larder_upstream_requests_total", "Requests to be sent, each once.", |it| it.requests),
    ("larder_upstream_failures_total", "Requests that got no response.", |it| it.failures),
    (
        "larder_upstream_passed_over_total",
        "Connections that were refused, so that the next server got the request.",
        |it| it.passed_over,
    ),
    ("larder_upstream_retries_total", "Requests that were sent again.", |it| it.retries),
    (
        "larder_upstream_retries_denied_total",
        "Requests that were not sent again, as the budget did not allow it.",
        |it| it.retries_denied,
    ),
];

pub(super) fn upstreams(to: &mut Exposition, gateway: &Gateway) {
    let all: Vec<_> = gateway.upstreams().map(|it| (it.name(), it.snapshot())).collect();
    for (name, help, figure) in OF_UPSTREAM {
        to.family(name, Counter, help);
        for (upstream, figures) in &all {
            to.sample(&[("upstream", upstream)], figure(figures));
        }
    }
    let help = "How long the head of a response took, each time a server was asked.";
    to.family("larder_upstream_time_to_first_byte_seconds", Histogram, help);
    for (upstream, figures) in &all {
        histogram(to, &[("upstream", upstream)], &figures.heads);
    }
    let help = "How long requests waited that had to, as all servers had as many as they may.";
    to.family("larder_upstream_wait_seconds", Histogram, help);
    for (upstream, figures) in &all {
        histogram(to, &[("upstream", upstream)], &figures.waits);
    }
    to.family("larder_upstream_waiting", Gauge, "Requests that wait so now.");
    for upstream in gateway.upstreams() {
        to.sample(&[("upstream", upstream.name())], upstream.waiting());
    }
    let help = "Names of servers that cannot be looked up.";
    to.family("larder_upstream_lookup_failures", Gauge, help);
    for upstream in gateway.upstreams() {
        to.sample(&[("upstream", upstream.name())], upstream.lookup_failures().len());
    }
    servers(to, gateway.upstreams());
}

/// Of keys of tokens that are fetched.
pub(super) fn keys(to: &mut Exposition, gateway: &Gateway) {
    let all: Vec<_> = gateway.fetched_keys().collect();
    to.family("larder_token_keys", Gauge, "Keys that tokens are verified by, fetched from a URL.");
    for health in &all {
        to.sample(&[("jwt", &health.jwt)], health.keys);
    }
    let help = "1 while they cannot be fetched.";
    to.family("larder_token_keys_failing", Gauge, help);
    for health in &all {
        to.sample(&[("jwt", &health.jwt)], u64::from(health.failure.is_some()));
    }
}

fn servers<'a>(to: &mut Exposition, upstreams: impl Iterator<Item = &'a Upstream>) {
    let all = upstreams.flat_map(|upstream| {
        let servers = upstream.servers().into_iter();
        servers.map(|server| {
            let address = server.address.map(|it| it.to_string()).unwrap_or_default();
            (upstream.name(), address, server)
        })
    });
    let all: Vec<_> = all.collect();
    let help = "1 for the state that a server is in: up, trial, ejected, failing, or unhealthy.";
    to.family("larder_upstream_server_state", Gauge, help);
    for (upstream, address, server) in &all {
        let of = [("upstream", *upstream), ("server", &server.name), ("address", address)];
        for state in ["up", "trial", "ejected", "failing", "unhealthy"] {
            let is_it = u8::from(server.state.as_str() == state);
            to.sample(&[&of[..], &[("state", state)]].concat(), is_it);
        }
    }
    to.family("larder_upstream_server_in_flight", Gauge, "Requests that a server has.");
    for (upstream, address, server) in &all {
        let of = [("upstream", *upstream), ("server", &server.name), ("address", address)];
        to.sample(&of, server.in_flight);
    }
}

/// A counter of a policy: its name, what it counts, and the figure.
type OfPolicy = (&'static str, &'static str, fn(&plugin::Snapshot) -> f64);

const OF_POLICY: [OfPolicy; 5] = [
    ("larder_policy_calls_total", "Calls into the plugin.", |it| float(it.calls)),
    ("larder_policy_failures_total", "Those of them that failed.", |it| float(it.failures)),
    (
        "larder_policy_remembered_total",
        "Keys that were remembered, so that the plugin was not called.",
        |it| float(it.remembered),
    ),
    (
        "larder_policy_dropped_lines_total",
        "Lines for the log beyond what one call may write.",
        |it| float(it.dropped_lines),
    ),
    ("larder_policy_seconds_total", "What its calls took in all, waiting included.", |it| {
        it.spent.as_secs_f64()
    }),
];

pub(super) fn policies(to: &mut Exposition, gateway: &Gateway) {
    for (name, help, figure) in OF_POLICY {
        to.family(name, Counter, help);
        for policy in gateway.policies() {
            to.sample(&[("policy", policy.name())], figure(&policy.snapshot()));
        }
    }
}

/// A figure of changes that are watched: its name, its kind, what it tells, and the figure.
type OfChanges = (&'static str, Kind, &'static str, fn(&ChangeFigures) -> f64);

const OF_CHANGES: [OfChanges; 8] = [
    ("larder_changes_watching", Gauge, "This gateway reads the stream, which is open.", |it| {
        f64::from(it.watching)
    }),
    (
        "larder_changes_position_age_seconds",
        Gauge,
        "Since every change was known to be in the log; not a number until it was.",
        |it| it.position_age_seconds.unwrap_or(f64::NAN),
    ),
    ("larder_changes_late", Gauge, "That is longer than `max_lag`.", |it| f64::from(it.late)),
    (
        "larder_changes_invalidation_lag_seconds",
        Gauge,
        "From the last change that this gateway applied to its being in the log.",
        |it| it.invalidation_lag_seconds,
    ),
    ("larder_changes_events_total", Counter, "Changes that this gateway has applied.", |it| {
        float(it.events)
    }),
    ("larder_changes_invalidations_total", Counter, "Records of the log that they made.", |it| {
        float(it.invalidations)
    }),
    ("larder_changes_lost_total", Counter, "How often changes may have been missed.", |it| {
        float(it.lost)
    }),
    (
        "larder_changes_policy_failures_total",
        Counter,
        "Changes about which the policy failed.",
        |it| float(it.policy_failures),
    ),
];

pub(super) fn changes(to: &mut Exposition, gateway: &Gateway) {
    for (name, kind, help, figure) in OF_CHANGES {
        to.family(name, kind, help);
        for (label, figures) in gateway.changes() {
            to.sample(&[("changes", label)], figure(&figures));
        }
    }
    let help = "1 for the state that a deployment of MongoDB is in.";
    to.family("larder_mongodb_state", Gauge, help);
    for mongodb in gateway.mongodbs() {
        for state in ["reached", "out-of-reach", "login-refused", "untried"] {
            let is_it = u8::from(mongodb.state.as_str() == state);
            to.sample(&[("mongodb", &mongodb.name), ("state", state)], is_it);
        }
    }
}
