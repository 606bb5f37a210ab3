//! The one writer of the model: generations, jobs, drift.

mod command;

pub use command::{ApplyOptions, Caller, Command, CoreError, GenerationInfo, Hub, LifecycleVerb, Notice, PlanRequest};

pub use crate::desired::Fault;
