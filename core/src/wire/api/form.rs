//! `Form` (key 31002): a node tells another which cluster it belongs to, or asks it. Ours; Kafka has none.
//!
//! It is answered once the cluster is durable with the one who is told.

use crate::ids::Uuid;
use crate::wire::string::KafkaString;

messages! {
    /// The request.
    FormRequest versions [0] flexible [0] {
        /// The cluster; zero where the sender belongs to none and asks.
        cluster_id [0+]: Uuid;
        /// Who votes in it.
        voters [0+]: Vec<FormVoter>;
    }
    /// One voter.
    FormVoter {
        node_id [0+]: i32;
        directory_id [0+]: Uuid;
        /// Where other nodes reach it.
        host [0+]: KafkaString;
        port [0+]: u16;
    }
    /// The response.
    FormResponse versions [0] flexible [0] {
        error_code [0+]: i16;
        error_message [0+] null [0+]: Option<KafkaString> = None;
        /// The cluster of the answering node; zero while it belongs to none.
        cluster_id [0+]: Uuid;
        /// Who votes in it.
        voters [0+]: Vec<FormVoter>;
    }
}
