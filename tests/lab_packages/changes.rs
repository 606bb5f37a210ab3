//! Packages are brought to be as the document says.

use std::{fs, io::Write as _};

use op_dbus_testkit::{STATE, path};
use serde_json::{Value, json};

use crate::fixture::{
    FACE, JOB, PACKAGE, PLUGIN, PLUGIN_PATH, RESOURCE, begin_slow, enter, installed, of, packages, plan, repository,
    stands, version,
};

#[test]
fn a_package_is_installed_updated_and_removed() {
    let Some(lab) = enter() else { return };
    let (job, result) = lab.set_desired_state(&installed("lab-hello"));
    assert_eq!(result, "done", "{}", lab.get(&job, JOB, "Message"));
    assert_eq!(version(&lab, "lab-hello"), "1.0");
    for (property, value) in [
        ("Name", json!("lab-hello")),
        ("Arch", json!("all")),
        ("InstalledVersion", json!("1.0")),
        ("CandidateVersion", json!("1.0")),
        ("Summary", json!("lab-hello of the lab")),
        ("Installed", json!(true)),
        ("UpdateAvailable", json!(false)),
        ("RestartRequired", json!("")),
    ] {
        assert_eq!(of(&lab, "lab-hello", PACKAGE, property), value, "{property}");
    }
    assert_eq!(stands(&lab, &path("package", "lab-hello")), ("in-sync".to_owned(), String::new()));
    let steps = lab.get(&job, JOB, "Steps");
    assert_eq!(
        (&steps[0][2], &steps[0][3], steps.as_array().unwrap().len()),
        (&json!("install-package"), &json!("done"), 2)
    );

    // A newer version comes out: for `installed` that is no drift, and it shows.
    repository(&lab, &["publish", "lab-hello_2.0_all.deb"]);
    lab.until(&path("package", "lab-hello"), PACKAGE, "UpdateAvailable", |update| *update == true);
    assert_eq!(of(&lab, "lab-hello", PACKAGE, "CandidateVersion"), "2.0");
    lab.until(PLUGIN_PATH, PLUGIN, "UpdatesAvailable", |updates| *updates == 1);
    assert_eq!(lab.get(STATE, FACE, "InSync"), true);
    assert_eq!(lab.set_desired_state(&installed("lab-hello")).1, "unchanged");

    let latest = packages(&json!({ "lab-hello": { "ensure": "latest" } }));
    let steps = plan(&lab, &latest);
    assert_eq!(steps[0].0, "update-package");
    assert_eq!(steps[0].1[4][0], json!(["version", {"type": "s", "data": "1.0"}, {"type": "s", "data": "2.0"}]));
    assert_eq!(steps[0].1[6], false, "what a package's scripts do cannot be undone");
    assert_eq!(lab.set_desired_state(&latest).1, "done");
    assert_eq!(version(&lab, "lab-hello"), "2.0");
    assert_eq!(lab.set_desired_state(&latest).1, "unchanged");

    let removed = packages(&json!({ "lab-hello": { "ensure": "removed" } }));
    assert_eq!(lab.set_desired_state(&removed).1, "done");
    assert_eq!(version(&lab, "lab-hello"), "");
    assert_eq!(of(&lab, "lab-hello", RESOURCE, "Present"), false);
    assert_eq!(lab.set_desired_state(&removed).1, "unchanged");
}

#[test]
fn a_version_is_pinned_and_an_older_one_comes_only_where_it_may() {
    let Some(lab) = enter() else { return };
    repository(&lab, &["publish", "lab-hello_2.0_all.deb"]);
    let pinned = |version: &str, downgrade: bool| {
        let mut entry = json!({ "ensure": "installed", "version": version });
        if downgrade {
            entry["allow_downgrade"] = json!(true);
        }
        packages(&json!({ "lab-hello": entry }))
    };
    // apt would take 2.0 by itself.
    assert_eq!(lab.set_desired_state(&pinned("1.0", false)).1, "done");
    assert_eq!(version(&lab, "lab-hello"), "1.0");
    assert_eq!(lab.set_desired_state(&pinned("2.*", false)).1, "done");
    assert_eq!(version(&lab, "lab-hello"), "2.0");
    assert_eq!(lab.set_desired_state(&pinned("1.0", false)).1, "failed");
    let (status, reason) = stands(&lab, &path("package", "lab-hello"));
    assert_eq!((status.as_str(), reason.as_str()), ("blocked", "WouldDowngrade"));
    assert_eq!(version(&lab, "lab-hello"), "2.0");
    let (job, result) = lab.set_desired_state(&pinned("1.0", true));
    assert_eq!(result, "done");
    assert_eq!(lab.get(&job, JOB, "Steps")[0][2], "downgrade-package");
    assert_eq!(version(&lab, "lab-hello"), "1.0");
    assert_eq!(lab.set_desired_state(&pinned("9.9", true)).1, "failed");
    assert_eq!(stands(&lab, &path("package", "lab-hello")).1, "VersionNotAvailable");
}

#[test]
fn a_package_that_is_only_looked_at_shows_its_versions() {
    let Some(lab) = enter() else { return };
    lab.run(&["apt-get", "--quiet", "--yes", "install", "lab-other"]);
    let document = packages(&json!({ "lab-other": {}, "lab-hello": {}, "lab-none": {} }));
    assert_eq!(lab.set_desired_state(&document).1, "unchanged");
    assert_eq!(of(&lab, "lab-other", PACKAGE, "InstalledVersion"), "1.0");
    assert_eq!(of(&lab, "lab-hello", PACKAGE, "InstalledVersion"), "");
    lab.until(&path("package", "lab-hello"), PACKAGE, "CandidateVersion", |version| *version == "1.0");
    assert_eq!(of(&lab, "lab-none", PACKAGE, "CandidateVersion"), "");
    assert_eq!(lab.get(STATE, FACE, "InSync"), true);
}

#[test]
fn progress_shows_on_the_job_while_a_package_is_put_in() {
    let Some(lab) = enter() else { return };
    let mut signals = lab.signals();
    let job = begin_slow(&lab);
    let told = signals.until("the package that is put in", |signal| {
        signal.path == job
            && signal.member == "StepChanged"
            && signal.arguments[2].as_str().is_some_and(|text| text.contains("lab-slow 1.0"))
    });
    assert_eq!(told.arguments[1], "running");
    let progress = lab.get(&job, JOB, "Progress").as_f64().unwrap();
    assert!((0.0..1.0).contains(&progress), "{progress}");
    fs::OpenOptions::new().write(true).open("/run/lab-slow-go").unwrap().write_all(b"go\n").unwrap();
    assert_eq!(lab.wait(&job), "done");
}

#[test]
fn nothing_is_asked_of_anybody() {
    let Some(lab) = enter() else { return };
    assert_eq!(lab.set_desired_state(&installed("lab-asks")).1, "done");
    assert_eq!(fs::read_to_string("/run/lab-asks").unwrap().trim(), "frontend: noninteractive");
}

#[test]
fn what_must_be_started_again_shows() {
    let Some(lab) = enter() else { return };
    lab.run(&["touch", "--date=2000-01-01", "/run/reboot-required"]);
    assert_eq!(lab.set_desired_state(&installed("lab-restart")).1, "done");
    assert_eq!(of(&lab, "lab-restart", PACKAGE, "RestartRequired"), "system");
}

/// What is exported of packages plans to nothing.
#[test]
fn an_export_holds_the_packages() {
    let Some(lab) = enter() else { return };
    let document = packages(&json!({ "lab-hello": { "ensure": "installed" }, "lab-other": { "ensure": "removed" } }));
    assert_eq!(lab.set_desired_state(&document).1, "done");
    let reply = lab.call(STATE, FACE, "ExportState", &["asa{sv}", "1", "packagekit", "0"]);
    let exported: Value = serde_json::from_str(reply[0].as_str().unwrap()).unwrap();
    assert_eq!(exported["packagekit"], document["packagekit"]);
    assert_eq!(plan(&lab, &exported), []);
}
