//! Planning: desired - observed = steps. Pure: no IO, no clock.

mod assess;
mod build;
mod compare;
mod desired;
mod export;
mod graph;
mod packages;
#[cfg(test)]
mod packages_tests;
mod protected;
mod step;
#[cfg(test)]
pub(crate) mod tests;

pub use assess::{Assessment, assess, container_port, container_unit};
pub use build::{backends, plan};
pub use desired::Desired;
pub use export::export;
pub use graph::{Dependencies, dependencies, dependents, waits_for};
pub use packages::{is_vital_package, package_differs};
pub use protected::is_protected;
pub use step::{Action, BridgeOp, Inventory, OWNER_KEY, PackageChange, PackageOp, Plan, PortOp, Step, StepId, UnitOp};
