//! The systemd plugin beside a model of its events.

use std::{collections::BTreeMap, time::Duration};

use op_dbus::{
    model::{Backend, BackendStatus, Change, Name, StepState, Subject, UnitFacts},
    plan::{Action, Step, StepId, UnitOp},
    plugins::{
        Events, Interest, Plugin, PluginEvent, Work,
        systemd::{Systemd, SystemdConfig},
    },
};
use tokio::sync::mpsc;

use crate::Ended;

/// A test that waits for longer hangs.
const HANG: Duration = Duration::from_mins(1);

/// The plugin, and what it told.
#[derive(Debug)]
pub struct Watched {
    /// The plugin.
    pub plugin: Systemd,
    events: mpsc::UnboundedReceiver<(&'static str, PluginEvent)>,
    /// The units, as told.
    pub units: BTreeMap<Name, UnitFacts>,
    /// The backend, as told last.
    pub backend: Option<Backend>,
    /// Whether systemd is in the middle of something, as told last.
    pub busy: bool,
    /// What each event since the last `forget` was, in words; units of batches by name.
    pub told: Vec<String>,
    /// How steps ended.
    pub ended: BTreeMap<StepId, Ended>,
    /// All states of each step, in order.
    pub states: BTreeMap<StepId, Vec<StepState>>,
}

impl Watched {
    /// The plugin, on its way to that bus.
    pub fn start(config: SystemdConfig) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        Self {
            plugin: Systemd::spawn(config, Events::new("systemd", sender)),
            events,
            units: BTreeMap::new(),
            backend: None,
            busy: false,
            told: Vec::new(),
            ended: BTreeMap::new(),
            states: BTreeMap::new(),
        }
    }

    /// Mirrors these units, and waits until they are.
    pub async fn watch(&mut self, units: &[&str]) {
        self.watch_properties(&units.iter().map(|unit| (*unit, &[][..])).collect::<Vec<_>>()).await;
    }

    /// The same, with properties of theirs.
    pub async fn watch_properties(&mut self, units: &[(&str, &[&str])]) {
        let interest = interest(units);
        self.plugin.watch(interest).await.unwrap();
        self.until(|seen| units.iter().all(|(unit, _)| seen.units.contains_key(*unit))).await;
    }

    /// Takes events until the backend is there.
    pub async fn connected(&mut self) {
        self.until(Self::is_connected).await;
    }

    /// Whether the backend is there, as told last.
    pub fn is_connected(&self) -> bool {
        self.backend.as_ref().is_some_and(|backend| backend.status == BackendStatus::Connected)
    }

    /// The unit, as told last.
    pub fn unit(&self, name: &str) -> &UnitFacts {
        &self.units[name]
    }

    /// Takes events until it is so.
    pub async fn until(&mut self, so: impl Fn(&Self) -> bool) {
        self.drain();
        while !so(self) {
            let event = tokio::time::timeout(HANG, self.events.recv()).await;
            let Ok(Some((_, event))) = event else {
                panic!("it did not come to be so; told: {:#?}\nunits: {:#?}", self.told, self.units)
            };
            self.take(event);
        }
    }

    /// Takes events until it is so of that unit.
    pub async fn until_unit(&mut self, name: &str, so: impl Fn(&UnitFacts) -> bool) {
        self.until(|seen| seen.units.get(name).is_some_and(&so)).await;
    }

    /// Takes what was told already.
    pub fn drain(&mut self) {
        while let Ok((_, event)) = self.events.try_recv() {
            self.take(event);
        }
    }

    /// Takes what was told, and forgets that it was.
    pub fn forget(&mut self) {
        self.drain();
        self.told.clear();
    }

    fn take(&mut self, event: PluginEvent) {
        match event {
            PluginEvent::Reset(changes) => {
                self.units.clear();
                self.told.push("reset".to_owned());
                for change in changes {
                    self.change(change);
                }
            }
            PluginEvent::Changes(changes) => {
                let names: Vec<String> = changes.iter().map(|change| change.id().unwrap().name.to_string()).collect();
                self.told.push(format!("changes {}", names.join(" ")));
                for change in changes {
                    self.change(change);
                }
            }
            PluginEvent::Backend(backend) => {
                self.told.push(format!("backend {}", backend.status.as_str()));
                self.backend = Some(backend);
            }
            PluginEvent::Busy(busy) => {
                self.told.push(format!("busy {busy}"));
                self.busy = busy;
            }
            PluginEvent::Progress { .. } => panic!("systemd tells no progress"),
            PluginEvent::Updates(_) => panic!("systemd has no updates"),
            PluginEvent::Step { step, state, reason, message, retry, wrote, .. } => {
                self.told.push(format!("step {step} {state}"));
                self.states.entry(step).or_default().push(state);
                if state.is_final() {
                    self.ended.insert(step, Ended { state, reason, message, retry, wrote });
                }
            }
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Unit(name, facts) => {
                self.units.insert(name, facts);
            }
            Change::UnitGone(name) => {
                self.units.remove(&name);
            }
            other => panic!("not systemd's: {other:?}"),
        }
    }

    /// Carries out one step.
    pub async fn step(&mut self, unit: &str, op: UnitOp) -> Ended {
        self.steps(vec![step(1, Action::Unit(unit.into(), op), &[])]).await[&1].clone()
    }

    /// Carries out these steps.
    pub async fn steps(&mut self, steps: Vec<Step>) -> BTreeMap<StepId, Ended> {
        self.drain();
        self.ended.clear();
        self.states.clear();
        let steps: Vec<_> = steps.into_iter().map(std::sync::Arc::new).collect();
        let count = steps.len();
        let work = self.plugin.apply(Work { job: 1, steps });
        tokio::time::timeout(HANG, work).await.expect("the steps do not end");
        self.drain();
        assert_eq!(self.ended.len(), count, "each step ends once apply answers");
        self.ended.clone()
    }
}

/// An interest in these units and those properties of theirs.
pub fn interest(units: &[(&str, &[&str])]) -> Interest {
    let units = units
        .iter()
        .map(|(unit, properties)| (Name::from(*unit), properties.iter().map(|name| (*name).to_owned()).collect()));
    Interest { units: units.collect(), ..Interest::default() }
}

/// A step that waits for others.
pub fn step(id: StepId, action: Action, after: &[StepId]) -> Step {
    Step {
        id,
        subject: Subject::State,
        action,
        changes: Vec::new(),
        after: after.to_vec(),
        blocked: None,
        warnings: Vec::new(),
    }
}
