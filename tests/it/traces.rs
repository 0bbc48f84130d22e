//! Spans of requests, as a collector is told them, and the trace that a forward request is a part of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, ok, status};
use crate::support::redis::Redis;
use crate::support::{nobody, secs, tool, until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

async fn collector() -> Origin {
    let collector = Origin::start().await;
    collector.on("/v1/traces").method("POST").reply(status(200));
    collector
}

async fn tracing(setup: Setup, collector: &Origin, ratio: &str) -> Gateway {
    let table = format!("[tracing]\notlp = {:?}\nratio = {ratio}\n", collector.url());
    setup.route(&table).start().await
}

/// All spans that the collector was told so far.
fn all_spans(collector: &Origin) -> Vec<Value> {
    let mut spans = Vec::new();
    for asked in collector.asked() {
        assert_eq!(asked.field("content-type").as_deref(), Some("application/json"));
        let told: Value = serde_json::from_slice(&asked.body).unwrap();
        let of = &told["resourceSpans"][0];
        let service = json!([{ "key": "service.name", "value": { "stringValue": "larder" } }]);
        assert_eq!(of["resource"]["attributes"], service);
        spans.extend(of["scopeSpans"][0]["spans"].as_array().unwrap().iter().cloned());
    }
    spans
}

/// The last one of each name.
fn spans(collector: &Origin) -> BTreeMap<String, Value> {
    let all = all_spans(collector).into_iter();
    all.map(|span| (span["name"].as_str().unwrap().to_owned(), span)).collect()
}

fn attribute<'a>(span: &'a Value, name: &str) -> &'a Value {
    let all = span["attributes"].as_array().unwrap();
    let attribute = all.iter().find(|it| it["key"] == name);
    &attribute.unwrap_or_else(|| panic!("no `{name}` in {span}"))["value"]
}

#[tokio::test]
async fn a_request_is_a_span_of_its_trace_and_its_steps_are_below() {
    let (origin, collector, redis) = (Origin::start().await, collector().await, Redis::start());
    let setup = Gateway::setup(&origin).cache("[cache]\nstatus_key = true").redis(&redis);
    let gateway = tracing(setup, &collector, "0").await.in_step().await;
    origin.on("/a?secret=1").reply(ok("1").max_age(60));
    let ask = gateway.ask("GET", "/a?secret=1").field("traceparent", &parent("01"));
    let got = ask.field("tracestate", "other=1").send().await.code(200);
    got.status("fwd=uri-miss; stored; key=\"a?secret=1\"");
    until("three spans are told", || spans(&collector).len() == 3).await;
    let spans = spans(&collector);
    let (own, l2, upstream) = (&spans["GET all"], &spans["l2"], &spans["upstream origin"]);
    for span in spans.values() {
        assert_eq!(span["traceId"], TRACE);
        assert_eq!(span["traceState"], "other=1");
        let at = |name: &str| span[name].as_str().unwrap().parse::<u128>().unwrap();
        assert!(0 < at("startTimeUnixNano"), "{span}");
        assert!(at("startTimeUnixNano") <= at("endTimeUnixNano"), "{span}");
    }
    assert_eq!(own["parentSpanId"], PARENT);
    assert_eq!((&own["kind"], &l2["kind"], &upstream["kind"]), (&json!(2), &json!(3), &json!(3)));
    for step in [l2, upstream] {
        assert_eq!(step["parentSpanId"], own["spanId"]);
    }
    for (name, value) in [
        ("http.request.method", json!({ "stringValue": "GET" })),
        ("http.response.status_code", json!({ "intValue": "200" })),
        ("url.path", json!({ "stringValue": "/a" })),
        ("larder.outcome", json!({ "stringValue": "uri-miss" })),
        ("larder.route", json!({ "stringValue": "all" })),
        ("larder.end", json!({ "stringValue": "complete" })),
    ] {
        assert_eq!(*attribute(own, name), value, "{name}");
    }
    assert!(!own.to_string().contains("secret"), "{own}");
    // What the upstream does is a part of that.
    let asked = origin.last("/a?secret=1");
    let expected = format!("00-{TRACE}-{}-01", upstream["spanId"].as_str().unwrap());
    assert_eq!(asked.field("traceparent"), Some(expected));
    assert_eq!(asked.field("tracestate").as_deref(), Some("other=1"));
}

/// The second is for the whole, as the 304 to the first is about another response.
#[tokio::test]
async fn what_goes_forward_twice_has_a_span_each_time() {
    let (origin, collector) = (Origin::start().await, collector().await);
    let gateway = tracing(Gateway::setup(&origin), &collector, "1").await;
    origin.on("/a").reply(ok("1").max_age(60).etag("1"));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    gateway.clock().advance(secs(61));
    origin.on("/a").reply(ok("2").max_age(60).etag("2"));
    origin.on("/a").with("if-none-match", "\"1\"").reply(status(304).etag("2").max_age(60));
    gateway.get("/a").await.body("2").status("fwd=stale; stored");
    origin.saw("/a", 3);
    gateway.drain().await;

    let asked = origin.asked().into_iter().map(|asked| asked.field("traceparent").unwrap());
    let asked: BTreeSet<_> = asked.collect();
    let all = all_spans(&collector);
    let told = all.iter().filter(|span| span["name"] == "upstream origin").map(|span| {
        let text = |name: &str| span[name].as_str().unwrap();
        format!("00-{}-{}-01", text("traceId"), text("spanId"))
    });
    let told: BTreeSet<_> = told.collect();
    assert_eq!(told, asked);
    assert_eq!(told.len(), 3);
}

#[tokio::test]
async fn what_clients_choose_has_a_bound_in_spans() {
    let (origin, collector) = (Origin::start().await, collector().await);
    let gateway = tracing(Gateway::setup(&origin), &collector, "0").await;
    let (path, long) = (format!("/{}", "a".repeat(5000)), "b".repeat(40_000));
    let state = format!("a={}", "c".repeat(10_000));
    let ask = gateway.ask(&"M".repeat(3000), &path).field("traceparent", &parent("01"));
    ask.field("user-agent", &long).field("tracestate", &state).send().await;
    until("it is told", || spans(&collector).contains_key("_OTHER all")).await;
    let own = &spans(&collector)["_OTHER all"];
    for (name, value) in [
        ("http.request.method", "_OTHER"),
        ("url.path", &path[..1024]),
        ("user_agent.original", &long[..1024]),
    ] {
        assert_eq!(*attribute(own, name), json!({ "stringValue": value }), "{name}");
    }
    // In part it would be another. What goes forward is whole.
    assert_eq!(own["traceState"], "");
    assert_eq!(origin.last(&path).field("tracestate"), Some(state));
}

#[tokio::test]
async fn http2_says_the_host_otherwise() {
    let (origin, collector) = (Origin::start().await, collector().await);
    let gateway = tracing(Gateway::setup(&origin), &collector, "1").await;
    gateway.ask("GET", "/a").http2().send().await;
    let host = json!({ "stringValue": gateway.address().to_string() });
    gateway.drain().await;
    assert_eq!(*attribute(&spans(&collector)["GET all"], "server.address"), host);
}

#[tokio::test]
async fn what_its_beginning_leaves_out_is_not_told() {
    let (origin, collector) = (Origin::start().await, collector().await);
    let gateway = tracing(Gateway::setup(&origin), &collector, "1").await;
    let ask = gateway.ask("GET", "/a").field("traceparent", &parent("00"));
    ask.send().await;
    let forward = origin.last("/a").field("traceparent").unwrap();
    assert!(forward.starts_with(&format!("00-{TRACE}-")) && forward.ends_with("-00"), "{forward}");
    assert!(!forward.contains(PARENT), "{forward}");
    // What begins here is.
    gateway.ask("GET", "/b").field("tracestate", "lost=1").send().await;
    let forward = origin.last("/b");
    assert_eq!(forward.field("tracestate"), None, "it belonged to no trace");
    let forward = forward.field("traceparent").unwrap();
    assert!(forward.ends_with("-01") && !forward.contains(TRACE), "{forward}");
    gateway.drain().await;
    let spans = spans(&collector);
    assert_eq!(
        spans.keys().collect::<Vec<_>>(),
        ["GET all", "upstream origin"],
        "a drain tells all"
    );
    assert_eq!(spans["GET all"]["parentSpanId"], "");
    assert!(forward.contains(spans["GET all"]["traceId"].as_str().unwrap()), "{forward}");
}

#[tokio::test]
async fn an_upstream_in_trouble_is_an_error() {
    let collector = collector().await;
    let (_reserved, absent) = nobody();
    let gateway = tracing(Gateway::setup_before(&[absent]), &collector, "1").await;
    gateway.get("/a").await.code(502);
    gateway.drain().await;
    for span in spans(&collector).values() {
        assert_eq!(span["status"], json!({ "code": 2 }), "{span}");
    }
    assert_eq!(spans(&collector).len(), 2);
}

/// Not by what is known of the form here, but by the definition that collectors are made from.
#[tokio::test]
async fn what_is_told_is_of_the_form_that_opentelemetry_defines() {
    let (origin, collector) = (Origin::start().await, collector().await);
    let gateway = tracing(Gateway::setup(&origin), &collector, "1").await;
    origin.on("/a").reply(status(502));
    let ask = gateway.ask("GET", "/a").field("traceparent", &parent("01"));
    ask.field("tracestate", "other=1").field("user-agent", "\u{e9}\"\\").send().await.code(502);
    gateway.ask("PURGEE", "/a?secret").send().await;
    gateway.drain().await;

    let folder = tempfile::tempdir().unwrap();
    let contents = collector.asked().into_iter().enumerate().map(|(number, asked)| {
        let file = folder.path().join(number.to_string());
        std::fs::write(&file, &asked.body).unwrap();
        file
    });
    let parsed = Command::new(tool("otlp/bin/python"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otlp/parse.py"))
        .args(contents)
        .output()
        .await
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&parsed.stdout), String::from_utf8_lossy(&parsed.stderr));
    assert!(parsed.status.success(), "{out}\n{err}");
    let spans: Vec<Vec<&str>> = out.lines().map(|line| line.split('|').collect()).collect();
    let of = |name: &str| {
        let found = spans.iter().find(|span| span[0] == name);
        found.unwrap_or_else(|| panic!("no `{name}`:\n{out}"))
    };
    let own = of("GET all");
    assert_eq!(own[1..4], ["SPAN_KIND_SERVER", "STATUS_CODE_ERROR", TRACE]);
    assert_eq!(own[5], PARENT);
    let agent = "user_agent.original=\u{e9}\"\\";
    for attribute in ["http.response.status_code=502", "larder.end=complete", agent] {
        assert!(own.contains(&attribute), "no `{attribute}`: {own:?}");
    }
    let upstream = of("upstream origin");
    assert_eq!((upstream[1], upstream[5]), ("SPAN_KIND_CLIENT", own[4]));
    let other = of("_OTHER all");
    assert_eq!((other[2], other[5]), ("STATUS_CODE_UNSET", "-"));
}

#[tokio::test]
async fn a_collector_that_is_away_delays_nobody() {
    let origin = Origin::start().await;
    let (_reserved, absent) = nobody();
    let table = format!("[tracing]\notlp = {absent:?}\nratio = 1\n");
    let gateway = Gateway::setup(&origin).route(&table).start().await;
    origin.on("/a").reply(ok("1"));
    gateway.get("/a").await.code(200);
    let spans = || gateway.service().gateway().stats().snapshot().spans;
    until("they are counted", || spans().dropped == 2).await;
    assert_eq!(spans().written, 0);
    gateway.get("/a").await.code(200);
}

#[tokio::test]
async fn without_tracing_a_trace_passes_as_it_came() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let ask = gateway.ask("GET", "/a").field("traceparent", &parent("01"));
    ask.field("tracestate", "other=1").send().await;
    let asked = origin.last("/a");
    assert_eq!(asked.field("traceparent"), Some(parent("01")));
    assert_eq!(asked.field("tracestate").as_deref(), Some("other=1"));
}
