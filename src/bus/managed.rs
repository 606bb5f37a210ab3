//! GetManagedObjects and InterfacesAdded, written straight from the snapshot.

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use zbus::{Signature, Type, signature};

use super::{
    interfaces::Object,
    value::{Path, Props},
};
use crate::model::Snapshot;

/// No object is smaller on the wire: `org.opdbus.Resource` alone, its texts empty, takes more. Tells without writing
/// them that so many objects cannot fit a message.
const MIN_OBJECT_BYTES: usize = 400;

/// All objects: `a{oa{sa{sv}}}`.
#[derive(Debug)]
pub(crate) struct ManagedObjects<'a>(pub(crate) &'a Snapshot);

impl ManagedObjects<'_> {
    /// Whether their number alone says that they take more bytes than that.
    pub(crate) fn surely_too_many(&self, limit: usize) -> bool {
        self.0.resources.len() > limit / MIN_OBJECT_BYTES
    }
}

impl Type for ManagedObjects<'_> {
    const SIGNATURE: &'static Signature = &signature!("a{oa{sa{sv}}}");
}

impl Serialize for ManagedObjects<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let snapshot = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(&Path::Subject(&crate::model::Subject::State), &Faces(Object::state(&snapshot.state)))?;
        for (id, facts) in &snapshot.jobs {
            map.serialize_entry(&Path::Job(*id), &Faces(Object::job(facts)))?;
        }
        for (name, facts) in &snapshot.plugins {
            let subject = crate::model::Subject::Plugin(name);
            map.serialize_entry(&Path::Subject(&subject), &Faces(Object::plugin(name, facts)))?;
        }
        for (id, facts) in &snapshot.resources {
            map.serialize_entry(&Path::of(id), &Faces(Object::resource(snapshot, id, facts)))?;
        }
        map.end()
    }
}

/// All interfaces of one object: `a{sa{sv}}`.
#[derive(Debug)]
pub(crate) struct Faces<'a>(pub(crate) Object<'a>);

impl Type for Faces<'_> {
    const SIGNATURE: &'static Signature = &signature!("a{sa{sv}}");
}

impl Serialize for Faces<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for face in self.0.faces() {
            map.serialize_entry(face.interface().name, &Props(&face.properties()))?;
        }
        map.end()
    }
}
