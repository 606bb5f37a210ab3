//! What steps, and the plugin's handle, ask of the actor.

use tokio::sync::{mpsc, oneshot, watch};
use zbus::Connection;

use super::{call::CallError, transfer::TransferNews, world::World};
use crate::plugins::{Interest, PluginError};

/// What the actor is asked for.
#[derive(Debug)]
pub(super) enum Command {
    /// Mirror these from now on.
    Watch { interest: Interest, reply: oneshot::Sender<()> },
    /// Tell of all transfers, as long as somebody listens; answered once the bus passes their signals on.
    Follow { news: mpsc::UnboundedSender<TransferNews>, reply: oneshot::Sender<()> },
    /// Read everything anew, tell the model, and answer with it.
    Read { reply: oneshot::Sender<Result<World, CallError>> },
}

/// The actor's handle.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    connection: watch::Receiver<Option<Connection>>,
}

/// What is said where the actor is no more.
fn ended<E>(_: E) -> CallError {
    CallError::Away("op-dbus is ending".to_owned())
}

impl Handle {
    pub(super) const fn new(
        commands: mpsc::UnboundedSender<Command>,
        connection: watch::Receiver<Option<Connection>>,
    ) -> Self {
        Self { commands, connection }
    }

    pub(super) async fn watch(&self, interest: Interest) -> Result<(), CallError> {
        self.ask(|reply| Command::Watch { interest, reply }).await
    }

    /// News of all transfers from now on.
    pub(super) async fn follow(&self) -> Result<mpsc::UnboundedReceiver<TransferNews>, CallError> {
        let (news, receiver) = mpsc::unbounded_channel();
        self.ask(|reply| Command::Follow { news, reply }).await?;
        Ok(receiver)
    }

    /// How everything is now; the model was told.
    pub(super) async fn read(&self) -> Result<World, CallError> {
        self.ask(|reply| Command::Read { reply }).await?
    }

    /// The connection to the bus, for calls.
    pub(super) fn connection(&self) -> Result<Connection, CallError> {
        let connection = self.connection.borrow().clone();
        connection.ok_or_else(|| CallError::Away("the bus is out of reach".to_owned()))
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, CallError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(ended)?;
        answer.await.map_err(ended)
    }
}

impl From<CallError> for PluginError {
    fn from(error: CallError) -> Self {
        let why = error.to_string();
        if error.may_retry() {
            Self::Away { plugin: super::NAME, why }
        } else {
            Self::Refused { plugin: super::NAME, why }
        }
    }
}
