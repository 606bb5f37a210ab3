//! Packages: op-dbus reads and watches the package database itself, and has PackageKit do everything else.
//!
//! | module | what |
//! |---|---|
//! | `follow` | the task that follows the bus, the package database and PackageKit's signals |
//! | `keeper` | what the tasks share: mirror, connection, questions |
//! | `client` | the life of a transaction |
//! | `wire` | PackageKit's numbers and ids |
//! | `database` | dpkg's and rpm's databases: read, watched |
//! | `catalogue` | what is offered, and what of it satisfies an entry; pure |
//! | `outlook` | what changes would bring with them |
//! | `mirror` | what is known, made into facts; pure |
//! | `version` | which of two versions is newer; pure |
//! | `apply` | the steps |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod apply;
mod catalogue;
mod client;
mod database;
mod follow;
mod keeper;
mod mirror;
mod outlook;
mod version;
mod wire;

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;

pub use self::database::PackageFolders;
use self::keeper::Keeper;
use crate::{
    model::Change,
    plugins::{Events, Interest, Plugin, PluginError, Work, systemd::BusChoice},
};

/// The plugin's name.
const NAME: &str = "packagekit";

/// How the plugin finds PackageKit and the package database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageKitConfig {
    /// The bus that PackageKit is on.
    pub bus: BusChoice,
    /// Where the package database is.
    pub folders: PackageFolders,
    /// How long somebody else may hold the package database before a step gives up for now.
    pub lock_timeout: Duration,
}

impl PackageKitConfig {
    /// Of the system.
    #[must_use]
    pub fn system() -> Self {
        Self { bus: BusChoice::System, folders: PackageFolders::system(), lock_timeout: Duration::from_secs(600) }
    }
}

/// The handle of the plugin.
#[derive(Debug, Clone)]
pub struct PackageKit(Arc<Keeper>);

impl PackageKit {
    /// Starts the plugin's task on the current tokio runtime.
    #[must_use]
    pub fn spawn(config: PackageKitConfig, events: Events) -> Self {
        let keeper = Arc::new(Keeper::new(config, events));
        tokio::spawn(follow::follow(keeper.clone()));
        Self(keeper)
    }
}

impl Plugin for PackageKit {
    fn name(&self) -> &'static str {
        NAME
    }

    fn watch(&self, interest: Interest) -> BoxFuture<'static, Result<(), PluginError>> {
        self.0.watch(interest);
        Box::pin(std::future::ready(Ok(())))
    }

    fn look(&self, interest: Interest) -> BoxFuture<'static, Result<Vec<Change>, PluginError>> {
        let keeper = self.0.clone();
        Box::pin(async move { keeper.look(interest).await })
    }

    fn prepare(&self, interest: Interest) -> BoxFuture<'static, ()> {
        let keeper = self.0.clone();
        Box::pin(async move { keeper.prepare(interest).await })
    }

    fn apply(&self, work: Work) -> BoxFuture<'static, ()> {
        super::steps::in_its_own_task(NAME, apply::carry_out(self.0.clone(), work))
    }
}
