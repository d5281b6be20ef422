use super::*;
use crate::client::producer::Acks;

fn bootstrap() -> Vec<Address> {
    vec![(Arc::from("broker"), 9092)]
}

fn pairs(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn producer(settings: &[(&str, &str)]) -> Result<ProducerConfig, SettingError> {
    producer_config(bootstrap(), &pairs(settings))
}

fn consumer(settings: &[(&str, &str)]) -> Result<ConsumerConfig, SettingError> {
    consumer_config(bootstrap(), &pairs(settings))
}

fn refusal<T: fmt::Debug>(result: Result<T, SettingError>) -> String {
    result.expect_err("it cannot be used").to_string()
}

#[test]
fn without_settings_a_client_is_what_its_machine_is_by_default() {
    let config = producer(&[]).expect("defaults");
    let expected = ProducerConfig::new(NetworkConfig::new(bootstrap()));
    assert_eq!(format!("{config:?}"), format!("{expected:?}"));

    for group in [None, Some("g")] {
        let settings: Vec<_> = group.map(|group| ("group.id", group)).into_iter().collect();
        let config = consumer(&settings).expect("defaults");
        let network = NetworkConfig::new(bootstrap());
        let expected = ConsumerConfig::new(network, group.map(Into::into));
        assert_eq!(format!("{config:?}"), format!("{expected:?}"));
    }

    let config = admin_config(bootstrap(), &[]).expect("defaults");
    assert_eq!(config.api_timeout, Duration::from_mins(1));
}

#[test]
fn tables_are_ordered_and_their_defaults_are_valid() {
    for pair in SETTINGS.windows(2) {
        assert!(pair[0].def.name < pair[1].def.name, "{}", pair[1].def.name);
    }
    for known in SETTINGS {
        assert!(check_value(&known.def, known.def.default).is_ok(), "{}", known.def.name);
        assert!(known.kinds != 0 && known.def.documentation.ends_with('.'));
    }
    for table in [UNSUPPORTED, RENAMED] {
        for pair in table.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{}", pair[1].0);
        }
        for (name, _) in table {
            assert!(SETTINGS.iter().all(|known| known.def.name != *name), "{name} is known");
        }
    }
}

#[test]
fn a_name_is_told_apart_as_misspelled_another_librarys_another_clients_or_unsupported() {
    for (name, expected) in [
        ("linger.mss", "linger.mss is no setting of a producer; did you mean linger.ms?"),
        ("queue.buffering.max.ms", "is no setting of Kafka's own clients; use linger.ms"),
        ("group.id", "group.id is a setting of a consumer, not of a producer"),
        ("transactional.ids", "did you mean transactional.id?"),
        ("sasl.mechanism", "sasl.mechanism is not supported: authentication is not there yet"),
    ] {
        let error = refusal(producer(&[(name, "1")]));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn values_of_the_wrong_type_or_out_of_bounds_are_refused_with_what_would_be_right() {
    for (name, value, expected) in [
        ("linger.ms", "-1", "it must be at least 0"),
        ("linger.ms", "5ms", "it must be a whole number"),
        ("linger.ms", "2147483648", "it must be"),
        ("acks", "2", "it must be one of all, -1, 0, 1"),
        ("compression.type", "brotli", "it must be one of none, gzip"),
        ("enable.idempotence", "yes", "it must be true or false"),
        ("security.protocol", "SSL", "only PLAINTEXT is supported"),
        ("max.block.ms", "9223372036854775807", "it must be at most"),
    ] {
        let error = refusal(producer(&[(name, value)]));
        assert!(error.contains(expected) && error.contains(name), "{error}");
    }
    assert_eq!(
        refusal(producer(&[("acks", "1"), ("acks", "1")])),
        "acks is given twice; leave one of them out"
    );
}

#[test]
fn producer_settings_arrive() {
    let config = producer(&[
        ("acks", "all"),
        ("batch.size", "1000"),
        ("buffer.memory", "2000"),
        ("client.id", "till"),
        ("compression.type", "zstd"),
        ("delivery.timeout.ms", "3000"),
        ("linger.ms", "4"),
        ("max.block.ms", "7"),
        ("max.in.flight.requests.per.connection", "2"),
        ("max.request.size", "900"),
        ("metadata.max.age.ms", "11"),
        ("reconnect.backoff.ms", "2000"),
        ("request.timeout.ms", "1000"),
        ("security.protocol", "plaintext"),
    ])
    .expect("all are valid");
    assert_eq!((config.acks, config.idempotence, config.codec), (Acks::All, true, Codec::Zstd));
    assert_eq!((config.batch_bytes, config.buffer_bytes), (1000, 2000));
    assert_eq!((config.max_request_bytes, config.network.max_in_flight), (900, 2));
    assert_eq!(config.delivery_timeout, Duration::from_secs(3));
    assert_eq!(config.linger, Duration::from_millis(4));
    assert_eq!(config.max_block, Duration::from_millis(7));
    assert_eq!(config.network.client_id.as_str(), "till");
    assert_eq!(config.network.metadata_max_age, Duration::from_millis(11));
    assert_eq!(config.network.request_timeout, Duration::from_secs(1));
    assert_eq!(config.network.reconnect_backoff_max, Duration::from_secs(2), "never less");
}

#[test]
fn weaker_acks_turn_idempotence_off_unless_it_was_asked_for() {
    let config = producer(&[("acks", "1"), ("max.in.flight.requests.per.connection", "6")]);
    let config = config.expect("idempotence gives way");
    assert_eq!((config.acks, config.idempotence), (Acks::Leader, false));

    let error = refusal(producer(&[("acks", "0"), ("enable.idempotence", "true")]));
    assert!(error.contains("needs acks=all"), "{error}");
    let error = refusal(producer(&[("max.in.flight.requests.per.connection", "6")]));
    assert!(error.contains("enable.idempotence=false"), "{error}");
}

#[test]
fn a_transactional_id_needs_idempotence_and_the_timeout_needs_the_id() {
    let config = producer(&[("transactional.id", "etl"), ("transaction.timeout.ms", "9000")]);
    let config = config.expect("both are valid");
    assert_eq!(config.transactional_id.as_deref(), Some("etl"));
    assert_eq!(config.transaction_timeout, Duration::from_secs(9));

    for weaker in [("enable.idempotence", "false"), ("acks", "1")] {
        let error = refusal(producer(&[("transactional.id", "etl"), weaker]));
        assert!(error.contains("needs enable.idempotence=true and acks=all"), "{error}");
    }
    let error = refusal(producer(&[("transaction.timeout.ms", "9000")]));
    assert!(error.contains("needs a transactional.id"), "{error}");
}

#[test]
fn the_delivery_timeout_has_room_for_linger_and_a_request() {
    let config = producer(&[("request.timeout.ms", "200000")]).expect("the default gives way");
    assert_eq!(config.delivery_timeout, Duration::from_millis(200_005));

    let error = refusal(producer(&[("delivery.timeout.ms", "30000")]));
    assert!(error.contains("linger.ms + request.timeout.ms = 30005"), "{error}");
    assert!(producer(&[("delivery.timeout.ms", "30005")]).is_ok());
}

#[test]
fn consumer_settings_arrive() {
    let config = consumer(&[
        ("group.id", "billing"),
        ("group.instance.id", "b-1"),
        ("auto.commit.interval.ms", "100"),
        ("auto.offset.reset", "earliest"),
        ("isolation.level", "read_committed"),
        ("fetch.max.bytes", "200000000"),
        ("max.poll.interval.ms", "60000"),
        (
            "partition.assignment.strategy",
            "cooperative-sticky, org.apache.kafka.clients.consumer.RangeAssignor",
        ),
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "2000"),
    ])
    .expect("all are valid");
    let group = config.group.expect("it has a group");
    assert_eq!(group.group_id.as_str(), "billing");
    assert_eq!(group.instance_id.as_deref(), Some("b-1"));
    assert_eq!(group.assignors, [Assignor::CooperativeSticky, Assignor::Range]);
    assert_eq!(group.session_timeout, Duration::from_secs(6));
    assert_eq!(group.heartbeat_interval, Duration::from_secs(2));
    assert_eq!(group.rebalance_timeout, Duration::from_mins(1));
    assert!(group.require_stable && config.fetcher.read_committed);
    assert_eq!(config.fetcher.reset, Some(Start::Earliest));
    assert_eq!(config.auto_commit, Some(Duration::from_millis(100)));
    assert!(config.fetcher.network.max_frame_bytes > 200_000_000, "answers of that size pass");
}

#[test]
fn what_needs_a_group_is_refused_without_one() {
    assert!(consumer(&[]).expect("without a group").auto_commit.is_none());
    assert!(consumer(&[("enable.auto.commit", "false")]).is_ok());
    for setting in [("enable.auto.commit", "true"), ("group.instance.id", "a")] {
        let error = refusal(consumer(&[setting]));
        assert!(error.contains("set group.id"), "{error}");
    }
}

#[test]
fn heartbeats_are_more_frequent_than_the_session_is_long() {
    let error = refusal(consumer(&[("group.id", "g"), ("session.timeout.ms", "3000")]));
    assert!(error.contains("heartbeat.interval.ms=3000 is not below"), "{error}");
}

#[test]
fn rules_of_assignment_that_are_not_known_are_refused() {
    for value in ["roundrobin", "range,range", ",", "a.b.StickyAssignor"] {
        let settings = [("group.id", "g"), ("partition.assignment.strategy", value)];
        let error = refusal(consumer(&settings));
        assert!(error.contains("partition.assignment.strategy"), "{error}");
    }
}

#[test]
fn a_call_lasts_at_least_as_long_as_a_request() {
    let config = admin_config(bootstrap(), &pairs(&[("request.timeout.ms", "90000")]));
    assert_eq!(config.expect("it gives way").api_timeout, Duration::from_secs(90));
    let short = pairs(&[("default.api.timeout.ms", "1000")]);
    assert!(refusal(admin_config(bootstrap(), &short)).contains("request.timeout.ms=30000"));
}

#[test]
fn addresses_are_read_as_people_write_them() {
    let addresses = parse_bootstrap(" a.example:9092, [::1]:1 ,127.0.0.1:65535,").expect("three");
    let expected: [(Arc<str>, u16); 3] =
        [("a.example".into(), 9092), ("::1".into(), 1), ("127.0.0.1".into(), 65535)];
    assert_eq!(addresses, expected);
    for (text, why) in [
        ("", "it names no broker"),
        (" , ", "it names no broker"),
        ("host", "it has no port"),
        ("host:", "its port is no number"),
        ("host:0", "its port is no number"),
        ("host:65536", "its port is no number"),
        (":9092", "it has no host"),
        ("::1:9092", "stands in brackets"),
        ("[x]:9092", "no IPv6 address"),
        ("http://a:9092", "not named by URLs"),
        ("a b:1", "no host has"),
    ] {
        let error = refusal(parse_bootstrap(text));
        assert!(error.contains(why), "{text:?}: {error}");
    }
}
