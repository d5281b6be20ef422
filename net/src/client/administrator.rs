//! Operations of an administrator in the background: any thread starts one, the answer is a [`Call`].

use std::sync::Arc;
use std::time::Duration;

use mainspring_core::client::ClientError;
use mainspring_core::client::admin::AdminTarget;
use mainspring_core::client::settings::AdminConfig;
use mainspring_core::wire::{Request, Response};

use super::admin::BackgroundAdmin;
use super::background::Background;
use super::call::{Call, Promise};
use super::operations::{Asks, Operations, Refusal};
use crate::rt::mpsc;

/// An administrator that any thread may use.
#[derive(Clone, Debug)]
pub struct Administrator {
    background: Background,
    admin: Arc<BackgroundAdmin>,
    timeout: Duration,
}

impl Administrator {
    /// Connects to nothing before the first operation.
    pub fn start(background: &Background, config: AdminConfig) -> Self {
        let AdminConfig { network, api_timeout } = config;
        Self {
            background: background.clone(),
            admin: Arc::new(BackgroundAdmin::start(background, network, api_timeout)),
            timeout: api_timeout,
        }
    }

    /// Starts an operation, which goes on to its end whether or not anybody waits for it.
    pub fn run<T, F>(
        &self,
        operation: impl FnOnce(Operations<Self>) -> F,
    ) -> Call<Result<T, Refusal>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        // Its task ends with it: there is nobody who would ask that task for more.
        let promise = Promise::detached();
        let call = promise.call();
        let running = operation(Operations::new(self.clone(), self.timeout));
        self.background.spawn(async move { promise.complete(running.await) });
        call
    }

    /// Ends it; operations that are not at their end fail.
    pub fn close(&self) {
        self.admin.close();
    }
}

/// For tests of what becomes of those who wait.
#[cfg(debug_assertions)]
impl Administrator {
    /// Has the task panic that asks for all operations.
    pub fn break_down(&self) {
        self.admin.break_down();
    }
}

impl Asks for Administrator {
    type Failure = Refusal;

    async fn ask_all(
        &mut self,
        requests: Vec<(AdminTarget, Request)>,
    ) -> Result<Vec<Result<Response, ClientError>>, Refusal> {
        let calls: Vec<_> = requests
            .into_iter()
            .map(|(target, request)| self.admin.call(target, request))
            .collect();
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            let (done, mut waiting) = mpsc::unbounded_channel();
            call.on_done(Box::new(move || {
                // Whoever waits may be gone.
                let _ = done.send(());
            }));
            waiting.recv().await;
            answers.push(match call.take() {
                Some(Ok(answer)) => answer,
                Some(Err(reason)) => Err(reason.into()),
                None => Err(ClientError::Disconnected),
            });
        }
        Ok(answers)
    }
}
