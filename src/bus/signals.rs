//! Signals: what differs between the snapshot last sent and the newest, and what the core told besides.

use std::collections::BTreeSet;

use imbl::ordmap::DiffItem;
use serde::Serialize;
use tracing::error;
use zbus::{DynamicType, Message};

use super::{
    interfaces::{Emits, Face, Object},
    introspect::{OBJECT_MANAGER, PROPERTIES},
    managed::Faces,
    path::{Node, ROOT},
    reply::MAX_MESSAGE_BYTES,
    value::{Differences, More, Path, Props, Text},
};
use crate::{
    model::{JobId, ResourceId, Snapshot, Subject},
    reconcile::Notice,
};

/// Signals in the order in which clients shall see them.
#[derive(Debug, Default)]
pub(crate) struct Signals(pub(crate) Vec<Message>);

impl Signals {
    /// Adds what tells a client that knows `old` all of `new`, at a cost of what differs, with the notices in between.
    ///
    /// New jobs come first, so that nobody hears of a step of a job that is not there; then resources and steps, so
    /// that they precede their job's end; then jobs, plugins, drifts, the whole, and JobFinished last.
    pub(crate) fn add(&mut self, old: &Snapshot, new: &Snapshot, notices: &[Notice]) {
        let jobs: Vec<_> = old.jobs.diff(&new.jobs).collect();
        for item in &jobs {
            if let DiffItem::Add(id, facts) = item {
                self.added(&Path::Job(**id), Object::job(facts));
            }
        }
        for id in touched(old, new) {
            self.resource(old, new, &id);
        }
        for notice in notices {
            self.step(notice);
        }
        for item in &jobs {
            match item {
                DiffItem::Add(..) => {}
                DiffItem::Update { old: (id, old), new: (_, new) } => {
                    self.changed(&Path::Job(**id), Object::job(old), Object::job(new));
                }
                DiffItem::Remove(id, old) => self.removed(&Path::Job(**id), Object::job(old)),
            }
        }
        for item in old.plugins.diff(&new.plugins) {
            match item {
                DiffItem::Add(name, facts) => {
                    self.added(&Path::Subject(&Subject::Plugin(name)), Object::plugin(name, facts));
                }
                DiffItem::Update { old: (name, old), new: (_, new) } => {
                    let subject = Subject::Plugin(name);
                    self.changed(&Path::Subject(&subject), Object::plugin(name, old), Object::plugin(name, new));
                }
                DiffItem::Remove(name, old) => {
                    self.removed(&Path::Subject(&Subject::Plugin(name)), Object::plugin(name, old));
                }
            }
        }
        for notice in notices {
            self.drift(notice);
        }
        self.changed(&Path::Subject(&Subject::State), Object::state(&old.state), Object::state(&new.state));
        for notice in notices {
            self.finished(notice);
        }
    }

    fn resource(&mut self, old: &Snapshot, new: &Snapshot, id: &ResourceId) {
        let node = Node::Resource(id.clone());
        match (Object::at(old, &node), Object::at(new, &node)) {
            (None, None) => {}
            (None, Some(object)) => self.added(&Path::of(id), object),
            (Some(object), None) => self.removed(&Path::of(id), object),
            (Some(old), Some(new)) => self.changed(&Path::of(id), old, new),
        }
    }

    fn added(&mut self, path: &Path<'_>, object: Object<'_>) {
        self.push(ROOT, OBJECT_MANAGER, "InterfacesAdded", &(*path, Faces(object)));
    }

    fn removed(&mut self, path: &Path<'_>, object: Object<'_>) {
        let interfaces: Vec<&str> = object.faces().map(|face| face.interface().name).collect();
        self.push(ROOT, OBJECT_MANAGER, "InterfacesRemoved", &(*path, interfaces));
    }

    fn changed(&mut self, path: &Path<'_>, old: Object<'_>, new: Object<'_>) {
        for (old, new) in old.faces().zip(new.faces()) {
            self.face(path, &old, &new);
        }
    }

    /// One PropertiesChanged for all that changed of one interface.
    fn face(&mut self, path: &Path<'_>, old: &Face<'_>, new: &Face<'_>) {
        let interface = new.interface();
        let mut changed = Vec::new();
        let mut invalidated = Vec::new();
        for ((property, old), new) in interface.properties.iter().zip(old.values()).zip(new.values()) {
            if old == new {
                continue;
            }
            match property.emits {
                Emits::True => changed.push((property.name, new)),
                Emits::Invalidates => invalidated.push(property.name),
                Emits::Const | Emits::False => {}
            }
        }
        if !changed.is_empty() || !invalidated.is_empty() {
            let body = (interface.name, Props(&changed), invalidated);
            self.push(&path.text(), PROPERTIES, "PropertiesChanged", &body);
        }
    }

    fn step(&mut self, notice: &Notice) {
        if let Notice::StepChanged { job, step, state, message } = notice {
            let body = (*step, state.as_str(), Text(message), More);
            self.push(&job_text(*job), "org.opdbus.Job", "StepChanged", &body);
        }
    }

    fn drift(&mut self, notice: &Notice) {
        if let Notice::DriftDetected { resource, differences } = notice {
            let body = (Path::of(resource), Differences(differences), More);
            self.push(&Subject::State.path(), "org.opdbus.State", "DriftDetected", &body);
        }
    }

    fn finished(&mut self, notice: &Notice) {
        if let Notice::JobFinished { generation, job, result } = notice {
            let body = (*generation, Path::Job(*job), result.as_str(), More);
            self.push(&Subject::State.path(), "org.opdbus.State", "JobFinished", &body);
        }
    }

    fn push<B: Serialize + DynamicType>(
        &mut self,
        path: &str,
        interface: &'static str,
        member: &'static str,
        body: &B,
    ) {
        match Message::signal(path, interface, member).build(body) {
            Ok(message) if message.data().len() <= MAX_MESSAGE_BYTES => self.0.push(message),
            Ok(_) => error!(path, member, "a signal is larger than a D-Bus message may be and was not sent"),
            Err(why) => error!(path, member, "a signal could not be built: {why}"),
        }
    }
}

fn job_text(id: JobId) -> String {
    super::path::job_path(id)
}

/// The resources that may look different: all whose facts differ, and all to which a relation changed.
fn touched(old: &Snapshot, new: &Snapshot) -> BTreeSet<ResourceId> {
    let mut ids: BTreeSet<ResourceId> = old.resources.diff(&new.resources).map(|item| key(&item).clone()).collect();
    let (was, is) = (&old.observed, &new.observed);
    ids.extend(was.packages.diff(&is.packages).map(|item| ResourceId::package(key(&item).clone())));
    ids.extend(was.units.diff(&is.units).map(|item| ResourceId::unit(key(&item).clone())));
    ids.extend(was.bridges.diff(&is.bridges).map(|item| ResourceId::bridge(key(&item).clone())));
    ids.extend(was.ports.diff(&is.ports).map(|item| ResourceId::port(key(&item).clone())));
    ids.extend(was.objects.diff(&is.objects).map(|item| ResourceId::object(key(&item).clone())));
    for item in was.containers.diff(&is.containers) {
        ids.insert(ResourceId::container(key(&item).clone()));
        // Port.Stale is told by the container.
        let (before, after) = match &item {
            DiffItem::Add(_, new) => (None, Some(&new.stale_ports)),
            DiffItem::Update { old: (_, old), new: (_, new) } => (Some(&old.stale_ports), Some(&new.stale_ports)),
            DiffItem::Remove(_, old) => (Some(&old.stale_ports), None),
        };
        ids.extend(before.into_iter().chain(after).flatten().cloned().map(ResourceId::port));
    }
    let links = (&was.links, &is.links);
    ids.extend(links.0.port_container.diff(&links.1.port_container).map(|item| ResourceId::port(key(&item).clone())));
    ids.extend(
        links.0.bridge_containers.diff(&links.1.bridge_containers).map(|item| ResourceId::bridge(key(&item).clone())),
    );
    ids
}

fn key<'a, K, V>(item: &DiffItem<'a, 'a, K, V>) -> &'a K {
    match item {
        DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { new: (key, _), .. } => key,
    }
}
