//! Fetch sessions: what a client reads, remembered between its fetches, so that it names only what
//! changes and is answered only what changed (KIP-227).
//!
//! A session belongs to a shard and outlives its connection. It knows nothing of logs, and decides
//! nothing about what is read.
//!
//! Invariants:
//! 1. Sessions are bounded in number and in bytes; a client that gets none is served all the same.
//! 2. A request of a session is taken only with the epoch that follows the one before.
//! 3. A partition that brought records goes behind all others, so that none starves.
//!
//! Source: KIP-227; Apache Kafka 4.3's eviction rules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::Uuid;
use crate::time::Instant;
use crate::wire::KafkaString;

/// What a session of one partition takes in memory, about, its topic's name excepted.
const PARTITION_BYTES: usize = 320;
/// A session that was not used for so long is closed for a new one; one that has lived for so long
/// makes place for a larger one (`min.incremental.fetch.session.eviction.ms`).
const EVICTION_AGE: Duration = Duration::from_mins(2);

/// The epoch with which a client asks for a session.
pub(in crate::broker) const INITIAL_EPOCH: i32 = 0;
/// The epoch with which a client asks without a session.
pub(in crate::broker) const FINAL_EPOCH: i32 = -1;
/// The id of no session.
pub(in crate::broker) const NO_SESSION: i32 = 0;

/// Names a partition as the client does: by the topic's name or by its id, the other is empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::broker) struct Key {
    pub(in crate::broker) topic: KafkaString,
    pub(in crate::broker) topic_id: Uuid,
    pub(in crate::broker) partition: i32,
}

/// What a client asks of one partition.
#[derive(Clone, Debug)]
pub(in crate::broker) struct Asked {
    pub(in crate::broker) key: Key,
    pub(in crate::broker) fetch_offset: i64,
    pub(in crate::broker) max_bytes: i32,
    pub(in crate::broker) current_leader_epoch: i32,
    pub(in crate::broker) last_fetched_epoch: i32,
    /// Where the log of the follower begins, -1 for a client.
    pub(in crate::broker) log_start_offset: i64,
}

/// What a partition was answered, as far as the next answer depends on it.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) struct Told {
    pub(in crate::broker) high_watermark: i64,
    pub(in crate::broker) log_start_offset: i64,
    pub(in crate::broker) has_records: bool,
    /// An error, or a log that parts from the client's.
    pub(in crate::broker) is_refused: bool,
}

/// A partition's place in the order of its session.
pub(in crate::broker) type Place = u64;

#[derive(Clone, Debug)]
struct Cached {
    asked: Asked,
    high_watermark: i64,
    log_start_offset: i64,
}

/// One session.
#[derive(Clone, Debug)]
pub(in crate::broker) struct FetchSession {
    epoch: i32,
    by_id: bool,
    created: Instant,
    last_used: Instant,
    order: BTreeMap<Place, Cached>,
    places: BTreeMap<Key, Place>,
    next_place: Place,
    bytes: usize,
}

impl FetchSession {
    /// Makes a session without partitions, which names topics by id or by name.
    pub(in crate::broker) const fn new(now: Instant, by_id: bool) -> Self {
        Self {
            epoch: 1,
            by_id,
            created: now,
            last_used: now,
            order: BTreeMap::new(),
            places: BTreeMap::new(),
            next_place: 0,
            bytes: 0,
        }
    }

    /// Adds a partition behind all others, or changes what is asked of it.
    pub(in crate::broker) fn ask(&mut self, asked: Asked) -> Place {
        if let Some(&place) = self.places.get(&asked.key)
            && let Some(cached) = self.order.get_mut(&place)
        {
            cached.asked = asked;
            return place;
        }
        self.bytes += size(&asked.key);
        self.append(Cached { asked, high_watermark: -1, log_start_offset: -1 })
    }

    fn append(&mut self, cached: Cached) -> Place {
        let place = self.next_place;
        self.next_place += 1;
        self.places.insert(cached.asked.key.clone(), place);
        self.order.insert(place, cached);
        place
    }

    fn forget(&mut self, key: &Key) {
        if let Some(place) = self.places.remove(key) {
            self.order.remove(&place);
            self.bytes -= size(key);
        }
    }

    /// Returns its partitions in order.
    fn partitions(&self) -> Vec<(Place, Asked)> {
        self.order.iter().map(|(&place, cached)| (place, cached.asked.clone())).collect()
    }

    /// Takes note of what a partition is about to be told. Returns whether it must be told at all:
    /// records, an error, or a high watermark or log start other than told before.
    pub(in crate::broker) fn tell(&mut self, place: Place, told: Told) -> bool {
        let Some(cached) = self.order.get_mut(&place) else { return false };
        let is_news = cached.high_watermark != told.high_watermark
            || cached.log_start_offset != told.log_start_offset;
        // After an error the high watermark is told again.
        cached.high_watermark = if told.is_refused { -1 } else { told.high_watermark };
        cached.log_start_offset = told.log_start_offset;
        if told.has_records
            && let Some(cached) = self.order.remove(&place)
        {
            self.append(cached);
        }
        is_news || told.has_records || told.is_refused
    }

    /// Takes note of what a partition is told by the answer that opens the session; order stays.
    pub(in crate::broker) fn told_first(&mut self, place: Place, told: Told) {
        if let Some(cached) = self.order.get_mut(&place) {
            cached.high_watermark = told.high_watermark;
            cached.log_start_offset = told.log_start_offset;
        }
    }

    fn len(&self) -> usize {
        self.order.len()
    }
}

/// The sessions of a shard.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct FetchSessions {
    sessions: BTreeMap<i32, FetchSession>,
    by_last_used: BTreeSet<(Instant, i32)>,
    bytes: usize,
}

/// How many sessions there may be, and how large they may be together.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) struct SessionBounds {
    pub(in crate::broker) sessions: usize,
    pub(in crate::broker) bytes: usize,
}

impl FetchSessions {
    /// Opens a session and returns its id, or [`NO_SESSION`] where none can be had.
    ///
    /// With the table full, the one that was not used for longest goes if that was two minutes ago;
    /// else the smallest of those that have lived for two minutes, if it is smaller than this one.
    pub(in crate::broker) fn open(
        &mut self,
        now: Instant,
        session: FetchSession,
        bounds: SessionBounds,
        mut random: impl FnMut() -> i32,
    ) -> i32 {
        if session.bytes > bounds.bytes || bounds.sessions == 0 {
            return NO_SESSION;
        }
        while self.sessions.len() >= bounds.sessions || self.bytes + session.bytes > bounds.bytes {
            let Some(id) = self.evictable(now, session.len()) else { return NO_SESSION };
            self.close(id);
        }
        let mut id = random();
        while id <= NO_SESSION || self.sessions.contains_key(&id) {
            id = random();
        }
        self.bytes += session.bytes;
        self.by_last_used.insert((now, id));
        self.sessions.insert(id, FetchSession { last_used: now, ..session });
        id
    }

    fn evictable(&self, now: Instant, size: usize) -> Option<i32> {
        let &(last_used, id) = self.by_last_used.first()?;
        if now.since(last_used) > EVICTION_AGE {
            return Some(id);
        }
        self.sessions
            .iter()
            .filter(|(_, session)| now.since(session.created) > EVICTION_AGE)
            .map(|(&id, session)| (session.len(), id))
            .min()
            .filter(|&(smallest, _)| smallest < size)
            .map(|(_, id)| id)
    }

    /// Closes a session, if there is one.
    pub(in crate::broker) fn close(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.by_last_used.remove(&(session.last_used, id));
            self.bytes -= session.bytes;
        }
    }

    /// Goes on with a session: takes what changes and returns all that is asked for, in order.
    /// `None` where nothing is left of it, and it is closed.
    ///
    /// # Errors
    /// `FETCH_SESSION_ID_NOT_FOUND` 70, also for one that has grown too large;
    /// `INVALID_FETCH_SESSION_EPOCH` 71; `FETCH_SESSION_TOPIC_ID_ERROR` 106 where one that names
    /// topics by id goes on by name, or the reverse.
    pub(in crate::broker) fn resume(
        &mut self,
        now: Instant,
        (id, epoch): (i32, i32),
        by_id: bool,
        bounds: SessionBounds,
        (asked, forgotten): (Vec<Asked>, Vec<Key>),
    ) -> Result<Option<Vec<(Place, Asked)>>, ErrorCode> {
        let session = self.sessions.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        let before = session.bytes;
        for asked in asked {
            session.ask(asked);
        }
        for key in &forgotten {
            session.forget(key);
        }
        session.epoch = next_epoch(epoch);
        self.by_last_used.remove(&(session.last_used, id));
        session.last_used = now;
        self.by_last_used.insert((now, id));
        self.bytes = self.bytes - before + session.bytes;
        if session.len() == 0 {
            self.close(id);
            return Ok(None);
        }
        if self.bytes > bounds.bytes {
            self.close(id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        Ok(Some(session.partitions()))
    }

    /// Returns the session of a request that came with that epoch, if no later one has come.
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    pub(in crate::broker) fn answering(
        &mut self,
        id: i32,
        epoch: i32,
    ) -> Result<&mut FetchSession, ErrorCode> {
        let session = self.sessions.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch == next_epoch(epoch) {
            Ok(session)
        } else {
            Err(ErrorCode::InvalidFetchSessionEpoch)
        }
    }

    /// Takes the sessions into a digest.
    pub(in crate::broker) fn digest(&self, digest: &mut Digest) {
        digest.number(self.bytes as u64);
        for (&id, session) in &self.sessions {
            digest
                .signed(i64::from(id))
                .signed(i64::from(session.epoch))
                .number(session.next_place)
                .number(session.len() as u64);
        }
    }

    #[cfg(test)]
    pub(in crate::broker) fn ids(&self) -> Vec<i32> {
        self.sessions.keys().copied().collect()
    }
}

const fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

fn size(key: &Key) -> usize {
    PARTITION_BYTES + key.topic.as_str().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: SessionBounds = SessionBounds { sessions: 2, bytes: 10_000 };

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn asked(partition: i32) -> Asked {
        Asked {
            key: Key { topic: "t".into(), topic_id: Uuid::ZERO, partition },
            fetch_offset: 0,
            max_bytes: 1,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            log_start_offset: -1,
        }
    }

    fn session(now: Instant, partitions: i32) -> FetchSession {
        let mut session = FetchSession::new(now, false);
        for partition in 0..partitions {
            session.ask(asked(partition));
        }
        session
    }

    fn open(sessions: &mut FetchSessions, now: Instant, partitions: i32) -> i32 {
        let mut next = sessions.ids().last().copied().unwrap_or(0);
        sessions.open(now, session(now, partitions), BOUNDS, || {
            next += 1;
            next
        })
    }

    fn quiet(high_watermark: i64) -> Told {
        Told { high_watermark, log_start_offset: 0, has_records: false, is_refused: false }
    }

    #[test]
    fn only_news_is_told_and_errors_each_time() {
        let mut session = session(at(0), 1);
        assert!(session.tell(0, quiet(5)));
        assert!(!session.tell(0, quiet(5)));
        assert!(session.tell(0, Told { log_start_offset: 3, ..quiet(5) }));
        assert!(!session.tell(0, Told { log_start_offset: 3, ..quiet(5) }));
        let refused = Told { log_start_offset: -1, is_refused: true, ..quiet(-1) };
        assert!(session.tell(0, refused));
        assert!(session.tell(0, refused));
        assert!(session.tell(0, Told { log_start_offset: 3, ..quiet(5) }), "told again");
        assert!(!session.tell(9, quiet(5)), "no such place");
    }

    #[test]
    fn what_brought_records_goes_behind_all_others() {
        let mut session = session(at(0), 3);
        let order = |session: &FetchSession| -> Vec<i32> {
            session.partitions().iter().map(|(_, asked)| asked.key.partition).collect()
        };
        session.tell(0, Told { has_records: true, ..quiet(5) });
        session.tell(1, quiet(5));
        assert_eq!(order(&session), [1, 2, 0]);
        session.ask(asked(1));
        assert_eq!(order(&session), [1, 2, 0], "a change of what is asked changes no order");
        session.ask(asked(7));
        assert_eq!(order(&session), [1, 2, 0, 7]);
    }

    #[test]
    fn the_idle_and_then_the_smaller_make_place_for_a_new_one() {
        let mut sessions = FetchSessions::default();
        let (small, large) = (open(&mut sessions, at(0), 1), open(&mut sessions, at(1), 3));
        assert_eq!(open(&mut sessions, at(2), 9), NO_SESSION, "both are young");
        let none = || (Vec::new(), Vec::new());
        for id in [small, large] {
            let resumed = sessions.resume(at(120), (id, 1), false, BOUNDS, none());
            assert!(resumed.expect("there").is_some());
        }
        assert_eq!(open(&mut sessions, at(122), 1), NO_SESSION, "no smaller one");
        let next = open(&mut sessions, at(122), 2);
        assert_eq!(sessions.ids(), [large, next]);
        let last = open(&mut sessions, at(241), 1);
        assert_eq!(sessions.ids(), [next, last], "unused since second 120");
        sessions.close(next);
        sessions.close(last);
        assert_eq!((sessions.bytes, sessions.by_last_used.len()), (0, 0));
    }

    #[test]
    fn sessions_are_bounded_in_bytes() {
        let mut sessions = FetchSessions::default();
        assert_eq!(open(&mut sessions, at(0), 40), NO_SESSION);
        let id = open(&mut sessions, at(0), 20);
        assert_ne!(id, NO_SESSION);
        assert_eq!(open(&mut sessions, at(0), 20), NO_SESSION, "there is no room for two");
        let more = (20..40).map(asked).collect();
        let grown = sessions.resume(at(1), (id, 1), false, BOUNDS, (more, Vec::new()));
        assert_eq!(grown.err(), Some(ErrorCode::FetchSessionIdNotFound));
        assert_eq!((sessions.bytes, sessions.ids().len()), (0, 0));
    }

    #[test]
    fn a_session_goes_on_with_the_next_epoch_alone() {
        let mut sessions = FetchSessions::default();
        let id = open(&mut sessions, at(0), 2);
        let mut resume = |id, epoch, by_id, forgotten: &[i32]| {
            let forgotten = forgotten.iter().map(|&p| asked(p).key).collect();
            let changes = (Vec::new(), forgotten);
            let resumed = sessions.resume(at(1), (id, epoch), by_id, BOUNDS, changes);
            resumed.map(|partitions| partitions.map(|partitions| partitions.len()))
        };
        assert_eq!(resume(id + 1, 1, false, &[]), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(resume(id, 2, false, &[]), Err(ErrorCode::InvalidFetchSessionEpoch));
        assert_eq!(resume(id, 1, true, &[]), Err(ErrorCode::FetchSessionTopicIdError));
        assert_eq!(resume(id, 1, false, &[]), Ok(Some(2)));
        assert_eq!(resume(id, 1, false, &[]), Err(ErrorCode::InvalidFetchSessionEpoch));
        assert_eq!(resume(id, 2, false, &[0]), Ok(Some(1)));
        assert_eq!(resume(id, 3, false, &[1]), Ok(None), "nothing is left");
        assert_eq!(resume(id, 4, false, &[]), Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(next_epoch(i32::MAX), 1);
    }
}
