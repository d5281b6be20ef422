//! Half messages over the wire: verdicts by commands, and questions in the check topic.

use std::time::Duration;

use crate::broker::testing::{Client, TestNode};
use crate::record::batch::Batch;
use crate::record::builder::{BatchBuilder, NewHeader};
use crate::record::compress::Codec;
use crate::record::iterate::OpenBatch;

use super::{SHARDS, create_with, fetch, produce};

const SECOND: Duration = Duration::from_secs(1);

fn node(shards: u16) -> (TestNode, Client) {
    let mut node = TestNode::started(shards);
    let client = node.connect(0);
    let half = [
        ("mainspring.features", "half"),
        ("mainspring.half.check.after.ms", "2000"),
        ("mainspring.half.check.interval.ms", "3000"),
        ("mainspring.half.check.max", "2"),
    ];
    let dedup = [("mainspring.features", "dedup"), ("mainspring.dedup.window.ms", "604800000")];
    for (name, configs) in [("t", &half[..]), ("checks.g", &dedup[..])] {
        let created = create_with(&mut node, client, name, 1, configs);
        assert_eq!(created.topics[0].error_code, 0, "{created:?}");
    }
    (node, client)
}

fn send(node: &mut TestNode, client: Client, value: &str, headers: &[(&str, &str)]) -> i16 {
    let headers: Vec<NewHeader<'_>> =
        headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))).collect();
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(1_700_000_000_000, Some(b"k"), Some(value.as_bytes()), &headers);
    produce(node, client, "t", 0, builder.build().to_bytes()).error_code
}

fn verdict(node: &mut TestNode, client: Client, id: &str, op: &str) -> i16 {
    send(node, client, "", &[("mainspring-op", op), ("mainspring-id", id)])
}

fn begin(node: &mut TestNode, client: Client, id: &str) {
    let code = send(node, client, id, &[("mainspring-half", "g"), ("mainspring-id", id)]);
    assert_eq!(code, 0);
}

/// Reads key, value and the value of a header of each record.
fn read(node: &mut TestNode, client: Client, topic: &str, header: &str) -> Vec<[String; 3]> {
    let (mut seen, mut offset) = (Vec::new(), 0);
    loop {
        let data = fetch(node, client, topic, 0, offset);
        assert_eq!(data.error_code, 0);
        let mut bytes = data.records.unwrap_or_default().to_bytes();
        if bytes.is_empty() {
            return seen;
        }
        while !bytes.is_empty() {
            let batch = Batch::split_from(&mut bytes).expect("whole");
            let open = OpenBatch::open(&batch, 1 << 20).expect("sound");
            for record in open.records() {
                let record = record.expect("sound").record;
                let text = |bytes: Option<&[u8]>| {
                    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
                };
                let found = record.headers.find_last(header.as_bytes());
                let header = found.and_then(|header| header.value);
                seen.push([text(record.key), text(record.value), text(header)]);
            }
            offset = batch.next_offset().0;
        }
    }
}

fn shown(node: &mut TestNode, client: Client) -> Vec<String> {
    read(node, client, "t", "").into_iter().map(|[_, value, _]| value).collect()
}

fn asked(node: &mut TestNode, client: Client) -> Vec<[String; 3]> {
    read(node, client, "checks.g", "mainspring-check-state")
}

#[test]
fn a_half_message_comes_with_its_commit_and_once_however_often_that_is_sent() {
    for shards in SHARDS {
        let (mut node, client) = node(shards);
        begin(&mut node, client, "a");
        begin(&mut node, client, "b");
        node.pass(SECOND);
        assert_eq!(shown(&mut node, client), [""; 0]);

        assert_eq!(verdict(&mut node, client, "a", "commit"), 0);
        assert_eq!(verdict(&mut node, client, "b", "rollback"), 0);
        node.pass(SECOND);
        node.restart();
        let client = node.connect(0);
        node.pass(SECOND);

        assert_eq!(verdict(&mut node, client, "a", "commit"), 0, "the same verdict again");
        assert_eq!(verdict(&mut node, client, "a", "rollback"), 87, "the first one is final");
        assert_eq!(verdict(&mut node, client, "b", "commit"), 87);
        node.pass(SECOND * 20);
        assert_eq!(shown(&mut node, client), ["a"]);
        assert_eq!(asked(&mut node, client), [["", "", ""]; 0], "nobody was asked");
    }
}

#[test]
fn an_undecided_half_message_is_asked_for_then_parked_and_a_late_verdict_counts() {
    for shards in SHARDS {
        let (mut node, client) = node(shards);
        begin(&mut node, client, "a");

        node.pass(SECOND * 3);
        let first = ["a", "a", "asked"].map(String::from);
        assert_eq!(asked(&mut node, client), std::slice::from_ref(&first));
        node.pass(SECOND * 20);
        let parked = ["a", "a", "parked"].map(String::from);
        assert_eq!(asked(&mut node, client), [first.clone(), first, parked]);
        assert_eq!(shown(&mut node, client), [""; 0]);

        assert_eq!(verdict(&mut node, client, "a", "commit"), 0);
        node.pass(SECOND);
        assert_eq!(shown(&mut node, client), ["a"]);
    }
}

#[test]
fn a_question_is_in_the_check_topic_once_though_the_node_dies_in_the_middle() {
    for inputs in 1..40 {
        let (mut node, client) = node(1);
        begin(&mut node, client, "a");
        node.pass(Duration::from_millis(1_999));
        node.now.mono = node.now.mono + Duration::from_millis(2);
        node.now.wall = node.now.wall.plus(2);
        node.wake_for(inputs);
        node.restart();
        let client = node.connect(0);
        node.pass(Duration::from_millis(2_900));
        let states: Vec<String> =
            asked(&mut node, client).into_iter().map(|[_, _, state]| state).collect();
        assert_eq!(states, ["asked"], "killed after {inputs} inputs");
    }
}

#[test]
fn without_a_check_topic_a_half_message_waits_and_its_checks_are_not_used_up() {
    let (mut node, client) = node(1);
    super::delete(&mut node, client, "checks.g");
    begin(&mut node, client, "a");
    node.pass(SECOND * 60);
    let configs = [("mainspring.features", "dedup")];
    create_with(&mut node, client, "checks.g", 1, &configs);
    node.pass(SECOND * 2);
    let client = node.connect(0);
    assert_eq!(asked(&mut node, client).len(), 1, "it is the first question");
}
