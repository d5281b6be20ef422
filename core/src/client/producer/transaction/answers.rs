//! What the coordinators of a transaction have answered, and what follows from it.

use super::{Call, Coordinator, Question, State, TransactionError, Transactions};
use crate::client::group::requests::found_coordinator;
use crate::client::producer::sender::Sender;
use crate::client::{ClientError, backoff};
use crate::error::ErrorCode;
use crate::ids::{NodeId, ProducerEpoch, ProducerId};
use std::time::Duration;

use crate::time::Instant;
use crate::wire::Response;
use crate::wire::api::add_partitions_to_txn::AddPartitionsToTxnResponse;
use crate::wire::api::txn_offset_commit::TxnOffsetCommitResponse;

/// Pause before a partition is taken in again while the transaction before is still ending: that is a
/// matter of moments. As in Kafka's client.
const ENDING_PAUSE: Duration = Duration::from_millis(20);

/// What follows from an error.
enum Fate {
    /// It is asked again after a pause, of whoever is the coordinator then if that `is_elsewhere`.
    Again {
        is_elsewhere: bool,
    },
    Abort(ClientError),
    Die(TransactionError),
}

/// Returns what follows from the failure of a record, if it is not that the transaction is to be aborted.
pub(super) fn of_record(error: &ClientError) -> Option<TransactionError> {
    let said = if let ClientError::Unknown { last: Some(last) } = error { last } else { error };
    if matches!(said, ClientError::UnsupportedApi(_)) {
        return Some(TransactionError::Fatal(error.clone()));
    }
    // An epoch that is too old may be due to a timeout of the transaction: its coordinator knows.
    let code = said.refused_with()?;
    if code == ErrorCode::ProducerFenced {
        return Some(TransactionError::Fenced);
    }
    is_fatal(code).then(|| TransactionError::Fatal(error.clone()))
}

fn is_fatal(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::TransactionalIdAuthorizationFailed
            | ErrorCode::UnsupportedVersion
            | ErrorCode::InvalidProducerIdMapping
    )
}

impl Question {
    /// Returns what follows from an error.
    fn fate(&self, error: ClientError) -> Fate {
        if matches!(error, ClientError::Disconnected | ClientError::TimedOut) {
            return Fate::Again { is_elsewhere: true };
        }
        let Some(code) = error.refused_with() else {
            return Fate::Die(TransactionError::Fatal(error));
        };
        if matches!(code, ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced) {
            return Fate::Die(TransactionError::Fenced);
        }
        let has_moved =
            matches!(code, ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator);
        let is_silent = code == ErrorCode::RequestTimedOut && *self == Self::StageOffsets;
        if has_moved || is_silent {
            Fate::Again { is_elsewhere: true }
        } else if code.is_retriable() {
            Fate::Again { is_elsewhere: false }
        } else if self.lets_abort(code) {
            Fate::Abort(error)
        } else {
            Fate::Die(TransactionError::Fatal(error))
        }
    }

    /// Whether the producer can go on after an error of this kind, once the transaction is aborted.
    fn lets_abort(&self, code: ErrorCode) -> bool {
        let is_of_group = matches!(self, Self::FindGroup | Self::AddOffsets | Self::StageOffsets);
        match self {
            // What ends the transaction cannot be helped by ending it.
            Self::End { committed: false } | Self::ProducerId { bump: true } => false,
            _ if code == ErrorCode::TransactionAbortable => true,
            _ if code == ErrorCode::UnknownProducerId => {
                !matches!(self, Self::ProducerId { .. } | Self::End { .. })
            }
            Self::AddPartitions => !is_fatal(code) && code != ErrorCode::InvalidTxnState,
            _ if code == ErrorCode::GroupAuthorizationFailed => is_of_group,
            Self::StageOffsets => matches!(
                code,
                ErrorCode::IllegalGeneration
                    | ErrorCode::UnknownMemberId
                    | ErrorCode::FencedInstanceId
            ),
            Self::FindTransaction
            | Self::FindGroup
            | Self::ProducerId { .. }
            | Self::AddOffsets
            | Self::End { .. } => false,
        }
    }
}

impl Sender {
    pub(in crate::client::producer) fn on_transaction_answer(
        &mut self,
        now: Instant,
        question: &Question,
        result: Result<Response, ClientError>,
    ) {
        let Some(transactions) = &mut self.transactions else { return };
        transactions.is_asked = false;
        let is_answered = result.is_ok();
        let outcome = result.and_then(|response| self.take_in(question, response));
        let Some(transactions) = &mut self.transactions else { return };
        let Err(error) = outcome else {
            // Who says where the coordinator is need not be right.
            if !matches!(question, Question::FindTransaction | Question::FindGroup) {
                transactions.failures = 0;
            }
            return;
        };
        let is_ending = error.refused_with() == Some(ErrorCode::ConcurrentTransactions);
        match question.fate(error) {
            Fate::Again { is_elsewhere } => {
                if is_elsewhere {
                    transactions.lose_coordinator(question);
                }
                if !is_answered {
                    transactions.is_in_doubt(question);
                }
                let config = &self.config.network;
                let pause = if is_ending && !transactions.is_begun {
                    ENDING_PAUSE
                } else {
                    backoff(config.retry_backoff, config.retry_backoff_max, transactions.failures)
                };
                transactions.failures = transactions.failures.saturating_add(1);
                transactions.retry_at = Some(now + pause);
            }
            Fate::Abort(error) => {
                transactions.is_settled(question);
                transactions.needs_epoch |= !transactions.is_v2
                    && error.refused_with() == Some(ErrorCode::UnknownProducerId);
                transactions.fail(error);
            }
            Fate::Die(error) => transactions.die(now, error),
        }
    }

    /// Takes in that a question was answered, or returns what was said instead.
    fn take_in(&mut self, question: &Question, response: Response) -> Result<(), ClientError> {
        match (question, response) {
            (Question::FindTransaction, Response::FindCoordinator(response)) => {
                let node = found_coordinator(&response)?;
                let found = self.coordinator_at(node);
                self.about_transactions(|it| it.coordinator = found);
            }
            (Question::FindGroup, Response::FindCoordinator(response)) => {
                let node = found_coordinator(&response)?;
                let found = self.coordinator_at(node);
                self.about_transactions(|it| {
                    if let Some(offsets) = it.offsets.front_mut() {
                        offsets.coordinator = found;
                    }
                });
            }
            (Question::ProducerId { .. }, Response::InitProducerId(response)) => {
                no_error(response.error_code)?;
                self.sequences
                    .set(ProducerId(response.producer_id), ProducerEpoch(response.producer_epoch));
                self.about_transactions(Transactions::on_producer_id);
            }
            (Question::AddPartitions, Response::AddPartitionsToTxn(response)) => {
                error_of_partitions(&response)?;
                self.about_transactions(|it| {
                    it.partitions.append(&mut it.adding);
                    it.is_unsure = false;
                    it.is_begun = true;
                });
            }
            (Question::AddOffsets, Response::AddOffsetsToTxn(response)) => {
                no_error(response.error_code)?;
                self.about_transactions(|it| {
                    it.is_begun = true;
                    if let Some(offsets) = it.offsets.front_mut() {
                        offsets.is_added = true;
                        offsets.is_unsure = false;
                    }
                });
            }
            (Question::StageOffsets, Response::TxnOffsetCommit(response)) => {
                let Some(transactions) = &mut self.transactions else { return Ok(()) };
                transactions.on_staged(&response)?;
            }
            (Question::End { .. }, Response::EndTxn(response)) => {
                no_error(response.error_code)?;
                let is_given = response.producer_id >= 0;
                if is_given {
                    self.sequences.set(
                        ProducerId(response.producer_id),
                        ProducerEpoch(response.producer_epoch),
                    );
                }
                self.about_transactions(|it| {
                    it.needs_epoch = !is_given && (it.needs_epoch || it.is_v2);
                    it.set_ended();
                });
                self.settle_version();
            }
            _ => unreachable!("an answer has the type of its question"),
        }
        Ok(())
    }

    fn coordinator_at(&self, node: NodeId) -> Coordinator {
        let (failures, answers) = (self.network.failures(node), self.network.metadata().answers());
        Coordinator { node: Some(node), failures, answers }
    }

    fn about_transactions(&mut self, act: impl FnOnce(&mut Transactions)) {
        if let Some(transactions) = &mut self.transactions {
            act(transactions);
        }
    }
}

impl Transactions {
    fn on_producer_id(&mut self) {
        self.needs_epoch = false;
        if self.state == State::Initializing {
            self.state = State::Ready;
            self.end_call(Call::Init, Ok(()));
        } else {
            self.set_ended();
        }
    }

    const fn set_ended(&mut self) {
        if let State::Ending { is_ended, .. } = &mut self.state {
            *is_ended = true;
        }
    }

    /// The coordinator that was asked is gone, or is another one.
    fn lose_coordinator(&mut self, question: &Question) {
        match question {
            Question::StageOffsets => {
                if let Some(offsets) = self.offsets.front_mut() {
                    offsets.coordinator = Coordinator::default();
                }
            }
            Question::FindTransaction
            | Question::FindGroup
            | Question::ProducerId { .. }
            | Question::AddPartitions
            | Question::AddOffsets
            | Question::End { .. } => self.coordinator = Coordinator::default(),
        }
    }

    /// Whether what was asked was done is not known.
    fn is_in_doubt(&mut self, question: &Question) {
        match question {
            Question::AddPartitions => self.is_unsure = true,
            Question::AddOffsets => {
                if let Some(offsets) = self.offsets.front_mut() {
                    offsets.is_unsure = true;
                }
            }
            // Those are asked until they are answered, or lie within what was begun before.
            Question::FindTransaction
            | Question::FindGroup
            | Question::ProducerId { .. }
            | Question::StageOffsets
            | Question::End { .. } => {}
        }
    }

    /// What was asked was not done.
    fn is_settled(&mut self, question: &Question) {
        match question {
            Question::AddPartitions => {
                self.adding.clear();
                self.is_unsure = false;
            }
            Question::AddOffsets => {
                if let Some(offsets) = self.offsets.front_mut() {
                    offsets.is_unsure = false;
                }
            }
            Question::FindTransaction
            | Question::FindGroup
            | Question::ProducerId { .. }
            | Question::StageOffsets
            | Question::End { .. } => {}
        }
    }

    /// Takes in which offsets are staged; those that may be staged later are asked for again.
    fn on_staged(&mut self, response: &TxnOffsetCommitResponse) -> Result<(), ClientError> {
        let Some(offsets) = self.offsets.front_mut() else { return Ok(()) };
        let mut again = None;
        for topic in &response.topics {
            for one in &topic.partitions {
                let index = crate::ids::PartitionIndex(one.partition_index);
                match ClientError::from_code(one.error_code) {
                    None => {
                        offsets.left.remove(&(topic.name.clone(), index));
                    }
                    Some(error) if error.is_retriable() => again = Some(error),
                    Some(error) => return Err(error),
                }
            }
        }
        if let Some(error) = again {
            return Err(error);
        }
        if !offsets.left.is_empty() {
            return Err(ClientError::Malformed("no word about an offset".to_owned()));
        }
        let is_given_up = offsets.is_given_up;
        self.offsets.pop_front();
        if !is_given_up {
            self.end_call(Call::SendOffsets, Ok(()));
        }
        Ok(())
    }
}

fn no_error(code: i16) -> Result<(), ClientError> {
    ClientError::from_code(code).map_or(Ok(()), Err)
}

/// Finds the error that matters most among those of partitions: none of them was taken in then, and
/// most say no more than that.
fn error_of_partitions(response: &AddPartitionsToTxnResponse) -> Result<(), ClientError> {
    let codes = response
        .results_by_topic_v3_and_below
        .iter()
        .flat_map(|topic| &topic.results_by_partition)
        .map(|partition| partition.partition_error_code);
    let mut worst = None;
    for error in codes.filter_map(ClientError::from_code) {
        if error.refused_with() != Some(ErrorCode::OperationNotAttempted) {
            return Err(error);
        }
        worst = Some(error);
    }
    worst.map_or(Ok(()), Err)
}
