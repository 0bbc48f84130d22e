//! What an operator's purge covers, as scopes of the log; and `PURGE` and `SOFTPURGE` on the clients'
//! listener, which cover their target.
//!
//! A name that nothing bears is no fault: what is asked for may lie in L2, stored by another gateway or
//! under another configuration.

use std::time::Duration;

use http::{HeaderMap, Response, StatusCode};

use crate::body::Body;
use crate::message;
use crate::store::{Invalidation, NoReceipts, PurgeId, Purged, Receipts, Scope};
use crate::stored::{self, Mark};

use super::{Gateway, Presented, bears, origin, respond, tags};

impl Gateway {
    /// What bears this tag, of all upstreams that there are or have been.
    pub fn tagged(&self, label: &str) -> Vec<Scope> {
        let scope = |upstream: Box<str>| marked(Mark::tag(&upstream, label), label);
        self.lasting.upstreams().into_iter().map(scope).collect()
    }

    /// What bears this tag of those of a `[mongodb.NAME]`, and of all upstreams.
    pub fn tagged_by_documents(&self, mongodb: &str, label: &str) -> Vec<Scope> {
        self.users_of(mongodb).map(|name| marked(Mark::tag(&name, label), label)).collect()
    }

    /// How many records it takes to invalidate a tag of documents.
    pub fn users_of_documents(&self, mongodb: &str) -> usize {
        self.users_of(mongodb).count()
    }

    /// The names of a `[mongodb.NAME]` and of all upstreams.
    fn users_of<'a>(&self, mongodb: &'a str) -> impl Iterator<Item = Box<str>> + use<'a> {
        origin::without_other_documents(self.lasting.upstreams(), mongodb)
    }

    /// What answers requests for this path, whatever the authority.
    pub fn of_any_path(&self, path: &str) -> [Scope; 2] {
        let marks = [Mark::path(tags::ANY, path), Mark::asked_by_post(tags::ANY, path)];
        marks.map(|mark| marked(mark, path))
    }

    /// The responses of this readable name, whole: no character of it is a pattern's.
    pub fn named_key(&self, name: &str) -> Scope {
        let name = stored::cut_name(name.to_owned());
        marked(Mark::named(&name), &name)
    }

    /// What is stored of a route, also of one that there is no more.
    pub fn whole_route(&self, name: &str) -> Scope {
        marked(Mark::route(name), name)
    }

    /// What a write to this URL would make wrong (RFC 9111 §4.4): all that answers a GET of it, and what
    /// `POST`s to its path have brought. The error says what the URL is not.
    pub fn of_url(&self, url: &str) -> Result<Vec<Scope>, &'static str> {
        let (authority, target) = message::of_url(url)?;
        Ok(self.of_target(&authority, &target))
    }

    /// What is stored of a target, path and query.
    fn of_target(&self, authority: &str, target: &str) -> Vec<Scope> {
        let path = target.split('?').next().unwrap_or_default();
        let marks = self.target_marks(authority, target);
        let marks = marks.into_iter().flatten().chain([Mark::asked_by_post(authority, path)]);
        marks.map(|mark| marked(mark, target)).collect()
    }

    /// Whether a request is a purge of its target, and if so, whether a soft one. The methods are no
    /// standard; a route that does not take them passes them on, as it does others that it does not know.
    pub(super) fn is_purge(&self, presented: &Presented) -> Option<bool> {
        if !self.plan(presented).purge {
            return None;
        }
        match presented.head.method.as_str() {
            "PURGE" => Some(false),
            "SOFTPURGE" => Some(true),
            _ => None,
        }
    }

    /// Purges the target of a request, if it bears the operators' token. Nothing of it goes forward.
    pub(super) async fn purge_asked(&self, presented: &Presented, soft: bool) -> Response<Body> {
        let Presented { head, authority, .. } = presented;
        if let Some(refusal) = self.purge_refusal(&head.headers) {
            return refusal;
        }
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let scopes = self.of_target(authority, target).into_iter();
        let purged = self.purge(scopes.map(|scope| Invalidation { scope, soft }).collect()).await;
        respond::purged(&purged)
    }

    /// What answers whoever may not purge by a request with these fields.
    pub(super) fn purge_refusal(&self, fields: &HeaderMap) -> Option<Response<Body>> {
        match &self.token {
            Some(token) if bears(fields, token) => None,
            Some(_) => Some(respond::unauthorised()),
            // It came with a reload, and the listener that it is for as well waits for a restart.
            None => {
                let why = "purging needs the token of [admin], and this gateway began without one";
                Some(respond::problem(StatusCode::FORBIDDEN, why))
            }
        }
    }

    /// As [`Store::purge`](crate::store::Store::purge).
    pub async fn purge(&self, invalidations: Vec<Invalidation>) -> Purged {
        self.store.purge(invalidations).await
    }

    /// As [`Store::receipts`](crate::store::Store::receipts).
    pub async fn receipts(&self, id: &PurgeId, limit: Duration) -> Result<Receipts, NoReceipts> {
        self.store.receipts(id, limit, self.clock.now()).await
    }
}

fn marked(mark: Mark, label: &str) -> Scope {
    Scope::Mark { mark, label: label.to_owned() }
}
