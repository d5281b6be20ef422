//! The disk of a node: carries out the file effects of the core as they stand and completes them.
//!
//! What it never does: decide, gather, reorder for effect, retry a flush, follow a symbolic link,
//! open anything but regular files and directories, or leave the data directory.
//!
//! Invariants:
//! 1. Every operation that was submitted completes exactly once, unless the process ends first.
//! 2. A completion that claims a flush comes after the operating system has confirmed it.
//! 3. Operations complete in any order; core waits where order matters.

mod descriptors;
mod error;
mod files;
mod power_cut;
#[cfg(test)]
mod tests;
mod threads;

use std::sync::Arc;

use mainspring_core::ids::IoToken;
use mainspring_core::io::{Completion, CreateKind, DiskError, Effect, FileName, Sync, WriteBody};

pub use files::{Files, RealFiles};
pub use power_cut::{Flushes, PowerCut};
pub use threads::ThreadedDisk;

/// How an operation ended.
pub type Outcome = Result<Completion, DiskError>;

/// Takes completions. Called on threads of the disk; must not block.
pub type Complete = Arc<dyn Fn(IoToken, Outcome) + Send + std::marker::Sync>;

/// Carries out operations and reports each to the [`Complete`] that it was made with.
pub trait Disk: Send + std::marker::Sync {
    /// Takes an operation. Returns at once.
    fn submit(&self, token: IoToken, operation: Operation);
}

/// One file operation, in the terms of the effect that asked for it.
#[derive(Clone, Debug)]
pub enum Operation {
    /// [`Effect::Write`].
    Write {
        /// The file.
        file: FileName,
        /// First byte to be written.
        position: u64,
        /// What to write.
        body: WriteBody,
        /// Whether to flush before completing.
        sync: Sync,
    },
    /// [`Effect::Read`].
    Read {
        /// The file.
        file: FileName,
        /// First byte.
        position: u64,
        /// Most bytes.
        length: u64,
    },
    /// [`Effect::Create`].
    Create {
        /// Its name.
        file: FileName,
        /// What it is.
        kind: CreateKind,
    },
    /// [`Effect::Sync`].
    Sync {
        /// The file.
        file: FileName,
    },
    /// [`Effect::SyncDir`].
    SyncDir {
        /// The directory.
        directory: FileName,
    },
    /// [`Effect::Rename`].
    Rename {
        /// The old name.
        from: FileName,
        /// The name it gets.
        to: FileName,
    },
    /// [`Effect::Remove`].
    Remove {
        /// Its name.
        file: FileName,
    },
    /// [`Effect::Truncate`].
    Truncate {
        /// The file.
        file: FileName,
        /// The length it gets.
        length: u64,
    },
    /// [`Effect::List`].
    List {
        /// The directory.
        directory: FileName,
    },
    /// [`Effect::Space`].
    Space {
        /// The data directory.
        directory: FileName,
    },
}

impl Operation {
    /// Takes the operation out of a file effect; gives any other effect back.
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other effect is handed back whole")]
    pub fn from_effect(effect: Effect) -> Result<(IoToken, Self), Effect> {
        Ok(match effect {
            Effect::Write { file, position, body, sync, token } => {
                (token, Self::Write { file, position, body, sync })
            }
            Effect::Read { file, position, length, token } => {
                (token, Self::Read { file, position, length })
            }
            Effect::Create { file, kind, token } => (token, Self::Create { file, kind }),
            Effect::Sync { file, token } => (token, Self::Sync { file }),
            Effect::SyncDir { directory, token } => (token, Self::SyncDir { directory }),
            Effect::Rename { from, to, token } => (token, Self::Rename { from, to }),
            Effect::Remove { file, token } => (token, Self::Remove { file }),
            Effect::Truncate { file, length, token } => (token, Self::Truncate { file, length }),
            Effect::List { directory, token } => (token, Self::List { directory }),
            Effect::Space { token } => (token, Self::Space { directory: FileName::root() }),
            other => return Err(other),
        })
    }

    /// Makes it an effect again, for a disk that takes those.
    pub fn into_effect(self, token: IoToken) -> Effect {
        match self {
            Self::Write { file, position, body, sync } => {
                Effect::Write { file, position, body, sync, token }
            }
            Self::Read { file, position, length } => Effect::Read { file, position, length, token },
            Self::Create { file, kind } => Effect::Create { file, kind, token },
            Self::Sync { file } => Effect::Sync { file, token },
            Self::SyncDir { directory } => Effect::SyncDir { directory, token },
            Self::Rename { from, to } => Effect::Rename { from, to, token },
            Self::Remove { file } => Effect::Remove { file, token },
            Self::Truncate { file, length } => Effect::Truncate { file, length, token },
            Self::List { directory } => Effect::List { directory, token },
            Self::Space { directory: _ } => Effect::Space { token },
        }
    }

    /// Returns the word for it in errors.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Write { .. } => "write",
            Self::Read { .. } => "read",
            Self::Create { .. } => "create",
            Self::Sync { .. } => "flush",
            Self::SyncDir { .. } => "flush of the directory",
            Self::Rename { .. } => "rename",
            Self::Remove { .. } => "remove",
            Self::Truncate { .. } => "truncate",
            Self::List { .. } => "list",
            Self::Space { .. } => "look at the free space",
        }
    }

    /// Returns the file or directory that it is about, for a rename the old name.
    pub const fn subject(&self) -> &FileName {
        match self {
            Self::Write { file, .. }
            | Self::Read { file, .. }
            | Self::Create { file, .. }
            | Self::Sync { file }
            | Self::Remove { file }
            | Self::Truncate { file, .. } => file,
            Self::SyncDir { directory } | Self::List { directory } | Self::Space { directory } => {
                directory
            }
            Self::Rename { from, .. } => from,
        }
    }
}
