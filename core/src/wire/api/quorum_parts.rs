//! Parts that several messages of the metadata quorum have in common: where a node is reached.
//!
//! Source: KIP-853.

use crate::wire::string::KafkaString;

messages! {
    /// Where a node of the quorum is reached, on the listener that the request came in by.
    QuorumNode {
        node_id [0+]: i32;
        host [0+]: KafkaString;
        port [0+]: u16;
    }
    /// A listener of a node of the quorum.
    QuorumListener {
        name [0+]: KafkaString;
        host [0+]: KafkaString;
        port [0+]: u16;
    }
}
