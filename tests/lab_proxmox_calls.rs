//! What op-dbus asks of Proxmox VE over three hundred containers, call by call: at its start, for a document that changes
//! nothing, and for one that changes one of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{collections::BTreeMap, ops::RangeInclusive};

use op_dbus_testkit::{
    Lab, Proof, Pve,
    proxmox::{self, document, look_seldom, set},
};
use serde_json::{Value, json};

const FIRST: u32 = 1000;
const MANY: u32 = 300;

/// How often each call was made from that number on, whatever the container.
fn calls(pve: &Pve, since: usize) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for request in pve.requests().iter().skip(since) {
        let path = request["path"].as_str().unwrap().trim_start_matches("/api2/json");
        let part = |part: &str| if part.parse::<u32>().is_ok() { "ID" } else { part }.to_owned();
        let path = path.split('/').map(part).collect::<Vec<_>>().join("/");
        *out.entry(format!("{} {path}", request["method"].as_str().unwrap())).or_default() += 1;
    }
    out
}

/// Holds the calls to a table, and prints it.
#[track_caller]
fn asks(pve: &Pve, since: usize, what: &str, lists: RangeInclusive<usize>, table: &[(&str, usize)]) {
    let mut calls = calls(pve, since);
    println!("{what}: {} calls", calls.values().sum::<usize>());
    for (call, count) in &calls {
        println!("{count:6} {call}");
    }
    let listed = calls.remove("GET /cluster/resources").unwrap_or_default();
    assert!(lists.contains(&listed), "{what}: {listed} lists");
    let table: BTreeMap<String, usize> = table.iter().map(|(call, count)| ((*call).to_owned(), *count)).collect();
    assert_eq!(calls, table, "{what}");
}

fn declared() -> Vec<Value> {
    let entry = |id: u32| json!({ "id": id.to_string(), "running": true, "memory_mib": 512 });
    (FIRST..FIRST + MANY).map(entry).collect()
}

/// As many containers that run as far as Proxmox VE and systemd know; there are too many to have LXC run them.
fn run_many(lab: &Lab, pve: &Pve) {
    lab.units(&[("pve-container@.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\n")]);
    let units: Vec<String> = (FIRST..FIRST + MANY).map(|id| format!("pve-container@{id}.service")).collect();
    let units: Vec<&str> = units.iter().map(String::as_str).collect();
    lab.run(&[&["systemctl", "start"][..], &units].concat());
    for id in FIRST..FIRST + MANY {
        let number = id - FIRST;
        let net = format!("name=eth0,bridge=ovsbr0,ip=10.1.{}.{}/16", number / 250, number % 250 + 1);
        let config = json!({ "memory": 512, "net0": net });
        pve.tell("add_ct", json!({ "vmid": id, "status": "running", "real": false, "config": config }));
    }
}

#[test]
fn three_hundred_cost_one_list_and_what_differs() {
    let seldom = [("hold_down_ms", "200"), ("poll_ms", "600000"), ("sweep_ms", "600000")];
    let Some((lab, pve)) = proxmox::enter(env!("CARGO_BIN_EXE_op-dbus"), Proof::Authority, &seldom) else {
        return;
    };
    run_many(&lab, &pve);
    let many = MANY as usize;
    set(&lab, &document(&declared()), "unchanged");

    // Ended first: its own first close look may be under way, and is not what is counted.
    lab.run(&["systemctl", "stop", "op-dbus.service"]);
    let since = pve.requests().len();
    look_seldom(&lab, FIRST + MANY - 1);
    let first = [
        ("GET /access/permissions", 1),
        ("GET /nodes/lab/lxc/ID/interfaces", many),
        // Once to know what they are, once with the close look that follows in a while.
        ("GET /nodes/lab/lxc/ID/pending", 2 * many),
        ("GET /nodes/lab/lxc/ID/status/current", many),
        ("GET /version", 1),
    ];
    // One to begin with, one for the close look; and one for the document, where that comes only when there is a connection.
    asks(&pve, since, "first look, at its start", 2..=3, &first);

    let since = pve.requests().len();
    set(&lab, &document(&declared()), "unchanged");
    asks(&pve, since, "the same document again", 0..=0, &[]);

    let since = pve.requests().len();
    let mut other = document(&declared());
    other["drift"] = json!("enforce");
    set(&lab, &other, "unchanged");
    asks(&pve, since, "another document that changes nothing", 1..=1, &[]);

    let mut changed = declared();
    changed[7]["memory_mib"] = json!(640);
    let since = pve.requests().len();
    set(&lab, &document(&changed), "done");
    let one = [
        ("GET /nodes/lab/lxc/ID/config", 1),
        ("GET /nodes/lab/lxc/ID/interfaces", 1),
        ("GET /nodes/lab/lxc/ID/pending", 2),
        ("GET /nodes/lab/lxc/ID/status/current", 2),
        ("PUT /nodes/lab/lxc/ID/config", 1),
    ];
    // A list to plan by, one to find it by, and one to see what became of it.
    asks(&pve, since, "one of them changed", 3..=3, &one);
    pve.requests_fit();
}
