//! `larder explain`: why a request is answered as it is, as a tree.
//!
//! The running gateway says it (`POST /explain`), found by the `[admin]` of its file. With `--offline` the
//! file alone is asked, as far as that tells.

mod tree;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde_json::{Value, json};

use crate::config::{self, Config, Draft, Faults, MAX_QUERY_BODY};
use crate::message;
use crate::octets;
use crate::service::Assembly;
use crate::terminal;

use super::admin::{Admin, is_problem};
use super::{Exit, listener, raw, runtime, say, shown, with_hint};

const EXAMPLES: &str = "\
Examples:
  larder explain http://shop.example/catalogue/1
      Why the gateway of `gateway.toml` answers a GET of it as it does.
  larder explain HEAD http://shop.example/catalogue/1 -H 'Accept-Language: de'
      The same for another request.
  larder explain /graphql -H 'Content-Type: application/json' --data @asked.json
      The same for a POST that may be a read: its content decides, as that of a QUERY does.
  larder explain /catalogue/1 --offline
      Which route and which key, without a gateway.";

/// Arguments of `larder explain`.
#[derive(Debug, Args)]
#[command(override_usage = "larder explain [OPTIONS] [METHOD] URL", after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The request: a method, if it is not GET (with --data, POST), and a URL. One that begins with `/` is of
    /// `[server] listen`.
    #[arg(value_name = "METHOD URL", required = true, num_args = 1..=2)]
    request: Vec<String>,

    /// A field of the request, as `Name: value`; as often as needed.
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = field)]
    fields: Vec<(HeaderName, HeaderValue)>,

    /// Its content: a text, or `@FILE`, `@-` for standard input; as it is, with no field of its own.
    #[arg(short = 'd', long, value_name = "TEXT|@FILE")]
    data: Option<String>,

    /// The gateway's route table.
    #[arg(long, value_name = "FILE", default_value = "gateway.toml")]
    config: PathBuf,

    /// Where the gateway listens for operators, instead of what the file says.
    #[arg(long, value_name = "URL", value_parser = listener, conflicts_with = "offline")]
    admin: Option<Uri>,

    /// A file with the token of `[admin]`, instead of what the file says or `LARDER_ADMIN_TOKEN`.
    #[arg(long, value_name = "FILE", conflicts_with = "offline")]
    token_file: Option<PathBuf>,

    /// Ask no gateway: which route, policies and key the file gives.
    #[arg(long)]
    offline: bool,

    /// Print the explanation as JSON.
    #[arg(long)]
    json: bool,
}

/// Explains.
pub(super) fn explain(arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let (method, url) = match &*arguments.request {
        [method, url] => (method.as_str(), url.as_str()),
        [url] => (if arguments.data.is_some() { "POST" } else { "GET" }, url.as_str()),
        _ => return say(err, Exit::Faulty, "write a URL, and a method before it if it is not GET"),
    };
    let Ok(method) = method.parse::<Method>() else {
        return say(err, Exit::Faulty, &format!("`{method}` is no method"));
    };
    if let Some(why) = no_url(url) {
        return say(err, Exit::Faulty, &why);
    }
    let content = match arguments.data.as_deref().map(content).transpose() {
        Ok(content) => content,
        Err(why) => return say(err, Exit::Faulty, &why),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(why) => return say(err, Exit::Failed, &why),
    };
    let told = runtime.block_on(async {
        if arguments.offline {
            arguments.by_file(method, url, content).await
        } else {
            arguments.by_gateway(&method, url, content.as_deref()).await
        }
    });
    match told {
        Ok(told) if arguments.json => {
            let text = serde_json::to_string_pretty(&told).unwrap_or_default();
            say(out, Exit::Done, &terminal::json(&text))
        }
        Ok(told) => say(out, Exit::Done, tree::text(&told).trim_end()),
        Err(Refusal::Faulty(why)) => say(err, Exit::Faulty, &why),
        Err(Refusal::Failed(why)) => say(err, Exit::Failed, &why),
        Err(Refusal::Problem(content)) => raw(out, Exit::Failed, &content),
    }
}

/// Why there is no explanation.
enum Refusal {
    /// The arguments or the file are wrong.
    Faulty(String),
    /// The gateway did not say it.
    Failed(String),
    /// The same, as it said that.
    Problem(Vec<u8>),
}

impl From<Faults> for Refusal {
    fn from(faults: Faults) -> Self {
        Self::Faulty(faults.to_string())
    }
}

impl Arguments {
    async fn by_file(
        &self,
        method: Method,
        url: &str,
        content: Option<Bytes>,
    ) -> Result<Value, Refusal> {
        let draft = Draft::load(&self.config);
        let url = whole(url, &draft.config);
        let assembly = Assembly::new(draft, &self.config.display().to_string())?;
        let fields: HeaderMap = self.fields.iter().cloned().collect();
        let told = assembly.explain(method, url.clone(), fields, content).await;
        told.map_err(|why| Refusal::Faulty(format!("`{url}` {why}")))
    }

    async fn by_gateway(
        &self,
        method: &Method,
        url: &str,
        content: Option<&[u8]>,
    ) -> Result<Value, Refusal> {
        // The file is not needed where all is said.
        let is_needed = self.admin.is_none() || url.starts_with('/');
        let config = is_needed.then(|| config::load(&self.config)).transpose();
        let hint = "--config FILE names another; with --admin URL, and a whole URL to explain, none is needed";
        let config = config.map_err(|faults| with_hint(faults, &self.config, hint))?;
        let own = config.as_ref().and_then(|config| config.admin.as_ref());
        let uri = match (&self.admin, own) {
            (Some(admin), _) => admin.clone(),
            (None, Some(admin)) => reachable(admin.listen)?,
            (None, None) => {
                let file = self.config.display();
                return Err(Refusal::Faulty(format!(
                    "{file}: there is no `[admin]`, by which a gateway could be asked\n  hint: write \
                     `[admin]` with `listen`, or use --offline"
                )));
            }
        };
        let token = match own.and_then(|admin| admin.token.clone()) {
            Some(token) if self.admin.is_none() && self.token_file.is_none() => Some(token),
            _ => config::admin_token(self.token_file.as_deref())?,
        };
        let url = config.as_ref().map_or_else(|| url.to_owned(), |config| whole(url, config));
        let lines = self
            .fields
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
        let mut asked = json!({
            "url": url, "method": method.as_str(), "fields": lines.collect::<Vec<_>>(),
        });
        if let (Some((name, value)), Some(members)) = (content.map(member), asked.as_object_mut()) {
            members.insert(name.to_owned(), value.into());
        }
        let admin = Admin::at(uri);
        let answer = admin.call(token, "/explain", Some(asked), Duration::ZERO).await;
        let (status, content) = answer.map_err(Refusal::Failed)?;
        if status == StatusCode::OK
            && let Ok(told) = serde_json::from_slice::<Value>(&content)
            && told.get("outcome").is_some()
        {
            return Ok(told);
        }
        if self.json && is_problem(&content) {
            return Err(Refusal::Problem(content.to_vec()));
        }
        Err(Refusal::Failed(admin.refused(status, &content)))
    }
}

/// What is wrong with the URL of a request, and what may have been meant.
fn no_url(url: &str) -> Option<String> {
    if url.starts_with('/') {
        return None;
    }
    let why = message::of_url(url).err()?;
    let url = shown(url);
    let hint = if url.contains("://") {
        String::new()
    } else {
        let path = url.split_once('/').map_or("", |(_, path)| path);
        format!(
            "\n  hint: write `http://{url}`, or `/{path}` for what `[server] listen` is asked for"
        )
    };
    Some(format!("`{url}` {why}{hint}"))
}

/// A URL of the gateway itself, if it is only the end of one.
fn whole(url: &str, config: &Config) -> String {
    if !url.starts_with('/') {
        return url.to_owned();
    }
    let listener = &config.server.listener;
    let scheme = if listener.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}{url}", nearby(listener.listen))
}

/// Where a listener can be reached from this machine.
fn nearby(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn reachable(address: SocketAddr) -> Result<Uri, Refusal> {
    if address.port() == 0 {
        let why = "`[admin] listen` has port 0: say by --admin where the gateway listens";
        return Err(Refusal::Faulty(why.to_owned()));
    }
    let uri = format!("http://{}", nearby(address)).parse();
    uri.map_err(|_| Refusal::Faulty(format!("`{address}` cannot be called")))
}

/// What `--data` names. A file is read as far as to see that it is too long.
fn content(data: &str) -> Result<Bytes, String> {
    let Some(name) = data.strip_prefix('@') else { return Ok(data.to_owned().into()) };
    let source: io::Result<Box<dyn Read>> = match name {
        "-" => Ok(Box::new(io::stdin())),
        name => File::open(name).map(|file| Box::new(file) as Box<dyn Read>),
    };
    let mut octets = Vec::new();
    let read = source.and_then(|source| source.take(MAX_QUERY_BODY + 1).read_to_end(&mut octets));
    match read {
        Err(error) => Err(format!("--data `{data}` cannot be read: {error}")),
        Ok(_) if octets.len() as u64 > MAX_QUERY_BODY => Err(format!(
            "--data `{data}` has more than 16 MiB, and no route reads more of a request (`max_query_body`)"
        )),
        Ok(_) => Ok(octets.into()),
    }
}

/// A content as a member of what the gateway is asked. What JSON would make longer than base64 does is no
/// text.
fn member(content: &[u8]) -> (&'static str, String) {
    let is_text =
        |text: &&str| !text.chars().any(|it| it.is_control() && !matches!(it, '\t' | '\n' | '\r'));
    match str::from_utf8(content).ok().filter(is_text) {
        Some(text) => ("content", text.to_owned()),
        None => ("content_base64", STANDARD.encode(content)),
    }
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    octets::read_field(text).ok_or_else(|| "write `Name: value`".to_owned())
}
