//! Drift: told always, put back by policy, and given up on before it becomes a fight. Also what a job could not do
//! and can be done now.

use std::collections::{BTreeMap, BTreeSet};

use super::{Core, JobKind, Notice};
use crate::{
    model::{DriftPolicy, Kind, Name, OP_DBUS_UID, Reason, ResourceId, Status},
    plan::{Assessment, assess, awaited_packages, backends, object_away, ports_against_prune},
    reconcile::Caller,
};

use super::Effect;

/// Why a resource is to be looked at by a job of op-dbus's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It drifted.
    Drift,
    /// Its generation's job could not bring it about.
    Pending,
}

/// When, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    at: u64,
    why: Why,
}

impl Core {
    /// Decides what follows from a resource that is out of sync with nothing under way for it.
    pub(super) fn consider(&mut self, id: &ResourceId, assessment: &Assessment, status: Status) {
        let settle = self.settle_time(id, assessment);
        let explicit = self.wanted.desired.common(id).and_then(|common| common.drift);
        let policy = self.wanted.desired.drift_policy(id);
        let now = self.now.boot_usec;
        let busy = self.is_busy(id);
        let Some(track) = self.tracks.get_mut(id) else { return };
        if busy {
            return;
        }
        if assessment.settling || assessment.differences.is_empty() {
            self.due.remove(id);
            return;
        }
        if track.achieved && !assessment.is_by_rights() && track.told != assessment.differences {
            if track.told.is_empty() {
                self.state.drifts_total += 1;
            }
            track.told.clone_from(&assessment.differences);
            let differences = assessment.differences.clone();
            self.effects.push(Effect::Notice(Notice::DriftDetected { resource: id.clone(), differences }));
        }
        if status == Status::Blocked || track.gave_up {
            self.due.remove(id);
            return;
        }
        let replug = track.replugged && explicit != Some(DriftPolicy::Report);
        let due = match &track.failure {
            Some((.., true)) => {
                Some(Due { at: now + retry_wait(id, track.retries, &self.settings), why: Why::Pending })
            }
            // Refused for a standing reason: wait for an event that frees it, or a new generation.
            Some(_) if !(track.achieved && policy == DriftPolicy::Enforce) => None,
            // Stopped, it can be had now; but whoever restarts it may be about to start it again.
            _ if track.kept_back == Some(Reason::RestartNeeded) => Some(Due { at: now + settle, why: Why::Pending }),
            // What the last job could not attempt, and can be attempted now.
            _ if track.kept_back.is_some() => Some(Due { at: now, why: Why::Pending }),
            _ if track.achieved && policy == DriftPolicy::Enforce => Some(Due { at: now + settle, why: Why::Drift }),
            _ if replug => Some(Due { at: now + settle, why: Why::Drift }),
            _ => None,
        };
        match due {
            // A wait that runs already is not begun anew by each further event.
            Some(due) => {
                self.due.entry(id.clone()).or_insert(due);
            }
            None => {
                self.due.remove(id);
            }
        }
    }

    /// A unit that somebody's systemd job stopped is first let settle: it may be on its way up again. So is a port whose
    /// device was made anew: a hook may be about to plug it. (Nobody has one for systemd-machined's.)
    fn settle_time(&self, id: &ResourceId, assessment: &Assessment) -> u64 {
        if assessment.differences.iter().any(|difference| difference.field == "device") {
            return self.settings.plug_settle;
        }
        let unit = match id.kind {
            Kind::Unit => id.name.clone(),
            Kind::Container => self.container_unit(&id.name),
            Kind::Bridge | Kind::Port | Kind::Package | Kind::Object => return 0,
        };
        let guest = self.view.observed.guests.get(&id.name).filter(|_| self.inventory.is_proxmox(&id.name));
        if let Some(guest) = guest {
            let stopped = !guest.running && assessment.differences.iter().any(|d| d.field == "running");
            return if stopped { self.settings.stop_settle } else { 0 };
        }
        let stopped = self.view.observed.units.get(&unit).is_some_and(|facts| facts.active_state == "inactive");
        let activity = assessment.differences.iter().any(|d| d.field == "active_state" || d.field == "running");
        if stopped && activity { self.settings.stop_settle } else { 0 }
    }

    fn is_busy(&self, id: &ResourceId) -> bool {
        backends(&self.wanted.desired, id, &self.inventory)
            .iter()
            .any(|plugin| self.backings.get(plugin).is_none_or(|b| b.busy))
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        if !self.may_take_up() {
            return None;
        }
        let of_resources = self.due.iter().filter(|(id, _)| !self.is_busy(id) && self.is_ready(id));
        of_resources.map(|(_, due)| due.at).chain(self.prune_due()).min()
    }

    /// When what could not be pruned can be tried again.
    fn prune_due(&self) -> Option<u64> {
        let free = self.wanted.held_bridges.iter().any(|bridge| self.is_free(bridge)).then_some(0);
        free.or(self.wanted.unpruned).filter(|_| self.view.observed.is_connected("ovsdb"))
    }

    /// Nothing that others have plugged in holds that bridge any more.
    fn is_free(&self, bridge: &Name) -> bool {
        ports_against_prune(&self.wanted.desired, &self.view.observed, &self.inventory, bridge).is_empty()
    }

    /// While a job writes or waits, its end is the next occasion.
    fn may_take_up(&self) -> bool {
        self.writer.is_none() && self.queue.is_empty() && !self.start_job && !self.shutting_down
    }

    fn is_ready(&self, id: &ResourceId) -> bool {
        object_away(&self.view.observed, id).is_none()
            && backends(&self.wanted.desired, id, &self.inventory)
                .iter()
                .all(|plugin| self.view.observed.is_connected(plugin))
    }

    /// Starts jobs for all that is due now.
    pub(super) fn take_up_due(&mut self) {
        if !self.may_take_up() {
            return;
        }
        let own = || Caller { uid: OP_DBUS_UID, ..Caller::default() };
        if self.prune_due().is_some_and(|at| at <= self.now.boot_usec) {
            // Only a plan of the whole can tell what is named no more.
            self.wanted.unpruned = None;
            self.wanted.held_bridges.clear();
            self.enqueue(JobKind::Reconcile, None, own());
            return;
        }
        let now = self.now.boot_usec;
        let due: Vec<(ResourceId, Due)> = self
            .due
            .iter()
            .filter(|(id, due)| due.at <= now && !self.is_busy(id) && self.is_ready(id))
            .map(|(id, due)| (id.clone(), *due))
            .collect();
        let mut drift = BTreeSet::new();
        let mut pending = BTreeSet::new();
        for (id, due) in due {
            self.due.remove(&id);
            if !self.may_correct(&id) {
                continue;
            }
            if due.why == Why::Drift {
                drift.insert(id)
            } else {
                pending.insert(id)
            };
        }
        for (kind, scope) in [(JobKind::Reconcile, pending), (JobKind::Drift, drift)] {
            if !scope.is_empty() {
                self.enqueue(kind, Some(scope), own());
            }
        }
    }

    /// Counts a correction; `false` once there were too many: then op-dbus only reports.
    fn may_correct(&mut self, id: &ResourceId) -> bool {
        let now = self.now.boot_usec;
        let settings = self.settings;
        let enforces = self.wanted.desired.drift_policy(id) == DriftPolicy::Enforce;
        let Some(track) = self.tracks.get_mut(id) else { return false };
        while track.corrections.front().is_some_and(|at| at + settings.corrections_window <= now) {
            track.corrections.pop_front();
        }
        if matches!(track.failure, Some((.., true))) && !(track.achieved && enforces) {
            // What was asked for and met a passing fault is tried again until it has passed; the wait between grows to
            // its bound. (Drift is put back so many times, whatever their success.)
            return true;
        }
        if track.corrections.len() >= settings.corrections {
            track.gave_up = true;
            self.dirty.insert(id.clone());
            tracing::warn!(resource = %id, reason = %Reason::TooManyCorrections,
                "{id} was put back {} times in {} s: only reported until the next generation or Reconcile",
                settings.corrections, settings.corrections_window / super::SECOND);
            return false;
        }
        track.corrections.push_back(now);
        true
    }

    /// Frees what failed only for want of what holds by now. (What comes to hold later frees it then: this is for what
    /// came to hold while the job ran, or while its backend was away.)
    pub(super) fn release_held_up(&mut self) {
        let mut known = BTreeMap::new();
        let is_free = |held: &&ResourceId| {
            let assessment = || assess(&self.wanted.desired, held, &self.view.observed, &self.inventory);
            self.all_before_hold(held, &mut known)
                && (held.kind != Kind::Unit || self.awaited_package(held, &assessment()).is_none())
        };
        let freed: Vec<ResourceId> = self.held_up.iter().filter(is_free).cloned().collect();
        for held in freed {
            self.release(&held);
        }
    }

    /// Whether all holds that something comes after; `known` is what was found out on the way.
    pub(super) fn all_before_hold<'c>(&'c self, id: &ResourceId, known: &mut BTreeMap<&'c ResourceId, bool>) -> bool {
        let mut earlier = self.wanted.dependencies.get(id).into_iter().flatten();
        earlier.all(|id| *known.entry(id).or_insert_with(|| self.holds(id)))
    }

    /// A package for want of which that unit is not there, if any.
    pub(super) fn awaited_package(&self, id: &ResourceId, assessment: &Assessment) -> Option<ResourceId> {
        awaited_packages(&self.wanted.desired, id, assessment, &self.view.observed, &self.inventory).pop_first()
    }

    /// Whether others may build on that resource: it is known to be as it should be, and nothing about it failed.
    fn holds(&self, id: &ResourceId) -> bool {
        let failed = self.tracks.get(id).is_some_and(|track| track.failure.is_some());
        let declared = self.wanted.desired.common(id).is_some();
        let assessment = || assess(&self.wanted.desired, id, &self.view.observed, &self.inventory);
        !declared || (!failed && self.is_ready(id) && assessment().in_sync())
    }

    /// Something that waited in vain may try again.
    pub(super) fn release(&mut self, id: &ResourceId) {
        self.held_up.remove(id);
        if let Some(track) = self.tracks.get_mut(id) {
            track.failure = None;
            track.kept_back = Some(Reason::DependencyFailed);
            self.dirty.insert(id.clone());
        }
    }

    /// A call asks for it anew: what was given up on or failed gets a fresh chance.
    pub(super) fn forgive(&mut self, scope: Option<&BTreeSet<ResourceId>>) {
        for (id, track) in &mut self.tracks {
            if scope.is_none_or(|scope| scope.contains(id)) {
                if track.gave_up || track.failure.is_some() {
                    self.dirty.insert(id.clone());
                }
                track.gave_up = false;
                track.corrections.clear();
                track.retries = 0;
                self.due.remove(id);
            }
        }
    }
}

/// The wait before try number `tries`: doubling, with up to a quarter of jitter, which comes from the name so that
/// planning stays a function of its inputs.
pub(super) fn retry_wait(id: &ResourceId, tries: u32, settings: &super::Settings) -> u64 {
    let wait = settings.retry_first.saturating_mul(1 << tries.saturating_sub(1).min(20)).min(settings.retry_last);
    let hash = id.name.bytes().fold(u64::from(tries), |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    wait - hash % (wait / 4).max(1)
}
