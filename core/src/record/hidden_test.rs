use proptest::prelude::*;

use super::*;
use crate::ids::ProducerEpoch;
use crate::record::builder::{BatchBuilder, Producer, TransactionResult, transaction_marker};
use crate::record::compress::Codec;
use crate::record::marker::TxnMarker;

fn produced(producer: Option<Producer>, transactional: bool, records: usize) -> Batch {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some(producer) = producer {
        builder = builder.producer(producer);
    }
    if transactional {
        builder = builder.transactional();
    }
    for _ in 0..records {
        builder.push(5, Some(b"k"), Some(b"v"), &[]);
    }
    builder.build()
}

const PRODUCER: Producer =
    Producer { id: ProducerId(7), epoch: ProducerEpoch(3), base_sequence: 40 };

fn note() -> Note {
    let entry = Entry {
        due_ms: 1_700_000_000_123,
        id: Some(Bytes::from_static(b"order-1")),
        timestamp: 99,
        key: None,
        value: Some(Bytes::from_static(b"hello")),
        headers: vec![
            (Bytes::from_static(b"mainspring-delay-ms"), Some(Bytes::from_static(b"5"))),
            (Bytes::from_static(b"h"), None),
        ],
        cron: Some(("0 0 9 * * *".into(), "Europe/Berlin".into())),
        half: Some(Half {
            check_group: "orders".into(),
            check_after_ms: 500,
            checks: 2,
            is_parked: true,
        }),
    };
    let plain = Entry { due_ms: -1, id: None, cron: None, half: None, ..entry.clone() };
    Note {
        at_ms: 77,
        link: Some(0xffff_fff0),
        changes: vec![
            Change::Entry(Ticket::InLink(3), entry),
            Change::Entry(Ticket::At(Offset(9)), plain),
            Change::Alter {
                ticket: Offset(5),
                what: Alteration::Reschedule,
                due_ms: 12,
                by: Some(0),
            },
            Change::Alter { ticket: Offset(5), what: Alteration::Rollback, due_ms: -1, by: None },
            Change::Fired { ticket: Offset(6), next_due_ms: -1 },
            Change::Check { ticket: Offset(6), attempt: 4, step: CheckStep::Parked },
            Change::Duplicate { index: 1, original: Offset(2) },
            Change::Stored { ticket: Ticket::InLink(0), hash: u128::MAX - 5, at_ms: 8 },
            Change::Ended {
                ticket: Offset(6),
                id: None,
                outcome: Outcome::Committed,
                offset: Offset(8),
                at_ms: 3,
            },
        ],
    }
}

#[test]
fn a_note_is_read_as_it_was_written() {
    for note in [note(), Note { link: None, changes: Vec::new(), ..note() }] {
        let batch = note.build();
        assert!(batch.crc_is_valid());
        assert_eq!(Hidden::of(&batch), Some(Hidden::Note));
        assert_eq!((batch.last_offset_delta(), batch.records_count()), (0, 1));
        assert_eq!(Note::read(&batch).expect("whole"), note);
    }
}

#[test]
fn a_void_batch_takes_the_offsets_sequences_and_transaction_of_the_batch_it_stands_for() {
    for transactional in [false, true] {
        let of = produced(Some(PRODUCER), transactional, 4);
        let void = void_batch(&of);
        assert_eq!(Hidden::of(&void), Some(Hidden::Void));
        assert!(void.crc_is_valid());
        assert_eq!(void.is_transactional(), transactional);
        assert_eq!(void.last_offset_delta(), 3);
        assert_eq!(void.producer_id(), PRODUCER.id);
        assert_eq!(void.producer_epoch(), PRODUCER.epoch);
        assert_eq!((void.base_sequence(), void.last_sequence()), (40, 43));
        assert_eq!((void.base_timestamp(), void.max_timestamp()), (-1, -1));
    }
}

#[test]
fn a_batch_without_a_producer_leaves_a_void_batch_whatever_its_header_says() {
    for transactional in [false, true] {
        for (id, base_sequence) in [(-1, -1), (-1, 0), (-1, -2), (-9, -2), (-9, 5)] {
            let producer = Producer { id: ProducerId(id), epoch: ProducerEpoch(3), base_sequence };
            let void = void_batch(&produced(Some(producer), transactional, 2));
            assert_eq!(Hidden::of(&void), Some(Hidden::Void));
            assert_eq!((void.producer_id(), void.base_sequence()), (ProducerId::NONE, -1));
            assert_eq!((void.last_offset_delta(), void.is_transactional()), (1, false));
            assert_eq!(TxnMarker::of(&void), None);
        }
    }
}

#[test]
fn neither_records_nor_markers_are_hidden_and_a_void_batch_is_no_marker() {
    assert_eq!(Hidden::of(&produced(Some(PRODUCER), true, 2)), None);
    for result in [TransactionResult::Commit, TransactionResult::Abort] {
        let marker = transaction_marker(PRODUCER.id, PRODUCER.epoch, result, 0, 5);
        assert_eq!(Hidden::of(&marker), None);
        assert!(TxnMarker::of(&marker).is_some());
    }
    for transactional in [false, true] {
        let void = void_batch(&produced(Some(PRODUCER), transactional, 1));
        assert_eq!(TxnMarker::of(&void), None);
    }
    assert_eq!(TxnMarker::of(&note().build()), None);
}

#[test]
fn a_damaged_note_is_refused_and_never_panics() {
    let batch = note().build();
    let whole = batch.to_bytes();
    for end in HEADER_LEN..whole.len() {
        let mut cut = whole.slice(..end).to_vec();
        let length = (cut.len() - 12) as i32;
        cut[8..12].copy_from_slice(&length.to_be_bytes());
        let cut = Batch::split_from(&mut cut.into()).expect("framed");
        assert!(Note::read(&cut).is_err(), "cut at {end}");
    }
}

proptest! {
    #[test]
    fn bytes_of_any_kind_in_a_note_never_panic(rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut whole = note().build().to_bytes()[..HEADER_LEN].to_vec();
        whole.extend_from_slice(&rest);
        let length = (whole.len() - 12) as i32;
        whole[8..12].copy_from_slice(&length.to_be_bytes());
        let batch = Batch::split_from(&mut whole.into()).expect("framed");
        let _ = Note::read(&batch);
    }

    #[test]
    fn a_flipped_byte_in_a_note_never_panics(at in 0_usize..400, with in 1_u8..) {
        let mut whole = note().build().to_bytes().to_vec();
        let at = HEADER_LEN + at % (whole.len() - HEADER_LEN);
        whole[at] ^= with;
        let batch = Batch::split_from(&mut whole.into()).expect("framed");
        let _ = Note::read(&batch);
    }
}
