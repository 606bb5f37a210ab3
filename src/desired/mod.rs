//! The desired-state document: its types, and how they are read, checked, spelt and described.
//!
//! [`parse`] is the way in: `node` reads JSON as it was written, `decode` makes the typed [`Document`] of it and
//! `check` looks for what cannot hold together; each adds to one list of [`Fault`]s. [`spell()`] is the way out, and
//! [`schema()`] describes to others what [`parse`] takes.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

#[cfg(test)]
pub(crate) mod arbitrary;

mod check;
mod container;
mod decode;
mod document;
mod fault;
mod form;
mod form_lxc;
mod names;
mod near;
mod node;
mod object;
mod object_form;
mod packages;
mod place;
mod presets;
mod schema;
mod spell;
mod spelling;
#[cfg(test)]
mod tests;

pub use check::Rules;
pub use container::{
    ContainerSource, ContainerSpec, Decimal, Features, ImageKind, MountSpec, NetworkSpec, Startup, TemplateSource,
    TemplateSpec,
};
pub use document::{
    ActiveState, BondMode, BridgeSpec, Common, Document, Ensure, FailMode, Lacp, OptionalMap, PortSpec, UnitSpec,
    VlanMode, Want,
};
pub use fault::{DocumentError, Fault, code, faults_text};
pub use names::can_say;
pub use node::MAX_BYTES;
pub use object::{
    Call, Lookup, Match, ObjectBus, ObjectPlace, ObjectSpec, Origins, PropertySpec, Reference, Source, WaitFor,
    references,
};
pub use packages::{PackageEnsure, PackageSettings, PackageSpec, Refresh, version_matches};
pub use presets::{Parameter, Preset, presets};
pub use schema::{SCHEMA_VERSION, schema};
pub use spell::spell;

/// Reads a document, with the default [`Rules`].
///
/// # Errors
/// See [`parse_with`].
pub fn parse(text: &str) -> Result<Document, DocumentError> {
    parse_with(text, &Rules::default())
}

/// Reads a document. Takes time linear in its length, whatever it says.
///
/// # Errors
/// Over 4 MiB: [`DocumentError::TooLarge`]. Otherwise all that is wrong with it, at once.
pub fn parse_with(text: &str, rules: &Rules) -> Result<Document, DocumentError> {
    let node = node::Node::parse(text)?;
    let mut faults = place::Faults::default();
    let decoded = decode::document(&node, &mut faults);
    check::document(&decoded, rules, &mut faults);
    let faults = faults.into_list();
    if faults.is_empty() { Ok(decoded.document) } else { Err(DocumentError::Invalid(faults)) }
}

/// Reads a document from the bytes of a file, with the default [`Rules`].
///
/// # Errors
/// As [`parse_bytes_with`].
pub fn parse_bytes(bytes: &[u8]) -> Result<Document, DocumentError> {
    parse_bytes_with(bytes, &Rules::default())
}

/// Reads a document from the bytes of a file.
///
/// # Errors
/// As [`parse_with`]; bytes that are not UTF-8 are a fault with line and column.
pub fn parse_bytes_with(bytes: &[u8], rules: &Rules) -> Result<Document, DocumentError> {
    node::text_of(bytes).and_then(|text| parse_with(text, rules))
}
