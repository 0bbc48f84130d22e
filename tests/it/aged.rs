//! Certificates of Larder's own that have expired, or soon will, or are not valid yet: told by
//! `larder check`, and in the log at a start and at a reload.

use std::time::Duration;

use larder::clock::{self, Clock};

use crate::support::pki::{Day, Pki};
use crate::support::program::{Running, larder};

/// So many days from now on.
fn day(days: u64) -> Day {
    let text = clock::text(Clock::System.now() + Duration::from_hours(days * 24));
    let part = |range: std::ops::Range<usize>| &text[range];
    (part(0..4).parse().unwrap(), part(5..7).parse().unwrap(), part(8..10).parse().unwrap())
}

/// A listener with one certificate, and an upstream that is shown another.
fn toml(pki: &Pki, shop: &str, client: &str) -> String {
    let files = |name: &str| {
        let at = |kind: &str| pki.at(&format!("{name}.{kind}")).display().to_string();
        format!("certificate = \"{}\", key = \"{}\"", at("pem"), at("key"))
    };
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ntls = {{ {} }}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [upstreams.shop]\nservers = [\"https://127.0.0.1:9\"]\ntls = {{ ca = \"{}\", {} }}\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"shop\"\n",
        files(shop),
        pki.at("ca.pem").display(),
        files(client)
    )
}

fn pki() -> Pki {
    let pki = Pki::new();
    pki.certify_between("old", (2020, 1, 1), (2021, 2, 28));
    pki.certify_between("early", (2090, 1, 1), (2095, 1, 1));
    pki.certify_between("soon", (2020, 1, 1), day(5));
    pki.certify_between("good", (2020, 1, 1), day(50));
    let chain = ["good", "old"].map(|it| std::fs::read_to_string(pki.at(&format!("{it}.pem"))));
    std::fs::write(pki.at("chain.pem"), chain.map(Result::unwrap).concat()).unwrap();
    std::fs::copy(pki.at("good.key"), pki.at("chain.key")).unwrap();
    pki
}

#[test]
fn a_check_warns_of_them() {
    let pki = pki();
    for (shop, client, told) in [
        ("good", "good", &[][..]),
        ("old", "good", &["3:7: warning: [server] tls: `OLD` has expired on 2021-02-28T00:00:00Z"]),
        ("early", "good", &["3:7: warning: [server] tls: `EARLY` is not valid before 2090-01-01T"]),
        ("good", "soon", &["8:7: warning: upstream `shop`: `SOON` expires soon, on 20"]),
        ("chain", "good", &["3:7: warning: [server] tls: `CHAIN`, certificate 2, has expired on"]),
        (
            "old",
            "old",
            &["3:7: warning: [server] tls: ", "8:7: warning: upstream `shop`: `OLD` has"],
        ),
    ] {
        std::fs::write(pki.at("gateway.toml"), toml(&pki, shop, client)).unwrap();
        let ran = larder(pki.folder(), &["check", "gateway.toml"]);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        assert!(ran.out.contains("no faults"), "{}", ran.out);
        assert_eq!(ran.err.lines().count(), told.len(), "{}", ran.err);
        for (line, told) in ran.err.lines().zip(told) {
            let names = ["old", "early", "soon", "chain"];
            let told = names.iter().fold((*told).to_owned(), |told, name| {
                let file = pki.at(&format!("{name}.pem")).display().to_string();
                told.replace(&name.to_uppercase(), &file)
            });
            assert!(line.starts_with(&format!("gateway.toml:{told}")), "{line}\n{told}");
        }
    }
}

#[tokio::test]
async fn the_log_tells_of_them_at_a_start_and_at_a_reload() {
    let pki = pki();
    let mut larder = Running::with(&toml(&pki, "old", "soon")).await;
    let line = larder.logs("certificate has expired").await;
    assert_eq!(
        (&line["owner"], &line["until"]),
        (&"[server] tls".into(), &"2021-02-28T00:00:00Z".into())
    );
    let line = larder.logs("certificate expires soon").await;
    assert_eq!(line["owner"], "upstream `shop`");
    let renewed = toml(&pki, "good", "early");
    std::fs::write(larder.folder().join("gateway.toml"), renewed).unwrap();
    larder.signal("HUP");
    let line = larder.logs("certificate is not valid yet").await;
    assert_eq!(line["from"], "2090-01-01T00:00:00Z");
}
