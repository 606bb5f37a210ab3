//! The interfaces of the tree, one file each: how every property is read from the snapshot, which methods there are.
//! `dbus-interfaces/*.xml` is the contract; a test holds these tables against it.

mod bridge;
mod container;
mod job;
mod object;
mod package;
mod plugin;
mod port;
mod resource;
mod state;
mod unit;

pub(crate) use container::ContainerView;

use std::sync::LazyLock;

use super::{introspect, path::Node, value::Prop};
use crate::model::{
    BridgeFacts, ContainerFacts, JobFacts, JobId, Kind, ObjectFacts, PackageFacts, PluginFacts, PortFacts,
    ResourceFacts, ResourceId, Snapshot, StateFacts, UnitFacts,
};

/// `EmitsChangedSignal` of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emits {
    /// PropertiesChanged carries the new value.
    True,
    /// PropertiesChanged names it.
    Invalidates,
    /// It never changes.
    Const,
    /// It changes and is not signalled.
    False,
}

/// A property.
#[derive(Debug)]
pub(crate) struct Property {
    /// Its name.
    pub(crate) name: &'static str,
    /// How its changes are told.
    pub(crate) emits: Emits,
}

/// A method.
#[derive(Debug)]
pub(crate) struct Method {
    /// Its name.
    pub(crate) name: &'static str,
    /// Signature of its arguments.
    pub(crate) input: &'static str,
}

/// An interface.
#[derive(Debug)]
pub(crate) struct Interface {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its part of the contract, as served by Introspect.
    pub(crate) xml: LazyLock<String>,
    /// Its properties, in the order of the values of a [`Face`].
    pub(crate) properties: &'static [Property],
    /// Its methods.
    pub(crate) methods: &'static [Method],
}

impl Interface {
    /// The method of that name.
    pub(crate) fn method(&self, name: &str) -> Option<&'static Method> {
        self.methods.iter().find(|method| method.name == name)
    }
}

/// Writes down an interface: a static `INTERFACE` and a function `values` that reads all properties, in the same order.
macro_rules! interface {
    ($name:literal; methods { $($method:literal($input:literal)),* $(,)? }
     properties<$lt:lifetime>($view:ident: $type:ty) { $($property:literal $emits:ident => $value:expr),+ $(,)? }) => {
        #[doc = concat!("`", $name, "`.")]
        pub(super) static INTERFACE: $crate::bus::interfaces::Interface = $crate::bus::interfaces::Interface {
            name: $name,
            xml: std::sync::LazyLock::new(|| {
                $crate::bus::introspect::served(include_str!(concat!("../../../dbus-interfaces/", $name, ".xml")))
            }),
            properties: &[$($crate::bus::interfaces::Property {
                name: $property,
                emits: $crate::bus::interfaces::Emits::$emits,
            }),+],
            methods: &[$($crate::bus::interfaces::Method { name: $method, input: $input }),*],
        };

        /// The values of all properties.
        pub(super) fn values<$lt>($view: $type) -> Vec<$crate::bus::value::Prop<$lt>> {
            vec![$($value),+]
        }
    };
}
use interface;

/// One interface of one object, with the facts behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Face<'a> {
    /// `org.opdbus.State`.
    State(&'a StateFacts),
    /// `org.opdbus.Job`.
    Job(&'a JobFacts),
    /// `org.opdbus.Plugin`.
    Plugin(plugin::PluginView<'a>),
    /// `org.opdbus.Resource`.
    Resource(resource::ResourceView<'a>),
    /// `org.opdbus.Unit`.
    Unit(unit::UnitView<'a>),
    /// `org.opdbus.Bridge`.
    Bridge(bridge::BridgeView<'a>),
    /// `org.opdbus.Port`.
    Port(port::PortView<'a>),
    /// `org.opdbus.Container`.
    Container(ContainerView<'a>),
    /// `org.opdbus.Package`.
    Package(package::PackageView<'a>),
    /// `org.opdbus.Object`.
    Object(object::ObjectView<'a>),
}

impl<'a> Face<'a> {
    /// The interface.
    pub(crate) fn interface(&self) -> &'static Interface {
        match self {
            Self::State(_) => &state::INTERFACE,
            Self::Job(_) => &job::INTERFACE,
            Self::Plugin(_) => &plugin::INTERFACE,
            Self::Resource(_) => &resource::INTERFACE,
            Self::Unit(_) => &unit::INTERFACE,
            Self::Bridge(_) => &bridge::INTERFACE,
            Self::Port(_) => &port::INTERFACE,
            Self::Container(_) => &container::INTERFACE,
            Self::Package(_) => &package::INTERFACE,
            Self::Object(_) => &object::INTERFACE,
        }
    }

    /// The values of its properties, in the order of [`Interface::properties`].
    pub(crate) fn values(&self) -> Vec<Prop<'a>> {
        match *self {
            Self::State(view) => state::values(view),
            Self::Job(view) => job::values(view),
            Self::Plugin(view) => plugin::values(view),
            Self::Resource(view) => resource::values(view),
            Self::Unit(view) => unit::values(view),
            Self::Bridge(view) => bridge::values(view),
            Self::Port(view) => port::values(view),
            Self::Container(view) => container::values(view),
            Self::Package(view) => package::values(view),
            Self::Object(view) => object::values(view),
        }
    }

    /// Name and value of every property.
    pub(crate) fn properties(&self) -> Vec<(&'static str, Prop<'a>)> {
        self.interface().properties.iter().map(|property| property.name).zip(self.values()).collect()
    }
}

/// The interfaces of an object: its own, and for a resource also `org.opdbus.Resource`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Object<'a>([Option<Face<'a>>; 2]);

impl<'a> Object<'a> {
    /// The object there, with what it shows; `None` where there is no object with properties.
    pub(crate) fn at(snapshot: &'a Snapshot, node: &'a Node) -> Option<Self> {
        match node {
            Node::Top | Node::Org | Node::Root | Node::Jobs | Node::Plugins | Node::Kind(_) => None,
            Node::State => Some(Self::state(&snapshot.state)),
            Node::Job(id) => snapshot.jobs.get(id).map(|facts| Self::job(facts)),
            Node::Plugin(name) => {
                snapshot.plugins.get_key_value(name.as_str()).map(|(name, facts)| Self::plugin(name, facts))
            }
            Node::Resource(id) => snapshot.resources.get(id).map(|facts| Self::resource(snapshot, id, facts)),
        }
    }

    /// The object of the whole state.
    pub(crate) const fn state(facts: &'a StateFacts) -> Self {
        Self([Some(Face::State(facts)), None])
    }

    /// A job.
    pub(crate) const fn job(facts: &'a JobFacts) -> Self {
        Self([Some(Face::Job(facts)), None])
    }

    /// A plugin.
    pub(crate) const fn plugin(name: &'a str, facts: &'a PluginFacts) -> Self {
        Self([Some(Face::Plugin(plugin::PluginView { name, facts })), None])
    }

    /// A resource, with the facts of its kind: defaults where it is declared and nobody has seen it.
    pub(crate) fn resource(snapshot: &'a Snapshot, id: &'a ResourceId, facts: &'a ResourceFacts) -> Self {
        let observed = &snapshot.observed;
        let name = &id.name;
        let own = match id.kind {
            Kind::Unit => {
                Face::Unit(unit::UnitView { name, facts: observed.units.get(name).map_or(&UNSEEN.unit, |facts| facts) })
            }
            Kind::Package => Face::Package(package::PackageView {
                id: name,
                facts: observed.packages.get(name).map_or(&UNSEEN.package, |facts| facts),
            }),
            Kind::Bridge => Face::Bridge(bridge::BridgeView {
                name,
                facts: observed.bridges.get(name).map_or(&UNSEEN.bridge, |facts| facts),
                containers: observed.links.bridge_containers.get(name).unwrap_or(&UNSEEN.names),
            }),
            Kind::Port => {
                let container = observed.links.port_container.get(name);
                Face::Port(port::PortView {
                    name,
                    facts: observed.ports.get(name).map_or(&UNSEEN.port, |facts| facts),
                    container,
                    outlived: container
                        .and_then(|id| observed.containers.get(id))
                        .is_some_and(|container| container.stale_ports.contains(name)),
                })
            }
            Kind::Container => Face::Container(ContainerView {
                id: name,
                facts: observed.containers.get(name).map_or(&UNSEEN.container, |facts| facts),
            }),
            Kind::Object => Face::Object(object::ObjectView {
                facts: observed.objects.get(name).map_or(&UNSEEN.object, |facts| facts),
            }),
        };
        Self([Some(own), Some(Face::Resource(resource::ResourceView { id, facts }))])
    }

    /// Its interfaces.
    pub(crate) fn faces(&self) -> impl Iterator<Item = Face<'a>> + use<'a> {
        self.0.into_iter().flatten()
    }
}

/// Facts of what nobody has seen.
#[derive(Default)]
struct Unseen {
    unit: UnitFacts,
    bridge: BridgeFacts,
    port: PortFacts,
    container: ContainerFacts,
    package: PackageFacts,
    object: ObjectFacts,
    names: std::collections::BTreeSet<crate::model::Name>,
}

static UNSEEN: LazyLock<Unseen> = LazyLock::new(Unseen::default);

/// Path of an optional job.
fn job_or_none(id: Option<JobId>) -> Prop<'static> {
    Prop::Path(id.map_or(super::value::Path::None, super::value::Path::Job))
}

/// Whether the name is one of the interfaces that every node or the root has besides its own.
pub(crate) fn is_standard(node: &Node, name: &str) -> bool {
    introspect::standard(node).any(|interface| interface.name == name)
}
