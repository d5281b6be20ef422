//! The value of a note: what the features of a topic remember in its log. Ours; Kafka has none.
//!
//! Every change has the same form; which fields count depends on its kind, and what a kind leaves at its
//! default takes no room. Readers pass over tags that they do not know.

use bytes::Bytes;

use super::string::KafkaString;

messages! {
    /// What one note says.
    NoteValue versions [0] flexible [0] {
        /// The leader's wall clock when it was decided, in milliseconds since 1970.
        at_ms [0+]: i64;
        /// The CRC of the batch that must come right behind the note, or -1 where it stands alone.
        link [0+]: i64 = -1;
        /// What changed, in order.
        changes [0+]: Vec<ChangeRecord>;
    }
    /// One change.
    ChangeRecord {
        /// Which one.
        kind [0+]: i8;
        /// The entry it is about: the offset at which its record was produced, or, in a note with a link, its
        /// place in the batch behind where the top bit is set.
        ticket [0+]: i64;
        /// When the entry is due, in milliseconds since 1970; -1 for none.
        due_ms [0+] tag 0: i64 = -1;
        /// What the producer calls the entry.
        id [0+] null [0+] tag 1: Option<Bytes> = None;
        /// The producer's timestamp.
        timestamp [0+] tag 2: i64 = -1;
        key [0+] null [0+] tag 3: Option<Bytes> = None;
        value [0+] null [0+] tag 4: Option<Bytes> = None;
        headers [0+] tag 5: Vec<NoteHeader>;
        /// When the entry recurs, and in which time zone.
        cron [0+] tag 6: KafkaString;
        cron_timezone [0+] tag 7: KafkaString;
        /// Who is asked whether a half message is to be let out; empty for other entries.
        check_group [0+] tag 8: KafkaString;
        /// Milliseconds before the first check, -1 for the topic's.
        check_after_ms [0+] tag 9: i64 = -1;
        /// Checks that were sent.
        attempts [0+] tag 10: i32;
        /// What was done to the entry, or how far a check has come.
        step [0+] tag 11: i8;
        /// An offset that the change is about besides the ticket; -1 for none.
        offset [0+] tag 12: i64 = -1;
        /// When that came about, where it was not now; -1 for now.
        at_ms [0+] tag 13: i64 = -1;
        /// A hash of what must not be stored twice, 16 bytes.
        hash [0+] tag 14: Bytes;
    }
    /// A header of a record.
    NoteHeader {
        name [0+]: Bytes;
        value [0+] null [0+]: Option<Bytes> = None;
    }
}
