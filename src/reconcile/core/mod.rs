//! The state machine behind everything: what is observed, what is desired, jobs and drift. No IO, no clock.
//!
//! Each input is a method that takes the time; what shall be done comes out as [`Effect`]s, and what shall be seen as
//! a [`Snapshot`]. The driver beside it does the IO.

mod drift;
mod ends;
mod jobs;
mod lifecycle;
mod observe;
mod run;
mod status;
mod steps;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{Caller, Notice};
use crate::{
    desired::Document,
    model::{
        Difference, JobId, JobKind, JobResult, Name, ResourceId, Snapshot, StateFacts, StateFileStatus, StateSource,
        Status,
    },
    plan::{
        Dependencies, Desired, Hand, Inventory, Plan, container_unit, dependencies, dependents, machine_properties,
    },
    plugins::{Interest, Work, lxc::Join},
};

use drift::Due;
use run::Run;

/// One second, in microseconds.
const SECOND: u64 = 1_000_000;

/// Times and bounds of the core, all in microseconds unless they say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Finished jobs kept on the tree, at the most.
    pub jobs_kept: usize,
    /// ... and at least for this long, unless there are more than `jobs_kept`.
    pub job_age: u64,
    /// A backend that is away for less than this changes no resource.
    pub away_grace: u64,
    /// A unit that somebody's systemd job stopped is let be for this long before it is put back.
    pub stop_settle: u64,
    /// How long whoever starts a container may take to plug its port, before op-dbus does.
    pub plug_settle: u64,
    /// Corrections of one resource ...
    pub corrections: usize,
    /// ... in this time, after which drift is only reported.
    pub corrections_window: u64,
    /// First wait before what failed for a passing reason is tried again; doubles.
    pub retry_first: u64,
    /// Longest such wait.
    pub retry_last: u64,
    /// How long the first job after op-dbus's start waits for backends that have not answered yet.
    pub start_grace: u64,
    /// How long op-dbus, told to end, waits for steps that have begun. systemd goes on with a start by itself, and what
    /// was not seen to its end is planned afresh at the next start.
    pub end_grace: u64,
    /// A plugin tells of the backend of `lxc`; without one, containers are known as far as systemd is.
    pub has_runtime: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            jobs_kept: 256,
            job_age: 600 * SECOND,
            away_grace: 2 * SECOND,
            stop_settle: 5 * SECOND,
            plug_settle: 2 * SECOND,
            corrections: 5,
            corrections_window: 600 * SECOND,
            retry_first: SECOND / 4,
            retry_last: 60 * SECOND,
            start_grace: 5 * SECOND,
            end_grace: 15 * SECOND,
            has_runtime: false,
        }
    }
}

/// The time of an input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// CLOCK_BOOTTIME: deadlines run on it.
    pub boot_usec: u64,
    /// CLOCK_REALTIME: what people see.
    pub real_usec: u64,
}

/// What shall be done.
#[derive(Debug)]
pub enum Effect {
    /// Have the plugins mirror this; answer with [`Core::watched`].
    Watch {
        /// To be given back.
        generation: u64,
        /// What.
        interest: Interest,
    },
    /// Have the plugins bring up to date what planning needs and no event tells; answer with [`Core::prepared`].
    Prepare {
        /// For that job.
        job: JobId,
        /// What.
        interest: Interest,
    },
    /// Plan; answer with [`Core::planned`].
    Plan {
        /// For that job.
        job: JobId,
        /// With that document.
        desired: Desired,
        /// These resources; `None` = all.
        scope: Option<BTreeSet<ResourceId>>,
        /// On whose behalf.
        caller: Caller,
        /// It is the first try of a generation, or somebody asked for another.
        fresh: bool,
    },
    /// Carry out steps; the plugin's events tell how it goes, then answer with [`Core::applied`].
    Apply {
        /// By that plugin.
        plugin: &'static str,
        /// These.
        work: Work,
    },
    /// Have that plugin look at these again: another backend told something of them.
    Hint {
        /// By that plugin.
        plugin: &'static str,
        /// These.
        containers: BTreeSet<Name>,
    },
    /// Tell the bus, after the snapshot.
    Notice(Notice),
    /// Keep the result of a generation's job.
    Finished {
        /// Which generation.
        generation: u64,
        /// How it ended.
        result: &'static str,
        /// It was worked through to the end: it need not be taken up at the next start.
        complete: bool,
    },
    /// More job numbers are needed; answer with [`Core::job_numbers`].
    ReserveJobs,
}

/// How an attempt ended that did not end well; `true` where trying again may help.
type Failure = (Status, crate::model::Reason, String, bool);

/// What is remembered of a resource between its jobs.
#[derive(Debug, Clone, Default)]
struct Track {
    /// It has been in sync in this generation: what differs now is drift.
    achieved: bool,
    /// How its last attempt ended, if not well.
    failure: Option<Failure>,
    /// Times of corrections, on the boot clock.
    corrections: VecDeque<u64>,
    /// Enforcing gave up until the next generation or Reconcile.
    gave_up: bool,
    /// Attempts in a row that failed for a passing reason.
    retries: u32,
    /// The differences that DriftDetected has told.
    told: Vec<Difference>,
    /// Why the last job could not attempt it (its backend was away, something stood in its way): it is taken up once it
    /// can be.
    kept_back: Option<crate::model::Reason>,
    /// Somebody plugged its port anew, or started its container: what that undid is put right whatever the policy.
    replugged: bool,
    /// Left alone until the next generation.
    paused: bool,
    /// The last generation it was reconciled with.
    observed_generation: u64,
}

/// The desired side.
#[derive(Debug, Default)]
struct Wanted {
    generation: u64,
    desired: Desired,
    dependents: BTreeMap<ResourceId, Vec<ResourceId>>,
    dependencies: Dependencies,
    /// The generation whose interest the plugins mirror.
    watched: Option<u64>,
    /// Not all of it could be brought about, and what is left is taken up by itself.
    owed: bool,
    /// What is to be pruned could not be known or removed, and may be tried again from then on (on the boot clock),
    /// its backend being there.
    unpruned: Option<u64>,
    /// Bridges that could not be pruned for what others have plugged into them; taken up once that is gone.
    held_bridges: BTreeSet<Name>,
    /// Whole jobs in a row that could not prune for a passing fault.
    prune_retries: u32,
}

/// One backend, as the core sees it.
#[derive(Debug, Default)]
struct Backing {
    /// When it went away.
    away_since: Option<u64>,
    /// Its resources count as unknown.
    unknown: bool,
    /// It has said anything at all.
    answered: bool,
    /// It has told all that it mirrors once: what is new from now on has just come to be.
    mirrored: bool,
    /// It is reloading or shutting down: nothing of it is drift.
    busy: bool,
}

/// The state machine.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    inventory: Inventory,
    join: Join,
    view: Snapshot,
    state: StateFacts,
    /// Managed resources that are not in sync.
    out_of_sync: u32,
    wanted: Wanted,
    tracks: BTreeMap<ResourceId, Track>,
    backings: BTreeMap<&'static str, Backing>,
    dirty: BTreeSet<ResourceId>,
    rejoin: BTreeSet<ResourceId>,
    due: BTreeMap<ResourceId, Due>,
    /// Resources that failed only because something they wait for did.
    held_up: BTreeSet<ResourceId>,
    runs: BTreeMap<JobId, Run>,
    queue: VecDeque<JobId>,
    writer: Option<JobId>,
    finished: VecDeque<(u64, JobId)>,
    next_job: JobId,
    jobs_end: JobId,
    /// More numbers were asked for and have not come.
    numbers_asked: bool,
    /// The generation of before op-dbus's start is to be taken up, once the backends have had their time.
    start_job: bool,
    /// Until when backends that have not answered since op-dbus's start hold jobs up; `None` = no job has wanted to begin.
    answers_by: Option<u64>,
    shutting_down: bool,
    /// When op-dbus, told to end, waits no longer.
    end_at: Option<u64>,
    effects: Vec<Effect>,
    now: Now,
}

/// How a generation stood when op-dbus last ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Worked through, in this boot.
    Finished,
    /// Worked through, in an earlier boot.
    FinishedInEarlierBoot,
    /// A job for it was still to come, or in the middle of it.
    Unfinished,
}

/// A generation as it comes to be the current one.
#[derive(Debug, Clone)]
pub struct NewDesired {
    /// Its number.
    pub generation: u64,
    /// What it means.
    pub document: Arc<Document>,
    /// Where it came from.
    pub source: StateSource,
    /// Who set it.
    pub caller: Caller,
}

impl Core {
    /// A core that has seen nothing yet. `plugins` are the backends that will report.
    #[must_use]
    pub fn new(settings: Settings, inventory: Inventory, join: Join, plugins: &[&'static str]) -> Self {
        Self {
            settings,
            inventory,
            join,
            view: Snapshot::default(),
            state: StateFacts::default(),
            out_of_sync: 0,
            wanted: Wanted::default(),
            tracks: BTreeMap::new(),
            backings: plugins.iter().map(|name| (*name, Backing { unknown: true, ..Backing::default() })).collect(),
            dirty: BTreeSet::new(),
            rejoin: BTreeSet::new(),
            due: BTreeMap::new(),
            held_up: BTreeSet::new(),
            runs: BTreeMap::new(),
            queue: VecDeque::new(),
            writer: None,
            finished: VecDeque::new(),
            next_job: 1,
            jobs_end: JobId::MAX,
            numbers_asked: false,
            start_job: false,
            answers_by: None,
            shutting_down: false,
            end_at: None,
            effects: Vec::new(),
            now: Now::default(),
        }
    }

    /// Numbers for jobs, from `first` up to before `end`; none where the two are equal: they are asked for again with
    /// the next job.
    pub const fn job_numbers(&mut self, first: JobId, end: JobId) {
        if self.jobs_end == JobId::MAX {
            self.next_job = first;
        }
        self.jobs_end = end;
        self.numbers_asked = false;
    }

    /// Takes up the generation that was current when op-dbus last ended: reconciles it on a new boot, or where its job
    /// had not finished; otherwise the drift policy decides.
    pub fn restore(&mut self, new: NewDesired, left: Left, now: Now) {
        self.now = now;
        self.adopt(new);
        // Whoever killed op-dbus may have done so after it wrote unit files and before systemd read them again.
        let writes_files = self.wanted.desired.units.values().any(|unit| unit.enabled.or(unit.masked).is_some());
        self.inventory.reload_owed = left == Left::Unfinished && writes_files;
        if left == Left::Finished {
            self.state.observed_generation = self.wanted.generation;
            for track in self.tracks.values_mut() {
                track.achieved = true;
                track.observed_generation = self.wanted.generation;
            }
        } else {
            self.start_job = true;
        }
    }

    /// A document was set. A new generation replaces the current one; the same again is reconciled again.
    pub fn set_desired(&mut self, new: NewDesired, now: Now) -> JobId {
        self.now = now;
        let caller = new.caller.clone();
        if new.generation == self.wanted.generation {
            self.state.source = new.source;
            self.forgive(None);
        } else {
            self.adopt(new);
        }
        self.start_job = false;
        self.supersede();
        self.enqueue(JobKind::Apply, None, caller)
    }

    fn adopt(&mut self, new: NewDesired) {
        let old: Vec<ResourceId> = self.wanted.desired.resources().collect();
        let desired = Desired::new(new.document);
        self.dirty.extend(old.iter().cloned());
        self.dirty.extend(desired.resources());
        let veths = desired.containers.iter().filter_map(|(id, spec)| Some((id.clone(), spec.veth.clone()?)));
        let joined = self.join.declare(veths.collect(), &self.view.observed);
        self.take_joined(joined);
        let observed = |id: &ResourceId| self.tracks.get(id).map_or(0, |track| track.observed_generation);
        self.tracks = desired
            .resources()
            .map(|id| {
                let observed_generation = observed(&id);
                (id, Track { observed_generation, ..Track::default() })
            })
            .collect();
        self.due.clear();
        self.held_up.clear();
        self.wanted = Wanted {
            generation: new.generation,
            dependents: dependents(&desired),
            dependencies: dependencies(&desired, &self.view.observed, &self.inventory),
            desired,
            watched: None,
            owed: false,
            unpruned: None,
            held_bridges: BTreeSet::new(),
            prune_retries: 0,
        };
        self.state.generation = new.generation;
        self.state.source = new.source;
        self.state.drift_policy = self.wanted.desired.drift;
        self.effects.push(Effect::Watch { generation: new.generation, interest: self.interest() });
    }

    /// What must be mirrored for the current document.
    fn interest(&self) -> Interest {
        interest(&self.wanted.desired, &self.view.observed, &self.inventory)
    }

    /// The plugins mirror what that generation needs.
    pub fn watched(&mut self, generation: u64, now: Now) {
        self.now = now;
        if generation == self.wanted.generation {
            self.wanted.watched = Some(generation);
        }
    }

    /// The state file's standing.
    pub fn state_file(&mut self, status: StateFileStatus, message: String) {
        self.state.file_status = status;
        self.state.file_message = message;
    }

    /// The time has come for something, or may have.
    pub fn tick(&mut self, now: Now) {
        self.now = now;
    }

    /// op-dbus ends: no step begins any more.
    pub fn shut_down(&mut self, now: Now) {
        self.now = now;
        self.shutting_down = true;
        self.end_at.get_or_insert(now.boot_usec + self.settings.end_grace);
        for job in self.runs.keys().copied().collect::<Vec<_>>() {
            self.stop(job, JobResult::Cancelled);
        }
    }

    /// No job runs or waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.runs.is_empty()
    }

    /// What planning needs besides.
    #[must_use]
    pub const fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// The current document.
    #[must_use]
    pub const fn desired(&self) -> &Desired {
        &self.wanted.desired
    }

    /// Brings everything up to the inputs since the last call: joins containers, judges what changed, starts what can
    /// start. Then takes the snapshot and the effects.
    pub fn settle(&mut self) -> (Snapshot, Vec<Effect>) {
        self.start_first_job();
        self.abandon();
        self.expire_backends();
        self.join_containers();
        self.judge();
        self.take_up_due();
        self.advance();
        // Steps that began, and jobs that ended, show on their resources.
        self.judge();
        self.forget_old_jobs();
        self.sum_up();
        (self.view.clone(), std::mem::take(&mut self.effects))
    }

    /// When [`Core::tick`] is wanted, on the boot clock; `None` = not before another input.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let away = self.backings.values().filter(|backing| !backing.unknown).filter_map(|backing| backing.away_since);
        let away = away.map(|since| since + self.settings.away_grace).min();
        let old = self.finished.front().map(|(at, _)| at + self.settings.job_age);
        let answers = self.answers_by.filter(|at| *at > self.now.boot_usec);
        [away, self.next_due(), answers, self.end_at, old].into_iter().flatten().min()
    }
}

/// What the plugins must mirror for a document: its units with their declared properties, its containers' units, its
/// packages, and its objects of other services.
#[must_use]
pub fn interest(desired: &Desired, observed: &crate::model::Observed, inventory: &Inventory) -> Interest {
    let mut units: BTreeMap<_, Vec<String>> =
        desired.units.iter().map(|(name, spec)| (name.clone(), spec.properties.keys().cloned().collect())).collect();
    for (id, spec) in &desired.containers {
        let properties = units.entry(container_unit(desired, id, observed, inventory)).or_default();
        if inventory.hand == Hand::Systemd {
            properties.extend(machine_properties(spec).into_keys());
        }
    }
    let objects = desired.objects.iter().map(|(name, spec)| (name.clone(), Arc::new(spec.clone()))).collect();
    let containers = desired.containers.iter().map(|(id, spec)| (id.clone(), Arc::new(spec.clone())));
    let templates = desired.templates.iter().map(|(name, spec)| (name.clone(), Arc::new(spec.clone())));
    Interest {
        units,
        installable: false,
        packages: desired.packages.clone(),
        package_settings: desired.package_settings,
        objects,
        containers: containers.collect(),
        templates: templates.collect(),
    }
}

/// An empty plan, for jobs that have none yet.
fn no_plan() -> Arc<Plan> {
    Arc::new(Plan::default())
}
