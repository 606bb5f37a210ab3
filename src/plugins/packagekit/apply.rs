//! Steps: one transaction for all installs, one for updates, one for downgrades, one for removals; each step judged by
//! the package database afterwards, not by what the transaction said.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    client::{Call, Progress, TransactionError, is_full},
    database::{log_beyond, log_length},
    keeper::{Keeper, facts_now, installed_id},
    outlook::{Direction, simulate},
    wire,
};
use crate::{
    desired::{PackageEnsure, version_matches},
    model::{JobId, Name, PackageFacts, Reason, StepState},
    plan::{Action, PackageChange, PackageOp, Step, is_vital_package},
    plugins::{PluginEvent, Work},
};

/// The first wait for the package lock, and for packagekitd's return; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// No such wait is longer: whoever let the lock go should not be waited for much longer.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How often a transaction is begun again that packagekitd died in or that was stopped for another's sake.
const MOST_TRIES: u32 = 4;

/// Progress is told this often at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// The kinds of transaction, in their order. What comes in may take the place of what shall go, so removals are last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Install,
    Update,
    Downgrade,
    Remove,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Install, Self::Update, Self::Downgrade, Self::Remove];

    const fn of(op: &PackageOp) -> Self {
        match op {
            PackageOp::Install(_) => Self::Install,
            PackageOp::Update(_) => Self::Update,
            PackageOp::Downgrade(_) => Self::Downgrade,
            PackageOp::Remove(_) => Self::Remove,
        }
    }

    const fn direction(self) -> Direction {
        if matches!(self, Self::Remove) { Direction::Out } else { Direction::In }
    }
}

/// A step on its way.
#[derive(Debug, Clone)]
struct Target {
    step: Arc<Step>,
    key: Name,
    change: Arc<PackageChange>,
}

impl Target {
    /// As the step wants it.
    fn holds(&self, facts: &PackageFacts) -> bool {
        let spec = &self.change.spec;
        match spec.ensure {
            Some(PackageEnsure::Removed) => facts.installed.is_empty() && facts.halfway.is_empty(),
            Some(PackageEnsure::Installed) => {
                facts.is_installed()
                    && spec.version.as_deref().is_none_or(|wanted| version_matches(wanted, &facts.installed))
            }
            Some(PackageEnsure::Latest) => facts.is_installed() && !facts.update_available,
            None => true,
        }
    }
}

/// How a step ended.
struct Outcome {
    state: StepState,
    reason: Reason,
    message: String,
    retry: bool,
    wrote: bool,
}

impl Outcome {
    const fn done(wrote: bool) -> Self {
        Self { state: StepState::Done, reason: Reason::None, message: String::new(), retry: false, wrote }
    }

    const fn failed(reason: Reason, message: String, retry: bool) -> Self {
        Self { state: StepState::Failed, reason, message, retry, wrote: true }
    }
}

/// Tells of the steps of a job.
#[derive(Debug, Clone)]
struct Report {
    keeper: Arc<Keeper>,
    job: JobId,
}

impl Report {
    fn ended(&self, target: &Target, outcome: Outcome) {
        let Outcome { state, reason, message, retry, wrote } = outcome;
        let (job, step) = (self.job, target.step.id);
        self.keeper.events.send(PluginEvent::Step { job, step, state, reason, message, retry, wrote });
    }

    fn runs(&self, targets: &[Target], reason: Reason, message: &str) {
        for target in targets {
            let (job, step, message) = (self.job, target.step.id, message.to_owned());
            let state = StepState::Running;
            let event = PluginEvent::Step { job, step, state, reason, message, retry: false, wrote: false };
            self.keeper.events.send(event);
        }
    }

    fn progress(&self, targets: &[Target], progress: &Progress) {
        for target in targets {
            let (job, step, message) = (self.job, target.step.id, progress.doing.clone());
            self.keeper.events.send(PluginEvent::Progress { job, step, share: progress.share, message });
        }
    }
}

/// Carries out the steps, and returns when all have ended.
pub(super) async fn carry_out(keeper: Arc<Keeper>, work: Work) {
    let report = Report { keeper: keeper.clone(), job: work.job };
    let mut targets = Vec::with_capacity(work.steps.len());
    for step in work.steps {
        let Action::Package(key, op) = &step.action else {
            let event = PluginEvent::Step {
                job: work.job,
                step: step.id,
                state: StepState::Failed,
                reason: Reason::Internal,
                message: format!("packagekit has no {}", step.action.as_str()),
                retry: false,
                wrote: false,
            };
            keeper.events.send(event);
            continue;
        };
        let (key, change, kind) = (key.clone(), op.change().clone(), Kind::of(op));
        targets.push((kind, Target { step, key, change }));
    }
    let all: Vec<Target> = targets.iter().map(|(_, target)| target.clone()).collect();
    report.runs(&all, Reason::None, "");
    keeper.reread().await;
    for kind in Kind::ALL {
        let of_kind = targets.iter().filter(|(other, _)| *other == kind).map(|(_, target)| target.clone()).collect();
        together(&keeper, &report, kind, of_kind).await;
    }
}

/// Does all of one kind in one transaction; if that fails for some, each of those goes alone.
async fn together(keeper: &Arc<Keeper>, report: &Report, kind: Kind, targets: Vec<Target>) {
    // Somebody may have done it meanwhile, or an earlier transaction of ours.
    let (held, targets): (Vec<_>, Vec<_>) = targets.into_iter().partition(|target| holds(keeper, target));
    for target in held {
        report.ended(&target, Outcome::done(false));
    }
    if targets.is_empty() {
        return;
    }
    let alone = targets.len() == 1;
    let result = explained(keeper, attempt(keeper, report, kind, &targets)).await;
    keeper.reread().await;
    let (held, failed): (Vec<_>, Vec<_>) = targets.into_iter().partition(|target| holds(keeper, target));
    for target in held {
        report.ended(&target, Outcome::done(true));
    }
    let passing = matches!(&result, Err(error) if !is_about_packages(error));
    for target in failed {
        let mut result = result.clone();
        if !alone && !passing {
            result = explained(keeper, attempt(keeper, report, kind, std::slice::from_ref(&target))).await;
            keeper.reread().await;
        }
        let outcome = if holds(keeper, &target) { Outcome::done(true) } else { failure(keeper, &target, result) };
        report.ended(&target, outcome);
    }
}

/// Of an attempt that failed over a package, what dpkg had to say: that the disk is full PackageKit leaves out.
async fn explained(keeper: &Arc<Keeper>, attempt: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let length = log_length(&keeper.config.folders);
    let result = attempt.await;
    let Err(Failure::Of(TransactionError::Failed { reason: Reason::PackageScriptFailed, message, .. })) = &result
    else {
        return result;
    };
    let folders = keeper.config.folders.clone();
    let log = tokio::task::spawn_blocking(move || log_beyond(&folders, length)).await.ok().flatten();
    if log.is_some_and(|log| is_full(&log)) {
        let message = format!("no space left on device: {message}");
        return Err(Failure::Of(TransactionError::Failed { reason: Reason::NoSpace, message, retry: true }));
    }
    result
}

fn holds(keeper: &Keeper, target: &Target) -> bool {
    target.holds(&facts_now(keeper, &target.key, &target.change.spec))
}

/// Whether it may be the fault of one package, and another could do without it.
const fn is_about_packages(error: &Failure) -> bool {
    match error {
        Failure::WouldTake(..) => true,
        Failure::Of(error) => matches!(error, TransactionError::Failed { .. }),
        Failure::LockedFor(_) | Failure::Interrupted => false,
    }
}

/// Why a transaction did not come about.
#[derive(Debug, Clone)]
enum Failure {
    /// PackageKit said so.
    Of(TransactionError),
    /// It would have removed these, which the plan did not say.
    WouldTake(Vec<Name>, bool),
    /// The lock was not to be had for so long.
    LockedFor(Duration),
    /// dpkg was interrupted, and says that it is locked.
    Interrupted,
}

impl From<TransactionError> for Failure {
    fn from(error: TransactionError) -> Self {
        Self::Of(error)
    }
}

fn failure(keeper: &Keeper, target: &Target, result: Result<(), Failure>) -> Outcome {
    match result {
        Ok(()) => {
            let facts = facts_now(keeper, &target.key, &target.change.spec);
            let stands = match (facts.installed.as_str(), facts.halfway.as_str()) {
                ("", "") => "not installed".to_owned(),
                (version, "") => format!("installed in version {version}"),
                (version, halfway) => format!("{halfway} in version {version}"),
            };
            let text = format!("PackageKit says that it is done, but {} is {stands}", target.key);
            Outcome::failed(Reason::Differs, text, false)
        }
        Err(Failure::WouldTake(names, vital)) => {
            let reason = if vital { Reason::Protected } else { Reason::WouldRemoveOthers };
            let text = format!("by now {} would be removed too: plan again", names.join(", "));
            Outcome { wrote: false, ..Outcome::failed(reason, text, false) }
        }
        Err(Failure::LockedFor(time)) => {
            let text = format!("somebody held the package database for {} s", time.as_secs());
            Outcome { wrote: false, ..Outcome::failed(Reason::WaitingForPackageLock, text, true) }
        }
        Err(Failure::Interrupted) => {
            let text = "dpkg was interrupted in the middle of its work: run dpkg --configure -a".to_owned();
            Outcome::failed(Reason::PackageDatabaseBroken, text, false)
        }
        Err(Failure::Of(error)) => {
            let message = error.to_string();
            match error {
                TransactionError::Failed { reason, retry, .. } => Outcome::failed(reason, message, retry),
                TransactionError::Locked(_) => Outcome::failed(Reason::WaitingForPackageLock, message, true),
                TransactionError::Silent(_) => Outcome::failed(Reason::TimedOut, message, true),
                TransactionError::Away(_) | TransactionError::Died => {
                    Outcome::failed(Reason::BackendAway, message, true)
                }
                TransactionError::Cancelled => Outcome::failed(Reason::JobCancelled, message, true),
            }
        }
    }
}

/// Runs the transaction of these steps; waits for the lock, and begins again where packagekitd died or was told to stop.
async fn attempt(keeper: &Arc<Keeper>, report: &Report, kind: Kind, targets: &[Target]) -> Result<(), Failure> {
    let client = keeper.client()?;
    let begun = Instant::now();
    let mut wait = FIRST_WAIT;
    let mut tries = 0;
    loop {
        let open: Vec<Target> = targets.iter().filter(|target| !holds(keeper, target)).cloned().collect();
        let ids = ids(keeper, kind, &open);
        if ids.is_empty() {
            return Ok(());
        }
        let result = async {
            check(keeper, kind, &open, &ids).await?;
            let mut told: Option<Instant> = None;
            let mut locked = false;
            let ran = client.run(call(kind, &ids, &open), |progress| {
                if progress.locked != locked {
                    locked = progress.locked;
                    let (reason, text) = if locked {
                        (Reason::WaitingForPackageLock, "another program is at work in the package database")
                    } else {
                        (Reason::None, "")
                    };
                    report.runs(&open, reason, text);
                }
                if !locked && told.is_none_or(|told| told.elapsed() >= PROGRESS_EVERY) {
                    told = Some(Instant::now());
                    report.progress(&open, progress);
                }
            });
            let done = ran.await?;
            Ok::<_, Failure>(done)
        };
        let error = match result.await {
            Ok(done) => {
                keeper.state().mirror.restarts.extend(done.restarts);
                return Ok(());
            }
            Err(error) => error,
        };
        keeper.reread().await;
        if keeper.state().mirror.interrupted {
            return Err(Failure::Interrupted);
        }
        match &error {
            Failure::Of(TransactionError::Locked(message)) => {
                if begun.elapsed() >= keeper.config.lock_timeout {
                    return Err(Failure::LockedFor(begun.elapsed()));
                }
                report.runs(&open, Reason::WaitingForPackageLock, message);
            }
            Failure::Of(TransactionError::Died | TransactionError::Cancelled) if tries < MOST_TRIES => {
                tries += 1;
                report.runs(&open, Reason::None, "PackageKit did not get to its end; once more");
            }
            _ => return Err(error),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
        keeper.reread().await;
    }
}

/// PackageKit's ids of what the steps are about.
fn ids(keeper: &Keeper, kind: Kind, targets: &[Target]) -> Vec<String> {
    let installed = keeper.state().mirror.installed.clone();
    let id = |target: &Target| match kind {
        Kind::Remove => installed_id(&target.key, &target.change.spec, &installed),
        _ => Some(target.change.id.clone()).filter(|id| !id.is_empty()),
    };
    targets.iter().filter_map(id).collect()
}

fn call<'a>(kind: Kind, ids: &'a [String], targets: &[Target]) -> Call<'a> {
    let untrusted = targets.iter().all(|target| target.change.allow_untrusted);
    let trusted = if untrusted { 0 } else { wire::FLAG_ONLY_TRUSTED };
    match kind {
        Kind::Install => Call::Install(ids, trusted),
        Kind::Update => Call::Update(ids, trusted),
        Kind::Downgrade => Call::Install(ids, trusted | wire::FLAG_ALLOW_DOWNGRADE),
        Kind::Remove => Call::Remove(ids, 0),
    }
}

/// Simulates once more, right before: the machine may have changed since the plan, and what nobody agreed to must not
/// go. (apt removes what depends on a package whether or not it is told that it may.)
async fn check(keeper: &Keeper, kind: Kind, targets: &[Target], ids: &[String]) -> Result<(), Failure> {
    let client = keeper.client()?;
    let installed = keeper.state().mirror.installed.clone();
    let outlook = simulate(&client, kind.direction(), ids, &installed, true).await?;
    let agreed: BTreeSet<&Name> = targets.iter().flat_map(|target| &target.change.may_remove).collect();
    let vital: Vec<Name> = outlook.vital;
    if !vital.is_empty() {
        return Err(Failure::WouldTake(vital, true));
    }
    let more: Vec<Name> = outlook.removes.into_iter().filter(|name| !agreed.contains(name)).collect();
    if !more.is_empty() {
        return Err(Failure::WouldTake(more, false));
    }
    let own: Vec<Name> = targets
        .iter()
        .filter(|target| kind == Kind::Remove && is_vital_package(&target.key))
        .map(|target| target.key.clone())
        .collect();
    if own.is_empty() { Ok(()) } else { Err(Failure::WouldTake(own, true)) }
}
