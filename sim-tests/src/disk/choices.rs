//! The disk where somebody chooses what happens, instead of time and chance: which operation ends
//! next, and how far each had come when the process died.

use mainspring_core::io::{CreateKind, FileName};

use super::operation::{InFlight, Operation, content};
use super::{OperationId, SimDisk};
use crate::trace::TraceHash;

/// How far the operations of one name had come: that many are done, and bytes of the next.
#[derive(Clone, Copy, Debug)]
struct Progress {
    done: usize,
    part: Option<usize>,
}

impl Operation {
    fn hash(&self, hash: &mut TraceHash) {
        hash.bytes(self.word().as_bytes());
        for name in self.names() {
            hash.bytes(name.as_str().as_bytes());
        }
        match self {
            Self::Write { position, body, sync, .. } => {
                hash.number(*position);
                hash.number(u64::from(*sync == mainspring_core::io::Sync::Data));
                hash.bytes(&content(body).0);
            }
            Self::Read { position, length, .. } => {
                hash.number(*position);
                hash.number(*length);
            }
            Self::Create { kind: CreateKind::Filled { length }, .. }
            | Self::Truncate { length, .. } => hash.number(*length),
            Self::Create { kind: CreateKind::Directory, .. }
            | Self::Sync { .. }
            | Self::SyncDir { .. }
            | Self::Rename { .. }
            | Self::Remove { .. }
            | Self::List { .. }
            | Self::Space { .. } => {}
        }
    }
}

impl SimDisk {
    /// Returns the operations that may end next: for each name the oldest.
    pub fn may_end(&self) -> Vec<OperationId> {
        let mut before: Vec<&FileName> = Vec::new();
        let mut free = Vec::new();
        for (id, InFlight { operation, .. }) in &self.in_flight {
            let names = operation.names();
            if !names.iter().any(|name| before.contains(name)) {
                free.push(*id);
            }
            before.extend(names);
        }
        free
    }

    /// Returns a hash of everything that may ever matter to those who read this disk or cut its power:
    /// files, names, what is pending, and what is in flight in the order of its submission.
    pub fn state_hash(&self) -> u64 {
        let mut hash = TraceHash::default();
        self.tree.hash(&mut hash);
        for InFlight { shard, operation, .. } in self.in_flight.values() {
            hash.number(u64::from(shard.0));
            operation.hash(&mut hash);
        }
        hash.finish()
    }

    /// Returns every disk that the death of the process at this moment may leave, ready for a start:
    /// of the operations on one name a prefix is done, the next perhaps to its middle (a whole number
    /// of sectors); operations on different names know nothing of each other.
    pub fn after_kills(&self) -> Vec<Self> {
        let mut chains: Vec<(Vec<&FileName>, Vec<&Operation>)> = Vec::new();
        for InFlight { operation, .. } in self.in_flight.values() {
            if !operation.changes() {
                continue;
            }
            let names = operation.names();
            // A rename ties two names together.
            let (tied, others): (Vec<_>, Vec<_>) =
                chains.into_iter().partition(|(of, _)| names.iter().any(|name| of.contains(name)));
            chains = others;
            let (mut of, mut operations) = (names.to_vec(), Vec::new());
            for (more, earlier) in tied {
                of.extend(more);
                operations.extend(earlier);
            }
            operations.push(operation);
            chains.push((of, operations));
        }
        let mut images = vec![self.copy()];
        for (_, operations) in chains {
            images = images
                .iter()
                .flat_map(|image| {
                    self.progresses(&operations).into_iter().map(|Progress { done, part }| {
                        let mut image = image.clone();
                        for operation in &operations[..done] {
                            image.apply_in_flight(operation, None);
                        }
                        if part.is_some() {
                            image.apply_in_flight(operations[done], part);
                        }
                        image
                    })
                })
                .collect();
        }
        images
    }

    fn progresses(&self, operations: &[&Operation]) -> Vec<Progress> {
        let mut all = Vec::new();
        for done in 0..=operations.len() {
            all.push(Progress { done, part: None });
            let sector = self.options.sector;
            if let Some(next) = operations.get(done)
                && next.len() > sector
            {
                let part = (next.len() / 2).next_multiple_of(sector).min(next.len() - 1);
                all.push(Progress { done, part: Some(part as usize) });
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mainspring_core::ids::{IoToken, ShardId};
    use mainspring_core::io::{Effect, Sync, WriteBody};

    use super::*;
    use crate::disk::DiskOptions;
    use crate::rng::{Rng, Stream};

    fn disk() -> SimDisk {
        let options = DiskOptions { sector: 512, ..DiskOptions::default() };
        SimDisk::new(options, Rng::new(1, Stream::Disk(0)))
    }

    fn write(disk: &mut SimDisk, file: &str, position: u64, bytes: usize) -> OperationId {
        let effect = Effect::Write {
            file: FileName::new(file),
            position,
            body: WriteBody::Parts(vec![Bytes::from(vec![7; bytes])]),
            sync: Sync::None,
            token: IoToken(position),
        };
        disk.submit(0, ShardId(0), effect).expect("it touches a file").0
    }

    #[test]
    fn of_the_operations_on_a_name_the_oldest_alone_may_end() {
        let mut disk = disk();
        let first = write(&mut disk, "a", 0, 10);
        let behind = write(&mut disk, "a", 10, 10);
        let beside = write(&mut disk, "b", 0, 10);
        assert_eq!(disk.may_end(), [first, beside]);
        disk.finish(first);
        assert_eq!(disk.may_end(), [behind, beside]);
    }

    #[test]
    fn a_death_leaves_each_prefix_of_a_name_with_each_of_the_others() {
        let mut disk = disk();
        write(&mut disk, "a", 0, 10);
        write(&mut disk, "a", 10, 2_000);
        write(&mut disk, "b", 0, 10);
        // Of `a` nothing, one, one and a half, two; of `b` nothing or all.
        let mut hashes: Vec<u64> = disk.after_kills().iter().map(SimDisk::state_hash).collect();
        assert_eq!(hashes.len(), 8);
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 8);
    }

    #[test]
    fn a_copy_that_changes_leaves_the_other_as_it_was() {
        let mut disk = disk();
        let first = write(&mut disk, "a", 0, 600);
        disk.finish(first);
        let (before, copy) = (disk.state_hash(), disk.clone());
        let second = write(&mut disk, "a", 100, 10);
        assert_ne!(disk.state_hash(), before);
        disk.finish(second);
        assert_ne!(disk.state_hash(), before);
        assert_eq!(copy.state_hash(), before);
    }
}
