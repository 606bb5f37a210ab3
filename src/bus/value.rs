//! Values as the bus carries them, borrowed from the snapshot: no [`zbus::Variant`] is built to send one.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imbl::{OrdMap, OrdSet};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeSeq as _},
};
use zbus::{ObjectPath, Signature, Type, Variant, as_variant, signature};

use super::path::job_path;
use crate::{
    model::{
        Difference, InterfaceFacts, JobId, Kind, Name, REDACTED, ResourceId, StepFacts, StringMap, Subject, TypedValue,
        Value, holds_secret, shown,
    },
    typed,
};

/// Path of what is not there.
pub(crate) const NO_PATH: &str = "/";

/// A text. D-Bus cannot carry NUL, and a bus throws off whoever sends one; JSON, and so OVSDB, can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl Type for Text<'_> {
    const SIGNATURE: &'static Signature = &Signature::Str;
}

impl<'a> Text<'a> {
    /// The text without NUL.
    pub(crate) fn clean(self) -> Cow<'a, str> {
        if self.0.contains('\0') { Cow::Owned(self.0.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(self.0) }
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.clean())
    }
}

/// An object path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path<'a> {
    /// Nothing: `/`.
    None,
    /// An object of another service.
    Foreign(&'a str),
    /// A job's.
    Job(JobId),
    /// What a job or a step is about.
    Subject(&'a Subject),
    /// A resource's.
    Resource(Kind, &'a str),
}

impl<'a> Path<'a> {
    /// A path as a backend tells it; [`Path::None`] where it is none.
    pub(crate) fn foreign(path: &'a str) -> Self {
        if ObjectPath::try_from(path).is_ok() { Self::Foreign(path) } else { Self::None }
    }

    /// A resource's path.
    pub(crate) fn of(id: &'a ResourceId) -> Self {
        Self::Resource(id.kind, &id.name)
    }

    /// As a text.
    pub(crate) fn text(self) -> Cow<'a, str> {
        match self {
            Self::None => Cow::Borrowed(NO_PATH),
            Self::Foreign(path) => Cow::Borrowed(path),
            Self::Job(id) => Cow::Owned(job_path(id)),
            Self::Subject(subject) => Cow::Owned(subject.path()),
            Self::Resource(kind, name) => Cow::Owned(resource_path(kind, name)),
        }
    }
}

/// The path of a resource of that kind and name.
fn resource_path(kind: Kind, name: &str) -> String {
    format!("{}/{kind}/{}", super::path::ROOT, crate::model::escape_path_element(name))
}

impl Type for Path<'_> {
    const SIGNATURE: &'static Signature = &Signature::ObjectPath;
}

impl Serialize for Path<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

/// Names of a set, whichever kind of set holds it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Names<'a> {
    /// A shared set.
    Shared(&'a OrdSet<Name>),
    /// A plain set.
    Plain(&'a BTreeSet<Name>),
}

impl Names<'_> {
    fn iter(&self) -> Box<dyn Iterator<Item = &Name> + '_> {
        match self {
            Self::Shared(names) => Box::new(names.iter()),
            Self::Plain(names) => Box::new(names.iter()),
        }
    }
}

impl PartialEq for Names<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            // By what they do not share: a bridge may have thousands of ports.
            (Self::Shared(old), Self::Shared(new)) => old.ptr_eq(new) || old.diff(new).next().is_none(),
            _ => self.iter().eq(other.iter()),
        }
    }
}

/// Paths of resources of one kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Paths<'a>(pub(crate) Kind, pub(crate) Names<'a>);

impl Type for Paths<'_> {
    const SIGNATURE: &'static Signature = &signature!("ao");
}

impl Serialize for Paths<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.1.iter().map(|name| Path::Resource(self.0, name)))
    }
}

/// A set of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Texts<'a>(pub(crate) &'a BTreeSet<String>);

impl Type for Texts<'_> {
    const SIGNATURE: &'static Signature = &signature!("as");
}

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|text| Text(text)))
    }
}

/// A set of VLANs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vlans<'a>(pub(crate) &'a BTreeSet<u16>);

impl Type for Vlans<'_> {
    const SIGNATURE: &'static Signature = &signature!("ai");
}

impl Serialize for Vlans<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().copied().map(i32::from))
    }
}

/// A map of texts, its secrets redacted. Equal where it looks equal: a secret that changed is not told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Map<'a>(pub(crate) &'a StringMap);

impl<'a> Map<'a> {
    fn iter(self) -> impl Iterator<Item = (Text<'a>, Text<'a>)> {
        self.0.iter().map(|(key, value)| (Text(key), Text(shown(key, value))))
    }
}

impl PartialEq for Map<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Type for Map<'_> {
    const SIGNATURE: &'static Signature = &signature!("a{ss}");
}

impl Serialize for Map<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// A value of a field as a variant; what is not there as an empty `av`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wire<'a>(pub(crate) &'a Value);

impl Type for Wire<'_> {
    const SIGNATURE: &'static Signature = &Signature::Variant;
}

impl Serialize for Wire<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Absent => as_variant::serialize(&Nothing, serializer),
            Value::Bool(value) => as_variant::serialize(value, serializer),
            Value::Int(value) => as_variant::serialize(value, serializer),
            Value::UInt(value) => as_variant::serialize(value, serializer),
            Value::Str(value) => as_variant::serialize(&Text(value), serializer),
            Value::Strs(values) => {
                let texts: Vec<_> = values.iter().map(|text| Text(text)).collect();
                as_variant::serialize(&texts, serializer)
            }
            Value::Ints(values) => as_variant::serialize(values, serializer),
        }
    }
}

/// An empty `av`.
struct Nothing;

impl Type for Nothing {
    const SIGNATURE: &'static Signature = &signature!("av");
}

impl Serialize for Nothing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_seq(Some(0))?.end()
    }
}

/// An empty `a{sv}`, where a struct may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct More;

impl Type for More {
    const SIGNATURE: &'static Signature = &signature!("a{sv}");
}

impl Serialize for More {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_map(Some(0))?.end()
    }
}

/// Values of other services' properties, in their own types; what may be a secret is redacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TypedMap<'a>(pub(crate) &'a BTreeMap<String, TypedValue>);

impl Type for TypedMap<'_> {
    const SIGNATURE: &'static Signature = &signature!("a{sv}");
}

impl Serialize for TypedMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = self.0.iter().filter_map(|(name, typed)| {
            if holds_secret(name, &typed.value) {
                return Some((name, Variant::from(REDACTED)));
            }
            let signature = typed::single(&typed.signature)?;
            Some((name, typed::to_variant(&typed.value, &signature).ok()?))
        });
        serializer.collect_map(shown)
    }
}

/// Differences as field, desired, observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Differences<'a>(pub(crate) &'a [Difference]);

impl Type for Differences<'_> {
    const SIGNATURE: &'static Signature = &signature!("a(svv)");
}

impl Serialize for Differences<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_seq(self.0.iter().map(|entry| (Text(&entry.field), Wire(&entry.desired), Wire(&entry.observed))))
    }
}

/// A job's steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps<'a>(pub(crate) &'a OrdMap<u32, Arc<StepFacts>>);

impl PartialEq for Steps<'_> {
    fn eq(&self, other: &Self) -> bool {
        // By what they do not share: a job may have thousands of steps, and each changes several times.
        self.0.ptr_eq(other.0) || self.0.diff(other.0).next().is_none()
    }
}

impl Type for Steps<'_> {
    const SIGNATURE: &'static Signature = &signature!("a(uosssa{sv})");
}

impl Serialize for Steps<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(id, step)| {
            (*id, Path::Subject(&step.subject), step.action, step.state.as_str(), Text(&step.message), More)
        }))
    }
}

/// A port's interfaces. Equal where the columns shown are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interfaces<'a>(pub(crate) &'a [InterfaceFacts]);

impl<'a> Interfaces<'a> {
    fn rows(self) -> impl Iterator<Item = (Text<'a>, i32, Text<'a>, Text<'a>, Text<'a>)> {
        self.0
            .iter()
            .map(|row| (Text(&row.name), of_port(row), Text(&row.link_state), Text(&row.mac_in_use), Text(&row.error)))
    }
}

/// `OfPort` of an interface; 0 while ovs-vswitchd has not looked at it.
pub(crate) fn of_port(row: &InterfaceFacts) -> i32 {
    row.ofport.unwrap_or(0)
}

impl PartialEq for Interfaces<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rows().eq(other.rows())
    }
}

impl Type for Interfaces<'_> {
    const SIGNATURE: &'static Signature = &signature!("a(sisssa{sv})");
}

impl Serialize for Interfaces<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            self.rows().map(|(name, ofport, link_state, mac, error)| (name, ofport, link_state, mac, error, More)),
        )
    }
}

/// Value of one property; serialises as a variant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Prop<'a> {
    /// `b`.
    Bool(bool),
    /// `i`.
    I32(i32),
    /// `u`.
    U32(u32),
    /// `t`.
    U64(u64),
    /// `d`.
    F64(f64),
    /// `s`.
    Text(&'a str),
    /// `o`.
    Path(Path<'a>),
    /// `ao`.
    Paths(Paths<'a>),
    /// `as`.
    Texts(Texts<'a>),
    /// `ai`.
    Vlans(Vlans<'a>),
    /// `a{ss}`.
    Map(Map<'a>),
    /// `a(svv)`.
    Differences(Differences<'a>),
    /// `a(uosssa{sv})`.
    Steps(Steps<'a>),
    /// `a(sisssa{sv})`.
    Interfaces(Interfaces<'a>),
    /// `a{sv}`.
    Typed(TypedMap<'a>),
}

impl Type for Prop<'_> {
    const SIGNATURE: &'static Signature = &Signature::Variant;
}

impl Serialize for Prop<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => as_variant::serialize(value, serializer),
            Self::I32(value) => as_variant::serialize(value, serializer),
            Self::U32(value) => as_variant::serialize(value, serializer),
            Self::U64(value) => as_variant::serialize(value, serializer),
            Self::F64(value) => as_variant::serialize(value, serializer),
            Self::Text(value) => as_variant::serialize(&Text(value), serializer),
            Self::Path(value) => as_variant::serialize(value, serializer),
            Self::Paths(value) => as_variant::serialize(value, serializer),
            Self::Texts(value) => as_variant::serialize(value, serializer),
            Self::Vlans(value) => as_variant::serialize(value, serializer),
            Self::Map(value) => as_variant::serialize(value, serializer),
            Self::Differences(value) => as_variant::serialize(value, serializer),
            Self::Steps(value) => as_variant::serialize(value, serializer),
            Self::Interfaces(value) => as_variant::serialize(value, serializer),
            Self::Typed(value) => as_variant::serialize(value, serializer),
        }
    }
}

/// Properties by name.
#[derive(Debug)]
pub(crate) struct Props<'p, 'a>(pub(crate) &'p [(&'static str, Prop<'a>)]);

impl Type for Props<'_, '_> {
    const SIGNATURE: &'static Signature = &signature!("a{sv}");
}

impl Serialize for Props<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use zbus::wire::{LE, serialized::Context, to_bytes};

    fn read(prop: Prop<'_>) -> zbus::OwnedVariant {
        let bytes = to_bytes(Context::new(LE, 0), &prop).unwrap();
        bytes.deserialize::<zbus::OwnedVariant>().unwrap().0
    }

    #[test]
    fn nul_never_reaches_the_wire() {
        let value = read(Prop::Text("a\0b"));
        assert_eq!(<&str>::try_from(&*value).unwrap(), "a\u{fffd}b");
    }

    #[test]
    fn secrets_are_not_shown_and_their_change_is_not_told() {
        let map =
            |psk: &str| StringMap::from([("psk".to_owned(), psk.to_owned()), ("site".to_owned(), "a".to_owned())]);
        let (one, two) = (map("swordfish"), map("marlin"));
        assert!(!format!("{:?}", read(Prop::Map(Map(&one)))).contains("swordfish"));
        assert_eq!(Map(&one), Map(&two));
        let three = StringMap::from([("site".to_owned(), "b".to_owned())]);
        assert_ne!(Map(&one), Map(&three));
    }

    #[test]
    fn what_is_no_path_becomes_the_empty_one() {
        for (given, path) in [("", "/"), ("not/a/path", "/"), ("/a//b", "/"), ("/a/b", "/a/b")] {
            assert_eq!(Path::foreign(given).text(), path);
        }
    }

    #[test]
    fn absent_is_an_empty_array_of_variants() {
        type Rows = Vec<(String, zbus::OwnedVariant, zbus::OwnedVariant)>;
        let difference = [Difference::new("tag", Value::Int(10), Value::Absent)];
        let bytes = to_bytes(Context::new(LE, 0), &Prop::Differences(Differences(&difference))).unwrap();
        let rows = bytes.deserialize::<as_variant::Deserialize<'_, Rows>>().unwrap().0.0;
        let [(field, desired, observed)] = rows.as_slice() else { unreachable!("one row went in") };
        assert_eq!(field, "tag");
        assert_eq!(i64::try_from(&**desired).unwrap(), 10);
        assert_eq!(observed.value_signature().to_string(), "av");
    }
}
