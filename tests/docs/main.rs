//! README.md, CONTRIBUTING.md, docs/ and the manual against the code: what is made from the code is as the code makes it
//! today, what stands for each of a kind stands for each of them, and every example document is one.
//!
//! `OPDBUS_BLESS=1 cargo test --test docs` writes the parts that are made. What the documents show of a running op-dbus
//! is played by tests/lab_docs.rs.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod api;
mod contributing;
mod document;
mod habits;
mod links;
mod made;
mod man;
mod objects;
mod operations;
mod readme;
