//! Named formats of Proxmox VE's API schema, as its documentation defines them, as far as op-dbus's requests have them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What is wrong with a value of a format; `None` = nothing.
pub(crate) fn fault(format: &str, value: &str) -> Option<&'static str> {
    if let Some(element) = format.strip_suffix("-list") {
        // Separators are white space, commas and semicolons.
        let elements = value.split(|char: char| char.is_whitespace() || char == ',' || char == ';');
        return elements.filter(|text| !text.is_empty()).find_map(|text| fault(element, text));
    }
    let right = match format {
        "pve-vmid" => (3..=9).contains(&value.len()) && digits(value) && !value.starts_with('0'),
        "pve-node" => inner(value, |byte| byte.is_ascii_alphanumeric(), |byte| byte == b'-'),
        "pve-storage-id" => {
            value.len() >= 2
                && value.starts_with(|char: char| char.is_ascii_alphabetic())
                && inner(value, |byte| byte.is_ascii_alphanumeric(), |byte| b"-_.".contains(&byte))
        }
        // One for all, `1` for each to itself, or from which to which.
        "storage-pair" => {
            let storages = value.splitn(2, ':');
            value == "1" || storages.into_iter().all(|storage| fault("pve-storage-id", storage).is_none())
        }
        "pve-configid" => {
            value.len() >= 2
                && value.starts_with(|char: char| char.is_ascii_alphabetic())
                && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        }
        "pve-poolid" => {
            let parts: Vec<&str> = value.split('/').collect();
            parts.len() <= 3 && parts.iter().all(|part| all(part, b".-_"))
        }
        "pve-tag" => value.starts_with(|char: char| char.is_ascii_alphanumeric() || char == '_') && all(value, b"_-+."),
        "pve-volume-id" => value.split_once(':').is_some_and(|(storage, rest)| {
            fault("pve-storage-id", storage).is_none() && !rest.is_empty() && !rest.contains('\n')
        }),
        "pve-startup-order" => {
            let mut parts = value.split(',').peekable();
            parts.peek().is_some()
                && parts.all(|part| {
                    let keys = ["order=", "up=", "down="];
                    digits(keys.iter().find_map(|key| part.strip_prefix(key)).unwrap_or(part))
                })
        }
        "pve-lxc-mp-string" => {
            !value.is_empty()
                && !value.starts_with("../")
                && !value.split('/').skip(1).any(|part| part == "." || part == "..")
        }
        "pve-ipv4-config" => value == "dhcp" || value == "manual" || is_cidr::<Ipv4Addr>(value, 32),
        "pve-ipv6-config" => ["auto", "dhcp", "manual"].contains(&value) || is_cidr::<Ipv6Addr>(value, 128),
        "ipv4" => value.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => value.parse::<Ipv6Addr>().is_ok(),
        "mac-addr" => {
            let bytes: Vec<&str> = value.split(':').collect();
            let hex = |text: &&str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            // Not one of a group: the lowest bit of the first byte.
            let first = bytes.first().and_then(|byte| u8::from_str_radix(byte, 16).ok());
            bytes.len() == 6 && bytes.iter().all(hex) && first.is_some_and(|first| first & 1 == 0)
        }
        "lxc-ip-with-ll-iface" => match value.split_once('%') {
            Some((address, device)) => {
                address.to_ascii_lowercase().starts_with("fe80:")
                    && address.parse::<Ipv6Addr>().is_ok()
                    && !device.is_empty()
            }
            None => value.parse::<Ipv4Addr>().is_ok() || value.parse::<Ipv6Addr>().is_ok(),
        },
        "dns-name" => {
            value.split('.').all(|label| inner(label, |byte| byte.is_ascii_alphanumeric(), |byte| byte == b'-'))
        }
        "disk-size" => {
            let number = value.strip_suffix(['K', 'M', 'G', 'T']).unwrap_or(value);
            let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
            digits(whole) && digits(fraction)
        }
        "pve-storage-content" => {
            ["images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none"].contains(&value)
        }
        "pve-task-status-type" => ["ok", "error", "warning", "unknown"].contains(&value),
        _ => return Some("is of a format that is not checked"),
    };
    (!right).then_some("is not of its format")
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Letters, digits and those, and at least one.
fn all(text: &str, others: &[u8]) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
}

/// At least one byte; `ends` at both ends, and between them `between` as well.
fn inner(text: &str, ends: impl Fn(u8) -> bool, between: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let at_ends = bytes.first().is_some_and(|byte| ends(*byte)) && bytes.last().is_some_and(|byte| ends(*byte));
    at_ends && bytes.iter().all(|byte| ends(*byte) || between(*byte))
}

/// An address with a prefix of 8 or more.
fn is_cidr<A: std::str::FromStr>(text: &str, longest: u32) -> bool {
    text.split_once('/').is_some_and(|(address, prefix)| {
        address.parse::<A>().is_ok()
            && digits(prefix)
            && prefix.parse::<u32>().is_ok_and(|prefix| (8..=longest).contains(&prefix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_apart() {
        for (format, right, wrong) in [
            ("pve-vmid", &["100", "999999999"][..], &["99", "0100", "1000000000", "1a0", ""][..]),
            ("pve-node", &["pve1", "a-b"], &["-a", "a_b", ""]),
            ("pve-storage-id", &["local-lvm", "s.1"], &["l", "1a", "a-", "a b"]),
            ("pve-configid-list", &["net0,mp1", "cores"], &["0net", "a b,c d!"]),
            ("pve-poolid", &["a/b/c"], &["a/b/c/d", "a//b", "a b"]),
            ("pve-tag-list", &["a;b", "_x,y.z"], &["-a", "a b!"]),
            ("pve-volume-id", &["local:vztmpl/a"], &["local", "local:", ":a"]),
            ("pve-startup-order", &["order=1,up=30", "5", "down=0"], &["order=", "after=1", "up=-1", ""]),
            ("pve-lxc-mp-string", &["/srv/a.b", "local:8"], &["/a/../b", "../a", "/a/.", ""]),
            ("pve-ipv4-config", &["dhcp", "manual", "10.0.0.1/8"], &["10.0.0.1", "10.0.0.1/7", "10.0.0.1/33", "auto"]),
            ("pve-ipv6-config", &["auto", "fd00::1/64"], &["fd00::1", "fd00::1/129", "10.0.0.1/24"]),
            ("ipv4", &["10.0.0.1"], &["10.0.0.256", "10.0.0.01"]),
            ("ipv6", &["fe80::1"], &["10.0.0.1"]),
            ("mac-addr", &["BC:24:11:00:00:01"], &["BD:24:11:00:00:01", "BC:24:11:00:00", "BC-24-11-00-00-01"]),
            ("lxc-ip-with-ll-iface-list", &["10.0.0.1 fe80::1%eth0"], &["dns", "10.0.0.1%eth0"]),
            ("dns-name", &["a.b-c", "A1"], &["a_b", "-a", "a..b", ""]),
            ("disk-size", &["8G", "1.5T", "512"], &["G", "8GB", "1."]),
            ("nobody-knows", &[], &["x"]),
        ] {
            for value in right {
                assert_eq!(fault(format, value), None, "{format} {value}");
            }
            for value in wrong {
                assert!(fault(format, value).is_some(), "{format} {value}");
            }
        }
    }
}
