//! A change stream: how it is opened, and what its errors mean.

use std::time::Duration;

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::change_stream::ChangeStream;
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{FullDocumentBeforeChangeType, FullDocumentType};
use mongodb::{Client, Collection};

use crate::config::Watch;
use crate::documents;
use crate::store::Token;

use super::event::{resume_token, token};

/// Events as they come.
pub(super) type Stream = ChangeStream<RawDocumentBuf>;

/// What becomes of whole collections, which no filter leaves out.
const OF_COLLECTIONS: [&str; 4] = ["drop", "rename", "dropDatabase", "invalidate"];

/// The parts of an event that are read where no policy asks for documents.
const READ: [&str; 6] = ["operationType", "ns", "to", "documentKey", "clusterTime", "wallTime"];

/// What is asked of a server.
pub(super) struct Wanted {
    database: Option<String>,
    collections: Vec<String>,
    matching: Document,
    /// The policy reads documents, or the filter does.
    images: bool,
    filters_documents: bool,
    patience: Duration,
}

/// What an error means for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server does not know what came since: it has to be taken for lost.
    Lost,
    /// The next event is larger than an answer may be.
    TooLarge,
    /// It may go better the next time, from the same place.
    Passing,
}

impl Wanted {
    /// `reads_documents`: the policy does.
    pub(super) fn new(watch: &Watch, reads_documents: bool, patience: Duration) -> Self {
        let names = watch.matching.iter().map(|(name, _)| name.as_str());
        // A filter that looks at them needs them as well, and cannot say so in depth.
        let is_about_documents = !watch.matching.is_empty()
            && (names.into_iter().any(|name| name.starts_with("fullDocument"))
                || format!("{:?}", watch.matching).contains("fullDocument"));
        Self {
            database: watch.database.clone(),
            collections: watch.collections.clone(),
            matching: documents::fixed(&watch.matching),
            images: reads_documents || is_about_documents,
            filters_documents: is_about_documents,
            patience,
        }
    }

    /// Opens a stream that goes on after a place, or begins now. `whole` events have their documents, if
    /// anybody reads them.
    ///
    /// Either way the driver knows a place. It falls back on the one with which a stream was opened first, in
    /// case it opens it again by itself; if it had none it would begin later, and skip what came between.
    pub(super) async fn open(
        &self,
        client: &Client,
        after: Option<&Token>,
        whole: bool,
    ) -> Result<Stream, Error> {
        let stream = self.open_after(client, after, whole).await?;
        match stream.resume_token().as_ref().and_then(token).filter(|_| after.is_none()) {
            Some(begin) => self.open_after(client, Some(&begin), whole).await,
            None => Ok(stream),
        }
    }

    async fn open_after(
        &self,
        client: &Client,
        after: Option<&Token>,
        whole: bool,
    ) -> Result<Stream, Error> {
        let images = self.images && whole;
        let watch = match (&self.database, &*self.collections) {
            (None, _) => client.watch(),
            (Some(database), [one]) => {
                let collection: Collection<Document> = client.database(database).collection(one);
                return self.with_options(collection.watch(), after, images).await;
            }
            (Some(database), _) => {
                let database = client.database(database);
                return self.with_options(database.watch(), after, images).await;
            }
        };
        self.with_options(watch, after, images).await
    }

    async fn with_options(
        &self,
        watch: mongodb::action::Watch<'_>,
        after: Option<&Token>,
        images: bool,
    ) -> Result<Stream, Error> {
        let mut watch = watch.pipeline(self.pipeline(images)).max_await_time(self.patience);
        if images {
            watch = watch
                .full_document(FullDocumentType::UpdateLookup)
                .full_document_before_change(FullDocumentBeforeChangeType::WhenAvailable);
        }
        if let Some(token) = after.and_then(resume_token) {
            // Unlike `resume_after`, it goes on after what ended a stream, too.
            watch = watch.start_after(token);
        }
        Ok(watch.await?.with_type())
    }

    fn pipeline(&self, images: bool) -> Vec<Document> {
        let mut pipeline = Vec::new();
        if self.collections.len() > 1 {
            let names = || self.collections.iter().map(|name| Bson::String(name.clone()));
            let names = Bson::Array(names().collect());
            pipeline.push(doc! { "$match": { "$or": [
                { "ns.coll": { "$in": names.clone() } },
                { "to.coll": { "$in": names } },
                { "operationType": { "$in": ["dropDatabase", "invalidate"] } },
            ] } });
        }
        // A filter would leave out every event whose documents it cannot see.
        if !self.matching.is_empty() && (images || !self.filters_documents) {
            let always = Bson::Array(OF_COLLECTIONS.map(Into::into).into());
            pipeline.push(doc! { "$match": { "$or": [
                { "operationType": { "$in": always } },
                self.matching.clone(),
            ] } });
        }
        if !images {
            let shown: Document = READ.iter().map(|name| ((*name).to_owned(), 1.into())).collect();
            pipeline.push(doc! { "$project": shown });
        }
        pipeline
    }
}

impl Trouble {
    /// What an error means, on the way on from a place or in the middle of a stream.
    pub(super) fn of(error: &Error, has_place: bool) -> Self {
        /// `ChangeStreamFatalError`, `ChangeStreamHistoryLost`, `InvalidResumeToken`, and what servers say
        /// of a place that they cannot read.
        const LOST: [i32; 5] = [280, 286, 260, 40647, 50811];
        /// `FailedToParse`: which is the place, if there is one.
        const UNREADABLE: i32 = 9;
        /// `BSONObjectTooLarge`.
        const TOO_LARGE: i32 = 10334;

        let ErrorKind::Command(command) = &*error.kind else {
            let is_without = matches!(&*error.kind, ErrorKind::MissingResumeToken);
            return if is_without { Self::Lost } else { Self::Passing };
        };
        let is_refused = has_place && command.message.to_lowercase().contains("cannot resume");
        match command.code {
            TOO_LARGE => Self::TooLarge,
            code if LOST.contains(&code) => Self::Lost,
            UNREADABLE if has_place => Self::Lost,
            _ if is_refused => Self::Lost,
            _ if error.contains_label("NonResumableChangeStreamError") => Self::Lost,
            _ => Self::Passing,
        }
    }
}
