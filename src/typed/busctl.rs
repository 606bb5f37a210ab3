//! Values as busctl(1) takes them: what a plan shows is what anybody can type.

use std::fmt::Write as _;

use serde_json::Value as Json;
use zbus::Signature;

use super::{TYPE, VALUE, key_value, single, to_bytes};

/// The arguments of `busctl call`, after the signature: canonical JSON values of these types.
#[must_use]
pub fn busctl_arguments(values: &[Json], signatures: &[Signature]) -> String {
    let mut out = String::new();
    for (value, signature) in values.iter().zip(signatures) {
        write(value, signature, &mut out);
    }
    out
}

/// A word for a shell: in quotes where it needs them.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._:@%+=,-".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn push(out: &mut String, word: &str) {
    if !out.is_empty() {
        out.push(' ');
    }
    out.push_str(word);
}

fn write(value: &Json, signature: &Signature, out: &mut String) {
    match (signature, value) {
        (Signature::Array(element), _) if **element == Signature::U8 && to_bytes(value).is_some() => {
            let bytes = to_bytes(value).and_then(Result::ok).unwrap_or_default();
            push(out, &bytes.len().to_string());
            for byte in bytes {
                // Writing to a String cannot fail.
                let _ = write!(out, " {byte}");
            }
        }
        (Signature::Array(element), Json::Array(items)) => {
            push(out, &items.len().to_string());
            for item in items {
                write(item, element, out);
            }
        }
        (Signature::Dict { key, value: element }, Json::Object(fields)) => {
            push(out, &fields.len().to_string());
            for (name, item) in fields {
                write(&key_value(name, key), key, out);
                write(item, element, out);
            }
        }
        (Signature::Structure(fields), Json::Array(items)) => {
            for (item, field) in items.iter().zip(fields.iter()) {
                write(item, field, out);
            }
        }
        (Signature::Variant, Json::Object(fields)) => {
            let signature = fields.get(TYPE).and_then(Json::as_str).unwrap_or_default();
            push(out, &quoted(signature));
            if let (Some(inner), Some(value)) = (single(signature), fields.get(VALUE)) {
                write(value, &inner, out);
            }
        }
        (Signature::F64, Json::String(text)) => push(out, &text.to_lowercase()),
        (_, Json::String(text)) => push(out, &quoted(text)),
        (_, other) => push(out, &other.to_string()),
    }
}
