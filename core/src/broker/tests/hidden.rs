//! What clients see of a log with batches that are not for them: nothing of these, and ends that fit (F19, F20).

use std::time::Duration;

use bytes::Bytes;

use crate::broker::testing::{Client, TestNode, batch};
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicPartition};
use crate::io::Mark;
use crate::partition::ClientView;
use crate::record::batch::Batch;
use crate::record::builder::Producer;
use crate::record::iterate::OpenBatch;
use crate::record::testing::{data, keeping, marker, note};
use crate::wire::api::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use crate::wire::api::fetch::{FetchRequest, PartitionData};
use crate::wire::api::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};

use super::{SHARDS, create, fetch, fetch_request, list_offset, produce, produce_request};

const PRODUCER: Producer =
    Producer { id: ProducerId(70), epoch: ProducerEpoch(2), base_sequence: 0 };

/// A topic of one partition whose log has a view, and all that was appended to it.
struct Hiding {
    node: TestNode,
    client: Client,
    id: TopicPartition,
    stored: Vec<Batch>,
}

impl Hiding {
    fn new(mut node: TestNode, view: ClientView) -> Self {
        let client = node.connect(0);
        let topic_id = create(&mut node, client, "t", 1);
        let id = TopicPartition { topic_id, partition: PartitionIndex(0) };
        node.lead(id, |now, partition, log, fx| {
            partition.set_view(Some(view), log);
            partition.set_floor(now, None, log, fx);
        });
        Self { node, client, id, stored: Vec::new() }
    }

    fn with_shards(shards: u16) -> Self {
        Self::new(TestNode::started(shards), ClientView::new(Offset::ZERO))
    }

    /// With what is old in files alone.
    fn in_files(view: ClientView) -> Self {
        Self::new(TestNode::with(1, |config| config.log.tail_cache_bytes = 0), view)
    }

    fn append(&mut self, batch: Batch) -> Offset {
        let stored = self.node.append(self.id, batch);
        self.stored.push(stored);
        self.stored[self.stored.len() - 1].base_offset()
    }

    fn hide(&mut self, records: usize) -> Offset {
        self.append(keeping(&data(records, None, false), &vec![false; records]))
    }

    fn fetch(&mut self, offset: i64, committed: bool, max_bytes: i32) -> PartitionData {
        let mut request = fetch_request("t", &[(0, offset)], 0, 1);
        request.isolation_level = i8::from(committed);
        request.topics[0].partitions[0].partition_max_bytes = max_bytes;
        self.node.call(self.client, 12, &request).responses.remove(0).partitions.remove(0)
    }

    fn latest(&mut self, committed: bool) -> (i16, i64) {
        let asked = ListOffsetsPartition { timestamp: -1, ..ListOffsetsPartition::default() };
        let topics = vec![ListOffsetsTopic { name: "t".into(), partitions: vec![asked] }];
        let request = ListOffsetsRequest {
            isolation_level: i8::from(committed),
            topics,
            ..ListOffsetsRequest::default()
        };
        let found = self.node.call(self.client, 7, &request).topics.remove(0).partitions.remove(0);
        (found.error_code, found.offset)
    }

    fn delete_request(offset: i64) -> DeleteRecordsRequest {
        let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
        let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions }];
        DeleteRecordsRequest { topics, timeout_ms: 1_000 }
    }

    fn delete(&mut self, offset: i64) -> (i16, i64) {
        let request = Self::delete_request(offset);
        let found = self.node.call(self.client, 2, &request).topics.remove(0).partitions.remove(0);
        (found.error_code, found.low_watermark)
    }

    /// Reads on from an offset until an answer is empty: the offsets of the records and markers, and where
    /// the consumer stands then.
    fn consume(&mut self, from: i64, max_bytes: i32) -> (Vec<i64>, i64) {
        let (mut position, mut found) = (from, Vec::new());
        loop {
            let data = self.fetch(position, false, max_bytes);
            assert_eq!(data.error_code, 0, "at {position}");
            let batches = batches(&data);
            if batches.is_empty() {
                // F20: nothing is left, and the ends say so.
                assert_eq!(data.high_watermark, position.max(self.latest(false).1));
                return (found, position);
            }
            for batch in batches {
                assert!(batch.crc_is_valid(), "{batch:?}");
                let open = OpenBatch::open(&batch, 1 << 20).expect("sound");
                let offsets = open.records().map(|record| record.expect("sound").offset.0);
                let offsets: Vec<i64> = offsets.filter(|offset| *offset >= position).collect();
                assert_eq!(offsets.last(), Some(&batch.last_offset().0), "it ends with a record");
                found.extend(offsets);
                position = batch.next_offset().0;
            }
        }
    }

    /// Notes all that is stored to a new view of the leader.
    fn load(&mut self) {
        let Self { node, id, stored, .. } = self;
        node.lead(*id, |now, partition, log, fx| {
            partition.set_view(Some(ClientView::new(Offset::ZERO)), log);
            for batch in stored.iter() {
                partition.note(batch);
            }
            partition.settle(log);
            partition.set_floor(now, None, log, fx);
        });
    }
}

fn batches(data: &PartitionData) -> Vec<Batch> {
    let mut bytes = data.records.as_ref().map_or_else(Bytes::new, crate::wire::Parts::to_bytes);
    let mut found = Vec::new();
    while !bytes.is_empty() {
        found.push(Batch::split_from(&mut bytes).expect("whole batches"));
    }
    found
}

#[test]
fn a_consumer_is_given_records_alone_and_has_no_lag_at_the_end() {
    for shards in SHARDS {
        let mut log = Hiding::with_shards(shards);
        assert_eq!((log.consume(0, 1 << 20), log.latest(false)), ((vec![], 0), (0, 0)));
        log.hide(2);
        log.append(note(10));
        // Of a log with nothing for clients the end is its start.
        assert_eq!((log.consume(0, 1 << 20), log.latest(false)), ((vec![], 0), (0, 0)));
        log.append(data(2, None, false));
        log.append(keeping(&data(4, None, false), &[false, true, false, false]));
        log.hide(3);
        log.append(note(10));
        let all = vec![3, 4, 6];
        assert_eq!((log.consume(0, 1 << 20), log.latest(false)), ((all.clone(), 7), (0, 7)));
        assert_eq!(log.consume(0, 1), (all.clone(), 7));
        log.append(data(1, None, false));
        log.append(keeping(&data(2, None, false), &[true, false]));
        assert_eq!(log.consume(0, 1 << 20), ([all, vec![13, 14]].concat(), 15));
        for from in 7..13 {
            assert_eq!(log.consume(from, 1), (vec![13, 14], 15), "{from}");
        }
        // Whoever asks for more than is shown is told that nothing is there yet.
        assert_eq!(log.consume(16, 1), (vec![], 16));
        assert_eq!(log.fetch(17, false, 1).error_code, 1);
        assert_eq!(list_offset(&mut log.node, log.client, "t", 0, 0).offset, 3);
        let at = |log: &mut Hiding, time| list_offset(&mut log.node, log.client, "t", 0, time);
        assert_eq!(at(&mut log, 1_700_000_000_001).offset, 4);
        assert_eq!(at(&mut log, 1_700_000_000_002).offset, -1);
    }
}

#[test]
fn a_parked_fetch_sleeps_on_while_what_is_hidden_comes() {
    for shards in SHARDS {
        let mut log = Hiding::with_shards(shards);
        log.append(data(1, None, false));
        let reader = log.node.connect(shards - 1);
        log.node.send(reader, 12, &fetch_request("t", &[(0, 1)], 60_000, 1));
        let woken =
            |log: &Hiding| log.node.marks.iter().filter(|it| **it == Mark::FetchWoken).count();
        let before = woken(&log);
        log.hide(5);
        log.append(note(1_000));
        assert!(log.node.take_frame(reader).is_none());
        assert_eq!(woken(&log), before);
        log.append(data(1, None, false));
        let (_, answer) = log.node.take::<FetchRequest>(reader, 12).expect("woken");
        let given = &answer.responses[0].partitions[0];
        assert_eq!(batches(given)[0].base_offset(), Offset(7));
        assert_eq!(given.high_watermark, 8);
        // Hidden bytes are no bytes that a fetch waits for.
        log.node.send(reader, 12, &fetch_request("t", &[(0, 7)], 60_000, 200));
        log.append(note(1_000));
        assert!(log.node.take_frame(reader).is_none(), "it waits for more than one batch");
        log.append(data(30, None, false));
        assert!(log.node.take_frame(reader).is_some());
    }
}

#[test]
fn a_fetch_finds_the_next_batch_however_much_is_hidden_before_it() {
    for kept in [0, 1 << 16] {
        let mut log = Hiding::in_files(ClientView::forgetful(Offset::ZERO, kept));
        for _ in 0..300 {
            log.append(note(1_000));
        }
        log.append(data(1, None, false));
        log.append(note(10));
        log.node.pass(Duration::from_secs(5));
        log.append(data(1, None, false));
        log.node.marks.clear();
        for max_bytes in [1, 1 << 20] {
            let first = log.fetch(0, false, max_bytes);
            assert_eq!(batches(&first)[0].base_offset(), Offset(300), "{kept}");
            assert_eq!(log.consume(0, max_bytes), (vec![300, 302], 303), "{kept}");
        }
        assert!(log.node.marks.contains(&Mark::FetchFromFile), "{kept}");
        let reads = log.node.marks.iter().filter(|it| **it == Mark::FetchFromFile).count();
        assert_eq!(reads > 20, kept == 0, "what is remembered is jumped over: {reads}");
    }
}

#[test]
fn a_partition_whose_answer_has_no_room_is_left_for_the_next_one() {
    let mut log = Hiding::with_shards(1);
    log.hide(2);
    log.append(data(9, None, false));
    create(&mut log.node, log.client, "other", 1);
    produce(&mut log.node, log.client, "other", 0, batch(&["x"], None));
    let mut request = fetch_request("other", &[(0, 0)], 0, 1);
    request.topics.extend(fetch_request("t", &[(0, 0)], 0, 1).topics);
    request.max_bytes = 80;
    let answer = log.node.call(log.client, 12, &request);
    let sizes: Vec<usize> =
        answer.responses.iter().map(|topic| batches(&topic.partitions[0]).len()).collect();
    assert_eq!(sizes, [1, 0]);
    assert_eq!(answer.responses[1].partitions[0].high_watermark, 11);
}

#[test]
fn nothing_is_said_of_ends_before_the_view_covers_the_log() {
    for shards in SHARDS {
        let mut log = Hiding::with_shards(shards);
        log.append(data(2, None, false));
        log.hide(1);
        log.node.lead(log.id, |_, partition, log, _| {
            partition.set_view(Some(ClientView::new(Offset::ZERO)), log);
        });
        assert_eq!(log.latest(false).0, 78);
        assert_eq!(log.delete(1).0, 5);
        let reader = log.node.connect(0);
        log.node.send(reader, 12, &fetch_request("t", &[(0, 1)], 60_000, 1));
        assert!(log.node.take_frame(reader).is_none(), "it waits");
        let given = log.fetch(1, false, 1 << 20);
        // Who stops at the end stops at none that may turn out to lie before what there is to read.
        assert_eq!((batches(&given).len(), given.high_watermark, given.error_code), (0, 3, 0));
        // What comes meanwhile is not taken for what comes next.
        log.append(data(1, None, false));
        log.load();
        let (_, answer) = log.node.take::<FetchRequest>(reader, 12).expect("woken");
        assert_eq!(batches(&answer.responses[0].partitions[0]).len(), 2);
        assert_eq!((log.latest(false), log.delete(1)), ((0, 4), (0, 1)));
    }
}

#[test]
fn nothing_goes_before_it_is_said_what_is_needed() {
    let mut log = Hiding::with_shards(1);
    log.append(data(2, None, false));
    let Hiding { node, id, stored, .. } = &mut log;
    node.lead(*id, |_, partition, log, _| {
        partition.set_view(Some(ClientView::new(Offset::ZERO)), log);
        for batch in stored.iter() {
            partition.note(batch);
        }
        partition.settle(log);
    });
    log.node.send(log.client, 2, &Hiding::delete_request(1));
    assert!(log.node.take_frame(log.client).is_none(), "it waits");
    let set = log.node.lead(log.id, |now, partition, log, fx| {
        let wish = partition.wish(log);
        partition.set_floor(now, None, log, fx);
        wish
    });
    assert_eq!(set, Some(Offset(1)));
    assert!(log.node.take_frame(log.client).is_some());
}

#[test]
fn the_start_of_a_log_never_passes_what_is_shown() {
    for shards in SHARDS {
        let mut log = Hiding::with_shards(shards);
        log.append(data(3, None, false));
        log.hide(4);
        let (_, position) = log.consume(0, 1 << 20);
        assert_eq!(log.delete(8).0, 1, "nothing is there");
        assert_eq!(log.delete(6), (0, 3), "as far as is shown");
        assert_eq!(log.delete(-1), (0, 3));
        assert_eq!(log.consume(position, 1), (vec![], 3));
        assert_eq!(log.latest(false), (0, 3));
        log.append(data(1, None, false));
        assert_eq!(log.consume(position, 1), (vec![7], 8));
        // A start among what is hidden is the end that is shown where nothing else is.
        assert_eq!(log.delete(5), (0, 5));
        assert_eq!((log.consume(5, 1), log.latest(false)), ((vec![7], 8), (0, 8)));
    }
}

#[test]
fn a_purge_waits_for_what_is_needed_and_says_what_it_wants() {
    for shards in SHARDS {
        let mut log = Hiding::with_shards(shards);
        for _ in 0..6 {
            log.append(data(1, None, false));
        }
        let floor = |log: &mut Hiding, floor: Option<i64>| {
            let floor = floor.map(Offset);
            let set =
                |now, partition: &mut crate::partition::Partition, log: &mut _, fx: &mut _| {
                    partition.set_floor(now, floor, log, fx);
                    partition.wish(log)
                };
            log.node.lead(log.id, set)
        };
        assert_eq!(floor(&mut log, Some(2)), None);
        assert_eq!(log.delete(2), (0, 2));
        log.node.send(log.client, 2, &Hiding::delete_request(5));
        assert!(log.node.take_frame(log.client).is_none(), "it waits");
        assert_eq!(floor(&mut log, Some(3)), Some(Offset(5)));
        assert!(log.node.take_frame(log.client).is_none(), "it waits");
        let start = log.node.lead(log.id, |_, _, store, _| store.log_start_offset(log.id));
        assert_eq!(start, Some(Offset(3)), "it goes as far as it may");
        assert_eq!(floor(&mut log, None), None);
        let (_, answer) = log.node.take::<DeleteRecordsRequest>(log.client, 2).expect("answered");
        let answer = &answer.topics[0].partitions[0];
        assert_eq!((answer.error_code, answer.low_watermark), (0, 5));
    }
}

#[test]
fn a_batch_whose_records_are_elsewhere_is_remembered_and_never_stored_again() {
    for kept in [[false, false, false], [false, true, false], [true, false, false]] {
        let mut log = Hiding::with_shards(1);
        log.append(data(1, None, false));
        let sent = data(3, Some(PRODUCER), false);
        assert_eq!(log.append(keeping(&sent, &kept)), Offset(1));
        let next = Producer { base_sequence: 3, ..PRODUCER };
        for _ in 0..2 {
            let again = produce(&mut log.node, log.client, "t", 0, sent.to_bytes());
            assert_eq!((again.error_code, again.base_offset), (0, 1), "{kept:?}");
            let gap = Producer { base_sequence: 4, ..PRODUCER };
            let gap = data(1, Some(gap), false).to_bytes();
            assert_eq!(produce(&mut log.node, log.client, "t", 0, gap).error_code, 45);
            log.node.restart();
            log.client = log.node.connect(0);
            log.load();
        }
        let following = data(1, Some(next), false).to_bytes();
        let following = produce(&mut log.node, log.client, "t", 0, following);
        assert_eq!((following.error_code, following.base_offset), (0, 4));
        let stored = 1 + kept.iter().filter(|it| **it).count() + 1;
        assert_eq!(log.consume(0, 1 << 20).0.len(), stored);
    }
}

#[test]
fn a_batch_without_records_opens_its_transaction_and_a_marker_ends_it() {
    for committed in [false, true] {
        let mut log = Hiding::with_shards(1);
        log.append(data(1, None, false));
        log.append(note(5));
        let void = keeping(&data(2, Some(PRODUCER), true), &[false, false]);
        assert_eq!(log.append(void), Offset(2));
        log.append(data(1, None, false));
        assert_eq!((log.latest(false), log.latest(true)), ((0, 5), (0, 1)));
        for offset in [1, 2] {
            let given = log.fetch(offset, true, 1 << 20);
            assert_eq!((batches(&given).len(), given.last_stable_offset), (0, offset));
        }
        let next = Producer { base_sequence: 2, ..PRODUCER };
        let partial = keeping(&data(2, Some(next), true), &[true, false]);
        assert_eq!(log.append(partial), Offset(5));
        for _ in 0..2 {
            assert_eq!((log.latest(false), log.latest(true)), ((0, 6), (0, 1)));
            log.node.restart();
            log.client = log.node.connect(0);
            log.load();
        }
        log.append(marker(70, 2, committed));
        log.hide(1);
        for _ in 0..2 {
            assert_eq!((log.latest(false), log.latest(true)), ((0, 8), (0, 8)));
            let given = log.fetch(1, true, 1 << 20);
            let mut served = batches(&given);
            // What is in files may come in an answer of its own.
            if served.len() == 2 {
                served.extend(batches(&log.fetch(6, true, 1 << 20)));
            }
            let bases: Vec<i64> = served.iter().map(|it| it.base_offset().0).collect();
            assert_eq!(bases, [4, 5, 7]);
            let aborted = given.aborted_transactions.expect("told");
            let aborted: Vec<i64> = aborted.iter().map(|it| it.first_offset).collect();
            assert_eq!(aborted, if committed { vec![] } else { vec![2] });
            log.node.restart();
            log.client = log.node.connect(0);
            log.load();
        }
    }
}

#[test]
fn one_who_takes_over_shows_what_the_leader_before_has_shown() {
    for shards in SHARDS {
        let mut log = Hiding::with_shards(shards);
        log.append(data(2, None, false));
        log.append(note(9));
        log.hide(3);
        log.append(keeping(&data(3, None, false), &[true, false, false]));
        let before = (log.consume(0, 1 << 20), log.latest(false));
        let owner = usize::from(log.node.shards[0].owner(log.id).0);
        log.node.shards[owner].partitions.remove(&log.id).expect("there");
        let now = log.node.now;
        log.node.shards[owner].take_up(now, log.id);
        log.load();
        assert_eq!((log.consume(0, 1 << 20), log.latest(false)), before);
        let note = log.append(note(1));
        assert_eq!(note, Offset(9));
        assert_eq!((log.consume(0, 1 << 20), log.latest(false)), before);
    }
}

#[test]
fn a_follower_is_given_the_log_as_it_is() {
    let mut log = Hiding::with_shards(1);
    log.append(data(1, None, false));
    log.append(note(9));
    log.hide(2);
    let item = crate::broker::post::FetchItem {
        index: 0,
        partition: log.id,
        offset: Offset(0),
        max_bytes: 1 << 20,
        at_least_one: true,
        current_leader_epoch: LeaderEpoch::UNKNOWN,
        last_fetched_epoch: LeaderEpoch::UNKNOWN,
        known_readable: 0,
        replica: Some(crate::partition::FollowerId {
            node: crate::ids::NodeId(2),
            broker_epoch: 1,
        }),
        log_start: Offset(0),
        read_committed: false,
        may_follow: false,
        near: None,
    };
    let read = log.node.lead(log.id, |_, partition, log, _| {
        assert_eq!(partition.epoch_end(partition.leader_epoch(), log).1, Offset(4));
        partition.read(&item, log)
    });
    let Ok(crate::partition::leader::Reading::Done(fetched)) = read else {
        panic!("it is in memory");
    };
    let stored: Vec<u8> = log.stored.iter().flat_map(|it| it.to_bytes().to_vec()).collect();
    assert_eq!(fetched.records.concat(), stored);
    assert_eq!(fetched.high_watermark, Offset(4));
}

#[test]
fn batches_of_which_everything_is_kept_are_served_as_they_were_sent() {
    for with_view in [false, true] {
        let mut log = Hiding::with_shards(1);
        if !with_view {
            log.node.lead(log.id, |_, partition, log, _| partition.set_view(None, log));
        }
        let sent = batch(&["a", "b"], Some(PRODUCER));
        let answer = log.node.call(log.client, 9, &produce_request(-1, "t", &[(0, sent.clone())]));
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
        let data = fetch(&mut log.node, log.client, "t", 0, 0);
        let given = data.records.expect("there").to_bytes();
        // But for the base offset and the leader epoch.
        assert_eq!((&given[8..12], &given[16..]), (&sent[8..12], &sent[16..]));
    }
}
