//! Values that differ, in a form that documents, plans and the bus share.

use std::fmt;

/// A value of one field, desired or observed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// Not there: on the bus an empty `av`.
    Absent,
    /// A boolean.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    UInt(u64),
    /// A text.
    Str(String),
    /// A list of texts.
    Strs(Vec<String>),
    /// A list of numbers.
    Ints(Vec<i64>),
}

impl Value {
    /// The text, or [`Value::Absent`].
    pub fn text(value: Option<impl Into<String>>) -> Self {
        value.map_or(Self::Absent, |text| Self::Str(text.into()))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Str(value.to_owned())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("(none)"),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::UInt(value) => value.fmt(f),
            Self::Str(value) => write!(f, "{value:?}"),
            Self::Strs(values) => write!(f, "{values:?}"),
            Self::Ints(values) => write!(f, "{values:?}"),
        }
    }
}

/// One field that is not as the document says. Secrets are redacted before they come here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The field as the document spells it; keys of maps as `external_ids.KEY`.
    pub field: String,
    /// What the document says.
    pub desired: Value,
    /// What was seen.
    pub observed: Value,
}

impl Difference {
    /// A difference in that field.
    pub fn new(field: impl Into<String>, desired: impl Into<Value>, observed: impl Into<Value>) -> Self {
        Self { field: field.into(), desired: desired.into(), observed: observed.into() }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.field, self.observed, self.desired)
    }
}
