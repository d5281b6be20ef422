//! Records that wait at partitions, for their time or for a verdict: what is asked about them, and what the answers
//! say.
//!
//! The requests are our own. They are for the leader of each partition, and a broker that does not announce them is
//! asked for nothing: [`is_of_another_broker`].

use bytes::Bytes;

use super::ClientError;
use super::producer::accumulator::Place;
use crate::ids::Offset;
use crate::wire::api::entry_alter::{
    EntryAlterRequest, EntryAlterResponse, EntryAlterTopic, EntryAlteration,
};
use crate::wire::api::entry_list::{
    EntryListPartition, EntryListRequest, EntryListResponse, EntryListTopic, ListedEntry,
};
use crate::wire::{ApiKey, KafkaString};

/// Which entry of a partition is meant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum EntryName {
    /// The one whose producer was told this offset.
    Ticket(Offset),
    /// The one that its producer calls so.
    Id(Bytes),
}

/// What is to be listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// All that wait, in order of their tickets.
    All,
    /// Those that come by time, in the order in which they come.
    Scheduled {
        /// Only those due by then, in Unix milliseconds.
        until_ms: i64,
    },
    /// Half messages without a verdict, in order of their tickets.
    Half,
    /// Those of them whose verdict is asked for no more.
    Parked,
    /// This one, also where it has ended and that is remembered.
    One(EntryName),
}

/// How an entry stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryState {
    /// It waits for its time.
    Scheduled,
    /// It waits for the transaction that it was produced in.
    InTransaction,
    /// An open transaction decides about it.
    Held,
    /// It waits for its verdict.
    Half,
    /// It waits for its verdict, which is asked for no more.
    Parked,
    /// It was delivered.
    Delivered,
    /// It was cancelled and never comes.
    Cancelled,
    /// It was let out by its verdict.
    Committed,
    /// It was taken back by its verdict.
    RolledBack,
    /// A later one of the same name took its place.
    Replaced,
    /// Something that this version does not know.
    Other(i8),
}

impl EntryState {
    const fn from_number(number: i8) -> Self {
        match number {
            1 => Self::Scheduled,
            2 => Self::InTransaction,
            3 => Self::Held,
            4 => Self::Half,
            5 => Self::Parked,
            6 => Self::Delivered,
            7 => Self::Cancelled,
            8 => Self::Committed,
            9 => Self::RolledBack,
            10 => Self::Replaced,
            other => Self::Other(other),
        }
    }

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::InTransaction => "in-transaction",
            Self::Held => "held",
            Self::Half => "half",
            Self::Parked => "parked",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
            Self::Committed => "committed",
            Self::RolledBack => "rolled-back",
            Self::Replaced => "replaced",
            Self::Other(_) => "unknown",
        }
    }

    /// Returns whether it has ended.
    pub const fn is_ended(self) -> bool {
        match self {
            Self::Delivered
            | Self::Cancelled
            | Self::Committed
            | Self::RolledBack
            | Self::Replaced => true,
            Self::Scheduled
            | Self::InTransaction
            | Self::Held
            | Self::Half
            | Self::Parked
            | Self::Other(_) => false,
        }
    }
}

/// A record that waits, or did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The partition.
    pub place: Place,
    /// The offset that its producer was told.
    pub ticket: Offset,
    /// When it comes, in Unix milliseconds; `None` for one that comes with its verdict, and for an end.
    pub due_ms: Option<i64>,
    /// What its producer calls it.
    pub id: Option<Bytes>,
    /// What it counts for, in bytes: key, value, headers, names, and 64 of its own; 0 for an end.
    pub size: u32,
    /// How it stands.
    pub state: EntryState,
    /// How often its verdict was asked for; 0 once it is parked.
    pub checks: u32,
    /// Where it was delivered, or the ticket of what replaced it.
    pub offset: Option<Offset>,
}

/// Where a list goes on: behind the entry of this due time and ticket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cursor {
    due_ms: i64,
    ticket: i64,
}

/// A part of the list of one partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// How many wait there in all, whatever was asked for.
    pub count: u64,
    /// Where the list goes on, if it does.
    pub next: Option<Cursor>,
}

/// What is done to an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alteration {
    /// It never comes.
    Cancel,
    /// It comes at this moment, in Unix milliseconds.
    RescheduleAt(i64),
    /// It comes so many milliseconds from now, by the clock of the leader.
    RescheduleAfter(i64),
    /// It comes at once.
    DeliverNow,
    /// The verdict of a half message: it comes.
    Commit,
    /// The verdict of a half message: it never comes.
    Rollback,
}

/// Asks the leader of partitions for at most `limit` entries of each, behind a cursor if there is one. Partitions of
/// a topic follow each other.
pub fn list_entries(
    places: &[(&Place, Option<Cursor>)],
    wanted: &Wanted,
    limit: i32,
) -> EntryListRequest {
    let mut topics: Vec<EntryListTopic> = Vec::new();
    for ((name, partition), cursor) in places {
        let mut asked =
            EntryListPartition { partition_index: partition.0, ..EntryListPartition::default() };
        if let Some(cursor) = cursor {
            (asked.after_due_ms, asked.after_ticket) = (cursor.due_ms, cursor.ticket);
        }
        match topics.last_mut().filter(|last| last.name == *name) {
            Some(last) => last.partitions.push(asked),
            None => topics.push(EntryListTopic { name: name.clone(), partitions: vec![asked] }),
        }
    }
    let mut request = EntryListRequest { topics, limit, ..EntryListRequest::default() };
    match wanted {
        Wanted::All => {}
        Wanted::Scheduled { until_ms } => (request.which, request.until_ms) = (1, *until_ms),
        Wanted::Half => request.which = 2,
        Wanted::Parked => request.which = 3,
        Wanted::One(EntryName::Ticket(ticket)) => request.ticket = ticket.0,
        Wanted::One(EntryName::Id(id)) => request.id = Some(id.clone()),
    }
    request
}

/// Reads what was listed of a partition.
///
/// # Errors
/// The leader's refusal, or an answer that does not speak of the partition.
pub fn listed(response: &EntryListResponse, place: &Place) -> Result<Page, ClientError> {
    let topics = response.topics.iter().filter(|topic| topic.name == place.0);
    let mut partitions = topics.flat_map(|topic| &topic.partitions);
    let found = partitions.find(|found| found.partition_index == place.1.0);
    let found = found.ok_or_else(|| not_there(place))?;
    let message = found.error_message.as_ref().map(KafkaString::as_str);
    if let Some(error) = ClientError::from_answer(found.error_code, message) {
        return Err(error);
    }
    let last = found.entries.last().filter(|_| found.has_more);
    Ok(Page {
        entries: found.entries.iter().map(|entry| read(place, entry)).collect(),
        count: found.count.max(0).unsigned_abs(),
        next: last.map(|last| Cursor { due_ms: last.due_ms, ticket: last.ticket }),
    })
}

fn read(place: &Place, listed: &ListedEntry) -> Entry {
    Entry {
        place: place.clone(),
        ticket: Offset(listed.ticket),
        due_ms: (listed.due_ms >= 0).then_some(listed.due_ms),
        id: listed.id.as_deref().map(Bytes::copy_from_slice),
        size: listed.size.max(0).unsigned_abs(),
        state: EntryState::from_number(listed.state),
        checks: listed.checks.max(0).unsigned_abs(),
        offset: (listed.offset >= 0).then_some(Offset(listed.offset)),
    }
}

/// Asks the leader of a partition for something to be done to an entry.
pub fn alter_entry(place: &Place, name: &EntryName, alteration: Alteration) -> EntryAlterRequest {
    let mut asked = EntryAlteration { partition_index: place.1.0, ..EntryAlteration::default() };
    match name {
        EntryName::Ticket(ticket) => asked.ticket = ticket.0,
        EntryName::Id(id) => asked.id = Some(id.clone()),
    }
    asked.operation = match alteration {
        Alteration::Cancel => 1,
        Alteration::RescheduleAt(_) | Alteration::RescheduleAfter(_) => 2,
        Alteration::DeliverNow => 3,
        Alteration::Commit => 4,
        Alteration::Rollback => 5,
    };
    match alteration {
        Alteration::RescheduleAt(due_ms) => asked.due_ms = due_ms,
        Alteration::RescheduleAfter(delay_ms) => asked.delay_ms = delay_ms,
        Alteration::Cancel | Alteration::DeliverNow | Alteration::Commit | Alteration::Rollback => {
        }
    }
    let topic = EntryAlterTopic { name: place.0.clone(), alterations: vec![asked] };
    EntryAlterRequest { topics: vec![topic] }
}

/// Reads what came of [`alter_entry`].
///
/// # Errors
/// The leader's refusal (`INVALID_RECORD` where there is no such entry, or it is too late), or an answer that does
/// not speak of the partition.
pub fn altered(response: &EntryAlterResponse, place: &Place) -> Result<(), ClientError> {
    let topics = response.topics.iter().filter(|topic| topic.name == place.0);
    let mut found = topics.flat_map(|topic| &topic.alterations);
    let found = found.find(|found| found.partition_index == place.1.0);
    let found = found.ok_or_else(|| not_there(place))?;
    let message = found.error_message.as_ref().map(KafkaString::as_str);
    ClientError::from_answer(found.error_code, message).map_or(Ok(()), Err)
}

fn not_there((topic, partition): &Place) -> ClientError {
    ClientError::Malformed(format!("it does not speak of partition {} of {topic}", partition.0))
}

/// Returns whether a broker was not asked about entries because it does not announce that it can be.
pub fn is_of_another_broker(error: &ClientError) -> bool {
    let own = |name: &str| ApiKey::OWN_FOR_CLIENTS.iter().any(|api| api.name() == name);
    matches!(error, ClientError::UnsupportedApi(name) if own(name))
}

#[cfg(test)]
mod tests;
