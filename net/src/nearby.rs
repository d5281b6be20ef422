//! Connections within one host. Where bbr is the system's rule of congestion, it halves what loopback
//! carries, and costs both ends processor time for its pacing; there is no congestion to be controlled. The
//! sender's end decides, and a socket may choose for itself.

use std::io;
use std::net::SocketAddr;

use crate::rt::TcpStream;

/// Rules that suit loopback, the better one first. Which ones a program without rights may choose is the
/// system's to say.
const RULES: [&str; 2] = ["cubic", "reno"];

/// Chooses a rule of congestion that suits a connection within this host; leaves all others alone.
pub(crate) fn tune(stream: &TcpStream) {
    let is_near = matches!((stream.local_addr(), stream.peer_addr()),
        (Ok(own), Ok(peer)) if is_same_host(own, peer));
    if is_near {
        // A system that allows neither serves with its own, only slower.
        let _ = RULES.iter().find(|rule| choose(stream, rule).is_ok());
    }
}

fn is_same_host(own: SocketAddr, peer: SocketAddr) -> bool {
    peer.ip().is_loopback() || own.ip() == peer.ip()
}

fn choose(stream: &TcpStream, rule: &str) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_tcp_congestion(stream, rule)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_peer_on_this_host_is_near() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert!(is_same_host(address("127.0.0.1:1"), address("127.0.0.2:2")));
        assert!(is_same_host(address("10.0.0.1:1"), address("10.0.0.1:2")));
        assert!(is_same_host(address("[::1]:1"), address("[::1]:2")));
        assert!(!is_same_host(address("10.0.0.1:1"), address("10.0.0.2:2")));
    }
}
