//! The commands of a policy's author, through the program.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::plugin::{SPIN, fixture};
use crate::support::program::{Ran, larder, larder_with};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `larder policy test` of a file in a folder.
fn tried(folder: &Path, plugin: &str, cases: &str) -> Ran {
    larder(folder, &["policy", "test", plugin, "--cases", cases])
}

/// Without the line whose figures are another each time.
fn steady(out: &str) -> String {
    let lines = out.lines().filter(|line| !line.starts_with("the most of one call: "));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// A plugin as text, and its cases beside it.
fn written(places: &[(&str, &str)], cases: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("policy.wasm"), fixture(places)).unwrap();
    fs::write(folder.path().join("cases.toml"), cases).unwrap();
    folder
}

#[test]
fn the_bundled_plugins_do_what_their_cases_say() {
    for plugin in larder::plugin::bundled_names() {
        let cases = format!("plugins/{plugin}/cases.toml");
        let ran = tried(root(), &format!("bundled:{plugin}"), &cases);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
        assert!(ran.out.lines().all(|line| !line.starts_with("note")), "{}", ran.out);
    }
}

#[test]
fn every_fault_of_a_file_is_told_at_its_line() {
    let folder = root().join("tests/bad_cases");
    for name in ["expect", "kinds", "requests", "syntax"] {
        let expected = fs::read_to_string(folder.join(format!("{name}.stderr"))).unwrap();
        let ran = tried(&folder, "bundled:normalise-query", &format!("{name}.toml"));
        assert_eq!(ran.err, expected, "{name}");
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{name}");
    }
}

#[test]
fn a_case_that_fails_says_what_came() {
    let folder = root().join("tests/failing_cases");
    for plugin in ["normalise-query", "rest-writes", "variants"] {
        let expected = fs::read_to_string(folder.join(format!("{plugin}.stdout"))).unwrap();
        let ran = tried(&folder, &format!("bundled:{plugin}"), &format!("{plugin}.toml"));
        assert_eq!(steady(&ran.out), expected, "{plugin}: {}", ran.err);
        assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""), "{plugin}");
    }
}

#[test]
fn a_trap_is_told_with_the_plugins_own_backtrace() {
    let cases = "[[key]]\nrequest = \"/abc\"\nexpect = { name = \"abc\" }\n";
    let folder = written(&[("key", "(unreachable)")], cases);
    let ran = larder(folder.path(), &["policy", "test", "policy.wasm"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    for told in [
        "FAILED cases.toml:1: key: /abc\n",
        "expected: /abc: an answer\n",
        "came:     the plugin trapped: wasm trap: wasm `unreachable` instruction executed\n",
        "\n                   0: ",
        "policy.wasm: 0 ok, 1 failed\n",
    ] {
        assert!(ran.out.contains(told), "{told}\n{}", ran.out);
    }
}

#[test]
fn a_call_has_the_time_that_the_file_says() {
    let cases = "time = \"1ms\"\n[[key]]\nrequest = \"/abc\"\nexpect = { name = \"abc\" }\n";
    let folder = written(&[("key", SPIN)], cases);
    let ran = larder(folder.path(), &["policy", "test", "policy.wasm"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    let told = "came:     the plugin took longer than the policy's `time`\n";
    assert!(ran.out.contains(told), "{}", ran.out);
}

#[test]
fn how_a_response_is_stored_is_compared() {
    let good = "expect = { store = true, max_age = \"1m\", tags = [\"path\"] }";
    let bad = "expect = { store = false, max_age = \"none\", tags = [] }";
    let case =
        |expect: &str| format!("time = \"10s\"\n[[storing]]\nrequest = \"/abc\"\n{expect}\n");
    let folder = written(&[], &case(good));
    let ran = larder(folder.path(), &["policy", "test", "policy.wasm"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    fs::write(folder.path().join("cases.toml"), case(bad)).unwrap();
    let ran = larder(folder.path(), &["policy", "test", "policy.wasm"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    let told = "         expected: store = false\n         came:     store = true\n         \
                expected: max_age = none\n         came:     max_age = 60s\n         \
                expected: tags nothing\n         came:     `path`\n";
    assert!(ran.out.contains(told), "{}", ran.out);
}

#[test]
fn cookies_that_come_as_a_field_are_secrets_too() {
    // Wants the field `cookie`, and answers it as a part.
    let places = [
        ("more", "(data (i32.const 68) \"\\06\\00\\00\\00cookie\")"),
        (
            "key",
            "(if (i32.load8_u (i32.load offset=56 (local.get $request)))
               (then
                 (i32.store (i32.const 140) (i32.const 2))
                 (i32.store (i32.const 176) (i32.const 72))
                 (i32.store (i32.const 180) (i32.const 6))
                 (i32.store (i32.const 184)
                   (i32.load offset=4 (i32.load offset=56 (local.get $request))))
                 (i32.store (i32.const 188)
                   (i32.load offset=8 (i32.load offset=56 (local.get $request))))))",
        ),
    ];
    let cases = "time = \"10s\"\n[[different]]\n\
                 requests = [{ url = \"/abc\", cookies = { session = \"d0f6\" } }, \"/abc\"]\n";
    let folder = written(&places, cases);
    let ran = larder(folder.path(), &["policy", "test", "policy.wasm"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""), "{}", ran.out);
    for told in [
        "FAILED cases.toml:2: the value of the field `cookie` is in the readable name\n",
        "policy.wasm: 1 ok, 0 failed, 1 secret came out\n",
    ] {
        assert!(ran.out.contains(told), "{told}\n{}", ran.out);
    }
    assert!(!ran.out.contains("asks to see the field `cookie`"), "{}", ran.out);
}

#[test]
fn a_pattern_that_begins_as_a_path_is_noted() {
    let cases = |scope: &str| {
        format!(
            "time = \"10s\"\n[[invalidation]]\nrequest = {{ method = \"PUT\", url = \"/abc\" }}\n\
             expect = [{{ {scope} = \"/abc\", soft = true }}]\n"
        )
    };
    let note = "note   the pattern `/abc` begins with `/`, which readable names leave out: `abc`\n";
    let pattern = [("invalidation", "(i32.store8 (i32.const 280) (i32.const 2))")];
    for (places, scope, is_noted) in [(&[][..], "path", false), (&pattern[..], "pattern", true)] {
        let folder = written(places, &cases(scope));
        let ran = larder(folder.path(), &["policy", "test", "policy.wasm"]);
        assert_eq!(ran.code, Some(0), "{scope}: {}{}", ran.out, ran.err);
        assert_eq!(ran.out.contains(note), is_noted, "{scope}: {}", ran.out);
    }
}

#[test]
fn the_same_is_told_as_json() {
    let folder = root().join("tests/failing_cases");
    let arguments = ["policy", "test", "bundled:variants", "--cases", "variants.toml", "--json"];
    let ran = larder(&folder, &arguments);
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""));
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["cases"][0]["line"], 4);
    assert_eq!(report["cases"][0]["is_ok"], true);
    assert_eq!(report["leaks"][0]["secret"], "cookie `session`");
    assert_eq!(report["notes"].as_array().unwrap().len(), 1, "{}", ran.out);
    assert!(report["most"]["memory"].as_u64().unwrap() > 0);
}

#[test]
fn what_cannot_be_tried_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("text.wasm", "text");
    write("none.toml", "config = {}\n");
    write("one.toml", "[[refused]]\nerror = \"x\"\n");
    for (plugin, cases, told) in [
        ("absent.wasm", "one.toml", "absent.wasm: plugin `absent.wasm` does not exist\n"),
        ("text.wasm", "one.toml", "text.wasm: not a WebAssembly component or module\n"),
        ("bundled:x", "one.toml", "bundled:x: no plugin is bundled as `x`; there are "),
        (
            "bundled:variants",
            "none.toml",
            "none.toml: there are no cases\n  hint: write `[[equal]]`\n",
        ),
        ("bundled:variants", "absent.toml", "absent.toml: the file cannot be read: "),
        (".", "one.toml", "`Cargo.toml` cannot be read: "),
    ] {
        let ran = tried(folder.path(), plugin, cases);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{plugin}: {}", ran.err);
        assert!(ran.err.starts_with(told), "{}", ran.err);
    }
    let ran = larder(folder.path(), &["policy", "test", "bundled:variants"]);
    assert_eq!(ran.code, Some(2));
    let told = "`bundled:variants` has no cases beside it\n  hint: name a file with --cases\n";
    assert_eq!(ran.err, told);
    let ran = larder(folder.path(), &["policy", "test", "bundled:x"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.starts_with("bundled:x: no plugin is bundled as `x`; "), "{}", ran.err);
}

#[test]
fn a_crate_is_built_before_it_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(larder(folder.path(), &["policy", "new", "fresh"]).code, Some(0));
    let own = folder.path().join("fresh");
    let ran = larder(&own, &["policy", "test"]);
    assert_eq!(ran.code, Some(2));
    let hint = "\n  hint: cargo build --release --target wasm32-unknown-unknown\n";
    let module = "target/wasm32-unknown-unknown/release/fresh.wasm";
    assert_eq!(ran.err, format!("`fresh` is not built: there is no `{module}`{hint}"));

    // Where the variable says so, it is built elsewhere.
    let elsewhere = folder.path().join("elsewhere");
    let built = elsewhere.join("wasm32-unknown-unknown/release/fresh.wasm");
    let target = elsewhere.display().to_string();
    let in_target =
        || larder_with(&own, &["policy", "inspect"], &[("CARGO_TARGET_DIR", target.as_str())]);
    let told = in_target().err;
    let expected = format!("`fresh` is not built: there is no `{}`{hint}", built.display());
    assert_eq!(told, expected);
    fs::create_dir_all(built.parent().unwrap()).unwrap();
    fs::write(&built, fixture(&[])).unwrap();
    let ran = in_target();
    assert!(ran.out.contains("elsewhere/wasm32-unknown-unknown/release/fresh.wasm"), "{ran:?}");

    // Older than its sources, as after an edit.
    fs::create_dir_all(own.join(module).parent().unwrap()).unwrap();
    fs::write(own.join(module), fixture(&[])).unwrap();
    let edited = fs::metadata(own.join(module)).unwrap().modified().unwrap();
    let later = edited + std::time::Duration::from_secs(1);
    let source = fs::File::options().append(true).open(own.join("src/lib.rs")).unwrap();
    source.set_modified(later).unwrap();
    let ran = larder(&own, &["policy", "test"]);
    assert_eq!(ran.code, Some(2));
    assert_eq!(ran.err, format!("`{module}` is older than `src/lib.rs`{hint}"));

    // Of what an editor leaves, nothing is built.
    source.set_modified(edited).unwrap();
    let touch = |name: &str, when| {
        let file = fs::File::create(own.join(name)).unwrap();
        file.set_modified(when).unwrap();
    };
    for name in ["src/.lib.rs.swp", "src/lib.rs~"] {
        touch(name, later);
    }
    let told = || larder(&own, &["policy", "test"]).err;
    assert!(!told().contains("is older than"), "{}", told());

    // Nor of what cargo has not read.
    touch("src/tests.rs", later);
    assert_eq!(told(), format!("`{module}` is older than `src/tests.rs`{hint}"));
    let listed = own.join(module).with_extension("d");
    let path = |name: &str| own.join(name).display().to_string().replace(' ', "\\ ");
    fs::write(&listed, format!("{}: {}\n", path(module), path("src/lib.rs"))).unwrap();
    assert!(!told().contains("is older than"), "{}", told());
    source.set_modified(later).unwrap();
    let told = told();
    assert!(told.ends_with(&format!("src/lib.rs`{hint}")), "{told}");
}

#[test]
fn a_new_policy_has_a_folder_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let ran = larder(folder.path(), &["policy", "new", "by-tenant", "--dir", "policies"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.starts_with("`policies/by-tenant` cannot be made: "), "{}", ran.err);

    let ran = larder(folder.path(), &["policy", "new", "by-tenant"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(ran.out.contains("  cd by-tenant\n  cargo test\n"), "{}", ran.out);
    assert!(folder.path().join("by-tenant/larder-policy/wit/policy.wit").is_file());

    let ran = larder(folder.path(), &["policy", "new", "by-tenant"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.starts_with("`by-tenant` is there already\n  hint: "), "{}", ran.err);

    for name in ["By-Tenant", "../up", "", "test", "9"] {
        let ran = larder(folder.path(), &["policy", "new", name]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{name}");
        assert!(ran.err.starts_with(&format!("`{name}` ")), "{}", ran.err);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_new_policy_builds_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(larder(folder.path(), &["policy", "new", "by-tenant"]).code, Some(0));
    let own = folder.path().join("by-tenant");
    wasm(&own);
    // In release, what is for this machine is there already.
    cargo(&own, Command::new("cargo").args(["test", "--release"]));
    let ran = larder(&own, &["policy", "test"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    assert!(!ran.out.contains("note "), "{}", ran.out);
    let ran = larder(&own, &["policy", "inspect"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("  asks for   path, query, field `x-tenant`\n"), "{}", ran.out);

    // The next afternoon: another policy in the same folder.
    let everything = root().join("tests/everything");
    fs::copy(everything.join("policy.rs"), own.join("src/lib.rs")).unwrap();
    fs::copy(everything.join("cases.toml"), own.join("cases.toml")).unwrap();
    wasm(&own);
    let ran = larder(&own, &["policy", "test"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""), "{}", ran.out);
    let (cases, rest) = ran.out.split_once("FAILED ").unwrap();
    assert_eq!(cases.lines().filter(|line| line.starts_with("ok ")).count(), 6, "{}", ran.out);
    let expected = "cases.toml:4: the value of the field `authorization` is in the log\n         \
                    hint: leave it out\n\
                    FAILED cases.toml:4: the value of the claim `sub` is in the readable name\n         \
                    hint: leave it out, or write public = { claims = [\"sub\"] } if operators may read it\n\
                    note   it asks to see the field `authorization`, but no answer in these cases depends on it\n\
                    note   it asks to see the field `x-unused`, but no answer in these cases depends on it\n\
                    target/wasm32-unknown-unknown/release/by_tenant.wasm: 6 ok, 0 failed, 2 secrets came out\n";
    assert_eq!(steady(rest), expected);
}

#[test]
fn the_smallest_policy_is_a_crate_of_its_own() {
    const README: &str = include_str!("../../plugins/README.md");
    const FILES: [&str; 3] = ["Cargo.toml", ".cargo/config.toml", "src/lib.rs"];

    // The folder of the plugins, with one more in it.
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(root().join("plugins")).unwrap() {
        let entry = entry.unwrap();
        symlink(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let own = folder.path().join("by-tenant");
    let (_, section) = README.split_once("## The smallest policy that works\n").unwrap();
    let blocks = section.split("```").skip(1).step_by(2);
    let blocks = blocks.filter_map(|block| block.split_once('\n'));
    for (name, (_, text)) in FILES.into_iter().zip(blocks) {
        let file = own.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let arguments = ["metadata", "--offline", "--no-deps", "--format-version", "1"];
    cargo(&own, Command::new("cargo").args(arguments));
}

/// Builds a policy with the compiler that `plugins/build` would take: the one in PATH if it has the
/// target, else Debian's, which builds the standard library itself.
fn wasm(folder: &Path) {
    const TARGET: &str = "wasm32-unknown-unknown";
    const DEBIAN: [&str; 3] =
        ["/usr/bin/rustc", "/usr/bin/cargo", "/usr/lib/rustlib/src/rust/library"];

    let sysroot = said("rustc", &["--print", "sysroot"]);
    if Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).is_dir() {
        return cargo(folder, Command::new("cargo").arg("wasm"));
    }
    let [rustc, debian, _] = DEBIAN;
    let linker = DEBIAN.iter().all(|file| Path::new(file).exists()).then(|| {
        // rustc-web does not depend on the linker, whose version must be that of its LLVM.
        let version = said(rustc, &["-vV"]);
        let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "));
        let linker = format!("/usr/bin/wasm-ld-{}", llvm.unwrap().split('.').next().unwrap());
        Path::new(&linker).exists().then_some(linker)
    });
    let linker = linker.flatten().unwrap_or_else(|| {
        panic!(
            "no compiler for WebAssembly. `tests/run` installs one of these:\n  \
             rustup target add {TARGET}\n  \
             apt-get install rustc-web cargo-web rust-web-src lld-22   (Debian; lld in the \
             version of rustc's LLVM)"
        )
    });
    let mut command = Command::new(debian);
    command.args(["wasm", "-Zbuild-std=std,panic_abort", "--config"]);
    command.arg(format!("target.{TARGET}.linker='{linker}'"));
    // -Z options and the standard library's sources are for nightly compilers otherwise.
    cargo(folder, command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1"));
}

/// Runs cargo in the folder of a policy. There is nothing to warn of.
fn cargo(folder: &Path, command: &mut Command) {
    // Flags for this crate's own build are not for that one.
    let command =
        command.current_dir(folder).env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    let ran = command.output().unwrap();
    let err = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{command:?}:\n{err}");
    assert!(!err.contains("warning"), "{command:?}:\n{err}");
}

/// What a program writes.
fn said(program: &str, arguments: &[&str]) -> String {
    let ran = Command::new(program).args(arguments).output();
    let ran = ran.unwrap_or_else(|error| panic!("`{program}` cannot be run: {error}"));
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn a_plugin_says_what_it_is() {
    let ran = larder(root(), &["policy", "inspect", "bundled:normalise-query"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    for told in [
        "bundled:normalise-query\n",
        "  form       a core module, of which the gateway makes a component\n",
        "  contract   larder:policy@0.1.0\n",
        "  world      key-policy\n",
        "  exports    configure, key\n",
        "  imports    nothing\n",
        "  asks for   path, query\n",
    ] {
        assert!(ran.out.contains(told), "{told}\n{}", ran.out);
    }
    let octets = fs::read(root().join("plugins/bundled/normalise-query.wasm")).unwrap();
    assert!(ran.out.contains(&format!("  BLAKE3     {}\n", blake3::hash(&octets))), "{}", ran.out);
}

#[test]
fn a_plugin_says_why_it_is_none() {
    let ran = larder(root(), &["policy", "inspect", "bundled:variants"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""));
    assert!(ran.out.contains("  refused    nothing to vary by: "), "{}", ran.out);
    let cases = ["--cases", "plugins/variants/cases.toml", "--json"];
    let ran = larder(root(), &[&["policy", "inspect", "bundled:variants"], &cases[..]].concat());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["form"], "module");
    assert_eq!(report["version"], "0.1.0");
    assert_eq!(report["imports"], serde_json::json!([]));
    assert_eq!(report["asks_for"]["fields"][0], "accept-language");
    assert_eq!(report["asks_for"]["cookies"][0], "currency");

    let ran = larder(root(), &["policy", "inspect", "bundled:content-tags"]);
    assert!(ran.out.contains("  imports    log\n"), "{}", ran.out);

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("text.wasm"), "text").unwrap();
    let ran = larder(folder.path(), &["policy", "inspect", "text.wasm"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""));
    assert!(ran.out.contains("  form       neither a module nor a component\n"), "{}", ran.out);
    assert_eq!(larder(folder.path(), &["policy", "inspect", "absent.wasm"]).code, Some(2));
}

#[test]
fn calls_are_measured_over_the_cases() {
    let cases = "time = \"10s\"\n[[key]]\nrequest = \"/abcd\"\nexpect = { name = \"abcd\" }\n\
                 [[storing]]\nrequest = \"/abcd\"\nexpect = { store = true }\n";
    let folder = written(&[], cases);
    let ran = larder(folder.path(), &["policy", "bench", "policy.wasm", "--seconds", "1"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let names: Vec<_> = ran.out.lines().filter_map(|line| line.get(..16)).map(str::trim).collect();
    assert_eq!(names, ["call", "key", "key, remembered", "storing"], "{}", ran.out);
}
