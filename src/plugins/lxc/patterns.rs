//! Which port and which unit belongs to which container, by name.

use regex_lite::Regex;

use crate::model::Name;

/// Patterns for ports of containers, as Proxmox VE, its firewall, its VNets and systemd-nspawn name them.
pub const PORTS: [&str; 4] = [r"veth(\d+)(i\d+)?", r"fwln(\d+)o\d+", r"vi(\d+)", "ve-(.+)"];

/// Units that run containers, the likeliest first.
const UNITS: [&str; 3] = ["pve-container@%.service", "lxc@%.service", "systemd-nspawn@%.service"];

/// What stands for the container's id in a unit's template.
const PLACEHOLDER: char = '%';

/// A pattern of the configuration is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// A port pattern is no regular expression.
    #[error("port pattern {pattern:?}: {why}")]
    Regex {
        /// The pattern.
        pattern: String,
        /// Why.
        why: String,
    },
    /// A port pattern does not say which part of the name is the container's id.
    #[error("port pattern {0:?} has no group (...) for the container's id")]
    NoGroup(String),
    /// A unit template has not exactly one `%`, or nothing around it.
    #[error("unit template {0:?} must hold one %, for the container's id, as in lxc@%.service")]
    NoPlaceholder(String),
}

/// How ports and units name their container.
#[derive(Debug, Clone)]
pub struct Patterns {
    ports: Vec<Regex>,
    units: Vec<(String, String)>,
}

impl Default for Patterns {
    fn default() -> Self {
        // The built-in patterns are tested to be right; a wrong one would only find nothing.
        Self::new(PORTS, UNITS).unwrap_or(Self { ports: Vec::new(), units: Vec::new() })
    }
}

impl Patterns {
    /// Patterns for whole port names, whose first group is the container's id, and templates of unit names with `%`
    /// in the id's place; of several, the first that fits counts.
    ///
    /// # Errors
    /// The first pattern that is wrong.
    pub fn new(
        ports: impl IntoIterator<Item = impl AsRef<str>>,
        units: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, BadPattern> {
        let port = |pattern: &str| {
            let regex = Regex::new(&format!("^(?:{pattern})$"))
                .map_err(|error| BadPattern::Regex { pattern: pattern.to_owned(), why: error.to_string() })?;
            if regex.captures_len() < 2 {
                return Err(BadPattern::NoGroup(pattern.to_owned()));
            }
            Ok(regex)
        };
        let unit = |template: &str| match template.split_once(PLACEHOLDER) {
            Some((before, after)) if !before.is_empty() && !after.is_empty() && !after.contains(PLACEHOLDER) => {
                Ok((before.to_owned(), after.to_owned()))
            }
            _ => Err(BadPattern::NoPlaceholder(template.to_owned())),
        };
        Ok(Self {
            ports: ports.into_iter().map(|pattern| port(pattern.as_ref())).collect::<Result<_, _>>()?,
            units: units.into_iter().map(|template| unit(template.as_ref())).collect::<Result<_, _>>()?,
        })
    }

    /// The container that a port of that name serves. Never one for `tapNiN`: that is a virtual machine's.
    #[must_use]
    pub fn container_of_port(&self, port: &str) -> Option<Name> {
        if is_machine_port(port) {
            return None;
        }
        let captures = self.ports.iter().find_map(|regex| regex.captures(port))?;
        captures.get(1).map(|id| id.as_str()).filter(|id| !id.is_empty()).map(Name::from)
    }

    /// The container that a unit of that name runs.
    #[must_use]
    pub fn container_of_unit(&self, unit: &str) -> Option<Name> {
        let id = |(before, after): &(String, String)| unit.strip_prefix(before.as_str())?.strip_suffix(after.as_str());
        self.units.iter().find_map(id).filter(|id| !id.is_empty()).map(Name::from)
    }

    /// The units that may run that container, the likeliest first.
    pub fn units_of(&self, id: &str) -> impl Iterator<Item = String> {
        self.units.iter().map(move |(before, after)| format!("{before}{id}{after}"))
    }
}

/// `tap<vmid>i<n>`: a virtual machine's port, under Proxmox.
fn is_machine_port(port: &str) -> bool {
    let numbers = port.strip_prefix("tap").and_then(|rest| rest.split_once('i'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(machine, network)| is_number(machine) && is_number(network))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_tell_their_container() {
        let patterns = Patterns::default();
        for (port, id) in [
            ("veth100", Some("100")),
            ("veth100i0", Some("100")),
            ("veth100i12", Some("100")),
            ("fwln100o0", Some("100")),
            ("vi100", Some("100")),
            ("ve-web", Some("web")),
            ("tap100i0", None),
            ("veth", None),
            ("veth100x", None),
            ("xveth100", None),
            ("eth0", None),
            ("ve-", None),
        ] {
            assert_eq!(patterns.container_of_port(port).as_deref(), id, "{port}");
        }
        for (unit, id) in [
            ("pve-container@100.service", Some("100")),
            ("lxc@web.service", Some("web")),
            ("systemd-nspawn@web.service", Some("web")),
            ("pve-container@.service", None),
            ("nginx.service", None),
        ] {
            assert_eq!(patterns.container_of_unit(unit).as_deref(), id, "{unit}");
        }
    }

    #[test]
    fn a_machine_is_no_container_even_if_a_pattern_says_so() {
        let patterns = Patterns::new([r"\w+?(\d+)i\d+"], UNITS).unwrap();
        assert_eq!(patterns.container_of_port("tap100i0"), None);
        assert_eq!(patterns.container_of_port("veth100i0").as_deref(), Some("100"));
    }

    #[test]
    fn wrong_patterns_are_refused() {
        assert!(matches!(Patterns::new(["("], UNITS), Err(BadPattern::Regex { .. })));
        assert_eq!(Patterns::new(["veth"], UNITS).unwrap_err(), BadPattern::NoGroup("veth".into()));
        for bad in ["lxc@.service", "%", "a%b%c"] {
            assert_eq!(Patterns::new(PORTS, [bad]).unwrap_err(), BadPattern::NoPlaceholder(bad.into()));
        }
    }
}
