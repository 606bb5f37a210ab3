//! CONTRIBUTING.md names every part: each module and folder, each dependency; the toy plugin that it shows is the one that
//! is tested.

use std::fs;

use op_dbus_testkit::markdown;

const FILE: &str = "CONTRIBUTING.md";

#[test]
fn every_part_is_named() {
    let text = markdown::read(FILE);
    for entry in fs::read_dir(markdown::root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let shown = if path.is_dir() { format!("`src/{name}/`") } else { format!("`src/{name}`") };
        // The library's root has the same table as its documentation.
        assert!(name == "lib.rs" || text.contains(&shown), "{FILE} does not name {shown}");
    }
    for folder in ["dbus-interfaces", "dist", "nix", "tests"] {
        assert!(text.contains(&format!("`{folder}/`")), "{FILE} does not name {folder}/");
    }
}

#[test]
fn every_dependency_is_named() {
    let cargo: toml::Table = markdown::read("Cargo.toml").parse().unwrap();
    let text = markdown::read(FILE);
    let table = text.split_once("| crate | for |").expect("the table of crates").1;
    let named: Vec<&str> = table
        .lines()
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with('|'))
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|names| names.split(',').map(str::trim))
        .filter(|name| !name.is_empty() && !name.starts_with('-'))
        .collect();
    for dependency in cargo["dependencies"].as_table().unwrap().keys() {
        assert!(named.contains(&dependency.as_str()), "{FILE} does not name {dependency}");
    }
    for name in named {
        assert!(cargo["dependencies"].get(name).is_some(), "{FILE} names {name}, which is no dependency");
    }
}

/// What tests/toy_plugin.rs has between the marks of a step, as a block of code, without the indentation that it has there.
pub fn toy(step: &str) -> String {
    let source = markdown::read("tests/toy_plugin.rs");
    let (open, close) = (format!("// step: {step}\n"), format!("// end: {step}\n"));
    let (before, rest) = source.split_once(&open).unwrap_or_else(|| panic!("there is no {open}"));
    let (code, _) = rest.split_once(&close).unwrap_or_else(|| panic!("there is no {close}"));
    let depth = before.len() - before.trim_end_matches(' ').len();
    let lines: Vec<&str> = code.trim_end().lines().map(|line| line.get(depth..).unwrap_or_default()).collect();
    format!("```rust\n{}\n```", lines.join("\n"))
}
