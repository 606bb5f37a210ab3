//! Whether what was written came to hold: by the rows, by `cur_cfg` and by each interface's own columns. That
//! ovs-vswitchd took the configuration over says nothing about whether a port works.

use super::transact::{self, View};
use crate::{
    model::{InterfaceFacts, Name, Reason},
    plan::{Action, BridgeOp, PortOp, SWITCH_HANGS},
};

/// What a look at the rows says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Check {
    /// It holds.
    Holds,
    /// It does not hold yet; if it never does, that is why.
    NotYet(Reason, String),
    /// It does not hold, and will not by itself.
    Broken(Reason, String),
    /// Somebody else changed the rows since.
    Undone,
}

/// Looks at an action that was written; `applied` is what `cur_cfg` must come to.
pub(super) fn check(view: View<'_>, machine_id: &str, action: &Action, applied: Option<i64>) -> Check {
    let cur_cfg = view.cache.root().and_then(|root| root.int("cur_cfg")).unwrap_or_default();
    if applied.is_some_and(|number| cur_cfg < number) {
        return Check::NotYet(Reason::SwitchNotAnswering, SWITCH_HANGS.to_owned());
    }
    if !transact::holds(view, machine_id, action) {
        return Check::Undone;
    }
    let Some(port) = carrier(action).and_then(|name| view.mirror.port(name)) else { return Check::Holds };
    let mut worst = Check::Holds;
    for interface in &port.interfaces {
        match check_interface(interface) {
            Check::Holds => {}
            broken @ Check::Broken(..) => return broken,
            other => worst = other,
        }
    }
    worst
}

/// The port that shows whether it works: of a bridge its local port, of what goes none.
fn carrier(action: &Action) -> Option<&Name> {
    match action {
        Action::Bridge(_, BridgeOp::Delete) | Action::Port(_, PortOp::Delete) => None,
        Action::Bridge(name, _) | Action::Port(name, _) => Some(name),
        _ => None,
    }
}

fn check_interface(interface: &InterfaceFacts) -> Check {
    let name = &interface.name;
    if !interface.error.is_empty() {
        let missing = interface.error.contains("No such device");
        let reason = if missing { Reason::DeviceMissing } else { Reason::PortError };
        return Check::Broken(reason, format!("interface {name}: {}", interface.error));
    }
    if interface.ofport.is_none_or(|ofport| ofport <= 0) {
        let message = format!("interface {name}: ovs-vswitchd gave it no OpenFlow port");
        return Check::NotYet(Reason::PortError, message);
    }
    // The userspace datapath keeps the number when a device vanishes; only this column tells.
    if interface.is_system_device() && interface.ifindex.is_none_or(|ifindex| ifindex <= 0) {
        return Check::NotYet(Reason::DeviceMissing, format!("interface {name}: its device is not there"));
    }
    Check::Holds
}
