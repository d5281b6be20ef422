//! I06: a high watermark passes nothing that is not where its topic promises it to be: flushed, written or
//! in memory.

use std::collections::BTreeMap;

use mainspring_core::ids::{TopicId, TopicPartition};

use super::Checker;
use crate::history::{Fact, Keeping};

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// How far the log is flushed, and how far it is written.
    durable: i64,
    written: i64,
    /// The largest high watermark that the node has told.
    committed: i64,
}

/// Holds each high watermark against what the disk of its node had at that moment.
#[derive(Debug, Default)]
pub struct CommittedStored {
    keeping: BTreeMap<TopicId, Keeping>,
    places: BTreeMap<(usize, TopicPartition), Place>,
    /// Whether what is committed stands on several nodes, and perhaps not on this one yet: I06R looks there.
    is_cluster: bool,
    evaluations: u64,
}

impl CommittedStored {
    fn keeping(&self, partition: TopicPartition) -> Keeping {
        self.keeping.get(&partition.topic_id).copied().unwrap_or(Keeping::Flushed)
    }

    fn committed(
        &mut self,
        node: usize,
        partition: TopicPartition,
        offset: i64,
    ) -> Result<(), String> {
        if partition == TopicPartition::CLUSTER_METADATA {
            // A majority of voters has it, this node perhaps not among them.
            return Ok(());
        }
        let keeping = self.keeping(partition);
        let place = self.places.entry((node, partition)).or_default();
        place.committed = offset;
        let (stored, how) = match keeping {
            Keeping::Flushed => (place.durable, "flushed"),
            Keeping::Written => (place.written, "written"),
            Keeping::Memory => return Ok(()),
        };
        self.evaluations += 1;
        if offset > stored {
            return Err(format!(
                "the high watermark of {partition} on node {node} is {offset}, and its log is {how} up \
                 to {stored}"
            ));
        }
        Ok(())
    }
}

impl Checker for CommittedStored {
    fn id(&self) -> &'static str {
        "I06"
    }

    fn promise(&self) -> &'static str {
        "A record counts as committed only when it stands where its topic promises it: flushed, written, or \
         in memory."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Cluster { .. } => self.is_cluster = true,
            _ if self.is_cluster => {}
            Fact::TopicMade { topic_id, keeping } => {
                self.keeping.insert(*topic_id, *keeping);
            }
            Fact::Stored { node, partition, end, durable } => {
                let place = self.places.entry((*node, *partition)).or_default();
                let reach = if *durable { &mut place.durable } else { &mut place.written };
                *reach = (*reach).max(*end);
            }
            Fact::HighWatermark { node, partition, offset }
            | Fact::Bounds { node, partition, high_watermark: offset, .. } => {
                return self.committed(*node, *partition, *offset);
            }
            Fact::Image { node, durable, logs } => {
                for (partition, log) in logs.iter() {
                    let keeping = self.keeping(*partition);
                    let place = self.places.entry((*node, *partition)).or_default();
                    let (reach, counts) = if *durable {
                        (&mut place.durable, Keeping::Flushed)
                    } else {
                        (&mut place.written, Keeping::Written)
                    };
                    *reach = (*reach).max(log.end);
                    if keeping != counts {
                        continue;
                    }
                    self.evaluations += 1;
                    if log.end < place.committed {
                        return Err(format!(
                            "{partition} is committed up to {} on node {node}, and ends on its disk \
                             at {}",
                            place.committed, log.end
                        ));
                    }
                }
            }
            // What was written and not flushed may be gone, and its offsets are given out again.
            Fact::Crashed { node, power: true } => {
                let lazy = |id: &TopicId| self.keeping.get(id) == Some(&Keeping::Written);
                let of = self.places.iter_mut().filter(|((at, _), _)| at == node);
                for ((_, partition), place) in of {
                    if lazy(&partition.topic_id) {
                        place.committed = 0;
                    }
                    place.written = place.durable;
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

    fn stored(end: i64, durable: bool) -> Fact {
        Fact::Stored { node: 0, partition: P, end, durable }
    }

    #[test]
    fn what_is_flushed_may_be_committed() {
        passes(
            CommittedStored::default(),
            &[
                stored(4, false),
                stored(4, true),
                committed(4),
                image(true, 0, &[&[(0, 1), (1, 2), (2, 3), (3, 4)]]),
                Fact::Crashed { node: 0, power: true },
                committed(4),
            ],
        );
    }

    #[test]
    fn a_high_watermark_beyond_what_is_flushed_is_found() {
        fails(CommittedStored::default(), &[stored(4, false), stored(3, true), committed(4)]);
    }

    #[test]
    fn a_lazy_topic_may_commit_what_is_written_and_nothing_beyond() {
        let lazy = made(Keeping::Written);
        passes(CommittedStored::default(), &[lazy.clone(), stored(4, false), committed(4)]);
        fails(CommittedStored::default(), &[lazy, stored(4, false), committed(5)]);
    }

    #[test]
    fn a_topic_in_memory_needs_no_disk() {
        let memory = made(Keeping::Memory);
        verdict(CommittedStored::default(), &[memory, committed(5)]).expect("nothing to hold");
    }

    #[test]
    fn a_start_that_serves_what_only_the_page_cache_holds_is_found() {
        let bounds = Fact::Bounds { node: 0, partition: P, log_start: 0, high_watermark: 2 };
        let written = image(false, 0, &[&[(0, 1), (1, 2)]]);
        let durable = image(true, 0, &[&[(0, 1)]]);
        fails(CommittedStored::default(), &[durable, written, bounds]);
    }

    #[test]
    fn a_disk_that_ends_before_what_is_committed_is_found() {
        let short = image(true, 0, &[&[(0, 1)]]);
        fails(CommittedStored::default(), &[stored(2, true), committed(2), short]);
    }
}
