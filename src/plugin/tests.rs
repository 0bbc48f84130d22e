//! Plugins that behave and plugins that do not, written as text.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use wit_component::ComponentEncoder;

use super::{
    Engine, Failure, Invalidated, KeyAnswer, KeySpace, LoadError, Operation, Policy, Scope, Seen,
    SeenChange, SeenResponse,
};
use crate::config::{self, Plugin, Setting};
use crate::stored::CacheKey;

#[path = "../../tests/it/support/plugin.rs"]
mod written;

use written::{CONTRACT, EVERYTHING, SPIN, fixture, module_of, text};

/// Long enough for a busy machine, where a test does not wait for its end.
const AMPLE: Duration = Duration::from_secs(20);

/// For calls that never end.
const BRIEF: Duration = Duration::from_millis(20);

const SPACE: KeySpace<'_> = KeySpace { namespace: "test", route: "route", forwards_keyed: false };

static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| Engine::new(2).unwrap());
static NO_FIELDS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
static JSON: LazyLock<HeaderMap> = LazyLock::new(|| {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
});

/// A core module with the type of this world, as a guest's compiler leaves it.
fn module(wat: &str, world: &str) -> Vec<u8> {
    module_of(CONTRACT, wat, world)
}

fn configuration(plugin: Plugin, time: Duration) -> config::Policy {
    // Calls are counted by name.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    config::Policy {
        name: format!("tested-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        plugin,
        config: Vec::new(),
        on_error: config::OnError::default(),
        time,
        memory: 1 << 20,
        remember: 100,
        plugin_place: config::Place::default(),
        config_place: config::Place::default(),
    }
}

fn load_in(engine: &Engine, plugin: &[u8], time: Duration) -> Result<Policy, LoadError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(plugin).unwrap();
    Policy::load(engine, &configuration(Plugin::File(file.path().to_owned()), time))
}

fn load(plugin: &[u8], time: Duration) -> Result<Policy, LoadError> {
    load_in(&ENGINE, plugin, time)
}

/// Why a plugin is not loaded.
fn refusal(plugin: &[u8]) -> LoadError {
    load(plugin, BRIEF).err().expect("it must not load")
}

fn seen(path: &str) -> Seen<'_> {
    Seen {
        method: &Method::GET,
        scheme: "http",
        authority: "a.example",
        path,
        query: None,
        captures: &[],
        fields: &NO_FIELDS,
        claims: None,
        content: None,
    }
}

/// A response with this content, as JSON.
fn response(content: Option<&str>) -> SeenResponse<'static> {
    let content = content.map(|content| Bytes::copy_from_slice(content.as_bytes()));
    SeenResponse { status: StatusCode::OK, fields: &JSON, content, longest: 1 << 20 }
}

async fn key(policy: &Policy, path: &str) -> Result<KeyAnswer, Failure> {
    policy.key(SPACE, &seen(path)).await
}

/// What the plugin answers when nothing is wrong.
fn echoed(path: &str) -> KeyAnswer {
    let key = CacheKey::new("test", "route", "a.example", [("path", path)]);
    KeyAnswer::Key { key, name: path.trim_start_matches('/').into(), parts: None }
}

#[tokio::test]
async fn all_three_roles_answer() {
    let policy = load(&fixture(&[]), AMPLE).unwrap();
    assert!(policy.has_key() && policy.has_storing() && policy.has_invalidation());
    assert_eq!(key(&policy, "/users/42").await, Ok(echoed("/users/42")));

    let storing = policy.storing(&seen("/a"), &response(None)).await.unwrap();
    assert!(storing.store);
    assert_eq!(storing.max_age, Some(Duration::from_mins(1)));
    assert_eq!(storing.tags, ["path"]);

    let wrong = policy.invalidation(&seen("/users/42"), &response(None)).await.unwrap();
    let scope = Scope::Path("/users/42".to_owned());
    assert_eq!(wrong, [Invalidated { scope, soft: true }]);
    assert_eq!((policy.snapshot().calls, policy.snapshot().failures), (3, 0));
}

/// Wants `$.a` of documents, and names as a tag what is at this place of a change: a text, or the list
/// of a query's values, of which it takes the first.
fn tells_changes(at: u32, is_values: bool) -> Policy {
    let wants = "(i32.store (i32.const 1072) (i32.const 1216))
        (i32.store (i32.const 1076) (i32.const 1))";
    let query = "(data (i32.const 1200) \"$.a\") (data (i32.const 1216) \"\\b0\\04\\00\\00\\03\\00\\00\\00\")";
    let text = if is_values {
        // Absent: the scope is empty, which is refused.
        format!(
            "(if (i32.load8_u offset={at} (local.get $cause)) (then
               (local.set $cause (i32.load (i32.load offset={} (local.get $cause)))))
             (else (local.set $cause (i32.const 2048))))",
            at + 4
        )
    } else {
        format!("(local.set $cause (i32.add (local.get $cause) (i32.const {at})))")
    };
    let answer = format!(
        "{text} (i32.store8 (i32.const 280) (i32.const 0))
         (i32.store (i32.const 284) (i32.load (local.get $cause)))
         (i32.store (i32.const 288) (i32.load offset=4 (local.get $cause)))
         (return (i32.const 260))"
    );
    let places = [("configure", wants), ("more", query), ("invalidation", &answer)];
    load(&fixture(&places), AMPLE).unwrap()
}

#[tokio::test]
async fn a_change_is_shown_with_the_values_of_its_document() {
    let document = |text: &str| Some(Arc::new(serde_json::from_str(text).unwrap()));
    let change = SeenChange {
        mongodb: "m",
        database: "d",
        collection: "c",
        operation: Operation::Replace,
        id: "1",
        after: document(r#"{"a": [1.0, 1]}"#),
        before: document(r#"{"a": "x"}"#),
    };
    for (at, is_values, expected, why) in [
        (12, false, "m", "the source"),
        (20, false, "d", "the database"),
        (28, false, "c", "the collection"),
        (40, false, "1", "the id"),
        (48, true, "[1.0,1]", "what it holds"),
        (60, true, "\"x\"", "what it held"),
    ] {
        let answer = tells_changes(at, is_values).change(&change).await;
        let scope = Scope::Tag(expected.to_owned());
        assert_eq!(answer, Ok(vec![Invalidated { scope, soft: true }]), "{why}");
    }
    let gone = SeenChange { operation: Operation::Delete, after: None, before: None, ..change };
    for at in [48, 60] {
        let answer = tells_changes(at, true).change(&gone).await;
        assert!(answer.is_err_and(|failure| nonsense(&failure)), "there is none");
    }
}

#[test]
fn queries_that_are_none_are_refused_by_name() {
    let wants = "(i32.store (i32.const 1064) (i32.const 1216))
        (i32.store (i32.const 1068) (i32.const 1))";
    let query = "(data (i32.const 1200) \"$.a[\") (data (i32.const 1216) \"\\b0\\04\\00\\00\\04\\00\\00\\00\")";
    let error = refusal(&fixture(&[("configure", wants), ("more", query)]));
    assert!(matches!(error, LoadError::Failed(Failure::Nonsense(_))), "{error:?}");
    assert!(error.to_string().contains("`response-values` has `$.a[`"), "{error}");
}

#[tokio::test]
async fn content_may_be_as_long_as_the_plugin_has_memory() {
    let wants = "(i32.store8 (i32.const 1028) (i32.const 0x48))";
    let grows =
        "(local.set $size (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8)))
        (if (i32.gt_u (i32.add (global.get $heap) (local.get $size))
              (i32.mul (memory.size) (i32.const 65536)))
          (then (drop (memory.grow (i32.add (i32.const 1)
            (i32.div_u (local.get $size) (i32.const 65536)))))))";
    let policy = load(&fixture(&[("configure", wants), ("realloc", grows)]), AMPLE).unwrap();
    for (octets, fits) in [(700 << 10, true), (2 << 20, false)] {
        let content = vec![b'x'; octets];
        let asked = Seen { content: Some(&content), ..seen("/a") };
        let answer = policy.key(SPACE, &asked).await;
        assert_eq!(answer.is_ok(), fits, "{answer:?}");
    }
}

#[tokio::test]
async fn a_component_is_taken_as_it_is() {
    let mut encoder = ComponentEncoder::default().module(&fixture(&[])).unwrap();
    let policy = load(&encoder.encode().unwrap(), AMPLE).unwrap();
    assert_eq!(key(&policy, "/a").await, Ok(echoed("/a")));
}

#[tokio::test]
async fn policies_run_without_a_pool() {
    let engine = Engine::without_pool().unwrap();
    let policy = load_in(&engine, &fixture(&[("key", SPIN)]), BRIEF).unwrap();
    assert_eq!(key(&policy, "/bad").await, Err(Failure::TimedOut));
    // The limit is short here and the machine may be busy, so any answer in time will do.
    while key(&policy, "/fine").await == Err(Failure::TimedOut) {}
    assert_eq!(policy.remembered(SPACE, &seen("/fine")), Some(echoed("/fine")));
}

#[tokio::test]
async fn an_endless_loop_holds_nobody_up() {
    let looping = load(&fixture(&[("key", SPIN)]), Duration::from_millis(200)).unwrap();
    let policy = load(&fixture(&[]), AMPLE).unwrap();
    let mut slow = Box::pin(key(&looping, "/bad"));
    let first = tokio::select! {
        biased;
        result = &mut slow => Err(result),
        result = key(&policy, "/fine") => Ok(result),
    };
    assert_eq!(first, Ok(Ok(echoed("/fine"))), "the other call is answered first");
    assert_eq!(slow.await, Err(Failure::TimedOut));
}

#[tokio::test]
async fn slow_calls_are_bounded_and_run_on_when_nobody_waits() {
    let engine = Engine::with_slow(1).unwrap();
    let policy = load_in(&engine, &fixture(&[("key", SPIN)]), Duration::from_millis(500)).unwrap();
    let seen = seen("/bad");
    let mut slow = Box::pin(policy.key(SPACE, &seen));
    let second = tokio::select! {
        biased;
        result = &mut slow => Err(result),
        result = key(&policy, "/bad") => Ok(result),
    };
    assert_eq!(second, Ok(Err(Failure::Busy)));

    // Whoever asked goes away. The call keeps its place until its time is up.
    drop(slow);
    while policy.snapshot().failures < 2 {
        tokio::task::yield_now().await;
    }
    while key(&policy, "/bad").await == Err(Failure::Busy) {}
    assert_eq!(policy.snapshot().calls, policy.snapshot().failures);
}

#[tokio::test]
async fn a_failure_leaves_the_next_call_alone() {
    let answers = |text: &str| format!("{text} (return (i32.const 128))");
    // 65536 on is a page of zeroes.
    let faults: &[(&str, String, Expected)] = &[
        ("loops", SPIN.to_owned(), |failure| *failure == Failure::TimedOut),
        (
            "eats memory",
            "(loop $grow
               (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable"
                .to_owned(),
            |failure| *failure == Failure::OutOfMemory,
        ),
        ("traps", "(call $broken)".to_owned(), |failure| {
            matches!(failure, Failure::Trapped(text) if text.contains("broken"))
        }),
        ("recurses", "(call $deeper)".to_owned(), |failure| {
            matches!(failure, Failure::Trapped(text) if text.contains("stack exhausted"))
        }),
        (
            "answers err",
            answers("(i32.store8 (i32.const 128) (i32.const 1))
               (i32.store (i32.const 132) (i32.const 80)) (i32.store (i32.const 136) (i32.const 4))"),
            |failure| *failure == Failure::Refused("path".to_owned()),
        ),
        ("has a part too long", answers("(i32.store (i32.const 172) (i32.const 20000))
            (i32.store (i32.const 168) (i32.const 65536))"), nonsense),
        ("has too many parts", answers("(i32.store (i32.const 136) (i32.const 65536))
            (i32.store (i32.const 140) (i32.const 65))"), nonsense),
        ("is not UTF-8", answers("(i32.store (i32.const 168) (i32.const 96))
            (i32.store (i32.const 172) (i32.const 2))"), nonsense),
        ("points outside", answers("(i32.store (i32.const 168) (i32.const -16))"), nonsense),
        ("has no such variant", answers("(i32.store8 (i32.const 132) (i32.const 7))"), nonsense),
        (
            "repeats itself",
            // 60 parts over the same 50,000 octets.
            answers(
                "(i32.store (i32.const 136) (i32.const 2048)) (i32.store (i32.const 140) (i32.const 60))
                 (loop $more
                   (i32.store (i32.add (i32.const 2048) (local.get $request)) (i32.const 65536))
                   (i32.store (i32.add (i32.const 2052) (local.get $request)) (i32.const 50000))
                   (local.set $request (i32.add (local.get $request) (i32.const 8)))
                   (br_if $more (i32.lt_u (local.get $request) (i32.const 960))))"
            )
            .replacen("(loop", "(local.set $request (i32.const 0)) (loop", 1),
            nonsense,
        ),
    ];
    let more = "(func $broken unreachable) (func $deeper (call $deeper) (call $deeper))";
    for (what, body, expected) in faults {
        let time = if *what == "loops" { BRIEF } else { AMPLE };
        let policy = load(&fixture(&[("key", body), ("more", more)]), time).unwrap();
        let failure = key(&policy, "/bad").await.unwrap_err();
        assert!(expected(&failure), "it {what}: {failure:?}");
        if *what != "loops" {
            assert_eq!(key(&policy, "/fine").await, Ok(echoed("/fine")), "it {what}");
        }
        assert_eq!(policy.remembered(SPACE, &seen("/bad")), None, "failures are not remembered");
    }
}

/// Whether it is the failure to expect.
type Expected = fn(&Failure) -> bool;

fn nonsense(failure: &Failure) -> bool {
    matches!(failure, Failure::Nonsense(_))
}

#[tokio::test]
async fn a_loop_in_the_allocator_ends_too() {
    let spin = format!("(if (i32.gt_u (local.get $size) (i32.const 40)) (then {SPIN}))");
    let policy = load(&fixture(&[("realloc", &spin)]), BRIEF).unwrap();
    assert_eq!(key(&policy, "/bad").await, Err(Failure::TimedOut));
}

#[tokio::test]
async fn a_log_flood_is_dropped_and_counted() {
    let flood = "(local.set $request (i32.const 0)) (loop $more
        (call $write (i32.const 1) (i32.const 80) (i32.const 4))
        (local.set $request (i32.add (local.get $request) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $request) (i32.const 100))))";
    let policy = load(&fixture(&[("key", flood)]), AMPLE).unwrap();
    assert_eq!(key(&policy, "/bad").await, Ok(echoed("/bad")));
    assert_eq!(policy.snapshot().dropped_lines, 84);
}

#[tokio::test]
async fn a_log_line_beyond_what_is_copied_ends_the_call() {
    for (octets, ends) in [(200_000, false), (300_000, true)] {
        let line = format!(
            "(drop (memory.grow (i32.const 8)))
             (call $write (i32.const 1) (i32.const 65536) (i32.const {octets}))"
        );
        let policy = load(&fixture(&[("key", &line)]), AMPLE).unwrap();
        let answer = key(&policy, "/bad").await;
        let is_answered = answer == Ok(echoed("/bad"));
        let is_nonsense = answer.is_err_and(|failure| nonsense(&failure));
        assert_eq!((is_answered, is_nonsense), (!ends, ends), "{octets} octets");
    }
}

#[tokio::test]
async fn an_answer_is_remembered_for_its_declared_inputs() {
    let policy = load(&fixture(&[]), AMPLE).unwrap();
    let mut fields = HeaderMap::new();
    fields.insert("x-a", HeaderValue::from_static("1"));
    let mut undeclared = HeaderMap::new();
    undeclared.insert("x-b", HeaderValue::from_static("1"));

    let asked = seen("/a");
    assert_eq!(policy.remembered(SPACE, &asked), None);
    let answer = policy.key(SPACE, &asked).await.unwrap();
    assert_eq!(policy.remembered(SPACE, &asked), Some(answer.clone()));
    for (same, why) in [
        (Seen { method: &Method::POST, ..asked }, "the method is not declared"),
        (Seen { scheme: "https", ..asked }, "nor is the scheme"),
        (Seen { fields: &undeclared, ..asked }, "nor is this field"),
    ] {
        assert_eq!(policy.remembered(SPACE, &same), Some(answer.clone()), "{why}");
    }
    for (other, why) in [
        (Seen { path: "/b", ..asked }, "the path is declared"),
        (Seen { query: Some(""), ..asked }, "so is the query"),
        (Seen { fields: &fields, ..asked }, "so is the field"),
        (Seen { authority: "b.example", ..asked }, "the authority is the host's own"),
    ] {
        assert_eq!(policy.remembered(SPACE, &other), None, "{why}");
    }
    assert_eq!(policy.remembered(KeySpace { route: "other", ..SPACE }, &asked), None);
    assert_eq!((policy.snapshot().calls, policy.snapshot().remembered), (1, 4));
}

#[tokio::test]
async fn nothing_is_remembered_when_nothing_shall_be() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&fixture(&[])).unwrap();
    let plugin = Plugin::File(file.path().to_owned());
    let policy = config::Policy { remember: 0, ..configuration(plugin, AMPLE) };
    let policy = Policy::load(&ENGINE, &policy).unwrap();
    assert_eq!(key(&policy, "/a").await, Ok(echoed("/a")));
    assert_eq!(policy.remembered(SPACE, &seen("/a")), None);
}

#[test]
fn unfit_plugins_are_refused_with_the_reason() {
    let untyped = wat::parse_str("(module)").unwrap();
    let wasi =
        module(r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))))"#, "");
    let unknown = module(
        r#"(module (import "other:host/clock" "now" (func (result i64))))"#,
        "import other: interface { now: func() -> u64; }",
    );
    let imports = module(
        r#"(module (import "clock" "now" (func (result i64))))"#,
        "import clock: interface { now: func() -> u64; }",
    );
    let no_configure = module(
        r#"(module (memory (export "memory") 1) (func (export "run")))"#,
        "export run: func();",
    );
    for (plugin, reason) in [
        (b"garbage".to_vec(), "not a WebAssembly"),
        (Vec::new(), "not a WebAssembly"),
        (b"\0asm\x01\0\0\0garbage".to_vec(), "no component can be made of it"),
        (b"\0asm\x0d\0\x01\0garbage".to_vec(), "not a policy plugin"),
        (untyped, "no `component-type` section"),
        (wasi, "imports WASI"),
        (unknown, "no component can be made of it"),
        (imports, "it imports `clock`"),
        (no_configure, "it exports `run`; wanted are `larder:policy/configure@0.1.0`"),
    ] {
        let error = refusal(&plugin);
        assert!(matches!(error, LoadError::Unfit(_)), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}\nshould say: {reason}");
        assert!(!error.is_about_config());
    }
}

#[test]
fn another_version_or_another_type_is_refused() {
    let wat = text(&[]);
    let other_type = CONTRACT.replace("result<decision, string>", "result<decision, u32>");
    let [newer, newer_wat, newer_world] =
        [CONTRACT, &wat, EVERYTHING].map(|text| text.replace("@0.1.0", "@0.2.0"));
    for (plugin, reason) in [
        (module_of(&other_type, &wat, EVERYTHING), "not a policy plugin"),
        (module_of(&newer, &newer_wat, &newer_world), "made for `larder:policy/log@0.2.0`"),
    ] {
        let text = refusal(&plugin).to_string();
        assert!(text.contains(reason), "{text}\nshould say: {reason}");
    }
}

#[test]
fn plugins_that_cannot_be_configured_are_refused() {
    let refuses = "(i32.store8 (i32.const 1024) (i32.const 1))
        (i32.store (i32.const 1028) (i32.const 80)) (i32.store (i32.const 1032) (i32.const 4))";
    let error = refusal(&fixture(&[("configure", refuses)]));
    assert!(matches!(&error, LoadError::Refused(text) if text == "path"), "{error:?}");
    assert!(error.is_about_config());

    let spins = format!("(func $start {SPIN}) (start $start)");
    for (place, text, expected) in [
        ("configure", SPIN, Failure::TimedOut),
        ("more", &*spins, Failure::TimedOut),
        ("more", "(memory $more 100)", Failure::OutOfMemory),
    ] {
        let error = refusal(&fixture(&[(place, text)]));
        assert!(matches!(&error, LoadError::Failed(failure) if *failure == expected), "{error:?}");
    }
    let too_many_names = "(i32.store (i32.const 1036) (i32.const 33))";
    let error = refusal(&fixture(&[("configure", too_many_names)]));
    assert!(matches!(error, LoadError::Failed(Failure::Nonsense(_))), "{error:?}");
}

#[test]
fn missing_plugins_are_named() {
    let load = |plugin| Policy::load(&ENGINE, &configuration(plugin, AMPLE)).err().unwrap();
    let bundled = load(Plugin::Bundled("normalize-query".to_owned())).to_string();
    assert_eq!(
        bundled,
        "no plugin is bundled as `normalize-query`; there are `content-tags`, `document-changes`, \
         `graphql`, `normalise-query`, `rest-writes`, `tenant`, `variants`"
    );
    let file = load(Plugin::File(PathBuf::from("/nowhere/a.wasm"))).to_string();
    assert_eq!(file, "plugin `/nowhere/a.wasm` does not exist");
    let folder = load(Plugin::File(PathBuf::from("/"))).to_string();
    assert!(folder.starts_with("plugin `/` is a folder: name the file, "), "{folder}");
}

#[tokio::test]
async fn a_bundled_plugin_answers() {
    let drop = Setting::Texts(vec!["utm_*".to_owned()]);
    let policy = config::Policy {
        config: vec![("drop".to_owned(), drop)],
        ..configuration(Plugin::Bundled("normalise-query".to_owned()), AMPLE)
    };
    let policy = Policy::load(&ENGINE, &policy).unwrap();
    let tracked = Seen { query: Some("utm_source=x&b=2&a=1"), ..seen("/a") };
    let plain = Seen { query: Some("a=1&b=2"), ..seen("/a") };
    let answers = (policy.key(SPACE, &tracked).await, policy.key(SPACE, &plain).await);
    assert_eq!(answers.0, answers.1);
    assert!(answers.0.is_ok(), "{answers:?}");
}

/// The plugin in `tests/contract/0.1.0`, which is never built again.
fn first() -> Policy {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(include_bytes!("../../tests/contract/0.1.0/first.wasm")).unwrap();
    let config = vec![("prefix".to_owned(), Setting::Text("first ".to_owned()))];
    let plugin = Plugin::File(file.path().to_owned());
    let policy = config::Policy { config, memory: 2 << 20, ..configuration(plugin, AMPLE) };
    Policy::load(&ENGINE, &policy).unwrap()
}

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &'static str)| {
        (http::HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    lines.iter().map(line).collect()
}

#[tokio::test]
async fn a_plugin_made_for_0_1_0_goes_on_deciding_keys() {
    let policy = first();
    let asked = Seen {
        method: &Method::QUERY,
        query: Some("a=1&b"),
        captures: &[("id", "42")],
        fields: &fields(&[("x-field", "f"), ("cookie", "cookie=c")]),
        content: Some(b"asked"),
        ..seen("/users/42")
    };
    let parts = [
        ("path", "/users/42"),
        ("query", "a=1&b"),
        ("head", "QUERY http a.example"),
        ("capture", "42"),
        ("field", "f"),
        ("cookie", "c"),
        ("claim", "-"),
        ("content", "asked"),
    ];
    let Ok(KeyAnswer::Key { key, .. }) = policy.key(SPACE, &asked).await else { panic!() };
    assert_eq!(key, CacheKey::new("test", "route", "a.example", parts));
    let bypassed = policy.key(SPACE, &Seen { content: Some(b"bypass"), ..asked }).await;
    assert_eq!(bypassed, Ok(KeyAnswer::Bypass("as asked".into())));
}

#[tokio::test]
async fn a_plugin_made_for_0_1_0_goes_on_tagging_and_invalidating() {
    let policy = first();
    let asked = Seen { content: Some(b"asked"), ..seen("/users/42") };
    let content = Some(Bytes::from_static(br#"{"id":1,"in":{"id":"1"}}"#));
    let fields = fields(&[("content-type", "application/json"), ("x-response", "7")]);
    let response = SeenResponse { fields: &fields, content, ..response(None) };
    let tags = ["first 1", "first \"1\""].map(str::to_owned);
    let stored = policy.storing(&asked, &response).await.unwrap();
    assert!(stored.store);
    assert_eq!((stored.max_age, &*stored.tags), (Some(Duration::from_secs(7)), &tags[..]));
    let unsaid = policy.storing(&asked, &SeenResponse { content: None, ..response.clone() }).await;
    assert!(unsaid.is_ok_and(|answer| !answer.store));

    let written = policy.invalidation(&asked, &response).await.unwrap();
    let [one, two] = tags.map(Scope::Tag);
    let scopes = [one, two, Scope::Path("asked".to_owned())];
    assert_eq!(written, scopes.map(|scope| Invalidated { scope, soft: true }));

    let change = SeenChange {
        mongodb: "m",
        database: "d",
        collection: "c",
        operation: Operation::Update,
        id: "1",
        after: Some(Arc::new(serde_json::json!({ "owner": 2 }))),
        before: None,
    };
    let changed = policy.change(&change).await.unwrap();
    let pattern = "m/d/c/Operation::Update/1".to_owned();
    let scopes = [Scope::Tag("first 2".to_owned()), Scope::Pattern(pattern)];
    assert_eq!(changed, scopes.map(|scope| Invalidated { scope, soft: false }));
}
