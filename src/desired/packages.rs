//! What a document says of packages.

use std::fmt;

use super::document::Common;
use crate::model::words::document_words;

document_words! {
    /// What a package shall be.
    PackageEnsure {
        /// There, in the wanted version if one is said.
        Installed = "installed",
        /// Not there; its configuration files may stay.
        Removed = "removed",
        /// There, in the newest version that the repositories offer.
        Latest = "latest",
    }
}

/// `packagekit.packages.NAME`. Without `ensure` the package is only looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageSpec {
    /// What it shall be.
    pub ensure: Option<PackageEnsure>,
    /// The version it shall have: exact, or with `*` and `?` (see [`version_matches`]). Only with `installed`.
    pub version: Option<String>,
    /// An older version than the one that is there may take its place. Only with `version`.
    pub allow_downgrade: bool,
    /// Packages that the document does not name may be removed with it, or for it.
    pub allow_remove_others: bool,
    /// Its architecture, where the machine has several; the key's `:ARCH` says the same.
    pub arch: Option<String>,
    /// What every entry can say.
    pub common: Common,
}

/// When the lists of what repositories offer are fetched anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Refresh {
    /// Somebody else does it.
    #[default]
    Never,
    /// Before every job that has a package to change, or to look for a newer version of.
    BeforeApply,
    /// Before such a job, where they are older than so many minutes.
    OlderThan(u32),
}

/// [`Refresh::read`], as a pattern.
pub(super) const REFRESH_PATTERN: &str = "^(never|before-apply|[1-9][0-9]{0,3}(min|h|d))$";

/// Digits that the number of an age may have: what is older than 27 years is no list of packages.
const AGE_DIGITS: usize = 4;

/// Units of an age, and their minutes.
const AGES: [(&str, u32); 3] = [("min", 1), ("h", 60), ("d", 24 * 60)];

impl Refresh {
    /// Reads `never`, `before-apply` or an age: `30min`, `12h`, `7d`.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        match text {
            "never" => return Some(Self::Never),
            "before-apply" => return Some(Self::BeforeApply),
            _ => {}
        }
        let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, unit) = text.split_at_checked(digits)?;
        let (_, minutes) = AGES.iter().find(|(word, _)| *word == unit)?;
        if number.starts_with('0') || number.len() > AGE_DIGITS {
            return None;
        }
        number.parse::<u32>().ok()?.checked_mul(*minutes).map(Self::OlderThan)
    }
}

impl fmt::Display for Refresh {
    /// As the document spells it: an age in the largest unit that it is a whole number of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::BeforeApply => f.write_str("before-apply"),
            Self::OlderThan(age) => {
                let whole = AGES.iter().rev().find(|(_, minutes)| age % minutes == 0);
                let (unit, minutes) = whole.copied().unwrap_or(("min", 1));
                write!(f, "{}{unit}", age / minutes)
            }
        }
    }
}

/// What holds for all packages of a document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackageSettings {
    /// When lists are fetched anew.
    pub refresh: Refresh,
    /// Packages whose origin cannot be verified may be installed.
    pub allow_untrusted: bool,
}

/// Whether a version is as wanted: the same text, or, where the wish holds `*` (any text) or `?` (any character), of
/// that pattern.
#[must_use]
pub fn version_matches(wanted: &str, version: &str) -> bool {
    // The classic two-pointer match: on a mismatch the last star takes one character more.
    let (wanted, version): (Vec<char>, Vec<char>) = (wanted.chars().collect(), version.chars().collect());
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(letter) = version.get(seen) {
        match wanted.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(pattern) if *pattern == '?' || pattern == letter => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                (at, seen) = (star_at + 1, taken + 1);
            }
        }
    }
    wanted.iter().skip(at).all(|pattern| *pattern == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_match_exactly_or_by_pattern() {
        for (wanted, version, matches) in [
            ("1.2-3", "1.2-3", true),
            ("1.2-3", "1.2-30", false),
            ("1.2", "1.2-3", false),
            ("1.2*", "1.2-3", true),
            ("1.*-3", "1.2.4-3", true),
            ("1.*-3", "1.2.4-33", false),
            ("*", "", true),
            ("?.0", "2.0", true),
            ("?.0", "12.0", false),
            ("*1*2*", "a1b2c", true),
            ("*1*2*", "a2b1c", false),
            ("2:1.0", "1.0", false),
        ] {
            assert_eq!(version_matches(wanted, version), matches, "{wanted} {version}");
        }
    }

    #[test]
    fn ages_are_read_and_spelt() {
        let pattern = regex::Regex::new(REFRESH_PATTERN).unwrap();
        for (text, meant) in [
            ("never", Some(Refresh::Never)),
            ("before-apply", Some(Refresh::BeforeApply)),
            ("30min", Some(Refresh::OlderThan(30))),
            ("12h", Some(Refresh::OlderThan(720))),
            ("7d", Some(Refresh::OlderThan(10_080))),
            ("9999d", Some(Refresh::OlderThan(9999 * 24 * 60))),
            ("10000d", None),
            ("0h", None),
            ("07d", None),
            ("d", None),
            ("5", None),
            ("5w", None),
            ("always", None),
            ("99999999999d", None),
        ] {
            assert_eq!(Refresh::read(text), meant, "{text}");
            assert_eq!(pattern.is_match(text), meant.is_some(), "{text}");
        }
        assert_eq!(Refresh::OlderThan(2880).to_string(), "2d");
        assert_eq!(Refresh::OlderThan(90).to_string(), "90min");
    }

    proptest! {
        #[test]
        fn what_is_spelt_is_read_again(number in 1..=9999_u32, unit in 0..3_usize) {
            let refresh = Refresh::OlderThan(number * AGES[unit].1);
            prop_assert_eq!(Refresh::read(&refresh.to_string()), Some(refresh));
        }

        #[test]
        fn a_version_matches_itself_and_a_star(version in "[0-9a-z.~+:-]{0,12}") {
            prop_assert!(version_matches(&version, &version));
            prop_assert!(version_matches("*", &version));
            let stretched = format!("{version}*");
            prop_assert!(version_matches(&stretched, &version));
        }
    }
}
