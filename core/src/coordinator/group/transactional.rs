//! Offsets that are committed by a transaction: staging them, and the end of the transaction.
//!
//! Source: KIP-98, KIP-447.

use super::api::{
    OffsetCommitAnswer, Response, Ticket, TopicErrors, TransactionalProducer, TxnOffsetCommit,
    VisibleOffset,
};
use super::live::GroupPhase;
use super::offsets::{Commit, Committer};
use super::replies::commit_refused;
use super::{Cx, GroupCoordinator};
use crate::error::ErrorCode;
use crate::ids::{Offset, ProducerEpoch, ProducerId};
use crate::io::Mark;

impl GroupCoordinator {
    pub(super) fn txn_offset_commit(
        &mut self,
        cx: &mut Cx<'_>,
        ticket: Ticket,
        request: &TxnOffsetCommit,
    ) {
        let answer = match self.try_stage(cx, request) {
            Ok(topics) => OffsetCommitAnswer { topics },
            Err(error) => {
                cx.log.mark(Mark::CommitRefused);
                commit_refused(&request.topics, error)
            }
        };
        self.replies.push(ticket, Response::TxnOffsetCommit(answer));
    }

    fn try_stage(
        &mut self,
        cx: &mut Cx<'_>,
        request: &TxnOffsetCommit,
    ) -> Result<Vec<TopicErrors>, ErrorCode> {
        let commit = Commit {
            group_id: &request.group_id,
            committer: self.validate_staging(request)?,
            by_name: true,
            timestamp: cx.now.wall.0,
            expire_timestamp: -1,
            producer: Some(request.producer),
        };
        self.store(cx, commit, &request.topics)
    }

    /// Checks who stages. A rebalance that goes on is no hindrance, and a client that does not say
    /// whether it is a member is taken at its word, because old ones cannot say it.
    fn validate_staging(&self, request: &TxnOffsetCommit) -> Result<Committer, ErrorCode> {
        if request.group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let by_nobody = request.generation_id < 0
            && request.member_id.is_empty()
            && request.group_instance_id.is_none();
        let Some(group) = self.groups.get(&request.group_id) else {
            return if request.generation_id < 0 {
                Ok(Committer::Nobody)
            } else if self.stored.has_offsets(&request.group_id) {
                Err(ErrorCode::UnknownMemberId)
            } else {
                Err(ErrorCode::IllegalGeneration)
            };
        };
        if by_nobody || (request.generation_id < 0 && group.phase() == GroupPhase::Empty) {
            return Ok(Committer::Nobody);
        }
        group.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != group.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        let joined = group.member(&request.member_id).map_or(0, |member| member.joined);
        Ok(Committer::Member { joined })
    }

    /// Takes in the marker at `offset`, live or while loading: what the producer has staged is stored
    /// or dropped. Returns what can be read from now on; as ever, no reply tells it before the marker
    /// is committed. A marker of a transaction that has staged nothing here is no harm.
    ///
    /// # Panics
    /// If the marker of a coordinator that serves stands before what it has already taken in.
    pub fn on_marker(
        &mut self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        committed: bool,
        offset: Offset,
    ) -> Vec<VisibleOffset> {
        if self.is_loaded {
            assert!(offset >= self.replies.end(), "a coordinator's log grows at its end");
            self.replies.rest_on(offset.plus(1));
        }
        let producer = TransactionalProducer { id: producer_id, epoch: producer_epoch };
        self.stored.end_transaction(producer, committed)
    }
}
