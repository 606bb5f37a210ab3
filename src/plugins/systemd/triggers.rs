//! Units that would start others (sockets, timers, paths, automounts), and whether they are active. Pure.

use std::collections::{BTreeSet, HashMap, hash_map::Entry};

use super::entry::unit_path;

#[derive(Debug)]
struct Trigger {
    unit: String,
    /// `None` until it was read.
    active: Option<bool>,
}

/// The triggers of all mirrored units, by object path.
#[derive(Debug, Default)]
pub(super) struct Triggers(HashMap<String, Trigger>);

impl Triggers {
    /// Begins to follow one; `true` where its state must be asked for.
    pub(super) fn add(&mut self, unit: &str) -> bool {
        match self.0.entry(unit_path(unit)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(Trigger { unit: unit.to_owned(), active: None });
                true
            }
        }
    }

    /// Takes over the state of the one at that path; its name where that is news.
    pub(super) fn set(&mut self, path: &str, active: bool) -> Option<String> {
        let trigger = self.0.get_mut(path)?;
        (trigger.active.replace(active) != Some(active)).then(|| trigger.unit.clone())
    }

    /// Whether there is one at that path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// All of them.
    pub(super) fn units(&self) -> Vec<String> {
        self.0.values().map(|trigger| trigger.unit.clone()).collect()
    }

    /// Whether the states of these are known.
    pub(super) fn are_known(&self, units: &[String]) -> bool {
        units.iter().all(|unit| self.0.get(&unit_path(unit)).is_none_or(|trigger| trigger.active.is_some()))
    }

    /// The active ones of these, in order: systemd keeps them in a hash table, whose order changes with each reload.
    pub(super) fn active(&self, units: &[String]) -> Vec<String> {
        let is_active = |unit: &&String| self.0.get(&unit_path(unit)).is_some_and(|it| it.active == Some(true));
        units.iter().filter(is_active).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }
}
