//! Planning: desired - observed = steps. Pure: no IO, no clock.

mod step;

pub use step::{Action, BridgeOp, Inventory, Plan, PortOp, Step, StepId, UnitOp};
