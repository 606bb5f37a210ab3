//! The section `lxc`.

use crate::{
    desired::{
        document::ContainerSpec,
        fault::code,
        names,
        node::Node,
        place::{At, Faults, quoted},
    },
    model::{Name, ResourceId},
};

use super::{
    Decoded, common,
    fields::Fields,
    value::{Wanted, boolean, name, wrong_type},
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
            container(index, node, &at.index(index), faults, decoded);
        }
        Some(())
    });
    fields.close();
    Some(())
}

/// Reads a container's entry into the document.
fn container(index: usize, node: &Node<'_>, at: &At<'_>, faults: &mut Faults, decoded: &mut Decoded) {
    let opened = Fields::open(node, at, faults);
    decoded.names_lost |= opened.is_none();
    let Some(mut fields) = opened else { return };
    let id = fields.must("id", |node, at, faults| name(node, names::container, at, faults)).map(Name::from);
    let who = id.clone().map(ResourceId::container);
    let device = |node, at: &At<'_>, faults: &mut Faults| name(node, names::device, at, faults).map(Name::from);
    let spec = ContainerSpec {
        veth: fields.read("veth", device),
        bridge: fields.read("bridge", device),
        running: fields.read("running", boolean),
        allow_protected: fields.read("allow_protected", boolean).unwrap_or_default(),
        common: common(&mut fields, who.as_ref(), decoded),
    };
    let veth_missing = fields.has("bridge") && !fields.has("veth");
    fields.close();
    if veth_missing {
        faults.add(at, code::MISSING_FIELD, || {
            "bridge is given without veth: say which port of the container shall be on that bridge".to_owned()
        });
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
