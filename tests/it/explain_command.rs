//! `larder explain`: what it prints, and whom it asks. The examples of `docs/operating.md` are runs of it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::client::{Ask, Got};
use crate::support::origin::{Origin, Reply, ok};
use crate::support::program::{Ran, Running, larder, larder_with};

const TOKEN: [(&str, &str); 1] = [("LARDER_ADMIN_TOKEN", "s3cret")];

/// What a shop has before its API.
fn tables(origin: &Origin) -> String {
    format!(
        "[upstreams.shop]\nservers = [\"{}\"]\n\
         [policies.tenant]\nplugin = \"bundled:tenant\"\ntime = \"10s\"\n\
         config = {{ field = \"x-tenant\" }}\n\
         [policies.graphql]\nplugin = \"bundled:graphql\"\ntime = \"10s\"\n\
         [[routes]]\nname = \"shop\"\npath = \"/{{*rest}}\"\nupstream = \"shop\"\n\
         [[routes]]\nname = \"downloads\"\npath = \"/downloads/{{*rest}}\"\nupstream = \"shop\"\n\
         max_body = \"1KiB\"\n\
         [[routes]]\nname = \"tenants\"\npath = \"/tenants/{{*rest}}\"\nupstream = \"shop\"\n\
         key = \"tenant\"\n\
         [[routes]]\nname = \"graphql\"\npath = \"/graphql\"\nupstream = \"shop\"\n\
         key = \"graphql\"\ngrants = [\"post\"]\n",
        origin.url()
    )
}

fn file(origin: &Origin, admin: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nname = \"shop-1\"\ncompiled_cache = \"off\"\n\
         [admin]\nlisten = \"{admin}\"\ntoken = \"s3cret\"\n{}",
        tables(origin)
    )
}

async fn gateway(origin: &Origin) -> Running {
    Running::with(&file(origin, "127.0.0.1:0")).await
}

async fn get(gateway: &Running, target: &str, fields: &[(&str, &str)]) -> Got {
    let ask = Ask::new(gateway.address(), "GET", target).field("host", "shop.example");
    fields.iter().fold(ask, |ask, (name, value)| ask.field(name, value)).send().await
}

fn explain(gateway: &Running, arguments: &[&str]) -> Ran {
    let admin = format!("http://{}", gateway.admin());
    let arguments = [&["explain", "--admin", &admin], arguments].concat();
    larder_with(gateway.folder(), &arguments, &TOKEN)
}

/// The words of a command line.
fn words(line: &str) -> Vec<String> {
    let pieces = line.split('\'').enumerate();
    let words = pieces.flat_map(|(at, piece)| {
        let is_quoted = at % 2 == 1;
        let split = piece.split_whitespace().filter(|_| !is_quoted).map(str::to_owned);
        split.chain(is_quoted.then(|| piece.to_owned())).collect::<Vec<_>>()
    });
    words.collect()
}

/// What is the same in every run: numbers and digests are not.
fn normal(text: &str) -> String {
    let digest = |word: &str| word.len() == 12 && word.bytes().all(|it| it.is_ascii_hexdigit());
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()).map(|word| {
        let plain = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if digest(plain) { word.replace(plain, "DIGEST") } else { word.to_owned() }
    });
    let mut normal = String::new();
    for character in words.collect::<String>().chars() {
        let is_digit = character.is_ascii_digit();
        if !(is_digit && normal.ends_with('0')) {
            normal.push(if is_digit { '0' } else { character });
        }
    }
    normal
}

/// Brings about what an example is about.
async fn stage(origin: &Origin, gateway: &Running) {
    let on = |target: &str, reply: Reply| origin.on(target).reply(reply);
    let control = |value: &str| ok("1").field("cache-control", value);
    on("/news", ok("1"));
    on("/account", control("no-store"));
    on("/basket", control("private, max-age=60"));
    on("/", control("max-age=60").field("set-cookie", "session=0c8d"));
    on("/orders", control("max-age=60"));
    on("/welcome", control("max-age=60").field("vary", "user-agent"));
    on("/books?page=1", control("max-age=60"));
    on("/books/42", control("max-age=600").field("cache-tag", "books"));
    on("/prices", control("max-age=60"));
    on("/offers", control("max-age=60").field("age", "100").etag("7"));
    on("/downloads/film", control("max-age=60").body("x".repeat(2000)));
    for target in ["/news", "/account", "/basket", "/", "/books?page=1", "/books/42", "/prices"] {
        get(gateway, target, &[]).await.code(200);
    }
    get(gateway, "/orders", &[("authorization", "Bearer 0c8d")]).await.code(200);
    get(gateway, "/welcome", &[("user-agent", "one")]).await.code(200);
    get(gateway, "/offers", &[]).await.code(200);
    get(gateway, "/downloads/film", &[]).await.code(200);
    let purge = Ask::new(gateway.admin(), "DELETE", "/tag/books");
    purge.field("authorization", "Bearer s3cret").send().await.code(200);
}

#[tokio::test]
async fn the_examples_of_the_documentation_are_runs() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin).await;
    stage(&origin, &gateway).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md");
    let text = fs::read_to_string(&path).unwrap();
    let (mut written, mut count) = (String::new(), 0);
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        written.push_str(line);
        let Some(command) = line.strip_prefix("$ larder explain ") else { continue };
        let mut shown = String::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("```")) {
            shown.push_str(line);
        }
        let arguments = words(command);
        let ran = explain(&gateway, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{command}");
        let out = ran.out.replace(&origin.url(), "http://127.0.0.1:3000");
        if std::env::var_os("LARDER_WRITE_DOCS").is_none() {
            assert_eq!(normal(&shown), normal(&out), "{command}\n{out}");
        }
        written.push_str(&out);
        count += 1;
    }
    assert!(count >= 12, "{count} examples");
    if std::env::var_os("LARDER_WRITE_DOCS").is_some() {
        fs::write(&path, written).unwrap();
    }
}

#[tokio::test]
async fn it_asks_the_gateway_that_a_file_names() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60));
    get(&gateway, "/a", &[]).await.code(200);
    // The same file with the ports that were free.
    let own = file(&origin, &gateway.admin().to_string());
    let own = own.replacen("127.0.0.1:0", &gateway.address().to_string(), 1);
    fs::write(gateway.folder().join("own.toml"), own).unwrap();
    let ran = |arguments: &[&str]| larder(gateway.folder(), arguments);
    let asked = ran(&["explain", "--config", "own.toml", "--json", "http://shop.example/a"]);
    assert_eq!((asked.code, asked.err.as_str()), (Some(0), ""));
    let told: Value = serde_json::from_str(&asked.out).unwrap();
    assert_eq!((&told["outcome"]["does"], &told["gateway"]), (&json!("hit"), &json!("shop-1")));
    let asked = ran(&["explain", "--config", "own.toml", "HEAD", "/a"]);
    assert_eq!((asked.code, asked.err.as_str()), (Some(0), ""));
    let first = format!("HEAD http://{}/a\n", gateway.address());
    assert!(asked.out.starts_with(&first), "{}", asked.out);

    // Without a gateway, as far as the file tells.
    let asked = ran(&[
        "explain",
        "--offline",
        "--json",
        "http://shop.example/tenants/a",
        "-H",
        "X-Tenant: acme",
    ]);
    assert_eq!((asked.code, asked.err.as_str()), (Some(0), ""));
    let told: Value = serde_json::from_str(&asked.out).unwrap();
    assert_eq!((&told["outcome"]["does"], &told["gateway"]), (&json!("key"), &Value::Null));
    assert_eq!(
        (&told["route"]["name"], &told["policies"][0]["answer"]),
        (&json!("tenants"), &json!("key"))
    );
    let asked = ran(&["explain", "--offline", "http://shop.example/tenants/a"]);
    assert!(asked.out.contains("past the cache: no-tenant"), "{asked:?}");
    origin.saw("/tenants/a", 0);
}

#[tokio::test]
async fn no_value_of_a_credential_is_shown() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin).await;
    for fields in [
        ["-H", "Authorization: Bearer t0psecret", "-H", "Cookie: session=c00kie"],
        ["-H", "Cookie: a=t0psecret; b=c00kie", "-H", "X-Tenant: t0psecret"],
    ] {
        for json in [&["--json"][..], &[]] {
            let arguments = [&["http://shop.example/tenants/a"][..], &fields, json].concat();
            let ran = explain(&gateway, &arguments);
            assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
            assert!(!ran.out.contains("t0psecret") && !ran.out.contains("c00kie"), "{}", ran.out);
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_and_is_its_exit_code() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin).await;
    let ran = explain(&gateway, &["shop.example/a"]);
    let told = "`shop.example/a` is not an absolute URL with http or https\n  \
                hint: write `http://shop.example/a`, or `/a` for what `[server] listen` is asked for\n";
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(2), "", told));
    let long = format!("http://shop.example/{}", "a".repeat(9000));
    let ran = explain(&gateway, &[long.as_str()]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.starts_with("422: "), "{ran:?}");
    let ran = explain(&gateway, &["--json", long.as_str()]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""));
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(told["status"], 422);
    for (arguments, code, told) in [
        (
            &["http://h/"][..],
            2,
            "`[admin] listen` has port 0: say by --admin where the gateway listens",
        ),
        (
            &["--config", "none.toml", "http://h/"],
            2,
            "hint: --config FILE names another; with --admin",
        ),
        (&["--offline", "shop.example/a"], 2, "is not an absolute URL with http or https"),
        (&["G T", "http://h/"], 2, "`G T` is no method"),
        (&["-H", "nonsense", "http://h/"], 2, "write `Name: value`"),
        (&["--offline", "--admin", "http://h", "http://h/"], 2, "cannot be used with"),
        (&["--admin", "http://127.0.0.1:1", "http://h/"], 1, "Connection refused"),
        (&[], 2, "Usage: larder explain [OPTIONS] [METHOD] URL"),
    ] {
        let ran = larder(gateway.folder(), &[&["explain"], arguments].concat());
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(told), "{arguments:?}: {ran:?}");
    }
    let admin = format!("http://{}", gateway.admin());
    let ran = larder(gateway.folder(), &["explain", "--admin", &admin, "http://h/"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.starts_with("401: ") && ran.err.contains("hint: "), "{ran:?}");
}

#[tokio::test]
async fn what_is_refused_for_its_target_is_explained() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin).await;
    for url in ["http://shop.example/a/../b", "/a/../b"] {
        let offline = larder(gateway.folder(), &["explain", "--offline", url]);
        for ran in [explain(&gateway, &[url]), offline] {
            assert_eq!(ran.code, Some(0), "{url}: {ran:?}");
            assert!(ran.out.contains("dot segments in the target"), "{url}: {ran:?}");
        }
    }
}

#[test]
fn its_help_teaches() {
    let ran = larder(Path::new("/"), &["explain", "--help"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    for text in [
        "Examples:",
        "--offline",
        "--json",
        "-H, --header <FIELD>",
        "-d, --data <TEXT|@FILE>",
        "[default: gateway.toml]",
        "0 explained",
    ] {
        assert!(ran.out.contains(text), "no `{text}`:\n{}", ran.out);
    }
    assert_eq!(ran.out.lines().find(|line| line.chars().count() > 100), None);
}
