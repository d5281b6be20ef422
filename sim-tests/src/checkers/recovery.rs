//! I16: recovery returns all that was promised and nothing that was never written, and recovering
//! what a recovery left behind changes nothing.

use super::Checker;
use crate::history::Fact;

/// Looks at every recovery.
#[derive(Debug, Default)]
pub struct Recovery {
    evaluations: u64,
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
}
