//! From what `gateway.toml` names to a [`Policy`]: read, make a component, check, configure.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tracing::debug;
use wasmtime::component::{Component, InstancePre};
use wit_component::ComponentEncoder;

use super::amount;
use super::bindings::Configured;
use super::bindings::types::{Setting, SettingValue};
use super::bundled;
use super::engine::Engine;
use super::exports::{Export, Exports};
use super::failure::Failure;
use super::policy::Policy;
use super::sandbox::{Sandbox, State};
use super::text::printable;
use super::version;
use crate::clock;
use crate::config;

/// The largest plugin file, in octets. Those of Python have 18 MiB.
const LARGEST: u64 = 32 << 20;

/// Loading holds no request up, so a busy machine is given this long at least.
const TIME_TO_LOAD: Duration = Duration::from_secs(1);

/// The longest text about an unfit plugin, in octets.
const LONGEST: usize = 2048;

/// What begins a core module and a component.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// What a component may import: the log, and the types that its exports mention.
const IMPORTS: &[&str] = &["larder:policy/log@0.1.", TYPES];
const TYPES: &str = "larder:policy/types@0.1.";

/// Why a policy was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// `bundled:` and a name that is not bundled.
    #[error("no plugin is bundled as `{name}`; there are {known}")]
    NotBundled {
        /// The name.
        name: String,
        /// Those that are.
        known: String,
    },
    /// The file cannot be read.
    #[error("plugin `{file}` {why}")]
    Unreadable {
        /// Its path.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is no policy plugin of this version.
    #[error("{0}")]
    Unfit(String),
    /// It failed when it was instantiated or configured.
    #[error("`configure` failed: {0}")]
    Failed(Failure),
    /// It refused its configuration, with this text.
    #[error("{0}")]
    Refused(String),
    /// This machine cannot run plugins.
    #[error("plugins cannot run here: {0}")]
    Machine(String),
}

impl LoadError {
    /// Whether `config` is to be changed, rather than `plugin`.
    pub fn is_about_config(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    fn unfit(error: &impl std::fmt::Display) -> Self {
        Self::Unfit(printable(&format!("not a policy plugin: {error:#}"), LONGEST))
    }
}

/// What a plugin's file is, before anything is asked of it.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// `module` or `component`; none if it is neither.
    pub form: Option<&'static str>,
    /// The file's octets.
    pub size: usize,
    /// Its BLAKE3 digest in hexadecimal.
    pub blake3: String,
    /// What its component imports, by name; without the contract's types, which let it do nothing.
    pub imports: Vec<String>,
    /// What its component exports, by name.
    pub exports: Vec<String>,
}

/// A plugin that was compiled and checked against the contract, not configured yet. It can be
/// configured many times.
pub struct Compiled {
    instance: InstancePre<State>,
    exports: Exports,
    configure: Export<(Vec<Setting>,), Configured>,
}

impl Policy {
    /// Loads the policy's plugin and configures it. It reads a file, compiles for 20 ms or more, and
    /// waits for the plugin: not for a thread that serves requests.
    pub fn load(engine: &Engine, policy: &config::Policy) -> Result<Self, LoadError> {
        let bytes = read(&policy.plugin)?;
        Self::of(engine, policy, &bytes, version::digest(&bytes, &policy.config))
    }

    /// As [`load`](Self::load); but where one of `former` was made of the same plugin and
    /// configuration, that is the policy still, with all the answers that it remembers.
    pub fn load_or_keep(
        engine: &Engine,
        policy: &config::Policy,
        former: &[Arc<Self>],
    ) -> Result<Arc<Self>, LoadError> {
        let bytes = read(&policy.plugin)?;
        let digest = version::digest(&bytes, &policy.config);
        let essence = policy.essence();
        match former.iter().find(|former| former.is_of(&essence, &digest)) {
            Some(former) => Ok(Arc::clone(former)),
            None => Self::of(engine, policy, &bytes, digest).map(Arc::new),
        }
    }

    fn of(
        engine: &Engine,
        policy: &config::Policy,
        bytes: &[u8],
        digest: [u8; 32],
    ) -> Result<Self, LoadError> {
        let began = clock::instant();
        let component = compile(engine, bytes)?;
        let policy = Compiled::check(engine, &component)?.configure_as(engine, policy, digest)?;
        let seconds = began.elapsed().as_secs_f64();
        debug!(policy = policy.name(), seconds, "policy loaded");
        Ok(policy)
    }
}

impl Compiled {
    /// Reads a plugin and compiles it.
    pub fn read(engine: &Engine, plugin: &config::Plugin) -> Result<Self, LoadError> {
        Self::check(engine, &compile(engine, &read(plugin)?)?)
    }

    /// Reads a plugin, compiles it, and says what it is even if it is no policy.
    pub fn inspect(
        engine: &Engine,
        plugin: &config::Plugin,
    ) -> Result<(About, Result<Self, LoadError>), LoadError> {
        let bytes = read(plugin)?;
        let mut about = About {
            form: form(&bytes),
            size: bytes.len(),
            blake3: blake3::hash(&bytes).to_hex().to_string(),
            imports: Vec::new(),
            exports: Vec::new(),
        };
        let component = match compile(engine, &bytes) {
            Ok(component) => component,
            Err(error) => return Ok((about, Err(error))),
        };
        let shown = |name: &str| printable(name, LONGEST);
        let of_component = component.component_type();
        let imports = of_component.imports(component.engine()).map(|(name, _)| name);
        let imports = imports.filter(|name| !name.starts_with(TYPES)).map(shown);
        let exports = of_component.exports(component.engine()).map(|(name, _)| shown(name));
        (about.imports, about.exports) = (imports.collect(), exports.collect());
        Ok((about, Self::check(engine, &component)))
    }

    fn check(engine: &Engine, component: &Component) -> Result<Self, LoadError> {
        check_imports(component)?;
        let exports = Exports::find(component);
        let configure = exports.configure.ok_or_else(|| other_world(component))?;
        if exports.key.is_none() && exports.storing.is_none() && exports.invalidation.is_none() {
            return Err(other_world(component));
        }
        let instance = engine.instance(component);
        let instance = instance.map_err(|error| LoadError::unfit(&error))?;
        Ok(Self { instance, exports, configure })
    }

    /// Configures it as this policy, whatever that names as its plugin. No later policy takes its
    /// place, so its digest is that of the settings alone.
    pub fn configure(&self, engine: &Engine, policy: &config::Policy) -> Result<Policy, LoadError> {
        self.configure_as(engine, policy, version::digest(&[], &policy.config))
    }

    fn configure_as(
        &self,
        engine: &Engine,
        policy: &config::Policy,
        digest: [u8; 32],
    ) -> Result<Policy, LoadError> {
        let machine = |error: io::Error| LoadError::Machine(error.to_string());
        let lane = engine.lane().map_err(machine)?;
        let sandbox = Arc::new(Sandbox {
            policy: policy.name.as_str().into(),
            instance: self.instance.clone(),
            memory: policy.memory,
            share: lane.share(),
            lane,
            counters: engine.counters(&policy.name),
        });

        let deadline = || clock::instant() + policy.time.max(TIME_TO_LOAD);
        sandbox
            .lane
            .finish(sandbox.check(&self.exports, deadline()))
            .map_err(LoadError::Failed)?
            .map_err(|error| LoadError::unfit(&error))?;
        let settings: Vec<Setting> = policy.config.iter().map(setting).collect();
        let call = sandbox.run(self.configure, (settings,), deadline());
        let (configured, _) = sandbox.lane.finish(call);
        let configured = configured.map_err(|failure| match failure {
            Failure::Refused(text) => LoadError::Refused(text),
            failure => LoadError::Failed(failure),
        })?;
        Policy::new(sandbox, self.exports, configured, policy.essence(), digest)
            .map_err(LoadError::Failed)
    }
}

fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, LoadError> {
    let bytes = component(bytes)?;
    amount::check(&bytes).map_err(LoadError::Unfit)?;
    engine.component(&bytes).map_err(|error| LoadError::unfit(&error))
}

fn form(bytes: &[u8]) -> Option<&'static str> {
    let is = |magic| bytes.starts_with(magic);
    if is(MODULE) { Some("module") } else { is(COMPONENT).then_some("component") }
}

fn read(plugin: &config::Plugin) -> Result<Cow<'static, [u8]>, LoadError> {
    match plugin {
        config::Plugin::Bundled(name) => bundled::find(name).map(Cow::Borrowed).ok_or_else(|| {
            let known: Vec<_> = bundled::names().map(|name| format!("`{name}`")).collect();
            LoadError::NotBundled { name: name.clone(), known: known.join(", ") }
        }),
        config::Plugin::File(path) => read_file(path).map(Cow::Owned),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, LoadError> {
    let unreadable = |why: String| LoadError::Unreadable { file: path.display().to_string(), why };
    let read = |error: io::Error| {
        match error.kind() {
        io::ErrorKind::NotFound => unreadable("does not exist".to_owned()),
        io::ErrorKind::IsADirectory => unreadable(
            "is a folder: name the file, of a crate target/wasm32-unknown-unknown/release/NAME.wasm"
                .to_owned(),
        ),
        _ => unreadable(format!("cannot be read: {error}")),
    }
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(read)?;
    if bytes.len() as u64 > LARGEST {
        return Err(unreadable(format!("is larger than {} MiB", LARGEST >> 20)));
    }
    Ok(bytes)
}

/// A component as it is, or made of the core module that `cargo build` leaves. Nothing of this is
/// trusted: the engine validates whatever comes out.
fn component(bytes: &[u8]) -> Result<Cow<'_, [u8]>, LoadError> {
    if bytes.starts_with(COMPONENT) {
        return Ok(Cow::Borrowed(bytes));
    }
    if !bytes.starts_with(MODULE) {
        return Err(LoadError::Unfit("not a WebAssembly component or module".to_owned()));
    }
    let encoded = ComponentEncoder::default()
        .validate(true)
        .module(bytes)
        .and_then(|mut encoder| encoder.encode());
    encoded.map(Cow::Owned).map_err(|error| {
        let text = format!("{error:#}");
        if text.contains("wasi_snapshot_preview1") {
            return LoadError::Unfit(
                "the module imports WASI, which policies do not have: build it for \
                 `wasm32-unknown-unknown`"
                    .to_owned(),
            );
        }
        LoadError::Unfit(printable(&format!("no component can be made of it: {text}"), LONGEST))
    })
}

fn check_imports(component: &Component) -> Result<(), LoadError> {
    let of_component = component.component_type();
    let mut names = of_component.imports(component.engine()).map(|(name, _)| name);
    let allowed = |name: &str| IMPORTS.iter().any(|import| name.starts_with(import));
    let Some(name) = names.find(|name| !allowed(name)) else { return Ok(()) };
    let why = if name.starts_with("larder:policy/") {
        format!("it is made for `{name}`; this gateway has version 0.1.0")
    } else {
        format!("it imports `{name}`; a policy has nothing but `larder:policy/log@0.1.0`")
    };
    Err(LoadError::Unfit(printable(&why, LONGEST)))
}

fn other_world(component: &Component) -> LoadError {
    let of_component = component.component_type();
    let names = of_component.exports(component.engine()).map(|(name, _)| format!("`{name}`"));
    let names: Vec<_> = names.collect();
    let exported = if names.is_empty() {
        // What a core module without the custom section becomes.
        "nothing (it has no `component-type` section, or an empty world)".to_owned()
    } else {
        names.join(", ")
    };
    LoadError::Unfit(printable(
        &format!(
            "it exports {exported}; wanted are `larder:policy/configure@0.1.0` and at least one of \
             `key`, `storing` and `invalidation` of that package"
        ),
        LONGEST,
    ))
}

fn setting((name, value): &(String, config::Setting)) -> Setting {
    let value = match value {
        config::Setting::Boolean(value) => SettingValue::Boolean(*value),
        config::Setting::Integer(value) => SettingValue::Integer(*value),
        config::Setting::Number(value) => SettingValue::Number(*value),
        config::Setting::Text(value) => SettingValue::Text(value.clone()),
        config::Setting::Texts(values) => SettingValue::Texts(values.clone()),
    };
    Setting { name: name.clone(), value }
}
