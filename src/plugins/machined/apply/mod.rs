//! Steps: which may run now, what they came to, and how that is told.

mod container;
mod fetch;
mod forget;
mod outcome;
mod wanted;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};

use self::outcome::Outcome;
use super::{handle::Handle, settings::store::Store, transfer::Progress};
use crate::{
    model::{JobId, Name, Reason, StepState},
    plan::{Action, ContainerOp, Step, StepId, TemplateOp},
    plugins::{Events, PluginEvent, Work},
};

/// The least time between two reports of how far a step is: each is a signal.
const REPORT_EVERY: Duration = Duration::from_millis(250);

/// What every step needs.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// The way to systemd-machined.
    pub(super) handle: Handle,
    /// The way to the model.
    pub(super) events: Events,
    /// Settings files.
    pub(super) store: Arc<Store>,
}

/// Tells where one step stands.
#[derive(Debug, Clone)]
struct Report {
    events: Events,
    job: JobId,
    step: StepId,
}

impl Report {
    fn stands(&self, state: StepState) {
        self.send(Outcome { state, reason: Reason::None, message: String::new(), retry: false, wrote: false });
    }

    fn send(&self, outcome: Outcome) {
        let Outcome { state, reason, message, retry, wrote } = outcome;
        let (job, step) = (self.job, self.step);
        self.events.send(PluginEvent::Step { job, step, state, reason, message, retry, wrote });
    }

    /// One that tells how far the step is. Lines that say nothing of that go with the share that was said last.
    fn progress(&self) -> Progress {
        let report = self.clone();
        let last: Mutex<(Option<Instant>, f64)> = Mutex::default();
        Arc::new(move |share, line| {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            last.1 = share.unwrap_or(last.1);
            if last.0.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
                last.0 = Some(Instant::now());
                let (job, step) = (report.job, report.step);
                report.events.send(PluginEvent::Progress { job, step, share: last.1, message: line.to_owned() });
            }
        })
    }
}

/// Carries out the steps, each as soon as those it waits for are done, and returns when all have ended.
pub(super) async fn carry_out(context: Context, work: Work) {
    let mut waiting: BTreeMap<StepId, Arc<Step>> = work.steps.into_iter().map(|step| (step.id, step)).collect();
    let mut running: FuturesUnordered<BoxFuture<'static, (StepId, bool)>> = FuturesUnordered::new();
    let mut under_way: BTreeSet<StepId> = BTreeSet::new();
    let mut unsuccessful: BTreeSet<StepId> = BTreeSet::new();
    let job = work.job;
    let report = |step: StepId| Report { events: context.events.clone(), job, step };
    loop {
        while let Some(id) = first_hopeless(&waiting, &unsuccessful) {
            waiting.remove(&id);
            unsuccessful.insert(id);
            let why = "it waits for a step that did not succeed".to_owned();
            report(id).send(Outcome::blocked(Reason::DependencyFailed, why));
        }
        let is_ready =
            |step: &&Arc<Step>| !step.after.iter().any(|on| waiting.contains_key(on) || under_way.contains(on));
        let ready: Vec<Arc<Step>> = waiting.values().filter(is_ready).cloned().collect();
        for step in ready {
            waiting.remove(&step.id);
            under_way.insert(step.id);
            running.push(Box::pin(single(context.clone(), step.clone(), report(step.id))));
        }
        let Some((id, succeeded)) = running.next().await else {
            // Steps that wait for each other in a circle: no plan has them, and each must end all the same.
            for id in waiting.into_keys() {
                report(id).send(Outcome::failed(Reason::Internal, "it waits for itself".to_owned()));
            }
            return;
        };
        under_way.remove(&id);
        if !succeeded {
            unsuccessful.insert(id);
        }
    }
}

/// The first step that waits for an unsuccessful one.
fn first_hopeless(waiting: &BTreeMap<StepId, Arc<Step>>, unsuccessful: &BTreeSet<StepId>) -> Option<StepId> {
    let hopeless = |step: &&Arc<Step>| step.after.iter().any(|on| unsuccessful.contains(on));
    waiting.values().find(hopeless).map(|step| step.id)
}

async fn single(context: Context, step: Arc<Step>, report: Report) -> (StepId, bool) {
    report.stands(StepState::Running);
    let outcome = match (&step.blocked, &step.action) {
        (Some((reason, why)), _) => Outcome::blocked(*reason, why.clone()),
        (None, Action::Container(id, op)) => operate(&context, id, op, &report).await,
        (None, Action::Template(name, TemplateOp::Fetch(spec))) => fetch::fetch(&context, name, spec, &report).await,
        (None, action) => unknown(action),
    };
    let succeeded = outcome.state == StepState::Done;
    report.send(outcome);
    (step.id, succeeded)
}

async fn operate(context: &Context, id: &Name, op: &ContainerOp, report: &Report) -> Outcome {
    match op {
        ContainerOp::Create(spec) => container::create(context, id, spec, report).await,
        ContainerOp::Set(spec) => container::set(context, id, spec).await,
        ContainerOp::MakeTemplate => container::make_template(context, id).await,
        ContainerOp::Destroy { .. } => container::destroy(context, id, report).await,
        op => unknown(&Action::Container(id.clone(), op.clone())),
    }
}

/// Units and ports are other plugins'.
fn unknown(action: &Action) -> Outcome {
    Outcome::failed(Reason::Internal, format!("systemd-machined has no {}", action.as_str()))
}
