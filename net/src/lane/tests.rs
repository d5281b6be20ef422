//! The driver under a machine that does as a test says, over real sockets.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream as Client};
use std::sync::mpsc;

use mainspring_core::io::DiskError;

use super::*;
use crate::listener::{self, Admission};
use crate::watched::{self, Reader};

mod peers;

const PATIENCE: Duration = Duration::from_secs(20);

type Script = Box<dyn FnMut(Now, &Input, &mut Tools) + Send>;

/// What a script may do.
#[derive(Default)]
struct Tools {
    effects: VecDeque<Effect>,
    deadline: Option<Instant>,
}

impl Tools {
    fn push(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    fn send(&mut self, connection: ConnectionId, bytes: impl Into<Bytes>) {
        self.push(Effect::Transmit { connection, parts: vec![bytes.into()] });
    }
}

/// A machine that runs a script and shows every input to the test.
struct Scripted {
    script: Script,
    tools: Tools,
    seen: mpsc::Sender<Input>,
}

impl Machine for Scripted {
    fn handle(&mut self, now: Now, input: Input) {
        match &input {
            Input::Start => self.tools.push(Effect::Ready),
            Input::Stop => self.tools.push(Effect::Stopped),
            _ => {}
        }
        (self.script)(now, &input, &mut self.tools);
        // A test that has seen enough looks no further.
        let _ = self.seen.send(input);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.tools.effects.pop_front()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.tools.deadline
    }

    fn cluster_id(&self) -> Uuid {
        Uuid::ZERO
    }
}

struct Idle;

impl Disk for Idle {
    fn submit(&self, _: IoToken, _: Operation) {}
}

/// A lane on its own thread, stopped when dropped.
struct Running {
    port: u16,
    inbox: Arc<Inbox>,
    seen: mpsc::Receiver<Input>,
    phases: Reader<Phase>,
}

impl Running {
    fn start(script: impl FnMut(Now, &Input, &mut Tools) + Send + 'static) -> Self {
        Self::with_connections(u64::MAX, script)
    }

    /// Listens for other nodes.
    fn for_peers(
        security: Security,
        script: impl FnMut(Now, &Input, &mut Tools) + Send + 'static,
    ) -> Self {
        Self::with(u64::MAX, Some(Arc::new(security)), script)
    }

    fn with_connections(
        most: u64,
        script: impl FnMut(Now, &Input, &mut Tools) + Send + 'static,
    ) -> Self {
        Self::with(most, None, script)
    }

    fn with(
        most: u64,
        security: Option<Arc<Security>>,
        script: impl FnMut(Now, &Input, &mut Tools) + Send + 'static,
    ) -> Self {
        let (seen_by, seen) = mpsc::channel();
        let (phase, phases) = watched::channel(Phase::Starting);
        let inbox = Inbox::new();
        let metrics = Arc::new(Metrics::default());
        let tools = Tools::default();
        let lane = SharedLane::new(LaneParts {
            shard: ShardId(0),
            machine: Box::new(Scripted { script: Box::new(script), tools, seen: seen_by }),
            disk: Arc::new(Idle),
            inboxes: vec![Arc::clone(&inbox)],
            metrics: Arc::clone(&metrics),
            phase,
            security: security.clone().unwrap_or_default(),
        });
        let (tell_port, port) = mpsc::channel();
        rt::spawn_lane("lane", async move {
            let (keep, stopping) = watched::channel(false);
            let listener = rt::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
            let port = listener.local_addr().expect("it is bound").port();
            tell_port.send(port).expect("the test waits");
            let admission = Arc::new(Admission::new(most, metrics));
            rt::spawn(listener::serve(
                listener,
                ListenerIndex(0),
                lane.clone(),
                admission,
                security,
                stopping,
            ));
            run(lane.clone()).await;
            lane.close_all(Duration::from_millis(500)).await;
            drop(keep);
        })
        .expect("a thread starts");
        let port = port.recv_timeout(PATIENCE).expect("the lane listens");
        let running = Self { port, inbox, seen, phases };
        assert!(matches!(running.next(), Input::Start));
        running
    }

    fn next(&self) -> Input {
        self.seen.recv_timeout(PATIENCE).expect("an input comes")
    }

    fn connect(&self) -> (Client, ConnectionId) {
        let client = Client::connect(("127.0.0.1", self.port)).expect("the lane listens");
        client.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
        client.set_write_timeout(Some(PATIENCE)).expect("it is a socket");
        match self.next() {
            Input::Connected { connection, listener: ListenerIndex(0), .. } => (client, connection),
            other => panic!("a connection is told first, not {other:?}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inbox.push(Input::Stop);
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

#[test]
fn what_arrives_goes_to_the_machine_in_order_and_its_answer_goes_out() {
    let running = Running::start(|_, input, tools| {
        if let Input::Received(connection, bytes) = input {
            tools.send(*connection, bytes.clone().freeze());
        }
    });
    let (client, _) = running.connect();
    let sent = pattern(5 << 20);
    let mut writer = client.try_clone().expect("a socket can be shared");
    let expected = sent.clone();
    let writing = std::thread::Builder::new()
        .spawn(move || writer.write_all(&sent).expect("the lane reads"))
        .expect("a thread starts");
    let mut received = vec![0; expected.len()];
    (&client).read_exact(&mut received).expect("everything comes back");
    writing.join().expect("everything was written");
    assert_eq!(received, expected);
}

#[test]
fn a_read_brings_no_more_than_was_wanted() {
    let running = Running::start(|_, input, tools| match input {
        Input::Connected { connection, .. } => {
            tools.push(Effect::Want { connection: *connection, bytes: 1000 });
        }
        Input::Received(connection, _) => {
            tools.push(Effect::Want { connection: *connection, bytes: 300_000 });
        }
        _ => {}
    });
    let (mut client, connection) = running.connect();
    let sent = pattern(3 << 20);
    let expected = sent.clone();
    let writing = std::thread::Builder::new()
        .spawn(move || client.write_all(&sent).map(|()| client))
        .expect("a thread starts");
    let mut received = Vec::new();
    let mut limit = 1000;
    while received.len() < expected.len() {
        match running.next() {
            Input::Received(from, bytes) => {
                assert_eq!(from, connection);
                assert!(bytes.len() <= limit, "{} of {limit}", bytes.len());
                received.extend_from_slice(&bytes);
                limit = 300_000;
            }
            other => panic!("only bytes come, not {other:?}"),
        }
    }
    assert_eq!(received, expected);
    drop(writing.join());
}

#[test]
fn a_connection_that_is_not_to_be_read_is_left_alone_until_it_is() {
    let running = Running::start(|_, input, tools| match input {
        Input::Connected { connection, .. } => {
            tools.push(Effect::Reading { connection: *connection, on: false });
        }
        Input::Wakeup => {
            tools.deadline = None;
            tools.push(Effect::Reading { connection: ConnectionId(1), on: true });
        }
        Input::Posted { .. } => tools.deadline = Some(Instant::ZERO),
        _ => {}
    });
    let (mut client, _) = running.connect();
    client.write_all(b"later").expect("the system takes it");
    assert!(running.seen.recv_timeout(Duration::from_millis(100)).is_err(), "nothing is read");
    running.inbox.push(Input::Posted { from: ShardId(0), batch: Vec::new() });
    assert!(matches!(running.next(), Input::Posted { .. }));
    assert!(matches!(running.next(), Input::Wakeup));
    match running.next() {
        Input::Received(_, bytes) => assert_eq!(&bytes[..], b"later"),
        other => panic!("the bytes come, not {other:?}"),
    }
}

#[test]
fn everything_transmitted_is_reported_and_a_slow_reader_loses_nothing() {
    const PARTS: usize = 3000;
    let running = Running::start(|_, input, tools| {
        if let Input::Received(connection, _) = input {
            let parts = (0..PARTS).map(|i| Bytes::from(vec![i as u8; 1 + i % 5000])).collect();
            tools.push(Effect::Transmit { connection: *connection, parts });
        }
    });
    let expected: Vec<u8> = (0..PARTS).flat_map(|i| vec![i as u8; 1 + i % 5000]).collect();
    let (mut client, _) = running.connect();
    client.write_all(b"go").expect("the lane reads");
    assert!(matches!(running.next(), Input::Received(..)));
    assert!(matches!(running.next(), Input::Transmitted(..)), "the first buffers are full");
    let mut received = vec![0; expected.len()];
    client.read_exact(&mut received).expect("everything comes");
    assert!(received == expected);
    client.shutdown(Shutdown::Write).expect("it is connected");
    let mut total = 0;
    loop {
        match running.next() {
            Input::Transmitted(_, count) => total += count,
            Input::Disconnected(_) => break,
            other => panic!("only reports come, not {other:?}"),
        }
    }
    // The first report was taken above.
    assert!(total > 0 && total < expected.len() as u64, "{total}");
}

#[test]
fn a_closed_connection_delivers_its_last_answer_and_is_reported_once() {
    let running = Running::start(|_, input, tools| {
        if let Input::Received(connection, _) = input {
            tools.send(*connection, vec![7; 1 << 20]);
            tools.push(Effect::Close { connection: *connection });
        }
    });
    let (mut client, connection) = running.connect();
    // More than is ever read: closing with unread bytes would reset the connection.
    client.write_all(&vec![0; 200_000]).expect("the system takes it");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("the end is a clean one");
    assert!(!answer.is_empty() && answer.iter().all(|byte| *byte == 7));
    assert_eq!(answer.len() % (1 << 20), 0);
    drop(client);
    let mut ends = 0;
    while let Ok(input) = running.seen.recv_timeout(Duration::from_millis(200)) {
        match input {
            Input::Disconnected(id) => {
                assert_eq!(id, connection);
                ends += 1;
            }
            Input::Received(..) | Input::Transmitted(..) => assert_eq!(ends, 0, "{input:?}"),
            other => panic!("nothing else comes: {other:?}"),
        }
    }
    assert_eq!(ends, 1);
}

#[test]
fn effects_for_a_connection_that_is_gone_are_dropped() {
    let running = Running::start(|_, input, tools| {
        if let Input::Disconnected(connection) = input {
            tools.send(*connection, "nobody");
            tools.push(Effect::Close { connection: *connection });
            tools.push(Effect::Want { connection: *connection, bytes: 1 });
        }
    });
    let (client, connection) = running.connect();
    drop(client);
    assert!(matches!(running.next(), Input::Disconnected(id) if id == connection));
    let (_client, next) = running.connect();
    assert!(next.0 > connection.0, "numbers are never used again");
}

#[test]
fn the_machine_is_woken_at_its_deadline_also_when_that_is_moved_forward() {
    let running = Running::start(|now, input, tools| match input {
        Input::Start => tools.deadline = Some(now.mono + Duration::from_hours(1)),
        Input::Received(..) => tools.deadline = Some(now.mono + Duration::from_millis(20)),
        Input::Wakeup => {
            assert!(tools.deadline.is_some_and(|at| at <= now.mono), "never early");
            tools.deadline = None;
        }
        _ => {}
    });
    let (mut client, _) = running.connect();
    client.write_all(b"x").expect("the lane reads");
    assert!(matches!(running.next(), Input::Received(..)));
    assert!(matches!(running.next(), Input::Wakeup));
    assert!(running.seen.recv_timeout(Duration::from_millis(60)).is_err(), "once is enough");
}

#[test]
fn a_post_comes_back_as_an_input_of_the_shard_it_names() {
    let running = Running::start(|_, input, tools| {
        if matches!(input, Input::Received(..)) {
            tools.push(Effect::Post { shard: ShardId(0), batch: Vec::new() });
        }
    });
    let (mut client, _) = running.connect();
    client.write_all(b"x").expect("the lane reads");
    assert!(matches!(running.next(), Input::Received(..)));
    assert!(matches!(running.next(), Input::Posted { from: ShardId(0), .. }));
}

const OUT: ConnectionId = ConnectionId::outgoing(1);

fn dial(port: u16) -> Effect {
    let node = NodeId(2);
    Effect::Connect { connection: OUT, node, host: "localhost".into(), port }
}

#[test]
fn a_connection_that_the_machine_asks_for_carries_bytes_both_ways() {
    let peer = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = peer.local_addr().expect("it is bound").port();
    let running = Running::start(move |_, input, tools| match input {
        Input::Start => tools.push(dial(port)),
        Input::Opened(connection) => tools.send(*connection, "who is there?"),
        Input::Received(connection, _) => tools.push(Effect::Close { connection: *connection }),
        _ => {}
    });
    assert!(matches!(running.next(), Input::Opened(OUT)));
    let (mut accepted, _) = peer.accept().expect("it has connected");
    let mut question = [0; 13];
    accepted.read_exact(&mut question).expect("it is sent");
    assert_eq!(&question, b"who is there?");
    assert!(matches!(running.next(), Input::Transmitted(OUT, 13)));
    accepted.write_all(b"me").expect("it is connected");
    match running.next() {
        Input::Received(OUT, bytes) => assert_eq!(&bytes[..], b"me"),
        other => panic!("the answer comes, not {other:?}"),
    }
    assert!(matches!(running.next(), Input::Disconnected(OUT)));
    assert_eq!(accepted.read(&mut [0; 1]).expect("the end is a clean one"), 0);
}

#[test]
fn a_peer_that_is_not_there_is_told_as_gone_and_may_be_asked_again() {
    let place = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = place.local_addr().expect("it is bound").port();
    drop(place);
    let mut again = 3;
    let running = Running::start(move |_, input, tools| match input {
        Input::Start => tools.push(dial(port)),
        Input::Disconnected(_) if again > 0 => {
            again -= 1;
            tools.push(dial(port));
        }
        _ => {}
    });
    for _ in 0..4 {
        assert!(matches!(running.next(), Input::Disconnected(OUT)));
    }
    assert!(running.seen.recv_timeout(Duration::from_millis(50)).is_err(), "once for each");
}

#[test]
fn an_attempt_that_is_given_up_is_never_opened() {
    let peer = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = peer.local_addr().expect("it is bound").port();
    let running = Running::start(move |_, input, tools| {
        if matches!(input, Input::Start) {
            tools.push(dial(port));
            tools.push(Effect::Abort { connection: OUT });
        }
    });
    assert!(matches!(running.next(), Input::Disconnected(OUT)));
    assert!(running.seen.recv_timeout(Duration::from_millis(50)).is_err(), "nothing follows");
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once_and_free_places_are_used_again() {
    let running = Running::with_connections(1, |_, _, _| {});
    let (first, _) = running.connect();
    let mut second = Client::connect(("127.0.0.1", running.port)).expect("the system accepts");
    second.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
    assert_eq!(second.read(&mut [0; 1]).unwrap_or(0), 0);
    drop(first);
    assert!(matches!(running.next(), Input::Disconnected(_)));
    // The place is free once the task has ended, shortly after the report.
    let mut tries = 0;
    loop {
        let client = Client::connect(("127.0.0.1", running.port)).expect("the system accepts");
        if let Ok(Input::Connected { .. }) = running.seen.recv_timeout(Duration::from_millis(50)) {
            break;
        }
        drop(client);
        tries += 1;
        assert!(tries < 100, "the place is never free");
    }
}

#[test]
fn a_fatal_effect_ends_the_lane_with_its_words_and_nothing_is_handled_after() {
    let running = Running::start(|_, input, tools| {
        if matches!(input, Input::Completed { .. }) {
            tools.push(Effect::Fatal { message: "the disk is gone".to_owned() });
            tools.push(Effect::Stopped);
        }
    });
    let error = DiskError {
        operation: "write",
        file: mainspring_core::io::FileName::root(),
        kind: mainspring_core::io::DiskErrorKind::Flush,
        message: String::new(),
    };
    running.inbox.complete(IoToken(1), Err(error));
    assert!(matches!(running.next(), Input::Completed { .. }));
    running.inbox.push(Input::Wakeup);
    assert!(matches!(
        running.seen.recv_timeout(PATIENCE),
        Err(mpsc::RecvTimeoutError::Disconnected)
    ));
    assert_eq!(running.phases.get(), Phase::Failed("the disk is gone".to_owned()));
}
