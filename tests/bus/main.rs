//! The tree on a private bus, its core played by the tests.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::assigning_clones,
    clippy::await_holding_lock,
    clippy::format_collect,
    clippy::items_after_statements,
    clippy::type_complexity,
    clippy::needless_for_each,
    clippy::unnecessary_wraps,
    clippy::default_trait_access,
    missing_docs
)]

mod auth;
mod bad_calls;
mod contract;
mod fixture;
mod hub;
mod load;
mod methods;
mod order;
mod process;
mod replica;
