//! What a replica that follows serves to clients of its rack (KIP-392).
//!
//! Never before the leader has told it in this epoch how far all is committed, since who stops at the end would stop
//! too early; never anything beyond the high watermark that its leader has told it, nor of a topic with features: which of its
//! batches are for clients the leader alone knows. Who cannot be served is sent back to the leader.

use bytes::Bytes;

use crate::broker::post::{FetchItem, FetchRefusal, Fetched};
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, Offset};
use crate::log::LogStore;
use crate::partition::Follower;
use crate::partition::leader::Reading;

impl Follower {
    fn check_fetch(&self, item: &FetchItem, log: &LogStore) -> Result<(), FetchRefusal> {
        let known = item.current_leader_epoch;
        // What it knew before its leader's epoch may be little: after a start, nothing.
        let refused = if !item.may_follow
            || !self.agrees
            || item.replica.is_some()
            || self.config().features.is_some()
            || item.last_fetched_epoch != LeaderEpoch::UNKNOWN
        {
            ErrorCode::NotLeaderOrFollower
        } else if known != LeaderEpoch::UNKNOWN && known < self.leader_epoch() {
            ErrorCode::FencedLeaderEpoch
        } else if known > self.leader_epoch() {
            ErrorCode::UnknownLeaderEpoch
        } else {
            return match (log.log_start_offset(self.id), log.log_end_offset(self.id)) {
                (Some(start), Some(end)) if (start..=end).contains(&item.offset) => Ok(()),
                (Some(_), Some(_)) => Err(FetchRefusal::Code(ErrorCode::OffsetOutOfRange)),
                _ => Err(FetchRefusal::Code(ErrorCode::NotLeaderOrFollower)),
            };
        };
        Err(FetchRefusal::Code(refused))
    }

    fn readable_end(&self, item: &FetchItem, log: &LogStore) -> Offset {
        if item.read_committed { self.last_stable_offset(log) } else { self.high_watermark() }
    }

    fn last_stable_offset(&self, log: &LogStore) -> Offset {
        log.last_stable_offset(self.id, self.high_watermark())
    }

    /// Returns how many bytes a client's fetch would find, counted up to what it may take.
    ///
    /// # Errors
    /// [`FetchRefusal`], which answers the whole fetch at once.
    pub fn readable(&self, item: &FetchItem, log: &LogStore) -> Result<u64, FetchRefusal> {
        self.check_fetch(item, log)?;
        let end = self.readable_end(item, log);
        if item.offset >= end {
            return Ok(0);
        }
        Ok(log.readable_bytes(self.id, item.offset, end, item.max_bytes))
    }

    /// Reads what a client's fetch may have.
    ///
    /// # Errors
    /// [`FetchRefusal`].
    pub fn read(&self, item: &FetchItem, log: &LogStore) -> Result<Reading, FetchRefusal> {
        self.check_fetch(item, log)?;
        let start = log.log_start_offset(self.id).unwrap_or(Offset::ZERO);
        let fetched = Fetched {
            // A log that has just begun anew may not know yet that what was before its start is committed.
            high_watermark: self.high_watermark().max(start),
            last_stable_offset: self.last_stable_offset(log).max(start),
            log_start_offset: start,
            records: Vec::new(),
            aborted: item.read_committed.then(Vec::new),
        };
        Reading::up_to(self.readable_end(item, log), item, fetched, log).map_err(at_leader)
    }

    /// Takes what was read from a file for a client.
    ///
    /// # Errors
    /// [`FetchRefusal`].
    pub fn read_on(
        &self,
        item: &FetchItem,
        mut fetched: Fetched,
        parts: Vec<Bytes>,
        log: &LogStore,
    ) -> Result<Reading, FetchRefusal> {
        self.check_fetch(item, log)?;
        fetched.records = parts;
        fetched.with_aborted(item, log).map(Reading::Done).map_err(at_leader)
    }
}

/// What this replica has lost of transactions the leader may know.
fn at_leader(refusal: FetchRefusal) -> FetchRefusal {
    match refusal {
        FetchRefusal::Code(code) if code != ErrorCode::OffsetOutOfRange => {
            FetchRefusal::Code(ErrorCode::NotLeaderOrFollower)
        }
        FetchRefusal::Code(_)
        | FetchRefusal::OutOfRange { .. }
        | FetchRefusal::Diverging { .. }
        | FetchRefusal::Near { .. } => refusal,
    }
}
