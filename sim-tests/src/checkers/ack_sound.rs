//! I07: whatever was acknowledged is committed, and stands where its topic promises it, at that moment.
//!
//! The scenario crash-points recovers copies of the disk in the middle of a run and tells what came
//! of each as [`Fact::Recovered`]. Worlds read the disks past core, before each crash and at times in
//! between ([`Fact::Image`]).

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::{TopicId, TopicPartition};

use super::Checker;
use crate::history::{Fact, ImageLog, Keeping, OperationId};

/// Compares what had been acknowledged with what the disks hold.
#[derive(Debug, Default)]
pub struct AckSound {
    keeping: BTreeMap<TopicId, Keeping>,
    sent: BTreeMap<OperationId, (TopicPartition, Vec<u64>)>,
    committed: BTreeMap<TopicPartition, i64>,
    /// The node that keeps each partition.
    keepers: BTreeMap<TopicPartition, usize>,
    /// Acknowledged since the disk was last read; what was found there once is held by I10.
    fresh: BTreeMap<(TopicPartition, i64), u64>,
    gone: BTreeSet<TopicId>,
    /// Whether it stands on several nodes, and perhaps not on one that is looked at: I07R counts them.
    is_cluster: bool,
    power_lost: bool,
    evaluations: u64,
}

impl AckSound {
    fn keeping(&self, id: TopicId) -> Keeping {
        self.keeping.get(&id).copied().unwrap_or(Keeping::Flushed)
    }

    /// Returns whether what a topic holds may have gone since it was acknowledged.
    fn may_lose(&self, id: TopicId) -> bool {
        let lazy = self.keeping(id) == Keeping::Written;
        self.gone.contains(&id) || (lazy && self.power_lost)
    }

    fn acked(&mut self, operation: OperationId, base_offset: i64) -> Result<(), String> {
        let Some((partition, records)) = self.sent.remove(&operation) else { return Ok(()) };
        if self.may_lose(partition.topic_id) {
            return Ok(());
        }
        let end = base_offset + records.len() as i64;
        let committed = self.committed.get(&partition).copied().unwrap_or(0);
        self.evaluations += 1;
        if end > committed {
            return Err(format!(
                "{operation:?} was acknowledged at {base_offset}..{end} of {partition}, whose largest \
                 high watermark was {committed}"
            ));
        }
        if self.keeping(partition.topic_id) != Keeping::Memory {
            let placed = (base_offset..).zip(records);
            self.fresh.extend(placed.map(|(offset, hash)| ((partition, offset), hash)));
        }
        Ok(())
    }

    fn compare(
        &mut self,
        (node, durable): (usize, bool),
        logs: &BTreeMap<TopicPartition, ImageLog>,
    ) -> Result<(), String> {
        let counts = if durable { Keeping::Flushed } else { Keeping::Written };
        let (looked_at, rest) =
            std::mem::take(&mut self.fresh).into_iter().partition(|((partition, _), _)| {
                self.keeping(partition.topic_id) == counts
                    && self.keepers.get(partition).is_none_or(|keeper| *keeper == node)
            });
        self.fresh = rest;
        let looked_at: BTreeMap<(TopicPartition, i64), u64> = looked_at;
        for ((partition, offset), hash) in looked_at {
            if self.may_lose(partition.topic_id) {
                continue;
            }
            self.evaluations += 1;
            let log = logs.get(&partition);
            let found = log.and_then(|log| log.record(offset));
            let before = log.is_some_and(|log| offset < log.start);
            if !before && found.is_none_or(|found| found.hash != hash) {
                return Err(format!(
                    "offset {offset} of {partition} was acknowledged as {hash:016x}, and the disk holds \
                     {} there of {log:?}",
                    found.map_or_else(
                        || "nothing".to_owned(),
                        |found| format!("{:016x}", found.hash)
                    )
                ));
            }
        }
        Ok(())
    }
}

impl Checker for AckSound {
    fn id(&self) -> &'static str {
        "I07"
    }

    fn promise(&self) -> &'static str {
        "What is acknowledged is durable at that moment, so that a power cut right behind it takes nothing \
         of it."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::TopicMade { topic_id, keeping } => {
                self.keeping.insert(*topic_id, *keeping);
            }
            Fact::AskedDeletion { topic_id } => {
                self.gone.insert(*topic_id);
            }
            Fact::Crashed { power: true, .. } => self.power_lost = true,
            Fact::HighWatermark { node, partition, offset }
            | Fact::Bounds { node, partition, high_watermark: offset, .. } => {
                self.keepers.insert(*partition, *node);
                let committed = self.committed.entry(*partition).or_insert(0);
                *committed = (*committed).max(*offset);
            }
            Fact::Invoked { operation, partition, records } => {
                self.sent.insert(*operation, (*partition, records.clone()));
            }
            Fact::Acked { operation, base_offset } => {
                return self.acked(*operation, *base_offset);
            }
            Fact::Cluster { .. } => self.is_cluster = true,
            Fact::Image { .. } if self.is_cluster => self.fresh.clear(),
            Fact::Image { node, durable, logs } => return self.compare((*node, *durable), logs),
            Fact::Recovered { partition, acked, recovered, .. } => {
                let mut found = recovered.iter();
                for (offset, hash) in acked {
                    self.evaluations += 1;
                    if !found.any(|record| record == &(*offset, *hash)) {
                        return Err(format!(
                            "offset {offset} of {partition} was acknowledged as {hash:016x} and is not \
                             in the durable image, which ends at {}",
                            recovered.last().map_or(0, |(last, _)| last + 1)
                        ));
                    }
                }
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
    use super::super::testing::*;
    use super::*;

    fn recovered(acked: &[(i64, u64)], recovered: &[(i64, u64)]) -> Fact {
        Fact::Recovered {
            partition: P,
            acked: acked.to_vec(),
            written: recovered.to_vec(),
            recovered: recovered.to_vec(),
            again: recovered.to_vec(),
        }
    }

    #[test]
    fn an_acknowledgement_without_its_bytes_is_found() {
        passes(AckSound::default(), &[recovered(&[(0, 5)], &[(0, 5), (1, 6)])]);
        fails(AckSound::default(), &[recovered(&[(0, 5), (1, 6)], &[(0, 5)])]);
        fails(AckSound::default(), &[recovered(&[(0, 5)], &[(0, 6)])]);
    }
    #[test]
    fn what_is_acknowledged_and_on_the_disk_passes() {
        let log = image(true, 0, &[&[(0, 5), (1, 6)], &[(2, 7)]]);
        passes(
            AckSound::default(),
            &[invoked(1, &[5, 6]), committed(2), acked(1, 0), log.clone(), log],
        );
    }

    #[test]
    fn an_acknowledgement_beyond_the_high_watermark_is_found() {
        fails(AckSound::default(), &[invoked(1, &[5, 6]), committed(1), acked(1, 0)]);
    }

    #[test]
    fn an_acknowledged_record_that_the_disk_lacks_or_has_otherwise_is_found() {
        for other in [&[(0, 5)][..], &[(0, 5), (1, 9)]] {
            fails(
                AckSound::default(),
                &[invoked(1, &[5, 6]), committed(2), acked(1, 0), image(true, 0, &[other])],
            );
        }
    }

    #[test]
    fn what_was_purged_need_not_be_there() {
        let purged = image(true, 2, &[]);
        passes(AckSound::default(), &[invoked(1, &[5, 6]), committed(2), acked(1, 0), purged]);
    }

    #[test]
    fn a_lazy_topic_is_held_to_what_is_written() {
        let story = |durable| {
            let nothing = image(durable, 0, &[]);
            [made(Keeping::Written), invoked(1, &[5]), committed(1), acked(1, 0), nothing]
        };
        passes(AckSound::default(), &story(true));
        fails(AckSound::default(), &story(false));
    }
}
