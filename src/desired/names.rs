//! Names that systemd, Linux and Open vSwitch take, each beside the pattern that tells it to the schema.

use crate::model::{Kind, ResourceId};

/// Bytes a unit's name may have (`UNIT_NAME_MAX` of systemd's unit-name.h, less its final NUL).
pub(super) const MAX_UNIT: usize = 255;

/// Bytes a network device's name may have (`IFNAMSIZ` of linux/if.h, less its final NUL).
pub(super) const MAX_DEVICE: usize = 15;

/// Bytes the name of a port without a device of its own (patch, tunnel, bond) may have: what its object path bears.
pub(super) const MAX_PORT: usize = 255;

/// Bytes a container's id may have: a host name's label is as long.
pub(super) const MAX_CONTAINER: usize = 64;

/// Bytes a D-Bus member's name may have.
pub(super) const MAX_PROPERTY: usize = 255;

/// Bytes a package's name may have, its architecture included: dpkg and rpm set no bound, a file name's is 255.
pub(super) const MAX_PACKAGE: usize = 200;

/// Bytes a package's version may have.
pub(super) const MAX_VERSION: usize = 200;

/// Bytes an architecture's name may have.
pub(super) const MAX_ARCH: usize = 32;

/// Bytes a name on a bus may have (D-Bus Specification, Valid Names).
pub(super) const MAX_BUS_NAME: usize = 255;

/// Bytes an object path in a document may have: none is as long.
pub(super) const MAX_PATH: usize = 4096;

/// Types of unit, the suffixes of their names (systemd.unit(5)).
const UNIT_TYPES: [&str; 11] =
    ["service", "socket", "target", "device", "mount", "automount", "swap", "timer", "path", "slice", "scope"];

/// [`unit()`], as a pattern.
pub(super) const UNIT_PATTERN: &str = r"^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\@-]+)?\.(service|socket|target|device|mount|automount|swap|timer|path|slice|scope)$";

/// Characters of a bridge's, port's or device's name, as a pattern.
pub(super) const NETWORK_PATTERN: &str = r"^[^\s\u0000-\u001f\u007f-\u009f/:]+$";

/// [`container`], as a pattern.
pub(super) const CONTAINER_PATTERN: &str = "^[A-Za-z0-9_.-]+$";

/// [`package`], as a pattern.
pub(super) const PACKAGE_PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9+._-]*(:[A-Za-z0-9_-]+)?$";

/// [`version`], as a pattern.
pub(super) const VERSION_PATTERN: &str = "^[A-Za-z0-9.+:~^_*?-]+$";

/// [`arch`], as a pattern.
pub(super) const ARCH_PATTERN: &str = "^[A-Za-z0-9_-]+$";

/// [`property`], as a pattern.
pub(super) const PROPERTY_PATTERN: &str = "^[A-Z][A-Za-z0-9]*$";

/// [`object`], as a pattern.
pub(super) const OBJECT_PATTERN: &str = "^[A-Za-z0-9_.:@-]+$";

/// [`member`], as a pattern.
pub(super) const MEMBER_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

/// [`bus_property`], as a pattern: GLib's services have hyphens in the names of theirs.
pub(super) const BUS_PROPERTY_PATTERN: &str = "^[A-Za-z_][A-Za-z0-9_-]*$";

/// [`interface`], as a pattern.
pub(super) const INTERFACE_PATTERN: &str = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+$";

/// [`service`], as a pattern.
pub(super) const SERVICE_PATTERN: &str = r"^[A-Za-z_-][A-Za-z0-9_-]*(\.[A-Za-z_-][A-Za-z0-9_-]*)+$";

/// The names of op-dbus's own services, as a pattern.
pub(super) const OWN_SERVICE_PATTERN: &str = r"^org\.opdbus[0-9]*(\.|$)";

/// [`object_path`], as a pattern.
pub(super) const PATH_PATTERN: &str = "^(/|(/[A-Za-z0-9_]+)+)$";

/// [`place`], as a pattern.
pub(super) const PLACE_PATTERN: &str = r"^(/|(/[A-Za-z0-9_]+)+|\$lookup:[a-z][a-z0-9_]*)$";

/// [`label`], as a pattern.
pub(super) const LABEL_PATTERN: &str = "^[a-z][a-z0-9_]*$";

/// Whether a document can name that resource: not all that backends hold has a name that a document takes.
#[must_use]
pub fn can_say(id: &ResourceId) -> bool {
    let check = match id.kind {
        Kind::Unit => unit,
        Kind::Bridge => device,
        Kind::Port => port,
        Kind::Container => container,
        Kind::Package => package,
        Kind::Object => object,
    };
    check(&id.name).is_ok()
}

/// The name of one unit: plain or an instance, not a template (systemd's `unit_name_is_valid`).
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn unit(name: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    if name.len() > MAX_UNIT {
        return Err("is longer than the 255 bytes that systemd allows");
    }
    let Some((stem, suffix)) = name.rsplit_once('.') else {
        return Err("has no type: a unit's name ends in .service, .socket, .mount, ...");
    };
    if !UNIT_TYPES.contains(&suffix) {
        return Err("has no known type: a unit's name ends in .service, .socket, .mount, ...");
    }
    if stem.is_empty() || stem.starts_with('@') {
        return Err("has nothing before its type or its @");
    }
    if !stem.bytes().all(allowed) {
        return Err(
            "holds a character that systemd does not allow: ASCII letters, digits and : - _ . \\ @ it may hold \
                    (other characters escaped as systemd-escape(1) does)",
        );
    }
    if stem.split_once('@').is_some_and(|(_, instance)| instance.is_empty()) {
        return Err("is a template: name an instance of it, as in name@instance.service");
    }
    Ok(())
}

/// The name of a network device: a bridge's, a container's veth, a bond's interface (Linux' `dev_valid_name`).
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn device(name: &str) -> Result<(), &'static str> {
    if name.len() > MAX_DEVICE {
        return Err("is longer than the 15 bytes that Linux allows for a network device");
    }
    port(name)
}

/// The name of a port, with a device of its own or without.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn port(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("is empty");
    }
    if name.len() > MAX_PORT {
        return Err("is longer than 255 bytes");
    }
    if name == "." || name == ".." {
        return Err("is the name of a folder, not of a network device");
    }
    if name.chars().any(|letter| letter.is_whitespace() || letter.is_control() || letter == '/' || letter == ':') {
        return Err("holds a character that no network device's name may hold: a space, a control character, / or :");
    }
    Ok(())
}

/// The id of a container.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn container(id: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if id.is_empty() || id.len() > MAX_CONTAINER || !id.bytes().all(allowed) {
        return Err("is no container's id: 1 to 64 ASCII letters, digits and _ . - it may have");
    }
    Ok(())
}

/// The name of a package, alone or with its architecture: what dpkg and rpm take.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn package(name: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+._-".contains(&byte);
    let (own, of) = name.split_once(':').map_or((name, None), |(own, of)| (own, Some(of)));
    if name.len() > MAX_PACKAGE {
        return Err("is longer than 200 bytes");
    }
    if !own.starts_with(|first: char| first.is_ascii_alphanumeric()) || !own.bytes().all(allowed) {
        return Err(
            "is no package's name: it begins with an ASCII letter or digit, and such and + . _ - it may have, and :ARCH at its end",
        );
    }
    of.map_or(Ok(()), arch)
}

/// A version of a package, or a pattern of versions with `*` and `?`.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn version(version: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".+:~^_*?-".contains(&byte);
    if version.is_empty() || version.len() > MAX_VERSION || !version.bytes().all(allowed) {
        return Err(
            "is no version: 1 to 200 ASCII letters, digits and . + : ~ ^ _ - it may have, and * and ? as wildcards",
        );
    }
    Ok(())
}

/// The name of an architecture.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn arch(name: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if name.is_empty() || name.len() > MAX_ARCH || !name.bytes().all(allowed) {
        return Err("is no architecture's name: 1 to 32 ASCII letters, digits and _ - it may have, as in amd64");
    }
    Ok(())
}

/// The name of a unit's property on D-Bus.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn property(name: &str) -> Result<(), &'static str> {
    let camel = name.starts_with(|first: char| first.is_ascii_uppercase());
    if !camel || name.len() > MAX_PROPERTY || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err("is no property's name: they are spelt as on D-Bus, as in CPUWeight");
    }
    Ok(())
}

/// The name of an object of another service: the document's own.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn object(name: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:@-".contains(&byte);
    if name.is_empty() || name.len() > MAX_BUS_NAME || !name.bytes().all(allowed) {
        return Err("is no name for an object: 1 to 255 ASCII letters, digits and _ . : @ - it may have");
    }
    Ok(())
}

/// Whether all bytes of a name are of one kind, and the first is no digit.
fn is_word(name: &str, more: &[u8]) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || more.contains(&byte);
    name.bytes().next().is_some_and(letter) && name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
}

/// The name of a method.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn member(name: &str) -> Result<(), &'static str> {
    if name.len() > MAX_BUS_NAME || !is_word(name, b"") {
        return Err("is no method's name: they are spelt as on D-Bus, as in SetTimezone");
    }
    Ok(())
}

/// The name of a property of any service.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn bus_property(name: &str) -> Result<(), &'static str> {
    if name.len() > MAX_BUS_NAME || name.starts_with('-') || !is_word(name, b"-") {
        return Err("is no property's name: they are spelt as on D-Bus, as in Timezone");
    }
    Ok(())
}

/// The name of an interface.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn interface(name: &str) -> Result<(), &'static str> {
    if name.len() > MAX_BUS_NAME || !name.contains('.') || !name.split('.').all(|part| is_word(part, b"")) {
        return Err("is no interface's name: they are spelt as in org.freedesktop.timedate1");
    }
    Ok(())
}

/// The well-known name of a service that is not op-dbus itself.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn service(name: &str) -> Result<(), &'static str> {
    if name.len() > MAX_BUS_NAME || !name.contains('.') || !name.split('.').all(|part| is_word(part, b"-")) {
        return Err("is no service's name: they are spelt as in org.freedesktop.timedate1");
    }
    let own = name.strip_prefix("org.opdbus").map(|rest| rest.trim_start_matches(|digit: char| digit.is_ascii_digit()));
    if own.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
        return Err("is op-dbus's own: its objects follow from the document, and cannot be declared in it");
    }
    Ok(())
}

/// An object path.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn object_path(path: &str) -> Result<(), &'static str> {
    let element =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let good = path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(element));
    if !good || path.len() > MAX_PATH {
        return Err("is no object path: they are spelt as in /org/freedesktop/timedate1");
    }
    Ok(())
}

/// An object path, or a look-up of one.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn place(text: &str) -> Result<(), &'static str> {
    match text.strip_prefix("$lookup:") {
        Some(name) => label(name),
        None => object_path(text).map_err(
            |_| "is no object path, as /org/freedesktop/timedate1 is one, nor a look-up, as $lookup:NAME is one",
        ),
    }
}

/// The name of a look-up.
///
/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn label(name: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !first || name.len() > MAX_BUS_NAME || !name.bytes().all(allowed) {
        return Err("is no look-up's name: small ASCII letters, digits and _ it may have");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&str) -> Result<(), &'static str>;

    /// Holds a check and its pattern to the same verdict.
    fn verdicts(check: Check, pattern: &str, good: &[&str], bad: &[&str]) {
        let pattern = regex::Regex::new(pattern).unwrap();
        for name in good {
            assert_eq!(check(name), Ok(()), "{name:?}");
            assert!(pattern.is_match(name), "{name:?}");
        }
        for name in bad {
            assert!(check(name).is_err(), "{name:?}");
            // Lengths, and the names of folders, stand beside the patterns in the schema.
            assert!(!pattern.is_match(name) || name.len() > MAX_DEVICE || name.starts_with('.'), "{name:?}");
        }
    }

    #[test]
    fn units() {
        let long = "u".repeat(MAX_UNIT - ".service".len()) + ".service";
        let good = [
            "nginx.service",
            "pve-container@100.service",
            "dev-disk-by\\x2dlabel-a.device",
            "a@b@c.timer",
            "-.mount",
            "a:b_c.d.scope",
            "system-getty.slice",
            &long,
        ];
        let too_long = "u".repeat(300 - ".service".len()) + ".service";
        let bad = [
            "",
            "nginx",
            ".service",
            "@.service",
            "@a.service",
            "getty@.service",
            "a/b.service",
            "a\nb.service",
            "nginx.service\n",
            "a b.service",
            "ü.service",
            "nginx.servic",
            "nginx.snapshot",
            "nginx.",
            "a\0.service",
            &too_long,
        ];
        verdicts(unit, UNIT_PATTERN, &good, &bad);
    }

    #[test]
    fn network_names() {
        let good = ["ovsbr0", "a", "veth100i0", "br-int", "eth0.10", "br\u{fc}cke", "abcdefghijklmno", "@#"];
        let bad = ["", ".", "..", "a/b", "a:1", "a b", "a\n", "a\u{a0}b", "a\0", "a\u{85}", "abcdefghijklmnop"];
        verdicts(device, NETWORK_PATTERN, &good, &bad);
        assert_eq!(port("patch-provnet-52e4ab5c-to-br-int"), Ok(()));
        assert!(port(&"p".repeat(MAX_PORT + 1)).is_err());
    }

    #[test]
    fn packages_versions_and_architectures() {
        let good = ["nginx", "libstdc++6", "libc6:i386", "0ad", "linux-image-6.1.0-13-amd64", "NetworkManager_x"];
        verdicts(
            package,
            PACKAGE_PATTERN,
            &good,
            &["", "-a", "a b", "a;b", "a:", ":a", "a:b:c", "\u{fc}", "a/b", "a\n"],
        );
        assert!(package(&"p".repeat(MAX_PACKAGE + 1)).is_err());
        let good = ["1.0", "2:1.2.3-4+deb12u1~bpo1", "1.*", "?.0", "6.1^git_1"];
        verdicts(version, VERSION_PATTERN, &good, &["", "1 0", "1;0", "\u{fc}", "[1]", "1\n"]);
        verdicts(arch, ARCH_PATTERN, &["amd64", "x86_64", "kfreebsd-i386"], &["", "a b", "a:b", "a;b", "a\n"]);
    }

    #[test]
    fn containers_and_properties() {
        let long = "c".repeat(MAX_CONTAINER + 1);
        verdicts(container, CONTAINER_PATTERN, &["100", "web-1.example_a"], &["", "a/b", "a b", "ä", "1\n", &long]);
        let bad = ["", "cpuWeight", "CPU_Weight", "Ä", "A B", "1A", "A\n"];
        verdicts(property, PROPERTY_PATTERN, &["CPUWeight", "IOReadBandwidthMax", "A1"], &bad);
    }

    #[test]
    fn names_on_a_bus() {
        let long = "a".repeat(MAX_BUS_NAME + 1);
        verdicts(object, OBJECT_PATTERN, &["time-zone", "a.b:c@d_1"], &["", "a/b", "a b", "ä", "1\n", &long]);
        verdicts(member, MEMBER_PATTERN, &["SetTimezone", "_a1"], &["", "1a", "a-b", "a.b", &long]);
        verdicts(bus_property, BUS_PROPERTY_PATTERN, &["NTP", "a-b", "a_1"], &["", "1a", "-a", "a b", "ä", &long]);
        verdicts(interface, INTERFACE_PATTERN, &["a.b", "org.a1._b"], &["", "a", "a.", ".a", "a.1", "a-b.c", "a..b"]);
        verdicts(service, SERVICE_PATTERN, &["a.b", "org.a-1.b"], &["", "a", ":1.5", "a.1", "a..b", "a.b\n"]);
        let own = regex::Regex::new(OWN_SERVICE_PATTERN).unwrap();
        for (name, is_own) in [
            ("org.opdbus", true),
            ("org.opdbus2", true),
            ("org.opdbus.Thing", true),
            ("org.opdbusx", false),
            ("org.opdbus-x", false),
            ("com.org.opdbus", false),
        ] {
            assert_eq!((service(name).is_err(), own.is_match(name)), (is_own, is_own), "{name}");
        }
        verdicts(object_path, PATH_PATTERN, &["/", "/a", "/a_1/B"], &["", "a", "/a/", "//", "/a-b", "/a\n"]);
        verdicts(place, PLACE_PATTERN, &["/", "/a", "$lookup:a_1"], &["", "$lookup:", "$lookup:A", "$value", "a"]);
        verdicts(label, LABEL_PATTERN, &["a", "a_1"], &["", "A", "1", "a-b", "_a"]);
    }
}
