//! I40: nothing grows beyond its bound.

use super::Checker;
use crate::history::Fact;

/// Looks at every size that is reported.
#[derive(Debug, Default)]
pub struct Bounds {
    evaluations: u64,
}

impl Checker for Bounds {
    fn id(&self) -> &'static str {
        "I40"
    }

    fn promise(&self) -> &'static str {
        "Nothing grows beyond its bound."
    }

    fn observe(&mut self, _at: u64, fact: &Fact) -> Result<(), String> {
        let Fact::Size { what, size, bound } = fact else { return Ok(()) };
        self.evaluations += 1;
        if size > bound {
            return Err(format!("{what} is {size}, beyond its bound of {bound}"));
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
    fn a_size_beyond_its_bound_is_found() {
        let size = |size| [Fact::Size { what: "a queue", size, bound: 5 }];
        passes(Bounds::default(), &size(5));
        fails(Bounds::default(), &size(6));
    }
}
