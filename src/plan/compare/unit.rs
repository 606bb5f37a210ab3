//! A unit against what systemd says, by the definitions of enabled, masked and active in docs/document.md.

use serde_json::Value as Json;

use super::Differences;
use crate::{
    desired::{ActiveState, UnitSpec},
    model::{Difference, UnitFacts, Value},
};

/// The fields of a unit.
pub(in crate::plan) fn unit_differences(spec: &UnitSpec, facts: &UnitFacts) -> Vec<Difference> {
    let mut out = Differences::default();
    let masked = is_masked(facts, spec.masked == Some(false));
    out.wanted("masked", spec.masked.map(Value::Bool), masked.into());
    // A mask implies not enabled: once it is there, nothing is left to take away.
    let enabled = is_enabled(facts);
    if !(spec.masked == Some(true) && spec.enabled == Some(false)) {
        out.wanted("enabled", spec.enabled.map(Value::Bool), enabled.into());
    }
    let wanted = spec.active_state.or((spec.masked == Some(true)).then_some(ActiveState::Inactive));
    let holds = match wanted {
        None => true,
        Some(ActiveState::Active) => is_active(facts),
        Some(ActiveState::Inactive) => is_inactive(facts),
    };
    if !holds {
        let desired = if wanted == Some(ActiveState::Active) { "active" } else { "inactive" };
        out.must_be("active_state", desired.into(), facts.active_state.as_str().into());
    }
    for (name, desired) in &spec.properties {
        let observed = facts.properties.get(name);
        if !observed.is_some_and(|observed| same_json(desired, observed)) {
            out.0.push(Difference {
                field: format!("properties.{name}"),
                desired: shown(Some(desired)),
                observed: shown(observed),
            });
        }
    }
    out.0
}

/// Enabled for good: `enabled-runtime` is not enough.
pub(in crate::plan) fn is_enabled(facts: &UnitFacts) -> bool {
    match facts.unit_file_state.as_str() {
        "enabled" => true,
        "linked" | "static" | "alias" => facts.has_wants_link,
        _ => false,
    }
}

/// Masked for good; a runtime mask counts only where no mask at all is wanted.
fn is_masked(facts: &UnitFacts, runtime_counts: bool) -> bool {
    match facts.unit_file_state.as_str() {
        "masked" => true,
        "masked-runtime" => runtime_counts,
        // systemd asks for no file state of a unit that it holds masked in memory alone.
        "" => facts.load_state == "masked",
        _ => false,
    }
}

fn is_active(facts: &UnitFacts) -> bool {
    let stopping = facts.job.as_ref().is_some_and(|job| job.kind == "stop");
    match facts.active_state.as_str() {
        "active" | "reloading" | "refreshing" => !stopping,
        "inactive" => facts.oneshot_succeeded,
        _ => false,
    }
}

fn is_inactive(facts: &UnitFacts) -> bool {
    matches!(facts.active_state.as_str(), "inactive" | "failed" | "")
}

/// Equal as systemd means them: 1 and 1.0 are the same number, `"infinity"` is the largest one.
fn same_json(a: &Json, b: &Json) -> bool {
    let number = |value: &Json| match value {
        Json::String(text) if text == "infinity" => Some(u64::MAX),
        value => value.as_u64(),
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        _ => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b).is_eq(),
            _ => a == b,
        },
    }
}

fn shown(value: Option<&Json>) -> Value {
    match value {
        None | Some(Json::Null) => Value::Absent,
        Some(Json::Bool(value)) => (*value).into(),
        Some(Json::String(text)) => text.as_str().into(),
        Some(Json::Number(number)) => {
            let unsigned = number.as_u64().map(Value::UInt);
            unsigned.or(number.as_i64().map(Value::Int)).unwrap_or_else(|| Value::Str(number.to_string()))
        }
        Some(Json::Array(items)) => Value::Strs(
            items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect(),
        ),
        Some(object @ Json::Object(_)) => Value::Str(object.to_string()),
    }
}
