//! `mainspring produce`: sends lines as records.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::PathBuf;

use bytes::Bytes;
use mainspring_core::client::ClientError;
use mainspring_core::client::producer::accumulator::Ticket;
use mainspring_core::client::producer::{Acks, NewRecord, Producer, ProducerConfig};
use mainspring_core::ids::PartitionIndex;
use mainspring_core::record::compress::Codec;
use mainspring_core::wire::KafkaString;

use super::connect::{self, Connection, check_reachable, refused, topic_name};
use super::failure::{Code, Failure, words};
use super::format::InputFormat;
use super::later::{self, Later};
use super::output::Stop;
use super::produce_txn::{self, Transactions};
use crate::client::Driver;
use crate::rt::{self, mpsc};

/// Lines that are read ahead.
const AHEAD: usize = 4096;

/// Flags of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Topic to send to
    topic: String,
    /// File to read, one record a line [default: standard input]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Key of all records
    #[arg(short, long)]
    key: Option<String>,
    /// Form of a line, such as %s or %k\t%s
    #[arg(short, long, default_value = "%s")]
    format: String,
    /// Header of all records; may be repeated
    #[arg(short = 'H', long = "header", value_name = "KEY=VALUE")]
    headers: Vec<String>,
    /// Partition of all records [default: by the key, or in turn]
    #[arg(short, long, value_name = "N")]
    partition: Option<i32>,
    /// Which acknowledgements to wait for
    #[arg(long, value_name = "all|1|0", default_value = "all", value_parser = ["all", "-1", "1", "0"])]
    acks: String,
    /// Codec of the batches
    #[arg(short = 'z', long, default_value = "none", value_parser = ["none", "gzip", "snappy", "lz4", "zstd"])]
    compression: String,
    #[command(flatten)]
    transactions: produce_txn::Flags,
    #[command(flatten)]
    later: Later,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<(), Stop> {
    let template = Template::new(args)?;
    let timeout = args.connection.timeout()?;
    let acks = match args.acks.as_str() {
        "0" => Acks::None,
        "1" => Acks::Leader,
        _ => Acks::All,
    };
    let codec = match args.compression.as_str() {
        "gzip" => Codec::Gzip,
        "snappy" => Codec::Snappy,
        "lz4" => Codec::Lz4,
        "zstd" => Codec::Zstd,
        _ => Codec::None,
    };
    let settled = args.transactions.settle(&args.acks)?;
    let config = ProducerConfig {
        acks,
        idempotence: acks == Acks::All,
        codec,
        // A record larger than the default of max.message.bytes is for the broker to judge.
        max_request_bytes: 64 << 20,
        buffer_bytes: 128 << 20,
        delivery_timeout: timeout,
        ..ProducerConfig::new(args.connection.network()?)
    };
    let config = match &settled {
        Some(settled) => settled.apply(config),
        None => config,
    };
    let source = match &args.file {
        Some(path) => Source::File(File::open(path).map_err(|error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            Failure::new(
                if missing { Code::NotFound } else { Code::Failed },
                format!("cannot read {}", path.display()),
                words(&error),
                "name a file that can be read with --file",
            )
        })?),
        None => Source::Stdin,
    };
    let is_later = args.later.header()?.is_some();
    connect::block_on(async {
        let transactions = settled.map(Transactions::new).transpose()?;
        if is_later {
            later::check_topic(&template.topic, &args.connection).await?;
        }
        let lines = read_lines(source)?;
        let sending = Sending {
            driver: Driver::new(Producer::new(config)),
            template,
            connection: args.connection.clone(),
            transactions,
            acknowledged: 0,
            taken: 0,
            first_bad: None,
        };
        sending.run(lines).await.map_err(Stop::from)
    })
}

/// What all records have in common.
struct Template {
    topic: KafkaString,
    partition: Option<PartitionIndex>,
    key: Option<Bytes>,
    headers: Vec<(Bytes, Option<Bytes>)>,
    format: InputFormat,
    format_text: String,
}

impl Template {
    fn new(args: &Args) -> Result<Self, Failure> {
        let mut headers = Vec::new();
        for header in &args.headers {
            let (name, value) = header.split_once('=').ok_or_else(|| {
                Failure::usage(
                    format!("cannot use --header {header}"),
                    "it has no =",
                    "write it as --header KEY=VALUE",
                )
            })?;
            headers.push((owned(name.as_bytes()), Some(owned(value.as_bytes()))));
        }
        headers.extend(args.later.header()?);
        Ok(Self {
            topic: topic_name(&args.topic)?,
            partition: args.partition.map(PartitionIndex),
            key: args.key.as_ref().map(|key| owned(key.as_bytes())),
            headers,
            format: InputFormat::parse(&args.format)?,
            format_text: args.format.clone(),
        })
    }

    fn record(&self, line: &[u8]) -> Option<NewRecord> {
        let (key, value) = self.format.split(line)?;
        Some(NewRecord {
            topic: self.topic.clone(),
            partition: self.partition,
            timestamp: None,
            key: key.map(owned).or_else(|| self.key.clone()),
            value: value.map(owned),
            headers: self.headers.clone(),
        })
    }
}

fn owned(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

struct Sending {
    driver: Driver<Producer>,
    template: Template,
    connection: Connection,
    /// With `--txn`.
    transactions: Option<Transactions>,
    acknowledged: u64,
    taken: u64,
    /// A record that was not acknowledged, by its number from 0, and why: the first one, or in a
    /// transaction the one that was told first, since the others fail with it.
    first_bad: Option<(u64, ClientError)>,
}

impl Sending {
    async fn run(mut self, mut lines: mpsc::Receiver<Line>) -> Result<(), Failure> {
        if self.transactions.is_some() {
            return self.run_transactions(lines).await;
        }
        let input_failure = self.send_lines(&mut lines).await?;
        let now = self.driver.now();
        self.driver.machine().flush(now);
        while self.driver.machine().pending() > 0 {
            self.turn().await?;
        }
        self.take_deliveries();
        self.driver.drained().await;
        if let Some((number, error)) = self.first_bad.take() {
            return Err(self.undelivered(number, &error));
        }
        match input_failure {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Sends the lines in transactions: what is open at a failure is aborted.
    async fn run_transactions(mut self, mut lines: mpsc::Receiver<Line>) -> Result<(), Failure> {
        let done = self.commit_lines(&mut lines).await;
        let Some(transactions) = &mut self.transactions else { return done };
        match done {
            Ok(()) => {
                self.driver.drained().await;
                Ok(())
            }
            Err(failure) => {
                Err(transactions.abort_after(failure, &mut self.driver, &self.connection).await)
            }
        }
    }

    async fn commit_lines(&mut self, lines: &mut mpsc::Receiver<Line>) -> Result<(), Failure> {
        if let Some(transactions) = &mut self.transactions {
            transactions.take_id(&mut self.driver, &self.connection).await?;
        }
        let input_failure = self.send_lines(lines).await?;
        if let Some(failure) = input_failure {
            return Err(failure);
        }
        let Some(transactions) = &mut self.transactions else { return Ok(()) };
        let committed = match self.first_bad {
            None => transactions.commit(&mut self.driver, &self.connection).await,
            Some(_) => Ok(()),
        };
        self.take_deliveries();
        match self.first_bad.take() {
            Some((number, error)) => Err(self.unsendable(number, &error)),
            None => committed,
        }
    }

    /// Hands over all lines, until one cannot be read, which is told by `Some`, or a record has failed.
    async fn send_lines(
        &mut self,
        lines: &mut mpsc::Receiver<Line>,
    ) -> Result<Option<Failure>, Failure> {
        let mut held: Option<Box<NewRecord>> = None;
        while self.first_bad.is_none() {
            if let Some(record) = held.take() {
                held = self.hand_over(record).await?;
                continue;
            }
            let line = rt::select_biased! {
                failure = signalled(&mut self.transactions) => return Err(failure),
                line = lines.recv() => line,
                () = self.driver.turn(None) => {
                    self.take_deliveries();
                    check_reachable(&self.driver, &self.connection)?;
                    continue;
                }
            };
            match line {
                Some(Ok(line)) => {
                    held = self.template.record(&line).map(Box::new);
                    if held.is_none() {
                        return Ok(Some(self.misshapen()));
                    }
                }
                Some(Err(error)) => {
                    return Ok(Some(Failure::new(
                        Code::Failed,
                        format!("cannot read record {}", self.taken + 1),
                        words(&error),
                        "send the rest again",
                    )));
                }
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Hands a record to the producer, or gives it back where that has no room for it.
    async fn hand_over(
        &mut self,
        record: Box<NewRecord>,
    ) -> Result<Option<Box<NewRecord>>, Failure> {
        if let Some(transactions) = &mut self.transactions {
            transactions.make_room(&mut self.driver, &self.connection).await?;
        }
        let now = self.driver.now();
        match self.driver.machine().send(now, *record) {
            Ok(_) => {
                self.taken += 1;
                if let Some(transactions) = &mut self.transactions {
                    transactions.count();
                }
                check_reachable(&self.driver, &self.connection)?;
                Ok(None)
            }
            Err(full) => {
                self.turn().await?;
                Ok(Some(full.record))
            }
        }
    }

    async fn turn(&mut self) -> Result<(), Failure> {
        rt::select_biased! {
            failure = signalled(&mut self.transactions) => return Err(failure),
            () = self.driver.turn(None) => {}
        }
        self.take_deliveries();
        check_reachable(&self.driver, &self.connection)
    }

    fn take_deliveries(&mut self) {
        while let Some(delivery) = self.driver.machine().poll_delivery() {
            match delivery.result {
                Ok(_) => self.acknowledged += 1,
                Err(error) => {
                    let Ticket(number) = delivery.ticket;
                    let is_first = |first: u64| self.transactions.is_none() && number < first;
                    if self.first_bad.as_ref().is_none_or(|(first, _)| is_first(*first)) {
                        self.first_bad = Some((number, error));
                    }
                }
            }
        }
    }

    fn misshapen(&self) -> Failure {
        let next = if self.transactions.is_some() {
            "correct it and send again".to_owned()
        } else {
            format!("{} records before it were sent; correct it and send the rest", self.taken)
        };
        Failure::new(
            Code::Failed,
            format!("cannot send line {}", self.taken + 1),
            format!("it does not have the form {}", self.template.format_text),
            next,
        )
    }

    /// Says why a transaction cannot be committed in which a record has failed.
    fn unsendable(&mut self, number: u64, error: &ClientError) -> Failure {
        let Some(transactions) = &self.transactions else {
            return self.undelivered(number, error);
        };
        transactions.lost_id(&mut self.driver).unwrap_or_else(|| {
            refused(format!("cannot send record number {}", number + 1), error, None)
        })
    }

    fn undelivered(&self, number: u64, error: &ClientError) -> Failure {
        if *error == ClientError::TimedOut && !self.driver.was_connected() {
            return self.connection.unreachable(None);
        }
        let mut failure = refused(
            format!(
                "only {} of {} records were acknowledged, the first that was not is number {}",
                self.acknowledged,
                self.taken,
                number + 1
            ),
            error,
            None,
        );
        failure.next = format!("{}, from record {} on", failure.next, number + 1);
        failure
    }
}

/// Waits for a signal, where those are for the command to take.
async fn signalled(transactions: &mut Option<Transactions>) -> Failure {
    match transactions {
        Some(transactions) => transactions.signal().await,
        None => std::future::pending().await,
    }
}

type Line = io::Result<Vec<u8>>;

enum Source {
    Stdin,
    File(File),
}

/// Reads lines on a thread of their own: a terminal or a pipe may keep one waiting for hours.
fn read_lines(source: Source) -> Result<mpsc::Receiver<Line>, Failure> {
    let (lines, queue) = mpsc::channel(AHEAD);
    let read = move || match source {
        Source::Stdin => {
            if io::stdin().is_terminal() {
                tracing::info!("reading records from the terminal, one a line; Ctrl-D ends");
            }
            forward(io::stdin().lock(), &lines);
        }
        Source::File(file) => forward(BufReader::with_capacity(1 << 20, file), &lines),
    };
    std::thread::Builder::new().name("input".to_owned()).spawn(read).map_err(|error| {
        Failure::new(
            Code::Failed,
            "cannot start reading",
            words(&error),
            "the system lacks threads or memory",
        )
    })?;
    Ok(queue)
}

fn forward(mut input: impl BufRead, lines: &mpsc::Sender<Line>) {
    loop {
        let mut line = Vec::new();
        let read = input.read_until(b'\n', &mut line);
        let line = match read {
            Ok(0) => return,
            Ok(_) => {
                if line.ends_with(b"\n") {
                    line.pop();
                }
                Ok(line)
            }
            Err(error) => Err(error),
        };
        let failed = line.is_err();
        // The other side has gone where the command has failed.
        if lines.blocking_send(line).is_err() || failed {
            return;
        }
    }
}
