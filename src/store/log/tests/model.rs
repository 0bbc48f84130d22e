//! The log's rule under fault. Small worlds of two or three gateways with real tables, a model of the
//! Redis that they share, and clients who fetch and purge, are searched for a state in which a gateway
//! serves what an invalidation covers that it has applied, or that it must have applied.
//!
//! A gateway's steps are those of `shared_log` and `Store`, one command to Redis each; the table, and what
//! a reader concludes from what it finds, are the program's own. Not in the model is time: that a
//! response counts as confirmed for so long without contact has proofs of its own in `lag`. Nor is
//! whether a real server does what this one does: for that, `tests/fleet.rs` has the same faults befall
//! real processes.
//!
//! Each scene goes through so many states, the nearest first; with `LARDER_STEPS` in the environment,
//! as `tests/run --long` has it, through ten times as many, if there are.

mod gateway;
mod purge;
mod redis;
mod search;
mod world;

use self::purge::{Purge, What};
use self::search::{by_chance, every_state};

/// The records that one command reads.
const BATCH: usize = 1;

/// What may happen to Redis.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Flush,
    /// As [`Fault::Flush`], within a millisecond or with the clock set back: ids are given out once more.
    FlushBehind,
    RestartEmpty,
    /// Its newest records are lost, so many.
    FailOver(usize),
    /// As [`Fault::FailOver`], with a clock that is behind the former server's, so that the ids of the lost
    /// records are given out once more.
    FailOverBehind(usize),
    /// The oldest record is dropped to make room.
    Trim,
    ClockAhead,
    ClockBack,
}

/// A part of the rule that is left out, to see that its want is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// A response bears the place where the log is when its fetch has ended.
    LeaseAfterFetch,
    /// Redis lost the log, and what was stored before stays.
    KeepsWhatWasLost,
    /// A loss that another gateway told the fleet of is still being told of at the next one.
    DistrustsOnce,
    /// Only ids tell whether it is the same log.
    NoIdentity,
    /// A fail-over is taken for a mere cut.
    TrustsAnyServer,
    /// A gateway that begins after a fail-over which no other has noticed takes the log for whole.
    NotesNoServer,
    /// The record that a fail-over calls for may have the id of one that was lost.
    DoubtsBelow,
    /// What was born at a place that the gateway gave itself goes to L2.
    UnsharedInL2,
    /// What L2 holds is judged by places alone, also where this gateway has records that others lack.
    OwnRecordsInL2,
    /// L2 is used before the log has been read to its end.
    L2WhileBehind,
    /// What L2 holds from a place that the gateway has not reached is believed.
    UnknownPlaces,
    /// A record counts from its id, also where this gateway has given itself later places.
    BelowOwnPlaces,
    /// An id is taken for a new one that was there before.
    PlacesFromBefore,
    /// A process that stood still reads on as if nothing could have been trimmed meanwhile.
    ReadsOnAfterAll,
}

/// What may happen in a world, and how often.
#[derive(Clone, Copy)]
struct Scene {
    broken: Option<Broken>,
    /// The gateways have not connected yet.
    cold: bool,
    /// The first gateway was cut off before it could tell that there is no log, and another told of it.
    told_by_another: bool,
    gateways: usize,
    resources: usize,
    kinds: &'static [Purge],
    /// Some purges are without Redis.
    alone: bool,
    kinds_of_faults: &'static [Fault],
    fetches: u8,
    purges: u8,
    cuts: u8,
    faults: u8,
    restarts: u8,
    /// How many steps by chance are one way.
    length: usize,
}

const TAG: Purge = Purge::hard(What::Mark(0));

const SCENE: Scene = Scene {
    broken: None,
    cold: false,
    told_by_another: false,
    gateways: 2,
    resources: 1,
    kinds: &[TAG],
    alone: false,
    kinds_of_faults: &[],
    fetches: 1,
    purges: 1,
    cuts: 0,
    faults: 0,
    restarts: 0,
    length: 200,
};

const TWO_TAGS: &[Purge] = &[TAG, Purge::hard(What::Mark(1))];
const PURGES: &[Purge] =
    &[TAG, Purge::soft(What::Mark(1)), Purge::hard(What::Pattern), Purge::STALE];
const FAULTS: &[Fault] = &[
    Fault::Flush,
    Fault::RestartEmpty,
    Fault::FailOver(1),
    Fault::FailOver(2),
    Fault::Trim,
    Fault::ClockAhead,
];

const ONE: Scene = Scene { gateways: 1, ..SCENE };
const ALONE: Scene = Scene { alone: true, purges: 2, ..SCENE };
const FLUSH: Scene = Scene { kinds_of_faults: &[Fault::FlushBehind], faults: 1, ..SCENE };
const FLUSH_AGAIN: Scene = Scene { told_by_another: true, ..FLUSH };
const RESTART: Scene = Scene { kinds_of_faults: &[Fault::RestartEmpty], faults: 1, ..SCENE };
const FAIL_OVER: Scene = Scene { kinds_of_faults: &[Fault::FailOver(1)], faults: 1, ..SCENE };
const TRIM: Scene = Scene { kinds_of_faults: &[Fault::Trim], faults: 2, ..SCENE };
const BEHIND: Scene = Scene {
    purges: 2,
    kinds_of_faults: &[Fault::FailOverBehind(1), Fault::FailOverBehind(2)],
    faults: 1,
    ..ONE
};

fn is_long() -> bool {
    std::env::var_os("LARDER_STEPS").is_some()
}

fn holds(scene: Scene) {
    let most = if is_long() { 500_000 } else { 50_000 };
    let searched = every_state(&scene, most);
    println!("{} states, all there are: {}", searched.states, searched.is_all);
    if let Some(breach) = searched.breach {
        panic!("{breach}");
    }
    assert!(searched.found.valid > 0 && searched.found.gone > 0, "{searched:?}");
}

#[test]
fn holds_for_purges_of_each_kind() {
    holds(Scene { kinds: PURGES, purges: 2, resources: 2, ..SCENE });
}

#[test]
fn holds_for_purges_without_redis() {
    holds(ALONE);
}

#[test]
fn holds_while_connections_break() {
    holds(Scene { cuts: 1, ..ALONE });
}

#[test]
fn holds_where_gateways_begin_and_end() {
    holds(Scene { cold: true, ..SCENE });
    holds(Scene { restarts: 1, ..SCENE });
}

#[test]
fn holds_where_redis_loses_everything() {
    holds(FLUSH);
    holds(FLUSH_AGAIN);
    holds(RESTART);
    let kinds_of_faults = &[Fault::Flush];
    holds(Scene { kinds_of_faults, restarts: 1, cuts: 1, faults: 2, ..ONE });
}

#[test]
fn holds_where_redis_loses_the_newest_records() {
    holds(FAIL_OVER);
    holds(Scene { gateways: 1, purges: 2, restarts: 1, faults: 2, ..FAIL_OVER });
    holds(BEHIND);
}

#[test]
fn holds_where_records_are_trimmed() {
    holds(TRIM);
    holds(Scene { restarts: 1, ..TRIM });
}

#[test]
fn holds_where_the_clock_is_set_back() {
    holds(Scene { kinds_of_faults: &[Fault::ClockBack], faults: 1, ..ALONE });
    holds(Scene { kinds_of_faults: &[Fault::ClockBack, Fault::FlushBehind], faults: 2, ..ONE });
}

#[test]
fn holds_on_long_ways_by_chance() {
    let scene = Scene {
        gateways: 3,
        resources: 2,
        kinds: PURGES,
        alone: true,
        kinds_of_faults: FAULTS,
        fetches: 9,
        purges: 7,
        cuts: 4,
        faults: 4,
        ..SCENE
    };
    let steps = if is_long() { 1_000_000 } else { 15_000 };
    for seed in 0..8 {
        for scene in [
            scene,
            Scene { restarts: 2, ..scene },
            Scene { kinds_of_faults: FAIL_OVER.kinds_of_faults, ..scene },
            Scene { kinds_of_faults: &[Fault::ClockBack, Fault::Trim], ..scene },
        ] {
            if let Some(breach) = by_chance(&scene, seed, steps).breach {
                panic!("{breach}");
            }
        }
    }
}

#[test]
fn finds_whatever_part_of_the_rule_is_left_out() {
    for (broken, scene) in [
        (Broken::LeaseAfterFetch, ONE),
        (Broken::KeepsWhatWasLost, FLUSH),
        (Broken::DistrustsOnce, FLUSH_AGAIN),
        (Broken::NoIdentity, FLUSH),
        (Broken::PlacesFromBefore, FLUSH),
        (Broken::UnknownPlaces, FLUSH),
        (Broken::TrustsAnyServer, FAIL_OVER),
        (Broken::NotesNoServer, Scene { gateways: 1, restarts: 1, ..FAIL_OVER }),
        (Broken::DoubtsBelow, BEHIND),
        (Broken::ReadsOnAfterAll, TRIM),
        (Broken::L2WhileBehind, Scene { restarts: 1, ..SCENE }),
        (Broken::UnsharedInL2, ALONE),
        (Broken::OwnRecordsInL2, Scene { kinds: TWO_TAGS, ..ALONE }),
        (Broken::BelowOwnPlaces, ALONE),
    ] {
        let searched = every_state(&Scene { broken: Some(broken), ..scene }, 100_000);
        assert!(searched.breach.is_some(), "{broken:?} is not found in {} states", searched.states);
    }
}
