//! Steps of bridges and ports.

use std::{collections::BTreeSet, sync::Arc};

use super::{Assessment, Builder, replug::as_it_was};
use crate::{
    desired::{ContainerSpec, Ensure, PortSpec},
    model::{Difference, Name, ResourceId},
    plan::{
        Action, BridgeOp, PortOp, StepId,
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
        let replaced = !assessment.changes(&["device"]).is_empty();
        let op = match (spec.ensure, facts) {
            (Ensure::Absent, _) => PortOp::Delete,
            (Ensure::Present, Some(facts)) if replaced => PortOp::Replug(Arc::new(as_it_was(name, spec, facts))),
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
        if !assessment.changes(&["device"]).is_empty() {
            return self.container_port(id, spec).map(|(name, spec)| (name, PortOp::Replug(Arc::new(spec))));
        }
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
}

/// Whether a port must be made anew: its type changes, or it turns from bond to single or back.
fn changes_kind(assessment: &Assessment) -> bool {
    assessment.differences.iter().any(|difference| difference.field == "type")
}
