//! Whether a connection is read from, and how much at a time.

use crate::ids::ConnectionId;
use crate::io::{Effect, Effects, Mark};

/// Most bytes of a read while no large frame is under way.
pub const READ_BYTES: usize = 64 << 10;
/// Most bytes of a read while the pool of unfinished frames is full.
pub const READ_BYTES_SHARED: usize = 4 << 10;
/// Most bytes of any read, so that memory is charged as it arrives.
pub const READ_BYTES_MAX: usize = 1 << 20;

/// Returns how many bytes are read at a time while the first frame lacks so many.
pub fn want(missing: usize) -> usize {
    missing.clamp(READ_BYTES, READ_BYTES_MAX)
}

/// What the driver was last told.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    on: bool,
    want: usize,
}

impl Default for Flow {
    fn default() -> Self {
        Self { on: true, want: READ_BYTES }
    }
}

impl Flow {
    /// Tells the driver what differs from what it was last told.
    pub fn steer(&mut self, connection: ConnectionId, on: bool, want: usize, fx: &mut Effects) {
        if on && want != self.want {
            self.want = want;
            fx.push(Effect::Want { connection, bytes: want });
        }
        if on != self.on {
            self.on = on;
            fx.push(Effect::Reading { connection, on });
            if !on {
                fx.mark(Mark::PeerHeldBack);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Event;

    #[test]
    fn the_driver_is_told_only_what_changes() {
        let (mut flow, mut fx, c) = (Flow::default(), Effects::default(), ConnectionId(1));
        flow.steer(c, true, want(0), &mut fx);
        assert!(fx.pop().is_none());
        flow.steer(c, true, want(50 << 20), &mut fx);
        assert!(matches!(fx.pop(), Some(Effect::Want { bytes: READ_BYTES_MAX, .. })));
        flow.steer(c, false, want(50 << 20), &mut fx);
        assert!(matches!(fx.pop(), Some(Effect::Reading { on: false, .. })));
        let held = Effect::Observe(Event::Mark(Mark::PeerHeldBack));
        assert_eq!(format!("{:?}", fx.pop()), format!("{:?}", Some(held)));
        flow.steer(c, true, want(3), &mut fx);
        assert!(matches!(fx.pop(), Some(Effect::Want { bytes: READ_BYTES, .. })));
        assert!(matches!(fx.pop(), Some(Effect::Reading { on: true, .. })));
        assert!(fx.pop().is_none());
    }
}
