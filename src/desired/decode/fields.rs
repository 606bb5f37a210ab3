//! Taking an object apart: its fields by name, and what is left over.

use std::{borrow::Cow, collections::BTreeSet};

use crate::desired::{
    document::Want,
    fault::code,
    near::nearest,
    node::Node,
    place::{At, Faults, quoted},
};

use super::value::{Wanted, wrong_type};

/// An object with a fixed set of fields. Each field is read once, by name; [`Fields::close`] finds what was never
/// asked for, and what stands twice.
#[derive(Debug)]
pub(super) struct Fields<'n, 't, 'a> {
    pairs: &'n [(Cow<'t, str>, Node<'t>)],
    at: &'a At<'a>,
    faults: &'a mut Faults,
    asked: Vec<&'static str>,
}

impl<'n, 't, 'a> Fields<'n, 't, 'a> {
    /// Opens an object; `None` if it is something else.
    pub(super) fn open(node: &'n Node<'t>, at: &'a At<'a>, faults: &'a mut Faults) -> Option<Self> {
        if let Node::Object(pairs) = node {
            return Some(Self { pairs, at, faults, asked: Vec::new() });
        }
        wrong_type(node, Wanted::Object, at, faults);
        None
    }

    /// The field's value as it stands.
    fn node(&mut self, name: &'static str) -> Option<&'n Node<'t>> {
        self.asked.push(name);
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, node)| node)
    }

    /// Reads a field; `None` if it is not there, or wrong.
    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'n Node<'t>, &At<'_>, &mut Faults) -> Option<T>,
    ) -> Option<T> {
        let node = self.node(name)?;
        read(node, &self.at.key(name), self.faults)
    }

    /// Reads a field that can be unset.
    pub(super) fn want<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'n Node<'t>, &At<'_>, &mut Faults) -> Option<T>,
    ) -> Want<T> {
        match self.node(name) {
            None => Want::Unmanaged,
            Some(Node::Null) => Want::Unset,
            Some(node) => read(node, &self.at.key(name), self.faults).map_or(Want::Unmanaged, Want::Is),
        }
    }

    /// Reads a field that must be there.
    pub(super) fn must<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'n Node<'t>, &At<'_>, &mut Faults) -> Option<T>,
    ) -> Option<T> {
        if !self.has(name) {
            self.faults.add(self.at, code::MISSING_FIELD, || format!("the field {name} is missing"));
        }
        self.read(name, read)
    }

    /// How many faults were found so far, in all of the document.
    pub(super) const fn faults(&self) -> usize {
        self.faults.count()
    }

    /// Whether the field is there, right or wrong.
    pub(super) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(key, _)| key == name)
    }

    /// Reports keys that stand twice and keys that nobody asked for.
    pub(super) fn close(self) {
        let Self { pairs, at, faults, asked } = self;
        for (key, _) in distinct(pairs, at, faults) {
            if !asked.contains(&key) {
                faults.add(&at.key(key), code::UNKNOWN_FIELD, || {
                    let remedy = match nearest(key, asked.iter().copied()) {
                        Some(near) => format!("did you mean {near}?"),
                        None => format!("there are {}", asked.join(", ")),
                    };
                    format!("there is no field {}; {remedy}", quoted(key))
                });
            }
        }
    }
}

/// The pairs of an object whose keys are names; a name that stands twice is a fault, and its first value counts.
pub(super) fn entries<'n, 't>(
    node: &'n Node<'t>,
    at: &At<'_>,
    faults: &mut Faults,
) -> Option<Vec<(&'n str, &'n Node<'t>)>> {
    if let Node::Object(pairs) = node {
        return Some(distinct(pairs, at, faults));
    }
    wrong_type(node, Wanted::Object, at, faults);
    None
}

/// The first of each key.
fn distinct<'n, 't>(
    pairs: &'n [(Cow<'t, str>, Node<'t>)],
    at: &At<'_>,
    faults: &mut Faults,
) -> Vec<(&'n str, &'n Node<'t>)> {
    let mut seen = BTreeSet::new();
    let mut first = Vec::with_capacity(pairs.len());
    for (key, node) in pairs {
        if seen.insert(key.as_ref()) {
            first.push((key.as_ref(), node));
        } else {
            faults.add(&at.key(key), code::DUPLICATE_KEY, || {
                format!("the key {} stands twice in this object: take one away", quoted(key))
            });
        }
    }
    first
}
