//! A call of another service's method, with all that it will be called with: references resolved, values typed.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};
use zbus::Signature;

use super::pointer;
use crate::{
    desired::{Call, ObjectBus, ObjectPlace, ObjectSpec, Reference, WaitFor, references},
    model::{Name, ObjectFacts, REDACTED, Reason, TypedValue, is_secret_key, redacted},
    plan::assess::Why,
    typed::{Mismatch, busctl_arguments, canonical, quoted, sequence, single},
};

/// The standard interface of properties.
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A call, exactly as it will be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectCall {
    /// The bus; `None` = the one that op-dbus itself is on.
    pub bus: Option<ObjectBus>,
    /// The service.
    pub service: String,
    /// The object.
    pub path: String,
    /// The interface.
    pub interface: String,
    /// The method.
    pub method: String,
    /// Signature of the arguments.
    pub signature: String,
    /// The arguments, canonical JSON of these types.
    pub args: Vec<Json>,
    /// The bus may start the service for it.
    pub activate: bool,
    /// What shows that it has finished.
    pub wait_for: WaitFor,
    /// An argument is a secret: the call is not shown in full.
    pub secret: bool,
}

impl ObjectCall {
    /// The call as busctl(1) would make it; secrets are not shown.
    #[must_use]
    pub fn busctl(&self) -> String {
        let types = sequence(&self.signature).unwrap_or_default();
        let bus = if self.bus == Some(ObjectBus::Session) { " --user" } else { "" };
        let place = format!("{} {}", quoted(&self.service), quoted(&self.path));
        let shown: Vec<Json> = self.args.iter().map(redacted).collect();
        if let (PROPERTIES, "Set", [Json::String(interface), Json::String(property), value]) =
            (self.interface.as_str(), self.method.as_str(), shown.as_slice())
        {
            let args = if self.secret {
                REDACTED.to_owned()
            } else {
                busctl_arguments(std::slice::from_ref(value), &[Signature::Variant])
            };
            return format!("busctl{bus} set-property {place} {interface} {property} {args}");
        }
        let mut text = format!("busctl{bus} call {place} {} {}", self.interface, self.method);
        if !types.is_empty() {
            text.push(' ');
            text.push_str(&quoted(&self.signature));
            text.push(' ');
            text.push_str(&if self.secret { REDACTED.to_owned() } else { busctl_arguments(&shown, &types) });
        }
        text
    }
}

/// What a call's references stand for.
pub(super) struct Meaning<'a> {
    pub(super) name: &'a Name,
    pub(super) spec: &'a ObjectSpec,
    pub(super) facts: &'a ObjectFacts,
    /// The property that the call sets, with its value.
    pub(super) sets: Option<(&'a str, &'a TypedValue)>,
    /// Wanted values of all properties, as far as they are of their types.
    pub(super) wanted: &'a BTreeMap<String, TypedValue>,
}

impl Meaning<'_> {
    /// A call with its references resolved and its arguments typed. `part` is its place in the object in full.
    pub(super) fn call(&self, call: &Call, part: &str) -> Result<ObjectCall, Why> {
        let at = |part: &str| pointer(self.name, &self.spec.written(part));
        let path = match &call.path {
            None => self.object_path()?.to_owned(),
            Some(path) => self.place(path)?.to_owned(),
        };
        let interface = call.interface.as_ref().unwrap_or(&self.spec.interface).clone();
        let key = (path.clone(), interface.clone(), call.method.clone());
        let Some(signature) = self.facts.methods.get(&key) else {
            let place = at(part);
            let why = format!("{place}: {} has no method {}.{} at {path}", self.spec.service, interface, call.method);
            return Err((Reason::WrongType, why));
        };
        let types = sequence(signature).unwrap_or_default();
        if types.len() != call.args.len() {
            let (place, given, taken) = (at(&format!("{part}/args")), call.args.len(), types.len());
            let why = format!(
                "{place}: {}.{} takes {taken} arguments (D-Bus signature {signature:?}), and {given} are given",
                interface, call.method
            );
            return Err((Reason::WrongType, why));
        }
        let repeated = call.args.iter().flat_map(references);
        let secret = self.sets.is_some_and(|(name, _)| is_secret_key(name))
            || repeated.into_iter().any(|it| matches!(it, Reference::Property(name) if is_secret_key(name)));
        let mut args = Vec::new();
        for (index, (arg, expected)) in call.args.iter().zip(&types).enumerate() {
            let filled = self.fill(arg, Some(expected))?;
            args.push(canonical(&filled, expected).map_err(|error| {
                let place = at(&format!("{part}/args/{index}{}", standing(arg, &error.pointer)));
                wrong_type(&place, secret, error)
            })?);
        }
        Ok(ObjectCall {
            bus: self.spec.bus,
            service: self.spec.service.clone(),
            path,
            interface,
            method: call.method.clone(),
            signature: signature.clone(),
            args,
            activate: self.spec.activate,
            wait_for: call.wait_for,
            secret,
        })
    }

    /// `Properties.Set` of a property.
    pub(super) fn set(&self, property: &str, value: &TypedValue) -> Result<ObjectCall, Why> {
        Ok(ObjectCall {
            bus: self.spec.bus,
            service: self.spec.service.clone(),
            path: self.object_path()?.to_owned(),
            interface: PROPERTIES.to_owned(),
            method: "Set".to_owned(),
            signature: "ssv".to_owned(),
            args: vec![self.spec.interface.as_str().into(), property.into(), variant(value)],
            activate: self.spec.activate,
            wait_for: WaitFor::Property,
            secret: is_secret_key(property),
        })
    }

    fn object_path(&self) -> Result<&str, Why> {
        if self.facts.path.is_empty() {
            return Err((Reason::ObjectMissing, "the object's path was not found".to_owned()));
        }
        Ok(&self.facts.path)
    }

    fn place<'s>(&'s self, place: &'s ObjectPlace) -> Result<&'s str, Why> {
        match place {
            ObjectPlace::Path(path) => Ok(path),
            ObjectPlace::Lookup(name) => self.lookup(name),
        }
    }

    fn lookup(&self, name: &str) -> Result<&str, Why> {
        self.facts.lookups.get(name).map(String::as_str).ok_or_else(|| {
            (Reason::ObjectMissing, format!("the look-up {name} of {} found nothing", self.spec.service))
        })
    }

    /// What stands in an argument, with its references resolved. `expected` is the type of the place, where known: a
    /// value that goes into a variant takes its own type along.
    fn fill(&self, value: &Json, expected: Option<&Signature>) -> Result<Json, Why> {
        let typed = |typed: &TypedValue| {
            if expected == Some(&Signature::Variant) { variant(typed) } else { typed.value.clone() }
        };
        Ok(match value {
            Json::String(text) => match Reference::read(text) {
                None => value.clone(),
                Some(Reference::Escaped(text) | Reference::Unknown(text)) => text.into(),
                Some(Reference::Object) => self.object_path()?.into(),
                Some(Reference::Lookup(name)) => self.lookup(name)?.into(),
                Some(Reference::Value) => self.sets.map(|(_, value)| typed(value)).unwrap_or_default(),
                Some(Reference::Property(name)) => {
                    let wanted = self.wanted.get(name).or_else(|| self.facts.properties.get(name));
                    typed(wanted.ok_or_else(|| {
                        let why = format!("{} has no property {name} to repeat", self.spec.interface);
                        (Reason::PropertyNotSettable, why)
                    })?)
                }
            },
            Json::Array(items) => {
                let inner = |index: usize| match expected? {
                    Signature::Array(element) => Some(Signature::clone(element)),
                    Signature::Structure(fields) => fields.iter().nth(index).cloned(),
                    _ => None,
                };
                let items = items.iter().enumerate();
                items.map(|(index, item)| self.fill(item, inner(index).as_ref())).collect::<Result<_, _>>()?
            }
            Json::Object(fields) => {
                let own = fields.get("type").and_then(Json::as_str).and_then(single);
                let inner = |key: &str| match expected? {
                    Signature::Dict { value, .. } => Some(Signature::clone(value)),
                    Signature::Variant if key == "value" => own.clone(),
                    _ => None,
                };
                let mut filled = Map::new();
                for (key, item) in fields {
                    filled.insert(key.clone(), self.fill(item, inner(key).as_ref())?);
                }
                Json::Object(filled)
            }
            other => other.clone(),
        })
    }
}

fn variant(typed: &TypedValue) -> Json {
    json!({ "type": typed.signature, "value": typed.value })
}

/// As much of a pointer into an argument's value as leads to something in the document, where references stand.
fn standing<'p>(arg: &Json, pointer: &'p str) -> &'p str {
    let mut known = pointer;
    while arg.pointer(known).is_none() {
        known = known.rsplit_once('/').map_or("", |(outer, _)| outer);
    }
    known
}

/// A value that is not of its type, with its place in the document. A secret is not shown.
pub(super) fn wrong_type(place: &str, secret: bool, error: Mismatch) -> Why {
    let error = if secret { error.redacted() } else { error };
    (Reason::WrongType, format!("{place}: {error}"))
}
