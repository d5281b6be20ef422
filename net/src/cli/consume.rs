//! `mainspring consume`: prints records.

use std::collections::BTreeMap;

use mainspring_core::client::fetcher::{
    FetchEvent, FetchedRecords, Fetcher, FetcherConfig, RecordView, Start,
};
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::ids::{Offset, PartitionIndex};
use mainspring_core::wire::KafkaString;

use super::connect::{self, Connection, Requests, refused};
use super::failure::Failure;
use super::format::{OutputFormat, Shown};
use super::output::{Output, Stop};
use super::{consume_group, time, topic};
use crate::client::Driver;

/// Timestamps that stand for the ends of a log.
const START: i64 = -2;
const END: i64 = -1;

/// Flags of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Topics to read
    #[arg(required = true, value_name = "TOPIC")]
    pub(super) topics: Vec<String>,
    /// Read as a member of this group, from the offsets that it has stored on, and store what was
    /// printed
    #[arg(short, long, value_name = "GROUP", conflicts_with = "partitions")]
    pub(super) group: Option<String>,
    /// Name that a member of the group keeps over restarts, and its partitions with it
    #[arg(long, value_name = "NAME", requires = "group")]
    pub(super) instance: Option<String>,
    /// Rules of assignment that the member can live with, the preferred one first
    #[arg(
        long,
        value_name = "NAME,NAME",
        value_delimiter = ',',
        requires = "group",
        default_value = "range,cooperative-sticky"
    )]
    pub(super) assignor: Vec<String>,
    /// Where to begin: the start, the end, an offset, N before the end, or a time such as
    /// @2026-11-22T10:00 (UTC) or @ with Unix milliseconds. With a group, start or end, and only
    /// where it has stored no offset
    #[arg(
        short,
        long,
        value_name = "start|end|N|-N|@TIME",
        default_value = "start",
        allow_hyphen_values = true
    )]
    offset: String,
    /// Stop after so many records
    #[arg(short = 'n', long, value_name = "N")]
    pub(super) count: Option<u64>,
    /// Partitions to read, divided by commas [default: all]
    #[arg(short, long, value_name = "N,N", value_delimiter = ',')]
    partitions: Vec<i32>,
    /// Stop at the end that each partition has at the start of this command
    #[arg(short = 'e', long)]
    pub(super) until_end: bool,
    /// Whether records of transactions are read at once, or only once these are committed
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "read_uncommitted",
        value_parser = ["read_uncommitted", "read_committed"]
    )]
    isolation: String,
    /// Form of a record, with kcat's escapes
    #[arg(short, long, default_value = r"%s\n")]
    format: String,
    /// Print each record as an object of JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    pub(super) connection: Connection,
}

impl Args {
    /// Whether records of transactions are read only once these are committed.
    pub(super) fn is_committed(&self) -> bool {
        self.isolation == "read_committed"
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Stop> {
    let from = From::parse(&args.offset)?;
    let format = OutputFormat::parse(&args.format)?;
    let printer = Printer { output: Output::new(), format, json: args.json, line: Vec::new() };
    if let Some(group) = &args.group {
        return consume_group::run(args, group, from, printer);
    }
    let config = FetcherConfig {
        // An offset that is not there is an answer, not a reason to print other records.
        reset: None,
        read_committed: args.is_committed(),
        ..FetcherConfig::new(args.connection.network_of_reader()?)
    };
    connect::block_on(async {
        let mut reading = Reading {
            what: String::new(),
            driver: Driver::new(Fetcher::new(config)),
            printer,
            ends: BTreeMap::new(),
            left: args.count,
        };
        for topic in &args.topics {
            reading.what = format!("cannot read the topic {topic}");
            reading.begin(args, topic, from).await?;
        }
        reading.run(args.until_end).await
    })
}

/// Where to begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum From {
    Start,
    End,
    Offset(i64),
    BeforeEnd(i64),
    Time(i64),
}

impl From {
    fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::usage(
                format!("cannot begin at {text}"),
                "it is no place in a topic",
                "write start, end, an offset, -10 for the last ten, or @2026-11-22T10:00",
            )
        };
        match text {
            "start" | "beginning" => return Ok(Self::Start),
            "end" => return Ok(Self::End),
            _ => {}
        }
        if let Some(moment) = text.strip_prefix('@') {
            return time::parse_millis(moment).map(Self::Time).ok_or_else(wrong);
        }
        match text.parse::<i64>() {
            Ok(offset) if text.starts_with('-') => Ok(Self::BeforeEnd(-offset)),
            Ok(offset) => Ok(Self::Offset(offset)),
            Err(_) => Err(wrong()),
        }
    }
}

struct Reading {
    what: String,
    driver: Driver<Fetcher>,
    printer: Printer,
    /// The partitions that are still to be read, with the end that was noted.
    ends: BTreeMap<Place, i64>,
    left: Option<u64>,
}

impl Reading {
    /// Finds the partitions and says where to begin in each.
    async fn begin(&mut self, args: &Args, topic: &str, from: From) -> Result<(), Failure> {
        let mut requests = Requests::new(&args.connection)?;
        let topics = topic::find(&mut requests, &[topic.to_owned()], "cannot read").await?;
        let name: KafkaString = topic.into();
        let known: Vec<i32> = topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|partition| partition.partition_index))
            .collect();
        let wanted = if args.partitions.is_empty() { &known } else { &args.partitions };
        for index in wanted {
            if !known.contains(index) {
                return Err(Failure::new(
                    super::failure::Code::NotFound,
                    &self.what,
                    format!("it has no partition {index}"),
                    format!("it has {}, numbered from 0", known.len()),
                ));
            }
            let partition = PartitionIndex(*index);
            let mut at = async |timestamp| {
                let place = (name.clone(), partition);
                topic::offset_at(&mut requests, &self.what, place, timestamp, args.is_committed())
                    .await
            };
            let start = at(START).await?.unwrap_or(0);
            let end = at(END).await?.unwrap_or(0);
            let begin = match from {
                From::Start => start,
                From::End => end,
                From::Offset(offset) => offset,
                From::BeforeEnd(count) => end.saturating_sub(count).max(start),
                From::Time(millis) => at(millis).await?.unwrap_or(end),
            };
            if args.until_end && begin >= end {
                continue;
            }
            self.ends.insert((name.clone(), partition), end);
            let now = self.driver.now();
            let begin = Start::Offset(Offset(begin));
            self.driver.machine().assign(now, &name, partition, begin);
        }
        Ok(())
    }

    async fn run(&mut self, until_end: bool) -> Result<(), Stop> {
        while self.left != Some(0) && !(until_end && self.ends.is_empty()) {
            let now = self.driver.now();
            let Some(event) = self.driver.machine().poll_event(now) else {
                // What there is goes out before anything is waited for.
                self.printer.output.flush()?;
                self.driver.turn(None).await;
                continue;
            };
            match event {
                FetchEvent::Records { place, records, next_offset, .. } => {
                    let end = if until_end { self.ends.get(&place).copied() } else { None };
                    self.print(&place, &records, end)?;
                    if end.is_some_and(|end| next_offset.0 >= end) {
                        self.driver.machine().unassign(&place.0, place.1);
                        self.ends.remove(&place);
                    }
                }
                FetchEvent::Failed { place, error } => {
                    self.printer.output.flush()?;
                    let what = format!("cannot read the topic {}, partition {}", place.0, place.1);
                    return Err(refused(what, &error, None).into());
                }
            }
        }
        self.printer.output.flush()
    }

    fn print(
        &mut self,
        place: &Place,
        records: &FetchedRecords,
        end: Option<i64>,
    ) -> Result<(), Stop> {
        for record in records {
            // What came after the end was noted belongs to another run.
            if self.left == Some(0) || end.is_some_and(|end| record.offset.0 >= end) {
                break;
            }
            self.printer.print(place, record)?;
            self.left = self.left.map(|left| left - 1);
        }
        Ok(())
    }
}

/// Prints records in the form that was asked for.
pub(super) struct Printer {
    pub(super) output: Output,
    format: OutputFormat,
    json: bool,
    line: Vec<u8>,
}

impl Printer {
    /// Prints one record.
    pub(super) fn print(&mut self, place: &Place, record: RecordView<'_>) -> Result<(), Stop> {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            record.headers.iter().map(|header| (header.key, header.value)).collect();
        let shown = Shown {
            topic: place.0.as_str(),
            partition: place.1.0,
            offset: record.offset.0,
            timestamp: record.timestamp,
            key: record.key,
            value: record.value,
            headers: &headers,
        };
        if self.json {
            return self.output.json(&shown);
        }
        self.line.clear();
        self.format.render(&shown, &mut self.line);
        self.output.write(&self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_a_topic_are_read_as_people_write_them() {
        for (text, from) in [
            ("start", From::Start),
            ("end", From::End),
            ("42", From::Offset(42)),
            ("-10", From::BeforeEnd(10)),
            ("@1700000000000", From::Time(1_700_000_000_000)),
            ("@2023-11-14T22:13:20Z", From::Time(1_700_000_000_000)),
        ] {
            assert_eq!(From::parse(text).expect(text), from);
        }
        for text in ["", "begin", "@", "@yesterday", "1.5", "--1"] {
            From::parse(text).expect_err(text);
        }
    }
}
