//! Packages are brought to be as the document says.

use std::fs;

use op_dbus_testkit::{STATE, path};
use serde_json::{Value, json};

use crate::fixture::{
    Calls, FACE, JOB, PACKAGE, PLUGIN, PLUGIN_PATH, RESOURCE, begin_slow, enter, installed, let_slow_go, of, packages,
    plan, repository, send, stands, stop_packagekitd, version,
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
    let job = begin_slow(&lab, || send(&lab, &installed("lab-slow")));
    let told = signals.until("the package that is put in", |signal| {
        signal.path == job
            && signal.member == "StepChanged"
            && signal.arguments[2].as_str().is_some_and(|text| text.contains("lab-slow 1.0"))
    });
    assert_eq!(told.arguments[1], "running");
    let progress = lab.get(&job, JOB, "Progress").as_f64().unwrap();
    assert!((0.0..1.0).contains(&progress), "{progress}");
    let_slow_go(&lab);
    assert_eq!(lab.wait(&job), "done");
}

#[test]
fn nothing_is_asked_of_anybody() {
    let Some(lab) = enter() else { return };
    assert_eq!(lab.set_desired_state(&installed("lab-asks")).1, "done");
    // debconf's, and that of apt-listchanges.
    assert_eq!(fs::read_to_string("/run/lab-asks").unwrap().trim(), "noninteractive none");
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

/// One question for all names, and one transaction for each kind of change.
#[test]
fn what_changes_together_is_one_transaction() {
    let Some(lab) = enter() else { return };
    lab.run(&["apt-get", "--quiet", "--yes", "install", "lab-hello", "lab-other", "lab-right", "lab-slow"]);
    repository(&lab, &["publish", "lab-hello_2.0_all.deb", "lab-other_2.0_all.deb"]);
    stop_packagekitd(&lab);
    let mut calls = Calls::listen();
    let document = packages(&json!({
        "lab-mta-a": { "ensure": "installed" },
        "lab-mta-b": { "ensure": "installed" },
        "lab-hello": { "ensure": "latest" },
        "lab-other": { "ensure": "latest" },
        "lab-right": { "ensure": "removed" },
        "lab-slow": { "ensure": "removed" },
    }));
    assert_eq!(lab.set_desired_state(&document).1, "done");
    let calls = calls.seen(&lab);
    let first =
        calls.iter().position(|call| call.starts_with("InstallPackages [2,")).unwrap_or_else(|| panic!("{calls:#?}"));
    let resolves: Vec<&String> = calls[..first].iter().filter(|call| call.starts_with("Resolve ")).collect();
    assert!(matches!(resolves[..], [all] if all.matches("\"lab-").count() == 6), "{resolves:?}");
    for (begin, names) in [
        ("InstallPackages [2,", ["lab-mta-a;", "lab-mta-b;"]),
        ("UpdatePackages [2,", ["lab-hello;2.0;", "lab-other;2.0;"]),
        ("RemovePackages [0,", ["lab-right;", "lab-slow;"]),
    ] {
        let of_kind: Vec<&String> = calls.iter().filter(|call| call.starts_with(begin)).collect();
        assert!(matches!(of_kind[..], [one] if names.iter().all(|name| one.contains(name))), "{calls:#?}");
    }
}

#[test]
fn a_package_of_another_architecture_is_one_of_its_own() {
    let Some(lab) = enter() else { return };
    lab.run(&["dpkg", "--add-architecture", "i386"]);
    repository(&lab, &["publish", "lab-arch_1.0_amd64.deb", "lab-arch_1.0_i386.deb"]);
    let stand = || (version(&lab, "lab-arch:amd64"), version(&lab, "lab-arch:i386"));
    let (there, gone) = ("1.0".to_owned(), String::new());
    let foreign = packages(&json!({ "lab-arch": { "ensure": "installed", "arch": "i386" } }));
    assert_eq!(lab.set_desired_state(&foreign).1, "done");
    assert_eq!(stand(), (gone.clone(), there.clone()));
    assert_eq!(of(&lab, "lab-arch", PACKAGE, "Arch"), "i386");
    let both = packages(&json!({
        "lab-arch": { "ensure": "installed", "arch": "amd64" },
        "lab-arch:i386": { "ensure": "removed" },
    }));
    assert_eq!(lab.set_desired_state(&both).1, "done");
    assert_eq!(stand(), (there, gone));
    assert_eq!(of(&lab, "lab-arch", PACKAGE, "Arch"), "amd64");
    assert_eq!(of(&lab, "lab-arch:i386", RESOURCE, "Present"), false);
    assert_eq!(lab.set_desired_state(&both).1, "unchanged");
}
