//! What waits at a partition with features, as operators are shown it.

use crate::coordinator::schedule::{EntryStatus, EntryView, Schedule};
use crate::error::ErrorCode;
use crate::ids::Offset;
use crate::log::LogStore;
use crate::partition::leader::{Partition, Waiter};
use crate::record::features::CommandTarget;
use crate::record::hidden::Outcome;
use crate::wire::api::entry_list::ListedEntry;

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
    /// Entries due later are left out, in Unix milliseconds.
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
            Which::Scheduled => machine.list_due(self.after, limit),
            Which::All => machine.list(after, limit),
            Which::Half => undecided(machine, after, limit, |status| {
                matches!(status, EntryStatus::Half { .. } | EntryStatus::Parked)
            }),
            Which::Parked => {
                undecided(machine, after, limit, |status| status == EntryStatus::Parked)
            }
        };
        views.retain(|view| view.due_ms <= self.until_ms);
        let has_more = views.len() > self.limit;
        views.truncate(self.limit);
        Listing { count, has_more, entries: views.iter().map(listed).collect() }
    }
}

/// Returns up to `limit` entries in some state, by ticket.
fn undecided(
    machine: &Schedule,
    mut after: Option<Offset>,
    limit: usize,
    is_wanted: impl Fn(EntryStatus) -> bool,
) -> Vec<EntryView> {
    const PAGE: usize = 1_000;
    let mut found = Vec::new();
    loop {
        let page = machine.list(after, PAGE);
        let is_last = page.len() < PAGE;
        after = page.last().map(|view| view.ticket);
        found.extend(page.into_iter().filter(|view| is_wanted(view.status)));
        if is_last || found.len() >= limit {
            found.truncate(limit);
            return found;
        }
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
    /// Takes everybody who waits for a list.
    pub fn abandon_lists(&mut self) -> Vec<Waiter> {
        let Some(scheduled) = &mut self.scheduled else { return Vec::new() };
        scheduled.listed.drain(..).map(|(_, waiter, _)| waiter).collect()
    }

    /// Lists what waits. `None` where the answer comes out of [`scheduled_committed`](Self::scheduled_committed),
    /// because what it says is not committed yet.
    ///
    /// # Errors
    /// `COORDINATOR_LOAD_IN_PROGRESS` 14 until the log is read; an ordinary topic has nothing that waits.
    pub fn list_entries(
        &mut self,
        query: &Query,
        waiter: Waiter,
        log: &LogStore,
    ) -> Result<Option<Listing>, ErrorCode> {
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
        scheduled.listed.push_back((end, waiter, listing));
        Ok(None)
    }
}
