//! The document's JSON Schema.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{decode::VERSION, form::DocumentForm};

/// Version of the schema: it is the document's.
pub const SCHEMA_VERSION: u32 = VERSION;

/// The JSON Schema (draft 2020-12) of a document: its structure, names and ranges. What it cannot say (an `after`
/// names a resource of the document, nothing contradicts) [`super::parse`] alone knows.
#[must_use]
pub fn schema() -> Value {
    // What is written, not what is read, tells which fields may be left out.
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<DocumentForm<'_>>();
    schema.insert("title".to_owned(), format!("op-dbus desired state, version {VERSION}").into());
    schema.to_value()
}
