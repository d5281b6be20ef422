//! `BrokerRegistration` (key 62): a start of a broker is made known to the controller. Between nodes only.
//!
//! Source: KIP-631, 858 (directories), 866.

use crate::ids::Uuid;
use crate::wire::string::KafkaString;

messages! {
    /// The request.
    BrokerRegistrationRequest versions [0-4] flexible [0] {
        broker_id [0+]: i32;
        cluster_id [0+]: KafkaString;
        incarnation_id [0+]: Uuid;
        listeners [0+]: Vec<BrokerListener>;
        features [0+]: Vec<BrokerFeatureRange>;
        rack [0+] null [0+]: Option<KafkaString>;
        is_migrating_zk_broker [1+]: bool;
        log_dirs [2+]: Vec<Uuid>;
        previous_broker_epoch [3+]: i64 = -1;
    }
    /// A listener of the broker.
    BrokerListener {
        name [0+]: KafkaString;
        host [0+]: KafkaString;
        port [0+]: u16;
        security_protocol [0+]: i16;
    }
    /// A feature and the levels that the broker could serve.
    BrokerFeatureRange {
        name [0+]: KafkaString;
        min_supported_version [0+]: i16;
        max_supported_version [0+]: i16;
    }
    /// The response.
    BrokerRegistrationResponse versions [0-4] flexible [0] {
        throttle_time_ms [0+]: i32;
        error_code [0+]: i16;
        broker_epoch [0+]: i64 = -1;
    }
}
