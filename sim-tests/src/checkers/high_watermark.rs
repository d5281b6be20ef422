//! I05: what is visible of a high watermark or a log start never goes back.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;
use mainspring_core::observe::ClusterEvent;

use super::Checker;
use crate::history::Fact;

/// Remembers the largest high watermark of each node, and what each client was told.
#[derive(Debug, Default)]
pub struct HighWatermark {
    nodes: BTreeMap<(usize, TopicPartition), i64>,
    clients: BTreeMap<(usize, TopicPartition), (i64, i64)>,
    /// Whether clients ask now one replica, now another.
    is_cluster: bool,
    evaluations: u64,
}

impl Checker for HighWatermark {
    fn id(&self) -> &'static str {
        "I05"
    }

    fn promise(&self) -> &'static str {
        "A high watermark and a log start that a client has seen never go back."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::HighWatermark { node, partition, offset } => {
                self.evaluations += 1;
                let largest = self.nodes.entry((*node, *partition)).or_insert(*offset);
                if *offset < *largest {
                    return Err(format!(
                        "the high watermark of {partition} on node {node} went from {largest} \
                         back to {offset}"
                    ));
                }
                *largest = *offset;
            }
            Fact::Bounds { node, partition, log_start, high_watermark } => {
                self.evaluations += 1;
                if log_start > high_watermark {
                    return Err(format!(
                        "{partition} on node {node} starts at {log_start}, beyond its high watermark \
                         {high_watermark}"
                    ));
                }
            }
            // A replica begins anew with what it knows to be committed.
            Fact::Reported { node, event: ClusterEvent::Opened { partition, .. } } => {
                self.nodes.remove(&(*node, *partition));
            }
            Fact::Cluster { .. } => self.is_cluster = true,
            Fact::Read { client, partition, high_watermark, log_start, .. } => {
                self.evaluations += 1;
                if log_start > high_watermark {
                    return Err(format!(
                        "{partition} starts at {log_start}, beyond its high watermark \
                         {high_watermark}"
                    ));
                }
                // A new leader learns by and by how far the one before had come.
                if self.is_cluster {
                    return Ok(());
                }
                let (high, start) = self
                    .clients
                    .entry((*client, *partition))
                    .or_insert((*high_watermark, *log_start));
                if high_watermark < high || log_start < start {
                    return Err(format!(
                        "client {client} saw {partition} at {start}..{high} and later at \
                         {log_start}..{high_watermark}"
                    ));
                }
                (*high, *start) = (*high_watermark, *log_start);
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

    #[test]
    fn a_high_watermark_that_goes_back_is_found() {
        let moved = |offset| Fact::HighWatermark { node: 0, partition: P, offset };
        passes(HighWatermark::default(), &[moved(1), moved(1), moved(4)]);
        fails(HighWatermark::default(), &[moved(4), moved(3)]);
    }

    #[test]
    fn a_replica_that_starts_anew_may_know_less() {
        let moved = |offset| Fact::HighWatermark { node: 0, partition: P, offset };
        let opened = ClusterEvent::Opened {
            partition: P,
            log_start_offset: Offset(0),
            log_end_offset: Offset(4),
        };
        let opened = Fact::Reported { node: 0, event: opened };
        passes(HighWatermark::default(), &[moved(4), opened, moved(3)]);
    }

    #[test]
    fn a_client_that_is_told_less_than_before_is_found() {
        fails(HighWatermark::default(), &[read(0, &[], 4), read(0, &[], 3)]);
    }
}
