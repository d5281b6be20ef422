//! `mainspring consume -g GROUP`: prints records as a member of a group.
//!
//! What was printed is stored, and nothing else: an offset goes to the group only after its record
//! has gone to the reader. A signal ends the command as its own end does: what was printed is
//! stored, and the group is left.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::client::consumer::{Consumer, ConsumerConfig, ConsumerEvent};
use mainspring_core::client::fetcher::{FetchedRecords, Start};
use mainspring_core::client::group::assignor::Assignor;
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::ids::{Offset, PartitionIndex};
use mainspring_core::wire::KafkaString;

use super::connect::{self, Requests, check_reachable, refused};
use super::consume::{Args, From, Printer};
use super::failure::{Code, Failure, words};
use super::output::Stop;
use super::topic;
use crate::client::Driver;
use crate::rt::{self, StopSignals};

/// Timestamp that stands for the end of a log.
const END: i64 = -1;

/// Runs the command.
pub(super) fn run(args: &Args, group: &str, from: From, printer: Printer) -> Result<(), Stop> {
    let reset = match from {
        From::Start => Start::Earliest,
        From::End => Start::Latest,
        From::Offset(_) | From::BeforeEnd(_) | From::Time(_) => {
            return Err(Failure::usage(
                "cannot begin there as a member of a group",
                "a group goes on from its stored offsets",
                "use mainspring group reset to change these, or -o start or -o end",
            )
            .into());
        }
    };
    let mut assignors = Vec::new();
    for name in &args.assignor {
        assignors.push(Assignor::from_name(name).ok_or_else(|| {
            let known: Vec<&str> = Assignor::ALL.iter().map(|assignor| assignor.name()).collect();
            Failure::usage(
                format!("cannot use the assignor {name}"),
                "nobody knows it",
                format!("choose among {}", known.join(", ")),
            )
        })?);
    }
    let mut config = ConsumerConfig::new(args.connection.network_of_reader()?, Some(group.into()));
    config.fetcher.reset = Some(reset);
    config.fetcher.read_committed = args.is_committed();
    config.auto_store = false;
    config.close_timeout = args.connection.timeout()?;
    if let Some(group) = &mut config.group {
        group.assignors = assignors;
        group.instance_id = args.instance.as_deref().map(KafkaString::from);
        group.api_timeout = args.connection.timeout()?;
    }
    connect::block_on(async {
        let signals = StopSignals::new().map_err(|error| {
            Failure::new(Code::Failed, "cannot take signals", words(&error), "try again")
        })?;
        let mut member = Member {
            what: format!("cannot read as a member of the group {group}"),
            driver: Driver::new(Consumer::new(config)),
            signals,
            printer,
            left: args.count,
            ends: None,
            held: None,
        };
        let read = member.read(args).await;
        // The group is left in any case, so that others need not wait for the session's end.
        let left = member.leave(read.is_ok()).await;
        read.and(left)
    })
}

struct Member {
    what: String,
    driver: Driver<Consumer>,
    signals: StopSignals,
    printer: Printer,
    left: Option<u64>,
    /// The ends that were noted, where the command stops there.
    ends: Option<BTreeMap<Place, i64>>,
    /// What the group has given; `None` before it has.
    held: Option<BTreeSet<Place>>,
}

impl Member {
    async fn read(&mut self, args: &Args) -> Result<(), Stop> {
        let mut requests = Requests::new(&args.connection)?;
        let found = topic::find(&mut requests, &args.topics, "cannot read").await?;
        if args.until_end {
            let mut ends = BTreeMap::new();
            for (name, topic) in args.topics.iter().zip(&found) {
                let name: KafkaString = name.as_str().into();
                for partition in &topic.partitions {
                    let index = PartitionIndex(partition.partition_index);
                    let place = (name.clone(), index);
                    let is_committed = args.is_committed();
                    let end = topic::offset_at(
                        &mut requests,
                        &self.what,
                        place.clone(),
                        END,
                        is_committed,
                    );
                    ends.insert(place, end.await?.unwrap_or(0));
                }
            }
            self.ends = Some(ends);
        }
        let now = self.driver.now();
        let topics = args.topics.iter().map(|name| name.as_str().into()).collect();
        self.driver.machine().subscribe(now, topics);
        while self.left != Some(0) && !self.is_at_end() {
            let now = self.driver.now();
            let Some(event) = self.driver.machine().poll_event(now) else {
                let stopped = rt::select_biased! {
                    _ = self.signals.next() => true,
                    () = self.driver.turn(None) => false,
                };
                if stopped {
                    return Ok(());
                }
                check_reachable(&self.driver, &args.connection)?;
                continue;
            };
            self.take(event)?;
        }
        Ok(())
    }

    fn take(&mut self, event: ConsumerEvent) -> Result<(), Stop> {
        match event {
            ConsumerEvent::Records { place, records, next_offset, .. } => {
                self.print(&place, &records, next_offset)
            }
            ConsumerEvent::Assigned { owned, .. } => {
                self.held = Some(owned);
                Ok(())
            }
            ConsumerEvent::Revoked(places) | ConsumerEvent::Lost(places) => {
                if let Some(held) = &mut self.held {
                    held.retain(|place| !places.contains(place));
                }
                Ok(())
            }
            ConsumerEvent::PartitionFailed { place, error } => {
                let what = format!("cannot read the topic {}, partition {}", place.0, place.1);
                Err(refused(what, &error, None).into())
            }
            ConsumerEvent::TopicFailed { topic, error } => {
                Err(refused(format!("cannot read the topic {topic}"), &error, None).into())
            }
            ConsumerEvent::Failed(error) => Err(refused(&self.what, &error, None).into()),
            ConsumerEvent::Committed { results, .. } => {
                let failed = results.into_values().find_map(Result::err);
                match failed {
                    Some(error) => {
                        let what = "cannot store the offsets of what was printed";
                        Err(refused(what, &error, None).into())
                    }
                    None => Ok(()),
                }
            }
            ConsumerEvent::Fetched { .. } | ConsumerEvent::Closed => Ok(()),
        }
    }

    fn print(
        &mut self,
        place: &Place,
        records: &FetchedRecords,
        next_offset: Offset,
    ) -> Result<(), Stop> {
        let end = self.ends.as_ref().and_then(|ends| ends.get(place)).copied();
        let mut processed = next_offset;
        for record in records {
            // What came after the end was noted belongs to another run.
            if self.left == Some(0) || end.is_some_and(|end| record.offset.0 >= end) {
                processed = record.offset;
                break;
            }
            self.printer.print(place, record)?;
            self.left = self.left.map(|left| left - 1);
        }
        self.printer.output.flush()?;
        self.driver.machine().store(place, processed);
        Ok(())
    }

    /// Whether everything that the group has given was read to the ends that were noted.
    fn is_at_end(&mut self) -> bool {
        let (Some(ends), Some(held)) = (&self.ends, &self.held) else {
            return false;
        };
        let consumer = self.driver.machine();
        held.iter().all(|place| {
            let end = ends.get(place).copied().unwrap_or(0);
            consumer.position(place).is_some_and(|at| at.0 >= end)
        })
    }

    /// Stores what was printed, and leaves the group.
    async fn leave(&mut self, is_sound: bool) -> Result<(), Stop> {
        let mut stored = Ok(());
        let now = self.driver.now();
        if is_sound && let Ok(id) = self.driver.machine().commit(now, None) {
            loop {
                let now = self.driver.now();
                match self.driver.machine().poll_event(now) {
                    None => self.driver.turn(None).await,
                    Some(event) => {
                        let is_answer =
                            matches!(&event, ConsumerEvent::Committed { id: of, .. } if *of == id);
                        if is_answer {
                            stored = self.take(event);
                            break;
                        }
                    }
                }
            }
        }
        let now = self.driver.now();
        self.driver.machine().close(now);
        while !self.driver.machine().is_closed() {
            self.driver.turn(None).await;
        }
        stored
    }
}
