//! Planning: desired - observed = steps. Pure: no IO, no clock.

mod assess;
mod build;
mod compare;
mod desired;
mod export;
mod graph;
mod guest;
#[cfg(test)]
mod guest_tests;
#[cfg(test)]
mod health_tests;
#[cfg(test)]
mod machined_tests;
mod moving;
#[cfg(test)]
mod moving_tests;
mod object;
mod packages;
#[cfg(test)]
mod packages_tests;
mod protected;
mod step;
#[cfg(test)]
pub(crate) mod tests;

pub use assess::machined::{machine_properties, machine_refusals, template_refusal};
pub use assess::{Assessment, SWITCH_HANGS, assess, container_port, container_unit};
pub use build::{backends, plan, ports_against_prune};
pub use desired::Desired;
pub use export::export;
pub use graph::{Dependencies, dependencies, dependents, waits_for};
pub use object::{ObjectCall, ObjectOp, has_values, object_away, object_work};
pub use packages::{awaited_packages, is_vital_package, package_differs};
pub use protected::{PROTECTED_CALLS, PROTECTED_STEMS, PROTECTED_UNITS, is_protected, matches_call};
pub use step::{
    Action, BridgeOp, ContainerOp, Hand, Inventory, OWNER_KEY, PackageChange, PackageOp, Plan, PortOp, Relocation,
    Step, StepId, TemplateOp, UnitOp,
};
