//! Plugins that mean harm, before a gateway that runs as a program. Each does one thing. What its
//! clients get is what `on_error` says, the operator sees one line and a figure, and the next call is
//! answered as if nothing had been; or it is not loaded at all, and the operator is told why.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::client::{Ask, Got};
use crate::support::origin::{Origin, ok, status};
use crate::support::plugin::{CONTRACT, SPIN, fixture, module_of};
use crate::support::program::{Running, larder};
use crate::support::{PATIENCE, until};

/// Where `configure` may put an answer of its own: zeroes, which ask for nothing.
const ANSWER: usize = 65_536;
/// Where the names of fields and what is prepared stand in it.
const FIELDS: usize = ANSWER + 8;
const PREPARED: usize = ANSWER + 56;
/// Zeroes beyond it.
const ZEROES: usize = 70_000;

const ON_ERROR: [&str; 3] = ["bypass", "fail", "default"];

/// A `gateway.toml` with ports of its own, for the program.
fn gateway_toml(origin: &str, rest: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [upstreams.origin]\nservers = [\"{origin}\"]\n{rest}"
    )
}

/// A policy whose plugin is this file.
fn policy(name: &str, plugin: &Path, lines: &str) -> String {
    format!("[policies.{name}]\nplugin = \"{}\"\n{lines}\n", plugin.display())
}

/// A route by host.
fn route(host: &str, policies: &str) -> String {
    format!(
        "[[routes]]\nname = \"{host}\"\nhost = \"{host}.example\"\npath = \"/{{*rest}}\"\n\
         upstream = \"origin\"\n{policies}\n"
    )
}

async fn ask(larder: &Running, host: &str, target: &str) -> Got {
    let ask = Ask::new(larder.address(), "GET", target);
    ask.field("host", &format!("{host}.example")).send().await
}

/// A `store` of a number into the plugin's memory.
fn store(place: usize, number: usize) -> String {
    format!("(i32.store (i32.const {place}) (i32.const {number}))\n")
}

// What fails in a call.

#[tokio::test]
async fn a_failure_that_cannot_be_logged_is_one_of_the_policy_alone() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("hostile.wasm");
    fs::write(&plugin, fixture(&[("key", "unreachable")])).unwrap();
    let tables = policy("fails", &plugin, "on_error = \"bypass\"") + &route("a", "key = \"fails\"");
    let origin = Origin::start().await;
    origin.on("/bad").reply(ok("bad"));
    let mut larder = Running::with(&gateway_toml(&origin.url(), &tables)).await;
    larder.is_not_heard();
    for _ in 0..5 {
        ask(&larder, "a", "/bad").await.code(200).body("bad");
    }
}

/// Runs the fixture with this in its places, once for each `on_error`. For paths of four octets it
/// fails, and the log says so with this text.
async fn fails(places: &[(&str, &str)], lines: &str, told: &str) {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("hostile.wasm");
    fs::write(&plugin, fixture(places)).unwrap();
    let tables = ON_ERROR.map(|on_error| {
        let lines = format!("on_error = \"{on_error}\"\n{lines}");
        policy(on_error, &plugin, &lines) + &route(on_error, &format!("key = \"{on_error}\""))
    });
    let origin = Origin::start().await;
    let mut larder = Running::with(&gateway_toml(&origin.url(), &tables.concat())).await;
    origin.on("/bad").reply(ok("bad").max_age(600));
    origin.on("/fine").reply(ok("fine").max_age(600));

    // All at once, so that three that take all their time take it together.
    let [bypass, fail, default] = ON_ERROR.map(|on_error| ask(&larder, on_error, "/bad"));
    let (bypass, fail, default) = tokio::join!(bypass, fail, default);
    bypass.code(200).body("bad").status("fwd=bypass; detail=policy-failed");
    let fail = fail.code(502).status("fwd=bypass; detail=policy-failed");
    let problem: Value = serde_json::from_slice(&fail.body).unwrap();
    assert_eq!(problem["detail"], "the policy of this route failed", "no internals");
    default.code(200).body("bad").status("fwd=uri-miss; stored");
    origin.saw("/bad", 2);

    let mut complained = Vec::new();
    for _ in ON_ERROR {
        let line = larder.logs("key policy failed").await;
        let error = line["error"].as_str().unwrap();
        assert!(error.contains(told), "{error}\nshould say: {told}");
        assert!(error.len() < 4096 && !error.contains(is_unfit_for_a_terminal), "{error:?}");
        assert_eq!(line["path"], "\"/bad\"");
        complained.push(line["policy"].as_str().unwrap().to_owned());
    }
    complained.sort();
    assert_eq!(complained, ["bypass", "default", "fail"]);

    for on_error in ON_ERROR {
        ask(&larder, on_error, "/fine").await.body("fine").status("fwd=uri-miss; stored");
        ask(&larder, on_error, "/fine").await.body("fine").status("hit");
    }
    let stats = larder.stats().await;
    for on_error in ON_ERROR {
        let counted = &stats["policies"][on_error];
        assert_eq!((&counted["calls"], &counted["failures"]), (&2.into(), &1.into()), "{stats}");
        assert_eq!(stats["routes"][on_error]["policy_failures"], 1, "{stats}");
    }
}

fn is_unfit_for_a_terminal(shown: char) -> bool {
    // The latter end a line, or make it read backwards.
    shown.is_control() || ('\u{2028}'..='\u{202e}').contains(&shown)
}

const AMPLE: &str = "time = \"10s\"";
const TAKES_ALL: &str = "time = \"2s\"";
const TIMED_OUT: &str = "the plugin took longer than the policy's `time`";
const STARVED: &str = "the plugin wanted more than the policy's `memory`";
const TRAPPED: &str = "the plugin trapped: ";
const NONSENSE: &str = "the plugin's answer breaks the contract: ";

#[tokio::test]
async fn loops() {
    fails(&[("key", SPIN)], TAKES_ALL, TIMED_OUT).await;
}

#[tokio::test]
async fn loops_while_it_is_given_its_arguments() {
    // The name of a field is in every call; that of four octets is only in some.
    let spin = format!("(if (i32.eq (local.get $size) (i32.const 4)) (then {SPIN}))");
    fails(&[("realloc", &spin)], TAKES_ALL, TIMED_OUT).await;
}

#[tokio::test]
async fn copies_its_memory_for_ever() {
    let copies = "(loop $more
        (memory.copy (i32.const 65536) (i32.const 0) (i32.const 65536)) (br $more))";
    fails(&[("key", copies)], TAKES_ALL, TIMED_OUT).await;
}

#[tokio::test]
async fn unpacks_passive_segments_for_ever() {
    let segments: String = (0..200)
        .map(|number| format!("(data $d{number} \"{}\")", "x".repeat(60_000)))
        .chain(
            (0..10).map(|number| format!("(elem $e{number} func {})", "$nothing ".repeat(4_000))),
        )
        .chain(["(table $table 4000 funcref) (func $nothing)".to_owned()])
        .collect();
    let unpacks: String = (0..200)
        .map(|number| {
            format!("(memory.init $d{number} (i32.const 65536) (i32.const 0) (i32.const 60000))")
        })
        .chain((0..10).map(|number| {
            format!("(table.init $e{number} (i32.const 0) (i32.const 0) (i32.const 4000))")
        }))
        .collect();
    let body = format!("(loop $more {unpacks} (br $more))");
    fails(&[("more", &segments), ("key", &body)], TAKES_ALL, TIMED_OUT).await;
}

#[tokio::test]
async fn eats_memory() {
    let eats = "(loop $grow (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
        unreachable";
    fails(&[("key", eats)], AMPLE, STARVED).await;
}

#[tokio::test]
async fn eats_memory_in_tables() {
    // The fixture's own memory leaves 32 KiB of this.
    let lines = format!("{AMPLE}\nmemory = \"160KiB\"");
    let eats = "(loop $grow (br_if $grow
        (i32.ne (table.grow $table (ref.null func) (i32.const 64)) (i32.const -1)))) unreachable";
    fails(&[("more", "(table $table 1 funcref)"), ("key", eats)], &lines, STARVED).await;
}

#[tokio::test]
async fn recurses() {
    let places =
        [("more", "(func $deeper (call $deeper) (call $deeper))"), ("key", "(call $deeper)")];
    fails(&places, AMPLE, "stack exhausted").await;
}

#[tokio::test]
async fn traps_in_a_function_whose_name_is_for_terminals() {
    let places = [
        ("more", r#"(func $"\1b[2J\1b[31mbroken\e2\80\ae\0a" unreachable)"#),
        ("key", r#"(call $"\1b[2J\1b[31mbroken\e2\80\ae\0a")"#),
    ];
    fails(&places, AMPLE, TRAPPED).await;
}

/// The name of a function in C++ that mentions types: each is made of the one before it, sixteen times.
fn mangled() -> String {
    let types: Vec<_> =
        (0..12).map(|before| format!("S_I{}E", format!("S{before:X}_").repeat(16))).collect();
    format!("_Z1f1TIiE{}", types.concat())
}

#[tokio::test]
async fn traps_in_a_function_whose_name_is_long_or_stands_for_a_longer_one() {
    let mangled = mangled();
    let long = format!("x{}", "\u{e9}".repeat(40_000));
    for (name, shown) in [(&mangled, &mangled[..200]), (&long, &long[..199])] {
        let more = format!("(func $\"{name}\" unreachable)");
        let call = format!("(call $\"{name}\")");
        fails(&[("more", &more), ("key", &call)], AMPLE, &format!("{shown}; 1: ")).await;
    }
}

#[tokio::test]
async fn answers_ten_mebibytes() {
    let lines = format!("{AMPLE}\nmemory = \"16MiB\"");
    let answers = format!(
        "(drop (memory.grow (i32.const 160))) {} {} (return (i32.const 128))",
        store(168, 65_536),
        store(172, 10 << 20)
    );
    fails(&[("key", &answers)], &lines, NONSENSE).await;
}

/// An answer of so many parts, whose values all are the same octets.
fn repeats(parts: usize, octets: usize) -> String {
    let list: String = (0..parts)
        .map(|part| store(66_000 + 16 * part, 65_536) + &store(66_012 + 16 * part, octets))
        .collect();
    format!("{list} {} {} (return (i32.const 128))", store(136, 66_000), store(140, parts))
}

#[tokio::test]
async fn answers_the_same_octets_again_and_again() {
    // Names at a place, of no length; each value is 60,000 octets from address 0 on.
    let answers = repeats(60, 60_000);
    fails(&[("key", &answers)], AMPLE, NONSENSE).await;
}

#[tokio::test]
async fn answers_a_list_that_is_longer_than_its_memory() {
    let answers = format!("{} (return (i32.const 128))", store(140, usize::from(u16::MAX) << 12));
    fails(&[("key", &answers)], AMPLE, NONSENSE).await;
}

#[tokio::test]
async fn answers_more_parts_than_a_key_may_have() {
    fails(&[("key", &repeats(65, 0))], AMPLE, "a key has more than 64 parts").await;
}

#[tokio::test]
async fn answers_from_outside_its_memory() {
    let answers = "(i32.store (i32.const 168) (i32.const -16))";
    fails(&[("key", answers)], AMPLE, NONSENSE).await;
}

#[tokio::test]
async fn refuses_with_a_text_for_terminals() {
    let text = r#"(data (i32.const 66000) "\1b]0;owned\07\1b[31m\0d\0ano \e2\80\ae\c2\9bpath")"#;
    let answers = format!(
        "(i32.store8 (i32.const 128) (i32.const 1)) {} {} (return (i32.const 128))",
        store(132, 66_000),
        store(136, 29)
    );
    let told = "the plugin refused:  ]0;owned  [31m  no ";
    fails(&[("more", text), ("key", &answers)], AMPLE, told).await;
}

#[tokio::test]
async fn loops_over_a_response_and_over_a_write() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("hostile.wasm");
    fs::write(&plugin, fixture(&[("storing", SPIN), ("invalidation", SPIN)])).unwrap();
    let tables = policy("hostile", &plugin, "time = \"100ms\"\non_error = \"fail\"")
        + &route("a", "storing = \"hostile\"\ninvalidation = \"hostile\"");
    let mut larder = Running::with(&gateway_toml(&origin.url(), &tables)).await;
    origin.on("/a").method("GET").reply(ok("1").max_age(600));
    origin.on("/a").method("PUT").reply(status(204));
    // What the origin answered is there: the client gets it.
    ask(&larder, "a", "/a").await.body("1").status("fwd=uri-miss; detail=policy-failed");
    let line = larder.logs("storing policy failed").await;
    assert_eq!((&line["error"], &line["path"]), (&TIMED_OUT.into(), &"\"/a\"".into()));
    let put = Ask::new(larder.address(), "PUT", "/a").field("host", "a.example");
    put.send().await.code(204).status("fwd=method");
    let line = larder.logs("invalidation policy failed").await;
    assert_eq!((&line["error"], &line["path"]), (&TIMED_OUT.into(), &"\"/a\"".into()));
    let stats = larder.stats().await;
    assert_eq!(stats["policies"]["hostile"]["failures"], 2, "{stats}");
    assert_eq!(stats["routes"]["a"]["policy_failures"], 2, "{stats}");
}

// What does no harm.

/// One route whose key policy is the fixture with this in its places.
async fn start(origin: &Origin, folder: &TempDir, places: &[(&str, &str)]) -> Running {
    let plugin = folder.path().join("hostile.wasm");
    fs::write(&plugin, fixture(places)).unwrap();
    let tables = policy("hostile", &plugin, AMPLE) + &route("a", "key = \"hostile\"");
    let toml = gateway_toml(&origin.url(), &format!("[cache]\nstatus_key = true\n{tables}"));
    Running::with(&toml).await
}

#[tokio::test]
async fn floods_the_log() {
    // 60,000 octets: the text below, and zeroes.
    let flood = "(local.set $request (i32.const 0)) (loop $more
        (call $write (i32.const 2) (i32.const 66000) (i32.const 60000))
        (local.set $request (i32.add (local.get $request) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $request) (i32.const 1000))))";
    let text = r#"(data (i32.const 66000) "\1b[2J flooded\0alevel=ERROR all is lost")"#;
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut larder = start(&origin, &folder, &[("more", text), ("key", flood)]).await;
    origin.on("/bad").reply(ok("bad").max_age(600));
    let got = ask(&larder, "a", "/bad").await.body("bad");
    got.status("fwd=uri-miss; stored; key=\"bad\"");
    for _ in 0..16 {
        let line = larder.logs(" [2J flooded level=ERROR all is lost ").await;
        assert_eq!(line["policy"], "hostile");
        let message = line["message"].as_str().unwrap();
        assert_eq!(message.len(), 1024);
        assert!(!message.contains(is_unfit_for_a_terminal), "{message:?}");
    }
    let stats = larder.stats().await;
    assert_eq!(stats["policies"]["hostile"]["dropped_lines"], 984, "{stats}");
    assert_eq!(stats["policies"]["hostile"]["failures"], 0, "{stats}");
    // The next line is not the plugin's.
    larder.signal("TERM");
    let line = larder.logs("").await;
    assert_eq!(line["policy"], Value::Null, "{line}");
}

#[tokio::test]
async fn names_a_response_so_that_it_would_break_a_line() {
    // The part's value, and so the name: a line of its own, the end of a string, what is no ASCII.
    let name =
        r#"(data (i32.const 66000) "a\0d\0aset-cookie: b=c\0d\0a\22; hit; \c3\a9\e2\80\ae")"#;
    let answers = format!("{} {}", store(168, 66_000), store(172, 33));
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let larder = start(&origin, &folder, &[("more", name), ("key", &answers)]).await;
    origin.on("/bad").reply(ok("bad").max_age(600));
    for outcome in ["fwd=uri-miss; stored; key=", "hit; key="] {
        let got = ask(&larder, "a", "/bad").await.body("bad").lacks("set-cookie");
        assert!(got.cache_status().starts_with(outcome), "{got:?}");
        assert!(got.field("cache-status").unwrap().is_ascii(), "{got:?}");
    }
}

#[tokio::test]
async fn gives_a_reason_that_would_break_a_line() {
    let reason =
        r#"(data (i32.const 66000) "a\0d\0aset-cookie: b=c\0d\0a\22; hit; \c3\a9\e2\80\ae")"#;
    let answers = format!(
        "(i32.store8 (i32.const 132) (i32.const 1)) {} {} (return (i32.const 128))",
        store(136, 66_000),
        store(140, 33)
    );
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let larder = start(&origin, &folder, &[("more", reason), ("key", &answers)]).await;
    origin.on("/bad").reply(ok("bad").max_age(600));
    for _ in 0..2 {
        let got = ask(&larder, "a", "/bad").await.body("bad").lacks("set-cookie");
        assert!(got.cache_status().starts_with("fwd=bypass; detail="), "{got:?}");
        assert!(got.cache_status().contains("a  set-cookie: b=c"), "{got:?}");
        assert!(got.field("cache-status").unwrap().is_ascii(), "{got:?}");
    }
    origin.saw("/bad", 2);
}

#[tokio::test]
async fn counts_its_calls_and_finds_each_to_be_the_first() {
    // It would answer another key each time, and ask for other things when it is configured again.
    let counts = format!(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (i32.store8 (i32.const 80) (i32.add (i32.const 48) (global.get $calls)))
         {} {}",
        store(168, 80),
        store(172, 1)
    );
    let more = "(global $calls (mut i32) (i32.const 0))";
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let larder = start(&origin, &folder, &[("more", more), ("key", &counts)]).await;
    // The query is asked for, so these are remembered apart.
    for (target, outcome) in [("/bad?1", "fwd=uri-miss; stored"), ("/bad?2", "hit")] {
        origin.on(target).reply(ok("bad").max_age(600));
        let got = ask(&larder, "a", target).await.body("bad");
        assert!(got.cache_status().starts_with(outcome), "{got:?}");
        assert!(got.cache_status().ends_with("key=\"?1ath=1\""), "{got:?}");
    }
    assert_eq!(larder.stats().await["policies"]["hostile"]["calls"], 2);
}

// What crosses, and what cannot.

/// Names and values.
type Parts<'a> = &'a [(&'a [u8], &'a [u8])];

/// A policy that answers these parts for every path of four octets: code for `key`, and for `more`.
fn answers(parts: Parts<'_>) -> (String, String) {
    let mut code = store(136, 66_000) + &store(140, parts.len());
    let mut more = String::new();
    for (number, text) in parts.iter().flat_map(|(name, value)| [name, value]).enumerate() {
        let place = ZEROES + 256 * number;
        write!(more, "(data (i32.const {place}) \"").unwrap();
        text.iter().for_each(|octet| write!(more, "\\{octet:02x}").unwrap());
        more += "\")\n";
        code += &(store(66_000 + 8 * number, place) + &store(66_004 + 8 * number, text.len()));
    }
    (code, more)
}

/// Two routes with one policy, and two without, of two paths and any host.
async fn crossing(origin: &Origin, folder: &TempDir, parts: Parts<'_>) -> Running {
    let plugin = folder.path().join("hostile.wasm");
    let (code, more) = answers(parts);
    fs::write(&plugin, fixture(&[("key", &code), ("more", &more)])).unwrap();
    let mut tables = policy("hostile", &plugin, AMPLE);
    for (name, line) in [("x", "key = \"hostile\""), ("y", "key = \"hostile\""), ("z", "")] {
        let place = format!("name = \"{name}\"\npath = \"/{name}/{{*rest}}\"");
        write!(tables, "[[routes]]\n{place}\nupstream = \"origin\"\n{line}\n").unwrap();
    }
    Running::with(&gateway_toml(&origin.url(), &tables)).await
}

#[tokio::test]
async fn answers_one_key_for_everything() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let larder = crossing(&origin, &folder, &[(b"", b"")]).await;
    for target in ["/x/1", "/x/2", "/x/3", "/y/1", "/z/1"] {
        origin.on(target).method("GET").reply(ok(target).max_age(600));
        origin.on(target).method("PUT").reply(status(204));
        origin.on(target).method("QUERY").reply(ok("queried").max_age(600));
    }
    let miss = "fwd=uri-miss; stored";
    ask(&larder, "a", "/x/1").await.body("/x/1").status(miss);
    // Within its route and authority the policy says what is the same, and it says that all is.
    ask(&larder, "a", "/x/2").await.body("/x/1").status("hit");
    let head = Ask::new(larder.address(), "HEAD", "/x/2").field("host", "a.example");
    head.send().await.body("").has("content-length", "4").status("hit");
    // What the host owns keeps the rest apart: the route, the authority, the method.
    ask(&larder, "a", "/y/1").await.body("/y/1").status(miss);
    ask(&larder, "a", "/z/1").await.body("/z/1").status(miss);
    ask(&larder, "b", "/x/2").await.body("/x/2").status(miss);
    let query = |content: &'static str| {
        let ask = Ask::new(larder.address(), "QUERY", "/x/1").field("host", "a.example");
        ask.field("content-type", "text/plain").body(content).send()
    };
    query("a").await.body("queried").status(miss);
    query("b").await.body("queried").status(miss);
    query("a").await.body("queried").status("hit");
    ask(&larder, "a", "/x/3").await.body("/x/1").status("hit");

    // Nor does it share what is not to be shared, or what the response says it varies by.
    let private = ok("mine").field("cache-control", "private, max-age=600");
    origin.on("/x/p").reply(private);
    let varied = |body: &'static str| ok(body).max_age(600).field("vary", "x-a");
    origin.on("/y/v").with("x-a", "1").reply(varied("1"));
    origin.on("/y/v").with("x-a", "2").reply(varied("2"));
    ask(&larder, "c", "/x/p").await.body("mine").status("fwd=uri-miss; detail=private");
    ask(&larder, "c", "/x/1").await.body("/x/1").status(miss);
    for (value, outcome) in
        [("1", miss), ("2", "fwd=vary-miss; stored"), ("1", "hit"), ("2", "hit")]
    {
        let ask = Ask::new(larder.address(), "GET", "/y/v").field("host", "c.example");
        ask.field("x-a", value).send().await.body(value).status(outcome);
    }

    // A write to any of the paths makes wrong what answers for it.
    let put = Ask::new(larder.address(), "PUT", "/x/1").field("host", "a.example");
    put.send().await.code(204).status("fwd=method");
    ask(&larder, "a", "/x/2").await.body("/x/2").status(miss);
    ask(&larder, "a", "/y/1").await.status("hit");
}

#[tokio::test]
async fn answers_the_key_of_another_route_or_what_looks_like_it() {
    // How the host writes what it owns: each text after its length, as in `CacheKey::new`.
    let own: Vec<u8> = ["larder", "z", "a.example", "GET", "path", "/z/1"]
        .iter()
        .flat_map(|text| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat())
        .collect();
    let forged: [Parts<'_>; 6] = [
        &[(b"path", b"/z/1")],
        &[(b"z", b"a.example"), (b"GET", b"path"), (b"/z/1", b"")],
        &[(b"larder", b"z"), (b"a.example", b"GET"), (b"path", b"/z/1")],
        &[(&own, b"")],
        &[(b"", &own)],
        &[(b"\x08\0\0\0\0\0\0\0path", b"\x04\0\0\0\0\0\0\0/z/1")],
    ];
    for parts in forged {
        let origin = Origin::start().await;
        let folder = tempfile::tempdir().unwrap();
        let larder = crossing(&origin, &folder, parts).await;
        for target in ["/x/1", "/y/1", "/z/1"] {
            origin.on(target).reply(ok(target).max_age(600));
        }
        for target in ["/z/1", "/x/1", "/y/1"] {
            ask(&larder, "a", target).await.body(target).status("fwd=uri-miss; stored");
        }
        for target in ["/z/1", "/x/1", "/y/1"] {
            ask(&larder, "a", target).await.body(target).status("hit");
        }
    }
}

// Under load.

/// Clients at once, and how often they come.
const CLIENTS: usize = 64;
const WAVES: u64 = 3;

/// Memory that may stay with the gateway, in MiB: each of its places for a call keeps 256 KiB of the
/// plugin's memory and as much of its tables, and the allocator keeps something.
const KEPT: u64 = 80;

/// Asks for `/stats` until it holds.
async fn stats_say(larder: &Running, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let looking = async {
        loop {
            let stats = larder.stats().await;
            if holds(&stats) {
                return stats;
            }
        }
    };
    let looked = tokio::time::timeout(6 * PATIENCE, looking).await;
    looked.unwrap_or_else(|_| panic!("never happened: {what}"))
}

/// Clients that ask and are gone before they are answered, beside one who uses another route.
async fn bears(places: &[(&str, &str)]) {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("hostile.wasm");
    fs::write(&plugin, fixture(places)).unwrap();
    let tables = [
        policy("hostile", &plugin, "time = \"300ms\"\non_error = \"fail\""),
        policy("healthy", Path::new("bundled:normalise-query"), AMPLE),
        route("hostile", "key = \"hostile\""),
        route("healthy", "key = \"healthy\""),
    ];
    let larder = Running::with(&gateway_toml(&origin.url(), &tables.concat())).await;
    let before = larder.memory("VmRSS");
    for wave in 1..=WAVES {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let address = larder.address();
            clients.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let asked = b"GET /bad HTTP/1.1\r\nhost: hostile.example\r\n\r\n";
                stream.write_all(asked).await.unwrap();
                stream
            });
        }
        let clients = clients.join_all().await;
        let asked = wave * CLIENTS as u64;
        stats_say(&larder, "all have asked", |stats| {
            stats["routes"]["hostile"]["total_requests"].as_u64() >= Some(asked)
        })
        .await;
        // In the middle of it.
        drop(clients);
        for number in 0..20 {
            let target = format!("/{wave}/{number}?b=2&a=1");
            origin.on(&target).reply(ok("fine").max_age(600));
            let got = ask(&larder, "healthy", &target).await.code(200).body("fine");
            got.status("fwd=uri-miss; stored");
            ask(&larder, "healthy", &target).await.body("fine").status("hit");
        }
        let stats = stats_say(&larder, "all calls have ended", |stats| {
            stats["policies"]["hostile"]["calls"].as_u64() >= Some(asked)
        })
        .await;
        let policies = &stats["policies"];
        assert_eq!(policies["hostile"]["calls"], asked, "{policies}");
        assert_eq!(policies["hostile"]["failures"], asked, "{policies}");
        assert_eq!(policies["healthy"]["calls"], wave * 20, "{policies}");
        assert_eq!(policies["healthy"]["failures"], 0, "{policies}");
    }
    origin.saw("/bad", 0);
    until("memory returns", || larder.memory("VmRSS") < before + KEPT).await;
}

#[tokio::test]
async fn bears_a_crowd_before_a_plugin_that_loops() {
    bears(&[("key", SPIN)]).await;
}

#[tokio::test]
async fn bears_a_crowd_before_a_plugin_that_eats_memory() {
    // All that it gets, each page written to, and then it does not go.
    let eats = format!(
        "(drop (memory.grow (i32.const 100)))
         (memory.fill (i32.const 65536) (i32.const 1) (i32.const 6500000)) {SPIN}"
    );
    bears(&[("key", &eats)]).await;
}

// What is not loaded.

/// What `larder check` says of a policy whose plugin is this file. Nothing else is wrong.
fn told(plugin: &[u8], lines: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hostile.wasm"), plugin).unwrap();
    told_in(&folder, lines)
}

fn told_in(folder: &TempDir, lines: &str) -> String {
    let policy = policy("hostile", Path::new("hostile.wasm"), lines);
    let tables = policy + &route("a", "key = \"hostile\"");
    fs::write(folder.path().join("gateway.toml"), gateway_toml("http://127.0.0.1:1", &tables))
        .unwrap();
    let ran = larder(folder.path(), &["check"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
    let (place, text) =
        ran.err.split_once(": policy `hostile`: ").unwrap_or_else(|| panic!("{ran:?}"));
    assert!(place.starts_with("gateway.toml:"), "{ran:?}");
    let (text, rest) = text.split_once('\n').unwrap();
    assert_eq!(rest, "1 fault\n", "{ran:?}");
    assert!(text.len() < 4096 && !text.contains(is_unfit_for_a_terminal), "{text:?}");
    text.to_owned()
}

#[track_caller]
fn assert_told(plugin: &[u8], expected: &str) {
    let text = told(plugin, AMPLE);
    assert!(text.contains(expected), "{text}\nshould say: {expected}");
}

/// The fixture with `configure` answering this: code that changes zeroes at [`ANSWER`].
fn configured(code: &str, more: &str) -> Vec<u8> {
    let answers = format!("{code} (return (i32.const {ANSWER}))");
    fixture(&[("configure", &answers), ("more", more)])
}

#[test]
fn has_another_world() {
    let run = "(module (memory (export \"memory\") 1) (func (export \"run\")))";
    let other = module_of(CONTRACT, run, "export run: func();");
    assert_told(&other, "it exports `run`; wanted are `larder:policy/configure@0.1.0` and");
}

#[test]
fn imports_more_than_the_log() {
    for (import, named) in [
        ("wasi:sockets/tcp@0.2.0", "it imports `wasi:sockets/tcp@0.2.0`"),
        ("wasi:sockets/instance-network@0.2.0", "it imports `wasi:sockets/instance-network@0.2.0`"),
        ("wasi:http/outgoing-handler@0.2.0", "it imports `wasi:http/outgoing-handler@0.2.0`"),
        ("wasi:cli/environment@0.2.0", "it imports `wasi:cli/environment@0.2.0`"),
        ("wasi:clocks/wall-clock@0.2.0", "it imports `wasi:clocks/wall-clock@0.2.0`"),
        ("wasi:filesystem/types@0.2.0", "it imports `wasi:filesystem/types@0.2.0`"),
        ("larder:policy/network@0.1.0", "made for `larder:policy/network@0.1.0`"),
    ] {
        let text = format!(
            "(component (import \"{import}\" (instance (export \"do\" (func)))) \
             (core module $a (func (export \"f\"))) (core instance $a (instantiate $a)) \
             (func $f (canon lift (core func $a \"f\"))) \
             (instance $configure (export \"configure\" (func $f))) \
             (instance $key (export \"key\" (func $f))) \
             (export \"larder:policy/configure@0.1.0\" (instance $configure)) \
             (export \"larder:policy/key@0.1.0\" (instance $key)))"
        );
        assert_told(&wat::parse_str(text).unwrap(), named);
    }
}

#[test]
fn imports_the_network_as_a_module() {
    let wat = r#"(module (import "wasi_snapshot_preview1" "sock_send" (func (param i32))))"#;
    assert_told(
        &module_of(CONTRACT, wat, ""),
        "the module imports WASI, which policies do not have",
    );
    // The type says nothing of it.
    let wat = r#"(module (import "wasi:sockets/tcp@0.2.0" "connect" (func)))"#;
    assert_told(&module_of(CONTRACT, wat, ""), "no component can be made of it");
}

#[test]
fn asks_for_a_field_that_no_request_can_have() {
    let name = r#"(data (i32.const 66000) "x-\1b[31m\0aevil\e2\80\ae") (data (i32.const 66100) "\d0\01\01\00\0f\00\00\00")"#;
    let asks = store(FIELDS, 66_100) + &store(FIELDS + 4, 1);
    assert_told(&configured(&asks, name), "no field name: `x- [31m evil ");
}

#[test]
fn asks_for_more_fields_than_it_may() {
    let asks = store(FIELDS, ZEROES) + &store(FIELDS + 4, 33);
    assert_told(&configured(&asks, ""), "a list of `wants` has more than 32 names");
}

#[test]
fn asks_for_more_fields_than_memory_holds() {
    let asks = store(FIELDS, ZEROES) + &store(FIELDS + 4, 1 << 28);
    assert_told(&configured(&asks, ""), NONSENSE);
}

#[test]
fn prepares_too_much() {
    let prepares = store(PREPARED, 0) + &store(PREPARED + 4, (64 << 10) + 1);
    assert_told(&configured(&prepares, ""), "`prepared` has more than 65536 octets");
}

#[test]
fn refuses_its_configuration_with_a_mebibyte() {
    let refuses = format!(
        "(drop (memory.grow (i32.const 20))) {} {} {}",
        store(ANSWER, 1),
        store(ANSWER + 4, ZEROES),
        store(ANSWER + 8, 1 << 20)
    );
    assert_told(&configured(&refuses, ""), NONSENSE);
    // What is copied at all is cut.
    let shorter = refuses.replace(&(1 << 20).to_string(), "60000");
    assert_eq!(told(&configured(&shorter, ""), AMPLE), " ".repeat(2048));
}

#[test]
fn refuses_its_configuration_with_a_text_for_terminals() {
    let text =
        r#"(data (i32.const 66000) "\1b[2J\1b[32mgateway.toml: no faults\0d\0a\c2\9b\e2\80\ae")"#;
    let refuses = store(ANSWER, 1) + &store(ANSWER + 4, 66_000) + &store(ANSWER + 8, 39);
    let shown = told(&configured(&refuses, text), AMPLE);
    assert_eq!(shown, " [2J [32mgateway.toml: no faults    ");
}

#[test]
fn loops_or_traps_before_it_is_asked_anything() {
    let starts = format!("(func $start {SPIN}) (start $start)");
    let lines = "time = \"50ms\"";
    for (place, text, expected) in [
        ("configure", SPIN, TIMED_OUT),
        ("more", &starts, TIMED_OUT),
        ("configure", "unreachable", TRAPPED),
        ("more", "(func $start unreachable) (start $start)", TRAPPED),
        ("more", "(data (i32.const 131072) \"a\")", TRAPPED),
        ("more", "(memory $more 200)", STARVED),
    ] {
        let shown = told(&fixture(&[(place, text)]), lines);
        assert!(shown.starts_with(&format!("`configure` failed: {expected}")), "{shown}");
    }
}

#[test]
fn traps_at_its_start_in_a_function_whose_name_stands_for_a_longer_one() {
    let name = mangled();
    let starts = format!("(func $\"{name}\" unreachable) (start $\"{name}\")");
    let shown = told(&fixture(&[("more", &starts)]), AMPLE);
    assert!(shown.starts_with(&format!("`configure` failed: {TRAPPED}")), "{shown}");
    assert!(shown.contains(&name[..200]) && !shown.contains(&name[..201]), "{shown}");
}

#[test]
fn is_made_of_more_than_it_may() {
    let many = |what: &str, count: usize| fixture(&[("more", &what.repeat(count))]);
    assert_told(&many("(memory 1)", 8), "not a policy plugin: ");
    assert_told(&many("(table 1 funcref)", 8), "not a policy plugin: ");
    assert_told(&many("(table 1000000 funcref)", 1), "not a policy plugin: ");
    assert_told(&many("(memory 2000)", 1), "not a policy plugin: ");
    let instances =
        format!("(component (core module $a) {})", "(core instance (instantiate $a))".repeat(40));
    assert_told(&wat::parse_str(instances).unwrap(), "not a policy plugin: ");
}

#[test]
fn would_take_the_compiler_minutes_and_all_memory() {
    let elements = format!("(elem (i32.const 0) func {})", "$f ".repeat(20_000));
    let more = format!("(table 20000 funcref) (func $f) {}", elements.repeat(20));
    assert_told(&fixture(&[("more", &more)]), "more than 65536 initial values and globals");
    let more = format!("(func {})", "(drop (i32.const 0))".repeat(500_000));
    assert_told(&fixture(&[("more", &more)]), "a function has more than 1048576 octets");
}

#[test]
fn would_be_written_out_without_end() {
    let tower = |in_each: &str| {
        let above = |below: usize| {
            let in_each = in_each.replace("BELOW", &below.to_string());
            format!("(component (alias outer 1 {below} (component $below)) {in_each})")
        };
        let levels: String = (0..24).map(above).collect();
        let text = format!("(component (component) {levels} (instance (instantiate 24)))");
        wat::parse_str(text).unwrap()
    };
    let makes_two = "(instance (instantiate $below)) (instance (instantiate $below))";
    assert_told(&tower(makes_two), "it instantiates more than 256 components and modules");
    let has_two = "(alias outer 1 BELOW (component))";
    assert_told(&tower(has_two), "its components have more than 4194304 octets");
}

#[test]
fn is_larger_than_a_plugin_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("hostile.wasm")).unwrap();
    // A hole: it takes no place on the disk.
    file.set_len(1 << 40).unwrap();
    let text = told_in(&folder, AMPLE);
    assert!(text.ends_with("hostile.wasm` is larger than 32 MiB"), "{text}");
}

#[test]
fn is_no_file_that_ends() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("hostile.wasm")).unwrap();
    let text = told_in(&folder, AMPLE);
    assert!(text.ends_with("hostile.wasm` is larger than 32 MiB"), "{text}");
}

#[test]
fn is_no_plugin_at_all() {
    assert_told(b"", "not a WebAssembly component or module");
    assert_told(b"\x7fELF\x02\x01\x01", "not a WebAssembly component or module");
    let whole = fixture(&[]);
    assert_told(&whole[..whole.len() / 2], "no component can be made of it");
}
