//! The one writer of the model: generations, jobs, drift.

mod command;

pub use command::{
    ApplyOptions, Caller, Command, CoreError, Fault, GenerationInfo, Hub, LifecycleVerb, Notice, PlanRequest,
};
