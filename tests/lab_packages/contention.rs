//! Others at work in the package database, and work that is interrupted.

use std::{fs, process::Command};

use op_dbus_testkit::{STATE, path};
use serde_json::{Value, json};

use crate::fixture::{
    Calls, FACE, JOB, Lock, PACKAGE, PLUGIN, PLUGIN_PATH, RESOURCE, begin_slow, enter, installed, let_slow_go, of,
    packages, send, settle, stands, version,
};

#[test]
fn a_held_lock_is_waited_for_and_shown() {
    let Some(lab) = enter() else { return };
    let mut signals = lab.signals();
    let lock = Lock::hold();
    let job = send(&lab, &installed("lab-hello"));
    signals.until_told(&path("package", "lab-hello"), RESOURCE, "Reason", &json!("WaitingForPackageLock"));
    assert_eq!(of(&lab, "lab-hello", RESOURCE, "Status"), "applying");
    drop(lock);
    assert_eq!(lab.wait(&job), "done");
    assert_eq!(version(&lab, "lab-hello"), "1.0");

    // Held for too long it is given up for now, and taken up again by itself.
    lab.configure(&[("lock_timeout_s", "1")]);
    let lock = Lock::hold();
    assert_eq!(lab.set_desired_state(&installed("lab-other")).1, "failed");
    assert_eq!(stands(&lab, &path("package", "lab-other")).1, "WaitingForPackageLock");
    drop(lock);
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    assert_eq!(version(&lab, "lab-other"), "1.0");
}

/// A transaction that another had cancelled is taken up again.
#[test]
fn a_cancelled_transaction_is_taken_up_again() {
    let Some(lab) = enter() else { return };
    let lock = Lock::hold();
    let mut signals = lab.signals();
    let job = send(&lab, &installed("lab-hello"));
    signals.until_told(&path("package", "lab-hello"), RESOURCE, "Reason", &json!("WaitingForPackageLock"));
    let packagekit = ["busctl", "--json=short", "call", "org.freedesktop.PackageKit"];
    let list = ["/org/freedesktop/PackageKit", "org.freedesktop.PackageKit", "GetTransactionList"];
    let list: Value = serde_json::from_str(&lab.run(&[&packagekit[..], &list].concat())).unwrap();
    for transaction in list["data"][0].as_array().unwrap() {
        let cancel = [transaction.as_str().unwrap(), "org.freedesktop.PackageKit.Transaction", "Cancel"];
        let _ = lab.outcome(&[&packagekit[..], &cancel].concat());
    }
    drop(lock);
    assert_eq!(lab.wait(&job), "done", "{}", lab.get(&job, JOB, "Steps"));
    assert_eq!(version(&lab, "lab-hello"), "1.0");
}

#[test]
fn a_killed_packagekitd_is_begun_again() {
    let Some(lab) = enter() else { return };
    // In the middle of a transaction that has not begun to write.
    let lock = Lock::hold();
    let mut signals = lab.signals();
    let job = send(&lab, &installed("lab-hello"));
    signals.until_told(&path("package", "lab-hello"), RESOURCE, "Reason", &json!("WaitingForPackageLock"));
    lab.run(&["systemctl", "kill", "--signal=SIGKILL", "packagekit.service"]);
    signals.until_told(&path("package", "lab-hello"), RESOURCE, "Reason", &json!(""));
    drop(lock);
    assert_eq!(lab.wait(&job), "done", "{}", lab.get(&job, JOB, "Steps"));
    assert_eq!(version(&lab, "lab-hello"), "1.0");
    assert_eq!(lab.get(PLUGIN_PATH, PLUGIN, "Status"), "connected");
}

/// As where it ends for being idle just when it is asked something.
#[test]
fn a_packagekitd_that_ends_over_a_question_is_asked_again() {
    let Some(lab) = enter() else { return };
    settle(&lab, &installed("dpkg"));
    let mut signals = lab.signals();
    let over = |question: &str, ask: &dyn Fn()| {
        lab.run(&["systemctl", "start", "packagekit.service"]);
        lab.run(&["systemctl", "kill", "--signal=SIGSTOP", "packagekit.service"]);
        let mut calls = Calls::listen();
        ask();
        calls.until(question);
        lab.run(&["systemctl", "kill", "--signal=SIGKILL", "packagekit.service"]);
    };
    // What is offered, and what would come along; then, by an op-dbus that does not know it yet, who it is.
    for document in [packages(&json!({ "dpkg": {}, "lab-other": {} })), installed("lab-other")] {
        over("CreateTransaction", &|| drop(send(&lab, &document)));
        lab.until(STATE, FACE, "CurrentJob", |job| *job == "/");
        lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    }
    assert_eq!(version(&lab, "lab-other"), "1.0");
    lab.until(PLUGIN_PATH, PLUGIN, "UpdatesAvailable", |updates| *updates == 1);
    over("GetAll", &|| drop(lab.run(&["systemctl", "restart", "op-dbus.service"])));
    lab.until(PLUGIN_PATH, PLUGIN, "BackendVersion", |version| version.as_str().unwrap().contains("apt"));
    let told = signals.changes(PLUGIN_PATH, "Plugin");
    assert!(told.iter().all(|(changed, _)| changed.get("Status") != Some(&json!("unavailable"))), "{told:?}");
}

#[test]
fn a_dpkg_that_was_killed_fails_cleanly_and_is_gone_on_with_once_it_is_repaired() {
    let Some(lab) = enter() else { return };
    let job = begin_slow(&lab, || send(&lab, &installed("lab-slow")));
    assert_eq!(of(&lab, "lab-slow", RESOURCE, "Status"), "applying");
    fs::remove_file("/run/lab-slow").unwrap();
    lab.run(&["systemctl", "kill", "--signal=SIGKILL", "packagekit.service"]);
    assert_eq!(lab.wait(&job), "failed", "{}", lab.get(&job, JOB, "Steps"));
    let slow = path("package", "lab-slow");
    assert_eq!(stands(&lab, &slow), ("blocked".to_owned(), "PackageDatabaseBroken".to_owned()));
    let document = packages(&json!({ "lab-slow": { "ensure": "installed" }, "lab-hello": { "ensure": "installed" } }));
    assert_eq!(lab.set_desired_state(&document).1, "failed");
    assert_eq!(stands(&lab, &path("package", "lab-hello")).1, "PackageDatabaseBroken");
    lab.run(&["dpkg", "--configure", "-a"]);
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    assert_eq!((version(&lab, "lab-slow"), version(&lab, "lab-hello")), ("1.0".to_owned(), "1.0".to_owned()));
}

/// Another's transaction of PackageKit's own is waited for too.
#[test]
fn the_transaction_of_another_is_waited_for_and_shown() {
    let Some(lab) = enter() else { return };
    let install = "import dasbus.connection as c, dasbus.loop as l\n\
                   bus = c.SystemMessageBus(); pk = bus.get_proxy('org.freedesktop.PackageKit', '/org/freedesktop/PackageKit')\n\
                   t = bus.get_proxy('org.freedesktop.PackageKit', pk.CreateTransaction()); loop = l.EventLoop()\n\
                   t.Finished.connect(lambda *a: loop.quit())\n\
                   t.InstallPackages(0, ['lab-slow;1.0;all;local']); loop.run()";
    let other = || Command::new("python3").args(["-c", install]).spawn().expect("python3 starts");
    let mut running = begin_slow(&lab, other);
    let mut signals = lab.signals();
    // PackageKit does not even say what it offers: what is not known yet cannot be planned.
    let job = send(&lab, &installed("lab-hello"));
    signals.until_told(&path("package", "lab-hello"), RESOURCE, "Reason", &json!("WaitingForPackageLock"));
    assert_eq!(lab.wait(&job), "failed");
    let_slow_go(&lab);
    assert!(running.wait().unwrap().success());
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    assert_eq!((version(&lab, "lab-slow"), version(&lab, "lab-hello")), ("1.0".to_owned(), "1.0".to_owned()));

    // What is known is waited for by the job. The one before has let the database go.
    lab.until(STATE, FACE, "CurrentJob", |job| *job == "/");
    lab.run(&["dpkg", "--purge", "lab-slow"]);
    fs::remove_file("/run/lab-slow").unwrap();
    fs::remove_file("/run/lab-slow-go").unwrap();
    assert_eq!(lab.set_desired_state(&packages(&json!({ "lab-other": {} }))).1, "unchanged");
    lab.until(&path("package", "lab-other"), PACKAGE, "CandidateVersion", |version| *version == "1.0");
    let mut running = begin_slow(&lab, other);
    let job = send(&lab, &installed("lab-other"));
    signals.until_told(&path("package", "lab-other"), RESOURCE, "Reason", &json!("WaitingForPackageLock"));
    let_slow_go(&lab);
    assert!(running.wait().unwrap().success());
    assert_eq!(lab.wait(&job), "done", "{}", lab.get(&job, JOB, "Steps"));
    assert_eq!(version(&lab, "lab-other"), "1.0");
}
