//! `mainspring produce --txn`: the records of a run count together or not at all.
//!
//! A transaction is begun with its first record, so that an input without any has none. Whatever ends
//! the command before its input does, a signal too, aborts the one that is open; what was committed
//! before stays.

use std::time::Duration;

use mainspring_core::client::producer::transaction::{Call, TransactionError};
use mainspring_core::client::producer::{Producer, ProducerConfig};
use mainspring_core::error::ErrorCode;
use mainspring_core::wire::KafkaString;

use super::connect::{Connection, check_reachable, refused};
use super::failure::{Code, Failure, words};
use crate::client::Driver;
use crate::clock::Clock;
use crate::rt::{self, StopSignals};

/// Flags that are about transactions.
#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// Send all records in one transaction, which is aborted where the command does not come to its end
    #[arg(long)]
    txn: bool,
    /// Commit after so many records, and go on in another transaction
    #[arg(long, value_name = "N", requires = "txn", value_parser = clap::value_parser!(u64).range(1..))]
    batch: Option<u64>,
    /// Transactional id, which is taken over from whoever has it [default: one of its own for each run]
    #[arg(long, value_name = "ID", requires = "txn")]
    txn_id: Option<String>,
    /// Seconds after which the broker aborts what is still open
    #[arg(long, value_name = "SECONDS", requires = "txn", default_value = "60")]
    txn_timeout: f64,
}

impl Flags {
    /// Returns what the producer is told, `None` without `--txn`.
    pub(super) fn settle(&self, acks: &str) -> Result<Option<Settled>, Failure> {
        if !self.txn {
            return Ok(None);
        }
        if !matches!(acks, "all" | "-1") {
            return Err(Failure::usage(
                format!("cannot use --acks {acks} with --txn"),
                "a transaction needs all acknowledgements",
                "leave --acks out",
            ));
        }
        let id = self.txn_id.clone().unwrap_or_else(|| {
            format!("mainspring-produce-{}-{}", Clock::default().now().wall.0, std::process::id())
        });
        if id.is_empty() {
            return Err(Failure::usage(
                "cannot use --txn-id",
                "it is empty",
                "leave it out, or give it a name",
            ));
        }
        let timeout = Duration::try_from_secs_f64(self.txn_timeout)
            .ok()
            .filter(|timeout| timeout.as_millis() > 0 && timeout.as_millis() <= i32::MAX as u128)
            .ok_or_else(|| {
                Failure::usage(
                    format!("cannot use --txn-timeout {}", self.txn_timeout),
                    "it is a number of seconds above 0",
                    "write it as --txn-timeout 60",
                )
            })?;
        Ok(Some(Settled { id, timeout, batch: self.batch }))
    }
}

/// What the flags have come to.
pub(super) struct Settled {
    id: String,
    timeout: Duration,
    batch: Option<u64>,
}

impl Settled {
    /// Makes a configuration that of a transactional producer.
    pub(super) fn apply(&self, config: ProducerConfig) -> ProducerConfig {
        ProducerConfig {
            transactional_id: Some(KafkaString::from(self.id.as_str())),
            transaction_timeout: self.timeout,
            ..config
        }
    }
}

/// The transactions of a run.
pub(super) struct Transactions {
    settled: Settled,
    signals: StopSignals,
    /// Records that are committed.
    committed: u64,
    /// Records of the transaction that is open, `None` where none is.
    open: Option<u64>,
}

/// How the end of a transaction stands.
enum Ended {
    /// It has come to that.
    Done,
    /// Nobody has said so in time, or a signal ended the wait.
    Unheard(&'static str),
}

impl Transactions {
    /// Takes over the signals that end a command.
    pub(super) fn new(settled: Settled) -> Result<Self, Failure> {
        let signals = StopSignals::new().map_err(|error| {
            Failure::new(Code::Failed, "cannot take signals", words(&error), "try again")
        })?;
        Ok(Self { settled, signals, committed: 0, open: None })
    }

    /// Waits for a signal.
    pub(super) async fn signal(&mut self) -> Failure {
        let signal = self.signals.next().await;
        Failure::new(Code::Failed, format!("stopped by {signal}"), "", "send again")
    }

    /// Takes the transactional id over.
    pub(super) async fn take_id(
        &mut self,
        driver: &mut Driver<Producer>,
        connection: &Connection,
    ) -> Result<(), Failure> {
        let now = driver.now();
        driver.machine().init_transactions(now).map_err(|error| self.failed(&error))?;
        match self.wait_for(Call::Init, driver, connection).await? {
            Ended::Done => Ok(()),
            Ended::Unheard(_) if !driver.was_connected() => Err(connection.unreachable(None)),
            Ended::Unheard(why) => Err(Failure::new(
                Code::TimedOut,
                format!("cannot begin with the transactional id {}", self.settled.id),
                why,
                "see mainspring cluster health, or wait longer with --timeout",
            )),
        }
    }

    /// Sees to it that a transaction is open for the next record: one that is full is committed first.
    pub(super) async fn make_room(
        &mut self,
        driver: &mut Driver<Producer>,
        connection: &Connection,
    ) -> Result<(), Failure> {
        if self.open.is_some_and(|count| self.settled.batch == Some(count)) {
            self.commit(driver, connection).await?;
        }
        if self.open.is_none() {
            driver.machine().begin_transaction().map_err(|error| self.failed(&error))?;
            self.open = Some(0);
        }
        Ok(())
    }

    /// Notes that a record was taken.
    pub(super) fn count(&mut self) {
        self.open = Some(self.open.unwrap_or(0) + 1);
    }

    /// Says that the id is another's, if that is why a record has failed.
    pub(super) fn lost_id(&self, driver: &mut Driver<Producer>) -> Option<Failure> {
        let error = driver.machine().transaction_error()?;
        is_lost(&error).then(|| self.failed(&error))
    }

    /// Commits what is open.
    pub(super) async fn commit(
        &mut self,
        driver: &mut Driver<Producer>,
        connection: &Connection,
    ) -> Result<(), Failure> {
        let Some(count) = self.open else { return Ok(()) };
        let now = driver.now();
        driver.machine().commit_transaction(now).map_err(|error| self.failed(&error))?;
        match self.wait_for(Call::Commit, driver, connection).await? {
            Ended::Done => {
                self.committed += count;
                self.open = None;
                Ok(())
            }
            Ended::Unheard(why) => {
                // It can not be taken back any more.
                self.open = None;
                Err(Failure::new(
                    Code::TimedOut,
                    format!("cannot tell whether {} counts", Self::records(count)),
                    format!("{why} while the transaction was being committed"),
                    format!(
                        "see mainspring txn describe {}, and read the topic before anything is sent again",
                        self.settled.id
                    ),
                ))
            }
        }
    }

    /// Aborts what is open, and says in the failure what counts.
    pub(super) async fn abort_after(
        &mut self,
        mut failure: Failure,
        driver: &mut Driver<Producer>,
        connection: &Connection,
    ) -> Failure {
        let committed = self.committed;
        if let Some(count) = self.open.take() {
            let now = driver.now();
            let is_aborted = match driver.machine().abort_transaction(now) {
                Ok(()) => match self.wait_for(Call::Abort, driver, connection).await {
                    Ok(Ended::Done) => true,
                    Ok(Ended::Unheard(_)) => false,
                    // The coordinator knows best, and has aborted what was of an epoch that has passed.
                    Err(why) => {
                        let is_lost =
                            driver.machine().transaction_error().is_some_and(|it| is_lost(&it));
                        if is_lost {
                            failure = why;
                        }
                        is_lost
                    }
                },
                Err(error) => is_lost(&error),
            };
            let how = if is_aborted {
                "the transaction was aborted".to_owned()
            } else {
                format!(
                    "the transaction ends unseen, after {} s at the latest",
                    self.settled.timeout.as_secs_f64()
                )
            };
            let none =
                if count == 1 { "its record does not count" } else { "none of its records counts" };
            failure.why = join(&failure.why, &format!("{how}, {none}"));
        }
        if committed > 0 {
            failure.next = join(
                &failure.next,
                &format!(
                    "{} were committed before, send from record {} on",
                    Self::records(committed),
                    committed + 1
                ),
            );
        }
        failure
    }

    /// Waits until the producer says what became of a call.
    async fn wait_for(
        &mut self,
        call: Call,
        driver: &mut Driver<Producer>,
        connection: &Connection,
    ) -> Result<Ended, Failure> {
        // Records have as long to be reported, and the coordinator as long again to answer.
        let until = driver.now().mono + 2 * connection.timeout()?;
        loop {
            while let Some(event) = driver.machine().poll_transaction() {
                if event.call == call {
                    return event.result.map(|()| Ended::Done).map_err(|error| self.failed(&error));
                }
            }
            if driver.now().mono >= until {
                return Ok(Ended::Unheard("nothing answered in time"));
            }
            let is_stopped = rt::select_biased! {
                _ = self.signals.next() => true,
                () = driver.turn(Some(until)) => false,
            };
            if is_stopped {
                return Ok(Ended::Unheard("a signal came"));
            }
            check_reachable(driver, connection)?;
        }
    }

    /// Says what an error of the producer means.
    fn failed(&self, error: &TransactionError) -> Failure {
        let what = format!("cannot go on with the transactional id {}", self.settled.id);
        match error {
            TransactionError::Expired { open, timeout } => Failure::new(
                Code::Failed,
                what,
                format!(
                    "its transaction was open for {:.1} s, longer than the {} s of --txn-timeout",
                    open.as_secs_f64(),
                    timeout.as_secs_f64()
                ),
                "give it more time, or commit more often with --batch",
            ),
            TransactionError::Fenced => Failure::new(
                Code::Failed,
                what,
                "another producer has taken it",
                "use an id that nobody else has, with --txn-id",
            ),
            // A partition has said so, which knows nothing of timeouts.
            TransactionError::Abortable(_) | TransactionError::Fatal(_) if is_lost(error) => {
                Failure::new(
                    Code::Failed,
                    what,
                    format!(
                        "its transaction was open for longer than the {} s of --txn-timeout, or \
                         another producer has taken it",
                        self.settled.timeout.as_secs_f64()
                    ),
                    "give it more time, or commit more often with --batch, or use an id that nobody else has",
                )
            }
            TransactionError::Abortable(cause) | TransactionError::Fatal(cause) => {
                refused(what, cause, None)
            }
            error @ (TransactionError::Misplaced { .. } | _) => {
                Failure::new(Code::Failed, what, error, "try again")
            }
        }
    }

    fn records(count: u64) -> String {
        if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
    }
}

/// Whether the id, or its epoch, is not this producer's any more.
fn is_lost(error: &TransactionError) -> bool {
    match error {
        TransactionError::Fenced | TransactionError::Expired { .. } => true,
        TransactionError::Abortable(error) | TransactionError::Fatal(error) => matches!(
            error.refused_with(),
            Some(ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced)
        ),
        TransactionError::Misplaced { .. } | _ => false,
    }
}

fn join(one: &str, other: &str) -> String {
    if one.is_empty() { other.to_owned() } else { format!("{one}; {other}") }
}
