//! MongoDB that says what a real one says rarely: history lost, cursors gone, half an answer, another
//! primary. What becomes of changes then, and of documents that are read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mongodb::bson::{DateTime, Document, doc};

use crate::changes::{OF_USERS, hits, insert, set, setup, shown, shows, user};
use crate::support::gateway::Gateway;
use crate::support::mongodb::MongoDb;
use crate::support::scripted::{Answer, Scripted, place};
use crate::support::until;

const RESUMABLE: &[&str] = &["ResumableChangeStreamError"];
const NOT_RESUMABLE: &[&str] = &["NonResumableChangeStreamError"];

/// A gateway behind a script, which watches users and has two of them stored.
async fn watched(changes: &str) -> (MongoDb, Scripted, Gateway) {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [user("1", 1), user("2", 1)]).await;
    let script = Scripted::before(&mongodb).await;
    let gateway = setup(&script.uri(), changes).start().await.watches().await;
    hits(&gateway, "/users/1").await;
    hits(&gateway, "/users/2").await;
    (mongodb, script, gateway)
}

/// The first user changes between the failures that the script has and the stream's being open again.
async fn changes_meanwhile(mongodb: &MongoDb, script: &Scripted, gateway: &Gateway) {
    script.on("aggregate", 1, Answer::Hold);
    until("the stream fails", || script.is_over()).await;
    set(mongodb, "1", 2).await;
    script.release();
    shows(gateway, "/users/1", &shown("1", 2)).await;
}

#[tokio::test]
async fn a_stream_that_fails_goes_on_or_is_lost_and_skips_nothing() {
    for (code, labels, lost) in [
        // `ChangeStreamHistoryLost`, `ChangeStreamFatalError`, `InvalidResumeToken`.
        (286, NOT_RESUMABLE, 1),
        (280, NOT_RESUMABLE, 1),
        (260, &[][..], 1),
        // `CursorNotFound`, and a primary that is none any more or ends.
        (43, &[], 0),
        (10107, RESUMABLE, 0),
        (189, RESUMABLE, 0),
        (11600, RESUMABLE, 0),
        // `Interrupted`, by an operator.
        (11601, &[], 0),
    ] {
        let (mongodb, script, gateway) = watched(OF_USERS).await;
        script.on("getMore", 1, Answer::Error(code, labels));
        changes_meanwhile(&mongodb, &script, &gateway).await;
        assert_eq!(gateway.changes().lost, lost, "{code}");
        let other = gateway.get("/users/2").await;
        assert_eq!(other.cache_status().contains("hit"), lost == 0, "{code}: {other:?}");
        // And then it goes on as ever.
        set(&mongodb, "2", 2).await;
        shows(&gateway, "/users/2", &shown("2", 2)).await;
    }
}

#[tokio::test]
async fn a_stream_that_cannot_be_opened_at_first_skips_nothing() {
    // However far it came by itself, its place is told again.
    for (code, labels) in [(10107, RESUMABLE), (189, &[]), (91, &[]), (6, &[]), (8000, &[])] {
        let (mongodb, script, gateway) = watched(OF_USERS).await;
        script.on("getMore", 1, Answer::Error(43, &[]));
        script.on("aggregate", 1, Answer::Error(code, labels));
        changes_meanwhile(&mongodb, &script, &gateway).await;
        gateway.get("/users/2").await.status("hit");
        assert_eq!(gateway.changes().lost, 0, "{code}");
    }
}

#[tokio::test]
async fn a_place_that_nobody_knows_any_more_is_tried_once() {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [user("1", 1)]).await;
    let script = Scripted::before(&mongodb).await;
    let gateway = setup(&script.uri(), OF_USERS).start().await.watches().await;
    hits(&gateway, "/users/1").await;
    // The first place that is told from now on is dead.
    let (dead, tried) = (Mutex::new(None), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&tried);
    let is_dead = move |command: &Document| {
        let Some(place) = place(command) else { return false };
        let is_it = *dead.lock().unwrap().get_or_insert_with(|| place.clone()) == place;
        counted.fetch_add(is_it.into(), Ordering::Relaxed);
        is_it
    };
    script.on("getMore", 1, Answer::Error(43, &[]));
    script.on_such("aggregate", is_dead, 1000, Answer::Error(286, NOT_RESUMABLE));
    script.on("aggregate", 1, Answer::Hold);
    until("it has been tried", || tried.load(Ordering::Relaxed) > 0).await;
    set(&mongodb, "1", 2).await;
    script.release();
    shows(&gateway, "/users/1", &shown("1", 2)).await;
    until("it is watched again", || gateway.changes().watching).await;
    set(&mongodb, "1", 3).await;
    shows(&gateway, "/users/1", &shown("1", 3)).await;
    // By the driver; what that comes to is believed.
    assert_eq!(tried.load(Ordering::Relaxed), 1);
    assert_eq!(gateway.changes().lost, 1);
}

#[tokio::test]
async fn an_answer_that_ends_in_the_middle_is_asked_for_again() {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [user("1", 1), user("2", 1)]).await;
    let script = Scripted::before(&mongodb).await;
    let gateway = setup(&script.uri(), OF_USERS).start().await.watches().await;
    hits(&gateway, "/users/2").await;
    let mut n = 1;
    // In the head, in the cursor, in the event.
    for octets in [0, 7, 16, 40, 100, 200, 300] {
        hits(&gateway, "/users/1").await;
        n += 1;
        script.on("getMore", 1, Answer::Cut(octets));
        set(&mongodb, "1", n).await;
        shows(&gateway, "/users/1", &shown("1", n)).await;
        until("it was cut", || script.is_over()).await;
    }
    gateway.get("/users/2").await.status("hit");
    assert_eq!(gateway.changes().lost, 0);
    for octets in [0, 7, 60] {
        script.on("find", 1, Answer::Cut(octets));
        gateway.get(&format!("/users/none-{octets}")).await.code(404);
        assert!(script.is_over());
    }
}

#[tokio::test]
async fn what_reads_fail_of_says_what_clients_get() {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [user("1", 1)]).await;
    let script = Scripted::before(&mongodb).await;
    let gateway = setup(&script.uri(), "").upstream("timeout = \"2s\"").start().await;
    for (code, status) in [
        // Not the one to ask, or ending.
        (10107, 503),
        (189, 503),
        (11600, 503),
        (13435, 503),
        // `AuthenticationFailed`.
        (18, 503),
        // `MaxTimeMSExpired`.
        (50, 504),
        // `Unauthorized`, `BadValue`.
        (13, 502),
        (2, 502),
    ] {
        script.on("find", 1, Answer::Error(code, &[]));
        // Drivers try again once where that may help.
        if matches!(code, 10107 | 189 | 11600 | 13435) {
            gateway.get(&format!("/users/once-{code}")).await.code(404);
            script.on("find", 2, Answer::Error(code, &[]));
        }
        let target = format!("/users/{code}");
        let got = gateway.get(&target).await.code(status);
        assert_eq!(got.field("retry-after").is_some(), status == 503, "{code}: {got:?}");
        assert!(script.is_over(), "{code}");
        // Nothing of it was stored.
        gateway.get(&target).await.code(404).status("fwd=uri-miss; stored");
    }
}

#[tokio::test]
async fn another_primary_is_found_and_nothing_is_missed() {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [user("1", 1), user("2", 1)]).await;
    let script = Scripted::set(&mongodb, 2).await;
    let setup = setup(&script.uri(), OF_USERS).upstream("timeout = \"5s\"");
    let gateway = setup.start().await.watches().await;
    let mut n = 1;
    for primary in [1, 0] {
        hits(&gateway, "/users/1").await;
        hits(&gateway, "/users/2").await;
        script.elect(primary);
        // A read, at once, and what changes meanwhile.
        gateway.get(&format!("/users/none-{primary}")).await.code(404);
        n += 1;
        set(&mongodb, "1", n).await;
        shows(&gateway, "/users/1", &shown("1", n)).await;
        gateway.get("/users/2").await.status("hit");
    }
    assert_eq!(gateway.changes().lost, 0);
}

#[tokio::test]
async fn an_event_that_says_too_little_is_a_gap() {
    let mongodb = MongoDb::start().await;
    insert(&mongodb, [user("1", 1)]).await;
    let script = Scripted::before(&mongodb).await;
    let gateway = setup(&script.uri(), OF_USERS).start().await.watches().await;
    hits(&gateway, "/users/1").await;
    let event = doc! {
        "_id": { "_data": "82" },
        "operationType": "update",
        "ns": { "db": "app", "coll": "users" },
        "wallTime": DateTime::now(),
    };
    script.on("getMore", 1, Answer::Event(event));
    until("it is taken for lost", || gateway.changes().lost == 1).await;
    until("it is watched again", || gateway.changes().watching).await;
    gateway.get("/users/1").await.body(&shown("1", 1)).status("fwd=stale; fwd-status=304; stored");
    set(&mongodb, "1", 2).await;
    shows(&gateway, "/users/1", &shown("1", 2)).await;
    assert_eq!(gateway.changes().lost, 1);
}

#[tokio::test]
async fn an_event_that_is_too_large_is_read_without_its_documents() {
    let of_documents = "match = { \"fullDocument.n\" = { \"$gte\" = 0 } }\n";
    // Once, with its documents; and again without them.
    for (lines, is_still, lost) in
        [("", false, 0), (of_documents, false, 0), (of_documents, true, 1)]
    {
        let (mongodb, script, gateway) = watched(&format!("{OF_USERS}{lines}")).await;
        // `BSONObjectTooLarge`.
        script.on("getMore", 1, Answer::Error(10334, NOT_RESUMABLE));
        script.on("aggregate", is_still.into(), Answer::Error(10334, NOT_RESUMABLE));
        changes_meanwhile(&mongodb, &script, &gateway).await;
        let other = gateway.get("/users/2").await;
        assert_eq!(other.cache_status().contains("hit"), lost == 0, "{lines}{is_still}: {other:?}");
        // And then events come with their documents.
        set(&mongodb, "2", 2).await;
        shows(&gateway, "/users/2", &shown("2", 2)).await;
        set(&mongodb, "2", -1).await;
        set(&mongodb, "1", 3).await;
        shows(&gateway, "/users/1", &shown("1", 3)).await;
        let left_out = gateway.get("/users/2").await.body == shown("2", 2);
        assert_eq!(left_out, !lines.is_empty(), "{lines}{is_still}");
        assert_eq!(gateway.changes().lost, lost, "{lines}{is_still}");
    }
}
