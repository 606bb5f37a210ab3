//! Steps of jobs: how they go, and how that shows.

use std::sync::Arc;

use super::{
    Core, Effect, Notice, Now,
    run::{RunStep, Stage},
};
use crate::{
    model::{JobId, JobState, Reason, ResourceId, Status, StepFacts, StepState, Subject},
    plan::{Action, StepId, UnitOp},
};

impl Core {
    /// A plugin has answered for all steps it was given at once.
    pub fn applied(&mut self, job: JobId, now: Now) {
        self.now = now;
        if let Some(run) = self.runs.get_mut(&job) {
            run.outstanding = run.outstanding.saturating_sub(1);
            if run.outstanding == 0 {
                // A plugin that ended without a word for a step leaves it unsaid whether it holds.
                for step in run.unanswered() {
                    let message = "its plugin ended without saying how it went".to_owned();
                    self.step_event(job, step, StepState::Failed, Reason::Internal, message, true, false);
                }
            }
        }
    }

    /// Told to end, and the time for it is over: what has begun goes on without op-dbus.
    pub(super) fn abandon(&mut self) {
        if self.end_at.is_none_or(|at| at > self.now.boot_usec) {
            return;
        }
        self.end_at = None;
        for job in self.runs.keys().copied().collect::<Vec<_>>() {
            let Some(run) = self.runs.get_mut(&job) else { continue };
            run.outstanding = 0;
            for step in run.unanswered() {
                let message = "op-dbus ended before it was through".to_owned();
                self.step_event(job, step, StepState::Skipped, Reason::None, message, true, false);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the event, taken apart by its one caller")]
    pub(super) fn step_event(
        &mut self,
        job: JobId,
        step: StepId,
        state: StepState,
        reason: Reason,
        message: String,
        retry: bool,
        wrote: bool,
    ) {
        let Some(run) = self.runs.get_mut(&job) else { return };
        let changed = run.set(step, state, reason, message, retry, wrote);
        self.show_steps(job, &changed);
    }

    /// How far a step has come: on the job, and to the bus where it says something new.
    pub(super) fn step_progress(&mut self, job: JobId, step: StepId, share: f64, message: String) {
        let Some(run) = self.runs.get_mut(&job) else { return };
        let said = run.progressed(step, share, message);
        let progress = run.progress();
        self.change_job(job, |facts| facts.progress = progress);
        if said {
            self.show_steps(job, &[step]);
        }
    }

    /// Shows steps that changed: on the job, on their resources, to the bus and in the journal.
    pub(super) fn show_steps(&mut self, job: JobId, changed: &[StepId]) {
        let Some(run) = self.runs.get(&job).filter(|_| !changed.is_empty()) else { return };
        let mut steps = self.view.jobs.get(&job).map(|facts| facts.steps.clone()).unwrap_or_default();
        for id in changed {
            let Some((step, now)) = run.step(*id) else { continue };
            let facts = StepFacts {
                subject: step.subject.clone(),
                action: step.action.as_str(),
                state: now.state,
                message: now.message.clone(),
            };
            steps.insert(*id, Arc::new(facts));
            if let Subject::Resource(id) = &step.subject {
                self.dirty.insert(id.clone());
            }
            self.effects.push(Effect::Notice(Notice::StepChanged {
                job,
                step: *id,
                state: now.state,
                message: now.message.clone(),
            }));
            if now.state.is_final() && !matches!(now.state, StepState::Skipped) {
                super::super::audit::step(
                    self.wanted.generation,
                    job,
                    &run.caller,
                    step,
                    now.state,
                    now.reason,
                    &now.message,
                );
            }
        }
        for (step, now) in changed.iter().filter_map(|id| run.step(*id)).filter(|(_, now)| now.state.is_final()) {
            match step.action {
                Action::Unit(_, UnitOp::Files { .. }) if now.wrote => self.inventory.reload_owed = true,
                Action::ReloadSystemd if now.state == StepState::Done => self.inventory.reload_owed = false,
                _ => {}
            }
        }
        let progress = run.progress();
        let verifies = run.only_verifies();
        self.change_job(job, |facts| {
            facts.steps = steps;
            facts.progress = progress;
            facts.state = if verifies { JobState::Verifying } else { JobState::Running };
        });
    }

    /// Whether a job works on that resource, and how far it is.
    pub(super) fn under_way(&self, id: &ResourceId) -> Option<Status> {
        let weight = |status: &Status| match status {
            Status::Applying => 2,
            Status::Verifying => 1,
            _ => 0,
        };
        let subject = Subject::Resource(id.clone());
        let of_each = self.runs.values().filter_map(|run| {
            let in_scope = run.scope.as_ref().is_none_or(|scope| scope.contains(id));
            if run.stage != Stage::Running {
                return (run.is_towards() && in_scope).then_some(Status::Pending);
            }
            let open = run.about(&subject).filter(|(_, step)| !step.state.is_final());
            open.map(|(_, step)| match step.state {
                StepState::Running => Status::Applying,
                StepState::Verifying => Status::Verifying,
                _ => Status::Pending,
            })
            .max_by_key(weight)
        });
        of_each.max_by_key(weight)
    }

    /// What a step about that resource, which has begun, waits for: its backend says so with a reason.
    pub(super) fn held_by(&self, id: &ResourceId) -> Option<(Reason, String)> {
        let subject = Subject::Resource(id.clone());
        let held = |step: &&RunStep| step.state == StepState::Running && step.reason != Reason::None;
        let mut steps = self.runs.values().flat_map(|run| run.about(&subject)).map(|(_, step)| step);
        steps.find(held).map(|step| (step.reason, step.message.clone()))
    }

    /// A step about that resource has begun and is not through.
    pub(super) fn is_writing(&self, id: &ResourceId) -> bool {
        matches!(self.under_way(id), Some(Status::Applying | Status::Verifying))
    }
}
