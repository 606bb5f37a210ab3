//! Open vSwitch, over OVSDB's JSON-RPC (RFC 7047, ovsdb-server(7)).

mod cache;
mod client;
mod frame;
mod mirror;
mod remote;
mod row;
mod rpc;
mod schema;
mod session;
mod value;

pub use client::Timing;
pub use remote::{BadRemote, Remote};
