//! Patterns of unit names, as `systemctl` takes them: `*` for any text, `?` for one character.

/// Whether the name matches the pattern, whole.
///
/// Only names that systemd accepts come here: 255 bytes at most, so that going back and forth cannot take long.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut from) = (0, 0);
    // Where to go on if what follows the last star does not fit: behind that star, one character further.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(at), name.get(from)) {
            (Some('*'), _) => {
                retry = Some((at + 1, from));
                at += 1;
            }
            (Some(wanted), Some(found)) if *wanted == '?' || wanted == found => {
                at += 1;
                from += 1;
            }
            (None, None) => return true,
            _ => match retry {
                Some((star, begin)) if begin < name.len() => {
                    retry = Some((star, begin + 1));
                    at = star;
                    from = begin + 1;
                }
                _ => return false,
            },
        }
    }
}

/// The template of an instance, `a@.service` of `a@b.service`; `None` of any other name.
pub(super) fn template_of(unit: &str) -> Option<String> {
    let (prefix, rest) = unit.split_once('@')?;
    let (instance, suffix) = rest.rsplit_once('.')?;
    (!instance.is_empty()).then(|| format!("{prefix}@.{suffix}"))
}

/// A template itself, which nobody can start.
pub(super) fn is_template(unit: &str) -> bool {
    unit.split_once('@').is_some_and(|(_, rest)| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_containers_among_units() {
        assert!(matches("pve-container@*.service", "pve-container@100.service"));
        assert!(matches("*", "a.service"));
        assert!(matches("a*b*c", "a-b-b-c"));
        assert!(matches("a?.service", "ab.service"));
        assert!(!matches("pve-container@*.service", "pve-container@100.slice"));
        assert!(!matches("pve-container@*.service", "xpve-container@100.service"));
        assert!(!matches("a?.service", "a.service"));
        assert!(!matches("", "a"));
    }

    #[test]
    fn tells_instances_from_templates() {
        assert_eq!(template_of("pve-container@100.service").as_deref(), Some("pve-container@.service"));
        assert_eq!(template_of("a@b.c.service").as_deref(), Some("a@.service"));
        assert_eq!(template_of("a@.service"), None);
        assert_eq!(template_of("a.service"), None);
        assert!(is_template("a@.service"));
        assert!(!is_template("a@b.service") && !is_template("a.service"));
    }

    proptest! {
        #[test]
        fn a_star_stands_for_any_text(before in "[a-z@]{0,5}", any in ".{0,20}", after in "[a-z.]{0,5}") {
            let name = format!("{before}{any}{after}");
            let pattern = format!("{before}*{after}");
            prop_assert!(matches(&pattern, &name));
        }
    }
}
