//! `mainspring txn`: looks at transactions, and ends one that hangs.

use std::time::Duration;

use mainspring_core::ids::NodeId;
use mainspring_core::wire::KafkaString;
use mainspring_core::wire::api::describe_transactions::DescribedTransaction;
use mainspring_core::wire::api::list_transactions::ListTransactionsRequest;
use mainspring_core::wire::transaction_record::TransactionStatus;
use serde::Serialize;

use super::connect::{self, Requests};
use super::failure::{Code, Failure};
use super::half;
use super::output::{Format, Stop};
use super::topic::{Common, confirm, operations, print};
use crate::client::operations::Operations;
use crate::clock::Clock;

/// Pause before it is asked again whether an abort is done.
const PAUSE: Duration = Duration::from_millis(100);
/// How often that is asked.
const TRIES: u32 = 100;

/// What to do with transactions.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List transactional ids, all or those that every filter lets pass
    List {
        /// Only those in this state, such as Ongoing or Empty; may be repeated
        #[arg(long, value_name = "STATE")]
        state: Vec<String>,
        /// Only those of this producer id; may be repeated
        #[arg(long, value_name = "ID")]
        producer: Vec<i64>,
        /// Only those whose transaction was begun more than so many seconds ago
        #[arg(long, value_name = "SECONDS")]
        older_than: Option<u32>,
        /// Only those that match this regular expression as a whole
        #[arg(long, value_name = "RE")]
        pattern: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Show how transactional ids stand, and the partitions of what is open
    Describe {
        /// The transactional ids
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// List half messages, which wait for a verdict, or give that by hand
    Half(half::Args),
    /// Abort what is open of a transactional id and fence its producer; asks first on a terminal, and needs --yes
    /// elsewhere
    Abort {
        /// The transactional id
        id: String,
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
            Command::Half(args) => half::run(args).await,
            Command::List { state, producer, older_than, pattern, common } => {
                let filters = ListTransactionsRequest {
                    state_filters: known_states(&state)?,
                    producer_id_filters: producer,
                    duration_filter: older_than.map_or(-1, |seconds| i64::from(seconds) * 1000),
                    transactional_id_pattern: pattern.as_deref().map(KafkaString::from),
                };
                list(&filters, &common).await
            }
            Command::Describe { ids, common } => describe(&ids, &common).await,
            Command::Abort { id, yes, common } => abort(&id, yes, &common).await,
        }
    })
}

#[derive(Serialize)]
struct Listed {
    transactional_id: String,
    state: String,
    producer_id: i64,
    coordinator: i32,
}

/// Reads the names of states.
fn known_states(names: &[String]) -> Result<Vec<KafkaString>, Failure> {
    let known = |name: &String| TransactionStatus::ALL.iter().any(|one| one.name() == *name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        let all: Vec<&str> = TransactionStatus::ALL.iter().map(|one| one.name()).collect();
        return Err(Failure::usage(
            format!("cannot use --state {name}"),
            "there is no such state",
            format!("choose among {}", all.join(", ")),
        ));
    }
    Ok(names.iter().map(|name| name.as_str().into()).collect())
}

async fn list(filters: &ListTransactionsRequest, common: &Common) -> Result<(), Stop> {
    let found = operations(common)?.transactions(filters).await;
    let found = found.map_err(|ended| ended.of("cannot list the transactions"))?;
    let listed: Vec<Listed> = found
        .into_iter()
        .map(|(one, coordinator)| Listed {
            transactional_id: one.transactional_id.to_string(),
            state: one.transaction_state.to_string(),
            producer_id: one.producer_id,
            coordinator: coordinator.0,
        })
        .collect();
    print(&listed, common.output, &["id", "state", "producer", "coordinator"], |one| {
        vec![
            one.transactional_id.clone(),
            one.state.clone(),
            one.producer_id.to_string(),
            one.coordinator.to_string(),
        ]
    })
}

#[derive(Serialize)]
struct Described {
    transactional_id: String,
    state: String,
    producer_id: i64,
    producer_epoch: i16,
    timeout_ms: i32,
    /// Milliseconds since the transaction began; none where there is none.
    open_ms: Option<i64>,
    coordinator: i32,
    partitions: Vec<String>,
}

async fn describe(ids: &[String], common: &Common) -> Result<(), Stop> {
    let mut operations = operations(common)?;
    let now = Clock::default().now().wall.0;
    let mut described = Vec::new();
    for id in ids {
        let (found, coordinator) = find(&mut operations, id, "describe").await?;
        let began = found.transaction_start_time_ms;
        let topics = found.topics.iter();
        let partitions = topics.flat_map(|topic| {
            topic.partitions.iter().map(move |partition| format!("{}-{partition}", topic.topic))
        });
        described.push(Described {
            transactional_id: found.transactional_id.to_string(),
            state: found.transaction_state.to_string(),
            producer_id: found.producer_id,
            producer_epoch: found.producer_epoch,
            timeout_ms: found.transaction_timeout_ms,
            open_ms: (began >= 0 && !found.topics.is_empty()).then(|| (now - began).max(0)),
            coordinator: coordinator.0,
            partitions: partitions.collect(),
        });
    }
    let columns = ["id", "state", "producer", "epoch", "open for", "partitions"];
    print(&described, common.output, &columns, |one| {
        vec![
            one.transactional_id.clone(),
            one.state.clone(),
            one.producer_id.to_string(),
            one.producer_epoch.to_string(),
            one.open_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
            one.partitions.join(" "),
        ]
    })
}

async fn abort(id: &str, yes: bool, common: &Common) -> Result<(), Stop> {
    #[derive(Serialize)]
    struct Aborted<'a> {
        transactional_id: &'a str,
    }
    let mut operations = operations(common)?;
    let (_, coordinator) = find(&mut operations, id, "abort").await?;
    confirm(yes, &format!("abort what is open of {id}"), "and fence its producer")?;
    let name = KafkaString::from(id);
    let what = format!("cannot abort the transaction of {id}");
    for _ in 0..TRIES {
        let done = operations.abort_transaction(&name, coordinator).await;
        if done.map_err(|ended| ended.of(&what))? {
            if common.output == Format::Table {
                return Ok(());
            }
            let aborted = [Aborted { transactional_id: id }];
            return print(&aborted, common.output, &["id"], |it| {
                vec![it.transactional_id.to_owned()]
            });
        }
        crate::rt::sleep(PAUSE).await;
    }
    Err(Failure::new(
        Code::TimedOut,
        what,
        "the abort is decided, and a partition has not taken it yet",
        "see mainspring cluster health; it goes on by itself",
    )
    .into())
}

async fn find(
    operations: &mut Operations<Requests>,
    id: &str,
    verb: &str,
) -> Result<(DescribedTransaction, NodeId), Stop> {
    let what = format!("cannot {verb} the transaction of {id}");
    let found = operations.transaction(&id.into()).await.map_err(|ended| ended.of(&what))?;
    found.ok_or_else(|| {
        Failure::new(
            Code::NotFound,
            what,
            "there is no such transactional id",
            "list them with mainspring txn list",
        )
        .into()
    })
}
