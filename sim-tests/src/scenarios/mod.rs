//! What can be run: each scenario makes a whole run out of a seed.

pub mod broker;
pub mod cluster;
pub mod crash_points;
pub mod delays;
pub mod groups;
mod journal_rot;
pub mod standard;
pub mod topics;
pub mod transactions;

use mainspring_core::io::Mark;

use crate::schedule::{Plan, Schedule};
use crate::trace::Sink;
use crate::world::Outcome;

/// How a run is to be made.
#[derive(Clone, Default, Debug)]
pub struct RunOptions {
    /// The event at which to stop.
    pub until: Option<u64>,
    /// Where the lines of the trace go.
    pub sink: Option<Sink>,
    /// Whether the story is written down.
    pub story: bool,
}

/// A scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Draws what happens from a seed.
    pub draw: fn(u64) -> Plan,
    /// What a hundred seeds together must have counted at least; less is no evidence.
    pub floors: &'static [(&'static str, u64)],
    /// The checkers that must have had something to compare.
    pub armed: &'static [&'static str],
}

impl Scenario {
    /// Draws the schedule of a seed.
    pub fn schedule(&self, seed: u64) -> Schedule {
        Schedule { scenario: self.name.to_owned(), seed, plan: (self.draw)(seed) }
    }

    /// Makes the run of a seed.
    pub fn run(&self, seed: u64, how: &RunOptions) -> Outcome {
        self.schedule(seed).run(how)
    }
}

/// Every scenario that is clean over many seeds, in order of their names.
pub const ALL: &[Scenario] = &[
    crash_points::SCENARIO,
    delays::SCENARIO,
    broker::DISK_FULL,
    broker::FLAPS,
    groups::SCENARIO,
    broker::LOG,
    standard::SCENARIO,
    crash_points::script::SCENARIO,
    topics::SCENARIO,
];

/// Scenarios that run by their names, and join the others once they are clean over many seeds.
pub const ON_TRIAL: &[Scenario] = &[
    broker::DISK_FAULTS,
    broker::UNRECOVERABLE,
    cluster::SCENARIO,
    delays::CLUSTER,
    transactions::SCENARIO,
    transactions::CLUSTER,
    transactions::WIDE,
];

/// Every mark, so that one that nobody reaches is known.
pub const MARKS: &[Mark] = &[
    Mark::BlockGathered,
    Mark::JournalRecycled,
    Mark::JournalGrew,
    Mark::TornTailCut,
    Mark::TailRewritten,
    Mark::DuplicateAnswered,
    Mark::SegmentRolled,
    Mark::DiskFull,
    Mark::BackPressure,
    Mark::FetchFromFile,
    Mark::FetchWoken,
    Mark::FetchTimedOut,
    Mark::DamageReadAgain,
    Mark::RotFoundOnRead,
    Mark::LogCut,
    Mark::IndexBuiltAnew,
    Mark::ProducersBuiltAnew,
    Mark::CheckpointCopyUsed,
    Mark::CheckpointMadeAlike,
    Mark::CheckpointAtClose,
    Mark::StartsCountLost,
    Mark::StartWaits,
    Mark::StartRefused,
    Mark::StoppedBeforeServing,
    Mark::ForeignNameFound,
    Mark::RemovalRecovered,
    Mark::StaleFilesRemoved,
    Mark::JournalStarved,
    Mark::JournalGrowthFailed,
    Mark::ProofWritten,
    Mark::OperationTriedAgain,
    Mark::LogDirectoryFailed,
    Mark::RetentionHeld,
    Mark::SegmentRemoved,
    Mark::ProducerFenced,
    Mark::SequenceGap,
    Mark::PeerHeldBack,
    Mark::PostHeld,
    Mark::SessionExpired,
    Mark::LateMemberDropped,
    Mark::SyncTimedOut,
    Mark::StaticMemberReplaced,
    Mark::CommitRefused,
    Mark::CoordinatorReadFromFile,
    Mark::CoordinatorCleaned,
    Mark::CoordinatorReadAgain,
    Mark::TransactionFenced,
    Mark::TransactionTimedOut,
    Mark::TransactionEndRepeated,
    Mark::MarkerRetried,
    Mark::ProducerEpochsUsedUp,
    Mark::ControllerElected,
    Mark::LateRequestRefused,
    Mark::LateMarkerRefused,
    Mark::VotersChanged,
    Mark::BrokerFenced,
    Mark::MetadataTruncated,
    Mark::ReplicaTruncated,
    Mark::ReplicaReset,
    Mark::SentNear,
    Mark::FollowerRead,
    Mark::SnapshotWritten,
    Mark::SnapshotLoaded,
    Mark::SnapshotResumed,
    Mark::SnapshotInstalled,
    Mark::SnapshotDamaged,
];

/// Returns a scenario by its name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().chain(ON_TRIAL).find(|scenario| scenario.name == name)
}
