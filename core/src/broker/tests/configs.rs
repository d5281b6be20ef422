//! Settings of topics and brokers.

use crate::broker::testing::{TestNode, batch};
use crate::wire::KafkaString;
use crate::wire::api::alter_configs;
use crate::wire::api::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use crate::wire::api::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use crate::wire::api::list_config_resources::ListConfigResourcesRequest;

use super::{create, create_with, produce};

#[test]
fn settings_of_topics_are_changed_shown_and_in_force() {
    let mut node = TestNode::started(3);
    let client = node.connect(1);
    create(&mut node, client, "t", 2);
    let mut alter = |name: &str, operation: i8, value: Option<&str>| {
        let config = AlterableConfig {
            name: name.into(),
            config_operation: operation,
            value: value.map(KafkaString::from),
        };
        let resource = AlterConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configs: vec![config],
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![resource],
            ..IncrementalAlterConfigsRequest::default()
        };
        node.call(client, 1, &request).responses[0].error_code
    };
    assert_eq!(alter("max.message.bytes", 0, Some("100")), 0);
    assert_eq!(alter("max.message.bytes", 2, Some("100")), 40, "no list");
    assert_eq!(alter("max.message.bytes", 0, Some("many")), 40);
    assert_eq!(alter("mainspring.storage", 0, Some("memory")), 40);
    assert_eq!(alter("cleanup.policy", 2, Some("compact")), 40);
    let large = batch(&[&"x".repeat(200)], None);
    assert_eq!(produce(&mut node, client, "t", 1, large).error_code, 10);

    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: "t".into(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
    };
    let shown = node.call(client, 4, &request).results.remove(0);
    assert_eq!(shown.error_code, 0);
    assert!(shown.configs.len() >= 33, "Kafka's whole list");
    let find = |name: &str| shown.configs.iter().find(|c| c.name == name).expect("shown");
    let changed = find("max.message.bytes");
    assert_eq!((changed.value.as_deref(), changed.config_source), (Some("100"), 1));
    assert_eq!(changed.config_type, 3);
    assert_eq!(find("retention.ms").config_source, 5);
    assert!(find("cleanup.policy").documentation.is_some());
}

#[test]
fn altering_replaces_the_whole_set_and_validating_changes_nothing() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create_with(&mut node, client, "t", 1, &[("retention.ms", "5000"), ("segment.ms", "7000")]);
    let mut alter = |name: &str, value: &str, validate_only| {
        let config =
            alter_configs::AlterableConfig { name: name.into(), value: Some(value.into()) };
        let resource = alter_configs::AlterConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configs: vec![config],
        };
        let request =
            alter_configs::AlterConfigsRequest { resources: vec![resource], validate_only };
        let code = node.call(client, 2, &request).responses[0].error_code;
        let topic = node.shards[0].image.topic_by_name("t").expect("there").clone();
        let set: Vec<(String, String)> = topic.configs.clone().into_iter().collect();
        (code, set)
    };
    let both = vec![
        ("retention.ms".to_owned(), "5000".to_owned()),
        ("segment.ms".to_owned(), "7000".to_owned()),
    ];
    assert_eq!(alter("retention.ms", "6000", true), (0, both.clone()));
    assert_eq!(alter("retention.ms", "-2", false), (40, both));
    let replaced = vec![("retention.ms".to_owned(), "6000".to_owned())];
    assert_eq!(alter("retention.ms", "6000", false), (0, replaced));
}

#[test]
fn settings_of_a_broker_are_shown_and_not_changed() {
    let mut node = TestNode::with(1, |c| c.settings.set("num.partitions", "3").expect("valid"));
    let client = node.connect(0);
    let mut describe = |name: &str| {
        let resource = DescribeConfigsResource {
            resource_type: 4,
            resource_name: name.into(),
            configuration_keys: Some(vec!["num.partitions".into()]),
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            ..DescribeConfigsRequest::default()
        };
        node.call(client, 4, &request).results.remove(0)
    };
    let shown = describe("1");
    assert_eq!((shown.error_code, shown.configs.len()), (0, 1));
    let setting = &shown.configs[0];
    assert_eq!((setting.value.as_deref(), setting.config_source), (Some("3"), 4));
    assert!(setting.read_only);
    assert_eq!(describe("2").error_code, 42);
    let resource =
        AlterConfigsResource { resource_type: 4, resource_name: "1".into(), configs: Vec::new() };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![resource],
        ..IncrementalAlterConfigsRequest::default()
    };
    assert_eq!(node.call(client, 1, &request).responses[0].error_code, 42);
}

#[test]
fn resources_with_settings_are_listed_by_their_type() {
    let mut node = TestNode::started(1);
    let client = node.connect(0);
    create(&mut node, client, "t", 1);
    let list = |node: &mut TestNode, version, types: &[i8]| {
        let request = ListConfigResourcesRequest { resource_types: types.to_vec() };
        let response = node.call(client, version, &request);
        let listed = response.config_resources.into_iter();
        let listed: Vec<_> =
            listed.map(|r| (r.resource_type, r.resource_name.to_string())).collect();
        (response.error_code, listed)
    };
    let (topic, broker) = ((2, "t".to_owned()), (4, "1".to_owned()));
    assert_eq!(list(&mut node, 1, &[]), (0, vec![topic.clone(), broker.clone()]));
    assert_eq!(list(&mut node, 1, &[2]), (0, vec![topic]));
    assert_eq!(list(&mut node, 1, &[32, 4]), (0, vec![broker]));
    assert_eq!(list(&mut node, 1, &[16]), (0, vec![]));
    assert_eq!(list(&mut node, 1, &[2, 99]), (35, vec![]));
    assert_eq!(list(&mut node, 0, &[]), (0, vec![]), "version 0 is about client metrics");
}
