//! What a runtime with an API says of its containers and of itself: Proxmox VE, or systemd-machined.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Name, Runtime};

/// [`GuestFacts::lock`] of a container that op-dbus did not come to the end of making: what is there of it is of no use.
pub const UNFINISHED: &str = "create";

/// [`GuestFacts::lock`] of a container that is on its way to another node.
pub const MOVING: &str = "migrate";

/// Key in [`GuestNetwork::rest`] of the name of the network's host side, where the runtime keeps one (systemd-machined).
pub const HOST_SIDE: &str = "host-side";

/// A guest, as its runtime lists it. The join makes a container of it, unless it is a virtual machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestFacts {
    /// Who runs it.
    pub runtime: Runtime,
    /// It is no container but a virtual machine: it is shown nowhere, and its id is taken.
    pub is_machine: bool,
    /// The node it is on; empty where there is but one.
    pub node: String,
    /// It is on another node than op-dbus: neither units nor ports of this machine tell of it.
    pub is_remote: bool,
    /// Its name for people.
    pub name: String,
    /// It runs.
    pub running: bool,
    /// It is a template to clone from.
    pub is_template: bool,
    /// What holds it: backup, migrate, create, ...; empty = nothing.
    pub lock: String,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// The pool it is in; empty = none.
    pub pool: String,
    /// Processors it sees; 0 = all, or unknown.
    pub cores: u32,
    /// Memory it may use, bytes; 0 = unknown.
    pub memory_bytes: u64,
    /// Swap it may use, bytes.
    pub swap_bytes: u64,
    /// Its settings are in a file that somebody else wrote, which is never touched (systemd-machined).
    pub has_foreign_settings: bool,
    /// Why nothing can be said of it now (its node is away); empty = what is said holds.
    pub away: String,
    /// Its configuration, of containers that the document names ([`crate::plugins::Interest::containers`]).
    pub settings: Option<Arc<GuestSettings>>,
}

/// A container's configuration, in the document's terms.
///
/// Where a runtime has no such setting, it keeps the default here, and refuses it when it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestSettings {
    /// `hostname`; empty = the runtime's own.
    pub hostname: String,
    /// `cores`; `None` = all.
    pub cores: Option<u32>,
    /// `cpulimit`, thousandths of a processor; 0 = none.
    pub cpulimit_thousandths: u32,
    /// `memory_mib`.
    pub memory_mib: u64,
    /// `swap_mib`.
    pub swap_mib: u64,
    /// `from.unprivileged`.
    pub unprivileged: bool,
    /// Size of the root file system, bytes; 0 = unknown.
    pub root_bytes: u64,
    /// `networks`, by the runtime's number of them.
    pub networks: BTreeMap<u8, GuestNetwork>,
    /// `mounts`, by the runtime's number of them.
    pub mounts: BTreeMap<u16, GuestMount>,
    /// The storages that its volumes are on, with what they take there together as far as that is known, bytes.
    pub storages: BTreeMap<String, u64>,
    /// `features`: word to value, `1` and `0` for those that are on or off; `mount` holds types separated by `;`.
    pub features: BTreeMap<String, String>,
    /// `onboot`.
    pub onboot: bool,
    /// `startup`: order, up, down.
    pub startup: BTreeMap<String, u32>,
    /// `protection`.
    pub protection: bool,
    /// `nameserver`.
    pub nameserver: Option<String>,
    /// `searchdomain`.
    pub searchdomain: Option<String>,
    /// `description`.
    pub description: Option<String>,
    /// Fields, as the document spells them, whose change waits for a restart.
    pub pending: BTreeSet<String>,
    /// Its addresses with their prefixes, as far as they are known while it runs.
    pub addresses: BTreeSet<String>,
}

/// A container's network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestNetwork {
    /// Name of its device inside.
    pub name: String,
    /// The bridge it is on; empty = none.
    pub bridge: String,
    /// VLAN.
    pub tag: Option<u16>,
    /// VLANs it trunks.
    pub trunks: BTreeSet<u16>,
    /// MAC address, in capitals.
    pub hwaddr: String,
    /// IPv4 address with prefix, `dhcp` or `manual`.
    pub ip: Option<String>,
    /// IPv4 gateway.
    pub gw: Option<String>,
    /// IPv6 address with prefix, `auto`, `dhcp` or `manual`.
    pub ip6: Option<String>,
    /// IPv6 gateway.
    pub gw6: Option<String>,
    /// Behind the runtime's firewall.
    pub firewall: bool,
    /// MTU, bytes.
    pub mtu: Option<u32>,
    /// Rate limit, thousandths of a MB/s.
    pub rate_thousandths: Option<u32>,
    /// Unplugged.
    pub link_down: bool,
    /// What else the runtime holds of it, kept as it is.
    pub rest: BTreeMap<String, String>,
}

/// A container's mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestMount {
    /// Where it is inside.
    pub path: String,
    /// The volume, or the folder of the host.
    pub volume: String,
    /// Size of the volume, bytes; 0 = unknown.
    pub bytes: u64,
    /// Cannot be written.
    pub read_only: bool,
    /// Part of backups.
    pub backup: bool,
    /// What else the runtime holds of it, kept as it is.
    pub rest: BTreeMap<String, String>,
}

/// What planning must know of a runtime besides its guests; all of it as far as the interest asked for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Its nodes, by name.
    pub nodes: BTreeMap<String, NodeFacts>,
    /// What op-dbus's token may do: path to privileges, `true` where they hold below it, too. `None` = not known.
    pub rights: Option<BTreeMap<String, BTreeMap<String, bool>>>,
    /// Why guests cannot go to nodes, as the runtime says beforehand: by guest, then by node.
    pub refused_moves: BTreeMap<Name, BTreeMap<String, String>>,
}

impl ClusterFacts {
    /// Whether op-dbus's token has that privilege there. What is not known is allowed: the runtime decides.
    #[must_use]
    pub fn may(&self, path: &str, privilege: &str) -> bool {
        let Some(rights) = &self.rights else { return true };
        let mut at = path;
        loop {
            // What is said of a path is all that counts there; else what its folder hands down.
            if let Some(held) = rights.get(at) {
                return held.get(privilege).is_some_and(|propagates| at == path || *propagates);
            }
            at = match at.rsplit_once('/') {
                Some(("", "")) | None => return false,
                Some(("", _)) => "/",
                Some((folder, _)) => folder,
            };
        }
    }
}

/// A node of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// It answers.
    pub online: bool,
    /// Its bridges; `None` = not asked.
    pub bridges: Option<BTreeSet<String>>,
    /// Its storages that were asked for, by name; `None` = it has no such storage.
    pub storages: BTreeMap<String, Option<StorageFacts>>,
}

/// A storage, as one node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageFacts {
    /// Free space, bytes.
    pub available_bytes: u64,
    /// Kinds of content it takes: `rootdir`, `vztmpl`, ...
    pub content: BTreeSet<String>,
    /// Each node that has it sees the same in it.
    pub is_shared: bool,
    /// Volumes of templates on it.
    pub templates: BTreeSet<Name>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_handed_down() {
        let held = |privileges: &[(&str, bool)]| {
            privileges.iter().map(|(name, propagates)| ((*name).to_owned(), *propagates)).collect()
        };
        let rights = [
            ("/", held(&[("Sys.Audit", true)])),
            ("/vms", held(&[("VM.Audit", true), ("VM.Allocate", false)])),
            ("/vms/102", held(&[])),
        ];
        let rights = rights.into_iter().map(|(path, held)| (path.to_owned(), held)).collect();
        let facts = ClusterFacts { rights: Some(rights), ..ClusterFacts::default() };
        for (path, privilege, may) in [
            ("/vms/101", "VM.Audit", true),
            ("/vms/101", "VM.Allocate", false),
            ("/vms", "VM.Allocate", true),
            ("/vms/102", "VM.Audit", false),
            ("/storage/local", "Sys.Audit", true),
            ("/storage/local", "VM.Audit", false),
            ("/", "Sys.Audit", true),
            ("/", "VM.Audit", false),
        ] {
            assert_eq!(facts.may(path, privilege), may, "{path} {privilege}");
        }
        assert!(ClusterFacts::default().may("/", "VM.Audit"), "what is not known is tried");
    }
}
