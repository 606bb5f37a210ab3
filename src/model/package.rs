//! What is known of a package.

use super::{Name, Reason};

/// A package, as the package database and PackageKit have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageFacts {
    /// Its architecture; empty while nothing tells.
    pub arch: String,
    /// The version that is installed; empty = it is not.
    pub installed: String,
    /// dpkg's word for a package between two states (unpacked, half-configured, ...); empty = it is in neither.
    pub halfway: String,
    /// Somebody is at work in the package database: what is halfway is on its way.
    pub busy: bool,
    /// The package manager was interrupted: it takes no work until somebody has repaired that.
    pub interrupted: bool,
    /// The newest version that is offered, or installed where none is newer; empty = none is known.
    pub candidate: String,
    /// The candidate is newer than what is installed.
    pub update_available: bool,
    /// Where the candidate comes from, as PackageKit names it; empty = unknown.
    pub repository: String,
    /// One line about it.
    pub summary: String,
    /// The distribution says that no system works without it (dpkg's Essential and Protected).
    pub essential: bool,
    /// What must be started again since it was last changed: none, application, session, system; empty = nothing said.
    pub restart: &'static str,
    /// What would satisfy its entry.
    pub offer: Offer,
    /// What the change would bring with it, as simulated; `None` = not asked, for nothing has to change.
    pub outlook: Option<Outlook>,
    /// Why the lists of repositories could not be fetched before that, where they should have been; empty = nothing.
    pub refresh_error: String,
}

impl PackageFacts {
    /// It is installed, whole.
    #[must_use]
    pub const fn is_installed(&self) -> bool {
        !self.installed.is_empty() && self.halfway.is_empty()
    }
}

/// What would satisfy an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Offer {
    /// PackageKit has not been asked.
    #[default]
    Unknown,
    /// There is no such package.
    NoPackage,
    /// The name is only one that other packages provide: these.
    Virtual(Vec<String>),
    /// There is such a package, in no version that is wanted; this is the newest.
    NoVersion(String),
    /// This one.
    Version {
        /// Its version.
        version: String,
        /// PackageKit's id of it.
        id: String,
        /// It is older than what is installed.
        downgrade: bool,
    },
}

/// What a change would bring with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Other packages that would be installed or updated.
    pub installs: Vec<Name>,
    /// Other packages that would be removed.
    pub removes: Vec<Name>,
    /// Those of them that the machine, or op-dbus, cannot do without.
    pub vital: Vec<Name>,
    /// Why it cannot be done at all.
    pub refused: Option<(Reason, String)>,
}
