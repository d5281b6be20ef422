//! I07 on replicas: whatever was acknowledged is committed, and on enough disks.

use std::collections::BTreeMap;

use mainspring_core::ids::TopicPartition;

use super::ghost::Ghost;
use crate::checkers::Checker;
use crate::history::{Fact, OperationId};

/// Counts the copies of what clients are told is stored.
#[derive(Debug, Default)]
pub struct AckedCopies {
    ghost: Ghost,
    sent: BTreeMap<OperationId, (TopicPartition, i64)>,
    evaluations: u64,
}

impl Checker for AckedCopies {
    fn id(&self) -> &'static str {
        "I07R"
    }

    fn promise(&self) -> &'static str {
        "What is acknowledged is committed, and flushed by as many replicas as the topic asks for."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        self.ghost.observe(fact);
        let (operation, base_offset) = match fact {
            Fact::Invoked { operation, partition, records } => {
                self.sent.insert(*operation, (*partition, records.len() as i64));
                return Ok(());
            }
            Fact::Acked { operation, base_offset } => (operation, base_offset),
            _ => return Ok(()),
        };
        let Some((partition, records)) = self.sent.remove(operation) else { return Ok(()) };
        let ghost = &self.ghost;
        if ghost.is_exempt(partition) {
            return Ok(());
        }
        self.evaluations += 1;
        let end = base_offset + records;
        let committed = ghost.committed(partition).map_or(0, |committed| committed.end);
        if end > committed {
            return Err(format!(
                "{operation:?} was acknowledged at {base_offset}..{end} of {partition}, whose largest high \
                 watermark was {committed}"
            ));
        }
        let copies = ghost.copies(partition, end);
        let least = ghost.least_copies(partition).unwrap_or(0);
        if copies.len() + ghost.reverted() < least {
            return Err(format!(
                "{operation:?} was acknowledged at {base_offset}..{end} of {partition}, which is on the disks \
                 of nodes {copies:?} alone, and {least} must have it"
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

    #[test]
    fn what_is_committed_and_on_enough_disks_may_be_acknowledged() {
        passes(AckedCopies::default(), &then(&[invoked(1, &[5, 6]), acked(1, 0)]));
    }

    #[test]
    fn an_acknowledgement_beyond_the_high_watermark_is_found() {
        fails(AckedCopies::default(), &then(&[invoked(1, &[5, 6]), acked(1, 1)]));
    }

    #[test]
    fn an_acknowledgement_with_too_few_copies_is_found() {
        let gone = [cut(1, 1), cut(2, 1), invoked(1, &[5]), acked(1, 1)];
        fails(AckedCopies::default(), &then(&gone));
    }
}
