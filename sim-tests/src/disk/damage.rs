//! Damage at rest: what happens to files while nobody writes them.

use mainspring_core::io::FileName;
use serde::{Deserialize, Serialize};

use super::SimDisk;
use super::tree::Tree;
use crate::trace::TraceHash;

/// What a file of a data directory is for, as its name tells.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// Batches of a partition.
    Segment,
    /// Places of offsets in a segment.
    OffsetIndex,
    /// Places of times in a segment.
    TimeIndex,
    /// Producers of a partition, in Kafka's format.
    Snapshot,
    /// Producers of a partition, in ours.
    Producers,
    /// Leader epochs of a partition.
    Epochs,
    /// The topic's id in a partition's folder.
    PartitionMetadata,
    /// One of the two copies of a checkpoint.
    Checkpoint,
    /// Blocks of a journal.
    Journal,
    /// The count of starts.
    Starts,
    /// Whose directory it is.
    Identity,
    /// A snapshot of the metadata log.
    MetadataSnapshot,
}

impl FileKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Segment,
        Self::OffsetIndex,
        Self::TimeIndex,
        Self::Snapshot,
        Self::Producers,
        Self::Epochs,
        Self::PartitionMetadata,
        Self::Checkpoint,
        Self::Journal,
        Self::Starts,
        Self::Identity,
        Self::MetadataSnapshot,
    ];

    /// Returns what damage to such a file is counted as.
    pub const fn damaged(self) -> &'static str {
        match self {
            Self::Segment => "damaged-segment",
            Self::OffsetIndex => "damaged-offset-index",
            Self::TimeIndex => "damaged-time-index",
            Self::Snapshot => "damaged-snapshot",
            Self::Producers => "damaged-producers",
            Self::Epochs => "damaged-epochs",
            Self::PartitionMetadata => "damaged-partition-metadata",
            Self::Checkpoint => "damaged-checkpoint",
            Self::Journal => "damaged-journal",
            Self::Starts => "damaged-starts",
            Self::Identity => "damaged-identity",
            Self::MetadataSnapshot => "damaged-metadata-snapshot",
        }
    }

    /// Returns what a file is for; `None` for one that is not ours or on its way to its name.
    pub fn of(name: &str) -> Option<Self> {
        if name.starts_with("trash/") {
            return None;
        }
        let last = name.rsplit('/').next().unwrap_or(name);
        let of_shard = |folder: &str| {
            name.strip_prefix(folder).is_some_and(|rest| {
                rest.split('/').next().is_some_and(|shard| {
                    !shard.is_empty() && shard.bytes().all(|byte| byte.is_ascii_digit())
                })
            })
        };
        Some(match last {
            "meta.properties" => Self::Identity,
            "partition.metadata" => Self::PartitionMetadata,
            "leader-epoch-checkpoint" => Self::Epochs,
            "incarnation" if of_shard("journal/") => Self::Starts,
            "checkpoint" if of_shard("journal/") => Self::Checkpoint,
            _ if of_shard("checkpoint/") && !last.contains('.') => Self::Checkpoint,
            _ => match last.split_once('.')?.1 {
                "log" => Self::Segment,
                "index" => Self::OffsetIndex,
                "timeindex" => Self::TimeIndex,
                "snapshot" => Self::Snapshot,
                "producers" => Self::Producers,
                "journal" => Self::Journal,
                "checkpoint" => Self::MetadataSnapshot,
                _ => return None,
            },
        })
    }
}

impl SimDisk {
    /// Returns the files of a kind, in order of their names.
    pub fn files_of(&self, kind: FileKind) -> Vec<String> {
        self.files().into_iter().filter(|name| FileKind::of(name) == Some(kind)).collect()
    }

    /// Returns a hash of what is at rest under a name, 0 where there is no such file.
    pub fn hash_of(&self, file: &str) -> u64 {
        self.page_image(file).map_or(0, |bytes| {
            let mut hash = TraceHash::default();
            hash.bytes(bytes);
            hash.finish()
        })
    }

    /// Flips a bit of a file at rest. Returns whether there is such a byte.
    pub fn rot(&mut self, file: &str, at: u64, bit: u8) -> bool {
        let hit = self.tree.file_mut(&FileName::new(file)).is_ok_and(|inode| inode.rot(at, bit));
        self.counters.rotted += u64::from(hit);
        hit
    }

    fn change(&mut self, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let sector = self.options.sector;
        let Ok(inode) = self.tree.file_mut(&FileName::new(file)) else { return false };
        inode.damage(sector, change);
        self.counters.damaged_files += 1;
        true
    }

    /// Cuts a file at rest. Returns whether there is one.
    pub fn cut_file(&mut self, file: &str, length: u64) -> bool {
        self.change(file, |bytes| bytes.truncate(length as usize))
    }

    /// Makes a range of a file at rest zeros. Returns whether there is such a file.
    pub fn zero_file(&mut self, file: &str, from: u64, length: u64) -> bool {
        self.change(file, |bytes| {
            let end = (bytes.len() as u64).min(from.saturating_add(length)) as usize;
            if let Some(range) = bytes.get_mut(from as usize..end) {
                range.fill(0);
            }
        })
    }

    /// Removes a file behind everybody's back. Returns whether there was one.
    pub fn lose_file(&mut self, file: &str) -> bool {
        let lost = self.tree.lose(&FileName::new(file));
        self.counters.damaged_files += u64::from(lost);
        lost
    }

    /// Puts a file there that is not ours. Returns whether the name was free.
    pub fn plant_file(&mut self, file: &str, bytes: &[u8]) -> bool {
        let planted = self.tree.plant(&FileName::new(file), bytes);
        self.counters.damaged_files += u64::from(planted);
        planted
    }

    /// Returns the names of all directories, the root as an empty one.
    pub fn directories(&self) -> Vec<String> {
        self.tree.directories()
    }

    /// The page cache is dropped: what a device lost or misdirected is seen from here on.
    pub fn drop_caches(&mut self) {
        self.tree.drop_caches(self.options.sector);
    }

    /// The disk is exchanged for an empty one. The process must be down.
    pub fn wipe(&mut self) {
        self.tree = Tree::default();
    }

    /// Copies all files to a safe place, as a backup of a running node does.
    pub fn save(&mut self) {
        self.saved = Some(self.tree.clone());
    }

    /// Brings back what was saved. The process must be down. Returns whether there was something.
    pub fn restore(&mut self) -> bool {
        let sector = self.options.sector;
        let Some(saved) = self.saved.clone() else { return false };
        self.tree = saved;
        self.tree.lose_power(sector, |_| true);
        true
    }
}
