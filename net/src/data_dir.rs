//! The data directory as a whole: made where it is missing, and locked against a second process.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// Name of the lock file, the same as Kafka's: two brokers of any kind shall not share a directory.
const LOCK: &str = ".lock";

/// Holds the lock of a data directory; it is free again when this is dropped or the process ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: OwnedFd,
}

/// Why a data directory cannot be used. Nothing in it was touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// Another process uses it.
    #[error(
        "the data directory {0} is in use{1}; stop that process or choose another directory",
        path.display(), holder.map_or_else(String::new, |pid| format!(" by process {pid}"))
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that said it holds the lock, where that can be told.
        holder: Option<u32>,
    },
    /// It cannot be made, opened or written.
    #[error(
        "cannot use the data directory {0}: {1}; choose another one or change its rights",
        path.display(), words(source)
    )]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl DataDir {
    /// Makes the directory where it is missing and takes its lock.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |source: io::Error| DataDirError::Unusable { path: path.to_owned(), source };
        if !path.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(unusable)?;
        }
        let path = path.canonicalize().map_err(unusable)?;
        let lock = open_lock(&path).map_err(unusable)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let holder = fs::read_to_string(path.join(LOCK))
                    .ok()
                    .and_then(|text| text.trim().parse().ok());
                return Err(DataDirError::Locked { path, holder });
            }
            Err(errno) => return Err(DataDirError::Unusable { path, source: errno.into() }),
        }
        // The number helps whoever meets the lock; a full disk must not keep the node from starting.
        let _ = rustix::fs::ftruncate(&lock, 0).and_then(|()| {
            rustix::io::pwrite(&lock, format!("{}\n", std::process::id()).as_bytes(), 0)
        });
        Ok(Self { path, lock })
    }

    /// Returns the directory's full path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // A forked child has the descriptor too, and would keep the lock.
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }
}

fn open_lock(directory: &Path) -> io::Result<OwnedFd> {
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let lock = rustix::fs::open(directory.join(LOCK), flags, Mode::from(0o640))?;
    let mode = rustix::fs::fstat(&lock)?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::RegularFile {
        return Err(io::Error::other(format!("{LOCK} in it is not a regular file")));
    }
    Ok(lock)
}

/// Returns the system's words without the error number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::TempDir;

    #[test]
    fn a_second_holder_is_refused_by_name_until_the_first_is_gone() {
        let directory = TempDir::new();
        let path = directory.path().join("a/b");
        let first = DataDir::lock(&path).expect("the directory is free");
        let error = DataDir::lock(&path).expect_err("it is held");
        let text = error.to_string();
        assert!(text.contains(&format!("in use by process {}", std::process::id())), "{text}");
        drop(first);
        DataDir::lock(&path).expect("it is free again");
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_told_in_one_line() {
        let directory = TempDir::new();
        let path = directory.path().join("file");
        fs::write(&path, "x").expect("a file is written");
        let text = DataDir::lock(&path).expect_err("it is no directory").to_string();
        assert!(text.contains("Not a directory"), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
}
