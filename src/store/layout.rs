//! Names and contents of the files in the state directory.
//!
//! ```text
//! lock                              flock(2): one owner
//! store.json                        format; numbers that must survive (see `Counters`)
//! state-file.json                   the state file's last content (see `FileContent`)
//! generations/00000007.json         a document, byte for byte as received
//! generations/00000007.meta.json    what is known of it; a generation exists once this file does
//! generations/.NAME.tmp             being written; removed at the next start
//! quarantine/                       what was found torn; never read again, for people to look at
//! ```

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::{
    error::StoreError,
    fs::{Fs, write_synced},
};

/// Newest format of every file here. It rises when an older op-dbus would misread a newer one's files.
pub(super) const FORMAT: u32 = 1;

/// Name of the lock file.
pub(super) const LOCK: &str = "lock";
/// Name of the file of [`Counters`].
pub(super) const COUNTERS: &str = "store.json";
/// Name of the file of [`FileContent`].
pub(super) const STATE_FILE: &str = "state-file.json";
/// Name of the folder of generations.
pub(super) const GENERATIONS: &str = "generations";
/// Name of the folder of what was found torn.
pub(super) const QUARANTINE: &str = "quarantine";

const META_SUFFIX: &str = ".meta.json";
const DOCUMENT_SUFFIX: &str = ".json";
const TEMP_PREFIX: char = '.';
const TEMP_SUFFIX: &str = ".tmp";

/// Digits of a generation's number in file names: enough for `ls` to sort a life's worth.
const DIGITS: usize = 8;

/// Highest number that a file name may stand for: no counting reaches it, and counting on from it cannot overflow.
const MAX_NUMBER: u64 = 1 << 53;

/// What a name in the generations folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// The document of that generation.
    Document(u64),
    /// What is known of that generation.
    Meta(u64),
    /// Left over from a write that was cut off.
    Temp,
    /// Not the store's.
    Foreign,
}

/// Reads a name.
pub(super) fn named(name: &str) -> Named {
    // Only what `document` and `meta` make: other spellings of a number would be a second name for it.
    let number = |stem: &str| {
        stem.parse().ok().filter(|number| (1..=MAX_NUMBER).contains(number) && format!("{number:0DIGITS$}") == stem)
    };
    if name.starts_with(TEMP_PREFIX) && name.ends_with(TEMP_SUFFIX) {
        return Named::Temp;
    }
    if let Some(stem) = name.strip_suffix(META_SUFFIX) {
        return number(stem).map_or(Named::Foreign, Named::Meta);
    }
    name.strip_suffix(DOCUMENT_SUFFIX).and_then(number).map_or(Named::Foreign, Named::Document)
}

/// File name of a generation's document.
pub(super) fn document(number: u64) -> String {
    format!("{number:0DIGITS$}{DOCUMENT_SUFFIX}")
}

/// File name of what is known of a generation.
pub(super) fn meta(number: u64) -> String {
    format!("{number:0DIGITS$}{META_SUFFIX}")
}

/// Where a file is written before it takes its name.
fn temp(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{TEMP_PREFIX}{name}{TEMP_SUFFIX}"))
}

/// SHA-256 in lower-case hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Where a generation came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The state file.
    File,
    /// A call on the bus.
    Bus,
}

impl Source {
    /// The word on the bus.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Bus => "bus",
        }
    }
}

impl From<Source> for crate::model::StateSource {
    fn from(source: Source) -> Self {
        match source {
            Source::File => Self::File,
            Source::Bus => Self::Bus,
        }
    }
}

/// NNNNNNNN.meta.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// The generation's number; must be the one of the file's name.
    pub(super) number: u64,
    /// When it was stored, CLOCK_REALTIME microseconds.
    pub(super) time_usec: u64,
    /// Where it came from.
    pub(super) source: Source,
    /// Who set it.
    pub(super) uid: u32,
    /// Bytes of the document.
    pub(super) size: u64,
    /// SHA-256 of the document.
    pub(super) sha256: String,
    /// Result of its last job; empty = none finished.
    pub(super) result: String,
    /// A job for it worked through to its end.
    pub(super) finished: bool,
    /// The boot in which it last did; empty = never, or it was not known which boot it was.
    pub(super) finished_boot: String,
}

/// store.json: numbers that must never be given out twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    /// No job ever had this number or a higher one.
    pub(super) job_ceiling: u64,
    /// Numbers up to this one are used up, whatever is in the generations folder.
    pub(super) generation_floor: u64,
}

/// What the state file last held, as far as op-dbus has dealt with it. The file is news when it holds something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileContent {
    /// SHA-256 of the content, as [`sha256_hex`] spells it.
    pub sha256: String,
    /// It was refused; `false` = it is a generation, or means the same as one.
    pub refused: bool,
}

/// state-file.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StateFile {
    /// The newest generation when this was written: a later generation that came from the file is later news of it.
    pub(super) as_of: u64,
    /// The content.
    #[serde(flatten)]
    pub(super) content: FileContent,
}

/// Any of the files, with its format.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    format: u32,
    #[serde(flatten)]
    body: T,
}

/// Only the format: read first, since a newer file need not have the rest.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// A file as read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read<T> {
    /// Whole.
    Whole(T),
    /// Not there.
    Missing,
    /// Not what this store writes; why.
    Torn(String),
}

/// Reads one of the JSON files.
pub(super) fn read_json<T: DeserializeOwned>(fs: &dyn Fs, path: &Path) -> Result<Read<T>, StoreError> {
    let bytes = match fs.read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Read::Missing),
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    match serde_json::from_slice::<Format>(&bytes) {
        Ok(Format { format }) if format > FORMAT => {
            Err(StoreError::NewerFormat { path: path.to_owned(), found: format, known: FORMAT })
        }
        Ok(_) => Ok(match serde_json::from_slice::<Versioned<T>>(&bytes) {
            Ok(versioned) => Read::Whole(versioned.body),
            Err(error) => Read::Torn(error.to_string()),
        }),
        Err(error) => Ok(Read::Torn(error.to_string())),
    }
}

/// Puts a whole file in place, or leaves what was there: temporary file, fsync, rename. The name is on the disk only
/// after [`Fs::sync_dir`] of the folder.
pub(super) fn put(fs: &dyn Fs, folder: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let temp = temp(folder, name);
    let path = folder.join(name);
    let written = write_synced(fs, &temp, bytes).map_err(StoreError::io("write", &path));
    let renamed = written.and_then(|()| fs.rename(&temp, &path).map_err(StoreError::io("replace", &path)));
    if renamed.is_err() {
        // Gives the space back; what cannot be removed now is removed at the next start.
        let _ = fs.remove(&temp);
    }
    renamed
}

/// Puts one of the JSON files in place, as [`put`] does.
pub(super) fn put_json<T: Serialize>(fs: &dyn Fs, folder: &Path, name: &str, body: &T) -> Result<(), StoreError> {
    let mut bytes = serde_json::to_vec_pretty(&Versioned { format: FORMAT, body })
        .map_err(|error| StoreError::io("encode", folder.join(name))(error.into()))?;
    bytes.push(b'\n');
    put(fs, folder, name, &bytes)
}
