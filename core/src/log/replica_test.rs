//! A log that follows a leader's: what it takes, and what it gives before it is flushed.

use super::*;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::record::builder::leader_change;

/// A batch as a leader has stored it.
pub(super) fn stored(base: i64, epoch: i32, value: &[u8], producer: Option<Producer>) -> Batch {
    let mut batch = batch(value, producer);
    batch.assign(Offset(base), LeaderEpoch(epoch));
    batch
}

pub(super) const fn producer(base_sequence: i32) -> Producer {
    Producer { id: ProducerId(9), epoch: ProducerEpoch(0), base_sequence }
}

impl Node {
    pub(super) fn replicate(
        &mut self,
        log: TopicPartition,
        batch: &Batch,
    ) -> Result<(), AppendError> {
        let append_ms = UnixMillis(1_699_999_000_000).plus(batch.base_offset().0.min(1_000));
        let taken =
            self.store.append_replica(self.now, log, batch.clone(), append_ms, &mut self.fx);
        self.settle();
        taken
    }

    /// Reads all that the log holds, stable or not.
    pub(super) fn fetch_to_end(&mut self, log: TopicPartition, max_bytes: u64) -> Vec<Batch> {
        let mut at = self.store.log_start_offset(log).expect("known");
        let end = self.store.log_end_offset(log).expect("known");
        let mut all: Vec<Batch> = Vec::new();
        while at < end {
            let parts = match self.store.plan_fetch(log, at, end, max_bytes, true) {
                FetchPlan::Memory(parts) => parts,
                FetchPlan::File(range) => self.read(range).expect("the read is good"),
            };
            let mut bytes: Bytes = parts.concat().into();
            assert!(!bytes.is_empty(), "a fetch below the end brings something");
            while !bytes.is_empty() {
                all.push(Batch::split_from(&mut bytes).expect("whole batches"));
            }
            at = all.last().expect("some").next_offset();
        }
        all
    }

    fn read(&mut self, range: FileRange) -> Result<Vec<Bytes>, ReadError> {
        self.events.clear();
        self.store.read(self.now, range, ReadTicket(1), &mut self.fx);
        self.settle();
        let read = self.events.iter().find_map(|event| match event {
            LogEvent::Read { result, .. } => Some(result.clone()),
            _ => None,
        });
        read.expect("the read is answered")
    }
}

pub(super) fn whole(batches: &[Batch]) -> Vec<Bytes> {
    batches.iter().map(Batch::to_bytes).collect()
}

#[test]
fn a_replica_holds_the_bytes_of_its_leader_and_knows_its_epochs_and_producers() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let mut change = leader_change(NodeId(2), &[NodeId(2)], &[NodeId(2)], 5);
    change.assign(Offset(1), LeaderEpoch(7));
    let mut all = vec![stored(0, 3, b"first", Some(producer(0))), change];
    for number in 2..60 {
        // Sequences that a leader has let in for reasons of its own.
        let sequence = if number == 30 { 900 } else { number };
        all.push(stored(i64::from(number), 7, &[1; 700], Some(producer(sequence))));
    }
    for batch in &all {
        node.replicate(log, batch).expect("it continues the log");
    }
    for _ in 0..2 {
        assert_eq!(whole(&node.fetch_all(log)), whole(&all));
        let epochs = [0, 1, 59].map(|offset| node.store.epoch_at(log, Offset(offset)));
        assert_eq!(epochs, [3, 7, 7].map(|epoch| Some(LeaderEpoch(epoch))));
        let repeated = node.store.check_sequence(node.now, log, &all[58]);
        assert!(matches!(repeated, Ok(Sequence::Duplicate { base_offset: Offset(58), .. })));
        let partition = &node.store.logs[&log];
        assert!(partition.segments.len() > 3, "segments are rolled");
        assert_eq!(partition.segments[0].extent.first_append, UnixMillis(1_699_999_000_000));
        node.restart();
    }
}

#[test]
fn a_batch_that_does_not_continue_the_replica_is_refused_and_changes_nothing() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    let mut empty = stored(2, 5, b"no offset", None).to_bytes().to_vec();
    empty[23..27].copy_from_slice(&(-1_i32).to_be_bytes());
    let empty = Batch::split_from(&mut empty.into()).expect("whole");
    for base in [0, 1] {
        node.replicate(log, &stored(base, 5, b"good", None)).expect("it continues the log");
    }
    for (base, epoch) in [(1, 5), (3, 5), (2, 4), (2, -1), (-3, 5), (i64::MAX, 5)] {
        let refused = node.replicate(log, &stored(base, epoch, b"bad", None));
        assert_eq!(
            refused,
            Err(AppendError::Apart {
                base: Offset(base),
                epoch: LeaderEpoch(epoch),
                end: Offset(2)
            })
        );
    }
    assert!(matches!(node.replicate(log, &empty), Err(AppendError::Apart { .. })));
    node.restart();
    assert_eq!(node.fetch_all(log).len(), 2);
    let other = node.create(2, settings());
    let without_epoch = node.replicate(other, &stored(0, -1, b"bad", None));
    assert!(matches!(without_epoch, Err(AppendError::Apart { .. })));
}

#[test]
fn a_replica_in_memory_reserves_its_offsets_as_its_leader_does() {
    let mut node = Node::new();
    let log = node.create(1, LogSettings { storage: Storage::Memory, ..settings() });
    for base in 0..5 {
        node.replicate(log, &stored(base, 0, b"value", None)).expect("it continues the log");
    }
    assert_eq!(node.store.stable_end(log).map(Stable::value), Some(Offset(5)));
    assert_eq!(node.fetch_all(log).len(), 5);
}

#[test]
fn followers_fetch_up_to_the_end_before_anything_of_it_is_written() {
    let mut node = Node::new();
    let log = node.create(1, settings());
    for number in 0..40_u8 {
        node.append(log, &[number; 500]);
    }
    node.pass(2_000);
    let written = node.fetch_to_end(log, 2_000);
    node.holds = Some(".journal");
    let mut sent = written.len();
    for number in 40..80_u8 {
        node.append(log, &[number; 500]);
        sent += 1;
        let end = node.store.log_end_offset(log).expect("known");
        assert_eq!(node.store.stable_end(log).map(Stable::value), Some(Offset(40)));
        assert_eq!(end, Offset(i64::from(number) + 1));
        let size = node.store.size(log).expect("known");
        assert_eq!(node.store.readable_bytes(log, Offset(40), end, u64::MAX), {
            (u64::from(number) - 39) * size / sent as u64
        });
        assert!(node.store.readable_bytes(log, Offset(0), end, u64::MAX) >= size);
    }
    // Some lie in files, some in blocks, some in the block in flight, some in none yet.
    let plan = node.store.plan_fetch(log, Offset(0), Offset(80), 2_000, true);
    assert!(matches!(plan, FetchPlan::File(_)));
    for max_bytes in [1, 2_000, u64::MAX] {
        let all = node.fetch_to_end(log, max_bytes);
        assert_eq!(all.len(), 80);
        assert!(all.iter().zip(0..).all(|(batch, base)| batch.base_offset() == Offset(base)));
        assert!(all.iter().all(Batch::crc_is_valid));
    }
    node.let_go();
    assert_eq!(node.store.stable_end(log).map(Stable::value), Some(Offset(80)));
}
