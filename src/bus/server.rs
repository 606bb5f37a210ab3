//! The task that serves the tree.
//!
//! It must never wait for an answer on the connection that it drains, and it sends everything itself, so that the
//! order on the wire is the order here: changes, then the replies of the calls that caused them.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    num::NonZeroUsize,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _};
use tokio::{
    sync::{Semaphore, mpsc},
    task::{JoinError, JoinSet},
    time::Instant,
};
use tracing::{error, info};
use zbus::{Connection, MatchRule, Message, MessageStream, connection::Builder, fdo::RequestNameFlags, message::Type};

use super::{
    BusAddress, BusConfig, BusError, NAME,
    auth::Authority,
    dispatch::{Outcome, dispatch},
    error::CallError,
    flow::{self, Flow, Unread},
    limits::Callers,
    managed::ManagedObjects,
    methods::Core,
    reply,
    request::{CoreRequest, Request},
    signals::Signals,
};
use crate::{
    model::{JobFacts, JobId, JobResult, Reader, Snapshot},
    reconcile::{Hub, Notice},
};

/// Calls that zbus queues before it stops reading: also the most that are answered before changes are looked at again.
const QUEUED_CALLS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Calls that are held at most; more wait with the bus.
const MAX_PENDING: usize = 1024;

/// While much lies unread, the bus is asked so often.
const CHECK_AGAIN: Duration = Duration::from_secs(1);

/// So many messages go out in one write; memory stays bounded when ten thousand objects appear at once.
const MESSAGES_PER_WRITE: usize = 512;

/// A bus that takes nothing for so long holds too much that clients do not read (see [`super::flow`]).
const STALL: Duration = Duration::from_secs(30);

/// Serves the tree on the bus until `shutdown` resolves.
///
/// The name is requested last, when calls are being answered. Everything that the hub's reader shows is on the tree;
/// every change is signalled once; notices go out after the changes they speak of.
///
/// # Errors
///
/// [`BusError`] where there is no bus, the name cannot be had, or the connection is lost.
pub async fn serve(
    config: BusConfig,
    hub: Hub,
    notices: mpsc::UnboundedReceiver<Notice>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), BusError> {
    let connection = connect(&config.address).await?;
    let calls = MessageStream::from(&connection);
    let helper = connect(&config.address).await?;
    let leavers = watch_leavers(&helper).await.map_err(BusError::Connect)?;
    let limits = config.limits;
    let core = Arc::new(Core {
        commands: hub.commands,
        authority: Authority::new(config.access, helper, limits.heavy_per_user),
        limits,
        parse: config.parse,
        parsers: Semaphore::new(limits.parsers),
    });
    let mut server = Server {
        sent: hub.reader.current(),
        reader: hub.reader,
        connection,
        core,
        callers: Callers::new(limits),
        waits: BTreeMap::new(),
        managed: VecDeque::new(),
        too_many: None,
        flow: Flow::new(),
        check_at: Instant::now(),
        pending: VecDeque::new(),
        tasks: JoinSet::new(),
        machine_id: machine_id(),
    };
    server.run(Sources { calls, leavers, notices }, config.ready, shutdown).await
}

async fn connect(address: &BusAddress) -> Result<Connection, BusError> {
    let builder = match address {
        BusAddress::System => Builder::system(),
        BusAddress::Session => Builder::session(),
        BusAddress::Address(address) => Builder::address(address.as_str()),
    };
    builder.max_queued(QUEUED_CALLS).build().await.map_err(BusError::Connect)
}

/// News of connections that leave the bus.
async fn watch_leavers(helper: &Connection) -> zbus::Result<MessageStream> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender("org.freedesktop.DBus")
        .interface("org.freedesktop.DBus")
        .member("NameOwnerChanged")
        // The new owner: nobody.
        .arg(2, "")
        .build()?;
    MessageStream::for_match_rule(rule, helper, Some(QUEUED_CALLS)).await
}

/// machine-id(5).
fn machine_id() -> Option<String> {
    let text = std::fs::read_to_string("/etc/machine-id").ok()?;
    let id = text.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

/// What wakes the task.
struct Sources {
    calls: MessageStream,
    leavers: MessageStream,
    notices: mpsc::UnboundedReceiver<Notice>,
}

/// What woke it.
#[derive(Default)]
struct Input {
    messages: Vec<Message>,
    leavers: Vec<Message>,
    notices: Vec<Notice>,
    done: Vec<Done>,
}

/// What came of a task.
enum Done {
    /// A call was carried out; `None` where its caller expects no reply.
    Reply(Option<Message>),
    /// The bus said how much lies unread.
    Unread(Unread),
}

struct Server {
    connection: Connection,
    core: Arc<Core>,
    reader: Reader,
    /// What clients know: all of it was sent, or can be read.
    sent: Arc<Snapshot>,
    callers: Callers,
    /// Calls of Job.Wait, by job.
    waits: BTreeMap<JobId, Vec<Message>>,
    /// Calls of GetManagedObjects: one after the other, smaller calls between them.
    managed: VecDeque<Message>,
    /// A snapshot whose objects do not fit a message.
    too_many: Option<Arc<Snapshot>>,
    flow: Flow,
    /// While much lies unread: when the bus is asked again.
    check_at: Instant,
    /// Calls not looked at yet.
    pending: VecDeque<Message>,
    tasks: JoinSet<Done>,
    machine_id: Option<String>,
}

impl Server {
    async fn run(
        &mut self,
        mut sources: Sources,
        mut ready: Option<tokio::sync::oneshot::Sender<()>>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), BusError> {
        let mut shutdown = pin!(shutdown.fuse());
        let connection = self.connection.clone();
        let mut naming = pin!(connection.request_name_with_flags(NAME, RequestNameFlags::DO_NOT_QUEUE).fuse());
        let mut told = true;
        loop {
            let changed = self.reader.listen();
            let mut input = Input::default();
            let mut ending = false;
            // Nothing may be published between listening and looking that would not wake the task.
            if Arc::ptr_eq(&self.sent, &self.reader.current()) {
                tokio::select! {
                    () = &mut shutdown => ending = true,
                    message = sources.calls.next(), if self.pending.len() < MAX_PENDING => input.messages.push(received(message)?),
                    message = sources.leavers.next() => input.leavers.push(received(message)?),
                    notice = sources.notices.recv(), if told => match notice {
                        Some(notice) => input.notices.push(notice),
                        // The core has ended; what it last published is still served.
                        None => told = false,
                    },
                    Some(done) = self.tasks.join_next() => input.done.extend(finished(done)),
                    () = changed => {}
                    named = &mut naming => match named {
                        Ok(_) => {
                            info!(name = NAME, "the tree is on the bus");
                            if let Some(ready) = ready.take() {
                                // Whoever asked may have gone.
                                let _ = ready.send(());
                            }
                        }
                        Err(zbus::Error::NameTaken) => return Err(BusError::NameTaken),
                        Err(why) => return Err(BusError::NameRefused(why)),
                    },
                    // What is left of the last turn. Others had theirs.
                    () = tokio::task::yield_now(), if self.has_more() => {}
                    () = tokio::time::sleep_until(self.check_at), if self.flow.is_congested() && !self.flow.is_checking() => {
                        self.check_unread(true);
                    }
                }
            }
            self.gather(&mut sources, &mut input)?;
            self.turn(input).await?;
            if ending {
                return self.end(&mut sources).await;
            }
        }
    }

    /// Takes what else is there already.
    fn gather(&mut self, sources: &mut Sources, input: &mut Input) -> Result<(), BusError> {
        while input.messages.len() + self.pending.len() < MAX_PENDING {
            match sources.calls.next().now_or_never() {
                Some(message) => input.messages.push(received(message)?),
                None => break,
            }
        }
        while let Some(message) = sources.leavers.next().now_or_never() {
            input.leavers.push(received(message)?);
        }
        while let Some(done) = self.tasks.try_join_next() {
            input.done.extend(finished(done));
        }
        // Last: a notice, and a reply, comes after the snapshot it speaks of, which is taken next.
        while let Ok(notice) = sources.notices.try_recv() {
            input.notices.push(notice);
        }
        Ok(())
    }

    /// Tells what changed, answers what was asked.
    async fn turn(&mut self, input: Input) -> Result<(), BusError> {
        let newest = self.reader.current();
        let mut out = Signals::default();
        if !Arc::ptr_eq(&self.sent, &newest) || !input.notices.is_empty() {
            out.add(&self.sent, &newest, &input.notices);
            let before = std::mem::replace(&mut self.sent, newest);
            self.answer_waits(&before, &mut out.0);
        }
        let mut out = out.0;
        for done in input.done {
            match done {
                Done::Reply(reply) => out.extend(reply),
                Done::Unread(unread) => {
                    self.flow.checked(unread);
                    self.check_at = Instant::now() + CHECK_AGAIN;
                }
            }
        }
        for message in &out {
            self.flow.sends(message);
        }
        for message in &input.leavers {
            self.forget(message);
        }
        for message in input.messages {
            match message.message_type() {
                Type::MethodCall => self.pending.push_back(message),
                Type::Signal if is_name_lost(&message) => return Err(BusError::NameLost),
                Type::Signal | Type::MethodReturn | Type::Error => {}
            }
        }
        // As many as the stream holds: then changes are looked at again.
        for _ in 0..QUEUED_CALLS.get() {
            if !self.flow.is_open() {
                break;
            }
            let Some(call) = self.pending.pop_front() else { break };
            if let Some(answer) = self.call(&call) {
                self.flow.sends(&answer);
                out.push(answer);
            }
        }
        if self.flow.is_open()
            && let Some(call) = self.managed.pop_front()
            && let Some(answer) = self.managed_objects(&call)
        {
            self.flow.sends(&answer);
            out.push(answer);
        }
        self.check_unread(false);
        self.send(&out).await
    }

    /// Whether there is more to answer than the last turn did.
    fn has_more(&self) -> bool {
        self.flow.is_open() && !(self.managed.is_empty() && self.pending.is_empty())
    }

    /// Asks the bus how much lies unread, where it must be known; `again`: even before more is sent.
    fn check_unread(&mut self, again: bool) {
        let Some(clients) = self.flow.check(again) else { return };
        let core = Arc::clone(&self.core);
        let own = self.connection.unique_name().map(|name| name.as_str().to_owned()).unwrap_or_default();
        self.tasks.spawn(async move {
            let asked = flow::unread(core.authority.connection(), &own, clients);
            // A bus that does not answer takes nothing either: sending will tell.
            Done::Unread(tokio::time::timeout(STALL, asked).await.unwrap_or(Unread::Unknown))
        });
    }

    async fn send(&self, messages: &[Message]) -> Result<(), BusError> {
        for messages in messages.chunks(MESSAGES_PER_WRITE) {
            tokio::time::timeout(STALL, self.connection.send_all(messages))
                .await
                .map_err(|_| BusError::Stalled(STALL.as_secs()))?
                .map_err(|why| BusError::Lost(why.to_string()))?;
        }
        Ok(())
    }

    fn call(&mut self, call: &Message) -> Option<Message> {
        if self.flow.is_congested() && self.flow.is_deaf(&sender(call)) {
            // It would not read the refusal either.
            return None;
        }
        let answer = match dispatch(&self.sent, self.machine_id.as_deref(), call) {
            Outcome::Answered(answer) => answer,
            Outcome::ManagedObjects => {
                self.managed.push_back(call.clone());
                None
            }
            Outcome::Own(Request::ListResources(query)) => reply::reply(call, &query.page(&self.sent)),
            Outcome::Own(Request::Wait(id)) => self.wait(id, call),
            Outcome::Own(Request::Core(request)) => {
                self.hand_on(call, request).err().and_then(|why| reply::refusal(call, &why))
            }
        };
        if self.flow.is_congested() && answer.as_ref().is_some_and(|answer| answer.data().len() > flow::LARGE) {
            return reply::refusal(call, &congested());
        }
        answer
    }

    /// Has the core asked, in a task of its own.
    fn hand_on(&mut self, call: &Message, request: CoreRequest) -> Result<(), CallError> {
        let caller = sender(call);
        let permit = self.callers.admit(&caller, request.is_heavy())?;
        let turn = request.is_command().then(|| self.callers.turn(&caller));
        let (core, call) = (Arc::clone(&self.core), call.clone());
        self.tasks.spawn(async move {
            let answer = core.carry_out(call, request, turn).await;
            drop(permit);
            Done::Reply(answer)
        });
        Ok(())
    }

    fn wait(&mut self, id: JobId, call: &Message) -> Option<Message> {
        if !reply::is_expected(call) {
            return None;
        }
        match self.sent.jobs.get(&id).map(|job| ended(job)) {
            Some(Some(result)) => reply::reply(call, &result),
            Some(None) => match self.callers.add_wait(&sender(call)) {
                Ok(()) => {
                    self.waits.entry(id).or_default().push(call.clone());
                    None
                }
                Err(why) => reply::refusal(call, &why),
            },
            None => reply::refusal(call, &CallError::not_found(format!("there is no job {id}"))),
        }
    }

    /// Answers those who wait for a job that is over.
    fn answer_waits(&mut self, before: &Snapshot, out: &mut Vec<Message>) {
        let sent = Arc::clone(&self.sent);
        let over: Vec<JobId> =
            self.waits.keys().copied().filter(|id| sent.jobs.get(id).is_none_or(|job| ended(job).is_some())).collect();
        for id in over {
            // A job that has gone had ended, and may have done both since the task last looked.
            let result = sent.jobs.get(&id).or_else(|| before.jobs.get(&id)).and_then(|job| ended(job));
            for call in self.waits.remove(&id).unwrap_or_default() {
                self.callers.end_wait(&sender(&call));
                let answer = result.ok_or_else(|| CallError::not_found(format!("job {id} is not kept any more")));
                out.extend(reply::answer(&call, answer));
            }
        }
    }

    fn managed_objects(&mut self, call: &Message) -> Option<Message> {
        if self.flow.is_congested() {
            return if self.flow.is_deaf(&sender(call)) { None } else { reply::refusal(call, &congested()) };
        }
        let limit = self.core.limits.managed_objects_bytes;
        let objects = ManagedObjects(&self.sent);
        let known = self.too_many.as_ref().is_some_and(|snapshot| Arc::ptr_eq(snapshot, &self.sent));
        if !known && !objects.surely_too_many(limit) {
            match reply::reply(call, &objects) {
                Some(message) if message.data().len() <= limit && message.message_type() == Type::MethodReturn => {
                    return Some(message);
                }
                None => return None,
                Some(_) => {}
            }
        }
        // Not tried again until something changes: writing it in vain costs as much as writing it.
        self.too_many = Some(Arc::clone(&self.sent));
        let why = format!("all objects together are larger than {limit} bytes; ListResources gives them page by page");
        reply::refusal(call, &CallError::too_large(why))
    }

    /// A connection has left the bus: nobody waits for its answers.
    fn forget(&mut self, message: &Message) {
        let body = message.body();
        let Ok((name, _, _)) = body.deserialize::<(&str, &str, &str)>() else { return };
        self.core.authority.forget(name);
        self.callers.forget(name);
        if self.flow.forget(name) {
            self.check_unread(true);
        }
        self.pending.retain(|call| sender(call) != name);
        self.managed.retain(|call| sender(call) != name);
        self.waits.retain(|_, calls| {
            calls.retain(|call| sender(call) != name);
            !calls.is_empty()
        });
    }

    /// Answers whom it can, and leaves.
    async fn end(&mut self, sources: &mut Sources) -> Result<(), BusError> {
        let calls: Vec<Message> = std::mem::take(&mut self.waits).into_values().flatten().collect();
        let refusals: Vec<Message> =
            calls.iter().filter_map(|call| reply::refusal(call, &CallError::ending())).collect();
        self.send(&refusals).await?;
        let connection = self.connection.clone();
        let mut release = pin!(tokio::time::timeout(STALL, connection.release_name(NAME)));
        loop {
            tokio::select! {
                released = &mut release => {
                    return match released {
                        Ok(Ok(_)) => Ok(()),
                        Ok(Err(why)) => Err(BusError::Lost(why.to_string())),
                        Err(_) => Err(BusError::Stalled(STALL.as_secs())),
                    };
                }
                // The stream must be drained for the answer to come.
                message = sources.calls.next() => {
                    let message = received(message)?;
                    if message.message_type() == Type::MethodCall {
                        let refusal = reply::refusal(&message, &CallError::ending());
                        self.send(refusal.as_slice()).await?;
                    }
                }
            }
        }
    }
}

/// The result of a job that is over.
fn ended(job: &JobFacts) -> Option<&'static str> {
    job.result.map(JobResult::as_str)
}

/// The unique name of who sent the message; empty where the bus did not stamp it.
fn sender(message: &Message) -> String {
    message.header().sender().map(|name| name.as_str().to_owned()).unwrap_or_default()
}

fn received(message: Option<zbus::Result<Message>>) -> Result<Message, BusError> {
    match message {
        Some(Ok(message)) => Ok(message),
        Some(Err(why)) => Err(BusError::Lost(why.to_string())),
        None => Err(BusError::Lost("it was closed".to_owned())),
    }
}

fn finished(done: Result<Done, JoinError>) -> Option<Done> {
    done.inspect_err(|why| error!("a call was not carried out: {why}")).ok()
}

fn congested() -> CallError {
    CallError::busy("clients that do not read hold up the bus: small answers only, until they read or leave")
}

/// Whether the bus says that the name is not ours any more.
fn is_name_lost(message: &Message) -> bool {
    let header = message.header();
    header.sender().is_some_and(|sender| sender.as_str() == "org.freedesktop.DBus")
        && header.member().is_some_and(|member| member.as_str() == "NameLost")
        && message.body().deserialize::<&str>().is_ok_and(|name| name == NAME)
}
