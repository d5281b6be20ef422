//! I23: the last stable offset is where it has to be, and never goes back.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;

use super::super::Checker;
use super::WholeLog;
use crate::history::Fact;

/// Remembers every last stable offset that a client was told, until the whole logs are read.
#[derive(Debug, Default)]
pub struct StableOffset {
    clients: BTreeMap<(usize, TopicPartition), i64>,
    /// High watermarks and last stable offsets, each pair once.
    told: BTreeMap<(TopicPartition, i64, i64), usize>,
    logs: BTreeMap<TopicPartition, WholeLog>,
    /// Whether clients ask now one replica, now another.
    is_cluster: bool,
    evaluations: u64,
}

impl Checker for StableOffset {
    fn id(&self) -> &'static str {
        "I23"
    }

    fn promise(&self) -> &'static str {
        "The last stable offset is the high watermark, or the first offset of a transaction without a committed \
         marker; it never goes back."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Cluster { .. } => self.is_cluster = true,
            Fact::ReadCommitted {
                client,
                partition,
                high_watermark,
                last_stable_offset: Some(stable),
                ..
            } => {
                if stable > high_watermark {
                    return Err(format!(
                        "client {client} was told that {partition} is stable up to {stable}, beyond the high \
                         watermark {high_watermark}"
                    ));
                }
                let last = self.clients.entry((*client, *partition)).or_insert(*stable);
                // A new leader learns by and by how far the one before had come.
                if stable < last && !self.is_cluster {
                    return Err(format!(
                        "client {client} was told that {partition} is stable up to {last}, and later up to \
                         {stable}"
                    ));
                }
                *last = *stable;
                self.told.entry((*partition, *high_watermark, *stable)).or_insert(*client);
            }
            Fact::FinalLog { partition, log_start, records } => {
                self.logs.insert(*partition, WholeLog::of(*log_start, records));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        for (&(partition, high_watermark, stable), client) in &self.told {
            let Some(log) = self.logs.get(&partition).filter(|log| log.start == 0) else {
                continue;
            };
            self.evaluations += 1;
            let wanted = log.stable(high_watermark);
            if stable != wanted {
                return Err(format!(
                    "client {client} was told that {partition} is stable up to {stable} where its high \
                     watermark is {high_watermark}; it is up to {wanted}"
                ));
            }
        }
        Ok(())
    }

    fn evaluations(&self) -> u64 {
        self.evaluations
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::*;
    use super::super::testing::*;
    use super::*;

    fn told(high_watermark: i64, stable: i64) -> Fact {
        Fact::ReadCommitted {
            client: 1,
            partition: P,
            from: 0,
            to: 0,
            records: Vec::new(),
            high_watermark,
            last_stable_offset: Some(stable),
            aborted: None,
        }
    }

    fn log() -> Fact {
        whole(&[data(0, 9, 10), marker(1, 9, true), data(2, 9, 11), marker(3, 9, false)])
    }

    #[test]
    fn offsets_that_follow_the_markers_pass() {
        let facts = [told(1, 0), told(2, 2), told(3, 2), told(4, 4), log()];
        passes(StableOffset::default(), &facts);
    }

    #[test]
    fn an_offset_that_goes_back_or_beyond_is_found() {
        fails(StableOffset::default(), &[told(4, 4), told(4, 2)]);
        fails(StableOffset::default(), &[told(3, 4)]);
        let apart = Fact::Cluster { nodes: 3, min_in_sync: 2 };
        verdict(StableOffset::default(), &[apart, told(4, 4), told(3, 2)])
            .expect("of two replicas");
    }

    #[test]
    fn an_offset_that_is_not_that_of_the_log_is_found() {
        fails(StableOffset::default(), &[told(1, 1), log()]);
        fails(StableOffset::default(), &[told(4, 2), log()]);
    }
}
