//! The mirror against a simulated systemd: signals and answers in one order, questions in another, and whatever delay
//! between the two.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use zbus::{OwnedVariant, Variant};

use super::Mirror;
use crate::{
    model::{Change, Name},
    plugins::{
        Interest,
        systemd::{
            entry::unit_path,
            exchange::{Answer, Batch, Question, Signal},
            parts::{Properties, UNIT},
            unitfiles::{Links, Touched},
        },
    },
};

const UNITS: [&str; 4] = ["a.service", "b.service", "box@1.service", "box@2.service"];

/// What systemd delivers next.
#[derive(Debug)]
enum Delivery {
    Signal(Signal),
    Answer(Question, Answer),
}

/// systemd, as far as the mirror can tell.
#[derive(Debug, Default)]
struct Sim {
    /// Those in memory, and their ActiveState. All else exists on disk, inactive.
    loaded: BTreeMap<String, &'static str>,
    bus: VecDeque<Delivery>,
    questions: VecDeque<Question>,
    /// Those that something on disk starts at boot.
    linked: BTreeSet<String>,
    /// What the model was told: the ActiveState, the state of the unit file, the description.
    model: BTreeMap<String, (String, String, String)>,
    batches: usize,
    /// How often systemd was asked for anything.
    served: usize,
    /// What the unit files say, as systemd knows since it last read them.
    version: u32,
}

fn properties(unit: &str, active: &str, version: u32) -> Properties {
    let version = version.to_string();
    let texts = [("Id", unit), ("LoadState", "loaded"), ("ActiveState", active), ("Description", &version)];
    texts.map(|(name, text)| (name.to_owned(), OwnedVariant::try_from(Variant::from(text.to_owned())).unwrap())).into()
}

impl Sim {
    fn tell(&mut self, signal: Signal) {
        self.bus.push_back(Delivery::Signal(signal));
    }

    fn set(&mut self, unit: &str, active: &'static str) {
        if self.loaded.insert(unit.to_owned(), active).is_none() {
            // The signal of the load stands in for the change.
            self.tell(Signal::UnitNew(unit.to_owned()));
        } else {
            // Only what changed, which a description does not by itself.
            let mut properties = properties(unit, active, 0);
            properties.remove("Description");
            let path = unit_path(unit);
            self.tell(Signal::Changed { path, interface: UNIT.to_owned(), properties, invalidated: Vec::new() });
        }
    }

    fn stop(&mut self, unit: &str) {
        if self.loaded.contains_key(unit) {
            self.set(unit, "inactive");
            self.loaded.remove(unit);
            self.tell(Signal::UnitRemoved(unit.to_owned()));
        }
    }

    /// Somebody asks for a unit, which loads it for a moment.
    fn touch(&mut self, unit: &str) {
        if !self.loaded.contains_key(unit) {
            self.tell(Signal::UnitNew(unit.to_owned()));
            self.tell(Signal::UnitRemoved(unit.to_owned()));
        }
    }

    fn reload(&mut self) {
        self.tell(Signal::Reloading(true));
        self.version += 1;
        for unit in self.loaded.keys().cloned().collect::<Vec<_>>() {
            self.tell(Signal::UnitRemoved(unit.clone()));
            self.tell(Signal::UnitNew(unit));
        }
        self.tell(Signal::Reloading(false));
    }

    fn file_state(&self, unit: &str) -> String {
        if self.linked.contains(unit) { "enabled" } else { "static" }.to_owned()
    }

    /// inotify tells at once, past all that is still on the bus.
    fn link(&mut self, mirror: &mut Mirror, unit: &str) {
        if !self.linked.remove(unit) {
            self.linked.insert(unit.to_owned());
        }
        let links = Links { wanted: self.linked.clone(), all: self.linked.clone() };
        mirror.files_touched(links, &Touched { all: false, units: BTreeSet::from([unit.to_owned()]) });
    }

    fn truth(&self, watched: &BTreeSet<&str>) -> BTreeMap<String, (String, String, String)> {
        let shows = |unit: &&str| {
            let is_box = unit.starts_with("box@");
            watched.contains(unit) || (is_box && (self.loaded.contains_key(*unit) || self.linked.contains(*unit)))
        };
        let state = |unit: &str| self.loaded.get(unit).copied().unwrap_or("inactive").to_owned();
        UNITS
            .into_iter()
            .filter(shows)
            .map(|unit| (unit.to_owned(), (state(unit), self.file_state(unit), self.version.to_string())))
            .collect()
    }

    /// Answers the next question, by what is true now.
    fn serve(&mut self) {
        let Some(question) = self.questions.pop_front() else { return };
        self.served += 1;
        let mut touched = None;
        let answer = match &question {
            Question::Units => Answer::Units(self.loaded.keys().cloned().collect()),
            Question::Loaded(_, unit) | Question::TriggerLoaded(unit) if self.loaded.contains_key(unit) => Answer::Yes,
            Question::Loaded(..) | Question::TriggerLoaded(_) | Question::JobKind(..) => Answer::No,
            Question::TriggerState(_) => Answer::Word("inactive".to_owned()),
            Question::FileState(_, unit) => Answer::Word(self.file_state(unit)),
            Question::All(_, _, path, _) => {
                let unit = UNITS.into_iter().find(|unit| unit_path(unit) == *path).unwrap();
                touched = Some(unit);
                Answer::Properties(properties(unit, self.loaded.get(unit).copied().unwrap_or("inactive"), self.version))
            }
        };
        self.bus.push_back(Delivery::Answer(question, answer));
        if let Some(unit) = touched {
            self.touch(unit);
        }
    }

    /// Delivers the next message, and lets the mirror tell what it has to tell.
    fn deliver(&mut self, mirror: &mut Mirror) {
        match self.bus.pop_front() {
            Some(Delivery::Signal(signal)) => mirror.signal(signal),
            Some(Delivery::Answer(question, answer)) => mirror.answer(question, answer),
            None => {}
        }
        self.settle(mirror);
    }

    fn settle(&mut self, mirror: &mut Mirror) {
        self.questions.extend(mirror.questions());
        let changes = match mirror.settle() {
            None => return,
            Some(Batch::Reset(changes)) => {
                self.model.clear();
                changes
            }
            Some(Batch::Changes(changes) | Batch::Reloaded(changes)) => changes,
        };
        self.batches += 1;
        for change in changes {
            match change {
                Change::Unit(name, facts) => {
                    self.model.insert(name.to_string(), (facts.active_state, facts.unit_file_state, facts.description))
                }
                Change::UnitGone(name) => self.model.remove(&*name),
                other => panic!("{other:?}"),
            };
        }
        self.questions.extend(mirror.questions());
    }

    /// Until nothing is on its way any more, which must come to be: the mirror must not answer itself.
    fn quiesce(&mut self, mirror: &mut Mirror) {
        self.settle(mirror);
        for _ in 0..5000 {
            if self.bus.is_empty() && self.questions.is_empty() {
                return;
            }
            self.serve();
            self.deliver(mirror);
        }
        panic!("the mirror never comes to rest");
    }
}

fn interest(units: &BTreeSet<&str>) -> Interest {
    Interest { units: units.iter().map(|unit| (Name::from(*unit), Vec::new())).collect(), ..Interest::default() }
}

fn start() -> (Sim, Mirror) {
    let (mut sim, mut mirror) = (Sim::default(), Mirror::new(vec!["box@*.service".to_owned()]));
    mirror.connected();
    sim.quiesce(&mut mirror);
    (sim, mirror)
}

#[derive(Debug, Clone)]
enum Happening {
    Start(usize),
    Fail(usize),
    Stop(usize),
    Touch(usize),
    Reload,
    FilesChanged,
    Watch(BTreeSet<usize>),
    Pin(usize),
    Unpin(usize),
    Reconnect,
    Serve,
    Deliver,
    /// Nothing for a while: everything arrives.
    Rest,
    /// Somebody enables or disables it without telling systemd.
    Link(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    let unit = 0..UNITS.len();
    prop_oneof![
        3 => unit.clone().prop_map(Happening::Start),
        1 => unit.clone().prop_map(Happening::Fail),
        3 => unit.clone().prop_map(Happening::Stop),
        2 => unit.clone().prop_map(Happening::Touch),
        1 => Just(Happening::Reload),
        1 => Just(Happening::FilesChanged),
        2 => prop::collection::btree_set(unit.clone(), 0..3).prop_map(Happening::Watch),
        1 => unit.clone().prop_map(Happening::Pin),
        1 => unit.clone().prop_map(Happening::Unpin),
        1 => unit.prop_map(Happening::Link),
        4 => Just(Happening::Rest),
        1 => Just(Happening::Reconnect),
        8 => Just(Happening::Serve),
        12 => Just(Happening::Deliver),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(op_dbus_testkit::cases(500)))]

    #[test]
    fn whatever_happens_the_model_ends_up_true(happenings in prop::collection::vec(happening(), 0..80)) {
        let (mut sim, mut mirror) = start();
        let mut watched: BTreeSet<&str> = BTreeSet::new();
        let mut pins = [0_u32; UNITS.len()];
        for happening in happenings {
            match happening {
                Happening::Start(unit) => sim.set(UNITS[unit], "active"),
                Happening::Fail(unit) => sim.set(UNITS[unit], "failed"),
                Happening::Stop(unit) => sim.stop(UNITS[unit]),
                Happening::Touch(unit) => sim.touch(UNITS[unit]),
                Happening::Reload => sim.reload(),
                Happening::FilesChanged => sim.tell(Signal::FilesChanged),
                Happening::Watch(units) => {
                    watched = units.into_iter().map(|unit| UNITS[unit]).collect();
                    mirror.watch(&interest(&watched));
                }
                Happening::Pin(unit) => {
                    pins[unit] += 1;
                    mirror.pin(&UNITS[unit].into(), &[]);
                }
                Happening::Unpin(unit) if pins[unit] > 0 => {
                    pins[unit] -= 1;
                    mirror.unpin(&UNITS[unit].into());
                }
                Happening::Unpin(_) => {}
                Happening::Reconnect => {
                    mirror.away();
                    sim.bus.clear();
                    sim.questions.clear();
                    mirror.connected();
                }
                Happening::Serve => sim.serve(),
                Happening::Deliver => sim.deliver(&mut mirror),
                Happening::Rest => {
                    sim.quiesce(&mut mirror);
                    prop_assert_eq!(&sim.model, &sim.truth(&watched));
                }
                Happening::Link(unit) => sim.link(&mut mirror, UNITS[unit]),
            }
            sim.questions.extend(mirror.questions());
        }
        sim.quiesce(&mut mirror);
        prop_assert!(mirror.is_quiet());
        prop_assert_eq!(&sim.model, &sim.truth(&watched));
    }
}

#[test]
fn a_reload_is_held_and_told_once() {
    let (mut sim, mut mirror) = start();
    sim.set("a.service", "active");
    sim.set("box@1.service", "active");
    mirror.watch(&interest(&BTreeSet::from(["a.service"])));
    sim.quiesce(&mut mirror);
    (sim.batches, sim.served) = (0, 0);
    sim.reload();
    sim.set("a.service", "failed");
    sim.quiesce(&mut mirror);
    // ListUnits, four questions of each of the two, and one for the end of a.service: not one for each of systemd's
    // signals.
    assert_eq!(sim.served, 10);
    assert_eq!((sim.batches, sim.model["a.service"].0.as_str()), (1, "failed"));
}

#[test]
fn a_state_that_systemd_only_passes_through_is_not_told() {
    let (mut sim, mut mirror) = start();
    sim.set("a.service", "active");
    mirror.watch(&interest(&BTreeSet::from(["a.service"])));
    sim.quiesce(&mut mirror);
    sim.batches = 0;
    sim.set("a.service", "failed");
    sim.set("a.service", "activating");
    while !sim.bus.is_empty() {
        sim.deliver(&mut mirror);
        assert_ne!(sim.model["a.service"].0, "failed");
    }
    sim.quiesce(&mut mirror);
    assert_eq!((sim.batches, sim.model["a.service"].0.as_str()), (1, "activating"));
    // One that stays is told.
    sim.set("a.service", "failed");
    sim.quiesce(&mut mirror);
    assert_eq!((sim.batches, sim.model["a.service"].0.as_str()), (2, "failed"));
}

#[test]
fn a_look_of_somebody_else_tells_nothing_and_loads_nothing() {
    let (mut sim, mut mirror) = start();
    mirror.watch(&interest(&BTreeSet::from(["a.service"])));
    sim.quiesce(&mut mirror);
    sim.batches = 0;
    sim.touch("a.service");
    sim.touch("box@1.service");
    while !sim.bus.is_empty() {
        sim.deliver(&mut mirror);
    }
    let harmless = |question: &Question| matches!(question, Question::Loaded(..));
    assert!(sim.questions.iter().all(harmless), "{:?}", sim.questions);
    sim.quiesce(&mut mirror);
    assert_eq!(sim.batches, 0);
}
