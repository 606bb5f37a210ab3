//! D-Bus values as JSON, in the shape that tests write down most easily: variants as what they hold.

use serde_json::{Map, Value};
use zbus::{Message, Structure, Variant};

/// The arguments of a message.
pub(crate) fn arguments(message: &Message) -> Vec<Value> {
    let body = message.body();
    if body.is_empty() {
        return Vec::new();
    }
    let fields: Structure<'_> = body.deserialize().expect("a body as its signature says");
    fields.fields().iter().map(value).collect()
}

fn value(from: &Variant<'_>) -> Value {
    match from {
        Variant::Bool(held) => (*held).into(),
        Variant::U8(held) => (*held).into(),
        Variant::I16(held) => (*held).into(),
        Variant::U16(held) => (*held).into(),
        Variant::I32(held) => (*held).into(),
        Variant::U32(held) => (*held).into(),
        Variant::I64(held) => (*held).into(),
        Variant::U64(held) => (*held).into(),
        Variant::F64(held) => (*held).into(),
        Variant::Str(held) => held.as_str().into(),
        Variant::ObjectPath(held) => held.as_str().into(),
        Variant::Signature(held) => held.to_string().into(),
        Variant::Variant(held) => value(held),
        Variant::Array(held) => held.iter().map(value).collect(),
        Variant::Structure(held) => held.fields().iter().map(value).collect(),
        Variant::Dict(held) => {
            let entry = |(key, held): (&Variant<'_>, &Variant<'_>)| {
                let key = value(key);
                (key.as_str().map_or_else(|| key.to_string(), str::to_owned), value(held))
            };
            Value::Object(held.iter().map(entry).collect::<Map<_, _>>())
        }
        Variant::Fd(_) => Value::Null,
    }
}
