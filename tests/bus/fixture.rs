//! One of everything, twice: `before` and `after` differ in every property that can change.

use std::{collections::BTreeSet, sync::Arc};

use op_dbus::model::{
    BackendStatus, BridgeFacts, ContainerFacts, Difference, DriftPolicy, GuestFacts, GuestSettings, InterfaceFacts,
    JobResult, JobState, Name, ObjectFacts, PackageFacts, PortFacts, Reason, ResourceId, Snapshot, StateFileStatus,
    StateSource, Status, StepFacts, StepState, StringMap, Subject, TypedValue, UnitFacts, Value,
};

use crate::hub::{Builder as _, job, plugin, unmanaged};

pub const UNIT: &str = "/org/opdbus/unit/nginx_2eservice";
pub const BRIDGE: &str = "/org/opdbus/bridge/ovsbr0";
pub const PORT: &str = "/org/opdbus/port/veth100";
pub const CONTAINER: &str = "/org/opdbus/container/_3100";
pub const PACKAGE: &str = "/org/opdbus/package/nginx";
pub const OBJECT: &str = "/org/opdbus/object/clock";
pub const JOB: &str = "/org/opdbus/job/7";
pub const PLUGIN: &str = "/org/opdbus/plugin/ovsdb";

/// Where each interface can be looked at.
pub const SHOWN_AT: [(&str, &str); 10] = [
    ("org.opdbus.State", "/org/opdbus/state"),
    ("org.opdbus.Job", JOB),
    ("org.opdbus.Plugin", PLUGIN),
    ("org.opdbus.Resource", PORT),
    ("org.opdbus.Unit", UNIT),
    ("org.opdbus.Bridge", BRIDGE),
    ("org.opdbus.Port", PORT),
    ("org.opdbus.Container", CONTAINER),
    ("org.opdbus.Package", PACKAGE),
    ("org.opdbus.Object", OBJECT),
];

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<Name> {
    names.into_iter().map(Name::from).collect()
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> StringMap {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub fn before() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.add_package("nginx", PackageFacts::default());
    snapshot.add_unit("nginx.service", UnitFacts { description: "a server".to_owned(), ..UnitFacts::default() });
    snapshot.add_bridge("ovsbr0", BridgeFacts::default());
    snapshot.add_port("veth100", PortFacts { bridge: "ovsbr0".into(), ..PortFacts::default() });
    snapshot.add_container("100", ContainerFacts::default());
    snapshot.add(ResourceId::object("clock"));
    snapshot.jobs.insert(7, Arc::new(job(Subject::State)));
    snapshot.plugins.insert("ovsdb", Arc::new(plugin()));
    snapshot
}

pub fn after() -> Snapshot {
    let mut snapshot = before();
    snapshot.add_package(
        "nginx",
        PackageFacts {
            arch: "amd64".to_owned(),
            installed: "1.22.1-9".to_owned(),
            candidate: "1.24.0-1".to_owned(),
            update_available: true,
            repository: "debian".to_owned(),
            summary: "a server".to_owned(),
            restart: "application",
            ..PackageFacts::default()
        },
    );
    snapshot.add_unit(
        "nginx.service",
        UnitFacts {
            id: "web.service".to_owned(),
            description: "another".to_owned(),
            load_state: "loaded".to_owned(),
            active_state: "active".to_owned(),
            sub_state: "running".to_owned(),
            unit_file_state: "enabled".to_owned(),
            result: "success".to_owned(),
            unit_path: "/org/freedesktop/systemd1/unit/web_2eservice".to_owned(),
            active_enter_usec: 5,
            restarts: 1,
            need_daemon_reload: true,
            ..UnitFacts::default()
        },
    );
    snapshot.add_bridge(
        "ovsbr0",
        BridgeFacts {
            uuid: "u".to_owned(),
            datapath_type: "netdev".to_owned(),
            datapath_id: "0000000000000001".to_owned(),
            fail_mode: "secure".to_owned(),
            stp_enable: true,
            rstp_enable: true,
            mcast_snooping_enable: true,
            ports: ["veth100"].into_iter().map(Name::from).collect(),
            controllers: BTreeSet::from(["tcp:192.0.2.1:6653".to_owned()]),
            external_ids: map([("site", "north")]),
            other_config: map([("hwaddr", "02:00:00:00:00:02"), ("ssl_password", "swordfish")]),
        },
    );
    snapshot.add_port(
        "veth100",
        PortFacts {
            bridge: "ovsbr1".into(),
            tag: Some(10),
            trunks: BTreeSet::from([1, 2]),
            vlan_mode: "trunk".to_owned(),
            bond_mode: "balance-slb".to_owned(),
            lacp: "active".to_owned(),
            external_ids: map([("site", "north")]),
            interfaces: vec![InterfaceFacts {
                name: "veth100".to_owned(),
                kind: "vxlan".to_owned(),
                ofport: Some(-1),
                link_state: "up".to_owned(),
                admin_state: "up".to_owned(),
                mac_in_use: "02:00:00:00:00:01".to_owned(),
                mtu: Some(1500),
                error: "no such device".to_owned(),
                options: map([("remote_ip", "192.0.2.9"), ("psk", "swordfish")]),
                ..InterfaceFacts::default()
            }],
            ..PortFacts::default()
        },
    );
    let secret = TypedValue { signature: "s".to_owned(), value: "swordfish".into() };
    let object = ObjectFacts {
        service: "org.freedesktop.timedate1".to_owned(),
        path: "/org/freedesktop/timedate1".to_owned(),
        interface: "org.freedesktop.timedate1".to_owned(),
        properties: [("Password".to_owned(), secret)].into(),
        drift_visible: true,
        ..ObjectFacts::default()
    };
    snapshot.observed.objects.insert("clock".into(), Arc::new(object));
    snapshot.add_container(
        "100",
        ContainerFacts {
            name: "web".to_owned(),
            unit: "pve-container@100.service".to_owned(),
            unit_path: "/org/freedesktop/systemd1/unit/x".to_owned(),
            active_state: "active".to_owned(),
            sub_state: "running".to_owned(),
            running: true,
            on_boot: true,
            ports: names(["veth100"]),
            bridges: names(["ovsbr0"]),
            guest: Some(Arc::new(GuestFacts {
                node: "pve1".to_owned(),
                cores: 2,
                memory_bytes: 1 << 30,
                swap_bytes: 1 << 29,
                tags: ["edge".to_owned()].into(),
                lock: "backup".to_owned(),
                settings: Some(Arc::new(GuestSettings {
                    unprivileged: true,
                    addresses: ["10.0.0.100/24".to_owned()].into(),
                    ..GuestSettings::default()
                })),
                ..GuestFacts::default()
            })),
            ..ContainerFacts::default()
        },
    );
    snapshot.observed.links.port_container.insert("veth100".into(), "100".into());
    snapshot.observed.links.bridge_containers.insert("ovsbr0".into(), names(["100"]));
    let mut resource = unmanaged();
    resource.managed = true;
    resource.present = false;
    resource.in_sync = false;
    resource.owned = true;
    resource.status = Status::Drifted;
    resource.reason = Reason::Differs;
    resource.message = "tag differs".to_owned();
    resource.differences = vec![Difference::new("tag", Value::Int(10), Value::Absent)];
    resource.drift_policy = DriftPolicy::Enforce;
    resource.observed_generation = 1;
    resource.last_transition_usec = 9;
    snapshot.resources.insert(ResourceId::port("veth100"), Arc::new(resource));

    let mut over = job(Subject::State);
    over.generation = 2;
    over.state = JobState::Finished;
    over.result = Some(JobResult::Done);
    over.message = "all of it".to_owned();
    over.progress = 1.0;
    over.started_usec = 2;
    over.finished_usec = 3;
    over.steps.insert(
        1,
        Arc::new(StepFacts {
            subject: ResourceId::port("veth100").into(),
            action: "set-port",
            state: StepState::Done,
            message: String::new(),
        }),
    );
    snapshot.jobs.insert(7, Arc::new(over));

    let mut backend = plugin();
    backend.backend.status = BackendStatus::Unavailable;
    backend.backend.message = "gone".to_owned();
    backend.backend.version = "2".to_owned();
    backend.backend.reconnects = 1;
    backend.resources = 4;
    backend.last_event_usec = 11;
    backend.updates_available = 3;
    snapshot.plugins.insert("ovsdb", Arc::new(backend));

    let state = Arc::make_mut(&mut snapshot.state);
    state.generation = 2;
    state.observed_generation = 1;
    state.in_sync = false;
    state.managed = 1;
    state.drifted = 2;
    state.failed = 3;
    state.blocked = 4;
    state.unknown = 5;
    state.pending = 6;
    state.drift_policy = DriftPolicy::Enforce;
    state.current_job = Some(8);
    state.last_job = Some(7);
    state.last_reconcile_usec = 12;
    state.source = StateSource::Bus;
    state.file_status = StateFileStatus::Overridden;
    state.file_message = "a call came after it".to_owned();
    state.jobs_total = 1;
    state.jobs_failed = 2;
    state.drifts_total = 3;
    snapshot
}
