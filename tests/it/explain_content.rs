//! Explanations of requests that ask by their content: what is told of one is what then happens to it.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::client::{Ask, Got};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Asked, Origin, ok};
use crate::support::program::{Ran, Running, larder, larder_with};

const TYPE: (&str, &str) = ("content-type", "application/json");
const BOOKS: &str = r#"{"query":"{ books { title } }"}"#;
const WRITE: &str = r#"{"query":"mutation { addBook }"}"#;

fn tables() -> &'static str {
    "[policies.graphql]\nplugin = \"bundled:graphql\"\ntime = \"10s\"\n\
     [[routes]]\nname = \"graphql\"\npath = \"/graphql\"\nupstream = \"origin\"\n\
     key = \"graphql\"\ngrants = [\"post\"]\nmax_query_body = \"1KiB\"\nmax_request_body = \"64KiB\"\n\
     [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\nmax_query_body = \"4B\"\n"
}

fn setup(origin: &Origin) -> Setup {
    Gateway::setup(origin).routes(tables())
}

/// Answers with what it is asked.
fn echo(origin: &Origin, target: &str) {
    for method in ["POST", "QUERY", "GET"] {
        let reply = |asked: &Asked| ok(asked.body.clone()).max_age(600);
        origin.on(target).method(method).answer(reply);
    }
}

async fn explained(gateway: &Gateway, mut question: Value, target: &str) -> Value {
    question["url"] = format!("http://{}{target}", gateway.address()).into();
    let ask = gateway.admin("POST", "/explain").field(TYPE.0, TYPE.1);
    let got = ask.body(question.to_string()).send().await.code(200);
    serde_json::from_slice(&got.body).unwrap()
}

#[tokio::test]
async fn what_is_told_of_content_is_what_then_happens() {
    let origin = Origin::start().await;
    let gateway = setup(&origin).start().await;
    for target in ["/graphql", "/a"] {
        echo(&origin, target);
    }
    let long = BOOKS.replace('}', &format!("}}{}", " ".repeat(1024)));
    let larger = "x".repeat((64 << 10) + 1);
    let typed = &[TYPE][..];
    for (method, target, fields, content, expected) in [
        ("POST", "/graphql", typed, BOOKS, "fwd=uri-miss"),
        ("POST", "/graphql", typed, BOOKS, "hit"),
        // Of one document there is one key, however it is written.
        ("POST", "/graphql", typed, r#"{"query":"{books{title}}"}"#, "hit"),
        ("POST", "/graphql", typed, WRITE, "fwd=method; detail=mutation"),
        ("POST", "/graphql", typed, "nonsense", "fwd=method; detail=not-understood"),
        ("POST", "/graphql", typed, &long, "fwd=method; detail=query-too-large"),
        ("POST", "/graphql", typed, &larger, "fwd=bypass; detail=request-too-large"),
        ("QUERY", "/graphql", typed, BOOKS, "fwd=uri-miss"),
        ("QUERY", "/graphql", typed, BOOKS, "hit"),
        ("QUERY", "/graphql", typed, WRITE, "fwd=bypass; detail=mutation"),
        ("QUERY", "/a", typed, "one", "fwd=uri-miss"),
        ("QUERY", "/a", typed, "one", "hit"),
        ("QUERY", "/a", typed, "two", "fwd=uri-miss"),
        ("QUERY", "/a", typed, "", "fwd=uri-miss"),
        ("QUERY", "/a", typed, "three", "fwd=bypass; detail=query-too-large"),
        ("QUERY", "/a", &[], "one", "fwd=bypass"),
        ("QUERY", "/a", &[TYPE, ("range", "bytes=0-1")], "one", "fwd=bypass"),
        ("GET", "/a", &[], "one", "fwd=bypass"),
        ("POST", "/a", typed, "one", "fwd=method"),
    ] {
        let lines: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let question = json!({ "method": method, "fields": lines, "content": content });
        let (seen, what) = (origin.asked().len(), format!("{method} {target} {content:.40}"));
        let told = explained(&gateway, question, target).await;
        assert_eq!(origin.asked().len(), seen, "nothing is sent to explain {what}");
        assert_eq!(told["request"]["content_octets"], content.len(), "{what}");
        let ask = gateway.ask(method, target).body(content.to_owned());
        let ask = fields.iter().fold(ask, |ask, (name, value)| ask.field(name, value));
        let got: Got = ask.send().await;
        let item = told["outcome"]["cache_status"].as_str().unwrap_or_default();
        let item = item.trim_start_matches("larder; ").split("; ttl=").next().unwrap();
        assert_eq!(item, expected, "{what}: {told:#}");
        assert!(got.cache_status().contains(expected), "{what}: {got:?}");
        let does = match (expected, origin.asked().len() > seen) {
            ("hit", false) => "hit",
            (_, false) => "answer",
            (_, true) => "forward",
        };
        assert_eq!(told["outcome"]["does"], does, "{what}: {told:#}");
        if does == "answer" {
            assert_eq!(told["outcome"]["status"], got.status.as_u16(), "{what}");
        }
    }
}

#[tokio::test]
async fn content_comes_in_two_spellings_or_not_at_all() {
    let origin = Origin::start().await;
    let gateway = setup(&origin).start().await;
    let fields = json!(["Content-Type: application/json"]);
    let question = |more: Value| {
        let mut question = json!({ "method": "QUERY", "fields": fields });
        question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        question
    };
    let text = explained(&gateway, question(json!({ "content": "one" })), "/a").await;
    let coded = explained(&gateway, question(json!({ "content_base64": "b25l" })), "/a").await;
    assert_eq!(text["key"], coded["key"]);
    let octets = explained(&gateway, question(json!({ "content_base64": "/v8=" })), "/a").await;
    assert_eq!(octets["request"]["content_octets"], 2);
    let unsaid = explained(&gateway, question(json!({})), "/a").await;
    assert_eq!(unsaid["outcome"]["does"], "unknown");
    assert_eq!(unsaid["request"]["content_octets"], Value::Null);
    assert!(unsaid["outcome"]["why"].as_str().unwrap().contains("--data"), "{unsaid:#}");

    // What a `QUERY` goes past the cache for.
    let told = explained(&gateway, json!({ "method": "QUERY", "content": "one" }), "/a").await;
    assert!(told["outcome"]["why"].as_str().unwrap().contains("one `Content-Type`"), "{told:#}");
    let fields = json!(["Content-Type: a/b", "Content-Length: 3", "Range: bytes=0-1"]);
    let question = json!({ "method": "QUERY", "content": "one", "fields": fields });
    let told = explained(&gateway, question, "/a").await;
    assert!(told["outcome"]["why"].as_str().unwrap().ends_with("with `range`"), "{told:#}");
}

#[tokio::test]
async fn what_is_wrong_with_a_content_is_told() {
    let origin = Origin::start().await;
    let gateway = setup(&origin).start().await;
    let url = "\"url\":\"http://h/\"";
    let long = "x".repeat(300 << 10);
    for (content, code, told) in [
        (format!("{{{url},\"content\":1}}"), 422, "`content` is not a string"),
        (format!("{{{url},\"content_base64\":[]}}"), 422, "`content_base64` is not a string"),
        (
            format!("{{{url},\"content_base64\":\"b25\"}}"),
            422,
            "`content_base64` is not base64, padded: ",
        ),
        (
            format!("{{{url},\"content\":\"\",\"content_base64\":\"\"}}"),
            422,
            "`content` and `content_base64` are two contents: write one of them",
        ),
        (
            format!("{{{url},\"data\":\"\"}}"),
            422,
            "there is no member `data`; there are `url`, `method`, `fields`, `content` and `content_base64`",
        ),
        (
            format!("{{{url},\"content\":\"{long}\"}}"),
            413,
            "no route reads more than 1024 of a request's content (`max_query_body`)",
        ),
    ] {
        let ask = gateway.admin("POST", "/explain").field(TYPE.0, TYPE.1);
        let got = ask.body(content.clone()).send().await.code(code);
        let problem = String::from_utf8_lossy(&got.body).into_owned();
        assert!(problem.contains(told), "{content:.80}: {problem}");
        got.has("content-type", "application/problem+json");
    }
}

const TOKEN: [(&str, &str); 1] = [("LARDER_ADMIN_TOKEN", "s3cret")];

async fn running(origin: &Origin) -> Running {
    Running::with(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ncompiled_cache = \"off\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"s3cret\"\n\
         [upstreams.origin]\nservers = [\"{}\"]\n{}",
        origin.url(),
        tables()
    ))
    .await
}

const ASKED: [&str; 4] =
    ["explain", "http://shop.example/graphql", "-H", "Content-Type: application/json"];

#[tokio::test]
async fn the_command_takes_content_as_a_text_from_a_file_and_from_standard_input() {
    let origin = Origin::start().await;
    let gateway = running(&origin).await;
    echo(&origin, "/graphql");
    let ask = Ask::new(gateway.address(), "POST", "/graphql").field("host", "shop.example");
    ask.field(TYPE.0, TYPE.1).body(BOOKS).send().await.code(200);
    let (seen, folder) = (origin.asked().len(), gateway.folder());
    fs::write(folder.join("asked.json"), BOOKS).unwrap();
    let admin = format!("http://{}", gateway.admin());
    let ran = |more: &[&str]| -> Ran {
        larder_with(folder, &[&ASKED[..], &["--admin", &admin], more].concat(), &TOKEN)
    };
    for data in [BOOKS, "@asked.json"] {
        let told = ran(&["--data", data]);
        assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
        assert!(told.out.starts_with("POST http://shop.example/graphql\n"), "{}", told.out);
        for text in ["  content     31 octets\n", "  =>          hit: ", "a part of the key"] {
            assert!(told.out.contains(text), "{data}: no `{text}`:\n{}", told.out);
        }
    }
    let told = ran(&["-d", WRITE]);
    assert!(told.out.contains("Cache-Status: larder; fwd=method; detail=mutation"), "{told:?}");
    // What is no text reaches the policy as it is.
    fs::write(folder.join("octets"), b"\xff\x00").unwrap();
    let told = ran(&["-d", "@octets"]);
    assert!(told.out.contains("  content     2 octets\n"), "{told:?}");
    assert!(told.out.contains("detail=not-understood"), "{told:?}");

    let child = Command::new(env!("CARGO_BIN_EXE_larder"))
        .args(ASKED)
        .args(["--admin", &admin, "--data", "@-"])
        .env("LARDER_ADMIN_TOKEN", "s3cret")
        .stdin(Stdio::from(fs::File::open(folder.join("asked.json")).unwrap()))
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(out.contains("  =>          hit: "), "{out}");

    // By the file alone.
    let offline = |more: &[&str]| larder(folder, &[&ASKED[..], &["--offline"], more].concat());
    let told = offline(&["--data", "@asked.json"]);
    assert!(told.out.contains("a part of the key"), "{told:?}");
    assert!(told.out.contains("  =>          key: "), "{told:?}");
    let told = offline(&["--data", WRITE]);
    assert!(told.out.contains("detail=mutation"), "{told:?}");
    let told = larder(folder, &[&["explain", "POST"], &ASKED[1..], &["--offline"]].concat());
    assert!(told.out.contains("=>          unknown: its content decides"), "{told:?}");
    assert_eq!(origin.asked().len(), seen);
}

#[tokio::test]
async fn the_command_says_what_is_wrong_with_a_content() {
    let origin = Origin::start().await;
    let gateway = running(&origin).await;
    let folder = gateway.folder();
    let large = fs::File::create(folder.join("large")).unwrap();
    large.set_len((16 << 20) + 1).unwrap();
    for (data, told) in [
        ("@none.json", "--data `@none.json` cannot be read: No such file or directory"),
        ("@.", "--data `@.` cannot be read: Is a directory"),
        ("@large", "--data `@large` has more than 16 MiB, and no route reads more of a request"),
    ] {
        for more in [&["--offline"][..], &[]] {
            let ran = larder(folder, &[&ASKED[..], more, &["--data", data]].concat());
            assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{data}");
            assert!(ran.err.contains(told), "{data}: {}", ran.err);
        }
    }
    // What this gateway takes, it says itself.
    large.set_len(1 << 20).unwrap();
    let admin = format!("http://{}", gateway.admin());
    let more = ["--admin", &admin, "--data", "@large"];
    let ran = larder_with(folder, &[&ASKED[..], &more].concat(), &TOKEN);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.starts_with("413: ") && ran.err.contains("max_query_body"), "{}", ran.err);
}

/// A gateway with a second tier alone has a cache, too.
#[test]
fn a_file_without_l1_is_explained_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = "[cache.l1]\ncapacity = \"0B\"\n[cache.l2]\nredis = \"redis://127.0.0.1:1\"\n\
                [upstreams.origin]\nservers = [\"http://127.0.0.1:1\"]\n\
                [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n";
    fs::write(folder.path().join("gateway.toml"), file).unwrap();
    let ran = larder(folder.path(), &["explain", "--offline", "http://h/a"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(ran.out.contains("=>          key: "), "{}", ran.out);
}
