//! When the lists of repositories are fetched.

use std::fs;

use op_dbus_testkit::{Lab, path};
use serde_json::{Value, json};

use crate::fixture::{enter, repository, stands, stop_packagekitd, version};

/// Where PackageKit keeps when it last did what.
const HISTORY: &str = "/var/lib/PackageKit/transactions.db";

fn document(name: &str, refresh: &str) -> Value {
    json!({ "packagekit": { "refresh": refresh, "packages": { name: { "ensure": "installed" } } } })
}

/// Changes when PackageKit last fetched the lists, for an op-dbus that has not had it do so itself.
fn with_history(lab: &Lab, change: impl FnOnce()) {
    lab.run(&["systemctl", "stop", "op-dbus.service"]);
    stop_packagekitd(lab);
    change();
    lab.run(&["systemctl", "start", "op-dbus.service"]);
}

#[test]
fn the_lists_are_fetched_when_the_document_says_so() {
    let Some(lab) = enter() else { return };
    // A package comes out, and nobody has told apt.
    repository(&lab, &["announce", "lab-new_2.0_all.deb"]);
    assert_eq!(lab.set_desired_state(&document("lab-new", "never")).1, "failed");
    assert_eq!(stands(&lab, &path("package", "lab-new")).1, "PackageNotFound");
    assert_eq!(lab.set_desired_state(&document("lab-new", "before-apply")).1, "done");
    assert_eq!(version(&lab, "lab-new"), "2.0");
}

#[test]
fn lists_of_an_age_are_fetched_and_younger_ones_are_not() {
    let Some(lab) = enter() else { return };
    repository(&lab, &["announce", "lab-new_2.0_all.deb"]);
    // They never were, as far as PackageKit knows.
    with_history(&lab, || drop(fs::remove_file(HISTORY)));
    assert_eq!(lab.set_desired_state(&document("lab-new", "7d")).1, "done");
    // They are fresh now, by op-dbus's own hand, and then as PackageKit says.
    repository(&lab, &["announce", "lab-newer_2.0_all.deb"]);
    for _ in 0..2 {
        assert_eq!(lab.set_desired_state(&document("lab-newer", "7d")).1, "failed");
        assert_eq!(stands(&lab, &path("package", "lab-newer")).1, "PackageNotFound");
        with_history(&lab, || ());
    }
    // Eight days later.
    let age = "import datetime, sqlite3, sys\n\
               then = datetime.datetime.utcnow() - datetime.timedelta(days=8)\n\
               history = sqlite3.connect(sys.argv[1])\n\
               done = history.execute('UPDATE last_action SET timespec = ? WHERE role = ?', \
               (then.strftime('%Y-%m-%dT%H:%M:%SZ'), 'refresh-cache')).rowcount\n\
               history.commit()\nassert done == 1, list(history.execute('SELECT * FROM last_action'))";
    with_history(&lab, || drop(lab.run(&["python3", "-c", age, HISTORY])));
    assert_eq!(lab.set_desired_state(&document("lab-newer", "7d")).1, "done");
    assert_eq!(version(&lab, "lab-newer"), "2.0");
}
