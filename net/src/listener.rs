//! One listener: accepts connections and hands each to the lane.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainspring_core::ids::{ConnectionId, ListenerIndex};

use crate::clock::Clock;
use crate::connection;
use crate::lane::SharedLane;
use crate::metrics::Metrics;
#[cfg(not(madsim))]
use crate::nearby;
use crate::rt::{self, TcpListener, TcpStream};
use crate::secure::{Security, Stream};
use crate::watched::Reader;

/// Pause after a failed accept, so that a lack of descriptors does not become a busy loop.
const PAUSE: Duration = Duration::from_millis(100);

/// Refusals are told at most so often.
const TOLD_AGAIN: Duration = Duration::from_mins(1);

/// What all listeners of a node share.
#[derive(Debug)]
pub(crate) struct Admission {
    next: AtomicU64,
    connections_max: u64,
    /// When a refusal was last told, in nanoseconds of the node's clock; 0 for never.
    told_at: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Admission {
    /// Admits at most `connections_max` connections at the same time.
    pub(crate) fn new(connections_max: u64, metrics: Arc<Metrics>) -> Self {
        Self { next: AtomicU64::new(1), connections_max, told_at: AtomicU64::new(0), metrics }
    }

    fn admit(&self) -> Option<(ConnectionId, Guest<'_>)> {
        let guest = Guest { metrics: &self.metrics };
        let before = self.metrics.connections.fetch_add(1, Ordering::Relaxed);
        if before >= self.connections_max {
            // The guest takes itself off again.
            self.metrics.refused.fetch_add(1, Ordering::Relaxed);
            let now = Clock::default().now().mono.as_nanos();
            let told_at = self.told_at.load(Ordering::Relaxed);
            if told_at == 0 || now.saturating_sub(told_at) > TOLD_AGAIN.as_nanos() as u64 {
                self.told_at.store(now, Ordering::Relaxed);
                tracing::warn!(
                    "refusing connections: {} are open; raise the limit of open files if they are \
                     wanted",
                    self.connections_max
                );
            }
            return None;
        }
        Some((ConnectionId(self.next.fetch_add(1, Ordering::Relaxed)), guest))
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

/// Accepts connections until told to stop. No error of an accept ends it. With `security` they are those of other
/// nodes.
pub(crate) async fn serve(
    listener: TcpListener,
    index: ListenerIndex,
    lane: SharedLane,
    admission: Arc<Admission>,
    security: Option<Arc<Security>>,
    stop: Reader<bool>,
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
                begin(stream, peer, index, &lane, &admission, security.clone());
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
    peer: SocketAddr,
    listener: ListenerIndex,
    lane: &SharedLane,
    admission: &Arc<Admission>,
    security: Option<Arc<Security>>,
) {
    if let Err(error) = rt::set_options(&stream) {
        tracing::debug!(%peer, "connection gone before it was served: {error}");
        return;
    }
    #[cfg(not(madsim))]
    nearby::tune(&stream);
    let (lane, admission) = (lane.clone(), Arc::clone(admission));
    rt::spawn(async move {
        let Some((id, _guest)) = admission.admit() else { return };
        let stream = match security {
            None => Stream::from(stream),
            Some(security) => match security.accept(stream, peer).await {
                Some(stream) => stream,
                None => return,
            },
        };
        lane.lock().connected(id, listener, peer.to_string().into());
        connection::serve(stream, id, lane).await;
    });
}
