//! A private Open vSwitch, gone when dropped, and the plugin beside a model of what it told.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use op_dbus::{
    desired::{BridgeSpec, PortSpec},
    model::{Backend, BackendStatus, BridgeFacts, Change, Name, PortFacts, StepState, Subject, SwitchFacts},
    plan::{Action, BridgeOp, PortOp, Step, StepId},
    plugins::{
        Events, Plugin as _, PluginEvent, Work,
        ovsdb::{Ovsdb, Remote, Settings, Timing},
    },
};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::Ended;

/// A test that waits for longer hangs.
pub const HANG: Duration = Duration::from_mins(1);

/// The mark's value in tests.
pub const MACHINE: &str = "0123456789abcdef0123456789abcdef";

/// Where Open vSwitch's packages put its schema; and the variable that names another place.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const SCHEMA_VARIABLE: &str = "OPDBUS_TEST_OVSSCHEMA";

/// ovsdb-server, and ovs-vswitchd on the dummy datapath: no device of the host is touched, and every port comes up.
#[derive(Debug)]
pub struct PrivateSwitch {
    folder: TempDir,
    server: Option<Child>,
    switch: Option<Child>,
}

impl PrivateSwitch {
    /// Both daemons.
    #[must_use]
    pub fn start() -> Self {
        let mut this = Self::database_only();
        this.start_switch();
        this
    }

    /// Without ovs-vswitchd: nobody applies anything.
    #[must_use]
    pub fn database_only() -> Self {
        // Short: a socket's path has at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("ovs-").tempdir().expect("a folder");
        let mut this = Self { folder, server: None, switch: None };
        let schema = std::env::var_os(SCHEMA_VARIABLE).unwrap_or_else(|| SCHEMA.into());
        let made = this.command("ovsdb-tool").arg("create").arg(this.path("conf.db")).arg(schema).status();
        assert!(made.expect("Open vSwitch is installed").success());
        this.start_server();
        this.vsctl(&["--no-wait", "init"]);
        this
    }

    /// Where a file of its own lies.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the server listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("db.sock")
    }

    /// The same, for the plugin.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote::Unix(self.socket())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"] {
            command.env(variable, self.folder.path());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn option(&self, name: &str, file: &str) -> String {
        format!("--{name}={}", self.path(file).display())
    }

    /// Starts the server.
    pub fn start_server(&mut self) {
        let remote = format!("--remote=punix:{}", self.socket().display());
        let server = self
            .command("ovsdb-server")
            .arg(self.path("conf.db"))
            .args([remote, self.option("unixctl", "ovsdb.ctl"), self.option("pidfile", "ovsdb.pid")])
            .spawn();
        self.server = Some(server.expect("ovsdb-server is installed"));
    }

    /// Ends the server and takes its socket away.
    pub fn stop_server(&mut self) {
        end(self.server.take());
        // A server that is killed leaves its socket.
        let _ = std::fs::remove_file(self.socket());
    }

    /// Makes the server hang (STOP) or go on (CONT).
    pub fn signal_server(&self, name: &str) {
        signal(self.server.as_ref(), name);
    }

    /// Makes ovs-vswitchd hang (STOP) or go on (CONT).
    pub fn signal_switch(&self, name: &str) {
        signal(self.switch.as_ref(), name);
    }

    /// Starts ovs-vswitchd, and waits until it has applied what is there.
    pub fn start_switch(&mut self) {
        let switch = self
            .command("ovs-vswitchd")
            .arg(format!("unix:{}", self.socket().display()))
            .args(["--enable-dummy=override", "--disable-system"])
            .args([self.option("unixctl", "v.ctl"), self.option("pidfile", "v.pid")])
            .spawn();
        self.switch = Some(switch.expect("ovs-vswitchd is installed"));
        // Waits until ovs-vswitchd has applied the configuration.
        self.vsctl(&["set", "Open_vSwitch", ".", "external_ids:started=yes"]);
    }

    /// Ends ovs-vswitchd.
    pub fn stop_switch(&mut self) {
        end(self.switch.take());
    }

    /// Another client's doing; answers with what it printed.
    pub fn vsctl(&self, arguments: &[&str]) -> String {
        let database = format!("--db=unix:{}", self.socket().display());
        // It waits for the socket to come, and for ovs-vswitchd to apply, unless told not to.
        let mut command = self.command("ovs-vsctl");
        let output = command
            .args(["--timeout=60", "--retry"])
            .arg(database)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output();
        let output = output.expect("ovs-vsctl is installed");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// How often ovs-vswitchd was told to look.
    #[must_use]
    pub fn next_cfg(&self) -> i64 {
        self.vsctl(&["--no-wait", "get", "Open_vSwitch", ".", "next_cfg"]).parse().expect("a number")
    }

    /// The log of all transactions.
    #[must_use]
    pub fn log(&self) -> String {
        let output =
            self.command("ovsdb-tool").arg("show-log").arg(self.path("conf.db")).stdout(Stdio::piped()).output();
        String::from_utf8_lossy(&output.expect("ovsdb-tool").stdout).into_owned()
    }
}

impl Drop for PrivateSwitch {
    fn drop(&mut self) {
        end(self.switch.take());
        end(self.server.take());
    }
}

fn signal(child: Option<&Child>, name: &str) {
    let pid = child.expect("it runs").id().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill").success());
}

fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The plugin, and what it told.
#[derive(Debug)]
pub struct Watched {
    /// The plugin.
    pub plugin: Ovsdb,
    events: mpsc::UnboundedReceiver<(&'static str, PluginEvent)>,
    /// Bridges, as told.
    pub bridges: BTreeMap<Name, BridgeFacts>,
    /// Ports, as told.
    pub ports: BTreeMap<Name, PortFacts>,
    /// How far ovs-vswitchd is, as told last.
    pub switch: SwitchFacts,
    /// Each such word since the last `forget`, in order.
    pub switches: Vec<SwitchFacts>,
    /// The backend, as told last.
    pub backend: Option<Backend>,
    /// Every state of the backend, in order.
    pub backends: Vec<Backend>,
    /// Size of each batch of changes of bridges and ports since the last `forget`; resets apart.
    pub batches: Vec<usize>,
    /// How often all came anew, since the last `forget`.
    pub resets: usize,
    /// All states of each step, in order.
    pub states: BTreeMap<StepId, Vec<StepState>>,
    /// How steps ended.
    pub ended: BTreeMap<StepId, Ended>,
    jobs: u64,
}

/// Waits short enough for a test, long enough for a loaded machine.
#[must_use]
pub fn timing() -> Timing {
    Timing { applied: Duration::from_secs(20), ..Timing::default() }
}

impl Watched {
    /// The plugin, on its way to that server.
    #[must_use]
    pub fn start(remote: Remote, timing: Timing) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let settings = Settings { remote, machine_id: MACHINE.to_owned(), timing };
        Self {
            plugin: Ovsdb::start(settings, Events::new("ovsdb", sender)),
            events,
            bridges: BTreeMap::new(),
            ports: BTreeMap::new(),
            switch: SwitchFacts::default(),
            switches: Vec::new(),
            backend: None,
            backends: Vec::new(),
            batches: Vec::new(),
            resets: 0,
            states: BTreeMap::new(),
            ended: BTreeMap::new(),
            jobs: 0,
        }
    }

    /// Started and loaded.
    pub async fn connected(switch: &PrivateSwitch, timing: Timing) -> Self {
        let mut this = Self::start(switch.remote(), timing);
        this.until_status(BackendStatus::Connected).await;
        this
    }

    /// Counts anew.
    pub fn forget(&mut self) {
        self.batches.clear();
        self.backends.clear();
        self.resets = 0;
        self.switches.clear();
    }

    fn take(&mut self, event: PluginEvent) {
        match event {
            PluginEvent::Changes(changes) => {
                assert!(!changes.is_empty(), "a batch of nothing");
                let rows = changes.iter().filter(|change| change.id().is_some()).count();
                self.batches.extend((rows > 0).then_some(rows));
                for change in changes {
                    self.change(change);
                }
            }
            PluginEvent::Reset(changes) => {
                self.resets += 1;
                self.bridges.clear();
                self.ports.clear();
                for change in changes {
                    self.change(change);
                }
            }
            PluginEvent::Backend(backend) => {
                self.backend = Some(backend.clone());
                self.backends.push(backend);
            }
            PluginEvent::Step { step, state, reason, message, retry, wrote, .. } => {
                self.states.entry(step).or_default().push(state);
                if state.is_final() {
                    let ended = Ended { state, reason, message, retry, wrote };
                    assert_eq!(self.ended.insert(step, ended), None, "step {step} ended twice");
                }
            }
            PluginEvent::Busy(_) | PluginEvent::Updates(_) | PluginEvent::Progress { .. } => {
                panic!("Open vSwitch says none of this")
            }
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Bridge(name, facts) => drop(self.bridges.insert(name, facts)),
            Change::Port(name, facts) => drop(self.ports.insert(name, facts)),
            Change::BridgeGone(name) => assert!(self.bridges.remove(&name).is_some(), "{name}"),
            Change::PortGone(name) => assert!(self.ports.remove(&name).is_some(), "{name}"),
            Change::Switch(facts) => {
                self.switch = facts.clone();
                self.switches.push(facts);
            }
            other => panic!("{other:?}"),
        }
    }

    /// Takes events until it is so.
    pub async fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        while !holds(self) {
            let event = tokio::time::timeout(HANG, self.events.recv()).await;
            let (_, event) = event.unwrap_or_else(|_| panic!("waited in vain for {what}")).expect("it runs");
            self.take(event);
        }
    }

    /// Awaits the end of [`Plugin::apply`] and takes in all that was told before.
    pub async fn end_of(&mut self, applied: impl Future<Output = ()>) {
        tokio::time::timeout(HANG, applied).await.expect("apply answers");
        self.drain();
    }

    /// Takes events until the backend is so.
    pub async fn until_status(&mut self, status: BackendStatus) {
        self.until(status.as_str(), |this| this.backend.as_ref().is_some_and(|backend| backend.status == status)).await;
    }

    /// Takes in what was told already.
    pub fn drain(&mut self) {
        while let Ok((_, event)) = self.events.try_recv() {
            self.take(event);
        }
    }

    /// Carries out steps that wait for what the list says, and answers with how they ended, in order.
    pub async fn apply_steps(&mut self, steps: Vec<(Action, Vec<StepId>)>) -> Vec<Ended> {
        let work = self.work(steps);
        let count = u32::try_from(work.steps.len()).unwrap();
        let done = self.plugin.apply(work);
        self.end_of(done).await;
        (1..=count).map(|id| self.ended.get(&id).unwrap_or_else(|| panic!("step {id} has not ended")).clone()).collect()
    }

    /// The work of one job, step numbers from 1.
    pub fn work(&mut self, steps: Vec<(Action, Vec<StepId>)>) -> Work {
        self.ended.clear();
        self.states.clear();
        self.jobs += 1;
        let steps = steps.into_iter().zip(1..).map(|((action, after), id)| {
            Arc::new(Step {
                id,
                subject: Subject::State,
                action,
                changes: Vec::new(),
                after,
                blocked: None,
                warnings: Vec::new(),
            })
        });
        Work { job: self.jobs, steps: steps.collect() }
    }

    /// Carries out steps that wait for nothing.
    pub async fn apply(&mut self, actions: impl IntoIterator<Item = Action>) -> Vec<Ended> {
        self.apply_steps(actions.into_iter().map(|action| (action, Vec::new())).collect()).await
    }

    /// Carries out one step that is expected to succeed; answers whether it wrote.
    pub async fn done(&mut self, action: Action) -> bool {
        let ended = self.apply([action]).await.remove(0);
        assert_eq!(ended.state, StepState::Done, "{ended:?}");
        ended.wrote
    }
}

/// A step on a bridge.
#[must_use]
pub fn bridge(name: &str, op: fn(Arc<BridgeSpec>) -> BridgeOp, spec: BridgeSpec) -> Action {
    Action::Bridge(name.into(), op(spec.into()))
}

/// A step on a port.
#[must_use]
pub fn port(name: &str, op: fn(Arc<PortSpec>) -> PortOp, spec: PortSpec) -> Action {
    Action::Port(name.into(), op(spec.into()))
}

/// A port that the dummy datapath brings up.
#[must_use]
pub fn internal(bridge: &str) -> PortSpec {
    PortSpec { bridge: bridge.into(), kind: Some("internal".into()), ..PortSpec::default() }
}
