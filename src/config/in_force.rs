//! A configuration as it is in force: what the files say and what they leave to defaults, each with where
//! it comes from, and without secrets.
//!
//! The defaults are those of the schema, which has them from the readers: what is told here, read again,
//! is the same configuration.

mod keeping;

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::schema::{PARSED, resolved};
use super::source::Source;
use super::{Place, env, sections, shown};

/// Every key that counts, with its value and where that comes from. Nothing in it is secret.
#[derive(Clone, Debug, Default)]
pub struct InForce(Entries);

type Entries = Vec<(String, Node)>;

#[derive(Clone, Debug)]
enum Node {
    Table(Entries),
    /// An array of tables.
    Tables(Vec<Entries>),
    Value(Json, Origin),
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
enum Origin {
    Default,
    /// A flag of the command line.
    Flag(&'static str),
    /// A file and a line, and the variables in the value, each with whether it was set.
    Written {
        file: String,
        line: usize,
        variables: Vec<(String, bool)>,
    },
}

/// What is walked through.
struct Walk<'s, 'a> {
    schema: &'s Json,
    source: &'a Source<'a>,
    /// Secrets are shown as they are.
    open: bool,
}

impl InForce {
    /// Of a document without faults.
    pub(super) fn of(document: &DeTable<'_>, source: &Source<'_>) -> Self {
        Self::with(document, source, false)
    }

    /// Of one upstream by its URL, and no file.
    pub(super) fn flags(url: &str, has_admin: bool) -> Self {
        let admin = if has_admin { "admin = {}\n" } else { "" };
        let text = format!(
            "{admin}upstreams.all.servers = [{}]\nroutes = [{{ name = \"all\", path = \"/{{*rest}}\", \
             upstream = \"all\" }}]",
            toml_text(url)
        );
        let source = Source::new("--upstream", &text, &|_| None);
        sections::document(&text, &source)
            .map_or_else(Self::default, |document| Self::of(document.get_ref(), &source))
    }

    fn with(document: &DeTable<'_>, source: &Source<'_>, open: bool) -> Self {
        let walk = Walk { schema: &PARSED, source, open };
        Self(walk.table(&PARSED, document))
    }

    /// A default that no schema can say, where the key is not written.
    pub(super) fn fill(&mut self, table: &str, key: &str, value: String) {
        if let Some(entries) = self.table(table)
            && entries.iter().all(|(name, _)| name != key)
        {
            entries.push((key.to_owned(), Node::Value(Json::String(value), Origin::Default)));
        }
    }

    /// A key that a flag of the command line decides.
    pub(super) fn set(&mut self, table: &str, key: &str, value: String, flag: &'static str) {
        let entries = match (table, key) {
            ("server", "listen") => self.listener(0),
            _ => self.table(table),
        };
        if let Some(entries) = entries {
            entries.retain(|(name, _)| name != key);
            let node = Node::Value(Json::String(value), Origin::Flag(flag));
            entries.insert(0, (key.to_owned(), node));
        }
    }

    fn table(&mut self, table: &str) -> Option<&mut Entries> {
        match self.0.iter_mut().find(|(name, _)| name == table) {
            Some((_, Node::Table(entries))) => Some(entries),
            _ => None,
        }
    }

    /// As JSON: `config`, and `sources` by JSON Pointers (RFC 6901) into it. What has no source is a
    /// default.
    pub fn to_json(&self) -> Json {
        let mut sources = Map::new();
        let config = json_of(&self.0, "", &mut sources);
        Json::Object(Map::from_iter([
            ("config".to_owned(), config),
            ("sources".to_owned(), Json::Object(sources)),
        ]))
    }

    /// As TOML, with a comment behind each key that says where it comes from.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        write_table(&mut text, &[], &self.0);
        text.trim_start().to_owned()
    }
}

impl Walk<'_, '_> {
    fn table(&self, schema: &Json, entries: &DeTable<'_>) -> Entries {
        let mut written: Vec<_> = entries.iter().collect();
        written.sort_by_key(|(key, _)| key.span().start);
        let nodes = written.iter().map(|(key, value)| {
            let key = key.get_ref().to_string();
            let node = self.node(self.member(schema, &key), value);
            (key, node)
        });
        let mut nodes: Entries = nodes.collect();
        for (key, default) in self.defaults(schema, entries) {
            let inner = self.member(schema, &key);
            let node = match &default {
                Json::Object(_) => {
                    Node::Table(self.table(alternative(inner, true), &DeTable::new()))
                }
                _ => Node::Value(default, Origin::Default),
            };
            nodes.push((key, node));
        }
        nodes
    }

    /// What the schema of a table says of a key in it.
    fn member<'j>(&'j self, schema: &'j Json, key: &str) -> &'j Json {
        let known = schema.pointer(&format!("/properties/{}", escaped(key)));
        let known = known.or_else(|| schema.get("additionalProperties"));
        known.map_or(&Json::Null, |known| resolved(self.schema, known))
    }

    /// Of the keys that are not there.
    fn defaults(&self, schema: &Json, entries: &DeTable<'_>) -> Vec<(String, Json)> {
        let conditions = schema.get("allOf").and_then(Json::as_array).into_iter().flatten();
        let branches = conditions.chain([schema]).filter_map(|it| {
            let branch = if self.holds(it.get("if")?, entries) { "then" } else { "else" };
            it.get(branch)?.get("properties")
        });
        let branches: Vec<&Json> = branches.collect();
        let properties = schema.get("properties").and_then(Json::as_object);
        let defaults = properties.into_iter().flatten().filter_map(|(key, property)| {
            let special = branches.iter().find_map(|branch| branch.get(key)?.get("default"));
            let property = resolved(self.schema, property);
            let default = special.or_else(|| property.get("default"))?;
            (!entries.contains_key(key.as_str())).then(|| (key.clone(), default.clone()))
        });
        defaults.collect()
    }

    /// Whether a condition of the schema holds: keys that are there and not empty, some of them with a
    /// certain value.
    fn holds(&self, condition: &Json, entries: &DeTable<'_>) -> bool {
        let required = condition.get("required").and_then(Json::as_array).into_iter().flatten();
        required.filter_map(Json::as_str).all(|key| {
            let Some(value) = entries.get(key) else { return false };
            let (value, _) = self.value(&Json::Null, value);
            let wanted = condition.pointer(&format!("/properties/{key}/const"));
            value != "" && wanted.is_none_or(|wanted| *wanted == value)
        })
    }

    fn node(&self, schema: &Json, value: &Spanned<DeValue<'_>>) -> Node {
        match value.get_ref() {
            DeValue::Table(entries) => Node::Table(self.table(alternative(schema, true), entries)),
            DeValue::Array(elements) => {
                let tables = elements.iter().map(|element| match element.get_ref() {
                    DeValue::Table(table) => Some(table),
                    _ => None,
                });
                let items = alternative(schema, false).get("items").cloned().unwrap_or_default();
                let items = alternative(resolved(self.schema, &items), true).clone();
                match tables.collect::<Option<Vec<_>>>().filter(|tables| !tables.is_empty()) {
                    Some(tables) => {
                        let tables = tables.into_iter().map(|table| self.table(&items, table));
                        Node::Tables(tables.collect())
                    }
                    None => self.leaf(schema, value),
                }
            }
            _ => self.leaf(schema, value),
        }
    }

    fn leaf(&self, schema: &Json, value: &Spanned<DeValue<'_>>) -> Node {
        let Place { file, line, .. } = self.source.place(value.span().start);
        let (value, variables) = self.value(schema, value);
        let file = self.source.name(file).to_owned();
        Node::Value(value, Origin::Written { file, line, variables })
    }

    /// What a value comes to, and the variables in it.
    fn value(&self, schema: &Json, value: &Spanned<DeValue<'_>>) -> (Json, Vec<(String, bool)>) {
        let text = match value.get_ref() {
            DeValue::String(text) => text,
            DeValue::Array(elements) => {
                let items = alternative(schema, false).get("items");
                let items = items.map_or(&Json::Null, |items| resolved(self.schema, items));
                let values = elements.iter().map(|element| self.value(items, element));
                let (values, variables): (Vec<_>, Vec<_>) = values.unzip();
                return (Json::Array(values), variables.concat());
            }
            DeValue::Table(entries) => {
                let mut all = Vec::new();
                let schema = alternative(schema, true);
                let values = entries.iter().map(|(key, value)| {
                    let inner = self.member(schema, key.get_ref());
                    let (value, variables) = self.value(inner, value);
                    all.extend(variables);
                    (key.get_ref().to_string(), value)
                });
                let values = Json::Object(values.collect());
                return (values, all);
            }
            DeValue::Boolean(value) => return ((*value).into(), Vec::new()),
            DeValue::Integer(number) => {
                let number = i64::from_str_radix(number.as_str(), number.radix());
                return (number.map_or(Json::Null, Json::from), Vec::new());
            }
            DeValue::Float(number) => {
                return (number.as_str().parse::<f64>().map_or(Json::Null, Json::from), Vec::new());
            }
            DeValue::Datetime(date) => return (Json::String(date.to_string()), Vec::new()),
        };
        let variables = env::variables(text, self.source.env);
        let expanded = env::expand(text, self.source.env).unwrap_or_default();
        let has_form = |form: &str| schema.get("x-shown").is_some_and(|it| it == form);
        let is_secret = schema.get("writeOnly").is_some()
            // Nobody knows what a plugin is given; what does not stand in the file may be a secret.
            || (schema.is_null() || has_form("without variables")) && !variables.is_empty();
        let value = if expanded.is_empty() || self.open {
            typed(schema, expanded, !variables.is_empty())
        } else if is_secret {
            Json::String(shown::HIDDEN.to_owned())
        } else if has_form("url") || has_form("file or url") && expanded.contains("://") {
            Json::String(shown::url(&expanded))
        } else if has_form("page") {
            Json::String(shown::page(&expanded, text))
        } else if has_form("file or page") && expanded.contains("://") {
            Json::String(shown::page(&expanded, ""))
        } else if has_form("path") {
            Json::String(shown::path(&expanded))
        } else {
            typed(schema, expanded, !variables.is_empty())
        };
        (value, variables)
    }
}

/// Of several forms of a value, the one that is a table, or an array.
fn alternative(schema: &Json, table: bool) -> &Json {
    let key = if table { "properties" } else { "items" };
    let forms = schema.get("anyOf").and_then(Json::as_array);
    let fitting = forms.and_then(|forms| forms.iter().find(|form| form.get(key).is_some()));
    fitting.unwrap_or(schema)
}

/// A variable's text where a number or a boolean is wanted.
fn typed(schema: &Json, text: String, has_variables: bool) -> Json {
    let is_wanted = |kind: &str| {
        let kinds = schema.get("type").and_then(Json::as_array);
        let of_forms = schema.get("anyOf").and_then(Json::as_array).into_iter().flatten();
        kinds.is_some_and(|kinds| kinds.iter().any(|it| it == kind))
            || of_forms.filter_map(|form| form.get("type")).any(|it| it == kind)
    };
    let is_plain = |value: &Json| {
        value.is_boolean() && is_wanted("boolean")
            || value.is_i64() && is_wanted("integer")
            || value.is_number() && is_wanted("number")
    };
    let read = serde_json::from_str(&text).ok().filter(|_| has_variables).filter(is_plain);
    read.unwrap_or(Json::String(text))
}

/// A step of a JSON Pointer (RFC 6901 §3).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn json_of(entries: &Entries, at: &str, sources: &mut Map<String, Json>) -> Json {
    let members = entries.iter().map(|(key, node)| {
        let at = format!("{at}/{}", escaped(key));
        let value = match node {
            Node::Table(entries) => json_of(entries, &at, sources),
            Node::Tables(tables) => {
                let tables = tables.iter().enumerate();
                tables.map(|(index, it)| json_of(it, &format!("{at}/{index}"), sources)).collect()
            }
            Node::Value(value, origin) => {
                if let Some(origin) = origin.to_json() {
                    sources.insert(at, origin);
                }
                value.clone()
            }
        };
        (key.clone(), value)
    });
    Json::Object(members.collect())
}

impl Origin {
    /// None of a default.
    fn to_json(&self) -> Option<Json> {
        match self {
            Self::Default => None,
            Self::Flag(flag) => Some(serde_json::json!({ "flag": flag })),
            Self::Written { file, line, variables } => {
                let names: Vec<_> = variables.iter().map(|(name, _)| name).collect();
                Some(serde_json::json!({ "file": file, "line": line, "variables": names }))
            }
        }
    }

    fn comment(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::Flag(flag) => (*flag).to_owned(),
            Self::Written { file, line, variables } => {
                let mut text = format!("{}:{line}", shown::line(file, 200));
                for (name, is_set) in variables {
                    let unset = if *is_set { "" } else { " is not set" };
                    // Writing to a string cannot fail.
                    let _written = write!(text, ", ${{{name}}}{unset}");
                }
                text
            }
        }
    }
}

/// The keys of a table, then the tables in it.
fn write_table(text: &mut String, path: &[String], entries: &Entries) {
    let lines = entries.iter().filter_map(|(key, node)| match node {
        Node::Value(value, origin) => {
            Some((format!("{} = {}", quoted(key), toml_of(value)), origin))
        }
        _ => None,
    });
    let lines: Vec<_> = lines.collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).filter(|it| *it <= 60).max();
    let width = width.unwrap_or(0);
    for (line, origin) in lines {
        // Writing to a string cannot fail.
        let _written = writeln!(text, "{line:<width$}  # {}", origin.comment());
    }
    for (key, node) in entries {
        let path = [path, &[quoted(key)]].concat();
        let name = path.join(".");
        match node {
            Node::Value(..) => {}
            Node::Table(entries) => {
                let is_needed = entries.is_empty()
                    || entries.iter().any(|(_, node)| matches!(node, Node::Value(..)));
                if is_needed {
                    let _written = writeln!(text, "\n[{name}]");
                }
                write_table(text, &path, entries);
            }
            Node::Tables(tables) => {
                for entries in tables {
                    let _written = writeln!(text, "\n[[{name}]]");
                    write_table(text, &path, entries);
                }
            }
        }
    }
}

/// A key, in quotes where it needs them.
fn quoted(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(is_bare) { key.to_owned() } else { toml_text(key) }
}

fn toml_of(value: &Json) -> String {
    match value {
        Json::Null => toml_text(""),
        Json::String(text) => toml_text(text),
        Json::Bool(_) | Json::Number(_) => value.to_string(),
        Json::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(toml_of).collect();
            format!("[{}]", elements.join(", "))
        }
        Json::Object(members) => {
            let members = members.iter();
            let members: Vec<String> = members
                .map(|(key, value)| format!("{} = {}", quoted(key), toml_of(value)))
                .collect();
            format!("{{ {} }}", members.join(", "))
        }
    }
}

/// A string in double quotes, in one line. What is written as a variable in it is none any more.
fn toml_text(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.replace("${", "$${").chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => {
                // Writing to a string cannot fail.
                let _written = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, Draft, parse};
    use super::*;

    const FILES: [&str; 4] = [
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.toml")),
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema/everything.toml")),
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema/disk.toml")),
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema/password.toml")),
    ];

    fn read(text: &str) -> Config {
        let config = parse(text, "gateway.toml", Path::new("/etc"), &|_| None);
        config.unwrap_or_else(|faults| panic!("{faults}\n{text}"))
    }

    /// With its secrets.
    fn open(text: &str) -> String {
        let source = Source::new("gateway.toml", text, &|_| None);
        let document = sections::document(text, &source).unwrap();
        InForce::with(document.get_ref(), &source, true).to_toml()
    }

    /// All but where things stand.
    fn essence(config: &Config) -> String {
        let config = Config { in_force: InForce::default(), ..config.clone() };
        let told = format!("{config:?}");
        let mut essence = String::new();
        let mut rest = told.as_str();
        while let Some(at) = rest.find("Place {") {
            essence.push_str(&rest[..at]);
            rest = &rest[at..];
            rest = &rest[rest.find('}').unwrap()..];
        }
        essence + rest
    }

    /// So each default that is shown is the one that counts, and what is shown is TOML.
    #[test]
    fn what_is_in_force_read_again_is_the_same() {
        for file in FILES {
            let text = open(file);
            assert_eq!(essence(&read(&text)), essence(&read(file)), "{text}");
            assert_eq!(open(&text).lines().count(), text.lines().count(), "nothing is left out");
        }
    }

    #[test]
    fn no_secret_is_shown_and_each_source_is() {
        let env = |name: &str| match name {
            "TOKEN" => Some("hunter2".to_owned()),
            "WORKERS" => Some("3".to_owned()),
            _ => None,
        };
        let text = "[server]\nworkers = \"${WORKERS}\"\n[admin]\ntoken = \"${TOKEN}\"\n\
                    [cache.l2]\nredis = \"redis://user:hunter2@cache\"\nttl = \"${TTL:-2h}\"\n\
                    [upstreams.api]\nservers = [\"http://127.0.0.1:1\"]\n\
                    [policies.p]\nplugin = \"p.wasm\"\nconfig = { salt = \"${TOKEN}\", \"a b\" = \"$${x\" }\n\
                    [jwt.j]\nsecret = \"hunter2hunter2hunter2hunter2hunter2\"\nalgorithms = [\"HS256\"]\n\
                    [warm]\nheaders = [\"Authorization: hunter2\"]\nurls = [\"https://a/\"]\n\
                    [[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"api\"\n\
                    fields.request.set.Authorization = \"hunter2\"\n\
                    [jwt.u]\njwks = \"https://a/keys?hunter2\"\nalgorithms = [\"ES256\"]\n\
                    [jwt.f]\njwks = \"keys.json\"\nalgorithms = [\"ES256\"]\n";
        let draft = Draft::parse(text, "g.toml", Path::new("/etc"), &env);
        assert!(draft.faults.is_empty(), "{:?}", draft.faults);
        let toml = draft.config.in_force.to_toml();
        let json = draft.config.in_force.to_json();
        assert!(!toml.contains("hunter") && !json.to_string().contains("hunter"), "{toml}\n{json}");
        let lines: Vec<&str> = toml.lines().collect();
        for (key, line) in [
            ("workers = ", "workers = 3  # g.toml:2, ${WORKERS}"),
            ("drain = ", "drain = \"30s\"  # default"),
            ("token = ", "token = \"[hidden]\"  # g.toml:4, ${TOKEN}"),
            ("redis = ", "redis = \"redis://…@cache\"  # g.toml:6"),
            ("ttl = \"2h\"", "ttl = \"2h\"  # g.toml:7, ${TTL} is not set"),
            ("salt = ", "salt = \"[hidden]\"  # g.toml:12, ${TOKEN}"),
            ("\"a b\" = ", "\"a b\" = \"$${x\"  # g.toml:12"),
            ("Authorization = ", "Authorization = \"[hidden]\"  # g.toml:23"),
            ("jwks = \"h", "jwks = \"https://a/keys?…\"  # g.toml:25"),
            ("jwks = \"k", "jwks = \"keys.json\"  # g.toml:28"),
        ] {
            let found = lines.iter().find(|it| it.starts_with(key)).unwrap_or(&"");
            let found: Vec<&str> = found.split("  #").map(str::trim).collect();
            assert_eq!(found.join("  # "), line, "{toml}");
        }
        assert_eq!(json["config"]["server"]["workers"], 3);
        assert_eq!(json["sources"]["/server/workers"]["line"], 2);
        assert_eq!(json["sources"]["/admin/token"]["variables"][0], "TOKEN");
        assert_eq!(json["sources"]["/server/drain"], Json::Null, "a default has no source");
    }

    #[test]
    fn no_query_is_shown_and_no_field_of_a_variable() {
        let env = |name: &str| match name {
            "TOKEN" => Some("hunter2".to_owned()),
            "HOST" => Some("shop.example".to_owned()),
            _ => None,
        };
        let text = "[upstreams.a]\nservers = [\"http://127.0.0.1:1\"]\n\
                    health = { path = \"/healthz?${TOKEN}\" }\n\
                    [tracing]\notlp = \"http://collector/v1/traces?key=${TOKEN}\"\n\
                    [warm]\nurls = [\"https://a/?${TOKEN}\", \"http://${HOST}/@b?c=1\"]\n\
                    sitemap = \"https://a/map?hunter2\"\n\
                    [[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"a\"\n\
                    headers = { X-One = \"${TOKEN}\", X-List = [\"1\", \"${TOKEN}\"], X-Plain = \"2\" }\n";
        let draft = Draft::parse(text, "g.toml", Path::new("/etc"), &env);
        assert!(draft.faults.is_empty(), "{:?}", draft.faults);
        let toml = draft.config.in_force.to_toml();
        let json = draft.config.in_force.to_json();
        assert!(!toml.contains("hunter") && !json.to_string().contains("hunter"), "{toml}\n{json}");
        for line in [
            "path = \"/healthz?…\" ",
            "otlp = \"http://collector/v1/traces?…\" ",
            "urls = [\"https://a/?[hidden]\", \"http://shop.example/@b?c=1\"] ",
            "sitemap = \"https://a/map?[hidden]\" ",
            "X-One = \"[hidden]\" ",
            "X-List = [\"1\", \"[hidden]\"] ",
            "X-Plain = \"2\" ",
        ] {
            assert!(toml.lines().any(|it| it.starts_with(line)), "no `{line}`:\n{toml}");
        }
        // It is a configuration all the same.
        assert_eq!(read(&toml).routes[0].headers.len(), 3);
    }

    #[test]
    fn values_of_several_forms_are_shown_as_they_are() {
        let env = |name: &str| match name {
            "STANDBY" => Some("http://127.0.0.1:2".to_owned()),
            "HOST" => Some("shop.example".to_owned()),
            _ => None,
        };
        let text = "[upstreams.a]\n\
                    servers = [\"http://127.0.0.1:1\", { url = \"${STANDBY}\", backup = true }]\n\
                    [[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"a\"\n\
                    host = [\"${HOST}\", \"*.test\"]\n";
        let draft = Draft::parse(text, "g.toml", Path::new("/etc"), &env);
        assert!(draft.faults.is_empty(), "{:?}", draft.faults);
        let toml = draft.config.in_force.to_toml();
        assert!(toml.contains("url = \"http://127.0.0.1:2\""), "{toml}");
        let again = read(&toml);
        assert_eq!(again.upstreams[0].servers, draft.config.upstreams[0].servers);
        assert_eq!(again.routes[0].hosts, draft.config.routes[0].hosts);
    }

    #[test]
    fn what_waits_for_a_restart_is_not_in_force() {
        let file = |lines: &str| {
            read(&format!(
                "[server]\n{lines}\n[upstreams.a]\nservers = [\"http://127.0.0.1:1\"]\n\
                 [[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"a\"\n"
            ))
        };
        let (old, mut new) = (file("workers = 2"), file("drain = \"1s\"\nwatch = false\n[admin]"));
        new.keep_until_restart(&old);
        let told = new.in_force.to_json();
        assert_eq!(told["config"]["server"]["workers"], 2);
        assert_eq!(told["config"]["server"]["drain"], "30s");
        assert_eq!(told["config"]["server"]["watch"], false);
        assert_eq!(told["config"]["admin"], Json::Null);
    }

    #[test]
    fn a_flag_decides_where_the_first_listener_is() {
        let rest = "[upstreams.a]\nservers = [\"http://127.0.0.1:1\"]\n\
                    [[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"a\"\n";
        let more = "[[server.listeners]]\nlisten = \"127.0.0.1:81\"\n";
        let own = "[server]\nlisten = \"127.0.0.1:80\"\n";
        for (lines, at) in [
            (more.to_owned(), "/server/listeners/0/listen"),
            (format!("{own}{more}"), "/server/listen"),
            (String::new(), "/server/listen"),
        ] {
            let text = format!("{lines}{rest}");
            let mut draft = Draft::parse(&text, "g.toml", Path::new("/etc"), &|_| None);
            draft.listen_on("127.0.0.1:82".parse().unwrap());
            let told = draft.finish().unwrap().in_force.to_json();
            let config = &told["config"];
            assert_eq!(config.pointer(at).unwrap(), "127.0.0.1:82", "{told:#}");
            assert_eq!(told["sources"][at]["flag"], "--listen", "{told:#}");
            let has_own = at == "/server/listen";
            assert_eq!(config["server"].get("listen").is_some(), has_own, "{told:#}");
        }
    }

    #[test]
    fn without_a_file_the_flags_are_the_source() {
        let listen = "127.0.0.1:1".parse().unwrap();
        let config = Config::for_upstream("http://127.0.0.1:2", listen, None).unwrap();
        let told = config.in_force.to_json();
        assert_eq!(told["config"]["upstreams"]["all"]["servers"][0], "http://127.0.0.1:2");
        assert_eq!(told["config"]["admin"], Json::Null);
        assert_eq!(told["sources"]["/server/listen"]["flag"], "--listen");
    }
}
