//! From rows to facts: what changed since one last asked, at the cost of what changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use imbl::OrdSet;
use uuid::Uuid;

use super::{cache::Cache, row::Row, schema::Table, value::Atom};
use crate::model::{BridgeFacts, Change, InterfaceFacts, Name, PortFacts, ResourceId, SwitchFacts};

/// The `datapath_type` of bridges whose packets ovs-vswitchd itself moves.
const USERSPACE: &str = "netdev";

/// The facts that were told last.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    bridges: BTreeMap<Name, BridgeFacts>,
    ports: HashMap<Name, PortFacts>,
    /// Names of bridges' and ports' rows, kept until their end was told.
    names: HashMap<Uuid, Name>,
    members: HashMap<Name, OrdSet<Name>>,
    opened: Opened,
    /// What ovs-vswitchd has yet to take over, and what `cur_cfg` comes to once it has.
    unapplied: BTreeMap<ResourceId, i64>,
    /// How far ovs-vswitchd is, as told last.
    switch: SwitchFacts,
}

/// The `ifindex` of the device that each interface was opened on, and the bridge it was on then.
///
/// The userspace datapath opens a device once, when the port comes to the bridge: of one that is deleted and made anew
/// under its name all columns look right again, and only its number tells that nothing passes any more. (The kernel's
/// datapath lets a device go with its end; ovs-vswitchd opens the new one.)
#[derive(Debug, Default)]
struct Opened(HashMap<Uuid, (Name, i64)>);

impl Opened {
    /// Whether another device than the one that was opened bears the interface's name now.
    fn is_replaced(&mut self, uuid: Uuid, facts: &InterfaceFacts, bridge: &Name, userspace: bool) -> bool {
        if !userspace || !facts.is_system_device() || facts.ofport.is_none_or(|ofport| ofport <= 0) {
            self.0.remove(&uuid);
            return false;
        }
        // While there is none, nothing is known of the next.
        let Some(index) = facts.ifindex.filter(|index| *index > 0) else { return false };
        let (on, opened) = self.0.entry(uuid).or_insert_with(|| (bridge.clone(), index));
        if on != bridge {
            // It was taken from one bridge to the other, and so opened again.
            (*on, *opened) = (bridge.clone(), index);
        }
        *opened != index
    }
}

impl Mirror {
    /// The bridge of that name.
    pub(super) fn bridge(&self, name: &str) -> Option<&BridgeFacts> {
        self.bridges.get(name)
    }

    /// The port of that name.
    pub(super) fn port(&self, name: &str) -> Option<&PortFacts> {
        self.ports.get(name)
    }

    /// All that the cache holds, as after a connection; what was told before is forgotten.
    pub(super) fn reset(&mut self, cache: &mut Cache) -> Vec<Change> {
        *self = Self::default();
        self.drain(cache)
    }

    /// What changed since the last call.
    pub(super) fn drain(&mut self, cache: &mut Cache) -> Vec<Change> {
        let (mut bridges, mut ports) = (BTreeSet::new(), BTreeSet::new());
        let mut gone = Vec::new();
        for (table, uuid) in cache.take_touched() {
            match table {
                Table::Bridge | Table::Port => {
                    let touched = if table == Table::Bridge { &mut bridges } else { &mut ports };
                    touched.extend(self.names.get(&uuid).cloned());
                    if let Some(row) = cache.row(table, uuid) {
                        touched.insert(row.name());
                        self.names.insert(uuid, row.name());
                    } else {
                        gone.push(uuid);
                    }
                }
                // One that left its holder changed the holder as well.
                Table::Interface => {
                    ports.extend(holder_name(cache, Table::Port, uuid));
                    if cache.row(table, uuid).is_none() {
                        self.opened.0.remove(&uuid);
                    }
                }
                Table::Controller => bridges.extend(holder_name(cache, Table::Bridge, uuid)),
                Table::Root => {}
            }
        }
        for uuid in gone {
            self.names.remove(&uuid);
        }
        let port_changes: Vec<Change> =
            ports.into_iter().filter_map(|name| self.update_port(cache, name, &mut bridges)).collect();
        let mut changes: Vec<Change> = bridges.into_iter().filter_map(|name| self.update_bridge(cache, name)).collect();
        changes.extend(port_changes);
        let (_, applied) = configurations(cache);
        self.unapplied.retain(|_, number| *number > applied);
        changes
    }

    /// What `cur_cfg` stands at, while anything waits for it to go on.
    pub(super) fn awaited(&self, cache: &Cache) -> Option<i64> {
        (!self.unapplied.is_empty()).then(|| configurations(cache).1)
    }

    /// How far ovs-vswitchd is, if that is not what was told last. Whether it hangs is a matter of time, which is not
    /// known here.
    pub(super) fn drain_switch(&mut self, hangs: bool) -> Option<Change> {
        let switch = SwitchFacts { unapplied: self.unapplied.keys().cloned().collect(), hangs };
        (switch != self.switch).then(|| {
            self.switch.clone_from(&switch);
            Change::Switch(switch)
        })
    }

    /// A row is not configured as it was. Whoever changed it may have told ovs-vswitchd to look, by the same
    /// transaction; a change that it was not told of is not waited for.
    fn configured(&mut self, cache: &Cache, id: ResourceId) {
        let (asked, applied) = configurations(cache);
        if asked > applied {
            self.unapplied.insert(id, asked);
        }
    }

    fn update_port(&mut self, cache: &Cache, name: Name, bridges: &mut BTreeSet<Name>) -> Option<Change> {
        let new = port_facts(cache, &name, &mut self.opened);
        let old = self.ports.get(&name);
        if old == new.as_ref() {
            return None;
        }
        let reconfigured = old.map(port_configuration) != new.as_ref().map(port_configuration);
        let (from, to) = (old.map(|port| port.bridge.clone()), new.as_ref().map(|port| port.bridge.clone()));
        if from != to {
            if let Some(from) = from {
                if let Some(members) = self.members.get_mut(&from) {
                    members.remove(&name);
                }
                bridges.insert(from);
            }
            if let Some(to) = to {
                self.members.entry(to.clone()).or_default().insert(name.clone());
                bridges.insert(to);
            }
        }
        if reconfigured {
            self.configured(cache, ResourceId::port(name.clone()));
        }
        Some(if let Some(facts) = new {
            self.ports.insert(name.clone(), facts.clone());
            Change::Port(name, facts)
        } else {
            self.ports.remove(&name);
            Change::PortGone(name)
        })
    }

    fn update_bridge(&mut self, cache: &Cache, name: Name) -> Option<Change> {
        let Some((uuid, row)) = cache.named(Table::Bridge, &name) else {
            self.members.remove(&name);
            self.bridges.remove(&name)?;
            self.configured(cache, ResourceId::bridge(name.clone()));
            return Some(Change::BridgeGone(name));
        };
        let facts = bridge_facts(cache, uuid, row, self.members.get(&name).cloned().unwrap_or_default());
        let old = self.bridges.get(&name);
        if old == Some(&facts) {
            return None;
        }
        if old.is_none_or(|old| is_reconfigured(old, &facts)) {
            self.configured(cache, ResourceId::bridge(name.clone()));
        }
        self.bridges.insert(name.clone(), facts.clone());
        Some(Change::Bridge(name, facts))
    }
}

/// The configuration that ovs-vswitchd was asked for last, and the one that it has taken over.
fn configurations(cache: &Cache) -> (i64, i64) {
    let number = |column| cache.root().and_then(|root| root.int(column)).unwrap_or_default();
    (number("next_cfg"), number("cur_cfg"))
}

/// A port without what ovs-vswitchd itself writes into its interfaces.
fn port_configuration(facts: &PortFacts) -> PortFacts {
    let mut facts = facts.clone();
    for own in &mut facts.interfaces {
        *own = InterfaceFacts {
            name: std::mem::take(&mut own.name),
            kind: std::mem::take(&mut own.kind),
            mtu_request: own.mtu_request,
            options: std::mem::take(&mut own.options),
            external_ids: std::mem::take(&mut own.external_ids),
            ..InterfaceFacts::default()
        };
    }
    facts
}

/// Whether a bridge changed in more than what ovs-vswitchd itself writes (its `datapath_id`) and the ports that came to
/// it, which tell of themselves.
fn is_reconfigured(old: &BridgeFacts, new: &BridgeFacts) -> bool {
    let left = old.ports.iter().any(|port| !new.ports.contains(port));
    let rest = BridgeFacts { datapath_id: new.datapath_id.clone(), ports: new.ports.clone(), ..old.clone() };
    left || rest != *new
}

fn holder_name(cache: &Cache, holder: Table, held: Uuid) -> Option<Name> {
    Some(cache.row(holder, cache.holder(held)?)?.name())
}

fn bridge_facts(cache: &Cache, uuid: Uuid, row: &Row, ports: OrdSet<Name>) -> BridgeFacts {
    let controllers = row.uuids("controller").filter_map(|uuid| cache.row(Table::Controller, uuid));
    BridgeFacts {
        uuid: uuid.hyphenated().to_string(),
        datapath_type: row.text("datapath_type").to_owned(),
        datapath_id: row.text("datapath_id").to_owned(),
        fail_mode: row.text("fail_mode").to_owned(),
        stp_enable: row.is("stp_enable"),
        rstp_enable: row.is("rstp_enable"),
        mcast_snooping_enable: row.is("mcast_snooping_enable"),
        ports,
        controllers: controllers.map(|controller| controller.text("target").to_owned()).collect(),
        external_ids: row.map("external_ids"),
        other_config: row.map("other_config"),
    }
}

/// The facts of a port that a bridge holds.
fn port_facts(cache: &Cache, name: &str, opened: &mut Opened) -> Option<PortFacts> {
    let (uuid, row) = cache.named(Table::Port, name)?;
    let holder = cache.row(Table::Bridge, cache.holder(uuid)?)?;
    let (bridge, userspace) = (holder.name(), holder.text("datapath_type") == USERSPACE);
    let interface = |uuid: Uuid| {
        let mut facts = interface_facts(cache.row(Table::Interface, uuid)?);
        facts.replaced = opened.is_replaced(uuid, &facts, &bridge, userspace);
        Some(facts)
    };
    let mut interfaces: Vec<InterfaceFacts> = row.uuids("interfaces").filter_map(interface).collect();
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    let small = |atom: &Atom| match atom {
        Atom::Int(value) => u16::try_from(*value).ok(),
        _ => None,
    };
    Some(PortFacts {
        uuid: uuid.hyphenated().to_string(),
        bridge,
        tag: row.int("tag").and_then(|tag| u16::try_from(tag).ok()),
        trunks: row.atoms("trunks").filter_map(small).collect(),
        vlan_mode: row.text("vlan_mode").to_owned(),
        bond_mode: row.text("bond_mode").to_owned(),
        lacp: row.text("lacp").to_owned(),
        external_ids: row.map("external_ids"),
        other_config: row.map("other_config"),
        fake_bridge: row.is("fake_bridge"),
        interfaces,
    })
}

fn interface_facts(row: &Row) -> InterfaceFacts {
    let int = |column: &str| row.int(column).and_then(|value| i32::try_from(value).ok());
    InterfaceFacts {
        name: (*row.name()).to_owned(),
        kind: row.text("type").to_owned(),
        ofport: int("ofport"),
        link_state: row.text("link_state").to_owned(),
        admin_state: row.text("admin_state").to_owned(),
        mac_in_use: row.text("mac_in_use").to_owned(),
        mtu: int("mtu"),
        mtu_request: row.int("mtu_request").and_then(|value| u32::try_from(value).ok()),
        ifindex: row.int("ifindex"),
        replaced: false,
        error: row.text("error").to_owned(),
        options: row.map("options"),
        external_ids: row.map("external_ids"),
    }
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
