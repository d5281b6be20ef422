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

mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use self::table::{ADMIN, CONSUMER, PRODUCER, RENAMED, SETTINGS, UNSUPPORTED};
use super::consumer::ConsumerConfig;
use super::fetcher::Start;
use super::group::assignor::Assignor;
use super::metadata::Address;
use super::network::NetworkConfig;
use super::producer::{Acks, ProducerConfig};
use crate::config::{SettingDef, Valid, check, nearest};
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
        if part.contains("://") {
            return Err(wrong(part, "brokers are not named by URLs"));
        }
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
    let transactional_id = given.text_if_any("transactional.id");
    if let Some(id) = transactional_id.filter(|_| !idempotence) {
        return Err(SettingError::Conflict(format!(
            "transactional.id={id} needs enable.idempotence=true and acks=all; leave these out"
        )));
    }
    if transactional_id.is_none() && given.has("transaction.timeout.ms") {
        return Err(SettingError::Conflict(format!(
            "transaction.timeout.ms={} needs a transactional.id; set it, or leave that out",
            given.text("transaction.timeout.ms")
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
        transactional_id: transactional_id.map(Into::into),
        transaction_timeout: given.time("transaction.timeout.ms"),
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

    fetcher.rack = given.text_if_any("client.rack").map(Into::into);

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
        Valid::Text | Valid::Range(..) | Valid::OneOf(_) | Valid::Words(_) | Valid::Boolean => {
            check(def.kind, def.valid, value).map_err(invalid)?;
            Ok(value)
        }
    }
}
