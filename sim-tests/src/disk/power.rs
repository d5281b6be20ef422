//! What crashes and power losses leave behind.

use std::collections::{BTreeMap, BTreeSet};

use mainspring_core::io::CreateKind;

use super::operation::{InFlight, Operation, content};
use super::{DiskCounters, SimDisk};

impl SimDisk {
    /// Applies what an operation in flight does before its flush, up to `bytes` bytes of it.
    pub(super) fn apply_in_flight(&mut self, operation: &Operation, bytes: Option<usize>) {
        let sector = self.options.sector;
        // An operation that would have failed leaves nothing, as it would have in the end.
        let _refused = match operation {
            Operation::Write { file, position, body, .. } => {
                let (content, _) = content(body);
                let part = bytes.map_or(content.len(), |bytes| bytes.min(content.len()));
                self.tree
                    .file_or_create(file)
                    .map(|inode| inode.write(*position, &content[..part], sector))
            }
            Operation::Create { file, kind: CreateKind::Directory } => {
                self.tree.create_directory(file)
            }
            Operation::Create { file, kind: CreateKind::Filled { length } } => {
                let part = bytes.map_or(*length, |bytes| (bytes as u64).min(*length));
                self.tree.file_or_create(file).map(|inode| inode.fill(part, sector))
            }
            Operation::Rename { from, to } => self.tree.rename(from, to),
            Operation::Remove { file } => self.tree.remove(file),
            Operation::Truncate { file, length } => {
                self.tree.file_mut(file).map(|inode| inode.set_length(*length))
            }
            Operation::Read { .. }
            | Operation::Sync { .. }
            | Operation::SyncDir { .. }
            | Operation::List { .. }
            | Operation::Space { .. } => Ok(()),
        };
    }

    /// The process dies: operations in flight are applied wholly, partly or not at all.
    pub fn crash(&mut self) {
        let mut stopped = BTreeSet::new();
        for InFlight { operation, .. } in std::mem::take(&mut self.in_flight).into_values() {
            // What follows an unfinished operation on the same name had not begun.
            if stopped.contains(operation.name()) {
                continue;
            }
            match self.rng.below(3) {
                0 => {
                    stopped.insert(operation.name().clone());
                }
                1 => {
                    let part = self.rng.below(operation.len() + 1) as usize;
                    self.counters.torn += 1;
                    self.apply_in_flight(&operation, Some(part));
                    stopped.insert(operation.name().clone());
                }
                _ => self.apply_in_flight(&operation, None),
            }
        }
        self.busy.clear();
        self.stuck.clear();
    }

    /// Lets everything in flight reach the page image and nothing of it the device, so that the
    /// pieces are there for [`lose_power_but`](Self::lose_power_but) to choose from.
    pub fn begin_in_flight(&mut self) {
        for InFlight { operation, .. } in std::mem::take(&mut self.in_flight).into_values() {
            self.apply_in_flight(&operation, None);
        }
        self.busy.clear();
        self.stuck.clear();
    }

    /// Returns how many pieces a power loss would take or leave, without those in flight.
    pub fn pending_units(&self) -> usize {
        self.tree.pending_units()
    }

    /// Returns how many of the pieces are changes of names; they come last.
    pub fn pending_changes(&self) -> usize {
        self.tree.pending_changes()
    }

    /// Power is lost; of the pending pieces those remain for which `survives` says so.
    pub fn lose_power_but(&mut self, mut survives: impl FnMut(usize) -> bool) {
        self.begin_in_flight();
        let lost = &mut self.counters.lost_units;
        self.tree.lose_power(self.options.sector, |unit| {
            let survives = survives(unit);
            *lost += u64::from(!survives);
            survives
        });
    }

    /// Power is lost; chance decides what remains. A quarter of the times nothing does.
    pub fn lose_power(&mut self) {
        let share = [0, 1, 500, 900][self.rng.index(4)];
        let mut rng = self.rng.clone();
        self.lose_power_but(|_| rng.chance(share));
        self.rng = rng;
    }

    /// Returns the disk as a power loss at this moment leaves it at the least, ready for a start.
    #[must_use]
    pub fn durable_image(&self) -> Self {
        let mut image = self.copy();
        image.in_flight.clear();
        image.lose_power_but(|_| false);
        image
    }

    /// Returns a disk with the same content, without operations in flight and without faults.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self {
            options: self.options.sound(),
            tree: self.tree.clone(),
            in_flight: BTreeMap::new(),
            busy: BTreeMap::new(),
            stuck: BTreeSet::new(),
            next: 0,
            saved: None,
            recent: std::collections::VecDeque::new(),
            rng: self.rng.clone(),
            counters: DiskCounters::default(),
        }
    }

    /// Returns a disk as it would be after a power loss at this moment of which just the pieces
    /// remain for which `survives` says so, those in flight included, ready for a start.
    #[must_use]
    pub fn after_power_loss(&self, survives: impl FnMut(usize) -> bool) -> Self {
        let mut after = self.with_in_flight();
        after.lose_power_but(survives);
        after
    }

    /// Returns a copy in which everything in flight has become pending pieces.
    #[must_use]
    pub fn with_in_flight(&self) -> Self {
        let mut copy = self.copy();
        for InFlight { operation, .. } in self.in_flight.values() {
            copy.apply_in_flight(operation, None);
        }
        copy
    }
}
