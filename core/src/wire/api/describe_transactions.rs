//! `DescribeTransactions` (key 65): tells how transactions stand.
//!
//! Source: Kafka protocol guide; KIP-664.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    DescribeTransactionsRequest versions [0] flexible [0] {
        transactional_ids [0+]: Vec<KafkaString>;
    }
    /// The response.
    DescribeTransactionsResponse versions [0] flexible [0] {
        throttle_time_ms [0+]: i32;
        transaction_states [0+]: Vec<DescribedTransaction>;
    }
    /// One transactional id.
    DescribedTransaction {
        error_code [0+]: i16;
        transactional_id [0+]: KafkaString;
        transaction_state [0+]: KafkaString;
        transaction_timeout_ms [0+]: i32;
        /// Milliseconds since 1970, -1 for none.
        transaction_start_time_ms [0+]: i64;
        producer_id [0+]: i64;
        producer_epoch [0+]: i16;
        topics [0+]: Vec<DescribedTransactionTopic>;
    }
    /// Partitions of one topic that are in the transaction.
    DescribedTransactionTopic {
        topic [0+]: KafkaString;
        partitions [0+]: Vec<i32>;
    }
}
