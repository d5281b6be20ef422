//! One listener: accepts connections and hands each to the lane.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainspring_core::ids::{ConnectionId, ListenerIndex};

use crate::connection;
use crate::lane::SharedLane;
use crate::metrics::Metrics;
use crate::rt::{self, TcpListener, TcpStream, watch};

/// Pause after a failed accept, so that a lack of descriptors does not become a busy loop.
const PAUSE: Duration = Duration::from_millis(100);

/// What all listeners of a node share.
#[derive(Debug)]
pub(crate) struct Admission {
    next: AtomicU64,
    connections_max: u64,
    metrics: Arc<Metrics>,
}

impl Admission {
    /// Admits at most `connections_max` connections at the same time.
    pub(crate) fn new(connections_max: u64, metrics: Arc<Metrics>) -> Self {
        Self { next: AtomicU64::new(1), connections_max, metrics }
    }

    fn admit(&self) -> Option<(ConnectionId, Guest<'_>)> {
        let guest = Guest { metrics: &self.metrics };
        let before = self.metrics.connections.fetch_add(1, Ordering::Relaxed);
        // The guest takes itself off again where it is not let in.
        (before < self.connections_max)
            .then(|| (ConnectionId(self.next.fetch_add(1, Ordering::Relaxed)), guest))
    }
}

/// Counts one connection for as long as it lives.
struct Guest<'a> {
    metrics: &'a Metrics,
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        self.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts connections until told to stop. No error of an accept ends it.
pub(crate) async fn serve(
    listener: TcpListener,
    index: ListenerIndex,
    lane: SharedLane,
    admission: Arc<Admission>,
    mut stop: watch::Receiver<bool>,
) {
    let mut failing = false;
    loop {
        let accepted = rt::select_biased! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                begin(stream, &peer.to_string(), index, &lane, &admission);
            }
            Err(error) => {
                if !failing && !is_of_one_connection(&error) {
                    tracing::warn!("cannot accept connections: {error}; trying again");
                    failing = true;
                }
                rt::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether a failed accept says something of that connection alone.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn begin(
    stream: TcpStream,
    peer: &str,
    listener: ListenerIndex,
    lane: &SharedLane,
    admission: &Arc<Admission>,
) {
    if let Err(error) = rt::set_options(&stream) {
        tracing::debug!(peer, "connection gone before it was served: {error}");
        return;
    }
    let (lane, peer, admission) = (lane.clone(), Arc::from(peer), Arc::clone(admission));
    rt::spawn(async move {
        let Some((id, _guest)) = admission.admit() else {
            admission.metrics.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%peer, "connection refused: {} are open", admission.connections_max);
            return;
        };
        lane.lock().connected(id, listener, peer);
        connection::serve(stream, id, lane).await;
    });
}
