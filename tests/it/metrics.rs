//! Figures for Prometheus: read by programs that nobody here wrote.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::client::Ask;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::redis::Redis;
use crate::support::{free_port, shell};

const DOCS: &str = include_str!("../../docs/metrics.md");
const ALERTS: &str = include_str!("../../docs/prometheus/alerts.yml");
const DASHBOARD: &str = include_str!("../../docs/grafana/larder.json");

const ROUTES: &str = "[policies.plain]\nplugin = \"bundled:normalise-query\"\n\
                      config = { drop = [\"utm_*\"] }\n\
                      [[routes]]\nname = \"a.b\"\npath = \"/a/{*rest}\"\n\
                      upstream = \"origin\"\nkey = \"plain\"\n";

/// With everything that a gateway can have without MongoDB, and a few requests answered.
async fn with_everything(origin: &Origin, redis: &Redis) -> Gateway {
    let setup = Gateway::setup(origin).redis(redis).routes(ROUTES);
    let gateway = setup.start().await.in_step().await;
    origin.on("/a/1").reply(ok("12345").max_age(60));
    origin.on("/a/2").reply(status(404));
    for target in ["/a/1", "/a/1?utm_x=1", "/a/1", "/a/2", "/elsewhere"] {
        gateway.get(target).await;
    }
    gateway
}

async fn metrics(gateway: &Gateway) -> String {
    let got = gateway.admin("GET", "/metrics").send().await.code(200);
    String::from_utf8(
        got.has("content-type", "text/plain; version=0.0.4; charset=utf-8").body.into(),
    )
    .unwrap()
}

/// The families that there are, with their kinds.
fn families(text: &str) -> BTreeMap<&str, &str> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split_once(' ').unwrap()).collect()
}

#[track_caller]
fn figure(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no `{series}` in {text}")).parse().unwrap()
}

#[tokio::test]
async fn figures_are_those_of_the_requests_made() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = with_everything(&origin, &redis).await;
    let text = metrics(&gateway).await;
    let route = "route=\"a.b\"";
    let hits = format!("{route},outcome=\"hit-l1\"");
    for (series, expected) in [
        (format!("larder_requests_total{{{hits},status=\"2xx\"}}"), 2.0),
        (format!("larder_requests_total{{{route},outcome=\"uri-miss\",status=\"2xx\"}}"), 1.0),
        (format!("larder_requests_total{{{route},outcome=\"uri-miss\",status=\"4xx\"}}"), 1.0),
        ("larder_requests_total{outcome=\"refused\",status=\"4xx\"}".to_owned(), 1.0),
        (format!("larder_request_duration_seconds_count{{{hits}}}"), 2.0),
        (format!("larder_request_duration_seconds_bucket{{{hits},le=\"+Inf\"}}"), 2.0),
        (format!("larder_request_duration_seconds_bucket{{{hits},le=\"60.0\"}}"), 2.0),
        (format!("larder_lookups_total{{{route},tier=\"l1\",result=\"hit\"}}"), 2.0),
        (format!("larder_lookups_total{{{route},tier=\"l2\",result=\"miss\"}}"), 2.0),
        (format!("larder_forward_requests_total{{{route}}}"), 2.0),
        (format!("larder_stored_total{{{route}}}"), 1.0),
        (format!("larder_sent_bytes_total{{{route}}}"), 15.0),
        ("larder_upstream_requests_total{upstream=\"origin\"}".to_owned(), 2.0),
        ("larder_upstream_time_to_first_byte_seconds_count{upstream=\"origin\"}".to_owned(), 2.0),
        ("larder_policy_failures_total{policy=\"plain\"}".to_owned(), 0.0),
        ("larder_l2_up".to_owned(), 1.0),
        ("larder_config_last_reload_successful".to_owned(), 1.0),
        ("larder_draining".to_owned(), 0.0),
    ] {
        let told = figure(&text, &series);
        assert!((told - expected).abs() < 1e-9, "{series} is {told}, not {expected}");
    }
    assert!(figure(&text, "larder_policy_calls_total{policy=\"plain\"}") >= 2.0);
    assert!(figure(&text, "larder_connections_total") >= 5.0);
    for series in ["larder_l1_entries", "process_cpu_seconds_total", "process_open_fds"] {
        assert!(figure(&text, series) > 0.0, "{series}");
    }
    assert!(!text.contains("elsewhere") && !text.contains("utm"), "no label is a client's");
}

#[tokio::test]
async fn promtool_finds_nothing_wrong() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = with_everything(&origin, &redis).await;
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`promtool` is missing: install prometheus");
    child.stdin.take().unwrap().write_all(metrics(&gateway).await.as_bytes()).unwrap();
    let checked = child.wait_with_output().unwrap();
    let told = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success() && told.is_empty(), "{}", String::from_utf8_lossy(&told));
}

#[tokio::test]
async fn each_metric_is_in_the_documentation() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let text = metrics(&gateway).await;
    let rows = DOCS.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows = rows.filter(|(name, _)| name.starts_with("larder_") || name.starts_with("process_"));
    let documented: BTreeMap<_, _> =
        rows.map(|(name, rest)| (name, rest.split(' ').next().unwrap())).collect();
    assert_eq!(documented, families(&text));
}

#[tokio::test]
async fn who_asks_for_open_metrics_gets_them() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let ask = gateway.admin("GET", "/metrics");
    let ask = ask.field("accept", "application/openmetrics-text; version=1.0.0, text/plain;q=0.5");
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let got = ask.send().await.code(200).has("content-type", media_type);
    let text = String::from_utf8(got.body.into()).unwrap();
    assert!(text.contains("# TYPE larder_requests counter\n"), "{text}");
    assert!(text.ends_with("\n# EOF\n"), "{text}");
}

#[tokio::test]
async fn the_token_is_asked_for() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).admin("token = \"secret\"").start().await;
    gateway.admin("GET", "/metrics").send().await.code(401);
    let ask = gateway.admin("GET", "/metrics").field("authorization", "Bearer secret");
    ask.send().await.code(200);
}

/// A Prometheus that scrapes one gateway. Dropping it ends it.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    fn start(gateway: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let file = folder.path().join("prometheus.yml");
        let config = format!(
            "global:\n  scrape_interval: 100ms\nscrape_configs:\n- job_name: larder\n  \
             static_configs:\n  - targets: [\"{gateway}\"]\n"
        );
        std::fs::write(&file, config).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`prometheus` is missing: install prometheus");
        Self { child, address, _folder: folder }
    }

    /// What a query comes to; none while nothing does.
    async fn query(&self, query: &str) -> Option<f64> {
        // Nobody may be there yet.
        drop(TcpStream::connect(self.address).await.ok()?);
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let target = format!("/api/v1/query?query={query}");
        let got = Ask::new(self.address, "GET", &target).attempt().await.ok()?;
        let told: Value = serde_json::from_slice(&got.body).ok()?;
        told.pointer("/data/result/0/value/1")?.as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn a_prometheus_takes_them_in() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let gateway = with_everything(&origin, &redis).await;
    let prometheus = Prometheus::start(gateway.admin_address());
    for (query, expected) in [
        ("up{job=\"larder\"}", 1.0),
        ("sum(larder_requests_total{outcome=\"hit-l1\"})", 2.0),
        ("sum(larder_request_duration_seconds_bucket{le=\"1.0\"})", 5.0),
        ("count(process_resident_memory_bytes)", 1.0),
    ] {
        shell::until(query, async || {
            prometheus.query(query).await.is_some_and(|told| (told - expected).abs() < 1e-9)
        })
        .await;
    }
    let median = "histogram_quantile(0.5, sum by (le) (larder_request_duration_seconds_bucket))";
    let median = prometheus.query(median).await.unwrap();
    assert!(median > 0.0, "{median}");
}

/// The metrics that a text names.
fn named(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut names: Vec<_> =
        words.filter(|it| it.starts_with("larder_") || it.starts_with("process_")).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn promtool(arguments: &[&str], folder: &Path) {
    let ran = Command::new("promtool").args(arguments).current_dir(folder).output();
    let ran = ran.expect("`promtool` is missing: install prometheus");
    let told = [ran.stdout, ran.stderr].concat();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&told));
}

#[tokio::test]
async fn alerts_and_the_dashboard_name_what_there_is() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let text = metrics(&gateway).await;
    let families = families(&text);
    for (file, text) in [("alerts.yml", ALERTS), ("larder.json", DASHBOARD), ("metrics.md", DOCS)] {
        for name in named(text) {
            let is_part = |suffix| {
                let family = name.strip_suffix(suffix);
                family.is_some_and(|it| families.get(it) == Some(&"histogram"))
            };
            let is_known = families.contains_key(name)
                || ["_bucket", "_count", "_sum"].into_iter().any(is_part);
            assert!(is_known, "{file}: there is no metric `{name}`");
        }
    }
}

#[test]
fn alerts_fire_for_what_they_are_about() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/prometheus");
    promtool(&["check", "rules", "alerts.yml"], &folder);
    promtool(&["test", "rules", "alerts.test.yml"], &folder);
    let tests = include_str!("../../docs/prometheus/alerts.test.yml");
    for line in ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {line}\n")), "nobody tests {line}");
    }
}

/// Grafana itself would ask Prometheus these queries: each has to be one.
#[test]
fn each_panel_of_the_dashboard_asks_something() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let panels: Vec<_> = panels.filter(|panel| panel["type"] != "row").collect();
    assert!(panels.len() > 10, "{}", panels.len());
    let mut rules = "groups:\n- name: panels\n  rules:\n".to_owned();
    for panel in panels {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "5m");
            let expression = Value::from(query);
            writeln!(rules, "  - record: panel\n    expr: {expression}").unwrap();
            let id = rules.len();
            writeln!(rules, "    labels: {{ id: \"{id}\" }}").unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("panels.yml"), rules).unwrap();
    promtool(&["check", "rules", "panels.yml"], folder.path());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "instance", "route"]);
}
