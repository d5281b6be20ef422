//! L5: once all is healed, no transaction stays open for longer than its timeout and ten seconds.

use super::super::Checker;
use crate::history::Fact;
use crate::workload::TRANSACTION_TIMEOUT_MAX;

/// How much longer than a timeout it may take, in nanoseconds.
const BEYOND: u64 = 10_000_000_000;

/// Waits until nobody does anything about transactions any more.
#[derive(Debug, Default)]
pub struct Unpinned {
    is_healed: bool,
    /// When something last happened that may let a transaction be open for a while yet.
    quiet_since: u64,
    evaluations: u64,
}

impl Checker for Unpinned {
    fn id(&self) -> &'static str {
        "L5"
    }

    fn promise(&self) -> &'static str {
        "Once the last fault has ended, everything that is committed is stable within a transaction's timeout and \
         ten seconds."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Healed { .. } | Fact::Core { .. } => {
                self.is_healed = true;
                self.quiet_since = at;
            }
            // A coordinator that begins anew gives every transaction its whole time.
            Fact::Ready { .. }
            | Fact::Reported { .. }
            | Fact::ProducerReady { .. }
            | Fact::TransactionBegun { .. }
            | Fact::SentIn { .. }
            | Fact::Acked { .. }
            | Fact::EndAsked { .. }
            | Fact::TransactionEnded { .. }
            | Fact::TransactionLeft { .. } => self.quiet_since = at,
            Fact::ReadCommitted {
                partition,
                high_watermark,
                last_stable_offset: Some(stable),
                ..
            } if self.is_healed => {
                self.evaluations += 1;
                let until = self.quiet_since + TRANSACTION_TIMEOUT_MAX + BEYOND;
                if stable < high_watermark && at > until {
                    return Err(format!(
                        "{partition} is stable up to {stable} of {high_watermark}, {} s after anybody did \
                         anything",
                        (at - self.quiet_since) / 1_000_000_000
                    ));
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
    use super::super::super::testing::*;
    use super::*;

    fn at(checker: &mut Unpinned, seconds: u64, stable: i64) -> Result<(), String> {
        let fact = Fact::ReadCommitted {
            client: 1,
            partition: P,
            from: 0,
            to: 0,
            records: Vec::new(),
            high_watermark: 4,
            last_stable_offset: Some(stable),
            aborted: None,
        };
        checker.observe(seconds * 1_000_000_000, &fact)
    }

    #[test]
    fn a_transaction_that_hangs_is_found() {
        let mut checker = Unpinned::default();
        at(&mut checker, 100, 2).expect("faults go on");
        let healed = Fact::Healed { node: 0, serves: true };
        checker.observe(100_000_000_000, &healed).expect("it says nothing");
        at(&mut checker, 115, 2).expect("it has time");
        at(&mut checker, 200, 4).expect("all is stable");
        at(&mut checker, 200, 2).expect_err("it hangs");
    }

    #[test]
    fn a_transaction_that_goes_on_is_waited_for() {
        let mut checker = Unpinned::default();
        let healed = Fact::Healed { node: 0, serves: true };
        checker.observe(0, &healed).expect("it says nothing");
        checker.observe(90_000_000_000, &acked(1, 0)).expect("it says nothing");
        at(&mut checker, 100, 2).expect("it is under way");
    }
}
