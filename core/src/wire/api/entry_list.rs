//! `EntryList` (key 31003): which records wait at partitions, for delay or for a verdict. Ours; Kafka has none.
//!
//! It is asked of the leader of each partition. What it answers is committed.

use bytes::Bytes;

use crate::wire::string::KafkaString;

messages! {
    /// The request.
    EntryListRequest versions [0] flexible [0] {
        topics [0+]: Vec<EntryListTopic>;
        /// Most entries of each partition. Fewer come where many partitions are asked for, each once.
        limit [0+]: i32 = 100;
        /// Entries due after this moment are left out, in milliseconds since 1970; for those that come by time alone.
        until_ms [0+]: i64 = i64::MAX;
        /// The one with this name alone, also where it has ended and that is remembered.
        id [0+] null [0+]: Option<Bytes> = None;
        /// The one with this ticket alone, also where it has ended and that is remembered; -1 for others.
        ticket [0+]: i64 = -1;
        /// Which: 0 all, by ticket; 1 those that come by time, by due time and ticket; 2 half messages without a
        /// verdict and 3 parked ones of them, by ticket.
        which [0+]: i8;
    }
    /// The partitions of one topic.
    EntryListTopic {
        name [0+]: KafkaString;
        partitions [0+]: Vec<EntryListPartition>;
    }
    /// One partition, and where the list goes on: after the entry with this due time and ticket.
    EntryListPartition {
        partition_index [0+]: i32;
        after_due_ms [0+]: i64 = i64::MIN;
        after_ticket [0+]: i64 = -1;
    }
    /// The response.
    EntryListResponse versions [0] flexible [0] {
        throttle_time_ms [0+]: i32;
        topics [0+]: Vec<ListedEntryTopic>;
    }
    /// The partitions of one topic.
    ListedEntryTopic {
        name [0+]: KafkaString;
        partitions [0+]: Vec<ListedEntryPartition>;
    }
    /// What waits at one partition.
    ListedEntryPartition {
        partition_index [0+]: i32;
        error_code [0+]: i16;
        error_message [0+] null [0+]: Option<KafkaString> = None;
        /// How many wait in all.
        count [0+]: i64;
        /// Whether there are more behind the last one.
        has_more [0+]: bool;
        entries [0+]: Vec<ListedEntry>;
    }
    /// One record that waits.
    ListedEntry {
        /// The offset that its producer was told.
        ticket [0+]: i64;
        /// Milliseconds since 1970; -1 for a half message without a time.
        due_ms [0+]: i64;
        id [0+] null [0+]: Option<Bytes> = None;
        /// What it counts for, in bytes: key, value, headers, names, and 64 of its own.
        size [0+]: i32;
        /// 1 waits for its time, 2 waits for its transaction, 3 is held by a transaction, 4 waits for a verdict, 5 is
        /// parked, 6 was delivered, 7 cancelled, 8 committed, 9 rolled back, 10 replaced.
        state [0+]: i8;
        /// How often the verdict was asked for; 0 once it is parked.
        checks [0+]: i32;
        /// Where it was delivered, or what replaced it; -1 for nowhere.
        offset [0+]: i64 = -1;
    }
}
