//! What `larder top` shows: two looks at the figures, as lines.

#![expect(clippy::indexing_slicing, reason = "a member that is not there is null")]

use std::time::Instant;

use serde_json::Value;

use super::super::stats::{count, millis, rate, size};
use super::super::table::{Side, Table};

/// So many routes, and URLs.
const MOST_ROUTES: usize = 15;
const MOST_URLS: usize = 10;

/// One look.
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) stats: Value,
    pub(super) health: Value,
    /// A problem where there is no ranking.
    pub(super) busiest: Value,
}

/// Whether this is of a gateway's `GET /stats`.
pub(super) fn are_figures(stats: &Value) -> bool {
    stats["total_requests"].is_u64()
}

/// What happened between two looks, in lines of at most so many characters.
pub(super) fn lines(former: &Sample, sample: &Sample, columns: usize) -> Vec<String> {
    let seconds = (sample.at - former.at).as_secs_f64().max(0.001);
    let figures = |sample: &Sample, key: &str| sample.stats[key].as_u64().unwrap_or(0);
    let since = |key: &str| figures(sample, key).saturating_sub(figures(former, key));
    let hits = since("l1_hits") + since("l2_hits");
    let mut lines = vec![
        format!("larder: {}", sample.health["status"].as_str().unwrap_or("no status")),
        format!(
            "{}/s requests, {} % from the cache, {}/s to upstreams, {}/s failed there",
            per(since("total_requests"), seconds),
            share(hits, since("total_requests")),
            per(since("upstream_requests"), seconds),
            per(since("upstream_failures"), seconds),
        ),
        format!(
            "{} requests since the start, {} % from the cache",
            count(&sample.stats["total_requests"]),
            rate(&sample.stats["hit_rate"]),
        ),
        format!(
            "{} ms for half of them, {} ms for 99 in a hundred",
            millis(&sample.stats["latency"]["p50_seconds"]),
            millis(&sample.stats["latency"]["p99_seconds"]),
        ),
        format!(
            "stored in L1: {}, {}",
            count(&sample.stats["store"]["l1_entries"]),
            size(&sample.stats["store"]["l1_octets"]),
        ),
    ];
    if let Some(state) = sample.health["l2"]["state"].as_str() {
        lines.push(format!("L2 is {state}"));
    }
    for table in [routes(former, sample, seconds), servers(sample), urls(sample)] {
        if !table.is_empty() {
            lines.push(String::new());
            lines.extend(table.lines(columns));
        }
    }
    lines.into_iter().map(|line| line.chars().take(columns).collect()).collect()
}

/// The routes that were asked for most, first.
fn routes(former: &Sample, sample: &Sample, seconds: f64) -> Table {
    let columns = ["requests/s", "hit %", "upstream/s", "failures/s"].map(|it| (it, Side::Right));
    let mut table = Table::new(&[&[("route", Side::Left)][..], &columns].concat());
    let routes = sample.stats["routes"].as_object().into_iter().flatten();
    let mut routes: Vec<_> = routes
        .map(|(name, figures)| {
            let former = &former.stats["routes"][name];
            let since = |key: &str| {
                figures[key].as_u64().unwrap_or(0).saturating_sub(former[key].as_u64().unwrap_or(0))
            };
            let hits = since("l1_hits") + since("l2_hits");
            let [requests, upstream, failures] =
                ["total_requests", "upstream_requests", "upstream_failures"].map(since);
            (requests, name, hits, upstream, failures)
        })
        .collect();
    routes.sort_by(|a, b| (b.0, a.1).cmp(&(a.0, b.1)));
    for (requests, name, hits, upstream, failures) in routes.into_iter().take(MOST_ROUTES) {
        table.row([
            name.clone(),
            per(requests, seconds),
            share(hits, requests),
            per(upstream, seconds),
            per(failures, seconds),
        ]);
    }
    table
}

/// The upstreams' servers.
fn servers(sample: &Sample) -> Table {
    let mut table = Table::new(&[
        ("upstream", Side::Left),
        ("server", Side::Left),
        ("state", Side::Left),
        ("in flight", Side::Right),
    ]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for upstream in sample.health["upstreams"].as_array().into_iter().flatten() {
        for server in upstream["servers"].as_array().into_iter().flatten() {
            table.row([
                text(&upstream["name"]),
                text(&server["server"]),
                text(&server["state"]),
                count(&server["in_flight"]),
            ]);
        }
    }
    table
}

/// The URLs that were hit most, as far as they are ranked.
fn urls(sample: &Sample) -> Table {
    let mut table = Table::new(&[("hits", Side::Right), ("busiest", Side::Left)]);
    for url in sample.busiest["urls"].as_array().into_iter().flatten().take(MOST_URLS) {
        table.row([count(&url["hits"]), url["url"].as_str().unwrap_or_default().to_owned()]);
    }
    table
}

fn per(count: u64, seconds: f64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    let rate = count as f64 / seconds;
    if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// In percent; a dash where there was nothing.
fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1}", crate::stats::percent(part, whole)) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let at = crate::clock::instant();
        let stats = |requests: u64, hits: u64| {
            let figures = json!({ "total_requests": requests, "l1_hits": hits });
            json!({ "total_requests": requests, "l1_hits": hits, "routes": { "a": figures,
                "idle": { "total_requests": 5, "l1_hits": 5 } } })
        };
        let sample = |at, stats| Sample {
            at,
            stats,
            health: json!({ "status": "pass" }),
            busiest: json!({}),
        };
        let former = sample(at, stats(100, 50));
        let latter = sample(at + Duration::from_secs(2), stats(140, 80));
        let lines = lines(&former, &latter, 80);
        assert_eq!(
            lines[1],
            "20/s requests, 75.0 % from the cache, 0.0/s to upstreams, 0.0/s failed there"
        );
        assert_eq!(lines[7], "a              20   75.0         0.0         0.0");
        assert_eq!(lines[8], "idle          0.0      -         0.0         0.0");
        let narrow = super::lines(&former, &latter, 10);
        assert!(narrow.iter().all(|line| line.chars().count() <= 10), "{narrow:?}");
    }
}
