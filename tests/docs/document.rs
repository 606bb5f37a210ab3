//! docs/document.md: its tables of fields come from the schema, its examples are documents, its faults are what the
//! parser finds, and every code and every field has its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

use op_dbus::{
    desired::{DocumentError, parse, schema},
    plan::{PROTECTED_STEMS, PROTECTED_UNITS},
};
use op_dbus_testkit::markdown::{self, Block};
use serde_json::Value;

const FILE: &str = "docs/document.md";

/// Lines of names are no longer.
const NAMES_WIDTH: usize = 110;

/// Name of the schema of the whole document, which is no definition of its own.
const ROOT: &str = "Document";

/// The schemas of objects with fields, by name.
fn objects() -> Vec<(String, Value)> {
    let whole = schema();
    let named = whole["$defs"].as_object().unwrap().clone().into_iter();
    let with_fields = named.filter(|(_, schema)| schema["properties"].is_object());
    std::iter::once((ROOT.to_owned(), whole)).chain(with_fields).collect()
}

/// Units that op-dbus never touches.
pub fn never_touched() -> String {
    let stems = PROTECTED_STEMS.iter().chain(&["user@"]).map(|stem| format!("{stem}*"));
    let names = stems.chain(PROTECTED_UNITS.iter().map(|unit| (*unit).to_owned()));
    let mut lines = vec![String::new()];
    for name in names {
        let full = lines.last().is_some_and(|line| line.len() + name.len() >= NAMES_WIDTH);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if line.is_empty() { "" } else { "  " });
            line.push_str(&name);
        }
    }
    format!("```text\n{}\n```", lines.join("\n"))
}

/// Where a definition is described.
fn link(definition: &str) -> String {
    let section = match definition {
        "Systemd" | "Unit" => "units",
        "Ovsdb" | "Bridge" => "bridges",
        "Port" => "ports",
        "Packagekit" | "Package" => "packages",
        "Lxc" | "Container" | "ContainerSource" | "Network" | "Mount" | "Features" | "Startup" | "Template" => {
            "containers"
        }
        "Dbus" | "Object" | "Property" | "Call" | "Lookup" | "Match" => "objects",
        "Value" => return "[value](objects.md#values)".to_owned(),
        other => panic!("{other} has no section"),
    };
    let name = match definition {
        "Systemd" => "units",
        "Ovsdb" => "bridges",
        "Lxc" => "containers",
        "Packagekit" => "packages",
        "Dbus" => "objects",
        "ContainerSource" => "source",
        other => &other.to_lowercase(),
    };
    format!("[{name}](#{section})")
}

fn referred(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/$defs/")
}

/// The words of a definition that is an enumeration, with their meanings.
fn words(whole: &Value, definition: &str) -> Option<Vec<(String, String)>> {
    let word = |schema: &Value| {
        let text = schema["description"].as_str().unwrap_or_default().trim_end_matches('.').to_owned();
        Some((schema["const"].as_str()?.to_owned(), text))
    };
    whole["$defs"][definition]["oneOf"].as_array()?.iter().map(word).collect()
}

fn alternatives(words: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    words.into_iter().map(|word| format!("`\"{}\"`", word.as_ref())).collect::<Vec<_>>().join(", ")
}

/// What a field takes, in words.
fn takes(whole: &Value, field: &Value) -> String {
    if let Some(name) = referred(field) {
        return words(whole, name).map_or_else(|| link(name), |words| alternatives(words.iter().map(|(word, _)| word)));
    }
    if let Some(options) = field["anyOf"].as_array() {
        return options.iter().map(|option| takes(whole, option)).collect::<Vec<_>>().join(", ");
    }
    if let Some(words) = field["enum"].as_array() {
        return alternatives(words.iter().filter_map(Value::as_str));
    }
    if !field["const"].is_null() {
        return format!("`{}`", field["const"]);
    }
    let kinds: Vec<&str> = match &field["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    let kinds = kinds.into_iter().map(|kind| match kind {
        "boolean" => "`true`, `false`".to_owned(),
        "null" => "`null`".to_owned(),
        "string" => "a text".to_owned(),
        // The widest range that JSON's numbers have here is no bound that a person needs to be told.
        "integer" if field["minimum"].as_u64().is_some() => {
            format!("a number from {} to {}", field["minimum"], field["maximum"])
        }
        "integer" => "a whole number".to_owned(),
        "number" => format!("a number, with a fraction or not, from {} to {}", field["minimum"], field["maximum"]),
        "array" => match referred(&field["items"]) {
            Some(name) => format!("a list of {}", link(name)),
            None => match takes(whole, &field["items"]).strip_prefix("a number") {
                Some(range) => format!("a list of numbers{range}"),
                None => "a list of texts".to_owned(),
            },
        },
        // Of several forms of an entry the first is the full one.
        "object" if field["additionalProperties"]["anyOf"].is_array() && field["propertyNames"]["maxLength"] == 255 => {
            let forms = field["additionalProperties"]["anyOf"].as_array().unwrap().iter();
            format!("NAME: {}", forms.filter_map(referred).map(link).collect::<Vec<_>>().join(", "))
        }
        "object" => match referred(&field["additionalProperties"]) {
            Some(name) => format!("NAME: {}", link(name)),
            None => format!("KEY: {}", takes(whole, &field["additionalProperties"])),
        },
        other => panic!("a field of type {other}"),
    });
    kinds.collect::<Vec<_>>().join(", ")
}

/// Values that the page's own examples give to fields, by the schema's object and the field: the shortest of each.
type Examples = BTreeMap<(String, String), String>;

/// The longest example that a table shows; a longer one is shown by its beginning.
const EXAMPLE_CHARS: usize = 44;

/// Walks a value beside what the schema says of it, and notes the value of each field.
fn collect(whole: &Value, schema: &Value, object: &str, value: &Value, found: &mut Examples) {
    if let Some(name) = referred(schema) {
        return collect(whole, &whole["$defs"][name], name, value, found);
    }
    for option in schema["anyOf"].as_array().into_iter().flatten() {
        collect(whole, option, object, value, found);
    }
    if let Some(items) = value.as_array() {
        for item in items {
            collect(whole, &schema["items"], object, item, found);
        }
    }
    let Some(members) = value.as_object() else { return };
    for (key, member) in members {
        let field = &schema["properties"][key];
        if field.is_null() {
            collect(whole, &schema["additionalProperties"], object, member, found);
            continue;
        }
        let text = spaced(member);
        let shown = found.entry((object.to_owned(), key.clone())).or_insert_with(|| text.clone());
        // `null` is said in words beside it.
        if *shown == "null" || (text.len() < shown.len() && text != "null") {
            *shown = text;
        }
        collect(whole, field, object, member, found);
    }
}

/// JSON in one line, as a person writes it.
fn spaced(value: &Value) -> String {
    let list = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Array(items) => format!("[{}]", list(items.iter().map(spaced).collect())),
        Value::Object(members) if members.is_empty() => "{}".to_owned(),
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| format!("\"{key}\": {}", spaced(value)));
            format!("{{ {} }}", list(members.collect()))
        }
        other => other.to_string(),
    }
}

/// The examples of all fields, from the documents that the pages show.
fn examples() -> Examples {
    let whole = schema();
    let mut found = Examples::new();
    for file in markdown::documents() {
        let blocks = markdown::blocks(&markdown::read(file.to_str().unwrap()));
        let documents = blocks.iter().filter(|block| block.info.starts_with("json") && block.info != "json refused");
        for block in documents {
            collect(&whole, &whole, ROOT, &serde_json::from_str(&block.text).unwrap(), &mut found);
        }
    }
    found
}

/// An example as the table shows it.
fn shown(field: &str, example: &str) -> String {
    let text = format!("\"{field}\": {example}");
    let short: String = text.chars().take(EXAMPLE_CHARS).collect();
    if short.len() == text.len() { format!("`{text}`") } else { format!("`{} …`", short.trim_end()) }
}

/// The table of an object's fields.
pub fn fields(object: &str) -> String {
    let whole = schema();
    let examples = examples();
    let (_, schema) = objects().into_iter().find(|(name, _)| name == object).expect("a schema");
    let must = |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let mut out = "| field | value | meaning | example |\n|---|---|---|---|\n".to_owned();
    for (name, field) in schema["properties"].as_object().unwrap() {
        let mut meaning = field["description"].as_str().expect("a description").replace('\n', " ");
        if must(name) {
            meaning.push_str(" Must be given.");
        }
        let enumeration = std::iter::once(field).chain(field["anyOf"].as_array().into_iter().flatten());
        if let Some(words) = enumeration.filter_map(referred).find_map(|name| words(&whole, name)) {
            let words: Vec<String> = words.into_iter().map(|(word, text)| format!("`{word}`: {text}")).collect();
            write!(meaning, " {}.", words.join("; ")).unwrap();
        }
        let example = examples.get(&(object.to_owned(), name.clone())).map(|example| shown(name, example));
        let cells = [takes(&whole, field), meaning, example.unwrap_or_default()].map(|cell| cell.replace('|', "\\|"));
        writeln!(out, "| `{name}` | {} |", cells.join(" | ")).unwrap();
    }
    out
}

#[test]
fn every_object_of_the_schema_has_its_table() {
    let text = markdown::read(FILE);
    for (name, _) in objects() {
        assert!(text.contains(&format!("<!-- made: fields of {name} -->\n")), "{FILE} has no table for {name}");
    }
}

#[test]
fn every_field_of_the_schema_is_in_a_table() {
    let text = markdown::read(FILE);
    for (object, schema) in objects() {
        let table = text
            .split_once(&format!("<!-- made: fields of {object} -->"))
            .and_then(|(_, rest)| rest.split_once("<!-- end"))
            .unwrap_or_else(|| panic!("no table for {object}"))
            .0;
        for field in schema["properties"].as_object().unwrap().keys() {
            assert!(table.contains(&format!("\n| `{field}` |")), "{field} of {object} is not in {FILE}");
        }
    }
}

#[test]
fn every_field_has_an_example() {
    let examples = examples();
    let mut without = String::new();
    for (object, schema) in objects() {
        for field in schema["properties"].as_object().unwrap().keys() {
            if !examples.contains_key(&(object.clone(), field.clone())) {
                writeln!(without, "{field} of {object}").unwrap();
            }
        }
    }
    assert!(without.is_empty(), "no document that a page shows has\n{without}");
}

/// The examples go through `op-dbus check` as anybody would have it check them.
#[test]
fn op_dbus_check_takes_every_example() {
    for Block { text, line, .. } in markdown::blocks(&markdown::read(FILE)).iter().filter(|block| block.info == "json")
    {
        let mut check = Command::new(env!("CARGO_BIN_EXE_op-dbus"))
            .args(["check", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("op-dbus starts");
        check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = check.wait_with_output().unwrap();
        assert!(output.status.success(), "{FILE}:{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The faults of a document as `op-dbus check` prints them, without the file's name.
fn faults(document: &str) -> String {
    let Err(DocumentError::Invalid(faults)) = parse(document) else { panic!("this is no document with faults") };
    let mut out = String::new();
    for fault in faults {
        let colon = if fault.pointer.is_empty() { "" } else { ": " };
        writeln!(out, "{}{colon}{} [{}]", fault.pointer, fault.message, fault.code).unwrap();
    }
    out
}

/// All documents of the examples are documents, in every page; those that are marked as refused are refused with the
/// faults of the block that follows.
#[test]
fn every_example_is_what_it_says_it_is() {
    let mut good = 0;
    for file in markdown::documents() {
        let blocks = markdown::blocks(&markdown::read(file.to_str().unwrap()));
        for (at, Block { info, text, line }) in blocks.iter().enumerate() {
            let place = format!("{}:{line}", file.display());
            match info.as_str() {
                "json refused" => {
                    let next = blocks.get(at + 1).filter(|next| next.info == "text");
                    let shown = next.unwrap_or_else(|| panic!("{place}: no block of faults follows"));
                    assert_eq!(shown.text, faults(text), "{place}");
                }
                // With or without the name of the file that it is.
                info if info.split(' ').next() == Some("json") => {
                    good += 1;
                    parse(text).unwrap_or_else(|error| panic!("{place}: {error}"));
                }
                _ => {}
            }
        }
    }
    assert!(good > 5, "only {good} examples were found");
}

/// The codes of faults, from their source: they are constants.
#[test]
fn every_code_of_a_fault_is_explained() {
    let code = markdown::read("src/desired/fault.rs");
    let codes: BTreeSet<&str> = code
        .lines()
        .filter(|line| line.trim_start().starts_with("pub const "))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    assert!(codes.len() > 10, "{codes:?}");
    let text = markdown::read(FILE);
    let explained = text.split_once("| code | meaning |").expect("the table of codes").1;
    let explained: BTreeSet<&str> =
        explained.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(explained, codes);
}
