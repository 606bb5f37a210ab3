//! The task that owns the connection, and what others see of it: rows, facts, and a way to write.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    cache::Cache,
    mirror::Mirror,
    remote::{Appearance, Backoff, Remote},
    rpc::RemoteError,
    session::Session,
};
use crate::{
    model::{Backend, BackendStatus},
    plugins::{Events, PluginEvent},
};

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A server that says nothing for so long although it owes an answer counts as gone.
    pub answer: Duration,
    /// After so long without a word, an echo goes before a write: nobody else notices a dead peer on a unix socket.
    pub idle: Duration,
    /// After so long without a word, an echo goes by itself.
    pub probe: Duration,
    /// How long ovs-vswitchd may take to apply what was committed.
    pub applied: Duration,
    /// How long somebody else may take to plug a container's port.
    pub settle: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            idle: Duration::from_secs(5),
            probe: Duration::from_secs(180),
            applied: Duration::from_secs(10),
            settle: Duration::from_secs(2),
        }
    }
}

/// What is known of the database.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The rows; while the server is away, the last known.
    pub(super) cache: Cache,
    /// The facts made from them; always as new as the rows.
    pub(super) mirror: Mirror,
    /// The number of the connection that the rows come from; `None` while there is none.
    pub(super) epoch: Option<u64>,
    /// Connections made so far.
    connections: u64,
}

impl State {
    /// Takes the rows of a new connection.
    pub(super) fn load(&mut self, cache: Cache) {
        self.cache = cache;
        self.connections += 1;
        self.epoch = Some(self.connections);
    }

    /// How often the connection was made anew.
    pub(super) fn reconnects(&self) -> u32 {
        u32::try_from(self.connections.saturating_sub(1)).unwrap_or(u32::MAX)
    }
}

/// A transaction to be sent.
#[derive(Debug)]
pub(super) struct Request {
    /// The operations.
    pub(super) operations: Vec<Value>,
    /// The connection whose rows they were made from: on another they are void.
    pub(super) epoch: u64,
    /// Where the result goes.
    pub(super) reply: oneshot::Sender<Result<Vec<Value>, TransactError>>,
}

/// Why a transaction has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TransactError {
    /// The connection was lost. Whether the transaction was carried out is not known, unless it was never sent.
    #[error("{why}")]
    Lost {
        /// It may have been carried out.
        sent: bool,
        /// Why.
        why: String,
    },
    /// The server refused the request as a whole.
    #[error(transparent)]
    Refused(#[from] RemoteError),
}

/// What the connection's task shares with those who write.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
    requests: mpsc::UnboundedSender<Request>,
}

impl Shared {
    /// The state, for a moment: nobody keeps it over an await.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A receiver that sees each change of the state. What the state holds when a change is seen was sent to the model
    /// before.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Tells that the state changed.
    pub(super) fn changed(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// Carries out a transaction that was made from the rows of connection `epoch`. When it answers, the rows are
    /// already as the transaction left them.
    pub(super) async fn transact(&self, epoch: u64, operations: Vec<Value>) -> Result<Vec<Value>, TransactError> {
        let lost = |sent| TransactError::Lost { sent, why: "the connection's task has ended".to_owned() };
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request { operations, epoch, reply }).map_err(|_| lost(false))?;
        answer.await.map_err(|_| lost(true))?
    }
}

/// Starts the task that connects, follows and connects again, until nobody holds the handle any more.
pub(super) fn start(remote: Remote, timing: Timing, events: Events) -> Arc<Shared> {
    let (requests, receiver) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared { state: Mutex::default(), revision: watch::Sender::new(0), requests });
    // The task must not keep alive what ends it.
    let client = Client { remote, timing, events, shared: Arc::downgrade(&shared), requests: receiver, told: None };
    tokio::spawn(client.run());
    shared
}

struct Client {
    remote: Remote,
    timing: Timing,
    events: Events,
    shared: std::sync::Weak<Shared>,
    requests: mpsc::UnboundedReceiver<Request>,
    /// What was said of the backend last: nobody needs to hear it at each attempt.
    told: Option<(BackendStatus, String)>,
}

impl Client {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        self.tell(BackendStatus::Connecting, String::new());
        loop {
            let mut appearance = Appearance::of(&self.remote);
            let attempt = tokio::time::timeout(self.timing.answer, self.remote.connect()).await;
            match attempt.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
                Ok(stream) => {
                    let Some(end) = self.follow(stream).await else { return };
                    if end.loaded {
                        backoff.reset();
                        // Meanwhile the session said that it was connected.
                        self.told = None;
                        tracing::warn!(remote = %self.remote, why = end.why, "lost the connection to OVSDB");
                        self.tell(BackendStatus::Connecting, end.why);
                    } else {
                        self.tell(BackendStatus::Unavailable, format!("{}: {}", self.remote, end.why));
                    }
                }
                Err(error) => self.tell(BackendStatus::Unavailable, format!("{}: {error}", self.remote)),
            }
            let pause = tokio::time::sleep(backoff.next());
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    () = appearance.wait() => {
                        backoff.reset();
                        break;
                    }
                    request = self.requests.recv() => match request {
                        Some(request) => refuse(request, "the server is away"),
                        None => return,
                    },
                }
            }
        }
    }

    /// Follows one connection to its end; `None` when the handle is gone.
    async fn follow(&mut self, stream: Box<dyn super::remote::Stream>) -> Option<super::session::End> {
        let session = Session::new(stream, self.timing, self.events.clone(), self.shared.clone());
        let end = session.run(&mut self.requests).await;
        let shared = self.shared.upgrade()?;
        shared.state().epoch = None;
        shared.changed();
        Some(end)
    }

    fn tell(&mut self, status: BackendStatus, message: String) {
        let Some(shared) = self.shared.upgrade() else { return };
        let told = Some((status, message.clone()));
        if self.told == told {
            return;
        }
        self.told = told;
        let reconnects = shared.state().reconnects();
        self.events.send(PluginEvent::Backend(Backend { status, message, version: String::new(), reconnects }));
    }
}

/// Answers a request that cannot be sent.
pub(super) fn refuse(request: Request, why: &str) {
    // Nobody may be waiting any more.
    let _ = request.reply.send(Err(TransactError::Lost { sent: false, why: why.to_owned() }));
}
