//! Which nodes make up the cluster, as `serve` is told: `--voters 1@HOST:PORT,...` and `--peer-listen`.

use std::collections::BTreeMap;

use mainspring_core::config::PeerConfig;
use mainspring_core::ids::NodeId;

use super::failure::Failure;
use crate::address::HostPort;
use crate::node::ListenerOptions;

/// Most voters of a cluster: each more makes every change of metadata wait for more disks.
const VOTERS_MAX: usize = 9;
const EXAMPLE: &str = "write it as --voters 1@HOST:PORT,2@HOST:PORT,3@HOST:PORT";

/// The nodes of a cluster, and where this one takes the others in.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Voters {
    /// All of them, in the order of their numbers; empty for a node alone.
    pub(crate) peers: Vec<PeerConfig>,
    /// Where this node listens for the others; `None` where there are none.
    pub(crate) listener: Option<ListenerOptions>,
}

/// What stands in the settings, with where it came from.
pub(crate) struct Given {
    /// Values of `voters`, each one or several of them divided by commas.
    pub(crate) voters: Vec<(String, String)>,
    /// `peer-listen`, already read.
    pub(crate) listen: Option<HostPort>,
    /// This node, `None` where nobody said which it is.
    pub(crate) node_id: Option<NodeId>,
    pub(crate) in_memory: bool,
    /// Whether nodes verify each other.
    pub(crate) has_secret: bool,
    pub(crate) insecure: bool,
}

impl Voters {
    /// Checks what was given and puts it together.
    pub(crate) fn resolve(given: Given) -> Result<Self, Failure> {
        let mut all = BTreeMap::new();
        for (value, source) in &given.voters {
            for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                let (node, address) = voter(part, source)?;
                refuse_exposed(&address, &given)?;
                let twin = all.iter().find(|(other, place)| **other != node && **place == address);
                if let Some((other, _)) = twin {
                    return Err(Failure::usage(
                        format!("cannot use {source}"),
                        format!("nodes {other} and {node} have the same address {address}"),
                        "give each node an address of its own",
                    ));
                }
                if let Some(other) = all.insert(node, address) {
                    return Err(Failure::usage(
                        format!("cannot use {source}"),
                        format!("node {node} stands in it twice, at {other} and in {part}"),
                        "give each node a number of its own",
                    ));
                }
            }
        }
        if all.is_empty() {
            return match given.listen {
                None if given.has_secret => Err(Failure::usage(
                    "cannot use a cluster secret",
                    "this node is alone",
                    "add --voters with all nodes of the cluster, or leave --cluster-secret out",
                )),
                None => Ok(Self::default()),
                Some(address) => Err(Failure::usage(
                    format!("cannot listen for peers on {address}"),
                    "this node is alone",
                    "add --voters with all nodes of the cluster, or leave --peer-listen out",
                )),
            };
        }
        let listed = all.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if all.len() > VOTERS_MAX {
            return Err(Failure::usage(
                format!("cannot use {} voters", all.len()),
                format!("a cluster has at most {VOTERS_MAX}"),
                "leave some out: three bear the loss of one, five of two",
            ));
        }
        let Some(me) = given.node_id else {
            return Err(Failure::usage(
                "cannot tell which of the voters this node is",
                format!("--voters names the nodes {listed}, and there is no --node-id"),
                "add --node-id with one of these",
            ));
        };
        let Some(mine) = all.get(&me) else {
            return Err(Failure::usage(
                format!("cannot start node {me} in this cluster"),
                format!("--voters names the nodes {listed}"),
                "start it with one of these as --node-id, or add it to the voters of all nodes",
            ));
        };
        if given.in_memory && all.len() > 1 {
            return Err(Failure::usage(
                "cannot use --memory in a cluster",
                "a node that forgets what it has voted for could make the cluster lose records",
                "give it a --data-dir; topics may live in memory, by mainspring.storage=memory",
            ));
        }
        let listen = given.listen.clone().unwrap_or_else(|| mine.clone());
        refuse_exposed(&listen, &given)?;
        // A node alone has nobody to take in.
        let listener = (all.len() > 1).then(|| ListenerOptions {
            name: "PEERS".to_owned(),
            listen,
            advertise: Some(mine.clone()),
            peers: true,
        });
        let peers = all
            .into_iter()
            .map(|(node_id, HostPort { host, port })| PeerConfig {
                node_id,
                host: host.into(),
                port,
            })
            .collect();
        Ok(Self { peers, listener })
    }

    /// Returns what is allowed, but hardly meant.
    pub(crate) fn doubt(&self) -> Option<String> {
        let count = self.peers.len();
        (count > 0 && count.is_multiple_of(2)).then(|| {
            format!(
                "{count} voters bear the loss of no more nodes than {} do: an odd number is better",
                count - 1
            )
        })
    }
}

/// Reads `1@HOST:PORT`.
fn voter(text: &str, source: &str) -> Result<(NodeId, HostPort), Failure> {
    let wrong = |why: String| Failure::usage(format!("cannot use {source}"), why, EXAMPLE);
    let (node, address) = text
        .split_once('@')
        .ok_or_else(|| wrong(format!("{text:?} is not ID@HOST:PORT: it has no @")))?;
    let node = node.trim().parse().ok().filter(|id| *id >= 0).ok_or_else(|| {
        wrong(format!("{node:?} of {text:?} is no node id, a number from 0 to 2147483647"))
    })?;
    let address: HostPort = address.trim().parse().map_err(wrong)?;
    if address.port == 0 || address.is_wildcard() {
        return Err(wrong(format!("no other node could connect to {address}")));
    }
    Ok((NodeId(node), address))
}

fn refuse_exposed(address: &HostPort, given: &Given) -> Result<(), Failure> {
    if address.is_loopback() || given.has_secret || given.insecure {
        return Ok(());
    }
    Err(Failure::usage(
        format!("will not talk to peers on {address}"),
        "without a cluster secret anybody on the way could read and write everything",
        "make one with mainspring cluster secret and start every node with --cluster-secret FILE, or add \
         --insecure if the network is trusted",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str = "1@127.0.0.1:19091,2@127.0.0.1:19092,3@127.0.0.1:19093";

    fn given(voters: &str, node_id: Option<i32>) -> Given {
        Given {
            voters: vec![(voters.to_owned(), "--voters".to_owned())],
            listen: None,
            node_id: node_id.map(NodeId),
            in_memory: false,
            has_secret: false,
            insecure: false,
        }
    }

    fn refused(given: Given) -> String {
        let failure = Voters::resolve(given).expect_err("it is refused");
        assert!(!failure.why.is_empty() && !failure.next.is_empty(), "{failure:?}");
        failure.to_string()
    }

    #[test]
    fn a_node_listens_for_its_peers_where_its_own_entry_says() {
        let voters = Voters::resolve(given(THREE, Some(2))).expect("it is complete");
        let ids: Vec<i32> = voters.peers.iter().map(|peer| peer.node_id.0).collect();
        assert_eq!(ids, [1, 2, 3]);
        let listener = voters.listener.clone().expect("it has peers");
        assert!(listener.peers);
        assert_eq!(listener.listen.to_string(), "127.0.0.1:19092");
        assert_eq!(voters.doubt(), None);
    }

    #[test]
    fn it_listens_elsewhere_where_it_is_told_to() {
        let everywhere = "0.0.0.0:7".parse().expect("an address");
        let voters = Voters::resolve(Given {
            listen: Some(everywhere),
            insecure: true,
            ..given("1@one.example:7,2@two.example:7,3@three.example:7", Some(3))
        });
        let listener = voters.expect("it is trusted").listener.expect("it has peers");
        assert_eq!(listener.listen.to_string(), "0.0.0.0:7");
        let told = listener.advertise.expect("its entry");
        assert_eq!(told.to_string(), "three.example:7");
    }

    #[test]
    fn nodes_that_verify_each_other_need_no_word_for_addresses_that_others_reach() {
        let secured = Given {
            listen: Some("0.0.0.0:7".parse().expect("an address")),
            has_secret: true,
            ..given("1@one.example:7,2@two.example:7", Some(1))
        };
        assert!(Voters::resolve(secured).is_ok());
        let alone = Given { voters: Vec::new(), has_secret: true, ..given("", None) };
        assert!(refused(alone).contains("--cluster-secret"));
    }

    #[test]
    fn nobody_named_is_a_node_alone_and_one_named_has_nobody_to_take_in() {
        let none = Given { voters: Vec::new(), ..given("", None) };
        assert_eq!(Voters::resolve(none), Ok(Voters::default()));
        let one = Voters::resolve(given("1@127.0.0.1:1", Some(1))).expect("it is alone");
        assert_eq!((one.peers.len(), one.listener), (1, None));
        let stray = Given {
            voters: Vec::new(),
            listen: Some("127.0.0.1:1".parse().expect("an address")),
            ..given("", None)
        };
        assert!(refused(stray).contains("this node is alone"));
    }

    #[test]
    fn a_list_that_cannot_be_meant_is_refused_in_one_line() {
        for (voters, node, said) in [
            (THREE, Some(4), "--voters names the nodes 1, 2, 3"),
            (THREE, None, "there is no --node-id"),
            ("1@127.0.0.1:1,1@127.0.0.1:2", Some(1), "node 1 stands in it twice"),
            ("1@127.0.0.1:1,2@127.0.0.1:1", Some(1), "nodes 1 and 2 have the same address"),
            ("1@127.0.0.1", Some(1), "it has no port"),
            ("127.0.0.1:1", Some(1), "it has no @"),
            ("x@127.0.0.1:1", Some(1), "is no node id"),
            ("-1@127.0.0.1:1", Some(1), "is no node id"),
            ("1@127.0.0.1:0", Some(1), "no other node could connect"),
            ("1@0.0.0.0:1", Some(1), "no other node could connect"),
            ("1@192.0.2.1:1", Some(1), "mainspring cluster secret"),
        ] {
            let text = refused(given(voters, node));
            assert!(text.contains(said), "{text}");
        }
        let ten: Vec<String> = (1..=10).map(|id| format!("{id}@127.0.0.1:{id}")).collect();
        assert!(refused(given(&ten.join(","), Some(1))).contains("at most 9"));
        let exposed = Given {
            listen: Some("0.0.0.0:1".parse().expect("an address")),
            ..given(THREE, Some(1))
        };
        assert!(refused(exposed).contains("--insecure"));
    }

    #[test]
    fn a_node_of_a_cluster_does_not_forget() {
        let forgetful = Given { in_memory: true, ..given(THREE, Some(1)) };
        assert!(refused(forgetful).contains("--data-dir"));
        let alone = Given { in_memory: true, ..given("1@127.0.0.1:1", Some(1)) };
        assert!(Voters::resolve(alone).is_ok());
    }

    #[test]
    fn an_even_number_is_allowed_and_doubted() {
        let two = Voters::resolve(given("1@127.0.0.1:1,2@127.0.0.1:2", Some(1)));
        let doubt = two.expect("it is allowed").doubt().expect("it is doubted");
        assert!(doubt.contains("than 1 do"), "{doubt}");
    }
}
