//! Which of several stored responses answers a request (RFC 9111 §4.1).

use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Reply, ok, status};
use crate::support::redis::Redis;
use crate::support::tiers::Tiers;
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

/// As nginx with `gzip`, which says nothing of it in `Vary` unless it is told to.
#[tokio::test]
async fn who_cannot_decode_a_coding_does_not_get_it() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("plain").max_age(60));
    for codings in ["gzip", "gzip, br", "br, gzip;q=0"] {
        let reply = ok("coded").max_age(60).field("content-encoding", "gzip");
        origin.on("/a").with("accept-encoding", codings).reply(reply);
    }
    get!(gateway, "/a", "accept-encoding": "gzip").body("coded").status(MISS);
    get!(gateway, "/a", "accept-encoding": "gzip, br").body("coded").status("hit");
    let plain = get!(gateway, "/a").body("plain").status(VARY_MISS);
    assert_eq!(plain.field("vary"), None);
    get!(gateway, "/a", "accept-encoding": "gzip").body("plain").status("hit");

    origin.on("/b").reply(ok("always").max_age(60).field("content-encoding", "gzip"));
    get!(gateway, "/b").body("always").status(MISS);
    get!(gateway, "/b", "accept-encoding": "gzip").body("always").status("hit");
    get!(gateway, "/b", "accept-encoding": "br").body("always").status(VARY_MISS);
    get!(gateway, "/b", "accept-encoding": "br").body("always").status("hit");
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
    other.body("en").status("fwd=uri-miss; stored; collapsed=?0");
    for language in ["de", "en"] {
        get!(gateway, "/a", "accept-language": language).body(language).status("hit");
    }
    origin.saw("/a", 2);
}

#[tokio::test]
async fn each_variant_is_validated_by_its_own_validator_and_those_of_the_others() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let speaking =
        |text: &'static str| ok(text).max_age(60).etag(text).field("vary", "accept-language");
    for language in ["de", "en"] {
        origin.on("/a").with("accept-language", language).reply(speaking(language));
        get!(gateway, "/a", "accept-language": language).body(language);
    }
    gateway.clock().advance(secs(61));
    for (language, condition) in [("de", "\"de\", \"en\""), ("en", "\"en\", \"de\"")] {
        let reply = status(304).etag(language).max_age(60);
        origin
            .on("/a")
            .with("accept-language", language)
            .with("if-none-match", condition)
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

/// What a language's variant is, with its own entity tag.
fn speaking(language: &str) -> Reply {
    let reply = ok(language.to_owned()).max_age(60).etag(language);
    reply.field("vary", "accept-language").field("content-language", language)
}

#[tokio::test]
async fn language_that_is_wanted_most_is_served_from_another_requests_variant() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    for gateway in tiers.gateways(&origin).await {
        origin.on("/a").reply(ok("?").max_age(60).field("vary", "accept-language"));
        origin.on("/a").with("accept-language", "en, de").reply(speaking("de-AT"));
        get!(gateway, "/a", "accept-language": "en, de").body("de-AT").status(MISS);
        gateway.settled().await;
        for language in ["de", "DE-at", "fr;q=0.5, de;q=1.0", "de, en", "en;q=0, de"] {
            let got = get!(gateway, "/a", "accept-language": language).body("de-AT").status("hit");
            got.has("content-language", "de-AT");
        }
        for language in ["en;q=0.6, de;q=0.5", "de-CH", "fr, de", "*, de", ""] {
            let got = get!(gateway, "/a", "accept-language": language).body("?");
            got.status(VARY_MISS);
        }
        get!(gateway, "/a").body("?").status(VARY_MISS);
    }
}

#[tokio::test]
async fn coding_that_none_is_preferred_to_is_served_from_another_requests_variant() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let reply = ok("?").max_age(60).field("vary", "accept-encoding");
    origin.on("/a").reply(reply.clone());
    origin.on("/a").with("accept-encoding", "gzip, br").reply(
        ok("gzipped")
            .max_age(60)
            .field("vary", "accept-encoding")
            .field("content-encoding", "gzip"),
    );
    get!(gateway, "/a", "accept-encoding": "gzip, br").body("gzipped").status(MISS);
    for codings in ["gzip", "x-gzip, zstd", "deflate, gzip, br;q=0.9, *;q=0.1"] {
        get!(gateway, "/a", "accept-encoding": codings).body("gzipped").status("hit");
    }
    // Nobody gets what it did not ask for, or what something else is preferred to.
    for codings in ["br", "gzip;q=0.5, br", "*", "identity", "", "gzip;q=0"] {
        let gateway = Gateway::before(&origin).await;
        get!(gateway, "/a", "accept-encoding": "gzip, br").body("gzipped").status(MISS);
        get!(gateway, "/a", "accept-encoding": codings).body("?").status(VARY_MISS);
    }
    get!(gateway, "/a").body("?").status(VARY_MISS);
    // Of what came without a coding: who wants none.
    get!(gateway, "/a", "accept-encoding": "identity").body("?").status("hit");
    get!(gateway, "/a", "accept-encoding": "br").body("?").status(VARY_MISS);
}

#[tokio::test]
async fn both_may_differ_and_nothing_else() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let vary = "accept-language, accept-encoding, x-tenant";
    origin.on("/a").reply(ok("?").max_age(60).field("vary", vary));
    let reply = ok("1").max_age(60).field("vary", vary).field("content-language", "de");
    origin.on("/a").with("x-tenant", "1").reply(reply.field("content-encoding", "br"));
    get!(gateway, "/a", "accept-language": "de, en", "accept-encoding": "br", "x-tenant": "1")
        .body("1")
        .status(MISS);
    get!(gateway, "/a", "accept-language": "de", "accept-encoding": "gzip, br", "x-tenant": "1")
        .body("1")
        .status("hit");
    get!(gateway, "/a", "accept-language": "de", "accept-encoding": "br", "x-tenant": "2")
        .body("?")
        .status(VARY_MISS);
}

#[tokio::test]
async fn variant_of_others_is_not_served_once_it_is_stale_or_invalidated() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(speaking("de"));
    get!(gateway, "/a", "accept-language": "de, en").status(MISS);
    get!(gateway, "/a", "accept-language": "de").status("hit");
    gateway.clock().advance(secs(61));
    get!(gateway, "/a", "accept-language": "de, fr").body("de").status(VARY_MISS);
    get!(gateway, "/a", "accept-language": "de").body("de").status("hit");

    origin.on("/a").method("POST").reply(status(204));
    gateway.ask("POST", "/a").send().await.code(204);
    get!(gateway, "/a", "accept-language": "de").body("de").status(VARY_MISS);
    origin.saw("/a", 4);
}

#[tokio::test]
async fn origin_is_asked_about_all_variants_and_says_which_is_right() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    for (times, gateway) in (1..).zip(tiers.gateways(&origin).await) {
        for language in ["de", "en"] {
            origin.on("/a").with("accept-language", language).reply(speaking(language));
            get!(gateway, "/a", "accept-language": language).body(language);
            gateway.settled().await;
        }
        let reply = status(304).max_age(60).etag("en").field("x-new", "1");
        origin.on("/a").with("if-none-match", "\"en\", \"de\"").reply(reply);
        let got = get!(gateway, "/a", "accept-language": "pt, en;q=0.5").code(200).body("en");
        got.status("fwd=vary-miss; fwd-status=304; stored").has("x-new", "1");
        assert_eq!(origin.last("/a").field("if-modified-since"), None);
        gateway.settled().await;
        // It is a variant for such requests now, and the one that it was has been freshened.
        for language in ["pt, en;q=0.5", "en"] {
            let got = get!(gateway, "/a", "accept-language": language).body("en").status("hit");
            got.has("x-new", "1").has("content-language", "en");
        }
        get!(gateway, "/a", "accept-language": "de").body("de").status("hit").lacks("x-new");
        origin.saw("/a", 3 * times);
    }
}

#[tokio::test]
async fn gateway_asks_about_variants_that_another_one_stored() {
    let (origin, redis) = (Origin::start().await, Redis::start());
    let first = Gateway::of_fleet(&origin, &redis).await;
    let second = Gateway::of_fleet(&origin, &redis).await;
    origin.on("/a").reply(speaking("de"));
    get!(first, "/a", "accept-language": "de").body("de").status(MISS);
    first.settled().await;
    origin.on("/a").with("if-none-match", "\"de\"").reply(status(304).max_age(60).etag("de"));
    let got = get!(second, "/a", "accept-language": "pt").code(200).body("de");
    got.status("fwd=vary-miss; fwd-status=304; stored");
    get!(second, "/a", "accept-language": "pt").body("de").status("hit");
    origin.saw("/a", 2);
}

#[tokio::test]
async fn stale_variant_and_others_are_asked_about_together() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    let noon = "Sun, 06 Nov 1994 12:00:00 GMT";
    for language in ["de", "en"] {
        let reply = speaking(language).field("last-modified", noon);
        origin.on("/a").with("accept-language", language).reply(reply);
        get!(gateway, "/a", "accept-language": language).body(language);
    }
    gateway.clock().advance(secs(61));
    // The page in English has replaced the one in German.
    let reply = status(304).max_age(60).etag("en");
    origin.on("/a").with("if-none-match", "\"de\", \"en\"").reply(reply);
    let got = get!(gateway, "/a", "accept-language": "de").code(200).body("en");
    got.status("fwd=stale; fwd-status=304; stored");
    assert_eq!(origin.last("/a").field("if-modified-since"), None);
    for language in ["de", "en"] {
        get!(gateway, "/a", "accept-language": language).body("en").status("hit");
    }
    origin.saw("/a", 3);
}

#[tokio::test]
async fn a_304_that_names_no_variant_is_not_believed() {
    let origin = Origin::start().await;
    for reply in [status(304).etag("fr"), status(304), status(304).field("etag", "W/\"fr\"")] {
        let gateway = Gateway::before(&origin).await;
        for language in ["de", "en"] {
            origin.on("/a").with("accept-language", language).reply(speaking(language));
            get!(gateway, "/a", "accept-language": language).body(language);
        }
        origin.on("/a").with("accept-language", "fr").reply(speaking("fr"));
        origin.on("/a").with("if-none-match", "\"en\", \"de\"").reply(reply.max_age(60));
        get!(gateway, "/a", "accept-language": "fr").code(200).body("fr").status(VARY_MISS);
        assert_eq!(origin.last("/a").field("if-none-match"), None);
        get!(gateway, "/a", "accept-language": "fr").body("fr").status("hit");
    }
    origin.saw("/a", 12);
}

#[tokio::test]
async fn client_is_not_given_a_coding_that_shares_its_tag() {
    let origin = Origin::start().await;
    // As servers do that encode on the way out and tag before.
    let reply = |text: &'static str| {
        ok(text).max_age(60).field("etag", "W/\"1\"").field("vary", "accept-encoding")
    };
    origin.on("/a").reply(reply("plain"));
    origin
        .on("/a")
        .with("accept-encoding", "gzip")
        .reply(reply("gzipped").field("content-encoding", "gzip"));
    origin.on("/a").with("if-none-match", "W/\"1\"").reply(status(304).field("etag", "W/\"1\""));
    for codings in ["br", "identity", "gzip;q=0, *"] {
        let gateway = Gateway::before(&origin).await;
        get!(gateway, "/a", "accept-encoding": "gzip").body("gzipped").status(MISS);
        get!(gateway, "/a", "accept-encoding": codings).body("plain").status(VARY_MISS);
    }
    let gateway = Gateway::before(&origin).await;
    get!(gateway, "/a", "accept-encoding": "gzip").body("gzipped").status(MISS);
    // Who can decode it may have it.
    let got = get!(gateway, "/a", "accept-encoding": "br, gzip;q=0.5").body("gzipped");
    got.status("fwd=vary-miss; fwd-status=304; stored");
}

#[tokio::test]
async fn variant_that_was_invalidated_is_not_asked_about() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(speaking("de"));
    get!(gateway, "/a", "accept-language": "de").status(MISS);
    origin.on("/a").method("POST").reply(status(204));
    gateway.ask("POST", "/a").send().await.code(204);
    get!(gateway, "/a", "accept-language": "pt").body("de").status(VARY_MISS);
    assert_eq!(origin.last("/a").field("if-none-match"), None);
}

#[tokio::test]
async fn forward_request_names_sixteen_tags_at_most() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    for n in 0..20 {
        let reply = ok("1").max_age(60).etag(&n.to_string()).field("vary", "x-n");
        origin.on("/a").reply(reply);
        get!(gateway, "/a", "x-n": &n.to_string());
    }
    let tags = origin.last("/a").field("if-none-match").unwrap();
    let tags: Vec<_> = tags.split(", ").collect();
    assert_eq!((tags.len(), tags[0], tags[15]), (16, "\"18\"", "\"3\""), "the newest");
}

/// RFC 9111 §4: "When more than one suitable response is stored, a cache MUST use the most recent one
/// (as determined by the Date header field)."
#[tokio::test]
async fn the_most_recent_of_several_answers() {
    let (origin, tiers) = (Origin::start().await, Tiers::start());
    for gateway in tiers.gateways(&origin).await {
        let dated = |text: &'static str, age: u64, vary: &str| {
            let date = httpdate::fmt_http_date(origin.clock().now() - secs(age));
            ok(text).max_age(60).date(&date).field("vary", vary)
        };
        origin.on("/a").reply(dated("younger", 10, "x-n"));
        get!(gateway, "/a", "x-n": "1", "x-m": "1").body("younger").status(MISS);
        gateway.settled().await;
        // Stored later, but made earlier: it came through another cache, say.
        origin.on("/a").reply(dated("older", 30, "x-m"));
        get!(gateway, "/a", "x-n": "2", "x-m": "2").body("older").status(VARY_MISS);
        gateway.settled().await;
        origin.on("/a").reply(dated("older", 30, "x-m"));
        get!(gateway, "/a", "x-n": "3", "x-m": "1").body("older").status(VARY_MISS);
        gateway.settled().await;
        get!(gateway, "/a", "x-n": "1", "x-m": "1").body("younger").status("hit");
        get!(gateway, "/a", "x-n": "4", "x-m": "1").body("older").status("hit");
        // Only of those that are suitable: what is fresh before what is not.
        gateway.clock().advance(secs(31));
        get!(gateway, "/a", "x-n": "1", "x-m": "1").body("younger").status("hit");
        let got = get!(gateway, "/a", "x-n": "4", "x-m": "1").body("older");
        got.status("fwd=stale; detail=no-validator");
    }
}

/// §4.1: "Some resources mistakenly omit the Vary header field from their default response, … with
/// the effect of choosing it for subsequent requests to that resource even when more preferable
/// responses are available."
#[tokio::test]
async fn a_default_that_omits_vary_hides_no_variant() {
    let origin = Origin::start().await;
    let gateway = Gateway::before(&origin).await;
    origin.on("/a").reply(ok("default").max_age(60));
    for language in ["de", "en"] {
        let reply = ok(language).max_age(60).field("vary", "accept-language");
        origin.on("/a").with("accept-language", language).reply(reply);
        get!(gateway, "/a", "accept-language": language).body(language);
    }
    get!(gateway, "/a").body("default").status(VARY_MISS);
    for language in ["de", "en"] {
        get!(gateway, "/a", "accept-language": language).body(language).status("hit");
    }
    get!(gateway, "/a").body("default").status("hit");
    // Nothing says that it is not for others, too.
    get!(gateway, "/a", "accept-language": "fr").body("default").status("hit");
    origin.saw("/a", 3);

    // A variant that is stale is no more preferable than what is fresh.
    gateway.clock().advance(secs(61));
    get!(gateway, "/a").body("default").status("fwd=stale; stored");
    get!(gateway, "/a", "accept-language": "de").body("default").status("hit");
    origin.saw("/a", 4);
}
