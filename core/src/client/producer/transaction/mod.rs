//! Transactions of a producer: records of many partitions, and offsets of a group, that count together
//! or not at all.
//!
//! One question to a coordinator is on its way at a time. Up to `transaction.version` 1 each partition
//! is taken into the transaction before the first batch of it is sent, and a group before its offsets;
//! from 2 on the brokers do so by themselves, and every transaction has an epoch of its own.
//!
//! What goes wrong is of one of three kinds, as Kafka's own client tells them apart:
//! - another producer has taken this one's place ([`TransactionError::Fenced`]), or its transaction has
//!   outlived its timeout ([`TransactionError::Expired`]): it is of no more use;
//! - the transaction cannot be committed ([`TransactionError::Abortable`]): it is to be aborted, and
//!   the next one may succeed;
//! - the producer is of no more use for another reason ([`TransactionError::Fatal`]).
//!
//! Invariants:
//! 1. A transaction is committed only once every record of it was delivered and every offset staged.
//! 2. Where a question may have been carried out, and nobody has said so, it is asked again before
//!    the transaction ends: the coordinator is never left with one that its producer forgot.
//! 3. After a record of a transaction has failed, nothing is sent under the same epoch once that
//!    transaction has ended: sequences have no gap.
//!
//! Source: KIP-98, 360, 447, 890; the behaviour of Apache Kafka's producer 4.3.

mod answers;
mod drive;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::Producer;
use super::accumulator::{Place, QueueId};
use crate::client::ClientError;
pub use crate::client::group::GroupMember;
use crate::client::group::StoredOffset;
use crate::error::ErrorCode;
use crate::ids::NodeId;
use crate::time::{Instant, Now};
use crate::wire::KafkaString;

/// The newest `transaction.version` that is spoken.
pub const VERSION: i16 = 2;

/// The last version of Produce that brokers take for transactions of `transaction.version` 1.
const LAST_PRODUCE_VERSION_V1: i16 = 11;

/// Why a transactional producer cannot do what it is told to.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// Another producer with the same transactional id has taken the place of this one, which is of no
    /// more use.
    #[error("another producer with the same transactional.id has taken the place of this one")]
    Fenced,
    /// The coordinator knows of no transaction of this producer in its epoch, and that was open for longer than
    /// `transaction.timeout.ms`: it was aborted, and its producer is of no more use. So it looks from here;
    /// whether another producer has come besides, nobody says.
    #[error(
        "the transaction was open for {} ms, longer than the {} ms of transaction.timeout.ms, so its \
         coordinator has aborted it",
        .open.as_millis(), .timeout.as_millis()
    )]
    Expired {
        /// How long it was open when that was heard.
        open: Duration,
        /// `transaction.timeout.ms`.
        timeout: Duration,
    },
    /// The transaction cannot be committed. It is to be aborted; the next one may succeed.
    #[error("the transaction has to be aborted: {0}")]
    Abortable(ClientError),
    /// The producer is of no more use.
    #[error("the producer cannot go on: {0}")]
    Fatal(ClientError),
    /// The call does not fit the state of the producer. Nothing has changed.
    #[error("{call} does not fit a producer that {state}")]
    Misplaced {
        /// What was called.
        call: Call,
        /// What the producer does, in words.
        state: &'static str,
    },
}

impl TransactionError {
    /// Returns whether aborting the transaction helps.
    pub const fn is_abortable(&self) -> bool {
        matches!(self, Self::Abortable(_))
    }

    /// Returns whether the producer is of no more use.
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::Fenced | Self::Expired { .. } | Self::Fatal(_))
    }

    /// Returns as what records fail because of it.
    fn for_records(&self) -> ClientError {
        match self {
            Self::Fenced | Self::Expired { .. } => ClientError::Broker(ErrorCode::ProducerFenced),
            Self::Abortable(error) | Self::Fatal(error) => error.clone(),
            Self::Misplaced { .. } => ClientError::NoTransaction,
        }
    }
}

/// What a transactional producer can be told to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// Take the place of whoever had the transactional id, and end what it left open.
    Init,
    /// Begin a transaction.
    Begin,
    /// Make offsets of a group part of the transaction.
    SendOffsets,
    /// Commit the transaction.
    Commit,
    /// Abort the transaction.
    Abort,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Init => "to begin with the transactional.id",
            Self::Begin => "to begin a transaction",
            Self::SendOffsets => "to send offsets",
            Self::Commit => "to commit",
            Self::Abort => "to abort",
        })
    }
}

/// What became of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransactionEvent {
    /// The call. Several of [`Call::SendOffsets`] end in their order.
    pub call: Call,
    /// What became of it.
    pub result: Result<(), TransactionError>,
}

/// What a coordinator is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Question {
    /// Where the coordinator of the transactional id is.
    FindTransaction,
    /// Where the coordinator of the group is whose offsets are sent.
    FindGroup,
    /// For a producer id, or for the next epoch of the one that there is.
    ProducerId { bump: bool },
    /// To take in the partitions that wait for it.
    AddPartitions,
    /// To take in the group whose offsets are sent.
    AddOffsets,
    /// To stage the offsets.
    StageOffsets,
    /// To end the transaction.
    End { committed: bool },
}

/// Where a producer stands.
#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    New,
    Initializing,
    Ready,
    Open,
    /// It cannot be committed.
    Failed(ClientError),
    /// The producer id of the next transaction is asked for where one `is_ended`.
    Ending {
        committed: bool,
        is_ended: bool,
    },
    /// Fenced, or ended for another reason.
    Dead(TransactionError),
}

impl State {
    const fn words(&self) -> &'static str {
        match self {
            Self::New => "has not begun with its transactional.id",
            Self::Initializing => "is beginning with its transactional.id",
            Self::Ready => "has no transaction open",
            Self::Open => "has a transaction open",
            Self::Failed(_) => "has a transaction that must be aborted",
            Self::Ending { committed: true, .. } => "is committing",
            Self::Ending { committed: false, .. } => "is aborting",
            Self::Dead(_) => "is of no more use",
        }
    }
}

/// What is known of a coordinator.
#[derive(Clone, Copy, Default, Debug)]
struct Coordinator {
    node: Option<NodeId>,
    /// Failed attempts to connect to it when it was found; more of them mean that it is gone.
    failures: u32,
    /// How often the cluster had told of its brokers then. One that a later answer lacks is gone, too.
    answers: u64,
}

/// Offsets that are to be part of the transaction.
#[derive(Clone, Debug)]
struct Offsets {
    member: GroupMember,
    /// Those that are not staged yet.
    left: BTreeMap<Place, StoredOffset>,
    coordinator: Coordinator,
    /// Whether the group is part of the transaction.
    is_added: bool,
    /// Whether it may be, for all that is known.
    is_unsure: bool,
    /// Whether nobody waits for them any more.
    is_given_up: bool,
}

/// The transactions of a producer.
#[derive(Clone, Debug)]
pub(super) struct Transactions {
    id: KafkaString,
    /// `transaction.timeout.ms`.
    timeout: Duration,
    state: State,
    /// Whether brokers take partitions in by themselves, and each transaction has its own epoch.
    is_v2: bool,
    coordinator: Coordinator,
    is_asked: bool,
    retry_at: Option<Instant>,
    failures: u32,
    /// Partitions of the transaction.
    partitions: BTreeSet<QueueId>,
    /// Partitions that are to be part of it before anything is sent to them.
    adding: BTreeSet<QueueId>,
    /// Whether some of those may be part of it, for all that is known.
    is_unsure: bool,
    offsets: VecDeque<Offsets>,
    /// Whether the coordinator knows of the transaction.
    is_begun: bool,
    /// When it may have heard of it first: by then its timeout runs.
    begun_at: Option<Instant>,
    /// Whether the next transaction needs another epoch.
    needs_epoch: bool,
    events: VecDeque<TransactionEvent>,
}

impl Transactions {
    pub(super) const fn new(id: KafkaString, timeout: Duration) -> Self {
        Self {
            id,
            timeout,
            state: State::New,
            is_v2: false,
            coordinator: Coordinator { node: None, failures: 0, answers: 0 },
            is_asked: false,
            retry_at: None,
            failures: 0,
            partitions: BTreeSet::new(),
            adding: BTreeSet::new(),
            is_unsure: false,
            offsets: VecDeque::new(),
            is_begun: false,
            begun_at: None,
            needs_epoch: false,
            events: VecDeque::new(),
        }
    }

    /// Returns when to come back for a question that waits for a pause.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| !self.is_asked)
    }

    /// Notes that a batch of the transaction is sent, and returns the last version for that.
    pub(super) fn on_produce(&mut self, now: Instant) -> i16 {
        self.is_begun = true;
        self.begun_at.get_or_insert(now);
        if self.is_v2 { i16::MAX } else { LAST_PRODUCE_VERSION_V1 }
    }

    /// Returns as what records fail that are handed over now, `None` where they are taken.
    fn refuses_records(&self) -> Option<ClientError> {
        match &self.state {
            State::Open => None,
            // They were taken before the transaction was given up.
            State::Ending { committed: false, .. } => Some(ClientError::Aborted),
            State::New | State::Initializing | State::Ready | State::Ending { .. } => {
                Some(ClientError::NoTransaction)
            }
            State::Failed(error) => Some(error.clone()),
            State::Dead(error) => Some(error.for_records()),
        }
    }

    /// Returns what makes any call but an abort vain.
    fn error(&self) -> Option<TransactionError> {
        match &self.state {
            State::Failed(error) => Some(TransactionError::Abortable(error.clone())),
            State::Dead(error) => Some(error.clone()),
            State::New
            | State::Initializing
            | State::Ready
            | State::Open
            | State::Ending { .. } => None,
        }
    }

    fn misplaced(&self, call: Call) -> TransactionError {
        TransactionError::Misplaced { call, state: self.state.words() }
    }

    fn init(&mut self) -> Result<(), TransactionError> {
        match &self.state {
            State::New => self.state = State::Initializing,
            State::Initializing => {}
            State::Ready | State::Open | State::Failed(_) | State::Ending { .. } => {
                return Err(self.misplaced(Call::Init));
            }
            State::Dead(error) => return Err(error.clone()),
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        if self.state == State::Ready {
            self.state = State::Open;
            return Ok(());
        }
        Err(self.error().unwrap_or_else(|| self.misplaced(Call::Begin)))
    }

    fn send_offsets(
        &mut self,
        member: GroupMember,
        offsets: BTreeMap<Place, StoredOffset>,
    ) -> Result<(), TransactionError> {
        if self.state != State::Open {
            return Err(self.error().unwrap_or_else(|| self.misplaced(Call::SendOffsets)));
        }
        if offsets.is_empty() {
            self.end_call(Call::SendOffsets, Ok(()));
            return Ok(());
        }
        self.offsets.push_back(Offsets {
            member,
            left: offsets,
            coordinator: Coordinator::default(),
            is_added: self.is_v2,
            is_unsure: false,
            is_given_up: false,
        });
        Ok(())
    }

    fn commit(&mut self) -> Result<(), TransactionError> {
        match self.state {
            State::Open => self.state = State::Ending { committed: true, is_ended: false },
            // Whoever gave up waiting may wait again.
            State::Ending { committed: true, .. } => {}
            State::New
            | State::Initializing
            | State::Ready
            | State::Failed(_)
            | State::Ending { .. }
            | State::Dead(_) => {
                return Err(self.error().unwrap_or_else(|| self.misplaced(Call::Commit)));
            }
        }
        Ok(())
    }

    fn abort(&mut self) -> Result<(), TransactionError> {
        match &self.state {
            State::Open | State::Failed(_) => {
                self.state = State::Ending { committed: false, is_ended: false };
                self.give_offsets_up(&TransactionError::Abortable(ClientError::Aborted));
            }
            State::Ending { committed: false, .. } => {}
            State::New | State::Initializing | State::Ready | State::Ending { .. } => {
                return Err(self.misplaced(Call::Abort));
            }
            State::Dead(error) => return Err(error.clone()),
        }
        Ok(())
    }

    /// Ends the wait for offsets. What the coordinator may have done with them stays to be found out.
    fn give_offsets_up(&mut self, error: &TransactionError) {
        for offsets in &mut self.offsets {
            if !std::mem::replace(&mut offsets.is_given_up, true) {
                let result = Err(error.clone());
                self.events.push_back(TransactionEvent { call: Call::SendOffsets, result });
            }
        }
    }

    fn end_call(&mut self, call: Call, result: Result<(), TransactionError>) {
        self.events.push_back(TransactionEvent { call, result });
    }

    /// The transaction cannot be committed.
    fn fail(&mut self, error: ClientError) {
        let told = TransactionError::Abortable(error.clone());
        match self.state {
            State::Initializing => {
                self.state = State::New;
                self.end_call(Call::Init, Err(told));
            }
            State::Open => {
                self.state = State::Failed(error);
                self.give_offsets_up(&told);
            }
            State::Ending { committed: true, is_ended: false } => {
                self.state = State::Failed(error);
                self.give_offsets_up(&told);
                self.end_call(Call::Commit, Err(told));
            }
            // What is being aborted cannot fail; and nothing is left of one that has ended.
            State::New
            | State::Ready
            | State::Failed(_)
            | State::Ending { .. }
            | State::Dead(_) => {}
        }
    }

    /// The producer is of no more use.
    fn die(&mut self, now: Instant, error: TransactionError) {
        let open = self.begun_at.map_or(Duration::ZERO, |at| now.since(at));
        // A coordinator that has aborted it knows of no open transaction, and of another epoch.
        let is_late = match &error {
            TransactionError::Fenced => true,
            TransactionError::Fatal(error) => {
                error.refused_with() == Some(ErrorCode::InvalidTxnState)
            }
            TransactionError::Expired { .. }
            | TransactionError::Abortable(_)
            | TransactionError::Misplaced { .. } => false,
        };
        let error = if is_late && open >= self.timeout {
            TransactionError::Expired { open, timeout: self.timeout }
        } else {
            error
        };
        let call = match self.state {
            State::Initializing => Some(Call::Init),
            State::Ending { committed: true, .. } => Some(Call::Commit),
            State::Ending { committed: false, .. } => Some(Call::Abort),
            State::New | State::Ready | State::Open | State::Failed(_) => None,
            State::Dead(_) => return,
        };
        self.give_offsets_up(&error);
        self.offsets.clear();
        self.adding.clear();
        self.retry_at = None;
        if let Some(call) = call {
            self.end_call(call, Err(error.clone()));
        }
        self.state = State::Dead(error);
    }

    /// The transaction has ended, and the producer id of the next one is there.
    fn finish(&mut self, committed: bool) {
        self.state = State::Ready;
        self.partitions.clear();
        self.adding.clear();
        self.is_unsure = false;
        self.offsets.clear();
        self.is_begun = false;
        self.begun_at = None;
        self.needs_epoch = false;
        self.end_call(if committed { Call::Commit } else { Call::Abort }, Ok(()));
    }
}

/// What a transactional producer can be told to do. Each call that returns `Ok` is answered by
/// [`Producer::poll_transaction`], but for `begin_transaction`, which is done at once.
impl Producer {
    /// Takes the place of whoever had the transactional id before, and ends what it left open.
    ///
    /// # Errors
    /// Where this was done before, or the producer is of no more use.
    ///
    /// # Panics
    /// Like every call about transactions, where the producer has no transactional id.
    pub fn init_transactions(&mut self, now: Now) -> Result<(), TransactionError> {
        self.transactions().init()?;
        self.sender.started = true;
        self.advance(now);
        Ok(())
    }

    /// Begins a transaction: what is sent from here on is part of it.
    ///
    /// # Errors
    /// Where a transaction is open, or none can be begun.
    pub fn begin_transaction(&mut self) -> Result<(), TransactionError> {
        self.transactions().begin()
    }

    /// Makes offsets of a group part of the transaction: they are stored when it is committed.
    ///
    /// # Errors
    /// Where no transaction is open, or it must be aborted.
    pub fn send_offsets(
        &mut self,
        now: Now,
        member: GroupMember,
        offsets: BTreeMap<Place, StoredOffset>,
    ) -> Result<(), TransactionError> {
        self.transactions().send_offsets(member, offsets)?;
        self.advance(now);
        Ok(())
    }

    /// Sends what has been taken, and commits once all of it is delivered. A call while a commit goes
    /// on waits for that one.
    ///
    /// # Errors
    /// Where no transaction is open, or it must be aborted.
    pub fn commit_transaction(&mut self, now: Now) -> Result<(), TransactionError> {
        self.transactions().commit()?;
        self.flush(now);
        Ok(())
    }

    /// Aborts the transaction. Records of it that were not sent fail as [`ClientError::Aborted`]. A
    /// call while an abort goes on waits for that one.
    ///
    /// # Errors
    /// Where no transaction is open, or the producer is of no more use.
    pub fn abort_transaction(&mut self, now: Now) -> Result<(), TransactionError> {
        self.transactions().abort()?;
        self.flush(now);
        Ok(())
    }

    /// Takes the next word about what became of a call.
    pub fn poll_transaction(&mut self) -> Option<TransactionEvent> {
        self.sender.transactions.as_mut()?.events.pop_front()
    }

    /// Returns why the transaction must be aborted, or why the producer is of no more use.
    pub fn transaction_error(&self) -> Option<TransactionError> {
        self.sender.transactions.as_ref()?.error()
    }

    const fn transactions(&mut self) -> &mut Transactions {
        self.sender.transactions.as_mut().expect("the producer has a transactional id")
    }
}
