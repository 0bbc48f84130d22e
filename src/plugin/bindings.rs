//! What `bindgen!` makes of `wit/policy.wit`, and nothing else.
//!
//! Only the types and the linker of the imports are used: a plugin exports any subset of the
//! interfaces, so its functions are looked up one by one (`exports`).

wasmtime::component::bindgen!({
    path: "wit",
    world: "policy",
});

pub(super) use self::exports::larder::policy::configure::Configured;
pub(super) use self::exports::larder::policy::{invalidation, key, storing};
pub(super) use self::larder::policy::{log, types};
