//! I41: no panic, no end without a reason, and no work that waits for ever.

use super::Checker;
use crate::history::Fact;

/// Looks at the ends of processes.
#[derive(Debug, Default)]
pub struct NoStop {
    evaluations: u64,
}

impl Checker for NoStop {
    fn id(&self) -> &'static str {
        "I41"
    }

    fn promise(&self) -> &'static str {
        "The node never panics, never gives up without a fault, and lets no work wait for ever."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Ready { .. } | Fact::Acked { .. } => self.evaluations += 1,
            Fact::Panicked { node, message } => {
                return Err(format!("node {node} panicked: {message}"));
            }
            Fact::Fatal { node, message, excused: false } => {
                return Err(format!("node {node} gave up without a fault: {message}"));
            }
            Fact::Stuck { what } => return Err(what.clone()),
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
    fn panics_stops_and_standstills_are_found() {
        let fatal = |excused| Fact::Fatal { node: 0, message: "rot".into(), excused };
        passes(NoStop::default(), &[Fact::Ready { node: 0 }, fatal(true)]);
        fails(NoStop::default(), &[fatal(false)]);
        fails(NoStop::default(), &[Fact::Panicked { node: 0, message: "index".into() }]);
        fails(NoStop::default(), &[Fact::Stuck { what: "a send waits for ever".into() }]);
    }
}
