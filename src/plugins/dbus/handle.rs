//! What the steps of a job, and the plugin's handle, ask of the actor.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{mpsc, oneshot};

use super::{call::CallError, link::Link};
use crate::{
    desired::ObjectSpec,
    model::{Change, Name, ObjectFacts},
    plugins::PluginError,
};

/// Declared objects, by name.
pub(super) type Objects = BTreeMap<Name, Arc<ObjectSpec>>;

/// What the actor is asked for.
#[derive(Debug)]
pub(super) enum Command {
    /// Mirror these from now on, and read them all.
    Watch { objects: Objects, reply: oneshot::Sender<()> },
    /// Read these once.
    Look { objects: Objects, reply: oneshot::Sender<Result<Vec<Change>, PluginError>> },
    /// Read that object anew; the model is told first.
    Read { name: Name, reply: oneshot::Sender<Result<Known, CallError>> },
    /// Tell what is heard of that object, as long as somebody listens.
    Follow { name: Name, heard: mpsc::Sender<Heard> },
}

/// A mirrored object.
#[derive(Debug)]
pub(super) struct Known {
    /// What is declared.
    pub(super) spec: Arc<ObjectSpec>,
    /// How it is.
    pub(super) facts: ObjectFacts,
    /// The way to its service.
    pub(super) link: Link,
}

/// What was heard of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// A signal of its.
    Signal,
    /// A job of its service's ended: path and result.
    Job(String, String),
}

/// The actor's handle.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    commands: mpsc::UnboundedSender<Command>,
}

/// Signals that wait for a step: it cares whether there was one, not how many.
const MOST_HEARD: usize = 64;

/// What a call is told where the actor is no more.
fn ended<E>(_: E) -> CallError {
    CallError::Away("op-dbus is ending".to_owned())
}

impl Handle {
    pub(super) const fn new(commands: mpsc::UnboundedSender<Command>) -> Self {
        Self { commands }
    }

    pub(super) async fn watch(&self, objects: Objects) -> Result<(), PluginError> {
        Ok(self.ask(|reply| Command::Watch { objects, reply }).await?)
    }

    pub(super) async fn look(&self, objects: Objects) -> Result<Vec<Change>, PluginError> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(|reply| Command::Look { objects, reply }).await?
    }

    /// Reads a mirrored object anew.
    pub(super) async fn read(&self, name: &Name) -> Result<Known, CallError> {
        self.ask(|reply| Command::Read { name: name.clone(), reply }).await?
    }

    /// Listens to what is heard of a mirrored object.
    pub(super) fn follow(&self, name: &Name) -> mpsc::Receiver<Heard> {
        let (heard, receiver) = mpsc::channel(MOST_HEARD);
        // Where the actor is no more, the receiver ends at once.
        let _ = self.commands.send(Command::Follow { name: name.clone(), heard });
        receiver
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, CallError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(ended)?;
        answer.await.map_err(ended)
    }
}
