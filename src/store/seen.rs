//! What the shared log's reader has seen of the log, and what it may have missed while it was not
//! connected: the table in `shared_log`, as a function of values.

use crate::store::extent::Extent;
use crate::stored::Position;

/// What the reader has seen. It outlives connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Every record up to here has been applied.
    pub(super) last: Position,
    /// The log was read to its end once: what comes is new, and not from before this gateway began.
    pub(super) is_at_home: bool,
    pub(super) identity: Option<String>,
    pub(super) server: Option<String>,
    /// Redis lost the log, and the fleet has yet to be told: with a record at this place.
    pub(super) distrusted: Option<Position>,
}

/// What a reader finds that is connected again.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) identity: Option<String>,
    /// `None` if there is no stream.
    pub(super) extent: Option<Extent>,
    /// Which server it is, if it tells.
    pub(super) server: Option<String>,
    /// On which server a gateway has read the log last, as it has noted beside it.
    pub(super) noted: Option<String>,
}

/// What happened to the log since it was last seen, and so what has to be done before it is read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// Nothing is known from before: it is read from its beginning. What the records covered that are
    /// no longer there is unknown; all of them were before this place.
    Begun { trimmed: Option<Position>, is_doubtful: bool },
    /// It is the same, with all records since; but if it `is_doubtful`, another server has it, or the
    /// same one since a restart, and the newest records may be lost.
    Same { is_doubtful: bool },
    /// Records are lost, or the whole log. This is its newest place.
    Lost { newest: Position },
}

impl Seen {
    /// What the reader concludes.
    pub(super) fn since(&self, found: &Found) -> Since {
        let Some(extent) = &found.extent else { return Since::Lost { newest: Position::ZERO } };
        let is_another = |before: &Option<String>| {
            found.server.is_some() && before.is_some() && found.server != *before
        };
        // A gateway that has just begun has seen no server, and the newest records may be lost all the
        // same, while L2 has what they cover.
        let is_doubtful = is_another(&self.server) || is_another(&found.noted);
        if found.identity.is_some() && self.identity.is_none() {
            let first = extent.first.unwrap_or(extent.newest);
            Since::Begun { trimmed: extent.trimmed.then_some(first), is_doubtful }
        } else if self.identity.is_some()
            && found.identity == self.identity
            && !extent.misses(self.last)
        {
            Since::Same { is_doubtful }
        } else {
            Since::Lost { newest: extent.newest }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(millis: u64) -> Position {
        Position { millis, sequence: 0 }
    }

    fn text(word: &str) -> Option<String> {
        (!word.is_empty()).then(|| word.to_owned())
    }

    #[test]
    fn what_is_concluded() {
        let same = Since::Same { is_doubtful: false };
        let doubtful = Since::Same { is_doubtful: true };
        let lost = Since::Lost { newest: place(9) };
        let begun = |trimmed, is_doubtful| Since::Begun { trimmed, is_doubtful };
        for (seen, found, first, trimmed, expected, why) in [
            (("a", "s"), ("a", "s", "s"), 1, false, same, "a mere cut"),
            (("a", "s"), ("a", "s", ""), 1, false, same, "nobody has noted a server yet"),
            (("a", "s"), ("a", "", "s"), 1, false, same, "the server does not tell"),
            (("a", "s"), ("a", "t", "t"), 1, false, doubtful, "another has noticed it before"),
            (("a", "s"), ("a", "t", "s"), 1, false, doubtful, "nobody has"),
            (("a", "s"), ("a", "s", "t"), 1, false, doubtful, "there was another in between"),
            (("a", "s"), ("b", "s", "s"), 1, false, lost, "another log"),
            (("a", "s"), ("", "s", "s"), 1, false, lost, "a log without a name"),
            (("a", "s"), ("a", "s", "s"), 8, true, lost, "records are gone that were not read"),
            (("a", "s"), ("a", "s", "s"), 5, true, same, "they had been read"),
            (("", ""), ("a", "s", "s"), 1, false, begun(None, false), "the first contact"),
            (
                ("", ""),
                ("a", "s", "s"),
                8,
                true,
                begun(Some(place(8)), false),
                "not from the start",
            ),
            (("", ""), ("a", "t", "s"), 1, false, begun(None, true), "no one saw the fail-over"),
            (("", ""), ("", "s", ""), 1, false, lost, "a gateway died before it named the log"),
        ] {
            let seen = Seen {
                last: place(5),
                identity: text(seen.0),
                server: text(seen.1),
                ..Seen::default()
            };
            let extent = Extent { newest: place(9), first: Some(place(first)), trimmed };
            let found = Found {
                identity: text(found.0),
                extent: Some(extent),
                server: text(found.1),
                noted: text(found.2),
            };
            assert_eq!(seen.since(&found), expected, "{why}");
            let without = Found { extent: None, ..found };
            assert_eq!(seen.since(&without), Since::Lost { newest: Position::ZERO }, "no stream");
        }
    }
}
