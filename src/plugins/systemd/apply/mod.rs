//! Steps: which may run now, what they came to, and how that is told.

mod activity;
mod files;
mod outcome;
mod reload;
mod settings;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};

use self::outcome::Outcome;
use super::handle::Handle;
use crate::{
    model::{JobId, Name, Reason, StepState},
    plan::{Action, Step, StepId, UnitOp},
    plugins::{Events, PluginEvent, Work},
};

/// What every step needs.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// The way to systemd.
    pub(super) handle: Handle,
    /// The way to the model.
    pub(super) events: Events,
    /// How long a started unit must stay up.
    pub(super) hold_down: Duration,
    /// What units without `[Install]` are linked to.
    pub(super) default_target: String,
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
}

/// Carries out the steps, each as soon as those it waits for are done, and returns when all have ended.
pub(super) async fn carry_out(context: Context, work: Work) {
    let mut waiting: BTreeMap<StepId, Arc<Step>> = work.steps.into_iter().map(|step| (step.id, step)).collect();
    let mut unsuccessful: BTreeSet<StepId> = BTreeSet::new();
    let mut running: FuturesUnordered<BoxFuture<'static, Vec<(StepId, bool)>>> = FuturesUnordered::new();
    let mut under_way: BTreeSet<StepId> = BTreeSet::new();
    let job = work.job;
    let report = |step: StepId| Report { events: context.events.clone(), job, step };
    loop {
        // What waits for a failure cannot be attempted, and nor can what waits for that.
        while let Some((id, on)) = first_hopeless(&waiting, &unsuccessful) {
            waiting.remove(&id);
            unsuccessful.insert(id);
            let why = format!("it waits for step {on}, which did not succeed");
            report(id).send(Outcome::blocked(Reason::DependencyFailed, why));
        }
        let ready: Vec<Arc<Step>> = waiting
            .values()
            .filter(|step| !step.after.iter().any(|on| waiting.contains_key(on) || under_way.contains(on)))
            .cloned()
            .collect();
        if ready.is_empty() && running.is_empty() {
            // Steps that wait for each other in a circle: no plan has them, and each must end all the same.
            for id in waiting.into_keys() {
                report(id).send(Outcome::failed(Reason::Internal, "it waits for itself".to_owned()));
            }
            return;
        }
        let mut files = Vec::new();
        for step in ready {
            waiting.remove(&step.id);
            under_way.insert(step.id);
            let report = report(step.id);
            if let Action::Unit(unit, UnitOp::Files { .. }) = &step.action {
                files.push((unit.clone(), step.action.clone(), report));
            } else {
                running.push(Box::pin(single(context.clone(), step, report)));
            }
        }
        if !files.is_empty() {
            // All of them in one call per kind: systemd looks at its folders once for each call.
            running.push(Box::pin(files::change(context.clone(), files)));
        }
        for (id, succeeded) in running.next().await.unwrap_or_default() {
            under_way.remove(&id);
            if !succeeded {
                unsuccessful.insert(id);
            }
        }
    }
}

/// The first step that waits for an unsuccessful one, and which that is.
fn first_hopeless(waiting: &BTreeMap<StepId, Arc<Step>>, unsuccessful: &BTreeSet<StepId>) -> Option<(StepId, StepId)> {
    waiting.values().find_map(|step| {
        let on = step.after.iter().find(|on| unsuccessful.contains(on))?;
        Some((step.id, *on))
    })
}

async fn single(context: Context, step: Arc<Step>, report: Report) -> Vec<(StepId, bool)> {
    report.stands(StepState::Running);
    let outcome = match (&step.blocked, &step.action) {
        (Some((reason, why)), _) => Outcome::blocked(*reason, why.clone()),
        (None, Action::ReloadSystemd) => reload::reload(&context).await,
        (None, Action::Unit(unit, op)) => operate(&context, unit, op, &report).await,
        (None, action) => Outcome::failed(Reason::Internal, format!("systemd has no {}", action.as_str())),
    };
    let succeeded = outcome.state == StepState::Done;
    report.send(outcome);
    vec![(step.id, succeeded)]
}

async fn operate(context: &Context, unit: &Name, op: &UnitOp, report: &Report) -> Outcome {
    let result = match op {
        UnitOp::Stop => activity::stop(context, unit).await,
        UnitOp::Start => activity::start(context, unit, report).await,
        UnitOp::Restart => activity::restart(context, unit, report).await,
        UnitOp::SetProperties(values) => settings::set(context, unit, values).await,
        UnitOp::Files { .. } => return Outcome::failed(Reason::Internal, "files go together".to_owned()),
    };
    result.unwrap_or_else(Outcome::from)
}
