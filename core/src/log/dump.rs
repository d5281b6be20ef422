//! Renders the files of a log as text lines, in the words of Kafka's own dump tool.
//!
//! A file is shown as far as it can be read, damaged or not, and the last line says whether it would be
//! believed. Bytes of records are escaped, so that a log cannot write control characters to a
//! terminal.

use std::fmt::Write as _;

use crate::ids::{Offset, SnapshotId};
use crate::log::leader_epoch::{CHECKPOINT_FILE, LeaderEpochs};
use crate::log::offset_index::{self, OffsetIndex, SegmentExtent};
use crate::log::producer_snapshot::{SIDECAR_SUFFIX, SNAPSHOT_SUFFIX, SnapshotError};
use crate::log::producer_state::ProducerStates;
use crate::log::time_index::{self, TimeIndex};
use crate::log::txn_index;
use crate::log::verify::{ScannedBatch, SegmentFault, SegmentScan};
use crate::metadata::SnapshotReader;
use crate::record::batch::Batch;
use crate::record::compress::Codec;
use crate::record::hidden::{Change, Hidden, Note, Ticket};
use crate::record::iterate::{OpenBatch, PlacedRecord};
use crate::time::Instant;

/// Most bytes of a key, value or header that are shown.
const SHOWN_MAX: usize = 1_024;
/// Most bytes that a batch is opened into.
const OPENED_MAX: usize = 256 << 20;

/// What a file of a log holds, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// Record batches from an offset on: `.log`.
    Segment(Offset),
    /// Positions by offset, of a segment with that first offset: `.index`.
    OffsetIndex(Offset),
    /// Offsets by time, of a segment with that first offset: `.timeindex`.
    TimeIndex(Offset),
    /// Transactions that were aborted in a segment with that first offset: `.txnindex`.
    TxnIndex(Offset),
    /// Kafka's producer states as of an offset: `.snapshot`.
    Snapshot(Offset),
    /// Our producer states as of an offset: `.producers`.
    Sidecar(Offset),
    /// Start offsets of leader epochs: `leader-epoch-checkpoint`.
    EpochCheckpoint,
    /// A snapshot of the metadata log: `.checkpoint`.
    MetadataSnapshot(SnapshotId),
}

impl FileKind {
    /// Tells what a file is by the last component of its path, `None` where its name says nothing.
    pub fn of(name: &str) -> Option<Self> {
        if name == CHECKPOINT_FILE {
            return Some(Self::EpochCheckpoint);
        }
        if let Some(id) = SnapshotId::of_file_name(name) {
            return Some(Self::MetadataSnapshot(id));
        }
        let (digits, _) = name.split_at_checked(20)?;
        let suffix = name.strip_prefix(digits)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let offset = Offset(digits.parse().ok()?);
        match suffix {
            ".log" => Some(Self::Segment(offset)),
            ".index" => Some(Self::OffsetIndex(offset)),
            ".timeindex" => Some(Self::TimeIndex(offset)),
            ".txnindex" => Some(Self::TxnIndex(offset)),
            SNAPSHOT_SUFFIX => Some(Self::Snapshot(offset)),
            SIDECAR_SUFFIX => Some(Self::Sidecar(offset)),
            _ => None,
        }
    }
}

/// Renders a whole file. `with_records` shows the records of a segment too.
pub fn dump(kind: FileKind, bytes: &[u8], with_records: bool, line: &mut dyn FnMut(&str)) {
    match kind {
        FileKind::Segment(base_offset) => {
            let mut segment = SegmentDump::new(base_offset, with_records);
            segment.push(bytes, line);
            segment.finish(line);
        }
        FileKind::MetadataSnapshot(id) => {
            let mut batches = SegmentDump::new(Offset::ZERO, with_records);
            batches.push(bytes, line);
            batches.finish(line);
            let mut reader = SnapshotReader::new(id);
            match reader.push(bytes).and_then(|()| reader.finish()) {
                Ok(snapshot) => line(&format!(
                    "whole: {} topics, {} brokers, up to offset {} of epoch {}",
                    snapshot.image.topics().count(),
                    snapshot.image.brokers().count(),
                    id.end_offset,
                    id.epoch
                )),
                Err(error) => line(&format!("NOT WHOLE: {error}")),
            }
        }
        FileKind::OffsetIndex(base_offset) => dump_offset_index(base_offset, bytes, line),
        FileKind::TimeIndex(base_offset) => dump_time_index(base_offset, bytes, line),
        FileKind::TxnIndex(_) => dump_txn_index(bytes, line),
        FileKind::Snapshot(_) => {
            dump_producers(ProducerStates::decode_snapshot(bytes, Instant::ZERO), line);
        }
        FileKind::Sidecar(_) => {
            dump_producers(ProducerStates::decode_sidecar(bytes, Instant::ZERO), line);
        }
        FileKind::EpochCheckpoint => match LeaderEpochs::decode_checkpoint(bytes) {
            Ok(epochs) => {
                for (epoch, start) in epochs.iter() {
                    line(&format!("leaderEpoch: {epoch} startOffset: {start}"));
                }
                line(&format!("sound: {} epochs", epochs.len()));
            }
            Err(error) => line(&format!("NOT SOUND: {error}")),
        },
    }
}

/// Renders a segment whose bytes come in pieces.
#[derive(Clone, Debug)]
pub struct SegmentDump {
    scan: SegmentScan,
    with_records: bool,
}

impl SegmentDump {
    /// Begins a segment whose name gives `base_offset`.
    pub fn new(base_offset: Offset, with_records: bool) -> Self {
        Self { scan: SegmentScan::new(Some(base_offset)), with_records }
    }

    /// Renders the batches that the next bytes complete.
    pub fn push(&mut self, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        self.scan.push(bytes);
        while let Some(scanned) = self.scan.next_batch() {
            match scanned {
                Ok(scanned) => {
                    line(&batch_line(&scanned));
                    for fault in &scanned.faults {
                        line(&fault_line(scanned.position, fault));
                    }
                    if self.with_records {
                        dump_records(&scanned.batch, line);
                    }
                }
                Err(fault) => line(&fault_line(self.scan.summary().bytes, &fault)),
            }
        }
    }

    /// Says what is left at the end, and whether the segment is sound. Returns the number of faults.
    pub fn finish(self, line: &mut dyn FnMut(&str)) -> u64 {
        let (summary, fault) = self.scan.finish();
        if let Some(fault) = fault {
            line(&fault_line(summary.bytes, &fault));
        }
        let verdict = if summary.faults == 0 { "sound" } else { "NOT SOUND" };
        let (batches, records, bytes) = (summary.batches, summary.records, summary.bytes);
        let end = summary.end_offset.map_or_else(|| "none".to_owned(), |end| end.to_string());
        line(&format!(
            "{verdict}: {batches} batches, {records} records, {bytes} bytes, end offset {end}, {} faults",
            summary.faults
        ));
        summary.faults
    }
}

fn batch_line(scanned: &ScannedBatch) -> String {
    let batch = &scanned.batch;
    let time = if batch.is_log_append_time() { "LogAppendTime" } else { "CreateTime" };
    let codec = Codec::from_number(batch.codec()).map_or("unknown", Codec::name);
    format!(
        "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} \
         producerEpoch: {} partitionLeaderEpoch: {} isTransactional: {} isControl: {} position: {} \
         {time}: {} size: {} magic: 2 compresscodec: {codec} crc: {} isvalid: {}",
        batch.base_offset(),
        batch.last_offset(),
        batch.records_count(),
        batch.base_sequence(),
        batch.last_sequence(),
        batch.producer_id(),
        batch.producer_epoch(),
        batch.leader_epoch(),
        batch.is_transactional(),
        batch.is_control(),
        scanned.position,
        batch.max_timestamp(),
        batch.size(),
        batch.crc(),
        !scanned.faults.iter().any(|fault| matches!(fault, SegmentFault::Crc { .. })),
    )
}

fn fault_line(position: u64, fault: &SegmentFault) -> String {
    format!("FAULT at position {position}: {fault}")
}

fn dump_records(batch: &Batch, line: &mut dyn FnMut(&str)) {
    let open = match OpenBatch::open(batch, OPENED_MAX) {
        Ok(open) => open,
        Err(error) => return line(&format!("| unreadable: {error}")),
    };
    for placed in open.records() {
        match placed {
            Ok(placed) => line(&record_line(batch, &placed)),
            Err(error) => line(&format!("| unreadable: {error}")),
        }
    }
}

fn record_line(batch: &Batch, placed: &PlacedRecord<'_>) -> String {
    let record = &placed.record;
    let size = |field: Option<&[u8]>| field.map_or(-1, |field| field.len() as i64);
    let mut text = format!(
        "| offset: {} timestamp: {} keySize: {} valueSize: {} headers: [",
        placed.offset,
        placed.timestamp,
        size(record.key),
        size(record.value)
    );
    for (index, header) in record.headers.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        shown(&mut text, Some(header.key));
        text.push('=');
        shown(&mut text, header.value);
    }
    text.push(']');
    if let (true, Some(&[_, _, kind_high, kind_low])) = (batch.is_control(), record.key) {
        let kind = i16::from_be_bytes([kind_high, kind_low]);
        let hidden = Hidden::of(batch);
        let name = match kind {
            _ if hidden == Some(Hidden::Note) => "NOTE",
            // Of the same kind as a marker, so that a client passes over it.
            1 if hidden == Some(Hidden::Void) => "VOID",
            0 => "ABORT",
            1 => "COMMIT",
            2 => "LEADER_CHANGE",
            3 => "SNAPSHOT_HEADER",
            4 => "SNAPSHOT_FOOTER",
            5 => "KRAFT_VERSION",
            6 => "KRAFT_VOTERS",
            _ => "UNKNOWN",
        };
        write!(text, " controlType: {name}({kind}) value: ").expect("a string grows");
        match Note::read(batch) {
            Ok(note) if hidden == Some(Hidden::Note) => note_text(&mut text, &note),
            Ok(_) | Err(_) => hexadecimal(&mut text, record.value.unwrap_or_default()),
        }
    } else {
        text.push_str(" key: ");
        shown(&mut text, record.key);
        text.push_str(" payload: ");
        shown(&mut text, record.value);
    }
    text
}

/// Adds what a note says.
fn note_text(out: &mut String, note: &Note) {
    let mut put = |text: &str| out.push_str(text);
    put(&format!("at: {}", note.at_ms));
    if let Some(crc) = note.link {
        put(&format!(" with the next batch if its crc is: {crc}"));
    }
    for change in &note.changes {
        put(", ");
        put(&change_text(change));
    }
}

fn change_text(change: &Change) -> String {
    let text = |bytes: Option<&[u8]>| {
        let mut out = String::new();
        shown(&mut out, bytes);
        out
    };
    match change {
        Change::Entry(ticket, entry) => {
            let mut out = format!(
                "entry {}: due: {} id: {} timestamp: {} key: {} payload: {}",
                ticket_text(*ticket),
                entry.due_ms,
                text(entry.id.as_deref()),
                entry.timestamp,
                text(entry.key.as_deref()),
                text(entry.value.as_deref())
            );
            if let Some((cron, zone)) = &entry.cron {
                write!(
                    out,
                    " cron: {} {}",
                    text(Some(cron.as_str().as_bytes())),
                    text(Some(zone.as_str().as_bytes()))
                )
                .expect("a string grows");
            }
            if let Some(half) = &entry.half {
                let group = text(Some(half.check_group.as_str().as_bytes()));
                write!(out, " half of: {group} checks: {}", half.checks).expect("a string grows");
            }
            out
        }
        Change::Alter { ticket, what, due_ms, .. } => format!("{what:?} {ticket}: due: {due_ms}"),
        Change::Fired { ticket, next_due_ms } => format!("fired {ticket}: next due: {next_due_ms}"),
        Change::Check { ticket, attempt, step } => format!("check {ticket}: {step:?} {attempt}"),
        Change::Duplicate { index, original } => {
            format!("duplicate {}: original: {original}", ticket_text(Ticket::InLink(*index)))
        }
        Change::Stored { ticket, hash, at_ms } => {
            format!("stored {}: hash: {hash:032x} at: {at_ms}", ticket_text(*ticket))
        }
        Change::Ended { ticket, id, outcome, offset, at_ms } => {
            let id = text(id.as_deref());
            format!("ended {ticket}: {outcome:?} id: {id} offset: {offset} at: {at_ms}")
        }
    }
}

fn ticket_text(ticket: Ticket) -> String {
    match ticket {
        Ticket::InLink(index) => format!("+{index}"),
        Ticket::At(offset) => offset.to_string(),
    }
}

/// Adds bytes as escaped text where they are UTF-8, else in hexadecimal.
fn shown(out: &mut String, bytes: Option<&[u8]>) {
    let Some(bytes) = bytes else { return out.push_str("null") };
    let (head, rest) = bytes.split_at(bytes.len().min(SHOWN_MAX));
    let valid = match str::from_utf8(head) {
        Ok(text) => Some(text),
        // A character that is cut by the limit only is no reason for hexadecimal.
        Err(error) if !rest.is_empty() && error.error_len().is_none() => {
            str::from_utf8(&head[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    if let Some(text) = valid {
        out.extend(text.chars().flat_map(char::escape_debug));
    } else {
        hexadecimal(out, head);
    }
    if !rest.is_empty() {
        write!(out, "... ({} bytes)", bytes.len()).expect("a string grows");
    }
}

fn hexadecimal(out: &mut String, bytes: &[u8]) {
    out.push_str("0x");
    for byte in bytes {
        write!(out, "{byte:02x}").expect("a string grows");
    }
}

fn dump_offset_index(base_offset: Offset, bytes: &[u8], line: &mut dyn FnMut(&str)) {
    let (entries, rest) = bytes.as_chunks::<{ offset_index::ENTRY_LEN }>();
    for &[a, b, c, d, e, f, g, h] in entries {
        let offset = i64::from(u32::from_be_bytes([a, b, c, d])).saturating_add(base_offset.0);
        line(&format!("offset: {offset} position: {}", u32::from_be_bytes([e, f, g, h])));
    }
    let extent = SegmentExtent { end_offset: Offset(i64::MAX), bytes: 1 << 32, max_gap: u64::MAX };
    let sound = OffsetIndex::decode(bytes, base_offset, 0, &extent).is_some();
    line(&index_verdict(entries.len(), rest.len(), sound));
}

fn dump_time_index(base_offset: Offset, bytes: &[u8], line: &mut dyn FnMut(&str)) {
    let (entries, rest) = bytes.as_chunks::<{ time_index::ENTRY_LEN }>();
    for &[a, b, c, d, e, f, g, h, i, j, k, l] in entries {
        let timestamp = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let offset = i64::from(u32::from_be_bytes([i, j, k, l])).saturating_add(base_offset.0);
        line(&format!("timestamp: {timestamp} offset: {offset}"));
    }
    let sound =
        bytes.is_empty() || TimeIndex::decode(bytes, base_offset, Offset(i64::MAX)).is_some();
    line(&index_verdict(entries.len(), rest.len(), sound));
}

fn index_verdict(entries: usize, left: usize, sound: bool) -> String {
    if sound {
        format!("sound: {entries} entries")
    } else {
        format!("NOT SOUND, will be rebuilt: {entries} entries, {left} bytes behind them")
    }
}

fn dump_txn_index(bytes: &[u8], line: &mut dyn FnMut(&str)) {
    let Some(aborted) = txn_index::decode(bytes) else {
        return line("NOT SOUND: no entries, or not in the order of their markers");
    };
    for (id, first, last, stable) in &aborted {
        line(&format!(
            "producerId: {id} firstOffset: {first} lastOffset: {last} lastStableOffset: {stable}"
        ));
    }
    line(&format!("sound: {} entries", aborted.len()));
}

fn dump_producers(states: Result<ProducerStates, SnapshotError>, line: &mut dyn FnMut(&str)) {
    let states = match states {
        Ok(states) => states,
        Err(error) => return line(&format!("NOT SOUND: {error}")),
    };
    for (id, state) in states.iter() {
        let transaction = state.transaction_first_offset.map_or(-1, |offset| offset.0);
        line(&format!(
            "producerId: {id} producerEpoch: {} coordinatorEpoch: {} currentTxnFirstOffset: {transaction} \
             lastTimestamp: {}",
            state.epoch, state.coordinator_epoch, state.last_append_ms
        ));
        for batch in &state.batches {
            line(&format!(
                "| firstSequence: {} lastSequence: {} firstOffset: {} lastOffset: {} timestamp: {}",
                batch.first_sequence,
                batch.last_sequence,
                batch.first_offset,
                batch.last_offset,
                batch.timestamp
            ));
        }
    }
    for ended in states.ended() {
        line(&format!(
            "transaction: producerId: {} firstOffset: {} lastOffset: {} committed: {}",
            ended.producer_id, ended.first_offset, ended.last_offset, ended.committed
        ));
    }
    line(&format!("sound: {} producers", states.len()));
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::ids::{LeaderEpoch, ProducerEpoch, ProducerId};
    use crate::record::builder::{BatchBuilder, Producer, TransactionResult, transaction_marker};
    use crate::record::hidden::{Entry, void_batch};

    fn lines(kind: FileKind, bytes: &[u8], with_records: bool) -> Vec<String> {
        let mut lines = Vec::new();
        dump(kind, bytes, with_records, &mut |line| lines.push(line.to_owned()));
        lines
    }

    fn batch() -> Batch {
        let mut builder = BatchBuilder::new(Codec::Lz4).producer(Producer {
            id: ProducerId(7),
            epoch: ProducerEpoch(1),
            base_sequence: 30,
        });
        builder.push(50, Some(b"key"), Some(b"esc \x1b[31m"), &[(b"h", None)]);
        builder.push(51, None, Some(&[0xff, 0]), &[]);
        let mut batch = builder.build();
        batch.assign(Offset(100), LeaderEpoch(2));
        batch
    }

    #[test]
    fn a_segment_is_told_batch_by_batch_and_record_by_record() {
        let mut marker =
            transaction_marker(ProducerId(7), ProducerEpoch(1), TransactionResult::Commit, 3, 60);
        marker.assign(Offset(102), LeaderEpoch(2));
        let size = batch().size();
        let crc = batch().crc();
        let file = [batch().to_bytes(), marker.to_bytes()].concat();
        let told = lines(FileKind::Segment(Offset(100)), &file, true);
        assert_eq!(
            told[0],
            format!(
                "baseOffset: 100 lastOffset: 101 count: 2 baseSequence: 30 lastSequence: 31 \
                 producerId: 7 producerEpoch: 1 partitionLeaderEpoch: 2 isTransactional: false \
                 isControl: false position: 0 CreateTime: 51 size: {size} magic: 2 \
                 compresscodec: lz4 crc: {crc} isvalid: true"
            )
        );
        assert_eq!(
            told[1],
            "| offset: 100 timestamp: 50 keySize: 3 valueSize: 9 headers: [h=null] key: key \
             payload: esc \\u{1b}[31m"
        );
        assert_eq!(
            told[2],
            "| offset: 101 timestamp: 51 keySize: -1 valueSize: 2 headers: [] key: null \
             payload: 0xff00"
        );
        assert!(told[4].ends_with("controlType: COMMIT(1) value: 0x000000000003"), "{}", told[4]);
        let bytes = file.len();
        assert_eq!(
            told[5],
            format!("sound: 2 batches, 3 records, {bytes} bytes, end offset 103, 0 faults")
        );
    }

    #[test]
    fn what_no_client_sees_is_told_by_its_name_and_a_note_in_words() {
        let entry = Entry {
            due_ms: 99,
            id: Some(b"order"[..].into()),
            timestamp: 5,
            key: None,
            value: Some(b"later"[..].into()),
            headers: Vec::new(),
            cron: None,
            half: None,
        };
        let void = void_batch(&batch());
        let fired = Change::Fired { ticket: Offset(6), next_due_ms: -1 };
        let changes = vec![Change::Entry(Ticket::InLink(1), entry), fired];
        let mut file = Vec::new();
        for (base, mut batch) in
            [(0, Note { at_ms: 77, link: Some(9), changes }.build()), (1, void)]
        {
            batch.assign(Offset(base), LeaderEpoch(0));
            file.extend_from_slice(&batch.to_bytes());
        }
        let told = lines(FileKind::Segment(Offset(0)), &file, true);
        let expected = "controlType: NOTE(19795) value: at: 77 with the next batch if its crc is: 9, \
                        entry +1: due: 99 id: order timestamp: 5 key: null payload: later, fired 6: \
                        next due: -1";
        assert!(told[1].ends_with(expected), "{}", told[1]);
        assert!(told[2].contains("lastOffset: 2 count: 1 baseSequence: 30 lastSequence: 31"));
        assert!(told[3].contains("controlType: VOID(1) value: 0x0000"), "{}", told[3]);
        assert!(told[4].starts_with("sound: 2 batches"), "{}", told[4]);
    }

    #[test]
    fn the_faults_of_a_segment_are_told_with_their_position() {
        let mut file = batch().to_bytes().to_vec();
        let last = file.len() - 1;
        file[last] ^= 1;
        file.extend_from_slice(&[7; 10]);
        let told = lines(FileKind::Segment(Offset(90)), &file, false);
        assert!(told[0].ends_with("isvalid: false"));
        assert!(told[1].starts_with("FAULT at position 0: the CRC should be"));
        assert_eq!(told[2], "FAULT at position 0: the batch begins at offset 100, expected 90");
        assert!(told[3].contains("is cut off after 10 of 61 bytes"));
        assert!(told[4].starts_with("NOT SOUND"));
    }

    #[test]
    fn the_small_files_are_told_and_judged() {
        let index = [0, 0, 0, 2, 0, 0, 1, 0];
        let told = lines(FileKind::OffsetIndex(Offset(100)), &index, false);
        assert_eq!(told, ["offset: 102 position: 256", "sound: 1 entries"]);
        let padded = [&index[..], &[0; 9]].concat();
        let told = lines(FileKind::OffsetIndex(Offset(100)), &padded, false);
        assert!(told[2].starts_with("NOT SOUND"));

        let times = [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1];
        let told = lines(FileKind::TimeIndex(Offset(100)), &times, false);
        assert_eq!(told, ["timestamp: 9 offset: 101", "sound: 1 entries"]);

        let aborted = [&[0, 0][..], &[7_i64, 2, 9, 3].map(i64::to_be_bytes).concat()].concat();
        let told = lines(FileKind::TxnIndex(Offset(0)), &aborted, false);
        let expected = "producerId: 7 firstOffset: 2 lastOffset: 9 lastStableOffset: 3";
        assert_eq!(told, [expected, "sound: 1 entries"]);
        assert!(
            lines(FileKind::TxnIndex(Offset(0)), &aborted[1..], false)[0].starts_with("NOT SOUND")
        );

        let told = lines(FileKind::EpochCheckpoint, b"0\n1\n3 8\n", false);
        assert_eq!(told, ["leaderEpoch: 3 startOffset: 8", "sound: 1 epochs"]);
        assert!(
            lines(FileKind::EpochCheckpoint, b"0\n2\n3 8\n", false)[0].starts_with("NOT SOUND")
        );

        let mut states = ProducerStates::new();
        states.update(Instant::ZERO, &batch(), 77, 10);
        for (kind, file, timestamp) in [
            (FileKind::Snapshot(Offset(102)), states.encode_snapshot(), 77),
            (FileKind::Sidecar(Offset(102)), states.encode_sidecar(), 51),
        ] {
            let told = lines(kind, &file, false);
            assert_eq!(
                told[0],
                "producerId: 7 producerEpoch: 1 coordinatorEpoch: -1 currentTxnFirstOffset: -1 \
                 lastTimestamp: 77"
            );
            assert_eq!(
                told[1],
                format!(
                    "| firstSequence: 30 lastSequence: 31 firstOffset: 100 lastOffset: 101 \
                     timestamp: {timestamp}"
                )
            );
            assert_eq!(told[2], "sound: 1 producers");
            assert!(lines(kind, &file[1..], false)[0].starts_with("NOT SOUND"));
        }
    }

    #[test]
    fn a_snapshot_of_the_metadata_log_is_shown_and_judged() {
        let mut image = crate::metadata::MetadataImage::default();
        image.apply_leader_change(Offset(41), LeaderEpoch(3));
        let snapshot = crate::metadata::Snapshot { image, voters: None, timestamp: 5 };
        let (kind, bytes) = (FileKind::MetadataSnapshot(snapshot.id()), snapshot.encode().concat());
        let told = lines(kind, &bytes, true);
        assert!(told.iter().any(|line| line.contains("SNAPSHOT_HEADER")), "{told:?}");
        let last = told.last().map(String::as_str);
        assert_eq!(last, Some("whole: 0 topics, 0 brokers, up to offset 42 of epoch 3"));
        let told = lines(kind, &bytes[..bytes.len() - 1], false);
        assert!(told.last().is_some_and(|line| line.starts_with("NOT WHOLE")), "{told:?}");
    }

    #[test]
    fn a_file_is_known_by_its_name() {
        let kind = |suffix| FileKind::of(&format!("00000000000000000042{suffix}"));
        assert_eq!(kind(".log"), Some(FileKind::Segment(Offset(42))));
        assert_eq!(kind(".timeindex"), Some(FileKind::TimeIndex(Offset(42))));
        assert_eq!(kind(".snapshot"), Some(FileKind::Snapshot(Offset(42))));
        assert_eq!(kind(".txnindex"), Some(FileKind::TxnIndex(Offset(42))));
        let id = SnapshotId { end_offset: Offset(42), epoch: LeaderEpoch(3) };
        assert_eq!(kind("-0000000003.checkpoint"), Some(FileKind::MetadataSnapshot(id)));
        assert_eq!(kind(".other"), None);
        assert_eq!(FileKind::of("leader-epoch-checkpoint"), Some(FileKind::EpochCheckpoint));
        assert_eq!(FileKind::of("99999999999999999999.log"), None);
        assert_eq!(FileKind::of("x.log"), None);
    }

    #[test]
    fn a_long_value_is_cut_at_a_character() {
        let mut text = String::new();
        shown(&mut text, Some("ä".repeat(513).as_bytes()));
        assert!(text.ends_with("ä... (1026 bytes)"));
        let mut text = String::new();
        shown(&mut text, Some(format!("a{}", "ä".repeat(600)).as_bytes()));
        assert!(text.starts_with("aä") && text.ends_with("ä... (1201 bytes)"));
    }
}
