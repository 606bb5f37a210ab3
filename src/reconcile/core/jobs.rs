//! Jobs: queued, run one at a time, finished, kept for a while.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Core, Effect, Notice, Now,
    drift::retry_wait,
    no_plan,
    run::{Run, RunStep, Stage},
};
use crate::{
    model::{
        JobFacts, JobId, JobKind, JobResult, JobState, Kind, OP_DBUS_UID, Reason, ResourceId, Status, StepFacts,
        StepState, Subject,
    },
    plan::{Action, Plan, Step, StepId, UnitOp, backends, object_away},
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
            self.start_job_at = None;
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

    fn change_job(&mut self, job: JobId, change: impl FnOnce(&mut JobFacts)) {
        if let Some(facts) = self.view.jobs.get(&job) {
            let mut facts = (**facts).clone();
            change(&mut facts);
            self.view.jobs.insert(job, Arc::new(facts));
        }
    }

    /// At op-dbus's own start: once the backends have answered, or have had their time.
    pub(super) fn start_first_job(&mut self) {
        let Some(at) = self.start_job_at else { return };
        let answered = self.backings.values().all(|backing| backing.answered);
        if answered || at <= self.now.boot_usec {
            self.start_job_at = None;
            self.forgive(None);
            self.enqueue(JobKind::Reconcile, None, Caller { uid: OP_DBUS_UID, ..Caller::default() });
        }
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
    fn show_steps(&mut self, job: JobId, changed: &[StepId]) {
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

    fn finish(&mut self, job: JobId) {
        let Some(run) = self.runs.remove(&job) else { return };
        self.queue.retain(|queued| *queued != job);
        if self.writer == Some(job) {
            self.writer = None;
        }
        let towards = run.is_towards();
        let (result, message) = if towards { self.outcome(&run) } else { lifecycle_outcome(&run) };
        let now = self.now.real_usec;
        self.change_job(job, |facts| {
            facts.state = JobState::Finished;
            facts.result = Some(result);
            facts.message.clone_from(&message);
            facts.progress = 1.0;
            facts.finished_usec = now;
            if facts.started_usec == 0 {
                facts.started_usec = now;
            }
        });
        self.state.jobs_total += 1;
        if !matches!(result, JobResult::Done | JobResult::Unchanged) {
            self.state.jobs_failed += 1;
        }
        self.state.last_job = Some(job);
        self.state.last_reconcile_usec = now;
        let generation = self.view.jobs.get(&job).map_or(0, |facts| facts.generation);
        let stopped = matches!(result, JobResult::Superseded | JobResult::Cancelled);
        if towards {
            let whole = run.scope.is_none();
            let current = !stopped && generation == self.wanted.generation;
            if whole && current {
                self.state.observed_generation = generation;
            }
            if whole {
                self.wanted.unpruned = if current { self.prune_again(&run) } else { None };
            }
            let owed = self.wanted.unpruned.is_some() || self.owes();
            // The job that brings about the last of what was owed completes the generation as well.
            if whole || (current && self.wanted.owed && !owed) {
                let complete = !stopped && !owed;
                self.effects.push(Effect::Finished { generation, result: result.as_str(), complete });
            }
            self.wanted.owed = owed;
        }
        self.effects.push(Effect::Notice(Notice::JobFinished { generation, job, result }));
        super::super::audit::job(generation, job, run.kind, &run.caller, result, &message);
        self.finished.push_back((self.now.boot_usec, job));
        for subject in run.subjects() {
            if let Subject::Resource(id) = subject {
                self.dirty.insert(id.clone());
            }
        }
    }

    /// When what could not be pruned is tried again: once its backend is back, or later where a removal met a passing
    /// fault; `None` = nothing is left.
    fn prune_again(&mut self, run: &Run) -> Option<u64> {
        let steps = || run.plan.steps.iter().zip(&run.steps);
        let unknown =
            |step: &Step| matches!(step.action, Action::Nothing) && matches!(step.subject, Subject::Plugin(_));
        if steps().any(|(step, _)| unknown(step)) {
            return Some(0);
        }
        let failed = steps().find_map(|(step, run)| match &step.subject {
            Subject::Resource(id) if run.retry && run.state == StepState::Failed => {
                self.wanted.desired.common(id).is_none().then_some(id)
            }
            _ => None,
        });
        self.wanted.prune_retries = if failed.is_some() { self.wanted.prune_retries.saturating_add(1) } else { 0 };
        failed.map(|id| self.now.boot_usec + retry_wait(id, self.wanted.prune_retries, &self.settings))
    }

    /// Whether a resource waits for a try that is made without anybody's asking: after a restart it must be made too.
    fn owes(&self) -> bool {
        self.tracks.values().any(|track| {
            let by_rights = [None, Some(Reason::ConditionUnmet), Some(Reason::ContainerStopped)];
            !by_rights.contains(&track.kept_back) || matches!(track.failure, Some((.., true)))
        })
    }

    /// How a job towards the document ended, judged by what is observed now and not by its steps alone.
    fn outcome(&mut self, run: &Run) -> (JobResult, String) {
        let scope: Vec<ResourceId> = match &run.scope {
            Some(scope) => scope.iter().cloned().collect(),
            None => self.wanted.desired.resources().collect(),
        };
        let stopped = run.ends_as;
        let mut bad = Vec::new();
        for id in &scope {
            self.settle_account(id, run, stopped.is_none());
            let assessment = crate::plan::assess(&self.wanted.desired, id, &self.view.observed, &self.inventory);
            let away = self.node_away(id).or_else(|| object_away(&self.view.observed, id));
            let mut standing_on = backends(&self.wanted.desired, id, &self.inventory).iter();
            let known = away.is_none() && standing_on.all(|plugin| self.view.observed.is_connected(plugin));
            let paused = self.tracks.get(id).is_some_and(|track| track.paused);
            let failure = self.tracks.get(id).and_then(|track| track.failure.clone());
            // The rows of Open vSwitch are as they were written, whether it works by them or hangs.
            let unapplied = matches!(failure, Some((_, Reason::SwitchNotAnswering, ..)));
            if !(known && !unapplied && (assessment.in_sync() || assessment.is_by_rights()) || paused) {
                let why = failure
                    .map(|(_, reason, message, _)| (reason, message))
                    .or(assessment.blocked)
                    .or(assessment.health)
                    .or(away)
                    .unwrap_or((if known { Reason::Differs } else { Reason::BackendAway }, String::new()));
                bad.push((id.clone(), why));
            }
            self.dirty.insert(id.clone());
        }
        if let Some(result) = stopped {
            let text = if result == JobResult::Superseded { "a newer document took over" } else { "cancelled" };
            return (result, text.to_owned());
        }
        let wrote = run.steps.iter().any(|step| step.wrote);
        let all = scope.len();
        // Removals by prune are no declared resources: their steps speak for them.
        let pruned = |step: &&Step| match &step.subject {
            Subject::Resource(id) => self.wanted.desired.common(id).is_none(),
            _ => matches!(step.action, Action::Nothing),
        };
        let unpruned = run
            .plan
            .steps
            .iter()
            .zip(&run.steps)
            .find(|(step, run)| pruned(&step.as_ref()) && run.state != StepState::Done)
            .map(|(step, run)| (step.subject.clone(), run.reason, run.message.clone()));
        if bad.is_empty() && unpruned.is_none() {
            let result = if wrote { JobResult::Done } else { JobResult::Unchanged };
            let text =
                if wrote { format!("{all} of {all} resources hold") } else { "nothing had to change".to_owned() };
            return (result, text);
        }
        let result = if bad.len() == all && !wrote && all > 0 || bad.len() == all && all == 1 {
            JobResult::Failed
        } else {
            JobResult::Partial
        };
        let first = bad
            .first()
            .map(|(id, (reason, message))| (Subject::Resource(id.clone()), *reason, message.clone()))
            .or(unpruned);
        let first = first.map_or_else(String::new, |(subject, reason, message)| {
            format!("; {subject}: {reason}{}{message}", if message.is_empty() { "" } else { ": " })
        });
        (result, format!("{} of {all} resources hold{first}", all - bad.len()))
    }

    /// Remembers how a job left one resource.
    fn settle_account(&mut self, id: &ResourceId, run: &Run, complete: bool) {
        let generation = self.wanted.generation;
        let subject = Subject::Resource(id.clone());
        let failed = run
            .about(&subject)
            .find(|(_, step)| matches!(step.state, StepState::Failed | StepState::Blocked))
            .map(|(step, run)| {
                let status = if run.state == StepState::Failed { Status::Failed } else { Status::Blocked };
                // Blocked at planning for a reason that the assessment gives anew each time is not remembered as a
                // failure. (That the caller's own unit is protected, it gives only on that caller's behalf.)
                let remembered = matches!(run.reason, Reason::DependencyFailed | Reason::Protected);
                let standing = matches!(step.action, Action::Nothing) && !remembered;
                (status, run.reason, run.message.clone(), run.retry, standing)
            });
        self.due.remove(id);
        self.held_up.remove(id);
        let Some(track) = self.tracks.get_mut(id) else { return };
        if complete {
            track.observed_generation = generation;
        }
        track.failure = None;
        track.kept_back = failed.as_ref().filter(|(.., standing)| *standing).map(|(_, reason, ..)| *reason);
        match failed {
            Some((_, Reason::ConditionUnmet, ..)) | None => track.retries = 0,
            Some((.., true)) => {}
            Some((status, reason, message, retry, false)) => {
                track.retries = if retry { track.retries.saturating_add(1) } else { 0 };
                track.failure = Some((status, reason, message, retry));
                if reason == Reason::DependencyFailed {
                    self.held_up.insert(id.clone());
                }
            }
        }
    }

    /// Drops jobs that are finished for long enough, or too many.
    pub(super) fn forget_old_jobs(&mut self) {
        let now = self.now.boot_usec;
        while let Some((at, job)) = self.finished.front().copied() {
            let old = at + self.settings.job_age <= now;
            if !old && self.finished.len() <= self.settings.jobs_kept {
                return;
            }
            self.finished.pop_front();
            self.view.jobs.remove(&job);
        }
    }
}

/// How a start, stop or restart ended: by its one step.
fn lifecycle_outcome(run: &Run) -> (JobResult, String) {
    if let Some(result) = run.ends_as {
        return (result, "cancelled".to_owned());
    }
    match run.steps.iter().find(|step| step.state != StepState::Done) {
        Some(step) => (JobResult::Failed, format!("{}: {}", step.reason, step.message)),
        None if run.steps.iter().any(|step| step.wrote) => (JobResult::Done, String::new()),
        None => (JobResult::Unchanged, "it was so already".to_owned()),
    }
}
