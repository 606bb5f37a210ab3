//! How jobs end, what is remembered of that, and what is still owed.

use std::{collections::BTreeSet, sync::Arc};

use super::{Core, Effect, Notice, drift::retry_wait, run::Run, status::holds_by};
use crate::{
    model::{JobId, JobResult, JobState, Kind, Name, Reason, ResourceId, Status, StepState, Subject},
    plan::{Action, Assessment, Step, backends, object_away},
};

impl Core {
    /// A job is over: what it comes to, for its resources, its generation and whoever waits.
    pub(super) fn finish(&mut self, job: JobId) {
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
                self.wanted.held_bridges = if current { held_bridges(&run) } else { BTreeSet::new() };
            }
            self.release_held_up();
            let unpruned = self.wanted.unpruned.is_some() || !self.wanted.held_bridges.is_empty();
            let owed = unpruned || self.owes();
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
            let assessment = crate::plan::assess(&self.wanted.desired, id, &self.view.observed, &self.inventory);
            self.settle_account(id, run, stopped.is_none(), &assessment);
            let away = self.node_away(id).or_else(|| object_away(&self.view.observed, id));
            let mut standing_on = backends(&self.wanted.desired, id, &self.inventory).iter();
            let known = away.is_none() && standing_on.all(|plugin| self.view.observed.is_connected(plugin));
            let paused = self.tracks.get(id).is_some_and(|track| track.paused);
            let failure = self.tracks.get(id).and_then(|track| track.failure.clone());
            let stood = self.view.resources.get(id).map(Arc::as_ref);
            let holds = known && holds_by(&assessment, stood);
            if let Some(track) = self.tracks.get_mut(id).filter(|_| holds) {
                // It came to hold while the job ran that could not attempt it.
                track.kept_back = None;
            }
            if !(holds || known && assessment.is_by_rights() || paused) {
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
    fn settle_account(&mut self, id: &ResourceId, run: &Run, complete: bool, assessment: &Assessment) {
        let generation = self.wanted.generation;
        let subject = Subject::Resource(id.clone());
        let mut failed = run
            .about(&subject)
            .find(|(_, step)| matches!(step.state, StepState::Failed | StepState::Blocked))
            .map(|(step, run)| {
                let status = if run.state == StepState::Failed { Status::Failed } else { Status::Blocked };
                // Blocked at planning for a reason that the assessment gives anew each time is not remembered as a
                // failure. (That the caller's own unit is protected, it gives only on that caller's behalf.) Nor is what
                // a step found in its way, where the assessment has come to say the same.
                let remembered = matches!(run.reason, Reason::DependencyFailed | Reason::Protected);
                let planned = matches!(step.action, Action::Nothing) && !remembered;
                let same = assessment.blocked.as_ref().is_some_and(|(reason, _)| *reason == run.reason);
                let standing = planned || (same && !run.retry);
                (status, run.reason, run.message.clone(), run.retry, standing)
            });
        if let Some(failed) = failed.as_mut().filter(|(_, reason, ..)| *reason == Reason::UnitNotFound)
            && let Some(package) = self.awaited_package(id, assessment)
        {
            // It is not there because its package did not come.
            let message = format!("waits for {package}, which did not come to hold");
            *failed = (Status::Blocked, Reason::DependencyFailed, message, failed.3, false);
        }
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

/// The bridges that a whole job did not prune because others have ports on them.
fn held_bridges(run: &Run) -> BTreeSet<Name> {
    let steps = run.plan.steps.iter().zip(&run.steps);
    let held = steps.filter(|(_, run)| run.state == StepState::Blocked && run.reason == Reason::ForeignPorts);
    held.filter_map(|(step, _)| match &step.subject {
        Subject::Resource(id) if id.kind == Kind::Bridge => Some(id.name.clone()),
        _ => None,
    })
    .collect()
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
