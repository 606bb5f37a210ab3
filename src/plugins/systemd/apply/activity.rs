//! Start, stop and restart of one unit: a job of systemd's, waited for by its signal, and what the unit came to.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};
use zbus::OwnedObjectPath;

use super::{Context, Outcome, Report};
use crate::{
    model::{Name, Reason, StepState},
    plugins::systemd::{call::CallError, entry::Seen, handle::News},
};

/// What a wait may take beyond the unit's own bound, for systemd to act on it.
const MARGIN: Duration = Duration::from_secs(5);

/// Bound of a wait for a unit that has none of its own.
const WITHOUT_BOUND: Duration = Duration::from_secs(15 * 60);

/// A unit that a step works on: pinned in the mirror, and its news, from before the first write.
struct Unit<'a> {
    context: &'a Context,
    name: &'a Name,
    news: mpsc::UnboundedReceiver<News>,
}

/// How a job ended.
enum End {
    /// systemd said so.
    Result(String),
    /// systemd was away meanwhile, and has no job for the unit now.
    Unseen,
    /// The bound was reached.
    TimedOut(Duration),
}

impl<'a> Unit<'a> {
    fn follow(context: &'a Context, name: &'a Name) -> Self {
        Self { context, name, news: context.handle.follow(name, Vec::new()) }
    }

    /// The unit as systemd's signals have it; the first time, as it was read for being followed.
    async fn glance(&self) -> Result<Seen, CallError> {
        self.context.handle.glance(self.name).await
    }

    /// The unit read anew; the model was told.
    async fn look(&self) -> Result<Seen, CallError> {
        self.context.handle.read(self.name).await
    }

    /// Queues a job and waits for its end. The news were followed before, so an end that comes before the reply with
    /// the job's path is not lost.
    async fn job(&mut self, method: &'static str, id: &str, limit: Duration) -> Result<End, CallError> {
        let called = self.context.handle.manager(method, &(id, "replace")).await;
        let job = called.and_then(|reply| Ok(reply.body().deserialize::<OwnedObjectPath>()?.to_string()));
        let result = job.as_ref().map_or_else(ToString::to_string, |_| "queued".to_owned());
        tracing::info!(unit = id, action = method, result, "{method} of {id}: {result}");
        let job = job?;
        let deadline = Instant::now() + limit;
        let mut was_away = false;
        let end = loop {
            match tokio::time::timeout_at(deadline, self.news.recv()).await {
                Err(_) => break End::TimedOut(limit),
                Ok(Some(News::JobRemoved(end))) if end.path == job => break End::Result(end.result),
                Ok(Some(News::Away)) => was_away = true,
                Ok(Some(News::Seen(seen))) if was_away && seen.facts.job.is_none() => break End::Unseen,
                Ok(Some(News::Seen(_) | News::JobRemoved(_))) => {}
                Ok(None) => return Err(CallError::Away("op-dbus is ending".to_owned())),
            }
        };
        let result = match &end {
            End::Result(result) => result,
            End::Unseen => "unseen",
            End::TimedOut(_) => "not ended in time",
        };
        tracing::info!(unit = id, action = method, job, result, "{method} of {id} ended: {result}");
        Ok(end)
    }

    /// Watches a started unit through the hold-down.
    async fn hold_down(&mut self, started: Seen, report: &Report) -> Result<Outcome, CallError> {
        report.stands(StepState::Verifying);
        let mut verdict = Fall::of(&started, &started);
        let deadline = Instant::now() + self.context.hold_down;
        let mut is_away = false;
        while verdict.is_none() {
            let news = if is_away {
                // The time runs on, but without systemd nothing can be said.
                self.news.recv().await
            } else {
                match tokio::time::timeout_at(deadline, self.news.recv()).await {
                    Ok(news) => news,
                    Err(_) => break,
                }
            };
            match news {
                Some(News::Seen(seen)) => {
                    is_away = false;
                    verdict = Fall::of(&started, &seen);
                }
                Some(News::Away) => is_away = true,
                Some(News::JobRemoved(_)) => {}
                None => return Err(CallError::Away("op-dbus is ending".to_owned())),
            }
        }
        let last = self.look().await?;
        // systemd shows a unit that it will restart as failed for a moment: the last look tells the two apart.
        let verdict = Fall::of(&started, &last).or(verdict);
        Ok(verdict.map_or_else(|| Outcome::done(true), |fall| fall.outcome(self.name, &last)))
    }
}

/// How a started unit fell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fall {
    /// It starts again and again.
    Loop,
    /// It ended and stays down.
    Ended,
    /// Somebody stops it.
    Stopped,
}

impl Fall {
    /// Whether the unit that was started as such fell since.
    fn of(started: &Seen, now: &Seen) -> Option<Self> {
        let facts = &now.facts;
        if facts.restarts > started.facts.restarts
            || facts.sub_state == "auto-restart"
            || facts.result == "start-limit-hit"
        {
            return Some(Self::Loop);
        }
        if facts.job.as_ref().is_some_and(|job| job.kind == "stop") {
            return Some(Self::Stopped);
        }
        matches!(facts.active_state.as_str(), "inactive" | "failed").then_some(Self::Ended)
    }

    fn outcome(self, name: &str, last: &Seen) -> Outcome {
        let how = ending(last);
        match self {
            Self::Loop => Outcome::failed(Reason::CrashLoop, format!("{name} starts and dies again and again: {how}")),
            Self::Ended => {
                Outcome::failed(Reason::JobFailed, format!("{name} started, and ended within the hold-down: {how}"))
            }
            Self::Stopped => {
                Outcome::failed(Reason::JobCancelled, format!("{name} started, and somebody else stopped it"))
                    .worth_a_retry()
            }
        }
        .after_writing()
    }
}

/// How a unit ended, in words.
fn ending(seen: &Seen) -> String {
    let exit = seen.exit.map(|exit| format!(", {exit}")).unwrap_or_default();
    format!("{} ({}), result {}{exit}", seen.facts.active_state, seen.facts.sub_state, seen.facts.result)
}

/// A bound of systemd's with the margin.
fn bound(usec: u64) -> Duration {
    if usec == u64::MAX { WITHOUT_BOUND } else { Duration::from_micros(usec) + MARGIN }
}

/// The unit is active as a start would make it.
fn is_up(seen: &Seen) -> bool {
    let leaving = seen.facts.job.as_ref().is_some_and(|job| job.kind == "stop");
    matches!(seen.facts.active_state.as_str(), "active" | "reloading" | "refreshing") && !leaving
}

/// The unit ran, or runs, as wanted.
fn holds(seen: &Seen) -> bool {
    is_up(seen) || (seen.facts.active_state == "inactive" && seen.facts.oneshot_succeeded)
}

/// Why a start need not be tried.
fn obstacle(name: &str, seen: &Seen) -> Option<Outcome> {
    let facts = &seen.facts;
    Some(match facts.load_state.as_str() {
        "not-found" => Outcome::blocked(Reason::UnitNotFound, format!("systemd knows no unit {name}")),
        "masked" => Outcome::blocked(Reason::UnitMasked, format!("{name} is masked")),
        "error" | "bad-setting" => Outcome::blocked(
            Reason::UnitBroken,
            format!("systemd cannot load {name} ({}): see its file {}", facts.load_state, facts.fragment_path),
        ),
        _ => return None,
    })
}

/// Starts a unit, unless it is up.
pub(super) async fn start(context: &Context, name: &Name, report: &Report) -> Result<Outcome, CallError> {
    let mut unit = Unit::follow(context, name);
    let seen = unit.glance().await?;
    if let Some(obstacle) = obstacle(name, &seen) {
        return Ok(obstacle);
    }
    if holds(&seen) {
        return Ok(Outcome::done(false));
    }
    let end = unit.job("StartUnit", &seen.facts.id, bound(seen.facts.start_timeout_usec)).await?;
    started(&mut unit, end, report).await
}

/// Restarts a unit, or starts it.
pub(super) async fn restart(context: &Context, name: &Name, report: &Report) -> Result<Outcome, CallError> {
    let mut unit = Unit::follow(context, name);
    let seen = unit.glance().await?;
    if let Some(obstacle) = obstacle(name, &seen) {
        return Ok(obstacle);
    }
    let both_ways = seen.facts.start_timeout_usec.saturating_add(stop_bound_usec(&seen));
    let end = unit.job("RestartUnit", &seen.facts.id, bound(both_ways)).await?;
    started(&mut unit, end, report).await
}

/// What a start came to, from the end of its job on.
async fn started(unit: &mut Unit<'_>, end: End, report: &Report) -> Result<Outcome, CallError> {
    let name = unit.name;
    // systemd tells what became of a unit before the end of its job, and lets a skipped unit go right after: a look
    // would load it anew, with no memory of that.
    let seen = unit.glance().await?;
    let failed =
        |reason, what: &str| Outcome::failed(reason, format!("{name} {what}: {}", ending(&seen))).after_writing();
    Ok(match end {
        End::TimedOut(limit) => failed(Reason::TimedOut, &format!("did not start within {limit:?}")),
        End::Result(result) if result == "canceled" => {
            failed(Reason::JobCancelled, "did not start, its job was cancelled by another").worth_a_retry()
        }
        End::Result(result) if result == "timeout" => failed(Reason::TimedOut, "did not start in time"),
        End::Result(result) if matches!(result.as_str(), "skipped" | "assert") => skipped(name),
        End::Result(result) if result == "failed" && seen.facts.result == "timeout" => {
            failed(Reason::TimedOut, "did not start in time")
        }
        End::Result(result) if result == "failed" && Fall::of(&seen, &seen) == Some(Fall::Loop) => {
            Fall::Loop.outcome(name, &seen)
        }
        End::Result(result) if result == "dependency" => {
            failed(Reason::JobFailed, "was not started because a unit that it needs failed")
        }
        End::Result(result) if result != "done" => failed(Reason::JobFailed, &format!("did not start ({result})")),
        End::Result(_) | End::Unseen => {
            if seen.facts.condition_unmet && !is_up(&seen) {
                skipped(name)
            } else if seen.facts.oneshot && holds(&seen) {
                Outcome::done(true)
            } else {
                unit.hold_down(seen, report).await?
            }
        }
    })
}

/// systemd's job is done, and did nothing.
fn skipped(name: &str) -> Outcome {
    Outcome::blocked(
        Reason::ConditionUnmet,
        format!("systemd skipped the start of {name}: a condition or assert of it is not met"),
    )
    .after_writing()
}

/// ExecStop= may take the unit's bound, and so may the processes once they are told to end.
fn stop_bound_usec(seen: &Seen) -> u64 {
    seen.stop_timeout_usec.saturating_mul(2)
}

/// Stops a unit, unless it is down.
pub(super) async fn stop(context: &Context, name: &Name) -> Result<Outcome, CallError> {
    let mut unit = Unit::follow(context, name);
    let seen = unit.glance().await?;
    let is_down = |seen: &Seen| matches!(seen.facts.active_state.as_str(), "inactive" | "failed");
    // A job in the queue would bring it up again.
    if is_down(&seen) && seen.facts.job.is_none() {
        return Ok(Outcome::done(false));
    }
    let end = match unit.job("StopUnit", &seen.facts.id, bound(stop_bound_usec(&seen))).await {
        Err(CallError::Refused { name, .. }) if name == "org.freedesktop.systemd1.NoSuchUnit" => {
            return Ok(Outcome::done(false));
        }
        end => end?,
    };
    let seen = unit.look().await?;
    if is_down(&seen) {
        return Ok(Outcome::done(true));
    }
    let failed =
        |reason, what: &str| Outcome::failed(reason, format!("{name} {what}: {}", ending(&seen))).after_writing();
    Ok(match end {
        End::TimedOut(limit) => failed(Reason::TimedOut, &format!("did not stop within {limit:?}")),
        End::Result(result) if result == "canceled" => {
            failed(Reason::JobCancelled, "did not stop, its job was cancelled by another").worth_a_retry()
        }
        End::Result(result) if result == "timeout" => failed(Reason::TimedOut, "did not stop in time"),
        End::Result(result) if result != "done" => failed(Reason::JobFailed, &format!("did not stop ({result})")),
        End::Result(_) | End::Unseen => failed(Reason::Differs, "stopped, and something started it again"),
    })
}
