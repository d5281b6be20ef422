//! A broker in this process.

use std::path::PathBuf;
use std::time::Duration;

use mainspring_core::config::NodeConfig;
use mainspring_core::ids::NodeId;
use mainspring_net::address::HostPort;
use mainspring_net::embedded::{Embedded, EmbeddedError, EmbeddedOptions, NodeState};
use pyo3::prelude::*;

use crate::errors::error;
use crate::guard::guarded;

/// What Python is told of a node: number, address, state, and why it has failed.
type NodeRow = (i32, String, &'static str, Option<String>);

/// A broker in this process, on threads of its own: one node, or several of a cluster.
#[pyclass(frozen, module = "mainspring._native")]
pub(crate) struct Broker {
    broker: Embedded,
    /// The process that made it: its threads are not in a forked child.
    process: u32,
}

#[pymethods]
impl Broker {
    /// Starts a broker and waits until all of its nodes serve clients.
    #[new]
    #[pyo3(signature = (data_dir, host, port, node_id, nodes, settings))]
    fn new(
        py: Python<'_>,
        data_dir: Option<PathBuf>,
        host: String,
        port: u16,
        node_id: i32,
        nodes: i64,
        settings: Vec<(String, String)>,
    ) -> PyResult<Self> {
        guarded(|| {
            let mut node = NodeConfig { node_id: NodeId(node_id), ..NodeConfig::default() };
            for (key, value) in settings {
                let set = node.settings.set(&key, &value);
                set.map_err(|refusal| error(py, "ConfigError", &refusal))?;
            }
            node.settings.apply_to(&mut node.limits);
            let listen = HostPort { host, port };
            let options = EmbeddedOptions { node, nodes, listen, data_dir };
            let broker = wait(py, |wanted| Embedded::start(options, wanted))?;
            Ok(Self { broker, process: std::process::id() })
        })
    }

    /// Where clients reach its nodes, `HOST:PORT,HOST:PORT`.
    #[getter]
    fn bootstrap(&self, py: Python<'_>) -> PyResult<String> {
        guarded(|| {
            self.check(py)?;
            let addresses = self.broker.addresses();
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            Ok(addresses.join(","))
        })
    }

    /// The id of the cluster that it is.
    #[getter]
    fn cluster_id(&self) -> String {
        self.broker.cluster_id().to_string()
    }

    /// Whether it serves clients, by one node at least.
    #[getter]
    fn is_running(&self) -> bool {
        self.process == std::process::id() && self.broker.is_ready()
    }

    /// Its nodes: number, address, state, and why one has failed.
    fn nodes(&self, py: Python<'_>) -> PyResult<Vec<NodeRow>> {
        guarded(|| {
            self.check(py)?;
            let rows = self.broker.nodes().into_iter().map(|(id, address, state)| {
                let (state, why) = match state {
                    NodeState::Starting => ("starting", None),
                    NodeState::Running => ("running", None),
                    NodeState::Paused => ("paused", None),
                    NodeState::Killed => ("killed", None),
                    NodeState::Failed(why) => ("failed", Some(why)),
                    NodeState::Stopped => ("stopped", None),
                };
                (id.0, address.to_string(), state, why)
            });
            Ok(rows.collect())
        })
    }

    /// Ends nodes at once, or all that live.
    fn kill(&self, py: Python<'_>, nodes: Vec<i32>) -> PyResult<()> {
        guarded(|| self.act(py, |broker, _| broker.kill(&ids(&nodes))))
    }

    /// Starts nodes again, or all that do not live, and waits until they serve.
    fn restart(&self, py: Python<'_>, nodes: Vec<i32>, timeout: f64) -> PyResult<()> {
        guarded(|| {
            let limit = seconds(py, timeout)?;
            self.act(py, |broker, wanted| broker.restart(&ids(&nodes), limit, wanted))
        })
    }

    /// Holds nodes still, or all that run.
    fn pause(&self, py: Python<'_>, nodes: Vec<i32>) -> PyResult<()> {
        guarded(|| self.act(py, |broker, _| broker.pause(&ids(&nodes))))
    }

    /// Lets nodes go on, or all that are held.
    fn resume(&self, py: Python<'_>, nodes: Vec<i32>) -> PyResult<()> {
        guarded(|| self.act(py, |broker, _| broker.resume(&ids(&nodes))))
    }

    /// Stops it; everything acknowledged is durable then.
    fn stop(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        guarded(|| {
            let limit = seconds(py, timeout)?;
            self.act(py, |broker, wanted| broker.stop(limit, wanted))
        })
    }
}

impl Broker {
    fn act(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&Embedded, &mut dyn FnMut() -> bool) -> Result<(), EmbeddedError> + Send,
    ) -> PyResult<()> {
        self.check(py)?;
        wait(py, |wanted| work(&self.broker, wanted))
    }

    fn check(&self, py: Python<'_>) -> PyResult<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        let message = "this broker lives in the process that was forked; make one in this process, \
                       after the fork";
        Err(error(py, "ForkedClientError", &message))
    }
}

/// Returns who reaches a listener on a host: this "machine" alone, the "network", or "nobody" by that name.
#[pyfunction]
pub(crate) fn reach_of_host(host: String) -> &'static str {
    let address = HostPort { host, port: 0 };
    match (address.is_wildcard(), address.is_loopback()) {
        (true, _) => "nobody",
        (false, true) => "machine",
        (false, false) => "network",
    }
}

fn ids(nodes: &[i32]) -> Vec<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

fn seconds(py: Python<'_>, timeout: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(timeout).map_err(|problem| error(py, "ConfigError", &problem))
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
            EmbeddedError::StopTimedOut(_) | EmbeddedError::ServeTimedOut { .. } => {
                "OperationTimeout"
            }
            EmbeddedError::Refused(_) => "ConfigError",
            EmbeddedError::Stopped => "ClosedError",
            EmbeddedError::Start(_) | EmbeddedError::Failed(_) => "BrokerFailed",
        };
        error(py, class, &problem)
    })
}
