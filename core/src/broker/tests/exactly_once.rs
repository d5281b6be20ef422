//! Transactions over the wire, with the requests of old clients and of new ones (KIP-98, KIP-447, KIP-890).

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use crate::broker::testing::{Client, TestNode};
use crate::ids::{
    LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicPartition,
};
use crate::metadata::PartitionImage;
use crate::partition::InSync;
use crate::record::builder::{BatchBuilder, Producer};
use crate::record::compress::Codec;
use crate::wire::api::add_offsets_to_txn::AddOffsetsToTxnRequest;
use crate::wire::api::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use crate::wire::api::alter_configs::{AlterConfigsRequest, AlterConfigsResource, AlterableConfig};
use crate::wire::api::describe_producers::{DescribeProducersRequest, DescribeProducersTopic};
use crate::wire::api::describe_transactions::DescribeTransactionsRequest;
use crate::wire::api::end_txn::{EndTxnRequest, EndTxnResponse};
use crate::wire::api::fetch::PartitionData;
use crate::wire::api::find_coordinator::FindCoordinatorRequest;
use crate::wire::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::wire::api::list_transactions::ListTransactionsRequest;
use crate::wire::api::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use crate::wire::api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use crate::wire::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use crate::wire::api_key::RequestMessage;

use super::{SHARDS, create_with, fetch_request, list_offset, metadata};

const ID: &str = "etl";

/// A producer with a transactional id.
#[derive(Clone, Copy)]
struct Writer {
    client: Client,
    id: i64,
    epoch: i16,
    /// The next sequence of each partition.
    sequences: [i32; 2],
    /// The version of its Produce requests.
    version: i16,
}

impl Writer {
    fn init(node: &mut TestNode, client: Client, version: i16) -> Self {
        let answer = init(node, client, 60_000);
        assert_eq!(answer.error_code, 0, "{answer:?}");
        let (id, epoch) = (answer.producer_id, answer.producer_epoch);
        Self { client, id, epoch, sequences: [0; 2], version }
    }

    fn batch(self, partition: i32) -> ProduceRequest {
        let producer = Producer {
            id: ProducerId(self.id),
            epoch: ProducerEpoch(self.epoch),
            base_sequence: self.sequences[partition as usize],
        };
        let mut builder = BatchBuilder::new(Codec::None).producer(producer).transactional();
        builder.push(1_700_000_000_000, None, Some(b"v"), &[]);
        let records: Bytes = builder.build().to_bytes();
        ProduceRequest {
            transactional_id: Some(ID.into()),
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: "t".into(),
                partition_data: vec![PartitionProduceData {
                    index: partition,
                    records: Some(records),
                }],
                ..TopicProduceData::default()
            }],
        }
    }

    fn produce(&mut self, node: &mut TestNode, partition: i32) -> (i16, i64) {
        let answer = node.call(self.client, self.version, &self.batch(partition));
        let stored = &answer.responses[0].partition_responses[0];
        if stored.error_code == 0 {
            self.sequences[partition as usize] += 1;
        }
        (stored.error_code, stored.base_offset)
    }

    fn add(self, node: &mut TestNode, partitions: &[i32]) -> Vec<i16> {
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: ID.into(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                name: "t".into(),
                partitions: partitions.to_vec(),
            }],
            ..AddPartitionsToTxnRequest::default()
        };
        let answer = node.call(self.client, 3, &request);
        let results = &answer.results_by_topic_v3_and_below[0].results_by_partition;
        results.iter().map(|result| result.partition_error_code).collect()
    }

    fn commit(self) -> EndTxnRequest {
        EndTxnRequest {
            transactional_id: ID.into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            committed: true,
        }
    }

    fn end(&mut self, node: &mut TestNode, committed: bool) -> EndTxnResponse {
        let version = if self.version >= 12 { 5 } else { 3 };
        let request = EndTxnRequest { committed, ..self.commit() };
        let answer = node.call(self.client, version, &request);
        if answer.error_code == 0 && version >= 5 {
            (self.id, self.epoch) = (answer.producer_id, answer.producer_epoch);
            self.sequences = [0; 2];
        }
        answer
    }

    fn commit_offset(self, node: &mut TestNode, offset: i64) -> i16 {
        if self.version < 12 {
            self.add_offsets(node);
        }
        self.commit_offset_alone(node, offset)
    }

    fn add_offsets(self, node: &mut TestNode) {
        assert_eq!(self.try_add_offsets(node, 3), 0);
    }

    fn try_add_offsets(self, node: &mut TestNode, version: i16) -> i16 {
        let request = AddOffsetsToTxnRequest {
            transactional_id: ID.into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            group_id: "g".into(),
        };
        node.call(self.client, version, &request).error_code
    }

    fn commit_offset_alone(self, node: &mut TestNode, offset: i64) -> i16 {
        let version = if self.version >= 12 { 5 } else { 3 };
        let answer = node.call(self.client, version, &self.offsets(offset));
        answer.topics[0].partitions[0].error_code
    }

    /// Commits an offset late; returns whether that is refused, and the connection closed.
    fn is_turned_away(self, node: &mut TestNode, offset: i64) -> bool {
        let code = self.commit_offset_alone(node, offset);
        code == 16 && node.closed.contains(&self.client.connection)
    }

    fn offsets(self, offset: i64) -> TxnOffsetCommitRequest {
        let partition = TxnOffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            ..TxnOffsetCommitRequestPartition::default()
        };
        TxnOffsetCommitRequest {
            transactional_id: ID.into(),
            group_id: "g".into(),
            producer_id: self.id,
            producer_epoch: self.epoch,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: "t".into(),
                partitions: vec![partition],
            }],
            ..TxnOffsetCommitRequest::default()
        }
    }
}

fn init(node: &mut TestNode, client: Client, timeout_ms: i32) -> InitProducerIdResponse {
    let request = InitProducerIdRequest {
        transactional_id: Some(ID.into()),
        transaction_timeout_ms: timeout_ms,
        ..InitProducerIdRequest::default()
    };
    for _ in 0..100 {
        let answer = node.call(client, 4, &request);
        // It loads, or ends what was open.
        if !matches!(answer.error_code, 14 | 51) {
            return answer;
        }
        node.pass(Duration::from_millis(100));
    }
    panic!("no coordinator gives an id");
}

fn started(shards: u16) -> (TestNode, Client) {
    started_with(shards, &[])
}

/// A node whose topic has these settings.
fn started_with(shards: u16, configs: &[(&str, &str)]) -> (TestNode, Client) {
    let mut node = TestNode::started(shards);
    let client = node.connect(shards - 1);
    let created = create_with(&mut node, client, "t", 2, configs);
    assert_eq!(created.topics[0].error_code, 0, "{created:?}");
    for key_type in [0, 1] {
        let coordinator_keys = vec![ID.into()];
        let request = FindCoordinatorRequest { key_type, coordinator_keys, ..Default::default() };
        assert_eq!(node.call(client, 6, &request).coordinators[0].error_code, 0);
    }
    (node, client)
}

fn fetched(node: &mut TestNode, client: Client, partition: i32, committed: bool) -> PartitionData {
    let mut request = fetch_request("t", &[(partition, 0)], 0, 1);
    request.isolation_level = i8::from(committed);
    node.call(client, 12, &request).responses.remove(0).partitions.remove(0)
}

fn has_records(data: &PartitionData) -> bool {
    data.records.as_ref().is_some_and(|records| !records.to_bytes().is_empty())
}

fn committed_offset(node: &mut TestNode, client: Client, require_stable: bool) -> (i16, i64) {
    let topics = vec![OffsetFetchRequestTopics {
        name: "t".into(),
        partition_indexes: vec![0],
        ..OffsetFetchRequestTopics::default()
    }];
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: Some(topics),
            ..OffsetFetchRequestGroup::default()
        }],
        require_stable,
        ..OffsetFetchRequest::default()
    };
    let answer = node.call(client, 8, &request);
    let partition = &answer.groups[0].topics[0].partitions[0];
    (partition.error_code, partition.committed_offset)
}

#[test]
fn records_and_offsets_of_a_transaction_appear_together_when_it_is_committed() {
    for shards in SHARDS {
        for version in [3, 11, 12] {
            let (mut node, client) = started(shards);
            let mut writer = Writer::init(&mut node, client, version);
            for round in 0..3 {
                if version < 12 {
                    assert_eq!(writer.add(&mut node, &[0, 1]), [0, 0]);
                }
                // A transaction has a marker behind its record in each partition.
                let at = 2 * round;
                assert_eq!(writer.produce(&mut node, 0), (0, at), "v{version} in round {round}");
                assert_eq!(writer.produce(&mut node, 1), (0, at));
                assert_eq!(writer.commit_offset(&mut node, round + 10), 0);
                for partition in [0, 1] {
                    let data = fetched(&mut node, client, partition, true);
                    assert_eq!((data.last_stable_offset, data.high_watermark), (at, at + 1));
                }
                assert_eq!(committed_offset(&mut node, client, true).0, 88, "it is open");
                let before = if round == 0 { -1 } else { round + 9 };
                assert_eq!(committed_offset(&mut node, client, false), (0, before));

                assert_eq!(writer.end(&mut node, true).error_code, 0);

                for partition in [0, 1] {
                    let data = fetched(&mut node, client, partition, true);
                    assert_eq!((data.last_stable_offset, data.high_watermark), (at + 2, at + 2));
                    assert_eq!(data.aborted_transactions.as_deref().unwrap_or(&[]).len(), 0);
                    assert!(has_records(&data));
                }
                assert_eq!(committed_offset(&mut node, client, true), (0, round + 10));
            }
        }
    }
}

#[test]
fn what_is_aborted_is_named_to_readers_of_committed_records_and_its_offsets_are_dropped() {
    for shards in SHARDS {
        for version in [11, 12] {
            let (mut node, client) = started(shards);
            let mut writer = Writer::init(&mut node, client, version);
            if version < 12 {
                assert_eq!(writer.add(&mut node, &[0]), [0]);
            }
            assert_eq!(writer.produce(&mut node, 0), (0, 0));
            assert_eq!(writer.commit_offset(&mut node, 10), 0);
            let id = writer.id;

            assert_eq!(writer.end(&mut node, false).error_code, 0);

            let data = fetched(&mut node, client, 0, true);
            assert_eq!(data.last_stable_offset, 2);
            let aborted = data.aborted_transactions.expect("it was asked for");
            let aborted: Vec<_> =
                aborted.iter().map(|it| (it.producer_id, it.first_offset)).collect();
            assert_eq!(aborted, [(id, 0)]);
            assert_eq!(committed_offset(&mut node, client, true), (0, -1));
        }
    }
}

#[test]
fn a_batch_without_a_transaction_that_is_under_way_is_refused() {
    for shards in SHARDS {
        let (mut node, client) = started(shards);
        let mut writer = Writer::init(&mut node, client, 11);
        assert_eq!(writer.produce(&mut node, 0).0, 120, "the transaction can only be aborted");
        writer.version = 10;
        assert_eq!(writer.produce(&mut node, 0).0, 48, "which clients before that do not know");
        assert_eq!(writer.commit_offset_alone(&mut node, 3), 48);
        assert_eq!(writer.add(&mut node, &[0, 9]), [55, 3]);
        assert_eq!(writer.add(&mut node, &[0]), [0]);
        assert_eq!(writer.produce(&mut node, 0).0, 0);
    }
}

#[test]
fn offsets_that_an_old_client_committed_on_a_connection_that_it_has_left_are_turned_away() {
    for shards in SHARDS {
        let (mut node, client) = started(shards);
        let mut writer = Writer::init(&mut node, client, 11);
        let left = writer;
        writer.client = node.connect(0);
        assert_eq!(writer.commit_offset(&mut node, 10), 0);
        assert_eq!(writer.end(&mut node, true).error_code, 0);
        assert_eq!(writer.commit_offset(&mut node, 20), 0);
        assert!(left.is_turned_away(&mut node, 10), "of the transaction before");
        assert_eq!(writer.end(&mut node, true).error_code, 0);
        assert_eq!(committed_offset(&mut node, writer.client, true), (0, 20));
    }
}

#[test]
fn a_group_that_an_old_client_added_on_a_connection_that_it_has_left_begins_no_transaction() {
    for (shards, version) in [(1, 3), (1, 4), (3, 3), (3, 4)] {
        let (mut node, client) = started(shards);
        let mut writer = Writer::init(&mut node, client, 11);
        let left = writer;
        writer.client = node.connect(0);
        assert_eq!(writer.try_add_offsets(&mut node, version), 0);
        assert_eq!(writer.end(&mut node, true).error_code, 0);

        assert_eq!(left.try_add_offsets(&mut node, version), 16, "version {version}");

        assert!(node.closed.contains(&left.client.connection));
        // One that was begun would be aborted now, and the producer fenced.
        node.pass(Duration::from_secs(61));
        assert_eq!(writer.try_add_offsets(&mut node, version), 0);
    }
}

#[test]
fn offsets_of_an_old_clients_transaction_that_was_aborted_are_not_taken_into_the_next_one() {
    for shards in SHARDS {
        let (mut node, client) = started(shards);
        let mut writer = Writer::init(&mut node, client, 11);
        writer.add_offsets(&mut node);
        assert_eq!(writer.end(&mut node, false).error_code, 0);
        node.pass(Duration::from_millis(1));
        let left = writer;
        writer.client = node.connect(0);
        writer.add_offsets(&mut node);
        assert!(left.is_turned_away(&mut node, 10), "they come late");
        assert_eq!(writer.end(&mut node, true).error_code, 0);
        assert_eq!(committed_offset(&mut node, writer.client, true), (0, -1));
        writer.add_offsets(&mut node);
        assert_eq!(writer.commit_offset_alone(&mut node, 20), 0);
    }
}

#[test]
fn a_producer_is_fenced_by_the_next_one_and_what_it_left_open_is_aborted() {
    for shards in SHARDS {
        for version in [11, 12] {
            let (mut node, client) = started(shards);
            let mut old = Writer::init(&mut node, client, version);
            if version < 12 {
                assert_eq!(old.add(&mut node, &[0]), [0]);
            }
            assert_eq!(old.produce(&mut node, 0).0, 0);

            let mut new = Writer::init(&mut node, client, version);

            assert!(new.epoch > old.epoch && new.id == old.id);
            let data = fetched(&mut node, client, 0, true);
            assert_eq!((data.last_stable_offset, data.high_watermark), (2, 2));
            assert_eq!(old.produce(&mut node, 0).0, 47);
            assert_eq!(old.end(&mut node, true).error_code, 90);
            assert_eq!(old.commit_offset_alone(&mut node, 3), 47);
            if version < 12 {
                assert_eq!(new.add(&mut node, &[0]), [0]);
            }
            assert_eq!(new.produce(&mut node, 0), (0, 2));
            assert_eq!(new.end(&mut node, true).error_code, 0);
        }
    }
}

#[test]
fn a_transaction_that_a_kill_left_open_ends_at_its_timeout() {
    for shards in SHARDS {
        let (mut node, client) = started(shards);
        let answer = init(&mut node, client, 5_000);
        let (id, epoch) = (answer.producer_id, answer.producer_epoch);
        let mut writer = Writer { client, id, epoch, sequences: [0; 2], version: 12 };
        assert_eq!(writer.produce(&mut node, 0).0, 0);
        assert_eq!(writer.commit_offset(&mut node, 10), 0);

        node.restart();

        let client = node.connect(0);
        let data = fetched(&mut node, client, 0, true);
        assert_eq!((data.last_stable_offset, data.high_watermark), (0, 1), "it is open");
        node.pass(Duration::from_secs(7));
        let data = fetched(&mut node, client, 0, true);
        assert_eq!((data.last_stable_offset, data.high_watermark), (2, 2));
        assert_eq!(committed_offset(&mut node, client, true), (0, -1));
    }
}

#[test]
fn operators_see_who_writes_and_what_is_open() {
    for shards in SHARDS {
        let (mut node, client) = started(shards);
        let mut writer = Writer::init(&mut node, client, 12);
        assert_eq!(writer.produce(&mut node, 1).0, 0);
        let request = ListTransactionsRequest::default();
        let listed = node.call(client, 1, &request);
        let listed: Vec<_> = listed
            .transaction_states
            .iter()
            .map(|it| (it.transactional_id.as_str(), it.producer_id, it.transaction_state.as_str()))
            .collect();
        assert_eq!(listed, [(ID, writer.id, "Ongoing")]);
        for (pattern, code, count) in [(".*", 0, 1), ("no", 0, 0), ("(", 128, 0)] {
            let transactional_id_pattern = Some(pattern.into());
            let request =
                ListTransactionsRequest { transactional_id_pattern, ..Default::default() };
            let listed = node.call(client, 2, &request);
            assert_eq!((listed.error_code, listed.transaction_states.len()), (code, count));
        }
        let request =
            DescribeTransactionsRequest { transactional_ids: vec![ID.into(), "no".into()] };
        let described = node.call(client, 0, &request).transaction_states;
        assert_eq!((described[0].error_code, described[0].producer_id), (0, writer.id));
        assert_eq!(described[0].topics[0].partitions, [1]);
        assert_eq!(described[1].error_code, 105);
        let topic = DescribeProducersTopic { name: "t".into(), partition_indexes: vec![0, 1] };
        let request = DescribeProducersRequest { topics: vec![topic] };
        let producers = node.call(client, 0, &request).topics.remove(0).partitions;
        assert_eq!(producers[0].active_producers.len(), 0);
        let open = &producers[1].active_producers[0];
        assert_eq!((open.producer_id, open.current_txn_start_offset), (writer.id, 0));
    }
}

#[test]
fn the_first_id_of_a_node_is_answered_on_disk_and_in_memory_without_anything_else_to_do() {
    for shards in SHARDS {
        for memory_only in [false, true] {
            let mut node = TestNode::with(shards, |config| config.memory_only = memory_only);
            let client = node.connect(0);
            let coordinator_keys = vec![ID.into()];
            let request =
                FindCoordinatorRequest { key_type: 1, coordinator_keys, ..Default::default() };
            assert_eq!(node.call(client, 6, &request).coordinators[0].error_code, 0);
            assert_eq!(init(&mut node, client, 60_000).error_code, 0, "{shards} {memory_only}");
        }
    }
}

#[test]
fn a_batch_of_a_transaction_never_passes_one_that_its_owner_was_not_ready_for() {
    for shards in SHARDS {
        let (mut node, client) = started(shards);
        let mut writer = Writer::init(&mut node, client, 12);
        let topic_id = metadata(&mut node, client, "t", false).topic_id;
        let id = TopicPartition { topic_id, partition: PartitionIndex(0) };
        let owner = usize::from(node.shards[0].owner(id).0);
        // As if the metadata had not come there yet.
        node.shards[owner].partitions.remove(&id).expect("there");
        assert_eq!(writer.produce(&mut node, 0).0, 6);
        let now = node.now;
        node.shards[owner].take_up(now, id);
        writer.sequences[0] = 1;
        assert_eq!(writer.produce(&mut node, 0).0, 45, "the one before it is on its way again");
        writer.sequences[0] = 0;
        assert_eq!(writer.produce(&mut node, 0), (0, 0));
        assert_eq!(writer.produce(&mut node, 0), (0, 1));
    }
}

#[test]
fn what_a_coordinator_was_asked_for_an_earlier_leader_epoch_says_nothing_of_what_waits_now() {
    // On one shard the coordinator answers at once.
    for shards in [2, 3] {
        let (mut node, client) = started(shards);
        let writer = Writer::init(&mut node, client, 12);
        let topic_id = metadata(&mut node, client, "t", false).topic_id;
        let id = TopicPartition { topic_id, partition: PartitionIndex(0) };
        let owner = usize::from(node.shards[0].owner(id).0);
        node.hold_disk = true;
        let other = node.connect(0);
        let earlier = node.send(client, 12, &writer.batch(0));
        let state = PartitionImage {
            replicas: vec![NodeId(1)],
            isr: vec![NodeId(1)],
            leader: NodeId(1),
            leader_epoch: LeaderEpoch(1),
            partition_epoch: 0,
            adding: Vec::new(),
            removing: Vec::new(),
        };
        let ends = (Offset(0), Offset(0));
        let in_sync = InSync::new(node.now.mono, NodeId(1), &state, BTreeSet::new(), ends);
        let partition = node.shards[owner].partitions.get_mut(&id).expect("there");
        partition.raise_epoch(LeaderEpoch(1), in_sync);

        let later = node.send(other, 12, &writer.batch(0));

        let (answered, refused) = node.take::<ProduceRequest>(client, 12).expect("answered");
        assert_eq!(answered, earlier);
        assert_eq!(refused.responses[0].partition_responses[0].error_code, 6);
        assert!(node.take_frame(other).is_none(), "it waits");
        node.release();
        node.pass(Duration::from_secs(1));
        let (answered, stored) = node.take::<ProduceRequest>(other, 12).expect("answered");
        assert_eq!(answered, later);
        let stored = &stored.responses[0].partition_responses[0];
        assert_eq!((stored.error_code, stored.base_offset), (0, 0));
    }
}

#[test]
fn retention_takes_nothing_of_a_transaction_that_is_open() {
    for shards in SHARDS {
        let (mut node, client) = started(shards);
        let resource = AlterConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configs: vec![AlterableConfig {
                name: "retention.ms".into(),
                value: Some("1000".into()),
            }],
        };
        let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
        assert_eq!(node.call(client, 2, &request).responses[0].error_code, 0);
        let answer = init(&mut node, client, 900_000);
        let (id, epoch) = (answer.producer_id, answer.producer_epoch);
        let mut writer = Writer { client, id, epoch, sequences: [0; 2], version: 12 };
        assert_eq!(writer.produce(&mut node, 0), (0, 0));

        node.pass(Duration::from_secs(400));
        assert_eq!(list_offset(&mut node, client, "t", 0, -2).offset, 0, "it is open");
        assert_eq!(writer.end(&mut node, true).error_code, 0);
        node.pass(Duration::from_secs(400));

        let client = node.connect(0);
        assert_eq!(list_offset(&mut node, client, "t", 0, -2).offset, 2);
    }
}

/// Asks for something while the disk is held, and returns the answer and how often the disk had to let through
/// what it held.
fn waited<M: RequestMessage>(
    node: &mut TestNode,
    client: Client,
    version: i16,
    request: &M,
) -> (usize, M::Response) {
    node.pass(Duration::from_secs(2));
    node.hold_disk = true;
    node.send(client, version, request);
    for flushes in 0..10 {
        if let Some((_, answer)) = node.take::<M>(client, version) {
            node.release();
            return (flushes, answer);
        }
        node.release_held();
    }
    panic!("{} is not answered", M::NAME);
}

/// Does a transaction in a partition, and returns how many flushes the records and their end waited for.
fn flushes_of_a_transaction(node: &mut TestNode, writer: &mut Writer) -> (usize, usize) {
    let (records, answer) = waited(node, writer.client, 12, &writer.batch(0));
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "{answer:?}");
    let (end, answer) = waited(node, writer.client, 5, &writer.commit());
    assert_eq!(answer.error_code, 0);
    (writer.id, writer.epoch) = (answer.producer_id, answer.producer_epoch);
    (records, end)
}

#[test]
fn on_one_shard_of_a_lone_node_a_transaction_waits_for_two_flushes() {
    let (mut node, client) = started(1);
    let mut writer = Writer::init(&mut node, client, 12);
    for round in 1..=3 {
        assert_eq!(flushes_of_a_transaction(&mut node, &mut writer), (1, 1), "in round {round}");
        let data = fetched(&mut node, client, 0, true);
        assert_eq!((data.last_stable_offset, data.high_watermark), (2 * round, 2 * round));
    }
}

#[test]
fn offsets_of_a_transaction_and_their_end_wait_for_one_flush_each() {
    let (mut node, client) = started(1);
    let writer = Writer::init(&mut node, client, 12);
    let (flushes, answer) = waited(&mut node, client, 5, &writer.offsets(7));
    assert_eq!((flushes, answer.topics[0].partitions[0].error_code), (1, 0));
    assert_eq!(committed_offset(&mut node, client, true).0, 88, "it is open");
    let (flushes, answer) = waited(&mut node, client, 5, &writer.commit());
    assert_eq!((flushes, answer.error_code), (1, 0));
    assert_eq!(committed_offset(&mut node, client, true), (0, 7));
}

#[test]
fn where_logs_have_journals_of_their_own_each_step_of_a_transaction_waits_for_the_one_before() {
    for shards in [2, 3] {
        let (mut node, client) = started(shards);
        let mut writer = Writer::init(&mut node, client, 12);
        assert_eq!(flushes_of_a_transaction(&mut node, &mut writer), (2, 2));
    }
}

#[test]
fn a_topic_that_answers_before_a_flush_gets_no_marker_before_the_decision_is_durable() {
    for (key, value, records, end) in
        [("mainspring.storage", "memory", 1, 1), ("mainspring.flush", "lazy", 2, 2)]
    {
        let (mut node, client) = started_with(1, &[(key, value)]);
        let mut writer = Writer::init(&mut node, client, 12);
        // The first one reserves the offsets of a log in memory too.
        flushes_of_a_transaction(&mut node, &mut writer);
        let flushes = flushes_of_a_transaction(&mut node, &mut writer);
        assert_eq!(flushes, (records, end), "{value}");

        assert_eq!(writer.produce(&mut node, 0).0, 0);
        let before = list_offset(&mut node, client, "t", 0, -1).offset;
        node.hold_disk = true;
        node.send(client, 5, &writer.commit());
        let other = node.connect(0);
        let data = fetched(&mut node, other, 0, true);
        assert_eq!((data.last_stable_offset, data.high_watermark), (before - 1, before), "{value}");
        node.release();
        let data = fetched(&mut node, other, 0, true);
        assert_eq!(data.last_stable_offset, before + 1, "{value}");
    }
}

#[test]
fn nobody_sees_the_end_of_a_transaction_before_its_flush() {
    for shards in SHARDS {
        let (mut node, client) = started(shards);
        let mut writer = Writer::init(&mut node, client, 12);
        assert_eq!(writer.produce(&mut node, 0), (0, 0));
        node.hold_disk = true;
        node.send(client, 5, &writer.commit());
        let other = node.connect(0);
        let data = fetched(&mut node, other, 0, true);
        assert!(!has_records(&data));
        assert_eq!((data.last_stable_offset, data.high_watermark), (0, 1));
        assert!(node.take_frame(client).is_none(), "it waits");
        node.release();
        assert!(has_records(&fetched(&mut node, other, 0, true)));
    }
}

#[test]
fn wherever_the_power_goes_no_marker_stands_without_its_decision() {
    for committed in [true, false] {
        let (mut node, client) = started(1);
        let mut writer = Writer::init(&mut node, client, 12);
        assert_eq!(writer.produce(&mut node, 0), (0, 0));
        node.pass(Duration::from_secs(2));
        let before = node.disks[0].clone();
        node.hold_disk = true;
        node.send(client, 5, &EndTxnRequest { committed, ..writer.commit() });
        let after = node.disks[0].clone();
        let changed = |(name, bytes): (&String, &Vec<u8>)| {
            let old = before.files.get(name).filter(|old| *old != bytes)?;
            let first = bytes.iter().zip(old).position(|(new, old)| new != old)?;
            let last = bytes.iter().zip(old).rposition(|(new, old)| new != old)?;
            Some((name.clone(), first..last + 1))
        };
        let changed: Vec<_> = after.files.iter().filter_map(changed).collect();
        let [(name, range)] = &changed[..] else { panic!("one block is written: {changed:?}") };

        let mut ends = BTreeSet::new();
        for cut in range.clone().step_by(37).chain([range.end]) {
            let mut disk = before.clone();
            let file = disk.files.get_mut(name).expect("it was there");
            file[..cut].copy_from_slice(&after.files[name][..cut]);
            node.disks[0] = disk;
            node.restart();
            let client = node.connect(0);
            let request = DescribeTransactionsRequest { transactional_ids: vec![ID.into()] };
            let status = loop {
                let answer = node.call(client, 0, &request).transaction_states.remove(0);
                if answer.error_code == 0 {
                    break answer.transaction_state;
                }
                node.pass(Duration::from_millis(50));
            };
            node.pass(Duration::from_secs(1));
            let end = list_offset(&mut node, client, "t", 0, -1).offset;
            assert_eq!(status.as_str() == "Ongoing", end == 1, "cut at {cut}: {status}");
            ends.insert(end);
        }
        // Where the decision is there, so is the marker, and it is written again.
        assert_eq!(ends, BTreeSet::from([1, 3]), "all of the block, or nothing");
    }
}
