//! What differs between the configuration in service and the one that takes its place, and what of
//! that has to wait for a restart.

use std::path::PathBuf;

use serde::Serialize;

use super::{
    Certificate, Config, Document, Jwt, JwtKeys, Listener, Mongodb, OnError, Origin, Place, Plugin,
    Policy, Route, Server, Upstream, Watch,
};

/// What differs between two configurations, by name, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Of `[[routes]]`. A route that names another policy or upstream has changed; one whose policy
    /// has changed has not.
    pub routes: Differences,
    /// Of `[upstreams]`.
    pub upstreams: Differences,
    /// Of `[mongodb]`.
    pub mongodb: Differences,
    /// Of `[[changes]]`, by what figures call them. One of a deployment or with a policy that has changed
    /// has not.
    pub changes: Differences,
    /// Of `[policies]`. What the plugins' files hold is not compared.
    pub policies: Differences,
}

/// What differs between two lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// Only in the later one.
    pub added: Vec<String>,
    /// Only in the former one.
    pub removed: Vec<String>,
    /// In both, and not the same.
    pub changed: Vec<String>,
}

impl Config {
    /// What differs from `former`.
    pub fn changes(&self, former: &Self) -> Changes {
        let (new, old) = (self, former);
        Changes {
            routes: Differences::of(
                &new.routes,
                &old.routes,
                |route| &route.name,
                |a, b| new.parts(a) == old.parts(b),
            ),
            upstreams: Differences::of(
                &new.upstreams,
                &old.upstreams,
                |it| &it.name,
                |a, b| a.essence() == b.essence(),
            ),
            mongodb: Differences::of(
                &new.mongodbs,
                &old.mongodbs,
                |it| &it.name,
                |a, b| a.essence() == b.essence(),
            ),
            changes: Differences::of(
                &new.watches,
                &old.watches,
                |it| &it.label,
                |a, b| (a.essence(), new.named(a)) == (b.essence(), old.named(b)),
            ),
            policies: Differences::of(
                &new.policies,
                &old.policies,
                |it| &it.name,
                |a, b| {
                    let parts = |policy: &Policy| {
                        (policy.essence(), policy.plugin.clone(), policy.on_error)
                    };
                    parts(a) == parts(b)
                },
            ),
        }
    }

    /// The routes that depend on these changes.
    fn named(&self, watch: &Watch) -> Vec<Option<&str>> {
        let name = |place: &usize| Some(self.routes.get(*place)?.name.as_str());
        watch.routes.iter().map(name).collect()
    }

    /// A route, and what its places stand for.
    fn parts(&self, route: &Route) -> (Route, Option<&str>, Vec<Option<&str>>, Option<Jwt>) {
        let policy = |place: Option<usize>| Some(self.policies.get(place?)?.name.as_str());
        let roles = [route.storing, route.invalidation, route.shadow];
        let policies = roles.into_iter().chain(route.key.iter().copied().map(Some));
        let (origin, from) = match &route.origin {
            Origin::Upstream(place) => {
                (Origin::Upstream(0), self.upstreams.get(*place).map(|it| it.name.as_str()))
            }
            Origin::Document(document) => {
                let from = self.mongodbs.get(document.mongodb).map(|it| it.name.as_str());
                (Origin::Document(Box::new(Document { mongodb: 0, ..(**document).clone() })), from)
            }
        };
        (
            Route {
                origin,
                key: Vec::new(),
                storing: None,
                invalidation: None,
                shadow: None,
                jwt: None,
                place: Place::default(),
                key_places: Vec::new(),
                storing_place: Place::default(),
                invalidation_place: Place::default(),
                shadow_place: Place::default(),
                grants_place: Place::default(),
                ..route.clone()
            },
            from,
            policies.map(policy).collect(),
            route.jwt.and_then(|place| self.jwts.get(place)).map(Jwt::essence),
        )
    }

    /// The same of what is told of requests.
    fn keep_recording(&mut self, running: &Self) -> impl Iterator<Item = &'static str> + use<> {
        let access_log = (self.access_log != running.access_log).then_some("[access_log]");
        let tracing = (self.tracing != running.tracing).then_some("[tracing]");
        self.access_log.clone_from(&running.access_log);
        self.tracing.clone_from(&running.tracing);
        access_log.into_iter().chain(tracing)
    }

    /// Puts back what cannot change while requests are served, as it is in `running`, and names it.
    pub fn keep_until_restart(&mut self, running: &Self) -> Vec<&'static str> {
        let mut waiting = Vec::new();
        let (new, old) = (&mut self.server, &running.server);
        let mut keep = |key, differs: bool| {
            if differs {
                waiting.push(key);
            }
        };
        new.listener_differences(old).for_each(|key| keep(key, true));
        keep("[server] name", new.name != old.name);
        keep("[server] workers", new.workers != old.workers);
        keep("[server] max_connections", new.max_connections != old.max_connections);
        keep("[server] max_streams", new.max_streams != old.max_streams);
        keep("[server] max_resets", new.max_resets != old.max_resets);
        keep("[server] header_timeout", new.header_timeout != old.header_timeout);
        keep("[server] send_timeout", new.send_timeout != old.send_timeout);
        keep("[server] drain", new.drain != old.drain);
        keep("[server] takeover", new.takeover != old.takeover);
        keep("[server] compiled_cache", new.compiled_cache != old.compiled_cache);
        let successors = old.successors(new);
        *new = old.renewed(new, &successors);

        self.keep_recording(running).for_each(|key| keep(key, true));
        match (&self.admin, &running.admin) {
            (Some(new), Some(old)) => {
                keep("[admin] listen", new.listen != old.listen);
                keep("[admin] token", new.token != old.token);
            }
            (new, old) => keep("[admin]", new.is_some() != old.is_some()),
        }
        self.admin.clone_from(&running.admin);

        let (new, old) = (&mut self.cache, &running.cache);
        keep("[cache] namespace", new.namespace != old.namespace);
        keep("[cache] max_lag", new.max_lag != old.max_lag);
        keep("[cache.l1] capacity", new.l1.capacity != old.l1.capacity);
        keep("[cache.l1] ttl", new.l1.ttl != old.l1.ttl);
        match (&new.l2, &old.l2) {
            (Some(new), Some(old)) => {
                for key in new.redis.differences(&old.redis) {
                    keep(key, true);
                }
                keep("[cache.l2] ttl", new.ttl != old.ttl);
                keep("[cache.l2] timeout", new.timeout != old.timeout);
                keep("[cache.l2] max_size", new.max_size != old.max_size);
                keep("[cache.l2] compression", new.compression != old.compression);
            }
            (new, old) => keep("[cache.l2]", new.is_some() != old.is_some()),
        }
        match (&new.disk, &old.disk) {
            (Some(new), Some(old)) => new.differences(old).for_each(|key| keep(key, true)),
            (new, old) => keep("[cache.l2] disk", new.is_some() != old.is_some()),
        }
        new.namespace.clone_from(&old.namespace);
        new.max_lag = old.max_lag;
        new.l1.clone_from(&old.l1);
        new.l2.clone_from(&old.l2);
        new.disk.clone_from(&old.disk);
        self.in_force.keep(&running.in_force, &waiting, &successors);
        waiting
    }

    /// The files that it names: plugins, certificates and their keys, certificate authorities, keys of
    /// tokens, and what MongoDB is told who Larder is.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let plugins = self.policies.iter().filter_map(|policy| match &policy.plugin {
            Plugin::File(path) => Some(path),
            Plugin::Bundled(_) => None,
        });
        let keys = self.jwts.iter().filter_map(|jwt| match &jwt.keys {
            JwtKeys::Pem(path) | JwtKeys::Jwks(path) => Some(path),
            JwtKeys::Url(url) => url.server.ca.as_ref(),
            JwtKeys::Secret(_) | JwtKeys::Trusted => None,
        });
        let authorities = self.upstreams.iter().flat_map(Upstream::files);
        let of_mongodb = self.mongodbs.iter().flat_map(Mongodb::files);
        let listeners = self.server.listeners().flat_map(Listener::files);
        plugins.chain(authorities).chain(keys).chain(of_mongodb).chain(listeners)
    }
}

impl Server {
    /// This, with all of another that does not wait for a restart.
    fn renewed(&self, new: &Self, successors: &[Option<usize>]) -> Self {
        let (listener, more) = self.renewed_listeners(new, successors);
        Self {
            listener,
            more,
            watch: new.watch,
            trusted_proxies: new.trusted_proxies.clone(),
            trusted_field: new.trusted_field,
            underscores_in_fields: new.underscores_in_fields,
            ..self.clone()
        }
    }
}

impl Upstream {
    /// All but where it stands in the file.
    #[must_use]
    pub fn essence(&self) -> Self {
        let place = Place::default();
        let identity = self.identity.clone().map(|identity| Certificate { place, ..identity });
        Self { identity, place, ..self.clone() }
    }

    /// The files that it names: authorities, and Larder's certificate and key.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let identity = self.identity.iter().flat_map(|it| [&it.chain, &it.key]);
        self.ca.iter().chain(identity)
    }
}

impl Mongodb {
    /// All but where it stands in the file.
    #[must_use]
    pub fn essence(&self) -> Self {
        Self { place: Place::default(), ..self.clone() }
    }
}

impl Policy {
    /// What a loaded policy is made of besides its plugin: not where it stands in the file, where
    /// the plugin lies, and what its failure leads to.
    #[must_use]
    pub fn essence(&self) -> Self {
        Self {
            plugin: Plugin::Bundled(String::new()),
            on_error: OnError::default(),
            plugin_place: Place::default(),
            config_place: Place::default(),
            ..self.clone()
        }
    }
}

impl Jwt {
    /// All but where it stands in the file.
    #[must_use]
    pub fn essence(&self) -> Self {
        let mut essence = Self { place: Place::default(), ..self.clone() };
        if let JwtKeys::Url(url) = &mut essence.keys {
            url.server = url.server.essence();
        }
        essence
    }
}

impl Differences {
    fn of<T>(
        new: &[T],
        old: &[T],
        name: impl Fn(&T) -> &String,
        is_same: impl Fn(&T, &T) -> bool,
    ) -> Self {
        let mut differences = Self::default();
        for one in new {
            match old.iter().find(|other| name(other) == name(one)) {
                None => differences.added.push(name(one).clone()),
                Some(other) if !is_same(one, other) => differences.changed.push(name(one).clone()),
                Some(_) => {}
            }
        }
        let removed = old.iter().filter(|one| new.iter().all(|other| name(other) != name(one)));
        differences.removed.extend(removed.map(|one| name(one).clone()));
        differences
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse;
    use super::*;
    use crate::config::TrustedField;

    const FILE: &str = r#"
        [server]
        listen = "127.0.0.1:1"
        [admin]
        listen = "127.0.0.1:2"
        [cache.l2]
        redis = "redis://127.0.0.1:3"
        [upstreams.a]
        servers = ["http://127.0.0.1:4"]
        [upstreams.b]
        servers = ["https://127.0.0.1:5"]
        ca = "ca.pem"
        [policies.p]
        plugin = "p.wasm"
        [policies.q]
        plugin = "bundled:q"
        [[routes]]
        name = "one"
        path = "/1"
        upstream = "a"
        key = "p"
        [[routes]]
        name = "two"
        path = "/2"
        upstream = "b"
        "#;

    fn read(text: &str) -> Config {
        let config = parse(text, "gateway.toml", Path::new("/etc"), &|_| None);
        config.unwrap_or_else(|faults| panic!("{faults}\n{text}"))
    }

    #[test]
    fn what_differs_is_named() {
        let differences = |added: &[&str], removed: &[&str], changed: &[&str]| {
            let [added, removed, changed] = [added, removed, changed]
                .map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            Differences { added, removed, changed }
        };
        let none = || differences(&[], &[], &[]);
        for (from, to, routes, upstreams, policies) in [
            ("[server]", "# moved down\n[server]", none(), none(), none()),
            ("\"/1\"", "\"/one\"", differences(&[], &[], &["one"]), none(), none()),
            ("\"one\"", "\"uno\"", differences(&["uno"], &["one"], &[]), none(), none()),
            ("key = \"p\"", "key = \"q\"", differences(&[], &[], &["one"]), none(), none()),
            ("127.0.0.1:4", "127.0.0.1:6", none(), differences(&[], &[], &["a"]), none()),
            ("bundled:q", "bundled:r", none(), none(), differences(&[], &[], &["q"])),
            // What comes before others moves their places, and nothing else.
            (
                "[upstreams.a]",
                "[upstreams._]\nservers = [\"http://h\"]\n[upstreams.a]",
                none(),
                differences(&["_"], &[], &[]),
                none(),
            ),
            (
                "[policies.p]",
                "[policies.o]\nplugin = \"bundled:q\"\n[policies.p]",
                none(),
                none(),
                differences(&["o"], &[], &[]),
            ),
        ] {
            let (old, new) = (read(FILE), read(&FILE.replacen(from, to, 1)));
            let expected = Changes { routes, upstreams, policies, ..Changes::default() };
            assert_eq!(new.changes(&old), expected, "{from} became {to}");
        }
    }

    #[test]
    fn a_route_of_documents_differs_by_what_it_finds_and_where() {
        let read = |uri: &str, before: &str, field: &str| {
            read(&format!(
                "{before}[mongodb.m]\nuri = \"{uri}\"\n[[routes]]\nname = \"r\"\npath = \"/{{id}}\"\n\
                 document = {{ mongodb = \"m\", database = \"d\", collection = \"c\", find = {{ {field} = \"{{id}}\" }} }}\n"
            ))
        };
        let changed = |names: &[&str]| Differences {
            changed: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Differences::default()
        };
        let other = "[mongodb.a]\nuri = \"mongodb://a\"\n";
        let added = Differences { added: vec!["a".to_owned()], ..Differences::default() };
        let old = read("mongodb://a", "", "_id");
        for (new, routes, mongodb) in [
            (read("mongodb://a", "# moved\n", "_id"), changed(&[]), changed(&[])),
            (read("mongodb://b", "", "_id"), changed(&[]), changed(&["m"])),
            (read("mongodb://a", "", "slug"), changed(&["r"]), changed(&[])),
            (read("mongodb://a", other, "_id"), changed(&[]), added),
        ] {
            assert_eq!(new.changes(&old), Changes { routes, mongodb, ..Changes::default() });
        }
    }

    #[test]
    fn listeners_wait_for_a_restart() {
        for (lines, waiting) in [
            ("tls = { certificate = \"c\", key = \"k\" }", &["[server] tls"][..]),
            ("proxy_protocol = true", &["[server] proxy_protocol"]),
            (
                "redirect = \"https\"\n[[server.listeners]]\nlisten = \"127.0.0.1:7\"",
                &["[server] redirect", "[server] listeners"],
            ),
        ] {
            let changed = FILE.replacen("[admin]", &format!("{lines}\n[admin]"), 1);
            let (old, mut new) = (read(FILE), read(&changed));
            assert_eq!(new.keep_until_restart(&old), waiting, "{lines}");
            assert!(new.keep_until_restart(&old).is_empty(), "{lines}");
        }
    }

    #[test]
    fn what_is_told_of_requests_waits_for_a_restart() {
        let tables = "[access_log]\n[tracing]\notlp = \"http://127.0.0.1:4318\"\n[admin]";
        let (old, mut new) = (read(FILE), read(&FILE.replacen("[admin]", tables, 1)));
        assert_eq!(new.keep_until_restart(&old), ["[access_log]", "[tracing]"]);
        assert!(new.keep_until_restart(&old).is_empty());
    }

    #[test]
    fn what_waits_for_a_restart_is_kept_and_named() {
        for (from, to, waiting) in [
            ("127.0.0.1:1", "127.0.0.1:9", &["[server] listen"][..]),
            ("[admin]", "name = \"n\"\n[admin]", &["[server] name"]),
            ("[admin]", "workers = 7\n[admin]", &["[server] workers"]),
            (
                "[admin]",
                "max_connections = 7\nheader_timeout = \"1s\"\ndrain = \"1s\"\n[admin]",
                &["[server] max_connections", "[server] header_timeout", "[server] drain"],
            ),
            (
                "[admin]",
                "max_streams = 7\nmax_resets = 7\n[admin]",
                &["[server] max_streams", "[server] max_resets"],
            ),
            ("[admin]", "compiled_cache = \"c\"\n[admin]", &["[server] compiled_cache"]),
            ("[admin]", "send_timeout = \"1s\"\n[admin]", &["[server] send_timeout"]),
            ("[admin]", "takeover = \"t\"\n[admin]", &["[server] takeover"]),
            ("127.0.0.1:2", "127.0.0.1:9", &["[admin] listen"]),
            ("[cache.l2]", "token = \"t\"\n[cache.l2]", &["[admin] token"]),
            ("[admin]\n        listen = \"127.0.0.1:2\"", "", &["[admin]"]),
            (
                "[cache.l2]",
                "[cache]\nnamespace = \"n\"\nmax_lag = \"9s\"\n[cache.l2]",
                &["[cache] namespace", "[cache] max_lag"],
            ),
            (
                "[cache.l2]",
                "[cache.l1]\ncapacity = \"1MiB\"\nttl = \"1s\"\n[cache.l2]",
                &["[cache.l1] capacity", "[cache.l1] ttl"],
            ),
            ("127.0.0.1:3", "127.0.0.1:9", &["[cache.l2] redis"]),
            (
                "[upstreams.a]",
                "ttl = \"1s\"\ntimeout = \"1s\"\nmax_size = \"1KiB\"\n\
                 compression = \"lz4\"\n[upstreams.a]",
                &[
                    "[cache.l2] ttl",
                    "[cache.l2] timeout",
                    "[cache.l2] max_size",
                    "[cache.l2] compression",
                ],
            ),
            ("redis://127.0.0.1:3", "", &["[cache.l2]"]),
            (
                "redis = \"redis://127.0.0.1:3\"",
                "disk = \"l2\"",
                &["[cache.l2]", "[cache.l2] disk"],
            ),
            // What does not wait.
            ("[admin]", "watch = false\n[admin]", &[]),
            ("[cache.l2]", "[cache]\nstatus_key = true\ntargeted = []\n[cache.l2]", &[]),
            ("127.0.0.1:4", "127.0.0.1:9", &[]),
        ] {
            let (old, mut new) = (read(FILE), read(&FILE.replacen(from, to, 1)));
            assert_eq!(new.keep_until_restart(&old), waiting, "{from} became {to}");
            assert_eq!(format!("{:?}", new.admin), format!("{:?}", old.admin));
            assert!(new.keep_until_restart(&old).is_empty(), "{from} became {to}");
        }
        let mut new = read(&FILE.replacen("[admin]", "watch = false\n[admin]", 1));
        new.keep_until_restart(&read(FILE));
        assert!(!new.server.watch);
    }

    #[test]
    fn files_are_plugins_authorities_and_certificates() {
        let tls = "[server]\ntls = { certificate = \"c\", key = \"k\" }";
        let config = read(&FILE.replacen("[server]", tls, 1));
        let files: Vec<_> = config.files().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(files, ["/etc/p.wasm", "/etc/ca.pem", "/etc/c", "/etc/k"]);
    }

    #[test]
    fn other_certificates_do_not_wait_for_a_restart() {
        let with = |name: &str| {
            let tls = format!("[server]\ntls = {{ certificate = \"{name}\", key = \"k\" }}");
            read(&FILE.replacen("[server]", &tls, 1))
        };
        let (old, mut new) = (with("one"), with("other"));
        assert!(new.keep_until_restart(&old).is_empty());
        let tls = new.server.listener.tls.unwrap();
        assert_eq!(tls.certificates[0].chain, Path::new("/etc/other"));
    }

    #[test]
    fn other_certificates_do_not_wait_with_another_key() {
        let with = |lines: &str, name: &str| {
            let tls = format!("{lines}\ntls = {{ certificate = \"{name}\", key = \"k\" }}");
            read(&FILE.replacen("[server]", &format!("[server]\n{tls}"), 1))
        };
        let (old, mut new) = (with("proxy_protocol = true", "one"), with("", "other"));
        assert_eq!(new.keep_until_restart(&old), ["[server] proxy_protocol"]);
        let Listener { tls, proxy, .. } = &new.server.listener;
        assert_eq!(tls.as_ref().unwrap().certificates[0].chain, Path::new("/etc/other"));
        assert!(proxy.is_some());
        let told = &new.in_force.to_json()["config"]["server"];
        assert_eq!(told["tls"]["certificate"], "other");
        assert_eq!(told["proxy_protocol"], true);
    }

    #[test]
    fn a_listener_has_the_certificates_of_its_address_while_others_come_and_go() {
        const OWN: &str = "listen = \"127.0.0.1:1\"";
        const FIRST: &str = "[server] listen";
        const MORE: &str = "[server] listeners";

        for (own, tables, waiting, expected) in [
            (OWN, &[(13, "c"), (12, "b2")][..], &[MORE][..], [(11_u16, "a"), (12, "b2")]),
            (OWN, &[(12, "b2"), (11, "a2")], &[MORE], [(11, "a2"), (12, "b2")]),
            (OWN, &[(11, "a2"), (12, "b2")], &[], [(11, "a2"), (12, "b2")]),
            (OWN, &[], &[MORE], [(11, "a"), (12, "b")]),
            // Here the first of the tables is the server's own.
            ("", &[(12, "b2"), (11, "a2")], &[FIRST, MORE], [(11, "a2"), (12, "b2")]),
            ("", &[(12, "b2")], &[FIRST, MORE], [(11, "a"), (12, "b2")]),
            ("", &[(13, "a2"), (12, "b2")], &[FIRST], [(11, "a"), (12, "b2")]),
        ] {
            let file = |tables: &[(u16, &str)]| {
                let tables = tables.iter().map(|(port, name)| {
                    format!(
                        "[[server.listeners]]\nlisten = \"127.0.0.1:{port}\"\n\
                         tls = {{ certificate = \"{name}\", key = \"k\" }}\n"
                    )
                });
                let tables = tables.collect::<Vec<_>>().concat();
                let text = FILE.replacen("[admin]", &format!("{tables}[admin]"), 1);
                read(&text.replacen(OWN, own, 1))
            };
            let (old, mut new) = (file(&[(11, "a"), (12, "b")]), file(tables));
            assert_eq!(new.keep_until_restart(&old), waiting, "{tables:?}");
            let kept = new.server.listeners().filter_map(|it| {
                let chain = &it.tls.as_ref()?.certificates[0].chain;
                Some((it.listen.port(), chain.file_name()?.to_str()?))
            });
            assert_eq!(kept.collect::<Vec<_>>(), expected, "{tables:?}");
            let told = new.in_force.to_json();
            let told = told["config"]["server"]["listeners"].as_array().unwrap().iter();
            let told = told.map(|it| [it["listen"].clone(), it["tls"]["certificate"].clone()]);
            let expected = expected.map(|(port, name)| {
                [format!("127.0.0.1:{port}"), name.to_owned()].map(serde_json::Value::from)
            });
            assert_eq!(told.collect::<Vec<_>>(), expected, "{tables:?}");
        }
    }

    #[test]
    fn which_proxies_are_trusted_does_not_wait_for_a_restart() {
        let trusting =
            |lines: &str| read(&FILE.replacen("[server]", &format!("[server]\n{lines}"), 1));
        let old = trusting("trusted_proxies = [\"10.0.0.0/8\"]");
        let lines = "trusted_proxies = [\"192.0.2.1\"]\ntrusted_field = \"Forwarded\"";
        let mut new = trusting(lines);
        assert!(new.keep_until_restart(&old).is_empty());
        assert_eq!(new.server.trusted_proxies, trusting(lines).server.trusted_proxies);
        assert_eq!(new.server.trusted_field, TrustedField::Forwarded);
    }

    #[test]
    fn which_fields_are_dropped_does_not_wait_for_a_restart() {
        let lines = "[server]\nunderscores_in_fields = true";
        let (old, mut new) = (read(FILE), read(&FILE.replacen("[server]", lines, 1)));
        assert!(new.keep_until_restart(&old).is_empty());
        assert!(new.server.underscores_in_fields);
    }
}
