//! What PackageKit said is offered, kept as long as that cannot have changed; and what of it satisfies an entry. Pure.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    database::{Entry, Installed, Stamp},
    version::Scheme,
    wire::{Found, Info},
};
use crate::{
    desired::{PackageEnsure, PackageSpec, version_matches},
    model::{Name, Offer},
};

/// A package's own name and the architecture that its entry asks for.
pub(super) fn parts<'a>(key: &'a str, spec: &'a PackageSpec) -> (&'a str, Option<&'a str>) {
    match key.split_once(':') {
        Some((name, arch)) => (name, Some(arch)),
        None => (key, spec.arch.as_deref()),
    }
}

/// What is asked of PackageKit for an entry: its name, and where one version is wanted, that version by its id, for apt
/// tells of no other than the installed one and the one it would install.
pub(super) fn questions(key: &str, spec: &PackageSpec, native: &str) -> Vec<String> {
    let (name, arch) = parts(key, spec);
    let mut out = vec![arch.map_or_else(|| name.to_owned(), |arch| format!("{name}:{arch}"))];
    if let Some(version) = spec.version.as_deref().filter(|version| !version.contains(['*', '?'])) {
        let archs = match arch {
            Some(arch) => vec![arch, "all"],
            None => vec![native, "all"],
        };
        let archs = archs.into_iter().filter(|arch| !arch.is_empty());
        out.extend(archs.map(|arch| format!("{name};{version};{arch};")));
    }
    out
}

/// What was asked, and what the answers were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Catalogue {
    /// Of this state of the lists of repositories.
    pub(super) stamp: Vec<Option<Stamp>>,
    /// What was asked.
    pub(super) asked: BTreeSet<String>,
    /// The answers, by the package's own name.
    pub(super) found: BTreeMap<String, Vec<Found>>,
    /// Names that are only provided, and who provides them.
    pub(super) provided: BTreeMap<String, Vec<String>>,
}

/// The version that would be installed now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) version: String,
    pub(super) repository: String,
    pub(super) summary: String,
    pub(super) arch: String,
    /// It is newer than what is installed.
    pub(super) newer: bool,
}

impl Catalogue {
    /// Takes answers in.
    pub(super) fn take(&mut self, asked: impl IntoIterator<Item = String>, found: Vec<Found>) {
        self.asked.extend(asked);
        for package in found {
            let known = self.found.entry(package.name.clone()).or_default();
            // What is installed the database knows better.
            let known_already = known.iter().any(|other| other.id == package.id);
            if !known_already && matches!(package.info, Info::Available | Info::Installed) {
                known.push(package);
            }
        }
    }

    /// What is offered for an entry: of its architecture if one is said; else of the installed one's, the machine's own or
    /// none in particular.
    fn offered<'a>(
        &'a self,
        key: &'a str,
        spec: &'a PackageSpec,
        installed: &'a Installed,
    ) -> impl Iterator<Item = &'a Found> {
        let (name, arch) = parts(key, spec);
        let of = installed.find(name, arch).map(|entry| entry.arch.as_str());
        let all = self.found.get(name).into_iter().flatten();
        let any = |arch: &str| matches!(arch, "all" | "noarch");
        let suits = move |found: &&Found| match arch {
            Some(arch) => found.arch == arch || any(&found.arch),
            None => {
                installed.native.is_empty()
                    || any(&found.arch)
                    || found.arch == installed.native
                    || of == Some(found.arch.as_str())
            }
        };
        all.filter(suits)
    }

    /// The version that would be installed now, or the installed one where none is newer.
    pub(super) fn candidate(
        &self,
        key: &str,
        spec: &PackageSpec,
        installed: &Installed,
        scheme: Scheme,
    ) -> Option<Candidate> {
        let (name, arch) = parts(key, spec);
        let entry = installed.find(name, arch);
        let offered =
            self.offered(key, spec, installed).filter(|found| found.info == Info::Available || entry.is_none());
        let newest = offered.max_by(|one, other| scheme.compare(&one.version, &other.version));
        let newer = |found: &&Found| {
            entry.is_none_or(|entry| scheme.compare(&found.version, &entry.version) == Ordering::Greater)
        };
        if let Some(found) = newest.filter(newer) {
            return Some(Candidate {
                version: found.version.clone(),
                repository: found.repository.clone(),
                summary: found.summary.clone(),
                arch: found.arch.clone(),
                newer: entry.is_some(),
            });
        }
        // No repository may offer what is installed any more.
        let entry = entry?;
        let same = self.offered(key, spec, installed).find(|found| found.version == entry.version);
        Some(Candidate {
            version: entry.version.clone(),
            repository: same.map(|found| found.repository.clone()).unwrap_or_default(),
            summary: same.map(|found| found.summary.clone()).unwrap_or_default(),
            arch: entry.arch.clone(),
            newer: false,
        })
    }

    /// What would satisfy an entry.
    pub(super) fn offer(&self, key: &str, spec: &PackageSpec, installed: &Installed, scheme: Scheme) -> Offer {
        let (name, arch) = parts(key, spec);
        let Some(question) = questions(key, spec, "").first().cloned() else { return Offer::Unknown };
        if !self.asked.contains(&question) {
            return Offer::Unknown;
        }
        let entry = installed.find(name, arch);
        let compare = |one: &&Found, other: &&Found| scheme.compare(&one.version, &other.version);
        let mut offered: Vec<&Found> = self.offered(key, spec, installed).collect();
        offered.sort_by(compare);
        let Some(newest) = offered.last() else {
            return match (self.provided.get(name), entry) {
                (_, Some(entry)) => Offer::NoVersion(entry.version.clone()),
                (Some(providers), None) => Offer::Virtual(providers.clone()),
                (None, None) => Offer::NoPackage,
            };
        };
        let wanted = match (&spec.version, spec.ensure) {
            (Some(wanted), _) => offered.iter().rev().find(|found| version_matches(wanted, &found.version)),
            _ => Some(newest),
        };
        match wanted {
            Some(found) => Offer::Version {
                version: found.version.clone(),
                id: found.id.clone(),
                downgrade: entry.is_some_and(|entry| scheme.compare(&found.version, &entry.version) == Ordering::Less),
            },
            None => Offer::NoVersion(newest.version.clone()),
        }
    }

    /// Names that were asked for and that neither a repository nor the machine has.
    pub(super) fn missing<'a>(&self, packages: &'a BTreeMap<Name, PackageSpec>, installed: &Installed) -> Vec<&'a str> {
        let names = packages.iter().filter(|(_, spec)| spec.ensure != Some(PackageEnsure::Removed));
        let names = names.map(|(key, spec)| parts(key, spec));
        names
            .filter(|(name, arch)| {
                installed.find(name, *arch).is_none() && self.found.get(*name).is_none_or(Vec::is_empty)
            })
            .map(|(name, _)| name)
            .collect()
    }
}

/// The installed package of an entry.
pub(super) fn installed_of<'a>(key: &str, spec: &PackageSpec, installed: &'a Installed) -> Option<&'a Entry> {
    let (name, arch) = parts(key, spec);
    installed.find(name, arch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(entries: &[(&str, &str, &str)]) -> Installed {
        let mut out = Installed { native: "amd64".to_owned(), ..Installed::default() };
        for (name, version, arch) in entries {
            let entry = Entry { version: (*version).to_owned(), arch: (*arch).to_owned(), ..Entry::default() };
            out.packages.entry((*name).to_owned()).or_default().push(entry);
        }
        out
    }

    fn catalogue(asked: &[&str], found: &[(u32, &str)]) -> Catalogue {
        let mut out = Catalogue::default();
        let found = found.iter().map(|(info, id)| Found::read(*info, id, "it").unwrap()).collect();
        out.take(asked.iter().map(|name| (*name).to_owned()), found);
        out
    }

    fn spec(ensure: PackageEnsure, version: Option<&str>) -> PackageSpec {
        PackageSpec { ensure: Some(ensure), version: version.map(str::to_owned), ..PackageSpec::default() }
    }

    #[test]
    fn one_version_is_asked_for_by_its_id() {
        let plain = spec(PackageEnsure::Installed, None);
        assert_eq!(questions("a", &plain, "amd64"), ["a"]);
        assert_eq!(questions("a:i386", &plain, "amd64"), ["a:i386"]);
        assert_eq!(questions("a", &spec(PackageEnsure::Installed, Some("1.*")), "amd64"), ["a"]);
        let pinned = spec(PackageEnsure::Installed, Some("1.0"));
        assert_eq!(questions("a", &pinned, "amd64"), ["a", "a;1.0;amd64;", "a;1.0;all;"]);
        assert_eq!(questions("a:i386", &pinned, "amd64"), ["a:i386", "a;1.0;i386;", "a;1.0;all;"]);
    }

    #[test]
    fn what_satisfies_an_entry() {
        let all = catalogue(
            &["a", "b", "none", "virt"],
            &[(1, "a;1.0;all;local"), (2, "a;2.0;all;local"), (2, "b;1.0;all;local")],
        );
        let machine = installed(&[("a", "1.0", "all"), ("own", "3", "amd64")]);
        let offer = |key: &str, spec: &PackageSpec| all.offer(key, spec, &machine, Scheme::Deb);
        let version = |offer: Offer| match offer {
            Offer::Version { version, downgrade, .. } => (version, downgrade),
            other => panic!("{other:?}"),
        };
        assert_eq!(version(offer("a", &spec(PackageEnsure::Latest, None))), ("2.0".to_owned(), false));
        assert_eq!(version(offer("a", &spec(PackageEnsure::Installed, Some("1.*")))), ("1.0".to_owned(), false));
        assert_eq!(version(offer("b", &spec(PackageEnsure::Installed, None))), ("1.0".to_owned(), false));
        assert_eq!(offer("a", &spec(PackageEnsure::Installed, Some("3*"))), Offer::NoVersion("2.0".to_owned()));
        assert_eq!(offer("none", &spec(PackageEnsure::Installed, None)), Offer::NoPackage);
        assert_eq!(offer("unasked", &spec(PackageEnsure::Installed, None)), Offer::Unknown);
        let newer = installed(&[("a", "3.0", "all")]);
        let older = all.offer("a", &spec(PackageEnsure::Installed, Some("2.0")), &newer, Scheme::Deb);
        assert_eq!(version(older), ("2.0".to_owned(), true));
        let mut virt = all.clone();
        virt.provided.insert("virt".to_owned(), vec!["b".to_owned()]);
        let of = virt.offer("virt", &spec(PackageEnsure::Installed, None), &machine, Scheme::Deb);
        assert_eq!(of, Offer::Virtual(vec!["b".to_owned()]));
    }

    #[test]
    fn the_candidate_is_the_newest_that_is_known() {
        let all = catalogue(&["a"], &[(1, "a;1.0;all;local"), (2, "a;2.0;all;local")]);
        let entry = spec(PackageEnsure::Installed, None);
        let candidate = |installed: &Installed| all.candidate("a", &entry, installed, Scheme::Deb).unwrap();
        let before = candidate(&installed(&[("a", "1.0", "all")]));
        assert_eq!((before.version.as_str(), before.newer, before.repository.as_str()), ("2.0", true, "local"));
        let after = candidate(&installed(&[("a", "2.0", "all")]));
        assert_eq!((after.version.as_str(), after.newer), ("2.0", false));
        let own = candidate(&installed(&[("a", "9.0", "all")]));
        assert_eq!((own.version.as_str(), own.newer, own.repository.as_str()), ("9.0", false, ""));
        let none = candidate(&installed(&[]));
        assert_eq!((none.version.as_str(), none.newer), ("2.0", false));
        assert_eq!(Catalogue::default().candidate("a", &entry, &installed(&[]), Scheme::Deb), None);
    }

    #[test]
    fn architectures_are_told_apart() {
        let all = catalogue(&["c", "c:i386"], &[(2, "c;1.0;amd64;x"), (2, "c;1.1;i386;x")]);
        let entry = spec(PackageEnsure::Installed, None);
        let none = installed(&[]);
        assert_eq!(all.candidate("c", &entry, &none, Scheme::Deb).unwrap().version, "1.0");
        assert_eq!(all.candidate("c:i386", &entry, &none, Scheme::Deb).unwrap().version, "1.1");
    }
}
