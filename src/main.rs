//! The `op-dbus` binary: the daemon, `check` and `schema`.

use std::process::ExitCode;

use clap::Parser as _;
use op_dbus::{cli::Cli, daemon, logging};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(verb) = cli.verb {
        return verb.run();
    }
    let done = cli.daemon.settings().map_err(|error| error.to_string()).and_then(|settings| {
        let logging = logging::init(settings.config.log.level).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime: {error}"))?;
        runtime.block_on(daemon::run(&cli.daemon, settings, logging)).map_err(|error| {
            tracing::error!("op-dbus cannot go on: {error}");
            error.to_string()
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("op-dbus: {error}");
            ExitCode::FAILURE
        }
    }
}
