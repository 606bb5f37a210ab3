//! README.md names every part: each module and folder, each dependency, each page.

use std::{fs, path::Path};

use crate::markdown;

#[test]
fn every_part_is_named() {
    let readme = markdown::read("README.md");
    for entry in fs::read_dir(markdown::root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let shown = if path.is_dir() { format!("`src/{name}/`") } else { format!("`src/{name}`") };
        // The library's root has the same table as its documentation.
        assert!(name == "lib.rs" || readme.contains(&shown), "README.md does not name {shown}");
    }
    for folder in ["dbus-interfaces", "dist", "tests"] {
        assert!(readme.contains(&format!("`{folder}/`")), "README.md does not name {folder}/");
    }
    for file in markdown::documents().iter().filter(|file| *file != Path::new("README.md")) {
        assert!(readme.contains(&format!("]({})", file.display())), "README.md does not lead to {}", file.display());
    }
}

#[test]
fn every_dependency_is_named() {
    let cargo: toml::Table = markdown::read("Cargo.toml").parse().unwrap();
    let readme = markdown::read("README.md");
    let table = readme.split_once("| crate | for |").expect("the table of crates").1;
    let named: Vec<&str> = table
        .lines()
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with('|'))
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|names| names.split(',').map(str::trim))
        .filter(|name| !name.is_empty() && !name.starts_with('-'))
        .collect();
    for dependency in cargo["dependencies"].as_table().unwrap().keys() {
        assert!(named.contains(&dependency.as_str()), "README.md does not name {dependency}");
    }
    for name in named {
        assert!(cargo["dependencies"].get(name).is_some(), "README.md names {name}, which is no dependency");
    }
}
