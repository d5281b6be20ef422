//! Stability as a type: a value that may be acknowledged.
//!
//! There are three makers, each for one way of being stable, and all private to the log room:
//! code that would acknowledge something not yet stable does not compile.

use std::fmt;

/// A value that is stable in the way that its log promises.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stable<T>(T);

impl<T: Copy> Stable<T> {
    /// The journal's flush has completed, and that of every block before it.
    pub(in crate::log) const fn flushed(value: T) -> Self {
        Self(value)
    }

    /// The journal's write has completed (`mainspring.flush=lazy`): kill -9 is survived.
    pub(in crate::log) const fn written(value: T) -> Self {
        Self(value)
    }

    /// The log lives in memory and promises nothing beyond the life of the process.
    pub(in crate::log) const fn memory(value: T) -> Self {
        Self(value)
    }

    /// Returns the value.
    pub const fn value(self) -> T {
        self.0
    }
}

impl<T: Copy + Ord> Stable<T> {
    /// A part of what is stable is stable.
    pub(in crate::log) fn at_most(self, value: T) -> Self {
        Self(self.0.min(value))
    }
}

impl<T: fmt::Debug> fmt::Debug for Stable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stable({:?})", self.0)
    }
}
