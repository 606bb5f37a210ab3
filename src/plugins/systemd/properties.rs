//! Values of unit properties: JSON as documents spell them, D-Bus as systemd types them.
//!
//! systemd takes a property only in its exact type (CPUWeight is `t`; `u` is refused), so the type always comes from
//! the value that systemd itself shows for that unit.

use serde_json::{Map, Number, Value as Json};
use zbus::{Signature, Variant};

use crate::typed::{Mismatch, to_variant};

/// The text that stands for "no limit": systemd means by it the largest number of the type `t`.
const INFINITY: &str = "infinity";

/// What `SetUnitProperties` changes in a living unit: resource control (systemd.resource-control(5), as in systemd
/// 252's `bus_cgroup_set_property`). All else is refused there unless the unit is transient and being made.
const RESOURCE_CONTROL: [&str; 46] = [
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "BlockIOAccounting",
    "BlockIODeviceWeight",
    "BlockIOReadBandwidth",
    "BlockIOWeight",
    "BlockIOWriteBandwidth",
    "CPUAccounting",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "CPUShares",
    "CPUWeight",
    "DefaultMemoryLow",
    "DefaultMemoryMin",
    "DeviceAllow",
    "DevicePolicy",
    "IOAccounting",
    "IODeviceLatencyTargetUSec",
    "IODeviceWeight",
    "IOReadBandwidthMax",
    "IOReadIOPSMax",
    "IOWeight",
    "IOWriteBandwidthMax",
    "IOWriteIOPSMax",
    "IPAccounting",
    "IPAddressAllow",
    "IPAddressDeny",
    "IPEgressFilterPath",
    "IPIngressFilterPath",
    "ManagedOOMMemoryPressure",
    "ManagedOOMMemoryPressureLimit",
    "ManagedOOMPreference",
    "ManagedOOMSwap",
    "MemoryAccounting",
    "MemoryHigh",
    "MemoryLimit",
    "MemoryLow",
    "MemoryMax",
    "MemoryMin",
    "MemorySwapMax",
    "StartupAllowedCPUs",
    "StartupAllowedMemoryNodes",
    "StartupCPUWeight",
    "StartupIOWeight",
    "TasksAccounting",
    "TasksMax",
];

/// Kinds of unit that own a control group, and so have resource control.
const WITH_CONTROL_GROUP: [&str; 6] = [".service", ".socket", ".mount", ".swap", ".slice", ".scope"];

/// Whether systemd changes that property of that unit while it lives.
pub(super) fn is_settable(unit: &str, property: &str) -> bool {
    property == "Description"
        || (RESOURCE_CONTROL.binary_search(&property).is_ok()
            && WITH_CONTROL_GROUP.iter().any(|suffix| unit.ends_with(suffix)))
}

/// A D-Bus value as JSON; `None` where JSON has nothing for it (a file descriptor, a number that is none, a map
/// whose keys are no texts).
pub(super) fn to_json(value: &Variant<'_>) -> Option<Json> {
    Some(match value {
        Variant::U8(value) => (*value).into(),
        Variant::Bool(value) => (*value).into(),
        Variant::I16(value) => (*value).into(),
        Variant::U16(value) => (*value).into(),
        Variant::I32(value) => (*value).into(),
        Variant::U32(value) => (*value).into(),
        Variant::I64(value) => (*value).into(),
        Variant::U64(value) => (*value).into(),
        Variant::F64(value) => Json::Number(Number::from_f64(*value)?),
        Variant::Str(value) => value.as_str().into(),
        Variant::Signature(value) => value.to_string().into(),
        Variant::ObjectPath(value) => value.as_str().into(),
        Variant::Variant(value) => to_json(value)?,
        Variant::Array(array) => array.inner().iter().map(to_json).collect::<Option<_>>()?,
        Variant::Structure(structure) => structure.fields().iter().map(to_json).collect::<Option<_>>()?,
        Variant::Dict(dict) => {
            let entry = |(key, value)| match to_json(key)? {
                Json::String(key) => Some((key, to_json(value)?)),
                _ => None,
            };
            Json::Object(dict.iter().map(entry).collect::<Option<Map<_, _>>>()?)
        }
        Variant::Fd(_) => return None,
    })
}

/// A JSON value as a D-Bus value of exactly that type.
pub(super) fn from_json(value: &Json, signature: &Signature) -> Result<Variant<'static>, Mismatch> {
    to_variant(&counted(value, signature), signature)
}

/// A value with the numbers that "no limit" stands for.
fn counted(value: &Json, signature: &Signature) -> Json {
    match (value, signature) {
        (Json::String(text), Signature::U64) if text == INFINITY => u64::MAX.into(),
        (Json::Array(items), Signature::Array(element)) => items.iter().map(|item| counted(item, element)).collect(),
        (Json::Array(items), Signature::Structure(fields)) if items.len() == fields.iter().count() => {
            items.iter().zip(fields.iter()).map(|(item, field)| counted(item, field)).collect()
        }
        (Json::Object(fields), Signature::Dict { value: element, .. }) => {
            let fields = fields.iter().map(|(key, item)| (key.clone(), counted(item, element)));
            Json::Object(fields.collect())
        }
        _ => value.clone(),
    }
}

/// Whether systemd shows for a property what the document says, whatever the spelling (`"infinity"` is a number).
pub(super) fn means_the_same(desired: &Json, signature: &str, observed: &Json) -> bool {
    let typed = |value: &Json| Signature::try_from(signature).ok().and_then(|sig| from_json(value, &sig).ok());
    match (typed(desired), typed(observed)) {
        (Some(desired), Some(observed)) => desired == observed,
        _ => desired == observed,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use zbus::{
        Array, Dict,
        wire::{ObjectPath, StructureBuilder},
    };

    use super::*;

    fn convert(value: &Json, signature: &str) -> Result<Variant<'static>, Mismatch> {
        from_json(value, &Signature::try_from(signature).unwrap())
    }

    #[test]
    fn the_list_can_be_searched() {
        assert!(RESOURCE_CONTROL.is_sorted());
        assert!(is_settable("a.service", "CPUWeight"));
        assert!(is_settable("a.timer", "Description"));
        assert!(!is_settable("a.timer", "CPUWeight"));
        assert!(!is_settable("a.service", "Restart"));
    }

    #[test]
    fn types_are_exact() {
        assert_eq!(convert(&json!(200), "t").unwrap(), Variant::U64(200));
        assert_eq!(convert(&json!("infinity"), "t").unwrap(), Variant::U64(u64::MAX));
        assert_eq!(convert(&json!([["a", "infinity"]]), "a(st)"), convert(&json!([["a", u64::MAX]]), "a(st)"));
        assert_eq!(convert(&json!({"a": "infinity"}), "a{st}"), convert(&json!({"a": u64::MAX}), "a{st}"));
        assert_eq!(convert(&json!(1), "d").unwrap(), Variant::F64(1.0));
        for (bad, signature) in [
            (json!("200"), "t"),
            (json!(-1), "t"),
            (json!(1.5), "t"),
            (json!(256), "y"),
            (json!(1), "b"),
            (json!("infinity"), "u"),
            (json!("a\u{0}b"), "s"),
            (json!("no path"), "o"),
            (json!([1, "x"]), "ai"),
            (json!(["a"]), "(su)"),
            (json!(["a", 1, 2]), "(su)"),
            (json!({"a": "x"}), "a{su}"),
            (json!(null), "s"),
            (json!(1), "v"),
            (json!({"1": 1}), "a{us}"),
            (json!(3), "h"),
        ] {
            assert!(convert(&bad, signature).is_err(), "{bad} as {signature}");
        }
        let said = convert(&json!("200"), "t").unwrap_err().to_string();
        assert_eq!(said, "must be a whole number of 64 bits, not negative (D-Bus type t), but is \"200\"");
    }

    #[test]
    fn what_resource_control_uses_goes_both_ways() {
        for (value, signature) in [
            (json!([["/dev/sda", 1000]]), "a(st)"),
            (json!([[2, [192, 0, 2, 0], 24]]), "a(iayu)"),
            (json!([]), "a(ss)"),
            (json!([true, ["AF_UNIX"]]), "(bas)"),
            (json!({"a": ["b"]}), "a{sas}"),
        ] {
            let there = convert(&value, signature).unwrap();
            assert_eq!(there.value_signature().to_string(), signature);
            assert_eq!(to_json(&there), Some(value));
        }
    }

    #[test]
    fn spelling_does_not_count() {
        assert!(means_the_same(&json!("infinity"), "t", &json!(u64::MAX)));
        assert!(means_the_same(&json!(2), "d", &json!(2.0)));
        assert!(!means_the_same(&json!(2), "t", &json!(3)));
        assert!(!means_the_same(&json!("2"), "t", &json!(2)));
    }

    fn basic() -> impl Strategy<Value = Variant<'static>> + Clone {
        prop_oneof![
            any::<u8>().prop_map(Variant::U8),
            any::<bool>().prop_map(Variant::Bool),
            any::<i16>().prop_map(Variant::I16),
            any::<u16>().prop_map(Variant::U16),
            any::<i32>().prop_map(Variant::I32),
            any::<u32>().prop_map(Variant::U32),
            any::<i64>().prop_map(Variant::I64),
            any::<u64>().prop_map(Variant::U64),
            (-1e300..1e300).prop_map(Variant::F64),
            "[^\0]*".prop_map(|text| Variant::Str(text.into())),
            "(/[a-z_0-9]{1,5}){1,3}".prop_map(|path| Variant::ObjectPath(ObjectPath::try_from(path).unwrap())),
        ]
    }

    fn any_value() -> impl Strategy<Value = Variant<'static>> {
        basic().boxed().prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                // One type per array: the same value, some times over.
                (inner.clone(), 0..4_usize).prop_map(|(value, times)| {
                    let mut array = Array::new(value.value_signature());
                    for _ in 0..times {
                        array.append(value.try_clone().unwrap()).unwrap();
                    }
                    Variant::Array(array)
                }),
                prop::collection::vec(inner.clone(), 1..4).prop_map(|fields| {
                    let mut builder = StructureBuilder::new();
                    for field in fields {
                        builder.push_value(field);
                    }
                    Variant::Structure(builder.build().unwrap())
                }),
                (prop::collection::btree_set("[a-z]{0,6}", 0..4), inner).prop_map(|(keys, value)| {
                    let mut dict = Dict::new(&Signature::Str, value.value_signature());
                    for key in keys {
                        dict.append(Variant::Str(key.into()), value.try_clone().unwrap()).unwrap();
                    }
                    Variant::Dict(dict)
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_goes_there_and_back(value in any_value()) {
            let json = to_json(&value).unwrap();
            prop_assert_eq!(from_json(&json, value.value_signature()).unwrap(), value);
        }

        #[test]
        fn no_json_makes_another_type_than_asked(value in any_value(), other in any_value()) {
            let json = to_json(&other).unwrap();
            if let Ok(made) = from_json(&json, value.value_signature()) {
                prop_assert_eq!(made.value_signature(), value.value_signature());
            }
        }
    }
}
