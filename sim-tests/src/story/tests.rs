use mainspring_core::ids::PartitionIndex;

use super::*;
use crate::checkers::Alarm;
use crate::history::{RecordKind, SeenRecord};
use crate::scenarios::{self, RunOptions};
use crate::schedule::Plan;
use crate::world::{MILLISECOND, SECOND};

const P: TopicPartition = TopicPartition { topic_id: Uuid([7; 16]), partition: PartitionIndex(2) };

fn operation(number: u64) -> OperationId {
    OperationId { client: 3, number }
}

fn read(from: i64, offsets: &[i64]) -> Fact {
    let record = |offset: &i64| SeenRecord {
        offset: *offset,
        hash: *offset as u64,
        producer_id: -1,
        producer_epoch: -1,
        sequence: -1,
        kind: RecordKind::Plain,
    };
    Fact::Read {
        client: 4,
        partition: P,
        from,
        records: offsets.iter().map(record).collect(),
        crc_valid: true,
        high_watermark: 9,
        log_start: 0,
    }
}

/// A record that was acknowledged at offset 5 and is not there behind a power cut.
fn loss() -> (Story, Alarm) {
    let mut story = Story::default();
    story.topics.insert(P.topic_id, "orders".to_owned());
    let power_cut = What::End {
        node: 0,
        power: true,
        counted: true,
        in_flight: vec!["write of journal/0".to_owned()],
        lost: vec!["journal/0: 1 sector, bytes 0..512".to_owned()],
    };
    let moments = [
        What::Fact(Fact::Invoked { operation: operation(1), partition: P, records: vec![1] }),
        What::Fact(Fact::Acked { operation: operation(1), base_offset: 4 }),
        What::Fact(Fact::Invoked { operation: operation(2), partition: P, records: vec![0xabc] }),
        What::Fact(Fact::Acked { operation: operation(2), base_offset: 5 }),
        power_cut,
        What::Start { node: 0, life: 1 },
        What::Fact(Fact::Ready { node: 0 }),
        What::Fact(read(4, &[4, 6])),
    ];
    for (step, what) in (1..).zip(moments) {
        story.note(step, step * MILLISECOND, what);
    }
    let message = format!("acknowledged {:016x} at offset 5 of {P} is lost", 0xabc);
    let alarm = Alarm { checker: "I03", promise: "All is kept.", message, step: 8, at: 8 };
    (story, alarm)
}

#[test]
fn what_contradicts_is_the_send_its_acknowledgement_the_crash_and_the_last_fact() {
    let (story, alarm) = loss();
    assert_eq!(evidence(&story, &alarm), [2, 3, 4, 7]);
}

#[test]
fn a_moment_is_told_with_names_for_numbers() {
    let (story, _) = loss();
    let lines: Vec<String> = story.moments.iter().map(|moment| story.line(moment)).collect();
    assert_eq!(
        lines[2..],
        [
            "    0.003000 s  client 3    sends 1 record to orders-2 (operation 2)",
            "    0.004000 s  client 3    is told that operation 2 stands at offset 5 of orders-2",
            "    0.005000 s  node 0      LOSES POWER; under way: write of journal/0; \
             lost: journal/0: 1 sector, bytes 0..512",
            "    0.006000 s  node 0      starts, life 2",
            "    0.007000 s  node 0      serves clients",
            "    0.008000 s  client 4    reads orders-2 from 4: offset 4, offset 6 (high watermark 9)",
        ]
    );
}

#[test]
fn a_story_changes_nothing_of_its_run_and_tells_of_every_fault() {
    for name in ["log", "groups", "crash-points"] {
        let schedule = scenarios::find(name).expect("a scenario").schedule(3);
        let until = Some(4_000);
        let plain = schedule.run(&RunOptions { until, ..RunOptions::default() });
        let told = schedule.run(&RunOptions { until, story: true, ..RunOptions::default() });
        assert_eq!(plain.trace_hash, told.trace_hash, "{name}");
        let story = told.story.expect("it was asked for");
        assert!(!story.moments.is_empty(), "{name}");
        if let Plan::World(plan) = &schedule.plan {
            let struck = plan.faults.iter().filter(|strike| strike.at <= told.time).count();
            let faults = story.moments.iter().filter(|m| matches!(m.what, What::Fault(_)));
            assert_eq!(faults.count(), struck, "{name}");
        }
    }
}

#[test]
fn a_power_cut_is_told_with_what_it_took() {
    let mut schedule = scenarios::find("log").expect("a scenario").schedule(3);
    let Plan::World(plan) = &mut schedule.plan else { panic!("a plan of a world") };
    plan.faults.clear();
    for nth in 1..20 {
        let fault = Fault::PowerCut { node: 0, effects: nth, down: MILLISECOND };
        plan.faults.push(crate::schedule::Strike { at: u64::from(nth) * SECOND / 10, fault });
    }
    let outcome = schedule.run(&RunOptions { story: true, ..RunOptions::default() });
    let story = outcome.story.expect("it was asked for");
    let took = |moment: &&Moment| matches!(&moment.what, What::End { power: true, lost, .. } if !lost.is_empty());
    let moment = story.moments.iter().find(took).expect("a cut that took something");
    assert!(story.words(moment).starts_with("LOSES POWER"), "{}", story.words(moment));
    assert!(!story.topics.is_empty());
}

#[test]
fn the_page_needs_nothing_else_and_no_text_can_break_it() {
    let (mut story, alarm) = loss();
    story.note(9, 9, What::Note(Lane::World, "</script><script>alert(1)".to_owned()));
    let schedule = scenarios::find("log").expect("a scenario").schedule(3);
    let page = page(&story, &schedule, Some(&alarm));
    assert_eq!(page.matches("</script>").count(), 2, "its own two");
    for outside in ["src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let data = page
        .split_once("id=\"data\">")
        .expect("data")
        .1
        .split_once("</script>")
        .expect("its end")
        .0;
    let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["moments"].as_array().map(Vec::len), Some(9));
    assert_eq!(data["moments"][3]["evidence"], true);
    assert_eq!(data["partitions"][0], "orders-2");
    assert_eq!(data["alarm"][0], "I03 is broken: All is kept.");
}
