//! `DescribeLogDirs` (key 35): tells sizes of logs and directories.
//!
//! Source: Kafka protocol guide; KIP-113, 827.

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    DescribeLogDirsRequest versions [1-5] flexible [2] {
        topics [0+] null [0+]: Option<Vec<DescribableLogDirTopic>>;
    }
    /// Partitions of one topic asked about.
    DescribableLogDirTopic {
        topic [0+]: KafkaString;
        partitions [0+]: Vec<i32>;
    }
    /// The response.
    DescribeLogDirsResponse versions [1-5] flexible [2] {
        throttle_time_ms [0+]: i32;
        error_code [3+]: i16;
        results [0+]: Vec<DescribeLogDirsResult>;
    }
    /// One log directory.
    DescribeLogDirsResult {
        error_code [0+]: i16;
        log_dir [0+]: KafkaString;
        topics [0+]: Vec<DescribeLogDirsTopic>;
        total_bytes [4+]: i64 = -1;
        usable_bytes [4+]: i64 = -1;
        is_cordoned [5+]: bool;
    }
    /// The logs of one topic in it.
    DescribeLogDirsTopic {
        name [0+]: KafkaString;
        partitions [0+]: Vec<DescribeLogDirsPartition>;
    }
    /// One log.
    DescribeLogDirsPartition {
        partition_index [0+]: i32;
        partition_size [0+]: i64;
        offset_lag [0+]: i64;
        is_future_key [0+]: bool;
    }
}
