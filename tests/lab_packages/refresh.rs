//! When the lists of repositories are fetched.

use op_dbus_testkit::path;
use serde_json::json;

use crate::fixture::{enter, stands, version};

#[test]
fn the_lists_are_fetched_when_the_document_says_so() {
    let Some(lab) = enter() else { return };
    let document = |refresh: &str| json!({ "packagekit": { "refresh": refresh, "packages": { "lab-new": { "ensure": "installed" } } } });
    // A package comes out, and nobody has told apt.
    let build = "mkdir -p /tmp/n/DEBIAN && printf 'Package: lab-new\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: L <l@example.org>\\nDescription: new\\n' >/tmp/n/DEBIAN/control \
                 && dpkg-deb -b /tmp/n /srv/repository/lab-new_1.0_all.deb && cd /srv/repository \
                 && { dpkg-deb -f lab-new_1.0_all.deb; echo Filename: ./lab-new_1.0_all.deb; echo Size: $(stat -c %s lab-new_1.0_all.deb); echo SHA256: $(sha256sum lab-new_1.0_all.deb | cut -d' ' -f1); echo; } >>Packages";
    lab.run(&["sh", "-c", build]);
    assert_eq!(lab.set_desired_state(&document("never")).1, "failed");
    assert_eq!(stands(&lab, &path("package", "lab-new")).1, "PackageNotFound");
    assert_eq!(lab.set_desired_state(&document("before-apply")).1, "done");
    assert_eq!(version(&lab, "lab-new"), "1.0");
    // They are fresh now: an age of days has nothing fetched.
    assert_eq!(lab.set_desired_state(&document("7d")).1, "unchanged");
}
