//! What comes after packages.

use std::fs;

use op_dbus_testkit::{STATE, path};
use serde_json::json;

use crate::fixture::{FACE, JOB, enter, plan, runs, stands, version};

#[test]
fn a_unit_that_a_package_brings_is_planned_and_started() {
    let Some(lab) = enter() else { return };
    let document = json!({
        "packagekit": { "packages": { "lab-service": { "ensure": "installed" } } },
        "systemd": { "units": { "lab-service.service": { "enabled": true, "active_state": "active" } } },
    });
    let steps = plan(&lab, &document);
    let actions: Vec<&str> = steps.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(actions, ["install-package", "set-unit-file", "daemon-reload", "start"]);
    let (job, result) = lab.set_desired_state(&document);
    assert_eq!(result, "done", "{} {}", lab.get(&job, JOB, "Message"), lab.get(&job, JOB, "Steps"));
    assert!(runs(&lab, "lab-service.service"));
    assert_eq!(lab.run(&["systemctl", "is-enabled", "lab-service.service"]), "enabled");
    assert_eq!(lab.set_desired_state(&document).1, "unchanged");
}

/// A unit that names no package waits for the one that brings it all the same.
#[test]
fn a_unit_whose_package_cannot_be_had_at_first_is_started_once_it_can() {
    let Some(lab) = enter() else { return };
    fs::rename("/srv/packages/lab-service_1.0_all.deb", "/srv/away.deb").unwrap();
    let document = json!({
        "packagekit": { "packages": { "lab-service": { "ensure": "installed" } } },
        "systemd": { "units": { "lab-service.service": { "active_state": "active" } } },
    });
    // systemd read its unit files again, in vain.
    assert_eq!(lab.set_desired_state(&document).1, "partial");
    assert_eq!(stands(&lab, &path("package", "lab-service")).1, "DownloadFailed");
    let unit = path("unit", "lab-service.service");
    assert_eq!(stands(&lab, &unit), ("blocked".to_owned(), "DependencyFailed".to_owned()));
    fs::rename("/srv/away.deb", "/srv/packages/lab-service_1.0_all.deb").unwrap();
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    assert!(runs(&lab, "lab-service.service"));
}

#[test]
fn what_comes_after_a_package_waits_for_it() {
    let Some(lab) = enter() else { return };
    let document = |package: &str| {
        let after = [format!("package:{package}")];
        json!({
            "packagekit": { "packages": { "lab-service": { "ensure": "installed" }, package: { "ensure": "installed" } } },
            "systemd": { "units": { "lab-service.service": { "active_state": "active", "after": after } } },
            "ovsdb": { "bridges": {
                "ovsbr0": { "ports": { "labp0": { "type": "internal", "after": after } } },
                "labbr0": { "datapath_type": "netdev", "after": after },
            } },
            "lxc": { "containers": [{ "id": "100", "running": true, "after": after }] },
        })
    };
    // Its package cannot come: neither can they; the other package does.
    assert_eq!(lab.set_desired_state(&document("lab-nowhere")).1, "partial");
    assert_eq!(version(&lab, "lab-service"), "1.0");
    for (kind, name) in [("unit", "lab-service.service"), ("port", "labp0"), ("bridge", "labbr0"), ("container", "100")]
    {
        let resource = path(kind, name);
        assert_eq!(stands(&lab, &resource), ("blocked".to_owned(), "DependencyFailed".to_owned()), "{resource}");
    }
    assert_eq!(lab.set_desired_state(&document("lab-hello")).1, "done");
    assert!(runs(&lab, "lab-service.service"));
    assert_eq!(lab.ovs(&["port-to-br", "labp0"]), "ovsbr0");
    lab.ovs(&["br-exists", "labbr0"]);
    assert!(runs(&lab, "pve-container@100.service"));
}
