//! Logs with records that wait are kept short: what still counts is written again, and no more than that is worth.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::broker::testing::{Client, TestNode, batch};
use crate::config::NodeConfig;
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, TopicPartition};
use crate::partition::leader::Partition;
use crate::record::batch::Batch;
use crate::wire::api::alter_configs::{AlterConfigsRequest, AlterConfigsResource, AlterableConfig};
use crate::wire::api::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};

use super::delayed::{SECOND, accepted, list, read_from, send};
use super::{create_with, list_offset};

const FEATURES: (&str, &str) = ("mainspring.features", "schedule");
const HOUR: &[(&str, &str)] = &[("mainspring-delay-ms", "3600000")];

struct Kept {
    node: TestNode,
    client: Client,
    id: TopicPartition,
}

impl Kept {
    fn new(configs: &[(&str, &str)], configure: impl FnOnce(&mut NodeConfig)) -> Self {
        let mut node = TestNode::with(1, configure);
        let client = node.connect(0);
        let created = create_with(&mut node, client, "t", 1, configs);
        assert_eq!(created.topics[0].error_code, 0, "{created:?}");
        let topic_id = created.topics[0].topic_id;
        let id = TopicPartition { topic_id, partition: PartitionIndex(0) };
        Self { node, client, id }
    }

    fn send(&mut self, count: usize, headers: &[(&str, &str)]) {
        let value = "v".repeat(1_000);
        for _ in 0..count {
            accepted(&mut self.node, self.client, &[(&value, headers)]);
        }
    }

    fn alter(&mut self, configs: &[(&str, &str)]) {
        let config = |(name, value): &(&str, &str)| AlterableConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        };
        let resource = AlterConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configs: configs.iter().map(config).collect(),
        };
        let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
        let answer = self.node.call(self.client, 2, &request);
        assert_eq!(answer.responses[0].error_code, 0, "{answer:?}");
    }

    /// Lets time pass. Clients that were idle meanwhile come again.
    fn pass(&mut self, time: Duration) {
        self.node.pass(time);
        self.client = self.node.connect(0);
    }

    fn bounds(&self) -> (Offset, Offset, u64) {
        let log = &self.node.shards[0].log;
        let start = log.log_start_offset(self.id).expect("it is there");
        let end = log.log_end_offset(self.id).expect("it is there");
        (start, end, log.size(self.id).expect("it is there"))
    }

    fn waits(&mut self) -> usize {
        list(&mut self.node, self.client, 0).len()
    }
}

#[test]
fn a_log_in_memory_keeps_what_waits_and_lets_go_of_the_rest() {
    for memory_only in [false, true] {
        let configs =
            [FEATURES, ("mainspring.storage", "memory"), ("mainspring.memory.max.bytes", "100000")];
        let mut kept = Kept::new(&configs, |config| config.memory_only = memory_only);
        kept.send(30, HOUR);
        for _ in 0..10 {
            kept.send(60, &[]);
            kept.pass(SECOND);
            assert!(kept.bounds().2 <= 110_000, "{:?}", kept.bounds());
        }
        let (start, end, _) = kept.bounds();
        assert!(start > Offset(400) && end < Offset(1_000), "{start:?} {end:?}");
        kept.pass(SECOND * 3_600);
        let shown = list_offset(&mut kept.node, kept.client, "t", 0, -2).offset;
        let came = read_from(&mut kept.node, kept.client, shown);
        let came = came.iter().filter(|it| it.header("mainspring-ticket").is_some()).count();
        assert_eq!(came, 30);
    }
}

#[test]
fn a_new_leader_of_a_log_in_memory_lets_nothing_go_before_it_has_read_what_waits() {
    let configs =
        [FEATURES, ("mainspring.storage", "memory"), ("mainspring.memory.max.bytes", "100000")];
    let mut kept = Kept::new(&configs, |_| {});
    kept.send(1, HOUR);
    kept.send(60, &[]);
    let id = kept.id;

    kept.node.lead(id, |now, partition, log, fx| {
        let epoch = LeaderEpoch(partition.leader_epoch().0 + 1);
        let (config, in_sync) = (Arc::clone(partition.config()), partition.in_sync().clone());
        let known = log.log_end_offset(id);
        *partition = Partition::new(id, config, epoch, in_sync, known, log);
        partition.settle(log);
        for _ in 0..60 {
            let filler =
                Batch::split_from(&mut batch(&["v".repeat(1_000).as_str()], None)).expect("whole");
            log.append(now, id, epoch, filler, fx).expect("there is room");
        }
        assert_eq!(log.log_start_offset(id), Some(Offset::ZERO));
    });
    let now = kept.node.now;
    kept.node.shards[0].load_schedule(now, id);
    kept.node.wake_for(1);
    kept.pass(SECOND);

    assert_eq!(kept.waits(), 1);
}

#[test]
fn no_more_may_wait_in_memory_than_half_of_what_the_log_may_hold() {
    let configs =
        [FEATURES, ("mainspring.storage", "memory"), ("mainspring.memory.max.bytes", "100000")];
    let mut kept = Kept::new(&configs, |_| {});
    kept.send(40, HOUR);
    let value = "v".repeat(20_000);
    let refused = send(&mut kept.node, kept.client, &[(&value, HOUR)]);
    assert_eq!(refused.error_code, 44);
    let why = refused.error_message.expect("told");
    assert!(why.as_str().contains("mainspring.memory.max.bytes"), "{why:?}");
    accepted(&mut kept.node, kept.client, &[(&value, &[])]);
    assert_eq!(kept.waits(), 40);
}

#[test]
fn a_log_in_memory_that_is_smaller_than_what_waits_is_not_written_again_for_ever() {
    let configs =
        [FEATURES, ("mainspring.storage", "memory"), ("mainspring.memory.max.bytes", "200000")];
    let mut kept = Kept::new(&configs, |_| {});
    kept.send(5, &[]);
    kept.send(60, HOUR);
    let small =
        [FEATURES, ("mainspring.storage", "memory"), ("mainspring.memory.max.bytes", "65536")];
    kept.alter(&small);
    kept.send(1, &[]);
    let (_, before, _) = kept.bounds();
    kept.pass(SECOND * 60);
    kept.send(1, &[]);
    let (_, after, size) = kept.bounds();
    assert!(after.0 - before.0 < 30, "{before:?} {after:?}");
    assert!(size < 200_000);
    assert_eq!(kept.waits(), 60);
}

#[test]
fn a_log_whose_limit_is_below_what_waits_is_not_written_again_for_ever() {
    let configs = [FEATURES, ("retention.bytes", "20000"), ("segment.bytes", "1048576")];
    let small = |config: &mut NodeConfig| config.log.journal_max_bytes = 64 << 20;
    let mut kept = Kept::new(&configs, small);
    let large = "v".repeat(100_000);
    for _ in 0..30 {
        accepted(&mut kept.node, kept.client, &[(&large, HOUR)]);
    }
    for _ in 0..3 {
        accepted(&mut kept.node, kept.client, &[(&large, &[])]);
    }
    let (_, before, size) = kept.bounds();
    assert!(size > 3_000_000);
    kept.pass(SECOND * 3_000);
    let (_, after, size) = kept.bounds();
    assert_eq!(before, after, "nothing is written again");
    assert!(size < 3_500_000);
    kept.pass(SECOND * 1_200);
    assert_eq!(kept.waits(), 0);
}

#[test]
fn by_size_a_log_gets_rid_of_what_does_not_wait() {
    let configs = [FEATURES, ("retention.bytes", "1500000"), ("segment.bytes", "1048576")];
    let room = |config: &mut NodeConfig| config.log.journal_max_bytes = 64 << 20;
    let mut kept = Kept::new(&configs, room);
    let large = "v".repeat(100_000);
    for at in 0..60 {
        let headers: &[(&str, &str)] = if at % 20 == 0 { HOUR } else { &[] };
        accepted(&mut kept.node, kept.client, &[(&large, headers)]);
    }
    kept.pass(SECOND * 1_200);
    let (start, _, size) = kept.bounds();
    assert!(start > Offset(30) && size < 3_500_000, "{:?}", kept.bounds());
    assert_eq!(kept.waits(), 3);
}

#[test]
fn what_waits_is_not_written_again_where_nothing_else_is_there_to_go() {
    let configs = [FEATURES, ("retention.ms", "1000")];
    let mut kept = Kept::new(&configs, |_| {});
    kept.send(10, &[("mainspring-delay-ms", "86400000")]);
    kept.pass(SECOND * 60);
    let (_, before, _) = kept.bounds();
    kept.pass(SECOND * 3_600);
    assert_eq!(kept.bounds().1, before);
    assert_eq!(kept.waits(), 10);
}

#[test]
fn where_nothing_else_happens_retention_and_deletions_get_what_they_wait_for() {
    let configs = [FEATURES, ("retention.ms", "600000"), ("segment.ms", "300000")];
    let mut kept = Kept::new(&configs, |_| {});
    kept.send(3, HOUR);
    kept.send(4, &[]);
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 8 }];
    let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions }];
    let request = DeleteRecordsRequest { topics, timeout_ms: 10_000 };
    let found = kept.node.call(kept.client, 2, &request).topics.remove(0).partitions.remove(0);
    assert_eq!((found.error_code, found.low_watermark), (0, 8));
    kept.pass(SECOND * 400);
    kept.send(1, &[]);
    kept.pass(SECOND * 1_800);
    let start = list_offset(&mut kept.node, kept.client, "t", 0, -2).offset;
    let end = list_offset(&mut kept.node, kept.client, "t", 0, -1).offset;
    assert_eq!(start, end, "all that is shown is past its time");
    assert_eq!(kept.waits(), 3);
    kept.pass(Duration::from_secs(1_801));
    let start = list_offset(&mut kept.node, kept.client, "t", 0, -2).offset;
    let came = read_from(&mut kept.node, kept.client, start);
    assert_eq!(came.len(), 3);
    let values: Vec<Bytes> = came.into_iter().map(|it| it.value).collect();
    assert_eq!(values[0].len(), 1_000);
}
