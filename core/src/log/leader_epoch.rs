//! The leader epochs of one log: where each epoch began (KIP-101, KIP-279).
//!
//! A follower compares its last epoch with the leader's list and learns where the two logs part.
//! The list never guesses: an epoch or a start that does not rise is refused, never repaired.
//! Kept in Kafka's own text file `leader-epoch-checkpoint`.
//!
//! Invariants:
//! 1. Epochs and start offsets both rise strictly from entry to entry.
//! 2. No epoch and no start offset is negative.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;

use crate::digest::Digest;
use crate::ids::{LeaderEpoch, Offset};

/// Name of the file in a partition's folder.
pub const CHECKPOINT_FILE: &str = "leader-epoch-checkpoint";
/// The only version of the file that Kafka has had.
const CHECKPOINT_VERSION: &str = "0";

/// An epoch that does not continue the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("epoch {epoch} from offset {start} does not follow {last:?}")]
pub struct EpochError {
    /// The epoch that was to be added.
    pub epoch: LeaderEpoch,
    /// Its first offset.
    pub start: Offset,
    /// The newest entry there is.
    pub last: Option<(LeaderEpoch, Offset)>,
}

/// Why a checkpoint file is not believed. Whoever gets it rebuilds the list from the log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file is not UTF-8 text.
    #[error("the leader epoch checkpoint is not text")]
    NotText,
    /// The first line is not a version that is known.
    #[error("the leader epoch checkpoint does not begin with version 0")]
    Version,
    /// The second line does not give the number of entries that follow.
    #[error("the leader epoch checkpoint announces other than its {0} entries")]
    Count(usize),
    /// A line is not `epoch start`.
    #[error("line {0} of the leader epoch checkpoint is not an epoch and an offset")]
    Line(usize),
    /// An entry does not continue the one before it.
    #[error(transparent)]
    Order(#[from] EpochError),
}

/// Start offsets by leader epoch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaderEpochs {
    starts: BTreeMap<LeaderEpoch, Offset>,
}

impl LeaderEpochs {
    /// Makes an empty list.
    pub const fn new() -> Self {
        Self { starts: BTreeMap::new() }
    }

    /// Records that `epoch` begins at `start`; returns whether the list changed.
    ///
    /// The newest epoch may be named again with any later start, which changes nothing. An epoch in
    /// which nothing was appended gives its start to its successor, as in Kafka.
    ///
    /// # Errors
    /// [`EpochError`] where the epoch or the start is lower than the newest, or negative.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> Result<bool, EpochError> {
        let last = self.latest();
        let refused = Err(EpochError { epoch, start, last });
        if epoch.0 < 0 || start.0 < 0 {
            return refused;
        }
        let Some((last_epoch, last_start)) = last else {
            self.starts.insert(epoch, start);
            return Ok(true);
        };
        if epoch < last_epoch || start < last_start {
            return refused;
        }
        if epoch == last_epoch {
            return Ok(false);
        }
        if start == last_start {
            self.starts.remove(&last_epoch);
        }
        self.starts.insert(epoch, start);
        Ok(true)
    }

    /// Returns the largest epoch at most `epoch` and the offset after its last record: the start of
    /// the next epoch, or `log_end` for the newest.
    ///
    /// `None` where every known epoch is larger. Kafka answers the first known start there, with
    /// the epoch that was asked for: see [`first`](Self::first). It answers "undefined" for an epoch
    /// above all that it knows; here that is the newest one, which ends at the log end.
    pub fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let (&found, _) = self.starts.range(..=epoch).next_back()?;
        let next = self.starts.range((Bound::Excluded(found), Bound::Unbounded)).next();
        Some((found, next.map_or(log_end, |(_, &start)| start)))
    }

    /// Returns the epoch of the record at `offset`, `None` below the first known start.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.starts.iter().rev().find(|(_, start)| **start <= offset).map(|(&epoch, _)| epoch)
    }

    /// Returns the oldest entry.
    pub fn first(&self) -> Option<(LeaderEpoch, Offset)> {
        self.starts.first_key_value().map(|(&epoch, &start)| (epoch, start))
    }

    /// Returns the newest entry.
    pub fn latest(&self) -> Option<(LeaderEpoch, Offset)> {
        self.starts.last_key_value().map(|(&epoch, &start)| (epoch, start))
    }

    /// Returns every entry in order.
    pub fn iter(&self) -> impl Iterator<Item = (LeaderEpoch, Offset)> + '_ {
        self.starts.iter().map(|(&epoch, &start)| (epoch, start))
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Returns whether no epoch is known.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Forgets what begins at or beyond `end`, the new end of the log. Returns whether the list changed.
    pub fn truncate_from_end(&mut self, end: Offset) -> bool {
        let before = self.starts.len();
        while let Some((&epoch, &start)) = self.starts.last_key_value() {
            if start < end {
                break;
            }
            self.starts.remove(&epoch);
        }
        before != self.starts.len()
    }

    /// Forgets what ends at or before `log_start`, the new start of the log. The epoch that `log_start`
    /// lies in begins there from then on. Returns whether the list changed.
    pub fn truncate_from_start(&mut self, log_start: Offset) -> bool {
        let Some(kept) = self.epoch_at(log_start) else { return false };
        let changed = self.first() != Some((kept, log_start));
        self.starts = self.starts.split_off(&kept);
        self.starts.insert(kept, log_start);
        changed
    }

    /// Writes Kafka's `leader-epoch-checkpoint`.
    pub fn encode_checkpoint(&self) -> String {
        let mut text = format!("{CHECKPOINT_VERSION}\n{}\n", self.starts.len());
        for (epoch, start) in &self.starts {
            writeln!(text, "{epoch} {start}").expect("writing to a string cannot fail");
        }
        text
    }

    /// Reads Kafka's `leader-epoch-checkpoint`.
    ///
    /// # Errors
    /// [`CheckpointError`] where anything about the file is doubtful: a wrong count, an entry that
    /// does not rise, text after the entries.
    pub fn decode_checkpoint(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let text = str::from_utf8(bytes).map_err(|_| CheckpointError::NotText)?;
        let mut lines = text.lines();
        if lines.next() != Some(CHECKPOINT_VERSION) {
            return Err(CheckpointError::Version);
        }
        let announced = lines.next().and_then(|line| line.parse::<usize>().ok());
        let mut epochs = Self::new();
        let mut found = 0;
        for (index, line) in lines.enumerate() {
            let (epoch, start) =
                parse_entry(line).ok_or_else(|| CheckpointError::Line(index.saturating_add(3)))?;
            let last = epochs.latest();
            if last.is_some_and(|(e, s)| epoch <= e || start <= s) {
                return Err(EpochError { epoch, start, last }.into());
            }
            epochs.assign(epoch, start)?;
            found += 1;
        }
        // A file that was cut within its last line has lost the end of a number.
        if announced != Some(found) || !text.ends_with('\n') {
            return Err(CheckpointError::Count(found));
        }
        Ok(epochs)
    }

    /// Takes the list into a digest.
    pub fn digest(&self, digest: &mut Digest) {
        digest.number(self.starts.len() as u64);
        for (epoch, start) in &self.starts {
            digest.signed(i64::from(epoch.0)).signed(start.0);
        }
    }
}

fn parse_entry(line: &str) -> Option<(LeaderEpoch, Offset)> {
    let (epoch, start) = line.split_once(' ')?;
    Some((LeaderEpoch(epoch.parse().ok()?), Offset(start.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::new();
        for &(epoch, start) in entries {
            epochs.assign(LeaderEpoch(epoch), Offset(start)).expect("rising");
        }
        epochs
    }

    fn entries(epochs: &LeaderEpochs) -> Vec<(i32, i64)> {
        epochs.iter().map(|(epoch, start)| (epoch.0, start.0)).collect()
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins_and_the_newest_at_the_log_end() {
        let epochs = epochs(&[(0, 0), (2, 10), (5, 30)]);
        let end = |epoch| {
            epochs.end_of(LeaderEpoch(epoch), Offset(40)).map(|(epoch, end)| (epoch.0, end.0))
        };
        assert_eq!(end(-1), None);
        assert_eq!(end(0), Some((0, 10)));
        assert_eq!(end(1), Some((0, 10)));
        assert_eq!(end(2), Some((2, 30)));
        assert_eq!(end(4), Some((2, 30)));
        assert_eq!(end(5), Some((5, 40)));
        assert_eq!(end(9), Some((5, 40)));
    }

    #[test]
    fn an_epoch_or_a_start_that_falls_is_refused() {
        let mut epochs = epochs(&[(2, 10)]);
        assert!(epochs.assign(LeaderEpoch(1), Offset(20)).is_err());
        assert!(epochs.assign(LeaderEpoch(3), Offset(9)).is_err());
        assert!(epochs.assign(LeaderEpoch(2), Offset(9)).is_err());
        assert_eq!(epochs.assign(LeaderEpoch(2), Offset(11)), Ok(false));
        assert_eq!(entries(&epochs), [(2, 10)]);
    }

    #[test]
    fn an_epoch_without_records_gives_its_start_to_the_next() {
        assert_eq!(entries(&epochs(&[(0, 0), (1, 7), (2, 7)])), [(0, 0), (2, 7)]);
    }

    #[test]
    fn truncation_from_the_start_moves_the_start_of_the_epoch_it_falls_in() {
        let mut cut = epochs(&[(0, 0), (2, 10), (5, 30)]);
        assert!(cut.truncate_from_start(Offset(12)));
        assert_eq!(entries(&cut), [(2, 12), (5, 30)]);
        assert!(!cut.truncate_from_start(Offset(12)));
        assert!(cut.truncate_from_start(Offset(100)));
        assert_eq!(entries(&cut), [(5, 100)]);
    }

    #[test]
    fn the_checkpoint_is_kafkas_text() {
        let text = epochs(&[(0, 0), (3, 100)]).encode_checkpoint();
        assert_eq!(text, "0\n2\n0 0\n3 100\n");
        assert_eq!(LeaderEpochs::decode_checkpoint(b"0\n0\n"), Ok(LeaderEpochs::new()));
    }

    #[test]
    fn a_damaged_checkpoint_is_refused() {
        let bad: [&[u8]; 14] = [
            b"",
            b"0\n",
            b"1\n0\n",
            b"0\nx\n",
            b"0\n1\n",
            b"0\n1\n1 2",
            b"0\n0\n1 2\n",
            b"0\n1\n1\n",
            b"0\n1\n1 2 3\n",
            b"0\n1\n-1 2\n",
            b"0\n2\n1 2\n2 2\n",
            b"0\n2\n1 2\n1 3\n",
            b"0\n1\n1 99999999999999999999\n",
            &[0; 32],
        ];
        for bytes in bad {
            assert!(LeaderEpochs::decode_checkpoint(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        /// The model is one epoch for each offset.
        #[test]
        fn the_list_agrees_with_an_epoch_for_each_offset(
            runs in prop::collection::vec((1..4i32, 1..5usize), 1..8),
            keep_from in 0..20i64,
            keep_to in 0..30i64,
        ) {
            let mut list = LeaderEpochs::new();
            let mut log: Vec<i32> = Vec::new();
            let mut epoch = 0;
            for (step, records) in runs {
                epoch += step;
                for _ in 0..records {
                    list.assign(LeaderEpoch(epoch), Offset(log.len() as i64)).expect("rising");
                    log.push(epoch);
                }
            }
            let end = keep_to.min(log.len() as i64);
            list.truncate_from_end(Offset(end));
            log.truncate(end as usize);
            let start = keep_from.min(end);
            list.truncate_from_start(Offset(start));
            let read_back = LeaderEpochs::decode_checkpoint(list.encode_checkpoint().as_bytes());
            prop_assert_eq!(read_back.as_ref(), Ok(&list));
            for offset in start..end {
                prop_assert_eq!(
                    list.epoch_at(Offset(offset)), Some(LeaderEpoch(log[offset as usize]))
                );
            }
            if start < end {
                for asked in 0..epoch + 2 {
                    let known = log[start as usize..].iter().filter(|e| **e <= asked).max();
                    let expected = known.map(|&known| {
                        let last = log.iter().rposition(|e| *e == known).expect("it is in it");
                        (LeaderEpoch(known), Offset(last as i64 + 1))
                    });
                    prop_assert_eq!(list.end_of(LeaderEpoch(asked), Offset(end)), expected);
                }
            }
        }

        #[test]
        fn reading_a_checkpoint_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = LeaderEpochs::decode_checkpoint(&bytes);
        }
    }
}
