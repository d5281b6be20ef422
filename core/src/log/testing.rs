//! A disk for unit tests: carries out every effect at once and keeps everything.
//!
//! It loses nothing; what a crash loses is the simulator's subject.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::ids::IoToken;
use crate::io::{
    Completion, CreateKind, DirectoryEntry, DiskError, DiskErrorKind, Effect, EntryKind, FileName,
    WriteBody,
};

/// Files and directories in memory.
#[derive(Clone, Debug)]
pub(crate) struct TestDisk {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) directories: BTreeSet<String>,
    /// Operations on files whose name contains this text fail with that kind.
    pub(crate) failing: Option<(String, DiskErrorKind)>,
    /// The next read of a file whose name contains this text brings a wrong byte at that place, if it
    /// reaches it.
    pub(crate) flips: Option<(String, usize)>,
    /// The next read of a file whose name contains this text goes astray and brings zeros.
    pub(crate) astray: Option<String>,
    /// Reads of files whose name contains this text fail.
    pub(crate) unreadable: Option<String>,
    /// Whether no file may grow and nothing be made.
    pub(crate) full: bool,
    /// Bytes that the file system says are free.
    pub(crate) free: u64,
    /// Flushed writes and flushes so far.
    pub(crate) flushes: usize,
    /// The disk is kept as it is right after the next rename onto this name.
    pub(crate) keep_after: Option<&'static str>,
    /// As it was then.
    pub(crate) kept: Option<Box<Self>>,
}

impl Default for TestDisk {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            directories: BTreeSet::new(),
            failing: None,
            flips: None,
            astray: None,
            unreadable: None,
            full: false,
            free: 1 << 29,
            flushes: 0,
            keep_after: None,
            kept: None,
        }
    }
}

impl TestDisk {
    /// Returns the file that an effect is about.
    pub(crate) const fn file_of(effect: &Effect) -> Option<&FileName> {
        match effect {
            Effect::Write { file, .. }
            | Effect::Read { file, .. }
            | Effect::Create { file, .. }
            | Effect::Sync { file, .. }
            | Effect::Rename { from: file, .. }
            | Effect::Remove { file, .. }
            | Effect::Truncate { file, .. }
            | Effect::SyncDir { directory: file, .. }
            | Effect::List { directory: file, .. } => Some(file),
            _ => None,
        }
    }

    /// Carries out a file effect; gives anything else back.
    pub(crate) fn perform(
        &mut self,
        effect: Effect,
    ) -> Result<(IoToken, Result<Completion, DiskError>), Effect> {
        let (token, name, operation) = match &effect {
            Effect::Write { file, token, .. } => (*token, file.clone(), "write"),
            Effect::Read { file, token, .. } => (*token, file.clone(), "read"),
            Effect::Create { file, token, .. } => (*token, file.clone(), "create"),
            Effect::Sync { file, token } => (*token, file.clone(), "flush"),
            Effect::SyncDir { directory, token } => (*token, directory.clone(), "flush"),
            Effect::Rename { from, token, .. } => (*token, from.clone(), "rename"),
            Effect::Remove { file, token } => (*token, file.clone(), "remove"),
            Effect::Truncate { file, token, .. } => (*token, file.clone(), "truncate"),
            Effect::List { directory, token } => (*token, directory.clone(), "list"),
            Effect::Space { token } => (*token, FileName::root(), "list"),
            _ => return Err(effect),
        };
        if let Some((text, kind)) = &self.failing
            && name.as_str().contains(text.as_str())
            && operation != "read"
            && operation != "list"
        {
            return Ok((token, Err(failure(operation, name, *kind))));
        }
        Ok((token, self.carry_out(effect).map_err(|kind| failure(operation, name, kind))))
    }

    fn carry_out(&mut self, effect: Effect) -> Result<Completion, DiskErrorKind> {
        match effect {
            Effect::Write { file, position, body, sync, .. } => {
                let parent = file.parent();
                if !parent.as_str().is_empty() && !self.directories.contains(parent.as_str()) {
                    return Err(DiskErrorKind::NotFound);
                }
                self.flushes += usize::from(sync == crate::io::Sync::Data);
                let length = self.files.get(file.as_str()).map_or(0, Vec::len);
                let (bytes, block) = match body {
                    WriteBody::Block(plan) => {
                        let mut buffer = vec![0; plan.sealed_len()];
                        plan.seal(&mut buffer);
                        let block = Bytes::from(buffer);
                        (block.to_vec(), Some(block))
                    }
                    WriteBody::Parts(parts) => (parts.concat(), None),
                };
                let end = position as usize + bytes.len();
                if self.full && end > length {
                    return Err(DiskErrorKind::NoSpace);
                }
                let content = self.files.entry(file.as_str().to_owned()).or_default();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[position as usize..end].copy_from_slice(&bytes);
                Ok(Completion::Written(block))
            }
            Effect::Read { file, position, length, .. } => {
                let content = self.files.get(file.as_str()).ok_or(DiskErrorKind::NotFound)?;
                let from = content.len().min(position as usize);
                let to = content.len().min(from.saturating_add(length as usize));
                let is_named =
                    |text: Option<&String>| text.is_some_and(|text| file.as_str().contains(text));
                if is_named(self.unreadable.as_ref()) {
                    return Err(DiskErrorKind::Other);
                }
                let mut bytes = content[from..to].to_vec();
                if is_named(self.astray.as_ref()) {
                    self.astray = None;
                    bytes.fill(0);
                }
                if is_named(self.flips.as_ref().map(|(text, _)| text))
                    && let Some((_, at)) = self.flips.take()
                    && let Some(byte) = bytes.get_mut(at)
                {
                    *byte ^= 1;
                }
                Ok(Completion::Read(bytes.into()))
            }
            Effect::Create { file, kind, .. } => {
                if self.full && !self.directories.contains(file.as_str()) {
                    return Err(DiskErrorKind::NoSpace);
                }
                match kind {
                    CreateKind::Directory => {
                        self.directories.insert(file.as_str().to_owned());
                    }
                    CreateKind::Filled { length } => {
                        self.files.insert(file.as_str().to_owned(), vec![0; length as usize]);
                    }
                }
                Ok(Completion::Done)
            }
            Effect::Sync { file, .. } => {
                self.flushes += 1;
                self.files.get(file.as_str()).ok_or(DiskErrorKind::NotFound)?;
                Ok(Completion::Done)
            }
            Effect::SyncDir { .. } => Ok(Completion::Done),
            Effect::Rename { from, to, .. } => {
                self.rename(from.as_str(), to.as_str()).ok_or(DiskErrorKind::NotFound)?;
                if self.keep_after == Some(to.as_str()) {
                    self.keep_after = None;
                    self.kept = Some(Box::new(self.clone()));
                }
                Ok(Completion::Done)
            }
            Effect::Remove { file, .. } => {
                self.files.remove(file.as_str());
                self.directories.remove(file.as_str());
                Ok(Completion::Done)
            }
            Effect::Truncate { file, length, .. } => {
                let content = self.files.get_mut(file.as_str()).ok_or(DiskErrorKind::NotFound)?;
                content.resize(length as usize, 0);
                Ok(Completion::Done)
            }
            Effect::List { directory, .. } => self.list(directory.as_str()),
            Effect::Space { .. } => Ok(Completion::Space { free: self.free, total: 1 << 30 }),
            _ => unreachable!("only file effects come here"),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Option<()> {
        if let Some(content) = self.files.remove(from) {
            self.files.insert(to.to_owned(), content);
            return Some(());
        }
        if !self.directories.remove(from) {
            return None;
        }
        self.directories.insert(to.to_owned());
        let inside: Vec<String> = self
            .files
            .keys()
            .filter(|name| name.starts_with(&format!("{from}/")))
            .cloned()
            .collect();
        for name in inside {
            let content = self.files.remove(&name).unwrap_or_default();
            self.files.insert(format!("{to}{}", &name[from.len()..]), content);
        }
        Some(())
    }

    fn list(&self, directory: &str) -> Result<Completion, DiskErrorKind> {
        if !directory.is_empty() && !self.directories.contains(directory) {
            return Err(DiskErrorKind::NotFound);
        }
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let child = |name: &str| {
            let rest = name.strip_prefix(&prefix)?;
            (!rest.is_empty() && !rest.contains('/')).then(|| rest.to_owned())
        };
        let mut entries = Vec::new();
        for (name, content) in &self.files {
            if let Some(name) = child(name) {
                let length = content.len() as u64;
                entries.push(DirectoryEntry { name, kind: EntryKind::File, length });
            }
        }
        for name in &self.directories {
            if let Some(name) = child(name) {
                entries.push(DirectoryEntry { name, kind: EntryKind::Directory, length: 0 });
            }
        }
        Ok(Completion::Listed(entries))
    }
}

fn failure(operation: &'static str, file: FileName, kind: DiskErrorKind) -> DiskError {
    DiskError { operation, file, kind, message: format!("{kind:?}") }
}
