//! The core's hands: carries its effects out, feeds it what comes back, publishes its snapshots.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    Caller, Command, Core, CoreError, Effect, Hub, Left, NewDesired, Notice, Now, PlanRequest,
    generations::{self, Reply, Request},
    interest,
};
use crate::{
    clock::{self, Deadline},
    desired::{Document, Rules, spell},
    model::{Change, JobId, Name, Observed, Publisher, StateFileStatus},
    plan::{Desired, Inventory, Plan, export, plan},
    plugins::{Interest, Plugin, PluginError, PluginEvent},
    state_file::StateFileEvent,
    store::Store,
};

/// What comes to the core, besides the plugins' events.
#[derive(Debug)]
pub(super) enum Input {
    /// From the bus.
    Command(Command),
    /// The state file was read.
    File(StateFileEvent),
    /// The generation of before op-dbus's start.
    Restored { new: NewDesired, left: Left },
    /// A document was set.
    Desired { new: NewDesired, reply: Option<Reply> },
    /// The state file's standing.
    FileStatus(StateFileStatus, String),
    /// Numbers for jobs.
    JobNumbers { first: JobId, end: JobId },
    /// Plugins mirror what that generation needs.
    Watched(u64),
    /// Plugins have brought up to date what planning that job needs.
    Prepared(JobId),
    /// A job's plan.
    Planned(JobId, Arc<Plan>),
    /// A plugin has answered for all it was given at once.
    Applied(JobId),
    /// Answers when everything before it was taken in: the core lives.
    Ping(oneshot::Sender<()>),
}

/// Where inputs go.
#[derive(Debug, Clone)]
pub(super) struct Inputs(mpsc::UnboundedSender<Input>);

impl Inputs {
    /// Where to, and where from.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Input>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Sends; after the core has ended, to nobody.
    pub(super) fn send(&self, input: Input) {
        drop(self.0.send(input));
    }
}

/// What the core is made with.
#[derive(Debug)]
pub struct Parts {
    /// The state machine.
    pub core: Core,
    /// The backends that are switched on.
    pub plugins: Vec<Arc<dyn Plugin>>,
    /// Events of the plugins.
    pub events: mpsc::UnboundedReceiver<(&'static str, PluginEvent)>,
    /// Generations.
    pub store: Store,
    /// What documents are checked with.
    pub rules: Rules,
}

/// Handles of a running core.
#[derive(Debug)]
pub struct Handles {
    /// For the bus.
    pub hub: Hub,
    /// What the bus tells besides the snapshot.
    pub notices: mpsc::UnboundedReceiver<Notice>,
    /// For main.
    pub control: Control,
}

/// Main's handle of the core.
#[derive(Debug, Clone)]
pub struct Control {
    inputs: Inputs,
}

impl Control {
    /// The state file was read.
    pub fn state_file(&self, event: StateFileEvent) {
        self.inputs.send(Input::File(event));
    }

    /// Resolves to `true` once the core has taken in all that came before: it lives.
    pub async fn ping(&self) -> bool {
        let (sender, receiver) = oneshot::channel();
        self.inputs.send(Input::Ping(sender));
        receiver.await.is_ok()
    }
}

/// The time of now.
fn now() -> Now {
    Now { boot_usec: clock::boottime_usec(), real_usec: clock::realtime_usec() }
}

/// Makes the core run: returns its handles and the future that is it, which ends once `shutdown` has resolved and the
/// steps that had begun are through.
///
/// # Errors
/// Where no thread can be made for the store.
pub fn start(
    parts: Parts,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<(Handles, impl Future<Output = ()> + Send + 'static)> {
    let (inputs, input) = Inputs::new();
    let (commands, mut from_bus) = mpsc::unbounded_channel();
    let (notice, notices) = mpsc::unbounded_channel();
    let (requests, thread) = generations::spawn(parts.store, parts.rules, inputs.clone())?;
    let mut core = parts.core;
    let (snapshot, effects) = core.settle();
    let publisher = Publisher::new(snapshot);
    let handles = Handles {
        hub: Hub { commands, reader: publisher.reader() },
        notices,
        control: Control { inputs: inputs.clone() },
    };
    let plugins = parts.plugins.into_iter().map(|plugin| (plugin.name(), plugin)).collect();
    let driver = Driver { core, plugins, publisher, notice, requests, inputs: inputs.clone(), replies: Vec::new() };
    let forward = async move {
        while let Some(command) = from_bus.recv().await {
            inputs.send(Input::Command(command));
        }
    };
    let run = async move {
        let forward = tokio::spawn(forward);
        driver.run(effects, parts.events, input, shutdown).await;
        forward.abort();
        // The store's thread has been told to close, and is given the time its disk needs.
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the store's thread ended out of order");
        }
    };
    Ok((handles, run))
}

/// An answer that waits for the snapshot it belongs to.
type Answer = Box<dyn FnOnce() + Send>;

struct Driver {
    core: Core,
    plugins: BTreeMap<&'static str, Arc<dyn Plugin>>,
    publisher: Publisher,
    notice: mpsc::UnboundedSender<Notice>,
    requests: mpsc::UnboundedSender<Request>,
    inputs: Inputs,
    replies: Vec<Answer>,
}

impl Driver {
    async fn run(
        mut self,
        effects: Vec<Effect>,
        mut events: mpsc::UnboundedReceiver<(&'static str, PluginEvent)>,
        mut inputs: mpsc::UnboundedReceiver<Input>,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        self.carry_out(effects);
        let mut shutdown = std::pin::pin!(shutdown);
        let mut ending = false;
        while !(ending && self.core.is_idle()) {
            let wait = wait_until(self.core.next_deadline());
            tokio::select! {
                biased;
                Some((plugin, event)) = events.recv() => self.core.plugin_event(plugin, event, now()),
                Some(input) = inputs.recv() => self.input(&mut events, input),
                () = &mut shutdown, if !ending => {
                    ending = true;
                    self.core.shut_down(now());
                }
                () = wait => self.core.tick(now()),
            }
            // Take in all that is there: one burst is one snapshot.
            while let Ok((plugin, event)) = events.try_recv() {
                self.core.plugin_event(plugin, event, now());
            }
            while let Ok(input) = inputs.try_recv() {
                self.input(&mut events, input);
            }
            self.settle();
        }
        drop(self.requests.send(Request::Close));
    }

    fn settle(&mut self) {
        let (snapshot, effects) = self.core.settle();
        self.publisher.publish(snapshot);
        self.carry_out(effects);
        for answer in std::mem::take(&mut self.replies) {
            answer();
        }
    }

    fn input(&mut self, events: &mut mpsc::UnboundedReceiver<(&'static str, PluginEvent)>, input: Input) {
        // What a plugin said before it answered comes first.
        while let Ok((plugin, event)) = events.try_recv() {
            self.core.plugin_event(plugin, event, now());
        }
        match input {
            Input::Command(command) => self.command(command),
            Input::File(event) => self.ask(Request::File(event)),
            Input::Restored { new, left } => self.core.restore(new, left, now()),
            Input::Desired { new, reply } => {
                let generation = new.generation;
                let job = self.core.set_desired(new, now());
                if let Some(reply) = reply {
                    self.answer(reply, Ok((generation, job)));
                }
            }
            Input::FileStatus(status, message) => self.core.state_file(status, message),
            Input::JobNumbers { first, end } => self.core.job_numbers(first, end),
            Input::Watched(generation) => self.core.watched(generation, now()),
            Input::Prepared(job) => self.core.prepared(job, now()),
            Input::Planned(job, plan) => self.core.planned(job, &plan, now()),
            Input::Applied(job) => self.core.applied(job, now()),
            Input::Ping(reply) => self.answer(reply, ()),
        }
    }

    /// Answers once the snapshot that shows it is published.
    fn answer<T: Send + 'static>(&mut self, reply: oneshot::Sender<T>, answer: T) {
        self.replies.push(Box::new(move || drop(reply.send(answer))));
    }

    fn ask(&self, request: Request) {
        drop(self.requests.send(request));
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::SetDesiredState { text, document, options, caller, reply } => {
                self.ask(Request::Set { text, document, options, caller, reply });
            }
            Command::AdoptStateFile { options, caller, reply } => self.ask(Request::Adopt { options, caller, reply }),
            Command::ListGenerations { reply } => self.ask(Request::List(reply)),
            Command::GetDesiredState { generation, reply } => self.ask(Request::Text(generation, reply)),
            Command::Reconcile { target, caller, reply } => {
                let answer = self.core.reconcile(target, caller, now());
                self.answer(reply, answer);
            }
            Command::Lifecycle { container, verb, against_document, caller, reply } => {
                let answer = self.core.lifecycle(&container, verb, against_document, caller, now());
                self.answer(reply, answer);
            }
            Command::Cancel { job, caller, reply } => {
                tracing::info!(job, uid = caller.uid, "job {job} is cancelled by uid {}", caller.uid);
                let answer = self.core.cancel(job, now());
                self.answer(reply, answer);
            }
            Command::Plan(request) => self.plan(request),
            Command::ExportState { plugins, all_units, reply } => self.export(plugins, all_units, reply),
        }
    }

    /// Plans a document that is not the current one: what is not mirrored is read first.
    fn plan(&self, request: PlanRequest) {
        let observed = self.publisher.reader().current().observed.clone();
        let inventory = on_behalf(self.core.inventory(), &request.caller);
        let plugins = self.plugins.values().cloned().collect();
        let current = self.core.desired().document().clone();
        tokio::spawn(async move {
            let PlanRequest { document, mut reply, .. } = request;
            let work = plan_unmirrored(document, &current, observed, inventory, plugins);
            tokio::select! {
                plan = work => drop(reply.send(plan)),
                // Whoever asked has gone: so does the work.
                () = reply.closed() => {}
            }
        });
    }

    fn export(&self, plugins: Vec<String>, all_units: bool, reply: oneshot::Sender<Result<String, CoreError>>) {
        if let Some(unknown) =
            plugins.iter().find(|name| !matches!(name.as_str(), "systemd" | "ovsdb" | "lxc" | "packagekit" | "dbus"))
        {
            let error = format!("there is no plugin {unknown:?}: there are systemd, ovsdb, lxc, packagekit and dbus");
            drop(reply.send(Err(CoreError::NotFound(error))));
            return;
        }
        let mut observed = self.publisher.reader().current().observed.clone();
        let mut units: BTreeSet<Name> = self.core.desired().units.keys().cloned().collect();
        let desired = self.core.desired().document().clone();
        let systemd = self.plugins.get("systemd").cloned().filter(|_| all_units);
        tokio::spawn(async move {
            if let Some(systemd) = systemd {
                match systemd.look(Interest { installable: true, ..Interest::default() }).await {
                    Ok(changes) => units.extend(overlay(&mut observed, changes)),
                    Err(error) => return drop(reply.send(Err(error.into()))),
                }
            }
            let text =
                tokio::task::spawn_blocking(move || spell(&export(&observed, &units, &desired.objects, &plugins)))
                    .await;
            drop(reply.send(text.map_err(|error| CoreError::Failed(error.to_string()))));
        });
    }

    fn carry_out(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Notice(notice) => drop(self.notice.send(notice)),
                Effect::Finished { generation, result, complete } => {
                    self.ask(Request::Finished { generation, result, complete });
                }
                Effect::ReserveJobs => self.ask(Request::ReserveJobs),
                Effect::Hint { plugin, containers } => {
                    if let Some(plugin) = self.plugins.get(plugin) {
                        plugin.hint(containers);
                    }
                }
                Effect::Watch { generation, interest } => {
                    let watches: Vec<_> = self.plugins.values().map(|plugin| plugin.watch(interest.clone())).collect();
                    let inputs = self.inputs.clone();
                    tokio::spawn(async move {
                        for result in futures::future::join_all(watches).await {
                            if let Err(error) = result {
                                tracing::warn!(
                                    generation,
                                    "not all of the generation's resources are mirrored: {error}"
                                );
                            }
                        }
                        inputs.send(Input::Watched(generation));
                    });
                }
                Effect::Prepare { job, interest } => {
                    let prepares: Vec<_> =
                        self.plugins.values().map(|plugin| plugin.prepare(interest.clone())).collect();
                    let inputs = self.inputs.clone();
                    tokio::spawn(async move {
                        futures::future::join_all(prepares).await;
                        inputs.send(Input::Prepared(job));
                    });
                }
                Effect::Plan { job, desired, scope, caller, fresh } => {
                    let observed = self.publisher.reader().current().observed.clone();
                    let inventory = Inventory { retry_unmet: fresh, ..on_behalf(self.core.inventory(), &caller) };
                    let inputs = self.inputs.clone();
                    tokio::task::spawn_blocking(move || {
                        let plan = plan(&desired, &observed, &inventory, scope.as_ref());
                        inputs.send(Input::Planned(job, Arc::new(plan)));
                    });
                }
                Effect::Apply { plugin, work } => {
                    let inputs = self.inputs.clone();
                    let applied = self.plugins.get(plugin).map(|plugin| plugin.apply(work.clone()));
                    tokio::spawn(async move {
                        if let Some(applied) = applied {
                            applied.await;
                        }
                        inputs.send(Input::Applied(work.job));
                    });
                }
            }
        }
    }
}

/// Resolves at that point of the boot clock; `None` = never.
async fn wait_until(deadline: Option<u64>) {
    let Some(at) = deadline else { return std::future::pending().await };
    let deadline = Deadline::at_usec(at);
    if deadline.passed().await.is_err() {
        // Out of descriptors: a timer that stands still while the machine sleeps is better than none.
        tokio::time::sleep(deadline.remaining()).await;
    }
}

/// The inventory, with the caller's own unit out of reach.
fn on_behalf(inventory: &Inventory, caller: &Caller) -> Inventory {
    let mut inventory = inventory.clone();
    inventory.protected_units.extend(caller.unit.clone());
    inventory
}

async fn plan_unmirrored(
    document: Arc<Document>,
    current: &Document,
    mut observed: Observed,
    inventory: Inventory,
    plugins: Vec<Arc<dyn Plugin>>,
) -> Result<Arc<Plan>, CoreError> {
    let desired = Desired::new(document);
    let mut interest = interest(&desired, &observed, &inventory);
    interest.units.retain(|name, properties| match observed.units.get(name) {
        None => true,
        Some(facts) => properties.iter().any(|property| !facts.properties.contains_key(property)),
    });
    // What the document in force says of an object is mirrored; what another says of it is read.
    let mirrored = |name: &Name| observed.objects.contains_key(name);
    interest.objects.retain(|name, spec| current.objects.get(name) != Some(&**spec) || !mirrored(name));
    if interest != Interest::default() {
        let connected = plugins.iter().filter(|plugin| observed.is_connected(plugin.name()));
        let looks: Vec<_> = connected.map(|plugin| plugin.look(interest.clone())).collect();
        for changes in futures::future::try_join_all(looks).await? {
            overlay(&mut observed, changes);
        }
    }
    let planned = tokio::task::spawn_blocking(move || plan(&desired, &observed, &inventory, None)).await;
    planned.map(Arc::new).map_err(|error| CoreError::Failed(error.to_string()))
}

/// Lays facts that were read once over what is observed; returns the units among them.
fn overlay(observed: &mut Observed, changes: Vec<Change>) -> Vec<Name> {
    let mut names = Vec::new();
    for change in changes {
        match change {
            Change::Unit(name, facts) => {
                observed.units.insert(name.clone(), Arc::new(facts));
                names.push(name);
            }
            Change::Object(name, facts) => drop(observed.objects.insert(name, Arc::new(facts))),
            Change::Package(name, facts) => drop(observed.packages.insert(name, Arc::new(facts))),
            Change::Guest(id, facts) => drop(observed.guests.insert(id, Arc::new(facts))),
            Change::GuestGone(id) => drop(observed.guests.remove(&id)),
            Change::Cluster(facts) => observed.cluster = facts,
            _ => {}
        }
    }
    names
}

impl From<PluginError> for CoreError {
    fn from(error: PluginError) -> Self {
        match error {
            PluginError::Away { .. } => Self::Unavailable(error.to_string()),
            PluginError::Refused { .. } => Self::Failed(error.to_string()),
        }
    }
}
