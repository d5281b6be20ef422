//! What operators see.

use bytes::Bytes;

use super::Schedule;
use super::queue::Key;
use crate::ids::Offset;
use crate::record::features::CommandTarget;
use crate::record::hidden::Outcome;

/// How an entry stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryStatus {
    /// Its transaction is open.
    InTransaction,
    /// It comes when it is due.
    Waits,
    /// An open transaction decides about it.
    Held,
    /// It waits for its verdict, which was asked for that often.
    Half {
        /// How often.
        checks: u32,
    },
    /// It waits for its verdict, which is asked for no more.
    Parked,
    /// It has ended: how, and where it was delivered or what replaced it, -1 for nowhere.
    Ended(Outcome, Offset),
}

/// An entry, as operators see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryView {
    /// Its ticket.
    pub ticket: Offset,
    /// What the producer calls it.
    pub id: Option<Bytes>,
    /// When it is due, in Unix milliseconds; -1 for an end, and a half message that comes with its verdict.
    pub due_ms: i64,
    /// What its record counts for.
    pub bytes: u32,
    /// The note that holds its record.
    pub place: Offset,
    /// How it stands.
    pub status: EntryStatus,
}

/// How much waits in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScheduleStats {
    /// Entries that wait, half messages and those of open transactions included.
    pub pending: usize,
    /// What their records count for.
    pub pending_bytes: u64,
    /// Half messages without a verdict, parked ones included.
    pub half: usize,
    /// Those of them that are parked.
    pub parked: usize,
    /// Entries that an open transaction decides about.
    pub held: usize,
    /// When the next one is due, in Unix milliseconds.
    pub next_due_ms: Option<i64>,
    /// Ends that are remembered.
    pub ended: usize,
    /// Hashes that are remembered.
    pub hashes: usize,
}

impl Schedule {
    /// Returns how much waits.
    pub fn stats(&self) -> ScheduleStats {
        let (_, half, parked) = self.state.halves.counts();
        ScheduleStats {
            pending: self.state.entries().len(),
            pending_bytes: self.state.bytes(),
            half,
            parked,
            held: self.state.open.held(),
            next_due_ms: self.state.queue.first().map(|(due_ms, _)| due_ms),
            ended: self.state.ends.len(),
            hashes: self.state.seen.len(),
        }
    }

    /// Returns up to `limit` entries that come up to `until_ms`, in the order in which they do, behind that due
    /// time and ticket.
    pub fn list_due(
        &self,
        after: Option<(i64, Offset)>,
        until_ms: i64,
        limit: usize,
    ) -> Vec<EntryView> {
        let after: Option<Key> = after;
        let keys = self.state.queue.after(after).take(limit);
        let keys = keys.take_while(|(due_ms, _)| *due_ms <= until_ms);
        keys.filter_map(|(_, ticket)| self.view(ticket)).collect()
    }

    /// Returns up to `limit` half messages without a verdict, or the parked ones of them alone, by ticket, behind
    /// that ticket. Those that a transaction has to do with are among them.
    pub fn list_half(&self, after: Option<Offset>, parked: bool, limit: usize) -> Vec<EntryView> {
        let tickets = self.state.halves.undecided_after(after, parked).take(limit);
        tickets.filter_map(|ticket| self.view(ticket)).collect()
    }

    /// Returns up to `limit` entries that wait for anything, by ticket, behind that ticket.
    pub fn list(&self, after: Option<Offset>, limit: usize) -> Vec<EntryView> {
        use std::ops::Bound;
        let bounds = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let tickets = self.state.entries().range(bounds).take(limit);
        tickets.filter_map(|(ticket, _)| self.view(*ticket)).collect()
    }

    /// Returns the entry that is meant, or how it ended as long as that is remembered.
    pub fn find(&self, target: &CommandTarget) -> Option<EntryView> {
        self.view(self.resolve(target, None)?)
    }

    fn view(&self, ticket: Offset) -> Option<EntryView> {
        let Some(live) = self.state.live(ticket) else {
            let end = self.state.ends.of(ticket)?;
            return Some(EntryView {
                ticket,
                id: end.id.as_deref().map(Bytes::copy_from_slice),
                due_ms: -1,
                bytes: 0,
                place: end.place,
                status: EntryStatus::Ended(end.outcome, end.offset),
            });
        };
        let half = self.state.half(ticket).filter(|half| half.is_undecided());
        let status = match half {
            _ if live.is_staged => EntryStatus::InTransaction,
            _ if self.state.open.holder(ticket).is_some() => EntryStatus::Held,
            None => EntryStatus::Waits,
            Some(half) if half.is_parked => EntryStatus::Parked,
            Some(half) => EntryStatus::Half { checks: half.checks },
        };
        Some(EntryView {
            ticket,
            id: live.id.as_deref().map(Bytes::copy_from_slice),
            due_ms: live.due_ms,
            bytes: live.bytes,
            place: live.place,
            status,
        })
    }
}
