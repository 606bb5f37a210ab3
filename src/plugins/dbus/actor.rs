//! The task that owns the mirror. It waits for nobody: readings are tasks of their own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use futures::future::join_all;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use zbus::{Message, OwnedObjectPath, OwnedVariant};

use super::{
    DbusConfig, NAME, PATIENCE,
    call::{CallError, DBUS, PROPERTIES},
    entry::Entry,
    handle::{Command, Heard, Known, Objects},
    link::{Link, News, keep},
    read::{Read, Reader, Unread},
    rules::{OBJECT_MANAGER, rules},
};
use crate::{
    desired::{ObjectBus, ObjectPlace, ObjectSpec},
    model::{Backend, BackendStatus, Change, Name, ObjectFacts, Reason},
    plugins::{Events, PluginEvent},
};

/// Messages worked in before the model is told, however many more are waiting.
const MOST_AT_ONCE: usize = 1024;

/// News of a bus that wait for the actor.
const MOST_NEWS: usize = 64;

/// What a reading came to.
struct Done {
    name: Name,
    spec: Arc<ObjectSpec>,
    round: u64,
    read: Result<Read, Unread>,
}

/// Whoever waits for a reading.
struct ReadWaiter {
    name: Name,
    round: u64,
    reply: oneshot::Sender<Result<Known, CallError>>,
}

/// Whoever waits until all that is declared was read.
struct WatchWaiter {
    open: BTreeMap<Name, u64>,
    until: Instant,
    reply: Option<oneshot::Sender<()>>,
}

/// One bus.
#[derive(Default)]
struct Bus {
    /// It is being kept.
    kept: bool,
    link: Option<Link>,
    /// Why there is none.
    why: String,
    reconnects: u32,
}

/// The actor.
pub(super) struct Actor {
    config: DbusConfig,
    never_call: Arc<Vec<String>>,
    events: Events,
    commands: mpsc::UnboundedReceiver<Command>,
    teller: mpsc::Sender<(ObjectBus, News)>,
    news: mpsc::Receiver<(ObjectBus, News)>,
    reader: mpsc::UnboundedSender<Done>,
    done: mpsc::UnboundedReceiver<Done>,
    buses: BTreeMap<ObjectBus, Bus>,
    entries: BTreeMap<Name, Entry>,
    /// Names of entries by paths that their signals come from.
    routes: HashMap<String, BTreeSet<Name>>,
    reads: Vec<ReadWaiter>,
    watches: Vec<WatchWaiter>,
    followers: Vec<(Name, mpsc::Sender<Heard>)>,
    touched: BTreeSet<Name>,
}

impl Actor {
    /// Starts the task.
    pub(super) fn spawn(config: DbusConfig, events: Events, commands: mpsc::UnboundedReceiver<Command>) {
        let (teller, news) = mpsc::channel(MOST_NEWS);
        let (reader, done) = mpsc::unbounded_channel();
        let mut actor = Self {
            never_call: Arc::new(config.never_call.clone()),
            config,
            events,
            commands,
            teller,
            news,
            reader,
            done,
            buses: BTreeMap::new(),
            entries: BTreeMap::new(),
            routes: HashMap::new(),
            reads: Vec::new(),
            watches: Vec::new(),
            followers: Vec::new(),
            touched: BTreeSet::new(),
        };
        tokio::spawn(async move {
            actor.show(BackendStatus::Connecting, "connecting to the bus".to_owned());
            actor.keep(actor.config.own);
            actor.run().await;
        });
    }

    async fn run(mut self) {
        loop {
            let deadline = self.deadline();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                Some((bus, news)) = self.news.recv() => self.news(bus, news),
                Some(done) = self.done.recv() => self.done(done),
                () = until(deadline) => {}
            }
            for _ in 0..MOST_AT_ONCE {
                let Ok((bus, news)) = self.news.try_recv() else { break };
                self.news(bus, news);
            }
            while let Ok(done) = self.done.try_recv() {
                self.done(done);
            }
            self.due();
            self.tell();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let retries = self.entries.values().filter_map(|entry| entry.retry_at);
        let gone = self.entries.values().filter_map(|entry| entry.gone.as_ref().map(|(at, ..)| *at));
        retries.chain(gone).chain(self.watches.iter().map(|watch| watch.until)).min()
    }

    /// What the time has come for.
    fn due(&mut self) {
        let now = Instant::now();
        for (name, entry) in &mut self.entries {
            if entry.expire(now) {
                self.touched.insert(name.clone());
            }
        }
        let late: Vec<Name> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.retry_at.is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in late {
            // Where the bus has gone meanwhile, its end has told all that there is to tell.
            let _ = self.read(&name);
        }
        for watch in &mut self.watches {
            if watch.until > now {
                continue;
            }
            for name in watch.open.keys() {
                if let Some(entry) = self.entries.get_mut(name) {
                    let why = format!("{} has not answered within {PATIENCE:?}", entry.spec.service);
                    entry.away(Reason::ServiceAway, why);
                    self.touched.insert(name.clone());
                }
            }
            watch.open.clear();
        }
    }

    fn bus_of(&self, spec: &ObjectSpec) -> ObjectBus {
        spec.bus.unwrap_or(self.config.own)
    }

    /// Keeps a connection to that bus from now on.
    fn keep(&mut self, bus: ObjectBus) {
        let known = self.buses.entry(bus).or_default();
        if std::mem::replace(&mut known.kept, true) {
            return;
        }
        known.why = format!("connecting to the {} bus", bus.as_str());
        let place = if bus == self.config.own { self.config.place.clone() } else { super::BusPlace::Usual };
        tokio::spawn(keep(bus, place, self.config.call_limit, self.teller.clone()));
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Watch { objects, reply } => self.watch(objects, reply),
            Command::Look { objects, reply } => self.look(objects, reply),
            Command::Read { name, reply } => match self.read(&name) {
                Ok(round) => self.reads.push(ReadWaiter { name, round, reply }),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Follow { name, heard } => self.followers.push((name, heard)),
        }
    }

    fn watch(&mut self, objects: Objects, reply: oneshot::Sender<()>) {
        let gone: Vec<Name> = self.entries.keys().filter(|name| !objects.contains_key(*name)).cloned().collect();
        for name in &gone {
            self.entries.remove(name);
        }
        let mut otherwise: BTreeSet<Name> = gone.iter().cloned().collect();
        if !gone.is_empty() {
            self.events.send(PluginEvent::Changes(gone.into_iter().map(Change::ObjectGone).collect()));
        }
        let mut open = BTreeMap::new();
        for (name, spec) in objects {
            self.keep(self.bus_of(&spec));
            match self.entries.get_mut(&name) {
                None => drop(self.entries.insert(name.clone(), Entry::new(spec))),
                Some(entry) if entry.spec != spec => {
                    *entry = entry.replaced(spec);
                    otherwise.insert(name.clone());
                }
                Some(_) => {}
            }
            // Not every service tells of its changes: all are read, whatever is known of them.
            match self.read(&name) {
                Ok(round) => drop(open.insert(name, round)),
                Err(_) => drop(self.touched.insert(name)),
            }
        }
        self.give_up(&otherwise);
        self.route();
        for (bus, known) in &self.buses {
            let of_bus = self.entries.values().filter(|entry| self.bus_of(&entry.spec) == *bus);
            let wanted = of_bus.flat_map(|entry| rules(&entry.spec)).collect();
            if let Some(link) = &known.link {
                link.listen_only(&wanted, self.config.call_limit);
            }
        }
        let until = Instant::now() + PATIENCE;
        self.watches.push(WatchWaiter { open, until, reply: Some(reply) });
    }

    /// Answers those who wait for a reading of what is not declared so any more.
    fn give_up(&mut self, otherwise: &BTreeSet<Name>) {
        for watch in &mut self.watches {
            watch.open.retain(|name, _| !otherwise.contains(name));
        }
        for waiter in self.reads.extract_if(.., |waiter| otherwise.contains(&waiter.name)) {
            let _ = waiter.reply.send(Err(CallError::Superseded(waiter.name)));
        }
    }

    /// Begins a reading; the number of the one that will have seen all up to now.
    fn read(&mut self, name: &Name) -> Result<u64, CallError> {
        let gone = || CallError::Superseded(name.clone());
        let bus = self.bus_of(&self.entries.get(name).ok_or_else(gone)?.spec);
        let known = self.buses.get(&bus);
        let link = known.and_then(|bus| bus.link.clone());
        let entry = self.entries.get_mut(name).ok_or_else(gone)?;
        let Some(link) = link else {
            let why = known.map(|bus| bus.why.clone()).unwrap_or_default();
            entry.retry_at = None;
            entry.away(Reason::BackendAway, why.clone());
            self.touched.insert(name.clone());
            return Err(CallError::Away(why));
        };
        let (round, begin) = entry.want();
        if begin {
            let (name, spec) = (name.clone(), entry.spec.clone());
            let reader = Reader { link, limit: self.config.call_limit, never_call: self.never_call.clone() };
            let done = self.reader.clone();
            tokio::spawn(async move {
                let read = reader.read(&spec, true).await;
                // The actor is there as long as somebody needs what was read.
                let _ = done.send(Done { name, spec, round, read });
            });
        }
        Ok(round)
    }

    fn done(&mut self, done: Done) {
        let Done { name, spec, round, read } = done;
        let Some(entry) = self.entries.get_mut(&name).filter(|entry| entry.spec == spec && entry.round == round) else {
            return;
        };
        let path = entry.facts.as_ref().map(|facts| facts.path.clone());
        let again = entry.read(read, Instant::now());
        let moved = entry.facts.as_ref().map(|facts| &facts.path) != path.as_ref();
        self.touched.insert(name.clone());
        if moved {
            self.route();
        }
        for watch in &mut self.watches {
            watch.open.retain(|of, wanted| *of != name || *wanted > round);
        }
        // The model is told before whoever waits.
        self.tell_changes();
        let link = self.link_of(&spec);
        for waiter in std::mem::take(&mut self.reads) {
            if waiter.name != name || waiter.round > round {
                self.reads.push(waiter);
                continue;
            }
            let facts = self.entries.get(&name).and_then(|entry| entry.facts.clone());
            let known = match (&link, facts) {
                (Some(link), Some(facts)) => Ok(Known { spec: spec.clone(), facts, link: link.clone() }),
                _ => Err(CallError::Away("the bus is away".to_owned())),
            };
            let _ = waiter.reply.send(known);
        }
        if again {
            // Where the bus has gone meanwhile, its end has told all that there is to tell.
            let _ = self.read(&name);
        }
    }

    fn link_of(&self, spec: &ObjectSpec) -> Option<Link> {
        self.buses.get(&self.bus_of(spec))?.link.clone()
    }

    /// Reads objects of a document that is not in force: nothing is mirrored.
    fn look(&mut self, objects: Objects, reply: oneshot::Sender<Result<Vec<Change>, crate::plugins::PluginError>>) {
        let mut readings = Vec::new();
        for (name, spec) in objects {
            self.keep(self.bus_of(&spec));
            let known = self.buses.get(&self.bus_of(&spec));
            let why = known.map(|bus| bus.why.clone()).unwrap_or_default();
            let link = known.and_then(|bus| bus.link.clone());
            let (limit, never_call) = (self.config.call_limit, self.never_call.clone());
            readings.push(async move {
                let mut entry = Entry::new(spec.clone());
                match link {
                    None => entry.away(Reason::BackendAway, why),
                    Some(link) => {
                        let reader = Reader { link, limit, never_call };
                        if let Ok(read) = tokio::time::timeout(PATIENCE, reader.read(&spec, false)).await {
                            entry.read(read, Instant::now());
                        } else {
                            let why = format!("{} has not answered within {PATIENCE:?}", spec.service);
                            entry.away(Reason::ServiceAway, why);
                        }
                    }
                }
                entry.facts.map(|facts| Change::Object(name, facts))
            });
        }
        tokio::spawn(async move {
            let changes = join_all(readings).await.into_iter().flatten().collect();
            let _ = reply.send(Ok(changes));
        });
    }

    /// Notes where signals of each object come from.
    fn route(&mut self) {
        self.routes.clear();
        for (name, entry) in &self.entries {
            let found = entry.facts.iter().map(|facts| facts.path.clone());
            let declared = match &entry.spec.path {
                ObjectPlace::Path(path) => Some(path.clone()),
                ObjectPlace::Lookup(_) => None,
            };
            let lookups = entry.spec.lookups.values().map(|lookup| lookup.path.clone());
            for path in found.chain(declared).chain(lookups) {
                self.routes.entry(path).or_default().insert(name.clone());
            }
        }
    }

    fn news(&mut self, bus: ObjectBus, news: News) {
        match news {
            News::Up(link) => {
                let known = self.buses.entry(bus).or_default();
                known.link = Some(link);
                known.why.clear();
                if bus == self.config.own {
                    self.show(BackendStatus::Connected, String::new());
                }
                let own = self.config.own;
                let names: Vec<Name> = self
                    .entries
                    .iter()
                    .filter(|(_, entry)| entry.spec.bus.unwrap_or(own) == bus)
                    .map(|(name, _)| name.clone())
                    .collect();
                for name in names {
                    // It is there: it has just come.
                    let _ = self.read(&name);
                }
            }
            News::Down(why) => self.down(bus, &why),
            News::Signal(message) => self.signal(bus, &message),
        }
    }

    fn down(&mut self, bus: ObjectBus, why: &str) {
        let known = self.buses.entry(bus).or_default();
        let was_up = known.link.take().is_some();
        why.clone_into(&mut known.why);
        if was_up {
            known.reconnects += 1;
        }
        if bus == self.config.own {
            let status = if was_up { BackendStatus::Connecting } else { BackendStatus::Unavailable };
            self.show(status, why.to_owned());
        }
        if was_up {
            tracing::warn!(plugin = NAME, why, "a bus is out of reach");
        }
        let (own, now) = (self.config.own, Instant::now());
        for (name, entry) in &mut self.entries {
            if entry.spec.bus.unwrap_or(own) == bus {
                entry.leaves(Reason::BackendAway, why.to_owned(), now);
                self.touched.insert(name.clone());
            }
        }
    }

    fn show(&self, status: BackendStatus, message: String) {
        let reconnects = self.buses.get(&self.config.own).map_or(0, |bus| bus.reconnects);
        self.events.send(PluginEvent::Backend(Backend { status, message, version: String::new(), reconnects }));
    }

    fn signal(&mut self, bus: ObjectBus, message: &Message) {
        let header = message.header();
        let (Some(sender), Some(interface), Some(member), Some(path)) =
            (header.sender(), header.interface(), header.member(), header.path())
        else {
            return;
        };
        if sender.as_str() == DBUS {
            if member.as_str() == "NameOwnerChanged" {
                self.owner_changed(bus, message);
            }
            return;
        }
        let own = self.config.own;
        let is_of = |entry: &Entry| {
            entry.spec.bus.unwrap_or(own) == bus && (entry.owner.as_deref() == Some(sender.as_str()) || entry.reading)
        };
        let body = message.body();
        let mut to_read = BTreeSet::new();
        let mut heard: Vec<(Name, Heard)> = Vec::new();
        match (interface.as_str(), member.as_str()) {
            (PROPERTIES, "PropertiesChanged") => {
                let Ok((of, changed, invalidated)) =
                    body.deserialize::<(String, HashMap<String, OwnedVariant>, Vec<String>)>()
                else {
                    return;
                };
                for name in self.routes.get(path.as_str()).cloned().unwrap_or_default() {
                    let Some(entry) = self.entries.get_mut(&name).filter(|entry| is_of(entry)) else { continue };
                    let is_object = entry.facts.as_ref().is_some_and(|facts| facts.path == path.as_str());
                    if is_object && of == entry.spec.interface {
                        heard.push((name.clone(), Heard::Signal));
                        if entry.changed(&changed, &invalidated) {
                            to_read.insert(name.clone());
                        }
                        self.touched.insert(name.clone());
                    }
                    let looks =
                        |lookup: &crate::desired::Lookup| lookup.path == path.as_str() && lookup.interface == of;
                    if entry.spec.lookups.values().any(looks) {
                        to_read.insert(name);
                    }
                }
            }
            (OBJECT_MANAGER, _) => {
                let about: Option<OwnedObjectPath> = match member.as_str() {
                    "InterfacesAdded" => body
                        .deserialize::<(OwnedObjectPath, HashMap<String, HashMap<String, OwnedVariant>>)>()
                        .ok()
                        .map(|(path, _)| path),
                    _ => body.deserialize::<(OwnedObjectPath, Vec<String>)>().ok().map(|(path, _)| path),
                };
                for (name, entry) in self.entries.iter().filter(|(_, entry)| is_of(entry)) {
                    let is_it = about
                        .as_ref()
                        .is_some_and(|about| entry.facts.as_ref().is_some_and(|facts| facts.path == about.as_str()));
                    let has_rule = entry.spec.ensure.is_some() || !entry.spec.lookups.is_empty();
                    if has_rule && (is_it || !entry.spec.lookups.is_empty()) {
                        to_read.insert(name.clone());
                    }
                }
            }
            (_, "JobRemoved") => {
                // id, job, unit, result: org.freedesktop.systemd1(5).
                if let Ok((_, job, _, result)) = body.deserialize::<(u32, OwnedObjectPath, String, String)>() {
                    for (name, _) in self.entries.iter().filter(|(_, entry)| is_of(entry)) {
                        heard.push((name.clone(), Heard::Job(job.to_string(), result.clone())));
                    }
                }
            }
            (interface, _) => {
                for name in self.routes.get(path.as_str()).cloned().unwrap_or_default() {
                    let Some(entry) = self.entries.get(&name).filter(|entry| is_of(entry)) else { continue };
                    let looks =
                        |lookup: &crate::desired::Lookup| lookup.path == path.as_str() && lookup.interface == interface;
                    if interface == entry.spec.interface {
                        heard.push((name.clone(), Heard::Signal));
                    }
                    if interface == entry.spec.interface || entry.spec.lookups.values().any(looks) {
                        to_read.insert(name);
                    }
                }
            }
        }
        for name in to_read {
            // Where the bus has gone meanwhile, its end has told all that there is to tell.
            let _ = self.read(&name);
        }
        if !self.followers.is_empty() {
            for (name, what) in heard {
                for (_, follower) in self.followers.iter().filter(|(of, _)| *of == name) {
                    // One that is behind has heard enough.
                    let _ = follower.try_send(what.clone());
                }
            }
        }
    }

    fn owner_changed(&mut self, bus: ObjectBus, message: &Message) {
        let body = message.body();
        let Ok((service, _, owner)) = body.deserialize::<(String, String, String)>() else { return };
        let own = self.config.own;
        let mut to_read = Vec::new();
        for (name, entry) in &mut self.entries {
            if entry.spec.service == service && entry.spec.bus.unwrap_or(own) == bus {
                if entry.owner_changed(Some(owner.clone()).filter(|owner| !owner.is_empty()), Instant::now()) {
                    to_read.push(name.clone());
                }
                self.touched.insert(name.clone());
            }
        }
        for name in to_read {
            // Where the bus has gone meanwhile, its end has told all that there is to tell.
            let _ = self.read(&name);
        }
    }

    /// Tells the model what changed, and then whoever waits for that.
    fn tell(&mut self) {
        self.tell_changes();
        for watch in &mut self.watches {
            if watch.open.is_empty()
                && let Some(reply) = watch.reply.take()
            {
                let _ = reply.send(());
            }
        }
        self.watches.retain(|watch| watch.reply.is_some());
        self.followers.retain(|(_, follower)| !follower.is_closed());
    }

    fn tell_changes(&mut self) {
        let mut changes: Vec<Change> = Vec::new();
        for name in std::mem::take(&mut self.touched) {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            let Some(facts) = entry.facts.as_ref().filter(|facts| entry.told.as_ref() != Some(*facts)) else {
                continue;
            };
            let facts: ObjectFacts = facts.clone();
            entry.told = Some(facts.clone());
            changes.push(Change::Object(name, facts));
        }
        if !changes.is_empty() {
            self.events.send(PluginEvent::Changes(changes));
        }
    }
}

/// Resolves at that time; `None` = never.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
