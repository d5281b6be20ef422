//! Connections of other nodes: verified before the machine is told of them, or never told.

use mainspring_core::ids::NodeId;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection, StreamOwned};

use super::*;
use crate::node::ClusterSecret;

const SECRET: ClusterSecret = ClusterSecret::of(1);
const OTHER: ClusterSecret = ClusterSecret::of(2);
/// Longer than any test hands over, and shorter than the bound of a handshake.
const A_WHILE: Duration = Duration::from_millis(300);
/// `protocol_version`, fatal.
const ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 70];

type Secured = StreamOwned<ClientConnection, Client>;

fn node(secret: ClusterSecret, id: i32) -> Security {
    Security::new(&[secret], NodeId(id)).expect("it is a secret")
}

fn name(id: i32) -> ServerName<'static> {
    ServerName::try_from(format!("node-{id}.mainspring")).expect("it is a name")
}

fn plain(running: &Running) -> Client {
    let client = Client::connect(("127.0.0.1", running.port)).expect("the lane listens");
    client.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
    client.set_write_timeout(Some(PATIENCE)).expect("it is a socket");
    client
}

/// Connects to node 1 as node 2.
fn secured(running: &Running, secret: ClusterSecret) -> Secured {
    let (_, config) = node(secret, 2).configs();
    let session = ClientConnection::new(config, name(1)).expect("it is complete");
    StreamOwned::new(session, plain(running))
}

/// Sends back what comes.
fn echo(_: Now, input: &Input, tools: &mut Tools) {
    if let Input::Received(connection, bytes) = input {
        tools.send(*connection, bytes.to_vec());
    }
}

/// Asserts that the machine is told of nothing.
fn is_told_nothing(running: &Running) {
    let told = running.seen.recv_timeout(A_WHILE);
    assert!(told.is_err(), "{told:?}");
}

#[test]
fn a_node_with_the_secret_is_verified_and_then_told() {
    let running = Running::for_peers(node(SECRET, 1), echo);
    let mut peer = secured(&running, SECRET);
    peer.write_all(b"who is there?").expect("it is verified");
    assert!(matches!(running.next(), Input::Connected { .. }));
    match running.next() {
        Input::Received(_, bytes) => assert_eq!(&bytes[..], b"who is there?"),
        other => panic!("the bytes come next, not {other:?}"),
    }
    let mut back = [0; 13];
    peer.read_exact(&mut back).expect("it answers");
    assert_eq!(&back, b"who is there?");
}

#[test]
fn megabytes_pass_both_ways_at_once_through_a_peer_that_is_slow() {
    let running = Running::for_peers(node(SECRET, 1), |_, input, tools| {
        if let Input::Received(connection, bytes) = input {
            tools.push(Effect::Want { connection: *connection, bytes: 1 << 20 });
            tools.send(*connection, bytes.to_vec());
        }
    });
    let sent = pattern(5 << 20);
    let mut peer = secured(&running, SECRET);
    let mut came = vec![0; sent.len()];
    let mut read = 0;
    for part in sent.chunks(700_001) {
        peer.write_all(part).expect("the lane reads on while the socket is full");
        // Half of it stays on the way.
        let until = read + part.len() / 2;
        peer.read_exact(&mut came[read..until]).expect("it comes back");
        read = until;
    }
    peer.read_exact(&mut came[read..]).expect("all of it comes back");
    assert!(came == sent, "bytes were changed");
}

#[test]
fn a_closed_connection_delivers_all_that_was_sent_before() {
    let length = 6 << 20;
    let running = Running::for_peers(node(SECRET, 1), move |_, input, tools| {
        if let Input::Received(connection, _) = input {
            for part in pattern(length).chunks(1 << 20) {
                tools.send(*connection, part.to_vec());
            }
            tools.push(Effect::Close { connection: *connection });
        }
    });
    let mut peer = secured(&running, SECRET);
    peer.write_all(b"all").expect("it is verified");
    let mut came = Vec::new();
    peer.read_to_end(&mut came).expect("the end is a clean one");
    assert!(came == pattern(length), "{} bytes came", came.len());
}

#[test]
fn nobody_else_reaches_the_machine() {
    let running = Running::for_peers(node(SECRET, 1), echo);
    // ApiVersions of a client, or of a node without a secret.
    let mut client = plain(&running);
    client.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0, 0]).expect("it is connected");
    let mut said = Vec::new();
    client.read_to_end(&mut said).expect("the end is a clean one");
    assert_eq!(said, ALERT);
    // Another secret.
    let mut stranger = secured(&running, OTHER);
    assert!(stranger.write_all(b"let me in").is_err());
    // Garbage, as a record of TLS and not.
    for first in [0x16, 0x80, 0xff] {
        let mut garbage = plain(&running);
        let mut bytes = pattern(300);
        bytes[0] = first;
        garbage.write_all(&bytes).expect("it is connected");
        let ended = garbage.read_to_end(&mut Vec::new());
        assert!(
            ended.is_ok()
                || ended.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
        );
    }
    // Nothing at all, and half a greeting.
    let silent = plain(&running);
    let mut half = plain(&running);
    half.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1]).expect("it is connected");
    is_told_nothing(&running);
    // A member is served beside them.
    let mut peer = secured(&running, SECRET);
    peer.write_all(b"x").expect("it is verified");
    assert!(matches!(running.next(), Input::Connected { .. }));
    drop((silent, half));
}

#[test]
fn a_silent_connection_is_dropped_in_bounded_time() {
    let running = Running::for_peers(node(SECRET, 1), echo);
    let mut silent = plain(&running);
    let mut half = plain(&running);
    half.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1]).expect("it is connected");
    // The patience of the sockets is longer.
    for client in [&mut silent, &mut half] {
        let ended = client.read(&mut [0; 1]);
        let timed_out = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        assert!(!ended.as_ref().is_err_and(timed_out), "{ended:?}");
    }
    is_told_nothing(&running);
}

#[test]
fn handshakes_count_as_connections() {
    let running = Running::with(1, Some(Arc::new(node(SECRET, 1))), echo);
    let silent = plain(&running);
    let mut second = plain(&running);
    let mut all = Vec::new();
    assert!(second.read_to_end(&mut all).is_ok_and(|count| count == 0), "it is one too many");
    drop(silent);
}

/// Runs a lane of node 1 that connects to node 2 at a port, once, and sends it something.
fn dialling(security: Security, port: u16) -> Running {
    Running::for_peers(security, move |_, input, tools| match input {
        Input::Start => tools.push(dial(port)),
        Input::Opened(connection) => tools.send(*connection, vec![0, 0, 0, 10, 0, 18]),
        _ => {}
    })
}

fn port_of(listener: &std::net::TcpListener) -> u16 {
    listener.local_addr().expect("it is bound").port()
}

#[test]
fn a_node_is_verified_before_a_connection_to_it_counts_as_opened() {
    for (secret, id, is_opened) in [(SECRET, 2, true), (SECRET, 3, false), (OTHER, 2, false)] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let running = dialling(node(SECRET, 1), port_of(&listener));
        let (server, _) = node(secret, id).configs();
        let session = ServerConnection::new(server).expect("it is complete");
        let (socket, _) = listener.accept().expect("it has connected");
        socket.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
        let mut peer = StreamOwned::new(session, socket);
        let mut question = [0; 6];
        assert_eq!(peer.read_exact(&mut question).is_ok(), is_opened, "node {id}");
        match running.next() {
            Input::Opened(OUT) => assert!(is_opened),
            Input::Disconnected(OUT) => assert!(!is_opened),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_attempt_whose_handshake_stalls_ends_in_bounded_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let running = dialling(node(SECRET, 1), port_of(&listener));
    let stalled = listener.accept().expect("it has connected");
    assert!(matches!(running.next(), Input::Disconnected(OUT)));
    drop(stalled);
}

#[test]
fn a_node_without_a_secret_takes_no_tls_and_says_so() {
    let running = Running::for_peers(Security::default(), echo);
    let mut peer = secured(&running, SECRET);
    let error = peer.write_all(b"x").expect_err("it is told");
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    assert!(matches!(running.next(), Input::Connected { .. }));
    assert!(matches!(running.next(), Input::Disconnected(_)), "not a byte of it came");
    // Without secrets on both sides it is as ever.
    let mut plain = plain(&running);
    plain.write_all(&[0, 0, 0, 1, 7]).expect("it is connected");
    let mut back = [0; 5];
    plain.read_exact(&mut back).expect("it answers");
    assert_eq!(back, [0, 0, 0, 1, 7]);
}

#[test]
fn a_node_without_a_secret_takes_no_word_of_tls_as_an_answer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let running = dialling(Security::default(), port_of(&listener));
    let (mut socket, _) = listener.accept().expect("it has connected");
    socket.write_all(&ALERT).expect("it is connected");
    assert!(matches!(running.next(), Input::Opened(OUT)));
    loop {
        match running.next() {
            Input::Transmitted(OUT, _) => {}
            Input::Disconnected(OUT) => break,
            other => panic!("{other:?}"),
        }
    }
}
