//! Which of several stored responses answers a request (RFC 9111 §4.1).

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, ok, status};
use crate::support::{secs, until};

const MISS: &str = "fwd=uri-miss; stored";
const VARY_MISS: &str = "fwd=vary-miss; stored";

/// A request with these lines.
macro_rules! get {
    ($gateway:expr, $target:expr $(, $name:literal: $value:expr)*) => {
        $gateway.ask("GET", $target)$(.field($name, $value))*.send().await
    };
}

#[tokio::test]
async fn variants_are_kept_apart() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let speaking = |text: &'static str| ok(text).max_age(60).field("vary", "Accept-Language");
    origin.on("/a").reply(speaking("none"));
    for language in ["de", "en"] {
        origin.on("/a").with("accept-language", language).reply(speaking(language));
    }
    get!(gateway, "/a", "accept-language": "de").body("de").status(MISS);
    get!(gateway, "/a", "accept-language": "en").body("en").status(VARY_MISS);
    get!(gateway, "/a").body("none").status(VARY_MISS);
    for _ in 0..2 {
        for language in ["de", "en"] {
            let got = get!(gateway, "/a", "accept-language": language).body(language).status("hit");
            got.has("vary", "Accept-Language");
        }
        get!(gateway, "/a").body("none").status("hit");
    }
    origin.saw("/a", 3);
}

#[tokio::test]
async fn lists_that_mean_the_same_select_the_same() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).field("vary", "accept-language"));
    get!(gateway, "/a", "accept-language": "de, en;q=0.5").status(MISS);
    get!(gateway, "/a", "accept-language": "de,en; Q=0.500").status("hit");
    get!(gateway, "/a", "accept-language": "DE", "accept-language": "en;q=0.5").status("hit");
    get!(gateway, "/a", "accept-language": "en;q=0.5 ,, de;q=1.0, ").status("hit");
    get!(gateway, "/a", "accept-language": "de, en").status(VARY_MISS);
    // Some recipients take the order for a priority.
    get!(gateway, "/a", "accept-language": "en, de").status(VARY_MISS);
    get!(gateway, "/a", "accept-language": "").status(VARY_MISS);
    get!(gateway, "/a").status(VARY_MISS);
    origin.saw("/a", 5);

    origin.on("/b").reply(ok("1").max_age(60).field("vary", "accept-encoding, accept"));
    get!(gateway, "/b", "accept-encoding": "gzip, br", "accept": "a/b, c/d;level=1").status(MISS);
    for (codings, types) in [("br, gzip", "c/d;level=1,a/b"), ("BR,X-GZIP", "A/B,C/D; Level=\"1\"")]
    {
        get!(gateway, "/b", "accept-encoding": codings, "accept": types).status("hit");
    }
    get!(gateway, "/b", "accept-encoding": "gzip, br", "accept": "a/b, c/d").status(VARY_MISS);
    get!(gateway, "/b", "accept-encoding": "gzip, br;q=0", "accept": "a/b").status(VARY_MISS);
    origin.saw("/b", 3);
}

#[tokio::test]
async fn what_is_no_list_is_compared_as_it_came() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("1").max_age(60).field("vary", "accept-encoding"));
    get!(gateway, "/a", "accept-encoding": "gzip;q=2").status(MISS);
    get!(gateway, "/a", "accept-encoding": "gzip;q=2").status("hit");
    get!(gateway, "/a", "accept-encoding": "gzip; q=2").status(VARY_MISS);
    get!(gateway, "/a", "accept-encoding": "gzip").status(VARY_MISS);
    origin.saw("/a", 3);

    // Of a field whose grammar is not known everything counts.
    origin.on("/b").reply(ok("1").max_age(60).field("vary", "x-list"));
    get!(gateway, "/b", "x-list": "a, b").status(MISS);
    get!(gateway, "/b", "x-list": "a", "x-list": "b").status("hit");
    get!(gateway, "/b", "x-list": "a,b").status(VARY_MISS);
    get!(gateway, "/b", "x-list": "A, b").status(VARY_MISS);
    get!(gateway, "/b", "x-list": "b, a").status(VARY_MISS);
    origin.saw("/b", 4);
}

#[tokio::test]
async fn response_that_varies_on_everything_is_never_stored() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for (target, lines) in [
        ("/alone", vec!["*"]),
        ("/last", vec!["accept, *"]),
        ("/first", vec!["*, accept"]),
        ("/second-line", vec!["accept", "*"]),
        ("/first-line", vec![" * ", "accept"]),
    ] {
        let reply = lines.iter().fold(ok("1").max_age(60), |reply, line| reply.field("vary", line));
        origin.on(target).reply(reply);
        for _ in 0..2 {
            get!(gateway, target).body("1").status("fwd=uri-miss; detail=vary-any");
        }
        origin.saw(target, 2);
    }
}

#[tokio::test]
async fn all_nominated_fields_count() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = ok("1").max_age(60).field("vary", "Accept-Language, X-Tenant");
    origin.on("/a").reply(reply.field("vary", "x-mood,accept-language"));
    get!(gateway, "/a", "accept-language": "de", "x-tenant": "1", "x-other": "1").status(MISS);
    get!(gateway, "/a", "accept-language": "de", "x-tenant": "1", "x-other": "2").status("hit");
    get!(gateway, "/a", "accept-language": "en", "x-tenant": "1").status(VARY_MISS);
    get!(gateway, "/a", "accept-language": "de", "x-tenant": "2").status(VARY_MISS);
    get!(gateway, "/a", "accept-language": "de").status(VARY_MISS);
    // The value of one field is not taken for another's.
    get!(gateway, "/a", "accept-language": "1", "x-tenant": "de").status(VARY_MISS);
    get!(gateway, "/a", "accept-language": "de", "x-tenant": "1", "x-mood": "").status(VARY_MISS);
    origin.saw("/a", 6);
}

#[tokio::test]
async fn the_oldest_variant_goes_first() {
    let origin = Origin::start().await;
    let gateway = Gateway::setup(&origin).route("variants = 2").start().await;
    origin.on("/a").reply(ok("1").max_age(60).field("vary", "x-n"));
    get!(gateway, "/a", "x-n": "1").status(MISS);
    get!(gateway, "/a", "x-n": "2").status(VARY_MISS);
    get!(gateway, "/a", "x-n": "3").status(VARY_MISS);
    get!(gateway, "/a", "x-n": "2").status("hit");
    get!(gateway, "/a", "x-n": "3").status("hit");
    get!(gateway, "/a", "x-n": "1").status(VARY_MISS);
    origin.saw("/a", 4);
}

#[tokio::test]
async fn follower_with_other_fields_goes_forward_itself() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let speaking = |text: &'static str| ok(text).max_age(60).field("vary", "accept-language");
    let held = origin.on("/a").with("accept-language", "de").hold(speaking("de"));
    origin.on("/a").with("accept-language", "en").reply(speaking("en"));
    let leader = async { get!(gateway, "/a", "accept-language": "de") };
    let alike = async {
        until("the leader is there", || origin.count("/a") == 1).await;
        get!(gateway, "/a", "accept-language": "de")
    };
    let other = async {
        gateway.reaches("followers", 1).await;
        get!(gateway, "/a", "accept-language": "en")
    };
    let release = async {
        gateway.reaches("followers", 2).await;
        held.release();
    };
    let (leader, alike, other, ()) = tokio::join!(leader, alike, other, release);
    leader.body("de").status(MISS);
    alike.body("de").status("fwd=uri-miss; collapsed");
    other.body("en").status(MISS);
    for language in ["de", "en"] {
        get!(gateway, "/a", "accept-language": language).body(language).status("hit");
    }
    origin.saw("/a", 2);
}

#[tokio::test]
async fn each_variant_is_validated_by_its_own_validator() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let speaking =
        |text: &'static str| ok(text).max_age(60).etag(text).field("vary", "accept-language");
    for language in ["de", "en"] {
        origin.on("/a").with("accept-language", language).reply(speaking(language));
        get!(gateway, "/a", "accept-language": language).body(language);
    }
    gateway.clock().advance(secs(61));
    for language in ["de", "en"] {
        let condition = format!("\"{language}\"");
        let reply = status(304).etag(language).max_age(60);
        origin
            .on("/a")
            .with("accept-language", language)
            .with("if-none-match", &condition)
            .reply(reply);
        let got = get!(gateway, "/a", "accept-language": language).body(language);
        got.status("fwd=stale; fwd-status=304; stored");
    }
    for language in ["de", "en"] {
        get!(gateway, "/a", "accept-language": language).body(language).status("hit");
    }
    origin.saw("/a", 4);
}

#[tokio::test]
async fn origin_may_change_what_it_varies_on() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("all").max_age(60));
    get!(gateway, "/a", "x-n": "1").body("all").status(MISS);
    gateway.clock().advance(secs(61));
    origin.on("/a").reply(ok("one").max_age(60).field("vary", "x-n"));
    get!(gateway, "/a", "x-n": "1").body("one").status("fwd=stale; stored");
    origin.on("/a").reply(ok("two").max_age(60).field("vary", "x-m"));
    get!(gateway, "/a", "x-n": "2", "x-m": "1").body("two").status(VARY_MISS);
    // Both answer; the newer one does.
    get!(gateway, "/a", "x-n": "1", "x-m": "1").body("two").status("hit");
    get!(gateway, "/a", "x-n": "1", "x-m": "2").body("one").status("hit");
    origin.saw("/a", 3);
}
