//! Newtypes for every id, epoch and offset, so that none is taken for another.

use std::fmt;
use std::sync::Arc;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

number!(
    /// Position of a record in a partition's log.
    Offset(i64)
);
number!(
    /// Counts the leaders of a partition; rises with each change of leader. -1 means unknown.
    LeaderEpoch(i32)
);
number!(
    /// Number of a partition within its topic, from 0.
    PartitionIndex(i32)
);
number!(
    /// Identifies a producer for idempotence (KIP-98). -1 means none.
    ProducerId(i64)
);
number!(
    /// Fences older instances of a producer (KIP-98). -1 means none.
    ProducerEpoch(i16)
);
number!(
    /// Identifies a node of the cluster. -1 means none.
    NodeId(i32)
);
number!(
    /// A shard of a node: its partitions, coordinators and connections; shard 0 also leads the metadata.
    ShardId(u16)
);
number!(
    /// One connection, unique for the life of a process.
    ConnectionId(u64)
);
number!(
    /// Index into the configured listeners.
    ListenerIndex(u16)
);
number!(
    /// Ties the completion of a disk operation to the effect that asked for it.
    IoToken(u64)
);
number!(
    /// Counted up durably at each start of a node, before the first journal write of that start.
    Incarnation(u32)
);

impl ConnectionId {
    const OUTGOING: u64 = 1 << 63;

    /// Returns the number of a connection that core opens: its top bit is set, so that it never meets one
    /// that a driver gives. `n` is used once in the life of a process, whichever of its shards asks.
    pub const fn outgoing(n: u64) -> Self {
        Self(n | Self::OUTGOING)
    }

    /// Returns whether core opened the connection, rather than a peer.
    pub const fn is_outgoing(self) -> bool {
        self.0 & Self::OUTGOING != 0
    }
}

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Self = Self(0);

    /// Returns the offset `count` records later.
    #[must_use]
    pub const fn plus(self, count: i64) -> Self {
        Self(self.0 + count)
    }
}

impl LeaderEpoch {
    /// The value that stands for "not known".
    pub const UNKNOWN: Self = Self(-1);
}

impl ProducerId {
    /// The value that stands for "no producer id".
    pub const NONE: Self = Self(-1);
}

/// A 16-byte identifier as it stands on the wire, big-endian. All zero means none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

/// Identifies a topic for its whole life; never used again (KIP-516).
pub type TopicId = Uuid;

impl Uuid {
    /// The value that stands for "none".
    pub const ZERO: Self = Self([0; 16]);

    /// Returns whether the value stands for "none".
    pub fn is_zero(self) -> bool {
        self.0 == [0; 16]
    }

    /// Reads Kafka's text form, 22 characters of unpadded URL-safe base64.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 22 {
            return None;
        }
        let mut bits: u128 = 0;
        for (index, &byte) in bytes.iter().enumerate() {
            let value = u128::from(match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            });
            if index == 21 {
                // 22 characters carry 132 bits; the last four must be zero.
                if value & 0xf != 0 {
                    return None;
                }
                bits = (bits << 2) | (value >> 4);
            } else {
                bits = (bits << 6) | value;
            }
        }
        Some(Self(bits.to_be_bytes()))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = u128::from_be_bytes(self.0);
        for index in 0..22 {
            let value =
                if index == 21 { (bits << 4) & 0x3f } else { (bits >> (122 - 6 * index)) & 0x3f };
            write!(f, "{}", char::from(ALPHABET[value as usize]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Name of a topic: `[a-zA-Z0-9._-]{1,249}`, not `.` and not `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// The topic that holds the metadata log.
    pub fn cluster_metadata() -> Self {
        Self("__cluster_metadata".into())
    }

    /// Checks a name that came from outside.
    ///
    /// # Errors
    /// Returns what is wrong with it, in words (the wire code is `INVALID_TOPIC_EXCEPTION`).
    pub fn parse(name: &str) -> Result<Self, &'static str> {
        if name.is_empty() {
            return Err("a topic name must not be empty");
        }
        if name.len() > 249 {
            return Err("a topic name must not be longer than 249 characters");
        }
        if name == "." || name == ".." {
            return Err("a topic name must not be \".\" or \"..\"");
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return Err("a topic name may hold only the characters a-z A-Z 0-9 . _ -");
        }
        Ok(Self(name.into()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One partition by its topic's id, the key of every table inside a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition within it.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// The metadata log, by Kafka's fixed topic id.
    pub const CLUSTER_METADATA: Self = Self {
        topic_id: Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        partition: PartitionIndex(0),
    };
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

/// Names a snapshot of the metadata log (KIP-630).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SnapshotId {
    /// The first offset that it does not hold.
    pub end_offset: Offset,
    /// The epoch of the last record that it holds.
    pub epoch: LeaderEpoch,
}

impl SnapshotId {
    /// Returns the name of its file, which is Kafka's: 20 digits of the offset and 10 of the epoch.
    pub fn file_name(self) -> String {
        format!("{:020}-{:010}.checkpoint", self.end_offset.0, self.epoch.0)
    }

    /// Reads the name of a file; `None` where it is not that of a snapshot.
    pub fn of_file_name(name: &str) -> Option<Self> {
        let (end_offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
        let is_number = |text: &str, digits| {
            text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(end_offset, 20) || !is_number(epoch, 10) {
            return None;
        }
        let end_offset = Offset(end_offset.parse().ok()?);
        Some(Self { end_offset, epoch: LeaderEpoch(epoch.parse().ok()?) })
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_snapshot_is_kafkas() {
        let id = SnapshotId { end_offset: Offset(1_234), epoch: LeaderEpoch(7) };
        assert_eq!(id.file_name(), "00000000000000001234-0000000007.checkpoint");
        assert_eq!(SnapshotId::of_file_name(&id.file_name()), Some(id));
        for bad in [
            "00000000000000001234.checkpoint",
            "00000000000000001234-0000000007.checkpoint.tmp",
            "0000000000000000123-0000000007.checkpoint",
            "00000000000000001234-00000000+7.checkpoint",
            "00000000000000001234-9999999999.checkpoint",
            "99999999999999999999-0000000007.checkpoint",
        ] {
            assert_eq!(SnapshotId::of_file_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn uuid_text_is_kafkas_url_safe_base64() {
        let id = Uuid([0xff, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0xfe]);
        let text = id.to_string();
        assert_eq!(text.len(), 22);
        assert_eq!(Uuid::parse(&text), Some(id));
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Uuid::parse("AAAAAAAAAAAAAAAAAAAAAB"), None);
    }

    #[test]
    fn connections_that_core_opens_never_meet_those_that_drivers_give() {
        assert!(ConnectionId::outgoing(7).is_outgoing());
        assert!(!ConnectionId(7).is_outgoing());
        assert_ne!(ConnectionId::outgoing(7), ConnectionId(7));
        assert_ne!(ConnectionId::outgoing(7), ConnectionId::outgoing(8));
    }

    #[test]
    fn topic_names_outside_the_alphabet_are_refused() {
        for bad in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(250)] {
            assert!(TopicName::parse(bad).is_err(), "{bad}");
        }
        assert!(TopicName::parse(&"x".repeat(249)).is_ok());
    }
}
