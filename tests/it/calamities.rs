//! Three servers that nobody here wrote, of which one after the other is killed, hung, slowed and
//! restarted, while clients go on asking. Each request is answered, and whole.

use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::gateway::{Gateway, Setup};
use crate::support::load::Load;
use crate::support::{free_port, tool, until};

/// What all of them have.
const TARGETS: [&str; 2] = ["/robots.txt", "/deny"];

/// Servers of different makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Make {
    Nginx,
    /// The server of Python's standard library.
    Python,
    Httpbin,
}

/// One of them, on a port of its own.
struct Server {
    make: Make,
    port: u16,
    folder: TempDir,
    /// So many octets a second, and no more.
    rate: Option<u32>,
    child: Option<Child>,
}

impl Server {
    fn new(make: Make) -> Self {
        // Another program may take the port before the server does.
        for _ in 0..20 {
            let port = free_port();
            let folder = tempfile::tempdir().unwrap();
            for target in TARGETS {
                // More than a slow server sends in a moment.
                let text = format!("this is {target}\n").repeat(40);
                std::fs::write(folder.path().join(&target[1..]), text).unwrap();
            }
            let mut server = Self { make, port, folder, rate: None, child: None };
            if server.launch() {
                return server;
            }
        }
        panic!("{make:?} does not start: run tests/run");
    }

    /// Whether it takes connections.
    fn launch(&mut self) -> bool {
        let folder = self.folder.path();
        let port = self.port.to_string();
        let mut command = match self.make {
            Make::Nginx => {
                let file = folder.join("nginx.conf");
                std::fs::write(&file, self.nginx()).unwrap();
                let path = std::env::var_os("PATH").unwrap_or_default();
                let mut command = Command::new("nginx");
                command.env("PATH", format!("{}:/usr/sbin", path.to_string_lossy()));
                command.arg("-e").arg("stderr").arg("-p").arg(folder).arg("-c").arg(file);
                command
            }
            Make::Python => {
                let mut command = Command::new("python3");
                command.args([
                    "-m",
                    "http.server",
                    "--bind",
                    "127.0.0.1",
                    "--protocol",
                    "HTTP/1.1",
                ]);
                command.arg(&port).current_dir(folder);
                command
            }
            Make::Httpbin => {
                let mut command = Command::new(tool("httpbin/bin/python"));
                command.args(["-m", "httpbin.core", "--port", &port]);
                command
            }
        };
        // With a group of its own, nginx and its worker get signals together.
        let child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.expect("nginx and Python must be installed: run tests/run"));
        (0..2000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.is_running()
        })
    }

    fn nginx(&self) -> String {
        let rate = self.rate.map(|rate| format!("limit_rate {rate};")).unwrap_or_default();
        format!(
            "daemon off;\nworker_processes 1;\npid nginx.pid;\nerror_log stderr crit;\nevents {{}}\n\
             http {{\n access_log off;\n client_body_temp_path temp;\n proxy_temp_path temp;\n \
             fastcgi_temp_path temp;\n uwsgi_temp_path temp;\n scgi_temp_path temp;\n {rate}\n \
             server {{ listen 127.0.0.1:{}; root {}; }}\n}}\n",
            self.port,
            self.folder.path().display()
        )
    }

    fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it at once, whatever it is about (SIGKILL).
    fn kill(&mut self) {
        if self.child.is_some() {
            self.signal("-KILL");
            self.child.take().unwrap().wait().unwrap();
        }
    }

    /// Has nginx end by itself, once it has answered what it has (SIGQUIT to the first of its processes).
    async fn quit(&mut self) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args(["-QUIT", &id]).status().unwrap().success());
        until("it has ended", || !self.is_running()).await;
        self.child = None;
    }

    fn start(&mut self) {
        assert!(self.launch(), "{:?} does not start again", self.make);
    }

    /// Holds it still: connections are taken, by the system, and nothing answers.
    fn hold(&self) {
        self.signal("-STOP");
    }

    fn release(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let group = format!("-{}", self.child.as_ref().expect("it runs").id());
        assert!(Command::new("kill").args([signal, "--", &group]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Clients that go on asking, for what is stored and for what is not. An answer other than a whole 200
/// is a failed test.
fn load(gateway: &Arc<Gateway>) -> Load {
    let mut load = Load::default();
    for client in 0..8 {
        let gateway = Arc::clone(gateway);
        load.add(|answers| async move {
            for number in 0.. {
                let target = match (client + number) % 4 {
                    0 => format!("/robots.txt?{}", number / 8 % 20),
                    1 => format!("/robots.txt?{client}-{number}"),
                    _ => "/deny".to_owned(),
                };
                let got = gateway.get(&target).await;
                assert_eq!(got.status, 200, "{target}: {}", got.cache_status());
                assert!(!got.body.is_empty(), "{target}");
                answers.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    load
}

/// Stored for a moment, and not at all; with defaults, but for times that a test can wait for.
fn setup(servers: &[Server]) -> Setup {
    let servers: Vec<_> = servers.iter().map(Server::url).collect();
    let setup = Gateway::setup_before(&servers).upstream(
        "timeout = \"500ms\"\nconnect_timeout = \"500ms\"\neject = { for = \"500ms\" }\n\
         health = { path = \"/robots.txt\", interval = \"100ms\", timeout = \"1s\" }",
    );
    setup.routes(
        "[[routes]]\nname = \"stored\"\npath = \"/robots.txt\"\nupstream = \"origin\"\nttl = \"1h\"\n\
         [[routes]]\nname = \"passed\"\npath = \"/deny\"\nupstream = \"origin\"\nmax_body = \"0\"\n\
         collapse = false\n",
    )
}

async fn states(gateway: &Gateway) -> Vec<String> {
    let got = gateway.admin("GET", "/health").send().await.code(200);
    let told: Value = serde_json::from_slice(&got.body).unwrap();
    let servers = told["upstreams"][0]["servers"].as_array().unwrap().iter();
    servers.map(|server| server["state"].as_str().unwrap().to_owned()).collect()
}

/// Goes on asking until this one is asked, or is not.
async fn until_it_is(load: &mut Load, gateway: &Gateway, place: usize, is_up: bool) {
    let begun = larder::clock::instant();
    loop {
        load.goes_on(20).await;
        let states = states(gateway).await;
        if (states[place] == "up") == is_up {
            return;
        }
        let long = 3 * crate::support::PATIENCE;
        assert!(begun.elapsed() < long, "server {place} is never up: {is_up}: {states:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_servers_do() {
    let mut servers = [Make::Nginx, Make::Python, Make::Httpbin].map(Server::new);
    let gateway = Arc::new(setup(&servers).start().await);
    let mut load = load(&gateway);
    for place in 0..servers.len() {
        until_it_is(&mut load, &gateway, place, true).await;
    }
    load.goes_on(200).await;

    // Killed. What it was about is asked of another one.
    servers[0].kill();
    until_it_is(&mut load, &gateway, 0, false).await;
    load.goes_on(200).await;
    servers[0].start();
    until_it_is(&mut load, &gateway, 0, true).await;

    // Hung, each in turn: the system takes connections for it, and what it has sent the head of goes on
    // once it does.
    for place in [0, 1, 2] {
        servers[place].hold();
        until_it_is(&mut load, &gateway, place, false).await;
        load.goes_on(200).await;
        servers[place].release();
        until_it_is(&mut load, &gateway, place, true).await;
    }

    // Restarted as one should, and slow from then on: responses take seconds.
    servers[0].quit().await;
    servers[0].rate = Some(800);
    servers[0].start();
    until_it_is(&mut load, &gateway, 0, true).await;
    load.goes_on(60).await;
    servers[0].quit().await;
    servers[0].rate = None;
    servers[0].start();
    until_it_is(&mut load, &gateway, 0, true).await;
    load.goes_on(200).await;
}
