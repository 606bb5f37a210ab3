//! How the host side of a container's network may be spelled.

use super::Name;

/// The port names that satisfy a declared `veth`: itself, and for `vethN` the names under which Proxmox plugs the
/// first network of container N: `vethNi0`, or `fwlnNo0` behind its firewall.
#[must_use]
pub fn host_side_names(veth: &str) -> Vec<Name> {
    let mut names = vec![Name::from(veth)];
    if let Some(number) = veth.strip_prefix("veth")
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        names.extend([format!("veth{number}i0").into(), format!("fwln{number}o0").into()]);
    }
    names
}

/// The container and the number of its network whose host side bears that name under Proxmox VE: `veth100i1`,
/// `fwln100o1`, and `veth100` for the first.
#[must_use]
pub fn host_side_of(port: &str) -> Option<(Name, u8)> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (id, index) = match (port.strip_prefix("veth"), port.strip_prefix("fwln")) {
        (Some(rest), _) => rest.split_once('i').unwrap_or((rest, "0")),
        (None, Some(rest)) => rest.split_once('o')?,
        (None, None) => return None,
    };
    let index = index.parse().ok().filter(|_| is_number(index))?;
    is_number(id).then(|| (id.into(), index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_have_other_spellings() {
        assert_eq!(host_side_names("veth100"), ["veth100", "veth100i0", "fwln100o0"].map(Name::from));
        for veth in ["veth", "veth100i1", "ve-web", "vethx"] {
            assert_eq!(host_side_names(veth), [Name::from(veth)]);
        }
    }

    #[test]
    fn host_sides_tell_container_and_network() {
        for (port, of) in [
            ("veth100", Some(("100", 0))),
            ("veth100i1", Some(("100", 1))),
            ("fwln100o2", Some(("100", 2))),
            ("fwln100", None),
            ("veth", None),
            ("veth100i", None),
            ("veth100i999", None),
            ("tap100i0", None),
            ("vethweb", None),
        ] {
            assert_eq!(host_side_of(port), of.map(|(id, index)| (id.into(), index)), "{port}");
        }
    }
}
