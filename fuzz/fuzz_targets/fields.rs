//! Every parser of a field, each with the same lines: none panics, each ends, and what is said of
//! each below holds.
//!
//! An input is text. Each line is the value of every field that has a parser; those with a colon are
//! lines of a message besides, and an empty line ends the first message and begins a second one.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    ACCEPT_ENCODING, ACCEPT_LANGUAGE, AGE, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING,
    CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, COOKIE, DATE, ETAG, EXPIRES, HOST,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION, PRAGMA, SET_COOKIE,
    TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use larder::message;
use larder::semantics::no_vary_search::NO_VARY_SEARCH;
use larder::semantics::targeted::{SURROGATE_CONTROL, response_directives};
use larder::semantics::{
    self, Asked, CacheStatus, Candidates, Chosen, Named, NoVarySearch, Posted, Preferred,
    RequestDirectives, ResponseDirectives, Rules, Tags, Times, Validators, Vary, date,
    nominated_value,
};
use libfuzzer_sys::fuzz_target;

const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");
const LONGEST: Duration = Duration::from_secs(1 << 31);

fuzz_target!(|text: &[u8]| {
    let lines: Vec<_> = text
        .split(|octet| *octet == b'\n')
        .take(8)
        .filter_map(|line| HeaderValue::from_bytes(line.trim_ascii()).ok())
        .collect();
    let (one, other) = messages(text);

    directives(&lines);
    targeted(&lines);
    nominated(&lines);
    variants(&lines);
    queries(&lines);
    tags(&lines);
    dates(&lines);
    entity_tags(&lines);
    references(&lines);
    framing_and_authority(&lines);
    status(&lines);
    storing(&one, &lines);
    freshening(&one, &other);
    one_hop(&one);
});

/// At most two messages of fields whose names are names.
fn messages(text: &[u8]) -> (HeaderMap, HeaderMap) {
    let (mut one, mut other) = (HeaderMap::new(), HeaderMap::new());
    let mut is_first = true;
    for line in text.split(|octet| *octet == b'\n').take(64) {
        is_first &= !line.is_empty();
        let Some(colon) = line.iter().position(|octet| *octet == b':') else { continue };
        let value = line[colon + 1..].trim_ascii();
        let message = if is_first { &mut one } else { &mut other };
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(value))
        {
            message.append(name, value);
        }
    }
    (one, other)
}

fn with(name: &HeaderName, lines: &[HeaderValue]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines {
        fields.append(name, line.clone());
    }
    fields
}

fn of_response(lines: &[HeaderValue]) -> ResponseDirectives {
    response_directives(&with(&CACHE_CONTROL, lines), &[])
}

fn of_request(lines: &[HeaderValue]) -> RequestDirectives {
    RequestDirectives::of(&with(&CACHE_CONTROL, lines))
}

fn value(parts: &[&[u8]]) -> HeaderValue {
    HeaderValue::from_bytes(&parts.concat()).expect("its parts are values")
}

// --- Cache-Control, Pragma -------------------------------------------------------------------------

fn directives(lines: &[HeaderValue]) {
    let (response, request) = (of_response(lines), of_request(lines));
    RequestDirectives::of(&with(&PRAGMA, lines));

    // §5.2: names have no case. Nor have field names and digits, which are all that is read.
    let lower: Vec<_> =
        lines.iter().map(|line| value(&[&line.as_bytes().to_ascii_lowercase()])).collect();
    assert_eq!(of_response(&lower), response, "by case");
    assert_eq!(of_request(&lower), request, "by case");

    for line in lines {
        // Nothing before a restriction hides it, and nothing behind it.
        let before = of_response(&[value(&[
            line.as_bytes(),
            b",no-store,private,no-cache,must-revalidate,max-age=5,s-maxage=6",
        ])]);
        let behind = of_response(&[value(&[
            b"no-store,private,no-cache,must-revalidate,max-age=5,s-maxage=6,",
            line.as_bytes(),
        ])]);
        for found in [before, behind] {
            assert!(found.no_store && found.private && found.no_cache && found.must_revalidate);
            assert!(found.max_age.is_some_and(|span| span.as_secs() <= 5));
            assert!(found.s_maxage.is_some_and(|span| span.as_secs() <= 6));
        }
        let before =
            of_request(&[value(&[line.as_bytes(), b",no-store,no-cache,max-age=5,min-fresh=5"])]);
        let behind =
            of_request(&[value(&[b"no-store,no-cache,max-age=5,min-fresh=5,", line.as_bytes()])]);
        for found in [before, behind] {
            assert!(found.no_store && found.no_cache);
            assert!(found.max_age.is_some_and(|span| span.as_secs() <= 5));
            assert!(found.min_fresh.is_some_and(|span| span.as_secs() >= 5));
        }
    }

    // Nor does another line.
    for count in 0..lines.len() {
        let fewer = of_response(&lines[..count]);
        assert!(is_as_strict(&response, &fewer), "{response:?} after {fewer:?}");
        let fewer = of_request(&lines[..count]);
        assert!(request.no_cache >= fewer.no_cache && request.no_store >= fewer.no_store);
        assert!(is_at_most(request.max_age, fewer.max_age) && request.min_fresh >= fewer.min_fresh);
        assert!(fewer.max_stale.is_none() || request.max_stale <= fewer.max_stale);
    }

    for span in [
        response.max_age,
        response.s_maxage,
        response.stale_while_revalidate,
        response.stale_if_error,
        request.max_age,
        request.min_fresh,
    ] {
        assert!(span.unwrap_or_default() <= LONGEST);
    }
    assert!(!response.excuses_no_store || response.must_understand);
}

fn is_as_strict(found: &ResponseDirectives, than: &ResponseDirectives) -> bool {
    let all =
        |one: &[HeaderName], other: &[HeaderName]| other.iter().all(|name| one.contains(name));
    found.no_store >= than.no_store
        && found.no_cache >= than.no_cache
        && found.private >= than.private
        && found.must_revalidate >= than.must_revalidate
        && found.proxy_revalidate >= than.proxy_revalidate
        && found.must_understand >= than.must_understand
        && all(&found.no_cache_fields, &than.no_cache_fields)
        && all(&found.private_fields, &than.private_fields)
        && is_at_most(found.max_age, than.max_age)
        && is_at_most(found.s_maxage, than.s_maxage)
        && is_at_most(found.stale_while_revalidate, than.stale_while_revalidate)
        && is_at_most(found.stale_if_error, than.stale_if_error)
}

fn is_at_most(found: Option<Duration>, than: Option<Duration>) -> bool {
    than.is_none_or(|than| found.is_some_and(|found| found <= than))
}

/// RFC 9213 §2.2
fn targeted(lines: &[HeaderValue]) {
    let mut fields = with(&CDN, lines);
    let alone = response_directives(&fields, &[CDN]);
    assert!(alone.targeted || alone == ResponseDirectives::default(), "ignored as a whole");
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=7, no-store"));
    let found = response_directives(&fields, &[CDN]);
    if alone.targeted {
        assert_eq!(found, alone, "it decides alone");
    } else {
        assert!(found.no_store && found.max_age == Some(Duration::from_secs(7)));
    }
    let surrogate =
        |lines| response_directives(&with(&SURROGATE_CONTROL, lines), &[SURROGATE_CONTROL]);
    let found = surrogate(lines);
    for count in 0..lines.len() {
        assert!(is_as_strict(&found, &surrogate(&lines[..count])), "another line");
    }
    let plain = of_response(lines);
    assert_eq!((found.no_store, found.private), (plain.no_store, plain.private));
    if !lines.iter().any(|line| line.as_bytes().contains(&b'+')) {
        assert_eq!(found, ResponseDirectives { targeted: found.targeted, ..plain });
    }
}

// --- Vary ------------------------------------------------------------------------------------------

fn nominated(lines: &[HeaderValue]) {
    if let Vary::Fields(names) = Vary::of(&with(&VARY, lines)) {
        assert!(names.len() <= 16 && names.windows(2).all(|two| two[0].as_str() < two[1].as_str()));
        assert!(lines.iter().all(|line| line != "*"));
    }
    let starred: Vec<_> = lines.iter().map(|line| value(&[line.as_bytes(), b", *"])).collect();
    assert!(lines.is_empty() || Vary::of(&with(&VARY, &starred)) == Vary::Any);

    for name in ["accept", "accept-language", "accept-encoding", "cookie", "x-a"] {
        let name = HeaderName::from_static(name);
        let found = nominated_value(&with(&name, lines), &name);
        assert_eq!(found.is_none(), lines.is_empty(), "absent matches absent only");
        let Some(found) = found else { continue };
        // RFC 9111 §4.1: lines may be combined, and what is normal is normal.
        let separator: &[u8] = if name == COOKIE { b"; " } else { b", " };
        let octets: Vec<_> = lines.iter().map(HeaderValue::as_bytes).collect();
        let joined = value(&[&octets.join(separator)]);
        assert_eq!(nominated_value(&with(&name, &[joined]), &name).as_ref(), Some(&found));
        let again = HeaderValue::from_bytes(&found).expect("of values");
        assert_eq!(nominated_value(&with(&name, &[again]), &name), Some(found));
    }
}

/// Whatever is chosen for a request, it accepts; and a 304 speaks of a variant that was asked about.
fn variants(lines: &[HeaderValue]) {
    let wanted = [ACCEPT_ENCODING, ACCEPT_LANGUAGE].map(|name| Preferred::of(&with(&name, lines)));
    for line in lines {
        let line = std::slice::from_ref(line);
        for name in [CONTENT_ENCODING, CONTENT_LANGUAGE] {
            let chosen = Chosen::of(&with(&name, line));
            for wanted in &wanted {
                let is_best = wanted.prefers_coding(&chosen);
                assert!(!is_best || wanted.accepts_coding(&chosen), "{wanted:?} for {chosen:?}");
                wanted.prefers_language(&chosen);
            }
        }
        let candidates = Candidates::new(None, lines.iter().cloned());
        let Some(Named::Variant(tag)) = candidates.named_by(&with(&ETAG, line)) else { continue };
        assert!(lines.contains(tag));
        let is_weak = line.iter().any(|line| line.as_bytes().starts_with(b"W/"));
        assert!(is_weak || line.contains(tag), "{line:?} names {tag:?}");
    }
    for stale in [None, Some(Validators::of(&with(&ETAG, lines)))] {
        let candidates = Candidates::new(stale, lines.iter().cloned());
        assert!(candidates.conditions().len() <= 2);
        assert!(!candidates.is_empty() || candidates.conditions().is_empty());
    }
}

/// A query is like itself, and empty parameters are none.
fn queries(lines: &[HeaderValue]) {
    let Some(rule) = NoVarySearch::of(&with(&NO_VARY_SEARCH, lines)) else { return };
    assert!(rule.is_bounded());
    for query in lines.iter().map(|line| String::from_utf8_lossy(line.as_bytes())) {
        assert!(rule.equivalent(Some(&query), Some(&format!("&{query}&&"))));
        let encoded = query.replace('a', "%61").replace('+', " ");
        assert!(rule.equivalent(Some(&query), Some(&encoded)), "{query}");
    }
}

/// Bounded, or refused as a whole.
fn tags(lines: &[HeaderValue]) {
    for name in ["cache-groups", "cache-group-invalidation", "surrogate-key", "cache-tag"] {
        let mut fields = with(&HeaderName::from_static(name), lines);
        if let Ok(Tags { groups, others }) = Tags::of(&fields) {
            assert!(groups.len() + others.len() <= 1000);
            assert!(groups.iter().chain(&others).all(|tag| tag.len() <= 1024));
            assert!(others.iter().all(|tag| !tag.trim_ascii().is_empty()), "{others:?}");
        }
        semantics::invalidated_groups(&fields).ok();
        semantics::remove_surrogate_tags(&mut fields);
        assert!(!fields.contains_key("surrogate-key"));
    }
}

// --- Dates -----------------------------------------------------------------------------------------

fn dates(lines: &[HeaderValue]) {
    for line in lines {
        let Some(time) = date::parse(line) else { continue };
        let written = date::format(time);
        assert_eq!(date::parse(&written), Some(time), "written as it was read");
        assert_eq!(written.len(), 29, "an IMF-fixdate");
    }
}

// --- Validators ------------------------------------------------------------------------------------

fn entity_tags(lines: &[HeaderValue]) {
    let request = with(&IF_NONE_MATCH, lines);
    for line in lines {
        let stored = with(&ETAG, std::slice::from_ref(line));
        semantics::not_modified(&request, StatusCode::OK, &stored);
        semantics::not_modified(
            &with(&IF_MODIFIED_SINCE, lines),
            StatusCode::OK,
            &with(&LAST_MODIFIED, lines),
        );
        let tag = line.as_bytes().strip_prefix(b"W/").unwrap_or(line.as_bytes());
        let [b'"', inner @ .., b'"'] = tag else { continue };
        if inner.contains(&b'"') {
            continue;
        }
        // RFC 9110 §8.8.3.2: each of the list counts, weak or strong, with commas in it or not.
        for list in [
            value(&[line.as_bytes()]),
            value(&[b"W/", tag]),
            value(&[b"\"a,b\", W/\"\" ,,", line.as_bytes(), b" , \"z\""]),
        ] {
            let request = with(&IF_NONE_MATCH, &[list.clone()]);
            assert!(semantics::not_modified(&request, StatusCode::OK, &stored), "{list:?}");
        }
        assert!(!semantics::not_modified(
            &with(&IF_NONE_MATCH, &[value(&[b"\"x", &tag[1..]])]),
            StatusCode::OK,
            &stored
        ));
    }
}

fn freshening(one: &HeaderMap, other: &HeaderMap) {
    let own = Validators::of(one);
    let is_named = own.etag.is_some() || !one.contains_key(ETAG);
    assert_eq!(semantics::same_representation(&own, one), is_named, "itself");
    let merged = semantics::freshen(one, other);
    assert_eq!(semantics::freshen(&merged, other), merged, "twice is once");
    for name in one.keys().filter(|name| !other.contains_key(*name) && ![DATE, AGE].contains(name))
    {
        assert!(merged.get_all(name).iter().eq(one.get_all(name)), "{name} is untouched");
    }
    assert!(semantics::matches_head(StatusCode::OK, one, 0, &HeaderMap::new()));
    semantics::matches_head(StatusCode::OK, one, 0, other);
    let mut kept = merged.clone();
    semantics::keep_in_304(&mut kept);
    let once = kept.clone();
    semantics::keep_in_304(&mut kept);
    assert_eq!(kept, once);
    assert!(!kept.contains_key(CONTENT_LENGTH));
}

// --- References ------------------------------------------------------------------------------------

fn references(lines: &[HeaderValue]) {
    const BASE: &str = "/a/b?c";

    let mut fields = with(&LOCATION, lines);
    fields.extend(with(&CONTENT_LOCATION, lines));
    let targets = semantics::invalidated_targets("http", "a.test", BASE, &fields);
    let posted = Posted {
        method: &Method::POST,
        scheme: "http",
        authority: "a.test",
        target: BASE,
        fields: &HeaderMap::new(),
    };
    let times = Times { requested: UNIX_EPOCH, received: UNIX_EPOCH };
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
    if semantics::answers_get(&posted, StatusCode::OK, &fields, &times, &Rules::default()) {
        assert_eq!(targets, [BASE], "it is about nothing else");
    }
    assert!(targets.len() <= 5 && targets[0] == BASE);
    for target in &targets {
        assert!(target.starts_with('/') && !target.contains('#'), "{target}");
        let path = target.split('?').next().unwrap_or_default();
        assert!(path.split('/').all(|segment| segment != "." && segment != ".."), "{target}");
        // What is resolved is resolved; `//a` would name an authority.
        if let (false, Ok(line)) = (target.starts_with("//"), HeaderValue::try_from(target)) {
            let again = with(&LOCATION, &[line]);
            let again = semantics::invalidated_targets("http", "a.test", BASE, &again);
            assert!(again.contains(target), "{target} led to {again:?}");
        }
    }
}

// --- Messages --------------------------------------------------------------------------------------

fn framing_and_authority(lines: &[HeaderValue]) {
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        assert_eq!(message::framing(version, &HeaderMap::new()), Ok(()));
        let lengths = with(&CONTENT_LENGTH, lines);
        if message::framing(version, &lengths).is_ok() && !lines.is_empty() {
            assert!(lines.len() == 1 && lines[0].as_bytes().iter().all(u8::is_ascii_digit));
        }
        let mut codings = with(&TRANSFER_ENCODING, lines);
        if message::framing(version, &codings).is_ok() && !lines.is_empty() {
            assert!(
                version == Version::HTTP_11 && lines[0].as_bytes().eq_ignore_ascii_case(b"chunked")
            );
            codings.insert(CONTENT_LENGTH, HeaderValue::from_static("1"));
            assert!(message::framing(version, &codings).is_err());
        }

        let (mut request, ()) = http::Request::new(()).into_parts();
        request.version = version;
        request.headers = with(&HOST, lines);
        let targets = lines.iter().filter_map(|line| Uri::try_from(line.as_bytes()).ok());
        for target in [Uri::from_static("/")].into_iter().chain(targets) {
            request.uri = target;
            for scheme in ["http", "https"] {
                let normal = |authority: &str| message::normal_authority(scheme, authority);
                let Ok(found) = message::authority(&request, normal) else { continue };
                assert_eq!(normal(&found), Ok(found.clone()));
                assert!(found.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._:[]".contains(&c)));
                assert!(found.len() < 264 && !found.bytes().any(|c| c.is_ascii_uppercase()));
            }
        }
    }
}

fn one_hop(fields: &HeaderMap) {
    let mut found = fields.clone();
    message::remove_hop_by_hop(&mut found);
    let once = found.clone();
    message::remove_hop_by_hop(&mut found);
    assert_eq!(found, once, "twice is once");
    assert!(!found.contains_key(CONNECTION) && !found.contains_key("proxy-authorization"));
    assert!(!message::has_own_hop_by_hop(&found));
    for name in [CACHE_CONTROL, VARY, SET_COOKIE, COOKIE, HOST, CONTENT_LENGTH, AGE, EXPIRES] {
        assert!(found.get_all(&name).iter().eq(fields.get_all(&name)), "{name} stays");
    }
    semantics::may_answer(&Method::GET, fields).ok();

    message::join_cookies(&mut found);
    assert!(found.get_all(COOKIE).iter().count() <= 1);
    message::set_forwarded(&mut found, &[IpAddr::V4(Ipv4Addr::LOCALHOST)], "http", "a.test");
    message::add_via(&mut found, Version::HTTP_11);
    assert_eq!(found.get("x-forwarded-for").map(HeaderValue::as_bytes), Some(&b"127.0.0.1"[..]));
}

fn status(lines: &[HeaderValue]) {
    for line in lines {
        let detail = String::from_utf8_lossy(line.as_bytes()).into_owned();
        message::problem(StatusCode::BAD_GATEWAY, &detail);
        let mut fields = HeaderMap::new();
        CacheStatus { detail: Some(detail.into()), ..CacheStatus::hit(1) }.write_to(&mut fields);
        let item = fields.get("cache-status").expect("written").as_bytes();
        assert!(item.len() < 384 && item.is_ascii());
    }
}

// --- Storing ---------------------------------------------------------------------------------------

/// What any response comes to, with the lines in each of the fields that tell of time.
fn storing(fields: &HeaderMap, lines: &[HeaderValue]) {
    let now = UNIX_EPOCH + Duration::from_secs(1_795_000_000);
    let rules = Rules { targets: vec![CDN, SURROGATE_CONTROL], ..Rules::default() };
    for name in [None, Some(AGE), Some(EXPIRES), Some(DATE), Some(LAST_MODIFIED)] {
        let mut fields = fields.clone();
        if let Some(name) = name {
            fields.remove(&name);
            fields.extend(with(&name, lines));
        }
        judge(fields, &rules, now);
    }
}

fn judge(mut fields: HeaderMap, rules: &Rules, now: SystemTime) {
    let asked = Asked {
        method: &Method::GET,
        fields: &HeaderMap::new(),
        directives: &RequestDirectives::default(),
        has_credentials: false,
    };
    let times = Times { requested: now, received: now };
    let found = semantics::storable(&asked, StatusCode::OK, &fields, &times, rules);
    let directives = response_directives(&fields, &rules.targets);
    if let Ok(freshness) = found {
        assert!(!directives.private && !fields.contains_key(SET_COOKIE));
        assert!(!directives.no_store || directives.excuses_no_store);
        assert!(
            freshness.lifetime <= LONGEST
                && freshness.initial_age
                    <= LONGEST.max(now.duration_since(UNIX_EPOCH).unwrap_or_default())
        );
        let later = now + Duration::from_secs(9);
        assert!(freshness.age(later) >= freshness.age(now));
        assert!(!freshness.is_fresh(later) || freshness.is_fresh(now));
    }
    semantics::fields_to_store(&mut fields, rules, now);
    let once = fields.clone();
    semantics::fields_to_store(&mut fields, rules, now);
    assert_eq!(fields, once, "twice is once");
    assert!(
        fields.contains_key(DATE) && !fields.contains_key(SET_COOKIE) && !fields.contains_key(AGE)
    );
    for name in directives.private_fields.iter().chain(&directives.no_cache_fields) {
        assert!(!fields.contains_key(name) || name == DATE, "{name} is withheld");
    }
}
