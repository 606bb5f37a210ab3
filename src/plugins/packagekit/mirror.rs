//! What is known, made into facts of each declared package; and what of it is news. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    catalogue::{Catalogue, installed_of, questions},
    database::Installed,
    version::Scheme,
};
use crate::{
    desired::{PackageSettings, PackageSpec},
    model::{Change, Name, Outlook, PackageFacts},
    plan::package_differs,
};

/// All that the plugin knows.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) scheme: Scheme,
    pub(super) installed: Arc<Installed>,
    /// Somebody is at work in the package database.
    pub(super) busy: bool,
    /// PackageKit does not answer for another's sake.
    pub(super) queued: bool,
    /// It was interrupted in the middle of its work.
    pub(super) interrupted: bool,
    pub(super) catalogue: Catalogue,
    /// What the changes that the document asks for would bring with them, as far as they were simulated.
    pub(super) outlooks: BTreeMap<Name, Outlook>,
    /// What must be started again since op-dbus changed it, by the package's own name.
    pub(super) restarts: BTreeMap<String, &'static str>,
    pub(super) packages: BTreeMap<Name, PackageSpec>,
    pub(super) settings: PackageSettings,
    /// Why the lists of repositories could not be fetched, the last time they were to be; empty = they could.
    pub(super) refresh_error: String,
    told: BTreeMap<Name, PackageFacts>,
}

impl Mirror {
    pub(super) fn new(scheme: Scheme) -> Self {
        Self {
            scheme,
            installed: Arc::default(),
            busy: false,
            queued: false,
            interrupted: false,
            catalogue: Catalogue::default(),
            outlooks: BTreeMap::new(),
            restarts: BTreeMap::new(),
            packages: BTreeMap::new(),
            settings: PackageSettings::default(),
            refresh_error: String::new(),
            told: BTreeMap::new(),
        }
    }

    /// Facts of a package for an entry, whosever document that is in.
    pub(super) fn facts(&self, key: &str, spec: &PackageSpec, outlook: Option<&Outlook>) -> PackageFacts {
        let entry = installed_of(key, spec, &self.installed);
        let candidate = self.catalogue.candidate(key, spec, &self.installed, self.scheme).unwrap_or_default();
        let (name, _) = super::catalogue::parts(key, spec);
        let whole = entry.filter(|entry| entry.halfway.is_empty());
        let mut facts = PackageFacts {
            arch: entry.map_or(candidate.arch, |entry| entry.arch.clone()),
            installed: entry.map(|entry| entry.version.clone()).unwrap_or_default(),
            halfway: entry.map(|entry| entry.halfway.clone()).unwrap_or_default(),
            busy: self.busy || self.queued,
            interrupted: self.interrupted,
            update_available: candidate.newer && whole.is_some(),
            candidate: candidate.version,
            repository: candidate.repository,
            summary: match entry {
                Some(entry) if !entry.summary.is_empty() => entry.summary.clone(),
                _ => candidate.summary,
            },
            essential: entry.is_some_and(|entry| entry.essential),
            restart: self.restarts.get(name).copied().unwrap_or_default(),
            offer: self.catalogue.offer(key, spec, &self.installed, self.scheme),
            outlook: None,
            refresh_error: String::new(),
        };
        if package_differs(spec, &facts) {
            facts.outlook = outlook.cloned();
            facts.refresh_error.clone_from(&self.refresh_error);
        } else {
            // Whoever has nothing to wait for need not hear that somebody is at work.
            facts.busy = false;
            facts.interrupted = false;
        }
        facts
    }

    /// Declared packages that are not as their entries say.
    pub(super) fn differing(&self, packages: &BTreeMap<Name, PackageSpec>) -> BTreeMap<Name, PackageFacts> {
        let facts = packages.iter().map(|(key, spec)| (key, spec, self.facts(key, spec, None)));
        facts
            .filter(|(_, spec, facts)| package_differs(spec, facts))
            .map(|(key, _, facts)| (key.clone(), facts))
            .collect()
    }

    /// What must be asked for these packages and was not.
    pub(super) fn unasked(&self, packages: &BTreeMap<Name, PackageSpec>) -> BTreeSet<String> {
        let all = packages.iter().flat_map(|(key, spec)| questions(key, spec, &self.installed.native));
        all.filter(|question| !self.catalogue.asked.contains(question)).collect()
    }

    /// What the model does not know yet.
    pub(super) fn news(&mut self) -> Vec<Change> {
        let facts: BTreeMap<Name, PackageFacts> = self
            .packages
            .iter()
            .map(|(key, spec)| (key.clone(), self.facts(key, spec, self.outlooks.get(key))))
            .collect();
        let gone = self.told.keys().filter(|key| !facts.contains_key(*key)).cloned().map(Change::PackageGone);
        let new = facts.iter().filter(|(key, facts)| self.told.get(*key) != Some(*facts));
        let changes = gone.chain(new.map(|(key, facts)| Change::Package(key.clone(), facts.clone()))).collect();
        self.told = facts;
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        desired::PackageEnsure,
        plugins::packagekit::{database::Entry, wire::Found},
    };

    fn mirror() -> Mirror {
        let mut mirror = Mirror::new(Scheme::Deb);
        let entry = Entry { version: "1.0".to_owned(), arch: "all".to_owned(), ..Entry::default() };
        let mut installed = Installed { native: "amd64".to_owned(), ..Installed::default() };
        installed.packages.insert("a".to_owned(), vec![entry]);
        mirror.installed = Arc::new(installed);
        let latest = PackageSpec { ensure: Some(PackageEnsure::Latest), ..PackageSpec::default() };
        mirror.packages = [("a".into(), latest), ("b".into(), PackageSpec::default())].into();
        mirror
    }

    #[test]
    fn only_news_is_told() {
        let mut mirror = mirror();
        assert_eq!(mirror.news().len(), 2);
        assert_eq!(mirror.news(), []);
        mirror.packages.remove("b");
        assert_eq!(mirror.news(), [Change::PackageGone("b".into())]);
        mirror.installed = Arc::default();
        assert!(
            matches!(&mirror.news()[..], [Change::Package(name, facts)] if &**name == "a" && facts.installed.is_empty())
        );
    }

    #[test]
    fn an_outlook_counts_only_while_something_differs() {
        let mut mirror = mirror();
        let found = Found::read(2, "a;2.0;all;local", "the a").unwrap();
        assert_eq!(mirror.unasked(&mirror.packages), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        mirror.catalogue.take(["a".to_owned(), "b".to_owned()], vec![found]);
        assert_eq!(mirror.unasked(&mirror.packages), BTreeSet::new());
        mirror.outlooks.insert("a".into(), Outlook::default());
        assert_eq!(mirror.differing(&mirror.packages).keys().map(|key| &**key).collect::<Vec<_>>(), ["a"]);
        let facts = |mirror: &Mirror| mirror.facts("a", &mirror.packages["a"], mirror.outlooks.get("a"));
        assert!(facts(&mirror).update_available && facts(&mirror).outlook.is_some());
        let entry = Entry { version: "2.0".to_owned(), arch: "all".to_owned(), ..Entry::default() };
        mirror.installed =
            Arc::new(Installed { packages: [("a".to_owned(), vec![entry])].into(), ..Installed::default() });
        assert!(!facts(&mirror).update_available && facts(&mirror).outlook.is_none());
    }
}
