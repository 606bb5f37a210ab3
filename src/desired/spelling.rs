//! How texts of a container's entry are spelt: one pattern each, which the decoder and the schema share.

use std::sync::LazyLock;

use regex_lite::Regex;

/// A kind of text.
pub(super) struct Spelling {
    /// What the whole text matches.
    pub(super) pattern: &'static str,
    /// Characters it may have.
    pub(super) max: usize,
    /// What it must be, for people.
    pub(super) is: &'static str,
    regex: LazyLock<Option<Regex>>,
}

impl Spelling {
    /// Whether that text is spelt so.
    pub(super) fn takes(&self, text: &str) -> bool {
        text.chars().count() <= self.max && self.regex.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

impl std::fmt::Debug for Spelling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.pattern)
    }
}

macro_rules! spellings {
    ($($(#[$outer:meta])* $name:ident: $max:literal, $pattern:literal, $is:literal;)+) => {
        $($(#[$outer])* pub(super) static $name: Spelling = Spelling {
            pattern: $pattern,
            max: $max,
            is: $is,
            // The patterns are tested to be right; a wrong one would take nothing.
            regex: LazyLock::new(|| Regex::new($pattern).ok()),
        };)+

        #[cfg(test)]
        const ALL: &[&LazyLock<Option<Regex>>] = &[$(&$name.regex),+];
    };
}

spellings! {
    /// Proxmox VE's `dns-name`.
    HOSTNAME: 255, r"^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$",
        "a host name: letters, digits and - within, parts separated by a point, no _";
    /// DNS domains, separated by spaces.
    DOMAINS: 1024, r"^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?( ([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$",
        "a DNS domain, or several separated by a space";
    /// Addresses, separated by spaces (looked at more closely by the decoder).
    SERVERS: 1024, r"^(((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)( (((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*))*$",
        "an IP address, or several separated by a space";
    /// Proxmox VE's `pve-storage-id`.
    STORAGE: 100, r"^[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]$", "the name of a storage, as local-lvm";
    /// Proxmox VE's `pve-node`.
    NODE: 63, r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$", "the name of a node";
    /// Proxmox VE's `pve-poolid`.
    POOL: 100, r"^([A-Za-z0-9._-]+/){0,2}[A-Za-z0-9._-]+$", "the name of a pool";
    /// Proxmox VE's `pve-tag`, which it keeps in small letters.
    TAG: 100, r"^[a-z0-9_][a-z0-9_+.-]*$", "a tag: small letters, digits and _ + . - within";
    /// A credential, as systemd takes it (systemd.exec(5), LoadCredential).
    CREDENTIAL: 255, r"^[A-Za-z0-9_.-]*[A-Za-z0-9_-][A-Za-z0-9_.-]*$", "the name of a systemd credential";
    /// A device inside a container.
    DEVICE_INSIDE: 15, r"^[A-Za-z0-9_.-]{2,15}$", "the name of a device inside the container, as eth0";
    /// A MAC address of one device (no group's).
    MAC: 17, r"^[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$", "the MAC address of one device, as BC:24:11:00:00:01";
    /// An IPv4 address with its prefix, or how it comes by one.
    IPV4: 18, r"^(dhcp|manual|((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])/([89]|[12][0-9]|3[0-2]))$",
        "an IPv4 address with its prefix of 8 to 32, as 10.0.0.101/24, or dhcp or manual";
    /// An IPv4 address.
    IPV4_GATEWAY: 15, r"^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])$",
        "an IPv4 address, without a prefix";
    /// An IPv6 address with its prefix (looked at more closely by the decoder), or how it comes by one.
    IPV6: 64, r"^(auto|dhcp|manual|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/([89]|[1-9][0-9]|1[01][0-9]|12[0-8]))$",
        "an IPv6 address with its prefix of 8 to 128, as 2001:db8::101/64, or auto, dhcp or manual";
    /// An IPv6 address (looked at more closely by the decoder).
    IPV6_GATEWAY: 64, r"^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$", "an IPv6 address, without a prefix";
    /// A place inside a container, or a folder of the host. No comma: Proxmox VE's lists are separated by it.
    FOLDER: 1024, r"^(/([^\u{0}-\u{1f}\u{7f},/.][^\u{0}-\u{1f}\u{7f},/]*|\.[^\u{0}-\u{1f}\u{7f},/.][^\u{0}-\u{1f}\u{7f},/]*|\.\.[^\u{0}-\u{1f}\u{7f},/]+))+$",
        "a path from the root on, without . or .. as a part, a comma, or a / at its end";
    /// What a container is made from.
    VOLUME: 255, r"^[^\u{0}-\u{20}\u{7f},]+$", "the name of a volume or an image, as local:vztmpl/debian-12.tar.zst";
    /// The name of a template: of a file, or an image.
    TEMPLATE: 255, r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", "a file's name: letters, digits and _ . + - within";
    /// An address that a template is downloaded from.
    URL: 2048, r"^https?://[^\u{0}-\u{20}\u{7f}]+$", "an address that begins with http:// or https://";
    /// A digest of a file.
    CHECKSUM: 136, r"^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$", "sha256: or sha512: and the digest in small hexadecimal digits";
    /// A type of file system.
    FILE_SYSTEM: 32, r"^[a-z0-9_]+$", "a type of file system, as nfs";
    /// A line of text.
    LINE: 8192, r"^[^\u{0}\r\n]+$", "one line of text";
    /// Text.
    TEXT: 8192, r"^[^\u{0}]*$", "a text of at most 8192 characters";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one() {
        for regex in ALL {
            assert!(regex.is_some());
        }
    }

    #[test]
    fn texts_are_told_apart() {
        for (spelling, good, bad) in [
            (&HOSTNAME, &["warp", "a.b-c", "1"][..], &["a_b", "", "-a", "a-", "a..b", "a\n"][..]),
            (
                &IPV4,
                &["10.0.0.101/24", "dhcp", "manual"],
                &["10.0.0.101", "10.0.0.256/24", "01.0.0.1/24", "10.0.0.1/33", "auto"],
            ),
            (&MAC, &["BC:24:11:00:00:01", "bc:24:11:00:00:01"], &["01:00:5e:00:00:01", "BC2411000001"]),
            (
                &FOLDER,
                &["/srv", "/srv/data", "/.a", "/..a", "/...", "/a=b c"],
                &["srv", "/", "/srv/", "/a,b", "/..", "/a/./b", "/a//b", "/../a"],
            ),
            (&DOMAINS, &["example.org test", "a"], &["", "a..b", "a-.b", "a  b", "-a"]),
            (&IPV6, &["auto", "fd00::1/64", "fd00::1/8", "::1/128"], &["fd00::1", "fd00::1/7", "fd00::1/129"]),
            (&STORAGE, &["local", "local-lvm"], &["1st", "a", "a-"]),
            (&CREDENTIAL, &["root.password", "a"], &["", "..", "a/b"]),
        ] {
            for text in good {
                assert!(spelling.takes(text), "{text:?} is {}", spelling.is);
            }
            for text in bad {
                assert!(!spelling.takes(text), "{text:?} is not {}", spelling.is);
            }
        }
    }
}
