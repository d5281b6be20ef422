//! Settings of topics: Kafka's whole list, what of it is enforced, and the typed view that the logs
//! and the produce path work with.
//!
//! Names, types, defaults and bounds are Apache Kafka 4.3's. A value that nothing enforces is refused;
//! what is shown for such a setting is the value that the node behaves as.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{
    BrokerSettings, ConfigError, MESSAGE_BYTES_MAX, SettingDef, SettingType, Valid, check, nearest,
};
use crate::coordinator::schedule::ScheduleSettings;
use crate::log::{FlushPolicy, LogSettings, Storage};
use crate::record::compress::Codec;
use crate::record::features::Features;
use crate::record::produce::{TimestampType, TopicRules};

/// Settings of one topic that were set for it, by name.
pub type Overrides = BTreeMap<String, String>;

/// What is known of one topic setting.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TopicConfigDef {
    /// Key, type, default and bounds.
    pub setting: SettingDef,
    /// The broker settings that give its default, the strongest first.
    pub broker_keys: &'static [&'static str],
}

const fn def(
    name: &'static str,
    kind: SettingType,
    default: &'static str,
    valid: Valid,
    broker_keys: &'static [&'static str],
    documentation: &'static str,
) -> TopicConfigDef {
    TopicConfigDef {
        setting: SettingDef { name, kind, default, valid, documentation },
        broker_keys,
    }
}

/// Words of `compression.type`.
pub const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

/// The key that says which features a topic has. Once set it stays, perhaps empty: what was taken for a feature
/// is kept to after the feature is switched off.
pub const FEATURES_KEY: &str = "mainspring.features";
/// Words of `mainspring.features`.
pub const FEATURES: &[&str] = &["schedule", "half", "dedup"];
/// A thousand years in milliseconds.
const DELAY_MAX: i64 = 31_536_000_000_000;

/// Largest number that Kafka writes where it means "never".
const NEVER: &str = "9223372036854775807";

/// Every topic setting that is shown, ordered by name.
pub const TOPIC_CONFIGS: &[TopicConfigDef] = {
    use SettingType::{Boolean, Double, Int, List, Long, String};
    use Valid::{Fixed, OneOf, Range, Words};
    const MAX: i64 = i64::MAX;
    const INT: i64 = i32::MAX as i64;
    &[
        def(
            "cleanup.policy",
            List,
            "delete",
            Fixed,
            &["log.cleanup.policy"],
            "What happens to old segments: delete drops them by age and size. Compaction is not served.",
        ),
        def(
            "compression.gzip.level",
            Int,
            "-1",
            Fixed,
            &[],
            "Level of gzip where the broker compresses; it keeps batches as they come.",
        ),
        def(
            "compression.lz4.level",
            Int,
            "9",
            Fixed,
            &[],
            "Level of lz4 where the broker compresses; it keeps batches as they come.",
        ),
        def(
            "compression.type",
            String,
            "producer",
            OneOf(CODECS),
            &["compression.type"],
            "Codec of stored batches: producer keeps them as they come.",
        ),
        def(
            "compression.zstd.level",
            Int,
            "3",
            Fixed,
            &[],
            "Level of zstd where the broker compresses; it keeps batches as they come.",
        ),
        def(
            "delete.retention.ms",
            Long,
            "86400000",
            Fixed,
            &[],
            "How long compaction keeps tombstones; compaction is not served.",
        ),
        def(
            "file.delete.delay.ms",
            Long,
            "0",
            Fixed,
            &[],
            "Time before the files of a dropped segment go. They go as soon as their removal is durable.",
        ),
        def(
            "flush.messages",
            Long,
            NEVER,
            Fixed,
            &[],
            "Records after which the log is flushed; see mainspring.flush, which decides it.",
        ),
        def(
            "flush.ms",
            Long,
            NEVER,
            Fixed,
            &[],
            "Time after which the log is flushed; see mainspring.flush, which decides it.",
        ),
        def(
            "follower.replication.throttled.replicas",
            List,
            "",
            Fixed,
            &[],
            "Replicas whose replication is throttled on the follower's side.",
        ),
        def(
            "index.interval.bytes",
            Int,
            "4096",
            Range(0, INT),
            &["log.index.interval.bytes"],
            "Bytes of log between two entries of the offset index.",
        ),
        def(
            "leader.replication.throttled.replicas",
            List,
            "",
            Fixed,
            &[],
            "Replicas whose replication is throttled on the leader's side.",
        ),
        def(
            "local.retention.bytes",
            Long,
            "-2",
            Fixed,
            &[],
            "Bytes kept locally with tiered storage, which is not served.",
        ),
        def(
            "local.retention.ms",
            Long,
            "-2",
            Fixed,
            &[],
            "Time kept locally with tiered storage, which is not served.",
        ),
        def(
            "mainspring.dedup.key",
            String,
            "header",
            OneOf(&["header", "record-key"]),
            &[],
            "What identifies a record for the feature dedup: the header mainspring-dedup-id, or its key.",
        ),
        def(
            "mainspring.dedup.max.entries",
            Long,
            "1000000",
            Range(1, 100_000_000),
            &[],
            "Most records of a partition that are remembered so that they are not stored again; above it such records are refused.",
        ),
        def(
            "mainspring.dedup.window.ms",
            Long,
            "300000",
            Range(1, 604_800_000),
            &[],
            "Milliseconds for which a record of the feature dedup is not stored again.",
        ),
        def(
            "mainspring.delay.default.ms",
            Long,
            "0",
            Range(0, DELAY_MAX),
            &[],
            "Milliseconds by which records that name no time are delayed, with the feature schedule.",
        ),
        def(
            "mainspring.features",
            List,
            "",
            Words(FEATURES),
            &[],
            "What records may ask for by their headers: schedule (come later), half (wait for a verdict), dedup (not be stored twice).",
        ),
        def(
            "mainspring.flush",
            String,
            "ack",
            OneOf(&["ack", "lazy"]),
            &["mainspring.flush"],
            "When a record is acknowledged: ack after the journal's flush, lazy after its write, which survives a crash of the process but not of the machine.",
        ),
        def(
            "mainspring.half.check.after.ms",
            Long,
            "10000",
            Range(0, DELAY_MAX),
            &[],
            "Milliseconds after which the verdict on a half message is asked for first.",
        ),
        def(
            "mainspring.half.check.interval.ms",
            Long,
            "30000",
            Range(100, DELAY_MAX),
            &[],
            "Milliseconds between two questions for the verdict on a half message.",
        ),
        def(
            "mainspring.half.check.max",
            Int,
            "15",
            Range(0, 10_000),
            &[],
            "How often the verdict on a half message is asked for before it is parked.",
        ),
        def(
            "mainspring.half.parked.retention.ms",
            Long,
            "-1",
            Range(-1, MAX),
            &[],
            "Milliseconds that a parked half message is kept, -1 for ever.",
        ),
        def(
            "mainspring.memory.max.bytes",
            Long,
            "268435456",
            Range(1 << 16, MAX),
            &["mainspring.memory.max.bytes"],
            "Most bytes of a partition that lives in memory; its oldest records go first.",
        ),
        def(
            "mainspring.schedule.decided.retention.ms",
            Long,
            "86400000",
            Range(0, DELAY_MAX),
            &[],
            "Milliseconds for which it is remembered how an entry ended.",
        ),
        def(
            "mainspring.schedule.fire.max.records",
            Int,
            "500",
            Range(1, 10_000),
            &[],
            "Most records that are delivered in one batch when they are due.",
        ),
        def(
            "mainspring.schedule.max.horizon.ms",
            Long,
            "-1",
            Range(-1, MAX),
            &[],
            "How far ahead a record may be delayed, in milliseconds, -1 for any time up to the year 9999.",
        ),
        def(
            "mainspring.schedule.max.pending.bytes",
            Long,
            "10737418240",
            Range(0, MAX),
            &[],
            "Most bytes of a partition's records that wait; above it such records are refused.",
        ),
        def(
            "mainspring.schedule.max.pending.records",
            Long,
            "1000000",
            Range(0, 100_000_000),
            &[],
            "Most records of a partition that wait; above it such records are refused.",
        ),
        def(
            "mainspring.storage",
            String,
            "disk",
            OneOf(&["disk", "memory"]),
            &["mainspring.storage"],
            "Where the records live: on disk, or in memory and gone with the process. Fixed when the topic is created.",
        ),
        def(
            "max.compaction.lag.ms",
            Long,
            NEVER,
            Fixed,
            &[],
            "Longest time that a record is not compacted; compaction is not served.",
        ),
        def(
            "max.message.bytes",
            Int,
            "1048588",
            Range(0, MESSAGE_BYTES_MAX),
            &["message.max.bytes"],
            "Largest record batch in bytes.",
        ),
        def(
            "message.timestamp.after.max.ms",
            Long,
            "3600000",
            Range(0, MAX),
            &["log.message.timestamp.after.max.ms"],
            "How far a record's timestamp may lie after the broker's clock, in milliseconds.",
        ),
        def(
            "message.timestamp.before.max.ms",
            Long,
            NEVER,
            Range(0, MAX),
            &["log.message.timestamp.before.max.ms"],
            "How far a record's timestamp may lie before the broker's clock, in milliseconds.",
        ),
        def(
            "message.timestamp.type",
            String,
            "CreateTime",
            OneOf(&["CreateTime", "LogAppendTime"]),
            &["log.message.timestamp.type"],
            "Whose clock stamps records: the producer's or the broker's.",
        ),
        def(
            "min.cleanable.dirty.ratio",
            Double,
            "0.5",
            Fixed,
            &[],
            "How dirty a log must be to be compacted; compaction is not served.",
        ),
        def(
            "min.compaction.lag.ms",
            Long,
            "0",
            Fixed,
            &[],
            "Shortest time that a record is not compacted; compaction is not served.",
        ),
        def(
            "min.insync.replicas",
            Int,
            "1",
            Range(1, INT),
            &["min.insync.replicas"],
            "Replicas that must hold a record before acks=all is answered.",
        ),
        def(
            "preallocate",
            Boolean,
            "false",
            Fixed,
            &["log.preallocate"],
            "Whether segment files are made at full length.",
        ),
        def(
            "remote.log.copy.disable",
            Boolean,
            "false",
            Fixed,
            &[],
            "Whether copying to tiered storage pauses; tiered storage is not served.",
        ),
        def(
            "remote.log.delete.on.disable",
            Boolean,
            "false",
            Fixed,
            &[],
            "Whether tiered data goes when tiering ends; tiered storage is not served.",
        ),
        def(
            "remote.storage.enable",
            Boolean,
            "false",
            Fixed,
            &[],
            "Whether segments are tiered; tiered storage is not served.",
        ),
        def(
            "retention.bytes",
            Long,
            "-1",
            Range(-1, MAX),
            &["log.retention.bytes"],
            "Bytes of a partition that retention leaves at least, -1 for no limit.",
        ),
        def(
            "retention.ms",
            Long,
            "604800000",
            Range(-1, MAX),
            &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
            "Milliseconds that records are kept, -1 for ever.",
        ),
        def(
            "segment.bytes",
            Int,
            "1073741824",
            Range(1 << 20, INT),
            &["log.segment.bytes"],
            "Size at which a segment is rolled.",
        ),
        def("segment.index.bytes", Int, "10485760", Fixed, &[], "Largest size of an index file."),
        def(
            "segment.jitter.ms",
            Long,
            "0",
            Fixed,
            &[],
            "Random part of the age at which segments are rolled.",
        ),
        def(
            "segment.ms",
            Long,
            "604800000",
            Range(1, MAX),
            &["log.roll.ms", "log.roll.hours"],
            "Age at which a segment is rolled, in milliseconds.",
        ),
        def(
            "unclean.leader.election.enable",
            Boolean,
            "false",
            Fixed,
            &["unclean.leader.election.enable"],
            "Whether a replica outside the in-sync set may lead.",
        ),
    ]
};

/// Kafka's own switch for small segments in tests: taken, never shown.
const INTERNAL_SEGMENT_BYTES: TopicConfigDef = def(
    "internal.segment.bytes",
    SettingType::Int,
    "",
    Valid::Range(1, i32::MAX as i64),
    &[],
    "Size at which a segment is rolled, below the lower bound of segment.bytes.",
);

/// Returns what is known of a topic setting.
pub fn definition(name: &str) -> Option<&'static TopicConfigDef> {
    if name == INTERNAL_SEGMENT_BYTES.setting.name {
        const INTERNAL: &TopicConfigDef = &INTERNAL_SEGMENT_BYTES;
        return Some(INTERNAL);
    }
    TOPIC_CONFIGS.iter().find(|def| def.setting.name == name)
}

/// Checks one setting of a topic.
///
/// # Errors
/// [`ConfigError`], answered as `INVALID_CONFIG` (40).
pub fn validate(name: &str, value: &str) -> Result<(), ConfigError> {
    let Some(def) = definition(name) else {
        return Err(ConfigError::Unknown {
            key: name.chars().take(100).collect(),
            nearest: nearest(name, TOPIC_CONFIGS.iter().map(|def| def.setting.name)),
        });
    };
    let (key, value) = (def.setting.name, value.trim());
    if def.setting.valid == Valid::Fixed {
        return if value == def.setting.default {
            Ok(())
        } else {
            Err(ConfigError::NotEnforced {
                key,
                value: value.chars().take(100).collect(),
                supported: def.setting.default,
            })
        };
    }
    check(def.setting.kind, def.setting.valid, value).map_err(|why| ConfigError::Invalid {
        key,
        value: value.chars().take(100).collect(),
        why,
    })
}

/// Where a value comes from, with the numbers of `DescribeConfigs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum ConfigSource {
    /// Set for the topic.
    Topic = 1,
    /// Set for the broker at its start.
    StaticBroker = 4,
    /// Nobody set it.
    Default = 5,
}

/// A value and where it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Described {
    /// The key under which it was set.
    pub name: &'static str,
    /// The value.
    pub value: String,
    /// Its source.
    pub source: ConfigSource,
}

/// Returns every place that a topic setting could come from, the one in force first.
pub fn describe(
    def: &'static TopicConfigDef,
    settings: &BrokerSettings,
    overrides: &Overrides,
) -> Vec<Described> {
    let mut out = Vec::new();
    if let Some(value) = overrides.get(def.setting.name) {
        out.push(Described {
            name: def.setting.name,
            value: value.clone(),
            source: ConfigSource::Topic,
        });
    }
    for &key in def.broker_keys {
        if let Some(value) = settings.explicit(key) {
            out.push(Described {
                name: key,
                value: in_topic_units(key, value),
                source: ConfigSource::StaticBroker,
            });
        }
    }
    out.push(Described {
        name: def.broker_keys.last().copied().unwrap_or(def.setting.name),
        value: def.setting.default.to_owned(),
        source: ConfigSource::Default,
    });
    out
}

/// Hours and minutes of a broker setting are milliseconds in the topic's.
fn in_topic_units(key: &str, value: &str) -> String {
    let unit = match key.rsplit_once('.') {
        Some((_, "hours")) => 3_600_000,
        Some((_, "minutes")) => 60_000,
        _ => return value.to_owned(),
    };
    match value.parse::<i64>() {
        Ok(number) if number >= 0 => number.saturating_mul(unit).to_string(),
        Ok(_) | Err(_) => value.to_owned(),
    }
}

/// The settings of one topic that are in force, typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicConfig {
    /// What produced batches must keep to.
    pub rules: TopicRules,
    /// Replicas that must hold a record before acks=all is answered.
    pub min_insync_replicas: usize,
    /// What the log is told.
    pub log: LogSettings,
    /// What records may ask for by their headers, where the topic has or had features.
    pub features: Option<Arc<ScheduleSettings>>,
}

impl TopicConfig {
    /// Works out the settings in force from what was set for the topic and for the broker.
    ///
    /// `memory_only` is for nodes without a directory, where every log lives in memory.
    pub fn effective(settings: &BrokerSettings, overrides: &Overrides, memory_only: bool) -> Self {
        let text = |name: &str| -> String {
            overrides.get(name).cloned().unwrap_or_else(|| {
                definition(name)
                    .and_then(|def| describe(def, settings, overrides).into_iter().next())
                    .map_or_else(String::new, |described| described.value)
            })
        };
        let number = |name: &str| text(name).parse::<i64>().ok();
        let count = |name: &str, fallback: u64| {
            number(name).and_then(|n| u64::try_from(n).ok()).unwrap_or(fallback)
        };
        let storage = if memory_only || text("mainspring.storage") == "memory" {
            Storage::Memory
        } else {
            Storage::Disk
        };
        let flush =
            if text("mainspring.flush") == "lazy" { FlushPolicy::Lazy } else { FlushPolicy::Ack };
        let timestamp_type = if text("message.timestamp.type") == "LogAppendTime" {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        };
        let before_max_ms = number("message.timestamp.before.max.ms").unwrap_or(i64::MAX);
        let segment_bytes =
            number("internal.segment.bytes").or_else(|| number("segment.bytes")).unwrap_or(1 << 30);
        let memory_max_bytes = count("mainspring.memory.max.bytes", 256 << 20);
        let features = overrides.get(FEATURES_KEY).map(|words| {
            let has = |word: &str| words.split(',').any(|it| it.trim() == word);
            let size = |name: &str, default: usize| count(name, default as u64) as usize;
            let ms = |name: &str, default: i64| number(name).unwrap_or(default);
            let default = ScheduleSettings::default();
            Arc::new(ScheduleSettings {
                features: Features {
                    schedule: has("schedule"),
                    half: has("half"),
                    dedup: has("dedup"),
                    dedup_by_key: text("mainspring.dedup.key") == "record-key",
                    default_delay_ms: ms("mainspring.delay.default.ms", 0),
                },
                dedup_window_ms: ms("mainspring.dedup.window.ms", default.dedup_window_ms),
                dedup_max_entries: size("mainspring.dedup.max.entries", default.dedup_max_entries),
                max_pending_records: size(
                    "mainspring.schedule.max.pending.records",
                    default.max_pending_records,
                ),
                max_pending_bytes: count(
                    "mainspring.schedule.max.pending.bytes",
                    default.max_pending_bytes,
                ),
                memory_max_bytes: (storage == Storage::Memory).then_some(memory_max_bytes),
                horizon_max_ms: ms("mainspring.schedule.max.horizon.ms", default.horizon_max_ms),
                fire_max_records: size(
                    "mainspring.schedule.fire.max.records",
                    default.fire_max_records,
                ),
                // What is delivered is one batch, which is as large as a produced one may be.
                fire_max_bytes: default.fire_max_bytes.min(size("max.message.bytes", 1_048_588)),
                decided_retention_ms: ms(
                    "mainspring.schedule.decided.retention.ms",
                    default.decided_retention_ms,
                ),
                check_after_ms: ms("mainspring.half.check.after.ms", default.check_after_ms),
                check_interval_ms: ms(
                    "mainspring.half.check.interval.ms",
                    default.check_interval_ms,
                ),
                check_max: count("mainspring.half.check.max", u64::from(default.check_max)) as u32,
                parked_retention_ms: ms(
                    "mainspring.half.parked.retention.ms",
                    default.parked_retention_ms,
                ),
                ..default
            })
        });
        Self {
            features,
            rules: TopicRules {
                max_message_bytes: count("max.message.bytes", 1_048_588) as usize,
                timestamp_type,
                compression: codec(&text("compression.type")),
                before_max_ms,
                after_max_ms: number("message.timestamp.after.max.ms").unwrap_or(3_600_000),
                // The oldest time of a batch stands in its records alone.
                open: before_max_ms < i64::MAX,
                ..TopicRules::default()
            },
            min_insync_replicas: count("min.insync.replicas", 1) as usize,
            log: LogSettings {
                storage,
                flush,
                segment_bytes: segment_bytes.max(1) as u64,
                segment_ms: number("segment.ms").unwrap_or(604_800_000),
                retention_ms: number("retention.ms").unwrap_or(604_800_000),
                retention_bytes: number("retention.bytes").unwrap_or(-1),
                index_interval_bytes: count("index.interval.bytes", 4096),
                memory_max_bytes,
                delete: true,
                may_use_reserve: false,
            },
        }
    }

    /// Returns what of it holds for a topic of the broker's own: nothing goes by age or size, and
    /// what a topic says about its durability by default is not for what others rest on.
    #[must_use]
    pub fn for_internal(mut self, memory_only: bool) -> Self {
        self.features = None;
        self.log.storage = if memory_only { Storage::Memory } else { Storage::Disk };
        self.log.flush = FlushPolicy::Ack;
        self.log.retention_ms = -1;
        self.log.retention_bytes = -1;
        self.log.memory_max_bytes = u64::MAX;
        self.log.delete = false;
        self.log.may_use_reserve = true;
        self
    }
}

fn codec(word: &str) -> Option<Codec> {
    match word {
        "uncompressed" => Some(Codec::None),
        "gzip" => Some(Codec::Gzip),
        "snappy" => Some(Codec::Snappy),
        "lz4" => Some(Codec::Lz4),
        "zstd" => Some(Codec::Zstd),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid_and_the_table_is_ordered() {
        for pair in TOPIC_CONFIGS.windows(2) {
            assert!(pair[0].setting.name < pair[1].setting.name, "{}", pair[1].setting.name);
        }
        for def in TOPIC_CONFIGS {
            assert_eq!(validate(def.setting.name, def.setting.default), Ok(()));
            for key in def.broker_keys {
                assert!(BrokerSettings::definition(key).is_some(), "{key}");
            }
        }
    }

    /// Apache Kafka 4.3's public topic settings, which tools look for.
    const KAFKAS: &str = "cleanup.policy compression.gzip.level compression.lz4.level \
        compression.type compression.zstd.level delete.retention.ms file.delete.delay.ms \
        flush.messages flush.ms follower.replication.throttled.replicas index.interval.bytes \
        leader.replication.throttled.replicas local.retention.bytes local.retention.ms \
        max.compaction.lag.ms max.message.bytes message.timestamp.after.max.ms \
        message.timestamp.before.max.ms message.timestamp.type min.cleanable.dirty.ratio \
        min.compaction.lag.ms min.insync.replicas preallocate remote.log.copy.disable \
        remote.log.delete.on.disable remote.storage.enable retention.bytes retention.ms \
        segment.bytes segment.index.bytes segment.jitter.ms segment.ms \
        unclean.leader.election.enable";

    #[test]
    fn kafkas_whole_list_is_known() {
        for name in KAFKAS.split_whitespace() {
            assert!(definition(name).is_some(), "{name}");
        }
    }

    #[test]
    fn compaction_is_refused_and_unknown_names_point_to_the_nearest() {
        assert!(matches!(
            validate("cleanup.policy", "compact"),
            Err(ConfigError::NotEnforced { supported: "delete", .. })
        ));
        assert!(matches!(
            validate("retention.m", "1"),
            Err(ConfigError::Unknown { nearest: "retention.ms", .. })
        ));
        assert!(validate("max.message.bytes", "33554433").is_err());
    }

    #[test]
    fn a_delay_that_nobody_keeps_is_refused() {
        assert_eq!(validate("file.delete.delay.ms", "0"), Ok(()));
        assert!(matches!(
            validate("file.delete.delay.ms", "60000"),
            Err(ConfigError::NotEnforced { supported: "0", .. })
        ));
    }

    #[test]
    fn a_topics_own_value_wins_over_the_brokers_and_that_over_the_default() {
        let mut settings = BrokerSettings::default();
        let mut overrides = Overrides::new();
        let retention = |s: &BrokerSettings, o: &Overrides| {
            TopicConfig::effective(s, o, false).log.retention_ms
        };
        assert_eq!(retention(&settings, &overrides), 604_800_000);
        settings.set("log.retention.hours", "2").expect("valid");
        assert_eq!(retention(&settings, &overrides), 7_200_000);
        settings.set("log.retention.ms", "5").expect("valid");
        assert_eq!(retention(&settings, &overrides), 5);
        overrides.insert("retention.ms".to_owned(), "-1".to_owned());
        assert_eq!(retention(&settings, &overrides), -1);

        let def = definition("retention.ms").expect("known");
        let sources: Vec<_> =
            describe(def, &settings, &overrides).into_iter().map(|d| (d.name, d.source)).collect();
        assert_eq!(
            sources,
            [
                ("retention.ms", ConfigSource::Topic),
                ("log.retention.ms", ConfigSource::StaticBroker),
                ("log.retention.hours", ConfigSource::StaticBroker),
                ("log.retention.hours", ConfigSource::Default),
            ]
        );
    }

    #[test]
    fn a_node_without_a_directory_keeps_every_topic_in_memory() {
        let config = TopicConfig::effective(&BrokerSettings::default(), &Overrides::new(), true);
        assert_eq!(config.log.storage, Storage::Memory);
    }
}
