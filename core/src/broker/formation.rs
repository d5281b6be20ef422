//! The driver of [formation](crate::quorum::formation) on shard 0 of one of several nodes: carries out what
//! the machine decides, and begins the quorum once the node belongs to a cluster.
//!
//! What never happens here: a vote, a lead or an answer to clients before the node's cluster is durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::peers::PeerTag;
use crate::broker::pending::{Pending, RequestContext};
use crate::broker::post::Post;
use crate::broker::quorum::serve::Reply;
use crate::broker::shard::Shard;
use crate::cluster::{Cluster, Nodes, Voter};
use crate::config::PeerConfig;
use crate::connection::RequestId;
use crate::error::ErrorCode;
use crate::ids::{NodeId, ShardId, Uuid};
use crate::peer::{Identity, Lane, Question};
use crate::quorum::ReplicaKey;
use crate::quorum::formation::{Action, Formation, FormationConfig, Hello};
use crate::time::Now;
use crate::wire::api::form::{FormRequest, FormResponse, FormVoter};
use crate::wire::{KafkaString, Request, Response};

impl Shard {
    /// Returns why this node does not start with this directory, because of who else there should be.
    pub(in crate::broker) fn wrong_membership(&self) -> Option<String> {
        let cluster = self.identity.cluster.as_ref()?;
        let nodes: Vec<NodeId> = cluster.nodes().collect();
        let me = self.config.node.node_id;
        self.is_alone().then(|| {
            format!(
                "the data directory is that of node {me} in cluster {} with the voters {}, and this start \
                 names no voters; start with the same voters as before",
                cluster.id,
                Nodes(&nodes)
            )
        })
    }

    /// Returns whether this shard knows enough of its node to talk to others.
    pub(in crate::broker) fn knows_itself(&self) -> bool {
        self.phase.has_logs() && !self.peers.links.identity().directory_id.is_zero()
    }

    /// Begins to see to it that the node belongs to a cluster.
    pub(in crate::broker) fn begin_formation(&mut self, now: Now) {
        let node = Arc::clone(&self.config.node);
        let me = ReplicaKey { node: node.node_id, directory: self.identity.directory_id };
        let place = |peer: &PeerConfig| (peer.node_id, (Arc::clone(&peer.host), peer.port));
        let listed: BTreeMap<NodeId, (Arc<str>, u16)> = node.peers.iter().map(place).collect();
        let id = self.identity.cluster_id;
        if self.identity.cluster.is_none()
            && !id.is_zero()
            && let Some((host, port)) = listed.get(&me.node).cloned()
        {
            // It was alone, and still is the only voter.
            let voter = Voter { node_id: me.node, directory_id: me.directory, host, port };
            self.identity.cluster = Some(Arc::new(Cluster { id, voters: vec![voter] }));
        }
        let formed = self.identity.cluster.clone();
        if let Some(cluster) = &formed {
            let voters: Vec<NodeId> = cluster.nodes().collect();
            let named: Vec<NodeId> = listed.keys().copied().collect();
            if voters != named {
                self.fx.warn(format!(
                    "this start names the voters {}, and the voters of cluster {id} are {}, which holds",
                    Nodes(&named),
                    Nodes(&voters)
                ));
            }
        }
        let cluster_id = Self::random_id(&mut self.rng);
        let config = FormationConfig { me, listed, cluster_id };
        self.formation = Some(Formation::new(config, formed.clone()));
        self.introduce(now);
        if formed.is_some() {
            self.join_quorum(now);
        }
    }

    /// Says to all shards and to other nodes who this node is.
    fn introduce(&mut self, now: Now) {
        let node = Arc::clone(&self.config.node);
        let Some(formation) = &self.formation else { return };
        let (cluster, is_formed) = (formation.said(), formation.cluster().is_some());
        let mut places: BTreeMap<NodeId, PeerConfig> = BTreeMap::new();
        for voter in cluster.iter().flat_map(|cluster| &cluster.voters) {
            let (node_id, host, port) = (voter.node_id, Arc::clone(&voter.host), voter.port);
            places.insert(node_id, PeerConfig { node_id, host, port });
        }
        // A node may have moved since.
        for peer in &node.peers {
            places.insert(peer.node_id, peer.clone());
        }
        let listed = match cluster {
            Some(_) => Arc::from([]),
            None => node.peers.iter().map(|peer| peer.node_id).collect(),
        };
        let cluster_id = cluster.map_or_else(Uuid::default, |cluster| cluster.id);
        let identity = Identity { cluster_id, ..self.peer_identity(listed) };
        let places: Arc<[PeerConfig]> = places.into_values().collect();
        let (who, to) = (identity.clone(), Arc::clone(&places));
        self.broadcast(&Post::Introduced { identity: who, places: to, is_formed });
        self.meet_peers(now, identity, &places);
    }

    /// Takes in, on another shard than the first, who this node is.
    pub(in crate::broker) fn on_introduced(
        &mut self,
        now: Now,
        identity: Identity,
        places: &[PeerConfig],
        is_formed: bool,
    ) {
        if is_formed {
            self.identity.cluster_id = identity.cluster_id;
        }
        self.identity.directory_id = identity.directory_id;
        self.meet_peers(now, identity, places);
    }

    /// Takes in what another node says of itself on a link that was just made.
    pub(in crate::broker) fn on_peer_greeted(&mut self, now: Now, peer: Identity) {
        let Self { formation, peers, .. } = self;
        let Some(formation) = formation else { return };
        let hello = Hello {
            replica: ReplicaKey { node: peer.node_id, directory: peer.directory_id },
            cluster_id: peer.cluster_id,
            listed: peer.listed,
        };
        formation.on_hello(hello, |node| peers.links.is_ready(node, Lane::Control));
        self.carry_formation_out(now);
    }

    fn carry_formation_out(&mut self, now: Now) {
        while let Some(action) = self.formation.as_mut().and_then(Formation::poll_action) {
            match action {
                Action::Persist(cluster) => {
                    self.log.form(self.identity.directory_id, &cluster, &mut self.fx);
                    self.introduce(now);
                }
                Action::Tell { node, cluster } => {
                    let request = form_request(cluster.as_deref());
                    let question = Question { request, patience: None, tag: PeerTag::Form };
                    self.peers.links.ask(now.mono, node, Lane::Control, question, &mut self.fx);
                }
                Action::Answer { caller: (shard, request), answer } => {
                    self.reply_to_node(shard, request, Reply::Formed(answer));
                }
                Action::Formed(cluster) => self.on_formed(now, cluster),
                Action::Warn(why) => self.fx.warn(why),
            }
        }
    }

    /// Takes in that the cluster of this node is durable.
    pub(in crate::broker) fn on_cluster_durable(&mut self, now: Now) {
        if self.phase.is_stopping() {
            return;
        }
        if let Some(formation) = &mut self.formation {
            formation.persisted();
        }
        self.carry_formation_out(now);
    }

    fn on_formed(&mut self, now: Now, cluster: Arc<Cluster>) {
        let nodes: Vec<NodeId> = cluster.nodes().collect();
        self.fx.info(format!("this is cluster {} with the voters {}", cluster.id, Nodes(&nodes)));
        self.identity.cluster_id = cluster.id;
        self.identity.cluster = Some(cluster);
        self.introduce(now);
        self.peers.links.renew(&mut self.fx);
        self.join_quorum(now);
    }

    /// `Form` (key 31002): another node tells of its cluster, or asks for this one's.
    pub(in crate::broker) fn on_form_request(
        &mut self,
        now: Now,
        ctx: &RequestContext,
        form: &FormRequest,
    ) {
        if self.is_alone() || !self.peers.guests.contains_key(&ctx.id.connection) {
            return self.on_only_decoded(ctx, &Request::from(form.clone()));
        }
        let told = cluster(form.cluster_id, &form.voters);
        self.pending.insert(ctx.id, Pending::Quorum { ctx: *ctx });
        if self.config.shard == ShardId(0) {
            self.on_form_asked(now, ShardId(0), ctx.id, told);
        } else {
            self.post(ShardId(0), Post::Form { request: ctx.id, told });
        }
    }

    pub(in crate::broker) fn on_form_asked(
        &mut self,
        now: Now,
        shard: ShardId,
        request: RequestId,
        told: Option<Arc<Cluster>>,
    ) {
        let Some(formation) = &mut self.formation else { return };
        formation.on_form((shard, request), told);
        self.carry_formation_out(now);
    }

    /// Takes what a node answers to what it was told or asked of clusters, or that there is no answer.
    pub(in crate::broker) fn on_form_answer(
        &mut self,
        now: Now,
        node: NodeId,
        response: Option<Response>,
    ) {
        let Some(Response::Form(response)) = response else { return };
        let answer = if response.error_code == ErrorCode::None.code() {
            Ok(cluster(response.cluster_id, &response.voters))
        } else {
            let why = response.error_message.as_deref().unwrap_or("it gives no reason");
            // Another's words begin no line of their own.
            Err(why.replace(char::is_control, " "))
        };
        if let Some(formation) = &mut self.formation {
            formation.on_answer(node, answer);
        }
        self.carry_formation_out(now);
    }
}

/// Reads a cluster as it stands in a message, `None` where there is none.
fn cluster(id: Uuid, voters: &[FormVoter]) -> Option<Arc<Cluster>> {
    let voter = |voter: &FormVoter| Voter {
        node_id: NodeId(voter.node_id),
        directory_id: voter.directory_id,
        host: voter.host.as_str().into(),
        port: voter.port,
    };
    (!id.is_zero()).then(|| Arc::new(Cluster { id, voters: voters.iter().map(voter).collect() }))
}

fn voters(cluster: Option<&Cluster>) -> Vec<FormVoter> {
    let voter = |voter: &Voter| FormVoter {
        node_id: voter.node_id.0,
        directory_id: voter.directory_id,
        host: KafkaString::from(&*voter.host),
        port: voter.port,
    };
    cluster.iter().flat_map(|cluster| &cluster.voters).map(voter).collect()
}

fn form_request(cluster: Option<&Cluster>) -> Request {
    let cluster_id = cluster.map_or_else(Uuid::default, |cluster| cluster.id);
    FormRequest { cluster_id, voters: voters(cluster) }.into()
}

/// Returns the answer to who told of a cluster or asked for it.
pub(in crate::broker) fn form_response(answer: Result<Option<Arc<Cluster>>, String>) -> Response {
    let mut response = FormResponse::default();
    match answer {
        Ok(cluster) => {
            response.cluster_id = cluster.as_ref().map_or_else(Uuid::default, |cluster| cluster.id);
            response.voters = voters(cluster.as_deref());
        }
        Err(why) => {
            response.error_code = ErrorCode::InconsistentClusterId.code();
            response.error_message = Some(KafkaString::from(why));
        }
    }
    response.into()
}
