//! What is observed: facts, the snapshot that readers see, and how it is published.
//!
//! The model knows no bus and no backend. It has one writer ([`crate::reconcile`]); everybody else reads an
//! immutable [`Snapshot`], so that no read ever waits for an apply.

mod facts;
mod guest;
mod host_side;
mod id;
mod machine_link;
mod object;
mod package;
mod publish;
mod secret;
mod snapshot;
mod value;
pub(crate) mod words;

pub use facts::{
    Backend, BackendStatus, BridgeFacts, Change, ContainerFacts, InterfaceFacts, Links, PluginFacts, PortFacts,
    Runtime, StringMap, SwitchFacts, UnitFacts, UnitJob,
};
pub use guest::{
    ClusterFacts, GuestFacts, GuestMount, GuestNetwork, GuestSettings, HOST_SIDE, MOVING, NodeFacts, StorageFacts,
    UNFINISHED,
};
pub use host_side::{host_side_names, host_side_of};
pub use id::{Kind, Name, ResourceId, Subject, escape_path_element, unescape_path_element};
pub use machine_link::machine_link;
pub use object::{MethodKey, ObjectFacts, PropertyType, TypedValue};
pub use package::{Offer, Outlook, PackageFacts};
pub use publish::{Publisher, Reader};
pub use secret::{REDACTED, holds_secret, is_secret_key, redacted, shown};
pub use snapshot::{
    DriftPolicy, JobFacts, JobId, JobKind, JobResult, JobState, NO_TAG, OP_DBUS_UID, Observed, Reason, ResourceFacts,
    Snapshot, StateFacts, StateFileStatus, StateSource, Status, StepFacts, StepState,
};
pub use value::{Difference, Value};
