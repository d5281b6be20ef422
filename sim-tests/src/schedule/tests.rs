use super::*;
use crate::scenarios;
use crate::world::Fault;

fn drawn(scenario: &str, seed: u64) -> Schedule {
    scenarios::find(scenario).expect("a scenario of that name").schedule(seed)
}

fn world(schedule: &mut Schedule) -> &mut WorldPlan {
    let Plan::World(plan) = &mut schedule.plan else { panic!("a plan of a world") };
    plan
}

#[test]
fn every_scenario_writes_what_it_reads() {
    for scenario in scenarios::ALL {
        for seed in [1, 2, 8, u64::MAX] {
            let schedule = scenario.schedule(seed);
            let text = schedule.write();
            assert_eq!(Schedule::read(&text).as_ref(), Ok(&schedule), "{text}");
        }
    }
}

#[test]
fn a_schedule_that_was_read_is_the_same_run() {
    let how = RunOptions { until: Some(3_000), ..RunOptions::default() };
    for scenario in ["log", "groups", "crash-points"] {
        let schedule = drawn(scenario, 3);
        let read = Schedule::read(&schedule.write()).expect("what was written");
        assert_eq!(read.run(&how).trace_hash, schedule.run(&how).trace_hash, "{scenario}");
    }
}

#[test]
fn a_fault_stands_on_one_line_by_its_name() {
    let mut schedule = drawn("log", 3);
    let fault = Fault::Kill { node: 0, effects: 4, down: 5 };
    world(&mut schedule).faults = vec![Strike { at: 6, fault }];
    let text = schedule.write();
    let line = r#"        {"at":6,"fault":{"down":5,"effects":4,"kind":"kill","node":0}}"#;
    assert!(text.lines().any(|found| found == line), "{text}");
}

#[test]
fn what_is_no_schedule_is_refused_by_its_kind() {
    let good = drawn("log", 3).write();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} in {good}");
        Schedule::read(&good.replacen(from, to, 1)).expect_err("no schedule")
    };
    assert!(matches!(Schedule::read("{"), Err(ScheduleError::Form(_))));
    assert!(matches!(Schedule::read("[]"), Err(ScheduleError::Form(_))));
    assert!(matches!(Schedule::read("{}"), Err(ScheduleError::Format(_))));
    assert!(matches!(Schedule::read(&"[".repeat(100_000)), Err(ScheduleError::Form(_))));
    let about = |about| good.replacen('{', &format!("{{\"about\": {about},"), 1);
    assert!(Schedule::read(&about("\"why\"")).is_ok());
    assert!(matches!(Schedule::read(&about("7")), Err(ScheduleError::Form(_))));
    let large = " ".repeat(17 << 20);
    assert!(matches!(Schedule::read(&large), Err(ScheduleError::TooLarge { .. })));
    assert!(matches!(with("schedule-1", "schedule-9"), ScheduleError::Format(_)));
    assert!(matches!(with("\"log\"", "\"lag\""), ScheduleError::Scenario(_)));
    assert!(matches!(with("\"log\"", "\"crash-points\""), ScheduleError::Form(_)));
    assert!(matches!(with("\"seed\"", "\"sead\""), ScheduleError::Form(_)));
    assert!(matches!(with("\"heal_at\": ", "\"heal_at\": -"), ScheduleError::Form(_)));
}

#[test]
fn what_a_world_does_not_have_is_out_of_range() {
    let refused = |change: &dyn Fn(&mut WorldPlan)| {
        let mut schedule = drawn("log", 3);
        change(world(&mut schedule));
        match Schedule::read(&schedule.write()) {
            Err(ScheduleError::Range { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    let strike = |fault| vec![Strike { at: 1, fault }];
    assert_eq!(refused(&|plan| plan.shards = 0), "shards");
    assert_eq!(refused(&|plan| plan.disk.sector = 7), "sector");
    assert_eq!(refused(&|plan| plan.clients[0].number = 1), "the number of a client");
    assert_eq!(refused(&|plan| plan.faults = strike(Fault::Rot { node: 9 })), "node of rot");
    assert_eq!(
        refused(&|plan| plan.faults = strike(Fault::Drift { node: 0, ppm: -1_000_000 })),
        "ppm of drift"
    );
    assert_eq!(
        refused(&|plan| plan.faults = strike(Fault::Pause { node: 0, time: u64::MAX })),
        "time of pause"
    );
}

#[test]
fn a_fault_less_leaves_what_comes_before_it_as_it_was() {
    let mut schedule = drawn("log", 3);
    let until = |schedule: &Schedule, until| {
        schedule.run(&RunOptions { until: Some(until), ..RunOptions::default() })
    };
    world(&mut schedule).faults.truncate(4);
    let Strike { at, .. } = world(&mut schedule).faults[3];
    let mut less = schedule.clone();
    world(&mut less).faults.pop();
    let before = (1..1_000).map(|n| n * 200).take_while(|n| until(&schedule, *n).time < at).last();
    let before = before.expect("something happens before the fault");
    assert_eq!(until(&schedule, before).trace_hash, until(&less, before).trace_hash);
    assert_ne!(until(&schedule, 50_000).trace_hash, until(&less, 50_000).trace_hash);
}

#[test]
fn a_client_begins_no_more_operations_than_it_may() {
    let mut schedule = drawn("log", 3);
    let plan = world(&mut schedule);
    plan.faults.clear();
    plan.clients.retain(|client| matches!(client.work, Work::Producer { .. }));
    plan.clients.truncate(1);
    plan.clients[0].operations = Some(7);
    let outcome = schedule.run(&RunOptions::default());
    assert_eq!((outcome.alarm, outcome.counts["sends"]), (None, 7));
}

#[test]
fn a_profile_leaves_its_own_faults_and_no_others() {
    let kinds = |profile: Profile| {
        let mut kinds: Vec<&str> = Vec::new();
        for seed in 1..20 {
            let mut plan = drawn("log", seed).plan;
            assert!(profile.apply(&mut plan));
            let Plan::World(plan) = plan else { panic!("a plan of a world") };
            kinds.extend(plan.faults.iter().map(|strike| strike.fault.kind()));
        }
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    };
    assert_eq!(kinds(Profile::None), [""; 0]);
    assert_eq!(kinds(Profile::Crashes), ["kill", "pause", "power-cut", "stop"]);
    let network = kinds(Profile::Network);
    let (links, others): (Vec<&str>, Vec<&str>) =
        network.into_iter().partition(|kind| kind.starts_with("link-"));
    assert_eq!(others, ["cut", "reset-streams"]);
    assert!(links.len() > 5, "{links:?}");
    assert_eq!(kinds(Profile::Clocks), ["drift", "wall-jump"]);
    assert!(kinds(Profile::All).len() > 8);
    assert!(!Profile::None.apply(&mut drawn("crash-points", 1).plan));
}

#[test]
fn a_panic_of_the_simulator_is_an_alarm_that_names_it() {
    crate::process::keep_panics_quiet();

    let outcome = or_panic(|| panic!("no such stream"));

    let alarm = outcome.alarm.expect("an alarm");
    assert_eq!(alarm.checker, "I41");
    assert!(alarm.message.contains("panicked: no such stream at "), "{}", alarm.message);
}
