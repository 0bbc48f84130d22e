//! What a policy says of a request, for operators who ask: called in the same way and within the same
//! limits, but neither counted nor remembered.

use super::answers::{self, KeyAnswer, StoringAnswer};
use super::bindings::key;
use super::failure::Failure;
use super::policy::Policy;
use super::text::rejoined;
use super::{KeySpace, Seen, SeenResponse};

/// What `key` says of a request.
#[derive(Clone, Debug)]
pub struct ExplainedKey {
    /// The answer. One that is remembered is the one that requests get.
    pub answer: Result<KeyAnswer, Failure>,
    /// It is remembered, so that a request would not have the plugin called.
    pub is_remembered: bool,
    /// The policy's parts, names and values; none if it gives no key.
    pub parts: Vec<(String, String)>,
}

impl Policy {
    /// Asks for a key.
    pub async fn explain_key(&self, space: KeySpace<'_>, seen: &Seen<'_>) -> ExplainedKey {
        let known = self.known(space, seen);
        let is_remembered = known.is_some();
        let decision = self.decide_key(&self.sandbox.uncounted(), seen).await;
        let parts = match &decision {
            Ok(key::Decision::Parts(parts)) => {
                let text = |text: &str| rejoined(text).into_owned();
                parts.iter().map(|part| (text(&part.name), text(&part.value))).collect()
            }
            _ => Vec::new(),
        };
        let asked = || {
            let sees_query = self.wants.wants_query();
            decision.map(|decision| answers::key(space, seen, sees_query, &decision))
        };
        let answer = known.map_or_else(asked, Ok);
        ExplainedKey { answer, is_remembered, parts }
    }

    /// Asks how to store a response.
    ///
    /// # Errors
    /// As for [`Policy::storing`].
    pub async fn explain_storing(
        &self,
        seen: &Seen<'_>,
        response: &SeenResponse<'_>,
    ) -> Result<StoringAnswer, Failure> {
        self.decide_storing(&self.sandbox.uncounted(), seen, response).await
    }
}
