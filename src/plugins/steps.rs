//! What all plugins do alike with the steps they are given: the order of a batch, what a step came to, and how that is
//! told.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::watch;

use super::{Events, PluginEvent, Work};
use crate::{
    model::{JobId, Reason, StepState},
    plan::{Step, StepId},
};

/// The least time between two reports of how far a step is: each is a signal.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) state: StepState,
    pub(super) reason: Reason,
    pub(super) message: String,
    pub(super) retry: bool,
    pub(super) wrote: bool,
}

impl Outcome {
    /// It holds: now that something was written, or already.
    pub(super) const fn done(wrote: bool) -> Self {
        Self { state: StepState::Done, reason: Reason::None, message: String::new(), retry: false, wrote }
    }

    /// It cannot be attempted.
    pub(super) const fn blocked(reason: Reason, message: String) -> Self {
        Self { state: StepState::Blocked, reason, message, retry: false, wrote: false }
    }

    /// It did not come to hold.
    pub(super) const fn failed(reason: Reason, message: String) -> Self {
        Self { state: StepState::Failed, reason, message, retry: false, wrote: false }
    }

    /// Something was written on the way.
    pub(super) const fn after_writing(mut self) -> Self {
        self.wrote = true;
        self
    }

    /// Trying again may help.
    pub(super) const fn worth_a_retry(mut self) -> Self {
        self.retry = true;
        self
    }
}

/// Tells where one step stands.
#[derive(Debug, Clone)]
pub(super) struct Report {
    events: Events,
    pub(super) job: JobId,
    pub(super) step: StepId,
}

impl Report {
    pub(super) const fn new(events: Events, job: JobId, step: StepId) -> Self {
        Self { events, job, step }
    }

    /// It is at that, and there is nothing to say of it.
    pub(super) fn stands(&self, state: StepState) {
        self.send(Outcome { state, ..Outcome::done(false) });
    }

    pub(super) fn send(&self, outcome: Outcome) {
        let Outcome { state, reason, message, retry, wrote } = outcome;
        let (job, step) = (self.job, self.step);
        self.events.send(PluginEvent::Step { job, step, state, reason, message, retry, wrote });
    }

    /// How much of it is done, 0 to 1, and what it is doing, for people. See [`paced`].
    pub(super) fn progress(&self, share: f64, message: String) {
        let (job, step) = (self.job, self.step);
        self.events.send(PluginEvent::Progress { job, step, share, message });
    }
}

/// Does work that says how far it is through the sender it is given, and tells what it says: the first at once, and then
/// what it said last as soon as another report is due, also where it says nothing more.
pub(super) async fn paced<T, W>(first: T, tell: impl Fn(T), work: impl FnOnce(watch::Sender<T>) -> W) -> W::Output
where
    T: Clone,
    W: Future,
{
    let (sender, mut said) = watch::channel(first);
    let telling = async {
        while said.changed().await.is_ok() {
            let last = said.borrow_and_update().clone();
            tell(last);
            tokio::time::sleep(PROGRESS_EVERY).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        biased;
        done = work(sender) => done,
        never = telling => never,
    }
}

/// Which steps of a batch have ended, and whether each was done.
pub(super) type Ended = Vec<(StepId, bool)>;

/// Has work done in a task of its own: what has begun is ended, whoever stops waiting for it.
pub(super) fn in_its_own_task(
    plugin: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) -> BoxFuture<'static, ()> {
    let task = tokio::spawn(work);
    async move {
        if let Err(error) = task.await {
            tracing::error!(plugin, "steps of {plugin}'s ended before their time: {error}");
        }
    }
    .boxed()
}

/// Carries out a batch, each step by itself as soon as those it waits for are done, and returns when all have ended.
pub(super) async fn carry_out_each<O>(events: Events, work: Work, operate: impl Fn(Arc<Step>, Report) -> O)
where
    O: Future<Output = Outcome> + Send + 'static,
{
    let alone = |(step, report): (Arc<Step>, Report)| one(step.clone(), report.clone(), operate(step, report));
    carry_out(events, work, |ready| ready.into_iter().map(alone).collect()).await;
}

/// One step from its start to its end, by what `operation` comes to.
pub(super) fn one(
    step: Arc<Step>,
    report: Report,
    operation: impl Future<Output = Outcome> + Send + 'static,
) -> BoxFuture<'static, Ended> {
    async move {
        report.stands(StepState::Running);
        let outcome = match &step.blocked {
            Some((reason, why)) => Outcome::blocked(*reason, why.clone()),
            None => operation.await,
        };
        let done = outcome.state == StepState::Done;
        report.send(outcome);
        vec![(step.id, done)]
    }
    .boxed()
}

/// Carries out a batch: `start` is given what may run now, and answers with what tells their ends. Returns when all
/// have ended.
pub(super) async fn carry_out(
    events: Events,
    work: Work,
    mut start: impl FnMut(Vec<(Arc<Step>, Report)>) -> Vec<BoxFuture<'static, Ended>>,
) {
    let mut waiting: BTreeMap<StepId, Arc<Step>> = work.steps.into_iter().map(|step| (step.id, step)).collect();
    let mut unsuccessful: BTreeSet<StepId> = BTreeSet::new();
    let mut under_way: BTreeSet<StepId> = BTreeSet::new();
    let mut running: FuturesUnordered<BoxFuture<'static, Ended>> = FuturesUnordered::new();
    let report = |step: StepId| Report::new(events.clone(), work.job, step);
    loop {
        // What waits for a failure cannot be attempted, and nor can what waits for that.
        while let Some((id, on)) = first_hopeless(&waiting, &unsuccessful) {
            waiting.remove(&id);
            unsuccessful.insert(id);
            let why = format!("it waits for step {on}, which did not succeed");
            report(id).send(Outcome::blocked(Reason::DependencyFailed, why));
        }
        let is_ready =
            |step: &&Arc<Step>| !step.after.iter().any(|on| waiting.contains_key(on) || under_way.contains(on));
        let ready: Vec<Arc<Step>> = waiting.values().filter(is_ready).cloned().collect();
        for step in &ready {
            waiting.remove(&step.id);
            under_way.insert(step.id);
        }
        if !ready.is_empty() {
            running.extend(start(ready.into_iter().map(|step| (step.clone(), report(step.id))).collect()));
        }
        let Some(ended) = running.next().await else {
            // Steps that wait for each other in a circle: no plan has them, and each must end all the same.
            for id in waiting.into_keys() {
                report(id).send(Outcome::failed(Reason::Internal, "it waits for itself".to_owned()));
            }
            return;
        };
        for (id, done) in ended {
            under_way.remove(&id);
            if !done {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

    use std::sync::Mutex;

    use tokio::sync::mpsc;

    use super::*;
    use crate::{model::ResourceId, plan::Action};

    fn step(id: StepId, after: &[StepId]) -> Arc<Step> {
        Arc::new(Step {
            id,
            subject: ResourceId::unit("a.service").into(),
            action: Action::ReloadSystemd,
            changes: Vec::new(),
            after: after.to_vec(),
            blocked: None,
            warnings: Vec::new(),
        })
    }

    /// Runs a batch in which the steps in `failing` fail: the order in which the others began, and how each ended.
    async fn ran(
        steps: &[(StepId, &[StepId])],
        failing: &[StepId],
    ) -> (Vec<StepId>, BTreeMap<StepId, (StepState, Reason)>) {
        let (sender, mut events) = mpsc::unbounded_channel();
        let begun = Arc::new(Mutex::new(Vec::new()));
        let work = Work { job: 7, steps: steps.iter().map(|(id, after)| step(*id, after)).collect() };
        let operate = |step: Arc<Step>, _| {
            let (begun, fails) = (begun.clone(), failing.contains(&step.id));
            async move {
                begun.lock().unwrap().push(step.id);
                if fails { Outcome::failed(Reason::Refused, String::new()) } else { Outcome::done(true) }
            }
        };
        carry_out_each(Events::new("test", sender), work, operate).await;
        let mut ended = BTreeMap::new();
        while let Ok((_, event)) = events.try_recv() {
            let PluginEvent::Step { job: 7, step, state, reason, .. } = event else { panic!("{event:?}") };
            if state.is_final() {
                assert_eq!(ended.insert(step, (state, reason)), None, "step {step} ended twice");
            }
        }
        (Arc::into_inner(begun).unwrap().into_inner().unwrap(), ended)
    }

    #[tokio::test]
    async fn each_step_waits_for_those_before_it() {
        let (begun, ended) = ran(&[(1, &[]), (2, &[1]), (3, &[2]), (4, &[1, 3])], &[]).await;
        assert_eq!(begun, [1, 2, 3, 4]);
        assert!(ended.values().all(|end| *end == (StepState::Done, Reason::None)), "{ended:?}");
    }

    #[tokio::test]
    async fn what_waits_for_a_failure_is_not_attempted_and_the_rest_goes_on() {
        let (begun, ended) = ran(&[(1, &[]), (2, &[]), (3, &[1]), (4, &[3]), (5, &[2])], &[1]).await;
        assert_eq!(begun, [1, 2, 5]);
        let blocked = (StepState::Blocked, Reason::DependencyFailed);
        assert_eq!((ended[&3], ended[&4]), (blocked, blocked));
        assert_eq!((ended[&1].0, ended[&5].0), (StepState::Failed, StepState::Done));
    }

    #[tokio::test]
    async fn steps_in_a_circle_end_all_the_same() {
        let (begun, ended) = ran(&[(1, &[2]), (2, &[1])], &[]).await;
        assert!(begun.is_empty());
        assert!(ended.values().all(|end| *end == (StepState::Failed, Reason::Internal)) && ended.len() == 2);
    }

    #[tokio::test]
    async fn the_first_progress_is_told_at_once_and_the_last_of_what_follows_it() {
        let told = Mutex::new(Vec::new());
        let heard = tokio::sync::Notify::new();
        let tell = |share: u32| {
            told.lock().unwrap().push(share);
            heard.notify_one();
        };
        let heard = &heard;
        let work = async |said: watch::Sender<u32>| {
            said.send_replace(1);
            heard.notified().await;
            said.send_replace(2);
            said.send_replace(3);
            // Nothing more is said, for as long as it takes.
            heard.notified().await;
            "done"
        };
        assert_eq!(paced(0, tell, work).await, "done");
        assert_eq!(told.into_inner().unwrap(), [1, 3]);
    }
}
