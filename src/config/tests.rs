//! Whole files: the example, the faulty ones in `tests/bad_config`, and any text at all.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use proptest::prelude::*;

use super::*;
use crate::routes::Routes;

const EXAMPLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.toml"));

const SMALLEST: &str = r#"
[upstreams.shop]
servers = ["http://127.0.0.1:3000"]

[[routes]]
name     = "all"
path     = "/{*rest}"
upstream = "shop"
"#;

const EVERY_KEY: &str = r#"
        [server]
        listen = "[::1]:0"
        proxy_protocol = { from = ["10.0.0.0/8", "::1"], others = "accept" }
        tls = { certificates = [{ certificate = "a.pem", key = "a.key" }, { certificate = "/b.pem", key = "b.key" }], client_ca = "ca.pem", client_certificate = "request", client_cert_field = true }
        workers = 2
        max_connections = 100
        max_streams = 7
        max_resets = 0
        header_timeout = "1s"
        takeover = "run/takeover"
        drain = "0s"
        [[server.listeners]]
        listen = "127.0.0.1:80"
        redirect = "https:8443"
        [admin]
        listen = "0.0.0.0:9080"
        token = "s3cret"
        [cache]
        max_lag = "1m"
        [cache.l1]
        capacity = 0
        ttl = "1m"
        [cache.l2]
        redis = "rediss://user:s3cret@cache:6379/1"
        ttl = "1d"
        timeout = "20ms"
        max_size = "2MiB"
        compression = "lz4"
        [upstreams.b]
        servers = ["https://b.example", "http://127.0.0.1:81/"]
        connect_timeout = "1s"
        timeout = "2s"
        idle_timeout = "3s"
        preserve_host = false
        ca = "ca.pem"
        [upstreams.a]
        servers = ["http://127.0.0.1:80"]
        [policies.p]
        plugin = "plugins/p.wasm"
        on_error = "default"
        time = "5ms"
        memory = "1MiB"
        remember = 0
        config = { on = true, n = 0x10, x = 1.5, t = "$${T}", list = [], deep = { er = 1 } }
        [[routes]]
        name = "r"
        host = ["Shop.Example", "*.shop.example"]
        path = "/r/{id}"
        methods = ["GET", "HEAD", "GET"]
        upstream = "a"
        key = "p"
        storing = "p"
        invalidation = "p"
        ttl = "1s"
        max_body = "64KiB"
        max_query_body = "4KiB"
        max_policy_body = "0"
        on_lag = "bypass"
        on_l2_error = "fail"
        variants = "${VARIANTS:-4}"
        collapse = "${COLLAPSE:-false}"
        purge = true
        "#;

fn nothing_set(_: &str) -> Option<String> {
    None
}

fn read(text: &str) -> Config {
    let faults = |faults: Faults| panic!("{faults}");
    parse(text, "gateway.toml", Path::new("/etc/larder"), &nothing_set).unwrap_or_else(faults)
}

/// The faults of the file and of its routes, as `larder check` shows them.
fn check(text: &str, file: &str) -> Option<String> {
    let mut draft = Draft::parse(text, file, Path::new(""), &nothing_set);
    let conflicts = Routes::new(&draft.config.routes).err().unwrap_or_default();
    let conflicts = conflicts.iter().map(|conflict| conflict.fault(file, &draft.config));
    draft.faults.extend(conflicts);
    draft.finish().err().map(|faults| format!("{faults}\n"))
}

#[test]
fn each_faulty_file_is_told_all_its_faults() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_config");
    let mut files: Vec<PathBuf> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 12, "{files:?}");
    let mut wrong = String::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let found = check(&std::fs::read_to_string(&file).unwrap(), name).unwrap_or_default();
        assert!(!found.contains("hunter"), "{name} tells a secret:\n{found}");
        let expected = std::fs::read_to_string(file.with_extension("stderr")).unwrap_or_default();
        if found != expected {
            writeln!(wrong, "--- {name} is expected to give\n{expected}--- and gives\n{found}")
                .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn fields_with_underscores_may_be_named_where_they_are_kept() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_config/underscores.toml");
    let text = std::fs::read_to_string(file).unwrap();
    let text = format!("[server]\nunderscores_in_fields = true\n{text}");
    assert_eq!(check(&text, "gateway.toml"), None);
}

#[test]
fn the_manual_names_the_algorithms_that_are_verified_and_no_others() {
    let manual = include_str!("../../docs/policies.md");
    let (_, list) = manual.split_once("`algorithms` may name ").unwrap();
    let (list, _) = list.split_once(". `ES512`").unwrap();
    let named: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    assert_eq!(named, Algorithm::ALL.map(Algorithm::name));
}

#[test]
fn the_manual_of_routes_shows_whole_files() {
    let manual = include_str!("../../docs/routes.md");
    let blocks: Vec<&str> = manual.split("```toml\n").skip(1).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let (file, _) = block.split_once("```").unwrap();
        assert_eq!(check(file, "docs/routes.md"), None, "{file}");
    }
}

#[test]
fn the_manual_of_compression_shows_whole_files_and_the_defaults() {
    let manual = include_str!("../../docs/compression.md");
    let blocks: Vec<&str> = manual.split("```toml\n").skip(1).collect();
    assert!(!blocks.is_empty());
    let mut found = Vec::new();
    for block in blocks {
        let (file, _) = block.split_once("```").unwrap();
        assert_eq!(check(file, "docs/compression.md"), None, "{file}");
        found.extend(read(file).routes.into_iter().map(|route| route.compress.unwrap()));
    }
    assert_eq!(found[0], Compress::default());
    let Compress { codings, types, min_length } = &found[1];
    assert_eq!(codings, &[Coding::Zstd, Coding::Gzip]);
    assert_eq!((types.len(), *min_length), (2, 4096));
}

#[test]
fn the_example_needs_nothing_set() {
    assert_eq!(check(EXAMPLE, "gateway.toml"), None);
    let config = read(EXAMPLE);
    assert_eq!(config.admin.unwrap().token, None);
    assert_eq!(config.cache.namespace, "bookshop");
    assert!(config.cache.l2.is_none());
    let names: Vec<&str> = config.policies.iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(names, ["no-tracking", "writes", "by-language"]);
    let texts =
        |texts: &[&str]| Setting::Texts(texts.iter().map(|text| (*text).to_owned()).collect());
    assert_eq!(
        config.policies[2].config,
        [
            ("cookie".to_owned(), Setting::Text("currency".to_owned())),
            ("cookie-values".to_owned(), texts(&["EUR", "USD", "GBP"])),
            ("languages".to_owned(), texts(&["en", "de", "fr"])),
        ]
    );
    let books = &config.routes[0];
    assert_eq!((&books.key[..], books.invalidation, books.storing), (&[0][..], Some(1), None));
    assert_eq!(config.routes[1].ttl, Some(Duration::from_mins(5)));
}

#[test]
fn the_smallest_file_has_every_default() {
    let config = read(SMALLEST);
    assert_eq!(config.server.listener.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
    assert_eq!(config.server.max_connections, 10_000);
    assert!(config.admin.is_none() && config.cache.l2.is_none());
    assert_eq!((config.cache.namespace.as_str(), config.cache.l1.capacity), ("larder", 256 << 20));
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.servers[0].url, "http://127.0.0.1:3000");
    assert_eq!(upstream.timeout, Duration::from_secs(30));
    let route = &config.routes[0];
    assert_eq!(
        (route.max_body, route.variants, route.collapse),
        (8 << 20, 32, Collapsing::Gateway)
    );
    assert_eq!((route.max_query_body, route.max_policy_body), (64 << 10, 1 << 20));
    assert_eq!((config.cache.max_lag, route.on_lag), (Duration::from_secs(5), OnLag::Validate));
    assert_eq!(route.on_l2_error, OnL2Error::Miss);
    assert_eq!(route.place, Place { file: 0, line: 7, column: 12 });
}

#[test]
fn the_second_tier_is_redis_or_a_folder() {
    let with = |lines: &str| {
        let redis = "redis = \"rediss://user:s3cret@cache:6379/1\"";
        assert!(EVERY_KEY.contains(redis));
        read(&EVERY_KEY.replacen(redis, lines, 1)).cache
    };
    let cache = with("disk = \"l2\"\ncapacity = \"2GiB\"");
    let disk = cache.disk.unwrap();
    assert_eq!((disk.folder.as_path(), disk.capacity), (Path::new("/etc/larder/l2"), 2 << 30));
    assert_eq!((disk.max_size, disk.compression), (2 << 20, Compression::Lz4));
    assert!(cache.l2.is_none());
    // Either may be left to the environment.
    assert!(with("disk = \"/l2\"\nredis = \"${NONE:-}\"").disk.is_some());
    let cache = with("disk = \"${NONE:-}\"\nredis = \"redis://cache\"");
    assert!(cache.disk.is_none() && cache.l2.is_some());
    let cache = with("disk = \"\"");
    assert!(cache.disk.is_none() && cache.l2.is_none());
}

#[test]
fn every_key_is_read() {
    let config = read(EVERY_KEY);
    let ports: Vec<_> =
        config.server.listeners().map(|it| (it.listen.port(), it.redirect)).collect();
    assert_eq!(ports, [(0, None), (80, Some(8443))]);
    let proxy = config.server.listener.proxy.unwrap();
    assert_eq!((proxy.from.unwrap().len(), proxy.accepts_others), (2, true));
    let tls = config.server.listener.tls.unwrap();
    let clients = tls.clients.unwrap();
    assert_eq!(
        (&*clients.ca, clients.required, clients.field),
        (Path::new("/etc/larder/ca.pem"), false, true)
    );
    let files: Vec<_> = tls.certificates.iter().map(|it| (&*it.chain, &*it.key)).collect();
    assert_eq!(
        files,
        [("/etc/larder/a.pem", "/etc/larder/a.key"), ("/b.pem", "/etc/larder/b.key")]
            .map(|(chain, key)| (Path::new(chain), Path::new(key)))
    );
    assert_eq!((config.server.max_streams, config.server.max_resets), (7, 0));
    assert_eq!((config.server.workers, config.server.drain), (2, Duration::ZERO));
    assert_eq!(config.server.takeover.as_deref(), Some(Path::new("/etc/larder/run/takeover")));
    assert_eq!(config.cache.l1.capacity, 0);
    let l2 = config.cache.l2.as_ref().unwrap();
    assert_eq!((l2.max_size, l2.compression), (2 << 20, Compression::Lz4));
    let upstreams: Vec<&str> = config.upstreams.iter().map(|up| up.name.as_str()).collect();
    assert_eq!(upstreams, ["b", "a"]);
    assert_eq!(config.upstreams[0].ca.as_deref(), Some(Path::new("/etc/larder/ca.pem")));
    assert!(!config.upstreams[0].preserve_host);
    let policy = &config.policies[0];
    assert_eq!(policy.plugin, Plugin::File("/etc/larder/plugins/p.wasm".into()));
    assert_eq!((policy.on_error, policy.memory, policy.remember), (OnError::Default, 1 << 20, 0));
    assert_eq!(
        policy.config.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["deep.er", "list", "n", "on", "t", "x"]
    );
    assert_eq!(policy.config[2].1, Setting::Integer(16));
    assert_eq!(policy.config[4].1, Setting::Text("${T}".to_owned()));
    assert_eq!(policy.plugin_place, Place { file: 0, line: 40, column: 18 });
    assert_eq!(policy.config_place, Place { file: 0, line: 45, column: 18 });
    let route = &config.routes[0];
    assert_eq!(route.hosts, ["shop.example", "*.shop.example"]);
    let methods: Vec<_> = route.methods.iter().map(Method::as_str).collect();
    assert_eq!(
        (methods.as_slice(), route.purge),
        (&["GET", "HEAD", "PURGE", "SOFTPURGE"][..], true)
    );
    assert_eq!(
        (&route.origin, &route.key[..], route.storing),
        (&Origin::Upstream(1), &[0][..], Some(0))
    );
    assert_eq!((route.max_body, route.variants, route.collapse), (64 << 10, 4, Collapsing::Off));
    assert_eq!((route.max_query_body, route.max_policy_body), (4 << 10, 0));
    assert_eq!((config.cache.max_lag, route.on_lag), (Duration::from_mins(1), OnLag::Bypass));
    assert_eq!(route.on_l2_error, OnL2Error::Fail);
    // Nor do they stand in what a log would show of the whole.
    assert!(!format!("{:?} {:?}", config.admin, config.cache).contains("s3cret"));
}

/// In the path of another, a segment may begin with `:`: it is written as it is.
#[test]
fn rewritten_path_may_have_a_segment_that_begins_with_a_colon() {
    let config = read(&format!("{SMALLEST}rewrite = {{ path = \"/v1/:sync\" }}\n"));
    let rewrite = config.routes[0].rewrite.as_ref().unwrap();
    assert_eq!(rewrite.path.as_deref(), Some("/v1/:sync"));
}

#[test]
fn columns_count_characters() {
    let text = "\u{feff}# é\n[server]\n\"\\u006cisten\" = \"é\" # é\ndrain = \"é\"\n";
    let shown = check(text, "g").unwrap();
    assert!(
        shown.contains("g:3:17: [server]: listen `é` is not an address to listen on"),
        "{shown}"
    );
    assert!(shown.contains("g:4:9: [server]: drain `é` is not a duration"), "{shown}");
}

#[test]
fn one_upstream_needs_no_file() {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config::for_upstream("http://127.0.0.1:3000", listen, None).unwrap();
    assert_eq!(
        (config.routes[0].name.as_str(), config.routes[0].path.as_str()),
        ("all", "/{*rest}")
    );
    assert!(Routes::new(&config.routes).is_ok());

    let admin = |ip: [u8; 4]| Admin { listen: SocketAddr::from((ip, 9080)), token: None };
    let faults = Config::for_upstream("http://u:hunter2@host", listen, Some(admin([0; 4])));
    assert_eq!(
        faults.unwrap_err().to_string(),
        "--upstream: `http://…@host` holds a user's name or password\n  hint: write \
         \"http://host:port\" or \"https://host:port\"\n\
         --admin: `0.0.0.0:9080` is not a loopback address, and there is no token\n  hint: listen \
         on 127.0.0.1, or write a `gateway.toml` with a token in `[admin]`\n2 faults"
    );
    let same = admin([127, 0, 0, 1]);
    assert!(Config::for_upstream("http://host", same.listen, Some(same)).is_err());
}

#[test]
fn servers_have_hosts_that_their_certificates_can_be_for() {
    let file = |tls: &str| {
        format!(
            "[upstreams.a]\n\
             servers = [\"https://127.1:8443\", {{ url = \"https://node-:8443\" }}]\n{tls}\n\
             [[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"a\"\n"
        )
    };
    assert_eq!(check(&file("tls = { server_name = \"shop.internal\" }"), "g"), None);
    for tls in ["", "tls = { ca = \"ca.pem\" }"] {
        let faults = check(&file(tls), "g").unwrap();
        for fault in [
            "g:2:12: upstream `a`: servers `https://127.1:8443` names a host that no certificate",
            "g:2:42: upstream `a`: url `https://node-:8443` names a host that no certificate",
            "\n2 faults",
        ] {
            assert!(faults.contains(fault), "{tls}: no `{fault}`: {faults}");
        }
    }
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let faults = Config::for_upstream("https://127.1:8443", listen, None).unwrap_err().to_string();
    assert!(faults.contains("names a host that no certificate can be for"), "{faults}");
}

#[test]
fn files_that_cannot_be_read_are_faults() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, octets: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, octets).unwrap();
        load(&path).map_err(|faults| faults.to_string())
    };
    assert!(write("good.toml", SMALLEST.as_bytes()).is_ok());
    let latin = write("latin.toml", b"[server]\n# caf\xe9\n").unwrap_err();
    assert!(latin.contains("the file is not UTF-8, from line 2 on"), "{latin}");
    let large = write("large.toml", &vec![b'#'; (1 << 20) + 1]).unwrap_err();
    assert!(large.contains("the file is larger than 1MiB"), "{large}");
    let none = load(&folder.path().join("none.toml")).unwrap_err().to_string();
    assert!(none.contains("none.toml: the file cannot be read: "), "{none}");
    assert!(load(folder.path()).is_err());
}

#[test]
fn deep_nesting_is_a_fault() {
    for text in [
        format!("{}a = 1", "a.".repeat(100_000)),
        format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("[{}a]", "a.".repeat(100_000)),
        format!("{SMALLEST}[policies.p]\nplugin = \"bundled:x\"\nconfig.{}a = 1", "a.".repeat(20)),
    ] {
        assert!(check(&text, "g").is_some());
    }
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "(.|\n)*") {
        check(&text, "g");
    }

    #[test]
    fn any_toml_is_answered(text in "([a-z.]{1,3} = |\\[|\\]|\\[\\[routes\\]\\]\n|\"|\\{|\\}|,|=|[0-9a-z$:/-]{1,4}|\n| ){0,60}") {
        check(&text, "g");
    }

    /// The example with a piece cut out and another put in is either right, or told to be wrong at
    /// places that it has.
    #[test]
    fn any_change_of_the_example_is_answered(
        start in 0..EXAMPLE.len(),
        length in 0..40usize,
        put in "(|[\"\\[\\]{}=.,\n$-]{1,3}|[a-z0-9]{1,5}|é)",
    ) {
        let floor = |at: usize| (0..=at.min(EXAMPLE.len())).rev().find(|at| EXAMPLE.is_char_boundary(*at));
        let (start, end) = (floor(start).unwrap(), floor(start + length).unwrap());
        let text = format!("{}{put}{}", &EXAMPLE[..start], &EXAMPLE[end.max(start)..]);
        let lines: Vec<&str> = text.split('\n').collect();
        let draft = Draft::parse(&text, "g", Path::new(""), &nothing_set);
        for place in draft.faults.iter().filter_map(|fault| fault.place) {
            let line = lines[place.line - 1];
            prop_assert!((1..=line.chars().count() + 1).contains(&place.column), "{place:?} {line}");
        }
        check(&text, "g");
    }
}

#[test]
fn the_first_listener_is_the_servers_own_or_the_first_of_the_list() {
    let listed = "[[server.listeners]]\nlisten = \"127.0.0.1:1\"\n\
                  [[server.listeners]]\nlisten = \"127.0.0.1:2\"\n";
    for (own, expected) in [
        ("", &[1, 2][..]),
        ("[server]\nworkers = 1\n", &[1, 2]),
        ("[server]\nlisten = \"127.0.0.1:3\"\n", &[3, 1, 2]),
        ("[server]\nproxy_protocol = true\n", &[8080, 1, 2]),
    ] {
        let config = read(&format!("{own}{listed}{SMALLEST}"));
        let ports: Vec<_> = config.server.listeners().map(|it| it.listen.port()).collect();
        assert_eq!(ports, expected, "{own}");
    }
}

#[test]
fn faults_are_told_at_the_file_that_has_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_include");
    let mut draft = Draft::load(&folder.join("gateway.toml"));
    let conflicts = Routes::new(&draft.config.routes).err().unwrap_or_default();
    let conflicts = conflicts.iter().map(|conflict| conflict.fault("", &draft.config));
    draft.faults.extend(conflicts);
    let found = format!("{}\n", draft.finish().unwrap_err());
    let found = found.replace(&format!("{}/", folder.display()), "");
    let expected = std::fs::read_to_string(folder.join("expected.stderr")).unwrap();
    assert_eq!(found, expected, "{found}");
}

/// What several files say, put together, as one file says it.
#[test]
fn included_files_are_as_if_they_stood_in_the_first() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("routes")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let first = "[server]\nworkers = 1\n[upstreams.one]\nservers = [\"http://127.0.0.1:1\"]\n";
    let routes = [
        "[policies.p]\nplugin = \"p.wasm\"\n[[routes]]\nname = \"a\"\npath = \"/a\"\nupstream = \"two\"\nkey = \"p\"\n",
        "[upstreams.two]\nservers = [\"http://127.0.0.1:2\"]\n[[routes]]\nname = \"b\"\npath = \"/b\"\nupstream = \"one\"\n",
    ];
    let include = "include = [\"routes/*.toml\", \"routes/b.toml\", \"none*\"]\n";
    write("gateway.toml", &format!("{include}{first}"));
    write("routes/a.toml", routes[0]);
    write("routes/b.toml", routes[1]);
    write("routes/.c.toml", "not TOML");
    let mut looked = Vec::new();
    let draft = Draft::load_watched(&folder.path().join("gateway.toml"), &mut |look| {
        looked.push(match look {
            Look::File(path) => path.file_name().unwrap().to_str().unwrap().to_owned(),
            Look::Listing(listing) => format!("{}", listing.files().unwrap().len()),
        });
    });
    let together = draft.finish().unwrap();
    assert_eq!(looked, ["gateway.toml", "2", "a.toml", "b.toml", "1", "0"]);
    assert_eq!(together.sources.len(), 3);
    assert_eq!((together.routes[0].place.file, together.routes[1].place.file), (1, 2));
    write("gateway.toml", &format!("{first}{}{}", routes[0], routes[1]));
    let whole = load(&folder.path().join("gateway.toml")).unwrap();
    let changes = together.changes(&whole);
    assert_eq!(changes, Changes::default());
    // A path is found from the folder of the first file, wherever it stands.
    assert_eq!(together.policies[0].plugin, whole.policies[0].plugin);
}
