//! Makes a failing run small enough to read.
//!
//! A schedule is changed in one way after another (fewer faults, fewer clients, fewer operations, shorter
//! times, a smaller world) and run again; a change stays if the same checker raises its alarm. Where a smaller
//! world fails no more by its own chance, a few other seeds of chance are tried with it: the window of a bug
//! may be narrow, and a small world is run in no time.
//!
//! Invariants:
//! 1. The schedule that is returned raises an alarm of the same checker as the one that was handed in.
//! 2. Equal schedules are made smaller in the same way: the bound is in events, not in time.

mod steps;
mod world;

use crate::checkers::Alarm;
use crate::scenarios::RunOptions;
use crate::schedule::{Plan, Schedule};
use crate::world::Outcome;

/// Events that all runs together may have, about a minute of work.
const EVENTS_MAX: u64 = 30_000_000;

/// How large a schedule and the run of it are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Size {
    /// Events until the alarm.
    pub events: u64,
    /// Faults of the schedule; of a plan of steps, the steps.
    pub faults: usize,
    /// Clients of the schedule.
    pub clients: usize,
    /// True time until the alarm, in nanoseconds.
    pub time: u64,
}

/// A schedule that was made smaller.
#[derive(Debug)]
pub struct Shrunk {
    /// The small schedule.
    pub schedule: Schedule,
    /// The alarm of its run.
    pub alarm: Alarm,
    /// How large it was.
    pub before: Size,
    /// How large it is.
    pub after: Size,
    /// How many runs it took.
    pub runs: u64,
}

/// Runs a schedule up to an event.
type Runner<'a> = &'a dyn Fn(&Schedule, Option<u64>) -> Outcome;

/// Makes a failing schedule smaller; `progress` hears of every step forward. `None` if it does not fail.
pub fn shrink(schedule: &Schedule, progress: &mut dyn FnMut(&Size, u64)) -> Option<Shrunk> {
    let run =
        |schedule: &Schedule, until| schedule.run(&RunOptions { until, ..RunOptions::default() });
    shrink_by(&run, schedule, progress)
}

fn shrink_by(
    run: Runner<'_>,
    schedule: &Schedule,
    progress: &mut dyn FnMut(&Size, u64),
) -> Option<Shrunk> {
    let outcome = run(schedule, None);
    let alarm = outcome.alarm.clone()?;
    let before = size(schedule, &outcome);
    let mut shrinker = Shrinker {
        run,
        checker: alarm.checker,
        best: schedule.clone(),
        alarm,
        size: before,
        runs: 1,
        events_left: EVENTS_MAX,
        progress,
    };
    shrinker.go();
    let Shrinker { best, alarm, size: after, runs, .. } = shrinker;
    Some(Shrunk { schedule: best, alarm, before, after, runs })
}

fn size(schedule: &Schedule, outcome: &Outcome) -> Size {
    let (faults, clients) = match &schedule.plan {
        Plan::World(plan) => (plan.faults.len(), plan.clients.len()),
        Plan::Steps(plan) => (plan.steps.len(), 0),
    };
    Size { events: outcome.events, faults, clients, time: outcome.time }
}

/// How long a changed run may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bound {
    /// A little longer than the best, because it has less in it.
    Longer,
    /// Shorter than the best.
    Shorter,
}

struct Shrinker<'a> {
    run: Runner<'a>,
    checker: &'static str,
    best: Schedule,
    alarm: Alarm,
    size: Size,
    runs: u64,
    events_left: u64,
    progress: &'a mut dyn FnMut(&Size, u64),
}

impl Shrinker<'_> {
    fn go(&mut self) {
        // A second round finds what became possible by the first.
        for _ in 0..4 {
            let before = self.size;
            match self.best.plan {
                Plan::World(_) => self.shrink_world(),
                Plan::Steps(_) => self.shrink_steps(),
            }
            if self.size == before {
                break;
            }
        }
    }

    fn is_spent(&self) -> bool {
        self.events_left == 0
    }

    /// Runs a changed schedule and keeps it if it fails in the same way.
    fn attempt(&mut self, candidate: Schedule, bound: Bound) -> bool {
        if self.is_spent() || candidate == self.best {
            return false;
        }
        let until = match bound {
            Bound::Longer => self.size.events + self.size.events / 4 + 10,
            Bound::Shorter => self.size.events.saturating_sub(1),
        };
        let outcome = (self.run)(&candidate, Some(until));
        self.runs += 1;
        // A run costs something even where it has no events.
        self.events_left = self.events_left.saturating_sub(outcome.events + 200);
        let Some(alarm) = outcome.alarm.clone().filter(|alarm| alarm.checker == self.checker)
        else {
            return false;
        };
        self.size = size(&candidate, &outcome);
        self.alarm = alarm;
        self.best = candidate;
        (self.progress)(&self.size, self.runs);
        true
    }

    /// The same, and where it does not fail, with a few other seeds of chance.
    fn attempt_by_luck(&mut self, candidate: &Schedule, bound: Bound, tries: u64) -> bool {
        self.attempt(candidate.clone(), bound)
            || (1..=tries).any(|luck| {
                let seed = candidate.seed.wrapping_add(luck);
                self.attempt(Schedule { seed, ..candidate.clone() }, bound)
            })
    }

    /// Returns how often other chance is tried where a smaller schedule does not fail: a small world costs
    /// little.
    fn tries(&self) -> u64 {
        (20_000 / self.size.events.max(1)).clamp(1, 6)
    }

    /// Looks for other chance by which the same plan fails sooner.
    fn try_luck(&mut self, tries: u64) {
        for luck in 1..=tries {
            let seed = self.best.seed.wrapping_add(luck);
            self.attempt(Schedule { seed, ..self.best.clone() }, Bound::Shorter);
        }
    }

    /// Takes away as many items as it can, by halves first and then by ever smaller parts.
    fn take_away<T: Clone>(
        &mut self,
        items: fn(&Schedule) -> &Vec<T>,
        items_mut: fn(&mut Schedule) -> &mut Vec<T>,
    ) {
        let mut part = items(&self.best).len().div_ceil(2);
        while part > 0 {
            let mut from = 0;
            while from < items(&self.best).len() {
                let mut candidate = self.best.clone();
                let list = items_mut(&mut candidate);
                list.drain(from..(from + part).min(list.len()));
                let tries = self.tries();
                if !self.attempt_by_luck(&candidate, Bound::Longer, tries) {
                    from += part;
                }
                if self.is_spent() {
                    return;
                }
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
    }
}

#[cfg(test)]
mod tests;
