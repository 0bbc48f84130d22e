//! What is told of a stored response: how old it may become and by whose word, what it can be
//! invalidated by, and what has invalidated it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED,
    VARY,
};
use http::{HeaderMap, HeaderName};

use crate::clock;
use crate::plugin::SeenResponse;
use crate::semantics::no_vary_search::NO_VARY_SEARCH;
use crate::semantics::{self, Tags, Vary};
use crate::store::{self, Covers, Found, Lies, Validity};
use crate::stored::{Mark, StoredResponse};

use super::secrets::Secrets;
use super::shape;
use crate::gateway::key::Key;
use crate::gateway::shown::Source;
use crate::gateway::{Gateway, Plan, Presented, tags};

/// The fields that decide about storing and reuse.
const SHOWN: [HeaderName; 9] = [
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_TYPE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    NO_VARY_SEARCH,
    VARY,
];

/// So many tags are told of.
const MOST_TAGS: usize = 100;

/// Of a response, in which tier it lies and what is known of it there.
pub(super) struct Subject<'a> {
    pub(super) tier: &'static str,
    pub(super) stored: &'a StoredResponse,
    pub(super) confirmed: bool,
}

/// What marks stand for: a word for the kind, and the text.
type Marks = Vec<(Mark, &'static str, String)>;

impl Gateway {
    /// All that is told of a stored response.
    pub(super) async fn tell_stored(
        &self,
        subject: &Subject<'_>,
        presented: &Presented,
        key: &Key,
        secrets: &Secrets,
    ) -> shape::Stored {
        let Subject { tier, stored, confirmed } = *subject;
        let (freshness, now) = (&stored.freshness, presented.now);
        let plan = self.plan(presented);
        let fields = stored.fields.to_map(0);
        let (lifetime_by, lifetime_why) = lifetime(stored, &fields, plan, presented);
        let marks = self.marks_of(presented, key, stored).await;
        let all = marks.iter().filter(|(mark, _, _)| stored.marks.contains(mark));
        let tags = all.clone().filter(|(_, kind, _)| matches!(*kind, TAG | POLICY_TAG | "group"));
        let tag = |(_, kind, label): &(Mark, &str, String)| shape::Tag {
            tag: secrets.hide(label).into_owned(),
            by: if *kind == POLICY_TAG { "policy" } else { "response" },
        };
        let mut tags: Vec<_> = tags.map(tag).collect();
        tags.dedup_by(|one, other| one.tag == other.tag);
        tags.truncate(MOST_TAGS);
        let is_unknown = |mark: &&Mark| !marks.iter().any(|(known, _, _)| known == *mark);
        let restrictions = [
            (freshness.no_cache, "no-cache"),
            (freshness.must_revalidate, "must-revalidate"),
            (freshness.immutable, "immutable"),
        ];
        let seconds = |span| Duration::from(span).as_secs();
        let record = self.store.invalidated_by(stored);
        shape::Stored {
            tier,
            status: stored.status.as_u16(),
            octets: stored.body.len(),
            whole: stored.part.is_none(),
            received: clock::text(freshness.received),
            age: freshness.age(now).as_secs(),
            lifetime: freshness.lifetime.as_secs(),
            lifetime_by,
            lifetime_why,
            ttl: freshness.ttl(now),
            restrictions: restrictions.into_iter().filter(|it| it.0).map(|it| it.1).collect(),
            stale_while_revalidate: seconds(freshness.stale_while_revalidate),
            stale_if_error: freshness.stale_if_error.map(seconds),
            fields: shown_fields(&fields, &plan.rules.targets),
            vary: nominated(&fields),
            tags,
            other_marks: stored.marks.iter().filter(is_unknown).count(),
            position: stored.position.to_string(),
            confirmed,
            invalidated: record.map(|record| tell_record(&record, &marks, now, secrets)),
        }
    }

    /// The newest invalidation of what lies under a key, or of what would.
    pub(super) async fn tell_last_invalidation(
        &self,
        presented: &Presented,
        key: &Key,
        stored: Option<&StoredResponse>,
        secrets: &Secrets,
    ) -> Option<shape::Record> {
        let name = key.name(presented);
        let known = match stored {
            Some(stored) => self.marks_of(presented, key, stored).await,
            None => self.marks_by_request(presented, key),
        };
        let marks = match stored {
            Some(stored) => stored.marks.to_vec(),
            None => known.iter().map(|(mark, _, _)| *mark).collect(),
        };
        let record = self.store.last_invalidation(&marks, &name)?;
        Some(tell_record(&record, &known, presented.now, secrets))
    }

    /// What any response to a request with this key can be invalidated by.
    fn marks_by_request(&self, presented: &Presented, key: &Key) -> Marks {
        let Presented { head, authority, .. } = presented;
        let (path, name) = (head.uri.path(), key.name(presented));
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let of_path = |kind, mark| (mark, kind, path.to_owned());
        vec![
            (
                Mark::route(&self.plan(presented).name),
                "route",
                self.plan(presented).name.to_string(),
            ),
            (Mark::key(&key.hash), "key", name.to_string()),
            (Mark::named(&name), "name", name.into()),
            of_path("path", Mark::path(authority, path)),
            of_path("path", Mark::path(tags::ANY, path)),
            of_path("path", Mark::search(authority, path)),
            of_path("path", Mark::asked_by_post(authority, path)),
            of_path("path", Mark::asked_by_post(tags::ANY, path)),
            (Mark::target(authority, target), "target", target.to_owned()),
        ]
    }

    /// What a stored response can be invalidated by, as far as that has a text. The tags that a policy gave
    /// it are kept as marks alone: the policy is asked once more, which gives the same.
    async fn marks_of(&self, presented: &Presented, key: &Key, stored: &StoredResponse) -> Marks {
        let plan = self.plan(presented);
        let mut marks = self.marks_by_request(presented, key);
        marks.push((Mark::named(&stored.name), "name", stored.name.to_string()));
        let fields = stored.fields.to_map(0);
        let Tags { groups, others } = Tags::of(&fields).unwrap_or_default();
        let authority = &presented.authority;
        let of_response = groups.iter().chain(&others);
        marks.extend(of_response.map(|it| (Mark::tag(&plan.origin_name, it), TAG, it.clone())));
        marks.extend(groups.iter().map(|it| (Mark::group(authority, it), "group", it.clone())));
        marks.push((Mark::grouped(authority), "group", String::new()));
        marks.extend(
            self.policy_tags(presented, stored, &fields)
                .await
                .into_iter()
                .map(|tag| (Mark::tag(&plan.origin_name, &tag), POLICY_TAG, tag)),
        );
        marks
    }

    async fn policy_tags(
        &self,
        presented: &Presented,
        stored: &StoredResponse,
        fields: &HeaderMap,
    ) -> Vec<String> {
        let plan = self.plan(presented);
        let Some(ask) = &plan.storing else { return Vec::new() };
        let captures = self.captures(presented);
        let seen = presented.seen(&captures);
        let source = stored.whole().map_or(Source::Elsewhere, Source::Stored);
        let content = source.shown(plan, ask, fields).await;
        let response =
            SeenResponse { status: stored.status, fields, content, longest: plan.max_policy_body };
        ask.policy.explain_storing(&seen, &response).await.map(|it| it.tags).unwrap_or_default()
    }
}

fn tell_record(
    record: &store::Record,
    marks: &Marks,
    now: SystemTime,
    secrets: &Secrets,
) -> shape::Record {
    let known = match &record.covers {
        Covers::Mark(mark) => marks.iter().find(|(known, _, _)| known == mark),
        Covers::Pattern(_) | Covers::Everything => None,
    };
    let (covers, label) = match (&record.covers, known) {
        (Covers::Mark(_), Some((_, kind, label))) => {
            (if *kind == POLICY_TAG { TAG } else { *kind }, Some(label.clone()))
        }
        (Covers::Mark(_), None) => ("mark", record.label.as_deref().map(str::to_owned)),
        (Covers::Pattern(pattern), _) => ("pattern", Some(pattern.to_string())),
        (Covers::Everything, _) => ("all", None),
    };
    shape::Record {
        position: record.place.to_string(),
        at: record.ago.and_then(|ago| now.checked_sub(ago)).map(clock::text),
        seconds_ago: record.ago.map(|ago| ago.as_secs()),
        soft: record.soft,
        covers,
        label: label.map(|label| secrets.hide(&label).into_owned()),
        cause: record.cause.as_deref().map(str::to_owned),
        by: record.by.as_deref().map(str::to_owned),
    }
}

const TAG: &str = "tag";
const POLICY_TAG: &str = "policy-tag";

/// What gives a stored response its lifetime, by the rules that are in force.
fn lifetime(
    stored: &StoredResponse,
    fields: &HeaderMap,
    plan: &Plan,
    presented: &Presented,
) -> (&'static str, String) {
    let (status, freshness) = (stored.status, &stored.freshness);
    let by_rules = semantics::lifetime(status, fields, freshness.received, plan.rules(presented));
    match by_rules {
        Some(it) if it.span == freshness.lifetime => {
            (it.rule.as_str(), it.rule.explained().to_owned())
        }
        Some(it) if it.span > freshness.lifetime && plan.storing.is_some() => {
            let why = format!("the storing policy; without it {} s", it.span.as_secs());
            ("storing-policy", why)
        }
        _ => ("former-configuration", "a configuration that is not in force any more".to_owned()),
    }
}

fn shown_fields(fields: &HeaderMap, targets: &[HeaderName]) -> BTreeMap<String, String> {
    let always = SHOWN;
    let shown = always.iter().chain(targets).filter(|name| fields.contains_key(*name));
    let value = |name: &HeaderName| {
        let lines =
            fields.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
        lines.collect::<Vec<_>>().join(", ")
    };
    shown.map(|name| (name.to_string(), value(name))).collect()
}

fn nominated(fields: &HeaderMap) -> Vec<String> {
    match Vary::nominated_by(fields) {
        Vary::Fields(names) => names.iter().map(ToString::to_string).collect(),
        Vary::Any => vec!["*".to_owned()],
    }
}

/// What is told of a tier.
pub(super) fn tier(lies: &Lies, name: &str) -> shape::Tier {
    let (state, why) = match lies {
        Lies::Off => ("off", "there is none".to_owned()),
        Lies::OutOfUse => ("out-of-use", format!("{name} is out of use: see `GET /health`")),
        Lies::NoAnswer => ("no-answer", format!("{name} did not answer in time")),
        Lies::Nothing => ("nothing", "nothing lies under the key".to_owned()),
        Lies::Rules => ("rules", "rules of `No-Vary-Search` lie under the key".to_owned()),
        Lies::Response(found) => ("response", verdict(found).to_owned()),
        Lies::Variants { known, selected, .. } => (
            "variants",
            match selected {
                Some(found) => format!("the request selects one of {known}; {}", verdict(found)),
                None => format!("the request selects none of {known}"),
            },
        ),
    };
    let variants = match lies {
        Lies::Variants { known, vary, .. } => Some(shape::Variants {
            known: *known,
            vary: vary
                .iter()
                .map(|names| names.iter().map(ToString::to_string).collect())
                .collect(),
        }),
        _ => None,
    };
    let found = lies.response();
    shape::Tier {
        state,
        verdict: found.map(|found| found.validity.as_str()),
        kept_seconds: found.map(|found| found.left.as_secs()),
        variants,
        why,
    }
}

fn verdict(found: &Found) -> &'static str {
    match found.validity {
        Validity::Valid => "no invalidation covers it",
        Validity::Stale => "a soft invalidation covers it: it counts as stale",
        Validity::Gone => "an invalidation covers it: it counts as gone",
    }
}
