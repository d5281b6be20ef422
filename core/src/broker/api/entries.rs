//! `EntryList` (key 31003) and `EntryAlter` (key 31004): what waits at partitions, and what is done to it. Ours,
//! for our own tools.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use crate::broker::pending::{Gather, RequestContext};
use crate::broker::post::{AlterEntryItem, Ask, EntriesItem, ProduceRefusal, Produced};
use crate::broker::shard::Shard;
use crate::error::ErrorCode;
use crate::ids::{Offset, Uuid};
use crate::partition::scheduled::{Listing, Query, Which};
use crate::record::features::{Command, CommandTarget, When};
use crate::time::Now;
use crate::wire::api::entry_alter::{
    AlteredEntry, AlteredEntryTopic, EntryAlterRequest, EntryAlterResponse, EntryAlteration,
};
use crate::wire::api::entry_list::{
    EntryListRequest, EntryListResponse, ListedEntryPartition, ListedEntryTopic,
};

/// How long owners may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Most entries in one answer, shared by the partitions that were asked for.
const LISTED_MAX: i32 = 10_000;
/// Most alterations in one request: each is written by itself.
const ALTERED_MAX: usize = 10_000;

impl Shard {
    pub(in crate::broker) fn on_entry_list(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &EntryListRequest,
    ) {
        let mut response = EntryListResponse::default();
        let (mut items, mut places) = (Vec::new(), Vec::new());
        let asked = request.topics.iter().map(|topic| topic.partitions.len());
        let share = LISTED_MAX / i32::try_from(asked.sum::<usize>().max(1)).unwrap_or(i32::MAX);
        let limit = request.limit.clamp(1, share.max(1)) as usize;
        let mut known = BTreeSet::new();
        for (t, topic) in request.topics.iter().enumerate() {
            let found = self.find_topic(&topic.name, Uuid::ZERO, false);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for (p, asked) in topic.partitions.iter().enumerate() {
                let code =
                    match (wanted_list(request), self.find_partition(found, asked.partition_index))
                    {
                        (None, _) => ErrorCode::InvalidRequest,
                        (_, Err(code)) => code,
                        (_, Ok(partition)) if !known.insert(partition) => ErrorCode::InvalidRequest,
                        (Some(which), Ok(partition)) => {
                            let index = places.len() as u32;
                            places.push((t as u32, p as u32));
                            let after = (asked.after_due_ms, Offset(asked.after_ticket));
                            let query = Query {
                                after: (after.0 > i64::MIN).then_some(after),
                                until_ms: request.until_ms,
                                target: target(request.id.as_ref(), request.ticket),
                                which,
                                limit,
                            };
                            items.push((
                                self.owner(partition),
                                EntriesItem { index, partition, query },
                            ));
                            ErrorCode::RequestTimedOut
                        }
                    };
                partitions.push(ListedEntryPartition {
                    partition_index: asked.partition_index,
                    error_code: code.code(),
                    ..ListedEntryPartition::default()
                });
            }
            response.topics.push(ListedEntryTopic { name: topic.name.clone(), partitions });
        }
        let gather = gathered(ctx, response, places);
        self.gather(now, gather, items, Some(now.mono + TIMEOUT), Ask::Entries);
    }

    pub(in crate::broker) fn on_entry_alter(
        &mut self,
        now: Now,
        ctx: RequestContext,
        request: &EntryAlterRequest,
    ) {
        let mut response = EntryAlterResponse::default();
        let (mut items, mut places) = (Vec::new(), Vec::new());
        let count: usize = request.topics.iter().map(|topic| topic.alterations.len()).sum();
        for (t, topic) in request.topics.iter().enumerate() {
            let found = self.find_topic(&topic.name, Uuid::ZERO, false);
            let mut alterations = Vec::with_capacity(topic.alterations.len());
            for (p, asked) in topic.alterations.iter().enumerate() {
                let code = match (wanted(asked), self.find_partition(found, asked.partition_index))
                {
                    _ if count > ALTERED_MAX => ErrorCode::InvalidRequest,
                    (None, _) => ErrorCode::InvalidRequest,
                    (_, Err(code)) => code,
                    (Some((target, command)), Ok(partition)) => {
                        let index = places.len() as u32;
                        places.push((t as u32, p as u32));
                        let item = AlterEntryItem { index, partition, target, command };
                        items.push((self.owner(partition), item));
                        ErrorCode::RequestTimedOut
                    }
                };
                alterations.push(AlteredEntry {
                    partition_index: asked.partition_index,
                    error_code: code.code(),
                    error_message: None,
                });
            }
            response.topics.push(AlteredEntryTopic { name: topic.name.clone(), alterations });
        }
        let gather = gathered(ctx, response, places);
        self.gather(now, gather, items, Some(now.mono + TIMEOUT), Ask::AlterEntries);
    }
}

fn gathered(
    ctx: RequestContext,
    response: impl Into<crate::wire::Response>,
    places: Vec<(u32, u32)>,
) -> Gather {
    Gather {
        ctx,
        response: response.into(),
        places,
        outstanding: 0,
        deadline: None,
        is_silent: false,
        closes: false,
    }
}

/// Reads which entry is meant, if one is.
fn target(id: Option<&Bytes>, ticket: i64) -> Option<CommandTarget> {
    let by_ticket = (ticket >= 0).then_some(CommandTarget::Ticket(Offset(ticket)));
    id.map(|id| CommandTarget::Id(id.clone())).or(by_ticket)
}

/// Reads what is to be listed; `None` where that makes no sense. Only what comes by time has a time up to which it
/// can be listed in order.
const fn wanted_list(request: &EntryListRequest) -> Option<Which> {
    match request.which {
        1 => Some(Which::Scheduled),
        _ if request.until_ms < i64::MAX => None,
        0 => Some(Which::All),
        2 => Some(Which::Half),
        3 => Some(Which::Parked),
        _ => None,
    }
}

/// Reads what is to be done and to which entry; `None` where that makes no sense.
fn wanted(asked: &EntryAlteration) -> Option<(CommandTarget, Command)> {
    let target = target(asked.id.as_ref(), asked.ticket)?;
    let when =
        if asked.delay_ms >= 0 { When::After(asked.delay_ms) } else { When::At(asked.due_ms) };
    let command = match asked.operation {
        1 => Command::Cancel,
        2 if asked.delay_ms >= 0 || asked.due_ms >= 0 => Command::Reschedule(when),
        3 => Command::DeliverNow,
        4 => Command::Commit,
        5 => Command::Rollback,
        _ => return None,
    };
    Some((target, command))
}

/// Writes the outcome for one partition into the response.
pub(in crate::broker) fn fill_list(
    entry: &mut ListedEntryPartition,
    outcome: Result<Listing, ErrorCode>,
) {
    match outcome {
        Ok(listing) => {
            entry.error_code = ErrorCode::None.code();
            entry.count = listing.count;
            entry.has_more = listing.has_more;
            entry.entries = listing.entries;
        }
        Err(code) => entry.error_code = code.code(),
    }
}

/// Writes the outcome of one alteration into the response.
pub(in crate::broker) fn fill_alter(
    entry: &mut AlteredEntry,
    outcome: Result<Produced, ProduceRefusal>,
) {
    match outcome {
        Ok(_) => entry.error_code = ErrorCode::None.code(),
        Err(refusal) => {
            entry.error_code = refusal.code.code();
            entry.error_message = refusal.message.map(|message| message.as_ref().into());
        }
    }
}
