//! The planner against the simulated twin: what holds for every document and every world.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod any;
mod cases;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;

pub(crate) use self::any::{document, world};
use super::*;
use crate::{
    desired::{Document, Ensure, Want, parse, spell},
    model::{Backend, BackendStatus, Change, ContainerFacts, Name, Observed, StepState, StringMap, Subject},
    plugins::simulated::World,
};

pub(super) const MACHINE: &str = "0123456789abcdef0123456789abcdef";

pub(super) fn inventory() -> Inventory {
    Inventory {
        machine_id: MACHINE.to_owned(),
        protected_units: vec!["own.service".to_owned()],
        protected_calls: Vec::new(),
        container_unit: "pve-container@%.service".to_owned(),
        retry_unmet: false,
        reload_owed: false,
        hand: crate::plan::Hand::default(),
    }
}

/// The world as the core would show it, containers joined the plain way.
pub(crate) fn observe(world: &World) -> Observed {
    let mut observed = Observed::default();
    for plugin in ["systemd", "ovsdb", "lxc", "packagekit"] {
        let connected =
            Backend { status: BackendStatus::Connected, message: String::new(), version: String::new(), reconnects: 0 };
        observed.backends.insert(plugin, connected);
    }
    for change in world.systemd([]).into_iter().chain(world.ovsdb()).chain(world.packagekit()) {
        match change {
            Change::Unit(name, facts) => drop(observed.units.insert(name, Arc::new(facts))),
            Change::Bridge(name, facts) => drop(observed.bridges.insert(name, Arc::new(facts))),
            Change::Package(name, facts) => drop(observed.packages.insert(name, Arc::new(facts))),
            Change::Port(name, facts) => drop(observed.ports.insert(name, Arc::new(facts))),
            _ => {}
        }
    }
    for (unit, facts) in &world.units {
        let Some(id) = unit.strip_prefix("pve-container@").and_then(|rest| rest.strip_suffix(".service")) else {
            continue;
        };
        let port: Name = format!("veth{id}").into();
        let on = observed.ports.get(&port).map(|port| port.bridge.clone());
        if on.is_some() {
            observed.links.port_container.insert(port.clone(), id.into());
        }
        let facts = ContainerFacts {
            unit: unit.to_string(),
            running: facts.active_state == "active",
            active_state: facts.active_state.clone(),
            ports: on.iter().map(|_| port.clone()).collect(),
            bridges: on.into_iter().collect(),
            ..ContainerFacts::default()
        };
        observed.containers.insert(id.into(), Arc::new(facts));
    }
    observed
}

fn plan_for(doc: &Document, world: &World) -> Plan {
    plan(&Desired::new(Arc::new(doc.clone())), &observe(world), &inventory(), None)
}

/// Carries a plan out step by step, as a job would: what waits for a failed step is not begun, but for the one reload.
fn carry_out(plan: &Plan, world: &mut World) -> BTreeMap<StepId, StepState> {
    let mut states: BTreeMap<StepId, StepState> = BTreeMap::new();
    for step in &plan.steps {
        assert!(step.after.iter().all(|earlier| *earlier < step.id), "{step:?} waits for a later step");
        let reload = matches!(step.action, Action::ReloadSystemd);
        let ready = reload || step.after.iter().all(|earlier| states[earlier] == StepState::Done);
        let state = if step.blocked.is_some() || !ready { StepState::Blocked } else { world.apply(step).state };
        states.insert(step.id, state);
    }
    states
}

/// The keys of a map that no entry names.
fn unnamed(ids: &StringMap, named: &BTreeMap<String, Option<String>>) -> StringMap {
    ids.iter()
        .filter(|(key, _)| !named.contains_key(*key) && *key != OWNER_KEY)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(op_dbus_testkit::cases(2000)))]

    /// Applying the plan reaches a fixpoint: soon a plan lists only what is blocked.
    #[test]
    fn applying_the_plan_reaches_a_fixpoint(doc in document(), world in world()) {
        let mut world = world;
        // A hook may re-plug a port while its container starts, so a second round may find more to do; a third not.
        for _ in 0..2 {
            let plan = plan_for(&doc, &world);
            carry_out(&plan, &mut world);
        }
        let left = plan_for(&doc, &world);
        let open: Vec<_> = left.steps.iter().filter(|step| step.blocked.is_none()).collect();
        prop_assert!(open.is_empty(), "left to do: {open:#?}");
        let before = world.clone();
        carry_out(&left, &mut world);
        prop_assert_eq!(before, world);
    }

    /// The same inputs give the same plan; each step waits only for earlier ones, and all that must come before does.
    #[test]
    fn order_respects_what_comes_after(doc in document(), world in world()) {
        let plan = plan_for(&doc, &world);
        prop_assert_eq!(&plan, &plan_for(&doc, &world));
        for (at, step) in plan.steps.iter().enumerate() {
            prop_assert_eq!(usize::try_from(step.id).unwrap(), at + 1);
            prop_assert!(step.after.iter().all(|earlier| *earlier < step.id));
        }
        let cyclic = |step: &Step| step.blocked.as_ref().is_some_and(|(_, text)| text.contains("waits for itself"));
        let acts = |step: &&Arc<Step>| !matches!(step.action, Action::Unit(_, UnitOp::Files { .. } | UnitOp::Stop) | Action::ReloadSystemd) && !cyclic(step);
        for step in plan.steps.iter().filter(acts) {
            let Subject::Resource(id) = &step.subject else { continue };
            for before in doc.common(id).into_iter().flat_map(|common| &common.after) {
                for earlier in plan.steps.iter().filter(acts).filter(|other| other.subject == Subject::Resource(before.clone())) {
                    prop_assert!(earlier.id < step.id, "{} runs before {}", step.subject, earlier.subject);
                }
            }
        }
    }

    /// Nothing that the document does not name is touched.
    #[test]
    fn nothing_else_is_touched(doc in document(), world in world()) {
        let mut after = world.clone();
        let plan = plan_for(&doc, &world);
        carry_out(&plan, &mut after);
        let container_unit = |name: &Name| doc.containers.iter().any(|(id, spec)| spec.running.is_some() && format!("pve-container@{id}.service") == **name);
        for (name, unit) in &world.units {
            let Some(spec) = doc.units.get(name) else {
                if !container_unit(name) {
                    prop_assert_eq!(unit, &after.units[name], "unit {}", name);
                }
                continue;
            };
            if name.starts_with("dbus") {
                prop_assert_eq!(unit, &after.units[name], "the never-touch list");
            }
            if spec.active_state.is_none() && spec.masked != Some(true) && !container_unit(name) {
                prop_assert_eq!(&unit.active_state, &after.units[name].active_state, "activity of {}", name);
            }
            if spec.enabled.is_none() && spec.masked.is_none() {
                prop_assert_eq!(&unit.unit_file_state, &after.units[name].unit_file_state, "unit file of {}", name);
            }
        }
        let hooked: BTreeSet<&Name> = world.hooks.values().map(|(port, _)| port).collect();
        for (name, bridge) in &world.bridges {
            match doc.bridges.get(name) {
                None => {
                    let ours = bridge.external_ids.get(OWNER_KEY).is_some_and(|owner| owner == MACHINE);
                    prop_assert!(after.bridges.contains_key(name) || (doc.prune && ours), "bridge {} is gone", name);
                }
                Some(spec) if spec.ensure == Ensure::Present => {
                    let now = &after.bridges[name];
                    prop_assert_eq!(unnamed(&bridge.external_ids, &spec.external_ids), unnamed(&now.external_ids, &spec.external_ids));
                    if spec.fail_mode == Want::Unmanaged {
                        prop_assert_eq!(&bridge.fail_mode, &now.fail_mode);
                    }
                }
                Some(_) => {}
            }
        }
        for (name, port) in world.ports.iter().filter(|(name, _)| !hooked.contains(name)) {
            let declared = doc.ports.contains_key(name) || doc.containers.values().any(|spec| spec.veth.as_ref() == Some(name));
            let bridge_gone = !after.bridges.contains_key(&port.bridge);
            let exclusive = doc.bridges.get(&port.bridge).is_some_and(|spec| spec.exclusive);
            let pruned = doc.prune && port.external_ids.get(OWNER_KEY).is_some_and(|owner| owner == MACHINE);
            if !declared && !bridge_gone && !exclusive && !pruned {
                prop_assert_eq!(Some(port), after.ports.get(name), "port {}", name);
            }
        }
        if world.ports.contains_key("other0") && !doc.bridges.contains_key("br0") && !doc.bridges.contains_key("br1") && !doc.bridges.contains_key("br2") {
            prop_assert!(after.ports.contains_key("other0"), "a port of somebody else's was removed");
        }
    }

    /// What is exported plans to nothing.
    #[test]
    fn an_export_plans_to_nothing(world in world()) {
        let observed = observe(&world);
        let units = world.units.keys().cloned().collect();
        let doc = export(&observed, &units, &BTreeMap::new(), &[]);
        prop_assert_eq!(parse(&spell(&doc)), Ok(doc.clone()));
        let plan = plan(&Desired::new(Arc::new(doc)), &observed, &inventory(), None);
        prop_assert!(plan.steps.is_empty(), "{:#?}", plan.steps);
    }
}
