//! Commands to what waits, by produced records and by operators.

use super::*;

#[test]
fn a_cancelled_entry_never_comes_and_cancelling_again_succeeds() {
    let mut bench = Bench::new();
    let ticket = bench.produce(&[delayed("a", 10).id("n")]).expect("it is taken");
    bench.produce(&[by_id("n", Command::Cancel)]).expect("it is pending");
    bench.produce(&[by_id("n", Command::Cancel)]).expect("it never comes");
    assert_eq!(bench.alter(ticket, Command::Cancel), Ok(false));
    bench.pass(20);
    assert!(bench.fire().is_empty());
    assert_eq!(bench.ended(ticket), Some((Outcome::Cancelled, -1)));
}

#[test]
fn what_nobody_knows_cannot_be_cancelled_but_if_it_is_pending_it_can() {
    let mut bench = Bench::new();
    assert_eq!(bench.produce(&[by_id("n", Command::Cancel)]), Err((IMPOSSIBLE, 0)));
    assert_eq!(bench.alter(Offset(7), Command::Cancel), Err(IMPOSSIBLE));
    bench.produce(&[by_id("n", Command::CancelIfPending)]).expect("it never fails");
    assert_eq!(bench.alter(Offset(7), Command::CancelIfPending), Ok(false));
    assert!(bench.notes.is_empty());
}

#[test]
fn too_late_is_said_only_when_the_delivery_is_committed() {
    let mut bench = Bench::new();
    let ticket = bench.produce(&[delayed("a", 10).id("n")]).expect("it is taken");
    bench.commit();
    bench.pass(10);
    let offset = bench.fire()[0].offset;
    for command in [Command::Cancel, Command::DeliverNow, Command::Reschedule(When::After(9))] {
        assert_eq!(bench.produce(&[plain("x"), by_id("n", command)]), Err((LATER, 1)));
        assert_eq!(bench.alter(ticket, command), Err(LATER));
    }
    bench.produce(&[by_id("n", Command::CancelIfPending)]).expect("it never fails");
    // The record itself must be below, not only what is before it.
    bench.high_watermark = Offset(offset);
    assert_eq!(bench.alter(ticket, Command::Cancel), Err(LATER));
    bench.high_watermark = Offset(offset + 1);
    let target = CommandTarget::Ticket(ticket);
    let refusal = bench.schedule.alter(bench.now, bench.high_watermark, &target, Command::Cancel);
    let refusal = refusal.expect_err("it was delivered");
    assert_eq!(refusal.error, IMPOSSIBLE);
    assert!(refusal.message.contains(&format!("offset {offset}")), "{refusal}");
    assert_eq!(bench.produce(&[by_id("n", Command::Cancel)]), Err((IMPOSSIBLE, 0)));
    bench.produce(&[by_id("n", Command::CancelIfPending)]).expect("it never fails");
}

#[test]
fn an_entry_comes_at_the_time_it_was_put_to() {
    let mut bench = Bench::new();
    let ticket = bench.produce(&[delayed("a", 10).id("n"), delayed("b", 10)]).expect("it is taken");
    bench.produce(&[by_id("n", Command::Reschedule(When::After(30)))]).expect("it is pending");
    bench.pass(29);
    assert_eq!(bench.fired_values(), ["b"]);
    assert_eq!(bench.alter(ticket, Command::Reschedule(When::At(START + 35))), Ok(true));
    bench.pass(5);
    assert!(bench.fire().is_empty());
    bench.pass(1);
    assert_eq!(bench.fire()[0].header("mainspring-scheduled-for"), (START + 35).to_string());
}

#[test]
fn a_reschedule_obeys_the_horizon() {
    let mut bench = Bench::with(|settings| settings.horizon_max_ms = 1_000);
    let ticket = bench.produce(&[delayed("a", 10)]).expect("it is taken");
    assert_eq!(bench.alter(ticket, Command::Reschedule(When::After(1_001))), Err(FULL));
}

#[test]
fn an_entry_can_be_delivered_now() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 1 << 40).id("n")]).expect("it is taken");
    bench.restart();
    bench.produce(&[by_id("n", Command::DeliverNow)]).expect("it is pending");
    assert_eq!(bench.fired_values(), ["a"]);
}

#[test]
fn what_is_overdue_keeps_its_turn_when_it_is_to_come_now() {
    let mut bench = Bench::new();
    let base = bench.produce(&[delayed("a", 1), delayed("b", 2)]).expect("it is taken");
    bench.pass(5);
    assert_eq!(bench.alter(base, Command::DeliverNow), Ok(true));
    assert_eq!(bench.fired_values(), ["a", "b"]);
}

#[test]
fn a_batch_with_a_command_that_cannot_be_honoured_changes_nothing() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 10).id("n")]).expect("it is taken");
    let (digest, end) = (bench.schedule.replicated_digest(), bench.end());
    let batch = [by_id("n", Command::Cancel), delayed("b", 10), by_id("m", Command::Cancel)];
    assert_eq!(bench.produce(&batch), Err((IMPOSSIBLE, 2)));
    assert_eq!((bench.schedule.replicated_digest(), bench.end()), (digest, end));
    bench.pass(10);
    assert_eq!(bench.fired_values(), ["a"]);
}

#[test]
fn commands_of_one_batch_see_those_before_them() {
    let mut bench = Bench::new();
    let batch = [
        delayed("a", 10).id("n"),
        by_id("n", Command::Reschedule(When::After(20))),
        delayed("b", 10).id("m"),
        by_id("m", Command::Cancel),
        by_id("m", Command::Cancel),
    ];
    bench.produce(&batch).expect("each follows from those before");
    bench.pass(19);
    assert!(bench.fire().is_empty());
    bench.pass(1);
    assert_eq!(bench.fired_values(), ["a"]);
    let batch =
        [delayed("c", 10).id("n"), by_id("n", Command::Cancel), by_id("n", Command::DeliverNow)];
    assert_eq!(bench.produce(&batch), Err((IMPOSSIBLE, 2)));
}

#[test]
fn a_record_that_is_no_half_message_takes_no_verdict() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 10).id("n")]).expect("it is taken");
    assert_eq!(bench.produce(&[by_id("n", Command::Commit)]), Err((IMPOSSIBLE, 0)));
    assert_eq!(bench.produce(&[by_id("n", Command::Rollback)]), Err((IMPOSSIBLE, 0)));
}

#[test]
fn how_an_entry_ended_is_remembered_for_its_time_and_up_to_the_greatest_number() {
    let mut bench = Bench::with(|settings| settings.decided_retention_ms = 1_000);
    let ticket = bench.produce(&[delayed("a", 0).id("n")]).expect("it is taken");
    bench.fire();
    bench.commit();
    bench.pass(999);
    bench.produce(&[delayed("b", 0)]).expect("it is taken");
    assert!(bench.ended(ticket).is_some());
    bench.restart();
    bench.pass(1);
    bench.produce(&[delayed("b", 0)]).expect("it is taken");
    assert!(bench.ended(ticket).is_some(), "time between leaders does not count");
    bench.pass(1);
    bench.produce(&[delayed("b", 0)]).expect("it is taken");
    assert_eq!(bench.ended(ticket), None);
    assert_eq!(bench.produce(&[by_id("n", Command::Cancel)]), Err((IMPOSSIBLE, 0)));

    let mut bench = Bench::with(|settings| settings.decided_max_records = 2);
    let batch = [delayed("a", 0), delayed("b", 1), delayed("c", 2)];
    let base = bench.produce(&batch).expect("it is taken");
    bench.pass(2);
    assert_eq!(bench.fire().len(), 3);
    let known = [0, 1, 2].map(|index| bench.ended(base.plus(index)).is_some());
    assert_eq!(known, [false, true, true]);
    bench.restart();
}

#[test]
fn before_the_log_is_read_everything_is_to_be_asked_again() {
    let bench = Bench::new();
    let schedule = Schedule::new(bench.settings.clone(), next_cron);
    let target = CommandTarget::Ticket(Offset(0));
    let refusal = schedule.alter(bench.now, Offset(0), &target, Command::CancelIfPending);
    assert_eq!(refusal.expect_err("it is loading").error, LATER);
}
