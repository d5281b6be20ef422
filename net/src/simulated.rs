//! What simulations need of this crate besides what programs use: its sockets under the
//! deterministic runtime, for peers that are not clients of ours, and its console.

use std::io;
use std::sync::Arc;

use crate::address::HostPort;
use crate::console;
use crate::node::Node;
use crate::rt;
pub use crate::rt::simulated::{TcpListener, TcpStream};

/// Serves a node's console at an address, on a task of the current simulated process.
pub async fn serve_console(address: &HostPort, node: Arc<Node>) -> io::Result<()> {
    let listener = console::listen(address).await?;
    rt::spawn(console::serve(listener, node));
    Ok(())
}
