//! Containers: found by joining units, OVS ports and the bridges these are on.
//!
//! There is no backend of its own behind this: what systemd and Open vSwitch say is enough, so the join is a pure
//! function, kept up to date at the cost of what changed.

mod join;
mod patterns;

pub use join::{Discovery, Join, join};
pub use patterns::{BadPattern, PORTS as PORT_PATTERNS, Patterns};
