//! I14: a record comes out as it went in; nothing comes out that nobody sent.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::ids::TopicPartition;

use super::Checker;
use crate::history::Fact;

/// Remembers every record that was ever sent.
#[derive(Debug, Default)]
pub struct ByteIdentity {
    sent: BTreeMap<TopicPartition, BTreeSet<u64>>,
    evaluations: u64,
}

impl Checker for ByteIdentity {
    fn id(&self) -> &'static str {
        "I14"
    }

    fn promise(&self) -> &'static str {
        "A record comes out as it went in, and none comes out that nobody sent."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Invoked { partition, records, .. } => {
                self.sent.entry(*partition).or_default().extend(records);
            }
            Fact::Read { partition, records, .. } | Fact::FinalLog { partition, records, .. } => {
                let sent = self.sent.get(partition);
                for record in records.iter().filter(|record| !record.is_control()) {
                    self.evaluations += 1;
                    if !sent.is_some_and(|sent| sent.contains(&record.hash)) {
                        return Err(format!(
                            "offset {} of {partition} holds {:016x}, which nobody sent there",
                            record.offset, record.hash
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

    #[test]
    fn a_record_that_nobody_sent_is_found() {
        passes(ByteIdentity::default(), &[invoked(1, &[5]), read(0, &[(0, 5)], 1)]);
        fails(ByteIdentity::default(), &[invoked(1, &[5]), read(0, &[(0, 6)], 1)]);
    }
}
