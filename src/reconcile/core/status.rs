//! How each resource stands, and the whole.

use std::{collections::BTreeMap, sync::Arc};

use super::{Core, Failure};
use crate::{
    model::{BackendStatus, Kind, Reason, ResourceFacts, ResourceId, StateFacts, Status},
    plan::{Assessment, OWNER_KEY, assess, backends, object_away, waits_for},
};

impl Core {
    /// Judges every resource that may stand differently now.
    pub(super) fn judge(&mut self) {
        while let Some(id) = self.dirty.pop_first() {
            self.judge_one(&id);
        }
    }

    fn judge_one(&mut self, id: &ResourceId) {
        let declared = self.wanted.desired.common(id).is_some();
        let present = self.is_present(id);
        // Units show on the tree only where they are declared: there are hundreds on any machine.
        if !declared && (!present || matches!(id.kind, Kind::Unit | Kind::Package | Kind::Object)) {
            let old = self.view.resources.remove(id);
            self.count(old.as_deref(), false);
            return;
        }
        let old = self.view.resources.get(id).cloned();
        let mut new = if declared { self.judge_declared(id, old.as_deref()) } else { unmanaged() };
        new.present = present;
        new.owned = self.is_owned(id);
        new.last_transition_usec = match &old {
            Some(old) if old.status == new.status => old.last_transition_usec,
            _ => self.now.real_usec,
        };
        if old.as_deref() != Some(&new) {
            self.count(old.as_deref(), false);
            self.count(Some(&new), true);
            self.view.resources.insert(id.clone(), Arc::new(new));
        }
    }

    fn judge_declared(&mut self, id: &ResourceId, old: Option<&ResourceFacts>) -> ResourceFacts {
        let policy = self.wanted.desired.drift_policy(id);
        let under_way = self.under_way(id);
        let away = self.away(id);
        let assessment = match away {
            None => assess(&self.wanted.desired, id, &self.view.observed, &self.inventory),
            Some(_) => Assessment {
                // The last known differences stay: nothing is known to have changed.
                differences: old.map(|old| old.differences.clone()).unwrap_or_default(),
                ..Assessment::default()
            },
        };
        let in_sync = away.is_none() && holds_by(&assessment, old);
        // What a job has nothing to do for stands as it stands.
        let holds = in_sync || (away.is_none() && assessment.is_by_rights());
        let (status, reason, message) = if self.tracks.get(id).is_some_and(|track| track.paused) {
            (
                Status::Paused,
                Reason::Overridden,
                "started or stopped against the document; left alone until the next generation".to_owned(),
            )
        } else if let Some(status) = under_way.filter(|_| !holds || self.is_writing(id)) {
            let (reason, message) = self.held_by(id).unwrap_or((Reason::None, String::new()));
            (status, reason, message)
        } else if let Some((reason, message)) = away {
            (Status::Unknown, reason, message)
        } else if in_sync {
            self.achieved(id);
            (Status::InSync, Reason::None, String::new())
        } else {
            let waited = id.kind == Kind::Unit && self.held_up.contains(id);
            let comes = || self.awaited_package(id, &assessment).is_none();
            if waited && comes() && self.all_before_hold(id, &mut BTreeMap::new()) {
                // The package has come that it waited for, and nothing else tells.
                self.release(id);
            }
            self.out_of_sync(id, &assessment, old)
        };
        ResourceFacts {
            managed: true,
            present: false,
            in_sync,
            owned: false,
            status,
            reason,
            message,
            differences: assessment.differences,
            drift_policy: policy,
            observed_generation: self.tracks.get(id).map_or(0, |track| track.observed_generation),
            last_transition_usec: 0,
        }
    }

    /// Why a resource's backend cannot be believed, if so.
    fn away(&self, id: &ResourceId) -> Option<(Reason, String)> {
        self.backend_away(id).or_else(|| self.node_away(id)).or_else(|| object_away(&self.view.observed, id))
    }

    /// Why the node of a container cannot be believed, if so: its own containers are unknown, and no others.
    pub(super) fn node_away(&self, id: &ResourceId) -> Option<(Reason, String)> {
        let container = match id.kind {
            Kind::Unit => self.inventory.proxmox_unit(&id.name)?,
            Kind::Port => self.inventory.proxmox_port(&id.name)?.0,
            Kind::Container if self.inventory.is_proxmox(&id.name) => id.name.clone(),
            _ => return None,
        };
        let guest = self.view.observed.guests.get(&container).filter(|guest| !guest.away.is_empty())?;
        Some((Reason::NodeAway, format!("{}; the values are the last known", guest.away)))
    }

    fn backend_away(&self, id: &ResourceId) -> Option<(Reason, String)> {
        backends(&self.wanted.desired, id, &self.inventory).iter().find_map(|plugin| {
            let backing = self.backings.get(plugin);
            if backing.is_some_and(|backing| !backing.unknown) {
                return None;
            }
            let backend = self.view.observed.backends.get(*plugin);
            let disabled =
                backing.is_none() || backend.is_some_and(|backend| backend.status == BackendStatus::Disabled);
            if disabled {
                return Some((Reason::Disabled, format!("{plugin} is switched off by the configuration")));
            }
            let message = backend.map_or("", |backend| &backend.message);
            let colon = if message.is_empty() { "" } else { ": " };
            Some((Reason::BackendAway, format!("{plugin} is away; the values are the last known{colon}{message}")))
        })
    }

    /// A resource that nothing is under way for and that is not as it should be.
    fn out_of_sync(
        &mut self,
        id: &ResourceId,
        assessment: &Assessment,
        old: Option<&ResourceFacts>,
    ) -> (Status, Reason, String) {
        let track = self.tracks.entry(id.clone()).or_default();
        let said = || texts(&assessment.differences);
        let stands = if assessment.applying && assessment.differences.is_empty() {
            let on_its_way = (Status::Pending, Reason::None, "written, and not applied yet".to_owned());
            track.failure.clone().map_or(on_its_way, |(status, reason, message, _)| (status, reason, message))
        } else if assessment.differences.is_empty() {
            let (reason, message) = assessment.health.clone().unwrap_or((Reason::Differs, String::new()));
            (Status::Failed, reason, message)
        } else if let Some((reason, message)) = &assessment.blocked {
            // What is written and waits for a restart stands in nobody's way.
            let waits = *reason == Reason::RestartNeeded;
            (if waits { Status::Pending } else { Status::Blocked }, *reason, message.clone())
        } else if track.gave_up {
            given_up(track.failure.as_ref())
        } else if let Some((status, reason, message, _)) = track.failure.clone() {
            (status, reason, message)
        } else if assessment.settling {
            // On its way: until it is there, it stands as it stood.
            match old {
                Some(old) if matches!(old.status, Status::Drifted | Status::Failed) => {
                    (old.status, old.reason, old.message.clone())
                }
                _ => (Status::Pending, Reason::None, "it is on its way".to_owned()),
            }
        } else {
            (Status::Drifted, reason_of(assessment), said())
        };
        let waits = assessment.blocked.as_ref().is_some_and(|(reason, _)| *reason == Reason::RestartNeeded);
        self.consider(id, assessment, if waits { Status::Blocked } else { stands.0 });
        stands
    }

    fn achieved(&mut self, id: &ResourceId) {
        let track = self.tracks.entry(id.clone()).or_default();
        if !track.achieved || track.failure.is_some() || track.kept_back.is_some() {
            // What failed for want of it has another chance.
            let waits = |held: &&ResourceId| waits_for(&self.wanted.dependencies, held, id);
            let freed: Vec<ResourceId> = self.held_up.iter().filter(waits).cloned().collect();
            for held in freed {
                self.release(&held);
            }
            if id.kind == Kind::Package {
                // A unit may have waited for it that does not name it.
                self.dirty.extend(self.held_up.iter().filter(|held| held.kind == Kind::Unit).cloned());
            }
        }
        let track = self.tracks.entry(id.clone()).or_default();
        track.achieved = true;
        track.failure = None;
        track.kept_back = None;
        track.retries = 0;
        track.told.clear();
        track.replugged = false;
        self.due.remove(id);
    }

    fn is_owned(&self, id: &ResourceId) -> bool {
        let observed = &self.view.observed;
        let ids = match id.kind {
            Kind::Bridge => observed.bridges.get(&id.name).map(|bridge| &bridge.external_ids),
            Kind::Port => observed.ports.get(&id.name).map(|port| &port.external_ids),
            Kind::Container | Kind::Unit | Kind::Package | Kind::Object => None,
        };
        ids.is_some_and(|ids| ids.get(OWNER_KEY) == Some(&self.inventory.machine_id))
    }

    fn count(&mut self, facts: Option<&ResourceFacts>, add: bool) {
        let Some(facts) = facts.filter(|facts| facts.managed) else { return };
        let state = &mut self.state;
        let step = |count: &mut u32| *count = if add { count.saturating_add(1) } else { count.saturating_sub(1) };
        step(&mut state.managed);
        match facts.status {
            Status::Drifted => step(&mut state.drifted),
            Status::Failed => step(&mut state.failed),
            Status::Blocked => step(&mut state.blocked),
            Status::Unknown => step(&mut state.unknown),
            Status::Pending | Status::Applying | Status::Verifying => step(&mut state.pending),
            Status::InSync | Status::Unmanaged | Status::Paused => {}
        }
        if !facts.in_sync {
            step(&mut self.out_of_sync);
        }
    }

    /// The whole, and the plugins' counts, into the snapshot.
    pub(super) fn sum_up(&mut self) {
        self.state.in_sync = self.out_of_sync == 0;
        self.state.current_job =
            self.writer.or_else(|| self.runs.keys().next().copied().filter(|_| self.queue.is_empty()));
        if *self.view.state != self.state {
            self.view.state = Arc::new(StateFacts::clone(&self.state));
        }
        let observed = &self.view.observed;
        let sizes = [
            ("systemd", observed.units.len()),
            ("ovsdb", observed.bridges.len() + observed.ports.len()),
            ("lxc", observed.containers.len()),
            ("packagekit", observed.packages.len()),
            ("dbus", observed.objects.len()),
        ];
        for (plugin, size) in sizes {
            let size = u32::try_from(size).unwrap_or(u32::MAX);
            if let Some(facts) = self.view.plugins.get(plugin).filter(|facts| facts.resources != size) {
                let facts = crate::model::PluginFacts { resources: size, ..(**facts).clone() };
                self.view.plugins.insert(plugin, Arc::new(facts));
            }
        }
    }
}

/// Whether a resource is as the document says, and its backend works by it. What its backend is still about to take over
/// has to be awaited by what did not hold before; of what did, it is another's change, or one that the document does not
/// name, and a signal that it holds no more would be followed by one that it does.
pub(super) fn holds_by(assessment: &Assessment, stood: Option<&ResourceFacts>) -> bool {
    let stood = stood.is_some_and(|stood| stood.managed && stood.in_sync);
    assessment.in_sync() && (stood || !assessment.applying)
}

/// What is only reported until the next generation or Reconcile; where putting it back failed, that is said too.
fn given_up(failure: Option<&Failure>) -> (Status, Reason, String) {
    let text = "put back too often in too short a time; only reported until the next generation or Reconcile";
    match failure {
        None => (Status::Drifted, Reason::TooManyCorrections, text.to_owned()),
        Some((status, reason, message, _)) => {
            (*status, Reason::TooManyCorrections, format!("{text}; the last time: {reason}: {message}"))
        }
    }
}

fn unmanaged() -> ResourceFacts {
    ResourceFacts {
        managed: false,
        present: true,
        in_sync: true,
        owned: false,
        status: Status::Unmanaged,
        reason: Reason::None,
        message: String::new(),
        differences: Vec::new(),
        drift_policy: crate::model::DriftPolicy::Report,
        observed_generation: 0,
        last_transition_usec: 0,
    }
}

/// `Missing` and `NotAbsent` are `Differs` in the one field that says whether a thing exists.
fn reason_of(assessment: &Assessment) -> Reason {
    match assessment.differences.iter().find(|difference| difference.field == "ensure") {
        Some(_) if assessment.present => Reason::NotAbsent,
        Some(_) => Reason::Missing,
        None => Reason::Differs,
    }
}

fn texts(differences: &[crate::model::Difference]) -> String {
    let texts: Vec<String> = differences
        .iter()
        .map(|difference| format!("{} is {}, not {}", difference.field, difference.observed, difference.desired))
        .collect();
    texts.join("; ")
}
