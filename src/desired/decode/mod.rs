//! Reading a document: from JSON to the typed form, with everything that is wrong with it.

mod container;
mod dbus;
mod fields;
mod lxc;
mod ovsdb;
mod packagekit;
mod systemd;
mod value;

use std::collections::{BTreeMap, HashSet};

use crate::model::{DriftPolicy, Name, ResourceId};

use self::{
    fields::Fields,
    value::{Wanted, Word, boolean, integer, set, text, wrong_type},
};
use super::{
    document::{Common, Document},
    fault::code,
    node::Node,
    place::{At, Faults, quoted},
};

pub(super) use self::{
    container::{CORES, MAX_DECIMAL, MAX_NETWORKS, MEMORY_MIB, MTU as CONTAINER_MTU, SIZE_GIB, STARTUP, VLAN},
    dbus::{MAX_ARGS, MAX_PASSING},
    ovsdb::{DATAPATH_TYPES, MAX_TYPE, MAX_VLAN, MIN_BOND, MTU},
    value::RESERVED_PREFIX,
};

/// Version of the document that this op-dbus reads.
pub(super) const VERSION: u32 = 1;

/// A document and where its parts stand, for checks that look at more than one entry.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// What it means. Where there are faults: as much of it as could be read.
    pub(super) document: Document,
    /// Position of each container in `lxc.containers`.
    pub(super) container_index: BTreeMap<Name, usize>,
    /// Every element of every `after`.
    pub(super) waits: Vec<Wait>,
    /// Resources that are not in `document` because their name, or their bridge's, is a fault. No check looks at them
    /// again: only good names are short.
    pub(super) refused: HashSet<ResourceId>,
    /// Part of it could not be read at all: what is not in `document` may yet have been named.
    pub(super) names_lost: bool,
}

/// One element of an `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wait {
    /// Whose entry it is.
    pub(super) who: ResourceId,
    /// Its place in the list.
    pub(super) index: usize,
    /// What it names.
    pub(super) what: ResourceId,
}

/// Reads a document.
pub(super) fn document(node: &Node<'_>, faults: &mut Faults) -> Decoded {
    let mut decoded = Decoded::default();
    let Some(mut fields) = Fields::open(node, &At::ROOT, faults) else { return decoded };
    fields.read("version", |node, at, faults| integer::<u32>(node, VERSION.into()..=VERSION.into(), at, faults));
    decoded.document.drift = fields.read("drift", DriftPolicy::read).unwrap_or_default();
    decoded.document.prune = fields.read("prune", boolean).unwrap_or_default();
    decoded.document.allow_empty = fields.read("allow_empty", boolean).unwrap_or_default();
    fields.read("systemd", |node, at, faults| systemd::section(node, at, faults, &mut decoded));
    fields.read("ovsdb", |node, at, faults| ovsdb::section(node, at, faults, &mut decoded));
    fields.read("lxc", |node, at, faults| lxc::section(node, at, faults, &mut decoded));
    fields.read("packagekit", |node, at, faults| packagekit::section(node, at, faults, &mut decoded));
    fields.read("dbus", |node, at, faults| dbus::section(node, at, faults, &mut decoded));
    fields.close();
    decoded
}

/// Reads what every resource's entry can say; `who` it is, unless it is refused.
fn common(fields: &mut Fields<'_, '_, '_>, who: Option<&ResourceId>, decoded: &mut Decoded) -> Common {
    let mut index = 0;
    let after = fields.read("after", |node, at, faults| {
        if matches!(node, Node::Null) {
            wrong_type(node, Wanted::List, at, faults);
            return None;
        }
        set(node, at, faults, |node, at, faults| {
            let what = resource(node, at, faults);
            if let (Some(who), Some(what)) = (who, &what) {
                decoded.waits.push(Wait { who: who.clone(), index, what: what.clone() });
            }
            index += 1;
            what
        })
    });
    Common { after: after.unwrap_or_default(), drift: fields.read("drift", DriftPolicy::read) }
}

/// Reads the name of a resource, `kind:name`.
fn resource(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<ResourceId> {
    let given = text(node, at, faults)?;
    let id = given.parse().ok();
    if id.is_none() {
        faults.add(at, code::BAD_NAME, || {
            let given = quoted(given);
            let kinds = "unit:NAME, bridge:NAME, port:NAME, container:ID, package:NAME or object:NAME";
            format!("{given} names no resource: write {kinds}")
        });
    }
    id
}
