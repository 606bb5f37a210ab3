//! Properties of a living unit, set for good.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use zbus::{Signature, Variant};

use super::{Context, Outcome};
use crate::{
    model::{Name, Reason},
    plugins::systemd::{
        call::CallError,
        entry::{Seen, unit_path},
        properties::{from_json, means_the_same},
    },
};

/// Sets what differs, and reads it back.
pub(super) async fn set(context: &Context, name: &Name, values: &BTreeMap<String, Json>) -> Result<Outcome, CallError> {
    let names: Vec<String> = values.keys().cloned().collect();
    // Followed for its pin: the mirror reads these properties as long as this lives.
    let _news = context.handle.follow(name, names);
    let seen = context.handle.glance(name).await?;
    if seen.facts.load_state == "not-found" {
        return Ok(Outcome::blocked(Reason::UnitNotFound, format!("systemd knows no unit {name}")));
    }
    let differing = differing(&seen, values);
    if differing.is_empty() {
        return Ok(Outcome::done(false));
    }
    let mut typed: Vec<(&str, Variant<'static>)> = Vec::new();
    for (property, value) in &differing {
        let signature =
            seen.facts.property_signatures.get(*property).and_then(|text| Signature::try_from(text.as_str()).ok());
        let Some(signature) = signature else {
            let why = format!("systemd cannot set {property} of {name} live, or has no such property");
            return Ok(Outcome::blocked(Reason::PropertyNotSettable, why));
        };
        match from_json(value, &signature) {
            Ok(value) => typed.push((property, value)),
            Err(error) => {
                return Ok(Outcome::blocked(Reason::PropertyNotSettable, format!("{property} of {name}: {error}")));
            }
        }
    }
    // By the unit's own method and not the Manager's: that one wants a unit that is loaded.
    let id = &seen.facts.id;
    let called = context.handle.unit(&unit_path(id), "SetProperties", &(false, typed)).await;
    let result = called.as_ref().map_or_else(ToString::to_string, |_| "done".to_owned());
    let properties = differing.keys().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
    tracing::info!(unit = id.as_str(), action = "SetProperties", properties, result, "properties of a unit");
    called?;
    let seen = context.handle.read(name).await?;
    let left = self::differing(&seen, values);
    Ok(match left.iter().next() {
        None => Outcome::done(true),
        Some((property, value)) => {
            let kept = seen.facts.properties.get(*property).map_or_else(|| "nothing".to_owned(), ToString::to_string);
            let why = format!("systemd took {property}={value} of {name}, and shows {kept}");
            Outcome::failed(Reason::Differs, why).after_writing()
        }
    })
}

fn differing<'v>(seen: &Seen, values: &'v BTreeMap<String, Json>) -> BTreeMap<&'v String, &'v Json> {
    let holds = |property: &String, value: &Json| {
        let signature = seen.facts.property_signatures.get(property).map(String::as_str).unwrap_or_default();
        seen.facts.properties.get(property).is_some_and(|observed| means_the_same(value, signature, observed))
    };
    values.iter().filter(|(property, value)| !holds(property, value)).collect()
}
