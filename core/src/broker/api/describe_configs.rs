//! `DescribeConfigs` (key 32): Kafka's whole list, with the values that this node behaves as.

use crate::broker::pending::RequestContext;
use crate::broker::shard::Shard;
use crate::config::{BROKER_SETTINGS, SettingDef};
use crate::error::ErrorCode;
use crate::ids::TopicName;
use crate::metadata::apply::{RESOURCE_BROKER, RESOURCE_TOPIC};
use crate::metadata::topic_config::{ConfigSource, Described, TOPIC_CONFIGS, describe};
use crate::wire::KafkaString;
use crate::wire::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

impl Shard {
    pub(in crate::broker) fn on_describe_configs(
        &mut self,
        ctx: RequestContext,
        request: &DescribeConfigsRequest,
    ) {
        let results = request
            .resources
            .iter()
            .map(|resource| {
                let described = self.described_configs(resource, request);
                let (code, message, configs) = match described {
                    Ok(configs) => (ErrorCode::None, None, configs),
                    Err((code, message)) => (code, Some(message.into()), Vec::new()),
                };
                DescribeConfigsResult {
                    error_code: code.code(),
                    error_message: message,
                    resource_type: resource.resource_type,
                    resource_name: resource.resource_name.clone(),
                    configs,
                }
            })
            .collect();
        let response = DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() };
        self.respond(&ctx, response);
    }

    fn described_configs(
        &self,
        resource: &DescribeConfigsResource,
        request: &DescribeConfigsRequest,
    ) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)> {
        let wanted = |name: &str| {
            // An empty list asks for all, as in Kafka.
            let keys = resource.configuration_keys.as_deref().unwrap_or_default();
            keys.is_empty() || keys.iter().any(|key| *key == name)
        };
        let settings = &self.config.node.settings;
        match resource.resource_type {
            RESOURCE_TOPIC => {
                let name = resource.resource_name.as_str();
                TopicName::parse(name)
                    .map_err(|why| (ErrorCode::InvalidTopicException, format!("{why}.")))?;
                let topic = self.image.topic_by_name(name).ok_or_else(|| {
                    let code = ErrorCode::UnknownTopicOrPartition;
                    (code, code.message().to_owned())
                })?;
                let shown = TOPIC_CONFIGS.iter().filter(|def| wanted(def.setting.name));
                Ok(shown
                    .map(|def| {
                        let mut places = describe(def, settings, &topic.configs);
                        if def.setting.name == "mainspring.storage" && self.config.node.memory_only
                        {
                            // Without a directory every topic lives in memory, whatever was set.
                            "memory".clone_into(&mut places[0].value);
                        }
                        shown_setting(&def.setting, places, false, request)
                    })
                    .collect())
            }
            RESOURCE_BROKER => {
                let me = self.config.node.node_id.to_string();
                if resource.resource_name.is_empty() {
                    // Defaults of the whole cluster: none are kept, each node has its own.
                    return Ok(Vec::new());
                }
                if resource.resource_name != me.as_str() {
                    let why = format!("This is broker {me}; ask the broker itself.");
                    return Err((ErrorCode::InvalidRequest, why));
                }
                let shown = BROKER_SETTINGS.iter().filter(|def| wanted(def.name));
                Ok(shown
                    .map(|def| {
                        let mut places = Vec::new();
                        if let Some(value) = settings.explicit(def.name) {
                            places.push(Described {
                                name: def.name,
                                value: value.to_owned(),
                                source: ConfigSource::StaticBroker,
                            });
                        }
                        places.push(Described {
                            name: def.name,
                            value: def.default.to_owned(),
                            source: ConfigSource::Default,
                        });
                        shown_setting(def, places, true, request)
                    })
                    .collect())
            }
            other => {
                let why = format!("Resource type {other} has no settings here.");
                Err((ErrorCode::InvalidRequest, why))
            }
        }
    }
}

fn shown_setting(
    def: &SettingDef,
    places: Vec<Described>,
    read_only: bool,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResourceResult {
    let (value, source) = places.first().map_or((String::new(), ConfigSource::Default), |first| {
        (first.value.clone(), first.source)
    });
    // An unset number has no value at all; an empty list does.
    let nullable = |value: String| {
        let is_unset = value.is_empty() && def.kind != crate::config::SettingType::List;
        (!is_unset).then(|| KafkaString::from(value))
    };
    let synonyms = if request.include_synonyms {
        places
            .into_iter()
            .map(|place| DescribeConfigsSynonym {
                name: place.name.into(),
                value: nullable(place.value),
                source: place.source as i8,
            })
            .collect()
    } else {
        Vec::new()
    };
    DescribeConfigsResourceResult {
        name: KafkaString::from_static(def.name),
        value: nullable(value),
        read_only,
        config_source: source as i8,
        is_sensitive: false,
        synonyms,
        config_type: def.kind as i8,
        documentation: request
            .include_documentation
            .then(|| KafkaString::from_static(def.documentation)),
    }
}
