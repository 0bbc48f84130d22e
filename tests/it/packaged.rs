//! What runs Larder elsewhere: the files for containers, read by Docker's own parser, and the chart, by Helm.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::pki::run;
use crate::support::program::larder_with;
use crate::support::tool;

fn docs(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(path)
}

/// The instructions of the Dockerfile, each with its flags and its values.
async fn instructions() -> Vec<Vec<String>> {
    const PRINTS: &str = "import dockerfile, json, sys; print(json.dumps(\
        [[it.cmd, *it.flags, *it.value] for it in dockerfile.parse_file(sys.argv[1])]))";

    let python = tool("dockerfile/bin/python").display().to_string();
    let path = docs("service/Dockerfile").display().to_string();
    let said = run(&python, &["-c", PRINTS, &path]).await;
    serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"))
}

#[tokio::test]
async fn the_image_has_no_shell_and_its_user_is_nobody() {
    let all = instructions().await;
    let last = all.iter().rposition(|it| it[0] == "FROM").unwrap();
    let (build, image) = all.split_at(last);
    assert_eq!(image[0], ["FROM", "gcr.io/distroless/cc-debian12:nonroot"]);
    // Nothing may be run there.
    assert!(image.iter().all(|it| it[0] != "RUN" && it[0] != "USER"), "{image:?}");
    let version = env!("CARGO_PKG_RUST_VERSION");
    assert_eq!(build[0], ["FROM", &format!("rust:{version}-bookworm"), "AS", "build"]);
    let of = |name: &str| image.iter().find(|it| it[0] == name).unwrap();
    // An array, as there is nothing that would take a text apart.
    let program = &of("COPY").last().unwrap()[..];
    assert_eq!(of("ENTRYPOINT"), &["ENTRYPOINT", program]);
    let health = &of("HEALTHCHECK")[of("HEALTHCHECK").len() - 3..];
    assert_eq!(health, ["CMD", program, "health"]);
    // The arguments are understood.
    let folder = tempfile::tempdir().unwrap();
    let arguments: Vec<_> = of("CMD")[1..].iter().map(String::as_str).collect();
    let ran = larder_with(folder.path(), &arguments, &[]);
    assert!(ran.code == Some(2) && ran.err.contains("/etc/larder/gateway.toml"), "{}", ran.err);
}

#[test]
fn the_fleet_of_containers_is_made_of_the_same_image() {
    let compose = fs::read_to_string(docs("fleet/compose.yaml")).unwrap();
    let named = compose.split("dockerfile: ").nth(1).unwrap();
    let named = named.split([' ', '\n']).next().unwrap();
    assert!(docs("..").join(named).exists(), "{named}");
}

/// What Helm makes of the chart with these values.
async fn chart(arguments: &[&str]) -> String {
    let (helm, chart) = (tool("helm/helm").display().to_string(), docs("service/chart"));
    let chart = chart.display().to_string();
    run(&helm, &[&["template", "shop", &chart][..], arguments].concat()).await
}

#[tokio::test]
async fn the_chart_is_sound_and_its_configuration_has_no_faults() {
    let helm = tool("helm/helm").display().to_string();
    let said =
        run(&helm, &["lint", "--strict", &docs("service/chart").display().to_string()]).await;
    assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{said}");

    let made = chart(&[]).await;
    let config = made.lines().find_map(|line| line.strip_prefix("  gateway.toml: ")).unwrap();
    let config: String = serde_json::from_str(config).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("gateway.toml"), &config).unwrap();
    let ran = larder_with(folder.path(), &["check"], &[("POD_NAME", "shop-1")]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(config.contains("0.0.0.0:8080") && made.contains("containerPort: 8080"), "{made}");
    for hardened in [
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "capabilities: { drop: [ALL] }",
        "automountServiceAccountToken: false",
        "exec: { command: [/usr/local/bin/larder, health, --live] }",
    ] {
        assert!(made.contains(hardened), "{hardened}: {made}");
    }
}

#[tokio::test]
async fn the_charts_values_are_used_and_checked() {
    let values = serde_json::json!({
        "replicas": 2, "secrets": ["tokens"], "files": ["shop-tls"], "leave": 7, "maxUnavailable": null,
        "env": [{ "name": "API", "value": "http://api" }], "podAnnotations": { "team": "shop" },
        "image": { "repository": "registry.example/larder", "tag": "1", "pullSecrets": ["pull"] },
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("values.json");
    fs::write(&path, values.to_string()).unwrap();
    let made = chart(&["--values", path.to_str().unwrap()]).await;
    for used in [
        "replicas: 2",
        "image: \"registry.example/larder:1\"",
        "- name: pull",
        "- secretRef: { name: tokens }",
        "secret: { secretName: \"shop-tls\" }",
        "mountPath: \"/var/lib/larder/files/shop-tls\"",
        "preStop: { sleep: { seconds: 7 } }",
        "value: http://api",
        "team: shop",
    ] {
        assert!(made.contains(used), "{used}: {made}");
    }
    assert!(!made.contains("PodDisruptionBudget"), "{made}");
    for (wrong, told) in [
        ("replicas=many", "at '/replicas': got string, want integer"),
        ("replica=1", "additional properties 'replica' not allowed"),
        ("image.name=larder", "at '/image': additional properties 'name' not allowed"),
        ("service.port=0", "at '/service/port': minimum: got 0, want 1"),
        ("config=", "at '/config': minLength: got 0, want 1"),
    ] {
        let said = chart(&["--set", wrong]).await;
        assert!(said.contains(told), "{wrong}: {said}");
    }
    let schema = fs::read_to_string(docs("service/chart/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let defaults = fs::read_to_string(docs("service/chart/values.yaml")).unwrap();
    for name in schema["properties"].as_object().unwrap().keys().filter(|name| *name != "global") {
        assert!(defaults.contains(&format!("\n{name}:")), "{name} has no default that tells of it");
    }
}
