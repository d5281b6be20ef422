//! Which copies of a node's files are good: a fault that would leave no good copy of what was
//! acknowledged is refused.
//!
//! What is in a segment or a journal has one copy on a node; copies of other nodes join with replication. A
//! checkpoint has two, and so has what snapshots hold of the metadata log. What can be told from segments and journals again, and what nobody needs, may go at
//! any time.
//!
//! Invariants:
//! 1. A file that was damaged counts as damaged until it holds something else.

use std::collections::BTreeMap;

use crate::disk::{FileKind, SimDisk};

/// The damage of one disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Atlas {
    /// What each damaged file held right after it was damaged, as a hash.
    damaged: BTreeMap<String, u64>,
}

impl Atlas {
    /// Returns whether the damage of a file leaves a good copy of everything.
    pub(super) fn allows(&mut self, disk: &SimDisk, file: &str) -> bool {
        self.damaged.retain(|file, hash| disk.hash_of(file) == *hash);
        match FileKind::of(file) {
            // Derived: built anew from what they were made of.
            Some(
                FileKind::OffsetIndex
                | FileKind::TimeIndex
                | FileKind::Epochs
                | FileKind::PartitionMetadata
                | FileKind::Starts,
            )
            | None => true,
            // Each of the two files of a partition says the same.
            Some(kind @ (FileKind::Snapshot | FileKind::Producers)) => {
                let other = if kind == FileKind::Snapshot { "producers" } else { "snapshot" };
                let other = file.rsplit_once('.').map(|(stem, _)| format!("{stem}.{other}"));
                other.is_some_and(|other| self.is_good(disk, &other))
            }
            Some(FileKind::Checkpoint) => disk
                .files_of(FileKind::Checkpoint)
                .iter()
                .any(|other| other != file && same_shard(other, file) && self.is_good(disk, other)),
            // With the log behind the older one each of two snapshots tells all.
            Some(FileKind::MetadataSnapshot) => disk
                .files_of(FileKind::MetadataSnapshot)
                .iter()
                .any(|other| other != file && self.is_good(disk, other)),
            Some(FileKind::Segment | FileKind::Journal | FileKind::Identity) => false,
        }
    }

    fn is_good(&self, disk: &SimDisk, file: &str) -> bool {
        disk.page_image(file).is_some() && !self.damaged.contains_key(file)
    }

    /// Notes that a file was just damaged.
    pub(super) fn note(&mut self, disk: &SimDisk, file: &str) {
        self.damaged.insert(file.to_owned(), disk.hash_of(file));
    }
}

/// Returns whether two copies of checkpoints are those of one shard: `checkpoint/N` and
/// `journal/N/checkpoint`.
fn same_shard(one: &str, other: &str) -> bool {
    let shard = |file: &str| -> Option<String> {
        file.split('/')
            .find(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
            .map(str::to_owned)
    };
    shard(one) == shard(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskOptions;
    use crate::rng::{Rng, Stream};

    fn disk() -> SimDisk {
        let mut disk = SimDisk::new(DiskOptions::default(), Rng::new(1, Stream::Disk(0)));
        for file in
            ["a.log", "a.index", "a.producers", "a.snapshot", "b.producers", "meta.properties"]
        {
            assert!(disk.plant_file(file, b"good"));
        }
        disk
    }

    #[test]
    fn the_last_good_copy_is_never_allowed_to_go() {
        let (mut disk, mut atlas) = (disk(), Atlas::default());
        assert!(!atlas.allows(&disk, "a.log") && !atlas.allows(&disk, "meta.properties"));
        assert!(!atlas.allows(&disk, "b.producers"), "there is no other");
        assert!(atlas.allows(&disk, "a.index"));
        assert!(atlas.allows(&disk, "a.producers"));
        disk.rot("a.producers", 0, 0);
        atlas.note(&disk, "a.producers");
        assert!(!atlas.allows(&disk, "a.snapshot"), "the other is damaged");
        assert!(atlas.allows(&disk, "a.producers"), "it is damaged already");

        disk.rot("a.producers", 0, 0);
        assert!(atlas.allows(&disk, "a.snapshot"), "the other holds something else again");
    }

    #[test]
    fn copies_of_a_checkpoint_belong_to_their_shard() {
        assert!(same_shard("checkpoint/1", "journal/1/checkpoint"));
        assert!(!same_shard("checkpoint/0", "journal/1/checkpoint"));
    }
}
