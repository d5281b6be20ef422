//! HTTP on the console address: health, readiness and metrics.
//!
//! It has an accept loop of its own, because axum's does not run under the deterministic runtime.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;

use crate::address::HostPort;
use crate::node::Node;
use crate::rt::{self, Semaphore, TcpListener};

/// Most HTTP connections at the same time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// Longest life of one HTTP connection, so that idle ones free their place.
const LIFE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(100);

/// Opens the address.
pub(crate) async fn listen(address: &HostPort) -> std::io::Result<TcpListener> {
    TcpListener::bind((address.host.as_str(), address.port)).await
}

/// Serves HTTP for a node until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, node: Arc<Node>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let router = router(node);
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            rt::sleep(PAUSE).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        rt::spawn(async move {
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            rt::select_biased! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!("console connection: {error}");
                },
                () = rt::sleep(LIFE) => {}
            }
            drop(place);
        });
    }
}

fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(node)
}

async fn ready(State(node): State<Arc<Node>>) -> impl IntoResponse {
    if node.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: recovering or stopping\n")
    }
}

async fn metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], node.metrics())
}
