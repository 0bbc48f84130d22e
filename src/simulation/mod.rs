//! What a configuration would have made of requests that came before it was there: logs are read, and each
//! request takes the steps of a gateway that asks nobody.
//!
//! The steps are `gateway`'s own (`gateway::replay`). Here is what is around them: `source` opens a log and
//! finds out how it is written, `combined`, `json` and `har` each read one way of that, `time` the times in
//! them, into an `exchange`; `logs` makes one stream of several. A `subject` is a configuration with what it
//! has come to, which `figures`, `keys` and `spread` count and `report` tells; `warnings` is what it would have logged.
//!
//! What a log does not say is either left out or assumed, and each is counted: an answer tells nothing of
//! how fresh it is, unless its fields are in the log, so its lifetime is that of its route.

mod combined;
mod exchange;
mod figures;
mod har;
mod json;
mod keys;
mod logs;
mod report;
mod source;
mod spread;
mod subject;
mod time;
mod warnings;

pub use self::exchange::{Broken, Exchange};
pub use self::figures::Figures;
pub use self::json::{Fields, Role};
pub use self::keys::Place;
pub use self::logs::{BrokenLine, Logs, Told};
pub use self::report::{Assumed, Cardinality, Memory, Part, Report, Route, Worst};
pub use self::source::{Format, NotRead, total};
pub use self::subject::{Settings, Subject, Trial};
pub use self::warnings::{Warning, Warnings, quietly};
