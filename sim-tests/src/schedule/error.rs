//! Why a schedule cannot be run.

use std::fmt;

/// Why a schedule that somebody hands in is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ScheduleError {
    /// It is larger than any schedule.
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// It is no JSON, or not of a schedule's form.
    Form(String),
    /// It is of a format that this version does not read.
    Format(String),
    /// It names a scenario that there is not.
    Scenario(String),
    /// A value is out of its range.
    Range {
        /// What the value is.
        what: String,
        /// The value.
        value: String,
    },
}

impl ScheduleError {
    pub(super) fn range(what: impl Into<String>, value: impl fmt::Display) -> Self {
        Self::Range { what: what.into(), value: value.to_string() }
    }
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes } => write!(f, "{bytes} bytes are more than a schedule has"),
            Self::Form(what) => write!(f, "no schedule: {what}"),
            Self::Format(format) => {
                write!(
                    f,
                    "its format is {format:?}, and this version reads {:?}",
                    super::file::FORMAT
                )
            }
            Self::Scenario(name) => write!(f, "there is no scenario {name:?}"),
            Self::Range { what, value } => write!(f, "{what} cannot be {value}"),
        }
    }
}

impl std::error::Error for ScheduleError {}
