//! Requests and responses, and what the policy answers.

use super::*;
use larder_policy::Setting;
use larder_policy::configure;
use larder_policy::schema;

const TYPED: &str = "{ users { __typename id } }";

fn policy(config: impl Into<Vec<Setting>>) -> GraphQl {
    configure(config).unwrap()
}

fn asked(method: &str, content: &str) -> Request {
    Request {
        method: method.to_owned(),
        path: "/graphql".to_owned(),
        fields: vec![Some("application/json".to_owned())],
        content: Some(content.as_bytes().to_vec()),
        ..Request::default()
    }
}

/// A request with this document.
fn post(document: &str) -> Request {
    asked("POST", &format!(r#"{{"query":{}}}"#, Json::Text(document.to_owned()).canonical()))
}

/// A response in which the queries select these values: errors, types, what is empty, what is null.
fn response(values: [&[&str]; 4]) -> Response {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Response { values: Some(values.map(owned).into()), ..Response::default() }
}

fn users() -> Response {
    response([&[], &["\"User\"", "\"Team\"", "\"User\""], &[], &[]])
}

fn key(request: &Request) -> Result<Vec<(String, String)>, String> {
    match policy([]).key(request).unwrap() {
        KeyDecision::Parts(parts) => {
            Ok(parts.into_iter().map(|Pair { name, value }| (name, value)).collect())
        }
        KeyDecision::Bypass(why) => Err(why),
    }
}

/// The tags of a response that is stored, separated by spaces.
fn tags(policy: &GraphQl, request: &Request, response: &Response) -> Option<String> {
    let decision = policy.storing(request, response).unwrap();
    decision.store.then(|| decision.tags.join(" "))
}

/// The tags that a write invalidates, separated by spaces.
fn touched(policy: &GraphQl, request: &Request, response: &Response) -> String {
    let scopes = policy.written(request, response).unwrap().into_iter();
    let tags: Vec<_> = scopes
        .map(|Invalidated { scope, .. }| match scope {
            Scope::Tag(tag) => tag,
            Scope::Path(_) | Scope::Pattern(_) => unreachable!("only tags"),
        })
        .collect();
    tags.join(" ")
}

#[test]
fn equal_questions_have_equal_keys() {
    let first = r#"{"query":"query Q($a: Int) {\n  users(first: $a), { id } # all\n}","variables":{"a":1,"b":{"d":2,"c":"x"}},"operationName":"Q"}"#;
    let same = r#"{"operationName":"Q","variables":{"b":{"c":"\u0078","d":2},"a":1},"query":"query Q($a:Int){users(first:$a){id}}","extensions":null}"#;
    let expected = [
        ("path", "/graphql"),
        ("document", "query Q($a:Int){users(first:$a){id}}"),
        ("operation", "Q"),
        ("variables", r#"{"a":1,"b":{"c":"x","d":2}}"#),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    for method in ["POST", "QUERY"] {
        for content in [first, same] {
            assert_eq!(key(&asked(method, content)).as_ref(), Ok(&expected));
        }
    }
    let query = "query=query+Q(%24a:Int){users(first:%24a){id}}&operationName=Q\
                 &variables={%22b%22:{%22d%22:2,%22c%22:%22x%22},%22a%22:1}";
    let get = Request { query: Parameter::split(query), content: None, ..asked("GET", "") };
    let expected = [("path", "/graphql"), ("query", query)];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    assert_eq!(key(&get), Ok(expected), "as it was sent");
}

#[test]
fn different_questions_have_different_keys() {
    let contents = [
        r#"{"query":"{a}"}"#,
        r#"{"query":"{b}"}"#,
        r#"{"query":"{a(x:\"1\")}"}"#,
        r#"{"query":"{a(x:1)}"}"#,
        r#"{"query":"{a(x:\"1 \")}"}"#,
        r#"{"query":"{a}","variables":{"x":1}}"#,
        r#"{"query":"{a}","variables":{"x":1.0}}"#,
        r#"{"query":"{a}","variables":{"x":"1"}}"#,
        r#"{"query":"{a}","variables":{"x":null}}"#,
        r#"{"query":"{a}","variables":{"x":[1,2]}}"#,
        r#"{"query":"{a}","variables":{"x":[2,1]}}"#,
        r#"{"query":"{a}","extensions":{"x":1}}"#,
        r#"{"query":"{a}","extensions":{"persistedQuery":{"sha256Hash":"ab"}}}"#,
        r#"{"query":"query A{a} query B{b}","operationName":"A"}"#,
        r#"{"query":"query A{a} query B{b}","operationName":"B"}"#,
    ];
    let mut keys: Vec<_> =
        contents.iter().map(|content| key(&asked("QUERY", content)).unwrap()).collect();
    let with_rest = Request { query: Parameter::split("v=1"), ..asked("QUERY", contents[0]) };
    keys.push(key(&with_rest).unwrap());
    let elsewhere = Request { path: "/other".to_owned(), ..asked("QUERY", contents[0]) };
    keys.push(key(&elsewhere).unwrap());
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

#[test]
fn what_is_long_stands_in_the_key_as_its_digest() {
    let of = |length: usize, last: &str| {
        let document = format!("{{{}{last}}}", "a".repeat(length - 2 - last.len()));
        key(&post(&document)).unwrap().pop().unwrap()
    };
    assert_eq!(of(LONGEST_PART, "").0, "document");
    let (name, digest) = of(LONGEST_PART + 1, "b");
    assert_eq!((name.as_str(), digest.len()), ("document-sha256", 64));
    assert_ne!(digest, of(LONGEST_PART + 1, "c").1);
    // FIPS 180-2, B.3: a million times `a`.
    let long = part("a", "b", &"a".repeat(1_000_000));
    assert_eq!(long.value, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    let huge = format!(r#"{{"query":"{{a}}","variables":{{"x":"{}"}}}}"#, "x".repeat(1 << 20));
    let parts = key(&asked("QUERY", &huge)).unwrap();
    assert_eq!(parts[2].0, "variables-sha256");
}

#[test]
fn what_is_no_single_query_is_a_bypass() {
    let persisted = r#"{"extensions":{"persistedQuery":{"sha256Hash":"ab","version":1}}}"#;
    for (request, why) in [
        (post("mutation { a }"), "mutation"),
        (post("query A { a } mutation B { b }"), "no-operation"),
        (post("subscription { a }"), "subscription"),
        (asked("POST", r#"{"query":"query A{a} mutation B{b}","operationName":"B"}"#), "mutation"),
        (asked("POST", r#"[{"query":"{a}"}]"#), "batch"),
        (asked("POST", persisted), "persisted"),
        (asked("POST", "{}"), "no-operation"),
        (post("{ a"), "not-understood"),
        (post(""), "no-operation"),
        (asked("POST", "a"), "not-understood"),
        (asked("DELETE", ""), "method"),
        (Request { content: None, ..post("{ a }") }, "no-content"),
        (Request { fields: vec![], ..post("{ a }") }, "content-type"),
    ] {
        assert_eq!(key(&request), Err(why.to_owned()), "{request:?}");
    }
    assert!(key(&asked("QUERY", persisted)).is_ok(), "a QUERY is safe");
    let query = "extensions={%22persistedQuery%22:{%22sha256Hash%22:%22ab%22}}";
    let get = Request { query: Parameter::split(query), ..asked("GET", "") };
    assert!(key(&get).is_ok(), "a GET is safe");
}

#[test]
fn a_response_is_tagged_by_its_types_and_fields() {
    let listed = policy([
        Setting::new("types.users", ["User"]),
        Setting::new("types.count", ["User", "Team"]),
    ]);
    let unnamed = response([&[], &[], &[], &[]]);
    let of = |types: &[&str], empty: &[&str], nulls: &[&str]| response([&[], types, empty, nulls]);
    let user: &[&str] = &["\"User\""];
    let default = policy([]);
    for (policy, document, response, expected) in [
        (&default, TYPED, users(), "graphql type:User type:Team field:users"),
        (&default, "{ x: users { id } }", unnamed.clone(), "graphql graphql:untyped field:users"),
        (
            &default,
            "{ users { __typename } count }",
            of(user, &[], &[]),
            "graphql graphql:untyped type:User field:users field:count",
        ),
        (&default, TYPED, of(&[], &["[]"], &[]), "graphql graphql:untyped field:users"),
        (&default, TYPED, of(user, &["[]"], &[]), "graphql graphql:untyped type:User field:users"),
        (
            &default,
            TYPED,
            of(user, &[], &["null"]),
            "graphql graphql:untyped type:User field:users",
        ),
        (&default, TYPED, unnamed.clone(), "graphql graphql:untyped field:users"),
        (&default, TYPED, of(&["1"], &[], &[]), "graphql graphql:untyped field:users"),
        (
            &default,
            TYPED,
            of(&["\"a b\"", "\"User\""], &[], &[]),
            "graphql graphql:untyped type:User field:users",
        ),
        // The settings know more than the response says.
        (
            &listed,
            "{ users { id } count }",
            unnamed.clone(),
            "graphql type:User type:Team field:users field:count",
        ),
        (&listed, "{ users { id } }", of(&[], &["[]"], &["null"]), "graphql type:User field:users"),
        (
            &listed,
            "{ users { id } teams { id } }",
            unnamed.clone(),
            "graphql graphql:untyped type:User field:users field:teams",
        ),
        (
            &listed,
            "{ users { id } teams { __typename } }",
            of(&["\"Team\""], &[], &[]),
            "graphql type:User type:Team field:users field:teams",
        ),
    ] {
        assert_eq!(
            tags(policy, &post(document), &response).as_deref(),
            Some(expected),
            "{document}"
        );
    }
}

#[test]
fn nothing_is_known_of_a_document_that_is_not_there() {
    let default = policy([]);
    let persisted = asked("QUERY", r#"{"extensions":{"persistedQuery":{"sha256Hash":"ab"}}}"#);
    let expected = "graphql graphql:untyped type:User type:Team";
    assert_eq!(tags(&default, &persisted, &users()).as_deref(), Some(expected));
    let foreign = Request { query: Parameter::split("q=users"), ..asked("GET", "") };
    assert_eq!(tags(&default, &foreign, &users()).as_deref(), Some(expected));
}

#[test]
fn types_are_looked_for_only_where_wanted() {
    assert_eq!(policy([]).wants().response_values, [ERRORS, TYPES, EMPTY, NULLS]);
    let policy = policy([Setting::new("typenames", false), Setting::new("types.users", "User")]);
    assert_eq!(policy.wants().response_values, [ERRORS]);
    let plain = Response { values: Some(vec![vec![]]), ..Response::default() };
    let of = |document: &str| tags(&policy, &post(document), &plain);
    assert_eq!(of("{ users { id } }").as_deref(), Some("graphql type:User field:users"));
    assert_eq!(
        of("{ teams { __typename } }").as_deref(),
        Some("graphql graphql:untyped field:teams")
    );
}

#[test]
fn what_may_be_wrong_or_cannot_be_tagged_is_not_stored() {
    let failed = response([&["[{\"message\":\"no\"}]"], &["\"User\""], &[], &[]]);
    let strange = response([&["\"no\""], &["\"User\""], &[], &[]]);
    for (request, response, why) in [
        (post(TYPED), failed, "errors"),
        (post(TYPED), strange, "errors that are none"),
        (post(TYPED), Response { status: 201, ..users() }, "another status"),
        (post(TYPED), Response { values: None, ..users() }, "nothing can be read"),
        (post("mutation { a }"), users(), "a mutation"),
        (post("subscription { a }"), users(), "a subscription"),
        (post("{ a"), users(), "no document"),
    ] {
        assert_eq!(tags(&policy([]), &request, &response), None, "{why}");
    }
    let no_errors = response([&["[]"], &["\"User\""], &[], &[]]);
    assert!(tags(&policy([]), &post(TYPED), &no_errors).is_some());
    let fields = |count: usize| {
        let fields: Vec<_> = (0..count).map(|index| format!("a{index}")).collect();
        tags(&policy([]), &post(&format!("{{ {} }}", fields.join(" "))), &users())
    };
    assert!(fields(60).is_some(), "64 tags");
    assert!(fields(61).is_none(), "65 tags");
    assert!(fields(9_000).is_none());
    let long = format!("{{ {} }}", "a".repeat(300));
    assert!(tags(&policy([]), &post(&long), &users()).is_none(), "a tag too long");
}

#[test]
fn a_mutation_invalidates_what_it_touched_or_everything() {
    let listed = policy([
        Setting::new("mutations.createUser", ["User"]),
        Setting::new("mutations.ping", []),
    ]);
    let unnamed = response([&[], &[], &[], &[]]);
    let user = response([&[], &["\"User\""], &[], &[]]);
    let default = policy([]);
    let typed = "mutation { rename { __typename } }";
    for (policy, document, response, expected) in [
        (&default, typed, user.clone(), "graphql:untyped type:User"),
        (&default, "mutation { rename { id } }", unnamed.clone(), "graphql"),
        (&default, "mutation { rename { __typename a { b } } }", user.clone(), "graphql"),
        (&default, "mutation { rename { __typename } remove }", user.clone(), "graphql"),
        (&default, typed, unnamed.clone(), "graphql"),
        (&default, typed, response([&[], &[], &[], &["null"]]), "graphql"),
        (&default, typed, response([&["[{}]"], &["\"User\""], &["[]"], &[]]), "graphql"),
        (&default, typed, Response::default(), "graphql"),
        (&default, "mutation { ", user.clone(), "graphql"),
        (&default, "query A { a } mutation B { b }", user.clone(), "graphql"),
        (&default, "{ users { id } }", unnamed.clone(), ""),
        (&default, "subscription { users { id } }", unnamed.clone(), ""),
        (&listed, "mutation { createUser }", unnamed.clone(), "graphql:untyped type:User"),
        (&listed, "mutation { createUser }", Response::default(), "graphql:untyped type:User"),
        (
            &listed,
            "mutation { createUser { __typename team { __typename } } }",
            response([&[], &["\"User\"", "\"Team\""], &[], &[]]),
            "graphql:untyped type:User type:Team",
        ),
        (&listed, "mutation { createUser remove }", unnamed.clone(), "graphql"),
        (&listed, "mutation { ping }", unnamed.clone(), ""),
        (&listed, "mutation { ping createUser }", unnamed.clone(), "graphql:untyped type:User"),
    ] {
        assert_eq!(touched(policy, &post(document), &response), expected, "{document}");
    }
}

#[test]
fn a_write_that_is_not_known_invalidates_everything() {
    let default = policy([]);
    let persisted = r#"{"extensions":{"persistedQuery":{"sha256Hash":"ab"}}}"#;
    for (request, expected) in [
        (asked("POST", persisted), "graphql"),
        (asked("PUT", "{}"), "graphql"),
        (asked("POST", ""), "graphql"),
        (Request { content: None, ..post("{ a }") }, "graphql"),
        (asked("POST", r#"[{"query":"{a}"},{"query":"{b}"}]"#), ""),
        (asked("POST", r#"[{"query":"{a}"},{"query":"mutation{b}"}]"#), "graphql"),
        (asked("POST", &format!(r#"[{{"query":"{{a}}"}},{persisted}]"#)), "graphql"),
        (asked("POST", "[]"), ""),
    ] {
        assert_eq!(touched(&default, &request, &Response::default()), expected, "{request:?}");
    }
}

#[test]
fn a_document_that_the_server_does_not_know_was_not_executed() {
    let persisted = r#"{"extensions":{"persistedQuery":{"sha256Hash":"ab"}}}"#;
    let by_message = r#"[{"message":"PersistedQueryNotFound"}]"#;
    let by_code = r#"[{"message":"a","extensions":{"code":"PERSISTED_QUERY_NOT_FOUND"}}]"#;
    let unsupported = r#"[{"message":"PersistedQueryNotSupported"}]"#;
    for (errors, expected) in [
        (&[by_message][..], ""),
        (&[by_code], ""),
        (&[unsupported], ""),
        (&[r#"[{"message":"PersistedQueryNotFound"},{"message":"a"}]"#], "graphql"),
        (&[r#"[{"message":"a"}]"#], "graphql"),
        (&["[]"], "graphql"),
        (&["null"], "graphql"),
        (&[], "graphql"),
    ] {
        let response = response([errors, &[], &[], &[]]);
        assert_eq!(touched(&policy([]), &asked("POST", persisted), &response), expected);
        assert_eq!(touched(&policy([]), &post("mutation { a }"), &response), "graphql");
        let stored = tags(&policy([]), &asked("QUERY", persisted), &response);
        assert_eq!(stored.is_some(), errors.is_empty() || ["null", "[]"].contains(&errors[0]));
    }
}

#[test]
fn a_post_by_a_hash_is_a_read_where_the_settings_say_so() {
    let policy = policy([Setting::new("persisted", "queries")]);
    let key = |content: &str| policy.key(&asked("POST", content)).unwrap();
    let by_hash =
        |hash: &str| format!(r#"{{"extensions":{{"persistedQuery":{{"sha256Hash":"{hash}"}}}}}}"#);
    let KeyDecision::Parts(parts) = key(&by_hash("ab")) else { panic!("bypassed") };
    let expected = Pair::new("extensions", r#"{"persistedQuery":{"sha256Hash":"ab"}}"#);
    assert_eq!(parts, [Pair::new("path", "/graphql"), expected]);
    assert_ne!(key(&by_hash("ab")), key(&by_hash("cd")));
    let mutation = r#"{"query":"mutation{a}","extensions":{"persistedQuery":{"sha256Hash":"ab"}}}"#;
    assert_eq!(key(mutation), KeyDecision::Bypass("mutation".to_owned()));
}

#[test]
fn a_mutation_that_touches_much_invalidates_everything() {
    let types: Vec<_> = (0..64).map(|index| format!("\"T{index}\"")).collect();
    let types: Vec<_> = types.iter().map(String::as_str).collect();
    let of = |count: usize| {
        let response = response([&[], &types[..count], &[], &[]]);
        touched(&policy([]), &post("mutation { a { __typename } }"), &response)
    };
    assert_eq!(of(63).split(' ').count(), 64);
    assert_eq!(of(64), "graphql");
    let long = format!("\"{}\"", "T".repeat(2000));
    let response = response([&[], &[&long, "\"User\""], &[], &[]]);
    let tags = touched(&policy([]), &post("mutation { a { __typename } }"), &response);
    assert_eq!(tags, "graphql:untyped type:User", "no response bears the other");
}

#[test]
fn soft_makes_all_of_it_soft() {
    for soft in [false, true] {
        let policy = policy([Setting::new("soft", soft)]);
        let scopes = policy.written(&post("mutation { a { __typename } }"), &users()).unwrap();
        assert_eq!(scopes.len(), 3);
        assert!(scopes.iter().all(|invalidated| invalidated.soft == soft));
    }
}

#[test]
fn wrong_settings_are_refused() {
    for (setting, expected) in [
        (
            Setting::new("types.users", ["[User]"]),
            "`types.users` has `[User]`, which is no type: write `[\"User\"]`",
        ),
        (Setting::new("mutations.a-b", ["User"]), "`mutations.a-b` is no field of GraphQL"),
        (
            Setting::new("types", ["User"]),
            "`types` must be a table of strings, not an array: write `types = { name = \"...\" }`",
        ),
        (
            Setting::new("type", true),
            "unknown setting `type`: this policy has `types`, `mutations`, `typenames`, `persisted`, \
             `soft`",
        ),
        (
            Setting::new("persisted", "all"),
            "`persisted` is `all`: write `\"queries\"` if no client asks for a mutation by its hash \
             alone, or take it out",
        ),
    ] {
        assert_eq!(configure::<GraphQl>([setting]).unwrap_err(), expected);
    }
}

#[test]
fn the_schema_lists_the_settings() {
    assert_eq!(schema::compare::<GraphQl>(include_str!("../schema.json")), Ok(()));
}
