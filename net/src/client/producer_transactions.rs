//! The transactions of a producer in the background: what was asked, in which order the machine is told,
//! and until when somebody waits.
//!
//! A record is part of the transaction that was open when it was taken, although the machine learns of
//! it later: a commit waits until everything taken before it has reached the machine. Whoever gave up
//! waiting changes nothing: what was begun goes on, and asking again waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use mainspring_core::client::ClientError;
use mainspring_core::client::group::StoredOffset;
use mainspring_core::client::producer::Producer;
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::client::producer::transaction::TransactionEvent;
pub use mainspring_core::client::producer::transaction::{
    Call as TransactionCall, GroupMember, TransactionError,
};
use mainspring_core::time::{Instant, Now};

use super::call::Promise;

/// Why a call about transactions came to no good end.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Undone {
    /// The producer cannot do it.
    #[error(transparent)]
    Refused(#[from] TransactionError),
    /// It is not done after `max.block.ms`. It goes on; the same call waits for it again.
    #[error("{0} takes longer than max.block.ms; it goes on")]
    TimedOut(TransactionCall),
    /// The producer has no transactional id.
    #[error("the producer has no transactional.id")]
    NoTransactionalId,
}

/// Offsets of a group that are to be part of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupOffsets {
    /// As whom they are stored.
    pub member: GroupMember,
    /// The offsets.
    pub offsets: BTreeMap<Place, StoredOffset>,
}

/// Which records a producer takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Gate {
    /// All: it has no transactional id, or a transaction is open.
    Open,
    /// None, since no transaction is open.
    Closed,
    /// None, since the transaction cannot be committed, or the producer is of no more use.
    Failed(TransactionError),
}

/// Where a producer stands with its transactional id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// It has not taken the id's place yet.
    Beginning,
    Idle,
    /// A transaction is open, or cannot be committed any more.
    Open,
    /// A transaction is to end; the machine knows of it if it `is_told`.
    Ending {
        committed: bool,
        is_told: bool,
    },
}

type Answer = Promise<Result<(), Undone>>;

/// Somebody who waits.
#[derive(Debug)]
struct Wait {
    call: TransactionCall,
    by: Instant,
    /// `None` once nobody waits any more; offsets keep their place in the order.
    answer: Option<Answer>,
}

/// What a producer with a transactional id has been asked.
#[derive(Debug)]
pub(super) struct Transactions {
    phase: Phase,
    is_started: bool,
    max_block: Duration,
    waits: VecDeque<Wait>,
    /// Answers that are given once the gate is as they say.
    answers: Vec<(Answer, Result<(), Undone>)>,
    /// What the gate is to be, where that has changed.
    gate: Option<Gate>,
}

impl Transactions {
    pub(super) const fn new(max_block: Duration) -> Self {
        Self {
            phase: Phase::Beginning,
            is_started: false,
            max_block,
            waits: VecDeque::new(),
            answers: Vec::new(),
            gate: None,
        }
    }

    /// Takes the gate's new state, if there is one.
    pub(super) const fn take_gate(&mut self) -> Option<Gate> {
        self.gate.take()
    }

    /// Gives the answers that are due.
    pub(super) fn answer(&mut self) {
        for (answer, result) in std::mem::take(&mut self.answers) {
            answer.complete(result);
        }
    }

    /// Whether a transaction must come to its end before the producer may.
    pub(super) const fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Ending { .. })
    }

    /// Whether what was taken must reach the machine at once.
    pub(super) const fn hurries(&self) -> bool {
        matches!(self.phase, Phase::Ending { is_told: false, .. })
    }

    pub(super) fn begin(&mut self, now: Now, answer: Answer) {
        self.wait(TransactionCall::Begin, now, answer);
    }

    pub(super) fn send_offsets(
        &mut self,
        producer: &mut Producer,
        now: Now,
        group: GroupOffsets,
        answer: Answer,
    ) {
        match producer.send_offsets(now, group.member, group.offsets) {
            Ok(()) => self.wait(TransactionCall::SendOffsets, now, answer),
            Err(error) => self.answers.push((answer, Err(error.into()))),
        }
    }

    /// Commits or aborts what is open.
    pub(super) fn end(&mut self, now: Now, committed: bool, answer: Answer) {
        let given_up = || Err(TransactionError::Abortable(ClientError::Aborted).into());
        if !committed {
            // What was not begun yet is not to be begun behind this.
            self.settle(TransactionCall::Begin, &given_up());
        }
        match self.phase {
            Phase::Open => self.phase = Phase::Ending { committed, is_told: false },
            Phase::Ending { committed: true, is_told: false } if !committed => {
                self.settle(TransactionCall::Commit, &given_up());
                self.phase = Phase::Ending { committed, is_told: false };
            }
            // It goes on already, or the machine says what is wrong with it.
            Phase::Beginning | Phase::Idle | Phase::Ending { .. } => {}
        }
        self.wait(call_of(committed), now, answer);
    }

    /// Aborts what is open, for the producer is closed.
    pub(super) fn abandon(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Ending { committed: false, is_told: false };
        }
    }

    fn wait(&mut self, call: TransactionCall, now: Now, answer: Answer) {
        let by = now.mono + self.max_block;
        self.waits.push_back(Wait { call, by, answer: Some(answer) });
    }

    /// Tells the machine of an abort, before it gets records that are to be given up with the others.
    pub(super) fn before_records(&mut self, producer: &mut Producer, now: Now) {
        if !std::mem::replace(&mut self.is_started, true) {
            // Whoever begins asks again, and learns what is wrong with it.
            let _ = producer.init_transactions(now);
        }
        if self.phase == (Phase::Ending { committed: false, is_told: false }) {
            self.tell(producer, now, false);
        }
    }

    /// Tells the machine of a commit once it has all records that were taken, and takes in what has
    /// become of what it was told. Returns how long somebody waits.
    pub(super) fn after_records(
        &mut self,
        producer: &mut Producer,
        now: Now,
        has_all: bool,
    ) -> Option<Duration> {
        if has_all && self.phase == (Phase::Ending { committed: true, is_told: false }) {
            self.tell(producer, now, true);
        }
        while let Some(event) = producer.poll_transaction() {
            self.on_event(event);
        }
        self.begin_if_asked(producer, now);
        self.refuse_misplaced(producer, now);
        if matches!(self.phase, Phase::Open | Phase::Idle)
            && let Some(error) = producer.transaction_error()
        {
            self.gate = Some(Gate::Failed(error));
        }
        self.give_up_waiting(now)
    }

    /// Has the machine end the transaction.
    fn tell(&mut self, producer: &mut Producer, now: Now, committed: bool) {
        match end(producer, now, committed) {
            Ok(()) => self.phase = Phase::Ending { committed, is_told: true },
            Err(error) => {
                self.phase = if error.is_abortable() { Phase::Open } else { Phase::Idle };
                self.settle(call_of(committed), &Err(error.into()));
            }
        }
    }

    fn on_event(&mut self, event: TransactionEvent) {
        match (event.call, event.result) {
            (TransactionCall::Init, Ok(())) => self.phase = Phase::Idle,
            (TransactionCall::Init, Err(error)) => {
                self.settle(TransactionCall::Begin, &Err(error.into()));
            }
            (TransactionCall::SendOffsets, result) => {
                self.settle_first(TransactionCall::SendOffsets, result.map_err(Undone::from));
            }
            (call @ (TransactionCall::Commit | TransactionCall::Abort), Ok(())) => {
                self.phase = Phase::Idle;
                self.gate = Some(Gate::Closed);
                self.settle(call, &Ok(()));
            }
            (call @ (TransactionCall::Commit | TransactionCall::Abort), Err(error)) => {
                self.phase = if error.is_abortable() { Phase::Open } else { Phase::Idle };
                self.settle(call, &Err(error.into()));
            }
            (TransactionCall::Begin, _) => {}
        }
    }

    /// Begins a transaction where somebody waits for that, and what was before has come to its end.
    fn begin_if_asked(&mut self, producer: &mut Producer, now: Now) {
        while self.waits.iter().any(|wait| wait.call == TransactionCall::Begin) {
            let result = match self.phase {
                Phase::Ending { .. } => return,
                Phase::Beginning => match producer.init_transactions(now) {
                    Ok(()) => return,
                    Err(error) => Err(error),
                },
                Phase::Idle | Phase::Open => producer.begin_transaction(),
            };
            if result.is_ok() {
                self.phase = Phase::Open;
                self.gate = Some(Gate::Open);
            }
            self.settle_first(TransactionCall::Begin, result.map_err(Undone::from));
        }
    }

    /// Answers those who want to end what is not open, in the words of the machine.
    fn refuse_misplaced(&mut self, producer: &mut Producer, now: Now) {
        for committed in [true, false] {
            let is_on =
                matches!(self.phase, Phase::Ending { committed: one, .. } if one == committed);
            let waits = |wait: &Wait| wait.call == call_of(committed);
            if !is_on
                && self.waits.iter().any(waits)
                && let Err(error) = end(producer, now, committed)
            {
                self.settle(call_of(committed), &Err(error.into()));
            }
        }
    }

    /// Answers those whose time is up, and returns how long the next one waits.
    fn give_up_waiting(&mut self, now: Now) -> Option<Duration> {
        for wait in &mut self.waits {
            if wait.by <= now.mono
                && let Some(answer) = wait.answer.take()
            {
                self.answers.push((answer, Err(Undone::TimedOut(wait.call))));
            }
        }
        // Offsets alone are answered in their order.
        let keeps_its_place = |wait: &Wait| wait.call == TransactionCall::SendOffsets;
        self.waits.retain(|wait| wait.answer.is_some() || keeps_its_place(wait));
        let waiting = self.waits.iter().filter(|wait| wait.answer.is_some());
        waiting.map(|wait| wait.by.since(now.mono)).min()
    }

    fn settle(&mut self, call: TransactionCall, result: &Result<(), Undone>) {
        while self.waits.iter().any(|wait| wait.call == call) {
            self.settle_first(call, result.clone());
        }
    }

    fn settle_first(&mut self, call: TransactionCall, result: Result<(), Undone>) {
        let at = self.waits.iter().position(|wait| wait.call == call);
        let wait = at.and_then(|at| self.waits.remove(at));
        if let Some(answer) = wait.and_then(|wait| wait.answer) {
            self.answers.push((answer, result));
        }
    }
}

const fn call_of(committed: bool) -> TransactionCall {
    if committed { TransactionCall::Commit } else { TransactionCall::Abort }
}

fn end(producer: &mut Producer, now: Now, committed: bool) -> Result<(), TransactionError> {
    if committed { producer.commit_transaction(now) } else { producer.abort_transaction(now) }
}
