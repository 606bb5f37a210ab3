//! A host with a bit of everything that a document can name: units of each sort, bridges, ports of each sort, containers.

use op_dbus_testkit::Lab;
use serde_json::{Value, json};

/// The units that [`prepare`] installs.
pub(crate) const UNITS: [&str; 4] = ["lab-idle.service", "lab-plain.service", "lab-once.service", "lab-off.service"];

const IDLE: &str = "[Unit]\nDescription=Idles\n[Service]\nExecStart=sleep infinity\n";
const INSTALL: &str = "[Install]\nWantedBy=multi-user.target\n";

/// Installs the units and makes the devices that [`document`] names, all of them stopped; twice is as good as once.
pub(crate) fn prepare(lab: &Lab) {
    lab.remove_units(&UNITS);
    let idle = format!("{IDLE}{INSTALL}");
    let once = format!("[Service]\nType=oneshot\nExecStart=true\n{INSTALL}");
    lab.units(&[(UNITS[0], &idle), (UNITS[1], IDLE), (UNITS[2], &once), (UNITS[3], &idle)]);
    for (device, peer) in [("labd1", "labd1x"), ("labd2", "labd2x")] {
        let _ = lab.outcome(&["ip", "link", "add", device, "type", "veth", "peer", "name", peer]);
        for side in [device, peer] {
            lab.run(&["ip", "link", "set", side, "up"]);
        }
    }
}

/// All of it, up and running.
pub(crate) fn document() -> Value {
    json!({
        "systemd": { "units": {
            "lab-idle.service": { "enabled": true, "active_state": "active", "properties": { "CPUWeight": 200 } },
            // Without [Install]: enabled by a link of its own.
            "lab-plain.service": { "enabled": true, "active_state": "active" },
            "lab-once.service": { "enabled": true, "active_state": "active" },
            "lab-off.service": { "masked": true }
        } },
        "ovsdb": { "bridges": {
            "lab0": {
                "datapath_type": "netdev", "fail_mode": "secure", "mcast_snooping_enable": true,
                "external_ids": { "site": "north" }, "other_config": { "mac-aging-time": "301" },
                "ports": {
                    "lab0tag": { "type": "internal", "tag": 10, "mtu_request": 1400 },
                    "lab0trunk": { "type": "internal", "vlan_mode": "trunk", "trunks": [10, 20], "external_ids": { "a": "b" } },
                    "lab0bond": { "interfaces": ["labd1", "labd2"], "bond_mode": "active-backup", "lacp": "off" },
                    "lab0patch": { "type": "patch", "options": { "peer": "ovsbr0patch" } }
                }
            },
            "ovsbr0": { "ports": {
                "ovsbr0patch": { "type": "patch", "options": { "peer": "lab0patch" } },
                // Container 100 brings it, and wipes the tag each time.
                "veth100": { "tag": 7 }
            } }
        } },
        "lxc": { "containers": [
            { "id": "100", "veth": "veth100", "bridge": "ovsbr0", "running": true },
            { "id": "101", "veth": "veth101", "bridge": "lab0", "running": true }
        ] }
    })
}
