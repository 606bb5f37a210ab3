//! What the bus asks of the core, and what the core tells the bus besides the snapshot.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::{
    desired::{Document, DocumentError, Fault, faults_text},
    model::{Difference, JobId, JobResult, Reader, ResourceId, StepState},
    plan::{Plan, StepId},
};

/// Why the core refused. The variants are the errors `org.opdbus.Error.*`.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum CoreError {
    /// The document is wrong; nothing was changed.
    #[error("{}", faults_text(.0))]
    InvalidDocument(Vec<Fault>),
    /// Another job or an unfinished promise stands in the way.
    #[error("{0}")]
    Busy(String),
    /// There is no such generation, job, resource or file.
    #[error("{0}")]
    NotFound(String),
    /// The world is not as the caller supposed: another generation, a start that the document forbids.
    #[error("{0}")]
    Conflict(String),
    /// The backend is away.
    #[error("{0}")]
    Unavailable(String),
    /// It could not be done; the message says why.
    #[error("{0}")]
    Failed(String),
    /// Over a limit.
    #[error("{0}")]
    TooLarge(String),
}

impl From<DocumentError> for CoreError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::TooLarge(message) => Self::TooLarge(message),
            DocumentError::Invalid(faults) => Self::InvalidDocument(faults),
        }
    }
}

/// Who called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// Unix user; [`crate::model::OP_DBUS_UID`] = op-dbus itself.
    pub uid: u32,
    /// Process, where known.
    pub pid: Option<u32>,
    /// systemd unit of that process, where known: never touched on this caller's behalf.
    pub unit: Option<String>,
}

/// Options of `SetDesiredStateWithOptions` and `AdoptStateFile`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// `expected-generation`: refuse with Conflict unless this one is current.
    pub expected_generation: Option<u64>,
    /// `allow-empty`: an empty document is meant so.
    pub allow_empty: bool,
}

/// A document to plan with. The hub reads what is not mirrored yet; the caller plans off the bus task.
#[derive(Debug)]
pub struct PlanRequest {
    /// The document.
    pub document: Arc<Document>,
    /// Who asks: his unit is not touched.
    pub caller: Caller,
    /// The answer.
    pub reply: oneshot::Sender<Result<Arc<Plan>, CoreError>>,
}

/// What is known of a stored generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationInfo {
    /// Its number.
    pub number: u64,
    /// When it was stored, CLOCK_REALTIME microseconds.
    pub time_usec: u64,
    /// `file` or `bus`.
    pub source: &'static str,
    /// Who set it; [`crate::model::OP_DBUS_UID`] = the state file.
    pub uid: u32,
    /// SHA-256 of the document as received, in hexadecimal.
    pub sha256: String,
    /// Result of its last job; empty = none finished.
    pub result: String,
}

/// Start, Stop and Restart of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleVerb {
    /// Start.
    Start,
    /// Stop.
    Stop,
    /// Stop if it runs, and start.
    Restart,
}

/// What the bus asks. Each carries the way back; a dropped way back means that nobody waits any more.
#[derive(Debug)]
pub enum Command {
    /// Store a generation and start its job.
    SetDesiredState {
        /// The document as received.
        text: Arc<str>,
        /// ... and what it means.
        document: Arc<Document>,
        /// Options.
        options: ApplyOptions,
        /// Who.
        caller: Caller,
        /// Generation and job.
        reply: oneshot::Sender<Result<(u64, JobId), CoreError>>,
    },
    /// Make the state file's content the current generation again.
    AdoptStateFile {
        /// Options.
        options: ApplyOptions,
        /// Who.
        caller: Caller,
        /// Generation and job.
        reply: oneshot::Sender<Result<(u64, JobId), CoreError>>,
    },
    /// Plan a document, changing nothing.
    Plan(PlanRequest),
    /// Reconcile everything, or one resource, with the current generation.
    Reconcile {
        /// `None` = everything.
        target: Option<ResourceId>,
        /// Who.
        caller: Caller,
        /// The job.
        reply: oneshot::Sender<Result<JobId, CoreError>>,
    },
    /// Start, stop or restart a container.
    Lifecycle {
        /// Which container.
        container: ResourceId,
        /// What.
        verb: LifecycleVerb,
        /// `override`: do it although the document says otherwise, and leave the container alone until the next
        /// generation.
        against_document: bool,
        /// Who.
        caller: Caller,
        /// The job.
        reply: oneshot::Sender<Result<JobId, CoreError>>,
    },
    /// Cancel a job: what has started finishes, the rest is skipped.
    Cancel {
        /// Which.
        job: JobId,
        /// Who.
        caller: Caller,
        /// Done.
        reply: oneshot::Sender<Result<(), CoreError>>,
    },
    /// All stored generations, the newest last.
    ListGenerations {
        /// The list.
        reply: oneshot::Sender<Vec<GenerationInfo>>,
    },
    /// A generation's document as it was received; 0 = the current one.
    GetDesiredState {
        /// Its number.
        generation: u64,
        /// The document.
        reply: oneshot::Sender<Result<String, CoreError>>,
    },
    /// The tree as a document that plans to nothing.
    ExportState {
        /// Plugins to export; empty = all.
        plugins: Vec<String>,
        /// Add every unit with an `[Install]`.
        all_units: bool,
        /// The document, as JSON text.
        reply: oneshot::Sender<Result<String, CoreError>>,
    },
}

/// What the core tells the bus, in order, besides the snapshot. A notice about job N comes after the snapshot that
/// shows it was published.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// `Job.StepChanged`.
    StepChanged {
        /// The job.
        job: JobId,
        /// The step.
        step: StepId,
        /// Where it stands.
        state: StepState,
        /// For people.
        message: String,
    },
    /// `State.DriftDetected`.
    DriftDetected {
        /// Which resource.
        resource: ResourceId,
        /// The fields.
        differences: Vec<Difference>,
    },
    /// `State.JobFinished`.
    JobFinished {
        /// Its generation.
        generation: u64,
        /// The job.
        job: JobId,
        /// How it ended.
        result: JobResult,
    },
}

/// The bus's handle of the core.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Commands go here. Unbounded here, bounded per caller in the bus.
    pub commands: mpsc::UnboundedSender<Command>,
    /// Snapshots come from here.
    pub reader: Reader,
}
