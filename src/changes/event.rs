//! A change event as MongoDB sends it, and what of it counts here.
//!
//! What cannot be read is no reason to go on as if nothing had been: it is told, and whoever watches takes
//! it for a gap.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mongodb::bson::raw::{RawBsonRef, RawDocument, RawDocumentBuf};
use mongodb::bson::{self, Bson};
use mongodb::change_stream::event::ResumeToken;
use serde::{Deserialize, Serialize};

use crate::plugin::Operation;
use crate::store::Token;

/// One event, whole as it came.
pub(super) struct Event {
    pub(super) what: What,
    /// Where to go on after it.
    pub(super) token: Option<Token>,
    /// When it came about, by MongoDB's clock: to the millisecond if the server says so.
    pub(super) made: Option<SystemTime>,
    /// The same in whole seconds, in the order of events.
    pub(super) cluster_time: Option<SystemTime>,
    raw: RawDocumentBuf,
}

/// What came about.
#[derive(Debug, PartialEq)]
pub(super) enum What {
    /// A document changed.
    Document { place: Namespace, operation: Operation, id: Bson },
    /// A collection is gone; or it has got another name, under which documents are now.
    Gone { place: Namespace, renamed: Option<Namespace> },
    /// A database is gone.
    DatabaseGone(String),
    /// The stream ends, as what it watches is gone or has another name.
    Invalidated,
    /// Nothing that a response could depend on.
    Nothing,
    /// It cannot be said.
    Unreadable,
}

/// Where documents are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Namespace {
    pub(super) database: String,
    pub(super) collection: String,
}

/// Which of the documents of a change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Image {
    Before,
    After,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(rename = "_id")]
    token: ResumeToken,
}

impl Event {
    pub(super) fn new(raw: RawDocumentBuf) -> Self {
        let kept = bson::deserialize_from_slice(raw.as_bytes());
        let token = kept.ok().and_then(|Kept { token }| self::token(&token));
        let seconds = raw.get_timestamp("clusterTime").ok();
        let cluster_time = seconds.map(|it| UNIX_EPOCH + Duration::from_secs(u64::from(it.time)));
        let wall_time = raw.get_datetime("wallTime").ok().map(bson::DateTime::to_system_time);
        Self {
            what: what(&raw).unwrap_or(What::Unreadable),
            token,
            made: wall_time.or(cluster_time),
            cluster_time,
            raw,
        }
    }

    /// How many octets it holds.
    pub(super) fn octets(&self) -> usize {
        self.raw.as_bytes().len()
    }

    /// The document before or after the change, if it came along.
    pub(super) fn document(&self, image: Image) -> Option<&RawDocument> {
        let name = match image {
            Image::Before => "fullDocumentBeforeChange",
            Image::After => "fullDocument",
        };
        self.raw.get_document(name).ok()
    }

    /// The `_id` of the document that changed.
    pub(super) fn id(&self) -> Option<RawBsonRef<'_>> {
        self.raw.get_document("documentKey").ok()?.get("_id").ok()?
    }
}

fn what(raw: &RawDocument) -> Option<What> {
    let operation = match raw.get_str("operationType").ok()? {
        "insert" => Operation::Insert,
        "update" => Operation::Update,
        "replace" => Operation::Replace,
        "delete" => Operation::Delete,
        "drop" => {
            return Some(What::Gone { place: namespace(raw, "ns")?, renamed: None });
        }
        "rename" => {
            let renamed = Some(namespace(raw, "to")?);
            return Some(What::Gone { place: namespace(raw, "ns")?, renamed });
        }
        "dropDatabase" => {
            let database = raw.get_document("ns").ok()?.get_str("db").ok()?;
            return Some(What::DatabaseGone(database.to_owned()));
        }
        "invalidate" => return Some(What::Invalidated),
        // Collections and indexes that are made.
        _ => return Some(What::Nothing),
    };
    let id = raw.get_document("documentKey").ok()?.get("_id").ok()??;
    Some(What::Document { place: namespace(raw, "ns")?, operation, id: id.try_into().ok()? })
}

fn namespace(raw: &RawDocument, name: &str) -> Option<Namespace> {
    let names = raw.get_document(name).ok()?;
    Some(Namespace {
        database: names.get_str("db").ok()?.to_owned(),
        collection: names.get_str("coll").ok()?.to_owned(),
    })
}

/// A place as it is kept.
pub(super) fn token(token: &ResumeToken) -> Option<Token> {
    let kept = bson::serialize_to_vec(&Kept { token: token.clone() });
    kept.ok().map(Into::into)
}

/// A place that was kept. None if it is damaged.
pub(super) fn resume_token(token: &Token) -> Option<ResumeToken> {
    bson::deserialize_from_slice(token).ok().map(|Kept { token }| token)
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Document, Timestamp, doc, oid::ObjectId};

    use super::*;

    fn event(document: &Document) -> Event {
        Event::new(RawDocumentBuf::try_from(document).unwrap())
    }

    fn users() -> Namespace {
        Namespace { database: "app".to_owned(), collection: "users".to_owned() }
    }

    #[test]
    fn events_are_read_as_they_come() {
        let ns = doc! { "db": "app", "coll": "users" };
        let changed = |operation| What::Document { place: users(), operation, id: Bson::Int32(1) };
        let gone = |renamed| What::Gone { place: users(), renamed };
        let other = Namespace { collection: "others".to_owned(), ..users() };
        for (kind, more, expected) in [
            ("insert", doc! { "documentKey": { "_id": 1 } }, changed(Operation::Insert)),
            ("update", doc! { "documentKey": { "_id": 1 } }, changed(Operation::Update)),
            ("replace", doc! { "documentKey": { "_id": 1 } }, changed(Operation::Replace)),
            (
                "delete",
                doc! { "documentKey": { "shard": 2, "_id": 1 } },
                changed(Operation::Delete),
            ),
            ("drop", doc! {}, gone(None)),
            ("rename", doc! { "to": { "db": "app", "coll": "others" } }, gone(Some(other))),
            ("dropDatabase", doc! {}, What::DatabaseGone("app".to_owned())),
            ("invalidate", doc! {}, What::Invalidated),
            ("createIndexes", doc! {}, What::Nothing),
            // Damaged.
            ("insert", doc! {}, What::Unreadable),
            ("insert", doc! { "documentKey": 1 }, What::Unreadable),
            ("rename", doc! {}, What::Unreadable),
        ] {
            let mut document = doc! { "operationType": kind, "ns": ns.clone() };
            document.extend(more);
            assert_eq!(event(&document).what, expected, "{document}");
        }
        assert_eq!(event(&doc! {}).what, What::Unreadable);
    }

    #[test]
    fn times_and_documents_come_along() {
        let id = ObjectId::new();
        let found = event(&doc! {
            "_id": { "_data": "82" },
            "operationType": "update",
            "ns": { "db": "app", "coll": "users" },
            "documentKey": { "_id": id },
            "clusterTime": Timestamp { time: 7, increment: 1 },
            "wallTime": bson::DateTime::from_millis(7100),
            "fullDocument": { "a": 1 },
            "fullDocumentBeforeChange": Bson::Null,
        });
        let at = |millis| Some(UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!((found.made, found.cluster_time), (at(7100), at(7000)));
        assert_eq!(found.document(Image::After).unwrap().get_i32("a").unwrap(), 1);
        assert!(found.document(Image::Before).is_none());
        let kept = found.token.unwrap();
        let token = resume_token(&kept).unwrap();
        assert_eq!(super::token(&token), Some(kept));
        assert!(resume_token(&b"damaged"[..].into()).is_none());
    }
}
