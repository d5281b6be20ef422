//! L9: a fault of 100 ms at most leaves no lasting effect.

use std::collections::BTreeMap;

use super::Checker;
use crate::history::{Fact, OperationId};

/// How long after the last fault an acknowledgement takes at most: one lost connection and what is sent
/// again, in nanoseconds.
const WITHIN: u64 = 3_000_000_000;

/// Watches how long sends take in worlds of short faults.
#[derive(Debug, Default)]
pub struct ShortFaults {
    is_gentle: bool,
    sent: BTreeMap<OperationId, u64>,
    /// When the last fault ended, or will.
    last: u64,
    evaluations: u64,
}

impl Checker for ShortFaults {
    fn id(&self) -> &'static str {
        "L9"
    }

    fn promise(&self) -> &'static str {
        "A fault of at most 100 ms leaves nothing behind: everything goes on as if it had not been."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Gentle => self.is_gentle = true,
            Fact::Strikes { until } => self.last = self.last.max(*until),
            Fact::Invoked { operation, .. } if self.is_gentle => {
                self.sent.insert(*operation, at);
            }
            // A transaction waits for the one before it, and whoever makes it sleeps at times.
            Fact::SentIn { operation, .. } => {
                self.sent.remove(operation);
            }
            Fact::Acked { operation, .. } => {
                if let Some(sent) = self.sent.remove(operation) {
                    self.evaluations += 1;
                    let took = at.saturating_sub(sent.max(self.last));
                    if took > WITHIN {
                        return Err(format!(
                            "{operation:?} took {} ms more than any fault, none of which lasted longer than \
                             100",
                            took / 1_000_000
                        ));
                    }
                }
            }
            Fact::Crashed { .. } if self.is_gentle => {
                return Err("a process died of short faults".to_owned());
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
    fn a_send_that_takes_long_for_a_short_fault_is_found() {
        let verdict = |gentle: bool, at| {
            let mut checker = ShortFaults::default();
            if gentle {
                checker.observe(0, &Fact::Gentle).expect("nothing has happened");
            }
            checker.observe(1, &invoked(1, &[5])).expect("it has time");
            checker.observe(at, &acked(1, 0)).map(|()| checker.evaluations())
        };
        assert_eq!(verdict(true, WITHIN), Ok(1));
        verdict(true, WITHIN + 2).expect_err("too long");
        assert_eq!(verdict(false, WITHIN + 2), Ok(0), "long faults may do that");
        let sent_in = Fact::SentIn { transaction: op(9), operation: op(1) };
        let [late, begun] = [acked(1, 0), invoked(1, &[5])];
        let mut checker = ShortFaults::default();
        for (at, fact) in [(0, Fact::Gentle), (1, begun), (1, sent_in), (WITHIN + 2, late)] {
            checker.observe(at, &fact).expect("a transaction may wait");
        }
        let again = [Fact::Gentle, invoked(1, &[5]), Fact::Strikes { until: WITHIN }];
        let mut checker = ShortFaults::default();
        for fact in again {
            checker.observe(1, &fact).expect("it has time");
        }
        checker.observe(WITHIN + 9, &acked(1, 0)).expect("another fault struck meanwhile");
    }
}
