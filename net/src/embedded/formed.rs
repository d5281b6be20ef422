//! Whether the nodes of a cluster know each other: one that serves is counted by the others a moment later, and
//! until then topics find too few to hold them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use mainspring_core::client::admin::{Admin, AdminTarget, describe_topics};
use mainspring_core::client::network::NetworkConfig;
use mainspring_core::wire::Response;

use super::NodeState;
use super::seat::Seat;
use crate::client::Driver;
use crate::rt;

/// How long one node may take to answer before the nodes are looked at anew.
const ASK: Duration = Duration::from_secs(1);
/// Pause between two rounds.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until every node that runs says that all who run are there, and who leads them.
pub(super) async fn settled(seats: &[Seat]) {
    loop {
        let running: Vec<&Seat> =
            seats.iter().filter(|seat| seat.state() == NodeState::Running).collect();
        let ids: BTreeSet<i32> = running.iter().map(|seat| seat.id().0).collect();
        let mut is_settled = true;
        for seat in running {
            is_settled = is_settled && known_to(seat.address()).await.is_superset(&ids);
        }
        if is_settled {
            return;
        }
        rt::sleep(PAUSE).await;
    }
}

/// Asks a node which nodes there are; none, where it does not answer or knows no controller.
async fn known_to(address: SocketAddr) -> BTreeSet<i32> {
    let network = NetworkConfig::new(vec![(address.ip().to_string().into(), address.port())]);
    let mut driver = Driver::new(Admin::new(network, ASK));
    let now = driver.now();
    driver.machine().call(now, AdminTarget::Any, describe_topics(Some(&[])));
    let answer = async {
        loop {
            driver.turn(None).await;
            if let Some((_, answer)) = driver.machine().poll_answer() {
                return answer;
            }
        }
    };
    let answer = rt::select_biased! {
        answer = answer => answer,
        () = rt::sleep(ASK) => return BTreeSet::new(),
    };
    match answer {
        Ok(Response::Metadata(answer)) if answer.controller_id >= 0 => {
            answer.brokers.iter().map(|broker| broker.node_id).collect()
        }
        Ok(_) | Err(_) => BTreeSet::new(),
    }
}
