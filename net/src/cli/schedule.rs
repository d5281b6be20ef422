//! `mainspring schedule`: looks at records that wait for their time, and alters them.

use bytes::Bytes;
use mainspring_core::client::entries::{
    Alteration, Entry, EntryName, Wanted, is_of_another_broker,
};
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::error::ErrorCode;
use mainspring_core::ids::{Offset, PartitionIndex};
use mainspring_core::wire::KafkaString;
use serde::Serialize;

use super::connect::{self, Ended, Requests, topic_name};
use super::failure::{Code, Failure};
use super::output::{Format, Stop};
use super::time;
use super::topic::{Common, confirm, operations, print};
use crate::client::operations::{About, Operations, Refusal};
use crate::clock::Clock;

/// What to do with records that wait.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List records that wait for their time, the next one first
    List {
        /// The topics [default: all]
        topics: Vec<String>,
        /// Only those due by then: a moment such as 2026-12-24T18:00:00Z, or +1h for an hour from now
        #[arg(long, value_name = "TIME")]
        before: Option<String>,
        /// Whatever waits, half messages and what waits for a transaction too, by ticket
        #[arg(long, conflicts_with = "before")]
        all: bool,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        #[command(flatten)]
        common: Common,
    },
    /// Show records that wait, and for a day how those ended that did
    Show {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        common: Common,
    },
    /// Cancel records that wait; asks first on a terminal, and needs --yes elsewhere
    Cancel {
        #[command(flatten)]
        which: Which,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Deliver records now that wait
    DeliverNow {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        common: Common,
    },
    /// Give records that wait another time
    Reschedule {
        #[command(flatten)]
        which: Which,
        /// After a while from now, such as 5m or 1h30m
        #[arg(
            long,
            value_name = "DURATION",
            required_unless_present = "at",
            conflicts_with = "at"
        )]
        delay: Option<String>,
        /// At a moment, such as 2026-12-24T18:00:00+01:00 or Unix milliseconds
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        #[command(flatten)]
        common: Common,
    },
}

/// Which records are meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// The topic
    topic: String,
    /// The records, each with its partition and its ticket, as list shows them
    #[arg(value_name = "P@TICKET", required_unless_present = "id", conflicts_with = "id")]
    records: Vec<String>,
    /// The record with this mainspring-id
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// The partition of that one, where several have the name
    #[arg(short, long, value_name = "P", requires = "id")]
    partition: Option<i32>,
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<(), Stop> {
    connect::block_on(async move {
        match command {
            Command::List { topics, before, all, limit, common } => {
                let until_ms = before.as_deref().map_or(Ok(i64::MAX), moment)?;
                let wanted = if all { Wanted::All } else { Wanted::Scheduled { until_ms } };
                list(&topics, &wanted, limit, &common).await
            }
            Command::Show { which, common } => show(&which, &common).await,
            Command::Cancel { which, yes, common } => {
                let names = which.names()?;
                confirm(yes, &format!("cancel {names}"), "so that nobody ever sees it")?;
                alter("cancel", &which, Alteration::Cancel, &common).await
            }
            Command::DeliverNow { which, common } => {
                alter("deliver", &which, Alteration::DeliverNow, &common).await
            }
            Command::Reschedule { which, delay, at, common } => {
                let alteration = new_time(delay.as_deref(), at.as_deref())?;
                alter("reschedule", &which, alteration, &common).await
            }
        }
    })
}

/// Reads a moment, or how far from now it is.
fn moment(text: &str) -> Result<i64, Failure> {
    let found = match text.strip_prefix('+') {
        None => time::parse_millis(text),
        Some(ahead) => time::parse_duration_ms(ahead)
            .map(|ahead| Clock::default().now().wall.0.saturating_add(ahead)),
    };
    found.ok_or_else(|| {
        Failure::usage(
            format!("cannot use --before {text}"),
            "it is no moment",
            "write it as --before 2026-12-24T18:00:00Z, or --before +1h30m",
        )
    })
}

fn new_time(delay: Option<&str>, at: Option<&str>) -> Result<Alteration, Failure> {
    let delayed = delay.map(|text| time::parse_duration_ms(text).ok_or(("--delay", text)));
    let moved = at.map(|text| time::parse_millis(text).ok_or(("--at", text)));
    let found = match (delayed, moved) {
        (Some(delay), _) => delay.map(Alteration::RescheduleAfter),
        (None, Some(at)) => at.map(Alteration::RescheduleAt),
        (None, None) => Err(("--delay", "")),
    };
    found.map_err(|(flag, text)| {
        Failure::usage(
            format!("cannot use {flag} {text}"),
            "it is no time",
            "write it as --delay 1h30m, or as --at 2026-12-24T18:00:00Z",
        )
    })
}

/// A record that waits, as it is printed.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    topic: String,
    partition: i32,
    ticket: i64,
    state: &'static str,
    /// When it comes, in Unix milliseconds; none for what comes with its verdict, and for what has ended.
    due_ms: Option<i64>,
    id: Option<String>,
    /// What it counts for, in bytes: key, value, headers, names, and 64 of its own.
    size: u32,
    /// How often its verdict was asked for; 0 once it is parked.
    checks: u32,
    /// Where it was delivered, or the ticket of what replaced it.
    offset: Option<i64>,
}

impl Row {
    fn new(entry: &Entry) -> Self {
        Self {
            topic: entry.place.0.to_string(),
            partition: entry.place.1.0,
            ticket: entry.ticket.0,
            state: entry.state.name(),
            due_ms: entry.due_ms,
            id: entry.id.as_deref().map(|id| String::from_utf8_lossy(id).into_owned()),
            size: entry.size,
            checks: entry.checks,
            offset: entry.offset.map(|offset| offset.0),
        }
    }

    fn cells(&self) -> Vec<String> {
        let number = |number: Option<i64>| number.map_or_else(dash, |number| number.to_string());
        vec![
            self.topic.clone(),
            format!("{}@{}", self.partition, self.ticket),
            self.due_ms.map_or_else(dash, time::format_millis),
            self.state.to_owned(),
            self.id.as_deref().map_or_else(dash, printable),
            self.size.to_string(),
            self.checks.to_string(),
            number(self.offset),
        ]
    }
}

fn dash() -> String {
    "-".to_owned()
}

/// A name on a terminal moves no cursor.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// Lists what waits in topics, in all where none is named.
pub(super) async fn list(
    topics: &[String],
    wanted: &Wanted,
    limit: Option<usize>,
    common: &Common,
) -> Result<(), Stop> {
    let mut names = Vec::new();
    for topic in topics {
        names.push(topic_name(topic)?);
    }
    let what = match topics {
        [] => "cannot list what waits".to_owned(),
        _ => format!("cannot list what waits in {}", topics.join(", ")),
    };
    let named = (!names.is_empty()).then_some(&names[..]);
    let limit = limit.unwrap_or(usize::MAX);
    let found = operations(common)?.entries(named, wanted, limit).await;
    let found = found.map_err(|ended| failed(&what, ended, None))?;
    print_entries(&found, common.output)
}

fn print_entries(found: &[Entry], format: Format) -> Result<(), Stop> {
    let rows: Vec<Row> = found.iter().map(Row::new).collect();
    let columns = ["topic", "record", "due", "state", "id", "bytes", "checks", "offset"];
    print(&rows, format, &columns, Row::cells)
}

async fn show(which: &Which, common: &Common) -> Result<(), Stop> {
    let names = which.names()?;
    let what = format!("cannot show {names}");
    let mut operations = operations(common)?;
    let mut shown = Vec::new();
    for (place, name) in which.find(&mut operations, &what).await? {
        let found = operations.entry(&place, &name).await;
        let found = found.map_err(|ended| failed(&what, ended, None))?;
        shown.push(found.ok_or_else(|| missing(&what, &place.0))?);
    }
    print_entries(&shown, common.output)
}

/// Does something to records, one after the other.
pub(super) async fn alter(
    verb: &str,
    which: &Which,
    alteration: Alteration,
    common: &Common,
) -> Result<(), Stop> {
    #[derive(Serialize)]
    struct Altered {
        topic: String,
        partition: i32,
        ticket: Option<i64>,
        id: Option<String>,
    }
    let mut operations = operations(common)?;
    let what = format!("cannot {verb} {}", which.names()?);
    let mut done = Vec::new();
    for (place, name) in which.find(&mut operations, &what).await? {
        let what = format!("cannot {verb} {}", one(&place, &name));
        if let Err(ended) = operations.alter_entry(&place, &name, alteration).await {
            let is_about_it = matches!(&ended, Ended::Refused(Refusal { error, .. })
                if is_about_the_entry(error.refused_with()));
            if is_about_it && matches!(operations.entry(&place, &name).await, Ok(None)) {
                return Err(missing(&what, &place.0).into());
            }
            return Err(failed(&what, ended, Some((&place, &name))).into());
        }
        let (ticket, id) = match name {
            EntryName::Ticket(ticket) => (Some(ticket.0), None),
            EntryName::Id(id) => (None, Some(String::from_utf8_lossy(&id).into_owned())),
        };
        let topic = place.0.to_string();
        done.push(Altered { topic, partition: place.1.0, ticket, id });
    }
    if common.output == Format::Table {
        // There is nothing to know but that it is done, which the exit code says.
        return Ok(());
    }
    print(&done, common.output, &["topic"], |altered| vec![altered.topic.clone()])
}

fn one((topic, partition): &Place, name: &EntryName) -> String {
    match name {
        EntryName::Ticket(ticket) => format!("{}@{} of {topic}", partition.0, ticket.0),
        EntryName::Id(id) => {
            let id = String::from_utf8_lossy(id);
            format!("the record {} of {topic}, partition {}", printable(&id), partition.0)
        }
    }
}

impl Which {
    /// Records of a topic by their tickets.
    pub(super) const fn of(topic: String, records: Vec<String>) -> Self {
        Self { topic, records, id: None, partition: None }
    }

    /// Says which are meant.
    ///
    /// # Errors
    /// One is not written as it has to be.
    pub(super) fn names(&self) -> Result<String, Failure> {
        for record in &self.records {
            place_and_ticket(record)?;
        }
        let topic = &self.topic;
        Ok(match &self.id {
            Some(id) => format!("the record {} of {topic}", printable(id)),
            None => format!("{} of {topic}", self.records.join(", ")),
        })
    }

    /// Finds the partitions of those that are meant.
    async fn find(
        &self,
        operations: &mut Operations<Requests>,
        what: &str,
    ) -> Result<Vec<(Place, EntryName)>, Failure> {
        let topic = topic_name(&self.topic)?;
        let Some(id) = &self.id else {
            let named = self.records.iter().map(|record| {
                let (partition, ticket) = place_and_ticket(record)?;
                Ok(((topic.clone(), partition), EntryName::Ticket(ticket)))
            });
            return named.collect();
        };
        let name = EntryName::Id(Bytes::copy_from_slice(id.as_bytes()));
        if let Some(partition) = self.partition {
            return Ok(vec![((topic, PartitionIndex(partition)), name)]);
        }
        let wanted = Wanted::One(name.clone());
        let topics = std::slice::from_ref(&topic);
        let found = operations.entries(Some(topics), &wanted, usize::MAX).await;
        let mut found = found.map_err(|ended| failed(what, ended, None))?;
        if found.iter().any(|entry| !entry.state.is_ended()) {
            found.retain(|entry| !entry.state.is_ended());
        }
        match &found[..] {
            [] => Err(missing(what, &topic)),
            [entry] => Ok(vec![(entry.place.clone(), name)]),
            several => {
                let partitions: Vec<String> =
                    several.iter().map(|entry| entry.place.1.0.to_string()).collect();
                Err(Failure::usage(
                    what,
                    format!("the partitions {} have one of this name", partitions.join(", ")),
                    "say which is meant with --partition",
                ))
            }
        }
    }
}

fn missing(what: &str, topic: &KafkaString) -> Failure {
    Failure::new(
        Code::NotFound,
        what,
        "nothing of this name waits, and nothing is remembered of it",
        format!("see mainspring schedule list {topic}"),
    )
}

/// Reads a partition and a ticket.
fn place_and_ticket(text: &str) -> Result<(PartitionIndex, Offset), Failure> {
    let parts = text.split_once('@').and_then(|(partition, ticket)| {
        let partition = partition.parse().ok().filter(|partition| *partition >= 0)?;
        let ticket = ticket.parse().ok().filter(|ticket| *ticket >= 0)?;
        Some((PartitionIndex(partition), Offset(ticket)))
    });
    parts.ok_or_else(|| {
        Failure::usage(
            format!("cannot use {text}"),
            "it is no partition with a ticket",
            "write it as 0@17, as mainspring schedule list shows it, or name it with --id",
        )
    })
}

/// Says what ended an operation means to a command that tried to do `what` to an entry.
fn failed(what: &str, ended: Ended, entry: Option<(&Place, &EntryName)>) -> Failure {
    let Ended::Refused(Refusal { error, .. }) = &ended else { return ended.of(what) };
    if is_of_another_broker(error) {
        return Failure::new(
            Code::Failed,
            what,
            "the broker does not announce mainspring.rpc, by which it is asked",
            "name a broker of Mainspring that has it with --bootstrap; at others nothing waits",
        );
    }
    let Some((place, name)) = entry.filter(|_| is_about_the_entry(error.refused_with())) else {
        return ended.of(what);
    };
    let show = match name {
        EntryName::Ticket(ticket) => format!("{}@{}", place.1.0, ticket.0),
        EntryName::Id(id) => {
            let id = String::from_utf8_lossy(id);
            format!("--partition {} --id '{}'", place.1.0, printable(&id))
        }
    };
    let about = About::Partition(place.clone());
    let why = Ended::from(about.refused(error.clone())).of(what).why;
    Failure::new(
        Code::Failed,
        what,
        why,
        format!("see how it stands with mainspring schedule show {} {show}", place.0),
    )
}

fn is_about_the_entry(code: Option<ErrorCode>) -> bool {
    code == Some(ErrorCode::InvalidRecord)
}

#[cfg(test)]
mod tests {
    use mainspring_core::client::ClientError;

    use super::*;

    fn refused(error: ClientError, name: &EntryName) -> Failure {
        let place: Place = (KafkaString::from_static("t"), PartitionIndex(2));
        let ended = Ended::from(About::Partition(place.clone()).refused(error));
        failed("cannot cancel it", ended, Some((&place, name)))
    }

    #[test]
    fn a_record_is_named_by_partition_and_ticket() {
        let (partition, ticket) = place_and_ticket("3@17").expect("it is named so");
        assert_eq!((partition.0, ticket.0), (3, 17));
        for text in
            ["", "17", "@17", "3@", "-1@17", "3@-1", "3@1@7", "a@b", "3@9223372036854775808"]
        {
            assert_eq!(place_and_ticket(text).expect_err("refused").code, Code::Usage, "{text}");
        }
    }

    #[test]
    fn a_broker_that_does_not_announce_it_is_told_as_such() {
        let error = ClientError::UnsupportedApi("EntryAlter");
        let failure = refused(error, &EntryName::Ticket(Offset(1)));
        assert!(failure.why.contains("does not announce mainspring.rpc"), "{failure}");
    }

    #[test]
    fn who_is_too_late_is_told_where_to_look() {
        let error = ClientError::Refused {
            code: ErrorCode::InvalidRecord,
            message: "it was delivered at offset 9".into(),
        };
        let failure = refused(error.clone(), &EntryName::Ticket(Offset(1)));
        assert!(failure.why.contains("offset 9"), "{failure}");
        assert!(failure.next.ends_with("mainspring schedule show t 2@1"), "{failure}");
        let failure = refused(error, &EntryName::Id(Bytes::from_static(b"a b")));
        assert!(failure.next.ends_with("show t --partition 2 --id 'a b'"), "{failure}");
    }

    #[test]
    fn times_are_read_as_produce_reads_them() {
        assert_eq!(new_time(Some("1m"), None), Ok(Alteration::RescheduleAfter(60_000)));
        assert_eq!(new_time(None, Some("1970-01-01")), Ok(Alteration::RescheduleAt(0)));
        for (delay, at) in [(Some("soon"), None), (None, Some("soon")), (None, None)] {
            assert_eq!(new_time(delay, at).expect_err("refused").code, Code::Usage);
        }
        assert_eq!(moment("1970-01-02"), Ok(86_400_000));
        assert!(moment("+1h").is_ok_and(|at| at > 3_600_000));
        assert_eq!(moment("+soon").expect_err("refused").code, Code::Usage);
    }
}
