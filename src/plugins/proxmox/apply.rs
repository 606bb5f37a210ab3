//! Steps: each says what shall hold; what is there is read when it is written, and looked at again before it counts.

mod moving;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Settings,
    actor::Message,
    client::{Call, Client},
    config,
    error::ApiError,
    mirror::node_of,
    params::{self, Changes, TEMPLATE_STORAGE, container_path},
    props::list,
    task::{self, Upid},
    token::SecretSource,
    upload::Archive,
};
use crate::{
    desired::{ContainerSpec, TemplateSource, TemplateSpec},
    model::{Name, Reason},
    plan::{Action, ContainerOp, Step, TemplateOp},
    plugins::{
        Events, Work,
        steps::{self, Outcome, Report},
    },
};

/// How often a configuration is read again and written after somebody else changed it in between.
const WRITES: u32 = 3;

/// The lock of a container that is being made.
const HALF_MADE: &str = "create";

/// Storage of a container whose document names none, for the order of creates.
const ANY_STORAGE: &str = "";

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It cannot be done at all.
    #[error("{text}")]
    Cannot { reason: Reason, text: String },
}

impl StepError {
    fn cannot(reason: Reason, text: impl Into<String>) -> Self {
        Self::Cannot { reason, text: text.into() }
    }
}

/// How a step went: whether anything was written, and what there is to say of it.
#[derive(Debug, Default)]
struct Did {
    wrote: bool,
    said: String,
}

/// Carries steps out.
#[derive(Debug, Clone)]
pub(super) struct Applier {
    settings: Arc<Settings>,
    events: Events,
    client: watch::Receiver<Option<Client>>,
    messages: mpsc::UnboundedSender<Message>,
    /// One create at a time for each storage: Proxmox VE holds its lock for the whole of it.
    creating: Arc<Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Applier {
    pub(super) fn new(
        settings: Settings,
        events: Events,
        client: watch::Receiver<Option<Client>>,
        messages: mpsc::UnboundedSender<Message>,
    ) -> Self {
        Self { settings: Arc::new(settings), events, client, messages, creating: Arc::default() }
    }

    /// Carries out the steps, each as soon as those it waits for are done, and returns when all have ended.
    pub(super) async fn apply(self, work: Work) {
        let operate = |step: Arc<Step>, report| {
            let this = self.clone();
            async move { this.step(&step, report).await }
        };
        steps::carry_out_each(self.events.clone(), work, operate).await;
    }

    /// Carries one step out.
    async fn step(&self, step: &Step, report: Report) -> Outcome {
        let client = self.client.borrow().clone();
        let Some(client) = client else {
            let text = "Proxmox VE is away: taken up again when it is back".to_owned();
            return Outcome::failed(Reason::BackendAway, text).worth_a_retry();
        };
        let hand = Hand { applier: self, client: &client, report };
        let result = hand.carry_out(&step.action).await;
        if let Action::Container(id, _) = &step.action {
            self.refresh(id.clone()).await;
        } else {
            self.refresh_all().await;
        }
        match result {
            Ok(did) => Outcome { message: did.said, ..Outcome::done(did.wrote) },
            Err(StepError::Cannot { reason, text }) => Outcome::failed(reason, text),
            Err(StepError::Api(error)) => {
                let retry = error.may_retry() || matches!(error, ApiError::Unauthorized);
                let (reason, wrote) = (error.reason(), error.is_in_doubt());
                Outcome { retry, wrote, ..Outcome::failed(reason, error.to_string()) }
            }
        }
    }

    /// Has the mirror look at that container, and waits until the model was told.
    async fn refresh(&self, id: Name) {
        let (reply, told) = oneshot::channel();
        drop(self.messages.send(Message::Refresh([id].into(), reply)));
        // Where the mirror has ended, nobody needs to know.
        drop(told.await);
    }

    async fn refresh_all(&self) {
        let (reply, told) = oneshot::channel();
        drop(self.messages.send(Message::Refresh(BTreeSet::new(), reply)));
        drop(told.await);
    }

    fn create_lock(&self, storage: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.creating.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(storage.to_owned()).or_default().clone()
    }
}

/// One step at work.
struct Hand<'a> {
    applier: &'a Applier,
    client: &'a Client,
    report: Report,
}

impl Hand<'_> {
    async fn carry_out(&self, action: &Action) -> Result<Did, StepError> {
        match action {
            Action::Container(id, op) => self.container(id, op).await,
            Action::Template(name, TemplateOp::Fetch(spec)) => self.fetch(name, spec).await,
            _ => Err(StepError::cannot(Reason::Internal, "no step of Proxmox VE's")),
        }
    }

    async fn container(&self, id: &Name, op: &ContainerOp) -> Result<Did, StepError> {
        match op {
            ContainerOp::Create(spec) => self.create(id, spec).await,
            ContainerOp::Set(spec) => self.set(id, spec).await,
            ContainerOp::Grow(spec) => self.grow(id, spec).await,
            ContainerOp::SetPort(index, spec) => {
                let node = self.node(id).await?;
                self.write(id, &node, |settings, _| params::port_changes(*index, spec, settings)).await
            }
            ContainerOp::SetOnBoot(on) => {
                let node = self.node(id).await?;
                let spec = ContainerSpec { onboot: Some(*on), ..ContainerSpec::default() };
                self.write(id, &node, |settings, tags| params::changes(id, &spec, settings, Some(tags))).await
            }
            ContainerOp::Start => self.start(id).await,
            ContainerOp::Stop => self.stop(id).await,
            ContainerOp::Restart => self.restart(id).await,
            ContainerOp::Move(to) => self.relocate(id, to).await,
            ContainerOp::MakeTemplate => self.make_template(id).await,
            ContainerOp::Destroy { purge } => self.destroy(id, *purge).await,
        }
    }

    fn progress(&self, line: &str) {
        // Of a task only its lines are known, not how many there will be.
        self.report.progress(0.5, line.to_owned());
    }

    /// Calls, and waits for the task that answers.
    async fn task(&self, call: &Call) -> Result<Did, StepError> {
        let answer = self.client.call(call).await?;
        self.wait(&Upid::of(&answer)?).await
    }

    async fn wait(&self, upid: &Upid) -> Result<Did, StepError> {
        tracing::info!(job = self.report.job, upid = upid.as_str(), "waiting for a task of Proxmox VE's");
        let patience = self.applier.settings.timing.task;
        let mut last = String::new();
        let ended = task::wait(self.client, upid, patience, |line| {
            line.clone_into(&mut last);
            self.progress(line);
        })
        .await;
        match ended {
            Ok(ended) => Ok(Did { wrote: true, said: ended.warnings }),
            Err(ApiError::Task(exit)) if !exit.contains(&last) => {
                Err(ApiError::Task(format!("{exit} (its log ends: {last})")).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The node that a container is on, wherever that is; an error where there is no such container.
    async fn node(&self, id: &Name) -> Result<String, ApiError> {
        self.found(id).await.map(|found| found.node)
    }

    /// The container, wherever it is; an error where there is none.
    async fn found(&self, id: &Name) -> Result<Found, ApiError> {
        let found = self.find(id).await?.filter(|found| !found.is_machine);
        found.ok_or_else(|| ApiError::Missing(format!("there is no container {id}")))
    }

    async fn find(&self, id: &Name) -> Result<Option<Found>, ApiError> {
        let answer = self.client.get("/cluster/resources?type=vm").await?;
        let mut items = answer.as_array().into_iter().flatten();
        let found = items.find(|item| item.get("vmid").and_then(config::text).as_deref() == Some(&**id));
        Ok(found.map(|item| {
            let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            Found { node: text("node"), is_machine: text("type") == "qemu", lock: text("lock") }
        }))
    }

    async fn is_running(&self, id: &Name, node: &str) -> Result<bool, ApiError> {
        let status = self.client.get(format!("{}/status/current", container_path(node, id))).await?;
        Ok(status.get("status").and_then(Value::as_str) == Some("running"))
    }

    /// Makes the container, once: what an earlier try began, and whose answer or end was not seen, is taken up.
    async fn create(&self, id: &Name, spec: &ContainerSpec) -> Result<Did, StepError> {
        let settings = &self.applier.settings;
        let from = spec.from.clone().unwrap_or_default();
        let (node, call) = if let Some(origin) = &from.clone {
            let node = self.node(origin).await.map_err(|error| match error {
                ApiError::Missing(text) => StepError::cannot(Reason::SourceMissing, text),
                other => other.into(),
            })?;
            let call = params::clone(&node, id, origin, spec);
            (node, call)
        } else {
            let node = node_of(spec, settings);
            let password = from.password_credential.map(|name| SecretSource::Credential(name).read());
            let password =
                password.transpose().map_err(|error| StepError::cannot(Reason::SourceMissing, error.to_string()))?;
            let call = params::create(&node, id, spec, password.as_ref());
            (node, call)
        };
        let lock = self.applier.create_lock(from.storage.as_deref().unwrap_or(ANY_STORAGE));
        let _turn = lock.lock().await;
        let origin = from.clone.as_ref();
        if let Some(did) = self.made_already(id, &node, origin).await? {
            return Ok(did);
        }
        let answer = match self.client.call(&call).await {
            // Whether it was begun is not known: looked up, and never simply repeated.
            Err(error) if error.is_in_doubt() => {
                tracing::warn!(
                    job = self.report.job,
                    "the answer to making container {id} was lost: looking for it ({error})"
                );
                return match self.made_already(id, &node, origin).await? {
                    Some(did) => Ok(did),
                    None => Err(error.into()),
                };
            }
            answer => answer?,
        };
        self.wait(&Upid::of(&answer)?).await
    }

    /// Whether the container is there, or on its way.
    async fn made_already(&self, id: &Name, node: &str, origin: Option<&Name>) -> Result<Option<Did>, StepError> {
        let Some(found) = self.find(id).await? else {
            // The task may have begun and the container not yet be listed.
            return match task::running(self.client, node, id, &["vzcreate"]).await? {
                Some(upid) => self.wait(&upid).await.map(Some),
                None => Ok(None),
            };
        };
        if found.is_machine {
            let text = format!("{id} is the number of a virtual machine: give the container another");
            return Err(StepError::cannot(Reason::IdTaken, text));
        }
        if found.lock != HALF_MADE {
            return Ok(Some(Did { wrote: true, said: "it is there already, made by an earlier try".to_owned() }));
        }
        // A clone's task bears the number of what is cloned, of which there may be several at once.
        let of = origin.map_or((id, "vzcreate"), |origin| (origin, "vzclone"));
        while let Some(upid) = task::running(self.client, &found.node, of.0, &[of.1]).await? {
            let did = self.wait(&upid).await?;
            if self.find(id).await?.is_some_and(|found| found.lock != HALF_MADE) {
                return Ok(Some(did));
            }
        }
        // Its task ended between the two looks, or died and left it half made.
        match self.find(id).await? {
            Some(found) if found.lock == HALF_MADE => Err(StepError::cannot(
                Reason::Locked,
                format!(
                    "container {id} is locked by a create that does not run any more: remove it, then reconcile again"
                ),
            )),
            found => Ok(found.map(|_| Did { wrote: true, said: String::new() })),
        }
    }

    /// Writes settings that differ; somebody else's change in between is read and heeded.
    async fn write(
        &self,
        id: &Name,
        node: &str,
        changes: impl Fn(&crate::model::GuestSettings, &BTreeSet<String>) -> Changes,
    ) -> Result<Did, StepError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = self.client.get(format!("{}/config", container_path(node, id))).await?;
            let raw = config::raw(&answer);
            let tags: BTreeSet<String> =
                raw.get("tags").map(|tags| list(tags).map(str::to_owned).collect()).unwrap_or_default();
            let changes = changes(&config::settings(&raw), &tags);
            if changes.is_empty() {
                return Ok(Did::default());
            }
            let call = changes.call(node, id, raw.get("digest").map(String::as_str));
            match self.client.call(&call).await {
                Err(ApiError::Digest) if tries < WRITES => {}
                // Written again with the same digest it is refused, so whether it was written shows by itself.
                Err(error) if error.is_in_doubt() && tries < WRITES => {}
                result => return result.map(|_| Did { wrote: true, said: String::new() }).map_err(StepError::from),
            }
        }
    }

    async fn set(&self, id: &Name, spec: &ContainerSpec) -> Result<Did, StepError> {
        let node = self.node(id).await?;
        let mut did = self.write(id, &node, |settings, tags| params::changes(id, spec, settings, Some(tags))).await?;
        if let Some(pool) = &spec.pool {
            did.wrote |= self.join_pool(id, pool).await?;
        }
        if did.wrote && self.is_running(id, &node).await? {
            let pending = self.client.get(format!("{}/pending", container_path(&node, id))).await?;
            let waiting: Vec<String> = config::pending(&pending).into_iter().collect();
            if !waiting.is_empty() && spec.restart {
                self.progress("restarting it for what waits for that");
                return self.restart(id).await;
            }
            if !waiting.is_empty() {
                did.said = format!("written, and waits for a restart: {}", waiting.join(", "));
            }
        }
        Ok(did)
    }

    async fn join_pool(&self, id: &Name, pool: &str) -> Result<bool, StepError> {
        let answer = self.client.get("/cluster/resources?type=vm").await?;
        let mut items = answer.as_array().into_iter().flatten();
        let own = items.find(|item| item.get("vmid").and_then(config::text).as_deref() == Some(&**id));
        if own.is_some_and(|item| item.get("pool").and_then(Value::as_str) == Some(pool)) {
            return Ok(false);
        }
        self.client.call(&params::join_pool(pool, id)).await?;
        Ok(true)
    }

    async fn grow(&self, id: &Name, spec: &ContainerSpec) -> Result<Did, StepError> {
        let node = self.node(id).await?;
        let raw = config::raw(&self.client.get(format!("{}/config", container_path(&node, id))).await?);
        let mut did = Did::default();
        for call in params::grow(&node, id, spec, &config::settings(&raw)) {
            did.wrote |= self.task(&call).await?.wrote;
        }
        Ok(did)
    }

    /// Brings a container to run, or not to: what runs already for it is waited for first.
    async fn until_running(&self, id: &Name, wanted: bool, call: impl Fn(&str) -> Call) -> Result<Did, StepError> {
        let node = self.node(id).await?;
        if self.is_running(id, &node).await? == wanted {
            return Ok(Did::default());
        }
        let kinds = if wanted { ["vzstart", "vzreboot"] } else { ["vzstop", "vzshutdown"] };
        if let Some(upid) = task::running(self.client, &node, id, &kinds).await? {
            // Somebody's own, or one that an earlier op-dbus began.
            self.wait(&upid).await?;
            if self.is_running(id, &node).await? == wanted {
                return Ok(Did { wrote: true, said: String::new() });
            }
        }
        let did = match self.task(&call(&node)).await {
            // Its answer was lost, or somebody else was faster.
            Err(StepError::Api(error)) if error.is_in_doubt() || matches!(error, ApiError::Refused(_)) => {
                if let Some(upid) = task::running(self.client, &node, id, &kinds).await? {
                    self.wait(&upid).await?;
                }
                if self.is_running(id, &node).await? != wanted {
                    return Err(error.into());
                }
                Did { wrote: true, said: String::new() }
            }
            result => result?,
        };
        if self.is_running(id, &node).await? == wanted {
            return Ok(did);
        }
        let text = if wanted { "it was started, and does not run" } else { "it was stopped, and runs again" };
        Err(StepError::cannot(Reason::JobFailed, text))
    }

    async fn start(&self, id: &Name) -> Result<Did, StepError> {
        self.until_running(id, true, |node| params::status(node, id, "start")).await
    }

    async fn stop(&self, id: &Name) -> Result<Did, StepError> {
        let seconds = self.applier.settings.timing.shutdown.as_secs();
        self.until_running(id, false, |node| params::shutdown(node, id, seconds)).await
    }

    async fn restart(&self, id: &Name) -> Result<Did, StepError> {
        let node = self.node(id).await?;
        if !self.is_running(id, &node).await? {
            return self.start(id).await;
        }
        let seconds = self.applier.settings.timing.shutdown.as_secs();
        let did = self.task(&params::reboot(&node, id, seconds)).await?;
        if self.is_running(id, &node).await? {
            return Ok(did);
        }
        Err(StepError::cannot(Reason::JobFailed, "it was restarted, and does not run"))
    }

    async fn make_template(&self, id: &Name) -> Result<Did, StepError> {
        let node = self.node(id).await?;
        let raw = config::raw(&self.client.get(format!("{}/config", container_path(&node, id))).await?);
        if raw.get("template").is_some_and(|text| super::props::is_on(text)) {
            return Ok(Did::default());
        }
        self.task(&params::make_template(&node, id)).await
    }

    async fn destroy(&self, id: &Name, purge: bool) -> Result<Did, StepError> {
        let Some(found) = self.find(id).await? else { return Ok(Did::default()) };
        if found.is_machine {
            return Err(StepError::cannot(Reason::IdTaken, format!("{id} is a virtual machine, and is left alone")));
        }
        let answer = match self.client.call(&params::destroy(&found.node, id, purge)).await {
            Err(error) if error.is_in_doubt() => {
                if let Some(upid) = task::running(self.client, &found.node, id, &["vzdestroy"]).await? {
                    return self.wait(&upid).await;
                }
                if self.find(id).await?.is_none() {
                    return Ok(Did { wrote: true, said: String::new() });
                }
                return Err(error.into());
            }
            answer => answer?,
        };
        self.wait(&Upid::of(&answer)?).await
    }

    /// Fetches a template, unless its storage has it.
    async fn fetch(&self, name: &Name, spec: &TemplateSpec) -> Result<Did, StepError> {
        let node = &self.applier.settings.node;
        let storage = spec.storage.as_deref().unwrap_or(TEMPLATE_STORAGE);
        let path = format!(
            "/nodes/{}/storage/{}/content?content=vztmpl",
            super::client::encoded(node),
            super::client::encoded(storage)
        );
        let volume = format!("{storage}:vztmpl/{name}");
        let there = self.client.get(path).await?;
        let mut volumes = there.as_array().into_iter().flatten();
        if volumes.any(|item| item.get("volid").and_then(Value::as_str) == Some(&volume)) {
            return Ok(Did::default());
        }
        let call = match &spec.source {
            TemplateSource::Url(url) => params::download(node, storage, name, url, spec.checksum.as_deref()),
            TemplateSource::Appliance(appliance) => params::appliance(node, storage, appliance),
            TemplateSource::File(path) => {
                let archive = Archive::open(Path::new(path)).await.map_err(|error| {
                    StepError::cannot(Reason::SourceMissing, format!("{path} cannot be uploaded: {error}"))
                })?;
                let call = params::upload(node, storage, name, spec.checksum.as_deref());
                self.progress(&format!("uploading {path}"));
                // Where its answer is lost, the next try finds it there or sends it again, which does no harm.
                let answer = self.client.upload(&call, archive).await?;
                return self.wait(&Upid::of(&answer)?).await;
            }
        };
        self.task(&call).await
    }
}

/// A guest as it is listed now.
#[derive(Debug)]
struct Found {
    node: String,
    is_machine: bool,
    lock: String,
}
