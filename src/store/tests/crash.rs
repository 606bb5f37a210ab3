//! Killed, failed or without power between any two operations: nothing acknowledged is lost or torn, nothing that was
//! not is there by half, and no number gets a second meaning.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    super::{FileContent, Source, Store, StoreError, sha256_hex},
    BOOT,
    disk::{Disk, Fault},
};

const DIR: &str = "/var/state";
/// Few, so that short scripts prune.
const KEEP: usize = 3;

#[derive(Debug, Clone)]
enum Op {
    Add { text: String, source: Source },
    Result { of_current: bool, result: &'static str, finished: bool },
    File { text: String, refused: bool },
    Jobs(usize),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let text = "[a-c]{0,9}";
    prop_oneof![
        3 => (text, prop_oneof![Just(Source::File), Just(Source::Bus)]).prop_map(|(text, source)| Op::Add { text, source }),
        2 => (any::<bool>(), prop_oneof![Just("done"), Just("partial")], any::<bool>())
            .prop_map(|(of_current, result, finished)| Op::Result { of_current, result, finished }),
        1 => (text, any::<bool>()).prop_map(|(text, refused)| Op::File { text, refused }),
        1 => (1..700_usize).prop_map(Op::Jobs),
        1 => Just(Op::Reopen),
    ]
}

/// What one generation holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    text: String,
    source: &'static str,
    result: String,
    finished: bool,
}

/// What the store acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    /// All generations ever, also the pruned.
    generations: BTreeMap<u64, Held>,
    file: Option<FileContent>,
}

impl Told {
    /// The generations that must be there.
    fn kept(&self) -> impl DoubleEndedIterator<Item = (&u64, &Held)> {
        self.generations.iter().skip(self.generations.len().saturating_sub(KEEP))
    }

    /// The current generation, or the oldest that must be there.
    fn target(&self, current: bool) -> Option<u64> {
        let number = if current { self.kept().next_back() } else { self.kept().next() };
        number.map(|(number, _)| *number)
    }

    /// What is told once this call is acknowledged; `number` is the one of a new generation.
    fn after(mut self, op: &Op, number: u64) -> Self {
        match op {
            Op::Add { text, source } => {
                let (source, text) = (source.as_str(), text.clone());
                if source == "file" {
                    self.file = Some(FileContent { sha256: sha256_hex(text.as_bytes()), refused: false });
                }
                self.generations.insert(number, Held { text, source, result: String::new(), finished: false });
            }
            Op::Result { of_current, result, finished } => {
                let target = self.target(*of_current);
                if let Some(held) = target.and_then(|target| self.generations.get_mut(&target)) {
                    (held.result, held.finished) = ((*result).to_owned(), *finished);
                }
            }
            Op::File { text, refused } => {
                self.file = Some(FileContent { sha256: sha256_hex(text.as_bytes()), refused: *refused });
            }
            Op::Jobs(_) | Op::Reopen => {}
        }
        self
    }

    /// Whether the store is so. Pruning may not have got to its end: more than must be kept may be there.
    fn fits(&self, store: &Store) -> bool {
        let found = held(store);
        self.kept().all(|(number, held)| found.get(number) == Some(held))
            && found.iter().all(|(number, held)| self.generations.get(number) == Some(held))
            && store.file_content() == self.file.as_ref()
    }
}

/// What a store holds.
fn held(store: &Store) -> BTreeMap<u64, Held> {
    let list = store.list();
    assert_eq!(list.last(), store.current().map(|current| &current.info), "the newest is the current one");
    let each = list.into_iter().map(|info| {
        let text = store.text(info.number).unwrap();
        assert_eq!(sha256_hex(text.as_bytes()), info.sha256);
        let finished = store.metas[&info.number].finished;
        (info.number, Held { text, source: info.source, result: info.result, finished })
    });
    each.collect()
}

fn open(disk: &Disk) -> Result<Store, StoreError> {
    let mut store = Store::load(Box::new(disk.clone()), DIR.into(), None, BOOT.into())?;
    store.keep(KEEP);
    Ok(store)
}

/// A script under way.
struct Run {
    disk: Disk,
    /// What may be on the disk, all of it acknowledged; a call that failed half-way gives a second possibility.
    possible: Vec<Told>,
    /// The highest numbers that were told.
    last_number: u64,
    last_job: u64,
}

impl Run {
    fn new() -> Self {
        Self { disk: Disk::new(), possible: vec![Told::default()], last_number: 0, last_job: 0 }
    }

    /// Carries one call out; `Ok` = acknowledged, and `possible` knows.
    fn call(&mut self, store: &mut Store, op: &Op) -> Result<(), StoreError> {
        let mut number = 0;
        match op {
            Op::Add { text, source } => {
                number = store.add(text, *source, 0, 7)?;
                assert!(number > self.last_number, "numbers rise");
                self.last_number = number;
            }
            Op::Result { of_current, result, finished } => {
                if let Some(target) = self.possible[0].target(*of_current) {
                    store.set_result(target, result, *finished)?;
                }
            }
            Op::File { text, refused } => {
                store.set_file_content(FileContent { sha256: sha256_hex(text.as_bytes()), refused: *refused })?;
            }
            Op::Jobs(count) => {
                for _ in 0..*count {
                    let job = store.next_job_id()?;
                    assert!(job > self.last_job, "job numbers rise");
                    self.last_job = job;
                }
            }
            Op::Reopen => *store = open(&self.disk)?,
        }
        self.possible = self.possible.drain(..).map(|told| told.after(op, number)).collect();
        Ok(())
    }

    /// What a call that was not acknowledged may have left.
    fn maybe(&mut self, op: &Op, number: u64) {
        let more: Vec<Told> = self.possible.iter().map(|told| told.clone().after(op, number)).collect();
        self.possible.extend(more);
        self.possible.dedup();
    }

    fn judge(&self, store: &Store) {
        assert!(
            self.possible.iter().any(|told| told.fits(store)),
            "possible: {:#?}\nfound: {:#?}\nand {:?}",
            self.possible,
            held(store),
            store.file_content()
        );
    }

    /// Runs a script with a fault, and perhaps a power cut after it; then all that a restart must find is there, and
    /// life goes on.
    fn torture(script: &[Op], fault: Fault, power: Option<u64>) {
        let mut run = Self::new();
        let killed = matches!(fault, Fault::Stop(_));
        run.disk.set(fault);
        // The first start may meet the fault; the second then does not, but for a full disk.
        if let Ok(mut store) = open(&run.disk).or_else(|_| open(&run.disk)) {
            for op in script {
                let (before, number) = (held(&store), store.next_number);
                if run.call(&mut store, op).is_ok() {
                    continue;
                }
                match op {
                    Op::Add { .. } if !killed => assert_eq!(held(&store), before, "the old one stands"),
                    Op::Add { .. } => run.maybe(op, number),
                    _ => run.maybe(op, 0),
                }
                if killed {
                    break;
                }
            }
        }
        run.disk.set(Fault::None);
        if let Some(seed) = power {
            // xorshift: any sequence will do that the seed gives again.
            let mut state = seed | 1;
            run.disk.cut_power(move || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state & 1 == 0
            });
        }
        let mut store = open(&run.disk).unwrap();
        assert!(run.disk.files().iter().all(|file| !file.contains(".tmp")), "{:?}", run.disk.files());
        run.judge(&store);
        // What is there now stays.
        run.possible.retain(|told| told.fits(&store));
        for op in [Op::Add { text: "after".into(), source: Source::Bus }, Op::Jobs(2), Op::Reopen] {
            run.call(&mut store, &op).unwrap();
            run.judge(&store);
        }
    }
}

/// How many operations a script makes on the disk when nothing goes wrong.
fn operations(script: &[Op]) -> usize {
    let mut run = Run::new();
    run.disk.set(Fault::None);
    let mut store = open(&run.disk).unwrap();
    for op in script {
        run.call(&mut store, op).unwrap();
        run.judge(&store);
    }
    run.disk.operations()
}

/// One of each call, with pruning, restarts and a second block of job numbers.
fn everything() -> Vec<Op> {
    let add = |text: &str, source| Op::Add { text: text.to_owned(), source };
    let result = |of_current, result, finished| Op::Result { of_current, result, finished };
    let file = |text: &str, refused| Op::File { text: text.to_owned(), refused };
    vec![
        add("one", Source::File),
        Op::Jobs(2),
        result(true, "done", true),
        add("two", Source::Bus),
        Op::Reopen,
        file("bad", true),
        Op::Jobs(600),
        add("three", Source::Bus),
        result(false, "partial", false),
        result(true, "superseded", false),
        add("four", Source::File),
        file("four, spelt otherwise", false),
        Op::Reopen,
        add("five", Source::Bus),
        add("", Source::Bus),
    ]
}

#[test]
fn killed_between_any_two_operations() {
    let script = everything();
    for at in 0..operations(&script) {
        Run::torture(&script, Fault::Stop(at), None);
    }
}

#[test]
fn without_power_between_any_two_operations() {
    let script = everything();
    for at in 0..operations(&script) {
        for seed in 1..8 {
            Run::torture(&script, Fault::Stop(at), Some(seed << 7));
        }
    }
}

#[test]
fn each_operation_fails_once() {
    let script = everything();
    for at in 0..operations(&script) {
        Run::torture(&script, Fault::FailOnce(at), None);
        Run::torture(&script, Fault::FailOnce(at), Some(at as u64 + 99));
    }
}

/// The names of the folders themselves: a script that finds them made, but not put on the disk.
#[test]
fn what_made_the_folders_may_have_failed() {
    let script = ["one", "two"].map(|text| Op::Add { text: text.to_owned(), source: Source::File });
    for at in 0..operations(&script) {
        // Of what was not synced, this seed loses the folders.
        Run::torture(&script, Fault::FailOnce(at), Some(9_967_498_506_544_721_536));
    }
}

/// A call that failed is made again, or another that takes it back: neither may be taken for done.
#[test]
fn a_result_that_could_not_be_noted_is_written_when_it_is_told_again() {
    let result = |result| Op::Result { of_current: true, result, finished: false };
    let again = [vec![result("done")], vec![result("")], vec![Op::Reopen, result("done")]];
    for again in again {
        let mut script = vec![Op::Add { text: "one".to_owned(), source: Source::Bus }, result("done")];
        script.extend(again);
        for at in 0..operations(&script) {
            for power in [None, Some(1 << 7), Some(3 << 7), Some(12_814_086_991_578_933_888)] {
                Run::torture(&script, Fault::FailOnce(at), power);
            }
        }
    }
}

/// What the state file last held is told by its generation until it is noted for sure; the generation is then pruned.
#[test]
fn what_the_state_file_held_outlives_its_generation() {
    let add = |text: &str, source| Op::Add { text: text.to_owned(), source };
    let mut script = vec![Op::File { text: "old".to_owned(), refused: false }, add("new", Source::File), Op::Reopen];
    script.extend(["one", "two", "three", "four"].map(|text| add(text, Source::Bus)));
    for at in 0..operations(&script) {
        for seed in 1..8 {
            Run::torture(&script, Fault::FailOnce(at), Some(seed << 7));
        }
    }
}

#[test]
fn a_disk_that_fills_up_at_any_operation() {
    let script = everything();
    for at in 0..operations(&script) {
        Run::torture(&script, Fault::Full(at), None);
        Run::torture(&script, Fault::Full(at), Some(at as u64 + 99));
    }
}

proptest! {
    #[test]
    fn any_script_survives_any_fault(
        script in prop::collection::vec(op(), 1..12),
        at in any::<prop::sample::Index>(),
        kind in 0..3_usize,
        power in any::<Option<u64>>(),
    ) {
        let at = at.index(operations(&script));
        Run::torture(&script, [Fault::Stop(at), Fault::FailOnce(at), Fault::Full(at)][kind], power);
    }
}
