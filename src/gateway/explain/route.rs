//! Which route takes a request and why; and what its policies say.

use http::request::Parts;

use crate::config::OnError;
use crate::plugin::{ExplainedKey, KeyAnswer};
use crate::routes::Found;

use super::secrets::Secrets;
use super::shape;
use crate::gateway::key::{Keyed, Keys};
use crate::gateway::{Ask, Gateway, Presented};

impl Gateway {
    /// The route at this place, which takes the request, and those that do not.
    pub(super) fn tell_route(
        &self,
        place: Option<usize>,
        authority: &str,
        head: &Parts,
    ) -> shape::Route {
        let path = head.uri.path();
        let others = self.routes.runners_up(place, authority, path, &head.method, &head.headers);
        let runners_up: Vec<_> = others
            .into_iter()
            .map(|other| shape::RunnerUp {
                name: other.name,
                path: other.path,
                lost_by: other.lost.as_str(),
                why: other.lost.explained(),
            })
            .collect();
        let Some(plan) = place.and_then(|place| self.plans.get(place)) else {
            let why = if runners_up.is_empty() {
                "no route has such a path".to_owned()
            } else {
                "routes have such a path, and none takes the request".to_owned()
            };
            return shape::Route { why, runners_up, ..shape::Route::default() };
        };
        let captures = match self.routes.find(authority, path, &head.method, &head.headers) {
            Found::Route { captures, .. } => captures.to_vec(),
            Found::MethodNotAllowed(_) | Found::NotFound => Vec::new(),
        };
        let why = if runners_up.is_empty() {
            "no other route has a path that matches"
        } else {
            "of the routes that match it is the most specific"
        };
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        shape::Route {
            name: Some(plan.name.to_string()),
            path: place.and_then(|place| self.routes.path_of(place)).map(str::to_owned),
            captures: captures.into_iter().map(owned).collect(),
            why: why.to_owned(),
            runners_up,
        }
    }

    /// What the route's key policies come to. They are asked as for a request, and nothing of that is
    /// counted or remembered.
    pub(super) async fn tell_policies(
        &self,
        told: &mut Vec<shape::Policy>,
        presented: &Presented,
        secrets: &Secrets,
    ) -> Keyed {
        let plan = self.plan(presented);
        if let Some(doubtful) = plan.doubtful(presented) {
            let not_asked = |ask| shape::Policy { answer: "not-asked", ..policy(ask) };
            told.extend(plan.key.asks().iter().map(not_asked));
            return doubtful;
        }
        match &plan.key {
            Keys::Plain => Keyed::Key(self.plain_key(presented)),
            Keys::One(ask) => {
                let answer = self.tell_policy(told, ask, presented, secrets).await;
                self.keyed_by_one(answer, presented)
            }
            Keys::Several(asks) => {
                let (mut answers, mut is_over) = (Vec::new(), false);
                for ask in asks {
                    if is_over {
                        told.push(shape::Policy { answer: "not-asked", ..policy(ask) });
                        continue;
                    }
                    let answer = self.tell_policy(told, ask, presented, secrets).await;
                    is_over = match &answer {
                        Ok(KeyAnswer::Key { .. }) => false,
                        Ok(KeyAnswer::Bypass(_)) => true,
                        Err(on_error) => Keyed::failed(*on_error).is_some(),
                    };
                    answers.push(answer);
                }
                self.keyed_by_several(answers, presented)
            }
        }
    }

    async fn tell_policy(
        &self,
        told: &mut Vec<shape::Policy>,
        ask: &Ask,
        presented: &Presented,
        secrets: &Secrets,
    ) -> Result<KeyAnswer, OnError> {
        let captures = self.key_captures(&ask.policy, presented);
        let seen = presented.seen(&captures);
        let ExplainedKey { answer, is_remembered, parts } =
            ask.policy.explain_key(self.space(presented), &seen).await;
        let hide = |text: &str| secrets.hide(text).into_owned();
        let (word, reason) = match &answer {
            Ok(KeyAnswer::Key { .. }) => ("key", None),
            Ok(KeyAnswer::Bypass(reason)) => ("bypass", Some(hide(reason))),
            Err(failure) => ("failed", Some(hide(&failure.to_string()))),
        };
        let parts = parts.iter().filter(|_| word == "key");
        told.push(shape::Policy {
            remembered: is_remembered,
            answer: word,
            parts: parts
                .map(|(name, value)| shape::Part { name: hide(name), value: hide(value) })
                .collect(),
            reason,
            ..policy(ask)
        });
        answer.map_err(|_| ask.on_error)
    }
}

fn policy(ask: &Ask) -> shape::Policy {
    shape::Policy {
        name: ask.policy.name().to_owned(),
        digest: blake3::Hash::from_bytes(*ask.policy.digest()).to_hex().to_string(),
        remembered: false,
        answer: "key",
        parts: Vec::new(),
        reason: None,
        on_error: match ask.on_error {
            OnError::Default => "default",
            OnError::Bypass => "bypass",
            OnError::Fail => "fail",
        },
    }
}
