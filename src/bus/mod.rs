//! The tree on the bus: objects, properties, signals, methods, authorization.
//!
//! One task owns the connection, drains its stream and answers every read from an immutable snapshot; what needs the
//! core is handed on and answered when done. zbus's object server is not used: its introspection is recursive, its
//! calls are not ordered, and it locks the tree.
//!
//! | module | what |
//! |---|---|
//! | `server` | the task: what wakes it, what it sends, in which order |
//! | `dispatch` | from a call to its answer or to a request |
//! | `request`, `options`, `list` | op-dbus's own methods, decoded and checked |
//! | `methods`, `plan_reply` | ... carried out through the core |
//! | `interfaces` | one file per interface: each property from the snapshot |
//! | `value`, `reply`, `error`, `managed`, `introspect`, `path` | what goes over the wire |
//! | `signals` | what differs between two snapshots |
//! | `auth`, `caller`, `limits` | who calls, whether he may, how much at once |
//! | `flow` | clients that do not read |

mod auth;
mod caller;
mod dispatch;
mod error;
mod flow;
mod interfaces;
mod introspect;
mod limits;
mod list;
mod managed;
mod methods;
mod options;
mod path;
mod plan_reply;
mod reply;
mod request;
mod server;
mod signals;
mod value;

pub use auth::Access;
pub use error::BusError;
pub use limits::Limits;
pub use methods::ParseDocument;
pub use server::serve;

use tokio::sync::oneshot;

/// The systemd unit that this process belongs to, if any.
#[must_use]
pub fn own_unit() -> Option<String> {
    caller::system_unit(std::process::id())
}

/// The name on the bus.
pub const NAME: &str = "org.opdbus";

/// Which bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusAddress {
    /// The system bus (DBUS_SYSTEM_BUS_ADDRESS, else its well-known socket).
    System,
    /// The session bus (DBUS_SESSION_BUS_ADDRESS, else the user's).
    Session,
    /// Another one: an address as in the D-Bus specification.
    Address(String),
}

/// How the bus is served.
#[derive(Debug)]
pub struct BusConfig {
    /// On which bus.
    pub address: BusAddress,
    /// Who may.
    pub access: Access,
    /// Bounds of what callers may ask for.
    pub limits: Limits,
    /// Reads documents.
    pub parse: ParseDocument,
    /// Told when the name is owned: from then on calls are answered.
    pub ready: Option<oneshot::Sender<()>>,
}
