//! Fetch sessions, as clients see them (KIP-227).

use std::time::Duration;

use crate::broker::testing::{Client, TestNode, batch};
use crate::ids::Uuid;
use crate::wire::api::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic,
};

use super::{SHARDS, create, delete, fetch_request, produce};

/// A request of a session; what it names is `(partition, offset)`.
fn of_session(id: i32, epoch: i32, at: &[(i32, i64)]) -> FetchRequest {
    let mut request = fetch_request("t", at, 0, 1);
    (request.session_id, request.session_epoch) = (id, epoch);
    if at.is_empty() {
        request.topics.clear();
    }
    request
}

fn forgetting(mut request: FetchRequest, partitions: &[i32]) -> FetchRequest {
    request.forgotten_topics_data = vec![ForgottenTopic {
        topic: "t".into(),
        partitions: partitions.to_vec(),
        ..ForgottenTopic::default()
    }];
    request
}

/// What an answer holds: `(partition, error, bytes of records)`.
fn told(response: &FetchResponse) -> Vec<(i32, i16, usize)> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|p| (p.partition_index, p.error_code, p.records.as_ref().expect("records").len()))
        .collect()
}

fn open(node: &mut TestNode, client: Client, at: &[(i32, i64)]) -> i32 {
    let opened = node.call(client, 12, &of_session(0, 0, at));
    assert_eq!((opened.error_code, told(&opened).len()), (0, at.len()));
    assert!(opened.session_id > 0, "{}", opened.session_id);
    opened.session_id
}

#[test]
fn a_session_names_and_is_answered_only_what_changes() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        create(&mut node, client, "t", 4);
        let id = open(&mut node, client, &[(0, 0), (1, 0), (2, 0)]);

        let quiet = node.call(client, 12, &of_session(id, 1, &[]));
        assert_eq!((quiet.error_code, quiet.session_id, told(&quiet)), (0, id, vec![]));

        let records = batch(&["x"], None);
        produce(&mut node, client, "t", 1, records.clone());
        let news = node.call(client, 12, &of_session(id, 2, &[]));
        assert_eq!(told(&news), [(1, 0, records.len())]);

        // The client moves on, and adds a partition, which is told once.
        let added = node.call(client, 12, &of_session(id, 3, &[(1, 1), (3, 0)]));
        assert_eq!(told(&added), [(3, 0, 0)]);
        assert!(told(&node.call(client, 12, &of_session(id, 4, &[]))).is_empty());

        // What is forgotten is told no more.
        let forgets = forgetting(of_session(id, 5, &[]), &[1]);
        assert!(told(&node.call(client, 12, &forgets)).is_empty());
        produce(&mut node, client, "t", 1, records.clone());
        assert!(told(&node.call(client, 12, &of_session(id, 6, &[]))).is_empty());
    }
}

#[test]
fn a_fetch_of_a_session_waits_for_any_of_its_partitions() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let (reader, writer) = (node.connect(0), node.connect(shards - 1));
        create(&mut node, writer, "t", 3);
        let id = open(&mut node, reader, &[(0, 0), (1, 0), (2, 0)]);
        let mut request = of_session(id, 1, &[]);
        request.max_wait_ms = 5000;
        node.send(reader, 12, &request);
        node.pass(Duration::from_secs(4));
        assert!(node.take_frame(reader).is_none(), "it waits");
        produce(&mut node, writer, "t", 2, batch(&["x"], None));
        let (_, woken) = node.take::<FetchRequest>(reader, 12).expect("woken");
        assert_eq!(told(&woken).iter().map(|told| told.0).collect::<Vec<_>>(), [2]);
    }
}

#[test]
fn an_error_of_a_partition_is_told_each_time_and_its_end_once() {
    let mut node = TestNode::started(3);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    let id = open(&mut node, client, &[(0, 0), (7, 0)]);
    for epoch in 1..3 {
        assert_eq!(told(&node.call(client, 12, &of_session(id, epoch, &[]))), [(7, 3, 0)]);
    }
    delete(&mut node, client, "t");
    let gone = node.call(client, 12, &of_session(id, 3, &[]));
    assert_eq!(told(&gone), [(0, 3, 0), (7, 3, 0)]);
    create(&mut node, client, "t", 8);
    let there = node.call(client, 12, &of_session(id, 4, &[]));
    assert_eq!(told(&there), [(0, 0, 0), (7, 0, 0)]);
    assert!(told(&node.call(client, 12, &of_session(id, 5, &[]))).is_empty());
}

#[test]
fn a_partition_at_the_front_does_not_starve_the_others() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "t", 3);
    let records = batch(&[&"x".repeat(1000)], None);
    for partition in 0..3 {
        for _ in 0..4 {
            produce(&mut node, client, "t", partition, records.clone());
        }
    }
    // One batch fits each answer, and the client asks for nothing else.
    let limited = |id, epoch, at: &[(i32, i64)]| {
        let mut request = of_session(id, epoch, at);
        request.max_bytes = records.len() as i32;
        request
    };
    let opened = node.call(client, 12, &limited(0, 0, &[(0, 0), (1, 0), (2, 0)]));
    let mut next = vec![(0, 1)];
    let mut order = Vec::new();
    for epoch in 1..=6 {
        let response = node.call(client, 12, &limited(opened.session_id, epoch, &next));
        let brought: Vec<i32> =
            told(&response).iter().filter(|told| told.2 > 0).map(|told| told.0).collect();
        assert_eq!(brought.len(), 1);
        order.push(brought[0]);
        let offset = order.iter().filter(|&&p| p == brought[0]).count() as i64;
        next = vec![(brought[0], offset + i64::from(brought[0] == 0))];
    }
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn wrong_epochs_and_unknown_sessions_are_refused_by_kafkas_codes() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    let topic_id = create(&mut node, client, "t", 1);
    let id = open(&mut node, client, &[(0, 0)]);
    let mut code = |version, request: FetchRequest| {
        let response = node.call(client, version, &request);
        assert!(response.responses.is_empty());
        (response.error_code, response.session_id)
    };
    assert_eq!(code(12, of_session(id, 2, &[])), (71, 0));
    assert_eq!(code(12, of_session(id ^ 1, 1, &[])), (70, 0));
    let mut by_id = of_session(id, 1, &[]);
    by_id.topics = vec![FetchTopic { topic_id, ..FetchTopic::default() }];
    assert_eq!(code(13, by_id), (106, 0));
    assert_eq!(code(7, of_session(id, 1, &[])), (0, id));
    // A full fetch that names it closes it, whether it asks for another or for none.
    let other = node.call(client, 12, &of_session(id, 0, &[(0, 0)])).session_id;
    assert_ne!(other, id);
    assert_eq!(node.call(client, 12, &of_session(id, 2, &[])).error_code, 70);
    assert_eq!(node.call(client, 12, &of_session(other, -1, &[(0, 0)])).session_id, 0);
    assert_eq!(node.call(client, 12, &of_session(other, 1, &[])).error_code, 70);
}

#[test]
fn a_session_outlives_its_connection_and_ends_with_its_last_partition() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "t", 2);
    let id = open(&mut node, client, &[(0, 0), (1, 0)]);
    node.disconnect(client);
    let client = node.connect(0);
    let left = node.call(client, 12, &forgetting(of_session(id, 1, &[]), &[0]));
    assert_eq!((left.error_code, left.session_id), (0, id));
    let ended = node.call(client, 12, &forgetting(of_session(id, 2, &[]), &[1]));
    assert_eq!((ended.error_code, ended.session_id), (0, 0));
    assert!(node.shards[0].fetch_sessions.ids().is_empty());
}

#[test]
fn without_slots_there_are_no_sessions_and_full_fetches_are_served() {
    let mut node = TestNode::with(1, |config| {
        config.settings.set("max.incremental.fetch.session.cache.slots", "0").expect("valid");
        config.settings.apply_to(&mut config.limits);
    });
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    let full = node.call(client, 12, &of_session(0, 0, &[(0, 0)]));
    assert_eq!((full.session_id, told(&full)), (0, vec![(0, 0, 0)]));
}

#[test]
fn topics_are_named_by_id_from_version_13_on() {
    let mut node = TestNode::started(3);
    let client = node.connect(1);
    let topic_id = create(&mut node, client, "t", 2);
    let with_id = |mut request: FetchRequest| {
        for topic in &mut request.topics {
            topic.topic_id = topic_id;
        }
        for topic in &mut request.forgotten_topics_data {
            topic.topic_id = topic_id;
        }
        request
    };
    let opened = node.call(client, 17, &with_id(of_session(0, 0, &[(0, 0), (1, 0)])));
    produce(&mut node, client, "t", 1, batch(&["x"], None));
    let news = node.call(client, 17, &of_session(opened.session_id, 1, &[]));
    assert_eq!(told(&news).len(), 1);
    assert_eq!(news.responses[0].topic_id, topic_id);
    let forgets = with_id(forgetting(of_session(opened.session_id, 2, &[]), &[0, 1]));
    assert_eq!(node.call(client, 17, &forgets).session_id, 0);
    let unknown = FetchTopic {
        topic_id: Uuid([9; 16]),
        partitions: vec![FetchPartition::default()],
        ..FetchTopic::default()
    };
    let request = FetchRequest { topics: vec![unknown], session_epoch: 0, ..of_session(0, 0, &[]) };
    let opened = node.call(client, 17, &request);
    for epoch in 1..3 {
        let again = node.call(client, 17, &of_session(opened.session_id, epoch, &[]));
        assert_eq!(told(&again), [(0, 100, 0)]);
    }
}

#[test]
fn of_a_partition_named_twice_the_last_word_counts_at_the_place_of_the_first() {
    for shards in SHARDS {
        let mut node = TestNode::started(shards);
        let client = node.connect(0);
        for topic in ["t", "u"] {
            create(&mut node, client, topic, 2);
        }
        produce(&mut node, client, "t", 0, batch(&["x"], None));
        for epoch in [-1, 0] {
            let mut request = of_session(0, epoch, &[(0, 9), (1, 0)]);
            request.topics.extend(fetch_request("u", &[(0, 0)], 0, 1).topics);
            request.topics.extend(fetch_request("t", &[(0, 1)], 0, 1).topics);
            let response = node.call(client, 12, &request);
            assert_eq!(told(&response), [(0, 0, 0), (1, 0, 0), (0, 0, 0)], "no error of offset 9");
            assert_eq!(response.responses.len(), 2);
        }
    }
}
