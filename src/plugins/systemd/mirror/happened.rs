//! What the mirror does with signals of units.

use super::{Mirror, is_active, is_container};
use crate::{
    model::Name,
    plugins::systemd::{
        entry::{What, unit_path},
        parts::{KindPart, Properties, UNIT, UnitPart, is_trigger},
    },
};

impl Mirror {
    pub(super) fn changed(&mut self, path: &str, interface: &str, properties: &Properties, invalidated: &[String]) {
        let state = properties.get("ActiveState").filter(|_| interface == UNIT);
        let state = state.and_then(|state| <&str>::try_from(state).ok());
        if let Some(state) = state {
            self.trigger_is(path, is_active(state));
        }
        let names = self.paths.get(path).cloned().unwrap_or_default();
        for name in &names {
            let Some(entry) = self.entries.get_mut(name) else { continue };
            let wanted = entry.wanted();
            let (what, cares_for): (What, fn(&str) -> bool) = if interface == UNIT {
                let Some(unit) = &mut entry.unit else { continue };
                unit.take(properties, &wanted);
                (What::Unit, UnitPart::cares_for)
            } else {
                entry.kind.take(interface, properties, &wanted);
                (What::Kind, KindPart::cares_for)
            };
            self.dirty.insert(name.clone());
            if matches!(state, Some("inactive" | "failed")) {
                // On the way to an automatic restart systemd tells of the end and of the restart in one breath: what
                // it answers now comes after both, and the end by itself is not told.
                self.ask(name, What::Loaded);
            }
            if invalidated.iter().any(|property| cares_for(property) || wanted.contains(property)) {
                self.ask(name, what);
            }
            self.ask_job_kind(name);
        }
    }

    /// A unit was loaded, by whomever. The signal stands in for all that happened to the unit by then, so it must be
    /// read; but reading would load it where it has been let go already, and that would be signalled again, and so
    /// on without end: hence `GetUnit` first.
    pub(super) fn unit_new(&mut self, id: &str) {
        let path = unit_path(id);
        if self.triggers.has(&path) {
            self.ask_trigger(id.to_owned());
        }
        let mut names = self.paths.get(&path).cloned().unwrap_or_default();
        if names.is_empty() && is_container(&self.patterns, id) {
            let name = Name::from(id);
            self.entry(&name);
            names.insert(name);
        }
        for name in &names {
            if let Some(entry) = self.entries.get_mut(name) {
                entry.read_if_loaded = true;
                self.ask(name, What::Loaded);
            }
        }
        if is_trigger(id) {
            self.reread_triggered_by(id);
        }
    }

    /// A trigger came: what it starts does not say so by itself (TriggeredBy has no signal), so it is asked. Found by
    /// its name, which is what triggers start unless they say otherwise.
    fn reread_triggered_by(&mut self, trigger: &str) {
        let Some((stem, _)) = trigger.rsplit_once('.') else { return };
        let path = unit_path(&format!("{stem}.service"));
        for name in self.paths.get(&path).cloned().unwrap_or_default() {
            if self.entries.get(&name).is_some_and(|entry| entry.loaded) {
                self.ask(&name, What::Unit);
            }
        }
    }

    pub(super) fn unit_removed(&mut self, id: &str) {
        let path = unit_path(id);
        self.trigger_is(&path, false);
        for name in self.paths.get(&path).cloned().unwrap_or_default() {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            // One that is not loaded is let go of after each reading of it: nothing changed.
            if entry.loaded {
                entry.unload();
                self.dirty.insert(name.clone());
                self.drop_unwanted(&name);
            }
        }
    }
}
