//! Work that is bounded at a time, and records that cannot be read.

use super::*;

/// Produces a batch whose first record comes soon and whose note is large by the others.
fn large(bench: &mut Bench, value: &str, ms: i64) -> Offset {
    let others = (0..30).map(|_| delayed(&"x".repeat(100_000), 100_000_000));
    let records: Vec<Rec> = std::iter::once(delayed(value, ms)).chain(others).collect();
    bench.produce(&records).expect("it is taken");
    bench.log[bench.log.len() - 2].base_offset()
}

#[test]
fn notes_are_asked_for_by_what_it_takes_to_read_them() {
    let mut bench = Bench::new();
    for due in 0..8 {
        large(&mut bench, &due.to_string(), 10_000 + due);
    }
    bench.pass(9_000);
    assert_eq!(bench.schedule.wanted(bench.now).len(), 2, "of three million bytes each");
    bench.pass(2_000);
    assert_eq!(bench.fired_values().len(), 8);
}

#[test]
fn what_cannot_be_read_is_late_and_soon_nothing_else_for_its_sake() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("bad", 10_000)]).expect("it is taken");
    bench.produce(&[delayed("good", 10_001)]).expect("it is taken");
    bench.pass(10_001);
    let bad = Offset(0);
    for _ in 0..3 {
        assert!(bench.schedule.wanted(bench.now).contains(&bad));
        let good = bench.notes[&Offset(2)].clone();
        bench.schedule.take_records(bench.now, &good).expect("its own note");
        assert!(bench.schedule.fire(bench.now).is_none(), "it may only be a moment");
        bench.schedule.not_read(bench.now, bad);
        assert!(!bench.schedule.wanted(bench.now).contains(&bad), "not at once");
        let again = bench.schedule.next_deadline(bench.now).expect("it is tried again");
        if again > bench.now.mono && bench.schedule.fire(bench.now).is_none() {
            bench.pass(again.since(bench.now.mono).as_millis() as i64);
        }
    }
    assert_eq!(bench.fired_values(), ["good"]);
    let ticket = bench.schedule.list(None, 9)[0].ticket;
    assert_eq!(bench.schedule.list_due(None, i64::MAX, 9)[0].ticket, ticket, "it is listed");
    bench.pass(10_000);
    assert_eq!(bench.schedule.wanted(bench.now), [bad]);
    assert_eq!(bench.fired_values(), ["bad"], "when it can be read it comes");
    assert_eq!(bench.schedule.next_deadline(bench.now), None);
}

#[test]
fn one_that_cannot_be_read_and_is_cancelled_is_tried_no_more() {
    let mut bench = Bench::new();
    let ticket = bench.produce(&[delayed("bad", 10_000)]).expect("it is taken");
    bench.pass(10_000);
    for _ in 0..3 {
        bench.schedule.not_read(bench.now, Offset(0));
    }
    assert_eq!(bench.alter(ticket, Command::Cancel), Ok(true));
    bench.pass(20_000);
    assert!(bench.schedule.wanted(bench.now).is_empty());
    assert!(bench.fire().is_empty());
    assert_eq!(bench.schedule.next_deadline(bench.now), None);
    assert!(!bench.schedule.unread.knows(Offset(0)));
}

#[test]
fn times_of_one_schedule_are_worked_out_once_and_those_of_many_not_all_at_once() {
    let mut bench = Bench::new();
    let worked_out = || TIMES.with(|times| times.replace(0));
    let same: Vec<Rec> = (0..400).map(|_| cron("same", "@grid 60000")).collect();
    bench.produce(&same).expect("it is taken");
    assert_eq!(worked_out(), 1);
    bench.pass(60_000);
    assert_eq!(bench.fire().len(), 400);
    assert!(worked_out() <= 2);
    let many: Vec<Rec> =
        (0..400).map(|at| cron("other", &format!("@every {}", 90_000 + at))).collect();
    bench.produce(&many).expect("it is taken");
    worked_out();
    bench.pass(100_000);
    bench.read();
    let mut came = 0;
    while let Some((note, batch)) = bench.schedule.fire(bench.now) {
        assert!(worked_out() <= 102);
        came += batch.records_count();
        bench.append(note.build());
        bench.append(batch);
        bench.read();
    }
    assert_eq!(came, 800);
    let all: Vec<Rec> = (0..501).map(|at| cron("x", &format!("@every {}", 1_000 + at))).collect();
    assert_eq!(bench.produce(&all), Err((FULL, 500)));
}

#[test]
fn many_questions_are_put_some_at_a_time() {
    let mut bench = Bench::new();
    let records: Vec<Rec> = (0..5_000).map(|_| half("a")).collect();
    bench.produce(&records).expect("it is taken");
    bench.schedule.next_deadline(bench.now);
    bench.pass(10_000);
    let (mut asked, mut rounds) = (0, 0);
    let mut sent = Vec::new();
    while asked < 5_000 {
        rounds += 1;
        assert!(rounds < 1_000, "{asked} were asked");
        while let Some(note) = bench.schedule.checks_due(bench.now) {
            bench.append(note.build());
        }
        assert!(bench.schedule.state.checks.ready.len() <= 1_100);
        bench.commit();
        bench.read();
        let checks = bench.schedule.checks_to_send(bench.now, bench.high_watermark);
        assert!(checks.len() <= 100);
        asked += checks.len();
        let is_stuck = checks.is_empty();
        sent.extend(checks);
        assert!(sent.len() <= 1_000, "so many are out at a time");
        if is_stuck {
            for check in sent.drain(..) {
                let note = bench.schedule.check_sent(bench.now, check.ticket, check.attempt);
                bench.append(note.expect("no verdict has come").build());
            }
        }
    }
    assert_eq!(asked, 5_000);
}

#[test]
fn questions_that_are_lost_make_room_for_others() {
    let mut bench = Bench::new();
    let records: Vec<Rec> = (0..3_000).map(|_| half("a")).collect();
    bench.produce(&records).expect("it is taken");
    bench.schedule.next_deadline(bench.now);
    bench.pass(10_000);
    let mut asked = std::collections::BTreeSet::new();
    for _ in 0..400 {
        while let Some(note) = bench.schedule.checks_due(bench.now) {
            bench.append(note.build());
        }
        bench.commit();
        bench.read();
        let checks = bench.schedule.checks_to_send(bench.now, bench.high_watermark);
        asked.extend(checks.iter().map(|check| check.ticket));
        bench.pass(200);
    }
    assert_eq!(asked.len(), 3_000);
}

#[test]
fn half_messages_are_armed_some_at_a_time_and_listed_without_a_look_at_the_others() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        let records: Vec<Rec> = (0..5_000).map(|_| half("a")).collect();
        bench.produce(&records).expect("it is taken");
    }
    let first = bench.schedule.next_deadline(bench.now).expect("it goes on");
    assert_eq!(first.since(bench.now.mono), Duration::from_millis(1));
    bench.pass(1);
    let next = bench.schedule.next_deadline(bench.now).expect("they are asked");
    assert_eq!(next.since(bench.now.mono), Duration::from_millis(9_999));
    let committed = bench.schedule.list(None, 1)[0].ticket;
    assert_eq!(bench.alter(committed, Command::Commit), Ok(true));
    let listed = bench.schedule.list_half(None, false, 3);
    let tickets: Vec<Offset> = listed.iter().map(|view| view.ticket).collect();
    assert_eq!(tickets, [committed.plus(1), committed.plus(2), committed.plus(3)]);
    let after = bench.schedule.list_half(Some(tickets[2]), false, 1);
    assert_eq!(after[0].ticket, committed.plus(4));
    assert!(bench.schedule.list_half(None, true, 9).is_empty());
    assert_eq!((bench.schedule.stats().half, bench.schedule.stats().parked), (14_999, 0));
}

#[test]
fn for_one_copy_not_everything_is_looked_at() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        let records: Vec<Rec> = (0..5_000).map(|_| delayed("a", 100_000)).collect();
        bench.produce(&records).expect("it is taken");
    }
    let end = bench.end();
    assert!(bench.schedule.to_copy(end).count() <= 5_000);
    assert!(bench.schedule.copies(bench.now, end, 1 << 20).is_none(), "they are read first");
    for _ in 0..1_000 {
        bench.read();
        let Some(note) = bench.schedule.copies(bench.now, end, 1 << 20) else { break };
        assert!(note.changes.len() <= 5_000);
        bench.append(note.build());
    }
    assert!(bench.schedule.floor().expect("much waits") >= end);
    bench.pass(100_000);
    assert_eq!(bench.fire().len(), 15_000);
}
