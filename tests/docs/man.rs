//! The made parts of the man pages in dist/man/, in the macros of man(7).

use std::fmt::Write as _;

use clap::CommandFactory as _;
use op_dbus::cli::Cli;

use crate::{
    api::{self, Item},
    markdown,
};

/// Text as troff takes it: nothing in it is a request, and a hyphen that is typed is one.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

/// Text from Markdown: what stands in backquotes is bold, links are their words.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split('`').enumerate() {
        if at % 2 == 1 {
            write!(out, "\\fB{}\\fR", escape(part)).unwrap();
            continue;
        }
        let mut rest = part;
        while let Some((before, (words, after))) =
            rest.split_once('[').and_then(|(before, link)| Some((before, link.split_once("](")?)))
        {
            out.push_str(&escape(before));
            out.push_str(&escape(words));
            rest = after.split_once(')').map_or("", |(_, after)| after);
        }
        out.push_str(&escape(rest));
    }
    if out.starts_with(['.', '\'']) { format!("\\&{out}") } else { out }
}

/// An entry: what it is about, and its text.
fn entry(out: &mut String, tag: &str, text: &str) {
    write!(out, ".TP\n{tag}\n{text}\n").unwrap();
}

/// The rows of a table of Markdown, each with its cells.
fn rows(file: &str, heading: &str) -> Vec<Vec<String>> {
    let text = markdown::read(file);
    let (_, table) = text.split_once(heading).unwrap_or_else(|| panic!("{file} has no table {heading}"));
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let line = line.trim_matches('|').replace("\\|", "\u{0}");
        line.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
    };
    lines.map(cells).collect()
}

/// The daemon's options, or a verb's arguments.
fn arguments(out: &mut String, command: &clap::Command) {
    for argument in command.get_arguments().filter(|argument| !argument.is_positional()) {
        let mut tag = format!("\\fB\\-\\-{}\\fR", escape(argument.get_long().expect("a long name")));
        if let Some(names) = argument.get_value_names().filter(|_| argument.get_action().takes_values()) {
            let names: Vec<String> = names.iter().map(|name| escape(name)).collect();
            write!(tag, " \\fI{}\\fR", names.join(" ")).unwrap();
        }
        entry(out, &tag, &format!("{}.", escape(&argument.get_help().expect("help").to_string())));
    }
}

/// What `op-dbus --help` tells, for op-dbus(8).
pub fn options() -> String {
    let mut out = ".SH OPTIONS\n".to_owned();
    let command = Cli::command();
    arguments(&mut out, &command);
    out.push_str(".SH COMMANDS\n");
    for verb in command.get_subcommands() {
        let mut tag = format!("\\fB{}\\fR", escape(verb.get_name()));
        let mut text = format!("{}.", escape(&verb.get_about().expect("help").to_string()));
        for argument in verb.get_positionals() {
            let name = escape(&argument.get_id().as_str().to_uppercase());
            write!(tag, " \\fI{name}\\fR").unwrap();
            write!(text, "\n\\fI{name}\\fR: {}.", escape(&argument.get_help().expect("help").to_string())).unwrap();
        }
        entry(&mut out, &tag, &text);
        arguments(&mut out, verb);
    }
    out
}

/// The keys of the example configuration, each with its comment, for op-dbus.toml(5).
pub fn keys() -> String {
    let text = markdown::read("dist/op-dbus.toml");
    let mut out = String::new();
    let mut comment: Vec<&str> = Vec::new();
    // What stands before the first table is about the whole file.
    for line in text.lines().skip_while(|line| !line.starts_with('[')) {
        if let Some(table) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            writeln!(out, ".SS [{}]", escape(table)).unwrap();
            if !comment.is_empty() {
                writeln!(out, "{}", inline(&comment.join(" "))).unwrap();
            }
            comment.clear();
        } else if let Some(words) = line.strip_prefix("# ") {
            comment.push(words);
        } else if let Some((key, value)) = line.trim_start_matches('#').split_once(" = ") {
            let words = if comment.is_empty() { String::new() } else { inline(&comment.join(" ")) };
            entry(&mut out, &format!("\\fB{}\\fR = {}", escape(key), escape(value)), &words);
            comment.clear();
        }
    }
    out
}

/// A method or a signal, as it is called.
fn call(item: &Item) -> String {
    let list = |out| {
        let some = item.arguments.iter().filter(|argument| argument.out == out);
        some.map(|argument| format!("{} \\fI{}\\fR", escape(&argument.signature), escape(&argument.name)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (given, answer) = (list(false), list(true));
    let arrow = if answer.is_empty() { String::new() } else { format!(" \\(-> ({answer})") };
    format!("\\fB{}\\fR({given}){arrow}", item.name)
}

/// Every interface with every member, for org.opdbus(5).
pub fn interfaces() -> String {
    let mut out = String::new();
    for (_, xml) in api::contract() {
        let all = api::items(&xml);
        for item in all.iter().filter(|item| item.tag == "interface") {
            write!(out, ".SH {}\n{}\n", escape(&item.name), escape(&item.text)).unwrap();
        }
        for (tag, title) in [("method", "Methods"), ("signal", "Signals"), ("property", "Properties")] {
            let mut members = all.iter().filter(|item| item.tag == tag).peekable();
            if members.peek().is_some() {
                writeln!(out, ".SS {title}").unwrap();
            }
            for item in members {
                let head = match tag {
                    "property" => format!("\\fB{}\\fR {}", item.name, escape(&item.signature)),
                    _ => call(item),
                };
                let told = match tag {
                    "property" => format!("\nA change is {}.", api::changes(&item.changes)),
                    _ => String::new(),
                };
                entry(&mut out, &head, &format!("{}{told}", escape(&item.text)));
            }
        }
    }
    out
}

/// The errors, from docs/dbus-api.md.
pub fn errors() -> String {
    let mut out = ".SH ERRORS\n".to_owned();
    for row in rows("docs/dbus-api.md", "| error | when |") {
        entry(&mut out, &inline(&row[0]), &format!("{}.", inline(&row[1])));
    }
    out
}

/// The Reasons with their remedies, from docs/operations.md.
pub fn reasons() -> String {
    let mut out = ".SH REASONS\n".to_owned();
    out.push_str("What \\fBReason\\fR of org.opdbus.Resource says, and what helps.\n");
    for row in rows("docs/operations.md", "| Reason | meaning | remedy |") {
        entry(&mut out, &inline(&row[0]), &format!("{}.\n{}.", inline(&row[1]), inline(&row[2])));
    }
    out
}

#[test]
fn nothing_in_a_text_is_taken_for_a_request() {
    assert_eq!(escape(".TH \\fB a-b"), "\\&.TH \\efB a\\-b");
    assert_eq!(inline("see [there](docs/x.md#y), `--no`"), "see there, \\fB\\-\\-no\\fR");
    assert_eq!(inline("an [x] without a link"), "an [x] without a link");
}
