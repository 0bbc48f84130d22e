//! The Redis servers behind `[cache.l2]`: the URL `redis`, and the keys that go with it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::reader::{Table, Value};
use super::sections::file;
use super::server_url::url;
use super::{Place, shown};

/// How Redis is reached.
#[derive(Clone, Debug)]
pub struct Redis {
    /// `redis`: which servers there are.
    pub servers: Servers,
    /// The URL's database, default 0.
    pub database: u16,
    /// The URL's `?protocol=resp3`; the default is RESP2.
    pub resp3: bool,
    /// `username`, and `password` or `password_file`, or what the URL has of them.
    pub login: Login,
    /// `tls`; none unless the URL begins with `rediss`.
    pub tls: Option<Tls>,
    /// Where `tls` stands, or `redis` if there is none.
    pub tls_place: Place,
    /// Where the password stands, or `redis` if there is none.
    pub password_place: Place,
}

/// Which servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// One, by the path of its socket.
    Socket(PathBuf),
    /// One.
    One(Node),
    /// The master that sentinels name.
    Sentinels {
        /// The sentinels.
        sentinels: Vec<Node>,
        /// What they call the master.
        master: String,
        /// `sentinel_username`, `sentinel_password`.
        login: Login,
    },
    /// A cluster, of which these are some nodes.
    Cluster(Vec<Node>),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Who the gateway says that it is. No password: nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// Redis' own default user if there is none.
    pub username: Option<String>,
    /// Where the password is.
    pub password: Option<Password>,
}

/// A password, or where it is. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// The password itself.
    Text(String),
    /// A file, read at each connect. A line break at its end is not part of it.
    File(PathBuf),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("[hidden]"),
            Self::File(path) => path.fmt(f),
        }
    }
}

/// `tls`: PEM files, read at each connect; relative ones are found from the folder of `gateway.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// `ca`: the authorities to believe instead of the system's.
    pub ca: Option<PathBuf>,
    /// `certificate` and `key`, for servers that ask for them.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Redis {
    /// With every default but the servers.
    pub(super) fn on(servers: Servers) -> Self {
        Self {
            servers,
            database: 0,
            resp3: false,
            login: Login::default(),
            tls: None,
            tls_place: Place::default(),
            password_place: Place::default(),
        }
    }

    /// The keys by which two of them differ, as the file names them.
    pub(super) fn differences(&self, other: &Self) -> Vec<&'static str> {
        let sentinel = |redis: &Self| match &redis.servers {
            Servers::Sentinels { login, .. } => login.clone(),
            _ => Login::default(),
        };
        let servers = |redis: &Self| match redis.servers.clone() {
            Servers::Sentinels { sentinels, master, .. } => {
                Servers::Sentinels { sentinels, master, login: Login::default() }
            }
            servers => servers,
        };
        let (theirs, ours) = (sentinel(other), sentinel(self));
        let is_same_url = servers(self) == servers(other)
            && (self.database, self.resp3, self.tls.is_some())
                == (other.database, other.resp3, other.tls.is_some());
        [
            ("[cache.l2] redis", !is_same_url),
            ("[cache.l2] username", self.login.username != other.login.username),
            ("[cache.l2] password", self.login.password != other.login.password),
            ("[cache.l2] sentinel_username", ours.username != theirs.username),
            ("[cache.l2] sentinel_password", ours.password != theirs.password),
            ("[cache.l2] tls", is_same_url && self.tls != other.tls),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}

/// What the table says of it; none if `redis` is missing, empty or wrong.
pub(super) fn read(table: &mut Table<'_>, folder: &Path) -> Option<Redis> {
    let value = table.take("redis").map(|value| value.secret(shown::url));
    if value.is_none() {
        let hint = "write redis = \"redis://127.0.0.1:6379\", or disk = \"/var/cache/larder\", \
                    or leave `[cache.l2]` out";
        table.report(table.place, "neither `redis` nor `disk`", Some(hint.to_owned()));
    }
    // Without it, what is wrong with the rest is told all the same.
    let keys = Keys::read(table, folder);
    let value = value?;
    let mut redis = value.read(|text| match text {
        "" => Ok(None),
        text => url(text).map(Some),
    })??;
    (redis.tls_place, redis.password_place) = (value.place, value.place);
    keys.log_in(&mut redis, &value);
    keys.secure(&mut redis);
    Some(redis)
}

/// The keys beside `redis`, as far as they are there and not empty.
struct Keys<'a> {
    username: Option<Given<'a, String>>,
    /// As text, and in a file.
    passwords: [Option<Given<'a, Password>>; 2],
    sentinel_username: Option<Given<'a, String>>,
    sentinel_password: Option<Given<'a, String>>,
    tls: Option<Given<'a, Tls>>,
}

/// A value, and what it stands for.
struct Given<'a, T> {
    value: Value<'a>,
    content: T,
}

impl<'a> Keys<'a> {
    fn read(table: &mut Table<'a>, folder: &Path) -> Self {
        let mut text = |key| {
            let value = table.take(key)?;
            let is_secret = key.ends_with("password");
            let value = if is_secret { value.secret(|_| "[hidden]".to_owned()) } else { value };
            let content = value.text().filter(|text| !text.is_empty())?;
            Some(Given { value, content })
        };
        let username = text("username");
        let password = text("password").map(|it| it.into(Password::Text));
        let file = text("password_file").and_then(|it| password_file(it, folder));
        Self {
            username,
            passwords: [password, file],
            sentinel_username: text("sentinel_username"),
            sentinel_password: text("sentinel_password"),
            tls: table.take("tls").and_then(|value| tls(value, folder)),
        }
    }

    fn log_in(&self, redis: &mut Redis, value: &Value<'_>) {
        let once = |value: &Value<'_>, what: &str| {
            value.report(what, Some("write it in one place".to_owned()));
        };
        match &self.username {
            Some(it) if redis.login.username.is_some() => {
                once(&it.value, "there are two usernames");
            }
            Some(it) => redis.login.username = Some(it.content.clone()),
            None => {}
        }
        for it in self.passwords.iter().flatten() {
            if redis.login.password.is_some() {
                once(&it.value, "there are two passwords");
            }
            redis.login.password = Some(it.content.clone());
            redis.password_place = it.value.place;
        }
        if redis.login.username.is_some() && redis.login.password.is_none() {
            let hint = "set `password` or `password_file`, or leave the name out".to_owned();
            let value = self.username.as_ref().map_or(value, |it| &it.value);
            value.report("there is a user's name and no password", Some(hint));
        }
        let text = |given: &Option<Given<'_, String>>| given.as_ref().map(|it| it.content.clone());
        if let Servers::Sentinels { login, .. } = &mut redis.servers {
            login.username = text(&self.sentinel_username);
            login.password = text(&self.sentinel_password).map(Password::Text);
        } else if let Some(it) = self.sentinel_username.as_ref().or(self.sentinel_password.as_ref())
        {
            let hint = "let `redis` begin with `redis+sentinel://`, or leave it out".to_owned();
            it.value.report("there is a login for sentinels, and `redis` names none", Some(hint));
        }
    }

    fn secure(self, redis: &mut Redis) {
        let Some(it) = self.tls else { return };
        if redis.tls.is_none() {
            let hint = "let `redis` begin with `rediss`, or leave `tls` out".to_owned();
            it.value.report("tls is there, and `redis` is without it", Some(hint));
            return;
        }
        (redis.tls, redis.tls_place) = (Some(it.content), it.value.place);
    }
}

impl<'a, T> Given<'a, T> {
    fn into<U>(self, make: impl FnOnce(T) -> U) -> Given<'a, U> {
        Given { value: self.value, content: make(self.content) }
    }
}

fn password_file<'a>(it: Given<'a, String>, folder: &Path) -> Option<Given<'a, Password>> {
    if let Err(wrong) = file(&it.content) {
        it.value.wrong(&it.content, wrong.with_hint("write the path of a file with the password"));
        return None;
    }
    Some(it.into(|path| Password::File(folder.join(path))))
}

fn tls<'a>(value: Value<'a>, folder: &Path) -> Option<Given<'a, Tls>> {
    let mut table = value.table("[cache.l2] tls", || "write tls = { ca = \"FILE\" }".to_owned())?;
    let mut path = |key| {
        let value = table.take(key)?;
        value.read(|text| file(text).map(|()| folder.join(text)))
    };
    let (ca, certificate, key) = (path("ca"), path("certificate"), path("key"));
    if certificate.is_some() != key.is_some() {
        let hint = Some("write `certificate` and `key`, or neither".to_owned());
        table.report(table.place, "one of `certificate` and `key` is missing", hint);
    }
    table.finish();
    Some(Given { value, content: Tls { ca, identity: certificate.zip(key) } })
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
    fn differences_are_named_by_their_keys() {
        let base = url("redis+sentinel://a,b/main").unwrap();
        let with = |login: Login| Servers::Sentinels {
            sentinels: vec![at("a", 26379), at("b", 26379)],
            master: "main".to_owned(),
            login,
        };
        let file = Password::File("/p".into());
        for (other, keys) in [
            (base.clone(), &[][..]),
            (url("redis+sentinel://a,b/other").unwrap(), &["redis"]),
            (url("rediss+sentinel://a,b/main").unwrap(), &["redis"]),
            (url("redis+sentinel://u:p@a,b/main").unwrap(), &["username", "password"]),
            (
                Redis { login: Login { password: Some(file), ..Login::default() }, ..base.clone() },
                &["password"],
            ),
            (
                Redis { servers: with(user(Some("u"), Some("p"))), ..base.clone() },
                &["sentinel_username", "sentinel_password"],
            ),
        ] {
            let keys: Vec<_> = keys.iter().map(|key| format!("[cache.l2] {key}")).collect();
            assert_eq!(other.differences(&base), keys);
        }
        let base = url("rediss://a").unwrap();
        let other =
            Redis { tls: Some(Tls { ca: Some("/ca".into()), identity: None }), ..base.clone() };
        assert_eq!(other.differences(&base), ["[cache.l2] tls"]);
    }
}
