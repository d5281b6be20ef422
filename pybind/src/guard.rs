//! Entry points that let no panic out as one: Python's `PanicException` slips through `except Exception`,
//! and with it through everything that was written to keep a service up.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;

use crate::errors::error;

/// Does what Python asked for, and makes an `InternalError` of a panic.
///
/// What is shared with the work is no less sound after it: locks pass over a panic of whoever held them,
/// and what they guard is changed in one step or not at all.
pub(crate) fn guarded<T>(work: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let message = "a fault of Mainspring itself: it has panicked, and said on standard error \
                       where; please report it";
        Err(Python::attach(|py| error(py, "InternalError", &message)))
    })
}

/// Panics, for a test of what comes of it.
#[cfg(debug_assertions)]
#[pyfunction]
pub(crate) fn _panic() -> PyResult<()> {
    guarded(|| panic!("told to panic"))
}
