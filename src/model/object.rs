//! Objects of other D-Bus services, as their services show them.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::Reason;

/// A value with its D-Bus type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypedValue {
    /// Its D-Bus signature: one complete type.
    pub signature: String,
    /// The value in the JSON form that stands for exactly one value of that type (docs/objects.md).
    pub value: Json,
}

/// What a service's introspection says of a property.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PropertyType {
    /// Its D-Bus signature.
    pub signature: String,
    /// It can be set by `Properties.Set`.
    pub writable: bool,
}

/// A method of an object: path, interface and name.
pub type MethodKey = (String, String, String);

/// A declared object of another D-Bus service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectFacts {
    /// The service's name.
    pub service: String,
    /// The object's path; empty where it is still to be found.
    pub path: String,
    /// The declared interface.
    pub interface: String,
    /// Why it cannot be read, if so: then all else is the last known.
    pub away: Option<(Reason, String)>,
    /// It is there.
    pub exists: bool,
    /// Its properties that the document names, and those that its calls repeat.
    pub properties: BTreeMap<String, TypedValue>,
    /// Properties whose value is not of the type that the service's own introspection says, and what is odd.
    pub odd: BTreeMap<String, String>,
    /// What its introspection says of each property of the interface.
    pub property_types: BTreeMap<String, PropertyType>,
    /// Signature of the arguments of each method that the document names and the service has.
    pub methods: BTreeMap<MethodKey, String>,
    /// Paths that look-ups have found, by name; what was not found is missing here.
    pub lookups: BTreeMap<String, String>,
    /// Its changes are signalled; otherwise it is read again only when somebody reconciles.
    pub drift_visible: bool,
}
