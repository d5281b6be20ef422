//! The simulated sockets themselves: what they hold back, and how they end.

use std::io::ErrorKind;
use std::time::Duration;

use mainspring_net::simulated::{TcpListener, TcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::broker::client;
use crate::run::{reach, run};

const ADDRESS: (&str, u16) = ("10.0.1.1", 700);
/// More than any window holds.
const LARGE: usize = 3 << 20;
/// Any way on an open network is shorter.
const ARRIVED: Duration = Duration::from_millis(50);

/// Makes a connection between two machines, gives each side to one of them, and waits for both.
async fn connect<A, B>(
    accepting: impl FnOnce(TcpStream) -> A + Send + 'static,
    connecting: impl FnOnce(TcpStream) -> B + Send + 'static,
) where
    A: Future<Output = ()> + Send + 'static,
    B: Future<Output = ()> + Send + 'static,
{
    let server = client(1).spawn(async move {
        let listener = TcpListener::bind(ADDRESS).await.expect("the address is free");
        let (stream, _) = listener.accept().await.expect("somebody connects");
        accepting(stream).await;
    });
    let client = client(2).spawn(async move {
        loop {
            if let Ok(stream) = TcpStream::connect(ADDRESS).await {
                return connecting(stream).await;
            }
            madsim::time::sleep(Duration::from_millis(1)).await;
        }
    });
    client.await.expect("the side that connects ends");
    server.await.expect("the side that accepts ends");
}

#[madsim::test]
async fn a_writer_waits_for_its_reader_and_every_byte_arrives_in_order() {
    run(connect(
        |mut stream| async move {
            madsim::time::sleep(ARRIVED).await;
            let held = stream.unread();
            assert!((4 << 10..=1 << 20).contains(&held), "{held} bytes are on their way");
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await.expect("it ends in good order");
            assert!(read.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
            assert_eq!(read.len(), LARGE);
        },
        |mut stream| async move {
            let bytes: Vec<u8> = (0..LARGE).map(|at| (at % 251) as u8).collect();
            stream.write_all(&bytes).await.expect("it is read in the end");
            stream.shutdown().await.expect("it stands");
            let mut nothing = [0; 1];
            assert_eq!(stream.read(&mut nothing).await.expect("it ends in good order"), 0);
        },
    ))
    .await;
}

#[madsim::test]
async fn nothing_leaves_before_a_flush() {
    run(connect(
        |mut stream| async move {
            let mut byte = [0; 1];
            let early = tokio::select! {
                biased;
                read = stream.read(&mut byte) => Some(read),
                () = madsim::time::sleep(2 * ARRIVED) => None,
            };
            assert!(early.is_none(), "a byte has come that was not flushed");
            assert_eq!(stream.read(&mut byte).await.expect("it stands"), 1);
        },
        |mut stream| async move {
            stream.write_all(b"x").await.expect("there is room");
            madsim::time::sleep(4 * ARRIVED).await;
            stream.flush().await.expect("it stands");
            assert_eq!(stream.read(&mut [0; 1]).await.expect("it ends in good order"), 0);
        },
    ))
    .await;
}

#[madsim::test]
async fn after_a_half_close_the_other_direction_goes_on() {
    run(connect(
        |mut stream| async move {
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await.expect("it is closed in good order");
            assert_eq!(read, b"question");
            stream.write_all(b"answer").await.expect("the other direction is open");
            stream.flush().await.expect("it stands");
        },
        |mut stream| async move {
            stream.write_all(b"question").await.expect("there is room");
            stream.shutdown().await.expect("it stands");
            let more = stream.write(b"more").await.map_err(|error| error.kind());
            assert_eq!(more, Err(ErrorKind::BrokenPipe));
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await.expect("it is closed in good order");
            assert_eq!(read, b"answer");
        },
    ))
    .await;
}

#[madsim::test]
async fn a_reset_takes_along_what_was_not_read() {
    run(connect(
        |mut stream| async move {
            // It says something, and goes without having read what was said to it.
            stream.write_all(b"last words").await.expect("there is room");
            stream.flush().await.expect("it stands");
            madsim::time::sleep(ARRIVED).await;
            assert_eq!(stream.unread(), 4);
        },
        |mut stream| async move {
            stream.write_all(b"more").await.expect("there is room");
            stream.flush().await.expect("it stands");
            madsim::time::sleep(3 * ARRIVED).await;
            let read = stream.read(&mut [0; 20]).await.map_err(|error| error.kind());
            assert_eq!(read, Err(ErrorKind::ConnectionReset));
            let written = stream.write(b"more").await.map_err(|error| error.kind());
            assert_eq!(written, Err(ErrorKind::BrokenPipe));
            reach("resets", 1);
        },
    ))
    .await;
}
