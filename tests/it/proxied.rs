//! Connections that a proxy passes on with a header before them: whose they are, and whose word counts.

use crate::support::client::raw;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok};
use crate::support::pki::Pki;
use crate::support::wire::Line;

const GET: &str = "GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// A header of version 2, for a client with this address.
fn binary(client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[192, 0, 2, 2, 0, 80, 1, 187, 4, 0, 1, 0]].concat();
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10"[..], &addresses].concat()
}

/// Who the origin was told had asked last.
fn told(origin: &Origin) -> Option<String> {
    origin.last("/a").field("x-forwarded-for")
}

async fn gateway(origin: &Origin, proxy: &str) -> Gateway {
    origin.on("/a").reply(ok("1").field("cache-control", "no-store"));
    let lines = format!("workers = 1\nheader_timeout = \"300ms\"\nproxy_protocol = {proxy}");
    Gateway::setup(origin).server(&lines).start().await
}

#[tokio::test]
async fn the_header_tells_whose_a_connection_is() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, "true").await;
    for (header, client) in [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\n".to_vec(), "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::1 ::1 5 80\r\n".to_vec(), "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (binary([192, 0, 2, 7]), "192.0.2.7"),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(), "127.0.0.1"),
    ] {
        let answer = raw(gateway.address(), &[&header[..], GET.as_bytes()].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('1'), "{answer}");
        assert_eq!(told(&origin).as_deref(), Some(client));
    }
    // A header that comes in pieces.
    let mut client = Line::to(gateway.address()).await;
    client.send("PROXY TCP4 192.0.2.9 192.0").await;
    client.send(format!(".2.2 5 80\r\n{GET}")).await;
    client.until("\r\n\r\n1").await;
    assert_eq!(told(&origin).as_deref(), Some("192.0.2.9"));
}

/// What the gateway says of a client in place of what that says itself is in no key.
#[tokio::test]
async fn what_varies_by_a_clients_address_is_not_shared() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, "true").await;
    for (number, name) in ["x-forwarded-for", "Forwarded"].into_iter().enumerate() {
        for client in 1..=2 {
            let answer = ok(format!("{client}")).max_age(60).field("vary", name);
            origin.on("/a").reply(answer);
            let header = format!("PROXY TCP4 192.0.2.{client} 192.0.2.9 5 80\r\n");
            let answer =
                raw(gateway.address(), &[header.as_bytes(), GET.as_bytes()].concat()).await;
            assert!(answer.ends_with(&format!("\r\n\r\n{client}")), "{number}: {answer}");
        }
    }
    // That of the scheme is in the key, whatever a client says.
    let answer = ok("1").max_age(60).field("vary", "X-Forwarded-Proto, X-Forwarded-Host");
    origin.on("/a").reply(answer);
    for said in ["", "x-forwarded-proto: 1\r\n", "x-forwarded-proto: 2\r\n"] {
        let head = GET.replace("\r\n\r\n", &format!("\r\n{said}\r\n"));
        let header = b"PROXY UNKNOWN\r\n";
        let answer = raw(gateway.address(), &[&header[..], head.as_bytes()].concat()).await;
        assert!(answer.ends_with("\r\n\r\n1"), "{answer}");
    }
    assert_eq!(origin.asked().len(), 5);
}

#[tokio::test]
async fn without_a_whole_header_nothing_is_answered() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, "true").await;
    for begun in [
        GET,
        "",
        "PROXY",
        "PROXY TCP4 192.0.2.1",
        "PROXY TCP4 192.0.2.1 192.0.2.2 5\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n",
        "\r\n\r\n\0\r\nQUIT\n\x21\x11",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        assert_eq!(raw(gateway.address(), begun.as_bytes()).await, "", "{begun:?}");
    }
    assert!(origin.asked().is_empty());
}

#[tokio::test]
async fn others_than_the_listed_proxies_are_refused_or_are_themselves() {
    let origin = Origin::start().await;
    let header = "PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\n";
    let refusing = gateway(&origin, "{ from = [\"10.0.0.0/8\"] }").await;
    for sent in [GET.to_owned(), format!("{header}{GET}")] {
        assert_eq!(raw(refusing.address(), sent.as_bytes()).await, "");
    }
    assert!(origin.asked().is_empty());

    let accepting = gateway(&origin, "{ from = [\"10.0.0.0/8\"], others = \"accept\" }").await;
    assert!(raw(accepting.address(), GET.as_bytes()).await.ends_with("\r\n\r\n1"));
    assert_eq!(told(&origin).as_deref(), Some("127.0.0.1"));
    // A claim of one who is not believed is no HTTP.
    let answer = raw(accepting.address(), format!("{header}{GET}").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    origin.saw("/a", 1);

    let listed = gateway(&origin, "{ from = [\"127.0.0.0/8\"] }").await;
    let answer = raw(listed.address(), format!("{header}{GET}").as_bytes()).await;
    assert!(answer.ends_with("\r\n\r\n1"), "{answer}");
    assert_eq!(told(&origin).as_deref(), Some("192.0.2.1"));
}

#[tokio::test]
async fn curl_says_it_before_the_handshake() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    pki.certify("shop", &["shop.example"], "shop");
    origin.on("/a").reply(ok("1").field("cache-control", "no-store"));
    let gateway = Gateway::setup(&origin)
        .server(&format!("workers = 1\nproxy_protocol = true\n{}", pki.tls("shop")))
        .start()
        .await;
    let arguments = ["--haproxy-protocol", "--http2"];
    let got = pki.curl(gateway.address(), "shop.example", "/a", &arguments).await;
    assert_eq!(got, "1");
    assert_eq!(told(&origin).as_deref(), Some("127.0.0.1"));
    let got = pki.curl(gateway.address(), "shop.example", "/a", &["--http2"]).await;
    assert!(got.starts_with("curl: (35)"), "{got}");
    origin.saw("/a", 1);
}
