//! The native module of the Python package: what Python cannot do by itself, and nothing more.
//!
//! Threads of the broker never take the interpreter's lock. Every wait gives it up and looks for
//! Ctrl-C in slices. Errors leave as classes of `mainspring.errors`.

mod broker;
mod errors;
mod settings;

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs the command line, `argv[0]` being the program's name, and returns its exit code.
#[pyfunction]
fn run_cli(py: Python<'_>, argv: Vec<OsString>) -> u8 {
    py.detach(|| mainspring_net::cli::main(argv))
}

/// The native part of `mainspring`.
#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(run_cli, module)?)?;
    module.add_function(wrap_pyfunction!(errors::error_codes, module)?)?;
    module.add_function(wrap_pyfunction!(errors::error_of_answer, module)?)?;
    module.add_function(wrap_pyfunction!(settings::check_settings, module)?)?;
    module.add_function(wrap_pyfunction!(settings::client_settings, module)?)?;
    module.add_function(wrap_pyfunction!(settings::explain_setting, module)?)?;
    module.add_class::<broker::Broker>()
}
