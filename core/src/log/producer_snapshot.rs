//! Files that keep producer states over a restart: Kafka's `.snapshot`, and a sidecar of ours.
//!
//! Kafka's file keeps the last batch of each producer, and which transactions are open. The other four
//! batches, the append time of the last, and the transactions that have ended are in the sidecar
//! `<offset>.producers`, so that a retry after a restart is recognised as before it. Both are checked
//! whole before anything of them is believed; of a sidecar that is damaged or missing, what Kafka's
//! file does not have is read from the segments.
//!
//! Sources: Kafka's `ProducerSnapshot` version 1 (version i16, CRC-32C u32 of what follows it, count
//! i32, entries of 46 bytes). The sidecar: magic of 8 bytes, version u16, CRC-32C u32 of what follows
//! it, count u32, entries; in version 2, which is written where there are any, the ended transactions
//! behind them: count u32, each with producer id i64, first offset i64, last offset i64, last stable
//! offset i64 and outcome u8 (0 aborted, 1 committed); all big-endian.

use bytes::Buf;

use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::log::producer_state::{
    BATCHES_KEPT, EndedTransaction, ProducedBatch, ProducerState, ProducerStates,
};
use crate::time::Instant;

/// Ending of the name of Kafka's file.
pub const SNAPSHOT_SUFFIX: &str = ".snapshot";
/// Ending of the name of the sidecar.
pub const SIDECAR_SUFFIX: &str = ".producers";

const SNAPSHOT_VERSION: i16 = 1;
const SNAPSHOT_ENTRY_LEN: usize = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8;
const SIDECAR_MAGIC: &[u8; 8] = b"MSPRODS\n";
/// The version without ended transactions.
const SIDECAR_WITHOUT_ENDED: u16 = 1;
const SIDECAR_VERSION: u16 = 2;
const SIDECAR_STATE_LEN: usize = 8 + 2 + 4 + 8 + 8 + 1;
const SIDECAR_BATCH_LEN: usize = 4 + 4 + 8 + 8 + 8;
const SIDECAR_ENDED_LEN: usize = 8 + 8 + 8 + 8 + 1;

/// Why a file of producer states is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file ends too early, or goes on after its end.
    #[error("the producer snapshot is cut off or too long")]
    Length,
    /// It is another file.
    #[error("the file is no producer snapshot")]
    Magic,
    /// It has a version that is not known.
    #[error("the producer snapshot has version {0}, which is not known")]
    Version(u16),
    /// Its content is not what was written.
    #[error("the producer snapshot fails its checksum")]
    Crc,
    /// Its checksum holds, but a producer's values cannot be.
    #[error("the producer snapshot holds impossible values for producer {0}")]
    Entry(ProducerId),
}

impl ProducerStates {
    /// Writes Kafka's `.snapshot`: the last batch of each producer.
    ///
    /// Differs from Kafka: the timestamp is the append time, since the one of a record may be of any
    /// year and would let a live producer expire.
    pub fn encode_snapshot(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(4 + self.len() * SNAPSHOT_ENTRY_LEN);
        body.extend_from_slice(&(self.len() as i32).to_be_bytes());
        for (id, state) in self.iter() {
            let (sequence, offset, delta) = state.batches.last().map_or((-1, -1, 0), |last| {
                let delta = (last.last_offset.0 - last.first_offset.0) as i32;
                (last.last_sequence, last.last_offset.0, delta)
            });
            let transaction = state.transaction_first_offset.map_or(-1, |offset| offset.0);
            body.extend_from_slice(&id.0.to_be_bytes());
            body.extend_from_slice(&state.epoch.0.to_be_bytes());
            body.extend_from_slice(&sequence.to_be_bytes());
            body.extend_from_slice(&offset.to_be_bytes());
            body.extend_from_slice(&delta.to_be_bytes());
            body.extend_from_slice(&state.last_append_ms.to_be_bytes());
            body.extend_from_slice(&state.coordinator_epoch.to_be_bytes());
            body.extend_from_slice(&transaction.to_be_bytes());
        }
        seal(&SNAPSHOT_VERSION.to_be_bytes(), &body)
    }

    /// Reads Kafka's `.snapshot`. The producers count as heard at `mono`.
    ///
    /// # Errors
    /// [`SnapshotError`] where the file is not whole and sound to the last byte.
    pub fn decode_snapshot(bytes: &[u8], mono: Instant) -> Result<Self, SnapshotError> {
        let mut at = bytes;
        let version = at.try_get_u16().map_err(|_| SnapshotError::Length)?;
        if version != SNAPSHOT_VERSION as u16 {
            return Err(SnapshotError::Version(version));
        }
        unseal(&mut at)?;
        let count = at.try_get_u32().map_err(|_| SnapshotError::Length)? as usize;
        if count.checked_mul(SNAPSHOT_ENTRY_LEN) != Some(at.len()) {
            return Err(SnapshotError::Length);
        }
        let mut states = Self::new();
        while at.has_remaining() {
            let id = ProducerId(at.get_i64());
            let mut state = ProducerState::new(ProducerEpoch(at.get_i16()));
            let (last_sequence, last_offset, delta) = (at.get_i32(), at.get_i64(), at.get_i32());
            state.last_append_ms = at.get_i64();
            state.coordinator_epoch = at.get_i32();
            let transaction = at.get_i64();
            state.transaction_first_offset = (transaction >= 0).then_some(Offset(transaction));
            if last_offset >= 0 {
                let delta_is_possible = (0..=last_offset).contains(&i64::from(delta));
                if last_sequence < 0 || !delta_is_possible {
                    return Err(SnapshotError::Entry(id));
                }
                state.batches.push(ProducedBatch {
                    first_sequence: last_sequence.wrapping_sub(delta) & i32::MAX,
                    last_sequence,
                    first_offset: Offset(last_offset - i64::from(delta)),
                    last_offset: Offset(last_offset),
                    timestamp: state.last_append_ms,
                });
            }
            if id.0 < 0 || !states.load(mono, id, state) {
                return Err(SnapshotError::Entry(id));
            }
        }
        Ok(states)
    }

    /// Writes the sidecar: everything that is known of each producer.
    pub fn encode_sidecar(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(
            4 + self.len() * (SIDECAR_STATE_LEN + BATCHES_KEPT * SIDECAR_BATCH_LEN),
        );
        body.extend_from_slice(&(self.len() as u32).to_be_bytes());
        for (id, state) in self.iter() {
            let transaction = state.transaction_first_offset.map_or(-1, |offset| offset.0);
            body.extend_from_slice(&id.0.to_be_bytes());
            body.extend_from_slice(&state.epoch.0.to_be_bytes());
            body.extend_from_slice(&state.coordinator_epoch.to_be_bytes());
            body.extend_from_slice(&transaction.to_be_bytes());
            body.extend_from_slice(&state.last_append_ms.to_be_bytes());
            body.push(state.batches.len() as u8);
            for batch in &state.batches {
                body.extend_from_slice(&batch.first_sequence.to_be_bytes());
                body.extend_from_slice(&batch.last_sequence.to_be_bytes());
                body.extend_from_slice(&batch.first_offset.0.to_be_bytes());
                body.extend_from_slice(&batch.last_offset.0.to_be_bytes());
                body.extend_from_slice(&batch.timestamp.to_be_bytes());
            }
        }
        let ended: Vec<&EndedTransaction> = self.ended().collect();
        let version = if ended.is_empty() { SIDECAR_WITHOUT_ENDED } else { SIDECAR_VERSION };
        if !ended.is_empty() {
            body.reserve(4 + ended.len() * SIDECAR_ENDED_LEN);
            body.extend_from_slice(&(ended.len() as u32).to_be_bytes());
        }
        for ended in ended {
            body.extend_from_slice(&ended.producer_id.0.to_be_bytes());
            body.extend_from_slice(&ended.first_offset.0.to_be_bytes());
            body.extend_from_slice(&ended.last_offset.0.to_be_bytes());
            body.extend_from_slice(&ended.last_stable_offset.0.to_be_bytes());
            body.push(u8::from(ended.committed));
        }
        let mut front = SIDECAR_MAGIC.to_vec();
        front.extend_from_slice(&version.to_be_bytes());
        seal(&front, &body)
    }

    /// Reads the sidecar. The producers count as heard at `mono`.
    ///
    /// # Errors
    /// [`SnapshotError`] where the file is not whole and sound to the last byte.
    pub fn decode_sidecar(bytes: &[u8], mono: Instant) -> Result<Self, SnapshotError> {
        let mut at = bytes.strip_prefix(SIDECAR_MAGIC).ok_or(SnapshotError::Magic)?;
        let version = at.try_get_u16().map_err(|_| SnapshotError::Length)?;
        if !matches!(version, SIDECAR_WITHOUT_ENDED | SIDECAR_VERSION) {
            return Err(SnapshotError::Version(version));
        }
        unseal(&mut at)?;
        let count = at.try_get_u32().map_err(|_| SnapshotError::Length)?;
        let mut states = Self::new();
        for _ in 0..count {
            let (id, state) = decode_state(&mut at)?;
            if !states.load(mono, id, state) {
                return Err(SnapshotError::Entry(id));
            }
        }
        if version == SIDECAR_VERSION {
            let count = at.try_get_u32().map_err(|_| SnapshotError::Length)? as usize;
            if count.checked_mul(SIDECAR_ENDED_LEN) != Some(at.len()) {
                return Err(SnapshotError::Length);
            }
            while at.has_remaining() {
                let ended = decode_ended(&mut at);
                if !states.load_ended(ended) {
                    return Err(SnapshotError::Entry(ended.producer_id));
                }
            }
        }
        if at.is_empty() { Ok(states) } else { Err(SnapshotError::Length) }
    }
}

fn decode_ended(at: &mut &[u8]) -> EndedTransaction {
    let producer_id = ProducerId(at.get_i64());
    let (first, last, stable) = (at.get_i64(), at.get_i64(), at.get_i64());
    let committed = at.get_u8() != 0;
    EndedTransaction {
        producer_id,
        first_offset: Offset(first),
        last_offset: Offset(last),
        last_stable_offset: Offset(stable),
        committed,
    }
}

fn decode_state(at: &mut &[u8]) -> Result<(ProducerId, ProducerState), SnapshotError> {
    if at.len() < SIDECAR_STATE_LEN {
        return Err(SnapshotError::Length);
    }
    let id = ProducerId(at.get_i64());
    let mut state = ProducerState::new(ProducerEpoch(at.get_i16()));
    state.coordinator_epoch = at.get_i32();
    let transaction = at.get_i64();
    state.transaction_first_offset = (transaction >= 0).then_some(Offset(transaction));
    state.last_append_ms = at.get_i64();
    let batches = usize::from(at.get_u8());
    if at.len() < batches * SIDECAR_BATCH_LEN {
        return Err(SnapshotError::Length);
    }
    if id.0 < 0 || batches > BATCHES_KEPT {
        return Err(SnapshotError::Entry(id));
    }
    for _ in 0..batches {
        let batch = ProducedBatch {
            first_sequence: at.get_i32(),
            last_sequence: at.get_i32(),
            first_offset: Offset(at.get_i64()),
            last_offset: Offset(at.get_i64()),
            timestamp: at.get_i64(),
        };
        let follows = state.batches.last().is_none_or(|last| batch.first_offset > last.last_offset);
        if !follows || batch.first_offset.0 < 0 || batch.last_offset < batch.first_offset {
            return Err(SnapshotError::Entry(id));
        }
        state.batches.push(batch);
    }
    Ok((id, state))
}

/// Puts front, checksum of the body and body together.
fn seal(front: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(front.len() + 4 + body.len());
    out.extend_from_slice(front);
    out.extend_from_slice(&crc32c(body).to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Reads the checksum and compares it with all that follows.
fn unseal(at: &mut &[u8]) -> Result<(), SnapshotError> {
    let crc = at.try_get_u32().map_err(|_| SnapshotError::Length)?;
    if crc == crc32c(at) { Ok(()) } else { Err(SnapshotError::Crc) }
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(first_sequence: i32, first_offset: i64, records: i32) -> ProducedBatch {
        ProducedBatch {
            first_sequence,
            last_sequence: first_sequence.wrapping_add(records - 1) & i32::MAX,
            first_offset: Offset(first_offset),
            last_offset: Offset(first_offset + i64::from(records) - 1),
            timestamp: 77,
        }
    }

    fn state(batches: Vec<ProducedBatch>) -> ProducerState {
        let mut state = ProducerState::new(ProducerEpoch(3));
        state.batches = batches;
        state.last_append_ms = 99;
        state.coordinator_epoch = 7;
        state.transaction_first_offset = Some(Offset(12));
        state
    }

    fn states() -> ProducerStates {
        let mut states = ProducerStates::new();
        let many = (0..5)
            .map(|i| batch((i32::MAX - 3).wrapping_add(i) & i32::MAX, 100 + 10 * i64::from(i), 1))
            .collect();
        states.load(Instant::ZERO, ProducerId(4), state(many));
        states.load(Instant::ZERO, ProducerId(9), state(vec![batch(i32::MAX - 1, 500, 4)]));
        states.load(Instant::ZERO, ProducerId(11), ProducerState::new(ProducerEpoch(0)));
        for (id, last, committed) in [(4, 20, true), (9, 30, false), (11, 40, false)] {
            states.load_ended(EndedTransaction {
                producer_id: ProducerId(id),
                first_offset: Offset(last - 9),
                last_offset: Offset(last),
                last_stable_offset: Offset(12),
                committed,
            });
        }
        states
    }

    #[test]
    fn the_snapshot_has_kafkas_layout() {
        let mut states = ProducerStates::new();
        states.load(Instant::ZERO, ProducerId(4), state(vec![batch(5, 20, 3)]));
        let bytes = states.encode_snapshot();
        let body = [
            &[0, 0, 0, 1][..],
            &[0, 0, 0, 0, 0, 0, 0, 4, 0, 3, 0, 0, 0, 7],
            &[0, 0, 0, 0, 0, 0, 0, 22, 0, 0, 0, 2],
            &[0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 12],
        ]
        .concat();
        assert_eq!(bytes[..2], [0, 1]);
        assert_eq!(bytes[2..6], crc32c(&body).to_be_bytes());
        assert_eq!(bytes[6..], body);
    }

    #[test]
    fn the_snapshot_keeps_the_last_batch_of_each_producer() {
        let read = ProducerStates::decode_snapshot(&states().encode_snapshot(), Instant::ZERO)
            .expect("sound");
        let batches = |id| &read.get(ProducerId(id)).expect("known").batches;
        assert_eq!(batches(4)[..], [ProducedBatch { timestamp: 99, ..batch(0, 140, 1) }]);
        assert_eq!(
            batches(9)[..],
            [ProducedBatch { timestamp: 99, ..batch(i32::MAX - 1, 500, 4) }]
        );
        assert!(batches(11).is_empty());
        assert_eq!(read.len(), 3);
    }

    #[test]
    fn the_sidecar_keeps_everything() {
        let read = ProducerStates::decode_sidecar(&states().encode_sidecar(), Instant::ZERO);
        let read = read.expect("sound");
        assert_eq!(read, states());
        assert!(read.ended().eq(states().ended()));
    }

    #[test]
    fn a_sidecar_without_ended_transactions_is_one_that_earlier_builds_read() {
        let mut plain = ProducerStates::new();
        plain.load(Instant::ZERO, ProducerId(9), state(vec![batch(1, 500, 4)]));
        assert_eq!(plain.encode_sidecar()[8..10], [0, 1]);
        assert_eq!(states().encode_sidecar()[8..10], [0, 2]);
    }

    #[test]
    fn impossible_transactions_are_refused() {
        let whole = states().encode_sidecar();
        let (front, body) = (&whole[..10], whole[14..].to_vec());
        let last = body.len() - SIDECAR_ENDED_LEN;
        for (first_offset, last_offset) in [(40, 40), (50, 40), (-1, 40), (5, 30), (5, 20)] {
            let mut bad = body.clone();
            bad[last + 8..last + 16].copy_from_slice(&i64::to_be_bytes(first_offset));
            bad[last + 16..last + 24].copy_from_slice(&i64::to_be_bytes(last_offset));
            let read = ProducerStates::decode_sidecar(&seal(front, &bad), Instant::ZERO);
            assert_eq!(read, Err(SnapshotError::Entry(ProducerId(11))), "{first_offset}");
        }
    }

    #[test]
    fn a_cut_padded_or_flipped_file_is_refused() {
        let (sidecar, snapshot) = (states().encode_sidecar(), states().encode_snapshot());
        for cut in 0..sidecar.len() {
            assert!(ProducerStates::decode_sidecar(&sidecar[..cut], Instant::ZERO).is_err());
        }
        for cut in 0..snapshot.len() {
            assert!(ProducerStates::decode_snapshot(&snapshot[..cut], Instant::ZERO).is_err());
        }
        for at in 0..snapshot.len() * 8 {
            let mut flipped = snapshot.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(ProducerStates::decode_snapshot(&flipped, Instant::ZERO).is_err(), "bit {at}");
        }
        let padded = [&snapshot[..], &[0; 46]].concat();
        assert_eq!(
            ProducerStates::decode_snapshot(&padded, Instant::ZERO),
            Err(SnapshotError::Crc)
        );
    }

    #[test]
    fn impossible_values_under_a_right_checksum_are_refused() {
        let mut body = states().encode_snapshot().split_off(6);
        body.truncate(4 + SNAPSHOT_ENTRY_LEN);
        body[3] = 1;
        let reseal = |body: &[u8]| {
            ProducerStates::decode_snapshot(&seal(&[0, 1], body), Instant::ZERO).map(|s| s.len())
        };
        assert_eq!(reseal(&body), Ok(1));
        let mut bad = body.clone();
        bad[4 + 22..4 + 26].copy_from_slice(&i32::MAX.to_be_bytes());
        assert_eq!(reseal(&bad), Err(SnapshotError::Entry(ProducerId(4))), "delta beyond offset");
        let mut bad = body.clone();
        bad[4] = 0xff;
        assert!(reseal(&bad).is_err(), "negative id");
        let mut bad = body.clone();
        bad[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(reseal(&bad), Err(SnapshotError::Length), "count");
        let twice = [&[0, 0, 0, 2][..], &body[4..], &body[4..]].concat();
        assert_eq!(reseal(&twice), Err(SnapshotError::Entry(ProducerId(4))), "the same id twice");
    }

    proptest! {
        #[test]
        fn reading_never_panics(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200), sound in any::<bool>(),
        ) {
            let _ = ProducerStates::decode_sidecar(&bytes, Instant::ZERO);
            let _ = ProducerStates::decode_snapshot(&bytes, Instant::ZERO);
            if sound {
                // Beyond the checksum, where random bytes do not come.
                for version in [1, 2] {
                    let front = [&SIDECAR_MAGIC[..], &[0, version]].concat();
                    let _ = ProducerStates::decode_sidecar(&seal(&front, &bytes), Instant::ZERO);
                }
                bytes.resize(4 + bytes.len() / SNAPSHOT_ENTRY_LEN * SNAPSHOT_ENTRY_LEN, 0);
                let count = ((bytes.len() - 4) / SNAPSHOT_ENTRY_LEN) as u32;
                bytes[..4].copy_from_slice(&count.to_be_bytes());
                let _ = ProducerStates::decode_snapshot(&seal(&[0, 1], &bytes), Instant::ZERO);
            }
        }
    }
}
