//! The controller's office: taken up by the node that is elected, once it has read its whole log, and
//! let go when another epoch begins.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::quorum::committed::{READ_BYTES, deltas};
use crate::broker::quorum::{METADATA, MetadataLog};
use crate::broker::shard::{Shard, TicketUse};
use crate::broker::timers::Timer;
use crate::error::ErrorCode;
use crate::ids::{LeaderEpoch, NodeId, Offset};
use crate::io::Effect;
use crate::log::{AppendError, FetchPlan, ReadError};
use crate::metadata::{CommandAnswer, Controller, MetadataImage};
use crate::observe::ClusterEvent;
use crate::peer::Lane;
use crate::quorum::LogView;
use crate::record::builder::leader_change;
use crate::time::Now;

/// The way into the office: what is appended and not committed is part of what the next decision builds on.
#[derive(Clone, Debug)]
pub(super) struct Accession {
    epoch: LeaderEpoch,
    granting: Vec<NodeId>,
    image: MetadataImage,
    next: Offset,
    is_reading: bool,
}

impl Shard {
    /// Begins to take the office up.
    pub(super) fn accede(&mut self, now: Now, epoch: LeaderEpoch, granting: Vec<NodeId>) {
        let end = MetadataLog(&self.log).end();
        if !self.is_alone() {
            self.fx.mark(crate::io::Mark::ControllerElected);
            self.fx.cluster(ClusterEvent::Led { partition: METADATA, leader_epoch: epoch, end });
        }
        let Some(quorum) = &mut self.quorum else { return };
        quorum.accession = Some(Accession {
            epoch,
            granting,
            image: self.image.clone(),
            next: quorum.reader.next,
            is_reading: false,
        });
        self.go_on_acceding(now);
    }

    fn go_on_acceding(&mut self, now: Now) {
        let end = MetadataLog(&self.log).end();
        while let Some(accession) =
            self.quorum.as_mut().and_then(|quorum| quorum.accession.as_mut())
        {
            if accession.is_reading {
                return;
            }
            if accession.next >= end {
                return self.take_office(now);
            }
            match self.log.plan_fetch(METADATA, accession.next, end, READ_BYTES, true) {
                FetchPlan::Memory(parts) => {
                    if let Err(why) = accession.take(&parts) {
                        return self.fail_on_metadata(&why);
                    }
                }
                FetchPlan::File(range) => {
                    accession.is_reading = true;
                    let epoch = accession.epoch;
                    let ticket = self.ticket(TicketUse::Accession(epoch));
                    self.log.read(now, range, ticket, &mut self.fx);
                }
            }
        }
    }

    pub(in crate::broker) fn on_accession_read(
        &mut self,
        now: Now,
        epoch: LeaderEpoch,
        result: Result<Vec<Bytes>, ReadError>,
    ) {
        let accession = self.quorum.as_mut().and_then(|quorum| quorum.accession.as_mut());
        let Some(accession) = accession.filter(|accession| accession.epoch == epoch) else {
            return;
        };
        accession.is_reading = false;
        match result.map_err(|error| error.to_string()).and_then(|parts| accession.take(&parts)) {
            Ok(()) => self.go_on_acceding(now),
            Err(why) => self.fail_on_metadata(&why),
        }
    }

    fn take_office(&mut self, now: Now) {
        let accession = self.quorum.as_mut().and_then(|quorum| quorum.accession.take());
        let Some(Accession { epoch, granting, image, .. }) = accession else { return };
        let node = Arc::clone(&self.config.node);
        let me = node.node_id;
        let voters: Vec<NodeId> = self
            .quorum
            .iter()
            .flat_map(|quorum| quorum.machine.voters().iter().map(|voter| voter.node))
            .collect();
        let batch = leader_change(me, &voters, &granting, now.wall.0);
        let began = match self.log.append(now, METADATA, epoch, batch, &mut self.fx) {
            Ok(offset) => offset,
            // Somebody else leads while this log's end is still searched for.
            Err(AppendError::Cutting) => {
                self.with_quorum(now, |machine, _| machine.step_down(now.mono));
                return;
            }
            Err(error) => return self.fail_registration(&error.to_string()),
        };
        let mut controller = Controller::new(node, self.identity.directory_id, epoch, image);
        controller.control_appended(began);
        controller.set_voters(voters.len());
        self.controller = Some(controller);
        self.tell_controller_of_shards();
        self.on_office_taken(now);
        if !self.is_alone()
            && let Some(controller) = &mut self.controller
        {
            controller.begin_sessions(now);
            // Who was found dead before the election, as the leader before, is not waited for anew.
            for node in self.peers.links.refusing(Lane::Control) {
                controller.sessions_mut().connection_lost(now.mono, node);
            }
        }
        self.with_quorum(now, |machine, log| machine.begun(began, log));
        self.on_metadata_appended(now);
    }

    /// Gives the office up where it is over by the clock, before anything is decided: a process that stood still
    /// wakes as the controller that it was, and would grant itself a lease while others lead.
    pub(in crate::broker) fn doubt_office(&mut self, now: Now) {
        if self.controller.is_some() {
            self.with_quorum(now, |machine, log| machine.wake(now.mono, log));
        }
    }

    /// Fences brokers that are silent.
    pub(in crate::broker) fn on_controller_timer(&mut self, now: Now) {
        self.sessions_armed = None;
        // Whoever stood still has heard nobody, dead or not.
        self.doubt_office(now);
        let Self { controller, log, fx, .. } = self;
        let Some(controller) = controller else { return };
        match controller.fence_silent(now, log, fx) {
            Ok(fenced) => {
                for node in fenced {
                    fx.mark(crate::io::Mark::BrokerFenced);
                    fx.info(format!("node {node} is silent and leads nothing any more"));
                }
            }
            Err(error) => fx.warn(format!("a silent node cannot be fenced: {error}")),
        }
        match controller.balance_where_due(now, log, fx) {
            Ok(0) => {}
            Ok(moved) => fx.info(format!("{moved} partitions go back to their preferred leaders")),
            Err(error) => fx.warn(format!("leaders cannot be balanced: {error}")),
        }
        self.on_metadata_appended(now);
    }

    /// Arms the timer of brokers' sessions.
    pub(in crate::broker) fn arm_controller_timer(&mut self) {
        let next = self.controller.as_ref().and_then(Controller::next_deadline);
        if next == self.sessions_armed {
            return;
        }
        if let Some(at) = self.sessions_armed {
            self.timers.disarm(at, Timer::Controller);
        }
        self.sessions_armed = next;
        if let Some(at) = next {
            self.timers.arm(at, Timer::Controller);
        }
    }

    /// Another leads: whoever waits here asks there.
    pub(super) fn leave_controllers_office(&mut self, now: Now) {
        if let Some(leader_epoch) = self.controller.as_ref().map(Controller::epoch) {
            self.fx.cluster(ClusterEvent::Resigned { partition: METADATA, leader_epoch });
        }
        if let Some(quorum) = &mut self.quorum {
            quorum.accession = None;
        }
        let Some(mut controller) = self.controller.take() else { return };
        for origin in controller.abandon() {
            let why = "another node leads the metadata log".into();
            self.answer_command(now, origin, CommandAnswer::Failed(ErrorCode::NotController, why));
        }
    }

    pub(in crate::broker) fn fail_registration(&mut self, why: &str) {
        let message = format!("this start cannot be written to the metadata log: {why}");
        self.fx.push(Effect::Fatal { message });
        self.phase = crate::broker::start::Phase::Closed;
    }
}

impl Accession {
    fn take(&mut self, parts: &[Bytes]) -> Result<(), String> {
        for delta in deltas(parts, self.next)? {
            delta.apply_to(&mut self.image)?;
            self.next = delta.end_offset;
        }
        Ok(())
    }
}
