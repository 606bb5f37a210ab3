//! The one task that owns the connection and the mirror: connects, looks again, tells what changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Duration, Instant},
};

use super::{
    NAME, Settings,
    client::Client,
    error::ApiError,
    mirror::{self, Guests, Listed},
    trust::Trust,
};
use crate::{
    model::{Backend, BackendStatus, Change, ClusterFacts, GuestFacts, Name},
    plugins::{Events, Interest, PluginError, PluginEvent, backoff::Backoff},
};

/// Hints come in bursts (a unit activates, its ports appear): they are collected for so long.
const HINTS_SETTLE: Duration = Duration::from_millis(100);

/// The first close look at declared containers comes so soon after the connection.
const FIRST_SWEEP: Duration = Duration::from_secs(5);

/// What is asked of the task.
#[derive(Debug)]
pub(super) enum Message {
    /// Mirror this from now on.
    Watch(Box<Interest>, oneshot::Sender<Result<(), PluginError>>),
    /// Read this once.
    Look(Box<Interest>, oneshot::Sender<Result<Vec<Change>, PluginError>>),
    /// These may have changed.
    Hint(BTreeSet<Name>),
    /// These have changed: look at once, and answer when it is told.
    Refresh(BTreeSet<Name>, oneshot::Sender<()>),
}

type Rights = Option<BTreeMap<String, BTreeMap<String, bool>>>;

struct Actor {
    settings: Settings,
    events: Events,
    clients: watch::Sender<Option<Client>>,
    interest: Interest,
    /// As last told.
    known: Guests,
    cluster: Arc<ClusterFacts>,
    /// The list as last read: what differs from it is looked at more closely.
    listed: Listed,
    rights: Rights,
    hints: BTreeSet<Name>,
    /// Declared containers were looked at closely since the connection.
    is_swept: bool,
    backoff: Backoff,
    reconnects: u32,
    version: String,
}

/// Starts the task. What comes back holds the client while there is a connection.
pub(super) fn start(
    settings: Settings,
    events: Events,
    messages: mpsc::UnboundedReceiver<Message>,
) -> watch::Receiver<Option<Client>> {
    let (clients, client) = watch::channel(None);
    if settings.trust == Trust::Insecure {
        tracing::warn!(
            "proxmox.insecure is set: whoever is between op-dbus and {} can read its token and do what it may",
            settings.url
        );
    }
    let actor = Actor {
        settings,
        events,
        clients,
        interest: Interest::default(),
        known: Guests::new(),
        cluster: Arc::default(),
        listed: Listed::default(),
        rights: None,
        hints: BTreeSet::new(),
        is_swept: false,
        backoff: Backoff::default(),
        reconnects: 0,
        version: String::new(),
    };
    tokio::spawn(actor.run(messages));
    client
}

impl Actor {
    async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>) {
        self.tell(BackendStatus::Connecting, String::new());
        loop {
            let Some(client) = self.connect(&mut messages).await else { return };
            let error = match self.follow(&client, &mut messages).await {
                Ok(()) => return,
                Err(error) => error,
            };
            tracing::warn!("the connection to Proxmox VE is lost: {error}");
            self.clients.send_replace(None);
            self.reconnects += 1;
            self.tell(BackendStatus::Unavailable, error.to_string());
        }
    }

    fn tell(&self, status: BackendStatus, message: String) {
        let (version, reconnects) = (self.version.clone(), self.reconnects);
        self.events.send(PluginEvent::Backend(Backend { status, message, version, reconnects }));
    }

    /// Tries until there is a connection; `None` once nobody wants one any more.
    async fn connect(&mut self, messages: &mut mpsc::UnboundedReceiver<Message>) -> Option<Client> {
        loop {
            // The token is read anew each time: it may have been put right.
            let attempt = connect(self.settings.clone());
            tokio::pin!(attempt);
            let result = loop {
                tokio::select! {
                    result = &mut attempt => break result,
                    message = messages.recv() => self.answer_away(message?),
                }
            };
            let result = match result {
                Ok((client, version, rights)) => {
                    self.version = version;
                    self.rights = rights;
                    // Only with the list there is one: whoever greets and then refuses is waited for like one away.
                    self.begin(&client).await.map(|()| client).map_err(|error| error.to_string())
                }
                Err(why) => Err(why),
            };
            match result {
                Ok(client) => return Some(client),
                Err(why) => {
                    tracing::debug!("Proxmox VE cannot be reached: {why}");
                    self.tell(BackendStatus::Unavailable, why);
                }
            }
            let again = tokio::time::sleep(self.backoff.wait());
            tokio::pin!(again);
            loop {
                tokio::select! {
                    () = &mut again => break,
                    message = messages.recv() => self.answer_away(message?),
                }
            }
        }
    }

    /// While there is no connection: what is wanted is remembered, and nothing can be read.
    fn answer_away(&mut self, message: Message) {
        match message {
            Message::Watch(interest, reply) => {
                self.interest = *interest;
                drop(reply.send(Ok(())));
            }
            Message::Look(_, reply) => {
                let why = "there is no connection".to_owned();
                drop(reply.send(Err(PluginError::Away { plugin: NAME, why })));
            }
            Message::Hint(_) => {}
            Message::Refresh(_, reply) => {
                let _ = reply.send(());
            }
        }
    }

    /// Reads and tells all anew: what was known may be long ago.
    async fn begin(&mut self, client: &Client) -> Result<(), ApiError> {
        self.listed = Listed::default();
        self.is_swept = false;
        let listed = mirror::list_all(client, &self.settings).await?;
        let (guests, cluster) = self.read(client, listed, &BTreeSet::new(), true).await?;
        let mut changes: Vec<Change> =
            guests.iter().map(|(id, facts)| Change::Guest(id.clone(), facts.clone())).collect();
        changes.push(Change::Cluster(cluster.clone()));
        (self.known, self.cluster) = (guests, cluster);
        self.events.send(PluginEvent::Reset(changes));
        self.clients.send_replace(Some(client.clone()));
        self.tell(BackendStatus::Connected, self.missing_rights());
        self.backoff.reset();
        Ok(())
    }

    /// Keeps the mirror up to date until the connection is lost, or nobody wants it any more.
    async fn follow(
        &mut self,
        client: &Client,
        messages: &mut mpsc::UnboundedReceiver<Message>,
    ) -> Result<(), ApiError> {
        let timing = self.settings.timing;
        let mut poll = Instant::now() + timing.poll;
        let mut sweep = Instant::now() + timing.sweep.min(FIRST_SWEEP);
        let mut settle: Option<Instant> = None;
        loop {
            let next = settle.into_iter().chain([poll, sweep]).min().unwrap_or(poll);
            tokio::select! {
                message = messages.recv() => match message {
                    None => return Ok(()),
                    Some(message) => {
                        if let Message::Hint(ids) = message {
                            self.hints.extend(ids);
                            if self.is_swept {
                                settle.get_or_insert(Instant::now() + HINTS_SETTLE);
                            }
                        } else {
                            self.answer(client, message, messages).await?;
                            poll = Instant::now() + timing.poll;
                            settle = None;
                        }
                    }
                },
                () = tokio::time::sleep_until(next) => {
                    let sweeps = Instant::now() >= sweep;
                    self.is_swept |= sweeps;
                    let mut ids = self.take_hints();
                    if sweeps {
                        ids.extend(self.interest.containers.keys().cloned());
                        sweep = Instant::now() + timing.sweep;
                    }
                    self.refresh(client, &ids).await?;
                    poll = Instant::now() + timing.poll;
                    settle = None;
                }
            }
        }
    }

    /// Answers one message, together with all that wait behind it and ask for the same look.
    async fn answer(
        &mut self,
        client: &Client,
        first: Message,
        messages: &mut mpsc::UnboundedReceiver<Message>,
    ) -> Result<(), ApiError> {
        let mut named = BTreeSet::new();
        let mut waiting = Vec::new();
        let mut watching = Vec::new();
        let mut looks = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Watch(interest, reply) => {
                    self.interest = *interest;
                    watching.push(reply);
                }
                Message::Look(interest, reply) => looks.push((interest, reply)),
                Message::Hint(ids) => self.hints.extend(ids),
                Message::Refresh(ids, reply) => {
                    named.extend(ids);
                    waiting.push(reply);
                }
            }
            next = messages.try_recv().ok();
        }
        named.extend(self.take_hints());
        let result = self.refresh(client, &named).await;
        for reply in watching {
            // Away, it is mirrored once it is back.
            drop(reply.send(Ok(())));
        }
        for reply in waiting {
            let _ = reply.send(());
        }
        for (interest, reply) in looks {
            let facts = match &result {
                Ok(()) => Ok(self.facts_of(client, &interest).await),
                Err(error) => Err(unreadable(error)),
            };
            drop(reply.send(facts));
        }
        result
    }

    /// The hints to heed now. At op-dbus's own start all that its other backends see for the first time is a hint, and the
    /// first close look at all of them is near.
    fn take_hints(&mut self) -> BTreeSet<Name> {
        if self.is_swept { std::mem::take(&mut self.hints) } else { BTreeSet::new() }
    }

    /// Looks again: at the list, and at those of it that changed or are named.
    async fn refresh(&mut self, client: &Client, ids: &BTreeSet<Name>) -> Result<(), ApiError> {
        let listed = mirror::list_all(client, &self.settings).await?;
        let (guests, cluster) = self.read(client, listed, ids, false).await?;
        let mut changes: Vec<Change> = guests
            .iter()
            .filter(|(id, facts)| self.known.get(*id) != Some(facts))
            .map(|(id, facts)| Change::Guest(id.clone(), facts.clone()))
            .collect();
        changes.extend(self.known.keys().filter(|id| !guests.contains_key(*id)).cloned().map(Change::GuestGone));
        if cluster != self.cluster {
            changes.push(Change::Cluster(cluster.clone()));
        }
        (self.known, self.cluster) = (guests, cluster);
        if !changes.is_empty() {
            self.events.send(PluginEvent::Changes(changes));
        }
        Ok(())
    }

    /// The guests of a list with what is known of each, read anew where it may have changed.
    async fn read(
        &mut self,
        client: &Client,
        listed: Listed,
        ids: &BTreeSet<Name>,
        all: bool,
    ) -> Result<(Guests, Arc<ClusterFacts>), ApiError> {
        let mut guests = Guests::new();
        let mut anew: Vec<Name> = Vec::new();
        for (id, facts) in &listed.guests {
            let known = self.known.get(id);
            let same = self.listed.guests.get(id) == Some(facts) && known.is_some_and(|known| known.away.is_empty());
            match known {
                // The last that is known of it stands, and why nothing new is.
                Some(known) if !facts.away.is_empty() => {
                    guests.insert(id.clone(), GuestFacts { away: facts.away.clone(), ..known.clone() });
                }
                Some(known) if same && !all && !ids.contains(id) => drop(guests.insert(id.clone(), known.clone())),
                _ => {
                    guests.insert(id.clone(), facts.clone());
                    anew.push(id.clone());
                }
            }
        }
        // All of them at once are looked at closely by the first sweep: what counts is there sooner.
        mirror::read_settings(client, &mut guests, anew, !all).await?;
        let cluster = mirror::cluster(client, &self.settings, &self.interest, &listed, self.rights.clone()).await;
        self.listed = listed;
        Ok((guests, Arc::new(cluster)))
    }

    /// The facts of what an interest names, as of the list just read. What only that interest asks for is read now, and
    /// not kept.
    async fn facts_of(&self, client: &Client, interest: &Interest) -> Vec<Change> {
        let cluster = mirror::cluster(client, &self.settings, interest, &self.listed, self.rights.clone()).await;
        let named = self.known.iter().filter(|(id, _)| interest.containers.contains_key(*id));
        let mut changes: Vec<Change> = named.map(|(id, facts)| Change::Guest(id.clone(), facts.clone())).collect();
        changes.push(Change::Cluster(Arc::new(cluster)));
        changes
    }

    /// What the token should be allowed and is not, for people; empty = nothing is missing.
    fn missing_rights(&self) -> String {
        let facts = ClusterFacts { rights: self.rights.clone(), ..ClusterFacts::default() };
        let wanted =
            [("/vms", "VM.Audit"), ("/vms", "VM.PowerMgmt"), ("/vms", "VM.Allocate"), ("/vms", "VM.Config.Options")];
        let missing: Vec<String> = wanted
            .into_iter()
            .filter(|(path, privilege)| !facts.may(path, privilege))
            .map(|(path, privilege)| format!("{privilege} on {path}"))
            .collect();
        if missing.is_empty() {
            return String::new();
        }
        let text = format!("connected, but op-dbus's token lacks {}: grant it a role with these", missing.join(", "));
        tracing::warn!("{text}");
        text
    }
}

/// Why what was asked for could not be read.
fn unreadable(error: &ApiError) -> PluginError {
    let (plugin, why) = (NAME, error.to_string());
    if error.is_away() { PluginError::Away { plugin, why } } else { PluginError::Refused { plugin, why } }
}

/// Connects: the version, and what the token may do.
async fn connect(settings: Settings) -> Result<(Client, String, Rights), String> {
    let client = Client::new(&settings).map_err(|error| error.to_string())?;
    let version = client.get("/version").await.map_err(|error| error.to_string())?;
    let rights = mirror::rights(&client).await.map_err(|error| error.to_string())?;
    let version = version.get("version").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((client, version, rights))
}
