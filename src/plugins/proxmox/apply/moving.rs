//! A container on its way to another node.

use tokio::time::{Instant, sleep};

use super::{Did, Hand, StepError};
use crate::{
    model::{MOVING, Name, Reason},
    plan::Relocation,
    plugins::proxmox::{
        error::ApiError,
        params,
        task::{self, LAST_LOOK},
    },
};

/// The tasks that move a container: by its node itself, and by the cluster's high availability, whose task ends once
/// the move is asked for.
const MOVES: [&str; 2] = ["vzmigrate", "hamigrate"];

impl Hand<'_> {
    /// Takes a container to another node. What is under way to there, by an earlier op-dbus or by somebody else, is
    /// waited for first.
    pub(super) async fn relocate(&self, id: &Name, to: &Relocation) -> Result<Did, StepError> {
        let before = self.found(id).await?;
        let mut did = Did::default();
        if let Some(upid) = task::running(self.client, &before.node, id, &MOVES).await? {
            did = self.wait(&upid).await?;
        }
        let found = self.found(id).await?;
        if found.node == to.node {
            return Ok(did);
        }
        if found.lock == MOVING {
            let text = format!(
                "container {id} is locked on node {} by a move that does not run any more: see what it left, unlock it there (pct unlock {id}), then reconcile again",
                found.node
            );
            return Err(StepError::cannot(Reason::Locked, text));
        }
        let running = self.is_running(id, &found.node).await?;
        if running && !to.restart {
            let text = format!("it runs on node {}, and is moved only by a restart", found.node);
            return Err(StepError::cannot(Reason::RestartNeeded, text));
        }
        let patience = running.then_some(self.applier.settings.timing.shutdown);
        let call = params::migrate(&found.node, id, to, patience);
        did = match self.task(&call).await {
            // Its answer was lost: it may be on its way all the same.
            Err(StepError::Api(error)) if error.is_in_doubt() => {
                let Some(upid) = task::running(self.client, &found.node, id, &MOVES).await? else {
                    return self.arrived(id, to, error).await;
                };
                self.wait(&upid).await?
            }
            result => result?,
        };
        self.until_there(id, &found.node, to).await?;
        if running && !self.is_running(id, &to.node).await? {
            return Err(StepError::cannot(
                Reason::JobFailed,
                format!("it was moved to node {}, and does not run", to.node),
            ));
        }
        Ok(did)
    }

    /// No task of its move runs: done by now, or never begun.
    async fn arrived(&self, id: &Name, to: &Relocation, error: ApiError) -> Result<Did, StepError> {
        if self.found(id).await?.node == to.node {
            return Ok(Did { wrote: true, said: String::new() });
        }
        Err(error.into())
    }

    /// Waits until it is there: what high availability was asked for, it does in its own time.
    async fn until_there(&self, id: &Name, from: &str, to: &Relocation) -> Result<(), StepError> {
        let until = Instant::now() + self.applier.settings.timing.task;
        loop {
            let found = self.found(id).await?;
            if found.node == to.node && found.lock != MOVING {
                return Ok(());
            }
            if let Some(upid) = task::running(self.client, from, id, &MOVES).await? {
                self.wait(&upid).await?;
            } else if Instant::now() >= until {
                let text = format!("it was asked for, and container {id} is still on node {}", found.node);
                return Err(ApiError::Busy(text).into());
            } else {
                sleep(LAST_LOOK).await;
            }
        }
    }
}
