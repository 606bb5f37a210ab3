//! Desired against observed, field by field, one file per kind.

mod bridge;
mod guest;
mod port;
mod unit;

pub(super) use bridge::bridge_differences;
pub(super) use guest::{guest_differences, plugged_differences};
pub(super) use port::{device_difference, port_differences, port_health};
pub(super) use unit::{is_enabled, unit_differences};

use crate::{
    desired::{OptionalMap, Want},
    model::{Difference, REDACTED, StringMap, Value, is_secret_key},
};

/// Collects differences.
#[derive(Debug, Default)]
struct Differences(Vec<Difference>);

impl Differences {
    /// A field that must have that value.
    fn must_be(&mut self, field: &str, desired: Value, observed: Value) {
        if desired != observed {
            self.0.push(Difference { field: field.to_owned(), desired, observed });
        }
    }

    /// A field that the document may leave alone.
    fn wanted(&mut self, field: &str, desired: Option<Value>, observed: Value) {
        if let Some(desired) = desired {
            self.must_be(field, desired, observed);
        }
    }

    /// A map that is owned key by key; secrets are compared and not shown.
    fn map(&mut self, field: &str, desired: &OptionalMap, observed: &StringMap) {
        for (key, desired) in desired {
            let observed = observed.get(key);
            if desired.as_ref() == observed {
                continue;
            }
            let shown = |value: Option<&String>| match value {
                Some(_) if is_secret_key(key) => Value::Str(REDACTED.to_owned()),
                value => Value::text(value.map(String::as_str)),
            };
            self.0.push(Difference {
                field: format!("{field}.{key}"),
                desired: shown(desired.as_ref()),
                observed: shown(observed),
            });
        }
    }
}

/// What a field that can be unset must be; `None` where the document leaves it alone.
fn want<T>(want: &Want<T>, value: impl FnOnce(&T) -> Value) -> Option<Value> {
    match want {
        Want::Unmanaged => None,
        Want::Unset => Some(Value::Absent),
        Want::Is(wanted) => Some(value(wanted)),
    }
}

/// OVSDB keeps `system` as the empty text.
fn stored_type(name: &str) -> &str {
    if name == "system" { "" } else { name }
}

/// ... and people read it as `system`.
fn shown_type(name: &str) -> Value {
    Value::from(if name.is_empty() { "system" } else { name })
}

/// The text of an optional column: empty = not set.
fn optional_text(text: &str) -> Value {
    Value::text((!text.is_empty()).then_some(text))
}
