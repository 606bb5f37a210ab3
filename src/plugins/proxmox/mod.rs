//! Proxmox VE, over its REST API: lists, makes, configures, starts, stops and removes its containers.
//!
//! ```text
//! token, trust -> client -> mirror -> actor -> events      (one task: the connection and what is mirrored)
//!                    |                  ^
//!                    +----> apply ------+   params, task   (steps, each looked at again before it counts)
//! ```
//!
//! On the bus it is the plugin `lxc`: whoever has containers in hand is that.

mod actor;
mod apply;
mod client;
mod config;
mod error;
mod mirror;
pub mod params;
mod props;
#[cfg(test)]
mod schema_tests;
mod task;
mod token;
mod trust;
mod upload;

use std::{collections::BTreeSet, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::{mpsc, oneshot};

use self::{actor::Message, apply::Applier};
use super::{Events, Interest, Plugin, PluginError, Work};
use crate::model::{Change, Name};

pub use self::{
    client::{Call, Verb},
    error::ApiError,
    token::{Secret, SecretError, SecretSource},
    trust::{Fingerprint, Trust, TrustError, fingerprint},
};

/// The plugin's name on the bus.
pub const NAME: &str = "lxc";

/// How long things may take, and how often they are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// To connect.
    pub connect: Duration,
    /// A call that reads.
    pub read: Duration,
    /// A call that changes: Proxmox VE waits up to 10 s for its own locks.
    pub write: Duration,
    /// A task: unpacking a large template onto slow disks takes minutes.
    pub task: Duration,
    /// An upload, from its first byte to its answer: the archive goes over the network at whatever speed that has.
    pub upload: Duration,
    /// A container that was asked to shut down, before it is made to.
    pub shutdown: Duration,
    /// Between two looks at the list, where nothing hints at a change.
    pub poll: Duration,
    /// Between two looks at each configuration, which no list shows.
    pub sweep: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(10),
            write: Duration::from_secs(60),
            task: Duration::from_secs(600),
            upload: Duration::from_secs(3600),
            shutdown: Duration::from_secs(60),
            poll: Duration::from_secs(10),
            sweep: Duration::from_secs(60),
        }
    }
}

/// What the plugin must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the API is: `https://127.0.0.1:8006`.
    pub url: String,
    /// The node that op-dbus runs on, and that a container is on where the document does not say.
    pub node: String,
    /// Where the token is.
    pub token: SecretSource,
    /// What the other end must show.
    pub trust: Trust,
    /// How long things may take.
    pub timing: Timing,
}

impl Settings {
    #[cfg(test)]
    pub(super) fn for_tests(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            node: "pve1".to_owned(),
            token: SecretSource::Credential("none".to_owned()),
            trust: Trust::Insecure,
            timing: Timing::default(),
        }
    }
}

/// Proxmox VE's handle. With its last clone the connection ends.
#[derive(Debug, Clone)]
pub struct Proxmox {
    messages: mpsc::UnboundedSender<Message>,
    applier: Applier,
}

impl Proxmox {
    /// Starts to connect, and goes on until the last handle is dropped. To be called within a tokio runtime.
    #[must_use]
    pub fn start(settings: Settings, events: Events) -> Self {
        let (messages, received) = mpsc::unbounded_channel();
        let client = actor::start(settings.clone(), events.clone(), received);
        let applier = Applier::new(settings, events, client, messages.clone());
        Self { messages, applier }
    }

    fn away() -> PluginError {
        PluginError::Away { plugin: NAME, why: "op-dbus is ending".to_owned() }
    }
}

impl Plugin for Proxmox {
    fn name(&self) -> &'static str {
        NAME
    }

    fn watch(&self, interest: Interest) -> BoxFuture<'static, Result<(), PluginError>> {
        let (reply, answer) = oneshot::channel();
        drop(self.messages.send(Message::Watch(Box::new(interest), reply)));
        async move { answer.await.unwrap_or_else(|_| Err(Self::away())) }.boxed()
    }

    fn look(&self, interest: Interest) -> BoxFuture<'static, Result<Vec<Change>, PluginError>> {
        if interest.containers.is_empty() && interest.templates.is_empty() {
            return futures::future::ready(Ok(Vec::new())).boxed();
        }
        let (reply, answer) = oneshot::channel();
        drop(self.messages.send(Message::Look(Box::new(interest), reply)));
        async move { answer.await.unwrap_or_else(|_| Err(Self::away())) }.boxed()
    }

    fn hint(&self, containers: BTreeSet<Name>) {
        drop(self.messages.send(Message::Hint(containers)));
    }

    fn apply(&self, work: Work) -> BoxFuture<'static, ()> {
        super::steps::in_its_own_task(NAME, self.applier.clone().apply(work))
    }
}
