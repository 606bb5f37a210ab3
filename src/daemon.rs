//! The whole of it, wired: store, backends, core, state file, bus, service manager; from start to orderly end.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};

use crate::{
    bus::{self, Access, BusAddress, BusConfig, BusError, ParseDocument},
    cli::{self, Settings},
    clock,
    config::Config,
    desired::{Rules, parse_with},
    logging::Logging,
    model::{Backend, BackendStatus, Reader},
    notify::ServiceManager,
    plan::{Hand, Inventory},
    plugins::{
        Events, Plugin, PluginEvent,
        dbus::{Dbus, DbusConfig},
        lxc::{BadPattern, Join},
        machined::{Machined, MachinedConfig},
        ovsdb::{self, Ovsdb, Timing},
        packagekit::{PackageKit, PackageKitConfig},
        proxmox::Proxmox,
        systemd::{Systemd, SystemdConfig},
    },
    reconcile::{self, Control, Core, Parts, start},
    state_file::{self, StateFile},
    store::{Store, StoreError},
};

/// The plugins, in the order in which they are shown.
const PLUGINS: [&str; 5] = ["systemd", "ovsdb", "lxc", "packagekit", "dbus"];

/// The name is taken once every backend has answered, or after this long: callers find a filled tree, and a backend
/// that hangs keeps nobody from seeing the others.
const BACKENDS_GRACE: Duration = Duration::from_secs(5);

/// Why the daemon could not start, or did not end by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Generations cannot be read or written.
    #[error("the state directory cannot be used: {0}")]
    Store(#[from] StoreError),
    /// A pattern of the configuration is wrong.
    #[error("the configuration is wrong: {0}")]
    Pattern(#[from] BadPattern),
    /// The bus cannot be served, or was lost.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The system refused something.
    #[error("{what}: {why}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        why: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |why| DaemonError::System { what, why }
}

/// Runs until SIGTERM or SIGINT, and ends in order. `flags` are what `settings` came from: SIGHUP settles them anew.
///
/// # Errors
/// [`DaemonError`]: what stood in the way of starting, or the loss of the bus.
pub async fn run(flags: &cli::Daemon, settings: Settings, logging: Logging) -> Result<(), DaemonError> {
    let Settings { session, config, .. } = &settings;
    let session = *session;
    let mut signals = Signals::new().map_err(system("signals cannot be watched"))?;
    let manager = ServiceManager::of_environment();
    manager.status("reading the last generation");
    let mut store = Store::open(&settings.state_dir)?;
    store.keep(config.limits.generations.count());
    let machine_id = match clock::machine_id() {
        // Nothing that it may write bears the mark.
        Err(_) if session && settings.ovsdb.is_none() => String::new(),
        read => read.map_err(system("/etc/machine-id cannot be read"))?,
    };
    let inventory = inventory(config, &machine_id);
    let join = Join::new(config.patterns()?);
    let (sender, events) = mpsc::unbounded_channel();
    let plugins = spawn_plugins(&settings, &machine_id, &sender);
    drop(sender);
    let core_settings = reconcile::Settings {
        has_runtime: plugins.iter().any(|plugin| plugin.name() == "lxc"),
        ..core_settings(config)
    };
    let core = Core::new(core_settings, inventory, join, &PLUGINS);
    let (stop, stopped) = oneshot::channel::<()>();
    let rules = rules(config);
    let parts = Parts { core, plugins, events, store, rules: rules.clone() };
    let (handles, running) =
        start(parts, async move { drop(stopped.await) }).map_err(system("no thread for the store"))?;
    let mut running = tokio::spawn(running);
    let control = handles.control;
    let state_file =
        follow_state_file(&settings.state_file, control.clone()).map_err(system("the state file cannot be watched"))?;
    tokio::spawn(manager.clone().watchdog(move || {
        let control = control.clone();
        async move { control.ping().await }
    }));

    let (ready, is_ready) = oneshot::channel();
    let (leave, left) = oneshot::channel::<()>();
    let serving = {
        let hub = handles.hub.clone();
        let access = if session { Access::SameUser } else { Access::Polkit };
        let config = BusConfig {
            address: if session { BusAddress::Session } else { BusAddress::System },
            access,
            limits: bus::Limits::default(),
            parse: ParseDocument::new(move |text| Ok(parse_with(text, &rules)?)),
            ready: Some(ready),
        };
        async move {
            backends_answered(hub.reader.clone()).await;
            bus::serve(config, hub, handles.notices, async move { drop(left.await) }).await
        }
    };
    let mut serving = tokio::spawn(serving);
    let reader = handles.hub.reader;
    let told = manager.clone();
    let tell = tokio::spawn(async move {
        if is_ready.await.is_ok() {
            told.ready("mirroring");
            tell_status(&told, reader).await;
        }
    });
    let mut died = None;
    let lost = loop {
        tokio::select! {
            ended = &mut serving => break Some(ended),
            ended = &mut running => {
                // Nobody has asked it to: the service manager shall know, and start op-dbus again.
                died = Some(ended.err().map_or_else(|| io::Error::other("no word of why"), io::Error::other));
                break None;
            }
            wanted = signals.next() => match wanted {
                Wanted::End => break None,
                Wanted::Reload => reread(flags, &settings, &logging, &state_file, &manager).await,
            },
        }
    };
    tell.abort();
    manager.stopping("finishing the steps that have begun");
    tracing::info!("ending: no new jobs, steps that have begun are finished");
    drop(stop);
    if died.is_none() {
        // Bounded by the service manager's own stop time.
        drop(running.await);
    }
    let served = if let Some(ended) = lost {
        ended
    } else {
        // Whoever waits for a job has his answer by now; the name goes last.
        drop(leave);
        serving.await
    };
    if let Some(why) = died {
        return Err(DaemonError::System { what: "the core ended early", why });
    }
    match served {
        Ok(result) => Ok(result?),
        Err(error) => Err(DaemonError::System { what: "the bus task ended early", why: io::Error::other(error) }),
    }
}

fn inventory(config: &Config, machine_id: &str) -> Inventory {
    let own = bus::own_unit();
    Inventory {
        machine_id: machine_id.to_owned(),
        protected_units: own.into_iter().collect(),
        protected_calls: config.dbus.never_call.clone(),
        container_unit: config.container_unit().unwrap_or_default(),
        retry_unmet: false,
        reload_owed: false,
        hand: match &config.proxmox.0 {
            Some(proxmox) => Hand::Proxmox { node: proxmox.node.clone() },
            None => Hand::Systemd,
        },
    }
}

fn rules(config: &Config) -> Rules {
    let patterns = &config.systemd.container_patterns;
    Rules {
        container_units: patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
        proxmox: config.proxmox.0.is_some(),
    }
}

fn core_settings(config: &Config) -> reconcile::Settings {
    let usec = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let minute = Duration::from_secs(60);
    let age = minute.saturating_mul(u32::try_from(config.limits.job_minutes.get()).unwrap_or(u32::MAX));
    reconcile::Settings {
        jobs_kept: config.limits.jobs.count(),
        job_age: usec(age),
        plug_settle: usec(config.lxc.settle_ms.millis()),
        ..reconcile::Settings::default()
    }
}

/// Starts the backends that are switched on; says of the others that they are not.
fn spawn_plugins(
    settings: &Settings,
    machine_id: &str,
    sender: &mpsc::UnboundedSender<(&'static str, PluginEvent)>,
) -> Vec<Arc<dyn Plugin>> {
    let Settings { session, config, .. } = settings;
    let events = |plugin| Events::new(plugin, sender.clone());
    let mut plugins: Vec<Arc<dyn Plugin>> = Vec::new();
    if settings.systemd {
        let base = if *session { SystemdConfig::session() } else { SystemdConfig::system() };
        let patterns = config.systemd.container_patterns.iter().filter(|_| settings.lxc);
        let container_patterns = patterns.map(|pattern| pattern.as_str().to_owned()).collect();
        let hold_down = config.systemd.hold_down_ms.millis();
        plugins
            .push(Arc::new(Systemd::spawn(SystemdConfig { container_patterns, hold_down, ..base }, events("systemd"))));
    } else {
        events("systemd").send(disabled());
    }
    if let Some(remote) = settings.ovsdb.clone() {
        let timing = Timing {
            applied: config.ovsdb.apply_timeout_ms.millis(),
            settle: config.lxc.settle_ms.millis(),
            ..Timing::default()
        };
        let settings = ovsdb::Settings { remote, machine_id: machine_id.to_owned(), timing };
        plugins.push(Arc::new(Ovsdb::start(settings, events("ovsdb"))));
    } else {
        events("ovsdb").send(disabled());
    }
    if settings.packagekit {
        let lock_timeout = Duration::from_secs(config.packagekit.lock_timeout_s.get());
        let config = PackageKitConfig { lock_timeout, ..PackageKitConfig::system() };
        plugins.push(Arc::new(PackageKit::spawn(config, events("packagekit"))));
    } else {
        events("packagekit").send(disabled());
    }
    if !settings.lxc {
        events("lxc").send(disabled());
    } else if let Some(proxmox) = config.proxmox.0.clone() {
        plugins.push(Arc::new(Proxmox::start(proxmox, events("lxc"))));
    } else if !session {
        plugins.push(Arc::new(Machined::spawn(MachinedConfig::system(machine_id), events("lxc"))));
    }
    if settings.dbus {
        let base = if *session { DbusConfig::session() } else { DbusConfig::system() };
        let never_call = config.dbus.never_call.clone();
        let config = DbusConfig { never_call, call_limit: config.dbus.call_timeout_ms.millis(), ..base };
        plugins.push(Arc::new(Dbus::spawn(config, events("dbus"))));
    } else {
        events("dbus").send(disabled());
    }
    plugins
}

fn disabled() -> PluginEvent {
    PluginEvent::Backend(Backend {
        status: BackendStatus::Disabled,
        message: "switched off by the configuration".to_owned(),
        version: String::new(),
        reconnects: 0,
    })
}

fn follow_state_file(path: &std::path::Path, control: Control) -> io::Result<StateFile> {
    let (sender, mut events) = mpsc::unbounded_channel();
    let handle = state_file::watch(path, sender)?;
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            control.state_file(event);
        }
    });
    Ok(handle)
}

/// Resolves once no backend is still connecting for the first time, or their time is up.
async fn backends_answered(reader: Reader) {
    let answered = async {
        loop {
            let changed = reader.listen();
            let view = reader.current();
            let is_open = |plugin: &&str| {
                view.plugins.get(plugin).is_none_or(|facts| facts.backend.status == BackendStatus::Connecting)
            };
            if !PLUGINS.iter().any(is_open) {
                return;
            }
            changed.await;
        }
    };
    if tokio::time::timeout(BACKENDS_GRACE, answered).await.is_err() {
        tracing::warn!("not all backends have answered; going on without them");
    }
}

/// Keeps the service manager's status line at what the tree says.
async fn tell_status(manager: &ServiceManager, reader: Reader) {
    let mut said = String::new();
    loop {
        let changed = reader.listen();
        let state = reader.current().state.clone();
        let status = if state.in_sync {
            format!("generation {}, {} resources in sync", state.generation, state.managed)
        } else {
            format!(
                "generation {}, {} resources: {} drifted, {} failed, {} blocked, {} unknown, {} pending",
                state.generation,
                state.managed,
                state.drifted,
                state.failed,
                state.blocked,
                state.unknown,
                state.pending
            )
        };
        if status != said {
            manager.status(&status);
            said = status;
        }
        changed.await;
    }
}

/// SIGHUP: the configuration and the state file are read again.
async fn reread(
    flags: &cli::Daemon,
    settings: &Settings,
    logging: &Logging,
    state_file: &StateFile,
    manager: &ServiceManager,
) {
    manager.reloading();
    match flags.settings() {
        Ok(mut new) => {
            logging.set_level(new.config.log.level);
            new.config.log = settings.config.log.clone();
            if new != *settings {
                tracing::warn!(
                    "the configuration has changed in more than [log]: the rest counts from the next start on"
                );
            }
        }
        Err(error) => tracing::error!("the configuration cannot be read again and stays as it was: {error}"),
    }
    state_file.reread().await;
    manager.ready("mirroring");
}

/// What the service manager, or a terminal, asks for.
enum Wanted {
    End,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.terminate.recv() => Wanted::End,
            _ = self.interrupt.recv() => Wanted::End,
            _ = self.hangup.recv() => Wanted::Reload,
        }
    }
}
