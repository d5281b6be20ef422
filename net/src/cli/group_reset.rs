//! `mainspring group reset`: stores other offsets for a group that has no members.
//!
//! What is to be stored is found first and can be looked at with `--dry-run`: the real run does
//! the same. Offsets outside of a partition are brought to its nearer end.

use std::collections::BTreeMap;

use mainspring_core::client::ClientError;
use mainspring_core::client::group::StoredOffset;
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::ids::{NodeId, PartitionIndex};
use mainspring_core::wire::KafkaString;
use serde::Serialize;

use super::connect::{Ended, Requests};
use super::failure::{Code, Failure};
use super::group::missing;
use super::output::Stop;
use super::time;
use super::topic::{self, Common, confirm, operations, print};
use crate::client::operations::{About, Operations, Refusal, ResetTarget, leaders};
use crate::clock::Clock;

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

/// Finds where the group is to go on.
fn target_of(reset: &Reset) -> Result<ResetTarget, Failure> {
    let wrong = |text: &str| {
        Failure::usage(
            format!("cannot reset to {text}"),
            "it is no place in a topic",
            "write start, end, an offset, -1h, or @2026-11-22T10:00",
        )
    };
    if let Some(text) = &reset.to_datetime {
        return time::parse_millis(text).map(ResetTarget::Time).ok_or_else(|| wrong(text));
    }
    if let Some(text) = &reset.to {
        let found = match text.strip_prefix('@') {
            Some(moment) => time::parse_millis(moment).map(ResetTarget::Time),
            None => ResetTarget::parse(text, Clock::default().now().wall.0),
        };
        return found.ok_or_else(|| wrong(text));
    }
    Ok(match (reset.to_offset, reset.shift_by) {
        (Some(offset), _) => ResetTarget::Offset(offset),
        (None, Some(count)) => ResetTarget::Shift(count),
        (None, None) if reset.to_earliest => ResetTarget::Earliest,
        (None, None) => ResetTarget::Latest,
    })
}

#[derive(Serialize)]
struct Shown {
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
    let target = target_of(reset)?;
    let mut groups = operations(&reset.common)?;
    let group = KafkaString::from(name);
    let is_there = groups.check_empty(&group).await.map_err(|ended| match &ended {
        Ended::Refused(Refusal { error: ClientError::Refused { message, .. }, .. }) => {
            let next = "stop its members first; mainspring group describe shows them";
            Failure::new(Code::Failed, &what, message, next)
        }
        Ended::Refused(_) | Ended::Failed(_) => ended.of(&what),
    })?;
    if !is_there && reset.topic.is_empty() {
        return Err(missing(&what).into());
    }
    let stored = groups.stored(&group).await.map_err(|ended| ended.of(&what))?;
    let places = places(reset, &mut groups, &what, &stored).await?;
    let planned =
        groups.plan_reset(target, &places, &stored).await.map_err(|ended| match &ended {
            Ended::Refused(Refusal {
                about: About::Partition((topic, partition)),
                error: ClientError::NoStoredOffset,
            }) => {
                let why = format!("no offset is stored for {topic}, partition {partition}");
                let next = "leave it out with --topic, or name a place such as --to-earliest";
                Failure::new(Code::Failed, &what, why, next)
            }
            Ended::Refused(_) | Ended::Failed(_) => ended.of(&what),
        })?;
    if !reset.dry_run {
        let count = planned.len();
        confirm(reset.yes, &format!("reset {name}"), &format!("in {count} partitions"))?;
        groups.store(&group, &planned).await.map_err(|ended| ended.of(&what))?;
    }
    let planned: Vec<Shown> = planned
        .into_iter()
        .map(|row| Shown {
            group_id: name.to_owned(),
            topic: row.place.0.to_string(),
            partition: row.place.1.0,
            before: row.before,
            after: row.after,
        })
        .collect();
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
    groups: &mut Operations<Requests>,
    what: &str,
    stored: &BTreeMap<Place, StoredOffset>,
) -> Result<BTreeMap<Place, NodeId>, Failure> {
    if reset.topic.is_empty() {
        let all = stored.keys().cloned().collect();
        let existing = groups.existing(&all).await.map_err(|ended| ended.of(what))?;
        if existing.is_empty() {
            let why = "it has stored no offsets of topics that there are";
            let next = "name a topic with --topic";
            return Err(Failure::new(Code::NotFound, what, why, next));
        }
        return Ok(existing);
    }
    let mut places = BTreeMap::new();
    for text in &reset.topic {
        let (name, indexes) = match text.split_once(':') {
            Some((name, list)) => (name, Some(numbers(text, list)?)),
            None => (text.as_str(), None),
        };
        let found = topic::find(&mut groups.asks, &[name.to_owned()], "cannot reset").await?;
        let known = leaders(&found);
        let all = || known.keys().map(|(_, partition)| partition.0).collect();
        for index in indexes.unwrap_or_else(all) {
            let place = (KafkaString::from(name), PartitionIndex(index));
            let Some(leader) = known.get(&place) else {
                let why = format!("the topic {name} has no partition {index}");
                let next = format!("it has {}, numbered from 0", known.len());
                return Err(Failure::new(Code::NotFound, what, why, next));
            };
            places.insert(place, *leader);
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
