#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod crash;
mod disk;
mod open;

/// The boot in which the tests run.
const BOOT: &str = "5e6f";
