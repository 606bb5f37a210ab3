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
            let links = spec.machine_links(&id).into_iter().flat_map(BTreeMap::into_values);
            let ports: Vec<Name> = spec.port_names(&id).into_iter().chain(links).collect();
            ports.into_iter().map(move |port| (port, id.clone()))
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
