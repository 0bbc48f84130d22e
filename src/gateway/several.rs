//! Keys that several policies make together: `key = ["by-tenant", "no-tracking"]`.
//!
//! Policies are asked in the order of the route, each with what it asked to see and with its own memory
//! of answers. The key holds the answers of all, in that order and kept apart. The first that lets a
//! request go past the cache has the last word: nobody after it is asked. Where one fails, its own
//! `on_error` says what follows; if that is to go on as without it, path and query stand in for its parts
//! alone, so that what the others tell apart stays apart.

use crate::config::OnError;
use crate::plugin::KeyAnswer;
use crate::stored::{self, CacheKey};

use super::key::{self, Answered, Key, Keyed, Made};
use super::{Ask, Gateway, Presented};

/// What policies have answered so far.
struct Joined {
    keys: Vec<CacheKey>,
    answered: Vec<Answered>,
}

impl Joined {
    fn with_capacity(policies: usize) -> Self {
        Self { keys: Vec::with_capacity(policies), answered: Vec::with_capacity(policies) }
    }

    /// Adds an answer.
    ///
    /// # Errors
    /// It is the last word.
    fn add(&mut self, answer: KeyAnswer) -> Result<(), Keyed> {
        match answer {
            KeyAnswer::Key { key, name, parts } => {
                self.keys.push(key);
                self.answered.push(Answered { name, parts });
                Ok(())
            }
            KeyAnswer::Bypass(reason) => Err(Keyed::Bypass(reason)),
        }
    }
}

impl Gateway {
    /// The key, where no policy has to be asked: all answers up to the last word are remembered.
    pub(super) fn known_by_several(&self, asks: &[Ask], presented: &Presented) -> Option<Keyed> {
        let space = self.space(presented);
        let mut joined = Joined::with_capacity(asks.len());
        let (mut needed, mut last_word) = (asks.len(), None);
        for (place, ask) in asks.iter().enumerate() {
            let captures = self.key_captures(&ask.policy, presented);
            let answer = ask.policy.known(space, &presented.seen(&captures))?;
            if let Err(keyed) = joined.add(answer) {
                (needed, last_word) = (place + 1, Some(keyed));
                break;
            }
        }
        for ask in asks.iter().take(needed) {
            ask.policy.counts_as_remembered();
        }
        Some(last_word.unwrap_or_else(|| self.joined(joined, presented)))
    }

    /// The key, by calls of those policies whose answers are not remembered.
    pub(super) async fn ask_several(&self, asks: &[Ask], presented: &Presented) -> Keyed {
        let mut joined = Joined::with_capacity(asks.len());
        for ask in asks {
            let answer = match self.remembered(ask, presented) {
                Some(answer) => Ok(answer),
                None => self.ask(ask, presented).await,
            };
            if let Err(keyed) = self.take_answer(&mut joined, answer, presented) {
                return keyed;
            }
        }
        self.joined(joined, presented)
    }

    /// The key that such answers come to, given by the policies in their order.
    pub(super) fn keyed_by_several(
        &self,
        answers: impl IntoIterator<Item = Result<KeyAnswer, OnError>>,
        presented: &Presented,
    ) -> Keyed {
        let mut joined = Joined::with_capacity(2);
        for answer in answers {
            if let Err(keyed) = self.take_answer(&mut joined, answer, presented) {
                return keyed;
            }
        }
        self.joined(joined, presented)
    }

    /// Adds what one policy has answered, or what its failure leads to.
    ///
    /// # Errors
    /// It is the last word.
    fn take_answer(
        &self,
        joined: &mut Joined,
        answer: Result<KeyAnswer, OnError>,
        presented: &Presented,
    ) -> Result<(), Keyed> {
        match answer.map_err(Keyed::failed) {
            Ok(answer) => joined.add(answer),
            Err(Some(keyed)) => Err(keyed),
            Err(None) => joined.add(self.plain_answer(presented)),
        }
    }

    fn remembered(&self, ask: &Ask, presented: &Presented) -> Option<KeyAnswer> {
        let captures = self.key_captures(&ask.policy, presented);
        ask.policy.remembered(self.space(presented), &presented.seen(&captures))
    }

    /// In the place of a policy that failed.
    fn plain_answer(&self, presented: &Presented) -> KeyAnswer {
        let key = self.plain_hash(presented);
        let name = stored::readable_name(key::plain(presented)).into();
        KeyAnswer::Key { key, name, parts: None }
    }

    fn joined(&self, joined: Joined, presented: &Presented) -> Keyed {
        let Joined { keys, answered } = joined;
        let made = Made::BySeveral(answered.into());
        Keyed::Key(Key::new(CacheKey::joined(&keys), made, self.plan(presented), presented))
    }
}
