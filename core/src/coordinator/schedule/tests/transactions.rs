//! Entries and commands that take effect with the marker of their transaction.

use super::*;

const P: Option<i64> = Some(7);
const Q: Option<i64> = Some(8);

#[test]
fn an_entry_of_a_transaction_comes_after_its_commit_and_never_after_its_abort() {
    for committed in [true, false] {
        let mut bench = Bench::new();
        let ticket = bench.produce_by(P, &[delayed("a", 10).id("n")]).expect("it is taken");
        bench.pass(20);
        assert!(bench.fire().is_empty());
        assert_eq!(bench.status(ticket), Some(EntryStatus::InTransaction));
        bench.restart();
        assert_eq!(bench.alter(ticket, Command::Cancel), Err(LATER));
        assert_eq!(bench.produce(&[by_id("n", Command::Cancel)]), Err((LATER, 0)));
        bench.marker(8, !committed);
        assert!(bench.fire().is_empty(), "that is another one's marker");
        bench.marker(7, committed);
        bench.restart();
        assert_eq!(bench.fired_values(), if committed { vec!["a"] } else { vec![] });
        assert_eq!(bench.status(ticket).is_some(), committed);
        let stats = bench.schedule.stats();
        assert_eq!((stats.pending, stats.pending_bytes), (0, 0));
    }
}

#[test]
fn what_a_transaction_decides_about_is_not_delivered_meanwhile_and_at_once_after_its_abort() {
    let commands = [
        Command::Cancel,
        Command::CancelIfPending,
        Command::Reschedule(When::After(1_000)),
        Command::DeliverNow,
    ];
    for command in commands {
        for committed in [true, false] {
            let mut bench = Bench::new();
            let ticket = bench.produce(&[delayed("a", 10).id("n")]).expect("it is taken");
            bench.produce_by(P, &[by_id("n", command)]).expect("it is pending");
            bench.pass(10);
            assert!(bench.fire().is_empty());
            assert_eq!(bench.status(ticket), Some(EntryStatus::Held));
            bench.restart();
            assert!(bench.fire().is_empty());
            bench.marker(7, committed);
            bench.restart();
            let now = bench.fired_values();
            bench.pass(1_000);
            let later = bench.fired_values();
            let (now_expected, later_expected) = match (committed, command) {
                (true, Command::Cancel | Command::CancelIfPending) => (0, 0),
                (true, Command::Reschedule(_)) => (0, 1),
                (true | false, _) => (1, 0),
            };
            assert_eq!((now.len(), later.len()), (now_expected, later_expected), "{command:?}");
        }
    }
}

#[test]
fn others_are_told_to_try_again_while_a_transaction_decides() {
    let mut bench = Bench::new();
    let ticket = bench.produce(&[delayed("a", 10).id("n")]).expect("it is taken");
    bench.produce_by(P, &[by_id("n", Command::Reschedule(When::After(5)))]).expect("pending");
    for command in [Command::Cancel, Command::CancelIfPending, Command::DeliverNow] {
        assert_eq!(bench.produce(&[by_id("n", command)]), Err((LATER, 0)));
        assert_eq!(bench.produce_by(Q, &[by_ticket(ticket, command)]), Err((LATER, 0)));
        assert_eq!(bench.alter(ticket, command), Err(LATER));
    }
    assert_eq!(bench.produce(&[delayed("b", 10).id("n")]), Err((LATER, 0)));
    bench.produce_by(P, &[by_id("n", Command::Cancel)]).expect("its own");
    bench.marker(7, true);
    bench.produce(&[delayed("b", 10).id("n")]).expect("it has ended");
    bench.pass(10);
    assert_eq!(bench.fired_values(), ["b"]);
}

#[test]
fn a_name_that_a_transaction_takes_replaces_with_its_commit_alone() {
    for committed in [true, false] {
        let mut bench = Bench::new();
        let older = bench.produce(&[delayed("old", 10).id("n")]).expect("it is taken");
        let newer = bench.produce_by(P, &[delayed("new", 20).id("n")]).expect("it is taken");
        bench.pass(20);
        assert!(bench.fire().is_empty(), "neither may come");
        bench.restart();
        bench.marker(7, committed);
        assert_eq!(bench.fired_values(), if committed { ["new"] } else { ["old"] });
        let replaced = Some((Outcome::Replaced, newer.0));
        assert_eq!(bench.ended(older) == replaced, committed);
        bench.restart();
    }
}

#[test]
fn a_transaction_sees_what_it_did_before() {
    let mut bench = Bench::new();
    bench.produce_by(P, &[delayed("a", 10).id("n")]).expect("it is taken");
    bench.produce_by(P, &[delayed("b", 10).id("n")]).expect("it takes the name");
    bench.produce_by(P, &[by_id("n", Command::Reschedule(When::After(50)))]).expect("its own");
    let c = bench.produce_by(P, &[delayed("c", 10), delayed("d", 10)]).expect("it is taken");
    bench.produce_by(P, &[by_ticket(c, Command::Cancel)]).expect("its own");
    bench.produce_by(P, &[by_ticket(c, Command::Cancel)]).expect("as before");
    assert_eq!(bench.produce_by(P, &[by_ticket(c, Command::DeliverNow)]), Err((IMPOSSIBLE, 0)));
    assert_eq!(bench.produce_by(Q, &[by_ticket(c, Command::Cancel)]), Err((LATER, 0)));
    bench.restart();
    bench.marker(7, true);
    bench.restart();
    bench.pass(10);
    assert_eq!(bench.fired_values(), ["d"]);
    bench.pass(40);
    assert_eq!(bench.fired_values(), ["b"]);
}

#[test]
fn a_marker_of_an_earlier_epoch_ends_nothing() {
    let mut bench = Bench::new();
    bench.produce_by(P, &[delayed("a", 0)]).expect("it is taken");
    let marker = TxnMarker {
        producer_id: ProducerId(7),
        producer_epoch: ProducerEpoch(-1),
        coordinator_epoch: 0,
        committed: true,
    };
    bench.append(marker.build(START));
    assert!(bench.fire().is_empty());
    let marker = TxnMarker { producer_epoch: ProducerEpoch(1), ..marker };
    bench.append(marker.build(START));
    assert_eq!(
        bench.fired_values(),
        ["a"],
        "a transaction ends in an epoch of its own or the next"
    );
}

#[test]
fn a_name_that_a_transaction_took_is_its_own_until_it_ends() {
    for committed in [true, false] {
        let mut bench = Bench::new();
        bench.produce_by(P, &[delayed("p", 10).id("n")]).expect("it is taken");
        assert_eq!(bench.produce_by(Q, &[delayed("q", 10).id("n")]), Err((LATER, 0)));
        assert_eq!(bench.produce(&[delayed("q", 10).id("n")]), Err((LATER, 0)));
        assert_eq!(bench.produce(&[by_id("n", Command::CancelIfPending)]), Err((LATER, 0)));
        bench.restart();
        assert_eq!(bench.produce(&[delayed("q", 10).id("n")]), Err((LATER, 0)));
        bench.marker(7, committed);
        bench.produce(&[delayed("q", 20).id("n")]).expect("it is free");
        bench.pass(20);
        assert_eq!(bench.fired_values(), ["q"]);
    }
}

#[test]
fn what_open_transactions_ask_for_is_bounded() {
    let mut bench = Bench::with(|settings| settings.max_pending_records = 3);
    let ticket = bench.produce(&[delayed("a", 10)]).expect("it is taken");
    let command = by_ticket(ticket, Command::Reschedule(When::After(9)));
    for _ in 0..3 {
        bench.produce_by(P, std::slice::from_ref(&command)).expect("there is room");
    }
    assert_eq!(bench.produce_by(P, &[command]), Err((FULL, 0)));
    bench.marker(7, false);
    bench.pass(10);
    assert_eq!(bench.fired_values(), ["a"]);
}

#[test]
fn an_open_transaction_keeps_its_notes_in_the_log() {
    let mut bench = Bench::new();
    let ticket = bench.produce(&[plain("x"), delayed("a", 0)]).expect("it is taken").plus(1);
    let place = bench.end();
    bench.produce_by(P, &[by_ticket(ticket, Command::Cancel)]).expect("it is pending");
    assert_eq!(bench.schedule.floor(), Some(Offset(0)));
    assert_eq!(bench.schedule.copies(bench.now, bench.end(), 1 << 20), None, "it is held");
    bench.marker(7, false);
    bench.produce_by(P, &[by_ticket(ticket, Command::Cancel)]).expect("it is pending");
    bench.marker(7, true);
    assert!(place > Offset(0));
    assert_eq!(bench.schedule.floor(), Some(Offset(0)), "how it ended is remembered");
}

#[test]
fn a_transaction_asks_for_no_more_than_takes_effect_at_once() {
    let mut bench = Bench::new();
    let most: Vec<Rec> = (0..10_000).map(|_| delayed("a", 10)).collect();
    for _ in 0..4 {
        bench.produce_by(P, &most).expect("it has room");
    }
    bench.produce_by(P, &most[..9_998]).expect("it has room");
    let three = &most[..3];
    assert_eq!(bench.produce_by(P, three), Err((FULL, 2)), "the third is one too many");
    bench.produce_by(P, &three[..2]).expect("it is full with that");
    assert_eq!(bench.produce_by(P, &[plain("b"), delayed("c", 10)]), Err((FULL, 1)));
    bench.produce_by(P, &[plain("b")]).expect("it asks for nothing");

    bench.produce_by(Q, three).expect("that is another transaction");
    bench.produce(three).expect("that is none");
}
