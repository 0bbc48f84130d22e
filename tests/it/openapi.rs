//! `GET /openapi.json`: whether it tells all calls of the admin listener, and each as it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::client::Ask;
use crate::support::origin::{Origin, ok};
use crate::support::program::Running;
use crate::support::tool;

/// The calls that the source routes, each with its method.
fn routed() -> BTreeSet<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin");
    let files = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|it| it == "rs"));
    let texts: Vec<String> = files.map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut calls = BTreeSet::new();
    for route in texts.iter().flat_map(|text| text.split(".route(").skip(1)) {
        let (path, rest) = route.trim_start().split_once(',').unwrap();
        let path = path.strip_prefix('"').and_then(|path| path.strip_suffix('"'));
        let path = path.unwrap_or_else(|| panic!("write the path of a route as it is: {route}"));
        let methods = ["get", "post", "put", "delete", "patch"].into_iter();
        // What follows up to the next route, or the end of the table.
        let rest = rest.split("fallback").next().unwrap();
        for method in methods.filter(|it| rest.contains(&format!("{it}("))) {
            calls.insert((path.replace("{*", "{"), method.to_owned()));
        }
    }
    // What is left of such a call where nothing follows.
    calls.retain(|(path, _)| path == "/" || !path.ends_with('/'));
    calls
}

#[test]
fn every_call_is_in_the_document_and_the_reverse() {
    let document = fs::read_to_string("src/admin/openapi.json").unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let told: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, operations)| {
            let methods = operations.as_object().unwrap().keys();
            methods.map(|method| (path.clone(), method.clone()))
        })
        .collect();
    let routed = routed();
    assert!(routed.len() > 10, "{routed:?}");
    let untold: Vec<_> = routed.difference(&told).collect();
    assert!(untold.is_empty(), "write these in src/admin/openapi.json: {untold:?}");
    let absent: Vec<_> = told.difference(&routed).collect();
    assert!(absent.is_empty(), "these are in src/admin/openapi.json alone: {absent:?}");
}

/// With the examples of the document, and with what is wrong: never a 500, always a problem.
#[tokio::test]
async fn every_call_is_answered_as_the_document_says() {
    let origin = Origin::start().await;
    let gateway = Running::with(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nname = \"one\"\ncompiled_cache = \"off\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"s3cret\"\n\
         [cache.l2]\ndisk = \"l2\"\n\
         [warm]\nbusiest = 10\n\
         [upstreams.origin]\nservers = [\"{}\"]\n\
         [policies.no-tracking]\nplugin = \"bundled:normalise-query\"\n\
         [policies.other]\nplugin = \"bundled:normalise-query\"\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nhost = \"shop.example\"\nupstream = \"origin\"\n\
         [[routes]]\nname = \"books\"\npath = \"/books/{{id}}\"\nhost = \"shop.example\"\n\
         upstream = \"origin\"\nkey = \"no-tracking\"\nshadow = \"other\"\n",
        origin.url()
    ))
    .await;
    for target in ["/books/42", "/books/42?utm_source=a"] {
        let reply = ok("1").max_age(600).etag("1").field("vary", "accept-language");
        origin.on(target).reply(reply.field("cache-tag", "x"));
    }
    let clients = format!("http://{}", gateway.address());
    let checked = tokio::process::Command::new(tool("schemas/bin/python"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi/check.py"))
        .args([&format!("http://{}", gateway.admin()), "s3cret", &clients])
        .output()
        .await
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(checked.status.success() && out.is_empty(), "{out}\n{err}");
}

#[tokio::test]
async fn probes_need_no_token_and_say_what_they_are_told_to_look_at() {
    let origin = Origin::start().await;
    let gateway = Running::with(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ncompiled_cache = \"off\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"s3cret\"\n\
         [cache.l2]\nredis = \"redis://127.0.0.1:1\"\n\
         [upstreams.origin]\nservers = [\"{}\"]\n\
         [[routes]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n",
        origin.url()
    ))
    .await;
    for (target, code, status) in [
        ("/health/live", 200, "pass"),
        ("/health/ready", 200, "pass"),
        ("/health/ready?needs=changes", 200, "pass"),
        ("/health/ready?needs=l2", 503, "fail"),
        ("/health/ready?needs=changes&needs=log", 503, "fail"),
    ] {
        let got = Ask::new(gateway.admin(), "GET", target).send().await.code(code);
        let told: Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!(told, serde_json::json!({ "status": status }), "{target}");
    }
    let got = Ask::new(gateway.admin(), "GET", "/health/ready?needs=luck").send().await.code(400);
    assert!(String::from_utf8_lossy(&got.body).contains("needs=l2"));
}
