//! WebSocket between a client and a server that others wrote, by HTTP/1.1 and by HTTP/2, in cleartext and
//! over TLS.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::frames::{Frames, SETTINGS};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::pki::Pki;
use crate::support::program::Running;
use crate::support::{PATIENCE, tool};

/// A program of `tests/websocket`, which ends with this.
struct Program {
    child: Child,
    lines: UnboundedReceiver<String>,
}

impl Program {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(tool("websockets/bin/python"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/websocket").join(name))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (line, lines) = unbounded_channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|it| line.send(it))
        });
        Self { child, lines }
    }

    /// The next line that it prints.
    async fn says(&mut self) -> String {
        let line = tokio::time::timeout(3 * PATIENCE, self.lines.recv()).await;
        line.expect("it says nothing").expect("it has ended")
    }

    /// It ends, and has found nothing wrong.
    async fn succeeds(mut self) {
        let ended = tokio::task::spawn_blocking(move || {
            let mut wrong = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut wrong).unwrap();
            (self.child.wait().unwrap(), wrong)
        });
        let ended = tokio::time::timeout(6 * PATIENCE, ended).await.expect("it does not end");
        let (status, wrong) = ended.unwrap();
        assert!(status.success(), "{wrong}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended, as a rule.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A server of WebSocket, and its URL.
async fn server() -> (Program, String) {
    let mut server = Program::start("server.py", &[]);
    let url = format!("http://127.0.0.1:{}", server.says().await);
    (server, url)
}

/// Before it a route that allows WebSocket, and `/plain`, which does not.
fn setup(url: &str) -> Setup {
    let plain = "[[routes]]\nname = \"plain\"\npath = \"/plain/{*rest}\"\nupstream = \"origin\"\n";
    let all = "[[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
               upgrade = [\"websocket\"]\n";
    Gateway::setup_before(&[url.to_owned()]).routes(&format!("{plain}{all}"))
}

/// The same for `shop.example` over TLS.
fn secure(setup: Setup, pki: &Pki) -> (Setup, PathBuf) {
    pki.certify("shop", &["shop.example"], "shop");
    let folder = pki.folder().display();
    let files = format!("certificate = \"{folder}/shop.pem\", key = \"{folder}/shop.key\"");
    (setup.server(&format!("workers = 1\ntls = {{ {files} }}")), pki.at("ca.pem"))
}

#[tokio::test]
async fn by_http1_everything_passes_both_ways() {
    let (_server, url) = server().await;
    let gateway = setup(&url).start().await;
    let address = gateway.address();
    let arguments = [&format!("ws://{address}"), &address.port().to_string()];
    Program::start("client.py", &arguments.map(String::as_str)).succeeds().await;
    assert!(gateway.figure("upgrades") > 50);
    assert_eq!(gateway.figure("stored"), 0);
}

#[tokio::test]
async fn by_http1_over_tls_everything_passes_both_ways() {
    let ((_server, url), pki) = (server().await, Pki::new());
    let (setup, ca) = secure(setup(&url), &pki);
    let gateway = setup.start().await;
    let port = gateway.address().port().to_string();
    let url = format!("wss://shop.example:{port}");
    Program::start("client.py", &[&url, &port, ca.to_str().unwrap()]).succeeds().await;
}

#[tokio::test]
async fn by_http2_everything_passes_both_ways() {
    let (_server, url) = server().await;
    let gateway = setup(&url).start().await;
    let port = gateway.address().port().to_string();
    Program::start("http2.py", &["shop.example", &port]).succeeds().await;
    assert_eq!(gateway.figure("upgrades"), 5);
}

#[tokio::test]
async fn by_http2_over_tls_everything_passes_both_ways() {
    let ((_server, url), pki) = (server().await, Pki::new());
    let (setup, ca) = secure(setup(&url), &pki);
    let gateway = setup.start().await;
    let port = gateway.address().port().to_string();
    Program::start("http2.py", &["shop.example", &port, ca.to_str().unwrap()]).succeeds().await;
}

/// RFC 8441 §3: without the setting "a client MUST NOT send" such a request.
#[tokio::test]
async fn http2_offers_it_where_a_route_allows_it() {
    const ENABLE_CONNECT_PROTOCOL: [u8; 6] = [0, 8, 0, 0, 0, 1];

    let origin = Origin::start().await;
    for (lines, offers) in
        [("", false), ("upgrade = [\"a\"]", false), ("upgrade = [\"websocket\"]", true)]
    {
        let gateway = Gateway::setup(&origin).route(lines).start().await;
        let came = Frames::to(gateway.address()).await.until(SETTINGS).await;
        let settings = &came.last().unwrap().content;
        assert_eq!(settings.chunks(6).any(|it| it == ENABLE_CONNECT_PROTOCOL), offers, "{lines}");
    }
}

#[tokio::test]
async fn the_drain_ends_it() {
    let (_server, url) = server().await;
    let larder = Running::with(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ndrain = \"1s\"\n[upstreams.origin]\nservers = [\"{url}\"]\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\nupgrade = [\"websocket\"]\n"
    ))
    .await;
    let url = format!("ws://{}", larder.address());
    let port = larder.address().port().to_string();
    let mut clients = [(); 3].map(|()| Program::start("client.py", &["--stay", &url, &port]));
    for client in &mut clients {
        assert_eq!(client.says().await, "connected");
    }
    larder.signal("TERM");
    for mut client in clients {
        // RFC 6455 §7.1.5: "If this Close control frame contains no status code": there was none at all.
        assert_eq!(client.says().await, "closed 1006");
        client.succeeds().await;
    }
    assert_eq!(larder.exit_code().await, Some(0));
}
