//! From rows to facts: what changed since one last asked, at the cost of what changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use imbl::OrdSet;
use uuid::Uuid;

use super::{cache::Cache, row::Row, schema::Table, value::Atom};
use crate::model::{BridgeFacts, Change, InterfaceFacts, Name, PortFacts};

/// The facts that were told last.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    bridges: BTreeMap<Name, BridgeFacts>,
    ports: HashMap<Name, PortFacts>,
    /// Names of bridges' and ports' rows, kept until their end was told.
    names: HashMap<Uuid, Name>,
    members: HashMap<Name, OrdSet<Name>>,
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
                Table::Interface => ports.extend(holder_name(cache, Table::Port, uuid)),
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
        changes
    }

    fn update_port(&mut self, cache: &Cache, name: Name, bridges: &mut BTreeSet<Name>) -> Option<Change> {
        let new = port_facts(cache, &name);
        let old = self.ports.get(&name);
        if old == new.as_ref() {
            return None;
        }
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
            return self.bridges.remove(&name).map(|_| Change::BridgeGone(name));
        };
        let facts = bridge_facts(cache, uuid, row, self.members.get(&name).cloned().unwrap_or_default());
        if self.bridges.get(&name) == Some(&facts) {
            return None;
        }
        self.bridges.insert(name.clone(), facts.clone());
        Some(Change::Bridge(name, facts))
    }
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
fn port_facts(cache: &Cache, name: &str) -> Option<PortFacts> {
    let (uuid, row) = cache.named(Table::Port, name)?;
    let bridge = holder_name(cache, Table::Bridge, uuid)?;
    let mut interfaces: Vec<InterfaceFacts> =
        row.uuids("interfaces").filter_map(|uuid| cache.row(Table::Interface, uuid)).map(interface_facts).collect();
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
        error: row.text("error").to_owned(),
        options: row.map("options"),
        external_ids: row.map("external_ids"),
    }
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
