//! Who a data directory belongs to, and how often it was started.
//!
//! `meta.properties` is Kafka's file (version 1) with one line of ours, the version of the formats
//! below the directory. `journal/SHARD/incarnation` holds the journal's id and the number of the
//! last start; both are text, written beside the old file and renamed over it.

use std::fmt::Write as _;

use crate::ids::{Incarnation, NodeId, Uuid};

/// Name of the identity file.
pub(super) const META_FILE: &str = "meta.properties";
/// Version of everything below a data directory that this build writes and reads.
pub(super) const DIRECTORY_FORMAT: u32 = 1;

/// What `meta.properties` says.
#[expect(clippy::struct_field_names, reason = "the names are those of the file")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub(super) cluster_id: Uuid,
    pub(super) node_id: NodeId,
    pub(super) directory_id: Uuid,
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
    #[error("the data directory has format {0}, this build reads {DIRECTORY_FORMAT}")]
    Newer(u32),
}

impl Identity {
    pub(super) fn encode(self) -> String {
        let mut out = String::from("#\n");
        let _ = writeln!(out, "version=1");
        let _ = writeln!(out, "cluster.id={}", self.cluster_id);
        let _ = writeln!(out, "node.id={}", self.node_id);
        let _ = writeln!(out, "directory.id={}", self.directory_id);
        let _ = writeln!(out, "mainspring.format={DIRECTORY_FORMAT}");
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        let text = String::from_utf8_lossy(bytes);
        let format: u32 = number(&text, "mainspring.format")?;
        if format != DIRECTORY_FORMAT {
            return Err(IdentityError::Newer(format));
        }
        let uuid = |key: &'static str| {
            value(&text, key).and_then(Uuid::parse).ok_or(IdentityError::Lacks(key))
        };
        Ok(Self {
            cluster_id: uuid("cluster.id")?,
            node_id: NodeId(number(&text, "node.id")?),
            directory_id: uuid("directory.id")?,
        })
    }
}

impl Starts {
    pub(super) fn encode(self) -> String {
        format!(
            "mainspring.format={DIRECTORY_FORMAT}\njournal.id={}\nincarnation={}\n",
            self.journal_id, self.incarnation
        )
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        let text = String::from_utf8_lossy(bytes);
        let format: u32 = number(&text, "mainspring.format")?;
        if format != DIRECTORY_FORMAT {
            return Err(IdentityError::Newer(format));
        }
        Ok(Self {
            journal_id: number(&text, "journal.id")?,
            incarnation: Incarnation(number(&text, "incarnation")?),
        })
    }
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
        let identity =
            Identity { cluster_id: Uuid([3; 16]), node_id: NodeId(7), directory_id: Uuid([4; 16]) };
        let text = identity.encode();
        assert_eq!(Identity::decode(text.as_bytes()), Ok(identity));
        let newer = text.replace("mainspring.format=1", "mainspring.format=2");
        assert_eq!(Identity::decode(newer.as_bytes()), Err(IdentityError::Newer(2)));
        assert!(Identity::decode(&text.as_bytes()[..40]).is_err());
    }

    #[test]
    fn the_count_of_starts_is_read_back() {
        let starts = Starts { journal_id: u64::MAX, incarnation: Incarnation(9) };
        assert_eq!(Starts::decode(starts.encode().as_bytes()), Ok(starts));
        assert!(Starts::decode(b"").is_err());
    }
}
