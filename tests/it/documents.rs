//! Routes that are answered from a MongoDB collection.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, Document, Uuid, doc};
use serde_json::{Value, json};

use crate::support::client::Got;
use crate::support::gateway::{Gateway, Setup};
use crate::support::mongodb::MongoDb;
use crate::support::{PATIENCE, secs, until};

const MISS: &str = "fwd=uri-miss; stored";
const HEX: &str = "65f0a1b2c3d4e5f60718293a";
const UUID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// A route named `users` for this path, with this `document` besides where it is, and more lines.
fn setup(mongodb: &MongoDb, path: &str, document: &str, lines: &str) -> Setup {
    let uri = mongodb.uri();
    Gateway::setup_of_documents(&uri).routes(&route("users", path, document, lines))
}

fn route(name: &str, path: &str, document: &str, lines: &str) -> String {
    format!(
        "[[routes]]\nname = \"{name}\"\npath = \"{path}\"\n{lines}\n\
         document = {{ mongodb = \"shop\", database = \"app\", collection = \"users\", {document} }}\n"
    )
}

async fn insert(mongodb: &MongoDb, documents: impl IntoIterator<Item = Document>) {
    mongodb.collection("users").insert_many(documents).await.unwrap();
}

/// What is answered once the database has been found again.
async fn once_found(gateway: &Gateway, target: &str) -> Got {
    let asking = async {
        loop {
            let got = gateway.get(target).await;
            if !matches!(got.status.as_u16(), 503 | 504) {
                return got;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("the database is found again")
}

fn read(got: &Got) -> Value {
    serde_json::from_slice(&got.body).unwrap()
}

#[tokio::test]
async fn a_document_is_answered_and_stored_like_any_response() {
    let mongodb = MongoDb::start().await;
    let updated = DateTime::from_millis(1_700_000_000_500);
    insert(&mongodb, [doc! { "_id": "42", "name": "Jörg", "updated": updated }]).await;
    let find = "find = { _id = \"{id}\" }, modified = \"updated\"";
    let gateway = setup(&mongodb, "/users/{id}", find, "ttl = \"5m\"").start().await;
    let shown = r#"{"_id":"42","name":"Jörg","updated":"2023-11-14T22:13:20.5Z"}"#;
    let got = gateway.get("/users/42").await.code(200).status(MISS).body(shown);
    let got = got.has("content-type", "application/json").lacks("surrogate-key");
    let got = got.has("last-modified", "Tue, 14 Nov 2023 22:13:20 GMT");
    let tag = got.field("etag").unwrap();
    let again = gateway.get("/users/42").await.code(200).status("hit").body(shown);
    again.has("etag", &tag);
    let head = gateway.ask("HEAD", "/users/42").send().await.code(200).status("hit").body("");
    head.has("content-length", &shown.len().to_string());
    gateway.ask("GET", "/users/42").field("if-none-match", &tag).send().await.code(304);
    gateway
        .ask("GET", "/users/42")
        .field("range", "bytes=0-5")
        .send()
        .await
        .code(206)
        .body("{\"_id\"");
    assert_eq!(gateway.figure("upstream_requests"), 1);
}

#[tokio::test]
async fn a_stale_document_is_validated_by_its_entity_tag() {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [doc! { "_id": "1", "rev": 7, "name": "a" }]).await;
    for document in ["find = { _id = \"{id}\" }", "find = { _id = \"{id}\" }, version = \"rev\""] {
        let gateway = setup(&mongodb, "/users/{id}", document, "ttl = \"1m\"").start().await;
        let first = gateway.get("/users/1").await.code(200).status(MISS);
        gateway.clock().advance(secs(61));
        let body = String::from_utf8(first.body.to_vec()).unwrap();
        let validated = gateway.get("/users/1").await.code(200).body(&body);
        validated.status("fwd=stale; fwd-status=304; stored");
        let change = doc! { "$inc": { "rev": 1 }, "$set": { "name": body.len().to_string() } };
        mongodb.collection("users").update_one(doc! { "_id": "1" }, change).await.unwrap();
        gateway.clock().advance(secs(61));
        let changed = gateway.get("/users/1").await.code(200).status("fwd=stale; stored");
        assert_ne!(changed.field("etag"), first.field("etag"));
    }
}

#[tokio::test]
async fn another_document_of_the_same_version_is_another_response() {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [doc! { "_id": "1", "rev": 1, "at": 1, "is": "new" }]).await;
    let newest = "find = { is = \"{is}\" }, sort = [\"-at\"], version = \"rev\"";
    let gateway = setup(&mongodb, "/users/{is}", newest, "ttl = \"1m\"").start().await;
    let first = gateway.get("/users/new").await.code(200).status(MISS);
    insert(&mongodb, [doc! { "_id": "2", "rev": 1, "at": 2, "is": "new" }]).await;
    gateway.clock().advance(secs(61));
    let second = gateway.get("/users/new").await.code(200).status("fwd=stale; stored");
    assert!(first.body != second.body && first.field("etag") != second.field("etag"));
}

#[tokio::test]
async fn another_form_of_the_same_version_has_another_tag() {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [doc! { "_id": "1", "rev": 1, "name": "a" }]).await;
    let mut tags = Vec::new();
    for form in ["", ", projection = [\"rev\"]", ", json = \"canonical\""] {
        let document = format!("find = {{ _id = \"{{id}}\" }}, version = \"rev\"{form}");
        let gateway = setup(&mongodb, "/users/{id}", &document, "ttl = \"1m\"").start().await;
        let tag = gateway.get("/users/1").await.code(200).field("etag").unwrap();
        assert!(!tags.contains(&tag), "a client that holds another form has it: {document}");
        tags.push(tag);
    }
}

#[tokio::test]
async fn each_type_finds_its_own() {
    let mongodb = MongoDb::start().await;
    let oid = ObjectId::parse_str(HEX).unwrap();
    insert(
        &mongodb,
        [
            doc! { "_id": HEX, "is": "string" },
            doc! { "_id": oid, "is": "objectid" },
            doc! { "_id": 42_i32, "is": "int" },
            doc! { "_id": true, "is": "bool" },
            doc! { "_id": DateTime::from_millis(0), "is": "date" },
            doc! { "_id": 1.5, "is": "number" },
        ],
    )
    .await;
    let kinds = ["string", "objectid", "int", "bool", "date", "number"];
    let routes: String = kinds
        .iter()
        .map(|kind| {
            let find =
                format!("find = {{ _id = \"{{id:{kind}}}\" }}, projection = [\"is\", \"-_id\"]");
            route(kind, &format!("/{kind}/{{id}}"), &find, "ttl = \"1m\"")
        })
        .collect();
    let gateway = Gateway::setup_of_documents(&mongodb.uri()).routes(&routes).start().await;
    for (kind, id) in [
        ("string", HEX),
        ("objectid", HEX),
        ("int", "42"),
        ("bool", "true"),
        ("date", "1970-01-01T00:00:00Z"),
        ("number", "1.5"),
    ] {
        let found = format!("{{\"is\":\"{kind}\"}}");
        gateway.get(&format!("/{kind}/{id}")).await.code(200).body(&found).status(MISS);
    }
    for (kind, id, why) in [
        ("objectid", "42", "`id` is not 24 hexadecimal digits"),
        ("int", HEX, "`id` is not a whole number of 64 bits"),
        ("bool", "yes", "`id` is neither `true` nor `false`"),
        ("date", "today", "`id` is not a date of RFC 3339"),
    ] {
        let got = gateway.get(&format!("/{kind}/{id}")).await.code(400);
        let got = got.has("content-type", "application/problem+json");
        assert_eq!(read(&got)["detail"], why);
    }
}

#[tokio::test]
async fn operators_from_outside_find_nothing() {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [doc! { "_id": "1", "name": "a" }, doc! { "_id": "2", "name": "b" }]).await;
    let routes = route("by-id", "/id/{id}", "find = { _id = \"{id}\" }", "")
        + &route("by-name", "/name", "find = { name = \"{?name}\" }", "");
    let gateway = Gateway::setup_of_documents(&mongodb.uri()).routes(&routes).start().await;
    let operators = [
        "$eq",
        "$ne",
        "$gt",
        "$gte",
        "$lt",
        "$lte",
        "$in",
        "$nin",
        "$exists",
        "$type",
        "$regex",
        "$where",
        "$expr",
        "$or",
        "$and",
        "$not",
        "$nor",
        "$mod",
        "$text",
        "$all",
        "$elemMatch",
        "$size",
        "$jsonSchema",
    ];
    for operator in operators {
        let table = format!("%7B%22{operator}%22:%22%22%7D");
        gateway.get(&format!("/id/{table}")).await.code(404);
        gateway.get(&format!("/id/{operator}")).await.code(404);
        gateway.get(&format!("/name?name={table}")).await.code(404);
        for names in [
            format!("name%5B{operator}%5D="),
            format!("name[{operator}]="),
            format!("{operator}=1"),
            format!("name.{operator}=1"),
        ] {
            gateway.get(&format!("/name?{names}")).await.code(400);
        }
        // Content is no part of the query, whatever it says.
        let body = format!("{{\"name\":{{\"{operator}\":\"\"}},\"_id\":{{\"{operator}\":\"\"}}}}");
        for method in ["POST", "PUT", "PATCH", "QUERY"] {
            let ask =
                gateway.ask(method, "/name?name=nobody").field("content-type", "application/json");
            ask.body(body.clone()).send().await.code(405).has("allow", "GET, HEAD");
        }
        let ask = gateway.ask("GET", "/name?name=nobody").field("content-type", "application/json");
        ask.body(body).send().await.code(404);
    }
    gateway.get("/name?name=a&name=b").await.code(400);
    gateway.get("/name?name=a").await.code(200);
}

#[tokio::test]
async fn lists_are_bounded_sorted_and_shown_as_wanted() {
    let mongodb = MongoDb::start().await;
    let user = |id: i32| doc! { "_id": id, "city": if id % 2 == 0 { "Ulm" } else { "Bonn" }, "age": 20 + id };
    insert(&mongodb, (0..10).map(user)).await;
    let document = "find = { city = \"{?city}\", age = { \"$gte\" = \"{?from:int=0}\" } }, many = true, \
                    limit = 2, skip = \"{?skip:int=0}\", sort = [\"-age\"], projection = [\"age\", \"-_id\"]";
    let gateway = setup(&mongodb, "/users", document, "ttl = \"1m\"").start().await;
    for (query, ages) in [
        ("city=Ulm", json!([{ "age": 28 }, { "age": 26 }])),
        ("city=Ulm&skip=2", json!([{ "age": 24 }, { "age": 22 }])),
        ("city=Bonn&from=29", json!([{ "age": 29 }])),
        ("city=Nowhere", json!([])),
    ] {
        let got = gateway.get(&format!("/users?{query}")).await.code(200).status(MISS);
        assert_eq!(read(&got), ages, "{query}");
    }
    let got = gateway.get("/users").await.code(400);
    assert_eq!(read(&got)["detail"], "`city` is missing");
    let got = gateway.get("/users?city=Ulm&from=old").await.code(400);
    assert_eq!(read(&got)["detail"], "`from` is not a whole number of 64 bits");
}

#[tokio::test]
async fn nothing_found_is_remembered_for_a_short_time() {
    let mongodb = MongoDb::start().await;
    let find = "find = { _id = \"{id}\" }, missing_ttl = \"10s\"";
    let gateway = setup(&mongodb, "/users/{id}", find, "ttl = \"5m\"").start().await;
    gateway.get("/users/1").await.code(404).status(MISS).has("cache-control", "max-age=10");
    gateway.get("/users/1").await.code(404).status("hit");
    insert(&mongodb, [doc! { "_id": "1" }]).await;
    gateway.clock().advance(secs(11));
    gateway.get("/users/1").await.code(200).body("{\"_id\":\"1\"}");
}

#[tokio::test]
async fn documents_are_invalidated_by_their_tags() {
    let mongodb = MongoDb::start().await;
    let odd = "a b,c*%";
    insert(&mongodb, [doc! { "_id": "1", "n": 1 }, doc! { "_id": odd, "n": 2 }]).await;
    insert(&mongodb, [doc! { "_id": Uuid::parse_str(UUID).unwrap(), "n": 3 }]).await;
    let routes = route("one", "/users/{id}", "find = { _id = \"{id}\" }", "ttl = \"5m\"")
        + &route("uuid", "/uuid/{id}", "find = { _id = \"{id:uuid}\" }", "ttl = \"5m\"")
        + &route("first", "/first", "find = { n = 1 }", "ttl = \"5m\"")
        + &route(
            "all",
            "/users",
            "find = {}, many = true, projection = [\"n\", \"-_id\"]",
            "ttl = \"5m\"",
        );
    let gateway = Gateway::setup_of_documents(&mongodb.uri()).routes(&routes).start().await;
    let by_uuid = format!("/uuid/{UUID}");
    let targets =
        ["/users/1", "/users/a%20b%2Cc*%25", "/users/3", by_uuid.as_str(), "/first", "/users"];
    let of_uuid = format!("mongodb:app.users:{UUID}");
    for (tag, gone) in [
        ("mongodb:app.users", [true; 6]),
        ("mongodb:app.users:1", [true, false, false, false, true, true]),
        ("mongodb:app.users:a%20b%2Cc%2A%25", [false, true, false, false, false, true]),
        // What was not found, too, is about an `_id`.
        ("mongodb:app.users:3", [false, false, true, false, false, false]),
        (of_uuid.as_str(), [false, false, false, true, false, true]),
        ("mongodb:app.users:*", [false, false, false, false, true, true]),
        ("mongodb:app.other", [false; 6]),
    ] {
        for target in targets {
            gateway.get(target).await;
            gateway.get(target).await.status("hit");
        }
        let purge = json!({ "tags": [tag] }).to_string();
        let ask = gateway.admin("POST", "/purge").field("content-type", "application/json");
        ask.body(purge).send().await.code(200);
        for (target, gone) in targets.iter().zip(gone) {
            let is_hit = gateway.get(target).await.cache_status().contains("hit");
            assert_eq!(is_hit, !gone, "{target} after a purge of {tag}");
        }
    }
}

#[tokio::test]
async fn a_policy_of_changes_is_told_the_text_of_a_uuid() {
    let mongodb = MongoDb::start().await;
    let ids = [UUID, "01890a5d-ac96-774b-bcce-b302099a8058"];
    let find = |id: &str| doc! { "_id": Uuid::parse_str(id).unwrap() };
    insert(&mongodb, ids.map(find)).await;
    let tables = route("one", "/users/{id}", "find = { _id = \"{id:uuid}\" }", "ttl = \"5m\"")
        + "[policies.by-id]\nplugin = \"bundled:document-changes\"\ntime = \"10s\"\n\
           config = { tags = [\"mongodb:app.users:{id}\"], fallback = \"of-no-response\" }\n\
           [[changes]]\nmongodb = \"shop\"\ndatabase = \"app\"\npolicy = \"by-id\"\n";
    let setup = Gateway::setup_of_documents(&mongodb.uri()).routes(&tables);
    let gateway = setup.start().await.watches().await;
    let targets = ids.map(|id| format!("/users/{id}"));
    for target in &targets {
        gateway.get(target).await.code(200).status(MISS);
        gateway.get(target).await.status("hit");
    }
    let change = doc! { "$set": { "n": 1 } };
    mongodb.collection("users").update_one(find(UUID), change).await.unwrap();
    let gone = async { while gateway.get(&targets[0]).await.cache_status().contains("hit") {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("its response is gone");
    gateway.get(&targets[1]).await.status("hit");
}

#[tokio::test]
async fn a_database_out_of_reach_is_503_or_what_is_stored() {
    let mut mongodb = MongoDb::start().await;
    insert(&mongodb, [doc! { "_id": "1" }, doc! { "_id": "2" }]).await;
    mongodb.kill();
    let find = "find = { _id = \"{id}\" }";
    let setup =
        setup(&mongodb, "/users/{id}", find, "ttl = \"1m\"").upstream("timeout = \"100ms\"");
    let gateway = setup.start().await;
    let got = gateway.get("/users/1").await.code(503).has("retry-after", "1");
    let got = got.status("fwd=uri-miss; detail=upstream-unavailable");
    assert_eq!(read(&got)["detail"], "the database cannot be reached");
    mongodb.restart().await;
    once_found(&gateway, "/users/1").await.code(200).status(MISS);
    mongodb.kill();
    gateway.clock().advance(secs(61));
    let stale = gateway.get("/users/1").await.code(200).body("{\"_id\":\"1\"}");
    stale.status("fwd=stale; detail=stale-if-error");
    gateway.get("/users/2").await.code(503);
    mongodb.restart().await;
    once_found(&gateway, "/users/2").await.code(200);
}

#[tokio::test]
async fn a_database_that_hangs_costs_a_bounded_time() {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [doc! { "_id": "1" }, doc! { "_id": "2" }]).await;
    let find = "find = { _id = \"{id}\" }, max_time = \"100ms\"";
    let setup =
        setup(&mongodb, "/users/{id}", find, "ttl = \"1m\"").upstream("timeout = \"100ms\"");
    let gateway = setup.start().await;
    gateway.get("/users/1").await.code(200);
    mongodb.hold().await;
    // It is there, so that to say that it is not would be wrong.
    let got = gateway.get("/users/2").await;
    assert!(matches!(got.status.as_u16(), 503 | 504), "{}", got.status);
    gateway.get("/users/1").await.code(200).status("hit");
    mongodb.release();
    once_found(&gateway, "/users/2").await.code(200);
    until("it is told", || gateway.figure("upstream_failures") > 0).await;
}

#[tokio::test]
async fn another_query_finds_nothing_of_the_one_before() {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [doc! { "_id": "1", "a": 1, "b": 2 }]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let with = |projection: &str| {
        let document =
            format!("find = {{ _id = \"{{id}}\" }}, projection = [\"{projection}\", \"-_id\"]");
        setup(&mongodb, "/users/{id}", &document, "ttl = \"1m\"")
    };
    let gateway = with("a").start_from(&file).await;
    gateway.get("/users/1").await.body("{\"a\":1}");
    std::fs::write(&file, with("b").text()).unwrap();
    let reloaded = gateway.admin("POST", "/reload").send().await.code(200);
    assert_eq!(read(&reloaded)["routes_cold"], json!(["users"]));
    gateway.get("/users/1").await.body("{\"b\":2}").status(MISS);
}

#[tokio::test]
async fn how_mongodb_is_can_be_asked() {
    let mut mongodb = MongoDb::start().await;
    let changes = "[[changes]]\nmongodb = \"shop\"\ndatabase = \"app\"\n";
    let route = route("users", "/users/{id}", "find = { _id = \"{id}\" }", "");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let setup = |changes: &str| {
        Gateway::setup_of_documents(&mongodb.uri())
            .upstream("timeout = \"1s\"")
            .cache("[cache]\nmax_lag = \"1s\"")
            .routes(&format!("{route}{changes}"))
    };
    let (with, without) = (setup(changes), setup("").text());
    let gateway = with.start_from(&file).await.watches().await;
    let becomes = async |status: &str, state: &str| {
        let asking = async {
            loop {
                let told = read(&gateway.admin("GET", "/health").send().await.code(200));
                if told["status"] == status && told["mongodb"][0]["state"] == state {
                    return told;
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never `{status}`"))
    };
    let told = becomes("pass", "reached").await;
    let (shop, app) = (&told["mongodb"][0], &told["changes"][0]);
    assert_eq!(shop["name"], "shop", "{told}");
    assert_eq!(shop["last_error"], Value::Null);
    assert_eq!((&app["name"], &app["watching"]), (&json!("shop.app"), &json!(true)), "{told}");
    assert_eq!(app["watched_by"], "this gateway");
    assert!(app["lag_seconds"].as_f64().unwrap() < 1.0 && app["late"] == false, "{told}");

    mongodb.kill();
    gateway.get("/users/1").await.code(503);
    until("changes are late", || gateway.changes().late).await;
    let told = becomes("warn", "out-of-reach").await;
    assert!(!told["mongodb"][0]["last_error"]["text"].as_str().unwrap().is_empty(), "{told}");
    assert_eq!(told["changes"][0]["late"], true, "{told}");

    // Nobody asks for documents, and it is told all the same.
    mongodb.restart().await;
    let told = becomes("pass", "reached").await;
    assert!(told["mongodb"][0]["last_error"].is_object(), "{told}");

    std::fs::write(&file, without).unwrap();
    let reloaded = read(&gateway.admin("POST", "/reload").send().await.code(200));
    let expected = json!({ "added": [], "removed": ["shop.app"], "changed": [] });
    assert_eq!(reloaded["changes"], expected, "{reloaded}");
    assert_eq!(becomes("pass", "reached").await["changes"], json!([]));
}
