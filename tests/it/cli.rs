//! The program from the command line: what it teaches, what it refuses, and its exit codes.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::client::Ask;
use crate::support::origin::{Origin, ok};
use crate::support::plugin::fixture;
use crate::support::program::{Running, larder};
use crate::tokens::CLAIM_IN_KEY;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn help_teaches() {
    for (arguments, taught) in [
        (
            &["--help"][..],
            &[
                "A cache gateway",
                "Usage: larder [OPTIONS] <COMMAND>",
                "  run ",
                "  check ",
                "  demo ",
                "  purge ",
                "  warm ",
                "  simulate ",
                "larder demo\n",
                "larder run --upstream http://127.0.0.1:3000\n",
                "larder check gateway.toml\n",
                "larder run gateway.toml\n",
                "Exit codes: 0 done",
                "--log <FILTER>",
                "--log-json",
            ][..],
        ),
        (
            &["run", "--help"],
            &[
                "--config <FILE>",
                "[default: gateway.toml]",
                "--upstream <URL>",
                "`http://HOST:PORT`",
                "--listen <ADDRESS>",
                "instead of `[server] listen`",
                "--admin <ADDRESS>",
                "On SIGTERM no more connections",
                "a second signal ends at once",
            ],
        ),
        (
            &["check", "--help"],
            &["Usage: larder check [OPTIONS] [FILE]", "[default: gateway.toml]", "exit code is\n2"],
        ),
        (&["demo", "--help"], &["--once", "Nothing else has to be installed", "loopback"]),
        (&["help", "run"], &["--upstream <URL>"]),
        (&["policy", "--help"], &["  new ", "  test ", "  inspect ", "  bench "]),
        (
            &["policy", "test", "--help"],
            &["[default: .]", "--cases <FILE>", "--json", "0 all hold · 1 some do not"],
        ),
    ] {
        let ran = larder(root(), arguments);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
        for text in taught {
            assert!(ran.out.contains(text), "{arguments:?} lacks `{text}`:\n{}", ran.out);
        }
        let wide = ran.out.lines().find(|line| line.chars().count() > 100);
        assert_eq!(wide, None, "{arguments:?}");
    }
}

/// All commands there are, and those below them: what each says of itself, and an example that it has.
#[test]
fn every_command_has_its_own_help_with_an_example() {
    let mut all = vec![Vec::new()];
    let mut seen = 0;
    while let Some(command) = all.pop() {
        let ran = larder(root(), &[&command[..], &["--help"]].concat());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{command:?}");
        let name = command.join(" ");
        let usage = format!("Usage: larder {name}");
        assert!(ran.out.contains(usage.trim_end()), "{}", ran.out);
        let examples = ran.out.lines().skip_while(|line| !line.starts_with("Example"));
        let example = format!("  larder {name}");
        let has_one = examples.clone().any(|line| line.starts_with(example.trim_end()));
        assert!(has_one, "{command:?} has no example:\n{}", ran.out);
        let wide = ran.out.lines().find(|line| line.chars().count() > 100);
        assert_eq!(wide, None, "{command:?}");
        seen += 1;
        let inner = ran.out.lines().skip_while(|line| *line != "Commands:").skip(1);
        let inner = inner.take_while(|line| !line.is_empty());
        let inner = inner.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        for name in inner.filter_map(|line| line.split_whitespace().next()) {
            if name != "help" {
                let name: &'static str = name.to_owned().leak();
                all.push([&command[..], &[name]].concat());
            }
        }
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn the_version_is_the_packages_and_tells_the_build() {
    let short = larder(root(), &["-V"]);
    assert_eq!(
        (short.code, short.out),
        (Some(0), format!("larder {}\n", env!("CARGO_PKG_VERSION")))
    );
    let ran = larder(root(), &["--version"]);
    assert_eq!(ran.code, Some(0));
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].starts_with(concat!("larder ", env!("CARGO_PKG_VERSION"))), "{}", ran.out);
    let features = if cfg!(feature = "mongodb") { "features: mongodb" } else { "features: none" };
    assert_eq!(lines[1], features);
    assert!(lines[2].starts_with(&format!("target: {}", std::env::consts::ARCH)), "{}", ran.out);
    assert!(lines[3].starts_with("build: "), "{}", ran.out);
}

#[test]
fn shells_take_the_scripts_that_complete() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = larder(root(), &["completions", shell]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{shell}");
        assert!(ran.out.contains("purge"), "{shell}");
    }
    // One that is here completes by it.
    let script = larder(root(), &["completions", "bash"]).out;
    let asks =
        "COMP_WORDS=(larder rou); COMP_CWORD=1; _larder larder rou larder; echo ${COMPREPLY[@]}";
    let ran = Command::new("bash").args(["-c", &format!("{script}\n{asks}")]).output();
    assert_eq!(String::from_utf8(ran.unwrap().stdout).unwrap(), "routes\n");
}

#[test]
fn arguments_that_mean_nothing_are_refused() {
    for (arguments, told) in [
        (&[][..], "Usage: larder"),
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (&["chekc"], "'check'"),
        (&["run", "--upstrem", "http://x"], "a similar argument exists: '--upstream'"),
        (&["run", "--upstream"], "a value is required for '--upstream <URL>'"),
        (&["run", "--listen", "8080"], "invalid value '8080'"),
        (&["run", "--admin", "127.0.0.1:0"], "--upstream <URL>"),
        (&["run", "--upstream", "http://x", "--config", "y"], "cannot be used with"),
        (&["run", "--upstream", "http://x", "--listen", "y"], "invalid value 'y'"),
        (&["run", "--upstream", "http://x", "y"], "cannot be used with"),
        (&["run", "a", "b"], "unexpected argument 'b'"),
        (&["run", "a", "--config", "b"], "cannot be used with"),
        (&["check", "a", "b"], "unexpected argument 'b'"),
        (&["demo", "--twice"], "unexpected argument '--twice'"),
        (&["warm"], "the following required arguments were not provided"),
        (&["warm", "--rate", "10"], "<URL|--list <FILE>|--sitemap <URL-OR-FILE>"),
        (&["warm", "/a"], "is not an absolute URL with http or https"),
        (&["warm", "http://h/", "--rate", "0"], "0 is not in 1..=10000"),
        (&["warm", "http://h/", "--concurrency", "1001"], "1001 is not in 1..=1000"),
        (&["warm", "http://h/", "--header", "gzip"], "is not a field such as"),
        (&["warm", "http://h/", "--header", "Host: h"], "names a field that"),
        (&["warm", "http://h/", "--gateway", "ftp://h"], "write `http://HOST:PORT`"),
        (&["warm", "--sitemap", "ftp://h/"], "is not an absolute URL with http or https"),
        (&["purge"], "the following required arguments were not provided"),
        (&["purge", "--soft", "--wait", "1s"], "--tag <TAG>|--key <NAME>|--url <URL>"),
        (&["purge", "--all", "--token", "secret"], "unexpected argument '--token'"),
        (&["purge", "--all", "--wait", "1"], "write a time such as `1s`"),
        (&["purge", "--all", "--wait", "31s"], "at most `30s`"),
        (&["purge", "--all", "--admin", "https://h"], "write `http://HOST:PORT`"),
        (&["purge", "--all", "--token-file", "not/there"], "not/there: the file cannot be read: "),
        (&["policy"], "Usage: larder policy"),
        (&["policy", "new"], "<NAME>"),
        (&["policy", "bench", "--seconds", "0"], "invalid value '0'"),
        (&["check", "--log", "=,="], "--log `=,=`: "),
        (&["check", "--log", "warning"], "`warning` is no level; write "),
        (&["run", "a", "--admin", "127.0.0.1:0"], "cannot be used with"),
        (&["run", "--config", "a", "--admin", "127.0.0.1:0"], "cannot be used with"),
    ] {
        let ran = larder(root(), arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(told), "{arguments:?} lacks `{told}`:\n{}", ran.err);
    }
}

#[test]
fn the_example_has_no_faults() {
    for arguments in [&["check"][..], &["check", "gateway.toml"]] {
        let ran = larder(root(), arguments);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        assert_eq!(ran.out, "gateway.toml: no faults (4 routes, 1 upstream, 3 policies)\n");
    }
}

#[test]
fn every_fault_is_told_as_written_beside_it() {
    let folder = root().join("tests/bad_config");
    let mut checked = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let file = path.file_name().unwrap().to_str().unwrap();
        let expected = fs::read_to_string(path.with_extension("stderr")).unwrap();
        let ran = larder(&folder, &["check", file]);
        assert_eq!(ran.err.trim_end(), expected.trim_end(), "{file}");
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{file}");
        // What is not good enough for `check` does not run.
        let ran = larder(&folder, &["run", file]);
        assert_eq!(ran.err.trim_end(), expected.trim_end(), "{file}");
        assert_eq!(ran.code, Some(2), "{file}");
        checked += 1;
    }
    assert!(checked > 10, "{checked} files in {}", folder.display());
}

#[test]
fn a_file_that_is_not_there_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["check"][..],
        &["check", "--config", "gateway.toml"],
        &["run"],
        &["run", "gateway.toml"],
        &["run", "--config", "gateway.toml"],
    ] {
        let ran = larder(folder.path(), arguments);
        assert_eq!(ran.code, Some(2));
        let told =
            "gateway.toml: the file cannot be read: No such file or directory (os error 2)\n";
        let hint = "  hint: `larder run --upstream URL` caches one API without a file, and `larder demo` \
                    shows the whole at work\n";
        let hint = if arguments[0] == "run" { hint } else { "" };
        assert_eq!(ran.err, format!("{told}{hint}1 fault\n"));
    }
    // Whoever has one knows why.
    fs::write(folder.path().join("gateway.toml"), "a").unwrap();
    let ran = larder(folder.path(), &["run"]);
    assert!(ran.code == Some(2) && !ran.err.contains("--upstream"), "{}", ran.err);
}

#[test]
fn an_address_that_is_none_is_a_fault() {
    for flag in ["--listen", "--admin"] {
        let arguments = ["run", "--upstream", "http://127.0.0.1:3000", flag, "8080"];
        let ran = larder(root(), &arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
        assert!(ran.err.contains("port, such as `127.0.0.1:8080`"), "{}", ran.err);
    }
}

#[test]
fn an_address_that_the_file_gives_away_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let toml = "[server]\nlisten = \"127.0.0.1:0\"\n\
        [[server.listeners]]\nlisten = \"127.0.0.1:18443\"\n\
        [admin]\nlisten = \"127.0.0.1:19080\"\n\
        [upstreams.a]\nservers = [\"http://127.0.0.1:1\"]\n\
        [[routes]]\nname = \"a\"\npath = \"/{*rest}\"\nupstream = \"a\"\n";
    fs::write(folder.path().join("gateway.toml"), toml).unwrap();
    for (listen, told) in [
        ("127.0.0.1:19080", "is where operators connect to"),
        ("127.0.0.1:18443", "is the address of another listener"),
    ] {
        let ran = larder(folder.path(), &["run", "--listen", listen]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{}", ran.err);
        let expected = format!("--listen: `{listen}` {told}\n  hint: give ");
        assert!(ran.err.starts_with(&expected), "{}", ran.err);
    }
}

#[test]
fn an_upstream_that_is_none_is_a_fault() {
    let ran = larder(root(), &["run", "--upstream", "localhost:3000/api"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    assert!(ran.err.starts_with("--upstream: `localhost:3000/api` "), "{}", ran.err);
    assert!(ran.err.contains("  hint: "), "{}", ran.err);
}

/// The exit code of a run whose standard output is this, and what it says beside that.
fn told_to(out: impl Into<Stdio>, arguments: &[&str]) -> (Option<i32>, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_larder"))
        .args(arguments)
        .current_dir(root())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(out)
        .output()
        .unwrap();
    (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
}

#[tokio::test]
async fn output_that_cannot_be_written_is_told_and_one_that_nobody_reads_is_not() {
    let larder = Running::upstream("http://127.0.0.1:9").await;
    let admin = format!("http://{}", larder.admin());
    let purge = ["purge", "--key", "e", "--admin", admin.as_str()];
    let stats = ["stats", "--admin", admin.as_str()];
    let cases = "plugins/variants/cases.toml";
    let policy = ["policy", "test", "bundled:variants", "--cases", cases];
    let inspect = ["policy", "inspect", "bundled:normalise-query"];
    let commands: [&[&str]; 8] =
        [&["schema"], &["check"], &["--help"], &["--version"], &purge, &stats, &policy, &inspect];
    for arguments in commands {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let told = "the output cannot be written: No space left on device (os error 28)\n";
        assert_eq!(told_to(full, arguments), (Some(1), told.to_owned()), "{arguments:?}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(told_to(writer, arguments), (Some(0), String::new()), "{arguments:?}");
    }
    // What is told elsewhere has its own code.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let (code, told) = told_to(full, &["check", "tests/bad_config/paths.toml"]);
    assert!(code == Some(2) && told.ends_with(" faults\n"), "{told}");
}

/// A component that is no policy.
const OTHER_WORLD: &str = r#"(component
  (core module $m (func (export "f")))
  (core instance $i (instantiate $m))
  (func $f (canon lift (core func $i "f")))
  (instance $api (export "run" (func $f)))
  (export "other:api/runner@1.0.0" (instance $api)))"#;

/// A component that wants more than a policy has.
const IMPORTS: &str = r#"(component
  (import "wasi:clocks/wall-clock@0.2.0" (instance)))"#;

#[test]
fn faults_of_plugins_are_told_at_their_lines_among_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, octets: &[u8]| fs::write(folder.path().join(name), octets).unwrap();
    write("text.wasm", b"not wasm at all");
    write("other.wasm", &wat::parse_str(OTHER_WORLD).unwrap());
    write("imports.wasm", &wat::parse_str(IMPORTS).unwrap());
    write("core.wasm", &wat::parse_str("(module)").unwrap());
    write("cut.wasm", &wat::parse_str(OTHER_WORLD).unwrap()[..40]);
    write("gateway.toml", FAULTY.as_bytes());
    let ran = larder(folder.path(), &["check"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    let wanted = "wanted are `larder:policy/configure@0.1.0` and at least one of `key`, `storing` and \
                  `invalidation` of that package";
    let expected = [
        "3:11: [server]: workers `many` is a string, not a whole number".to_owned(),
        "8:10: policy `missing`: plugin `absent.wasm` does not exist".to_owned(),
        "10:10: policy `text`: not a WebAssembly component or module".to_owned(),
        format!("12:10: policy `other`: it exports `other:api/runner@1.0.0`; {wanted}"),
        "14:10: policy `imports`: it imports `wasi:clocks/wall-clock@0.2.0`; a policy has nothing \
         but `larder:policy/log@0.1.0`"
            .to_owned(),
        format!(
            "16:10: policy `core`: it exports nothing (it has no `component-type` section, or an \
             empty world); {wanted}"
        ),
        // What follows is the engine's.
        "18:10: policy `cut`: not a policy plugin: ".to_owned(),
        "20:10: policy `unknown`: no plugin is bundled as `normalize-query`; there are \
         `content-tags`, `document-changes`, `graphql`, `normalise-query`, `rest-writes`, \
         `tenant`, `variants`"
            .to_owned(),
        "23:10: policy `refused`: unknown setting `dorp`: this policy has `drop`, `keep`, `sort`"
            .to_owned(),
        "26:11: policy `nothing`: no `plugin`".to_owned(),
        "35:16: route `roles`: the plugin of policy `writes` does not export `key`".to_owned(),
        "36:16: route `roles`: the plugin of policy `good` does not export `storing`".to_owned(),
        "37:16: route `roles`: the plugin of policy `good` does not export `invalidation`"
            .to_owned(),
        "48:12: route `same`: path `/unloaded/{*all}` matches the same requests as \
         `/unloaded/{*rest}` of route `unloaded` at line 41"
            .to_owned(),
        "50:1: route `same`: unknown key `color`".to_owned(),
    ];
    let told = ran.err.lines().filter_map(|line| line.strip_prefix("gateway.toml:"));
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), expected.len(), "{}", ran.err);
    for (told, expected) in told.iter().zip(&expected) {
        assert!(told.starts_with(expected), "{told}\n{expected}");
    }
    assert!(ran.err.ends_with("\n15 faults\n"), "{}", ran.err);
}

#[test]
fn claims_need_a_route_that_reads_tokens_and_keys_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("claims.wasm"), fixture(&CLAIM_IN_KEY)).unwrap();
    let tables = "[upstreams.api]\nservers = [\"http://127.0.0.1:3000\"]\n\
         [policies.claims]\nplugin = \"claims.wasm\"\n\
         [jwt.users]\njwks = \"absent.json\"\nalgorithms = [\"ES256\"]\n\
         [[routes]]\nname = \"blind\"\npath = \"/\"\nupstream = \"api\"\nkey = \"claims\"\n";
    fs::write(folder.path().join("gateway.toml"), tables).unwrap();
    let ran = larder(folder.path(), &["check"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    let expected = [
        "gateway.toml:6:8: jwt `users`: `absent.json` cannot be read: No such file or directory \
         (os error 2)",
        "gateway.toml:12:7: route `blind`: policy `claims` asks for claims, and the route reads no \
         token",
        "  hint: write jwt = \"NAME\", and a table `[jwt.NAME]`",
        "2 faults\n",
    ];
    assert_eq!(ran.err, expected.join("\n"));
}

#[test]
fn policy_needs_the_memory_for_what_it_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let wants_content = "(i32.store8 (i32.const 1028) (i32.const 0x48))";
    let plugin = fixture(&[("configure", wants_content)]);
    fs::write(folder.path().join("content.wasm"), plugin).unwrap();
    let route = |number: u32, role: &str, bound: &str| {
        format!(
            "[[routes]]\nname = \"r{number}\"\npath = \"/{number}\"\nupstream = \"api\"\n\
             {role}\n{bound}\n"
        )
    };
    let tables = "[upstreams.api]\nservers = [\"http://127.0.0.1:3000\"]\n\
         [policies.small]\nplugin = \"content.wasm\"\nmemory = \"1MiB\"\n\
         [policies.blind]\nplugin = \"bundled:normalise-query\"\nmemory = \"1MiB\"\n";
    let routes = [
        route(1, "invalidation = \"small\"", "max_policy_body = \"2MiB\""),
        route(2, "key = \"small\"", "max_query_body = \"1025KiB\""),
        route(3, "invalidation = \"small\"", "max_policy_body = \"1MiB\""),
        route(4, "key = \"blind\"", "max_query_body = \"2MiB\""),
        route(5, "key = \"small\"", "max_policy_body = \"2MiB\""),
    ];
    fs::write(folder.path().join("gateway.toml"), format!("{tables}{}", routes.concat())).unwrap();
    let ran = larder(folder.path(), &["check"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    let expected = [
        "gateway.toml:13:16: route `r1`: policy `small` is shown a content of up to 2MiB \
         (`max_policy_body`), and has a `memory` of 1MiB",
        "  hint: write a smaller max_policy_body, or a larger memory in [policies.small]",
        "gateway.toml:19:7: route `r2`: policy `small` is shown a content of up to 1025KiB \
         (`max_query_body`), and has a `memory` of 1MiB",
        "  hint: write a smaller max_query_body, or a larger memory in [policies.small]",
        "2 faults\n",
    ];
    assert_eq!(ran.err, expected.join("\n"));
}

#[test]
fn grant_needs_a_policy_that_tells_users_apart() {
    let folder = tempfile::tempdir().unwrap();
    let route = |number: u32, key: &str, grant: &str| {
        format!(
            "[[routes]]\nname = \"r{number}\"\npath = \"/{number}\"\nupstream = \"api\"\n\
             key = \"{key}\"\ngrants = [\"{grant}\"]\n"
        )
    };
    let tables = "[upstreams.api]\nservers = [\"http://127.0.0.1:3000\"]\n\
         [policies.blind]\nplugin = \"bundled:normalise-query\"\n\
         [policies.cookie]\nplugin = \"bundled:variants\"\nconfig = { cookie = \"user\" }\n";
    let routes = [
        route(1, "blind", "private"),
        route(2, "cookie", "private"),
        route(3, "blind", "authorization"),
        route(4, "cookie", "authorization"),
        route(5, "blind", "set-cookie"),
        route(6, "blind", "post"),
    ];
    fs::write(folder.path().join("gateway.toml"), format!("{tables}{}", routes.concat())).unwrap();
    let ran = larder(folder.path(), &["check"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    let hint = "  hint: leave the grant out, or name a key policy whose `configure` wants it";
    let apart = "is for a policy that tells apart what it shares";
    let expected = [
        format!(
            "gateway.toml:13:10: route `r1`: grant `private` {apart}, and `blind` looks at no claim, no `authorization` and no cookie\n{hint}"
        ),
        format!(
            "gateway.toml:25:10: route `r3`: grant `authorization` {apart}, and `blind` looks at neither a claim nor `authorization`\n{hint}"
        ),
        format!(
            "gateway.toml:31:10: route `r4`: grant `authorization` {apart}, and `cookie` looks at neither a claim nor `authorization`\n{hint}"
        ),
        format!(
            "gateway.toml:43:10: route `r6`: grant `post` {apart}, and `blind` looks at no content\n{hint}"
        ),
        "4 faults\n".to_owned(),
    ];
    assert_eq!(ran.err, expected.join("\n"));
}

#[test]
fn no_policy_goes_by_a_field_that_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let tables = "[upstreams.api]\nservers = [\"http://127.0.0.1:3000\"]\n\
         [policies.tenants]\nplugin = \"bundled:tenant\"\nconfig = { field = \"X_Tenant\" }\n\
         [[routes]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"api\"\nkey = \"tenants\"\n";
    fs::write(&file, tables).unwrap();
    let ran = larder(folder.path(), &["check"]);
    let expected = "gateway.toml:5:10: policy `tenants`: it asks for the field `x_tenant`, which is dropped from \
         requests, as servers read `_` as `-`\n  \
         hint: write `-`, or underscores_in_fields = true in [server]\n1 fault\n";
    assert_eq!((ran.code, ran.err.as_str()), (Some(2), expected));
    fs::write(&file, format!("[server]\nunderscores_in_fields = true\n{tables}")).unwrap();
    let ran = larder(folder.path(), &["check"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

const FAULTY: &str = r#"[server]
listen = "127.0.0.1:0"
workers = "many"
[upstreams.api]
servers = ["http://127.0.0.1:3000"]

[policies.missing]
plugin = "absent.wasm"
[policies.text]
plugin = "text.wasm"
[policies.other]
plugin = "other.wasm"
[policies.imports]
plugin = "imports.wasm"
[policies.core]
plugin = "core.wasm"
[policies.cut]
plugin = "cut.wasm"
[policies.unknown]
plugin = "bundled:normalize-query"
[policies.refused]
plugin = "bundled:normalise-query"
config = { dorp = ["utm_*"] }
[policies.good]
plugin = "bundled:normalise-query"
[policies.nothing]
on_error = "fail"
[policies.writes]
plugin = "bundled:rest-writes"

[[routes]]
name         = "roles"
path         = "/roles/{*rest}"
upstream     = "api"
key          = "writes"
storing      = "good"
invalidation = "good"

[[routes]]
name     = "unloaded"
path     = "/unloaded/{*rest}"
upstream = "api"
key      = "nothing"
storing  = "missing"

[[routes]]
name     = "same"
path     = "/unloaded/{*all}"
upstream = "api"
color    = "red"
"#;

#[test]
fn a_port_that_is_taken_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = larder(root(), &["run", "--upstream", "http://127.0.0.1:9", "--listen", &address]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    let told = format!("`{address}` cannot be listened on: Address already in use (os error 98)\n");
    assert!(ran.err.starts_with(&told), "{}", ran.err);
    assert!(ran.err.contains("\n  hint: another process listens there: "), "{}", ran.err);
    let admin = ["--listen", "127.0.0.1:0", "--admin", &address];
    let ran = larder(root(), &[&["run", "--upstream", "http://127.0.0.1:9"][..], &admin].concat());
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.starts_with(&format!("`{address}` cannot be listened on: ")), "{}", ran.err);
}

#[tokio::test]
async fn one_api_needs_no_file() {
    let origin = Origin::start().await;
    origin.on("/a?b=1").reply(ok("1").max_age(60));
    let larder = Running::upstream(&origin.url()).await;
    let get = || Ask::new(larder.address(), "GET", "/a?b=1").send();
    get().await.code(200).body("1").status("fwd=uri-miss; stored");
    get().await.code(200).body("1").status("hit");
    origin.saw("/a?b=1", 1);
    let stats = Ask::new(larder.admin(), "GET", "/stats").send().await.code(200);
    let stats: Value = serde_json::from_slice(&stats.body).unwrap();
    assert_eq!((&stats["total_requests"], &stats["l1_hits"]), (&2.into(), &1.into()));
    larder.signal("TERM");
    assert_eq!(larder.exit_code().await, Some(0));
}

#[test]
fn the_demo_runs_wherever_it_can_listen_and_shows_hits_and_a_write_being_seen() {
    let check = |out: &str| {
        for text in ["larder; hit; ttl=", "larder; fwd=method", "Price written: "] {
            assert!(out.contains(text), "`{text}` is missing:\n{out}");
        }
        let prices = out.lines().find(|line| line.contains("Price written: ")).unwrap();
        let prices: Vec<_> = prices.split([' ', ';']).filter(|word| word.contains('.')).collect();
        assert!(prices.len() == 3 && prices.iter().all(|it| *it == prices[0]), "{prices:?}");
    };
    let ran = larder(root(), &["demo", "--once"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    check(&ran.out);

    // Somebody else may hold them already, which comes to the same.
    let wanted = ["127.0.0.1:8080", "127.0.0.1:9080", "127.0.0.1:3000"];
    let _taken: Vec<_> = wanted.iter().map(TcpListener::bind).collect();
    let ran = larder(root(), &["demo", "--once"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    check(&ran.out);
    for address in wanted {
        assert!(ran.out.contains(&format!("{address} is in use; ")), "{}", ran.out);
    }
}
