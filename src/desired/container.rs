//! What a document says of a container, whatever runs it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::model::{Name, host_side_names, machine_link};

use super::document::{Common, Ensure, Want};

/// The device inside that systemd-nspawn makes for the short form of a network, as it names its own.
const MACHINE_DEVICE: &str = "host0";

/// An entry of `lxc.containers`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Whether it shall exist. Only what is declared absent is ever destroyed.
    pub ensure: Ensure,
    /// Destroying it also takes it out of backup and replication jobs, and of the firewall (Proxmox VE's `purge`).
    pub purge: bool,
    /// What it is made from where it does not exist.
    pub from: Option<ContainerSource>,
    /// Name of the host side of its network.
    pub veth: Option<Name>,
    /// The bridge that `veth` shall be on. Given only together with `veth`.
    pub bridge: Option<Name>,
    /// Whether it shall run.
    pub running: Option<bool>,
    /// Restart it where a change waits for that; otherwise the change is shown as pending.
    pub restart: bool,
    /// Whether it shall start at boot.
    pub onboot: Option<bool>,
    /// Its host name.
    pub hostname: Option<String>,
    /// Processors it sees, at least 1; unset = all.
    pub cores: Want<u32>,
    /// Processor time it may use, in processors; unset = no limit.
    pub cpulimit: Want<Decimal>,
    /// Memory, MiB.
    pub memory_mib: Option<u64>,
    /// Swap, MiB.
    pub swap_mib: Option<u64>,
    /// Its networks, whole, by name of their device inside.
    pub networks: Option<BTreeMap<String, NetworkSpec>>,
    /// Its mounts besides the root file system, by path inside. What is not named is left alone: it holds data.
    pub mounts: BTreeMap<String, MountSpec>,
    /// What it may do beyond the usual, each by itself.
    pub features: Features,
    /// Order and delays of start and stop at boot and shutdown.
    pub startup: Want<Startup>,
    /// Protected from removal.
    pub protection: Option<bool>,
    /// DNS server, several separated by spaces; unset = the host's.
    pub nameserver: Want<String>,
    /// DNS search domain; unset = the host's.
    pub searchdomain: Want<String>,
    /// Tags, whole.
    pub tags: Option<BTreeSet<String>>,
    /// Text for people.
    pub description: Want<String>,
    /// The pool it belongs to (Proxmox VE).
    pub pool: Option<String>,
    /// The node it is on (Proxmox VE), and is moved to from any other; not said = the configured node.
    pub node: Option<String>,
    /// It shall be a template to clone from (Proxmox VE). There is no way back from it.
    pub template: bool,
    /// May be touched although its unit is on the never-touch list.
    pub allow_protected: bool,
    /// What every entry can say.
    pub common: Common,
}

/// `from` of a container: exactly one of `template` and `clone` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSource {
    /// What it is unpacked from: under Proxmox VE a volume (`local:vztmpl/debian-12.tar.zst`); under systemd-machined
    /// the name of an image, as in `lxc.templates`.
    pub template: Option<String>,
    /// The container it is a copy of.
    pub clone: Option<Name>,
    /// The copy is whole, also where a linked one could be made.
    pub full: Option<bool>,
    /// The storage of its root file system.
    pub storage: Option<String>,
    /// Size of its root file system, GiB. Grown later where it is less; never shrunk.
    pub size_gib: Option<u64>,
    /// Its root is nobody on the host. Cannot be changed later.
    pub unprivileged: Option<bool>,
    /// SSH keys that may log in as root, a line each.
    pub ssh_public_keys: BTreeSet<String>,
    /// systemd credential that holds root's password.
    pub password_credential: Option<String>,
}

/// An element of `networks`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// The bridge it is on.
    pub bridge: Option<Name>,
    /// VLAN, 1..4094.
    pub tag: Want<u16>,
    /// VLANs it trunks, whole.
    pub trunks: Option<BTreeSet<u16>>,
    /// MAC address, in capitals.
    pub hwaddr: Option<String>,
    /// IPv4 address with prefix, `dhcp` or `manual`.
    pub ip: Want<String>,
    /// IPv4 gateway.
    pub gw: Want<String>,
    /// IPv6 address with prefix, `auto`, `dhcp` or `manual`.
    pub ip6: Want<String>,
    /// IPv6 gateway.
    pub gw6: Want<String>,
    /// Behind the runtime's firewall.
    pub firewall: Option<bool>,
    /// MTU, bytes.
    pub mtu: Want<u32>,
    /// Rate limit, MB/s.
    pub rate: Want<Decimal>,
    /// Unplugged.
    pub link_down: Option<bool>,
}

/// An element of `mounts`: a volume of a storage, or a folder of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountSpec {
    /// The storage that a new volume is made on.
    pub storage: Option<String>,
    /// Size of the volume, GiB. Grown later where it is less; never shrunk.
    pub size_gib: Option<u64>,
    /// The folder of the host that is mounted instead of a volume.
    pub source: Option<String>,
    /// Cannot be written.
    pub read_only: Option<bool>,
    /// Part of backups.
    pub backup: Option<bool>,
}

/// `features` of a container; what is not said is left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    /// Containers within.
    pub nesting: Option<bool>,
    /// The keyctl() system call.
    pub keyctl: Option<bool>,
    /// FUSE file systems.
    pub fuse: Option<bool>,
    /// The mknod() system call for some devices.
    pub mknod: Option<bool>,
    /// Types of file system it may mount, whole.
    pub mount: Option<BTreeSet<String>>,
}

/// `startup` of a container; at least one is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Startup {
    /// Its place in the order of starts.
    pub order: Option<u32>,
    /// Wait after its start, seconds.
    pub up: Option<u32>,
    /// Wait for its stop, seconds.
    pub down: Option<u32>,
}

/// An element of `lxc.templates`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateSpec {
    /// The storage that holds it (Proxmox VE).
    pub storage: Option<String>,
    /// Where it comes from.
    pub source: TemplateSource,
    /// `sha256:HEX` or `sha512:HEX` of what is downloaded.
    pub checksum: Option<String>,
}

/// Where a template comes from; one of them is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateSource {
    /// Downloaded from there, by the runtime.
    Url(String),
    /// The appliance of that name in Proxmox VE's index.
    Appliance(String),
    /// An archive on this machine.
    File(String),
}

impl Default for TemplateSource {
    fn default() -> Self {
        Self::Url(String::new())
    }
}

/// What kind of image a file is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// A tar archive of a root file system.
    Tar,
    /// A disk image.
    Raw,
}

impl ImageKind {
    /// Of a path or an address; `None` where the name tells nothing.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        // What systemd-importd unpacks, up to systemd 256 at least.
        let packed = [".gz", ".xz", ".bz2"];
        let plain = packed.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name);
        let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| plain.ends_with(suffix));
        if ends(&[".tar", ".tgz", ".txz", ".tbz2"]) {
            Some(Self::Tar)
        } else if ends(&[".raw", ".img", ".qcow2"]) {
            Some(Self::Raw)
        } else {
            None
        }
    }
}

/// A number with up to three digits after the point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal {
    /// The number times a thousand.
    pub thousandths: u32,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.thousandths / 1000, self.thousandths % 1000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        f.write_str(format!("{whole}.{rest:03}").trim_end_matches('0'))
    }
}

impl ContainerSpec {
    /// Names of ports that satisfy `veth` of the container with that id; the other spellings of
    /// [`host_side_names`] count only where `veth` is made of the container's own number.
    #[must_use]
    pub fn port_names(&self, id: &str) -> Vec<Name> {
        let Some(veth) = &self.veth else { return Vec::new() };
        if veth.strip_prefix("veth") == Some(id) { host_side_names(veth) } else { vec![veth.clone()] }
    }

    /// What systemd-nspawn shall make of its networks: name of the device inside to that of its host side. `None` = the
    /// document leaves that alone.
    #[must_use]
    pub fn machine_links(&self, id: &str) -> Option<BTreeMap<String, Name>> {
        if let Some(networks) = &self.networks {
            let named = |(number, inside): (usize, &String)| (inside.clone(), machine_link(id, number).into());
            return Some(networks.keys().enumerate().map(named).collect());
        }
        let veth = self.veth.clone().filter(|_| self.is_configured())?;
        Some([(MACHINE_DEVICE.to_owned(), veth)].into())
    }

    /// It names a bridge that it shall be on.
    #[must_use]
    pub fn is_on_bridge(&self) -> bool {
        self.bridge.is_some() || self.networks.iter().flatten().any(|(_, network)| network.bridge.is_some())
    }

    /// It says more than which port and bridge it has and whether it runs: what only a runtime with an API can bring
    /// about.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        let plain = Self {
            veth: self.veth.clone(),
            bridge: self.bridge.clone(),
            running: self.running,
            restart: self.restart,
            allow_protected: self.allow_protected,
            common: self.common.clone(),
            ..Self::default()
        };
        *self != plain
    }
}
