//! Equal misses share one forward request (RFC 9111 §4), and nobody gets what is not theirs.

use crate::support::client::{Got, Http2, answers, sent};
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, pieces, status};
use crate::support::raw::{RawOrigin, Step};
use crate::support::wire::Line;
use crate::support::{secs, until};

/// What `Cache-Status` says, sorted, each with how often.
fn statuses(answers: &[Got]) -> Vec<(String, usize)> {
    let mut counted = std::collections::BTreeMap::new();
    for answer in answers {
        *counted.entry(answer.cache_status()).or_default() += 1;
    }
    counted.into_iter().collect()
}

fn counts(expected: &[(&str, usize)]) -> Vec<(String, usize)> {
    expected.iter().map(|(status, count)| ((*status).to_owned(), *count)).collect()
}

async fn asked(origin: &Origin, target: &str, times: usize) {
    until(&format!("the origin is asked {times} times"), || origin.count(target) >= times).await;
}

#[tokio::test]
async fn equal_misses_are_one_forward_request() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).server("workers = 2").start().await;
    let held = origin.on("/a").hold(ok("1").max_age(60));

    let sent = sent((0..20).map(|_| gateway.ask("GET", "/a")));
    gateway.reaches("followers", 19).await;
    held.release();
    let answers = answers(sent).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == "1"));
    assert_eq!(
        statuses(&answers),
        counts(&[("fwd=uri-miss; collapsed", 19), ("fwd=uri-miss; stored", 1)])
    );
    origin.saw("/a", 1);
    assert_eq!((gateway.figure("collapsed"), gateway.figure("upstream_requests")), (19, 1));
    gateway.get("/a").await.body("1").status("hit");
}

#[tokio::test]
async fn requests_that_differ_do_not_wait_for_one_another() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let held = origin.on("/a").hold(ok("held").max_age(60));
    origin.on("/a?b").reply(ok("other query").max_age(60));
    origin.on("/b").reply(ok("other path").max_age(60));
    let leader = tokio::spawn(gateway.ask("GET", "/a").send());
    asked(&origin, "/a", 1).await;

    gateway.get("/a?b").await.body("other query").status("fwd=uri-miss; stored");
    gateway.get("/b").await.body("other path").status("fwd=uri-miss; stored");
    let other = tokio::spawn(gateway.ask("GET", "/a").field("host", "other.example").send());
    asked(&origin, "/a", 2).await;
    held.release();
    leader.await.unwrap().status("fwd=uri-miss; stored");
    other.await.unwrap().status("fwd=uri-miss; stored");
    assert_eq!(gateway.figure("followers"), 0);
}

#[tokio::test]
async fn streams_of_one_http2_connection_collapse_too() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let held = origin.on("/a").hold(ok("1").max_age(60));
    let client = Http2::to(gateway.address()).await;

    let sent: Vec<_> = (0..10).map(|_| tokio::spawn(client.get("/a"))).collect();
    gateway.reaches("followers", 9).await;
    held.release();
    let answers = answers(sent).await;
    assert!(answers.iter().all(|answer| answer.body == "1"));
    assert_eq!(
        statuses(&answers),
        counts(&[("fwd=uri-miss; collapsed", 9), ("fwd=uri-miss; stored", 1)])
    );
    origin.saw("/a", 1);
}

#[tokio::test]
async fn followers_outlive_a_leader_who_leaves_before_the_head() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let held = origin.on("/a").hold(ok("1").max_age(60));
    let mut leader = Line::to(gateway.address()).await;
    let request = format!("GET /a HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.address());
    leader.send(request.as_bytes()).await;
    asked(&origin, "/a", 1).await;
    let followers = sent((0..3).map(|_| gateway.ask("GET", "/a")));
    gateway.reaches("followers", 3).await;

    leader.leave().await;
    held.release();
    let answers = answers(followers).await;
    assert!(answers.iter().all(|answer| answer.body == "1"));
    assert_eq!(statuses(&answers), counts(&[("fwd=uri-miss; collapsed", 3)]));
    gateway.get("/a").await.body("1").status("hit");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn followers_outlive_a_leader_who_leaves_within_the_content() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let (reply, content) = pieces();
    origin.on("/a").reply(reply.max_age(60));
    let mut leader = Line::to(gateway.address()).await;
    let request = format!("GET /a HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.address());
    leader.send(request.as_bytes()).await;
    content.send("one ");
    leader.until("one \r\n").await;
    // They come within the content, and still get all of it.
    let followers = sent((0..3).map(|_| gateway.ask("GET", "/a")));
    gateway.reaches("followers", 3).await;

    leader.leave().await;
    content.send("two");
    content.end();
    let answers = answers(followers).await;
    assert!(answers.iter().all(|answer| answer.body == "one two"), "{answers:?}");
    assert_eq!(statuses(&answers), counts(&[("fwd=uri-miss; collapsed", 3)]));
    gateway.get("/a").await.body("one two").status("hit");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn a_fetch_goes_on_for_the_store_when_everyone_has_left() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let held = origin.on("/a").hold(ok("1").max_age(60));
    let request = format!("GET /a HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.address());
    let mut leader = Line::to(gateway.address()).await;
    leader.send(request.as_bytes()).await;
    asked(&origin, "/a", 1).await;
    let mut follower = Line::to(gateway.address()).await;
    follower.send(request.as_bytes()).await;
    gateway.reaches("followers", 1).await;

    leader.leave().await;
    follower.leave().await;
    held.release();
    gateway.reaches("stored", 1).await;
    gateway.get("/a").await.body("1").status("hit");
    origin.saw("/a", 1);
}

#[tokio::test]
async fn a_response_for_one_client_never_reaches_another() {
    for (name, value, detail) in [
        ("cache-control", "private, max-age=60", "private"),
        ("cache-control", "no-store", "no-store"),
        ("set-cookie", "session=1", "set-cookie"),
    ] {
        let origin = Origin::start().await;
        let gateway = Gateway::setup(&origin).server("workers = 2").start().await;
        let held: Vec<_> = (0..5)
            .map(|user| {
                let reply = ok(format!("of {user}")).field(name, value);
                origin.on("/a").with("x-user", &user.to_string()).hold(reply)
            })
            .collect();
        let ask = |user: usize| gateway.ask("GET", "/a").field("x-user", &user.to_string());

        let leader = tokio::spawn(ask(0).send());
        asked(&origin, "/a", 1).await;
        let followers = sent((1..5).map(ask));
        gateway.reaches("followers", 4).await;
        origin.saw("/a", 1);
        for held in &held {
            held.release();
        }
        let expected = format!("fwd=uri-miss; detail={detail}");
        leader.await.unwrap().code(200).body("of 0").status(&expected).has(name, value);
        let expected = format!("fwd=uri-miss; collapsed=?0; detail={detail}");
        for (user, answer) in (1..5).zip(answers(followers).await) {
            answer.code(200).body(&format!("of {user}")).status(&expected).has(name, value);
        }
        origin.saw("/a", 5);
        assert_eq!((gateway.figure("collapsed"), gateway.figure("stored")), (0, 0));
    }
}

#[tokio::test]
async fn requests_for_what_cannot_be_shared_do_not_wait_for_one_another() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").field("cache-control", "private"));
    gateway.get("/a").await.body("1").status("fwd=uri-miss; detail=private");

    let held = origin.on("/a").hold(ok("2").field("cache-control", "private"));
    let sent = sent((0..5).map(|_| gateway.ask("GET", "/a")));
    // All are there at once, while none has been answered.
    asked(&origin, "/a", 6).await;
    assert_eq!(gateway.figure("followers"), 0);
    held.release();
    let answers = answers(sent).await;
    assert_eq!(statuses(&answers), counts(&[("fwd=uri-miss; detail=private", 5)]));

    // What can be shared now is stored as ever.
    origin.on("/a").reply(ok("3").max_age(60));
    gateway.get("/a").await.body("3").status("fwd=uri-miss; stored");
    gateway.get("/a").await.body("3").status("hit");
    origin.saw("/a", 7);
}

/// One client is enough to bring these about, and the others are to go on together.
#[tokio::test]
async fn what_one_client_sends_does_not_part_the_others() {
    let of_user = "fwd=request; fwd-status=304; detail=authorization";
    for (field, value, reply, code, expected) in [
        ("authorization", "Bearer x", status(304).etag("1"), 200, of_user),
        ("accept", "a/b", status(406), 406, "fwd=request; detail=no-freshness"),
    ] {
        let origin = Origin::start().await;
        let gateway = Gateway::before(&origin).await;
        origin.on("/a").reply(ok("1").max_age(60).etag("1"));
        gateway.get("/a").await.body("1").status("fwd=uri-miss; stored");
        origin.on("/a").reply(reply);
        let ask = gateway.ask("GET", "/a").field(field, value).field("cache-control", "no-cache");
        ask.send().await.code(code).status(expected);

        gateway.clock().advance(secs(61));
        let held = origin.on("/a").hold(ok("2").max_age(60));
        let sent = sent((0..20).map(|_| gateway.ask("GET", "/a")));
        gateway.reaches("followers", 19).await;
        held.release();
        let answers = answers(sent).await;
        assert!(answers.iter().all(|answer| answer.body == "2"), "{field}");
        origin.saw("/a", 3);
    }
}

/// As soon as it is known that a cookie makes a difference.
#[tokio::test]
async fn what_is_for_one_user_does_not_part_those_without_a_cookie() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = |body: &str| ok(body.to_owned()).max_age(60).field("vary", "cookie");
    origin.on("/a").reply(reply("1"));
    gateway.get("/a").await.body("1").status("fwd=uri-miss; stored");
    let mine = ok("mine").field("cache-control", "private").field("vary", "cookie");
    origin.on("/a").with("cookie", "s=1").reply(mine);
    let user = || gateway.ask("GET", "/a").field("cookie", "s=1");
    user().send().await.body("mine").status("fwd=vary-miss; detail=private");
    gateway.clock().advance(secs(61));
    user().send().await.body("mine").status("fwd=vary-miss; detail=private");

    let held = origin.on("/a").hold(reply("2"));
    let sent = sent((0..20).map(|_| gateway.ask("GET", "/a")));
    gateway.reaches("followers", 19).await;
    held.release();
    let answers = answers(sent).await;
    assert!(answers.iter().all(|answer| answer.body == "2"));
    assert_eq!(
        statuses(&answers),
        counts(&[("fwd=stale; collapsed", 19), ("fwd=stale; stored", 1)])
    );
    origin.saw("/a", 4);
}

/// One of those who waited goes forward for all.
#[tokio::test]
async fn trouble_of_one_does_not_part_those_who_waited() {
    for code in [406, 503] {
        let origin = Origin::start().await;
        let gateway = Gateway::setup(&origin).server("workers = 2").start().await;
        let trouble = origin.on("/a").with("accept", "a/b").hold(status(code));
        let leader = tokio::spawn(gateway.ask("GET", "/a").field("accept", "a/b").send());
        asked(&origin, "/a", 1).await;
        let held = origin.on("/a").hold(ok("1").max_age(60));
        let sent = sent((0..10).map(|_| gateway.ask("GET", "/a")));
        gateway.reaches("followers", 10).await;
        trouble.release();
        leader.await.unwrap().code(code).status("fwd=uri-miss; detail=no-freshness");
        gateway.reaches("followers", 19).await;
        asked(&origin, "/a", 2).await;
        held.release();
        let answers = answers(sent).await;
        assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == "1"));
        assert_eq!(
            statuses(&answers),
            counts(&[("fwd=uri-miss; collapsed", 9), ("fwd=uri-miss; stored; collapsed=?0", 1)])
        );
        origin.saw("/a", 2);
    }
}

#[tokio::test]
async fn who_has_waited_twice_in_vain_does_not_wait_again() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let first = origin.on("/a").hold(status(503));
    let sent = sent((0..4).map(|_| gateway.ask("GET", "/a")));
    gateway.reaches("followers", 3).await;
    asked(&origin, "/a", 1).await;
    let second = origin.on("/a").hold(status(503));
    first.release();
    gateway.reaches("followers", 5).await;
    asked(&origin, "/a", 2).await;
    let third = origin.on("/a").hold(ok("1").max_age(60));
    second.release();
    // Both are there at once, while neither has been answered.
    asked(&origin, "/a", 4).await;
    third.release();
    let answers = answers(sent).await;
    let count = |code: u16| answers.iter().filter(|answer| answer.status == code).count();
    assert_eq!((count(503), count(200)), (2, 2), "{answers:?}");
    assert_eq!(gateway.figure("followers"), 5);
    origin.saw("/a", 4);
}

#[tokio::test]
async fn users_do_not_wait_for_what_is_for_one_of_them() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let ask =
        |user: usize| gateway.ask("GET", "/a").field("authorization", &format!("Bearer {user}"));
    origin.on("/a").reply(ok("1").max_age(60));
    ask(0).send().await.body("1").status("fwd=uri-miss; detail=authorization");

    let held = origin.on("/a").hold(ok("2").max_age(60));
    let sent = sent((1..6).map(ask));
    // All are there at once, while none has been answered.
    asked(&origin, "/a", 6).await;
    assert_eq!(gateway.figure("followers"), 0);
    held.release();
    let answers = answers(sent).await;
    assert_eq!(statuses(&answers), counts(&[("fwd=uri-miss; detail=authorization", 5)]));
}

#[tokio::test]
async fn a_clients_own_condition_reaches_the_origin_where_nothing_can_be_shared() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let private = |body: &str| ok(body.to_owned()).field("cache-control", "private").etag("v1");
    origin.on("/a").reply(private("1"));
    // Nobody knows yet that it cannot: the condition is kept back for the store's sake.
    let conditional = || gateway.ask("GET", "/a").field("if-none-match", "\"v1\"");
    conditional().send().await.code(200).body("1").status("fwd=uri-miss; detail=private");
    assert_eq!(origin.last("/a").field("if-none-match"), None);

    origin.on("/a").with("if-none-match", "\"v1\"").reply(status(304).etag("v1"));
    conditional().send().await.code(304).body("").status("fwd=uri-miss; detail=status");
    gateway.get("/a").await.code(200).body("1").status("fwd=uri-miss; detail=private");
    assert_eq!(origin.last("/a").field("if-none-match"), None);
    origin.saw("/a", 3);
}

#[tokio::test]
async fn a_condition_of_the_store_stands_alone() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).etag("v1"));
    gateway.get("/a").await.body("1").status("fwd=uri-miss; stored");
    // The stored response becomes stale, and its key one that is not shared.
    gateway.clock().advance(secs(61));
    origin.on("/a").reply(status(403));
    gateway.get("/a").await.code(403).status("fwd=stale; detail=no-freshness");
    assert_eq!(origin.last("/a").field("if-none-match").as_deref(), Some("\"v1\""));
    origin.on("/a").reply(ok("mine").max_age(60));

    // With both, a 304 without `ETag` could be about either.
    gateway.ask("GET", "/a").field("if-none-match", "\"v2\"").send().await.body("mine");
    assert_eq!(origin.last("/a").field("if-none-match").as_deref(), Some("\"v1\""));
    origin.saw("/a", 3);
}

#[tokio::test]
async fn a_follower_takes_only_a_variant_of_its_own() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply =
        |language: &str| ok(language.to_owned()).max_age(60).field("vary", "accept-language");
    let held = origin.on("/a").with("accept-language", "de").hold(reply("de"));
    origin.on("/a").with("accept-language", "en").reply(reply("en"));
    let ask = |language: &str| gateway.ask("GET", "/a").field("accept-language", language);

    let leader = tokio::spawn(ask("de").send());
    asked(&origin, "/a", 1).await;
    let german = sent((0..2).map(|_| ask("de")));
    let english = sent((0..2).map(|_| ask("en")));
    gateway.reaches("followers", 4).await;
    held.release();
    leader.await.unwrap().body("de").status("fwd=uri-miss; stored");
    for answer in answers(german).await {
        answer.body("de").status("fwd=uri-miss; collapsed");
    }
    let english = answers(english).await;
    assert!(english.iter().all(|answer| answer.body == "en"));
    // The later one waits for what the earlier one fetches, or finds what that has stored.
    let count = |status: &str| english.iter().filter(|got| got.cache_status() == status).count();
    let shared = count("fwd=uri-miss; collapsed") + count("hit");
    assert_eq!((count("fwd=uri-miss; stored; collapsed=?0"), shared), (1, 1), "{english:?}");

    ask("de").send().await.body("de").status("hit");
    ask("en").send().await.body("en").status("hit");
}

#[tokio::test]
async fn who_waited_for_another_variant_shares_the_fetch_of_its_own() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).server("workers = 2").start().await;
    let [german, english] = ["de", "en"].map(|language| {
        let reply = ok(language).max_age(60).field("vary", "accept-language");
        origin.on("/a").with("accept-language", language).hold(reply)
    });
    let ask = |language: &str| gateway.ask("GET", "/a").field("accept-language", language);

    let leader = tokio::spawn(ask("de").send());
    asked(&origin, "/a", 1).await;
    let followers = sent((0..5).map(|_| ask("en")));
    gateway.reaches("followers", 5).await;
    german.release();
    leader.await.unwrap().body("de").status("fwd=uri-miss; stored");
    gateway.reaches("followers", 9).await;
    asked(&origin, "/a", 2).await;
    english.release();
    let answers = answers(followers).await;
    assert!(answers.iter().all(|answer| answer.body == "en"));
    assert_eq!(
        statuses(&answers),
        counts(&[("fwd=uri-miss; collapsed", 4), ("fwd=uri-miss; stored; collapsed=?0", 1)])
    );
    origin.saw("/a", 2);
}

#[tokio::test]
async fn requests_for_known_variants_do_not_wait_for_those_for_others() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).server("workers = 2").start().await;
    let reply = |body: String| ok(body).max_age(60).field("vary", "accept-language");
    let ask = |language: &str| gateway.ask("GET", "/a").field("accept-language", language);
    for language in ["de", "en"] {
        origin.on("/a").with("accept-language", language).reply(reply(language.to_owned()));
        ask(language).send().await.body(language);
    }
    gateway.clock().advance(secs(61));

    let held = ["de", "en", "fr"].map(|language| {
        let reply = reply(format!("new {language}"));
        origin.on("/a").with("accept-language", language).hold(reply)
    });
    let sent = ["de", "en", "fr"].map(|language| (language, sent((0..3).map(|_| ask(language)))));
    // One of each is there, while none has been answered.
    asked(&origin, "/a", 5).await;
    gateway.reaches("followers", 6).await;
    for held in &held {
        held.release();
    }
    for (language, sent) in sent {
        let answers = answers(sent).await;
        let expected = format!("new {language}");
        assert!(answers.iter().all(|answer| answer.body == expected), "{answers:?}");
        let why = if language == "fr" { "vary-miss" } else { "stale" };
        let (shared, stored) = (format!("fwd={why}; collapsed"), format!("fwd={why}; stored"));
        assert_eq!(statuses(&answers), counts(&[(shared.as_str(), 2), (stored.as_str(), 1)]));
    }
    origin.saw("/a", 5);
}

/// Nor what has become stale while it waited.
#[tokio::test]
async fn who_waited_in_vain_gets_what_is_fresh_by_then() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = |body: &str, seconds: u64| {
        ok(body.to_owned()).max_age(seconds).field("vary", "accept-language")
    };
    let held = origin.on("/a").with("accept-language", "de").hold(reply("de", 60));
    origin.on("/a").with("accept-language", "en").reply(reply("old", 5));
    let ask = |language: &str| gateway.ask("GET", "/a").field("accept-language", language);

    let leader = tokio::spawn(ask("de").send());
    asked(&origin, "/a", 1).await;
    let follower = tokio::spawn(ask("en").send());
    gateway.reaches("followers", 1).await;
    ask("en").field("cache-control", "no-cache").send().await.body("old");
    ask("en").send().await.body("old").status("hit");

    origin.on("/a").with("accept-language", "en").reply(reply("new", 60));
    gateway.clock().advance(secs(10));
    held.release();
    leader.await.unwrap().body("de").status("fwd=uri-miss; stored");
    follower.await.unwrap().body("new").status("fwd=uri-miss; stored; collapsed=?0");
    origin.saw("/a", 3);
}

#[tokio::test]
async fn a_route_can_do_without() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("collapse = false").start().await;
    let held = origin.on("/a").hold(ok("1").max_age(60));
    let sent = sent((0..3).map(|_| gateway.ask("GET", "/a")));
    asked(&origin, "/a", 3).await;
    held.release();
    let answers = answers(sent).await;
    assert_eq!(statuses(&answers), counts(&[("fwd=uri-miss; stored", 3)]));
    gateway.get("/a").await.body("1").status("hit");
    origin.saw("/a", 3);
    assert_eq!(gateway.figure("followers"), 0);
}

#[tokio::test]
async fn no_cache_wants_an_answer_that_was_fetched_for_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let held = origin.on("/a").hold(ok("old").max_age(60));
    let leader = tokio::spawn(gateway.ask("GET", "/a").send());
    asked(&origin, "/a", 1).await;

    origin.on("/a").reply(ok("new").max_age(60));
    let ask = gateway.ask("GET", "/a").field("cache-control", "no-cache");
    ask.send().await.body("new").status("fwd=uri-miss; stored");
    assert_eq!(gateway.figure("followers"), 0);
    held.release();
    leader.await.unwrap().body("old").status("fwd=uri-miss; stored");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn a_failure_is_shared_by_all_who_waited_and_by_nobody_else() {
    let origin = RawOrigin::start(&[Step::Head, Step::Wait]).await;
    let gateway = Gateway::setup_before(&[origin.url()]).server("workers = 2").start().await;
    let sent = sent((0..5).map(|_| gateway.ask("GET", "/a")));
    gateway.reaches("followers", 4).await;
    origin.release();
    let answers = answers(sent).await;
    assert!(answers.iter().all(|answer| answer.status == 502));
    assert_eq!(
        statuses(&answers),
        counts(&[
            ("fwd=uri-miss; collapsed; detail=upstream-broken", 4),
            ("fwd=uri-miss; detail=upstream-broken", 1)
        ])
    );
    assert_eq!(origin.heads().len(), 2, "one request, repeated since the connection closed");
    assert_eq!(gateway.figure("upstream_failures"), 1, "one forward request for all");

    gateway.get("/a").await.code(502).status("fwd=uri-miss; detail=upstream-broken");
    assert_eq!(origin.heads().len(), 4, "a failure is not remembered");
}

#[tokio::test]
async fn silence_is_shared_by_all_who_waited() {
    let origin = RawOrigin::start(&[Step::Head, Step::Stay]).await;
    let setup = Gateway::setup_before(&[origin.url()]).upstream("timeout = \"1s\"");
    let gateway = setup.start().await;
    let sent = sent((0..3).map(|_| gateway.ask("GET", "/a")));
    let answers = answers(sent).await;
    assert!(answers.iter().all(|answer| answer.status == 504));
    assert_eq!(
        statuses(&answers),
        counts(&[
            ("fwd=uri-miss; collapsed; detail=upstream-timeout", 2),
            ("fwd=uri-miss; detail=upstream-timeout", 1)
        ])
    );
    assert_eq!(origin.heads().len(), 1);
}

#[tokio::test]
async fn a_fetch_that_began_before_an_invalidation_is_not_joined_after_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let held = origin.on("/a").method("GET").hold(ok("old").max_age(60));
    origin.on("/a").method("PUT").reply(status(204));
    let before = sent((0..2).map(|_| gateway.ask("GET", "/a")));
    gateway.reaches("followers", 1).await;
    asked(&origin, "/a", 1).await;

    gateway.ask("PUT", "/a").send().await.code(204).status("fwd=method");
    let held_too = origin.on("/a").method("GET").hold(ok("new").max_age(60));
    let after = sent((0..2).map(|_| gateway.ask("GET", "/a")));
    // They have a leader of their own, while the earlier one still waits.
    gateway.reaches("followers", 2).await;
    asked(&origin, "/a", 3).await;
    held_too.release();
    for answer in answers(after).await {
        answer.body("new");
    }
    gateway.get("/a").await.body("new").status("hit");

    // Those who asked before the write may be told what was before it. Nobody after them is.
    held.release();
    for answer in answers(before).await {
        answer.body("old");
    }
    gateway.get("/a").await.body("new").status("hit");
    origin.saw("/a", 3);
}

#[tokio::test]
async fn what_was_fetched_before_an_invalidation_is_not_served_after_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let held = origin.on("/a").method("GET").hold(ok("old").max_age(60));
    origin.on("/a").method("DELETE").reply(status(204));
    let before = tokio::spawn(gateway.ask("GET", "/a").send());
    asked(&origin, "/a", 1).await;
    gateway.ask("DELETE", "/a").send().await.code(204);
    held.release();
    before.await.unwrap().body("old");

    origin.on("/a").method("GET").reply(status(404).max_age(60));
    gateway.get("/a").await.code(404).status("fwd=uri-miss; stored");
    origin.saw("/a", 3);
}

#[tokio::test]
async fn a_validation_is_shared() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).etag("v1"));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    gateway.clock().advance(secs(61));
    let not_modified = status(304).max_age(60).etag("v1");
    let held = origin.on("/a").with("if-none-match", "\"v1\"").hold(not_modified);

    let asks = (0..5).map(|_| gateway.ask("GET", "/a"));
    let sent = sent(asks.chain([gateway.ask("GET", "/a").field("if-none-match", "\"v1\"")]));
    gateway.reaches("followers", 5).await;
    held.release();
    let mut answers = answers(sent).await;
    let conditional = answers.pop().unwrap();
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == "1"));
    conditional.clone().code(304).body("");
    answers.push(conditional);
    assert_eq!(
        statuses(&answers),
        counts(&[
            ("fwd=stale; fwd-status=304; collapsed", 5),
            ("fwd=stale; fwd-status=304; stored", 1)
        ])
    );
    gateway.get("/a").await.body("1").status("hit");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn a_validation_that_finds_a_new_response_is_shared_too() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).etag("v1"));
    gateway.get("/a").await.status("fwd=uri-miss; stored");
    gateway.clock().advance(secs(61));
    let held = origin.on("/a").hold(ok("2").max_age(60).etag("v2"));

    let sent = sent((0..3).map(|_| gateway.ask("GET", "/a")));
    gateway.reaches("followers", 2).await;
    held.release();
    let answers = answers(sent).await;
    assert!(answers.iter().all(|answer| answer.body == "2"));
    assert_eq!(
        statuses(&answers),
        counts(&[("fwd=stale; collapsed", 2), ("fwd=stale; stored", 1)])
    );
    origin.saw("/a", 2);
}

/// RFC 9111 §4.2.4, §5.2.2.4: what is on its way is used as what is stored is.
#[tokio::test]
async fn who_comes_late_gets_what_may_still_be_used() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (control, directive, is_shared) in [
        ("max-age=60", "", true),
        ("max-age=1, must-revalidate", "", false),
        ("no-cache", "", false),
        ("max-age=60", "max-age=5", false),
    ] {
        let (reply, content) = pieces();
        origin.on("/a").reply(reply.field("cache-control", control).etag("1"));
        let mut leader = gateway.ask("GET", "/a").open().await;
        content.send("one ");
        leader.piece().await.unwrap().unwrap();
        gateway.clock().advance(secs(10));
        origin.on("/a").reply(ok("newer").max_age(60));
        let late = gateway.ask("GET", "/a");
        let late = if directive.is_empty() { late } else { late.field("cache-control", directive) };
        let followers = gateway.figure("followers");
        let late = tokio::spawn(late.send());
        gateway.reaches("followers", followers + 1).await;
        if is_shared {
            content.send("two");
            content.end();
            late.await.unwrap().body("one two").status("fwd=uri-miss; collapsed");
        } else {
            late.await.unwrap().body("newer");
            content.end();
        }
        leader.finish().await.unwrap();
        gateway.clock().advance(secs(600));
        gateway.admin("POST", "/purge/all").send().await;
    }
}
