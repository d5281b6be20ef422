//! `ListTransactions` (key 66): tells the transactional ids that this broker coordinates.
//!
//! Source: Kafka protocol guide; KIP-664, 994 (durations), 1152 (patterns).

use crate::wire::string::KafkaString;

messages! {
    /// The request. An empty filter lets everything pass.
    ListTransactionsRequest versions [0-2] flexible [0] {
        state_filters [0+]: Vec<KafkaString>;
        producer_id_filters [0+]: Vec<i64>;
        /// Only those open for longer than so many milliseconds; all below 0.
        duration_filter [1+]: i64 = -1;
        /// A regular expression that a transactional id matches as a whole.
        transactional_id_pattern [2+] null [2+]: Option<KafkaString> = None;
    }
    /// The response.
    ListTransactionsResponse versions [0-2] flexible [0] {
        throttle_time_ms [0+]: i32;
        error_code [0+]: i16;
        unknown_state_filters [0+]: Vec<KafkaString>;
        transaction_states [0+]: Vec<ListedTransaction>;
    }
    /// One transactional id.
    ListedTransaction {
        transactional_id [0+]: KafkaString;
        producer_id [0+]: i64;
        transaction_state [0+]: KafkaString;
    }
}
