//! A broker's life in the cluster, as it tells the controller: its registration, and its heartbeats with
//! how far it has applied the metadata. On shard 0.
//!
//! A node alone has none of it: its controller is in the same shard.

use std::collections::BTreeMap;

use crate::broker::post::Post;
use crate::broker::shard::Shard;
use crate::broker::start::Phase;
use crate::broker::timers::Timer;
use crate::error::ErrorCode;
use crate::ids::{Offset, ShardId, TopicPartition};
use crate::metadata::controller::Asker;
use crate::metadata::decide_brokers::incarnation_id;
use crate::metadata::{Command, CommandAnswer};
use crate::time::{Instant, Now};
use crate::wire::Response;
use crate::wire::api::broker_heartbeat::BrokerHeartbeatRequest;
use crate::wire::api::broker_registration::{
    BrokerFeatureRange, BrokerListener, BrokerRegistrationRequest,
};

/// What a broker remembers of what it told the controller.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct Membership {
    /// How far each shard has applied the metadata.
    applied: BTreeMap<ShardId, Offset>,
    /// The offset that the controller was told last.
    told: Offset,
    /// When something was asked that is not answered, and of which kind.
    asking: Option<Instant>,
    /// When to ask next.
    next: Option<Instant>,
    /// Whether the node is on its way out, and whether the controller lets it go.
    leaving: bool,
    /// Whether it was said that the cluster knows this node by another directory.
    said_elsewhere: bool,
    pub(in crate::broker) may_go: bool,
}

impl Membership {
    /// Returns how far every shard has applied the metadata.
    fn applied(&self, shards: u16) -> Offset {
        let reached = self.applied.values().min().copied().unwrap_or(Offset::ZERO);
        if self.applied.len() < usize::from(shards) { Offset::ZERO } else { reached }
    }
}

impl Shard {
    /// Takes in how far a shard of this node has applied the metadata.
    pub(in crate::broker) fn on_applied(&mut self, now: Now, shard: ShardId, end: Offset) {
        if let Some(controller) = &mut self.controller {
            controller.applied(shard, end);
        }
        let known = self.membership.applied.entry(shard).or_default();
        *known = (*known).max(end);
        self.report(now);
    }

    /// Tells a controller that has just taken its office how far the shards of its own node are.
    pub(in crate::broker) fn tell_controller_of_shards(&mut self) {
        let Some(controller) = &mut self.controller else { return };
        for (&shard, &end) in &self.membership.applied {
            controller.applied(shard, end);
        }
    }

    /// Says what is due: the registration of this start, or a heartbeat.
    pub(in crate::broker) fn report(&mut self, now: Now) {
        if self.is_alone() || self.config.shard != ShardId(0) || self.membership.asking.is_some() {
            return;
        }
        if self.quorum_leader.is_none() || self.phase == Phase::Closed {
            return;
        }
        if !self.has_role {
            if self.phase == Phase::Joining && self.is_time(now) {
                self.membership.asking = Some(now.mono);
                let cluster_id = self.identity.cluster_id;
                let command = Command::RegisterBroker(cluster_id, self.registration_request());
                self.command(now, Asker::Registration, command);
            }
            return;
        }
        let applied = self.membership.applied(self.config.node.shards);
        if applied > self.membership.told || self.is_time(now) {
            self.send_heartbeat(now, applied);
        }
    }

    fn is_time(&self, now: Now) -> bool {
        self.membership.next.is_none_or(|at| at <= now.mono)
    }

    fn send_heartbeat(&mut self, now: Now, applied: Offset) {
        let node_id = self.config.node.node_id;
        let Some(broker_epoch) = self.image.broker(node_id).map(|broker| broker.broker_epoch)
        else {
            return;
        };
        self.membership.asking = Some(now.mono);
        self.membership.told = applied;
        let request = BrokerHeartbeatRequest {
            broker_id: node_id.0,
            broker_epoch,
            // The offset of the last record, as in Kafka.
            current_metadata_offset: applied.0 - 1,
            want_shut_down: self.membership.leaving,
            ..BrokerHeartbeatRequest::default()
        };
        self.command(now, Asker::Heartbeat, Command::Heartbeat(request));
    }

    /// Takes the answer of the controller, or that there is none.
    pub(in crate::broker) fn on_membership_answer(
        &mut self,
        now: Now,
        asker: Asker,
        answer: &CommandAnswer,
    ) {
        let Some(asked_at) = self.membership.asking.take() else { return };
        let node = std::sync::Arc::clone(&self.config.node);
        let limits = &node.limits;
        let pause = match answer {
            CommandAnswer::Response(Response::BrokerHeartbeat(response))
                if response.error_code == 0 =>
            {
                if !response.is_fenced {
                    let until = asked_at + limits.leader_lease;
                    self.broadcast(&Post::Lease(until));
                    self.take_lease(now, until);
                }
                if response.should_shut_down && self.membership.leaving {
                    self.membership.may_go = true;
                    self.broadcast(&Post::MayStop);
                }
                // One that leaves asks often: what it waits for is what others do.
                if self.membership.leaving {
                    limits.broker_heartbeat / 10
                } else {
                    limits.broker_heartbeat
                }
            }
            CommandAnswer::Response(Response::BrokerRegistration(response))
                if response.error_code == 0 =>
            {
                // Its record comes by the log; should it not, it is asked for once more.
                limits.broker_heartbeat
            }
            CommandAnswer::Response(Response::BrokerRegistration(response))
                if response.error_code == ErrorCode::DuplicateBrokerRegistration.code() =>
            {
                self.say_elsewhere();
                limits.broker_heartbeat / 5
            }
            CommandAnswer::Failed(code, why) if asker == Asker::Registration => {
                if !matches!(code, ErrorCode::NotController) {
                    self.fx.warn(format!("the controller does not register this node: {why}"));
                }
                limits.broker_heartbeat / 5
            }
            CommandAnswer::Response(_)
            | CommandAnswer::Failed(..)
            | CommandAnswer::AutoCreated
            | CommandAnswer::ProducerIds(_) => limits.broker_heartbeat / 5,
        };
        self.arm_membership(now.mono + pause);
        // What was applied meanwhile is told at once.
        self.report(now);
    }

    /// Says, once in this start, that this node's number is in use by another directory.
    fn say_elsewhere(&mut self) {
        if !std::mem::replace(&mut self.membership.said_elsewhere, true) {
            let node = self.config.node.node_id;
            self.fx.warn(format!(
                "node {node} has just been heard of with another data directory: this one serves once that \
                 one is silent; stop it, or give each node a number of its own"
            ));
        }
    }

    /// Takes in until when this node may act as a leader. What it could not acknowledge meanwhile it does now.
    pub(in crate::broker) fn take_lease(&mut self, now: Now, until: Instant) {
        let was_cut_off = self.is_cut_off(now);
        self.lease_until = self.lease_until.max(until);
        if was_cut_off && !self.is_cut_off(now) {
            let led: Vec<TopicPartition> = self.partitions.keys().copied().collect();
            for id in led {
                self.after_progress(now, id, false);
            }
        }
    }

    /// Returns whether the controller has not answered for so long that others may lead: nothing is
    /// acknowledged or served then of what others hold too.
    pub(in crate::broker) fn is_cut_off(&self, now: Now) -> bool {
        !self.is_alone() && self.lease_until <= now.mono
    }

    /// Returns why a leader may not act, or a follower serve clients, if so.
    pub(in crate::broker) fn refused_by_lease(
        &self,
        now: Now,
        id: TopicPartition,
    ) -> Option<ErrorCode> {
        let shared = self.followers.contains_key(&id)
            || self.partitions.get(&id).is_some_and(|it| it.in_sync().has_followers());
        (shared && self.is_cut_off(now)).then_some(ErrorCode::NotLeaderOrFollower)
    }

    fn arm_membership(&mut self, at: Instant) {
        if let Some(before) = self.membership.next.replace(at) {
            self.timers.disarm(before, Timer::Membership);
        }
        self.timers.arm(at, Timer::Membership);
    }

    pub(in crate::broker) fn on_membership_timer(&mut self, now: Now) {
        self.report(now);
    }

    /// Another controller is told everything anew, at once.
    pub(in crate::broker) fn report_to_new_controller(&mut self, now: Now) {
        self.membership.next = None;
        self.membership.told = Offset::ZERO;
        self.report(now);
    }

    /// Asks the controller to let others take over.
    pub(in crate::broker) fn ask_to_leave(&mut self, now: Now) {
        if self.is_alone() {
            return;
        }
        self.membership.leaving = true;
        self.membership.next = None;
        self.report(now);
    }

    fn registration_request(&self) -> BrokerRegistrationRequest {
        let record = self.registration();
        let listeners = record.end_points.into_iter().map(|it| BrokerListener {
            name: it.name,
            host: it.host,
            port: it.port,
            security_protocol: it.security_protocol,
        });
        let features = record.features.into_iter().map(|it| BrokerFeatureRange {
            name: it.name,
            min_supported_version: it.min_supported_version,
            max_supported_version: it.max_supported_version,
        });
        BrokerRegistrationRequest {
            broker_id: record.broker_id,
            cluster_id: self.identity.cluster_id.to_string().into(),
            incarnation_id: incarnation_id(self.identity.directory_id, self.identity.incarnation),
            listeners: listeners.collect(),
            features: features.collect(),
            rack: record.rack,
            log_dirs: record.log_dirs,
            ..BrokerRegistrationRequest::default()
        }
    }
}
