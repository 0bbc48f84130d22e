//! What systemd is told (`sd_notify(3)`), the sockets that it passes (`sd_listen_fds(3)`), the units, and what
//! others ask who look after the program.

use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::path::Path;
use std::time::Duration;

use larder::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixDatagram, UnixListener};

use crate::support::client::Ask;
use crate::support::origin::{Origin, ok};
use crate::support::pki;
use crate::support::program::{Running, larder};
use crate::support::wire::Line;
use crate::support::{PATIENCE, free_port, until};

const TURNED_AWAY: &str = "a socket was passed that no listener has, and answers nobody";

fn toml(origin: &Origin, server: &str) -> String {
    format!(
        "[server]\nwatch = false\ndrain = \"30s\"\n{server}\n\
         [upstreams.origin]\nservers = [\"{}\"]\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n",
        origin.url()
    )
}

/// The lines of the next message, other than that all is well.
async fn heard(socket: &UnixDatagram) -> Vec<String> {
    let hearing = async {
        loop {
            let mut octets = [0; 4096];
            let length = socket.recv(&mut octets).await.unwrap();
            let message = String::from_utf8(octets[..length].to_vec()).unwrap();
            if message != "WATCHDOG=1" {
                return message.lines().map(str::to_owned).collect();
            }
        }
    };
    tokio::time::timeout(PATIENCE, hearing).await.expect("nothing is said")
}

#[tokio::test]
async fn who_started_it_hears_what_becomes_of_it() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let text = toml(&origin, "listen = \"127.0.0.1:0\"");
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let larder = Running::with_variables(&text, &variables).await;
    let ready = heard(&socket).await;
    assert_eq!(ready, ["READY=1".to_owned(), format!("STATUS=answering at {}", larder.address())]);

    for (written, told) in [
        (text.as_str(), "STATUS=answering by what was read last"),
        ("[server]\nlisten = 1\n", "STATUS=answering; what was read last is faulty, see the log"),
    ] {
        std::fs::write(larder.folder().join("gateway.toml"), written).unwrap();
        let before = clock::monotonic();
        larder.signal("HUP");
        let reloading = heard(&socket).await;
        assert_eq!((&*reloading[0], &*reloading[2]), ("RELOADING=1", "STATUS=reloading"));
        let at = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        let at = Duration::from_micros(at) + Duration::from_micros(1);
        assert!(before <= at && at <= clock::monotonic() + Duration::from_micros(1), "{at:?}");
        assert_eq!(heard(&socket).await, ["READY=1", told]);
    }
    larder.signal("TERM");
    let stopping = "STATUS=stopping: running requests end";
    let expected = ["STOPPING=1", "EXTEND_TIMEOUT_USEC=35000000", stopping];
    assert_eq!(heard(&socket).await, expected);
    assert_eq!(larder.exit_code().await, Some(0));
}

/// The test is the process that runs.
#[tokio::test]
async fn who_started_it_hears_that_it_waits_for_another_process() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let socket = UnixDatagram::bind(at("notify")).unwrap();
    let runs = UnixListener::bind(at("takeover")).unwrap();
    let server = format!("listen = \"127.0.0.1:0\"\ntakeover = \"{}\"", at("takeover").display());
    let (text, notify) = (toml(&origin, &server), at("notify").display().to_string());
    let variables = [("NOTIFY_SOCKET", &*notify)];
    let handing_over = async {
        let accepted = tokio::time::timeout(PATIENCE, runs.accept()).await;
        let (mut line, _) = accepted.expect("it never comes").unwrap();
        assert_eq!(line.read_u8().await.unwrap(), b'T');
        line.write_all(b"W").await.unwrap();
        let status = "STATUS=waiting until the process before the one that runs has ended";
        assert_eq!(heard(&socket).await, ["EXTEND_TIMEOUT_USEC=60000000", status]);
        line.write_all(b"N").await.unwrap();
        assert_eq!(line.read_u8().await.unwrap(), b'R');
        line.write_all(b"YG").await.unwrap();
        line
    };
    let starting = Running::with_variables(&text, &variables);
    let (_larder, _line) = tokio::join!(starting, handing_over);
    assert_eq!(heard(&socket).await[0], "READY=1");
}

#[tokio::test]
async fn it_is_said_at_once_and_again_that_all_is_well_and_in_no_folder() {
    let origin = Origin::start().await;
    let name = format!("larder-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let socket = std::os::unix::net::UnixDatagram::bind_addr(&address).unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = UnixDatagram::from_std(socket).unwrap();
    let at = format!("@{name}");
    let variables = [("NOTIFY_SOCKET", &*at), ("WATCHDOG_USEC", "20000")];
    let text = toml(&origin, "listen = \"127.0.0.1:0\"");
    let _larder = Running::with_variables(&text, &variables).await;
    let hearing = async {
        let mut times = 0;
        while times < 5 {
            let mut octets = [0; 4096];
            let length = socket.recv(&mut octets).await.unwrap();
            times += usize::from(octets.starts_with(b"WATCHDOG=1") && length == 10);
        }
    };
    tokio::time::timeout(PATIENCE, hearing).await.expect("it is not said");
}

#[tokio::test]
async fn nobody_who_hears_it_is_needed() {
    let origin = Origin::start().await;
    for at in ["/nowhere/at/all", "@larder-test-nobody", "vsock:2:1", "relative"] {
        let text = toml(&origin, "listen = \"127.0.0.1:0\"");
        let larder = Running::with_variables(&text, &[("NOTIFY_SOCKET", at)]).await;
        larder.signal("TERM");
        assert_eq!(larder.exit_code().await, Some(0), "{at}");
    }
}

#[tokio::test]
async fn sockets_that_are_passed_are_its_listeners() {
    let origin = Origin::start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    let addresses = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
    let [clients, operators, nobody] = addresses;
    let server = format!("listen = \"{clients}\"\n[admin]\nlisten = \"{operators}\"");
    let request = "GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let (mut larder, mut line) =
        Running::activated(&toml(&origin, &server), &addresses, request).await;
    assert_eq!((larder.address(), larder.admin()), (clients, operators));
    let answer = line.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n1"), "{answer}");
    Ask::new(operators, "GET", "/health").send().await.code(200);
    let unused = larder.logs(TURNED_AWAY).await;
    assert_eq!(
        (&unused["name"], &unused["address"]),
        (&"nobody".into(), &nobody.to_string().into())
    );
    assert_eq!(Line::to(nobody).await.rest().await, "");
    larder.signal("TERM");
    assert_eq!(larder.exit_code().await, Some(0));
}

/// systemd keeps what it passes: the socket listens as long as that does.
#[tokio::test]
async fn who_connects_to_a_socket_of_no_listener_does_not_wait_for_ever() {
    let origin = Origin::start().await;
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let text = toml(&origin, "listen = \"127.0.0.1:0\"");
    let mut larder = Running::with_socket(&text, &held).await;
    assert_eq!(larder.logs(TURNED_AWAY).await["address"], address.to_string());
    for _ in 0..2 {
        assert_eq!(Line::to(address).await.rest().await, "");
    }
}

/// systemd passes a socket to each process. Only one of them may answer what comes to it.
#[tokio::test]
async fn nobody_is_sent_away_from_a_listener_that_is_passed_and_taken_over() {
    for is_listener_before in [true, false] {
        let origin = Origin::start().await;
        origin.on("/a").reply(ok("1").max_age(60));
        let gate = origin.on("/runs").hold(ok("1"));
        let folder = tempfile::tempdir().unwrap();
        let takeover = folder.path().join("takeover");
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let text = |listen: SocketAddr| {
            let lines = format!("listen = \"{listen}\"\ntakeover = \"{}\"", takeover.display());
            toml(&origin, &lines)
        };
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let listen = if is_listener_before { address } else { free };
        let first = Running::with_socket(&text(listen), &held).await;
        // It drains as long as this runs.
        let runs = tokio::spawn(Ask::new(first.address(), "GET", "/runs").send());
        until("the origin is asked", || origin.count("/runs") > 0).await;
        let second = Running::with_socket(&text(address), &held).await;
        assert_eq!(second.address(), address);
        for _ in 0..50 {
            Ask::new(address, "GET", "/a").send().await.code(200).body("1");
        }
        gate.release();
        runs.await.unwrap().code(200);
        assert_eq!(first.exit_code().await, Some(0));
    }
}

#[tokio::test]
async fn its_health_can_be_asked_for_without_another_program() {
    let origin = Origin::start().await;
    let text = toml(&origin, "listen = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"");
    let running = Running::with(&text).await;
    let health = async |admin: SocketAddr| {
        let admin = format!("http://{admin}");
        let asking = move || larder(Path::new("/"), &["health", "--admin", &admin]);
        tokio::task::spawn_blocking(asking).await.unwrap()
    };
    let ran = health(running.admin()).await;
    assert_eq!((ran.code, &*ran.out, &*ran.err), (Some(0), "pass\n", ""));
    let ran = health(running.address()).await;
    assert_eq!((ran.code, &*ran.out), (Some(1), ""));
    assert!(ran.err.contains("as no admin listener of Larder does"), "{}", ran.err);
    let ran = health(origin.address()).await;
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    let admin = running.admin();
    let at = format!("http://{admin}");
    let asking = move || larder(Path::new("/"), &["health", "--live", "--admin", &at]);
    let ran = tokio::task::spawn_blocking(asking).await.unwrap();
    assert_eq!((ran.code, &*ran.out, &*ran.err), (Some(0), "pass\n", ""));
    drop(running);
    let ran = health(admin).await;
    assert!(ran.code == Some(1) && ran.err.starts_with("no answer of `http://"), "{}", ran.err);
}

/// The units with a program that is there, checked by systemd.
#[tokio::test]
async fn the_units_are_sound_and_give_little_away() {
    let folder = tempfile::tempdir().unwrap();
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/service");
    let mut paths = Vec::new();
    for name in ["larder.service", "larder@.service", "larder.socket"] {
        let text = std::fs::read_to_string(units.join(name)).unwrap();
        let text = text.replace("/usr/local/bin/larder", env!("CARGO_BIN_EXE_larder"));
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        paths.push(path.display().to_string());
    }
    let said = pki::run("systemd-analyze", &["verify", &paths[0], &paths[2]]).await;
    assert_eq!(said, "");
    let instance = paths[1].replace('@', "@blue");
    std::fs::copy(&paths[1], &instance).unwrap();
    assert_eq!(pki::run("systemd-analyze", &["verify", &instance]).await, "");
    let manual = include_str!("../../docs/service.md");
    for (path, name) in [(&paths[0], "larder.service"), (&instance, "larder@.service")] {
        let said =
            pki::run("systemd-analyze", &["security", "--offline=true", "--no-pager", path]).await;
        let told = said.lines().find(|line| line.contains("Overall exposure level")).unwrap();
        let level = told.split(": ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(manual.contains(&format!("| `{name}` | {level} |")), "{told}");
    }
}
