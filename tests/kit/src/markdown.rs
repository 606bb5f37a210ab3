//! What the tests read of the documents: their fenced blocks.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What stands behind the opening fence, as `json` or `json refused`.
    pub info: String,
    /// Its lines.
    pub text: String,
    /// Line of its first line in the file, from 1.
    pub line: usize,
}

/// The checkout.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A file of the checkout, by its path there.
#[must_use]
pub fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// README.md, CONTRIBUTING.md and all of docs/, relative to the checkout, by name.
#[must_use]
pub fn documents() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("docs")).expect("docs/");
    let paths = folder.map(|entry| Path::new("docs").join(entry.expect("an entry of docs/").file_name()));
    let mut all: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|ext| ext == "md")).collect();
    all.extend(["CONTRIBUTING.md".into(), "README.md".into()]);
    all.sort();
    all
}

/// The fenced blocks of a text, in their order.
#[must_use]
pub fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(info), None) => {
                open = Some(Block { info: info.to_owned(), text: String::new(), line: number + 2 });
            }
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed: {open:?}");
    blocks
}
