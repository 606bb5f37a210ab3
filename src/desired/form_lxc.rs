//! The section `lxc` as it is written.

use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{
    container::{ContainerSource, ContainerSpec, Decimal, Features, MountSpec, NetworkSpec, Startup, TemplateSource},
    decode::{CONTAINER_MTU, CORES, MAX_DECIMAL, MAX_NETWORKS, MEMORY_MIB, SIZE_GIB, STARTUP, VLAN},
    document::{Ensure, Want},
    form::{CommonForm, Field, container_id, device, field, is_default},
    spelling::{self, Spelling},
};

/// Containers, whatever runs them.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Lxc")]
pub(super) struct LxcForm<'d> {
    /// The containers; each id once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) containers: Vec<ContainerForm<'d>>,
    /// Templates that containers are made from; each name once. They are fetched before the containers, and never
    /// removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) templates: Vec<TemplateForm<'d>>,
}

/// A container.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Container", extend("dependentRequired" = {"bridge": ["veth"]}))]
pub(super) struct ContainerForm<'d> {
    /// Its id, as its runtime names it: `100` of `pve-container@100.service`.
    #[schemars(schema_with = "container_id")]
    pub(super) id: &'d str,
    /// Whether it shall exist; `present` where it is not said. Only what is declared `absent` is ever destroyed, with
    /// its volumes.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) ensure: Ensure,
    /// Destroying it also takes it out of backup and replication jobs. Only with `ensure`: `absent`.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) purge: bool,
    /// What it is made from where it does not exist. Without it, a container that is not there is only missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SourceForm<'d>")]
    pub(super) from: Option<SourceForm<'d>>,
    /// Name of the host's side of its network, and so of its port; under Proxmox VE `vethN` is the first network of
    /// container N.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "device")]
    pub(super) veth: Option<&'d str>,
    /// The bridge that `veth` shall be on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "device")]
    pub(super) bridge: Option<&'d str>,
    /// Whether it shall run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub(super) running: Option<bool>,
    /// Restart it where a change waits for that, as a move to another node does. Without it, such a change is written and
    /// shown as pending, with the reason RestartNeeded.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) restart: bool,
    /// Whether it shall start at boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub(super) onboot: Option<bool>,
    /// Its host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "hostname")]
    pub(super) hostname: Option<&'d str>,
    /// Processors it sees; `null` = all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "cores")]
    pub(super) cores: Field<u32>,
    /// Processor time it may use, in processors; `null` = no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "decimal")]
    pub(super) cpulimit: Field<DecimalForm>,
    /// Memory, MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "memory")]
    pub(super) memory_mib: Option<u64>,
    /// Swap, MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "swap")]
    pub(super) swap_mib: Option<u64>,
    /// Its networks, the whole list, each known by its `name`: one that is not here is taken away. What an element does
    /// not say is left as it is. Not with `veth` and `bridge`, which are the short form of a first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "networks")]
    pub(super) networks: Option<Vec<NetworkForm<'d>>>,
    /// Volumes and folders mounted in it, each known by its `path`. One that is not here is left alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "mounts")]
    pub(super) mounts: Vec<MountForm<'d>>,
    /// What it may do beyond the usual; what is not said is left alone.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) features: FeaturesForm<'d>,
    /// Order and delays at boot and shutdown; `null` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<StartupForm>")]
    pub(super) startup: Field<StartupForm>,
    /// Protected from removal by anybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub(super) protection: Option<bool>,
    /// Its DNS servers, separated by spaces; `null` = the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "nameserver")]
    pub(super) nameserver: Field<&'d str>,
    /// Its DNS search domains, separated by spaces; `null` = the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "searchdomain")]
    pub(super) searchdomain: Field<&'d str>,
    /// Its tags, the whole set; `null` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "tags")]
    pub(super) tags: Option<&'d BTreeSet<String>>,
    /// Text for people; `null` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "description")]
    pub(super) description: Field<&'d str>,
    /// The pool it belongs to (Proxmox VE), whichever it was in before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pool")]
    pub(super) pool: Option<&'d str>,
    /// The node it is on (Proxmox VE); the configured one where it is not said. It is moved there from any other: one that
    /// runs only with `restart`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "node")]
    pub(super) node: Option<&'d str>,
    /// It shall be a template that others are cloned from (Proxmox VE). There is no way back from it.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) template: bool,
    /// The container may be touched although its unit is one of those that op-dbus never touches by itself.
    #[serde(skip_serializing_if = "is_default")]
    pub(super) allow_protected: bool,
    #[serde(flatten)]
    pub(super) common: CommonForm,
}

/// What a container is made from: `template` or `clone`.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(
    deny_unknown_fields,
    rename = "ContainerSource",
    extend("oneOf" = [{"required": ["template"]}, {"required": ["clone"]}])
)]
pub(super) struct SourceForm<'d> {
    /// What it is unpacked from: under Proxmox VE a volume, as `local:vztmpl/debian-12.tar.zst`; under
    /// systemd-machined the name of an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "volume")]
    template: Option<&'d str>,
    /// The id of the container it is a copy of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "container_id")]
    clone: Option<&'d str>,
    /// The copy is whole. Without it, a template's is linked where its storage can, and any other's is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    full: Option<bool>,
    /// The storage of its root file system; the runtime's default where it is not said (Proxmox VE's is `local`). Moved to
    /// a node that lacks the storage of its volumes, it has them there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "storage")]
    storage: Option<&'d str>,
    /// Size of its root file system, GiB. Grown later where it is less; never shrunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "size")]
    size_gib: Option<u64>,
    /// Its root is nobody on the host: `true` where it is not said. Cannot be changed later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    unprivileged: Option<bool>,
    /// SSH keys that may log in as its root, a line each.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(schema_with = "lines")]
    ssh_public_keys: BTreeSet<&'d str>,
    /// The systemd credential of op-dbus that holds its root's password: a secret never stands in a document.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "credential")]
    password_credential: Option<&'d str>,
}

/// A container's network.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Network")]
pub(super) struct NetworkForm<'d> {
    /// Name of its device inside, as `eth0`.
    #[schemars(schema_with = "device_inside")]
    name: &'d str,
    /// The bridge it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "device")]
    bridge: Option<&'d str>,
    /// Its VLAN; `null` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "vlan")]
    tag: Field<u16>,
    /// VLANs it trunks, the whole set; `null` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "vlans")]
    trunks: Option<&'d BTreeSet<u16>>,
    /// Its MAC address; the runtime makes one where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "mac")]
    hwaddr: Option<&'d str>,
    /// Its IPv4 address with prefix, `dhcp` or `manual`; `null` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "ipv4")]
    ip: Field<&'d str>,
    /// Its IPv4 gateway; `null` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "ipv4_gateway")]
    gw: Field<&'d str>,
    /// Its IPv6 address with prefix, `auto`, `dhcp` or `manual`; `null` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "ipv6")]
    ip6: Field<&'d str>,
    /// Its IPv6 gateway; `null` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "ipv6_gateway")]
    gw6: Field<&'d str>,
    /// Behind the runtime's firewall.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    firewall: Option<bool>,
    /// MTU, bytes; `null` = the bridge's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "mtu")]
    mtu: Field<u32>,
    /// Rate limit, MB/s; `null` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "decimal")]
    rate: Field<DecimalForm>,
    /// Unplugged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    link_down: Option<bool>,
}

/// A volume or a folder mounted in a container.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Mount")]
pub(super) struct MountForm<'d> {
    /// Where it is inside.
    #[schemars(schema_with = "folder")]
    path: &'d str,
    /// The storage that a new volume of `size_gib` is made on, where nothing is mounted there yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "storage")]
    storage: Option<&'d str>,
    /// Size of the volume, GiB. Grown later where it is less; never shrunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "size")]
    size_gib: Option<u64>,
    /// The folder of the host that is mounted, instead of a volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "folder")]
    source: Option<&'d str>,
    /// Cannot be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    read_only: Option<bool>,
    /// Part of backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    backup: Option<bool>,
}

/// What a container may do beyond the usual.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Features")]
pub(super) struct FeaturesForm<'d> {
    /// Run containers of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    nesting: Option<bool>,
    /// Use the keyctl() system call.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    keyctl: Option<bool>,
    /// Use FUSE file systems.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    fuse: Option<bool>,
    /// Make some device nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    mknod: Option<bool>,
    /// Types of file system it may mount, the whole set; `null` = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "file_systems")]
    mount: Option<&'d BTreeSet<String>>,
}

/// Order and delays of a container at boot and shutdown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Startup", extend("minProperties" = 1))]
pub(super) struct StartupForm {
    /// Its place in the order of starts; stops go the other way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "startup_number")]
    order: Option<u32>,
    /// Wait after its start before the next, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "startup_number")]
    up: Option<u32>,
    /// Wait for its stop, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "startup_number")]
    down: Option<u32>,
}

/// A template that containers are made from: `url`, `appliance` or `file`.
#[derive(Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(
    deny_unknown_fields,
    rename = "Template",
    extend("oneOf" = [{"required": ["url"]}, {"required": ["appliance"]}, {"required": ["file"]}])
)]
pub(super) struct TemplateForm<'d> {
    /// Its name: a file's under Proxmox VE, as `debian-12.tar.zst`; an image's under systemd-machined.
    #[schemars(schema_with = "template_name")]
    pub(super) name: &'d str,
    /// The storage that holds it (Proxmox VE); `local` where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "storage")]
    pub(super) storage: Option<&'d str>,
    /// Downloaded from there, by the runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "url")]
    pub(super) url: Option<&'d str>,
    /// The appliance of that name in Proxmox VE's index.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "template_name")]
    pub(super) appliance: Option<&'d str>,
    /// An archive on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "folder")]
    pub(super) file: Option<&'d str>,
    /// Digest that the file must have: `sha256:` or `sha512:` and hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "checksum")]
    pub(super) checksum: Option<&'d str>,
}

/// A [`Decimal`] as it is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct DecimalForm(Decimal);

impl Serialize for DecimalForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let thousandths = self.0.thousandths;
        if thousandths.is_multiple_of(1000) {
            return serializer.serialize_u32(thousandths / 1000);
        }
        serializer.serialize_f64(f64::from(thousandths) / 1000.0)
    }
}

/// A [`Want`] of a text as it is written.
fn words(want: &Want<String>) -> Field<&str> {
    match want {
        Want::Unmanaged => None,
        Want::Unset => Some(None),
        Want::Is(value) => Some(Some(value)),
    }
}

fn number(want: &Want<Decimal>) -> Field<DecimalForm> {
    field(want).map(|value| value.map(DecimalForm))
}

/// A container's entry, from its typed form.
pub(super) fn container<'d>(id: &'d str, spec: &'d ContainerSpec, common: CommonForm) -> ContainerForm<'d> {
    let networks = |networks: &'d std::collections::BTreeMap<String, NetworkSpec>| {
        networks.iter().map(|(name, spec)| network(name, spec)).collect()
    };
    ContainerForm {
        id,
        ensure: spec.ensure,
        purge: spec.purge,
        from: spec.from.as_ref().map(source),
        veth: spec.veth.as_deref(),
        bridge: spec.bridge.as_deref(),
        running: spec.running,
        restart: spec.restart,
        onboot: spec.onboot,
        hostname: spec.hostname.as_deref(),
        cores: field(&spec.cores),
        cpulimit: number(&spec.cpulimit),
        memory_mib: spec.memory_mib,
        swap_mib: spec.swap_mib,
        networks: spec.networks.as_ref().map(networks),
        mounts: spec.mounts.iter().map(|(path, spec)| mount(path, spec)).collect(),
        features: features(&spec.features),
        startup: field(&spec.startup).map(|startup| startup.map(self::startup)),
        protection: spec.protection,
        nameserver: words(&spec.nameserver),
        searchdomain: words(&spec.searchdomain),
        tags: spec.tags.as_ref(),
        description: words(&spec.description),
        pool: spec.pool.as_deref(),
        node: spec.node.as_deref(),
        template: spec.template,
        allow_protected: spec.allow_protected,
        common,
    }
}

fn source(from: &ContainerSource) -> SourceForm<'_> {
    SourceForm {
        template: from.template.as_deref(),
        clone: from.clone.as_deref(),
        full: from.full,
        storage: from.storage.as_deref(),
        size_gib: from.size_gib,
        unprivileged: from.unprivileged,
        ssh_public_keys: from.ssh_public_keys.iter().map(String::as_str).collect(),
        password_credential: from.password_credential.as_deref(),
    }
}

fn network<'d>(name: &'d str, spec: &'d NetworkSpec) -> NetworkForm<'d> {
    NetworkForm {
        name,
        bridge: spec.bridge.as_deref(),
        tag: field(&spec.tag),
        trunks: spec.trunks.as_ref(),
        hwaddr: spec.hwaddr.as_deref(),
        ip: words(&spec.ip),
        gw: words(&spec.gw),
        ip6: words(&spec.ip6),
        gw6: words(&spec.gw6),
        firewall: spec.firewall,
        mtu: field(&spec.mtu),
        rate: number(&spec.rate),
        link_down: spec.link_down,
    }
}

fn mount<'d>(path: &'d str, spec: &'d MountSpec) -> MountForm<'d> {
    MountForm {
        path,
        storage: spec.storage.as_deref(),
        size_gib: spec.size_gib,
        source: spec.source.as_deref(),
        read_only: spec.read_only,
        backup: spec.backup,
    }
}

fn features(features: &Features) -> FeaturesForm<'_> {
    FeaturesForm {
        nesting: features.nesting,
        keyctl: features.keyctl,
        fuse: features.fuse,
        mknod: features.mknod,
        mount: features.mount.as_ref(),
    }
}

const fn startup(startup: Startup) -> StartupForm {
    StartupForm { order: startup.order, up: startup.up, down: startup.down }
}

/// A template's entry, from its typed form.
pub(super) fn template<'d>(name: &'d str, spec: &'d super::TemplateSpec) -> TemplateForm<'d> {
    let form = TemplateForm {
        name,
        storage: spec.storage.as_deref(),
        checksum: spec.checksum.as_deref(),
        ..TemplateForm::default()
    };
    match &spec.source {
        TemplateSource::Url(url) => TemplateForm { url: Some(url), ..form },
        TemplateSource::Appliance(name) => TemplateForm { appliance: Some(name), ..form },
        TemplateSource::File(path) => TemplateForm { file: Some(path), ..form },
    }
}

/// A text of that spelling.
fn text(spelling: &Spelling) -> Value {
    json!({ "type": "string", "pattern": spelling.pattern.replace(r"\u{0}", r"\u0000").replace(r"\u{1f}", r"\u001f")
        .replace(r"\u{20}", r"\u0020").replace(r"\u{7f}", r"\u007f"), "maxLength": spelling.max })
}

/// ... or `null`.
fn text_or_null(spelling: &Spelling) -> Value {
    let mut schema = text(spelling);
    if let Value::Object(keywords) = &mut schema {
        keywords.insert("type".to_owned(), json!(["string", "null"]));
    }
    schema
}

fn range(kind: &Value, (least, most): (u64, u64)) -> Schema {
    json_schema!({ "type": kind, "minimum": least, "maximum": most })
}

/// Makes functions that give a field its schema.
macro_rules! schemas {
    ($($name:ident => $schema:expr;)+) => {
        $(fn $name(_: &mut SchemaGenerator) -> Schema {
            Schema::try_from($schema).unwrap_or_default()
        })+
    };
}

schemas! {
    hostname => text(&spelling::HOSTNAME);
    volume => text(&spelling::VOLUME);
    storage => text(&spelling::STORAGE);
    credential => text(&spelling::CREDENTIAL);
    device_inside => text(&spelling::DEVICE_INSIDE);
    folder => text(&spelling::FOLDER);
    mac => text(&spelling::MAC);
    pool => text(&spelling::POOL);
    node => text(&spelling::NODE);
    template_name => text(&spelling::TEMPLATE);
    url => text(&spelling::URL);
    checksum => text(&spelling::CHECKSUM);
    ipv4 => text_or_null(&spelling::IPV4);
    ipv4_gateway => text_or_null(&spelling::IPV4_GATEWAY);
    ipv6 => text_or_null(&spelling::IPV6);
    ipv6_gateway => text_or_null(&spelling::IPV6_GATEWAY);
    nameserver => text_or_null(&spelling::SERVERS);
    searchdomain => text_or_null(&spelling::DOMAINS);
    description => text_or_null(&spelling::TEXT);
    tags => json!({ "type": ["array", "null"], "items": text(&spelling::TAG), "uniqueItems": true });
    lines => json!({ "type": ["array", "null"], "items": text(&spelling::LINE), "uniqueItems": true });
    file_systems => json!({ "type": ["array", "null"], "items": text(&spelling::FILE_SYSTEM), "uniqueItems": true });
    cores => range(&json!(["integer", "null"]), CORES).to_value();
    memory => range(&json!("integer"), MEMORY_MIB).to_value();
    swap => range(&json!("integer"), (0, MEMORY_MIB.1)).to_value();
    size => range(&json!("integer"), SIZE_GIB).to_value();
    vlan => range(&json!(["integer", "null"]), VLAN).to_value();
    mtu => range(&json!(["integer", "null"]), CONTAINER_MTU).to_value();
    startup_number => range(&json!("integer"), STARTUP).to_value();
    decimal => json!({ "type": ["number", "null"], "minimum": 0.001, "maximum": MAX_DECIMAL });
    vlans => json!({ "type": ["array", "null"], "uniqueItems": true,
                     "items": { "type": "integer", "minimum": VLAN.0, "maximum": VLAN.1 } });
}

fn networks(generator: &mut SchemaGenerator) -> Schema {
    let item = generator.subschema_for::<NetworkForm<'_>>();
    json_schema!({ "type": "array", "items": item, "maxItems": MAX_NETWORKS })
}

fn mounts(generator: &mut SchemaGenerator) -> Schema {
    let item = generator.subschema_for::<MountForm<'_>>();
    json_schema!({ "type": "array", "items": item, "maxItems": MAX_NETWORKS })
}
