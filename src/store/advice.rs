//! What Redis means by an error, and what whoever runs it can do about that.

use std::collections::HashSet;

use redis::RedisError;

use crate::store::connection::Trouble;

/// So many reasons are told before all is well again.
const MOST_REASONS: usize = 8;

/// The reasons for one trouble that the log has told. Each is told once.
#[derive(Debug, Default)]
pub(super) struct Told(HashSet<String>);

impl Told {
    /// Whether this reason is to be told.
    pub(super) fn is_news(&mut self, trouble: &Trouble) -> bool {
        self.0.len() < MOST_REASONS && self.0.insert(trouble.to_string())
    }

    /// All is well. Answers whether anything was told before.
    pub(super) fn is_over(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }
}

/// What Redis calls the error that it answered with, as `OOM`; the first, if there are several.
fn code(trouble: &Trouble) -> Option<String> {
    let (Trouble::Failed(error) | Trouble::Refused(error)) = trouble else { return None };
    code_of(error)
}

fn code_of(error: &RedisError) -> Option<String> {
    let errors = error.clone().into_server_errors()?;
    errors.first().map(|(_, error)| error.code().to_owned())
}

/// Whether Redis answered, if only with an error: it can be asked for something else.
pub(super) fn is_answer(trouble: &Trouble) -> bool {
    code(trouble).is_some()
}

/// Whether the server that answered is a replica.
pub(super) fn is_of_replica(trouble: &Trouble) -> bool {
    code(trouble).is_some_and(|code| code == "READONLY")
}

/// Whether what lies there is not what Larder would have put there.
pub(super) fn is_of_other_type(trouble: &Trouble) -> bool {
    code(trouble).is_some_and(|code| code == "WRONGTYPE")
}

/// Whether Redis would refuse any other write as well.
pub(super) fn forbids_writes(trouble: &Trouble) -> bool {
    let forbids =
        |code: String| matches!(&*code, "OOM" | "READONLY" | "MISCONF" | "NOREPLICAS" | "NOPERM");
    code(trouble).is_some_and(forbids)
}

/// What to do about it, where that is known.
pub(super) fn advice(trouble: &Trouble) -> Option<&'static str> {
    if let Trouble::Refused(_) = trouble {
        return Some("see `username` and `password` in `[cache.l2]`");
    }
    Some(match &*code(trouble)? {
        "OOM" => {
            "Redis is full: raise its `maxmemory`, and let `maxmemory-policy` be `volatile-lfu`"
        }
        "READONLY" => {
            "this Redis is a replica: name the master in `[cache.l2] redis`, or the sentinels"
        }
        "WRONGTYPE" => {
            "another program has written to one of `keys`: delete it, or take another `[cache] namespace`"
        }
        "MISCONF" => "Redis cannot save what it holds, its own log says why",
        "NOREPLICAS" => "Redis has fewer replicas than its `min-replicas-to-write`",
        "NOPERM" => {
            "the user of Redis may do too little, docs/fleet.md has the rights that are needed"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use redis::{Value, parse_redis_value};

    use super::*;

    fn answer(line: &str) -> Trouble {
        let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let Value::ServerError(error) = value else { panic!("{value:?} is no error") };
        Trouble::Failed(error.into())
    }

    #[test]
    fn errors_mean_something() {
        for (line, writes, replica, says) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", true, false, "full"),
            ("READONLY You can't write against a read only replica.", true, true, "master"),
            ("MISCONF Redis is configured to save RDB snapshots", true, false, "save"),
            ("NOREPLICAS Not enough good replicas to write.", true, false, "min-replicas"),
            ("NOPERM User larder has no permissions to run the 'set'", true, false, "rights"),
            ("WRONGTYPE Operation against a key", false, false, "delete it"),
            ("ERR unknown command", false, false, ""),
            ("LOADING Redis is loading the dataset in memory", false, false, ""),
        ] {
            let trouble = answer(line);
            assert!(is_answer(&trouble), "{line}");
            let found = (forbids_writes(&trouble), is_of_replica(&trouble));
            assert_eq!(found, (writes, replica), "{line}");
            assert!(advice(&trouble).unwrap_or_default().contains(says), "{line}");
            assert_eq!(advice(&trouble).is_some(), !says.is_empty(), "{line}");
        }
        assert!(!is_answer(&Trouble::Timeout) && !is_answer(&Trouble::Down));
    }

    #[test]
    fn a_reason_is_told_once_until_all_is_well() {
        let mut told = Told::default();
        assert!(!told.is_over());
        assert!(told.is_news(&Trouble::Timeout));
        assert!(!told.is_news(&Trouble::Timeout));
        assert!(told.is_news(&Trouble::Down));
        assert!(told.is_over() && !told.is_over());
        assert!(told.is_news(&Trouble::Timeout));
    }
}
