//! A data directory for tests in which killing the process is a power cut.
//!
//! What is not flushed lives in the memory of the process alone: written bytes and truncations until
//! the file is flushed, and names (created, renamed, removed) until their directory is. SIGKILL thus
//! takes exactly what a power cut may take at its worst. The real directory holds at any moment
//! what is durable; reads and lists see everything.
//!
//! A rename between two directories becomes durable with the flush of either, as a journaling file
//! system does it. Fit for the small data of tests: a write that is not flushed is kept whole.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use mainspring_core::io::{
    Completion, CreateKind, DirectoryEntry, DiskError, EntryKind, FileName, Sync, WriteBody,
};
use rustix::io::Errno;

use super::error::Failure;
use super::files::{Files, RealFiles};
use super::{Operation, Outcome};

/// Whether flushes of files do what they say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flushes {
    /// They make durable what was written.
    Kept,
    /// Those of files that hold journal blocks do nothing and claim success: a broken disk that
    /// tests must notice. All others are kept, so that what is missing is acknowledged records.
    LeftOut,
}

/// Keeps what is not flushed in memory; see the module.
#[derive(Debug)]
pub struct PowerCut {
    world: Mutex<World>,
}

/// Where what is made durable waits for its name.
const STAGE: &str = ".power-cut";
const ROOT: NodeId = NodeId(0);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct NodeId(u64);

#[derive(Debug)]
struct World {
    real: RealFiles,
    flushes: Flushes,
    nodes: BTreeMap<NodeId, Node>,
    last: u64,
}

#[derive(Debug)]
struct Node {
    body: Body,
    /// Directory and name in the world that the process sees; `None` once removed.
    seen: Option<(NodeId, String)>,
    /// Directory and name in the world after a power cut; `None` while nothing durable names it.
    durable: Option<(NodeId, String)>,
}

#[derive(Debug)]
enum Body {
    File(File),
    Directory(Directory),
    Other,
}

#[derive(Debug, Default)]
struct File {
    length: u64,
    pending: Vec<Change>,
    has_blocks: bool,
    /// Flushed content, while the file has no durable name and so no place in the real directory.
    unnamed: Vec<u8>,
}

#[derive(Debug, Default)]
struct Directory {
    seen: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
}

#[derive(Debug)]
enum Change {
    Write { position: u64, bytes: Bytes },
    Resize(u64),
}

type Done<T> = Result<T, Failure>;

impl PowerCut {
    /// Takes over a data directory as it stands: all that is there counts as durable.
    pub fn open(real: RealFiles, flushes: Flushes) -> Result<Self, DiskError> {
        let mut world = World { real, flushes, nodes: BTreeMap::new(), last: 0 };
        let root = Node { body: Body::Directory(Directory::default()), seen: None, durable: None };
        world.nodes.insert(ROOT, root);
        let stage = FileName::root().join(STAGE);
        world
            .remove_real(&stage)
            .and_then(|()| world.load(ROOT, &FileName::root()))
            .map_err(|failure| failure.of("load", &FileName::root()))?;
        Ok(Self { world: Mutex::new(world) })
    }
}

impl Files for PowerCut {
    fn perform(&self, operation: Operation) -> Outcome {
        let (verb, subject) = (operation.verb(), operation.subject().clone());
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.perform(operation).map_err(|failure| failure.of(verb, &subject))
    }
}

impl World {
    fn perform(&mut self, operation: Operation) -> Done<Completion> {
        match operation {
            Operation::Write { file, position, body, sync } => {
                let id = self.file_or_new(&file)?;
                let (bytes, sealed) = match body {
                    WriteBody::Block(plan) => {
                        let mut block = BytesMut::zeroed(plan.sealed_len());
                        plan.seal(&mut block);
                        let block = block.freeze();
                        self.file_mut(id)?.has_blocks = true;
                        (block.clone(), Some(block))
                    }
                    WriteBody::Parts(parts) => (Bytes::from(parts.concat()), None),
                };
                self.file_mut(id)?.write(position, bytes);
                if sync == Sync::Data {
                    self.flush_as_told(id)?;
                }
                Ok(Completion::Written(sealed))
            }
            Operation::Read { file, position, length } => self.read(&file, position, length),
            Operation::Create { file, kind: CreateKind::Directory } => {
                match self.find(&file)?.map(|id| &self.node(id).body) {
                    Some(Body::Directory(_)) => {}
                    Some(Body::File(_) | Body::Other) => return Err(Errno::EXIST.into()),
                    None => {
                        self.add(&file, Body::Directory(Directory::default()))?;
                    }
                }
                Ok(Completion::Done)
            }
            Operation::Create { file, kind: CreateKind::Filled { length } } => {
                let id = self.file_or_new(&file)?;
                let body = self.file_mut(id)?;
                body.resize(0);
                body.resize(length);
                self.flush(id)?;
                Ok(Completion::Done)
            }
            Operation::Sync { file } => {
                let id = self.existing(&file)?;
                self.flush_as_told(id)?;
                Ok(Completion::Done)
            }
            Operation::SyncDir { directory } => {
                let id = self.existing(&directory)?;
                self.flush_names(id)?;
                Ok(Completion::Done)
            }
            Operation::Rename { from, to } => {
                self.rename(&from, &to)?;
                Ok(Completion::Done)
            }
            Operation::Remove { file } => {
                let Some(id) = self.find(&file)? else { return Ok(Completion::Done) };
                match &self.node(id).body {
                    Body::File(_) => {}
                    Body::Directory(directory) if directory.seen.is_empty() => {}
                    Body::Directory(_) => return Err(Errno::NOTEMPTY.into()),
                    Body::Other => {
                        return Err(Failure::other("is neither a file nor a directory"));
                    }
                }
                self.hide(id);
                self.forget_if_gone(id);
                Ok(Completion::Done)
            }
            Operation::Truncate { file, length } => {
                let id = self.existing(&file)?;
                self.file_mut(id)?.resize(length);
                Ok(Completion::Done)
            }
            Operation::Space { directory } => self.on_real(Operation::Space { directory }),
            Operation::List { directory } => {
                let id = self.existing(&directory)?;
                let entries = self
                    .directory(id)?
                    .seen
                    .iter()
                    .map(|(name, child)| {
                        let (kind, length) = match &self.node(*child).body {
                            Body::File(file) => (EntryKind::File, file.length),
                            Body::Directory(_) => (EntryKind::Directory, 0),
                            Body::Other => (EntryKind::Other, 0),
                        };
                        DirectoryEntry { name: name.clone(), kind, length }
                    })
                    .collect();
                Ok(Completion::Listed(entries))
            }
        }
    }

    /// Reads what the process sees: the durable bytes with the pending changes over them.
    fn read(&self, name: &FileName, position: u64, length: u64) -> Done<Completion> {
        let id = self.existing(name)?;
        let file = self.file(id)?;
        let length = length.min(file.length.saturating_sub(position));
        let mut window = BytesMut::zeroed(length as usize);
        match self.durable_name(id) {
            Some(real) => {
                let operation = Operation::Read { file: real, position, length };
                if let Completion::Read(base) = self.on_real(operation)? {
                    window[..base.len()].copy_from_slice(&base);
                }
            }
            None => overlay(&mut window, position, 0, &file.unnamed),
        }
        for change in &file.pending {
            match change {
                Change::Write { position: at, bytes } => {
                    overlay(&mut window, position, *at, bytes);
                }
                Change::Resize(size) => {
                    let keep = size.saturating_sub(position).min(length) as usize;
                    window[keep..].fill(0);
                }
            }
        }
        Ok(Completion::Read(window.freeze()))
    }

    /// Makes the content of a file durable, unless its flushes are left out.
    fn flush_as_told(&mut self, id: NodeId) -> Done<()> {
        let is_left_out = self.flushes == Flushes::LeftOut && self.file(id)?.has_blocks;
        if is_left_out { Ok(()) } else { self.flush(id) }
    }

    /// Makes the content of a file durable.
    fn flush(&mut self, id: NodeId) -> Done<()> {
        let real = self.durable_name(id);
        let changes = std::mem::take(&mut self.file_mut(id)?.pending);
        for change in changes {
            match (&real, change) {
                (Some(file), Change::Write { position, bytes }) => {
                    self.on_real(Operation::Write {
                        file: file.clone(),
                        position,
                        body: WriteBody::Parts(vec![bytes]),
                        sync: Sync::None,
                    })?;
                }
                (Some(file), Change::Resize(length)) => {
                    self.on_real(Operation::Truncate { file: file.clone(), length })?;
                }
                (None, Change::Write { position, bytes }) => {
                    let content = &mut self.file_mut(id)?.unnamed;
                    let end = position as usize + bytes.len();
                    content.resize(content.len().max(end), 0);
                    content[position as usize..end].copy_from_slice(&bytes);
                }
                (None, Change::Resize(length)) => {
                    self.file_mut(id)?.unnamed.resize(length as usize, 0);
                }
            }
        }
        Ok(())
    }

    fn rename(&mut self, from: &FileName, to: &FileName) -> Done<()> {
        let id = self.existing(from)?;
        let (parent, name) = self.parent(to)?;
        if let Some(replaced) = self.find(to)?
            && replaced != id
        {
            match (&self.node(id).body, &self.node(replaced).body) {
                (Body::File(_), Body::File(_)) => {}
                (Body::Directory(_), Body::Directory(there)) if there.seen.is_empty() => {}
                (_, Body::Directory(_)) => return Err(Errno::NOTEMPTY.into()),
                (_, Body::Other) | (Body::Other | Body::Directory(_), Body::File(_)) => {
                    return Err(Failure::other("is neither a file nor a directory"));
                }
            }
            self.hide(replaced);
            self.forget_if_gone(replaced);
        }
        self.hide(id);
        self.directory_mut(parent)?.seen.insert(name.clone(), id);
        self.node_mut(id).seen = Some((parent, name));
        Ok(())
    }

    /// Makes the names in a directory durable.
    fn flush_names(&mut self, id: NodeId) -> Done<()> {
        let wanted: Vec<(String, NodeId)> =
            self.directory(id)?.seen.iter().map(|(n, c)| (n.clone(), *c)).collect();
        // A name whose present holder is about to move waits until that one has moved.
        let mut waiting: Vec<(String, NodeId)> = wanted;
        loop {
            let before = waiting.len();
            let mut later = Vec::new();
            for (name, child) in waiting {
                let holder = self.directory(id)?.durable.get(&name).copied();
                if holder == Some(child) {
                    continue;
                }
                if holder.is_some_and(|holder| self.node(holder).seen.is_some()) {
                    later.push((name, child));
                } else {
                    self.link(id, &name, child)?;
                }
            }
            if later.is_empty() {
                break;
            }
            if later.len() == before {
                // The holder moves to another directory: its move becomes durable with this one.
                let (name, _) = &later[0];
                let holder = self.directory(id)?.durable[name];
                self.unlink(id, name, holder)?;
            }
            waiting = later;
        }
        let gone: Vec<(String, NodeId)> = {
            let directory = self.directory(id)?;
            directory
                .durable
                .iter()
                .filter(|(name, child)| directory.seen.get(*name) != Some(*child))
                .map(|(name, child)| (name.clone(), *child))
                .collect()
        };
        for (name, child) in gone {
            self.unlink(id, &name, child)?;
        }
        Ok(())
    }

    /// Makes one name durable: what has it moves there, in the real directory by one rename.
    fn link(&mut self, directory: NodeId, name: &str, child: NodeId) -> Done<()> {
        let target = self.durable_directory(directory).map(|parent| parent.join(name));
        match (self.durable_name(child), target) {
            (Some(from), Some(to)) => self.move_real(from, to)?,
            (None, Some(to)) => {
                let staged = self.stage()?;
                self.materialize(child, &staged)?;
                self.move_real(staged, to)?;
            }
            // Its old durable name stays until the directory it moves to has one.
            (Some(_), None) => return Ok(()),
            (None, None) => {}
        }
        if let Some((old_parent, old_name)) = self.node_mut(child).durable.take() {
            self.directory_mut(old_parent)?.durable.remove(&old_name);
        }
        let replaced = self.directory_mut(directory)?.durable.insert(name.to_owned(), child);
        if let Some(replaced) = replaced
            && replaced != child
        {
            self.node_mut(replaced).durable = None;
            self.forget_if_gone(replaced);
        }
        self.node_mut(child).durable = Some((directory, name.to_owned()));
        Ok(())
    }

    /// Makes the loss of a name durable.
    fn unlink(&mut self, directory: NodeId, name: &str, child: NodeId) -> Done<()> {
        if let Some((elsewhere, its_name)) = self.node(child).seen.clone() {
            return self.link(elsewhere, &its_name, child);
        }
        if let Some(real) = self.durable_name(child) {
            self.remove_real(&real)?;
        }
        self.directory_mut(directory)?.durable.remove(name);
        self.node_mut(child).durable = None;
        self.forget_if_gone(child);
        Ok(())
    }

    /// Builds the durable content of a node in the real directory, under a name of the stage.
    fn materialize(&mut self, id: NodeId, at: &FileName) -> Done<()> {
        match &mut self.node_mut(id).body {
            Body::File(file) => {
                let content = Bytes::from(std::mem::take(&mut file.unnamed));
                self.on_real(Operation::Write {
                    file: at.clone(),
                    position: 0,
                    body: WriteBody::Parts(vec![content]),
                    sync: Sync::None,
                })?;
            }
            Body::Directory(directory) => {
                let children = directory.durable.clone();
                let kind = CreateKind::Directory;
                self.on_real(Operation::Create { file: at.clone(), kind })?;
                for (name, child) in children {
                    self.materialize(child, &at.join(&name))?;
                }
            }
            Body::Other => {}
        }
        Ok(())
    }

    /// Returns a name in the stage that nothing has.
    fn stage(&mut self) -> Done<FileName> {
        let stage = FileName::root().join(STAGE);
        self.on_real(Operation::Create { file: stage.clone(), kind: CreateKind::Directory })?;
        self.last += 1;
        Ok(stage.join(&self.last.to_string()))
    }

    fn move_real(&mut self, from: FileName, to: FileName) -> Done<()> {
        let renamed = self.on_real(Operation::Rename { from: from.clone(), to: to.clone() });
        if renamed.is_err() {
            // A directory that still holds names whose removal is not durable is in the way.
            let aside = self.stage()?;
            self.on_real(Operation::Rename { from: to.clone(), to: aside.clone() })?;
            self.on_real(Operation::Rename { from, to })?;
            self.remove_real(&aside)?;
        }
        Ok(())
    }

    fn remove_real(&self, name: &FileName) -> Done<()> {
        if let Ok(Completion::Listed(entries)) =
            self.on_real(Operation::List { directory: name.clone() })
        {
            for entry in entries {
                self.remove_real(&name.join(&entry.name))?;
            }
        }
        self.on_real(Operation::Remove { file: name.clone() })?;
        Ok(())
    }

    fn on_real(&self, operation: Operation) -> Done<Completion> {
        self.real
            .perform(operation)
            .map_err(|error| Failure { kind: error.kind, message: error.message })
    }

    /// Reads names and lengths of what is in a real directory.
    fn load(&mut self, id: NodeId, name: &FileName) -> Done<()> {
        let listed = self.on_real(Operation::List { directory: name.clone() });
        // A directory of somebody else that cannot be read holds nothing of ours.
        let Ok(Completion::Listed(entries)) = listed else {
            return if id == ROOT { listed.map(|_| ()) } else { Ok(()) };
        };
        for entry in entries {
            let body = match entry.kind {
                EntryKind::File => Body::File(File { length: entry.length, ..File::default() }),
                EntryKind::Directory => Body::Directory(Directory::default()),
                EntryKind::Other => Body::Other,
            };
            self.last += 1;
            let child = NodeId(self.last);
            let place = Some((id, entry.name.clone()));
            self.nodes.insert(child, Node { body, seen: place.clone(), durable: place });
            let directory = self.directory_mut(id)?;
            directory.seen.insert(entry.name.clone(), child);
            directory.durable.insert(entry.name.clone(), child);
            if entry.kind == EntryKind::Directory {
                self.load(child, &name.join(&entry.name))?;
            }
        }
        Ok(())
    }

    fn find(&self, name: &FileName) -> Done<Option<NodeId>> {
        let mut at = ROOT;
        for component in name.as_str().split('/').filter(|component| !component.is_empty()) {
            match self.directory(at)?.seen.get(component) {
                Some(next) => at = *next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    fn existing(&self, name: &FileName) -> Done<NodeId> {
        self.find(name)?.ok_or_else(|| Errno::NOENT.into())
    }

    fn parent(&self, name: &FileName) -> Done<(NodeId, String)> {
        let text = name.as_str();
        let last = text.rsplit('/').next().unwrap_or(text).to_owned();
        Ok((self.existing(&name.parent())?, last))
    }

    fn add(&mut self, name: &FileName, body: Body) -> Done<NodeId> {
        let (parent, last) = self.parent(name)?;
        self.last += 1;
        let id = NodeId(self.last);
        self.directory_mut(parent)?.seen.insert(last.clone(), id);
        self.nodes.insert(id, Node { body, seen: Some((parent, last)), durable: None });
        Ok(id)
    }

    fn file_or_new(&mut self, name: &FileName) -> Done<NodeId> {
        match self.find(name)? {
            Some(id) => self.file(id).map(|_| id),
            None => self.add(name, Body::File(File::default())),
        }
    }

    /// Takes the name that the process sees away from a node.
    fn hide(&mut self, id: NodeId) {
        if let Some((parent, name)) = self.node_mut(id).seen.take()
            && let Ok(directory) = self.directory_mut(parent)
        {
            directory.seen.remove(&name);
        }
    }

    fn forget_if_gone(&mut self, id: NodeId) {
        let node = self.node(id);
        if node.seen.is_none() && node.durable.is_none() {
            self.nodes.remove(&id);
        }
    }

    /// Returns the name that a node has in the real directory.
    fn durable_name(&self, id: NodeId) -> Option<FileName> {
        let (parent, name) = self.node(id).durable.as_ref()?;
        Some(self.durable_directory(*parent)?.join(name))
    }

    fn durable_directory(&self, id: NodeId) -> Option<FileName> {
        if id == ROOT {
            return Some(FileName::root());
        }
        // The parent may have been removed from the real directory and forgotten.
        self.nodes.contains_key(&id).then(|| self.durable_name(id)).flatten()
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(&id).expect("a node lives while a name leads to it")
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node lives while a name leads to it")
    }

    fn file(&self, id: NodeId) -> Done<&File> {
        match &self.node(id).body {
            Body::File(file) => Ok(file),
            Body::Directory(_) | Body::Other => Err(Failure::other("is not a regular file")),
        }
    }

    fn file_mut(&mut self, id: NodeId) -> Done<&mut File> {
        match &mut self.node_mut(id).body {
            Body::File(file) => Ok(file),
            Body::Directory(_) | Body::Other => Err(Failure::other("is not a regular file")),
        }
    }

    fn directory(&self, id: NodeId) -> Done<&Directory> {
        match &self.node(id).body {
            Body::Directory(directory) => Ok(directory),
            Body::File(_) | Body::Other => Err(Errno::NOTDIR.into()),
        }
    }

    fn directory_mut(&mut self, id: NodeId) -> Done<&mut Directory> {
        match &mut self.node_mut(id).body {
            Body::Directory(directory) => Ok(directory),
            Body::File(_) | Body::Other => Err(Errno::NOTDIR.into()),
        }
    }
}

impl File {
    fn write(&mut self, position: u64, bytes: Bytes) {
        self.length = self.length.max(position + bytes.len() as u64);
        self.pending.push(Change::Write { position, bytes });
    }

    fn resize(&mut self, length: u64) {
        self.length = length;
        self.pending.push(Change::Resize(length));
    }
}

/// Copies what of `bytes` (which lie at `at`) falls into the window (which begins at `position`).
fn overlay(window: &mut [u8], position: u64, at: u64, bytes: &[u8]) {
    let start = at.max(position);
    let end = (at + bytes.len() as u64).min(position + window.len() as u64);
    if start < end {
        let from = &bytes[(start - at) as usize..(end - at) as usize];
        window[(start - position) as usize..(end - position) as usize].copy_from_slice(from);
    }
}
