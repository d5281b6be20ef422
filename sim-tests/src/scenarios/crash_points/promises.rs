//! What has been promised and done so far, by which every recovered image is judged.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::{LeaderEpoch, NodeId, TopicPartition};
use mainspring_core::record::batch::Batch;

use crate::log_bench::LogBench;
use crate::trace::TraceHash;

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
        self.deleted.extend(&bench.deleted);
        self.created.extend(&bench.created);
        self.voted = self.voted.max(bench.voted);
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
        for set in [&self.deleted, &self.created, &self.doomed] {
            hash.number(set.len() as u64);
        }
        let (epoch, candidate) = self.voted.map_or((0, 0), |(epoch, node)| (epoch.0, node.0));
        hash.number(epoch as u64);
        hash.number(candidate as u64);
        hash.finish()
    }
}
