//! Writing again what still counts, and logs that begin later.

use super::*;

/// Writes again all that counts below, until the log may begin there.
fn copy(bench: &mut Bench, below: Offset) {
    for _ in 0..1_000 {
        bench.read();
        let Some(note) = bench.schedule.copies(bench.now, below, 500) else { break };
        bench.append(note.build());
    }
}

#[test]
fn the_floor_is_the_first_note_that_counts() {
    let mut bench = Bench::with(|settings| settings.decided_retention_ms = 0);
    assert_eq!(bench.schedule.floor(), None);
    bench.produce(&[plain("x")]).expect("it is stored");
    bench.produce(&[delayed("a", 10)]).expect("it is taken");
    bench.produce(&[delayed("b", 20)]).expect("it is taken");
    assert_eq!(bench.schedule.floor(), Some(Offset(1)));
    bench.pass(10);
    bench.fire();
    assert_eq!(bench.schedule.floor(), Some(Offset(3)));
    bench.pass(10);
    bench.fire();
    assert_eq!(bench.schedule.floor(), None);
}

#[test]
fn what_was_written_again_is_what_it_was_also_for_a_leader_that_reads_no_more() {
    let mut bench = Bench::with(|settings| settings.check_max = 1);
    let base = bench
        .produce(&[
            delayed("a", 100_000).id("a").dedup(1),
            cron("b", "@grid 60000").id("b"),
            half("c").id("c"),
            half("d").id("d"),
            delayed("e", 0).id("e"),
            delayed("f", 9_000).id("f"),
            half("g").id("g"),
            delayed("h", 5_000).dedup(2),
        ])
        .expect("it is taken");
    assert_eq!(bench.alter(base, Command::Reschedule(When::After(90_000))), Ok(true));
    let committed_later = {
        let mut record = delayed("i", 70_000).id("i");
        if let Action::Wait(wish) = &mut record.wish.action {
            wish.half = Some("orders".into());
        }
        bench.produce(&[record]).expect("it is taken")
    };
    assert_eq!(bench.alter(committed_later, Command::Commit), Ok(true));
    assert_eq!(bench.alter(base.plus(2), Command::Rollback), Ok(true));
    assert_eq!(bench.alter(base.plus(5), Command::Cancel), Ok(true));
    bench.schedule.next_deadline(bench.now);
    bench.pass(20_000);
    assert_eq!(bench.fired_values(), ["e", "h"]);
    while let Some(note) = bench.schedule.checks_due(bench.now) {
        bench.append(note.build());
    }
    let note = bench.schedule.check_sent(bench.now, base.plus(3), 1).expect("it was asked");
    bench.append(note.build());
    bench.produce(&[half("g2").id("g")]).expect("it is taken");
    let views = |bench: &Bench| -> Vec<(Option<EntryStatus>, i64)> {
        let all = (0..bench.end().0).map(|at| CommandTarget::Ticket(Offset(at)));
        let found = all.map(|target| bench.schedule.find(&target));
        found.map(|it| (it.as_ref().map(|it| it.status), it.map_or(0, |it| it.due_ms))).collect()
    };
    let (before, end) = (views(&bench), bench.end());

    copy(&mut bench, end);

    assert!(bench.schedule.floor().expect("much is left") >= end);
    assert_eq!(views(&bench)[..before.len()], before);
    bench.restart();
    bench.trim();
    bench.restart();
    assert_eq!(views(&bench)[..before.len()], before);
    assert!(bench.log[0].base_offset() >= end);

    // It all goes on as if nothing had happened.
    bench.commit();
    assert_eq!(bench.alter(base.plus(2), Command::Commit), Err(IMPOSSIBLE));
    assert_eq!(bench.alter(committed_later, Command::Commit), Ok(false));
    assert_eq!(bench.alter(committed_later, Command::Rollback), Err(IMPOSSIBLE));
    assert_eq!(bench.produce(&[by_id("e", Command::Cancel)]), Err((IMPOSSIBLE, 0)));
    bench.produce(&[by_id("f", Command::Cancel)]).expect("it never comes");
    bench.produce(&[half("d").id("c")]).expect("a duplicate is stored nowhere");
    bench.produce(&[delayed("x", 0).dedup(1)]).expect("a duplicate is stored nowhere");
    bench.pass(90_000);
    let fired = bench.fire();
    let values: Vec<String> = fired.iter().map(|it| text(it.value.as_ref())).collect();
    assert_eq!(values, ["b", "i", "a"]);
    assert_eq!(fired[2].header("mainspring-sent-at"), (START - 7).to_string());
    assert_eq!(fired[2].header("mainspring-ticket"), base.to_string());
}

#[test]
fn ages_survive_being_written_again() {
    let mut bench = Bench::with(|settings| {
        settings.dedup_window_ms = 1_000;
        settings.decided_retention_ms = 1_000;
    });
    let ticket = bench.produce(&[delayed("a", 0).dedup(1)]).expect("it is taken");
    bench.fire();
    bench.pass(600);
    let end = bench.end();
    copy(&mut bench, end);
    bench.trim();
    bench.restart();
    assert!(bench.ended(ticket).is_some());
    bench.produce(&[delayed("b", 60_000)]).expect("it is taken");
    bench.pass(399);
    bench.produce(&[delayed("b", 60_000).dedup(1)]).expect("a duplicate");
    assert!(bench.ended(ticket).is_some());
    bench.pass(1);
    bench.produce(&[delayed("b", 60_000).dedup(1)]).expect("it is taken");
    assert!(bench.ended(ticket).is_none());
    assert_eq!(bench.schedule.stats().pending, 2, "one of the three was a duplicate");
}

#[test]
fn records_that_are_not_at_hand_are_asked_for_first() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 1 << 30)]).expect("it is taken");
    let end = bench.end();
    assert!(bench.schedule.wanted(bench.now).is_empty());
    assert_eq!(bench.schedule.copies(bench.now, end, 500), None);
    assert_eq!(bench.schedule.wanted(bench.now), [Offset(0)]);
    bench.read();
    let note = bench.schedule.copies(bench.now, end, 500).expect("it is at hand");
    bench.append(note.build());
    assert_eq!(bench.schedule.floor(), Some(end));
    assert!(bench.schedule.wanted(bench.now).is_empty());
}

#[test]
fn a_name_leads_to_the_last_that_had_it_in_whatever_order_ends_are_written_again() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 0).id("n")]).expect("it is taken");
    bench.fire();
    let first_end = bench.end();
    let ticket = bench.produce(&[half("b").id("n")]).expect("it is taken");
    assert_eq!(bench.alter(ticket, Command::Commit), Ok(true));
    bench.fire();
    bench.commit();
    for below in [first_end, bench.end()] {
        copy(&mut bench, below);
        bench.trim();
        bench.restart();
        bench.produce(&[by_id("n", Command::Commit)]).expect("the same verdict");
    }
}

#[test]
fn records_that_have_no_room_among_those_that_come_soon_are_written_again_too() {
    let mut bench = Bench::with(|settings| settings.prefetch_max_bytes = 300);
    bench.produce(&[delayed(&"x".repeat(135), 1_000)]).expect("it is taken");
    let (small, large) = (delayed("s", 1_900), delayed(&"l".repeat(85), 1_800));
    bench.produce(&[small, large]).expect("it is taken");
    let end = bench.end();
    copy(&mut bench, end);
    copy(&mut bench, end);
    assert!(bench.schedule.floor().expect("they wait") >= end);
}
