//! `mainspring group reset`: stores other offsets for a group that has no members.
//!
//! What is to be stored is found first and can be looked at with `--dry-run`: the real run does
//! the same. Offsets outside of a partition are brought to its nearer end.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::client::group::StoredOffset;
use mainspring_core::client::group::requests::{commit_error, commit_offsets};
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::ids::{Offset, PartitionIndex};
use mainspring_core::wire::{KafkaString, Response};
use serde::Serialize;

use super::connect::{refused, strange};
use super::failure::{Code, Failure};
use super::group::{END, Groups, START, missing};
use super::output::Stop;
use super::time;
use super::topic::{self, Common, confirm, print};
use crate::clock::Clock;

/// State of a group that has offsets and no members.
const EMPTY: &str = "Empty";

/// Flags of the command.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("target").required(true))]
pub(crate) struct Reset {
    /// The group
    group: String,
    /// Topics to reset, TOPIC or TOPIC:PARTITION,PARTITION [default: all that the group has stored]
    #[arg(short, long, value_name = "TOPIC[:N,N]")]
    topic: Vec<String>,
    /// To the first record there is
    #[arg(long, group = "target")]
    to_earliest: bool,
    /// Behind the last record
    #[arg(long, group = "target")]
    to_latest: bool,
    /// To this offset
    #[arg(long, value_name = "N", group = "target")]
    to_offset: Option<i64>,
    /// To the first record of this time or later, such as 2026-11-22T10:00 (UTC) or Unix milliseconds
    #[arg(long, value_name = "TIME", group = "target")]
    to_datetime: Option<String>,
    /// By so many records onwards, or back where it is negative
    #[arg(long, value_name = "N", group = "target", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// To start, end, an offset, @TIME, or as long ago as -1h says (s, m, h or d)
    #[arg(long, value_name = "WHERE", group = "target", allow_hyphen_values = true)]
    to: Option<String>,
    /// Show what would be stored, and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

/// Where a group is to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Earliest,
    Latest,
    Offset(i64),
    Time(i64),
    Shift(i64),
}

impl Target {
    fn of(reset: &Reset) -> Result<Self, Failure> {
        let wrong = |text: &str| {
            Failure::usage(
                format!("cannot reset to {text}"),
                "it is no place in a topic",
                "write start, end, an offset, -1h, or @2026-11-22T10:00",
            )
        };
        if let Some(text) = &reset.to_datetime {
            return time::parse_millis(text).map(Self::Time).ok_or_else(|| wrong(text));
        }
        if let Some(text) = &reset.to {
            return Self::parse(text, Clock::default().now().wall.0).ok_or_else(|| wrong(text));
        }
        Ok(match (reset.to_offset, reset.shift_by) {
            (Some(offset), _) => Self::Offset(offset),
            (None, Some(count)) => Self::Shift(count),
            (None, None) if reset.to_earliest => Self::Earliest,
            (None, None) => Self::Latest,
        })
    }

    fn parse(text: &str, now: i64) -> Option<Self> {
        match text {
            "start" | "earliest" => return Some(Self::Earliest),
            "end" | "latest" => return Some(Self::Latest),
            _ => {}
        }
        if let Some(moment) = text.strip_prefix('@') {
            return time::parse_millis(moment).map(Self::Time);
        }
        let Some(ago) = text.strip_prefix('-') else {
            return text.parse().ok().map(Self::Offset);
        };
        let unit = match ago.chars().last()? {
            's' => 1_000,
            'm' => 60_000,
            'h' => 3_600_000,
            'd' => 86_400_000,
            _ => return None,
        };
        let count = ago[..ago.len() - 1].parse::<i64>().ok().filter(|count| *count >= 0)?;
        Some(Self::Time(now.saturating_sub(count.saturating_mul(unit)).max(0)))
    }
}

#[derive(Serialize)]
struct Planned {
    group_id: String,
    topic: String,
    partition: i32,
    before: Option<i64>,
    after: i64,
}

/// Runs the command.
pub(super) async fn run(reset: &Reset) -> Result<(), Stop> {
    let name = reset.group.as_str();
    let what = format!("cannot reset the group {name}");
    let target = Target::of(reset)?;
    let mut groups = Groups::new(&reset.common)?;
    let state = groups.find(&what, name).await?.map(|group| group.group_state.to_string());
    if let Some(state) = state.as_ref().filter(|state| *state != EMPTY) {
        let why = format!("its state is {state}: it has members, or will have some in a moment");
        let next = "stop its members first; mainspring group describe shows them";
        return Err(Failure::new(Code::Failed, what, why, next).into());
    }
    if state.is_none() && reset.topic.is_empty() {
        return Err(missing(&what).into());
    }
    let stored = groups.stored(&what, name).await?;
    let places = places(reset, &mut groups, &what, &stored).await?;
    let planned = plan(&mut groups, &what, name, target, &places, &stored).await?;
    if !reset.dry_run {
        let count = planned.len();
        confirm(reset.yes, &format!("reset {name}"), &format!("in {count} partitions"))?;
        store(&mut groups, &what, name, &planned).await?;
    }
    let columns = ["topic", "partition", "before", "after"];
    print(&planned, reset.common.output, &columns, |row| {
        vec![
            row.topic.clone(),
            row.partition.to_string(),
            row.before.map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
            row.after.to_string(),
        ]
    })
}

/// Finds the partitions that are meant.
async fn places(
    reset: &Reset,
    groups: &mut Groups,
    what: &str,
    stored: &BTreeMap<Place, StoredOffset>,
) -> Result<BTreeSet<Place>, Failure> {
    if reset.topic.is_empty() {
        let all = stored.keys().cloned().collect();
        let existing = groups.existing(what, &all).await?;
        if existing.is_empty() {
            let why = "it has stored no offsets of topics that there are";
            let next = "name a topic with --topic";
            return Err(Failure::new(Code::NotFound, what, why, next));
        }
        return Ok(existing);
    }
    let mut places = BTreeSet::new();
    for text in &reset.topic {
        let (name, indexes) = match text.split_once(':') {
            Some((name, list)) => (name, Some(numbers(text, list)?)),
            None => (text.as_str(), None),
        };
        let found = topic::find(&mut groups.requests, &[name.to_owned()], "cannot reset").await?;
        let known: BTreeSet<i32> = found
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|partition| partition.partition_index))
            .collect();
        let indexes = indexes.unwrap_or_else(|| known.iter().copied().collect());
        for index in indexes {
            if !known.contains(&index) {
                let why = format!("the topic {name} has no partition {index}");
                let next = format!("it has {}, numbered from 0", known.len());
                return Err(Failure::new(Code::NotFound, what, why, next));
            }
            places.insert((KafkaString::from(name), PartitionIndex(index)));
        }
    }
    Ok(places)
}

fn numbers(text: &str, list: &str) -> Result<Vec<i32>, Failure> {
    let parsed: Result<Vec<i32>, _> = list.split(',').map(|part| part.trim().parse()).collect();
    parsed.map_err(|_| {
        Failure::usage(
            format!("cannot use --topic {text}"),
            "what follows the colon are not numbers",
            "write it as --topic orders:0,1",
        )
    })
}

async fn plan(
    groups: &mut Groups,
    what: &str,
    name: &str,
    target: Target,
    places: &BTreeSet<Place>,
    stored: &BTreeMap<Place, StoredOffset>,
) -> Result<Vec<Planned>, Failure> {
    let starts = groups.offsets_at(what, places, START).await?;
    let ends = groups.offsets_at(what, places, END).await?;
    let timed = match target {
        Target::Time(millis) => groups.offsets_at(what, places, millis).await?,
        Target::Earliest | Target::Latest | Target::Offset(_) | Target::Shift(_) => BTreeMap::new(),
    };
    let mut planned = Vec::new();
    for place in places {
        let start = starts.get(place).copied().flatten().unwrap_or(0);
        let end = ends.get(place).copied().flatten().unwrap_or(start);
        let before = stored.get(place).map(|stored| stored.offset.0);
        let after = match target {
            Target::Earliest => start,
            Target::Latest => end,
            Target::Offset(offset) => offset,
            Target::Time(_) => timed.get(place).copied().flatten().unwrap_or(end),
            Target::Shift(count) => {
                let Some(before) = before else {
                    let (topic, partition) = place;
                    let why = format!("no offset is stored for {topic}, partition {partition}");
                    let next = "leave it out with --topic, or name a place such as --to-earliest";
                    return Err(Failure::new(Code::Failed, what, why, next));
                };
                before.saturating_add(count)
            }
        };
        planned.push(Planned {
            group_id: name.to_owned(),
            topic: place.0.to_string(),
            partition: place.1.0,
            before,
            after: after.max(start).min(end),
        });
    }
    Ok(planned)
}

async fn store(
    groups: &mut Groups,
    what: &str,
    name: &str,
    planned: &[Planned],
) -> Result<(), Failure> {
    let offsets: BTreeMap<Place, StoredOffset> = planned
        .iter()
        .map(|row| {
            let place = (KafkaString::from(row.topic.as_str()), PartitionIndex(row.partition));
            (place, StoredOffset::from(Offset(row.after)))
        })
        .collect();
    // Without generation and member: the coordinator takes it while the group has no members.
    let request = commit_offsets(&name.into(), -1, KafkaString::default(), None, &offsets);
    let response = groups
        .ask(what, name, request, |response| {
            let Response::OffsetCommit(response) = response else { return None };
            offsets
                .keys()
                .find_map(|place| commit_error(response, place))
                .filter(mainspring_core::client::ClientError::is_retriable)
        })
        .await?;
    let Response::OffsetCommit(response) = response else { return Err(strange(what)) };
    for place in offsets.keys() {
        if let Some(error) = commit_error(&response, place) {
            let what = format!("{what} in the topic {}, partition {}", place.0, place.1);
            return Err(refused(what, &error, None));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_reset_to_are_read_as_people_write_them() {
        for (text, target) in [
            ("start", Target::Earliest),
            ("end", Target::Latest),
            ("42", Target::Offset(42)),
            ("@1000", Target::Time(1_000)),
            ("-1h", Target::Time(10_000_000 - 3_600_000)),
            ("-90s", Target::Time(10_000_000 - 90_000)),
            ("-400d", Target::Time(0)),
        ] {
            assert_eq!(Target::parse(text, 10_000_000), Some(target), "{text}");
        }
        for text in ["", "-", "-h", "-1", "-1y", "--1h", "now", "@"] {
            assert_eq!(Target::parse(text, 10_000_000), None, "{text}");
        }
    }
}
