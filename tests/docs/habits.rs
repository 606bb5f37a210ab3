//! What is promised besides the code: the oldest Rust, licences, and that others' machines run the same tests.

use std::process::Command;

use serde_json::Value;

use op_dbus_testkit::markdown;

fn cargo_toml() -> toml::Table {
    markdown::read("Cargo.toml").parse().unwrap()
}

/// What Cargo.toml names as the oldest Rust.
fn oldest() -> String {
    cargo_toml()["package"]["rust-version"].as_str().unwrap().to_owned()
}

fn version(text: &str) -> Vec<u32> {
    let mut parts: Vec<u32> = text.split('.').map(|part| part.parse().unwrap()).collect();
    parts.resize(3, 0);
    parts
}

#[test]
fn no_dependency_asks_for_a_newer_rust() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version=1", "--manifest-path"])
        .arg(markdown::root().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50, "{} packages", packages.len());
    for package in packages {
        if let Some(wants) = package["rust_version"].as_str() {
            assert!(version(wants) <= version(&oldest()), "{} asks for Rust {wants}", package["name"]);
        }
    }
}

/// clippy refuses what the standard library has only since that version, unless somebody has told it not to.
#[test]
fn clippy_holds_the_oldest_rust() {
    let lints = &cargo_toml()["lints"]["clippy"];
    assert!(
        lints.get("incompatible_msrv").is_none(),
        "Cargo.toml sets incompatible_msrv, which denies in tests/run as it is"
    );
}

#[test]
fn the_oldest_rust_is_named_wherever_it_is_asked_for() {
    for file in ["CONTRIBUTING.md", "docs/operations.md"] {
        assert!(markdown::read(file).contains(&format!("Rust {}", oldest())), "{file} names another Rust");
    }
}

#[test]
fn others_machines_run_the_same_tests() {
    let workflow = markdown::read(".github/workflows/ci.yml");
    assert!(workflow.lines().any(|line| line.trim() == "run: sudo --preserve-env=PATH tests/run"), "{workflow}");
}
