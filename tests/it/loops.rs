//! Requests that come back to a gateway that has sent them on (RFC 8586).

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok};

/// A port that leads to a server that is not there yet.
struct Way(TcpListener);

impl Way {
    async fn begin() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (Self(listener), url)
    }

    /// From now on.
    fn lead_to(self, server: SocketAddr) -> JoinSet<()> {
        let mut open = JoinSet::new();
        open.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = self.0.accept().await.unwrap();
                connections.spawn(async move {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    let _end = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        open
    }
}

#[tokio::test]
async fn two_gateways_before_each_other_end_the_loop() {
    let (way, url) = Way::begin().await;
    let first = Gateway::setup_before(&[url]).start().await;
    let second = Gateway::setup_before(&[format!("http://{}", first.address())]).start().await;
    let _open = way.lead_to(second.address());
    for (turn, method) in ["GET", "HEAD", "POST", "QUERY", "GET"].into_iter().enumerate() {
        let got = first.ask(method, "/a").send().await.code(508);
        if method != "HEAD" {
            let problem: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
            let why = "the request has come back to the gateway that sent it on";
            assert_eq!(problem["detail"], why);
        }
        let status = got.field("cache-status").unwrap();
        assert!(status.starts_with("larder; fwd=bypass; detail=loop, larder; fwd="), "{status}");
        // Once through each, and once more to the first.
        let turns = turn as u64 + 1;
        assert_eq!(
            (first.figure("total_requests"), second.figure("total_requests")),
            (2 * turns, turns)
        );
        assert_eq!(first.figure("upstream_requests"), turns);
        assert_eq!(second.figure("upstream_requests"), turns);
    }
}

#[tokio::test]
async fn a_gateway_before_itself_ends_the_loop() {
    let (way, url) = Way::begin().await;
    let lines = "forward = \"keyed\"";
    let gateway = Gateway::setup_before(&[url]).route(lines).start().await;
    let _open = way.lead_to(gateway.address());
    // Equal misses share a forward request: this one would wait for itself.
    gateway.ask("GET", "/a").field("host", "a.test").send().await.code(508);
    assert_eq!(gateway.figure("upstream_requests"), 1);
}

#[tokio::test]
async fn gateways_in_a_row_are_no_loop() {
    let origin = Origin::start().await;
    let server = "workers = 1\nname = \"edge\"";
    let inner = Gateway::setup(&origin).server(server).start().await;
    let url = format!("http://{}", inner.address());
    let outer = Gateway::setup_before(&[url]).server(server).start().await;
    origin.on("/a").reply(ok("1"));
    for method in ["GET", "POST"] {
        // Nobody takes away what is there to end loops.
        let ask = outer.ask(method, "/a").field("connection", "cdn-loop");
        ask.field("cdn-loop", "other; v=1").send().await.code(200);
        let seen = origin.last("/a").field("cdn-loop").unwrap();
        let names: Vec<_> = seen.split(", ").collect();
        assert_eq!(names[0], "other; v=1", "{seen}");
        // Of one name, and yet apart.
        assert!(names[1].starts_with("edge-") && names[2].starts_with("edge-"), "{seen}");
        assert_ne!(names[1], names[2]);
        assert_eq!(names.len(), 3, "{seen}");
    }
}

/// RFC 9110 §7.6.2: who is asked by `Max-Forwards: 0` does not forward that.
#[tokio::test]
async fn what_goes_no_further_is_answered_here() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1"));
    for (method, left, code, seen) in [
        ("OPTIONS", "0", 204, None),
        ("TRACE", "0", 501, None),
        ("OPTIONS", "1", 200, Some("0")),
        ("TRACE", "12", 200, Some("11")),
        ("OPTIONS", "x", 200, Some("x")),
        ("POST", "0", 200, Some("0")),
    ] {
        let before = origin.count("/a");
        gateway.ask(method, "/a").field("max-forwards", left).send().await.code(code);
        assert_eq!(origin.count("/a") - before, usize::from(seen.is_some()), "{method} {left}");
        if seen.is_some() {
            assert_eq!(origin.last("/a").field("max-forwards").as_deref(), seen, "{method}");
        }
    }
}
