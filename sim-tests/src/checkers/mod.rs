//! The checkers: each holds one invariant against the facts of a run.
//!
//! They know what was promised and nothing of how it is kept. A run in which a checker had
//! nothing to look at is no evidence, so each counts its evaluations.

pub mod ack_sound;
pub mod assignment;
pub mod at_least_once;
pub mod bounds;
pub mod byte_identity;
pub mod cluster;
pub mod commit_gate;
pub mod commit_once;
pub mod committed_stays;
pub mod committed_stored;
pub mod conservation;
pub mod delays;
pub mod determinism;
pub mod fencing;
pub mod fetch_gating;
pub mod found_by_time;
pub mod group_rest;
pub mod high_watermark;
pub mod honest;
pub mod no_acked_loss;
pub mod no_skip;
pub mod no_stop;
pub mod offsets;
pub mod offsets_of_topic;
pub mod ready_again;
pub mod recovery;
pub mod refusals;
pub mod retention;
pub mod sequences;
pub mod short_faults;
pub mod single_owner;
pub mod topic_life;
pub mod transactions;

use std::fmt;

use crate::history::Fact;

/// Holds one invariant.
pub trait Checker {
    /// The invariant's number, as `docs/simulation.md` lists it.
    fn id(&self) -> &'static str;

    /// The promise that it holds, as one sentence for whoever reads the story of a run.
    fn promise(&self) -> &'static str;

    /// Looks at a fact.
    ///
    /// # Errors
    /// Says in one line what the invariant forbids.
    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String>;

    /// Looks at the whole, when nothing more happens.
    ///
    /// # Errors
    /// Says in one line what the invariant forbids.
    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Returns how often it had something to compare.
    fn evaluations(&self) -> u64;
}

/// A checker's verdict on a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alarm {
    /// The invariant.
    pub checker: &'static str,
    /// What it promises, in one sentence.
    pub promise: &'static str,
    /// What it forbids.
    pub message: String,
    /// At which event.
    pub step: u64,
    /// At which true time, in nanoseconds.
    pub at: u64,
}

impl Alarm {
    /// Makes the alarm of a checker.
    pub fn of(checker: &dyn Checker, message: String, step: u64, at: u64) -> Self {
        Self { checker: checker.id(), promise: checker.promise(), message, step, at }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { checker, promise: _, message, step, at } = self;
        write!(
            f,
            "{checker} at step {step}, {}.{:09} s: {message}",
            at / 1_000_000_000,
            at % 1_000_000_000
        )
    }
}

/// Returns every checker.
pub fn all() -> Vec<Box<dyn Checker>> {
    let mut all: Vec<Box<dyn Checker>> = vec![
        Box::new(commit_once::CommitOnce::default()),
        Box::new(no_acked_loss::NoAckedLoss::default()),
        Box::new(offsets::Offsets::default()),
        Box::new(found_by_time::FoundByTime::default()),
        Box::new(high_watermark::HighWatermark::default()),
        Box::new(committed_stored::CommittedStored::default()),
        Box::new(ack_sound::AckSound::default()),
        Box::new(committed_stays::CommittedStays::default()),
        Box::new(fetch_gating::FetchGating::default()),
        Box::new(byte_identity::ByteIdentity::default()),
        Box::new(retention::Retention::default()),
        Box::new(recovery::Recovery::default()),
        Box::new(sequences::Sequences::default()),
        Box::new(fencing::Fencing::default()),
        Box::new(single_owner::SingleOwner::default()),
        Box::new(commit_gate::CommitGate::default()),
        Box::new(no_skip::NoSkip::default()),
        Box::new(assignment::Assignment::default()),
        Box::new(group_rest::GroupRest::default()),
        Box::new(at_least_once::AtLeastOnce::default()),
        Box::new(conservation::Conservation::default()),
        Box::new(topic_life::TopicLife::default()),
        Box::new(offsets_of_topic::OffsetsOfTopic::default()),
        Box::new(short_faults::ShortFaults::default()),
        Box::new(ready_again::ReadyAgain::default()),
        Box::new(bounds::Bounds::default()),
        Box::new(no_stop::NoStop::default()),
        Box::new(refusals::Refusals::default()),
        Box::new(determinism::Determinism::default()),
    ];
    all.extend(transactions::all());
    all.extend(delays::all());
    all
}

/// What the log room remembers of votes, which `crash-points` looks at by itself.
const VOTES: &str = "A vote that was given is remembered over every start.";

/// Returns the promise of a checker, or of what a scenario looks at by itself.
pub fn promise_of(id: &str) -> &'static str {
    let of_clusters = cluster::all().into_iter().filter(|checker| checker.id() != "I12");
    match all().into_iter().chain(of_clusters).find(|checker| checker.id() == id) {
        Some(checker) => checker.promise(),
        None if id == "I12" => VOTES,
        None => "",
    }
}

/// Returns the checkers of what holds even where acknowledged data may be lost for good.
pub fn under_damage() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(honest::Honest::default()),
        Box::new(bounds::Bounds::default()),
        Box::new(no_stop::NoStop::default()),
    ]
}

#[cfg(test)]
pub(crate) mod testing {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use mainspring_core::ids::{PartitionIndex, TopicPartition, Uuid};

    use super::Checker;
    use crate::history::{
        Fact, ImageLog, Keeping, Membership, OperationId, RecordKind, SeenRecord,
    };

    pub(crate) const P: TopicPartition =
        TopicPartition { topic_id: Uuid([7; 16]), partition: PartitionIndex(0) };

    pub(crate) fn member(id: &str, generation: i32) -> Membership {
        Membership { id: id.into(), generation }
    }

    pub(crate) fn op(number: u64) -> OperationId {
        OperationId { client: 0, number }
    }

    pub(crate) fn invoked(number: u64, records: &[u64]) -> Fact {
        Fact::Invoked { operation: op(number), partition: P, records: records.to_vec() }
    }

    pub(crate) fn acked(number: u64, base_offset: i64) -> Fact {
        Fact::Acked { operation: op(number), base_offset }
    }

    pub(crate) fn seen(offset: i64, hash: u64) -> SeenRecord {
        let kind = RecordKind::Plain;
        SeenRecord { offset, hash, producer_id: -1, producer_epoch: -1, sequence: -1, kind }
    }

    pub(crate) fn read(from: i64, records: &[(i64, u64)], high_watermark: i64) -> Fact {
        Fact::Read {
            client: 1,
            partition: P,
            from,
            records: records.iter().map(|&(offset, hash)| seen(offset, hash)).collect(),
            crc_valid: true,
            high_watermark,
            log_start: 0,
        }
    }

    pub(crate) fn made(keeping: Keeping) -> Fact {
        Fact::TopicMade { topic_id: P.topic_id, keeping }
    }

    /// Returns what stands on a disk of the partition: its start, and batches of offsets and hashes.
    pub(crate) fn image(durable: bool, start: i64, batches: &[&[(i64, u64)]]) -> Fact {
        let batches: Vec<Arc<[SeenRecord]>> = batches
            .iter()
            .map(|batch| batch.iter().map(|&(offset, hash)| seen(offset, hash)).collect())
            .collect();
        let last = batches.last().and_then(|batch| batch.last());
        let end = last.map_or(start, |last| last.offset + 1);
        let (copied_forward, behind_snapshot) = (false, false);
        let log = ImageLog { copied_forward, behind_snapshot, start, end, batches };
        Fact::Image { node: 0, durable, logs: Arc::new(BTreeMap::from([(P, log)])) }
    }

    pub(crate) fn committed(offset: i64) -> Fact {
        Fact::HighWatermark { node: 0, partition: P, offset }
    }

    pub(crate) fn final_log(records: &[(i64, u64)]) -> Fact {
        Fact::FinalLog {
            partition: P,
            log_start: 0,
            records: records.iter().map(|&(offset, hash)| seen(offset, hash)).collect(),
        }
    }

    /// Returns the first alarm over a history, the end included.
    pub(crate) fn verdict(mut checker: impl Checker, facts: &[Fact]) -> Result<u64, String> {
        for (at, fact) in facts.iter().enumerate() {
            checker.observe(at as u64, fact)?;
        }
        checker.finish()?;
        Ok(checker.evaluations())
    }

    /// Asserts that a history passes and was looked at.
    pub(crate) fn passes(checker: impl Checker, facts: &[Fact]) {
        let evaluations = verdict(checker, facts).expect("a good history");
        assert!(evaluations > 0, "the checker had nothing to look at");
    }

    /// Asserts that a history raises the alarm.
    pub(crate) fn fails(checker: impl Checker, facts: &[Fact]) {
        verdict(checker, facts).expect_err("a bad history");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_checker_has_an_id_and_a_sentence_of_its_own() {
        let checkers: Vec<Box<dyn Checker>> = all().into_iter().chain(cluster::all()).collect();
        let ids: BTreeSet<&str> = checkers.iter().map(|checker| checker.id()).collect();
        let promises: BTreeSet<&str> = checkers.iter().map(|checker| checker.promise()).collect();
        assert_eq!((ids.len(), promises.len()), (checkers.len(), checkers.len()));
        for promise in promises {
            assert!(promise.ends_with('.') && promise.len() > 20, "{promise:?}");
        }
        assert_eq!(promise_of("I40"), "Nothing grows beyond its bound.");
        assert_eq!(promise_of("I12"), VOTES);
    }
}
