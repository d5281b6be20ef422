//! A broker in this process.

use std::path::PathBuf;
use std::time::Duration;

use mainspring_core::config::NodeConfig;
use mainspring_core::ids::NodeId;
use mainspring_net::address::HostPort;
use mainspring_net::embedded::{Embedded, EmbeddedError};
use mainspring_net::node::{ListenerOptions, NodeOptions};
use pyo3::prelude::*;

use crate::errors::error;
use crate::guard::guarded;

/// A broker in this process, on threads of its own.
#[pyclass(frozen, module = "mainspring._native")]
pub(crate) struct Broker {
    node: Embedded,
    /// The process that made it: its threads are not in a forked child.
    process: u32,
}

#[pymethods]
impl Broker {
    /// Starts a broker and waits until it serves clients.
    #[new]
    #[pyo3(signature = (data_dir, host, port, node_id, settings))]
    fn new(
        py: Python<'_>,
        data_dir: Option<PathBuf>,
        host: String,
        port: u16,
        node_id: i32,
        settings: Vec<(String, String)>,
    ) -> PyResult<Self> {
        guarded(|| {
            let memory_only = data_dir.is_none();
            let node_id = NodeId(node_id);
            let mut node = NodeConfig { node_id, memory_only, ..NodeConfig::default() };
            for (key, value) in settings {
                let set = node.settings.set(&key, &value);
                set.map_err(|refusal| error(py, "ConfigError", &refusal))?;
            }
            node.settings.apply_to(&mut node.limits);
            let name = "PLAINTEXT".to_owned();
            let listener = ListenerOptions {
                name,
                listen: HostPort { host, port },
                advertise: None,
                peers: false,
            };
            let options = NodeOptions { node, listeners: vec![listener], data_dir };
            wait(py, |wanted| Embedded::start(options, wanted))
                .map(|node| Self { node, process: std::process::id() })
        })
    }

    /// Where clients reach it, `HOST:PORT`.
    #[getter]
    fn bootstrap(&self, py: Python<'_>) -> PyResult<String> {
        guarded(|| {
            self.check(py)?;
            Ok(self.node.addresses()[0].to_string())
        })
    }

    /// The id of the cluster that it is.
    #[getter]
    fn cluster_id(&self) -> String {
        self.node.cluster_id().to_string()
    }

    /// Whether it serves clients.
    #[getter]
    fn is_running(&self) -> bool {
        self.process == std::process::id() && self.node.is_ready()
    }

    /// Stops it; everything acknowledged is durable then.
    fn stop(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        guarded(|| {
            self.check(py)?;
            let limit = Duration::try_from_secs_f64(timeout);
            let limit = limit.map_err(|problem| error(py, "ConfigError", &problem))?;
            wait(py, |wanted| self.node.stop(limit, wanted))
        })
    }
}

impl Broker {
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        let message = "this broker lives in the process that was forked; make one in this process, \
                       after the fork";
        Err(error(py, "ForkedClientError", &message))
    }
}

/// Waits without the interpreter's lock, and gives up when a signal raises.
fn wait<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&mut dyn FnMut() -> bool) -> Result<T, EmbeddedError> + Send,
) -> PyResult<T> {
    let mut raised = None;
    let done = py.detach(|| {
        work(&mut || {
            #[expect(clippy::redundant_closure_for_method_calls, reason = "lifetimes differ")]
            let looked = Python::attach(|py| py.check_signals());
            raised = looked.err();
            raised.is_none()
        })
    });
    done.map_err(|problem| {
        let class = match &problem {
            EmbeddedError::GivenUp => {
                return raised.unwrap_or_else(|| error(py, "InternalError", &problem));
            }
            EmbeddedError::TimedOut(_) => "OperationTimeout",
            EmbeddedError::Start(_) | EmbeddedError::Failed(_) => "BrokerFailed",
        };
        error(py, class, &problem)
    })
}
