//! One connection from its first byte to its last.

use std::{collections::HashMap, io, sync::Weak, time::Duration};

use futures::FutureExt as _;
use serde_json::{Value, json, value::RawValue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    cache::{Cache, CacheError, Notation},
    client::{Request, Shared, State, Timing, TransactError, refuse},
    frame::{FrameError, Splitter},
    remote::Stream,
    rpc::{self, Incoming, RemoteError},
    schema::{self, DATABASE},
};
use crate::{
    model::{Backend, BackendStatus, Change, SwitchFacts},
    plugins::{Events, PluginEvent},
};

/// The longest message: far above what 100,000 ports take (31 MB), far below what would hurt.
const LONGEST_MESSAGE: usize = 256 << 20;

/// So much is read before the model is told, even if more has arrived.
const BATCH_BYTES: usize = 4 << 20;

/// Room made for each read.
const READ_BYTES: usize = 64 << 10;

/// The id of our monitor.
const MONITOR: &str = "op-dbus";

/// The transaction that a server has nothing since; all rows come.
const NO_TRANSACTION: &str = "00000000-0000-0000-0000-000000000000";

/// Ways to follow a database, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follow {
    CondSince,
    Cond,
    Plain,
}

impl Follow {
    const fn method(self) -> &'static str {
        match self {
            Self::CondSince => "monitor_cond_since",
            Self::Cond => "monitor_cond",
            Self::Plain => "monitor",
        }
    }

    const fn next(self) -> Option<Self> {
        match self {
            Self::CondSince => Some(Self::Cond),
            Self::Cond => Some(Self::Plain),
            Self::Plain => None,
        }
    }

    const fn notation(self) -> Notation {
        match self {
            Self::CondSince | Self::Cond => Notation::Difference,
            Self::Plain => Notation::Whole,
        }
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(super) struct End {
    /// All rows had come.
    pub(super) loaded: bool,
    /// Why it ended.
    pub(super) why: String,
}

/// What ends a connection.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the server closed the connection")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer for {} s", .0.as_secs_f32())]
    Silent(Duration),
    #[error("the server sent what cannot be read: {0}")]
    Frame(#[from] FrameError),
    #[error("the server sent what cannot be read: {0}")]
    Message(#[from] serde_json::Error),
    #[error("the server sent what cannot be followed: {0}")]
    Cache(#[from] CacheError),
    #[error("the server refuses to be followed: {0}")]
    Monitor(RemoteError),
    #[error("the server cancelled the monitor: the database is being converted")]
    Cancelled,
    #[error("op-dbus ends")]
    Unwanted,
}

/// What an answer is awaited for.
#[derive(Debug)]
enum Awaited {
    Monitor(Follow),
    Echo,
    Transact(oneshot::Sender<Result<Vec<Value>, TransactError>>),
}

/// An answer that goes out once the model was told what came before it.
type Answer = (oneshot::Sender<Result<Vec<Value>, TransactError>>, Result<Vec<Value>, TransactError>);

pub(super) struct Session {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    splitter: Splitter,
    out: Vec<u8>,
    timing: Timing,
    events: Events,
    shared: Weak<Shared>,
    next_id: u64,
    awaited: HashMap<u64, Awaited>,
    /// Requests that wait for the echo before them.
    held: Vec<Request>,
    /// When the server last said something.
    heard: Instant,
    /// When we last asked something.
    asked: Instant,
    follow: Option<Follow>,
    version: String,
    /// Something waits for ovs-vswitchd: what `cur_cfg` stands at, and since when it was seen to.
    lag: Option<(i64, Instant)>,
    /// When that was looked at last.
    told_at: Instant,
}

impl Session {
    pub(super) fn new(stream: Box<dyn Stream>, timing: Timing, events: Events, shared: Weak<Shared>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let now = Instant::now();
        Self {
            reader,
            writer,
            splitter: Splitter::new(LONGEST_MESSAGE),
            out: Vec::new(),
            timing,
            events,
            shared,
            next_id: 0,
            awaited: HashMap::new(),
            held: Vec::new(),
            heard: now,
            asked: now,
            follow: None,
            version: String::new(),
            lag: None,
            told_at: now,
        }
    }

    /// Loads and follows until the connection ends.
    pub(super) async fn run(mut self, requests: &mut mpsc::UnboundedReceiver<Request>) -> End {
        self.monitor(Follow::CondSince);
        let why = loop {
            if let Err(lost) = self.turn(requests).await {
                break lost.to_string();
            }
        };
        for awaited in std::mem::take(&mut self.awaited).into_values() {
            if let Awaited::Transact(reply) = awaited {
                let _ = reply.send(Err(TransactError::Lost { sent: true, why: why.clone() }));
            }
        }
        for request in std::mem::take(&mut self.held) {
            refuse(request, &why);
        }
        End { loaded: self.follow.is_some(), why }
    }

    /// Waits for one thing to happen and deals with it.
    async fn turn(&mut self, requests: &mut mpsc::UnboundedReceiver<Request>) -> Result<(), Lost> {
        let waiting = !self.awaited.is_empty();
        let deadline =
            if waiting { self.heard.max(self.asked) + self.timing.answer } else { self.heard + self.timing.probe };
        let hangs_at = self.lag.map(|(_, since)| since + self.timing.applied).filter(|at| *at > self.told_at);
        let buffer = self.splitter.buffer();
        buffer.reserve(READ_BYTES);
        tokio::select! {
            read = self.reader.read_buf(buffer) => self.read(read?),
            written = self.writer.write(&self.out), if !self.out.is_empty() => {
                self.out.drain(..written?);
                Ok(())
            }
            // Before all rows have come, nobody can have made a transaction from them: requests are of old.
            request = requests.recv() => {
                self.submit(request.ok_or(Lost::Unwanted)?);
                Ok(())
            }
            () = tokio::time::sleep_until(deadline) => {
                if waiting {
                    return Err(Lost::Silent(self.timing.answer));
                }
                self.ask("echo", &json!([]), Awaited::Echo);
                Ok(())
            }
            () = tokio::time::sleep_until(hangs_at.unwrap_or(deadline)), if hangs_at.is_some() => {
                let Some(shared) = self.shared.upgrade() else { return Err(Lost::Unwanted) };
                self.tell(&mut shared.state());
                Ok(())
            }
        }
    }

    fn ask(&mut self, method: &str, params: &Value, awaited: Awaited) {
        self.next_id += 1;
        self.out.extend(rpc::request(self.next_id, method, params));
        self.awaited.insert(self.next_id, awaited);
        self.asked = Instant::now();
    }

    fn monitor(&mut self, follow: Follow) {
        let mut params = vec![json!(DATABASE), json!(MONITOR), schema::monitor_requests()];
        if follow == Follow::CondSince {
            params.push(json!(NO_TRANSACTION));
        }
        self.ask(follow.method(), &Value::Array(params), Awaited::Monitor(follow));
    }

    /// Sends a transaction, after an echo if nothing was heard for long: what is written to a dead peer is in doubt.
    fn submit(&mut self, request: Request) {
        let current = self.shared.upgrade().and_then(|shared| shared.state().epoch);
        if self.follow.is_none() || current != Some(request.epoch) {
            refuse(request, "the connection was made anew meanwhile");
        } else if !self.held.is_empty() || self.heard.elapsed() > self.timing.idle {
            if self.held.is_empty() {
                self.ask("echo", &json!([]), Awaited::Echo);
            }
            self.held.push(request);
        } else {
            self.send(request);
        }
    }

    fn send(&mut self, request: Request) {
        let params: Vec<Value> = std::iter::once(json!(DATABASE)).chain(request.operations).collect();
        self.ask("transact", &Value::Array(params), Awaited::Transact(request.reply));
    }

    /// Takes in what was read and what else is there already, and tells it as one batch.
    fn read(&mut self, first: usize) -> Result<(), Lost> {
        self.heard = Instant::now();
        let (mut closed, mut total) = (first == 0, first);
        while !closed && total < BATCH_BYTES {
            let buffer = self.splitter.buffer();
            buffer.reserve(READ_BYTES);
            match self.reader.read_buf(buffer).now_or_never() {
                Some(read) => {
                    let read = read?;
                    closed = read == 0;
                    total += read;
                }
                None => break,
            }
        }
        let Some(shared) = self.shared.upgrade() else { return Err(Lost::Unwanted) };
        let mut answers = Vec::new();
        let outcome = {
            let mut state = shared.state();
            let outcome = self.take_in(&mut state, &mut answers);
            if outcome.is_ok() && self.follow.is_some() {
                self.tell(&mut state);
            }
            outcome
        };
        // The model was told: now those who wait may look.
        shared.changed();
        for (reply, result) in answers {
            // Nobody may be waiting any more.
            let _ = reply.send(result);
        }
        outcome?;
        if closed { Err(Lost::Closed) } else { Ok(()) }
    }

    fn take_in(&mut self, state: &mut State, answers: &mut Vec<Answer>) -> Result<(), Lost> {
        // Messages are read where they lie.
        let mut splitter = std::mem::replace(&mut self.splitter, Splitter::new(LONGEST_MESSAGE));
        while let Some(frame) = splitter.next_frame()? {
            match Incoming::parse(frame)? {
                Incoming::Echo { id, params } => self.out.extend(rpc::echo_reply(&id, &params)),
                Incoming::Notification { method, params } => notified(state, &method, params)?,
                Incoming::Reply { id, result } => match self.awaited.remove(&id) {
                    Some(Awaited::Monitor(follow)) => self.loaded(state, follow, result)?,
                    Some(Awaited::Echo) => {
                        for request in std::mem::take(&mut self.held) {
                            self.send(request);
                        }
                    }
                    Some(Awaited::Transact(reply)) => {
                        let result = match result {
                            Ok(elements) => Ok(elements.map(list).transpose()?.unwrap_or_default()),
                            Err(error) => Err(TransactError::Refused(error)),
                        };
                        answers.push((reply, result));
                    }
                    None => {}
                },
                Incoming::Other => {}
            }
        }
        self.splitter = splitter;
        Ok(())
    }

    /// The answer to the monitor: all rows, or a word that the server is too old for this way.
    fn loaded(
        &mut self,
        state: &mut State,
        follow: Follow,
        result: Result<Option<&RawValue>, RemoteError>,
    ) -> Result<(), Lost> {
        let rows = match (result, follow.next()) {
            (Ok(result), _) => result,
            (Err(error), Some(next)) if error.error == "unknown method" => {
                self.monitor(next);
                return Ok(());
            }
            (Err(error), _) => return Err(Lost::Monitor(error)),
        };
        let rows = match (rows, follow) {
            (Some(rows), Follow::CondSince) => list::<&RawValue>(rows)?.get(2).copied(),
            (rows, _) => rows,
        };
        let mut cache = Cache::default();
        cache.apply(follow.notation(), rows.map(RawValue::get).unwrap_or_default())?;
        state.load(cache);
        self.follow = Some(follow);
        let mut changes = state.mirror.reset(&mut state.cache);
        self.lag = None;
        let hangs = self.hangs(state);
        // Said in any case: what was known of it belongs to the connection before.
        changes.push(state.mirror.drain_switch(hangs).unwrap_or_else(|| Change::Switch(SwitchFacts::default())));
        tracing::info!(by = follow.method(), resources = changes.len(), "connected to OVSDB");
        self.events.send(PluginEvent::Reset(changes));
        // With a version of its own, so that the first `tell` does not say it again.
        self.version = version(state);
        self.tell_connected(state);
        Ok(())
    }

    /// Tells the model what this batch changed.
    fn tell(&mut self, state: &mut State) {
        let mut changes = state.mirror.drain(&mut state.cache);
        let hangs = self.hangs(state);
        changes.extend(state.mirror.drain_switch(hangs));
        if !changes.is_empty() {
            self.events.send(PluginEvent::Changes(changes));
        }
        let version = version(state);
        if version != self.version {
            self.version = version;
            self.tell_connected(state);
        }
    }

    /// Whether ovs-vswitchd counts as hanging: what was committed waits for it, and it has not moved for too long.
    fn hangs(&mut self, state: &State) -> bool {
        let now = Instant::now();
        self.told_at = now;
        self.lag = state.mirror.awaited(&state.cache).map(|at| match self.lag {
            Some((was, since)) if was == at => (was, since),
            _ => (at, now),
        });
        self.lag.is_some_and(|(_, since)| since + self.timing.applied <= now)
    }

    fn tell_connected(&self, state: &State) {
        self.events.send(PluginEvent::Backend(Backend {
            status: BackendStatus::Connected,
            message: String::new(),
            version: self.version.clone(),
            reconnects: state.reconnects(),
        }));
    }
}

/// The version of Open vSwitch; of its database where ovs-vswitchd never ran.
fn version(state: &State) -> String {
    let Some(root) = state.cache.root() else { return String::new() };
    [root.text("ovs_version"), root.text("db_version")]
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or("")
        .to_owned()
}

/// Applies a notification, if it is an update of ours.
fn notified(state: &mut State, method: &str, params: Option<&RawValue>) -> Result<(), Lost> {
    let (notation, at) = match method {
        "update" => (Notation::Whole, 1),
        "update2" => (Notation::Difference, 1),
        "update3" => (Notation::Difference, 2),
        "monitor_canceled" => return Err(Lost::Cancelled),
        _ => return Ok(()),
    };
    let params = params.map(list::<&RawValue>).transpose()?.unwrap_or_default();
    let monitor = params.first().map(|id| serde_json::from_str::<String>(id.get())).transpose()?;
    if monitor.as_deref() != Some(MONITOR) {
        return Ok(());
    }
    Ok(state.cache.apply(notation, params.get(at).map(|updates| updates.get()).unwrap_or_default())?)
}

fn list<'a, T: serde::Deserialize<'a>>(json: &'a RawValue) -> Result<Vec<T>, serde_json::Error> {
    serde_json::from_str(json.get())
}
