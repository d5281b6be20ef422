//! What administrators do with topics and groups: the requests it takes, in their order, and what the
//! answers mean. The command line and the Python package do the same by it.
//!
//! Nothing here is printed and no text is parsed. An answer that refuses ends the operation as a
//! [`Refusal`], which says what it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mainspring_core::client::ClientError;
use mainspring_core::client::admin::{
    AdminTarget, alter_topic_configs, create_partitions, create_topic, delete_topic,
    describe_topic_configs, describe_topics,
};
use mainspring_core::client::group::StoredOffset;
use mainspring_core::client::group::assignor::read_assignment;
use mainspring_core::client::group::requests::{
    commit_error, commit_offsets, fetch_offsets, fetched_offsets, find_coordinator,
    found_coordinator,
};
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::error::ErrorCode;
use mainspring_core::ids::{NodeId, Offset, PartitionIndex};
use mainspring_core::wire::api::create_topics::CreatableTopicResult;
use mainspring_core::wire::api::delete_groups::DeleteGroupsRequest;
use mainspring_core::wire::api::describe_cluster::{
    DescribeClusterRequest, DescribeClusterResponse,
};
use mainspring_core::wire::api::describe_groups::{DescribeGroupsRequest, DescribedGroup};
use mainspring_core::wire::api::describe_log_dirs::{
    DescribeLogDirsRequest, DescribeLogDirsResult,
};
use mainspring_core::wire::api::list_groups::{ListGroupsRequest, ListedGroup};
use mainspring_core::wire::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use mainspring_core::wire::api::metadata::{MetadataResponse, MetadataResponseTopic};
use mainspring_core::wire::consumer_protocol::PROTOCOL_TYPE;
use mainspring_core::wire::{KafkaString, Request, Response};

use crate::rt;

/// Timestamp that asks for the start of a log.
pub const START: i64 = -2;
/// Timestamp that asks for the end of a log.
pub const END: i64 = -1;
/// Pause before a coordinator that is not ready is asked again.
const PAUSE: Duration = Duration::from_millis(100);
/// State of a group that is not there.
const DEAD: &str = "Dead";
/// State of a group that has offsets and no members.
const EMPTY: &str = "Empty";
/// Where the value of a setting comes from: it was set for the topic.
const SET_FOR_TOPIC: i8 = 1;

/// What was refused, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What it is about.
    pub about: About,
    /// Why.
    pub error: ClientError,
}

/// What an operation is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum About {
    /// The cluster.
    Cluster,
    /// A topic.
    Topic(KafkaString),
    /// A partition.
    Partition(Place),
    /// A group.
    Group(KafkaString),
}

impl About {
    /// Says that a broker, or nobody, did what was asked.
    pub const fn refused(self, error: ClientError) -> Refusal {
        Refusal { about: self, error }
    }

    pub(super) fn strange(self) -> Refusal {
        self.refused(ClientError::Malformed("it is of another request".to_owned()))
    }

    /// Fails where a code says that something went wrong.
    pub(super) fn check(self, code: i16, message: Option<&KafkaString>) -> Result<(), Refusal> {
        match ClientError::from_answer(code, message.map(KafkaString::as_str)) {
            None => Ok(()),
            Some(error) => Err(self.refused(error)),
        }
    }
}

/// Sends requests for the operations.
pub trait Asks: Send {
    /// What ends an operation.
    type Failure: From<Refusal> + Send;

    /// Sends requests and waits for all answers, which come in the order of the requests.
    fn ask_all(
        &mut self,
        requests: Vec<(AdminTarget, Request)>,
    ) -> impl Future<Output = Result<Vec<Result<Response, ClientError>>, Self::Failure>> + Send;
}

/// A topic's partitions and where the records of each begin and end.
#[derive(Clone, Debug)]
pub struct Ends {
    /// The first offset, `None` where it cannot be told at present.
    pub start: Option<i64>,
    /// The offset behind the last record that can be read.
    pub end: Option<i64>,
}

/// A group, its members and how far it has come.
#[derive(Clone, Debug)]
pub struct GroupFound {
    /// As its coordinator describes it.
    pub described: DescribedGroup,
    /// The broker that coordinates it.
    pub coordinator: NodeId,
    /// The partitions of each member by the member's id; none for groups of other protocols.
    pub assignments: BTreeMap<String, BTreeSet<Place>>,
    /// How far it has come.
    pub progress: Vec<Progress>,
}

/// How far a group has come in a partition.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The partition.
    pub place: Place,
    /// What is stored, if anything is.
    pub stored: Option<StoredOffset>,
    /// The first offset of the partition, `None` where it is gone.
    pub start: Option<i64>,
    /// The offset behind its last record that can be read.
    pub end: Option<i64>,
    /// Records that can be read and are not below the stored offset; none where no offset is stored,
    /// or the partition is gone.
    pub lag: Option<i64>,
    /// The member that reads it.
    pub member_id: Option<String>,
}

/// Where a group is to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResetTarget {
    /// At the first record there is.
    Earliest,
    /// Behind the last record.
    Latest,
    /// At this offset.
    Offset(i64),
    /// At the first record of this time or later, in Unix milliseconds.
    Time(i64),
    /// So many records onwards, or back where it is negative.
    Shift(i64),
}

impl ResetTarget {
    /// Reads `start`, `earliest`, `end`, `latest`, an offset, or as long ago as `-1h` says (s, m, h, d)
    /// at the time `now`; `None` for another text.
    pub fn parse(text: &str, now: i64) -> Option<Self> {
        match text {
            "start" | "earliest" => return Some(Self::Earliest),
            "end" | "latest" => return Some(Self::Latest),
            _ => {}
        }
        let Some(ago) = text.strip_prefix('-') else {
            return text.parse().ok().map(Self::Offset);
        };
        let unit = match ago.chars().last()? {
            's' => 1_000,
            'm' => 60_000,
            'h' => 3_600_000,
            'd' => 86_400_000,
            _ => return None,
        };
        let count = ago[..ago.len() - 1].parse::<i64>().ok().filter(|count| *count >= 0)?;
        Some(Self::Time(now.saturating_sub(count.saturating_mul(unit)).max(0)))
    }
}

/// An offset that a reset stores.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planned {
    /// The partition.
    pub place: Place,
    /// What is stored now.
    pub before: Option<i64>,
    /// What is to be stored, within the partition.
    pub after: i64,
}

/// Operations of an administrator, one at a time.
#[derive(Debug)]
pub struct Operations<A> {
    /// What sends the requests.
    pub asks: A,
    timeout: Duration,
}

impl<A: Asks> Operations<A> {
    /// Does nothing yet. A coordinator that is not ready is asked again for `timeout`.
    pub const fn new(asks: A, timeout: Duration) -> Self {
        Self { asks, timeout }
    }

    /// Returns how long operations may take.
    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) async fn ask(
        &mut self,
        about: &About,
        target: AdminTarget,
        request: impl Into<Request>,
    ) -> Result<Response, A::Failure> {
        let mut answers = self.asks.ask_all(vec![(target, request.into())]).await?;
        let answer = answers.pop().ok_or_else(|| about.clone().strange())?;
        Ok(answer.map_err(|error| about.clone().refused(error))?)
    }

    /// Asks about topics, all or those that are named, and the brokers.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn metadata(
        &mut self,
        names: Option<&[KafkaString]>,
    ) -> Result<MetadataResponse, A::Failure> {
        let about = About::Cluster;
        let response = self.ask(&about, AdminTarget::Any, describe_topics(names)).await?;
        let Response::Metadata(metadata) = response else { return Err(about.strange().into()) };
        Ok(metadata)
    }

    /// Finds a topic.
    ///
    /// # Errors
    /// There is none of that name, or no broker answers.
    pub async fn topic(&mut self, name: &KafkaString) -> Result<MetadataResponseTopic, A::Failure> {
        let about = About::Topic(name.clone());
        let metadata = self.metadata(Some(std::slice::from_ref(name))).await?;
        let found = metadata.topics.into_iter().find(|topic| topic.name.as_ref() == Some(name));
        let found = found.ok_or_else(|| about.clone().strange())?;
        about.check(found.error_code, None)?;
        Ok(found)
    }

    /// Finds the settings that were made for a topic.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn topic_configs(
        &mut self,
        name: &KafkaString,
    ) -> Result<BTreeMap<String, Option<String>>, A::Failure> {
        let about = About::Topic(name.clone());
        let request = describe_topic_configs(name.clone());
        let Response::DescribeConfigs(response) =
            self.ask(&about, AdminTarget::Any, request).await?
        else {
            return Err(about.strange().into());
        };
        let result = response.results.first().ok_or_else(|| about.clone().strange())?;
        about.check(result.error_code, result.error_message.as_ref())?;
        let set = result.configs.iter().filter(|config| config.config_source == SET_FOR_TOPIC);
        let text = |value: &KafkaString| value.to_string();
        Ok(set.map(|config| (text(&config.name), config.value.as_ref().map(text))).collect())
    }

    /// Makes a topic; the broker's defaults hold where no number is named.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn create_topic(
        &mut self,
        name: &KafkaString,
        partitions: Option<i32>,
        replication_factor: Option<i16>,
        configs: &[(KafkaString, KafkaString)],
    ) -> Result<CreatableTopicResult, A::Failure> {
        let about = About::Topic(name.clone());
        let request = create_topic(
            name.clone(),
            partitions.unwrap_or(-1),
            replication_factor.unwrap_or(-1),
            configs,
            self.timeout,
        );
        let Response::CreateTopics(mut response) =
            self.ask(&about, AdminTarget::Controller, request).await?
        else {
            return Err(about.strange().into());
        };
        let made = response.topics.pop().ok_or_else(|| about.clone().strange())?;
        about.check(made.error_code, made.error_message.as_ref())?;
        Ok(made)
    }

    /// Deletes a topic with all it holds.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn delete_topic(&mut self, name: &KafkaString) -> Result<(), A::Failure> {
        let about = About::Topic(name.clone());
        let request = delete_topic(name, self.timeout);
        let Response::DeleteTopics(response) =
            self.ask(&about, AdminTarget::Controller, request).await?
        else {
            return Err(about.strange().into());
        };
        let result = response.responses.first().ok_or_else(|| about.clone().strange())?;
        Ok(about.check(result.error_code, result.error_message.as_ref())?)
    }

    /// Changes settings of a topic, `None` for its default again, and then adds partitions up to a
    /// number.
    ///
    /// # Errors
    /// The broker's refusal; the settings may have been changed where it is about partitions.
    pub async fn alter_topic(
        &mut self,
        name: &KafkaString,
        partitions: Option<i32>,
        configs: &[(KafkaString, Option<KafkaString>)],
    ) -> Result<(), A::Failure> {
        let about = About::Topic(name.clone());
        if !configs.is_empty() {
            let request = alter_topic_configs(name.clone(), configs);
            let Response::IncrementalAlterConfigs(response) =
                self.ask(&about, AdminTarget::Controller, request).await?
            else {
                return Err(about.strange().into());
            };
            let result = response.responses.first().ok_or_else(|| about.clone().strange())?;
            about.clone().check(result.error_code, result.error_message.as_ref())?;
        }
        if let Some(count) = partitions {
            let request = create_partitions(name.clone(), count, self.timeout);
            let Response::CreatePartitions(response) =
                self.ask(&about, AdminTarget::Controller, request).await?
            else {
                return Err(about.strange().into());
            };
            let result = response.results.first().ok_or_else(|| about.clone().strange())?;
            about.check(result.error_code, result.error_message.as_ref())?;
        }
        Ok(())
    }

    /// Finds where partitions begin and end.
    ///
    /// # Errors
    /// No broker answers. A single partition that cannot be told about has no ends.
    pub async fn ends(
        &mut self,
        leaders: &BTreeMap<Place, NodeId>,
    ) -> Result<BTreeMap<Place, Ends>, A::Failure> {
        let starts = self.offsets_at(leaders, START).await?;
        let ends = self.offsets_at(leaders, END).await?;
        Ok(leaders
            .keys()
            .map(|place| {
                (place.clone(), Ends { start: told(&starts, place), end: told(&ends, place) })
            })
            .collect())
    }

    /// Asks how far readers of committed records may read (the last stable offsets); a partition that nobody
    /// can tell it of at present has `None`.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn stable_ends(
        &mut self,
        leaders: &BTreeMap<Place, NodeId>,
    ) -> Result<BTreeMap<Place, Option<i64>>, A::Failure> {
        let ends = self.offsets_of(leaders, END, true).await?;
        Ok(leaders.keys().map(|place| (place.clone(), told(&ends, place))).collect())
    }

    /// Asks the leaders of partitions for the offsets that a timestamp names; `None` where there is
    /// none.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn offsets_at(
        &mut self,
        leaders: &BTreeMap<Place, NodeId>,
        timestamp: i64,
    ) -> Result<BTreeMap<Place, Result<Option<i64>, ClientError>>, A::Failure> {
        self.offsets_of(leaders, timestamp, false).await
    }

    async fn offsets_of(
        &mut self,
        leaders: &BTreeMap<Place, NodeId>,
        timestamp: i64,
        is_committed: bool,
    ) -> Result<BTreeMap<Place, Result<Option<i64>, ClientError>>, A::Failure> {
        let mut by_leader: BTreeMap<NodeId, Vec<&Place>> = BTreeMap::new();
        let mut offsets = BTreeMap::new();
        for (place, leader) in leaders {
            if leader.0 < 0 {
                let error = ClientError::Broker(ErrorCode::LeaderNotAvailable);
                offsets.insert(place.clone(), Err(error));
            } else {
                by_leader.entry(*leader).or_default().push(place);
            }
        }
        let requests = by_leader
            .iter()
            .map(|(leader, places)| {
                (AdminTarget::Node(*leader), list_offsets(places, timestamp, is_committed))
            })
            .collect();
        let answers = self.asks.ask_all(requests).await?;
        for (places, answer) in by_leader.into_values().zip(answers) {
            let found = match answer {
                Ok(Response::ListOffsets(response)) => Ok(response),
                Ok(_) => Err(About::Cluster.strange().error),
                Err(error) => Err(error),
            };
            for place in places {
                let told = found.as_ref().map_err(Clone::clone).and_then(|response| {
                    let topics = response.topics.iter().filter(|topic| topic.name == place.0);
                    let partition = topics
                        .flat_map(|topic| &topic.partitions)
                        .find(|partition| partition.partition_index == place.1.0)
                        .ok_or_else(|| About::Cluster.strange().error)?;
                    match ClientError::from_code(partition.error_code) {
                        Some(error) => Err(error),
                        None => Ok(Some(partition.offset).filter(|offset| *offset >= 0)),
                    }
                });
                offsets.insert(place.clone(), told);
            }
        }
        Ok(offsets)
    }

    /// The same, where one that cannot be told ends the operation.
    async fn all_offsets_at(
        &mut self,
        leaders: &BTreeMap<Place, NodeId>,
        timestamp: i64,
    ) -> Result<BTreeMap<Place, Option<i64>>, A::Failure> {
        let mut offsets = BTreeMap::new();
        for (place, told) in self.offsets_at(leaders, timestamp).await? {
            let told = told.map_err(|error| About::Partition(place.clone()).refused(error))?;
            offsets.insert(place, told);
        }
        Ok(offsets)
    }

    /// Returns those of the partitions that there are, with their leaders.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn existing(
        &mut self,
        places: &BTreeSet<Place>,
    ) -> Result<BTreeMap<Place, NodeId>, A::Failure> {
        if places.is_empty() {
            return Ok(BTreeMap::new());
        }
        let names: BTreeSet<&KafkaString> = places.iter().map(|(topic, _)| topic).collect();
        let names: Vec<KafkaString> = names.into_iter().cloned().collect();
        let metadata = self.metadata(Some(&names)).await?;
        let mut existing = leaders(&metadata.topics);
        existing.retain(|place, _| places.contains(place));
        Ok(existing)
    }

    /// Asks the coordinator of a group, again where it is not ready or is another one by now. `said`
    /// finds what the answer says against it.
    async fn ask_coordinator(
        &mut self,
        group: &KafkaString,
        request: impl Into<Request>,
        said: impl Fn(&Response) -> Option<ClientError> + Send,
    ) -> Result<Response, A::Failure> {
        let request: Request = request.into();
        let about = About::Group(group.clone());
        let tries = (self.timeout.as_millis() / PAUSE.as_millis()).max(1);
        let mut last = ClientError::TimedOut;
        for _ in 0..tries {
            let error = match self.coordinator(group).await? {
                Ok(node) => {
                    let target = AdminTarget::Node(node);
                    let response = self.ask(&about, target, request.clone()).await?;
                    match said(&response) {
                        None => return Ok(response),
                        Some(error) => error,
                    }
                }
                Err(error) => error,
            };
            if !error.is_retriable() {
                return Err(about.refused(error).into());
            }
            last = error;
            rt::sleep(PAUSE).await;
        }
        Err(about.refused(last).into())
    }

    async fn coordinator(
        &mut self,
        group: &KafkaString,
    ) -> Result<Result<NodeId, ClientError>, A::Failure> {
        let about = About::Group(group.clone());
        let response = self.ask(&about, AdminTarget::Any, find_coordinator(group)).await?;
        let Response::FindCoordinator(response) = response else {
            return Err(about.strange().into());
        };
        Ok(found_coordinator(&response))
    }

    /// Lists the groups of all brokers by their names, with their coordinators.
    ///
    /// # Errors
    /// A broker's refusal.
    pub async fn groups(&mut self) -> Result<Vec<(ListedGroup, NodeId)>, A::Failure> {
        let about = About::Cluster;
        let metadata = self.metadata(Some(&[])).await?;
        let mut listed = Vec::new();
        for broker in &metadata.brokers {
            let node = NodeId(broker.node_id);
            let request = ListGroupsRequest::default();
            let Response::ListGroups(response) =
                self.ask(&about, AdminTarget::Node(node), request).await?
            else {
                return Err(about.strange().into());
            };
            about.clone().check(response.error_code, None)?;
            listed.extend(response.groups.into_iter().map(|group| (group, node)));
        }
        listed.sort_by(|(left, _), (right, _)| left.group_id.cmp(&right.group_id));
        Ok(listed)
    }

    /// Describes a group; `None` where there is none.
    ///
    /// # Errors
    /// The coordinator's refusal.
    pub async fn find_group(
        &mut self,
        group: &KafkaString,
    ) -> Result<Option<DescribedGroup>, A::Failure> {
        let request = DescribeGroupsRequest {
            groups: vec![group.clone()],
            ..DescribeGroupsRequest::default()
        };
        let missing = ErrorCode::GroupIdNotFound.code();
        let response = self
            .ask_coordinator(group, request, |response| {
                let Response::DescribeGroups(response) = response else { return None };
                response
                    .groups
                    .first()
                    .filter(|group| group.error_code != missing)
                    .and_then(|group| ClientError::from_code(group.error_code))
            })
            .await?;
        let strange = || About::Group(group.clone()).strange();
        let Response::DescribeGroups(mut response) = response else {
            return Err(strange().into());
        };
        let found = response.groups.pop().ok_or_else(strange)?;
        let is_there = found.error_code != missing && found.group_state != DEAD;
        Ok(is_there.then_some(found))
    }

    /// Returns what a group has stored.
    ///
    /// # Errors
    /// The coordinator's refusal.
    pub async fn stored(
        &mut self,
        group: &KafkaString,
    ) -> Result<BTreeMap<Place, StoredOffset>, A::Failure> {
        let about = About::Group(group.clone());
        let request = fetch_offsets(group, None, false);
        let response = self
            .ask_coordinator(group, request, |response| {
                let Response::OffsetFetch(response) = response else { return None };
                fetched_offsets(response.clone()).err()
            })
            .await?;
        let Response::OffsetFetch(response) = response else { return Err(about.strange().into()) };
        let stored = fetched_offsets(response).map_err(|error| about.clone().refused(error))?;
        let mut found = BTreeMap::new();
        for (place, result) in stored {
            if let Some(offset) = result.map_err(|error| about.clone().refused(error))? {
                found.insert(place, offset);
            }
        }
        Ok(found)
    }

    /// Describes a group and how far it has come.
    ///
    /// # Errors
    /// There is none, or the coordinator's refusal.
    pub async fn group(&mut self, group: &KafkaString) -> Result<GroupFound, A::Failure> {
        let about = About::Group(group.clone());
        let missing = || about.clone().refused(ClientError::Broker(ErrorCode::GroupIdNotFound));
        let described = self.find_group(group).await?.ok_or_else(missing)?;
        let coordinator = self.coordinator(group).await?;
        let coordinator = coordinator.map_err(|error| about.clone().refused(error))?;
        let mut assignments = BTreeMap::new();
        let mut readers: BTreeMap<Place, String> = BTreeMap::new();
        for member in &described.members {
            // Groups of other protocols have assignments of their own form.
            let places = if described.protocol_type == PROTOCOL_TYPE {
                read_assignment(member.member_assignment.clone()).unwrap_or_default()
            } else {
                BTreeSet::new()
            };
            let member_id = member.member_id.to_string();
            readers.extend(places.iter().map(|place| (place.clone(), member_id.clone())));
            assignments.insert(member_id, places);
        }
        let progress = self.progress(group, &readers).await?;
        Ok(GroupFound { described, coordinator, assignments, progress })
    }

    /// Finds how far a group has come. Stored offsets are asked for before the ends, so that none is
    /// above its end for having been asked for later.
    async fn progress(
        &mut self,
        group: &KafkaString,
        readers: &BTreeMap<Place, String>,
    ) -> Result<Vec<Progress>, A::Failure> {
        let mut stored = self.stored(group).await?;
        let places: BTreeSet<Place> = stored.keys().chain(readers.keys()).cloned().collect();
        let existing = self.existing(&places).await?;
        let starts = self.all_offsets_at(&existing, START).await?;
        let ends = self.all_offsets_at(&existing, END).await?;
        let rows = places.into_iter().map(|place| {
            let stored = stored.remove(&place);
            let start = starts.get(&place).copied().flatten();
            let end = ends.get(&place).copied().flatten();
            let lag = lag_of(stored.as_ref().map(|stored| stored.offset.0), start, end);
            let member_id = readers.get(&place).cloned();
            Progress { place, stored, start, end, lag, member_id }
        });
        Ok(rows.collect())
    }

    /// Deletes a group that has no members, with its offsets.
    ///
    /// # Errors
    /// The coordinator's refusal.
    pub async fn delete_group(&mut self, group: &KafkaString) -> Result<(), A::Failure> {
        let request = DeleteGroupsRequest { groups_names: vec![group.clone()] };
        let deleted = self.ask_coordinator(group, request, |response| {
            let Response::DeleteGroups(response) = response else { return None };
            let result = response.results.first();
            result.and_then(|result| ClientError::from_code(result.error_code))
        });
        deleted.await.map(drop)
    }

    /// Fails where a group has members, so that its offsets cannot be set. One that is not there is
    /// made by its first offset; returns whether it is.
    ///
    /// # Errors
    /// It has members, or the coordinator's refusal.
    pub async fn check_empty(&mut self, group: &KafkaString) -> Result<bool, A::Failure> {
        let state = self.find_group(group).await?.map(|group| group.group_state);
        let Some(state) = state else { return Ok(false) };
        if state == EMPTY {
            return Ok(true);
        }
        let message =
            format!("its state is {state}: it has members, or will have some in a moment");
        let error = ClientError::Refused {
            code: ErrorCode::NonEmptyGroup,
            message: message.as_str().into(),
        };
        Err(About::Group(group.clone()).refused(error).into())
    }

    /// Finds what a reset would store, each offset within its partition.
    ///
    /// # Errors
    /// A shift where nothing is stored ([`ClientError::NoStoredOffset`]), or a broker's refusal.
    pub async fn plan_reset(
        &mut self,
        target: ResetTarget,
        places: &BTreeMap<Place, NodeId>,
        stored: &BTreeMap<Place, StoredOffset>,
    ) -> Result<Vec<Planned>, A::Failure> {
        let starts = self.all_offsets_at(places, START).await?;
        let ends = self.all_offsets_at(places, END).await?;
        let timed = match target {
            ResetTarget::Time(millis) => self.all_offsets_at(places, millis).await?,
            ResetTarget::Earliest
            | ResetTarget::Latest
            | ResetTarget::Offset(_)
            | ResetTarget::Shift(_) => BTreeMap::new(),
        };
        let mut planned = Vec::new();
        for place in places.keys() {
            let start = starts.get(place).copied().flatten().unwrap_or(0);
            let end = ends.get(place).copied().flatten().unwrap_or(start);
            let before = stored.get(place).map(|stored| stored.offset.0);
            let after = match target {
                ResetTarget::Earliest => start,
                ResetTarget::Latest => end,
                ResetTarget::Offset(offset) => offset,
                ResetTarget::Time(_) => timed.get(place).copied().flatten().unwrap_or(end),
                ResetTarget::Shift(count) => {
                    let Some(before) = before else {
                        let about = About::Partition(place.clone());
                        return Err(about.refused(ClientError::NoStoredOffset).into());
                    };
                    before.saturating_add(count)
                }
            };
            let after = after.max(start).min(end);
            planned.push(Planned { place: place.clone(), before, after });
        }
        Ok(planned)
    }

    /// Stores what was planned. The coordinator takes it while the group has no members.
    ///
    /// # Errors
    /// The coordinator's refusal.
    pub async fn store(
        &mut self,
        group: &KafkaString,
        planned: &[Planned],
    ) -> Result<(), A::Failure> {
        let offsets: BTreeMap<Place, StoredOffset> = planned
            .iter()
            .map(|row| (row.place.clone(), StoredOffset::from(Offset(row.after))))
            .collect();
        let request = commit_offsets(group, -1, KafkaString::default(), None, &offsets);
        let response = self
            .ask_coordinator(group, request, |response| {
                let Response::OffsetCommit(response) = response else { return None };
                let mut errors = offsets.keys().filter_map(|place| commit_error(response, place));
                errors.find(ClientError::is_retriable)
            })
            .await?;
        let Response::OffsetCommit(response) = response else {
            return Err(About::Group(group.clone()).strange().into());
        };
        for place in offsets.keys() {
            if let Some(error) = commit_error(&response, place) {
                return Err(About::Partition(place.clone()).refused(error).into());
            }
        }
        Ok(())
    }

    /// Describes the cluster with the nodes that live, and with those that are fenced where wanted.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn cluster(
        &mut self,
        include_fenced: bool,
    ) -> Result<DescribeClusterResponse, A::Failure> {
        let about = About::Cluster;
        let request = DescribeClusterRequest {
            include_fenced_brokers: include_fenced,
            ..DescribeClusterRequest::default()
        };
        let Response::DescribeCluster(response) =
            self.ask(&about, AdminTarget::Any, request).await?
        else {
            return Err(about.strange().into());
        };
        about.check(response.error_code, response.error_message.as_ref())?;
        Ok(response)
    }

    /// Describes the log directories of all brokers.
    ///
    /// # Errors
    /// A broker's refusal.
    pub async fn log_dirs(&mut self) -> Result<Vec<(NodeId, DescribeLogDirsResult)>, A::Failure> {
        let about = About::Cluster;
        let metadata = self.metadata(Some(&[])).await?;
        let mut found = Vec::new();
        for broker in &metadata.brokers {
            let node = NodeId(broker.node_id);
            let request = DescribeLogDirsRequest { topics: None };
            let Response::DescribeLogDirs(response) =
                self.ask(&about, AdminTarget::Node(node), request).await?
            else {
                return Err(about.strange().into());
            };
            about.clone().check(response.error_code, None)?;
            found.extend(response.results.into_iter().map(|directory| (node, directory)));
        }
        Ok(found)
    }
}

/// Returns the partitions of topics with their leaders, -1 for none.
pub fn leaders(topics: &[MetadataResponseTopic]) -> BTreeMap<Place, NodeId> {
    let mut leaders = BTreeMap::new();
    for topic in topics.iter().filter(|topic| topic.error_code == 0) {
        let Some(name) = &topic.name else { continue };
        for partition in &topic.partitions {
            let place = (name.clone(), PartitionIndex(partition.partition_index));
            leaders.insert(place, NodeId(partition.leader_id));
        }
    }
    leaders
}

/// Counts what can be read and is not below the stored offset: never below 0, and nothing that is
/// gone.
fn lag_of(offset: Option<i64>, start: Option<i64>, end: Option<i64>) -> Option<i64> {
    let (offset, end) = (offset?, end?);
    Some((end - offset.max(start.unwrap_or(0))).max(0))
}

/// Asks for the offsets of partitions, which are ordered by their topics.
/// Takes out what was told of a partition, `None` where nobody could.
fn told(offsets: &BTreeMap<Place, Result<Option<i64>, ClientError>>, place: &Place) -> Option<i64> {
    offsets.get(place).and_then(|told| told.clone().ok()).flatten()
}

fn list_offsets(places: &[&Place], timestamp: i64, is_committed: bool) -> Request {
    let mut topics: Vec<ListOffsetsTopic> = Vec::new();
    for (name, partition) in places {
        let partition = ListOffsetsPartition {
            partition_index: partition.0,
            timestamp,
            ..ListOffsetsPartition::default()
        };
        match topics.last_mut().filter(|last| last.name == *name) {
            Some(last) => last.partitions.push(partition),
            None => {
                topics.push(ListOffsetsTopic { name: name.clone(), partitions: vec![partition] });
            }
        }
    }
    let isolation_level = i8::from(is_committed);
    ListOffsetsRequest { replica_id: -1, isolation_level, topics, ..ListOffsetsRequest::default() }
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_what_can_be_read_and_never_negative() {
        for (offset, start, end, lag) in [
            (Some(3), Some(0), Some(10), Some(7)),
            (Some(10), Some(0), Some(10), Some(0)),
            // Committed above the end.
            (Some(15), Some(0), Some(10), Some(0)),
            // Retention has passed the group.
            (Some(3), Some(8), Some(10), Some(2)),
            (Some(3), Some(10), Some(10), Some(0)),
            (None, Some(0), Some(10), None),
            (Some(3), None, None, None),
        ] {
            assert_eq!(lag_of(offset, start, end), lag, "{offset:?} {start:?} {end:?}");
        }
    }

    #[test]
    fn places_to_reset_to_are_read_as_people_write_them() {
        for (text, target) in [
            ("start", ResetTarget::Earliest),
            ("end", ResetTarget::Latest),
            ("42", ResetTarget::Offset(42)),
            ("-1h", ResetTarget::Time(10_000_000 - 3_600_000)),
            ("-90s", ResetTarget::Time(10_000_000 - 90_000)),
            ("-400d", ResetTarget::Time(0)),
        ] {
            assert_eq!(ResetTarget::parse(text, 10_000_000), Some(target), "{text}");
        }
        for text in ["", "-", "-h", "-1", "-1y", "--1h", "now", "@"] {
            assert_eq!(ResetTarget::parse(text, 10_000_000), None, "{text}");
        }
    }

    #[test]
    fn partitions_of_a_topic_are_asked_for_in_one_request() {
        let place =
            |topic: &'static str, index| (KafkaString::from_static(topic), PartitionIndex(index));
        let places = [place("a", 0), place("a", 1), place("b", 0)];
        let places: Vec<&Place> = places.iter().collect();
        let Request::ListOffsets(request) = list_offsets(&places, END, false) else {
            panic!("it is the request that was made")
        };
        let shape: Vec<(&str, usize)> = request
            .topics
            .iter()
            .map(|topic| (topic.name.as_str(), topic.partitions.len()))
            .collect();
        assert_eq!(shape, [("a", 2), ("b", 1)]);
    }
}
