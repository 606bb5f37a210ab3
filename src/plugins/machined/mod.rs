//! Containers without Proxmox VE: images and machines by systemd-machined and systemd-importd over D-Bus, settings by
//! files of systemd-nspawn's where they have no call. Units are the systemd plugin's, ports the ovsdb plugin's.
//!
//! | module | what |
//! |---|---|
//! | `actor` | the task that owns connection and mirror |
//! | `link` | the connection: signals, and who may send them |
//! | `call` | calls and their errors |
//! | `world` | what is there, read whole |
//! | `watch` | the folders of images and settings, watched |
//! | `mirror` | what is there as facts; pure |
//! | `settings` | settings files: read, written whole or not at all |
//! | `transfer` | a transfer of systemd-importd's, followed |
//! | `link_up` | host sides of networks, set up |
//! | `handle` | what steps ask of the actor |
//! | `apply` | the steps |

mod actor;
mod apply;
mod call;
mod handle;
mod link;
mod link_up;
mod mirror;
mod settings;
mod transfer;
mod watch;
mod world;

use std::{path::PathBuf, sync::Arc};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch as channel};

use self::{actor::Actor, apply::Context, handle::Handle, settings::store::Store};
use crate::{
    model::Change,
    plugins::{Events, Interest, Plugin, PluginError, Work},
};

/// The plugin's name: what has containers in hand is the backend of `lxc`.
pub(super) const NAME: &str = "lxc";

/// Where the services are found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum BusChoice {
    /// The system bus.
    #[default]
    System,
    /// A bus at that D-Bus address.
    Address(String),
}

/// How the plugin finds systemd-machined, and where its files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachinedConfig {
    /// The bus that it is on.
    pub bus: BusChoice,
    /// /etc/machine-id: the mark of settings files.
    pub machine_id: String,
    /// Where systemd-machined keeps images.
    pub images: PathBuf,
    /// Where systemd-nspawn looks for settings that it trusts.
    pub settings: PathBuf,
}

impl MachinedConfig {
    /// Of the system.
    #[must_use]
    pub fn system(machine_id: &str) -> Self {
        Self {
            bus: BusChoice::System,
            machine_id: machine_id.to_owned(),
            images: "/var/lib/machines".into(),
            settings: "/etc/systemd/nspawn".into(),
        }
    }
}

/// The handle of the plugin.
#[derive(Debug, Clone)]
pub struct Machined {
    steps: Context,
}

impl Machined {
    /// Starts the plugin's task on the current tokio runtime. It ends with the last handle.
    #[must_use]
    pub fn spawn(config: MachinedConfig, events: Events) -> Self {
        let (commands, receiver) = mpsc::unbounded_channel();
        let (connected, connection) = channel::channel(None);
        let store = Arc::new(Store::new(&config.settings, &config.machine_id));
        let steps = Context { handle: Handle::new(commands, connection), events: events.clone(), store: store.clone() };
        Actor::spawn(config, store, events, receiver, connected);
        Self { steps }
    }
}

impl Plugin for Machined {
    fn name(&self) -> &'static str {
        NAME
    }

    fn watch(&self, interest: Interest) -> BoxFuture<'static, Result<(), PluginError>> {
        let handle = self.steps.handle.clone();
        Box::pin(async move { Ok(handle.watch(interest).await?) })
    }

    fn look(&self, _interest: Interest) -> BoxFuture<'static, Result<Vec<Change>, PluginError>> {
        // All images and machines are mirrored always.
        Box::pin(async { Ok(Vec::new()) })
    }

    fn apply(&self, work: Work) -> BoxFuture<'static, ()> {
        super::steps::in_its_own_task(NAME, apply::carry_out(self.steps.clone(), work))
    }
}
