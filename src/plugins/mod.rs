//! The backends, each behind [`Plugin`]: the only code that knows its backend, and that knows no other plugin.

pub(crate) mod backoff;
pub mod dbus;
pub mod lxc;
pub mod machined;
pub mod ovsdb;
pub mod packagekit;
pub mod proxmox;
#[cfg(test)]
pub(crate) mod simulated;
mod steps;
pub mod systemd;

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::{
    desired::{ContainerSpec, ObjectSpec, PackageSettings, PackageSpec, TemplateSpec},
    model::{Backend, Change, JobId, Name, Reason, StepState},
    plan::{Step, StepId},
};

/// What must be mirrored although nobody would know it by itself: declared units, with the properties declared for
/// each, and declared packages. (Container units, bridges and ports are mirrored always.)
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Interest {
    /// Unit to its declared properties.
    pub units: BTreeMap<Name, Vec<String>>,
    /// Every unit whose file has an `[Install]` section; only for [`Plugin::look`].
    pub installable: bool,
    /// Declared packages, as the document spells them: what must be known of each depends on what it shall be.
    pub packages: BTreeMap<Name, PackageSpec>,
    /// What the document says of all of them.
    pub package_settings: PackageSettings,
    /// Declared objects of other D-Bus services.
    pub objects: BTreeMap<Name, Arc<ObjectSpec>>,
    /// Declared containers, whose configuration the runtime's plugin mirrors, with what the document says of them: what
    /// it names (nodes, storages, templates) is looked up for planning.
    pub containers: BTreeMap<Name, Arc<ContainerSpec>>,
    /// Declared templates, by name.
    pub templates: BTreeMap<Name, Arc<TemplateSpec>>,
}

/// Steps of one job that may run now.
#[derive(Debug, Clone)]
pub struct Work {
    /// The job.
    pub job: JobId,
    /// The steps. One may wait for another of the same batch (`after`); the plugin keeps that order, and does all in
    /// one write where its backend has transactions.
    pub steps: Vec<Arc<Step>>,
}

/// What a plugin tells the model's writer. One channel carries all of it, so that facts come before the report of
/// the step that caused them.
#[derive(Debug)]
pub enum PluginEvent {
    /// Observed changes, drained from the backend as one batch.
    Changes(Vec<Change>),
    /// All that the plugin mirrors, whole: after a (re)connection. What it does not name is gone.
    Reset(Vec<Change>),
    /// The state of the backend.
    Backend(Backend),
    /// systemd is reloading or shutting down (`true`), or is through with it: meanwhile nothing is drift.
    Busy(bool),
    /// So many updates the backend has for this machine.
    Updates(u32),
    /// News of a step.
    Step {
        /// Of that job.
        job: JobId,
        /// That step.
        step: StepId,
        /// Where it stands.
        state: StepState,
        /// Why it failed, or what it waits for while it runs; [`Reason::None`] otherwise.
        reason: Reason,
        /// For people.
        message: String,
        /// Trying again may help, without anybody's doing.
        retry: bool,
        /// Something was written to the backend (false where all was found as wanted).
        wrote: bool,
    },
    /// How far a step has come that its backend tells the progress of (a download, a task). Each is a signal: not more
    /// often than a few times a second.
    Progress {
        /// Of that job.
        job: JobId,
        /// That step.
        step: StepId,
        /// Share of it that is done, 0 to 1.
        share: f64,
        /// What it is doing, for people: the current package, the task's last line of log.
        message: String,
    },
}

/// A sender of events, tagged with the plugin's name.
#[derive(Debug, Clone)]
pub struct Events {
    plugin: &'static str,
    sender: mpsc::UnboundedSender<(&'static str, PluginEvent)>,
}

impl Events {
    /// A sender for that plugin.
    #[must_use]
    pub const fn new(plugin: &'static str, sender: mpsc::UnboundedSender<(&'static str, PluginEvent)>) -> Self {
        Self { plugin, sender }
    }

    /// Sends; after the writer has ended, to nobody.
    pub fn send(&self, event: PluginEvent) {
        // The receiver goes away only when the daemon ends.
        let _ = self.sender.send((self.plugin, event));
    }
}

/// Why a backend could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PluginError {
    /// It is away; trying again may help.
    #[error("{plugin} is not available: {why}")]
    Away {
        /// The plugin.
        plugin: &'static str,
        /// Why.
        why: String,
    },
    /// It answered with an error.
    #[error("{plugin} refused: {why}")]
    Refused {
        /// The plugin.
        plugin: &'static str,
        /// Why.
        why: String,
    },
}

impl PluginError {
    /// Whether trying again may help, without anybody's doing.
    #[must_use]
    pub const fn may_retry(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

/// A backend. Implementations are handles: their own task owns connection and mirror.
pub trait Plugin: fmt::Debug + Send + Sync {
    /// Its name on the bus.
    fn name(&self) -> &'static str;

    /// Replaces what must be mirrored from now on, and answers once the model was sent the facts of all of it.
    /// While the backend is away it answers at once and mirrors when it is back.
    fn watch(&self, interest: Interest) -> BoxFuture<'static, Result<(), PluginError>>;

    /// Reads the facts of what the interest names, once, and mirrors nothing more than before. Every plugin is asked:
    /// one that the interest does not concern answers at once.
    fn look(&self, interest: Interest) -> BoxFuture<'static, Result<Vec<Change>, PluginError>>;

    /// Brings what planning must know of the interest up to date where no event does so, before a job plans: what
    /// repositories offer, and what changes would bring with them. Answers once the model was sent it; where it cannot
    /// be had, the facts say so.
    fn prepare(&self, _interest: Interest) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    /// What another backend told hints that these containers are not any more as this plugin last saw them. A plugin
    /// that is told of changes by its own backend needs no hints.
    fn hint(&self, containers: std::collections::BTreeSet<Name>) {
        drop(containers);
    }

    /// Carries out steps, reporting each by [`PluginEvent::Step`] up to a final state, and answers when all have one.
    /// A step that has started is finished; dropping the future must not leave half a write.
    fn apply(&self, work: Work) -> BoxFuture<'static, ()>;
}
