//! The parts of the documents that are made from the code, each between two marks:
//!
//! ```text
//! <!-- made: NAME -->
//! ...
//! <!-- end: NAME -->
//! ```
//!
//! In a man page the marks are comments of troff: `.\" made: NAME`.

use std::{collections::BTreeSet, env, fmt::Write as _, fs, path::Path};

use crate::{api, document, man, markdown, operations};

/// The variable that makes the test write what it would compare.
const BLESS: &str = "OPDBUS_BLESS";

/// The man pages' folder.
const MAN: &str = "dist/man";

/// Makes a part: its file, and all its text.
type Maker = fn() -> String;

const MADE: [(&str, &str, Maker); 15] = [
    ("docs/dbus-api.md", "interfaces", api::interfaces),
    ("docs/document.md", "fields of Document", || document::fields("Document")),
    ("docs/document.md", "fields of Systemd", || document::fields("Systemd")),
    ("docs/document.md", "fields of Unit", || document::fields("Unit")),
    ("docs/document.md", "fields of Ovsdb", || document::fields("Ovsdb")),
    ("docs/document.md", "fields of Bridge", || document::fields("Bridge")),
    ("docs/document.md", "fields of Port", || document::fields("Port")),
    ("docs/document.md", "fields of Lxc", || document::fields("Lxc")),
    ("docs/document.md", "fields of Container", || document::fields("Container")),
    ("docs/operations.md", "limits", operations::limits),
    ("dist/man/op-dbus.8", "options", man::options),
    ("dist/man/op-dbus.toml.5", "keys", man::keys),
    ("dist/man/org.opdbus.5", "interfaces", man::interfaces),
    ("dist/man/org.opdbus.5", "errors", man::errors),
    ("dist/man/org.opdbus.5", "reasons", man::reasons),
];

/// What stands before and behind a mark's words in that file, and how the text is set off from its marks.
fn marks(file: &str) -> (&'static str, &'static str, &'static str) {
    // An empty line of a man page would be shown.
    if file.starts_with(MAN) { (".\\\" ", "", "") } else { ("<!-- ", " -->", "\n") }
}

/// The text with that part made anew.
fn remake(file: &str, text: &str, name: &str, body: &str) -> String {
    let (begin, end, off) = marks(file);
    let (open, close) = (format!("{begin}made: {name}{end}\n"), format!("{begin}end: {name}{end}"));
    let (before, rest) = text.split_once(&open).unwrap_or_else(|| panic!("there is no {open}"));
    let (_, after) = rest.split_once(&close).unwrap_or_else(|| panic!("there is no {close}"));
    format!("{before}{open}{off}{}\n{off}{close}{after}", body.trim())
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
    let pages = fs::read_dir(markdown::root().join(MAN)).unwrap();
    let pages = pages.map(|page| Path::new(MAN).join(page.unwrap().file_name()));
    for file in markdown::documents().into_iter().chain(pages) {
        let file = file.to_str().unwrap();
        let (begin, end, _) = marks(file);
        let begin = format!("{begin}made: ");
        for line in markdown::read(file).lines() {
            if let Some(name) = line.strip_prefix(&begin).and_then(|rest| rest.strip_suffix(end)) {
                assert!(marked.insert((file.to_owned(), name.to_owned())), "{name} twice in {file}");
            }
        }
    }
    assert_eq!(marked, known);
}
