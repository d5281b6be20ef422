//! The open files of a data directory: a bounded cache, least recently used out first.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mainspring_core::io::FileName;

/// Keeps descriptors of files that were used lately. Shared by the threads of a disk.
///
/// A name that is renamed or removed is forgotten before and after the system call, and a
/// descriptor that was opened meanwhile is not kept: otherwise a write could go to a file that no
/// longer has a name.
#[derive(Debug)]
pub(super) struct Descriptors {
    state: Mutex<State>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<FileName, (u64, Arc<OwnedFd>)>,
    by_age: BTreeMap<u64, FileName>,
    clock: u64,
    generation: u64,
}

/// Says which renames and removals a descriptor that is being opened knows of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Generation(u64);

impl Descriptors {
    /// Makes a cache of at most `capacity` descriptors, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), capacity: capacity.max(1) }
    }

    /// Returns the descriptor of a file, if it is kept.
    pub(super) fn find(&self, file: &FileName) -> Result<Arc<OwnedFd>, Generation> {
        let mut state = self.lock();
        state.clock += 1;
        let clock = state.clock;
        let generation = Generation(state.generation);
        let Some((stamp, descriptor)) = state.open.get_mut(file) else { return Err(generation) };
        let earlier = std::mem::replace(stamp, clock);
        let descriptor = Arc::clone(descriptor);
        let name = state.by_age.remove(&earlier).expect("each kept descriptor has an age");
        state.by_age.insert(clock, name);
        Ok(descriptor)
    }

    /// Keeps a descriptor, unless a rename or removal happened since [`find`](Self::find) missed it.
    pub(super) fn keep(
        &self,
        file: &FileName,
        descriptor: OwnedFd,
        seen: Generation,
    ) -> Arc<OwnedFd> {
        let descriptor = Arc::new(descriptor);
        let mut state = self.lock();
        if state.generation == seen.0 && !state.open.contains_key(file) {
            state.clock += 1;
            let clock = state.clock;
            state.open.insert(file.clone(), (clock, Arc::clone(&descriptor)));
            state.by_age.insert(clock, file.clone());
            while state.open.len() > self.capacity {
                state.drop_oldest();
            }
        }
        descriptor
    }

    /// Forgets a name and everything below it.
    pub(super) fn forget(&self, name: &FileName) {
        let mut state = self.lock();
        state.generation += 1;
        let below = format!("{}/", name.as_str());
        let gone: Vec<FileName> = state
            .open
            .range(name.clone()..)
            .take_while(|(file, _)| file.as_str().starts_with(name.as_str()))
            .filter(|(file, _)| *file == name || file.as_str().starts_with(&below))
            .map(|(file, _)| file.clone())
            .collect();
        for file in gone {
            if let Some((stamp, _)) = state.open.remove(&file) {
                state.by_age.remove(&stamp);
            }
        }
    }

    /// Closes the older half, when the process has run out of descriptors.
    pub(super) fn shrink(&self) {
        let mut state = self.lock();
        for _ in 0..state.open.len().div_ceil(2) {
            state.drop_oldest();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_oldest(&mut self) {
        if let Some((_, name)) = self.by_age.pop_first() {
            self.open.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> OwnedFd {
        std::fs::File::open("/dev/null").expect("the null device is there").into()
    }

    fn keep(cache: &Descriptors, name: &str) {
        let name = FileName::new(name);
        let seen = cache.find(&name).expect_err("it is not kept yet");
        cache.keep(&name, open(), seen);
    }

    fn kept(cache: &Descriptors, name: &str) -> bool {
        cache.find(&FileName::new(name)).is_ok()
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let cache = Descriptors::new(2);
        keep(&cache, "a");
        keep(&cache, "b");
        assert!(kept(&cache, "a"));
        keep(&cache, "c");
        assert!(kept(&cache, "a"));
        assert!(!kept(&cache, "b"));
        assert!(kept(&cache, "c"));
    }

    #[test]
    fn forgetting_a_directory_forgets_what_is_in_it_and_nothing_else() {
        let cache = Descriptors::new(10);
        for name in ["t-1", "t-1-x/a", "t-1/a", "t-1/b/c", "t-10/a"] {
            keep(&cache, name);
        }
        cache.forget(&FileName::new("t-1"));
        assert!(!kept(&cache, "t-1"));
        assert!(!kept(&cache, "t-1/a"));
        assert!(!kept(&cache, "t-1/b/c"));
        assert!(kept(&cache, "t-1-x/a"));
        assert!(kept(&cache, "t-10/a"));
    }

    #[test]
    fn a_descriptor_opened_across_a_rename_is_not_kept() {
        let cache = Descriptors::new(10);
        let name = FileName::new("a");
        let seen = cache.find(&name).expect_err("it is not kept yet");
        cache.forget(&name);
        cache.keep(&name, open(), seen);
        assert!(!kept(&cache, "a"));
    }
}
