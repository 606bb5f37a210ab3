//! The rows as the server told them, and what was touched since one last asked.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value, value::RawValue};
use uuid::Uuid;

use super::{
    row::Row,
    schema::Table,
    value::{Atom, Datum, NotationError},
};
use crate::model::Name;

/// The two notations of updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notation {
    /// `update` (RFC 7047, 4.1.6): `old` and `new`.
    Whole,
    /// `update2` and `update3` (ovsdb-server(7), 4.1.14): `initial`, `insert`, `modify` as a difference, `delete`.
    Difference,
}

/// An update that cannot be applied. What the cache holds is of no more use: the connection must be made anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CacheError {
    /// Not of the form of an update.
    #[error("an update is malformed: {0}")]
    Malformed(String),
    /// Not of the form of an update.
    #[error("an update has no {0}")]
    Form(&'static str),
    /// A value is wrong.
    #[error(transparent)]
    Value(#[from] NotationError),
    /// A row changed that nobody knows.
    #[error("a change of {0} row {1}, which was never told")]
    UnknownRow(&'static str, Uuid),
}

/// The mirrored rows by table and uuid, with the indexes that make one change cost one change.
#[derive(Debug, Default)]
pub(super) struct Cache {
    rows: HashMap<(Table, Uuid), Row>,
    names: HashMap<Table, HashMap<Name, Uuid>>,
    /// The row that holds a row: the bridge of a port, the port of an interface, the bridge of a controller.
    holders: HashMap<Uuid, Uuid>,
    root: Option<Uuid>,
    touched: BTreeSet<(Table, Uuid)>,
}

impl Cache {
    /// A row.
    #[must_use]
    pub(super) fn row(&self, table: Table, uuid: Uuid) -> Option<&Row> {
        self.rows.get(&(table, uuid))
    }

    /// The row of that name.
    #[must_use]
    pub(super) fn named(&self, table: Table, name: &str) -> Option<(Uuid, &Row)> {
        let uuid = *self.names.get(&table)?.get(name)?;
        Some((uuid, self.row(table, uuid)?))
    }

    /// The row that holds that one.
    #[must_use]
    pub(super) fn holder(&self, uuid: Uuid) -> Option<Uuid> {
        self.holders.get(&uuid).copied()
    }

    /// The one row of the root table.
    #[must_use]
    pub(super) fn root(&self) -> Option<&Row> {
        self.row(Table::Root, self.root?)
    }

    /// Takes what was touched: rows inserted, changed or deleted, and rows that came to a holder or left it.
    pub(super) fn take_touched(&mut self) -> BTreeSet<(Table, Uuid)> {
        std::mem::take(&mut self.touched)
    }

    /// Applies what a monitor's reply or an update says. Tables and columns that nobody asked for are passed over.
    ///
    /// # Errors
    /// [`CacheError`]; the cache is then torn.
    pub(super) fn apply(&mut self, notation: Notation, updates: &str) -> Result<(), CacheError> {
        // Row by row: all of them as a tree of values would take many times the room of the rows themselves.
        let updates: HashMap<String, &RawValue> = parse(updates)?;
        for table in Table::ALL {
            let Some(rows) = updates.get(table.name()) else { continue };
            let rows: HashMap<String, &RawValue> = parse(rows.get())?;
            for (uuid, update) in rows {
                let uuid = Uuid::try_parse(&uuid).map_err(|_| CacheError::Form("well-formed uuid of a row"))?;
                let update: Value = parse(update.get())?;
                match notation {
                    Notation::Whole => self.apply_whole(table, uuid, &update)?,
                    Notation::Difference => self.apply_difference(table, uuid, &update)?,
                }
            }
        }
        Ok(())
    }

    fn apply_whole(&mut self, table: Table, uuid: Uuid, update: &Value) -> Result<(), CacheError> {
        let row = match update.get("new") {
            None | Some(Value::Null) => None,
            Some(new) => Some(parse_row(table, columns(new)?)?),
        };
        self.replace(table, uuid, row);
        Ok(())
    }

    fn apply_difference(&mut self, table: Table, uuid: Uuid, update: &Value) -> Result<(), CacheError> {
        let update = columns(update)?;
        if let Some(new) = update.get("initial").or_else(|| update.get("insert")) {
            let row = parse_row(table, columns(new)?)?;
            self.replace(table, uuid, Some(row));
        } else if let Some(difference) = update.get("modify") {
            self.modify(table, uuid, columns(difference)?)?;
        } else if update.contains_key("delete") {
            self.replace(table, uuid, None);
        } else {
            return Err(CacheError::Form("known kind of change"));
        }
        Ok(())
    }

    fn modify(&mut self, table: Table, uuid: Uuid, difference: &Map<String, Value>) -> Result<(), CacheError> {
        let row = self.rows.get_mut(&(table, uuid)).ok_or(CacheError::UnknownRow(table.name(), uuid))?;
        let mut moved = Vec::new();
        for (name, value) in difference {
            let Some(column) = table.column(name) else { continue };
            let datum = Datum::from_json(value, column.shape)?;
            if let (Some((_, child)), Datum::Set(atoms)) = (table.holds().iter().find(|(c, _)| c == name), &datum) {
                let held = atoms.iter().filter_map(|atom| match atom {
                    Atom::Uuid(held) => Some((*child, *held, !row.refers_to(column.name, *held))),
                    _ => None,
                });
                moved.extend(held);
            }
            row.apply(column, datum);
        }
        self.touched.insert((table, uuid));
        for (child, held, came) in moved {
            self.move_child(uuid, child, held, came);
        }
        Ok(())
    }

    fn replace(&mut self, table: Table, uuid: Uuid, new: Option<Row>) {
        let old = self.rows.remove(&(table, uuid));
        for &(column, child) in table.holds() {
            let held = |row: Option<&Row>| row.map(|row| row.uuids(column).collect()).unwrap_or_default();
            let (before, after): (BTreeSet<Uuid>, BTreeSet<Uuid>) = (held(old.as_ref()), held(new.as_ref()));
            for &gone in before.difference(&after) {
                self.move_child(uuid, child, gone, false);
            }
            for &came in after.difference(&before) {
                self.move_child(uuid, child, came, true);
            }
        }
        if table.has_names() {
            let names = self.names.entry(table).or_default();
            if let Some(name) = old.map(|row| row.name())
                // Not if a row that was told before in the same update took the name over.
                && names.get(&name) == Some(&uuid)
            {
                names.remove(&name);
            }
            if let Some(row) = &new {
                names.insert(row.name(), uuid);
            }
        }
        if table == Table::Root {
            self.root = new.is_some().then_some(uuid);
        }
        if let Some(row) = new {
            self.rows.insert((table, uuid), row);
        }
        self.touched.insert((table, uuid));
    }

    fn move_child(&mut self, holder: Uuid, child: Table, held: Uuid, came: bool) {
        if came {
            self.holders.insert(held, holder);
        } else if self.holders.get(&held) == Some(&holder) {
            // Not if its new holder was told before in the same update.
            self.holders.remove(&held);
        }
        self.touched.insert((child, held));
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(json: &'a str) -> Result<T, CacheError> {
    serde_json::from_str(json).map_err(|error| CacheError::Malformed(error.to_string()))
}

fn columns(value: &Value) -> Result<&Map<String, Value>, CacheError> {
    value.as_object().ok_or(CacheError::Form("object of columns"))
}

fn parse_row(table: Table, columns: &Map<String, Value>) -> Result<Row, CacheError> {
    let mut row = Row::default();
    for (name, value) in columns {
        if let Some(column) = table.column(name) {
            row.set(column, Datum::from_json(value, column.shape)?);
        }
    }
    Ok(row)
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
