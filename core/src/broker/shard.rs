//! The shard: its state, its door, and the loop that drains its machines.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::broker::early_refusals::EarlyRefusals;
use crate::broker::fetch_sessions::FetchSessions;
use crate::broker::groups::Groups;
use crate::broker::membership::Membership;
use crate::broker::peers::PeerTable;
use crate::broker::pending::Pending;
use crate::broker::post::{Answer, FetchItem, Fetched, Post};
use crate::broker::quorum::QuorumDriver;
use crate::broker::quorum::serve::SnapshotReply;
use crate::broker::quorum::snapshots::SnapshotDriver;
use crate::broker::quorum::voters::VoterScan;
use crate::broker::receive_pool::ReceivePool;
use crate::broker::replication::Replication;
use crate::broker::schedules::Schedules;
use crate::broker::start::{Identity, Phase};
use crate::broker::timers::{Timer, Timers};
use crate::broker::transactions::Transactions;
use crate::broker::transactions::verify::Verifications;
use crate::buggify::{Buggify, Site};
use crate::config::{Limits, ShardConfig};
use crate::connection::{Connection, RequestId};
use crate::digest::Digest;
use crate::ids::{ConnectionId, LeaderEpoch, NodeId, Offset, ShardId, TopicPartition, Uuid};
use crate::io::{Counter, Effect, Effects, Input};
use crate::log::{LogConfig, LogEvent, LogStore, ReadTicket};
use crate::metadata::{Controller, MetadataImage};
use crate::observe::ClusterEvent;
use crate::partition::{Follower, Partition, Waiter};
use crate::peer::{Identity as PeerIdentity, Peers};
use crate::quorum::formation::Formation;
use crate::time::{Instant, Now};

use super::api::init_producer_id::ProducerIds;

/// How many slots partitions are spread over; slots are spread over shards.
const SLOTS: u64 = 256;

/// How much of what is committed a lookup by time has searched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::broker) enum Searched {
    /// All of it.
    Everything,
    /// What a new leader knows to be committed; there may be more.
    SoFar,
}

/// What a read or a lookup in the logs is for.
#[derive(Clone, Debug)]
pub(in crate::broker) enum TicketUse {
    /// A fetch; the rest of its answer stands beside it.
    Fetch(Waiter, FetchItem, Fetched),
    /// A lookup by time.
    ListOffsets(Waiter, Searched),
    /// What is committed of the metadata log, in this life of its reader.
    Committed(u64),
    /// The snapshot with which this start begins.
    LoadSnapshot,
    /// A piece of a snapshot, for another node's request at a shard.
    Snapshot(ShardId, RequestId, Box<SnapshotReply>),
    /// What an elected controller has not seen of it.
    Accession(LeaderEpoch),
    /// What the metadata log says of voters.
    Voters,
    /// The metadata log, for another node's fetch at a shard.
    Metadata(ShardId, RequestId),
    /// The loading of a coordinator of groups.
    LoadGroups(TopicPartition),
    /// The loading of a coordinator of transactions.
    LoadTransactions(TopicPartition),
    /// The loading of what a partition with features remembers.
    LoadSchedule(TopicPartition),
    /// A note whose records are needed.
    ReadNote(TopicPartition, Offset),
}

/// One shard of a node.
#[derive(Clone, Debug)]
pub struct Shard {
    pub(in crate::broker) config: ShardConfig,
    pub(in crate::broker) fx: Effects,
    pub(in crate::broker) log: LogStore,
    pub(in crate::broker) phase: Phase,
    pub(in crate::broker) identity: Identity,
    /// What is committed and applied here.
    pub(in crate::broker) image: MetadataImage,
    /// On shard 0, once it leads the metadata log.
    pub(in crate::broker) controller: Option<Controller>,
    /// On shard 0, once the logs are there.
    pub(in crate::broker) quorum: Option<QuorumDriver>,
    /// On shard 0.
    pub(in crate::broker) snapshots: SnapshotDriver,
    /// On shard 0 of one of several nodes, while it reads who votes.
    pub(in crate::broker) voter_scan: Option<VoterScan>,
    /// On shard 0 of one of several nodes, once the logs are there.
    pub(in crate::broker) formation: Option<Formation<(ShardId, RequestId)>>,
    /// Who leads the metadata log, as far as it is known.
    pub(in crate::broker) quorum_leader: Option<NodeId>,
    pub(in crate::broker) peers: PeerTable,
    pub(in crate::broker) membership: Membership,
    /// Until when this node may act as a leader without another word of the controller.
    pub(in crate::broker) lease_until: Instant,
    /// When the controller looks at the sessions of brokers.
    pub(in crate::broker) sessions_armed: Option<Instant>,
    /// Whether partitions have taken up their roles.
    pub(in crate::broker) has_role: bool,
    /// Partitions that are led here.
    pub(in crate::broker) partitions: BTreeMap<TopicPartition, Partition>,
    /// Partitions that are held here and led elsewhere.
    pub(in crate::broker) followers: BTreeMap<TopicPartition, Follower>,
    pub(in crate::broker) replication: Replication,
    pub(in crate::broker) watched: BTreeMap<(ShardId, RequestId), Vec<TopicPartition>>,
    pub(in crate::broker) connections: BTreeMap<ConnectionId, Connection>,
    /// Connections that have something to decide, to send or to say.
    pub(in crate::broker) dirty: BTreeSet<ConnectionId>,
    /// Connections that wait for producers to be welcome, or for the start.
    pub(in crate::broker) blocked: BTreeSet<ConnectionId>,
    pub(in crate::broker) received_bytes: usize,
    pub(in crate::broker) receive_pool: ReceivePool,
    /// Answer bytes that peers have not taken yet, or that wait for earlier answers.
    pub(in crate::broker) answer_bytes: u64,
    /// Answer bytes that fetches under way may still bring.
    pub(in crate::broker) granted_bytes: u64,
    pub(in crate::broker) pending: BTreeMap<RequestId, Pending>,
    pub(in crate::broker) parked_fetches: usize,
    pub(in crate::broker) tickets: BTreeMap<ReadTicket, TicketUse>,
    next_ticket: u64,
    pub(in crate::broker) outbox: BTreeMap<ShardId, Vec<Post>>,
    /// Posts that came before this shard could serve them.
    pub(in crate::broker) held_posts: VecDeque<(ShardId, Post)>,
    pub(in crate::broker) timers: Timers,
    pub(in crate::broker) fetch_sessions: FetchSessions,
    pub(in crate::broker) producer_ids: ProducerIds,
    pub(in crate::broker) early_refusals: EarlyRefusals,
    pub(in crate::broker) groups: Groups,
    pub(in crate::broker) transactions: Transactions,
    pub(in crate::broker) verifications: Verifications,
    pub(in crate::broker) schedules: Schedules,
    pub(in crate::broker) next_internal: u64,
    pub(in crate::broker) congested: BTreeSet<ShardId>,
    pub(in crate::broker) poisoned: Option<Arc<str>>,
    pub(in crate::broker) rng: ChaCha8Rng,
    pub(in crate::broker) buggify: Buggify,
}

impl Shard {
    /// Makes a shard; nothing happens before `Input::Start`.
    pub fn new(config: ShardConfig) -> Self {
        let node = &config.node;
        assert!(config.shard.0 < node.shards.max(1), "a shard is one of its node's");
        let number = |key| node.settings.number(key);
        let mut log = LogConfig {
            shard: config.shard,
            node_id: node.node_id,
            seed: config.seed,
            is_member: node.peers.len() > 1,
            memory_only: node.memory_only,
            buggify: node.buggify,
            reports: node.peers.len() > 1,
            ..node.log.clone()
        };
        if let Some(ms) = number("log.retention.check.interval.ms") {
            log.retention_check_interval_ms = ms;
        }
        if let Some(ms) = number("producer.id.expiration.ms") {
            log.producer_id_expiration_ms = ms;
        }
        if let Some(count) = number("mainspring.producer.ids.max") {
            log.producer_ids_max = count as usize;
        }
        if node.settings.explicit("mainspring.unwritten.max.bytes").is_some()
            && let Some(bytes) = number("mainspring.unwritten.max.bytes")
        {
            log.unwritten_max_bytes = bytes as u64;
        }
        if node.settings.explicit("mainspring.disk.reserve.bytes").is_some()
            && let Some(bytes) = number("mainspring.disk.reserve.bytes")
        {
            log.disk_reserve_bytes = Some(bytes as u64);
        }
        // A stream of its own, so that the log's draws and these never meet.
        let rng = ChaCha8Rng::seed_from_u64(config.seed ^ 0x6d61_696e_7370_7269);
        let buggify = Buggify::new(node.buggify, config.seed);
        Self {
            fx: Effects::default(),
            log: LogStore::new(log),
            phase: Phase::Idle,
            identity: Identity::default(),
            image: MetadataImage::default(),
            controller: None,
            quorum: None,
            snapshots: SnapshotDriver::default(),
            voter_scan: None,
            formation: None,
            quorum_leader: None,
            peers: PeerTable::new(Peers::new(
                PeerIdentity {
                    cluster_id: Uuid::default(),
                    node_id: node.node_id,
                    directory_id: Uuid::default(),
                    incarnation: 0,
                    listed: Arc::from([]),
                },
                config.shard,
            )),
            membership: Membership::default(),
            lease_until: Instant::ZERO,
            sessions_armed: None,
            has_role: false,
            partitions: BTreeMap::new(),
            followers: BTreeMap::new(),
            replication: Replication::default(),
            watched: BTreeMap::new(),
            connections: BTreeMap::new(),
            dirty: BTreeSet::new(),
            blocked: BTreeSet::new(),
            received_bytes: 0,
            receive_pool: ReceivePool::default(),
            answer_bytes: 0,
            granted_bytes: 0,
            pending: BTreeMap::new(),
            parked_fetches: 0,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            outbox: BTreeMap::new(),
            held_posts: VecDeque::new(),
            timers: Timers::default(),
            fetch_sessions: FetchSessions::default(),
            producer_ids: ProducerIds::default(),
            early_refusals: EarlyRefusals::default(),
            groups: Groups::default(),
            transactions: Transactions::default(),
            verifications: Verifications::default(),
            schedules: Schedules::default(),
            next_internal: 0,
            congested: BTreeSet::new(),
            poisoned: None,
            rng,
            buggify,
            config,
        }
    }

    /// Takes one input. Never blocks, never fails; drain the effects before the next one.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Start => self.start(now),
            Input::Connected { connection, listener, peer } => {
                self.on_connected(now, connection, listener, peer);
            }
            Input::Opened(connection) => {
                self.peers.links.on_opened(now.mono, connection, &mut self.fx);
            }
            Input::Received(connection, bytes) if connection.is_outgoing() => {
                self.peers.links.on_received(now.mono, connection, bytes, &mut self.fx);
            }
            Input::Disconnected(connection) if connection.is_outgoing() => {
                self.peers.links.on_disconnected(now.mono, connection, &mut self.fx);
            }
            Input::Received(connection, bytes) => self.on_received(connection, bytes),
            Input::Transmitted(connection, bytes) => {
                if let Some(state) = self.connections.get_mut(&connection) {
                    self.answer_bytes -= state.transmitted(now.mono, bytes);
                    self.dirty.insert(connection);
                }
            }
            Input::Disconnected(connection) => self.on_disconnected(now, connection),
            Input::Posted { from, batch } => {
                for post in batch {
                    self.on_post(now, from, post);
                }
            }
            Input::Completed { token, result } => {
                self.log.handle_completion(now, token, result, &mut self.fx);
            }
            Input::Wakeup => self.on_wakeup(now),
            Input::Stop => self.stop(now),
        }
        self.settle(now);
    }

    /// Takes the oldest effect.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.fx.pop()
    }

    /// Returns when `Input::Wakeup` is wanted next, and by whom.
    pub fn next_deadline(&self) -> Option<(Instant, Timer)> {
        let log = if self.phase == Phase::Idle { None } else { self.log.next_deadline() };
        let log = log.map(|at| (at, Timer::Log));
        [log, self.timers.first()].into_iter().flatten().min()
    }

    /// Returns the id of the cluster, zero before `Effect::Ready`.
    pub const fn cluster_id(&self) -> Uuid {
        self.identity.cluster_id
    }

    /// Returns a digest of the whole state.
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::default();
        self.log.digest(&mut digest);
        self.image.digest(&mut digest);
        if let Some(controller) = &self.controller {
            controller.digest(&mut digest);
        }
        for partition in self.partitions.values() {
            partition.digest(&mut digest);
        }
        for follower in self.followers.values() {
            follower.digest(&mut digest);
        }
        digest.shown(&self.replication);
        for connection in self.connections.values() {
            connection.digest(&mut digest);
        }
        digest
            .shown(&self.phase)
            .shown(&self.identity)
            .shown(&self.watched)
            .shown(&(&self.dirty, &self.blocked, &self.congested))
            .shown(&self.pending)
            .shown(&self.tickets)
            .number(self.next_ticket)
            .shown(&(&self.held_posts, &self.voter_scan))
            .shown(&self.timers)
            .number(self.received_bytes as u64)
            .number(self.answer_bytes)
            .number(self.granted_bytes)
            .number(self.parked_fetches as u64)
            .shown(&self.early_refusals)
            .number(u64::from(self.poisoned.is_some()));
        if let Some(quorum) = &self.quorum {
            quorum.digest(&mut digest);
        }
        self.snapshots.digest(&mut digest);
        digest.shown(&(self.lease_until, self.sessions_armed));
        if let Some(formation) = &self.formation {
            formation.digest(&mut digest);
        }
        digest.shown(&(self.quorum_leader, self.has_role, &self.peers.guests, &self.membership));
        self.peers.links.digest(&mut digest);
        self.producer_ids.digest(&mut digest);
        self.fetch_sessions.digest(&mut digest);
        self.groups.digest(&mut digest);
        self.transactions.digest(&mut digest);
        digest.shown(&(&self.verifications, &self.schedules, self.next_internal));
        digest.finish()
    }

    /// Drains the machines until none has anything to say.
    fn settle(&mut self, now: Now) {
        loop {
            while let Some(event) = self.log.poll_event() {
                self.on_log_event(now, event);
            }
            if self.hear_peers(now) || self.replicate(now) {
                continue;
            }
            self.answer_commands(now);
            self.note_congestion();
            if let Some(connection) = self.dirty.pop_first() {
                self.pump(now, connection);
                continue;
            }
            if self.note_receive_pool() || self.advance_stop(now) {
                continue;
            }
            if self.log.end_turn(now, &mut self.fx) {
                continue;
            }
            // What was appended since is stable at once where the log is in memory.
            let Some(event) = self.log.poll_event() else { break };
            self.on_log_event(now, event);
        }
        self.arm_peers_timer();
        self.arm_controller_timer();
        for (shard, batch) in std::mem::take(&mut self.outbox) {
            if self.buggify.strikes(Site::SplitPosts) {
                let split = batch.into_iter().map(|post| vec![post]);
                split.for_each(|batch| self.fx.push(Effect::Post { shard, batch }));
            } else {
                self.fx.push(Effect::Post { shard, batch });
            }
        }
    }

    fn on_wakeup(&mut self, now: Now) {
        if self.phase != Phase::Idle && self.log.next_deadline().is_some_and(|at| at <= now.mono) {
            self.log.handle_wakeup(now, &mut self.fx);
        }
        while let Some(timer) = self.timers.take_due(now.mono) {
            match timer {
                Timer::Request(id) => self.on_request_deadline(now, id),
                Timer::Idle(connection) => self.on_idle_timer(now, connection),
                Timer::PartialFrame(connection) => self.on_partial_frame_timer(now, connection),
                Timer::Coordinator(id) if self.transactions.keeps(id) => {
                    self.on_transactions_timer(now, id);
                }
                Timer::Coordinator(id) => self.on_coordinator_timer(now, id),
                Timer::Schedule(id) => self.on_schedule_timer(now, id),
                Timer::ScheduleReport(id) => self.on_schedule_report_timer(id),
                Timer::GroupReport(id) => self.on_report_timer(id),
                Timer::Stop => self.on_stop_timer(now),
                Timer::Quorum => self.on_quorum_timer(now),
                Timer::Peers => self.on_peers_timer(now),
                Timer::Controller => self.on_controller_timer(now),
                Timer::Replication => self.on_replication_timer(now),
                Timer::Membership => self.on_membership_timer(now),
                Timer::Log => {}
            }
        }
    }

    fn on_log_event(&mut self, now: Now, event: LogEvent) {
        match event {
            LogEvent::Recovered { incarnation, cluster_id, cluster, directory_id, vote } => {
                self.identity = Identity { incarnation, cluster_id, cluster, directory_id, vote };
                self.on_recovered(now);
            }
            LogEvent::Formed => self.on_cluster_durable(now),
            LogEvent::Voted { epoch, candidate } => self.on_voted(now, epoch, candidate),
            LogEvent::Stable { log, end } => {
                if log == TopicPartition::CLUSTER_METADATA {
                    self.on_metadata_proven(now);
                } else {
                    self.on_stable(now, log, end.value());
                }
            }
            LogEvent::LogStartMoved { log, start } => {
                if log == TopicPartition::CLUSTER_METADATA {
                    return self.on_metadata_start_moved(now, start);
                }
                if self.followers.contains_key(&log) {
                    let (partition, log_start_offset) = (log, start);
                    self.fx.cluster(ClusterEvent::StartMoved { partition, log_start_offset });
                    self.wake_near(now, log);
                }
                if let Some(partition) = self.partitions.get_mut(&log) {
                    partition.settle(&mut self.log);
                    self.answer_moved(now, log);
                    self.tell_bounds(log);
                    self.wake_fetches(now, log);
                }
            }
            LogEvent::RetentionWish(log) => self.serve_schedule(now, log),
            LogEvent::Read { ticket, result } => self.on_read(now, ticket, result),
            LogEvent::Found { ticket, result } => self.on_found(now, ticket, result),
            LogEvent::SnapshotsFound => self.on_snapshots_found(now),
            LogEvent::SnapshotPiece(id) => self.on_snapshot_piece_written(now, id),
            LogEvent::SnapshotWritten(id) => self.on_snapshot_written(now, id),
            LogEvent::SnapshotRead { ticket, result } => {
                let purpose = self.tickets.remove(&ticket);
                self.on_snapshot_read(now, purpose, result);
            }
            LogEvent::Poisoned(why) => self.on_poisoned(now, &why, true),
            LogEvent::Closed => self.on_closed(now),
            LogEvent::Truncated { log, end } => {
                // The place may lie lower than was asked for, where it had to be searched for.
                if !self.is_alone() && self.log.log_end_offset(log) == Some(end) {
                    self.fx.cluster(ClusterEvent::Truncated { partition: log, end });
                }
                if log == TopicPartition::CLUSTER_METADATA && !self.log.begins_anew(log) {
                    // What a snapshot has taken the place of needs no earlier ones.
                    let start = self.log.log_start_offset(log).unwrap_or(Offset::ZERO);
                    self.log.remove_snapshots_before(start, &mut self.fx);
                }
                // Its bounds count from now on.
                self.on_replica_stable(log);
                if self.partitions.contains_key(&log)
                    && let Some(stable) = self.log.stable_end(log)
                {
                    self.on_stable(now, log, stable.value());
                }
                // Whoever leads it by now may have waited for its end.
                self.load_schedule(now, log);
            }
            // Relief is noted with congestion, and nobody waits for the others.
            LogEvent::Relieved | LogEvent::Created(_) | LogEvent::Deleted(_) => {}
        }
    }

    fn on_stable(&mut self, now: Now, id: TopicPartition, end: Offset) {
        let Some(partition) = self.partitions.get_mut(&id) else {
            return self.on_replica_stable(id);
        };
        let moved = partition.advance(end);
        self.after_progress(now, id, moved);
    }

    /// Tells the followers that wait at a partition that there is more, before it is stable here.
    pub(in crate::broker) fn wake_followers(&mut self, now: Now, id: TopicPartition) {
        if self.partitions.get(&id).is_some_and(|it| it.in_sync().has_followers()) {
            self.wake_fetches(now, id);
        }
    }

    /// Tells the fetches that wait at a partition what has become readable.
    pub(in crate::broker) fn wake_fetches(&mut self, now: Now, id: TopicPartition) {
        let Self { partitions, log, .. } = self;
        let Some(partition) = partitions.get_mut(&id) else { return };
        if partition.fetches.is_empty() {
            return;
        }
        let mut fetches = std::mem::take(&mut partition.fetches);
        let news = fetches.news(|item| partition.readable(item, log));
        partition.fetches = fetches;
        for (waiter, readable) in news {
            self.answer_waiter(now, waiter, Answer::Readable(readable));
        }
    }

    /// Remembers that a fetch of a request waits at a partition of this shard.
    pub(in crate::broker) fn watch(&mut self, watcher: (ShardId, RequestId), item: FetchItem) {
        let id = item.partition;
        let fetches = match (self.partitions.get_mut(&id), self.followers.get_mut(&id)) {
            (Some(partition), _) => &mut partition.fetches,
            (None, Some(follower)) => &mut follower.fetches,
            (None, None) => return,
        };
        fetches.watch(watcher, item);
        self.watched.entry(watcher).or_default().push(id);
    }

    /// Forgets every fetch of a request that waits at partitions of this shard.
    pub(in crate::broker) fn unwatch(&mut self, watcher: (ShardId, RequestId)) {
        for id in self.watched.remove(&watcher).unwrap_or_default() {
            if let Some(partition) = self.partitions.get_mut(&id) {
                partition.fetches.unwatch(watcher);
            }
            if let Some(follower) = self.followers.get_mut(&id) {
                follower.fetches.unwatch(watcher);
            }
        }
    }

    /// Tells the other shards when producers for this one must wait, and when no longer.
    fn note_congestion(&mut self) {
        if !self.phase.has_logs() {
            return;
        }
        let (me, is_congested) = (self.config.shard, self.log.is_congested());
        if is_congested == self.congested.contains(&me) {
            return;
        }
        if is_congested {
            self.fx.mark(crate::io::Mark::BackPressure);
        }
        self.set_congested(me, is_congested);
        self.broadcast(&Post::Congested(is_congested));
    }

    pub(in crate::broker) fn set_congested(&mut self, shard: ShardId, is_congested: bool) {
        if is_congested {
            self.congested.insert(shard);
        } else {
            self.congested.remove(&shard);
            if self.congested.is_empty() {
                self.unblock();
            }
        }
    }

    /// Lets every blocked connection try again.
    pub(in crate::broker) fn unblock(&mut self) {
        self.dirty.append(&mut self.blocked);
    }

    pub(in crate::broker) fn limits(&self) -> &Limits {
        &self.config.node.limits
    }

    /// Returns the shard that owns a partition.
    ///
    /// It goes by the topic's name: a topic made again under the same name has folders of the same names,
    /// and only one journal can order the old one's deletion before the new one's creation.
    pub(in crate::broker) fn owner(&self, id: TopicPartition) -> ShardId {
        if self.config.node.shards <= 1 {
            return ShardId(0);
        }
        let mut digest = Digest::default();
        match self.image.topic(id.topic_id) {
            Some(topic) => digest.bytes(topic.name.as_str().as_bytes()),
            // Any shard can say that it is not known.
            None => digest.bytes(&id.topic_id.0),
        };
        digest.signed(i64::from(id.partition.0));
        ShardId(((digest.finish() % SLOTS) % u64::from(self.config.node.shards)) as u16)
    }

    /// Sends a post to another shard at the end of this turn.
    pub(in crate::broker) fn post(&mut self, shard: ShardId, post: Post) {
        debug_assert_ne!(shard, self.config.shard, "what is for this shard is done at once");
        self.outbox.entry(shard).or_default().push(post);
    }

    /// Sends a post to all other shards.
    pub(in crate::broker) fn broadcast(&mut self, post: &Post) {
        for shard in (0..self.config.node.shards).map(ShardId) {
            if shard != self.config.shard {
                self.post(shard, post.clone());
            }
        }
    }

    /// Returns a ticket never given before, and remembers what it is for.
    pub(in crate::broker) fn ticket(&mut self, purpose: TicketUse) -> ReadTicket {
        self.next_ticket += 1;
        let ticket = ReadTicket(self.next_ticket);
        self.tickets.insert(ticket, purpose);
        ticket
    }

    /// Returns a random id that is neither zero nor one of Kafka's reserved ones, and whose text does
    /// not begin with a dash, which command lines take for an option.
    pub(in crate::broker) fn random_id(rng: &mut ChaCha8Rng) -> Uuid {
        loop {
            let mut bytes = [0; 16];
            rng.fill_bytes(&mut bytes);
            bytes[6] = (bytes[6] & 0x0f) | 0x40;
            bytes[8] = (bytes[8] & 0x3f) | 0x80;
            let id = Uuid(bytes);
            if !id.to_string().starts_with('-') {
                return id;
            }
        }
    }

    /// Decides a command on shard 0.
    pub(in crate::broker) fn decide(
        &mut self,
        now: Now,
        origin: crate::metadata::controller::Origin,
        command: &crate::metadata::Command,
    ) {
        let Self { controller, rng, log, fx, .. } = self;
        let Some(controller) = controller else { return };
        controller.handle(now, origin, command, &mut || Self::random_id(rng), log, fx);
        self.on_metadata_appended(now);
    }

    /// Counts something for people.
    pub(in crate::broker) fn count(&mut self, counter: Counter, by: u64) {
        self.fx.count(counter, by);
    }
}
