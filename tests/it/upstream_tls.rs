//! TLS to servers: who Larder is to those that ask, whose certificate they show, and other files in the
//! place of those.

use rustls::ServerConnection;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use crate::support::gateway::{Gateway, Setup};
use crate::support::nobody;
use crate::support::pki::Pki;
use crate::support::program::larder;
use crate::upstream::serve_tls_by;

/// A server that asks for certificates, and answers with the name of the one that it is shown. Gives its
/// port.
async fn asking(pki: &Pki, names: &[&'static str]) -> (u16, JoinSet<()>) {
    let acceptor = pki.asking_acceptor("server");
    let known = names.iter().map(|name| {
        let file = pki.at(&format!("{name}.pem"));
        (*name, CertificateDer::from_pem_file(file).unwrap())
    });
    let known: Vec<_> = known.collect();
    let shown_name = move |connection: &ServerConnection| {
        let shown = &connection.peer_certificates().unwrap()[0];
        let (name, _) = known.iter().find(|(_, known)| known == shown).unwrap();
        (*name).to_owned()
    };
    serve_tls_by(acceptor, "no-store", shown_name).await
}

/// A gateway before a server on this port, with these keys of `tls` besides `ca`.
fn setup(pki: &Pki, host: &str, port: u16, keys: &str) -> Setup {
    let ca = pki.at("ca.pem").display().to_string();
    let setup = Gateway::setup_before(&[format!("https://{host}:{port}")]);
    setup.upstream(&format!("tls = {{ ca = \"{ca}\"{keys} }}"))
}

fn identity(pki: &Pki, name: &str) -> String {
    let file = |kind: &str| pki.at(&format!("{name}.{kind}")).display().to_string();
    format!(", certificate = \"{}\", key = \"{}\"", file("pem"), file("key"))
}

#[tokio::test]
async fn a_server_that_asks_is_shown_a_certificate() {
    let (pki, others) = (Pki::new(), Pki::new());
    pki.certify("server", &["localhost"], "server");
    pki.certify("anna", &[], "anna");
    others.certify("eve", &[], "eve");
    let (port, _serving) = asking(&pki, &["anna"]).await;
    for (identity, expected) in [
        (identity(&pki, "anna"), Some("anna")),
        (identity(&others, "eve"), None),
        (String::new(), None),
    ] {
        let gateway = setup(&pki, "localhost", port, &identity).start().await;
        let got = gateway.get("/a").await;
        match expected {
            Some(name) => got.code(200).body(name),
            None => got.code(502),
        };
    }
}

#[tokio::test]
async fn the_name_that_is_asked_for_may_be_another() {
    let pki = Pki::new();
    pki.certify("server", &["shop.internal"], "server");
    pki.certify("anna", &[], "anna");
    let (port, _serving) = asking(&pki, &["anna"]).await;
    let identity = identity(&pki, "anna");
    for (host, name, is_believed) in [
        ("127.0.0.1", ", server_name = \"shop.internal\"", true),
        ("localhost", ", server_name = \"Shop.Internal\"", true),
        ("127.0.0.1", ", server_name = \"other.internal\"", false),
        ("127.0.0.1", "", false),
    ] {
        let gateway = setup(&pki, host, port, &format!("{identity}{name}")).start().await;
        let got = gateway.get("/a").await;
        if is_believed {
            got.code(200).body("anna");
        } else {
            got.code(502).status("fwd=uri-miss; detail=upstream-refused");
        }
    }
}

#[tokio::test]
async fn other_files_count_without_a_restart() {
    let pki = Pki::new();
    pki.certify("server", &["localhost"], "server");
    for name in ["anna", "bert", "own"] {
        pki.certify(name, &[], name);
    }
    let copy = |from: &str| {
        for kind in ["pem", "key"] {
            std::fs::copy(pki.at(&format!("{from}.{kind}")), pki.at(&format!("own.{kind}")))
                .unwrap();
        }
    };
    let (port, _serving) = asking(&pki, &["anna", "bert"]).await;
    copy("anna");
    let setup = setup(&pki, "localhost", port, &identity(&pki, "own"));
    let gateway = setup.start_from(&pki.at("gateway.toml")).await;
    gateway.get("/a").await.code(200).body("anna");
    copy("bert");
    gateway.admin("POST", "/reload").send().await.code(200);
    gateway.get("/a").await.code(200).body("bert");

    // What does not fit changes nothing.
    std::fs::copy(pki.at("anna.key"), pki.at("own.key")).unwrap();
    gateway.admin("POST", "/reload").send().await.code(422);
    gateway.get("/a").await.code(200).body("bert");
}

#[tokio::test]
async fn what_is_known_of_servers_outlives_a_renewal() {
    let pki = Pki::new();
    pki.certify("server", &["localhost"], "server");
    for name in ["anna", "bert"] {
        pki.certify(name, &[], name);
    }
    let (port, _serving) = asking(&pki, &["anna", "bert"]).await;
    let (_socket, nobody) = nobody();
    let servers = [nobody.replace("http:", "https:"), format!("https://localhost:{port}")];
    let (ca, identity) = (pki.at("ca.pem").display().to_string(), identity(&pki, "anna"));
    let gateway = Gateway::setup_before(&servers).upstream(&format!(
        "tls = {{ ca = \"{ca}\"{identity} }}\n\
         eject = {{ failures = 1, for = \"1h\", at_most = \"1h\" }}"
    ));
    let gateway = gateway.start_from(&pki.at("gateway.toml")).await;
    let known = async || {
        let got = gateway.admin("GET", "/health").send().await.code(200);
        let told: Value = serde_json::from_slice(&got.body).unwrap();
        let servers = &told["upstreams"][0]["servers"];
        (servers[0]["state"].clone(), servers[1]["state"].clone())
    };
    for _ in 0..2 {
        gateway.get("/a").await.code(200).body("anna");
    }
    assert_eq!(known().await, (json!("ejected"), json!("up")));
    for kind in ["pem", "key"] {
        let at = |name: &str| pki.at(&format!("{name}.{kind}"));
        std::fs::copy(at("bert"), at("anna")).unwrap();
    }
    gateway.admin("POST", "/reload").send().await.code(200);
    assert_eq!(known().await, (json!("ejected"), json!("up")));
    gateway.get("/a").await.code(200).body("bert");
    // And so it stays when nothing changes.
    gateway.admin("POST", "/reload").send().await.code(200);
    gateway.get("/a").await.code(200).body("bert");
    assert_eq!(known().await, (json!("ejected"), json!("up")));
}

#[tokio::test]
async fn files_that_cannot_be_used_are_told() {
    let pki = Pki::new();
    pki.certify("server", &["localhost"], "server");
    for name in ["anna", "bert"] {
        pki.certify(name, &[], name);
    }
    let at = |file: &str| pki.at(file).display().to_string();
    for (certificate, key, expected) in [
        ("anna.pem", "bert.key", "bert.key` holds another key than the certificate's"),
        ("anna.key", "anna.key", "anna.key` holds no certificate in PEM form"),
        ("anna.pem", "anna.pem", "anna.pem` holds no private key in PEM form"),
        ("none.pem", "anna.key", "none.pem` cannot be read: No such file"),
    ] {
        let identity = format!(", certificate = \"{}\", key = \"{}\"", at(certificate), at(key));
        let text = setup(&pki, "localhost", 1, &identity).text();
        std::fs::write(pki.at("gateway.toml"), text).unwrap();
        let ran = larder(pki.folder(), &["check", "gateway.toml"]);
        assert!(ran.err.contains(expected), "{}", ran.err);
        assert!(ran.err.starts_with("gateway.toml:"), "{}", ran.err);
    }
}

/// Takes a request without content, and answers it if it is to be answered.
async fn answer(stream: &mut TlsStream<TcpStream>, is_answered: bool) {
    let mut came = Vec::new();
    while !came.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut came).await.unwrap() > 0, "it was closed");
    }
    if is_answered {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1").await.unwrap();
        stream.flush().await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_closes_without_saying_so_is_asked_again() {
    let pki = Pki::new();
    pki.certify("server", &["localhost"], "server");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = pki.acceptor("server", &[]);
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut idle = acceptor.accept(stream).await.unwrap();
        answer(&mut idle, true).await;
        answer(&mut idle, false).await;
        // TLS would have had it say `close_notify` first.
        drop(idle);
        let (stream, _) = listener.accept().await.unwrap();
        let mut other = acceptor.accept(stream).await.unwrap();
        answer(&mut other, true).await;
        other
    });
    // By address: a name that has just been looked up has other connections than before.
    let name = ", server_name = \"localhost\"";
    let gateway = setup(&pki, "127.0.0.1", port, name).start().await;
    gateway.get("/a").await.code(200).body("1");
    gateway.get("/b").await.code(200).body("1");
    let _open = serving.await.unwrap();
}
