//! Any D-Bus service: mirrors declared objects by their signals, and makes the calls that a plan names.
//!
//! | module | what |
//! |---|---|
//! | `actor` | the task that owns connections and mirror |
//! | `entry` | one declared object as it is mirrored; pure |
//! | `link` | a connection: calls and replies, signals handed on |
//! | `call` | calls and their errors |
//! | `describe` | what a service says of itself (Introspect); pure |
//! | `read` | reads one object: look-ups, types, values |
//! | `rules` | which signals are asked for; pure |
//! | `handle` | what steps ask of the actor |
//! | `apply` | the steps |
//!
//! No service is started only to be looked at unless its entry says `activate`; no service that hangs keeps the others
//! waiting: each call is bounded, few of one service are under way at a time, and whoever waits for the mirror waits no
//! longer than 5 s.

mod actor;
mod apply;
mod call;
mod describe;
mod entry;
mod handle;
mod link;
mod read;
mod rules;

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use self::{actor::Actor, apply::Context, handle::Handle};
use crate::{
    desired::ObjectBus,
    model::Change,
    plugins::{Events, Interest, Plugin, PluginError, Work},
};

/// The plugin's name.
pub(super) const NAME: &str = "dbus";

/// How long the plan of a document waits for services that do not answer. What answers later is taken up then.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Where a bus is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusPlace {
    /// Where every program finds that bus.
    Usual,
    /// At that D-Bus address.
    Address(String),
}

/// How the plugin finds services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbusConfig {
    /// The bus of an entry that names none: the one that op-dbus itself is on.
    pub own: ObjectBus,
    /// Where that bus is.
    pub place: BusPlace,
    /// Methods that are never called, as [`crate::plan::matches_call`] reads them.
    pub never_call: Vec<String>,
    /// How long a service may take to answer.
    pub call_limit: Duration,
}

impl DbusConfig {
    /// Services of the system.
    #[must_use]
    pub fn system() -> Self {
        Self {
            own: ObjectBus::System,
            place: BusPlace::Usual,
            never_call: crate::plan::PROTECTED_CALLS.map(str::to_owned).to_vec(),
            call_limit: Duration::from_secs(10),
        }
    }

    /// Services of one's own session.
    #[must_use]
    pub fn session() -> Self {
        Self { own: ObjectBus::Session, ..Self::system() }
    }
}

/// The handle of the plugin.
#[derive(Debug, Clone)]
pub struct Dbus {
    steps: Context,
}

impl Dbus {
    /// Starts the plugin's task on the current tokio runtime. It ends with the last handle.
    #[must_use]
    pub fn spawn(config: DbusConfig, events: Events) -> Self {
        let (commands, receiver) = mpsc::unbounded_channel();
        let steps = Context { handle: Handle::new(commands), events: events.clone() };
        Actor::spawn(config, events, receiver);
        Self { steps }
    }
}

impl Plugin for Dbus {
    fn name(&self) -> &'static str {
        NAME
    }

    fn watch(&self, interest: Interest) -> BoxFuture<'static, Result<(), PluginError>> {
        let handle = self.steps.handle.clone();
        Box::pin(async move { handle.watch(interest.objects).await })
    }

    fn look(&self, interest: Interest) -> BoxFuture<'static, Result<Vec<Change>, PluginError>> {
        let handle = self.steps.handle.clone();
        Box::pin(async move { handle.look(interest.objects).await })
    }

    fn apply(&self, work: Work) -> BoxFuture<'static, ()> {
        super::steps::in_its_own_task(NAME, apply::carry_out(self.steps.clone(), work))
    }
}
