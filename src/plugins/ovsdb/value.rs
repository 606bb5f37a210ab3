//! Values in OVSDB's notation (RFC 7047, section 5.1): read from rows, and written into operations.
//!
//! A value is canonical: what OVSDB regards as equal is equal here, whatever its spelling on the wire (a set of one
//! element comes bare, an empty optional as an empty set).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::model::Name;

/// An atom. Reals are missing: no column that is mirrored or written here has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Atom {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A text.
    Text(Name),
    /// A reference to a row.
    Uuid(Uuid),
}

/// How many atoms a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Exactly one.
    One,
    /// One or none.
    Optional,
    /// Any number.
    Set,
    /// Any number of pairs.
    Map,
}

/// The value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Datum {
    /// One atom.
    One(Atom),
    /// An optional without a value.
    Empty,
    /// A set.
    Set(BTreeSet<Atom>),
    /// A map.
    Map(BTreeMap<Atom, Atom>),
}

/// A value that is not in OVSDB's notation, or not of the column's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a value in the notation of OVSDB: {0}")]
pub(super) struct NotationError(&'static str);

impl Atom {
    /// A text.
    pub(super) fn text(text: impl Into<Name>) -> Self {
        Self::Text(text.into())
    }

    /// Reads an atom.
    ///
    /// # Errors
    /// It is not one.
    pub(super) fn from_json(value: &Value) -> Result<Self, NotationError> {
        match value {
            Value::Bool(value) => Ok(Self::Bool(*value)),
            Value::String(value) => Ok(Self::text(value.as_str())),
            Value::Number(value) => value.as_i64().map(Self::Int).ok_or(NotationError("a number that is no integer")),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(tag), Value::String(name)] if tag == "uuid" => {
                    Uuid::try_parse(name).map(Self::Uuid).map_err(|_| NotationError("a malformed uuid"))
                }
                _ => Err(NotationError("an array that is no atom")),
            },
            Value::Null | Value::Object(_) => Err(NotationError("null or an object instead of an atom")),
        }
    }

    /// Writes it.
    #[cfg(test)]
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Bool(value) => json!(value),
            Self::Int(value) => json!(value),
            Self::Text(value) => json!(&**value),
            Self::Uuid(value) => uuid_json(*value),
        }
    }

    /// What OVSDB fills in where a row says nothing.
    #[must_use]
    pub(super) fn is_default(&self) -> bool {
        match self {
            Self::Bool(value) => !value,
            Self::Int(value) => *value == 0,
            Self::Text(value) => value.is_empty(),
            Self::Uuid(value) => value.is_nil(),
        }
    }
}

/// A reference to a row, on the wire.
#[must_use]
pub(super) fn uuid_json(uuid: Uuid) -> Value {
    json!(["uuid", uuid.hyphenated().to_string()])
}

/// A set, on the wire.
pub(super) fn set_json(atoms: impl IntoIterator<Item = Value>) -> Value {
    json!(["set", atoms.into_iter().collect::<Vec<_>>()])
}

/// A map of texts, on the wire.
pub(super) fn map_json<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    json!(["map", pairs.into_iter().map(|(key, value)| json!([key, value])).collect::<Vec<_>>()])
}

impl Datum {
    /// Reads the value of a column of that shape.
    ///
    /// # Errors
    /// It is not one.
    pub(super) fn from_json(value: &Value, shape: Shape) -> Result<Self, NotationError> {
        match shape {
            Shape::One => Atom::from_json(value).map(Self::One),
            Shape::Optional => match elements(value, "set") {
                None => Atom::from_json(value).map(Self::One),
                Some([]) => Ok(Self::Empty),
                Some([atom]) => Atom::from_json(atom).map(Self::One),
                Some(_) => Err(NotationError("several values where one or none may be")),
            },
            Shape::Set => match elements(value, "set") {
                None => Ok(Self::Set(BTreeSet::from([Atom::from_json(value)?]))),
                Some(atoms) => atoms.iter().map(Atom::from_json).collect::<Result<_, _>>().map(Self::Set),
            },
            Shape::Map => {
                let pairs = elements(value, "map").ok_or(NotationError("no map where a map must be"))?;
                let pair = |pair: &Value| match pair.as_array().map(Vec::as_slice) {
                    Some([key, value]) => Ok((Atom::from_json(key)?, Atom::from_json(value)?)),
                    _ => Err(NotationError("an element of a map that is no pair")),
                };
                pairs.iter().map(pair).collect::<Result<_, _>>().map(Self::Map)
            }
        }
    }

    /// Writes it.
    #[cfg(test)]
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::One(atom) => atom.to_json(),
            Self::Empty => set_json([]),
            Self::Set(atoms) => set_json(atoms.iter().map(Atom::to_json)),
            Self::Map(pairs) => json!([
                "map",
                pairs.iter().map(|(key, value)| json!([key.to_json(), value.to_json()])).collect::<Vec<_>>()
            ]),
        }
    }

    /// What OVSDB fills in where a row says nothing, in a column of that shape.
    #[must_use]
    pub(super) fn is_default(&self, shape: Shape) -> bool {
        match self {
            Self::One(atom) => shape == Shape::One && atom.is_default(),
            Self::Empty => true,
            Self::Set(atoms) => atoms.is_empty(),
            Self::Map(pairs) => pairs.is_empty(),
        }
    }

    /// Applies a difference as `update2` and `update3` carry it (ovsdb-server(7), 4.1.14).
    pub(super) fn apply(&mut self, difference: Self) {
        match (self, difference) {
            (Self::Set(atoms), Self::Set(difference)) => {
                for atom in difference {
                    if !atoms.remove(&atom) {
                        atoms.insert(atom);
                    }
                }
            }
            (Self::Map(pairs), Self::Map(difference)) => {
                for (key, value) in difference {
                    // A key that goes comes with its old value, one that stays with its new.
                    if pairs.get(&key) == Some(&value) {
                        pairs.remove(&key);
                    } else {
                        pairs.insert(key, value);
                    }
                }
            }
            (this, new) => *this = new,
        }
    }
}

fn elements<'a>(value: &'a Value, tag: &str) -> Option<&'a [Value]> {
    match value.as_array()?.as_slice() {
        [Value::String(found), Value::Array(elements)] if found == tag => Some(elements),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_set_of_one_comes_bare_and_an_empty_optional_as_a_set() {
        let uuid = json!(["uuid", "0a8e4fb3-bd6a-4c43-a1a8-2a2ec1d8ff90"]);
        let bare = Datum::from_json(&uuid, Shape::Set).unwrap();
        assert_eq!(bare, Datum::from_json(&json!(["set", [uuid]]), Shape::Set).unwrap());
        assert_eq!(Datum::from_json(&json!(["set", []]), Shape::Optional), Ok(Datum::Empty));
        assert_eq!(Datum::from_json(&json!(5), Shape::Optional), Ok(Datum::One(Atom::Int(5))));
    }

    #[test]
    fn a_text_that_looks_like_a_tag_is_a_text() {
        assert_eq!(Datum::from_json(&json!("set"), Shape::Set), Ok(Datum::Set([Atom::text("set")].into())));
    }

    #[test]
    fn zero_in_an_optional_is_a_value() {
        assert!(!Datum::One(Atom::Int(0)).is_default(Shape::Optional));
        assert!(Datum::One(Atom::Int(0)).is_default(Shape::One));
    }

    #[test]
    fn refuses_what_is_not_in_the_notation() {
        for bad in [json!(null), json!({}), json!([]), json!(["uuid", "x"]), json!(["set", [[]]]), json!(1.5)] {
            assert!(Datum::from_json(&bad, Shape::Set).is_err(), "{bad}");
        }
        assert!(Datum::from_json(&json!(["map", [[1]]]), Shape::Map).is_err());
        assert!(Datum::from_json(&json!(["set", [1, 2]]), Shape::Optional).is_err());
    }

    fn atom() -> impl Strategy<Value = Atom> {
        prop_oneof![
            any::<bool>().prop_map(Atom::Bool),
            any::<i64>().prop_map(Atom::Int),
            ".*".prop_map(|text| Atom::text(text.as_str())),
            any::<u128>().prop_map(|bits| Atom::Uuid(Uuid::from_u128(bits))),
        ]
    }

    proptest! {
        #[test]
        fn values_go_there_and_back(
            one in atom(),
            set in prop::collection::btree_set(atom(), 0..5),
            map in prop::collection::btree_map(atom(), atom(), 0..5),
        ) {
            for (datum, shape) in [
                (Datum::One(one.clone()), Shape::One),
                (Datum::One(one), Shape::Optional),
                (Datum::Set(set), Shape::Set),
                (Datum::Map(map), Shape::Map),
            ] {
                prop_assert_eq!(Datum::from_json(&datum.to_json(), shape), Ok(datum));
            }
        }
    }
}
