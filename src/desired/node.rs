//! JSON as it was written: every key of an object in its place, twice where it stands twice, and exact numbers.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::fault::{DocumentError, Fault, code};

/// Bytes a document may have: tens of thousands of resources fit, and reading it takes a tenth of a second.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Levels of objects and lists a text may have; a document has 7. Bounds the stack, here and where a tree is read.
const MAX_DEPTH: usize = 64;

/// Integers up to this are exact in a double (2^53): `1e3` and `1000.0` are read as 1000.
const MAX_EXACT_DOUBLE: f64 = 9_007_199_254_740_992.0;

/// A JSON value. Texts without escapes are borrowed from the document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node<'t> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer from 0 up.
    Unsigned(u64),
    /// An integer below 0.
    Negative(i64),
    /// Any other number.
    Fraction(f64),
    /// A text.
    Text(Cow<'t, str>),
    /// A list.
    List(Vec<Node<'t>>),
    /// An object: its pairs as they stand.
    Object(Vec<(Cow<'t, str>, Node<'t>)>),
}

impl<'t> Node<'t> {
    /// Reads a text.
    ///
    /// # Errors
    /// A text over [`MAX_BYTES`] is too large; one that is not JSON or too deep has one fault, with line and column.
    pub(super) fn parse(text: &'t str) -> Result<Self, DocumentError> {
        check_size(text.len())?;
        let mut json = serde_json::Deserializer::from_str(text);
        let read = NodeSeed { depth: 0 }.deserialize(&mut json).and_then(|node| json.end().map(|()| node));
        read.map_err(|error| {
            // Only NodeSeed makes errors of category Data, and only for the depth.
            let (code, what) = if error.is_data() { (code::TOO_DEEP, "") } else { (code::SYNTAX, "not JSON: ") };
            let message = format!("{what}{error}");
            DocumentError::Invalid(vec![Fault { pointer: String::new(), code, message }])
        })
    }

    /// What it is, as people call it.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Unsigned(_) | Self::Negative(_) => "a number",
            Self::Fraction(_) => "a number with a fraction, or beyond 64 bits",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// The text of a file's bytes.
///
/// # Errors
/// Bytes over 4 MiB are too large; what is not UTF-8 is a fault with line and column (of the byte, as JSON's).
pub(super) fn text_of(bytes: &[u8]) -> Result<&str, DocumentError> {
    check_size(bytes.len())?;
    std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let (line, column) =
            good.split(|byte| *byte == b'\n').fold((0, 0), |(line, _), text| (line + 1, text.len() + 1));
        let message = format!("not UTF-8 at line {line} column {column}");
        DocumentError::Invalid(vec![Fault { pointer: String::new(), code: code::SYNTAX, message }])
    })
}

/// Refuses what is too long to be looked at.
fn check_size(bytes: usize) -> Result<(), DocumentError> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let limit = MAX_BYTES / (1024 * 1024);
    Err(DocumentError::TooLarge(format!(
        "the document has {bytes} bytes; {limit} MiB ({MAX_BYTES} bytes) is the limit"
    )))
}

/// Reads one value at that depth.
#[derive(Clone, Copy)]
struct NodeSeed {
    depth: usize,
}

impl NodeSeed {
    /// For what is inside.
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'t> DeserializeSeed<'t> for NodeSeed {
    type Value = Node<'t>;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Node<'t>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for NodeSeed {
    type Value = Node<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node<'t>, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'t>, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node<'t>, E> {
        Ok(Node::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node<'t>, E> {
        Ok(u64::try_from(value).map_or(Node::Negative(value), Node::Unsigned))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node<'t>, E> {
        if value.fract() != 0.0 || value.abs() > MAX_EXACT_DOUBLE {
            return Ok(Node::Fraction(value));
        }
        // In range and without a fraction: the conversion is exact.
        #[allow(clippy::cast_possible_truncation)]
        self.visit_i64(value as i64)
    }

    fn visit_borrowed_str<E>(self, value: &'t str) -> Result<Node<'t>, E> {
        Ok(Node::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node<'t>, E> {
        Ok(Node::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut list: A) -> Result<Node<'t>, A::Error> {
        let inner = self.inner()?;
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(inner)? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'t>>(self, mut object: A) -> Result<Node<'t>, A::Error> {
        let inner = self.inner()?;
        let mut pairs = Vec::new();
        while let Some(key) = object.next_key_seed(KeySeed)? {
            pairs.push((key, object.next_value_seed(inner)?));
        }
        Ok(Node::Object(pairs))
    }
}

/// Reads a key, borrowed where it can be.
struct KeySeed;

impl<'t> DeserializeSeed<'t> for KeySeed {
    type Value = Cow<'t, str>;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Cow<'t, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'t> Visitor<'t> for KeySeed {
    type Value = Cow<'t, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, value: &'t str) -> Result<Cow<'t, str>, E> {
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Cow<'t, str>, E> {
        Ok(Cow::Owned(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        match Node::parse(text) {
            Err(DocumentError::Invalid(mut faults)) if faults.len() == 1 => faults.remove(0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keeps_order_and_duplicates() {
        let one = |value| (Cow::Borrowed("b"), Node::Unsigned(value));
        let object = Node::Object(vec![one(1), (Cow::Borrowed("a"), Node::Null), one(2)]);
        assert_eq!(Node::parse(r#"{"b": 1, "a": null, "b": 2}"#), Ok(object));
    }

    #[test]
    fn numbers_are_exact() {
        for (text, node) in [
            ("0", Node::Unsigned(0)),
            ("-0.0", Node::Unsigned(0)),
            ("1e3", Node::Unsigned(1000)),
            ("18446744073709551615", Node::Unsigned(u64::MAX)),
            ("-9223372036854775808", Node::Negative(i64::MIN)),
            ("18446744073709551616", Node::Fraction(18_446_744_073_709_551_616.0)),
            ("9007199254740994.0", Node::Fraction(9_007_199_254_740_994.0)),
            ("0.5", Node::Fraction(0.5)),
        ] {
            assert_eq!(Node::parse(text), Ok(node), "{text}");
        }
    }

    #[test]
    fn syntax_errors_give_line_and_column() {
        for (text, place) in [
            ("", "line 1 column 0"),
            ("nonsense", "line 1 column 2"),
            ("{\"a\": 1,\n \"b\" 2}", "line 2 column 6"),
            ("{} {}", "line 1 column 4"),
            ("\"\\ud800\"", "line 1 column 8"),
            ("1e999", "line 1 column"),
        ] {
            let fault = fault(text);
            assert_eq!((fault.code, fault.pointer.as_str()), (code::SYNTAX, ""), "{text}");
            assert!(fault.message.contains(place), "{text}: {}", fault.message);
        }
    }

    #[test]
    fn bytes_are_utf8() {
        assert_eq!(text_of("\"ä\"".as_bytes()), Ok("\"ä\""));
        let message = "not UTF-8 at line 2 column 4".to_owned();
        let fault = Fault { pointer: String::new(), code: code::SYNTAX, message };
        assert_eq!(text_of(b"{\n  \"\xff\": 1}"), Err(DocumentError::Invalid(vec![fault])));
        assert!(matches!(text_of(&vec![0xff; MAX_BYTES + 1]), Err(DocumentError::TooLarge(_))));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |open: &str, close: &str, levels| open.repeat(levels) + "1" + &close.repeat(levels);
        assert!(Node::parse(&nested("[", "]", MAX_DEPTH)).is_ok());
        for (text, column) in [
            (nested("[", "]", MAX_DEPTH + 1), "column 65"),
            (nested("[", "]", 10_000), "column 65"),
            (nested("{\"a\":", "}", 10_000), "column 321"),
            ("[".repeat(MAX_BYTES), "column 65"),
        ] {
            let fault = fault(&text);
            assert_eq!(fault.code, code::TOO_DEEP);
            assert!(fault.message.contains(column), "{}", fault.message);
        }
        assert!(Node::parse(&" ".repeat(MAX_BYTES - 2)).is_err_and(|error| matches!(error, DocumentError::Invalid(_))));
        assert!(matches!(Node::parse(&" ".repeat(MAX_BYTES + 1)), Err(DocumentError::TooLarge(_))));
    }
}
