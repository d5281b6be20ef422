//! Settings of clients by Kafka's names, as text.
//!
//! Meanings, defaults and bounds are those of Apache Kafka 4.3's clients, but for what the table
//! says. A setting that nothing enforces is refused rather than ignored, unless it has the value
//! that clients behave as anyway. An unknown name is refused with what was probably meant; a name
//! of librdkafka's, or of the other kind of client, with the name that is right here. Sizes are
//! plain numbers of bytes, times plain numbers of milliseconds.
//!
//! Rules that join settings are Kafka's: a default gives way where it does not go together with
//! what was set, and two values that were both set are refused.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use super::consumer::ConsumerConfig;
use super::fetcher::Start;
use super::group::assignor::Assignor;
use super::metadata::Address;
use super::network::NetworkConfig;
use super::producer::{Acks, ProducerConfig};
use crate::config::{SettingDef, SettingType, Valid, check, nearest};
use crate::record::compress::Codec;

/// What a client is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ClientKind {
    /// It writes records.
    Producer,
    /// It reads records.
    Consumer,
    /// It administers topics and groups.
    Admin,
}

impl ClientKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Producer, Self::Consumer, Self::Admin];

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::Admin => "admin",
        }
    }

    /// Finds the one with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    const fn mark(self) -> u8 {
        match self {
            Self::Producer => PRODUCER,
            Self::Consumer => CONSUMER,
            Self::Admin => ADMIN,
        }
    }

    /// The client with its article, as it stands in a sentence.
    const fn phrase(self) -> &'static str {
        match self {
            Self::Producer => "a producer",
            Self::Consumer => "a consumer",
            Self::Admin => "an admin client",
        }
    }
}

impl fmt::Display for ClientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.phrase())
    }
}

/// Why a setting was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// Nobody knows the name.
    #[error("{name} is no setting of {kind}; did you mean {nearest}?")]
    Unknown {
        /// For which client it was given.
        kind: ClientKind,
        /// What was asked for.
        name: String,
        /// The known name that looks most like it.
        nearest: &'static str,
    },
    /// Another library calls the setting so.
    #[error("{name} is no setting of Kafka's own clients; use {known}")]
    Renamed {
        /// What was asked for.
        name: String,
        /// The name that is right here, or how else to say it.
        known: &'static str,
    },
    /// It is a setting of another kind of client.
    #[error("{name} is a setting of {other}, not of {kind}; leave it out here")]
    OtherKind {
        /// For which client it was given.
        kind: ClientKind,
        /// The name.
        name: &'static str,
        /// Whose setting it is.
        other: ClientKind,
    },
    /// Kafka has the setting, and nothing here does what it says.
    #[error("{name} is not supported: {why}")]
    Unsupported {
        /// The name.
        name: &'static str,
        /// What there is in place of it.
        why: &'static str,
    },
    /// The value is of the wrong type or outside its bounds.
    #[error("{name}={value} is not valid: {why}")]
    Invalid {
        /// The name.
        name: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it and what would be right.
        why: String,
    },
    /// A name was given twice.
    #[error("{0} is given twice; leave one of them out")]
    Twice(&'static str),
    /// Settings that do not go together.
    #[error("{0}")]
    Conflict(String),
    /// An address cannot be used.
    #[error("bootstrap.servers={value:?} is not valid: {why}")]
    Bootstrap {
        /// What was given.
        value: String,
        /// What is wrong with it and what would be right.
        why: String,
    },
}

impl SettingError {
    /// Returns the name of the setting that was refused, `None` where it is about several.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Unknown { name, .. } | Self::Renamed { name, .. } => Some(name),
            Self::OtherKind { name, .. }
            | Self::Unsupported { name, .. }
            | Self::Invalid { name, .. }
            | Self::Twice(name) => Some(name),
            Self::Bootstrap { .. } => Some("bootstrap.servers"),
            Self::Conflict(_) => None,
        }
    }

    /// Returns the name that was probably meant, or is right here.
    pub fn meant(&self) -> Option<&'static str> {
        match self {
            Self::Unknown { nearest, .. } => Some(nearest),
            Self::Renamed { known, .. } => {
                SETTINGS.iter().map(|setting| setting.def.name).find(|name| name == known)
            }
            Self::OtherKind { .. }
            | Self::Unsupported { .. }
            | Self::Invalid { .. }
            | Self::Twice(_)
            | Self::Conflict(_)
            | Self::Bootstrap { .. } => None,
        }
    }
}

/// What an administrative client is told at its birth.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Connections and metadata.
    pub network: NetworkConfig,
    /// How long a request may look for a connection (`default.api.timeout.ms`).
    pub api_timeout: Duration,
}

/// A setting, and the clients that have it.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Known {
    kinds: u8,
    def: SettingDef,
}

const PRODUCER: u8 = 1;
const CONSUMER: u8 = 2;
const ADMIN: u8 = 4;
const ALL: u8 = PRODUCER | CONSUMER | ADMIN;

const fn known(
    kinds: u8,
    name: &'static str,
    kind: SettingType,
    default: &'static str,
    valid: Valid,
    documentation: &'static str,
) -> Known {
    Known { kinds, def: SettingDef { name, kind, default, valid, documentation } }
}

/// Most bytes and milliseconds that are told as a number of 32 bits.
const INT: i64 = i32::MAX as i64;
/// Most milliseconds of a time: beyond it sums might overflow.
const LONG: i64 = i64::MAX / 1_000_000 / 4;

/// Every setting of clients that is known, ordered by name.
const SETTINGS: &[Known] = {
    use SettingType::{Boolean, Int, List, Long, String};
    use Valid::{Fixed, OneOf, Range};
    const TEXT: Valid = Valid::Text;
    &[
        known(
            PRODUCER,
            "acks",
            String,
            "all",
            OneOf(&["all", "-1", "0", "1"]),
            "Acknowledgements that a record waits for: all, 1 (the leader's) or 0 (none).",
        ),
        known(
            CONSUMER,
            "allow.auto.create.topics",
            Boolean,
            "true",
            Valid::Boolean,
            "Whether subscribing to a topic may make it.",
        ),
        known(
            CONSUMER,
            "auto.commit.interval.ms",
            Int,
            "5000",
            Range(0, INT),
            "Milliseconds between automatic commits.",
        ),
        known(
            CONSUMER,
            "auto.offset.reset",
            String,
            "latest",
            OneOf(&["earliest", "latest", "none"]),
            "Where reading begins without a stored offset: at the first record, behind the last \
             one, or not at all.",
        ),
        known(
            PRODUCER,
            "batch.size",
            Int,
            "16384",
            Range(0, INT),
            "Bytes at which a batch of a partition is full; 0 sends every record by itself.",
        ),
        known(
            PRODUCER,
            "buffer.memory",
            Long,
            "33554432",
            Range(1, INT),
            "Most bytes of records that wait or are on their way.",
        ),
        known(
            CONSUMER,
            "check.crcs",
            Boolean,
            "true",
            Fixed,
            "Whether checksums of what is read are checked.",
        ),
        known(
            ALL,
            "client.id",
            String,
            "mainspring",
            TEXT,
            "Name that the client gives itself in requests.",
        ),
        known(
            CONSUMER,
            "client.rack",
            String,
            "",
            TEXT,
            "Where a member of a group is; leaders of other clients may look at it.",
        ),
        known(
            PRODUCER,
            "compression.type",
            String,
            "none",
            OneOf(&["none", "gzip", "snappy", "lz4", "zstd"]),
            "Codec of the batches.",
        ),
        known(
            CONSUMER | ADMIN,
            "default.api.timeout.ms",
            Int,
            "60000",
            Range(1, INT),
            "Longest time that a call takes which names no time of its own, in milliseconds.",
        ),
        known(
            PRODUCER,
            "delivery.timeout.ms",
            Int,
            "120000",
            Range(1, INT),
            "Milliseconds from taking a record to its report at the latest; at least linger.ms + \
             request.timeout.ms.",
        ),
        known(
            CONSUMER,
            "enable.auto.commit",
            Boolean,
            "true",
            Valid::Boolean,
            "Whether offsets of what was processed are stored by themselves; false without a \
             group.",
        ),
        known(
            PRODUCER,
            "enable.idempotence",
            Boolean,
            "true",
            Valid::Boolean,
            "Whether records are stored once and in order, whatever is sent again; needs acks=all \
             and at most 5 requests in flight. Weaker acks turn it off where it is not set.",
        ),
        known(
            ALL,
            "enable.metrics.push",
            Boolean,
            "false",
            Fixed,
            "Whether the client sends metrics to the broker.",
        ),
        known(
            CONSUMER,
            "fetch.max.bytes",
            Int,
            "52428800",
            Range(0, INT),
            "Most bytes of one answer with records; one batch always passes.",
        ),
        known(
            CONSUMER,
            "fetch.max.wait.ms",
            Int,
            "500",
            Range(0, INT),
            "How long the broker waits for fetch.min.bytes, in milliseconds.",
        ),
        known(
            CONSUMER,
            "fetch.min.bytes",
            Int,
            "1",
            Range(0, INT),
            "Bytes that the broker waits for before it answers.",
        ),
        known(
            CONSUMER,
            "group.id",
            String,
            "",
            TEXT,
            "The group that the consumer is a member of; without one nothing is stored.",
        ),
        known(
            CONSUMER,
            "group.instance.id",
            String,
            "",
            TEXT,
            "A name that stays with the member over restarts, so that a short one moves no \
             partitions.",
        ),
        known(
            CONSUMER,
            "group.protocol",
            String,
            "classic",
            Fixed,
            "How the group shares its partitions.",
        ),
        known(
            CONSUMER,
            "heartbeat.interval.ms",
            Int,
            "3000",
            Range(1, INT),
            "Milliseconds between signs of life; below session.timeout.ms.",
        ),
        known(
            CONSUMER,
            "isolation.level",
            String,
            "read_uncommitted",
            OneOf(&["read_committed", "read_uncommitted"]),
            "Whether records of transactions are read only once these are committed.",
        ),
        known(
            PRODUCER,
            "linger.ms",
            Int,
            "5",
            Range(0, INT),
            "How long a batch that is not full waits for more, in milliseconds.",
        ),
        known(
            PRODUCER,
            "max.block.ms",
            Long,
            "60000",
            Range(0, LONG),
            "How long sending waits for room in the buffer, in milliseconds.",
        ),
        known(
            PRODUCER,
            "max.in.flight.requests.per.connection",
            Int,
            "5",
            Range(1, 1000),
            "Most unanswered requests of a connection.",
        ),
        known(
            CONSUMER,
            "max.partition.fetch.bytes",
            Int,
            "1048576",
            Range(0, INT),
            "Most bytes of one partition in an answer; one batch always passes.",
        ),
        known(
            CONSUMER,
            "max.poll.interval.ms",
            Int,
            "300000",
            Range(1, INT),
            "How long a member may work on what it was given, in milliseconds, before the group \
             goes on without it.",
        ),
        known(
            PRODUCER,
            "max.request.size",
            Int,
            "1048576",
            Range(1, INT),
            "Most bytes of one request, and so of one record.",
        ),
        known(
            ALL,
            "metadata.max.age.ms",
            Long,
            "300000",
            Range(1, LONG),
            "Age at which the cluster is asked for its topics and leaders again, in milliseconds.",
        ),
        known(
            CONSUMER,
            "partition.assignment.strategy",
            List,
            "range,cooperative-sticky",
            TEXT,
            "Rules of sharing partitions that the member can live with, the preferred one first: \
             range, cooperative-sticky.",
        ),
        known(
            ALL,
            "reconnect.backoff.max.ms",
            Long,
            "1000",
            Range(0, LONG),
            "Longest pause before a lost connection is made again, in milliseconds.",
        ),
        known(
            ALL,
            "reconnect.backoff.ms",
            Long,
            "50",
            Range(0, LONG),
            "First such pause, in milliseconds; it doubles up to the longest one.",
        ),
        known(
            ALL,
            "request.timeout.ms",
            Int,
            "30000",
            Range(1, INT),
            "Longest wait for an answer, in milliseconds.",
        ),
        known(
            PRODUCER | ADMIN,
            "retries",
            Int,
            "2147483647",
            Fixed,
            "How often something is tried again: the time limits alone bound it.",
        ),
        known(
            ALL,
            "retry.backoff.max.ms",
            Long,
            "1000",
            Fixed,
            "Longest pause before something that was refused is tried again, in milliseconds.",
        ),
        known(
            ALL,
            "retry.backoff.ms",
            Long,
            "100",
            Range(0, LONG),
            "Pause before something that was refused is tried again, in milliseconds.",
        ),
        known(
            ALL,
            "security.protocol",
            String,
            "PLAINTEXT",
            Fixed,
            "How connections are secured; TLS and authentication are not there yet.",
        ),
        known(
            CONSUMER,
            "session.timeout.ms",
            Int,
            "45000",
            Range(1, INT),
            "Milliseconds of silence after which the group takes a member for dead.",
        ),
        known(
            ALL,
            "socket.connection.setup.timeout.ms",
            Long,
            "10000",
            Range(1, LONG),
            "Longest wait for a connection, in milliseconds.",
        ),
    ]
};

/// Settings of Kafka's clients that nothing here enforces, and what there is in place of them.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("auto.include.jmx.reporter", "there is no JMX here; leave it out"),
    ("bootstrap.controllers.servers", "administrative requests go through the brokers"),
    ("bootstrap.servers", "the addresses are the client's first argument; leave it out here"),
    ("client.dns.lookup", "every address of a name is tried; leave it out"),
    ("compression.gzip.level", "each codec has its usual level; leave it out"),
    ("compression.lz4.level", "each codec has its usual level; leave it out"),
    ("compression.zstd.level", "each codec has its usual level; leave it out"),
    ("config.providers", "give the value itself"),
    ("connections.max.idle.ms", "idle connections are left to the broker; leave it out"),
    ("exclude.internal.topics", "internal topics are never subscribed to; leave it out"),
    ("group.remote.assignor", "only the classic protocol of groups is there; leave it out"),
    ("interceptor.classes", "wrap the call that sends or reads in place of it"),
    ("key.deserializer", "give a topic with serializers in place of a name"),
    ("key.serializer", "give a topic with serializers in place of a name"),
    ("max.poll.records", "records are told one by one, or by batches that say their size"),
    ("metadata.max.idle.ms", "topics that were used are remembered; leave it out"),
    ("metadata.recovery.strategy", "the first addresses are asked again whenever needed"),
    ("metric.reporters", "clients have no metrics yet; leave it out"),
    ("metrics.num.samples", "clients have no metrics yet; leave it out"),
    ("metrics.recording.level", "clients have no metrics yet; leave it out"),
    ("metrics.sample.window.ms", "clients have no metrics yet; leave it out"),
    (
        "partitioner.adaptive.partitioning.enable",
        "records without a key stay with a partition for one batch, then go to the next",
    ),
    ("partitioner.availability.timeout.ms", "partitions without a leader are passed over"),
    (
        "partitioner.class",
        "records with a key go where Java's client puts them; name the partition for another rule",
    ),
    ("partitioner.ignore.keys", "name the partition in place of it"),
    ("receive.buffer.bytes", "the system sizes the buffers of sockets; leave it out"),
    ("sasl.jaas.config", "authentication is not there yet"),
    ("sasl.mechanism", "authentication is not there yet"),
    ("sasl.password", "authentication is not there yet"),
    ("sasl.username", "authentication is not there yet"),
    ("send.buffer.bytes", "the system sizes the buffers of sockets; leave it out"),
    (
        "socket.connection.setup.timeout.max.ms",
        "socket.connection.setup.timeout.ms holds for every attempt",
    ),
    ("ssl.ca.location", "TLS is not there yet"),
    ("ssl.key.location", "TLS is not there yet"),
    ("ssl.keystore.location", "TLS is not there yet"),
    ("ssl.truststore.location", "TLS is not there yet"),
    ("transaction.timeout.ms", "transactions are not there yet"),
    ("transactional.id", "transactions are not there yet"),
    ("value.deserializer", "give a topic with serializers in place of a name"),
    ("value.serializer", "give a topic with serializers in place of a name"),
];

/// What librdkafka and clients in Python call otherwise, and the name that is right here.
const RENAMED: &[(&str, &str)] = &[
    ("auto.commit.enable", "enable.auto.commit"),
    ("batch.num.messages", "batch.size, in bytes"),
    ("compression.codec", "compression.type"),
    ("debug", "nothing: there is no such log"),
    ("enable.auto.offset.store", "enable.auto.commit=false, and commit what is processed"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("fetch.wait.max.ms", "fetch.max.wait.ms"),
    ("max.batch.size", "batch.size"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("message.max.bytes", "max.request.size"),
    ("message.send.max.retries", "delivery.timeout.ms, which bounds what is tried again"),
    ("message.timeout.ms", "delivery.timeout.ms"),
    ("metadata.broker.list", "the client's first argument"),
    (
        "partitioner",
        "the partition of each record: those with a key go where Java's client puts them",
    ),
    ("queue.buffering.max.kbytes", "buffer.memory, in bytes"),
    ("queue.buffering.max.messages", "buffer.memory, in bytes"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("queued.max.messages.kbytes", "fetch.max.bytes, in bytes"),
    ("queued.min.messages", "fetch.max.bytes"),
    ("receive.message.max.bytes", "fetch.max.bytes"),
    ("request.required.acks", "acks"),
    ("request.timeout", "request.timeout.ms"),
    ("retry.backoff", "retry.backoff.ms"),
    ("session.timeout", "session.timeout.ms"),
    ("socket.timeout.ms", "request.timeout.ms"),
    ("topic.metadata.refresh.interval.ms", "metadata.max.age.ms"),
];

/// Returns every setting of a kind of client, ordered by name.
pub fn client_settings(kind: ClientKind) -> impl Iterator<Item = &'static SettingDef> {
    SETTINGS.iter().filter(move |known| known.kinds & kind.mark() != 0).map(|known| &known.def)
}

/// Finds a setting of a kind of client.
///
/// # Errors
/// [`SettingError`] that says what is wrong with the name.
pub fn find_setting(kind: ClientKind, name: &str) -> Result<&'static SettingDef, SettingError> {
    if let Some(found) = SETTINGS.iter().find(|known| known.def.name == name) {
        if found.kinds & kind.mark() != 0 {
            return Ok(&found.def);
        }
        let other = ClientKind::ALL.into_iter().find(|kind| found.kinds & kind.mark() != 0);
        let other = other.expect("every setting is one of some client's");
        return Err(SettingError::OtherKind { kind, name: found.def.name, other });
    }
    if let Some(&(name, why)) = UNSUPPORTED.iter().find(|(known, _)| *known == name) {
        return Err(SettingError::Unsupported { name, why });
    }
    if let Some(&(_, known)) = RENAMED.iter().find(|(other, _)| *other == name) {
        return Err(SettingError::Renamed { name: name.to_owned(), known });
    }
    Err(SettingError::Unknown {
        kind,
        name: name.chars().take(100).collect(),
        nearest: nearest(name, client_settings(kind).map(|def| def.name)),
    })
}

/// Reads `host:port,host:port`, IPv6 addresses in brackets (`bootstrap.servers`).
///
/// # Errors
/// [`SettingError::Bootstrap`] where there is none, or one is not an address.
pub fn parse_bootstrap(text: &str) -> Result<Vec<Address>, SettingError> {
    let wrong = |part: &str, why: &str| SettingError::Bootstrap {
        value: part.chars().take(200).collect(),
        why: format!("{why}; write it as HOST:PORT,HOST:PORT"),
    };
    let mut addresses = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (host, port) = part.rsplit_once(':').ok_or_else(|| wrong(part, "it has no port"))?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(wrong(part, "what is in brackets is no IPv6 address")),
            None if host.contains(':') => {
                return Err(wrong(part, "an IPv6 address stands in brackets, as in [::1]:9092"));
            }
            None => host,
        };
        if host.is_empty() {
            return Err(wrong(part, "it has no host"));
        }
        if host.contains(|c: char| c.is_whitespace() || c.is_control() || "/[]".contains(c)) {
            return Err(wrong(part, "its host holds a character that no host has"));
        }
        let port = port.parse().ok().filter(|&port| port != 0);
        let port = port.ok_or_else(|| wrong(part, "its port is no number from 1 to 65535"))?;
        addresses.push((Arc::from(host), port));
    }
    if addresses.is_empty() {
        return Err(wrong(text, "it names no broker"));
    }
    Ok(addresses)
}

/// Reads the settings of a producer.
///
/// # Errors
/// [`SettingError`] for the first setting that cannot be used, or two that do not go together.
pub fn producer_config(
    bootstrap: Vec<Address>,
    settings: &[(String, String)],
) -> Result<ProducerConfig, SettingError> {
    let given = Given::read(ClientKind::Producer, settings)?;
    let acks = match given.text("acks") {
        "0" => Acks::None,
        "1" => Acks::Leader,
        _ => Acks::All,
    };
    let mut network = given.network(bootstrap);
    network.max_in_flight = given.size("max.in.flight.requests.per.connection");

    let mut idempotence = given.is_true("enable.idempotence");
    if idempotence && acks != Acks::All {
        if given.has("enable.idempotence") {
            return Err(SettingError::Conflict(format!(
                "enable.idempotence=true needs acks=all, and acks={} was set; leave one of them out",
                given.text("acks")
            )));
        }
        idempotence = false;
    }
    if idempotence && network.max_in_flight > 5 {
        return Err(SettingError::Conflict(format!(
            "max.in.flight.requests.per.connection={} does not go with enable.idempotence=true: \
             more than 5 cannot be kept in order; lower it, or set enable.idempotence=false",
            network.max_in_flight
        )));
    }

    let linger = given.time("linger.ms");
    let mut delivery_timeout = given.time("delivery.timeout.ms");
    let least = linger.saturating_add(network.request_timeout);
    if delivery_timeout < least {
        if given.has("delivery.timeout.ms") {
            return Err(SettingError::Conflict(format!(
                "delivery.timeout.ms={} is less than linger.ms + request.timeout.ms = {}; raise it, \
                 or lower one of these",
                delivery_timeout.as_millis(),
                least.as_millis()
            )));
        }
        delivery_timeout = least;
    }
    Ok(ProducerConfig {
        acks,
        idempotence,
        codec: Codec::from_name(given.text("compression.type")).expect("the name was checked"),
        batch_bytes: given.size("batch.size"),
        linger,
        buffer_bytes: given.size("buffer.memory"),
        max_request_bytes: given.size("max.request.size"),
        delivery_timeout,
        max_block: given.time("max.block.ms"),
        ..ProducerConfig::new(network)
    })
}

/// Reads the settings of a consumer, `group.id` among them.
///
/// # Errors
/// [`SettingError`] for the first setting that cannot be used, or two that do not go together.
pub fn consumer_config(
    bootstrap: Vec<Address>,
    settings: &[(String, String)],
) -> Result<ConsumerConfig, SettingError> {
    let given = Given::read(ClientKind::Consumer, settings)?;
    let mut network = given.network(bootstrap);
    network.allow_auto_topic_creation = given.is_true("allow.auto.create.topics");
    // What an answer brings beside its records is little, but one batch may pass the limit.
    let answer = given.size("fetch.max.bytes").max(given.size("max.partition.fetch.bytes"));
    network.max_frame_bytes = network.max_frame_bytes.max(answer.saturating_add(64 << 20));

    let group_id = given.text_if_any("group.id");
    let mut config = ConsumerConfig::new(network, group_id.map(Into::into));
    let fetcher = &mut config.fetcher;
    fetcher.read_committed = given.text("isolation.level") == "read_committed";
    fetcher.min_bytes = given.int("fetch.min.bytes");
    fetcher.max_wait = given.time("fetch.max.wait.ms");
    fetcher.max_bytes = given.int("fetch.max.bytes");
    fetcher.max_partition_bytes = given.int("max.partition.fetch.bytes");
    fetcher.reset = match given.text("auto.offset.reset") {
        "earliest" => Some(Start::Earliest),
        "latest" => Some(Start::Latest),
        _ => None,
    };

    let automatic = given.is_true("enable.auto.commit");
    let Some(group) = &mut config.group else {
        for needs_group in ["enable.auto.commit", "group.instance.id"] {
            if given.has(needs_group) && (automatic || needs_group != "enable.auto.commit") {
                return Err(SettingError::Conflict(format!(
                    "{needs_group}={} needs a group; set group.id, or leave it out",
                    given.text(needs_group)
                )));
            }
        }
        return Ok(config);
    };
    config.auto_commit = automatic.then(|| given.time("auto.commit.interval.ms"));
    group.instance_id = given.text_if_any("group.instance.id").map(Into::into);
    group.rack = given.text_if_any("client.rack").map(Into::into);
    group.session_timeout = given.time("session.timeout.ms");
    group.heartbeat_interval = given.time("heartbeat.interval.ms");
    group.rebalance_timeout = given.time("max.poll.interval.ms");
    group.assignors = assignors(given.text("partition.assignment.strategy"))?;
    group.require_stable = fetcher.read_committed;
    group.api_timeout = given.time("default.api.timeout.ms");
    if group.heartbeat_interval >= group.session_timeout {
        return Err(SettingError::Conflict(format!(
            "heartbeat.interval.ms={} is not below session.timeout.ms={}; a third of it is usual",
            group.heartbeat_interval.as_millis(),
            group.session_timeout.as_millis()
        )));
    }
    Ok(config)
}

/// Reads the settings of an administrative client.
///
/// # Errors
/// [`SettingError`] for the first setting that cannot be used, or two that do not go together.
pub fn admin_config(
    bootstrap: Vec<Address>,
    settings: &[(String, String)],
) -> Result<AdminConfig, SettingError> {
    let given = Given::read(ClientKind::Admin, settings)?;
    let network = given.network(bootstrap);
    let mut api_timeout = given.time("default.api.timeout.ms");
    if api_timeout < network.request_timeout {
        if given.has("default.api.timeout.ms") {
            return Err(SettingError::Conflict(format!(
                "default.api.timeout.ms={} is less than request.timeout.ms={}; raise it, or lower \
                 that one",
                api_timeout.as_millis(),
                network.request_timeout.as_millis()
            )));
        }
        api_timeout = network.request_timeout;
    }
    Ok(AdminConfig { network, api_timeout })
}

/// Reads names of assignors, also as the Java classes that Kafka's own clients name.
fn assignors(text: &str) -> Result<Vec<Assignor>, SettingError> {
    let invalid = |why: String| SettingError::Invalid {
        name: "partition.assignment.strategy",
        value: text.to_owned(),
        why,
    };
    let mut found = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let short = name.rsplit('.').next().unwrap_or(name);
        let assignor = match short {
            "RangeAssignor" => Assignor::Range,
            "CooperativeStickyAssignor" => Assignor::CooperativeSticky,
            _ => Assignor::from_name(name).ok_or_else(|| {
                let names = Assignor::ALL.map(Assignor::name).join(", ");
                invalid(format!("{name} is no rule that is known here; there are {names}"))
            })?,
        };
        if found.contains(&assignor) {
            return Err(invalid(format!("it names {name} twice")));
        }
        found.push(assignor);
    }
    if found.is_empty() {
        return Err(invalid("it names no rule".to_owned()));
    }
    Ok(found)
}

/// Settings that were given, checked one by one; where one was not given its default holds.
struct Given<'a> {
    kind: ClientKind,
    values: BTreeMap<&'static str, &'a str>,
}

impl<'a> Given<'a> {
    fn read(kind: ClientKind, settings: &'a [(String, String)]) -> Result<Self, SettingError> {
        let mut values = BTreeMap::new();
        for (name, value) in settings {
            let def = find_setting(kind, name)?;
            let value = check_value(def, value)?;
            if values.insert(def.name, value).is_some() {
                return Err(SettingError::Twice(def.name));
            }
        }
        Ok(Self { kind, values })
    }

    fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    fn text(&self, name: &str) -> &str {
        self.values
            .get(name)
            .copied()
            .unwrap_or_else(|| find_setting(self.kind, name).map_or("", |def| def.default))
    }

    fn text_if_any(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        self.text(name).eq_ignore_ascii_case("true")
    }

    fn number(&self, name: &str) -> i64 {
        self.text(name).parse().expect("a number that was checked, or the table's own")
    }

    fn int(&self, name: &str) -> i32 {
        i32::try_from(self.number(name)).unwrap_or(i32::MAX)
    }

    fn size(&self, name: &str) -> usize {
        usize::try_from(self.number(name)).unwrap_or(usize::MAX)
    }

    fn time(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name).unsigned_abs())
    }

    fn network(&self, bootstrap: Vec<Address>) -> NetworkConfig {
        let reconnect_backoff = self.time("reconnect.backoff.ms");
        NetworkConfig {
            client_id: self.text("client.id").into(),
            request_timeout: self.time("request.timeout.ms"),
            connect_timeout: self.time("socket.connection.setup.timeout.ms"),
            reconnect_backoff,
            reconnect_backoff_max: self.time("reconnect.backoff.max.ms").max(reconnect_backoff),
            retry_backoff: self.time("retry.backoff.ms"),
            metadata_max_age: self.time("metadata.max.age.ms"),
            ..NetworkConfig::new(bootstrap)
        }
    }
}

fn check_value<'a>(def: &SettingDef, value: &'a str) -> Result<&'a str, SettingError> {
    let value = value.trim();
    let invalid = |why| {
        let value = value.chars().take(200).collect();
        SettingError::Invalid { name: def.name, value, why }
    };
    match def.valid {
        Valid::Fixed if value.eq_ignore_ascii_case(def.default) => Ok(value),
        Valid::Fixed => Err(invalid(format!("only {} is supported; leave it out", def.default))),
        // A length of the wire has 15 bits in the oldest versions.
        Valid::Text if value.len() > 32_000 => Err(invalid("it is too long".to_owned())),
        Valid::Text | Valid::Range(..) | Valid::OneOf(_) | Valid::Boolean => {
            check(def.kind, def.valid, value).map_err(invalid)?;
            Ok(value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::producer::Acks;

    fn bootstrap() -> Vec<Address> {
        vec![(Arc::from("broker"), 9092)]
    }

    fn pairs(settings: &[(&str, &str)]) -> Vec<(String, String)> {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn producer(settings: &[(&str, &str)]) -> Result<ProducerConfig, SettingError> {
        producer_config(bootstrap(), &pairs(settings))
    }

    fn consumer(settings: &[(&str, &str)]) -> Result<ConsumerConfig, SettingError> {
        consumer_config(bootstrap(), &pairs(settings))
    }

    fn refusal<T: fmt::Debug>(result: Result<T, SettingError>) -> String {
        result.expect_err("it cannot be used").to_string()
    }

    #[test]
    fn without_settings_a_client_is_what_its_machine_is_by_default() {
        let config = producer(&[]).expect("defaults");
        let expected = ProducerConfig::new(NetworkConfig::new(bootstrap()));
        assert_eq!(format!("{config:?}"), format!("{expected:?}"));

        for group in [None, Some("g")] {
            let settings: Vec<_> = group.map(|group| ("group.id", group)).into_iter().collect();
            let config = consumer(&settings).expect("defaults");
            let network = NetworkConfig::new(bootstrap());
            let expected = ConsumerConfig::new(network, group.map(Into::into));
            assert_eq!(format!("{config:?}"), format!("{expected:?}"));
        }

        let config = admin_config(bootstrap(), &[]).expect("defaults");
        assert_eq!(config.api_timeout, Duration::from_mins(1));
    }

    #[test]
    fn tables_are_ordered_and_their_defaults_are_valid() {
        for pair in SETTINGS.windows(2) {
            assert!(pair[0].def.name < pair[1].def.name, "{}", pair[1].def.name);
        }
        for known in SETTINGS {
            assert!(check_value(&known.def, known.def.default).is_ok(), "{}", known.def.name);
            assert!(known.kinds != 0 && known.def.documentation.ends_with('.'));
        }
        for table in [UNSUPPORTED, RENAMED] {
            for pair in table.windows(2) {
                assert!(pair[0].0 < pair[1].0, "{}", pair[1].0);
            }
            for (name, _) in table {
                assert!(SETTINGS.iter().all(|known| known.def.name != *name), "{name} is known");
            }
        }
    }

    #[test]
    fn a_name_is_told_apart_as_misspelled_another_librarys_another_clients_or_unsupported() {
        for (name, expected) in [
            ("linger.mss", "linger.mss is no setting of a producer; did you mean linger.ms?"),
            ("queue.buffering.max.ms", "is no setting of Kafka's own clients; use linger.ms"),
            ("group.id", "group.id is a setting of a consumer, not of a producer"),
            ("transactional.id", "transactional.id is not supported: transactions are not"),
        ] {
            let error = refusal(producer(&[(name, "1")]));
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn values_of_the_wrong_type_or_out_of_bounds_are_refused_with_what_would_be_right() {
        for (name, value, expected) in [
            ("linger.ms", "-1", "it must be at least 0"),
            ("linger.ms", "5ms", "it must be a whole number"),
            ("linger.ms", "2147483648", "it must be"),
            ("acks", "2", "it must be one of all, -1, 0, 1"),
            ("compression.type", "brotli", "it must be one of none, gzip"),
            ("enable.idempotence", "yes", "it must be true or false"),
            ("security.protocol", "SSL", "only PLAINTEXT is supported"),
            ("max.block.ms", "9223372036854775807", "it must be at most"),
        ] {
            let error = refusal(producer(&[(name, value)]));
            assert!(error.contains(expected) && error.contains(name), "{error}");
        }
        assert_eq!(
            refusal(producer(&[("acks", "1"), ("acks", "1")])),
            "acks is given twice; leave one of them out"
        );
    }

    #[test]
    fn producer_settings_arrive() {
        let config = producer(&[
            ("acks", "all"),
            ("batch.size", "1000"),
            ("buffer.memory", "2000"),
            ("client.id", "till"),
            ("compression.type", "zstd"),
            ("delivery.timeout.ms", "3000"),
            ("linger.ms", "4"),
            ("max.block.ms", "7"),
            ("max.in.flight.requests.per.connection", "2"),
            ("max.request.size", "900"),
            ("metadata.max.age.ms", "11"),
            ("reconnect.backoff.ms", "2000"),
            ("request.timeout.ms", "1000"),
            ("security.protocol", "plaintext"),
        ])
        .expect("all are valid");
        assert_eq!((config.acks, config.idempotence, config.codec), (Acks::All, true, Codec::Zstd));
        assert_eq!((config.batch_bytes, config.buffer_bytes), (1000, 2000));
        assert_eq!((config.max_request_bytes, config.network.max_in_flight), (900, 2));
        assert_eq!(config.delivery_timeout, Duration::from_secs(3));
        assert_eq!(config.linger, Duration::from_millis(4));
        assert_eq!(config.max_block, Duration::from_millis(7));
        assert_eq!(config.network.client_id.as_str(), "till");
        assert_eq!(config.network.metadata_max_age, Duration::from_millis(11));
        assert_eq!(config.network.request_timeout, Duration::from_secs(1));
        assert_eq!(config.network.reconnect_backoff_max, Duration::from_secs(2), "never less");
    }

    #[test]
    fn weaker_acks_turn_idempotence_off_unless_it_was_asked_for() {
        let config = producer(&[("acks", "1"), ("max.in.flight.requests.per.connection", "6")]);
        let config = config.expect("idempotence gives way");
        assert_eq!((config.acks, config.idempotence), (Acks::Leader, false));

        let error = refusal(producer(&[("acks", "0"), ("enable.idempotence", "true")]));
        assert!(error.contains("needs acks=all"), "{error}");
        let error = refusal(producer(&[("max.in.flight.requests.per.connection", "6")]));
        assert!(error.contains("enable.idempotence=false"), "{error}");
    }

    #[test]
    fn the_delivery_timeout_has_room_for_linger_and_a_request() {
        let config = producer(&[("request.timeout.ms", "200000")]).expect("the default gives way");
        assert_eq!(config.delivery_timeout, Duration::from_millis(200_005));

        let error = refusal(producer(&[("delivery.timeout.ms", "30000")]));
        assert!(error.contains("linger.ms + request.timeout.ms = 30005"), "{error}");
        assert!(producer(&[("delivery.timeout.ms", "30005")]).is_ok());
    }

    #[test]
    fn consumer_settings_arrive() {
        let config = consumer(&[
            ("group.id", "billing"),
            ("group.instance.id", "b-1"),
            ("auto.commit.interval.ms", "100"),
            ("auto.offset.reset", "earliest"),
            ("isolation.level", "read_committed"),
            ("fetch.max.bytes", "200000000"),
            ("max.poll.interval.ms", "60000"),
            (
                "partition.assignment.strategy",
                "cooperative-sticky, org.apache.kafka.clients.consumer.RangeAssignor",
            ),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "2000"),
        ])
        .expect("all are valid");
        let group = config.group.expect("it has a group");
        assert_eq!(group.group_id.as_str(), "billing");
        assert_eq!(group.instance_id.as_deref(), Some("b-1"));
        assert_eq!(group.assignors, [Assignor::CooperativeSticky, Assignor::Range]);
        assert_eq!(group.session_timeout, Duration::from_secs(6));
        assert_eq!(group.heartbeat_interval, Duration::from_secs(2));
        assert_eq!(group.rebalance_timeout, Duration::from_mins(1));
        assert!(group.require_stable && config.fetcher.read_committed);
        assert_eq!(config.fetcher.reset, Some(Start::Earliest));
        assert_eq!(config.auto_commit, Some(Duration::from_millis(100)));
        assert!(config.fetcher.network.max_frame_bytes > 200_000_000, "answers of that size pass");
    }

    #[test]
    fn what_needs_a_group_is_refused_without_one() {
        assert!(consumer(&[]).expect("without a group").auto_commit.is_none());
        assert!(consumer(&[("enable.auto.commit", "false")]).is_ok());
        for setting in [("enable.auto.commit", "true"), ("group.instance.id", "a")] {
            let error = refusal(consumer(&[setting]));
            assert!(error.contains("set group.id"), "{error}");
        }
    }

    #[test]
    fn heartbeats_are_more_frequent_than_the_session_is_long() {
        let error = refusal(consumer(&[("group.id", "g"), ("session.timeout.ms", "3000")]));
        assert!(error.contains("heartbeat.interval.ms=3000 is not below"), "{error}");
    }

    #[test]
    fn rules_of_assignment_that_are_not_known_are_refused() {
        for value in ["roundrobin", "range,range", ",", "a.b.StickyAssignor"] {
            let settings = [("group.id", "g"), ("partition.assignment.strategy", value)];
            let error = refusal(consumer(&settings));
            assert!(error.contains("partition.assignment.strategy"), "{error}");
        }
    }

    #[test]
    fn a_call_lasts_at_least_as_long_as_a_request() {
        let config = admin_config(bootstrap(), &pairs(&[("request.timeout.ms", "90000")]));
        assert_eq!(config.expect("it gives way").api_timeout, Duration::from_secs(90));
        let short = pairs(&[("default.api.timeout.ms", "1000")]);
        assert!(refusal(admin_config(bootstrap(), &short)).contains("request.timeout.ms=30000"));
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let addresses =
            parse_bootstrap(" a.example:9092, [::1]:1 ,127.0.0.1:65535,").expect("three");
        let expected: [(Arc<str>, u16); 3] =
            [("a.example".into(), 9092), ("::1".into(), 1), ("127.0.0.1".into(), 65535)];
        assert_eq!(addresses, expected);
        for (text, why) in [
            ("", "it names no broker"),
            (" , ", "it names no broker"),
            ("host", "it has no port"),
            ("host:", "its port is no number"),
            ("host:0", "its port is no number"),
            ("host:65536", "its port is no number"),
            (":9092", "it has no host"),
            ("::1:9092", "stands in brackets"),
            ("[x]:9092", "no IPv6 address"),
            ("http://a:9092", "stands in brackets"),
            ("a b:1", "no host has"),
        ] {
            let error = refusal(parse_bootstrap(text));
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
