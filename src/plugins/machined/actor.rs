//! The task that owns connection and mirror.

use std::{
    collections::BTreeMap,
    future::Future,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use zbus::Connection;

use super::{
    MachinedConfig, NAME,
    call::{CallError, IMPORTD, MACHINED},
    handle::Command,
    link::{Link, Told},
    link_up::link_up,
    mirror::Mirror,
    settings::store::Store,
    transfer::TransferNews,
    watch as folders,
    world::{self, World},
};
use crate::{
    model::{Backend, BackendStatus},
    plugins::{Events, PluginEvent},
};

/// Messages worked in before the model is told, however many more are waiting.
const MOST_AT_ONCE: usize = 2000;

/// The wait after the first failure, and its bound; each failure doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Failures in a row before people are told: one is what a restart of a service looks like.
const QUIET_FAILURES: u32 = 2;

/// A read that came to its end.
type Readout = Result<World, CallError>;

/// Somebody who waits for a read that begins after they asked.
#[derive(Debug)]
enum Waiter {
    Watch(oneshot::Sender<()>),
    Read(oneshot::Sender<Readout>),
}

/// The actor.
#[derive(Debug)]
pub(super) struct Actor {
    config: MachinedConfig,
    store: Arc<Store>,
    events: Events,
    commands: mpsc::UnboundedReceiver<Command>,
    folders: mpsc::UnboundedReceiver<()>,
    connection: watch::Sender<Option<Connection>>,
    mirror: Mirror,
    followers: Vec<mpsc::UnboundedSender<TransferNews>>,
    /// Wait for the next read, and for the one under way.
    waiters: Vec<Waiter>,
    served: Vec<Waiter>,
    /// Something changed since the read under way began.
    stale: bool,
    /// Failures in a row.
    failures: u32,
    /// How often everything was read first on a connection.
    found: u32,
    /// The model knows what is there on this connection.
    told: bool,
    backend: Option<Backend>,
    /// Why links could not be set up, said once.
    complained: BTreeMap<String, String>,
}

/// Nobody wants anything of the actor any more.
struct Ended;

impl Actor {
    /// Starts the task.
    pub(super) fn spawn(
        config: MachinedConfig,
        store: Arc<Store>,
        events: Events,
        commands: mpsc::UnboundedReceiver<Command>,
        connection: watch::Sender<Option<Connection>>,
    ) {
        let (sender, folders) = mpsc::unbounded_channel();
        tokio::spawn(folders::watch(vec![config.images.clone(), config.settings.clone()], sender));
        let actor = Self {
            config,
            store,
            events,
            commands,
            folders,
            connection,
            mirror: Mirror::default(),
            followers: Vec::new(),
            waiters: Vec::new(),
            served: Vec::new(),
            stale: true,
            failures: 0,
            found: 0,
            told: false,
            backend: None,
            complained: BTreeMap::new(),
        };
        tokio::spawn(async move {
            let Ended = actor.run().await;
        });
    }

    async fn run(mut self) -> Ended {
        self.show(BackendStatus::Connecting, "connecting to the bus");
        loop {
            let bus = self.config.bus.clone();
            let why = match self.meanwhile(async move { Link::connect(&bus).await }).await {
                Err(ended) => return ended,
                Ok(Ok(link)) => {
                    self.connection.send_replace(Some(link.connection.clone()));
                    match self.follow(link).await {
                        Err(ended) => return ended,
                        Ok(why) => why,
                    }
                }
                Ok(Err(error)) => error.to_string(),
            };
            self.connection.send_replace(None);
            self.tell_followers(&TransferNews::Gone);
            self.told = false;
            self.failures += 1;
            tracing::warn!(plugin = NAME, why, "the bus is out of reach");
            let status =
                if self.failures > QUIET_FAILURES { BackendStatus::Unavailable } else { BackendStatus::Connecting };
            self.show(status, &why);
            let wait = self.wait();
            if let Err(ended) = self.meanwhile(tokio::time::sleep(wait)).await {
                return ended;
            }
        }
    }

    /// Waits without a connection, and answers those who ask meanwhile.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Ended> {
        let mut work = Box::pin(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                command = self.commands.recv() => self.command(command.ok_or(Ended)?),
                Some(()) = self.folders.recv() => {}
            }
            let why = CallError::Away("the bus is out of reach".to_owned());
            self.answer_all(&Err(why));
        }
    }

    /// Follows the services on that connection, until it is lost; returns why.
    async fn follow(&mut self, mut link: Link) -> Result<String, Ended> {
        self.stale = true;
        let mut reading: Option<futures::future::BoxFuture<'static, Readout>> = None;
        let mut not_before = Instant::now();
        loop {
            if reading.is_none() && self.stale && Instant::now() >= not_before {
                self.stale = false;
                self.served.append(&mut self.waiters);
                let (connection, store) = (link.connection.clone(), self.store.clone());
                // In a task of its own: the stream below must be drained for its calls to be answered.
                let task = tokio::spawn(async move { world::read(&connection, &store).await });
                reading = Some(Box::pin(task.map(|read| {
                    read.unwrap_or_else(|error| Err(CallError::Malformed(format!("the reader ended: {error}"))))
                })));
            }
            let pauses = self.stale && reading.is_none();
            let read = async {
                match &mut reading {
                    Some(reading) => reading.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = link.stream.next() => match message {
                    Some(Ok(message)) => self.message(&mut link, &message),
                    Some(Err(error)) => return Ok(format!("lost the bus: {error}")),
                    None => return Ok("the bus closed the connection".to_owned()),
                },
                command = self.commands.recv() => self.command(command.ok_or(Ended)?),
                Some(()) = self.folders.recv() => self.stale = true,
                () = tokio::time::sleep_until(not_before), if pauses => {}
                readout = read => {
                    reading = None;
                    if let Err(error) = &readout {
                        self.failed(error);
                        self.stale = true;
                        not_before = Instant::now() + self.wait();
                    }
                    self.read(readout);
                }
            }
            for _ in 0..MOST_AT_ONCE {
                match link.stream.next().now_or_never() {
                    Some(Some(Ok(message))) => self.message(&mut link, &message),
                    // The end of the stream is seen by the select above.
                    _ => break,
                }
            }
        }
    }

    fn message(&mut self, link: &mut Link, message: &zbus::Message) {
        match link.told(message) {
            Some(Told::Machines) => self.stale = true,
            Some(Told::Transfer(news)) => {
                // An image came to be, or did not.
                self.stale |= matches!(news, TransferNews::Ended { .. });
                self.tell_followers(&news);
            }
            Some(Told::Owner(IMPORTD, false)) => self.tell_followers(&TransferNews::Gone),
            // It ends by itself when it has nothing to do. With machines to look after it did not end by itself: what
            // it would have told since is read, by which it is started again.
            Some(Told::Owner(MACHINED, false)) => self.stale |= !self.mirror.world().machines.is_empty(),
            // It was not there when it was asked last.
            Some(Told::Owner(MACHINED, true)) => self.stale |= !self.mirror.world().installed,
            Some(Told::Owner(..)) | None => {}
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Watch { interest, reply } => {
                self.mirror.watch(interest);
                self.waiters.push(Waiter::Watch(reply));
                self.stale = true;
            }
            Command::Follow { news, reply } => {
                self.followers.push(news);
                let _ = reply.send(());
            }
            Command::Read { reply } => {
                self.waiters.push(Waiter::Read(reply));
                self.stale = true;
            }
        }
    }

    /// Everything was read, or was not.
    fn read(&mut self, readout: Readout) {
        if let Ok(world) = &readout {
            self.failures = 0;
            let message = if world.installed { "" } else { "systemd-machined is not installed" };
            self.take(world.clone(), message);
            self.set_links_up();
        }
        let served = std::mem::take(&mut self.served);
        answer(served, &readout);
    }

    /// systemd-machined does not answer as it should. Containers that it has no hand in are no worse for that: the
    /// backend stays, and what it has is what it had.
    fn failed(&mut self, error: &CallError) {
        self.failures += 1;
        tracing::warn!(plugin = NAME, %error, "systemd-machined is out of reach");
        if self.failures > QUIET_FAILURES {
            let world = World { installed: false, ..self.mirror.world().clone() };
            self.take(world, &format!("systemd-machined is out of reach: {error}"));
        }
    }

    /// Tells the model how everything is.
    fn take(&mut self, world: World, message: &str) {
        self.mirror.take(world);
        if std::mem::replace(&mut self.told, true) {
            let changes = self.mirror.changes();
            if !changes.is_empty() {
                self.events.send(PluginEvent::Changes(changes));
            }
        } else {
            self.found += 1;
            self.events.send(PluginEvent::Reset(self.mirror.everything()));
        }
        self.show(BackendStatus::Connected, message);
    }

    fn answer_all(&mut self, readout: &Readout) {
        let served = std::mem::take(&mut self.served);
        answer(served, readout);
        let waiters = std::mem::take(&mut self.waiters);
        answer(waiters, readout);
    }

    /// The wait before the next try: from half of its bound to its bound, so that those who lost the same service do
    /// not come back all at once.
    fn wait(&self) -> Duration {
        let bound = (FIRST_WAIT * 2_u32.saturating_pow(self.failures.saturating_sub(1).min(10))).min(LONGEST_WAIT);
        // A hasher's keys are random; nothing here needs better.
        let thousandths = u32::try_from(RandomState::new().hash_one(()) % 500).unwrap_or(0);
        bound / 2 + bound * thousandths / 1000
    }

    fn tell_followers(&mut self, news: &TransferNews) {
        self.followers.retain(|follower| follower.send(news.clone()).is_ok());
    }

    /// Open vSwitch forwards nothing through a device that is down, and systemd-nspawn sets none up.
    fn set_links_up(&mut self) {
        let links = self.mirror.links();
        self.complained.retain(|link, _| links.contains_key(link));
        for (link, container) in links {
            let Err(error) = link_up(&link) else {
                self.complained.remove(&link);
                continue;
            };
            let said = error.to_string();
            if self.complained.insert(link.clone(), said.clone()).as_ref() != Some(&said) {
                tracing::warn!(container, link, %error, "the host side of a network cannot be set up");
            }
        }
    }

    fn show(&mut self, status: BackendStatus, message: &str) {
        let backend = Backend {
            status,
            message: message.to_owned(),
            version: String::new(),
            reconnects: self.found.saturating_sub(1),
        };
        if self.backend.as_ref() != Some(&backend) {
            self.backend = Some(backend.clone());
            self.events.send(PluginEvent::Backend(backend));
        }
    }
}

fn answer(waiters: Vec<Waiter>, readout: &Readout) {
    for waiter in waiters {
        match waiter {
            // While it is away, it is mirrored once it is back.
            Waiter::Watch(reply) => drop(reply.send(())),
            Waiter::Read(reply) => drop(reply.send(readout.clone())),
        }
    }
}
