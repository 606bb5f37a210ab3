//! The section `lxc`.

use crate::{
    desired::{
        check,
        fault::code,
        names,
        node::Node,
        place::{At, Faults, quoted},
    },
    model::{Name, ResourceId},
};

use super::{
    Decoded, container,
    fields::Fields,
    value::{Wanted, name, wrong_type},
};

/// Reads the section.
pub(super) fn section(node: &Node<'_>, at: &At<'_>, faults: &mut Faults, decoded: &mut Decoded) -> Option<()> {
    decoded.names_lost |= !matches!(node, Node::Object(_));
    let mut fields = Fields::open(node, at, faults)?;
    fields.read("containers", |node, at, faults| {
        let Node::List(items) = node else {
            decoded.names_lost = true;
            wrong_type(node, Wanted::List, at, faults);
            return None;
        };
        for (index, node) in items.iter().enumerate() {
            entry(index, node, &at.index(index), faults, decoded);
        }
        Some(())
    });
    fields.read("templates", |node, at, faults| {
        let Node::List(items) = node else {
            wrong_type(node, Wanted::List, at, faults);
            return None;
        };
        for (index, node) in items.iter().enumerate() {
            container::template(node, &at.index(index), faults, decoded);
        }
        Some(())
    });
    fields.close();
    Some(())
}

/// Reads a container's entry into the document.
fn entry(index: usize, node: &Node<'_>, at: &At<'_>, faults: &mut Faults, decoded: &mut Decoded) {
    let opened = Fields::open(node, at, faults);
    decoded.names_lost |= opened.is_none();
    let Some(mut fields) = opened else { return };
    let id = fields.must("id", |node, at, faults| name(node, names::container, at, faults)).map(Name::from);
    let who = id.clone().map(ResourceId::container);
    let before = fields.faults();
    let spec = container::container(&mut fields, who.as_ref(), decoded);
    let veth_missing = fields.has("bridge") && !fields.has("veth");
    fields.close();
    if veth_missing {
        faults.add(at, code::MISSING_FIELD, || {
            "bridge is given without veth: say which port of the container shall be on that bridge".to_owned()
        });
    }
    if faults.count() == before {
        check::container(&spec, at, faults);
    }
    let Some(id) = id else {
        decoded.names_lost = true;
        return;
    };
    if let Some(first) = decoded.container_index.get(&id) {
        faults.add(&at.key("id"), code::CONTRADICTION, || {
            format!("container {} is declared by /lxc/containers/{first} already: keep one entry", quoted(&id))
        });
    } else {
        decoded.container_index.insert(id.clone(), index);
        decoded.document.containers.insert(id, spec);
    }
}
