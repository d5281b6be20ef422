//! `mainspring topic`: lists, makes, describes, changes and deletes topics.

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Write};

use mainspring_core::client::ClientError;
use mainspring_core::client::admin::{AdminTarget, describe_topics, list_offset};
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::ids::PartitionIndex;
use mainspring_core::wire::api::list_offsets::ListOffsetsRequest;
use mainspring_core::wire::api::metadata::{MetadataResponse, MetadataResponseTopic};
use mainspring_core::wire::{KafkaString, Response};
use serde::Serialize;

use super::connect::{self, Connection, Requests, refused, strange, topic_name};
use super::failure::Failure;
use super::output::{Format, Output, Stop, Table};
use crate::client::operations::{Operations, leaders};

/// What to do with topics.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List topics
    List {
        /// Show the broker's own topics too
        #[arg(long)]
        internal: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Make a topic
    Create {
        /// Its name
        name: String,
        /// How many partitions it has [default: the broker's num.partitions]
        #[arg(short, long, value_name = "N")]
        partitions: Option<i32>,
        /// How many copies of each there are [default: the broker's]
        #[arg(short, long, value_name = "R")]
        replication: Option<i16>,
        /// Sets a setting of the topic
        #[arg(short, long, value_name = "KEY=VALUE")]
        config: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Show partitions, offsets and settings of topics
    Describe {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Add partitions, or change settings
    Alter {
        /// Its name
        name: String,
        /// How many partitions it shall have, more than it has
        #[arg(short, long, value_name = "N")]
        partitions: Option<i32>,
        /// Sets a setting
        #[arg(short, long, value_name = "KEY=VALUE")]
        config: Vec<String>,
        /// Takes a setting back to its default
        #[arg(long, value_name = "KEY")]
        delete_config: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Delete topics with all they hold; asks first on a terminal, and needs --yes elsewhere
    Delete {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// Flags of all these commands.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// What topics and groups are asked about with.
pub(crate) fn operations(common: &Common) -> Result<Operations<Requests>, Failure> {
    Ok(Operations::new(Requests::new(&common.connection)?, common.connection.timeout()?))
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<(), Stop> {
    connect::block_on(async move {
        match command {
            Command::List { internal, common } => list(internal, &common).await,
            Command::Create { name, partitions, replication, config, common } => {
                create(&name, partitions, replication, &config, &common).await
            }
            Command::Describe { names, common } => describe(&names, &common).await,
            Command::Alter { name, partitions, config, delete_config, common } => {
                alter(&name, partitions, &config, &delete_config, &common).await
            }
            Command::Delete { names, yes, common } => delete(&names, yes, &common).await,
        }
    })
}

#[derive(Serialize)]
struct Listed {
    name: String,
    partitions: usize,
    replication_factor: usize,
    internal: bool,
}

async fn list(internal: bool, common: &Common) -> Result<(), Stop> {
    let what = "cannot list the topics";
    let mut requests = Requests::new(&common.connection)?;
    let response = requests.ask(what, AdminTarget::Any, describe_topics(None)).await?;
    let Response::Metadata(metadata) = response else { return Err(strange(what).into()) };
    let mut topics: Vec<Listed> = metadata
        .topics
        .iter()
        .filter(|topic| internal || !topic.is_internal)
        .map(|topic| Listed {
            name: name_of(topic),
            partitions: topic.partitions.len(),
            replication_factor: replicas_of(topic),
            internal: topic.is_internal,
        })
        .collect();
    topics.sort_by(|left, right| left.name.cmp(&right.name));
    print(&topics, common.output, &["name", "partitions", "replicas"], |topic| {
        vec![topic.name.clone(), topic.partitions.to_string(), topic.replication_factor.to_string()]
    })
}

#[derive(Serialize)]
struct Made {
    name: String,
    topic_id: String,
    partitions: i32,
    replication_factor: i16,
}

async fn create(
    name: &str,
    partitions: Option<i32>,
    replication: Option<i16>,
    config: &[String],
    common: &Common,
) -> Result<(), Stop> {
    let what = format!("cannot make the topic {name}");
    let topic = topic_name(name)?;
    for (flag, count) in
        [("--partitions", partitions), ("--replication", replication.map(i32::from))]
    {
        if let Some(count) = count.filter(|count| *count < 1) {
            let next = format!("write it as {flag} 1, or leave it out for the broker's default");
            return Err(Failure::usage(what, format!("{flag} {count} is less than 1"), next).into());
        }
    }
    let configs = pairs(config)?;
    let mut topics = operations(common)?;
    let made = topics.create_topic(&topic, partitions, replication, &configs);
    let made = made.await.map_err(|ended| ended.of(&what))?;
    let made = Made {
        name: name.to_owned(),
        topic_id: made.topic_id.to_string(),
        partitions: made.num_partitions,
        replication_factor: made.replication_factor,
    };
    print(&[made], common.output, &["name", "partitions", "replicas", "id"], |made| {
        vec![
            made.name.clone(),
            made.partitions.to_string(),
            made.replication_factor.to_string(),
            made.topic_id.clone(),
        ]
    })
}

#[derive(Serialize)]
struct Described {
    name: String,
    topic_id: String,
    internal: bool,
    replication_factor: usize,
    partitions: Vec<Partition>,
    /// Settings that were made for the topic; all others have their defaults.
    configs: BTreeMap<String, Option<String>>,
}

#[derive(Serialize)]
struct Partition {
    #[serde(rename = "partition")]
    index: i32,
    leader: i32,
    leader_epoch: i32,
    replicas: Vec<i32>,
    isr: Vec<i32>,
    start_offset: Option<i64>,
    end_offset: Option<i64>,
    /// How far readers of committed records may read.
    last_stable_offset: Option<i64>,
    /// Whose open transaction keeps them from the end.
    held_by: Option<HeldBy>,
}

#[derive(Serialize)]
struct HeldBy {
    producer_id: i64,
    transactional_id: Option<String>,
    first_offset: i64,
}

async fn describe(names: &[String], common: &Common) -> Result<(), Stop> {
    let mut operations = operations(common)?;
    let topics = find(&mut operations.asks, names, "cannot describe").await?;
    let mut described = Vec::new();
    for topic in &topics {
        described.push(describe_one(&mut operations, topic).await?);
    }
    let mut output = Output::new();
    match common.output {
        Format::Json => output.json(&described)?,
        Format::Jsonl => {
            for topic in &described {
                output.json(topic)?;
            }
        }
        Format::Table => {
            for (index, topic) in described.iter().enumerate() {
                if index > 0 {
                    output.line("")?;
                }
                describe_as_table(topic, &mut output)?;
            }
        }
    }
    output.flush()
}

fn describe_as_table(topic: &Described, output: &mut Output) -> Result<(), Stop> {
    output.line(&format!("topic {} ({})", topic.name, topic.topic_id))?;
    let offset = |offset: Option<i64>| offset.map_or_else(|| "-".to_owned(), |at| at.to_string());
    let nodes = |nodes: &[i32]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let columns = ["partition", "leader", "epoch", "replicas", "isr", "start", "end", "stable"];
    let mut table = Table::new(&columns);
    for one in &topic.partitions {
        table.row([
            one.index.to_string(),
            one.leader.to_string(),
            one.leader_epoch.to_string(),
            nodes(&one.replicas),
            nodes(&one.isr),
            offset(one.start_offset),
            offset(one.end_offset),
            offset(one.last_stable_offset),
        ]);
    }
    output.line(&table.to_string())?;
    for one in &topic.partitions {
        let Some(held) = &one.held_by else { continue };
        let id = held.transactional_id.as_deref();
        let whose = match id {
            Some(id) => format!("the transaction of {id}"),
            None => "a transaction that no coordinator knows".to_owned(),
        };
        output.line(&format!(
            "partition {}: {whose} (producer {}) is open since offset {}; readers of committed records wait there",
            one.index, held.producer_id, held.first_offset
        ))?;
    }
    for (name, value) in &topic.configs {
        output.line(&format!("{name}={}", value.as_deref().unwrap_or_default()))?;
    }
    Ok(())
}

async fn describe_one(
    operations: &mut Operations<Requests>,
    topic: &MetadataResponseTopic,
) -> Result<Described, Failure> {
    let name = name_of(topic);
    let what = format!("cannot describe the topic {name}");
    let key: KafkaString = name.as_str().into();
    let mut partitions: Vec<Partition> = topic
        .partitions
        .iter()
        .map(|partition| Partition {
            index: partition.partition_index,
            leader: partition.leader_id,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.clone(),
            isr: partition.isr_nodes.clone(),
            start_offset: None,
            end_offset: None,
            last_stable_offset: None,
            held_by: None,
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);

    let configs = operations.topic_configs(&key).await.map_err(|ended| ended.of(&what))?;
    let leaders = leaders(std::slice::from_ref(topic));
    let ends = operations.ends(&leaders).await.map_err(|ended| ended.of(&what))?;
    for partition in &mut partitions {
        let found = ends.get(&(key.clone(), PartitionIndex(partition.index)));
        partition.start_offset = found.and_then(|ends| ends.start);
        partition.end_offset = found.and_then(|ends| ends.end);
    }
    let stable = operations.stable_ends(&leaders).await.map_err(|ended| ended.of(&what))?;
    for partition in &mut partitions {
        let place = (key.clone(), PartitionIndex(partition.index));
        partition.last_stable_offset = stable.get(&place).copied().flatten();
        let is_held = partition.last_stable_offset < partition.end_offset;
        let leader = leaders.get(&place).filter(|_| is_held);
        // What cannot be told of it is no reason not to show the rest.
        let Some(leader) = leader else { continue };
        let holder = operations.holder(&place, *leader).await.ok().flatten();
        partition.held_by = holder.map(|holder| HeldBy {
            producer_id: holder.producer_id,
            transactional_id: holder.transactional_id.map(|id| id.to_string()),
            first_offset: holder.first_offset,
        });
    }
    Ok(Described {
        topic_id: topic.topic_id.to_string(),
        internal: topic.is_internal,
        replication_factor: replicas_of(topic),
        name,
        partitions,
        configs,
    })
}

/// Asks for the offset of a partition that a timestamp names, among what `is_committed` if that is
/// said; `None` where there is none.
pub(crate) async fn offset_at(
    requests: &mut Requests,
    what: &str,
    place: Place,
    timestamp: i64,
    is_committed: bool,
) -> Result<Option<i64>, Failure> {
    let request = ListOffsetsRequest {
        isolation_level: i8::from(is_committed),
        ..list_offset(&place, timestamp)
    };
    let response = requests.ask(what, AdminTarget::Leader(place), request).await?;
    let Response::ListOffsets(response) = response else { return Err(strange(what)) };
    let found = response.topics.first().and_then(|topic| topic.partitions.first());
    let Some(found) = found else { return Err(strange(what)) };
    check(what, found.error_code, None)?;
    Ok(Some(found.offset).filter(|offset| *offset >= 0))
}

/// Finds topics by name, in the order of the names.
pub(crate) async fn find(
    requests: &mut Requests,
    names: &[String],
    verb: &str,
) -> Result<Vec<MetadataResponseTopic>, Failure> {
    let mut wanted = Vec::new();
    for name in names {
        wanted.push(topic_name(name)?);
    }
    let what = format!("{verb} {}", names.join(", "));
    let request = describe_topics(Some(&wanted));
    let response = requests.ask(&what, AdminTarget::Any, request).await?;
    let Response::Metadata(MetadataResponse { topics, .. }) = response else {
        return Err(strange(&what));
    };
    let mut found = Vec::new();
    for name in names {
        let what = format!("{verb} the topic {name}");
        let topic = topics.iter().find(|topic| name_of(topic) == *name);
        let Some(topic) = topic else { return Err(strange(&what)) };
        check(&what, topic.error_code, None)?;
        found.push(topic.clone());
    }
    Ok(found)
}

async fn alter(
    name: &str,
    partitions: Option<i32>,
    config: &[String],
    delete_config: &[String],
    common: &Common,
) -> Result<(), Stop> {
    let what = format!("cannot change the topic {name}");
    let topic = topic_name(name)?;
    let mut configs: Vec<(KafkaString, Option<KafkaString>)> =
        pairs(config)?.into_iter().map(|(key, value)| (key, Some(value))).collect();
    configs.extend(delete_config.iter().map(|key| (KafkaString::from(key.as_str()), None)));
    if partitions.is_none() && configs.is_empty() {
        let next = "add --partitions, --config or --delete-config";
        return Err(Failure::usage(what, "nothing to change was named", next).into());
    }
    let mut topics = operations(common)?;
    let altered = topics.alter_topic(&topic, partitions, &configs);
    altered.await.map_err(|ended| ended.of(&what))?;
    done(&[name.to_owned()], common.output)
}

async fn delete(names: &[String], yes: bool, common: &Common) -> Result<(), Stop> {
    let mut topics = Vec::new();
    for name in names {
        topics.push(topic_name(name)?);
    }
    confirm(yes, &format!("delete {}", names.join(", ")), "with all records")?;
    let mut operations = operations(common)?;
    for (name, topic) in names.iter().zip(&topics) {
        let what = format!("cannot delete the topic {name}");
        operations.delete_topic(topic).await.map_err(|ended| ended.of(&what))?;
    }
    done(names, common.output)
}

/// Makes sure that what cannot be taken back is wanted: asks on a terminal, and needs the flag where
/// nobody can be asked.
pub(crate) fn confirm(yes: bool, what: &str, with: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let refused = |why, next| Err(Failure::usage(format!("did not {what}"), why, next));
    if !io::stdin().is_terminal() {
        return refused("it cannot be taken back, and nobody can be asked here", "add --yes");
    }
    let mut answer = String::new();
    let asked = io::stderr().write_all(format!("{what} {with}? [yes/no] ").as_bytes());
    let is_confirmed = asked.is_ok()
        && io::stdin().lock().read_line(&mut answer).is_ok()
        && matches!(answer.trim(), "yes" | "y");
    if is_confirmed { Ok(()) } else { refused("it was not confirmed", "answer yes, or add --yes") }
}

/// Says which topics were changed or deleted.
fn done(names: &[String], format: Format) -> Result<(), Stop> {
    #[derive(Serialize)]
    struct Done<'a> {
        name: &'a str,
    }
    let names: Vec<Done<'_>> = names.iter().map(|name| Done { name }).collect();
    if format == Format::Table {
        // There is nothing to know but that it is done, which the exit code says.
        return Ok(());
    }
    print(&names, format, &["name"], |done| vec![done.name.to_owned()])
}

/// Prints rows in the form that was asked for.
pub(crate) fn print<T: Serialize>(
    rows: &[T],
    format: Format,
    columns: &[&str],
    cells: impl Fn(&T) -> Vec<String>,
) -> Result<(), Stop> {
    let mut output = Output::new();
    match format {
        Format::Json => output.json(&rows)?,
        Format::Jsonl => {
            for row in rows {
                output.json(row)?;
            }
        }
        Format::Table => {
            let mut table = Table::new(columns);
            for row in rows {
                table.row(cells(row));
            }
            output.line(&table.to_string())?;
        }
    }
    output.flush()
}

/// Takes `KEY=VALUE` pairs apart.
fn pairs(texts: &[String]) -> Result<Vec<(KafkaString, KafkaString)>, Failure> {
    texts
        .iter()
        .map(|text| {
            let (key, value) = text.split_once('=').ok_or_else(|| {
                Failure::usage(
                    format!("cannot use --config {text}"),
                    "it has no =",
                    "write it as --config retention.ms=60000",
                )
            })?;
            Ok((key.trim().into(), value.into()))
        })
        .collect()
}

/// Turns a code of an answer into a failure.
pub(crate) fn check(what: &str, code: i16, message: Option<&KafkaString>) -> Result<(), Failure> {
    match ClientError::from_code(code) {
        None => Ok(()),
        Some(error) => Err(refused(what, &error, message.map(KafkaString::as_str))),
    }
}

fn name_of(topic: &MetadataResponseTopic) -> String {
    topic.name.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn replicas_of(topic: &MetadataResponseTopic) -> usize {
    topic.partitions.first().map_or(0, |partition| partition.replica_nodes.len())
}
