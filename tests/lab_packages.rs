//! Packages on the real PackageKit, apt and dpkg, with a repository of the lab's own: brought about, planned, ordered, and
//! what happens when something is in the way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use op_dbus_testkit::{Lab, STATE, path};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
const FACE: &str = "org.opdbus.State";
const JOB: &str = "org.opdbus.Job";
const RESOURCE: &str = "org.opdbus.Resource";
const PACKAGE: &str = "org.opdbus.Package";
const PLUGIN: &str = "org.opdbus.Plugin";
const PLUGIN_PATH: &str = "/org/opdbus/plugin/packagekit";

/// Where the bus finds what starts PackageKit.
const ACTIVATION: &str = "/usr/share/dbus-1/system-services/org.freedesktop.PackageKit.service";

/// A machine with the lab's repository, none of its packages installed, packagekitd not running, and op-dbus as on the
/// first day; whatever a test before this one left behind, also one that failed.
fn enter() -> Option<Lab> {
    let lab = Lab::enter()?;
    let _ = lab.outcome(&["systemctl", "stop", "op-dbus.service"]);
    // With all that it runs: a script may wait for what never comes, and holds dpkg's locks.
    let _ = lab.outcome(&["systemctl", "kill", "--signal=SIGKILL", "packagekit.service"]);
    stop_packagekitd(&lab);
    let _ = lab.outcome(&["systemctl", "unmask", "packagekit.service"]);
    let _ = lab.outcome(&["systemctl", "reset-failed", "packagekit.service"]);
    let _ = lab.outcome(&["umount", "/opt/lab-big"]);
    let _ = lab.outcome(&["ip", "route", "add", "default", "via", "192.0.2.254"]);
    for file in ["/run/lab-slow", "/run/lab-slow-go", "/run/lab-asks", "/run/reboot-required"] {
        let _ = fs::remove_file(file);
    }
    for (away, place) in [("/srv/away.service", ACTIVATION), ("/srv/away.deb", "/srv/packages/lab-hello_1.0_all.deb")] {
        let _ = fs::rename(away, place);
    }
    lab.run(&["systemctl", "reload", "dbus.service"]);
    let _ = lab.outcome(&["systemctl", "disable", "--now", "lab-service.service"]);
    remove_all(&lab);
    repository(&lab, &["make"]);
    // apt's hook has started it, and it would tell of that some seconds later.
    stop_packagekitd(&lab);
    lab.install_afresh(BINARY, None);
    Some(lab)
}

fn remove_all(lab: &Lab) {
    let installed = lab.run(&["dpkg-query", "--show", "--showformat=${binary:Package} ${db:Status-Status}\n"]);
    let ours = installed.lines().filter_map(|line| line.split_once(' '));
    let ours: Vec<&str> = ours.filter(|(name, _)| name.starts_with("lab-")).map(|(name, _)| name).collect();
    if !ours.is_empty() {
        lab.run(&[&["dpkg", "--purge", "--force-all"][..], &ours].concat());
    }
}

fn repository(lab: &Lab, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/repository");
    lab.run(&[&[&*script.to_string_lossy()][..], arguments].concat());
}

fn packages(packages: &Value) -> Value {
    json!({ "packagekit": { "packages": packages } })
}

fn installed(name: &str) -> Value {
    packages(&json!({ name: { "ensure": "installed" } }))
}

/// The version that dpkg has installed; empty = none.
fn version(lab: &Lab, name: &str) -> String {
    let shown = lab.outcome(&["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", name]);
    shown.stdout.strip_prefix("installed ").unwrap_or_default().to_owned()
}

fn of(lab: &Lab, name: &str, interface: &str, property: &str) -> Value {
    lab.get(&path("package", name), interface, property)
}

/// How a resource stands: its status and reason.
fn stands(lab: &Lab, path: &str) -> (String, String) {
    let text = |property| lab.get(path, RESOURCE, property).as_str().unwrap().to_owned();
    (text("Status"), text("Reason"))
}

/// The actions and warnings of a plan, and which of its steps are blocked, why.
fn plan(lab: &Lab, document: &Value) -> Vec<(String, Value)> {
    let reply = lab.call(STATE, FACE, "Plan", &["sa{sv}", &document.to_string(), "0"]);
    let steps = reply[0].as_array().unwrap();
    steps.iter().map(|step| (step[2].as_str().unwrap().to_owned(), step.clone())).collect()
}

fn runs(lab: &Lab, service: &str) -> bool {
    lab.outcome(&["systemctl", "is-active", service]).success
}

/// Stops packagekitd, as it does itself when it is idle. Nobody may be asking it anything: who does starts it again.
fn stop_packagekitd(lab: &Lab) {
    lab.run(&["systemctl", "stop", "packagekit.service"]);
    assert!(!runs(lab, "packagekit.service"), "packagekitd stays");
}

/// Has op-dbus take a document that the machine is as already, and returns once it has nothing more to ask of PackageKit
/// and that is stopped: there is one update, whose number is the last that is asked for.
fn settle(lab: &Lab, document: &Value) {
    lab.run(&["dpkg", "--install", "/srv/packages/lab-hello_1.0_all.deb"]);
    repository(lab, &["publish", "lab-hello_2.0_all.deb"]);
    stop_packagekitd(lab);
    assert_eq!(lab.set_desired_state(document).1, "unchanged");
    lab.until(PLUGIN_PATH, PLUGIN, "UpdatesAvailable", |updates| *updates == 1);
    stop_packagekitd(lab);
}

/// Another program that holds dpkg's lock until it is dropped.
struct Lock(Child);

impl Lock {
    fn hold() -> Self {
        let program = "import fcntl, sys\nlock = open('/var/lib/dpkg/lock-frontend', 'w')\nfcntl.lockf(lock, fcntl.LOCK_EX)\n\
                       print('held', flush=True)\nsys.stdin.read()";
        let mut child = Command::new("python3")
            .args(["-c", program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self(child)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("it ends");
    }
}

/// Sends a document without waiting for its job; returns the job.
fn send(lab: &Lab, document: &Value) -> String {
    let reply = lab.call(STATE, FACE, "SetDesiredState", &["s", &document.to_string()]);
    reply[1].as_str().unwrap().to_owned()
}

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

#[test]
fn what_comes_after_a_package_waits_for_it() {
    let Some(lab) = enter() else { return };
    let document = |package: &str| {
        json!({
            "packagekit": { "packages": { "lab-service": { "ensure": "installed" }, package: { "ensure": "installed" } } },
            "systemd": { "units": { "lab-service.service": { "active_state": "active", "after": [format!("package:{package}")] } } },
            "ovsdb": { "bridges": { "ovsbr0": { "ports": { "labp0": { "type": "internal", "after": [format!("package:{package}")] } } } } },
        })
    };
    // Its package cannot come: neither can they; the other package does.
    assert_eq!(lab.set_desired_state(&document("lab-nowhere")).1, "partial");
    assert_eq!(version(&lab, "lab-service"), "1.0");
    for resource in [path("unit", "lab-service.service"), path("port", "labp0")] {
        assert_eq!(stands(&lab, &resource), ("blocked".to_owned(), "DependencyFailed".to_owned()), "{resource}");
    }
    assert_eq!(lab.set_desired_state(&document("lab-hello")).1, "done");
    assert!(runs(&lab, "lab-service.service"));
    assert_eq!(lab.ovs(&["port-to-br", "labp0"]), "ovsbr0");
}

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

/// Installs lab-slow and returns once its script runs; the job, and what lets the script go on when dropped.
fn begin_slow(lab: &Lab) -> String {
    lab.run(&["mkfifo", "/run/lab-slow", "/run/lab-slow-go"]);
    let job = send(lab, &installed("lab-slow"));
    let mut line = String::new();
    BufReader::new(fs::File::open("/run/lab-slow").unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    job
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

#[test]
fn a_dpkg_that_was_killed_fails_cleanly_and_is_gone_on_with_once_it_is_repaired() {
    let Some(lab) = enter() else { return };
    let job = begin_slow(&lab);
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
    lab.run(&["ip", "route", "del", "default"]);
    // The lists cannot be fetched; the repository lies on this disk.
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
    assert_eq!((status.as_str(), reason.as_str()), ("failed", "PackageScriptFailed"));
    let differences = of(&lab, "lab-bad", RESOURCE, "Differences");
    assert_eq!(differences[0][2]["data"], "half-configured", "{differences}");
    // Halfway it can be removed.
    assert_eq!(lab.set_desired_state(&packages(&json!({ "lab-bad": { "ensure": "removed" } }))).1, "done");
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

#[test]
fn a_masked_or_missing_packagekit_keeps_nobody_else_from_working() {
    let Some(lab) = enter() else { return };
    lab.run(&["systemctl", "mask", "--now", "packagekit.service"]);
    let document = json!({
        "packagekit": { "packages": { "lab-hello": { "ensure": "installed" } } },
        "ovsdb": { "bridges": { "ovsbr0": { "ports": { "labp1": { "type": "internal" } } } } },
    });
    assert_eq!(lab.set_desired_state(&document).1, "partial");
    assert_eq!(lab.ovs(&["port-to-br", "labp1"]), "ovsbr0");
    lab.until(PLUGIN_PATH, PLUGIN, "Status", |status| *status == "unavailable");
    let message = lab.get(PLUGIN_PATH, PLUGIN, "Message");
    assert!(message.as_str().unwrap().contains("mask"), "{message}");
    lab.until(&path("package", "lab-hello"), RESOURCE, "Status", |status| *status == "unknown");
    assert_eq!(stands(&lab, &path("package", "lab-hello")).1, "BackendAway");
    // Back again, what was left is taken up.
    lab.run(&["systemctl", "unmask", "packagekit.service"]);
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
    assert_eq!(version(&lab, "lab-hello"), "1.0");

    // Not there at all. It still asks what there is to update.
    lab.run(&["systemctl", "stop", "op-dbus.service"]);
    stop_packagekitd(&lab);
    fs::rename(ACTIVATION, "/srv/away.service").unwrap();
    lab.run(&["systemctl", "reload", "dbus.service"]);
    lab.run(&["systemctl", "start", "op-dbus.service"]);
    lab.until(PLUGIN_PATH, PLUGIN, "Message", |message| message.as_str().unwrap().contains("not installed"));
    assert_eq!(stands(&lab, &path("package", "lab-hello")), ("unknown".to_owned(), "BackendAway".to_owned()));
    assert_eq!(stands(&lab, &path("port", "labp1")).0, "in-sync");
    fs::rename("/srv/away.service", ACTIVATION).unwrap();
    lab.run(&["systemctl", "reload", "dbus.service"]);
    lab.until(PLUGIN_PATH, PLUGIN, "Status", |status| *status == "connected");
    lab.until(STATE, FACE, "InSync", |in_sync| *in_sync == true);
}

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

/// The calls that are made of PackageKit.
struct Calls(Child, BufReader<std::process::ChildStdout>);

impl Calls {
    fn listen() -> Self {
        // A call of nobody's interface is the mark of the end.
        let rules = ["destination='org.freedesktop.PackageKit'", "interface='org.opdbus.Mark'"];
        let rules = rules.map(|rule| format!("--match=type='method_call',{rule}"));
        let mut command = Command::new("sh");
        command.args(["-c", "exec busctl --json=short monitor \"$@\" 2>&1", "monitor", &rules[0], &rules[1]]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("busctl starts");
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(line.starts_with("Monitoring"), "{line}");
        Self(child, out)
    }

    /// Those until now: who called what.
    fn seen(&mut self, lab: &Lab) -> Vec<String> {
        let _ = lab.outcome(&["busctl", "call", "org.opdbus", "/org/opdbus", "org.opdbus.Mark", "Mark"]);
        let mut calls = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.1.read_line(&mut line).unwrap(), 0, "the monitor stays");
            let call: Value = serde_json::from_str(&line).unwrap();
            if call["interface"] == "org.opdbus.Mark" {
                return calls;
            }
            if call["destination"] == "org.freedesktop.PackageKit" {
                calls.push(format!(
                    "{} {} {} {}",
                    call["sender"], call["path"], call["member"], call["payload"]["data"]
                ));
            }
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let _ = self.0.kill();
        self.0.wait().expect("it ends");
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
