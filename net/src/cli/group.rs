//! `mainspring group`: lists, describes, resets and deletes consumer groups.

use std::collections::BTreeMap;

use mainspring_core::client::ClientError;
use mainspring_core::error::ErrorCode;
use serde::Serialize;

use super::connect::{self, Ended, Requests};
use super::failure::{Code, Failure};
use super::group_reset::{self, Reset};
use super::output::{Format, Output, Stop, Table};
use super::topic::{Common, confirm, operations, print};
use crate::client::operations::Operations;

/// What says that there is no such group.
const NO_GROUP: ClientError = ClientError::Broker(ErrorCode::GroupIdNotFound);

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
    let found = operations(common)?.groups().await.map_err(|ended| ended.of(what))?;
    let listed: Vec<Listed> = found
        .into_iter()
        .map(|(group, coordinator)| Listed {
            group_id: group.group_id.to_string(),
            state: group.group_state.to_string(),
            kind: group.group_type.to_string(),
            protocol_type: group.protocol_type.to_string(),
            coordinator: coordinator.0,
        })
        .collect();
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
    let mut groups = operations(common)?;
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

async fn describe_one(
    groups: &mut Operations<Requests>,
    what: &str,
    name: &str,
) -> Result<Described, Failure> {
    let found = groups.group(&name.into()).await.map_err(|ended| match &ended {
        Ended::Refused(refusal) if refusal.error == NO_GROUP => missing(what),
        Ended::Refused(_) | Ended::Failed(_) => ended.of(what),
    })?;
    let mut members = Vec::new();
    for member in &found.described.members {
        let member_id = member.member_id.to_string();
        let places = found.assignments.get(&member_id).into_iter().flatten();
        let shown = places.map(|(topic, partition)| PlaceShown {
            topic: topic.to_string(),
            partition: partition.0,
        });
        members.push(MemberShown {
            instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
            client_id: member.client_id.to_string(),
            host: member.client_host.trim_start_matches('/').to_owned(),
            partitions: shown.collect(),
            member_id,
        });
    }
    members.sort_by(|left, right| left.member_id.cmp(&right.member_id));
    let offsets = found.progress.into_iter().map(|row| Progress {
        group_id: name.to_owned(),
        topic: row.place.0.to_string(),
        partition: row.place.1.0,
        offset: row.stored.as_ref().map(|stored| stored.offset.0),
        leader_epoch: row
            .stored
            .as_ref()
            .map(|stored| stored.leader_epoch.0)
            .filter(|epoch| *epoch >= 0),
        metadata: row.stored.as_ref().map(|stored| stored.metadata.to_string()),
        start_offset: row.start,
        end_offset: row.end,
        lag: row.lag,
        member_id: row.member_id,
    });
    Ok(Described {
        group_id: name.to_owned(),
        state: found.described.group_state.to_string(),
        protocol_type: found.described.protocol_type.to_string(),
        assignor: found.described.protocol_data.to_string(),
        coordinator: found.coordinator.0,
        members,
        offsets: offsets.collect(),
    })
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
    let mut groups = operations(common)?;
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
    let mut groups = operations(common)?;
    for name in names {
        let what = format!("cannot delete the group {name}");
        let name = name.as_str().into();
        groups.delete_group(&name).await.map_err(|ended| ended.of(&what))?;
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
