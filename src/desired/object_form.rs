//! The section `dbus` as it is written: what [`super::spell`] writes and [`super::schema()`] describes.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    decode::{MAX_ARGS, MAX_PASSING},
    document::Ensure,
    form::{CommonForm, TEXT_PATTERN, common, is_default},
    names,
    object::{Call, Lookup, ObjectBus, ObjectSpec, PropertySpec, Source, WaitFor},
    presets::{Kind, Parameter, Preset, presets},
};

/// Objects of other D-Bus services.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Dbus")]
pub(super) struct DbusForm<'d> {
    /// Objects, by names of one's own choice: each in full, or by a preset.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "objects")]
    pub(super) objects: BTreeMap<&'d str, ObjectForm<'d>>,
}

/// An object of a D-Bus service, by one of its interfaces.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Object")]
pub(super) struct ObjectForm<'d> {
    /// The bus that the service is on; the one that op-dbus itself is on where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ObjectBus")]
    bus: Option<ObjectBus>,
    /// The service's well-known name: `org.freedesktop.timedate1`.
    #[schemars(schema_with = "service")]
    service: &'d str,
    /// The object's path, or `$lookup:NAME` for one that is found out.
    #[schemars(schema_with = "place")]
    path: String,
    /// The interface that is declared.
    #[schemars(schema_with = "interface")]
    interface: &'d str,
    /// The bus may start the service to have it looked at; otherwise it is mirrored while it runs.
    #[serde(skip_serializing_if = "is_default")]
    activate: bool,
    /// Paths to be found out, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("propertyNames" = {"pattern": names::LABEL_PATTERN, "maxLength": names::MAX_BUS_NAME}))]
    lookups: BTreeMap<&'d str, LookupForm<'d>>,
    /// Whether it shall exist; `present` where `create` is given, otherwise nothing is done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Ensure")]
    ensure: Option<Ensure>,
    /// The method that answers `true` where it exists; where it is not said, it exists if the object has the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CallForm<'d>")]
    exists: Option<CallForm<'d>>,
    /// The method that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CallForm<'d>")]
    create: Option<CallForm<'d>>,
    /// The method that removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CallForm<'d>")]
    remove: Option<CallForm<'d>>,
    /// Properties, owned key by key: a value, or an object of `value`, `set` (the method that sets it) and `passing` (values
    /// on its way).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("propertyNames" = {"pattern": names::BUS_PROPERTY_PATTERN, "maxLength": names::MAX_BUS_NAME}))]
    properties: BTreeMap<&'d str, PropertyForm<'d>>,
    /// It may be written although it is one of those that op-dbus never touches by itself.
    #[serde(skip_serializing_if = "is_default")]
    allow_protected: bool,
    #[serde(flatten)]
    common: CommonForm,
}

/// A property: its value alone, or with what else can be said of it.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum PropertyForm<'d> {
    Plain(&'d Value),
    Long(PropertySetForm<'d>),
}

/// A property's value, with how it is reached.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Property")]
struct PropertySetForm<'d> {
    /// The value.
    #[schemars(schema_with = "value")]
    value: &'d Value,
    /// The method that sets it; `Properties.Set` where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CallForm<'d>")]
    set: Option<CallForm<'d>>,
    /// Values that it goes through on its way: they are waited for, and no drift.
    #[serde(skip_serializing_if = "<[Value]>::is_empty")]
    #[schemars(schema_with = "passing")]
    passing: &'d [Value],
}

/// A method to be called.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Call")]
struct CallForm<'d> {
    /// The object that has it; the declared one where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "place")]
    path: Option<String>,
    /// Its interface; the declared one where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "interface")]
    interface: Option<&'d str>,
    /// Its name.
    #[schemars(schema_with = "member")]
    method: &'d str,
    /// Its arguments: values, and the references `$value`, `$property:NAME`, `$object`, `$lookup:NAME`.
    #[serde(skip_serializing_if = "<[Value]>::is_empty")]
    #[schemars(schema_with = "args")]
    args: &'d [Value],
    /// What shows that it has finished: `property` (where it is not said), `signal` or `job`.
    #[serde(skip_serializing_if = "is_default")]
    wait_for: WaitFor,
}

/// A path that only the service knows.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Lookup")]
struct LookupForm<'d> {
    /// The object that is asked.
    #[schemars(schema_with = "object_path")]
    path: &'d str,
    /// Its interface.
    #[schemars(schema_with = "interface")]
    interface: &'d str,
    /// The property that holds the path, or several.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bus_property")]
    property: Option<&'d str>,
    /// The method that answers with the path, or several.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "member")]
    method: Option<&'d str>,
    /// The method's arguments.
    #[serde(skip_serializing_if = "<[Value]>::is_empty")]
    #[schemars(schema_with = "args")]
    args: &'d [Value],
    /// Which of several paths it is.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MatchForm<'d>")]
    matching: Option<MatchForm<'d>>,
}

/// The one that is meant of several objects.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Match")]
struct MatchForm<'d> {
    /// An interface of theirs.
    #[schemars(schema_with = "interface")]
    interface: &'d str,
    /// A property of that.
    #[schemars(schema_with = "bus_property")]
    property: &'d str,
    /// What it must be.
    #[schemars(schema_with = "value")]
    value: &'d Value,
}

/// An object as it is written: in full, whatever it was made from.
pub(super) fn object(spec: &ObjectSpec) -> ObjectForm<'_> {
    ObjectForm {
        bus: spec.bus,
        service: &spec.service,
        path: spec.path.text(),
        interface: &spec.interface,
        activate: spec.activate,
        lookups: spec.lookups.iter().map(|(name, spec)| (name.as_str(), lookup(spec))).collect(),
        ensure: spec.ensure,
        exists: spec.exists.as_ref().map(call),
        create: spec.create.as_ref().map(call),
        remove: spec.remove.as_ref().map(call),
        properties: spec.properties.iter().map(|(name, spec)| (name.as_str(), property(spec))).collect(),
        allow_protected: spec.allow_protected,
        common: common(&spec.common),
    }
}

fn property(spec: &PropertySpec) -> PropertyForm<'_> {
    let looks_long = spec.value.get("value").is_some() && spec.value.get("type").is_none();
    match &spec.set {
        None if !looks_long && spec.passing.is_empty() => PropertyForm::Plain(&spec.value),
        set => {
            let (value, passing) = (&spec.value, spec.passing.as_slice());
            PropertyForm::Long(PropertySetForm { value, set: set.as_ref().map(call), passing })
        }
    }
}

fn call(spec: &Call) -> CallForm<'_> {
    CallForm {
        path: spec.path.as_ref().map(super::object::ObjectPlace::text),
        interface: spec.interface.as_deref(),
        method: &spec.method,
        args: &spec.args,
        wait_for: spec.wait_for,
    }
}

fn lookup(spec: &Lookup) -> LookupForm<'_> {
    let (property, method, args) = match &spec.source {
        Source::Property(property) => (Some(property.as_str()), None, &[][..]),
        Source::Method { method, args } => (None, Some(method.as_str()), args.as_slice()),
    };
    let matching = spec.matching.as_ref().map(|matching| MatchForm {
        interface: &matching.interface,
        property: &matching.property,
        value: &matching.value,
    });
    LookupForm { path: &spec.path, interface: &spec.interface, property, method, args, matching }
}

impl JsonSchema for PropertyForm<'_> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PropertyOrValue".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<PropertySetForm<'_>>();
        let mut plain = value(generator);
        // An object with the key `value` and without the key `type` is the long form.
        let not = json!({ "type": "object", "required": ["value"], "not": { "required": ["type"] } });
        plain.insert("not".to_owned(), not);
        json_schema!({ "anyOf": [long, plain] })
    }
}

/// Any value but `null`.
struct AnyValue;

impl JsonSchema for AnyValue {
    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let inner = generator.subschema_for::<Self>();
        json_schema!({
            "description": "A value of any D-Bus type.",
            "type": ["boolean", "number", "string", "array", "object"],
            "pattern": TEXT_PATTERN,
            "items": inner,
            "propertyNames": { "pattern": TEXT_PATTERN },
            "additionalProperties": inner,
        })
    }
}

fn value(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<AnyValue>()
}

fn args(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": value(generator), "maxItems": MAX_ARGS })
}

fn passing(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": value(generator), "maxItems": MAX_PASSING })
}

fn named(pattern: &str) -> Schema {
    json_schema!({ "type": "string", "pattern": pattern, "maxLength": names::MAX_BUS_NAME })
}

fn service(_: &mut SchemaGenerator) -> Schema {
    let mut schema = named(names::SERVICE_PATTERN);
    schema.insert("not".to_owned(), json!({ "pattern": names::OWN_SERVICE_PATTERN }));
    schema
}

fn interface(_: &mut SchemaGenerator) -> Schema {
    named(names::INTERFACE_PATTERN)
}

fn member(_: &mut SchemaGenerator) -> Schema {
    named(names::MEMBER_PATTERN)
}

fn bus_property(_: &mut SchemaGenerator) -> Schema {
    named(names::BUS_PROPERTY_PATTERN)
}

fn object_path(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": names::PATH_PATTERN, "maxLength": names::MAX_PATH })
}

fn place(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": names::PLACE_PATTERN, "maxLength": names::MAX_PATH })
}

fn objects(generator: &mut SchemaGenerator) -> Schema {
    let in_full = generator.subschema_for::<ObjectForm<'_>>();
    let bus = generator.subschema_for::<ObjectBus>();
    let ensure = generator.subschema_for::<Ensure>();
    let common = CommonForm::json_schema(generator);
    let mut any = vec![in_full.to_value()];
    any.extend(presets().iter().map(|preset| by_preset(preset, bus.as_value(), ensure.as_value(), &common, generator)));
    json_schema!({
        "type": "object",
        "propertyNames": { "pattern": names::OBJECT_PATTERN, "maxLength": names::MAX_BUS_NAME },
        "additionalProperties": { "anyOf": any },
    })
}

/// The short form by one preset.
fn by_preset(preset: &Preset, bus: &Value, ensure: &Value, common: &Schema, generator: &mut SchemaGenerator) -> Value {
    let mut with = Map::new();
    for (name, given) in &preset.parameters {
        with.insert(name.clone(), parameter(given, generator));
    }
    let required: Vec<&String> =
        preset.parameters.iter().filter(|(_, given)| given.required).map(|(name, _)| name).collect();
    let mut fields = Map::new();
    fields.insert("preset".to_owned(), json!({ "const": preset.name, "description": "The name of the preset." }));
    let described = |schema: &Value, text: &str| {
        let mut schema = schema.clone();
        if let Some(fields) = schema.as_object_mut() {
            fields.insert("description".to_owned(), text.into());
        }
        schema
    };
    fields.insert(
        "with".to_owned(),
        json!({
            "type": "object", "description": "What the preset leaves open.", "properties": with,
            "additionalProperties": false, "required": required,
        }),
    );
    fields.insert("bus".to_owned(), described(bus, "The bus that the service is on."));
    fields.insert("ensure".to_owned(), described(ensure, "Whether it shall exist."));
    let switch = |text: &str| json!({ "type": "boolean", "description": text });
    fields.insert("activate".to_owned(), switch("The bus may start the service to have it looked at."));
    fields.insert("allow_protected".to_owned(), switch("It may be written although it is protected."));
    let all = common.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    fields.extend(all);
    json!({
        "type": "object", "description": preset.about, "properties": fields,
        "additionalProperties": false, "required": ["preset", "with"],
    })
}

fn parameter(given: &Parameter, generator: &mut SchemaGenerator) -> Value {
    let text = json!({ "type": "string", "pattern": TEXT_PATTERN });
    let mut schema = match given.kind {
        Kind::Text => json!({ "type": "string", "minLength": 1, "pattern": TEXT_PATTERN }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Texts => json!({ "type": "array", "items": text }),
        Kind::Property => bus_property(generator).to_value(),
        Kind::Interface => interface(generator).to_value(),
        Kind::Value => value(generator).to_value(),
    };
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("description".to_owned(), given.about.clone().into());
    }
    schema
}
