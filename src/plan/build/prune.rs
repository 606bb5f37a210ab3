//! What bears this machine's mark and is not named any more.

use std::collections::BTreeSet;

use super::{Builder, away_why};
use crate::{
    model::{Difference, Name, Observed, Reason, ResourceId, StringMap, Subject},
    plan::{Action, BridgeOp, Desired, Inventory, OWNER_KEY, PortOp, Step, StepId},
};

/// The ports that keep a bridge of ours, which the document does not name any more, from being pruned: those that are
/// not op-dbus's to remove. None either of a bridge that is not to be pruned at all.
#[must_use]
pub fn ports_against_prune(doc: &Desired, observed: &Observed, inventory: &Inventory, bridge: &Name) -> Vec<Name> {
    let Some(facts) = observed.bridges.get(bridge) else { return Vec::new() };
    if !is_ours(&facts.external_ids, inventory) || doc.bridges.contains_key(bridge) {
        return Vec::new();
    }
    let holds = |port: &&Name| {
        let ours = observed.ports.get(*port).is_some_and(|port| is_ours(&port.external_ids, inventory));
        *port != bridge && (!ours || is_named(doc, inventory, port))
    };
    facts.ports.iter().filter(holds).cloned().collect()
}

fn is_ours(ids: &StringMap, inventory: &Inventory) -> bool {
    ids.get(OWNER_KEY) == Some(&inventory.machine_id)
}

fn is_named(doc: &Desired, inventory: &Inventory, port: &Name) -> bool {
    doc.ports.contains_key(port)
        || doc.bringer(port).is_some()
        // Whatever it bears: what Proxmox VE plugs is not touched here.
        || inventory.proxmox_port(port).is_some()
}

impl Builder<'_> {
    /// Removes what bears this machine's mark and is not named.
    pub(super) fn prune(&mut self) {
        if !self.observed.is_connected("ovsdb") {
            let (reason, text) = away_why(self.observed, "ovsdb");
            // Switched off, it has nothing that could be removed.
            if reason == Reason::BackendAway {
                let why = (reason, format!("{text}: what is to be pruned is not known"));
                let subject = Subject::Plugin("ovsdb");
                self.push(subject, Action::Nothing, Vec::new(), BTreeSet::new(), Some(why), Vec::new());
            }
            return;
        }
        let mut bridges = Vec::new();
        for (name, facts) in &self.observed.bridges {
            if !is_ours(&facts.external_ids, self.inventory) || self.doc.bridges.contains_key(name) {
                continue;
            }
            // What this plan moves elsewhere is let go first, and holds the bridge no longer.
            let moved = |port: &Name| -> Vec<StepId> {
                self.steps.iter().filter(|step| moves(step, port)).map(|step| step.id).collect()
            };
            let after: BTreeSet<StepId> = facts.ports.iter().filter(|port| *port != name).flat_map(moved).collect();
            let mut holding = ports_against_prune(self.doc, self.observed, self.inventory, name);
            holding.retain(|port| moved(port).is_empty());
            let blocked = (!holding.is_empty()).then(|| {
                let text = "is not named any more, but holds ports that are not op-dbus's to remove";
                (Reason::ForeignPorts, format!("bridge {name} {text}: {}", holding.join(", ")))
            });
            bridges.push((name.clone(), after, blocked));
        }
        let mut ports = Vec::new();
        for (name, facts) in &self.observed.ports {
            let goes_with_bridge =
                bridges.iter().any(|(bridge, _, blocked)| *bridge == facts.bridge && blocked.is_none());
            let is_left = is_ours(&facts.external_ids, self.inventory) && !is_named(self.doc, self.inventory, name);
            if is_left && *name != facts.bridge && !goes_with_bridge {
                ports.push(name.clone());
            }
        }
        let gone = || vec![Difference::new("ensure", "absent", "present")];
        for name in ports {
            let action = Action::Port(name.clone(), PortOp::Delete);
            self.push(ResourceId::port(name), action, gone(), BTreeSet::new(), None, Vec::new());
        }
        for (name, after, blocked) in bridges {
            let action =
                if blocked.is_some() { Action::Nothing } else { Action::Bridge(name.clone(), BridgeOp::Delete) };
            self.push(ResourceId::bridge(name), action, gone(), after, blocked, Vec::new());
        }
    }
}

/// Whether a step takes that port to another bridge.
fn moves(step: &Step, port: &Name) -> bool {
    step.blocked.is_none() && matches!(&step.action, Action::Port(name, PortOp::Move(_)) if name == port)
}
