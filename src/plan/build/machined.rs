//! Steps of a container that systemd-machined makes and systemd runs: systemd-machined's own, its unit's, its ports'.

use std::{collections::BTreeSet, sync::Arc};

use super::{Assessment, Builder, Subject, replug::as_it_was};
use crate::{
    desired::{ContainerSpec, Ensure},
    model::{Difference, Name, Reason, ResourceId},
    plan::{
        Action, ContainerOp, OWNER_KEY, PortOp, StepId, TemplateOp, UnitOp,
        assess::machined::{
            away_why, has_image, is_installed, machine_ports, machine_properties, machine_unit, template_refusal,
        },
        compare::is_enabled,
    },
};

/// One step after another of one container.
struct Chain<'a, 'b, 'c> {
    builder: &'a mut Builder<'b>,
    id: &'c ResourceId,
    assessment: &'c Assessment,
    after: BTreeSet<StepId>,
    steps: BTreeSet<StepId>,
}

impl Chain<'_, '_, '_> {
    fn add(&mut self, action: Action, changes: Vec<Difference>) -> StepId {
        // What there is to say stands with the first.
        let warnings = if self.steps.is_empty() { self.assessment.warnings.clone() } else { Vec::new() };
        let step = self.builder.push(self.id.clone(), action, changes, self.after.clone(), None, warnings);
        self.steps.insert(step);
        self.after = BTreeSet::from([step]);
        step
    }

    fn differs(&self, fields: &[&str]) -> bool {
        !self.assessment.changes(fields).is_empty()
    }

    fn container(&mut self, op: ContainerOp, fields: &[&str]) {
        let changes = self.assessment.changes(fields);
        self.add(Action::Container(self.id.name.clone(), op), changes);
    }

    fn unit(&mut self, op: UnitOp, fields: &[&str]) -> StepId {
        let changes = self.assessment.changes(fields);
        self.add(Action::Unit(machine_unit(&self.id.name), op), changes)
    }

    fn enable(&mut self, enable: bool, fields: &[&str]) {
        let step = self.unit(UnitOp::Files { unmask: false, enable: Some(enable), mask: false }, fields);
        self.builder.late_files.insert(step);
    }
}

/// The fields that its settings file holds.
const SETTINGS: [&str; 4] = ["hostname", "networks", "mounts.", "settings"];

impl Builder<'_> {
    /// The steps of one container.
    pub(super) fn machined(
        &mut self,
        id: &ResourceId,
        spec: &ContainerSpec,
        assessment: &Assessment,
        after: BTreeSet<StepId>,
    ) -> BTreeSet<StepId> {
        let unit = machine_unit(&id.name);
        let facts = self.observed.units.get(&unit);
        let enabled = facts.is_some_and(|facts| is_enabled(facts));
        let by_unit = self.doc.units.get(&unit).is_some_and(|spec| spec.active_state.is_some());
        let spec_in_step = Arc::new(spec.clone());
        let fetch = self.missing_template(spec).filter(|_| !assessment.present);
        let ports = machine_ports(&id.name, spec, self.doc);
        if spec.ensure == Ensure::Absent {
            return self.destroy(id, assessment, after, enabled);
        }
        let existing: Vec<_> = ports.keys().map(|port| self.observed.ports.get(port).cloned()).collect();
        let mut chain = Chain { builder: self, id, assessment, after, steps: BTreeSet::new() };
        if let Some((name, fetch)) = fetch {
            chain.add(Action::Template(name, fetch), assessment.changes(&["from.template"]));
        }
        if !assessment.present {
            let fields = ["ensure", "from.", "hostname", "networks", "mounts."];
            chain.container(ContainerOp::Create(spec_in_step), &fields);
        } else if chain.differs(&SETTINGS) {
            chain.container(ContainerOp::Set(spec_in_step), &SETTINGS);
        }
        if chain.differs(&["template"]) {
            chain.container(ContainerOp::MakeTemplate, &["template"]);
        }
        let limits = ["cores", "cpulimit", "memory_mib", "swap_mib"];
        if chain.differs(&limits) {
            chain.unit(UnitOp::SetProperties(machine_properties(spec)), &limits);
        }
        if let Some(onboot) = spec.onboot.filter(|_| chain.differs(&["onboot"])) {
            chain.enable(onboot, &["onboot"]);
        }
        let starts = chain.differs(&["running"]) && !by_unit;
        let restarts =
            spec.restart && (chain.differs(&["restart"]) || (chain.differs(&SETTINGS) && runs(spec, id, &chain)));
        // systemd-nspawn makes the device anew, and the userspace datapath stays with the one that is gone: the port is
        // taken away and plugged again, in two transactions.
        let replugs = (starts && spec.running == Some(true)) || restarts;
        for (name, _) in ports.keys().zip(&existing).filter(|(_, facts)| replugs && facts.is_some()) {
            chain.add(Action::Port(name.clone(), PortOp::Delete), Vec::new());
        }
        if starts {
            let op = if spec.running == Some(true) { UnitOp::Start } else { UnitOp::Stop };
            chain.unit(op, &["running"]);
        } else if restarts {
            chain.unit(UnitOp::Restart, &["restart"]);
        }
        for ((name, port), facts) in ports.into_iter().zip(existing) {
            let (fields, device) = (format!("networks.{name}."), format!("networks.{name}.device"));
            let again = replugs && facts.is_some();
            if !again && !chain.differs(&[&fields]) {
                continue;
            }
            let op = match facts {
                None => PortOp::Plug(Arc::new(port)),
                Some(facts) if replugs => PortOp::Plug(Arc::new(as_it_was(&name, &port, &facts))),
                Some(facts) if chain.differs(&[&device]) => PortOp::Replug(Arc::new(as_it_was(&name, &port, &facts))),
                Some(facts) if facts.bridge != port.bridge => PortOp::Move(Arc::new(port)),
                Some(_) => PortOp::Set(Arc::new(port)),
            };
            chain.add(Action::Port(name, op), assessment.changes(&[&fields]));
        }
        chain.steps
    }

    /// Stops it, takes it from what starts at boot, removes it, and its ports with it that op-dbus made.
    fn destroy(
        &mut self,
        id: &ResourceId,
        assessment: &Assessment,
        after: BTreeSet<StepId>,
        enabled: bool,
    ) -> BTreeSet<StepId> {
        let found = self.observed.containers.get(&id.name).cloned();
        let ours = |port: &&Name| {
            let facts = self.observed.ports.get(*port);
            facts.is_some_and(|facts| facts.external_ids.get(OWNER_KEY) == Some(&self.inventory.machine_id))
        };
        let undeclared = |port: &&Name| !self.doc.ports.contains_key(*port);
        let ports: Vec<Name> =
            found.iter().flat_map(|found| found.ports.iter().filter(ours).filter(undeclared)).cloned().collect();
        let mut chain = Chain { builder: self, id, assessment, after, steps: BTreeSet::new() };
        // A unit that failed has nothing to stop, but one that is on its way up has.
        if found.is_some_and(|found| !matches!(found.active_state.as_str(), "" | "inactive" | "failed")) {
            chain.unit(UnitOp::Stop, &["running"]);
        }
        if enabled {
            chain.enable(false, &["onboot"]);
        }
        chain.container(ContainerOp::Destroy { purge: false }, &["ensure"]);
        for port in ports {
            chain.add(Action::Port(port, PortOp::Delete), Vec::new());
        }
        chain.steps
    }

    /// The template that a container is made from, if it is declared and not there. Each container that waits for it has
    /// a step of its own for it, so that each can be tried again by itself; they all follow one transfer.
    fn missing_template(&self, spec: &ContainerSpec) -> Option<(Name, TemplateOp)> {
        let template = spec.from.as_ref()?.template.as_deref()?;
        let (name, declared) = self.doc.templates.get_key_value(template)?;
        (!has_image(self.observed, template)).then(|| (name.clone(), TemplateOp::Fetch(Arc::new(declared.clone()))))
    }

    /// Templates that no container waits for.
    pub(super) fn machine_templates(&mut self) {
        let fetched = |name: &Name| {
            self.steps.iter().any(|step| matches!(&step.action, Action::Template(fetched, _) if fetched == name))
        };
        let missing: Vec<_> = self
            .doc
            .templates
            .iter()
            .filter(|(name, _)| !has_image(self.observed, name) && !fetched(name))
            .map(|(name, spec)| (name.clone(), spec.clone()))
            .collect();
        for (name, spec) in missing {
            let blocked = if !self.observed.is_connected("lxc") {
                Some(super::away_why(self.observed, "lxc"))
            } else if !is_installed(self.observed) {
                Some(away_why(self.observed))
            } else {
                template_refusal(&spec).map(|(field, instead)| {
                    (Reason::NotSupported, format!("systemd-importd has no {field} of template {name} ({instead})"))
                })
            };
            let action = match blocked {
                Some(_) => Action::Nothing,
                None => Action::Template(name, TemplateOp::Fetch(Arc::new(spec))),
            };
            self.push(Subject::Plugin("lxc"), action, Vec::new(), BTreeSet::new(), blocked, Vec::new());
        }
    }

    /// One daemon-reload for the unit files of containers: they are written once the containers are there.
    pub(super) fn reload_late(&mut self) {
        let after = std::mem::take(&mut self.late_files);
        if !after.is_empty() {
            self.push(Subject::Plugin("systemd"), Action::ReloadSystemd, Vec::new(), after, None, Vec::new());
        }
    }
}

/// Whether it runs now and shall go on.
fn runs(spec: &ContainerSpec, id: &ResourceId, chain: &Chain<'_, '_, '_>) -> bool {
    spec.running != Some(false)
        && chain.assessment.present
        && chain.builder.observed.containers.get(&id.name).is_some_and(|facts| facts.running)
}
