//! What has been promised and done so far, by which every recovered image is judged.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::{LeaderEpoch, NodeId, TopicPartition};
use mainspring_core::record::batch::Batch;

use crate::log_bench::{Content, LogBench};
use crate::trace::TraceHash;

/// What was promised of a log before it was cut back: it may still be there, until the truncation is
/// durable.
#[derive(Clone)]
pub(super) struct Before {
    pub(super) written: Vec<(i64, u64)>,
    pub(super) batches: BTreeMap<(TopicPartition, i64), Vec<Batch>>,
    pub(super) bases: BTreeSet<i64>,
    pub(super) stable: i64,
}

/// What has been promised and done so far.
#[derive(Clone, Default)]
pub(super) struct Promises {
    pub(super) written: BTreeMap<TopicPartition, Vec<(i64, u64)>>,
    /// Batches of the newest epoch in the order of their appending, by producer.
    pub(super) batches: BTreeMap<(TopicPartition, i64), Vec<Batch>>,
    /// Epochs of the producers, where they are not 0.
    pub(super) epochs: BTreeMap<(TopicPartition, i64), i16>,
    /// What a producer would have sent next in the epoch before.
    pub(super) late: BTreeMap<(TopicPartition, i64), Batch>,
    /// Logs whose deletion was asked for.
    pub(super) doomed: BTreeSet<TopicPartition>,
    /// Where the batches of each log begin.
    pub(super) bases: BTreeMap<TopicPartition, BTreeSet<i64>>,
    /// What was before truncations that are not known durable yet.
    pub(super) before: BTreeMap<TopicPartition, Before>,
    /// Leader epochs of the logs: one more with each truncation.
    pub(super) leader_epochs: BTreeMap<TopicPartition, i32>,
    /// What a log knows of producers by batches below these offsets may have been lost by a truncation.
    pub(super) vague: BTreeMap<TopicPartition, i64>,
    /// Log starts that were asked for.
    pub(super) starts_asked: BTreeMap<TopicPartition, i64>,
    pub(super) lazy: BTreeSet<TopicPartition>,
    /// What was promised by earlier lives.
    pub(super) stable: BTreeMap<TopicPartition, i64>,
    pub(super) starts: BTreeMap<TopicPartition, i64>,
    pub(super) deleted: BTreeSet<TopicPartition>,
    pub(super) created: BTreeSet<TopicPartition>,
    pub(super) voted: Option<(LeaderEpoch, NodeId)>,
}

impl Promises {
    /// Takes in what a bench has confirmed.
    pub(super) fn take(&mut self, bench: &LogBench) {
        for (&log, &end) in &bench.stable {
            let known = self.stable.entry(log).or_insert(0);
            *known = (*known).max(end);
        }
        for (&log, &start) in &bench.starts {
            let known = self.starts.entry(log).or_insert(0);
            *known = (*known).max(start);
        }
        self.before.retain(|log, _| !bench.truncated.contains(log));
        self.deleted.extend(&bench.deleted);
        self.created.extend(&bench.created);
        self.voted = self.voted.max(bench.voted);
    }

    /// Writes down that a log is to be cut back to `end`.
    pub(super) fn cut(&mut self, id: TopicPartition, end: i64) {
        let stable = self.stable.entry(id).or_insert(0);
        let written = self.written.entry(id).or_default();
        let bases = self.bases.entry(id).or_default();
        let of_log = self.batches.iter().filter(|((log, _), _)| *log == id);
        let before = Before {
            written: written.clone(),
            batches: of_log.map(|(place, batches)| (*place, batches.clone())).collect(),
            bases: bases.clone(),
            stable: *stable,
        };
        self.before.insert(id, before);
        *stable = (*stable).min(end);
        written.retain(|(offset, _)| *offset < end);
        bases.retain(|base| *base < end);
        for ((log, _), batches) in &mut self.batches {
            if *log == id {
                batches.retain(|batch| batch.base_offset().0 < end);
            }
        }
        self.vague.insert(id, end);
        *self.leader_epochs.entry(id).or_insert(0) += 1;
    }

    /// Returns what a log was promised to hold where its truncation is not durable, if it holds that and
    /// not what it holds behind the truncation.
    pub(super) fn before_of(&self, id: TopicPartition, content: &Content) -> Option<&Before> {
        let before = self.before.get(&id)?;
        let is_prefix = |written: &[(i64, u64)], stable: i64| {
            let from = written.partition_point(|(offset, _)| *offset < content.start);
            let last = content.records.last().map_or(content.start, |(last, _)| last + 1);
            let due = written.iter().filter(|(offset, _)| *offset < stable).count();
            written[from..].starts_with(&content.records)
                && (last >= stable || due <= from + content.records.len())
        };
        let behind = self.written.get(&id).map_or(&[][..], |written| written);
        let stable = self.stable.get(&id).copied().unwrap_or(0);
        (!is_prefix(behind, stable)).then_some(before)
    }

    /// Returns a number that stands for what was promised.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hash = TraceHash::default();
        for (log, end) in &self.stable {
            hash.bytes(&log.topic_id.0);
            hash.number(*end as u64);
        }
        for (log, start) in self.starts.iter().chain(&self.starts_asked) {
            hash.bytes(&log.topic_id.0);
            hash.number(*start as u64);
        }
        hash.number(self.before.len() as u64);
        hash.number(self.leader_epochs.values().map(|epoch| *epoch as u64).sum());
        for set in [&self.deleted, &self.created, &self.doomed] {
            hash.number(set.len() as u64);
        }
        let (epoch, candidate) = self.voted.map_or((0, 0), |(epoch, node)| (epoch.0, node.0));
        hash.number(epoch as u64);
        hash.number(candidate as u64);
        hash.finish()
    }
}
