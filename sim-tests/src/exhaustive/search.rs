//! The search: breadth first over every state of a model that differs from those before it.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::process;

/// A promise that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Which one: the id of an invariant.
    pub promise: &'static str,
    /// What was seen.
    pub message: String,
}

impl Broken {
    /// Says what promise is broken.
    pub fn new(promise: &'static str, message: impl Into<String>) -> Self {
        Self { promise, message: message.into() }
    }
}

/// Steps with the states behind them, or the step that breaks a promise.
pub type Steps<Step, State> = Result<Vec<(Step, State)>, (Step, Broken)>;

/// A small world, of which every behaviour is looked at.
pub trait Model {
    /// Everything that what happens next depends on.
    type State: Clone;
    /// What may happen, for a person to read.
    type Step: Display;

    /// Returns the state in which nothing has happened.
    ///
    /// # Errors
    /// [`Broken`] where it cannot be brought about.
    fn begin(&mut self) -> Result<Self::State, Broken>;

    /// Returns everything that may happen in a state, each with the state behind it, in the same
    /// order at every call.
    ///
    /// # Errors
    /// [`Broken`] where one of them breaks a promise.
    fn steps(&mut self, state: &Self::State) -> Steps<Self::Step, Self::State>;

    /// Returns a number that two states share only if the same follows from both.
    fn key(&self, state: &Self::State) -> u64;

    /// Holds a state against what is promised.
    ///
    /// # Errors
    /// [`Broken`] where a promise does not hold.
    fn check(&mut self, state: &Self::State) -> Result<(), Broken>;

    /// Returns what the model counted.
    fn counts(&self) -> Vec<(&'static str, u64)>;
}

/// How far a search goes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most distinct states.
    pub states: usize,
    /// Most steps from the beginning.
    pub depth: u32,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Distinct states.
    pub states: usize,
    /// Steps that were taken, those that led to a known state included.
    pub transitions: u64,
    /// Most steps from the beginning to a state on the shortest way.
    pub depth: u32,
    /// States in which nothing can happen any more.
    pub terminal: u64,
    /// Whether every state that can be reached was reached.
    pub closed: bool,
    /// What the model counted.
    pub counts: Vec<(&'static str, u64)>,
    /// The first promise that was broken, with the steps that lead there.
    pub broken: Option<(Broken, Vec<String>)>,
}

/// How a state was reached first: the state before, and which of its steps.
#[derive(Clone, Copy)]
struct Origin {
    before: u32,
    step: u32,
    depth: u32,
}

/// Looks at every state of a model that is reached within the bounds, nearest first.
pub fn search<M: Model>(model: &mut M, bounds: Bounds) -> Report {
    let mut found = Found::default();
    let broken = found.run(model, bounds).err().map(|(broken, at, last)| {
        let mut way = found.way(model, at);
        way.extend(last);
        (broken, way)
    });
    Report {
        states: found.origins.len(),
        transitions: found.transitions,
        depth: found.origins.iter().map(|origin| origin.depth).max().unwrap_or(0),
        terminal: found.terminal,
        closed: broken.is_none() && !found.is_cut,
        counts: model.counts(),
        broken,
    }
}

#[derive(Default)]
struct Found {
    known: BTreeSet<u64>,
    origins: Vec<Origin>,
    transitions: u64,
    terminal: u64,
    is_cut: bool,
}

/// A broken promise, the state in which it broke or before which, and the step that broke it.
type Failure = (Broken, u32, Option<String>);

impl Found {
    fn run<M: Model>(&mut self, model: &mut M, bounds: Bounds) -> Result<(), Failure> {
        let first = model.begin().map_err(|broken| (broken, 0, None))?;
        let mut open = VecDeque::new();
        self.known.insert(model.key(&first));
        self.origins.push(Origin { before: 0, step: 0, depth: 0 });
        model.check(&first).map_err(|broken| (broken, 0, None))?;
        open.push_back((0, first));
        while let Some((at, state)) = open.pop_front() {
            let depth = self.origins[at as usize].depth + 1;
            let steps = quietly(|| model.steps(&state))
                .map_err(|panic| (panic, at, None))?
                .map_err(|(step, broken)| (broken, at, Some(step.to_string())))?;
            drop(state);
            self.terminal += u64::from(steps.is_empty());
            for (step, (_, next)) in steps.into_iter().enumerate() {
                self.transitions += 1;
                let key = model.key(&next);
                if self.known.contains(&key) {
                    continue;
                }
                if depth > bounds.depth || self.origins.len() >= bounds.states {
                    self.is_cut = true;
                    continue;
                }
                self.known.insert(key);
                let place = self.origins.len() as u32;
                self.origins.push(Origin { before: at, step: step as u32, depth });
                quietly(|| model.check(&next))
                    .and_then(|checked| checked)
                    .map_err(|broken| (broken, place, None))?;
                open.push_back((place, next));
            }
            if self.is_cut && self.origins.len() >= bounds.states {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Returns the steps that lead to a state.
    fn way<M: Model>(&self, model: &mut M, to: u32) -> Vec<String> {
        let mut places = Vec::new();
        let mut at = to;
        while at != 0 {
            let origin = self.origins[at as usize];
            places.push(origin.step);
            at = origin.before;
        }
        let mut words = Vec::new();
        let Ok(mut state) = model.begin() else { return words };
        for place in places.into_iter().rev() {
            let Ok(steps) = model.steps(&state) else { return words };
            let Some((step, next)) = steps.into_iter().nth(place as usize) else { return words };
            words.push(step.to_string());
            state = next;
        }
        words
    }
}

/// Turns a panic of the code under test into a broken promise.
fn quietly<T>(act: impl FnOnce() -> T) -> Result<T, Broken> {
    catch_unwind(AssertUnwindSafe(act))
        .map_err(|_| Broken::new("I41", format!("panicked: {}", process::take_panic())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two counters up to a bound, which never are `forbidden`.
    struct Counters {
        most: u8,
        forbidden: Option<(u8, u8)>,
    }

    impl Model for Counters {
        type State = (u8, u8);
        type Step = &'static str;

        fn begin(&mut self) -> Result<(u8, u8), Broken> {
            Ok((0, 0))
        }

        fn steps(&mut self, state: &(u8, u8)) -> Steps<&'static str, (u8, u8)> {
            let (left, right) = *state;
            let mut steps = Vec::new();
            if left < self.most {
                steps.push(("left", (left + 1, right)));
            }
            if right < self.most {
                steps.push(("right", (left, right + 1)));
            }
            Ok(steps)
        }

        fn key(&self, state: &(u8, u8)) -> u64 {
            u64::from(state.0) << 8 | u64::from(state.1)
        }

        fn check(&mut self, state: &(u8, u8)) -> Result<(), Broken> {
            if self.forbidden == Some(*state) {
                return Err(Broken::new("I00", "there it is"));
            }
            Ok(())
        }

        fn counts(&self) -> Vec<(&'static str, u64)> {
            Vec::new()
        }
    }

    const WIDE: Bounds = Bounds { states: 1_000, depth: 1_000 };

    #[test]
    fn every_state_is_reached_once_and_the_search_closes() {
        let report = search(&mut Counters { most: 3, forbidden: None }, WIDE);
        assert_eq!((report.states, report.transitions, report.depth), (16, 24, 6));
        assert_eq!((report.terminal, report.closed), (1, true));
    }

    #[test]
    fn a_bound_that_is_hit_leaves_the_search_open() {
        for bounds in [Bounds { states: 10, ..WIDE }, Bounds { depth: 5, ..WIDE }] {
            let report = search(&mut Counters { most: 3, forbidden: None }, bounds);
            assert!(!report.closed && report.states < 16, "{report:?}");
        }
    }

    #[test]
    fn a_broken_promise_is_told_with_a_shortest_way_to_it() {
        let report = search(&mut Counters { most: 3, forbidden: Some((1, 2)) }, WIDE);
        let (broken, way) = report.broken.expect("it is reached");
        assert_eq!((broken.promise, way.len()), ("I00", 3));
        assert!(!report.closed);
    }
}
