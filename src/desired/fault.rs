//! What can be wrong with a document, told to machines and to people.

use std::fmt::Write as _;

/// One fault of a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// JSON pointer (RFC 6901) of the place; for a syntax error the empty text.
    pub pointer: String,
    /// For machines: one of the constants of [`code`].
    pub code: &'static str,
    /// For people: what is wrong, and the remedy.
    pub message: String,
}

/// The values of [`Fault::code`].
pub mod code {
    /// Not JSON, or not UTF-8; the message gives line and column.
    pub const SYNTAX: &str = "Syntax";
    /// Objects and lists are nested deeper than any document is.
    pub const TOO_DEEP: &str = "TooDeep";
    /// There is no such field; the message names the nearest.
    pub const UNKNOWN_FIELD: &str = "UnknownField";
    /// A field that must be given is missing.
    pub const MISSING_FIELD: &str = "MissingField";
    /// A value of another type than the field's, `null` included where nothing can be unset.
    pub const WRONG_TYPE: &str = "WrongType";
    /// A number, a word or a count that the field does not take.
    pub const OUT_OF_RANGE: &str = "OutOfRange";
    /// A name that systemd, Linux or Open vSwitch does not take.
    pub const BAD_NAME: &str = "BadName";
    /// A key twice in one object, or a value twice in a list that is a set.
    pub const DUPLICATE_KEY: &str = "DuplicateKey";
    /// A key that op-dbus keeps for itself.
    pub const RESERVED_KEY: &str = "ReservedKey";
    /// Two statements that cannot both hold.
    pub const CONTRADICTION: &str = "Contradiction";
    /// `after` names a resource that the document does not.
    pub const UNKNOWN_RESOURCE: &str = "UnknownResource";
    /// Resources wait for one another in a circle.
    pub const CYCLE: &str = "Cycle";
    /// The document names nothing, and does not say that it is meant so.
    pub const EMPTY: &str = "Empty";
    /// There are more faults than are listed.
    pub const MORE_FAULTS: &str = "MoreFaults";
}

/// Why a text is not a document. Trying again never helps: the text must change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The text is longer than a document may be.
    #[error("{0}")]
    TooLarge(String),
    /// All that is wrong with it (at least one fault).
    #[error("{}", faults_text(.0))]
    Invalid(Vec<Fault>),
}

/// All faults, a line each, as people read them in an error's message.
#[must_use]
pub fn faults_text(faults: &[Fault]) -> String {
    let mut text = String::new();
    for fault in faults {
        if !text.is_empty() {
            text.push('\n');
        }
        if !fault.pointer.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}: ", fault.pointer);
        }
        text.push_str(&fault.message);
    }
    text
}
