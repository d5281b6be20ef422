//! Who a data directory belongs to, and how often it was started.
//!
//! `meta.properties` is Kafka's file (version 1) with lines of ours: the version of the formats below the
//! directory, and who votes in the cluster that was formed. It is written beside and renamed. `journal/SHARD/incarnation` holds the journal's id
//! and the number of the last start in one of two slots of 4 KiB, each with a checksum. A start writes
//! over the older one, so that counting needs no room on the disk and a torn write leaves the other.
//! Both files are text.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::cluster::{Cluster, Voter};
use crate::ids::{Incarnation, NodeId, Uuid};

/// Name of the identity file.
pub(super) const META_FILE: &str = "meta.properties";
/// What it is written as before it takes that name.
pub(super) const META_TEMPORARY: &str = "meta.properties.tmp";
/// Bytes of one of the two slots of the incarnation file.
pub(super) const SLOT_LEN: usize = 4096;
/// Version of everything below a data directory that this build writes and reads.
pub(super) const DIRECTORY_FORMAT: u32 = 1;
/// The same in `meta.properties` of a node that is one of several: who does not know of voters must not
/// take it for the directory of a node alone.
const MEMBER_FORMAT: u32 = 2;
/// What stands before the number of a voter.
const VOTER: &str = "mainspring.voter.";

/// What `meta.properties` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    /// Zero for a node that is to be one of several and belongs to no cluster yet.
    pub(super) cluster_id: Uuid,
    pub(super) node_id: NodeId,
    pub(super) directory_id: Uuid,
    /// Who votes in the cluster; nobody for a node alone.
    pub(super) voters: Vec<Voter>,
}

/// What the incarnation file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Starts {
    pub(super) journal_id: u64,
    pub(super) incarnation: Incarnation,
}

/// Why an identity file cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum IdentityError {
    #[error("it lacks a readable `{0}`")]
    Lacks(&'static str),
    #[error("its checksum is wrong")]
    Damaged,
    #[error("the data directory has format {0}, this build reads up to {MEMBER_FORMAT}")]
    Newer(u32),
}

impl Identity {
    /// Returns the cluster that was formed with several nodes.
    pub(super) fn cluster(&self) -> Option<Cluster> {
        let voters = self.voters.clone();
        (!voters.is_empty()).then_some(Cluster { id: self.cluster_id, voters })
    }

    pub(super) fn encode(&self) -> String {
        let alone = self.voters.is_empty() && !self.cluster_id.is_zero();
        let format = if alone { DIRECTORY_FORMAT } else { MEMBER_FORMAT };
        let mut out = String::from("#\n");
        let _ = writeln!(out, "version=1");
        let _ = writeln!(out, "cluster.id={}", self.cluster_id);
        let _ = writeln!(out, "node.id={}", self.node_id);
        let _ = writeln!(out, "directory.id={}", self.directory_id);
        let _ = writeln!(out, "mainspring.format={format}");
        for Voter { node_id, directory_id, host, port } in &self.voters {
            let _ = writeln!(out, "{VOTER}{node_id}={directory_id} {host} {port}");
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        let text = String::from_utf8_lossy(bytes);
        let format: u32 = number(&text, "mainspring.format")?;
        if !(DIRECTORY_FORMAT..=MEMBER_FORMAT).contains(&format) {
            return Err(IdentityError::Newer(format));
        }
        let voters = text.lines().filter_map(|line| line.strip_prefix(VOTER)).map(voter);
        let uuid = |key: &'static str| {
            value(&text, key).and_then(Uuid::parse).ok_or(IdentityError::Lacks(key))
        };
        Ok(Self {
            cluster_id: uuid("cluster.id")?,
            node_id: NodeId(number(&text, "node.id")?),
            directory_id: uuid("directory.id")?,
            voters: voters
                .collect::<Option<_>>()
                .ok_or(IdentityError::Lacks("mainspring.voter"))?,
        })
    }
}

/// Reads what stands behind the prefix of a voter's line.
fn voter(line: &str) -> Option<Voter> {
    let (node, rest) = line.split_once('=')?;
    let mut words = rest.split_ascii_whitespace();
    let voter = Voter {
        node_id: NodeId(node.parse().ok()?),
        directory_id: words.next().and_then(Uuid::parse)?,
        host: words.next()?.into(),
        port: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(voter)
}

impl Starts {
    /// Returns one slot of the file.
    pub(super) fn encode_slot(self) -> Bytes {
        let mut out = format!(
            "mainspring.format={DIRECTORY_FORMAT}\njournal.id={}\nincarnation={}\n",
            self.journal_id, self.incarnation
        );
        let _ = writeln!(out, "crc={:08x}", crc32c(out.as_bytes()));
        let mut out = out.into_bytes();
        out.resize(SLOT_LEN, b'\n');
        out.into()
    }

    /// Returns a whole file with this count in the first slot and nothing in the second.
    pub(super) fn encode_file(self) -> Bytes {
        [&self.encode_slot()[..], &[b'\n'; SLOT_LEN]].concat().into()
    }

    /// Reads the file: the later count, and the slot that may be written over (0 or 1), `None` where
    /// the file is one of an earlier build, without slots.
    ///
    /// # Errors
    /// [`IdentityError::Newer`] for a format unknown to this build; anything else means that both slots
    /// are damaged.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, Option<u64>), IdentityError> {
        if bytes.len() < SLOT_LEN {
            return Ok((Self::decode_text(&String::from_utf8_lossy(bytes))?, None));
        }
        let slot = |number: usize| {
            let slot = bytes.get(number * SLOT_LEN..(number + 1) * SLOT_LEN);
            slot.map_or(Err(IdentityError::Damaged), Self::decode_slot)
        };
        match (slot(0), slot(1)) {
            (Err(IdentityError::Newer(version)), _) | (_, Err(IdentityError::Newer(version))) => {
                Err(IdentityError::Newer(version))
            }
            (Ok(first), Ok(second)) if second.incarnation > first.incarnation => {
                Ok((second, Some(0)))
            }
            (Ok(first), Ok(_) | Err(_)) => Ok((first, Some(1))),
            (Err(_), Ok(second)) => Ok((second, Some(0))),
            (Err(error), Err(_)) => Err(error),
        }
    }

    fn decode_slot(slot: &[u8]) -> Result<Self, IdentityError> {
        let text = str::from_utf8(slot).map_err(|_| IdentityError::Damaged)?;
        let (covered, crc) = text.split_once("crc=").ok_or(IdentityError::Damaged)?;
        let (crc, padding) = crc.split_at_checked(8).ok_or(IdentityError::Damaged)?;
        let is_whole = crc == format!("{:08x}", crc32c(covered.as_bytes()))
            && padding.bytes().all(|byte| byte == b'\n');
        if is_whole { Self::decode_text(covered) } else { Err(IdentityError::Damaged) }
    }

    fn decode_text(text: &str) -> Result<Self, IdentityError> {
        let format: u32 = number(text, "mainspring.format")?;
        if format != DIRECTORY_FORMAT {
            return Err(IdentityError::Newer(format));
        }
        Ok(Self {
            journal_id: number(text, "journal.id")?,
            incarnation: Incarnation(number(text, "incarnation")?),
        })
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::trim))
}

fn number<N: std::str::FromStr>(text: &str, key: &'static str) -> Result<N, IdentityError> {
    value(text, key).and_then(|value| value.parse().ok()).ok_or(IdentityError::Lacks(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_back_and_newer_ones_refused() {
        let identity = alone();
        let text = identity.encode();
        assert_eq!(Identity::decode(text.as_bytes()), Ok(identity));
        let newer = text.replace("mainspring.format=1", "mainspring.format=3");
        assert_eq!(Identity::decode(newer.as_bytes()), Err(IdentityError::Newer(3)));
        assert!(Identity::decode(&text.as_bytes()[..40]).is_err());
    }

    fn alone() -> Identity {
        Identity {
            cluster_id: Uuid([3; 16]),
            node_id: NodeId(7),
            directory_id: Uuid([4; 16]),
            voters: Vec::new(),
        }
    }

    #[test]
    fn the_file_of_one_of_several_nodes_names_the_voters_and_is_of_a_later_format() {
        let voter = |node: i32| Voter {
            node_id: NodeId(node),
            directory_id: Uuid([node as u8; 16]),
            host: "[::1]".into(),
            port: 9093,
        };
        let formed = Identity { voters: vec![voter(1), voter(7)], ..alone() };
        let text = formed.encode();
        assert!(text.contains("\nmainspring.format=2\nmainspring.voter.1="), "{text}");
        assert_eq!(Identity::decode(text.as_bytes()), Ok(formed));
        let waiting = Identity { cluster_id: Uuid::default(), ..alone() };
        let text = waiting.encode();
        assert!(text.contains("\nmainspring.format=2\n"), "{text}");
        assert_eq!(Identity::decode(text.as_bytes()), Ok(waiting));
        for broken in ["x=", "1=zero host 9", "1=", "2"] {
            let text = format!("{}mainspring.voter.{broken}\n", alone().encode());
            let lacks = Err(IdentityError::Lacks("mainspring.voter"));
            assert_eq!(Identity::decode(text.as_bytes()), lacks, "{broken}");
        }
    }

    fn count(incarnation: u32) -> Starts {
        Starts { journal_id: u64::MAX, incarnation: Incarnation(incarnation) }
    }

    #[test]
    fn the_later_count_is_read_and_the_other_slot_is_free() {
        let file = |first: u32, second: u32| {
            [count(first).encode_slot(), count(second).encode_slot()].concat()
        };
        assert_eq!(Starts::decode(&count(9).encode_file()), Ok((count(9), Some(1))));
        assert_eq!(Starts::decode(&file(9, 10)), Ok((count(10), Some(0))));
        assert_eq!(Starts::decode(&file(11, 10)), Ok((count(11), Some(1))));
        let text = "mainspring.format=1\njournal.id=5\nincarnation=3\n";
        let old = Starts { journal_id: 5, incarnation: Incarnation(3) };
        assert_eq!(Starts::decode(text.as_bytes()), Ok((old, None)));
        assert!(Starts::decode(b"").is_err());
    }

    #[test]
    fn a_slot_torn_or_flipped_anywhere_leaves_the_other_count() {
        let (before, after) = (count(9).encode_slot(), count(10).encode_slot());
        let older = count(8).encode_slot();
        for cut in 0..after.len() {
            let torn = [&before[..], &after[..cut], &older[cut..]].concat();
            let read = Starts::decode(&torn);
            let whole = after[cut..] == older[cut..];
            assert_eq!(read, Ok(if whole { (count(10), Some(0)) } else { (count(9), Some(1)) }));
        }
        for bit in 0..80 * 8 {
            let mut flipped = after.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let read = Starts::decode(&[&before[..], &flipped].concat());
            assert_eq!(read.map(|(starts, _)| starts), Ok(count(9)), "bit {bit}");
        }
        let newer = Starts::decode(&[before.to_vec(), vec![0; SLOT_LEN]].concat());
        assert_eq!(newer, Ok((count(9), Some(1))));
        assert_eq!(Starts::decode(&[0; 2 * SLOT_LEN]), Err(IdentityError::Damaged));
    }
}
