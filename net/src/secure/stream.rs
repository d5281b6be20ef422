//! A connection as bytes, whether there is TLS below or not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio_rustls::TlsStream;

use super::complaints::{Complaint, Whom};
use super::handshakes::{ALERT, Security, complaint_of};
use crate::rt::{AsyncRead, AsyncWrite, ReadBuf, TcpStream};

/// Types of TLS records, which no frame of Kafka's begins with: it would announce more than 350 MB.
const TLS_ALERT: u8 = 0x15;
const TLS_HANDSHAKE: u8 = 0x16;

/// A connection of a client or of another node.
#[derive(Debug)]
pub(crate) struct Stream {
    inner: Inner,
    /// Who is told of what the first bytes say; nobody where a client is at the other end.
    watch: Option<Watch>,
}

#[derive(Debug)]
enum Inner {
    Plain(TcpStream),
    Secured(Box<TlsStream<TcpStream>>),
}

/// What is needed to tell people why a connection to a peer fails.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) security: Arc<Security>,
    pub(super) whom: Whom,
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self { inner: Inner::Plain(stream), watch: None }
    }
}

impl Stream {
    /// A plain connection with another node, watched for one that speaks TLS.
    pub(super) const fn plain(stream: TcpStream, watch: Watch) -> Self {
        Self { inner: Inner::Plain(stream), watch: Some(watch) }
    }

    /// A connection whose handshake is done; the other side may still turn this node's certificate away.
    pub(super) fn secured(stream: TlsStream<TcpStream>, watch: Watch) -> Self {
        Self { inner: Inner::Secured(Box::new(stream)), watch: Some(watch) }
    }

    /// Returns the socket below.
    pub(crate) fn socket(&self) -> &TcpStream {
        match &self.inner {
            Inner::Plain(stream) => stream,
            Inner::Secured(stream) => stream.get_ref().0,
        }
    }
}

impl Watch {
    /// Looks at the first byte of a plain connection with another node.
    fn look(&self, first: u8, stream: &TcpStream) -> io::Result<()> {
        if first != TLS_ALERT && first != TLS_HANDSHAKE {
            return Ok(());
        }
        self.security.complain(Complaint::Secured, &self.whom);
        if first == TLS_HANDSHAKE {
            // So that the other side can tell its people too; where the socket does not take it they see the end.
            let _ = stream.try_write(&ALERT);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the other side speaks TLS"))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match &mut this.inner {
            Inner::Plain(stream) => {
                ready!(Pin::new(&mut *stream).poll_read(context, buffer))?;
                if let Some(first) = buffer.filled().get(before)
                    && let Some(watch) = this.watch.take()
                {
                    watch.look(*first, stream)?;
                }
                Poll::Ready(Ok(()))
            }
            Inner::Secured(stream) => {
                // A record holds 16 KiB at most: what has come is handed on in one piece.
                loop {
                    let filled = buffer.filled().len();
                    let read = Pin::new(&mut **stream).poll_read(context, buffer);
                    let has_some = filled > before;
                    match read {
                        Poll::Ready(Ok(())) if buffer.filled().len() == filled => {
                            return Poll::Ready(Ok(()));
                        }
                        Poll::Ready(Ok(())) if buffer.remaining() == 0 => break,
                        Poll::Ready(Ok(())) => {}
                        // An error comes again with the next read.
                        Poll::Pending | Poll::Ready(Err(_)) if has_some => break,
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Err(error)) => {
                            if let Some(watch) = this.watch.take()
                                && let Some(complaint) = complaint_of(&error)
                            {
                                watch.security.complain(complaint, &watch.whom);
                            }
                            return Poll::Ready(Err(error));
                        }
                    }
                }
                this.watch = None;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().inner {
            Inner::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Inner::Secured(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().inner {
            Inner::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Inner::Secured(stream) => Pin::new(&mut **stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Plain(stream) => Pin::new(stream).poll_flush(context),
            Inner::Secured(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Inner::Secured(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}
