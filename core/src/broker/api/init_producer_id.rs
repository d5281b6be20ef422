//! `InitProducerId` (key 22): fresh ids with epoch 0, from blocks that the controller hands out.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::pending::RequestContext;
use crate::broker::shard::Shard;
use crate::connection::RequestId;
use crate::digest::Digest;
use crate::error::ErrorCode;
use crate::ids::{ConnectionId, ProducerId, TopicPartition};
use crate::metadata::controller::Asker;
use crate::metadata::decide::PRODUCER_ID_BLOCK;
use crate::metadata::{Command, CommandAnswer};
use crate::time::Now;
use crate::wire::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

/// The ids that a shard may hand out, and who waits for more.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct ProducerIds {
    next: i64,
    end: i64,
    is_asking: bool,
    /// By request, so that those of a connection that is gone are found.
    waiting: BTreeMap<RequestId, RequestContext>,
    /// Coordinators of transactions that want one each.
    coordinators: BTreeSet<TopicPartition>,
}

impl ProducerIds {
    pub(in crate::broker) fn digest(&self, digest: &mut Digest) {
        digest.signed(self.next).signed(self.end).shown(&(self.is_asking, &self.waiting));
        digest.shown(&self.coordinators);
    }

    #[cfg(test)]
    pub(in crate::broker) fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// Forgets the requests of a connection that is gone.
    pub(in crate::broker) fn forget(&mut self, connection: ConnectionId) {
        while let Some((&id, _)) = self.waiting.range(RequestId::all_of(connection)).next() {
            self.waiting.remove(&id);
        }
    }
}

impl Shard {
    pub(in crate::broker) fn on_init_producer_id(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &InitProducerIdRequest,
    ) {
        if let Some(id) = &request.transactional_id {
            if id.is_empty() {
                return self.refuse_producer_id(&ctx, ErrorCode::InvalidRequest);
            }
            return self.on_init_transactional_producer(now, ctx, id, request);
        }
        // Bumping belongs to transactional ids; without one only both or none may be given.
        if (request.producer_id == -1) != (request.producer_epoch == -1) {
            return self.refuse_producer_id(&ctx, ErrorCode::InvalidRequest);
        }
        self.producer_ids.waiting.insert(ctx.id, ctx);
        self.hand_out_producer_ids(now);
        self.ask_for_producer_ids(now);
    }

    /// Asks for another block while somebody waits and none is on its way.
    fn ask_for_producer_ids(&mut self, now: Now) {
        let ids = &self.producer_ids;
        let somebody_waits = !ids.waiting.is_empty() || !ids.coordinators.is_empty();
        if somebody_waits && !ids.is_asking {
            self.producer_ids.is_asking = true;
            let broker = self.config.node.node_id;
            self.command(now, Asker::ProducerIds, Command::AllocateProducerIds(broker));
        }
    }

    pub(in crate::broker) fn on_producer_ids(&mut self, now: Now, answer: &CommandAnswer) {
        self.producer_ids.is_asking = false;
        match answer {
            &CommandAnswer::ProducerIds(first) => {
                self.producer_ids.next = first;
                self.producer_ids.end = first + PRODUCER_ID_BLOCK;
                self.hand_out_producer_ids(now);
                self.ask_for_producer_ids(now);
            }
            CommandAnswer::Failed(..) | CommandAnswer::Response(_) | CommandAnswer::AutoCreated => {
                // Retriable everywhere; with 15 or 16 clients would look for a coordinator.
                for ctx in std::mem::take(&mut self.producer_ids.waiting).into_values() {
                    self.refuse_producer_id(&ctx, ErrorCode::CoordinatorLoadInProgress);
                }
                for id in std::mem::take(&mut self.producer_ids.coordinators) {
                    self.give_producer_id(now, id, Err(ErrorCode::CoordinatorLoadInProgress));
                }
            }
        }
    }

    /// Finds an id for a coordinator of transactions, now or when there are more.
    pub(in crate::broker) fn want_producer_id(&mut self, now: Now, id: TopicPartition) {
        self.producer_ids.coordinators.insert(id);
        self.hand_out_producer_ids(now);
        self.ask_for_producer_ids(now);
    }

    fn hand_out_producer_ids(&mut self, now: Now) {
        while self.producer_ids.next < self.producer_ids.end {
            if let Some(id) = self.producer_ids.coordinators.pop_first() {
                let producer_id = ProducerId(self.producer_ids.next);
                self.producer_ids.next += 1;
                self.give_producer_id(now, id, Ok(producer_id));
                continue;
            }
            let Some((_, ctx)) = self.producer_ids.waiting.pop_first() else { return };
            let producer_id = self.producer_ids.next;
            self.producer_ids.next += 1;
            let response = InitProducerIdResponse {
                producer_id,
                producer_epoch: 0,
                ..InitProducerIdResponse::default()
            };
            self.respond(&ctx, response);
        }
    }

    fn refuse_producer_id(&mut self, ctx: &RequestContext, code: ErrorCode) {
        let response = InitProducerIdResponse {
            error_code: code.code(),
            producer_epoch: -1,
            ..InitProducerIdResponse::default()
        };
        self.respond(ctx, response);
    }
}
