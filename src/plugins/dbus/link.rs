//! A connection to a bus. One task drains it: replies go to whoever called, signals to the actor, in the order of the bus.

use std::{
    collections::HashMap,
    num::{NonZeroU32, NonZeroUsize},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use tokio::sync::{OnceCell, Semaphore, mpsc, oneshot};
use zbus::{Connection, Message, MessageStream, connection::Builder, message::Type};

use super::{
    BusPlace,
    call::{CallError, driver, reply_of},
};
use crate::desired::ObjectBus;

/// Calls in flight at a time. The system bus refuses those beyond 128 of one connection.
const MOST_IN_FLIGHT: usize = 64;

/// Calls in flight to one service: one that hangs must not use up what the others need.
const MOST_OF_ONE: usize = 8;

/// Messages that zbus queues before it stops reading.
const MOST_QUEUED: usize = 4096;

/// Signals that wait for the actor before the connection is read no further: a flood waits in the bus, not in memory.
const MOST_SIGNALS: usize = 1024;

/// First wait before a bus is tried again; doubles.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Longest such wait.
const LAST_WAIT: Duration = Duration::from_secs(30);

/// News of a bus.
#[derive(Debug)]
pub(super) enum News {
    /// Connected.
    Up(Link),
    /// Not, or not any more, and why.
    Down(String),
    /// A signal.
    Signal(Message),
}

/// What the drain awaits.
#[derive(Debug)]
struct Pending {
    message: Message,
    reply: oneshot::Sender<Result<Message, CallError>>,
}

/// The handle of a connection.
#[derive(Debug, Clone)]
pub(super) struct Link {
    outgoing: mpsc::UnboundedSender<Pending>,
    all: Arc<Semaphore>,
    each: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
    rules: Arc<Mutex<HashMap<String, Arc<OnceCell<()>>>>>,
}

impl Link {
    /// Calls, and waits for that long at most, once it is this call's turn.
    pub(super) async fn call(&self, message: Message, limit: Duration) -> Result<Message, CallError> {
        let header = message.header();
        let service = header.destination().map(ToString::to_string).unwrap_or_default();
        let member = header.member().map(ToString::to_string).unwrap_or_default();
        let gone = || CallError::Away("the connection was lost".to_owned());
        let own = {
            let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
            each.entry(service.clone()).or_insert_with(|| Arc::new(Semaphore::new(MOST_OF_ONE))).clone()
        };
        let _own = own.acquire().await.map_err(|_| gone())?;
        let _turn = self.all.acquire().await.map_err(|_| gone())?;
        let (reply, answer) = oneshot::channel();
        self.outgoing.send(Pending { message: message.clone(), reply }).map_err(|_| gone())?;
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|_| gone())?,
            Err(_) => Err(CallError::TimedOut { service, member, limit }),
        }
    }

    /// Asks the bus for the signals of that rule, once.
    pub(super) async fn listen(&self, rule: &str, limit: Duration) -> Result<(), CallError> {
        let cell =
            self.rules.lock().unwrap_or_else(PoisonError::into_inner).entry(rule.to_owned()).or_default().clone();
        let add = || async { self.call(driver("AddMatch", rule)?, limit).await.map(drop) };
        cell.get_or_try_init(add).await.copied()
    }

    /// Asks the bus no more for the signals of rules that are not among these.
    pub(super) fn listen_only(&self, rules: &std::collections::BTreeSet<String>, limit: Duration) {
        let mut known = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let idle: Vec<String> = known.keys().filter(|rule| !rules.contains(*rule)).cloned().collect();
        for rule in idle {
            known.remove(&rule);
            let link = self.clone();
            tokio::spawn(async move {
                if let Ok(message) = driver("RemoveMatch", &rule) {
                    // One that was never added cannot be removed, and nothing is lost by that.
                    let _ = link.call(message, limit).await;
                }
            });
        }
    }
}

/// Keeps a connection to that bus as long as somebody reads the news of it.
pub(super) async fn keep(bus: ObjectBus, place: BusPlace, limit: Duration, news: mpsc::Sender<(ObjectBus, News)>) {
    let mut wait = FIRST_WAIT;
    loop {
        let why = match tokio::time::timeout(limit, connect(bus, &place)).await {
            Ok(Ok(connection)) => {
                wait = FIRST_WAIT;
                match drain(bus, connection, &news).await {
                    Some(why) => why,
                    None => return,
                }
            }
            Ok(Err(error)) => format!("cannot connect to the {} bus: {error}", bus.as_str()),
            Err(_) => format!("the {} bus did not answer within {limit:?}", bus.as_str()),
        };
        if news.send((bus, News::Down(why))).await.is_err() {
            return;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LAST_WAIT);
    }
}

async fn connect(bus: ObjectBus, place: &BusPlace) -> Result<Connection, zbus::Error> {
    let builder = match (place, bus) {
        (BusPlace::Address(address), _) => Builder::address(address.as_str()),
        (BusPlace::Usual, ObjectBus::System) => Builder::system(),
        (BusPlace::Usual, ObjectBus::Session) => Builder::session(),
    };
    builder.max_queued(NonZeroUsize::new(MOST_QUEUED).unwrap_or(NonZeroUsize::MIN)).build().await
}

/// Reads the connection until it is lost; returns why, or `None` where nobody reads the news any more.
async fn drain(bus: ObjectBus, connection: Connection, news: &mpsc::Sender<(ObjectBus, News)>) -> Option<String> {
    let mut stream = MessageStream::from(&connection);
    let (outgoing, mut calls) = mpsc::unbounded_channel::<Pending>();
    let (written, mut to_write) = mpsc::unbounded_channel::<Message>();
    let writer = tokio::spawn(async move {
        while let Some(message) = to_write.recv().await {
            // A connection that cannot be written ends its stream, which is where that is dealt with.
            if connection.send(&message).await.is_err() {
                return;
            }
        }
    });
    // Signals wait in a queue of their own, so that replies never wait for whoever reads the signals.
    let (signals, mut queued) = mpsc::channel::<Message>(MOST_SIGNALS);
    let link =
        Link { outgoing, all: Arc::new(Semaphore::new(MOST_IN_FLIGHT)), each: Arc::default(), rules: Arc::default() };
    if news.send((bus, News::Up(link))).await.is_err() {
        return None;
    }
    let told = news.clone();
    let forward = tokio::spawn(async move {
        while let Some(message) = queued.recv().await {
            if told.send((bus, News::Signal(message))).await.is_err() {
                return;
            }
        }
    });
    let mut pending: HashMap<NonZeroU32, oneshot::Sender<Result<Message, CallError>>> = HashMap::new();
    let why = loop {
        tokio::select! {
            () = news.closed() => break None,
            call = calls.recv() => {
                let Some(Pending { message, reply }) = call else { break None };
                // Whoever gave up waiting needs no answer.
                pending.retain(|_, reply| !reply.is_closed());
                pending.insert(message.primary_header().serial_num(), reply);
                let _ = written.send(message);
            }
            message = stream.next() => match message {
                Some(Ok(message)) => match message.message_type() {
                    Type::Signal => {
                        if signals.send(message).await.is_err() {
                            break None;
                        }
                    }
                    Type::MethodReturn | Type::Error => {
                        let serial = message.header().reply_serial();
                        if let Some(reply) = serial.and_then(|serial| pending.remove(&serial)) {
                            let _ = reply.send(reply_of(message));
                        }
                    }
                    Type::MethodCall => {}
                },
                Some(Err(error)) => break Some(format!("lost the {} bus: {error}", bus.as_str())),
                None => break Some(format!("the {} bus closed the connection", bus.as_str())),
            }
        }
    };
    writer.abort();
    drop(signals);
    if why.is_none() {
        forward.abort();
    } else {
        // What came before the end is told before the end.
        let _ = forward.await;
    }
    why
}
