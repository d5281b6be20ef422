//! A segment that Apache Kafka wrote, with the files beside it: read, and made again from the log alone.

use mainspring_core::ids::{LeaderEpoch, Offset};
use mainspring_core::log::dump::{FileKind, dump};
use mainspring_core::log::leader_epoch::LeaderEpochs;
use mainspring_core::log::offset_index::{OffsetIndex, SegmentExtent};
use mainspring_core::log::producer_state::ProducerStates;
use mainspring_core::log::time_index::TimeIndex;
use mainspring_core::log::verify::{ScannedBatch, SegmentScan};
use mainspring_core::time::Instant;

const BASE: Offset = Offset(5_000_000_000);
const END: Offset = Offset(5_000_000_113);
const INTERVAL_BYTES: u64 = 500;

const LOG: &[u8] = include_bytes!("data/records/segment/00000000005000000000.log");
const INDEX: &[u8] = include_bytes!("data/records/segment/00000000005000000000.index");
const TIME_INDEX: &[u8] = include_bytes!("data/records/segment/00000000005000000000.timeindex");
const SNAPSHOT: &[u8] = include_bytes!("data/records/segment/00000000005000000113.snapshot");
const EPOCHS: &[u8] = include_bytes!("data/records/segment/leader-epoch-checkpoint");

#[test]
fn the_segment_is_sound() {
    let mut scan = SegmentScan::new(Some(BASE));
    scan.push(LOG);
    while let Some(scanned) = scan.next_batch() {
        assert_eq!(scanned.expect("framed").faults, []);
    }
    let (summary, fault) = scan.finish();
    assert_eq!(fault, None);
    assert_eq!((summary.batches, summary.records), (60, 113));
    assert_eq!((summary.bytes, summary.end_offset), (LOG.len() as u64, Some(END)));
}

#[test]
fn kafkas_offset_index_leads_to_every_record() {
    let index = OffsetIndex::decode(INDEX, BASE, INTERVAL_BYTES, &extent()).expect("sound");
    assert_eq!(index.encode(), INDEX);
    for scanned in batches() {
        for offset in scanned.batch.base_offset().0..=scanned.batch.last_offset().0 {
            let found = index.lookup(Offset(offset));
            assert!(found <= scanned.position && scanned.position - found <= extent().max_gap);
        }
    }
}

#[test]
fn our_offset_index_is_kafkas_byte_for_byte() {
    let mut ours = OffsetIndex::new(BASE, INTERVAL_BYTES);
    for scanned in batches() {
        let batch = &scanned.batch;
        ours.note_batch(batch.last_offset(), scanned.position, batch.size() as u64);
    }
    assert_eq!(ours.encode(), INDEX);
    assert_eq!(ours.len(), 10);
}

#[test]
fn our_time_index_is_kafkas_byte_for_byte() {
    let mut offsets = OffsetIndex::new(BASE, INTERVAL_BYTES);
    let mut times = TimeIndex::new(BASE);
    for scanned in batches() {
        let batch = &scanned.batch;
        times.note_batch(batch.max_timestamp(), batch.last_offset());
        if offsets.note_batch(batch.last_offset(), scanned.position, batch.size() as u64) {
            times.add_entry();
        }
    }
    times.add_entry();
    assert_eq!(times.encode(), TIME_INDEX);
    assert_eq!(TimeIndex::decode(TIME_INDEX, BASE, END), Some(times));
}

#[test]
fn our_producer_states_make_kafkas_snapshot_byte_for_byte() {
    let mut states = ProducerStates::new();
    for scanned in batches() {
        states.update(Instant::ZERO, &scanned.batch, scanned.batch.max_timestamp(), 100);
    }
    assert_eq!(states.len(), 3);
    assert_eq!(states.encode_snapshot(), SNAPSHOT);
    let read = ProducerStates::decode_snapshot(SNAPSHOT, Instant::ZERO).expect("sound");
    for (id, state) in read.iter() {
        let last = states.get(id).and_then(|state| state.batches.last());
        assert_eq!(state.batches.last(), last, "{id}");
        assert!(last.is_some());
    }
}

#[test]
fn our_leader_epochs_make_kafkas_checkpoint() {
    let mut epochs = LeaderEpochs::new();
    for scanned in batches() {
        epochs.assign(scanned.batch.leader_epoch(), scanned.batch.base_offset()).expect("rising");
    }
    assert_eq!(epochs.encode_checkpoint().as_bytes(), EPOCHS);
    assert_eq!(LeaderEpochs::decode_checkpoint(EPOCHS), Ok(epochs.clone()));
    assert_eq!(epochs.latest(), Some((LeaderEpoch(10), Offset(5_000_000_081))));
}

#[test]
fn the_dump_finds_every_file_sound() {
    for (kind, bytes) in [
        (FileKind::Segment(BASE), LOG),
        (FileKind::OffsetIndex(BASE), INDEX),
        (FileKind::TimeIndex(BASE), TIME_INDEX),
        (FileKind::Snapshot(END), SNAPSHOT),
        (FileKind::EpochCheckpoint, EPOCHS),
    ] {
        let mut last = String::new();
        dump(kind, bytes, true, &mut |line| line.clone_into(&mut last));
        assert!(last.starts_with("sound: "), "{kind:?}: {last}");
    }
}

fn extent() -> SegmentExtent {
    let largest = batches().iter().map(|scanned| scanned.batch.size() as u64).max();
    SegmentExtent {
        end_offset: END,
        bytes: LOG.len() as u64,
        max_gap: INTERVAL_BYTES + largest.expect("there are batches"),
    }
}

fn batches() -> Vec<ScannedBatch> {
    let mut scan = SegmentScan::new(Some(BASE));
    scan.push(LOG);
    std::iter::from_fn(|| scan.next_batch()).map(|scanned| scanned.expect("framed")).collect()
}
