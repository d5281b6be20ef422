//! Errors as the classes of `mainspring.errors`, which are written in Python.

use std::fmt::Display;

use pyo3::prelude::*;
use pyo3::types::PyType;

/// Makes an error of one of Python's classes.
pub(crate) fn error(py: Python<'_>, class: &str, message: &dyn Display) -> PyErr {
    let found = py.import("mainspring.errors").and_then(|errors| errors.getattr(class));
    match found.and_then(|class| Ok(class.cast_into::<PyType>()?)) {
        Ok(class) => PyErr::from_type(class, message.to_string()),
        Err(error) => error,
    }
}
