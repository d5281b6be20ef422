//! How a command fails: an exit code and one line that says what, why, and what to do next.

use std::fmt;

use serde::Serialize;

/// Exit codes of every command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    /// The operation failed.
    Failed = 1,
    /// The command was used wrongly.
    Usage = 2,
    /// What was named is not there.
    NotFound = 3,
    /// It took too long.
    TimedOut = 4,
    /// The broker does not allow it.
    NotAllowed = 5,
}

/// A failed command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Failure {
    #[serde(serialize_with = "number")]
    pub(crate) code: Code,
    pub(crate) what: String,
    pub(crate) why: String,
    pub(crate) next: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn number<S: serde::Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(*code as u8)
}

impl Failure {
    /// Says what failed, why, and what to do next.
    pub(crate) fn new(
        code: Code,
        what: impl AsRef<str>,
        why: impl fmt::Display,
        next: impl Into<String>,
    ) -> Self {
        let (what, why) = (one_line(what.as_ref()), one_line(&why.to_string()));
        Self { code, what, why, next: next.into() }
    }

    /// Takes a line of the form `what: why; next`.
    pub(crate) fn from_line(code: Code, line: &str) -> Self {
        let line = one_line(line);
        let (what, rest) = line.split_once(": ").unwrap_or((&line, ""));
        let (why, next) = rest.rsplit_once("; ").unwrap_or((rest, ""));
        Self { code, what: what.into(), why: why.into(), next: next.into() }
    }

    /// A command that was used wrongly.
    pub(crate) fn usage(
        what: impl AsRef<str>,
        why: impl fmt::Display,
        next: impl Into<String>,
    ) -> Self {
        Self::new(Code::Usage, what, why, next)
    }

    /// The failure as one line of JSON.
    pub(crate) fn json(&self) -> String {
        #[derive(Serialize)]
        struct Wrapped<'a> {
            error: &'a Failure,
        }
        serde_json::to_string(&Wrapped { error: self }).expect("strings and a number are JSON")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mainspring: {}", self.what)?;
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        if !self.next.is_empty() {
            write!(f, "; {}", self.next)?;
        }
        Ok(())
    }
}

/// Joins the lines of a text, with single spaces.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the system's words for an error, without its number.
pub(crate) fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_with_three_parts() {
        let failure = Failure::new(Code::NotFound, "cannot read\nx", "no such\n file", "name one");
        assert_eq!(failure.to_string(), "mainspring: cannot read x: no such file; name one");
        assert_eq!(
            failure.json(),
            r#"{"error":{"code":3,"what":"cannot read x","why":"no such file","next":"name one"}}"#
        );
    }

    #[test]
    fn a_line_of_the_core_is_taken_apart_and_put_together_again() {
        let line = "cannot listen on 127.0.0.1:1: denied; choose; another";
        let failure = Failure::from_line(Code::Failed, line);
        assert_eq!(failure.next, "another");
        assert_eq!(failure.to_string(), format!("mainspring: {line}"));
    }
}
