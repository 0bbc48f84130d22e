//! `larder warm`: what it has stored, what it tells of that, and its exit codes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use larder::clock;
use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::pki::Pki;
use crate::support::program::{Ran, larder};
use crate::support::until;

/// The host that the URLs name. It leads nowhere.
const HOST: &str = "http://shop.example";

/// Runs `larder warm` before this gateway, in this folder.
async fn warm(gateway: &Gateway, folder: &Path, arguments: &[&str]) -> Ran {
    let mut all = vec!["warm".to_owned()];
    if !arguments.iter().any(|it| it.starts_with("--gateway")) {
        all.push(format!("--gateway=http://{}", gateway.address()));
    }
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let folder = folder.to_owned();
    // The gateway answers on this thread.
    let run = move || larder(&folder, &all.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn is_stored(gateway: &Gateway, target: &str) {
    let got = gateway.ask("GET", target).field("host", "shop.example").send().await;
    assert_eq!(got.cache_status(), "hit", "{target}");
}

fn sitemap(kind: &str, parent: &str, urls: &[String]) -> String {
    let entry =
        |url: &String| format!("<{parent}><loc>{}</loc></{parent}>", url.replace('&', "&amp;"));
    let entries: String = urls.iter().map(entry).collect();
    let space = "http://www.sitemaps.org/schemas/sitemap/0.9";
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{kind} xmlns=\"{space}\">{entries}</{kind}>"
    )
}

#[test]
fn its_help_teaches() {
    let ran = larder(Path::new("/"), &["warm", "--help"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    for text in [
        "[default: http://127.0.0.1:8080]",
        "--list <FILE>",
        "`-` is standard input",
        "--sitemap <URL-OR-FILE>",
        "--header <FIELD>",
        "[default: 50]",
        "0 all warmed",
        "2 wrong arguments",
    ] {
        assert!(ran.out.contains(text), "no `{text}`:\n{}", ran.out);
    }
    assert_eq!(ran.out.lines().find(|line| line.chars().count() > 100), None);
}

#[tokio::test]
async fn what_a_list_names_is_stored_and_the_rest_is_told() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let folder = tempfile::tempdir().unwrap();
    origin.on("/a").reply(ok("a").max_age(60));
    origin.on("/b?c=1&d=2").reply(ok("b").max_age(60));
    origin.on("/mine").reply(ok("mine").field("cache-control", "private"));
    origin.on("/gone").reply(status(404).max_age(60));
    gateway.ask("GET", "/a").field("host", "shop.example").send().await.body("a");
    let list = format!(
        "# the busiest\n{HOST}/a\n{HOST}/b?c=1&d=2\n\n{HOST}/mine\n{HOST}/gone\n/nowhere\n{HOST}/a\n"
    );
    fs::write(folder.path().join("list.txt"), list).unwrap();

    let ran = warm(&gateway, folder.path(), &["--list", "list.txt", "--concurrency", "1"]).await;
    let told = "2 of 5 warmed: 1 fetched and stored, 1 stored before\n  \
                /nowhere  is not an absolute URL with http or https\n  \
                http://shop.example/mine  fwd=uri-miss; detail=private\n  \
                http://shop.example/gone  404: fwd=uri-miss; stored\n";
    assert_eq!((ran.code, ran.err.as_str(), ran.out.as_str()), (Some(1), "", told));
    is_stored(&gateway, "/a").await;
    is_stored(&gateway, "/b?c=1&d=2").await;
    origin.saw("/a", 1);

    let urls = [format!("{HOST}/a"), format!("{HOST}/mine")];
    let ran = warm(&gateway, folder.path(), &["--json", &urls[0], &urls[1]]).await;
    assert_eq!(ran.code, Some(1));
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    let why = "fwd=uri-miss; detail=private";
    let expected = json!({
        "urls": 2, "warmed": 1, "stored": 0, "hits": 1, "not_asked": 0, "ended": null,
        "not_warmed": [{ "url": "http://shop.example/mine", "why": why }],
    });
    assert_eq!(told, expected);

    let ran = warm(&gateway, folder.path(), &["https://shop.example/a"]).await;
    let told = "1 of 1 warmed: 0 fetched and stored, 1 stored before\n";
    assert_eq!((ran.code, ran.err.as_str(), ran.out.as_str()), (Some(0), "", told));
}

#[tokio::test]
async fn a_gateway_with_tls_is_asked_with_tls() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    pki.certify("shop", &["shop.example", "api.example"], "shop");
    let at = |file: &str| pki.at(file).display().to_string();
    let tls =
        format!("tls = {{ certificate = \"{}\", key = \"{}\" }}", at("shop.pem"), at("shop.key"));
    let gateway = Gateway::setup(&origin).server(&format!("workers = 1\n{tls}")).start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    let urls = ["shop", "api", "other"].map(|host| format!("https://{host}.example/a"));
    let warm = async |more: &[&str]| {
        let secure = format!("--gateway=https://{}", gateway.address());
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        warm(&gateway, pki.folder(), &[&[&*secure][..], more, &urls].concat()).await
    };
    let ran = warm(&["--ca", "ca.pem"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""));
    let told = "2 of 3 warmed: 2 fetched and stored, 0 stored before\n  https://other.example/a  ";
    assert!(
        ran.out.starts_with(told) && ran.out.contains("no handshake for this host"),
        "{}",
        ran.out
    );
    origin.saw("/a", 2);
    // Whom the system's authorities do not vouch for is not asked.
    let ran = warm(&[]).await;
    assert!(ran.out.starts_with("0 of 3 warmed"), "{}", ran.out);
    let ran = warm(&["--ca", "shop.key"]).await;
    let told = "`shop.key` holds no certificate authorities in PEM form\n";
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), told));
    let ran = warm(&["--ca", "none.pem"]).await;
    let told = "`none.pem` cannot be read: No such file or directory (os error 2)\n";
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), told));
    origin.saw("/a", 2);
}

#[tokio::test]
async fn a_certificate_of_an_authority_is_told_in_words() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    pki.certify_authority("shop", &["shop.example"]);
    let gateway =
        Gateway::setup(&origin).server(&format!("workers = 1\n{}", pki.tls("shop"))).start().await;
    let secure = format!("--gateway=https://{}", gateway.address());
    let arguments = [&*secure, "--ca", "ca.pem", "https://shop.example/a"];
    let ran = warm(&gateway, pki.folder(), &arguments).await;
    let told = "0 of 1 warmed: 0 fetched and stored, 0 stored before\n  https://shop.example/a  ";
    assert!(ran.code == Some(1) && ran.out.starts_with(told), "{ran:?}");
    assert!(
        ran.out.contains("make one for the server, with `basicConstraints=CA:FALSE`"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn the_pages_of_sitemaps_are_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let folder = tempfile::tempdir().unwrap();
    for target in ["/1", "/2?a=1&b=2", "/3", "/4"] {
        origin.on(target).reply(ok("page").max_age(60));
    }
    let url = |target: &str| format!("https://shop.example{target}");
    let pages = sitemap("urlset", "url", &[url("/1"), url("/2?a=1&b=2")]);
    fs::write(folder.path().join("sitemap.xml"), &pages).unwrap();
    let ran = warm(&gateway, folder.path(), &["--sitemap", "sitemap.xml"]).await;
    let told = "2 of 2 warmed: 2 fetched and stored, 0 stored before\n";
    assert_eq!((ran.code, ran.err.as_str(), ran.out.as_str()), (Some(0), "", told));
    is_stored(&gateway, "/2?a=1&b=2").await;

    // An index that the gateway itself is asked for, and the sitemaps that it names.
    let index =
        sitemap("sitemapindex", "sitemap", &[url("/s1"), url("/s2"), url("/index"), url("/x")]);
    origin.on("/index").reply(ok(index));
    origin.on("/s1").reply(ok(pages));
    origin.on("/s2").reply(ok(sitemap("urlset", "url", &[url("/3"), url("/4"), url("/1")])));
    origin.on("/x").reply(status(404));
    let ran = warm(&gateway, folder.path(), &["--sitemap", &url("/index")]).await;
    let told = "4 of 6 warmed: 2 fetched and stored, 2 stored before\n  \
                https://shop.example/index  it is an index of sitemaps within another\n  \
                https://shop.example/x  404\n";
    assert_eq!((ran.code, ran.err.as_str(), ran.out.as_str()), (Some(1), "", told));
    is_stored(&gateway, "/4").await;

    for (place, told) in [
        (url("/x"), "`https://shop.example/x`: 404\n"),
        (url("/3"), "`https://shop.example/3`: it has no element\n"),
        (
            "none.xml".to_owned(),
            "`none.xml`: the file cannot be read: No such file or directory (os error 2)\n",
        ),
    ] {
        let ran = warm(&gateway, folder.path(), &["--sitemap", &place]).await;
        assert_eq!((ran.code, ran.err.as_str(), ran.out.as_str()), (Some(1), told, ""));
    }
}

#[tokio::test]
async fn each_sitemap_of_an_index_is_asked_for_once_and_no_faster_than_pages() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let url = |target: &str| format!("https://shop.example{target}");
    let all = ["/s1", "/s2", "/s1", "/s3", "/s4", "/s2"].map(url);
    origin.on("/index").reply(ok(sitemap("sitemapindex", "sitemap", &all)));
    for target in ["/s1", "/s2", "/s3", "/s4"] {
        origin.on(target).reply(ok(sitemap("urlset", "url", &[url("/1")])));
    }
    origin.on("/1").reply(ok("page").max_age(60));
    let places = [url("/index"), url("/s3"), url("/index")];
    let named = places.each_ref().map(|place| ["--sitemap", place]).concat();
    let begun = clock::instant();
    let ran = warm(&gateway, Path::new("/"), &[&["--rate", "10"][..], &named].concat()).await;
    let told = "1 of 1 warmed: 1 fetched and stored, 0 stored before\n";
    assert_eq!((ran.code, ran.err.as_str(), ran.out.as_str()), (Some(0), "", told));
    for target in ["/index", "/s1", "/s2", "/s3", "/s4", "/1"] {
        origin.saw(target, 1);
    }
    // Five requests, the first of them at once.
    assert!(begun.elapsed() >= Duration::from_millis(350), "{:?}", begun.elapsed());
}

#[test]
fn a_gateway_that_is_down_is_asked_for_one_sitemap() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<_> = (0..3).map(|number| format!("{HOST}/{number}.xml")).collect();
    let index = sitemap("sitemapindex", "sitemap", &all);
    fs::write(folder.path().join("index.xml"), index).unwrap();
    let arguments = ["warm", "--gateway", "http://127.0.0.1:1", "--sitemap", "index.xml"];
    let ran = larder(folder.path(), &arguments);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    let told = "`http://shop.example/0.xml`: no answer of `http://127.0.0.1:1`: ";
    assert!(ran.err.starts_with(told) && ran.err.lines().count() == 2, "{ran:?}");
    assert!(ran.err.ends_with("\n  hint: --gateway says where else\n"), "{ran:?}");
}

#[tokio::test]
async fn a_signal_ends_it_before_it_knows_what_to_ask_for() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for signal in ["TERM", "INT"] {
        let target = format!("/{signal}.xml");
        let _held = origin.on(&target).hold(ok(""));
        let child = Command::new(env!("CARGO_BIN_EXE_larder"))
            .args(["warm", "--sitemap", &format!("{HOST}{target}")])
            .arg(format!("--gateway=http://{}", gateway.address()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        until("it asks for the sitemap", || origin.count(&target) == 1).await;
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(sent.expect("`kill` must be installed").success());
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output());
        let ended = ended.await.unwrap().unwrap();
        let (out, err) = (String::from_utf8(ended.stdout), String::from_utf8(ended.stderr));
        let told = "stopped before it was known what to ask for\n";
        assert_eq!((out.as_deref(), err.as_deref()), (Ok(""), Ok(told)), "{signal}");
        assert_eq!(ended.status.code(), Some(1), "{signal}");
    }
}

#[tokio::test]
async fn a_variant_is_warmed_by_its_fields() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let de =
        || ok("Hallo").max_age(60).field("vary", "accept-language").field("content-language", "de");
    origin.on("/a").with("accept-language", "de").reply(de());
    let url = format!("{HOST}/a");
    let fields = ["--header", "Accept-Language: de", "--header", "User-Agent: test", &url];
    assert_eq!(warm(&gateway, Path::new("/"), &fields).await.code, Some(0));
    let german =
        gateway.ask("GET", "/a").field("host", "shop.example").field("accept-language", "de");
    german.send().await.body("Hallo").status("hit");
    let asked = origin.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].field("user-agent").as_deref(), Some("test"));
}

#[tokio::test]
async fn a_gateway_that_is_down_is_asked_once() {
    let url = |number: usize| format!("{HOST}/{number}");
    let urls: Vec<_> = (0..30).map(url).collect();
    let gateway = ["warm", "--gateway", "http://127.0.0.1:1", "--concurrency", "1"];
    let arguments = [&gateway[..], &urls.iter().map(String::as_str).collect::<Vec<_>>()].concat();
    let ran = larder(Path::new("/"), &arguments);
    assert_eq!(ran.code, Some(1));
    let told = "0 of 30 warmed: 0 fetched and stored, 0 stored before; 30 not asked for\n";
    assert_eq!(ran.out, told);
    assert!(ran.err.starts_with("no answer of `http://127.0.0.1:1`: "), "{ran:?}");
    let refused = "Connection refused (os error 111)\n  hint: --gateway says where else\n";
    assert!(ran.err.ends_with(refused), "{ran:?}");

    // Something else listens there.
    let origin = Origin::start().await;
    origin.on("/0").reply(ok("hello").max_age(60));
    let (gateway, url) = (format!("--gateway={}", origin.url()), url(0));
    let run = move || larder(Path::new("/"), &["warm", &gateway, &url]);
    let ran = tokio::task::spawn_blocking(run).await.unwrap();
    let told = "0 of 1 warmed: 0 fetched and stored, 0 stored before\n  \
                http://shop.example/0  no `Cache-Status` of a gateway\n";
    let err = "what answers there is no gateway of Larder\n  hint: --gateway says where else\n";
    assert_eq!((ran.code, ran.err.as_str(), ran.out.as_str()), (Some(1), err, told));
}

#[tokio::test]
async fn a_terminal_sees_how_far_it_is_and_nobody_else_does() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("a").max_age(60));
    let (program, url) = (env!("CARGO_BIN_EXE_larder"), format!("{HOST}/a"));
    let command = format!("{program} warm --gateway http://{} {url}", gateway.address());
    // script(1) of util-linux gives it a terminal.
    let run = move || Command::new("script").args(["-qec", &command, "/dev/null"]).output();
    let ran = tokio::task::spawn_blocking(run).await.unwrap().expect("`script` must be installed");
    let shown = String::from_utf8(ran.stdout).unwrap();
    assert!(shown.starts_with("\r\u{1b}[K[####################] 1/1, "), "{shown:?}");
    let told = "\r\u{1b}[K1 of 1 warmed: 1 fetched and stored, 0 stored before\r\n";
    assert!(shown.ends_with(told), "{shown:?}");
}
