//! `EntryAlter` (key 31004): something is done to records that wait. Ours; Kafka has none.
//!
//! It is asked of the leader of each partition, and answered once what was done is committed.

use bytes::Bytes;

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    EntryAlterRequest versions [0] flexible [0] {
        topics [0+]: Vec<EntryAlterTopic>;
    }
    /// What is done in one topic.
    EntryAlterTopic {
        name [0+]: KafkaString;
        alterations [0+]: Vec<EntryAlteration>;
    }
    /// What is done to one record.
    EntryAlteration {
        partition_index [0+]: i32;
        /// The offset that its producer was told; -1 where it goes by name.
        ticket [0+]: i64 = -1;
        id [0+] null [0+]: Option<Bytes> = None;
        /// 1 cancel, 2 reschedule, 3 deliver now, 4 commit, 5 roll back.
        operation [0+]: i8;
        /// The new time in milliseconds since 1970, for reschedule.
        due_ms [0+]: i64 = -1;
        /// The same from now on, where that is 0 or more.
        delay_ms [0+]: i64 = -1;
    }
    /// The response.
    EntryAlterResponse versions [0] flexible [0] {
        throttle_time_ms [0+]: i32;
        topics [0+]: Vec<AlteredEntryTopic>;
    }
    /// What came of it in one topic, in the order of the request.
    AlteredEntryTopic {
        name [0+]: KafkaString;
        alterations [0+]: Vec<AlteredEntry>;
    }
    /// What came of one.
    AlteredEntry {
        partition_index [0+]: i32;
        error_code [0+]: i16;
        error_message [0+] null [0+]: Option<KafkaString> = None;
    }
}
