//! Any value of any signature goes to JSON and back unchanged, and no JSON becomes another type than asked.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn sig(text: &str) -> Signature {
    Signature::try_from(text).unwrap()
}

fn convert(value: &Json, signature: &str) -> Result<Variant<'static>, Mismatch> {
    to_variant(value, &sig(signature))
}

/// Any basic type.
fn basic_signature() -> impl Strategy<Value = Signature> + Clone {
    prop::sample::select(["y", "b", "n", "q", "i", "u", "x", "t", "d", "s", "o", "g"].map(sig).to_vec())
}

/// Any type that has no file descriptor.
fn any_signature() -> BoxedStrategy<Signature> {
    let leaf = prop_oneof![4 => basic_signature(), 1 => Just(Signature::Variant)];
    leaf.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|element| sig(&format!("a{element}"))),
            Just(sig("ay")),
            (basic_signature(), inner.clone()).prop_map(|(key, value)| sig(&format!("a{{{key}{value}}}"))),
            prop::collection::vec(inner, 1..4).prop_map(|fields| {
                let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
                sig(&format!("({})", fields.concat()))
            }),
        ]
    })
    .boxed()
}

fn any_path() -> impl Strategy<Value = String> {
    prop_oneof![Just("/".to_owned()), "(/[A-Za-z0-9_]{1,5}){1,3}"]
}

/// Any value of that type.
fn value_of(signature: &Signature, depth: u32) -> BoxedStrategy<Variant<'static>> {
    match signature {
        Signature::U8 => any::<u8>().prop_map(Variant::U8).boxed(),
        Signature::Bool => any::<bool>().prop_map(Variant::Bool).boxed(),
        Signature::I16 => any::<i16>().prop_map(Variant::I16).boxed(),
        Signature::U16 => any::<u16>().prop_map(Variant::U16).boxed(),
        Signature::I32 => any::<i32>().prop_map(Variant::I32).boxed(),
        Signature::U32 => any::<u32>().prop_map(Variant::U32).boxed(),
        Signature::I64 => any::<i64>().prop_map(Variant::I64).boxed(),
        Signature::U64 => any::<u64>().prop_map(Variant::U64).boxed(),
        Signature::F64 => prop_oneof![
            any::<f64>(),
            prop::sample::select(vec![-0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e300, 5.0])
        ]
        .prop_map(Variant::F64)
        .boxed(),
        Signature::Str => "[^\0]{0,8}".prop_map(|text| Variant::Str(text.into())).boxed(),
        Signature::ObjectPath => {
            any_path().prop_map(|path| Variant::ObjectPath(ObjectPath::try_from(path).unwrap())).boxed()
        }
        Signature::Signature => {
            prop_oneof![any_signature(), Just(Signature::Unit)].prop_map(Variant::Signature).boxed()
        }
        Signature::Variant => {
            let inner = if depth == 0 { basic_signature().boxed() } else { any_signature() };
            inner
                .prop_flat_map(move |inner| value_of(&inner, depth.saturating_sub(1)))
                .prop_map(|value| Variant::Variant(Box::new(value)))
                .boxed()
        }
        Signature::Array(element) => {
            let element = Signature::clone(element);
            prop::collection::vec(value_of(&element, depth), 0..4)
                .prop_map(move |items| {
                    let mut array = Array::new(&element);
                    for item in items {
                        array.append(item).unwrap();
                    }
                    Variant::Array(array)
                })
                .boxed()
        }
        Signature::Dict { key, value } => {
            let (key, value) = (Signature::clone(key), Signature::clone(value));
            prop::collection::vec((value_of(&key, depth), value_of(&value, depth)), 0..4)
                .prop_map(move |pairs| {
                    let mut dict = Dict::new(&key, &value);
                    for (key, value) in pairs {
                        dict.append(key, value).unwrap();
                    }
                    Variant::Dict(dict)
                })
                .boxed()
        }
        Signature::Structure(fields) => fields
            .iter()
            .map(|field| value_of(field, depth))
            .collect::<Vec<_>>()
            .prop_map(|fields| {
                let mut builder = StructureBuilder::new();
                for field in fields {
                    builder.push_value(field);
                }
                Variant::Structure(builder.build().unwrap())
            })
            .boxed(),
        Signature::Fd | Signature::Unit => unreachable!("no such type is asked for"),
    }
}

fn any_value() -> impl Strategy<Value = (Signature, Variant<'static>)> {
    any_signature().prop_flat_map(|signature| {
        let value = value_of(&signature, 2);
        (Just(signature), value)
    })
}

/// Equal, bit for bit: as a message carries them.
fn wire(value: &Variant<'_>) -> Vec<u8> {
    use zbus::wire::{LE, serialized::Context, to_bytes};
    to_bytes(Context::new(LE, 0), value).unwrap().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(op_dbus_testkit::cases(1024)))]

    #[test]
    fn any_value_goes_there_and_back((signature, value) in any_value()) {
        let json = from_variant(&value).unwrap();
        // By way of the text, as documents and the bus carry it.
        let read: Json = serde_json::from_str(&json.to_string()).unwrap();
        prop_assert_eq!(&read, &json);
        let back = to_variant(&read, &signature).unwrap();
        prop_assert_eq!(wire(&back), wire(&value), "{} as {}", json, signature);
        prop_assert_eq!(canonical(&json, &signature).unwrap(), json);
    }

    #[test]
    fn no_json_becomes_another_type_than_asked(signature in any_signature(), (_, other) in any_value()) {
        let json = from_variant(&other).unwrap();
        if let Ok(made) = to_variant(&json, &signature) {
            prop_assert_eq!(made.value_signature(), &signature);
        }
    }

    #[test]
    fn signatures_are_read_whole(signature in any_signature()) {
        let text = signature.to_string();
        prop_assert_eq!(single(&text), Some(signature.clone()));
        prop_assert_eq!(single(&format!("{text}s")), None);
        prop_assert_eq!(sequence(&format!("{text}s")), Some(vec![signature, Signature::Str]));
    }
}

#[test]
fn documents_spell_values_in_several_ways() {
    for (one, other, signature) in [
        (json!("abc"), json!({"base64": "YWJj"}), "ay"),
        (json!("abc"), json!([97, 98, 99]), "ay"),
        (json!({"type": "s", "value": "x"}), json!("x"), "v"),
        (json!({"type": "b", "value": true}), json!(true), "v"),
        (json!({"type": "as", "value": ["x"]}), json!(["x"]), "v"),
        (json!({"a": {"type": "s", "value": "x"}}), json!({"a": "x"}), "a{sv}"),
        (json!(2.0), json!(2), "d"),
    ] {
        let signature = sig(signature);
        assert_eq!(canonical(&one, &signature), canonical(&other, &signature), "{one} {other}");
        assert_eq!(canonical(&one, &signature), Ok(one));
    }
    assert_eq!(canonical(&json!([0, 255]), &sig("ay")), Ok(json!({"base64": "AP8="})));
    assert_eq!(convert(&json!({"1": "x"}), "a{us}").unwrap().value_signature(), &sig("a{us}"));
}

#[test]
fn numbers_of_64_bits_are_exact() {
    for (value, signature) in [(json!(u64::MAX), "t"), (json!(i64::MIN), "x"), (json!(9_007_199_254_740_993_u64), "t")]
    {
        assert_eq!(canonical(&value, &sig(signature)), Ok(value));
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_type() {
    for (bad, signature, pointer, expected) in [
        (json!("200"), "t", "", "t"),
        (json!(-1), "u", "", "u"),
        (json!(4_294_967_296_u64), "u", "", "u"),
        (json!(1.5), "x", "", "x"),
        (json!(256), "y", "", "y"),
        (json!(1), "b", "", "b"),
        (json!("a\u{0}b"), "s", "", "s"),
        (json!("no path"), "o", "", "o"),
        (json!("a{"), "g", "", "g"),
        (json!([1, "x"]), "ai", "/1", "i"),
        (json!(["a"]), "(su)", "", "(su)"),
        (json!({"a/b": ["x", 5]}), "a{sas}", "/a~1b/1", "s"),
        (json!({"x": "y"}), "a{us}", "/x", "u"),
        (json!({"base64": "!"}), "ay", "", "ay"),
        (json!([256]), "ay", "/0", "y"),
        (json!(1), "v", "", "v"),
        (json!({"type": "s", "value": 1}), "v", "/value", "s"),
        (json!({"type": "ss", "value": 1}), "v", "", "v"),
        (json!({"type": "h", "value": 1}), "v", "/value", "h"),
        (json!(3), "h", "", "h"),
        (json!(null), "s", "", "s"),
    ] {
        let error = convert(&bad, signature).unwrap_err();
        assert_eq!((error.pointer.as_str(), error.signature.as_str()), (pointer, expected), "{bad} as {signature}");
        assert!(error.to_string().contains(&format!("D-Bus type {expected})")), "{error}");
    }
    let long = convert(&json!("x".repeat(10_000)), "u").unwrap_err();
    assert!(long.to_string().len() < 200, "{long}");
}

#[test]
fn what_busctl_would_be_told() {
    for (values, signature, text) in [
        (json!(["UTC", false]), "sb", "UTC false"),
        (json!([["LANG=C.UTF-8"], false]), "asb", "1 LANG=C.UTF-8 false"),
        (json!(["it's", ""]), "ss", r"'it'\''s' ''"),
        (json!([{"a": {"type": "u", "value": 5}}]), "a{sv}", "1 a u 5"),
        (json!([false, [["CPUWeight", {"type": "t", "value": 200}]]]), "ba(sv)", "false 1 CPUWeight t 200"),
        (json!(["ab"]), "ay", "2 97 98"),
        (json!([{"base64": "AP8="}]), "ay", "2 0 255"),
        (json!([{"7": [1, 2]}]), "a{uai}", "1 7 2 1 2"),
        (json!([]), "", ""),
    ] {
        let values = values.as_array().unwrap().clone();
        assert_eq!(busctl_arguments(&values, &sequence(signature).unwrap()), text);
    }
}
