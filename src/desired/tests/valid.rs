//! Documents that are right, and what they mean.

use std::collections::BTreeSet;

use serde_json::json;

use crate::{
    desired::{
        ActiveState, Document, Ensure, FailMode, Lacp, VlanMode, Want, can_say, parse, parse_bytes, tests::read,
    },
    model::{DriftPolicy, ResourceId},
};

/// The example of the guide that the project was founded on, `stateConfig` in JSON form.
const GUIDE: &str = r#"{
  "systemd": {
    "units": {
      "pve-container@100.service": { "enabled": true, "active_state": "active" },
      "pve-container@101.service": { "enabled": true, "active_state": "active" }
    }
  },
  "lxc": {
    "containers": [ { "id": "100", "veth": "veth100", "bridge": "ovsbr0", "running": true } ]
  }
}"#;

/// The example of the design, with what belongs to later versions taken out.
const DESIGN: &str = r#"{
  "version": 1,
  "drift": "report",
  "prune": false,
  "systemd":    { "units": { "pve-container@100.service": { "enabled": true, "active_state": "active" },
                             "nginx.service": { "active_state": "active", "properties": { "CPUWeight": 200 }, "after": [], "drift": "enforce" } } },
  "ovsdb":      { "bridges": { "ovsbr0": { "datapath_type": "netdev", "fail_mode": "standalone", "external_ids": { "site": "north" },
                               "ports": { "uplink0": { "type": "internal", "tag": 10 },
                                          "bond0": { "interfaces": ["eno1", "eno2"], "bond_mode": "balance-slb", "lacp": "off" } } } } },
  "lxc":        { "containers": [ { "id": "100", "veth": "veth100", "bridge": "ovsbr0", "running": true },
                                  { "id": "101", "running": true, "after": ["container:100"] } ] }
}"#;

#[test]
fn the_guides_document_is_taken_as_it_stands() {
    let document = parse(GUIDE).unwrap();
    assert_eq!(document.units.len(), 2);
    for spec in document.units.values() {
        assert_eq!((spec.enabled, spec.active_state), (Some(true), Some(ActiveState::Active)));
        assert_eq!((spec.masked, spec.allow_protected), (None, false));
    }
    let container = &document.containers["100"];
    assert_eq!((container.veth.as_deref(), container.bridge.as_deref()), (Some("veth100"), Some("ovsbr0")));
    assert_eq!(container.running, Some(true));
    assert!(document.bridges.is_empty() && document.ports.is_empty());
    assert_eq!((document.drift, document.prune, document.allow_empty), (DriftPolicy::Report, false, false));
}

#[test]
fn the_designs_document_means_what_it_says() {
    let document = parse(DESIGN).unwrap();
    let nginx = &document.units["nginx.service"];
    assert_eq!(nginx.properties["CPUWeight"], json!(200));
    assert_eq!(nginx.common.drift, Some(DriftPolicy::Enforce));
    let bridge = &document.bridges["ovsbr0"];
    assert_eq!(bridge.datapath_type.as_deref(), Some("netdev"));
    assert_eq!(bridge.fail_mode, Want::Is(FailMode::Standalone));
    assert_eq!(bridge.external_ids["site"].as_deref(), Some("north"));
    let uplink = &document.ports["uplink0"];
    assert_eq!((uplink.bridge.as_ref(), uplink.kind.as_deref()), ("ovsbr0", Some("internal")));
    assert_eq!((&uplink.tag, &uplink.lacp), (&Want::Is(10), &Want::Unmanaged));
    let bond = &document.ports["bond0"];
    assert_eq!(bond.interfaces, Some(["eno1", "eno2"].map(str::to_owned).into()));
    assert_eq!(bond.lacp, Want::Is(Lacp::Off));
    assert_eq!(document.containers["101"].common.after, [ResourceId::container("100")].into());
}

#[test]
fn absent_null_and_value_are_three_things() {
    let port = |fields: serde_json::Value| {
        let document = read(&json!({"ovsdb": {"bridges": {"br0": {"ports": {"p0": fields}}}}}));
        document.ports["p0"].clone()
    };
    assert_eq!(port(json!({})).tag, Want::Unmanaged);
    assert_eq!(port(json!({"tag": null})).tag, Want::Unset);
    assert_eq!(port(json!({"tag": 0})).tag, Want::Is(0));
    assert_eq!(port(json!({"tag": 4095.0})).tag, Want::Is(4095));
    assert_eq!(port(json!({"vlan_mode": "dot1q-tunnel"})).vlan_mode, Want::Is(VlanMode::Dot1qTunnel));
    assert_eq!(port(json!({})).trunks, None);
    assert_eq!(port(json!({"trunks": null})).trunks, Some(BTreeSet::new()));
    assert_eq!(port(json!({"trunks": [2, 1]})).trunks, Some([1, 2].into()));
    let options = port(json!({"options": {"peer": "p1", "key": null}})).options;
    assert_eq!((options["peer"].as_deref(), options["key"].as_deref()), (Some("p1"), None));
}

#[test]
fn names_at_their_limits() {
    let long_patch = "patch-provnet-52e4ab5c-0b3f-to-br-int";
    let document = read(&json!({
        "systemd": {"units": {"a@b@c.timer": {}, "dev-disk-by\\x2dlabel-a.device": {}}},
        "ovsdb": {"bridges": {"abcdefghijklmno": {"ports": {
            "abcdefghijklmno": {"tag": 5},
            long_patch: {"type": "patch", "options": {"peer": "other"}},
            "a-bond-with-a-long-name": {"interfaces": ["eno1", "eno2"]},
            "a-long-name-that-shall-go": {"ensure": "absent"},
        }}}},
        "lxc": {"containers": [{"id": "a".repeat(64), "veth": "veth0"}]},
    }));
    assert_eq!(document.ports.len(), 4);
    assert_eq!(document.ports["abcdefghijklmno"].tag, Want::Is(5));
    assert_eq!(document.ports["a-long-name-that-shall-go"].ensure, Ensure::Absent);
}

#[test]
fn what_no_document_can_name() {
    for id in ["unit:a@.service", "bridge:a-long-bridges-name", "port:a b", "container:a\\x2db"] {
        assert!(!can_say(&id.parse().unwrap()), "{id}");
    }
    for id in ["unit:a\\x2db.service", "bridge:br0", "port:a-long-ports-name-as-of-a-patch", "container:web-1"] {
        assert!(can_say(&id.parse().unwrap()), "{id}");
    }
}

#[test]
fn names_that_only_differ_by_escaping_are_two() {
    let document = read(&json!({"systemd": {"units": {"a-b.service": {}, "a\\x2db.service": {}}}}));
    let paths: BTreeSet<String> = document.resources().map(|id| id.path()).collect();
    assert_eq!(paths.len(), 2);
}

#[test]
fn what_only_looks_like_a_contradiction() {
    for document in [
        json!({"systemd": {"units": {"a.service": {"masked": true, "enabled": false, "active_state": "inactive"}}}}),
        json!({"systemd": {"units": {"a.service": {"masked": false, "enabled": true, "active_state": "active"}}}}),
        // A bridge that goes, with its ports.
        json!({"ovsdb": {"bridges": {"br0": {"ensure": "absent", "ports": {"p0": {"ensure": "absent"}}}}}}),
        // What shall not exist uses no interface.
        json!({"ovsdb": {"bridges": {"br0": {"ports": {
            "bond0": {"interfaces": ["eno1", "eno2"]}, "eno1": {"ensure": "absent"}}}}}}),
        // LACP speaks on single links too.
        json!({"ovsdb": {"bridges": {"br0": {"ports": {"eno1": {"lacp": "active"}}}}}}),
        json!({"ovsdb": {"bridges": {"br0": {"ports": {"eno1": {"bond_mode": null}}}}}}),
        // A container's port with a tag.
        json!({"ovsdb": {"bridges": {"br0": {"ports": {"veth1": {"tag": 7}}}}},
               "lxc": {"containers": [{"id": "1", "veth": "veth1", "bridge": "br0"}]}}),
        // The same container under two names.
        json!({"systemd": {"units": {"lxc@1.service": {"active_state": "active"}}},
               "lxc": {"containers": [{"id": "1", "running": true, "after": ["unit:lxc@1.service"]}]}}),
        json!({"systemd": {"units": {"lxc@1.service": {"active_state": "inactive"}}},
               "lxc": {"containers": [{"id": "1", "running": false}, {"id": "2", "running": true}]}}),
        // What runs container 1 may be waited for by what it waits for itself: the unit comes before all of it.
        json!({"systemd": {"units": {"lxc@1.service": {}}}, "lxc": {"containers": [
            {"id": "1", "after": ["container:2"]}, {"id": "2", "after": ["unit:lxc@1.service"]}]}}),
        // Another container's port.
        json!({"ovsdb": {"bridges": {"br0": {"after": ["container:2"], "ports": {"veth1i0": {}}}}},
               "lxc": {"containers": [{"id": "2", "veth": "veth1"}]}}),
    ] {
        read(&document);
    }
}

#[test]
fn documents_that_name_nothing() {
    assert!(parse_bytes(b"{}").unwrap().is_empty());
    assert_eq!(parse(r#"{"version": 1, "lxc": {"containers": []}}"#), Ok(Document::default()));
    let meant = parse(r#"{"allow_empty": true, "ovsdb": {}}"#).unwrap();
    assert!(meant.is_empty() && meant.allow_empty);
    assert!(!parse(GUIDE).unwrap().is_empty());
}
