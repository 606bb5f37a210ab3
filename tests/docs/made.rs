//! The parts of the documents that are made from the code, each between two marks:
//!
//! ```text
//! <!-- made: NAME -->
//! ...
//! <!-- end: NAME -->
//! ```
//!
//! In the manual pages the marks are roff's comments: `.\" made: NAME` and `.\" end: NAME`.

use std::{collections::BTreeSet, env, fmt::Write as _, fs};

use op_dbus_testkit::markdown;

use crate::{api, contributing, document, man, objects, operations};

/// The variable that makes the test write what it would compare.
const BLESS: &str = "OPDBUS_BLESS";

/// Makes a part: its file, and all its text.
type Maker = fn() -> String;

const MADE: &[(&str, &str, Maker)] = &[
    ("docs/dbus-api.md", "interfaces", api::interfaces),
    ("docs/document.md", "fields of Document", || document::fields("Document")),
    ("docs/document.md", "fields of Systemd", || document::fields("Systemd")),
    ("docs/document.md", "fields of Unit", || document::fields("Unit")),
    ("docs/document.md", "never touched", document::never_touched),
    ("docs/document.md", "fields of Ovsdb", || document::fields("Ovsdb")),
    ("docs/document.md", "fields of Bridge", || document::fields("Bridge")),
    ("docs/document.md", "fields of Port", || document::fields("Port")),
    ("docs/document.md", "fields of Lxc", || document::fields("Lxc")),
    ("docs/document.md", "fields of Container", || document::fields("Container")),
    ("docs/document.md", "fields of Packagekit", || document::fields("Packagekit")),
    ("docs/document.md", "fields of Package", || document::fields("Package")),
    ("docs/document.md", "fields of ContainerSource", || document::fields("ContainerSource")),
    ("docs/document.md", "fields of Network", || document::fields("Network")),
    ("docs/document.md", "fields of Mount", || document::fields("Mount")),
    ("docs/document.md", "fields of Features", || document::fields("Features")),
    ("docs/document.md", "fields of Startup", || document::fields("Startup")),
    ("docs/document.md", "fields of Template", || document::fields("Template")),
    ("docs/document.md", "fields of Dbus", || document::fields("Dbus")),
    ("docs/document.md", "fields of Object", || document::fields("Object")),
    ("docs/document.md", "fields of Property", || document::fields("Property")),
    ("docs/document.md", "fields of Call", || document::fields("Call")),
    ("docs/document.md", "fields of Lookup", || document::fields("Lookup")),
    ("docs/document.md", "fields of Match", || document::fields("Match")),
    ("docs/objects.md", "presets", objects::presets),
    ("docs/objects.md", "never called", objects::never_called),
    ("docs/operations.md", "limits", operations::limits),
    ("CONTRIBUTING.md", "toy backend", || contributing::toy("backend")),
    ("CONTRIBUTING.md", "toy handle", || contributing::toy("handle")),
    ("CONTRIBUTING.md", "toy trait", || contributing::toy("trait")),
    ("CONTRIBUTING.md", "toy task", || contributing::toy("task")),
    ("CONTRIBUTING.md", "toy apply", || contributing::toy("apply")),
    ("CONTRIBUTING.md", "toy wiring", || contributing::toy("wiring")),
    ("CONTRIBUTING.md", "toy test", || contributing::toy("test")),
    ("dist/man/op-dbus.8", "options", man::options),
    ("dist/man/op-dbus.8", "verbs", man::verbs),
    ("dist/man/op-dbus.8", "files", man::files),
    ("dist/man/op-dbus.toml.5", "keys", man::keys),
    ("dist/man/org.opdbus.5", "tree", man::tree),
    ("dist/man/org.opdbus.5", "interfaces", man::interfaces),
    ("dist/man/org.opdbus.5", "errors", man::errors),
    ("dist/man/org.opdbus.5", "reasons", man::reasons),
];

/// What stands around the name of a part, and between a mark and the part: roff takes an empty line for a paragraph.
fn marks(file: &str) -> (&'static str, &'static str, &'static str) {
    if file.starts_with("dist/man/") { (".\\\" ", "", "") } else { ("<!-- ", " -->", "\n") }
}

/// The text with that part made anew.
fn remake(file: &str, text: &str, name: &str, body: &str) -> String {
    let (before_mark, after_mark, gap) = marks(file);
    let open = format!("{before_mark}made: {name}{after_mark}\n");
    let close = format!("{before_mark}end: {name}{after_mark}");
    let (before, rest) = text.split_once(&open).unwrap_or_else(|| panic!("there is no {open}"));
    let (_, after) = rest.split_once(&close).unwrap_or_else(|| panic!("there is no {close}"));
    format!("{before}{open}{gap}{}\n{gap}{close}{after}", body.trim())
}

#[test]
fn what_is_made_from_the_code_is_as_the_code_makes_it() {
    let bless = env::var_os(BLESS).is_some_and(|value| value == "1");
    let mut stale = String::new();
    for file in MADE.iter().map(|(file, ..)| *file).collect::<BTreeSet<_>>() {
        let old = markdown::read(file);
        let new = MADE
            .iter()
            .filter(|(of, ..)| *of == file)
            .fold(old.clone(), |text, (_, name, maker)| remake(file, &text, name, &maker()));
        if new == old {
            continue;
        }
        if bless {
            fs::write(markdown::root().join(file), new).unwrap();
            continue;
        }
        let differs = new.lines().zip(old.lines()).enumerate().find(|(_, (new, old))| new != old);
        let place = differs.map(|(at, (new, old))| format!("line {}: it says\n  {old}\nand not\n  {new}", at + 1));
        writeln!(stale, "{file}: {}", place.unwrap_or_else(|| "its length differs".to_owned())).unwrap();
    }
    assert!(stale.is_empty(), "{stale}make it anew by {BLESS}=1 cargo test --test docs");
}

#[test]
fn every_marked_part_is_made_by_something() {
    let known: BTreeSet<(String, String)> =
        MADE.iter().map(|(file, name, _)| ((*file).to_owned(), (*name).to_owned())).collect();
    let mut marked = BTreeSet::new();
    let with_marks = MADE.iter().map(|(file, ..)| (*file).to_owned());
    let documents = markdown::documents().into_iter().map(|file| file.to_str().unwrap().to_owned());
    for file in documents.chain(with_marks).collect::<BTreeSet<_>>() {
        let (before_mark, after_mark, _) = marks(&file);
        for line in markdown::read(&file).lines() {
            let name = line.strip_prefix(before_mark).and_then(|rest| rest.strip_suffix(after_mark));
            if let Some(name) = name.and_then(|name| name.strip_prefix("made: ")) {
                assert!(marked.insert((file.clone(), name.to_owned())), "{name} twice in {file}");
            }
        }
    }
    assert_eq!(marked, known);
}
