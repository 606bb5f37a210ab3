//! The desired-state document: its types, and how they are read, checked and described.

mod document;
mod fault;

pub use document::{
    ActiveState, BondMode, BridgeSpec, Common, ContainerSpec, Document, Ensure, FailMode, Lacp, OptionalMap, PortSpec,
    UnitSpec, VlanMode, Want,
};
pub use fault::{DocumentError, Fault, code, faults_text};
