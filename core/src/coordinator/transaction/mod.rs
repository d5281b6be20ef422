//! Transactions: who may write in the name of a transactional id, and how its transactions end.
//!
//! One [`TransactionCoordinator`] serves one partition of `__transaction_state`. It is asked by
//! [`handle`](TransactionCoordinator::handle) and woken by [`on_timer`](TransactionCoordinator::on_timer); it
//! appends by [`TransactionLog`], takes its own records in at once, hands out each reply by
//! [`poll_reply`](TransactionCoordinator::poll_reply) when everything is committed that it may rest on, and
//! says by [`poll_action`](TransactionCoordinator::poll_action) what it wants done. A new one replays the log,
//! record by record, and is then [`loaded`](TransactionCoordinator::loaded). If the log was lost or cut,
//! [`unload`](TransactionCoordinator::unload) ends it and the log is replayed anew; nothing is patched back.
//!
//! A transaction ends in two steps. The record that decides (`PrepareCommit`, `PrepareAbort`) is the end: it
//! holds once it is committed. Then each partition gets its marker, however often that must be tried, and a
//! second record (`CompleteCommit`, `CompleteAbort`) says that all have it.
//!
//! This module opens no log, sends no frame and reads no clock.
//!
//! Invariants:
//! 1. What is [`stored`](TransactionCoordinator::replicated_digest) is a function of the records applied, in
//!    order, live as in replay.
//! 2. No reply leaves before the records that it may rest on are committed, but one that is
//!    [released](TransactionCoordinator::release).
//! 3. The first deciding record of a transaction wins: nothing that is asked later changes how it ends.
//! 4. A marker is sent only when the record that decided is committed, or where the log
//!    [precedes](TransactionLog::precedes) the partition's, and a transaction is complete only when every
//!    partition has its marker, or is gone.
//! 5. Epochs of a producer id only rise, and none above 32,766 is given to a producer.
//! 6. Whatever is open ends by itself: at its timeout at the latest, and its markers are tried for ever.
//!
//! Sources: Kafka protocol guide; KIP-98, 360, 447, 664, 890; the behaviour of Apache Kafka 4.3.

pub mod api;
mod cleaning;
pub mod config;
mod decide;
mod end;
mod expiration;
pub mod fuzz;
mod init;
mod markers;
mod partitions;
mod pattern;
mod replies;
mod report;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

pub use self::api::{Action, LogRecord, MarkerId, Request, Response, Ticket, TransactionLog};
pub use self::config::TransactionConfig;
pub use self::pattern::Pattern;
pub use self::report::{MissingMarker, TransactionView};
pub use crate::coordinator::group::partition_of;

use self::decide::Decision;
use self::init::ProducerIds;
use self::markers::Ending;
use self::replies::Replies;
use self::stored::Stored;
use crate::coordinator::timers;
use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::{Offset, ProducerId};
use crate::io::Mark;
use crate::time::{Instant, Now};
use crate::wire::transaction_record::{TransactionRecord, TransactionStatus};
use crate::wire::{DecodeError, KafkaString};

/// Most records that are appended at once where nobody asked for one batch, and most bytes of them; one record
/// always goes.
const RECORDS_PER_APPEND: usize = 1_000;
const BYTES_PER_APPEND: usize = 64 << 10;

/// Why a coordinator wants to be woken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    /// Whoever waits for the end of the transaction that was decided there has waited long enough.
    Answer(Offset),
    /// The log is to be asked again to take in that this transaction is complete.
    Complete(Offset),
    /// A marker is to be sent again.
    Marker(MarkerId),
    /// A transaction has been open for its timeout.
    Timeout(KafkaString),
    /// Transactional ids that are past their expiration are to be looked for.
    Expiration,
}

type Timers = timers::Timers<Timer>;

/// What a decision may use.
struct Cx<'a> {
    now: Now,
    log: &'a mut dyn TransactionLog,
}

/// The coordinator of the transactional ids that one partition of `__transaction_state` keeps.
#[derive(Clone, Debug)]
pub struct TransactionCoordinator {
    config: Arc<TransactionConfig>,
    is_loaded: bool,
    coordinator_epoch: i32,
    stored: Stored,
    /// Transactions that are decided and not complete, by the place of the record that decided.
    endings: BTreeMap<Offset, Ending>,
    /// What was decided below is committed and known to be: its markers are sent, as may be those of what was
    /// decided later.
    started_to: Offset,
    actions: VecDeque<Action>,
    producer_ids: ProducerIds,
    timers: Timers,
    replies: Replies,
    /// Where the search for what is past its expiration goes on.
    expiration_from: Option<KafkaString>,
    /// The first record of a purpose that is not known here; the log is kept from there on.
    first_unknown: Option<Offset>,
    /// Where the log may start once it is committed up to the first offset.
    cleaned: Option<(Offset, Offset)>,
}

impl TransactionCoordinator {
    /// Makes a coordinator that has not read its log. Until it is [`loaded`](Self::loaded) it answers
    /// `COORDINATOR_LOAD_IN_PROGRESS`.
    pub fn new(config: Arc<TransactionConfig>) -> Self {
        Self {
            config,
            is_loaded: false,
            coordinator_epoch: -1,
            stored: Stored::default(),
            endings: BTreeMap::new(),
            started_to: Offset::ZERO,
            actions: VecDeque::new(),
            producer_ids: ProducerIds::default(),
            timers: Timers::default(),
            replies: Replies::default(),
            expiration_from: None,
            first_unknown: None,
            cleaned: None,
        }
    }

    /// Takes in the record at `offset` while loading. Records come in the order of the log; control records
    /// are left out. A kind that is not known is passed over with a note.
    ///
    /// # Errors
    /// [`DecodeError`] where a record of a known kind cannot be read. The log must not be served then: a
    /// decision would be missing.
    pub fn replay(
        &mut self,
        offset: Offset,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), DecodeError> {
        assert!(!self.is_loaded, "a log is replayed before it is served");
        match TransactionRecord::decode(key, value)? {
            Some(record) => self.stored.apply(offset, &record),
            None => {
                if self.first_unknown.is_none() {
                    tracing::info!(%offset, "a record of an unknown kind is passed over and kept");
                    self.first_unknown = Some(offset);
                }
            }
        }
        Ok(())
    }

    /// Begins to serve, as the leader of `coordinator_epoch`: the log was replayed up to `log_end_offset`, and
    /// is committed up to `high_watermark`. Open transactions have their whole timeout again; those that were
    /// decided get their markers, all of them, once the decision is committed.
    pub fn loaded(
        &mut self,
        now: Now,
        log: &mut dyn TransactionLog,
        coordinator_epoch: i32,
        log_end_offset: Offset,
        high_watermark: Offset,
    ) {
        assert!(!self.is_loaded, "a coordinator is loaded once");
        self.is_loaded = true;
        self.coordinator_epoch = coordinator_epoch;
        self.replies.rest_on(log_end_offset);
        let ids: Vec<KafkaString> = self.stored.transactions().keys().cloned().collect();
        for id in ids {
            self.follow(now, &id, None);
        }
        self.timers.set(Timer::Expiration, now.mono + self.config.id_expiration_check_interval);
        // All of it may have been committed while it was read: what was decided before is ended all the same.
        self.replies.committed(high_watermark);
        self.start_endings(&mut Cx { now, log });
    }

    /// Decides a request. Its reply, and those of others that waited for it, come from
    /// [`poll_reply`](Self::poll_reply).
    pub fn handle(
        &mut self,
        now: Now,
        log: &mut dyn TransactionLog,
        ticket: Ticket,
        request: &Request,
    ) {
        if !self.is_loaded {
            let refused = request.refused(ErrorCode::CoordinatorLoadInProgress);
            self.replies.push(ticket, refused);
            return;
        }
        let cx = &mut Cx { now, log };
        match request {
            Request::InitProducerId(request) => self.init_producer_id(cx, ticket, request),
            Request::AddPartitionsToTxn(request) => self.add_partitions(cx, ticket, request),
            Request::AddOffsetsToTxn(request) => self.add_offsets(cx, ticket, request),
            Request::EndTxn(request) => self.end_txn(cx, ticket, request),
            Request::DescribeTransaction(request) => self.describe(ticket, request),
            Request::ListTransactions(request) => self.list(cx.now, ticket, request),
            Request::AbortTransaction(request) => self.abort_transaction(cx, ticket, request),
        }
    }

    /// Lets the reply to a request leave at once that was just [handled](Self::handle), if it says that
    /// partitions are in a transaction. Whoever asks so writes to a log that this one
    /// [precedes](TransactionLog::precedes), and tells nobody before that is durable.
    pub fn release(&mut self, ticket: Ticket) {
        self.replies.release(ticket);
    }

    /// Notes that every record below `up_to` is committed.
    pub fn on_committed(&mut self, now: Now, log: &mut dyn TransactionLog, up_to: Offset) {
        let before = self.replies.high_watermark();
        self.replies.committed(up_to);
        if !self.is_loaded || up_to <= before {
            return;
        }
        self.start_endings(&mut Cx { now, log });
    }

    /// Returns when the coordinator wants to be woken.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// Does what is due.
    pub fn on_timer(&mut self, now: Now, log: &mut dyn TransactionLog) {
        let cx = &mut Cx { now, log };
        while let Some(timer) = self.timers.pop(now.mono) {
            match timer {
                Timer::Answer(decided_at) => self.answer_waiting(decided_at),
                Timer::Complete(decided_at) => self.complete(cx, decided_at),
                Timer::Marker(id) => self.send_marker(cx, id),
                Timer::Timeout(id) => self.on_timeout(cx, id),
                Timer::Expiration => {
                    self.on_expiration_turn(cx);
                    // The rest of a long search waits for the next call.
                    break;
                }
            }
        }
    }

    /// Takes the next reply that may leave.
    pub fn poll_reply(&mut self) -> Option<(Ticket, Response)> {
        self.replies.pop()
    }

    /// Takes the next thing that the coordinator wants done.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.producer_ids.ask() {
            return Some(Action::WantProducerId);
        }
        self.actions.pop_front()
    }

    /// Ends the coordinator; everyone who has no reply yet is told `NOT_COORDINATOR`.
    pub fn unload(mut self) -> Vec<(Ticket, Response)> {
        let error = ErrorCode::NotCoordinator;
        let held = self.replies.drain();
        let mut out: Vec<(Ticket, Response)> =
            held.map(|(ticket, response)| (ticket, response.refused(error))).collect();
        for (ticket, response) in self.endings.into_values().flat_map(|ending| ending.waiting) {
            out.push((ticket, response.refused(error)));
        }
        out.extend(self.producer_ids.refuse_all(error));
        out
    }

    /// Returns the digest of what is stored: equal for two coordinators that have taken in the same log.
    pub fn replicated_digest(&self) -> u64 {
        let mut digest = Digest::default();
        self.stored.digest(&mut digest);
        digest.finish()
    }

    /// Takes the whole state into a digest, who waits and the timers included.
    pub fn digest(&self, digest: &mut Digest) {
        self.stored.digest(digest);
        digest.number(u64::from(self.is_loaded)).signed(i64::from(self.coordinator_epoch));
        digest.shown(&self.endings).shown(&self.actions).shown(&self.producer_ids);
        digest.shown(&(&self.timers, &self.replies, self.started_to));
        digest.shown(&(&self.expiration_from, self.first_unknown, self.cleaned));
    }

    /// Stores a decision about a transactional id, and returns where its record stands.
    fn store(
        &mut self,
        cx: &mut Cx<'_>,
        id: &KafkaString,
        decision: &Decision,
    ) -> Result<Offset, ErrorCode> {
        let is_known = self.stored.transaction(id).is_some();
        let base = self.append(cx, &[decision.next.to_record(id)])?;
        if decision.takes_id {
            if is_known {
                cx.log.mark(Mark::ProducerEpochsUsedUp);
            }
            self.producer_ids.take();
        }
        Ok(base)
    }

    /// Appends the records as one batch, takes them in, and does what follows from them.
    fn append(
        &mut self,
        cx: &mut Cx<'_>,
        records: &[TransactionRecord],
    ) -> Result<Offset, ErrorCode> {
        let encoded: Vec<LogRecord> = records
            .iter()
            .map(|record| {
                let (key, value) = record.encode();
                LogRecord { key, value }
            })
            .collect();
        let base = cx.log.append(&encoded)?;
        assert!(base >= self.replies.end(), "a coordinator's log grows at its end");
        self.replies.rest_on(base.plus(records.len() as i64));
        for (index, record) in records.iter().enumerate() {
            let id = &record.key.transactional_id;
            let before = self.stored.transaction(id).map(|transaction| transaction.status);
            self.stored.apply(base.plus(index as i64), record);
            self.follow(cx.now, id, before);
        }
        Ok(base)
    }

    /// Begins and ends what goes with a state: the clock of an open transaction, the markers of one that is
    /// decided.
    fn follow(&mut self, now: Now, id: &KafkaString, before: Option<TransactionStatus>) {
        let Some(transaction) = self.stored.transaction(id) else { return };
        let (status, at) = (transaction.status, transaction.at);
        if before == Some(status) {
            return;
        }
        if status == TransactionStatus::Ongoing {
            let timeout = u64::try_from(transaction.timeout_ms).unwrap_or(0);
            let timeout = std::time::Duration::from_millis(timeout);
            self.timers.set(Timer::Timeout(id.detached()), now.mono + timeout);
        } else if before == Some(TransactionStatus::Ongoing) {
            self.timers.cancel(&Timer::Timeout(id.clone()));
        }
        if transaction.is_preparing() {
            self.endings.insert(at, Ending::new(id.detached()));
        }
    }

    /// Gives the producer id that [`Action::WantProducerId`] asked for, or says why there is none; whoever
    /// waited for it is then told to come again.
    pub fn give_producer_id(
        &mut self,
        now: Now,
        log: &mut dyn TransactionLog,
        id: Result<ProducerId, ErrorCode>,
    ) {
        self.on_producer_id(&mut Cx { now, log }, id);
    }
}

/// Returns how many of the records one append takes: at most `most`, and as many as fit its bytes.
fn fitting(records: &[TransactionRecord], most: usize) -> usize {
    let mut bytes = 0;
    let over = records.iter().take(most).position(|record| {
        let (key, value) = record.encode();
        bytes += key.len() + value.map_or(0, |value| value.len());
        bytes > BYTES_PER_APPEND
    });
    over.unwrap_or_else(|| records.len().min(most)).max(1)
}
