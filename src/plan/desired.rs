//! A document with what planning looks up in it again and again.

use std::{collections::BTreeMap, ops::Deref, sync::Arc};

use crate::{
    desired::{ContainerSpec, Document},
    model::Name,
};

/// A document, ready to be planned with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    document: Arc<Document>,
    /// Port to the declared container that brings it.
    bringers: BTreeMap<Name, Name>,
}

impl Desired {
    /// Makes the look-ups, once for a document.
    #[must_use]
    pub fn new(document: Arc<Document>) -> Self {
        let named = |(id, spec): (&Name, &ContainerSpec)| {
            let id = id.clone();
            port_names(&id, spec).map(|port| (port, id.clone())).collect::<Vec<_>>()
        };
        let bringers = document.containers.iter().flat_map(named).collect();
        Self { document, bringers }
    }

    /// The declared container that brings that port.
    #[must_use]
    pub fn bringer(&self, port: &Name) -> Option<&Name> {
        self.bringers.get(port)
    }

    /// The document.
    #[must_use]
    pub const fn document(&self) -> &Arc<Document> {
        &self.document
    }
}

impl Deref for Desired {
    type Target = Document;

    fn deref(&self) -> &Document {
        &self.document
    }
}

/// The names that satisfy a container's `veth`: itself, and for Proxmox's first network `vethN` also `vethNi0` and,
/// behind its firewall, `fwlnNo0`.
pub(super) fn port_names(id: &Name, spec: &ContainerSpec) -> impl Iterator<Item = Name> + use<> {
    let veth = spec.veth.clone();
    let first = veth.as_deref().is_some_and(|veth| veth.strip_prefix("veth") == Some(&**id));
    let others = first.then(|| [format!("veth{id}i0"), format!("fwln{id}o0")]);
    veth.into_iter().chain(others.into_iter().flatten().map(Name::from))
}
