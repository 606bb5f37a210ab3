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
}
