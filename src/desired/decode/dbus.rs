//! The section `dbus`.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value as Json};

use crate::{
    desired::{
        check,
        document::{Common, Ensure},
        fault::code,
        names,
        near::nearest,
        node::Node,
        object::{Call, Lookup, Match, ObjectBus, ObjectPlace, ObjectSpec, Origins, PropertySpec, Source, WaitFor},
        place::{At, Faults, quoted},
        presets::{Given, Kind, Preset, presets},
    },
    model::ResourceId,
};

use super::{
    Decoded, common,
    fields::{Fields, entries},
    value::{Wanted, Word, boolean, good_name, name, no_nul, text, wrong_type},
};

/// Arguments a call may have: D-Bus methods have a handful.
pub(in crate::desired) const MAX_ARGS: usize = 32;

/// Values that a property may go through on its way: what states a thing has, a handful.
pub(in crate::desired) const MAX_PASSING: usize = 32;

/// Key that tells the long form of a property, `{"value": ..., "set": ...}`, from a plain value.
const LONG: &str = "value";
/// Key that a plain value has beside [`LONG`]: a variant with its type.
const TYPED: &str = "type";

/// Reads the section.
pub(super) fn section(node: &Node<'_>, at: &At<'_>, faults: &mut Faults, decoded: &mut Decoded) -> Option<()> {
    decoded.names_lost |= !matches!(node, Node::Object(_));
    let mut fields = Fields::open(node, at, faults)?;
    fields.read("objects", |node, at, faults| {
        let objects = entries(node, at, faults);
        decoded.names_lost |= objects.is_none();
        for (name, node) in objects? {
            let at = at.key(name);
            let good = good_name(name, names::object, &at, faults);
            let who = ResourceId::object(name);
            let spec = entry(good.then_some(&who), node, &at, faults, decoded);
            match spec {
                Some(spec) if good => drop(decoded.document.objects.insert(who.name, spec)),
                _ => drop(decoded.refused.insert(who)),
            }
        }
        Some(())
    });
    fields.close();
    Some(())
}

/// Reads an entry: an object in full, or a preset.
fn entry(
    who: Option<&ResourceId>,
    node: &Node<'_>,
    at: &At<'_>,
    faults: &mut Faults,
    decoded: &mut Decoded,
) -> Option<ObjectSpec> {
    let before = faults.count();
    let mut fields = Fields::open(node, at, faults)?;
    let spec = if fields.has("preset") { by_preset(&mut fields) } else { in_full(&mut fields) };
    let allow_protected = fields.read("allow_protected", boolean).unwrap_or_default();
    let common = common(&mut fields, who, decoded);
    fields.close();
    let spec = ObjectSpec { allow_protected, common, ..spec? };
    if faults.count() == before {
        check::object(&spec, at, faults);
    }
    Some(spec)
}

/// Reads an object in full, but for what every entry can say.
fn in_full(fields: &mut Fields<'_, '_, '_>) -> Option<ObjectSpec> {
    let bus = fields.read("bus", ObjectBus::read);
    let service = fields.must("service", |node, at, faults| name(node, names::service, at, faults));
    let path = fields.must("path", place);
    let interface = fields.must("interface", |node, at, faults| name(node, names::interface, at, faults));
    let activate = fields.read("activate", boolean).unwrap_or_default();
    let lookups = fields.read("lookups", lookups).unwrap_or_default();
    let ensure = fields.read("ensure", Ensure::read);
    let (exists, create, remove) =
        (fields.read("exists", call), fields.read("create", call), fields.read("remove", call));
    let properties = fields.read("properties", properties).unwrap_or_default();
    Some(ObjectSpec {
        bus,
        service: service?.to_owned(),
        path: path?,
        interface: interface?.to_owned(),
        activate,
        lookups,
        // Whoever says how it is made wants it there.
        ensure: ensure.or(create.as_ref().map(|_| Ensure::Present)),
        exists,
        create,
        remove,
        properties,
        allow_protected: false,
        common: Common::default(),
        origins: Origins::default(),
    })
}

/// Reads the short form: the name of a preset, and what it leaves open.
fn by_preset(fields: &mut Fields<'_, '_, '_>) -> Option<ObjectSpec> {
    let preset = fields.read("preset", |node, at, faults| {
        let given = text(node, at, faults)?;
        let found = presets().iter().find(|preset| preset.name == given);
        if found.is_none() {
            faults.add(at, code::OUT_OF_RANGE, || {
                let all: Vec<&str> = presets().iter().map(|preset| preset.name.as_str()).collect();
                let near = nearest(given, all.iter().copied()).map(|near| format!("; did you mean {near:?}?"));
                format!(
                    "there is no preset {}{}; there are {}",
                    quoted(given),
                    near.unwrap_or_default(),
                    all.join(", ")
                )
            });
        }
        found
    });
    let bus = fields.read("bus", ObjectBus::read);
    let activate = fields.read("activate", boolean);
    let ensure = fields.read("ensure", Ensure::read);
    // Where the preset is not known, nobody can tell what it leaves open.
    let Some(preset) = preset else {
        fields.read("with", |_, _, _| Some(()));
        return None;
    };
    let given = fields.must("with", |node, at, faults| parameters(preset, node, at, faults))?;
    let text = preset.fill(&given).to_string();
    let node = Node::parse(&text).ok()?;
    // What a preset makes of values that were read is good; a test holds all presets to that.
    let mut own = Faults::default();
    let spec = in_full(&mut Fields::open(&node, &At::ROOT, &mut own)?)?;
    let ensure = ensure.or(spec.ensure);
    Some(ObjectSpec {
        bus: bus.or(spec.bus),
        activate: activate.unwrap_or(spec.activate),
        ensure,
        // How a thing shall be is part of its being there.
        properties: if ensure == Some(Ensure::Absent) { BTreeMap::new() } else { spec.properties },
        origins: preset.origins(&given),
        ..spec
    })
}

/// Reads what is given to a preset; `None` if any of it is wrong.
fn parameters(preset: &'static Preset, node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<Given> {
    let before = faults.count();
    let mut fields = Fields::open(node, at, faults)?;
    let mut given = Given::new();
    for (name, parameter) in &preset.parameters {
        let read =
            |node: &Node<'_>, at: &At<'_>, faults: &mut Faults| parameter_value(parameter.kind, node, at, faults);
        let value =
            if parameter.required { fields.must(name.as_str(), read) } else { fields.read(name.as_str(), read) };
        if let Some(value) = value.or_else(|| parameter.default.clone()) {
            given.insert(name.clone(), value);
        }
    }
    fields.close();
    (faults.count() == before).then_some(given)
}

/// Reads what is given for one parameter.
fn parameter_value(kind: Kind, node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<Json> {
    match kind {
        Kind::Boolean => boolean(node, at, faults).map(Json::from),
        Kind::Value => value(node, at, faults),
        Kind::Text => {
            let given = text(node, at, faults)?;
            if given.is_empty() {
                faults.add(at, code::OUT_OF_RANGE, || "is empty".to_owned());
            }
            Some(given.into())
        }
        Kind::Property => name(node, names::bus_property, at, faults).map(Json::from),
        Kind::Interface => name(node, names::interface, at, faults).map(Json::from),
        Kind::Texts => {
            let Node::List(items) = node else {
                wrong_type(node, Wanted::List, at, faults);
                return None;
            };
            let items = items.iter().enumerate();
            let texts: Vec<_> = items.map(|(index, item)| text(item, &at.index(index), faults)).collect();
            texts.into_iter().collect::<Option<Vec<&str>>>().map(Json::from)
        }
    }
}

/// Reads an object path, or a look-up of one.
fn place(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<ObjectPlace> {
    let text = name(node, names::place, at, faults)?;
    Some(match text.strip_prefix("$lookup:") {
        Some(name) => ObjectPlace::Lookup(name.to_owned()),
        None => ObjectPlace::Path(text.to_owned()),
    })
}

/// Reads a call.
fn call(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<Call> {
    let mut fields = Fields::open(node, at, faults)?;
    let path = fields.read("path", place);
    let interface = fields.read("interface", |node, at, faults| name(node, names::interface, at, faults));
    let method = fields.must("method", |node, at, faults| name(node, names::member, at, faults));
    let args = fields.read("args", arguments).unwrap_or_default();
    let wait_for = fields.read("wait_for", WaitFor::read).unwrap_or_default();
    fields.close();
    Some(Call { path, interface: interface.map(str::to_owned), method: method?.to_owned(), args, wait_for })
}

/// Reads the arguments of a call.
fn arguments(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<Vec<Json>> {
    values(node, MAX_ARGS, at, faults)
}

/// Reads a list of so many values at the most.
fn values(node: &Node<'_>, most: usize, at: &At<'_>, faults: &mut Faults) -> Option<Vec<Json>> {
    let Node::List(items) = node else {
        wrong_type(node, Wanted::List, at, faults);
        return None;
    };
    if items.len() > most {
        faults.add(at, code::OUT_OF_RANGE, || format!("has more than {most} values, which is more than anybody needs"));
        return None;
    }
    items.iter().enumerate().map(|(index, item)| value(item, &at.index(index), faults)).collect()
}

/// Reads the look-ups.
fn lookups(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<BTreeMap<String, Lookup>> {
    let mut lookups = BTreeMap::new();
    for (name, node) in entries(node, at, faults)? {
        let at = at.key(name);
        good_name(name, names::label, &at, faults);
        if let Some(lookup) = lookup(node, &at, faults) {
            lookups.insert(name.to_owned(), lookup);
        }
    }
    Some(lookups)
}

/// Reads a look-up.
fn lookup(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<Lookup> {
    let mut fields = Fields::open(node, at, faults)?;
    let path = fields.must("path", |node, at, faults| name(node, names::object_path, at, faults));
    let interface = fields.must("interface", |node, at, faults| name(node, names::interface, at, faults));
    let property = fields.read("property", |node, at, faults| name(node, names::bus_property, at, faults));
    let method = fields.read("method", |node, at, faults| name(node, names::member, at, faults));
    let args = fields.read("args", arguments);
    let matching = fields.read("where", |node, at, faults| {
        let mut fields = Fields::open(node, at, faults)?;
        let interface = fields.must("interface", |node, at, faults| name(node, names::interface, at, faults));
        let property = fields.must("property", |node, at, faults| name(node, names::bus_property, at, faults));
        let value = fields.must("value", value);
        fields.close();
        Some(Match { interface: interface?.to_owned(), property: property?.to_owned(), value: value? })
    });
    let both = fields.has("property") && fields.has("method");
    let neither = !fields.has("property") && !fields.has("method");
    let idle = fields.has("args") && !fields.has("method");
    fields.close();
    if both || neither || idle {
        faults.add(at, code::CONTRADICTION, || {
            "asks either for a property or for what a method answers, which alone has args".to_owned()
        });
        return None;
    }
    let source = match method {
        Some(method) => Source::Method { method: method.to_owned(), args: args.unwrap_or_default() },
        None => Source::Property(property?.to_owned()),
    };
    Some(Lookup { path: path?.to_owned(), interface: interface?.to_owned(), source, matching })
}

/// Reads an object's properties.
fn properties(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<BTreeMap<String, PropertySpec>> {
    let mut properties = BTreeMap::new();
    for (name, node) in entries(node, at, faults)? {
        let at = at.key(name);
        good_name(name, names::bus_property, &at, faults);
        if let Some(spec) = property(node, &at, faults) {
            properties.insert(name.to_owned(), spec);
        }
    }
    Some(properties)
}

/// Reads a property: its value, or an object that also names the method that sets it.
fn property(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<PropertySpec> {
    let is_long = |pairs: &[(std::borrow::Cow<'_, str>, Node<'_>)]| {
        let has = |name: &str| pairs.iter().any(|(key, _)| key == name);
        has(LONG) && !has(TYPED)
    };
    match node {
        Node::Object(pairs) if is_long(pairs) => {
            let mut fields = Fields::open(node, at, faults)?;
            let value = fields.must(LONG, value);
            let set = fields.read("set", call);
            let passing = fields.read("passing", |node, at, faults| values(node, MAX_PASSING, at, faults));
            fields.close();
            Some(PropertySpec { value: value?, set, passing: passing.unwrap_or_default() })
        }
        _ => value(node, at, faults).map(|value| PropertySpec { value, set: None, passing: Vec::new() }),
    }
}

/// Reads any value but `null`, which D-Bus has not.
fn value(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<Json> {
    Some(match node {
        Node::Null => {
            wrong_type(node, Wanted::Value, at, faults);
            return None;
        }
        Node::Bool(value) => (*value).into(),
        Node::Unsigned(value) => (*value).into(),
        Node::Negative(value) => (*value).into(),
        Node::Fraction(value) => Json::Number(Number::from_f64(*value)?),
        Node::Text(text) => {
            if !no_nul(text, at, faults) {
                return None;
            }
            text.as_ref().into()
        }
        Node::List(items) => {
            let items: Vec<_> =
                items.iter().enumerate().map(|(index, item)| value(item, &at.index(index), faults)).collect();
            Json::Array(items.into_iter().collect::<Option<_>>()?)
        }
        Node::Object(_) => {
            let mut fields = Map::new();
            let before = faults.count();
            for (key, item) in entries(node, at, faults)? {
                let at = at.key(key);
                no_nul(key, &at, faults);
                if let Some(item) = value(item, &at, faults) {
                    fields.insert(key.to_owned(), item);
                }
            }
            if faults.count() > before {
                return None;
            }
            Json::Object(fields)
        }
    })
}
