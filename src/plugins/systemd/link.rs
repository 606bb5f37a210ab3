//! The connection to the bus that systemd is on: calls that are under way, in the order of the bus.
//!
//! Replies are taken from the same stream as signals, so that whoever reads them knows what came before what. The
//! stream must always be drained: an undrained one stops the whole connection (zbus queues a bounded number of
//! messages). Nothing here waits for a reply.

use std::{
    collections::{HashMap, VecDeque},
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use zbus::{Connection, Message, MessageStream, connection::Builder, message::Type};

use super::{
    call::{CallError, SYSTEMD, reply_of},
    exchange::Question,
};

/// Calls in flight at a time. The system bus refuses those beyond 128 of one connection.
const MOST_IN_FLIGHT: usize = 64;

/// Messages that zbus queues before it stops reading; a daemon-reload of a large machine makes a thousand at once.
const MOST_QUEUED: usize = 4096;

const DBUS: &str = "org.freedesktop.DBus";
const DBUS_PATH: &str = "/org/freedesktop/DBus";

/// Where systemd is found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum BusChoice {
    /// The system bus.
    #[default]
    System,
    /// The session bus.
    Session,
    /// A bus at that D-Bus address.
    Address(String),
}

/// Who awaits a reply.
#[derive(Debug)]
pub(super) enum Awaits {
    /// The mirror.
    Mirror(Question),
    /// A step.
    Step(oneshot::Sender<Result<Message, CallError>>),
    /// The link itself: who owns systemd's name.
    Owner,
    /// The actor: systemd's version.
    Version,
    /// Nobody: it is enough that it was sent.
    Nobody,
}

#[derive(Debug)]
struct Pending {
    awaits: Awaits,
    member: String,
    limit: Duration,
    sent: Instant,
}

/// A reply, and who awaits it.
#[derive(Debug)]
pub(super) struct Reply {
    /// Who.
    pub(super) awaits: Awaits,
    /// What.
    pub(super) result: Result<Message, CallError>,
}

/// The connection.
#[derive(Debug)]
pub(super) struct Link {
    /// Everything that the bus delivers, in its order.
    pub(super) stream: MessageStream,
    /// Unique name of systemd's connection, while it has one.
    pub(super) owner: Option<String>,
    outgoing: mpsc::UnboundedSender<Message>,
    pending: HashMap<NonZeroU32, Pending>,
    queue: VecDeque<(Message, Pending)>,
}

impl Link {
    /// Connects, and asks the bus for systemd's signals and for its owner. Nothing is awaited but the handshake.
    pub(super) async fn connect(bus: &BusChoice, limit: Duration) -> Result<Self, zbus::Error> {
        let builder = match bus {
            BusChoice::System => Builder::system(),
            BusChoice::Session => Builder::session(),
            BusChoice::Address(address) => Builder::address(address.as_str()),
        };
        let queued = NonZeroUsize::new(MOST_QUEUED).unwrap_or(NonZeroUsize::MIN);
        let connection = builder.max_queued(queued).method_timeout(limit).build().await?;
        let stream = MessageStream::from(&connection);
        let (outgoing, messages) = mpsc::unbounded_channel();
        tokio::spawn(write(connection, messages));
        let mut link = Self { stream, owner: None, outgoing, pending: HashMap::new(), queue: VecDeque::new() };
        for rule in rules() {
            link.call(driver("AddMatch", &rule)?, Awaits::Nobody, limit);
        }
        link.call(driver("GetNameOwner", SYSTEMD)?, Awaits::Owner, limit);
        Ok(link)
    }

    /// Sends a call, as soon as few enough are in flight.
    pub(super) fn call(&mut self, message: Message, awaits: Awaits, limit: Duration) {
        let member = message.header().member().map(ToString::to_string).unwrap_or_default();
        let pending = Pending { awaits, member, limit, sent: Instant::now() };
        if self.pending.len() < MOST_IN_FLIGHT {
            self.send(message, pending);
        } else {
            self.queue.push_back((message, pending));
        }
    }

    fn send(&mut self, message: Message, mut pending: Pending) {
        pending.sent = Instant::now();
        self.pending.insert(message.primary_header().serial_num(), pending);
        // The writer ends only with the connection, and then the stream ends as well.
        let _ = self.outgoing.send(message);
    }

    /// The reply that this message is; `None` of any other message, and of a reply that nobody awaits any more.
    pub(super) fn reply(&mut self, message: &Message) -> Option<Reply> {
        if !matches!(message.message_type(), Type::MethodReturn | Type::Error) {
            return None;
        }
        let pending = self.pending.remove(&message.header().reply_serial()?)?;
        self.send_queued();
        Some(Reply { awaits: pending.awaits, result: reply_of(message.clone()) })
    }

    fn send_queued(&mut self) {
        while self.pending.len() < MOST_IN_FLIGHT
            && let Some((message, pending)) = self.queue.pop_front()
        {
            self.send(message, pending);
        }
    }

    /// When the next call has waited for too long; `patience` is added to what each may wait.
    pub(super) fn deadline(&self, patience: Duration) -> Option<Instant> {
        self.pending.values().map(|pending| pending.sent + pending.limit + patience).min()
    }

    /// Takes out the calls that have waited for too long.
    pub(super) fn overdue(&mut self, patience: Duration) -> Vec<Reply> {
        let now = Instant::now();
        let late: Vec<NonZeroU32> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.sent + pending.limit + patience <= now)
            .map(|(serial, _)| *serial)
            .collect();
        let taken = late.iter().filter_map(|serial| self.pending.remove(serial)).collect::<Vec<_>>();
        self.send_queued();
        let reply = |pending: Pending| Reply {
            awaits: pending.awaits,
            result: Err(CallError::TimedOut { member: pending.member, limit: pending.limit + patience }),
        };
        taken.into_iter().map(reply).collect()
    }

    /// Takes out all calls: systemd is gone, and will not answer them.
    pub(super) fn give_up(&mut self, why: &str) -> Vec<Reply> {
        let queued = self.queue.drain(..).map(|(_, pending)| pending);
        self.pending
            .drain()
            .map(|(_, pending)| pending)
            .chain(queued)
            .map(|pending| Reply { awaits: pending.awaits, result: Err(CallError::Away(why.to_owned())) })
            .collect()
    }

    /// Whether the message is systemd's. A peer may send us a signal of any name.
    pub(super) fn is_from_systemd(&self, message: &Message) -> bool {
        let header = message.header();
        header.sender().is_some_and(|sender| self.owner.as_deref() == Some(sender.as_str()))
    }

    /// The new owner of systemd's name, if that is what the message tells; the empty text = nobody.
    pub(super) fn owner_change(message: &Message) -> Option<String> {
        let header = message.header();
        let is_change = header.member().is_some_and(|member| member.as_str() == "NameOwnerChanged")
            && header.sender().is_some_and(|sender| sender.as_str() == DBUS);
        if message.message_type() != Type::Signal || !is_change {
            return None;
        }
        let body = message.body();
        let (name, _, owner): (&str, &str, &str) = body.deserialize().ok()?;
        (name == SYSTEMD).then(|| owner.to_owned())
    }
}

/// Writes messages in order until nobody has any more, as many at once as there are.
async fn write(connection: Connection, mut messages: mpsc::UnboundedReceiver<Message>) {
    let mut batch = Vec::new();
    while messages.recv_many(&mut batch, MOST_IN_FLIGHT).await > 0 {
        // A connection that cannot be written ends its stream, which is where that is dealt with.
        if connection.send_all(&batch).await.is_err() {
            return;
        }
        batch.clear();
    }
}

/// A call of the bus itself.
fn driver(member: &str, argument: &str) -> Result<Message, zbus::Error> {
    Message::method_call(DBUS_PATH, member).destination(DBUS).interface(DBUS).build(&argument)
}

/// The few matches that suffice. Not one per unit: a connection may have 512.
fn rules() -> [String; 4] {
    let properties = |interface: &str| {
        format!(
            "type='signal',sender='{SYSTEMD}',path_namespace='/org/freedesktop/systemd1/unit',\
             interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',arg0='{SYSTEMD}.{interface}'"
        )
    };
    [
        format!("type='signal',sender='{DBUS}',interface='{DBUS}',member='NameOwnerChanged',arg0='{SYSTEMD}'"),
        format!("type='signal',sender='{SYSTEMD}',path='/org/freedesktop/systemd1',interface='{SYSTEMD}.Manager'"),
        properties("Unit"),
        // Result and NRestarts come only with this one.
        properties("Service"),
    ]
}
