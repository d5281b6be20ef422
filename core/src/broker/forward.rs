//! Commands for the controller: decided here where this node leads the metadata log, else sent to the node
//! that does, as the requests that Kafka has for them.

use crate::broker::api::find_coordinator::key_type_of;
use crate::broker::peers::PeerTag;
use crate::broker::pending::RequestContext;
use crate::broker::shard::Shard;
use crate::broker::start::Phase;
use crate::error::ErrorCode;
use crate::ids::{NodeId, ShardId};
use crate::metadata::controller::{Asker, Origin};
use crate::metadata::{Command, CommandAnswer};
use crate::peer::{Lane, Question};
use crate::time::Now;
use crate::wire::api::allocate_producer_ids::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse,
};
use crate::wire::api::find_coordinator::FindCoordinatorRequest;
use crate::wire::api::metadata::{MetadataRequest, MetadataRequestTopic};
use crate::wire::{Request, Response};

impl Shard {
    /// Returns who asks the controller by a request.
    pub(in crate::broker) fn asker(&self, ctx: &RequestContext) -> Asker {
        if self.is_for_peers(ctx.listener) { Asker::Peer(ctx.id) } else { Asker::Request(ctx.id) }
    }

    /// Brings a command to the controller.
    pub(in crate::broker) fn command(&mut self, now: Now, asker: Asker, command: Command) {
        if self.config.shard == ShardId(0) {
            self.on_command(now, Origin { shard: ShardId(0), asker }, command);
        } else {
            self.post(ShardId(0), crate::broker::post::Post::Command { asker, command });
        }
    }

    pub(in crate::broker) fn on_command(&mut self, now: Now, origin: Origin, command: Command) {
        self.doubt_office(now);
        let is_open = !matches!(self.phase, Phase::Closing | Phase::Closed);
        if let Some(why) = self.poisoned.clone() {
            let answer = CommandAnswer::Failed(ErrorCode::KafkaStorageError, why);
            self.answer_command(now, origin, answer);
        } else if is_open
            && self.controller.is_some()
            && let Command::DescribeQuorum(request) = &command
        {
            let response = self.describe_quorum(now, request).into();
            self.answer_command(now, origin, CommandAnswer::Response(response));
        } else if is_open && self.controller.is_some() {
            self.decide(now, origin, &command);
        } else {
            let me = self.config.node.node_id;
            let sent_on = !matches!(origin.asker, Asker::Peer(_));
            let leader = self.quorum_leader.filter(|&leader| is_open && sent_on && leader != me);
            if let Some(leader) = leader {
                return self.forward(now, leader, origin, command);
            }
            let why = if is_open {
                "no node leads the metadata log"
            } else {
                "the controller is stopping"
            };
            let answer = CommandAnswer::Failed(ErrorCode::NotController, why.into());
            self.answer_command(now, origin, answer);
        }
    }

    fn forward(&mut self, now: Now, leader: NodeId, origin: Origin, command: Command) {
        let request = self.request_of(command);
        // What keeps a broker in the cluster never waits behind what others must apply first.
        let (lane, patience) = match origin.asker {
            Asker::Registration | Asker::Heartbeat | Asker::InSync(..) => (Lane::Control, None),
            Asker::Request(_) | Asker::Peer(_) | Asker::ProducerIds => {
                (Lane::Command, Some(self.limits().controller_wait))
            }
        };
        let tag = PeerTag::Command(origin);
        let Self { peers, fx, .. } = self;
        let question = Question { request, patience, tag };
        peers.links.ask(now.mono, leader, lane, question, fx);
    }

    /// Returns the request by which another node is asked for a command.
    fn request_of(&self, command: Command) -> Request {
        match command {
            Command::CreateTopics(request) => request.into(),
            Command::AutoCreate(names) => {
                let topic = |name| MetadataRequestTopic { name: Some(name), ..Default::default() };
                MetadataRequest {
                    topics: Some(names.into_iter().map(topic).collect()),
                    allow_auto_topic_creation: true,
                    ..MetadataRequest::default()
                }
                .into()
            }
            // Whoever is asked for a coordinator makes its topic.
            Command::CreateInternal(topic) => FindCoordinatorRequest {
                key_type: key_type_of(topic),
                coordinator_keys: vec!["".into()],
                ..FindCoordinatorRequest::default()
            }
            .into(),
            Command::DeleteTopics(request, _) => request.into(),
            Command::CreatePartitions(request) => request.into(),
            Command::AlterConfigs(request) => request.into(),
            Command::IncrementalAlterConfigs(request) => request.into(),
            Command::AllocateProducerIds(node) => AllocateProducerIdsRequest {
                broker_id: node.0,
                broker_epoch: self.image.broker(node).map_or(-1, |broker| broker.broker_epoch),
            }
            .into(),
            Command::RegisterBroker(_, request) => request.into(),
            Command::Heartbeat(request) => request.into(),
            Command::AlterPartition(request, _) => request.into(),
            Command::ElectLeaders(request) => request.into(),
            Command::AlterReassignments(request) => request.into(),
            Command::ListReassignments(request) => request.into(),
            Command::DescribeQuorum(request) => request.into(),
        }
    }

    /// Takes the answer of the controller to a command that was sent to it.
    pub(in crate::broker) fn on_command_response(
        &mut self,
        now: Now,
        origin: Origin,
        response: Option<Response>,
    ) {
        let gone = || {
            let why = "the controller did not answer".into();
            CommandAnswer::Failed(ErrorCode::NotController, why)
        };
        let answer = match response {
            None
            | Some(Response::AllocateProducerIds(AllocateProducerIdsResponse {
                error_code: 1..,
                ..
            })) => gone(),
            Some(Response::Metadata(_) | Response::FindCoordinator(_)) => {
                CommandAnswer::AutoCreated
            }
            Some(Response::AllocateProducerIds(response)) => {
                CommandAnswer::ProducerIds(response.producer_id_start)
            }
            Some(response) => CommandAnswer::Response(response),
        };
        self.answer_command(now, origin, answer);
    }

    /// Hands out every answer of the controller that may leave.
    pub(in crate::broker) fn answer_commands(&mut self, now: Now) {
        let answers = self.controller.as_mut().map(crate::metadata::Controller::take_answers);
        for (origin, answer) in answers.unwrap_or_default() {
            self.answer_command(now, origin, answer);
        }
    }

    pub(in crate::broker) fn answer_command(
        &mut self,
        now: Now,
        origin: Origin,
        answer: CommandAnswer,
    ) {
        if origin.shard == self.config.shard {
            self.on_command_answer(now, origin.asker, answer);
        } else {
            let post = crate::broker::post::Post::CommandAnswer { asker: origin.asker, answer };
            self.post(origin.shard, post);
        }
    }
}
