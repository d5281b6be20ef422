//! Ports that stay a node's own while it is down.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::address::HostPort;
use crate::node::{StartError, cannot_listen};

/// A port that is held without listening on it: connections are refused, no other program is given it for a
/// connection of its own, and who asks for this very port may listen on it.
#[derive(Debug)]
pub(super) struct Reserved {
    address: SocketAddr,
    /// Elsewhere than on Linux nobody could listen beside it.
    _socket: Option<OwnedFd>,
}

impl Reserved {
    /// Reserves a port; 0 is any that is free.
    pub(super) fn new(place: &HostPort) -> Result<Self, StartError> {
        reserve(place).map_err(|error| cannot_listen(place, "for clients", &error))
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}

fn reserve(place: &HostPort) -> io::Result<Reserved> {
    let mut failed = io::Error::other("the host has no address");
    for address in (place.host.as_str(), place.port).to_socket_addrs()? {
        match bind(address) {
            Ok((address, socket)) => {
                let socket = cfg!(target_os = "linux").then_some(socket);
                return Ok(Reserved { address, _socket: socket });
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn bind(address: SocketAddr) -> io::Result<(SocketAddr, OwnedFd)> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((bound, socket))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_reserved_port_refuses_connections_before_and_after_somebody_listens_on_it() {
        let reserved = Reserved::new(&"127.0.0.1:0".parse().expect("an address")).expect("free");
        for _ in 0..3 {
            let refused = TcpStream::connect(reserved.address()).expect_err("nobody listens");
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let listener = TcpListener::bind(reserved.address()).expect("it is for whoever asks");
            TcpStream::connect(reserved.address()).expect("somebody listens");
            drop(listener);
        }
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_reserved() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let place = listener.local_addr().expect("it has one").to_string();
        let error = Reserved::new(&place.parse().expect("an address")).expect_err("it is taken");
        assert!(error.to_string().contains(&format!("cannot listen on {place}")), "{error}");
    }
}
