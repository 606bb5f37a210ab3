//! The parts of the documents that are made from the code, each between two marks:
//!
//! ```text
//! <!-- made: NAME -->
//! ...
//! <!-- end: NAME -->
//! ```

use std::{collections::BTreeSet, env, fmt::Write as _, fs};

use crate::{api, document, markdown, operations};

/// The variable that makes the test write what it would compare.
const BLESS: &str = "OPDBUS_BLESS";

/// Makes a part: its file, and all its text.
type Maker = fn() -> String;

const MADE: [(&str, &str, Maker); 12] = [
    ("docs/dbus-api.md", "interfaces", api::interfaces),
    ("docs/document.md", "fields of Document", || document::fields("Document")),
    ("docs/document.md", "fields of Systemd", || document::fields("Systemd")),
    ("docs/document.md", "fields of Unit", || document::fields("Unit")),
    ("docs/document.md", "fields of Ovsdb", || document::fields("Ovsdb")),
    ("docs/document.md", "fields of Bridge", || document::fields("Bridge")),
    ("docs/document.md", "fields of Port", || document::fields("Port")),
    ("docs/document.md", "fields of Lxc", || document::fields("Lxc")),
    ("docs/document.md", "fields of Container", || document::fields("Container")),
    ("docs/document.md", "fields of Packagekit", || document::fields("Packagekit")),
    ("docs/document.md", "fields of Package", || document::fields("Package")),
    ("docs/operations.md", "limits", operations::limits),
];

/// The text with that part made anew.
fn remake(text: &str, name: &str, body: &str) -> String {
    let (open, close) = (format!("<!-- made: {name} -->\n"), format!("<!-- end: {name} -->"));
    let (before, rest) = text.split_once(&open).unwrap_or_else(|| panic!("there is no {open}"));
    let (_, after) = rest.split_once(&close).unwrap_or_else(|| panic!("there is no {close}"));
    format!("{before}{open}\n{}\n\n{close}{after}", body.trim())
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
            .fold(old.clone(), |text, (_, name, maker)| remake(&text, name, &maker()));
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
    for file in markdown::documents() {
        let file = file.to_str().unwrap();
        for line in markdown::read(file).lines() {
            if let Some(name) = line.strip_prefix("<!-- made: ").and_then(|rest| rest.strip_suffix(" -->")) {
                assert!(marked.insert((file.to_owned(), name.to_owned())), "{name} twice in {file}");
            }
        }
    }
    assert_eq!(marked, known);
}
