//! What the suites of Proxmox VE's containers share: op-dbus beside the lab's Proxmox VE, and how its containers stand.

#![allow(dead_code)] // not every suite needs all of it

use op_dbus_testkit::{Lab, Proof, Pve, STATE, path};
use serde_json::{Value, json};

pub(crate) const FACE: &str = "org.opdbus.State";
pub(crate) const JOB: &str = "org.opdbus.Job";
pub(crate) const RESOURCE: &str = "org.opdbus.Resource";
pub(crate) const CONTAINER: &str = "org.opdbus.Container";
pub(crate) const PLUGIN: &str = "org.opdbus.Plugin";
pub(crate) const LXC: &str = "/org/opdbus/plugin/lxc";

/// A Proxmox VE without containers, and op-dbus that has just connected to it with those keys in its configuration.
pub(crate) fn enter(proof: Proof, keys: &[(&str, &str)]) -> Option<(Lab, Pve)> {
    let lab = Lab::enter()?;
    let pve = Pve::start(&lab);
    lab.install_afresh(env!("CARGO_BIN_EXE_op-dbus"), None);
    pve.configure(&lab, proof, keys);
    lab.until(LXC, PLUGIN, "Status", |status| status == "connected");
    Some((lab, pve))
}

pub(crate) fn container(id: u32) -> String {
    path("container", &id.to_string())
}

pub(crate) fn document(containers: &[Value]) -> Value {
    json!({ "lxc": { "containers": containers } })
}

/// Sends a document and does not wait; returns the job.
pub(crate) fn send(lab: &Lab, document: &Value) -> String {
    let reply = lab.call(STATE, FACE, "SetDesiredState", &["s", &document.to_string()]);
    reply[1].as_str().unwrap().to_owned()
}

/// Sends a document, and holds the result of its job to that one; returns the job.
#[track_caller]
pub(crate) fn set(lab: &Lab, document: &Value, result: &str) -> String {
    let (job, got) = lab.set_desired_state(document);
    assert_eq!(got, result, "{} {}", lab.get(&job, JOB, "Message"), lab.get(&job, JOB, "Steps"));
    job
}

pub(crate) fn until_in_sync(lab: &Lab, id: u32) {
    lab.until(&container(id), RESOURCE, "Status", |status| status == "in-sync");
}

/// Has op-dbus look at nothing by itself, and starts it anew. That container is declared and runs: it is what the last
/// look is seen by.
pub(crate) fn look_seldom(lab: &Lab, id: u32) {
    lab.configure(&[("poll_ms", "600000"), ("sweep_ms", "600000")]);
    // The first close look comes by itself, and is the last.
    lab.until(LXC, PLUGIN, "Status", |status| status == "connected");
    let close = |addresses: &Value| !addresses.as_array().unwrap().is_empty();
    lab.until(&container(id), CONTAINER, "Addresses", close);
}
