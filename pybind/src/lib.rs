//! The native module of the Python package: what Python cannot do by itself, and nothing more.
//!
//! Threads of the broker never take the interpreter's lock. Every wait gives it up and looks for
//! Ctrl-C in slices. Errors leave as classes of `mainspring.errors`, panics too.

#![expect(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "Python's calls hand arguments over by value, and methods an object"
)]

mod admin;
mod broker;
mod bytes;
mod call;
mod consumer;
mod errors;
mod guard;
mod message;
mod producer;
mod runtime;
mod settings;
mod transaction;

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
    module.add_function(wrap_pyfunction!(settings::explain_topic, module)?)?;
    module.add_function(wrap_pyfunction!(broker::reach_of_host, module)?)?;
    module.add_function(wrap_pyfunction!(runtime::_after_fork, module)?)?;
    module.add_function(wrap_pyfunction!(runtime::_shutdown, module)?)?;
    module.add_function(wrap_pyfunction!(runtime::_left, module)?)?;
    module.add_function(wrap_pyfunction!(runtime::_told, module)?)?;
    // Not added, since it is no part of what the module offers.
    #[cfg(debug_assertions)]
    module.setattr("_panic", wrap_pyfunction!(guard::_panic, module)?)?;
    module.add_class::<admin::Admin>()?;
    module.add_class::<call::Bridge>()?;
    module.add_class::<call::Call>()?;
    module.add_class::<call::CallbackQueue>()?;
    module.add_function(wrap_pyfunction!(consumer::_topic_partitions, module)?)?;
    module.add_class::<consumer::ConsumerBase>()?;
    module.add_class::<message::Message>()?;
    module.add_class::<message::MessageBatch>()?;
    module.add_class::<producer::Delivery>()?;
    module.add_class::<producer::ProducerBase>()?;
    module.add_class::<producer::RecordMetadata>()?;
    module.add_class::<transaction::GroupOffsets>()?;
    module.add_class::<broker::Broker>()
}
