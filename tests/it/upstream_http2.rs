//! HTTP/2 to servers: when it is spoken, what a request becomes, how connections are shared, and what
//! becomes of requests when a server refuses them, leaves or hangs.

use std::time::Instant;

use bytes::Bytes;
use h2::Reason;
use http::Version;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::PATIENCE;
use crate::support::client::{Open, answers, sent};
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, fields, frame,
};
use crate::support::gateway::{Gateway, Setup};
use crate::support::pki::{Pki, run};
use crate::support::streams::{Streams, given_up};
use crate::support::wire::Line;
use crate::upstream::serve_tls;

/// A gateway before a server in cleartext that is known to speak HTTP/2.
fn setup(server: &Streams, lines: &str) -> Setup {
    Gateway::setup_before(&[server.url()]).upstream(&format!("http = \"2\"\n{lines}"))
}

#[tokio::test]
async fn http_2_is_spoken_where_the_handshake_says_so() {
    let pki = Pki::new();
    pki.certify("server", &["localhost"], "server");
    let ca = pki.at("ca.pem").display().to_string();
    for (http, offered, expected) in [
        ("auto", &["h2", "http/1.1"][..], Some(Version::HTTP_2)),
        ("2", &["h2", "http/1.1"], Some(Version::HTTP_2)),
        ("1.1", &["h2", "http/1.1"], Some(Version::HTTP_11)),
        ("auto", &["http/1.1"], Some(Version::HTTP_11)),
        ("auto", &[], Some(Version::HTTP_11)),
        ("2", &[], None),
    ] {
        let acceptor = pki.acceptor("server", offered);
        let is_http2 = expected == Some(Version::HTTP_2);
        let mut streams = Streams::secure(acceptor.clone()).await;
        let (port, _serving) = serve_tls(acceptor).await;
        let port = if is_http2 { streams.port() } else { port };
        let setup = Gateway::setup_before(&[format!("https://localhost:{port}")]);
        let lines = format!("http = \"{http}\"\nca = \"{ca}\"");
        let gateway = setup.upstream(&lines).start().await;
        let asked = tokio::spawn(gateway.ask("GET", "/a").send());
        if is_http2 {
            let stream = streams.next().await;
            assert_eq!(stream.request.uri().scheme_str(), Some("https"));
            stream.answer("secure");
        }
        let got = asked.await.unwrap();
        match expected {
            Some(_) => got.code(200).body("secure"),
            None => got.code(502).status("fwd=uri-miss; detail=upstream-refused"),
        };
    }
}

#[tokio::test]
async fn a_request_is_one_of_http_2() {
    let mut server = Streams::start(100).await;
    for (lines, authority) in [
        ("", "shop.example".to_owned()),
        ("preserve_host = false", format!("127.0.0.1:{}", server.port())),
    ] {
        let gateway = setup(&server, lines).start().await;
        let ask = gateway.ask("POST", "/a?b").field("host", "shop.example");
        let ask = ask.field("connection", "te, x-own, keep-alive").field("te", "trailers");
        let ask = ask.field("x-own", "1").field("keep-alive", "timeout=5");
        let ask = ask.field("cookie", "a=1").field("cookie", "b=2").body("abc").unannounced();
        let asked = tokio::spawn(ask.send());
        let mut stream = server.next().await;
        assert_eq!(stream.request.version(), Version::HTTP_2);
        assert_eq!(stream.request.uri().scheme_str(), Some("http"));
        assert_eq!(stream.request.uri().authority().unwrap().as_str(), authority);
        assert_eq!(stream.target(), "/a?b");
        assert_eq!(
            (stream.field("te"), stream.field("cookie")),
            (Some("trailers"), Some("a=1; b=2"))
        );
        for name in ["host", "connection", "keep-alive", "x-own", "transfer-encoding"] {
            assert_eq!(stream.field(name), None, "{name}");
        }
        assert_eq!(stream.piece().await.as_deref(), Some(&b"abc"[..]));
        assert_eq!(stream.piece().await, None);
        stream.answer("done");
        asked.await.unwrap().code(200).body("done").has("via", "2 larder");
    }
}

#[tokio::test]
async fn requests_share_a_connection_as_far_as_the_server_takes_them() {
    let mut server = Streams::start(2).await;
    let gateway = setup(&server, "").start().await;
    let mut waiting = Vec::new();
    let mut streams = Vec::new();
    for number in 0..5 {
        waiting.push(tokio::spawn(gateway.ask("GET", &format!("/{number}")).send()));
        streams.push(server.next().await);
    }
    let connections: Vec<_> = streams.iter().map(|stream| stream.connection).collect();
    assert_eq!(connections, [1, 1, 2, 2, 3]);
    // Where there is room again, the next one goes.
    let stream = streams.remove(2);
    stream.answer("1");
    waiting.remove(2).await.unwrap().code(200);
    waiting.push(tokio::spawn(gateway.ask("GET", "/5").send()));
    streams.push(server.next().await);
    assert_eq!(streams.last().unwrap().connection, 2);
    for stream in streams {
        stream.answer("1");
    }
    for got in answers(waiting).await {
        got.code(200).body("1");
    }
}

#[tokio::test]
async fn a_crowd_that_finds_no_connection_opens_one() {
    let mut server = Streams::start(100).await;
    let gateway = setup(&server, "").start().await;
    let waiting = sent((0..50).map(|number| gateway.ask("GET", &format!("/{number}"))));
    for _ in 0..50 {
        let stream = server.next().await;
        assert_eq!(stream.connection, 1);
        stream.answer("1");
    }
    for got in answers(waiting).await {
        got.code(200).body("1");
    }
}

#[tokio::test]
async fn a_crowd_goes_to_as_many_connections_as_the_server_wants() {
    let mut server = Streams::start(2).await;
    let gateway = setup(&server, "").start().await;
    let waiting = sent((0..10).map(|number| gateway.ask("POST", &format!("/{number}"))));
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(server.next().await);
    }
    for stream in streams {
        stream.answer("1");
    }
    for got in answers(waiting).await {
        got.code(200).body("1");
    }
}

#[tokio::test]
async fn a_write_that_was_refused_unprocessed_is_sent_again() {
    let mut server = Streams::start(100).await;
    let gateway = setup(&server, "").start().await;
    let waiting = tokio::spawn(gateway.ask("POST", "/a").send());
    for _ in 0..2 {
        server.next().await.refuse();
    }
    server.next().await.answer("1");
    waiting.await.unwrap().code(200).body("1");
    assert_eq!(gateway.figure("upstream_requests"), 1);

    // Not without end.
    let waiting = tokio::spawn(gateway.ask("POST", "/a").send());
    for _ in 0..3 {
        server.next().await.refuse();
    }
    waiting.await.unwrap().code(502).status("fwd=method; detail=upstream-broken");

    // A content that came with its head is at hand.
    let mut client = Line::to(gateway.address()).await;
    client.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").await;
    for _ in 0..2 {
        let mut stream = server.next().await;
        assert_eq!(stream.piece().await.as_deref(), Some(&b"abc"[..]));
        stream.refuse();
    }
    server.next().await.answer("1");
    client.until("\r\n\r\n1").await;

    // What has left cannot be sent a second time.
    let waiting = tokio::spawn(gateway.ask("POST", "/a").body("abc").unannounced().send());
    let mut stream = server.next().await;
    stream.piece().await.unwrap();
    stream.refuse();
    waiting.await.unwrap().code(502);
}

#[tokio::test]
async fn a_connection_that_ends_lets_its_streams_end_and_is_replaced() {
    let mut server = Streams::start(100).await;
    let gateway = setup(&server, "").start().await;
    let first = tokio::spawn(gateway.ask("GET", "/a").send());
    let running = server.next().await;
    running.leave();
    // Whether it goes to the old one or not, it is answered.
    for _ in 0..3 {
        let next = tokio::spawn(gateway.ask("POST", "/b").send());
        server.next().await.answer("2");
        next.await.unwrap().code(200).body("2");
    }
    let last = tokio::spawn(gateway.ask("GET", "/c").send());
    let stream = server.next().await;
    assert_eq!(stream.connection, 2);
    stream.answer("3");
    last.await.unwrap().code(200).body("3");
    running.answer("1");
    first.await.unwrap().code(200).body("1");
}

#[tokio::test]
async fn a_connection_that_hangs_is_left() {
    let mut server = Streams::start(100).await;
    let gateway = setup(&server, "timeout = \"200ms\"").start().await;
    let first = tokio::spawn(gateway.ask("GET", "/a").send());
    let hanging = server.next().await;
    assert_eq!(hanging.connection, 1);
    hanging.hang();
    first.await.unwrap().code(504);
    let next = tokio::spawn(gateway.ask("GET", "/b").send());
    let stream = server.next().await;
    assert_eq!(stream.connection, 2, "nothing came on the other");
    stream.answer("2");
    next.await.unwrap().code(200).body("2");
}

#[tokio::test]
async fn a_connection_that_hangs_is_left_by_those_who_wait_for_less_than_its_timeout() {
    let mut server = Streams::start(100).await;
    let gateway = setup(&server, "total_timeout = \"100ms\"").start().await;
    let first = tokio::spawn(gateway.ask("GET", "/a").send());
    let hanging = server.next().await;
    hanging.hang();
    first.await.unwrap().code(504);
    let end = Instant::now() + PATIENCE;
    let stream = loop {
        let next = tokio::spawn(gateway.ask("GET", "/b").send());
        tokio::select! {
            stream = server.next() => break stream,
            got = next => got.unwrap().code(504),
        };
        assert!(Instant::now() < end, "the connection is not left");
    };
    assert_eq!(stream.connection, 2);
}

#[tokio::test]
async fn what_is_on_its_way_on_streams_that_were_given_up_ends_no_other() {
    // More than `h2` would have of one connection in its life.
    const ROUNDS: usize = 14;
    let (mut server, gateway, kept) = by_hand("/kept").await;
    let stream = server.until(HEADERS).await.pop().unwrap().stream;
    server.send(&frame(HEADERS, END_HEADERS, stream, OK)).await;
    let kept = kept.await.unwrap();
    for _ in 0..ROUNDS {
        let mut left = Vec::new();
        for _ in 0..90 {
            let mut client = Line::to(gateway.address()).await;
            client.send("OPTIONS /left HTTP/1.1\r\nHost: a\r\n\r\n").await;
            left.push(client);
            server.until(HEADERS).await;
        }
        let count = left.len();
        drop(left);
        for _ in 0..count {
            let given_up = server.until(RST_STREAM).await.pop().unwrap().stream;
            assert_ne!(given_up, stream);
            assert!(server.send(&frame(DATA, 0, given_up, b"a")).await, "the connection ended");
        }
    }
    server.send(&frame(DATA, END_STREAM, stream, b"a")).await;
    kept.finish().await.unwrap().code(200).body("a");
}

#[tokio::test]
async fn what_came_before_a_reset_is_passed_on() {
    for reason in [Reason::NO_ERROR, Reason::INTERNAL_ERROR] {
        let (mut server, _gateway, asked) = by_hand("/a").await;
        let stream = server.until(HEADERS).await.pop().unwrap().stream;
        let reset = u32::from(reason).to_be_bytes();
        let date = ("date", "Sat, 28 Nov 2026 12:00:00 GMT");
        let head = [OK, &fields(&[("content-length", "5"), date])].concat();
        let frames = [
            frame(HEADERS, END_HEADERS, stream, &head),
            frame(DATA, 0, stream, b"hel"),
            frame(RST_STREAM, 0, stream, &reset),
        ];
        server.send(&frames.concat()).await;
        // All of it is there when the head is looked for.
        let client = asked.await.unwrap();
        assert!(client.finish().await.is_err(), "{reason:?}");
    }
}

#[tokio::test]
async fn a_request_that_takes_too_long_leaves_the_connection_to_others() {
    let mut server = Streams::start(100).await;
    let gateway = setup(&server, "timeout = \"300ms\"").start().await;
    let slow = tokio::spawn(gateway.ask("GET", "/slow").send());
    let mut held = server.next().await;
    // Something goes on all the time.
    let other = tokio::spawn(gateway.ask("POST", "/b").open());
    let mut content = server.next().await.begin(&[]);
    let mut other = other.await.unwrap();
    while !slow.is_finished() {
        content.send_data(Bytes::from_static(b"1"), false).unwrap();
        other.piece().await.unwrap().unwrap();
    }
    slow.await.unwrap().code(504);
    assert_eq!(held.given_up().await, Reason::CANCEL);
    let next = tokio::spawn(gateway.ask("GET", "/c").send());
    let stream = server.next().await;
    assert_eq!(stream.connection, 1);
    stream.answer("2");
    next.await.unwrap().code(200).body("2");
}

#[tokio::test]
async fn an_answer_that_is_not_clear_is_one_streams_trouble() {
    let mut server = Streams::start(100).await;
    let gateway = setup(&server, "").start().await;
    let good = tokio::spawn(gateway.ask("GET", "/good").send());
    let stream = server.next().await;
    let bad = tokio::spawn(gateway.ask("GET", "/bad").send());
    let mut unclear = server.next().await;
    let _content = unclear.begin(&[("content-length", "1"), ("content-length", "1")]);
    bad.await.unwrap().code(502).status("fwd=uri-miss; detail=upstream-broken");
    stream.answer("1");
    good.await.unwrap().code(200).body("1");
    let next = tokio::spawn(gateway.ask("GET", "/next").send());
    let stream = server.next().await;
    assert_eq!(stream.connection, 1);
    stream.answer("2");
    next.await.unwrap().code(200).body("2");
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_up_nobody() {
    const SLOW: usize = 12;
    let mut server = Streams::start(100).await;
    let gateway = setup(&server, "").start().await;
    // Each of them leaves lying what one stream may.
    let mut slow = Vec::new();
    for number in 0..SLOW {
        let asked = tokio::spawn(gateway.ask("POST", &format!("/{number}")).open());
        let mut stream = server.next().await;
        let mut content = stream.begin(&[]);
        slow.push((asked.await.unwrap(), stream));
        tokio::spawn(async move {
            content.reserve_capacity(64 << 20);
            while let Some(Ok(room)) = std::future::poll_fn(|cx| content.poll_capacity(cx)).await {
                if content.send_data(Bytes::from(vec![0; room]), false).is_err() {
                    return;
                }
                content.reserve_capacity(64 << 20);
            }
        });
    }
    // More than a connection could take with the windows that HTTP/2 begins with.
    let quick = tokio::spawn(gateway.ask("POST", "/quick").send());
    let mut stream = server.next().await;
    let mut content = stream.begin(&[]);
    content.send_data(Bytes::from(vec![1; 3 << 20]), true).unwrap();
    assert_eq!(stream.connection, 1);
    assert_eq!(quick.await.unwrap().code(200).body.len(), 3 << 20);
    drop(slow);
}

/// RFC 9113 §8.1: a reset with `NO_ERROR` is for a server that has sent a complete response.
#[tokio::test]
async fn less_than_was_announced_is_not_whole() {
    let mut server = Streams::start(100).await;
    let gateway = setup(&server, "").start().await;
    let fields = [("cache-control", "max-age=60"), ("content-length", "5")];
    for part in ["", "hel"] {
        let asked = tokio::spawn(gateway.ask("GET", "/a").open());
        let mut stream = server.next().await;
        let mut content = stream.begin(&fields);
        content.send_data(Bytes::from_static(part.as_bytes()), false).unwrap();
        let client = asked.await.unwrap();
        content.send_reset(Reason::NO_ERROR);
        assert!(client.finish().await.is_err(), "{part}");
    }
    // Nor is what announced nothing.
    for part in ["", "hel"] {
        let asked = tokio::spawn(gateway.ask("GET", "/a").open());
        let mut stream = server.next().await;
        let mut content = stream.begin(&fields[..1]);
        content.send_data(Bytes::from_static(part.as_bytes()), false).unwrap();
        let client = asked.await.unwrap();
        content.send_reset(Reason::NO_ERROR);
        assert!(client.finish().await.is_err(), "{part}");
    }
    // Nothing was stored. As much as was announced is whole, however it ends.
    let asked = tokio::spawn(gateway.ask("GET", "/a").send());
    let mut stream = server.next().await;
    let mut content = stream.begin(&fields);
    content.send_data(Bytes::from_static(b"hello"), true).unwrap();
    asked.await.unwrap().body("hello");
    gateway.get("/a").await.body("hello").status("hit");
    let asked = tokio::spawn(gateway.ask("HEAD", "/b").send());
    let mut stream = server.next().await;
    stream.begin(&fields).send_data(Bytes::new(), true).unwrap();
    asked.await.unwrap().has("content-length", "5");
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_stream_up_and_no_other() {
    let mut server = Streams::start(100).await;
    let gateway = setup(&server, "").start().await;
    let left = tokio::spawn(gateway.ask("GET", "/a").open());
    let mut stream = server.next().await;
    let mut content = stream.begin(&[("cache-control", "no-store")]);
    let other = tokio::spawn(gateway.ask("GET", "/b").send());
    let kept = server.next().await;
    drop(left.await.unwrap());
    assert_eq!(given_up(&mut content).await, Reason::CANCEL);
    kept.answer("1");
    other.await.unwrap().code(200).body("1");
}

#[tokio::test]
async fn interim_responses_pass_through() {
    let mut server = Streams::start(100).await;
    let gateway = setup(&server, "").start().await;
    let mut line = Line::to(gateway.address()).await;
    line.send("GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let mut stream = server.next().await;
    // The client has it before there is an answer.
    stream.inform(103, &[("link", "</a.css>")]);
    let hints = line.until("\r\n\r\n").await;
    assert_eq!(hints, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nvia: 2 larder\r\n\r\n");
    stream.inform(102, &[]);
    let mut content = stream.begin(&[("cache-control", "max-age=60"), ("content-length", "1")]);
    content.send_data(Bytes::from_static(b"1"), true).unwrap();
    let answer = line.until("\r\n\r\n1").await;
    let answer = answer.strip_prefix("HTTP/1.1 102 Processing\r\nvia: 2 larder\r\n\r\n");
    assert!(answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 200 OK\r\n")), "{answer:?}");
    let again = gateway.ask("GET", "/a").field("host", "a.test").send().await;
    again.body("1").status("hit").lacks("link");

    let url = format!("http://{}/b", gateway.address());
    let asked = ["--silent", "--show-error", "--include", "--http2-prior-knowledge", &url];
    let asked = run("curl", &asked);
    let answering = async {
        let mut stream = server.next().await;
        stream.inform(103, &[("link", "</a.css>")]);
        stream.answer("2");
    };
    let (got, ()) = tokio::join!(asked, answering);
    let early = "HTTP/2 103 \r\nlink: </a.css>\r\nvia: 2 larder\r\n\r\nHTTP/2 200 \r\n";
    assert!(got.starts_with(early) && got.ends_with("\r\n\r\n2"), "{got}");
}

/// RFC 9110 §10.1.1, in HTTP/2 as in HTTP/1.1 (RFC 9113 §8.1).
#[tokio::test]
async fn content_is_asked_for_when_the_server_asks_for_it() {
    let mut server = Streams::start(100).await;
    let gateway = setup(&server, "").start().await;
    let expects =
        "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let mut client = Line::to(gateway.address()).await;
    client.send(expects).await;
    let mut stream = server.next().await;
    assert_eq!(stream.field("expect"), Some("100-continue"));
    stream.inform(100, &[]);
    assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").await;
    assert_eq!(stream.piece().await.as_deref(), Some(&b"hello"[..]));
    stream.answer("1");
    client.until("1\r\n0\r\n\r\n").await;

    // Who is answered without it sends none, and what would come might be a request.
    client.send(expects).await;
    server.next().await.answer("no");
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("no"), "{answer}");
}

#[tokio::test]
async fn content_that_nobody_waits_for_any_more_is_given_up() {
    let mut server = Streams::start(100).await;
    let gateway = setup(&server, "timeout = \"200ms\"").start().await;
    let begins = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    for client_leaves in [true, false] {
        let mut client = Line::to(gateway.address()).await;
        client.send(begins).await;
        let mut stream = server.next().await;
        assert_eq!(stream.piece().await.as_deref(), Some(&b"abc"[..]));
        if client_leaves {
            drop(client);
        } else {
            client.until("504 Gateway Timeout").await;
        }
        assert_eq!(stream.given_up().await, Reason::CANCEL);
    }
    // What has been answered whole may be read to its end nevertheless (RFC 9113 §8.1).
    let mut client = Line::to(gateway.address()).await;
    client.send(begins).await;
    let mut stream = server.next().await;
    let mut content = stream.begin(&[("content-length", "1")]);
    content.send_data(Bytes::from_static(b"1"), true).unwrap();
    client.until("\r\n\r\n1").await;
    assert_eq!(stream.piece().await.as_deref(), Some(&b"abc"[..]));
    client.send("3\r\ndef\r\n0\r\n\r\n").await;
    assert_eq!(stream.piece().await.as_deref(), Some(&b"def"[..]));
    assert_eq!(stream.piece().await, None);
}

#[tokio::test]
async fn content_that_goes_on_behind_an_answer_takes_the_room_of_an_exchange() {
    let mut server = Streams::start(1).await;
    let gateway = setup(&server, "").start().await;
    let mut client = Line::to(gateway.address()).await;
    client.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc").await;
    let mut stream = server.next().await;
    let mut content = stream.begin(&[("content-length", "1")]);
    content.send_data(Bytes::from_static(b"1"), true).unwrap();
    client.until("\r\n\r\n1").await;
    let next = tokio::spawn(gateway.ask("GET", "/b").send());
    let other = server.next().await;
    assert_eq!(other.connection, 2);
    other.answer("2");
    next.await.unwrap().code(200).body("2");
}

/// RFC 9113 §8.1: the client is told what the server says of it.
#[tokio::test]
async fn the_reason_of_a_reset_is_passed_on() {
    let mut server = Streams::start(100).await;
    let gateway = setup(&server, "").start().await;
    let asked = tokio::spawn(gateway.ask("GET", "/a").http2().open());
    let mut stream = server.next().await;
    let mut content = stream.begin(&[]);
    content.send_data(Bytes::from_static(b"hel"), false).unwrap();
    let mut client = asked.await.unwrap();
    client.piece().await.unwrap().unwrap();
    content.send_reset(Reason::ENHANCE_YOUR_CALM);
    let error = client.finish().await.unwrap_err();
    let cause = std::error::Error::source(&error).and_then(|it| it.downcast_ref::<h2::Error>());
    assert_eq!(cause.and_then(h2::Error::reason), Some(Reason::ENHANCE_YOUR_CALM), "{error:?}");
}

/// RFC 9110 §8.6: what has no content has no length of it that nobody has said.
#[tokio::test]
async fn what_has_no_content_ends_with_its_head() {
    let mut server = Streams::start(100).await;
    let gateway = setup(&server, "").start().await;
    for http2 in [false, true] {
        for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304)] {
            let ask = gateway.ask(method, "/a").field("if-none-match", "\"1\"");
            let ask = if http2 { ask.http2() } else { ask };
            let asked = tokio::spawn(ask.send());
            let mut content = server.next().await.begin_with(status, &[("etag", "\"1\"")]);
            // An end of its own.
            content.send_data(Bytes::new(), true).unwrap();
            asked.await.unwrap().code(status).body("").lacks("content-length");
        }
    }
}

/// The status 200, packed (RFC 7541 §A).
const OK: &[u8] = &[0x88];

/// A server whose frames are written by hand, and a client of the gateway before it that has asked.
async fn by_hand(target: &str) -> (Frames, Gateway, JoinHandle<Open>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let gateway = Gateway::setup_before(&[url]).upstream("http = \"2\"").start().await;
    let asked = tokio::spawn(gateway.ask("POST", target).open());
    (Frames::accept(&listener).await, gateway, asked)
}
