//! Lines in the gateway's log, which is all that a plugin can do to the world.
//!
//! Of each call the gateway keeps 16 lines of 1024 octets. Natively a line goes nowhere.

/// How much a line matters.
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
}

/// For the author of the policy.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// For the operator, when something is worth knowing.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// For the operator, when there is something to do.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

fn write(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::abi::write_log(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    let _: (Level, &str) = (level, message);
}

/// A panic ends the call with a trap, which has no message; so the message goes to the log.
pub(crate) fn report_panics() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| warn(&format!("{panic}"))));
}
