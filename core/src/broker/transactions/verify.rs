//! What waits for a coordinator to say that its transaction is under way: the first batch of a transaction in a
//! partition, and the first offsets of one in a group's partition (KIP-890).
//!
//! A batch that is late would otherwise open a transaction that nobody ends. What comes behind one that waits, of
//! the same producer, waits with it, so that nothing is overtaken; a marker that is written meanwhile makes the
//! answer worthless, which the [guard](crate::partition::VerificationGuard) tells.
//!
//! Where all logs share one journal, the coordinator says so before that is durable: what is written then stands
//! behind it, and is acknowledged by the same flush.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::broker::internal::Internal;
use crate::broker::peers::PeerTag;
use crate::broker::post::{Answer, Ask, GroupItem, TransactionItem, TransactionRef};
use crate::broker::shard::Shard;
use crate::coordinator::transaction::api as transaction;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, PartitionIndex, ProducerEpoch, ProducerId, TopicPartition};
use crate::partition::leader::Acks;
use crate::partition::{Partition, VerificationGuard, Waiter};
use crate::peer::{Lane, Question};
use crate::record::batch::Batch;
use crate::time::Now;
use crate::wire::api::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use crate::wire::{ApiKey, KafkaString, Response};

/// The first version of `Produce` that takes its partitions into the transaction by itself.
pub(in crate::broker) const PRODUCE_ADDS: i16 = 12;
/// The same of `TxnOffsetCommit`.
pub(in crate::broker) const COMMIT_ADDS: i16 = 5;

/// What waits.
#[derive(Clone, Debug)]
enum Held {
    Batch { waiter: Waiter, records: Bytes, acks: Acks },
    Offsets { waiter: Waiter, item: Box<GroupItem> },
}

#[derive(Clone, Debug)]
struct Verifying {
    guard: VerificationGuard,
    leader_epoch: LeaderEpoch,
    producer_epoch: ProducerEpoch,
    held: Vec<Held>,
}

/// What waits, by the partition and the producer.
#[derive(Clone, Default, Debug)]
pub(in crate::broker) struct Verifications {
    of: BTreeMap<(TopicPartition, ProducerId), Verifying>,
}

impl Shard {
    /// Holds a batch back if its transaction must be verified first. Returns it if not.
    ///
    /// # Errors
    /// Why it is refused at once.
    pub(in crate::broker) fn hold_batch(
        &mut self,
        now: Now,
        id: TopicPartition,
        records: Bytes,
        acks: Acks,
        waiter: Waiter,
        of: Option<&TransactionRef>,
    ) -> Result<Option<Bytes>, ErrorCode> {
        // What is no batch is refused where batches are looked at.
        let Ok(batch) = Batch::split_from(&mut records.clone()) else { return Ok(Some(records)) };
        let Self { partitions, log, .. } = self;
        let waits = |it: &Partition| it.needs_verification(now, &batch, log);
        if !partitions.get(&id).is_some_and(waits) {
            return Ok(Some(records));
        }
        let of = of.ok_or(ErrorCode::TransactionalIdAuthorizationFailed)?;
        self.hold(now, id, &batch, Held::Batch { waiter, records, acks }, of)?;
        Ok(None)
    }

    /// Holds offsets of a group back if their transaction must be verified first. Returns them if not.
    ///
    /// # Errors
    /// Why they are refused at once.
    pub(in crate::broker) fn hold_offsets(
        &mut self,
        now: Now,
        waiter: Waiter,
        item: GroupItem,
        (producer_id, producer_epoch): (ProducerId, ProducerEpoch),
    ) -> Result<Option<GroupItem>, ErrorCode> {
        let id = item.partition;
        if self.log.has_open_transaction(id, producer_id, producer_epoch) {
            return Ok(Some(item));
        }
        let of = item.transaction.clone();
        let of = of.ok_or(ErrorCode::TransactionalIdAuthorizationFailed)?;
        let batch = stand_in(producer_id, producer_epoch);
        self.hold(now, id, &batch, Held::Offsets { waiter, item: Box::new(item) }, &of)?;
        Ok(None)
    }

    fn hold(
        &mut self,
        now: Now,
        id: TopicPartition,
        batch: &Batch,
        held: Held,
        of: &TransactionRef,
    ) -> Result<(), ErrorCode> {
        let key = (id, batch.producer_id());
        let Self { partitions, verifications, .. } = self;
        let partition = partitions.get_mut(&id).ok_or(ErrorCode::NotLeaderOrFollower)?;
        let guard = partition.begin_verification(now, batch)?;
        let leader_epoch = partition.leader_epoch();
        if let Some(verifying) = verifications.of.get_mut(&key)
            && verifying.guard == guard
        {
            verifying.held.push(held);
            return Ok(());
        }
        let producer_epoch = batch.producer_epoch();
        let new = Verifying { guard, leader_epoch, producer_epoch, held: vec![held] };
        if let Some(before) = verifications.of.insert(key, new) {
            // A newer epoch of the producer takes over, or one of this partition.
            let is_fenced = before.producer_epoch < producer_epoch;
            let code = if is_fenced {
                ErrorCode::InvalidProducerEpoch
            } else {
                ErrorCode::NotLeaderOrFollower
            };
            self.refuse_held(now, before.held, code);
        }
        self.ask_whether_under_way(now, key, guard, producer_epoch, of);
        Ok(())
    }

    fn ask_whether_under_way(
        &mut self,
        now: Now,
        key: (TopicPartition, ProducerId),
        guard: VerificationGuard,
        producer_epoch: ProducerEpoch,
        of: &TransactionRef,
    ) {
        let (id, producer_id) = key;
        let name =
            self.image.topic(id.topic_id).map(|topic| KafkaString::from(topic.name.as_str()));
        let coordinator = self.transactions_of(&of.transactional_id);
        let (Some(name), Ok((coordinator, leader))) = (name, coordinator) else {
            return self.end_verification(now, key, guard, ErrorCode::CoordinatorNotAvailable);
        };
        let request = self.internal_request(Internal::Verification {
            partition: id,
            producer: producer_id,
            guard,
        });
        if leader == self.config.node.node_id {
            let asked = transaction::AddPartitionsToTxn {
                version: ApiKey::AddPartitionsToTxn.max_version(),
                transactional_id: of.transactional_id.detached(),
                producer_id,
                producer_epoch,
                verify_only: !of.adds,
                topics: vec![transaction::TxnTopic { name, partitions: vec![id.partition] }],
            };
            let request_of = transaction::Request::AddPartitionsToTxn(asked);
            let item = TransactionItem {
                index: 0,
                partition: coordinator,
                request: request_of,
                spoken: None,
                is_ahead: self.comes_behind_all(id),
            };
            return self.ask(now, self.owner(coordinator), request, Ask::Transaction(vec![item]));
        }
        let topic = AddPartitionsToTxnTopic { name, partitions: vec![id.partition.0] };
        let asked = AddPartitionsToTxnTransaction {
            transactional_id: of.transactional_id.clone(),
            producer_id: producer_id.0,
            producer_epoch: producer_epoch.0,
            verify_only: !of.adds,
            topics: vec![topic],
        };
        let message = AddPartitionsToTxnRequest { transactions: vec![asked], ..Default::default() };
        let question =
            Question { request: message.into(), patience: None, tag: PeerTag::Internal(request) };
        let Self { peers, fx, .. } = self;
        peers.links.ask(now.mono, leader, Lane::Transactions, question, fx);
    }

    pub(in crate::broker) fn on_verification_response(
        &mut self,
        now: Now,
        key: (TopicPartition, ProducerId),
        guard: VerificationGuard,
        response: Option<Response>,
    ) {
        let code = match response {
            Some(Response::AddPartitionsToTxn(response)) => {
                let found = response.results_by_transaction.first();
                let topic = found.and_then(|found| found.topic_results.first());
                let partition = topic.and_then(|topic| topic.results_by_partition.first());
                partition.and_then(|it| ErrorCode::from_code(it.partition_error_code))
            }
            _ => None,
        };
        let code = code.unwrap_or(ErrorCode::CoordinatorNotAvailable);
        self.end_verification(now, key, guard, code);
    }

    /// Takes in what a coordinator of this node answers.
    pub(in crate::broker) fn on_verified(
        &mut self,
        now: Now,
        key: (TopicPartition, ProducerId),
        guard: VerificationGuard,
        outcome: &Result<transaction::Response, ErrorCode>,
    ) {
        let code = match outcome {
            Err(code) => *code,
            Ok(transaction::Response::AddPartitionsToTxn(answer)) => {
                let topic = answer.topics.first();
                let partition = topic.and_then(|topic| topic.partitions.first());
                partition.map_or(ErrorCode::CoordinatorNotAvailable, |(_, code)| *code)
            }
            // Of another kind, which nobody gives: the client asks again.
            Ok(_) => ErrorCode::CoordinatorNotAvailable,
        };
        self.end_verification(now, key, guard, code);
    }

    fn end_verification(
        &mut self,
        now: Now,
        key: (TopicPartition, ProducerId),
        guard: VerificationGuard,
        code: ErrorCode,
    ) {
        // The answer to what was asked under another guard says nothing of what waits now.
        if self.verifications.of.get(&key).is_none_or(|verifying| verifying.guard != guard) {
            return;
        }
        let Some(verifying) = self.verifications.of.remove(&key) else { return };
        let Verifying { leader_epoch, producer_epoch, held, .. } = verifying;
        if code != ErrorCode::None {
            if let Some(partition) = self.partitions.get_mut(&key.0) {
                partition.refuse_verification(guard, code);
            }
            return self.refuse_held(now, held, code);
        }
        let id = key.0;
        let leads_on = self.partitions.get(&id).is_some_and(|it| it.leader_epoch() == leader_epoch);
        if !leads_on || self.refused_by_lease(now, id).is_some() {
            return self.refuse_held(now, held, ErrorCode::NotLeaderOrFollower);
        }
        for held in held {
            match held {
                Held::Batch { waiter, records, acks } => {
                    let Self { partitions, log, fx, .. } = self;
                    let Some(partition) = partitions.get_mut(&id) else { continue };
                    let answer =
                        partition.produce(now, records, acks, Some(guard), waiter, log, fx);
                    if let Some(answer) = answer {
                        self.answer_waiter(now, waiter, Answer::Produced(answer));
                    }
                }
                Held::Offsets { waiter, item } => {
                    // A marker that was written meanwhile has ended what the coordinator spoke of.
                    let holds = self.partitions.get(&id).is_some_and(|it| it.is_guarded_by(guard))
                        || self.log.has_open_transaction(id, key.1, producer_epoch);
                    if holds {
                        self.ask_group_at_once(now, waiter, *item);
                    } else {
                        let code = ErrorCode::InvalidTxnState;
                        self.answer_waiter(now, waiter, Answer::Group(Err(code)));
                    }
                }
            }
        }
        self.wake_followers(now, id);
    }

    fn refuse_held(&mut self, now: Now, held: Vec<Held>, code: ErrorCode) {
        for held in held {
            match held {
                Held::Batch { waiter, acks, .. } => {
                    let code = word_to_producer(code, acks.version);
                    self.answer_waiter(now, waiter, Answer::Produced(Err(code.into())));
                }
                Held::Offsets { waiter, item } => {
                    let version = item.version;
                    let code = word_to_committer(code, version);
                    self.answer_waiter(now, waiter, Answer::Group(Err(code)));
                }
            }
        }
    }

    /// Finds the partition of `__transaction_state` that a transactional id is kept in, and its leader.
    pub(in crate::broker) fn transactions_of(
        &self,
        transactional_id: &str,
    ) -> Result<(TopicPartition, crate::ids::NodeId), ErrorCode> {
        let topic = self
            .image
            .topic_by_name(crate::metadata::image::TRANSACTION_STATE)
            .ok_or(ErrorCode::NotCoordinator)?;
        let count = topic.partitions.len().max(1) as i32;
        let partition =
            PartitionIndex(crate::coordinator::transaction::partition_of(transactional_id, count));
        let state = topic.partition(partition).ok_or(ErrorCode::NotCoordinator)?;
        Ok((TopicPartition { topic_id: topic.id, partition }, state.leader))
    }
}

/// Stands for the batch of a group's offsets, which is made by the coordinator later.
fn stand_in(producer_id: ProducerId, producer_epoch: ProducerEpoch) -> Batch {
    use crate::record::builder::{BatchBuilder, Producer};
    use crate::record::compress::Codec;
    let producer = Producer { id: producer_id, epoch: producer_epoch, base_sequence: -1 };
    let mut builder = BatchBuilder::new(Codec::None).producer(producer).transactional();
    builder.push(0, None, None, &[]);
    builder.build()
}

/// Returns what a producer is told of what a coordinator said, so that it does the right thing: inside a Produce
/// clients know no errors of coordinators.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other code is passed on")]
const fn word_to_producer(code: ErrorCode, version: i16) -> ErrorCode {
    match code {
        ErrorCode::ConcurrentTransactions
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if version < 11 => ErrorCode::InvalidTxnState,
        code => code,
    }
}

/// The same for offsets that are committed in a transaction.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other code is passed on")]
const fn word_to_committer(code: ErrorCode, version: i16) -> ErrorCode {
    match code {
        ErrorCode::ConcurrentTransactions
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::NotCoordinator => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower => ErrorCode::NotCoordinator,
        ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
        ErrorCode::TransactionAbortable if version < 4 => ErrorCode::InvalidTxnState,
        code => code,
    }
}
