//! The one writer of the model: generations, jobs, drift.

mod audit;
mod command;
mod core;
mod driver;
mod generations;

pub use command::{ApplyOptions, Caller, Command, CoreError, GenerationInfo, Hub, LifecycleVerb, Notice, PlanRequest};

pub use driver::{Control, Handles, Parts, start};

pub use self::core::{Core, Effect, Left, NewDesired, Now, Settings, interest};
pub use crate::desired::Fault;
