//! Half messages: their verdicts, and how these are asked for.

use super::*;

/// Notes what is due to be asked, and takes the questions that may be put.
fn ask(bench: &mut Bench) -> Vec<Check> {
    let now = bench.now;
    bench.schedule.next_deadline(now);
    while let Some(note) = bench.schedule.checks_due(now) {
        bench.append(note.build());
    }
    bench.commit();
    bench.read();
    bench.schedule.checks_to_send(now, bench.high_watermark)
}

fn sent(bench: &mut Bench, check: &Check) -> bool {
    let note = bench.schedule.check_sent(bench.now, check.ticket, check.attempt);
    let is_some = note.is_some();
    if let Some(note) = note {
        bench.append(note.build());
    }
    bench.schedule.next_deadline(bench.now);
    is_some
}

#[test]
fn a_half_message_comes_with_its_commit_once_and_never_before() {
    let mut bench = Bench::new();
    let ticket = bench.produce(&[half("a").id("o")]).expect("it is taken");
    bench.pass(1_000_000);
    assert!(bench.fire().is_empty());
    bench.restart();
    assert!(bench.fire().is_empty());
    bench.produce(&[by_id("o", Command::Commit)]).expect("it is undecided");
    bench.produce(&[by_id("o", Command::Commit)]).expect("the same verdict");
    assert_eq!(bench.alter(ticket, Command::Commit), Ok(false));
    bench.restart();
    assert_eq!(bench.alter(ticket, Command::Commit), Ok(false));
    assert_eq!(bench.fired_values(), ["a"]);
    bench.restart();
    bench.produce(&[by_id("o", Command::Commit)]).expect("the same verdict");
    assert_eq!(bench.alter(ticket, Command::Commit), Ok(false));
    assert!(bench.fire().is_empty());
    assert_eq!(bench.schedule.stats().half, 0);
}

#[test]
fn a_half_message_that_was_rolled_back_never_comes() {
    let mut bench = Bench::new();
    let ticket = bench.produce(&[half("a").id("o")]).expect("it is taken");
    bench.produce(&[by_id("o", Command::Rollback)]).expect("it is undecided");
    bench.produce(&[by_id("o", Command::Rollback)]).expect("the same verdict");
    assert_eq!(bench.ended(ticket), Some((Outcome::RolledBack, -1)));
    assert_eq!(bench.produce(&[by_id("o", Command::Commit)]), Err((LATER, 0)));
    bench.commit();
    assert_eq!(bench.produce(&[by_id("o", Command::Commit)]), Err((IMPOSSIBLE, 0)));
    bench.pass(100_000);
    assert!(bench.fire().is_empty());
    assert_eq!(bench.schedule.next_deadline(bench.now), None, "nobody is asked");
}

#[test]
fn the_first_verdict_is_final_and_the_other_is_refused_once_it_is_committed() {
    let mut bench = Bench::new();
    let ticket = bench.produce(&[half("a").id("o")]).expect("it is taken");
    bench.produce(&[by_id("o", Command::Commit)]).expect("it is undecided");
    assert_eq!(bench.alter(ticket, Command::Rollback), Err(LATER), "nobody knows yet");
    bench.commit();
    assert_eq!(bench.alter(ticket, Command::Rollback), Err(IMPOSSIBLE));
    bench.fire();
    assert_eq!(bench.alter(ticket, Command::Rollback), Err(LATER));
    bench.commit();
    assert_eq!(bench.alter(ticket, Command::Rollback), Err(IMPOSSIBLE));
}

#[test]
fn a_half_message_with_a_due_time_comes_at_it_and_at_once_where_it_is_past() {
    let mut half_at = at("a", START + 100);
    if let Action::Wait(wish) = &mut half_at.wish.action {
        wish.half = Some("orders".into());
    }
    for verdict_after in [10, 200] {
        let mut bench = Bench::new();
        let ticket = bench.produce(std::slice::from_ref(&half_at)).expect("it is taken");
        bench.pass(verdict_after);
        assert_eq!(bench.alter(ticket, Command::Commit), Ok(true));
        assert_eq!(bench.fired_values().len(), usize::from(verdict_after > 100));
        bench.pass(100);
        assert_eq!(bench.fired_values().len(), usize::from(verdict_after < 100));
    }
}

#[test]
fn a_committed_half_message_that_waits_for_its_time_can_be_cancelled_and_stays_committed() {
    let mut bench = Bench::new();
    let mut record = delayed("a", 1_000).id("o");
    if let Action::Wait(wish) = &mut record.wish.action {
        wish.half = Some("orders".into());
    }
    let ticket = bench.produce(&[record]).expect("it is taken");
    assert_eq!(bench.alter(ticket, Command::Commit), Ok(true));
    assert_eq!(bench.alter(ticket, Command::Cancel), Ok(true));
    bench.restart();
    assert_eq!(bench.alter(ticket, Command::Commit), Ok(false));
    assert_eq!(bench.alter(ticket, Command::Cancel), Ok(false));
    bench.commit();
    assert_eq!(bench.alter(ticket, Command::DeliverNow), Err(IMPOSSIBLE));
    bench.pass(2_000);
    assert!(bench.fire().is_empty());
}

#[test]
fn only_a_verdict_moves_a_half_message() {
    let mut bench = Bench::new();
    let ticket = bench.produce(&[half("a").id("o")]).expect("it is taken");
    for command in [Command::Cancel, Command::DeliverNow, Command::Reschedule(When::After(0))] {
        assert_eq!(bench.alter(ticket, command), Err(IMPOSSIBLE));
    }
    assert_eq!(bench.alter(ticket, Command::CancelIfPending), Ok(false));
    assert_eq!(bench.status(ticket), Some(EntryStatus::Half { checks: 0 }));
}

#[test]
fn the_same_id_replaces_an_undecided_half_message_and_is_a_duplicate_of_a_decided_one() {
    let mut bench = Bench::new();
    let first = bench.produce(&[half("a").id("o")]).expect("it is taken");
    let second = bench.produce(&[half("b").id("o")]).expect("it is taken");
    assert_eq!(bench.ended(first), Some((Outcome::Replaced, second.0)));
    bench.produce(&[by_id("o", Command::Commit)]).expect("it is undecided");
    let third = bench.produce(&[half("c").id("o")]).expect("a duplicate is stored nowhere");
    assert_eq!(bench.status(third), None);
    assert_eq!(bench.fired_values(), ["b"]);
    let fourth = bench.produce(&[half("d").id("o")]).expect("a duplicate is stored nowhere");
    assert_eq!(bench.status(fourth), None);
    bench.restart();
    bench.produce(&[half("e").id("p")]).expect("it is taken");
    bench.produce(&[by_id("p", Command::Rollback)]).expect("it is undecided");
    let last = bench.produce(&[half("f").id("p")]).expect("a duplicate is stored nowhere");
    assert_eq!(bench.status(last), None);
    bench.produce(&[delayed("g", 0).id("o")]).expect("another kind may have the name again");
    assert_eq!(bench.fired_values(), ["g"]);
}

#[test]
fn a_half_message_is_asked_for_after_its_time_then_at_intervals_and_parked_after_the_last() {
    let mut bench = Bench::with(|settings| settings.check_max = 2);
    let ticket = bench.produce(&[half("a").id("o")]).expect("it is taken");
    let mut seen = Vec::new();
    ask(&mut bench);
    for second in 1..=200 {
        bench.pass(1_000);
        for check in ask(&mut bench) {
            assert_eq!((check.ticket, check.max), (ticket, 2));
            assert_eq!(check.group.to_string(), "orders");
            assert_eq!(check.id.as_deref(), Some(&b"o"[..]));
            assert_eq!(check.entry.value.as_deref(), Some(&b"a"[..]));
            seen.push((second, check.attempt, check.is_parked));
            assert!(sent(&mut bench, &check));
        }
    }
    assert_eq!(seen, [(10, 1, false), (40, 2, false), (70, 3, true)]);
    assert_eq!(bench.status(ticket), Some(EntryStatus::Parked));
    assert_eq!((bench.schedule.stats().half, bench.schedule.stats().parked), (1, 1));
    bench.restart();
    assert_eq!(bench.schedule.next_deadline(bench.now), None);
    assert_eq!(bench.alter(ticket, Command::Commit), Ok(true), "a late verdict is honoured");
    assert_eq!(bench.fired_values(), ["a"]);
}

#[test]
fn a_producer_can_choose_when_it_is_asked_first() {
    let mut bench = Bench::new();
    let mut record = half("a");
    if let Action::Wait(wish) = &mut record.wish.action {
        wish.check_after_ms = 500;
    }
    bench.produce(&[record]).expect("it is taken");
    assert!(ask(&mut bench).is_empty());
    bench.pass(499);
    assert!(ask(&mut bench).is_empty());
    bench.pass(1);
    assert_eq!(ask(&mut bench).len(), 1);
}

#[test]
fn a_question_goes_out_only_when_its_intent_is_committed_and_counts_only_when_it_was_sent() {
    let mut bench = Bench::new();
    let ticket = bench.produce(&[half("a")]).expect("it is taken");
    let now = bench.now;
    bench.schedule.next_deadline(now);
    bench.pass(10_000);
    let note = bench.schedule.checks_due(bench.now).expect("it is time");
    let at = bench.append(note.build());
    bench.read();
    assert!(bench.schedule.checks_to_send(bench.now, at).is_empty(), "it is not committed");
    let checks = bench.schedule.checks_to_send(bench.now, at.plus(1));
    assert_eq!(checks.len(), 1);
    assert!(bench.schedule.checks_to_send(bench.now, at.plus(1)).is_empty(), "it is given once");

    bench.schedule.check_failed(bench.now, ticket);
    assert!(ask(&mut bench).is_empty(), "it waits a little");
    bench.pass(1_000);
    let again = ask(&mut bench);
    assert_eq!(again[0].attempt, 1, "what failed does not count");
    assert_eq!(bench.status(ticket), Some(EntryStatus::Half { checks: 0 }));
    assert!(sent(&mut bench, &again[0]));
    assert!(!sent(&mut bench, &again[0]), "it counts once");
    assert_eq!(bench.status(ticket), Some(EntryStatus::Half { checks: 1 }));
}

#[test]
fn a_question_without_an_answer_of_the_check_topic_is_put_again_under_the_same_identity() {
    let mut bench = Bench::new();
    bench.produce(&[half("a")]).expect("it is taken");
    ask(&mut bench);
    bench.pass(10_000);
    assert_eq!(ask(&mut bench)[0].attempt, 1);
    bench.pass(9_999);
    assert!(ask(&mut bench).is_empty());
    bench.pass(1);
    assert_eq!(ask(&mut bench)[0].attempt, 1);
    bench.restart();
    bench.schedule.next_deadline(bench.now);
    bench.pass(9_999);
    assert!(ask(&mut bench).is_empty(), "a new leader gives the whole time");
    bench.pass(1);
    assert_eq!(ask(&mut bench)[0].attempt, 1);
}

#[test]
fn a_verdict_ends_the_asking() {
    let mut bench = Bench::new();
    let ticket = bench.produce(&[half("a")]).expect("it is taken");
    ask(&mut bench);
    bench.pass(10_000);
    let check = ask(&mut bench).remove(0);
    assert_eq!(bench.alter(ticket, Command::Commit), Ok(true));
    assert!(!sent(&mut bench, &check));
    assert_eq!(bench.fired_values(), ["a"]);
    bench.pass(1_000_000);
    assert!(ask(&mut bench).is_empty());
    assert_eq!(bench.schedule.next_deadline(bench.now), None);
}

#[test]
fn half_messages_of_a_transaction_are_there_from_its_commit_on() {
    let mut bench = Bench::new();
    let ticket = bench.produce_by(Some(7), &[half("a").id("o")]).expect("it is taken");
    ask(&mut bench);
    bench.pass(1_000_000);
    assert!(ask(&mut bench).is_empty());
    assert_eq!(bench.alter(ticket, Command::Commit), Err(LATER));
    bench.marker(7, true);
    ask(&mut bench);
    bench.pass(9_999);
    assert!(ask(&mut bench).is_empty());
    bench.pass(1);
    assert_eq!(ask(&mut bench).len(), 1);
}

#[test]
fn a_verdict_in_a_transaction_takes_effect_with_it() {
    for committed in [true, false] {
        let mut bench = Bench::new();
        let ticket = bench.produce(&[half("a").id("o")]).expect("it is taken");
        bench.produce_by(Some(7), &[by_id("o", Command::Commit)]).expect("it is undecided");
        bench.produce_by(Some(7), &[by_id("o", Command::Commit)]).expect("the same verdict");
        assert_eq!(
            bench.produce_by(Some(7), &[by_id("o", Command::Rollback)]),
            Err((IMPOSSIBLE, 0))
        );
        assert_eq!(bench.alter(ticket, Command::Commit), Err(LATER));
        ask(&mut bench);
        bench.pass(1_000_000);
        assert!(ask(&mut bench).is_empty(), "the verdict is on its way");
        assert!(bench.fire().is_empty());
        bench.restart();
        bench.marker(7, committed);
        bench.restart();
        assert_eq!(bench.fired_values().len(), usize::from(committed));
        ask(&mut bench);
        bench.pass(10_000);
        assert_eq!(ask(&mut bench).len(), usize::from(!committed));
    }
}

#[test]
fn a_parked_half_message_is_rolled_back_when_it_is_kept_no_longer() {
    let mut bench = Bench::with(|settings| {
        settings.check_max = 0;
        settings.parked_retention_ms = 5_000;
    });
    let ticket = bench.produce(&[half("a")]).expect("it is taken");
    ask(&mut bench);
    bench.pass(10_000);
    let check = ask(&mut bench).remove(0);
    assert!(check.is_parked);
    assert!(sent(&mut bench, &check));
    ask(&mut bench);
    bench.pass(4_999);
    ask(&mut bench);
    assert_eq!(bench.status(ticket), Some(EntryStatus::Parked));
    bench.pass(1);
    ask(&mut bench);
    assert_eq!(bench.ended(ticket), Some((Outcome::RolledBack, -1)));
}
