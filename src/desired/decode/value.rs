//! Reading one value: its type, its range, and what to say where it is neither.

use std::{collections::BTreeSet, ops::RangeInclusive};

use crate::{
    desired::{
        document::{ActiveState, BondMode, Ensure, FailMode, Lacp, OptionalMap, VlanMode},
        fault::code,
        near::nearest,
        node::Node,
        object::{ObjectBus, WaitFor},
        packages::PackageEnsure,
        place::{At, Faults, quoted},
    },
    model::DriftPolicy,
};

use super::fields::entries;

/// Keys that begin so are op-dbus's own marks.
pub(in crate::desired) const RESERVED_PREFIX: &str = "opdbus-";

/// The JSON types that a field can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Bool,
    Number,
    Text,
    TextOrNull,
    List,
    Object,
    /// A value of a unit's property.
    Property,
    /// A value of any D-Bus type.
    Value,
}

impl Wanted {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Number => "a whole number",
            Self::Text => "a text",
            Self::TextOrNull => "a text, or null where the key must not be there",
            Self::List => "a list",
            Self::Object => "an object",
            Self::Property => "a text, a whole number, true, false or a list of texts",
            Self::Value => "a value",
        }
    }
}

/// A value of another type.
pub(super) fn wrong_type(node: &Node<'_>, wanted: Wanted, at: &At<'_>, faults: &mut Faults) {
    let remedy = match (wanted, node) {
        (_, Node::Null) => "; leave it out if it shall not be managed",
        (Wanted::Text | Wanted::TextOrNull, Node::Unsigned(_) | Node::Negative(_) | Node::Bool(_)) => {
            "; put it in quotes"
        }
        (Wanted::Bool | Wanted::Number, Node::Text(_)) => "; write it without quotes",
        (Wanted::List, Node::Text(_) | Node::Unsigned(_)) => "; put it in [ ]",
        _ => "",
    };
    faults.add(at, code::WRONG_TYPE, || format!("must be {}, but is {}{remedy}", wanted.as_str(), node.kind()));
}

/// `true` or `false`.
pub(super) fn boolean(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<bool> {
    if let Node::Bool(value) = node {
        return Some(*value);
    }
    wrong_type(node, Wanted::Bool, at, faults);
    None
}

/// A text that every backend can carry.
pub(super) fn text<'n>(node: &'n Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<&'n str> {
    if let Node::Text(value) = node {
        return no_nul(value, at, faults).then_some(value);
    }
    wrong_type(node, Wanted::Text, at, faults);
    None
}

/// Whether the text has no NUL, which neither D-Bus nor OVSDB can carry.
pub(super) fn no_nul(value: &str, at: &At<'_>, faults: &mut Faults) -> bool {
    let nul = value.contains('\0');
    if nul {
        faults.add(at, code::OUT_OF_RANGE, || "holds the character NUL (\\u0000), which no backend takes".to_owned());
    }
    !nul
}

/// A text that the check takes.
pub(super) fn name<'n>(
    node: &'n Node<'_>,
    check: fn(&str) -> Result<(), &'static str>,
    at: &At<'_>,
    faults: &mut Faults,
) -> Option<&'n str> {
    let value = text(node, at, faults)?;
    good_name(value, check, at, faults).then_some(value)
}

/// Whether the check takes that name.
pub(super) fn good_name(
    value: &str,
    check: fn(&str) -> Result<(), &'static str>,
    at: &At<'_>,
    faults: &mut Faults,
) -> bool {
    let verdict = check(value);
    if let Err(why) = verdict {
        faults.add(at, code::BAD_NAME, || format!("the name {} {why}", quoted(value)));
    }
    verdict.is_ok()
}

/// A whole number in that range.
pub(super) fn integer<T: TryFrom<u64>>(
    node: &Node<'_>,
    range: RangeInclusive<u64>,
    at: &At<'_>,
    faults: &mut Faults,
) -> Option<T> {
    match node {
        Node::Unsigned(value) if range.contains(value) => return T::try_from(*value).ok(),
        Node::Unsigned(_) | Node::Negative(_) => {
            let (least, most) = (range.start(), range.end());
            faults.add(at, code::OUT_OF_RANGE, || format!("must be a number from {least} to {most}"));
        }
        _ => wrong_type(node, Wanted::Number, at, faults),
    }
    None
}

/// A set of values, written as a list; `None` if any of them is wrong. `null` is the empty set.
pub(super) fn set<'n, 't, T: Ord>(
    node: &'n Node<'t>,
    at: &At<'_>,
    faults: &mut Faults,
    mut item: impl FnMut(&'n Node<'t>, &At<'_>, &mut Faults) -> Option<T>,
) -> Option<BTreeSet<T>> {
    let items = match node {
        Node::List(items) => items.as_slice(),
        Node::Null => &[],
        _ => {
            wrong_type(node, Wanted::List, at, faults);
            return None;
        }
    };
    let mut values = BTreeSet::new();
    let before = faults.count();
    for (index, node) in items.iter().enumerate() {
        let at = at.index(index);
        if item(node, &at, faults).is_some_and(|value| !values.insert(value)) {
            faults.add(&at, code::DUPLICATE_KEY, || "stands twice in this list: take one away".to_owned());
        }
    }
    (faults.count() == before).then_some(values)
}

/// A map of texts, owned key by key.
pub(super) fn string_map(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<OptionalMap> {
    let mut map = OptionalMap::new();
    for (key, node) in entries(node, at, faults)? {
        let at = at.key(key);
        no_nul(key, &at, faults);
        if key.starts_with(RESERVED_PREFIX) {
            faults.add(&at, code::RESERVED_KEY, || {
                format!("keys that begin with {RESERVED_PREFIX} are op-dbus's own: take it away")
            });
        }
        let value = match node {
            Node::Null => None,
            Node::Text(value) if no_nul(value, &at, faults) => Some(value.as_ref().to_owned()),
            Node::Text(_) => continue,
            _ => {
                wrong_type(node, Wanted::TextOrNull, &at, faults);
                continue;
            }
        };
        map.insert(key.to_owned(), value);
    }
    Some(map)
}

/// A field that takes one of a few words.
pub(super) trait Word: Copy + 'static {
    /// All that it can be.
    const ALL: &'static [Self];

    /// Its word.
    fn word(self) -> &'static str;

    /// Reads one of them.
    fn read(node: &Node<'_>, at: &At<'_>, faults: &mut Faults) -> Option<Self> {
        let given = text(node, at, faults)?;
        let found = Self::ALL.iter().copied().find(|value| value.word() == given);
        if found.is_none() {
            faults.add(at, code::OUT_OF_RANGE, || {
                let words: Vec<String> = Self::ALL.iter().map(|value| format!("{:?}", value.word())).collect();
                let near = nearest(given, Self::ALL.iter().map(|value| value.word()));
                let near = near.map(|word| format!("; did you mean {word:?}?")).unwrap_or_default();
                format!("{} is not one of {}{near}", quoted(given), words.join(", "))
            });
        }
        found
    }
}

macro_rules! read_words {
    ($($name:ident),+ $(,)?) => {
        $(impl Word for $name {
            const ALL: &'static [Self] = Self::ALL;

            fn word(self) -> &'static str {
                self.as_str()
            }
        })+
    };
}

read_words!(DriftPolicy, Ensure, ActiveState, FailMode, VlanMode, BondMode, Lacp, ObjectBus, WaitFor, PackageEnsure);
