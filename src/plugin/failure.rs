//! Why a call of a policy gave no answer.

use std::fmt::Write as _;

use wasmtime::{FrameInfo, PoolConcurrencyLimitError, Trap, WasmBacktrace};

use super::text;

/// The longest text of a failure, in octets: plugins write part of it.
const LONGEST: usize = 2048;

/// The longest name of a module or function in it, so that one leaves room for the others.
const LONGEST_NAME: usize = 200;

/// Why a call of a policy gave no answer. The next call is unaffected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The plugin trapped: the trap and the plugin's own backtrace, innermost frame first.
    #[error("the plugin trapped: {0}")]
    Trapped(String),
    /// The call took longer than the policy's `time`.
    #[error("the plugin took longer than the policy's `time`")]
    TimedOut,
    /// The plugin wanted more than the policy's `memory`, and did not get over it.
    #[error("the plugin wanted more than the policy's `memory`")]
    OutOfMemory,
    /// The plugin answered `err` with this text.
    #[error("the plugin refused: {0}")]
    Refused(String),
    /// The answer breaks the contract; the text says which rule.
    #[error("the plugin's answer breaks the contract: {0}")]
    Nonsense(String),
    /// As many calls as may be were under way already, or slow, of this policy or of all.
    #[error("too many slow policy calls at once")]
    Busy,
}

impl Failure {
    /// What an error of wasmtime means. `starved` tells that the plugin was denied memory.
    pub(super) fn of(error: &wasmtime::Error, starved: bool) -> Self {
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => Self::TimedOut,
            // Guests abort when memory does not grow, which looks like any other trap.
            _ if starved => Self::OutOfMemory,
            Some(trap) => Self::Trapped(with_backtrace(*trap, error)),
            None if error.is::<PoolConcurrencyLimitError>() => Self::Busy,
            None => Self::Nonsense(text::printable(&format!("{error:#}"), LONGEST)),
        }
    }

    /// The plugin's own `err`.
    pub(super) fn refused(text: &str) -> Self {
        Self::Refused(text::printable(text, LONGEST))
    }
}

/// One line: the trap, then the frames.
fn with_backtrace(trap: Trap, error: &wasmtime::Error) -> String {
    let mut whole = trap.to_string();
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    let frames = backtrace.map(WasmBacktrace::frames).unwrap_or_default();
    for (number, frame) in frames.iter().enumerate() {
        // Writing to a string cannot fail.
        let _written = write!(whole, "; {number}: {}", shown(frame));
    }
    text::printable(&whole, LONGEST)
}

/// Names are as they are in the plugin: what a mangled one stands for may be longer without bound.
fn shown(frame: &FrameInfo) -> String {
    let offset = frame.module_offset().map(|offset| format!("{offset:#8x} - "));
    // Stripped modules have no name.
    let module = frame.module().name().map(|name| format!("{}!", text::cut(name, LONGEST_NAME)));
    let function = frame.func_name().map_or_else(
        || format!("<wasm function {}>", frame.func_index()),
        |name| text::cut(name, LONGEST_NAME).to_owned(),
    );
    format!("{}{}{function}", offset.unwrap_or_default(), module.unwrap_or_default())
}
