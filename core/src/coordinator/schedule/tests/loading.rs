//! What another leader makes of the log, whole or cut.

use super::*;

#[test]
fn what_waits_is_delivered_by_the_next_leader() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 1_000), delayed("b", 500)]).expect("it is taken");
    bench.pass(500);
    assert_eq!(bench.fired_values(), ["b"]);
    bench.restart();
    assert!(bench.fire().is_empty());
    bench.pass(500);
    assert_eq!(bench.fired_values(), ["a"]);
    bench.restart();
    assert!(bench.fire().is_empty());
}

#[test]
fn what_came_due_without_a_leader_comes_once_and_in_order() {
    let mut bench = Bench::new();
    for due in [300, 100, 200] {
        bench.produce(&[delayed(&due.to_string(), due)]).expect("it is taken");
    }
    bench.pass(86_400_000);
    bench.restart();
    assert_eq!(bench.fired_values(), ["100", "200", "300"]);
}

#[test]
fn a_delivery_whose_records_were_lost_comes_again_and_one_whose_records_are_there_does_not() {
    for kept in 0..3_i64 {
        let mut bench = Bench::new();
        bench.produce(&[delayed("a", 10)]).expect("it is taken");
        let end = bench.end();
        bench.pass(10);
        assert_eq!(bench.fired_values(), ["a"]);
        bench.truncate(end.plus(kept));
        let again = bench.fired_values();
        assert_eq!(again, if kept == 2 { vec![] } else { vec!["a"] }, "{kept} batches are left");
    }
}

#[test]
fn a_lost_cancel_is_as_if_it_had_never_been() {
    let mut bench = Bench::new();
    bench.produce(&[delayed("a", 10).id("n")]).expect("it is taken");
    let end = bench.end();
    bench.produce(&[by_id("n", Command::Cancel)]).expect("it is pending");
    bench.pass(10);
    assert!(bench.fire().is_empty());
    bench.truncate(end.plus(1));
    assert_eq!(bench.fired_values(), ["a"]);
}

#[test]
fn a_log_of_anything_never_panics_and_a_note_that_cannot_be_read_is_an_error() {
    let mut bench = Bench::new();
    let ticket = bench.produce(&[delayed("a", 10)]).expect("it is taken");
    let mut damaged = bench.log[0].to_bytes().to_vec();
    let at = damaged.len() - 5;
    damaged.truncate(at);
    let length = (at - 12) as i32;
    damaged[8..12].copy_from_slice(&length.to_be_bytes());
    let damaged = Batch::split_from(&mut Bytes::from(damaged)).expect("framed");
    assert!(bench.schedule.clone().apply(&damaged).is_err());

    use crate::record::hidden::{Alteration, Change, CheckStep, Ticket};
    let note = Note::read(&bench.log[0]).expect("a note");
    let Change::Entry(_, entry) = &note.changes[0] else { panic!("an entry") };
    let none = Offset(99);
    let mut changes = Vec::new();
    for ticket in [ticket, none] {
        changes.push(Change::Fired { ticket, next_due_ms: -1 });
        changes.push(Change::Fired { ticket, next_due_ms: 5 });
        changes.push(Change::Check { ticket, attempt: 1, step: CheckStep::Parked });
        for what in [Alteration::Rollback, Alteration::Commit, Alteration::DeliverNow] {
            changes.push(Change::Alter { ticket, what, due_ms: -1, by: Some(3) });
        }
        changes.push(Change::Entry(Ticket::At(ticket), entry.clone()));
        changes.push(Change::Stored { ticket: Ticket::InLink(0), hash: 4, at_ms: 4 });
        changes.push(Change::Entry(Ticket::InLink(7), entry.clone()));
        let (id, outcome) = (None, Outcome::Committed);
        changes.push(Change::Ended { ticket, id, outcome, offset: none, at_ms: i64::MIN });
    }
    for change in changes {
        let note = Note { at_ms: START, link: None, changes: vec![change] };
        bench.append(note.build());
    }
    bench.pass(10);
    bench.read();
    let _ = bench.schedule.fire(bench.now);
    bench.restart();
}
