//! One mirrored unit: what is known of it, what is being read of it, and the facts that follow. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    parts::{DEFAULT_TIMEOUT_USEC, Exit, KindPart, Shown, UnitPart, settable_signatures},
    triggers::Triggers,
};
use crate::model::{UnitFacts, UnitJob, escape_path_element};

/// The folder of all units' objects.
const UNITS: &str = "/org/freedesktop/systemd1/unit/";

/// systemd's object path of a unit. systemd loads the unit when anything is asked of it there.
pub(super) fn unit_path(unit: &str) -> String {
    format!("{UNITS}{}", escape_path_element(unit))
}

/// One thing that is read of a unit. Replies come in the order of the bus, so a reply is never older than a signal
/// before it; what happens after the question was sent asks for another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reading {
    in_flight: bool,
    again: bool,
}

impl Reading {
    /// Wants it read; `true` where the question is to be sent now.
    pub(super) fn ask(&mut self) -> bool {
        self.again = self.in_flight;
        !std::mem::replace(&mut self.in_flight, true)
    }

    /// The answer came; `true` where it must be asked once more.
    pub(super) fn answered(&mut self) -> bool {
        self.in_flight = false;
        std::mem::take(&mut self.again)
    }

    /// The answer is awaited.
    pub(super) const fn is_open(self) -> bool {
        self.in_flight
    }
}

/// The things that are read of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Whether systemd has it loaded.
    Loaded,
    /// The interface `Unit`.
    Unit,
    /// The interface of its kind.
    Kind,
    /// The state of its unit file.
    FileState,
    /// The type of the job in the queue.
    JobKind,
}

impl What {
    /// All but the job's type, in the order in which they are asked: whether it is loaded comes first, because
    /// asking for the others loads it.
    pub(super) const ALL: [Self; 4] = [Self::Loaded, Self::Unit, Self::Kind, Self::FileState];
}

/// A mirrored unit.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Tells this entry from an earlier one of the same name, whose answers may still come.
    pub(super) number: u64,
    /// The document's properties of it, if it declares the unit.
    pub(super) declared: Option<Vec<String>>,
    /// A container by its name.
    pub(super) container: bool,
    /// How many look at it for a while, and the properties they look at.
    pub(super) pins: u32,
    /// See there.
    pub(super) pinned_properties: BTreeSet<String>,
    /// systemd holds it in memory.
    pub(super) loaded: bool,
    /// Read the rest once it turns out to be loaded.
    pub(super) read_if_loaded: bool,
    /// A .wants or .requires link for good.
    pub(super) wants_link: bool,
    /// Any link to it in the folders of configuration.
    pub(super) linked: bool,
    /// What the interface `Unit` says; `None` = not read yet.
    pub(super) unit: Option<UnitPart>,
    /// What the interface of its kind says.
    pub(super) kind: KindPart,
    /// The state of the unit file, and of which unit it was asked.
    pub(super) file_state: String,
    /// See there.
    pub(super) file_state_of: String,
    /// The type of that job.
    pub(super) job_kind: Option<(u32, String)>,
    loaded_reading: Reading,
    unit_reading: Reading,
    kind_reading: Reading,
    file_reading: Reading,
    job_reading: Reading,
}

/// A unit as a step of a job sees it: the facts, and what only steps need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// The facts, with the properties that the step asked for.
    pub(super) facts: UnitFacts,
    /// How the main process last ended, if it did in this boot.
    pub(super) exit: Option<Exit>,
    /// Bound of one stop, microseconds; `u64::MAX` = infinity.
    pub(super) stop_timeout_usec: u64,
}

impl Entry {
    /// One of which nothing is known yet.
    pub(super) fn new(number: u64, container: bool) -> Self {
        Self { number, container, ..Self::default() }
    }

    /// The reading of that thing.
    pub(super) const fn reading(&mut self, what: What) -> &mut Reading {
        match what {
            What::Loaded => &mut self.loaded_reading,
            What::Unit => &mut self.unit_reading,
            What::Kind => &mut self.kind_reading,
            What::FileState => &mut self.file_reading,
            What::JobKind => &mut self.job_reading,
        }
    }

    /// Nothing more is awaited: what is known belongs together.
    pub(super) const fn is_settled(&self) -> bool {
        !(self.loaded_reading.in_flight
            || self.unit_reading.in_flight
            || self.kind_reading.in_flight
            || self.file_reading.in_flight
            || self.job_reading.in_flight)
    }

    /// The connection went, and all questions with it.
    pub(super) fn forget_readings(&mut self) {
        self.loaded_reading = Reading::default();
        self.unit_reading = Reading::default();
        self.kind_reading = Reading::default();
        self.file_reading = Reading::default();
        self.job_reading = Reading::default();
    }

    /// Properties whose values are kept.
    pub(super) fn wanted(&self) -> BTreeSet<String> {
        self.declared.iter().flatten().chain(&self.pinned_properties).cloned().collect()
    }

    /// The unit's own name, or the name asked for while that is not known.
    pub(super) fn id<'a>(&'a self, name: &'a str) -> &'a str {
        self.unit.as_ref().map(|unit| unit.id.as_str()).filter(|id| !id.is_empty()).unwrap_or(name)
    }

    /// Somebody wants it, or will.
    pub(super) const fn is_wanted(&self) -> bool {
        self.declared.is_some() || self.pins > 0 || self.is_container()
    }

    /// The model is told of it. A container's unit that others only mention is none.
    pub(super) fn is_published(&self) -> bool {
        let found = self.unit.as_ref().is_some_and(|unit| unit.load_state != "not-found");
        self.declared.is_some() || (self.is_container() && found)
    }

    const fn is_container(&self) -> bool {
        self.container && (self.loaded || self.linked || self.loaded_reading.in_flight)
    }

    /// systemd let go of it.
    pub(super) fn unload(&mut self) {
        self.loaded = false;
        if let Some(unit) = &mut self.unit {
            unit.unload();
        }
    }

    /// What the model is told.
    pub(super) fn facts(&self, name: &str, triggers: &Triggers) -> UnitFacts {
        self.facts_with(name, self.declared.as_deref().unwrap_or_default(), triggers)
    }

    /// The facts with the values of these properties.
    pub(super) fn facts_with(&self, name: &str, properties: &[String], triggers: &Triggers) -> UnitFacts {
        let missing = UnitPart::missing(name);
        let unit = self.unit.as_ref().unwrap_or(&missing);
        let id = self.id(name);
        let shown: BTreeMap<&String, &Shown> =
            unit.values.iter().chain(&self.kind.values).filter(|(name, _)| properties.contains(name)).collect();
        let found = unit.load_state != "not-found";
        UnitFacts {
            id: id.to_owned(),
            description: unit.description.clone(),
            load_state: unit.load_state.clone(),
            active_state: unit.active_state.clone(),
            sub_state: unit.sub_state.clone(),
            unit_file_state: self.file_state.clone(),
            has_wants_link: self.wants_link,
            result: self.kind.result.clone(),
            unit_path: if self.loaded { unit_path(id) } else { String::new() },
            active_enter_usec: unit.active_enter_usec,
            restarts: self.kind.restarts,
            need_daemon_reload: unit.need_daemon_reload,
            job: unit.job.as_ref().map(|(id, _)| UnitJob {
                id: *id,
                kind: self.job_kind.iter().filter(|(of, _)| of == id).map(|(_, kind)| kind.clone()).collect(),
            }),
            oneshot: self.kind.oneshot,
            oneshot_succeeded: self.kind.oneshot_succeeded(),
            condition_unmet: unit.start_was_skipped(),
            fragment_path: unit.fragment_path.clone(),
            has_install: has_install(&self.file_state),
            active_triggers: triggers.active(&unit.triggered_by),
            start_timeout_usec: if found { self.kind.start_timeout_usec } else { DEFAULT_TIMEOUT_USEC },
            properties: shown.iter().map(|(name, shown)| ((*name).clone(), shown.value.clone())).collect(),
            property_signatures: settable_signatures(id, shown.iter().map(|(name, shown)| (*name, *shown))),
        }
    }

    /// As a step sees it.
    pub(super) fn seen(&self, name: &str, triggers: &Triggers) -> Seen {
        let properties: Vec<String> = self.wanted().into_iter().collect();
        Seen {
            facts: self.facts_with(name, &properties, triggers),
            exit: self.kind.exit,
            stop_timeout_usec: self.kind.stop_timeout_usec,
        }
    }
}

/// Whether the unit file has an `[Install]` section that enables it, as far as the state tells: masks hide it, and
/// count as having one, because a unit without is `static` once the mask is off.
fn has_install(file_state: &str) -> bool {
    matches!(
        file_state,
        "enabled"
            | "enabled-runtime"
            | "disabled"
            | "linked"
            | "linked-runtime"
            | "alias"
            | "masked"
            | "masked-runtime"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_behind_a_question_asks_again() {
        let mut reading = Reading::default();
        assert!(reading.ask());
        assert!(!reading.ask());
        assert!(!reading.ask());
        assert!(reading.answered());
        assert!(reading.ask());
        assert!(!reading.answered());
    }
}
