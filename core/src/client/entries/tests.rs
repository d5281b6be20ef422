use std::time::Duration;

use super::*;
use crate::client::admin::{Admin, AdminTarget};
use crate::client::test_broker::{TestBroker, network_config};
use crate::error::ErrorCode;
use crate::ids::PartitionIndex;
use crate::wire::api::entry_alter::{AlteredEntry, AlteredEntryTopic};
use crate::wire::api::entry_list::{ListedEntryPartition, ListedEntryTopic};
use crate::wire::{Request, Response};

const ORDERS: KafkaString = KafkaString::from_static("orders");

fn place(index: i32) -> Place {
    (ORDERS, PartitionIndex(index))
}

fn answer(partition: ListedEntryPartition) -> EntryListResponse {
    let topic = ListedEntryTopic { name: ORDERS, partitions: vec![partition] };
    EntryListResponse { topics: vec![topic], ..EntryListResponse::default() }
}

fn settle(admin: &mut Admin, broker: &mut TestBroker) {
    loop {
        while let Some(effect) = admin.poll_effect() {
            broker.take(effect);
        }
        let Some(input) = broker.inputs.pop_front() else { return };
        admin.handle(broker.now, input);
    }
}

#[test]
fn a_list_goes_on_behind_its_last_entry() {
    let entry = ListedEntry { ticket: 7, due_ms: 5, state: 1, ..ListedEntry::default() };
    let partition = ListedEntryPartition {
        count: 9,
        has_more: true,
        entries: vec![entry],
        ..ListedEntryPartition::default()
    };
    let page = listed(&answer(partition.clone()), &place(0)).expect("it is an answer");
    assert_eq!((page.count, page.entries[0].ticket), (9, Offset(7)));
    let places = [place(0), place(1)];
    let wanted = Wanted::Scheduled { until_ms: 80 };
    let asked = list_entries(&[(&places[0], page.next), (&places[1], None)], &wanted, 10);
    let partitions = &asked.topics[0].partitions;
    assert_eq!((asked.topics.len(), asked.which, asked.until_ms, asked.limit), (1, 1, 80, 10));
    assert_eq!((partitions[0].after_due_ms, partitions[0].after_ticket), (5, 7));
    assert_eq!(partitions[1].after_due_ms, i64::MIN);

    let last = ListedEntryPartition { has_more: false, ..partition };
    assert_eq!(listed(&answer(last), &place(0)).expect("it is an answer").next, None);
}

#[test]
fn a_list_that_claims_more_and_shows_nothing_is_at_its_end() {
    let partition = ListedEntryPartition { has_more: true, ..ListedEntryPartition::default() };
    assert_eq!(listed(&answer(partition), &place(0)), Ok(Page::default()));
}

#[test]
fn numbers_that_mean_nothing_are_read_as_such() {
    let entry = ListedEntry {
        ticket: -4,
        due_ms: i64::MIN,
        size: -1,
        state: 77,
        checks: i32::MIN,
        ..ListedEntry::default()
    };
    let partition =
        ListedEntryPartition { count: -9, entries: vec![entry], ..ListedEntryPartition::default() };
    let page = listed(&answer(partition), &place(0)).expect("it is an answer");
    let read = &page.entries[0];
    assert_eq!((read.due_ms, read.size, read.state), (None, 0, EntryState::Other(77)));
    assert_eq!((page.count, read.offset), (0, None));
}

#[test]
fn an_answer_about_another_partition_is_none() {
    let response = answer(ListedEntryPartition::default());
    assert!(matches!(listed(&response, &place(3)), Err(ClientError::Malformed(_))));
    let none = EntryAlterResponse::default();
    assert!(matches!(altered(&none, &place(0)), Err(ClientError::Malformed(_))));
}

#[test]
fn a_refusal_has_the_words_of_the_leader() {
    let refused = AlteredEntry {
        error_code: ErrorCode::InvalidRecord.code(),
        error_message: Some("it was delivered at offset 9".into()),
        ..AlteredEntry::default()
    };
    let topic = AlteredEntryTopic { name: ORDERS, alterations: vec![refused] };
    let response = EntryAlterResponse { topics: vec![topic], ..EntryAlterResponse::default() };
    let error = altered(&response, &place(0)).expect_err("it is a refusal");
    assert_eq!(error.refused_with(), Some(ErrorCode::InvalidRecord));
    assert!(error.to_string().contains("offset 9"), "{error}");
}

#[test]
fn what_is_done_has_its_number_and_its_time() {
    let name = EntryName::Id(Bytes::from_static(b"n"));
    let asked = |alteration| {
        let mut request = alter_entry(&place(2), &name, alteration);
        let asked = request.topics.remove(0).alterations.remove(0);
        (asked.operation, asked.due_ms, asked.delay_ms)
    };
    assert_eq!(asked(Alteration::Cancel), (1, -1, -1));
    assert_eq!(asked(Alteration::RescheduleAt(5)), (2, 5, -1));
    assert_eq!(asked(Alteration::RescheduleAfter(0)), (2, -1, 0));
    assert_eq!(asked(Alteration::DeliverNow), (3, -1, -1));
    assert_eq!(asked(Alteration::Commit), (4, -1, -1));
    assert_eq!(asked(Alteration::Rollback), (5, -1, -1));
}

#[test]
fn entries_are_asked_for_where_the_broker_announces_it_and_nowhere_else() {
    for is_ours in [true, false] {
        let mut broker = TestBroker::new(&[("orders", 1)]);
        broker.is_ours = is_ours;
        let mut admin = Admin::new(network_config(), Duration::from_mins(1));
        let request = list_entries(&[(&place(0), None)], &Wanted::All, 10);
        let target = AdminTarget::Leader(place(0));
        let call = admin.call(broker.now, target, request.clone());
        settle(&mut admin, &mut broker);
        if is_ours {
            let asked = broker.next();
            assert_eq!(asked.body, Request::EntryList(request));
            broker.answer(&asked, EntryListResponse::default());
            settle(&mut admin, &mut broker);
            let expected = Response::from(EntryListResponse::default());
            assert_eq!(admin.poll_answer(), Some((call, Ok(expected))));
        } else {
            assert!(broker.asked.is_empty());
            let (_, answer) = admin.poll_answer().expect("it is refused here");
            assert!(is_of_another_broker(&answer.expect_err("it is refused")));
        }
    }
}

#[test]
fn every_api_of_ours_that_clients_are_served_is_announced_by_the_feature() {
    let own = ApiKey::ALL.iter().filter(|api| api.is_own() && !api.is_for_peers());
    assert_eq!(own.copied().collect::<Vec<_>>(), ApiKey::OWN_FOR_CLIENTS);
    for api in ApiKey::OWN_FOR_CLIENTS {
        assert!(api.serves(0), "level 1 means version 0");
    }
}
