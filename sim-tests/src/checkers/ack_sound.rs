//! I07: whatever was acknowledged is on the device at that moment, so a power cut takes none of it.
//!
//! The scenario crash-points recovers copies of the disk in the middle of a run and tells what came
//! of each as [`Fact::Recovered`]. Whole worlds find the same loss later, by I03.

use super::Checker;
use crate::history::Fact;

/// Compares what had been acknowledged with what a durable image holds.
#[derive(Debug, Default)]
pub struct AckSound {
    evaluations: u64,
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
        let Fact::Recovered { partition, acked, recovered, .. } = fact else { return Ok(()) };
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
}
