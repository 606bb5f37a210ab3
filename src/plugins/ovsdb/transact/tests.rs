#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::{
    desired::{BridgeSpec, FailMode, PortSpec, Want},
    plan::{BridgeOp, PortOp},
    plugins::ovsdb::cache::Notation,
};

const MACHINE: &str = "0123456789abcdef0123456789abcdef";

fn reference(number: u128) -> Value {
    json!(["uuid", key(number)])
}

fn key(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

/// br0 with its local port (1, 2, 3), p0 (4, 5) and a fake bridge (6, 7); br1 (10) with bond0 (11: eth1 12, eth2 13).
fn world() -> (Cache, Mirror) {
    let mut cache = Cache::default();
    let rows = json!({
        "Open_vSwitch": {key(99): {"initial": {"next_cfg": 3, "cur_cfg": 3}}},
        "Bridge": {
            key(1): {"initial": {"name": "br0", "ports": ["set", [reference(2), reference(4), reference(6)]],
                "controller": reference(20), "external_ids": ["map", [["site", "north"]]]}},
            key(10): {"initial": {"name": "br1", "ports": reference(11)}},
        },
        "Port": {
            key(2): {"initial": {"name": "br0", "interfaces": reference(3)}},
            key(4): {"initial": {"name": "p0", "interfaces": reference(5), "tag": 7,
                "external_ids": ["map", [["a", "1"], ["b", "2"]]]}},
            key(6): {"initial": {"name": "vlan9", "interfaces": reference(7), "fake_bridge": true, "tag": 9}},
            key(11): {"initial": {"name": "bond0", "interfaces": ["set", [reference(12), reference(13)]]}},
        },
        "Interface": {
            key(3): {"initial": {"name": "br0", "type": "internal"}},
            key(5): {"initial": {"name": "p0", "type": "internal", "ofport": 1}},
            key(7): {"initial": {"name": "vlan9", "type": "internal"}},
            key(12): {"initial": {"name": "eth1"}},
            key(13): {"initial": {"name": "eth2"}},
        },
        "Controller": {key(20): {"initial": {"target": "tcp:192.0.2.1"}}},
    });
    cache.apply(Notation::Difference, &rows.to_string()).unwrap();
    let mut mirror = Mirror::default();
    mirror.reset(&mut cache);
    (cache, mirror)
}

fn run(actions: &[Action]) -> Prepared {
    let (cache, mirror) = world();
    prepare(View { cache: &cache, mirror: &mirror }, MACHINE, "test", actions)
}

fn port(name: &str, op: fn(Arc<PortSpec>) -> PortOp, spec: PortSpec) -> Action {
    Action::Port(name.into(), op(spec.into()))
}

fn on(bridge: &str) -> PortSpec {
    PortSpec { bridge: bridge.into(), ..PortSpec::default() }
}

fn bridge(name: &str, op: fn(Arc<BridgeSpec>) -> BridgeOp, spec: BridgeSpec) -> Action {
    Action::Bridge(name.into(), op(spec.into()))
}

/// The operations that write rows, without the transaction's own.
fn writes(prepared: &Prepared) -> Vec<&Value> {
    prepared.operations.iter().filter(|own| !own.guard && own.action.is_some()).map(|own| &own.json).collect()
}

#[test]
fn what_holds_is_not_written() {
    let tagged = PortSpec { tag: Want::Is(7), kind: Some("internal".into()), ..on("br0") };
    let system = BridgeSpec { datapath_type: Some("system".into()), fail_mode: Want::Unset, ..BridgeSpec::default() };
    let prepared = run(&[
        port("p0", PortOp::Set, tagged.clone()),
        port("p0", PortOp::Add, tagged.clone()),
        port("p0", PortOp::Recreate, tagged.clone()),
        port("p0", PortOp::Move, tagged),
        bridge("br0", BridgeOp::Add, system),
        Action::Port("px".into(), PortOp::Delete),
        Action::Bridge("brx".into(), BridgeOp::Delete),
    ]);
    assert_eq!(prepared.actions, vec![Ok(false); 7]);
    assert_eq!(prepared.operations, []);
}

#[test]
fn one_field_is_one_update_with_a_guard_on_what_was_read() {
    let prepared = run(&[port("p0", PortOp::Set, PortSpec { tag: Want::Unset, ..on("br0") })]);
    assert_eq!(prepared.actions, [Ok(true)]);
    let json: Vec<&Value> = prepared.operations.iter().map(|own| &own.json).collect();
    assert_eq!(
        json,
        [
            &json!({"op": "wait", "timeout": 0, "table": "Port", "where": [["_uuid", "==", reference(4)]],
                "columns": ["tag"], "until": "==", "rows": [{"tag": 7}]}),
            &json!({"op": "update", "table": "Port", "where": [["_uuid", "==", reference(4)]], "row": {"tag": ["set", []]}}),
            &json!({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]}),
            &json!({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]}),
            &json!({"op": "comment", "comment": "test"}),
        ]
    );
}

#[test]
fn maps_are_written_key_by_key() {
    let external_ids = [("a", Some("9")), ("b", None), ("c", Some("3")), ("d", None)];
    let external_ids = external_ids.map(|(key, value)| (key.to_owned(), value.map(str::to_owned))).into();
    let prepared = run(&[port("p0", PortOp::Set, PortSpec { external_ids, ..on("br0") })]);
    assert_eq!(
        writes(&prepared)[0]["mutations"],
        json!([
            ["external_ids", "delete", ["set", ["a", "b", "c"]]],
            ["external_ids", "insert", ["map", [["a", "9"], ["c", "3"]]]]
        ])
    );
}

#[test]
fn a_bridge_comes_with_its_local_port_its_mark_and_the_ports_of_the_same_batch() {
    let spec = BridgeSpec {
        fail_mode: Want::Is(FailMode::Secure),
        controllers: Some(BTreeSet::from(["tcp:192.0.2.9".into()])),
        ..BridgeSpec::default()
    };
    let local = PortSpec { tag: Want::Is(4), ..on("new") };
    let prepared = run(&[
        bridge("new", BridgeOp::Add, spec),
        port("q", PortOp::Add, on("new")),
        port("p0", PortOp::Move, on("new")),
        port("new", PortOp::Set, local),
    ]);
    assert_eq!(prepared.actions, vec![Ok(true); 4]);
    let inserted = |table: &str| -> Vec<&Value> {
        writes(&prepared).into_iter().filter(|own| own["op"] == "insert" && own["table"] == table).collect()
    };
    let rows = inserted("Bridge");
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    let row = &row["row"];
    assert_eq!(row["external_ids"], json!(["map", [["opdbus-owner", MACHINE]]]));
    assert_eq!((&row["fail_mode"], row["ports"][1].as_array().unwrap().len()), (&json!("secure"), 3));
    assert!(row["ports"][1].as_array().unwrap().contains(&reference(4)), "the port that moves");
    let ports = inserted("Port");
    let of = |name: &str| ports.iter().find(|port| port["row"]["name"] == name).unwrap();
    assert_eq!(of("new")["row"]["tag"], json!(4));
    assert!(of("new")["row"].get("external_ids").is_none(), "a local port goes with its bridge and needs no mark");
    assert_eq!(of("q")["row"]["external_ids"], json!(["map", [["opdbus-owner", MACHINE]]]));
    let root = prepared.operations.iter().find(|own| own.json["table"] == "Open_vSwitch").unwrap();
    assert_eq!(root.json["mutations"][0][1], "insert");
}

#[test]
fn to_make_anew_is_to_delete_and_add_in_one_transaction() {
    let spec = PortSpec { interfaces: Some(BTreeSet::from(["e1".into(), "p0".into()])), ..on("br0") };
    let prepared = run(&[port("p0", PortOp::Recreate, spec)]);
    let writes = writes(&prepared);
    let mutate = writes.iter().find(|own| own["op"] == "mutate").unwrap();
    assert_eq!(mutate["mutations"][0], json!(["ports", "delete", ["set", [reference(4)]]]));
    assert_eq!(mutate["mutations"][1][1], "insert");
    assert_eq!(writes.iter().filter(|own| own["op"] == "insert").count(), 3, "two interfaces and a port");
}

#[test]
fn a_port_comes_only_if_its_bridge_and_its_name_are_as_they_were() {
    let prepared = run(&[port("q", PortOp::Add, on("br0"))]);
    let guards: Vec<&Value> = prepared.operations.iter().filter(|own| own.guard).map(|own| &own.json).collect();
    let read: Vec<_> = guards.iter().map(|guard| (&guard["table"], guard["rows"].as_array().unwrap().len())).collect();
    assert_eq!(read, [(&json!("Port"), 0), (&json!("Interface"), 0), (&json!("Bridge"), 1)]);
    assert!(guards.iter().all(|guard| guard["timeout"] == 0), "without it the server would wait for ever");
}

#[test]
fn a_bond_keeps_the_interfaces_that_remain() {
    let spec = PortSpec { interfaces: Some(BTreeSet::from(["eth2".into(), "eth3".into()])), ..on("br1") };
    let prepared = run(&[port("bond0", PortOp::Set, spec)]);
    let writes = writes(&prepared);
    assert_eq!(writes[0]["row"]["name"], "eth3");
    assert_eq!(writes[1]["row"]["interfaces"], json!(["set", [reference(13), ["named-uuid", "row0"]]]));
}

#[test]
fn a_bond_becomes_a_single_port() {
    let spec = PortSpec { kind: Some("internal".into()), ..on("br1") };
    let prepared = run(&[port("bond0", PortOp::Set, spec)]);
    let writes = writes(&prepared);
    assert_eq!(writes[0]["row"], json!({"name": "bond0", "type": "internal"}));
    assert_eq!(writes[1]["row"]["interfaces"], json!(["set", [["named-uuid", "row0"]]]));
}

#[test]
fn controllers_are_written_as_a_whole() {
    let controllers = Some(BTreeSet::from(["tcp:192.0.2.9".into()]));
    let prepared = run(&[bridge("br0", BridgeOp::Set, BridgeSpec { controllers, ..BridgeSpec::default() })]);
    let writes = writes(&prepared);
    assert_eq!(writes[0]["row"], json!({"target": "tcp:192.0.2.9"}));
    assert_eq!(
        writes[1]["mutations"],
        json!([
            ["controller", "delete", ["set", [reference(20)]]],
            ["controller", "insert", ["set", [["named-uuid", "row0"]]]]
        ])
    );
}

#[test]
fn a_bridge_goes_with_its_ports_if_they_are_those_that_were_seen() {
    let prepared = run(&[Action::Port("p0".into(), PortOp::Delete), Action::Bridge("br0".into(), BridgeOp::Delete)]);
    assert_eq!(prepared.actions, [Ok(true), Ok(true)]);
    let guards: Vec<&Value> = prepared.operations.iter().filter(|own| own.guard).map(|own| &own.json).collect();
    assert_eq!(guards.len(), 1);
    assert_eq!(guards[0]["rows"][0]["ports"], json!(["set", [reference(2), reference(4), reference(6)]]));
    assert_eq!(writes(&prepared), Vec::<&Value>::new());
    assert_eq!(prepared.operations[1].json["mutations"][0], json!(["bridges", "delete", ["set", [reference(1)]]]));
}

#[test]
fn a_port_that_left_a_bridge_outlives_it() {
    let prepared = run(&[port("p0", PortOp::Move, on("br1")), Action::Bridge("br0".into(), BridgeOp::Delete)]);
    assert_eq!(prepared.actions, [Ok(true), Ok(true)]);
    let mutations: Vec<&Value> = writes(&prepared).into_iter().filter(|own| own["op"] == "mutate").collect();
    assert_eq!(mutations.len(), 1);
    assert_eq!(mutations[0]["mutations"], json!([["ports", "insert", ["set", [reference(4)]]]]));
}

#[test]
fn a_bridge_made_anew_in_one_batch_is_another_row() {
    let prepared = run(&[
        Action::Bridge("br1".into(), BridgeOp::Delete),
        bridge("br1", BridgeOp::Add, BridgeSpec::default()),
        port("bond0", PortOp::Add, on("br1")),
    ]);
    assert_eq!(prepared.actions, vec![Ok(true); 3]);
    let root = prepared.operations.iter().find(|own| own.json["table"] == "Open_vSwitch").unwrap();
    assert_eq!(root.json["mutations"].as_array().unwrap().len(), 3, "one goes, one comes, and the number");
    assert!(writes(&prepared).iter().all(|own| own["op"] == "insert"));
}

#[test]
fn refuses_what_would_be_wrong() {
    let taken = PortSpec { interfaces: Some(BTreeSet::from(["eth1".into(), "eth9".into()])), ..on("br0") };
    let cases = [
        (port("vlan9", PortOp::Set, on("br0")), Reason::FakeBridge),
        (port("q", PortOp::Add, on("vlan9")), Reason::FakeBridge),
        (bridge("vlan9", BridgeOp::Add, BridgeSpec::default()), Reason::FakeBridge),
        (bridge("p0", BridgeOp::Add, BridgeSpec::default()), Reason::NameTaken),
        (bridge("eth1", BridgeOp::Add, BridgeSpec::default()), Reason::NameTaken),
        (port("eth1", PortOp::Add, on("br0")), Reason::NameTaken),
        (port("bond1", PortOp::Add, taken), Reason::NameTaken),
        (port("q", PortOp::Add, on("brx")), Reason::BridgeMissing),
        (port("p0", PortOp::Move, on("brx")), Reason::BridgeMissing),
        (port("q", PortOp::Set, on("br0")), Reason::Missing),
        (bridge("q", BridgeOp::Set, BridgeSpec::default()), Reason::Missing),
        (port("br0", PortOp::Move, on("br1")), Reason::Refused),
        (Action::Port("br0".into(), PortOp::Delete), Reason::Refused),
    ];
    for (action, reason) in cases {
        let prepared = run(std::slice::from_ref(&action));
        let refusal = prepared.actions[0].clone().expect_err(&format!("{action:?}"));
        assert_eq!(refusal.reason(), reason, "{action:?}");
        assert_eq!(prepared.operations, []);
    }
}

#[test]
fn two_steps_cannot_bring_the_same_interface() {
    let bond = |name: &str| {
        let interfaces = Some(BTreeSet::from(["e1".into(), format!("{name}x")]));
        port(name, PortOp::Add, PortSpec { interfaces, ..on("br0") })
    };
    let prepared = run(&[bond("a"), bond("b")]);
    assert_eq!(prepared.actions[0], Ok(true));
    assert_eq!(prepared.actions[1].as_ref().unwrap_err().reason(), Reason::NameTaken);
    // An interface whose port goes in the same batch is free.
    let prepared = run(&[Action::Port("bond0".into(), PortOp::Delete), port("eth1", PortOp::Add, on("br0"))]);
    assert_eq!(prepared.actions, [Ok(true), Ok(true)]);
}

#[test]
fn a_database_without_root_is_waited_for() {
    let (cache, mirror) = (Cache::default(), Mirror::default());
    let action = bridge("br0", BridgeOp::Add, BridgeSpec::default());
    let prepared = prepare(View { cache: &cache, mirror: &mirror }, MACHINE, "", [&action]);
    assert_eq!(prepared.actions, [Err(Refusal::NoRoot)]);
    assert_eq!(prepared.operations, []);
}

/// Somebody who bonds two ports declares the bond, and the ports absent or leaves them to prune: in whatever order the
/// steps stand, what gives a name up goes before what takes it.
#[test]
fn a_name_that_the_same_batch_gives_up_can_be_taken() {
    let bond = |names: [&str; 2]| PortSpec { interfaces: Some(names.map(str::to_owned).into()), ..on("br1") };
    let prepared = run(&[
        port("bond1", PortOp::Add, bond(["p0", "eth1"])),
        port("bond0", PortOp::Set, bond(["eth2", "eth3"])),
        Action::Port("p0".into(), PortOp::Delete),
    ]);
    assert_eq!(prepared.actions, [Ok(true), Ok(true), Ok(true)]);
    // Nobody gives it up: it stays refused, and only that.
    let prepared =
        run(&[port("bond1", PortOp::Add, bond(["p0", "eth1"])), port("bond0", PortOp::Set, bond(["eth2", "eth3"]))]);
    assert!(matches!(&prepared.actions[..], [Err(Refusal::NameTaken { name, .. }), Ok(true)] if &**name == "p0"));
}

/// Two bonds that each take what the other gives up: neither can go first, so both go at once.
#[test]
fn bonds_exchange_their_members_in_one_transaction() {
    let (mut cache, mut mirror) = world();
    let bond1 = json!({
        "Bridge": {key(10): {"modify": {"ports": reference(14)}}},
        "Port": {key(14): {"insert": {"name": "bond1", "interfaces": ["set", [reference(15), reference(16)]]}}},
        "Interface": {key(15): {"insert": {"name": "eth3"}}, key(16): {"insert": {"name": "eth4"}}},
    });
    cache.apply(Notation::Difference, &bond1.to_string()).unwrap();
    mirror.drain(&mut cache);
    let view = View { cache: &cache, mirror: &mirror };
    let bond = |name: &str, op: fn(Arc<PortSpec>) -> PortOp, members: [&str; 2]| {
        port(name, op, PortSpec { interfaces: Some(members.map(str::to_owned).into()), ..on("br1") })
    };
    let exchanged = [bond("bond0", PortOp::Set, ["eth1", "eth3"]), bond("bond1", PortOp::Set, ["eth2", "eth4"])];
    let prepared = prepare(view, MACHINE, "", &exchanged);
    assert_eq!(prepared.actions, [Ok(true), Ok(true)]);
    let inserted: Vec<_> = writes(&prepared).iter().filter_map(|own| own["row"]["name"].as_str()).collect();
    assert_eq!(inserted, ["eth3", "eth2"]);
    // What a third one takes and nobody gives up is refused, and hinders nobody.
    let third = bond("bond2", PortOp::Add, ["eth4", "p0"]);
    let prepared = prepare(view, MACHINE, "", exchanged.iter().chain([&third]));
    assert!(matches!(&prepared.actions[..], [Ok(true), Ok(true), Err(Refusal::NameTaken { .. })]));
    // One that does not give up what the other takes: neither can be.
    let kept = [bond("bond0", PortOp::Set, ["eth1", "eth3"]), bond("bond1", PortOp::Set, ["eth2", "eth3"])];
    let prepared = prepare(view, MACHINE, "", &kept);
    assert!(prepared.actions.iter().all(Result::is_err), "{:?}", prepared.actions);
    assert_eq!(prepared.operations, []);
}
