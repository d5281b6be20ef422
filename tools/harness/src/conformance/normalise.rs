//! What of an answer is compared, and in which form.
//!
//! The rules here are all there are: nothing in the recorded answers is edited by hand.

use std::collections::BTreeMap;

use mainspring_core::wire::ApiKey;
use mainspring_core::wire::json::parse_base64;
use serde_json::Value;

use super::batches::describe;

/// Fields that are left out: each node has its own words, addresses and identity.
const DROPPED: [&str; 16] = [
    "batchIndexErrorMessage",
    "clientHost",
    "clusterId",
    "documentation",
    "errorMessage",
    "finalizedFeaturesEpoch",
    "host",
    "logDir",
    "nodeEndpoints",
    "partitionSize",
    "port",
    "rack",
    "throttleTimeMs",
    "totalBytes",
    "usableBytes",
    "zkMigrationReady",
];

/// Fields whose values a broker makes up: each value gets a name by its first appearance. Values
/// that stand for none stay as they are.
const NAMED: [(&str, &str); 8] = [
    ("leader", "member"),
    ("memberId", "member"),
    ("producerId", "producer"),
    ("sessionId", "session"),
    ("topicId", "topic-id"),
    ("logAppendTimeMs", "time"),
    ("lastTimestamp", "time"),
    ("transactionStartTimeMs", "time"),
];

/// Arrays whose order Kafka takes from a hash table, with the fields that order them here; without
/// one they are ordered by what they hold.
const UNORDERED: [(ApiKey, &str, &[&str]); 31] = [
    (ApiKey::Produce, "responses", &["name"]),
    (ApiKey::CreateTopics, "topics", &["name"]),
    (ApiKey::DeleteTopics, "responses", &["name", "errorCode"]),
    (ApiKey::Produce, "partitionResponses", &["index"]),
    (ApiKey::OffsetDelete, "partitions", &["partitionIndex"]),
    (ApiKey::OffsetFetch, "topics", &["name"]),
    (ApiKey::OffsetFetch, "partitions", &["partitionIndex"]),
    (ApiKey::JoinGroup, "members", &["groupInstanceId", "metadata"]),
    (ApiKey::DescribeGroups, "members", &["groupInstanceId", "memberMetadata", "memberAssignment"]),
    (ApiKey::ListGroups, "groups", &["groupId"]),
    (ApiKey::DeleteGroups, "results", &["groupId"]),
    (ApiKey::ListConfigResources, "configResources", &["resourceType", "resourceName"]),
    (ApiKey::ListOffsets, "partitions", &["partitionIndex"]),
    (ApiKey::Metadata, "topics", &["name", "topicId"]),
    (ApiKey::CreateTopics, "configs", &["name"]),
    (ApiKey::DescribeConfigs, "configs", &["name"]),
    (ApiKey::DescribeLogDirs, "topics", &["name"]),
    (ApiKey::DescribeLogDirs, "partitions", &["partitionIndex"]),
    (ApiKey::Metadata, "partitions", &["partitionIndex"]),
    (ApiKey::DescribeConfigs, "results", &["resourceType", "resourceName"]),
    (ApiKey::ApiVersions, "apiKeys", &["apiKey"]),
    (ApiKey::AddPartitionsToTxn, "resultsByTransaction", &["transactionalId"]),
    (ApiKey::AddPartitionsToTxn, "resultsByTopicV3AndBelow", &["name"]),
    (ApiKey::AddPartitionsToTxn, "topicResults", &["name"]),
    (ApiKey::AddPartitionsToTxn, "resultsByPartition", &["partitionIndex"]),
    (ApiKey::TxnOffsetCommit, "topics", &["name"]),
    (ApiKey::WriteTxnMarkers, "partitions", &["partitionIndex"]),
    (ApiKey::DescribeTransactions, "topics", &["topic"]),
    (ApiKey::DescribeTransactions, "partitions", &[]),
    (ApiKey::ListTransactions, "transactionStates", &["transactionalId"]),
    (ApiKey::DescribeProducers, "activeProducers", &["producerId"]),
];

/// Lists that tell of everything on the node: what other scripts made is left out.
const EVERYTHING: [(ApiKey, &str, &str); 5] = [
    (ApiKey::Metadata, "topics", "name"),
    (ApiKey::DescribeLogDirs, "topics", "name"),
    (ApiKey::DescribeTopicPartitions, "topics", "name"),
    (ApiKey::ListGroups, "groups", "groupId"),
    (ApiKey::ListTransactions, "transactionStates", "transactionalId"),
];

/// The names that values of one script have got so far.
#[derive(Default)]
pub(super) struct Names {
    given: BTreeMap<(&'static str, String), String>,
    counts: BTreeMap<&'static str, usize>,
}

impl Names {
    /// Brings an answer into the form that is compared. `prefix` stands before the names of
    /// everything that the script made.
    pub(super) fn normalise(&mut self, api: ApiKey, prefix: &str, answer: &Value) -> Value {
        self.value(api, prefix, "", answer)
    }

    fn value(&mut self, api: ApiKey, prefix: &str, field: &str, value: &Value) -> Value {
        if api == ApiKey::Fetch && field == "records" {
            let bytes = value.as_str().and_then(parse_base64).unwrap_or_default();
            let mut batches = describe(&bytes);
            for batch in batches.as_array_mut().into_iter().flatten() {
                if let Some(id) = batch.get_mut("producerId") {
                    *id = self.scalar("producerId", &*id);
                }
            }
            return batches;
        }
        match value {
            Value::Object(fields) => fields
                .iter()
                .filter(|(name, _)| !DROPPED.contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), self.value(api, prefix, name, value)))
                .collect(),
            Value::Array(elements) => {
                let mut elements: Vec<Value> = elements
                    .iter()
                    .filter(|element| !foreign(api, prefix, field, element))
                    .cloned()
                    .collect();
                for (of, array, keys) in UNORDERED {
                    if of == api && array == field {
                        elements.sort_by_key(|element| match keys {
                            [] => vec![sortable(element)],
                            keys => keys.iter().map(|key| sortable(&element[*key])).collect(),
                        });
                    }
                }
                elements.iter().map(|element| self.value(api, prefix, field, element)).collect()
            }
            Value::String(text) => {
                let named = self.scalar(field, value);
                if named == *value { Value::String(text.replace(prefix, "~")) } else { named }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => self.scalar(field, value),
        }
    }

    /// Gives a made-up value its name.
    fn scalar(&mut self, field: &str, value: &Value) -> Value {
        let Some((_, kind)) = NAMED.into_iter().find(|(named, _)| *named == field) else {
            return value.clone();
        };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if ["", "-1", "null", "AAAAAAAAAAAAAAAAAAAAAA"].contains(&text.as_str()) {
            return value.clone();
        }
        if kind == "session" && text == "0" {
            return value.clone();
        }
        // A moment differs from run to run also in how many of them there are.
        if kind == "time" {
            return Value::from("time");
        }
        let count = self.counts.entry(kind).or_default();
        let name = self.given.entry((kind, text)).or_insert_with(|| {
            *count += 1;
            format!("{kind}-{count}")
        });
        Value::from(name.as_str())
    }
}

/// Whether a list of everything names what another script made, or settings what Kafka has none of.
fn foreign(api: ApiKey, prefix: &str, field: &str, element: &Value) -> bool {
    let name = element["name"].as_str().unwrap_or_default();
    if field == "configs" && name.starts_with("mainspring.") {
        return true;
    }
    EVERYTHING.iter().any(|(of, array, name)| {
        let fine = element["errorCode"].as_i64().unwrap_or(0) == 0;
        let name = element[*name].as_str().unwrap_or_default();
        *of == api && *array == field && fine && !name.starts_with(prefix)
    })
}

fn sortable(value: &Value) -> String {
    value.as_i64().map_or_else(|| value.to_string(), |number| format!("{number:020}"))
}

/// Leaves out of a line what can only be compared once it is known what is served: `ApiVersions`
/// answers are compared in the APIs that Mainspring serves.
pub(super) fn comparable(line: &str) -> String {
    let mut words = line.splitn(4, ' ');
    let (Some(connection), Some(api), Some(version), Some(body)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return line.to_owned();
    };
    let Ok(mut answer) = serde_json::from_str::<Value>(body) else { return line.to_owned() };
    if api == ApiKey::ApiVersions.name()
        && let Some(keys) = answer["apiKeys"].as_array_mut()
    {
        keys.retain(|entry| {
            let key = entry["apiKey"].as_i64().and_then(|key| i16::try_from(key).ok());
            key.and_then(ApiKey::from_key).is_some_and(|api| api.is_served(false))
        });
    }
    format!("{connection} {api} {version} {answer}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn made_up_values_get_names_and_words_are_dropped() {
        let mut names = Names::default();
        let answer = json!({"responses": [
            {"name": "p-a", "topicId": "3q2-7wAAAAAAAAAAAAAAAA", "errorMessage": "no"},
            {"name": null, "topicId": "AAAAAAAAAAAAAAAAAAAAAA", "errorMessage": null},
        ]});
        let expected = json!({"responses": [
            {"name": "~a", "topicId": "topic-id-1"},
            {"name": null, "topicId": "AAAAAAAAAAAAAAAAAAAAAA"},
        ]});
        assert_eq!(names.normalise(ApiKey::DeleteTopics, "p-", &answer), expected);
        assert_eq!(names.normalise(ApiKey::DeleteTopics, "p-", &answer), expected, "kept");
    }

    #[test]
    fn what_other_scripts_made_is_left_out_unless_it_is_an_error() {
        let answer = json!({"topics": [
            {"name": "q-b", "errorCode": 0}, {"name": "..", "errorCode": 17},
            {"name": "p-a", "errorCode": 0},
        ]});
        let expected = json!({"topics": [
            {"name": "..", "errorCode": 17}, {"name": "~a", "errorCode": 0},
        ]});
        assert_eq!(Names::default().normalise(ApiKey::Metadata, "p-", &answer), expected);
    }

    #[test]
    fn api_versions_are_compared_in_what_is_served() {
        let line = r#"A ApiVersions 0 {"apiKeys":[{"apiKey":0},{"apiKey":9999}],"errorCode":0}"#;
        let expected = r#"A ApiVersions 0 {"apiKeys":[{"apiKey":0}],"errorCode":0}"#;
        assert_eq!(comparable(line), expected);
        assert_eq!(comparable("A closed"), "A closed");
    }
}
