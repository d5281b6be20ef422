//! Reads the counts that test runners print.

/// How many checks passed, failed and were left out.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// One check that ended in this way.
    pub(crate) fn one(passed: bool) -> Self {
        Self { passed: u64::from(passed), failed: u64::from(!passed), skipped: 0 }
    }

    /// One check that this machine cannot run.
    pub(crate) fn one_skipped() -> Self {
        Self { skipped: 1, ..Self::default() }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Reads a line that reports on tests; `None` for any other line.
///
/// Four forms are known: cargo's own (`test result: ok. 3 passed; 0 failed; 1 ignored; ...`),
/// nextest's (`Summary [ 0.1s] 4 tests run: 3 passed, 1 failed, 0 skipped`), pytest's
/// (`1 failed, 3 passed in 0.52s`), and the one that our own runners end with (`3 passed, 0 failed, 1
/// skipped`).
pub(crate) fn read(line: &str) -> Option<Counts> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("test result: ") {
        return Some(Counts {
            passed: before(rest, "passed")?,
            failed: before(rest, "failed")?,
            skipped: before(rest, "ignored").unwrap_or(0),
        });
    }
    if line.starts_with("Summary [") {
        return Some(Counts {
            passed: before(line, "passed").unwrap_or(0),
            failed: before(line, "failed").unwrap_or(0) + before(line, "timed").unwrap_or(0),
            skipped: before(line, "skipped").unwrap_or(0),
        });
    }
    if let Some(counts) = pytest(line) {
        return Some(counts);
    }
    let parts: Vec<&str> = line.split(", ").collect();
    if !(2..=3).contains(&parts.len()) {
        return None;
    }
    let whole = |part: Option<&&str>, word: &str| {
        part.and_then(|part| part.strip_suffix(word)?.strip_suffix(' ')?.parse().ok())
    };
    Some(Counts {
        passed: whole(parts.first(), "passed")?,
        failed: whole(parts.get(1), "failed")?,
        skipped: if parts.len() == 3 { whole(parts.get(2), "skipped")? } else { 0 },
    })
}

/// Reads pytest's last line.
fn pytest(line: &str) -> Option<Counts> {
    let (outcomes, took) = line.trim_matches(['=', ' ']).rsplit_once(" in ")?;
    took.split(' ').next()?.strip_suffix('s')?.parse::<f64>().ok()?;
    let mut counts = Counts::default();
    for outcome in outcomes.split(", ") {
        let (number, word) = outcome.split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        match word {
            "passed" => counts.passed += number,
            "failed" | "error" | "errors" => counts.failed += number,
            "skipped" => counts.skipped += number,
            "warning" | "warnings" | "deselected" | "xfailed" | "xpassed" => {}
            _ => return None,
        }
    }
    Some(counts)
}

/// Returns the number that stands before a word.
fn before(text: &str, word: &str) -> Option<u64> {
    let words: Vec<&str> = text.split([' ', ';', ',']).filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|candidate| *candidate == word)?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_pytest_is_read() {
        let counts = |passed, failed, skipped| Some(Counts { passed, failed, skipped });
        assert_eq!(read("3 passed in 0.52s"), counts(3, 0, 0));
        assert_eq!(read("1 failed, 3 passed, 2 skipped, 1 warning in 1.50s"), counts(3, 1, 2));
        assert_eq!(read("== 2 errors in 62.10s (0:01:02) =="), counts(0, 2, 0));
        assert_eq!(read("no tests ran in 0.01s"), None);
        assert_eq!(read("3 passed in a row"), None);
    }

    #[test]
    fn cargo_result_lines_are_read() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.00s";
        assert_eq!(read(line), Some(Counts { passed: 12, failed: 2, skipped: 1 }));
    }

    #[test]
    fn nextest_summaries_are_read() {
        let line = "     Summary [   1.023s] 14 tests run: 12 passed (1 slow), 2 failed, 5 skipped";
        assert_eq!(read(line), Some(Counts { passed: 12, failed: 2, skipped: 5 }));
    }

    #[test]
    fn own_result_lines_are_read_with_and_without_skipped() {
        assert_eq!(
            read("7 passed, 1 failed, 2 skipped"),
            Some(Counts { passed: 7, failed: 1, skipped: 2 })
        );
        assert_eq!(read("7 passed, 0 failed"), Some(Counts { passed: 7, failed: 0, skipped: 0 }));
    }

    #[test]
    fn other_lines_are_no_result() {
        for line in ["", "running 3 tests", "passed, failed", "3 passed, none failed", "1, 2, 3"] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
