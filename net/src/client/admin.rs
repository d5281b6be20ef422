//! Administrative requests in the background: any thread asks, the answer is a [`Call`].

use std::collections::BTreeMap;
use std::time::Duration;

use mainspring_core::client::admin::{Admin, AdminTarget, CallId};
use mainspring_core::client::network::NetworkConfig;
use mainspring_core::client::{ClientError, Effect, Input};
use mainspring_core::time::{Instant, Now};
use mainspring_core::wire::{Request, Response};

use super::Machine;
use super::background::{Background, Door, Work, run};
use super::call::{Call, Promise};

/// An administrator that any thread may use.
#[derive(Debug)]
pub struct BackgroundAdmin(Door<Asking>);

impl BackgroundAdmin {
    /// Connects to nothing before the first request. A request that finds no broker for `timeout`
    /// fails.
    pub fn start(background: &Background, network: NetworkConfig, timeout: Duration) -> Self {
        let admin = Admin::new(network, timeout);
        Self(run(background, Asking { admin, calls: BTreeMap::new(), is_over: false }))
    }

    /// Sends a request once, and answers with what the broker answered.
    pub fn call(
        &self,
        target: AdminTarget,
        request: impl Into<Request>,
    ) -> Call<Result<Response, ClientError>> {
        let request = request.into();
        self.0.request(move |asking, now, promise| {
            let id = asking.admin.call(now, target, request);
            asking.calls.insert(id, promise);
        })
    }

    /// Ends it; what has no answer yet fails.
    pub fn close(&self) {
        self.0.order(|asking, _| asking.is_over = true);
    }
}

/// For tests of what becomes of those who wait.
#[cfg(debug_assertions)]
impl BackgroundAdmin {
    /// Has the task panic.
    pub fn break_down(&self) {
        self.0.break_down();
    }
}

impl Drop for BackgroundAdmin {
    fn drop(&mut self) {
        self.close();
    }
}

struct Asking {
    admin: Admin,
    calls: BTreeMap<CallId, Promise<Result<Response, ClientError>>>,
    is_over: bool,
}

impl Machine for Asking {
    fn handle(&mut self, now: Now, input: Input) {
        self.admin.handle(now, input);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.admin.poll_effect()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.admin.next_deadline()
    }
}

impl Work for Asking {
    fn work(&mut self, _: Now) -> Option<Duration> {
        while let Some((id, answer)) = self.admin.poll_answer() {
            if let Some(call) = self.calls.remove(&id) {
                call.complete(answer);
            }
        }
        if self.is_over {
            for call in std::mem::take(&mut self.calls).into_values() {
                call.complete(Err(ClientError::Disconnected));
            }
        }
        None
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}
