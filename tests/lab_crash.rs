//! op-dbus killed at every point of a job, and while it takes documents in; and no room on its disk: what it has said
//! holds, and at its next start it goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{fs, sync::mpsc, thread};

use op_dbus_testkit::{Lab, STATE, STATE_DIR, STATE_FILE, quoted};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const FACE: &str = "org.opdbus.State";
const UNITS: [&str; 2] = ["lab-idle.service", "lab-off.service"];

/// op-dbus where it never ran, started by the test alone, which kills it more often than systemd has patience with.
fn enter() -> Option<Lab> {
    let lab = Lab::enter()?;
    let _ = lab.outcome(&["umount", STATE_DIR]);
    lab.remove_units(&UNITS);
    let idle = "[Service]\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n";
    lab.units(&[(UNITS[0], idle), (UNITS[1], idle)]);
    lab.install_afresh(BINARY, None);
    lab.add_to_service("crash", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=no\n");
    // Time is not what is tested here.
    lab.configure(&[("hold_down_ms", "100"), ("settle_ms", "200")]);
    Some(lab)
}

/// A bit of each kind, with what must come one after the other.
fn up() -> Value {
    json!({
        "systemd": { "units": {
            UNITS[0]: { "enabled": true, "active_state": "active", "properties": { "CPUWeight": 300 }, "after": ["bridge:lab0"] },
            UNITS[1]: { "masked": true },
            "pve-container@101.service": { "enabled": true }
        } },
        "ovsdb": { "bridges": { "lab0": {
            "datapath_type": "netdev", "external_ids": { "site": "north" },
            "ports": { "lab0p": { "type": "internal", "tag": 10 }, "veth101": { "tag": 7 } }
        } } },
        "lxc": { "containers": [{ "id": "101", "veth": "veth101", "bridge": "lab0", "running": true }] }
    })
}

/// The way back from [`up`].
fn down() -> Value {
    json!({
        "systemd": { "units": {
            UNITS[0]: { "enabled": false, "active_state": "inactive" },
            UNITS[1]: { "masked": false },
            "pve-container@101.service": { "enabled": false }
        } },
        "ovsdb": { "bridges": { "lab0": { "ensure": "absent" } } },
        "lxc": { "containers": [{ "id": "101", "running": false }] }
    })
}

/// What the machine itself says of it.
fn world(lab: &Lab) -> Value {
    let ovs = |arguments: &[&str]| lab.outcome(&[&["ovs-vsctl"][..], arguments].concat()).stdout;
    json!({
        "idle": [lab.show(UNITS[0], "ActiveState"), lab.show(UNITS[0], "UnitFileState")],
        "off": lab.show(UNITS[1], "UnitFileState"),
        "container": [lab.show("pve-container@101.service", "ActiveState"), lab.outcome(&["systemctl", "is-enabled", "pve-container@101.service"]).stdout],
        "bridges": ovs(&["list-br"]),
        "ports": ovs(&["list-ports", "lab0"]),
        "tags": [ovs(&["get", "port", "lab0p", "tag"]), ovs(&["get", "port", "veth101", "tag"])],
        "site": ovs(&["get", "bridge", "lab0", "external_ids:site"]),
        "rows": [ovs(&["--columns=name", "find", "Port"]).lines().filter(|line| !line.is_empty()).count()]
    })
}

/// Kills op-dbus as a crash does, and waits until systemd has noticed.
fn kill(lab: &Lab) {
    lab.run(&["systemctl", "kill", "--signal=KILL", "op-dbus.service"]);
    lab.until_shown("op-dbus.service", "ActiveState", |state| state == "failed");
}

fn start(lab: &Lab) {
    lab.run(&["systemctl", "start", "op-dbus.service"]);
}

fn numbers(lab: &Lab) -> Vec<u64> {
    let listed = lab.call(STATE, FACE, "ListGenerations", &["a{sv}", "0"])[0].clone();
    listed.as_array().unwrap().iter().map(|generation| generation[0].as_u64().unwrap()).collect()
}

fn document(lab: &Lab, number: u64) -> String {
    lab.call(STATE, FACE, "GetDesiredState", &["ta{sv}", &number.to_string(), "0"])[0].as_str().unwrap().to_owned()
}

/// Sends the document and kills op-dbus when its job has told so many steps; then starts it and sees that it converges,
/// with all that it knew. `false` where the job was over before.
fn killed_after(lab: &Lab, told: usize, wanted: &Value) -> bool {
    let known = numbers(lab);
    let mut signals = lab.signals();
    let reply = lab.call(STATE, FACE, "SetDesiredState", &["s", &wanted.to_string()]);
    let (generation, job) = (reply[0].as_u64().unwrap(), reply[1].as_str().unwrap());
    let mut steps = 0;
    let in_time = told == 0
        || "JobFinished"
            != signals
                .until("a step, or the end", |signal| {
                    steps += usize::from(signal.member == "StepChanged");
                    steps == told || signal.member == "JobFinished"
                })
                .member;
    kill(lab);
    start(lab);
    lab.until(STATE, FACE, "ObservedGeneration", |observed| *observed == generation);
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    assert_eq!(numbers(lab), [&known[..], &[generation]].concat(), "killed after {told}");
    assert_eq!(document(lab, generation), wanted.to_string());
    // Where the job's end was noted before the kill, there is none at the start.
    let last = lab.get(STATE, FACE, "LastJob");
    if last != "/" {
        let number = |path: &str| path.rsplit('/').next().unwrap().parse::<u64>().unwrap();
        assert!(number(last.as_str().unwrap()) > number(job), "numbers of jobs are never used again: {last} {job}");
    }
    in_time
}

#[test]
fn killed_at_any_point_of_a_job_it_converges_at_its_next_start() {
    let Some(lab) = enter() else { return };
    // What it comes to without any crash.
    let worlds = [up(), down()].map(|document| {
        let (job, result) = lab.set_desired_state(&document);
        assert!(["done", "unchanged"].contains(&result.as_str()), "{}", lab.get(&job, "org.opdbus.Job", "Message"));
        world(&lab)
    });
    let mut points = 0;
    loop {
        // Forth and back.
        let in_time = [killed_after(&lab, points, &up()), {
            assert_eq!(world(&lab), worlds[0], "forth, killed after {points}");
            killed_after(&lab, points, &down())
        }];
        assert_eq!(world(&lab), worlds[1], "back, killed after {points}");
        if in_time == [false, false] {
            break;
        }
        points += 1;
    }
    assert!(points > 15, "a job of many steps: {points}");
}

#[test]
fn killed_while_documents_come_in_it_keeps_every_one_that_it_answered_for() {
    let Some(lab) = enter() else { return };
    let text = |site: u64| {
        json!({ "ovsdb": { "bridges": { "ovsbr0": { "external_ids": { "site": site.to_string() } } } } }).to_string()
    };
    let mut answered: Vec<(u64, String)> = Vec::new();
    for round in 0..8_u64 {
        // Somebody who sends one after the other until nobody answers.
        let (sender, answers) = mpsc::channel();
        let client = thread::spawn(move || {
            for turn in 0.. {
                let text = text(round * 1000 + turn);
                let call = ["--json=short", "call", "org.opdbus", STATE, FACE, "SetDesiredState", "s", &text];
                let output = std::process::Command::new("busctl").args(call).output().unwrap();
                let Ok(reply) = serde_json::from_slice::<Value>(&output.stdout) else { return };
                sender.send((reply["data"][0].as_u64().unwrap(), text)).unwrap();
            }
        });
        // The kill comes somewhere within the next ones.
        for _ in 0..3 {
            answered.push(answers.recv().unwrap());
        }
        kill(&lab);
        answered.extend(answers.iter());
        client.join().unwrap();

        start(&lab);
        let listed = numbers(&lab);
        for (number, text) in &answered {
            assert!(listed.contains(number), "{number} was answered for: {listed:?}");
            assert_eq!(document(&lab, *number), *text);
        }
        assert!(listed.is_sorted_by(|one, next| one < next), "{listed:?}");
        let last = *listed.last().unwrap();
        let answered_last = answered.last().unwrap().0;
        assert!(
            last == answered_last || last == answered_last + 1,
            "one may have been stored and not answered: {listed:?}"
        );
        assert_eq!(lab.get(STATE, FACE, "Generation"), last);
        lab.until(STATE, FACE, "ObservedGeneration", |observed| *observed == last);
        let site: Value = serde_json::from_str(&document(&lab, last)).unwrap();
        let site = site["ovsdb"]["bridges"]["ovsbr0"]["external_ids"]["site"].as_str().unwrap();
        assert_eq!(lab.ovs(&["get", "bridge", "ovsbr0", "external_ids:site"]), format!("\"{site}\""));
    }
}

#[test]
fn a_full_disk_refuses_the_next_generation_and_leaves_the_last_one() {
    let Some(lab) = enter() else { return };
    lab.run(&["systemctl", "stop", "op-dbus.service"]);
    lab.run(&["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "small", STATE_DIR]);
    start(&lab);
    let first = json!({ "systemd": { "units": { UNITS[0]: { "active_state": "active" } } } });
    assert_eq!(lab.set_desired_state(&first).1, "done");

    let ballast = format!("{STATE_DIR}/ballast");
    // Fails once the disk is full.
    let full = fs::write(&ballast, vec![0; 1 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let second = json!({ "systemd": { "units": { UNITS[0]: { "active_state": "inactive" } } } });
    let (name, message) = lab.refused(STATE, "org.opdbus.State.SetDesiredState", &[&quoted(&second.to_string())]);
    assert_eq!(name, "org.opdbus.Error.Failed");
    assert!(message.contains("No space left"), "{message}");
    let stands = |lab: &Lab| {
        assert_eq!(lab.get(STATE, FACE, "Generation"), 1);
        assert_eq!(numbers(lab), [1]);
        assert_eq!(document(lab, 0), first.to_string());
        assert_eq!(lab.show(UNITS[0], "ActiveState"), "active");
        assert_eq!(lab.get(STATE, FACE, "InSync"), true);
    };
    stands(&lab);
    // The state file fares no better, and says so.
    fs::write(STATE_FILE, second.to_string()).unwrap();
    lab.until(STATE, FACE, "StateFileMessage", |message| message.as_str().unwrap().contains("No space left"));
    assert_eq!(lab.get(STATE, FACE, "StateFileStatus"), "refused");
    stands(&lab);
    // Work that needs no generation goes on.
    lab.run(&["systemctl", "stop", UNITS[0]]);
    // systemd has answered systemctl before it tells everybody else.
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == false);
    let reply = lab.call(STATE, FACE, "Reconcile", &["a{sv}", "0"]);
    assert_eq!(lab.wait(reply[0].as_str().unwrap()), "done");
    // A crash on a full disk as well.
    kill(&lab);
    start(&lab);
    lab.until(STATE, FACE, "StateFileStatus", |status| status == "refused");
    stands(&lab);

    fs::remove_file(&ballast).unwrap();
    let reply = lab.call(STATE, FACE, "AdoptStateFile", &["a{sv}", "0"]);
    assert_eq!(lab.wait(reply[1].as_str().unwrap()), "done");
    assert!(reply[0].as_u64().unwrap() > 1);
    assert_eq!(lab.get(STATE, FACE, "StateFileStatus"), "current");
    assert_eq!(lab.show(UNITS[0], "ActiveState"), "inactive");
    lab.run(&["systemctl", "stop", "op-dbus.service"]);
    lab.run(&["umount", STATE_DIR]);
}
