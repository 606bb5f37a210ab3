//! Unit files: unmask, disable, enable, mask, each for all units at once. The reload is a step of its own.

use futures::future::join_all;
use tokio::sync::mpsc;
use zbus::Message;

use super::{Context, Outcome, Report};
use crate::{
    model::{Name, Reason, StepState, UnitFacts},
    plan::{Action, StepId, UnitOp},
    plugins::systemd::{
        call::{CallError, manager},
        entry::Seen,
        handle::News,
        pattern::template_of,
    },
};

/// What systemd says it changed: kind, path, and what a link at that path points to.
type Changes = Vec<(String, String, String)>;

/// One unit on the way.
struct Target {
    report: Report,
    name: Name,
    unmask: bool,
    enable: Option<bool>,
    mask: bool,
    /// Its facts as of the last look.
    facts: UnitFacts,
    wrote: bool,
    /// Set once nothing more is to be done.
    outcome: Option<Outcome>,
    /// Keeps it mirrored meanwhile.
    _pin: mpsc::UnboundedReceiver<News>,
}

/// Enabled for good.
fn is_enabled(facts: &UnitFacts) -> bool {
    match facts.unit_file_state.as_str() {
        "enabled" => true,
        "linked" | "static" | "alias" => facts.has_wants_link,
        _ => false,
    }
}

fn is_masked(facts: &UnitFacts) -> bool {
    facts.unit_file_state.starts_with("masked")
}

/// Changes the files of these units; returns which steps succeeded.
pub(super) async fn change(context: Context, steps: Vec<(Name, Action, Report)>) -> Vec<(StepId, bool)> {
    let mut targets: Vec<Target> = steps
        .into_iter()
        .filter_map(|(name, action, report)| {
            let Action::Unit(_, UnitOp::Files { unmask, enable, mask }) = action else { return None };
            report.stands(StepState::Running);
            let pin = context.handle.follow(&name, Vec::new());
            let facts = UnitFacts::default();
            Some(Target { report, name, unmask, enable, mask, facts, wrote: false, outcome: None, _pin: pin })
        })
        .collect();

    let seen = join_all(targets.iter().map(|target| context.handle.glance(&target.name))).await;
    take(&mut targets, seen);
    for runtime in [false, true] {
        let state = if runtime { "masked-runtime" } else { "masked" };
        let wants = |target: &Target| target.unmask && target.facts.unit_file_state == state;
        write(&context, &mut targets, "UnmaskUnitFiles", wants, |units| manager("UnmaskUnitFiles", &(units, runtime)))
            .await;
    }
    let wants = |target: &Target| target.enable == Some(false) && is_enabled(&target.facts);
    write(&context, &mut targets, "DisableUnitFiles", wants, |units| manager("DisableUnitFiles", &(units, false)))
        .await;

    enable(&context, &mut targets).await;

    for target in targets.iter_mut().filter(|target| target.mask && target.outcome.is_none()) {
        if target.facts.unit_file_state != "masked" && target.facts.fragment_path.starts_with("/etc/") {
            target.outcome = Some(cannot_mask(&target.name, &target.facts.fragment_path));
        }
    }
    let wants = |target: &Target| target.mask && target.facts.unit_file_state != "masked";
    // Without force: with it, a link that somebody made to a file of his own would be lost.
    write(&context, &mut targets, "MaskUnitFiles", wants, |units| manager("MaskUnitFiles", &(units, false, false)))
        .await;

    look(&context, &mut targets).await;
    targets.into_iter().map(finish).collect()
}

/// Enables those that are not, each in the way its kind of unit file allows.
async fn enable(context: &Context, targets: &mut [Target]) {
    for target in targets.iter_mut().filter(|target| target.enable == Some(true) && target.outcome.is_none()) {
        target.outcome = cannot_enable(&target.name, &target.facts);
    }
    let wants = |target: &Target| target.enable == Some(true) && !is_enabled(&target.facts);
    // `enabled` by force would take over links of other units.
    let installs = |target: &Target| wants(target) && target.facts.unit_file_state != "static";
    write(context, targets, "EnableUnitFiles", installs, |units| manager("EnableUnitFiles", &(units, false, false)))
        .await;
    // What has no [Install] section says so by its state, or by not having changed it.
    write(context, targets, "AddDependencyUnitFiles", wants, |units| {
        manager("AddDependencyUnitFiles", &(units, context.default_target.as_str(), "Wants", false, true))
    })
    .await;
}

fn cannot_enable(name: &str, facts: &UnitFacts) -> Option<Outcome> {
    if is_enabled(facts) {
        return None;
    }
    Some(match facts.unit_file_state.as_str() {
        "" => Outcome::blocked(Reason::UnitNotFound, format!("there is no unit file of {name}")),
        "masked" | "masked-runtime" => {
            Outcome::blocked(Reason::UnitMasked, format!("{name} is masked and cannot be enabled"))
        }
        state @ ("indirect" | "generated" | "transient" | "bad") => {
            Outcome::blocked(Reason::NotEnableable, format!("{name} is {state}: systemd cannot enable it by itself"))
        }
        _ => return None,
    })
}

fn cannot_mask(name: &str, file: &str) -> Outcome {
    Outcome::blocked(Reason::CannotMask, format!("the file of {name} lies where the mask would be: {file}"))
}

/// Reads all of them anew.
async fn look(context: &Context, targets: &mut [Target]) {
    let seen = join_all(targets.iter().map(|target| context.handle.read(&target.name))).await;
    take(targets, seen);
}

fn take(targets: &mut [Target], seen: Vec<Result<Seen, CallError>>) {
    for (target, seen) in targets.iter_mut().zip(seen) {
        match seen {
            Ok(seen) => target.facts = seen.facts,
            Err(error) if target.outcome.is_none() => target.outcome = Some(error.into()),
            Err(_) => {}
        }
    }
}

/// Calls a method for all that want it: for all at once, and if systemd refuses that, for each alone. Looks at them
/// afterwards.
async fn write(
    context: &Context,
    targets: &mut [Target],
    method: &'static str,
    wants: impl Fn(&Target) -> bool,
    call: impl Fn(&[&str]) -> Result<Message, CallError>,
) {
    let chosen: Vec<&mut Target> =
        targets.iter_mut().filter(|target| target.outcome.is_none() && wants(target)).collect();
    if chosen.is_empty() {
        return;
    }
    let ids: Vec<String> = chosen.iter().map(|target| target.facts.id.clone()).collect();
    let units: Vec<&str> = ids.iter().map(String::as_str).collect();
    match put(context, method, &units, &call).await {
        Ok(changes) => chosen.into_iter().for_each(|target| target.note(&changes)),
        Err(error) if chosen.len() == 1 => chosen.into_iter().for_each(|target| target.refuse(&error)),
        Err(_) => {
            for target in chosen {
                let id = target.facts.id.clone();
                match put(context, method, &[&id], &call).await {
                    Ok(changes) => target.note(&changes),
                    Err(error) => target.refuse(&error),
                }
            }
        }
    }
    look(context, targets).await;
}

async fn put(
    context: &Context,
    method: &'static str,
    units: &[&str],
    call: &impl Fn(&[&str]) -> Result<Message, CallError>,
) -> Result<Changes, CallError> {
    let called = async {
        let reply = context.handle.send(call(units)?).await?;
        changes_of(method, &reply)
    };
    let called = called.await;
    let result = match &called {
        Ok(changes) => format!("{} changes", changes.len()),
        Err(error) => error.to_string(),
    };
    for unit in units {
        tracing::info!(unit, action = method, result, "{method} of {unit}: {result}");
    }
    called
}

fn changes_of(method: &str, reply: &Message) -> Result<Changes, CallError> {
    let body = reply.body();
    if method == "EnableUnitFiles" {
        // Whether any of the units carries install information tells nothing of a single one: their states do.
        let (_, changes): (bool, Changes) = body.deserialize()?;
        return Ok(changes);
    }
    Ok(body.deserialize()?)
}

impl Target {
    /// Whether any of these changes is of this unit.
    fn note(&mut self, changes: &Changes) {
        let id = self.facts.id.as_str();
        let template = template_of(id);
        let is_own = |path: &str| {
            let file = path.rsplit('/').next().unwrap_or(path);
            file == id || template.as_deref() == Some(file)
        };
        self.wrote |= changes.iter().any(|(_, path, points_to)| is_own(path) || is_own(points_to));
    }

    fn refuse(&mut self, error: &CallError) {
        let exists = matches!(error, CallError::Refused { name, .. }
            if matches!(name.as_str(), "org.freedesktop.DBus.Error.FileExists" | "System.Error.EEXIST"));
        self.outcome = Some(if exists && self.mask {
            cannot_mask(&self.name, &self.facts.fragment_path)
        } else {
            error.clone().into()
        });
    }
}

/// Judges by what was seen last.
fn finish(target: Target) -> (StepId, bool) {
    let Target { report, name, unmask, enable, mask, facts, wrote, outcome, .. } = target;
    let state = &facts.unit_file_state;
    let wrong = if unmask && is_masked(&facts) {
        Some("still masked")
    } else if mask && state != "masked" {
        Some("not masked")
    } else if enable.is_some_and(|wanted| wanted && !is_enabled(&facts) && !mask) {
        Some("not enabled")
    } else if enable.is_some_and(|wanted| !wanted && is_enabled(&facts)) {
        Some("still enabled")
    } else {
        None
    };
    let outcome = outcome.unwrap_or_else(|| match wrong {
        Some(wrong) => Outcome::failed(Reason::Differs, format!("{name} is {wrong}: systemd says {state:?}")),
        None => Outcome::done(false),
    });
    let succeeded = outcome.state == StepState::Done;
    let step = report.step;
    report.send(Outcome { wrote, ..outcome });
    (step, succeeded)
}
