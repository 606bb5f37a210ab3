//! What the plugin's tasks share: the mirror, the way to PackageKit, and how the two are brought together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{
    PackageKitConfig,
    catalogue::{Catalogue, installed_of, parts},
    client::{About, Call, Client, TransactionError},
    database::{Database, Entry, Installed, offers_stamp, providers},
    mirror::Mirror,
    outlook::{Direction, Wanted, foresee},
    version::Scheme,
    wire::{self, Info},
};
use crate::{
    desired::{PackageEnsure, PackageSettings, PackageSpec, Refresh},
    model::{Backend, BackendStatus, Change, Name, Offer, Outlook, PackageFacts},
    plugins::{Events, Interest, PluginError, PluginEvent},
};

/// How long a job waits for PackageKit's answers before it plans without them: what has to do with packages is blocked
/// then, and the rest goes on.
const PREPARE_LIMIT: Duration = Duration::from_secs(90);

/// What the tasks share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) mirror: Mirror,
    pub(super) database: Option<Database>,
    pub(super) client: Option<Client>,
    about: Option<About>,
    backend: Option<Backend>,
    reconnects: u32,
    /// When op-dbus last had the lists fetched.
    refreshed: Option<Instant>,
    /// How many updates there are was asked.
    pub(super) counted: bool,
    /// How often in a row it was not there or did not answer, where it may later.
    pub(super) unanswered: u32,
}

/// The plugin's heart.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) config: PackageKitConfig,
    pub(super) events: Events,
    state: Mutex<State>,
    learning: tokio::sync::Mutex<()>,
    /// What is wanted cannot be had now, or can be again.
    pub(super) retry: Notify,
}

impl Keeper {
    pub(super) fn new(config: PackageKitConfig, events: Events) -> Self {
        let state = State {
            mirror: Mirror::new(Scheme::Deb),
            database: None,
            client: None,
            about: None,
            backend: None,
            reconnects: 0,
            refreshed: None,
            counted: false,
            unanswered: 0,
        };
        Self { config, events, state: Mutex::new(state), learning: tokio::sync::Mutex::default(), retry: Notify::new() }
    }

    /// The state, for a moment: nobody waits while holding it.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked has left nothing half done: each change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the model what it does not know yet.
    pub(super) fn publish(&self) {
        let mut state = self.state();
        let changes = state.mirror.news();
        if !changes.is_empty() {
            // Sent while the state is held: what is told first was known first.
            self.events.send(PluginEvent::Changes(changes));
        }
    }

    /// Tells how the backend is, if that is news.
    pub(super) fn show(&self, status: BackendStatus, message: &str) {
        let mut state = self.state();
        let was = state.backend.as_ref().map(|backend| backend.status);
        if status == BackendStatus::Connected && was == Some(BackendStatus::Unavailable) {
            state.reconnects = state.reconnects.saturating_add(1);
        }
        let version = state.about.as_ref().map(|about| format!("{} ({})", about.version, about.backend));
        let backend = Backend {
            status,
            message: message.to_owned(),
            version: version.unwrap_or_default(),
            reconnects: state.reconnects,
        };
        if state.backend.as_ref() != Some(&backend) {
            if status == BackendStatus::Unavailable {
                tracing::warn!(plugin = super::NAME, message, "packages are out of reach: {message}");
            }
            state.backend = Some(backend.clone());
            self.events.send(PluginEvent::Backend(backend));
        }
    }

    pub(super) fn is_unavailable(&self) -> bool {
        self.state().backend.as_ref().is_some_and(|backend| backend.status == BackendStatus::Unavailable)
    }

    pub(super) fn client(&self) -> Result<Client, TransactionError> {
        let client = self.state().client.clone();
        client.ok_or_else(|| TransactionError::Away("the bus is not reached yet".to_owned()))
    }

    /// Reads the package database anew, as far as op-dbus reads it itself.
    pub(super) async fn reread(&self) {
        let Some(database) = self.state().database.clone() else { return };
        // The journal first: whoever ends meanwhile takes it away before the lock.
        let read = tokio::task::spawn_blocking(move || {
            let journal = database.has_journal();
            (database.read(), database.is_busy(), journal)
        });
        match read.await {
            Ok((Ok(installed), busy, journal)) => {
                let mut state = self.state();
                state.mirror.busy = busy;
                state.mirror.interrupted = journal && !busy;
                if let Some(installed) = installed.filter(|installed| *installed != *state.mirror.installed) {
                    state.mirror.installed = Arc::new(installed);
                }
            }
            // dpkg puts its new file in the place of the old: at the next event it is there.
            Ok((Err(error), ..)) => tracing::warn!(%error, "the package database cannot be read: {error}"),
            Err(error) => tracing::error!(%error, "the package database was not read: {error}"),
        }
        self.publish();
    }

    /// Asks PackageKit what it offers of these packages, unless that is known and cannot have changed.
    pub(super) async fn learn(&self, packages: &BTreeMap<Name, PackageSpec>) -> Result<(), TransactionError> {
        // One at a time: the second finds what the first has learnt.
        let _turn = self.learning.lock().await;
        let folders = self.config.folders.clone();
        let stamp = tokio::task::spawn_blocking(move || offers_stamp(&folders)).await.unwrap_or_default();
        let (questions, declared, outdated) = {
            let state = self.state();
            let outdated = state.mirror.catalogue.stamp != stamp;
            let declared = if outdated { state.mirror.packages.clone() } else { BTreeMap::new() };
            let mut questions = state.mirror.unasked(packages);
            if outdated {
                let native = &state.mirror.installed.native;
                let all = packages.iter().chain(&declared);
                questions = all.flat_map(|(key, spec)| super::catalogue::questions(key, spec, native)).collect();
            }
            (questions.into_iter().collect::<Vec<_>>(), declared, outdated)
        };
        if questions.is_empty() {
            return Ok(());
        }
        self.introduce().await?;
        let told = self.client()?.ask(Call::Resolve(&questions, wire::FILTER_NONE)).await?;
        let (database, installed, mut catalogue) = {
            let now = self.state();
            let old = if outdated { Catalogue::default() } else { now.mirror.catalogue.clone() };
            (now.database.clone(), now.mirror.installed.clone(), old)
        };
        catalogue.stamp = stamp;
        catalogue.take(questions, told.packages);
        let installed = match database {
            Some(Database::Rpm(_)) => Arc::new(told_installed(&catalogue)),
            _ => installed,
        };
        let mut all = declared;
        all.extend(packages.iter().map(|(key, spec)| (key.clone(), spec.clone())));
        catalogue.provided.extend(self.who_provides(&catalogue, &all, &installed).await);
        let mut state = self.state();
        state.mirror.catalogue = catalogue;
        state.mirror.installed = installed;
        Ok(())
    }

    /// Who provides the names that no package has.
    async fn who_provides(
        &self,
        catalogue: &Catalogue,
        packages: &BTreeMap<Name, PackageSpec>,
        installed: &Arc<Installed>,
    ) -> BTreeMap<String, Vec<String>> {
        let missing: BTreeSet<String> = catalogue.missing(packages, installed).into_iter().map(str::to_owned).collect();
        if missing.is_empty() {
            return BTreeMap::new();
        }
        let (installed, lists) = (installed.clone(), self.config.folders.lists.clone());
        let found = tokio::task::spawn_blocking(move || {
            let names: Vec<&str> = missing.iter().map(String::as_str).collect();
            providers(&names, &installed, &lists)
        });
        found.await.unwrap_or_default()
    }

    /// Asks PackageKit who it is, once.
    async fn introduce(&self) -> Result<(), TransactionError> {
        if self.state().about.is_some() {
            return Ok(());
        }
        let about = self.client()?.about().await?;
        let installs = about.installs;
        let text = format!("PackageKit's backend {} cannot install packages", about.backend);
        self.state().about = Some(about);
        if installs { Ok(()) } else { Err(TransactionError::Away(text)) }
    }

    /// Brings all up that the document's packages need, and says how the backend is.
    pub(super) async fn catch_up(&self) {
        let packages = self.state().mirror.packages.clone();
        match self.learn(&packages).await {
            Ok(()) => {
                self.answered();
                if !packages.is_empty() && !self.state().counted {
                    self.count_updates().await;
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    /// What a question that was not answered says of the backend.
    pub(super) fn failed(&self, error: &TransactionError) {
        tracing::warn!(%error, "PackageKit did not answer: {error}");
        {
            let mut state = self.state();
            state.mirror.queued = matches!(error, TransactionError::Queued | TransactionError::Locked(_));
            if matches!(error, TransactionError::Away(_)) {
                // It may be another by then.
                state.about = None;
                state.counted = false;
            }
        }
        self.publish();
        if matches!(error, TransactionError::Away(_)) {
            self.show(BackendStatus::Unavailable, &error.to_string());
        }
        if !matches!(error, TransactionError::Failed { .. }) {
            self.try_later();
        }
    }

    /// Has what is wanted asked for again, after a wait that grows.
    pub(super) fn try_later(&self) {
        let mut state = self.state();
        state.unanswered = state.unanswered.saturating_add(1);
        self.retry.notify_one();
    }

    /// PackageKit answered all that it was asked.
    fn answered(&self) {
        {
            let mut state = self.state();
            state.unanswered = 0;
            state.mirror.queued = false;
        }
        self.publish();
        self.show(BackendStatus::Connected, "");
    }

    /// Asks how many updates there are. No one waits for that, and nothing else depends on it.
    async fn count_updates(&self) {
        let Ok(client) = self.client() else { return };
        let counted = match client.ask(Call::Updates).await {
            Ok(told) => {
                let updates = told.packages.iter().filter(|found| found.info == Info::Available).count();
                self.events.send(PluginEvent::Updates(u32::try_from(updates).unwrap_or(u32::MAX)));
                true
            }
            // Not every backend can tell.
            Err(error) => matches!(error, TransactionError::Failed { .. }),
        };
        self.state().counted = counted;
    }

    /// Mirrors these packages from now on. Only what is installed is told at once: what is offered PackageKit must say,
    /// which may have to be started for it, and what has nothing to do with packages does not wait for that.
    pub(super) fn watch(self: &Arc<Self>, interest: Interest) {
        {
            let mut state = self.state();
            state.mirror.packages = interest.packages;
            state.mirror.settings = interest.package_settings;
            state.mirror.outlooks.clear();
        }
        if self.client().is_err() {
            // All of it follows with the connection.
            return;
        }
        self.publish();
        if !self.state().mirror.packages.is_empty() {
            let keeper = self.clone();
            tokio::spawn(async move { keeper.catch_up().await });
        }
    }

    /// Brings what planning needs up to date.
    pub(super) async fn prepare(&self, interest: Interest) {
        if self.client().is_err() || self.state().database.is_none() {
            return;
        }
        self.reread().await;
        let refreshed = self.refresh(&interest.packages, interest.package_settings).await;
        if let Err(error) = &refreshed {
            tracing::warn!(%error, "the lists of repositories could not be fetched: {error}");
        }
        self.state().mirror.refresh_error = refreshed.err().map(|error| error.to_string()).unwrap_or_default();
        let outlooks = async {
            self.learn(&interest.packages).await?;
            self.foresee(&interest.packages, interest.package_settings).await
        };
        let outlooks = tokio::time::timeout(PREPARE_LIMIT, outlooks).await;
        match outlooks.unwrap_or(Err(TransactionError::Silent(PREPARE_LIMIT))) {
            Ok(outlooks) => {
                self.state().mirror.outlooks = outlooks;
                self.answered();
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Facts of packages of any document.
    pub(super) async fn look(&self, interest: Interest) -> Result<Vec<Change>, PluginError> {
        if interest.packages.is_empty() {
            return Ok(Vec::new());
        }
        let outlooks = async {
            self.learn(&interest.packages).await?;
            self.foresee(&interest.packages, interest.package_settings).await
        };
        let outlooks = outlooks.await.map_err(PluginError::from)?;
        let state = self.state();
        let facts = interest
            .packages
            .iter()
            .map(|(key, spec)| Change::Package(key.clone(), state.mirror.facts(key, spec, outlooks.get(key))));
        Ok(facts.collect())
    }

    /// Simulates what these packages' entries ask for.
    async fn foresee(
        &self,
        packages: &BTreeMap<Name, PackageSpec>,
        settings: PackageSettings,
    ) -> Result<BTreeMap<Name, Outlook>, TransactionError> {
        let (differing, installed) = {
            let state = self.state();
            (state.mirror.differing(packages), state.mirror.installed.clone())
        };
        let mut coming = Wanted::new();
        let mut going = Wanted::new();
        for (key, facts) in &differing {
            let Some(spec) = packages.get(key) else { continue };
            match (spec.ensure, &facts.offer) {
                (Some(PackageEnsure::Removed), _) => {
                    going.extend(installed_id(key, spec, &installed).map(|id| (key.clone(), id)));
                }
                (Some(_), Offer::Version { id, .. }) => drop(coming.insert(key.clone(), id.clone())),
                _ => {}
            }
        }
        if coming.is_empty() && going.is_empty() {
            return Ok(BTreeMap::new());
        }
        let client = self.client()?;
        let mut out = foresee(&client, Direction::In, &coming, &installed, settings.allow_untrusted).await?;
        out.extend(foresee(&client, Direction::Out, &going, &installed, settings.allow_untrusted).await?);
        Ok(out)
    }

    /// Has the lists fetched, where the document says so and something hangs on them.
    async fn refresh(
        &self,
        packages: &BTreeMap<Name, PackageSpec>,
        settings: PackageSettings,
    ) -> Result<(), TransactionError> {
        let differs = !self.state().mirror.differing(packages).is_empty();
        let latest = packages.values().any(|spec| spec.ensure == Some(PackageEnsure::Latest));
        if settings.refresh == Refresh::Never || !(differs || latest) {
            return Ok(());
        }
        if let Refresh::OlderThan(minutes) = settings.refresh {
            let age = Duration::from_secs(u64::from(minutes) * 60);
            let own = self.state().refreshed.map(|at| at.elapsed());
            let known = match own.filter(|own| *own <= age) {
                Some(own) => Some(own),
                None => self.client()?.refreshed_ago().await?.map(|seconds| Duration::from_secs(seconds.into())),
            };
            if known.is_some_and(|known| known <= age) {
                return Ok(());
            }
        }
        self.client()?.ask(Call::Refresh).await?;
        let mut state = self.state();
        state.refreshed = Some(Instant::now());
        // What they say now is asked for, whatever their files look like.
        state.mirror.catalogue.stamp.clear();
        Ok(())
    }
}

impl From<TransactionError> for PluginError {
    fn from(error: TransactionError) -> Self {
        let (plugin, why) = (super::NAME, error.to_string());
        match error {
            TransactionError::Failed { retry: false, .. } => Self::Refused { plugin, why },
            _ => Self::Away { plugin, why },
        }
    }
}

/// PackageKit's id of the installed package of an entry.
pub(super) fn installed_id(key: &str, spec: &PackageSpec, installed: &Installed) -> Option<String> {
    let (name, _) = parts(key, spec);
    let Entry { version, arch, .. } = installed_of(key, spec, installed)?;
    Some(format!("{name};{version};{arch};installed"))
}

/// What PackageKit says is installed.
fn told_installed(catalogue: &Catalogue) -> Installed {
    let mut out = Installed { native: std::env::consts::ARCH.to_owned(), ..Installed::default() };
    for found in catalogue.found.values().flatten().filter(|found| found.info == Info::Installed) {
        let entry = Entry {
            arch: found.arch.clone(),
            version: found.version.clone(),
            summary: found.summary.clone(),
            ..Entry::default()
        };
        out.packages.entry(found.name.clone()).or_default().push(entry);
    }
    out
}

/// The facts of one package as they are now, for a step.
pub(super) fn facts_now(keeper: &Keeper, key: &str, spec: &PackageSpec) -> PackageFacts {
    keeper.state().mirror.facts(key, spec, None)
}
