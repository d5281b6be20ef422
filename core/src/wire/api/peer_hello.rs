//! `PeerHello` (key 31000): the first request on every link between nodes. Ours; Kafka has none.
//!
//! Both sides say who they are. One that finds another cluster, itself, or not the node that was meant, says
//! so in its answer, and serves nothing else on that link.

use crate::ids::Uuid;
use crate::wire::string::KafkaString;

messages! {
    /// The request.
    PeerHelloRequest versions [0] flexible [0] {
        /// The sender's cluster; zero while it knows none.
        cluster_id [0+]: Uuid;
        /// The sender.
        node_id [0+]: i32;
        /// The sender's directory.
        directory_id [0+]: Uuid;
        /// Which start of the sender it is.
        incarnation [0+]: i64;
        /// The node that the sender wants to reach.
        wanted_node_id [0+]: i32;
        /// The voters of the first formation as the sender was told of them; nobody once it has a cluster.
        listed [0+]: Vec<i32>;
        /// Which of the sender's links it is: of two connections with one number the older one was left.
        link [0+] tag 0: i32 = -1;
    }
    /// The response.
    PeerHelloResponse versions [0] flexible [0] {
        error_code [0+]: i16;
        error_message [0+] null [0+]: Option<KafkaString> = None;
        /// The answering node's cluster; zero while it knows none.
        cluster_id [0+]: Uuid;
        /// The answering node.
        node_id [0+]: i32 = -1;
        /// The answering node's directory.
        directory_id [0+]: Uuid;
        /// Which start of the answering node it is.
        incarnation [0+]: i64;
        /// The voters of the first formation as the answering node was told of them; nobody once it has a
        /// cluster.
        listed [0+]: Vec<i32>;
    }
}
