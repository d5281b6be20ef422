//! What the replicas of a cluster have told of their logs, kept for the checkers.
//!
//! It believes what it is told of appends, cuts and starts, and what the ledgers tell of disks. What is
//! *committed* is what stands below the largest high watermark that any node has told, in the log of the node
//! that told it first. Ranges of logs are compared by sums over their batches.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::{NodeId, TopicId, TopicPartition};
use mainspring_core::observe::ClusterEvent;

use crate::history::{Fact, Keeping};
use crate::trace::TraceHash;

/// A batch of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Batch {
    pub(super) base: i64,
    pub(super) end: i64,
    pub(super) epoch: i32,
    pub(super) crc: u32,
}

impl Batch {
    fn hash(self) -> u64 {
        let mut hash = TraceHash::default();
        for number in [self.base as u64, self.end as u64, self.epoch as u64, u64::from(self.crc)] {
            hash.number(number);
        }
        hash.finish()
    }
}

/// A log, or what is committed of one.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) start: i64,
    pub(super) end: i64,
    /// How far the disk has it.
    pub(super) durable: i64,
    /// Its batches, each with the sum of all before it.
    batches: Vec<(Batch, u64)>,
    /// What a cut has taken away, and at which end, while it is not durable: a crash may bring it back.
    taken: Option<(i64, Vec<Batch>)>,
}

impl Log {
    /// Returns a log that goes on at an offset and holds nothing yet.
    fn anew(start: i64) -> Self {
        Self { start, end: start, durable: start, ..Self::default() }
    }

    fn sum(&self, upto: usize) -> u64 {
        match self.batches.get(upto) {
            Some((_, before)) => *before,
            None => {
                self.batches.last().map_or(0, |(last, before)| before.wrapping_add(last.hash()))
            }
        }
    }

    pub(super) fn append(&mut self, batch: Batch) {
        let before = self.sum(self.batches.len());
        self.batches.push((batch, before));
        self.end = batch.end;
    }

    fn cut(&mut self, end: i64) {
        let keep = self.batches.partition_point(|(batch, _)| batch.end <= end);
        self.batches.truncate(keep);
        self.end = self.end.min(end);
        self.durable = self.durable.min(end);
    }

    /// Cuts, and keeps what goes until the cut is told for the second time, which is once it is durable.
    fn cut_for_now(&mut self, end: i64) {
        if end >= self.end {
            self.taken = None;
            return;
        }
        let from = self.batches.partition_point(|(batch, _)| batch.end <= end);
        let gone: Vec<Batch> = self.batches[from..].iter().map(|(batch, _)| *batch).collect();
        // An earlier cut that was not durable either may be undone as well.
        let (at, earlier) = self.taken.take().unwrap_or((i64::MAX, Vec::new()));
        let below = gone.into_iter().take_while(|batch| batch.end <= at);
        let all: Vec<Batch> = below.chain(earlier).collect();
        self.cut(end);
        self.taken = Some((end, all));
    }

    /// Takes in how long the log is that a start has found.
    fn opened(&mut self, end: i64) {
        if let Some((at, gone)) = self.taken.take()
            && end > at
        {
            self.cut(at);
            for batch in gone.into_iter().take_while(|batch| batch.end <= end) {
                self.append(batch);
            }
        }
        self.cut(end);
    }

    /// Returns the batches that lie between two offsets as a whole.
    pub(super) fn between(&self, from: i64, to: i64) -> impl Iterator<Item = Batch> {
        let (first, last) = self.range(from, to);
        self.batches[first..last].iter().map(|(batch, _)| *batch)
    }

    fn range(&self, from: i64, to: i64) -> (usize, usize) {
        let first = self.batches.partition_point(|(batch, _)| batch.base < from);
        let last = self.batches.partition_point(|(batch, _)| batch.end <= to);
        (first, last.max(first))
    }

    /// Returns the last batch.
    pub(super) fn last(&self) -> Option<Batch> {
        self.batches.last().map(|(batch, _)| *batch)
    }

    /// Returns whether it holds this very batch.
    pub(super) fn holds(&self, batch: Batch) -> bool {
        let at = self.batches.partition_point(|(other, _)| other.base < batch.base);
        self.batches.get(at).is_some_and(|(other, _)| *other == batch)
    }

    /// Says where another log parts from this one, for people.
    pub(super) fn difference(&self, other: &Self) -> String {
        let from = self.start.max(other.start);
        let mine = self.batches.iter().map(|(batch, _)| *batch).filter(|it| it.base >= from);
        let differs = mine.clone().find(|batch| batch.end <= other.end && !other.holds(*batch));
        match differs {
            Some(batch) => {
                let there = other.batches.iter().map(|(it, _)| *it).find(|it| it.end > batch.base);
                format!("{batch:?} on one side, {there:?} on the other")
            }
            None => format!("{}..{} and {}..{}", self.start, self.end, other.start, other.end),
        }
    }

    /// Returns whether two logs hold the same below an offset, from where both begin.
    pub(super) fn agrees(&self, other: &Self, upto: i64) -> bool {
        if self.end < upto || other.end < upto {
            return false;
        }
        // A start may lie within a batch, which then counts from the next one on.
        let from = self.start.max(other.start);
        let first = |log: &Self| {
            let at = log.batches.partition_point(|(batch, _)| batch.base < from);
            log.batches.get(at).map_or(upto, |(batch, _)| batch.base)
        };
        let from = first(self).max(first(other));
        let sum = |log: &Self| {
            let (first, last) = log.range(from, upto);
            log.sum(last).wrapping_sub(log.sum(first))
        };
        sum(self) == sum(other)
    }
}

/// A decision about a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Decision {
    pub(super) partition_epoch: i32,
    pub(super) leader: Option<NodeId>,
    pub(super) leader_epoch: i32,
    pub(super) replicas: Vec<NodeId>,
    pub(super) isr: Vec<NodeId>,
}

/// All that is known of a cluster's replicas.
#[derive(Clone, Debug, Default)]
pub(super) struct Ghost {
    pub(super) nodes: usize,
    min_in_sync: usize,
    logs: BTreeMap<(TopicPartition, usize), Log>,
    committed: BTreeMap<TopicPartition, Log>,
    decided: BTreeMap<TopicPartition, Decision>,
    /// The last decision that names an epoch of leaders.
    of_epoch: BTreeMap<(TopicPartition, i32), Decision>,
    /// Who leads, as far as it knows.
    leading: BTreeMap<(TopicPartition, usize), i32>,
    quorums: BTreeMap<(TopicPartition, usize), Vec<NodeId>>,
    /// Nodes that may have lost what they had, each since it was not told anew.
    reverted: BTreeSet<usize>,
    keeping: BTreeMap<TopicId, Keeping>,
    deleted: BTreeSet<TopicId>,
}

/// Returns the place of a node in the world.
pub(super) const fn place(node: NodeId) -> usize {
    (node.0 - 1) as usize
}

impl Ghost {
    /// Takes a fact in.
    pub(super) fn observe(&mut self, fact: &Fact) {
        match fact {
            Fact::Cluster { nodes, min_in_sync } => {
                (self.nodes, self.min_in_sync) = (*nodes, *min_in_sync);
            }
            Fact::TopicMade { topic_id, keeping } => {
                self.keeping.insert(*topic_id, *keeping);
            }
            Fact::AskedDeletion { topic_id } => {
                self.deleted.insert(*topic_id);
            }
            Fact::Stored { node, partition, end, durable: true } => {
                if let Some(log) = self.logs.get_mut(&(*partition, *node)) {
                    log.durable = log.durable.max((*end).min(log.end));
                    if log.taken.as_ref().is_some_and(|(at, _)| end > at) {
                        log.taken = None;
                    }
                }
            }
            Fact::HighWatermark { node, partition, offset }
            | Fact::Bounds { node, partition, high_watermark: offset, .. } => {
                self.commit(*node, *partition, *offset);
            }
            Fact::Reverted { node } => {
                self.reverted.insert(*node);
                self.logs.retain(|(_, of), _| of != node);
            }
            Fact::Reported { node, event } => self.report(*node, event),
            _ => {}
        }
        if let Fact::Bounds { node, partition, log_start, .. } = fact
            && let Some(log) = self.logs.get_mut(&(*partition, *node))
        {
            log.start = log.start.max(*log_start);
        }
    }

    fn commit(&mut self, node: usize, partition: TopicPartition, offset: i64) {
        let Some(log) = self.logs.get(&(partition, node)) else { return };
        let committed = self.committed.entry(partition).or_default();
        if committed.end == 0 {
            committed.start = log.start;
        }
        for batch in log.between(committed.end, offset) {
            committed.append(batch);
        }
        committed.end = committed.end.max(offset);
    }

    fn report(&mut self, node: usize, event: &ClusterEvent) {
        match event {
            ClusterEvent::Opened { partition, log_start_offset, log_end_offset } => {
                let log = self.logs.entry((*partition, node)).or_default();
                let (start, end) = (log_start_offset.0, log_end_offset.0);
                if log.batches.is_empty() && log.end == 0 {
                    log.end = end;
                }
                if *partition == TopicPartition::CLUSTER_METADATA && start == end {
                    // A snapshot holds what was before, and of the log nothing is left.
                    *log = Log::anew(start);
                }
                log.opened(end);
                log.start = start;
                // What a start serves it has flushed before.
                log.durable = log.durable.max(log.end);
                self.leading.remove(&(*partition, node));
                self.quorums.remove(&(*partition, node));
            }
            ClusterEvent::Appended {
                partition,
                base_offset,
                end_offset,
                leader_epoch,
                crc,
                ..
            } => {
                let (base, end, epoch) = (base_offset.0, end_offset.0, leader_epoch.0);
                let log = self.logs.entry((*partition, node)).or_default();
                log.append(Batch { base, end, epoch, crc: *crc });
            }
            ClusterEvent::Truncated { partition, end } => {
                if let Some(log) = self.logs.get_mut(&(*partition, node)) {
                    if end.0 > log.end {
                        // It begins anew where its leader's log begins.
                        *log = Log::anew(end.0);
                    } else {
                        log.cut_for_now(end.0);
                    }
                }
            }
            ClusterEvent::SnapshotInstalled { end } => {
                let partition = TopicPartition::CLUSTER_METADATA;
                self.logs.insert((partition, node), Log::anew(end.0));
            }
            ClusterEvent::StartMoved { partition, log_start_offset } => {
                if let Some(log) = self.logs.get_mut(&(*partition, node)) {
                    log.start = log.start.max(log_start_offset.0);
                }
            }
            ClusterEvent::Led { partition, leader_epoch, .. } => {
                self.leading.insert((*partition, node), leader_epoch.0);
                self.quorums.remove(&(*partition, node));
            }
            ClusterEvent::Followed { partition, .. } | ClusterEvent::Resigned { partition, .. } => {
                self.leading.remove(&(*partition, node));
                self.quorums.remove(&(*partition, node));
            }
            ClusterEvent::Quorum { partition, members, .. } => {
                self.quorums.insert((*partition, node), members.clone());
            }
            ClusterEvent::Decided { partition, .. } => {
                let Some(decision) = decision(event) else { return };
                let epoch = (*partition, decision.leader_epoch);
                let newer = |known: Option<&Decision>| {
                    known.is_none_or(|known| known.partition_epoch < decision.partition_epoch)
                };
                if newer(self.of_epoch.get(&epoch)) {
                    self.of_epoch.insert(epoch, decision.clone());
                }
                if newer(self.decided.get(partition)) {
                    self.decided.insert(*partition, decision);
                }
            }
            _ => {}
        }
    }

    /// Returns whether the deletion of a partition's topic was asked for.
    pub(super) fn is_deleted(&self, partition: TopicPartition) -> bool {
        self.deleted.contains(&partition.topic_id)
    }

    /// Returns whether nothing is held against a partition: its topic is deleted, or promises less than that
    /// it is flushed.
    pub(super) fn is_exempt(&self, partition: TopicPartition) -> bool {
        let id = partition.topic_id;
        self.deleted.contains(&id)
            || self.keeping.get(&id).is_some_and(|it| *it != Keeping::Flushed)
    }

    pub(super) fn log(&self, partition: TopicPartition, node: usize) -> Option<&Log> {
        self.logs.get(&(partition, node))
    }

    /// Returns what is committed of a partition, with the largest high watermark as its end.
    pub(super) fn committed(&self, partition: TopicPartition) -> Option<&Log> {
        self.committed.get(&partition)
    }

    pub(super) fn decided(&self, partition: TopicPartition) -> Option<&Decision> {
        self.decided.get(&partition)
    }

    /// Returns every partition that was decided about.
    pub(super) fn decisions(&self) -> impl Iterator<Item = (TopicPartition, &Decision)> {
        self.decided.iter().map(|(p, it)| (*p, it)).filter(|(p, _)| !self.is_exempt(*p))
    }

    /// Returns the last decision that names an epoch.
    pub(super) fn of_epoch(&self, partition: TopicPartition, epoch: i32) -> Option<&Decision> {
        self.of_epoch.get(&(partition, epoch))
    }

    /// Returns the epoch that a node leads.
    pub(super) fn leading(&self, partition: TopicPartition, node: usize) -> Option<i32> {
        self.leading.get(&(partition, node)).copied()
    }

    /// Returns the nodes that lead a partition, each with its epoch.
    pub(super) fn leaders(&self, partition: TopicPartition) -> impl Iterator<Item = (usize, i32)> {
        let of = move |((of, node), epoch): (&(TopicPartition, usize), &i32)| {
            (*of == partition).then_some((*node, *epoch))
        };
        self.leading.iter().filter_map(of)
    }

    pub(super) fn quorum(&self, partition: TopicPartition, node: usize) -> Option<&[NodeId]> {
        self.quorums.get(&(partition, node)).map(Vec::as_slice)
    }

    pub(super) fn was_reverted(&self, node: usize) -> bool {
        self.reverted.contains(&node)
    }

    /// Returns how many of the nodes may have lost what they had.
    pub(super) fn reverted(&self) -> usize {
        self.reverted.len()
    }

    /// Returns how many copies of what is committed a partition must have. `None` where it is not known which
    /// replicas it has.
    pub(super) fn least_copies(&self, partition: TopicPartition) -> Option<usize> {
        if partition == TopicPartition::CLUSTER_METADATA {
            return Some(self.nodes / 2 + 1);
        }
        let replicas = self.decided(partition)?.replicas.len();
        Some(self.min_in_sync.min(replicas))
    }

    /// Returns whether a node has everything that is committed below an offset flushed, and nothing else there.
    pub(super) fn has_copy(&self, partition: TopicPartition, node: usize, upto: i64) -> bool {
        let (Some(log), Some(committed)) = (self.log(partition, node), self.committed(partition))
        else {
            return false;
        };
        log.durable >= upto && log.agrees(committed, upto)
    }

    /// Returns the nodes that have a flushed copy of what is committed below an offset.
    pub(super) fn copies(&self, partition: TopicPartition, upto: i64) -> Vec<usize> {
        (0..self.nodes).filter(|node| self.has_copy(partition, *node, upto)).collect()
    }
}

/// Returns what an event says was decided.
pub(super) fn decision(event: &ClusterEvent) -> Option<Decision> {
    let ClusterEvent::Decided { partition_epoch, leader, leader_epoch, replicas, isr, .. } = event
    else {
        return None;
    };
    Some(Decision {
        partition_epoch: *partition_epoch,
        leader: *leader,
        leader_epoch: leader_epoch.0,
        replicas: replicas.clone(),
        isr: isr.clone(),
    })
}
