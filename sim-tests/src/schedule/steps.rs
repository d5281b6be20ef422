//! The plan of `crash-points`: steps of the log room.

use serde::{Deserialize, Serialize};

use super::ScheduleError;
use crate::scenarios::crash_points::Step;
use crate::world::SECOND;

/// What one step does and whether what a crash could leave is looked at.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepPlan {
    /// Its number among the steps that were drawn, which chance goes by. The first recovery is number 0.
    pub number: u64,
    /// What it does.
    pub step: Step,
    /// Whether its crash points are looked at.
    pub looks: bool,
    /// How many of them, the first, are passed by.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skips: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Every `parts`th crash point, beginning with number `part`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlicePlan {
    /// Which part.
    pub part: u64,
    /// Of how many.
    pub parts: u64,
    /// The seed of what happens; that of the schedule chooses what is looked at by chance alone.
    pub seed: u64,
}

/// Steps of the log room on one disk.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepsPlan {
    /// What the disk writes whole or not at all: 512 or 4096 bytes.
    pub sector: u64,
    /// How many subsets of the pending pieces are tried at each crash point.
    pub subsets_max: usize,
    /// Which crash points are looked at, and then with every subset; all of them with a choice where
    /// there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<SlicePlan>,
    /// Whether the crash points of the first start are looked at.
    pub looks_at_start: bool,
    /// What happens.
    pub steps: Vec<StepPlan>,
}

impl StepsPlan {
    pub(super) fn check(&self) -> Result<(), ScheduleError> {
        super::world::check_sector(self.sector)?;
        if !(1..=10_000).contains(&self.subsets_max) {
            return Err(ScheduleError::range("subsets_max", self.subsets_max));
        }
        if let Some(SlicePlan { part, parts, .. }) = self.slice
            && part >= parts
        {
            return Err(ScheduleError::range("the part of the crash points", part));
        }
        if self.steps.len() > 10_000 {
            return Err(ScheduleError::range("the number of steps", self.steps.len()));
        }
        for StepPlan { step, .. } in &self.steps {
            let in_range = match *step {
                Step::Create(log)
                | Step::MoveStart(log)
                | Step::Purge(log)
                | Step::Delete(log)
                | Step::Truncate { log, .. }
                | Step::Bump { log, .. } => log < 8,
                Step::Append { log, records, .. } => log < 8 && records > 0,
                Step::Pass(time) => time <= 3_600 * SECOND,
                Step::Vote | Step::Turn(_) | Step::Restart { .. } => true,
            };
            if !in_range {
                return Err(ScheduleError::range("a step", format!("{step:?}")));
            }
        }
        Ok(())
    }
}
