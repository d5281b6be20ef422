//! File operations on a real data directory, one blocking call each.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mainspring_core::io::{
    Completion, CreateKind, DirectoryEntry, DiskErrorKind, EntryKind, FileName, Sync, WriteBody,
};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode};
use rustix::io::Errno;

use super::descriptors::Descriptors;
use super::error::Failure;
use super::{Operation, Outcome};

/// Carries out one operation after the other, blocking; called from several threads.
pub trait Files: Send + std::marker::Sync {
    /// Carries out an operation to its end.
    fn perform(&self, operation: Operation) -> Outcome;
}

/// The files below a data directory of the operating system.
#[derive(Debug)]
pub struct RealFiles {
    root: OwnedFd,
    descriptors: Descriptors,
}

type Done<T> = Result<T, Failure>;

const DIRECTORY_MODE: RawMode = 0o750;
const FILE_MODE: RawMode = 0o640;
/// Linux takes at most this many parts in one vectored write.
const PARTS_PER_WRITE: usize = 1024;
const FILL_CHUNK: usize = 1 << 20;

impl RealFiles {
    /// Opens a data directory that exists, keeping at most `descriptors` files open.
    pub fn open(directory: &Path, descriptors: usize) -> std::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(directory, flags, Mode::empty())?;
        Ok(Self { root, descriptors: Descriptors::new(descriptors) })
    }

    fn write(
        &self,
        file: &FileName,
        position: u64,
        body: &WriteBody,
        sync: Sync,
    ) -> Done<Completion> {
        let descriptor = self.file(file, OnAbsence::Create)?;
        let sealed = match body {
            WriteBody::Block(plan) => {
                // Ordinary memory will do: nothing is aligned for writes through the page cache.
                let mut block = BytesMut::zeroed(plan.sealed_len());
                plan.seal(&mut block);
                let block = block.freeze();
                write_all(descriptor.as_fd(), position, std::slice::from_ref(&block))?;
                Some(block)
            }
            WriteBody::Parts(parts) => {
                write_all(descriptor.as_fd(), position, parts)?;
                None
            }
        };
        match sync {
            Sync::None => {}
            Sync::Data => flush(descriptor.as_fd())?,
        }
        Ok(Completion::Written(sealed))
    }

    fn read(&self, file: &FileName, position: u64, length: u64) -> Done<Completion> {
        let descriptor = self.file(file, OnAbsence::Fail)?;
        // What is asked for is cut to what is there, so that no length is taken on trust.
        let size = u64::try_from(rustix::fs::fstat(&descriptor)?.st_size).unwrap_or(0);
        let length = length.min(size.saturating_sub(position));
        let length = usize::try_from(length).map_err(|_| Failure::other("too long to read"))?;
        let mut buffer = BytesMut::zeroed(length);
        let mut filled = 0;
        while filled < length {
            match rustix::io::pread(&descriptor, &mut buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        buffer.truncate(filled);
        Ok(Completion::Read(buffer.freeze()))
    }

    fn create(&self, file: &FileName, kind: CreateKind) -> Done<Completion> {
        match kind {
            CreateKind::Directory => {
                let (parent, name) = self.parent_of(file)?;
                match rustix::fs::mkdirat(parent.get(self), name, Mode::from(DIRECTORY_MODE)) {
                    Ok(()) => Ok(Completion::Done),
                    Err(Errno::EXIST) => match kind_at(parent.get(self), name)? {
                        Some(EntryKind::Directory) => Ok(Completion::Done),
                        Some(EntryKind::File | EntryKind::Other) | None => Err(Errno::EXIST.into()),
                    },
                    Err(errno) => Err(errno.into()),
                }
            }
            CreateKind::Filled { length } => {
                let descriptor = self.file(file, OnAbsence::Create)?;
                rustix::fs::ftruncate(&descriptor, 0)?;
                let filled = fill(descriptor.as_fd(), length);
                if filled.is_err() {
                    // The space goes back at once; if even that fails there is nothing left to try.
                    let _ = rustix::fs::ftruncate(&descriptor, 0);
                }
                filled?;
                flush(descriptor.as_fd())?;
                Ok(Completion::Done)
            }
        }
    }

    fn rename(&self, from: &FileName, to: &FileName) -> Done<Completion> {
        let (old_parent, old_name) = self.parent_of(from)?;
        let (new_parent, new_name) = self.parent_of(to)?;
        let Some(kind) = kind_at(old_parent.get(self), old_name)? else {
            return Err(Errno::NOENT.into());
        };
        if kind == EntryKind::Other
            || kind_at(new_parent.get(self), new_name)? == Some(EntryKind::Other)
        {
            return Err(Failure::other("is neither a file nor a directory"));
        }
        self.descriptors.forget(from);
        self.descriptors.forget(to);
        let done =
            rustix::fs::renameat(old_parent.get(self), old_name, new_parent.get(self), new_name);
        self.descriptors.forget(from);
        self.descriptors.forget(to);
        done?;
        Ok(Completion::Done)
    }

    fn remove(&self, file: &FileName) -> Done<Completion> {
        let (parent, name) = match self.parent_of(file) {
            Ok(found) => found,
            Err(failure) if failure.kind == DiskErrorKind::NotFound => return Ok(Completion::Done),
            Err(failure) => return Err(failure),
        };
        let flags = match kind_at(parent.get(self), name)? {
            None => return Ok(Completion::Done),
            Some(EntryKind::File) => AtFlags::empty(),
            Some(EntryKind::Directory) => AtFlags::REMOVEDIR,
            Some(EntryKind::Other) => {
                return Err(Failure::other("is neither a file nor a directory"));
            }
        };
        self.descriptors.forget(file);
        let done = rustix::fs::unlinkat(parent.get(self), name, flags);
        self.descriptors.forget(file);
        match done {
            Ok(()) | Err(Errno::NOENT) => Ok(Completion::Done),
            Err(errno) => Err(errno.into()),
        }
    }

    fn list(&self, directory: &FileName) -> Done<Completion> {
        let opened = self.directory(directory)?;
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(opened.get(self))? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(opened.get(self), name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // It went away between the two calls.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let kind = kind_of(stat.st_mode);
            let length = match kind {
                EntryKind::File => u64::try_from(stat.st_size).unwrap_or(0),
                EntryKind::Directory | EntryKind::Other => 0,
            };
            let name = String::from_utf8_lossy(name.to_bytes()).into_owned();
            entries.push(DirectoryEntry { name, kind, length });
        }
        Ok(Completion::Listed(entries))
    }

    fn space(&self, directory: &FileName) -> Done<Completion> {
        let opened = self.directory(directory)?;
        let stat = rustix::fs::fstatvfs(opened.get(self)).map_err(Failure::from)?;
        Ok(Completion::Space {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }

    /// Returns a descriptor of a regular file, for reading and, where it is allowed, writing.
    fn file(&self, file: &FileName, absence: OnAbsence) -> Done<Arc<OwnedFd>> {
        let seen = match self.descriptors.find(file) {
            Ok(descriptor) => return Ok(descriptor),
            Err(seen) => seen,
        };
        let opened = match self.open_file(file, absence) {
            Err(failure) if failure.kind == DiskErrorKind::Exhausted => {
                self.descriptors.shrink();
                self.open_file(file, absence)
            }
            other => other,
        };
        Ok(self.descriptors.keep(file, opened?, seen))
    }

    fn open_file(&self, file: &FileName, absence: OnAbsence) -> Done<OwnedFd> {
        let (parent, name) = self.parent_of(file)?;
        // Looked at first, so that no FIFO or device is ever opened, and again once it is open.
        match kind_at(parent.get(self), name)? {
            Some(EntryKind::File) | None => {}
            Some(EntryKind::Directory | EntryKind::Other) => {
                return Err(Failure::other("is not a regular file"));
            }
        }
        let safe = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut flags = OFlags::RDWR | safe;
        if absence == OnAbsence::Create {
            flags |= OFlags::CREATE;
        }
        let open = |flags| rustix::fs::openat(parent.get(self), name, flags, Mode::from(FILE_MODE));
        let opened = match open(flags) {
            Err(Errno::ACCESS | Errno::ROFS) if absence == OnAbsence::Fail => {
                open(OFlags::RDONLY | safe)?
            }
            other => other?,
        };
        if kind_of(rustix::fs::fstat(&opened)?.st_mode) == EntryKind::File {
            Ok(opened)
        } else {
            Err(Failure::other("is not a regular file"))
        }
    }

    /// Splits a name into the open directory that holds it and its last component.
    fn parent_of<'n>(&self, file: &'n FileName) -> Done<(Opened, &'n str)> {
        let text = file.as_str();
        let name = text.rsplit('/').next().unwrap_or(text);
        check_component(name)?;
        Ok((self.directory(&file.parent())?, name))
    }

    /// Opens a directory component by component, so that no symbolic link is followed.
    fn directory(&self, directory: &FileName) -> Done<Opened> {
        let mut at = Opened::Root;
        if directory.as_str().is_empty() {
            return Ok(at);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for component in directory.as_str().split('/') {
            check_component(component)?;
            let next = rustix::fs::openat(at.get(self), component, flags, Mode::empty());
            at = Opened::Below(match next {
                Err(Errno::MFILE | Errno::NFILE) => {
                    self.descriptors.shrink();
                    rustix::fs::openat(at.get(self), component, flags, Mode::empty())?
                }
                other => other?,
            });
        }
        Ok(at)
    }
}

impl Files for RealFiles {
    fn perform(&self, operation: Operation) -> Outcome {
        let done = match &operation {
            Operation::Write { file, position, body, sync } => {
                self.write(file, *position, body, *sync)
            }
            Operation::Read { file, position, length } => self.read(file, *position, *length),
            Operation::Create { file, kind } => self.create(file, *kind),
            Operation::Sync { file } => self
                .file(file, OnAbsence::Fail)
                .and_then(|descriptor| flush(descriptor.as_fd()))
                .map(|()| Completion::Done),
            Operation::SyncDir { directory } => self
                .directory(directory)
                .and_then(|opened| rustix::fs::fsync(opened.get(self)).map_err(Failure::flush))
                .map(|()| Completion::Done),
            Operation::Rename { from, to } => self.rename(from, to),
            Operation::Remove { file } => self.remove(file),
            Operation::Truncate { file, length } => self
                .file(file, OnAbsence::Fail)
                .and_then(|descriptor| {
                    rustix::fs::ftruncate(descriptor, *length).map_err(Failure::from)
                })
                .map(|()| Completion::Done),
            Operation::List { directory } => self.list(directory),
            Operation::Space { directory } => self.space(directory),
        };
        done.map_err(|failure| failure.of(operation.verb(), operation.subject()))
    }
}

/// What to do where there is no such file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnAbsence {
    Create,
    Fail,
}

/// An open directory: the data directory itself or one below it.
enum Opened {
    Root,
    Below(OwnedFd),
}

impl Opened {
    fn get<'a>(&'a self, files: &'a RealFiles) -> BorrowedFd<'a> {
        match self {
            Self::Root => files.root.as_fd(),
            Self::Below(descriptor) => descriptor.as_fd(),
        }
    }
}

/// Core makes all names from checked parts; a name that leaves the directory is its bug.
fn check_component(component: &str) -> Done<()> {
    if component.is_empty() || component == "." || component == ".." || component.contains('\0') {
        return Err(Failure::other("is not a name within the data directory"));
    }
    Ok(())
}

fn kind_at(directory: BorrowedFd<'_>, name: &str) -> Done<Option<EntryKind>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(kind_of(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn kind_of(mode: RawMode) -> EntryKind {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => EntryKind::Other,
    }
}

/// Writes all parts, one after the other, from `position` on.
fn write_all(file: BorrowedFd<'_>, position: u64, parts: &[Bytes]) -> Done<()> {
    let mut position = position;
    let mut rest = parts;
    let mut skip = 0;
    loop {
        while let Some(first) = rest.first()
            && skip == first.len()
        {
            rest = &rest[1..];
            skip = 0;
        }
        if rest.is_empty() {
            return Ok(());
        }
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(rest.len().min(PARTS_PER_WRITE));
        slices.push(IoSlice::new(&rest[0][skip..]));
        slices.extend(rest[1..].iter().take(PARTS_PER_WRITE - 1).map(|part| IoSlice::new(part)));
        let mut count = match rustix::io::pwritev(file, &slices, position) {
            Ok(0) => return Err(Failure::other("the system wrote nothing")),
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        position += count as u64;
        while count > 0 {
            let left = rest[0].len() - skip;
            if count < left {
                skip += count;
                break;
            }
            count -= left;
            rest = &rest[1..];
            skip = 0;
        }
    }
}

/// Writes zeros from the start of a file to `length`.
fn fill(file: BorrowedFd<'_>, length: u64) -> Done<()> {
    let zeros = Bytes::from(vec![0; FILL_CHUNK.min(usize::try_from(length).unwrap_or(FILL_CHUNK))]);
    let mut position = 0;
    while position < length {
        let count = (length - position).min(zeros.len() as u64);
        write_all(file, position, &[zeros.slice(..count as usize)])?;
        position += count;
    }
    Ok(())
}

/// Flushes a file and what is needed to read it back, its length included. Tried once, ever.
fn flush(file: BorrowedFd<'_>) -> Done<()> {
    #[cfg(not(target_vendor = "apple"))]
    let flushed = rustix::fs::fdatasync(file);
    #[cfg(target_vendor = "apple")]
    let flushed = rustix::fs::fcntl_fullfsync(file);
    flushed.map_err(Failure::flush)
}
