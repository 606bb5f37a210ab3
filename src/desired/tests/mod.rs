//! Tests of the whole way from text to document and back.

mod faults;
mod schema;
mod spelling;
mod valid;

use serde_json::Value;

use super::{Document, DocumentError, Fault, parse};

/// The faults of a text.
fn faults(text: &str) -> Vec<Fault> {
    match parse(text) {
        Err(DocumentError::Invalid(faults)) => faults,
        other => panic!("{text}: {other:?}"),
    }
}

/// The document of a value.
fn read(value: &Value) -> Document {
    parse(&value.to_string()).unwrap()
}
