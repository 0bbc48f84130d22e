//! A configuration of several files: that they count as one, and that each is told and watched as the
//! first is.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::PATIENCE;
use crate::support::client::{Ask, Got};
use crate::support::origin::{Origin, ok};
use crate::support::program::{Running, larder};

fn route(name: &str) -> String {
    format!("[[routes]]\nname = \"{name}\"\npath = \"/{name}\"\nupstream = \"origin\"\n")
}

/// A gateway whose file includes what is in a folder.
async fn gateway(origin: &Origin, folder: &TempDir) -> Running {
    Running::with(&format!(
        "include = [\"{}/*.toml\"]\n\
         [server]\nlisten = \"127.0.0.1:0\"\ncompiled_cache = \"off\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [upstreams.origin]\nservers = [\"{}\"]\n",
        folder.path().display(),
        origin.url()
    ))
    .await
}

async fn reload(gateway: &Running) -> Got {
    Ask::new(gateway.admin(), "POST", "/reload").send().await
}

fn json(got: &Got) -> Value {
    serde_json::from_slice(&got.body).unwrap()
}

/// Waits until a target is answered so.
async fn is_answered(gateway: &Running, target: &str, code: u16) {
    let asking = async {
        while Ask::new(gateway.address(), "GET", target).send().await.status.as_u16() != code {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, asking).await.is_ok(), "{target} is never {code}");
}

#[tokio::test]
async fn files_that_come_change_and_go_are_noticed() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    for target in ["/a", "/b", "/c"] {
        origin.on(target).reply(ok(target));
    }
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("a.toml", &route("a"));
    let gateway = gateway(&origin, &folder).await;
    is_answered(&gateway, "/a", 200).await;
    is_answered(&gateway, "/b", 404).await;
    write("b.toml", &route("b"));
    is_answered(&gateway, "/b", 200).await;
    write("b.toml", &route("c"));
    is_answered(&gateway, "/c", 200).await;
    is_answered(&gateway, "/b", 404).await;
    fs::remove_file(folder.path().join("b.toml")).unwrap();
    is_answered(&gateway, "/c", 404).await;
    is_answered(&gateway, "/a", 200).await;
}

#[tokio::test]
async fn faults_of_an_included_file_are_told_at_its_lines_and_change_nothing() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    origin.on("/a").reply(ok("a"));
    let file = |name: &str| folder.path().join(name);
    fs::write(file("a.toml"), route("a")).unwrap();
    let gateway = gateway(&origin, &folder).await;
    let again = format!("{}[policies.p]\nplugin = \"none.wasm\"\n", route("a"));
    fs::write(file("b.toml"), again).unwrap();
    let told = json(&reload(&gateway).await.code(422))["faults"].to_string();
    let (a, b) = (file("a.toml"), file("b.toml"));
    for fault in [
        format!(
            "{}:2:8: route `a`: the name is taken by the route at line 2 of `{}`",
            b.display(),
            a.display()
        ),
        format!("{}:6:10: policy `p`: plugin `none.wasm` does not exist", b.display()),
        format!(
            "{}:3:8: route `a`: path `/a` matches the same requests as `/a` of route `a` at line 3 \
             of `{}`",
            b.display(),
            a.display()
        ),
    ] {
        assert!(told.contains(&fault), "no `{fault}` in {told}");
    }
    let checked = larder(gateway.folder(), &["check"]);
    assert_eq!(checked.code, Some(2));
    assert!(checked.err.contains(&format!("{}:6:10: policy `p`", b.display())), "{}", checked.err);
    is_answered(&gateway, "/a", 200).await;
    fs::remove_file(file("b.toml")).unwrap();
    json(&reload(&gateway).await.code(200));
    let checked = larder(gateway.folder(), &["check"]);
    assert_eq!(checked.out, "gateway.toml: no faults (1 route, 1 upstream, 0 policies)\n");
}
