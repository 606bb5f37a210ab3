//! What waits for what: every `after` names something, and nothing waits for itself.

use std::{collections::HashMap, fmt::Write as _};

use crate::{
    desired::{
        decode::{Decoded, Wait},
        document::{Document, Ensure},
        fault::code,
        place::{At, Faults, named},
    },
    model::{Name, ResourceId},
};

use super::{Rules, at_entry};

/// Resources of a cycle that the message names: more than anybody wrote by hand.
const MAX_NAMED: usize = 100;

/// Why one resource waits for another.
#[derive(Debug, Clone, Copy)]
enum Why<'d> {
    /// Its entry says so.
    After(&'d Wait),
    /// It is on that bridge.
    Bridge,
    /// The container brings its device.
    Device,
    /// The container's unit runs it.
    Unit,
    /// It is that container's unit, and Proxmox VE has the container in hand.
    Container,
    /// It is cloned from that container.
    Clone,
}

/// A resource and what it waits for.
#[derive(Debug, Default)]
struct Vertex<'d> {
    waits: Vec<(usize, Why<'d>)>,
    state: State,
}

/// How far the search is with a vertex.
#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    New,
    /// On the path, at that place.
    OnPath(usize),
    Done,
}

/// The resources of a document, in the order of their numbers.
struct Graph<'d> {
    ids: Vec<ResourceId>,
    vertices: Vec<Vertex<'d>>,
}

/// Checks references and cycles, in one pass each.
pub(super) fn check(decoded: &Decoded, rules: &Rules, faults: &mut Faults) {
    if decoded.waits.is_empty() {
        // What follows from the document by itself makes no cycle: ports, containers, their units, bridges.
        return;
    }
    if !decoded.names_lost {
        references(decoded, rules, faults);
    }
    Graph::new(decoded, rules).find_cycles(decoded, faults);
}

/// Each `after` names a resource of the document.
fn references(decoded: &Decoded, rules: &Rules, faults: &mut Faults) {
    let document = &decoded.document;
    let unknown = |id: &ResourceId| document.common(id).is_none() && !decoded.refused.contains(id);
    for wait in decoded.waits.iter().filter(|wait| unknown(&wait.what)) {
        at_wait(decoded, wait, |at| {
            faults.add(at, code::UNKNOWN_RESOURCE, || {
                let what = named(&wait.what);
                match same_thing(document, rules, &wait.what) {
                    Some(other) => format!("the document declares {what} as {}: write that", named(&other)),
                    None => format!("the document declares no {what}: declare it, or take this away"),
                }
            });
        });
    }
}

/// The declared container that this unit runs, or the declared unit that runs this container.
fn same_thing(document: &Document, rules: &Rules, what: &ResourceId) -> Option<ResourceId> {
    if let Some(unit) = rules.units_of(&what.name).find(|unit| document.units.contains_key(unit)) {
        return Some(ResourceId::unit(unit));
    }
    let ids = rules.container_units.iter().filter_map(|pattern| {
        let (before, after) = pattern.split_once('*')?;
        what.name.strip_prefix(before)?.strip_suffix(after)
    });
    ids.map(Name::from).find(|id| document.containers.contains_key(id)).map(ResourceId::container)
}

/// Whether a container of that id is Proxmox VE's where that is configured.
fn is_number(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())
}

/// Calls with the place of that element of an `after`.
fn at_wait(decoded: &Decoded, wait: &Wait, call: impl FnOnce(&At<'_>)) {
    at_entry(decoded, wait.who.kind, &wait.who.name, |at| call(&at.key("after").index(wait.index)));
}

impl<'d> Graph<'d> {
    fn new(decoded: &'d Decoded, rules: &Rules) -> Self {
        let document = &decoded.document;
        let ids: Vec<ResourceId> = document.resources().collect();
        let numbers: HashMap<&ResourceId, usize> = ids.iter().enumerate().map(|(number, id)| (id, number)).collect();
        let mut vertices: Vec<Vertex<'d>> = ids.iter().map(|_| Vertex::default()).collect();
        let mut add = |who: &ResourceId, what: &ResourceId, why: Why<'d>| {
            if let (Some(from), Some(to)) = (numbers.get(who), numbers.get(what))
                && let Some(vertex) = vertices.get_mut(*from)
            {
                vertex.waits.push((*to, why));
            }
        };
        for wait in &decoded.waits {
            add(&wait.who, &wait.what, Why::After(wait));
        }
        for (name, spec) in &document.ports {
            if spec.ensure == Ensure::Present {
                add(&ResourceId::port(name.clone()), &ResourceId::bridge(spec.bridge.clone()), Why::Bridge);
            }
        }
        for (id, spec) in &document.containers {
            let container = ResourceId::container(id.clone());
            let bridge = spec.bridge.clone().map(ResourceId::bridge);
            if let Some(bridge) = &bridge {
                add(&container, bridge, Why::Bridge);
            }
            for unit in rules.units_of(id).filter(|unit| document.units.contains_key(unit)).map(ResourceId::unit) {
                if rules.proxmox && is_number(id) {
                    // Made and configured before its unit's entry counts.
                    add(&unit, &container, Why::Container);
                    continue;
                }
                add(&container, &unit, Why::Unit);
                if let Some(bridge) = &bridge {
                    add(&unit, bridge, Why::Bridge);
                }
            }
            let networks = spec.networks.iter().flatten().filter_map(|(_, network)| network.bridge.clone());
            for bridge in networks {
                add(&container, &ResourceId::bridge(bridge), Why::Bridge);
            }
            if let Some(origin) = spec.from.as_ref().and_then(|from| from.clone.clone()) {
                add(&container, &ResourceId::container(origin), Why::Clone);
            }
            for name in spec.port_names(id) {
                if document.ports.get(&name).is_some_and(|port| port.ensure == Ensure::Present) {
                    add(&ResourceId::port(name), &container, Why::Device);
                }
            }
        }
        Self { ids, vertices }
    }

    /// Searches depth first, without recursion: an edge back into the path closes a cycle.
    fn find_cycles(&mut self, decoded: &Decoded, faults: &mut Faults) {
        for start in 0..self.vertices.len() {
            // Vertices of the path, each with the number of its edges already followed.
            let mut path: Vec<(usize, usize)> = Vec::new();
            self.enter(start, &mut path);
            while let Some((at, followed)) = path.last_mut() {
                let Some(vertex) = self.vertices.get_mut(*at) else { break };
                let Some(&(next, _)) = vertex.waits.get(*followed) else {
                    vertex.state = State::Done;
                    path.pop();
                    continue;
                };
                *followed += 1;
                match self.vertices.get(next).map(|vertex| vertex.state) {
                    Some(State::New) => self.enter(next, &mut path),
                    Some(State::OnPath(place)) => {
                        self.report(path.get(place..).unwrap_or_default(), decoded, faults);
                    }
                    Some(State::Done) | None => {}
                }
            }
        }
    }

    /// Puts a new vertex onto the path.
    fn enter(&mut self, number: usize, path: &mut Vec<(usize, usize)>) {
        if let Some(vertex) = self.vertices.get_mut(number)
            && matches!(vertex.state, State::New)
        {
            vertex.state = State::OnPath(path.len());
            path.push((number, 0));
        }
    }

    /// Reports a cycle, at one of the `after` that make it.
    fn report(&self, cycle: &[(usize, usize)], decoded: &Decoded, faults: &mut Faults) {
        let edge = |&(number, followed): &(usize, usize)| {
            self.vertices.get(number).and_then(|vertex| vertex.waits.get(followed.checked_sub(1)?))
        };
        let wait = cycle.iter().rev().filter_map(edge).find_map(|(_, why)| match why {
            Why::After(wait) => Some(*wait),
            Why::Bridge | Why::Device | Why::Unit | Why::Container | Why::Clone => None,
        });
        let Some(wait) = wait else { return };
        let message = || {
            let mut text = "these wait for one another: ".to_owned();
            if let Some(first) = cycle.first().and_then(|(number, _)| self.ids.get(*number)) {
                // Writing to a String cannot fail.
                let _ = write!(text, "{}", named(first));
            }
            for (to, why) in cycle.iter().filter_map(edge).take(MAX_NAMED) {
                let Some(id) = self.ids.get(*to).map(named) else { continue };
                let _ = match why {
                    Why::After(_) => write!(text, " -> {id}"),
                    Why::Bridge => write!(text, " -> {id} (its bridge)"),
                    Why::Unit => write!(text, " -> {id} (runs it)"),
                    Why::Device => write!(text, " -> {id} (brings its device)"),
                    Why::Container => write!(text, " -> {id} (is made first)"),
                    Why::Clone => write!(text, " -> {id} (is what it is cloned from)"),
                };
            }
            if cycle.len() > MAX_NAMED {
                let _ = write!(text, " -> and {} more", cycle.len() - MAX_NAMED);
            }
            text + ": take one after away"
        };
        at_wait(decoded, wait, |at| faults.add(at, code::CYCLE, message));
    }
}
