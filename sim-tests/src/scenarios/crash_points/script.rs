//! One fixed script of storage work, at whose crash points nothing is left out.
//!
//! The script is the same for every seed; a seed says which part of its crash points is looked at, and
//! of which size sectors are. So that many seeds in a row look at all of them.

use super::steps::Step;
use crate::scenarios::Scenario;
use crate::schedule::{Plan, SlicePlan, StepPlan, StepsPlan};
use crate::world::{MILLISECOND, SECOND};

/// The scenario.
pub const SCENARIO: Scenario = Scenario {
    name: "storage-script",
    about: "a fixed script of storage work at every crash point with every subset; 2,048 seeds are all of it",
    draw,
    floors: &[
        ("writes", 20_000),
        ("crash-points", 100),
        ("images", 500),
        ("recoveries-of-recoveries", 500),
        ("acked-records", 500),
    ],
    armed: &["I07", "I16", "I41"],
};

/// In how many parts the crash points are looked at, for each size of sectors.
const PARTS: u64 = 1_024;
/// What decides everything but where to look.
const SEED: u64 = 0x5c21;
const ROUNDS: u8 = 4;

fn draw(seed: u64) -> Plan {
    let steps =
        (1..).zip(script()).map(|(number, step)| StepPlan { number, step, looks: true, skips: 0 });
    Plan::Steps(StepsPlan {
        sector: if (seed / PARTS).is_multiple_of(2) { 4096 } else { 512 },
        subsets_max: 1,
        slice: Some(SlicePlan { part: seed % PARTS, parts: PARTS, seed: SEED }),
        looks_at_start: true,
        steps: steps.collect(),
    })
}

/// Writes the script down: rolled segments, checkpoints, journal files taken into use again, moves of the
/// log start, purges, votes, truncations, logs that come and go, stops and power cuts.
fn script() -> Vec<Step> {
    let mut steps = vec![Step::Create(0), Step::Create(2)];
    for round in 0..ROUNDS {
        let passing = 3 + round;
        let append = |log, producer, records, bytes| Step::Append { log, producer, records, bytes };
        steps.extend([
            Step::Create(passing),
            append(0, 0, 2, 100),
            Step::Turn(3),
            append(passing, 1, 1, 900),
            append(0, 0, 1, 3_000),
            append(2, 2, 2, 600),
            Step::Turn(2),
            append(0, 1, 3, 50),
            append(2, 2, 1, 2_000),
            Step::Vote,
            Step::Pass(20 * MILLISECOND),
            append(0, 0, 1, 5_000),
            append(passing, 1, 1, 5_000),
            Step::Pass(SECOND),
            Step::MoveStart(0),
            append(0, 0, 2, 2_000),
            Step::Truncate { log: 0, little: true },
            append(0, 0, 1, 900),
            Step::Bump { log: 0, producer: 1 },
            append(2, 0, 1, 4_000),
            Step::Pass(10 * SECOND),
        ]);
        if round % 3 == 1 {
            steps.push(Step::Restart { clean: false });
        }
        steps.extend([
            append(0, 0, 1, 1_000),
            Step::Delete(passing),
            append(0, 1, 1, 7_000),
            append(2, 2, 1, 700),
            Step::Pass(2 * SECOND),
            Step::Truncate { log: 2 * (round % 2), little: false },
            append(2 * (round % 2), 0, 1, 800),
        ]);
        if round % 4 == 2 {
            steps.extend([Step::Purge(0), Step::Pass(SECOND)]);
        }
        if round % 3 == 2 {
            steps.push(Step::Restart { clean: true });
        }
    }
    steps.push(Step::Pass(20 * SECOND));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::RunOptions;

    #[test]
    fn the_script_is_of_two_hundred_writes_and_every_part_looks_at_other_points() {
        let of = |seed| SCENARIO.run(seed, &RunOptions::default());
        let (first, second) = (of(5), of(6));
        for outcome in [&first, &second] {
            assert!(outcome.alarm.is_none(), "{:?}", outcome.alarm);
            assert!(outcome.counts["writes"] >= 200, "{:?}", outcome.counts);
            assert!(outcome.counts["crash-points"] > 0, "{:?}", outcome.counts);
        }
        assert_ne!(first.trace_hash, second.trace_hash);
    }
}
