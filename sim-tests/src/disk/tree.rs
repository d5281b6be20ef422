//! Directories: what lookups see, what power loss leaves, and the changes in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainspring_core::io::{DiskErrorKind, FileName};

use super::inode::Inode;
use crate::trace::TraceHash;

/// Number of a file or directory, never used again.
type NodeId = u64;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Node {
    /// A file.
    File(NodeId),
    /// A directory.
    Directory(NodeId),
}

impl Node {
    fn number(self) -> u64 {
        match self {
            Self::File(id) => id * 2,
            Self::Directory(id) => id * 2 + 1,
        }
    }
}

/// The names in one directory.
#[derive(Clone, Debug, Default)]
struct Directory {
    live: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
}

/// A change of names that power loss may take or leave.
#[derive(Clone, Debug)]
enum Change {
    Link { directory: NodeId, name: String, node: Node },
    Unlink { directory: NodeId, name: String },
    Rename { from: NodeId, from_name: String, to: NodeId, to_name: String, node: Node },
}

impl Change {
    fn hash(&self, hash: &mut TraceHash) {
        match self {
            Self::Link { directory, name, node } => {
                hash.number(directory * 3);
                hash.bytes(name.as_bytes());
                hash.number(node.number());
            }
            Self::Unlink { directory, name } => {
                hash.number(directory * 3 + 1);
                hash.bytes(name.as_bytes());
            }
            Self::Rename { from, from_name, to, to_name, node } => {
                hash.number(from * 3 + 2);
                hash.bytes(from_name.as_bytes());
                hash.number(*to);
                hash.bytes(to_name.as_bytes());
                hash.number(node.number());
            }
        }
    }

    fn touches(&self, directory: NodeId) -> bool {
        match self {
            Self::Link { directory: at, .. } | Self::Unlink { directory: at, .. } => {
                *at == directory
            }
            Self::Rename { from, to, .. } => *from == directory || *to == directory,
        }
    }
}

/// Why a name could not be used, in the terms of the door.
pub(super) type Refusal = (DiskErrorKind, &'static str);

const NOT_FOUND: Refusal = (DiskErrorKind::NotFound, "no such file or directory");
const IS_DIRECTORY: Refusal = (DiskErrorKind::Other, "is a directory");
const NOT_DIRECTORY: Refusal = (DiskErrorKind::Other, "not a directory");
const NOT_EMPTY: Refusal = (DiskErrorKind::Other, "directory not empty");

/// All files and directories of one disk. The root directory is number 0. Copies share what neither
/// of them has changed since.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    files: BTreeMap<NodeId, Arc<Inode>>,
    directories: BTreeMap<NodeId, Arc<Directory>>,
    changes: Vec<Change>,
    next: NodeId,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            directories: BTreeMap::from([(0, Arc::default())]),
            changes: Vec::new(),
            next: 1,
        }
    }
}

impl Tree {
    fn directory(&self, id: NodeId) -> &Directory {
        self.directories.get(&id).expect("a node of the tree is in its table")
    }

    fn directory_mut(&mut self, id: NodeId) -> &mut Directory {
        Arc::make_mut(self.directories.get_mut(&id).expect("a node of the tree is in its table"))
    }

    fn lookup(&self, name: &str) -> Option<Node> {
        let mut at = Node::Directory(0);
        for part in name.split('/').filter(|part| !part.is_empty()) {
            let Node::Directory(id) = at else { return None };
            at = *self.directory(id).live.get(part)?;
        }
        Some(at)
    }

    /// Finds the directory that holds a name, and the name's last part.
    fn parent_of<'a>(&self, name: &'a FileName) -> Result<(NodeId, &'a str), Refusal> {
        let (parent, last) = name.as_str().rsplit_once('/').unwrap_or(("", name.as_str()));
        match self.lookup(parent) {
            Some(Node::Directory(id)) => Ok((id, last)),
            Some(Node::File(_)) => Err(NOT_DIRECTORY),
            None => Err(NOT_FOUND),
        }
    }

    pub(super) fn file(&self, name: &FileName) -> Result<&Inode, Refusal> {
        match self.lookup(name.as_str()) {
            Some(Node::File(id)) => Ok(&self.files[&id]),
            Some(Node::Directory(_)) => Err(IS_DIRECTORY),
            None => Err(NOT_FOUND),
        }
    }

    pub(super) fn file_mut(&mut self, name: &FileName) -> Result<&mut Inode, Refusal> {
        match self.lookup(name.as_str()) {
            Some(Node::File(id)) => {
                Ok(Arc::make_mut(self.files.get_mut(&id).expect("a file is in its table")))
            }
            Some(Node::Directory(_)) => Err(IS_DIRECTORY),
            None => Err(NOT_FOUND),
        }
    }

    fn link(&mut self, directory: NodeId, name: &str, node: Node) {
        self.directory_mut(directory).live.insert(name.into(), node);
        self.changes.push(Change::Link { directory, name: name.into(), node });
    }

    /// Returns the file of that name, made empty if there is none.
    pub(super) fn file_or_create(&mut self, name: &FileName) -> Result<&mut Inode, Refusal> {
        let (directory, last) = self.parent_of(name)?;
        if self.lookup(name.as_str()).is_none() {
            let id = self.take_id();
            self.files.insert(id, Arc::default());
            self.link(directory, last, Node::File(id));
        }
        self.file_mut(name)
    }

    fn take_id(&mut self) -> NodeId {
        let id = self.next;
        self.next += 1;
        id
    }

    pub(super) fn create_directory(&mut self, name: &FileName) -> Result<(), Refusal> {
        match self.lookup(name.as_str()) {
            Some(Node::Directory(_)) => Ok(()),
            Some(Node::File(_)) => Err((DiskErrorKind::AlreadyExists, "a file of that name")),
            None => {
                let (directory, last) = self.parent_of(name)?;
                let id = self.take_id();
                self.directories.insert(id, Arc::default());
                self.link(directory, last, Node::Directory(id));
                Ok(())
            }
        }
    }

    /// Removes a file or an empty directory; what is not there is no error.
    pub(super) fn remove(&mut self, name: &FileName) -> Result<(), Refusal> {
        let (directory, last) = match self.parent_of(name) {
            Ok(found) => found,
            Err(NOT_FOUND) => return Ok(()),
            Err(other) => return Err(other),
        };
        match self.lookup(name.as_str()) {
            None => return Ok(()),
            Some(Node::Directory(id)) if !self.directory(id).live.is_empty() => {
                return Err(NOT_EMPTY);
            }
            Some(_) => {}
        }
        self.directory_mut(directory).live.remove(last);
        self.changes.push(Change::Unlink { directory, name: last.into() });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &FileName, to: &FileName) -> Result<(), Refusal> {
        let node = self.lookup(from.as_str()).ok_or(NOT_FOUND)?;
        let (from_directory, from_name) = self.parent_of(from)?;
        let (to_directory, to_name) = self.parent_of(to)?;
        match (node, self.lookup(to.as_str())) {
            (_, None) | (Node::File(_), Some(Node::File(_))) => {}
            (Node::Directory(_), Some(Node::Directory(id))) => {
                if !self.directory(id).live.is_empty() {
                    return Err(NOT_EMPTY);
                }
            }
            (Node::File(_), Some(Node::Directory(_))) => return Err(IS_DIRECTORY),
            (Node::Directory(_), Some(Node::File(_))) => return Err(NOT_DIRECTORY),
        }
        self.directory_mut(from_directory).live.remove(from_name);
        self.directory_mut(to_directory).live.insert(to_name.into(), node);
        self.changes.push(Change::Rename {
            from: from_directory,
            from_name: from_name.into(),
            to: to_directory,
            to_name: to_name.into(),
            node,
        });
        Ok(())
    }

    /// Lists a directory: name, whether it is a directory, length.
    pub(super) fn list(&self, name: &FileName) -> Result<Vec<(String, bool, u64)>, Refusal> {
        match self.lookup(name.as_str()) {
            None => Err(NOT_FOUND),
            Some(Node::File(_)) => Err(NOT_DIRECTORY),
            Some(Node::Directory(id)) => Ok(self
                .directory(id)
                .live
                .iter()
                .map(|(name, node)| match node {
                    Node::File(id) => (name.clone(), false, self.files[id].page().len() as u64),
                    Node::Directory(_) => (name.clone(), true, 0),
                })
                .collect()),
        }
    }

    /// Makes every change of names in that directory durable.
    pub(super) fn flush_directory(&mut self, name: &FileName) -> Result<(), Refusal> {
        match self.lookup(name.as_str()) {
            None => Err(NOT_FOUND),
            Some(Node::File(_)) => Err(NOT_DIRECTORY),
            Some(Node::Directory(id)) => {
                self.settle(|_, change| change.touches(id), true);
                Ok(())
            }
        }
    }

    /// Returns how many changes of names are pending.
    pub(super) fn pending_changes(&self) -> usize {
        self.changes.len()
    }

    fn settle(&mut self, mut pick: impl FnMut(usize, &Change) -> bool, keep_others: bool) {
        let mut others = Vec::new();
        for (unit, change) in std::mem::take(&mut self.changes).into_iter().enumerate() {
            if pick(unit, &change) {
                self.make_durable(change);
            } else if keep_others {
                others.push(change);
            }
        }
        self.changes = others;
    }

    fn make_durable(&mut self, change: Change) {
        match change {
            Change::Link { directory, name, node } => {
                self.directory_mut(directory).durable.insert(name, node);
            }
            Change::Unlink { directory, name } => {
                self.directory_mut(directory).durable.remove(&name);
            }
            Change::Rename { from, from_name, to, to_name, node } => {
                let old = &mut self.directory_mut(from).durable;
                // Only if the old name stands for this file: its own creation may be lost, and
                // another file may have had that name before.
                if old.get(&from_name) == Some(&node) {
                    old.remove(&from_name);
                }
                self.directory_mut(to).durable.insert(to_name, node);
            }
        }
    }

    /// Returns every pending piece there is: one for each file and sector or length, in the order
    /// of files, then one for each change of names.
    pub(super) fn pending_units(&self) -> usize {
        self.files.values().map(|file| file.pending_units()).sum::<usize>() + self.changes.len()
    }

    /// Power is lost: of the pending pieces, numbered as in [`pending_units`](Self::pending_units),
    /// those for which `survives` says so remain.
    pub(super) fn lose_power(&mut self, sector: u64, mut survives: impl FnMut(usize) -> bool) {
        let mut base = 0;
        for file in self.files.values_mut() {
            if file.is_settled() {
                continue;
            }
            let units = file.pending_units();
            Arc::make_mut(file).lose_power(sector, |unit| survives(base + unit));
            base += units;
        }
        self.settle(|unit, _| survives(base + unit), false);
        for directory in self.directories.values_mut() {
            if directory.live != directory.durable {
                let directory = Arc::make_mut(directory);
                directory.live.clone_from(&directory.durable);
            }
        }
        self.forget_unreachable();
    }

    /// Drops files and directories that no name leads to.
    fn forget_unreachable(&mut self) {
        let (mut files, mut directories) = (BTreeMap::new(), BTreeMap::new());
        let mut open = vec![0];
        while let Some(id) = open.pop() {
            let Some(directory) = self.directories.remove(&id) else { continue };
            for node in directory.live.values() {
                match node {
                    Node::Directory(id) => open.push(*id),
                    Node::File(id) => {
                        if let Some(file) = self.files.remove(id) {
                            files.insert(*id, file);
                        }
                    }
                }
            }
            directories.insert(id, directory);
        }
        self.files = files;
        self.directories = directories;
    }

    /// Takes all that reads may see and power loss may leave into a hash.
    pub(super) fn hash(&self, hash: &mut TraceHash) {
        for (id, file) in &self.files {
            hash.number(*id);
            hash.number(file.hash());
        }
        for (id, directory) in &self.directories {
            hash.number(!*id);
            for names in [&directory.live, &directory.durable] {
                hash.number(names.len() as u64);
                for (name, node) in names {
                    hash.bytes(name.as_bytes());
                    hash.number(node.number());
                }
            }
        }
        for change in &self.changes {
            change.hash(hash);
        }
    }

    /// Returns the bytes of all files that have a name.
    pub(super) fn used(&self) -> u64 {
        self.walk().iter().map(|(_, file)| file.page().len() as u64).sum()
    }

    /// Returns every file with its whole name, in order of the names.
    pub(super) fn walk(&self) -> Vec<(String, &Inode)> {
        let mut found = Vec::new();
        let mut open = vec![(String::new(), 0)];
        while let Some((path, id)) = open.pop() {
            for (name, node) in &self.directory(id).live {
                let whole = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                match node {
                    Node::Directory(id) => open.push((whole, *id)),
                    Node::File(id) => found.push((whole, self.files[id].as_ref())),
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// Takes a name away from a file, on the device too.
    pub(super) fn lose(&mut self, name: &FileName) -> bool {
        let Ok((directory, last)) = self.parent_of(name) else { return false };
        if !matches!(self.lookup(name.as_str()), Some(Node::File(_))) {
            return false;
        }
        self.settle(|_, change| change.touches(directory), true);
        let directory = self.directory_mut(directory);
        directory.live.remove(last);
        directory.durable.remove(last);
        true
    }

    /// Puts a file of somebody else beside ours, on the device too.
    pub(super) fn plant(&mut self, name: &FileName, bytes: &[u8]) -> bool {
        if self.lookup(name.as_str()).is_some() {
            return false;
        }
        let Ok(inode) = self.file_or_create(name) else { return false };
        inode.damage(1, |content| content.extend_from_slice(bytes));
        let Ok((directory, _)) = self.parent_of(name) else { return false };
        self.settle(|_, change| change.touches(directory), true);
        true
    }

    /// Returns the names of all directories, the root as an empty one.
    pub(super) fn directories(&self) -> Vec<String> {
        let mut found = vec![String::new()];
        let mut open = vec![(String::new(), 0)];
        while let Some((path, id)) = open.pop() {
            for (name, node) in &self.directory(id).live {
                if let Node::Directory(id) = node {
                    let whole =
                        if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                    found.push(whole.clone());
                    open.push((whole, *id));
                }
            }
        }
        found.sort();
        found
    }

    /// The page cache lets go of everything.
    pub(super) fn drop_caches(&mut self, sector: u64) {
        for file in self.files.values_mut() {
            if !file.is_settled() {
                Arc::make_mut(file).drop_cache(sector);
            }
        }
    }
}
