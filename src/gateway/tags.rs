//! What tags are scoped to, and the marks that they become.
//!
//! Three response fields and the policies name tags. A tag is one of the upstream that it came
//! from: a policy's answer and an operator's purge reach it, whichever of them named it. A member of
//! `Cache-Groups` is a group of its authority as well: RFC 9875 §2.1 scopes groups by origin, and
//! only that is what `Cache-Group-Invalidation` reaches. So neither two upstreams nor two
//! authorities behind one upstream can invalidate each other's responses by responses of theirs.

use http::{HeaderMap, Method};

use crate::semantics::{self, NotStored, Tags};
use crate::store::Invalidation;
use crate::stored::Mark;

use super::key::Key;
use super::write::hard;
use super::{Gateway, Presented};

/// Stands for all authorities.
pub(super) const ANY: &str = "";

impl Gateway {
    /// What any response to a request with this key can be invalidated by.
    pub(super) fn own_marks(&self, presented: &Presented, key: &Key) -> Vec<Mark> {
        let Presented { head, authority, .. } = presented;
        let path = head.uri.path();
        let mut marks = vec![Mark::route(&self.plan(presented).name), Mark::key(&key.hash)];
        if head.method == Method::POST {
            marks.extend([authority, ANY].map(|it| Mark::asked_by_post(it, path)));
        } else {
            let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
            marks.extend([authority, ANY].map(|it| Mark::path(it, path)));
            marks.push(Mark::target(authority, target));
        }
        marks
    }
}

/// What a response of these fields can be invalidated by.
pub(super) fn marks(
    fields: &HeaderMap,
    upstream: &str,
    authority: &str,
) -> Result<Vec<Mark>, NotStored> {
    let Tags { groups, others } = Tags::of(fields).map_err(|_| NotStored::Tags)?;
    let mut marks: Vec<_> =
        groups.iter().chain(&others).map(|tag| Mark::tag(upstream, tag)).collect();
    marks.extend(groups.iter().map(|group| Mark::group(authority, group)));
    if !groups.is_empty() {
        marks.push(Mark::grouped(authority));
    }
    Ok(marks)
}

/// What a response to an unsafe request invalidates beyond targets (RFC 9875 §3): hard, as its
/// target: what is merely stale may still be served meanwhile (RFC 5861), and nothing may be that came
/// before the write. Of more groups than are told apart, all go.
pub(super) fn invalidated(fields: &HeaderMap, authority: &str) -> Vec<Invalidation> {
    match semantics::invalidated_groups(fields) {
        Ok(groups) => {
            groups.iter().map(|group| hard(Mark::group(authority, group), group)).collect()
        }
        Err(_) => vec![hard(Mark::grouped(authority), authority)],
    }
}
