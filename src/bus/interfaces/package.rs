//! `org.opdbus.Package`: a declared package.

use super::interface;
use crate::{bus::value::Prop, model::PackageFacts};

/// What a package's object shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackageView<'a> {
    /// As the document spells it: `NAME` or `NAME:ARCH`.
    pub(super) id: &'a str,
    /// What the package database and PackageKit say.
    pub(super) facts: &'a PackageFacts,
}

impl<'a> PackageView<'a> {
    fn name(self) -> &'a str {
        self.id.split_once(':').map_or(self.id, |(name, _)| name)
    }

    /// Until it is known, the architecture that the document asks for.
    fn arch(self) -> &'a str {
        let asked = self.id.split_once(':').map_or("", |(_, arch)| arch);
        if self.facts.arch.is_empty() { asked } else { &self.facts.arch }
    }
}

interface! {
    "org.opdbus.Package";
    methods {}
    properties<'a>(package: PackageView<'a>) {
        "Name" Const => Prop::Text(package.name()),
        "Arch" True => Prop::Text(package.arch()),
        "InstalledVersion" True => Prop::Text(&package.facts.installed),
        "CandidateVersion" True => Prop::Text(&package.facts.candidate),
        "Repository" True => Prop::Text(&package.facts.repository),
        "Summary" True => Prop::Text(&package.facts.summary),
        "Installed" True => Prop::Bool(package.facts.is_installed()),
        "UpdateAvailable" True => Prop::Bool(package.facts.update_available),
        "RestartRequired" True => Prop::Text(package.facts.restart),
    }
}
