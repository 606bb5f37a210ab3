//! What systemd-machined has, as the model's facts. Pure.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    settings::{Found, Settings},
    world::{Machine, World},
};
use crate::{
    model::{
        Change, ClusterFacts, GuestFacts, GuestMount, GuestNetwork, GuestSettings, Name, NodeFacts, Runtime,
        StorageFacts, UNFINISHED,
    },
    plugins::Interest,
};

/// The mirror: what was read last, and what the model was told of it.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    world: World,
    interest: Interest,
    told: BTreeMap<Name, GuestFacts>,
    cluster: Option<Arc<ClusterFacts>>,
}

impl Mirror {
    /// Replaces what the document names.
    pub(super) fn watch(&mut self, interest: Interest) {
        self.interest = interest;
    }

    /// Replaces what was read.
    pub(super) fn take(&mut self, world: World) {
        self.world = world;
    }

    /// What was read last.
    pub(super) const fn world(&self) -> &World {
        &self.world
    }

    /// What the model is to be told since the last call.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let now = guests(&self.world, &self.interest);
        let gone = self.told.keys().filter(|id| !now.contains_key(*id)).cloned().map(Change::GuestGone);
        let mut out: Vec<Change> = gone.collect();
        let changed = now.iter().filter(|(id, facts)| self.told.get(*id) != Some(facts));
        out.extend(changed.map(|(id, facts)| Change::Guest(id.clone(), facts.clone())));
        self.told = now;
        let cluster = cluster(&self.world);
        if self.cluster.as_deref() != Some(&cluster) {
            let cluster = Arc::new(cluster);
            self.cluster = Some(cluster.clone());
            out.push(Change::Cluster(cluster));
        }
        out
    }

    /// All of it, as if the model had been told nothing.
    pub(super) fn everything(&mut self) -> Vec<Change> {
        self.told.clear();
        self.cluster = None;
        self.changes()
    }

    /// Host sides of the networks of machines that run with settings of op-dbus's, and the machine. (What
    /// systemd-machined says of a machine's networks lacks those of settings files.)
    pub(super) fn links(&self) -> BTreeMap<String, String> {
        let links = |name: &String| match self.world.settings.get(name) {
            Some(Found::Ours { settings, .. }) => settings.links.iter().flat_map(BTreeMap::values).cloned().collect(),
            _ => Vec::new(),
        };
        let machines = self.world.machines.keys();
        machines.flat_map(|name| links(name).into_iter().map(move |link| (link, name.clone()))).collect()
    }
}

/// Containers: images, unless the document has them as templates, and whatever runs.
fn guests(world: &World, interest: &Interest) -> BTreeMap<Name, GuestFacts> {
    let images = world.images.keys().filter(|name| !interest.templates.contains_key(name.as_str()));
    let names = images.chain(world.machines.keys());
    names.map(|name| (Name::from(name.as_str()), guest(world, name))).collect()
}

fn guest(world: &World, name: &str) -> GuestFacts {
    let machine = world.machines.get(name);
    let (settings, written_usec, is_foreign) = match world.settings.get(name) {
        Some(Found::Ours { settings, written_usec }) => (settings.clone(), *written_usec, false),
        Some(Found::Foreign) => (Settings::default(), 0, true),
        Some(Found::None) | None => (Settings::default(), 0, false),
    };
    GuestFacts {
        runtime: Runtime::Machined,
        name: name.to_owned(),
        running: machine.is_some(),
        is_template: world.images.get(name).is_some_and(|image| image.read_only),
        lock: if settings.unfinished { UNFINISHED.to_owned() } else { String::new() },
        has_foreign_settings: is_foreign,
        settings: Some(Arc::new(told_settings(&settings, machine, written_usec))),
        ..GuestFacts::default()
    }
}

fn told_settings(settings: &Settings, machine: Option<&Machine>, written_usec: u64) -> GuestSettings {
    let networks = settings.links.iter().flatten().zip(0_u8..).map(|((inside, outside), number)| {
        let rest = BTreeMap::from([(crate::model::HOST_SIDE.to_owned(), outside.clone())]);
        (number, GuestNetwork { name: inside.clone(), rest, ..GuestNetwork::default() })
    });
    let mounts = settings.binds.iter().zip(0_u16..).map(|((inside, bind), number)| {
        let (path, volume) = (inside.clone(), bind.source.clone());
        (number, GuestMount { path, volume, read_only: bind.read_only, ..GuestMount::default() })
    });
    let mut out = GuestSettings {
        hostname: settings.hostname.clone().unwrap_or_default(),
        unprivileged: settings.private_users.unwrap_or(true),
        networks: networks.collect(),
        mounts: mounts.collect(),
        ..GuestSettings::default()
    };
    // The file is read when the container starts. Which of its lines are new since, it does not say.
    if machine.is_some_and(|machine| machine.since_usec < written_usec) {
        let said = [
            ("hostname", settings.hostname.is_some()),
            ("networks", settings.links.is_some()),
            ("mounts", !settings.binds.is_empty()),
        ];
        out.pending.extend(said.into_iter().filter(|(_, said)| *said).map(|(field, _)| field.to_owned()));
        if out.pending.is_empty() {
            out.pending.insert("settings".to_owned());
        }
    }
    out
}

/// The one node there is, and the one place for images.
fn cluster(world: &World) -> ClusterFacts {
    let kinds = world.images.values().map(|image| image.kind.clone()).collect();
    let templates = world.images.keys().map(|name| Name::from(name.as_str())).collect();
    let images = StorageFacts { content: kinds, templates, ..StorageFacts::default() };
    let node =
        NodeFacts { online: world.installed, bridges: None, storages: BTreeMap::from([(String::new(), Some(images))]) };
    ClusterFacts { nodes: BTreeMap::from([(String::new(), node)]), ..ClusterFacts::default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;
    use crate::{desired::TemplateSpec, plugins::machined::world::Image};

    fn world() -> World {
        let image = |read_only| Image { kind: "directory".to_owned(), read_only };
        World {
            installed: true,
            images: [("box".to_owned(), image(true)), ("web".to_owned(), image(false))].into(),
            ..World::default()
        }
    }

    fn ours(settings: Settings, written_usec: u64) -> Found {
        Found::Ours { settings, written_usec }
    }

    fn running(since_usec: u64) -> Machine {
        Machine { unit: "systemd-nspawn@web.service".to_owned(), since_usec }
    }

    #[test]
    fn an_image_is_a_container_unless_it_is_a_template() {
        let mut mirror = Mirror::default();
        mirror.take(world());
        let changes = mirror.changes();
        let ids: Vec<_> = changes.iter().filter_map(Change::id).map(|id| id.name).collect();
        assert_eq!(ids, ["box".into(), "web".into()]);
        let Some(Change::Cluster(cluster)) = changes.last() else { panic!("{changes:?}") };
        assert!(cluster.nodes[""].online);
        mirror.watch(Interest {
            templates: [("box".into(), Arc::new(TemplateSpec::default()))].into(),
            ..Interest::default()
        });
        assert_eq!(mirror.changes(), [Change::GuestGone("box".into())]);
        assert_eq!(mirror.changes(), []);
        assert_eq!(mirror.everything().len(), 2, "the container, and the cluster");
        mirror.take(World::default());
        let changes = mirror.changes();
        assert_eq!(changes.first(), Some(&Change::GuestGone("web".into())));
        assert!(matches!(&changes[1], Change::Cluster(cluster) if !cluster.nodes[""].online));
    }

    #[test]
    fn settings_written_after_the_start_wait_for_a_restart() {
        let settings = Settings { hostname: Some("www".to_owned()), ..Settings::default() };
        let mut world = world();
        world.settings.insert("web".to_owned(), ours(settings, 20));
        let pending = |world: &World| guest(world, "web").settings.unwrap().pending.clone();
        assert!(pending(&world).is_empty(), "it does not run");
        world.machines.insert("web".to_owned(), running(30));
        assert!(pending(&world).is_empty(), "it was started with them");
        world.machines.insert("web".to_owned(), running(10));
        assert_eq!(pending(&world), ["hostname".to_owned()].into());
    }

    #[test]
    fn only_links_of_op_dbus_are_touched() {
        let mut mirror = Mirror::default();
        let mut world = world();
        world.machines.insert("web".to_owned(), running(1));
        mirror.take(world.clone());
        assert!(mirror.links().is_empty(), "no settings");
        world.settings.insert("web".to_owned(), Found::Foreign);
        mirror.take(world.clone());
        assert!(mirror.links().is_empty(), "another's settings");
        let links = Some([("eth0".to_owned(), "ve-web".to_owned())].into());
        world.settings.insert("web".to_owned(), ours(Settings { links, ..Settings::default() }, 0));
        mirror.take(world);
        assert_eq!(mirror.links(), [("ve-web".to_owned(), "web".to_owned())].into());
    }
}
