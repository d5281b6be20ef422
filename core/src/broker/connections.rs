//! Connections of the shard: frames in, requests dispatched, answers out.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::broker::pending::{Pending, RequestContext};
use crate::broker::post::{Ask, Post};
use crate::broker::shard::Shard;
use crate::broker::start::Phase;
use crate::broker::timers::Timer;
use crate::connection::{Connection, RequestId};
use crate::ids::{ConnectionId, ListenerIndex, NodeId, ShardId};
use crate::io::{Counter, Effect};
use crate::metadata::Command;
use crate::time::Now;
use crate::wire::{
    ApiKey, KafkaString, Reader, Request, RequestHeader, Response, unsupported_api_versions,
};

impl Shard {
    pub(in crate::broker) fn on_connected(
        &mut self,
        now: Now,
        id: ConnectionId,
        listener: ListenerIndex,
        peer: Arc<str>,
    ) {
        if self.connections.len() >= self.limits().connections_max || self.phase.is_stopping() {
            self.fx.push(Effect::Close { connection: id });
            return;
        }
        self.connections.insert(id, Connection::new(id, listener, peer, now.mono));
        self.timers.arm(now.mono + self.limits().idle_max, Timer::Idle(id));
    }

    pub(in crate::broker) fn on_received(&mut self, id: ConnectionId, bytes: BytesMut) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let before = connection.buffered_bytes();
        connection.receive(bytes);
        self.received_bytes += connection.buffered_bytes() - before;
        self.dirty.insert(id);
    }

    pub(in crate::broker) fn on_disconnected(&mut self, now: Now, id: ConnectionId) {
        self.replication.sent_away.forget(id);
        if let Some(connection) = self.connections.remove(&id) {
            self.received_bytes -= connection.buffered_bytes();
            self.answer_bytes -= connection.answer_bytes();
        }
        self.peers.guests.remove(&id);
        self.dirty.remove(&id);
        self.blocked.remove(&id);
        self.forget_requests(now, id);
    }

    /// Forgets what waits for a connection that is gone.
    fn forget_requests(&mut self, now: Now, connection: ConnectionId) {
        let range = RequestId::all_of(connection);
        let ids: Vec<RequestId> = self.pending.range(range).map(|(&id, _)| id).collect();
        self.producer_ids.forget(connection);
        for id in ids {
            self.forget(now, id);
        }
    }

    /// Forgets one request that waits, and the watches that it has anywhere.
    pub(in crate::broker) fn forget(&mut self, now: Now, id: RequestId) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        match &pending {
            Pending::Gather(gather) => {
                if let Some(deadline) = gather.deadline {
                    self.timers.disarm(deadline, Timer::Request(id));
                }
            }
            Pending::Quorum { .. } | Pending::Internal(_) => {}
            Pending::Command { deadline, .. }
            | Pending::Metadata { deadline, .. }
            | Pending::FindCoordinator { deadline, .. } => {
                self.timers.disarm(*deadline, Timer::Request(id));
            }
            Pending::Fetch(fetch) => {
                let (stage, deadline) = (fetch.stage, fetch.deadline);
                let shards = self.shards_of(fetch);
                self.granted_bytes -= fetch.granted;
                if stage == crate::broker::pending::FetchStage::Parked {
                    self.parked_fetches -= 1;
                    self.timers.disarm(deadline, Timer::Request(id));
                    for shard in shards {
                        self.ask(now, shard, id, Ask::Unwatch);
                    }
                }
            }
        }
        Some(pending)
    }

    pub(in crate::broker) fn close(&mut self, now: Now, id: ConnectionId) {
        let node = Arc::clone(&self.config.node);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        self.received_bytes -= connection.buffered_bytes();
        let before = connection.answer_bytes();
        connection.close(&mut self.fx);
        self.answer_bytes -= before - connection.answer_bytes();
        // What is still its due may never be taken.
        if let Some(deadline) = connection.idle_deadline(&node.limits) {
            self.timers.arm(deadline.max(now.mono), Timer::Idle(id));
        }
        self.blocked.remove(&id);
        self.forget_requests(now, id);
    }

    fn close_broken(&mut self, now: Now, id: ConnectionId) {
        self.count(Counter::ProtocolErrors, 1);
        self.close(now, id);
    }

    /// Decides what a connection has brought, sends what it is owed, and says whether to read on.
    pub(in crate::broker) fn pump(&mut self, now: Now, id: ConnectionId) {
        while self.decide_next(now, id) {}
        let node = Arc::clone(&self.config.node);
        let pace = self.pace(id);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.flush(now.mono, &mut self.fx);
        connection.steer(now.mono, &node.limits, pace, &mut self.fx);
        if let Some(deadline) = connection.arm_partial_frame_timer() {
            self.timers.arm(deadline, Timer::PartialFrame(id));
        }
    }

    /// Takes the next frame of a connection and decides it. Returns whether there may be another.
    fn decide_next(&mut self, now: Now, id: ConnectionId) -> bool {
        if self.phase.is_stopping() && !self.is_served_to_the_end(id) {
            return false;
        }
        let node = Arc::clone(&self.config.node);
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let before = connection.buffered_bytes();
        // Answers whose turn has come make room for further requests.
        connection.flush(now.mono, &mut self.fx);
        let frame = connection.next_frame(now.mono, &node.limits);
        let frame = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => return false,
            Err(_) => {
                self.close_broken(now, id);
                return false;
            }
        };
        if self.must_wait(id, &frame) {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.hold(frame);
                // A held frame has given up its size field.
                self.received_bytes -= before - connection.buffered_bytes();
            }
            self.blocked.insert(id);
            return false;
        }
        let after = self.connections.get(&id).map_or(0, Connection::buffered_bytes);
        self.received_bytes -= before - after;
        self.dispatch(now, id, frame);
        true
    }

    /// Returns whether other nodes of the cluster come in by the listener.
    pub(in crate::broker) fn is_for_peers(&self, listener: ListenerIndex) -> bool {
        self.config.node.listeners.get(usize::from(listener.0)).is_some_and(|it| it.peers)
    }

    fn is_from_peer(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|it| self.is_for_peers(it.listener()))
    }

    /// Returns whether this node stops and still serves a connection: other nodes are to have what it is still
    /// to acknowledge, and a controller needs them to hand over what the node leads.
    pub(in crate::broker) fn is_served_to_the_end(&self, id: ConnectionId) -> bool {
        self.phase == Phase::Draining && self.is_from_peer(id)
    }

    /// Returns the API that a frame asks for, `None` where there is none such on its listener.
    fn api_of(&self, id: ConnectionId, frame: &[u8]) -> Option<ApiKey> {
        let listener = self.connections.get(&id)?.listener();
        ApiKey::from_key(i16::from_be_bytes([frame[0], frame[1]]))
            .filter(|api| api.is_served(self.is_for_peers(listener)))
    }

    /// Returns whether a request may not be decided yet.
    fn must_wait(&self, id: ConnectionId, frame: &[u8]) -> bool {
        match self.api_of(id, frame) {
            Some(ApiKey::ApiVersions) | None => false,
            // Without the others no node of a cluster comes to serve.
            Some(api) if self.is_from_peer(id) && api.is_before_serving() => !self.knows_itself(),
            // A commit does not wait with the producers: heartbeats come behind it on the same
            // connection, and its bytes are bounded by the requests in flight.
            Some(_) if self.is_served_to_the_end(id) => false,
            Some(ApiKey::Produce) => self.phase != Phase::Serving || !self.congested.is_empty(),
            Some(_) => self.phase != Phase::Serving,
        }
    }

    fn dispatch(&mut self, now: Now, id: ConnectionId, frame: Bytes) {
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let Some(api) = self.api_of(id, &frame) else {
            return self.close_broken(now, id);
        };
        if !api.serves(version) {
            if api == ApiKey::ApiVersions {
                let correlation_id = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
                let sequence = self.begin(id, frame.len());
                let request = RequestId { connection: id, sequence };
                self.send(request, Some(unsupported_api_versions(correlation_id)));
                return;
            }
            return self.close_broken(now, id);
        }
        let bytes = frame.len();
        let mut reader = Reader::new(frame);
        let Ok(header) = RequestHeader::decode(&mut reader) else {
            return self.close_broken(now, id);
        };
        let Ok(request) = Request::decode(api, version, &mut reader) else {
            return self.close_broken(now, id);
        };
        let Some(listener) = self.connections.get(&id).map(Connection::listener) else { return };
        let ctx = RequestContext {
            id: RequestId { connection: id, sequence: self.begin(id, bytes) },
            correlation_id: header.correlation_id,
            version,
            listener,
        };
        self.on_request(now, ctx, header.client_id, request);
    }

    fn begin(&mut self, id: ConnectionId, request_bytes: usize) -> u64 {
        self.count(Counter::Requests, 1);
        self.connections.get_mut(&id).map_or(0, |connection| connection.begin(request_bytes))
    }

    /// One handler for each API.
    fn on_request(
        &mut self,
        now: Now,
        ctx: RequestContext,
        client_id: Option<KafkaString>,
        request: Request,
    ) {
        if self.is_for_peers(ctx.listener) {
            if let Request::PeerHello(hello) = &request {
                return self.on_peer_hello(now, &ctx, hello);
            }
            if let Request::Form(form) = &request {
                return self.on_form_request(now, &ctx, form);
            }
            // Whoever does not say who it is is no node, and no node speaks for another.
            let is_stranger = self.peer_of(ctx.id.connection).is_none();
            if (is_stranger && request.api_key().is_for_peers())
                || self.is_forged(ctx.id.connection, &request)
            {
                return self.on_only_decoded(&ctx, &request);
            }
            if self.on_quorum_request(now, &ctx, &request) {
                return;
            }
            if let Request::ReplicaAck(request) = &request {
                return self.on_replica_ack(now, &ctx, request);
            }
        }
        match request {
            Request::Produce(request) => self.on_produce(now, ctx, &request),
            Request::Fetch(request) => self.on_fetch(now, ctx, &request),
            Request::ListOffsets(request) => self.on_list_offsets(now, ctx, &request),
            Request::Metadata(request) => self.on_metadata(now, ctx, request),
            Request::ApiVersions(request) => self.on_api_versions(ctx, &request),
            Request::CreateTopics(request) => self.on_create_topics(now, ctx, request),
            Request::DeleteTopics(request) => self.on_delete_topics(now, ctx, request),
            Request::DeleteRecords(request) => self.on_delete_records(now, ctx, &request),
            Request::InitProducerId(request) => self.on_init_producer_id(now, ctx, &request),
            Request::AddPartitionsToTxn(request) => {
                self.on_add_partitions_to_txn(now, ctx, &request);
            }
            Request::AddOffsetsToTxn(request) => self.on_add_offsets_to_txn(now, ctx, &request),
            Request::EndTxn(request) => self.on_end_txn(now, ctx, &request),
            Request::WriteTxnMarkers(request) => self.on_write_txn_markers(now, ctx, &request),
            Request::TxnOffsetCommit(request) => self.on_txn_offset_commit(now, ctx, request),
            Request::DescribeProducers(request) => self.on_describe_producers(now, ctx, &request),
            Request::DescribeTransactions(request) => {
                self.on_describe_transactions(now, ctx, &request);
            }
            Request::ListTransactions(request) => self.on_list_transactions(now, ctx, &request),
            Request::OffsetForLeaderEpoch(request) => {
                self.on_offset_for_leader_epoch(now, ctx, &request);
            }
            Request::EntryList(request) => self.on_entry_list(now, ctx, &request),
            Request::EntryAlter(request) => self.on_entry_alter(now, ctx, &request),
            Request::DescribeConfigs(request) => self.on_describe_configs(ctx, &request),
            Request::AlterConfigs(request) => self.on_alter_configs(now, ctx, request),
            Request::DescribeLogDirs(request) => self.on_describe_log_dirs(now, ctx, &request),
            Request::CreatePartitions(request) => self.on_create_partitions(now, ctx, request),
            Request::IncrementalAlterConfigs(request) => {
                self.on_incremental_alter_configs(now, ctx, request);
            }
            Request::DescribeCluster(request) => self.on_describe_cluster(ctx, &request),
            Request::DescribeTopicPartitions(request) => {
                self.on_describe_topic_partitions(ctx, &request);
            }
            Request::ListConfigResources(request) => self.on_list_config_resources(ctx, &request),
            Request::FindCoordinator(request) => self.on_find_coordinator(now, ctx, request),
            Request::OffsetCommit(request) => self.on_offset_commit(now, ctx, request),
            Request::OffsetFetch(request) => self.on_offset_fetch(now, ctx, request),
            Request::OffsetDelete(request) => self.on_offset_delete(now, ctx, request),
            Request::JoinGroup(request) => self.on_join_group(now, ctx, client_id, request),
            Request::SyncGroup(request) => self.on_sync_group(now, ctx, request),
            Request::Heartbeat(request) => self.on_heartbeat(now, ctx, request),
            Request::LeaveGroup(request) => self.on_leave_group(now, ctx, request),
            Request::DescribeGroups(request) => self.on_describe_groups(now, ctx, &request),
            Request::ListGroups(request) => self.on_list_groups(now, ctx, request),
            Request::DeleteGroups(request) => self.on_delete_groups(now, ctx, &request),
            Request::BrokerRegistration(request) => {
                let command = Command::RegisterBroker(self.identity.cluster_id, request);
                self.ask_controller(now, ctx, ApiKey::BrokerRegistration, command);
            }
            Request::BrokerHeartbeat(request) => {
                let command = Command::Heartbeat(request);
                self.ask_controller(now, ctx, ApiKey::BrokerHeartbeat, command);
            }
            Request::AlterPartition(request) => {
                let command = Command::AlterPartition(request, ctx.version);
                self.ask_controller(now, ctx, ApiKey::AlterPartition, command);
            }
            Request::AllocateProducerIds(request) => {
                let command = Command::AllocateProducerIds(NodeId(request.broker_id));
                self.ask_controller(now, ctx, ApiKey::AllocateProducerIds, command);
            }
            Request::ElectLeaders(request) => self.on_elect_leaders(now, ctx, request),
            Request::AlterPartitionReassignments(request) => {
                self.on_alter_reassignments(now, ctx, request);
            }
            Request::ListPartitionReassignments(request) => {
                self.on_list_reassignments(now, ctx, request);
            }
            Request::DescribeQuorum(request) => self.on_describe_quorum(now, ctx, request),
            request @ (Request::Vote(_)
            | Request::BeginQuorumEpoch(_)
            | Request::EndQuorumEpoch(_)
            | Request::UpdateFeatures(_)
            | Request::Envelope(_)
            | Request::FetchSnapshot(_)
            | Request::PeerHello(_)
            | Request::Form(_)
            | Request::ReplicaAck(_)) => self.on_only_decoded(&ctx, &request),
        }
    }

    /// Answers a request.
    pub(in crate::broker) fn respond(
        &mut self,
        ctx: &RequestContext,
        response: impl Into<Response>,
    ) {
        let parts = response.into().frame(ctx.correlation_id, ctx.version);
        self.send(ctx.id, Some(parts));
    }

    /// Settles a request with the bytes of its answer, or with none.
    pub(in crate::broker) fn send(&mut self, id: RequestId, parts: Option<Vec<Bytes>>) {
        let Some(connection) = self.connections.get_mut(&id.connection) else { return };
        let before = connection.answer_bytes();
        if connection.answer(id.sequence, parts) {
            self.answer_bytes += connection.answer_bytes() - before;
            self.dirty.insert(id.connection);
        }
    }

    /// Asks a shard, this one at once.
    pub(in crate::broker) fn ask(
        &mut self,
        now: Now,
        shard: ShardId,
        request: RequestId,
        ask: Ask,
    ) {
        if shard == self.config.shard {
            self.on_ask(now, shard, request, ask);
        } else {
            self.post(shard, Post::Ask { request, ask });
        }
    }

    pub(in crate::broker) fn on_idle_timer(&mut self, now: Now, id: ConnectionId) {
        let node = Arc::clone(&self.config.node);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match connection.idle_deadline(&node.limits) {
            // It would never be closed: what is to go before that is not taken.
            Some(deadline) if deadline <= now.mono && connection.answer_bytes() > 0 => {
                connection.abort(&mut self.fx);
            }
            Some(deadline) if deadline <= now.mono => self.close(now, id),
            Some(deadline) => self.timers.arm(deadline, Timer::Idle(id)),
            None if connection.is_closed() => {}
            None => self.timers.arm(now.mono + node.limits.idle_max, Timer::Idle(id)),
        }
    }

    pub(in crate::broker) fn on_partial_frame_timer(&mut self, now: Now, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.partial_frame_timer_fired();
        match connection.partial_frame_deadline() {
            Some(deadline) if deadline <= now.mono => self.close_broken(now, id),
            Some(_) => {
                if let Some(deadline) = connection.arm_partial_frame_timer() {
                    self.timers.arm(deadline, Timer::PartialFrame(id));
                }
            }
            None => {}
        }
    }
}
