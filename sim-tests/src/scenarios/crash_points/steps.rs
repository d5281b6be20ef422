//! What a workload does with the logs: one step at a time, drawn or written down.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;
use crate::world::{MILLISECOND, SECOND};

/// One step of a workload, on logs 0 to 7.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// A log is created.
    Create(u8),
    /// A batch is appended.
    Append {
        /// Which log.
        log: u8,
        /// Which producer.
        producer: u8,
        /// How many records.
        records: u8,
        /// About how many bytes of values.
        bytes: u16,
    },
    /// A producer goes on in its next epoch.
    Bump {
        /// Which log.
        log: u8,
        /// Which producer.
        producer: u8,
    },
    /// A log begins later.
    MoveStart(u8),
    /// A log begins at its end.
    Purge(u8),
    /// A log is cut back, anywhere or, at `true`, to its last batches.
    Truncate {
        /// Which log.
        log: u8,
        /// Whether only a batch or two go.
        little: bool,
    },
    /// A log is deleted.
    Delete(u8),
    /// A vote is given.
    Vote,
    /// That many operations end.
    Turn(u8),
    /// That much time passes, in nanoseconds.
    Pass(u64),
    /// The process ends and starts again.
    Restart {
        /// Whether it was told to stop.
        clean: bool,
    },
}

pub(super) const SCRIPT: &[Step] = &[
    Step::Create(0),
    Step::Append { log: 0, producer: 0, records: 2, bytes: 100 },
    Step::Turn(3),
    Step::Create(1),
    Step::Append { log: 1, producer: 1, records: 1, bytes: 900 },
    Step::Append { log: 0, producer: 0, records: 1, bytes: 3_000 },
    Step::Append { log: 0, producer: 1, records: 3, bytes: 50 },
    Step::Vote,
    Step::Pass(20 * MILLISECOND),
    Step::Append { log: 0, producer: 0, records: 1, bytes: 5_000 },
    Step::Append { log: 1, producer: 1, records: 1, bytes: 5_000 },
    Step::Pass(SECOND),
    Step::MoveStart(0),
    Step::Append { log: 0, producer: 0, records: 2, bytes: 2_000 },
    Step::Truncate { log: 0, little: true },
    Step::Append { log: 0, producer: 0, records: 1, bytes: 800 },
    Step::Bump { log: 0, producer: 1 },
    Step::Pass(10 * SECOND),
    Step::Truncate { log: 0, little: false },
    Step::Turn(2),
    Step::Append { log: 0, producer: 0, records: 1, bytes: 900 },
    Step::Restart { clean: false },
    Step::Append { log: 0, producer: 0, records: 1, bytes: 1_000 },
    Step::Delete(1),
    Step::Append { log: 0, producer: 1, records: 1, bytes: 7_000 },
    Step::Pass(20 * SECOND),
    Step::Purge(0),
    Step::Pass(SECOND),
    Step::Restart { clean: true },
    Step::Append { log: 0, producer: 0, records: 1, bytes: 10 },
    Step::Pass(5 * SECOND),
];

pub(super) fn random_step(rng: &mut Rng) -> Step {
    match rng.below(100) {
        0..6 => Step::Create(rng.below(3) as u8),
        6..49 => Step::Append {
            log: rng.below(3) as u8,
            producer: rng.below(3) as u8,
            records: rng.between(1, 4) as u8,
            bytes: rng.exponential(700) as u16,
        },
        49..57 => Step::Truncate { log: rng.below(3) as u8, little: rng.chance(500) },
        57..60 => Step::Bump { log: rng.below(3) as u8, producer: rng.below(3) as u8 },
        60..62 => Step::MoveStart(rng.below(3) as u8),
        62..65 => Step::Purge(rng.below(3) as u8),
        65..66 => Step::Delete(rng.below(3) as u8),
        66..68 => Step::Vote,
        68..88 => Step::Turn(rng.between(1, 6) as u8),
        88..96 => Step::Pass(rng.exponential(2 * SECOND)),
        96..98 => Step::Restart { clean: true },
        _ => Step::Restart { clean: false },
    }
}
