//! Exchanges with upstreams over HTTP/1.1, of which hyper learns only where it has to: whoever has one, clients and
//! servers see the same.

use crate::support::gateway::Gateway;
use crate::support::raw::{RawOrigin, Step};
use crate::support::wire::Line;

/// What a client gets that asks twice, without when that was, how often the server was connected to, and what it
/// was asked.
async fn asked(method: &str, answer: &'static str) -> (String, usize, Vec<String>) {
    use Step::{Head, Send};
    let origin = RawOrigin::start(&[Head, Send(answer), Head, Send(answer)]).await;
    let gateway = Gateway::setup_before(&[origin.url()]).start().await;
    let mut texts = String::new();
    for target in ["/a", "/b"] {
        let mut client = Line::to(gateway.address()).await;
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: a\r\nX: 1\r\nConnection: close\r\n\r\n");
        client.send(request).await;
        texts += &client.rest().await;
    }
    let without = |text: &str, line: &str| -> String {
        text.split_inclusive("\r\n").filter(|it| !it.starts_with(line)).collect()
    };
    // Each gateway has another name.
    let heads = origin.heads().iter().map(|head| without(head, "cdn-loop: ")).collect();
    (without(&texts, "date: "), origin.connections(), heads)
}

macro_rules! answers {
    ($($answer:literal),* $(,)?) => {
        // hyper reads what begins with an interim response, and clients do not hear of this one.
        [$(($answer, concat!("HTTP/1.1 100 Continue\r\n\r\n", $answer))),*]
    };
}

#[tokio::test]
async fn an_answer_is_the_same_whoever_reads_it() {
    let answers = answers![
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 Fine\r\ncontent-length: 3\r\nX-A: 1\r\nx-b: \u{e9}\r\nX-a:\t2 \r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: x-c\r\nx-c: 1\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncache-control: max-age=60\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 204 None\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 999 Odd\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 099 Odd\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 03\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: -3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nabc",
        "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\ncontent-length: 3\n\nabc",
    ];
    for method in ["GET", "HEAD", "DELETE"] {
        for (direct, spoken) in answers {
            let (direct_came, spoken_came) =
                (asked(method, direct).await, asked(method, spoken).await);
            assert_eq!(direct_came, spoken_came, "{method}: {direct}");
            assert!(direct_came.0.starts_with("HTTP/1.1 "), "{direct}");
        }
    }
}
