//! An operation on its way: an effect that touches files, without its token.

use bytes::Bytes;
use mainspring_core::ids::{IoToken, ShardId};
use mainspring_core::io::{CreateKind, DiskError, Effect, FileName, Sync, WriteBody};

use super::tree::Refusal;

#[derive(Clone, Debug)]
pub(super) struct InFlight {
    pub(super) shard: ShardId,
    pub(super) token: IoToken,
    pub(super) operation: Operation,
}

/// An effect that touches files, without its token.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Write { file: FileName, position: u64, body: WriteBody, sync: Sync },
    Read { file: FileName, position: u64, length: u64 },
    Create { file: FileName, kind: CreateKind },
    Sync { file: FileName },
    SyncDir { directory: FileName },
    Rename { from: FileName, to: FileName },
    Remove { file: FileName },
    Truncate { file: FileName, length: u64 },
    List { directory: FileName },
    Space { directory: FileName },
}

impl Operation {
    pub(super) fn of(effect: Effect) -> Result<(Self, IoToken), Effect> {
        Ok(match effect {
            Effect::Write { file, position, body, sync, token } => {
                (Self::Write { file, position, body, sync }, token)
            }
            Effect::Read { file, position, length, token } => {
                (Self::Read { file, position, length }, token)
            }
            Effect::Create { file, kind, token } => (Self::Create { file, kind }, token),
            Effect::Sync { file, token } => (Self::Sync { file }, token),
            Effect::SyncDir { directory, token } => (Self::SyncDir { directory }, token),
            Effect::Rename { from, to, token } => (Self::Rename { from, to }, token),
            Effect::Remove { file, token } => (Self::Remove { file }, token),
            Effect::Truncate { file, length, token } => (Self::Truncate { file, length }, token),
            Effect::List { directory, token } => (Self::List { directory }, token),
            Effect::Space { token } => (Self::Space { directory: FileName::root() }, token),
            other => return Err(other),
        })
    }

    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Write { .. } => "write",
            Self::Read { .. } => "read",
            Self::Create { .. } => "create",
            Self::Sync { .. } => "fsync",
            Self::SyncDir { .. } => "fsync of the directory",
            Self::Rename { .. } => "rename",
            Self::Remove { .. } => "remove",
            Self::Truncate { .. } => "truncate",
            Self::List { .. } => "list",
            Self::Space { .. } => "space",
        }
    }

    /// Returns the name that an error speaks of.
    pub(super) fn name(&self) -> &FileName {
        match self {
            Self::Write { file, .. }
            | Self::Read { file, .. }
            | Self::Create { file, .. }
            | Self::Sync { file }
            | Self::Rename { from: file, .. }
            | Self::Remove { file }
            | Self::Truncate { file, .. }
            | Self::SyncDir { directory: file }
            | Self::List { directory: file }
            | Self::Space { directory: file } => file,
        }
    }

    /// Returns how many bytes it writes.
    pub(super) fn len(&self) -> u64 {
        if let Self::Write { body, .. } = self {
            body.len()
        } else if let Self::Create { kind: CreateKind::Filled { length }, .. } = self {
            *length
        } else {
            0
        }
    }

    pub(super) fn flushes(&self) -> bool {
        matches!(
            self,
            Self::Write { sync: Sync::Data, .. }
                | Self::Sync { .. }
                | Self::SyncDir { .. }
                | Self::Create { kind: CreateKind::Filled { .. }, .. }
        )
    }

    /// Returns whether it changes something: it leaves something when its process dies before it ends,
    /// and a disk for reading only refuses it.
    pub(super) const fn changes(&self) -> bool {
        matches!(
            self,
            Self::Write { .. }
                | Self::Create { .. }
                | Self::Rename { .. }
                | Self::Remove { .. }
                | Self::Truncate { .. }
        )
    }

    /// Returns the names that it must wait for.
    pub(super) fn names(&self) -> [&FileName; 2] {
        match self {
            Self::Rename { from, to } => [from, to],
            other => [other.name(), other.name()],
        }
    }

    pub(super) fn error(&self, (kind, message): Refusal) -> DiskError {
        DiskError {
            operation: self.word(),
            file: self.name().clone(),
            kind,
            message: message.into(),
        }
    }
}

/// Returns what a body writes, and whether the completion carries it.
pub(super) fn content(body: &WriteBody) -> (Bytes, bool) {
    match body {
        WriteBody::Block(plan) => {
            let mut block = vec![0; plan.sealed_len()];
            plan.seal(&mut block);
            (block.into(), true)
        }
        WriteBody::Parts(parts) => (parts.concat().into(), false),
    }
}
