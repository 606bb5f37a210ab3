//! The connection to the bus: its signals, in order, and who may send them.

use std::{collections::HashMap, num::NonZeroUsize, time::Duration};

use zbus::{Connection, Message, MessageStream, ObjectPath, connection::Builder, message::Type};

use super::{
    BusChoice,
    call::{CallError, DBUS, DBUS_PATH, IMPORTD, IMPORTD_MANAGER, MACHINED, MACHINED_MANAGER, SHORT, TRANSFER, call},
    transfer::TransferNews,
};

/// Messages that zbus queues before it stops reading: a transfer tells its log line by line.
const MOST_QUEUED: usize = 4096;

/// How long the handshake with the bus may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(25);

/// The connection, drained.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) stream: MessageStream,
    /// Unique names of those whose signals count, by their well-known names.
    owners: HashMap<&'static str, String>,
}

/// What a message tells.
#[derive(Debug)]
pub(super) enum Told {
    /// Machines came or went.
    Machines,
    /// A service has another owner; `false` = it left, by itself or not.
    Owner(&'static str, bool),
    /// Of a transfer.
    Transfer(TransferNews),
}

impl Link {
    /// Connects, and asks the bus for the signals. It is not drained before it is returned, so nothing is called but
    /// what the bus itself answers.
    pub(super) async fn connect(bus: &BusChoice) -> Result<Self, CallError> {
        let builder = match bus {
            BusChoice::System => Builder::system(),
            BusChoice::Address(address) => Builder::address(address.as_str()),
        };
        let queued = NonZeroUsize::new(MOST_QUEUED).unwrap_or(NonZeroUsize::MIN);
        let connecting = async { builder.max_queued(queued).build().await };
        let connection = tokio::time::timeout(CONNECT_LIMIT, connecting)
            .await
            .map_err(|_| CallError::Away(format!("the bus did not answer within {CONNECT_LIMIT:?}")))?
            .map_err(|error| CallError::Away(format!("the bus is out of reach: {error}")))?;
        let stream = MessageStream::from(&connection);
        let mut link = Self { connection, stream, owners: HashMap::new() };
        for rule in rules() {
            link.driver("AddMatch", &rule).await?;
        }
        for service in [MACHINED, IMPORTD] {
            match link.driver("GetNameOwner", service).await {
                Ok(reply) => drop(link.owners.insert(service, reply.body().deserialize()?)),
                // It does not run now.
                Err(CallError::Refused { .. } | CallError::Away(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(link)
    }

    async fn driver(&self, member: &str, argument: &str) -> Result<Message, CallError> {
        call(&self.connection, (DBUS, DBUS_PATH, DBUS), member, &argument, SHORT).await
    }

    /// Reads a message; `None` of what is of no concern, and of signals of others: any peer can send any.
    pub(super) fn told(&mut self, message: &Message) -> Option<Told> {
        if message.message_type() != Type::Signal {
            return None;
        }
        let header = message.header();
        let (sender, interface, member) = (header.sender()?, header.interface()?, header.member()?);
        let body = message.body();
        if sender.as_str() == DBUS && member.as_str() == "NameOwnerChanged" {
            let (name, _, owner): (&str, &str, &str) = body.deserialize().ok()?;
            let service = [MACHINED, IMPORTD].into_iter().find(|service| *service == name)?;
            if owner.is_empty() {
                self.owners.remove(service);
            } else {
                self.owners.insert(service, owner.to_owned());
            }
            return Some(Told::Owner(service, !owner.is_empty()));
        }
        let is_from = |service| self.owners.get(service).is_some_and(|owner| *owner == sender.as_str());
        match (interface.as_str(), member.as_str()) {
            (MACHINED_MANAGER, "MachineNew" | "MachineRemoved") if is_from(MACHINED) => Some(Told::Machines),
            (IMPORTD_MANAGER, "TransferRemoved") if is_from(IMPORTD) => {
                let (_, path, result): (u32, ObjectPath<'_>, String) = body.deserialize().ok()?;
                Some(Told::Transfer(TransferNews::Ended { path: path.to_string(), result }))
            }
            (TRANSFER, "LogMessage") if is_from(IMPORTD) => {
                let (priority, line): (u32, String) = body.deserialize().ok()?;
                let path = header.path()?.to_string();
                Some(Told::Transfer(TransferNews::Line { path, priority, line }))
            }
            _ => None,
        }
    }
}

/// The few matches that suffice.
fn rules() -> Vec<String> {
    let mut rules: Vec<String> = [MACHINED, IMPORTD]
        .iter()
        .map(|service| {
            format!("type='signal',sender='{DBUS}',interface='{DBUS}',member='NameOwnerChanged',arg0='{service}'")
        })
        .collect();
    for (service, interface) in [(MACHINED, MACHINED_MANAGER), (IMPORTD, IMPORTD_MANAGER), (IMPORTD, TRANSFER)] {
        rules.push(format!("type='signal',sender='{service}',interface='{interface}'"));
    }
    rules
}
