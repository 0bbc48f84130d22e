//! Lines in the gateway's log, which is all that a plugin can do to the world.
//!
//! Of each call the gateway keeps 16 lines of 1024 octets. Natively a line goes nowhere.

#[cfg(target_arch = "wasm32")]
use crate::bindings::shared::larder::policy::log;

/// For the author of the policy.
pub fn debug(message: &str) {
    #[cfg(target_arch = "wasm32")]
    log::write(log::Level::Debug, message);
    #[cfg(not(target_arch = "wasm32"))]
    let _: &str = message;
}

/// For the operator, when something is worth knowing.
pub fn info(message: &str) {
    #[cfg(target_arch = "wasm32")]
    log::write(log::Level::Info, message);
    #[cfg(not(target_arch = "wasm32"))]
    let _: &str = message;
}

/// For the operator, when there is something to do.
pub fn warn(message: &str) {
    #[cfg(target_arch = "wasm32")]
    log::write(log::Level::Warn, message);
    #[cfg(not(target_arch = "wasm32"))]
    let _: &str = message;
}

/// A panic ends the call with a trap, which has no message; so the message goes to the log.
pub(crate) fn report_panics() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| warn(&panic.to_string())));
}
