//! One job's steps: which may run now, how each stands, and what came of the whole. Knows nothing of the world.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    model::{JobKind, JobResult, Name, Reason, ResourceId, StepState, Subject},
    plan::{Action, Plan, Step, StepId},
    reconcile::Caller,
};

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for its turn.
    Queued,
    /// Waits for the plugins to mirror what the document names.
    Watching,
    /// Waits for the plugins to bring up to date what planning needs.
    Preparing,
    /// Waits for its plan.
    Planning,
    /// Steps run.
    Running,
}

/// One step, as it goes.
#[derive(Debug, Clone)]
pub(super) struct RunStep {
    pub(super) state: StepState,
    pub(super) reason: Reason,
    pub(super) message: String,
    pub(super) retry: bool,
    pub(super) wrote: bool,
    /// How much of it is done, 0 to 1, as far as its plugin tells.
    share: f64,
    /// Handed to its plugin.
    given: bool,
    /// Steps before it that are not done.
    waits: usize,
}

/// A job.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) kind: JobKind,
    pub(super) scope: Option<BTreeSet<ResourceId>>,
    pub(super) caller: Caller,
    pub(super) stage: Stage,
    /// It is the first try of a generation, or somebody asked for another.
    pub(super) fresh: bool,
    pub(super) plan: Arc<Plan>,
    /// A plan that was there from the start: of a start, stop or restart.
    pub(super) held: Option<Arc<Plan>>,
    pub(super) steps: Vec<RunStep>,
    /// Steps by what they are about.
    by_subject: BTreeMap<Subject, Vec<StepId>>,
    later: BTreeMap<StepId, Vec<StepId>>,
    ready: BTreeSet<StepId>,
    /// Calls of a plugin's apply that have not answered.
    pub(super) outstanding: usize,
    open: usize,
    /// No new step begins, and this is how it ends.
    pub(super) ends_as: Option<JobResult>,
}

impl Run {
    pub(super) fn new(kind: JobKind, scope: Option<BTreeSet<ResourceId>>, caller: Caller) -> Self {
        Self {
            kind,
            scope,
            caller,
            stage: Stage::Queued,
            fresh: false,
            plan: super::no_plan(),
            held: None,
            steps: Vec::new(),
            by_subject: BTreeMap::new(),
            later: BTreeMap::new(),
            ready: BTreeSet::new(),
            outstanding: 0,
            open: 0,
            ends_as: None,
        }
    }

    /// Takes its plan. What the plan lists as blocked is final at once; returns the steps that are.
    pub(super) fn begin(&mut self, plan: Arc<Plan>) -> Vec<StepId> {
        self.stage = Stage::Running;
        self.open = plan.steps.len();
        for step in &plan.steps {
            self.by_subject.entry(step.subject.clone()).or_default().push(step.id);
            for earlier in &step.after {
                self.later.entry(*earlier).or_default().push(step.id);
            }
            self.steps.push(RunStep {
                state: StepState::Pending,
                reason: Reason::None,
                message: String::new(),
                retry: false,
                wrote: false,
                share: 0.0,
                given: false,
                waits: step.after.len(),
            });
            if step.after.is_empty() {
                self.ready.insert(step.id);
            }
        }
        self.plan = plan;
        let blocked: Vec<(StepId, Reason, String)> = self
            .plan
            .steps
            .iter()
            .filter_map(|step| step.blocked.clone().map(|(reason, message)| (step.id, reason, message)))
            .collect();
        let mut changed = Vec::new();
        for (id, reason, message) in blocked {
            changed.extend(self.set(id, StepState::Blocked, reason, message, false, false));
        }
        changed
    }

    pub(super) fn step(&self, id: StepId) -> Option<(&Arc<Step>, &RunStep)> {
        let at = usize::try_from(id).ok()?.checked_sub(1)?;
        Some((self.plan.steps.get(at)?, self.steps.get(at)?))
    }

    fn step_mut(&mut self, id: StepId) -> Option<&mut RunStep> {
        self.steps.get_mut(usize::try_from(id).ok()?.checked_sub(1)?)
    }

    /// Sets a step's state; a failure blocks all that wait for it. Returns the steps that changed, that one first.
    pub(super) fn set(
        &mut self,
        id: StepId,
        state: StepState,
        reason: Reason,
        message: String,
        retry: bool,
        wrote: bool,
    ) -> Vec<StepId> {
        let Some(step) = self.step_mut(id) else { return Vec::new() };
        if step.state.is_final() || (step.state == state && step.message == message) {
            return Vec::new();
        }
        step.state = state;
        step.reason = reason;
        step.message = message;
        step.retry = retry;
        step.wrote |= wrote;
        let mut changed = vec![id];
        if !state.is_final() {
            return changed;
        }
        self.open = self.open.saturating_sub(1);
        self.ready.remove(&id);
        let later = self.later.get(&id).cloned().unwrap_or_default();
        for next in later {
            let reload = self.step(next).is_some_and(|(step, _)| matches!(step.action, Action::ReloadSystemd));
            // The one reload is for all unit files of the plan: one that could not be changed keeps it from no other.
            if state == StepState::Done || (reload && state != StepState::Skipped) {
                self.no_longer_waits(next);
            } else if !self.step(next).is_some_and(|(_, step)| step.given) {
                let on = self.step(id).map(|(step, _)| step.subject.to_string()).unwrap_or_default();
                let (state, message) = match state {
                    StepState::Skipped => (StepState::Skipped, String::new()),
                    _ => (StepState::Blocked, format!("waits for {on}, which did not come to hold")),
                };
                changed.extend(self.set(next, state, Reason::DependencyFailed, message, retry, false));
            }
        }
        changed
    }

    fn no_longer_waits(&mut self, id: StepId) {
        if let Some(step) = self.step_mut(id) {
            step.waits = step.waits.saturating_sub(1);
            if step.waits == 0 && !step.given && !step.state.is_final() {
                self.ready.insert(id);
            }
        }
    }

    /// The steps that may run now, by plugin. A backend with transactions is also given what waits only for steps of
    /// the same batch, so that it can write all of it at once.
    pub(super) fn take_ready(&mut self) -> BTreeMap<&'static str, Vec<Arc<Step>>> {
        let mut batches: BTreeMap<&'static str, Vec<Arc<Step>>> = BTreeMap::new();
        if self.ends_as.is_some() {
            return batches;
        }
        let mut ready = std::mem::take(&mut self.ready);
        while let Some(id) = ready.pop_first() {
            let Some((step, _)) = self.step(id) else { continue };
            let step = step.clone();
            let Some(plugin) = step.action.plugin() else { continue };
            if let Some(run) = self.step_mut(id) {
                run.given = true;
            }
            let fuses = matches!(step.action, Action::Bridge(..) | Action::Port(..));
            batches.entry(plugin).or_default().push(step);
            if fuses {
                let later = self.later.get(&id).cloned().unwrap_or_default();
                ready.extend(later.into_iter().filter(|next| self.fuses_with_given(*next, plugin)));
            }
        }
        batches
    }

    /// Whether all that a step waits for is done, or was given to the same plugin.
    fn fuses_with_given(&self, id: StepId, plugin: &str) -> bool {
        let Some((step, run)) = self.step(id) else { return false };
        let plug = matches!(step.action, Action::Port(_, crate::plan::PortOp::Plug(_)));
        let same = step.action.plugin() == Some(plugin) && !plug && !run.given && run.state == StepState::Pending;
        same && step.after.iter().all(|earlier| {
            self.step(*earlier).is_some_and(|(before, run)| {
                run.state == StepState::Done || (run.given && before.action.plugin() == Some(plugin))
            })
        })
    }

    /// Begins no new step. Returns those that will not begin.
    pub(super) fn stop(&mut self, result: JobResult) -> Vec<StepId> {
        if self.ends_as.is_some() {
            return Vec::new();
        }
        self.ends_as = Some(result);
        let idle: Vec<StepId> = self
            .plan
            .steps
            .iter()
            .zip(&self.steps)
            .filter(|(_, run)| !run.given && !run.state.is_final())
            .map(|(step, _)| step.id)
            .collect();
        let mut changed = Vec::new();
        for id in idle {
            changed.extend(self.set(id, StepState::Skipped, Reason::None, String::new(), false, false));
        }
        changed
    }

    /// It works towards the document: no start, stop or restart.
    pub(super) const fn is_towards(&self) -> bool {
        matches!(self.kind, JobKind::Apply | JobKind::Reconcile | JobKind::Drift)
    }

    /// The unit, or the container, that a start, stop or restart will act on, until it has begun.
    pub(super) fn held_target(&self) -> Option<&Name> {
        self.held.iter().flat_map(|plan| &plan.steps).find_map(|step| match &step.action {
            // A container's id and a unit's name are never the same.
            Action::Unit(target, _) | Action::Container(target, _) => Some(target),
            _ => None,
        })
    }

    /// Steps that a plugin was given and that are not final.
    pub(super) fn unanswered(&self) -> Vec<StepId> {
        let open = self.plan.steps.iter().zip(&self.steps).filter(|(_, run)| run.given && !run.state.is_final());
        open.map(|(step, _)| step.id).collect()
    }

    /// No step is open, and no plugin works.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Running) && self.open == 0 && self.outstanding == 0
    }

    /// Takes note of how far an open step has come. Whether what it says for people is new.
    pub(super) fn progressed(&mut self, id: StepId, share: f64, message: String) -> bool {
        let Some(step) = self.step_mut(id).filter(|step| !step.state.is_final()) else { return false };
        if share.is_finite() {
            step.share = share.clamp(0.0, 1.0);
        }
        let new = step.message != message;
        step.message = message;
        new
    }

    /// Share of the work that is done: each step counts the same.
    pub(super) fn progress(&self) -> f64 {
        let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        let done: f64 = self.steps.iter().map(|step| if step.state.is_final() { 1.0 } else { step.share }).sum();
        if self.steps.is_empty() { 0.0 } else { done / count(self.steps.len()) }
    }

    /// All open steps are written and verify.
    pub(super) fn only_verifies(&self) -> bool {
        let mut open = self.steps.iter().filter(|step| !step.state.is_final()).peekable();
        open.peek().is_some() && open.all(|step| step.state == StepState::Verifying)
    }

    /// The states of the steps about one resource.
    pub(super) fn about<'a>(&'a self, subject: &Subject) -> impl Iterator<Item = (&'a Arc<Step>, &'a RunStep)> {
        self.by_subject.get(subject).into_iter().flatten().filter_map(|id| self.step(*id))
    }

    /// What its steps are about.
    pub(super) fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.by_subject.keys()
    }

    /// Whether that unit, or that container, is something its steps act on.
    pub(super) fn acts_on(&self, target: &str) -> bool {
        let is_it = |action: &Action| match action {
            Action::Unit(name, _) | Action::Container(name, _) => &**name == target,
            _ => false,
        };
        self.plan.steps.iter().any(|step| is_it(&step.action))
    }
}
