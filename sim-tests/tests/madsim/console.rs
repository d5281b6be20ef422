//! The HTTP handler of the console: what it tells, and what becomes of clients that hold it up.

use std::io;
use std::time::Duration;

use madsim::runtime::Handle;
use mainspring_net::simulated::TcpStream;
use mainspring_sim::rng::{Rng, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::broker::{ADDRESS, Broker, CONSOLE_PORT, Setup, client};
use crate::run::{note, reach, run, within};

/// Connections that are served at the same time, and how long each may last.
const PLACES: usize = 64;
const LIFE: Duration = Duration::from_mins(1);

fn setup() -> Setup {
    Setup { has_console: true, ..Setup::default() }
}

#[madsim::test]
async fn the_console_tells_when_clients_are_served_and_when_no_more() {
    run(async {
        let seed = Handle::current().seed();
        let mut rng = Rng::new(seed, Stream::Workload);
        let broker = Broker::start(seed, setup());
        let machine = client(1);
        let early = machine.spawn(async {
            // From the first moment on it is alive, and says whether it is ready.
            loop {
                match get("/healthz").await {
                    Ok(answer) => {
                        assert_eq!(answer, (200, "ok\n".to_owned()));
                        break;
                    }
                    Err(_) => madsim::time::sleep(Duration::from_millis(1)).await,
                }
            }
            loop {
                let (status, text) = get("/readyz").await.expect("it answers");
                note(format_args!("ready: {status}"));
                reach("questions before it was ready", usize::from(status == 503));
                match status {
                    200 => break,
                    503 => assert!(text.starts_with("not ready"), "{text}"),
                    _ => panic!("{status} {text}"),
                }
                madsim::time::sleep(Duration::from_millis(2)).await;
            }
        });
        early.await.expect("it becomes ready");
        broker.ready().await;
        let asking = machine.spawn(async move {
            for _ in 0..rng.between(1, 5) {
                let (status, text) = get("/metrics").await.expect("it answers");
                assert_eq!(status, 200);
                assert!(text.contains("\nmainspring_ready 1\n"), "{text}");
                assert!(text.ends_with('\n'), "the text is whole");
                let (status, _) = get("/nothing").await.expect("it answers");
                assert_eq!(status, 404);
            }
        });
        asking.await.expect("it tells");
        broker.at_rest().await;

        broker.stop();
        let late = machine.spawn(async {
            // It may have ended by the time of the question.
            if let Ok((status, _)) = get("/readyz").await {
                note(format_args!("ready while it stops: {status}"));
                reach("questions while it stopped", usize::from(status == 503));
                assert!(status == 503 || status == 200);
            }
        });
        late.await.expect("it answers or is closed");
        broker.stopped().await;
    })
    .await;
}

#[madsim::test]
async fn clients_that_hold_up_the_console_lose_their_places_in_time() {
    run(async {
        let seed = Handle::current().seed();
        let broker = Broker::start(seed, setup());
        broker.ready().await;
        let machine = client(1);
        let mut holding = Vec::new();
        for number in 0..PLACES as u32 {
            let mut rng = Rng::new(seed, Stream::Node(number));
            holding.push(machine.spawn(async move {
                let mut stream = TcpStream::connect((ADDRESS, CONSOLE_PORT)).await?;
                let text = b"GET /metrics HTTP/1.1\r\nhost: x\r\n";
                stream.write_all(&text[..rng.below(text.len() as u64) as usize]).await?;
                stream.flush().await?;
                let mut rest = Vec::new();
                match rng.below(3) {
                    // It waits for its end without another word.
                    0 => stream.read_to_end(&mut rest).await.map(|_| ()),
                    1 => {
                        stream.write_all(b"\0\xff garbage\r\n\r\n").await?;
                        stream.flush().await?;
                        stream.read_to_end(&mut rest).await.map(|_| ())
                    }
                    _ => {
                        madsim::time::sleep(Duration::from_millis(rng.below(5000))).await;
                        stream.reset();
                        io::Result::Ok(())
                    }
                }
            }));
        }
        let waiting = client(2).spawn(async {
            let answer = within("a place", LIFE + Duration::from_secs(10), get("/healthz"));
            answer.await.expect("it answers")
        });
        assert_eq!(waiting.await.expect("it is served").0, 200);
        for one in holding {
            let held = within("the end of a connection", LIFE + Duration::from_secs(30), one);
            note(format_args!("held: {}", held.await.expect("it ends").is_ok()));
        }
        broker.at_rest().await;
        broker.stop();
        broker.stopped().await;
    })
    .await;
}

/// Asks for a page, and returns the status and the text.
async fn get(path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect((ADDRESS, CONSOLE_PORT)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {ADDRESS}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, text) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    assert!(length.is_none_or(|length| length == text.len()), "the page is whole");
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, text.to_owned()))
}
