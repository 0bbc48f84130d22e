//! Lines in the gateway's log, which is all that a plugin can do to the world.
//!
//! Of each call the gateway keeps 16 lines of 1024 octets. Natively a line goes nowhere.

/// So much of a line is kept, in octets.
const LONGEST: usize = 1024;

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
    let message = cut(message);
    #[cfg(target_arch = "wasm32")]
    crate::abi::write_log(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    let _: (Level, &str) = (level, message);
}

/// What the gateway would keep of it. To hand over far more ends the call.
fn cut(message: &str) -> &str {
    message.get(..message.floor_char_boundary(LONGEST)).unwrap_or_default()
}

/// A panic ends the call with a trap, which has no message; so the message goes to the log.
pub(crate) fn report_panics() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| warn(&format!("{panic}"))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_at_a_character() {
        assert_eq!(cut(""), "");
        let whole = "a".repeat(LONGEST);
        assert_eq!(cut(&whole), whole);
        assert_eq!(cut(&format!("{whole}a")), whole);
        assert_eq!(cut(&"\u{20ac}".repeat(LONGEST)).len(), LONGEST - 1);
    }
}
