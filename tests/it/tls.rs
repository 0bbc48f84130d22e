//! Redis over TLS: whom the gateway believes, and how it says who it is.

use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, ok};
use crate::support::pki::authority;
use crate::support::program::{Running, larder};
use crate::support::server::Server;

/// An authority with certificates for a server and a client, and another authority.
fn files() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let ca = authority("ours");
    // The server's own, and the gateway's.
    write("ca.pem", &ca.pem());
    write("believed.pem", &ca.pem());
    write("other.pem", &authority("other").pem());
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        write(&format!("{name}.pem"), &params.signed_by(&key, &ca).unwrap().pem());
        write(&format!("{name}.key"), &key.serialize_pem());
    }
    folder
}

fn lines(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "port 0\ntls-port PORT\ntls-cert-file {folder}/server.pem\ntls-key-file {folder}/server.key\n\
         tls-ca-cert-file {folder}/ca.pem\ntls-replication yes\n"
    )
}

fn setup(origin: &Origin, url: &str, folder: &Path, tls: &str) -> Setup {
    let tls = tls.replace("FOLDER", &folder.display().to_string());
    Gateway::setup(origin).l2(url, &format!("timeout = \"10s\"\n{tls}"))
}

const WHOLE: &str = "tls = { ca = \"FOLDER/believed.pem\", certificate = \"FOLDER/client.pem\", \
                     key = \"FOLDER/client.key\" }";

#[tokio::test]
async fn server_and_client_believe_each_other() {
    let (origin, folder) = (Origin::start().await, files());
    let lines = lines(folder.path());
    let server = Server::start(&lines);
    let sentinel =
        Server::sentinel(&format!("{lines}sentinel monitor main 127.0.0.1 {} 1\n", server.port()));
    for (target, url) in [
        ("/server", format!("rediss://{}", server.address())),
        ("/sentinel", format!("rediss+sentinel://{}/main", sentinel.address())),
    ] {
        origin.on(target).reply(ok(target).max_age(600));
        let start = || setup(&origin, &url, folder.path(), WHOLE).start();
        let first = start().await.in_step().await;
        first.get(target).await.status("fwd=uri-miss; stored");
        first.settled().await;
        let second = start().await.in_step().await;
        second.get(target).await.body(target).status("hit");
        assert_eq!(second.figure("l2_hits"), 1);
    }
}

#[tokio::test]
async fn who_is_not_believed_is_not_connected_and_files_are_read_again() {
    let (origin, folder) = (Origin::start().await, files());
    let mut server = Server::start(&lines(folder.path()));
    let url = format!("rediss://{}", server.address());
    origin.on("/a").reply(ok("1").max_age(600));
    for (what, tls) in [
        ("the system knows no such authority", ""),
        ("another authority", "tls = { ca = \"FOLDER/other.pem\" }"),
        ("no certificate of ours", "tls = { ca = \"FOLDER/believed.pem\" }"),
    ] {
        let gateway = setup(&origin, &url, folder.path(), tls).start().await;
        gateway.get("/a").await.code(200).body("1").status("fwd=uri-miss; stored");
        gateway.get("/a").await.body("1").status("hit");
        assert!(!gateway.l2().up && !gateway.l2().log_in_step, "{what}");
    }

    let config = setup(&origin, &url, folder.path(), WHOLE).text();
    let mut gateway = Running::with(&config).await;
    gateway.says("read the invalidation log").await;
    let believed = folder.path().join("believed.pem");
    let right = std::fs::read(&believed).unwrap();
    std::fs::copy(folder.path().join("other.pem"), &believed).unwrap();
    server.restart();
    gateway.until_it_says("UnknownIssuer").await;
    std::fs::write(&believed, right).unwrap();
    gateway.until_it_says("L2 is back").await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_faults() {
    let (origin, folder) = (Origin::start().await, files());
    let at = |tls: &str| {
        let text = setup(&origin, "rediss://127.0.0.1:1", folder.path(), tls).text();
        std::fs::write(folder.path().join("gateway.toml"), text).unwrap();
        let ran = larder(folder.path(), &["check", "gateway.toml"]);
        (ran.code, ran.out + &ran.err)
    };
    for (tls, told) in [
        ("tls = { ca = \"none.pem\" }", "`none.pem` cannot be read"),
        (
            "tls = { ca = \"ca.pem\", certificate = \"client.key\", key = \"client.key\" }",
            "`client.key` holds no certificate in PEM form",
        ),
        (
            "tls = { ca = \"ca.pem\", certificate = \"client.pem\", key = \"client.pem\" }",
            "`client.pem` holds no private key in PEM form",
        ),
        (
            "tls = { ca = \"ca.pem\", certificate = \"client.pem\", key = \"server.key\" }",
            "`server.key` holds another key than the certificate's",
        ),
        ("password_file = \"none\"", "`none` cannot be read"),
        ("password_file = \"empty\"", "`empty` holds no password"),
    ] {
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        let (code, said) = at(tls);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(told) && said.contains("gateway.toml:"), "{tls}\n{said}");
    }
    let (code, said) = at(WHOLE);
    assert_eq!(code, Some(0), "{said}");
}
