//! A run as data: what is drawn from a seed before anything happens, written down.
//!
//! A scenario draws a [`Schedule`] from a seed, and a run follows it. What happens by chance while it runs
//! (delays, torn writes, what a client does next) is drawn from the seed of the schedule by whoever needs it,
//! so that a schedule with one fault or client less is the same run as far as it can be. A schedule read
//! from a file means the same run on any later commit that keeps the order of events, whatever becomes of
//! the drawing.

mod error;
mod file;
mod profile;
mod steps;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

pub use error::ScheduleError;
pub use profile::Profile;
pub use steps::{SlicePlan, StepPlan, StepsPlan};
pub(crate) use world::GRACE;
pub use world::{ClientPlan, ClusterPlan, NodePlan, SnapshotPlan, Strike, Work, WorldPlan};

use crate::checkers::no_stop::NoStop;
use crate::checkers::{Alarm, Checker as _};
use crate::process::take_panic;
use crate::scenarios::{RunOptions, crash_points};
use crate::world::Outcome;

/// Everything that is decided before a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The scenario it belongs to.
    pub scenario: String,
    /// The seed of all that happens by chance in the run.
    pub seed: u64,
    /// What happens.
    pub plan: Plan,
}

/// What happens in a run, by the kind of the run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Plan {
    /// Nodes, clients and faults.
    World(Box<WorldPlan>),
    /// Steps of the log room, each looked at behind every effect.
    Steps(StepsPlan),
}

impl Schedule {
    /// Runs it. A panic of a client, or of the simulator itself, is an alarm of a run without a trace.
    pub fn run(&self, how: &RunOptions) -> Outcome {
        or_panic(|| match &self.plan {
            Plan::World(plan) => plan.run(self.seed, how),
            Plan::Steps(plan) => crash_points::run(plan, self.seed, how),
        })
    }
}

fn or_panic(run: impl FnOnce() -> Outcome) -> Outcome {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        let checker = NoStop::default();
        let (id, promise) = (checker.id(), checker.promise());
        let message = format!("a client or the simulator panicked: {}", take_panic());
        let alarm = Alarm { checker: id, promise, message, step: 0, at: 0 };
        Outcome { alarm: Some(alarm), ..Outcome::default() }
    })
}

#[cfg(test)]
mod tests;
