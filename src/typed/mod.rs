//! D-Bus values as JSON, and back: pure, for any signature.
//!
//! [`to_variant`] takes what a document says (docs/objects.md, "Values"), [`from_variant`] makes the one canonical JSON of a
//! value; any value of any signature but file descriptors goes there and back unchanged. [`canonical`] is both in a row:
//! two spellings of one value become the same JSON.
//!
//! | D-Bus | JSON |
//! |---|---|
//! | `b` | `true`, `false` |
//! | `y n q i u x t` | a whole number, exact |
//! | `d` | a number; `"NaN"`, `"Infinity"`, `"-Infinity"`, `"-0"` |
//! | `s o g` | a text |
//! | `ay` | a text (its UTF-8), `{"base64": "..."}`, or a list of numbers |
//! | `aX`, `(XY)` | a list |
//! | `a{XY}` | an object; keys that are no texts are written as texts |
//! | `v` | `{"type": "SIGNATURE", "value": ...}`; in a document also a text, a boolean, or a list of texts as they are |
//! | `h` | nothing: a file descriptor cannot be written down |

mod busctl;
#[cfg(test)]
mod tests;

pub use busctl::{busctl_arguments, quoted};

use crate::model::{REDACTED, is_secret_key, redacted};
use data_encoding::BASE64;
use serde_json::{Map, Number, Value as Json, json};
use zbus::{
    Array, Dict, Signature, Structure, Variant,
    wire::{ObjectPath, Str, StructureBuilder},
};

/// Levels of containers that a value may have: D-Bus allows 64 in a message, variants included.
const MAX_DEPTH: usize = 64;

/// Key of the type in the explicit form of a variant.
const TYPE: &str = "type";
/// Key of the value in the explicit form of a variant.
const VALUE: &str = "value";
/// Key of the base64 form of bytes.
const BASE64_KEY: &str = "base64";

/// A JSON value is none of a D-Bus type's. Trying again never helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be {}, but is {found}", meaning(signature))]
pub struct Mismatch {
    /// JSON pointer of the place, from the value on.
    pub pointer: String,
    /// The D-Bus signature that is expected there.
    pub signature: String,
    /// What stands there instead.
    pub found: String,
}

impl Mismatch {
    /// The same, for a place where a secret stands.
    #[must_use]
    pub fn redacted(self) -> Self {
        Self { found: REDACTED.to_owned(), ..self }
    }
}

/// A D-Bus value that JSON has nothing for: a file descriptor. Trying again never helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("file descriptors cannot be written in a document")]
pub struct Unwritable;

/// Reads a signature of exactly one complete type.
#[must_use]
pub fn single(signature: &str) -> Option<Signature> {
    let read = Signature::try_from(signature).ok()?;
    // A sequence of types is read as a structure, whose own text has the parentheses that this one lacks.
    (!signature.is_empty() && (!matches!(read, Signature::Structure(_)) || signature.starts_with('(')))
        .then_some(read)
        .filter(|read| read.to_string() == signature)
}

/// Reads a signature of any number of complete types: a method's arguments.
#[must_use]
pub fn sequence(signature: &str) -> Option<Vec<Signature>> {
    if signature.is_empty() {
        return Some(Vec::new());
    }
    match Signature::try_from(format!("({signature})").as_str()).ok()? {
        Signature::Structure(fields) => Some(fields.iter().cloned().collect()),
        _ => None,
    }
}

/// The canonical JSON of what a document says.
///
/// # Errors
/// [`Mismatch`] where it is no value of that type.
pub fn canonical(value: &Json, signature: &Signature) -> Result<Json, Mismatch> {
    let made = to_variant(value, signature)?;
    from_variant(&made).map_err(|Unwritable| mismatch("", signature, value))
}

/// A JSON value as a D-Bus value of exactly that type.
///
/// # Errors
/// [`Mismatch`] where it is no value of that type.
pub fn to_variant(value: &Json, signature: &Signature) -> Result<Variant<'static>, Mismatch> {
    made(value, signature, &mut String::new(), 0)
}

/// A D-Bus value as its canonical JSON.
///
/// # Errors
/// [`Unwritable`] where there is a file descriptor in it.
pub fn from_variant(value: &Variant<'_>) -> Result<Json, Unwritable> {
    Ok(match value {
        Variant::U8(value) => (*value).into(),
        Variant::Bool(value) => (*value).into(),
        Variant::I16(value) => (*value).into(),
        Variant::U16(value) => (*value).into(),
        Variant::I32(value) => (*value).into(),
        Variant::U32(value) => (*value).into(),
        Variant::I64(value) => (*value).into(),
        Variant::U64(value) => (*value).into(),
        Variant::F64(value) => from_double(*value),
        Variant::Str(value) => value.as_str().into(),
        Variant::Signature(value) => value.to_string().into(),
        Variant::ObjectPath(value) => value.as_str().into(),
        Variant::Variant(value) => json!({ TYPE: value.value_signature().to_string(), VALUE: from_variant(value)? }),
        Variant::Array(array) if *array.element_signature() == Signature::U8 => from_bytes(array),
        Variant::Array(array) => array.inner().iter().map(from_variant).collect::<Result<_, _>>()?,
        Variant::Structure(structure) => structure.fields().iter().map(from_variant).collect::<Result<_, _>>()?,
        Variant::Dict(dict) => {
            let mut fields = Map::new();
            for (key, value) in dict.iter() {
                fields.insert(key_text(&from_variant(key)?), from_variant(value)?);
            }
            Json::Object(fields)
        }
        Variant::Fd(_) => return Err(Unwritable),
    })
}

/// What a type is called in a message.
fn meaning(signature: &str) -> String {
    let words = match signature {
        "b" => "true or false",
        "y" => "a whole number from 0 to 255",
        "n" => "a whole number of 16 bits",
        "q" => "a whole number of 16 bits, not negative",
        "i" => "a whole number of 32 bits",
        "u" => "a whole number of 32 bits, not negative",
        "x" => "a whole number of 64 bits",
        "t" => "a whole number of 64 bits, not negative",
        "d" => "a number",
        "s" => "a text",
        "o" => "an object path",
        "g" => "a signature",
        "v" => "a variant, written {\"type\": SIGNATURE, \"value\": ...}",
        "h" => "a file descriptor, which no document can give",
        "ay" => "bytes: a text, {\"base64\": ...} or a list of numbers",
        _ if signature.starts_with("a{") => "an object",
        _ if signature.starts_with('a') => "a list",
        _ => "a list of as many values as the structure has",
    };
    format!("{words} (D-Bus type {signature})")
}

fn mismatch(pointer: &str, signature: &Signature, value: &Json) -> Mismatch {
    /// Characters of the value that are shown.
    const SHOWN: usize = 60;
    let text = redacted(value).to_string();
    let mut found: String = text.chars().take(SHOWN).collect();
    if found.len() < text.len() {
        found.push('…');
    }
    let mismatch = Mismatch { pointer: pointer.to_owned(), signature: signature.to_string(), found };
    if pointer.split('/').any(is_secret_key) { mismatch.redacted() } else { mismatch }
}

fn from_double(value: f64) -> Json {
    if value.is_nan() {
        return "NaN".into();
    }
    if value == 0.0 && value.is_sign_negative() {
        return "-0".into();
    }
    let infinite = if value > 0.0 { "Infinity" } else { "-Infinity" };
    Number::from_f64(value).map_or_else(|| infinite.into(), Json::Number)
}

fn to_double(value: &Json) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some("-0") => Some(-0.0),
        Some(_) => None,
        None => value.as_f64(),
    }
}

fn from_bytes(array: &Array<'_>) -> Json {
    let byte = |item: &Variant<'_>| if let Variant::U8(byte) = item { *byte } else { 0 };
    let bytes: Vec<u8> = array.inner().iter().map(byte).collect();
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text.into(),
        Ok(text) => json!({ BASE64_KEY: BASE64.encode(text.as_bytes()) }),
        Err(error) => json!({ BASE64_KEY: BASE64.encode(error.as_bytes()) }),
    }
}

/// An object that is no base64.
struct NotBase64;

/// The bytes of a text or of base64; `None` for a list, which is read as any other.
fn to_bytes(value: &Json) -> Option<Result<Vec<u8>, NotBase64>> {
    match value {
        Json::String(text) => Some(Ok(text.as_bytes().to_vec())),
        Json::Object(fields) => {
            let text = fields.get(BASE64_KEY).filter(|_| fields.len() == 1).and_then(Json::as_str);
            Some(text.and_then(|text| BASE64.decode(text.as_bytes()).ok()).ok_or(NotBase64))
        }
        _ => None,
    }
}

/// A key of a map, as JSON writes it.
fn key_text(key: &Json) -> String {
    key.as_str().map_or_else(|| key.to_string(), str::to_owned)
}

/// A key of a map, as a value of its type: what is no text was written as one.
fn key_value(text: &str, signature: &Signature) -> Json {
    match signature {
        Signature::Str | Signature::ObjectPath | Signature::Signature | Signature::Variant => text.into(),
        // Its words for what is no number are texts, and stay so.
        _ => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}

/// A variant's type and value.
fn of_variant(value: &Json) -> Option<(Signature, &Json)> {
    match value {
        Json::String(_) => Some((Signature::Str, value)),
        Json::Bool(_) => Some((Signature::Bool, value)),
        Json::Array(items) if !items.is_empty() && items.iter().all(Json::is_string) => Some((single("as")?, value)),
        Json::Object(fields) if fields.len() == 2 => {
            let signature = single(fields.get(TYPE)?.as_str()?)?;
            Some((signature, fields.get(VALUE)?))
        }
        _ => None,
    }
}

/// Calls with the pointer to what is inside, and takes it back.
fn inside<T>(pointer: &mut String, token: &str, call: impl FnOnce(&mut String) -> T) -> T {
    let before = pointer.len();
    pointer.push('/');
    pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
    let done = call(pointer);
    pointer.truncate(before);
    done
}

fn made(value: &Json, signature: &Signature, at: &mut String, depth: usize) -> Result<Variant<'static>, Mismatch> {
    let here = at.clone();
    let wrong = || mismatch(&here, signature, value);
    if depth > MAX_DEPTH {
        return Err(wrong());
    }
    let unsigned = || value.as_u64().ok_or_else(wrong);
    let signed = || value.as_i64().ok_or_else(wrong);
    let text = || value.as_str().filter(|text| !text.contains('\0')).ok_or_else(wrong);
    Ok(match signature {
        Signature::U8 => u8::try_from(unsigned()?).map_err(|_| wrong())?.into(),
        Signature::Bool => value.as_bool().ok_or_else(wrong)?.into(),
        Signature::I16 => i16::try_from(signed()?).map_err(|_| wrong())?.into(),
        Signature::U16 => u16::try_from(unsigned()?).map_err(|_| wrong())?.into(),
        Signature::I32 => i32::try_from(signed()?).map_err(|_| wrong())?.into(),
        Signature::U32 => u32::try_from(unsigned()?).map_err(|_| wrong())?.into(),
        Signature::I64 => signed()?.into(),
        Signature::U64 => unsigned()?.into(),
        Signature::F64 => to_double(value).ok_or_else(wrong)?.into(),
        Signature::Str => Variant::Str(Str::from(text()?.to_owned())),
        Signature::ObjectPath => Variant::ObjectPath(ObjectPath::try_from(text()?.to_owned()).map_err(|_| wrong())?),
        Signature::Signature => Variant::Signature(Signature::try_from(text()?).map_err(|_| wrong())?),
        Signature::Array(element) => {
            let mut array = Array::new(element);
            if let (Signature::U8, Some(bytes)) = (&**element, to_bytes(value)) {
                for byte in bytes.map_err(|NotBase64| wrong())? {
                    array.append(byte.into()).map_err(|_| wrong())?;
                }
                return Ok(Variant::Array(array));
            }
            for (index, item) in value.as_array().ok_or_else(wrong)?.iter().enumerate() {
                let item = inside(at, &index.to_string(), |at| made(item, element, at, depth + 1))?;
                array.append(item).map_err(|_| wrong())?;
            }
            Variant::Array(array)
        }
        Signature::Dict { key, value: element } => {
            let mut dict = Dict::new(key, element);
            for (name, item) in value.as_object().ok_or_else(wrong)? {
                let (name, item) = inside(at, name, |at| {
                    let key = made(&key_value(name, key), key, at, depth + 1)?;
                    Ok((key, made(item, element, at, depth + 1)?))
                })?;
                dict.append(name, item).map_err(|_| wrong())?;
            }
            Variant::Dict(dict)
        }
        Signature::Structure(fields) => {
            let items = value.as_array().filter(|items| items.len() == fields.iter().count()).ok_or_else(wrong)?;
            let mut builder = StructureBuilder::new();
            for (index, (item, field)) in items.iter().zip(fields.iter()).enumerate() {
                builder.push_value(inside(at, &index.to_string(), |at| made(item, field, at, depth + 1))?);
            }
            Variant::Structure(builder.build().map_err(|_| wrong())?)
        }
        Signature::Variant => {
            let (signature, inner) = of_variant(value).ok_or_else(wrong)?;
            let explicit = value.is_object();
            let made = if explicit {
                inside(at, VALUE, |at| made(inner, &signature, at, depth + 1))?
            } else {
                made(inner, &signature, at, depth + 1)?
            };
            Variant::Variant(Box::new(made))
        }
        Signature::Fd | Signature::Unit => return Err(wrong()),
    })
}

/// A body of a message: a sequence of values.
///
/// # Errors
/// [`Mismatch`] where the values are none of these types; its pointer begins with the number of the value.
pub fn body(values: &[Json], signatures: &[Signature]) -> Result<Option<Structure<'static>>, Mismatch> {
    let mut builder = StructureBuilder::new();
    for (index, (value, signature)) in values.iter().zip(signatures).enumerate() {
        let mut at = format!("/{index}");
        builder.push_value(made(value, signature, &mut at, 0)?);
    }
    Ok(builder.build().ok())
}
