use super::*;
use crate::scenarios;
use crate::schedule::{Plan, StepsPlan, Work, WorldPlan};
use crate::world::{Fault, MILLISECOND, SECOND};

fn drawn(scenario: &str, seed: u64) -> Schedule {
    scenarios::find(scenario).expect("a scenario of that name").schedule(seed)
}

fn world(schedule: &Schedule) -> &WorldPlan {
    let Plan::World(plan) = &schedule.plan else { panic!("a plan of a world") };
    plan
}

fn steps(schedule: &Schedule) -> &StepsPlan {
    let Plan::Steps(plan) = &schedule.plan else { panic!("a plan of steps") };
    plan
}

fn failed(checker: &'static str, events: u64) -> Outcome {
    let alarm = Alarm { checker, promise: "", message: String::new(), step: events, at: 0 };
    Outcome { alarm: Some(alarm), events, time: u64::MAX, ..Outcome::default() }
}

#[test]
fn what_a_failure_does_not_need_is_taken_away() {
    let schedule = drawn("log", 3);
    let plan = world(&schedule);
    let (needed, other) = (plan.faults[2].fault.clone(), plan.faults[7].fault.clone());
    // It fails where both faults strike and the recorder reads, after as many events as there are parts.
    let run = |schedule: &Schedule, until: Option<u64>| {
        let plan = world(schedule);
        let has = |fault: &Fault| plan.faults.iter().any(|strike| strike.fault == *fault);
        let reads = |work: &Work| matches!(work, Work::Reader { recorder: true, .. });
        let events = 10 * (plan.faults.len() + plan.clients.len()) as u64;
        let is_cut = until.is_some_and(|until| events > until);
        if has(&needed) && plan.clients.iter().any(|client| reads(&client.work)) && !is_cut {
            return failed(if has(&other) { "I03" } else { "I41" }, events);
        }
        Outcome::default()
    };
    let shrunk = shrink_by(&run, &schedule, &mut |_, _| {}).expect("it fails");
    let plan = world(&shrunk.schedule);
    assert_eq!(shrunk.alarm.checker, "I03");
    assert_eq!((plan.faults.len(), plan.clients.len()), (2, 1));
    assert_eq!((plan.shards, plan.topics, plan.partitions), (1, 1, 1));
    assert_eq!((shrunk.after.events, shrunk.after.faults, shrunk.after.clients), (30, 2, 1));
}

#[test]
fn steps_that_a_failure_does_not_need_are_taken_away() {
    let schedule = drawn("crash-points", 8);
    let needed = steps(&schedule).steps[9].number;
    let run = |schedule: &Schedule, _until: Option<u64>| {
        let plan = steps(schedule);
        let looks = plan.steps.iter().filter(|step| step.looks).count() as u64;
        let fails = plan.steps.iter().any(|step| step.number == needed && step.looks);
        if fails { failed("I16", looks) } else { Outcome::default() }
    };
    let shrunk = shrink_by(&run, &schedule, &mut |_, _| {}).expect("it fails");
    assert_eq!(steps(&shrunk.schedule).steps.len(), 1);
    assert_eq!(shrunk.after.events, 1);
}

#[test]
fn a_run_that_fails_shrinks_to_one_that_fails_in_the_same_way() {
    let mut schedule = drawn("log", 3);
    // Nobody can finish in a millisecond.
    let Plan::World(plan) = &mut schedule.plan else { panic!("a plan of a world") };
    (plan.heal_at, plan.grace) = (2 * SECOND, MILLISECOND);
    let shrunk = shrink(&schedule, &mut |_, _| {}).expect("it fails");
    let again = shrunk.schedule.run(&RunOptions::default());
    assert_eq!(again.alarm.as_ref(), Some(&shrunk.alarm));
    assert_eq!(again.alarm.expect("it fails").checker, "I41");
    assert!(shrunk.after.events * 10 <= shrunk.before.events, "{shrunk:?}");
    assert_eq!(again.events, shrunk.after.events);
}

#[test]
fn a_run_that_passes_is_not_shrunk() {
    let run = |_: &Schedule, _: Option<u64>| Outcome::default();
    assert!(shrink_by(&run, &drawn("log", 3), &mut |_, _| {}).is_none());
}
