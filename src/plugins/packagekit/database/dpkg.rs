//! /var/lib/dpkg/status: what is installed, and in which state (deb822(5), dpkg(1)).

use super::{Entry, Installed};

/// Reads the file's text. A paragraph that is none is passed over: dpkg itself complains of it.
pub(super) fn parse(text: &str) -> Installed {
    let mut installed = Installed::default();
    for paragraph in text.split("\n\n") {
        if let Some((name, entry)) = read(paragraph) {
            if name == "dpkg" {
                installed.native.clone_from(&entry.arch);
            }
            installed.packages.entry(name).or_default().push(entry);
        }
    }
    installed
}

/// Reads one paragraph; `None` of a package that is not there: only its name, or its configuration, is.
fn read(paragraph: &str) -> Option<(String, Entry)> {
    let mut name = None;
    let mut state = "";
    let mut entry = Entry::default();
    for line in paragraph.lines() {
        // Lines that go on begin with a space.
        let Some((field, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match field {
            "Package" => name = Some(value),
            "Status" => state = value.rsplit(' ').next().unwrap_or_default(),
            "Architecture" => value.clone_into(&mut entry.arch),
            "Version" => value.clone_into(&mut entry.version),
            "Essential" | "Protected" | "Important" => entry.essential |= value == "yes",
            "Provides" => entry.provides = provided(value).map(str::to_owned).collect(),
            "Description" => value.clone_into(&mut entry.summary),
            _ => {}
        }
    }
    match state {
        // Triggers are run by whoever is at work, or by the next one; what waits for them works.
        "installed" | "triggers-awaited" | "triggers-pending" => {}
        "" | "not-installed" | "config-files" => return None,
        halfway => halfway.clone_into(&mut entry.halfway),
    }
    Some((name?.to_owned(), entry))
}

/// The names in a `Provides:`, without their versions.
pub(super) fn provided(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').filter_map(|name| name.split_whitespace().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "\
Package: dpkg
Essential: yes
Status: install ok installed
Architecture: amd64
Version: 1.21.22
Description: Debian package management system
 This package: provides things.
 .
 Version: of no account

Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 2.36-9
Provides: libc6-virtual, other (= 1.0)

Package: libc6
Status: install ok triggers-pending
Architecture: i386
Version: 2.36-9

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1.0

Package: bad
Status: install ok half-configured
Architecture: all
Version: 1.0
";

    #[test]
    fn a_status_file_is_read() {
        let installed = parse(STATUS);
        assert_eq!(installed.native, "amd64");
        let dpkg = installed.find("dpkg", None).unwrap();
        assert!(dpkg.essential && dpkg.halfway.is_empty());
        assert_eq!((dpkg.version.as_str(), dpkg.summary.as_str()), ("1.21.22", "Debian package management system"));
        assert_eq!(installed.find("libc6", None).unwrap().arch, "amd64");
        assert_eq!(installed.find("libc6", Some("i386")).unwrap().halfway, "");
        assert_eq!(installed.find("libc6", Some("arm64")), None);
        assert_eq!(installed.find("libc6", None).unwrap().provides, ["libc6-virtual", "other"]);
        assert_eq!(installed.find("gone", None), None);
        assert_eq!(installed.find("bad", None).unwrap().halfway, "half-configured");
    }

    #[test]
    fn rubbish_is_no_package() {
        assert_eq!(parse("").packages.len(), 0);
        assert_eq!(parse("\n\n\n:\nPackage\n\nStatus: install ok installed\n").packages.len(), 0);
    }
}
