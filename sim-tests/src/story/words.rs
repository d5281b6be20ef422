//! What happened, as sentences.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mainspring_core::observe::ClusterEvent;

use super::{Lane, Moment, Story, What};
use crate::cli::numbers::seconds;
use crate::history::{Fact, OperationId, SeenRecord};
use crate::schedule::{Plan, Schedule, Work, WorldPlan};
use crate::world::Fault;

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::World => f.write_str("world"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Shard(node, shard) => write!(f, "shard {node}/{shard}"),
            Self::Disk(node) => write!(f, "disk {node}"),
            Self::Group(group) => write!(f, "group {group}"),
            Self::Client(client) => write!(f, "client {client}"),
        }
    }
}

impl Story {
    /// Returns a moment as one line: its time, where it was, and what happened.
    pub fn line(&self, moment: &Moment) -> String {
        let lane = moment.lane().to_string();
        format!("{:>12} s  {lane:<10}  {}", seconds(moment.at), self.words(moment))
    }

    /// Says what happened.
    pub fn words(&self, moment: &Moment) -> String {
        match &moment.what {
            What::Fact(fact) => self.fact(fact),
            What::Fault(fault) => format!("FAULT: {}", fault_words(fault)),
            What::Lifted(what) => format!("{what} is over"),
            What::Healed => "the last fault is over, and the clients are told to finish".to_owned(),
            What::Start { life, .. } => format!("starts, life {}", life + 1),
            What::End { power, counted, in_flight, lost, .. } => {
                let mut words = match (power, counted) {
                    (true, _) => "LOSES POWER",
                    (false, true) => "IS KILLED",
                    (false, false) => "ends",
                }
                .to_owned();
                if !in_flight.is_empty() {
                    let _infallible = write!(words, "; under way: {}", list(in_flight));
                }
                if *counted {
                    let lost = if lost.is_empty() { "nothing".to_owned() } else { list(lost) };
                    let _infallible = write!(words, "; lost: {lost}");
                }
                words
            }
            What::Connected { shard, .. } => format!("is connected, to shard {shard}"),
            What::Disconnected { .. } => "loses its connection".to_owned(),
            What::Linked { to, .. } => format!("has a connection to node {to}"),
            What::Unlinked { to, .. } => format!("has no connection to node {to}"),
            What::Failed { error, .. } => format!("fails: {error}"),
            What::Mark { mark, .. } => format!("reaches {mark:?}"),
            What::Note(_, text) => text.clone(),
        }
    }

    fn place_of(&self, operation: OperationId) -> String {
        let sent = self.sent.get(&operation).map(|(partition, _)| partition);
        let partition = sent.or_else(|| self.asked.get(&operation));
        partition.map_or_else(|| "a partition".to_owned(), |partition| self.name(*partition))
    }

    fn fact(&self, fact: &Fact) -> String {
        match fact {
            Fact::Invoked { operation, partition, records } => format!(
                "sends {} to {} ({})",
                count(records.len(), "record"),
                self.name(*partition),
                number(*operation)
            ),
            Fact::Acked { operation, base_offset } => {
                let records = self.sent.get(operation).map_or(1, |(_, records)| records.len());
                format!(
                    "is told that {} stands at {} of {}",
                    number(*operation),
                    span(*base_offset, base_offset + records as i64),
                    self.place_of(*operation)
                )
            }
            Fact::Refused { operation, code } => format!(
                "is refused {} to {} for good, code {code}",
                number(*operation),
                self.place_of(*operation)
            ),
            Fact::Fenced { operation } => format!(
                "is refused {} to {}: its epoch is over",
                number(*operation),
                self.place_of(*operation)
            ),
            Fact::Judged { operation, code } => format!(
                "sends {} again, which was acknowledged, and is told code {code}",
                number(*operation)
            ),
            Fact::ReadFailed { partition, code } => {
                format!("a read of {} is answered with code {code}", self.name(*partition))
            }
            Fact::Retention { age } => {
                format!("records may go from an age of {} s on", seconds(*age))
            }
            Fact::AskedPurge { partition, before } => {
                format!("asks for {} to begin at offset {before}", self.name(*partition))
            }
            Fact::Purged { partition, log_start } => {
                format!("is told that {} begins at offset {log_start}", self.name(*partition))
            }
            Fact::AskedLatest { partition, .. } => {
                format!("asks for the end of {}", self.name(*partition))
            }
            Fact::Latest { operation, offset } => {
                format!("is told that {} ends at {offset}", self.place_of(*operation))
            }
            Fact::FoundByTime { partition, time, known, found } => format!(
                "looks in {} for {time} ms, which offset {known} has, and is told {found:?}",
                self.name(*partition)
            ),
            Fact::Read { partition, from, records, crc_valid, high_watermark, .. } => format!(
                "reads {} from {from}: {}{} (high watermark {high_watermark})",
                self.name(*partition),
                seen(records),
                if *crc_valid { "" } else { ", DAMAGED" }
            ),
            Fact::FinalLog { partition, log_start, records } => format!(
                "at the end {} begins at {log_start} and holds {}",
                self.name(*partition),
                seen(records)
            ),
            Fact::Assigned { member, partitions, .. } => {
                let names: Vec<String> = partitions.iter().map(|p| self.name(*p)).collect();
                let share = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
                format!("member {} holds {share} in generation {}", member.id, member.generation)
            }
            Fact::Processed { partition, from, to, .. } => {
                format!("a member works on {}..{to} of {}", from, self.name(*partition))
            }
            Fact::CommitAsked { operation, group, member, partition, offset } => format!(
                "commits offset {offset} of {} for group {group} as {} in generation {} ({})",
                self.name(*partition),
                member.id,
                member.generation,
                number(*operation)
            ),
            Fact::CommitAnswered { operation, code } => format!(
                "is told that the commit of {} ({}) {}",
                self.place_of(*operation),
                number(*operation),
                if *code == 0 {
                    "is accepted".to_owned()
                } else {
                    format!("is refused, code {code}")
                }
            ),
            Fact::AskedCommitted { group, partition, .. } => {
                format!(
                    "asks for the committed offset of {} in group {group}",
                    self.name(*partition)
                )
            }
            Fact::ToldCommitted { operation, offset } => {
                format!("is told that {offset} is committed for {}", self.place_of(*operation))
            }
            Fact::GroupAtRest { group, generation, partitions, members, .. } => format!(
                "sees group {group} at rest in generation {generation}: {members} members, it holds {}",
                count(partitions.len(), "partition")
            ),
            Fact::Stored { partition, end, durable, .. } => format!(
                "{} is {} up to offset {end}",
                self.name(*partition),
                if *durable { "flushed" } else { "written" }
            ),
            Fact::Image { durable, logs, .. } => {
                let logs: Vec<String> = logs
                    .iter()
                    .map(|(log, image)| {
                        format!("{} {}..{}", self.name(*log), image.start, image.end)
                    })
                    .collect();
                let what = if *durable { "is sure to hold" } else { "reads as" };
                format!("{what}: {}", if logs.is_empty() { "no log".into() } else { list(&logs) })
            }
            Fact::Unreadable { durable, message, .. } => {
                let when =
                    if *durable { "after a power cut at this moment" } else { "as it reads" };
                format!("does not hold its logs, {when}: {message}")
            }
            Fact::Bounds { partition, log_start, high_watermark, .. } => {
                format!("has {} from offset {log_start} to {high_watermark}", self.name(*partition))
            }
            Fact::HighWatermark { partition, offset, .. } => {
                format!("the high watermark of {} is {offset}", self.name(*partition))
            }
            Fact::Recovered { partition, acked, written, recovered, again } => format!(
                "{} is recovered: {} of {} written and {} promised records, {} the second time",
                self.name(*partition),
                recovered.len(),
                written.len(),
                acked.len(),
                again.len()
            ),
            Fact::Crashed { power, .. } => {
                (if *power { "has lost power" } else { "was killed" }).to_owned()
            }
            Fact::Ready { .. } => "serves clients".to_owned(),
            Fact::StoodStill { .. } => "stands still, and so do its clocks".to_owned(),
            Fact::WentOn { .. } => "goes on, and does not know that time has passed".to_owned(),
            Fact::Fatal { message, excused, .. } => format!(
                "gives up{}: {message}",
                if *excused { ", as a fault entitles it to" } else { "" }
            ),
            Fact::Reported { event, .. } => self.reported(event),
            Fact::Voted { vote: (epoch, candidate), .. } => {
                format!("votes for the node with the id {candidate} in epoch {epoch}")
            }
            Fact::Core { nodes } => {
                format!("nodes {nodes:?} are well and must do without the others")
            }
            Fact::Panicked { message, .. } => format!("PANICS: {message}"),
            Fact::Stuck { what } => format!("nothing goes on: {what}"),
            other => self.with_names(&format!("{other:?}")),
        }
    }
}

impl Story {
    /// Says what a replica reports of itself.
    fn reported(&self, event: &ClusterEvent) -> String {
        match event {
            ClusterEvent::Opened { partition, log_start_offset, log_end_offset } => format!(
                "takes {} up, from {log_start_offset} to {log_end_offset}",
                self.name(*partition)
            ),
            ClusterEvent::Appended {
                partition,
                base_offset,
                end_offset,
                leader_epoch,
                as_leader,
                ..
            } => format!(
                "{} {} of {} in epoch {leader_epoch}",
                if *as_leader { "gives out" } else { "follows with" },
                span(base_offset.0, end_offset.0),
                self.name(*partition)
            ),
            ClusterEvent::Truncated { partition, end } => {
                format!("cuts {} to {end}", self.name(*partition))
            }
            ClusterEvent::SnapshotInstalled { end } => {
                format!("puts a snapshot up to {end} in the place of the metadata log")
            }
            ClusterEvent::StartMoved { partition, log_start_offset } => {
                format!("lets {} begin at {log_start_offset}", self.name(*partition))
            }
            ClusterEvent::Led { partition, leader_epoch, end } => {
                format!("leads {} from {end} in epoch {leader_epoch}", self.name(*partition))
            }
            ClusterEvent::Followed { partition, leader_epoch, leader } => format!(
                "follows the node with the id {leader} in epoch {leader_epoch} of {}",
                self.name(*partition)
            ),
            ClusterEvent::Resigned { partition, leader_epoch } => {
                format!("leads {} no more, epoch {leader_epoch}", self.name(*partition))
            }
            other => self.with_names(&format!("{other:?}")),
        }
    }
}

/// Returns the node that a fault strikes. Faults are taken by the names of their values, whatever their
/// kinds.
pub(super) fn node_of(fault: &Fault) -> usize {
    let value = serde_json::to_value(fault).unwrap_or_default();
    value["node"].as_u64().unwrap_or(0) as usize
}

fn fault_words(fault: &Fault) -> String {
    let value = serde_json::to_value(fault).unwrap_or_default();
    let values: Vec<String> = value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !matches!(name.as_str(), "kind" | "node"))
        .map(|(name, value)| match (name.as_str(), value.as_u64()) {
            ("down" | "time", Some(nanos)) => format!("{name} {} s", seconds(nanos)),
            _ => format!("{name} {value}"),
        })
        .collect();
    let (kind, values) = (fault.kind(), values.join(", "));
    if values.is_empty() { kind.to_owned() } else { format!("{kind}, {values}") }
}

fn number(operation: OperationId) -> String {
    format!("operation {}", operation.number)
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn span(from: i64, end: i64) -> String {
    if end - from == 1 { format!("offset {from}") } else { format!("offsets {from}..{end}") }
}

fn list(items: &[String]) -> String {
    let shown = items.iter().take(6).map(String::as_str).collect::<Vec<&str>>().join("; ");
    let more = items.len().saturating_sub(6);
    if more > 0 { format!("{shown}; and {more} more") } else { shown }
}

/// Names the offsets of records, joined where they follow each other.
fn seen(records: &[SeenRecord]) -> String {
    let mut spans: Vec<(i64, i64)> = Vec::new();
    for record in records {
        match spans.last_mut() {
            Some((_, end)) if *end == record.offset => *end += 1,
            _ => spans.push((record.offset, record.offset + 1)),
        }
    }
    if spans.is_empty() {
        return "nothing".to_owned();
    }
    spans.iter().map(|(from, end)| span(*from, *end)).collect::<Vec<String>>().join(", ")
}

/// Says what was drawn before anything happened, a line for each thing.
pub fn plan_words(schedule: &Schedule) -> Vec<String> {
    match &schedule.plan {
        Plan::World(plan) => world_words(plan),
        Plan::Steps(plan) => {
            let looked = plan.steps.iter().filter(|step| step.looks).count();
            vec![
                format!("disk      sectors of {} bytes", plan.sector),
                format!("steps     {}, {looked} looked at behind each effect", plan.steps.len()),
                format!("subsets   up to {} of what a power cut may leave", plan.subsets_max),
            ]
        }
    }
}

fn world_words(plan: &WorldPlan) -> Vec<String> {
    let WorldPlan { shards, topics, partitions, node, disk, net, clients, faults, .. } = plan;
    let mut lines = vec![
        format!(
            "node      {}, {} of {}",
            count(usize::from(*shards), "shard"),
            count(*topics, "topic"),
            count(*partitions as usize, "partition")
        ),
        format!(
            "journal   files of {} KiB, blocks of {} KiB, segments of {} ms{}",
            node.journal_file_bytes >> 10,
            node.journal_block_bytes >> 10,
            node.roll_ms,
            node.retention_ms.map_or_else(String::new, |ms| format!(", retention {ms} ms"))
        ),
        format!(
            "disk      sectors of {} bytes, an operation about {} us, a flush {} us",
            disk.sector,
            disk.latency / 1_000,
            disk.flush_latency / 1_000
        ),
        format!(
            "network   about {} us, a window of {} KiB, {}/1000 sends cut in pieces, {}/1000 reset",
            net.latency / 1_000,
            net.window >> 10,
            net.split,
            net.reset
        ),
    ];
    let mut works: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for client in clients {
        let work = match client.work {
            Work::Member { group, .. } => format!("member of group {group}"),
            other => format!("{other:?}"),
        };
        works.entry(work).or_default().push(client.number.to_string());
    }
    for (work, numbers) in works {
        let what = if numbers.len() == 1 { "client" } else { "clients" };
        lines.push(format!("{what:<8}  {}: {work}", numbers.join(" ")));
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for strike in faults {
        *kinds.entry(strike.fault.kind()).or_insert(0) += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let kinds = if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
    lines.push(format!("faults    {kinds}"));
    lines.push(format!("time      faults end at {} s", seconds(plan.heal_at)));
    lines
}
