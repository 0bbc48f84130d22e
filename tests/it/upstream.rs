//! What becomes of a request when its upstream fails, and which server of an upstream gets it.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConnection;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::client::{Got, raw};
use crate::support::gateway::Gateway;
use crate::support::nobody;
use crate::support::origin::{Origin, ok, pieces, status};
use crate::support::pki::run;
use crate::support::raw::{RawOrigin, Step};
use crate::support::wire::{Line, Wire};

/// A response of the gateway's own, which tells no internals.
#[track_caller]
fn is_problem(got: &Got, code: u16, title: &str, detail: &str) {
    let told: Value = serde_json::from_slice(&got.body).unwrap();
    let expected =
        json!({ "type": "about:blank", "title": title, "status": code, "detail": detail });
    assert_eq!(told, expected, "{got:?}");
    got.clone().code(code).has("content-type", "application/problem+json");
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_502() {
    let (_reserved, absent) = nobody();
    let gateway = Gateway::setup_before(&[absent]).start().await;
    for (method, why) in [("GET", "uri-miss"), ("HEAD", "uri-miss"), ("POST", "method")] {
        let got = gateway.ask(method, "/a").send().await.code(502);
        let got = got.status(&format!("fwd={why}; detail=upstream-refused"));
        if method != "HEAD" {
            is_problem(&got, 502, "Bad Gateway", "no connection to the upstream");
        }
    }
    assert_eq!(gateway.figure("upstream_failures"), 3);
    assert_eq!(gateway.figure("stored"), 0, "it is not remembered");
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn an_upstream_that_breaks_off_before_the_head_is_a_502() {
    use Step::{Head, Reset, Send};
    for (what, steps) in [
        ("closes", vec![Head]),
        ("resets", vec![Head, Reset]),
        ("closes at once", vec![]),
        ("closes within the head", vec![Head, Send("HTTP/1.1 200 OK\r\ncontent-le")]),
        ("speaks something else", vec![Head, Send("SSH-2.0-OpenSSH_9.2\r\n")]),
        ("answers in another version", vec![Head, Send("HTTP/3.7 200 OK\r\n\r\n")]),
        (
            "answers in a coding that is not known",
            vec![Head, Send("HTTP/1.1 200 OK\r\ntransfer-encoding: other\r\n\r\ncoded")],
        ),
        (
            "answers in a coding that was not asked for",
            vec![
                Head,
                Send("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            ],
        ),
        (
            "sends one length twice",
            vec![Head, Send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n1")],
        ),
        (
            "sends a list of lengths",
            vec![Head, Send("HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\n\r\n1")],
        ),
        (
            "sends a length that is none",
            vec![Head, Send("HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n1")],
        ),
        (
            "sends a length and chunks",
            vec![
                Head,
                Send(
                    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
                ),
            ],
        ),
        (
            "answers in chunks twice",
            vec![
                Head,
                Send(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
                ),
            ],
        ),
        (
            "answers in chunks by HTTP/1.0",
            vec![Head, Send("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")],
        ),
        ("folds a line", vec![Head, Send("HTTP/1.1 200 OK\r\nx-a: 1\r\n 2\r\n\r\n")]),
        ("has a space before a colon", vec![Head, Send("HTTP/1.1 200 OK\r\nx-a : 1\r\n\r\n")]),
        ("sends a NUL", vec![Head, Send("HTTP/1.1 200 OK\r\nx-a: 1\0\r\n\r\n")]),
        ("switches protocols", vec![Head, Send("HTTP/1.1 101 Switching Protocols\r\n\r\n")]),
        ("sends a field that is none", vec![Head, Send("HTTP/1.1 200 OK\r\nno colon\r\n\r\n")]),
        (
            "sends two lengths",
            vec![Head, Send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n12")],
        ),
    ] {
        let origin = RawOrigin::start(&steps).await;
        let gateway = Gateway::setup_before(&[origin.url()]).start().await;
        let got = gateway.get("/a").await;
        is_problem(&got, 502, "Bad Gateway", "upstream broke off or answered nonsense");
        assert_eq!(got.cache_status(), "fwd=uri-miss; detail=upstream-broken", "{what}");
        assert_eq!(gateway.figure("upstream_failures"), 1, "{what}");
    }
}

/// Its content has come whole, and the connection would be used again.
#[tokio::test]
async fn a_connection_with_a_head_that_is_not_clear_is_not_used_again() {
    let origin = Origin::start().await;
    let wire = Wire::start().await;
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;
    let first = tokio::spawn(gateway.ask("GET", "/a").send());
    let mut unclear = wire.accept().await;
    unclear.until("\r\n\r\n").await;
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n1";
    unclear.send(head).await;
    first.await.unwrap().code(502);
    let second = tokio::spawn(gateway.ask("GET", "/b").send());
    let mut other = wire.accept().await;
    other.until("\r\n\r\n").await;
    other.send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2").await;
    second.await.unwrap().code(200).body("2");
    assert_eq!(unclear.rest().await, "", "nothing more was sent");
}

#[tokio::test]
async fn a_connection_that_closes_under_a_safe_request_is_not_the_clients_trouble() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1";
    let origin = Origin::start().await;
    let wire = Wire::start().await;
    let gateway = Gateway::setup(&origin).routes(&wire.routes()).start().await;

    let first = tokio::spawn(gateway.ask("GET", "/a").send());
    let mut idle = wire.accept().await;
    idle.until("\r\n\r\n").await;
    idle.send(ANSWER).await;
    first.await.unwrap().code(200);

    let second = tokio::spawn(gateway.ask("GET", "/b").send());
    assert!(idle.until("\r\n\r\n").await.starts_with("GET /b "));
    drop(idle);
    let mut idle = wire.accept().await;
    assert!(idle.until("\r\n\r\n").await.starts_with("GET /b "));
    idle.send(ANSWER).await;
    second.await.unwrap().code(200).body("1");

    // What a write has done is not known.
    let write = tokio::spawn(gateway.ask("POST", "/c").send());
    assert!(idle.until("\r\n\r\n").await.starts_with("POST /c "));
    drop(idle);
    write.await.unwrap().code(502).status("fwd=method; detail=upstream-broken");
}

#[tokio::test]
async fn silence_is_a_504() {
    let origin = RawOrigin::start(&[Step::Head, Step::Stay]).await;
    let setup = Gateway::setup_before(&[origin.url()]).upstream("timeout = \"200ms\"");
    let gateway = setup.start().await;
    for (method, why) in [("GET", "uri-miss"), ("DELETE", "method")] {
        let got = gateway.ask(method, "/a").send().await;
        is_problem(&got, 504, "Gateway Timeout", "upstream did not answer in time");
        got.status(&format!("fwd={why}; detail=upstream-timeout"));
    }
    assert_eq!(origin.heads().len(), 2);
    assert_eq!(gateway.figure("upstream_failures"), 2);
}

/// RFC 9110 §15.2: "A proxy MUST forward 1xx responses unless the proxy itself requested the
/// generation of the 1xx response."
#[tokio::test]
async fn an_exchange_that_takes_too_long_in_all_is_ended() {
    let raw = RawOrigin::start(&[Step::Head, Step::Stay]).await;
    let setup = Gateway::setup_before(&[raw.url()]).upstream("total_timeout = \"300ms\"");
    let gateway = setup.start().await;
    gateway.get("/a").await.code(504).status("fwd=uri-miss; detail=upstream-timeout");
    assert_eq!(raw.connections(), 1, "there is no time for another try");

    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).upstream("total_timeout = \"300ms\"").start().await;
    for method in ["GET", "POST"] {
        let (reply, pieces) = pieces();
        origin.on("/a").reply(reply.max_age(60));
        let mut open = gateway.ask(method, "/a").open().await;
        // Something comes all the time.
        let ended = loop {
            pieces.send("1");
            match open.piece().await {
                Some(Ok(_)) => {}
                ended => break ended,
            }
        };
        assert!(ended.unwrap().is_err(), "it does not look complete");
        pieces.gone().await;
    }
    // Nothing of it is kept, and what takes less time is as ever.
    origin.on("/a").reply(ok("1").max_age(60));
    gateway.get("/a").await.body("1").status("fwd=uri-miss; stored");
    gateway.get("/a").await.body("1").status("hit");
}

#[tokio::test]
async fn interim_responses_pass_through_and_are_never_stored() {
    let origin = RawOrigin::start(&[
        Step::Head,
        Step::Send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"),
        Step::Send("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x-hop\r\n"),
        Step::Send("x-hop: 1\r\n\r\n"),
        Step::Send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncache-control: max-age=60\r\n"),
        Step::Send("connection: close\r\n\r\n1"),
        // To close with content unread would reset the connection.
        Step::Stay,
    ])
    .await;
    let gateway = Gateway::setup_before(&[origin.url()]).start().await;
    let early = "HTTP/1.1 102 Processing\r\nvia: 1.1 larder\r\n\r\n\
                 HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nvia: 1.1 larder\r\n\r\n";
    for (method, content) in [("POST", "content-length: 1\r\n\r\nx"), ("GET", "")] {
        let mut client = Line::to(gateway.address()).await;
        let end = if content.is_empty() { "\r\n" } else { content };
        client.send(format!("{method} /a HTTP/1.1\r\nHost: a.test\r\n{end}")).await;
        let got = client.until("\r\n\r\n1").await;
        let rest = got.strip_prefix(early).unwrap_or_else(|| panic!("{got}"));
        assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && !rest.contains("HTTP/1.1 1"), "{got}");
    }
    for more in [&[][..], &["--data", "x"]] {
        let url = format!("http://{}/e", gateway.address());
        let always = ["--silent", "--show-error", "--include", "--http2-prior-knowledge", &url];
        let got = run("curl", &[&always, more].concat()).await;
        let early = "HTTP/2 102 \r\nvia: 1.1 larder\r\n\r\n\
                     HTTP/2 103 \r\nlink: </a.css>\r\nvia: 1.1 larder\r\n\r\nHTTP/2 200 \r\n";
        let rest = got.strip_prefix(early).unwrap_or_else(|| panic!("{got}"));
        assert!(rest.ends_with("\r\n\r\n1") && !rest.contains("HTTP/2"), "{got}");
    }
    // From L1, and to a client that knows of none.
    for (version, target) in [("1.1", "/a"), ("1.0", "/c")] {
        let ask =
            format!("GET {target} HTTP/{version}\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        let got = raw(gateway.address(), ask.as_bytes()).await;
        assert!(got.starts_with(&format!("HTTP/{version} 200 OK\r\n")), "{got}");
    }
    gateway.get("/d").await.code(200).body("1").status("fwd=uri-miss; stored").lacks("link");
}

#[tokio::test]
async fn a_write_that_broke_off_counts_as_done_and_one_that_never_left_does_not() {
    let origin = Origin::start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    let (_reserved, absent) = nobody();
    let broken = RawOrigin::start(&[Step::Head]).await;
    let setup = Gateway::setup(&origin).upstream(&format!(
        "[upstreams.broken]\nservers = [\"{}\"]\n[upstreams.absent]\nservers = [\"{absent}\"]",
        broken.url()
    ));
    let route = |method: &str, upstream: &str| {
        format!(
            "[[routes]]\nname = \"{upstream}\"\npath = \"/{{*rest}}\"\n\
             upstream = \"{upstream}\"\nmethods = [\"{method}\"]\n"
        )
    };
    let routes = [route("GET", "origin"), route("PUT", "broken"), route("PATCH", "absent")];
    let gateway = setup.routes(&routes.concat()).start().await;
    gateway.get("/a").await.status("fwd=uri-miss; stored");

    gateway.ask("PATCH", "/a").send().await.code(502).status("fwd=method; detail=upstream-refused");
    gateway.get("/a").await.status("hit");
    gateway.ask("PUT", "/a").send().await.code(502).status("fwd=method; detail=upstream-broken");
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn a_slow_upload_is_no_silence() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).upstream("timeout = \"1s\"").start().await;
    origin.on("/a").reply(status(201));
    let mut client = Line::to(gateway.address()).await;
    client
        .send(b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\nconnection: close\r\n\r\n")
        .await;
    for _ in 0..8 {
        // Together they take longer than the limit, and each much less.
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.send(b"x").await;
    }
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    assert_eq!(origin.last("/a").body, "xxxxxxxx");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn an_upload_that_stands_still_is_given_up() {
    let origin = RawOrigin::start(&[Step::Head, Step::Stay]).await;
    let setup = Gateway::setup_before(&[origin.url()]).upstream("timeout = \"200ms\"");
    let gateway = setup.start().await;
    let mut client = Line::to(gateway.address()).await;
    client.send(b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nxxxx").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{answer}");
    assert!(answer.contains("cache-status: larder; fwd=method; detail=upstream-timeout\r\n"));
    assert_eq!(origin.heads().len(), 1);
}

#[tokio::test]
async fn an_upload_may_be_answered_before_its_end() {
    let early = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 5\r\n\r\nlarge";
    let origin = RawOrigin::start(&[Step::Head, Step::Send(early), Step::Stay]).await;
    let gateway = Gateway::setup_before(&[origin.url()]).start().await;
    let mut client = Line::to(gateway.address()).await;
    client.send("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nxxxx").await;
    let answer = client.until("\r\n\r\nlarge").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("cache-status: larder; fwd=method\r\n"), "{answer}");
}

#[tokio::test]
async fn octets_beyond_a_response_never_become_the_next_one() {
    let both = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncache-control: no-store\r\n\r\n1\
                HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncache-control: max-age=60\r\n\r\nevil";
    let origin = RawOrigin::start(&[Step::Head, Step::Send(both), Step::Stay]).await;
    let gateway = Gateway::setup_before(&[origin.url()]).start().await;
    for target in ["/a", "/b", "/a"] {
        gateway.get(target).await.code(200).body("1").status("fwd=uri-miss; detail=no-store");
    }
    assert_eq!(origin.connections(), 3, "none of them can be used again");
}

#[tokio::test]
async fn an_upload_passes_octet_by_octet() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("done"));
    let content: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    gateway.ask("PUT", "/a").body(content.clone()).send().await.code(200).body("done");
    assert!(origin.last("/a").body == content, "the content changed on its way");
    gateway.ask("PUT", "/a").http2().body(content.clone()).send().await.code(200).body("done");
    assert!(origin.last("/a").body == content, "the content changed on its way");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn servers_are_used_in_turn() {
    let origins = [Origin::start().await, Origin::start().await, Origin::start().await];
    let servers: Vec<_> = origins.iter().map(Origin::url).collect();
    let gateway = Gateway::setup_before(&servers).start().await;
    for (number, origin) in origins.iter().enumerate() {
        for request in 0..9 {
            origin.on(&format!("/{request}")).reply(ok(number.to_string()).max_age(60));
        }
    }
    for request in 0..9 {
        let got = gateway.get(&format!("/{request}")).await.status("fwd=uri-miss; stored");
        got.body(&(request % 3).to_string());
    }
    assert!(origins.iter().all(|origin| origin.asked().len() == 3));
    // What one of them answered is stored for all.
    gateway.get("/1").await.body("1").status("hit");
}

#[tokio::test]
async fn a_server_that_is_not_there_leaves_the_request_to_the_next() {
    let origin = Origin::start().await;
    let ((_one, first), (_other, last)) = (nobody(), nobody());
    let gateway = Gateway::setup_before(&[first, origin.url(), last]).start().await;
    origin.on("/a").reply(ok("1").field("cache-control", "no-store"));
    origin.on("/w").reply(status(201));
    for _ in 0..3 {
        gateway.get("/a").await.code(200).body("1").status("fwd=uri-miss; detail=no-store");
        // Nothing was sent, so a write may be repeated too, with its content.
        gateway.ask("POST", "/w").body("content").send().await.code(201).status("fwd=method");
        assert_eq!(origin.last("/w").body, "content");
    }
    origin.saw("/a", 3);
    origin.saw("/w", 3);
    assert_eq!(gateway.figure("upstream_failures"), 0);
    assert_eq!(gateway.figure("upstream_requests"), 6);
}

#[tokio::test]
async fn what_has_left_is_not_sent_to_another_server() {
    let broken = RawOrigin::start(&[Step::Head]).await;
    let origin = Origin::start().await;
    let gateway = Gateway::setup_before(&[broken.url(), origin.url()]).start().await;
    gateway.ask("POST", "/a").body("1").send().await.code(502);
    assert_eq!(broken.heads().len(), 1);
    origin.saw("/a", 0);
}

#[tokio::test]
async fn connections_to_an_upstream_are_used_again() {
    let reply = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncache-control: no-store\r\n\r\n1";
    // A second connection would be answered once, too.
    let origin = RawOrigin::start(&[
        Step::Head,
        Step::Send(reply),
        Step::Head,
        Step::Send(reply),
        Step::Wait,
    ])
    .await;
    let gateway = Gateway::setup_before(&[origin.url()]).start().await;
    gateway.get("/a").await.body("1");
    gateway.get("/b").await.body("1");
    let heads = origin.heads();
    assert!(heads[0].starts_with("GET /a ") && heads[1].starts_with("GET /b "), "{heads:?}");
    assert_eq!(origin.connections(), 1);
}

/// An authority, and what a server on this machine needs to be believed by those who believe it.
struct Tls {
    authority: String,
    server: TlsAcceptor,
}

fn tls() -> Tls {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    Tls { authority: authority.pem(), server: TlsAcceptor::from(Arc::new(config)) }
}

/// A server that answers `secure` to everything, over TLS. Gives its port.
pub(crate) async fn serve_tls(acceptor: TlsAcceptor) -> (u16, JoinSet<()>) {
    serve_tls_by(acceptor, "max-age=60", |_| "secure".to_owned()).await
}

/// A server over TLS whose answers are made of the connection that they go to. Gives its port.
pub(crate) async fn serve_tls_by(
    acceptor: TlsAcceptor,
    cache_control: &'static str,
    content: impl Fn(&ServerConnection) -> String + Send + 'static,
) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Those who do not believe us, or whom we do not, end the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let content = content(stream.get_ref().1);
            let mut request = vec![0; 4096];
            let _length = stream.read(&mut request).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\ncache-control: {cache_control}\r\n\
                 connection: close\r\n\r\n{content}",
                content.len()
            );
            let _sent = stream.write_all(answer.as_bytes()).await;
            let _closed = stream.shutdown().await;
        }
    });
    (port, serving)
}

#[tokio::test]
async fn an_https_upstream_is_believed_by_its_authority_only() {
    let (trusted, other) = (tls(), tls());
    let (port, _serving) = serve_tls(trusted.server).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("ca = \"{}\"", path.display())
    };
    let (right, wrong) =
        (file("right.pem", &trusted.authority), file("wrong.pem", &other.authority));
    let both = file("both.pem", &(other.authority + &trusted.authority));

    for (ca, host, believed) in [
        (&right, "localhost", true),
        (&right, "127.0.0.1", true),
        (&both, "localhost", true),
        (&wrong, "localhost", false),
        // Not a name of the certificate.
        (&right, "127.0.0.2", false),
    ] {
        let setup = Gateway::setup_before(&[format!("https://{host}:{port}")]);
        let gateway = setup.upstream(ca).start().await;
        let got = gateway.get("/a").await;
        if believed {
            got.code(200).body("secure").status("fwd=uri-miss; stored");
            gateway.get("/a").await.body("secure").status("hit");
        } else {
            is_problem(&got, 502, "Bad Gateway", "no connection to the upstream");
            got.status("fwd=uri-miss; detail=upstream-refused");
        }
    }
}

#[tokio::test]
async fn a_server_that_was_not_there_is_found_when_it_is() {
    let (reserved, url) = nobody();
    let gateway = Gateway::setup_before(&[url]).start().await;
    gateway.get("/a").await.code(502).status("fwd=uri-miss; detail=upstream-refused");
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let origin = Origin::listen(address).await;
    origin.on("/a").reply(ok("1").max_age(60));
    gateway.get("/a").await.code(200).body("1").status("fwd=uri-miss; stored");
    origin.saw("/a", 1);
}
