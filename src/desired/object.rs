//! `dbus.objects.NAME`: an object of any D-Bus service, typed but for the values of its properties.
//!
//! What type a property has only its service can tell, so values stay JSON here and are held against the service's own
//! introspection when a plan is made ([`crate::typed`]).

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::document::{Common, Ensure};
use crate::model::words::document_words;

document_words! {
    /// The bus that a service is on.
    ObjectBus {
        /// The system's.
        System = "system",
        /// The session's, of the user that op-dbus runs as.
        Session = "session",
    }
}

document_words! {
    /// What shows that a setter that finishes later has finished.
    #[derive(Default)]
    WaitFor {
        /// The object is as wanted: it is read after the answer, and after each of its signals.
        #[default]
        Property = "property",
        /// A signal of the object after the call; then it is read.
        Signal = "signal",
        /// The call answers with the path of a job of systemd's: its end.
        Job = "job",
    }
}

/// A place where `$` references stand, or a plain path: `/org/example` or `$lookup:NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectPlace {
    /// That path.
    Path(String),
    /// The path that the look-up of that name finds.
    Lookup(String),
}

impl ObjectPlace {
    /// As it is written.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Path(path) => path.clone(),
            Self::Lookup(name) => format!("$lookup:{name}"),
        }
    }
}

/// A method to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Where; `None` = on the declared object.
    pub path: Option<ObjectPlace>,
    /// Its interface; `None` = the declared one.
    pub interface: Option<String>,
    /// The method.
    pub method: String,
    /// Its arguments, in JSON; texts that begin with `$` are references: `$value`, `$property:NAME`, `$object`,
    /// `$lookup:NAME`; `$$` stands for a plain `$`.
    pub args: Vec<Json>,
    /// What shows that it has finished.
    pub wait_for: WaitFor,
}

/// A property's wanted value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertySpec {
    /// The value, in JSON.
    pub value: Json,
    /// The method that sets it; `None` = `Properties.Set`.
    pub set: Option<Call>,
    /// Values that it goes through on its way, in JSON: they are waited for, and no drift.
    pub passing: Vec<Json>,
}

/// Where a look-up finds object paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The value of that property.
    Property(String),
    /// The answer of that method.
    Method {
        /// Its name.
        method: String,
        /// Its arguments, in JSON, without references.
        args: Vec<Json>,
    },
}

/// The one that is meant of several object paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// An interface of theirs.
    pub interface: String,
    /// A property of that.
    pub property: String,
    /// What it must be.
    pub value: Json,
}

/// A look-up: an object path that only the service knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The object that is asked.
    pub path: String,
    /// Its interface.
    pub interface: String,
    /// What it is asked.
    pub source: Source,
    /// Which of the paths it is; `None` = the only one.
    pub matching: Option<Match>,
}

/// `dbus.objects.NAME`.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectSpec {
    /// The bus; `None` = the one that op-dbus itself is on.
    pub bus: Option<ObjectBus>,
    /// The service's well-known name.
    pub service: String,
    /// The object.
    pub path: ObjectPlace,
    /// The interface that is declared.
    pub interface: String,
    /// The bus may start the service to have it looked at.
    pub activate: bool,
    /// Paths to be found out, by name.
    pub lookups: BTreeMap<String, Lookup>,
    /// Whether it shall exist; `None` = nothing is done about that.
    pub ensure: Option<Ensure>,
    /// The method that answers whether it exists; `None` = it does where the object has the interface.
    pub exists: Option<Call>,
    /// The method that makes it.
    pub create: Option<Call>,
    /// The method that removes it.
    pub remove: Option<Call>,
    /// Properties, key by key.
    pub properties: BTreeMap<String, PropertySpec>,
    /// May be written although it is on the never-touch list.
    pub allow_protected: bool,
    /// What every entry can say.
    pub common: Common,
    /// Where the parts of an entry by a preset were written.
    pub origins: Origins,
}

/// Where the parts of an entry stand in the document: an entry by a preset has them under `with`. No part of what the entry
/// means: all origins are equal.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// JSON pointers, from the entry on: of the part in the object in full, and of what was written for it. Empty for an
    /// entry that was written in full.
    places: BTreeMap<String, String>,
}

impl PartialEq for Origins {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Origins {
    pub(super) const fn new(places: BTreeMap<String, String>) -> Self {
        Self { places }
    }

    /// The pointer to what was written for that part; to the preset, where the part is the preset's own.
    fn of(&self, part: &str) -> String {
        if self.places.is_empty() {
            return part.to_owned();
        }
        let mut known = part;
        loop {
            if let Some(written) = self.places.get(known) {
                return format!("{written}{}", part.get(known.len()..).unwrap_or_default());
            }
            match known.rsplit_once('/') {
                Some((outer, _)) if !outer.is_empty() => known = outer,
                _ => return "/preset".to_owned(),
            }
        }
    }
}

impl ObjectSpec {
    /// All its calls, those that only read last.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        let sets = self.properties.values().filter_map(|property| property.set.as_ref());
        sets.chain(&self.create).chain(&self.remove).chain(&self.exists)
    }

    /// Where a part of the object was written: a JSON pointer from the entry on, as `part` is one of the object in full.
    #[must_use]
    pub fn written(&self, part: &str) -> String {
        self.origins.of(part)
    }

    /// Where a property's value was written; for an entry in full, the property itself.
    #[must_use]
    pub fn value_written(&self, property: &str) -> String {
        let place = format!("/properties/{property}");
        if self.origins.places.is_empty() { place } else { self.origins.of(&format!("{place}/value")) }
    }

    /// Properties that calls repeat: `$property:NAME`.
    pub fn repeated(&self) -> impl Iterator<Item = &str> {
        self.calls().flat_map(|call| call.args.iter()).flat_map(references).filter_map(|reference| match reference {
            Reference::Property(name) => Some(name),
            _ => None,
        })
    }
}

/// What a text of a call's arguments refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference<'a> {
    /// `$value`: the value that the property shall have.
    Value,
    /// `$object`: the declared object's path.
    Object,
    /// `$property:NAME`: what that property is, or shall be where the document says so.
    Property(&'a str),
    /// `$lookup:NAME`: the path that the look-up found.
    Lookup(&'a str),
    /// `$$text`: the text, with one `$`.
    Escaped(&'a str),
    /// Begins with `$` and is none of these.
    Unknown(&'a str),
}

impl<'a> Reference<'a> {
    /// Reads a text; `None` for one that stands for itself.
    #[must_use]
    pub fn read(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix('$')?;
        Some(match rest.split_once(':') {
            _ if rest.starts_with('$') => Self::Escaped(rest),
            Some(("property", name)) => Self::Property(name),
            Some(("lookup", name)) => Self::Lookup(name),
            None if rest == "value" => Self::Value,
            None if rest == "object" => Self::Object,
            _ => Self::Unknown(text),
        })
    }
}

/// All references in a JSON value.
pub fn references(value: &Json) -> Vec<Reference<'_>> {
    match value {
        Json::String(text) => Reference::read(text).into_iter().collect(),
        Json::Array(items) => items.iter().flat_map(references).collect(),
        Json::Object(fields) => fields.values().flat_map(references).collect(),
        _ => Vec::new(),
    }
}
