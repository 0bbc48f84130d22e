//! nghttp2's tools as clients: HTTP/2 as somebody else wrote it.

use std::net::SocketAddr;

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok};
use crate::support::pki::{Pki, run};
use crate::support::wire::Wire;

/// What `nghttp` prints on a URL of a gateway.
async fn nghttp(url: &str, arguments: &[&str]) -> String {
    run("nghttp", &[&["--no-verify-peer"][..], arguments, &[url]].concat()).await
}

/// Has `h2load` send so many requests over ten connections, twenty at once on each; none may fail.
async fn h2load(url: &str, requests: usize, arguments: &[&str]) {
    let number = requests.to_string();
    let first = ["--requests", &number, "--clients", "10", "--max-concurrent-streams", "20"];
    let said = run("h2load", &[&first[..], arguments, &[url]].concat()).await;
    let counts = format!(
        "requests: {number} total, {number} started, {number} done, {number} succeeded, 0 failed, \
         0 errored, 0 timeout"
    );
    assert!(said.contains(&counts), "{said}");
    assert!(said.contains(&format!("status codes: {number} 2xx, 0 3xx, 0 4xx, 0 5xx")), "{said}");
}

/// A gateway with a listener in cleartext and one with TLS; where each is.
async fn gateway(origin: &Origin, pki: &Pki) -> (Gateway, [String; 2]) {
    pki.certify("shop", &["shop.example"], "shop");
    let more = format!("[[server.listeners]]\nlisten = \"127.0.0.1:0\"\n{}", pki.tls("shop"));
    let gateway = Gateway::setup(origin).listening(&more).start().await;
    let url = |scheme: &str, at: SocketAddr| format!("{scheme}://{at}");
    let urls = [url("http", gateway.address()), url("https", gateway.another(1))];
    (gateway, urls)
}

#[tokio::test]
async fn nghttp_gets_one_and_many() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    let (gateway, urls) = gateway(&origin, &pki).await;
    for target in ["/a", "/b"] {
        origin.on(target).reply(ok(format!("content of {target}")).max_age(60));
    }
    for (turn, url) in urls.iter().enumerate() {
        let (a, b) = (format!("{url}/a"), format!("{url}/b"));
        assert_eq!(nghttp(&a, &[]).await, "content of /a");
        // A hundred times on one connection, and another URL there, too.
        let said = nghttp(&b, &["--multiply=100", &a]).await;
        let counts = ["/a", "/b"].map(|it| said.matches(&format!("content of {it}")).count());
        assert_eq!(counts, [100, 100]);
        let said = nghttp(&a, &["--verbose", "--null-out"]).await;
        assert!(
            said.contains(":status: 200") && said.contains("cache-status: larder; hit"),
            "{said}"
        );
        if turn == 1 {
            assert!(said.contains("The negotiated protocol: h2"), "{said}");
        }
    }
    // The two are on ports of their own, and so other resources.
    origin.saw("/a", 2);
    assert_eq!(gateway.figure("total_requests"), 404);
}

#[tokio::test]
async fn h2load_finds_no_failed_request() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    let (gateway, urls) = gateway(&origin, &pki).await;
    origin.on("/hit").reply(ok("1".repeat(1000)).max_age(60));
    origin.on("/pass").reply(ok("2".repeat(1000)).field("cache-control", "no-store"));
    let content = pki.at("content");
    std::fs::write(&content, [7; 5000]).unwrap();
    let content = content.display().to_string();
    origin.on("/up").method("POST").reply(ok("3"));
    for url in &urls {
        h2load(&format!("{url}/hit"), 5000, &[]).await;
        h2load(&format!("{url}/pass"), 1000, &[]).await;
        h2load(&format!("{url}/up"), 500, &["--data", &content]).await;
        // Each way there, by HTTP/1.1 too.
        h2load(&format!("{url}/hit"), 1000, &["--h1"]).await;
    }
    origin.saw("/pass", 2000);
    origin.saw("/up", 1000);
    assert_eq!(origin.last("/up").body.len(), 5000);
    assert_eq!(gateway.figure("total_requests"), 15_000);
}

#[tokio::test]
async fn nghttp_uploads_with_trailers() {
    let (wire, pki) = (Wire::start().await, Pki::new());
    let content = pki.at("content");
    std::fs::write(&content, "some content\n".repeat(20_000)).unwrap();
    let gateway = Gateway::setup(&Origin::start().await).routes(&wire.routes()).start().await;
    let (url, file) = (format!("http://{}/a", gateway.address()), content.display().to_string());
    let arguments = ["--verbose", "--data", &file, "--trailer", "x-sum: 7", "--no-content-length"];
    let asking = nghttp(&url, &arguments);
    let answering = async {
        let mut line = wire.accept().await;
        let head = line.until("\r\n\r\n").await.to_ascii_lowercase();
        assert!(
            head.starts_with("post /a ") && head.contains("transfer-encoding: chunked"),
            "{head}"
        );
        let rest = line.until("0\r\nx-sum: 7\r\n\r\n").await;
        line.send("HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok").await;
        rest.matches("some content").count()
    };
    let (said, count) = tokio::join!(asking, answering);
    assert!(said.contains(":status: 201"), "{said}");
    // Chunks cut it where they will.
    assert!(count > 19_000, "{count}");
}
