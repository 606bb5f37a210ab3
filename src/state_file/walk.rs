//! Resolving a path link by link, and reading what is at its end.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, ErrorKind, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

/// A file beyond this is not read: the limit of a document.
pub const MAX_BYTES: u64 = crate::desired::MAX_BYTES as u64;

/// Links that a path may lead through: the kernel's own limit (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug)]
pub(super) enum End {
    /// To a regular file.
    File {
        /// Its path, free of links.
        path: PathBuf,
        /// Its bytes.
        size: u64,
        /// Its names.
        links: u64,
    },
    /// To nothing, now.
    Missing,
    /// To something else; a text for people.
    Unreadable(String),
}

enum Part {
    Root,
    Up,
    Down(OsString),
}

/// Follows a path from the root, link by link. Before each name is looked up, `visit` gets the folder (free of links),
/// the name, and whether it is the last of the path: who watches the folder then, misses no change after the look-up.
pub(super) fn walk(path: &Path, mut visit: impl FnMut(&Path, &OsStr, bool)) -> End {
    let mut here = PathBuf::from("/");
    // The next part is at the end.
    let mut rest = parts(path);
    let mut links = 0;
    while let Some(part) = rest.pop() {
        let name = match part {
            Part::Root => {
                here = PathBuf::from("/");
                continue;
            }
            // Right as it stands: `here` is free of links.
            Part::Up => {
                here.pop();
                continue;
            }
            Part::Down(name) => name,
        };
        visit(&here, &name, rest.is_empty());
        let at = here.join(name);
        let found = match fs::symlink_metadata(&at) {
            Ok(found) => found,
            Err(error) => return end_of(&at, &error),
        };
        if found.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return End::Unreadable(format!("{}: more than {MAX_LINKS} links, or a loop of links", path.display()));
            }
            match fs::read_link(&at) {
                Ok(target) => rest.extend(parts(&target)),
                Err(error) => return end_of(&at, &error),
            }
        } else if found.is_dir() {
            here = at;
        } else if !rest.is_empty() {
            return End::Unreadable(format!("{} is not a folder", at.display()));
        } else if found.is_file() {
            return End::File { path: at, size: found.len(), links: found.nlink() };
        } else {
            return End::Unreadable(format!("{} is not a regular file", at.display()));
        }
    }
    End::Unreadable(format!("{} is a folder, not a file", here.display()))
}

/// The parts of a path, the first at the end.
fn parts(path: &Path) -> Vec<Part> {
    let part = |component| match component {
        Component::RootDir => Some(Part::Root),
        Component::ParentDir => Some(Part::Up),
        Component::Normal(name) => Some(Part::Down(name.to_owned())),
        // (A prefix is Windows's.)
        Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(part).collect()
}

/// What an error at that place means. What changed under our hands (a folder that is none any more, a link that is
/// none any more) counts as missing for now: the change has made an event, and that makes us look again.
fn end_of(at: &Path, error: &io::Error) -> End {
    let is_link = error.raw_os_error() == Some(Errno::LOOP.raw_os_error());
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput => End::Missing,
        _ if is_link => End::Missing,
        _ => End::Unreadable(format!("{}: {error}", at.display())),
    }
}

/// Reads the file at the end of a walk: its bytes, or why not. Never more than [`MAX_BYTES`], and never waits for a
/// pipe's other end, should one have taken the file's place.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, End> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut file =
        rustix::fs::open(path, flags, Mode::empty()).map(File::from).map_err(|error| end_of(path, &error.into()))?;
    let found = file.metadata().map_err(|error| end_of(path, &error))?;
    if !found.is_file() {
        return Err(End::Unreadable(format!("{} is not a regular file", path.display())));
    }
    let too_large = || End::Unreadable(format!("{} is larger than {} MiB", path.display(), MAX_BYTES >> 20));
    if found.len() > MAX_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // One more than may be: the file may grow while it is read.
    let read = file.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| end_of(path, &error))?;
    if bytes.len() as u64 > MAX_BYTES { Err(too_large()) } else { Ok(bytes) }
}
