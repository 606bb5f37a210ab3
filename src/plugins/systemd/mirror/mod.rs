//! The mirror of systemd's units: signals and answers go in, questions and changes come out. Pure: it does no IO, so
//! that whatever systemd may do can be played to it in a test.
//!
//! Signals and answers must be given in the order in which the bus delivered them.

mod happened;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    entry::{Entry, Seen, What, unit_path},
    exchange::{Answer, Asker, Batch, Question, Signal},
    parts::{KindPart, UNIT, UnitPart, kind_interface},
    pattern::{is_template, matches, template_of},
    triggers::Triggers,
    unitfiles::{Links, Touched},
};
use crate::{
    model::{Change, Name, UnitFacts},
    plugins::Interest,
};

/// Where the mirror stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// systemd is not there.
    Away,
    /// Everything is read for the first time on this connection.
    Reading,
    /// It follows the signals.
    Following,
    /// systemd reloads: hundreds of units are unloaded and loaded, which is nobody's change.
    Reloading,
    /// Everything is read again after the reload.
    Rereading,
}

/// The mirror.
#[derive(Debug)]
pub(super) struct Mirror {
    patterns: Vec<String>,
    entries: BTreeMap<Name, Entry>,
    /// Object path to the names it is mirrored under: a unit and its aliases.
    paths: HashMap<String, BTreeSet<Name>>,
    triggers: Triggers,
    links: Links,
    phase: Phase,
    questions: Vec<Question>,
    /// Questions that belong to no entry.
    open: u32,
    dirty: BTreeSet<Name>,
    /// Those of which something may have changed, for those who follow single units.
    ready: BTreeSet<Name>,
    /// What the model was told, and holds true.
    told: BTreeMap<Name, UnitFacts>,
    last_number: u64,
}

impl Mirror {
    /// A mirror that also mirrors units that match these patterns.
    pub(super) fn new(patterns: Vec<String>) -> Self {
        Self {
            patterns,
            entries: BTreeMap::new(),
            paths: HashMap::new(),
            triggers: Triggers::default(),
            links: Links::default(),
            phase: Phase::Away,
            questions: Vec::new(),
            open: 0,
            dirty: BTreeSet::new(),
            ready: BTreeSet::new(),
            told: BTreeMap::new(),
            last_number: 0,
        }
    }

    /// Questions to be sent now, in this order.
    pub(super) fn questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions)
    }

    /// systemd is there: everything is read.
    pub(super) fn connected(&mut self) {
        self.phase = Phase::Reading;
        self.read_everything();
    }

    /// systemd went: what is known stays as the last that was known.
    pub(super) fn away(&mut self) {
        self.phase = Phase::Away;
        self.questions.clear();
        self.open = 0;
        self.entries.values_mut().for_each(Entry::forget_readings);
    }

    /// Whether systemd is not there.
    pub(super) const fn is_away(&self) -> bool {
        matches!(self.phase, Phase::Away)
    }

    /// The own name of the unit that is mirrored under that name.
    pub(super) fn id<'a>(&'a self, name: &'a str) -> &'a str {
        self.entries.get(name).map_or(name, |entry| entry.id(name))
    }

    /// Whether systemd is reloading.
    pub(super) const fn is_reloading(&self) -> bool {
        matches!(self.phase, Phase::Reloading | Phase::Rereading)
    }

    /// Replaces the declared units, and names those of which something must be read first.
    pub(super) fn watch(&mut self, interest: &Interest) -> Vec<Name> {
        let before: Vec<Name> =
            self.entries.iter().filter(|(_, entry)| entry.declared.is_some()).map(|(name, _)| name.clone()).collect();
        for name in before.into_iter().filter(|name| !interest.units.contains_key(name)) {
            if let Some(entry) = self.entries.get_mut(&name) {
                entry.declared = None;
            }
            self.dirty.insert(name.clone());
            self.drop_unwanted(&name);
        }
        for (name, properties) in &interest.units {
            let entry = self.entry(name);
            let known = entry.wanted();
            entry.declared = Some(properties.clone());
            let is_new = entry.unit.is_none();
            let grown = properties.iter().any(|property| !known.contains(property));
            self.dirty.insert(name.clone());
            self.read_as_needed(name, is_new, grown);
        }
        interest.units.keys().cloned().collect()
    }

    /// Mirrors one more unit until [`Mirror::unpin`], and reads it anew. The model is told nothing of it.
    pub(super) fn pin(&mut self, name: &Name, properties: &[String]) {
        let entry = self.entry(name);
        entry.pins += 1;
        entry.pinned_properties.extend(properties.iter().cloned());
        self.read(name);
    }

    /// Takes back one [`Mirror::pin`].
    pub(super) fn unpin(&mut self, name: &Name) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.pins = entry.pins.saturating_sub(1);
        if entry.pins == 0 {
            entry.pinned_properties.clear();
            self.drop_unwanted(name);
        }
    }

    /// Reads all of a unit anew.
    pub(super) fn read(&mut self, name: &Name) {
        if self.phase != Phase::Away && self.entries.contains_key(name) {
            self.dirty.insert(name.clone());
            for what in What::ALL {
                self.ask(name, what);
            }
        }
    }

    /// The unit as a step sees it; `None` while something of it is being read.
    pub(super) fn seen(&self, name: &Name) -> Option<Seen> {
        self.settled(name).map(|entry| entry.seen(name, &self.triggers))
    }

    /// The facts with these properties; `None` while something of it is being read.
    pub(super) fn facts(&self, name: &Name, properties: &[String]) -> Option<Change> {
        self.settled(name).map(|entry| Change::Unit(name.clone(), entry.facts_with(name, properties, &self.triggers)))
    }

    /// The units that were worked in since the last call.
    pub(super) fn take_ready(&mut self) -> BTreeSet<Name> {
        std::mem::take(&mut self.ready)
    }

    /// Whether changes of the object at that path matter here.
    pub(super) fn cares_for(&self, path: &str) -> bool {
        self.paths.contains_key(path) || self.triggers.has(path)
    }

    /// Whether all of these units were read.
    pub(super) fn are_settled(&self, names: &[Name]) -> bool {
        self.phase == Phase::Following
            && names.iter().all(|name| self.entries.get(name).is_none_or(|entry| self.is_settled(entry)))
    }

    /// Whether signals are followed and nothing is awaited.
    pub(super) fn is_quiet(&self) -> bool {
        self.phase == Phase::Following && self.nothing_is_open()
    }

    fn settled(&self, name: &Name) -> Option<&Entry> {
        let entry = self.entries.get(name)?;
        (self.phase == Phase::Following && self.is_settled(entry)).then_some(entry)
    }

    /// Nothing more is awaited of it, nor of what would start it.
    fn is_settled(&self, entry: &Entry) -> bool {
        entry.is_settled() && entry.unit.iter().all(|unit| self.triggers.are_known(&unit.triggered_by))
    }

    /// Unit files were touched by somebody: their state is read again, and what systemd says of them.
    pub(super) fn files_touched(&mut self, links: Links, touched: &Touched) {
        self.links = links;
        let names: Vec<Name> = self.entries.keys().cloned().collect();
        for name in names {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            let id = entry.id(&name).to_owned();
            let is_touched = touched.holds(&name) || touched.holds(&id);
            if self.update_links(&name) {
                self.dirty.insert(name.clone());
            }
            if is_touched || template_of(&id).is_some_and(|template| touched.holds(&template)) {
                self.read(&name);
            } else {
                self.drop_unwanted(&name);
            }
        }
        self.find_linked_containers();
    }

    /// What systemd told by itself.
    pub(super) fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Reloading(true) if self.phase == Phase::Following || self.phase == Phase::Rereading => {
                self.phase = Phase::Reloading;
            }
            Signal::Reloading(true) => {}
            Signal::Reloading(false) => match self.phase {
                Phase::Away => {}
                Phase::Reading => self.read_everything(),
                Phase::Following | Phase::Reloading | Phase::Rereading => {
                    self.phase = Phase::Rereading;
                    self.read_everything();
                }
            },
            _ if matches!(self.phase, Phase::Away | Phase::Reloading) => {}
            Signal::Changed { path, interface, properties, invalidated } => {
                self.changed(&path, &interface, &properties, &invalidated);
            }
            Signal::UnitNew(id) => self.unit_new(&id),
            Signal::UnitRemoved(id) => self.unit_removed(&id),
            Signal::FilesChanged => {
                let names: Vec<Name> = self.entries.keys().cloned().collect();
                for name in &names {
                    self.ask(name, What::FileState);
                }
            }
        }
    }

    /// What systemd answered.
    pub(super) fn answer(&mut self, question: Question, answer: Answer) {
        match question {
            Question::Units => {
                self.open = self.open.saturating_sub(1);
                if let Answer::Units(units) = answer {
                    self.find_containers(units.iter().map(String::as_str));
                }
            }
            Question::TriggerLoaded(unit) => {
                if matches!(answer, Answer::No) {
                    self.open = self.open.saturating_sub(1);
                    self.trigger_is(&unit_path(&unit), false);
                } else {
                    self.questions.push(Question::TriggerState(unit));
                }
            }
            Question::TriggerState(unit) => {
                self.open = self.open.saturating_sub(1);
                let active = matches!(&answer, Answer::Word(state) if is_active(state));
                self.trigger_is(&unit_path(&unit), active);
            }
            Question::Loaded(asker, _) => self.answered(&asker, What::Loaded, |mirror, name| {
                mirror.loaded(name, !matches!(answer, Answer::No));
            }),
            Question::All(asker, What::Unit, ..) => self.answered(&asker, What::Unit, |mirror, name| {
                mirror.unit_read(name, &answer);
            }),
            Question::All(asker, what, _, interface) => self.answered(&asker, what, |mirror, name| {
                if let (Some(entry), Answer::Properties(properties)) = (mirror.entries.get_mut(name), &answer) {
                    let mut kind = KindPart::default();
                    kind.take(interface, properties, &entry.wanted());
                    if !entry.loaded {
                        kind.remember(&entry.kind);
                    }
                    entry.kind = kind;
                }
            }),
            Question::FileState(asker, of) => self.answered(&asker, What::FileState, |mirror, name| {
                let Some(entry) = mirror.entries.get_mut(name) else { return };
                entry.file_state_of = of;
                entry.file_state = if let Answer::Word(state) = answer { state } else { String::new() };
                // Of an alias the state is asked once more, of the unit that it stands for.
                if entry.unit.is_some() && entry.file_state_of != entry.id(name) {
                    mirror.ask(name, What::FileState);
                }
            }),
            Question::JobKind(asker, job, _) => self.answered(&asker, What::JobKind, |mirror, name| {
                if let Some(entry) = mirror.entries.get_mut(name) {
                    let kind = if let Answer::Word(kind) = answer { kind } else { String::new() };
                    entry.job_kind = Some((job, kind));
                }
                mirror.ask_job_kind(name);
            }),
        }
    }

    /// What the model is to be told, now that all input there was is worked in.
    pub(super) fn settle(&mut self) -> Option<Batch> {
        match self.phase {
            Phase::Reading if self.nothing_is_open() => {
                self.phase = Phase::Following;
                self.dirty.clear();
                self.told.clear();
                self.dirty.extend(self.entries.keys().cloned());
                Some(Batch::Reset(self.changes()))
            }
            Phase::Rereading if self.nothing_is_open() => {
                self.phase = Phase::Following;
                self.dirty.extend(self.entries.keys().cloned());
                Some(Batch::Reloaded(self.changes()))
            }
            Phase::Away | Phase::Reading | Phase::Reloading | Phase::Rereading => None,
            Phase::Following => {
                let changes = self.changes();
                (!changes.is_empty()).then_some(Batch::Changes(changes))
            }
        }
    }

    fn changes(&mut self) -> Vec<Change> {
        let (ready, waiting): (BTreeSet<Name>, BTreeSet<Name>) = std::mem::take(&mut self.dirty)
            .into_iter()
            .partition(|name| self.entries.get(name).is_none_or(|entry| self.is_settled(entry)));
        self.dirty = waiting;
        let changes = ready.iter().filter_map(|name| self.news_of(name)).collect();
        self.ready.extend(ready);
        changes
    }

    /// What differs from what the model was told.
    fn news_of(&mut self, name: &Name) -> Option<Change> {
        let Some(entry) = self.entries.get(name).filter(|entry| entry.is_published()) else {
            return self.told.remove(name).map(|_| Change::UnitGone(name.clone()));
        };
        let facts = entry.facts(name, &self.triggers);
        if self.told.get(name) == Some(&facts) {
            return None;
        }
        self.told.insert(name.clone(), facts.clone());
        Some(Change::Unit(name.clone(), facts))
    }

    fn nothing_is_open(&self) -> bool {
        self.open == 0 && self.questions.is_empty() && self.entries.values().all(Entry::is_settled)
    }

    fn read_everything(&mut self) {
        self.open += 1;
        self.questions.push(Question::Units);
        for unit in self.triggers.units() {
            self.ask_trigger(unit);
        }
        let names: Vec<Name> = self.entries.keys().cloned().collect();
        for name in &names {
            self.read(name);
        }
        self.find_linked_containers();
    }

    fn read_as_needed(&mut self, name: &Name, is_new: bool, grown: bool) {
        if is_new {
            self.read(name);
        } else if grown {
            self.ask(name, What::Unit);
            self.ask(name, What::Kind);
        }
    }

    /// The entry of that name, made if it is not there.
    fn entry(&mut self, name: &Name) -> &mut Entry {
        if !self.entries.contains_key(name) {
            self.last_number += 1;
            let entry = Entry::new(self.last_number, is_container(&self.patterns, name));
            self.entries.insert(name.clone(), entry);
            self.paths.entry(unit_path(name)).or_default().insert(name.clone());
            self.update_links(name);
        }
        self.entries.entry(name.clone()).or_default()
    }

    fn drop_unwanted(&mut self, name: &Name) {
        if self.entries.get(name).is_some_and(|entry| !entry.is_wanted()) && self.entries.remove(name).is_some() {
            self.dirty.insert(name.clone());
            self.paths.retain(|_, names| {
                names.remove(name);
                !names.is_empty()
            });
        }
    }

    fn ask(&mut self, name: &Name, what: What) {
        if self.phase == Phase::Away {
            return;
        }
        let Some(entry) = self.entries.get_mut(name) else { return };
        let id = entry.id(name).to_owned();
        let interface = kind_interface(&id);
        if what == What::Kind && interface.is_none() {
            return;
        }
        self.dirty.insert(name.clone());
        if !entry.reading(what).ask() {
            return;
        }
        let asker = Asker { name: name.clone(), number: entry.number };
        let question = match (what, interface) {
            (What::Loaded, _) => Question::Loaded(asker, name.to_string()),
            (What::Unit, _) => Question::All(asker, what, unit_path(name), UNIT),
            (What::Kind, Some(interface)) => Question::All(asker, what, unit_path(name), interface),
            (What::JobKind, _) => {
                let Some((job, path)) = entry.unit.as_ref().and_then(|unit| unit.job.clone()) else {
                    entry.reading(what).answered();
                    return;
                };
                Question::JobKind(asker, job, path)
            }
            (What::FileState | What::Kind, _) => Question::FileState(asker, id),
        };
        self.questions.push(question);
    }

    /// Takes an answer over, unless its entry was dropped meanwhile.
    fn answered(&mut self, asker: &Asker, what: What, take: impl FnOnce(&mut Self, &Name)) {
        let Some(entry) = self.entries.get_mut(&asker.name).filter(|entry| entry.number == asker.number) else {
            return;
        };
        if entry.reading(what).answered() {
            self.ask(&asker.name, what);
        }
        take(self, &asker.name);
        self.dirty.insert(asker.name.clone());
        self.drop_unwanted(&asker.name);
    }

    fn loaded(&mut self, name: &Name, is_loaded: bool) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let read = std::mem::take(&mut entry.read_if_loaded);
        if !is_loaded {
            if entry.loaded {
                entry.unload();
            }
            return;
        }
        entry.loaded = true;
        if read {
            self.ask(name, What::Unit);
            self.ask(name, What::Kind);
            self.ask(name, What::FileState);
        }
    }

    fn unit_read(&mut self, name: &Name, answer: &Answer) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let mut unit = UnitPart::missing(name);
        if let Answer::Properties(properties) = answer {
            unit.take(properties, &entry.wanted());
            if let Some(before) = entry.unit.as_ref().filter(|_| !entry.loaded) {
                unit.remember(before);
            }
        }
        let id = unit.id.clone();
        entry.unit = Some(unit);
        let ask_state = !entry.file_state_of.is_empty() && entry.file_state_of != id;
        let (own, real) = (unit_path(name), unit_path(&id));
        self.paths.retain(|path, names| {
            // An alias that stands for another unit than before.
            if *path != own && *path != real {
                names.remove(name);
            }
            !names.is_empty()
        });
        self.paths.entry(real).or_default().insert(name.clone());
        self.update_links(name);
        if ask_state {
            self.ask(name, What::FileState);
        }
        self.follow_triggers(name);
        self.ask_job_kind(name);
    }

    fn ask_job_kind(&mut self, name: &Name) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let job = entry.unit.as_ref().and_then(|unit| unit.job.as_ref()).map(|(id, _)| *id);
        let known = entry.job_kind.as_ref().map(|(id, _)| *id);
        if job.is_some() && job != known && !entry.reading(What::JobKind).is_open() {
            self.ask(name, What::JobKind);
        }
    }

    fn ask_trigger(&mut self, unit: String) {
        self.open += 1;
        self.questions.push(Question::TriggerLoaded(unit));
    }

    /// Begins to follow what would start that unit.
    fn follow_triggers(&mut self, name: &Name) {
        let unit = self.entries.get(name).and_then(|entry| entry.unit.as_ref());
        for trigger in unit.map(|unit| unit.triggered_by.clone()).unwrap_or_default() {
            if self.triggers.add(&trigger) {
                self.ask_trigger(trigger);
            }
        }
    }

    fn trigger_is(&mut self, path: &str, active: bool) {
        let Some(trigger) = self.triggers.set(path, active) else { return };
        let starts = |entry: &Entry| entry.unit.iter().any(|unit| unit.triggered_by.contains(&trigger));
        self.dirty.extend(self.entries.iter().filter(|(_, entry)| starts(entry)).map(|(name, _)| name.clone()));
    }

    /// Looks up the links to a unit; `true` where they changed.
    fn update_links(&mut self, name: &Name) -> bool {
        let Some(entry) = self.entries.get_mut(name) else { return false };
        let id = entry.id(name).to_owned();
        let wanted = self.links.wanted.contains(&**name) || self.links.wanted.contains(&id);
        let linked = self.links.all.contains(&**name) || self.links.all.contains(&id);
        let changed = (entry.wants_link, entry.linked) != (wanted, linked);
        (entry.wants_link, entry.linked) = (wanted, linked);
        changed
    }

    /// Containers that systemd has not loaded and that something on disk will start.
    fn find_linked_containers(&mut self) {
        let linked: Vec<String> = self.links.all.iter().cloned().collect();
        self.find_containers(linked.iter().map(String::as_str));
    }

    fn find_containers<'a>(&mut self, units: impl Iterator<Item = &'a str>) {
        if self.phase == Phase::Away {
            return;
        }
        let found: HashSet<&str> = units.filter(|unit| is_container(&self.patterns, unit)).collect();
        for unit in found {
            let name = Name::from(unit);
            if !self.entries.contains_key(&name) {
                self.entry(&name);
                self.read(&name);
            }
        }
    }
}

fn is_container(patterns: &[String], unit: &str) -> bool {
    !is_template(unit) && patterns.iter().any(|pattern| matches(pattern, unit))
}

fn is_active(state: &str) -> bool {
    matches!(state, "active" | "activating" | "reloading" | "refreshing")
}
