//! Who votes, as the metadata log says: read back before this node takes part, taken in with every append, and
//! changed by the leader.
//!
//! The leader lets every node vote that its start lists among the voters and that is registered: one whose disk
//! was lost comes back as another replica, and a cluster grows by nodes that are listed and were not there when it
//! was formed. What never happens here: two changes at once, and a change for a replica that the controller has
//! not registered.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::broker::quorum::committed::READ_BYTES;
use crate::broker::quorum::{METADATA, MetadataLog};
use crate::broker::shard::{Shard, TicketUse};
use crate::cluster::Nodes;
use crate::ids::{NodeId, Offset};
use crate::log::{FetchPlan, ReadError};
use crate::observe::ClusterEvent;
use crate::quorum::{LogView, ReplicaKey};
use crate::record::batch::Batch;
use crate::record::builder::quorum_control;
use crate::record::iterate::OpenBatch;
use crate::time::Now;
use crate::wire::api::quorum_parts::QuorumListener;
use crate::wire::control_record::{ControlRecord, QuorumVoter, VotersRecord};

/// What was read back of voters.
#[derive(Clone, Debug)]
pub(in crate::broker) struct VoterScan {
    next: Offset,
    end: Offset,
    found: Vec<(Offset, BTreeSet<ReplicaKey>)>,
}

impl Shard {
    /// Takes part in the quorum, once it is known who votes.
    pub(in crate::broker) fn join_quorum(&mut self, now: Now) {
        let log = MetadataLog(&self.log);
        let (next, end) = (log.start().max(self.image.end_offset()), log.end());
        self.voter_scan = Some(VoterScan { next, end, found: Vec::new() });
        self.scan_voters(now);
    }

    fn scan_voters(&mut self, now: Now) {
        while let Some(scan) = &mut self.voter_scan {
            if scan.next >= scan.end {
                return self.on_voters_known(now);
            }
            match self.log.plan_fetch(METADATA, scan.next, scan.end, READ_BYTES, true) {
                FetchPlan::Memory(parts) => {
                    if let Err(why) = scan.take(&parts) {
                        return self.fail_on_metadata(&why);
                    }
                }
                FetchPlan::File(range) => {
                    let ticket = self.ticket(TicketUse::Voters);
                    return self.log.read(now, range, ticket, &mut self.fx);
                }
            }
        }
    }

    pub(in crate::broker) fn on_voters_read(
        &mut self,
        now: Now,
        result: Result<Vec<Bytes>, ReadError>,
    ) {
        let Some(scan) = &mut self.voter_scan else { return };
        match result.map_err(|error| error.to_string()).and_then(|parts| scan.take(&parts)) {
            Ok(()) => self.scan_voters(now),
            Err(why) => self.fail_on_metadata(&why),
        }
    }

    fn on_voters_known(&mut self, now: Now) {
        let Some(scan) = self.voter_scan.take() else { return };
        self.make_quorum();
        for (offset, voters) in scan.found {
            self.with_quorum(now, |machine, log| {
                machine.voters_changed(now.mono, offset, voters, log);
            });
        }
        self.say_if_it_does_not_vote();
        self.tell_whether_it_votes();
        self.start_quorum(now);
    }

    pub(super) fn tell_whether_it_votes(&mut self) {
        let votes = self.quorum.as_ref().is_some_and(|quorum| quorum.machine.is_voter());
        self.fx.cluster(ClusterEvent::Votes(votes));
    }

    /// Says that another directory of this node has the vote, which nobody may notice otherwise.
    fn say_if_it_does_not_vote(&mut self) {
        let me = self.config.node.node_id;
        let Some(quorum) = &self.quorum else { return };
        let voter = quorum.machine.voters().iter().find(|voter| voter.node == me);
        if voter.is_some_and(|voter| voter.directory != self.identity.directory_id) {
            self.fx.warn(format!(
                "another data directory of node {me} has its vote: with this one it votes once it has all of the \
                 metadata log"
            ));
        }
    }

    /// Takes in that a record at `offset` of the log says who votes from there on.
    pub(super) fn voters_changed(
        &mut self,
        now: Now,
        offset: Offset,
        voters: BTreeSet<ReplicaKey>,
    ) {
        let nodes: Vec<NodeId> = voters.iter().map(|voter| voter.node).collect();
        self.fx.info(format!("the voters are {} from offset {offset} on", Nodes(&nodes)));
        if let Some(controller) = &mut self.controller {
            controller.set_voters(voters.len());
        }
        self.fx.mark(crate::io::Mark::VotersChanged);
        self.with_quorum(now, |machine, log| {
            machine.voters_changed(now.mono, offset, voters, log);
        });
        self.tell_whether_it_votes();
    }

    /// Lets a replica vote that does not, where it may be done now. On the leader, when it fetches.
    pub(super) fn admit_voter(&mut self, now: Now, replica: ReplicaKey) {
        let Self { quorum: Some(quorum), controller: Some(controller), .. } = self else { return };
        let is_listed = self.config.node.peers.iter().any(|peer| peer.node_id == replica.node);
        let known = controller.image().broker(replica.node);
        let is_registered =
            known.is_some_and(|it| !it.fenced && it.directories.contains(&replica.directory));
        if !is_listed || !is_registered {
            return;
        }
        let Some(voters) = quorum.machine.voters_with(now.mono, replica) else { return };
        let epoch = quorum.machine.epoch();
        let record = ControlRecord::Voters(self.voters_record(&voters));
        let batch = quorum_control(record.kind(), &record.encode().1, now.wall.0);
        match self.log.append(now, METADATA, epoch, batch, &mut self.fx) {
            Ok(offset) => {
                if let Some(controller) = &mut self.controller {
                    controller.control_appended(offset);
                }
                self.voters_changed(now, offset, voters);
                self.on_metadata_appended(now);
            }
            Err(error) => self.fx.warn(format!("the voters cannot be changed: {error}")),
        }
    }

    pub(super) fn voters_record(&self, voters: &BTreeSet<ReplicaKey>) -> VotersRecord {
        let peers = &self.config.node.peers;
        let voters = voters.iter().map(|voter| {
            let place = peers.iter().find(|peer| peer.node_id == voter.node);
            let listener = place.map(|place| QuorumListener {
                name: "PEERS".into(),
                host: (&*place.host).into(),
                port: place.port,
            });
            QuorumVoter {
                voter_id: voter.node.0,
                voter_directory_id: voter.directory,
                endpoints: listener.into_iter().collect(),
                ..QuorumVoter::default()
            }
        });
        VotersRecord { version: 0, voters: voters.collect() }
    }
}

impl VoterScan {
    fn take(&mut self, parts: &[Bytes]) -> Result<(), String> {
        let before = self.next;
        let mut bytes = Bytes::from(parts.concat());
        while !bytes.is_empty() {
            let batch = Batch::split_from(&mut bytes).map_err(|error| error.to_string())?;
            if batch.last_offset() >= self.next {
                self.found.extend(voters_of(&batch)?.map(|voters| (batch.base_offset(), voters)));
                self.next = batch.next_offset();
            }
        }
        if self.next == before { Err("it has no batch there".to_owned()) } else { Ok(()) }
    }
}

/// Returns who votes from a batch on, where it says so.
pub(super) fn voters_of(batch: &Batch) -> Result<Option<BTreeSet<ReplicaKey>>, String> {
    if !batch.is_control() {
        return Ok(None);
    }
    let open = OpenBatch::open(batch, usize::MAX).map_err(|error| error.to_string())?;
    let Some(record) = open.records().next() else { return Ok(None) };
    let record = record.map_err(|error| error.to_string())?.record;
    let slice = |bytes: Option<&[u8]>| bytes.map(|bytes| open.payload().slice_ref(bytes));
    let (Some(key), Some(value)) = (slice(record.key), slice(record.value)) else {
        return Err("a control record has no key or no value".to_owned());
    };
    let ControlRecord::Voters(record) =
        ControlRecord::decode(key, value).map_err(|error| error.to_string())?
    else {
        return Ok(None);
    };
    replicas(&record).map(Some)
}

/// Returns the voters that a record names.
pub(super) fn replicas(record: &VotersRecord) -> Result<BTreeSet<ReplicaKey>, String> {
    let voters: BTreeSet<ReplicaKey> = record
        .voters
        .iter()
        .map(|voter| ReplicaKey {
            node: NodeId(voter.voter_id),
            directory: voter.voter_directory_id,
        })
        .collect();
    let nodes: BTreeSet<NodeId> = voters.iter().map(|voter| voter.node).collect();
    let is_sound = !voters.is_empty()
        && nodes.len() == record.voters.len()
        && voters.iter().all(|voter| voter.node.0 >= 0 && !voter.directory.is_zero());
    if is_sound { Ok(voters) } else { Err("it names voters that cannot be".to_owned()) }
}
