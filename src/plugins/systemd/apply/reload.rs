//! One daemon-reload.

use std::time::Duration;

use super::Outcome;
use crate::plugins::systemd::call::{CallError, manager};

/// systemd answers a reload when it is over, which takes seconds on a large machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Has systemd read its unit files again. systemd's answer comes after `Reloading(false)`; the step ends once the
/// mirror has read everything anew, so that what follows is decided with what is true then.
pub(super) async fn reload(context: &super::Context) -> Outcome {
    let call = async { context.handle.call(manager("Reload", &())?, LIMIT).await };
    let called = call.await;
    let result = called.as_ref().map_or_else(ToString::to_string, |_| "done".to_owned());
    tracing::info!(unit = "", action = "Reload", result, "daemon-reload");
    let quiet = match called {
        Ok(_) => context.handle.quiet().await,
        Err(error) => Err(error),
    };
    match quiet {
        Ok(()) => Outcome::done(true),
        // What stood in the way of the last look was no failure of the reload; it is asked again all the same.
        Err(error @ CallError::Away(_)) => Outcome::from(error).worth_a_retry(),
        Err(error) => error.into(),
    }
}
