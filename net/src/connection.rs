//! One connection: bytes in, bytes out. Its deadlines, limits and frames are core's.
//!
//! A task for each connection polls both directions of the socket. What it reads goes to the shard at
//! once, on the same thread, and what the shard answers is written in the same pass.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use mainspring_core::ids::ConnectionId;
use mainspring_core::io::Input;

use crate::lane::{Dial, Orders, SharedLane};
use crate::rt::{self, AsyncReadExt, AsyncWrite, TcpStream};
use crate::secure::Stream;

/// Bytes read in one go before the other connections of the lane have their turn.
const BYTES_PER_TURN: usize = 256 << 10;
/// Reads up to this size go through the lane's buffer; larger ones have one of their own.
const SHARED_READ_MAX: usize = 64 << 10;
/// Most bytes of one read, whatever the shard wants.
const READ_MAX: usize = 1 << 20;
const SLICES_PER_WRITE: usize = 64;
/// How long a connection that we close may go on sending before it is reset.
const LINGER: Duration = Duration::from_secs(1);

/// How long a peer may take to answer to an attempt to connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// Makes a connection that the shard has asked for, and serves it until it ends.
pub(crate) async fn dial(dial: Dial, lane: SharedLane) {
    let connection = dial.connection;
    let security = lane.lock().security();
    let stream = {
        let mut connecting = pin!(async {
            let stream = rt::select_biased! {
                stream = TcpStream::connect((&*dial.host, dial.port)) => stream.ok()?,
                () = rt::sleep(CONNECT_WITHIN) => return None,
            };
            rt::set_options(&stream).ok()?;
            let begun = security.begin(stream, &dial).await;
            if begun.is_none() {
                // Whoever answers there is no process that has gone: before this ends the shard gives the attempt
                // up by itself, as one that nobody answered.
                rt::sleep(CONNECT_WITHIN).await;
            }
            begun
        });
        poll_fn(|context| {
            if !lane.lock().is_wanted(connection, context.waker()) {
                return Poll::Ready(None);
            }
            connecting.as_mut().poll(context)
        })
        .await
    };
    match stream {
        Some(stream) => {
            lane.lock().opened(connection);
            serve(stream, connection, lane).await;
        }
        None => lane.lock().disconnected(connection),
    }
}

/// Serves a connection that the lane has been told of, until it ends, and tells the lane.
pub(crate) async fn serve(stream: Stream, id: ConnectionId, lane: SharedLane) {
    let mut connection = Connection {
        stream,
        id,
        lane,
        out: VecDeque::new(),
        unflushed: false,
        large: BytesMut::new(),
    };
    let end = poll_fn(|context| connection.poll(context)).await;
    connection.lane.lock().disconnected(id);
    if end == End::Closed {
        connection.linger().await;
    }
}

struct Connection {
    stream: Stream,
    id: ConnectionId,
    lane: SharedLane,
    /// What is being written.
    out: VecDeque<Bytes>,
    /// Whether something that was written still waits between here and the socket, as TLS has it.
    unflushed: bool,
    /// Where a read larger than the lane's buffer goes, so that a large frame lies in few pieces.
    large: BytesMut,
}

impl Drop for Connection {
    fn drop(&mut self) {
        rt::end(&self.stream);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The shard asked for it.
    Closed,
    /// The peer or the network ended it.
    Lost,
}

impl Connection {
    /// Writes and reads until neither goes on, or this connection has had its turn.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let mut turn = 0;
        loop {
            let orders = self.lane.lock().collect(self.id, &mut self.out, context.waker());
            let Some(orders) = orders else { return Poll::Ready(End::Lost) };
            if orders.aborting {
                return Poll::Ready(End::Lost);
            }
            let Ok(written) = self.write(context) else { return Poll::Ready(End::Lost) };
            if written > 0 {
                self.lane.lock().handle(Input::Transmitted(self.id, written));
                continue;
            }
            if orders.closing && self.out.is_empty() {
                return Poll::Ready(End::Closed);
            }
            if orders.closing || !orders.reading {
                return Poll::Pending;
            }
            if turn >= BYTES_PER_TURN {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            match ready!(self.read(orders, context)) {
                Ok(0) | Err(_) => return Poll::Ready(End::Lost),
                Ok(count) => turn += count,
            }
        }
    }

    /// Writes as much as the socket takes, and returns how much that was.
    fn write(&mut self, context: &mut Context<'_>) -> io::Result<u64> {
        let mut written = 0;
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
            let mut used = 0;
            for (slice, part) in slices.iter_mut().zip(&self.out) {
                *slice = IoSlice::new(part);
                used += 1;
            }
            let stream = Pin::new(&mut self.stream);
            let count = match stream.poll_write_vectored(context, &slices[..used]) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => count,
                Poll::Ready(Err(error)) => return Err(error),
            };
            written += count as u64;
            advance(&mut self.out, count);
        }
        if written > 0 || self.unflushed {
            self.unflushed = match Pin::new(&mut self.stream).poll_flush(context) {
                Poll::Ready(flushed) => flushed.map(|()| false)?,
                Poll::Pending => true,
            };
        }
        Ok(written)
    }

    /// Reads once and hands what came to the shard.
    fn read(&mut self, orders: Orders, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let want = orders.want.clamp(1, READ_MAX);
        if want <= SHARED_READ_MAX {
            self.large = BytesMut::new();
            let stream = &mut self.stream;
            return self.lane.lock().receive(self.id, context, |buffer, context| {
                let mut room = buffer.limit(want);
                pin!(stream.read_buf(&mut room)).poll(context)
            });
        }
        if self.large.capacity() == 0 {
            self.large.reserve(want);
        }
        let room = want.min(self.large.capacity());
        let count = {
            let mut room = (&mut self.large).limit(room);
            ready!(pin!(self.stream.read_buf(&mut room)).poll(context))?
        };
        if count > 0 {
            let bytes = self.large.split();
            self.lane.lock().handle(Input::Received(self.id, bytes));
        }
        Poll::Ready(Ok(count))
    }

    /// Lets the peer read what was written, what still waits before the socket too: closing with unread bytes
    /// would reset the connection and take the last answer with it.
    async fn linger(mut self) {
        let mut ignored = BytesMut::new();
        let drain = async {
            if poll_fn(|context| Pin::new(&mut self.stream).poll_shutdown(context)).await.is_err() {
                return;
            }
            loop {
                ignored.clear();
                ignored.reserve(4096);
                if !matches!(self.stream.read_buf(&mut ignored).await, Ok(1..)) {
                    break;
                }
            }
        };
        rt::select_biased! {
            () = drain => {}
            () = rt::sleep(LINGER) => {}
        }
    }
}

/// Takes `count` bytes away from the front.
fn advance(parts: &mut VecDeque<Bytes>, mut count: usize) {
    while count > 0 {
        let first = parts.front_mut().expect("no more is written than there was");
        let taken = count.min(first.len());
        first.advance(taken);
        count -= taken;
        if first.is_empty() {
            parts.pop_front();
        }
    }
}
