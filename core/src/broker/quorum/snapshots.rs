//! The driver of snapshots of the metadata log on shard 0: loads the newest at a start, makes one when enough has
//! come since the last, moves the log's start up behind them, and brings them from the leader and to others
//! (KIP-630).
//!
//! Two snapshots are kept, and the log from the end of the older one on: what one of them has lost by damage the
//! other and the log still hold.
//!
//! What never happens here: a start moved beyond a durable snapshot, a snapshot of what is not committed, a log
//! that goes on behind a snapshot it does not agree with, and a start without something that a damaged snapshot
//! may have held.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::broker::post::Post;
use crate::broker::quorum::METADATA;
use crate::broker::quorum::asks::TOPIC;
use crate::broker::quorum::serve::{Reply, SnapshotReply};
use crate::broker::quorum::voters::replicas;
use crate::broker::shard::{Shard, TicketUse};
use crate::broker::start::Phase;
use crate::connection::RequestId;
use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, NodeId, Offset, ShardId, SnapshotId};
use crate::io::{Effect, Mark};
use crate::log::{ReadError, Stable};
use crate::metadata::{MetadataImage, Snapshot, SnapshotReader};
use crate::observe::ClusterEvent;
use crate::quorum::ReplicaKey;
use crate::quorum::messages::{SnapshotAnswer, SnapshotAsk};
use crate::time::Now;
use crate::wire::api::fetch_snapshot::{
    FetchSnapshotId, FetchSnapshotPartition, FetchSnapshotPartitionResponse, FetchSnapshotRequest,
    FetchSnapshotResponse, FetchSnapshotTopic, FetchSnapshotTopicResponse, SnapshotLeader,
};
use crate::wire::{Request, Response};

/// Bytes of a snapshot that a start reads at a time.
const READ_BYTES: u64 = 1 << 20;
/// How often a snapshot is read before it counts as damaged.
const READS_MAX: u32 = 3;

/// What the driver remembers.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct SnapshotDriver {
    /// The start is looking for one that is whole.
    loading: Option<Loading>,
    /// Who votes by the one that was loaded, until the machine is told.
    pub(super) voters: Voters,
    /// Bytes of the log that were applied since the last one.
    pub(super) behind: u64,
    /// When the last record that was applied was appended.
    pub(super) timestamp: i64,
    /// One that is being made and is written, but for the last step.
    making: Option<SnapshotId>,
    receiving: Option<Receiving>,
    /// One that was received whole and is about to be durable.
    installing: Option<Box<(Snapshot, Voters)>>,
}

/// Who votes by a snapshot, where it says so.
type Voters = Option<BTreeSet<ReplicaKey>>;

#[derive(Clone, Debug)]
struct Loading {
    /// What is read, `None` where there is nothing left.
    reader: Option<SnapshotReader>,
    reads: u32,
    damaged: Vec<(SnapshotId, String)>,
}

#[derive(Clone, Debug)]
struct Receiving {
    reader: SnapshotReader,
    /// Whether a piece is being written, and it is the last.
    writing: Option<bool>,
}

impl SnapshotDriver {
    pub(in crate::broker) fn digest(&self, digest: &mut Digest) {
        digest.number(self.behind).signed(self.timestamp).shown(&self.voters);
        if let Some(loading) = &self.loading {
            digest.shown(&loading.reads).shown(&loading.damaged);
            loading.reader.iter().for_each(|reader| reader.digest(digest));
        }
        if let Some(Receiving { reader, writing }) = &self.receiving {
            reader.digest(digest);
            digest.shown(writing);
        }
        digest.shown(&self.making).shown(&self.installing.as_ref().map(|it| it.0.id()));
    }
}

/// The start.
impl Shard {
    /// Takes in that the snapshots of before count, and loads the newest of them that is whole.
    pub(in crate::broker) fn on_snapshots_found(&mut self, now: Now) {
        if self.phase != Phase::Recovering {
            return;
        }
        self.snapshots.loading = Some(Loading { reader: None, reads: 0, damaged: Vec::new() });
        self.load_next_snapshot(now);
    }

    fn load_next_snapshot(&mut self, now: Now) {
        let newest = self.log.latest_snapshot();
        let Some(loading) = &mut self.snapshots.loading else { return };
        loading.reader = newest.map(SnapshotReader::new);
        if newest.is_some() {
            self.load_piece();
        } else {
            self.settle_snapshots(now, None);
        }
    }

    fn load_piece(&mut self) {
        let loading = self.snapshots.loading.as_ref();
        let Some(reader) = loading.and_then(|loading| loading.reader.as_ref()) else { return };
        let (id, position) = (reader.id(), reader.bytes());
        let ticket = self.ticket(TicketUse::LoadSnapshot);
        self.log.read_snapshot(id, (position, READ_BYTES), ticket, &mut self.fx);
    }

    fn on_snapshot_loaded(&mut self, now: Now, result: Result<Bytes, ReadError>) {
        if self.phase != Phase::Recovering {
            return;
        }
        let Some(loading) = &mut self.snapshots.loading else { return };
        let Some(mut reader) = loading.reader.take() else { return };
        let id = reader.id();
        let piece = result.map_err(|error| error.to_string()).and_then(|bytes| {
            reader.push(&bytes).map_err(|error| error.to_string())?;
            Ok((bytes.len() as u64) < READ_BYTES)
        });
        let why = match piece {
            Ok(false) => {
                loading.reader = Some(reader);
                return self.load_piece();
            }
            Ok(true) => {
                let whole = reader.finish().map_err(|error| error.to_string());
                match whole.and_then(with_voters) {
                    Ok(whole) => return self.settle_snapshots(now, Some(whole)),
                    Err(why) => why,
                }
            }
            Err(why) => why,
        };
        loading.reads += 1;
        if loading.reads < READS_MAX {
            // A read may have gone astray.
            loading.reader = Some(SnapshotReader::new(id));
            return self.load_piece();
        }
        loading.reads = 0;
        self.fx.mark(Mark::SnapshotDamaged);
        self.fx.warn(format!("the snapshot {id} of the metadata log is damaged: {why}"));
        loading.damaged.push((id, why));
        self.log.distrust_snapshot(id);
        self.load_next_snapshot(now);
    }

    /// Goes on with the newest snapshot that is whole and the log behind it, if they hold everything.
    fn settle_snapshots(&mut self, now: Now, whole: Option<(Snapshot, Voters)>) {
        let Some(Loading { damaged, .. }) = self.snapshots.loading.take() else { return };
        let id = whole.as_ref().map(|(snapshot, _)| snapshot.id());
        if let Err(why) = self.covers(id, &damaged) {
            self.fx.mark(Mark::StartRefused);
            let message = format!(
                "the metadata of this node is not whole: {why}; restore the data directory from a copy, nothing in \
                 it was changed"
            );
            self.fx.push(Effect::Fatal { message });
            self.phase = Phase::Closed;
            return;
        }
        if let Some(id) = id.filter(|&id| !self.log_goes_on_behind(id)) {
            // It was received: all of it is committed.
            self.fx.mark(Mark::SnapshotResumed);
            self.log.reset(now, METADATA, id.end_offset, &mut self.fx);
        }
        if !damaged.is_empty() {
            // There is one less now to make up for damage.
            self.snapshots.behind = self.config.node.limits.metadata_snapshot_bytes;
        }
        let start = self.log.log_start_offset(METADATA).unwrap_or(Offset::ZERO);
        if !self.log.begins_anew(METADATA) {
            self.log.remove_snapshots_before(start, &mut self.fx);
        }
        if let Some((Snapshot { image, timestamp, .. }, voters)) = whole {
            self.fx.mark(Mark::SnapshotLoaded);
            self.image = image;
            self.snapshots.voters = voters;
            self.snapshots.timestamp = timestamp;
            self.tell_image();
        }
        self.begin_with_metadata(now);
    }

    /// Returns whether this snapshot, or none, and the log behind it hold all that there was.
    fn covers(
        &self,
        id: Option<SnapshotId>,
        damaged: &[(SnapshotId, String)],
    ) -> Result<(), String> {
        let base = id.map_or(Offset::ZERO, |id| id.end_offset);
        for (lost, why) in damaged {
            if lost.end_offset > base && !self.log_holds(*lost) {
                return Err(format!(
                    "{lost} is damaged ({why}), and the log does not hold what it held"
                ));
            }
        }
        let start = self.log.log_start_offset(METADATA).unwrap_or(Offset::ZERO);
        if start > base {
            return Err(format!(
                "its log begins at offset {start}, and there is no whole snapshot that reaches there"
            ));
        }
        Ok(())
    }

    /// Returns whether the last record of a snapshot stands in the log.
    fn log_holds(&self, id: SnapshotId) -> bool {
        let last = Offset(id.end_offset.0 - 1);
        self.log.log_start_offset(METADATA).is_some_and(|start| start <= last)
            && self.log.log_end_offset(METADATA).is_some_and(|end| end >= id.end_offset)
            && self.log.epoch_at(METADATA, last) == Some(id.epoch)
    }

    fn log_goes_on_behind(&self, id: SnapshotId) -> bool {
        let start = self.log.log_start_offset(METADATA).unwrap_or(Offset::ZERO);
        start == id.end_offset || self.log_holds(id)
    }

    /// Tells checkers what the image is, as a node does behind every record.
    fn tell_image(&mut self) {
        if !self.is_alone() && self.config.node.buggify.is_some() {
            let mut digest = Digest::default();
            self.image.digest(&mut digest);
            let (end, digest) = (self.image.end_offset(), digest.finish());
            self.fx.cluster(ClusterEvent::Applied { end, digest });
        }
    }
}

/// Making them.
impl Shard {
    /// Makes a snapshot of what is applied, where enough has come since the last one.
    pub(super) fn make_snapshot_where_due(&mut self) {
        if self.snapshots.behind < self.config.node.limits.metadata_snapshot_bytes
            || self.log.is_drafting()
            || self.snapshots.receiving.is_some()
            || self.snapshots.installing.is_some()
            || self.phase.is_stopping()
        {
            return;
        }
        let Some(quorum) = &self.quorum else { return };
        let end = self.image.end_offset();
        let id = SnapshotId { end_offset: end, epoch: self.image.epoch() };
        let is_new = self.log.latest_snapshot().is_none_or(|latest| latest.end_offset < end);
        if !is_new || !self.log.begin_snapshot(id, &mut self.fx) {
            return;
        }
        let voters = quorum.machine.voters_before(end);
        let snapshot = Snapshot {
            image: self.image.clone(),
            voters: voters.map(|voters| self.voters_record(voters)),
            timestamp: self.snapshots.timestamp,
        };
        self.snapshots.behind = 0;
        self.log.append_to_snapshot(snapshot.encode(), &mut self.fx);
        self.snapshots.making = Some(id);
        self.finish_snapshot_where_proven();
    }

    /// Makes a snapshot durable once the log of this node is, so that the log always goes on behind it.
    pub(super) fn finish_snapshot_where_proven(&mut self) {
        let stable = self.log.stable_end(METADATA).map_or(Offset::ZERO, Stable::value);
        if self.snapshots.making.is_some_and(|id| id.end_offset <= stable) {
            self.snapshots.making = None;
            self.log.finish_snapshot(&mut self.fx);
        }
    }

    /// Takes in that a snapshot is durable.
    pub(in crate::broker) fn on_snapshot_written(&mut self, now: Now, id: SnapshotId) {
        match self.snapshots.installing.take() {
            Some(whole) if whole.0.id() == id => self.install_snapshot(now, *whole),
            other => {
                self.snapshots.installing = other;
                self.fx.mark(Mark::SnapshotWritten);
                self.shorten_metadata_log(now);
            }
        }
    }

    /// Moves the start of the log up to the end of the snapshot before the newest.
    fn shorten_metadata_log(&mut self, now: Now) {
        if self.phase.is_stopping() || self.log.begins_anew(METADATA) {
            return;
        }
        let Some((before, _)) = self.log.snapshots().rev().nth(1) else { return };
        let start = self.log.log_start_offset(METADATA).unwrap_or(Offset::ZERO);
        let stable = self.log.stable_end(METADATA).map_or(Offset::ZERO, Stable::value);
        if before.end_offset > start && before.end_offset <= stable {
            self.log.move_log_start(now, METADATA, before.end_offset, &mut self.fx);
        }
    }

    /// Takes in that the metadata log begins later, durably.
    pub(in crate::broker) fn on_metadata_start_moved(&mut self, now: Now, start: Offset) {
        self.log.remove_snapshots_before(start, &mut self.fx);
        if !self.is_alone() {
            let (partition, log_start_offset) = (METADATA, start);
            self.fx.cluster(ClusterEvent::StartMoved { partition, log_start_offset });
        }
        self.answer_parked(now);
        self.arm_quorum_timer();
    }
}

/// Receiving them.
impl Shard {
    /// Makes room for a snapshot of the leader.
    pub(super) fn receive_snapshot(&mut self, now: Now, id: SnapshotId) {
        let is_free = self.snapshots.receiving.is_none() && self.snapshots.installing.is_none();
        if is_free && self.log.begin_snapshot(id, &mut self.fx) {
            self.fx.info(format!(
                "the leader's metadata log begins later than this one ends: {id} comes first"
            ));
            let reader = SnapshotReader::new(id);
            self.snapshots.receiving = Some(Receiving { reader, writing: None });
            self.with_quorum(now, |machine, _| machine.ask_for_piece());
        } else {
            self.with_quorum(now, |machine, _| machine.give_up_receiving(now.mono));
        }
    }

    /// Gives up a snapshot that the machine waits for no more.
    pub(super) fn drop_stale_reception(&mut self) {
        let Some(Receiving { reader, .. }) = &self.snapshots.receiving else { return };
        let wanted = self.quorum.as_ref().and_then(|quorum| quorum.machine.receiving());
        if wanted != Some(reader.id()) {
            self.snapshots.receiving = None;
            self.log.give_up_snapshot(&mut self.fx);
        }
    }

    /// Takes a piece that the leader has sent. Nothing of it is trusted.
    pub(super) fn on_snapshot_piece(
        &mut self,
        now: Now,
        node: NodeId,
        ask: &SnapshotAsk,
        piece: &FetchSnapshotPartitionResponse,
    ) {
        let leader = piece.current_leader.leader_id;
        let answer = SnapshotAnswer {
            epoch: LeaderEpoch(piece.current_leader.leader_epoch),
            leader: (leader >= 0).then_some(NodeId(leader)),
            is_there: piece.error_code == 0,
        };
        let is_wanted = self.with_quorum(now, |machine, log| {
            machine.on_snapshot_answer(now.mono, node, ask, answer, log)
        });
        if is_wanted != Some(true) {
            return;
        }
        if let Err(why) = self.take_piece(ask, piece) {
            self.fx.warn(format!(
                "what node {node} sent of the snapshot {} is not taken: {why}",
                ask.id
            ));
            self.with_quorum(now, |machine, _| machine.give_up_receiving(now.mono));
        }
    }

    fn take_piece(
        &mut self,
        ask: &SnapshotAsk,
        piece: &FetchSnapshotPartitionResponse,
    ) -> Result<(), String> {
        let Some(Receiving { reader, writing }) = &mut self.snapshots.receiving else {
            return Err("nothing was asked for".to_owned());
        };
        let says = SnapshotId {
            end_offset: Offset(piece.snapshot_id.end_offset),
            epoch: LeaderEpoch(piece.snapshot_id.epoch),
        };
        let bytes = &piece.unaligned_records;
        let (size, position) = (u64::try_from(piece.size), u64::try_from(piece.position));
        if says != ask.id || position != Ok(ask.position) || reader.bytes() != ask.position {
            return Err("it is another piece than was asked for".to_owned());
        }
        let upto = ask.position + bytes.len() as u64;
        if bytes.is_empty() || size.is_ok_and(|size| size < upto) || writing.is_some() {
            return Err("its size makes no sense".to_owned());
        }
        reader.push(bytes).map_err(|error| error.to_string())?;
        *writing = Some(size == Ok(upto));
        // The copy lets go of the connection's receive buffer.
        self.log.append_to_snapshot(vec![Bytes::copy_from_slice(bytes)], &mut self.fx);
        Ok(())
    }

    /// Takes in that a piece is written: the next one is asked for, or the whole is made durable.
    pub(in crate::broker) fn on_snapshot_piece_written(&mut self, now: Now, id: SnapshotId) {
        let Some(Receiving { reader, writing }) = &mut self.snapshots.receiving else { return };
        if reader.id() != id {
            return;
        }
        if writing.take() == Some(false) {
            let upto = reader.bytes();
            self.with_quorum(now, |machine, _| machine.piece_written(now.mono, upto));
            return;
        }
        let Some(Receiving { reader, .. }) = self.snapshots.receiving.take() else { return };
        let whole = reader.finish().map_err(|error| error.to_string()).and_then(with_voters);
        match whole.and_then(|(snapshot, voters)| {
            // Whatever a leader says, a topic goes by its recorded deletion alone.
            let is_lost = |id| snapshot.image.topic(id).is_none() && !snapshot.image.is_removed(id);
            match self.image.topics().find(|topic| is_lost(topic.id)) {
                Some(topic) => Err(format!("it lacks topic {}, which was not deleted", topic.name)),
                None => Ok((snapshot, voters)),
            }
        }) {
            Ok(whole) => {
                self.snapshots.installing = Some(Box::new(whole));
                self.with_quorum(now, |machine, _| machine.install());
                self.log.finish_snapshot(&mut self.fx);
            }
            Err(why) => {
                self.fx.warn(format!("the snapshot {id} that was received is not taken: {why}"));
                self.log.give_up_snapshot(&mut self.fx);
                self.with_quorum(now, |machine, _| machine.give_up_receiving(now.mono));
            }
        }
    }

    /// Puts a snapshot that is durable in the place of the log and of the image.
    fn install_snapshot(&mut self, now: Now, (snapshot, voters): (Snapshot, Voters)) {
        if self.phase.is_stopping() {
            // The next start finds it.
            return;
        }
        let id = snapshot.id();
        self.fx.mark(Mark::SnapshotInstalled);
        self.fx.info(format!("the metadata is that of the snapshot {id}"));
        self.fx.cluster(ClusterEvent::SnapshotInstalled { end: id.end_offset });
        // Neither what it ends before nor what parts from it is kept.
        self.log.reset(now, METADATA, id.end_offset, &mut self.fx);
        let Snapshot { image, timestamp, .. } = snapshot;
        self.snapshots.timestamp = timestamp;
        // A second one soon makes up for damage to it.
        self.snapshots.behind = self.config.node.limits.metadata_snapshot_bytes;
        if let Some(quorum) = &mut self.quorum {
            quorum.reader.begin_anew(id.end_offset);
        }
        self.put_image(now, image);
        self.with_quorum(now, |machine, log| machine.installed(id, voters, log));
        self.tell_whether_it_votes();
        self.on_committed_read_up(now);
    }

    fn put_image(&mut self, now: Now, image: MetadataImage) {
        if self.has_role {
            let image = Arc::new(image);
            self.broadcast(&Post::Snapshot(Arc::clone(&image)));
            self.replace_image(now, &image);
        } else {
            self.image = image;
        }
        self.tell_image();
    }
}

/// Handing them out.
impl Shard {
    /// Answers who asks for a piece.
    pub(super) fn serve_snapshot(
        &mut self,
        now: Now,
        (shard, request): (ShardId, RequestId),
        replica: ReplicaKey,
        (ask, max_bytes): (SnapshotAsk, u64),
    ) {
        let verdict = self.with_quorum(now, |machine, _| {
            (machine.on_snapshot_asked(now.mono, replica, ask.epoch), machine.standing())
        });
        let Some((verdict, standing)) = verdict else { return };
        let size = self.log.snapshots().find(|(id, _)| *id == ask.id).map(|(_, size)| size);
        let mut reply = SnapshotReply {
            code: ErrorCode::None,
            standing,
            id: ask.id,
            size: size.unwrap_or(0),
            position: ask.position,
            bytes: Bytes::new(),
        };
        let most = max_bytes.min(self.config.node.limits.metadata_snapshot_piece_bytes);
        reply.code = match (verdict, size) {
            (None, _) if ask.epoch < standing.epoch => ErrorCode::FencedLeaderEpoch,
            (None, _) if ask.epoch > standing.epoch => ErrorCode::UnknownLeaderEpoch,
            (None, _) => ErrorCode::NotLeaderOrFollower,
            (Some(_), None) => ErrorCode::SnapshotNotFound,
            (Some(_), Some(size)) if ask.position >= size => ErrorCode::PositionOutOfRange,
            (Some(_), Some(_)) if most == 0 => ErrorCode::InvalidRequest,
            (Some(_), Some(_)) => {
                let purpose = TicketUse::Snapshot(shard, request, Box::new(reply));
                let ticket = self.ticket(purpose);
                self.log.read_snapshot(ask.id, (ask.position, most), ticket, &mut self.fx);
                return;
            }
        };
        self.reply_to_node(shard, request, Reply::Snapshot(Box::new(reply)));
    }

    /// Hands a snapshot out no more that cannot be read; the next one is made soon. One that has gone by itself
    /// meanwhile says nothing.
    fn doubt_snapshot(&mut self, id: SnapshotId) {
        if self.log.snapshots().any(|(kept, _)| kept == id) {
            self.log.distrust_snapshot(id);
            self.snapshots.behind = self.config.node.limits.metadata_snapshot_bytes;
        }
    }

    /// Takes a piece of a snapshot that was read.
    pub(in crate::broker) fn on_snapshot_read(
        &mut self,
        now: Now,
        purpose: Option<TicketUse>,
        result: Result<Bytes, ReadError>,
    ) {
        match purpose {
            Some(TicketUse::LoadSnapshot) => self.on_snapshot_loaded(now, result),
            Some(TicketUse::Snapshot(shard, request, mut reply)) => {
                match result {
                    Ok(bytes) if !bytes.is_empty() => reply.bytes = bytes,
                    Ok(_) | Err(ReadError::Gone) => {
                        self.doubt_snapshot(reply.id);
                        reply.code = ErrorCode::SnapshotNotFound;
                    }
                    Err(error) => {
                        self.doubt_snapshot(reply.id);
                        self.fx
                            .warn(format!("a snapshot cannot be read for another node: {error}"));
                        reply.code = ErrorCode::KafkaStorageError;
                    }
                }
                self.reply_to_node(shard, request, Reply::Snapshot(reply));
            }
            _ => {}
        }
    }
}

/// Returns a snapshot with those who vote by it; an error where nobody could.
fn with_voters(snapshot: Snapshot) -> Result<(Snapshot, Voters), String> {
    let voters = snapshot.voters.as_ref().map(replicas).transpose()?;
    Ok((snapshot, voters))
}

pub(super) fn snapshot_request(me: ReplicaKey, ask: &SnapshotAsk, max_bytes: u64) -> Request {
    let partition = FetchSnapshotPartition {
        partition: 0,
        current_leader_epoch: ask.epoch.0,
        snapshot_id: wire_id(ask.id),
        position: i64::try_from(ask.position).unwrap_or(i64::MAX),
        replica_directory_id: me.directory,
    };
    FetchSnapshotRequest {
        replica_id: me.node.0,
        max_bytes: i32::try_from(max_bytes).unwrap_or(i32::MAX),
        topics: vec![FetchSnapshotTopic { name: TOPIC, partitions: vec![partition] }],
        ..FetchSnapshotRequest::default()
    }
    .into()
}

/// Reads what a request asks of snapshots, and how many bytes it takes; `None` where it makes no sense.
pub(super) fn snapshot_ask(request: &FetchSnapshotRequest) -> Option<(SnapshotAsk, u64)> {
    let [FetchSnapshotTopic { name, partitions }] = &request.topics[..] else { return None };
    let [partition] = &partitions[..] else { return None };
    if *name != TOPIC || partition.partition != 0 {
        return None;
    }
    let id = SnapshotId {
        end_offset: Offset(partition.snapshot_id.end_offset),
        epoch: LeaderEpoch(partition.snapshot_id.epoch),
    };
    // What lies before the beginning is out of range as is what lies behind the end.
    let position = u64::try_from(partition.position).unwrap_or(u64::MAX);
    let epoch = LeaderEpoch(partition.current_leader_epoch);
    Some((SnapshotAsk { epoch, id, position }, u64::try_from(request.max_bytes).unwrap_or(0)))
}

pub(super) fn snapshot_response(reply: SnapshotReply) -> Response {
    let SnapshotReply { code, standing, id, size, position, bytes } = reply;
    let partition = FetchSnapshotPartitionResponse {
        index: 0,
        error_code: code.code(),
        snapshot_id: wire_id(id),
        size: i64::try_from(size).unwrap_or(i64::MAX),
        position: i64::try_from(position).unwrap_or(-1),
        unaligned_records: bytes,
        current_leader: SnapshotLeader {
            leader_id: standing.leader.map_or(-1, |leader| leader.0),
            leader_epoch: standing.epoch.0,
        },
    };
    let topic = FetchSnapshotTopicResponse { name: TOPIC, partitions: vec![partition] };
    FetchSnapshotResponse { topics: vec![topic], ..FetchSnapshotResponse::default() }.into()
}

const fn wire_id(id: SnapshotId) -> FetchSnapshotId {
    FetchSnapshotId { end_offset: id.end_offset.0, epoch: id.epoch.0 }
}
