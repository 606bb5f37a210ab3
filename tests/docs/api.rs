//! The reference of the D-Bus interfaces, from the contract in dbus-interfaces/: each member with its comment.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use zbus_xml::Node;

use op_dbus_testkit::markdown;

/// One argument of a method or signal.
#[derive(Debug)]
pub struct Argument {
    name: String,
    signature: String,
    out: bool,
}

/// Anything of the contract that bears a comment.
#[derive(Debug)]
pub struct Item {
    pub tag: String,
    pub name: String,
    pub text: String,
    pub signature: String,
    pub changes: String,
    arguments: Vec<Argument>,
}

/// The value of an attribute of an element.
fn attribute(element: &str, name: &str) -> String {
    let value = element.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
    value.map(|(value, _)| value.to_owned()).unwrap_or_default()
}

/// The words of a comment as one line; a line that ends in a hyphen goes on within the same word.
fn joined(comment: &str) -> String {
    let mut text = String::new();
    for line in comment.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if !text.is_empty() && !text.ends_with('-') {
            text.push(' ');
        }
        text.push_str(line);
    }
    text
}

/// The interface, and its members in their order, each with the comment before it.
pub fn items(xml: &str) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut comment = String::new();
    let mut rest = xml;
    while let Some((_, from)) = rest.split_once('<') {
        if let Some(from) = from.strip_prefix("!--") {
            let (text, after) = from.split_once("-->").expect("the end of a comment");
            comment = joined(text);
            rest = after;
            continue;
        }
        let (element, after) = from.split_once('>').expect("the end of an element");
        rest = after;
        match element.split_whitespace().next().unwrap_or_default() {
            tag @ ("interface" | "method" | "signal" | "property") => items.push(Item {
                tag: tag.to_owned(),
                name: attribute(element, "name"),
                text: std::mem::take(&mut comment),
                signature: attribute(element, "type"),
                changes: String::new(),
                arguments: Vec::new(),
            }),
            "arg" => items.last_mut().expect("a member").arguments.push(Argument {
                name: attribute(element, "name"),
                signature: attribute(element, "type"),
                out: attribute(element, "direction") == "out",
            }),
            "annotation" if attribute(element, "name").ends_with("EmitsChangedSignal") => {
                items.last_mut().expect("a property").changes = attribute(element, "value");
            }
            _ => {}
        }
    }
    items
}

/// How a change of a property is told.
pub fn changes(value: &str) -> &'static str {
    match value {
        "true" => "signalled",
        "invalidates" => "signalled without the value",
        "const" => "impossible",
        "false" => "not signalled",
        other => panic!("EmitsChangedSignal {other:?}"),
    }
}

pub fn arguments(item: &Item, out: bool) -> String {
    let some = item.arguments.iter().filter(|argument| argument.out == out);
    some.map(|argument| format!("{} {}", argument.signature, argument.name)).collect::<Vec<_>>().join(", ")
}

/// All files of the contract, by name.
pub fn contract() -> Vec<(String, String)> {
    let folder = fs::read_dir(markdown::root().join("dbus-interfaces")).unwrap();
    let mut files: Vec<_> = folder
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Every interface with every member.
pub fn interfaces() -> String {
    let mut out = String::new();
    for (_, xml) in contract() {
        let all = items(&xml);
        let of = |tag: &'static str| all.iter().filter(move |item| item.tag == tag);
        let interface = of("interface").next().expect("an interface");
        write!(out, "## {}\n\n{}\n", interface.name, interface.text).unwrap();
        for (tag, title) in [("method", "Methods"), ("signal", "Signals")] {
            if of(tag).next().is_some() {
                write!(out, "\n### {title} of {}\n", interface.name).unwrap();
            }
            for item in of(tag) {
                // A signal's arguments have no direction.
                let (given, answer) = (arguments(item, false), arguments(item, true));
                let arrow = if answer.is_empty() { String::new() } else { format!(" -> ({answer})") };
                write!(out, "\n**`{}({given}){arrow}`**\n\n{}\n", item.name, item.text).unwrap();
            }
        }
        if of("property").next().is_some() {
            write!(out, "\n### Properties of {}\n\n", interface.name).unwrap();
            out.push_str("| property | type | a change is | meaning |\n|---|---|---|---|\n");
        }
        for item in of("property") {
            let text = item.text.replace('|', "\\|");
            writeln!(out, "| `{}` | `{}` | {} | {text} |", item.name, item.signature, changes(&item.changes)).unwrap();
        }
        out.push('\n');
    }
    out
}

#[test]
fn nothing_of_the_contract_is_left_out_or_without_a_comment() {
    for (file, xml) in contract() {
        let found = items(&xml);
        for item in &found {
            assert!(!item.text.is_empty(), "{} of {file} has no comment", item.name);
        }
        let found: BTreeSet<_> = found.into_iter().map(|item| (item.tag, item.name)).collect();
        let node = Node::try_from(xml.as_str()).unwrap();
        let mut there = BTreeSet::new();
        for interface in node.interfaces() {
            there.insert(("interface".to_owned(), interface.name().to_string()));
            there.extend(interface.methods().map(|m| ("method".to_owned(), m.name().to_string())));
            there.extend(interface.signals().map(|m| ("signal".to_owned(), m.name().to_string())));
            there.extend(interface.properties().map(|m| ("property".to_owned(), m.name().to_string())));
        }
        assert_eq!(found, there, "{file}");
    }
}

/// Every error's name in the code, from its source: the enum is the bus's own.
#[test]
fn every_error_is_explained() {
    let code = markdown::read("src/bus/error.rs");
    let document = markdown::read("docs/dbus-api.md");
    let names: BTreeSet<&str> = code
        .split('"')
        .filter(|text| text.starts_with("org.opdbus.Error.") || text.starts_with("org.freedesktop.DBus.Error."))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(document.contains(&format!("| `{name}` |")), "{name} is not explained in docs/dbus-api.md");
    }
}
