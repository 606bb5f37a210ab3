//! docs/objects.md: its presets come from their files, its list of methods that are never called from the code.

use std::fmt::Write as _;

use op_dbus::{desired, plan::PROTECTED_CALLS};
use serde_json::json;

/// Each preset: what it is for, what it takes, an example, and the calls that the example stands for.
pub fn presets() -> String {
    let mut out = String::new();
    for preset in desired::presets() {
        writeln!(out, "### {}\n\n{}\n\n| with | |\n|---|---|", preset.name, preset.about).unwrap();
        for (name, parameter) in &preset.parameters {
            let must = if parameter.required { " Must be given." } else { "" };
            writeln!(out, "| `{name}` | {}{must} |", parameter.about.replace('|', "\\|")).unwrap();
        }
        let entry = json!({ "preset": preset.name, "with": preset.example });
        let document = json!({ "dbus": { "objects": { "example": entry } } });
        writeln!(out, "\n```json\n{document:#}\n```\n\n```text\n{}\n```\n", preset.busctl.join("\n")).unwrap();
    }
    out
}

/// What `dbus.never_call` of the configuration holds where it is not set.
pub fn never_called() -> String {
    format!("```text\n{}\n```", PROTECTED_CALLS.join("\n"))
}
