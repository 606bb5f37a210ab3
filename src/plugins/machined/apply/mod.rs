//! Steps on images and settings files.

mod container;
mod fetch;
mod forget;
mod outcome;
mod wanted;

use std::sync::Arc;

use super::{handle::Handle, settings::store::Store};
use crate::{
    model::{Name, Reason},
    plan::{Action, ContainerOp, Step, TemplateOp},
    plugins::{
        Events, Work,
        steps::{self, Outcome, Report},
    },
};

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

/// Carries out the steps, each as soon as those it waits for are done, and returns when all have ended.
pub(super) async fn carry_out(context: Context, work: Work) {
    let events = context.events.clone();
    steps::carry_out_each(events, work, |step, report| single(context.clone(), step, report)).await;
}

async fn single(context: Context, step: Arc<Step>, report: Report) -> Outcome {
    match &step.action {
        Action::Container(id, op) => operate(&context, id, op, &report).await,
        Action::Template(name, TemplateOp::Fetch(spec)) => fetch::fetch(&context, name, spec, &report).await,
        action => unknown(action),
    }
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
