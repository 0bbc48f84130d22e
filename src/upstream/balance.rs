//! Which of an upstream's servers is asked: choices as functions of values.
//!
//! What is chosen from is everything that is known of the servers at that moment. A backup is chosen
//! only when no primary server can be asked; that all of those are busy is no reason.

/// A server that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each may be without the others")]
pub(super) struct Candidate {
    /// Its share of the requests, in proportion to the others'; 0 counts as 1.
    pub(super) weight: u32,
    /// Stands for the server's name, the same in every gateway.
    pub(super) hash: u64,
    pub(super) is_backup: bool,
    /// As far as is known, it answers.
    pub(super) is_usable: bool,
    /// It has had this request already.
    pub(super) is_tried: bool,
    /// It has as many requests as it may.
    pub(super) is_full: bool,
    /// It has so many requests.
    pub(super) in_flight: usize,
}

/// Who is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The candidate at this place.
    Place(usize),
    /// One of those that have as many requests as they may.
    Full,
    /// Nobody.
    Nobody,
}

/// How one of several is chosen.
pub(super) enum By<'a> {
    /// In turn. The turns of all candidates, in their order, which begin with 0.
    Turns(&'a mut [i64]),
    /// Of two that are drawn, the one with fewer requests in flight for its weight.
    Load {
        /// Any number, another each time.
        random: u64,
    },
    /// What this falls to: the same one for the same number, as long as it can be asked.
    Hash(u64),
}

/// Who is to be asked. `has_nothing_to_lose`: if none is usable that has not had the request, the others are asked, too.
pub(super) fn choose(candidates: &[Candidate], by: By<'_>, has_nothing_to_lose: bool) -> Choice {
    if let [only] = candidates {
        return of_one(only, has_nothing_to_lose);
    }
    let eligible = ORDER.iter().filter(|(is_usable, _)| *is_usable || has_nothing_to_lose);
    let mut eligible = eligible.map(|(is_usable, is_backup)| {
        let all = candidates.iter().enumerate();
        let these = all.filter(|(_, it)| {
            !it.is_tried && it.is_usable == *is_usable && it.is_backup == *is_backup
        });
        these.collect::<Vec<_>>()
    });
    let Some(mut eligible) = eligible.find(|these| !these.is_empty()) else {
        return Choice::Nobody;
    };
    eligible.retain(|(_, candidate)| !candidate.is_full);
    let chosen = match by {
        By::Turns(turns) => in_turn(&eligible, turns),
        By::Load { random } => of_two(&eligible, random),
        By::Hash(hash) => by_hash(&eligible, hash),
    };
    chosen.map_or(Choice::Full, Choice::Place)
}

/// The same where there is one, as there is of most upstreams: without memory for a list.
fn of_one(only: &Candidate, has_nothing_to_lose: bool) -> Choice {
    if only.is_tried || !(only.is_usable || has_nothing_to_lose) {
        Choice::Nobody
    } else if only.is_full {
        Choice::Full
    } else {
        Choice::Place(0)
    }
}

/// Who is asked before whom: whether they are usable, and backups.
const ORDER: [(bool, bool); 4] = [(true, false), (true, true), (false, false), (false, true)];

type Eligible<'a> = [(usize, &'a Candidate)];

/// Smooth weighted round robin: each turn everyone gains its weight, and whoever has most then is
/// chosen and pays what all have gained. So one of weight 5 among two of weight 1 comes five times in
/// seven, and not five times in a row.
fn in_turn(eligible: &Eligible<'_>, turns: &mut [i64]) -> Option<usize> {
    let mut total = 0;
    let mut most: Option<(usize, i64)> = None;
    for (place, candidate) in eligible {
        let turn = turns.get_mut(*place)?;
        let weight = i64::from(weight(candidate));
        *turn += weight;
        total += weight;
        if most.is_none_or(|(_, most)| *turn > most) {
            most = Some((*place, *turn));
        }
    }
    let (place, _) = most?;
    *turns.get_mut(place)? -= total;
    Some(place)
}

fn weight(candidate: &Candidate) -> u32 {
    candidate.weight.max(1)
}

/// The power of two choices: nearly as even as the least of all, without everyone rushing to the one
/// that has just come free.
fn of_two(eligible: &Eligible<'_>, random: u64) -> Option<usize> {
    let count = eligible.len() as u64;
    let random = mix(random);
    let first = (random >> 32) % count.max(1);
    // Another one, if there is another.
    let second =
        (first + 1 + (random & 0xffff_ffff) % count.saturating_sub(1).max(1)) % count.max(1);
    let drawn = |place: u64| eligible.get(usize::try_from(place).ok()?);
    let (one, other) = (drawn(first)?, drawn(second)?);
    // Less load for its weight, without a division.
    let load = |of: &Candidate, by: &Candidate| {
        (of.in_flight as u64).saturating_add(1).saturating_mul(weight(by).into())
    };
    let is_other = load(other.1, one.1) < load(one.1, other.1);
    Some(if is_other { other.0 } else { one.0 })
}

/// Weighted rendezvous hashing: of all scores that the hash has with the servers the highest wins. When a
/// server goes, what fell to it is shared among the others, and nothing else moves.
fn by_hash(eligible: &Eligible<'_>, hash: u64) -> Option<usize> {
    let score = |candidate: &Candidate| {
        // Evenly between 0 and 1, neither included.
        let drawn = u32::try_from(mix(hash ^ candidate.hash) >> 32).unwrap_or(u32::MAX);
        let drawn = (f64::from(drawn) + 0.5) / (f64::from(u32::MAX) + 1.0);
        f64::from(weight(candidate)) / -drawn.ln()
    };
    let scores = eligible.iter().map(|(place, candidate)| (*place, score(candidate)));
    scores.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(place, _)| place)
}

/// A number in which each bit depends on all of this one's (the finaliser of `SplitMix64`).
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_weights(weights: &[u32]) -> Vec<Candidate> {
        let candidate = |(place, weight): (usize, &u32)| Candidate {
            weight: *weight,
            hash: mix(place as u64 + 100),
            is_backup: false,
            is_usable: true,
            is_tried: false,
            is_full: false,
            in_flight: 0,
        };
        weights.iter().enumerate().map(candidate).collect()
    }

    fn place_of(candidates: &[Candidate], by: By<'_>, has_nothing_to_lose: bool) -> Option<usize> {
        match choose(candidates, by, has_nothing_to_lose) {
            Choice::Place(place) => Some(place),
            Choice::Full | Choice::Nobody => None,
        }
    }

    #[test]
    fn who_is_full_is_waited_for_and_no_reason_to_ask_a_backup() {
        for (full, by_turn) in [
            (&[][..], Choice::Place(0)),
            (&[0], Choice::Place(1)),
            (&[0, 1], Choice::Full),
            (&[0, 1, 2], Choice::Full),
        ] {
            let mut candidates = of_weights(&[1, 1, 1]);
            candidates[2].is_backup = true;
            for place in full {
                candidates[*place].is_full = true;
            }
            let chosen = choose(&candidates, By::Turns(&mut [0; 3]), true);
            assert_eq!(chosen, by_turn, "{full:?}");
        }
    }

    #[test]
    fn turns_are_even_and_smooth() {
        for (weights, expected) in [
            (&[1][..], "0000"),
            (&[1, 1, 1], "012012"),
            (&[5, 1, 1], "0010200"),
            (&[1, 2], "101101"),
            (&[2, 3, 1], "101201"),
        ] {
            let candidates = of_weights(weights);
            let mut turns = vec![0; weights.len()];
            let chosen: String = (0..expected.len())
                .map(|_| place_of(&candidates, By::Turns(&mut turns), true).unwrap().to_string())
                .collect();
            assert_eq!(chosen, expected, "{weights:?}");
        }
    }

    #[test]
    fn only_who_can_be_asked_is_chosen() {
        // `p` is a primary server and `b` a backup; in capitals one that is not usable, with a `-` one that
        // was tried.
        for (servers, expected, without_loss) in [
            ("", None, None),
            ("p-", None, None),
            ("p- p", Some(1), Some(1)),
            ("b p", Some(1), Some(1)),
            ("b p-", Some(0), Some(0)),
            ("b- p-", None, None),
            ("b- p- b", Some(2), Some(2)),
            ("P", None, Some(0)),
            ("P p", Some(1), Some(1)),
            ("P b", Some(1), Some(1)),
            ("B P p-", None, Some(1)),
            ("B P- p-", None, Some(0)),
        ] {
            let servers: Vec<_> = servers.split_whitespace().collect();
            let mut candidates = of_weights(&vec![1; servers.len()]);
            for (candidate, server) in candidates.iter_mut().zip(&servers) {
                candidate.is_usable = server.starts_with(['p', 'b']);
                candidate.is_backup = server.starts_with(['b', 'B']);
                candidate.is_tried = server.ends_with('-');
            }
            for (has_nothing_to_lose, expected) in [(false, expected), (true, without_loss)] {
                let choose = |by: By<'_>| place_of(&candidates, by, has_nothing_to_lose);
                let mut turns = vec![0; servers.len()];
                assert_eq!(choose(By::Turns(&mut turns)), expected, "{servers:?}");
                for number in 0..20 {
                    assert_eq!(choose(By::Load { random: number }), expected, "{servers:?}");
                    assert_eq!(choose(By::Hash(number)), expected, "{servers:?}");
                }
            }
        }
    }

    #[test]
    fn of_two_the_one_with_less_to_do_for_its_weight_is_chosen() {
        for (servers, expected) in [
            ([(1, 0), (1, 1)], 0),
            ([(1, 7), (1, 6)], 1),
            ([(1, 2), (3, 4)], 1),
            ([(1, 0), (3, 4)], 0),
            ([(1, 100), (1000, 0)], 1),
        ] {
            let mut candidates = of_weights(&servers.map(|(weight, _)| weight));
            for (candidate, (_, in_flight)) in candidates.iter_mut().zip(servers) {
                candidate.in_flight = in_flight;
            }
            for random in 0..20 {
                let chosen = place_of(&candidates, By::Load { random }, true);
                assert_eq!(chosen, Some(expected), "{servers:?}");
            }
        }
    }

    #[test]
    fn the_one_with_most_to_do_is_never_chosen_by_load() {
        let mut candidates = of_weights(&[1, 1, 1, 1]);
        candidates[2].in_flight = 1;
        let mut seen = [0; 4];
        for random in 0..1000 {
            seen[place_of(&candidates, By::Load { random }, true).unwrap()] += 1;
        }
        assert_eq!(seen[2], 0, "{seen:?}");
        assert!([0, 1, 3].iter().all(|place| seen[*place] > 200), "{seen:?}");
    }

    #[test]
    fn what_falls_to_a_server_is_by_its_weight_and_moves_only_with_it() {
        const KEYS: u64 = 10_000;
        let candidates = of_weights(&[1, 2, 3, 4]);
        let mut without = candidates.clone();
        without[1].is_tried = true;
        let (mut seen, mut moved) = ([0; 4], [0; 4]);
        for key in 0..KEYS {
            let chosen = place_of(&candidates, By::Hash(key), true).unwrap();
            let other = place_of(&without, By::Hash(key), true).unwrap();
            seen[chosen] += 1;
            if chosen == 1 {
                moved[other] += 1;
            } else {
                assert_eq!(chosen, other, "only what fell to the second moves");
            }
        }
        for (seen, expected) in seen.iter().zip([1000, 2000, 3000, 4000]) {
            assert!(i32::abs_diff(*seen, expected) < 200, "{seen} for {expected}");
        }
        for (moved, expected) in moved.iter().zip([250, 0, 750, 1000]) {
            assert!(i32::abs_diff(*moved, expected) < 150, "{moved} for {expected}");
        }
    }
}
