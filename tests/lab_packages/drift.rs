//! Drift, whoever causes it; and that nothing is asked where nothing has changed.

use op_dbus_testkit::{STATE, path};
use serde_json::{Value, json};

use crate::fixture::{
    Calls, FACE, PACKAGE, PLUGIN, PLUGIN_PATH, RESOURCE, enter, installed, packages, runs, settle, stands,
    stop_packagekitd,
};

#[test]
fn nothing_is_asked_of_packagekit_that_has_not_changed() {
    let Some(lab) = enter() else { return };
    settle(&lab, &installed("dpkg"));
    assert!(lab.get(PLUGIN_PATH, PLUGIN, "BackendVersion").as_str().unwrap().contains("apt"));
    // All that this machine has, and names it does not have, up to 500.
    let names = lab.run(&["dpkg-query", "--show", "--showformat=${Package}\n"]);
    let mut all = serde_json::Map::new();
    for name in names.lines() {
        all.insert(name.to_owned(), json!({ "ensure": "installed" }));
    }
    for number in all.len()..500 {
        all.insert(format!("lab-none-{number}"), json!({ "ensure": "removed" }));
    }
    for document in [installed("dpkg"), packages(&Value::Object(all))] {
        // What is asked of names that are new is asked before the job ends.
        assert_eq!(lab.set_desired_state(&document).1, "unchanged");
        stop_packagekitd(&lab);
        let mut calls = Calls::listen();
        assert_eq!(lab.set_desired_state(&document).1, "unchanged");
        assert_eq!(lab.wait(lab.call(STATE, FACE, "Reconcile", &["a{sv}", "0"])[0].as_str().unwrap()), "unchanged");
        let count = document["packagekit"]["packages"].as_object().unwrap().len();
        assert_eq!(calls.seen(&lab), Vec::<String>::new(), "a no-op of {count} packages asks nothing");
        assert!(!runs(&lab, "packagekit.service"), "nor does it start packagekitd");
        assert_eq!(lab.get(PLUGIN_PATH, PLUGIN, "Status"), "connected", "that it ended is no fault");
        assert_eq!(lab.get(STATE, FACE, "InSync"), true);
    }
}

/// Drift, whoever causes it, without packagekitd.
#[test]
fn drift_is_seen_whoever_causes_it() {
    let Some(lab) = enter() else { return };
    let document = packages(&json!({ "lab-hello": { "ensure": "installed" }, "lab-other": { "ensure": "removed" } }));
    settle(&lab, &document);
    let mut calls = Calls::listen();
    let hello = path("package", "lab-hello");
    let other = path("package", "lab-other");
    for (command, drifted, property, value) in [
        (&["dpkg", "-r", "lab-hello"][..], &hello, "InstalledVersion", json!("")),
        (&["dpkg", "-i", "/srv/packages/lab-hello_2.0_all.deb"], &hello, "InstalledVersion", json!("2.0")),
        (&["dpkg", "-i", "/srv/packages/lab-other_1.0_all.deb"], &other, "InstalledVersion", json!("1.0")),
        (&["dpkg", "-r", "lab-other"], &other, "InstalledVersion", json!("")),
    ] {
        let mut signals = lab.signals();
        lab.run(command);
        signals.until_told(drifted, PACKAGE, property, &value);
    }
    assert_eq!(calls.seen(&lab), Vec::<String>::new(), "PackageKit has no part in it");
    assert!(!runs(&lab, "packagekit.service"), "nor is it started for it");
    // apt's own hook wakes packagekitd; op-dbus has seen the change before that.
    let mut signals = lab.signals();
    lab.run(&["apt-get", "--quiet", "--yes", "install", "lab-other"]);
    signals.until("drift", |signal| signal.member == "DriftDetected" && signal.arguments[0] == json!(other));
    assert_eq!(stands(&lab, &other), ("drifted".to_owned(), "NotAbsent".to_owned()));
    let mut signals = lab.signals();
    lab.run(&["apt-get", "--quiet", "--yes", "remove", "lab-other"]);
    signals.until_told(&other, RESOURCE, "Status", &json!("in-sync"));
    // ... and PackageKit itself, by another's hand.
    let remove = "import dasbus.connection as c, dasbus.loop as l\n\
                  bus = c.SystemMessageBus(); pk = bus.get_proxy('org.freedesktop.PackageKit', '/org/freedesktop/PackageKit')\n\
                  t = bus.get_proxy('org.freedesktop.PackageKit', pk.CreateTransaction()); loop = l.EventLoop()\n\
                  t.Finished.connect(lambda *a: loop.quit())\n\
                  t.RemovePackages(0, ['lab-hello;2.0;all;installed'], True, False); loop.run()";
    let mut signals = lab.signals();
    lab.run(&["python3", "-c", remove]);
    signals.until("drift", |signal| signal.member == "DriftDetected" && signal.arguments[0] == json!(hello));
    assert_eq!(stands(&lab, &hello), ("drifted".to_owned(), "Missing".to_owned()));
}

#[test]
fn drift_is_put_back_where_the_policy_says_so() {
    let Some(lab) = enter() else { return };
    let mut document = packages(&json!({
        "lab-hello": { "ensure": "installed", "version": "1.0", "allow_downgrade": true },
        "lab-other": { "ensure": "removed" },
    }));
    document["drift"] = json!("enforce");
    assert_eq!(lab.set_desired_state(&document).1, "done");
    let mut signals = lab.signals();
    lab.run(&["dpkg", "-r", "lab-hello"]);
    signals.until_told(&path("package", "lab-hello"), PACKAGE, "InstalledVersion", &json!("1.0"));
    // The job has let the database go.
    lab.until(STATE, FACE, "CurrentJob", |job| *job == "/");
    lab.run(&["dpkg", "-i", "/srv/packages/lab-hello_2.0_all.deb"]);
    signals.until_told(&path("package", "lab-hello"), PACKAGE, "InstalledVersion", &json!("2.0"));
    signals.until_told(&path("package", "lab-hello"), PACKAGE, "InstalledVersion", &json!("1.0"));
    lab.until(STATE, FACE, "CurrentJob", |job| *job == "/");
    lab.run(&["dpkg", "-i", "/srv/packages/lab-other_1.0_all.deb"]);
    signals.until_told(&path("package", "lab-other"), PACKAGE, "Installed", &json!(true));
    signals.until_told(&path("package", "lab-other"), PACKAGE, "Installed", &json!(false));
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
}
