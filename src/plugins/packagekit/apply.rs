//! Steps: one transaction for all installs, one for updates, one for downgrades, one for removals; each step judged by
//! the package database afterwards, not by what the transaction said.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    client::{Call, Progress, TransactionError, is_full},
    database::{complaint, log_beyond, log_length},
    keeper::{Keeper, facts_now, installed_id},
    outlook::{Direction, simulate},
    wire,
};
use crate::{
    desired::{PackageEnsure, version_matches},
    model::{Name, PackageFacts, Reason, StepState},
    plan::{Action, PackageChange, PackageOp, is_vital_package},
    plugins::{
        Work,
        steps::{Outcome, Report, paced},
    },
};

/// The first wait for the package lock, and for packagekitd's return; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// No such wait is longer: whoever let the lock go should not be waited for much longer.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How often a transaction is begun again that packagekitd died in or that was stopped for another's sake.
const MOST_TRIES: u32 = 4;

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
    report: Report,
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

/// Tells of steps that run together, and what they wait for if so.
fn run(targets: &[Target], reason: Reason, message: &str) {
    for target in targets {
        let message = message.to_owned();
        target.report.send(Outcome { state: StepState::Running, reason, message, ..Outcome::done(false) });
    }
}

/// Carries out the steps, and returns when all have ended.
pub(super) async fn carry_out(keeper: Arc<Keeper>, work: Work) {
    let mut targets = Vec::with_capacity(work.steps.len());
    for step in work.steps {
        let report = Report::new(keeper.events.clone(), work.job, step.id);
        let Action::Package(key, op) = &step.action else {
            let why = format!("packagekit has no {}", step.action.as_str());
            report.send(Outcome::failed(Reason::Internal, why));
            continue;
        };
        let (key, change, kind) = (key.clone(), op.change().clone(), Kind::of(op));
        targets.push((kind, Target { report, key, change }));
    }
    let all: Vec<Target> = targets.iter().map(|(_, target)| target.clone()).collect();
    run(&all, Reason::None, "");
    keeper.reread().await;
    for kind in Kind::ALL {
        let of_kind = targets.iter().filter(|(other, _)| *other == kind).map(|(_, target)| target.clone()).collect();
        together(&keeper, kind, of_kind).await;
    }
}

/// Does all of one kind in one transaction; if that fails for some, each of those goes alone.
async fn together(keeper: &Arc<Keeper>, kind: Kind, targets: Vec<Target>) {
    // Somebody may have done it meanwhile, or an earlier transaction of ours.
    let (held, targets): (Vec<_>, Vec<_>) = targets.into_iter().partition(|target| holds(keeper, target));
    for target in held {
        target.report.send(Outcome::done(false));
    }
    if targets.is_empty() {
        return;
    }
    let alone = targets.len() == 1;
    let result = explained(keeper, attempt(keeper, kind, &targets)).await;
    keeper.reread().await;
    let (held, failed): (Vec<_>, Vec<_>) = targets.into_iter().partition(|target| holds(keeper, target));
    for target in held {
        target.report.send(Outcome::done(true));
    }
    let passing = matches!(&result, Err(error) if !is_about_packages(error));
    for target in failed {
        let mut result = result.clone();
        if !alone && !passing {
            result = explained(keeper, attempt(keeper, kind, std::slice::from_ref(&target))).await;
            keeper.reread().await;
        }
        let outcome = if holds(keeper, &target) { Outcome::done(true) } else { failure(keeper, &target, result) };
        target.report.send(outcome);
    }
}

/// Of an attempt that failed over a package, what dpkg had to say: PackageKit leaves most of it out, and where dpkg ended
/// before it was listened to, all.
async fn explained(keeper: &Arc<Keeper>, attempt: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let length = log_length(&keeper.config.folders);
    let error = match attempt.await {
        Err(Failure::Of(TransactionError::Failed { reason: Reason::PackageScriptFailed, message, .. })) => message,
        result => return result,
    };
    let folders = keeper.config.folders.clone();
    let log =
        tokio::task::spawn_blocking(move || log_beyond(&folders, length)).await.ok().flatten().unwrap_or_default();
    let is_full = is_full(&log);
    Err(Failure::Of(TransactionError::Failed {
        reason: if is_full { Reason::NoSpace } else { Reason::PackageScriptFailed },
        message: complaint(&log).unwrap_or(error),
        retry: is_full,
    }))
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
            Outcome::failed(Reason::Differs, text).after_writing()
        }
        Err(Failure::WouldTake(names, vital)) => {
            let reason = if vital { Reason::Protected } else { Reason::WouldRemoveOthers };
            let text = format!("by now {} would be removed too: plan again", names.join(", "));
            Outcome::failed(reason, text)
        }
        Err(Failure::LockedFor(time)) => {
            let text = format!("somebody held the package database for {} s", time.as_secs());
            Outcome::failed(Reason::WaitingForPackageLock, text).worth_a_retry()
        }
        Err(Failure::Interrupted) => {
            let text = "dpkg was interrupted in the middle of its work: run dpkg --configure -a".to_owned();
            Outcome::failed(Reason::PackageDatabaseBroken, text).after_writing()
        }
        Err(Failure::Of(error)) => {
            let (reason, retry) = match &error {
                TransactionError::Failed { reason, retry, .. } => (*reason, *retry),
                TransactionError::Locked(_) | TransactionError::Queued => (Reason::WaitingForPackageLock, true),
                TransactionError::Silent(_) => (Reason::TimedOut, true),
                TransactionError::Away(_) | TransactionError::Died => (Reason::BackendAway, true),
                TransactionError::Cancelled => (Reason::JobCancelled, true),
            };
            Outcome { retry, ..Outcome::failed(reason, error.to_string()).after_writing() }
        }
    }
}

/// Runs the transaction of these steps; waits for the lock, and begins again where packagekitd died or was told to stop.
async fn attempt(keeper: &Arc<Keeper>, kind: Kind, targets: &[Target]) -> Result<(), Failure> {
    let client = keeper.client()?;
    let begun = Instant::now();
    let mut wait = FIRST_WAIT;
    let mut tries = 0;
    loop {
        let open: &[Target] = &targets.iter().filter(|target| !holds(keeper, target)).cloned().collect::<Vec<_>>();
        let ids = ids(keeper, kind, open);
        if ids.is_empty() {
            return Ok(());
        }
        let result = async {
            check(keeper, kind, open, &ids).await?;
            let tell = |progress: Progress| {
                if !progress.locked {
                    for target in open {
                        target.report.progress(progress.share, progress.doing.clone());
                    }
                }
            };
            let work = |said: watch::Sender<Progress>| {
                client.run(call(kind, &ids, open), move |progress| {
                    let was = said.send_replace(progress.clone());
                    if progress.locked != was.locked {
                        let (reason, text) = if progress.locked {
                            (Reason::WaitingForPackageLock, "another program is at work in the package database")
                        } else {
                            (Reason::None, "")
                        };
                        run(open, reason, text);
                    }
                })
            };
            let done = paced(Progress::default(), tell, work).await?;
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
            Failure::Of(locked @ (TransactionError::Locked(_) | TransactionError::Queued)) => {
                if begun.elapsed() >= keeper.config.lock_timeout {
                    return Err(Failure::LockedFor(begun.elapsed()));
                }
                run(open, Reason::WaitingForPackageLock, &locked.to_string());
            }
            Failure::Of(TransactionError::Died | TransactionError::Cancelled) if tries < MOST_TRIES => {
                tries += 1;
                run(open, Reason::None, "PackageKit did not get to its end; once more");
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
