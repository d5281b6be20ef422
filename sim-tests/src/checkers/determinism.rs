//! I42: one seed is one run.

use super::Checker;
use crate::history::Fact;

/// Compares the hashes of two runs.
#[derive(Debug, Default)]
pub struct Determinism {
    evaluations: u64,
}

impl Checker for Determinism {
    fn id(&self) -> &'static str {
        "I42"
    }

    fn promise(&self) -> &'static str {
        "One seed is one run, on every machine and each time."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        let Fact::RanTwice { first, second } = fact else { return Ok(()) };
        self.evaluations += 1;
        if first != second {
            return Err(format!("two runs of one seed: {first:016x} and {second:016x}"));
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
    fn runs_that_differ_are_found() {
        passes(Determinism::default(), &[Fact::RanTwice { first: 1, second: 1 }]);
        fails(Determinism::default(), &[Fact::RanTwice { first: 1, second: 2 }]);
    }
}
