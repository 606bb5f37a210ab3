#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::plugins::ovsdb::{schema::Column, value::Shape};

fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn bridge(name: &str, ports: &[u128]) -> Value {
    let ports: Vec<Value> = ports.iter().map(|n| json!(["uuid", uuid(*n).to_string()])).collect();
    json!({"name": name, "ports": ["set", ports]})
}

#[test]
fn follows_a_bridge_and_its_ports() {
    let mut cache = Cache::default();
    let reply = json!({
        "Bridge": {uuid(1).to_string(): {"initial": bridge("br0", &[2])}},
        "Port": {uuid(2).to_string(): {"initial": {"name": "p0", "interfaces": ["uuid", uuid(3).to_string()]}}},
        "Interface": {uuid(3).to_string(): {"initial": {"name": "p0", "ofport": 5}}},
        "Open_vSwitch": {uuid(9).to_string(): {"initial": {"cur_cfg": 4, "unasked": 1}}},
        "Manager": {uuid(8).to_string(): {"initial": {}}},
    });
    cache.apply(Notation::Difference, &reply.to_string()).unwrap();
    assert_eq!(cache.named(Table::Port, "p0").unwrap().0, uuid(2));
    assert_eq!((cache.holder(uuid(3)), cache.holder(uuid(2))), (Some(uuid(2)), Some(uuid(1))));
    assert_eq!(cache.root().unwrap().int("cur_cfg"), Some(4));
    assert_eq!(cache.row(Table::Bridge, uuid(1)).unwrap().int("cur_cfg"), None);
    cache.take_touched();

    // The port's row is replaced by another of the same name; the bridge's set carries both as a difference.
    let change = json!({
        "Bridge": {uuid(1).to_string(): {"modify": {"ports": bridge("", &[2, 4])["ports"]}}},
        "Port": {
            uuid(4).to_string(): {"insert": {"name": "p0"}},
            uuid(2).to_string(): {"delete": null},
        },
    });
    cache.apply(Notation::Difference, &change.to_string()).unwrap();
    assert_eq!(cache.named(Table::Port, "p0").unwrap().0, uuid(4));
    assert_eq!((cache.holder(uuid(4)), cache.holder(uuid(2))), (Some(uuid(1)), None));
    let touched = cache.take_touched();
    for row in [(Table::Bridge, uuid(1)), (Table::Port, uuid(2)), (Table::Port, uuid(4))] {
        assert!(touched.contains(&row), "{row:?}");
    }
}

#[test]
fn a_port_that_moves_in_one_update_has_its_new_holder() {
    for order in [[1, 5], [5, 1]] {
        let mut cache = Cache::default();
        let rows = json!({
            "Port": {uuid(2).to_string(): {"initial": {"name": "p0"}}},
            "Bridge": {uuid(1).to_string(): {"initial": bridge("a", &[2])}, uuid(5).to_string(): {"initial": bridge("b", &[])}},
        });
        cache.apply(Notation::Difference, &rows.to_string()).unwrap();
        let mut moves = Map::new();
        for number in order {
            moves.insert(uuid(number).to_string(), json!({"modify": {"ports": bridge("", &[2])["ports"]}}));
        }
        cache.apply(Notation::Difference, &json!({"Bridge": moves}).to_string()).unwrap();
        assert_eq!(cache.holder(uuid(2)), Some(uuid(5)));
    }
}

#[test]
fn refuses_what_cannot_be_applied() {
    let mut cache = Cache::default();
    let unknown = json!({"Port": {uuid(1).to_string(): {"modify": {"tag": 5}}}});
    assert!(matches!(cache.apply(Notation::Difference, &unknown.to_string()), Err(CacheError::UnknownRow("Port", _))));
    for bad in [
        json!([]),
        json!({"Port": []}),
        json!({"Port": {"x": {"delete": null}}}),
        json!({"Port": {uuid(1).to_string(): {}}}),
        json!({"Port": {uuid(1).to_string(): {"insert": {"tag": null}}}}),
    ] {
        assert!(cache.apply(Notation::Difference, &bad.to_string()).is_err(), "{bad}");
    }
}

// The model: rows as plain maps of columns, told by messages that are made here by the definition of each notation.

type Model = BTreeMap<(Table, u128), BTreeMap<&'static str, Datum>>;

fn small_atom() -> impl Strategy<Value = Atom> {
    prop_oneof![(0_i64..4).prop_map(Atom::Int), "[a-c]?".prop_map(|text| Atom::text(text.as_str()))]
}

fn reference() -> impl Strategy<Value = Atom> {
    (1_u128..6).prop_map(|number| Atom::Uuid(uuid(number)))
}

fn datum(table: Table, column: &'static Column) -> BoxedStrategy<Datum> {
    let refers = table.holds().iter().any(|(name, _)| *name == column.name);
    match column.shape {
        // Names are immutable in the database and so are derived from the row's number, in `model_row`.
        Shape::One => small_atom().prop_map(Datum::One).boxed(),
        Shape::Optional => prop_oneof![Just(Datum::Empty), small_atom().prop_map(Datum::One)].boxed(),
        Shape::Set if refers => prop::collection::btree_set(reference(), 0..4).prop_map(Datum::Set).boxed(),
        Shape::Set => prop::collection::btree_set(small_atom(), 0..4).prop_map(Datum::Set).boxed(),
        Shape::Map => prop::collection::btree_map(small_atom(), small_atom(), 0..4).prop_map(Datum::Map).boxed(),
    }
}

fn model_row(table: Table) -> impl Strategy<Value = BTreeMap<&'static str, Datum>> {
    table
        .columns()
        .iter()
        .map(|column| datum(table, column).prop_map(|datum| (column.name, datum)))
        .collect::<Vec<_>>()
        .prop_map(|columns| columns.into_iter().collect())
}

fn table() -> impl Strategy<Value = Table> {
    prop::sample::select(Table::ALL.to_vec())
}

/// One transaction: rows that are so afterwards, or gone.
type Transaction = Vec<((Table, u128), Option<BTreeMap<&'static str, Datum>>)>;

fn transaction() -> impl Strategy<Value = Transaction> {
    let row = (table(), 1_u128..6, prop::bool::weighted(0.8)).prop_flat_map(|(table, number, there)| {
        model_row(table).prop_map(move |mut row| {
            if table.has_names() {
                row.insert("name", Datum::One(Atom::text(format!("{}{number}", table.name()))));
            }
            ((table, number), there.then_some(row))
        })
    });
    prop::collection::vec(row, 0..6)
}

fn row_json(row: &BTreeMap<&'static str, Datum>, table: Table) -> Value {
    let kept = row.iter().filter(|(name, datum)| !datum.is_default(table.column(name).unwrap().shape));
    Value::Object(kept.map(|(name, datum)| ((*name).to_owned(), datum.to_json())).collect())
}

/// The difference by its definition, written without looking at how the cache applies it.
fn difference(old: &Datum, new: &Datum) -> Option<Value> {
    if old == new {
        return None;
    }
    Some(match (old, new) {
        (Datum::Set(old), Datum::Set(new)) => Datum::Set(old.symmetric_difference(new).cloned().collect()).to_json(),
        (Datum::Map(old), Datum::Map(new)) => {
            let gone = old.iter().filter(|(key, _)| !new.contains_key(key));
            let came = new.iter().filter(|(key, value)| old.get(key) != Some(value));
            Datum::Map(gone.chain(came).map(|(key, value)| (key.clone(), value.clone())).collect()).to_json()
        }
        (_, new) => new.to_json(),
    })
}

fn message(model: &Model, after: &Model, notation: Notation) -> Value {
    let mut tables = Map::new();
    for &(table, number) in model.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        let (old, new) = (model.get(&(table, number)), after.get(&(table, number)));
        let update = match (notation, old, new) {
            (_, old, new) if old == new => continue,
            (Notation::Whole, _, new) => match new {
                Some(new) => json!({"old": {}, "new": row_json(new, table)}),
                None => json!({"old": {}}),
            },
            (Notation::Difference, None, Some(new)) => json!({"insert": row_json(new, table)}),
            (Notation::Difference, _, None) => json!({"delete": null}),
            (Notation::Difference, Some(old), Some(new)) => {
                let changed =
                    new.iter().filter_map(|(name, new)| Some(((*name).to_owned(), difference(&old[name], new)?)));
                json!({"modify": Value::Object(changed.collect())})
            }
        };
        let rows = tables.entry(table.name()).or_insert_with(|| json!({}));
        rows.as_object_mut().unwrap().insert(uuid(number).to_string(), update);
    }
    Value::Object(tables)
}

proptest! {
    #[test]
    fn is_what_the_model_is(transactions in prop::collection::vec(transaction(), 1..8), whole in any::<bool>()) {
        let notation = if whole { Notation::Whole } else { Notation::Difference };
        let (mut model, mut cache) = (Model::new(), Cache::default());
        for transaction in transactions {
            let mut after = model.clone();
            for (id, row) in transaction {
                // The root has one row.
                let id = if id.0 == Table::Root { (id.0, 1) } else { id };
                match row {
                    Some(row) => after.insert(id, row),
                    None => after.remove(&id),
                };
            }
            cache.apply(notation, &message(&model, &after, notation).to_string()).unwrap();
            let touched = cache.take_touched();
            for ((table, number), row) in &after {
                let cached = cache.row(*table, uuid(*number)).expect("a row of the model");
                for column in table.columns() {
                    let expected = Some(&row[column.name]).filter(|datum| !datum.is_default(column.shape));
                    prop_assert_eq!(cached.get(column.name), expected, "{:?} {}", table, column.name);
                }
                if table.has_names() {
                    prop_assert_eq!(cache.named(*table, &cached.name()).map(|(found, _)| found), Some(uuid(*number)));
                }
                prop_assert_eq!(touched.contains(&(*table, uuid(*number))) , model.get(&(*table, *number)) != Some(row)
                    || moved(&model, &after, *table, *number));
            }
            prop_assert_eq!(cache.rows.len(), after.len());
            prop_assert_eq!(cache.names.values().map(HashMap::len).sum::<usize>(), after.keys().filter(|(table, _)| table.has_names()).count());
            prop_assert_eq!(cache.root().is_some(), after.keys().any(|(table, _)| *table == Table::Root));
            model = after;
        }
    }
}

/// Whether a row came to a holder or left one.
fn moved(model: &Model, after: &Model, table: Table, number: u128) -> bool {
    let holders = |model: &Model| -> BTreeSet<(Table, u128, &str)> {
        let held = Atom::Uuid(uuid(number));
        let holds = |(holder, at): &(Table, u128), row: &BTreeMap<&'static str, Datum>| {
            let columns = holder.holds().iter().filter(|(_, child)| *child == table);
            columns
                .filter(|(column, _)| matches!(&row[column], Datum::Set(atoms) if atoms.contains(&held)))
                .map(|(column, _)| (*holder, *at, *column))
                .collect::<Vec<_>>()
        };
        model.iter().flat_map(|(id, row)| holds(id, row)).collect()
    };
    holders(model) != holders(after)
}
