//! One small policy in several languages (`plugins/examples`), each as its tools leave it: the same
//! requests, the same answers. `tests/run` builds them.

use std::path::PathBuf;

use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, ok};
use crate::support::program::larder;
use crate::support::tool;

const LANGUAGES: [&str; 3] = ["c", "javascript", "rust"];

/// The plugin in a language.
fn plugin(language: &str) -> PathBuf {
    tool(&format!("plugins/by-tenant-{language}.wasm"))
}

/// A policy in a language, and a route that it gives the keys of. Time and memory are as they are by
/// default, save that a busy machine is given time.
fn tables(language: &str, lines: &str) -> String {
    format!(
        "[policies.by-tenant]\nplugin = \"{}\"\ntime = \"10s\"\n{lines}\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\nkey = \"by-tenant\"\n",
        plugin(language).display()
    )
}

fn setup(origin: &Origin, language: &str, lines: &str) -> Setup {
    let setup = Gateway::setup(origin).cache("[cache]\nstatus_key = true");
    setup.routes(&tables(language, lines))
}

#[tokio::test]
async fn a_key_is_the_same_in_every_language() {
    for language in LANGUAGES {
        let origin = Origin::start().await;
        let gateway = setup(&origin, language, "").start().await;
        let ask = |target: &str, tenant: Option<&str>| {
            let ask = gateway.ask("GET", target);
            let ask = if let Some(tenant) = tenant { ask.field("x-tenant", tenant) } else { ask };
            ask.send()
        };
        let long = "t".repeat(2000);
        let cases = [
            ("/a", "1", "a?tenant=1"),
            ("/a", "2", "a?tenant=2"),
            ("/b", "1", "b?tenant=1"),
            ("/a", "", "a?tenant="),
            ("/a%20b/%C3%BC", "1", "a%20b/%C3%BC?tenant=1"),
            ("/a", "with \\ and & and =", "a?tenant=with \\\\ and & and ="),
            ("/", "1", "?tenant=1"),
        ];
        for (target, tenant, name) in cases {
            let body = format!("{target} {tenant}");
            origin.on(target).with("x-tenant", tenant).reply(ok(body.clone()).max_age(600));
            for outcome in ["fwd=uri-miss; stored", "hit"] {
                let got = ask(target, Some(tenant)).await.body(&body);
                got.status(&format!("{outcome}; key=\"{name}\""));
            }
        }
        origin.on("/long").with("x-tenant", &long).reply(ok("long").max_age(600));
        ask("/long", Some(&long)).await.body("long");
        ask("/long", Some(&long)).await.body("long");
        origin.saw("/long", 1);
        // The query was not asked for.
        ask("/a?x=1", Some("1")).await.body("/a 1").status("hit; key=\"a?tenant=1\"");
        origin.saw("/a?x=1", 0);

        origin.on("/a").reply(ok("nobody's").max_age(600));
        for _ in 0..2 {
            let got = ask("/a", None).await.body("nobody's");
            got.status("fwd=bypass; detail=\"no tenant\"");
        }
        let stats = gateway.stats().await;
        assert_eq!(stats["policies"]["by-tenant"]["failures"], 0, "{language}: {stats}");
        assert_eq!(stats["policies"]["by-tenant"]["calls"], 9, "{language}: {stats}");
    }
}

#[tokio::test]
async fn a_setting_is_read_in_every_language() {
    for language in LANGUAGES {
        let origin = Origin::start().await;
        let lines = "config = { field = \"X-Team\" }\nremember = 0";
        let gateway = setup(&origin, language, lines).start().await;
        for team in ["1", "2"] {
            origin.on("/a").with("x-team", team).reply(ok(team).max_age(600));
            for outcome in ["fwd=uri-miss; stored", "hit"] {
                let ask = gateway.ask("GET", "/a").field("x-team", team).field("x-tenant", "other");
                let status = format!("{outcome}; key=\"a?tenant={team}\"");
                ask.send().await.body(team).status(&status);
            }
        }
    }
}

#[test]
fn a_wrong_setting_is_told_in_every_language() {
    for language in LANGUAGES {
        for (config, told) in [
            ("{ fields = \"x-team\" }", "`field`"),
            ("{ field = [\"x-team\"] }", "`field`"),
            ("{ field = 1 }", "`field`"),
            ("{ field = \"x team\" }", "no field name: `x team`"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let upstream = "[upstreams.origin]\nservers = [\"http://127.0.0.1:1\"]\n";
            let tables = tables(language, &format!("config = {config}"));
            std::fs::write(folder.path().join("gateway.toml"), format!("{upstream}{tables}"))
                .unwrap();
            let ran = larder(folder.path(), &["check"]);
            assert_eq!(ran.code, Some(2), "{language}: {ran:?}");
            let line = ran.err.lines().find(|line| line.contains(": policy `by-tenant`: "));
            assert!(line.is_some_and(|line| line.contains(told)), "{language}: {ran:?}");
        }
    }
}
