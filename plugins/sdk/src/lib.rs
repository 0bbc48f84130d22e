//! Write cache policies for Larder.
//!
//! A policy is a type that implements [`Policy`] together with [`Key`], [`Storing`] or
//! [`Invalidation`], and one line that exports it. The contract behind it is `wit/policy.wit`.
//!
//! ```
//! use larder_policy::*;
//!
//! /// One stored response for each path and tenant.
//! struct ByTenant {
//!     field: String,
//! }
//!
//! prepared!(ByTenant { field });
//!
//! impl Policy for ByTenant {
//!     fn configure(settings: &mut Settings) -> Result<Self, String> {
//!         let field = settings.text("field").ok_or("write `field = \"x-tenant\"`")?;
//!         Ok(Self { field })
//!     }
//!
//!     fn wants(&self) -> Wants {
//!         Wants { inputs: Inputs::PATH, fields: vec![self.field.clone()], ..Wants::default() }
//!     }
//! }
//!
//! impl Key for ByTenant {
//!     fn key(&self, request: &Request) -> Result<KeyDecision, String> {
//!         let Some(tenant) = request.field(0) else {
//!             return Ok(KeyDecision::Bypass("no tenant".to_owned()));
//!         };
//!         Ok(KeyDecision::Parts(vec![Pair::new("path", &request.path), Pair::new("tenant", tenant)]))
//!     }
//! }
//!
//! export!(ByTenant: key);
//! # fn main() {}
//! ```
//!
//! `configure` runs once, when the gateway loads the plugin; every later call runs in a fresh
//! instance, which reads the policy back as [`Prepared`] wrote it. So nothing is remembered between
//! two calls: what a policy answers depends on its settings and the request alone. There is no clock,
//! no randomness, no file and no network: parts of the standard library that need one panic or answer
//! an error. A `HashMap` works, with the same seed in every call.
//!
//! Only the export is for WebAssembly. Everything else compiles natively and is tested with
//! `cargo test`: [`configure()`] reads settings as the gateway would.

pub mod log;
pub mod schema;
pub mod testing;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod abi;
mod change;
mod contract;
#[cfg(any(target_arch = "wasm32", test))]
mod heap;
mod json;
mod pattern;
mod prepared;
mod request;
mod response;
mod settings;
mod sort;
mod template;
mod text;
mod value;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod worlds;

use std::marker::PhantomData;
use std::mem::ManuallyDrop;

pub use contract::Change;
pub use contract::Inputs;
pub use contract::Invalidated;
pub use contract::KeyDecision;
pub use contract::Operation;
pub use contract::Pair;
pub use contract::Parameter;
pub use contract::Request;
pub use contract::Response;
pub use contract::Scope;
pub use contract::Setting;
pub use contract::SettingValue;
pub use contract::StoringDecision;
pub use contract::Wants;
pub use json::text as json_text;
pub use pattern::Patterns;
pub use pattern::matches;
pub use prepared::Prepared;
pub use settings::NamedTexts;
pub use settings::Settings;
pub use sort::sorted;
pub use template::Piece;
pub use template::Template;
pub use text::concat;
pub use value::Json;

/// A policy with its settings. Implement at least one of the other traits as well.
pub trait Policy: Prepared {
    /// Whether the message of a panic goes to the gateway's log. Where it does not, the failure's
    /// backtrace still names the functions; and a policy that logs nothing else imports nothing then,
    /// which makes it 5 KB smaller and each call a microsecond shorter.
    const LOGS_PANICS: bool = true;

    /// Reads the `config` table. An error is shown to the operator, who cannot load the file: say
    /// which setting is wrong and what to write instead.
    fn configure(settings: &mut Settings) -> Result<Self, String>;

    /// What the policy wants to see of each request. The rest stays empty.
    fn wants(&self) -> Wants;
}

/// Decides under which key a response is stored.
pub trait Key: Policy {
    /// The parts of the key, which hold all that the response depends on; or bypass.
    ///
    /// An error means that the policy failed, and is handled as its `on_error` says. What a client
    /// may send is no reason to fail.
    fn key(&self, request: &Request) -> Result<KeyDecision, String>;
}

/// Narrows what is stored, and tags it.
pub trait Storing: Policy {
    /// Whether to store the response, for how long at most, and with which tags.
    fn storing(&self, request: &Request, response: &Response) -> Result<StoringDecision, String>;
}

/// Says what a successful write, or a change of a document, made wrong.
///
/// Implement the method for the cause that the policy is made for; the other invalidates nothing.
pub trait Invalidation: Policy {
    /// What a request that changed something made wrong; an empty list is fine.
    fn written(&self, request: &Request, response: &Response) -> Result<Vec<Invalidated>, String> {
        _ = (request, response);
        Ok(Vec::new())
    }

    /// What a change of a document made wrong; an empty list is fine.
    fn changed(&self, change: &Change) -> Result<Vec<Invalidated>, String> {
        _ = change;
        Ok(Vec::new())
    }
}

/// Reads `config` into a policy, as the gateway does when it loads the plugin. For tests.
pub fn configure<P: Policy>(config: impl Into<Vec<Setting>>) -> Result<P, String> {
    let mut settings = Settings::new(config.into());
    let policy = P::configure(&mut settings);
    settings.finish(policy)
}

/// Exports a policy: `export!(MyPolicy: key, invalidation);`, with the interfaces that it implements.
///
/// Write it once, in a crate whose `crate-type` is `cdylib`. Natively it only checks that the policy
/// implements them.
#[macro_export]
macro_rules! export {
    ($policy:ty: $($interface:ident),+ $(,)?) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[unsafe(export_name = "larder:policy/configure@0.1.0#configure")]
            unsafe extern "C" fn configure(settings: *const u8, count: usize) -> *const usize {
                unsafe { $crate::abi::configure::<$policy>(settings, count) }
            }

            const DESCRIPTION: &[u8] = $crate::worlds::of(&[$(stringify!($interface)),+]);

            /// For the encoder of components.
            #[unsafe(link_section = "component-type:larder")]
            static WORLD: [u8; DESCRIPTION.len()] = *DESCRIPTION.first_chunk().unwrap();
        };
        $($crate::export_one!($policy: $interface);)+
    };
}

/// One interface of [`export!`]: the function that the gateway calls.
#[doc(hidden)]
#[macro_export]
macro_rules! export_one {
    ($policy:ty: key) => {
        $crate::export_one!($policy: key, "larder:policy/key@0.1.0#key");
    };
    ($policy:ty: storing) => {
        $crate::export_one!($policy: storing, "larder:policy/storing@0.1.0#storing");
    };
    ($policy:ty: invalidation) => {
        $crate::export_one!($policy: invalidation, "larder:policy/invalidation@0.1.0#invalidation");
    };
    ($policy:ty: $function:ident, $name:literal) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[unsafe(export_name = $name)]
            unsafe extern "C" fn $function(arguments: *const u8) -> *const usize {
                unsafe { $crate::abi::$function::<$policy>(arguments) }
            }
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            _ = $crate::Exported::<$policy>::$function;
        };
    };
}

/// Stands between what the gateway calls and a policy.
#[doc(hidden)]
pub struct Exported<P>(PhantomData<P>);

/// What may have made stored responses wrong.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub enum Cause<'a> {
    /// A request that changed something, and what it got.
    Write(&'a Request, &'a Response),
    /// A change of a document.
    Change(&'a Change),
}

#[doc(hidden)]
impl<P: Policy> Exported<P> {
    pub fn configure(config: Vec<Setting>) -> Result<(Wants, Vec<u8>), String> {
        Self::begin();
        let policy = ManuallyDrop::new(configure::<P>(config)?);
        let mut prepared = Vec::new();
        policy.write(&mut prepared);
        Ok((policy.wants(), prepared))
    }

    pub fn key(prepared: &[u8], request: &Request) -> Result<KeyDecision, String>
    where
        P: Key,
    {
        Self::read(prepared)?.key(request).map(KeyDecision::within_bounds)
    }

    pub fn storing(
        prepared: &[u8],
        request: &Request,
        response: &Response,
    ) -> Result<StoringDecision, String>
    where
        P: Storing,
    {
        Self::read(prepared)?.storing(request, response)
    }

    pub fn invalidation(prepared: &[u8], cause: Cause<'_>) -> Result<Vec<Invalidated>, String>
    where
        P: Invalidation,
    {
        let policy = Self::read(prepared)?;
        match cause {
            Cause::Write(request, response) => policy.written(request, response),
            Cause::Change(change) => policy.changed(change),
        }
    }

    fn begin() {
        if P::LOGS_PANICS {
            log::report_panics();
        }
    }

    /// The policy is not dropped: the instance is gone after the call, with all its memory.
    fn read(mut prepared: &[u8]) -> Result<ManuallyDrop<P>, String> {
        Self::begin();
        P::read(&mut prepared)
            .filter(|_| prepared.is_empty())
            .map(ManuallyDrop::new)
            .ok_or_else(|| "`prepared` is not what `configure` answered".to_owned())
    }
}

impl KeyDecision {
    /// How many parts a key may have.
    pub const MOST: usize = 64;

    /// How large the parts of a key may be in all, names and values.
    pub const LARGEST: usize = 16 * 1024;

    /// A key that is larger than the contract allows, or has more parts, becomes a bypass. A client can
    /// make a request as long as it likes, and that must not count as a failure of the policy.
    #[must_use]
    pub fn within_bounds(self) -> Self {
        let Self::Parts(parts) = &self else { return self };
        let octets: usize = parts.iter().map(|part| part.name.len() + part.value.len()).sum();
        let is_within = parts.len() <= Self::MOST && octets <= Self::LARGEST;
        if is_within { self } else { Self::Bypass("key too long".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sample {
        name: String,
    }

    crate::prepared!(Sample { name });

    impl Policy for Sample {
        fn configure(settings: &mut Settings) -> Result<Self, String> {
            Ok(Self { name: settings.text("name").unwrap_or_default() })
        }

        fn wants(&self) -> Wants {
            Wants { inputs: Inputs::PATH, ..Wants::default() }
        }
    }

    impl Key for Sample {
        fn key(&self, request: &Request) -> Result<KeyDecision, String> {
            Ok(KeyDecision::Parts(vec![Pair::new(&self.name, &request.path)]))
        }
    }

    fn request(path: &str) -> Request {
        Request { path: path.to_owned(), ..Request::default() }
    }

    #[test]
    fn what_configure_read_reaches_the_call() {
        let config = vec![Setting::new("name", "path")];
        let (wants, prepared) = Exported::<Sample>::configure(config).unwrap();
        assert_eq!(wants.inputs, Inputs::PATH);
        let decision = Exported::<Sample>::key(&prepared, &request("/a"));
        assert_eq!(decision, Ok(KeyDecision::Parts(vec![Pair::new("path", "/a")])));
    }

    #[test]
    fn what_another_plugin_prepared_is_refused() {
        for prepared in [&[][..], &[9, b'p'], &[1, b'p', 0]] {
            Exported::<Sample>::key(prepared, &request("/a")).unwrap_err();
        }
    }

    #[test]
    fn a_key_that_is_too_long_is_a_bypass() {
        let of = |length| KeyDecision::Parts(vec![Pair::new("path", &"a".repeat(length))]);
        let longest = KeyDecision::LARGEST - "path".len();
        assert_eq!(of(longest).within_bounds(), of(longest));
        assert_eq!(of(longest + 1).within_bounds(), KeyDecision::Bypass("key too long".to_owned()));
    }

    #[test]
    fn a_key_of_too_many_parts_is_a_bypass() {
        let of = |count| KeyDecision::Parts(vec![Pair::new("a", ""); count]);
        let most = KeyDecision::MOST;
        assert_eq!(of(most).within_bounds(), of(most));
        assert_eq!(of(most + 1).within_bounds(), KeyDecision::Bypass("key too long".to_owned()));
    }
}
