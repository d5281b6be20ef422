//! `BrokerHeartbeat` (key 63): a broker tells the controller that it lives, and asks to serve or to stop.
//! Between nodes only.
//!
//! Source: KIP-631, 858 (directories).

use crate::ids::Uuid;

messages! {
    /// The request.
    BrokerHeartbeatRequest versions [0-2] flexible [0] {
        broker_id [0+]: i32;
        broker_epoch [0+]: i64 = -1;
        current_metadata_offset [0+]: i64;
        want_fence [0+]: bool;
        want_shut_down [0+]: bool;
        offline_log_dirs [1+] tag 0: Vec<Uuid>;
        cordoned_log_dirs [2+] null [2+] tag 1: Option<Vec<Uuid>> = None;
    }
    /// The response.
    BrokerHeartbeatResponse versions [0-2] flexible [0] {
        throttle_time_ms [0+]: i32;
        error_code [0+]: i16;
        is_caught_up [0+]: bool;
        is_fenced [0+]: bool = true;
        should_shut_down [0+]: bool;
    }
}
