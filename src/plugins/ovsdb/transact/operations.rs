//! From drafts to operations: the guards first, then the least that has to be written.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    super::{
        schema::Table,
        value::{map_json, set_json, uuid_json},
    },
    Operation, View,
    draft::{Draft, Entry},
};
use crate::model::{BridgeFacts, InterfaceFacts, Name, PortFacts, StringMap};

/// What comes to a set of rows and what leaves it, on the wire.
#[derive(Debug, Default)]
struct Members {
    come: Vec<Value>,
    go: Vec<Value>,
    action: Option<usize>,
}

impl Members {
    fn mutations(&self, column: &str) -> Vec<Value> {
        let changes = [("delete", &self.go), ("insert", &self.come)];
        let some = changes.into_iter().filter(|(_, rows)| !rows.is_empty());
        some.map(|(verb, rows)| json!([column, verb, set_json(rows.iter().cloned())])).collect()
    }
}

struct Writer<'a> {
    view: View<'a>,
    guards: Vec<Operation>,
    writes: Vec<Operation>,
    /// Number of the next row that is inserted.
    next: usize,
    /// Rows of `Bridge.ports`.
    ports: BTreeMap<Name, Members>,
}

/// Writes what the draft changes; nothing where it changes nothing.
pub(super) fn write(draft: &Draft<'_>, view: View<'_>, comment: &str) -> Vec<Operation> {
    let mut writer = Writer { view, guards: Vec::new(), writes: Vec::new(), next: 0, ports: BTreeMap::new() };
    for (name, entry) in &draft.ports {
        // What goes with its bridge needs neither guard nor operation of its own.
        let with_bridge = |port: &PortFacts| draft.bridges.get(&port.bridge).is_some_and(|b| b.goes().is_some());
        writer.port(name, entry, entry.goes().is_some_and(with_bridge));
    }
    let mut root = Members::default();
    for (name, entry) in &draft.bridges {
        writer.bridge(name, entry, &mut root);
    }
    let left: Vec<(Name, Members)> = std::mem::take(&mut writer.ports).into_iter().collect();
    for (bridge, members) in left {
        if let Some((uuid, _)) = view.cache.named(Table::Bridge, &bridge) {
            // A port inserted for a bridge that is gone would vanish at commit, without an error.
            writer.guard(
                Table::Bridge,
                &is(uuid),
                &Map::from_iter([("name".to_owned(), json!(&*bridge))]),
                members.action,
            );
            writer.mutate(Table::Bridge, uuid, &members.mutations("ports"), members.action);
        }
    }
    if writer.writes.is_empty() && root.come.is_empty() && root.go.is_empty() {
        return Vec::new();
    }
    let mut mutations = root.mutations("bridges");
    mutations.push(json!(["next_cfg", "+=", 1]));
    let table = Table::Root.name();
    let own = |json| Operation { json, action: None, guard: false };
    let mut operations = writer.guards;
    operations.append(&mut writer.writes);
    operations.push(own(json!({"op": "mutate", "table": table, "where": [], "mutations": mutations})));
    operations.push(own(json!({"op": "select", "table": table, "where": [], "columns": ["next_cfg"]})));
    operations.push(own(json!({"op": "comment", "comment": comment})));
    operations
}

impl Writer<'_> {
    fn guard(&mut self, table: Table, clause: &Value, columns: &Map<String, Value>, action: Option<usize>) {
        let names: Vec<&String> = columns.keys().collect();
        let json = json!({
            "op": "wait", "timeout": 0, "table": table.name(), "where": clause,
            "columns": names, "until": "==", "rows": [columns],
        });
        self.guards.push(Operation { json, action, guard: true });
    }

    fn guard_absent(&mut self, table: Table, name: &str, action: Option<usize>) {
        let json = json!({
            "op": "wait", "timeout": 0, "table": table.name(), "where": [["name", "==", name]],
            "columns": ["name"], "until": "==", "rows": [],
        });
        self.guards.push(Operation { json, action, guard: true });
    }

    /// Inserts a row and answers with the reference to it.
    fn insert(&mut self, table: Table, row: &Map<String, Value>, action: Option<usize>) -> Value {
        let name = format!("row{}", self.next);
        self.next += 1;
        let json = json!({"op": "insert", "table": table.name(), "row": row, "uuid-name": name});
        self.writes.push(Operation { json, action, guard: false });
        json!(["named-uuid", name])
    }

    fn update(&mut self, table: Table, uuid: Uuid, row: &Map<String, Value>, action: Option<usize>) {
        if !row.is_empty() {
            let json = json!({"op": "update", "table": table.name(), "where": is(uuid), "row": row});
            self.writes.push(Operation { json, action, guard: false });
        }
    }

    fn mutate(&mut self, table: Table, uuid: Uuid, mutations: &[Value], action: Option<usize>) {
        if !mutations.is_empty() {
            let json = json!({"op": "mutate", "table": table.name(), "where": is(uuid), "mutations": mutations});
            self.writes.push(Operation { json, action, guard: false });
        }
    }

    /// Updates what changes of the columns, guarded by what they were; the name stands in where none is read, so that
    /// the row is known to be there.
    fn change(
        &mut self,
        table: Table,
        (uuid, name): (Uuid, &str),
        before: Map<String, Value>,
        mut now: Map<String, Value>,
        action: Option<usize>,
    ) {
        let mut read: Map<String, Value> =
            before.into_iter().filter(|(column, value)| now.get(column) != Some(value)).collect();
        now.retain(|column, _| read.contains_key(column));
        if read.is_empty() {
            read.insert("name".to_owned(), json!(name));
        }
        self.guard(table, &is(uuid), &read, action);
        self.update(table, uuid, &now, action);
    }

    fn port(&mut self, name: &Name, entry: &Entry<PortFacts>, with_bridge: bool) {
        let action = entry.action;
        if let Some(facts) = entry.goes()
            && !with_bridge
            && let Some((uuid, _)) = self.view.cache.named(Table::Port, name)
        {
            self.guard_member(&facts.bridge, uuid, action);
            self.leave(&facts.bridge, uuid, action);
        }
        if let Some(facts) = entry.comes() {
            if entry.before.is_none() {
                self.guard_absent(Table::Port, name, action);
            }
            let kept = entry.before.as_ref().map(|port| port.interfaces.as_slice()).unwrap_or_default();
            let interfaces: Vec<Value> =
                facts.interfaces.iter().map(|interface| self.add_interface(interface, kept, action)).collect();
            let mut row = port_columns(facts);
            row.insert("name".to_owned(), json!(&**name));
            row.insert("interfaces".to_owned(), set_json(interfaces));
            insert_map(&mut row, "external_ids", &facts.external_ids);
            insert_map(&mut row, "other_config", &facts.other_config);
            let port = self.insert(Table::Port, &compact(row), action);
            self.join(&facts.bridge, port, action);
        }
        if let Some((before, now)) = entry.changes()
            && let Some((uuid, _)) = self.view.cache.named(Table::Port, name)
        {
            self.change_port((uuid, name), before, now, action);
        }
    }

    fn change_port(&mut self, row: (Uuid, &Name), before: &PortFacts, now: &PortFacts, action: Option<usize>) {
        let (uuid, name) = row;
        if before.bridge != now.bridge {
            self.guard_member(&before.bridge, uuid, action);
            self.leave(&before.bridge, uuid, action);
            self.join(&now.bridge, uuid_json(uuid), action);
        }
        let (mut old, mut new) = (port_columns(before), port_columns(now));
        let names = |facts: &PortFacts| facts.interfaces.iter().map(|own| own.name.clone()).collect::<BTreeSet<_>>();
        if names(before) != names(now) {
            let is_kept = |interface: &&InterfaceFacts| before.interfaces.iter().any(|own| own.name == interface.name);
            let kept = now.interfaces.iter().filter(is_kept).map(|own| self.interface_ref(&own.name));
            let mut after: Vec<Value> = kept.collect();
            for interface in now.interfaces.iter().filter(|interface| !is_kept(interface)) {
                after.push(self.add_interface(interface, &[], action));
            }
            let were = before.interfaces.iter().map(|own| self.interface_ref(&own.name));
            old.insert("interfaces".to_owned(), set_json(were));
            new.insert("interfaces".to_owned(), set_json(after));
        }
        self.change(Table::Port, (uuid, name), old, new, action);
        let mut mutations = map_mutations("external_ids", &before.external_ids, &now.external_ids);
        mutations.extend(map_mutations("other_config", &before.other_config, &now.other_config));
        self.mutate(Table::Port, uuid, &mutations, action);
        for interface in &now.interfaces {
            if let Some(old) = before.interfaces.iter().find(|old| old.name == interface.name)
                && (interface_columns(old) != interface_columns(interface) || old.options != interface.options)
                && let Some((uuid, _)) = self.view.cache.named(Table::Interface, &interface.name)
            {
                let (before, now) = (interface_columns(old), interface_columns(interface));
                self.change(Table::Interface, (uuid, &interface.name), before, now, action);
                let mutations = map_mutations("options", &old.options, &interface.options);
                self.mutate(Table::Interface, uuid, &mutations, action);
            }
        }
    }

    fn interface_ref(&self, name: &str) -> Value {
        uuid_json(self.view.cache.named(Table::Interface, name).map(|(uuid, _)| uuid).unwrap_or_default())
    }

    /// Inserts an interface. One of the same name among `going` leaves in the same transaction.
    fn add_interface(&mut self, facts: &InterfaceFacts, going: &[InterfaceFacts], action: Option<usize>) -> Value {
        let stored = self.view.cache.named(Table::Interface, &facts.name).is_some();
        if !stored && going.iter().all(|own| own.name != facts.name) {
            self.guard_absent(Table::Interface, &facts.name, action);
        }
        let mut row = interface_columns(facts);
        row.insert("name".to_owned(), json!(facts.name));
        insert_map(&mut row, "options", &facts.options);
        self.insert(Table::Interface, &compact(row), action)
    }

    fn guard_member(&mut self, bridge: &str, port: Uuid, action: Option<usize>) {
        if let Some((uuid, _)) = self.view.cache.named(Table::Bridge, bridge) {
            let clause = json!([["_uuid", "==", uuid_json(uuid)], ["ports", "includes", uuid_json(port)]]);
            let name = Map::from_iter([("name".to_owned(), json!(bridge))]);
            self.guard(Table::Bridge, &clause, &name, action);
        }
    }

    fn leave(&mut self, bridge: &Name, port: Uuid, action: Option<usize>) {
        let members = self.ports.entry(bridge.clone()).or_default();
        members.go.push(uuid_json(port));
        members.action = action;
    }

    fn join(&mut self, bridge: &Name, port: Value, action: Option<usize>) {
        let members = self.ports.entry(bridge.clone()).or_default();
        members.come.push(port);
        members.action = action;
    }

    fn bridge(&mut self, name: &Name, entry: &Entry<BridgeFacts>, root: &mut Members) {
        let action = entry.action;
        let stored = self.view.cache.named(Table::Bridge, name);
        if entry.goes().is_some()
            && let Some((uuid, row)) = stored
        {
            // Ports that came meanwhile are not to go unseen.
            let ports = set_json(row.uuids("ports").map(uuid_json));
            self.guard(Table::Bridge, &is(uuid), &Map::from_iter([("ports".to_owned(), ports)]), action);
            root.go.push(uuid_json(uuid));
            self.ports.entry(name.clone()).or_default().go.clear();
        }
        if let Some(facts) = entry.comes() {
            if entry.before.is_none() {
                self.guard_absent(Table::Bridge, name, action);
            }
            let ports = self.ports.remove(name).unwrap_or_default().come;
            let controllers: Vec<Value> =
                facts.controllers.iter().map(|target| self.add_controller(target, action)).collect();
            let mut row = bridge_columns(facts);
            row.insert("name".to_owned(), json!(&**name));
            row.insert("ports".to_owned(), set_json(ports));
            row.insert("controller".to_owned(), set_json(controllers));
            insert_map(&mut row, "external_ids", &facts.external_ids);
            insert_map(&mut row, "other_config", &facts.other_config);
            root.come.push(self.insert(Table::Bridge, &compact(row), action));
        } else if entry.goes().is_some() {
            self.ports.remove(name);
        }
        if let Some((before, now)) = entry.changes()
            && let Some((uuid, row)) = stored
        {
            let mut members = Members::default();
            for target in now.controllers.difference(&before.controllers) {
                members.come.push(self.add_controller(target, action));
            }
            for controller in row.uuids("controller") {
                let target = self.view.cache.row(Table::Controller, controller).map(|row| row.text("target"));
                if target.is_none_or(|target| !now.controllers.contains(target)) {
                    members.go.push(uuid_json(controller));
                }
            }
            self.change(Table::Bridge, (uuid, name), bridge_columns(before), bridge_columns(now), action);
            let mut mutations = members.mutations("controller");
            mutations.extend(map_mutations("external_ids", &before.external_ids, &now.external_ids));
            mutations.extend(map_mutations("other_config", &before.other_config, &now.other_config));
            self.mutate(Table::Bridge, uuid, &mutations, action);
        }
    }

    fn add_controller(&mut self, target: &str, action: Option<usize>) -> Value {
        self.insert(Table::Controller, &Map::from_iter([("target".to_owned(), json!(target))]), action)
    }
}

fn is(uuid: Uuid) -> Value {
    json!([["_uuid", "==", uuid_json(uuid)]])
}

fn optional(text: &str) -> Value {
    if text.is_empty() { set_json([]) } else { json!(text) }
}

fn insert_map(row: &mut Map<String, Value>, column: &str, map: &StringMap) {
    row.insert(column.to_owned(), map_json(map.iter().map(|(key, value)| (key.as_str(), value.as_str()))));
}

/// Leaves out what is the default anyway.
fn compact(mut row: Map<String, Value>) -> Map<String, Value> {
    row.retain(|_, value| {
        let empty = [json!(["set", []]), json!(["map", []]), json!(""), json!(false)];
        !empty.contains(value)
    });
    row
}

fn columns<const N: usize>(columns: [(&str, Value); N]) -> Map<String, Value> {
    columns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The columns of a bridge that are written whole.
fn bridge_columns(facts: &BridgeFacts) -> Map<String, Value> {
    columns([
        ("datapath_type", json!(facts.datapath_type)),
        ("fail_mode", optional(&facts.fail_mode)),
        ("stp_enable", json!(facts.stp_enable)),
        ("rstp_enable", json!(facts.rstp_enable)),
        ("mcast_snooping_enable", json!(facts.mcast_snooping_enable)),
    ])
}

/// The columns of a port that are written whole.
fn port_columns(facts: &PortFacts) -> Map<String, Value> {
    columns([
        ("tag", facts.tag.map_or_else(|| set_json([]), |tag| json!(tag))),
        ("trunks", set_json(facts.trunks.iter().map(|vlan| json!(vlan)))),
        ("vlan_mode", optional(&facts.vlan_mode)),
        ("bond_mode", optional(&facts.bond_mode)),
        ("lacp", optional(&facts.lacp)),
    ])
}

/// The columns of an interface that are written whole.
fn interface_columns(facts: &InterfaceFacts) -> Map<String, Value> {
    columns([
        ("type", json!(facts.kind)),
        ("mtu_request", facts.mtu_request.map_or_else(|| set_json([]), |mtu| json!(mtu))),
    ])
}

/// Key by key: `insert` never overwrites, so each key is deleted first, also one that another client may have added
/// meanwhile.
fn map_mutations(column: &str, before: &StringMap, now: &StringMap) -> Vec<Value> {
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let gone: Vec<Value> =
        keys.into_iter().filter(|key| before.get(*key) != now.get(*key)).map(|key| json!(key)).collect();
    let come: Vec<(&str, &str)> = now
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(value))
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let mut mutations = Vec::new();
    if !gone.is_empty() {
        mutations.push(json!([column, "delete", set_json(gone)]));
    }
    if !come.is_empty() {
        mutations.push(json!([column, "insert", map_json(come)]));
    }
    mutations
}
