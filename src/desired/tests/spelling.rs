//! A document is what it means, however it is spelt.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::desired::{Document, DocumentError, UnitSpec, arbitrary, parse, parse_bytes, spell, tests::read};

/// Writes the same document another way: keys and sets in another order. Lists that are values of properties are no
/// sets.
fn respelt(value: Value, turn: usize) -> Value {
    match value {
        Value::Object(fields) => {
            let mut pairs: Vec<(String, Value)> = fields
                .into_iter()
                .map(|(key, value)| {
                    let is_value = ["properties", "args", "value"].contains(&key.as_str());
                    if is_value { (key, value) } else { (key, respelt(value, turn)) }
                })
                .collect();
            let at = turn % pairs.len().max(1);
            pairs.rotate_left(at);
            if turn.is_multiple_of(2) {
                pairs.reverse();
            }
            Value::Object(Map::from_iter(pairs))
        }
        Value::Array(mut items) => {
            let at = turn % items.len().max(1);
            items.rotate_left(at);
            Value::Array(items.into_iter().map(|item| respelt(item, turn)).collect())
        }
        other => other,
    }
}

/// Adds what holds anyway.
fn with_defaults(mut document: Value) -> Value {
    fn add(value: &mut Value, defaults: &[(&str, Value)]) {
        for (key, default) in defaults {
            value.as_object_mut().unwrap().entry(*key).or_insert_with(|| default.clone());
        }
    }
    fn each<'v>(value: &'v mut Value, path: &[&str]) -> Vec<&'v mut Value> {
        let section = path.iter().try_fold(value, |value, key| value.get_mut(*key));
        match section {
            Some(Value::Object(map)) => map.values_mut().collect(),
            Some(Value::Array(list)) => list.iter_mut().collect(),
            _ => Vec::new(),
        }
    }
    let (object, no) = (json!({}), json!(false));
    add(&mut document, &[("version", json!(1)), ("drift", json!("report")), ("prune", no.clone())]);
    add(&mut document, &[("allow_empty", no.clone()), ("systemd", object.clone())]);
    add(&mut document, &[("ovsdb", object.clone()), ("lxc", json!({"containers": []}))]);
    for unit in each(&mut document, &["systemd", "units"]) {
        add(unit, &[("allow_protected", no.clone()), ("properties", object.clone()), ("after", json!([]))]);
    }
    for bridge in each(&mut document, &["ovsdb", "bridges"]) {
        add(bridge, &[("ensure", json!("present")), ("exclusive", no.clone()), ("external_ids", object.clone())]);
        for port in each(bridge, &["ports"]) {
            add(port, &[("ensure", json!("present")), ("other_config", object.clone()), ("after", json!([]))]);
        }
    }
    for container in each(&mut document, &["lxc", "containers"]) {
        add(container, &[("allow_protected", no.clone()), ("after", json!([]))]);
    }
    document
}

#[test]
fn large_documents_are_spelt_within_the_limit() {
    let unit = UnitSpec { enabled: Some(true), ..UnitSpec::default() };
    let units = (0..80_000).map(|number| (format!("unit-{number}.service").into(), unit.clone()));
    let document = Document { units: units.collect(), ..Document::default() };
    let text = spell(&document);
    assert!(!text.contains("  "));
    assert_eq!(parse(&text), Ok(document));
}

proptest! {
    #[test]
    fn what_is_spelt_is_read_back(document in arbitrary::document()) {
        let text = spell(&document);
        prop_assert_eq!(parse(&text), Ok(document), "{}", text);
    }

    #[test]
    fn two_spellings_are_one_document(document in arbitrary::document(), turn in 0..12_usize) {
        let value: Value = serde_json::from_str(&spell(&document)).unwrap();
        let other = respelt(with_defaults(value), turn);
        prop_assert_eq!(read(&other), document.clone(), "{}", other);
        let indented = serde_json::to_string_pretty(&other).unwrap();
        prop_assert_eq!(parse(&indented), Ok(document));
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".*") {
        let _ = parse(&text);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = parse_bytes(&bytes);
    }

    /// A document with a piece cut out or a byte changed is read, or refused with a reason.
    #[test]
    fn damaged_documents_are_read_or_refused(
        document in arbitrary::document(),
        cut in any::<(prop::sample::Index, prop::sample::Index)>(),
        put in "[\\[\\]{}\",:0-9a-z\\\\]{0,3}",
    ) {
        let text = spell(&document);
        let (from, to) = (cut.0.index(text.len()), cut.1.index(text.len()));
        let (from, to) = (from.min(to), (from.min(to) + 5).min(from.max(to)));
        prop_assume!(text.is_char_boundary(from) && text.is_char_boundary(to));
        let damaged = format!("{}{put}{}", &text[..from], &text[to..]);
        if let Err(DocumentError::Invalid(faults)) = parse(&damaged) {
            prop_assert!(!faults.is_empty());
            prop_assert!(faults.iter().all(|fault| !fault.message.is_empty()));
        }
    }
}
