//! The task that owns connection and mirror.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};
use zbus::Message;

use super::{
    SystemdConfig,
    call::{CallError, MANAGER, MANAGER_PATH, PROPERTIES, manager, method},
    decode::{self, Told},
    entry::Seen,
    exchange::{Answer, Batch, Signal},
    handle::{Command, News},
    link::{Awaits, Link, Reply},
    mirror::Mirror,
    unitfiles::{self, FilesNews},
};
use crate::{
    model::{Backend, BackendStatus, Change, Name},
    plugins::{Events, Interest, PluginError, PluginEvent, backoff::Backoff},
};

/// Messages worked in before the model is told, however many more are waiting.
const MOST_AT_ONCE: usize = 2000;

/// systemd answers nothing while it reloads, which takes seconds on a large machine: calls may wait longer by so much.
const RELOAD_PATIENCE: Duration = Duration::from_secs(90);

/// Somebody who waits for the mirror.
#[derive(Debug)]
enum Waiter {
    Watch { names: Vec<Name>, reply: oneshot::Sender<()> },
    Look { interest: Interest, reply: oneshot::Sender<Result<Vec<Change>, PluginError>> },
    Read { unit: Name, reply: oneshot::Sender<Result<Seen, CallError>> },
    Quiet { reply: oneshot::Sender<Result<(), CallError>> },
}

/// Somebody who follows a unit.
#[derive(Debug)]
struct Follower {
    unit: Name,
    news: mpsc::UnboundedSender<News>,
    told: Option<Seen>,
}

/// The actor.
#[derive(Debug)]
pub(super) struct Actor {
    config: SystemdConfig,
    events: Events,
    commands: mpsc::UnboundedReceiver<Command>,
    files: mpsc::UnboundedReceiver<FilesNews>,
    look_again: Arc<Notify>,
    mirror: Mirror,
    waiters: Vec<Waiter>,
    followers: Vec<Follower>,
    backoff: Backoff,
    backend: Option<Backend>,
    version: String,
    /// How often systemd was found.
    found: u32,
    shutting_down: bool,
    busy: bool,
}

/// Nobody wants anything of the actor any more.
struct Ended;

impl Actor {
    /// Starts the task.
    pub(super) fn spawn(config: SystemdConfig, events: Events, commands: mpsc::UnboundedReceiver<Command>) {
        let (sender, files) = mpsc::unbounded_channel();
        let look_again = Arc::new(Notify::new());
        tokio::spawn(unitfiles::watch(config.unit_folders.clone(), look_again.clone(), sender));
        let actor = Self {
            mirror: Mirror::new(config.container_patterns.clone()),
            config,
            events,
            commands,
            files,
            look_again,
            waiters: Vec::new(),
            followers: Vec::new(),
            backoff: Backoff::default(),
            backend: None,
            version: String::new(),
            found: 0,
            shutting_down: false,
            busy: false,
        };
        tokio::spawn(async move {
            let Ended = actor.run().await;
        });
    }

    async fn run(mut self) -> Ended {
        self.show(BackendStatus::Connecting, "connecting to the bus");
        loop {
            let bus = self.config.bus.clone();
            let limit = self.config.call_limit;
            let attempt = tokio::time::timeout(limit, async move { Link::connect(&bus, limit).await });
            let why = match self.meanwhile(attempt).await {
                Err(ended) => return ended,
                Ok(Ok(Ok(link))) => match self.follow(link).await {
                    Err(ended) => return ended,
                    Ok(why) => {
                        self.show(BackendStatus::Connecting, &why);
                        why
                    }
                },
                Ok(Ok(Err(error))) => format!("cannot connect to the bus: {error}"),
                Ok(Err(_)) => format!("the bus did not answer within {limit:?}"),
            };
            tracing::warn!(plugin = super::NAME, "systemd is out of reach: {why}");
            let wait = self.backoff.wait();
            if self.backend.as_ref().is_some_and(|backend| backend.status != BackendStatus::Connecting)
                || wait > Duration::from_secs(1)
            {
                self.show(BackendStatus::Unavailable, &why);
            }
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
                command = self.commands.recv() => self.command(command.ok_or(Ended)?, None),
                Some((links, touched)) = self.files.recv() => self.mirror.files_touched(links, &touched),
            }
            self.serve_waiters();
        }
    }

    /// Follows systemd on that connection, until it is lost; returns why.
    async fn follow(&mut self, mut link: Link) -> Result<String, Ended> {
        let why = self.listen(&mut link).await?;
        self.away(&mut link, &why);
        Ok(why)
    }

    async fn listen(&mut self, link: &mut Link) -> Result<String, Ended> {
        loop {
            self.send_questions(link);
            self.tell();
            self.send_questions(link);
            let patience = if self.mirror.is_reloading() { RELOAD_PATIENCE } else { Duration::ZERO };
            let overdue = link.deadline(patience);
            tokio::select! {
                message = link.stream.next() => match message {
                    Some(Ok(message)) => self.message(link, &message),
                    Some(Err(error)) => return Ok(format!("lost the bus: {error}")),
                    None => return Ok("the bus closed the connection".to_owned()),
                },
                command = self.commands.recv() => self.command(command.ok_or(Ended)?, Some(link)),
                Some((links, touched)) = self.files.recv() => self.mirror.files_touched(links, &touched),
                () = until(overdue) => {
                    for reply in link.overdue(patience) {
                        if let Awaits::Step(waiting) = reply.awaits {
                            let _ = waiting.send(reply.result);
                        } else if let Err(error) = reply.result {
                            // Without this answer the mirror is not to be trusted.
                            return Ok(error.to_string());
                        }
                    }
                }
            }
            for _ in 0..MOST_AT_ONCE {
                match link.stream.next().now_or_never() {
                    Some(Some(Ok(message))) => self.message(link, &message),
                    // The end of the stream is seen by the select above.
                    _ => break,
                }
            }
        }
    }

    fn send_questions(&mut self, link: &mut Link) {
        for question in self.mirror.questions() {
            match decode::ask(&question) {
                Ok(message) => link.call(message, Awaits::Mirror(question), self.config.call_limit),
                // No such thing can be: D-Bus has no way to write its name.
                Err(_) => self.mirror.answer(question, Answer::No),
            }
        }
    }

    fn message(&mut self, link: &mut Link, message: &Message) {
        if let Some(reply) = link.reply(message) {
            self.reply(link, reply);
        } else if let Some(owner) = Link::owner_change(message) {
            self.owner(link, Some(owner).filter(|owner| !owner.is_empty()));
        } else if link.is_from_systemd(message)
            && let Some(told) = decode::signal(message, |path| self.mirror.cares_for(path))
        {
            match told {
                Told::Mirror(signal) => {
                    if matches!(signal, Signal::Reloading(false)) {
                        // The folders may have been swapped, as NixOS does.
                        self.look_again.notify_one();
                    }
                    self.mirror.signal(signal);
                }
                Told::JobRemoved(end) => {
                    for follower in &self.followers {
                        if self.mirror.id(&follower.unit) == end.unit || *follower.unit == *end.unit {
                            let _ = follower.news.send(News::JobRemoved(end.clone()));
                        }
                    }
                }
                Told::ShuttingDown(down) => self.shutting_down = down,
            }
            self.show_busy();
        }
    }

    fn reply(&mut self, link: &mut Link, reply: Reply) {
        match (reply.awaits, reply.result) {
            (Awaits::Step(waiting), result) => {
                let _ = waiting.send(result);
            }
            (Awaits::Mirror(question), Ok(message)) => {
                let answer = decode::answer(&question, &message);
                self.mirror.answer(question, answer);
            }
            (Awaits::Mirror(question), Err(_)) => self.mirror.answer(question, Answer::No),
            (Awaits::Owner, Ok(message)) => self.owner(link, message.body().deserialize().ok()),
            (Awaits::Owner, Err(_)) => self.owner(link, None),
            (Awaits::Version, Ok(message)) => {
                let value = message.body().deserialize::<zbus::OwnedVariant>().ok();
                self.version = value.and_then(|value| String::try_from(value).ok()).unwrap_or_default();
            }
            (Awaits::Version | Awaits::Nobody, _) => {}
        }
    }

    /// systemd's name has another owner: systemd came, or went, or executed itself anew.
    fn owner(&mut self, link: &mut Link, owner: Option<String>) {
        if owner == link.owner && owner.is_some() {
            return;
        }
        if link.owner.is_some() {
            self.away(link, "systemd left the bus");
            self.show(BackendStatus::Connecting, "systemd left the bus and is waited for");
        } else if owner.is_none() {
            self.show(BackendStatus::Unavailable, "systemd is not on this bus");
        }
        link.owner = owner;
        if link.owner.is_none() {
            return;
        }
        let limit = self.config.call_limit;
        let hello = [
            (manager("Subscribe", &()), Awaits::Nobody),
            (method(MANAGER_PATH, PROPERTIES, "Get", &(MANAGER, "Version")), Awaits::Version),
        ];
        for (message, awaits) in hello {
            if let Ok(message) = message {
                link.call(message, awaits, limit);
            }
        }
        self.mirror.connected();
    }

    /// systemd cannot be asked any more: whoever waits is told.
    fn away(&mut self, link: &mut Link, why: &str) {
        self.mirror.away();
        self.shutting_down = false;
        for reply in link.give_up(why) {
            if let Awaits::Step(waiting) = reply.awaits {
                let _ = waiting.send(reply.result);
            }
        }
        for follower in &mut self.followers {
            follower.told = None;
            let _ = follower.news.send(News::Away);
        }
        self.serve_waiters();
    }

    fn command(&mut self, command: Command, link: Option<&mut Link>) {
        match command {
            Command::Watch { interest, reply } => {
                let names = self.mirror.watch(&interest);
                self.waiters.push(Waiter::Watch { names, reply });
            }
            Command::Look { interest, reply } => {
                for (unit, properties) in &interest.units {
                    self.mirror.pin(unit, properties);
                }
                self.waiters.push(Waiter::Look { interest, reply });
            }
            Command::Follow { unit, properties, news } => {
                self.mirror.pin(&unit, &properties);
                self.followers.push(Follower { unit, news, told: None });
            }
            Command::Read { unit, anew, reply } => {
                if anew {
                    self.mirror.read(&unit);
                }
                self.waiters.push(Waiter::Read { unit, reply });
            }
            Command::Call { message, limit, reply } => match link {
                Some(link) if link.owner.is_some() => link.call(message, Awaits::Step(reply), limit),
                _ => {
                    let _ = reply.send(Err(self.why_away()));
                }
            },
            Command::Quiet { reply } => self.waiters.push(Waiter::Quiet { reply }),
        }
    }

    /// Tells the model what changed, and then whoever waits for that.
    fn tell(&mut self) {
        match self.mirror.settle() {
            Some(Batch::Reset(changes)) => {
                self.backoff.reset();
                self.found += 1;
                self.events.send(PluginEvent::Reset(changes));
                self.show_busy();
                self.show(BackendStatus::Connected, "");
            }
            Some(Batch::Changes(changes)) => self.events.send(PluginEvent::Changes(changes)),
            Some(Batch::Reloaded(changes)) => {
                if !changes.is_empty() {
                    self.events.send(PluginEvent::Changes(changes));
                }
                self.show_busy();
            }
            None => {}
        }
        let ready = self.mirror.take_ready();
        let mirror = &mut self.mirror;
        self.followers.retain_mut(|follower| {
            if follower.news.is_closed() {
                mirror.unpin(&follower.unit);
                return false;
            }
            if follower.told.is_some() && !ready.contains(&follower.unit) {
                return true;
            }
            let seen = mirror.seen(&follower.unit);
            if seen.is_some() && seen != follower.told {
                follower.told.clone_from(&seen);
                if let Some(seen) = seen {
                    let _ = follower.news.send(News::Seen(Box::new(seen)));
                }
            }
            true
        });
        self.serve_waiters();
    }

    fn serve_waiters(&mut self) {
        let away = self.mirror.is_away();
        for waiter in std::mem::take(&mut self.waiters) {
            match waiter {
                Waiter::Watch { names, reply } if away || self.mirror.are_settled(&names) => {
                    let _ = reply.send(());
                }
                Waiter::Look { interest, reply } if away => {
                    interest.units.keys().for_each(|unit| self.mirror.unpin(unit));
                    let _ = reply.send(Err(self.why_away().into()));
                }
                Waiter::Look { interest, reply } => {
                    let facts = interest.units.iter().map(|(unit, wanted)| self.mirror.facts(unit, wanted));
                    if let Some(changes) = facts.collect::<Option<Vec<_>>>() {
                        interest.units.keys().for_each(|unit| self.mirror.unpin(unit));
                        let _ = reply.send(Ok(changes));
                    } else {
                        self.waiters.push(Waiter::Look { interest, reply });
                    }
                }
                Waiter::Read { reply, .. } if away => {
                    let _ = reply.send(Err(self.why_away()));
                }
                Waiter::Read { unit, reply } => match self.mirror.seen(&unit) {
                    Some(seen) => {
                        let _ = reply.send(Ok(seen));
                    }
                    None => self.waiters.push(Waiter::Read { unit, reply }),
                },
                Waiter::Quiet { reply } if away => {
                    let _ = reply.send(Err(self.why_away()));
                }
                Waiter::Quiet { reply } if self.mirror.is_quiet() => {
                    let _ = reply.send(Ok(()));
                }
                waiting @ (Waiter::Watch { .. } | Waiter::Quiet { .. }) => self.waiters.push(waiting),
            }
        }
    }

    fn why_away(&self) -> CallError {
        let why = self.backend.as_ref().map(|backend| backend.message.clone()).filter(|why| !why.is_empty());
        CallError::Away(why.unwrap_or_else(|| "not connected".to_owned()))
    }

    fn show(&mut self, status: BackendStatus, message: &str) {
        let backend = Backend {
            status,
            message: message.to_owned(),
            version: self.version.clone(),
            reconnects: self.found.saturating_sub(1),
        };
        if self.backend.as_ref() != Some(&backend) {
            self.backend = Some(backend.clone());
            self.events.send(PluginEvent::Backend(backend));
        }
    }

    fn show_busy(&mut self) {
        let busy = self.mirror.is_reloading() || self.shutting_down;
        if std::mem::replace(&mut self.busy, busy) != busy {
            self.events.send(PluginEvent::Busy(busy));
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
