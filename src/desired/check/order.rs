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
        // Bridges, containers and ports alone make no cycle.
        return;
    }
    let aliases = aliases(&decoded.document, rules);
    if !decoded.names_lost {
        references(decoded, rules, faults);
    }
    Graph::new(decoded, &aliases).find_cycles(decoded, faults);
}

/// Units that are containers of the document.
fn aliases(document: &Document, rules: &Rules) -> HashMap<ResourceId, ResourceId> {
    let containers = document.containers.keys();
    let pairs = containers.flat_map(|id| {
        let units = rules.units_of(id).filter(|unit| document.units.contains_key(unit));
        units.map(|unit| (ResourceId::unit(unit), ResourceId::container(id.clone())))
    });
    pairs.collect()
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

/// Calls with the place of that element of an `after`.
fn at_wait(decoded: &Decoded, wait: &Wait, call: impl FnOnce(&At<'_>)) {
    at_entry(decoded, wait.who.kind, &wait.who.name, |at| call(&at.key("after").index(wait.index)));
}

/// Names of ports whose device a container with that veth brings: under Proxmox `vethN` is the first network of
/// container N, plugged as `vethNi0` or, behind its firewall, as `fwlnNo0`.
fn devices(veth: &Name) -> [Option<Name>; 3] {
    let number = veth.strip_prefix("veth").filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let plugged = |number| [format!("veth{number}i0").into(), format!("fwln{number}o0").into()];
    let [first, second] = number.map(plugged).map_or([None, None], |names: [Name; 2]| names.map(Some));
    [Some(veth.clone()), first, second]
}

impl<'d> Graph<'d> {
    fn new(decoded: &'d Decoded, aliases: &HashMap<ResourceId, ResourceId>) -> Self {
        let document = &decoded.document;
        let ids: Vec<ResourceId> = document.resources().collect();
        let numbers: HashMap<&ResourceId, usize> = ids.iter().enumerate().map(|(number, id)| (id, number)).collect();
        let number = |id: &ResourceId| numbers.get(aliases.get(id).unwrap_or(id)).copied();
        let mut vertices: Vec<Vertex<'d>> = ids.iter().map(|_| Vertex::default()).collect();
        let mut add = |who: &ResourceId, what: &ResourceId, why: Why<'d>| {
            let (Some(from), Some(to)) = (number(who), number(what)) else { return };
            // A container and its unit are one and cannot wait for each other; only by its own name a resource can
            // say that it waits for itself.
            if (from != to || who == what)
                && let Some(vertex) = vertices.get_mut(from)
            {
                vertex.waits.push((to, why));
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
            if let Some(bridge) = &spec.bridge {
                add(&container, &ResourceId::bridge(bridge.clone()), Why::Bridge);
            }
            for device in spec.veth.iter().flat_map(devices).flatten() {
                if document.ports.get(&device).is_some_and(|port| port.ensure == Ensure::Present) {
                    add(&ResourceId::port(device), &container, Why::Device);
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
            Why::Bridge | Why::Device => None,
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
                    Why::Device => write!(text, " -> {id} (brings its device)"),
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
