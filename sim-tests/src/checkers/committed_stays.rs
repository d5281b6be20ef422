//! I10: nothing that is committed leaves the disk, but with a deletion, a purge or retention.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mainspring_core::ids::{TopicId, TopicPartition};
use mainspring_core::observe::ClusterEvent;

use super::Checker;
use crate::history::{Fact, ImageLog, Keeping, SeenRecord};

/// Compares each image of a disk with the one before.
#[derive(Debug, Default)]
pub struct CommittedStays {
    keeping: BTreeMap<TopicId, Keeping>,
    deleted: BTreeSet<TopicId>,
    committed: BTreeMap<(usize, TopicPartition), i64>,
    last: BTreeMap<(usize, bool), Arc<BTreeMap<TopicPartition, ImageLog>>>,
    /// What a node of a cluster knew to be committed when its disk was last looked at: what it had beyond
    /// that may have been cut since, and something else committed in its place.
    known: Option<BTreeMap<(usize, bool, TopicPartition), i64>>,
    /// How far a node of a cluster has said that it has written, or flushed, a log since its last cut: its disk
    /// may hold something else beyond, which the cut has not reached yet.
    stored: BTreeMap<(usize, bool, TopicPartition), i64>,
    /// The first offset that purges have asked for.
    asked: BTreeMap<TopicPartition, i64>,
    /// Whether records may go by themselves.
    retention: bool,
    evaluations: u64,
}

impl CommittedStays {
    fn reported(&mut self, node: usize, event: &ClusterEvent) {
        let (partition, end, cut) = match event {
            ClusterEvent::Truncated { partition, end } => (*partition, end.0, true),
            ClusterEvent::Opened { partition, log_end_offset, .. } => {
                // What it was told before, its disk may not have.
                self.committed.remove(&(node, *partition));
                (*partition, log_end_offset.0, false)
            }
            _ => return,
        };
        for durable in [false, true] {
            let stored = self.stored.entry((node, durable, partition)).or_insert(end);
            *stored = if cut { end.min(*stored) } else { end };
        }
    }

    fn compare(
        &mut self,
        (node, durable): (usize, bool),
        partition: TopicPartition,
        before: &ImageLog,
        after: &ImageLog,
    ) -> Result<(), String> {
        let asked = self.asked.get(&partition).copied().unwrap_or(0);
        if after.start < before.start {
            return Err(format!(
                "{partition} began at {} on the disk of node {node} and begins at {} again",
                before.start, after.start
            ));
        }
        let may_go = self.retention || after.copied_forward || after.behind_snapshot;
        if after.start > before.start && after.start > asked && !may_go {
            return Err(format!(
                "{partition} began at {} on the disk of node {node} and begins at {}; the start was asked \
                 to be {asked}",
                before.start, after.start
            ));
        }
        let mut committed = self.committed.get(&(node, partition)).copied().unwrap_or(0);
        if let Some(known) = &mut self.known {
            let stored = self.stored.get(&(node, durable, partition)).copied();
            committed = committed.min(stored.unwrap_or(i64::MAX));
            committed =
                known.insert((node, durable, partition), committed).unwrap_or(0).min(committed);
        }
        let mut found = after.batches.iter().peekable();
        for batch in &before.batches {
            let (Some(first), Some(last)) = (batch.first(), batch.last()) else { continue };
            if last.offset < after.start || last.offset >= committed {
                continue;
            }
            self.evaluations += 1;
            let earlier = |other: &&Arc<[SeenRecord]>| {
                other.first().is_none_or(|other| other.offset < first.offset)
            };
            while found.next_if(earlier).is_some() {}
            let same =
                found.peek().is_some_and(|other| Arc::ptr_eq(other, batch) || *other == batch);
            if !same {
                return Err(format!(
                    "the committed batch {}..={} of {partition} has left the disk of node {node}, where \
                     the log goes from {} to {} now",
                    first.offset, last.offset, after.start, after.end
                ));
            }
        }
        Ok(())
    }
}

impl Checker for CommittedStays {
    fn id(&self) -> &'static str {
        "I10"
    }

    fn promise(&self) -> &'static str {
        "What is committed leaves the disk only with a purge, with retention, or with its topic."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::TopicMade { topic_id, keeping } => {
                self.keeping.insert(*topic_id, *keeping);
            }
            Fact::AskedDeletion { topic_id } => {
                self.deleted.insert(*topic_id);
            }
            Fact::Retention { .. } => self.retention = true,
            Fact::AskedPurge { partition, before } => {
                let asked = self.asked.entry(*partition).or_insert(0);
                *asked = (*asked).max(*before);
            }
            Fact::HighWatermark { node, partition, offset }
            | Fact::Bounds { node, partition, high_watermark: offset, .. } => {
                self.committed.insert((*node, *partition), *offset);
            }
            Fact::Cluster { .. } => self.known = Some(BTreeMap::new()),
            Fact::Stored { node, partition, end, durable } => {
                let stored = self.stored.entry((*node, *durable, *partition)).or_insert(0);
                *stored = (*stored).max(*end);
            }
            Fact::Reported { node, event } => self.reported(*node, event),
            // Another disk, or what it was before.
            Fact::Reverted { node } => {
                self.stored.retain(|(of, _, _), _| of != node);
                self.last.retain(|(of, _), _| of != node);
                self.committed.retain(|(of, _), _| of != node);
            }
            // What was written and not flushed may be gone.
            Fact::Crashed { node, power: true } => {
                self.last.remove(&(*node, false));
            }
            Fact::Image { node, durable, logs } => {
                let Some(before) = self.last.insert((*node, *durable), Arc::clone(logs)) else {
                    return Ok(());
                };
                let counts = if *durable { Keeping::Flushed } else { Keeping::Written };
                for (partition, log) in before.iter() {
                    let id = partition.topic_id;
                    let keeping = self.keeping.get(&id).copied().unwrap_or(Keeping::Flushed);
                    if keeping != counts || self.deleted.contains(&id) {
                        continue;
                    }
                    let Some(after) = logs.get(partition) else {
                        return Err(format!("{partition} has left the disk of node {node}"));
                    };
                    self.compare((*node, *durable), *partition, log, after)?;
                }
            }
            Fact::Unreadable { node, message, .. } => {
                return Err(format!("the disk of node {node} does not hold its logs: {message}"));
            }
            _ => {}
        }
        Ok(())
    }

    fn evaluations(&self) -> u64 {
        self.evaluations
    }
}

#[cfg(test)]
mod tests {
    use mainspring_core::ids::Offset;

    use super::super::testing::*;
    use super::*;

    const ALL: &[&[(i64, u64)]] = &[&[(0, 10), (1, 11)], &[(2, 12)]];

    fn purge(before: i64) -> Fact {
        Fact::AskedPurge { partition: P, before }
    }

    #[test]
    fn a_log_may_grow_and_lose_what_was_never_committed() {
        let grown: &[&[(i64, u64)]] = &[&[(0, 10), (1, 11)], &[(2, 13)], &[(3, 14)]];
        passes(
            CommittedStays::default(),
            &[committed(2), image(true, 0, ALL), image(true, 0, grown), image(true, 0, grown)],
        );
    }

    #[test]
    fn a_replica_may_have_cut_what_was_committed_elsewhere_later() {
        let cluster = Fact::Cluster { nodes: 3, min_in_sync: 2 };
        let other: &[&[(i64, u64)]] = &[&[(0, 10), (1, 11)], &[(2, 19)]];
        let (first, then) = (image(true, 0, ALL), image(true, 0, other));
        let story = |known| [cluster.clone(), committed(known), first.clone(), first.clone()];
        passes(CommittedStays::default(), &[&story(2)[..], &[committed(3), then.clone()]].concat());
        fails(CommittedStays::default(), &[&story(3)[..], &[then]].concat());
    }

    #[test]
    fn a_disk_that_a_cut_has_not_reached_yet_holds_nothing_that_is_committed() {
        let cluster = Fact::Cluster { nodes: 3, min_in_sync: 2 };
        let told = |event| Fact::Reported { node: 0, event };
        let cut = told(ClusterEvent::Truncated { partition: P, end: Offset(2) });
        let other: &[&[(i64, u64)]] = &[&[(0, 10), (1, 11)], &[(2, 19)]];
        let (first, then) = (image(true, 0, ALL), image(true, 0, other));
        let story = [cluster, cut, committed(3), first.clone(), first];
        passes(CommittedStays::default(), &[&story[..], std::slice::from_ref(&then)].concat());
        let stored = Fact::Stored { node: 0, partition: P, end: 3, durable: true };
        fails(
            CommittedStays::default(),
            &[&story[..3], std::slice::from_ref(&stored), &story[3..], &[then]].concat(),
        );
    }

    #[test]
    fn a_committed_batch_that_leaves_is_found() {
        fails(
            CommittedStays::default(),
            &[committed(3), image(true, 0, ALL), image(true, 0, &ALL[..1])],
        );
    }

    #[test]
    fn a_committed_batch_that_changes_is_found() {
        let other: &[&[(i64, u64)]] = &[&[(0, 10), (1, 19)], &[(2, 12)]];
        fails(
            CommittedStays::default(),
            &[committed(3), image(true, 0, ALL), image(true, 0, other)],
        );
    }

    #[test]
    fn what_was_purged_may_leave_and_nothing_else() {
        let rest = image(true, 2, &ALL[1..]);
        passes(
            CommittedStays::default(),
            &[committed(3), image(true, 0, ALL), purge(2), rest.clone(), rest.clone()],
        );
        fails(CommittedStays::default(), &[committed(3), image(true, 0, ALL), purge(1), rest]);
    }

    #[test]
    fn a_start_that_goes_back_is_found() {
        let (purged, whole) = (image(true, 2, &ALL[1..]), image(true, 0, ALL));
        fails(CommittedStays::default(), &[committed(3), purged, whole]);
    }

    #[test]
    fn a_log_that_is_gone_is_found_unless_its_topic_was_deleted() {
        let nothing = Fact::Image { node: 0, durable: true, logs: Arc::default() };
        let deletion = Fact::AskedDeletion { topic_id: P.topic_id };
        let before = [committed(3), image(true, 0, ALL), image(true, 0, ALL)];
        fails(CommittedStays::default(), &[&before[..], std::slice::from_ref(&nothing)].concat());
        passes(CommittedStays::default(), &[&before[..], &[deletion, nothing]].concat());
    }

    #[test]
    fn files_that_do_not_fit_each_other_are_found() {
        let message = "a segment is short".to_owned();
        fails(CommittedStays::default(), &[Fact::Unreadable { node: 0, durable: true, message }]);
    }

    #[test]
    fn a_lazy_topic_may_lose_its_tail_to_a_power_cut_and_not_to_a_kill() {
        let crash = |power| Fact::Crashed { node: 0, power };
        let story = |power| {
            [
                made(Keeping::Written),
                committed(3),
                image(false, 0, ALL),
                image(false, 0, ALL),
                crash(power),
                image(false, 0, &ALL[..1]),
            ]
        };
        passes(CommittedStays::default(), &story(true));
        fails(CommittedStays::default(), &story(false));
    }
}
