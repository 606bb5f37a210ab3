//! Rows as they shall be, beside those that are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    super::schema::Table,
    Refusal, View,
    edit::{local_port, new_port, same_interfaces, write_bridge, write_port},
};
use crate::{
    desired::PortSpec,
    model::{BridgeFacts, Name, PortFacts, StringMap},
    plan::{Action, BridgeOp, OWNER_KEY, PortOp},
};

/// One bridge or port.
#[derive(Debug, Clone)]
pub(super) struct Entry<T> {
    /// As it is.
    pub(super) before: Option<T>,
    /// As it shall be.
    pub(super) now: Option<T>,
    /// What is there goes, even if one of the same name comes.
    pub(super) anew: bool,
    /// The last action that changed it.
    pub(super) action: Option<usize>,
}

impl<T: Clone + PartialEq> Entry<T> {
    fn of(facts: Option<&T>) -> Self {
        Self { before: facts.cloned(), now: facts.cloned(), anew: false, action: None }
    }

    /// The row that is there goes.
    pub(super) fn goes(&self) -> Option<&T> {
        self.before.as_ref().filter(|_| self.anew || self.now.is_none())
    }

    /// A row comes that is not there.
    pub(super) fn comes(&self) -> Option<&T> {
        self.now.as_ref().filter(|_| self.anew || self.before.is_none())
    }

    /// The row stays and changes.
    pub(super) fn changes(&self) -> Option<(&T, &T)> {
        let both = self.before.as_ref().zip(self.now.as_ref());
        both.filter(|(before, now)| !self.anew && before != now)
    }

    fn replace(&mut self, now: Option<T>, action: usize) -> bool {
        if self.now == now {
            return false;
        }
        self.now = now;
        self.action = Some(action);
        true
    }

    fn remove(&mut self, action: usize) -> bool {
        // Whatever comes under that name later in the batch is another row.
        self.anew = self.before.is_some();
        self.replace(None, action)
    }
}

/// All that the actions of one batch touch.
#[derive(Debug, Clone)]
pub(super) struct Draft<'a> {
    view: View<'a>,
    machine_id: &'a str,
    /// Bridges, by name.
    pub(super) bridges: BTreeMap<Name, Entry<BridgeFacts>>,
    /// Ports, by name.
    pub(super) ports: BTreeMap<Name, Entry<PortFacts>>,
    /// Interfaces that come with this batch, and their ports.
    claims: HashMap<String, Name>,
    /// Names are taken whoever has them; see [`Draft::clashes`].
    exchange: bool,
}

impl<'a> Draft<'a> {
    /// A draft in which nothing is changed.
    pub(super) fn new(view: View<'a>, machine_id: &'a str) -> Self {
        Self {
            view,
            machine_id,
            bridges: BTreeMap::new(),
            ports: BTreeMap::new(),
            claims: HashMap::new(),
            exchange: false,
        }
    }

    /// The same draft, in which actions take names that others have: what they then clash over is asked at the end. So
    /// can hold together what cannot come to hold one after the other.
    pub(super) fn exchanging(&self) -> Self {
        Self { exchange: true, ..self.clone() }
    }

    /// The draft for whatever comes next: it takes nobody's names any more.
    pub(super) fn exchanged(self) -> Self {
        Self { exchange: false, ..self }
    }

    /// Whether that action's port, as it shall be, has a name that another port has as well.
    pub(super) fn clashes(&mut self, action: &Action) -> bool {
        let Action::Port(name, _) = action else { return false };
        let Some(facts) = self.port(name).now.clone() else { return false };
        facts.interfaces.iter().any(|own| self.owner(name, &own.name).is_some())
    }

    /// Makes an action hold. `Ok(false)`: it held already.
    pub(super) fn edit(&mut self, at: usize, action: &Action) -> Result<bool, Refusal> {
        match action {
            Action::Bridge(name, op) => self.edit_bridge(at, name, op),
            Action::Port(name, op) => self.edit_port(at, name, op),
            // Other plugins' work never comes here.
            _ => Ok(false),
        }
    }

    fn bridge(&mut self, name: &Name) -> &mut Entry<BridgeFacts> {
        let view = self.view;
        self.bridges.entry(name.clone()).or_insert_with(|| Entry::of(view.mirror.bridge(name)))
    }

    fn port(&mut self, name: &Name) -> &mut Entry<PortFacts> {
        let view = self.view;
        self.ports.entry(name.clone()).or_insert_with(|| Entry::of(view.mirror.port(name)))
    }

    fn mark(&self) -> StringMap {
        StringMap::from([(OWNER_KEY.to_owned(), self.machine_id.to_owned())])
    }

    fn refuse_fake(&mut self, name: &Name) -> Result<(), Refusal> {
        match &self.port(name).now {
            Some(port) if port.fake_bridge => Err(Refusal::FakeBridge(name.clone())),
            _ => Ok(()),
        }
    }

    fn edit_bridge(&mut self, at: usize, name: &Name, op: &BridgeOp) -> Result<bool, Refusal> {
        self.refuse_fake(name)?;
        let there = self.bridge(name).now.clone();
        match (op, there) {
            (BridgeOp::Delete, None) => Ok(false),
            (BridgeOp::Delete, Some(_)) => {
                self.remove_bridge(at, name);
                Ok(true)
            }
            (BridgeOp::Add(spec) | BridgeOp::Set(spec), Some(mut facts)) => {
                write_bridge(spec, &mut facts);
                Ok(self.bridge(name).replace(Some(facts), at))
            }
            (BridgeOp::Set(_), None) => Err(Refusal::Vanished(name.clone())),
            (BridgeOp::Add(spec), None) => {
                if let Some(port) = &self.port(name).now {
                    let by = format!("a port of bridge {}", port.bridge);
                    return Err(Refusal::NameTaken { name: name.clone(), by });
                }
                let local = local_port(name);
                self.claim(name, &local)?;
                let mut facts = BridgeFacts { external_ids: self.mark(), ..BridgeFacts::default() };
                write_bridge(spec, &mut facts);
                self.port(name).replace(Some(local), at);
                Ok(self.bridge(name).replace(Some(facts), at))
            }
        }
    }

    fn remove_bridge(&mut self, at: usize, name: &Name) {
        let known = self.view.mirror.bridge(name).map(|facts| facts.ports.clone()).unwrap_or_default();
        for port in &known {
            self.port(port);
        }
        for port in self.ports.values_mut() {
            if port.now.as_ref().is_some_and(|facts| facts.bridge == *name) {
                port.remove(at);
            }
        }
        self.bridge(name).remove(at);
    }

    fn edit_port(&mut self, at: usize, name: &Name, op: &PortOp) -> Result<bool, Refusal> {
        self.refuse_fake(name)?;
        let there = self.port(name).now.clone();
        match (op, there) {
            (PortOp::Delete, None) => Ok(false),
            (PortOp::Delete, Some(facts)) => {
                refuse_local(name, &facts)?;
                Ok(self.port(name).remove(at))
            }
            (PortOp::Set(_) | PortOp::Move(_), None) => Err(Refusal::Vanished(name.clone())),
            (PortOp::Add(spec) | PortOp::Plug(spec) | PortOp::Recreate(spec) | PortOp::Replug(spec), None) => {
                self.make_port(at, name, spec)
            }
            (
                PortOp::Add(spec)
                | PortOp::Replug(spec)
                | PortOp::Plug(spec)
                | PortOp::Recreate(spec)
                | PortOp::Set(spec)
                | PortOp::Move(spec),
                Some(facts),
            ) => self.change_port(at, name, spec, &facts, matches!(op, PortOp::Recreate(_))),
        }
    }

    fn need_bridge(&mut self, name: &Name) -> Result<(), Refusal> {
        self.refuse_fake(name)?;
        match self.bridge(name).now {
            Some(_) => Ok(()),
            None => Err(Refusal::BridgeMissing(name.clone())),
        }
    }

    fn make_port(&mut self, at: usize, name: &Name, spec: &Arc<PortSpec>) -> Result<bool, Refusal> {
        self.need_bridge(&spec.bridge)?;
        let facts = new_port(name, spec, self.mark());
        self.claim(name, &facts)?;
        Ok(self.port(name).replace(Some(facts), at))
    }

    fn change_port(
        &mut self,
        at: usize,
        name: &Name,
        spec: &Arc<PortSpec>,
        there: &PortFacts,
        may_recreate: bool,
    ) -> Result<bool, Refusal> {
        let mut facts = there.clone();
        if facts.bridge != spec.bridge {
            refuse_local(name, there)?;
            self.need_bridge(&spec.bridge)?;
            facts.bridge = spec.bridge.clone();
        }
        write_port(name, spec, &mut facts);
        if may_recreate && !same_interfaces(&facts, there) {
            refuse_local(name, there)?;
            facts = new_port(name, spec, self.mark());
            self.claim(name, &facts)?;
            self.port(name).remove(at);
        } else {
            self.claim(name, &facts)?;
        }
        Ok(self.port(name).replace(Some(facts), at))
    }

    /// Takes the names of a port's interfaces, unless another port has one.
    fn claim(&mut self, port: &Name, facts: &PortFacts) -> Result<(), Refusal> {
        let checked = if self.exchange { &[] } else { facts.interfaces.as_slice() };
        for interface in checked {
            if let Some(owner) = self.owner(port, &interface.name) {
                let name = Name::from(interface.name.as_str());
                return Err(Refusal::NameTaken { name, by: format!("an interface of port {owner}") });
            }
        }
        for interface in &facts.interfaces {
            // Of two that take it in an exchange, the first keeps it.
            if self.claimant(port, &interface.name).is_none() {
                self.claims.insert(interface.name.clone(), port.clone());
            }
        }
        Ok(())
    }

    /// The port, other than that one, that took that interface in this batch and has it.
    fn claimant(&mut self, port: &Name, interface: &str) -> Option<Name> {
        let claimant = self.claims.get(interface).filter(|other| *other != port).cloned()?;
        self.has(&claimant, interface).then_some(claimant)
    }

    /// The port, other than that one, that has that interface.
    fn owner(&mut self, port: &Name, interface: &str) -> Option<Name> {
        let cache = self.view.cache;
        self.claimant(port, interface).or_else(|| {
            let holder = cache.named(Table::Interface, interface).and_then(|(uuid, _)| cache.holder(uuid));
            let stored = holder.and_then(|uuid| cache.row(Table::Port, uuid)).map(super::super::row::Row::name)?;
            (stored != *port && self.has(&stored, interface)).then_some(stored)
        })
    }

    fn has(&mut self, port: &Name, interface: &str) -> bool {
        let now = self.port(port).now.as_ref();
        now.is_some_and(|facts| facts.interfaces.iter().any(|own| own.name == interface))
    }
}

fn refuse_local(name: &Name, facts: &PortFacts) -> Result<(), Refusal> {
    if facts.bridge == *name { Err(Refusal::LocalPort(name.clone())) } else { Ok(()) }
}
