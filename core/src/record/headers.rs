//! The names of the record headers that mean something to a broker, spelled here and nowhere else.
//!
//! Values are ASCII. Where a name repeats in a record, the last one counts.

/// How all of them begin: a batch whose bytes do not hold this asks for nothing.
pub const PREFIX: &[u8] = b"mainspring-";
/// When a record is to come, in Unix milliseconds.
pub const DELIVER_AT: &[u8] = b"mainspring-deliver-at";
/// After how many milliseconds it is to come.
pub const DELAY_MS: &[u8] = b"mainspring-delay-ms";
/// When it recurs.
pub const CRON: &[u8] = b"mainspring-cron";
/// The time zone in which that is meant.
pub const CRON_TIMEZONE: &[u8] = b"mainspring-cron-timezone";
/// What its producer calls it while it waits.
pub const ID: &[u8] = b"mainspring-id";
/// Who is asked whether it is let out.
pub const HALF: &[u8] = b"mainspring-half";
/// After how many milliseconds that is asked first.
pub const CHECK_AFTER_MS: &[u8] = b"mainspring-check-after-ms";
/// Makes the record a command to one that waits.
pub const OP: &[u8] = b"mainspring-op";
/// The offset at which a record was produced that waits, or did.
pub const TICKET: &[u8] = b"mainspring-ticket";
/// What identifies it among those that must not be stored twice.
pub const DEDUP_ID: &[u8] = b"mainspring-dedup-id";
/// On a delivered record: the timestamp that its producer gave it, in Unix milliseconds.
pub const SENT_AT: &[u8] = b"mainspring-sent-at";
/// On a delivered record: when it was due, in Unix milliseconds.
pub const SCHEDULED_FOR: &[u8] = b"mainspring-scheduled-for";
/// On a question for a verdict: the topic of the half message.
pub const CHECK_TOPIC: &[u8] = b"mainspring-check-topic";
/// On a question for a verdict: the partition of the half message.
pub const CHECK_PARTITION: &[u8] = b"mainspring-check-partition";
/// On a question for a verdict: the offset at which the half message was produced.
pub const CHECK_TICKET: &[u8] = b"mainspring-check-ticket";
/// On a question for a verdict: how many times it has been asked.
pub const CHECK_ATTEMPT: &[u8] = b"mainspring-check-attempt";
/// On a question for a verdict: how many times it is asked at most.
pub const CHECK_MAX: &[u8] = b"mainspring-check-max";
/// On a question for a verdict: whether it will be asked again.
pub const CHECK_STATE: &[u8] = b"mainspring-check-state";
