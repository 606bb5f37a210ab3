//! A row of a mirrored table.

use uuid::Uuid;

use super::{
    schema::Column,
    value::{Atom, Datum},
};
use crate::model::{Name, StringMap};

/// A row. Columns at their default are not kept: a mirror of 10,000 ports stays small.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row(Vec<(&'static str, Datum)>);

impl Row {
    /// The value, unless it is the default.
    #[must_use]
    pub(super) fn get(&self, column: &str) -> Option<&Datum> {
        self.0.iter().find(|(name, _)| *name == column).map(|(_, datum)| datum)
    }

    /// Replaces a value.
    pub(super) fn set(&mut self, column: &'static Column, datum: Datum) {
        self.0.retain(|(name, _)| *name != column.name);
        if !datum.is_default(column.shape) {
            self.0.push((column.name, datum));
        }
    }

    /// Applies a difference to a value.
    pub(super) fn apply(&mut self, column: &'static Column, difference: Datum) {
        match self.0.iter().position(|(name, _)| *name == column.name) {
            None => self.set(column, difference),
            Some(at) => {
                let Some((_, datum)) = self.0.get_mut(at) else { return };
                datum.apply(difference);
                if datum.is_default(column.shape) {
                    self.0.swap_remove(at);
                }
            }
        }
    }

    fn atom(&self, column: &str) -> Option<&Atom> {
        match self.get(column)? {
            Datum::One(atom) => Some(atom),
            _ => None,
        }
    }

    /// A text; empty where there is none.
    #[must_use]
    pub(super) fn text(&self, column: &str) -> &str {
        match self.atom(column) {
            Some(Atom::Text(text)) => text,
            _ => "",
        }
    }

    /// Its `name`.
    #[must_use]
    pub(super) fn name(&self) -> Name {
        match self.atom("name") {
            Some(Atom::Text(text)) => text.clone(),
            _ => Name::from(""),
        }
    }

    /// An integer, where there is one. (A mandatory integer that is 0 is the default: `None`.)
    #[must_use]
    pub(super) fn int(&self, column: &str) -> Option<i64> {
        match self.atom(column) {
            Some(Atom::Int(value)) => Some(*value),
            _ => None,
        }
    }

    /// A boolean.
    #[must_use]
    pub(super) fn is(&self, column: &str) -> bool {
        matches!(self.atom(column), Some(Atom::Bool(true)))
    }

    /// The elements of a set.
    pub(super) fn atoms(&self, column: &str) -> impl Iterator<Item = &Atom> {
        match self.get(column) {
            Some(Datum::Set(atoms)) => Some(atoms.iter()),
            _ => None,
        }
        .into_iter()
        .flatten()
    }

    /// The rows that a set refers to.
    pub(super) fn uuids(&self, column: &str) -> impl Iterator<Item = Uuid> {
        self.atoms(column).filter_map(|atom| match atom {
            Atom::Uuid(uuid) => Some(*uuid),
            _ => None,
        })
    }

    /// Whether the set refers to that row.
    #[must_use]
    pub(super) fn refers_to(&self, column: &str, row: Uuid) -> bool {
        matches!(self.get(column), Some(Datum::Set(atoms)) if atoms.contains(&Atom::Uuid(row)))
    }

    /// A map of texts.
    #[must_use]
    pub(super) fn map(&self, column: &str) -> StringMap {
        let Some(Datum::Map(pairs)) = self.get(column) else { return StringMap::new() };
        let texts = pairs.iter().filter_map(|pair| match pair {
            (Atom::Text(key), Atom::Text(value)) => Some(((**key).to_owned(), (**value).to_owned())),
            _ => None,
        });
        texts.collect()
    }
}
