//! Packages on the real PackageKit, apt and dpkg, with a repository of the lab's own: brought about, planned, ordered, and
//! what happens when something is in the way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod absence;
mod changes;
mod contention;
mod drift;
mod fixture;
mod order;
mod planning;
mod refresh;
mod trouble;
