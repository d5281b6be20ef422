//! Which brokers cannot be reached, as far as the connections of one client tell: once when one goes away,
//! once when it is back, and nothing about the attempts in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mainspring_core::client::Link;

/// What there is to say about a broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reach {
    /// It cannot be reached; the client goes on trying.
    Lost {
        /// Its address, `HOST:PORT`.
        address: String,
        /// What the last attempt came to, in words.
        why: String,
    },
    /// It answers again.
    Back {
        /// Its address, `HOST:PORT`.
        address: String,
    },
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost { address, why } => {
                write!(
                    f,
                    "the broker at {address} cannot be reached: {why}; trying again by itself"
                )
            }
            Self::Back { address } => write!(f, "the broker at {address} is back"),
        }
    }
}

type Address = (Arc<str>, u16);

/// What is known of the brokers of one client.
#[derive(Debug, Default)]
pub(super) struct Reachable {
    /// Where a connection leads, and whether the broker has ever answered on it.
    links: BTreeMap<Link, (Address, bool)>,
    lost: BTreeSet<Address>,
}

impl Reachable {
    /// A connection is being made.
    pub(super) fn connects(&mut self, link: Link, host: &Arc<str>, port: u16) {
        self.links.insert(link, ((Arc::clone(host), port), false));
    }

    /// A broker has answered.
    pub(super) fn answers(&mut self, link: Link) -> Option<Reach> {
        let (address, has_answered) = self.links.get_mut(&link)?;
        *has_answered = true;
        self.lost.remove(address).then(|| Reach::Back { address: text(address) })
    }

    /// A connection was not made, is gone, or was given up. One that had served is no outage: brokers
    /// close those that are idle, and the next attempt tells.
    pub(super) fn fails(&mut self, link: Link, why: &str) -> Option<Reach> {
        let (address, has_answered) = self.links.remove(&link)?;
        if has_answered || self.lost.contains(&address) {
            return None;
        }
        let address_text = text(&address);
        self.lost.insert(address);
        Some(Reach::Lost { address: address_text, why: why.to_owned() })
    }
}

fn text((host, port): &Address) -> String {
    format!("{host}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_and_its_end_once() {
        let mut reachable = Reachable::default();
        let host: Arc<str> = "h".into();
        let mut said = Vec::new();
        for link in (0..10).map(Link) {
            reachable.connects(link, &host, 1);
            said.extend(reachable.fails(link, "refused"));
        }
        reachable.connects(Link(10), &host, 1);
        said.extend(reachable.answers(Link(10)));
        said.extend(reachable.answers(Link(10)));
        let said: Vec<String> = said.iter().map(ToString::to_string).collect();
        let lost = "the broker at h:1 cannot be reached: refused; trying again by itself";
        assert_eq!(said, [lost, "the broker at h:1 is back"]);
    }

    #[test]
    fn a_connection_that_served_and_is_made_again_is_no_outage() {
        let mut reachable = Reachable::default();
        for link in (0..4).map(Link) {
            reachable.connects(link, &"h".into(), 1);
            assert_eq!(reachable.answers(link), None);
            assert_eq!(reachable.fails(link, "gone"), None);
        }
    }
}
