//! Sockets for the deterministic runtime: madsim's, with what its TCP lacks.
//!
//! madsim carries bytes in order and late, sends nothing before a flush, and takes any amount at
//! once in one piece. On top of that stand here:
//!
//! - **a window**: what the peer has not read yet is bounded, and a writer waits for room;
//! - **pieces**: reads and writes take part of what there is, down to one byte;
//! - **a half-close**: what was written before it arrives, then the reader finds the end;
//! - **resets**: a socket that is dropped with unread bytes, or by [`TcpStream::reset`], fails the
//!   peer's reads and writes, and takes with it what was still on its way.
//!
//! Not modelled: a peer that vanishes without a word is one that never reads or writes again, and a
//! reset is seen through a cut link at once.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use madsim::rand::{Rng, thread_rng};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes of a piece.
const PIECE_MAX: usize = 4096;

thread_local! {
    /// Connections that were made and are not accepted yet, by client and server. A run has a thread
    /// of its own.
    static BACKLOG: Backlog = const { Mutex::new(BTreeMap::new()) };
}

type Backlog = Mutex<Waiting>;
type Waiting = BTreeMap<(SocketAddr, SocketAddr), VecDeque<Ends>>;

/// Resets whoever waits to be accepted at an address.
fn refuse_all(waiting: &mut Waiting, address: SocketAddr) {
    for (_, refused) in waiting.extract_if(.., |(_, server), _| *server == address) {
        for ends in refused {
            let (mut incoming, mut outgoing) = (ends.incoming.lock(), ends.outgoing.lock());
            incoming.is_deaf = true;
            outgoing.is_reset = true;
            wake(&mut incoming.writer);
            wake(&mut outgoing.reader);
        }
    }
}

/// Both directions, as the accepting side sees them.
#[derive(Debug)]
struct Ends {
    incoming: Direction,
    outgoing: Direction,
    habits: Habits,
}

/// How a connection carries bytes.
#[derive(Clone, Copy, Debug)]
struct Habits {
    /// Bytes that may be on their way in each direction.
    window: u64,
    /// How many of a thousand reads and writes take a piece only.
    pieces: u32,
}

impl Habits {
    fn draw() -> Self {
        let mut rng = thread_rng();
        let window = 1 << rng.gen_range(12..=20);
        let pieces = [0, 0, 100, 500][rng.gen_range(0..4)];
        Self { window, pieces }
    }

    /// Returns how many of `count` bytes pass in one go.
    fn piece(self, count: usize) -> usize {
        let mut rng = thread_rng();
        if count <= 1 || self.pieces == 0 || !rng.gen_bool(f64::from(self.pieces) / 1000.0) {
            return count;
        }
        // Half of the pieces are small: sizes and headers are torn as well.
        let most = if rng.gen_bool(0.5) { 8 } else { PIECE_MAX };
        rng.gen_range(1..=count.min(most))
    }
}

/// One direction of a connection.
#[derive(Clone, Debug, Default)]
struct Direction(Arc<Mutex<Flow>>);

#[derive(Debug, Default)]
struct Flow {
    /// Bytes that were written and that were read.
    written: u64,
    read: u64,
    /// The writer has said that nothing follows.
    is_finished: bool,
    /// The connection was reset by the writer of this direction.
    is_reset: bool,
    /// The reader is gone.
    is_deaf: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Direction {
    fn lock(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct TcpListener(tokio::net::TcpListener);

impl TcpListener {
    /// Listens on an address of the current node.
    pub async fn bind(address: (&str, u16)) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        // What waited for the process that listened here before has died with it.
        BACKLOG.with(|backlog| {
            let mut backlog = backlog.lock().unwrap_or_else(PoisonError::into_inner);
            refuse_all(&mut backlog, address);
        });
        Ok(Self(listener))
    }

    /// Takes the next connection.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (inner, peer) = self.0.accept().await?;
        let key = (peer, inner.local_addr()?);
        let ends = BACKLOG.with(|backlog| {
            let mut backlog = backlog.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = backlog.get_mut(&key)?;
            let ends = waiting.pop_front();
            if waiting.is_empty() {
                backlog.remove(&key);
            }
            ends
        });
        let ends = ends.expect("whoever connects notes it");
        Ok((TcpStream { inner, ends, is_unflushed: false }, peer))
    }

    /// Returns where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        let Ok(address) = self.0.local_addr() else { return };
        BACKLOG.with(|backlog| {
            let mut backlog = backlog.lock().unwrap_or_else(PoisonError::into_inner);
            refuse_all(&mut backlog, address);
        });
    }
}

/// A connection.
#[derive(Debug)]
pub struct TcpStream {
    inner: tokio::net::TcpStream,
    ends: Ends,
    is_unflushed: bool,
}

impl TcpStream {
    /// Connects to an address.
    pub async fn connect(address: (&str, u16)) -> io::Result<Self> {
        let inner = tokio::net::TcpStream::connect(address).await?;
        let key = (inner.local_addr()?, inner.peer_addr()?);
        let (there, back) = (Direction::default(), Direction::default());
        let habits = Habits::draw();
        let theirs = Ends { incoming: there.clone(), outgoing: back.clone(), habits };
        BACKLOG.with(|backlog| {
            let mut backlog = backlog.lock().unwrap_or_else(PoisonError::into_inner);
            backlog.entry(key).or_default().push_back(theirs);
        });
        let ends = Ends { incoming: back, outgoing: there, habits };
        Ok(Self { inner, ends, is_unflushed: false })
    }

    /// Returns the address of this side.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Does nothing: what is flushed leaves at once.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.inner.set_nodelay(nodelay)
    }

    /// Ends the connection with a reset, as a system does for a process whose peer goes on sending.
    pub fn reset(self) {
        self.ends.outgoing.lock().is_reset = true;
    }

    /// Returns how many bytes the peer has written and this side has not read.
    pub fn unread(&self) -> u64 {
        let flow = self.ends.incoming.lock();
        flow.written - flow.read
    }

    /// Returns how many bytes this side has written and the peer has not read.
    pub fn untaken(&self) -> u64 {
        let flow = self.ends.outgoing.lock();
        flow.written - flow.read
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let mut incoming = self.ends.incoming.lock();
        incoming.is_deaf = true;
        let is_unread = incoming.written > incoming.read;
        wake(&mut incoming.writer);
        drop(incoming);
        let mut outgoing = self.ends.outgoing.lock();
        // Bytes that nobody will read are answered with a reset.
        outgoing.is_reset |= is_unread;
        wake(&mut outgoing.reader);
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ends.incoming.lock().is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let room = buffer.remaining();
        let piece = self.ends.habits.piece(room);
        let before = buffer.filled().len();
        let polled = if piece < room {
            let mut small = [0; PIECE_MAX];
            let mut part = ReadBuf::new(&mut small[..piece]);
            let polled = Pin::new(&mut self.inner).poll_read(context, &mut part);
            buffer.put_slice(part.filled());
            polled
        } else {
            Pin::new(&mut self.inner).poll_read(context, buffer)
        };
        let mut flow = self.ends.incoming.lock();
        let count = (buffer.filled().len() - before) as u64;
        if count > 0 {
            flow.read += count;
            wake(&mut flow.writer);
        } else if polled.is_pending() {
            if flow.is_finished && flow.read == flow.written {
                return Poll::Ready(Ok(()));
            }
            flow.reader = Some(context.waker().clone());
        }
        polled
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = {
            let mut flow = self.ends.outgoing.lock();
            let is_over = flow.is_deaf || self.ends.incoming.lock().is_reset;
            if is_over || flow.is_finished {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let room = self.ends.habits.window.saturating_sub(flow.written - flow.read);
            if room == 0 {
                flow.writer = Some(context.waker().clone());
            }
            room
        };
        if room == 0 {
            // Whatever buffers bytes lets them go when it is full.
            ready!(self.poll_flush(context))?;
            return Poll::Pending;
        }
        let most = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let most = self.ends.habits.piece(most);
        let count = ready!(Pin::new(&mut self.inner).poll_write(context, &bytes[..most]))?;
        self.ends.outgoing.lock().written += count as u64;
        self.is_unflushed = true;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::take(&mut self.is_unflushed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(context))?;
        let mut flow = self.ends.outgoing.lock();
        flow.is_finished = true;
        wake(&mut flow.reader);
        Poll::Ready(Ok(()))
    }
}

/// Ends a connection: nobody else has its descriptor here.
pub(crate) const fn end(_stream: &TcpStream) {}
