//! Carries out the steps of a job: writes them in guarded transactions, and sees to it that they came to hold.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    client::{Shared, State, Timing, TransactError},
    outcome::{self, Failure},
    transact::{self, View},
    verify::{self, Check},
};
use crate::{
    model::{JobId, Reason, ResourceId, StepState, host_side_names},
    plan::{Action, PortOp, Step, StepId},
    plugins::{Events, PluginEvent, Work},
};

/// Steps in one transaction: ovs-vswitchd is superlinear in the ports that come at once.
const CHUNK: usize = 500;

/// How often a step is computed anew because another client changed the same rows.
const TRIES: u32 = 5;

/// How long one waits for the update that made a guard fail; it nearly always came before the answer.
const UPDATE_WAIT: Duration = Duration::from_secs(1);

/// Names of steps in the comment of a transaction.
const NAMED_IN_COMMENT: usize = 20;

/// What carrying out needs; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Applier {
    pub(super) shared: Arc<Shared>,
    pub(super) events: Events,
    pub(super) machine_id: Arc<str>,
    pub(super) timing: Timing,
    /// One writes at a time: two jobs of ours would only make each other's guards fail.
    pub(super) writing: Arc<tokio::sync::Mutex<()>>,
}

/// A step on its way.
#[derive(Debug)]
struct Item {
    step: Arc<Step>,
    /// Its action; for a port that somebody else plugs under another spelling, on that port.
    action: Action,
    /// What follows once that has come to hold, in a transaction of its own.
    then: Option<Action>,
    /// Something was written for it.
    wrote: bool,
    /// The connection was lost over a transaction of it, which may have been carried out.
    in_doubt: bool,
    tries: u32,
    /// Until then somebody else may plug its port.
    settle: Instant,
    /// What `cur_cfg` must come to.
    applied: Option<i64>,
    /// Until then it must have come to hold.
    deadline: Instant,
}

impl Item {
    fn resource(&self) -> Option<ResourceId> {
        match &self.action {
            Action::Bridge(name, _) => Some(ResourceId::bridge(name.clone())),
            Action::Port(name, _) => Some(ResourceId::port(name.clone())),
            _ => None,
        }
    }
}

/// One call of `apply`.
struct Run {
    applier: Applier,
    job: JobId,
    changes: watch::Receiver<u64>,
    waiting: Vec<Item>,
    verifying: Vec<Item>,
    /// Steps that are over: whether well.
    finished: BTreeMap<StepId, bool>,
    /// Before that number is applied, or that instant has come, no further chunk is written.
    gate: Option<(i64, Instant)>,
}

impl Applier {
    /// Carries out and answers when each step has its final state.
    pub(super) async fn apply(self, work: Work) {
        let now = Instant::now();
        let mut steps = work.steps;
        steps.sort_by_key(|step| step.id);
        let settle = now + self.timing.settle;
        let item = |step: Arc<Step>| {
            let (action, then) = parts(&step.action);
            let (wrote, in_doubt, tries, applied) = (false, false, 0, None);
            Item { step, action, then, wrote, in_doubt, tries, settle, applied, deadline: now }
        };
        let mut run = Run {
            changes: self.shared.changes(),
            applier: self,
            job: work.job,
            waiting: steps.into_iter().map(item).collect(),
            verifying: Vec::new(),
            finished: BTreeMap::new(),
            gate: None,
        };
        run.finish_all().await;
    }
}

impl Run {
    async fn finish_all(&mut self) {
        loop {
            self.changes.borrow_and_update();
            self.verify();
            let ready = self.take_ready();
            if !ready.is_empty() {
                self.write_all(ready).await;
                continue;
            }
            let times =
                self.waiting.iter().map(|item| item.settle).chain(self.verifying.iter().map(|item| item.deadline));
            let next = times.chain(self.gate.map(|(_, until)| until)).filter(|time| *time > Instant::now()).min();
            match next {
                _ if self.waiting.is_empty() && self.verifying.is_empty() => return,
                // Something has come due since it was looked at.
                None => {}
                Some(next) => {
                    tokio::select! {
                        changed = self.changes.changed() => if changed.is_err() {
                            return;
                        },
                        () = tokio::time::sleep_until(next) => {}
                    }
                }
            }
        }
    }

    fn report(&self, step: StepId, state: StepState, wrote: bool, problem: Option<(Reason, String, bool)>) {
        let (reason, message, retry) = problem.unwrap_or((Reason::None, String::new(), false));
        self.applier.events.send(PluginEvent::Step { job: self.job, step, state, reason, message, retry, wrote });
    }

    fn finish(&mut self, item: &Item, problem: Option<(Reason, String, bool)>) {
        let state = match &problem {
            None => StepState::Done,
            Some((Reason::DependencyFailed, ..)) => StepState::Blocked,
            Some(_) => StepState::Failed,
        };
        self.finished.insert(item.step.id, problem.is_none());
        self.report(item.step.id, state, item.wrote, problem);
    }

    /// Finishes a step if one that it waits for failed, and gives it back otherwise.
    fn unless_blocked(&mut self, item: Item) -> Option<Item> {
        let failed = item.step.after.iter().find(|id| self.finished.get(id) == Some(&false)).copied();
        let Some(failed) = failed else { return Some(item) };
        self.finish(&item, Some((Reason::DependencyFailed, format!("step {failed} failed"), false)));
        None
    }

    /// Takes the steps that can be written now: at most a chunk, and none before the chunk before it was applied.
    fn take_ready(&mut self) -> Vec<Item> {
        let now = Instant::now();
        let shared = self.applier.shared.clone();
        let state = shared.state();
        if let Some((number, until)) = self.gate {
            if cur_cfg(&state) < number && now < until {
                return Vec::new();
            }
            self.gate = None;
        }
        let mut ready: Vec<Item> = Vec::new();
        let mut resources = BTreeSet::new();
        let waiting = std::mem::take(&mut self.waiting);
        let all: BTreeSet<StepId> = waiting.iter().map(|item| item.step.id).collect();
        let mut taken = BTreeSet::new();
        for item in waiting {
            let Some(mut item) = self.unless_blocked(item) else { continue };
            // Steps wait only for steps before them: nothing can wait in a circle.
            let mut before = item.step.after.iter().filter(|id| **id < item.step.id);
            let may_build = before.all(|id| !all.contains(id) || taken.contains(id));
            // Steps on one resource stay together.
            let has_room = ready.len() < CHUNK || item.resource().is_some_and(|id| resources.contains(&id));
            if may_build && has_room && is_ready(&mut item, &state, now) {
                taken.insert(item.step.id);
                resources.extend(item.resource());
                ready.push(item);
            } else {
                self.waiting.push(item);
            }
        }
        drop(state);
        for item in &ready {
            if item.tries == 0 && !item.wrote {
                self.report(item.step.id, StepState::Running, false, None);
            }
        }
        ready
    }

    async fn write_all(&mut self, batch: Vec<Item>) {
        let writing = self.applier.writing.clone();
        let _permit = writing.lock().await;
        let mut batches = VecDeque::from([batch]);
        while let Some(batch) = batches.pop_front() {
            for group in self.write(batch).await.into_iter().rev() {
                batches.push_front(group);
            }
        }
    }

    /// Writes a batch as one transaction. Answers with the batches to write instead, where the server refuses it for
    /// a reason that none of the operations gives.
    async fn write(&mut self, mut batch: Vec<Item>) -> Vec<Vec<Item>> {
        let mut tries = 0;
        loop {
            batch = batch.into_iter().filter_map(|item| self.unless_blocked(item)).collect();
            if batch.is_empty() {
                return Vec::new();
            }
            let Some((epoch, prepared, next_cfg)) = self.prepare(&batch) else {
                if batch.iter().any(|item| item.in_doubt) && self.connected().await {
                    continue;
                }
                self.fail_all(batch, &(Reason::BackendAway, "OVSDB is away".to_owned(), true));
                return Vec::new();
            };
            if prepared.actions.iter().any(Result::is_err) {
                // What was refused takes no part; those that wait for it must not either.
                batch = self.drop_refused(batch, prepared.actions);
                continue;
            }
            let changes: Vec<bool> = prepared.actions.into_iter().map(|action| action == Ok(true)).collect();
            if prepared.operations.is_empty() {
                self.written_all(batch, &changes, next_cfg);
                return Vec::new();
            }
            let json = prepared.operations.iter().map(|operation| operation.json.clone()).collect();
            let verdict = match self.applier.shared.transact(epoch, json).await {
                Ok(results) => outcome::judge(&results, &prepared.operations),
                Err(TransactError::Refused(error)) => Err(Failure { at: None, guard: false, error }),
                Err(TransactError::Lost { sent, why }) => {
                    tries += 1;
                    for (item, changes) in batch.iter_mut().zip(&changes) {
                        item.in_doubt |= sent && *changes;
                    }
                    if tries < TRIES && self.connected().await {
                        continue;
                    }
                    self.fail_all(batch, &(Reason::BackendAway, why, true));
                    return Vec::new();
                }
            };
            let failure = match verdict {
                Ok(number) => {
                    tracing::info!(job = self.job, steps = batch.len(), next_cfg = number, "committed to OVSDB");
                    for (item, changes) in batch.iter_mut().zip(&changes) {
                        item.wrote |= changes;
                    }
                    self.written_all(batch, &changes, number);
                    return Vec::new();
                }
                Err(failure) => failure,
            };
            let action = failure.at.and_then(|at| prepared.operations.get(at)).and_then(|operation| operation.action);
            if failure.guard {
                tries += 1;
                if tries < TRIES {
                    // An error is the time-out: then one looks again all the same.
                    let _ = tokio::time::timeout(UPDATE_WAIT, self.changes.changed()).await;
                    continue;
                }
            }
            match action {
                Some(at) if at < batch.len() => {
                    let item = batch.remove(at);
                    self.finish(&item, Some(failure.problem()));
                }
                _ => {
                    let groups = by_resource(batch);
                    if let [_, _, ..] = groups.as_slice() {
                        tracing::warn!(job = self.job, error = %failure.error, "a transaction failed as a whole: each resource goes alone");
                        return groups;
                    }
                    self.fail_all(groups.into_iter().flatten().collect(), &failure.problem());
                    return Vec::new();
                }
            }
        }
    }

    /// The transaction for a batch, from the rows as they are now; `None` while there is no connection. Also the
    /// current `next_cfg`.
    fn prepare(&mut self, batch: &[Item]) -> Option<(u64, transact::Prepared, i64)> {
        let shared = self.applier.shared.clone();
        let state = shared.state();
        self.changes.borrow_and_update();
        let actions = batch.iter().map(|item| &item.action);
        let prepared = transact::prepare(view(&state), &self.applier.machine_id, &self.comment(batch), actions);
        let next_cfg = state.cache.root().and_then(|root| root.int("next_cfg")).unwrap_or_default();
        Some((state.epoch?, prepared, next_cfg))
    }

    fn comment(&self, batch: &[Item]) -> String {
        let name = |item: &Item| item.resource().map(|id| format!("{} {}", item.action.as_str(), id.name));
        let mut names: Vec<String> = batch.iter().take(NAMED_IN_COMMENT).filter_map(name).collect();
        if batch.len() > NAMED_IN_COMMENT {
            names.push(format!("and {} more", batch.len() - NAMED_IN_COMMENT));
        }
        format!("op-dbus: job {}: {}", self.job, names.join(", "))
    }

    /// Waits for a connection, for as long as ovs-vswitchd would be waited for.
    async fn connected(&mut self) -> bool {
        let until = Instant::now() + self.applier.timing.applied;
        while self.applier.shared.state().epoch.is_none() {
            match tokio::time::timeout_at(until, self.changes.changed()).await {
                Ok(Ok(())) => {}
                _ => return false,
            }
        }
        true
    }

    fn drop_refused(&mut self, batch: Vec<Item>, actions: Vec<Result<bool, transact::Refusal>>) -> Vec<Item> {
        let mut left = Vec::new();
        for (item, action) in batch.into_iter().zip(actions) {
            match action {
                Ok(_) => left.push(item),
                Err(refusal) => {
                    self.finish(&item, Some((refusal.reason(), refusal.to_string(), refusal.may_retry())));
                }
            }
        }
        left
    }

    fn fail_all(&mut self, batch: Vec<Item>, problem: &(Reason, String, bool)) {
        for mut item in batch {
            item.wrote |= item.in_doubt;
            self.finish(&item, Some(problem.clone()));
        }
    }

    /// The steps' rows are as wanted: now they must be seen to work.
    fn written_all(&mut self, batch: Vec<Item>, changes: &[bool], number: i64) {
        let deadline = Instant::now() + self.applier.timing.applied;
        for (mut item, changed) in batch.into_iter().zip(changes) {
            // A lost transaction that turns out to have been carried out was not read back yet either.
            item.wrote |= item.in_doubt;
            item.applied = (*changed || item.in_doubt).then_some(number).or(item.applied);
            item.in_doubt = false;
            item.deadline = deadline;
            if item.wrote {
                self.report(item.step.id, StepState::Verifying, true, None);
            }
            self.verifying.push(item);
        }
        if changes.contains(&true) && !self.waiting.is_empty() {
            self.gate = Some((number, deadline));
        }
    }

    /// Looks at what was written: done, broken, not yet, or changed by another hand and to be written again.
    fn verify(&mut self) {
        let shared = self.applier.shared.clone();
        let state = shared.state();
        let now = Instant::now();
        for mut item in std::mem::take(&mut self.verifying) {
            let check = if state.epoch.is_none() {
                Check::NotYet(Reason::BackendAway, "OVSDB is away".to_owned())
            } else {
                verify::check(view(&state), &self.applier.machine_id, &item.action, item.applied)
            };
            match check {
                Check::Holds => match item.then.take() {
                    Some(next) => self.waiting.push(Item { action: next, applied: None, ..item }),
                    None => self.finish(&item, None),
                },
                Check::Broken(reason, message) => self.finish(&item, Some((reason, message, false))),
                Check::NotYet(..) if now < item.deadline => self.verifying.push(item),
                Check::NotYet(reason, message) => {
                    let retry = matches!(reason, Reason::BackendAway | Reason::SwitchNotAnswering);
                    self.finish(&item, Some((reason, message, retry)));
                }
                Check::Undone => {
                    item.tries += 1;
                    if item.tries > TRIES {
                        let message = "another client changes the same rows again and again".to_owned();
                        self.finish(&item, Some((Reason::Contended, message, true)));
                    } else {
                        item.settle = now + self.applier.timing.settle;
                        self.waiting.push(item);
                    }
                }
            }
        }
        self.waiting.sort_by_key(|item| item.step.id);
    }
}

/// What a step's action is carried out as, one after the other.
fn parts(action: &Action) -> (Action, Option<Action>) {
    match action {
        Action::Port(name, PortOp::Replug(spec)) => {
            let port = |op| Action::Port(name.clone(), op);
            (port(PortOp::Delete), Some(port(PortOp::Add(spec.clone()))))
        }
        action => (action.clone(), None),
    }
}

fn view(state: &State) -> View<'_> {
    View { cache: &state.cache, mirror: &state.mirror }
}

fn cur_cfg(state: &State) -> i64 {
    state.cache.root().and_then(|root| root.int("cur_cfg")).unwrap_or_default()
}

/// Whether a step need not wait for somebody else any more. Settles on the spelling of the port's name.
///
/// A row whose device is gone is one that outlived the container's last run: it is about to be plugged anew.
fn is_ready(item: &mut Item, state: &State, now: Instant) -> bool {
    let Action::Port(name, PortOp::Plug(spec)) = &item.step.action else { return true };
    let names = host_side_names(name);
    let plugged = |alive: bool| {
        names.iter().find(|name| state.mirror.port(name).is_some_and(|port| !(alive && port.device_gone())))
    };
    let late = now >= item.settle;
    let found = plugged(true).or_else(|| plugged(false).filter(|_| late));
    if found.is_none() && !late {
        return false;
    }
    let name = found.unwrap_or(name).clone();
    item.action = Action::Port(name, PortOp::Plug(spec.clone()));
    true
}

/// Parts a batch into the steps of each resource, in the order of their first steps.
fn by_resource(batch: Vec<Item>) -> Vec<Vec<Item>> {
    let mut groups: Vec<(Option<ResourceId>, Vec<Item>)> = Vec::new();
    for item in batch {
        let id = item.resource();
        match groups.iter_mut().find(|(of, _)| *of == id) {
            Some((_, group)) => group.push(item),
            None => groups.push((id, vec![item])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}
