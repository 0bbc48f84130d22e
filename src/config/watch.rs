//! `[[changes]]`: changes of documents in MongoDB that invalidate what is stored.

use toml::de::DeValue;

use super::document::{self, collection, database};
use super::fault::Wrong;
use super::filter::{self, Operand};
use super::reader::{Table, Value};
use super::routes::{self, Policies};
use super::{Place, Policy, Route, nearest, shown};

/// `[[changes]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// What logs and figures call it: `shop`, `shop.app`, `shop.app.users,orders`, and the policy if
    /// there is one. No two have the same.
    pub label: String,
    /// `mongodb`: its place in [`Config::mongodbs`](super::Config::mongodbs).
    pub mongodb: usize,
    /// `database`; none watches the whole deployment.
    pub database: Option<String>,
    /// `collections` of the database; none watches all.
    pub collections: Vec<String>,
    /// `match`: a condition for each field of a change event, each an [`Operand`]. Empty: all changes.
    pub matching: Vec<(String, Operand)>,
    /// `policy`: a place in [`Config::policies`](super::Config::policies). None: a changed document
    /// invalidates its tags.
    pub policy: Option<usize>,
    /// `routes`: places in [`Config::routes`](super::Config::routes) whose responses depend on these
    /// changes, besides those that are documents of what is watched.
    pub routes: Vec<usize>,
    /// `on_lost`, default `soft`: where changes may have been missed, all that they could be about
    /// becomes stale; with `hard` it is gone.
    pub soft_if_lost: bool,
    /// Where `policy`'s value stands.
    pub policy_place: Place,
}

impl Watch {
    /// All but places and positions, which another configuration may have moved.
    #[must_use]
    pub fn essence(&self) -> Self {
        Self {
            mongodb: 0,
            policy: None,
            routes: Vec::new(),
            policy_place: Place::default(),
            ..self.clone()
        }
    }

    /// Whether it watches this collection of a deployment.
    pub fn covers(&self, mongodb: usize, database: &str, collection: &str) -> bool {
        self.mongodb == mongodb
            && self.database.as_ref().is_none_or(|its| its == database)
            && (self.collections.is_empty() || self.collections.iter().any(|its| its == collection))
    }
}

/// What `[[changes]]` may refer to.
pub(super) struct Known<'a> {
    pub(super) mongodbs: document::Known<'a>,
    pub(super) policies: Policies<'a>,
    pub(super) routes: &'a [Route],
}

/// All of which it can be said what they watch.
pub(super) fn read(value: Option<Value<'_>>, known: &Known<'_>) -> Vec<Watch> {
    let Some(value) = value else { return Vec::new() };
    let DeValue::Array(elements) = value.content else {
        value.not_a::<()>("an array of tables", Some("write `[[changes]]`".to_owned()));
        return Vec::new();
    };
    let mut labels: Vec<(String, Place)> = Vec::new();
    let mut watches = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let label = format!("changes {}", index + 1);
        let table = value.element(element).table(&label, || "write `[[changes]]`".to_owned());
        let Some(mut table) = table else { continue };
        let place = table.place;
        let watch = watch(&mut table, known);
        if let Some(watch) = &watch {
            if let Some((_, first)) = labels.iter().find(|(label, _)| *label == watch.label) {
                let first = table.source.told(*first, place);
                let message = format!("watches the same as the one at {first}");
                let hint = "make one of them, with both conditions in `match`".to_owned();
                table.report(place, &message, Some(hint));
            }
            labels.push((watch.label.clone(), place));
        }
        table.finish();
        watches.extend(watch);
    }
    watches
}

fn watch(table: &mut Table<'_>, known: &Known<'_>) -> Option<Watch> {
    let mongodb = document::mongodb(table, &known.mongodbs);
    let names_database = table.has("database");
    let database = table.take("database").and_then(|value| value.read(database));
    let collections = table.take("collections").map_or(Some(Vec::new()), |value| {
        if !names_database {
            let hint = "write database = \"NAME\" beside it".to_owned();
            value.report("collections are of a database, and none is named", Some(hint));
        }
        routes::all(&value, "write collections = [\"NAME\"], or leave it out", collection)
    });
    let matching = table.take("match").map_or(Some(Vec::new()), |value| filter::fixed(&value));
    let (policy, policy_place) = routes::policy("policy", table, &known.policies);
    let routes = table.take("routes").map_or(Vec::new(), |value| named(&value, known.routes));
    let soft_if_lost = table.read("on_lost", true, on_lost);
    let (mongodb, collections, matching) = (mongodb?, collections?, matching?);
    if names_database && database.is_none() {
        return None;
    }
    let deployment = known.mongodbs.valid.get(mongodb).copied().unwrap_or_default();
    let policy_name = policy.and_then(|policy| known.policies.valid.get(policy));
    let label = label(deployment, database.as_deref(), &collections, policy_name);
    Some(Watch {
        label,
        mongodb,
        database,
        collections,
        matching,
        policy,
        routes,
        soft_if_lost,
        policy_place,
    })
}

fn label(
    mongodb: &str,
    database: Option<&str>,
    collections: &[String],
    policy: Option<&Policy>,
) -> String {
    let mut label = mongodb.to_owned();
    if let Some(database) = database {
        label.extend([".", database]);
    }
    if !collections.is_empty() {
        label.extend([".", &collections.join(",")]);
    }
    if let Some(policy) = policy {
        label.extend([" by ", &policy.name]);
    }
    label
}

/// The places of routes among those that are right.
fn named(value: &Value<'_>, routes: &[Route]) -> Vec<usize> {
    let elements = value.list(|| "write routes = [\"NAME\"], or leave it out".to_owned());
    let places = elements.unwrap_or_default().into_iter().filter_map(|element| {
        let name = element.text()?;
        let place = routes.iter().position(|route| route.name == name);
        if place.is_none() {
            let names = routes.iter().map(|route| route.name.as_str());
            let hint = nearest::hint(&name, "known routes", names);
            element.report(&format!("unknown route `{}`", shown::plain(&name)), hint);
        }
        place
    });
    places.collect()
}

fn on_lost(text: &str) -> Result<bool, Wrong> {
    match text {
        "soft" => Ok(true),
        "hard" => Ok(false),
        _ => Err(Wrong::new("is neither `soft` nor `hard`")
            .with_hint("write \"soft\": stale, or \"hard\": gone")),
    }
}
