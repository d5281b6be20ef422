use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::*;
use crate::test_support::TempDir;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_node_serves_until_it_is_stopped_and_may_be_stopped_twice() {
    let broker = start(alone());
    assert!(broker.is_ready());
    let mut client = TcpStream::connect(broker.addresses()[0]).expect("it serves");

    broker.stop(LIMIT, || true).expect("it stops");
    broker.stop(LIMIT, || true).expect("again");

    assert!(!broker.is_ready());
    let left = client.read(&mut [0]);
    assert!(matches!(left, Ok(0) | Err(_)), "its connections are closed: {left:?}");
    assert!(matches!(broker.restart(&[], LIMIT, || true), Err(EmbeddedError::Stopped)));
}

#[test]
fn a_directory_is_free_again_when_its_node_has_stopped() {
    let folder = TempDir::new();
    let first = start(within(&folder, 1));
    first.stop(LIMIT, || true).expect("it stops");

    let second = start(within(&folder, 1));

    assert_eq!(second.cluster_id(), first.cluster_id());
    second.stop(LIMIT, || true).expect("it stops");
}

#[test]
fn an_address_in_use_is_told() {
    let broker = start(alone());
    let taken = broker.addresses()[0].to_string().parse().expect("an address");

    let error = refused(EmbeddedOptions { listen: taken, ..alone() });

    assert!(error.contains("cannot listen on 127.0.0.1"), "{error}");
}

#[test]
fn each_node_is_killed_and_comes_back_in_its_place_while_the_others_serve() {
    let folder = TempDir::new();
    let broker = start(within(&folder, 3));
    let (before, cluster_id) = (broker.nodes(), broker.cluster_id());
    for (node, address, state) in &before {
        assert_eq!(*state, NodeState::Running);
        let mut client = TcpStream::connect(address).expect("it serves");

        broker.kill(&[*node]).expect("it runs");

        let left = client.read(&mut [0]);
        assert!(matches!(left, Ok(0) | Err(_)), "its connections are closed: {left:?}");
        let error = TcpStream::connect(address).expect_err("it is dead");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(broker.is_ready(), "others are there");
        broker.restart(&[*node], LIMIT, || true).expect("two of three are enough");
        assert_eq!(broker.nodes(), before);
    }
    broker.kill(&[]).expect("all run");
    assert!(!broker.is_ready());
    broker.restart(&[], LIMIT, || true).expect("their directories are free");
    broker.stop(LIMIT, || true).expect("it stops");

    let again = start(within(&folder, 3));
    assert_eq!(again.cluster_id(), cluster_id);
    again.stop(LIMIT, || true).expect("it stops");
}

#[test]
fn a_node_that_is_held_answers_when_it_goes_on() {
    let broker = start(alone());
    let node = [NodeId(1)];
    broker.pause(&node).expect("it runs");
    assert_eq!(state(&broker, 1), NodeState::Paused);
    assert!(!broker.is_ready());

    // The system takes the connection and the question.
    let mut client = TcpStream::connect(broker.addresses()[0]).expect("the system answers");
    client.write_all(&API_VERSIONS).expect("there is room");
    client.set_nonblocking(true).expect("it may be set");
    let nothing = client.read(&mut [0]).expect_err("nobody answers");
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    client.set_nonblocking(false).expect("it may be set");

    broker.resume(&node).expect("it is held");
    let mut answer = [0; 8];
    client.read_exact(&mut answer).expect("it answers");
    assert_eq!(&answer[4..], b"corr");

    broker.pause(&node).expect("it runs");
    broker.kill(&node).expect("it lives");
    // The rest of the answer, and then nothing: the connection is closed.
    let _ = client.read_to_end(&mut Vec::new());
    broker.restart(&node, LIMIT, || true).expect("it is dead");
    broker.pause(&[]).expect("it runs");
    broker.stop(LIMIT, || true).expect("one that is held goes on for that");
}

#[test]
fn a_node_without_a_majority_says_so_and_serves_when_there_is_one() {
    let folder = TempDir::new();
    let broker = start(within(&folder, 3));
    broker.kill(&[]).expect("all run");

    let late = broker.restart(&[NodeId(2)], Duration::from_millis(50), || true);

    let late = late.expect_err("one of three is not enough").to_string();
    assert!(late.starts_with("node 2 does not serve after 50ms"), "{late}");
    assert_eq!(state(&broker, 2), NodeState::Starting);
    let mut asked = 0;
    let given_up = broker.restart(&[NodeId(1)], Duration::ZERO, || true);
    assert!(matches!(given_up, Err(EmbeddedError::ServeTimedOut { node: NodeId(1), .. })));
    broker.kill(&[NodeId(1)]).expect("it may be killed while it starts");
    broker
        .restart(&[NodeId(1)], LIMIT, || {
            asked += 1;
            true
        })
        .expect("two are enough");
    broker.restart(&[], LIMIT, || true).expect("and the third comes back");
    assert_eq!(state(&broker, 2), NodeState::Running);
    broker.stop(LIMIT, || true).expect("it stops");
}

#[test]
fn what_does_not_fit_is_refused_in_one_line_and_nothing_is_done() {
    let folder = TempDir::new();
    let broker = start(within(&folder, 3));
    broker.kill(&[NodeId(3)]).expect("it runs");
    broker.pause(&[NodeId(2)]).expect("it runs");
    let said = |outcome: Result<(), EmbeddedError>| outcome.expect_err("it is refused").to_string();
    for (outcome, wanted) in [
        (
            broker.kill(&[NodeId(1), NodeId(7)]),
            "cannot kill node 7: this broker has the nodes 1, 2, 3",
        ),
        (broker.kill(&[NodeId(3)]), "cannot kill node 3: it does not run; restart it first"),
        (broker.restart(&[NodeId(1)], LIMIT, || true), "cannot restart node 1: it already runs"),
        (
            broker.restart(&[NodeId(2)], LIMIT, || true),
            "cannot restart node 2: it is paused; resume it first",
        ),
        (broker.pause(&[NodeId(2)]), "cannot pause node 2: it is paused; resume it first"),
        (broker.resume(&[NodeId(1)]), "cannot resume node 1: it already runs"),
    ] {
        assert_eq!(said(outcome), wanted);
    }
    let states: Vec<NodeState> = broker.nodes().into_iter().map(|(_, _, state)| state).collect();
    assert_eq!(states, [NodeState::Running, NodeState::Paused, NodeState::Killed]);
}

#[test]
fn a_broker_that_cannot_be_is_refused_before_anything_is_made() {
    let folder = TempDir::new();
    for (nodes, node_id, port) in [(0, 1, 0), (10, 1, 0), (3, i32::MAX - 1, 0), (3, 1, 65_534)] {
        let mut options = within(&folder, nodes);
        options.node.node_id = NodeId(node_id);
        options.listen.port = port;
        refused(options);
    }
    refused(EmbeddedOptions { nodes: 3, ..alone() });
    let made = std::fs::read_dir(folder.path()).expect("it is there").count();
    assert_eq!(made, 0);
}

#[test]
fn a_start_that_is_given_up_leaves_everything_free() {
    let folder = TempDir::new();
    let given_up = Embedded::start(within(&folder, 3), || false);
    assert!(matches!(given_up, Err(EmbeddedError::GivenUp)), "{given_up:?}");

    start(within(&folder, 3)).stop(LIMIT, || true).expect("it stops");
}

#[test]
fn a_directory_is_opened_with_all_nodes_that_it_was_made_for() {
    let (one, three) = (TempDir::new(), TempDir::new());
    start(within(&one, 1)).stop(LIMIT, || true).expect("it stops");
    start(within(&three, 3)).stop(LIMIT, || true).expect("it stops");

    let error = refused(within(&one, 3));
    assert!(error.contains("holds a broker of one node; ask for nodes=1"), "{error}");
    for nodes in [1, 2] {
        let error = refused(within(&three, nodes));
        let wanted = "a cluster with the nodes 1, 2, 3; ask for nodes=3 and node_id=1, or";
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn nodes_that_are_new_and_one_that_lost_its_folder_join_the_cluster() {
    let folder = TempDir::new();
    let three = start(within(&folder, 3));
    three.stop(LIMIT, || true).expect("it stops");
    std::fs::remove_dir_all(folder.path().join("node-2")).expect("it is there");

    let five = start(within(&folder, 5));

    assert_eq!(five.cluster_id(), three.cluster_id());
    five.kill(&[NodeId(2), NodeId(4), NodeId(5)]).expect("they run");
    assert!(five.is_ready(), "the voters that are left are two of three");
    five.restart(&[], LIMIT, || true).expect("they come back");
    five.stop(LIMIT, || true).expect("it stops");
}

/// `ApiVersions` of version 0, whose correlation id is four letters.
const API_VERSIONS: [u8; 14] = *b"\0\0\0\x0a\0\x12\0\0corr\xff\xff";

fn alone() -> EmbeddedOptions {
    EmbeddedOptions {
        node: NodeConfig::default(),
        nodes: 1,
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: None,
    }
}

fn within(folder: &TempDir, nodes: i64) -> EmbeddedOptions {
    EmbeddedOptions { nodes, data_dir: Some(folder.path().to_owned()), ..alone() }
}

fn start(options: EmbeddedOptions) -> Embedded {
    Embedded::start(options, || true).expect("it starts")
}

fn refused(options: EmbeddedOptions) -> String {
    let error = Embedded::start(options, || true).expect_err("it is refused").to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

fn state(broker: &Embedded, node: i32) -> NodeState {
    let nodes = broker.nodes().into_iter();
    nodes.filter(|(id, ..)| id.0 == node).map(|(_, _, state)| state).next().expect("it is known")
}
