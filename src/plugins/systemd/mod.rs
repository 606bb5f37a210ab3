//! systemd over D-Bus: mirrors declared units and containers' units by signals alone, and carries out unit steps.
//!
//! | module | what |
//! |---|---|
//! | `actor` | the task that owns connection and mirror |
//! | `link` | the connection: calls and replies in the order of the bus |
//! | `call` | calls and their errors |
//! | `decode` | messages to signals and answers, questions to messages |
//! | `mirror`, `exchange`, `entry`, `parts`, `triggers` | signals and answers to facts; pure |
//! | `unitfiles` | the folders of unit files, watched |
//! | `properties` | values of properties: JSON to D-Bus and back |
//! | `pattern` | patterns of unit names |
//! | `handle` | what steps ask of the actor |
//! | `apply` | the steps |

mod actor;
mod apply;
mod call;
mod decode;
mod entry;
mod exchange;
mod handle;
mod link;
mod mirror;
mod parts;
mod pattern;
mod properties;
mod triggers;
mod unitfiles;

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use self::{actor::Actor, apply::Context, handle::Handle};
pub use self::{link::BusChoice, unitfiles::UnitFolders};
use crate::{
    model::Change,
    plugins::{Events, Interest, Plugin, PluginError, Work},
};

/// The plugin's name.
pub(super) const NAME: &str = "systemd";

/// How the plugin finds systemd, and what it looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemdConfig {
    /// The bus that systemd is on.
    pub bus: BusChoice,
    /// Patterns of containers' units (`*` and `?`), as `pve-container@*.service`: mirrored always.
    pub container_patterns: Vec<String>,
    /// How long a unit must stay up after its start before the start counts.
    pub hold_down: Duration,
    /// Where units are configured.
    pub unit_folders: UnitFolders,
    /// The target that units without an `[Install]` section are linked to when they are to be enabled.
    pub default_target: String,
    /// How long systemd may take to answer a call, but for those that reload it.
    pub call_limit: Duration,
}

impl SystemdConfig {
    /// Of the system's manager.
    #[must_use]
    pub fn system() -> Self {
        Self {
            bus: BusChoice::System,
            container_patterns: ["pve-container@*.service", "lxc@*.service", "systemd-nspawn@*.service"]
                .map(str::to_owned)
                .to_vec(),
            hold_down: Duration::from_secs(2),
            unit_folders: UnitFolders::system(),
            default_target: "multi-user.target".to_owned(),
            // What D-Bus libraries wait by default.
            call_limit: Duration::from_secs(25),
        }
    }

    /// Of the manager of one's own session; containers are the system's, so none are looked for.
    #[must_use]
    pub fn session() -> Self {
        Self {
            bus: BusChoice::Session,
            container_patterns: Vec::new(),
            unit_folders: UnitFolders::user(),
            default_target: "default.target".to_owned(),
            ..Self::system()
        }
    }
}

/// The handle of the plugin.
#[derive(Debug, Clone)]
pub struct Systemd {
    steps: Context,
}

impl Systemd {
    /// Starts the plugin's task on the current tokio runtime. It ends with the last handle.
    #[must_use]
    pub fn spawn(config: SystemdConfig, events: Events) -> Self {
        let (commands, receiver) = mpsc::unbounded_channel();
        let steps = Context {
            handle: Handle::new(commands, config.call_limit),
            events: events.clone(),
            hold_down: config.hold_down,
            default_target: config.default_target.clone(),
        };
        Actor::spawn(config, events, receiver);
        Self { steps }
    }
}

impl Plugin for Systemd {
    fn name(&self) -> &'static str {
        NAME
    }

    fn watch(&self, interest: Interest) -> BoxFuture<'static, Result<(), PluginError>> {
        let handle = self.steps.handle.clone();
        Box::pin(async move { handle.watch(interest).await })
    }

    fn look(&self, interest: Interest) -> BoxFuture<'static, Result<Vec<Change>, PluginError>> {
        let handle = self.steps.handle.clone();
        Box::pin(async move { handle.look(interest).await })
    }

    fn apply(&self, work: Work) -> BoxFuture<'static, ()> {
        super::steps::in_its_own_task(NAME, apply::carry_out(self.steps.clone(), work))
    }
}
