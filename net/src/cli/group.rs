//! `mainspring group`: lists, describes, resets and deletes consumer groups.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mainspring_core::client::ClientError;
use mainspring_core::client::admin::{AdminTarget, CallId, describe_topics, list_offset};
use mainspring_core::client::group::StoredOffset;
use mainspring_core::client::group::assignor::read_assignment;
use mainspring_core::client::group::requests::{
    fetch_offsets, fetched_offsets, find_coordinator, found_coordinator,
};
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::error::ErrorCode;
use mainspring_core::ids::{NodeId, PartitionIndex};
use mainspring_core::wire::api::delete_groups::DeleteGroupsRequest;
use mainspring_core::wire::api::describe_groups::{DescribeGroupsRequest, DescribedGroup};
use mainspring_core::wire::api::list_groups::ListGroupsRequest;
use mainspring_core::wire::consumer_protocol::PROTOCOL_TYPE;
use mainspring_core::wire::{KafkaString, Request, Response};
use serde::Serialize;

use super::connect::{self, Requests, refused, strange};
use super::failure::{Code, Failure};
use super::group_reset::{self, Reset};
use super::output::{Format, Output, Stop, Table};
use super::topic::{Common, check, confirm, print};
use crate::rt;

/// Timestamps that stand for the ends of a log.
pub(super) const START: i64 = -2;
pub(super) const END: i64 = -1;
/// Pause before a coordinator that is not ready is asked again.
const PAUSE: Duration = Duration::from_millis(100);
/// State of a group that is not there.
const DEAD: &str = "Dead";

/// What to do with groups.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List groups
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show members, assignments and stored offsets of groups
    Describe {
        /// Their names
        #[arg(required = true)]
        groups: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Show how far groups are behind the ends of their partitions
    Lag {
        /// Their names
        #[arg(required = true)]
        groups: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Store other offsets for a group without members; asks first on a terminal, and needs --yes
    /// elsewhere
    Reset(Reset),
    /// Delete groups without members, with their offsets; asks first on a terminal, and needs --yes
    /// elsewhere
    Delete {
        /// Their names
        #[arg(required = true)]
        groups: Vec<String>,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<(), Stop> {
    connect::block_on(async move {
        match command {
            Command::List { common } => list(&common).await,
            Command::Describe { groups, common } => describe(&groups, &common).await,
            Command::Lag { groups, common } => lag(&groups, &common).await,
            Command::Reset(reset) => group_reset::run(&reset).await,
            Command::Delete { groups, yes, common } => delete(&groups, yes, &common).await,
        }
    })
}

/// Requests about groups.
pub(super) struct Groups {
    pub(super) requests: Requests,
    timeout: Duration,
}

impl Groups {
    pub(super) fn new(common: &Common) -> Result<Self, Failure> {
        Ok(Self {
            requests: Requests::new(&common.connection)?,
            timeout: common.connection.timeout()?,
        })
    }

    /// Asks the coordinator of a group, again where it is not ready or is another one by now. `said`
    /// finds what the answer says against it.
    pub(super) async fn ask(
        &mut self,
        what: &str,
        group: &str,
        request: impl Into<Request>,
        said: impl Fn(&Response) -> Option<ClientError>,
    ) -> Result<Response, Failure> {
        let request: Request = request.into();
        let tries = (self.timeout.as_millis() / PAUSE.as_millis()).max(1);
        let mut last = ClientError::TimedOut;
        for _ in 0..tries {
            let error = match self.coordinator(what, group).await? {
                Ok(node) => {
                    let target = AdminTarget::Node(node);
                    let response = self.requests.ask(what, target, request.clone()).await?;
                    match said(&response) {
                        None => return Ok(response),
                        Some(error) => error,
                    }
                }
                Err(error) => error,
            };
            if !error.is_retriable() {
                return Err(refused(what, &error, None));
            }
            last = error;
            rt::sleep(PAUSE).await;
        }
        Err(refused(what, &last, None))
    }

    pub(super) async fn coordinator(
        &mut self,
        what: &str,
        group: &str,
    ) -> Result<Result<NodeId, ClientError>, Failure> {
        let request = find_coordinator(&group.into());
        let response = self.requests.ask(what, AdminTarget::Any, request).await?;
        let Response::FindCoordinator(response) = response else { return Err(strange(what)) };
        Ok(found_coordinator(&response))
    }

    /// Describes a group; `None` where there is none.
    pub(super) async fn find(
        &mut self,
        what: &str,
        group: &str,
    ) -> Result<Option<DescribedGroup>, Failure> {
        let request = DescribeGroupsRequest {
            groups: vec![group.into()],
            ..DescribeGroupsRequest::default()
        };
        let missing = ErrorCode::GroupIdNotFound.code();
        let response = self
            .ask(what, group, request, |response| {
                let Response::DescribeGroups(response) = response else { return None };
                response
                    .groups
                    .first()
                    .filter(|group| group.error_code != missing)
                    .and_then(|group| ClientError::from_code(group.error_code))
            })
            .await?;
        let Response::DescribeGroups(mut response) = response else { return Err(strange(what)) };
        let found = response.groups.pop().ok_or_else(|| strange(what))?;
        let is_there = found.error_code != missing && found.group_state != DEAD;
        Ok(is_there.then_some(found))
    }

    /// Returns what a group has stored.
    pub(super) async fn stored(
        &mut self,
        what: &str,
        group: &str,
    ) -> Result<BTreeMap<Place, StoredOffset>, Failure> {
        let request = fetch_offsets(&group.into(), None, false);
        let response = self
            .ask(what, group, request, |response| {
                let Response::OffsetFetch(response) = response else { return None };
                fetched_offsets(response.clone()).err()
            })
            .await?;
        let Response::OffsetFetch(response) = response else { return Err(strange(what)) };
        let stored = fetched_offsets(response).map_err(|error| refused(what, &error, None))?;
        let mut found = BTreeMap::new();
        for (place, result) in stored {
            if let Some(offset) = result.map_err(|error| refused(what, &error, None))? {
                found.insert(place, offset);
            }
        }
        Ok(found)
    }

    /// Returns those of the partitions that there are.
    pub(super) async fn existing(
        &mut self,
        what: &str,
        places: &BTreeSet<Place>,
    ) -> Result<BTreeSet<Place>, Failure> {
        let names: BTreeSet<&KafkaString> = places.iter().map(|(topic, _)| topic).collect();
        let names: Vec<KafkaString> = names.into_iter().cloned().collect();
        let request = describe_topics(Some(&names));
        let response = self.requests.ask(what, AdminTarget::Any, request).await?;
        let Response::Metadata(metadata) = response else { return Err(strange(what)) };
        let mut existing = BTreeSet::new();
        for topic in metadata.topics.iter().filter(|topic| topic.error_code == 0) {
            let Some(name) = &topic.name else { continue };
            for partition in &topic.partitions {
                existing.insert((name.clone(), PartitionIndex(partition.partition_index)));
            }
        }
        existing.retain(|place| places.contains(place));
        Ok(existing)
    }

    /// Asks for the offsets of partitions that a timestamp names, all at once.
    pub(super) async fn offsets_at(
        &mut self,
        what: &str,
        places: &BTreeSet<Place>,
        timestamp: i64,
    ) -> Result<BTreeMap<Place, Option<i64>>, Failure> {
        let mut asked: BTreeMap<CallId, Place> = BTreeMap::new();
        for place in places {
            let request = list_offset(place, timestamp);
            let target = AdminTarget::Leader(place.clone());
            asked.insert(self.requests.send(target, request), place.clone());
        }
        let mut offsets = BTreeMap::new();
        while !asked.is_empty() {
            let (call, result) = self.requests.answer().await?;
            let Some(place) = asked.remove(&call) else { continue };
            let response = result.map_err(|error| refused(what, &error, None))?;
            let Response::ListOffsets(response) = response else { return Err(strange(what)) };
            let found = response.topics.first().and_then(|topic| topic.partitions.first());
            let found = found.ok_or_else(|| strange(what))?;
            check(what, found.error_code, None)?;
            offsets.insert(place, Some(found.offset).filter(|offset| *offset >= 0));
        }
        Ok(offsets)
    }
}

#[derive(Serialize)]
struct Listed {
    group_id: String,
    state: String,
    #[serde(rename = "type")]
    kind: String,
    protocol_type: String,
    coordinator: i32,
}

async fn list(common: &Common) -> Result<(), Stop> {
    let what = "cannot list the groups";
    let mut groups = Groups::new(common)?;
    let response = groups.requests.ask(what, AdminTarget::Any, describe_topics(Some(&[]))).await?;
    let Response::Metadata(metadata) = response else { return Err(strange(what).into()) };
    let mut listed = Vec::new();
    for broker in &metadata.brokers {
        let target = AdminTarget::Node(NodeId(broker.node_id));
        let response = groups.requests.ask(what, target, ListGroupsRequest::default()).await?;
        let Response::ListGroups(response) = response else { return Err(strange(what).into()) };
        check(what, response.error_code, None)?;
        listed.extend(response.groups.into_iter().map(|group| Listed {
            group_id: group.group_id.to_string(),
            state: group.group_state.to_string(),
            kind: group.group_type.to_string(),
            protocol_type: group.protocol_type.to_string(),
            coordinator: broker.node_id,
        }));
    }
    listed.sort_by(|left, right| left.group_id.cmp(&right.group_id));
    print(&listed, common.output, &["group", "state", "type", "protocol"], |group| {
        let protocol = or_dash(&group.protocol_type);
        vec![group.group_id.clone(), or_dash(&group.state), or_dash(&group.kind), protocol]
    })
}

#[derive(Serialize)]
struct Described {
    group_id: String,
    state: String,
    protocol_type: String,
    assignor: String,
    coordinator: i32,
    members: Vec<MemberShown>,
    offsets: Vec<Progress>,
}

#[derive(Serialize)]
struct MemberShown {
    member_id: String,
    instance_id: Option<String>,
    client_id: String,
    host: String,
    partitions: Vec<PlaceShown>,
}

#[derive(Serialize)]
struct PlaceShown {
    topic: String,
    partition: i32,
}

/// How far a group has come in a partition.
#[derive(Serialize)]
struct Progress {
    group_id: String,
    topic: String,
    partition: i32,
    /// The stored offset; none where the group has stored none.
    offset: Option<i64>,
    leader_epoch: Option<i32>,
    metadata: Option<String>,
    start_offset: Option<i64>,
    end_offset: Option<i64>,
    /// Records that can be read and are not below the stored offset; none where no offset is
    /// stored, or the partition is gone.
    lag: Option<i64>,
    member_id: Option<String>,
}

async fn describe(names: &[String], common: &Common) -> Result<(), Stop> {
    let mut groups = Groups::new(common)?;
    let mut described = Vec::new();
    for name in names {
        let what = format!("cannot describe the group {name}");
        described.push(describe_one(&mut groups, &what, name).await?);
    }
    let mut output = Output::new();
    match common.output {
        Format::Json => output.json(&described)?,
        Format::Jsonl => {
            for group in &described {
                output.json(group)?;
            }
        }
        Format::Table => {
            for (index, group) in described.iter().enumerate() {
                if index > 0 {
                    output.line("")?;
                }
                describe_as_table(group, &mut output)?;
            }
        }
    }
    output.flush()
}

async fn describe_one(groups: &mut Groups, what: &str, name: &str) -> Result<Described, Failure> {
    let found = groups.find(what, name).await?.ok_or_else(|| missing(what))?;
    let coordinator = groups.coordinator(what, name).await?;
    let coordinator = coordinator.map_err(|error| refused(what, &error, None))?;
    let mut members = Vec::new();
    let mut readers: BTreeMap<Place, String> = BTreeMap::new();
    for member in &found.members {
        // Groups of other protocols have assignments of their own form.
        let places = if found.protocol_type == PROTOCOL_TYPE {
            read_assignment(member.member_assignment.clone()).unwrap_or_default()
        } else {
            BTreeSet::new()
        };
        let member_id = member.member_id.to_string();
        let shown = places.iter().map(|(topic, partition)| PlaceShown {
            topic: topic.to_string(),
            partition: partition.0,
        });
        members.push(MemberShown {
            member_id: member_id.clone(),
            instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
            client_id: member.client_id.to_string(),
            host: member.client_host.trim_start_matches('/').to_owned(),
            partitions: shown.collect(),
        });
        readers.extend(places.into_iter().map(|place| (place, member_id.clone())));
    }
    members.sort_by(|left, right| left.member_id.cmp(&right.member_id));
    Ok(Described {
        group_id: name.to_owned(),
        state: found.group_state.to_string(),
        protocol_type: found.protocol_type.to_string(),
        assignor: found.protocol_data.to_string(),
        coordinator: coordinator.0,
        members,
        offsets: lags(groups, what, name, &readers).await?,
    })
}

/// Finds how far a group has come. Stored offsets are asked for before the ends, so that none is
/// above its end for having been asked for later.
async fn lags(
    groups: &mut Groups,
    what: &str,
    name: &str,
    readers: &BTreeMap<Place, String>,
) -> Result<Vec<Progress>, Failure> {
    let stored = groups.stored(what, name).await?;
    let places: BTreeSet<Place> = stored.keys().chain(readers.keys()).cloned().collect();
    let existing = groups.existing(what, &places).await?;
    let starts = groups.offsets_at(what, &existing, START).await?;
    let ends = groups.offsets_at(what, &existing, END).await?;
    let rows = places.into_iter().map(|place| {
        let found = stored.get(&place);
        let offset = found.map(|stored| stored.offset.0);
        let start = starts.get(&place).copied().flatten();
        let end = ends.get(&place).copied().flatten();
        Progress {
            group_id: name.to_owned(),
            topic: place.0.to_string(),
            partition: place.1.0,
            offset,
            leader_epoch: found.map(|stored| stored.leader_epoch.0).filter(|epoch| *epoch >= 0),
            metadata: found.map(|stored| stored.metadata.to_string()),
            start_offset: start,
            end_offset: end,
            lag: lag_of(offset, start, end),
            member_id: readers.get(&place).cloned(),
        }
    });
    Ok(rows.collect())
}

/// Counts what can be read and is not below the stored offset: never below 0, and nothing that is
/// gone.
fn lag_of(offset: Option<i64>, start: Option<i64>, end: Option<i64>) -> Option<i64> {
    let (offset, end) = (offset?, end?);
    Some((end - offset.max(start.unwrap_or(0))).max(0))
}

fn describe_as_table(group: &Described, output: &mut Output) -> Result<(), Stop> {
    let Described { group_id, state, coordinator, .. } = group;
    let assignor = match group.assignor.as_str() {
        "" => String::new(),
        name => format!(", {name}"),
    };
    output.line(&format!("group {group_id} ({state}{assignor}, coordinator {coordinator})"))?;
    if !group.members.is_empty() {
        let mut table = Table::new(&["member", "instance", "client", "host", "partitions"]);
        for member in &group.members {
            let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for place in &member.partitions {
                topics.entry(&place.topic).or_default().push(place.partition.to_string());
            }
            let partitions: Vec<String> =
                topics.iter().map(|(topic, list)| format!("{topic}:{}", list.join(","))).collect();
            table.row([
                member.member_id.clone(),
                or_dash(member.instance_id.as_deref().unwrap_or_default()),
                member.client_id.clone(),
                member.host.clone(),
                or_dash(&partitions.join(" ")),
            ]);
        }
        output.line(&table.to_string())?;
    }
    if group.offsets.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["topic", "partition", "offset", "end", "lag", "member"]);
    for lag in &group.offsets {
        table.row(cells(lag));
    }
    output.line(&table.to_string())
}

fn cells(lag: &Progress) -> Vec<String> {
    let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |at| at.to_string());
    vec![
        lag.topic.clone(),
        lag.partition.to_string(),
        number(lag.offset),
        number(lag.end_offset),
        number(lag.lag),
        or_dash(lag.member_id.as_deref().unwrap_or_default()),
    ]
}

async fn lag(names: &[String], common: &Common) -> Result<(), Stop> {
    let mut groups = Groups::new(common)?;
    let mut rows = Vec::new();
    for name in names {
        let what = format!("cannot tell the lag of the group {name}");
        rows.extend(describe_one(&mut groups, &what, name).await?.offsets);
    }
    let columns = ["group", "topic", "partition", "offset", "end", "lag", "member"];
    print(&rows, common.output, &columns, |lag| [vec![lag.group_id.clone()], cells(lag)].concat())
}

async fn delete(names: &[String], yes: bool, common: &Common) -> Result<(), Stop> {
    #[derive(Serialize)]
    struct Deleted<'a> {
        group_id: &'a str,
    }
    confirm(yes, &format!("delete {}", names.join(", ")), "with all stored offsets")?;
    let mut groups = Groups::new(common)?;
    for name in names {
        let what = format!("cannot delete the group {name}");
        let request = DeleteGroupsRequest { groups_names: vec![name.as_str().into()] };
        groups
            .ask(&what, name, request, |response| {
                let Response::DeleteGroups(response) = response else { return None };
                response
                    .results
                    .first()
                    .and_then(|result| ClientError::from_code(result.error_code))
            })
            .await?;
    }
    if common.output == Format::Table {
        return Ok(());
    }
    let deleted: Vec<Deleted<'_>> = names.iter().map(|name| Deleted { group_id: name }).collect();
    print(&deleted, common.output, &["group"], |deleted| vec![deleted.group_id.to_owned()])
}

/// A group that is not there.
pub(super) fn missing(what: &str) -> Failure {
    let next = "see mainspring group list for those that there are";
    Failure::new(Code::NotFound, what, "there is no such group", next)
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
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
}
