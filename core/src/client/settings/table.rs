//! The settings of clients: what each is called, what it means, its default and its bounds.

use crate::config::{SettingDef, SettingType, Valid};

/// A setting, and the clients that have it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Known {
    pub(super) kinds: u8,
    pub(super) def: SettingDef,
}

pub(super) const PRODUCER: u8 = 1;
pub(super) const CONSUMER: u8 = 2;
pub(super) const ADMIN: u8 = 4;
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
pub(super) const SETTINGS: &[Known] = {
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
            "Where the client is: it reads from a replica in sync there; leaders of groups may look at it.",
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
            "How long sending waits for room in the buffer, and beginning or ending a transaction \
             for the brokers, in milliseconds.",
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
        known(
            PRODUCER,
            "transaction.timeout.ms",
            Int,
            "60000",
            Range(1, INT),
            "How long a transaction may stay open before the broker aborts it, in milliseconds.",
        ),
        known(
            PRODUCER,
            "transactional.id",
            String,
            "",
            TEXT,
            "The name under which the producer commits transactions; it takes the place of whoever \
             had it before. With it, records are sent in transactions alone.",
        ),
    ]
};

/// Settings of Kafka's clients that nothing here enforces, and what there is in place of them.
pub(super) const UNSUPPORTED: &[(&str, &str)] = &[
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
    ("value.deserializer", "give a topic with serializers in place of a name"),
    ("value.serializer", "give a topic with serializers in place of a name"),
];

/// What librdkafka and clients in Python call otherwise, and the name that is right here.
pub(super) const RENAMED: &[(&str, &str)] = &[
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
