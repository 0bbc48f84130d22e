//! `GET /metrics`: everything that `GET /stats` has, for Prometheus. Labels are what the configuration
//! names, and small closed sets; never what a client sent.

mod helpers;

use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};

use super::exposition::{Exposition, Format, Kind, Label};
use super::{Context, process};
use crate::stats::{Figures, Outcome, Snapshot, Spread, Tally};

use Kind::{Counter, Gauge, Histogram};

/// The bounds that Prometheus is told: steps of what is counted end at each. In microseconds, and in
/// seconds.
const BOUNDS: [(u64, &str); 19] = [
    (10, "0.00001"),
    (25, "0.000025"),
    (50, "0.00005"),
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1.0"),
    (2_500_000, "2.5"),
    (10_000_000, "10.0"),
    (60_000_000, "60.0"),
];

/// A counter of a route: its name, what it counts, and the figure.
type OfRoute = (&'static str, &'static str, fn(&Figures) -> u64);

const OF_ROUTE: [OfRoute; 13] = [
    ("larder_forward_requests_total", "Requests sent forward.", |it| it.upstream_requests),
    ("larder_forward_failures_total", "Requests sent forward that got no response.", |it| {
        it.upstream_failures
    }),
    (
        "larder_followers_total",
        "Requests that waited for another request's forward request.",
        |it| it.followers,
    ),
    ("larder_fleet_waits_total", "Forward requests that waited for another gateway's.", |it| {
        it.fleet_waits
    }),
    (
        "larder_fleet_takeovers_total",
        "Those of them that went forward because the other gateway had died.",
        |it| it.fleet_takeovers,
    ),
    ("larder_upgrades_total", "Connections on which another protocol began.", |it| it.upgrades),
    ("larder_stored_total", "Responses stored.", |it| it.stored),
    ("larder_compressed_total", "Contents brought into a coding.", |it| it.compressed),
    ("larder_route_policy_failures_total", "Policy calls that failed.", |it| it.policy_failures),
    (
        "larder_unconfirmed_total",
        "Requests for which something was stored that may have been invalidated: the log was out of reach.",
        |it| it.unconfirmed,
    ),
    (
        "larder_l2_unavailable_requests_total",
        "Requests that L1 did not answer while L2 was out of use.",
        |it| it.l2_errors,
    ),
    (
        "larder_l2_unavailable_stale_total",
        "Those of them that were answered with a stale response.",
        |it| it.l2_errors_stale,
    ),
    ("larder_l2_unavailable_refused_total", "Those of them that were answered 503.", |it| {
        it.l2_errors_failed
    }),
];

pub(super) async fn metrics(State(context): State<Context>, fields: HeaderMap) -> Response {
    let gateway = context.current.gateway();
    let format = Format::wanted(&fields);
    let mut to = Exposition::new(format);
    to.family("larder_build_info", Gauge, "Which Larder it is.");
    to.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let stats = gateway.stats().snapshot();
    requests(&mut to, &stats);
    itself(&mut to, &stats);
    helpers::store(&mut to, &gateway);
    helpers::upstreams(&mut to, &gateway);
    helpers::keys(&mut to, &gateway);
    helpers::policies(&mut to, &gateway);
    helpers::changes(&mut to, &gateway);
    to.family("larder_draining", Gauge, "The gateway is ending.");
    to.sample(&[], u8::from(context.current.is_leaving()));
    process::write(&mut to);
    ([(CONTENT_TYPE, format.media_type()), (VARY, "Accept")], to.end()).into_response()
}

/// What requests came to, by route. Those that no route took have none.
fn requests(to: &mut Exposition, stats: &Snapshot) {
    let routes = || stats.routes.iter().map(|(name, figures)| (name.as_str(), figures));
    let tallies = || routes().map(|(name, it)| (name, &it.tally)).chain([("", &stats.unrouted)]);
    to.family("larder_requests_total", Counter, "Requests, by how they were answered.");
    for (route, tally) in tallies() {
        for ((outcome, class), spread) in &tally.by {
            let labels = [("outcome", outcome.as_str()), ("status", class.as_str())];
            to.sample(&[&[("route", route)][..], &labels].concat(), spread.count());
        }
    }
    let help = "From a request's head being read to the head of the response being ready.";
    to.family("larder_request_duration_seconds", Histogram, help);
    for (route, tally) in tallies() {
        for outcome in tally.outcomes() {
            of_outcome(to, route, tally, outcome);
        }
    }
    to.family("larder_sent_bytes_total", Counter, "Content that went to clients.");
    for (route, tally) in tallies() {
        to.sample(&[("route", route)], tally.sent);
    }
    to.family("larder_lookups_total", Counter, "Look-ups in a tier, by what came of them.");
    for (route, it) in routes() {
        for (tier, result, count) in [
            ("l1", "hit", it.l1_hits),
            ("l1", "miss", it.l1_misses),
            ("l2", "hit", it.l2_hits),
            ("l2", "miss", it.l2_misses),
        ] {
            to.sample(&[("route", route), ("tier", tier), ("result", result)], count);
        }
    }
    for (name, help, figure) in OF_ROUTE {
        to.family(name, Counter, help);
        for (route, figures) in routes() {
            to.sample(&[("route", route)], figure(figures));
        }
    }
}

fn of_outcome(to: &mut Exposition, route: &str, tally: &Tally, outcome: Outcome) {
    let labels = [("route", route), ("outcome", outcome.as_str())];
    histogram(to, &labels, &tally.spread(Some(outcome)));
}

fn histogram(to: &mut Exposition, labels: &[Label<'_>], spread: &Spread) {
    for (micros, bound) in BOUNDS {
        let count = spread.within(Duration::from_micros(micros));
        to.part("_bucket", &[labels, &[("le", bound)]].concat(), count);
    }
    let count = spread.count();
    to.part("_bucket", &[labels, &[("le", "+Inf")]].concat(), count);
    to.part("_sum", labels, spread.sum().as_secs_f64());
    to.part("_count", labels, count);
}

/// Connections, the configuration, and what the gateway asks itself for.
fn itself(to: &mut Exposition, stats: &Snapshot) {
    let Snapshot { connections, reloads, warming, access_log, spans, .. } = stats;
    let mut figure = |name, kind, help: &str, value: u64| {
        to.family(name, kind, help);
        to.sample(&[], value);
    };
    let accepted = "Clients' connections that were accepted.";
    figure("larder_connections_total", Counter, accepted, connections.accepted);
    figure("larder_connections_open", Gauge, "Those that are open.", connections.open);
    let is_latest = "What is in service is what was read last.";
    let last = u64::from(reloads.last_successful);
    figure("larder_config_last_reload_successful", Gauge, is_latest, last);
    let since = "When what is in service was read, in seconds since 1970.";
    let read = reloads.last_success_timestamp_seconds;
    figure("larder_config_last_reload_success_timestamp_seconds", Gauge, since, read);
    let runs = "How often `[warm]` has begun.";
    figure("larder_warming_runs_total", Counter, runs, warming.runs);
    let running = u64::from(warming.running);
    figure("larder_warming_running", Gauge, "It is under way.", running);
    to.family(
        "larder_config_reloads_total",
        Counter,
        "How often the configuration was read again.",
    );
    to.sample(&[("result", "success")], reloads.success);
    to.sample(&[("result", "failure")], reloads.failure);
    to.family("larder_access_log_lines_total", Counter, "Lines of the access log.");
    to.sample(&[("result", "written")], access_log.written);
    to.sample(&[("result", "dropped")], access_log.dropped);
    to.family("larder_spans_total", Counter, "Spans for the collector.");
    to.sample(&[("result", "told")], spans.written);
    to.sample(&[("result", "dropped")], spans.dropped);
    to.family(
        "larder_warming_urls_total",
        Counter,
        "URLs that it asked for, by what came of them.",
    );
    to.sample(&[("result", "stored")], warming.stored);
    to.sample(&[("result", "hit")], warming.hits);
    to.sample(&[("result", "not-warmed")], warming.not_warmed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Times;

    #[test]
    fn each_bound_is_where_a_step_ends() {
        for (micros, shown) in BOUNDS {
            let bound = Duration::from_micros(micros);
            assert!((shown.parse::<f64>().unwrap() - bound.as_secs_f64()).abs() < 1e-12);
            let times = Times::default();
            times.count(bound);
            times.count(bound + Duration::from_nanos(1));
            assert_eq!(times.spread().within(bound), 1, "{shown}");
        }
    }
}
