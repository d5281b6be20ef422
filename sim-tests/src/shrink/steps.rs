//! Fewer steps of the log room, and fewer looks at what a crash could leave.

use super::{Bound, Shrinker};
use crate::scenarios::crash_points::Step;
use crate::schedule::{Plan, Schedule, StepsPlan};
use crate::world::MILLISECOND;

fn plan(schedule: &Schedule) -> &StepsPlan {
    let Plan::Steps(plan) = &schedule.plan else { unreachable!("a plan of steps") };
    plan
}

fn plan_mut(schedule: &mut Schedule) -> &mut StepsPlan {
    let Plan::Steps(plan) = &mut schedule.plan else { unreachable!("a plan of steps") };
    plan
}

impl Shrinker<'_> {
    pub(super) fn shrink_steps(&mut self) {
        self.fewest_first_steps();
        self.look_at_little();
        self.pass_by();
        self.take_away(|schedule| &plan(schedule).steps, |schedule| &mut plan_mut(schedule).steps);
        self.simpler_steps();
        self.pass_by();
        for subsets in [2, 6] {
            let candidate =
                self.with_steps(|plan| plan.subsets_max = plan.subsets_max.min(subsets));
            if self.attempt_by_luck(&candidate, Bound::Shorter, 5) {
                break;
            }
        }
        self.try_luck(60);
    }

    fn with_steps(&self, change: impl FnOnce(&mut StepsPlan)) -> Schedule {
        let mut candidate = self.best.clone();
        change(plan_mut(&mut candidate));
        candidate
    }

    /// What comes behind the alarm changes nothing: finds how many steps there are before it.
    fn fewest_first_steps(&mut self) {
        let (mut passes, mut fails) = (0, plan(&self.best).steps.len());
        while passes < fails && !self.is_spent() {
            let middle = usize::midpoint(passes, fails);
            let candidate = self.with_steps(|plan| plan.steps.truncate(middle));
            if self.attempt(candidate, Bound::Longer) {
                fails = middle;
            } else {
                passes = middle + 1;
            }
        }
    }

    /// Looks at the last step alone, or else at as few as can be.
    fn look_at_little(&mut self) {
        let steps = plan(&self.best).steps.len();
        let candidate = self.with_steps(|plan| {
            plan.looks_at_start = false;
            for (at, step) in plan.steps.iter_mut().enumerate() {
                step.looks = at + 1 == steps;
            }
        });
        if self.attempt_by_luck(&candidate, Bound::Longer, 3) {
            return;
        }
        let candidate = self.with_steps(|plan| plan.looks_at_start = false);
        self.attempt(candidate, Bound::Longer);
        for at in 0..steps {
            let candidate = self.with_steps(|plan| plan.steps[at].looks = false);
            self.attempt(candidate, Bound::Longer);
        }
    }

    /// Passes by as many crash points of each step as can be: those before the one that fails.
    fn pass_by(&mut self) {
        for at in 0..plan(&self.best).steps.len() {
            if !plan(&self.best).steps[at].looks {
                continue;
            }
            let mut fails = plan(&self.best).steps[at].skips;
            let mut passes = fails + self.size.events;
            while fails + 1 < passes && !self.is_spent() {
                let middle = u64::midpoint(fails, passes);
                let candidate = self.with_steps(|plan| plan.steps[at].skips = middle);
                if self.attempt(candidate, Bound::Longer) {
                    fails = middle;
                } else {
                    passes = middle;
                }
            }
        }
    }

    fn simpler_steps(&mut self) {
        for at in 0..plan(&self.best).steps.len() {
            let simpler = match plan(&self.best).steps[at].step {
                Step::Append { log, producer, records, bytes } if records > 1 || bytes > 50 => {
                    Step::Append { log, producer, records: 1, bytes: bytes.min(50) }
                }
                Step::Pass(time) => Step::Pass((time / 8).max(MILLISECOND).min(time)),
                Step::Turn(turns) => Step::Turn(turns / 2),
                Step::Create(_)
                | Step::Append { .. }
                | Step::Bump { .. }
                | Step::MoveStart(_)
                | Step::Purge(_)
                | Step::Truncate { .. }
                | Step::Delete(_)
                | Step::Vote
                | Step::Restart { .. } => continue,
            };
            let candidate = self.with_steps(|plan| plan.steps[at].step = simpler);
            self.attempt(candidate, Bound::Longer);
        }
    }
}
