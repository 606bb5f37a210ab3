//! Objects of other D-Bus services: how one differs from the document, and the calls that mend it.

mod call;

use std::collections::BTreeMap;

use serde_json::Value as Json;
use zbus::Signature;

pub use self::call::ObjectCall;
use self::call::{Meaning, wrong_type};
use super::{
    Inventory,
    assess::{Assessment, Why},
    protected::is_protected_call,
};
use crate::{
    desired::{Ensure, ObjectSpec, PropertySpec},
    model::{
        Difference, Kind, Name, ObjectFacts, Observed, REDACTED, Reason, ResourceId, TypedValue, Value, is_secret_key,
        redacted,
    },
    typed::{Mismatch, canonical, single},
};

/// What is done to an object.
#[derive(Debug, Clone, PartialEq)]
pub enum ObjectOp {
    /// Make it by that call, until it is there.
    Create(ObjectCall),
    /// Remove it by that call, until it is gone.
    Remove(ObjectCall),
    /// Set properties by that call, until they have these values.
    Set {
        /// The call.
        call: ObjectCall,
        /// The properties that it sets.
        properties: BTreeMap<String, TypedValue>,
    },
    /// Let one that is on its way arrive, and bring the properties of one that was just made to what the document says:
    /// which calls that takes is known once it is there.
    Settle,
}

impl ObjectOp {
    /// The call, where it is known.
    #[must_use]
    pub const fn call(&self) -> Option<&ObjectCall> {
        match self {
            Self::Create(call) | Self::Remove(call) | Self::Set { call, .. } => Some(call),
            Self::Settle => None,
        }
    }
}

/// A step's worth of work on an object, with the fields that it changes.
pub(super) type Part = (ObjectOp, Vec<Difference>);

/// Why what is known of an object cannot be believed; `None` for resources of other kinds.
#[must_use]
pub fn object_away(observed: &Observed, id: &ResourceId) -> Option<(Reason, String)> {
    if id.kind != Kind::Object {
        return None;
    }
    match observed.objects.get(&id.name) {
        None => Some((Reason::BackendAway, "it was not read yet".to_owned())),
        Some(facts) => facts.away.clone(),
    }
}

/// Holds an object against what its service shows.
pub(super) fn assess_object(name: &Name, spec: &ObjectSpec, observed: &Observed, inventory: &Inventory) -> Assessment {
    let Some(facts) = observed.objects.get(name) else { return Assessment::default() };
    let mut out = Assessment { present: facts.exists, ..Assessment::default() };
    let compared = compare(name, spec, facts);
    out.settling = compared.is_settling();
    out.differences = compared.differences;
    // What cannot be believed says nothing of what could be done about it.
    out.blocked.clone_from(&facts.away);
    if out.differences.is_empty() || out.blocked.is_some() {
        return out;
    }
    out.blocked = compared.blocked;
    if out.blocked.is_none() {
        match parts(name, spec, facts) {
            Ok(parts) => out.blocked = parts.iter().find_map(|(op, _)| protected_why(op.call()?, spec, inventory)),
            Err(why) => out.blocked = Some(why),
        }
    }
    out
}

/// The work that brings an object to what the document says, in order.
///
/// # Errors
/// Why it cannot be done.
pub fn object_work(name: &Name, spec: &ObjectSpec, facts: &ObjectFacts) -> Result<Vec<ObjectOp>, (Reason, String)> {
    if let Some(why) = compare(name, spec, facts).blocked {
        return Err(why);
    }
    Ok(parts(name, spec, facts)?.into_iter().map(|(op, _)| op).collect())
}

/// Whether the object has these values.
#[must_use]
pub fn has_values(facts: &ObjectFacts, properties: &BTreeMap<String, TypedValue>) -> bool {
    facts.exists && properties.iter().all(|(name, wanted)| facts.properties.get(name) == Some(wanted))
}

/// The calls for what differs. Nothing differs that could not be compared.
pub(super) fn parts(name: &Name, spec: &ObjectSpec, facts: &ObjectFacts) -> Result<Vec<Part>, Why> {
    let compared = compare(name, spec, facts);
    let meaning = |sets| Meaning { name, spec, facts, sets, wanted: &compared.wanted };
    match (spec.ensure, facts.exists) {
        (Some(Ensure::Absent), true) => {
            let Some(call) = &spec.remove else { return Ok(Vec::new()) };
            let call = meaning(None).call(call, "/remove")?;
            return Ok(vec![(ObjectOp::Remove(call), compared.differences)]);
        }
        (_, false) => {
            let Some(call) = spec.create.as_ref().filter(|_| spec.ensure == Some(Ensure::Present)) else {
                return Ok(Vec::new());
            };
            let call = meaning(None).call(call, "/create")?;
            let mut parts = vec![(ObjectOp::Create(call), compared.differences)];
            if !spec.properties.is_empty() {
                parts.push((ObjectOp::Settle, Vec::new()));
            }
            return Ok(parts);
        }
        (_, true) => {}
    }
    let mut parts: Vec<(ObjectCall, BTreeMap<String, TypedValue>, Vec<Difference>)> = Vec::new();
    for (property, wanted) in &compared.differing {
        let Some(declared) = spec.properties.get(property) else { continue };
        let meaning = meaning(Some((property.as_str(), wanted)));
        let call = match &declared.set {
            Some(call) => meaning.call(call, &format!("/properties/{property}/set"))?,
            None => meaning.set(property, wanted)?,
        };
        let field = format!("properties.{property}");
        let change = compared.differences.iter().find(|difference| difference.field == field).cloned();
        // What one call sets, it sets once.
        if let Some((_, properties, changes)) = parts.iter_mut().find(|(other, ..)| *other == call) {
            properties.insert(property.clone(), wanted.clone());
            changes.extend(change);
        } else {
            let properties = BTreeMap::from([(property.clone(), wanted.clone())]);
            parts.push((call, properties, change.into_iter().collect()));
        }
    }
    let set = |(call, properties, changes)| (ObjectOp::Set { call, properties }, changes);
    let mut parts: Vec<Part> = parts.into_iter().map(set).collect();
    if !compared.passing.is_empty() {
        parts.push((ObjectOp::Settle, compared.passing));
    }
    Ok(parts)
}

/// The place of what stands there in that object's entry.
fn pointer(name: &Name, written: &str) -> String {
    format!("/dbus/objects/{name}{written}")
}

/// An object against the document.
#[derive(Debug, Default)]
struct Compared {
    differences: Vec<Difference>,
    /// Why it cannot be mended, as far as it is known without its calls.
    blocked: Option<Why>,
    /// Wanted values, typed.
    wanted: BTreeMap<String, TypedValue>,
    /// Those of them that differ and can be set.
    differing: BTreeMap<String, TypedValue>,
    /// Those of the differences that are only waited for.
    passing: Vec<Difference>,
}

impl Compared {
    /// It is on its way, and nothing else is wrong with it.
    fn is_settling(&self) -> bool {
        !self.passing.is_empty() && self.passing.len() == self.differences.len()
    }
}

fn compare(name: &Name, spec: &ObjectSpec, facts: &ObjectFacts) -> Compared {
    let mut out = Compared::default();
    let service = &spec.service;
    if spec.ensure == Some(Ensure::Absent) {
        if facts.exists {
            out.differences.push(Difference::new("ensure", "absent", "present"));
        }
        return out;
    }
    if !facts.exists {
        if spec.ensure.is_some() || !spec.properties.is_empty() {
            out.differences.push(Difference::new("ensure", "present", "absent"));
            if spec.create.is_none() {
                let at = if facts.path.is_empty() { spec.path.text() } else { facts.path.clone() };
                let why = format!(
                    "{service} has no object {at} with the interface {}, and the document does not say how it is made",
                    spec.interface
                );
                out.blocked = Some((Reason::ObjectMissing, why));
            }
        }
        return out;
    }
    for (property, declared) in &spec.properties {
        let observed = facts.properties.get(property);
        let mut differs = |desired: &Json, why: Option<Why>| {
            out.differences.push(Difference {
                field: format!("properties.{property}"),
                desired: shown(property, Some(desired)),
                observed: shown(property, observed.map(|typed| &typed.value)),
            });
            if out.blocked.is_none() {
                out.blocked = why;
            }
        };
        let Some(known) = facts.property_types.get(property) else {
            let place = pointer(name, &spec.written(&format!("/properties/{property}")));
            let why = format!("{place}: {} of {service} has no property {property}", spec.interface);
            differs(&declared.value, Some((Reason::PropertyNotSettable, why)));
            continue;
        };
        let Some(signature) = single(&known.signature) else { continue };
        let place = pointer(name, &spec.value_written(property));
        let value = match canonical(&declared.value, &signature) {
            Ok(value) => value,
            Err(error) => {
                let place = format!("{place}{}", error.pointer);
                differs(&declared.value, Some(wrong_type(&place, is_secret_key(property), error)));
                continue;
            }
        };
        let wanted = TypedValue { signature: known.signature.clone(), value };
        if let Some(odd) = facts.odd.get(property) {
            differs(&wanted.value, Some((Reason::WrongType, format!("{property} of {service}: {odd}"))));
            continue;
        }
        let passing = match passing(declared, &signature) {
            Ok(passing) => passing,
            Err((index, error)) => {
                let place = spec.written(&format!("/properties/{property}/passing/{index}{}", error.pointer));
                let why = wrong_type(&pointer(name, &place), is_secret_key(property), error);
                differs(&wanted.value, Some(why));
                continue;
            }
        };
        if observed.is_some_and(|is| *is != wanted && passing.contains(&is.value)) {
            differs(&wanted.value, None);
            out.passing.extend(out.differences.last().cloned());
        } else if observed != Some(&wanted) {
            let read_only = (declared.set.is_none() && !known.writable).then(|| {
                let why = format!(
                    "{place}: {service} lets nobody set {property}; name the method that does: {{\"value\": ..., \
                     \"set\": {{\"method\": ...}}}}"
                );
                (Reason::ReadOnly, why)
            });
            differs(&wanted.value, read_only);
            out.differing.insert(property.clone(), wanted.clone());
        }
        out.wanted.insert(property.clone(), wanted);
    }
    out
}

/// The canonical JSON of the values that a property goes through; of one that is of another type, its place among them.
fn passing(declared: &PropertySpec, signature: &Signature) -> Result<Vec<Json>, (usize, Mismatch)> {
    let values = declared.passing.iter().enumerate();
    values.map(|(index, value)| canonical(value, signature).map_err(|error| (index, error))).collect()
}

/// Why that call is not made, if so.
fn protected_why(call: &ObjectCall, spec: &ObjectSpec, inventory: &Inventory) -> Option<Why> {
    if spec.allow_protected {
        return None;
    }
    is_protected_call(call, inventory).then(|| {
        let text = format!(
            "{}.{} of {} is never called unless the entry says \"allow_protected\": true",
            call.interface, call.method, call.service
        );
        (Reason::Protected, text)
    })
}

/// A value as differences show it.
fn shown(property: &str, value: Option<&Json>) -> Value {
    match value {
        None => Value::Absent,
        Some(_) if is_secret_key(property) => Value::Str(REDACTED.to_owned()),
        Some(Json::Bool(value)) => (*value).into(),
        Some(Json::String(text)) => text.as_str().into(),
        Some(Json::Number(number)) => {
            let unsigned = number.as_u64().map(Value::UInt);
            unsigned.or(number.as_i64().map(Value::Int)).unwrap_or_else(|| Value::Str(number.to_string()))
        }
        Some(Json::Array(items)) if items.iter().all(Json::is_string) => {
            Value::Strs(items.iter().filter_map(Json::as_str).map(str::to_owned).collect())
        }
        Some(other) => Value::Str(redacted(other).to_string()),
    }
}

#[cfg(test)]
mod tests;
