//! What the tests share: a machine to begin on, documents, how things stand, and what gets in the way.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use op_dbus_testkit::{Lab, STATE, path};
use serde_json::{Value, json};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_op-dbus");
pub(crate) const FACE: &str = "org.opdbus.State";
pub(crate) const JOB: &str = "org.opdbus.Job";
pub(crate) const RESOURCE: &str = "org.opdbus.Resource";
pub(crate) const PACKAGE: &str = "org.opdbus.Package";
pub(crate) const PLUGIN: &str = "org.opdbus.Plugin";
pub(crate) const PLUGIN_PATH: &str = "/org/opdbus/plugin/packagekit";

/// Where the bus finds what starts PackageKit.
pub(crate) const ACTIVATION: &str = "/usr/share/dbus-1/system-services/org.freedesktop.PackageKit.service";

/// A machine with the lab's repository, none of its packages installed, packagekitd not running, and op-dbus as on the
/// first day; whatever a test before this one left behind, also one that failed.
pub(crate) fn enter() -> Option<Lab> {
    let lab = Lab::enter()?;
    let _ = lab.outcome(&["systemctl", "stop", "op-dbus.service"]);
    // With all that it runs: a script may wait for what never comes, and holds dpkg's locks.
    let _ = lab.outcome(&["systemctl", "kill", "--signal=SIGKILL", "packagekit.service"]);
    stop_packagekitd(&lab);
    let _ = lab.outcome(&["systemctl", "unmask", "packagekit.service"]);
    let _ = lab.outcome(&["systemctl", "reset-failed", "packagekit.service"]);
    for mounted in ["/opt/lab-big", "/var/lib/dpkg"] {
        let _ = lab.outcome(&["umount", mounted]);
    }
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
    let _ = lab.outcome(&["dpkg", "--remove-architecture", "i386"]);
    // What was fetched before need not be fetched.
    lab.run(&["apt-get", "clean"]);
    repository(&lab, &["make"]);
    // apt's hook has started it, and it would tell of that some seconds later.
    stop_packagekitd(&lab);
    lab.install_afresh(BINARY, None);
    Some(lab)
}

pub(crate) fn remove_all(lab: &Lab) {
    let installed = lab.run(&["dpkg-query", "--show", "--showformat=${binary:Package} ${db:Status-Status}\n"]);
    let ours = installed.lines().filter_map(|line| line.split_once(' '));
    let ours: Vec<&str> = ours.filter(|(name, _)| name.starts_with("lab-")).map(|(name, _)| name).collect();
    if !ours.is_empty() {
        lab.run(&[&["dpkg", "--purge", "--force-all"][..], &ours].concat());
    }
}

pub(crate) fn repository(lab: &Lab, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/repository");
    lab.run(&[&[&*script.to_string_lossy()][..], arguments].concat());
}

pub(crate) fn packages(packages: &Value) -> Value {
    json!({ "packagekit": { "packages": packages } })
}

pub(crate) fn installed(name: &str) -> Value {
    packages(&json!({ name: { "ensure": "installed" } }))
}

/// The version that dpkg has installed; empty = none.
pub(crate) fn version(lab: &Lab, name: &str) -> String {
    let shown = lab.outcome(&["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", name]);
    shown.stdout.strip_prefix("installed ").unwrap_or_default().to_owned()
}

pub(crate) fn of(lab: &Lab, name: &str, interface: &str, property: &str) -> Value {
    lab.get(&path("package", name), interface, property)
}

/// How a resource stands: its status and reason.
pub(crate) fn stands(lab: &Lab, path: &str) -> (String, String) {
    let text = |property| lab.get(path, RESOURCE, property).as_str().unwrap().to_owned();
    (text("Status"), text("Reason"))
}

/// The actions and warnings of a plan, and which of its steps are blocked, why.
pub(crate) fn plan(lab: &Lab, document: &Value) -> Vec<(String, Value)> {
    let reply = lab.call(STATE, FACE, "Plan", &["sa{sv}", &document.to_string(), "0"]);
    let steps = reply[0].as_array().unwrap();
    steps.iter().map(|step| (step[2].as_str().unwrap().to_owned(), step.clone())).collect()
}

pub(crate) fn runs(lab: &Lab, service: &str) -> bool {
    lab.outcome(&["systemctl", "is-active", service]).success
}

/// Stops packagekitd, as it does itself when it is idle. Nobody may be asking it anything: who does starts it again.
pub(crate) fn stop_packagekitd(lab: &Lab) {
    lab.run(&["systemctl", "stop", "packagekit.service"]);
    assert!(!runs(lab, "packagekit.service"), "packagekitd stays");
}

/// Has op-dbus take a document that the machine is as already, and returns once it has nothing more to ask of PackageKit
/// and that is stopped: there is one update, whose number is the last that is asked for.
pub(crate) fn settle(lab: &Lab, document: &Value) {
    lab.run(&["dpkg", "--install", "/srv/packages/lab-hello_1.0_all.deb"]);
    repository(lab, &["publish", "lab-hello_2.0_all.deb"]);
    stop_packagekitd(lab);
    assert_eq!(lab.set_desired_state(document).1, "unchanged");
    lab.until(PLUGIN_PATH, PLUGIN, "UpdatesAvailable", |updates| *updates == 1);
    stop_packagekitd(lab);
}

/// Sends a document without waiting for its job; returns the job.
pub(crate) fn send(lab: &Lab, document: &Value) -> String {
    let reply = lab.call(STATE, FACE, "SetDesiredState", &["s", &document.to_string()]);
    reply[1].as_str().unwrap().to_owned()
}

/// Has somebody install lab-slow, whose script then waits for [`let_slow_go`]; returns once that runs.
pub(crate) fn begin_slow<T>(lab: &Lab, install: impl FnOnce() -> T) -> T {
    lab.run(&["mkfifo", "/run/lab-slow", "/run/lab-slow-go"]);
    let begun = install();
    assert_eq!(lab.run(&["timeout", "60", "head", "--lines=1", "/run/lab-slow"]), "begun");
    begun
}

pub(crate) fn let_slow_go(lab: &Lab) {
    lab.run(&["timeout", "60", "sh", "-c", "echo go >/run/lab-slow-go"]);
}

/// Another program that holds dpkg's lock until it is dropped.
pub(crate) struct Lock(Child);

impl Lock {
    pub(crate) fn hold() -> Self {
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

/// The calls that are made of PackageKit.
pub(crate) struct Calls(Child, BufReader<std::process::ChildStdout>);

impl Calls {
    pub(crate) fn listen() -> Self {
        // A call of nobody's interface is the mark of the end.
        let rules = [
            "destination='org.freedesktop.PackageKit'",
            "interface='org.freedesktop.PackageKit.Transaction'",
            "interface='org.opdbus.Mark'",
        ];
        let rules = rules.map(|rule| format!("--match=type='method_call',{rule}"));
        let mut command = Command::new("sh");
        command.args(["-c", "exec busctl --json=short monitor \"$@\" 2>&1", "monitor"]).args(rules);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("busctl starts");
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(line.starts_with("Monitoring"), "{line}");
        Self(child, out)
    }

    /// Waits for a call of that method.
    pub(crate) fn until(&mut self, member: &str) {
        loop {
            let mut line = String::new();
            assert_ne!(self.1.read_line(&mut line).unwrap(), 0, "the monitor stays");
            if serde_json::from_str::<Value>(&line).unwrap()["member"] == member {
                return;
            }
        }
    }

    /// Those until now: who called what.
    pub(crate) fn seen(&mut self, lab: &Lab) -> Vec<String> {
        let _ = lab.outcome(&["busctl", "call", "org.opdbus", "/org/opdbus", "org.opdbus.Mark", "Mark"]);
        let mut calls = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.1.read_line(&mut line).unwrap(), 0, "the monitor stays");
            let call: Value = serde_json::from_str(&line).unwrap();
            if call["interface"] == "org.opdbus.Mark" {
                return calls;
            }
            let text = |part: &str| call[part].as_str().unwrap_or_default();
            // Of a name that nobody has, the bus lets calls of others through as well.
            let of_transaction = text("interface") == "org.freedesktop.PackageKit.Transaction";
            if of_transaction || text("destination") == "org.freedesktop.PackageKit" {
                calls.push(format!("{} {} by {}", text("member"), call["payload"]["data"], text("sender")));
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
