//! Handshakes with other nodes: both sides verified, bounded in time, memory and number.
//!
//! Invariants:
//! 1. Where the cluster has a secret the shard is never told of a connection of a peer that is not verified:
//!    not one byte of it reaches core.
//! 2. A handshake ends within [`HANDSHAKE_WITHIN`]; who says nothing costs a socket and no state of TLS.
//! 3. At most [`HANDSHAKES_MAX`] that were accepted go on at once; one more ends the oldest, so that who opens many
//!    and says nothing keeps no node out.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainspring_core::ids::NodeId;
use rustls::{AlertDescription, CertificateError};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::authority::{Configs, name_of};
use super::complaints::{Complaint, Complaints, Whom};
use super::secret::ClusterSecret;
use super::stream::{Stream, Watch};
use crate::clock::Clock;
use crate::lane::Dial;
use crate::rt::{self, AsyncReadExt, AsyncWriteExt, TcpStream, oneshot};

/// How long a connection may take until it is verified. Where this node connects core gives up sooner, and by its own
/// clock: a node that is held still for a moment must not look like one whose process is gone.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// Most of them at once.
const HANDSHAKES_MAX: usize = 256;
/// Most plaintext that waits in TLS for the socket.
const BUFFERED_MAX: usize = 64 << 10;
/// How much is read and how long from one that is turned away, so that what it is told arrives.
const LAST_BYTES: usize = 16 << 10;
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The fatal alert `protocol_version`, by which a node that has a secret and one that has none tell each other.
pub(super) const ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 70];

/// How a node speaks with the others.
#[derive(Debug, Default)]
pub(crate) struct Security {
    configs: Option<Configs>,
    complaints: Complaints,
    pending: Mutex<Pending>,
}

impl Security {
    /// With secrets all connections between nodes are TLS; without, plain.
    pub(crate) fn new(secrets: &[ClusterSecret], node: NodeId) -> io::Result<Self> {
        if secrets.is_empty() {
            return Ok(Self::default());
        }
        let configs = Configs::new(secrets, node).map_err(io::Error::other)?;
        let prints = configs.fingerprints.join(", then ");
        tracing::info!("nodes verify each other by the cluster secret {prints}");
        Ok(Self { configs: Some(configs), ..Self::default() })
    }

    /// Takes a connection of another node in; `None` where it is none.
    pub(crate) async fn accept(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Option<Stream> {
        let whom = Whom::Guest(peer.ip());
        let Some(configs) = &self.configs else {
            return Some(Stream::plain(stream, Watch { security: Arc::clone(&self), whom }));
        };
        let acceptor = TlsAcceptor::from(Arc::clone(&configs.server));
        let ended = self.pending.lock().unwrap_or_else(PoisonError::into_inner).add();
        let verified = rt::select_biased! {
            verified = self.verify(acceptor, stream, &whom) => verified,
            _ = ended => None,
            () = rt::sleep(HANDSHAKE_WITHIN) => {
                tracing::debug!("{whom} did not finish its handshake");
                None
            }
        };
        let stream = verified?;
        Some(Stream::secured(stream, Watch { security: self, whom }))
    }

    async fn verify(
        &self,
        acceptor: TlsAcceptor,
        stream: TcpStream,
        whom: &Whom,
    ) -> Option<TlsStream<TcpStream>> {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) if first[0] == 0x16 => {}
            Ok(1) => {
                // A frame that is taken announces 100 MiB at most.
                let is_plain = first[0] <= 6;
                self.complain(if is_plain { Complaint::Plain } else { Complaint::Garbage }, whom);
                turn_away(stream).await;
                return None;
            }
            Ok(_) | Err(_) => return None,
        }
        let handshake = acceptor.accept_with(stream, |session| {
            session.set_buffer_limit(Some(BUFFERED_MAX));
        });
        match handshake.await {
            Ok(stream) => Some(stream.into()),
            Err(error) => {
                tracing::debug!("the handshake of {whom} failed: {error}");
                if let Some(complaint) = complaint_of(&error) {
                    self.complain(complaint, whom);
                }
                None
            }
        }
    }

    /// Begins a connection to another node; `None` where what answers is not that node.
    pub(crate) async fn begin(self: Arc<Self>, stream: TcpStream, dial: &Dial) -> Option<Stream> {
        let whom = Whom::Node(dial.node, format!("{}:{}", dial.host, dial.port));
        let Some(configs) = &self.configs else {
            return Some(Stream::plain(stream, Watch { security: Arc::clone(&self), whom }));
        };
        let connector = TlsConnector::from(Arc::clone(&configs.client));
        let handshake = connector.connect_with(name_of(dial.node), stream, |session| {
            session.set_buffer_limit(Some(BUFFERED_MAX));
        });
        let verified = rt::select_biased! {
            verified = handshake => verified,
            () = rt::sleep(HANDSHAKE_WITHIN) => return None,
        };
        match verified {
            Ok(stream) => {
                Some(Stream::secured(stream.into(), Watch { security: Arc::clone(&self), whom }))
            }
            Err(error) => {
                tracing::debug!("the handshake with {whom} failed: {error}");
                if let Some(complaint) = complaint_of(&error) {
                    self.complain(complaint, &whom);
                }
                None
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn configs(&self) -> (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>) {
        let configs = self.configs.as_ref().expect("there is a secret");
        (Arc::clone(&configs.server), Arc::clone(&configs.client))
    }

    /// Tells people, once.
    pub(super) fn complain(&self, complaint: Complaint, whom: &Whom) {
        let own = self.configs.as_ref().and_then(|configs| configs.fingerprints.first());
        let now = Clock::default().now().mono;
        self.complaints.say(now, complaint, whom, own.map_or("none", |own| own));
    }
}

/// Handshakes that go on, the oldest first.
#[derive(Debug, Default)]
struct Pending(VecDeque<oneshot::Sender<()>>);

impl Pending {
    /// Adds one, and returns what tells it to end.
    fn add(&mut self) -> oneshot::Receiver<()> {
        if self.0.len() >= HANDSHAKES_MAX {
            self.0.retain(|one| !one.is_closed());
        }
        if self.0.len() >= HANDSHAKES_MAX {
            self.0.pop_front();
        }
        let (keep, ended) = oneshot::channel();
        self.0.push_back(keep);
        ended
    }
}

/// Says that TLS is wanted, and lets that arrive: closing with unread bytes would take it back.
async fn turn_away(mut stream: TcpStream) {
    let last = async {
        if stream.write_all(&ALERT).await.is_err() || stream.shutdown().await.is_err() {
            return;
        }
        let mut ignored = [0; 1024];
        let mut left = LAST_BYTES;
        while let Ok(count @ 1..) = stream.read(&mut ignored).await {
            left = left.saturating_sub(count);
            if left == 0 {
                return;
            }
        }
    };
    rt::select_biased! {
        () = last => {}
        () = rt::sleep(LAST_WORDS) => {}
    }
}

/// Returns what people should know of a failure; `None` where the other side or the network just went away.
pub(super) fn complaint_of(error: &io::Error) -> Option<Complaint> {
    let inner = error.get_ref()? as &(dyn Error + 'static);
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's errors are many")]
    match inner.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some(Complaint::Another),
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            Some(Complaint::Stranger)
        }
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => Some(Complaint::Plain),
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError,
        ) => Some(Complaint::Refused),
        rustls::Error::AlertReceived(_) => None,
        _ => Some(Complaint::Garbage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_handshake_too_many_ends_the_oldest_that_goes_on() {
        let mut pending = Pending::default();
        let mut ends: Vec<oneshot::Receiver<()>> =
            (0..HANDSHAKES_MAX).map(|_| pending.add()).collect();
        let is_over = |end: &mut oneshot::Receiver<()>| {
            end.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        };
        drop(ends.remove(0));
        let _more = pending.add();
        assert!(!ends.iter_mut().any(is_over), "one had ended by itself");
        let _more = pending.add();
        assert!(is_over(&mut ends[0]));
        assert!(!ends[1..].iter_mut().any(is_over));
    }
}
