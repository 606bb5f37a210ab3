//! Values of unit properties: JSON as documents spell them, D-Bus as systemd types them.
//!
//! systemd takes a property only in its exact type (CPUWeight is `t`; `u` is refused), so the type always comes from
//! the value that systemd itself shows for that unit.

use serde_json::{Map, Number, Value as Json};
use zbus::{
    Array, Dict, Signature, Structure, Variant,
    wire::{ObjectPath, Str, StructureBuilder},
};

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

/// Why a JSON value is none of a D-Bus type's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PropertyError {
    /// It is of another type, or out of its range.
    #[error("{value} is no value of D-Bus type {signature}")]
    WrongType {
        /// The value.
        value: String,
        /// The type.
        signature: String,
    },
    /// No JSON stands for such a type: a file descriptor, or a variant, whose type nobody could tell.
    #[error("D-Bus type {0} cannot be written in a document")]
    Unwritable(String),
}

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
pub(super) fn from_json(value: &Json, signature: &Signature) -> Result<Variant<'static>, PropertyError> {
    let wrong = || PropertyError::WrongType { value: value.to_string(), signature: signature.to_string() };
    let unwritable = || PropertyError::Unwritable(signature.to_string());
    let unsigned = || value.as_u64().ok_or_else(wrong);
    let signed = || value.as_i64().ok_or_else(wrong);
    let text = || value.as_str().ok_or_else(wrong);
    Ok(match signature {
        Signature::U8 => u8::try_from(unsigned()?).map_err(|_| wrong())?.into(),
        Signature::Bool => value.as_bool().ok_or_else(wrong)?.into(),
        Signature::I16 => i16::try_from(signed()?).map_err(|_| wrong())?.into(),
        Signature::U16 => u16::try_from(unsigned()?).map_err(|_| wrong())?.into(),
        Signature::I32 => i32::try_from(signed()?).map_err(|_| wrong())?.into(),
        Signature::U32 => u32::try_from(unsigned()?).map_err(|_| wrong())?.into(),
        Signature::I64 => signed()?.into(),
        Signature::U64 if value.as_str() == Some(INFINITY) => u64::MAX.into(),
        Signature::U64 => unsigned()?.into(),
        Signature::F64 => value.as_f64().ok_or_else(wrong)?.into(),
        Signature::Str => Variant::Str(Str::from(bus_text(text()?).ok_or_else(wrong)?.to_owned())),
        Signature::ObjectPath => Variant::ObjectPath(ObjectPath::try_from(text()?.to_owned()).map_err(|_| wrong())?),
        Signature::Signature => Variant::Signature(Signature::try_from(text()?).map_err(|_| wrong())?),
        Signature::Array(element) => {
            let mut array = Array::new(element);
            for item in value.as_array().ok_or_else(wrong)? {
                array.append(from_json(item, element)?).map_err(|_| wrong())?;
            }
            Variant::Array(array)
        }
        Signature::Dict { key, value: element } => {
            if !matches!(**key, Signature::Str | Signature::ObjectPath | Signature::Signature) {
                return Err(unwritable());
            }
            let mut dict = Dict::new(key, element);
            for (name, item) in value.as_object().ok_or_else(wrong)? {
                let name = from_json(&Json::String(name.clone()), key)?;
                dict.append(name, from_json(item, element)?).map_err(|_| wrong())?;
            }
            Variant::Dict(dict)
        }
        Signature::Structure(fields) => {
            Variant::Structure(structure(value, fields.iter()).transpose()?.ok_or_else(wrong)?)
        }
        Signature::Variant | Signature::Fd | Signature::Unit => return Err(unwritable()),
    })
}

/// A text that D-Bus can carry: none with a zero byte.
fn bus_text(text: &str) -> Option<&str> {
    (!text.contains('\0')).then_some(text)
}

/// A structure from a list of as many values; `None` where it is no such list.
fn structure<'s>(
    value: &Json,
    mut fields: impl Iterator<Item = &'s Signature>,
) -> Option<Result<Structure<'static>, PropertyError>> {
    let mut builder = StructureBuilder::new();
    for item in value.as_array()? {
        match from_json(item, fields.next()?) {
            Ok(field) => builder.push_value(field),
            Err(error) => return Some(Err(error)),
        }
    }
    if fields.next().is_some() {
        return None;
    }
    builder.build().ok().map(Ok)
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

    use super::*;

    fn convert(value: &Json, signature: &str) -> Result<Variant<'static>, PropertyError> {
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
        ] {
            assert!(matches!(convert(&bad, signature), Err(PropertyError::WrongType { .. })), "{bad} as {signature}");
        }
        for (bad, signature) in [(json!(1), "v"), (json!({"1": 1}), "a{us}"), (json!(3), "h")] {
            assert!(matches!(convert(&bad, signature), Err(PropertyError::Unwritable(_))), "{bad} as {signature}");
        }
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
