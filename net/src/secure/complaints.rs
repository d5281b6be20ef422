//! What is said to people of nodes that do not find together: one line for each, seldom again, and bounded,
//! since whoever reaches the listener can cause it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mainspring_core::ids::NodeId;
use mainspring_core::time::Instant;

/// How long nothing is said again.
const AGAIN: Duration = Duration::from_mins(10);
/// Most lines of the same direction within that time.
const SAID_MAX: usize = 64;

/// Who is at the other end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Whom {
    /// A node that this one has connected to, and where.
    Node(NodeId, String),
    /// Somebody who has connected to this node.
    Guest(IpAddr),
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node, place) => write!(f, "node {node} at {place}"),
            Self::Guest(ip) => write!(f, "a peer at {ip}"),
        }
    }
}

/// Why the two do not find together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Complaint {
    /// The other side has no secret, or is no node.
    Plain,
    /// This node has no secret and the other has one.
    Secured,
    /// The other side's certificate is not of one of our secrets, or it has none.
    Stranger,
    /// The other side does not take ours.
    Refused,
    /// The certificate names another node.
    Another,
    /// What came is neither plain nor TLS as we speak it.
    Garbage,
}

impl Complaint {
    /// Says it in one line: what, why, and what to do.
    fn line(self, whom: &Whom, own: &str) -> String {
        match self {
            Self::Plain => format!(
                "{whom} is refused: it speaks without TLS and this node has a cluster secret; start \
                 every node with --cluster-secret"
            ),
            Self::Secured => format!(
                "{whom} cannot be talked to: it has a cluster secret and this node has none; start \
                 every node with --cluster-secret"
            ),
            Self::Stranger => format!(
                "{whom} is refused: its certificate is not of this node's cluster secret ({own}); \
                 start every node with the same --cluster-secret"
            ),
            Self::Refused => format!(
                "{whom} refuses this node: its cluster secret is another than this node's ({own}); \
                 start every node with the same --cluster-secret"
            ),
            Self::Another => format!(
                "{whom} is refused: its certificate names another node; correct the addresses of --voters"
            ),
            Self::Garbage => format!(
                "{whom} is refused: what it sends is no TLS 1.3; let nodes of the cluster alone reach \
                 this address"
            ),
        }
    }
}

/// What has been said, and when.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    of_nodes: Mutex<Said>,
    of_guests: Mutex<Said>,
}

type Said = BTreeMap<(Complaint, Whom), Instant>;

impl Complaints {
    /// Says it, unless that was done within the last minutes. `own` names the secret that this node presents.
    pub(super) fn say(&self, now: Instant, complaint: Complaint, whom: &Whom, own: &str) {
        if self.is_news(now, complaint, whom) {
            tracing::warn!("{}", complaint.line(whom, own));
        }
    }

    fn is_news(&self, now: Instant, complaint: Complaint, whom: &Whom) -> bool {
        let said = match whom {
            Whom::Node(..) => &self.of_nodes,
            Whom::Guest(_) => &self.of_guests,
        };
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, at| now.since(*at) < AGAIN);
        let key = (complaint, whom.clone());
        let is_news = said.len() < SAID_MAX && !said.contains_key(&key);
        if is_news {
            said.insert(key, now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn guest(number: u8) -> Whom {
        Whom::Guest(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)))
    }

    #[test]
    fn the_same_is_said_once_in_ten_minutes() {
        let complaints = Complaints::default();
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        assert!(complaints.is_news(at(1), Complaint::Plain, &guest(1)));
        assert!(!complaints.is_news(at(599), Complaint::Plain, &guest(1)));
        assert!(complaints.is_news(at(599), Complaint::Garbage, &guest(1)));
        assert!(complaints.is_news(at(602), Complaint::Plain, &guest(1)));
    }

    #[test]
    fn guests_without_number_silence_no_word_of_a_node() {
        let complaints = Complaints::default();
        let said = (0..=255)
            .filter(|&number| complaints.is_news(Instant::ZERO, Complaint::Plain, &guest(number)));
        assert_eq!(said.count(), SAID_MAX);
        let node = Whom::Node(NodeId(2), "two.example:19092".to_owned());
        assert!(complaints.is_news(Instant::ZERO, Complaint::Plain, &node));
    }

    #[test]
    fn every_line_says_who_why_and_what_to_do() {
        for complaint in [
            Complaint::Plain,
            Complaint::Secured,
            Complaint::Stranger,
            Complaint::Refused,
            Complaint::Another,
            Complaint::Garbage,
        ] {
            let line = complaint.line(&guest(3), "abcdef");
            assert!(
                line.contains("10.0.0.3") && line.contains(": ") && line.contains("; "),
                "{line}"
            );
        }
    }
}
