//! What dpkg printed while apt ran it: why it failed, of which PackageKit tells a part, or nothing.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
};

use super::PackageFolders;

/// How much of the end of a log is read: what dpkg prints of one transaction that fails.
const LOG_END: u64 = 16 * 1024;

/// How a line begins that says which package dpkg failed over; the lines after it, which begin with a space, say why.
const COMPLAINT: &str = "dpkg: error processing ";

/// How long what dpkg printed is by now.
pub(in crate::plugins::packagekit) fn log_length(folders: &PackageFolders) -> u64 {
    fs::metadata(&folders.log).map_or(0, |meta| meta.len())
}

/// What dpkg printed beyond that length, the end of it.
pub(in crate::plugins::packagekit) fn log_beyond(folders: &PackageFolders, length: u64) -> Option<String> {
    let mut file = File::open(&folders.log).ok()?;
    let end = file.metadata().ok()?.len();
    // Rotated meanwhile, it is all new.
    let from = if end < length { 0 } else { length };
    file.seek(SeekFrom::Start(from.max(end.saturating_sub(LOG_END)))).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_END).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The first failure that it printed: what follows may follow from that.
pub(in crate::plugins::packagekit) fn complaint(log: &str) -> Option<String> {
    let mut lines = log.lines().skip_while(|line| !line.starts_with(COMPLAINT));
    let first = lines.next()?.strip_prefix("dpkg: ")?;
    let why = lines.take_while(|line| line.starts_with(' ')).map(str::trim);
    Some(std::iter::once(first).chain(why).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_dpkg_failed_is_found() {
        let log = "Unpacking lab-bad (1.0) ...\r\nSetting up lab-bad (1.0) ...\r\n\
            dpkg: error processing package lab-bad (--configure):\r\n \
            installed lab-bad package post-installation script subprocess returned error exit status 3\r\n\
            dpkg: error processing package other (--configure):\r\n dependency problems\r\n\
            Errors were encountered while processing:\r\n lab-bad\r\n";
        let why = "error processing package lab-bad (--configure): \
            installed lab-bad package post-installation script subprocess returned error exit status 3";
        assert_eq!(complaint(log).as_deref(), Some(why));
        assert_eq!(complaint("Setting up lab-bad (1.0) ...\n"), None);
    }

    #[test]
    fn only_what_is_new_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("term.log");
        let folders = PackageFolders { log: path.clone(), ..PackageFolders::system() };
        assert_eq!((log_length(&folders), log_beyond(&folders, 0)), (0, None));
        fs::write(&path, "old\n").unwrap();
        let length = log_length(&folders);
        fs::write(&path, "old\nnew\n").unwrap();
        assert_eq!(log_beyond(&folders, length).as_deref(), Some("new\n"));
        fs::write(&path, "x").unwrap();
        assert_eq!(log_beyond(&folders, length).as_deref(), Some("x"), "it was rotated");
    }
}
