//! What a node is told at its start: who it is, where it listens, Kafka's broker settings as text,
//! and every limit with its default.
//!
//! A setting that nothing enforces is refused rather than stored, unless it has the value that the
//! node behaves as anyway; an unknown key is refused with the nearest known one. Sources: Apache
//! Kafka 4.3's broker configuration; the parser limits of `docs/architecture.md`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{NodeId, ShardId};
use crate::log::LogConfig;
use crate::metadata::topic_config::CODECS;

/// What one shard is told at its birth.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Which of the node's shards it is, from 0 to `node.shards - 1`.
    pub shard: ShardId,
    /// What all shards of the node share.
    pub node: Arc<NodeConfig>,
    /// The seed of everything random in this start of this shard, never used twice.
    pub seed: u64,
}

/// What a node is told at its start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its number in the cluster.
    pub node_id: NodeId,
    /// How many shards it has, at least 1.
    pub shards: u16,
    /// Where clients reach it. `Input::Connected` names one of these by its index.
    pub listeners: Vec<ListenerConfig>,
    /// All voters of the cluster's first formation and where peers reach them, this node among them;
    /// empty for a node alone.
    pub peers: Vec<PeerConfig>,
    /// Whether every log lives in memory and no file is opened.
    pub memory_only: bool,
    /// Kafka's broker settings.
    pub settings: BrokerSettings,
    /// What bounds memory and time.
    pub limits: Limits,
    /// Sizes of journal and caches. Shard, node id, seed and `memory_only` in it are filled in by
    /// the shard; retention and producer settings come from `settings`.
    pub log: LogConfig,
    /// What chooses the [rare ways](crate::buggify) that the code takes on purpose; `None` outside of
    /// simulations.
    pub buggify: Option<u64>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            node_id: NodeId(1),
            shards: 1,
            listeners: vec![ListenerConfig::default()],
            peers: Vec::new(),
            memory_only: false,
            settings: BrokerSettings::default(),
            limits: Limits::default(),
            log: LogConfig::default(),
            buggify: None,
        }
    }
}

/// One listener: what clients that came in by it are told to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerConfig {
    /// Its name, such as `PLAINTEXT`.
    pub name: String,
    /// The host that clients are told.
    pub advertised_host: String,
    /// The port that clients are told.
    pub advertised_port: u16,
    /// Whether other nodes of the cluster come in by it. The APIs between nodes are served there alone.
    pub peers: bool,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            name: "PLAINTEXT".to_owned(),
            advertised_host: "127.0.0.1".to_owned(),
            advertised_port: 9092,
            peers: false,
        }
    }
}

/// A node of the cluster, and where other nodes reach it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerConfig {
    /// Its number in the cluster.
    pub node_id: NodeId,
    /// Name or address of its host.
    pub host: Arc<str>,
    /// The port of its listener for peers.
    pub port: u16,
}

/// What bounds memory and time. Every queue and table has its limit here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Largest request frame in bytes, its size field not counted (`socket.request.max.bytes`).
    pub frame_bytes_max: usize,
    /// Most requests of one connection that are decided and not yet answered.
    pub requests_in_flight_max: usize,
    /// Most request bytes of one connection in flight; one frame always passes.
    pub bytes_in_flight_max: usize,
    /// Answers that a peer may leave unread before it is not read from any more.
    pub unread_answers_max: usize,
    /// Bytes of unfinished frames that all connections of a shard may hold together. Beyond it one
    /// connection at a time goes on to the end of its frame, and each of the others has its share.
    pub receive_pool_bytes: usize,
    /// Bytes of an unfinished frame that each connection may hold with the pool full; the read that
    /// passes it has 4 KiB at most.
    pub receive_share_bytes: usize,
    /// Most connections of a shard; further ones are closed at once.
    pub connections_max: usize,
    /// Most fetches parked on a shard; further ones are answered with what there is.
    pub parked_fetches_max: usize,
    /// Longest time that a fetch is parked, whatever it asks for (`mainspring.fetch.max.wait.ms`).
    pub fetch_wait_max: Duration,
    /// Most bytes of one Fetch answer (`fetch.max.bytes`).
    pub fetch_bytes_max: u64,
    /// Most fetch sessions of a node (`max.incremental.fetch.session.cache.slots`).
    pub fetch_sessions_max: usize,
    /// Most bytes that the fetch sessions of a shard take.
    pub fetch_session_bytes_max: usize,
    /// Answer bytes that may wait in memory for slow peers before fetches are cut to one batch.
    pub answer_pool_bytes: u64,
    /// A connection is closed that brings no request and takes nothing of its answers for so long
    /// (`connections.max.idle.ms`).
    pub idle_max: Duration,
    /// How long the peer of a closed connection may take nothing of what is still its due.
    pub close_linger: Duration,
    /// Time that an unfinished frame has before its rate counts.
    pub partial_frame_grace: Duration,
    /// Bytes per second that an unfinished frame must bring.
    pub partial_frame_bytes_per_second: u64,
    /// Longest pause of an unfinished frame, however much of it has come.
    pub partial_frame_credit_max: Duration,
    /// Most partitions of one topic (`mainspring.partitions.per.topic.max`).
    pub partitions_per_topic_max: i32,
    /// Most partitions of a node (`mainspring.partitions.max`).
    pub partitions_max: usize,
    /// How long a Metadata request waits for a topic that it creates.
    pub auto_create_wait: Duration,
    /// How long a request waits for the controller.
    pub controller_wait: Duration,
    /// How long a stopping shard waits for what it still owes before it closes its logs.
    pub stop_wait: Duration,
    /// How long the closing of its logs may then take.
    pub close_wait: Duration,
    /// How many dead records the log of a coordinator must hold before the live ones are copied forward.
    pub coordinator_dead_records_min: i64,
    /// The epoch with which the producer of a new transactional id begins: 0, but in tests of what comes behind
    /// the last one.
    pub producer_epoch_first: i16,
    /// How long a voter hears nothing from the leader of the metadata log before it asks for pre-votes,
    /// and how long a leader goes without being asked by a majority before it resigns
    /// (`controller.quorum.fetch.timeout.ms`).
    pub quorum_fetch_timeout: Duration,
    /// The same where the leader's connection was reset and could not be made again.
    pub quorum_lost_leader: Duration,
    /// Shortest election timeout; each is drawn anew (`controller.quorum.election.timeout.ms`).
    pub quorum_election_min: Duration,
    /// Longest election timeout.
    pub quorum_election_max: Duration,
    /// Bytes of the metadata log that are applied between two snapshots of it
    /// (`metadata.log.max.record.bytes.between.snapshots`).
    pub metadata_snapshot_bytes: u64,
    /// Most bytes of a snapshot that nodes send each other at a time.
    pub metadata_snapshot_piece_bytes: u64,
    /// How often a broker tells the controller that it lives (`broker.heartbeat.interval.ms`).
    pub broker_heartbeat: Duration,
    /// How long a broker may be silent before the controller fences it (`broker.session.timeout.ms`).
    pub broker_session: Duration,
    /// How long a leader that the controller does not answer goes on acknowledging; shorter than
    /// `broker_session` (`mainspring.leader.lease.ms`).
    pub leader_lease: Duration,
    /// How often partitions are given back to the first of their replicas that lives and is in sync
    /// (`leader.imbalance.check.interval.seconds`).
    pub leader_balance: Duration,
    /// How long a follower may lag before it leaves the in-sync set (`replica.lag.time.max.ms`).
    pub replica_lag_max: Duration,
    /// How long a follower's fetch is parked at most (`replica.fetch.wait.max.ms`).
    pub replica_fetch_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes_max: 100 << 20,
            requests_in_flight_max: 128,
            bytes_in_flight_max: 64 << 20,
            unread_answers_max: 5,
            receive_pool_bytes: 512 << 20,
            receive_share_bytes: 16 << 10,
            connections_max: 20_000,
            parked_fetches_max: 100_000,
            fetch_wait_max: Duration::from_mins(1),
            fetch_bytes_max: 57_671_680,
            fetch_sessions_max: 1000,
            fetch_session_bytes_max: 64 << 20,
            answer_pool_bytes: 512 << 20,
            idle_max: Duration::from_mins(10),
            close_linger: Duration::from_secs(30),
            partial_frame_grace: Duration::from_secs(10),
            partial_frame_bytes_per_second: 1024,
            partial_frame_credit_max: Duration::from_mins(1),
            partitions_per_topic_max: 10_000,
            partitions_max: 100_000,
            auto_create_wait: Duration::from_secs(2),
            controller_wait: Duration::from_secs(30),
            stop_wait: Duration::from_secs(4),
            close_wait: Duration::from_secs(4),
            coordinator_dead_records_min: 20_000,
            producer_epoch_first: 0,
            quorum_fetch_timeout: Duration::from_secs(2),
            quorum_lost_leader: Duration::from_millis(300),
            quorum_election_min: Duration::from_millis(300),
            quorum_election_max: Duration::from_millis(600),
            metadata_snapshot_bytes: 20 << 20,
            metadata_snapshot_piece_bytes: 1 << 20,
            broker_heartbeat: Duration::from_millis(500),
            broker_session: Duration::from_secs(3),
            leader_lease: Duration::from_secs(2),
            leader_balance: Duration::from_mins(5),
            replica_lag_max: Duration::from_secs(30),
            replica_fetch_wait: Duration::from_millis(500),
        }
    }
}

/// Type of a setting, with the names and numbers of Kafka's `DescribeConfigs` (KIP-226, KIP-569).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(i8)]
pub enum SettingType {
    /// `true` or `false`.
    Boolean = 1,
    /// Text.
    String = 2,
    /// A signed number of 32 bits.
    Int = 3,
    /// A signed number of 64 bits.
    Long = 5,
    /// A number with a fraction.
    Double = 6,
    /// Words divided by commas.
    List = 7,
}

/// Which values a setting takes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Valid {
    /// Numbers within these bounds, inclusive.
    Range(i64, i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of such words, each at most once, with commas between.
    Words(&'static [&'static str]),
    /// `true` or `false`.
    Boolean,
    /// Any text of at most 1,024 bytes.
    Text,
    /// Only the value that the node behaves as, because nothing enforces another.
    Fixed,
}

/// Most bytes of a setting that is any text.
const TEXT_MAX: usize = 1024;

/// What is known of one broker setting.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SettingDef {
    /// Its key.
    pub name: &'static str,
    /// Its type.
    pub kind: SettingType,
    /// Its value where none is set; empty for none.
    pub default: &'static str,
    /// Which values it takes.
    pub valid: Valid,
    /// What it does, in one sentence.
    pub documentation: &'static str,
}

/// Why a setting was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Nobody knows the key.
    #[error("unknown setting {key:?}; the nearest known one is {nearest:?}")]
    Unknown {
        /// What was asked for.
        key: String,
        /// The known key that looks most like it.
        nearest: &'static str,
    },
    /// The value is of the wrong type or outside its bounds.
    #[error("{key}={value} is not valid: {why}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it and what would be right.
        why: String,
    },
    /// Nothing enforces the value.
    #[error("{key}={value} is not supported; this node behaves as {key}={supported}")]
    NotEnforced {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// The one value that is taken.
        supported: &'static str,
    },
}

/// Largest `max.message.bytes`: a batch must fit a journal file.
pub const MESSAGE_BYTES_MAX: i64 = 32 << 20;

const fn def(
    name: &'static str,
    kind: SettingType,
    default: &'static str,
    valid: Valid,
    documentation: &'static str,
) -> SettingDef {
    SettingDef { name, kind, default, valid, documentation }
}

/// Every broker setting that is known, ordered by name.
pub const BROKER_SETTINGS: &[SettingDef] = {
    use SettingType::{Boolean, Int, List, Long, String};
    use Valid::{Fixed, OneOf, Range};
    const MAX: i64 = i64::MAX;
    const INT: i64 = i32::MAX as i64;
    &[
        def(
            "auto.create.topics.enable",
            Boolean,
            "true",
            Valid::Boolean,
            "Whether a Metadata request creates the topics that it names.",
        ),
        def(
            "broker.rack",
            String,
            "",
            Valid::Text,
            "Where the node stands. Replicas are spread over racks, and clients of a rack read in it.",
        ),
        def(
            "compression.type",
            String,
            "producer",
            OneOf(CODECS),
            "Codec of stored batches: producer keeps them as they come.",
        ),
        def(
            "connections.max.idle.ms",
            Long,
            "600000",
            Range(1000, MAX),
            "Milliseconds after which a connection is closed that brings no request and takes none of \
             its answers.",
        ),
        def(
            "default.replication.factor",
            Int,
            "1",
            Fixed,
            "Replicas of a topic whose creation names no number.",
        ),
        def(
            "delete.topic.enable",
            Boolean,
            "true",
            Valid::Boolean,
            "Whether topics can be deleted.",
        ),
        def(
            "fetch.max.bytes",
            Int,
            "57671680",
            Range(1024, INT),
            "Most bytes of one Fetch answer.",
        ),
        def(
            "group.initial.rebalance.delay.ms",
            Int,
            "3000",
            Range(0, INT),
            "How long the first round of an empty group waits for more members, in milliseconds.",
        ),
        def(
            "group.max.session.timeout.ms",
            Int,
            "1800000",
            Range(1, INT),
            "Longest session timeout that a member may ask for, in milliseconds.",
        ),
        def("group.max.size", Int, "10000", Range(1, INT), "Most members of one group."),
        def(
            "group.min.session.timeout.ms",
            Int,
            "6000",
            Range(1, INT),
            "Shortest session timeout that a member may ask for, in milliseconds.",
        ),
        def(
            "log.cleanup.policy",
            List,
            "delete",
            Fixed,
            "What happens to old segments; compaction is not served.",
        ),
        def(
            "log.index.interval.bytes",
            Int,
            "4096",
            Range(0, INT),
            "Bytes of log between two entries of an index.",
        ),
        def(
            "log.message.timestamp.after.max.ms",
            Long,
            "3600000",
            Range(0, MAX),
            "How far a record's timestamp may lie in the future, in milliseconds.",
        ),
        def(
            "log.message.timestamp.before.max.ms",
            Long,
            "9223372036854775807",
            Range(0, MAX),
            "How far a record's timestamp may lie in the past, in milliseconds.",
        ),
        def(
            "log.message.timestamp.type",
            String,
            "CreateTime",
            OneOf(&["CreateTime", "LogAppendTime"]),
            "Whose clock stamps records: the producer's or the broker's.",
        ),
        def(
            "log.preallocate",
            Boolean,
            "false",
            Fixed,
            "Whether segment files are made at full length.",
        ),
        def(
            "log.retention.bytes",
            Long,
            "-1",
            Range(-1, MAX),
            "Bytes of a partition that retention leaves at least, -1 for no limit.",
        ),
        def(
            "log.retention.check.interval.ms",
            Long,
            "300000",
            Range(1, MAX),
            "How often retention looks, in milliseconds.",
        ),
        def(
            "log.retention.hours",
            Int,
            "168",
            Range(-1, INT),
            "Hours that records are kept, where neither minutes nor milliseconds are set.",
        ),
        def(
            "log.retention.minutes",
            Int,
            "",
            Range(-1, INT),
            "Minutes that records are kept, where no milliseconds are set.",
        ),
        def(
            "log.retention.ms",
            Long,
            "",
            Range(-1, MAX),
            "Milliseconds that records are kept, -1 for ever.",
        ),
        def(
            "log.roll.hours",
            Int,
            "168",
            Range(1, INT),
            "Hours after which a segment is rolled, where no milliseconds are set.",
        ),
        def(
            "log.roll.ms",
            Long,
            "",
            Range(1, MAX),
            "Milliseconds after which a segment is rolled.",
        ),
        def(
            "log.segment.bytes",
            Int,
            "1073741824",
            Range(1 << 20, INT),
            "Size at which a segment is rolled.",
        ),
        def(
            "mainspring.disk.reserve.bytes",
            Long,
            "1073741824",
            Range(0, MAX),
            "Free bytes of the disk below which producers are refused; unless set, a twentieth of \
             the disk but at most 1 GiB.",
        ),
        def(
            "mainspring.fetch.max.wait.ms",
            Long,
            "60000",
            Range(0, 3_600_000),
            "Longest time that a fetch is parked, in milliseconds.",
        ),
        def(
            "mainspring.flush",
            String,
            "ack",
            OneOf(&["ack", "lazy"]),
            "When a record is acknowledged: after the journal's flush (ack) or after its write (lazy).",
        ),
        def(
            "mainspring.memory.max.bytes",
            Long,
            "268435456",
            Range(1 << 16, MAX),
            "Most bytes of a partition that lives in memory.",
        ),
        def(
            "mainspring.partitions.max",
            Int,
            "100000",
            Range(1, INT),
            "Most partitions of the node.",
        ),
        def(
            "mainspring.partitions.per.topic.max",
            Int,
            "10000",
            Range(1, INT),
            "Most partitions of one topic.",
        ),
        def(
            "mainspring.producer.ids.max",
            Int,
            "100000",
            Range(1, INT),
            "Most producer ids remembered for one partition.",
        ),
        def(
            "mainspring.storage",
            String,
            "disk",
            OneOf(&["disk", "memory"]),
            "Where the records of topics live that do not say it.",
        ),
        def(
            "mainspring.unwritten.max.bytes",
            Long,
            "268435456",
            Range(1 << 20, MAX),
            "Bytes not yet in segment files at which producers must wait.",
        ),
        def(
            "max.incremental.fetch.session.cache.slots",
            Int,
            "1000",
            Range(0, INT),
            "Most fetch sessions of a node.",
        ),
        def(
            "message.max.bytes",
            Int,
            "1048588",
            Range(0, MESSAGE_BYTES_MAX),
            "Largest record batch in bytes.",
        ),
        def(
            "metadata.log.max.record.bytes.between.snapshots",
            Long,
            "20971520",
            Range(1, MAX),
            "Bytes of the metadata log between two snapshots of it.",
        ),
        def(
            "min.insync.replicas",
            Int,
            "1",
            Range(1, INT),
            "Replicas that must hold a record before acks=all is answered.",
        ),
        def(
            "num.partitions",
            Int,
            "1",
            Range(1, INT),
            "Partitions of a topic whose creation names no number.",
        ),
        def(
            "offset.metadata.max.bytes",
            Int,
            "4096",
            Range(0, INT),
            "Longest metadata that may be committed with an offset, in bytes.",
        ),
        def(
            "offsets.retention.check.interval.ms",
            Long,
            "600000",
            Range(1, MAX),
            "How often stale committed offsets are looked for, in milliseconds.",
        ),
        def(
            "offsets.retention.minutes",
            Int,
            "10080",
            Range(1, INT),
            "Minutes that committed offsets are kept after their group became empty.",
        ),
        def(
            "offsets.topic.num.partitions",
            Int,
            "16",
            Range(1, INT),
            "Partitions of the topic of committed offsets, fixed at its creation.",
        ),
        def(
            "offsets.topic.replication.factor",
            Int,
            "1",
            Fixed,
            "Replicas of the topic of committed offsets.",
        ),
        def(
            "offsets.topic.segment.bytes",
            Int,
            "104857600",
            Range(1 << 20, INT),
            "Size at which a segment of the topic of committed offsets is rolled, fixed at its creation.",
        ),
        def(
            "producer.id.expiration.ms",
            Int,
            "86400000",
            Range(1, INT),
            "Idle milliseconds after which a producer id is forgotten.",
        ),
        def(
            "replica.selector.class",
            String,
            "org.apache.kafka.common.replica.RackAwareReplicaSelector",
            Fixed,
            "Which replica a client reads from: one in sync in the client's rack, else the leader.",
        ),
        def(
            "socket.request.max.bytes",
            Int,
            "104857600",
            Range(1024, INT),
            "Largest request in bytes.",
        ),
        def(
            "transaction.max.timeout.ms",
            Int,
            "900000",
            Range(1, INT),
            "Longest timeout that a transactional producer may ask for, in milliseconds.",
        ),
        def(
            "transaction.state.log.num.partitions",
            Int,
            "16",
            Range(1, INT),
            "Partitions of the topic of transactions, fixed at its creation.",
        ),
        def(
            "transaction.state.log.segment.bytes",
            Int,
            "104857600",
            Range(1 << 20, INT),
            "Size at which a segment of the topic of transactions is rolled, fixed at its creation.",
        ),
        def(
            "transactional.id.expiration.ms",
            Int,
            "604800000",
            Range(1, INT),
            "Idle milliseconds after which a transactional id is forgotten.",
        ),
        def(
            "unclean.leader.election.enable",
            Boolean,
            "false",
            Fixed,
            "Whether a replica outside the in-sync set may lead.",
        ),
    ]
};

/// Kafka's broker settings, set by their own keys as text.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct BrokerSettings {
    values: BTreeMap<&'static str, String>,
}

impl BrokerSettings {
    /// Sets one key.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown key, a value out of bounds, or one that nothing enforces.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let Some(def) = Self::definition(key) else {
            return Err(ConfigError::Unknown {
                key: key.to_owned(),
                nearest: nearest(key, BROKER_SETTINGS.iter().map(|def| def.name)),
            });
        };
        let value = value.trim();
        check_value(def, value)?;
        self.values.insert(def.name, value.to_owned());
        Ok(())
    }

    /// Returns what is known of a key.
    pub fn definition(key: &str) -> Option<&'static SettingDef> {
        BROKER_SETTINGS.iter().find(|def| def.name == key)
    }

    /// Returns the value of a known key that was set, `None` where its default holds.
    pub fn explicit(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// Returns the value in force of a known key, empty for one without value and default.
    pub fn text(&self, key: &str) -> &str {
        self.explicit(key).unwrap_or_else(|| Self::definition(key).map_or("", |def| def.default))
    }

    /// Returns a number; `None` for a key without value and default.
    pub fn number(&self, key: &str) -> Option<i64> {
        self.text(key).parse().ok()
    }

    /// Returns whether a boolean key is `true`.
    pub fn is_true(&self, key: &str) -> bool {
        self.text(key).eq_ignore_ascii_case("true")
    }

    /// Returns how long records are kept by default, in milliseconds, -1 for ever.
    pub fn retention_ms(&self) -> i64 {
        let scaled = |key, unit: i64| {
            self.number(key).map(|n| if n < 0 { -1 } else { n.saturating_mul(unit) })
        };
        scaled("log.retention.ms", 1)
            .or_else(|| scaled("log.retention.minutes", 60_000))
            .or_else(|| scaled("log.retention.hours", 3_600_000))
            .unwrap_or(604_800_000)
    }

    /// Returns the age at which segments are rolled by default, in milliseconds.
    pub fn roll_ms(&self) -> i64 {
        self.number("log.roll.ms")
            .or_else(|| self.number("log.roll.hours").map(|n| n.saturating_mul(3_600_000)))
            .unwrap_or(604_800_000)
    }

    /// Carries the settings that are limits over into `limits`.
    pub fn apply_to(&self, limits: &mut Limits) {
        let number = |key| self.explicit(key).and_then(|_| self.number(key));
        if let Some(bytes) = number("socket.request.max.bytes") {
            limits.frame_bytes_max = bytes as usize;
        }
        if let Some(bytes) = number("fetch.max.bytes") {
            limits.fetch_bytes_max = bytes as u64;
        }
        if let Some(ms) = number("connections.max.idle.ms") {
            limits.idle_max = Duration::from_millis(ms as u64);
        }
        if let Some(ms) = number("mainspring.fetch.max.wait.ms") {
            limits.fetch_wait_max = Duration::from_millis(ms as u64);
        }
        if let Some(count) = number("max.incremental.fetch.session.cache.slots") {
            limits.fetch_sessions_max = count as usize;
        }
        if let Some(bytes) = number("metadata.log.max.record.bytes.between.snapshots") {
            limits.metadata_snapshot_bytes = bytes as u64;
        }
        if let Some(count) = number("mainspring.partitions.max") {
            limits.partitions_max = count as usize;
        }
        if let Some(count) = number("mainspring.partitions.per.topic.max") {
            limits.partitions_per_topic_max = count as i32;
        }
    }
}

fn check_value(def: &SettingDef, value: &str) -> Result<(), ConfigError> {
    if def.valid == Valid::Fixed {
        if def.default == value {
            return Ok(());
        }
        return Err(ConfigError::NotEnforced {
            key: def.name,
            value: value.to_owned(),
            supported: def.default,
        });
    }
    check(def.kind, def.valid, value).map_err(|why| ConfigError::Invalid {
        key: def.name,
        value: value.to_owned(),
        why,
    })
}

/// Checks a value against a type and its bounds.
///
/// # Errors
/// What is wrong, in words.
pub fn check(kind: SettingType, valid: Valid, value: &str) -> Result<(), String> {
    match valid {
        Valid::Range(low, high) => {
            let number: i64 = match kind {
                SettingType::Int => value.parse::<i32>().map(i64::from),
                SettingType::Boolean
                | SettingType::String
                | SettingType::Long
                | SettingType::Double
                | SettingType::List => value.parse::<i64>(),
            }
            .map_err(|_| "it must be a whole number".to_owned())?;
            if number < low {
                return Err(format!("it must be at least {low}"));
            }
            if number > high {
                return Err(format!("it must be at most {high}"));
            }
            Ok(())
        }
        Valid::OneOf(words) => {
            if words.contains(&value) {
                Ok(())
            } else {
                Err(format!("it must be one of {}", words.join(", ")))
            }
        }
        Valid::Words(words) => {
            let mut seen = std::collections::BTreeSet::new();
            for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                if !words.contains(&word) {
                    return Err(format!("it is a list of {}", words.join(", ")));
                }
                if !seen.insert(word) {
                    return Err(format!("it names {word} twice"));
                }
            }
            Ok(())
        }
        Valid::Boolean => {
            if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") {
                Ok(())
            } else {
                Err("it must be true or false".to_owned())
            }
        }
        Valid::Text if value.len() > TEXT_MAX => {
            Err(format!("it must have at most {TEXT_MAX} bytes"))
        }
        Valid::Text | Valid::Fixed => Ok(()),
    }
}

/// Returns the known name that takes the fewest edits to reach.
pub fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> &'static str {
    // A name from outside is cut, so that the table of distances stays small.
    let name: Vec<char> = name.chars().take(100).collect();
    known.min_by_key(|candidate| edits(&name, candidate)).unwrap_or("")
}

/// Levenshtein distance, one row at a time.
fn edits(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != y)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let mut settings = BrokerSettings::default();
        let error = settings.set("log.retention.mss", "1").expect_err("unknown");
        assert!(error.to_string().contains("\"log.retention.ms\""), "{error}");
    }

    #[test]
    fn a_value_that_nothing_enforces_is_refused_and_the_one_in_force_is_taken() {
        let mut settings = BrokerSettings::default();
        assert!(settings.set("log.cleanup.policy", "compact").is_err());
        assert!(settings.set("log.cleanup.policy", "delete").is_ok());
    }

    #[test]
    fn values_out_of_bounds_or_of_the_wrong_type_are_refused() {
        let mut settings = BrokerSettings::default();
        for (key, value) in [
            ("num.partitions", "0"),
            ("num.partitions", "many"),
            ("message.max.bytes", "33554433"),
            ("auto.create.topics.enable", "yes"),
            ("log.message.timestamp.type", "Never"),
            ("log.segment.bytes", "4294967296"),
        ] {
            assert!(settings.set(key, value).is_err(), "{key}={value}");
        }
        assert_eq!(settings, BrokerSettings::default());
    }

    #[test]
    fn finer_units_of_retention_win_over_coarser_ones() {
        let mut settings = BrokerSettings::default();
        assert_eq!(settings.retention_ms(), 604_800_000);
        settings.set("log.retention.minutes", "2").expect("valid");
        assert_eq!(settings.retention_ms(), 120_000);
        settings.set("log.retention.ms", "-1").expect("valid");
        assert_eq!(settings.retention_ms(), -1);
    }

    #[test]
    fn the_table_is_ordered_and_its_defaults_are_valid() {
        for pair in BROKER_SETTINGS.windows(2) {
            assert!(pair[0].name < pair[1].name, "{}", pair[1].name);
        }
        for def in BROKER_SETTINGS {
            assert!(
                def.default.is_empty() || check_value(def, def.default).is_ok(),
                "{}",
                def.name
            );
        }
    }
}
