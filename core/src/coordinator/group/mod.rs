//! Consumer groups of the classic protocol, and committed offsets.
//!
//! One [`GroupCoordinator`] serves one partition of `__consumer_offsets`. It is asked by
//! [`handle`](GroupCoordinator::handle) and woken by [`on_timer`](GroupCoordinator::on_timer); it
//! appends by [`GroupLog`], takes its own records in at once, and hands out each reply by
//! [`poll_reply`](GroupCoordinator::poll_reply) when everything is committed that it may rest on. A
//! new one replays the log, record by record and marker by marker, and is then
//! [`loaded`](GroupCoordinator::loaded). Markers are the only part of its log that others write:
//! [`on_marker`](GroupCoordinator::on_marker) takes one in, live as in replay.
//! If the log was lost or cut, [`unload`](GroupCoordinator::unload) ends it and the log is replayed
//! anew; nothing is patched back.
//!
//! This module opens no log, sends no frame and reads no clock.
//!
//! Invariants:
//! 1. What is [`stored`](GroupCoordinator::replicated_digest) is a function of the records applied,
//!    in order, live as in replay.
//! 2. No reply leaves before the records that were applied before it are committed, and replies
//!    leave in the order of the decisions.
//! 3. A stored offset changes by an accepted commit, the marker that commits a staged one, a deletion
//!    or its retention, and by nothing else. A commit is accepted from a member of the current
//!    generation, or from nobody while the group is empty; as part of a transaction also from whoever
//!    does not say that it is a member. Of commits to one offset the later record in the log counts.
//! 4. All assignments that are handed out in one generation come from one `SyncGroup` of its leader.
//! 5. `members_bytes` is the sum of what the groups' members take.
//! 6. Whoever waits is answered within the rebalance timeout, or its own session.
//! 7. Copy-forward copies no offset that an open transaction has staged, and keeps the log from the
//!    first record of every open transaction on.
//!
//! Sources: Kafka protocol guide; KIP-62, 98, 134, 211, 345, 394, 429, 447, 735, 800, 814; the
//! behaviour of Apache Kafka 4.3.

pub mod api;
mod cleaning;
pub mod config;
pub mod fuzz;
mod groups;
mod join;
mod live;
mod membership;
mod offsets;
pub mod placement;
mod replies;
mod report;
mod retention;
mod staged;
mod stored;
mod sync;
#[cfg(test)]
mod tests;
mod timers;
mod transactional;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

pub use api::{
    GroupLog, LogRecord, Request, Response, Ticket, TransactionalProducer, VisibleOffset,
};
pub use config::GroupConfig;
pub use placement::partition_of;

use self::live::{Group, GroupPhase};
use self::replies::Replies;
use self::retention::DeletedTopics;
use self::stored::Stored;
use self::timers::{Timer, Timers};
use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::{Offset, TopicId};
use crate::time::{Instant, Now};
use crate::wire::group_record::GroupRecord;
use crate::wire::{DecodeError, KafkaString};

/// Most records that are appended at once where nobody asked for one batch, and most bytes of them;
/// one record always goes.
const RECORDS_PER_APPEND: usize = 1_000;
const BYTES_PER_APPEND: usize = 64 << 10;

/// What a decision may use.
struct Cx<'a> {
    now: Now,
    log: &'a mut dyn GroupLog,
}

/// The coordinator of the groups that one partition of `__consumer_offsets` keeps.
#[derive(Clone, Debug)]
pub struct GroupCoordinator {
    config: Arc<GroupConfig>,
    is_loaded: bool,
    stored: Stored,
    groups: BTreeMap<KafkaString, Group>,
    members_bytes: usize,
    timers: Timers,
    replies: Replies,
    deleted_topics: DeletedTopics,
    /// Where the search for what is past its retention goes on.
    retention_from: Option<KafkaString>,
    /// The first record of a purpose that is not known here; the log is kept from there on.
    first_unknown: Option<Offset>,
    /// Where the log may start once it is committed up to the first offset.
    cleaned: Option<(Offset, Offset)>,
}

impl GroupCoordinator {
    /// Makes a coordinator that has not read its log. Until it is [`loaded`](Self::loaded) it
    /// answers `COORDINATOR_LOAD_IN_PROGRESS`.
    pub fn new(config: Arc<GroupConfig>) -> Self {
        Self {
            config,
            is_loaded: false,
            stored: Stored::default(),
            groups: BTreeMap::new(),
            members_bytes: 0,
            timers: Timers::default(),
            replies: Replies::default(),
            deleted_topics: DeletedTopics::default(),
            retention_from: None,
            first_unknown: None,
            cleaned: None,
        }
    }

    /// Takes in the record at `offset` while loading. Records come in the order of the log; one that
    /// is part of a transaction comes by [`replay_transactional`](Self::replay_transactional), and a
    /// marker by [`on_marker`](Self::on_marker). A kind that is not known is passed over with a note.
    ///
    /// # Errors
    /// [`DecodeError`] where a record of a known kind cannot be read. The log must not be served
    /// then: an offset would be missing.
    pub fn replay(
        &mut self,
        offset: Offset,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), DecodeError> {
        self.replay_of(offset, None, key, value)
    }

    /// Takes in the record at `offset` of a transactional batch while loading, as
    /// [`replay`](Self::replay) does with those of others.
    ///
    /// # Errors
    /// As of [`replay`](Self::replay).
    pub fn replay_transactional(
        &mut self,
        offset: Offset,
        producer: TransactionalProducer,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), DecodeError> {
        self.replay_of(offset, Some(producer), key, value)
    }

    fn replay_of(
        &mut self,
        offset: Offset,
        producer: Option<TransactionalProducer>,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), DecodeError> {
        assert!(!self.is_loaded, "a log is replayed before it is served");
        match GroupRecord::decode(key, value)? {
            Some(GroupRecord::GroupMetadata(key, value)) => {
                let value = value.map(stored::detached);
                self.stored.apply(offset, producer, &GroupRecord::GroupMetadata(key, value));
            }
            Some(record) => self.stored.apply(offset, producer, &record),
            None => {
                if self.first_unknown.is_none() {
                    tracing::info!(%offset, "a record of an unknown kind is passed over and kept");
                    self.first_unknown = Some(offset);
                }
            }
        }
        Ok(())
    }

    /// Begins to serve: the log was replayed up to `log_end_offset`, and is committed up to
    /// `high_watermark`. Stored members come back with a fresh session.
    pub fn loaded(
        &mut self,
        now: Now,
        log: &mut dyn GroupLog,
        log_end_offset: Offset,
        high_watermark: Offset,
    ) {
        assert!(!self.is_loaded, "a coordinator is loaded once");
        self.is_loaded = true;
        self.replies.rest_on(log_end_offset);
        self.replies.committed(high_watermark);
        self.groups = self
            .stored
            .groups()
            .iter()
            .map(|(id, stored)| (id.clone(), Group::from_record(&stored.value)))
            .collect();
        let cx = &mut Cx { now, log };
        let members: Vec<(KafkaString, KafkaString)> = self
            .groups
            .iter()
            .flat_map(|(id, group)| {
                group.members().keys().map(|member| (id.clone(), member.clone()))
            })
            .collect();
        for (group_id, member_id) in members {
            self.refresh_session(cx, &group_id, &member_id);
        }
        let most = self.config.members_max;
        let too_large: Vec<KafkaString> = self
            .groups
            .iter()
            .filter(|(_, group)| group.members().len() > most)
            .map(|(id, _)| id.clone())
            .collect();
        for group_id in too_large {
            self.prepare_rebalance(cx, &group_id);
        }
        self.members_bytes = self.groups.values().map(Group::bytes).sum();
        self.drop_offsets_of_deleted_topics(cx);
        let search = now.mono + self.config.offsets_retention_check_interval;
        self.timers.set(Timer::Retention, search);
    }

    /// Decides a request. Its reply, and those of others that waited for it, come from
    /// [`poll_reply`](Self::poll_reply).
    pub fn handle(&mut self, now: Now, log: &mut dyn GroupLog, ticket: Ticket, request: &Request) {
        if !self.is_loaded {
            // Sessions begin anew when the log is loaded, so a member need not worry.
            let error = if matches!(request, Request::Heartbeat(_)) {
                ErrorCode::None
            } else {
                ErrorCode::CoordinatorLoadInProgress
            };
            self.replies.push(ticket, request.refused(error));
            return;
        }
        let cx = &mut Cx { now, log };
        match request {
            Request::JoinGroup(request) => self.counted(&request.group_id, |this| {
                this.join_group(cx, ticket, request);
            }),
            Request::SyncGroup(request) => self.counted(&request.group_id, |this| {
                this.sync_group(cx, ticket, request);
            }),
            Request::Heartbeat(request) => self.heartbeat(cx, ticket, request),
            Request::LeaveGroup(request) => self.counted(&request.group_id, |this| {
                this.leave_group(cx, ticket, request);
            }),
            Request::OffsetCommit(request) => self.offset_commit(cx, ticket, request),
            Request::TxnOffsetCommit(request) => self.txn_offset_commit(cx, ticket, request),
            Request::OffsetFetch(request) => self.offset_fetch(ticket, request),
            Request::OffsetDelete(request) => self.offset_delete(cx, ticket, request),
            Request::DescribeGroup(request) => self.describe_group(ticket, request),
            Request::ListGroups(request) => self.list_groups(ticket, request),
            Request::DeleteGroup(request) => self.counted(&request.group_id, |this| {
                this.delete_group(cx, ticket, &request.group_id);
            }),
        }
    }

    /// Returns when the coordinator wants to be woken.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// Does what is due.
    pub fn on_timer(&mut self, now: Now, log: &mut dyn GroupLog) {
        let cx = &mut Cx { now, log };
        while let Some(timer) = self.timers.pop(now.mono) {
            match timer {
                Timer::Session(group_id, member_id) => {
                    self.counted(&group_id, |this| {
                        this.on_session_timeout(cx, &group_id, &member_id);
                    });
                }
                Timer::Join(group_id) => {
                    self.counted(&group_id, |this| this.on_join_timeout(cx, &group_id));
                }
                Timer::Sync(group_id) => {
                    self.counted(&group_id, |this| this.on_sync_timeout(cx, &group_id));
                }
                Timer::DeletedTopics => self.drop_offsets_of_deleted_topics(cx),
                Timer::Retention => {
                    self.on_retention_turn(cx);
                    // The rest of a long search waits for the next call.
                    break;
                }
            }
        }
    }

    /// Takes in that a topic was deleted. Its offsets are hidden from then on, and taken away when
    /// the coordinator is next woken, with those of every other topic that went until then; commits
    /// by its name from members that joined before are refused (`UNKNOWN_TOPIC_OR_PARTITION`).
    pub fn topic_deleted(
        &mut self,
        now: Now,
        log: &mut dyn GroupLog,
        name: &KafkaString,
        topic_id: TopicId,
    ) {
        if self.is_loaded {
            if self.deleted_topics.is_full() {
                self.drop_offsets_of_deleted_topics(&mut Cx { now, log });
            }
            self.timers.set(Timer::DeletedTopics, now.mono);
        }
        self.deleted_topics.add(name.detached(), topic_id);
    }

    /// Notes that every record below `high_watermark` is committed.
    pub fn committed(&mut self, high_watermark: Offset) {
        self.replies.committed(high_watermark);
    }

    /// Takes the next reply that may leave.
    pub fn poll_reply(&mut self) -> Option<(Ticket, Response)> {
        self.replies.pop().map(|held| (held.ticket, held.response))
    }

    /// Ends the coordinator; everyone who has no reply yet is told `NOT_COORDINATOR`.
    pub fn unload(mut self) -> Vec<(Ticket, Response)> {
        let error = ErrorCode::NotCoordinator;
        let mut out: Vec<(Ticket, Response)> =
            self.replies.drain().map(|held| (held.ticket, held.response.refused(error))).collect();
        for group in self.groups.values() {
            for (id, member) in group.members() {
                out.extend(
                    member.joining.map(|one| (one, replies::join_refused(id.clone(), error))),
                );
                out.extend(member.syncing.map(|one| (one, replies::sync_refused(error))));
            }
        }
        out
    }

    /// Returns the digest of what is stored: equal for two coordinators that have taken in the same
    /// log.
    pub fn replicated_digest(&self) -> u64 {
        let mut digest = Digest::default();
        self.stored.digest(&mut digest);
        digest.finish()
    }

    /// Takes the whole state into a digest, who waits and the timers included.
    pub fn digest(&self, digest: &mut Digest) {
        self.stored.digest(digest);
        digest.number(u64::from(self.is_loaded)).number(self.groups.len() as u64);
        for (id, group) in &self.groups {
            digest.bytes(id.as_bytes()).text(group.phase().name());
            digest.signed(i64::from(group.generation_id)).bytes(group.leader().as_bytes());
            for (id, member) in group.members() {
                digest.bytes(id.as_bytes()).bytes(&member.assignment);
                digest.number(member.joining.map_or(0, |ticket| ticket.0 + 1));
                digest.number(member.syncing.map_or(0, |ticket| ticket.0 + 1));
            }
            for id in group.pending_members() {
                digest.bytes(id.as_bytes());
            }
        }
        digest.signed(self.replies.end().0).signed(self.replies.high_watermark().0);
        for held in self.replies.held() {
            digest.number(held.ticket.0);
        }
        digest.shown(&self.groups).shown(&self.timers).shown(&self.replies);
        digest.shown(&(&self.deleted_topics, &self.retention_from, self.cleaned));
    }

    /// Appends the records as one batch, and takes them in.
    fn append(&mut self, cx: &mut Cx<'_>, records: &[GroupRecord]) -> Result<(), ErrorCode> {
        self.append_of(cx, None, records)
    }

    /// Appends the records as one batch, of the producer's transaction if there is one, and takes
    /// them in.
    fn append_of(
        &mut self,
        cx: &mut Cx<'_>,
        producer: Option<TransactionalProducer>,
        records: &[GroupRecord],
    ) -> Result<(), ErrorCode> {
        if records.is_empty() {
            return Ok(());
        }
        let encoded: Vec<LogRecord> = records
            .iter()
            .map(|record| {
                let (key, value) = record.encode();
                LogRecord { key, value }
            })
            .collect();
        let base = match producer {
            Some(producer) => cx.log.append_transactional(producer, &encoded)?,
            None => cx.log.append(&encoded)?,
        };
        assert!(base >= self.replies.end(), "a coordinator's log grows at its end");
        for (index, record) in records.iter().enumerate() {
            self.stored.apply(base.plus(index as i64), producer, record);
        }
        self.replies.rest_on(base.plus(records.len() as i64));
        Ok(())
    }

    /// Appends the records, as several batches if they are many or large.
    fn append_in_parts(
        &mut self,
        cx: &mut Cx<'_>,
        mut records: &[GroupRecord],
    ) -> Result<(), ErrorCode> {
        while !records.is_empty() {
            let (part, rest) = records.split_at(fitting(records, RECORDS_PER_APPEND));
            self.append(cx, part)?;
            records = rest;
        }
        Ok(())
    }

    /// Does what may change the members of this group, and of no other, and counts their bytes.
    fn counted(&mut self, group_id: &KafkaString, act: impl FnOnce(&mut Self)) {
        let bytes = |of: &Self| of.groups.get(group_id).map_or(0, Group::bytes);
        let before = bytes(self);
        act(self);
        self.members_bytes = self.members_bytes - before + bytes(self);
    }

    /// Drops a group that nothing is known of any more.
    fn drop_if_idle(&mut self, group_id: &KafkaString) {
        let idle = self.groups.get(group_id).is_some_and(|group| {
            group.phase() == GroupPhase::Empty && group.pending_members().is_empty()
        });
        if idle && self.stored.group(group_id).is_none() {
            self.forget(group_id);
        }
    }

    /// Drops a group that was taken out of the log, with the ids that were handed out for it.
    fn forget(&mut self, group_id: &KafkaString) {
        let Some(group) = self.groups.remove(group_id) else { return };
        assert!(group.members().is_empty(), "only an empty group is forgotten");
        self.timers.cancel(&Timer::Join(group_id.clone()));
        self.timers.cancel(&Timer::Sync(group_id.clone()));
        for member_id in group.pending_members() {
            self.timers.cancel(&Timer::Session(group_id.clone(), member_id.clone()));
        }
    }
}

/// Returns how many of the records one append takes: at most `most`, and as many as fit its bytes.
fn fitting(records: &[GroupRecord], most: usize) -> usize {
    let mut bytes = 0;
    let over = records.iter().take(most).position(|record| {
        let (key, value) = record.encode();
        bytes += key.len() + value.map_or(0, |value| value.len());
        bytes > BYTES_PER_APPEND
    });
    over.unwrap_or_else(|| records.len().min(most)).max(1)
}
