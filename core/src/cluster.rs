//! A cluster as it was formed: its id, and who votes in its metadata quorum.

use std::fmt;
use std::sync::Arc;

use crate::ids::{NodeId, Uuid};

/// A cluster as it was formed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// Its id, never zero.
    pub id: Uuid,
    /// Who votes, in the order of the nodes, each node once.
    pub voters: Vec<Voter>,
}

/// One voter: a node with one certain directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Voter {
    /// The node.
    pub node_id: NodeId,
    /// Its directory.
    pub directory_id: Uuid,
    /// Name or address of the host at which other nodes reached it when the cluster was formed.
    pub host: Arc<str>,
    /// The port of its listener for peers.
    pub port: u16,
}

impl Cluster {
    /// Returns the numbers of the voters.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.voters.iter().map(|voter| voter.node_id)
    }

    /// Returns whether it makes sense, as nothing does that another node merely says.
    pub fn is_sound(&self) -> bool {
        let is_word = |host: &str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic());
        !self.id.is_zero()
            && !self.voters.is_empty()
            && self.voters.is_sorted_by(|a, b| a.node_id < b.node_id)
            && self.voters.iter().all(|voter| {
                voter.node_id.0 >= 0 && !voter.directory_id.is_zero() && is_word(&voter.host)
            })
    }
}

/// Shows the numbers of nodes to people.
pub(crate) struct Nodes<'a>(pub(crate) &'a [NodeId]);

impl fmt::Display for Nodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nobody");
        }
        for (index, node) in self.0.iter().enumerate() {
            write!(f, "{}{node}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}
