//! I16: recovery returns all that was promised and nothing that was never written, and recovering
//! what a recovery left behind changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::{Fact, ImageLog, SeenRecord};

/// Looks at every recovery, and at what disks hold.
#[derive(Debug, Default)]
pub struct Recovery {
    sent: BTreeMap<TopicPartition, BTreeSet<u64>>,
    /// Batches of nodes that were looked at, by their first offsets.
    known: BTreeMap<(usize, TopicPartition, i64), Arc<[SeenRecord]>>,
    evaluations: u64,
}

impl Recovery {
    /// A disk holds nothing that nobody sent, whatever a crash made of it.
    fn look(
        &mut self,
        node: usize,
        partition: TopicPartition,
        log: &ImageLog,
    ) -> Result<(), String> {
        // The broker's own logs are nobody's sends.
        let Some(sent) = self.sent.get(&partition) else { return Ok(()) };
        let mut next = log.start;
        for batch in &log.batches {
            let (Some(first), Some(last)) = (batch.first(), batch.last()) else { continue };
            if first.offset > next {
                return Err(format!(
                    "{partition} goes on at offset {} on a disk, behind a gap from {next}",
                    first.offset
                ));
            }
            next = last.offset + 1;
            let known = self.known.get(&(node, partition, first.offset));
            if known.is_some_and(|known| Arc::ptr_eq(known, batch)) {
                continue;
            }
            for record in batch.iter() {
                self.evaluations += 1;
                if !record.is_control() && !sent.contains(&record.hash) {
                    return Err(format!(
                        "offset {} of {partition} holds {:016x} on a disk, which nobody sent there",
                        record.offset, record.hash
                    ));
                }
            }
            self.known.insert((node, partition, first.offset), Arc::clone(batch));
        }
        Ok(())
    }
}

impl Checker for Recovery {
    fn id(&self) -> &'static str {
        "I16"
    }

    fn promise(&self) -> &'static str {
        "A start recovers all that was promised before it and nothing that was never written, and a second \
         start recovers the same."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Invoked { partition, records, .. } => {
                self.sent.entry(*partition).or_default().extend(records);
            }
            Fact::Image { node, logs, .. } => {
                for (partition, log) in logs.iter() {
                    self.look(*node, *partition, log)?;
                }
            }
            _ => {}
        }
        let Fact::Recovered { partition, written, recovered, again, .. } = fact else {
            return Ok(());
        };
        self.evaluations += 1;
        for (expected, found) in written.iter().zip(recovered) {
            if expected != found {
                return Err(format!(
                    "{partition} recovered {:016x} at offset {} where {:016x} at {} had been \
                     written",
                    found.1, found.0, expected.1, expected.0
                ));
            }
        }
        if recovered.len() > written.len() {
            return Err(format!(
                "{partition} recovered {} records of {} ever written",
                recovered.len(),
                written.len()
            ));
        }
        if again != recovered {
            return Err(format!(
                "{partition} recovered {} records, and {} when it was recovered again",
                recovered.len(),
                again.len()
            ));
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

    fn recovered(
        written: &[(i64, u64)],
        recovered: &[(i64, u64)],
        again: &[(i64, u64)],
    ) -> [Fact; 1] {
        [Fact::Recovered {
            partition: P,
            acked: vec![],
            written: written.to_vec(),
            recovered: recovered.to_vec(),
            again: again.to_vec(),
        }]
    }

    #[test]
    fn what_was_never_written_is_found() {
        let log = [(0, 5), (1, 6)];
        passes(Recovery::default(), &recovered(&log, &log[..1], &log[..1]));
        fails(Recovery::default(), &recovered(&log[..1], &log, &log));
        fails(Recovery::default(), &recovered(&log, &[(0, 5), (1, 7)], &[(0, 5), (1, 7)]));
    }

    #[test]
    fn a_second_recovery_that_differs_is_found() {
        let log = [(0, 5), (1, 6)];
        fails(Recovery::default(), &recovered(&log, &log, &log[..1]));
    }
    #[test]
    fn a_disk_that_holds_what_nobody_sent_is_found() {
        let log = image(false, 0, &[&[(0, 5)], &[(1, 6)]]);
        passes(Recovery::default(), &[invoked(1, &[5, 6]), log.clone(), log.clone()]);
        fails(Recovery::default(), &[invoked(1, &[5]), log]);
    }

    #[test]
    fn a_gap_in_a_log_is_found() {
        let log = image(true, 0, &[&[(0, 5)], &[(2, 6)]]);
        fails(Recovery::default(), &[invoked(1, &[5, 6]), log]);
    }
}
