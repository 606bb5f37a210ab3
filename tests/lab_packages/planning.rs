//! What a plan knows before anything is touched, and what it refuses.

use std::fs;

use op_dbus_testkit::path;
use serde_json::json;

use crate::fixture::{RESOURCE, enter, installed, of, packages, plan, repository, stands, version};

#[test]
fn the_plan_names_what_comes_along_and_what_would_go() {
    let Some(lab) = enter() else { return };
    let steps = plan(&lab, &installed("lab-needs"));
    let warnings = &steps[0].1[7]["warnings"]["data"];
    assert_eq!(*warnings, json!(["also installs lab-hello"]), "{steps:?}");
    assert_eq!(lab.set_desired_state(&installed("lab-needs")).1, "done");

    // lab-needs would go with it, and nobody said so.
    let removed = packages(&json!({ "lab-hello": { "ensure": "removed" } }));
    assert_eq!(lab.set_desired_state(&removed).1, "failed");
    assert_eq!(stands(&lab, &path("package", "lab-hello")).1, "WouldRemoveOthers");
    assert!(of(&lab, "lab-hello", RESOURCE, "Message").as_str().unwrap().contains("lab-needs"));
    assert_eq!(version(&lab, "lab-needs"), "1.0");
    // ... which the document may say in two ways.
    let both = packages(&json!({ "lab-hello": { "ensure": "removed" }, "lab-needs": { "ensure": "removed" } }));
    assert_eq!(
        plan(&lab, &both)
            .iter()
            .map(|(action, _)| action.as_str())
            .filter(|action| *action == "remove-package")
            .count(),
        2
    );
    let allowed = packages(&json!({ "lab-hello": { "ensure": "removed", "allow_remove_others": true } }));
    assert_eq!(lab.set_desired_state(&allowed).1, "done");
    assert_eq!((version(&lab, "lab-hello"), version(&lab, "lab-needs")), (String::new(), String::new()));
}

#[test]
fn what_the_machine_stands_on_is_never_removed() {
    let Some(lab) = enter() else { return };
    repository(&lab, &["publish", "lab-vital_2.0_all.deb"]);
    lab.run(&["apt-get", "--quiet", "--yes", "install", "lab-vital"]);
    let removed = |name: &str| packages(&json!({ name: { "ensure": "removed", "allow_remove_others": true } }));
    for name in ["lab-vital", "dbus-broker", "packagekit"] {
        assert_eq!(lab.set_desired_state(&removed(name)).1, "failed", "{name}");
        assert_eq!(stands(&lab, &path("package", name)), ("blocked".to_owned(), "Protected".to_owned()), "{name}");
        assert_ne!(version(&lab, name), "", "{name}");
    }
    // Nor as what would go along: dbus-broker and others need libsystemd0.
    assert_eq!(lab.set_desired_state(&removed("libsystemd0")).1, "failed");
    assert_ne!(version(&lab, "libsystemd0"), "");
}

#[test]
fn names_that_cannot_be_had_say_why() {
    let Some(lab) = enter() else { return };
    let document = packages(&json!({
        "lab-hello": { "ensure": "installed" },
        "lab-helo": { "ensure": "installed" },
        "lab-mta": { "ensure": "installed" },
        "lab-nowhere": { "ensure": "installed" },
        "lab-left": { "ensure": "installed" },
        "lab-right": { "ensure": "installed" },
    }));
    assert_eq!(lab.set_desired_state(&document).1, "partial");
    assert_eq!(version(&lab, "lab-hello"), "1.0", "what can be had is there");
    for (name, reason, word) in [
        ("lab-helo", "PackageNotFound", "lab-helo"),
        ("lab-mta", "PackageVirtual", "lab-mta-a, lab-mta-b"),
        ("lab-nowhere", "PackageConflict", "lab-that-nobody-has"),
        ("lab-left", "PackageConflict", "lab-right"),
        ("lab-right", "PackageConflict", "lab-left"),
    ] {
        let message = of(&lab, name, RESOURCE, "Message");
        assert_eq!(
            stands(&lab, &path("package", name)),
            ("blocked".to_owned(), reason.to_owned()),
            "{name}: {message}"
        );
        assert!(message.as_str().unwrap().contains(word), "{name}: {message}");
    }
    // A name that is only provided, and shall be removed: there is nothing to remove.
    assert_eq!(lab.set_desired_state(&packages(&json!({ "lab-mta": { "ensure": "removed" } }))).1, "unchanged");
}

#[test]
fn what_cannot_be_verified_is_refused_unless_the_section_allows_it() {
    let Some(lab) = enter() else { return };
    fs::write("/etc/apt/sources.list", "deb copy:/srv/repository ./\n").unwrap();
    lab.run(&["apt-get", "--quiet", "--quiet", "update", "--allow-insecure-repositories"]);
    assert_eq!(lab.set_desired_state(&installed("lab-hello")).1, "failed");
    assert_eq!(stands(&lab, &path("package", "lab-hello")), ("blocked".to_owned(), "UntrustedPackage".to_owned()));
    let mut document = installed("lab-hello");
    document["packagekit"]["allow_untrusted"] = json!(true);
    assert_eq!(lab.set_desired_state(&document).1, "done");
}
