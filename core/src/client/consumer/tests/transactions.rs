//! A consumer whose offsets are stored in the transactions of a producer.

use super::*;

/// A world whose consumer was told records of partition 0 last.
fn reading(change: impl FnOnce(&mut ConsumerConfig)) -> World {
    let mut world = World::new(&[2, 2], change);
    world.subscribe();
    while !matches!(world.poll(), Some(ConsumerEvent::Records { .. })) {}
    world
}

#[test]
fn whoever_stores_in_transactions_stores_nothing_else() {
    let mut world = reading(|_| {});
    let member = world.consumer.transaction_member(&orders([0])).expect("it is held");
    assert_eq!(member.generation_id, world.generation_id);

    world.read();
    world.pass(Duration::from_mins(1));
    world.consumer.close(world.broker.now);
    world.settle();

    assert_eq!(world.stored, BTreeMap::new());
}

#[test]
fn what_was_lost_is_not_stored_even_if_it_has_come_back() {
    let mut world = reading(|_| {});
    world.heartbeat = ErrorCode::UnknownMemberId;
    world.pass(Duration::from_secs(4));
    assert_eq!(world.consumer.assignment(), orders([0, 1]), "it has come back");

    let refused = world.consumer.transaction_member(&orders([0]));
    assert_eq!(refused, Err(ClientError::Broker(ErrorCode::RebalanceInProgress)));

    while !matches!(world.poll(), Some(ConsumerEvent::Records { .. })) {}
    assert!(world.consumer.transaction_member(&orders([0])).is_ok(), "it is read anew");
    let other = world.consumer.transaction_member(&[place("bills", 0)]);
    assert_eq!(other, Err(ClientError::Broker(ErrorCode::RebalanceInProgress)));
}

#[test]
fn a_seek_in_what_was_lost_moves_nothing_in_what_has_come_back() {
    let mut world = reading(|_| {});
    world.heartbeat = ErrorCode::UnknownMemberId;
    world.pass(Duration::from_secs(4));
    assert_eq!(world.consumer.assignment(), orders([0, 1]), "it has come back");
    // Another member has read on meanwhile.
    world.stored.insert(0, 2);

    let now = world.broker.now;
    assert!(!world.consumer.seek(now, &place("orders", 0), Start::Offset(Offset(0))));
    world.consumer.store(&place("orders", 0), Offset(0));

    while world.poll() != Some(ConsumerEvent::Lost(orders([0, 1]))) {}
    assert!(world.consumer.seek(now, &place("orders", 0), Start::Offset(Offset(1))));
}

#[test]
fn what_is_being_taken_away_can_be_stored_until_the_next_question() {
    let mut world = reading(|_| {});
    world.withheld.insert(1);
    world.heartbeat = ErrorCode::RebalanceInProgress;
    world.pass(Duration::from_secs(4));
    assert!(world.consumer.transaction_member(&orders([1])).is_ok());
    while world.poll() != Some(ConsumerEvent::Revoked(orders([1]))) {}
    assert!(world.consumer.transaction_member(&orders([1])).is_ok());
    world.poll();
    assert!(world.consumer.transaction_member(&orders([1])).is_err());
}

#[test]
fn a_consumer_that_rewinds_reads_again_what_is_not_stored() {
    let mut world = World::new(&[3, 2], |_| {});
    world.stored.insert(0, 1);
    world.subscribe();
    assert_eq!(world.read(), [(0, vec![1, 2]), (1, vec![0, 1])]);
    world.consumer.pause(&orders([1]));

    world.consumer.rewind(world.broker.now).expect("there is a group");
    world.settle();

    assert_eq!(world.read(), [(0, vec![1, 2])], "what is paused stays so");
    world.consumer.resume(world.broker.now, &orders([1]));
    world.settle();
    assert_eq!(world.read(), [(1, vec![0, 1])]);

    let mut alone = World::new(&[1], |config| config.group = None);
    assert!(alone.consumer.rewind(alone.broker.now).is_err());
    assert!(alone.consumer.transaction_member(&orders([])).is_err());
}
