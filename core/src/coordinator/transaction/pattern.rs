//! A pattern of transactional ids (KIP-1152).
//!
//! A client chooses it, so it is bounded: in its own length, and in what it becomes when it is compiled, which is
//! what each letter of an id may cost. Matching takes a time that is linear in both.

use regex_lite::{Regex, RegexBuilder};

use crate::error::ErrorCode;

/// Most bytes of a pattern.
const LENGTH_MAX: usize = 256;
/// Most bytes of what it is compiled to.
const SIZE_MAX: usize = 8 << 10;
/// How deep groups may stand in each other.
const DEPTH_MAX: u32 = 16;

/// A pattern that an id matches as a whole.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Reads one.
    ///
    /// # Errors
    /// `INVALID_REGULAR_EXPRESSION` 128 where it is none, or beyond the bounds.
    pub fn parse(text: &str) -> Result<Self, ErrorCode> {
        let invalid = |_| ErrorCode::InvalidRegularExpression;
        if text.len() > LENGTH_MAX {
            return Err(ErrorCode::InvalidRegularExpression);
        }
        let compile =
            |text: &str| RegexBuilder::new(text).size_limit(SIZE_MAX).nest_limit(DEPTH_MAX).build();
        // By itself first: it might close the group that it is put into.
        compile(text).map_err(invalid)?;
        compile(&format!("^(?:{text})$")).map(Self).map_err(invalid)
    }

    /// Returns whether an id matches.
    pub fn matches(&self, transactional_id: &str) -> bool {
        self.0.is_match(transactional_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_matches_as_a_whole() {
        for (pattern, id, matches) in [
            ("orders", "orders", true),
            ("orders", "orders-1", false),
            ("orders-.*", "orders-1", true),
            ("a|b", "ab", false),
            ("(eu|us)-[0-9]+", "us-17", true),
            (".*", "", true),
        ] {
            let parsed = Pattern::parse(pattern).expect(pattern);
            assert_eq!(parsed.matches(id), matches, "{pattern} {id}");
        }
    }

    #[test]
    fn what_is_no_pattern_or_costs_too_much_is_refused() {
        let long = "a".repeat(LENGTH_MAX + 1);
        for pattern in ["(", "a)|(b", "[", "(?=a)", "(a{1,100}){1,100}", &long, &"(".repeat(100)] {
            let refused = Pattern::parse(pattern).map(|_| ());
            assert_eq!(refused, Err(ErrorCode::InvalidRegularExpression), "{pattern}");
        }
    }
}
