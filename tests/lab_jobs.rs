//! Jobs as they go, held up at will: what their steps tell and in which order, Wait, Cancel, a newer document, and the
//! orderly end of op-dbus in the middle of one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    fs,
    io::Read as _,
    process::{Child, Command, Stdio},
};

use op_dbus_testkit::{Lab, NAME, STATE, Signal, path};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const FACE: &str = "org.opdbus.State";
const JOB: &str = "org.opdbus.Job";
const RESOURCE: &str = "org.opdbus.Resource";

/// Its start ends when somebody writes to its pipe, and not before.
const GATED: &str = "lab-gated.service";
const PIPE: &str = "/run/lab-gate";
const OTHERS: [&str; 2] = ["lab-next.service", "lab-beside.service"];

fn enter() -> Option<Lab> {
    let lab = Lab::enter()?;
    let _ = fs::remove_file(PIPE);
    lab.run(&["mkfifo", PIPE]);
    lab.remove_units(&[GATED, OTHERS[0], OTHERS[1]]);
    let gated = format!("[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=sh -c 'read line <{PIPE}'\n");
    let idle = "[Service]\nExecStart=sleep infinity\n";
    lab.units(&[(GATED, &gated), (OTHERS[0], idle), (OTHERS[1], idle)]);
    lab.install_afresh(BINARY, None);
    Some(lab)
}

/// Lets the gated unit's start end.
fn open_gate() {
    // Opening waits for the reader.
    fs::write(PIPE, "go\n").unwrap();
}

fn document() -> Value {
    json!({ "systemd": { "units": {
        GATED: { "active_state": "active" },
        OTHERS[0]: { "active_state": "active", "after": [format!("unit:{GATED}")] },
        OTHERS[1]: { "active_state": "active" }
    } } })
}

/// Sends a document, and waits until the gated unit's start is what the job waits for.
fn hold_up(lab: &Lab, document: &Value) -> String {
    let reply = lab.call(STATE, FACE, "SetDesiredState", &["s", &document.to_string()]);
    lab.until(&path("unit", GATED), "org.opdbus.Unit", "ActiveState", |state| state == "activating");
    lab.until(&path("unit", OTHERS[1]), RESOURCE, "Status", |status| status == "in-sync");
    reply[1].as_str().unwrap().to_owned()
}

/// Wait, called by somebody who stays until it answers.
fn waiter(job: &str) -> Child {
    let mut command = Command::new("busctl");
    command.args(["--timeout=90", "call", NAME, job, JOB, "Wait"]).stdout(Stdio::piped());
    command.spawn().unwrap()
}

fn answer(mut waiter: Child) -> String {
    let mut text = String::new();
    waiter.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(waiter.wait().unwrap().success());
    text.trim().to_owned()
}

/// The state of each step, by what it is about.
fn steps(lab: &Lab, job: &str) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let steps = lab.get(job, JOB, "Steps");
    steps.as_array().unwrap().iter().map(|step| (text(&step[1]), text(&step[2]), text(&step[3]))).collect()
}

fn step(unit: &str, state: &str) -> (String, String, String) {
    (path("unit", unit), "start".to_owned(), state.to_owned())
}

#[test]
fn a_job_tells_each_step_in_order_and_its_end_last() {
    let Some(lab) = enter() else { return };
    let mut signals = lab.signals();
    let job = hold_up(&lab, &document());

    assert_eq!(lab.get(STATE, FACE, "CurrentJob"), *job);
    assert_eq!(lab.get(job.as_str(), JOB, "State"), "running");
    assert_eq!(lab.get(job.as_str(), JOB, "Result"), "");
    let now = steps(&lab, &job);
    assert!(now.contains(&step(GATED, "running")), "{now:?}");
    assert!(now.contains(&step(OTHERS[0], "pending")), "{now:?}");
    assert!(now.contains(&step(OTHERS[1], "done")), "nothing it waits for: {now:?}");
    let progress = lab.get(job.as_str(), JOB, "Progress").as_f64().unwrap();
    assert!((progress - 1.0 / 3.0).abs() < 0.01, "{progress}");
    assert_eq!(lab.get(&path("unit", GATED), RESOURCE, "Status"), "applying");
    assert_eq!(lab.get(&path("unit", OTHERS[0]), RESOURCE, "Status"), "pending");
    assert_eq!(lab.get(STATE, FACE, "Pending"), 2);
    assert_eq!(lab.get(STATE, FACE, "InSync"), false);
    assert_eq!(lab.show(OTHERS[0], "ActiveState"), "inactive");

    let waiters = [waiter(&job), waiter(&job)];
    open_gate();
    for waiter in waiters {
        assert_eq!(answer(waiter), r#"s "done""#);
    }
    assert_eq!(lab.wait(&job), "done", "at once where it is finished");
    assert_eq!(lab.get(job.as_str(), JOB, "Progress"), 1.0);
    assert_eq!(lab.get(STATE, FACE, "CurrentJob"), "/");
    assert_eq!(lab.get(STATE, FACE, "LastJob"), *job);

    let seen = signals.seen().to_vec();
    let at = |what: &str, is: &dyn Fn(&Signal) -> bool| {
        seen.iter().position(is).unwrap_or_else(|| panic!("{what} in {seen:#?}"))
    };
    let end = at("JobFinished", &|signal| signal.member == "JobFinished");
    assert_eq!(end, seen.len() - 1, "the very last");
    assert_eq!(seen[end].arguments, [json!(1), json!(job), json!("done"), json!({})]);
    let added = at("InterfacesAdded", &|signal| signal.member == "InterfacesAdded" && signal.arguments[0] == *job);
    let told: Vec<_> = seen.iter().enumerate().filter(|(_, signal)| signal.member == "StepChanged").collect();
    assert!(told.iter().all(|(at, signal)| *at > added && signal.path == job), "{told:#?}");
    let states = |id: u64| {
        let of_step = told.iter().filter(|(_, signal)| signal.arguments[0] == id);
        of_step.map(|(_, signal)| signal.arguments[1].as_str().unwrap()).collect::<Vec<_>>()
    };
    for id in 1..=3 {
        let states = states(id);
        assert_eq!(states.first(), Some(&"running"), "of step {id}: {states:?}");
        assert_eq!(states.last(), Some(&"done"), "of step {id}: {states:?}");
    }
    // The resource's end comes before the job's, and the whole before that.
    let resource =
        at("in sync", &|signal| signal.tells(&path("unit", OTHERS[0]), RESOURCE, "Status", &json!("in-sync")));
    let finished = at("finished", &|signal| signal.tells(&job, JOB, "State", &json!("finished")));
    let whole = at("the whole", &|signal| signal.tells(STATE, FACE, "LastJob", &json!(job)));
    assert!(resource < finished && finished < whole && whole < end, "{resource} {finished} {whole} {end}");
}

#[test]
fn a_cancelled_job_finishes_what_has_begun_and_skips_the_rest() {
    let Some(lab) = enter() else { return };
    let job = hold_up(&lab, &document());
    let waiter = waiter(&job);
    lab.call(&job, JOB, "Cancel", &["a{sv}", "0"]);
    let now = steps(&lab, &job);
    assert!(now.contains(&step(GATED, "running")) && now.contains(&step(OTHERS[0], "skipped")), "{now:?}");
    open_gate();
    assert_eq!(answer(waiter), r#"s "cancelled""#);
    assert_eq!(lab.show(GATED, "ActiveState"), "active");
    assert_eq!(lab.show(OTHERS[0], "ActiveState"), "inactive");
    let finished = lab.refused(&job, "org.opdbus.Job.Cancel", &["{}"]);
    assert_eq!(finished.0, "org.opdbus.Error.Conflict", "{}", finished.1);
    let unknown = lab.refused("/org/opdbus/job/99999", "org.opdbus.Job.Cancel", &["{}"]);
    assert!(["org.opdbus.Error.NotFound", "org.freedesktop.DBus.Error.UnknownObject"].contains(&unknown.0.as_str()));

    // The generation stands, and can be asked for again.
    let reply = lab.call(STATE, FACE, "Reconcile", &["a{sv}", "0"]);
    assert_eq!(lab.wait(reply[0].as_str().unwrap()), "done");
    assert_eq!(lab.show(OTHERS[0], "ActiveState"), "active");
}

#[test]
fn a_newer_document_takes_over_from_a_job() {
    let Some(lab) = enter() else { return };
    let job = hold_up(&lab, &document());
    let first = waiter(&job);
    let other = json!({ "systemd": { "units": {
        GATED: { "active_state": "active" }, OTHERS[1]: { "active_state": "inactive" }
    } } });
    let reply = lab.call(STATE, FACE, "SetDesiredState", &["s", &other.to_string()]);
    assert_eq!(reply[0], 2);
    let second = reply[1].as_str().unwrap();
    assert_eq!(lab.get(second, JOB, "State"), "queued", "one job writes at a time");
    open_gate();
    assert_eq!(answer(first), r#"s "superseded""#);
    assert_eq!(lab.wait(second), "done");
    assert_eq!(lab.show(GATED, "ActiveState"), "active", "what had started was finished, and is wanted");
    assert_eq!(lab.show(OTHERS[0], "ActiveState"), "inactive", "the rest was planned afresh");
    assert_eq!(lab.show(OTHERS[1], "ActiveState"), "inactive");
    let listed = lab.call(STATE, FACE, "ListGenerations", &["a{sv}", "0"])[0].clone();
    assert_eq!((&listed[0][5], &listed[1][5]), (&json!("superseded"), &json!("done")));
}

/// ovs-vswitchd, stopped until this is dropped.
struct Hung<'a>(&'a Lab);

impl<'a> Hung<'a> {
    fn hang(lab: &'a Lab) -> Self {
        lab.run(&["systemctl", "kill", "--signal=STOP", "ovs-vswitchd.service"]);
        Self(lab)
    }
}

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        self.0.outcome(&["systemctl", "kill", "--signal=CONT", "ovs-vswitchd.service"]);
    }
}

/// What is in its database is not what it works by.
#[test]
fn what_a_hung_switch_has_not_applied_does_not_hold_until_it_has() {
    let Some(lab) = enter() else { return };
    let bridge =
        |ports: Value| json!({ "ovsdb": { "bridges": { "lab-hung": { "datapath_type": "netdev", "ports": ports } } } });
    let (_, result) = lab.set_desired_state(&bridge(json!({ "lab-h0": { "type": "internal" } })));
    assert_eq!(result, "done");
    let hung = Hung::hang(&lab);
    let ports = json!({ "lab-h0": { "type": "internal", "tag": 7 }, "lab-h1": { "type": "internal" } });
    let (job, result) = lab.set_desired_state(&bridge(ports));
    assert_eq!(result, "partial");
    let said = lab.get(&job, JOB, "Message");
    assert!(said.as_str().unwrap().starts_with("1 of 3 resources hold; port:lab-h0: SwitchNotAnswering"), "{said}");
    for port in ["lab-h0", "lab-h1"] {
        let get = |property| lab.get(&path("port", port), RESOURCE, property);
        let stands = (get("InSync"), get("Status"), get("Reason"));
        assert_eq!(stands, (json!(false), json!("failed"), json!("SwitchNotAnswering")), "{port}");
    }
    assert_eq!(lab.get(STATE, FACE, "InSync"), false);
    drop(hung);
    lab.until(STATE, FACE, "InSync", |in_sync| in_sync == true);
    assert_eq!(lab.ovs(&["get", "interface", "lab-h1", "error"]), "[]");
    let gone = json!({ "ovsdb": { "bridges": { "lab-hung": { "ensure": "absent" } } } });
    assert_eq!(lab.set_desired_state(&gone).1, "done");
}

#[test]
fn a_container_outside_the_plan_need_not_wait_for_it() {
    let Some(lab) = enter() else { return };
    let mut document = document();
    // Known by its unit, which the document names without saying whether it shall run.
    document["lxc"] = json!({ "containers": [{ "id": "102" }] });
    let job = hold_up(&lab, &document);
    let container = path("container", "102");
    for (verb, state) in [("Start", "active"), ("Restart", "active"), ("Stop", "inactive")] {
        let reply = lab.call(&container, "org.opdbus.Container", verb, &["a{sv}", "0"]);
        assert_eq!(lab.wait(reply[0].as_str().unwrap()), "done", "{verb}");
        assert_eq!(lab.show("pve-container@102.service", "ActiveState"), state);
        assert_eq!(lab.get(job.as_str(), JOB, "State"), "running");
    }
    // A whole reconcile writes, and waits for its turn.
    let reply = lab.call(STATE, FACE, "Reconcile", &["a{sv}", "0"]);
    let reconcile = reply[0].as_str().unwrap();
    assert_eq!(lab.get(reconcile, JOB, "State"), "queued");
    open_gate();
    assert_eq!(lab.wait(&job), "done");
    assert_eq!(lab.wait(reconcile), "unchanged");
}

#[test]
fn told_to_end_in_the_middle_of_a_job_it_ends_in_order_and_goes_on_at_its_next_start() {
    let Some(lab) = enter() else { return };
    let job = hold_up(&lab, &document());
    let waiter = waiter(&job);
    let mut stop = Command::new("systemctl").args(["stop", "op-dbus.service"]).spawn().unwrap();
    lab.until_shown("op-dbus.service", "StatusText", |text| text.contains("finishing the steps that have begun"));
    // It reads still, and begins nothing any more.
    assert_eq!(lab.get(STATE, FACE, "Generation"), 1);
    let now = steps(&lab, &job);
    assert!(now.contains(&step(GATED, "running")) && now.contains(&step(OTHERS[0], "skipped")), "{now:?}");
    open_gate();
    assert_eq!(answer(waiter), r#"s "cancelled""#, "whoever waits has his answer before the end");
    assert!(stop.wait().unwrap().success());
    assert_eq!(lab.show("op-dbus.service", "Result"), "success");
    assert_eq!(lab.show(GATED, "ActiveState"), "active", "what had begun was finished");
    assert_eq!(lab.show(OTHERS[0], "ActiveState"), "inactive");
    assert!(!lab.outcome(&["busctl", "status", NAME]).success, "the name is free");

    lab.run(&["systemctl", "start", "op-dbus.service"]);
    lab.until(STATE, FACE, "ObservedGeneration", |generation| *generation == 1);
    assert_eq!(lab.get(STATE, FACE, "InSync"), true);
    assert_eq!(lab.show(OTHERS[0], "ActiveState"), "active");
    let jobs = lab.run(&["busctl", "--list", "tree", NAME]);
    assert!(!jobs.lines().any(|line| line == job), "numbers of jobs are never used again: {jobs}");
}
