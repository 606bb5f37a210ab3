//! What a repository, the network, the disk or a package's own script may get wrong.

use std::fs;

use op_dbus_testkit::{STATE, path};
use serde_json::json;

use crate::fixture::{FACE, JOB, RESOURCE, enter, installed, of, packages, stands, version};

#[test]
fn a_broken_repository_says_so_and_is_tried_again() {
    let Some(lab) = enter() else { return };
    // The lists name it, and it is not there.
    fs::rename("/srv/packages/lab-hello_1.0_all.deb", "/srv/away.deb").unwrap();
    let document = packages(&json!({ "lab-hello": { "ensure": "installed" }, "lab-other": { "ensure": "installed" } }));
    assert_eq!(lab.set_desired_state(&document).1, "partial");
    assert_eq!(version(&lab, "lab-other"), "1.0", "the other goes alone");
    assert_eq!(stands(&lab, &path("package", "lab-hello")).1, "DownloadFailed");
    fs::rename("/srv/away.deb", "/srv/packages/lab-hello_1.0_all.deb").unwrap();
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    assert_eq!(version(&lab, "lab-hello"), "1.0");

    // Its lists cannot be fetched: what is known is planned with, and what is not known says why.
    fs::rename("/srv/repository/Packages", "/srv/Packages").unwrap();
    let document = |name: &str| json!({ "packagekit": { "refresh": "before-apply", "packages": { name: { "ensure": "installed" } } } });
    assert_eq!(lab.set_desired_state(&document("lab-left")).1, "done");
    assert_eq!(lab.set_desired_state(&document("lab-new")).1, "failed");
    assert_eq!(stands(&lab, &path("package", "lab-new")).1, "PackageNotFound");
    let message = of(&lab, "lab-new", RESOURCE, "Message");
    assert!(message.as_str().unwrap().contains("could not be fetched"), "{message}");
}

#[test]
fn offline_what_is_at_hand_is_installed_and_the_rest_says_so() {
    let Some(lab) = enter() else { return };
    // The lists cannot be fetched; the package was, before.
    lab.run(&["apt-get", "--quiet", "--yes", "--download-only", "install", "lab-hello"]);
    lab.run(&["ip", "route", "del", "default"]);
    let document = |name: &str| json!({ "packagekit": { "refresh": "before-apply", "packages": { name: { "ensure": "installed" } } } });
    assert_eq!(lab.set_desired_state(&document("lab-hello")).1, "done");
    assert_eq!(lab.set_desired_state(&document("lab-none")).1, "failed");
    let message = of(&lab, "lab-none", RESOURCE, "Message");
    assert!(message.as_str().unwrap().contains("offline"), "{message}");
    // The package of a repository that cannot be reached.
    let list = fs::read_to_string("/srv/repository/Packages").unwrap();
    let list = list.replace("lab-left\n", "lab-far\n").replace("lab-left_", "lab-far_");
    fs::create_dir_all("/srv/far").unwrap();
    fs::write("/srv/far/Packages", list).unwrap();
    fs::write("/etc/apt/sources.list", "deb [trusted=yes] copy:/srv/far ./\n").unwrap();
    lab.run(&["apt-get", "--quiet", "--quiet", "update"]);
    assert_eq!(lab.set_desired_state(&installed("lab-far")).1, "failed");
    assert_eq!(stands(&lab, &path("package", "lab-far")).1, "DownloadFailed");
}

#[test]
fn a_full_disk_says_so_and_is_tried_again() {
    let Some(lab) = enter() else { return };
    fs::create_dir_all("/opt/lab-big").unwrap();
    lab.run(&["mount", "-t", "tmpfs", "-o", "size=1m", "full", "/opt/lab-big"]);
    let (job, result) = lab.set_desired_state(&installed("lab-big"));
    assert_eq!(result, "failed");
    assert_eq!(stands(&lab, &path("package", "lab-big")).1, "NoSpace", "{}", lab.get(&job, JOB, "Message"));
    lab.run(&["umount", "/opt/lab-big"]);
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    assert_eq!(version(&lab, "lab-big"), "1.0");
}

#[test]
fn a_script_that_fails_fails_its_package_alone() {
    let Some(lab) = enter() else { return };
    let document = packages(&json!({ "lab-bad": { "ensure": "installed" }, "lab-hello": { "ensure": "installed" } }));
    assert_eq!(lab.set_desired_state(&document).1, "partial");
    assert_eq!(version(&lab, "lab-hello"), "1.0");
    let (status, reason) = stands(&lab, &path("package", "lab-bad"));
    let message = of(&lab, "lab-bad", RESOURCE, "Message");
    assert_eq!((status.as_str(), reason.as_str()), ("failed", "PackageScriptFailed"), "{message}");
    assert!(message.as_str().unwrap().contains("exit status 3"), "{message}");
    let differences = of(&lab, "lab-bad", RESOURCE, "Differences");
    assert_eq!(differences[0][2]["data"], "half-configured", "{differences}");
    // Halfway it can be removed.
    assert_eq!(lab.set_desired_state(&packages(&json!({ "lab-bad": { "ensure": "removed" } }))).1, "done");
}
