//! Requests about transactions (keys 22 with a transactional id, 24 to 27, 61, 65, 66): what they ask of
//! coordinators and of partitions, and the answers that say no to all of a request, in the form of each.

use std::time::Duration;

use crate::broker::pending::{Gather, RequestContext};
use crate::broker::post::{Ask, MarkerItem, ProduceRefusal, Produced, SizeItem};
use crate::broker::shard::Shard;
use crate::broker::transactions::markers::marker_of;
use crate::coordinator::group::partition_of;
use crate::coordinator::transaction::{Pattern, api as transaction};
use crate::error::ErrorCode;
use crate::ids::{PartitionIndex, ProducerEpoch, ProducerId, Uuid};
use crate::metadata::Command;
use crate::metadata::image::{CONSUMER_OFFSETS, InternalTopic};
use crate::time::Now;
use crate::wire::KafkaString;
use crate::wire::api::add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use crate::wire::api::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult,
};
use crate::wire::api::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, DescribedProducer,
    DescribedProducersPartition, DescribedProducersTopic,
};
use crate::wire::api::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, DescribedTransaction,
    DescribedTransactionTopic,
};
use crate::wire::api::end_txn::{EndTxnRequest, EndTxnResponse};
use crate::wire::api::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::wire::api::list_transactions::{
    ListTransactionsRequest, ListTransactionsResponse, ListedTransaction,
};
use crate::wire::api::write_txn_markers::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use crate::wire::transaction_record::TransactionStatus;

/// The first version of `AddPartitionsToTxn` that is for brokers and holds several transactions.
const BATCHED: i16 = 4;
/// How long the replicas may take to have a marker before whoever sent it asks again.
const MARKERS_WITHIN: Duration = Duration::from_secs(30);

impl Shard {
    /// `InitProducerId` with a transactional id.
    pub(in crate::broker) fn on_init_transactional_producer(
        &mut self,
        now: Now,
        ctx: RequestContext,
        transactional_id: &KafkaString,
        request: &InitProducerIdRequest,
    ) {
        let asked = transaction::Request::InitProducerId(transaction::InitProducerId {
            version: ctx.version,
            transactional_id: transactional_id.detached(),
            transaction_timeout_ms: request.transaction_timeout_ms,
            producer_id: ProducerId(request.producer_id),
            producer_epoch: ProducerEpoch(request.producer_epoch),
        });
        let response = InitProducerIdResponse { producer_epoch: -1, ..Default::default() };
        self.ask_transactions(now, ctx, response, vec![(transactional_id.clone(), asked)]);
    }

    /// `AddPartitionsToTxn`: of a producer up to version 3, of brokers for several producers since.
    pub(in crate::broker) fn on_add_partitions_to_txn(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &AddPartitionsToTxnRequest,
    ) {
        let response = add_partitions_refused(request, ErrorCode::RequestTimedOut);
        if ctx.version >= BATCHED {
            let asked = request.transactions.iter().map(|one| {
                let asked = transaction::AddPartitionsToTxn {
                    version: ctx.version,
                    transactional_id: one.transactional_id.detached(),
                    producer_id: ProducerId(one.producer_id),
                    producer_epoch: ProducerEpoch(one.producer_epoch),
                    verify_only: one.verify_only,
                    topics: topics_of(&one.topics),
                };
                let request = transaction::Request::AddPartitionsToTxn(asked);
                (one.transactional_id.clone(), request)
            });
            let asked = asked.collect();
            return self.ask_transactions(now, ctx, response, asked);
        }
        if let Some(refused) = self.partitions_unknown(&request.v3_and_below_topics) {
            let response = AddPartitionsToTxnResponse {
                results_by_topic_v3_and_below: refused,
                ..AddPartitionsToTxnResponse::default()
            };
            return self.respond(&ctx, response);
        }
        let id = &request.v3_and_below_transactional_id;
        let asked = transaction::AddPartitionsToTxn {
            version: ctx.version,
            transactional_id: id.detached(),
            producer_id: ProducerId(request.v3_and_below_producer_id),
            producer_epoch: ProducerEpoch(request.v3_and_below_producer_epoch),
            verify_only: false,
            topics: topics_of(&request.v3_and_below_topics),
        };
        let asked = transaction::Request::AddPartitionsToTxn(asked);
        self.ask_transactions(now, ctx, response, vec![(id.clone(), asked)]);
    }

    /// Returns the answer where a partition does not exist: the others are not tried then.
    fn partitions_unknown(
        &self,
        topics: &[AddPartitionsToTxnTopic],
    ) -> Option<Vec<AddPartitionsToTxnTopicResult>> {
        let is_there = |topic: &AddPartitionsToTxnTopic, index: i32| {
            let found = self.image.topic_by_name(&topic.name);
            found.is_some_and(|found| found.partition(PartitionIndex(index)).is_some())
        };
        let results = topics.iter().map(|topic| AddPartitionsToTxnTopicResult {
            name: topic.name.clone(),
            results_by_partition: topic
                .partitions
                .iter()
                .map(|&partition_index| AddPartitionsToTxnPartitionResult {
                    partition_index,
                    partition_error_code: if is_there(topic, partition_index) {
                        ErrorCode::OperationNotAttempted.code()
                    } else {
                        ErrorCode::UnknownTopicOrPartition.code()
                    },
                })
                .collect(),
        });
        let results: Vec<_> = results.collect();
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        let any = results
            .iter()
            .flat_map(|topic| &topic.results_by_partition)
            .any(|partition| partition.partition_error_code == unknown);
        any.then_some(results)
    }

    /// `AddOffsetsToTxn`: the partition that keeps the group's offsets becomes part of the transaction.
    pub(in crate::broker) fn on_add_offsets_to_txn(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &AddOffsetsToTxnRequest,
    ) {
        if request.group_id.is_empty() {
            return self.respond(&ctx, add_offsets_refused(ErrorCode::InvalidGroupId));
        }
        let Some(topic) = self.image.topic_by_name(CONSUMER_OFFSETS) else {
            // Whoever commits looks for the group's coordinator next, which makes the topic.
            let asker = self.asker(&ctx);
            self.respond(&ctx, add_offsets_refused(ErrorCode::CoordinatorNotAvailable));
            let command = Command::CreateInternal(InternalTopic::ConsumerOffsets);
            return self.command(now, asker, command);
        };
        let count = topic.partitions.len().max(1) as i32;
        let asked = transaction::Request::AddOffsetsToTxn(transaction::AddOffsetsToTxn {
            version: ctx.version,
            transactional_id: request.transactional_id.detached(),
            producer_id: ProducerId(request.producer_id),
            producer_epoch: ProducerEpoch(request.producer_epoch),
            topic: KafkaString::from_static(CONSUMER_OFFSETS),
            partition: PartitionIndex(partition_of(&request.group_id, count)),
        });
        let asked = vec![(request.transactional_id.clone(), asked)];
        self.ask_transactions(now, ctx, AddOffsetsToTxnResponse::default(), asked);
    }

    /// `EndTxn`.
    pub(in crate::broker) fn on_end_txn(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &EndTxnRequest,
    ) {
        let asked = transaction::Request::EndTxn(transaction::EndTxn {
            version: ctx.version,
            transactional_id: request.transactional_id.detached(),
            producer_id: ProducerId(request.producer_id),
            producer_epoch: ProducerEpoch(request.producer_epoch),
            committed: request.committed,
        });
        let asked = vec![(request.transactional_id.clone(), asked)];
        self.ask_transactions(now, ctx, EndTxnResponse::default(), asked);
    }

    /// `WriteTxnMarkers`: of coordinators on other nodes, and of operators who end a transaction that hangs.
    pub(in crate::broker) fn on_write_txn_markers(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &WriteTxnMarkersRequest,
    ) {
        let mut response = markers_refused(request, ErrorCode::RequestTimedOut);
        let arrival = self.arrival(ctx.id.connection);
        let (mut items, mut places) = (Vec::new(), Vec::new());
        for (m, marker) in request.markers.iter().enumerate() {
            let mut nth = 0;
            for (t, topic) in marker.topics.iter().enumerate() {
                let found = self.find_topic(&topic.name, Uuid::ZERO, false);
                for (p, &index) in topic.partition_indexes.iter().enumerate() {
                    match self.find_partition(found, index) {
                        Ok(partition) => {
                            let item = MarkerItem {
                                index: places.len() as u32,
                                partition,
                                marker: marker_of(marker),
                                transaction_version: marker.transaction_version,
                                arrival,
                            };
                            items.push((self.owner(partition), item));
                            places.push((m as u32, nth));
                        }
                        Err(code) => {
                            response.markers[m].topics[t].partitions[p].error_code = code.code();
                        }
                    }
                    nth += 1;
                }
            }
        }
        let deadline = now.mono + MARKERS_WITHIN;
        let gather = Gather {
            ctx,
            response: response.into(),
            places,
            outstanding: 0,
            deadline: None,
            is_silent: false,
            closes: false,
        };
        self.gather(now, gather, items, Some(deadline), Ask::Markers);
    }

    /// `DescribeTransactions`.
    pub(in crate::broker) fn on_describe_transactions(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &DescribeTransactionsRequest,
    ) {
        let response = transactions_refused(request, ErrorCode::NotCoordinator);
        let asked = request.transactional_ids.iter().map(|id| {
            let transactional_id = id.detached();
            let asked = transaction::DescribeTransaction { transactional_id };
            (id.clone(), transaction::Request::DescribeTransaction(asked))
        });
        let asked = asked.collect();
        self.ask_transactions(now, ctx, response, asked);
    }

    /// `ListTransactions`: those of the coordinators on this node.
    pub(in crate::broker) fn on_list_transactions(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &ListTransactionsRequest,
    ) {
        let pattern = request.transactional_id_pattern.as_ref().filter(|it| !it.is_empty());
        // Also where no coordinator is here.
        if let Some(Err(code)) = pattern.map(|text| Pattern::parse(text)) {
            return self.respond(&ctx, list_refused(code));
        }
        let asked = transaction::ListTransactions {
            state_filters: request.state_filters.iter().map(KafkaString::detached).collect(),
            producer_id_filters: request
                .producer_id_filters
                .iter()
                .map(|&id| ProducerId(id))
                .collect(),
            duration_filter_ms: request.duration_filter,
            pattern: pattern.map(KafkaString::detached),
        };
        let known = |name: &&KafkaString| {
            TransactionStatus::ALL.iter().any(|status| status.name() == name.as_str())
        };
        let unknown = request.state_filters.iter().filter(|name| !known(name));
        let response = ListTransactionsResponse {
            unknown_state_filters: unknown.cloned().collect(),
            ..ListTransactionsResponse::default()
        };
        self.ask_all_transactions(now, ctx, response.into(), &asked);
    }

    /// `DescribeProducers`: what the leaders of partitions know of their producers.
    pub(in crate::broker) fn on_describe_producers(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &DescribeProducersRequest,
    ) {
        let mut response = producers_refused(request, ErrorCode::RequestTimedOut);
        let (mut items, mut places) = (Vec::new(), Vec::new());
        for (t, topic) in request.topics.iter().enumerate() {
            let found = self.find_topic(&topic.name, Uuid::ZERO, false);
            for (p, &index) in topic.partition_indexes.iter().enumerate() {
                match self.find_partition(found, index) {
                    Ok(partition) => {
                        let item = SizeItem { index: places.len() as u32, partition };
                        items.push((self.owner(partition), item));
                        places.push((t as u32, p as u32));
                    }
                    Err(code) => response.topics[t].partitions[p].error_code = code.code(),
                }
            }
        }
        let gather = Gather {
            ctx,
            response: response.into(),
            places,
            outstanding: 0,
            deadline: None,
            is_silent: false,
            closes: false,
        };
        self.gather(now, gather, items, None, Ask::Producers);
    }
}

fn topics_of(topics: &[AddPartitionsToTxnTopic]) -> Vec<transaction::TxnTopic> {
    let topic = |topic: &AddPartitionsToTxnTopic| transaction::TxnTopic {
        name: topic.name.detached(),
        partitions: topic.partitions.iter().map(|&index| PartitionIndex(index)).collect(),
    };
    topics.iter().map(topic).collect()
}

/// Returns the code of an outcome that answers nothing: an answer of another kind is a fault of ours.
pub(in crate::broker) fn code_of(outcome: Result<transaction::Response, ErrorCode>) -> ErrorCode {
    outcome.err().unwrap_or(ErrorCode::UnknownServerError)
}

/// Returns what a producer is told where no coordinator has decided.
pub(in crate::broker) fn no_producer(
    outcome: Result<transaction::Response, ErrorCode>,
) -> transaction::ProducerAnswer {
    transaction::ProducerAnswer {
        error: code_of(outcome),
        producer_id: ProducerId(-1),
        producer_epoch: ProducerEpoch(-1),
    }
}

/// Writes what became of partitions that were to join a transaction into the response.
pub(in crate::broker) fn fill_added(
    response: &mut AddPartitionsToTxnResponse,
    at: usize,
    version: i16,
    outcome: Result<transaction::Response, ErrorCode>,
) {
    // Each partition has its own word.
    response.error_code = ErrorCode::None.code();
    let topics = if version >= BATCHED {
        &mut response.results_by_transaction[at].topic_results
    } else {
        &mut response.results_by_topic_v3_and_below
    };
    match outcome {
        Ok(transaction::Response::AddPartitionsToTxn(answer)) => {
            *topics = answer.topics.into_iter().map(added).collect();
        }
        outcome => {
            let code = code_of(outcome);
            for partition in topics.iter_mut().flat_map(|topic| &mut topic.results_by_partition) {
                partition.partition_error_code = code.code();
            }
        }
    }
}

fn added(topic: transaction::TxnTopicErrors) -> AddPartitionsToTxnTopicResult {
    let results = topic.partitions.into_iter().map(|(index, code)| {
        let (partition_index, partition_error_code) = (index.0, code.code());
        AddPartitionsToTxnPartitionResult { partition_index, partition_error_code }
    });
    AddPartitionsToTxnTopicResult { name: topic.name, results_by_partition: results.collect() }
}

/// Writes how a transactional id stands into the response.
pub(in crate::broker) fn fill_described(
    entry: &mut DescribedTransaction,
    outcome: Result<transaction::Response, ErrorCode>,
) {
    let answer = match outcome {
        Ok(transaction::Response::DescribeTransaction(answer)) => answer,
        outcome => {
            entry.error_code = code_of(outcome).code();
            return;
        }
    };
    entry.error_code = answer.error.code();
    if answer.error != ErrorCode::None {
        return;
    }
    entry.transaction_state = KafkaString::from_static(answer.status.name());
    entry.transaction_timeout_ms = answer.transaction_timeout_ms;
    entry.transaction_start_time_ms = answer.transaction_start_ms;
    entry.producer_id = answer.producer_id.0;
    entry.producer_epoch = answer.producer_epoch.0;
    let topics = answer.topics.into_iter().map(|topic| DescribedTransactionTopic {
        topic: topic.name,
        partitions: topic.partitions.iter().map(|index| index.0).collect(),
    });
    entry.topics = topics.collect();
}

/// Adds the transactional ids of a coordinator to the response.
pub(in crate::broker) fn fill_listed(
    response: &mut ListTransactionsResponse,
    outcome: Result<transaction::Response, ErrorCode>,
) {
    match outcome {
        Ok(transaction::Response::ListTransactions(answer)) if answer.error == ErrorCode::None => {
            let listed = answer.transactions.into_iter().map(|one| ListedTransaction {
                transactional_id: one.transactional_id,
                producer_id: one.producer_id.0,
                transaction_state: KafkaString::from_static(one.status.name()),
            });
            response.transaction_states.extend(listed);
        }
        Ok(transaction::Response::ListTransactions(answer)) => {
            response.error_code = answer.error.code();
        }
        // It leads the partition no more: whoever does is asked by the client too.
        Err(ErrorCode::NotCoordinator) => {}
        outcome => response.error_code = code_of(outcome).code(),
    }
}

/// Writes what became of a marker into the response: of the `nth` partition of its entry.
pub(in crate::broker) fn fill_marker(
    response: &mut WriteTxnMarkersResponse,
    entry: usize,
    nth: usize,
    outcome: &Result<Produced, ProduceRefusal>,
) {
    let topics = response.markers[entry].topics.iter_mut();
    if let Some(partition) = topics.flat_map(|topic| &mut topic.partitions).nth(nth) {
        let code = outcome.as_ref().err().map_or(ErrorCode::None, |refusal| refusal.code);
        partition.error_code = code.code();
    }
}

/// Writes what is known of a partition's producers into the response.
pub(in crate::broker) fn fill_producers(
    entry: &mut DescribedProducersPartition,
    outcome: Result<Vec<DescribedProducer>, ErrorCode>,
) {
    entry.error_code = outcome.as_ref().err().copied().unwrap_or(ErrorCode::None).code();
    entry.active_producers = outcome.unwrap_or_default();
}

/// Returns the answer that says no for every partition of every transaction; which of its two lists is
/// sent is a matter of the version.
fn add_partitions_refused(
    request: &AddPartitionsToTxnRequest,
    code: ErrorCode,
) -> AddPartitionsToTxnResponse {
    let topics = |topics: &[AddPartitionsToTxnTopic]| {
        topics
            .iter()
            .map(|topic| AddPartitionsToTxnTopicResult {
                name: topic.name.clone(),
                results_by_partition: topic
                    .partitions
                    .iter()
                    .map(|&partition_index| AddPartitionsToTxnPartitionResult {
                        partition_index,
                        partition_error_code: code.code(),
                    })
                    .collect(),
            })
            .collect()
    };
    AddPartitionsToTxnResponse {
        error_code: code.code(),
        results_by_transaction: request
            .transactions
            .iter()
            .map(|one| AddPartitionsToTxnResult {
                transactional_id: one.transactional_id.clone(),
                topic_results: topics(&one.topics),
            })
            .collect(),
        results_by_topic_v3_and_below: topics(&request.v3_and_below_topics),
        ..AddPartitionsToTxnResponse::default()
    }
}

/// Returns the answer that says no.
fn add_offsets_refused(code: ErrorCode) -> AddOffsetsToTxnResponse {
    AddOffsetsToTxnResponse { error_code: code.code(), ..AddOffsetsToTxnResponse::default() }
}

/// Returns the answer that says no for every partition of every marker.
fn markers_refused(request: &WriteTxnMarkersRequest, code: ErrorCode) -> WriteTxnMarkersResponse {
    let markers = request
        .markers
        .iter()
        .map(|marker| WritableTxnMarkerResult {
            producer_id: marker.producer_id,
            topics: marker
                .topics
                .iter()
                .map(|topic| WritableTxnMarkerTopicResult {
                    name: topic.name.clone(),
                    partitions: topic
                        .partition_indexes
                        .iter()
                        .map(|&partition_index| WritableTxnMarkerPartitionResult {
                            partition_index,
                            error_code: code.code(),
                        })
                        .collect(),
                })
                .collect(),
        })
        .collect();
    WriteTxnMarkersResponse { markers }
}

/// Returns the answer that says no for every partition.
fn producers_refused(
    request: &DescribeProducersRequest,
    code: ErrorCode,
) -> DescribeProducersResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| DescribedProducersTopic {
            name: topic.name.clone(),
            partitions: topic
                .partition_indexes
                .iter()
                .map(|&partition_index| DescribedProducersPartition {
                    partition_index,
                    error_code: code.code(),
                    ..DescribedProducersPartition::default()
                })
                .collect(),
        })
        .collect();
    DescribeProducersResponse { topics, ..DescribeProducersResponse::default() }
}

/// Returns the answer that says no for every transactional id.
fn transactions_refused(
    request: &DescribeTransactionsRequest,
    code: ErrorCode,
) -> DescribeTransactionsResponse {
    let transaction_states = request
        .transactional_ids
        .iter()
        .map(|id| DescribedTransaction {
            error_code: code.code(),
            transactional_id: id.clone(),
            ..DescribedTransaction::default()
        })
        .collect();
    DescribeTransactionsResponse { transaction_states, ..DescribeTransactionsResponse::default() }
}

/// Returns the answer that says no.
fn list_refused(code: ErrorCode) -> ListTransactionsResponse {
    ListTransactionsResponse { error_code: code.code(), ..ListTransactionsResponse::default() }
}
