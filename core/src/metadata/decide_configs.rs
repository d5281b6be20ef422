//! What `AlterConfigs` and `IncrementalAlterConfigs` make of the image (KIP-133, KIP-339).

use std::collections::{BTreeMap, BTreeSet};

use crate::error::ErrorCode;
use crate::ids::TopicName;
use crate::metadata::apply::{RESOURCE_BROKER, RESOURCE_TOPIC};
use crate::metadata::decide::{Deciding, Decision, Refusal, config_record, refuse};
use crate::metadata::image::TopicImage;
use crate::metadata::topic_config::{self, Overrides};
use crate::wire::api::{alter_configs, incremental_alter_configs};
use crate::wire::{KafkaString, MetadataRecord};

use crate::config::SettingType;

/// What one operation of `IncrementalAlterConfigs` does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

impl Operation {
    const fn from_number(number: i8) -> Option<Self> {
        match number {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }
}

impl Deciding<'_> {
    /// `AlterConfigs` (key 33): replaces all settings of a resource.
    pub fn alter_configs(
        &self,
        request: &alter_configs::AlterConfigsRequest,
    ) -> Decision<alter_configs::AlterConfigsResponse> {
        let mut records = Vec::new();
        let mut response = alter_configs::AlterConfigsResponse::default();
        let times = count(request.resources.iter().map(|r| (r.resource_type, &r.resource_name)));
        let mut answered = BTreeSet::new();
        for resource in &request.resources {
            let key = (resource.resource_type, &resource.resource_name);
            if !answered.insert(key) {
                continue;
            }
            let outcome = self.altered_topic(key, &times).and_then(|topic| {
                let mut wanted = Overrides::new();
                for config in &resource.configs {
                    let value = non_null(&config.name, config.value.as_ref())?;
                    wanted.insert(config.name.as_str().to_owned(), value.trim().to_owned());
                }
                self.changes(topic, key.1, &wanted)
            });
            let (code, message) = settle(outcome, request.validate_only, &mut records);
            response.responses.push(alter_configs::AlterConfigsResourceResponse {
                error_code: code.code(),
                error_message: message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
            });
        }
        Decision { records, response }
    }

    /// `IncrementalAlterConfigs` (key 44): changes single settings of a resource.
    pub fn incremental_alter_configs(
        &self,
        request: &incremental_alter_configs::IncrementalAlterConfigsRequest,
    ) -> Decision<incremental_alter_configs::IncrementalAlterConfigsResponse> {
        let mut records = Vec::new();
        let mut response = incremental_alter_configs::IncrementalAlterConfigsResponse::default();
        let times = count(request.resources.iter().map(|r| (r.resource_type, &r.resource_name)));
        for resource in &request.resources {
            let key = (resource.resource_type, &resource.resource_name);
            let outcome = self.altered_topic(key, &times).and_then(|topic| {
                let wanted = self.operated(topic, &resource.configs)?;
                self.changes(topic, key.1, &wanted)
            });
            let (code, message) = settle(outcome, request.validate_only, &mut records);
            response.responses.push(incremental_alter_configs::AlterConfigsResourceResponse {
                error_code: code.code(),
                error_message: message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
            });
        }
        Decision { records, response }
    }

    /// Returns the topic that a resource names, or why its settings cannot be changed.
    fn altered_topic(
        &self,
        (kind, name): (i8, &KafkaString),
        times: &BTreeMap<(i8, &KafkaString), usize>,
    ) -> Result<&TopicImage, Refusal> {
        if times.get(&(kind, name)).is_some_and(|&count| count > 1) {
            return Err((ErrorCode::InvalidRequest, "The resource is named twice.".to_owned()));
        }
        match kind {
            RESOURCE_TOPIC => {}
            RESOURCE_BROKER => {
                let why = "Broker settings are taken at the start of the node; change them there.";
                return Err((ErrorCode::InvalidRequest, why.to_owned()));
            }
            other => {
                let why = format!("Settings of resource type {other} cannot be changed here.");
                return Err((ErrorCode::InvalidRequest, why));
            }
        }
        if name.is_empty() {
            let why = "There are no settings of all topics.";
            return Err((ErrorCode::InvalidRequest, why.to_owned()));
        }
        TopicName::parse(name.as_str())
            .map_err(|why| (ErrorCode::InvalidTopicException, format!("{why}.")))?;
        self.image
            .topic_by_name(name.as_str())
            .map(AsRef::as_ref)
            .ok_or_else(|| refuse(ErrorCode::UnknownTopicOrPartition))
    }

    fn operated(
        &self,
        topic: &TopicImage,
        configs: &[incremental_alter_configs::AlterableConfig],
    ) -> Result<Overrides, Refusal> {
        let mut wanted = topic.configs.clone();
        let mut seen = BTreeSet::new();
        for config in configs {
            let name = config.name.as_str();
            if !seen.insert(name) {
                let why = format!("The setting {name} is named twice.");
                return Err((ErrorCode::InvalidRequest, why));
            }
            let operation = Operation::from_number(config.config_operation).ok_or_else(|| {
                let why = format!("There is no operation {}.", config.config_operation);
                (ErrorCode::InvalidRequest, why)
            })?;
            if operation == Operation::Delete {
                wanted.remove(name);
                continue;
            }
            let value = non_null(&config.name, config.value.as_ref())?.trim();
            if operation == Operation::Set {
                wanted.insert(name.to_owned(), value.to_owned());
                continue;
            }
            let Some(def) = topic_config::definition(name) else {
                topic_config::validate(name, value)
                    .map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
                continue;
            };
            if def.setting.kind != SettingType::List {
                let why = format!("{name} is no list: it can be set and deleted only.");
                return Err((ErrorCode::InvalidConfig, why));
            }
            let current = wanted.get(name).cloned().unwrap_or_else(|| {
                topic_config::describe(def, &self.node.settings, &topic.configs)
                    .into_iter()
                    .next()
                    .map_or_else(String::new, |described| described.value)
            });
            wanted.insert(name.to_owned(), combine(operation, &current, value));
        }
        Ok(wanted)
    }

    /// Returns the records that turn the topic's settings into the wanted ones.
    fn changes(
        &self,
        topic: &TopicImage,
        name: &KafkaString,
        wanted: &Overrides,
    ) -> Result<Vec<MetadataRecord>, Refusal> {
        let invalid = |error: String| (ErrorCode::InvalidConfig, error);
        if topic.is_internal() {
            // Differs from Kafka, which stores them: nothing here would enforce them.
            return Err(invalid(format!("Settings of {} are the broker's own.", topic.name)));
        }
        for (key, value) in wanted {
            topic_config::validate(key, value).map_err(|error| invalid(error.to_string()))?;
        }
        let storage = |overrides: &Overrides| {
            topic_config::TopicConfig::effective(&self.node.settings, overrides, false).log.storage
        };
        if storage(wanted) != storage(&topic.configs) {
            let why = "mainspring.storage is fixed when the topic is created.";
            return Err(invalid(why.to_owned()));
        }
        let set = wanted
            .iter()
            .filter(|(key, value)| topic.configs.get(*key) != Some(value))
            .map(|(key, value)| config_record(name, key, Some(value)));
        // A setting that is taken away is nothing; a topic that had features still says so.
        let cleared = topic
            .configs
            .iter()
            .filter(|(key, _)| !wanted.contains_key(*key))
            .filter(|(key, value)| key.as_str() != topic_config::FEATURES_KEY || !value.is_empty())
            .map(|(key, _)| {
                let is_kept = key.as_str() == topic_config::FEATURES_KEY;
                config_record(name, key, is_kept.then_some(""))
            });
        Ok(set.chain(cleared).collect())
    }
}

fn settle(
    outcome: Result<Vec<MetadataRecord>, Refusal>,
    validate_only: bool,
    records: &mut Vec<MetadataRecord>,
) -> (ErrorCode, Option<KafkaString>) {
    match outcome {
        Ok(made) => {
            if !validate_only {
                records.extend(made);
            }
            (ErrorCode::None, None)
        }
        Err((code, message)) => (code, Some(message.into())),
    }
}

fn count<'a>(
    keys: impl Iterator<Item = (i8, &'a KafkaString)>,
) -> BTreeMap<(i8, &'a KafkaString), usize> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

fn non_null<'a>(name: &KafkaString, value: Option<&'a KafkaString>) -> Result<&'a str, Refusal> {
    value.map(KafkaString::as_str).ok_or_else(|| {
        (ErrorCode::InvalidRequest, format!("Null value not supported for topic configs: {name}"))
    })
}

fn combine(operation: Operation, current: &str, words: &str) -> String {
    let split = |text: &str| -> Vec<String> {
        text.split(',').map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect()
    };
    let mut list = split(current);
    for word in split(words) {
        let position = list.iter().position(|have| *have == word);
        match (operation, position) {
            (Operation::Append, None) => list.push(word),
            (Operation::Subtract, Some(at)) => {
                list.remove(at);
            }
            (Operation::Append | Operation::Set | Operation::Delete, _)
            | (Operation::Subtract, None) => {}
        }
    }
    list.join(",")
}
