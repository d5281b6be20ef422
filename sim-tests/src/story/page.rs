//! The story as one page that needs nothing else.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Class, Lane, Story, evidence, plan_words};
use crate::checkers::Alarm;
use crate::cli::numbers::seconds;
use crate::schedule::Schedule;

const TEMPLATE: &str = include_str!("page.html");

impl Class {
    const fn name(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Life => "life",
            Self::Client => "client",
            Self::Disk => "disk",
            Self::Detail => "detail",
        }
    }
}

/// Returns a page of HTML with everything in it: a lane for each node, shard, disk, group and client over
/// virtual time, the faults, and every moment in words.
pub fn page(story: &Story, schedule: &Schedule, alarm: Option<&Alarm>) -> String {
    let named: BTreeSet<usize> =
        alarm.map(|alarm| evidence(story, alarm)).unwrap_or_default().into_iter().collect();
    let lanes: BTreeSet<Lane> = story.moments.iter().map(super::Moment::lane).collect();
    let moments: Vec<Value> = story
        .moments
        .iter()
        .enumerate()
        .map(|(n, moment)| {
            json!({
                "n": n,
                "step": moment.step,
                "at": moment.at,
                "time": seconds(moment.at),
                "lane": moment.lane().to_string(),
                "class": moment.class().name(),
                "evidence": named.contains(&n),
                "what": story.words(moment),
            })
        })
        .collect();
    let alarm = alarm.map(|alarm| {
        [
            format!("{} is broken: {}", alarm.checker, alarm.promise),
            story.with_names(&alarm.message),
        ]
    });
    let data = json!({
        "title": format!("{} seed {}", schedule.scenario, schedule.seed),
        "plan": plan_words(schedule),
        "alarm": alarm,
        "lanes": lanes.iter().map(Lane::to_string).collect::<Vec<String>>(),
        "partitions": story.partitions(),
        "moments": moments,
    });
    // Nothing in a string may end the script.
    TEMPLATE.replacen("DATA", &data.to_string().replace('<', "\\u003c"), 1)
}
