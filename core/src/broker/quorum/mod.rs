//! The metadata quorum's driver on shard 0: carries out what the [machine](crate::quorum) decides, with
//! the log, the links to the other nodes and the clock of this shard.
//!
//! Who does what: `mod` carries actions out, `asks` speaks to other nodes, `serve` answers them, `committed`
//! reads what is committed back and hands it to all shards, `office` takes the controller's office up and
//! down, `voters` says who votes, `snapshots` makes, loads and passes on snapshots.
//!
//! What never happens here: a decision about votes, epochs or what is committed.

mod asks;
mod committed;
mod describe;
mod office;
pub mod serve;
pub(in crate::broker) mod snapshots;
pub(in crate::broker) mod voters;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::broker::peers::PeerTag;
use crate::broker::shard::Shard;
use crate::broker::timers::Timer;
use crate::connection::RequestId;
use crate::digest::Digest;
use crate::ids::{LeaderEpoch, NodeId, Offset, ShardId, SnapshotId, TopicPartition};
use crate::io::{Effect, Event};
use crate::log::{LogStore, Stable};
use crate::observe::ClusterEvent;
use crate::quorum::messages::Ask;
use crate::quorum::{Action, Caller, LogView, Quorum, QuorumConfig, ReplicaKey};
use crate::time::{Instant, Now};

pub(in crate::broker) use committed::Reader;
use office::Accession;
use serve::{Parked, Reply};

/// Pause before something that failed is asked again.
const RETRY: Duration = Duration::from_millis(50);

/// The machine and what its driver remembers for it.
#[derive(Clone, Debug)]
pub(in crate::broker) struct QuorumDriver {
    machine: Quorum,
    /// Who asked for votes, by the number given to the machine.
    callers: BTreeMap<Caller, (ShardId, RequestId)>,
    next_caller: u64,
    /// Fetches of other nodes whose answers are held back.
    parked: BTreeMap<(ShardId, RequestId), Parked>,
    /// When the machine's timer is armed.
    armed: Option<Instant>,
    /// What is read back of the log.
    pub(in crate::broker) reader: Reader,
    /// The way into the controller's office, once elected.
    accession: Option<Accession>,
}

impl QuorumDriver {
    pub(in crate::broker) fn digest(&self, digest: &mut Digest) {
        self.machine.digest(digest);
        self.reader.digest(digest);
        digest.shown(&self.callers).shown(&self.parked).number(u64::from(self.accession.is_some()));
    }
}

/// What the machine sees of the metadata log.
struct MetadataLog<'a>(&'a LogStore);

const METADATA: TopicPartition = TopicPartition::CLUSTER_METADATA;

impl LogView for MetadataLog<'_> {
    fn start(&self) -> Offset {
        self.0.log_start_offset(METADATA).unwrap_or(Offset::ZERO)
    }

    fn end(&self) -> Offset {
        self.0.log_end_offset(METADATA).unwrap_or(Offset::ZERO)
    }

    fn last_epoch(&self) -> LeaderEpoch {
        // An empty log goes on behind a snapshot.
        let before = || self.snapshot_at_start().map(|id| id.epoch);
        self.0.latest_epoch(METADATA).or_else(before).unwrap_or(LeaderEpoch::UNKNOWN)
    }

    fn end_of_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let start = self.start();
        let known = self.0.known_end_of_epoch(METADATA, epoch);
        let before = || self.snapshot_at_start().filter(|id| id.epoch <= epoch);
        let before = || before().map(|id| (id.epoch, id.end_offset));
        known.or_else(before).unwrap_or((LeaderEpoch::UNKNOWN, start))
    }

    fn proven(&self) -> Offset {
        self.0.stable_end(METADATA).map_or(Offset::ZERO, Stable::value)
    }

    fn latest_snapshot(&self) -> Option<SnapshotId> {
        self.0.latest_snapshot()
    }

    fn snapshot_at_start(&self) -> Option<SnapshotId> {
        let start = self.start();
        self.0.snapshots().map(|(id, _)| id).find(|id| id.end_offset == start)
    }
}

impl Shard {
    /// Returns whether this node is alone: nobody is asked, and nobody asks.
    pub(in crate::broker) fn is_alone(&self) -> bool {
        self.config.node.peers.len() < 2
    }

    /// Makes the machine, once the log is there.
    pub(in crate::broker) fn make_quorum(&mut self) {
        let node = &self.config.node;
        let me = ReplicaKey { node: node.node_id, directory: self.identity.directory_id };
        let formed = self.identity.cluster.iter().flat_map(|cluster| &cluster.voters);
        let mut voters: BTreeSet<ReplicaKey> = formed
            .map(|voter| ReplicaKey { node: voter.node_id, directory: voter.directory_id })
            .collect();
        if self.is_alone() {
            voters.insert(me);
        }
        let limits = &node.limits;
        let config = QuorumConfig {
            me,
            voters,
            known: node.peers.iter().map(|peer| peer.node_id).collect(),
            fetch_timeout: limits.quorum_fetch_timeout,
            lost_leader: limits.quorum_lost_leader,
            election_min: limits.quorum_election_min,
            election_max: limits.quorum_election_max,
            retry: RETRY,
            seed: self.config.seed ^ 0x7175_6f72_756d,
        };
        let machine = Quorum::new(config, self.identity.vote, &MetadataLog(&self.log));
        self.quorum = Some(QuorumDriver {
            machine,
            callers: BTreeMap::new(),
            next_caller: 0,
            parked: BTreeMap::new(),
            armed: None,
            reader: Reader::default(),
            accession: None,
        });
        // A snapshot holds what comes before.
        let end = self.image.end_offset();
        let voters = self.snapshots.voters.take();
        if let Some(quorum) = &mut self.quorum {
            quorum.reader.begin_anew(end);
            if voters.is_some() {
                quorum.machine.restore_voters(end, voters);
            }
        }
    }

    /// Begins to take part in the quorum.
    pub(in crate::broker) fn start_quorum(&mut self, now: Now) {
        self.with_quorum(now, |machine, log| machine.start(now.mono, log));
    }

    /// Hands something to the machine and carries out what comes of it.
    fn with_quorum<T>(
        &mut self,
        now: Now,
        act: impl FnOnce(&mut Quorum, &MetadataLog<'_>) -> T,
    ) -> Option<T> {
        let quorum = self.quorum.as_mut()?;
        let result = act(&mut quorum.machine, &MetadataLog(&self.log));
        self.carry_out(now);
        Some(result)
    }

    fn carry_out(&mut self, now: Now) {
        while let Some(action) =
            self.quorum.as_mut().and_then(|quorum| quorum.machine.poll_action())
        {
            match action {
                Action::Persist { epoch, candidate } => {
                    self.log.vote(now, epoch, candidate, &mut self.fx);
                }
                Action::Ask { node, ask } => self.ask_node(now, node, ask),
                Action::AnswerVote { caller, answer } => {
                    let asked =
                        self.quorum.as_mut().and_then(|quorum| quorum.callers.remove(&caller));
                    if let Some((shard, request)) = asked {
                        self.reply_to_node(shard, request, Reply::Vote(answer));
                    }
                }
                Action::BeginEpoch { epoch, granting } => self.accede(now, epoch, granting),
                Action::Resigned => self.leave_controllers_office(now),
                Action::Committed(end) => {
                    if !self.is_alone() {
                        let event = Event::HighWatermark { partition: METADATA, offset: end };
                        self.fx.push(Effect::Observe(event));
                    }
                    self.on_metadata_committed(now, end);
                }
                Action::Leader { epoch, leader } => self.on_quorum_leader(now, epoch, leader),
            }
        }
        self.drop_stale_reception();
        self.arm_quorum_timer();
    }

    fn arm_quorum_timer(&mut self) {
        let Some(quorum) = &mut self.quorum else { return };
        let parked = quorum.parked.values().map(|parked| parked.until);
        let next = parked.chain(quorum.machine.next_deadline()).min();
        if next == quorum.armed {
            return;
        }
        if let Some(at) = quorum.armed {
            self.timers.disarm(at, Timer::Quorum);
        }
        quorum.armed = next;
        if let Some(at) = next {
            self.timers.arm(at, Timer::Quorum);
        }
    }

    pub(in crate::broker) fn on_quorum_timer(&mut self, now: Now) {
        if let Some(quorum) = &mut self.quorum {
            quorum.armed = None;
        }
        self.with_quorum(now, |machine, log| machine.wake(now.mono, log));
        self.answer_parked(now);
        self.arm_quorum_timer();
    }

    /// Takes in that a vote of this node is proven.
    pub(in crate::broker) fn on_voted(&mut self, now: Now, epoch: LeaderEpoch, candidate: NodeId) {
        if !self.is_alone() {
            self.fx.cluster(ClusterEvent::Voted { epoch, candidate });
        }
        self.with_quorum(now, |machine, log| machine.persisted(now.mono, epoch, candidate, log));
    }

    /// Takes in that more of the metadata log is proven here.
    pub(in crate::broker) fn on_metadata_proven(&mut self, now: Now) {
        self.finish_snapshot_where_proven();
        self.with_quorum(now, |machine, log| machine.on_proven(log));
        self.answer_parked(now);
    }

    /// Takes in that there is more in the log than other nodes have been told.
    pub(in crate::broker) fn on_metadata_appended(&mut self, now: Now) {
        self.answer_parked(now);
        self.arm_quorum_timer();
    }

    /// The process of a node is gone.
    pub(in crate::broker) fn on_node_unreachable(&mut self, now: Now, node: NodeId) {
        if let Some(controller) = &mut self.controller {
            controller.sessions_mut().connection_lost(now.mono, node);
        }
        self.with_quorum(now, |machine, _| machine.on_unreachable(now.mono, node));
    }

    /// A link stands again.
    pub(in crate::broker) fn on_node_reachable(&mut self, now: Now) {
        self.with_quorum(now, |machine, log| machine.on_reachable(log));
    }

    /// Lets the office go, because the node stops.
    pub(in crate::broker) fn stop_quorum(&mut self, now: Now) {
        if !self.is_alone() {
            self.with_quorum(now, |machine, _| machine.leave_office(now.mono));
        }
    }

    /// What was asked of a node came to nothing.
    fn on_ask_failed(&mut self, now: Now, node: NodeId, ask: &Ask) {
        self.with_quorum(now, |machine, _| machine.on_failed(now.mono, node, ask));
    }

    /// Tells everybody who leads the quorum: they send what is for the controller there.
    fn on_quorum_leader(&mut self, now: Now, leader_epoch: LeaderEpoch, leader: Option<NodeId>) {
        if let Some(leader) = leader.filter(|&leader| leader != self.config.node.node_id) {
            self.fx.cluster(ClusterEvent::Followed { partition: METADATA, leader_epoch, leader });
        }
        self.broadcast(&crate::broker::post::Post::QuorumLeader(leader));
        self.take_quorum_leader(now, leader);
    }
}

impl PeerTag {
    /// Returns the ask of the quorum that a request was sent for.
    pub(in crate::broker) const fn of_quorum(ask: Ask) -> Self {
        Self::Quorum(ask)
    }
}
