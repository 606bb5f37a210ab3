//! The ovsdb plugin against a private Open vSwitch, and against a server that misbehaves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs
)]

mod apply;
mod contention;
mod faults;
mod fixpoint;
mod mirror;
mod peer;
