//! What a command comes to, by how its entry stands.

use super::Schedule;
use super::ends::End;
use super::open::Touch;
use crate::error::ErrorCode;
use crate::ids::{Offset, ProducerId};
use crate::record::cron::DUE_MS_MAX;
use crate::record::features::{Command, CommandTarget, When};
use crate::record::hidden::{Alteration, Change, Note, Outcome};
use crate::time::Now;

/// Why something is not done. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// `INVALID_RECORD` where it cannot be done; `POLICY_VIOLATION` where a limit is reached;
    /// `NOT_ENOUGH_REPLICAS` where that is not known yet and is to be asked again.
    pub error: ErrorCode,
    /// Which record of the batch is to blame, by its place.
    pub index: Option<u32>,
    /// What is wrong, for people.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self { error, index: None, message: message.into() }
    }

    fn impossible(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRecord, message)
    }

    fn not_known_yet(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotEnoughReplicas, message)
    }

    pub(super) const fn at(mut self, index: u32) -> Self {
        self.index = Some(index);
        self
    }
}

/// How an entry stands for who asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing<'a> {
    /// Nothing is known of it.
    Unknown,
    /// An open transaction of somebody else decides about it.
    Busy,
    /// It comes.
    Waits,
    /// It waits for its verdict.
    Half,
    /// It was let out by a commit that takes effect where the offset says, and comes.
    Released(Option<Offset>),
    /// It has ended.
    Ended(&'a End),
    /// It has ended by who asks, in the same batch or transaction.
    EndedHere(Outcome),
}

/// What a command comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// There is nothing to do.
    Nothing,
    /// The entry is altered.
    Alter {
        /// How.
        what: Alteration,
        /// When it comes, in Unix milliseconds.
        due_ms: i64,
    },
}

impl Schedule {
    /// Decides a command that came otherwise than by a produced record. `None` where there is nothing to do;
    /// the answer waits until the log is committed up to its end either way.
    ///
    /// # Errors
    /// [`Refusal`] where it cannot be done, or that is not known before more is committed.
    pub fn alter(
        &self,
        now: Now,
        high_watermark: Offset,
        target: &CommandTarget,
        command: Command,
    ) -> Result<Option<Note>, Refusal> {
        let stamps = self.stamps.ok_or_else(Self::loading)?;
        let ticket = self.resolve(target, None);
        let standing = ticket.map_or(Standing::Unknown, |ticket| self.standing(ticket, None));
        let effect = self.judge(now, high_watermark, standing, command)?;
        let (Effect::Alter { what, due_ms }, Some(ticket)) = (effect, ticket) else {
            return Ok(None);
        };
        let changes = vec![Change::Alter { ticket, what, due_ms, by: None }];
        Ok(Some(Note { at_ms: stamps.at(now), link: None, changes }))
    }

    pub(super) fn loading() -> Refusal {
        Refusal::not_known_yet("the log of the partition is being read")
    }

    /// Returns which entry is meant by who asks, in an own transaction if any.
    pub(super) fn resolve(
        &self,
        target: &CommandTarget,
        asker: Option<ProducerId>,
    ) -> Option<Offset> {
        match target {
            CommandTarget::Ticket(ticket) => Some(*ticket),
            CommandTarget::Id(id) => self.named(id, asker),
        }
    }

    /// Returns the entry that is called so by who asks: that of an open transaction, else that which counts, else
    /// the last that ended.
    pub(super) fn named(&self, id: &[u8], asker: Option<ProducerId>) -> Option<Offset> {
        let staged = self.state.open.named(id, asker);
        let live = || self.state.ticket_of(id);
        staged.or_else(live).or_else(|| self.state.ends.ticket_of(id))
    }

    /// Returns how an entry stands for who asks.
    pub(super) fn standing(&self, ticket: Offset, asker: Option<ProducerId>) -> Standing<'_> {
        let Some(live) = self.state.live(ticket) else {
            return self.state.ends.of(ticket).map_or(Standing::Unknown, Standing::Ended);
        };
        let own = asker.and_then(|producer| self.state.open.of(producer));
        let touch = own.and_then(|own| own.touches.of(ticket));
        if live.is_staged && own.is_none_or(|own| !own.entries.contains(&ticket)) {
            return Standing::Busy;
        }
        if let Some(holder) = self.state.open.holder(ticket)
            && asker != Some(holder)
        {
            return Standing::Busy;
        }
        let standing = match self.state.half(ticket) {
            None => Standing::Waits,
            Some(half) if half.is_undecided() => Standing::Half,
            Some(half) => Standing::Released(half.committed),
        };
        touch.map_or(standing, |touch| after(standing, touch))
    }

    /// Decides what a command comes to.
    pub(super) fn judge(
        &self,
        now: Now,
        high_watermark: Offset,
        standing: Standing<'_>,
        command: Command,
    ) -> Result<Effect, Refusal> {
        let wall_ms = self.wall_ms(now);
        let alter = |what, due_ms| Ok(Effect::Alter { what, due_ms });
        match (command, standing) {
            (Command::CancelIfPending, Standing::Unknown | Standing::Half)
            | (Command::Commit, Standing::Released(_)) => Ok(Effect::Nothing),
            (_, Standing::Unknown) => Err(Refusal::impossible(
                "no entry of this name or ticket is known in this partition",
            )),
            (_, Standing::Busy) => Err(Refusal::not_known_yet(
                "an open transaction decides about this entry; try again when it has ended",
            )),
            (
                Command::Cancel | Command::CancelIfPending,
                Standing::Waits | Standing::Released(_),
            ) => alter(Alteration::Cancel, -1),
            (Command::Reschedule(when), Standing::Waits | Standing::Released(_)) => {
                alter(Alteration::Reschedule, self.due_ms(now, when)?)
            }
            (Command::DeliverNow, Standing::Waits | Standing::Released(_)) => {
                alter(Alteration::DeliverNow, wall_ms)
            }
            (Command::Commit, Standing::Half) => alter(Alteration::Commit, wall_ms),
            (Command::Rollback, Standing::Half) => alter(Alteration::Rollback, -1),
            (Command::Cancel | Command::Reschedule(_) | Command::DeliverNow, Standing::Half) => {
                Err(Refusal::impossible("a half message takes only commit and rollback"))
            }
            (Command::Rollback, Standing::Released(settled)) => {
                known(settled, high_watermark, "the half message was committed")
            }
            (Command::Commit | Command::Rollback, Standing::Waits) => {
                Err(Refusal::impossible("the entry is no half message"))
            }
            (command, Standing::EndedHere(outcome)) => match (command, outcome) {
                (Command::Cancel | Command::CancelIfPending, _)
                | (Command::Rollback, Outcome::RolledBack)
                | (Command::Commit, Outcome::Committed) => Ok(Effect::Nothing),
                (_, _) => Err(Refusal::impossible(
                    "a record before it, of the same batch or transaction, ends this entry",
                )),
            },
            (command, Standing::Ended(end)) => ended(command, end, high_watermark),
        }
    }

    /// Returns when that is, in Unix milliseconds.
    pub(super) fn due_ms(&self, now: Now, when: When) -> Result<i64, Refusal> {
        let wall_ms = self.wall_ms(now);
        let due_ms = match when {
            When::At(at_ms) => at_ms,
            When::After(after_ms) => wall_ms.saturating_add(after_ms),
        };
        if !(0..=DUE_MS_MAX).contains(&due_ms) {
            return Err(Refusal::impossible(
                "the due time is beyond the year 9999, or before 1970",
            ));
        }
        let horizon_ms = self.settings.horizon_max_ms;
        if horizon_ms >= 0 && due_ms.saturating_sub(wall_ms) > horizon_ms {
            let message = format!(
                "the due time is {} ms ahead, mainspring.schedule.max.horizon.ms allows {horizon_ms}",
                due_ms.saturating_sub(wall_ms)
            );
            return Err(Refusal::new(ErrorCode::PolicyViolation, message));
        }
        Ok(due_ms)
    }
}

/// Returns how an entry stands behind what is done to it by who asks.
pub(super) const fn after(standing: Standing<'_>, touch: Touch) -> Standing<'_> {
    let was_committed = touch.commits
        || matches!(standing, Standing::Released(_) | Standing::EndedHere(Outcome::Committed));
    match touch.last {
        Alteration::Cancel if was_committed => Standing::EndedHere(Outcome::Committed),
        Alteration::Cancel => Standing::EndedHere(Outcome::Cancelled),
        Alteration::Rollback => Standing::EndedHere(Outcome::RolledBack),
        Alteration::Commit | Alteration::Reschedule | Alteration::DeliverNow if touch.commits => {
            Standing::Released(None)
        }
        Alteration::Commit | Alteration::Reschedule | Alteration::DeliverNow => standing,
    }
}

fn ended(command: Command, end: &End, high_watermark: Offset) -> Result<Effect, Refusal> {
    let offset = end.offset;
    match (command, end.outcome) {
        (Command::CancelIfPending, _)
        | (Command::Rollback, Outcome::RolledBack)
        | (Command::Commit, Outcome::Committed) => Ok(Effect::Nothing),
        (Command::Cancel, _) if !end.is_delivered() => Ok(Effect::Nothing),
        (_, Outcome::Fired | Outcome::Committed) if end.is_delivered() => {
            // By then the delivery is committed, and so is all that it rests on.
            known(
                Some(offset),
                high_watermark,
                format!("too late: it was delivered at offset {offset}"),
            )
        }
        (_, Outcome::Fired | Outcome::Cancelled) => {
            known(Some(end.settled), high_watermark, "the entry was cancelled")
        }
        (_, Outcome::Committed) => {
            known(Some(end.settled), high_watermark, "the half message was committed")
        }
        (_, Outcome::RolledBack) => {
            known(Some(end.settled), high_watermark, "the half message was rolled back")
        }
        (_, Outcome::Replaced) => known(
            Some(end.settled),
            high_watermark,
            format!("the entry was replaced by that with ticket {offset}"),
        ),
    }
}

/// Refuses for a reason that holds once `settled` is committed; before, nobody knows.
fn known(
    settled: Option<Offset>,
    high_watermark: Offset,
    message: impl Into<String>,
) -> Result<Effect, Refusal> {
    if settled.is_none_or(|settled| settled < high_watermark) {
        return Err(Refusal::impossible(message));
    }
    Err(Refusal::not_known_yet("what became of this entry is not committed yet; try again"))
}
