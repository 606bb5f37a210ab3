//! Jobs: queued, run one at a time, finished, kept for a while.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Core, Effect, Now, no_plan,
    run::{Run, Stage},
};
use crate::{
    model::{
        JobFacts, JobId, JobKind, JobResult, JobState, Kind, OP_DBUS_UID, Reason, ResourceId, StepFacts, StepState,
        Subject,
    },
    plan::Plan,
    plugins::Work,
    reconcile::{Caller, CoreError},
};

/// Job numbers in hand below which more are asked for.
const FEW_NUMBERS: u64 = 64;

impl Core {
    /// `Reconcile`, of everything or of one resource.
    ///
    /// # Errors
    /// `NotFound` where there is no generation, or the document does not name the resource.
    pub fn reconcile(&mut self, target: Option<ResourceId>, caller: Caller, now: Now) -> Result<JobId, CoreError> {
        self.now = now;
        if self.wanted.generation == 0 {
            return Err(CoreError::NotFound("there is no desired state yet: call SetDesiredState first".to_owned()));
        }
        if let Some(id) = target.as_ref().filter(|id| self.wanted.desired.common(id).is_none()) {
            return Err(CoreError::NotFound(format!(
                "the document does not name {id}: there is nothing to reconcile it with"
            )));
        }
        let scope = target.map(|id| BTreeSet::from([id]));
        self.forgive(scope.as_ref());
        if scope.is_none() {
            self.start_job = false;
        }
        Ok(self.enqueue(JobKind::Reconcile, scope, caller))
    }

    /// `Job.Cancel`: what has begun finishes, the rest is skipped.
    ///
    /// # Errors
    /// `Conflict` for a job that is over, `NotFound` for one that never was or is not shown any more.
    pub fn cancel(&mut self, job: JobId, now: Now) -> Result<(), CoreError> {
        self.now = now;
        if !self.runs.contains_key(&job) {
            return Err(if self.view.jobs.contains_key(&job) {
                CoreError::Conflict(format!("job {job} is finished: there is nothing left to cancel"))
            } else {
                CoreError::NotFound(format!("there is no job {job}"))
            });
        }
        self.stop(job, JobResult::Cancelled);
        Ok(())
    }

    /// A new generation takes over from all jobs that work towards the document.
    pub(super) fn supersede(&mut self) {
        let jobs: Vec<JobId> = self.runs.iter().filter(|(_, run)| run.is_towards()).map(|(id, _)| *id).collect();
        for job in jobs {
            self.stop(job, JobResult::Superseded);
        }
    }

    pub(super) fn stop(&mut self, job: JobId, result: JobResult) {
        let Some(run) = self.runs.get_mut(&job) else { return };
        let changed = run.stop(result);
        if run.stage != Stage::Running {
            run.begin(no_plan());
        }
        self.show_steps(job, &changed);
    }

    pub(super) fn enqueue(&mut self, kind: JobKind, scope: Option<BTreeSet<ResourceId>>, caller: Caller) -> JobId {
        let target = match &scope {
            Some(scope) if scope.len() == 1 => scope.first().cloned().map_or(Subject::State, Subject::Resource),
            _ => Subject::State,
        };
        let job = self.new_job(kind, target, &caller);
        match &scope {
            Some(scope) => self.dirty.extend(scope.iter().cloned()),
            None => self.dirty.extend(self.wanted.desired.resources()),
        }
        let asked = kind == JobKind::Reconcile && caller.uid != OP_DBUS_UID;
        let mut run = Run::new(kind, scope, caller);
        run.fresh = asked || self.state.observed_generation != self.wanted.generation;
        self.put_in_queue(job, run);
        job
    }

    pub(super) fn put_in_queue(&mut self, job: JobId, run: Run) {
        self.runs.insert(job, run);
        self.queue.push_back(job);
        if self.shutting_down {
            self.stop(job, JobResult::Cancelled);
        }
    }

    pub(super) fn new_job(&mut self, kind: JobKind, target: Subject, caller: &Caller) -> JobId {
        let job = self.next_job;
        self.next_job += 1;
        if !self.numbers_asked && self.jobs_end.saturating_sub(self.next_job) <= FEW_NUMBERS {
            self.numbers_asked = true;
            self.effects.push(Effect::ReserveJobs);
        }
        let facts = JobFacts {
            generation: self.wanted.generation,
            kind,
            target,
            state: JobState::Queued,
            result: None,
            message: String::new(),
            progress: 0.0,
            steps: imbl::OrdMap::new(),
            started_usec: 0,
            finished_usec: 0,
            caller_uid: caller.uid,
        };
        self.view.jobs.insert(job, Arc::new(facts));
        job
    }

    pub(super) fn change_job(&mut self, job: JobId, change: impl FnOnce(&mut JobFacts)) {
        if let Some(facts) = self.view.jobs.get(&job) {
            let mut facts = (**facts).clone();
            change(&mut facts);
            self.view.jobs.insert(job, Arc::new(facts));
        }
    }

    /// At op-dbus's own start: once the backends have answered, or have had their time.
    pub(super) fn start_first_job(&mut self) {
        if self.start_job && self.backends_had_their_time() {
            self.start_job = false;
            self.forgive(None);
            self.enqueue(JobKind::Reconcile, None, Caller { uid: OP_DBUS_UID, ..Caller::default() });
        }
    }

    /// Whether all backends have said that they are there, or that they are not. Before they have, a job would find them
    /// all away; those that say nothing are waited for so long.
    fn backends_had_their_time(&mut self) -> bool {
        if self.backings.values().all(|backing| backing.answered) {
            self.answers_by = None;
            return true;
        }
        let now = self.now.boot_usec;
        *self.answers_by.get_or_insert(now + self.settings.start_grace) <= now
    }

    /// Moves every job as far as it can go.
    pub(super) fn advance(&mut self) {
        loop {
            let over: Vec<JobId> = self.runs.iter().filter(|(_, run)| run.is_over()).map(|(job, _)| *job).collect();
            let ended = !over.is_empty();
            for job in over {
                self.finish(job);
            }
            if self.writer.is_none()
                && let Some(at) = self.queue.iter().position(|job| self.runs.get(job).is_some_and(Run::is_towards))
                && self.backends_had_their_time()
                && let Some(job) = self.queue.remove(at)
            {
                self.writer = Some(job);
                self.begin(job);
            }
            self.begin_beside();
            self.plan_writer();
            let running: Vec<JobId> =
                self.runs.iter().filter(|(_, run)| run.stage == Stage::Running).map(|(job, _)| *job).collect();
            for job in running {
                self.hand_out(job);
            }
            if !ended && !self.runs.values().any(Run::is_over) {
                return;
            }
        }
    }

    /// Starts, stops and restarts need not wait for the job that writes, unless it works on the same container.
    fn begin_beside(&mut self) {
        for job in self.queue.iter().copied().collect::<Vec<_>>() {
            let Some(target) = self.runs.get(&job).and_then(Run::held_target) else { continue };
            let waits = self.runs.iter().any(|(other, run)| match run.stage {
                Stage::Queued => *other < job && run.held_target() == Some(target),
                // Nobody knows yet what it will work on.
                Stage::Watching | Stage::Preparing | Stage::Planning => true,
                Stage::Running => run.acts_on(target),
            });
            if !waits {
                self.queue.retain(|queued| *queued != job);
                self.begin(job);
            }
        }
    }

    /// A job's turn has come.
    fn begin(&mut self, job: JobId) {
        let now = self.now;
        self.change_job(job, |facts| {
            facts.state = JobState::Running;
            facts.started_usec = now.real_usec;
        });
        let Some(run) = self.runs.get_mut(&job).filter(|run| run.stage == Stage::Queued) else { return };
        run.stage = Stage::Watching;
        let asked = matches!(run.kind, JobKind::Apply | JobKind::Reconcile);
        if asked && self.wanted.watched.is_some() && !self.wanted.desired.objects.is_empty() {
            // Not every service tells of its changes: what it does not tell is read now.
            self.wanted.watched = None;
            self.effects.push(Effect::Watch { generation: self.wanted.generation, interest: self.interest() });
        }
        let Some(run) = self.runs.get_mut(&job) else { return };
        if let Some(plan) = run.held.take() {
            run.stage = Stage::Planning;
            self.planned(job, &plan, now);
        }
    }

    fn plan_writer(&mut self) {
        let Some(job) = self.writer else { return };
        let Some(run) = self.runs.get_mut(&job) else { return };
        if run.stage != Stage::Watching || self.wanted.watched != Some(self.wanted.generation) {
            return;
        }
        let is_package = |id: &ResourceId| id.kind == Kind::Package;
        let packages = match &run.scope {
            Some(scope) => scope.iter().any(is_package),
            None => !self.wanted.desired.packages.is_empty(),
        };
        if packages {
            // What repositories offer is told by nobody: it must be asked for.
            run.stage = Stage::Preparing;
            let interest = self.interest();
            self.effects.push(Effect::Prepare { job, interest });
        } else {
            self.plan_job(job);
        }
    }

    /// The plugins have brought up to date what planning that job needs.
    pub fn prepared(&mut self, job: JobId, now: Now) {
        self.now = now;
        if self.runs.get(&job).is_some_and(|run| run.stage == Stage::Preparing) {
            self.plan_job(job);
        }
    }

    fn plan_job(&mut self, job: JobId) {
        if let Some(run) = self.runs.get_mut(&job) {
            run.stage = Stage::Planning;
            self.effects.push(Effect::Plan {
                job,
                desired: self.wanted.desired.clone(),
                scope: run.scope.clone(),
                caller: run.caller.clone(),
                fresh: run.fresh,
            });
        }
    }

    /// The plan of a job.
    pub fn planned(&mut self, job: JobId, plan: &Arc<Plan>, now: Now) {
        self.now = now;
        let towards = self.runs.get(&job).is_some_and(Run::is_towards);
        let plan = &if towards { self.without_paused(plan) } else { plan.clone() };
        let Some(run) = self.runs.get_mut(&job).filter(|run| run.stage == Stage::Planning) else { return };
        for id in run.scope.iter().flatten() {
            self.dirty.insert(id.clone());
        }
        if run.scope.is_none() {
            self.dirty.extend(self.wanted.desired.resources());
        }
        let blocked = run.begin(plan.clone());
        let steps = plan
            .steps
            .iter()
            .map(|step| {
                let facts = StepFacts {
                    subject: step.subject.clone(),
                    action: step.action.as_str(),
                    state: StepState::Pending,
                    message: String::new(),
                };
                (step.id, Arc::new(facts))
            })
            .collect();
        self.change_job(job, |facts| facts.steps = steps);
        self.show_steps(job, &blocked);
    }

    /// The plan, but for what was started or stopped against the document: that is left alone.
    fn without_paused(&self, plan: &Arc<Plan>) -> Arc<Plan> {
        let is_paused = |subject: &Subject| matches!(subject, Subject::Resource(id) if self.tracks.get(id).is_some_and(|track| track.paused));
        if !plan.steps.iter().any(|step| is_paused(&step.subject)) {
            return plan.clone();
        }
        let mut plan = Plan::clone(plan);
        for step in plan.steps.iter_mut().filter(|step| is_paused(&step.subject)) {
            let why = "it was started or stopped against the document and is left alone until the next generation";
            Arc::make_mut(step).blocked = Some((Reason::Overridden, why.to_owned()));
        }
        Arc::new(plan)
    }

    /// Hands all steps that may run to their plugins.
    fn hand_out(&mut self, job: JobId) {
        let Some(run) = self.runs.get_mut(&job) else { return };
        let batches = run.take_ready();
        run.outstanding += batches.len();
        for (plugin, steps) in batches {
            self.effects.push(Effect::Apply { plugin, work: Work { job, steps } });
        }
    }
}
