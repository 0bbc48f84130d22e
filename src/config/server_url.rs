//! The URL of Redis' servers.
//!
//! | URL | means |
//! |---|---|
//! | `redis://[user:password@]host[:port][/database]` | one server |
//! | `redis+unix:///path[?db=…&user=…&pass=…]` | one server, by its socket |
//! | `redis+sentinel://[user:password@]host[:port],…/master[/database]` | the master that these sentinels name |
//! | `redis+cluster://[user:password@]host[:port],…` | a cluster, of which these are some nodes |
//!
//! `rediss` instead of `redis` means TLS; `?protocol=resp3` works with each. Nothing that is said of
//! a URL repeats its user information.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::address;
use super::fault::Wrong;
use super::servers::{Login, Node, Password, Redis, Servers, Tls};

/// A URL names at most so many servers.
const MOST: usize = 64;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// A URL, without the keys beside it.
pub(crate) fn url(text: &str) -> Result<Redis, Wrong> {
    const SHAPE: &str = "write \"redis://host:port\", or \"rediss://host:port\" for TLS";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Wrong::new("is not a URL").with_hint(SHAPE));
    };
    let (plain, is_tls) = match scheme.strip_prefix("rediss") {
        Some(kind) => (format!("redis{kind}"), true),
        None => (scheme.to_owned(), false),
    };
    if matches!(scheme, "redis+unix" | "unix") {
        return socket(rest);
    }
    // `@` and `/` may stand unencoded in a password, so the last `@` ends it.
    let (user, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (hosts, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if after.contains('#') {
        return Err(Wrong::new("has a `#`")
            .with_hint("leave it out; in a user's name or password write `%23`"));
    }
    let (path, query) = after.split_once('?').unwrap_or((after, ""));
    let mut number = path.trim_matches('/');
    let servers = match &*plain {
        "redis" => Servers::One(one(hosts)?),
        "redis+sentinel" => {
            let name;
            (name, number) = number.split_once('/').unwrap_or((number, ""));
            Servers::Sentinels {
                sentinels: nodes(hosts, SENTINEL_PORT, scheme)?,
                master: master(name)?,
                login: Login::default(),
            }
        }
        "redis+cluster" => Servers::Cluster(nodes(hosts, PORT, scheme)?),
        _ => {
            let complaint = "has a scheme that is neither `redis` nor `rediss`";
            return Err(Wrong::new(complaint).with_hint(SHAPE));
        }
    };
    let database = if number.is_empty() { 0 } else { database(number, &servers)? };
    let mut redis = Redis {
        servers,
        database,
        login: login(user)?,
        tls: is_tls.then(Tls::default),
        ..Redis::on(Servers::Socket(PathBuf::new()))
    };
    parameters(query, &mut redis, false)?;
    Ok(redis)
}

/// What follows `redis+unix://`. Only what stands before the `?` is the path; a password may follow.
fn socket(rest: &str) -> Result<Redis, Wrong> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') || path.len() < 2 || path.contains('\0') {
        return Err(Wrong::new("does not name a socket")
            .with_hint("write the path of its socket: \"redis+unix:///run/redis.sock\""));
    }
    let path = decoded(path).ok_or_else(|| Wrong::new("has a path that is not in UTF-8"))?;
    let mut redis = Redis::on(Servers::Socket(path.into()));
    parameters(query, &mut redis, true)?;
    Ok(redis)
}

/// What follows the `?`. With a socket the user and the database stand there, too.
fn parameters(query: &str, redis: &mut Redis, is_socket: bool) -> Result<(), Wrong> {
    let text = |value: &str| decoded(value).filter(|text| !text.is_empty());
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            "protocol" => {
                redis.resp3 = match value {
                    "3" | "resp3" => true,
                    "2" | "resp2" => false,
                    _ => {
                        return Err(Wrong::new("names a protocol that there is not")
                            .with_hint("write \"?protocol=resp3\", or leave it out"));
                    }
                }
            }
            "db" if is_socket => redis.database = database(value, &redis.servers)?,
            "user" if is_socket => redis.login.username = text(value),
            "pass" if is_socket => redis.login.password = text(value).map(Password::Text),
            _ => {
                let hint = if is_socket {
                    "known are `db`, `user`, `pass` and `protocol`"
                } else {
                    "the only one is \"?protocol=resp3\""
                };
                return Err(Wrong::new("has a parameter that is not known").with_hint(hint));
            }
        }
    }
    Ok(())
}

fn login(user: &str) -> Result<Login, Wrong> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let text = |text: &str| {
        let wrong = || Wrong::new("has a user's name or password that is not in UTF-8");
        decoded(text).map(|text| (!text.is_empty()).then_some(text)).ok_or_else(wrong)
    };
    Ok(Login { username: text(name)?, password: text(password)?.map(Password::Text) })
}

fn database(number: &str, servers: &Servers) -> Result<u16, Wrong> {
    let Ok(number) = number.parse() else {
        return Err(Wrong::new("names a database that is not a number").with_hint(match servers {
            Servers::Sentinels { .. } => {
                "write its number after the master's name, as in \"/main/0\""
            }
            _ => "write its number after the host, as in \"redis://host:6379/0\"",
        }));
    };
    if matches!(servers, Servers::Cluster(_)) && number != 0 {
        return Err(Wrong::new("names a database other than 0")
            .with_hint("a cluster has no other: leave it out, and choose a `namespace`"));
    }
    Ok(number)
}

fn master(name: &str) -> Result<String, Wrong> {
    // What Sentinel itself lets a master be called.
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
    if name.is_empty() || !is_name {
        return Err(Wrong::new("does not name a master").with_hint(
            "write what the sentinels call it after them: \"redis+sentinel://host:26379/mymaster\"",
        ));
    }
    Ok(name.to_owned())
}

fn one(text: &str) -> Result<Node, Wrong> {
    if text.contains(',') {
        return Err(Wrong::new("names several servers")
            .with_hint("write \"redis+cluster://a,b,c\" for a cluster, \"redis+sentinel://a,b,c/master\" for sentinels"));
    }
    node(text, PORT).ok_or_else(|| {
        Wrong::new("does not name a host and a port")
            .with_hint("write \"redis://host:port\", or \"rediss://host:port\" for TLS")
    })
}

fn nodes(text: &str, port: u16, scheme: &str) -> Result<Vec<Node>, Wrong> {
    let wrong = |complaint: &str| {
        Wrong::new(complaint)
            .with_hint(format!("write \"{scheme}://host:port,host:port,host:port…\""))
    };
    let nodes: Option<Vec<Node>> = text.split(',').map(|text| node(text, port)).collect();
    let nodes = nodes.ok_or_else(|| wrong("has a part that is not a host and a port"))?;
    if nodes.len() > MOST { Err(wrong("names more than 64 servers")) } else { Ok(nodes) }
}

fn node(text: &str, default: u16) -> Option<Node> {
    address::check_authority(text)?;
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, default),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = inner.filter(|inner| inner.parse::<Ipv6Addr>().is_ok()).unwrap_or(host);
    Some(Node { host: host.to_owned(), port })
}

/// RFC 3986 §2.1. A `%` that begins no octet stands for itself. None if that is not UTF-8.
fn decoded(text: &str) -> Option<String> {
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Node {
        Node { host: host.to_owned(), port }
    }

    fn user(name: Option<&str>, password: Option<&str>) -> Login {
        let password = password.map(|password| Password::Text(password.to_owned()));
        Login { username: name.map(str::to_owned), password }
    }

    #[test]
    fn urls_of_one_server() {
        let none = || user(None, None);
        for (text, host, port, login, database, resp3, is_tls) in [
            ("redis://127.0.0.1:6379", "127.0.0.1", 6379, none(), 0, false, false),
            ("rediss://cache/0", "cache", 6379, none(), 0, false, true),
            ("redis://[::1]", "::1", 6379, none(), 0, false, false),
            ("redis://[::1]:7/12?protocol=3", "::1", 7, none(), 12, true, false),
            ("redis://cache/?protocol=resp2", "cache", 6379, none(), 0, false, false),
            (
                "redis://:p@ss/word@cache:6379/1?protocol=resp3",
                "cache",
                6379,
                user(None, Some("p@ss/word")),
                1,
                true,
                false,
            ),
            (
                "redis://l%40rder:a:%zz%2Fb%23@cache",
                "cache",
                6379,
                user(Some("l@rder"), Some("a:%zz/b#")),
                0,
                false,
                false,
            ),
        ] {
            let redis = url(text).unwrap();
            assert_eq!(redis.servers, Servers::One(at(host, port)), "{text}");
            assert_eq!((redis.login, redis.database), (login, database), "{text}");
            assert_eq!((redis.resp3, redis.tls.is_some()), (resp3, is_tls), "{text}");
        }
        let redis = url("unix:///run/r%20s?db=1&user=u&pass=s%26t&protocol=resp3").unwrap();
        assert_eq!(redis.servers, Servers::Socket("/run/r s".into()));
        assert_eq!(redis.login, user(Some("u"), Some("s&t")));
        assert_eq!((redis.database, redis.resp3), (1, true));
    }

    #[test]
    fn urls_of_several_servers() {
        let redis = url("redis+sentinel://u:p@s1,s2:1,[::1]:2/my-master.1/3").unwrap();
        let sentinels = vec![at("s1", 26379), at("s2", 1), at("::1", 2)];
        let master = "my-master.1".to_owned();
        let expected = Servers::Sentinels { sentinels, master, login: Login::default() };
        assert_eq!((redis.servers, redis.database), (expected, 3));
        assert_eq!((redis.login, redis.tls), (user(Some("u"), Some("p")), None));
    }

    #[test]
    fn urls_of_a_cluster() {
        let redis = url("rediss+cluster://h1:7000,h2/?protocol=resp3").unwrap();
        assert_eq!(redis.servers, Servers::Cluster(vec![at("h1", 7000), at("h2", 6379)]));
        assert_eq!((redis.tls, redis.resp3), (Some(Tls::default()), true));
    }

    #[test]
    fn urls_that_are_wrong() {
        for (text, complaint) in [
            ("127.0.0.1:6379", "is not a URL"),
            ("http://cache", "has a scheme that is neither `redis` nor `rediss`"),
            ("rediss+unix:///run/redis", "has a scheme that is neither `redis` nor `rediss`"),
            ("redis+unix://cache", "does not name a socket"),
            ("unix:///?pass=secret", "does not name a socket"),
            ("unix:///r?password=secret", "has a parameter that is not known"),
            ("redis://", "does not name a host and a port"),
            ("redis://:secret", "does not name a host and a port"),
            ("redis://cache/zero", "names a database that is not a number"),
            ("redis://cache/0/secret", "names a database that is not a number"),
            ("redis://a,b", "names several servers"),
            ("redis://sec#ret", "has a `#`"),
            ("redis://cache?pass=secret", "has a parameter that is not known"),
            ("redis://cache?protocol=secret", "names a protocol that there is not"),
            ("redis://%ff:secret@cache", "has a user's name or password that is not in UTF-8"),
            ("redis+sentinel://a,b", "does not name a master"),
            ("redis+sentinel://a/ /0", "does not name a master"),
            ("redis+sentinel://a/main/x", "names a database that is not a number"),
            ("redis+sentinel://a,,b/main", "has a part that is not a host and a port"),
            ("redis+sentinel:///main", "has a part that is not a host and a port"),
            ("redis+cluster://a,b:secret", "has a part that is not a host and a port"),
            ("redis+cluster://a/1", "names a database other than 0"),
        ] {
            let wrong = url(text).unwrap_err();
            assert_eq!(wrong.complaint, complaint, "{text}");
            assert!(!format!("{wrong:?}").contains("secret"), "{text}");
        }
        let many = format!("redis+sentinel://{}h/main", "h,".repeat(MOST));
        assert_eq!(url(&many).unwrap_err().complaint, "names more than 64 servers");
    }
}
