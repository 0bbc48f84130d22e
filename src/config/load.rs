//! Where a configuration comes from: a file, a text, or the flags of `larder run --upstream`.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;

use super::fault::{Fault, Faults, Wrong};
use super::{
    Admin, Config, InForce, Listener, Listing, Origin, Route, Server, Upstream, UpstreamServer,
};
use super::{address, listeners, sections, shown, value};

/// A file has at most this many octets.
const LARGEST: u64 = 1 << 20;

/// What could be read of a configuration, and all that is wrong with it.
///
/// It lets those who look for further faults (routes that contradict each other, plugins that do
/// not load) report theirs together with these. In the place of what is wrong stands a default;
/// policies without a usable plugin or `config`, and routes of which it cannot be said what they
/// match, are left out. Only [`Draft::finish`] makes a configuration to serve with.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What could be read.
    pub config: Config,
    /// What is wrong, in no order.
    pub faults: Vec<Fault>,
}

/// What is looked at to read a configuration.
#[derive(Clone, Copy, Debug)]
pub enum Look<'a> {
    /// This file.
    File(&'a Path),
    /// Whatever files there are of these names.
    Listing(&'a Listing),
}

impl Draft {
    /// Reads a file and what it includes; variables are the process's.
    pub fn load(path: &Path) -> Self {
        Self::load_watched(path, &mut |_| ())
    }

    /// The same. What is about to be read is told, so that what changes meanwhile does not go unseen.
    pub fn load_watched(path: &Path, look: &mut dyn FnMut(Look<'_>)) -> Self {
        let file = path.display().to_string();
        let folder = path.parent().unwrap_or(Path::new(""));
        look(Look::File(path));
        match text(path) {
            Ok(text) => sections::read(&text, &file, folder, &variable, look),
            Err(message) => {
                let fault = Fault::new(file, None, message);
                Self { config: Config::empty(), faults: vec![fault] }
            }
        }
    }

    /// Reads a text. `file` is what faults call it, `folder` is where relative paths begin, `env`
    /// answers for `${NAME}`.
    pub fn parse(
        text: &str,
        file: &str,
        folder: &Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        sections::read(text, file, folder, env, &mut |_| ())
    }

    /// Has clients connect there, whatever the file says: a flag of the command line does.
    pub fn listen_on(&mut self, listen: SocketAddr) {
        let Config { server, admin, .. } = &self.config;
        let is_taken = |other: SocketAddr| listeners::collide(other, listen);
        let wrong = if admin.as_ref().is_some_and(|admin| is_taken(admin.listen)) {
            let hint = "give operators a port of their own";
            Some(Wrong::new("is where operators connect to").with_hint(hint))
        } else if server.more.iter().any(|it| is_taken(it.listen)) {
            let hint = "give each listener an address of its own";
            Some(Wrong::new("is the address of another listener").with_hint(hint))
        } else {
            None
        };
        self.faults.extend(wrong.map(|Wrong { complaint, hint }| {
            let message = format!("`{listen}` {complaint}");
            Fault::new("--listen", None, message).with_hint(hint)
        }));
        self.config.server.listener.listen = listen;
        self.config.in_force.set("server", "listen", listen.to_string(), "--listen");
    }

    /// The configuration, if nothing is wrong with it.
    pub fn finish(self) -> Result<Config, Faults> {
        if self.faults.is_empty() { Ok(self.config) } else { Err(self.config.faults(self.faults)) }
    }
}

/// The configuration in a file; variables are the process's.
pub fn load(path: &Path) -> Result<Config, Faults> {
    Draft::load(path).finish()
}

/// The configuration in a text. `file` is what faults call it, `folder` is where relative paths
/// begin, `env` answers for `${NAME}`.
pub fn parse(
    text: &str,
    file: &str,
    folder: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Faults> {
    Draft::parse(text, file, folder, env).finish()
}

/// The token to call an admin listener with: what a file holds, without the end of its line, or else
/// the variable `LARDER_ADMIN_TOKEN`. None if that is empty.
pub fn admin_token(file: Option<&Path>) -> Result<Option<String>, Faults> {
    const VARIABLE: &str = "LARDER_ADMIN_TOKEN";

    let (name, read) = match file {
        Some(file) => (file.display().to_string(), text(file)),
        None => (VARIABLE.to_owned(), Ok(variable(VARIABLE).unwrap_or_default())),
    };
    let fault = |wrong: Wrong| {
        let fault = Fault::new(name.as_str(), None, wrong.complaint).with_hint(wrong.hint);
        Faults::from(vec![fault])
    };
    let read = read.map_err(|message| fault(Wrong::new(message)))?;
    let token = value::token(read.trim_end_matches(['\r', '\n'])).map_err(|wrong| {
        // It is not shown: it may be a secret all the same.
        let complaint = format!("what is there {}", wrong.complaint);
        fault(Wrong { complaint, ..wrong })
    })?;
    if token.is_none() && file.is_some() {
        return Err(fault(Wrong::new("there is no token in it")));
    }
    Ok(token)
}

impl Config {
    /// One upstream, and one route named `all` for every path: what `larder run --upstream URL`
    /// serves without a file. Faults are named after the flags `--upstream` and `--admin`.
    pub fn for_upstream(
        url: &str,
        listen: SocketAddr,
        admin: Option<Admin>,
    ) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let mut report = |flag: &str, value: &str, wrong: Wrong| {
            let message = format!("`{}` {}", shown::plain(value), wrong.complaint);
            faults.push(Fault::new(flag, None, message).with_hint(wrong.hint));
        };
        let server = address::server(url);
        let server = server.and_then(|it| address::certified_server(&it).map(|()| it));
        let server = server.map_err(|wrong| report("--upstream", url, wrong)).ok();
        if let Some(Admin { listen: address, token }) = &admin {
            if token.is_none() && !address.ip().is_loopback() {
                let wrong = Wrong::new("is not a loopback address, and there is no token");
                let hint =
                    "listen on 127.0.0.1, or write a `gateway.toml` with a token in `[admin]`";
                report("--admin", &address.to_string(), wrong.with_hint(hint));
            }
            if listeners::collide(*address, listen) {
                let wrong = Wrong::new("is where clients connect to");
                let hint = "give operators a port of their own";
                report("--admin", &address.to_string(), wrong.with_hint(hint));
            }
        }
        if !faults.is_empty() {
            return Err(faults.into());
        }
        let mut in_force = InForce::flags(url, admin.is_some());
        in_force.set("server", "listen", listen.to_string(), "--listen");
        if let Some(Admin { listen, .. }) = &admin {
            in_force.set("admin", "listen", listen.to_string(), "--admin");
        }
        Ok(Self {
            in_force,
            server: Server { listener: Listener::on(listen), ..Server::default() },
            admin,
            upstreams: vec![Upstream::new(
                "all".to_owned(),
                server.map(UpstreamServer::new).into_iter().collect(),
            )],
            routes: vec![Route::new("all".to_owned(), "/{*rest}".to_owned(), Origin::Upstream(0))],
            ..Self::empty()
        })
    }
}

/// A variable of the process's environment.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The text of a file, or why there is none.
pub(super) fn text(path: &Path) -> Result<String, String> {
    let mut octets = Vec::new();
    // One octet more than allowed tells a file that is too large from one that just fits.
    File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut octets))
        .map_err(|error| format!("the file cannot be read: {error}"))?;
    if octets.len() as u64 > LARGEST {
        return Err("the file is larger than 1MiB".to_owned());
    }
    String::from_utf8(octets).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.split(|octet| *octet == b'\n').count();
        format!("the file is not UTF-8, from line {line} on")
    })
}
