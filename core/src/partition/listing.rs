//! What waits at a partition with features, as operators are shown it.

use crate::coordinator::schedule::{EntryStatus, EntryView, Schedule};
use crate::error::ErrorCode;
use crate::ids::Offset;
use crate::log::LogStore;
use crate::partition::leader::{Partition, Waiter};
use crate::record::features::CommandTarget;
use crate::record::hidden::Outcome;
use crate::wire::api::entry_list::ListedEntry;

/// Most lists that wait until what they say is committed.
const WAITING_MAX: usize = 16;

/// Which of the entries are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// All, by ticket.
    All,
    /// Those that come by time, by due time and ticket.
    Scheduled,
    /// Half messages without a verdict, by ticket.
    Half,
    /// Parked ones of them, by ticket.
    Parked,
}

/// What is to be listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// Which.
    pub which: Which,
    /// The one entry that is meant, whatever its state.
    pub target: Option<CommandTarget>,
    /// The due time and the ticket behind which the list begins.
    pub after: Option<(i64, Offset)>,
    /// Of those that come by time, entries due later are left out, in Unix milliseconds.
    pub until_ms: i64,
    /// Most entries.
    pub limit: usize,
}

/// A list of entries.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Listing {
    /// How many wait in all.
    pub count: i64,
    /// Whether there are more behind the last one.
    pub has_more: bool,
    /// The entries.
    pub entries: Vec<ListedEntry>,
}

impl Query {
    fn answer(&self, machine: &Schedule) -> Listing {
        let count = machine.stats().pending as i64;
        if let Some(target) = &self.target {
            let entries = machine.find(target).iter().map(listed).collect();
            return Listing { count, has_more: false, entries };
        }
        let limit = self.limit.saturating_add(1);
        let after = self.after.map(|(_, ticket)| ticket);
        let mut views = match self.which {
            Which::Scheduled => machine.list_due(self.after, self.until_ms, limit),
            Which::All => machine.list(after, limit),
            Which::Half => machine.list_half(after, false, limit),
            Which::Parked => machine.list_half(after, true, limit),
        };
        let has_more = views.len() > self.limit;
        views.truncate(self.limit);
        Listing { count, has_more, entries: views.iter().map(listed).collect() }
    }
}

fn listed(view: &EntryView) -> ListedEntry {
    let (state, checks, offset) = match view.status {
        EntryStatus::Waits => (1, 0, -1),
        EntryStatus::InTransaction => (2, 0, -1),
        EntryStatus::Held => (3, 0, -1),
        EntryStatus::Half { checks } => (4, checks, -1),
        EntryStatus::Parked => (5, 0, -1),
        EntryStatus::Ended(Outcome::Fired, offset) => (6, 0, offset.0),
        EntryStatus::Ended(Outcome::Cancelled, offset) => (7, 0, offset.0),
        EntryStatus::Ended(Outcome::Committed, offset) => (8, 0, offset.0),
        EntryStatus::Ended(Outcome::RolledBack, offset) => (9, 0, offset.0),
        EntryStatus::Ended(Outcome::Replaced, offset) => (10, 0, offset.0),
    };
    ListedEntry {
        ticket: view.ticket.0,
        due_ms: view.due_ms,
        id: view.id.clone(),
        size: view.bytes as i32,
        state,
        checks: checks as i32,
        offset,
    }
}

impl Partition {
    /// Takes the next list of which all is committed.
    pub fn take_listed(&mut self) -> Option<(Waiter, Listing)> {
        let high_watermark = self.high_watermark();
        let listed = &mut self.scheduled.as_mut()?.listed;
        let (_, waiter, listing) = listed.pop_front_if(|(end, ..)| *end <= high_watermark)?;
        Some((waiter, listing))
    }

    /// Takes everybody who waits for a list.
    pub fn abandon_lists(&mut self) -> Vec<Waiter> {
        let Some(scheduled) = &mut self.scheduled else { return Vec::new() };
        scheduled.listed.drain(..).map(|(_, waiter, _)| waiter).collect()
    }

    /// Lists what waits. `None` where the answer comes out of [`take_listed`](Self::take_listed),
    /// because what it says is not committed yet.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS` 14 until the log is read, `KAFKA_STORAGE_ERROR` 56 where it cannot be;
    /// `REQUEST_TIMED_OUT` 7 where very many wait for such an answer. An ordinary topic has nothing that waits.
    pub fn list_entries(
        &mut self,
        query: &Query,
        waiter: Waiter,
        log: &LogStore,
    ) -> Result<Option<Listing>, ErrorCode> {
        self.check_readable()?;
        let high_watermark = self.high_watermark();
        let Some(scheduled) = &mut self.scheduled else { return Ok(Some(Listing::default())) };
        if !scheduled.is_loaded {
            return Err(ErrorCode::CoordinatorLoadInProgress);
        }
        let listing = query.answer(&scheduled.machine);
        let end = log.log_end_offset(self.id).unwrap_or(Offset::ZERO);
        if end <= high_watermark {
            return Ok(Some(listing));
        }
        if scheduled.listed.len() >= WAITING_MAX {
            return Err(ErrorCode::RequestTimedOut);
        }
        scheduled.listed.push_back((end, waiter, listing));
        Ok(None)
    }
}
