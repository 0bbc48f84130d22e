//! The dashboard in a real browser: what it shows, what it asks before it acts, who can use it, and that it
//! asks nobody but its gateway.
//!
//! `tests/dashboard.mjs` drives it. With `LARDER_SCREENSHOTS=yes` it writes the pictures in `docs/` anew.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::redis::Redis;
use crate::support::tool;

const TOKEN: &str = "s3cret-token";

const ROUTES: &str = "[policies.no-tracking]
plugin = \"bundled:normalise-query\"
config = { drop = [\"utm_*\"] }
time = \"10s\"

[[routes]]
name = \"catalogue\"
path = \"/catalogue/{*rest}\"
upstream = \"origin\"
key = \"no-tracking\"

[[routes]]
name = \"users\"
path = \"/users/{id}\"
upstream = \"origin\"

[[routes]]
name = \"cart\"
path = \"/cart/{*rest}\"
upstream = \"origin\"
";

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_asks_and_obeys() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let warm = "busiest = 100\nwhen = []";
    let open = Gateway::setup(&origin).server("workers = 1\nname = \"shop-1\"");
    let open = open.routes(ROUTES).warm(warm);
    let open = open.redis(&redis).start().await.in_step().await;
    let admin = format!("token = \"{TOKEN}\"");
    let closed = Gateway::setup(&origin).admin(&admin).start().await;
    for number in 0..40 {
        let target = format!("/catalogue/{number}");
        let page = ok(format!("{{\"id\":{number},\"name\":\"Shoe {number}\"}}"));
        let page = page.field("content-type", "application/json").field("cache-tag", "catalogue");
        for query in ["", "?utm_source=0", "?utm_source=1", "?utm_source=2", "?utm_source=3"] {
            origin.on(&format!("{target}{query}")).reply(page.clone().max_age(30));
        }
        origin.on(&target).method("PUT").reply(status(204));
        // Markup that would do harm if it were taken for some.
        let page = ok("<script>alert(1)</script><img src=x onerror=alert(2)>").max_age(600);
        let page = page.field("content-type", "text/html").field("cache-tag", "<b>users</b>");
        origin.on(&format!("/users/{number}")).reply(page);
        let page = ok("{}").field("cache-control", "no-store");
        origin.on(&format!("/cart/{number}")).reply(page);
    }

    let is_there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    assert!(is_there("node"), "`node` is missing: run tests/run, or install Node.js 18 or newer");
    let browser = "`chromium` is missing: run tests/run, or install Chromium";
    assert!(is_there("chromium"), "{browser}");
    let mut command = Command::new("node");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dashboard.mjs"));
    command.arg(tool("browser/node_modules"));
    let url = |address| format!("http://{address}");
    command.args([
        url(open.address()),
        url(open.admin_address()),
        url(closed.admin_address()),
        TOKEN.to_owned(),
    ]);
    if std::env::var_os("LARDER_SCREENSHOTS").as_deref() == Some(OsStr::new("yes")) {
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs"));
    }
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "the dashboard is not as it should be:\n{said}");
}
