//! The administrator: each method starts an operation and returns its [`Call`], whose answer is of
//! tuples and lists that `mainspring._admin` makes objects of.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::client::ClientError;
use mainspring_core::client::entries::{Alteration, Entry, EntryName, Wanted};
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::error::ErrorCode;
use mainspring_core::ids::{NodeId, Offset, PartitionIndex};
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::metadata::MetadataResponse;
use mainspring_net::client::administrator::Administrator;
use mainspring_net::client::operations::{
    About, Operations, Planned, Refusal, ResetTarget, leaders,
};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::call::Call;
use crate::errors::client_error;
use crate::guard::guarded;
use crate::runtime::{Generation, background};

/// Operations on topics, groups and the cluster.
#[pyclass(frozen, module = "mainspring._native")]
pub(crate) struct Admin {
    administrator: Administrator,
    generation: Generation,
}

type PartitionTold = (i32, i32, i32, Vec<i32>, Vec<i32>, Option<i64>, Option<i64>, Option<i64>);
type TopicTold = (String, String, bool, Vec<PartitionTold>, BTreeMap<String, Option<String>>);
type MemberTold = (String, Option<String>, String, String, Vec<(String, i32)>);
type ProgressTold = (
    (String, i32),
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<String>,
);
type GroupTold = (String, String, String, i32, Vec<MemberTold>, Vec<ProgressTold>);
/// Topic, partition, ticket, due time, name, size, state, checks, offset.
type EntryTold =
    (String, i32, i64, Option<i64>, Option<Vec<u8>>, u32, &'static str, u32, Option<i64>);
type LogDirTold = (i32, String, Option<i64>, Option<i64>, Vec<(String, i32, i64)>);

#[pymethods]
impl Admin {
    #[new]
    #[expect(clippy::needless_pass_by_value, reason = "Python hands over a list")]
    fn new(py: Python<'_>, bootstrap: &str, settings: Vec<(String, String)>) -> PyResult<Self> {
        guarded(|| {
            let config = crate::settings::admin(py, bootstrap, &settings)?;
            let administrator = Administrator::start(&background(py)?, config);
            Ok(Self { administrator, generation: Generation::current() })
        })
    }

    /// Ends it; what is not done fails.
    fn close(&self) {
        if self.generation == Generation::current() {
            self.administrator.close();
        }
    }

    /// Has the task panic, for tests of what becomes of those who wait.
    #[cfg(debug_assertions)]
    fn _break_down(&self) {
        self.administrator.break_down();
    }

    /// Describes topics: all, or those that are named.
    fn topics(&self, py: Python<'_>, names: Option<Vec<String>>, configs: bool) -> PyResult<Call> {
        guarded(|| {
            self.run(py, move |mut operations| async move {
                let names: Option<Vec<KafkaString>> =
                    names.map(|names| names.iter().map(|name| name.as_str().into()).collect());
                let metadata = operations.metadata(names.as_deref()).await?;
                describe(&mut operations, metadata, configs).await
            })
        })
    }

    /// Makes a topic.
    fn create_topic(
        &self,
        py: Python<'_>,
        name: String,
        partitions: Option<i32>,
        replication: Option<i16>,
        configs: Vec<(String, String)>,
    ) -> PyResult<Call> {
        guarded(|| {
            self.run(py, move |mut operations| async move {
                let configs: Vec<(KafkaString, KafkaString)> = configs
                    .iter()
                    .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
                    .collect();
                let name = KafkaString::from(name.as_str());
                operations.create_topic(&name, partitions, replication, &configs).await.map(drop)
            })
        })
    }

    /// Deletes a topic.
    fn delete_topic(&self, py: Python<'_>, name: String) -> PyResult<Call> {
        guarded(|| {
            self.run(py, move |mut operations| async move {
                operations.delete_topic(&name.as_str().into()).await
            })
        })
    }

    /// Adds partitions to a topic, or changes its settings.
    fn alter_topic(
        &self,
        py: Python<'_>,
        name: String,
        partitions: Option<i32>,
        configs: Vec<(String, Option<String>)>,
    ) -> PyResult<Call> {
        guarded(|| {
            self.run(py, move |mut operations| async move {
                let configs: Vec<(KafkaString, Option<KafkaString>)> = configs
                    .iter()
                    .map(|(name, value)| (name.as_str().into(), value.as_deref().map(Into::into)))
                    .collect();
                operations.alter_topic(&name.as_str().into(), partitions, &configs).await
            })
        })
    }

    /// Lists groups: name, state, type, protocol, coordinator.
    fn groups(&self, py: Python<'_>) -> PyResult<Call> {
        guarded(|| {
            self.run(py, |mut operations| async move {
                let listed = operations.groups().await?.into_iter().map(|(group, node)| {
                    let (name, state) = (group.group_id.to_string(), group.group_state.to_string());
                    let kind = group.group_type.to_string();
                    (name, state, kind, group.protocol_type.to_string(), node.0)
                });
                Ok(listed.collect::<Vec<_>>())
            })
        })
    }

    /// Describes a group.
    fn group(&self, py: Python<'_>, name: String) -> PyResult<Call> {
        guarded(|| {
            self.run(py, move |mut operations| async move {
                describe_group(&mut operations, &name.as_str().into()).await
            })
        })
    }

    /// Deletes a group.
    fn delete_group(&self, py: Python<'_>, name: String) -> PyResult<Call> {
        guarded(|| {
            self.run(py, move |mut operations| async move {
                operations.delete_group(&name.as_str().into()).await
            })
        })
    }

    /// Stores other offsets for a group, or tells what it would store.
    fn reset_offsets(
        &self,
        py: Python<'_>,
        group: String,
        topics: BTreeMap<String, Option<Vec<i32>>>,
        target: (String, i64),
        dry_run: bool,
    ) -> PyResult<Call> {
        guarded(|| {
            let target = match (target.0.as_str(), target.1) {
                ("earliest", _) => ResetTarget::Earliest,
                ("latest", _) => ResetTarget::Latest,
                ("offset", offset) => ResetTarget::Offset(offset),
                ("time", millis) => ResetTarget::Time(millis),
                ("shift", count) => ResetTarget::Shift(count),
                (other, _) => {
                    return Err(PyValueError::new_err(format!("{other} is no place in a topic")));
                }
            };
            self.run(py, move |mut operations| async move {
                let group = KafkaString::from(group.as_str());
                let planned = plan(&mut operations, &group, topics, target).await?;
                if !dry_run && !planned.is_empty() {
                    operations.store(&group, &planned).await?;
                }
                let rows =
                    planned.into_iter().map(|row| (place(&row.place), row.before, row.after));
                Ok(rows.collect::<Vec<_>>())
            })
        })
    }

    /// Tells what records of a topic may ask for.
    fn features(&self, py: Python<'_>, topic: String) -> PyResult<Call> {
        guarded(|| {
            self.run(py, move |mut operations| async move {
                operations.features(&topic.as_str().into()).await
            })
        })
    }

    /// Lists what waits: "scheduled" up to a time, "half", "parked" or "all".
    fn entries(
        &self,
        py: Python<'_>,
        topics: Option<Vec<String>>,
        which: &str,
        until: Option<i64>,
        limit: Option<usize>,
    ) -> PyResult<Call> {
        guarded(|| {
            let wanted = match which {
                "scheduled" => Wanted::Scheduled { until_ms: until.unwrap_or(i64::MAX) },
                "half" => Wanted::Half,
                "parked" => Wanted::Parked,
                "all" => Wanted::All,
                other => {
                    let message = format!("{other} is no kind of what waits");
                    return Err(PyValueError::new_err(message));
                }
            };
            self.run(py, move |mut operations| async move {
                let topics: Option<Vec<KafkaString>> =
                    topics.map(|topics| topics.iter().map(|topic| topic.as_str().into()).collect());
                let limit = limit.unwrap_or(usize::MAX);
                let found = operations.entries(topics.as_deref(), &wanted, limit).await?;
                Ok(found.iter().map(entry_told).collect::<Vec<_>>())
            })
        })
    }

    /// Tells how an entry stands, also one that has ended; none where nothing is known of it.
    fn entry(&self, py: Python<'_>, handle: (String, i32, i64)) -> PyResult<Call> {
        guarded(|| {
            self.run(py, move |mut operations| async move {
                let (place, name) = entry_name(&handle);
                let found = operations.entry(&place, &name).await?;
                Ok(found.as_ref().map(entry_told))
            })
        })
    }

    /// Does something to an entry. Answers the offset at which it was delivered where it is too late for that.
    fn alter_entry(
        &self,
        py: Python<'_>,
        handle: (String, i32, i64),
        operation: (String, i64),
    ) -> PyResult<Call> {
        guarded(|| {
            let alteration = match (operation.0.as_str(), operation.1) {
                ("cancel", _) => Alteration::Cancel,
                ("reschedule-at", millis) => Alteration::RescheduleAt(millis),
                ("reschedule-after", millis) => Alteration::RescheduleAfter(millis),
                ("deliver-now", _) => Alteration::DeliverNow,
                ("commit", _) => Alteration::Commit,
                ("rollback", _) => Alteration::Rollback,
                (other, _) => {
                    let message = format!("{other} is nothing to do with what waits");
                    return Err(PyValueError::new_err(message));
                }
            };
            self.run(py, move |mut operations| async move {
                let (place, name) = entry_name(&handle);
                let Err(refusal) = operations.alter_entry(&place, &name, alteration).await else {
                    return Ok(None);
                };
                if refusal.error.refused_with() == Some(ErrorCode::InvalidRecord)
                    && let Some(offset) = operations.delivered_at(&place, &name).await?
                {
                    return Ok(Some(offset));
                }
                Err(refusal)
            })
        })
    }

    /// Describes the cluster: its id, the controller, and the brokers.
    fn cluster(&self, py: Python<'_>) -> PyResult<Call> {
        guarded(|| {
            self.run(py, |mut operations| async move {
                let found = operations.cluster(false).await?;
                let brokers = found.brokers.iter().map(|broker| {
                    let rack = broker.rack.as_ref().map(ToString::to_string);
                    (broker.broker_id, broker.host.to_string(), broker.port, rack)
                });
                let brokers: Vec<_> = brokers.collect();
                Ok((found.cluster_id.to_string(), found.controller_id, brokers))
            })
        })
    }

    /// Describes the log directories of all brokers.
    fn log_dirs(&self, py: Python<'_>) -> PyResult<Call> {
        guarded(|| {
            self.run(py, |mut operations| async move {
                let mut told: Vec<LogDirTold> = Vec::new();
                for (node, directory) in operations.log_dirs().await? {
                    if let Some(error) = ClientError::from_code(directory.error_code) {
                        return Err(About::Cluster.refused(error));
                    }
                    let known = |bytes: i64| Some(bytes).filter(|bytes| *bytes >= 0);
                    let mut logs = Vec::new();
                    for topic in &directory.topics {
                        logs.extend(topic.partitions.iter().map(|log| {
                            (topic.name.to_string(), log.partition_index, log.partition_size)
                        }));
                    }
                    let (total, usable) =
                        (known(directory.total_bytes), known(directory.usable_bytes));
                    told.push((node.0, directory.log_dir.to_string(), total, usable, logs));
                }
                Ok(told)
            })
        })
    }
}

impl Admin {
    /// Starts an operation.
    fn run<T, F>(
        &self,
        py: Python<'_>,
        operation: impl FnOnce(Operations<Administrator>) -> F,
    ) -> PyResult<Call>
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        self.generation.check(py, "Admin")?;
        Ok(Call::new(self.administrator.run(operation), |py, answer| match answer {
            Ok(told) => told.into_py_any(py),
            Err(refusal) => Err(refused(py, &refusal)),
        }))
    }
}

/// Makes the error of a refusal.
pub(crate) fn refused(py: Python<'_>, Refusal { about, error }: &Refusal) -> PyErr {
    let context = match about {
        About::Cluster => Vec::new(),
        About::Topic(topic) => vec![("topic", topic.to_string())],
        About::Partition((topic, partition)) => {
            vec![("topic", topic.to_string()), ("partition", partition.0.to_string())]
        }
        About::Group(group) => vec![("group", group.to_string())],
    };
    client_error(py, error, &context)
}

fn entry_name((topic, partition, ticket): &(String, i32, i64)) -> (Place, EntryName) {
    let place = (topic.as_str().into(), PartitionIndex(*partition));
    (place, EntryName::Ticket(Offset(*ticket)))
}

fn entry_told(entry: &Entry) -> EntryTold {
    let (topic, partition) = place(&entry.place);
    (
        topic,
        partition,
        entry.ticket.0,
        entry.due_ms,
        entry.id.as_ref().map(|id| id.to_vec()),
        entry.size,
        entry.state.name(),
        entry.checks,
        entry.offset.map(|offset| offset.0),
    )
}

fn place((topic, partition): &Place) -> (String, i32) {
    (topic.to_string(), partition.0)
}

/// Tells what there is to know of topics. Sizes and offsets that cannot be told at present are none.
async fn describe(
    operations: &mut Operations<Administrator>,
    metadata: MetadataResponse,
    configs: bool,
) -> Result<Vec<TopicTold>, Refusal> {
    for topic in &metadata.topics {
        if let Some(error) = ClientError::from_code(topic.error_code) {
            let name = topic.name.clone().unwrap_or_default();
            return Err(About::Topic(name).refused(error));
        }
    }
    let ends = operations.ends(&leaders(&metadata.topics)).await?;
    // A broker that does not tell them, or allow it, is no reason to tell nothing.
    let directories = operations.log_dirs().await.unwrap_or_default();
    let mut sizes: BTreeMap<(&str, i32), i64> = BTreeMap::new();
    for topic in directories.iter().flat_map(|(_, directory)| &directory.topics) {
        for log in &topic.partitions {
            let size = sizes.entry((topic.name.as_str(), log.partition_index)).or_default();
            *size = (*size).max(log.partition_size);
        }
    }
    let mut told = Vec::new();
    for topic in &metadata.topics {
        let name = topic.name.clone().unwrap_or_default();
        let mut partitions: Vec<PartitionTold> = topic
            .partitions
            .iter()
            .map(|partition| {
                let index = partition.partition_index;
                let found = ends.get(&(name.clone(), PartitionIndex(index)));
                (
                    index,
                    partition.leader_id,
                    partition.leader_epoch,
                    partition.replica_nodes.clone(),
                    partition.isr_nodes.clone(),
                    found.and_then(|ends| ends.start),
                    found.and_then(|ends| ends.end),
                    sizes.get(&(name.as_str(), index)).copied(),
                )
            })
            .collect();
        partitions.sort_by_key(|partition| partition.0);
        let set = if configs { operations.topic_configs(&name).await? } else { BTreeMap::new() };
        let id = topic.topic_id.to_string();
        told.push((name.to_string(), id, topic.is_internal, partitions, set));
    }
    told.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(told)
}

async fn describe_group(
    operations: &mut Operations<Administrator>,
    name: &KafkaString,
) -> Result<GroupTold, Refusal> {
    let found = operations.group(name).await?;
    let mut members: Vec<MemberTold> = Vec::new();
    for member in &found.described.members {
        let member_id = member.member_id.to_string();
        let places = found.assignments.get(&member_id).into_iter().flatten().map(place);
        members.push((
            member_id.clone(),
            member.group_instance_id.as_ref().map(ToString::to_string),
            member.client_id.to_string(),
            member.client_host.trim_start_matches('/').to_owned(),
            places.collect(),
        ));
    }
    members.sort();
    let progress = found.progress.into_iter().map(|row| {
        (
            place(&row.place),
            row.stored.as_ref().map(|stored| stored.offset.0),
            row.stored.as_ref().map(|stored| stored.metadata.to_string()),
            row.start,
            row.end,
            row.lag,
            row.member_id,
        )
    });
    Ok((
        found.described.group_state.to_string(),
        found.described.protocol_type.to_string(),
        found.described.protocol_data.to_string(),
        found.coordinator.0,
        members,
        progress.collect(),
    ))
}

/// Finds what a reset would store: in the partitions that are named, else in all that the group has
/// offsets of.
async fn plan(
    operations: &mut Operations<Administrator>,
    group: &KafkaString,
    topics: BTreeMap<String, Option<Vec<i32>>>,
    target: ResetTarget,
) -> Result<Vec<Planned>, Refusal> {
    let is_there = operations.check_empty(group).await?;
    if !is_there && topics.is_empty() {
        let error = ClientError::Broker(ErrorCode::GroupIdNotFound);
        return Err(About::Group(group.clone()).refused(error));
    }
    let stored = operations.stored(group).await?;
    let places = if topics.is_empty() {
        let all: BTreeSet<Place> = stored.keys().cloned().collect();
        operations.existing(&all).await?
    } else {
        places(operations, topics).await?
    };
    operations.plan_reset(target, &places, &stored).await
}

async fn places(
    operations: &mut Operations<Administrator>,
    topics: BTreeMap<String, Option<Vec<i32>>>,
) -> Result<BTreeMap<Place, NodeId>, Refusal> {
    let mut places = BTreeMap::new();
    for (name, partitions) in topics {
        let name = KafkaString::from(name.as_str());
        let topic = operations.topic(&name).await?;
        let known = leaders(std::slice::from_ref(&topic));
        let Some(partitions) = partitions else {
            places.extend(known);
            continue;
        };
        for partition in partitions {
            let place = (name.clone(), PartitionIndex(partition));
            let Some(leader) = known.get(&place) else {
                let message = format!("the topic has {} partitions, numbered from 0", known.len());
                let error = ClientError::Refused {
                    code: ErrorCode::UnknownTopicOrPartition,
                    message: message.as_str().into(),
                };
                return Err(About::Partition(place).refused(error));
            };
            places.insert(place, *leader);
        }
    }
    Ok(places)
}
