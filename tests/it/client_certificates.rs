//! Clients that say who they are by a certificate: who is let in, who is told, and with whom answers
//! are shared.

use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Origin, ok};
use crate::support::pki::Pki;
use crate::support::program::larder;

/// What `curl` adds to the content: `Cache-Status` without `ttl`, as far as that goes.
const TOLD: [&str; 2] = ["--write-out", " %{http_code} %header{cache-status}"];

/// A gateway that asks for certificates, with these further keys of `tls`. It drops no field for a `_` in its name.
fn setup(origin: &Origin, pki: &Pki, keys: &str) -> Setup {
    pki.certify("shop", &["shop.example"], "shop");
    for client in ["anna", "bert"] {
        pki.certify(client, &[], client);
    }
    std::fs::copy(pki.at("ca.pem"), pki.at("clients.pem")).unwrap();
    let folder = pki.folder().display();
    Gateway::setup(origin).server(&format!(
        "workers = 1\nunderscores_in_fields = true\n\
         tls = {{ certificate = \"{folder}/shop.pem\", key = \"{folder}/shop.key\", \
         client_ca = \"{folder}/clients.pem\"{keys} }}"
    ))
}

/// What `curl` prints on getting `/a`, with the certificate that lies in these files.
async fn get(gateway: &Gateway, pki: &Pki, client: Option<&Pki>, name: &str) -> String {
    let holder = client.unwrap_or(pki);
    let (certificate, key) = (holder.at(&format!("{name}.pem")), holder.at(&format!("{name}.key")));
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    // Nobody is whom he says that he is.
    let claims = ["--header", "Client-Cert: :Zm9yZ2Vk:", "--header", "Client-Cert-Chain: :Zm9v:"];
    let arguments = match name {
        "" => Vec::new(),
        _ => vec!["--cert", &certificate, "--key", &key],
    };
    let arguments = [&arguments[..], &claims, &TOLD].concat();
    pki.curl(gateway.address(), "shop.example", "/a", &arguments).await
}

/// What `Client-Cert` says of one.
fn field(pki: &Pki, name: &str) -> String {
    let pem = std::fs::read_to_string(pki.at(&format!("{name}.pem"))).unwrap();
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    format!(":{lines}:")
}

#[tokio::test]
async fn who_has_no_certificate_that_is_believed_is_not_served() {
    let (origin, pki, others) = (Origin::start().await, Pki::new(), Pki::new());
    let gateway = setup(&origin, &pki, ", client_certificate = \"require\"").start().await;
    others.certify("eve", &[], "eve");
    origin.on("/a").reply(ok("1").max_age(60));
    for (client, name) in [(None, ""), (Some(&others), "eve")] {
        let said = get(&gateway, &pki, client, name).await;
        assert!(said.starts_with(" 000 curl: (56)"), "{name}: {said}");
        // "certificate required", and, as both authorities have one name, "decrypt error".
        assert!(said.contains(" alert "), "{name}: {said}");
    }
    assert!(origin.asked().is_empty());

    let said = get(&gateway, &pki, None, "anna").await;
    assert_eq!(said, "1 200 larder; fwd=uri-miss; stored");
    // Nobody has been told who it is, so it is for all who are in.
    let said = get(&gateway, &pki, None, "bert").await;
    assert!(said.starts_with("1 200 larder; hit"), "{said}");
    origin.saw("/a", 1);
    let seen = origin.last("/a");
    assert_eq!((seen.field("client-cert"), seen.field("client-cert-chain")), (None, None));
}

#[tokio::test]
async fn a_response_to_one_client_is_no_answer_to_another() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    let keys = ", client_certificate = \"request\", client_cert_field = true";
    let gateway = setup(&origin, &pki, keys).start().await;
    let seen_of = |count| {
        origin.saw("/a", count);
        origin.last("/a").field("client-cert")
    };
    // The origin says nothing of whom it is for.
    origin.on("/a").reply(ok("1").max_age(60));
    for (count, name) in [(1, "anna"), (2, "anna"), (3, "bert")] {
        let said = get(&gateway, &pki, None, name).await;
        assert_eq!(said, "1 200 larder; fwd=uri-miss; detail=client-cert");
        assert_eq!(seen_of(count), Some(field(&pki, name)));
        assert_eq!(origin.last("/a").field("client-cert-chain"), None);
    }
    // Each has its own, and who has none has another.
    origin.on("/a").reply(ok("2").max_age(60).field("vary", "Client-Cert"));
    for (count, name) in [(4, "anna"), (5, "bert"), (6, "")] {
        let said = get(&gateway, &pki, None, name).await;
        assert!(said.ends_with("; stored"), "{name}: {said}");
        assert_eq!(seen_of(count), (!name.is_empty()).then(|| field(&pki, name)));
        let said = get(&gateway, &pki, None, name).await;
        assert!(said.starts_with("2 200 larder; hit"), "{name}: {said}");
    }
    origin.saw("/a", 6);
}

#[tokio::test]
async fn nobody_hides_which_certificate_he_has() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    let gateway = setup(&origin, &pki, ", client_cert_field = true").start().await;
    origin.on("/a").reply(ok("1").max_age(60));
    let [certificate, key] = ["pem", "key"].map(|kind| pki.at(&format!("anna.{kind}")));
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let own = ["--http1.1", "--cert", &certificate, "--key", &key];
    let claims = ["--header", "Connection: client-cert", "--header", "Client_Cert: :Zm9yZ2Vk:"];
    let arguments = [&own[..], &claims, &TOLD].concat();
    let said = pki.curl(gateway.address(), "shop.example", "/a", &arguments).await;
    assert_eq!(said, "1 200 larder; fwd=uri-miss; detail=client-cert");
    let seen = origin.last("/a");
    assert_eq!(seen.field("client-cert"), Some(field(&pki, "anna")));
    assert_eq!(seen.field("client_cert"), None);
}

#[tokio::test]
async fn a_response_for_everybody_is_shared() {
    let (origin, pki) = (Origin::start().await, Pki::new());
    let gateway = setup(&origin, &pki, ", client_cert_field = true").start().await;
    origin.on("/a").reply(ok("1").field("cache-control", "public, max-age=60"));
    assert!(get(&gateway, &pki, None, "anna").await.ends_with("; stored"));
    let said = get(&gateway, &pki, None, "bert").await;
    assert!(said.starts_with("1 200 larder; hit"), "{said}");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn in_cleartext_nobody_has_a_certificate() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60));
    let ask = gateway.ask("GET", "/a").field("client-cert", ":Zm9yZ2Vk:");
    ask.field("client-cert-chain", ":Zm9v:").send().await.status("fwd=uri-miss; stored");
    let seen = origin.last("/a");
    assert_eq!((seen.field("client-cert"), seen.field("client-cert-chain")), (None, None));
}

#[tokio::test]
async fn other_authorities_are_believed_without_a_restart() {
    let (origin, pki, others) = (Origin::start().await, Pki::new(), Pki::new());
    let gateway = setup(&origin, &pki, "").start_from(&pki.at("gateway.toml")).await;
    others.certify("eve", &[], "eve");
    origin.on("/a").reply(ok("1").max_age(60));
    assert!(get(&gateway, &pki, None, "anna").await.starts_with("1 200"));
    // What the client believes stays.
    std::fs::copy(others.at("ca.pem"), pki.at("clients.pem")).unwrap();
    gateway.admin("POST", "/reload").send().await.code(200);
    assert!(get(&gateway, &pki, Some(&others), "eve").await.starts_with("1 200"));
    assert!(get(&gateway, &pki, None, "anna").await.starts_with(" 000"));

    std::fs::copy(pki.at("anna.key"), pki.at("clients.pem")).unwrap();
    let ran = larder(pki.folder(), &["check", "gateway.toml"]);
    assert!(ran.err.contains("clients.pem` holds no certificate in PEM form"), "{}", ran.err);
}
