//! apt's lists of what repositories offer: who provides a name that no package has. PackageKit does not tell.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
};

use super::{Installed, dpkg::provided};

/// Providers that a message names.
const MOST_NAMED: usize = 8;

/// Of these names, those that packages provide: who does, as the installed packages and the lists say. Lists that are
/// compressed or cannot be read tell nothing.
pub(in crate::plugins::packagekit) fn providers(
    names: &[&str],
    installed: &Installed,
    lists: &Path,
) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut note = |name: &str, package: &str| {
        let known = out.entry(name.to_owned()).or_default();
        if known.len() < MOST_NAMED && !known.iter().any(|other| other == package) {
            known.push(package.to_owned());
        }
    };
    for (package, entries) in &installed.packages {
        for name in entries.iter().flat_map(|entry| &entry.provides).filter(|name| names.contains(&name.as_str())) {
            note(name, package);
        }
    }
    let files = fs::read_dir(lists).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in files.filter(|path| path.to_string_lossy().ends_with("_Packages")) {
        let Ok(file) = File::open(&path) else { continue };
        let mut package = String::new();
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            if let Some(name) = line.strip_prefix("Package: ") {
                name.trim().clone_into(&mut package);
            } else if let Some(value) = line.strip_prefix("Provides: ") {
                for name in provided(value).filter(|name| names.contains(name)) {
                    note(name, &package);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_provides_a_name_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let list = "Package: postfix\nProvides: mail-transport-agent, x (= 1)\n\nPackage: exim4\nProvides: mail-transport-agent\n";
        fs::write(folder.path().join("deb_main_Packages"), list).unwrap();
        fs::write(folder.path().join("deb_main_Release"), "Package: no\nProvides: mail-transport-agent\n").unwrap();
        let found = providers(&["mail-transport-agent", "none"], &Installed::default(), folder.path());
        assert_eq!(found, [("mail-transport-agent".to_owned(), vec!["postfix".to_owned(), "exim4".to_owned()])].into());
        assert!(providers(&["x"], &Installed::default(), Path::new("/nonexistent")).is_empty());
    }
}
