//! The command that looks into a running gateway: `config show`.

use std::fs;

use serde_json::Value;

use crate::support::client::Ask;
use crate::support::origin::Origin;
use crate::support::program::{Ran, Running, larder, larder_with};

const TOKEN: [(&str, &str); 1] = [("LARDER_ADMIN_TOKEN", "s3cret")];

async fn gateway(origin: &Origin, token: &str) -> Running {
    Running::with(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nname = \"one\"\ncompiled_cache = \"off\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"{token}\"\n\
         [upstreams.origin]\nservers = [\"{}\"]\n\
         [policies.no-tracking]\nplugin = \"bundled:normalise-query\"\n\
         [[routes]]\nname = \"rest\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n\
         [[routes]]\nname = \"books\"\npath = \"/books/{{id}}\"\nupstream = \"origin\"\nttl = \"5m\"\n\
         key = \"no-tracking\"\n\
         [[routes]]\nname = \"shop\"\nhost = \"shop.example\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n",
        origin.url()
    ))
    .await
}

fn ask(gateway: &Running, arguments: &[&str]) -> Ran {
    let admin = format!("http://{}", gateway.admin());
    let arguments = [arguments, &["--admin", &admin]].concat();
    larder_with(gateway.folder(), &arguments, &TOKEN)
}

#[tokio::test]
async fn what_is_in_force_is_shown_of_a_file_and_of_a_gateway() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, "s3cret").await;
    let of_file = larder(gateway.folder(), &["config", "show"]);
    assert_eq!((of_file.code, of_file.err.as_str()), (Some(0), ""));
    for line in [
        "token = \"[hidden]\"",
        "listen = \"127.0.0.1:0\"",
        "[[routes]]\nname = \"rest\"",
        "max_lag = \"5s\"",
        "# default",
        "# gateway.toml:2",
    ] {
        assert!(of_file.out.contains(line), "no `{line}`:\n{}", of_file.out);
    }
    // It is a file like any other.
    let again = gateway.folder().join("again.toml");
    fs::write(&again, of_file.out.replace("[hidden]", "s3cret")).unwrap();
    let checked = larder(gateway.folder(), &["check", "again.toml"]);
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    let running = ask(&gateway, &["config", "show", "--running"]);
    assert_eq!((running.code, &running.out), (Some(0), &of_file.out), "{}", running.err);

    let json = ask(&gateway, &["config", "show", "--running", "--json"]);
    let told: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(told["config"]["routes"][1]["ttl"], "5m");
    assert_eq!(told["sources"]["/admin/token"]["line"], 7);
    assert_eq!(told["config"]["admin"]["token"], "[hidden]");

    // What waits for a restart is not in force.
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("name = \"one\"", "name = \"one\"\nworkers = 3")).unwrap();
    let reload = Ask::new(gateway.admin(), "POST", "/reload");
    reload.field("authorization", "Bearer s3cret").send().await.code(200);
    let json = ask(&gateway, &["config", "show", "--running", "--json"]);
    let told: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(told["config"]["server"]["workers"], 0);

    fs::write(&file, "[server]\nlisen = 1\n").unwrap();
    let faulty = larder(gateway.folder(), &["config", "show"]);
    assert_eq!(faulty.code, Some(2));
    assert!(
        faulty.err.contains("gateway.toml:2:1: [server]: unknown key `lisen`"),
        "{}",
        faulty.err
    );
}
