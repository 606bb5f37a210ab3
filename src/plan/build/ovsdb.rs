//! Steps of bridges and ports, and the removal of what is named no more.

use std::{collections::BTreeSet, sync::Arc};

use super::{Assessment, Builder, Subject, away_why};
use crate::{
    desired::{ContainerSpec, Ensure, PortSpec},
    model::{Difference, Name, Reason, ResourceId},
    plan::{
        Action, BridgeOp, OWNER_KEY, PortOp, Step, StepId,
        assess::{container_port, foreign_ports},
    },
};

impl Builder<'_> {
    pub(super) fn bridge(
        &mut self,
        id: &ResourceId,
        assessment: &Assessment,
        after: &BTreeSet<StepId>,
    ) -> BTreeSet<StepId> {
        let name = &id.name;
        let Some(spec) = self.doc.bridges.get(name) else { return BTreeSet::new() };
        let foreign = foreign_ports(self.doc, name, self.observed);
        let op = match (spec.ensure, assessment.present) {
            (Ensure::Absent, _) => Some(BridgeOp::Delete),
            (Ensure::Present, false) => Some(BridgeOp::Add(Arc::new(spec.clone()))),
            (Ensure::Present, true) => assessment
                .differences
                .iter()
                .any(|difference| difference.field != "exclusive")
                .then(|| BridgeOp::Set(Arc::new(spec.clone()))),
        };
        let mut steps = BTreeSet::new();
        if let Some(op) = op {
            let mut changes = assessment.differences.clone();
            changes.retain(|difference| difference.field != "exclusive");
            let action = Action::Bridge(name.clone(), op);
            steps.insert(self.push(id.clone(), action, changes, after.clone(), None, assessment.warnings.clone()));
        }
        for port in foreign {
            let changes = vec![Difference::new("ensure", "absent", "present")];
            let action = Action::Port(port.clone(), PortOp::Delete);
            steps.insert(self.push(ResourceId::port(port), action, changes, after.clone(), None, Vec::new()));
        }
        steps
    }

    pub(super) fn port(
        &mut self,
        id: &ResourceId,
        assessment: &Assessment,
        after: BTreeSet<StepId>,
    ) -> BTreeSet<StepId> {
        let name = &id.name;
        let Some(spec) = self.doc.ports.get(name) else { return BTreeSet::new() };
        let facts = self.observed.ports.get(name);
        let op = match (spec.ensure, facts) {
            (Ensure::Absent, _) => PortOp::Delete,
            (Ensure::Present, None) if self.doc.bringer(name).is_some() => PortOp::Plug(Arc::new(spec.clone())),
            // The local port comes with its bridge: only what else the entry says is left to write.
            (Ensure::Present, None) if *name == spec.bridge => PortOp::Set(Arc::new(spec.clone())),
            (Ensure::Present, None) => PortOp::Add(Arc::new(spec.clone())),
            (Ensure::Present, Some(facts)) if facts.bridge != spec.bridge => PortOp::Move(Arc::new(spec.clone())),
            (Ensure::Present, Some(_)) if changes_kind(assessment) => PortOp::Recreate(Arc::new(spec.clone())),
            (Ensure::Present, Some(_)) => PortOp::Set(Arc::new(spec.clone())),
        };
        let action = Action::Port(name.clone(), op);
        let changes = assessment.differences.clone();
        BTreeSet::from([self.push(id.clone(), action, changes, after, None, assessment.warnings.clone())])
    }

    /// The step that brings a running container's port to its bridge; a declared port of that name adds its fields.
    pub(super) fn container_plug(
        &self,
        id: &Name,
        spec: &ContainerSpec,
        assessment: &Assessment,
    ) -> Option<(Name, PortOp)> {
        let bridge = spec.bridge.clone()?;
        let veth = spec.veth.clone()?;
        if !assessment.differences.iter().any(|difference| difference.field == "bridge") {
            return None;
        }
        let found = container_port(id, spec, self.observed);
        let name = found.as_ref().map_or(veth, |(name, _)| name.clone());
        let declared = self.doc.ports.get(&name).filter(|port| port.ensure == Ensure::Present).cloned();
        let spec = Arc::new(PortSpec { bridge, ..declared.unwrap_or_default() });
        Some((name, if found.is_some() { PortOp::Move(spec) } else { PortOp::Plug(spec) }))
    }

    /// Removes what bears this machine's mark and is not named.
    pub(super) fn prune(&mut self) {
        let is_ours = |ids: &crate::model::StringMap| ids.get(OWNER_KEY) == Some(&self.inventory.machine_id);
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
        let is_named = |port: &Name| {
            self.doc.ports.contains_key(port)
                || self.doc.bringer(port).is_some()
                // Whatever it bears: what Proxmox VE plugs is not touched here.
                || self.inventory.proxmox_port(port).is_some()
        };
        let mut bridges = Vec::new();
        for (name, facts) in &self.observed.bridges {
            if !is_ours(&facts.external_ids) || self.doc.bridges.contains_key(name) {
                continue;
            }
            // What this plan moves elsewhere is let go first, and holds the bridge no longer.
            let mut after = BTreeSet::new();
            let mut holding = Vec::new();
            for port in facts.ports.iter().filter(|port| *port != name) {
                let moves: Vec<StepId> =
                    self.steps.iter().filter(|step| moves(step, port)).map(|step| step.id).collect();
                let ours = self.observed.ports.get(port).is_some_and(|port| is_ours(&port.external_ids));
                if moves.is_empty() && (!ours || is_named(port)) {
                    holding.push(&**port);
                }
                after.extend(moves);
            }
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
            if is_ours(&facts.external_ids) && !is_named(name) && *name != facts.bridge && !goes_with_bridge {
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

/// Whether a port must be made anew: its type changes, or it turns from bond to single or back.
fn changes_kind(assessment: &Assessment) -> bool {
    assessment.differences.iter().any(|difference| difference.field == "type")
}
