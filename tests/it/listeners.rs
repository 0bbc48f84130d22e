//! TLS for clients: which protocols and certificates they are offered, other certificates while they
//! connect, and who is not let in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::client::{Ask, Http2, raw};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, ok};
use crate::support::pki::Pki;
use crate::support::program::{Running, larder};
use crate::support::wire::Line;
use crate::support::{PATIENCE, free_port};

/// What `curl` adds to the content: the version, and the status.
const TOLD: [&str; 2] = ["--write-out", " %{http_version} %{http_code}"];

/// A gateway with one certificate, for `shop.example`, and what else `[server]` says.
fn setup(origin: &Origin, pki: &Pki, lines: &str) -> Setup {
    pki.certify("shop", &["shop.example"], "shop");
    with_tls(origin, pki, "{ certificate = \"shop.pem\", key = \"shop.key\" }", lines)
}

/// A gateway with these certificates.
fn with_tls(origin: &Origin, pki: &Pki, tls: &str, lines: &str) -> Setup {
    let quoted = format!("\"{}/", pki.folder().display());
    let tls = tls.replace("= \"", &format!("= {quoted}"));
    Gateway::setup(origin).server(&format!("workers = 1\n{lines}\ntls = {tls}"))
}

#[tokio::test]
async fn curl_speaks_either_version_over_tls() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    let gateway = setup(&origin, &pki, "").start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    let versions = [("--http2", "2"), ("--http1.1", "1.1"), ("--http1.0", "1")];
    for (hits, (argument, version)) in (0..).zip(versions) {
        let arguments = [&[argument][..], &TOLD].concat();
        let got = pki.curl(gateway.address(), "shop.example", "/a", &arguments).await;
        assert_eq!(got, format!("1 {version} 200"));
        assert_eq!(gateway.figure("l1_hits"), hits);
    }
    origin.saw("/a", 1);
    let seen = origin.last("/a");
    let port = gateway.address().port();
    for (name, value) in [
        ("host", format!("shop.example:{port}")),
        ("x-forwarded-proto", "https".to_owned()),
        ("forwarded", format!("for=127.0.0.1;host=\"shop.example:{port}\";proto=https")),
    ] {
        assert_eq!(seen.field(name).as_deref(), Some(&*value));
    }
}

#[tokio::test]
async fn versions_of_tls_and_protocols_are_negotiated() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    let gateway = setup(&origin, &pki, "").start().await;
    for (arguments, told) in [
        (&["-tls1_3", "-alpn", "h2,http/1.1"][..], &["TLSv1.3", "ALPN protocol: h2"][..]),
        (&["-tls1_2", "-alpn", "h2"], &["TLSv1.2", "ALPN protocol: h2"]),
        (&["-tls1_2", "-alpn", "http/1.1"], &["ALPN protocol: http/1.1"]),
        (&["-tls1_3"], &["No ALPN negotiated", "Verify return code: 0 (ok)"]),
        (&["-alpn", "h3"], &["alert no application protocol"]),
        (&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], &["no peer certificate", "alert"]),
    ] {
        let said = pki.openssl(gateway.address(), arguments).await;
        for told in told {
            assert!(said.contains(told), "{arguments:?} lacks {told:?}:\n{said}");
        }
    }
}

#[tokio::test]
async fn each_listener_speaks_its_own() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    let secure = setup(&origin, &pki, "").start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    let answer = raw(secure.address(), b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(!answer.contains("HTTP"), "{answer}");
    // HTTP/2 that the handshake has not agreed on.
    let mut stream = pki.connect(secure.address(), "shop.example", "http/1.1").await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    let _end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer:?}");

    let cleartext = Gateway::before(&origin).await;
    let refused = pki.connect(cleartext.address(), "shop.example", "h2").await;
    assert!(refused.is_err());
    assert!(origin.asked().is_empty());
}

#[tokio::test]
async fn an_http2_connection_over_tls_carries_many_requests() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    let gateway = setup(&origin, &pki, "").start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    let stream = pki.connect(gateway.address(), "shop.example", "h2").await.unwrap();
    let client = Http2::over(stream, "https://shop.example").await;
    client.get("/a").await.status("fwd=uri-miss; stored");
    let sent: Vec<_> = (0..100).map(|_| tokio::spawn(client.get("/a"))).collect();
    for sent in sent {
        sent.await.unwrap().code(200).body("1").status("hit");
    }
    // The port of `https` is none of the authority.
    assert_eq!(origin.last("/a").field("host").as_deref(), Some("shop.example"));
}

#[tokio::test]
async fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    pki.certify("first", &["first.example"], "the first");
    pki.certify("shop", &["shop.example", "*.shop.example"], "the shop");
    pki.certify("api", &["api.shop.example"], "the api");
    let several = "{ certificates = [{ certificate = \"first.pem\", key = \"first.key\" }, \
                   { certificate = \"shop.pem\", key = \"shop.key\" }, \
                   { certificate = \"api.pem\", key = \"api.key\" }] }";
    let gateway = with_tls(&origin, &pki, several, "").start().await;
    for (arguments, subject) in [
        (&["-servername", "shop.example"][..], "the shop"),
        (&["-servername", "SHOP.example"], "the shop"),
        (&["-servername", "www.shop.example"], "the shop"),
        (&["-servername", "api.shop.example"], "the api"),
        (&["-servername", "a.b.shop.example"], "the first"),
        (&["-servername", "other.example"], "the first"),
        (&["-noservername"], "the first"),
    ] {
        let said = pki.openssl(gateway.address(), arguments).await;
        assert!(said.contains(&format!("subject=CN = {subject}\n")), "{arguments:?}:\n{said}");
    }
    origin.on("/a").reply(ok("1"));
    for host in ["first.example", "www.shop.example", "api.shop.example"] {
        let got = pki.curl(gateway.address(), host, "/a", &TOLD).await;
        assert_eq!(got, "1 2 200", "{host}");
    }
    let said = pki.curl(gateway.address(), "other.example", "/a", &[]).await;
    assert!(said.contains("no alternative certificate subject name matches"), "{said}");
}

#[tokio::test]
async fn certificates_change_under_load_and_no_handshake_is_refused() {
    let (origin, pki) = (Origin::start().await, Arc::new(Pki::new()));
    let toml = pki.at("gateway.toml");
    let gateway = setup(&origin, &pki, "").start_from(&toml).await;
    let address = gateway.address();
    origin.on("/a").reply(ok("1").max_age(60));
    let stream = pki.connect(address, "shop.example", "h2").await.unwrap();
    let old = Http2::over(stream, "https://shop.example").await;
    old.get("/a").await.status("fwd=uri-miss; stored");

    let (goes_on, count) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (pki, goes_on, count) = (Arc::clone(&pki), Arc::clone(&goes_on), Arc::clone(&count));
        clients.spawn(async move {
            while goes_on.load(Ordering::Relaxed) {
                let stream = pki.connect(address, "shop.example", "h2").await;
                let stream = stream.expect("a handshake was refused");
                let client = Http2::over(stream, "https://shop.example").await;
                client.get("/a").await.code(200).body("1").status("hit");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for round in 0..3 {
        let subject = format!("shop {round}");
        pki.certify("shop", &["shop.example"], &subject);
        let shown = format!("subject=CN = {subject}\n");
        let mut said = String::new();
        for _ in 0..1000 {
            said = pki.openssl(address, &["-servername", "shop.example"]).await;
            if said.contains(&shown) {
                break;
            }
        }
        assert!(said.contains(&shown), "{said}");
    }
    goes_on.store(false, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert!(count.load(Ordering::Relaxed) > 20, "{count:?} handshakes");
    // It was there all the time.
    old.get("/a").await.body("1").status("hit");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_leaves_the_old_one() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    let toml = pki.at("gateway.toml");
    let gateway = setup(&origin, &pki, "watch = false").start_from(&toml).await;
    let shows = async |subject: &str| {
        let said = pki.openssl(gateway.address(), &["-servername", "shop.example"]).await;
        assert!(said.contains(&format!("subject=CN = {subject}\n")), "{said}");
    };
    shows("shop").await;
    let right = std::fs::read(pki.at("shop.key")).unwrap();
    pki.certify("shop", &["shop.example"], "shop anew");
    let new = std::fs::read(pki.at("shop.key")).unwrap();
    std::fs::write(pki.at("shop.key"), right).unwrap();
    let told = gateway.admin("POST", "/reload").send().await.code(422);
    let told = String::from_utf8_lossy(&told.body).into_owned();
    assert!(told.contains("holds another key than the certificate's"), "{told}");
    shows("shop").await;
    std::fs::write(pki.at("shop.key"), new).unwrap();
    gateway.admin("POST", "/reload").send().await.code(200);
    shows("shop anew").await;
}

#[tokio::test]
async fn a_listener_that_goes_with_a_restart_needs_its_files_no_more() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    pki.certify("old", &["old.example"], "the old");
    let toml = pki.at("gateway.toml");
    let setup = || Gateway::setup(&origin).server("workers = 1\nwatch = false");
    let old = format!("[[server.listeners]]\nlisten = \"127.0.0.1:0\"\n{}", pki.tls("old"));
    let gateway = setup().listening(&old).start_from(&toml).await;
    let new = "[[routes]]\nname = \"new\"\npath = \"/new\"\nupstream = \"origin\"";
    std::fs::write(&toml, setup().route(new).text()).unwrap();
    for file in ["old.pem", "old.key"] {
        std::fs::remove_file(pki.at(file)).unwrap();
    }
    for added in [json!(["new"]), json!([])] {
        let told = gateway.admin("POST", "/reload").send().await.code(200);
        let told: Value = serde_json::from_slice(&told.body).unwrap();
        assert_eq!(told["waiting_for_restart"], json!(["[server] listeners"]));
        assert_eq!(told["routes"]["added"], added);
        let said = pki.openssl(gateway.another(1), &["-servername", "old.example"]).await;
        assert!(said.contains("subject=CN = the old\n"), "{said}");
    }
}

#[tokio::test]
async fn files_that_a_restart_would_not_find_are_faults_of_a_reload() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    let toml = pki.at("gateway.toml");
    let setup = || Gateway::setup(&origin).server("workers = 1\nwatch = false");
    let gateway = setup().start_from(&toml).await;
    let listener = format!("[[server.listeners]]\nlisten = \"127.0.0.1:0\"\n{}", pki.tls("none"));
    let l2 = format!("tls = {{ ca = \"{}/none.pem\" }}", pki.folder().display());
    for (setup, told) in [
        (setup().listening(&listener), "[server] tls: "),
        (setup().l2("rediss://127.0.0.1:1", &l2), "[cache.l2]: "),
    ] {
        std::fs::write(&toml, setup.text()).unwrap();
        let got = gateway.admin("POST", "/reload").send().await.code(422);
        let faults = String::from_utf8_lossy(&got.body).into_owned();
        assert!(faults.contains(told) && faults.contains("none.pem` cannot be read"), "{faults}");
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_faults() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    pki.certify("a", &["a.example"], "a");
    pki.certify("b", &["b.example"], "b");
    std::fs::write(pki.at("empty"), "").unwrap();
    for (certificate, key, told) in [
        ("none", "a.key", "none` cannot be read: No such file"),
        ("a.pem", "none", "none` cannot be read: No such file"),
        ("a.key", "a.key", "a.key` holds no certificate in PEM form"),
        ("empty", "a.key", "empty` holds no certificate in PEM form"),
        ("a.pem", "a.pem", "a.pem` holds no private key in PEM form"),
        ("a.pem", "b.key", "b.key` holds another key than the certificate's"),
        ("a.pem", "a.key", ""),
    ] {
        let tls = format!("{{ certificate = \"{certificate}\", key = \"{key}\" }}");
        let text = with_tls(&origin, &pki, &tls, "").text();
        std::fs::write(pki.at("gateway.toml"), text).unwrap();
        let ran = larder(pki.folder(), &["check", "gateway.toml"]);
        let is_faulty = !told.is_empty();
        assert_eq!(ran.code, Some(if is_faulty { 2 } else { 0 }), "{tls}: {}", ran.err);
        assert!(ran.err.contains(told), "{tls}: {}", ran.err);
        assert!(!is_faulty || ran.err.contains("gateway.toml:6:7: [server] tls: "), "{}", ran.err);
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come_to_its_end_closes_the_connection() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    let gateway = setup(&origin, &pki, "header_timeout = \"200ms\"").start().await;
    // Nothing, and the beginning of a ClientHello.
    for begun in [&b""[..], b"\x16", b"\x16\x03\x01\x00\xc0\x01\x00\x00\xbc\x03\x03"] {
        let mut client = Line::to(gateway.address()).await;
        client.send(begun).await;
        assert_eq!(client.rest().await, "");
    }
    // A handshake, and no request.
    let mut client = pki.connect(gateway.address(), "shop.example", "http/1.1").await.unwrap();
    let mut rest = Vec::new();
    let _end = tokio::time::timeout(PATIENCE, client.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty() && origin.asked().is_empty());
}

#[tokio::test]
async fn a_client_whose_handshake_fails_hears_why_while_it_still_sends() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    let gateway = setup(&origin, &pki, "").start().await;
    let mut client = TcpStream::connect(gateway.address()).await.unwrap();
    let mut sent = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n".to_vec();
    sent.resize(90_000, b'a');
    client.write_all(&sent).await.unwrap();
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(PATIENCE, client.read_to_end(&mut answer));
    reading.await.unwrap().expect("its end is no reset");
    // A record of an alert that is fatal.
    assert!(answer.starts_with(&[0x15, 3, 3, 0, 2, 2]), "{answer:?}");
}

#[tokio::test]
async fn what_came_by_http_is_no_answer_for_https() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    let more = "[[server.listeners]]\nlisten = \"127.0.0.1:0\"";
    let gateway = setup(&origin, &pki, "").listening(more).start().await;
    origin.on("/a").answer(|asked| {
        let scheme = asked.field("x-forwarded-proto").unwrap();
        ok(scheme).max_age(60)
    });
    let cleartext = async || {
        Ask::new(gateway.another(1), "GET", "/a").field("host", "shop.example").send().await
    };
    let stream = pki.connect(gateway.address(), "shop.example", "h2").await.unwrap();
    let secure = Http2::over(stream, "https://shop.example").await;
    for round in 0..2 {
        cleartext().await.body("http").status("fwd=uri-miss; stored");
        secure.get("/a").await.body("https").status("fwd=uri-miss; stored");
        cleartext().await.body("http").status("hit");
        secure.get("/a").await.body("https").status("hit");
        if round == 0 {
            // One purge covers both.
            let urls = "{ \"urls\": [\"https://shop.example/a\"] }";
            gateway
                .admin("POST", "/purge")
                .field("content-type", "application/json")
                .body(urls)
                .send()
                .await
                .code(200);
        }
    }
    origin.saw("/a", 4);
}

#[tokio::test]
async fn a_listener_in_cleartext_may_send_everybody_to_tls() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    let more = "[[server.listeners]]\nlisten = \"127.0.0.1:0\"\nredirect = \"https\"\n\
                [[server.listeners]]\nlisten = \"127.0.0.1:0\"\nredirect = \"https:8443\"";
    let gateway = setup(&origin, &pki, "").listening(more).start().await;
    for (place, method, host, target, location) in [
        (1, "GET", "shop.example", "/a?b=c", "https://shop.example/a?b=c"),
        (1, "GET", "Shop.Example:8080", "/", "https://shop.example/"),
        (1, "POST", "[::1]:8080", "/a", "https://[::1]/a"),
        (1, "GET", "[::1]", "/a", "https://[::1]/a"),
        (2, "HEAD", "shop.example:80", "/a", "https://shop.example:8443/a"),
        (2, "OPTIONS", "shop.example", "*", "https://shop.example:8443/"),
        (2, "GET", "shop.example", "//evil.example/", "https://shop.example:8443//evil.example/"),
    ] {
        let ask = Ask::new(gateway.another(place), method, target).field("host", host);
        ask.send().await.code(308).body("").has("location", location);
    }
    Ask::new(gateway.another(1), "GET", "/a").field("host", "a b").send().await.code(400);
    assert!(origin.asked().is_empty());
}

#[tokio::test]
async fn all_addresses_of_ipv6_and_of_ipv4_are_listened_on_apart() {
    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let origin = Origin::start().await;
    origin.on("/a").reply(ok("1"));
    for ((clients, asked), (operators, called)) in [
        (("0.0.0.0", V4), ("[::]", V6)),
        (("[::]", V6), ("0.0.0.0", V4)),
        (("[::]", V6), ("127.0.0.1", V4)),
    ] {
        let port = free_port();
        let toml = format!(
            "[server]\nlisten = \"{clients}:{port}\"\n\
             [admin]\nlisten = \"{operators}:{port}\"\ntoken = \"s3cret\"\n\
             [upstreams.origin]\nservers = [\"{}\"]\n\
             [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n",
            origin.url()
        );
        let _larder = Running::with(&toml).await;
        let ask = Ask::new(SocketAddr::new(asked, port), "GET", "/a").field("host", "shop.example");
        ask.send().await.code(200).body("1");
        let call = Ask::new(SocketAddr::new(called, port), "GET", "/stats");
        call.field("authorization", "Bearer s3cret").send().await.code(200);
    }
}

#[test]
fn examples_of_the_manual_load() {
    let manual = include_str!("../../docs/listeners.md");
    let blocks = manual.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut tried = 0;
    for example in blocks {
        let pki = Pki::new();
        std::fs::copy(pki.at("ca.pem"), pki.at("clients.pem")).unwrap();
        for file in example.split('"').filter_map(|text| text.strip_suffix(".key")) {
            pki.certify(file, &["shop.example"], file);
        }
        let text = format!(
            "{example}\n[upstreams.u]\nservers = [\"http://127.0.0.1:9\"]\n\
             [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"u\"\n"
        );
        std::fs::write(pki.at("gateway.toml"), &text).unwrap();
        let ran = larder(pki.folder(), &["check", "gateway.toml"]);
        assert_eq!(ran.code, Some(0), "{}\n{text}", ran.err);
        tried += 1;
    }
    assert!(tried >= 2, "{tried} examples");
}
