//! Steps: calls as the plan names them, each until what it is for holds.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};

use super::{
    call::{CallError, To, typed_method},
    handle::{Handle, Heard, Known},
    read::paths_in,
};
use crate::{
    desired::{ObjectSpec, WaitFor},
    model::{Name, ObjectFacts, Reason, StepState},
    plan::{Action, ObjectCall, ObjectOp, Step, has_values, object_work},
    plugins::{
        Events, Work,
        steps::{self, Outcome, Report},
    },
};

/// How long a service may take to answer a call that changes something: what D-Bus libraries wait by default.
const SETTER_LIMIT: Duration = Duration::from_secs(25);

/// How long what a call is for may take to hold after the answer.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// How long a thing may be on its way: `NetworkManager` gives DHCP 45 s, and tries other ways after that.
const PASSING_LIMIT: Duration = Duration::from_secs(120);

/// First wait before an object that nothing is heard of is read again; doubles.
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// Longest such wait.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// What every step needs.
#[derive(Debug, Clone)]
pub(super) struct Context {
    /// The way to the mirror.
    pub(super) handle: Handle,
    /// The way to the model.
    pub(super) events: Events,
}

/// Carries out the steps, each as soon as those it waits for are done, and returns when all have ended.
pub(super) async fn carry_out(context: Context, work: Work) {
    let events = context.events.clone();
    steps::carry_out_each(events, work, |step, report| single(context.clone(), step, report)).await;
}

async fn single(context: Context, step: Arc<Step>, report: Report) -> Outcome {
    match &step.action {
        Action::Object(name, op) => operate(&Target::new(&context, name), op, &report).await,
        action => Outcome::failed(Reason::Internal, format!("no service has {}", action.as_str())),
    }
}

impl From<&CallError> for Outcome {
    fn from(error: &CallError) -> Self {
        Self { retry: error.may_retry(), ..Self::failed(error.reason(), error.to_string()) }
    }
}

/// Of an object that cannot be read.
fn away(reason: Reason, message: String) -> Outcome {
    let retry = matches!(reason, Reason::ServiceAway | Reason::BackendAway);
    Outcome { retry, ..Outcome::failed(reason, message) }
}

/// The object of a step, as it was declared when the step looked at it first.
struct Target<'a> {
    context: &'a Context,
    name: &'a Name,
    declared: OnceLock<Arc<ObjectSpec>>,
}

impl<'a> Target<'a> {
    const fn new(context: &'a Context, name: &'a Name) -> Self {
        Self { context, name, declared: OnceLock::new() }
    }

    /// Reads it; an object that cannot be read is no ground to write on, nor is one that a newer document has declared
    /// otherwise meanwhile.
    async fn read(&self) -> Result<Known, Outcome> {
        let known = self.context.handle.read(self.name).await.map_err(|error| Outcome::from(&error))?;
        if *self.declared.get_or_init(|| known.spec.clone()) != known.spec {
            return Err(Outcome::from(&CallError::Superseded(self.name.clone())));
        }
        match known.facts.away {
            Some((reason, why)) => Err(away(reason, why)),
            None => Ok(known),
        }
    }

    fn follow(&self) -> mpsc::Receiver<Heard> {
        self.context.handle.follow(self.name)
    }

    /// Of one that was there, and is not any more.
    fn gone(&self) -> Outcome {
        Outcome::failed(Reason::Differs, format!("{} was there, and is not there any more", self.name))
    }
}

async fn operate(target: &Target<'_>, op: &ObjectOp, report: &Report) -> Outcome {
    match op {
        ObjectOp::Create(call) => make(target, call, &|facts| facts.exists, report).await,
        ObjectOp::Remove(call) => make(target, call, &|facts| !facts.exists, report).await,
        ObjectOp::Set { call, properties } => make(target, call, &|facts| has_values(facts, properties), report).await,
        ObjectOp::Settle => settle(target, report).await,
    }
}

/// Sets the properties of an object that was just made, each by its call, and lets it arrive.
async fn settle(target: &Target<'_>, report: &Report) -> Outcome {
    let known = match target.read().await {
        Ok(known) => known,
        Err(outcome) => return outcome,
    };
    let work = match object_work(target.name, &known.spec, &known.facts) {
        Ok(work) => work,
        Err((reason, why)) => return Outcome::blocked(reason, why),
    };
    let mut wrote = false;
    for op in work {
        let outcome = match &op {
            ObjectOp::Set { call, properties } => {
                make(target, call, &|facts| has_values(facts, properties), report).await
            }
            ObjectOp::Settle => {
                report.stands(StepState::Verifying);
                arrive(target).await
            }
            ObjectOp::Create(_) | ObjectOp::Remove(_) => target.gone(),
        };
        wrote |= outcome.wrote;
        if outcome.state != StepState::Done {
            return Outcome { wrote, ..outcome };
        }
    }
    Outcome::done(wrote)
}

/// Waits until an object that is on its way is as it shall be, or on its way no longer.
async fn arrive(target: &Target<'_>) -> Outcome {
    let mut heard = target.follow();
    let mut looks = Looks { until: Instant::now() + PASSING_LIMIT, wait: FIRST_LOOK };
    loop {
        let known = match target.read().await {
            Ok(known) => known,
            Err(outcome) => return outcome,
        };
        match object_work(target.name, &known.spec, &known.facts) {
            Err((reason, why)) => return Outcome::blocked(reason, why),
            Ok(work) => match work.first() {
                None => return Outcome::done(false),
                Some(ObjectOp::Settle) => {}
                // Its way has led nowhere: the next try begins at the beginning.
                Some(ObjectOp::Create(_) | ObjectOp::Remove(_)) => return target.gone().worth_a_retry(),
                Some(ObjectOp::Set { .. }) => {
                    return Outcome::failed(Reason::Differs, format!("{} has come to be otherwise", target.name))
                        .worth_a_retry();
                }
            },
        }
        if !looks.next(&mut heard).await {
            let why = format!("{} is still on its way after {PASSING_LIMIT:?}", target.name);
            return Outcome::failed(Reason::TimedOut, why);
        }
    }
}

/// When an object is looked at: after each of its signals, and at growing intervals where none comes.
struct Looks {
    until: Instant,
    wait: Duration,
}

impl Looks {
    /// Waits for the next look; `false` where the time is up.
    async fn next(&mut self, heard: &mut mpsc::Receiver<Heard>) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        tokio::select! {
            Some(_) = heard.recv() => {}
            () = tokio::time::sleep(self.wait) => self.wait = (self.wait * 2).min(LAST_LOOK),
        }
        true
    }
}

/// Makes a call, unless what it is for holds already, and waits until it does.
async fn make(
    target: &Target<'_>,
    call: &ObjectCall,
    holds: &(dyn Fn(&ObjectFacts) -> bool + Sync),
    report: &Report,
) -> Outcome {
    let known = match target.read().await {
        Ok(known) => known,
        Err(outcome) => return outcome,
    };
    if holds(&known.facts) {
        return Outcome::done(false);
    }
    // Before the call, so that nothing that it causes is missed.
    let mut heard = target.follow();
    let to = To { service: &call.service, path: &call.path, activate: call.activate };
    let message = match typed_method(to, &call.interface, &call.method, &call.args, &call.signature) {
        Ok(message) => message,
        Err(error) => return Outcome::from(&error),
    };
    let called = known.link.call(message, SETTER_LIMIT).await;
    let result = called.as_ref().map_or_else(ToString::to_string, |_| "done".to_owned());
    tracing::debug!(object = &**target.name, call = call.busctl(), result, "a method of another service");
    let reply = match called {
        Ok(reply) => reply,
        // Whether it did anything before it failed nobody knows.
        Err(error) => return Outcome { wrote: !matches!(error, CallError::Refused { .. }), ..Outcome::from(&error) },
    };
    report.stands(StepState::Verifying);
    let until = Instant::now() + SETTLE_LIMIT;
    let waited = match call.wait_for {
        WaitFor::Property => Ok(()),
        WaitFor::Signal => wait_for_signal(&mut heard, until).await,
        WaitFor::Job => wait_for_job(&mut heard, paths_in(&reply).first(), until).await,
    };
    if let Err((reason, why)) = waited {
        return Outcome { wrote: true, ..Outcome::failed(reason, format!("{}: {why}", call.method)) };
    }
    Outcome { wrote: true, ..verify(target, call, holds, &mut heard, until).await }
}

/// Reads the object until what the call is for holds.
async fn verify(
    target: &Target<'_>,
    call: &ObjectCall,
    holds: &(dyn Fn(&ObjectFacts) -> bool + Sync),
    heard: &mut mpsc::Receiver<Heard>,
    until: Instant,
) -> Outcome {
    let mut looks = Looks { until, wait: FIRST_LOOK };
    loop {
        let known = match target.read().await {
            Ok(known) => known,
            Err(outcome) => return outcome,
        };
        if holds(&known.facts) {
            return Outcome::done(true);
        }
        if !looks.next(heard).await {
            let why = format!(
                "{} answered to {} that it was done, and does not show it after {SETTLE_LIMIT:?}",
                call.service, call.method
            );
            return Outcome::failed(Reason::Differs, why);
        }
    }
}

async fn wait_for_signal(heard: &mut mpsc::Receiver<Heard>, until: Instant) -> Result<(), (Reason, String)> {
    let signal = async {
        while let Some(what) = heard.recv().await {
            if what == Heard::Signal {
                return;
            }
        }
    };
    let late = |_| (Reason::TimedOut, format!("no signal came within {SETTLE_LIMIT:?}"));
    tokio::time::timeout_at(until, signal).await.map_err(late)
}

async fn wait_for_job(
    heard: &mut mpsc::Receiver<Heard>,
    job: Option<&String>,
    until: Instant,
) -> Result<(), (Reason, String)> {
    let Some(job) = job else {
        return Err((Reason::WrongType, "the answer names no job".to_owned()));
    };
    let end = async {
        loop {
            match heard.recv().await {
                Some(Heard::Job(path, result)) if path == *job => return result,
                Some(_) => {}
                None => return "op-dbus is ending".to_owned(),
            }
        }
    };
    match tokio::time::timeout_at(until, end).await {
        Err(_) => Err((Reason::TimedOut, format!("job {job} did not end within {SETTLE_LIMIT:?}"))),
        Ok(result) if result == "done" => Ok(()),
        Ok(result) => Err((Reason::JobFailed, format!("job {job} ended as {result}"))),
    }
}
