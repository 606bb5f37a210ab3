//! What the plugins report, taken into the model.

use std::{collections::BTreeSet, sync::Arc};

use super::{Core, Effect, Now};
use crate::{
    model::{Backend, BackendStatus, Change, Kind, Name, PluginFacts, ResourceId, SwitchFacts},
    plan::{Hand, backends, container_unit},
    plugins::PluginEvent,
};

impl Core {
    /// News from a plugin.
    pub fn plugin_event(&mut self, plugin: &'static str, event: PluginEvent, now: Now) {
        self.now = now;
        match event {
            PluginEvent::Changes(changes) => {
                self.touch(plugin);
                for change in changes {
                    self.observe(change);
                }
            }
            PluginEvent::Reset(changes) => {
                self.touch(plugin);
                self.reset(plugin, changes);
            }
            PluginEvent::Backend(backend) => self.backend(plugin, backend),
            PluginEvent::Busy(busy) => {
                self.backings.entry(plugin).or_default().busy = busy;
                if !busy {
                    // What looked different meanwhile is judged now.
                    self.mark_plugin_dirty(plugin);
                }
            }
            PluginEvent::Updates(updates) => self.update_plugin(plugin, |facts| facts.updates_available = updates),
            PluginEvent::Step { job, step, state, reason, message, retry, wrote } => {
                self.step_event(job, step, state, reason, message, retry, wrote);
            }
            PluginEvent::Progress { job, step, share, message } => self.step_progress(job, step, share, message),
        }
    }

    fn touch(&mut self, plugin: &'static str) {
        let now = self.now.real_usec;
        self.update_plugin(plugin, |facts| facts.last_event_usec = now);
    }

    fn update_plugin(&mut self, plugin: &'static str, change: impl FnOnce(&mut PluginFacts)) {
        let mut facts = self.view.plugins.get(plugin).map_or_else(
            || PluginFacts {
                backend: Backend {
                    status: BackendStatus::Connecting,
                    message: String::new(),
                    version: String::new(),
                    reconnects: 0,
                },
                resources: 0,
                last_event_usec: 0,
                updates_available: 0,
            },
            |facts| (**facts).clone(),
        );
        change(&mut facts);
        self.view.plugins.insert(plugin, Arc::new(facts));
    }

    /// The state of a backend. Without a runtime that has an API lxc has none of its own: containers are known as far as
    /// systemd is.
    fn backend(&mut self, plugin: &'static str, backend: Backend) {
        let derived = matches!(self.inventory.hand, Hand::Systemd) && !self.settings.has_runtime;
        if plugin == "systemd" && derived && self.backings.contains_key("lxc") {
            let joined = Backend { version: String::new(), ..backend.clone() };
            self.take_backend("lxc", joined);
        }
        self.take_backend(plugin, backend);
    }

    fn take_backend(&mut self, plugin: &'static str, backend: Backend) {
        let status = backend.status;
        self.view.observed.backends.insert(plugin, backend.clone());
        self.update_plugin(plugin, |facts| facts.backend = backend);
        if status == BackendStatus::Disabled {
            // Nothing of it will ever be known: that is another thing than to be away.
            self.backings.remove(plugin);
            self.mark_plugin_dirty(plugin);
            return;
        }
        let now = self.now.boot_usec;
        let backing = self.backings.entry(plugin).or_default();
        backing.answered |= status != BackendStatus::Connecting;
        if status == BackendStatus::Connected {
            backing.away_since = None;
            backing.busy = false;
            if std::mem::take(&mut backing.unknown) {
                self.mark_plugin_dirty(plugin);
            }
            self.release_held_up();
        } else if !backing.unknown {
            backing.away_since.get_or_insert(now);
        }
    }

    /// Backends that have been away for long enough take their resources' standing with them.
    pub(super) fn expire_backends(&mut self) {
        let now = self.now.boot_usec;
        let grace = self.settings.away_grace;
        let gone: Vec<&'static str> = self
            .backings
            .iter_mut()
            .filter(|(_, backing)| !backing.unknown && backing.away_since.is_some_and(|since| since + grace <= now))
            .map(|(plugin, backing)| {
                backing.unknown = true;
                *plugin
            })
            .collect();
        for plugin in gone {
            self.mark_plugin_dirty(plugin);
        }
    }

    /// What stands on that backend is judged anew.
    fn mark_plugin_dirty(&mut self, plugin: &str) {
        let (desired, inventory) = (&self.wanted.desired, &self.inventory);
        let shown = self.view.resources.keys().cloned();
        self.dirty
            .extend(shown.chain(desired.resources()).filter(|id| backends(desired, id, inventory).contains(&plugin)));
    }

    /// Replaces all that a plugin mirrors: what is not named is gone.
    fn reset(&mut self, plugin: &'static str, changes: Vec<Change>) {
        let named: BTreeSet<ResourceId> = changes.iter().filter_map(Change::id).collect();
        let observed = &self.view.observed;
        let mut gone = Vec::new();
        match plugin {
            "systemd" => gone.extend(observed.units.keys().cloned().map(Change::UnitGone)),
            "ovsdb" => {
                gone.extend(observed.bridges.keys().cloned().map(Change::BridgeGone));
                gone.extend(observed.ports.keys().cloned().map(Change::PortGone));
            }
            "packagekit" => gone.extend(observed.packages.keys().cloned().map(Change::PackageGone)),
            "lxc" => gone.extend(observed.guests.keys().cloned().map(Change::GuestGone)),
            _ => {}
        }
        gone.retain(|change| change.id().is_none_or(|id| !named.contains(&id)));
        for change in gone.into_iter().chain(changes) {
            self.observe(change);
        }
        self.backings.entry(plugin).or_default().mirrored = true;
    }

    /// Takes one change in, and marks what must be looked at again.
    fn observe(&mut self, change: Change) {
        let observed = &mut self.view.observed;
        let Some(id) = change.id() else {
            match change {
                Change::Cluster(facts) if observed.cluster != facts => {
                    observed.cluster = facts;
                    self.mark_plugin_dirty("lxc");
                }
                Change::Switch(facts) => self.switch_changed(facts),
                _ => {}
            }
            return;
        };
        let changed = match change {
            Change::Unit(name, facts) => put(&mut observed.units, name, facts),
            Change::UnitGone(name) => observed.units.remove(&name).is_some(),
            Change::Bridge(name, facts) => put(&mut observed.bridges, name, facts),
            Change::BridgeGone(name) => observed.bridges.remove(&name).is_some(),
            Change::Port(name, facts) => {
                let old = observed.ports.get(&name).cloned();
                if let Some(old) = old.as_ref().filter(|old| old.bridge != facts.bridge) {
                    self.dirty.insert(ResourceId::bridge(old.bridge.clone()));
                }
                self.dirty.insert(ResourceId::bridge(facts.bridge.clone()));
                // Of a port that vanished and came back between two batches only the new uuid tells.
                let mirrored = self.backings.get("ovsdb").is_some_and(|backing| backing.mirrored);
                // A device that was made anew is the other way for a container's start to undo what was plugged.
                let replugged = old.map_or(mirrored, |old| {
                    old.uuid != facts.uuid || (facts.device_replaced() && !old.device_replaced())
                });
                let changed = put(&mut self.view.observed.ports, name.clone(), facts);
                if replugged {
                    self.replugged(&name);
                }
                changed
            }
            Change::PortGone(name) => {
                let old = observed.ports.remove(&name);
                if let Some(old) = &old {
                    self.dirty.insert(ResourceId::bridge(old.bridge.clone()));
                }
                old.is_some()
            }
            Change::Container(name, facts) => {
                // One whose unit was not known before may have run all along.
                let stood = observed.containers.get(&name).is_some_and(|old| !old.running && !old.unit.is_empty());
                // What Proxmox VE starts it plugs by itself, as its configuration says.
                let started = facts.running && stood && !self.inventory.is_proxmox(&name);
                let changed = put(&mut observed.containers, name.clone(), facts);
                if started {
                    self.mark_replugged(&ResourceId::container(name));
                }
                changed
            }
            Change::ContainerGone(name) => observed.containers.remove(&name).is_some(),
            Change::Package(name, facts) => put(&mut observed.packages, name, facts),
            Change::PackageGone(name) => observed.packages.remove(&name).is_some(),
            Change::Object(name, facts) => put(&mut observed.objects, name, facts),
            Change::ObjectGone(name) => observed.objects.remove(&name).is_some(),
            Change::Guest(name, facts) => {
                if put(&mut observed.guests, name, facts) {
                    self.guest_changed(id);
                }
                return;
            }
            Change::GuestGone(name) => {
                if observed.guests.remove(&name).is_some() {
                    self.guest_changed(id);
                }
                return;
            }
            Change::Switch(_) | Change::Cluster(_) => false,
        };
        if changed {
            self.dirty.extend(self.wanted.dependents.get(&id).into_iter().flatten().cloned());
            if id.kind == Kind::Unit {
                // More than the join takes over counts: a job of the unit, its mask.
                self.dirty.extend(self.join.container_of_unit(&id.name).map(ResourceId::container));
            }
            if !matches!(id.kind, Kind::Container | Kind::Package) {
                self.rejoin.insert(id.clone());
            }
            self.dirty.insert(id);
        }
    }

    /// Open vSwitch has taken over what was written, or has not: those whom it concerns are looked at again.
    fn switch_changed(&mut self, facts: SwitchFacts) {
        let old = std::mem::replace(&mut self.view.observed.switch, facts);
        let new = &self.view.observed.switch;
        let all = old.unapplied.iter().chain(&new.unapplied);
        let concerned =
            |id: &&ResourceId| old.hangs != new.hangs || old.unapplied.contains(*id) != new.unapplied.contains(*id);
        for id in all.filter(concerned) {
            self.dirty.extend(self.wanted.dependents.get(id).into_iter().flatten().cloned());
            let container = self.view.observed.links.port_container.get(&id.name).filter(|_| id.kind == Kind::Port);
            self.dirty.extend(container.cloned().map(ResourceId::container));
            self.dirty.insert(id.clone());
        }
    }

    /// A guest of a runtime with an API is not as it was: nor is what the document says of its unit and its ports.
    fn guest_changed(&mut self, id: ResourceId) {
        let (wanted, inventory) = (&self.wanted.desired, &self.inventory);
        let units = wanted.units.keys().filter(|unit| inventory.proxmox_unit(unit).as_ref() == Some(&id.name));
        self.dirty.extend(units.cloned().map(ResourceId::unit));
        let is_its = |port: &&Name| inventory.proxmox_port(port).is_some_and(|(of, _)| of == id.name);
        self.dirty.extend(wanted.ports.keys().filter(is_its).cloned().map(ResourceId::port));
        // Whoever is cloned from it, or shall be.
        let clones = wanted
            .containers
            .iter()
            .filter(|(_, spec)| spec.from.as_ref().is_some_and(|from| from.clone.as_ref() == Some(&id.name)));
        self.dirty.extend(clones.map(|(clone, _)| ResourceId::container(clone.clone())));
        self.rejoin.insert(id.clone());
        self.dirty.insert(id);
    }

    /// A port was plugged anew, or its device made anew: what that undid is put right, if a container brings it.
    fn replugged(&mut self, port: &Name) {
        let declared = self.wanted.desired.bringer(port);
        let container = declared.or_else(|| self.view.observed.links.port_container.get(port)).cloned();
        if let Some(container) = container.filter(|container| !self.inventory.is_proxmox(container)) {
            self.mark_replugged(&ResourceId::container(container));
            self.mark_replugged(&ResourceId::port(port.clone()));
        }
    }

    fn mark_replugged(&mut self, id: &ResourceId) {
        if let Some(track) = self.tracks.get_mut(id) {
            track.replugged = true;
            self.dirty.insert(id.clone());
        }
    }

    /// Joins units, ports and bridges to containers, where any of them changed.
    pub(super) fn join_containers(&mut self) {
        let touched = std::mem::take(&mut self.rejoin);
        if touched.is_empty() {
            return;
        }
        self.hint(&touched);
        let changes = self.join.update(&self.view.observed, &touched);
        self.take_joined(changes);
    }

    /// A unit or a port changed: the container behind it may have, and Proxmox VE tells nobody. A unit that is as what is
    /// known of its container tells nothing.
    fn hint(&mut self, touched: &BTreeSet<ResourceId>) {
        if !matches!(self.inventory.hand, Hand::Proxmox { .. }) {
            return;
        }
        let container = |id: &ResourceId| match id.kind {
            Kind::Unit => self.inventory.proxmox_unit(&id.name).filter(|container| !self.agree(&id.name, container)),
            Kind::Port => self.inventory.proxmox_port(&id.name).map(|(container, _)| container),
            _ => None,
        };
        let containers: BTreeSet<Name> = touched.iter().filter_map(container).collect();
        if !containers.is_empty() {
            self.effects.push(Effect::Hint { plugin: "lxc", containers });
        }
    }

    /// Whether a unit is active and its container of Proxmox VE's is known to run, or neither.
    fn agree(&self, unit: &Name, container: &Name) -> bool {
        let observed = &self.view.observed;
        let active = observed.units.get(unit).is_some_and(|facts| facts.active_state == "active");
        observed.guests.get(container).is_some_and(|facts| facts.running == active)
    }

    /// Takes over what the join found.
    pub(super) fn take_joined(&mut self, changes: Vec<Change>) {
        self.view.observed.links = self.join.links().clone();
        for found in self.join.take_discoveries() {
            tracing::info!(container = %found.container, bridge = %found.bridge, port = %found.port, "{found}");
        }
        for change in changes {
            self.observe(change);
        }
    }

    /// The container units, found or declared, that a unit's change concerns.
    pub(super) fn container_unit(&self, id: &Name) -> Name {
        container_unit(&self.wanted.desired, id, &self.view.observed, &self.inventory)
    }

    /// Whether that resource is observed to be there.
    pub(super) fn is_present(&self, id: &ResourceId) -> bool {
        let observed = &self.view.observed;
        match id.kind {
            Kind::Unit if self.inventory.proxmox_unit(&id.name).is_some() => {
                let guest = self.inventory.proxmox_unit(&id.name).and_then(|container| observed.guests.get(&container));
                guest.is_some_and(|facts| !facts.is_machine)
            }
            Kind::Unit => {
                observed.units.get(&id.name).is_some_and(|unit| !matches!(unit.load_state.as_str(), "not-found" | ""))
            }
            Kind::Bridge => observed.bridges.contains_key(&id.name),
            Kind::Port => observed.ports.contains_key(&id.name),
            // A unit or a port that outlives one of Proxmox VE's is no container, once that says which it has.
            Kind::Container if self.inventory.is_proxmox(&id.name) && observed.is_connected("lxc") => {
                observed.guests.get(&id.name).is_some_and(|facts| !facts.is_machine)
            }
            Kind::Container => observed.containers.contains_key(&id.name),
            Kind::Package => observed.packages.get(&id.name).is_some_and(|package| !package.installed.is_empty()),
            Kind::Object => observed.objects.get(&id.name).is_some_and(|facts| facts.exists),
        }
    }
}

/// Puts facts into a map; `false` where they are what stood there.
fn put<T: PartialEq>(map: &mut imbl::OrdMap<Name, Arc<T>>, name: Name, facts: T) -> bool {
    if map.get(&name).is_some_and(|old| **old == facts) {
        return false;
    }
    map.insert(name, Arc::new(facts));
    true
}
