//! Who Larder says that it is to MongoDB, whom it believes there, and what comes of a login that is
//! refused.

use std::fs;
use std::path::Path;

use mongodb::bson::doc;
use serde_json::Value;

use crate::changes::{OF_USERS, ROUTES, set, shows};
use crate::support::client::Ask;
use crate::support::gateway::{Gateway, Setup};
use crate::support::mongodb::{MongoDb, certificates};
use crate::support::program::{Running, larder};
use crate::support::{PATIENCE, secs};

/// One that a URI cannot hold as it is.
const PASSWORD: &str = "s3cret:/@%";

/// A server that knows whom it answers, with two users: of `admin`, and of the database itself.
async fn with_users() -> MongoDb {
    let mongodb = MongoDb::start_with_users(None).await;
    for database in ["admin", "app"] {
        let name = format!("of-{database}");
        mongodb.make_user(database, &name, PASSWORD, "readWrite", "app").await;
    }
    mongodb.collection("users").insert_one(doc! { "_id": "1", "n": 1 }).await.unwrap();
    mongodb
}

/// Before a deployment that is reached so: `USER` is where the URI has its user.
fn setup(mongodb: &MongoDb, user: &str, options: &str, lines: &str) -> Setup {
    let uri = mongodb.uri().replace("//", &format!("//{user}"));
    let lines = format!("timeout = \"3s\"\n{lines}");
    Gateway::setup_of_documents(&format!("{uri}{options}"))
        .upstream(&lines)
        .routes(&format!("{ROUTES}{OF_USERS}"))
}

#[tokio::test]
async fn a_user_is_said_in_the_uri_or_beside_it() {
    let mongodb = with_users().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let keys = format!("username = \"of-app\"\npassword = \"{PASSWORD}\"");
    let in_file = format!("password_file = \"{}\"", file.display());
    let mut n = 1;
    for (user, options, lines) in [
        ("of-admin:s3cret%3A%2F%40%25@", "", ""),
        ("of-admin@", "&authMechanism=SCRAM-SHA-256", &*in_file),
        ("", "&authSource=app", &keys),
        // What stands beside it counts.
        ("nobody:wrong@", "&authSource=app&authMechanism=SCRAM-SHA-256", &keys),
    ] {
        let gateway = setup(&mongodb, user, options, lines).start().await.watches().await;
        let body = format!("{{\"_id\":\"1\",\"n\":{n}}}");
        gateway.get("/users/1").await.code(200).body(&body);
        n += 1;
        set(&mongodb, "1", n).await;
        shows(&gateway, "/users/1", &format!("{{\"_id\":\"1\",\"n\":{n}}}")).await;
    }
}

#[tokio::test]
async fn a_login_that_is_refused_is_told_once_and_is_tried_again() {
    let mongodb = with_users().await;
    let setup = setup(&mongodb, "late:s3cret@", "", "");
    let mut gateway = Running::with(&setup.text()).await;
    let get = async || Ask::new(gateway.address(), "GET", "/users/1").send().await;
    for _ in 0..3 {
        let got = get().await.code(503).has("retry-after", "1");
        got.status("fwd=uri-miss; detail=upstream-unavailable");
    }
    mongodb.make_user("admin", "late", "s3cret", "readWrite", "app").await;
    let is_made = async { while get().await.status != 200 {} };
    tokio::time::timeout(PATIENCE, is_made).await.expect("it is let in once it is known");
    let mut lines = gateway.until_it_says("watches changes again").await;
    // Either may find it first.
    if !lines.iter().any(|line| line.contains("MongoDB is back")) {
        lines.extend(gateway.until_it_says("MongoDB is back").await);
    }
    let lines = lines.join("\n");
    assert_eq!(lines.matches("MongoDB refuses the login").count(), 1, "{lines}");
    assert!(lines.contains("cannot watch changes, trying again"), "{lines}");
    assert!(!lines.contains("s3cret"), "{lines}");
}

#[tokio::test]
async fn a_login_that_is_refused_leaves_what_is_stored() {
    let mut mongodb = with_users().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, PASSWORD).unwrap();
    let lines = format!("username = \"of-admin\"\npassword_file = \"{}\"", file.display());
    // Without changes: where those are late, too, nothing stale is used unasked.
    let routes = ROUTES.replace("\nttl = \"1h\"", "\nttl = \"1m\"");
    let setup = setup(&mongodb, "", "", &lines).server("workers = 1\nwatch = false");
    let gateway = setup.routes(&routes).start_from(&folder.path().join("gateway.toml")).await;
    gateway.get("/users/1").await.code(200);
    let change = doc! { "updateUser": "of-admin", "pwd": "another" };
    mongodb.client().database("admin").run_command(change).await.unwrap();
    mongodb.end();
    mongodb.restart().await;
    gateway.clock().advance(secs(61));
    let stale = gateway.get("/users/1").await.code(200).body("{\"_id\":\"1\",\"n\":1}");
    stale.status("fwd=stale; detail=stale-if-error");
    gateway.get("/users/2").await.code(503);
    // The file is read again.
    fs::write(&file, "another").unwrap();
    let reloaded = gateway.admin("POST", "/reload").send().await.code(200);
    let told: Value = serde_json::from_slice(&reloaded.body).unwrap();
    assert_eq!(told["routes_cold"], serde_json::json!([]), "{told}");
    gateway.get("/users/2").await.code(404).status("fwd=uri-miss; stored");
}

#[tokio::test]
async fn servers_and_larder_believe_each_others_certificates() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let at = |name: &str| folder.path().join(name);
    let mongodb = MongoDb::start_with_users(Some(folder.path())).await;
    mongodb.collection("users").insert_one(doc! { "_id": "1", "n": 1 }).await.unwrap();
    mongodb.make_user("$external", "CN=larder", "", "readWrite", "app").await;
    let setup = |options: &str| {
        let options = format!("&tls=true&authMechanism=MONGODB-X509{options}");
        setup(&mongodb, "", &options, "").server("workers = 1\nwatch = false")
    };
    for (what, options) in [
        ("no authority", ""),
        ("another authority", "&tlsCAFile=other.pem&tlsCertificateKeyFile=client.both.pem"),
        ("no certificate of ours", "&tlsCAFile=ca.pem"),
    ] {
        let gateway = setup(options).start_from(&at("wrong.toml")).await;
        let got = gateway.get("/users/1").await;
        assert_eq!(got.status, 503, "{what}: {got:?}");
    }
    fs::copy(at("other.pem"), at("believed.pem")).unwrap();
    // Found from the folder of the file, not from where this runs.
    let options = "&tlsCAFile=believed.pem&tlsCertificateKeyFile=client.both.pem";
    let gateway = setup(options).start_from(&at("gateway.toml")).await;
    gateway.get("/users/1").await.code(503);
    fs::copy(at("ca.pem"), at("believed.pem")).unwrap();
    gateway.admin("POST", "/reload").send().await.code(200);
    let gateway = gateway.watches().await;
    gateway.get("/users/1").await.code(200).body("{\"_id\":\"1\",\"n\":1}");
    set(&mongodb, "1", 2).await;
    shows(&gateway, "/users/1", "{\"_id\":\"1\",\"n\":2}").await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_faults() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    fs::write(folder.path().join("empty"), "\n").unwrap();
    let check = |options: &str, lines: &str| {
        let uri = format!("mongodb://127.0.0.1:1/?{options}");
        let setup = Gateway::setup_of_documents(&uri).upstream(lines).routes(ROUTES);
        checked(folder.path(), &setup)
    };
    for (options, lines, told) in [
        ("tlsCAFile=none.pem", "", "none.pem` cannot be read"),
        ("tlsCAFile=client.key", "", "client.key` holds no certificate in PEM form"),
        ("tlsCertificateKeyFile=client.pem", "", "client.pem` holds no private key in PEM form"),
        ("", "username = \"u\"\npassword_file = \"none\"", "no password can be read from `"),
        ("", "username = \"u\"\npassword_file = \"empty\"", "empty` holds no password"),
        (
            "authMechanism=MONGODB-X509&tls=true",
            "username = \"u\"\npassword = \"s3cret\"",
            "A password cannot be specified with MONGODB-X509",
        ),
    ] {
        let (code, said) = check(options, lines);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(told) && said.contains("gateway.toml:"), "{options} {lines}\n{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
    let options =
        "tlsCAFile=ca.pem&tlsCertificateKeyFile=client.both.pem&authMechanism=MONGODB-X509";
    let (code, said) = check(options, "");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("no faults (2 routes, 0 upstreams, 0 policies, 1 MongoDB deployment)"),
        "{said}"
    );
}

#[tokio::test]
async fn a_name_that_dns_does_not_know_is_no_fault() {
    // A name of RFC 6761 that no resolver asks anybody about.
    let setup = Gateway::setup_of_documents("mongodb+srv://u:s3cret@cluster.shop.invalid/app")
        .routes(&format!("{ROUTES}{OF_USERS}"));
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = checked(folder.path(), &setup);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 MongoDB deployment, 1 stream of changes)"), "{said}");
    let mut gateway = Running::with(&setup.text()).await;
    for _ in 0..2 {
        let got = Ask::new(gateway.address(), "GET", "/users/1").send().await.code(503);
        got.has("retry-after", "1");
    }
    let messages = ["MongoDB is out of reach", "cannot watch changes, trying again"];
    let lines = gateway.until_it_has_said(&messages).await;
    let told: Vec<_> = lines.iter().filter(|line| line.contains(messages[0])).collect();
    assert!(told.len() == 1 && told[0].contains("DNS"), "{told:?}");
    assert!(!lines.join("\n").contains("s3cret"), "{lines:?}");
}

fn checked(folder: &Path, setup: &Setup) -> (Option<i32>, String) {
    fs::write(folder.join("gateway.toml"), setup.text()).unwrap();
    let ran = larder(folder, &["check", "gateway.toml"]);
    (ran.code, ran.out + &ran.err)
}
