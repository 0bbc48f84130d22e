//! gRPC through the gateway, with a client and a server that nobody here wrote: calls of each kind, what
//! they fail with, and that those which are given up are given up at the server.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::gateway::{Gateway, Setup};
use crate::support::pki::Pki;
use crate::support::{PATIENCE, nobody, tool};

/// One of the programs beside this file. Dropping it ends it.
struct Python {
    child: Child,
    to: ChildStdin,
    printed: UnboundedReceiver<String>,
}

impl Python {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/grpc");
        let mut child = Command::new(tool("grpc/bin/python"))
            .arg(folder.join(program))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (line, printed) = unbounded_channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|it| line.send(it)));
        let to = child.stdin.take().unwrap();
        Self { child, to, printed }
    }

    /// The next line.
    async fn says(&mut self) -> String {
        let said = tokio::time::timeout(3 * PATIENCE, self.printed.recv()).await;
        said.expect("it says nothing").expect("it has ended")
    }

    /// Lets it go on.
    fn go_on(&mut self) {
        self.to.write_all(b"\n").unwrap();
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// What comes of all calls that end by themselves.
const SAID: [&str; 9] = [
    "unary: b'abc' anna larder; fwd=method b'\\x00\\xff'",
    "large: True",
    "limit: limited unlimited",
    "fail: FAILED_PRECONDITION '50 % of it: ünder way' {'x-why': 'asked'}",
    "nothing: UNIMPLEMENTED 'Method not found!' {}",
    "serving: [b'a0', b'a1', b'a2']",
    "serving and failing: [b'fail0', b'fail1', b'fail2'] RESOURCE_EXHAUSTED 'no more' {}",
    "sending: b'a,b,c'",
    "chatting: [b'M0', b'M1', b'M2', b'M3', b'M4'] []",
];

async fn calls(mut server: Python, mut client: Python) {
    for expected in SAID {
        assert_eq!(client.says().await, expected);
    }
    // The server has its own clock for the limit that the client told.
    assert_eq!(client.says().await, "late: DEADLINE_EXCEEDED");
    for given_up in ["unary", "unary", "serving", "chatting"] {
        assert_eq!(server.says().await, format!("{given_up} begins"));
        client.go_on();
        assert_eq!(server.says().await, format!("{given_up} is given up"));
        client.go_on();
    }
    assert_eq!(client.says().await, "done");
}

#[tokio::test]
async fn calls_pass_in_cleartext() {
    let mut server = Python::start("server.py", &[]);
    let url = format!("http://127.0.0.1:{}", server.says().await);
    let gateway = Gateway::setup_before(&[url]).upstream("http = \"2\"").start().await;
    let client = Python::start("client.py", &[&gateway.address().to_string()]);
    calls(server, client).await;
}

#[tokio::test]
async fn calls_pass_over_tls() {
    let pki = Pki::new();
    for end in ["server", "gateway"] {
        pki.certify(end, &["localhost"], end);
    }
    let file = |name: &str| pki.at(name).display().to_string();
    let mut server = Python::start("server.py", &[&file("server.pem"), &file("server.key")]);
    let url = format!("https://localhost:{}", server.says().await);
    let setup: Setup = Gateway::setup_before(&[url]).server(&format!(
        "workers = 1\ntls = {{ certificate = \"{}\", key = \"{}\" }}",
        file("gateway.pem"),
        file("gateway.key")
    ));
    let gateway = setup.upstream(&format!("ca = \"{}\"", file("ca.pem"))).start().await;
    let address = format!("localhost:{}", gateway.address().port());
    let client = Python::start("client.py", &[&address, &file("ca.pem")]);
    calls(server, client).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let (_reserved, absent) = nobody();
    let gateway = Gateway::setup_before(&[absent]).upstream("http = \"2\"").start().await;
    let mut client = Python::start("absent.py", &[&gateway.address().to_string()]);
    assert_eq!(client.says().await, "UNAVAILABLE");
}
