//! What a plan is made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    desired::{BridgeSpec, ContainerSpec, PackageSpec, PortSpec, TemplateSpec},
    model::{Difference, Name, Reason, Subject},
};

use super::object::ObjectOp;

/// The key in external_ids that bears a machine's mark; its value is the machine id.
pub const OWNER_KEY: &str = "opdbus-owner";

/// Number of a step within its plan, from 1.
pub type StepId = u32;

/// A plan: steps in an order that respects their dependencies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The steps; `steps[i].id == i + 1`, and each waits only for steps before it.
    pub steps: Vec<Arc<Step>>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its number.
    pub id: StepId,
    /// What it is about.
    pub subject: Subject,
    /// What it does.
    pub action: Action,
    /// The fields it changes: desired and observed.
    pub changes: Vec<Difference>,
    /// Steps that must be done before.
    pub after: Vec<StepId>,
    /// Why it cannot be attempted, if so, and a text for people.
    pub blocked: Option<(Reason, String)>,
    /// What people should know before they agree.
    pub warnings: Vec<String>,
}

impl Step {
    /// Whether what it does could be undone: what ran before a restart does not come back, a reload of systemd has no
    /// opposite, and a package's scripts may do anything, its files go with their changes, and its old version may be
    /// offered no more.
    #[must_use]
    pub fn is_reversible(&self) -> bool {
        if let Action::Container(_, ContainerOp::Move(to)) = &self.action {
            return !to.restart;
        }
        !matches!(
            self.action,
            Action::Unit(_, UnitOp::Restart)
                | Action::ReloadSystemd
                | Action::Package(..)
                | Action::Object(_, ObjectOp::Create(_) | ObjectOp::Remove(_))
                | Action::Container(
                    _,
                    ContainerOp::Restart
                        | ContainerOp::Grow(_)
                        | ContainerOp::MakeTemplate
                        | ContainerOp::Destroy { .. }
                )
        )
    }

    /// What it does, for people: `start unit nginx.service`.
    #[must_use]
    pub fn summary(&self) -> String {
        let what = match &self.subject {
            Subject::State => "the desired state".to_owned(),
            Subject::Plugin(name) => (*name).to_owned(),
            Subject::Resource(id) => format!("{} {}", id.kind, id.name),
        };
        match (&self.action, &self.blocked) {
            (Action::Nothing, Some((_, message))) => format!("{what}: {message}"),
            (Action::ReloadSystemd, _) => "let systemd read its unit files again".to_owned(),
            // Whoever waits for it, it is the template that is fetched.
            (Action::Template(name, _), None) => format!("fetch template {name}"),
            (action, blocked) => {
                // The word names the kind again: `add-port` is `add` of a port.
                let word = action.as_str();
                let verb = match &self.subject {
                    Subject::Resource(id) => {
                        word.strip_suffix(id.kind.as_str()).map_or(word, |verb| verb.trim_end_matches('-'))
                    }
                    _ => word,
                };
                let verb = verb.replace('-', " ");
                // A call of another service is shown exactly as it will be made.
                let call = match action {
                    Action::Object(_, op) => op.call().map(|call| format!(": {}", call.busctl())),
                    _ => None,
                };
                let call = call.unwrap_or_default();
                match blocked {
                    Some((_, message)) => format!("{verb} {what}, blocked: {message}"),
                    None => format!("{verb} {what}{call}"),
                }
            }
        }
    }
}

/// What a step does. Each action says what shall hold; its plugin reads what is there when it writes.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// By systemd.
    Unit(Name, UnitOp),
    /// One daemon-reload for all file changes of the plan.
    ReloadSystemd,
    /// By Open vSwitch.
    Bridge(Name, BridgeOp),
    /// By Open vSwitch.
    Port(Name, PortOp),
    /// By PackageKit.
    Package(Name, PackageOp),
    /// By the service that the object belongs to.
    Object(Name, ObjectOp),
    /// By the runtime of containers that has an API, as the plugin `lxc`: Proxmox VE or systemd-machined, whichever
    /// the configuration chose ([`Inventory::hand`]).
    Container(Name, ContainerOp),
    /// By the same: a template that containers are made from. The step's subject is the plugin.
    Template(Name, TemplateOp),
    /// Nothing can be done: the step is there to say why (always with `blocked`).
    Nothing,
}

/// What is done to a container by its runtime's API. (Where a unit runs it and nothing else does, it is started and
/// stopped as a unit: [`UnitOp`].)
#[derive(Debug, Clone, PartialEq)]
pub enum ContainerOp {
    /// Make it as the spec says, and do not start it. Found made already, by a try whose answer was lost, it is taken as
    /// it is.
    Create(Arc<ContainerSpec>),
    /// Write the settings of the spec that differ, sizes aside.
    Set(Arc<ContainerSpec>),
    /// Grow the root file system and the volumes of the spec that are smaller than it says.
    Grow(Arc<ContainerSpec>),
    /// Set the fields of a declared port on the container's network of that number: where the runtime plugs the port
    /// itself.
    SetPort(u8, Arc<PortSpec>),
    /// Start it, until it runs.
    Start,
    /// Stop it: asked to first, then made to.
    Stop,
    /// Restart it, which brings about changes that wait for that.
    Restart,
    /// Whether it starts at boot, as `enabled` of its unit's entry says.
    SetOnBoot(bool),
    /// Take it to another node. What is under way to there already is waited for.
    Move(Arc<Relocation>),
    /// Turn it into a template.
    MakeTemplate,
    /// Stop it and remove it with its volumes.
    Destroy {
        /// Take it out of backup and replication jobs, too.
        purge: bool,
    },
}

/// Where a container is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relocation {
    /// The node it shall be on.
    pub node: String,
    /// It may be restarted for that: one that runs is stopped here and started there.
    pub restart: bool,
    /// Storages that the node does not have, and those of its own that take their volumes instead.
    pub storages: BTreeMap<String, String>,
}

/// What is done to a template.
#[derive(Debug, Clone, PartialEq)]
pub enum TemplateOp {
    /// Bring it to where the spec says.
    Fetch(Arc<TemplateSpec>),
}

/// What is done to a unit.
#[derive(Debug, Clone, PartialEq)]
pub enum UnitOp {
    /// Stop it: `StopUnit(replace)`, until inactive or failed.
    Stop,
    /// Change its unit files, in the order unmask, disable, enable, mask. The reload is a step of its own.
    Files {
        /// Take its mask away.
        unmask: bool,
        /// `Some(true)`: enable (by `EnableUnitFiles`, or by `AddDependencyUnitFiles` to multi-user.target for a unit
        /// without `[Install]`). `Some(false)`: disable.
        enable: Option<bool>,
        /// Mask it.
        mask: bool,
    },
    /// `SetUnitProperties(runtime = false)` with these values, typed by the unit's own introspection.
    SetProperties(BTreeMap<String, serde_json::Value>),
    /// Start it: `StartUnit(replace)`, until it is active and has been through the hold-down.
    Start,
    /// Restart it: `RestartUnit(replace)`, until it is active and has been through the hold-down.
    Restart,
}

/// What is done to a bridge.
#[derive(Debug, Clone, PartialEq)]
pub enum BridgeOp {
    /// Make it with its local port and this machine's mark.
    Add(Arc<BridgeSpec>),
    /// Write the fields of the spec that differ.
    Set(Arc<BridgeSpec>),
    /// Remove it with all its ports.
    Delete,
}

/// What is done to a port.
#[derive(Debug, Clone, PartialEq)]
pub enum PortOp {
    /// Make it, with this machine's mark.
    Add(Arc<PortSpec>),
    /// Write the fields of the spec that differ.
    Set(Arc<PortSpec>),
    /// Take it from the bridge it is on to the one of the spec, in one transaction, and write what differs.
    Move(Arc<PortSpec>),
    /// Remove it and make it anew in one transaction: what differs cannot be written in place.
    Recreate(Arc<PortSpec>),
    /// Remove it and, once that has come about, make it anew: its device was made anew. The userspace datapath opens a
    /// device when its port comes, and only if it has seen the one before go.
    Replug(Arc<PortSpec>),
    /// The port that a container brings: wait (until the settle time has passed) for whoever brings it to plug it
    /// in, then add or move it as the spec says.
    Plug(Arc<PortSpec>),
    /// Remove it.
    Delete,
}

/// What is done to a package.
#[derive(Debug, Clone, PartialEq)]
pub enum PackageOp {
    /// Install it.
    Install(Arc<PackageChange>),
    /// Put a newer version in the place of the one that is there.
    Update(Arc<PackageChange>),
    /// Put an older version in the place of the one that is there.
    Downgrade(Arc<PackageChange>),
    /// Remove it.
    Remove(Arc<PackageChange>),
}

impl PackageOp {
    /// What it is done with.
    #[must_use]
    pub const fn change(&self) -> &Arc<PackageChange> {
        match self {
            Self::Install(change) | Self::Update(change) | Self::Downgrade(change) | Self::Remove(change) => change,
        }
    }
}

/// What a package's step is done with.
#[derive(Debug, Clone, PartialEq)]
pub struct PackageChange {
    /// Its entry.
    pub spec: Arc<PackageSpec>,
    /// The version that it leads to; empty for a removal.
    pub version: String,
    /// PackageKit's id of that version; empty for a removal, which finds what is there.
    pub id: String,
    /// Packages whose origin cannot be verified are taken too.
    pub allow_untrusted: bool,
    /// Other packages that may be removed with it, or for it.
    pub may_remove: BTreeSet<Name>,
}

impl Action {
    /// The plugin that carries it out; `None` for [`Action::Nothing`].
    #[must_use]
    pub const fn plugin(&self) -> Option<&'static str> {
        match self {
            Self::Unit(..) | Self::ReloadSystemd => Some("systemd"),
            Self::Bridge(..) | Self::Port(..) => Some("ovsdb"),
            Self::Package(..) => Some("packagekit"),
            Self::Object(..) => Some("dbus"),
            Self::Container(..) | Self::Template(..) => Some("lxc"),
            Self::Nothing => None,
        }
    }

    /// The word on the bus.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unit(_, UnitOp::Stop) | Self::Container(_, ContainerOp::Stop) => "stop",
            Self::Unit(_, UnitOp::Files { .. }) => "set-unit-file",
            Self::Unit(_, UnitOp::SetProperties(_)) => "set-properties",
            Self::Unit(_, UnitOp::Start) | Self::Container(_, ContainerOp::Start) => "start",
            Self::Unit(_, UnitOp::Restart) | Self::Container(_, ContainerOp::Restart) => "restart",
            Self::ReloadSystemd => "daemon-reload",
            Self::Bridge(_, BridgeOp::Add(_)) => "add-bridge",
            Self::Bridge(_, BridgeOp::Set(_)) => "set-bridge",
            Self::Bridge(_, BridgeOp::Delete) => "delete-bridge",
            Self::Port(_, PortOp::Add(_)) => "add-port",
            Self::Port(_, PortOp::Set(_)) | Self::Container(_, ContainerOp::SetPort(..)) => "set-port",
            Self::Port(_, PortOp::Move(_)) => "move-port",
            Self::Port(_, PortOp::Recreate(_)) => "recreate-port",
            Self::Port(_, PortOp::Replug(_)) => "replug-port",
            Self::Port(_, PortOp::Plug(_)) => "plug-port",
            Self::Port(_, PortOp::Delete) => "delete-port",
            Self::Package(_, PackageOp::Install(_)) => "install-package",
            Self::Package(_, PackageOp::Update(_)) => "update-package",
            Self::Package(_, PackageOp::Downgrade(_)) => "downgrade-package",
            Self::Package(_, PackageOp::Remove(_)) => "remove-package",
            Self::Object(_, ObjectOp::Create(_)) => "create-object",
            Self::Object(_, ObjectOp::Remove(_)) => "remove-object",
            Self::Object(_, ObjectOp::Set { .. }) => "set-object",
            Self::Object(_, ObjectOp::Settle) => "settle-object",
            Self::Container(_, ContainerOp::Create(_)) => "create-container",
            Self::Container(_, ContainerOp::Set(_)) => "set-container",
            Self::Container(_, ContainerOp::Grow(_)) => "grow-container",
            Self::Container(_, ContainerOp::SetOnBoot(_)) => "set-on-boot",
            Self::Container(_, ContainerOp::Move(_)) => "move-container",
            Self::Container(_, ContainerOp::MakeTemplate) => "make-template",
            Self::Container(_, ContainerOp::Destroy { .. }) => "destroy-container",
            Self::Template(_, TemplateOp::Fetch(_)) => "fetch-template",
            Self::Nothing => "none",
        }
    }
}

/// What planning must know besides the document and what is observed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// /etc/machine-id: the value of the mark `opdbus-owner`.
    pub machine_id: String,
    /// Units never touched besides the built-in list: op-dbus's own, and the caller's.
    pub protected_units: Vec<String>,
    /// Methods of other services that are never called, `SERVICE INTERFACE.METHOD`; a `*` at the end stands for any rest.
    pub protected_calls: Vec<String>,
    /// Template of the unit that runs container N, `%` standing for N, where none was found yet:
    /// `pve-container@%.service`.
    pub container_unit: String,
    /// Try also what systemd would skip, as far as it knows, for a condition that was not met the last time: it looks
    /// anew only when somebody starts the unit. For work that somebody asked for.
    pub retry_unmet: bool,
    /// Unit files were written that systemd may not have read again since: op-dbus was killed, or a job cancelled,
    /// before its daemon-reload.
    pub reload_owed: bool,
    /// Who has the containers of this machine in hand, as the configuration chose.
    pub hand: Hand,
}

/// Who has containers in hand: one for each, chosen by the configuration and not by who happens to answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Hand {
    /// systemd runs them as units; what is made or configured is made and configured by systemd-machined.
    #[default]
    Systemd,
    /// Proxmox VE: those whose id is a number ([`Inventory::is_proxmox`]) are touched through its API alone.
    Proxmox {
        /// The node that a container is on where the document does not say.
        node: String,
    },
}

/// Numbers that Proxmox VE gives its guests (`pve-vmid`).
const VMIDS: std::ops::RangeInclusive<u32> = 100..=999_999_999;

impl Inventory {
    /// Whether Proxmox VE has that container in hand, were it there or not.
    #[must_use]
    pub fn is_proxmox(&self, id: &str) -> bool {
        matches!(self.hand, Hand::Proxmox { .. })
            && !id.starts_with('0')
            && id.parse().is_ok_and(|id: u32| VMIDS.contains(&id))
    }

    /// The container of Proxmox VE's that a unit of that name runs.
    #[must_use]
    pub fn proxmox_unit(&self, unit: &str) -> Option<Name> {
        let (before, after) = self.container_unit.split_once('%')?;
        let id = unit.strip_prefix(before)?.strip_suffix(after)?;
        self.is_proxmox(id).then(|| id.into())
    }

    /// The container of Proxmox VE's that a port of that name serves, and the number of its network.
    #[must_use]
    pub fn proxmox_port(&self, port: &str) -> Option<(Name, u8)> {
        crate::model::host_side_of(port).filter(|(id, _)| self.is_proxmox(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ResourceId;

    fn step(id: ResourceId, action: Action, blocked: Option<(Reason, String)>) -> Step {
        Step {
            id: 1,
            subject: id.into(),
            action,
            changes: Vec::new(),
            after: Vec::new(),
            blocked,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn summaries_read_as_sentences() {
        let port = ResourceId::port("p1");
        assert_eq!(step(port.clone(), Action::Port("p1".into(), PortOp::Delete), None).summary(), "delete port p1");
        assert_eq!(
            step(ResourceId::unit("a.service"), Action::Unit("a.service".into(), UnitOp::Start), None).summary(),
            "start unit a.service"
        );
        let blocked = Some((Reason::BridgeMissing, "there is no bridge br9".to_owned()));
        assert_eq!(step(port, Action::Nothing, blocked.clone()).summary(), "port p1: there is no bridge br9");
        assert_eq!(
            step(ResourceId::bridge("b"), Action::Bridge("b".into(), BridgeOp::Delete), blocked).summary(),
            "delete bridge b, blocked: there is no bridge br9"
        );
    }
}
