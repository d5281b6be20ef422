//! What commands that talk to a broker share: where it is, how long to wait, what its errors mean.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainspring_core::client::ClientError;
use mainspring_core::client::admin::{Admin, AdminTarget, CallId};
use mainspring_core::client::network::NetworkConfig;
use mainspring_core::error::ErrorCode;
use mainspring_core::ids::TopicName;
use mainspring_core::wire::{KafkaString, Request, Response};

use super::failure::{Code, Failure, words};
use super::output::Stop;
use crate::address::HostPort;
use crate::client::operations::{About, Asks, Refusal};
use crate::client::{Driver, Machine};
use crate::rt;

/// A broker where nothing listens is given up after so many tries, if it was never reached.
const TRIES: u32 = 4;

/// Flags of every command that talks to a broker.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Connection {
    /// Brokers to ask first, divided by commas [env: `MAINSPRING_BOOTSTRAP`; default: 127.0.0.1:9092]
    #[arg(short = 'b', long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    timeout: f64,
}

impl Connection {
    /// How long to wait.
    pub(crate) fn timeout(&self) -> Result<Duration, Failure> {
        Duration::try_from_secs_f64(self.timeout)
            .ok()
            .filter(|timeout| !timeout.is_zero() && timeout.as_secs() < 1_000_000)
            .ok_or_else(|| {
                Failure::usage(
                    format!("cannot use --timeout {}", self.timeout),
                    "it is a number of seconds above 0",
                    "write it as --timeout 10",
                )
            })
    }

    /// Where the brokers are, as text.
    pub(crate) fn bootstrap(&self) -> String {
        let variable = || std::env::var("MAINSPRING_BOOTSTRAP").ok();
        self.bootstrap.clone().or_else(variable).unwrap_or_else(|| "127.0.0.1:9092".to_owned())
    }

    /// What client machines are told.
    pub(crate) fn network(&self) -> Result<NetworkConfig, Failure> {
        let mut addresses = Vec::new();
        for part in self.bootstrap().split(',') {
            let address: HostPort = part.trim().parse().map_err(|why: String| {
                Failure::usage("cannot use --bootstrap", why, "write it as --bootstrap HOST:PORT")
            })?;
            addresses.push((Arc::from(address.host), address.port));
        }
        let timeout = self.timeout()?;
        Ok(NetworkConfig {
            client_id: KafkaString::from_static("mainspring-cli"),
            request_timeout: timeout,
            connect_timeout: timeout,
            ..NetworkConfig::new(addresses)
        })
    }

    /// What client machines are told that only read: asking for a topic does not make it.
    pub(crate) fn network_of_reader(&self) -> Result<NetworkConfig, Failure> {
        Ok(NetworkConfig { allow_auto_topic_creation: false, ..self.network()? })
    }

    /// Says that no broker was reached.
    pub(crate) fn unreachable(&self, why: Option<&std::io::Error>) -> Failure {
        let refused = why.is_some();
        Failure::new(
            if refused { Code::Failed } else { Code::TimedOut },
            format!("cannot reach a broker at {}", self.bootstrap()),
            why.map_or_else(|| "nothing answered in time".to_owned(), words),
            "start one with mainspring serve, or name another with --bootstrap",
        )
    }
}

/// Checks the name of a topic.
pub(crate) fn topic_name(name: &str) -> Result<KafkaString, Failure> {
    match TopicName::parse(name) {
        Ok(_) => Ok(name.into()),
        Err(why) => Err(Failure::usage(
            format!("cannot use the topic name {name}"),
            why,
            "choose another name",
        )),
    }
}

/// Says what an error of a client machine means to a command that tried to do `what`.
pub(crate) fn refused(
    what: impl AsRef<str>,
    error: &ClientError,
    message: Option<&str>,
) -> Failure {
    let (code, next) = match error {
        ClientError::Broker(code) | ClientError::Refused { code, .. } => of_the_broker(*code),
        ClientError::TimedOut => (Code::TimedOut, "try again, or wait longer with --timeout"),
        ClientError::Disconnected => (Code::Failed, "see whether the broker runs, and try again"),
        ClientError::TooLarge(_) => {
            (Code::Failed, "send less in one record, or raise max.message.bytes of the topic")
        }
        ClientError::Unknown { .. } => (Code::Failed, "read the topic to see whether it is there"),
        ClientError::NoPartition(_) => {
            (Code::NotFound, "name one that there is, or add some with mainspring topic alter")
        }
        ClientError::NoStoredOffset => {
            (Code::Failed, "say where to begin, or store one with mainspring group reset")
        }
        ClientError::UnknownCode(_)
        | ClientError::UnsupportedApi(_)
        | ClientError::Malformed(_) => {
            (Code::Failed, "see whether this address is that of a Kafka broker")
        }
        ClientError::Abandoned => (Code::Failed, "report it, and try again"),
        ClientError::NoTransaction | ClientError::Aborted => {
            (Code::Failed, "begin a transaction anew")
        }
        _ => (Code::Failed, "try again"),
    };
    let said = message.filter(|message| !message.is_empty());
    let why = match (error.refused_with(), error) {
        (Some(code), ClientError::Refused { message, .. }) => {
            format!("{}: {}", code.name(), said.unwrap_or(message))
        }
        (Some(code), _) => format!("{}: {}", code.name(), said.unwrap_or_else(|| code.message())),
        (None, error) => said.map_or_else(|| error.to_string(), str::to_owned),
    };
    Failure::new(code, what, why.trim_end_matches('.'), next)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only these codes mean something of their own")]
fn of_the_broker(code: ErrorCode) -> (Code, &'static str) {
    match code {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
            (Code::NotFound, "see mainspring topic list for those that there are")
        }
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::TransactionalIdAuthorizationFailed
        | ErrorCode::DelegationTokenAuthorizationFailed
        | ErrorCode::SaslAuthenticationFailed => {
            (Code::NotAllowed, "ask an operator for the right")
        }
        ErrorCode::RequestTimedOut => (Code::TimedOut, "try again, or wait longer with --timeout"),
        ErrorCode::TopicAlreadyExists => {
            (Code::Failed, "choose another name, or see mainspring topic describe")
        }
        ErrorCode::GroupIdNotFound => {
            (Code::NotFound, "see mainspring group list for those that there are")
        }
        ErrorCode::NonEmptyGroup => {
            (Code::Failed, "stop its members first; mainspring group describe shows them")
        }
        ErrorCode::InconsistentGroupProtocol => {
            (Code::Failed, "its members use another rule; name one of theirs with --assignor")
        }
        ErrorCode::FencedInstanceId => {
            (Code::Failed, "another process has this --instance name; choose another one")
        }
        ErrorCode::OffsetOutOfRange => {
            (Code::Failed, "see mainspring topic describe for the offsets that there are")
        }
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            (Code::Failed, "send less in one record, or raise max.message.bytes of the topic")
        }
        code if code.is_retriable() => (Code::Failed, "try again in a while"),
        _ => (Code::Failed, "correct it and try again"),
    }
}

/// Runs a command's future on this thread.
pub(crate) fn block_on<F>(future: F) -> Result<(), Stop>
where
    F: Future<Output = Result<(), Stop>>,
{
    rt::block_on(future).map_err(|error| {
        Failure::new(
            Code::Failed,
            "cannot start a runtime",
            words(&error),
            "the system lacks threads, memory or descriptors",
        )
    })?
}

/// Administrative requests of a command, one after the other or at the same time.
pub(crate) struct Requests {
    driver: Driver<Admin>,
    connection: Connection,
}

impl Requests {
    /// Connects to nothing before the first request.
    pub(crate) fn new(connection: &Connection) -> Result<Self, Failure> {
        let machine = Admin::new(connection.network()?, connection.timeout()?);
        Ok(Self { driver: Driver::new(machine), connection: connection.clone() })
    }

    /// Hands a request over, to be waited for with [`answer`](Self::answer).
    pub(crate) fn send(&mut self, target: AdminTarget, request: impl Into<Request>) -> CallId {
        let now = self.driver.now();
        self.driver.machine().call(now, target, request)
    }

    /// Waits for the next answer.
    pub(crate) async fn answer(
        &mut self,
    ) -> Result<(CallId, Result<Response, ClientError>), Failure> {
        loop {
            if let Some(answer) = self.driver.machine().poll_answer() {
                if answer.1 == Err(ClientError::TimedOut) && !self.driver.was_connected() {
                    return Err(self.connection.unreachable(None));
                }
                return Ok(answer);
            }
            self.driver.turn(None).await;
            check_reachable(&self.driver, &self.connection)?;
        }
    }

    /// Sends a request and waits for its answer; `what` is what it tries, for the failure.
    pub(crate) async fn ask(
        &mut self,
        what: &str,
        target: AdminTarget,
        request: impl Into<Request>,
    ) -> Result<Response, Failure> {
        let call = self.send(target, request);
        loop {
            let (answered, result) = self.answer().await?;
            if answered == call {
                return result.map_err(|error| refused(what, &error, None));
            }
        }
    }
}

/// What ends an operation of a command.
pub(crate) enum Ended {
    /// No broker answers.
    Failed(Failure),
    /// A broker refused it.
    Refused(Refusal),
}

impl Ended {
    /// Says what it means to a command that tried to do `what`.
    pub(crate) fn of(self, what: &str) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::Refused(Refusal { about, error }) => match about {
                About::Partition((topic, partition)) => refused(
                    format!("{what} in the topic {topic}, partition {partition}"),
                    &error,
                    None,
                ),
                About::Cluster | About::Topic(_) | About::Group(_) => refused(what, &error, None),
            },
        }
    }
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Asks for Requests {
    type Failure = Ended;

    async fn ask_all(
        &mut self,
        requests: Vec<(AdminTarget, Request)>,
    ) -> Result<Vec<Result<Response, ClientError>>, Ended> {
        let calls: Vec<CallId> =
            requests.into_iter().map(|(target, request)| self.send(target, request)).collect();
        let mut answers = BTreeMap::new();
        while answers.len() < calls.len() {
            let (call, result) = self.answer().await.map_err(Ended::Failed)?;
            if calls.contains(&call) {
                answers.insert(call, result);
            }
        }
        Ok(calls.iter().filter_map(|call| answers.remove(call)).collect())
    }
}

/// Gives up where nothing listens and nothing ever did.
pub(crate) fn check_reachable<M: Machine>(
    driver: &Driver<M>,
    connection: &Connection,
) -> Result<(), Failure> {
    match driver.last_failure() {
        Some((error, tries)) if !driver.was_connected() && tries >= TRIES => {
            Err(connection.unreachable(Some(error)))
        }
        Some(_) | None => Ok(()),
    }
}

/// An answer of another API than the one that was asked.
pub(crate) fn strange(what: &str) -> Failure {
    refused(what, &ClientError::Malformed("it is of another request".to_owned()), None)
}
