//! `larder stats`: the figures of a running gateway as tables.

#![expect(clippy::indexing_slicing, reason = "a member that is not there is null")]

use std::io::Write;

use serde_json::Value;

use super::Exit;
use super::admin::Asked;
use super::table::{Side, Table};

pub(super) const EXAMPLES: &str = "\
Examples:
  larder stats
      The figures of the gateway on this machine since it began.
  larder stats --json | jq .routes
      Those of its routes, as JSON.";

/// Prints them.
pub(super) fn stats(asked: &Asked, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    asked.print("/stats", text, out, err)
}

/// None of what is no answer of a gateway.
fn text(told: &Value) -> Option<String> {
    told["total_requests"].as_u64()?;
    let mut text = format!(
        "{} requests, {} % from the cache, {} to upstreams, {} without a route\n\
         Until the head of the response: {} ms for half of them, {} ms for 99 in a hundred",
        count(&told["total_requests"]),
        rate(&told["hit_rate"]),
        count(&told["upstream_requests"]),
        count(&told["unrouted_requests"]),
        millis(&told["latency"]["p50_seconds"]),
        millis(&told["latency"]["p99_seconds"]),
    );
    for table in [tiers(told), routes(told), upstreams(told), policies(told), changes(told)] {
        if !table.is_empty() {
            text.push_str("\n\n");
            text.push_str(&table.lines(usize::MAX).join("\n"));
        }
    }
    Some(text)
}

/// A table of the members of an object, whose columns are figures of each.
fn named(told: &Value, head: &'static str, figures: &[(&'static str, &str)]) -> Table {
    let mut columns = vec![(head, Side::Left)];
    columns.extend(figures.iter().map(|(name, _)| (*name, Side::Right)));
    let mut table = Table::new(&columns);
    for (name, told) in told.as_object().into_iter().flatten() {
        let cells = figures.iter().map(|(_, key)| match &told[*key] {
            rate if *key == "hit_rate" => self::rate(rate),
            latency if *key == "latency" => millis(&latency["p99_seconds"]),
            Value::Bool(is_so) => if *is_so { "yes" } else { "no" }.to_owned(),
            figure => count(figure),
        });
        table.row(std::iter::once(name.clone()).chain(cells));
    }
    table
}

fn tiers(told: &Value) -> Table {
    let columns = ["hits", "misses", "hit %", "responses", "size"].map(|it| (it, Side::Right));
    let mut table = Table::new(&[&[("tier", Side::Left)][..], &columns].concat());
    let store = &told["store"];
    let of = |tier: &str| &told["layers"][tier];
    let cells = |tier: &str| {
        [
            tier.to_uppercase(),
            count(&of(tier)["hits"]),
            count(&of(tier)["misses"]),
            rate(&of(tier)["hit_rate"]),
        ]
    };
    let l1 = [count(&store["l1_entries"]), size(&store["l1_octets"])];
    table.row(cells("l1").into_iter().chain(l1));
    if let Value::Object(l2) = &store["l2"] {
        let octets = l2.get("octets").unwrap_or(&Value::Null);
        table.row(cells("l2").into_iter().chain(["-".to_owned(), size(octets)]));
    }
    table
}

fn routes(told: &Value) -> Table {
    named(
        &told["routes"],
        "route",
        &[
            ("requests", "total_requests"),
            ("hit %", "hit_rate"),
            ("p99 ms", "latency"),
            ("L1 hits", "l1_hits"),
            ("L2 hits", "l2_hits"),
            ("upstream", "upstream_requests"),
            ("collapsed", "collapsed"),
            ("stored", "stored"),
            ("upstream failures", "upstream_failures"),
            ("policy failures", "policy_failures"),
        ],
    )
}

fn upstreams(told: &Value) -> Table {
    named(
        &told["upstreams"],
        "upstream",
        &[
            ("requests", "requests"),
            ("p99 ms", "latency"),
            ("failures", "failures"),
            ("passed over", "passed_over"),
            ("retries", "retries"),
            ("retries denied", "retries_denied"),
        ],
    )
}

fn policies(told: &Value) -> Table {
    let figures = [("calls", "calls"), ("remembered", "remembered"), ("failures", "failures")];
    named(&told["policies"], "policy", &figures)
}

fn changes(told: &Value) -> Table {
    let figures =
        [("watching", "watching"), ("events", "events"), ("late", "late"), ("lost", "lost")];
    named(&told["changes"], "changes", &figures)
}

/// A whole number with thin groups, as `12'345'678`.
pub(super) fn count(value: &Value) -> String {
    let Some(number) = value.as_u64() else { return "-".to_owned() };
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('\'');
        }
        grouped.push(digit);
    }
    grouped
}

/// Percent with one place.
pub(super) fn rate(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
}

/// Seconds as milliseconds.
pub(super) fn millis(seconds: &Value) -> String {
    seconds.as_f64().map_or_else(|| "-".to_owned(), |seconds| format!("{:.2}", seconds * 1e3))
}

/// Octets in the unit that leaves less than 1024 of them.
pub(super) fn size(value: &Value) -> String {
    let Some(octets) = value.as_u64() else { return "-".to_owned() };
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (0..units.len() - 1).find(|power| octets >> (10 * (power + 1)) == 0);
    let power = power.unwrap_or(units.len() - 1);
    format!("{} {}", octets >> (10 * power), units.get(power).unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_tables() {
        let told = json!({
            "total_requests": 12345, "hit_rate": 87.5, "upstream_requests": 10, "unrouted_requests": 0,
            "layers": { "l1": { "hits": 9, "misses": 1, "hit_rate": 90.0 } },
            "store": { "l1_entries": 3, "l1_octets": 5000, "l2": null },
            "latency": { "p50_seconds": 0.00005, "p99_seconds": 0.25 },
            "routes": { "a": { "total_requests": 12345, "hit_rate": 87.5, "l1_hits": 9 } },
            "upstreams": {}, "policies": {},
            "changes": { "shop.app": { "watching": true, "events": 2, "late": false, "lost": 0 } },
        });
        let text = text(&told).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "12'345 requests, 87.5 % from the cache, 10 to upstreams, 0 without a route"
        );
        assert_eq!(
            lines[1],
            "Until the head of the response: 0.05 ms for half of them, 250.00 ms for 99 in a hundred"
        );
        assert_eq!(lines[3], "tier  hits  misses  hit %  responses   size");
        assert_eq!(lines[4], "L1       9       1   90.0          3  4 KiB");
        assert!(lines[7].starts_with("a        12'345   87.5       -        9        -"), "{text}");
        assert_eq!(lines[10], "shop.app       yes       2    no     0");
        assert_eq!(lines.len(), 11, "empty tables are left out: {text}");
    }

    #[test]
    fn sizes_have_units() {
        for (octets, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (5 << 20, "5 MiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(size(&octets.into()), text);
        }
    }
}
