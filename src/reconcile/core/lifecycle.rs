//! Start, Stop and Restart of a container.

use std::sync::Arc;

use super::{Core, Now, run::Run};
use crate::{
    desired::ActiveState,
    model::{JobId, JobKind, Name, ResourceId, Subject},
    plan::{Action, ContainerOp, Plan, Step, UnitOp, is_protected},
    reconcile::{Caller, CoreError, LifecycleVerb},
};

impl Core {
    /// `Container.Start`, `Stop` and `Restart`.
    ///
    /// # Errors
    /// `NotFound` for no such container or no unit that runs it; `Unavailable` while systemd is away; `Conflict`
    /// where the document says otherwise (unless `against_document`), or the unit is on the never-touch list.
    pub fn lifecycle(
        &mut self,
        container: &ResourceId,
        verb: LifecycleVerb,
        against_document: bool,
        caller: Caller,
        now: Now,
    ) -> Result<JobId, CoreError> {
        self.now = now;
        if self.inventory.is_proxmox(&container.name) {
            return self.guest_lifecycle(container, verb, against_document, caller);
        }
        let unit = self.container_unit(&container.name);
        if !self.view.observed.is_connected("systemd") {
            return Err(CoreError::Unavailable(format!(
                "systemd, which runs {container}, is away: try again when it is back"
            )));
        }
        let exists = self
            .view
            .observed
            .units
            .get(&unit)
            .is_some_and(|facts| !matches!(facts.load_state.as_str(), "" | "not-found"));
        if !exists {
            return Err(CoreError::NotFound(format!("no unit runs {container} (looked for {unit})")));
        }
        self.check_protected(container, &unit, &caller)?;
        self.override_document(container, &unit, verb, against_document)?;
        let (kind, op) = match verb {
            LifecycleVerb::Start => (JobKind::Start, UnitOp::Start),
            LifecycleVerb::Stop => (JobKind::Stop, UnitOp::Stop),
            LifecycleVerb::Restart => (JobKind::Restart, UnitOp::Restart),
        };
        Ok(self.order(container, kind, Action::Unit(unit, op), caller))
    }

    /// ... of a container that Proxmox VE has in hand.
    fn guest_lifecycle(
        &mut self,
        container: &ResourceId,
        verb: LifecycleVerb,
        against_document: bool,
        caller: Caller,
    ) -> Result<JobId, CoreError> {
        let away = |why: &str| {
            CoreError::Unavailable(format!("{why}, which has {container} in hand, is away: try again when it is back"))
        };
        if !self.view.observed.is_connected("lxc") {
            return Err(away("Proxmox VE"));
        }
        let guest = self.view.observed.guests.get(&container.name).filter(|guest| !guest.is_machine);
        let Some(guest) = guest else {
            return Err(CoreError::NotFound(format!("Proxmox VE has no {container}")));
        };
        if !guest.away.is_empty() {
            return Err(away(&format!("node {}", guest.node)));
        }
        let unit = self.container_unit(&container.name);
        self.check_protected(container, &unit, &caller)?;
        self.override_document(container, &unit, verb, against_document)?;
        let (kind, op) = match verb {
            LifecycleVerb::Start => (JobKind::Start, ContainerOp::Start),
            LifecycleVerb::Stop => (JobKind::Stop, ContainerOp::Stop),
            LifecycleVerb::Restart => (JobKind::Restart, ContainerOp::Restart),
        };
        Ok(self.order(container, kind, Action::Container(container.name.clone(), op), caller))
    }

    /// Checks the verb against the document, and leaves the container alone from now on where it goes against that.
    fn override_document(
        &mut self,
        container: &ResourceId,
        unit: &Name,
        verb: LifecycleVerb,
        against_document: bool,
    ) -> Result<(), CoreError> {
        let contradicts = match self.wanted_running(container, unit) {
            Some(true) => verb == LifecycleVerb::Stop,
            Some(false) => verb != LifecycleVerb::Stop,
            None => false,
        };
        if contradicts && !against_document {
            return Err(CoreError::Conflict(format!(
                "the document says otherwise of {container}: change it, or give the option \"override\""
            )));
        }
        if contradicts {
            for id in [container.clone(), ResourceId::unit(unit.clone())] {
                if let Some(track) = self.tracks.get_mut(&id) {
                    track.paused = true;
                    self.due.remove(&id);
                    self.dirty.insert(id);
                }
            }
        }
        Ok(())
    }

    /// Puts a job of that one action in the queue.
    fn order(&mut self, container: &ResourceId, kind: JobKind, action: Action, caller: Caller) -> JobId {
        let job = self.new_job(kind, Subject::Resource(container.clone()), &caller);
        let step = Step {
            id: 1,
            subject: Subject::Resource(container.clone()),
            action,
            changes: Vec::new(),
            after: Vec::new(),
            blocked: None,
            warnings: Vec::new(),
        };
        let mut run = Run::new(kind, Some([container.clone()].into()), caller);
        run.held = Some(Arc::new(Plan { steps: vec![Arc::new(step)] }));
        self.put_in_queue(job, run);
        job
    }

    fn check_protected(&self, container: &ResourceId, unit: &str, caller: &Caller) -> Result<(), CoreError> {
        let allowed = self.wanted.desired.containers.get(&container.name).is_some_and(|spec| spec.allow_protected)
            || self.wanted.desired.units.get(unit).is_some_and(|spec| spec.allow_protected);
        let own = caller.unit.as_deref() == Some(unit) || self.inventory.protected_units.iter().any(|own| own == unit);
        if !allowed && (own || is_protected(unit)) {
            return Err(CoreError::Conflict(format!(
                "{unit} is never touched: the machine, op-dbus or the caller stands on it; its entry can say \"allow_protected\": true"
            )));
        }
        Ok(())
    }

    /// What the document says of a container's running, in either of its two places.
    fn wanted_running(&self, container: &ResourceId, unit: &str) -> Option<bool> {
        let said = self.wanted.desired.containers.get(&container.name).and_then(|spec| spec.running);
        let unit = self.wanted.desired.units.get(unit);
        let by_unit = unit.and_then(|spec| match (spec.active_state, spec.masked) {
            (Some(state), _) => Some(state == ActiveState::Active),
            (None, Some(true)) => Some(false),
            (None, _) => None,
        });
        said.or(by_unit)
    }
}
