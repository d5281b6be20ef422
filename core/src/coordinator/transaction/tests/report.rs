//! What is told of transactions.

use super::*;

fn list(states: &[&str], producers: &[i64], duration_filter_ms: i64) -> Request {
    Request::ListTransactions(ListTransactions {
        state_filters: states.iter().map(|state| KafkaString::from(*state)).collect(),
        producer_id_filters: producers.iter().copied().map(ProducerId).collect(),
        duration_filter_ms,
        pattern: None,
    })
}

fn listed(response: Response) -> (Vec<KafkaString>, Vec<KafkaString>) {
    let Response::ListTransactions(answer) = response else { panic!("another answer") };
    assert_eq!(answer.error, ErrorCode::None);
    let ids = answer.transactions.into_iter().map(|one| one.transactional_id).collect();
    (ids, answer.unknown_state_filters)
}

#[test]
fn transactional_ids_are_listed_by_state_producer_and_age() {
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");
    let mut other = init(None);
    if let Request::InitProducerId(request) = &mut other {
        request.transactional_id = "u".into();
    }
    bench.call(other);
    assert_eq!(bench.add(ADD, producer, 0), ErrorCode::None);
    bench.pass(Duration::from_secs(10));
    let mut ids = |states: &[&str], producers: &[i64], age: i64| {
        let (ids, unknown) = listed(bench.call(list(states, producers, age)));
        (ids.join(" "), unknown.join(" "))
    };
    let of = |ids: &str, unknown: &str| (ids.to_owned(), unknown.to_owned());

    assert_eq!(ids(&[], &[], -1), of("t u", ""));
    assert_eq!(ids(&["Ongoing"], &[], -1), of("t", ""));
    assert_eq!(ids(&["Empty", "Stable"], &[], -1), of("u", "Stable"));
    assert_eq!(ids(&["Stable", "Dead"], &[], -1), of("", "Stable"));
    assert_eq!(ids(&[], &[1_002, 5], -1), of("u", ""));
    assert_eq!(ids(&["Ongoing"], &[], 9_999), of("t", ""));
    assert_eq!(ids(&["Ongoing"], &[], 10_000), of("", ""));
    assert_eq!(bench.coordinator.states()[..2], [("Empty", 1), ("Ongoing", 1)]);
    for (pattern, found) in [("[a-t]", "t"), (".*", "t u"), ("tt", "")] {
        let mut request = list(&[], &[], -1);
        if let Request::ListTransactions(request) = &mut request {
            request.pattern = Some(pattern.into());
        }
        assert_eq!(listed(bench.call(request)).0.join(" "), found, "{pattern}");
    }
}

#[test]
fn a_transaction_is_described_with_what_is_in_it() {
    let describe = |id: &str| {
        Request::DescribeTransaction(DescribeTransaction { transactional_id: id.into() })
    };
    let mut bench = Bench::new();
    let producer = bench.init().expect("a producer");
    let begun = bench.now.wall.0;
    bench.call(add(ADD, producer, &[4, 2], false));
    let error = |response: Response| {
        let Response::DescribeTransaction(answer) = response else { panic!("another answer") };
        answer.error
    };

    let response = bench.call(describe(ID));

    let topics = vec![TxnTopic {
        name: TOPIC.into(),
        partitions: vec![PartitionIndex(2), PartitionIndex(4)],
    }];
    assert_eq!(
        response,
        Response::DescribeTransaction(DescribeTransactionAnswer {
            error: ErrorCode::None,
            transactional_id: ID.into(),
            status: TransactionStatus::Ongoing,
            transaction_timeout_ms: TIMEOUT_MS,
            transaction_start_ms: begun,
            producer_id: ProducerId(producer.0),
            producer_epoch: ProducerEpoch(producer.1),
            topics,
        })
    );
    assert_eq!(error(bench.call(describe("other"))), ErrorCode::TransactionalIdNotFound);
    assert_eq!(error(bench.call(describe(""))), ErrorCode::InvalidRequest);
}

#[test]
fn what_is_told_waits_until_it_is_committed() {
    let mut bench = Bench::new();
    bench.ask(init(None));

    let ticket = bench.ask(list(&[], &[], -1));

    assert_eq!(bench.reply(ticket), None);
    bench.commit();
    assert_eq!(listed(bench.reply(ticket).expect("an answer")).0, ["t"]);
}
