//! A plugin made by the steps of CONTRIBUTING.md, through the public interface alone: services that exist in memory
//! take systemd's place. What stands between `step` and `end` is shown there; tests/docs holds the two together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{collections::BTreeMap, sync::Arc};

use futures::future::BoxFuture;
use op_dbus::{
    config::Config,
    desired::{Document, Rules, parse},
    model::{
        Backend, BackendStatus, Change, JobId, JobResult, Name, Reader, Reason, ResourceId, Status, StepState,
        UnitFacts,
    },
    plan::{Action, Inventory, Step, UnitOp},
    plugins::{Events, Interest, Plugin, PluginError, PluginEvent, Work, lxc::Join},
    reconcile::{ApplyOptions, Caller, Command, Core, Hub, Parts, Settings, start},
    store::Store,
};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

// step: backend
/// The backend: services that run or do not. A real one is at the other end of a connection.
#[derive(Debug, Default)]
struct Services(BTreeMap<Name, bool>);

impl Services {
    /// What the model is told of a service; of one that is not there, that it is not.
    fn facts(&self, name: &Name) -> Change {
        let facts = match self.0.get(name) {
            None => UnitFacts { load_state: "not-found".to_owned(), ..UnitFacts::default() },
            Some(running) => UnitFacts {
                id: name.to_string(),
                load_state: "loaded".to_owned(),
                active_state: if *running { "active" } else { "inactive" }.to_owned(),
                unit_file_state: "static".to_owned(),
                ..UnitFacts::default()
            },
        };
        Change::Unit(name.clone(), facts)
    }
}
// end: backend

// step: handle
/// What everybody else holds: a way to ask the task that owns the backend.
#[derive(Debug, Clone)]
struct Toy(mpsc::UnboundedSender<Request>);

#[derive(Debug)]
enum Request {
    Watch(Interest, oneshot::Sender<()>),
    Look(Interest, oneshot::Sender<Vec<Change>>),
    Apply(Work, oneshot::Sender<()>),
    /// Somebody else's hand, which a real backend has too.
    Outside(Name, bool),
}

impl Toy {
    /// Starts the task.
    fn spawn(services: Services, events: Events) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        tokio::spawn(run(services, requests, events));
        Self(sender)
    }

    /// Asks; what is never answered means that the task has ended.
    fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> BoxFuture<'static, Result<T, PluginError>> {
        let (sender, answer) = oneshot::channel();
        let _ = self.0.send(request(sender));
        let away = |_| PluginError::Away { plugin: "systemd", why: "its task has ended".to_owned() };
        Box::pin(async move { answer.await.map_err(away) })
    }
}
// end: handle

// step: trait
impl Plugin for Toy {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn watch(&self, interest: Interest) -> BoxFuture<'static, Result<(), PluginError>> {
        self.ask(|reply| Request::Watch(interest, reply))
    }

    fn look(&self, interest: Interest) -> BoxFuture<'static, Result<Vec<Change>, PluginError>> {
        self.ask(|reply| Request::Look(interest, reply))
    }

    fn apply(&self, work: Work) -> BoxFuture<'static, ()> {
        let applied = self.ask(|reply| Request::Apply(work, reply));
        Box::pin(async move { drop(applied.await) })
    }
}
// end: trait

// step: task
/// Owns the backend, and tells the model's writer all that it sees.
async fn run(mut services: Services, mut requests: mpsc::UnboundedReceiver<Request>, events: Events) {
    let mut mirrored = Interest::default();
    events.send(PluginEvent::Reset(Vec::new()));
    events.send(PluginEvent::Backend(Backend {
        status: BackendStatus::Connected,
        message: String::new(),
        version: "1".to_owned(),
        reconnects: 0,
    }));
    let facts = |services: &Services, interest: &Interest| -> Vec<Change> {
        interest.units.keys().map(|name| services.facts(name)).collect()
    };
    while let Some(request) = requests.recv().await {
        match request {
            // The facts first, then the answer: whoever waits for it finds them in the model.
            Request::Watch(interest, reply) => {
                mirrored = interest;
                events.send(PluginEvent::Changes(facts(&services, &mirrored)));
                let _ = reply.send(());
            }
            Request::Look(interest, reply) => drop(reply.send(facts(&services, &interest))),
            Request::Apply(work, reply) => {
                for step in &work.steps {
                    apply(&mut services, work.job, step, &events);
                }
                let _ = reply.send(());
            }
            Request::Outside(name, running) => {
                services.0.insert(name.clone(), running);
                if mirrored.units.contains_key(&name) {
                    events.send(PluginEvent::Changes(vec![services.facts(&name)]));
                }
            }
        }
    }
}
// end: task

// step: apply
/// Carries a step out. The facts that it brought about come before the report that it is done.
fn apply(services: &mut Services, job: JobId, step: &Step, events: &Events) {
    let report = |state, reason, message: &str, wrote| {
        let message = message.to_owned();
        events.send(PluginEvent::Step { job, step: step.id, state, reason, message, retry: false, wrote });
    };
    report(StepState::Running, Reason::None, "", false);
    let (name, wanted) = match &step.action {
        Action::Unit(name, UnitOp::Start | UnitOp::Restart) => (name, true),
        Action::Unit(name, UnitOp::Stop) => (name, false),
        _ => return report(StepState::Failed, Reason::Refused, "a service in memory has no files", false),
    };
    let Some(running) = services.0.get_mut(name) else {
        return report(StepState::Failed, Reason::UnitNotFound, "there is no such service", false);
    };
    let wrote = std::mem::replace(running, wanted) != wanted;
    events.send(PluginEvent::Changes(vec![services.facts(name)]));
    report(StepState::Done, Reason::None, "", wrote);
}
// end: apply

/// A core with the toy for its only plugin.
struct House {
    toy: Toy,
    hub: Hub,
    _state: TempDir,
}

impl House {
    fn build(services: &[(&str, bool)]) -> Self {
        let services = Services(services.iter().map(|(name, running)| (Name::from(*name), *running)).collect());
        let state = tempfile::tempdir().unwrap();
        let machine_id = "0123456789abcdef0123456789abcdef".to_owned();
        let inventory = Inventory { machine_id, ..Inventory::default() };
        let join = Join::new(Config::default().patterns().unwrap());
        // step: wiring
        let (sender, events) = mpsc::unbounded_channel();
        let toy = Toy::spawn(services, Events::new("systemd", sender));
        let parts = Parts {
            core: Core::new(Settings::default(), inventory, join, &["systemd"]),
            plugins: vec![Arc::new(toy.clone())],
            events,
            store: Store::open(state.path()).unwrap(),
            rules: Rules::default(),
        };
        let (handles, running) = start(parts, std::future::pending()).unwrap();
        // end: wiring
        tokio::spawn(running);
        Self { toy, hub: handles.hub, _state: state }
    }

    async fn set(&self, text: &str) -> JobId {
        let document: Arc<Document> = Arc::new(parse(text).unwrap());
        let (reply, answer) = oneshot::channel();
        let (options, caller) = (ApplyOptions::default(), Caller::default());
        let command = Command::SetDesiredState { text: text.into(), document, options, caller, reply };
        self.hub.commands.send(command).unwrap();
        answer.await.unwrap().unwrap().1
    }

    async fn result(&self, job: JobId) -> JobResult {
        until(&self.hub.reader, |view| view.jobs.get(&job).and_then(|job| job.result)).await
    }

    async fn until_status(&self, name: &str, status: Status) {
        let id = ResourceId::unit(name);
        until(&self.hub.reader, |view| view.resources.get(&id).filter(|facts| facts.status == status).map(drop)).await;
    }
}

/// Waits for a snapshot in which there is something.
async fn until<T>(reader: &Reader, look: impl Fn(&op_dbus::model::Snapshot) -> Option<T>) -> T {
    loop {
        let changed = reader.listen();
        if let Some(found) = look(&reader.current()) {
            return found;
        }
        changed.await;
    }
}

const DOCUMENT: &str = r#"{ "systemd": { "units": { "toy.service": { "active_state": "active" } } } }"#;

// step: test
#[tokio::test]
async fn a_document_is_planned_applied_and_verified_and_drift_is_seen() {
    let house = House::build(&[("toy.service", false)]);
    let job = house.set(DOCUMENT).await;
    assert_eq!(house.result(job).await, JobResult::Done);
    house.until_status("toy.service", Status::InSync).await;

    let job = house.set(DOCUMENT).await;
    assert_eq!(house.result(job).await, JobResult::Unchanged);

    house.toy.0.send(Request::Outside("toy.service".into(), false)).unwrap();
    house.until_status("toy.service", Status::Drifted).await;
}
// end: test

#[tokio::test]
async fn what_the_backend_does_not_know_is_blocked() {
    let house = House::build(&[]);
    let job = house.set(DOCUMENT).await;
    assert_eq!(house.result(job).await, JobResult::Failed);
    house.until_status("toy.service", Status::Blocked).await;
}
