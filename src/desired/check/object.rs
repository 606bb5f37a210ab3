//! Objects of other D-Bus services: each checked by itself, and against one another.

use std::collections::BTreeMap;

use crate::{
    desired::{
        document::{Document, Ensure},
        fault::code,
        object::{Call, ObjectBus, ObjectPlace, ObjectSpec, Reference, Source, references},
        place::{At, Faults, quoted},
    },
    model::Name,
};

/// How the names of methods begin that only read. `exists` and look-ups are called whenever somebody looks, also by
/// whoever only plans: they must change nothing.
const READING: [&str; 11] =
    ["get", "list", "query", "is", "has", "find", "look", "load", "contains", "resolve", "search"];

/// Whether a method is one that only reads, as far as its name tells.
fn reads(method: &str) -> bool {
    let method = method.to_ascii_lowercase();
    READING.iter().any(|word| method.starts_with(word))
}

fn only_reads(method: &str, at: &At<'_>, faults: &mut Faults) {
    if !reads(method) {
        faults.add(&at.key("method"), code::CONTRADICTION, || {
            let method = quoted(method);
            format!("{method} is called to look, and so must only read: its name begins with {}", READING.join(", "))
        });
    }
}

/// Checks an object's entry by itself.
pub(in crate::desired) fn object(spec: &ObjectSpec, at: &At<'_>, faults: &mut Faults) {
    if spec.ensure == Some(Ensure::Absent) {
        if spec.remove.is_none() {
            faults.add(&at.key("ensure"), code::CONTRADICTION, || {
                "nothing says how it is removed: name the method under remove".to_owned()
            });
        }
        if !spec.properties.is_empty() {
            faults.add(&at.key("properties"), code::CONTRADICTION, || {
                "what shall be absent has no properties: take ensure or properties away".to_owned()
            });
        }
    }
    if let ObjectPlace::Lookup(name) = &spec.path {
        known_lookup(spec, name, &at.key("path"), faults);
    }
    for (field, call) in [("exists", &spec.exists), ("create", &spec.create), ("remove", &spec.remove)] {
        if let Some(call) = call {
            check_call(spec, call, false, &at.key(field), faults);
        }
    }
    if let Some(exists) = &spec.exists {
        only_reads(&exists.method, &at.key("exists"), faults);
    }
    let properties = at.key("properties");
    for (name, property) in &spec.properties {
        if let Some(call) = &property.set {
            check_call(spec, call, true, &properties.key(name).key("set"), faults);
        }
    }
    let lookups = at.key("lookups");
    for (name, lookup) in &spec.lookups {
        if let Source::Method { method, .. } = &lookup.source {
            only_reads(method, &lookups.key(name), faults);
        }
        if let Source::Method { args, .. } = &lookup.source
            && args.iter().flat_map(references).any(|reference| !matches!(reference, Reference::Escaped(_)))
        {
            faults.add(&lookups.key(name).key("args"), code::CONTRADICTION, || {
                "a look-up comes before all else and can refer to nothing: write $$ for a plain $".to_owned()
            });
        }
    }
}

/// No property is declared twice, under two names: the two would fight.
pub(in crate::desired) fn twins(document: &Document, faults: &mut Faults) {
    let mut seen: BTreeMap<(Option<ObjectBus>, &str, String, &str, &str), &Name> = BTreeMap::new();
    for (name, spec) in &document.objects {
        // What a look-up finds, nobody knows here.
        let ObjectPlace::Path(path) = &spec.path else { continue };
        for property in spec.properties.keys() {
            let place = (spec.bus, spec.service.as_str(), path.clone(), spec.interface.as_str(), property.as_str());
            let first = *seen.entry(place).or_insert(name);
            if first != name {
                let objects = At::ROOT.key("dbus");
                let objects = objects.key("objects");
                faults.add_within(&objects.key(name), &spec.value_written(property), code::CONTRADICTION, || {
                    format!("object {} declares this property already: take one away", quoted(first))
                });
            }
        }
    }
}

fn check_call(spec: &ObjectSpec, call: &Call, sets: bool, at: &At<'_>, faults: &mut Faults) {
    if let Some(ObjectPlace::Lookup(name)) = &call.path {
        known_lookup(spec, name, &at.key("path"), faults);
    }
    let args = at.key("args");
    for (index, arg) in call.args.iter().enumerate() {
        let at = args.index(index);
        for reference in references(arg) {
            match reference {
                Reference::Value if !sets => faults.add(&at, code::CONTRADICTION, || {
                    "$value stands for a property's value, and this call sets none".to_owned()
                }),
                Reference::Lookup(name) => known_lookup(spec, name, &at, faults),
                Reference::Unknown(text) => faults.add(&at, code::CONTRADICTION, || {
                    let text = quoted(text);
                    format!(
                        "{text} refers to nothing: there are $value, $property:NAME, $object and $lookup:NAME; write $$ \
                         for a plain $"
                    )
                }),
                Reference::Value | Reference::Object | Reference::Property(_) | Reference::Escaped(_) => {}
            }
        }
    }
}

fn known_lookup(spec: &ObjectSpec, name: &str, at: &At<'_>, faults: &mut Faults) {
    if !spec.lookups.contains_key(name) {
        faults.add(at, code::UNKNOWN_RESOURCE, || {
            format!("there is no look-up {}: declare it under lookups", quoted(name))
        });
    }
}
