//! Splits a byte stream into JSON objects: OVSDB's JSON-RPC has neither lengths nor line ends between messages.
//!
//! The scan remembers where it stopped, so that a message that arrives in many pieces is looked at once.

/// So much room is kept between messages.
const KEPT_BYTES: usize = 256 << 10;

/// Why a stream cannot be split any further. The connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// Something other than an object stands where a message should begin.
    #[error("a message begins with byte 0x{0:02x} instead of an opening brace")]
    NotAnObject(u8),
    /// A message is longer than the limit.
    #[error("a message is longer than {0} bytes")]
    TooLong(usize),
}

/// The splitter: bytes go in, whole objects come out.
#[derive(Debug)]
pub(super) struct Splitter {
    buffer: Vec<u8>,
    /// Where the current message begins.
    start: usize,
    /// Bytes before this were looked at.
    scanned: usize,
    /// Open braces and brackets.
    depth: usize,
    in_string: bool,
    escaped: bool,
    limit: usize,
}

impl Splitter {
    /// A splitter that refuses messages longer than `limit` bytes.
    #[must_use]
    pub(super) const fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, scanned: 0, depth: 0, in_string: false, escaped: false, limit }
    }

    /// Where received bytes are appended. What was handed out before is dropped first.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
            // Room that one long message took is given back after it.
            if self.buffer.capacity() > KEPT_BYTES && self.buffer.len() < KEPT_BYTES {
                self.buffer.shrink_to(KEPT_BYTES);
            }
        }
        &mut self.buffer
    }

    /// The next whole message, if it has arrived.
    ///
    /// # Errors
    /// [`FrameError`], for good.
    pub(super) fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'{' | b'[' if self.depth > 0 || byte == b'{' => {
                    if self.depth == 0 {
                        self.start = self.scanned - 1;
                    }
                    self.depth += 1;
                }
                // White space between messages.
                b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => self.start = self.scanned,
                other if self.depth == 0 => return Err(FrameError::NotAnObject(other)),
                b'"' => self.in_string = true,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let begin = std::mem::replace(&mut self.start, self.scanned);
                        if self.scanned - begin > self.limit {
                            return Err(FrameError::TooLong(self.limit));
                        }
                        return Ok(self.buffer.get(begin..self.scanned));
                    }
                }
                _ => {}
            }
        }
        if self.scanned - self.start > self.limit {
            return Err(FrameError::TooLong(self.limit));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn split(stream: &[u8], piece: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut splitter = Splitter::new(1 << 20);
        let mut frames = Vec::new();
        for bytes in stream.chunks(piece) {
            splitter.buffer().extend_from_slice(bytes);
            while let Some(frame) = splitter.next_frame()? {
                frames.push(frame.to_vec());
            }
        }
        Ok(frames)
    }

    #[test]
    fn braces_and_quotes_in_strings_do_not_count() {
        let stream = br#"{"a":"}{\"]"}{"b":["\\",{"c":"["}]} {"d":null}"#;
        let whole = split(stream, stream.len()).unwrap();
        assert_eq!(whole, [&br#"{"a":"}{\"]"}"#[..], &br#"{"b":["\\",{"c":"["}]}"#[..], &br#"{"d":null}"#[..]]);
        assert_eq!(split(stream, 1).unwrap(), whole);
    }

    #[test]
    fn a_message_of_exactly_one_or_more_pages_is_not_waited_for() {
        for pages in 1..4_usize {
            let text = format!(r#"{{"x":"{}"}}"#, "y".repeat(4096 * pages - 8));
            assert_eq!(text.len(), 4096 * pages);
            assert_eq!(split(text.as_bytes(), 4096).unwrap(), [text.clone().into_bytes()]);
        }
    }

    #[test]
    fn refuses_what_is_no_object_and_what_is_too_long() {
        assert_eq!(split(b"{} HTTP/1.1", 3), Err(FrameError::NotAnObject(b'H')));
        assert_eq!(split(b"[1]", 3), Err(FrameError::NotAnObject(b'[')));
        let mut splitter = Splitter::new(8);
        splitter.buffer().extend_from_slice(br#"{"a":"bcdefgh"#);
        assert_eq!(splitter.next_frame(), Err(FrameError::TooLong(8)));
        let mut splitter = Splitter::new(8);
        splitter.buffer().extend_from_slice(br#"{"a":"bc"}"#);
        assert_eq!(splitter.next_frame(), Err(FrameError::TooLong(8)));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(texts in prop::collection::vec(".*", 0..6), piece in 1_usize..9) {
            let frames: Vec<Vec<u8>> =
                texts.iter().map(|text| serde_json::to_vec(&serde_json::json!({ text: [text, {"k": text}] })).unwrap()).collect();
            prop_assert_eq!(split(&frames.concat(), piece).unwrap(), frames);
        }
    }
}
