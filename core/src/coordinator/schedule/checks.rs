//! Asking for the verdict on half messages: when, and how far the question has come.
//!
//! Each half message has a timer of its own, at full length when a leader begins. At its end the leader notes
//! that it is about to ask; once that is committed, the question goes to the check topic under an identity of
//! its own, so that it is there once whoever repeats it; and only when that is confirmed does it count.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::Schedule;
use crate::coordinator::timers::Timers;
use crate::ids::Offset;
use crate::record::hidden::{Alteration, Change, CheckStep, Entry, Note};
use crate::time::{Instant, Now};
use crate::wire::KafkaString;

/// Most questions that one note begins.
const INTENTS_PER_NOTE: usize = 100;
/// Most questions that are about to be put; more are begun when some of these have gone out.
const READY_MAX: usize = 1_000;
/// Most questions that are out at a time.
const SENT_MAX: usize = 1_000;
/// Most half messages whose time is begun to be counted at once, and how long after it goes on.
const ARMED_MAX: usize = 10_000;
const ARM_AGAIN_AFTER: Duration = Duration::from_millis(1);
/// How long after a failure a question is put again.
const RETRY: Duration = Duration::from_secs(1);
/// How long after it was given out a question that is neither confirmed nor failed is given out again.
const UNCONFIRMED: Duration = Duration::from_secs(10);

/// What is asked for when. None of it is in the log.
#[derive(Clone, Default, Debug)]
pub(super) struct Checks {
    /// Whose time is to be counted from the next moment on.
    unarmed: BTreeSet<Offset>,
    timers: Timers<Offset>,
    /// Whose question is to be put once its intent is committed, and since when, so that nobody is passed by.
    pub(super) ready: Timers<Offset>,
    /// Whose question was given out, and is neither confirmed nor failed.
    sent: Timers<Offset>,
}

impl Checks {
    /// Puts off the question whose record cannot be read.
    pub(super) fn put_off(&mut self, ticket: Offset, until: Instant) {
        if self.ready.contains(&ticket) {
            self.ready.cancel(&ticket);
            self.timers.set(ticket, until);
        }
    }

    /// Counts the time of a half message anew.
    pub(super) fn restart(&mut self, ticket: Offset) {
        self.stop(ticket);
        self.unarmed.insert(ticket);
    }

    /// Asks for a half message no more.
    pub(super) fn stop(&mut self, ticket: Offset) {
        self.unarmed.remove(&ticket);
        self.timers.cancel(&ticket);
        self.ready.cancel(&ticket);
        self.sent.cancel(&ticket);
    }
}

/// A question that is to be put into the check topic, under the identity of its ticket and attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// The half message.
    pub ticket: Offset,
    /// Which question this is, from 1; of a parked one, one more than the most.
    pub attempt: u32,
    /// The most questions.
    pub max: u32,
    /// Whether it says that nobody will be asked again.
    pub is_parked: bool,
    /// Who is asked.
    pub group: KafkaString,
    /// What the producer calls the half message.
    pub id: Option<Bytes>,
    /// The half message itself.
    pub entry: Entry,
}

impl Check {
    /// Most that are given out at once.
    pub const GIVEN_MAX: usize = 100;
}

impl Schedule {
    /// Returns whether [`checks_due`](Self::checks_due) has anything to look at.
    pub fn has_checks_due(&mut self, now: Now) -> bool {
        self.arm_checks(now);
        self.next_check(now).is_some_and(|at| at <= now.mono)
    }

    /// Begins the questions whose time has come: returns a note that the caller appends and applies. Call it
    /// again until it returns `None`.
    pub fn checks_due(&mut self, now: Now) -> Option<Note> {
        let stamps = self.stamps?;
        self.arm_checks(now);
        let mut changes = Vec::new();
        while changes.len() < INTENTS_PER_NOTE
            && self.state.checks.ready.len() < READY_MAX
            && let Some(ticket) = self.state.checks.timers.pop(now.mono)
        {
            self.state.checks.sent.cancel(&ticket);
            let Some(half) = self.state.half(ticket).filter(|half| half.is_undecided()) else {
                continue;
            };
            if half.is_parked {
                let (what, due_ms) = (Alteration::Rollback, -1);
                changes.push(Change::Alter { ticket, what, due_ms, by: None });
            } else {
                let attempt = half.checks.saturating_add(1);
                if half.intent.is_none() {
                    changes.push(Change::Check { ticket, attempt, step: CheckStep::Intent });
                }
                if !self.state.checks.ready.contains(&ticket) {
                    self.state.checks.ready.set(ticket, now.mono);
                }
            }
            // Where the note cannot be appended, it comes again.
            self.state.checks.timers.set(ticket, now.mono + RETRY);
        }
        (!changes.is_empty()).then(|| Note { at_ms: stamps.at(now), link: None, changes })
    }

    /// Returns the questions that may be put: what they rest on is committed, and their records are at hand.
    /// Each is given out once, and again only after [`check_failed`](Self::check_failed) or when it is long
    /// unconfirmed. There may be more when some of these are confirmed, or the next time.
    pub fn checks_to_send(&mut self, now: Now, high_watermark: Offset) -> Vec<Check> {
        let max = self.settings.check_max;
        let mut out = Vec::new();
        while self.state.checks.sent.pop(now.mono).is_some() {}
        let most = Check::GIVEN_MAX.min(SENT_MAX.saturating_sub(self.state.checks.sent.len()));
        for &ticket in self.state.checks.ready.iter() {
            if out.len() >= most {
                break;
            }
            let Some(half) = self.state.half(ticket) else { continue };
            if half.intent.is_none_or(|at| at >= high_watermark) {
                continue;
            }
            let Some(entry) = self.aside.take(ticket) else { continue };
            let Some(of_half) = &entry.half else { continue };
            let attempt = half.checks.saturating_add(1);
            out.push(Check {
                ticket,
                attempt,
                max,
                is_parked: attempt > max,
                group: of_half.check_group.clone(),
                id: entry.id.clone(),
                entry,
            });
        }
        for check in &out {
            self.state.checks.ready.cancel(&check.ticket);
            self.state.checks.sent.set(check.ticket, now.mono + UNCONFIRMED);
            self.state.checks.timers.set(check.ticket, now.mono + UNCONFIRMED);
        }
        out
    }

    /// Notes that a question stands committed in the check topic: returns a note that the caller appends and
    /// applies. `None` where that changes nothing: the verdict has come meanwhile.
    pub fn check_sent(&self, now: Now, ticket: Offset, attempt: u32) -> Option<Note> {
        let stamps = self.stamps?;
        let half = self.state.half(ticket).filter(|half| half.is_undecided() && !half.is_parked)?;
        if attempt != half.checks.saturating_add(1) || self.state.live(ticket)?.is_staged {
            return None;
        }
        let is_last = attempt > self.settings.check_max;
        let step = if is_last { CheckStep::Parked } else { CheckStep::Sent };
        let changes = vec![Change::Check { ticket, attempt, step }];
        Some(Note { at_ms: stamps.at(now), link: None, changes })
    }

    /// Notes that a question could not be put. It is put again, and does not count until it is.
    pub fn check_failed(&mut self, now: Now, ticket: Offset) {
        self.state.checks.sent.cancel(&ticket);
        if self.state.half(ticket).is_some_and(|half| half.intent.is_some()) {
            self.state.checks.timers.set(ticket, now.mono + RETRY);
        }
    }

    pub(super) fn arm_checks(&mut self, now: Now) {
        for _ in 0..ARMED_MAX {
            let Some(ticket) = self.state.checks.unarmed.pop_first() else { break };
            let Some(half) = self.state.half(ticket).filter(|half| half.is_undecided()) else {
                continue;
            };
            let wait_ms = match (half.is_parked, half.checks) {
                (true, _) => self.settings.parked_retention_ms,
                (false, 0) if half.check_after_ms >= 0 => half.check_after_ms,
                (false, 0) => self.settings.check_after_ms,
                (false, 1..) => self.settings.check_interval_ms,
            };
            // A parked one that is kept for ever has no timer.
            if let Ok(wait_ms) = u64::try_from(wait_ms) {
                let at = now.mono + Duration::from_millis(wait_ms);
                self.state.checks.timers.set(ticket, at);
            }
        }
    }

    /// Returns when a question is due next.
    pub(super) fn next_check(&self, now: Now) -> Option<Instant> {
        let checks = &self.state.checks;
        let again = (!checks.unarmed.is_empty()).then(|| now.mono + ARM_AGAIN_AFTER);
        // What is out, or about to be, makes room by events.
        let is_full = checks.ready.len() >= READY_MAX;
        let next = checks.timers.next_deadline().filter(|at| !is_full || *at > now.mono);
        let out = checks.sent.next_deadline().filter(|_| checks.ready.len() > 0);
        next.into_iter().chain(again).chain(out).min()
    }
}
