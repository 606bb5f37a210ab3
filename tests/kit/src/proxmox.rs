//! What the suites of Proxmox VE's containers share: op-dbus beside the lab's Proxmox VE, and how its containers stand.

use serde_json::{Value, json};

use crate::{Lab, Proof, Pve, STATE, path};

/// The interface of the whole.
pub const FACE: &str = "org.opdbus.State";
/// The interface of a job.
pub const JOB: &str = "org.opdbus.Job";
/// The interface that all resources have.
pub const RESOURCE: &str = "org.opdbus.Resource";
/// The interface of a container.
pub const CONTAINER: &str = "org.opdbus.Container";
/// The interface of a plugin.
pub const PLUGIN: &str = "org.opdbus.Plugin";
/// The plugin that has containers in hand.
pub const LXC: &str = "/org/opdbus/plugin/lxc";

/// A Proxmox VE without containers, and op-dbus that has just connected to it with those keys in its configuration. `binary`
/// is `env!("CARGO_BIN_EXE_op-dbus")`.
#[must_use]
pub fn enter(binary: &str, proof: Proof, keys: &[(&str, &str)]) -> Option<(Lab, Pve)> {
    let lab = Lab::enter()?;
    let pve = Pve::start(&lab);
    lab.install_afresh(binary, None);
    pve.configure(&lab, proof, keys);
    lab.until(LXC, PLUGIN, "Status", |status| status == "connected");
    Some((lab, pve))
}

/// The path of a container.
#[must_use]
pub fn container(id: u32) -> String {
    path("container", &id.to_string())
}

/// A document of these containers.
#[must_use]
pub fn document(containers: &[Value]) -> Value {
    json!({ "lxc": { "containers": containers } })
}

/// Sends a document and does not wait; returns the job.
///
/// # Panics
///
/// If it is refused.
pub fn send(lab: &Lab, document: &Value) -> String {
    let reply = lab.call(STATE, FACE, "SetDesiredState", &["s", &document.to_string()]);
    reply[1].as_str().unwrap().to_owned()
}

/// Sends a document, and holds the result of its job to that one; returns the job.
///
/// # Panics
///
/// If the result is another.
#[track_caller]
pub fn set(lab: &Lab, document: &Value, result: &str) -> String {
    let (job, got) = lab.set_desired_state(document);
    assert_eq!(got, result, "{} {}", lab.get(&job, JOB, "Message"), lab.get(&job, JOB, "Steps"));
    job
}

/// Waits until a container is in sync.
pub fn until_in_sync(lab: &Lab, id: u32) {
    lab.until(&container(id), RESOURCE, "Status", |status| status == "in-sync");
}

/// Has op-dbus look at nothing by itself, and starts it anew. That container is declared and runs: it is what the last
/// look is seen by.
///
/// # Panics
///
/// If it does not connect.
pub fn look_seldom(lab: &Lab, id: u32) {
    lab.configure(&[("poll_ms", "600000"), ("sweep_ms", "600000")]);
    // The first close look comes by itself, and is the last.
    lab.until(LXC, PLUGIN, "Status", |status| status == "connected");
    let close = |addresses: &Value| !addresses.as_array().unwrap().is_empty();
    lab.until(&container(id), CONTAINER, "Addresses", close);
}
