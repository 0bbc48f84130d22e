//! Larder's decisions, without the machinery around them.
//!
//! The targets are built with instrumentation, and of the whole crate that would be wasmtime, redis
//! and TLS as well: minutes, for nothing that is looked at. `semantics` uses nothing of the crate but
//! `message`, so both are compiled here from their own source, under the names that they have there.

#[path = "../../src/message.rs"]
pub mod message;
#[path = "../../src/semantics/mod.rs"]
pub mod semantics;
