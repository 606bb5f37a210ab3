//! The section `systemd`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    desired::{
        check,
        document::{ActiveState, UnitSpec},
        names,
        node::Node,
        place::{At, Faults},
    },
    model::ResourceId,
};

use super::{
    Decoded, common,
    fields::{Fields, entries},
    value::{Wanted, Word, boolean, good_name, no_nul, text, wrong_type},
};

/// Reads the section.
pub(super) fn section(node: &Node<'_>, at: &At<'_>, faults: &mut Faults, decoded: &mut Decoded) -> Option<()> {
    decoded.names_lost |= !matches!(node, Node::Object(_));
    let mut fields = Fields::open(node, at, faults)?;
    fields.read("units", |node, at, faults| {
        let units = entries(node, at, faults);
        decoded.names_lost |= units.is_none();
        for (name, node) in units? {
            let at = at.key(name);
            let good = good_name(name, names::unit, &at, faults);
            let who = ResourceId::unit(name);
            let spec = unit(good.then_some(&who), node, &at, faults, decoded).unwrap_or_default();
            if good {
                decoded.document.units.insert(who.name, spec);
            } else {
                decoded.refused.insert(who);
            }
        }
        Some(())
    });
    fields.close();
    Some(())
}

/// Reads a unit's entry.
fn unit(
    who: Option<&ResourceId>,
    node: &Node<'_>,
    at: &At<'_>,
    faults: &mut Faults,
    decoded: &mut Decoded,
) -> Option<UnitSpec> {
    let before = faults.count();
    let mut fields = Fields::open(node, at, faults)?;
    let spec = UnitSpec {
        enabled: fields.read("enabled", boolean),
        masked: fields.read("masked", boolean),
        active_state: fields.read("active_state", ActiveState::read),
        properties: fields.read("properties", properties).unwrap_or_default(),
        allow_protected: fields.read("allow_protected", boolean).unwrap_or_default(),
        common: common(&mut fields, who, decoded),
    };
    fields.close();
    if faults.count() == before {
        check::unit(&spec, at, faults);
    }
    Some(spec)
}

/// Reads a unit's properties.
fn properties(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<BTreeMap<String, Value>> {
    let mut properties = BTreeMap::new();
    for (name, node) in entries(node, at, faults)? {
        let at = at.key(name);
        good_name(name, names::property, &at, faults);
        if let Some(value) = property(node, &at, faults) {
            properties.insert(name.to_owned(), value);
        }
    }
    Some(properties)
}

/// Reads the value of a property: what systemd can set is made of booleans, whole numbers, texts and lists of texts.
fn property(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<Value> {
    match node {
        Node::Bool(value) => Some((*value).into()),
        Node::Unsigned(value) => Some((*value).into()),
        Node::Negative(value) => Some((*value).into()),
        Node::Text(value) => no_nul(value, at, faults).then(|| value.as_ref().into()),
        Node::List(items) => {
            let items = items.iter().enumerate();
            let texts: Vec<_> = items.map(|(index, item)| text(item, &at.index(index), faults)).collect();
            texts.into_iter().collect::<Option<Vec<&str>>>().map(Value::from)
        }
        Node::Null | Node::Fraction(_) | Node::Object(_) => {
            wrong_type(node, Wanted::Property, at, faults);
            None
        }
    }
}
