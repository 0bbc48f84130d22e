//! Ways through a world: every one, or many long ones by chance.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write as _;

use super::Scene;
use super::world::{Action, Breach, Found, World};

/// What came of a search.
#[derive(Debug)]
pub(super) struct Searched {
    pub(super) states: usize,
    /// There are no others.
    pub(super) is_all: bool,
    pub(super) found: Found,
    /// The rule broken, and how it came to that.
    pub(super) breach: Option<String>,
}

/// Every state that can come up, the nearest first, each once; until they are so many, or the rule is
/// broken.
pub(super) fn every_state(scene: &Scene, most: usize) -> Searched {
    let mut found = Found::default();
    let mut known = HashSet::<_, foldhash::fast::RandomState>::default();
    // How each state was come to: from which one, by what.
    let mut ways: Vec<(usize, Option<Action>)> = vec![(0, None)];
    let world = World::new(scene);
    known.insert(world.fingerprint());
    let mut open = VecDeque::from([(world, 0)]);
    while known.len() < most
        && let Some((world, from)) = open.pop_front()
    {
        for action in world.actions(scene) {
            let mut next = world.copy();
            next.act(action);
            if !known.insert(next.fingerprint()) {
                continue;
            }
            ways.push((from, Some(action)));
            if let Err(breach) = next.check(&mut found) {
                let breach = Some(told(&breach, &way(&ways)));
                return Searched { states: known.len(), is_all: false, found, breach };
            }
            if next.matters() {
                open.push_back((next, ways.len() - 1));
            }
        }
    }
    Searched { states: known.len(), is_all: open.is_empty(), found, breach: None }
}

/// The actions that led to the state found last.
fn way(ways: &[(usize, Option<Action>)]) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut at = ways.len() - 1;
    while let (from, Some(action)) = ways[at] {
        actions.push(action);
        at = from;
    }
    actions.reverse();
    actions
}

/// Goes on by chance, from a new world whenever nothing may happen in one any more.
pub(super) fn by_chance(scene: &Scene, seed: u64, steps: usize) -> Searched {
    let mut chance = Chance(seed);
    let mut found = Found::default();
    let (mut world, mut way) = (World::new(scene), Vec::new());
    for states in 0..steps {
        // So long a way has used up what may happen, save reading.
        if way.len() > scene.length {
            (world, way) = (World::new(scene), Vec::new());
        }
        let actions = world.actions(scene);
        let action = actions[chance.below(actions.len())];
        way.push(action);
        world.act(action);
        if let Err(breach) = world.check(&mut found) {
            let breach = Some(format!("seed {seed}: {}", told(&breach, &way)));
            return Searched { states, is_all: false, found, breach };
        }
    }
    Searched { states: steps, is_all: false, found, breach: None }
}

fn told(breach: &Breach, way: &[Action]) -> String {
    let mut text = breach.0.clone();
    for action in &way[way.len().saturating_sub(50)..] {
        write!(text, "\n  {action:?}").unwrap();
    }
    text
}

/// Numbers that look like chance, the same ones for the same seed (`SplitMix64`).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % bound as u64).unwrap()
    }
}
