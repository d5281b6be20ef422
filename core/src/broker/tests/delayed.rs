//! Delayed records over the wire: by headers alone, as any client sends them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::broker::testing::{Client, TestNode};
use crate::config::PeerConfig;
use crate::ids::{NodeId, PartitionIndex, ProducerEpoch, ProducerId, TopicPartition};
use crate::record::batch::Batch;
use crate::record::builder::{BatchBuilder, NewHeader, Producer};
use crate::record::compress::Codec;
use crate::record::iterate::OpenBatch;
use crate::wire::api::alter_configs::AlterConfigsRequest;
use crate::wire::api::entry_alter::{EntryAlterRequest, EntryAlterTopic, EntryAlteration};
use crate::wire::api::entry_list::{
    EntryListPartition, EntryListRequest, EntryListTopic, ListedEntry,
};
use crate::wire::api::produce::PartitionProduceResponse;

use super::{SHARDS, create_with, fetch, list_offset, produce, produce_request};

/// A record that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) offset: i64,
    pub(super) value: Bytes,
    headers: Vec<(Bytes, Bytes)>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(it, _)| it == name.as_bytes());
        found.map(|(_, value)| value.as_ref())
    }
}

pub(super) fn node(shards: u16, features: &str) -> (TestNode, Client) {
    let mut node = TestNode::started(shards);
    let client = node.connect(0);
    let configs = [("mainspring.features", features)];
    let created = create_with(&mut node, client, "t", 1, &configs);
    assert_eq!(created.topics[0].error_code, 0, "{created:?}");
    (node, client)
}

fn batch(records: &[(&str, &[(&str, &str)])]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for (value, headers) in records {
        let headers: Vec<NewHeader<'_>> =
            headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))).collect();
        builder.push(1_700_000_000_000, Some(b"k"), Some(value.as_bytes()), &headers);
    }
    builder.build().to_bytes()
}

pub(super) fn send(
    node: &mut TestNode,
    client: Client,
    records: &[(&str, &[(&str, &str)])],
) -> PartitionProduceResponse {
    produce(node, client, "t", 0, batch(records))
}

pub(super) fn accepted(
    node: &mut TestNode,
    client: Client,
    records: &[(&str, &[(&str, &str)])],
) -> i64 {
    let answer = send(node, client, records);
    assert_eq!(answer.error_code, 0, "{answer:?}");
    answer.base_offset
}

/// Reads from an offset to the end.
pub(super) fn read_from(node: &mut TestNode, client: Client, mut offset: i64) -> Vec<Seen> {
    let mut seen = Vec::new();
    loop {
        let data = fetch(node, client, "t", 0, offset);
        assert_eq!(data.error_code, 0);
        let records = data.records.unwrap_or_default();
        let mut bytes = records.to_bytes();
        if bytes.is_empty() {
            return seen;
        }
        while !bytes.is_empty() {
            let batch = Batch::split_from(&mut bytes).expect("whole");
            assert!(batch.crc_is_valid() && !batch.is_control());
            let open = OpenBatch::open(&batch, 1 << 20).expect("sound");
            for record in open.records() {
                let record = record.expect("sound");
                let headers = record.record.headers.iter().map(|header| {
                    let value = header.value.unwrap_or_default();
                    (Bytes::copy_from_slice(header.key), Bytes::copy_from_slice(value))
                });
                seen.push(Seen {
                    offset: record.offset.0,
                    value: Bytes::copy_from_slice(record.record.value.unwrap_or_default()),
                    headers: headers.collect(),
                });
            }
            offset = batch.next_offset().0;
        }
    }
}

pub(super) fn values(seen: &[Seen]) -> Vec<&[u8]> {
    seen.iter().map(|seen| seen.value.as_ref()).collect()
}

pub(super) fn list(node: &mut TestNode, client: Client, which: i8) -> Vec<ListedEntry> {
    let partitions = vec![EntryListPartition::default()];
    let topics = vec![EntryListTopic { name: "t".into(), partitions }];
    let request = EntryListRequest { topics, which, ..EntryListRequest::default() };
    let mut answer = node.call(client, 0, &request);
    let partition = answer.topics.remove(0).partitions.remove(0);
    assert_eq!(partition.error_code, 0, "{partition:?}");
    partition.entries
}

pub(super) fn alter(node: &mut TestNode, client: Client, alteration: EntryAlteration) -> i16 {
    let topics = vec![EntryAlterTopic { name: "t".into(), alterations: vec![alteration] }];
    let answer = node.call(client, 0, &EntryAlterRequest { topics });
    answer.topics[0].alterations[0].error_code
}

pub(super) const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_delayed_record_comes_once_when_it_is_due_and_never_before() {
    for shards in SHARDS {
        let (mut node, client) = node(shards, "schedule");
        let ticket = accepted(&mut node, client, &[("later", &[("mainspring-delay-ms", "5000")])]);
        let now = accepted(&mut node, client, &[("now", &[])]);

        node.pass(SECOND * 4);
        assert_eq!(values(&read_from(&mut node, client, 0)), [b"now"], "not before its time");
        node.pass(SECOND * 2);

        let seen = read_from(&mut node, client, 0);
        assert_eq!(values(&seen), [&b"now"[..], b"later"]);
        assert_eq!(seen[0].offset, now);
        assert!(seen[1].offset > now, "at an offset of its own");
        assert_eq!(seen[1].header("mainspring-ticket"), Some(ticket.to_string().as_bytes()));
        node.pass(SECOND * 3600);
        let client = node.connect(0);
        assert_eq!(read_from(&mut node, client, 0), seen, "and not again");
        let end = list_offset(&mut node, client, "t", 0, -1).offset;
        assert_eq!(end, seen[1].offset + 1, "a consumer that has read it has no lag");
    }
}

#[test]
fn what_waits_comes_after_a_restart_also_when_it_was_due_meanwhile() {
    for shards in SHARDS {
        let (mut node, client) = node(shards, "schedule");
        for (value, delay) in [("b", "5000"), ("c", "9000"), ("a", "4000")] {
            accepted(&mut node, client, &[(value, &[("mainspring-delay-ms", delay)])]);
        }
        node.now.mono = node.now.mono + SECOND * 6;
        node.now.wall = node.now.wall.plus(6_000);
        node.restart();
        let client = node.connect(0);
        node.pass(Duration::from_millis(500));
        assert_eq!(values(&read_from(&mut node, client, 0)), [b"a", b"b"], "late, in order");
        node.pass(SECOND * 4);
        node.restart();
        let client = node.connect(0);
        node.pass(SECOND);
        assert_eq!(values(&read_from(&mut node, client, 0)), [b"a", b"b", b"c"]);
    }
}

#[test]
fn a_batch_of_some_delayed_records_keeps_the_others_at_their_offsets() {
    let (mut node, client) = node(1, "schedule");
    let delay: &[(&str, &str)] = &[("mainspring-delay-ms", "1000")];
    let base = accepted(&mut node, client, &[("a", &[]), ("x", delay), ("b", &[]), ("y", delay)]);

    let seen = read_from(&mut node, client, 0);
    let at: Vec<i64> = seen.iter().map(|seen| seen.offset - base).collect();
    assert_eq!((values(&seen), at), (vec![&b"a"[..], b"b"], vec![0, 2]));
    assert_eq!(list_offset(&mut node, client, "t", 0, -1).offset, base + 3, "the last one shown");

    node.pass(SECOND * 2);
    let seen = read_from(&mut node, client, base + 3);
    assert_eq!(values(&seen), [b"x", b"y"]);
    let tickets: Vec<_> = seen.iter().map(|seen| seen.header("mainspring-ticket")).collect();
    let expected = [(base + 1).to_string(), (base + 3).to_string()];
    assert_eq!(tickets, [Some(expected[0].as_bytes()), Some(expected[1].as_bytes())]);
}

#[test]
fn a_cancelled_record_never_comes_and_one_that_came_is_too_late() {
    let (mut node, client) = node(1, "schedule");
    let delayed = |id| [("mainspring-delay-ms", "5000"), ("mainspring-id", id)];
    let cancel = |id| [("mainspring-op", "cancel"), ("mainspring-id", id)];
    accepted(&mut node, client, &[("one", &delayed("1"))]);
    accepted(&mut node, client, &[("two", &delayed("2"))]);

    accepted(&mut node, client, &[("", &cancel("1"))]);
    node.pass(SECOND * 6);
    let late = send(&mut node, client, &[("", &cancel("2"))]);
    let unknown = send(&mut node, client, &[("", &cancel("3"))]);

    assert_eq!(values(&read_from(&mut node, client, 0)), [b"two"]);
    assert_eq!((late.error_code, unknown.error_code), (87, 87));
    assert_eq!(late.record_errors.len(), 1, "the record to blame is named");
    accepted(
        &mut node,
        client,
        &[("", &[("mainspring-op", "cancel-if-pending"), ("mainspring-id", "2")])],
    );
}

#[test]
fn what_waits_is_listed_and_altered_by_tools() {
    for shards in SHARDS {
        let (mut node, client) = node(shards, "schedule");
        let first = accepted(&mut node, client, &[("one", &[("mainspring-delay-ms", "60000")])]);
        let named = [("mainspring-delay-ms", "50000"), ("mainspring-id", "n")];
        let second = accepted(&mut node, client, &[("two", &named)]);
        let third = accepted(&mut node, client, &[("three", &[("mainspring-delay-ms", "70000")])]);

        let by_time: Vec<i64> = list(&mut node, client, 1).iter().map(|it| it.ticket).collect();
        assert_eq!(by_time, [second, first, third]);
        let by_ticket: Vec<i64> = list(&mut node, client, 0).iter().map(|it| it.ticket).collect();
        assert_eq!(by_ticket, [first, second, third]);

        let of = |operation, ticket| EntryAlteration { ticket, operation, ..Default::default() };
        assert_eq!(alter(&mut node, client, of(1, first)), 0);
        let named = EntryAlteration { id: Some("n".into()), ..of(3, -1) };
        assert_eq!(alter(&mut node, client, named), 0);
        let later = EntryAlteration { delay_ms: 80_000, ..of(2, third) };
        assert_eq!(alter(&mut node, client, later), 0);
        assert_eq!(alter(&mut node, client, of(1, 12_345)), 87, "there is no such entry");
        assert_eq!(alter(&mut node, client, of(9, third)), 42, "there is no such operation");

        assert_eq!(values(&read_from(&mut node, client, 0)), [b"two"]);
        node.pass(SECOND * 75);
        assert_eq!(values(&read_from(&mut node, client, 0)), [b"two"]);
        node.pass(SECOND * 10);
        assert_eq!(values(&read_from(&mut node, client, 0)), [&b"two"[..], b"three"]);
        assert_eq!(list(&mut node, client, 0), []);
    }
}

#[test]
fn a_request_alters_no_more_entries_than_the_bound() {
    let (mut node, client) = node(1, "schedule");
    let cancel = EntryAlteration { ticket: 12_345, operation: 1, ..Default::default() };
    let mut codes = |count: usize| -> BTreeSet<i16> {
        let topic =
            |count| EntryAlterTopic { name: "t".into(), alterations: vec![cancel.clone(); count] };
        let topics = vec![topic(count - 1), topic(1)];
        let answer = node.call(client, 0, &EntryAlterRequest { topics });
        let altered = answer.topics.iter().flat_map(|topic| &topic.alterations);
        altered.map(|altered| altered.error_code).collect()
    };
    assert_eq!(codes(10_000), BTreeSet::from([87]), "there is no such entry");
    assert_eq!(codes(10_001), BTreeSet::from([42]), "all of it is refused");
}

#[test]
fn a_retried_batch_of_delayed_records_is_known_and_comes_once() {
    let (mut node, client) = node(1, "schedule");
    let producer = Producer { id: ProducerId(9), epoch: ProducerEpoch(0), base_sequence: 0 };
    let mut builder = BatchBuilder::new(Codec::None).producer(producer);
    builder.push(1, None, Some(b"v"), &[(b"mainspring-delay-ms", Some(b"1000"))]);
    let records = builder.build().to_bytes();

    let first = produce(&mut node, client, "t", 0, records.clone());
    let again = produce(&mut node, client, "t", 0, records);

    assert_eq!((first.error_code, again.error_code), (0, 0));
    assert_eq!(first.base_offset, again.base_offset);
    node.pass(SECOND * 3);
    assert_eq!(values(&read_from(&mut node, client, 0)), [b"v"]);
}

#[test]
fn wrong_headers_are_refused_with_the_record_to_blame_and_nothing_is_stored() {
    let (mut node, client) = node(1, "schedule");
    let both: &[(&str, &str)] = &[("mainspring-delay-ms", "1"), ("mainspring-deliver-at", "1")];
    let wrong: [&[(&str, &str)]; 4] = [
        both,
        &[("mainspring-delay-ms", "soon")],
        &[("mainspring-cron", "every day")],
        &[("mainspring-op", "explode"), ("mainspring-id", "1")],
    ];
    for headers in wrong {
        let answer = send(&mut node, client, &[("fine", &[]), ("wrong", headers)]);
        assert_eq!(answer.error_code, 87, "{headers:?}");
        assert_eq!(answer.record_errors[0].batch_index, 1, "{headers:?}");
        assert!(answer.error_message.is_some());
    }
    assert_eq!(read_from(&mut node, client, 0), []);
}

#[test]
fn without_the_feature_the_headers_are_plain_data() {
    let (mut node, client) = node(1, "");
    accepted(&mut node, client, &[("v", &[("mainspring-delay-ms", "5000")])]);
    assert_eq!(values(&read_from(&mut node, client, 0)), [b"v"]);
}

#[test]
fn what_was_taken_comes_after_the_feature_is_switched_off_and_headers_count_no_more() {
    let (mut node, client) = node(1, "schedule");
    accepted(&mut node, client, &[("later", &[("mainspring-delay-ms", "5000")])]);
    let resource = crate::wire::api::alter_configs::AlterConfigsResource {
        resource_type: 2,
        resource_name: "t".into(),
        configs: Vec::new(),
    };
    let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
    assert_eq!(node.call(client, 2, &request).responses[0].error_code, 0);

    accepted(&mut node, client, &[("now", &[("mainspring-delay-ms", "5000")])]);
    node.restart();
    let client = node.connect(0);
    node.pass(SECOND * 6);

    assert_eq!(values(&read_from(&mut node, client, 0)), [&b"now"[..], b"later"]);
}

#[test]
fn a_recurring_record_comes_again_and_missed_times_come_once() {
    let (mut node, client) = node(1, "schedule");
    let every: &[(&str, &str)] = &[("mainspring-cron", "@every 1000"), ("mainspring-id", "tick")];
    accepted(&mut node, client, &[("tick", every)]);

    node.pass(Duration::from_millis(3_500));
    assert_eq!(read_from(&mut node, client, 0).len(), 3);
    node.now.mono = node.now.mono + SECOND * 10;
    node.now.wall = node.now.wall.plus(10_000);
    node.restart();
    let client = node.connect(0);
    node.pass(Duration::from_millis(100));
    assert_eq!(read_from(&mut node, client, 0).len(), 4, "those of the downtime come once");
    accepted(&mut node, client, &[("", &[("mainspring-op", "cancel"), ("mainspring-id", "tick")])]);
    let came = read_from(&mut node, client, 0).len();
    node.pass(SECOND * 5);
    assert_eq!(read_from(&mut node, client, 0).len(), came, "a cancelled one comes no more");
}

#[test]
fn what_comes_at_once_is_delivered_in_batches_no_larger_than_produced_ones_may_be() {
    const LARGEST: usize = 2_000;
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    let largest = LARGEST.to_string();
    let configs = [("mainspring.features", "schedule"), ("max.message.bytes", largest.as_str())];
    let created = create_with(&mut node, client, "t", 1, &configs);
    assert_eq!(created.topics[0].error_code, 0, "{created:?}");
    let value = "v".repeat(500);
    for _ in 0..10 {
        accepted(&mut node, client, &[(&value, &[("mainspring-delay-ms", "1000")])]);
    }
    node.pass(SECOND * 3);

    let (mut offset, mut came) = (0, 0);
    loop {
        let data = fetch(&mut node, client, "t", 0, offset);
        let mut bytes = data.records.unwrap_or_default().to_bytes();
        if bytes.is_empty() {
            break;
        }
        while !bytes.is_empty() {
            let batch = Batch::split_from(&mut bytes).expect("whole");
            assert!(batch.size() <= LARGEST, "{} bytes", batch.size());
            came += batch.records_count();
            offset = batch.next_offset().0;
        }
    }
    assert_eq!(came, 10);
}

fn list_request(which: i8, partitions: &[(i32, i64, i64)]) -> EntryListRequest {
    let partition = |&(partition_index, after_due_ms, after_ticket): &(i32, i64, i64)| {
        EntryListPartition { partition_index, after_due_ms, after_ticket }
    };
    let partitions = partitions.iter().map(partition).collect();
    let topics = vec![EntryListTopic { name: "t".into(), partitions }];
    EntryListRequest { topics, which, ..EntryListRequest::default() }
}

#[test]
fn a_list_up_to_a_moment_says_whether_there_is_more_up_to_it() {
    let (mut node, client) = node(1, "schedule");
    let start = node.now.wall.0;
    for delay in ["10000", "20000", "30000", "40000"] {
        accepted(&mut node, client, &[("v", &[("mainspring-delay-ms", delay)])]);
    }
    let (mut seen, mut after) = (Vec::new(), (0, i64::MIN, -1));
    loop {
        let request =
            EntryListRequest { limit: 2, until_ms: start + 30_000, ..list_request(1, &[after]) };
        let answer = node.call(client, 0, &request).topics.remove(0).partitions.remove(0);
        assert_eq!(answer.count, 4);
        seen.extend(answer.entries.iter().map(|entry| entry.due_ms - start));
        let Some(last) = answer.entries.last().filter(|_| answer.has_more) else { break };
        after = (0, last.due_ms, last.ticket);
    }
    assert_eq!(seen, [10_000, 20_000, 30_000]);
    for which in [0, 2, 3] {
        let request = EntryListRequest { until_ms: start, ..list_request(which, &[after]) };
        let answer = node.call(client, 0, &request).topics.remove(0).partitions.remove(0);
        assert_eq!(answer.error_code, 42, "{which} is in no order of time");
    }
}

#[test]
fn a_list_holds_each_partition_once_and_no_more_than_is_sensible() {
    let (mut node, client) = node(1, "schedule");
    let later: &[(&str, &str)] = &[("mainspring-delay-ms", "10000")];
    let records: Vec<(&str, &[(&str, &str)])> = (0..40).map(|_| ("v", later)).collect();
    accepted(&mut node, client, &records);
    let twice = list_request(0, &[(0, i64::MIN, -1), (0, i64::MIN, -1)]);
    let answer = node.call(client, 0, &twice).topics.remove(0);
    let codes: Vec<i16> = answer.partitions.iter().map(|it| it.error_code).collect();
    assert_eq!(codes, [0, 42]);
    let many: Vec<(i32, i64, i64)> = (0..1_000).map(|at| (at, i64::MIN, -1)).collect();
    let request = EntryListRequest { limit: i32::MAX, ..list_request(0, &many) };
    let answer = node.call(client, 0, &request).topics.remove(0).partitions.remove(0);
    assert_eq!((answer.entries.len(), answer.has_more, answer.count), (10, true, 40));
}

/// Another node holds the partition too, and this one hears of no controller.
fn cut_off(node: &mut TestNode, id: TopicPartition) {
    let peer = |node_id| PeerConfig { node_id: NodeId(node_id), host: "host".into(), port: 1 };
    let mut config = (*node.shards[0].config.node).clone();
    config.peers = vec![peer(1), peer(2)];
    node.shards[0].config.node = Arc::new(config);
    let topic = node.shards[0].image.topic(id.topic_id).expect("there");
    let mut state = topic.partition(id.partition).expect("there").clone();
    state.replicas = vec![NodeId(1), NodeId(2)];
    let now = node.now.mono;
    let partition = node.shards[0].partitions.get_mut(&id).expect("it leads");
    partition.in_sync_mut().update(now, &state, BTreeSet::new());
}

#[test]
fn a_leader_that_others_may_have_followed_tells_no_list() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    let created = create_with(&mut node, client, "t", 1, &[("mainspring.features", "schedule")]);
    let topic_id = created.topics[0].topic_id;
    let id = TopicPartition { topic_id, partition: PartitionIndex(0) };
    node.hold_disk = true;
    let delayed = batch(&[("v", &[("mainspring-delay-ms", "60000")])]);
    node.send(client, 9, &produce_request(-1, "t", &[(0, delayed)]));
    let reader = node.connect(0);
    node.send(reader, 0, &list_request(0, &[(0, i64::MIN, -1)]));
    assert!(node.take_frame(reader).is_none(), "what it says is not committed");
    cut_off(&mut node, id);
    node.release();
    assert!(node.take_frame(reader).is_none(), "another may lead by now");
    let now = node.now;
    node.shards[0].take_lease(now, now.mono + SECOND);
    node.wake_for(1);
    node.run();
    let (_, answer) = node.take::<EntryListRequest>(reader, 0).expect("it leads");
    assert_eq!(answer.topics[0].partitions[0].entries.len(), 1);
}

#[test]
fn of_the_lists_that_wait_there_are_not_too_many() {
    let (mut node, client) = node(1, "schedule");
    node.hold_disk = true;
    let delayed = batch(&[("v", &[("mainspring-delay-ms", "60000")])]);
    node.send(client, 9, &produce_request(-1, "t", &[(0, delayed)]));
    let readers: Vec<Client> = (0..17).map(|_| node.connect(0)).collect();
    for reader in &readers {
        node.send(*reader, 0, &list_request(0, &[(0, i64::MIN, -1)]));
    }
    let (_, refused) = node.take::<EntryListRequest>(readers[16], 0).expect("refused at once");
    assert_eq!(refused.topics[0].partitions[0].error_code, 7);
    node.release();
    for reader in &readers[..16] {
        let (_, answer) = node.take::<EntryListRequest>(*reader, 0).expect("answered");
        assert_eq!(answer.topics[0].partitions[0].count, 1);
    }
}

#[test]
fn in_memory_what_is_due_at_once_does_not_come_in_one_turn() {
    let mut node = TestNode::with(1, |config| config.memory_only = true);
    let client = node.connect(0);
    let configs =
        [("mainspring.features", "schedule"), ("mainspring.schedule.fire.max.records", "1")];
    let created = create_with(&mut node, client, "t", 1, &configs);
    assert_eq!(created.topics[0].error_code, 0, "{created:?}");
    let later: &[(&str, &str)] = &[("mainspring-delay-ms", "1000")];
    let records: Vec<(&str, &[(&str, &str)])> = (0..100).map(|_| ("v", later)).collect();
    accepted(&mut node, client, &records);
    node.pass(SECOND);
    let at_once = read_from(&mut node, client, 0).len();
    assert!((1..=16).contains(&at_once), "{at_once}");
    node.pass(SECOND);
    assert_eq!(read_from(&mut node, client, 0).len(), 100);
}
