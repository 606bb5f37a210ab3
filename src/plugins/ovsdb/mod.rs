//! Open vSwitch, over OVSDB's JSON-RPC (RFC 7047, ovsdb-server(7)).
//!
//! ```text
//! bytes -> frame -> rpc -> session -> cache -> mirror -> events
//!                             ^                  |
//!                 client (connects again)        v
//!                             |      apply: transact, outcome, verify
//! ```

mod apply;
mod cache;
mod client;
mod frame;
mod mirror;
mod outcome;
mod remote;
mod row;
mod rpc;
mod schema;
mod session;
mod transact;
mod value;
mod verify;

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};

use self::{apply::Applier, client::Shared};
use super::{Events, Interest, Plugin, PluginError, Work};
use crate::model::Change;

pub use client::Timing;
pub use remote::{BadRemote, Remote};

/// The plugin's name on the bus.
pub const NAME: &str = "ovsdb";

/// What the plugin must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the database is.
    pub remote: Remote,
    /// The value of the mark `opdbus-owner` on what is made here: /etc/machine-id.
    pub machine_id: String,
    /// How long things may take.
    pub timing: Timing,
}

/// Open vSwitch's handle. With its last clone the connection ends.
#[derive(Debug, Clone)]
pub struct Ovsdb(Applier);

impl Ovsdb {
    /// Starts to connect, and goes on until the last handle is dropped. To be called within a tokio runtime.
    #[must_use]
    pub fn start(settings: Settings, events: Events) -> Self {
        let shared: Arc<Shared> = client::start(settings.remote, settings.timing, events.clone());
        Self(Applier {
            shared,
            events,
            machine_id: settings.machine_id.into(),
            timing: settings.timing,
            writing: Arc::default(),
        })
    }
}

impl Plugin for Ovsdb {
    fn name(&self) -> &'static str {
        NAME
    }

    /// All bridges and ports are mirrored always: nothing is left to do.
    fn watch(&self, _interest: Interest) -> BoxFuture<'static, Result<(), PluginError>> {
        futures::future::ready(Ok(())).boxed()
    }

    /// All bridges and ports are mirrored always: nothing is left to read.
    fn look(&self, _interest: Interest) -> BoxFuture<'static, Result<Vec<Change>, PluginError>> {
        futures::future::ready(Ok(Vec::new())).boxed()
    }

    fn apply(&self, work: Work) -> BoxFuture<'static, ()> {
        super::steps::in_its_own_task(NAME, self.0.clone().apply(work))
    }
}
