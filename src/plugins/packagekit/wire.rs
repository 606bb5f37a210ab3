//! PackageKit's numbers (lib/packagekit-glib2/pk-enum.h), as far as they mean something here.

use crate::model::Reason;

/// `org.freedesktop.PackageKit`.
pub(super) const NAME: &str = "org.freedesktop.PackageKit";
/// Its one lasting object.
pub(super) const PATH: &str = "/org/freedesktop/PackageKit";
/// The interface of a transaction's object.
pub(super) const TRANSACTION: &str = "org.freedesktop.PackageKit.Transaction";

/// No filter.
pub(super) const FILTER_NONE: u64 = 0;

/// Only packages whose origin is verified.
pub(super) const FLAG_ONLY_TRUSTED: u64 = 1 << 1;
/// Do nothing, tell what would be done.
pub(super) const FLAG_SIMULATE: u64 = 1 << 2;
/// An older version may take the place of a newer.
pub(super) const FLAG_ALLOW_DOWNGRADE: u64 = 1 << 6;

/// `refresh-cache`, for `GetTimeSinceAction`.
pub(super) const ROLE_REFRESH_CACHE: u32 = 13;
/// `install-packages`, as a bit of the property `Roles`.
pub(super) const ROLE_INSTALL: u64 = 1 << 11;

/// The transaction waits for the package database.
pub(super) const STATUS_WAITING_FOR_LOCK: u32 = 30;
/// What a transaction is at that has not begun: unknown, wait, waiting-for-auth.
pub(super) const STATUS_NOT_BEGUN: [u32; 3] = [0, 1, 31];

/// The property `Percentage` where nothing is known.
pub(super) const PERCENTAGE_UNKNOWN: u32 = 100;

/// What a `Package` signal says of its package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Info {
    /// It is installed.
    Installed,
    /// It is offered.
    Available,
    /// It is being fetched.
    Downloading,
    /// It is being put in, or would be.
    Installing,
    /// It is being taken out, or would be.
    Removing,
    /// Its origin cannot be verified.
    Untrusted,
    /// Something else.
    Other,
}

impl From<u32> for Info {
    fn from(number: u32) -> Self {
        // The upper half tells how severe an update is.
        match number & 0xffff {
            1 => Self::Installed,
            // Of updates: low, enhancement, normal, bugfix, important, security, critical.
            2..=8 | 26 => Self::Available,
            10 => Self::Downloading,
            // updating, installing, reinstalling, downgrading, and the words of simulations.
            11 | 12 | 19 | 20 | 27 | 30 => Self::Installing,
            // removing, obsoleting, and the words of simulations.
            13 | 15 | 28 | 29 => Self::Removing,
            23 => Self::Untrusted,
            _ => Self::Other,
        }
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Well.
    Success,
    /// Another, or somebody, had it stopped.
    Cancelled,
    /// Otherwise.
    Failed,
}

impl From<u32> for Exit {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::Success,
            // cancelled, killed, cancelled-priority, skip-transaction.
            3 | 6 | 9 | 10 => Self::Cancelled,
            _ => Self::Failed,
        }
    }
}

/// Why a transaction failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// Somebody holds the package database.
    Lock,
    /// It was stopped for another.
    Cancelled,
    /// For this reason; and whether trying again may help.
    Reason(Reason, bool),
}

impl From<u32> for Code {
    fn from(number: u32) -> Self {
        match number {
            // cannot-get-lock, lock-required.
            26 | 67 => Self::Lock,
            // transaction-cancelled, process-kill, cancelled-priority, package-database-changed.
            17 | 21 | 61 | 65 => Self::Cancelled,
            // no-network, download-failed, no-cache, repo-not-available, no-more-mirrors, cannot-fetch-sources.
            2 | 10 | 18 | 37 | 43 | 64 => Self::Reason(Reason::DownloadFailed, true),
            // repo-not-found, repo-configuration-error.
            19 | 33 => Self::Reason(Reason::DownloadFailed, false),
            // gpg-failure, bad and missing signatures, unsigned repositories.
            5 | 30 | 31 | 50 | 51 => Self::Reason(Reason::UntrustedPackage, false),
            8 => Self::Reason(Reason::PackageNotFound, false),
            // dep-resolution-failed, file-conflicts, package-conflicts, incompatible-architecture.
            13 | 35 | 36 | 45 => Self::Reason(Reason::PackageConflict, false),
            20 => Self::Reason(Reason::Protected, false),
            46 => Self::Reason(Reason::NoSpace, true),
            // transaction-error (all that PackageKit has to say where dpkg ended before it had read why), local-install-failed,
            // invalid and corrupt packages, failed to configure, to install, to remove.
            16 | 29 | 38 | 40 | 56 | 58 | 59 => Self::Reason(Reason::PackageScriptFailed, false),
            _ => Self::Reason(Reason::Refused, false),
        }
    }
}

/// What `RequireRestart` asks for; empty = nothing.
pub(super) const fn restart(number: u32) -> &'static str {
    match number {
        2 => "application",
        3 => "session",
        4 => "system",
        5 => "security-session",
        6 => "security-system",
        _ => "",
    }
}

/// A package as PackageKit names it: `name;version;arch;data`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// What is said of it.
    pub(super) info: Info,
    /// The whole id.
    pub(super) id: String,
    /// Its parts.
    pub(super) name: String,
    /// Its version.
    pub(super) version: String,
    /// Its architecture.
    pub(super) arch: String,
    /// Its repository, as far as the last part tells.
    pub(super) repository: String,
    /// One line about it.
    pub(super) summary: String,
}

impl Found {
    /// Reads what a `Package` signal says; `None` where the id is none.
    pub(super) fn read(info: u32, id: &str, summary: &str) -> Option<Self> {
        let mut parts = id.split(';');
        let (name, version, arch) = (parts.next()?, parts.next()?, parts.next()?);
        let data = parts.next().unwrap_or_default();
        // apt puts marks before the repository: `+manual:debian-bookworm-main`.
        let repository = data.rsplit(':').next().unwrap_or(data);
        Some(Self {
            info: info.into(),
            id: id.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
            arch: arch.to_owned(),
            repository: repository.to_owned(),
            summary: summary.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_apart() {
        let found = Found::read(2, "alpha;1:2.0-1;all;+manual:debian-bookworm-main", "the alpha").unwrap();
        let parts = (found.name.as_str(), found.version.as_str(), found.arch.as_str(), found.repository.as_str());
        assert_eq!(parts, ("alpha", "1:2.0-1", "all", "debian-bookworm-main"));
        assert_eq!((found.info, found.summary.as_str()), (Info::Available, "the alpha"));
        assert_eq!(Found::read(1, "a;1;all;", "").unwrap().repository, "");
        assert_eq!(Found::read(0x5_0005, "a;1;all;", "").unwrap().info, Info::Available, "an update with its severity");
        assert_eq!(Found::read(1, "alpha", ""), None);
    }

    #[test]
    fn every_passing_fault_is_tried_again() {
        assert_eq!(Code::from(26), Code::Lock);
        assert_eq!(Code::from(65), Code::Cancelled);
        assert_eq!(Code::from(10), Code::Reason(Reason::DownloadFailed, true));
        assert_eq!(Code::from(46), Code::Reason(Reason::NoSpace, true));
        assert_eq!(Code::from(13), Code::Reason(Reason::PackageConflict, false));
        assert_eq!(Code::from(16), Code::Reason(Reason::PackageScriptFailed, false));
        assert_eq!(Code::from(4000), Code::Reason(Reason::Refused, false));
    }
}
