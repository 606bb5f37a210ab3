//! Where in a document something is, and the faults found so far.

use std::fmt::Write as _;

use crate::model::ResourceId;

use super::fault::{Fault, code};

/// Faults that are listed: beyond, nobody reads on, and the list must fit into one message of the bus.
const MAX_FAULTS: usize = 1000;

/// Characters of a key that a pointer shows: longer ones are no names of anything, and pointers stay small.
const MAX_TOKEN: usize = 1024;

/// A place in the document, from the inside to the root. Costs nothing until a pointer is made of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'p> {
    parent: Option<&'p At<'p>>,
    token: Token<'p>,
}

#[derive(Debug, Clone, Copy)]
enum Token<'p> {
    Key(&'p str),
    Index(usize),
}

impl<'p> At<'p> {
    /// The whole document.
    pub(super) const ROOT: At<'static> = At { parent: None, token: Token::Key("") };

    /// The value of that key.
    pub(super) const fn key(&'p self, key: &'p str) -> Self {
        Self { parent: Some(self), token: Token::Key(key) }
    }

    /// That element, from 0.
    pub(super) const fn index(&'p self, index: usize) -> Self {
        Self { parent: Some(self), token: Token::Index(index) }
    }

    /// The JSON pointer.
    pub(super) fn pointer(&self) -> String {
        let Some(parent) = self.parent else { return String::new() };
        let mut pointer = parent.pointer();
        pointer.push('/');
        match self.token {
            Token::Index(index) => {
                // Writing to a String cannot fail.
                let _ = write!(pointer, "{index}");
            }
            Token::Key(key) => {
                for (at, letter) in key.chars().enumerate() {
                    match letter {
                        _ if at == MAX_TOKEN => {
                            pointer.push('…');
                            break;
                        }
                        '~' => pointer.push_str("~0"),
                        '/' => pointer.push_str("~1"),
                        // D-Bus carries no NUL.
                        '\0' => pointer.push(char::REPLACEMENT_CHARACTER),
                        other => pointer.push(other),
                    }
                }
            }
        }
        pointer
    }
}

/// All faults of a document.
#[derive(Debug, Default)]
pub(super) struct Faults {
    list: Vec<Fault>,
    unlisted: usize,
}

impl Faults {
    /// One more. The message is made only if it is listed.
    pub(super) fn add(&mut self, at: &At<'_>, code: &'static str, message: impl FnOnce() -> String) {
        self.add_within(at, "", code, message);
    }

    /// One more, at a place within `at`: `within` is the rest of the JSON pointer.
    pub(super) fn add_within(
        &mut self,
        at: &At<'_>,
        within: &str,
        code: &'static str,
        message: impl FnOnce() -> String,
    ) {
        if self.list.len() < MAX_FAULTS {
            self.list.push(Fault { pointer: at.pointer() + within, code, message: message() });
        } else {
            self.unlisted += 1;
        }
    }

    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.list.len() + self.unlisted
    }

    /// The list, in the order found.
    pub(super) fn into_list(mut self) -> Vec<Fault> {
        if self.unlisted > 0 {
            let message = format!("and {} faults more", self.unlisted);
            self.list.push(Fault { pointer: String::new(), code: code::MORE_FAULTS, message });
        }
        self.list
    }
}

/// A name or word of the document as messages quote it.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", clipped(text))
}

/// A resource as messages name it.
pub(super) fn named(id: &ResourceId) -> String {
    format!("{}:{}", id.kind, clipped(&id.name))
}

/// Enough of a text to recognise it by, with control characters escaped: a name that is wrong may be megabytes long,
/// and stand in many messages.
fn clipped(text: &str) -> String {
    /// Characters that are shown.
    const SHOWN: usize = 80;
    let mut out = String::new();
    for (at, letter) in text.chars().enumerate() {
        if at == SHOWN {
            out.push('…');
            break;
        }
        if letter.is_control() { out.extend(letter.escape_debug()) } else { out.push(letter) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_escaped_and_bounded() {
        let root = At::ROOT;
        assert_eq!(root.pointer(), "");
        let list = root.key("a/b~c");
        assert_eq!(list.index(3).key("").pointer(), "/a~1b~0c/3/");
        assert_eq!(root.key("nul\0").pointer(), "/nul\u{fffd}");
        assert!(root.key(&"~".repeat(1_000_000)).pointer().len() < 3 * MAX_TOKEN);
    }

    #[test]
    fn the_list_of_faults_is_bounded() {
        let mut faults = Faults::default();
        for _ in 0..MAX_FAULTS + 5 {
            faults.add(&At::ROOT, code::WRONG_TYPE, String::new);
        }
        assert_eq!(faults.count(), MAX_FAULTS + 5);
        let list = faults.into_list();
        assert_eq!(list.len(), MAX_FAULTS + 1);
        assert_eq!(list.last().map(|fault| fault.code), Some(code::MORE_FAULTS));
        assert_eq!(list.last().map(|fault| fault.message.as_str()), Some("and 5 faults more"));
    }

    #[test]
    fn quotes_are_bounded() {
        assert_eq!(quoted("a\n\\x2d\0"), r#""a\n\x2d\0""#);
        assert_eq!(quoted(&"ä".repeat(81)), format!("\"{}…\"", "ä".repeat(80)));
        assert_eq!(named(&ResourceId::bridge("b".repeat(1_000_000))), format!("bridge:{}…", "b".repeat(80)));
    }
}
