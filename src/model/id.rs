//! Names of resources, on the bus and in the document.

use std::{fmt, str::FromStr, sync::Arc};

/// A name that many places share: cheap to clone, ordered as its text.
pub type Name = Arc<str>;

/// The kinds of resource that a document can declare or the tree can show.
///
/// Their order breaks ties in a plan (design: packages, bridges, ports, containers, units, objects).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A package of the distribution's.
    Package,
    /// An Open vSwitch bridge.
    Bridge,
    /// An Open vSwitch port.
    Port,
    /// A container, whatever its runtime.
    Container,
    /// A systemd unit.
    Unit,
    /// An object of another D-Bus service.
    Object,
}

impl Kind {
    /// All kinds, in the order that breaks ties.
    pub const ALL: [Self; 6] = [Self::Package, Self::Bridge, Self::Port, Self::Container, Self::Unit, Self::Object];

    /// The word that stands for the kind in `after`, in object paths and in `Resource.Kind`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Bridge => "bridge",
            Self::Port => "port",
            Self::Container => "container",
            Self::Unit => "unit",
            Self::Object => "object",
        }
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One resource: its kind and its own name, never a backend's uuid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId {
    /// The kind.
    pub kind: Kind,
    /// The name, as the backend spells it.
    pub name: Name,
}

impl ResourceId {
    /// The resource of that kind and name.
    pub fn new(kind: Kind, name: impl Into<Name>) -> Self {
        Self { kind, name: name.into() }
    }

    /// A unit.
    pub fn unit(name: impl Into<Name>) -> Self {
        Self::new(Kind::Unit, name)
    }

    /// A bridge.
    pub fn bridge(name: impl Into<Name>) -> Self {
        Self::new(Kind::Bridge, name)
    }

    /// A port.
    pub fn port(name: impl Into<Name>) -> Self {
        Self::new(Kind::Port, name)
    }

    /// A package, by its name or as `NAME:ARCH`.
    pub fn package(name: impl Into<Name>) -> Self {
        Self::new(Kind::Package, name)
    }

    /// A container.
    pub fn container(name: impl Into<Name>) -> Self {
        Self::new(Kind::Container, name)
    }

    /// An object of another D-Bus service.
    pub fn object(name: impl Into<Name>) -> Self {
        Self::new(Kind::Object, name)
    }

    /// Its object path, `/org/opdbus/KIND/ESC`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/org/opdbus/{}/{}", self.kind, escape_path_element(&self.name))
    }
}

impl fmt::Display for ResourceId {
    /// `kind:name`, as `after` spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

impl FromStr for ResourceId {
    type Err = ();

    /// Reads `kind:name`; the name may hold colons of its own.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, name) = text.split_once(':').ok_or(())?;
        if name.is_empty() {
            return Err(());
        }
        Ok(Self::new(kind.parse()?, name))
    }
}

/// What a step or a job is about: one resource, a whole plugin (systemd's daemon-reload), or the whole state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The desired state as a whole.
    State,
    /// A plugin.
    Plugin(&'static str),
    /// One resource.
    Resource(ResourceId),
}

impl Subject {
    /// Its object path.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::State => "/org/opdbus/state".to_owned(),
            Self::Plugin(name) => format!("/org/opdbus/plugin/{name}"),
            Self::Resource(id) => id.path(),
        }
    }
}

impl From<ResourceId> for Subject {
    fn from(id: ResourceId) -> Self {
        Self::Resource(id)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State => f.write_str("state"),
            Self::Plugin(name) => write!(f, "plugin:{name}"),
            Self::Resource(id) => id.fmt(f),
        }
    }
}

/// Escapes a name as one element of an object path, as systemd does (`sd_bus_path_encode(3)`): ASCII letters and
/// digits stay, all else and a leading digit become `_xx`, the empty name becomes `_`. Injective.
#[must_use]
pub fn escape_path_element(name: &str) -> String {
    use fmt::Write as _;
    if name.is_empty() {
        return "_".to_owned();
    }
    let mut out = String::with_capacity(name.len() + 8);
    for (at, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "_{byte:02x}");
        }
    }
    out
}

/// Takes [`escape_path_element`] back; `None` where the text is not something it makes.
#[must_use]
pub fn unescape_path_element(element: &str) -> Option<String> {
    if element == "_" {
        return Some(String::new());
    }
    let mut out = Vec::with_capacity(element.len());
    let mut bytes = element.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'_' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let code = digit(bytes.next())? * 16 + digit(bytes.next())?;
            out.push(u8::try_from(code).ok()?);
        } else {
            out.push(byte);
        }
    }
    let name = String::from_utf8(out).ok()?;
    (escape_path_element(&name) == element).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_as_systemd_does() {
        assert_eq!(escape_path_element("pve-container@100.service"), "pve_2dcontainer_40100_2eservice");
        assert_eq!(escape_path_element("100"), "_3100");
        assert_eq!(escape_path_element(""), "_");
    }

    #[test]
    fn refuses_what_escaping_never_makes() {
        for bad in ["_2", "_zz", "a-b", "_61", "1a", "_FF"] {
            assert_eq!(unescape_path_element(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_name_goes_there_and_back(name in ".*") {
            let escaped = escape_path_element(&name);
            prop_assert!(escaped.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
            prop_assert_eq!(unescape_path_element(&escaped), Some(name));
        }
    }
}
