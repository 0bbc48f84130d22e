//! Larder's decisions beside those of a reference model that shares no code with them. `fuzz/` plays
//! the same exchanges, and looks for those that nobody thought of.

#[path = "model/exchange.rs"]
mod exchange;
#[path = "model/rfc.rs"]
mod rfc;

use proptest::prelude::*;
use proptest::sample::select;

/// Few spans, so that many of them are equal.
fn seconds() -> impl Strategy<Value = u32> {
    prop_oneof![2 => select(vec![0_u32, 1, 5, 10, 20, 60]), 1 => 0_u32..100]
}

/// A member of `Cache-Control`, sound for the most part.
fn member() -> impl Strategy<Value = String> {
    let timed = select(vec![
        "max-age",
        "s-maxage",
        "max-stale",
        "min-fresh",
        "stale-while-revalidate",
        "stale-if-error",
        "Max-Age",
    ]);
    let bare = select(vec![
        "no-cache",
        "no-store",
        "private",
        "public",
        "must-revalidate",
        "proxy-revalidate",
        "must-understand",
        "immutable",
        "only-if-cached",
        "max-stale",
        "NO-STORE",
        "no-cache=\"x-a\"",
        "no-cache=\"cache-control, x-a\"",
        "private=\"x-a, x-b\"",
    ]);
    let odd = select(vec![
        "=\"\"",
        "=x-a",
        "=",
        "=\"x-a",
        "=\"5\"",
        "=-1",
        "=99999999999999999999",
        "=1.5",
        "=?1",
        "=?0",
        "=\"x\\\\-a\"",
        ";",
        " x",
    ]);
    prop_oneof![
        6 => (timed, seconds()).prop_map(|(name, seconds)| format!("{name}={seconds}")),
        3 => bare.clone().prop_map(str::to_owned),
        1 => (bare, odd.clone()).prop_map(|(name, argument)| format!("{name}{argument}")),
        1 => odd.prop_map(|argument| format!("max-age{argument}")),
        1 => odd_permission(),
    ]
}

fn odd_permission() -> impl Strategy<Value = String> {
    select(vec!["s-maxage=x", "public=1", "must-revalidate=\"\""]).prop_map(str::to_owned)
}

fn list() -> impl Strategy<Value = String> {
    prop::collection::vec(member(), 1..4).prop_map(|members| members.join(", "))
}

/// The same where it is one, a dictionary (RFC 9213 §2.1) for the most part.
fn dictionary() -> impl Strategy<Value = String> {
    let named = select(vec!["no-cache=\"x-a\"", "private=\"x\\\\-a\"", "private=\"x-a, x-b\""]);
    let member = prop_oneof![
        3 => member().prop_map(|member| member.to_lowercase()),
        1 => named.prop_map(str::to_owned),
    ];
    prop::collection::vec(member, 1..3).prop_map(|members| members.join(", "))
}

fn response_field() -> impl Strategy<Value = String> {
    let other = select(vec![
        "Age: 7, x",
        "Age: x",
        "Cache-Control: max-age=60",
        "Date: x",
        "Expires: 0",
        "Set-Cookie: a=b",
        "Vary: *",
        "Vary: Accept-Encoding, X-A",
        "Vary: X-A",
        "X-A: 1",
        "X-B: 1",
    ]);
    prop_oneof![
        6 => list().prop_map(|list| format!("Cache-Control: {list}")),
        1 => dictionary().prop_map(|list| format!("CDN-Cache-Control: {list}")),
        1 => (-100_i32..200).prop_map(|offset| format!("Expires: @{offset}")),
        1 => (-100_i32..10).prop_map(|offset| format!("Date: @{offset}")),
        1 => (-2000_i32..10).prop_map(|offset| format!("Last-Modified: @{offset}")),
        1 => seconds().prop_map(|age| format!("Age: {age}")),
        2 => select(vec!["\"1\"", "W/\"1\"", "\"2\""]).prop_map(|tag| format!("ETag: {tag}")),
        1 => other.prop_map(str::to_owned),
        1 => "(Cache-Control|CDN-Cache-Control|Expires|Age|Vary): [ -~]{0,20}",
    ]
}

fn request_field() -> impl Strategy<Value = String> {
    let other = select(vec![
        "Authorization: x",
        "If-None-Match: \"1\"",
        "If-None-Match: W/\"1\"",
        "If-None-Match: *",
        "If-None-Match: \"2\", W/\"1\"",
        "Pragma: no-cache",
        "X-A: 1",
        "X-A: 2",
    ]);
    prop_oneof![
        2 => list().prop_map(|list| format!("Cache-Control: {list}")),
        1 => other.prop_map(str::to_owned),
    ]
}

fn response() -> impl Strategy<Value = String> {
    let status = prop_oneof![
        6 => Just(200_u16),
        2 => Just(304),
        3 => select(vec![204, 206, 299, 301, 302, 401, 404, 500, 501, 502, 503, 504, 505]),
    ];
    let often = select(vec!["", "ETag: \"1\"\n", "Vary: Accept-Encoding\nETag: \"1\"\n"]);
    let fields = prop::collection::vec(response_field(), 0..5);
    (status, 0_u32..4, often, fields).prop_map(|(status, delay, often, fields)| {
        format!("= {status} {delay}\n{often}{}", fields.join("\n"))
    })
}

fn request() -> impl Strategy<Value = String> {
    let sign = select(vec!["?", "?", "?", "!"]);
    let after = prop_oneof![4 => seconds().prop_map(i64::from), 1 => -5_i64..80];
    let often = prop_oneof![
        1 => Just(""),
        1 => select(vec![
            "Accept-Encoding: gzip, br\n",
            "Accept-Encoding: gzip,br\n",
            "Accept-Encoding: GZIP, br\n",
            "Accept-Encoding: br;q=1.0, gzip;q=0.5\n",
            "Accept-Encoding: gzip;q=0, br\n",
        ]),
    ];
    let fields = prop::collection::vec(request_field(), 0..3);
    (sign, after, often, fields).prop_map(|(sign, after, often, fields)| {
        format!("{sign} {after}\n{often}{}", fields.join("\n"))
    })
}

fn step() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => response(),
        5 => request(),
        1 => select(vec!["x", "ttl 60", "stale_if_error 60"]).prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8192, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_stored_or_served_against_the_rules(
        steps in prop::collection::vec(step(), 1..8),
    ) {
        let text = format!("= 200\n{}", steps.join("\n"));
        prop_assert_eq!(exchange::play(text.as_bytes()), Ok(()), "{}", text);
    }
}
