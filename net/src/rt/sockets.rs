//! Sockets that end for everybody. A process that forks without `exec` leaves copies of all descriptors with its
//! child; closing ours would then end nothing.

use std::io;
use std::net::SocketAddr;

use rustix::net::{Shutdown, shutdown};
use tokio::net::{TcpStream, ToSocketAddrs};

use crate::secure::Stream;

/// A socket that listens until it is dropped.
#[derive(Debug)]
pub(crate) struct TcpListener(tokio::net::TcpListener);

impl TcpListener {
    pub(crate) async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        tokio::net::TcpListener::bind(address).await.map(Self)
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        // Where a system does not know it for listeners, closing has to do.
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}

/// Ends a connection. What was written before still arrives.
pub(crate) fn end(stream: &Stream) {
    let _ = shutdown(stream.socket(), Shutdown::Both);
}
