//! Containers made, set, and removed.

use super::{Context, Outcome, Report, forget::forget_unit, wanted};
use crate::{
    desired::ContainerSpec,
    model::{Name, Reason, StepState},
    plugins::machined::{
        call::{CallError, LONG, SHORT, machined},
        settings::{Found, Settings, store::StoreError},
    },
};

type Result<T> = std::result::Result<T, Outcome>;

/// Makes a container from an image, with its settings, and does not start it.
pub(super) async fn create(context: &Context, id: &Name, spec: &ContainerSpec, report: &Report) -> Outcome {
    try_create(context, id, spec, report).await.unwrap_or_else(|outcome| outcome)
}

async fn try_create(context: &Context, id: &Name, spec: &ContainerSpec, report: &Report) -> Result<Outcome> {
    let world = context.handle.read().await?;
    let (was_unfinished, there) = match read_settings(context, id).await {
        Found::Ours { settings, .. } => (settings.unfinished, Some(settings)),
        Found::Foreign => return Err(StoreError::Foreign(context.store.path(id)).into()),
        Found::None => (false, None),
    };
    let is_there = world.images.contains_key(&**id);
    if is_there && !was_unfinished {
        // Made by a try whose answer was lost, or by somebody else meanwhile: taken as it is.
        let wrote =
            write_settings(context, id, wanted::settings(id, spec, there.or_else(|| Some(Settings::default()))))
                .await?;
        context.handle.read().await?;
        return Ok(Outcome::done(wrote));
    }
    if world.machines.contains_key(&**id) {
        let why = format!("a container {id} runs that is made from no image of systemd-machined's");
        return Ok(Outcome::blocked(Reason::IdTaken, why));
    }
    let source = spec.from.as_ref().and_then(|from| from.template.as_deref().or(from.clone.as_deref()));
    let Some(source) = source else {
        return Ok(Outcome::blocked(Reason::SourceMissing, format!("nothing is said of what {id} is made from")));
    };
    // Settings that were left by a container of that name which is no more are not this one's.
    let settings = wanted::settings(id, spec, None);
    // systemd-machined copies to the image's own name: without this mark, half a copy would look like a container.
    write_settings(context, id, Settings { unfinished: true, ..settings.clone() }).await?;
    report.progress(0.0, format!("copying the image {source}"));
    match copy(context, source, id, was_unfinished).await {
        Ok(()) => {}
        Err(error) if error.may_retry() => {
            // Whether anything was copied is looked at by the next try; the mark stays until then.
            return Err(Outcome::from(error).after_writing());
        }
        Err(error) => {
            remove_settings(context, id).await?;
            return Err(error.into());
        }
    }
    report.stands(StepState::Verifying);
    write_settings(context, id, settings).await?;
    let world = context.handle.read().await?;
    if !world.images.contains_key(&**id) {
        let why = format!("the image {id} was made, and is gone again");
        return Ok(Outcome::failed(Reason::Differs, why).after_writing());
    }
    Ok(Outcome::done(true))
}

/// Copies an image. Half a copy that a former try left is removed first, but not while that try is still at it, which
/// systemd-machined tells by refusing a second copy of that name.
async fn copy(context: &Context, source: &str, id: &str, was_unfinished: bool) -> std::result::Result<(), CallError> {
    let connection = context.handle.connection()?;
    let arguments = (source, id, false);
    match machined(&connection, "CloneImage", &arguments, LONG).await {
        Err(error) if error.is_taken() && was_unfinished => {
            machined(&connection, "RemoveImage", &id, LONG).await?;
            // It took the settings along, and with them the mark.
            let mark = Settings { unfinished: true, ..Settings::default() };
            let written = write_settings(context, id, mark).await;
            if let Err(outcome) = written {
                return Err(CallError::Malformed(outcome.message));
            }
            machined(&connection, "CloneImage", &arguments, LONG).await?;
            Ok(())
        }
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

/// Writes the settings that the document names.
pub(super) async fn set(context: &Context, id: &Name, spec: &ContainerSpec) -> Outcome {
    let set = async {
        let there = match read_settings(context, id).await {
            Found::Ours { settings, .. } => settings,
            Found::None => Settings::default(),
            Found::Foreign => return Err(StoreError::Foreign(context.store.path(id)).into()),
        };
        let wrote = write_settings(context, id, wanted::settings(id, spec, Some(there))).await?;
        context.handle.read().await?;
        Ok(Outcome::done(wrote))
    };
    set.await.unwrap_or_else(|outcome: Outcome| outcome)
}

/// Makes an image one that is only cloned.
pub(super) async fn make_template(context: &Context, id: &Name) -> Outcome {
    let make = async {
        let connection = context.handle.connection()?;
        machined(&connection, "MarkImageReadOnly", &(&**id, true), SHORT).await?;
        context.handle.read().await?;
        Ok(Outcome::done(true))
    };
    make.await.unwrap_or_else(|error: CallError| error.into())
}

/// Removes a container that does not run: its image, op-dbus's settings of it, and what systemd keeps of its unit.
pub(super) async fn destroy(context: &Context, id: &Name, report: &Report) -> Outcome {
    try_destroy(context, id, report).await.unwrap_or_else(|outcome| outcome)
}

async fn try_destroy(context: &Context, id: &Name, report: &Report) -> Result<Outcome> {
    let connection = context.handle.connection()?;
    let world = context.handle.read().await?;
    if world.machines.contains_key(&**id) {
        return Ok(Outcome::failed(Reason::Locked, format!("container {id} still runs")).worth_a_retry());
    }
    let mut wrote = forget_unit(&connection, id).await?;
    if world.images.contains_key(&**id) {
        report.progress(0.0, "removing its image".to_owned());
        match machined(&connection, "RemoveImage", &&**id, LONG).await {
            Ok(_) => wrote = true,
            // By somebody else, meanwhile.
            Err(error) if error.is_unknown() => {}
            Err(error) => return Err(Outcome::from(error).after_writing()),
        }
    }
    report.stands(StepState::Verifying);
    wrote |= remove_settings(context, id).await?;
    let world = context.handle.read().await?;
    if world.images.contains_key(&**id) {
        let why = format!("systemd-machined removed the image {id}, and it is still there");
        return Ok(Outcome::failed(Reason::Differs, why).after_writing());
    }
    Ok(Outcome::done(wrote))
}

async fn read_settings(context: &Context, id: &str) -> Found {
    let (store, id) = (context.store.clone(), id.to_owned());
    tokio::task::spawn_blocking(move || store.read(&id)).await.unwrap_or(Found::Foreign)
}

async fn write_settings(context: &Context, id: &str, settings: Settings) -> Result<bool> {
    let (store, id) = (context.store.clone(), id.to_owned());
    on_disk(tokio::task::spawn_blocking(move || store.write(&id, &settings)).await)
}

async fn remove_settings(context: &Context, id: &str) -> Result<bool> {
    let (store, id) = (context.store.clone(), id.to_owned());
    on_disk(tokio::task::spawn_blocking(move || store.remove(&id)).await)
}

fn on_disk(ended: std::result::Result<std::result::Result<bool, StoreError>, tokio::task::JoinError>) -> Result<bool> {
    match ended {
        Ok(result) => Ok(result?),
        Err(error) => Err(Outcome::failed(Reason::Internal, error.to_string())),
    }
}
