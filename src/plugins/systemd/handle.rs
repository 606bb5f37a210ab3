//! What the steps of a job, and the handle, ask of the actor.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use zbus::{DynamicType, Message};

use super::{
    call::{CallError, manager, method},
    decode::JobEnd,
    entry::Seen,
};
use crate::{
    model::{Change, Name},
    plugins::{Interest, PluginError},
};

/// What the actor is asked for.
#[derive(Debug)]
pub(super) enum Command {
    /// Mirror these from now on.
    Watch { interest: Interest, reply: oneshot::Sender<()> },
    /// Read these once.
    Look { interest: Interest, reply: oneshot::Sender<Result<Vec<Change>, PluginError>> },
    /// Tell all news of that unit, as long as somebody listens.
    Follow { unit: Name, properties: Vec<String>, news: mpsc::UnboundedSender<News> },
    /// Show that unit, read anew or as it was told last; the model is told first.
    Read { unit: Name, anew: bool, reply: oneshot::Sender<Result<Seen, CallError>> },
    /// Call a method.
    Call { message: Message, limit: Duration, reply: oneshot::Sender<Result<Message, CallError>> },
    /// Answer once nothing is awaited from systemd and the model was told all.
    Quiet { reply: oneshot::Sender<Result<(), CallError>> },
}

/// News of a unit.
#[derive(Debug)]
pub(super) enum News {
    /// It is so now; the model was told.
    Seen(Box<Seen>),
    /// A job of it left the queue.
    JobRemoved(JobEnd),
    /// systemd went away; once it is back, [`News::Seen`] tells how the unit is.
    Away,
}

/// The actor's handle.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    call_limit: Duration,
}

/// What a call is told where the actor is no more.
fn ended<E>(_: E) -> CallError {
    CallError::Away("op-dbus is ending".to_owned())
}

impl Handle {
    pub(super) const fn new(commands: mpsc::UnboundedSender<Command>, call_limit: Duration) -> Self {
        Self { commands, call_limit }
    }

    pub(super) async fn watch(&self, interest: Interest) -> Result<(), PluginError> {
        self.ask(|reply| Command::Watch { interest, reply }).await?;
        Ok(())
    }

    pub(super) async fn look(&self, mut interest: Interest) -> Result<Vec<Change>, PluginError> {
        if interest.installable {
            for unit in self.installable().await? {
                interest.units.entry(unit).or_default();
            }
        }
        self.ask(|reply| Command::Look { interest, reply }).await?
    }

    /// Every unit whose file has an `[Install]` section that could enable it, or has; templates are no units.
    async fn installable(&self) -> Result<Vec<Name>, CallError> {
        let states = ["enabled", "enabled-runtime", "linked", "linked-runtime", "disabled"];
        let reply = self.manager("ListUnitFilesByPatterns", &(&states[..], &[""; 0][..])).await?;
        let body = reply.body();
        let files: Vec<(&str, &str)> = body.deserialize()?;
        let names = files.into_iter().filter_map(|(path, _)| path.rsplit('/').next());
        Ok(names.filter(|name| !name.contains("@.")).map(Name::from).collect())
    }

    /// Follows that unit, and the values of these properties of it, until the receiver is dropped.
    pub(super) fn follow(&self, unit: &Name, properties: Vec<String>) -> mpsc::UnboundedReceiver<News> {
        let (news, receiver) = mpsc::unbounded_channel();
        // Where the actor is no more, the receiver ends at once.
        let _ = self.commands.send(Command::Follow { unit: unit.clone(), properties, news });
        receiver
    }

    /// Reads a unit that is mirrored or followed.
    pub(super) async fn read(&self, unit: &Name) -> Result<Seen, CallError> {
        self.ask(|reply| Command::Read { unit: unit.clone(), anew: true, reply }).await?
    }

    /// The unit as systemd's signals so far have it.
    pub(super) async fn glance(&self, unit: &Name) -> Result<Seen, CallError> {
        self.ask(|reply| Command::Read { unit: unit.clone(), anew: false, reply }).await?
    }

    /// Waits until nothing is awaited from systemd.
    pub(super) async fn quiet(&self) -> Result<(), CallError> {
        self.ask(|reply| Command::Quiet { reply }).await?
    }

    /// Calls a method of the Manager's.
    pub(super) async fn manager<B: serde::Serialize + DynamicType>(
        &self,
        member: &str,
        body: &B,
    ) -> Result<Message, CallError> {
        self.send(manager(member, body)?).await
    }

    /// Calls a method of a unit's.
    pub(super) async fn unit<B: serde::Serialize + DynamicType>(
        &self,
        path: &str,
        member: &str,
        body: &B,
    ) -> Result<Message, CallError> {
        self.send(method(path, super::parts::UNIT, member, body)?).await
    }

    /// Calls, and waits as long as calls may take.
    pub(super) async fn send(&self, message: Message) -> Result<Message, CallError> {
        self.call(message, self.call_limit).await
    }

    /// Calls, and waits for that long at most.
    pub(super) async fn call(&self, message: Message, limit: Duration) -> Result<Message, CallError> {
        self.ask(|reply| Command::Call { message, limit, reply }).await?
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, CallError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(ended)?;
        answer.await.map_err(ended)
    }
}
