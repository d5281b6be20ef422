//! The cluster that a directory is given once, while it is in use.

use std::sync::Arc;

use crate::cluster::Cluster;
use crate::ids::Uuid;
use crate::io::{Effects, FileName, Sync, WriteBody};
use crate::log::api::LogEvent;
use crate::log::identity::{Identity, META_FILE, META_TEMPORARY};
use crate::log::operations::{Op, Purpose};
use crate::log::store::{LogStore, Phase};

impl LogStore {
    /// Notes for good which cluster the directory belongs to. Ends with [`LogEvent::Formed`], unless the
    /// store stops or fails before. Once in a directory's life.
    pub fn form(&mut self, directory_id: Uuid, cluster: &Arc<Cluster>, fx: &mut Effects) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        if self.config.memory_only {
            return self.events.push_back(LogEvent::Formed);
        }
        let identity = Identity {
            cluster_id: cluster.id,
            node_id: self.config.node_id,
            directory_id,
            voters: cluster.voters.clone(),
        };
        let write = Op::Write {
            file: FileName::new(META_TEMPORARY),
            position: 0,
            body: WriteBody::Parts(vec![identity.encode().into()]),
            sync: Sync::Data,
        };
        self.ops.submit(write, Purpose::Identity, fx);
    }

    /// Goes on once a step is done: written, renamed, and the name flushed.
    pub(super) fn on_identity_step(&mut self, done: &Op, fx: &mut Effects) {
        let next = match done {
            Op::Write { .. } => {
                Op::Rename { from: FileName::new(META_TEMPORARY), to: FileName::new(META_FILE) }
            }
            Op::Rename { .. } => Op::SyncDir { directory: FileName::root() },
            Op::SyncDir { .. }
            | Op::Read { .. }
            | Op::Create { .. }
            | Op::Sync { .. }
            | Op::Remove { .. }
            | Op::Truncate { .. }
            | Op::List { .. }
            | Op::Space => return self.events.push_back(LogEvent::Formed),
        };
        self.ops.submit(next, Purpose::Identity, fx);
    }
}
