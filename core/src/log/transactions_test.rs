//! What logs know of transactions, over starts, damage, retention and cuts.

use super::truncation::Model;
use super::*;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::log::segment::segment_file;
use crate::log::txn_index;
use crate::record::marker::TxnMarker;

/// A log of many segments in which transactions overlap, with its model.
fn node_with_transactions() -> (Node, TopicPartition, Model) {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let mut model = Model::with_transactions(true);
    for _ in 0..120 {
        node.take(log, &mut model, 1, 700);
    }
    node.pass(2_000);
    (node, log, model)
}

impl Node {
    fn close(&mut self) {
        self.store.stop(self.now, &mut self.fx);
        self.settle();
    }

    /// Returns the segments that have a file of aborted transactions, which say what the log knows.
    fn txn_indexes(&self, log: TopicPartition) -> Vec<Offset> {
        let partition = &self.store.logs[&log];
        let mut found = Vec::new();
        for segment in &partition.segments {
            let extent = segment.extent;
            let aborted = partition.producers.aborted_at(extent.base, extent.end);
            let file = segment_file(&partition.folder, extent.base, "txnindex");
            let file = self.disk.files.get(file.as_str());
            assert_eq!(file.is_some(), !aborted.is_empty(), "{}", extent.base);
            if let Some(file) = file {
                assert_eq!(*file, txn_index::encode(&aborted));
                found.push(extent.base);
            }
        }
        let all = self.disk.files.keys().filter(|name| name.ends_with(".txnindex")).count();
        assert_eq!(all, found.len(), "none is left of what has gone");
        assert!(!self.disk.files.keys().any(|name| name.ends_with(".txnindex.tmp")));
        found
    }

    fn damage(&mut self, endings: &[&str]) {
        let mut damaged = 0;
        for (name, content) in &mut self.disk.files {
            if endings.iter().any(|ending| name.ends_with(ending)) {
                content.fill(0);
                damaged += 1;
            }
        }
        assert_eq!(damaged, endings.len(), "a checkpoint was made");
    }
}

#[test]
fn a_segment_has_kafkas_file_of_the_transactions_aborted_in_it_and_loses_it_with_them() {
    let (mut node, log, mut model) = node_with_transactions();
    node.checkpoint();
    let first = node.txn_indexes(log);
    assert!(first.len() > 3, "{first:?}");
    node.restart();
    node.check(log, &model, "after a start");
    for _ in 0..60 {
        node.take(log, &mut model, 1, 700);
    }
    node.pass(2_000);
    node.checkpoint();
    assert!(node.txn_indexes(log).len() > first.len());

    let start = first[2];
    node.store.move_log_start(node.now, log, start, &mut node.fx);
    node.settle();
    model.move_start(start.0);
    assert!(node.txn_indexes(log)[0] >= start);
    node.check(log, &model, "after a purge");

    let end = node.txn_indexes(log)[2].0 + 4;
    node.truncate(log, &mut model, end);
    node.pass(2_000);
    node.checkpoint();
    assert!(node.txn_indexes(log).len() >= 2);
    node.check(log, &model, "after a cut");
    node.restart();
    node.check(log, &model, "after the last start");
    assert!(node.txn_indexes(log).len() >= 2);
}

#[test]
fn where_the_file_of_producers_is_damaged_transactions_are_read_from_the_segments() {
    for endings in [&[".producers"][..], &[".producers", ".snapshot"]] {
        for purged in [false, true] {
            let (mut node, log, mut model) = node_with_transactions();
            if purged {
                // All of the first transactions is below it, and within a segment.
                let base = node.store.logs[&log].segments[2].extent.base;
                let start = base.plus(2);
                node.store.move_log_start(node.now, log, start, &mut node.fx);
                node.settle();
                model.move_start(start.0);
            }
            node.close();
            node.damage(endings);
            for start in 0..3 {
                node.restart();
                let at = format!("start {start}, {endings:?}, purged {purged}");
                node.check_transactions(log, &model, &at);
                node.close();
            }
            node.txn_indexes(log);
        }
    }
}

#[test]
fn a_log_that_does_not_know_what_was_aborted_says_so() {
    let (mut node, log, _) = node_with_transactions();
    node.close();
    node.damage(&[".producers", ".snapshot"]);
    let file = node.disk.files.get_mut("topic1-0/00000000000000000000.log").expect("a segment");
    file[2_000] ^= 1;
    for _ in 0..2 {
        node.restart();
        let told = node.store.aborted_transactions(log, Offset(50), Offset(100));
        assert_eq!(told, Err(ErrorCode::CorruptMessage));
        node.close();
    }
}

#[test]
fn a_transaction_ends_on_a_disk_that_is_nearly_full() {
    for replicates in [false, true] {
        let (mut node, log, _) = node_with_transactions();
        assert!(node.store.has_open_transaction(log, ProducerId(2), ProducerEpoch(0)));
        node.disk.free = 10 << 20;
        node.pass(3_000);
        let mut data = batch(b"value", None);
        data.assign(node.store.log_end_offset(log).expect("known"), LeaderEpoch(1));
        let mut take = |batch: Batch| {
            let (now, fx) = (node.now, &mut node.fx);
            if replicates {
                node.store.append_replica(now, log, batch, now.wall, fx)
            } else {
                node.store.append(now, log, LeaderEpoch(1), batch, fx).map(|_| ())
            }
        };
        assert!(matches!(take(data.clone()), Err(AppendError::DiskFull(_))));
        let marker = TxnMarker {
            producer_id: ProducerId(2),
            producer_epoch: ProducerEpoch(0),
            coordinator_epoch: 1,
            committed: false,
        };
        let mut end = marker.build(5);
        end.assign(data.base_offset(), LeaderEpoch(1));
        assert_eq!(take(end), Ok(()));
        assert!(!node.store.has_open_transaction(log, ProducerId(2), ProducerEpoch(0)));
    }
}

#[test]
fn a_log_in_memory_knows_the_transactions_that_it_holds() {
    let mut node = Node::new();
    let log = node.create(1, LogSettings { storage: Storage::Memory, ..settings() });
    let mut model = Model::with_transactions(true);
    for number in 0..100 {
        node.take(log, &mut model, 1, 100);
        if number % 10 == 9 {
            node.check_transactions(log, &model, "in memory");
        }
    }
    node.store.move_log_start(node.now, log, Offset(57), &mut node.fx);
    model.move_start(57);
    node.check_transactions(log, &model, "behind a purge");
    let ended = node.store.logs[&log].producers.ended().filter(|it| it.last_offset < Offset(57));
    assert_eq!(ended.count(), 0, "what has gone is not remembered");
    node.truncate(log, &mut model, 70);
    node.check_transactions(log, &model, "behind a cut");
}
