//! The join itself.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use imbl::OrdMap;

use super::Patterns;
use crate::model::{
    Change, ContainerFacts, GuestFacts, HOST_SIDE, Kind, Links, Name, Observed, PortFacts, ResourceId, Runtime,
    UnitFacts, host_side_names, machine_link,
};

/// A container seen on a bridge for the first time. Its text is the line of the log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Discovery {
    /// The container.
    pub container: Name,
    /// The bridge.
    pub bridge: Name,
    /// The port.
    pub port: Name,
}

impl fmt::Display for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Discovered container {} on bridge {} via port {}", self.container, self.bridge, self.port)
    }
}

/// What a container's entry in the document says of its port: container to `veth`.
type Declared = BTreeMap<Name, Name>;

/// The containers in what is observed, found from nothing.
#[must_use]
pub fn join(
    observed: &Observed,
    patterns: &Patterns,
    declared: &Declared,
) -> (OrdMap<Name, Arc<ContainerFacts>>, Links) {
    let mut join = Join::new(patterns.clone());
    join.declare(declared.clone(), observed);
    (join.containers, join.links)
}

/// The join, kept up to date.
#[derive(Debug)]
pub struct Join {
    patterns: Patterns,
    declared: Declared,
    /// Port name to the container that declares it, other spellings included.
    declared_ports: HashMap<Name, Name>,
    /// Name of a host side to the container whose runtime says that it is its.
    told_ports: HashMap<Name, Name>,
    ports: BTreeMap<Name, BTreeSet<Name>>,
    containers: OrdMap<Name, Arc<ContainerFacts>>,
    links: Links,
    discoveries: Vec<Discovery>,
}

impl Join {
    /// A join of nothing yet.
    #[must_use]
    pub fn new(patterns: Patterns) -> Self {
        Self {
            patterns,
            declared: Declared::new(),
            declared_ports: HashMap::new(),
            told_ports: HashMap::new(),
            ports: BTreeMap::new(),
            containers: OrdMap::new(),
            links: Links::default(),
            discoveries: Vec::new(),
        }
    }

    /// The containers.
    #[must_use]
    pub const fn containers(&self) -> &OrdMap<Name, Arc<ContainerFacts>> {
        &self.containers
    }

    /// Which port serves which container, and which containers are on which bridge.
    #[must_use]
    pub const fn links(&self) -> &Links {
        &self.links
    }

    /// The container that a unit of that name runs.
    #[must_use]
    pub fn container_of_unit(&self, unit: &str) -> Option<Name> {
        self.patterns.container_of_unit(unit)
    }

    /// Takes what was discovered since the last call, in order of discovery.
    pub fn take_discoveries(&mut self) -> Vec<Discovery> {
        std::mem::take(&mut self.discoveries)
    }

    /// Replaces what the document says of containers' ports and looks at everything anew. Answers with the containers
    /// that changed.
    pub fn declare(&mut self, declared: Declared, observed: &Observed) -> Vec<Change> {
        self.declared_ports.clear();
        for (id, veth) in &declared {
            let other_spellings = **veth == *format!("veth{id}");
            for name in host_side_names(veth).into_iter().skip(1).filter(|_| other_spellings) {
                self.declared_ports.entry(name).or_insert_with(|| id.clone());
            }
        }
        // A name that stands in the document itself goes before one that is only another spelling.
        self.declared_ports.extend(declared.iter().map(|(id, veth)| (veth.clone(), id.clone())));
        self.declared = declared;
        self.refresh(observed)
    }

    /// Looks at everything anew, as after a backend came back. Answers with the containers that changed.
    pub fn refresh(&mut self, observed: &Observed) -> Vec<Change> {
        let ports = observed.ports.keys().chain(self.links.port_container.keys()).cloned().map(ResourceId::port);
        let units = observed.units.keys().cloned().map(ResourceId::unit);
        let known = self.containers.keys().chain(observed.guests.keys()).cloned().map(ResourceId::container);
        let touched: Vec<ResourceId> = ports.chain(units).chain(known).collect();
        self.update(observed, &touched)
    }

    /// Looks again at what the touched units and ports belong to. Answers with the containers that changed.
    pub fn update<'a>(
        &mut self,
        observed: &Observed,
        touched: impl IntoIterator<Item = &'a ResourceId>,
    ) -> Vec<Change> {
        let mut containers = BTreeSet::new();
        let touched: Vec<&ResourceId> = touched.into_iter().collect();
        for id in touched.iter().filter(|id| id.kind == Kind::Container) {
            for port in self.hear_links(observed, &id.name) {
                self.touch_port(observed, &port, &mut containers);
            }
        }
        for id in touched {
            match id.kind {
                Kind::Port => self.touch_port(observed, &id.name, &mut containers),
                Kind::Unit => containers.extend(self.patterns.container_of_unit(&id.name)),
                Kind::Container => drop(containers.insert(id.name.clone())),
                // A bridge tells nothing that its ports do not; packages and objects of other services have none.
                Kind::Bridge | Kind::Package | Kind::Object => {}
            }
        }
        containers.into_iter().filter_map(|id| self.touch_container(observed, id)).collect()
    }

    /// Takes over what a container's runtime says of the host sides of its networks; answers with the ports that this
    /// concerns.
    fn hear_links(&mut self, observed: &Observed, id: &Name) -> BTreeSet<Name> {
        let mut ports: BTreeSet<Name> =
            self.told_ports.iter().filter(|(_, of)| *of == id).map(|(port, _)| port.clone()).collect();
        self.told_ports.retain(|_, of| of != id);
        let guest = observed.guests.get(id).filter(|guest| guest.runtime == Runtime::Machined);
        let now = guest.map(|guest| links(id, guest)).unwrap_or_default();
        self.told_ports.extend(now.iter().map(|port| (port.clone(), id.clone())));
        ports.extend(now);
        ports
    }

    fn touch_port(&mut self, observed: &Observed, port: &Name, containers: &mut BTreeSet<Name>) {
        let old = self.links.port_container.get(port).cloned();
        let new = observed.ports.get(port).and_then(|facts| self.container_of(port, facts));
        containers.extend(old.clone());
        containers.extend(new.clone());
        if old == new {
            return;
        }
        if let Some(old) = old {
            if let Some(ports) = self.ports.get_mut(&old) {
                ports.remove(port);
                if ports.is_empty() {
                    self.ports.remove(&old);
                }
            }
            self.links.port_container.remove(port);
        }
        if let Some(new) = new {
            self.ports.entry(new.clone()).or_default().insert(port.clone());
            self.links.port_container.insert(port.clone(), new);
        }
    }

    fn container_of(&self, port: &Name, facts: &PortFacts) -> Option<Name> {
        // A bridge's local port is the host's own.
        if facts.bridge == *port {
            return None;
        }
        let said = self.declared_ports.get(port).or_else(|| self.told_ports.get(port));
        said.cloned().or_else(|| self.patterns.container_of_port(port))
    }

    fn touch_container(&mut self, observed: &Observed, id: Name) -> Option<Change> {
        let new = self.facts(observed, &id);
        let old = self.containers.get(&id).cloned();
        if old.as_deref() == new.as_ref() {
            return None;
        }
        let bridges = |facts: Option<&ContainerFacts>| facts.map(|facts| facts.bridges.clone()).unwrap_or_default();
        let (before, after) = (bridges(old.as_deref()), bridges(new.as_ref()));
        for bridge in before.difference(&after) {
            self.leave(bridge, &id);
        }
        for bridge in after.difference(&before) {
            self.links.bridge_containers.entry(bridge.clone()).or_default().insert(id.clone());
        }
        let Some(facts) = new else {
            self.containers.remove(&id);
            return Some(Change::ContainerGone(id));
        };
        self.discover(observed, &id, old.as_deref(), &facts);
        self.containers.insert(id.clone(), Arc::new(facts.clone()));
        Some(Change::Container(id, facts))
    }

    fn leave(&mut self, bridge: &Name, id: &Name) {
        if let Some(containers) = self.links.bridge_containers.get_mut(bridge) {
            containers.remove(id);
            if containers.is_empty() {
                self.links.bridge_containers.remove(bridge);
            }
        }
    }

    fn discover(&mut self, observed: &Observed, id: &Name, old: Option<&ContainerFacts>, new: &ContainerFacts) {
        for port in &new.ports {
            let Some(facts) = observed.ports.get(port) else { continue };
            // With the port or the bridge, the pair is new. (A port that moves to a bridge on which the container
            // already was is not.)
            if old.is_none_or(|old| !old.ports.contains(port) || !old.bridges.contains(&facts.bridge)) {
                let (container, bridge, port) = (id.clone(), facts.bridge.clone(), port.clone());
                self.discoveries.push(Discovery { container, bridge, port });
            }
        }
    }

    /// The facts of one container; `None` where neither unit, port nor runtime tells of it.
    fn facts(&self, observed: &Observed, id: &Name) -> Option<ContainerFacts> {
        let mut units: Vec<(String, &Arc<UnitFacts>)> = self
            .patterns
            .units_of(id)
            .filter_map(|name| observed.units.get(name.as_str()).map(|facts| (name, facts)))
            .filter(|(_, facts)| facts.load_state != "not-found")
            .collect();
        // Stable: of equals, the likeliest template stays first.
        units.sort_by_key(|(_, facts)| (!is_running(facts), !starts_at_boot(facts)));
        let ports = self.ports.get(id);
        let guest = observed.guests.get(id).filter(|guest| !guest.is_machine).cloned();
        if guest.as_ref().is_some_and(|guest| guest.is_remote) {
            // What runs elsewhere has nothing here: a unit or a port of that number is a leftover, not its own.
            units.clear();
        }
        if units.is_empty() && ports.is_none() && guest.is_none() {
            return None;
        }
        let mut out = ContainerFacts {
            name: (**id).to_owned(),
            runtime: Runtime::Systemd,
            ports: ports.cloned().unwrap_or_default(),
            ..ContainerFacts::default()
        };
        let mut units = units.into_iter();
        if let Some((name, facts)) = units.next() {
            out.unit = name;
            out.unit_path.clone_from(&facts.unit_path);
            out.active_state.clone_from(&facts.active_state);
            out.sub_state.clone_from(&facts.sub_state);
            out.running = is_running(facts);
            out.on_boot = starts_at_boot(facts);
        }
        if let Some(guest) = &guest {
            tell(&mut out, guest);
        }
        // A template that merely exists loads for any id; only one that does something is another hand.
        let rivals = units.filter(|(_, facts)| is_running(facts) || starts_at_boot(facts));
        if out.running || out.on_boot {
            out.rival_units = rivals.map(|(name, _)| name).collect();
        }
        for port in &out.ports {
            let Some(facts) = observed.ports.get(port) else { continue };
            out.bridges.insert(facts.bridge.clone());
            if !out.running || facts.device_gone() {
                out.stale_ports.insert(port.clone());
            }
        }
        out.guest = guest;
        Some(out)
    }
}

/// Host sides of a container's networks, where systemd-nspawn makes them: as its settings say, or by its own rule.
fn links(id: &str, guest: &GuestFacts) -> BTreeSet<Name> {
    let told = guest.settings.iter().flat_map(|settings| settings.networks.values());
    let told: BTreeSet<Name> =
        told.filter_map(|network| network.rest.get(HOST_SIDE)).map(|name| Name::from(name.as_str())).collect();
    if told.is_empty() { BTreeSet::from([machine_link(id, 0).into()]) } else { told }
}

/// What a runtime with an API says goes before what its unit looks like: the unit of a Proxmox container is its tool.
/// systemd-machined runs its containers as units, which say best whether they run.
fn tell(out: &mut ContainerFacts, guest: &GuestFacts) {
    out.runtime = guest.runtime;
    if !guest.name.is_empty() {
        out.name.clone_from(&guest.name);
    }
    if guest.runtime == Runtime::Machined && out.unit.is_empty() {
        // Its unit is not mirrored: it is not declared and not in memory, or it runs by another's hand.
        out.running = guest.running;
        if !guest.running {
            out.unit = format!("systemd-nspawn@{}.service", guest.name);
        }
    }
    if guest.runtime == Runtime::Proxmox {
        out.running = guest.running;
        out.on_boot = guest.settings.as_ref().is_some_and(|settings| settings.onboot);
    }
}

/// Its unit runs, also while it takes its configuration in anew.
fn is_running(unit: &UnitFacts) -> bool {
    matches!(unit.active_state.as_str(), "active" | "reloading" | "refreshing")
}

/// Enabled for good; `static` and `linked` units by a link of their own.
fn starts_at_boot(unit: &UnitFacts) -> bool {
    match unit.unit_file_state.as_str() {
        "enabled" => true,
        "static" | "linked" => unit.has_wants_link,
        _ => false,
    }
}

#[cfg(test)]
#[path = "join_tests.rs"]
mod tests;
