//! The simulated twin of systemd and Open vSwitch: a world in memory that carries steps out as the real ones would,
//! for property tests and for faults that the real ones will not produce on demand.

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdSet;

use crate::{
    desired::{BridgeSpec, Ensure, OptionalMap, PackageEnsure, PortSpec, Want},
    model::{
        BridgeFacts, Change, InterfaceFacts, Name, ObjectFacts, Offer, PackageFacts, PortFacts, Reason, ResourceId,
        StepState, StringMap, SwitchFacts, UnitFacts,
    },
    plan::{Action, BridgeOp, OWNER_KEY, ObjectOp, PackageOp, PortOp, Step, UnitOp},
};

/// How a step went.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) state: StepState,
    pub(crate) reason: Reason,
    pub(crate) retry: bool,
    pub(crate) wrote: bool,
}

impl Outcome {
    fn done(wrote: bool) -> Self {
        Self { state: StepState::Done, reason: Reason::None, retry: false, wrote }
    }

    fn failed(reason: Reason, retry: bool) -> Self {
        Self { state: StepState::Failed, reason, retry, wrote: false }
    }

    fn blocked(reason: Reason) -> Self {
        Self { state: StepState::Blocked, reason, retry: false, wrote: false }
    }
}

/// The world.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct World {
    pub(crate) units: BTreeMap<Name, UnitFacts>,
    pub(crate) bridges: BTreeMap<Name, BridgeFacts>,
    pub(crate) ports: BTreeMap<Name, PortFacts>,
    /// Declared objects of other services.
    pub(crate) objects: BTreeMap<Name, ObjectFacts>,
    /// Units whose start fails.
    pub(crate) broken_units: BTreeSet<Name>,
    /// Unit to the port (and bridge) that its start plugs in, as a container's hook does.
    pub(crate) hooks: BTreeMap<Name, (Name, Name)>,
    pub(crate) packages: BTreeMap<Name, PackageFacts>,
    /// Package to the unit whose file it brings.
    pub(crate) brings: BTreeMap<Name, Name>,
    /// Everything refuses with a passing fault.
    pub(crate) away: bool,
    /// No repository answers: nothing can be installed.
    pub(crate) offline: bool,
    /// ovs-vswitchd hangs: what is written to its database is not seen to be applied.
    pub(crate) hung_switch: bool,
    /// What it has not applied.
    unapplied: OrdSet<ResourceId>,
    machine: String,
    uuids: u64,
}

impl World {
    pub(crate) fn new(machine: &str) -> Self {
        Self { machine: machine.to_owned(), ..Self::default() }
    }

    /// A unit that exists, as a plain service.
    pub(crate) fn add_unit(&mut self, name: &str, file_state: &str, active: &str) {
        let facts = UnitFacts {
            id: name.to_owned(),
            load_state: if file_state == "masked" { "masked" } else { "loaded" }.to_owned(),
            active_state: active.to_owned(),
            unit_file_state: file_state.to_owned(),
            unit_path: "/unit".to_owned(),
            fragment_path: format!("/usr/lib/systemd/system/{name}"),
            has_install: file_state != "static",
            result: "success".to_owned(),
            ..UnitFacts::default()
        };
        self.units.insert(name.into(), facts);
    }

    /// A bridge with its local port.
    pub(crate) fn add_bridge(&mut self, name: &str) {
        let local = self.new_port(name, name, "internal");
        let ports = [Name::from(name)].into_iter().collect();
        let facts =
            BridgeFacts { uuid: self.uuid(), datapath_type: "netdev".to_owned(), ports, ..BridgeFacts::default() };
        self.bridges.insert(name.into(), facts);
        self.ports.insert(name.into(), local);
    }

    /// A port that works.
    pub(crate) fn add_port(&mut self, bridge: &str, name: &str, kind: &str) {
        let facts = self.new_port(bridge, name, kind);
        self.ports.insert(name.into(), facts);
        if let Some(bridge) = self.bridges.get_mut(bridge) {
            bridge.ports.insert(name.into());
        }
    }

    pub(crate) fn remove_port(&mut self, name: &str) {
        if let Some(port) = self.ports.remove(name)
            && let Some(bridge) = self.bridges.get_mut(&port.bridge)
        {
            bridge.ports.remove(name);
        }
    }

    /// A package that is offered in version 2, and installed in that version or not at all.
    pub(crate) fn add_package(&mut self, name: &str, installed: &str) {
        let facts = PackageFacts {
            installed: installed.to_owned(),
            candidate: "2".to_owned(),
            update_available: installed == "1",
            offer: Offer::Version { version: "2".to_owned(), id: format!("{name};2;all;"), downgrade: false },
            ..PackageFacts::default()
        };
        self.packages.insert(name.into(), facts);
    }

    /// What packagekit's plugin mirrors of it.
    pub(crate) fn packagekit(&self) -> Vec<Change> {
        self.packages.iter().map(|(name, facts)| Change::Package(name.clone(), facts.clone())).collect()
    }

    fn package(&mut self, name: &Name, op: &PackageOp) -> Outcome {
        if self.offline && op.change().spec.ensure != Some(PackageEnsure::Removed) {
            return Outcome::failed(Reason::DownloadFailed, true);
        }
        let Some(package) = self.packages.get_mut(name) else { return Outcome::failed(Reason::PackageNotFound, false) };
        if op.change().spec.ensure == Some(PackageEnsure::Removed) {
            package.installed.clear();
        } else {
            "2".clone_into(&mut package.installed);
            package.update_available = false;
            if let Some(unit) = self.brings.get(name).cloned().filter(|unit| !self.units.contains_key(unit)) {
                self.add_unit(&unit, "disabled", "inactive");
            }
        }
        Outcome::done(true)
    }

    fn new_port(&mut self, bridge: &str, name: &str, kind: &str) -> PortFacts {
        PortFacts {
            uuid: self.uuid(),
            bridge: bridge.into(),
            interfaces: vec![interface(name, kind)],
            ..PortFacts::default()
        }
    }

    fn uuid(&mut self) -> String {
        self.uuids += 1;
        format!("{:032x}", self.uuids)
    }

    /// What systemd's plugin mirrors of it.
    pub(crate) fn systemd(&self, asked: impl IntoIterator<Item = Name>) -> Vec<Change> {
        let missing = |name: &Name| {
            Change::Unit(name.clone(), UnitFacts { load_state: "not-found".to_owned(), ..UnitFacts::default() })
        };
        let mut out: Vec<Change> =
            self.units.iter().map(|(name, facts)| Change::Unit(name.clone(), facts.clone())).collect();
        out.extend(asked.into_iter().filter(|name| !self.units.contains_key(name)).map(|name| missing(&name)));
        out
    }

    /// What ovsdb's plugin mirrors of it.
    pub(crate) fn ovsdb(&self) -> Vec<Change> {
        let bridges = self.bridges.iter().map(|(name, facts)| Change::Bridge(name.clone(), facts.clone()));
        let ports = self.ports.iter().map(|(name, facts)| Change::Port(name.clone(), facts.clone()));
        let unapplied = if self.hung_switch { self.unapplied.clone() } else { OrdSet::new() };
        let switch = Change::Switch(SwitchFacts { unapplied, hangs: self.hung_switch });
        bridges.chain(ports).chain([switch]).collect()
    }

    /// What the plugin for other services mirrors of it.
    pub(crate) fn dbus(&self) -> Vec<Change> {
        self.objects.iter().map(|(name, facts)| Change::Object(name.clone(), facts.clone())).collect()
    }

    /// Carries one step out.
    pub(crate) fn apply(&mut self, step: &Step) -> Outcome {
        if self.away {
            return Outcome::failed(Reason::BackendAway, true);
        }
        let before = self.clone();
        let outcome = match &step.action {
            Action::Unit(name, op) => self.unit(name, op),
            Action::ReloadSystemd => {
                self.units.values_mut().for_each(|unit| unit.need_daemon_reload = false);
                Outcome::done(true)
            }
            Action::Bridge(name, op) => self.bridge(name, op),
            Action::Port(name, op) => self.port(name, op),
            Action::Package(name, op) => self.package(name, op),
            Action::Object(name, op) => self.object(name, op),
            _ => Outcome::failed(Reason::Internal, false),
        };
        let wrote = outcome.wrote && *self != before;
        let row = match &step.action {
            Action::Bridge(name, _) => Some(ResourceId::bridge(name.clone())),
            Action::Port(name, _) => Some(ResourceId::port(name.clone())),
            _ => None,
        };
        if let Some(row) = row.filter(|_| self.hung_switch && wrote) {
            self.unapplied.insert(row);
            return Outcome { wrote, ..Outcome::failed(Reason::SwitchNotAnswering, true) };
        }
        Outcome { wrote, ..outcome }
    }

    fn unit(&mut self, name: &Name, op: &UnitOp) -> Outcome {
        if matches!(op, UnitOp::Files { mask: true, .. }) && !self.units.contains_key(name) {
            // systemd masks also what is not there.
            self.add_unit(name, "masked", "inactive");
        }
        let Some(unit) = self.units.get_mut(name) else { return Outcome::blocked(Reason::UnitNotFound) };
        match op {
            UnitOp::Stop => unit.active_state = "inactive".to_owned(),
            UnitOp::Start | UnitOp::Restart => {
                if unit.load_state == "masked" {
                    return Outcome::failed(Reason::UnitMasked, false);
                }
                if self.broken_units.contains(name) {
                    unit.active_state = "failed".to_owned();
                    return Outcome::failed(Reason::JobFailed, false);
                }
                unit.active_state = "active".to_owned();
                if let Some((port, bridge)) = self.hooks.get(name).cloned() {
                    self.remove_port(&port);
                    // A hook cannot plug it into a bridge that is gone.
                    if self.bridges.contains_key(&bridge) {
                        self.add_port(&bridge, &port, "");
                    }
                }
            }
            UnitOp::Files { unmask, enable, mask } => {
                if *unmask {
                    "disabled".clone_into(&mut unit.unit_file_state);
                    "loaded".clone_into(&mut unit.load_state);
                }
                match enable {
                    Some(true) => "enabled".clone_into(&mut unit.unit_file_state),
                    Some(false) => {
                        (if unit.has_install { "disabled" } else { "static" }).clone_into(&mut unit.unit_file_state);
                    }
                    None => {}
                }
                if *mask {
                    "masked".clone_into(&mut unit.unit_file_state);
                    "masked".clone_into(&mut unit.load_state);
                }
            }
            UnitOp::SetProperties(values) => unit.properties.extend(values.clone()),
        }
        Outcome::done(true)
    }

    fn object(&mut self, name: &Name, op: &ObjectOp) -> Outcome {
        let Some(object) = self.objects.get_mut(name) else { return Outcome::failed(Reason::ServiceAway, true) };
        match op {
            ObjectOp::Create(_) => object.exists = true,
            ObjectOp::Remove(_) => object.exists = false,
            ObjectOp::Set { properties, .. } => object.properties.extend(properties.clone()),
            // What is made here is made as it shall be.
            ObjectOp::Settle => {}
        }
        Outcome::done(true)
    }

    fn bridge(&mut self, name: &Name, op: &BridgeOp) -> Outcome {
        match op {
            BridgeOp::Add(spec) => {
                if !self.bridges.contains_key(name) {
                    self.add_bridge(name);
                    let machine = self.machine.clone();
                    if let Some(bridge) = self.bridges.get_mut(name) {
                        bridge.external_ids.insert(OWNER_KEY.to_owned(), machine);
                    }
                }
                self.set_bridge(name, spec)
            }
            BridgeOp::Set(spec) => self.set_bridge(name, spec),
            BridgeOp::Delete => {
                for port in self.bridges.remove(name).map(|bridge| bridge.ports).unwrap_or_default() {
                    self.ports.remove(&port);
                }
                Outcome::done(true)
            }
        }
    }

    fn set_bridge(&mut self, name: &Name, spec: &BridgeSpec) -> Outcome {
        let Some(bridge) = self.bridges.get_mut(name) else { return Outcome::failed(Reason::Contended, true) };
        if let Some(kind) = &spec.datapath_type {
            bridge.datapath_type = stored(kind);
        }
        set_text(&mut bridge.fail_mode, &spec.fail_mode, |mode| mode.as_str());
        set(&mut bridge.stp_enable, spec.stp_enable);
        set(&mut bridge.rstp_enable, spec.rstp_enable);
        set(&mut bridge.mcast_snooping_enable, spec.mcast_snooping_enable);
        set(&mut bridge.controllers, spec.controllers.clone());
        set_map(&mut bridge.external_ids, &spec.external_ids);
        set_map(&mut bridge.other_config, &spec.other_config);
        Outcome::done(true)
    }

    fn port(&mut self, name: &Name, op: &PortOp) -> Outcome {
        let spec = match op {
            PortOp::Delete => {
                self.remove_port(name);
                return Outcome::done(true);
            }
            PortOp::Add(spec)
            | PortOp::Set(spec)
            | PortOp::Move(spec)
            | PortOp::Recreate(spec)
            | PortOp::Replug(spec)
            | PortOp::Plug(spec) => spec,
        };
        if spec.ensure == Ensure::Absent || !self.bridges.contains_key(&spec.bridge) {
            return Outcome::failed(Reason::BridgeMissing, false);
        }
        if matches!(op, PortOp::Recreate(_) | PortOp::Replug(_)) {
            self.remove_port(name);
        }
        if let Some(port) = self.ports.get(name).filter(|port| port.bridge != spec.bridge).cloned() {
            self.remove_port(name);
            self.ports.insert(name.clone(), PortFacts { bridge: spec.bridge.clone(), ..port });
        } else if !self.ports.contains_key(name) {
            let mut port = self.new_port(&spec.bridge, name, "");
            port.external_ids.insert(OWNER_KEY.to_owned(), self.machine.clone());
            self.ports.insert(name.clone(), port);
        }
        if let Some(bridge) = self.bridges.get_mut(&spec.bridge) {
            bridge.ports.insert(name.clone());
        }
        let Some(port) = self.ports.get_mut(name) else { return Outcome::failed(Reason::Internal, false) };
        set_port(name, port, spec);
        Outcome::done(true)
    }
}

fn interface(name: &str, kind: &str) -> InterfaceFacts {
    InterfaceFacts {
        name: name.to_owned(),
        kind: kind.to_owned(),
        ofport: Some(1),
        ifindex: Some(7),
        ..InterfaceFacts::default()
    }
}

fn set_port(name: &str, port: &mut PortFacts, spec: &PortSpec) {
    if let Some(devices) = &spec.interfaces {
        port.interfaces = devices.iter().map(|device| interface(device, "")).collect();
    } else if spec.kind.is_some() && (port.interfaces.len() != 1 || port.interfaces.iter().any(|i| i.name != name)) {
        port.interfaces = vec![interface(name, "")];
    }
    set_number(&mut port.tag, &spec.tag);
    set(&mut port.trunks, spec.trunks.clone());
    set_text(&mut port.vlan_mode, &spec.vlan_mode, |mode| mode.as_str());
    set_text(&mut port.bond_mode, &spec.bond_mode, |mode| mode.as_str());
    set_text(&mut port.lacp, &spec.lacp, |lacp| lacp.as_str());
    set_map(&mut port.external_ids, &spec.external_ids);
    set_map(&mut port.other_config, &spec.other_config);
    let own = port.interfaces.iter().position(|interface| interface.name == name).unwrap_or(0);
    if let Some(own) = port.interfaces.get_mut(own) {
        if let Some(kind) = &spec.kind {
            own.kind = stored(kind);
        }
        set_number(&mut own.mtu_request, &spec.mtu_request);
        set_map(&mut own.options, &spec.options);
    }
}

fn stored(kind: &str) -> String {
    if kind == "system" { String::new() } else { kind.to_owned() }
}

fn set<T>(field: &mut T, wanted: Option<T>) {
    if let Some(wanted) = wanted {
        *field = wanted;
    }
}

fn set_text<T>(field: &mut String, wanted: &Want<T>, word: impl Fn(&T) -> &'static str) {
    match wanted {
        Want::Unmanaged => {}
        Want::Unset => field.clear(),
        Want::Is(wanted) => word(wanted).clone_into(field),
    }
}

fn set_number<T: Copy>(field: &mut Option<T>, wanted: &Want<T>) {
    match wanted {
        Want::Unmanaged => {}
        Want::Unset => *field = None,
        Want::Is(wanted) => *field = Some(*wanted),
    }
}

fn set_map(field: &mut StringMap, wanted: &OptionalMap) {
    for (key, value) in wanted {
        match value {
            Some(value) => field.insert(key.clone(), value.clone()),
            None => field.remove(key),
        };
    }
}
