//! The answers that say no to a whole request about transactions, in the form of each.

use crate::error::ErrorCode;
use crate::wire::api::add_offsets_to_txn::AddOffsetsToTxnResponse;
use crate::wire::api::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult,
};
use crate::wire::api::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, DescribedProducersPartition,
    DescribedProducersTopic,
};
use crate::wire::api::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, DescribedTransaction,
};
use crate::wire::api::end_txn::EndTxnResponse;
use crate::wire::api::list_transactions::ListTransactionsResponse;
use crate::wire::api::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};
use crate::wire::api::write_txn_markers::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};

/// Returns the answer that says no for every partition of every transaction; which of its two lists is
/// sent is a matter of the version.
pub(super) fn add_partitions_refused(
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
pub(super) fn add_offsets_refused(code: ErrorCode) -> AddOffsetsToTxnResponse {
    AddOffsetsToTxnResponse { error_code: code.code(), ..AddOffsetsToTxnResponse::default() }
}

/// Returns the answer that says no.
pub(super) fn end_txn_refused(code: ErrorCode) -> EndTxnResponse {
    EndTxnResponse { error_code: code.code(), ..EndTxnResponse::default() }
}

/// Returns the answer that says no for every partition of every marker.
pub(super) fn markers_refused(
    request: &WriteTxnMarkersRequest,
    code: ErrorCode,
) -> WriteTxnMarkersResponse {
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
pub(super) fn offsets_refused(
    request: &TxnOffsetCommitRequest,
    code: ErrorCode,
) -> TxnOffsetCommitResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| TxnOffsetCommitResponseTopic {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|one| TxnOffsetCommitResponsePartition {
                    partition_index: one.partition_index,
                    error_code: code.code(),
                })
                .collect(),
        })
        .collect();
    TxnOffsetCommitResponse { topics, ..TxnOffsetCommitResponse::default() }
}

/// Returns the answer that says no for every partition.
pub(super) fn producers_refused(
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
pub(super) fn transactions_refused(
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
pub(super) fn list_refused(code: ErrorCode) -> ListTransactionsResponse {
    ListTransactionsResponse { error_code: code.code(), ..ListTransactionsResponse::default() }
}
