//! Who may do what, asked of a real bus and a real polkit as somebody who is not root: reads are free, each verb has its
//! action, root always may, and where there is no polkit only root may.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{fs, path::Path};

use op_dbus_testkit::{Lab, Outcome, STATE};
use serde_json::json;

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const CONTAINER: &str = "/org/opdbus/container/_3100";
const RULES: &str = "/etc/polkit-1/rules.d/10-lab.rules";
const INTERACTIVE: &str = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";
const NOT_AUTHORIZED: &str = "org.opdbus.Error.NotAuthorized";

/// A call that needs an action: the object, the method with its interface, the arguments.
type Guarded = (&'static str, &'static str, &'static [&'static str]);

/// Something else than what root has set, so that it would show if it were taken.
const OTHER: &str = r#"'{"systemd":{"units":{"pve-container@102.service":{"active_state":"active"}}}}'"#;

/// Every guarded method on the tree, by the action it needs.
const GUARDED: [(&str, &[Guarded]); 4] = [
    (
        "org.opdbus.read-desired-state",
        &[
            (STATE, "org.opdbus.State.GetDesiredState", &["0", "{}"]),
            (STATE, "org.opdbus.State.ExportState", &["[]", "{}"]),
            (STATE, "org.opdbus.State.Plan", &[OTHER, "{}"]),
        ],
    ),
    (
        "org.opdbus.set-desired-state",
        &[
            (STATE, "org.opdbus.State.SetDesiredState", &[OTHER]),
            (STATE, "org.opdbus.State.SetDesiredStateWithOptions", &[OTHER, "{}"]),
            (STATE, "org.opdbus.State.AdoptStateFile", &["{}"]),
            ("/org/opdbus/job/1", "org.opdbus.Job.Cancel", &["{}"]),
        ],
    ),
    (
        "org.opdbus.reconcile",
        &[(STATE, "org.opdbus.State.Reconcile", &["{}"]), (CONTAINER, "org.opdbus.Resource.Reconcile", &["{}"])],
    ),
    (
        "org.opdbus.manage-containers",
        &[
            (CONTAINER, "org.opdbus.Container.Start", &["{}"]),
            (CONTAINER, "org.opdbus.Container.Stop", &["{}"]),
            (CONTAINER, "org.opdbus.Container.Restart", &["{}"]),
        ],
    ),
];

/// op-dbus runs, and the document is root's.
fn enter() -> Option<Lab> {
    let lab = Lab::enter()?;
    lab.install(BINARY, None);
    declare(&lab);
    Some(lab)
}

/// Root's document: it names container 100 without saying whether it runs.
fn declare(lab: &Lab) {
    let (_, result) = lab.set_desired_state(&json!({ "lxc": { "containers": [{ "id": "100", "veth": "veth100" }] } }));
    assert!(["done", "unchanged"].contains(&result.as_str()), "{result}");
}

/// The name of the error that a refused call ended with.
fn error(outcome: &Outcome) -> &str {
    assert!(!outcome.success, "not refused: {}", outcome.stdout);
    let (_, named) =
        outcome.stderr.split_once("GDBus.Error:").unwrap_or_else(|| panic!("no error name in {}", outcome.stderr));
    named.split_once(": ").map_or(named, |(name, _)| name)
}

/// What no refused call may change, once the jobs of the tests before are over: a Restart that was granted may outlast
/// its test, for it runs beside the job that writes.
fn untouched(lab: &Lab) -> [String; 3] {
    let tree = lab.run(&["busctl", "tree", "--list", "org.opdbus"]);
    let jobs: Vec<&str> = tree.lines().filter(|path| path.starts_with("/org/opdbus/job/")).collect();
    for job in &jobs {
        lab.call(job, "org.opdbus.Job", "Wait", &[]);
    }
    [
        lab.get(STATE, "org.opdbus.State", "Generation").to_string(),
        jobs.join(" "),
        lab.run(&["systemctl", "list-units", "--all", "--no-legend", "pve-container@*"]),
    ]
}

/// Writes polkit's rules of this machine, or takes them away.
fn rules(lab: &Lab, text: Option<&str>) {
    match text {
        Some(text) => fs::write(RULES, text).unwrap(),
        None => drop(fs::remove_file(RULES)),
    }
    // polkitd notices in its own time; started afresh it has read them.
    lab.run(&["systemctl", "restart", "polkit.service"]);
}

#[test]
fn anybody_may_read_the_tree() {
    let Some(lab) = enter() else { return };
    let standard = "org.freedesktop.DBus";
    for (path, method, arguments) in [
        (STATE, "Introspectable.Introspect", &[][..]),
        (STATE, "Peer.Ping", &[]),
        (STATE, "Peer.GetMachineId", &[]),
        (STATE, "Properties.Get", &["org.opdbus.State", "InSync"]),
        (CONTAINER, "Properties.GetAll", &["org.opdbus.Container"]),
        ("/org/opdbus", "ObjectManager.GetManagedObjects", &[]),
    ] {
        let outcome = lab.call_as("alice", path, &format!("{standard}.{method}"), arguments);
        assert!(outcome.success, "{method}: {}", outcome.stderr);
    }
    for (path, method, arguments) in [
        (STATE, "State.Validate", &[OTHER, "{}"][..]),
        (STATE, "State.ListGenerations", &["{}"]),
        (STATE, "State.ListResources", &["{}", "", "0", "{}"]),
        ("/org/opdbus/job/1", "Job.Wait", &[]),
    ] {
        let outcome = lab.call_as("alice", path, &format!("org.opdbus.{method}"), arguments);
        assert!(outcome.success, "{method}: {}", outcome.stderr);
    }
}

#[test]
fn somebody_without_rights_is_told_that_polkit_would_ask_and_nothing_happens() {
    let Some(lab) = enter() else { return };
    rules(&lab, None);
    let before = untouched(&lab);
    for (action, calls) in GUARDED {
        for (path, method, arguments) in calls {
            let outcome = lab.call_as("alice", path, method, arguments);
            assert_eq!(error(&outcome), INTERACTIVE, "{method}, which needs {action}");
        }
    }
    assert_eq!(untouched(&lab), before);
}

#[test]
fn somebody_who_lets_polkit_ask_but_has_nobody_to_answer_is_refused() {
    let Some(lab) = enter() else { return };
    rules(&lab, None);
    let before = untouched(&lab);
    // busctl sets ALLOW_INTERACTIVE_AUTHORIZATION; alice has no agent that could ask her.
    let outcome = lab.outcome(&[
        "runuser",
        "-u",
        "alice",
        "--",
        "busctl",
        "call",
        "org.opdbus",
        CONTAINER,
        "org.opdbus.Container",
        "Start",
        "a{sv}",
        "0",
    ]);
    assert!(!outcome.success, "{}", outcome.stdout);
    // busctl prints the message alone: it has to say what is missing.
    assert!(outcome.stderr.contains("org.opdbus.manage-containers"), "{}", outcome.stderr);
    assert_eq!(untouched(&lab), before);
}

#[test]
fn a_rule_that_refuses_is_obeyed() {
    let Some(lab) = enter() else { return };
    rules(&lab, Some(r"polkit.addRule(function(action, subject) { return polkit.Result.NO; });"));
    let before = untouched(&lab);
    for (action, calls) in GUARDED {
        for (path, method, arguments) in calls {
            let outcome = lab.call_as("alice", path, method, arguments);
            assert_eq!(error(&outcome), NOT_AUTHORIZED, "{method}, which needs {action}");
        }
    }
    assert_eq!(untouched(&lab), before);
    // Root is not asked about.
    lab.call(STATE, "org.opdbus.State", "Reconcile", &["a{sv}", "0"]);
    rules(&lab, None);
}

#[test]
fn a_rule_grants_one_action_and_no_other() {
    let Some(lab) = enter() else { return };
    for (granted, _) in GUARDED {
        rules(
            &lab,
            Some(&format!(
                "polkit.addRule(function(action, subject) {{
                     if (action.id == '{granted}' && subject.user == 'alice') return polkit.Result.YES;
                 }});"
            )),
        );
        for (action, calls) in GUARDED {
            for (path, method, arguments) in calls.iter().filter(|_| action != granted) {
                let outcome = lab.call_as("alice", path, method, arguments);
                assert_eq!(error(&outcome), INTERACTIVE, "{method} with {granted}");
            }
        }
        let (_, calls) = GUARDED.into_iter().find(|(action, _)| *action == granted).unwrap();
        for (path, method, arguments) in calls {
            let outcome = lab.call_as("alice", path, method, arguments);
            // There is no state file to adopt and no running job to cancel, but that is not a matter of rights.
            let other = [INTERACTIVE, NOT_AUTHORIZED, "org.freedesktop.DBus.Error.AccessDenied"];
            assert!(outcome.success || !other.contains(&error(&outcome)), "{method}: {}", outcome.stderr);
        }
        declare(&lab);
    }
    rules(&lab, None);
}

#[test]
fn what_is_not_published_is_refused_by_the_bus() {
    let Some(lab) = enter() else { return };
    let denied = "org.freedesktop.DBus.Error.AccessDenied";
    for (method, arguments) in [
        ("org.freedesktop.DBus.Properties.Set", &["org.opdbus.State", "InSync", "<true>"][..]),
        ("org.opdbus.State.Nonsense", &[]),
        ("org.opdbus.Nonsense.Reconcile", &["{}"]),
    ] {
        let outcome = lab.call_as("alice", STATE, method, arguments);
        assert_eq!(error(&outcome), denied, "{method}");
    }
    let outcome = lab.outcome(&[
        "runuser",
        "-u",
        "alice",
        "--",
        "gdbus",
        "call",
        "--system",
        "--dest",
        "org.freedesktop.DBus",
        "--object-path",
        "/org/freedesktop/DBus",
        "--method",
        "org.freedesktop.DBus.RequestName",
        "org.opdbus",
        "0",
    ]);
    assert_eq!(error(&outcome), denied, "the name is root's");
}

#[test]
fn without_polkit_root_may_and_nobody_else() {
    let Some(lab) = enter() else { return };
    let parts = [
        "/usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service",
        "/usr/lib/systemd/system/polkit.service",
    ];
    let reload = || {
        lab.run(&["systemctl", "daemon-reload"]);
        lab.run(&[
            "busctl",
            "call",
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "ReloadConfig",
        ]);
    };
    lab.run(&["systemctl", "stop", "polkit.service"]);
    for part in parts {
        fs::rename(part, Path::new(part).with_extension("away")).unwrap();
    }
    reload();

    let before = untouched(&lab);
    for (action, calls) in GUARDED {
        for (path, method, arguments) in calls {
            let outcome = lab.call_as("alice", path, method, arguments);
            assert_eq!(error(&outcome), NOT_AUTHORIZED, "{method}, which needs {action}");
        }
    }
    assert_eq!(untouched(&lab), before);
    let outcome = lab.call_as("alice", STATE, "org.opdbus.State.ListResources", &["{}", "", "0", "{}"]);
    assert!(outcome.success, "{}", outcome.stderr);
    lab.call(STATE, "org.opdbus.State", "Reconcile", &["a{sv}", "0"]);

    for part in parts {
        fs::rename(Path::new(part).with_extension("away"), part).unwrap();
    }
    reload();
}
