//! What changes invalidate: by the policy, or by the rule that a changed document invalidates its tags.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use mongodb::bson::Bson;
use tracing::{debug, warn};

use crate::clock;
use crate::config::{OnError, Watch};
use crate::documents;
use crate::gateway::{Current, Gateway};
use crate::plugin::{Invalidated, Operation, Policy, Scope as Named, SeenChange};
use crate::store::{Appended, Bookmark, Invalidation, Scope};

use super::event::{Event, Image, Namespace, What};

/// So many records at once are made of single documents, and so many each second from then on. Beyond
/// that a collection is invalidated as a whole: the log has room for a quarter of a million records,
/// and every response is judged by it.
///
/// What a policy names is not counted: nothing less than everything would be sure to cover it, and
/// that is what the log comes to by itself where there are more records than it has room for.
const AT_ONCE: u32 = 10_000;
const PER_SECOND: u32 = 2_000;

/// Makes records of the log out of events.
pub(super) struct Applier {
    pub(super) current: Arc<Current>,
    pub(super) bookmark: Arc<Bookmark>,
    pub(super) watch: Watch,
    /// The name of `[mongodb.NAME]`.
    pub(super) mongodb: String,
    pub(super) policy: Option<(Arc<Policy>, OnError)>,
    /// The names of routes that depend on all that is watched.
    pub(super) routes: Vec<String>,
    pub(super) budget: Budget,
}

/// How many records may still be made of single documents.
pub(super) struct Budget {
    left: u32,
    since: Instant,
    /// What one document takes: a record for each upstream that may use its tag.
    each: u32,
}

/// What is to be invalidated, each once, and whether softly.
#[derive(Default)]
struct Batch(BTreeMap<Covered, bool>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Covered {
    /// A tag of the deployment's own responses, and of upstreams that use the same.
    Own(String),
    /// A tag of any response.
    Tag(String),
    Path(String),
    Pattern(String),
    Route(String),
}

impl Batch {
    /// Hard covers what soft does.
    fn add(&mut self, covered: Covered, soft: bool) {
        let known = self.0.entry(covered).or_insert(soft);
        *known &= soft;
    }

    fn has_hard(&self, covered: &Covered) -> bool {
        self.0.get(covered) == Some(&false)
    }

    /// The records, within all that the gateway knows of.
    fn records(self, gateway: &Gateway, mongodb: &str) -> Vec<Invalidation> {
        let records = self.0.into_iter().flat_map(|(covered, soft)| {
            let scopes = match covered {
                Covered::Own(label) => gateway.tagged_by_documents(mongodb, &label),
                Covered::Tag(label) => gateway.tagged(&label),
                Covered::Path(path) => gateway.of_any_path(&path).into(),
                Covered::Pattern(pattern) => vec![Scope::Pattern(pattern)],
                Covered::Route(name) => vec![gateway.whole_route(&name)],
            };
            scopes.into_iter().map(move |scope| Invalidation { scope, soft })
        });
        records.collect()
    }
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { left: AT_ONCE, since: clock::instant(), each: 1 }
    }

    fn take(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.since).as_secs();
        if seconds > 0 {
            let more = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(PER_SECOND);
            self.left = self.left.saturating_add(more).min(AT_ONCE);
            self.since = now;
        }
        let left = self.left.checked_sub(self.each);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

impl Applier {
    /// Invalidates what these events have made wrong. When it returns, the log has it.
    pub(super) async fn apply(&mut self, events: &[Event]) -> Option<Appended> {
        let mut batch = Batch::default();
        let each = self.current.gateway().users_of_documents(&self.mongodb);
        self.budget.each = u32::try_from(each).unwrap_or(u32::MAX);
        for event in events {
            self.add(event, &mut batch).await;
        }
        let made = events.iter().filter_map(|event| event.made).max();
        let appended = self.invalidate(batch, made).await;
        self.bookmark.events.add(events.len() as u64);
        appended
    }

    /// Invalidates all that the changes which are watched could be about.
    pub(super) async fn apply_whole(&mut self) -> Option<Appended> {
        let mut batch = Batch::default();
        self.add_whole(&mut batch);
        self.invalidate(batch, None).await
    }

    async fn invalidate(&self, batch: Batch, made: Option<SystemTime>) -> Option<Appended> {
        let gateway = self.current.gateway();
        let records = batch.records(&gateway, &self.mongodb);
        if records.is_empty() {
            return None;
        }
        let count = records.len() as u64;
        let appended = gateway.store().invalidate_changed(records, made).await;
        self.bookmark.invalidations.add(count);
        Some(appended)
    }

    async fn add(&mut self, event: &Event, batch: &mut Batch) {
        match &event.what {
            What::Document { place, operation, id } => {
                let asked = self.ask(event, place, *operation).await;
                match asked {
                    Some(Ok(named)) => add_named(named, batch),
                    Some(Err(())) => {
                        // What it has made wrong is not known.
                        batch.add(
                            Covered::Own(documents::label(&place.database, &place.collection)),
                            false,
                        );
                        self.add_routes(false, batch);
                    }
                    None => self.add_document(place, id, batch),
                }
            }
            What::Gone { place, renamed } => {
                for place in [Some(place), renamed.as_ref()].into_iter().flatten() {
                    if let Some(Ok(named)) = self.ask(event, place, Operation::Drop).await {
                        add_named(named, batch);
                    }
                    let label = documents::label(&place.database, &place.collection);
                    batch.add(Covered::Own(label), self.watch.soft_if_lost);
                }
                self.add_routes(self.watch.soft_if_lost, batch);
            }
            What::DatabaseGone(database) => {
                batch.add(
                    Covered::Own(documents::database_label(database)),
                    self.watch.soft_if_lost,
                );
                self.add_routes(self.watch.soft_if_lost, batch);
            }
            What::Invalidated | What::Unreadable => self.add_whole(batch),
            What::Nothing => {}
        }
    }

    /// The rule where there is no policy.
    fn add_document(&mut self, place: &Namespace, id: &Bson, batch: &mut Batch) {
        let label = documents::label(&place.database, &place.collection);
        let whole = Covered::Own(label);
        if batch.has_hard(&whole) {
            return;
        }
        let Covered::Own(label) = &whole else { return };
        if !self.budget.take(clock::instant()) {
            batch.add(whole, false);
            return;
        }
        batch.add(Covered::Own(format!("{label}:{}", documents::id_of(id.clone()))), false);
        batch.add(Covered::Own(format!("{label}:*")), false);
    }

    fn add_whole(&self, batch: &mut Batch) {
        let soft = self.watch.soft_if_lost;
        let labels = match (&self.watch.database, &*self.watch.collections) {
            (None, _) => vec![documents::EVERYTHING.to_owned()],
            (Some(database), []) => vec![documents::database_label(database)],
            (Some(database), collections) => collections
                .iter()
                .map(|collection| documents::label(database, collection))
                .collect(),
        };
        for label in labels {
            batch.add(Covered::Own(label), soft);
        }
        self.add_routes(soft, batch);
    }

    fn add_routes(&self, soft: bool, batch: &mut Batch) {
        for route in &self.routes {
            batch.add(Covered::Route(route.clone()), soft);
        }
    }

    /// What the policy says of a change: none, if there is no policy, or if its failure leads to the rule
    /// that holds without one; an error, if nobody knows.
    async fn ask(
        &self,
        event: &Event,
        place: &Namespace,
        operation: Operation,
    ) -> Option<Result<Vec<Invalidated>, ()>> {
        let (policy, on_error) = self.policy.as_ref()?;
        let is_drop = operation == Operation::Drop;
        let image = |image| {
            let document = event.document(image).filter(|_| !is_drop && policy.wants_documents());
            document.and_then(documents::value).map(Arc::new)
        };
        let id = event.id().filter(|_| !is_drop).and_then(documents::relaxed).unwrap_or_default();
        let seen = SeenChange {
            mongodb: &self.mongodb,
            database: &place.database,
            collection: &place.collection,
            operation,
            id: &id,
            after: image(Image::After),
            before: image(Image::Before),
        };
        match policy.change(&seen).await {
            Ok(named) => {
                debug!(policy = policy.name(), ?operation, scopes = named.len(), "change");
                Some(Ok(named))
            }
            Err(failure) => {
                self.bookmark.policy_failures.count();
                let Namespace { database, collection } = place;
                let (policy, error) = (policy.name(), &failure);
                warn!(policy, database, collection, %error, "invalidation policy failed on a change");
                match on_error {
                    OnError::Default => None,
                    OnError::Bypass | OnError::Fail => Some(Err(())),
                }
            }
        }
    }
}

fn add_named(named: Vec<Invalidated>, batch: &mut Batch) {
    for Invalidated { scope, soft } in named {
        let covered = match scope {
            Named::Tag(label) => Covered::Tag(label),
            Named::Path(path) => Covered::Path(path),
            Named::Pattern(pattern) => Covered::Pattern(pattern),
        };
        batch.add(covered, soft);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn hard_covers_what_soft_does() {
        let mut batch = Batch::default();
        let tag = || Covered::Tag("a".to_owned());
        batch.add(tag(), true);
        assert!(!batch.has_hard(&tag()));
        batch.add(tag(), false);
        batch.add(tag(), true);
        assert!(batch.has_hard(&tag()));
        assert_eq!(batch.0.len(), 1);
    }

    #[test]
    fn documents_are_told_apart_up_to_a_bound() {
        let mut budget = Budget::new();
        let begun = budget.since;
        assert_eq!((0..AT_ONCE * 2).filter(|_| budget.take(begun)).count(), 10_000);
        let later = begun + Duration::from_secs(1);
        assert_eq!((0..AT_ONCE).filter(|_| budget.take(later)).count(), 2_000);
        let much_later = later + Duration::from_hours(1);
        assert_eq!((0..AT_ONCE * 2).filter(|_| budget.take(much_later)).count(), 10_000);
        let again = much_later + Duration::from_secs(1);
        budget.each = 21;
        assert_eq!((0..AT_ONCE).filter(|_| budget.take(again)).count(), 2_000 / 21);
    }
}
