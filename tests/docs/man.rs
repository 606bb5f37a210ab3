//! The manual pages in dist/man/: their options come from the command line's own definition, their keys from
//! dist/op-dbus.toml, their interfaces from the contract, their tables from the documents; mandoc finds nothing wrong.

use std::{fmt::Write as _, fs, process::Command};

use clap::CommandFactory as _;
use op_dbus::cli::Cli;
use op_dbus_testkit::markdown;

use crate::api::{self, Item};

/// Lines of a page are no longer: the bound that mandoc's lint draws.
const WIDTH: usize = 78;

/// Text as roff takes it: nothing in it is an escape, and a hyphen is the one that is typed.
fn literal(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq")
}

/// A paragraph in lines of a bearable length; what Markdown sets as code or strong is bold, of a link its text stays.
fn prose(text: &str) -> String {
    let text = without_links(text).replace("**", "`").replace('\\', "\\e").replace('-', "\\-");
    let mut bold = false;
    let mut marked = String::new();
    for char in text.chars() {
        match char {
            '`' => {
                bold = !bold;
                marked.push_str(if bold { "\\fB" } else { "\\fR" });
            }
            '…' => marked.push_str("..."),
            char => marked.push(char),
        }
    }
    assert!(!bold, "a quote is not closed in {text:?}");
    let mut out = String::new();
    let mut line = String::new();
    for word in marked.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            push_line(&mut out, &line);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    push_line(&mut out, &line);
    out
}

/// A line of text: one that begins as a request would is none.
fn push_line(out: &mut String, line: &str) {
    let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
    writeln!(out, "{guard}{line}").unwrap();
}

/// `[text](target)` as `text`; brackets of other kinds stay.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("](") {
        let (kept, label) = before.rsplit_once('[').unwrap_or((before, ""));
        let (_, after) = from.split_once(')').expect("the end of a link");
        out.extend([kept, label]);
        rest = after;
    }
    out + rest
}

/// A paragraph with a tag before it.
fn tagged(tag: &str, text: &str) -> String {
    format!(".TP\n\\fB{}\\fR\n{}", literal(tag), prose(text))
}

/// The rows of the document's table with that heading: the first column as tags, the others as their paragraphs.
fn table(file: &str, heading: &str) -> String {
    let text = markdown::read(file);
    let table = text.split_once(heading).unwrap_or_else(|| panic!("{file} has no table {heading}")).1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut out = String::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let (tag, rest) = cells.split_first().unwrap();
        out.push_str(&tagged(&tag.replace('`', ""), &rest.join(": ")));
    }
    out
}

/// What a user replaces, each with a space before it.
fn italics(names: impl Iterator<Item = String>) -> String {
    names.fold(String::new(), |out, name| out + " \\fI" + &name + "\\fR")
}

/// The daemon's flags, and what can be done besides running it, with the words of `op-dbus --help`.
pub fn options() -> String {
    let mut out = String::new();
    let mut command = Cli::command();
    command.build();
    for flag in command.get_arguments() {
        let value = flag.get_value_names().filter(|_| flag.get_action().takes_values()).unwrap_or_default();
        let value = italics(value.iter().map(ToString::to_string));
        let short = flag.get_short().map(|short| format!("\\fB\\-{short}\\fR, ")).unwrap_or_default();
        let long = literal(flag.get_long().expect("every flag is a long one"));
        let help = flag.get_help().expect("every flag has its help").to_string();
        write!(out, ".TP\n{short}\\fB\\-\\-{long}\\fR{value}\n{}", prose(&help)).unwrap();
    }
    out
}

/// The verbs, likewise.
pub fn verbs() -> String {
    let mut out = String::new();
    for verb in Cli::command().get_subcommands().filter(|verb| verb.get_name() != "help") {
        let operands = italics(verb.get_positionals().map(|operand| operand.get_id().as_str().to_uppercase()));
        let mut help = verb.get_about().expect("every verb has its help").to_string();
        for operand in verb.get_positionals() {
            write!(help, ". {}: {}", operand.get_id().as_str().to_uppercase(), operand.get_help().unwrap()).unwrap();
        }
        write!(out, ".TP\n\\fB{}\\fR{operands}\n{}", literal(verb.get_name()), prose(&help)).unwrap();
    }
    out
}

/// Files that `dist/install` puts in place.
pub fn files() -> String {
    table("docs/operations.md", "| file | what |")
}

/// A key that has no default, with an example of its value.
fn example_of(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.strip_prefix("# ")?.split_once(" = ")?;
    key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then_some((key, value))
}

/// The sections of the configuration, each key with its default and the words of dist/op-dbus.toml.
pub fn keys() -> String {
    let mut out = String::new();
    let mut words = String::new();
    let example = markdown::read("dist/op-dbus.toml");
    // What stands above the first section is about the file as a whole.
    let sections = &example[example.find("\n[").expect("a section") + 1..];
    let mut lines = sections.lines();
    while let Some(line) = lines.next() {
        if let Some(section) = line.strip_prefix('[') {
            writeln!(out, ".SS [{}", literal(section)).unwrap();
        } else if let Some((key, value)) = example_of(line) {
            // A long one may be broken after each colon.
            let value = literal(value).replace(':', ":\\:");
            write!(out, ".TP\n\\fB{}\\fR, for example {value}\n{}", literal(key), prose(&words)).unwrap();
            words.clear();
        } else if let Some(comment) = line.strip_prefix("# ") {
            words.extend([comment, " "]);
        } else if let Some((key, value)) = line.strip_prefix('#').and_then(|line| line.split_once(" = ")) {
            let (key, text) = (literal(key), prose(&words));
            if value == "[" {
                // A list of many lines stays one, below its words.
                let items = lines.by_ref().map(|line| line.strip_prefix('#').expect("the rest of a list"));
                let items: String = items.take_while(|item| *item != "]").flat_map(|item| [item, "\n"]).collect();
                write!(out, ".TP\n\\fB{key}\\fR = [...]\n{text}.PP\n.RS\n.nf\n{}.fi\n.RE\n", literal(&items)).unwrap();
            } else {
                write!(out, ".TP\n\\fB{key}\\fR = {}\n{text}", literal(value)).unwrap();
            }
            words.clear();
        } else {
            assert!(line.is_empty(), "what is {line:?} in dist/op-dbus.toml?");
        }
    }
    assert!(words.is_empty(), "{words:?} belongs to no key");
    out
}

/// The paths of the tree.
pub fn tree() -> String {
    table("docs/dbus-api.md", "| path | interfaces | what |")
}

/// The errors.
pub fn errors() -> String {
    table("docs/dbus-api.md", "| error | when |")
}

/// The Reasons with their remedies.
pub fn reasons() -> String {
    table("docs/operations.md", "| Reason | meaning | remedy |")
}

/// Every interface with every member.
pub fn interfaces() -> String {
    let mut out = String::new();
    for (_, xml) in api::contract() {
        let all = api::items(&xml);
        let interface = all.iter().find(|item| item.tag == "interface").expect("an interface");
        write!(out, ".SH {}\n{}", literal(&interface.name), prose(&interface.text)).unwrap();
        for (tag, title) in [("method", "Methods"), ("signal", "Signals"), ("property", "Properties")] {
            let members: Vec<&Item> = all.iter().filter(|item| item.tag == tag).collect();
            if !members.is_empty() {
                writeln!(out, ".SS {title} of {}", literal(&interface.name)).unwrap();
            }
            for item in members {
                write!(out, ".TP\n\\fB{}\\fR{}\n{}", item.name, literal(&shape(item)), prose(&item.text)).unwrap();
            }
        }
    }
    out
}

/// What follows a member's name: its arguments, or its type and how a change is told.
fn shape(item: &Item) -> String {
    if item.tag == "property" {
        return format!(" {} (a change is {})", item.signature, api::changes(&item.changes));
    }
    let (given, answer) = (api::arguments(item, false), api::arguments(item, true));
    let arrow = if answer.is_empty() { String::new() } else { format!(" -> ({answer})") };
    format!("({given}){arrow}")
}

/// Every manual page, by its name within dist/man/.
fn pages() -> Vec<String> {
    let folder = fs::read_dir(markdown::root().join("dist/man")).unwrap();
    let mut pages: Vec<_> = folder.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    pages.sort();
    pages
}

#[test]
fn every_page_is_there_and_of_this_version() {
    assert_eq!(pages(), ["op-dbus.8", "op-dbus.toml.5", "org.opdbus.5"]);
    for page in pages() {
        let text = markdown::read(&format!("dist/man/{page}"));
        let version = format!("\"op-dbus {}\"", env!("CARGO_PKG_VERSION"));
        let title = text.lines().find(|line| line.starts_with(".TH ")).expect("a title");
        assert!(title.contains(&version), "{page} has the title {title}, without {version}");
    }
}

/// What a page names, it names as it is.
#[test]
fn the_page_of_the_daemon_names_its_environment() {
    let page = markdown::read("dist/man/op-dbus.8").replace("\\-", "-");
    for name in ["OPDBUS_LOG", "STATE_DIRECTORY", "XDG_CONFIG_HOME", "XDG_STATE_HOME"] {
        let used = ["src/cli.rs", "src/logging.rs"].iter().any(|file| markdown::read(file).contains(name));
        assert!(used, "{name} is nothing that op-dbus reads");
        assert!(page.contains(name), "op-dbus(8) does not name {name}");
    }
}

#[test]
fn mandoc_finds_nothing_wrong() {
    for page in pages() {
        let path = markdown::root().join("dist/man").join(&page);
        let lint = match Command::new("mandoc").args(["-T", "lint", "-W", "warning,stop"]).arg(&path).output() {
            Ok(lint) => lint,
            Err(error) => {
                eprintln!("left out: mandoc, which looks for faults in {page}, does not start: {error}");
                return;
            }
        };
        assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
    }
}
