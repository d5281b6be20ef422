//! What a group coordinator waits for by the clock.

use crate::wire::KafkaString;

/// The timers that run, each with one deadline.
pub(super) type Timers = crate::coordinator::timers::Timers<Timer>;

/// Why a coordinator wants to be woken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// A member, or an id that was handed out, has not been heard of for its session.
    Session(KafkaString, KafkaString),
    /// Members had time enough to join again.
    Join(KafkaString),
    /// Members had time enough to fetch their assignment.
    Sync(KafkaString),
    /// Offsets of topics that were deleted are to be taken away.
    DeletedTopics,
    /// Offsets that are past their retention are to be looked for.
    Retention,
}
