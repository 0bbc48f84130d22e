//! What a gateway would have logged as a warning: counted here, rather than written a line each.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// So many are told apart.
const MOST: usize = 20;

/// A longer one is cut.
const LONGEST: usize = 300;

/// The warnings of one configuration. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<BTreeMap<String, u64>>>);

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The message, and the fields that say of what.
    pub text: String,
    /// How often.
    pub count: u64,
}

/// Does something on this thread, with its warnings counted and nothing logged.
pub fn quietly<T>(run: impl FnOnce(Warnings) -> T) -> T {
    let warnings = Warnings::default();
    tracing::dispatcher::with_default(&warnings.dispatch(), || run(warnings.clone()))
}

impl Warnings {
    fn dispatch(&self) -> Dispatch {
        Dispatch::new(Registry::default().with(self.clone()))
    }

    /// Those that came most often first.
    pub(super) fn told(&self) -> Vec<Warning> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told =
            counted.iter().map(|(text, count)| Warning { text: text.clone(), count: *count });
        let mut told: Vec<_> = told.collect();
        told.sort_by_key(|it| std::cmp::Reverse(it.count));
        told
    }
}

impl<S: Subscriber> Layer<S> for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let mut text = said.message + &said.fields;
        if text.len() > LONGEST {
            text.truncate(text.floor_char_boundary(LONGEST));
        }
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.len() >= MOST && !counted.contains_key(&text) {
            "other warnings".clone_into(&mut text);
        }
        *counted.entry(text).or_default() += 1;
    }
}

/// What an event says, but for the request that it is about.
#[derive(Default)]
struct Said {
    message: String,
    fields: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        // Where a plugin was, is of no use in a table.
        let line = value.lines().next().unwrap_or_default();
        match field.name() {
            "message" => line.clone_into(&mut self.message),
            "path" => {}
            name => {
                // A `String` takes what is written.
                let _written = write!(self.fields, "; {name}: {}", line.trim_matches('"'));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::{info, warn};

    use super::*;

    #[test]
    fn equal_warnings_are_counted_whatever_they_are_about() {
        let warnings = Warnings::default();
        tracing::dispatcher::with_default(&warnings.dispatch(), || {
            for path in ["/a", "/b"] {
                warn!(policy = "by-tenant", ?path, error = %"it trapped\n  at x", "key policy failed");
            }
            warn!("L1 is off");
            info!("listening");
            (0..30).for_each(|number| warn!(number, "again"));
        });
        let told = warnings.told();
        let warning = |text: &str, count| Warning { text: text.to_owned(), count };
        assert_eq!(told[0], warning("other warnings", 12));
        assert_eq!(told[1], warning("key policy failed; policy: by-tenant; error: it trapped", 2));
        assert!(told.contains(&warning("L1 is off", 1)));
        assert_eq!(told.len(), 21);
    }
}
