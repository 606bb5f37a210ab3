//! Steps on units.

mod activity;
mod files;
mod outcome;
mod reload;
mod settings;

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;

use super::handle::Handle;
use crate::{
    model::{Name, Reason},
    plan::{Action, Step, UnitOp},
    plugins::{
        Events, Work,
        steps::{self, Outcome, Report},
    },
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

/// Carries out the steps, each as soon as those it waits for are done, and returns when all have ended.
pub(super) async fn carry_out(context: Context, work: Work) {
    let events = context.events.clone();
    steps::carry_out(events, work, |ready| {
        let mut files = Vec::new();
        let mut running = Vec::new();
        for (step, report) in ready {
            match &step.action {
                Action::Unit(unit, UnitOp::Files { .. }) => files.push((unit.clone(), step.action.clone(), report)),
                _ => running.push(steps::one(step.clone(), report.clone(), single(context.clone(), step, report))),
            }
        }
        if !files.is_empty() {
            // All of them in one call per kind: systemd looks at its folders once for each call.
            running.push(files::change(context.clone(), files).boxed());
        }
        running
    })
    .await;
}

async fn single(context: Context, step: Arc<Step>, report: Report) -> Outcome {
    match &step.action {
        Action::ReloadSystemd => reload::reload(&context).await,
        Action::Unit(unit, op) => operate(&context, unit, op, &report).await,
        action => Outcome::failed(Reason::Internal, format!("systemd has no {}", action.as_str())),
    }
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
