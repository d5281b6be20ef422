//! The place of a client that takes no part, so that the others keep their numbers.

use crate::world::{Actor, ActorEvent, Hands};

/// Does nothing and waits for nothing.
#[derive(Debug)]
pub struct Absent;

impl Actor for Absent {
    fn handle(&mut self, _hands: &mut Hands<'_>, _event: ActorEvent) {}

    fn pending(&self) -> Option<String> {
        None
    }

    fn takes_part(&self) -> bool {
        false
    }
}
