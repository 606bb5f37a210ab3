#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::plugins::ovsdb::cache::Notation;

fn reference(number: u128) -> Value {
    json!(["uuid", Uuid::from_u128(number).to_string()])
}

fn key(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

fn feed(cache: &mut Cache, updates: &Value) {
    cache.apply(Notation::Difference, &updates.to_string()).unwrap();
}

fn one_port() -> (Cache, Mirror) {
    let mut cache = Cache::default();
    feed(
        &mut cache,
        &json!({
            "Bridge": {key(1): {"initial": {"name": "br0", "ports": reference(2), "controller": reference(4)}}},
            "Port": {key(2): {"initial": {"name": "p0", "interfaces": reference(3), "tag": 7}}},
            "Interface": {key(3): {"initial": {"name": "p0", "type": "internal", "ofport": 1}}},
            "Controller": {key(4): {"initial": {"target": "tcp:192.0.2.1"}}},
        }),
    );
    (cache, Mirror::default())
}

#[test]
fn all_rows_are_told_once() {
    let (mut cache, mut mirror) = one_port();
    let changes = mirror.reset(&mut cache);
    let [Change::Bridge(bridge, facts), Change::Port(port, port_facts)] = changes.as_slice() else {
        panic!("{changes:?}")
    };
    assert_eq!((&**bridge, &**port, &*port_facts.bridge), ("br0", "p0", "br0"));
    assert_eq!(facts.ports.iter().map(|name| &**name).collect::<Vec<_>>(), ["p0"]);
    assert!(facts.controllers.contains("tcp:192.0.2.1"));
    assert_eq!((port_facts.tag, port_facts.interfaces[0].ofport), (Some(7), Some(1)));
    assert_eq!(mirror.drain(&mut cache), []);
}

#[test]
fn a_change_of_an_interface_is_one_change_of_its_port() {
    let (mut cache, mut mirror) = one_port();
    mirror.reset(&mut cache);
    feed(&mut cache, &json!({"Interface": {key(3): {"modify": {"link_state": "up"}}}}));
    let changes = mirror.drain(&mut cache);
    assert!(matches!(changes.as_slice(), [Change::Port(_, facts)] if facts.interfaces[0].link_state == "up"));
}

#[test]
fn what_is_put_back_in_one_burst_is_no_change() {
    let (mut cache, mut mirror) = one_port();
    mirror.reset(&mut cache);
    feed(&mut cache, &json!({"Port": {key(2): {"modify": {"tag": 8}}}}));
    feed(&mut cache, &json!({"Port": {key(2): {"modify": {"tag": 7}}}}));
    assert_eq!(mirror.drain(&mut cache), []);
}

#[test]
fn a_port_plugged_anew_is_one_change_with_another_uuid() {
    let (mut cache, mut mirror) = one_port();
    mirror.reset(&mut cache);
    feed(
        &mut cache,
        &json!({
            "Bridge": {key(1): {"modify": {"ports": ["set", [reference(2), reference(5)]]}}},
            "Port": {
                key(2): {"delete": null},
                key(5): {"insert": {"name": "p0", "interfaces": reference(6)}}
            },
            "Interface": {key(3): {"delete": null}, key(6): {"insert": {"name": "p0"}}},
        }),
    );
    let changes = mirror.drain(&mut cache);
    let [Change::Port(name, facts)] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((&**name, facts.uuid.as_str(), facts.tag), ("p0", key(5).as_str(), None));
}

#[test]
fn a_bridge_takes_its_ports_along() {
    let (mut cache, mut mirror) = one_port();
    mirror.reset(&mut cache);
    feed(
        &mut cache,
        &json!({
            "Bridge": {key(1): {"delete": null}}, "Port": {key(2): {"delete": null}},
            "Interface": {key(3): {"delete": null}}, "Controller": {key(4): {"delete": null}},
        }),
    );
    assert_eq!(mirror.drain(&mut cache), [Change::BridgeGone("br0".into()), Change::PortGone("p0".into())]);
    assert!(mirror.names.is_empty() && mirror.members.is_empty() && mirror.ports.is_empty());
}

#[test]
fn the_root_alone_tells_nothing() {
    let (mut cache, mut mirror) = one_port();
    mirror.reset(&mut cache);
    feed(&mut cache, &json!({"Open_vSwitch": {key(9): {"insert": {"cur_cfg": 5}}}}));
    assert_eq!(mirror.drain(&mut cache), []);
}

/// Ports 1..5 on bridges 1..3, as a whole database state: port to (bridge, generation of its row, tag, link state).
type World = BTreeMap<u128, (u128, u128, i64, bool)>;

fn world() -> impl Strategy<Value = World> {
    prop::collection::btree_map(1_u128..6, (1_u128..4, 0_u128..2, 0_i64..2, any::<bool>()), 0..6)
}

fn updates(world: &World) -> Map<String, Value> {
    let mut bridges: BTreeMap<u128, Vec<Value>> = BTreeMap::new();
    let (mut ports, mut interfaces) = (Map::new(), Map::new());
    for (&port, &(bridge, row, tag, up)) in world {
        let (port_row, interface_row) = (100 + port * 10 + row, 200 + port * 10 + row);
        bridges.entry(bridge).or_default().push(reference(port_row));
        let name = format!("p{port}");
        ports.insert(key(port_row), json!({"new": {"name": name, "interfaces": reference(interface_row), "tag": tag}}));
        let link = if up { "up" } else { "down" };
        interfaces.insert(key(interface_row), json!({"new": {"name": name, "link_state": link}}));
    }
    let bridges = bridges
        .into_iter()
        .map(|(bridge, ports)| (key(bridge), json!({"new": {"name": format!("b{bridge}"), "ports": ["set", ports]}})));
    let bridges = bridges.collect();
    [("Bridge", bridges), ("Port", ports), ("Interface", interfaces)]
        .map(|(t, rows)| (t.to_owned(), Value::Object(rows)))
        .into_iter()
        .collect()
}

fn told(shown: &mut BTreeMap<crate::model::ResourceId, Change>, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::BridgeGone(_) | Change::PortGone(_) => {
                drop(shown.remove(&change.id().unwrap()).expect("gone without having been"));
            }
            other => {
                assert_ne!(shown.insert(other.id().unwrap(), other.clone()), Some(other), "told twice");
            }
        }
    }
}

proptest! {
    #[test]
    fn following_ends_where_loading_anew_does(worlds in prop::collection::vec(world(), 1..6)) {
        let (mut cache, mut mirror) = (Cache::default(), Mirror::default());
        let (mut shown, mut before) = (BTreeMap::new(), Map::new());
        for world in worlds {
            let after = updates(&world);
            // As the server tells it: what is new whole, what is gone as such, in one update.
            let mut update = after.clone();
            for (table, rows) in &before {
                for row in rows.as_object().unwrap().keys() {
                    let rows = update[table].as_object_mut().unwrap();
                    rows.entry(row.clone()).or_insert_with(|| json!({"old": {}}));
                }
            }
            cache.apply(Notation::Whole, &Value::Object(update).to_string()).unwrap();
            told(&mut shown, mirror.drain(&mut cache));
            let (mut fresh, mut all) = (Cache::default(), BTreeMap::new());
            fresh.apply(Notation::Whole, &Value::Object(after.clone()).to_string()).unwrap();
            told(&mut all, Mirror::default().reset(&mut fresh));
            prop_assert_eq!(&shown, &all);
            before = after;
        }
    }
}

/// Whether the device of `p0` is told as replaced, after each change of its row.
fn replaced(datapath: &str, changes: &[Value]) -> Vec<bool> {
    let mut cache = Cache::default();
    feed(
        &mut cache,
        &json!({
            "Bridge": {key(1): {"initial": {"name": "br0", "datapath_type": datapath, "ports": reference(2)}}},
            "Port": {key(2): {"initial": {"name": "p0", "interfaces": reference(3)}}},
            "Interface": {key(3): {"initial": {"name": "p0", "ofport": 1, "ifindex": 6}}},
        }),
    );
    let mut mirror = Mirror::default();
    mirror.reset(&mut cache);
    let told = |change: &Value| {
        feed(&mut cache, &json!({"Interface": {key(3): {"modify": change}}}));
        mirror.drain(&mut cache);
        mirror.port("p0").unwrap().device_replaced()
    };
    changes.iter().map(told).collect()
}

/// As ovs-vswitchd 3.1 tells it of a device that is deleted and made anew.
#[test]
fn a_device_made_anew_is_not_the_one_that_the_userspace_datapath_opened() {
    let restart = [json!({"ifindex": 0, "link_state": "down"}), json!({"ifindex": 7}), json!({"link_state": "up"})];
    assert_eq!(replaced("netdev", &restart), [false, true, true]);
    assert_eq!(replaced("netdev", &[json!({"ifindex": 7})]), [true], "both at once");
    // The kernel's datapath, or none that is known: ovs-vswitchd opens the new one.
    assert_eq!(replaced("system", &restart), [false, false, false]);
    assert_eq!(replaced("", &restart), [false, false, false]);
    // Devices that Open vSwitch makes itself.
    assert_eq!(replaced("netdev", &[json!({"type": "tap"}), json!({"ifindex": 7})]), [false, false]);
    // It failed to open, and what it opens next is what counts.
    let reopened = [json!({"ofport": -1, "ifindex": 0}), json!({"ofport": 2, "ifindex": 7}), json!({"ifindex": 8})];
    assert_eq!(replaced("netdev", &reopened), [false, false, true]);
}

#[test]
fn a_port_plugged_anew_has_the_device_that_is_there() {
    let (mut cache, mut mirror) = one_port();
    feed(
        &mut cache,
        &json!({
            "Bridge": {key(1): {"modify": {"datapath_type": "netdev"}}},
            "Interface": {key(3): {"modify": {"type": "", "ifindex": 6}}},
        }),
    );
    mirror.reset(&mut cache);
    feed(&mut cache, &json!({"Interface": {key(3): {"modify": {"ifindex": 7}}}}));
    mirror.drain(&mut cache);
    assert!(mirror.port("p0").unwrap().device_replaced());
    feed(
        &mut cache,
        &json!({
            "Bridge": {key(1): {"modify": {"ports": ["set", [reference(2), reference(5)]]}}},
            "Port": {key(2): {"delete": null}, key(5): {"insert": {"name": "p0", "interfaces": reference(6)}}},
            "Interface": {
                key(3): {"delete": null},
                key(6): {"insert": {"name": "p0", "ofport": 2, "ifindex": 7}}
            },
        }),
    );
    mirror.drain(&mut cache);
    assert!(!mirror.port("p0").unwrap().device_replaced());
    assert!(!mirror.opened.0.contains_key(&Uuid::from_u128(3)), "what is gone is forgotten");
}
