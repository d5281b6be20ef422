//! Taking back what a batch has told of its producer, where the log is cut before it.
//!
//! Batches are taken back in the reverse order of their appends. What was forgotten meanwhile for other
//! reasons stays forgotten.

use super::{
    BATCHES_KEPT, ProducedBatch, ProducerState, ProducerStates, is_remembered, next_sequence,
};
use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::record::batch::Batch;
use crate::time::Instant;

/// The epoch of a producer of which no more is known than that its transaction is open. Any that
/// follows is newer.
const UNKNOWN_EPOCH: ProducerEpoch = ProducerEpoch(-1);

/// What was known of a producer before one of its batches.
#[derive(Clone, Debug)]
struct Before {
    epoch: ProducerEpoch,
    last_append_ms: i64,
    coordinator_epoch: i32,
    transaction_first_offset: Option<Offset>,
    /// Whether batches of its epoch were known.
    has_batches: bool,
    /// The oldest batch, if it had to go.
    oldest: Option<ProducedBatch>,
    /// The batches of an epoch that ended.
    ended: Box<[ProducedBatch]>,
}

/// How one batch is taken back.
#[derive(Clone, Debug)]
pub(in crate::log) struct Undo {
    id: ProducerId,
    /// `None` where the producer was not known.
    before: Option<Before>,
    /// Base offset of the batch.
    base: Offset,
    /// Whom the table forgot to make room.
    displaced: Option<Box<(ProducerId, ProducerState)>>,
}

impl Undo {
    pub(super) fn new(id: ProducerId, known: Option<&ProducerState>, batch: &Batch) -> Self {
        let before = known.map(|state| {
            let ends_epoch = state.epoch != batch.producer_epoch();
            let is_full = state.batches.len() == BATCHES_KEPT && is_remembered(batch);
            Before {
                epoch: state.epoch,
                last_append_ms: state.last_append_ms,
                coordinator_epoch: state.coordinator_epoch,
                transaction_first_offset: state.transaction_first_offset,
                has_batches: !state.batches.is_empty(),
                oldest: state.batches.first().filter(|_| is_full).copied(),
                ended: if ends_epoch { state.batches.as_slice().into() } else { Box::default() },
            }
        });
        Self { id, before, base: batch.base_offset(), displaced: None }
    }

    pub(super) fn displaces(&mut self, id: ProducerId, state: Option<&ProducerState>) {
        self.displaced = state.map(|state| Box::new((id, state.clone())));
    }
}

impl ProducerStates {
    /// Takes back the last batch that was taken in.
    pub(in crate::log) fn undo(&mut self, undo: Undo) {
        let Undo { id, before, base, displaced } = undo;
        self.transactions.reopen_from(base);
        if let Some(before) = &before
            && before.transaction_first_offset.is_some()
        {
            self.ensure(id);
        }
        match (before, self.producers.get_mut(&id)) {
            (None, _) => self.forget(id),
            (Some(before), Some(state)) => {
                let last = state.batches.last().map(|batch| batch.first_offset);
                if last == Some(base) {
                    state.batches.pop();
                }
                if state.epoch == before.epoch {
                    // A search, or a start behind it, may have learned less of the producer than this
                    // batch found.
                    put_before(before.oldest.as_slice(), &mut state.batches);
                } else {
                    state.batches = before.ended.into_vec();
                }
                let is_lost = before.has_batches && state.batches.is_empty();
                state.epoch = before.epoch;
                state.last_append_ms = before.last_append_ms;
                state.coordinator_epoch = before.coordinator_epoch;
                let was_open = state.transaction_first_offset;
                state.transaction_first_offset = before.transaction_first_offset;
                self.transactions.change(id, was_open, before.transaction_first_offset);
                // A state without batches would ask for sequence 0.
                if is_lost && before.transaction_first_offset.is_some() {
                    state.epoch = UNKNOWN_EPOCH;
                } else if is_lost {
                    self.forget(id);
                }
            }
            (Some(_), None) => {}
        }
        if let Some((id, state)) = displaced.map(|displaced| *displaced)
            && !self.producers.contains_key(&id)
        {
            self.load(state.last_heard, id, state);
        }
    }

    /// Makes sure that there is a state of a producer, of which nothing else may be known.
    fn ensure(&mut self, id: ProducerId) {
        if !self.producers.contains_key(&id) {
            self.load(Instant::ZERO, id, ProducerState::new(UNKNOWN_EPOCH));
        }
    }

    fn open_at(&mut self, id: ProducerId, first: Option<Offset>) {
        if let Some(state) = self.producers.get_mut(&id) {
            let was_open = std::mem::replace(&mut state.transaction_first_offset, first);
            self.transactions.change(id, was_open, first);
        }
    }

    /// Returns what of the table rests on offsets below `end`, with what `seen` has learned from the
    /// batches right before it. Producers of which nothing is left are forgotten, as with retention, but
    /// for those whose transaction was open at `end`, which is not below what is known to be committed.
    pub(in crate::log) fn before(&self, end: Offset, mut seen: Self) -> Self {
        for (&id, state) in &self.producers {
            let mut left = state.clone();
            left.batches.retain(|batch| batch.last_offset < end);
            left.transaction_first_offset = None;
            match seen.producers.get_mut(&id) {
                Some(found) if found.epoch == left.epoch => {
                    if found.batches.is_empty() {
                        found.batches = left.batches;
                    } else {
                        put_before(&left.batches, &mut found.batches);
                    }
                    found.last_append_ms = found.last_append_ms.min(left.last_append_ms);
                }
                Some(_) => {}
                None if left.batches.is_empty() => {}
                None => {
                    seen.load(left.last_heard, id, left);
                }
            }
        }
        for found in seen.producers.values_mut() {
            // One of which only markers were seen may have batches before them in its epoch.
            if found.batches.is_empty() {
                found.epoch = UNKNOWN_EPOCH;
            }
        }
        // What was open there is open still, or its marker was not committed and is remembered.
        let open = self.transactions.open();
        let ended = self.ended().filter(|ended| ended.last_offset >= end);
        let open = open.chain(ended.map(|ended| (ended.first_offset, ended.producer_id)));
        for (first, id) in open.filter(|(first, _)| *first < end) {
            seen.ensure(id);
            let found = seen.producers[&id].transaction_first_offset;
            seen.open_at(id, Some(found.map_or(first, |found| found.min(first))));
        }
        seen.transactions.reopen_from(Offset::ZERO);
        for ended in self.ended().filter(|ended| ended.last_offset < end) {
            seen.load_ended(*ended);
        }
        seen
    }

    /// Adds what another table knows of producers and this one, which was learned from all batches of the
    /// log, does not: their batches have gone.
    pub(in crate::log) fn add_unseen(&mut self, other: &Self) {
        for (&id, state) in &other.producers {
            match self.producers.get_mut(&id) {
                // Only its markers are left.
                Some(known) if known.batches.is_empty() && known.epoch == state.epoch => {
                    known.batches.clone_from(&state.batches);
                }
                Some(_) => {}
                None => {
                    self.load(state.last_heard, id, state.clone());
                }
            }
        }
    }
}

/// Puts the batches that come right before `batches` there, as many as are kept. Where something is
/// missing in between, none: what is known of a producer has no gap.
fn put_before(older: &[ProducedBatch], batches: &mut Vec<ProducedBatch>) {
    for batch in older.iter().rev() {
        if batches.len() >= BATCHES_KEPT {
            return;
        }
        let Some(first) = batches.first() else { return };
        if next_sequence(batch.last_sequence) == first.first_sequence
            && batch.last_offset < first.first_offset
        {
            batches.insert(0, *batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::ids::LeaderEpoch;

    /// Sequences go on from batch to batch as long as the producer stays the same.
    fn batch(id: i64, epoch: i16, base: i64, sequence: i32, is_control: bool) -> Batch {
        let mut bytes = vec![0; 61];
        bytes[8..12].copy_from_slice(&49_i32.to_be_bytes());
        bytes[16] = 2;
        bytes[22] = if is_control { 0x30 } else { 0x10 };
        bytes[43..51].copy_from_slice(&id.to_be_bytes());
        bytes[51..53].copy_from_slice(&epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&1_i32.to_be_bytes());
        let mut batch = Batch::split_from(&mut Bytes::from(bytes)).expect("whole");
        batch.assign(Offset(base), LeaderEpoch(0));
        batch
    }

    proptest! {
        #[test]
        fn what_is_taken_back_was_never_there(
            batches in proptest::collection::vec((0_i64..5, 0_i16..3, any::<bool>()), 1..40),
        ) {
            let mut states = ProducerStates::new();
            let mut all = vec![states.clone()];
            let mut undos = Vec::new();
            for (base, (id, epoch, is_control)) in (0_i64..).zip(batches) {
                let known = states.get(ProducerId(id));
                let last = known.filter(|state| state.epoch.0 == epoch);
                let last = last.and_then(|state| state.batches.last());
                let sequence = last.map_or(0, |batch| batch.last_sequence + 1);
                let is_control = is_control && epoch == 0;
                // With a sequence it is void and stands for records.
                let sequence = if is_control && base % 2 == 0 { -1 } else { sequence };
                let batch = batch(id, epoch, base, sequence, is_control);
                undos.push(states.take_in(Instant::from_nanos(base as u64), &batch, base, 3));
                all.push(states.clone());
            }
            for undo in undos.into_iter().rev() {
                prop_assert_eq!(&states, &all.pop().expect("one more than batches"));
                states.undo(*undo.expect("each has a producer"));
            }
            prop_assert_eq!(&states, &all[0]);
        }

        #[test]
        fn what_rests_on_earlier_batches_is_what_was_known_then(
            ids in proptest::collection::vec(0_i64..3, 1..40), cut in 0_usize..40, seen in 0_usize..40,
        ) {
            let cut = cut.min(ids.len());
            let seen_from = cut.saturating_sub(seen);
            let of = |range: std::ops::Range<usize>| {
                let mut states = ProducerStates::new();
                for base in range {
                    let before = ids[..base].iter().filter(|id| **id == ids[base]).count();
                    let batch = batch(ids[base], 0, base as i64, before as i32, false);
                    states.update(Instant::ZERO, &batch, 0, 100);
                }
                states
            };
            let expected = of(0..cut);
            let got = of(0..ids.len()).before(Offset(cut as i64), of(seen_from..cut));
            for (id, state) in got.iter() {
                let truth = expected.get(id).expect("nobody is made up");
                prop_assert!(truth.batches.ends_with(&state.batches));
            }
            if seen_from == 0 {
                let batches = |states: &ProducerStates| -> Vec<_> {
                    states.iter().map(|(id, state)| (id, state.batches.clone())).collect()
                };
                prop_assert_eq!(batches(&got), batches(&expected));
            }
        }
    }
}
