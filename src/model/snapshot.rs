//! The immutable whole that readers see.

use std::sync::Arc;

use imbl::OrdMap;

use super::{
    Backend, BackendStatus, BridgeFacts, ClusterFacts, ContainerFacts, Difference, GuestFacts, Links, Name,
    ObjectFacts, PackageFacts, PluginFacts, PortFacts, ResourceId, Subject, SwitchFacts, UnitFacts,
    words::{document_words, words},
};

/// `Port.Tag` of a port without one.
pub const NO_TAG: i32 = -1;

/// `Job.CallerUid` of what op-dbus started by itself.
pub const OP_DBUS_UID: u32 = u32::MAX;

/// The number of a job: never used again, also not after a restart.
pub type JobId = u64;

/// Everything observed. Cloning is cheap: the maps share their parts.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Units, by the name they were asked for.
    pub units: OrdMap<Name, Arc<UnitFacts>>,
    /// All bridges.
    pub bridges: OrdMap<Name, Arc<BridgeFacts>>,
    /// All ports.
    pub ports: OrdMap<Name, Arc<PortFacts>>,
    /// How far Open vSwitch is with those two.
    pub switch: SwitchFacts,
    /// All containers.
    pub containers: OrdMap<Name, Arc<ContainerFacts>>,
    /// Declared packages, as the document spells them.
    pub packages: OrdMap<Name, Arc<PackageFacts>>,
    /// Declared objects of other D-Bus services, by their name in the document.
    pub objects: OrdMap<Name, Arc<ObjectFacts>>,
    /// What a runtime with an API lists, its virtual machines included.
    pub guests: OrdMap<Name, Arc<GuestFacts>>,
    /// What planning must know of that runtime besides.
    pub cluster: Arc<ClusterFacts>,
    /// What the join found between them.
    pub links: Links,
    /// The plugins' backends, by plugin. A plugin that is not here counts as connecting.
    pub backends: OrdMap<&'static str, Backend>,
}

impl Observed {
    /// Whether the facts of that plugin can be trusted and its backend written.
    #[must_use]
    pub fn is_connected(&self, plugin: &str) -> bool {
        self.backends.get(plugin).is_some_and(|backend| backend.status == BackendStatus::Connected)
    }
}

document_words! {
    /// What to do about drift.
    #[derive(Default)]
    DriftPolicy {
        /// Show it and tell it; touch nothing until the next call.
        #[default]
        Report = "report",
        /// Put it back at once.
        Enforce = "enforce",
    }
}

words! {
    /// `Resource.Status`.
    Status {
        /// As the document says.
        InSync = "in-sync",
        /// A job will look at it, or it is on its way by itself: a systemd job, an automatic restart.
        Pending = "pending",
        /// Being written.
        Applying = "applying",
        /// Written, not yet seen to hold.
        Verifying = "verifying",
        /// Not as the document says, and nothing is under way.
        Drifted = "drifted",
        /// The last attempt failed.
        Failed = "failed",
        /// Cannot be attempted.
        Blocked = "blocked",
        /// Its backend is away.
        Unknown = "unknown",
        /// The document does not name it.
        Unmanaged = "unmanaged",
        /// Left alone until the next generation: a Start or Stop with `override` went against the document.
        Paused = "paused",
    }
}

words! {
    /// `Job.Kind`.
    JobKind {
        /// A new generation.
        Apply = "apply",
        /// Reconcile was called, or op-dbus started.
        Reconcile = "reconcile",
        /// Drift is put back.
        Drift = "drift",
        /// Container.Start.
        Start = "start",
        /// Container.Stop.
        Stop = "stop",
        /// Container.Restart.
        Restart = "restart",
    }
}

words! {
    /// `Job.State`.
    JobState {
        /// Waits for the one that writes.
        Queued = "queued",
        /// Steps run.
        Running = "running",
        /// All is written, hold-downs run.
        Verifying = "verifying",
        /// Over.
        Finished = "finished",
    }
}

words! {
    /// `Job.Result`.
    JobResult {
        /// All of it holds.
        Done = "done",
        /// All of it held already.
        Unchanged = "unchanged",
        /// Some of it holds.
        Partial = "partial",
        /// None of what had to change holds.
        Failed = "failed",
        /// A newer generation took over.
        Superseded = "superseded",
        /// Cancel was called.
        Cancelled = "cancelled",
    }
}

words! {
    /// State of one step of a job.
    StepState {
        /// Waits for others.
        Pending = "pending",
        /// Being written.
        Running = "running",
        /// Written, not yet seen to hold.
        Verifying = "verifying",
        /// Seen to hold.
        Done = "done",
        /// Did not come to hold.
        Failed = "failed",
        /// Cannot be attempted, or something it waits for failed.
        Blocked = "blocked",
        /// Not begun: the job was cancelled or superseded.
        Skipped = "skipped",
    }
}

impl StepState {
    /// Nothing more will come of it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Blocked | Self::Skipped)
    }
}

words! {
    /// `Resource.Reason`: one CamelCase word for machines. Each has its remedy in docs/operations.md.
    Reason {
        /// Nothing to say.
        None = "",
        /// The backend is away; the values are the last known.
        BackendAway = "BackendAway",
        /// The field differs from the document.
        Differs = "Differs",
        /// It is declared and not there.
        Missing = "Missing",
        /// It is there and declared absent.
        NotAbsent = "NotAbsent",
        /// systemd knows no such unit.
        UnitNotFound = "UnitNotFound",
        /// The unit is masked and the document does not unmask it.
        UnitMasked = "UnitMasked",
        /// The unit's file cannot be loaded.
        UnitBroken = "UnitBroken",
        /// The unit's file lies in /etc, where a mask has no place.
        CannotMask = "CannotMask",
        /// The kind of unit file cannot be enabled.
        NotEnableable = "NotEnableable",
        /// systemd cannot set the property live, or the unit has no such property.
        PropertyNotSettable = "PropertyNotSettable",
        /// A condition or assert of the unit was not met.
        ConditionUnmet = "ConditionUnmet",
        /// It starts and dies again and again.
        CrashLoop = "CrashLoop",
        /// It did not come to the wanted state in time.
        TimedOut = "TimedOut",
        /// Its systemd job failed.
        JobFailed = "JobFailed",
        /// Its systemd job was cancelled by another.
        JobCancelled = "JobCancelled",
        /// On the never-touch list, and the document does not say `allow_protected`.
        Protected = "Protected",
        /// The bridge is neither there nor declared.
        BridgeMissing = "BridgeMissing",
        /// The bridge holds ports that op-dbus did not make.
        ForeignPorts = "ForeignPorts",
        /// A bridge of old, a VLAN of another: op-dbus does not write it.
        FakeBridge = "FakeBridge",
        /// The name is taken by a row of another kind.
        NameTaken = "NameTaken",
        /// The device of the port is not there.
        DeviceMissing = "DeviceMissing",
        /// Open vSwitch could not make the port work.
        PortError = "PortError",
        /// ovs-vswitchd does not answer: committed, not applied.
        SwitchNotAnswering = "SwitchNotAnswering",
        /// Another client changed the same rows.
        Contended = "Contended",
        /// The value is not of the type that the service says, or the service does not say it.
        WrongType = "WrongType",
        /// The property can only be read, and the document names no method that sets it.
        ReadOnly = "ReadOnly",
        /// The object is not there, and the document does not say how it is made.
        ObjectMissing = "ObjectMissing",
        /// The D-Bus service is not there or does not answer; the values are the last known.
        ServiceAway = "ServiceAway",
        /// The backend refused.
        Refused = "Refused",
        /// No runtime on this machine has such a container.
        ContainerNotFound = "ContainerNotFound",
        /// The change is written and waits for a restart of the container.
        RestartNeeded = "RestartNeeded",
        /// It can be chosen when it is made, and not be changed later.
        Immutable = "Immutable",
        /// It would have to be made smaller, which loses data.
        CannotShrink = "CannotShrink",
        /// The template, the container or the volume that it shall be made from is not there.
        SourceMissing = "SourceMissing",
        /// The storage, or the disk, has not enough room.
        NoSpace = "NoSpace",
        /// The storage is not there, or does not take what shall be put on it.
        StorageMissing = "StorageMissing",
        /// The node is not there, or does not answer.
        NodeAway = "NodeAway",
        /// op-dbus's own token may not do it.
        NotPermitted = "NotPermitted",
        /// Its runtime has locked it.
        Locked = "Locked",
        /// The id is a virtual machine's.
        IdTaken = "IdTaken",
        /// The runtime on this machine cannot do it.
        NotSupported = "NotSupported",
        /// Two runtimes have a container of that id.
        AmbiguousContainer = "AmbiguousContainer",
        /// No repository offers a package of that name.
        PackageNotFound = "PackageNotFound",
        /// The name is only one that other packages provide.
        PackageVirtual = "PackageVirtual",
        /// No repository offers the wanted version.
        VersionNotAvailable = "VersionNotAvailable",
        /// The wanted version is older than the installed one, and the entry does not allow that.
        WouldDowngrade = "WouldDowngrade",
        /// Packages that the document does not name would be removed too, and the entry does not allow that.
        WouldRemoveOthers = "WouldRemoveOthers",
        /// It cannot be there together with what else is, or shall be; or what it needs is not to be had.
        PackageConflict = "PackageConflict",
        /// Somebody else works in the package database.
        WaitingForPackageLock = "WaitingForPackageLock",
        /// The package manager was interrupted, and must be repaired by hand.
        PackageDatabaseBroken = "PackageDatabaseBroken",
        /// The package could not be fetched: no network, a repository that is away or broken.
        DownloadFailed = "DownloadFailed",
        /// The origin of the package cannot be verified, and the section does not allow that.
        UntrustedPackage = "UntrustedPackage",
        /// The package's own scripts failed, or it could not be unpacked.
        PackageScriptFailed = "PackageScriptFailed",
        /// Something it waits for failed or is blocked.
        DependencyFailed = "DependencyFailed",
        /// Its backend's section is switched off by the configuration.
        Disabled = "Disabled",
        /// Enforcing gave up after too many corrections.
        TooManyCorrections = "TooManyCorrections",
        /// A Start or Stop with `override` went against the document.
        Overridden = "Overridden",
        /// The port is a container's and is written once the container runs.
        ContainerStopped = "ContainerStopped",
        /// op-dbus itself failed.
        Internal = "Internal",
    }
}

/// `org.opdbus.Resource` of one object, but for what its [`ResourceId`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceFacts {
    /// The document names it.
    pub managed: bool,
    /// It exists.
    pub present: bool,
    /// It is as the document says; true where unmanaged.
    pub in_sync: bool,
    /// op-dbus made it.
    pub owned: bool,
    /// Where it stands.
    pub status: Status,
    /// Why, for machines.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
    /// Field by field.
    pub differences: Vec<Difference>,
    /// The policy in force for it.
    pub drift_policy: DriftPolicy,
    /// The last generation it was reconciled with; 0 = none.
    pub observed_generation: u64,
    /// When its status last changed, CLOCK_REALTIME microseconds.
    pub last_transition_usec: u64,
}

/// One step of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFacts {
    /// What it is about.
    pub subject: Subject,
    /// What it does: `start`, `add-port`, ...
    pub action: &'static str,
    /// Where it stands.
    pub state: StepState,
    /// Why, for people.
    pub message: String,
}

/// `org.opdbus.Job` of one job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFacts {
    /// The generation it works towards.
    pub generation: u64,
    /// Why it runs.
    pub kind: JobKind,
    /// What it is about.
    pub target: Subject,
    /// Where it stands.
    pub state: JobState,
    /// How it ended; `None` until it has.
    pub result: Option<JobResult>,
    /// For people.
    pub message: String,
    /// 0..1.
    pub progress: f64,
    /// Its steps, by id.
    pub steps: OrdMap<u32, Arc<StepFacts>>,
    /// When it started, CLOCK_REALTIME microseconds; 0 = not yet.
    pub started_usec: u64,
    /// When it finished, CLOCK_REALTIME microseconds; 0 = not yet.
    pub finished_usec: u64,
    /// Who asked; [`OP_DBUS_UID`] = op-dbus itself.
    pub caller_uid: u32,
}

words! {
    /// `State.StateSource`: where the current generation came from.
    StateSource {
        /// The state file.
        File = "file",
        /// A call.
        Bus = "bus",
        /// There is no generation.
        None = "none",
    }
}

words! {
    /// `State.StateFileStatus`.
    StateFileStatus {
        /// Its content is the current generation.
        Current = "current",
        /// A call has overridden it.
        Overridden = "overridden",
        /// It was refused; the message says why.
        Refused = "refused",
        /// It is not there.
        Missing = "missing",
    }
}

/// `org.opdbus.State`, but for the constants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFacts {
    /// The current generation; 0 = none.
    pub generation: u64,
    /// The last generation that a job worked through to its end.
    pub observed_generation: u64,
    /// No managed resource is out of sync or unknown.
    pub in_sync: bool,
    /// How many resources are managed.
    pub managed: u32,
    /// How many of them are drifted.
    pub drifted: u32,
    /// ... failed.
    pub failed: u32,
    /// ... blocked.
    pub blocked: u32,
    /// ... unknown.
    pub unknown: u32,
    /// ... pending, applying or verifying.
    pub pending: u32,
    /// The document's policy.
    pub drift_policy: DriftPolicy,
    /// The job that writes.
    pub current_job: Option<JobId>,
    /// The job that finished last.
    pub last_job: Option<JobId>,
    /// When a job last finished, CLOCK_REALTIME microseconds; 0 = never.
    pub last_reconcile_usec: u64,
    /// Where the current generation came from.
    pub source: StateSource,
    /// The state file's standing.
    pub file_status: StateFileStatus,
    /// Why, for people.
    pub file_message: String,
    /// Jobs ever finished since the start of op-dbus.
    pub jobs_total: u64,
    /// ... that did not end in done or unchanged.
    pub jobs_failed: u64,
    /// Drifts ever detected since the start of op-dbus.
    pub drifts_total: u64,
}

impl Default for StateFacts {
    fn default() -> Self {
        Self {
            generation: 0,
            observed_generation: 0,
            in_sync: true,
            managed: 0,
            drifted: 0,
            failed: 0,
            blocked: 0,
            unknown: 0,
            pending: 0,
            drift_policy: DriftPolicy::Report,
            current_job: None,
            last_job: None,
            last_reconcile_usec: 0,
            source: StateSource::None,
            file_status: StateFileStatus::Missing,
            file_message: String::new(),
            jobs_total: 0,
            jobs_failed: 0,
            drifts_total: 0,
        }
    }
}

/// All that the bus shows, at one instant.
///
/// `resources` is the list of objects: each key has its facts in the map of its kind in `observed`, or is declared
/// and missing.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// What the backends say.
    pub observed: Observed,
    /// Every resource on the tree.
    pub resources: OrdMap<ResourceId, Arc<ResourceFacts>>,
    /// Jobs running and recent.
    pub jobs: OrdMap<JobId, Arc<JobFacts>>,
    /// The plugins.
    pub plugins: OrdMap<&'static str, Arc<PluginFacts>>,
    /// The whole.
    pub state: Arc<StateFacts>,
}
